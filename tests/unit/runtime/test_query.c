/* Requests to databases and answers: what is encoded is decoded, and anything else is refused. */
#include <string.h>

#include "runtime/query.h"
#include "tests/unit/check_main.h"

static rr_buffer_t *parameters_of(int count) {
    rr_datum_writer_t writer = {0};
    rr_datum_put_list(&writer, (uint32_t)count);
    for (int i = 0; i < count; i++)
        rr_datum_put_int(&writer, i);
    return rr_datum_finish(&writer);
}

START_TEST(a_request) {
    rr_buffer_t *parameters = parameters_of(3);
    rr_query_t query = {.op = RR_DB_QUERY, .id = UINT64_MAX, .transaction = 1ull << 63, .stream = 7, .timeout_ms = UINT32_MAX,
                        .flags = RR_QUERY_NAMED | RR_QUERY_SERIALIZABLE, .key = "k", .key_size = 1, .text = "SELECT 1",
                        .text_size = 8, .parameters = rr_buffer_data(parameters), .parameters_size = rr_buffer_size(parameters)};
    rr_query_t out;
    rr_buffer_t *bytes = rr_query_encode(&query);
    ck_assert_int_eq(rr_query_decode(rr_buffer_data(bytes), rr_buffer_size(bytes), &out), RR_OK);
    ck_assert_int_eq(out.op, RR_DB_QUERY);
    ck_assert_uint_eq(out.id, query.id);
    ck_assert_uint_eq(out.transaction, query.transaction);
    ck_assert_uint_eq(out.stream, 7);
    ck_assert_uint_eq(out.timeout_ms, UINT32_MAX);
    ck_assert_uint_eq(out.flags, query.flags);
    ck_assert_mem_eq(out.key, "k", 1);
    ck_assert_uint_eq(out.text_size, 8);
    ck_assert_mem_eq(out.text, "SELECT 1", 8);
    ck_assert_uint_eq(out.parameters_size, query.parameters_size);
    ck_assert_mem_eq(out.parameters, query.parameters, query.parameters_size);
    rr_buffer_unref(bytes);
    rr_buffer_unref(parameters);
}
END_TEST

START_TEST(a_request_without_anything) {
    rr_query_t query = {.op = RR_DB_DESCRIBE}, out;
    rr_buffer_t *bytes = rr_query_encode(&query);
    ck_assert_int_eq(rr_query_decode(rr_buffer_data(bytes), rr_buffer_size(bytes), &out), RR_OK);
    ck_assert_ptr_null(out.key);
    ck_assert_ptr_null(out.text);
    ck_assert_ptr_null(out.parameters);
    rr_buffer_unref(bytes);
}
END_TEST

static void refused(rr_datum_writer_t *writer) {
    rr_query_t out;
    ck_assert_int_eq(rr_query_decode(writer->data, writer->size, &out), RR_EPROTO);
    rr_datum_drop(writer);
}

START_TEST(wrong_requests) {
    rr_query_t query = {.op = RR_DB_QUERY}, out;
    rr_datum_writer_t writer = {0};
    rr_query_begin(&writer, &query);
    rr_datum_put_int(&writer, 1); /* parameters that are no list */
    refused(&writer);
    rr_query_begin(&writer, &query);
    rr_datum_put_list(&writer, 1); /* an item is missing */
    refused(&writer);
    rr_query_begin(&writer, &query);
    rr_datum_put_null(&writer);
    rr_datum_put_null(&writer); /* something behind it */
    refused(&writer);
    query.op = RR_DB_OPS;
    rr_query_begin(&writer, &query);
    rr_datum_put_null(&writer);
    refused(&writer);
    query.op = 0;
    rr_query_begin(&writer, &query);
    rr_datum_put_null(&writer);
    refused(&writer);
    ck_assert_int_eq(rr_query_decode("", 0, &out), RR_EPROTO);
}
END_TEST

/* Every prefix is refused. */
START_TEST(cut_short) {
    rr_buffer_t *parameters = parameters_of(2);
    rr_query_t query = {.op = RR_DB_QUERY, .text = "SELECT ?", .text_size = 8, .parameters = rr_buffer_data(parameters),
                        .parameters_size = rr_buffer_size(parameters)}, out;
    rr_buffer_t *bytes = rr_query_encode(&query);
    for (size_t size = 0; size < rr_buffer_size(bytes); size++) {
        uint8_t *copy = malloc(size ? size : 1);
        memcpy(copy, rr_buffer_data(bytes), size);
        ck_assert_int_eq(rr_query_decode(copy, size, &out), RR_EPROTO);
        free(copy);
    }
    rr_buffer_unref(bytes);
    rr_buffer_unref(parameters);
}
END_TEST

