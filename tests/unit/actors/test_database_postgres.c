/* PostgreSQL's values both ways, and what a connection remembers of its statements: without a server. */
#include <string.h>

#include "actors/database/postgres_impl.h"
#include "actors/database/sql.h"
#include "tests/unit/check_main.h"

typedef struct put {
    rr_datum_writer_t writer;
    rr_datum_t datum;
} put_t;

static put_t put(Oid type, const char *text) {
    put_t out = {0};
    rr__pg_put(&out.writer, type, text, strlen(text));
    rr_datum_reader_t reader = rr_datum_reader(out.writer.data, out.writer.size);
    ck_assert_int_eq(rr_datum_get(&reader, &out.datum), RR_OK);
    ck_assert_ptr_eq(reader.at, reader.end);
    return out;
}

static void is_text(Oid type, const char *text, rr_datum_kind_t kind, const char *want) {
    put_t got = put(type, text);
    ck_assert_msg(got.datum.kind == kind, "%s is %s", text, rr_datum_kind_name(got.datum.kind));
    ck_assert_uint_eq(got.datum.text.size, strlen(want));
    ck_assert_mem_eq(got.datum.text.data, want, strlen(want));
    rr_datum_drop(&got.writer);
}

static void is_span(const char *text, int64_t us) {
    put_t got = put(1186, text);
    ck_assert_msg(got.datum.kind == RR_DATUM_SPAN && got.datum.number == us, "%s: %lld", text, (long long)got.datum.number);
    rr_datum_drop(&got.writer);
}

static void is_moment(Oid type, const char *text, rr_datum_kind_t kind, rr_moment_t want) {
    put_t got = put(type, text);
    ck_assert_msg(got.datum.kind == kind, "%s is %s", text, rr_datum_kind_name(got.datum.kind));
    rr_moment_t *m = &got.datum.moment;
    ck_assert_msg(m->year == want.year && m->month == want.month && m->day == want.day && m->hour == want.hour &&
                      m->minute == want.minute && m->second == want.second && m->microsecond == want.microsecond &&
                      m->flags == want.flags && m->offset == want.offset,
                  "%s", text);
    rr_datum_drop(&got.writer);
}

/* An array as a line of its items, lists in brackets. */
static void describe(rr_datum_reader_t *reader, char *out, size_t size) {
    rr_datum_t datum;
    ck_assert_int_eq(rr_datum_get(reader, &datum), RR_OK);
    size_t used = strlen(out);
    if (datum.kind == RR_DATUM_LIST) {
        snprintf(out + used, size - used, "[");
        for (uint32_t i = 0; i < datum.count; i++)
            describe(reader, out, size);
        used = strlen(out);
        snprintf(out + used, size - used, "]");
    } else if (datum.kind == RR_DATUM_INT) {
        snprintf(out + used, size - used, "%lld ", (long long)datum.number);
    } else if (datum.kind == RR_DATUM_REAL) {
        snprintf(out + used, size - used, "%g ", datum.real);
    } else if (datum.kind == RR_DATUM_BOOL || datum.kind == RR_DATUM_NULL) {
        snprintf(out + used, size - used, "%s ", datum.kind == RR_DATUM_NULL ? "null" : datum.flag ? "true" : "false");
    } else if (datum.kind == RR_DATUM_DATE) {
        snprintf(out + used, size - used, "%d/%u ", datum.moment.year, datum.moment.month);
    } else {
        snprintf(out + used, size - used, "%s:%.*s ", rr_datum_kind_name(datum.kind), (int)datum.text.size, datum.text.data);
    }
}

static void is_array(Oid type, const char *text, const char *want) {
    rr_datum_writer_t writer = {0};
    char line[1024] = "";
    rr__pg_put(&writer, type, text, strlen(text));
    rr_datum_reader_t reader = rr_datum_reader(writer.data, writer.size);
    describe(&reader, line, sizeof line);
    ck_assert_ptr_eq(reader.at, reader.end);
    ck_assert_str_eq(line, want);
    rr_datum_drop(&writer);
}