START_TEST(an_answer) {
    rr_datum_writer_t writer = {0};
    rr_db_answer_t out;
    int64_t last = -5, number;
    const char *text;
    size_t size;
    uint32_t count;
    rr_db_answer_begin(&writer, 0, -1, NULL, 0);
    rr_datum_put_list(&writer, 1);
    rr_datum_put_text(&writer, RR_DATUM_TEXT, "id", 2);
    rr_datum_put_list(&writer, 1);
    rr_datum_put_int(&writer, 42);
    ck_assert_int_eq(rr_db_answer_decode(writer.data, writer.size, &out), RR_OK);
    ck_assert(!out.has_last_id);
    ck_assert_int_eq(out.affected, -1);
    rr_db_answer_head(&writer, 9, 1, &last, RR_ANSWER_MORE); /* known at the end only */
    ck_assert_int_eq(rr_db_answer_decode(writer.data, writer.size, &out), RR_OK);
    ck_assert_int_eq(out.error, RR_DB_OK);
    ck_assert_uint_eq(out.id, 9);
    ck_assert_int_eq(out.affected, 1);
    ck_assert(out.has_last_id);
    ck_assert_int_eq(out.last_id, -5);
    ck_assert(out.flags & RR_ANSWER_MORE);
    ck_assert_uint_eq(out.column_count, 1);
    ck_assert_int_eq(rr_datum_get_text(&out.columns, &text, &size), RR_OK);
    ck_assert_mem_eq(text, "id", 2);
    ck_assert_int_eq(rr_datum_get_text(&out.columns, &text, &size), RR_ENOENT);
    ck_assert_int_eq(rr_datum_get_list(&out.rows, &count), RR_OK);
    ck_assert_int_eq(rr_datum_get_int(&out.rows, &number), RR_OK);
    ck_assert_int_eq(number, 42);
    ck_assert_int_eq(rr_datum_get_int(&out.rows, &number), RR_ENOENT);
    rr_datum_drop(&writer);
}
END_TEST

static rr_db_answer_t error_with(const char *sql, rr_buffer_t **bytes) {
    rr_db_answer_t out;
    *bytes = rr_db_answer_error(RR_DB_DEADLOCK, RR_EXECUTED_MAYBE, 1213, "40001", "Deadlock found", sql, sql ? strlen(sql) : 0);
    ck_assert_int_eq(rr_db_answer_decode(rr_buffer_data(*bytes), rr_buffer_size(*bytes), &out), RR_OK);
    return out;
}

START_TEST(an_error) {
    rr_buffer_t *bytes;
    rr_db_answer_t out = error_with("\n  SELECT 1\nFROM x", &bytes);
    ck_assert_int_eq(out.error, RR_DB_DEADLOCK);
    ck_assert_int_eq(out.executed, RR_EXECUTED_MAYBE);
    ck_assert_int_eq(out.number, 1213);
    ck_assert_mem_eq(out.state, "40001", 5);
    ck_assert_mem_eq(out.message, "Deadlock found", out.message_size);
    ck_assert_uint_eq(out.sql_size, 8); /* its first line that is not empty */
    ck_assert_mem_eq(out.sql, "SELECT 1", 8);
    rr_buffer_unref(bytes);
    out = error_with(NULL, &bytes);
    ck_assert_uint_eq(out.sql_size, 0);
    rr_buffer_unref(bytes);
}
END_TEST

START_TEST(a_long_statement_is_cut_between_characters) {
    char sql[300];
    rr_buffer_t *bytes;
    memset(sql, 'x', sizeof sql);
    memcpy(sql + 199, "\xc3\xa9", 2); /* one character across the limit */
    sql[299] = 0;
    rr_db_answer_t out = error_with(sql, &bytes);
    ck_assert_uint_eq(out.sql_size, 199);
    rr_buffer_unref(bytes);
}
END_TEST

START_TEST(names_of_errors) {
    ck_assert_str_eq(rr_db_error_name(RR_DB_OK), "ok");
    ck_assert_str_eq(rr_db_error_name(RR_DB_SERVER), "server");
    ck_assert_str_eq(rr_db_error_name(99), "unknown");
    ck_assert_str_eq(rr_db_error_name(-1), "unknown");
}
END_TEST

CHECK_MAIN("query", a_request, a_request_without_anything, wrong_requests, cut_short, an_answer, an_error,
           a_long_statement_is_cut_between_characters, names_of_errors)