START_TEST(arrays) {
    char deep[64], long_item[600];
    is_array(1007, "{1,-2,NULL}", "[1 -2 null ]");
    is_array(1016, "{}", "[]");
    is_array(1016, "{9223372036854775807}", "[9223372036854775807 ]");
    is_array(1005, "{{1,2},{3,4}}", "[[1 2 ][3 4 ]]");
    is_array(1007, "[2:3]={5,6}", "[5 6 ]");
    is_array(1007, "[0:1][-1:0]={{1,2},{3,4}}", "[[1 2 ][3 4 ]]");
    is_array(1000, "{t,f,null}", "[true false null ]");
    is_array(1022, "{0.5,-Infinity}", "[0.5 -inf ]");
    is_array(1231, "{1.50,NaN}", "[decimal:1.50 decimal:NaN ]");
    is_array(1182, "{2024-02-29,infinity}", "[2024/2 text:infinity ]");
    is_array(1009, "{a,\"b, \\\"c\\\\\",\"NULL\",NULL,\"\",\"{x}\"}", "[text:a text:b, \"c\\ text:NULL null text: text:{x} ]");
    is_array(1015, "{\xc3\xa9}", "[text:\xc3\xa9 ]");
    is_array(1001, "{\"\\\\x4142\"}", "[bytes:AB ]");
    is_array(3807, "{\"{\\\"a\\\": [1, 2]}\"}", "[json:{\"a\": [1, 2]} ]");
    is_array(2951, "{00000000-0000-0000-0000-000000000005}", "[uuid:00000000-0000-0000-0000-000000000005 ]");
    is_array(1007, "{{{{{{1}}}}}}", "[[[[[[1 ]]]]]]");
    memset(long_item, 'x', sizeof long_item);
    memcpy(long_item, "{", 1);
    strcpy(long_item + 500, "}");
    rr_datum_writer_t long_one = {0};
    rr__pg_put(&long_one, 1009, long_item, strlen(long_item));
    rr_datum_reader_t reader = rr_datum_reader(long_one.data, long_one.size);
    rr_datum_t datum;
    ck_assert(rr_datum_get(&reader, &datum) == RR_OK && datum.kind == RR_DATUM_LIST && datum.count == 1);
    ck_assert(rr_datum_get(&reader, &datum) == RR_OK && datum.kind == RR_DATUM_TEXT && datum.text.size == 499);
    rr_datum_drop(&long_one);
    /* What is none comes as it is: nothing of it was written. */
    memset(deep, '{', 40);
    memset(deep + 40, '}', 20);
    deep[60] = '\0';
    static const char *const wrong[] = {"", "{", "}", "{1", "{1}}", "{1},", "{\"1}", "{{1}", "{1,", "{1}x", "[1:2]", "[1:2]=", "{{{{{{{1}}}}}}}", "1", "{\\"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        is_text(1009, wrong[i], RR_DATUM_TEXT, wrong[i]);
    is_text(1009, deep, RR_DATUM_TEXT, deep);
    is_text(1041, "{10.0.0.1}", RR_DATUM_TEXT, "{10.0.0.1}"); /* inet[] */
}
END_TEST

START_TEST(numbers_and_texts) {
    put_t big = put(20, "-9223372036854775808");
    ck_assert_int_eq(big.datum.number, INT64_MIN);
    rr_datum_drop(&big.writer);
    put_t real = put(701, "-Infinity");
    ck_assert(real.datum.kind == RR_DATUM_REAL && real.datum.real < -1e308);
    rr_datum_drop(&real.writer);
    put_t flag = put(16, "f");
    ck_assert(flag.datum.kind == RR_DATUM_BOOL && !flag.datum.flag);
    rr_datum_drop(&flag.writer);
    is_text(1700, "12345678901234567890.10", RR_DATUM_DECIMAL, "12345678901234567890.10");
    is_text(3802, "{\"a\": 1}", RR_DATUM_JSON, "{\"a\": 1}");
    is_text(0, "5", RR_DATUM_TEXT, "5");
}
END_TEST

START_TEST(bytes_in_both_forms) {
    put_t hex = put(17, "\\x00ff5c"), old = put(17, "\\000\\377\\\\");
    ck_assert_uint_eq(hex.datum.text.size, 3);
    ck_assert_mem_eq(hex.datum.text.data, "\0\xff\\", 3);
    ck_assert_uint_eq(old.datum.text.size, 3);
    ck_assert_mem_eq(old.datum.text.data, "\0\xff\\", 3);
    rr_datum_drop(&hex.writer);
    rr_datum_drop(&old.writer);
}
END_TEST

START_TEST(moments) {
    is_moment(1082, "2024-02-29", RR_DATUM_DATE, (rr_moment_t){.year = 2024, .month = 2, .day = 29});
    is_moment(1083, "23:59:59.12", RR_DATUM_TIME, (rr_moment_t){.hour = 23, .minute = 59, .second = 59, .microsecond = 120000});
    is_moment(1266, "00:00:00-12:30", RR_DATUM_TIME, (rr_moment_t){.flags = RR_MOMENT_ZONED, .offset = -45000});
    is_moment(1114, "0001-01-01 00:00:00.000001", RR_DATUM_DATETIME, (rr_moment_t){.year = 1, .month = 1, .day = 1, .microsecond = 1});
    is_moment(1184, "9999-12-31 23:59:59.999999+00:00:08", RR_DATUM_DATETIME,
              (rr_moment_t){9999, 12, 31, 23, 59, 59, RR_MOMENT_ZONED, 999999, 8});
    const char *const none[] = {"infinity", "-infinity", "0044-03-15 BC", "10000-01-01", "2024-1-1", "", "2024-02-29 "};
    for (size_t i = 0; i < sizeof none / sizeof *none; i++)
        is_text(1082, none[i], RR_DATUM_TEXT, none[i]);
    is_text(1083, "24:00:00", RR_DATUM_TEXT, "24:00:00");
    is_text(1184, "2024-01-01 00:00:00", RR_DATUM_TEXT, "2024-01-01 00:00:00");
}
END_TEST

START_TEST(spans) {
    const int64_t day = 86400000000ll;
    is_span("00:00:00", 0);
    is_span("-00:00:00.000001", -1);
    is_span("1 day", day);
    is_span("-1 days +23:59:59.5", -day + 86399500000ll);
    is_span("1 year 2 mons -3 days -04:05:06", 365 * day + 60 * day - 3 * day - 14706000000ll);
    is_span("2562047788:00:54.775807", INT64_MAX - 0);
    is_text(1186, "178000000 years", RR_DATUM_TEXT, "178000000 years"); /* more than a span holds */
    is_text(1186, "1 week", RR_DATUM_TEXT, "1 week");
}
END_TEST

/* ---- Parameters ---- */

/* What a job of these values would send. */
static int bind_all(rr__pg_parameters_t *p, rr_datum_writer_t *values, uint32_t count, rr__db_failure_t *why) {
    rr__sql_t sql = {.placeholders = count};
    rr__db_job_t job = {.sql = &sql, .placeholders = count, .parameters = rr_datum_reader(values->data, values->size)};
    return rr__pg_bind(p, &job, job.parameters, count, why);
}

START_TEST(parameters) {
    rr__pg_parameters_t p = {0};
    rr__db_failure_t why;
    rr_datum_writer_t w = {0};
    rr_datum_put_null(&w);
    rr_datum_put_bool(&w, true);
    rr_datum_put_int(&w, INT32_MIN);
    rr_datum_put_int(&w, INT64_MIN);
    rr_datum_put_uint(&w, UINT64_MAX);
    rr_datum_put_real(&w, 0.1);
    rr_datum_put_text(&w, RR_DATUM_TEXT, "a'b", 3);
    rr_datum_put_text(&w, RR_DATUM_BYTES, "a\0b", 3);
    rr_datum_put_span(&w, INT64_MIN);
    rr_datum_put_moment(&w, RR_DATUM_DATETIME, &(rr_moment_t){1, 2, 3, 4, 5, 6, RR_MOMENT_ZONED, 7, -3661});
    ck_assert_int_eq(bind_all(&p, &w, 10, &why), RR_OK);
    const char *const want[] = {NULL, "t", "-2147483648", "-9223372036854775808", "18446744073709551615", NULL, "a'b", NULL,
                                "-106751991 days -04:00:54.775808", "0001-02-03 04:05:06.000007-01:01:01"};
    const Oid types[] = {0, 16, 23, 20, 1700, 701, 0, 17, 1186, 1184};
    for (size_t i = 0; i < 10; i++) {
        ck_assert_msg(p.types[i] == types[i], "%zu: %u", i, p.types[i]);
        if (want[i])
            ck_assert_str_eq(p.values[i], want[i]);
    }
    ck_assert_ptr_null(p.values[0]);
    ck_assert_double_eq(strtod(p.values[5], NULL), 0.1);
    ck_assert(p.formats[7] == 1 && p.sizes[7] == 3 && memcmp(p.values[7], "a\0b", 3) == 0);
    rr_datum_drop(&w);
    rr__pg_parameters_free(&p);
}
END_TEST

START_TEST(parameters_that_cannot_be) {
    rr__pg_parameters_t p = {0};
    rr__db_failure_t why;
    rr_datum_writer_t nul = {0}, list = {0};
    rr_datum_put_text(&nul, RR_DATUM_TEXT, "a\0b", 3);
    ck_assert_int_eq(bind_all(&p, &nul, 1, &why), RR_EINVAL);
    ck_assert_int_eq(why.error, RR_DB_DATA);
    rr_datum_put_list(&list, 0);
    ck_assert_int_eq(bind_all(&p, &list, 1, &why), RR_EINVAL);
    ck_assert_int_eq(why.error, RR_DB_DATA);
    rr__sql_t sql = {.placeholders = 2};
    rr__db_job_t job = {.sql = &sql, .placeholders = 2, .parameters = rr_datum_reader(nul.data, nul.size)};
    ck_assert_int_eq(rr__pg_bind(&p, &job, job.parameters, 1, &why), RR_EINVAL);
    ck_assert_ptr_nonnull(strstr(why.message, "1 values for 2"));
    rr_datum_drop(&nul);
    rr_datum_drop(&list);
    rr__pg_parameters_free(&p);
}
END_TEST

/* ---- Statements ---- */

START_TEST(statements_by_text_and_types) {
    rr__pg_statements_t all = {0};
    Oid int4[] = {23}, int8[] = {20};
    rr__pg_parameters_t small = {.count = 1, .types = int4}, big = {.count = 1, .types = int8};
    rr__db_job_t one = {.text = "SELECT $1", .text_size = 9, .text_hash = 5}, other = {.text = "SELECT $2", .text_size = 9, .text_hash = 5};
    bool seen;
    rr__pg_statement_t *first = rr__pg_statement_use(&all, &one, &small, &seen);
    ck_assert(first && !seen);
    ck_assert_ptr_eq(rr__pg_statement_use(&all, &one, &small, &seen), first);
    ck_assert(seen);
    rr__pg_statement_t *second = rr__pg_statement_use(&all, &one, &big, &seen);
    ck_assert(second && second != first && !seen && strcmp(first->name, second->name) != 0);
    ck_assert_ptr_null(rr__pg_statement_use(&all, &other, &small, &seen)); /* the same hash */
    ck_assert(all.oldest == first && all.newest == second);
    ck_assert_ptr_eq(rr__pg_statement_use(&all, &one, &small, &seen), first);
    ck_assert(all.oldest == second && all.newest == first);
    rr__pg_statement_drop(&all, second);
    ck_assert(all.oldest == first && all.newest == first && all.map.count == 1);
    rr__pg_statements_free(&all);
    ck_assert_ptr_null(all.newest);
}
END_TEST

CHECK_MAIN("database_postgres", arrays, numbers_and_texts, bytes_in_both_forms, moments, spans, parameters, parameters_that_cannot_be,
           statements_by_text_and_types)
