/* Typed values as bytes: what is written is read, whatever else the bytes are is refused, limits and out of memory. */
#include <string.h>

#include "runtime/alloc.h"
#include "runtime/datum.h"
#include "tests/unit/check_main.h"

static const rr_moment_t moment = {2024, 2, 29, 23, 59, 58, RR_MOMENT_ZONED, 999999, -19800};

static void put_one_of_each(rr_datum_writer_t *writer) {
    rr_datum_put_null(writer);
    rr_datum_put_bool(writer, true);
    rr_datum_put_int(writer, INT64_MIN);
    rr_datum_put_uint(writer, UINT64_MAX);
    rr_datum_put_real(writer, -0.5);
    rr_datum_put_text(writer, RR_DATUM_TEXT, "text", 4);
    rr_datum_put_text(writer, RR_DATUM_BYTES, "\0\xff", 2);
    rr_datum_put_text(writer, RR_DATUM_DECIMAL, "12.50", 5);
    rr_datum_put_text(writer, RR_DATUM_JSON, "{}", 2);
    rr_datum_put_text(writer, RR_DATUM_UUID, "6ba7b810-9dad-11d1-80b4-00c04fd430c8", 36);
    rr_datum_put_moment(writer, RR_DATUM_DATE, &moment);
    rr_datum_put_moment(writer, RR_DATUM_TIME, &(rr_moment_t){.hour = 1});
    rr_datum_put_moment(writer, RR_DATUM_DATETIME, &moment);
    rr_datum_put_span(writer, -1);
    rr_datum_put_list(writer, 2);
    rr_datum_put_int(writer, 1);
    rr_datum_put_list(writer, 0);
    rr_datum_put_text(writer, RR_DATUM_ERROR, "ERR", 3);
}

static rr_buffer_t *one_of_each(void) {
    rr_datum_writer_t writer = {0};
    put_one_of_each(&writer);
    rr_buffer_t *buffer = rr_datum_finish(&writer);
    ck_assert_ptr_nonnull(buffer);
    ck_assert_ptr_null(writer.data);
    return buffer;
}

static rr_datum_reader_t reader_of(rr_buffer_t *buffer) { return rr_datum_reader(rr_buffer_data(buffer), rr_buffer_size(buffer)); }

static rr_datum_t next(rr_datum_reader_t *reader, rr_datum_kind_t kind) {
    rr_datum_t datum;
    ck_assert_int_eq(rr_datum_get(reader, &datum), RR_OK);
    ck_assert_str_eq(rr_datum_kind_name(datum.kind), rr_datum_kind_name(kind));
    return datum;
}

static void next_text(rr_datum_reader_t *reader, rr_datum_kind_t kind, const char *data, size_t size) {
    rr_datum_t datum = next(reader, kind);
    ck_assert_uint_eq(datum.text.size, size);
    ck_assert_mem_eq(datum.text.data, data, size);
}

static void next_moment(rr_datum_reader_t *reader, rr_datum_kind_t kind, const rr_moment_t *expected) {
    rr_moment_t m = next(reader, kind).moment;
    ck_assert(m.year == expected->year && m.month == expected->month && m.day == expected->day && m.hour == expected->hour &&
              m.minute == expected->minute && m.second == expected->second && m.flags == expected->flags &&
              m.microsecond == expected->microsecond && m.offset == expected->offset);
}

START_TEST(what_is_written_is_read) {
    rr_buffer_t *buffer = one_of_each();
    rr_datum_reader_t reader = reader_of(buffer);
    rr_datum_t datum;
    next(&reader, RR_DATUM_NULL);
    ck_assert(next(&reader, RR_DATUM_BOOL).flag);
    ck_assert_int_eq(next(&reader, RR_DATUM_INT).number, INT64_MIN);
    ck_assert_uint_eq(next(&reader, RR_DATUM_UINT).big, UINT64_MAX);
    ck_assert(next(&reader, RR_DATUM_REAL).real == -0.5);
    next_text(&reader, RR_DATUM_TEXT, "text", 4);
    next_text(&reader, RR_DATUM_BYTES, "\0\xff", 2);
    next_text(&reader, RR_DATUM_DECIMAL, "12.50", 5);
    next_text(&reader, RR_DATUM_JSON, "{}", 2);
    next_text(&reader, RR_DATUM_UUID, "6ba7b810-9dad-11d1-80b4-00c04fd430c8", 36);
    next_moment(&reader, RR_DATUM_DATE, &moment);
    next_moment(&reader, RR_DATUM_TIME, &(rr_moment_t){.hour = 1});
    next_moment(&reader, RR_DATUM_DATETIME, &moment);
    ck_assert_int_eq(next(&reader, RR_DATUM_SPAN).number, -1);
    ck_assert_uint_eq(next(&reader, RR_DATUM_LIST).count, 2);
    ck_assert_int_eq(next(&reader, RR_DATUM_INT).number, 1);
    ck_assert_uint_eq(next(&reader, RR_DATUM_LIST).count, 0);
    next_text(&reader, RR_DATUM_ERROR, "ERR", 3);
    ck_assert_int_eq(rr_datum_get(&reader, &datum), RR_ENOENT);
    rr_buffer_unref(buffer);
}
END_TEST

/* A datum that was read and is written again gives the same bytes. */
START_TEST(written_again_it_is_the_same) {
    rr_buffer_t *buffer = one_of_each();
    rr_datum_reader_t reader = reader_of(buffer);
    rr_datum_writer_t writer = {0};
    rr_datum_t datum;
    while (rr_datum_get(&reader, &datum) == RR_OK)
        rr_datum_put(&writer, &datum);
    rr_buffer_t *again = rr_datum_finish(&writer);
    ck_assert_uint_eq(rr_buffer_size(again), rr_buffer_size(buffer));
    ck_assert_mem_eq(rr_buffer_data(again), rr_buffer_data(buffer), rr_buffer_size(buffer));
    rr_buffer_unref(again);
    rr_buffer_unref(buffer);
}
END_TEST

/* Every prefix of good bytes ends in the end or in EPROTO, and nothing is consumed then. */
START_TEST(cut_short) {
    rr_buffer_t *buffer = one_of_each();
    for (size_t size = 0; size < rr_buffer_size(buffer); size++) {
        uint8_t *copy = malloc(size ? size : 1); /* exactly as large as it says */
        rr_datum_t datum;
        memcpy(copy, rr_buffer_data(buffer), size);
        rr_datum_reader_t reader = rr_datum_reader(copy, size);
        int rc;
        while ((rc = rr_datum_get(&reader, &datum)) == RR_OK) {
        }
        ck_assert(rc == RR_EPROTO || (rc == RR_ENOENT && reader.at == reader.end));
        const uint8_t *at = reader.at;
        ck_assert(rc == RR_ENOENT || rr_datum_skip(&reader) == RR_EPROTO);
        ck_assert_ptr_eq(reader.at, at);
        free(copy);
    }
    rr_buffer_unref(buffer);
}
END_TEST

static void refused(const void *bytes, size_t size) {
    rr_datum_reader_t reader = rr_datum_reader(bytes, size);
    rr_datum_t datum;
    ck_assert_int_eq(rr_datum_get(&reader, &datum), RR_EPROTO);
    ck_assert_ptr_eq(reader.at, bytes);
    ck_assert_int_eq(rr_datum_skip(&reader), RR_EPROTO);
    ck_assert_ptr_eq(reader.at, bytes);
}

static void refused_moment(rr_datum_kind_t kind, rr_moment_t wrong) {
    rr_datum_writer_t writer = {0};
    rr_datum_put_moment(&writer, kind, &wrong);
    refused(writer.data, writer.size);
    rr_datum_drop(&writer);
}

START_TEST(what_is_no_datum_is_refused) {
    refused("\x10", 1);                              /* no such kind */
    refused("\xff", 1);
    refused("\x01\x02", 2);                          /* a bool is 0 or 1 */
    refused("\x03\1\0\0\0\0\0\0\0", 9);              /* an UINT that is an INT */
    refused("\x05\x05\0\0\0text", 9);                /* longer than what is there */
    refused("\x05\xff\xff\xff\xfftext", 9);
    refused("\x0e\x02\0\0\0\0", 6);                  /* more items than bytes */
    refused_moment(RR_DATUM_DATE, (rr_moment_t){.year = 0, .month = 1, .day = 1});
    refused_moment(RR_DATUM_DATE, (rr_moment_t){.year = 10000, .month = 1, .day = 1});
    refused_moment(RR_DATUM_DATE, (rr_moment_t){.year = 2000, .month = 13, .day = 1});
    refused_moment(RR_DATUM_DATETIME, (rr_moment_t){.year = 2000, .month = 1, .day = 32});
    refused_moment(RR_DATUM_TIME, (rr_moment_t){.hour = 24});
    refused_moment(RR_DATUM_TIME, (rr_moment_t){.minute = 60});
    refused_moment(RR_DATUM_TIME, (rr_moment_t){.microsecond = 1000000});
    refused_moment(RR_DATUM_TIME, (rr_moment_t){.offset = 86400});
}
END_TEST

static rr_buffer_t *nested(unsigned depth) {
    rr_datum_writer_t writer = {0};
    for (unsigned i = 0; i < depth; i++)
        rr_datum_put_list(&writer, 1);
    rr_datum_put_null(&writer);
    return rr_datum_finish(&writer);
}

START_TEST(skipping) {
    rr_datum_reader_t reader;
    rr_buffer_t *buffer = one_of_each();
    reader = reader_of(buffer);
    int count = 0;
    while (rr_datum_skip(&reader) == RR_OK)
        count++;
    ck_assert_int_eq(count, 16); /* the list counts once */
    ck_assert_int_eq(rr_datum_skip(&reader), RR_ENOENT);
    rr_buffer_unref(buffer);
    buffer = nested(32);
    reader = reader_of(buffer);
    ck_assert_int_eq(rr_datum_skip(&reader), RR_OK);
    ck_assert_ptr_eq(reader.at, reader.end);
    rr_buffer_unref(buffer);
    buffer = nested(33);
    reader = reader_of(buffer);
    ck_assert_int_eq(rr_datum_skip(&reader), RR_EPROTO);
    rr_buffer_unref(buffer);
}
END_TEST

START_TEST(what_must_be_of_a_kind) {
    rr_datum_writer_t writer = {0};
    int64_t number;
    const char *text;
    size_t size;
    uint32_t count;
    rr_datum_put_bool(&writer, true);
    rr_datum_put_null(&writer);
    rr_datum_put_text(&writer, RR_DATUM_JSON, "[]", 2);
    rr_datum_put_list(&writer, 0);
    rr_datum_reader_t reader = rr_datum_reader(writer.data, writer.size);
    ck_assert_int_eq(rr_datum_get_text(&reader, &text, &size), RR_EPROTO);
    ck_assert_int_eq(rr_datum_get_int(&reader, &number), RR_OK);
    ck_assert_int_eq(number, 1);
    ck_assert_int_eq(rr_datum_get_int(&reader, &number), RR_EPROTO);
    ck_assert_int_eq(rr_datum_get_text(&reader, &text, &size), RR_OK);
    ck_assert_ptr_null(text);
    ck_assert_int_eq(rr_datum_get_list(&reader, &count), RR_EPROTO);
    ck_assert_int_eq(rr_datum_get_text(&reader, &text, &size), RR_OK);
    ck_assert_uint_eq(size, 2);
    ck_assert_int_eq(rr_datum_get_list(&reader, &count), RR_OK);
    ck_assert_int_eq(rr_datum_get_list(&reader, &count), RR_ENOENT);
    rr_datum_drop(&writer);
}
END_TEST

START_TEST(lists_whose_count_comes_last) {
    rr_datum_writer_t writer = {0};
    uint32_t count;
    size_t mark = rr_datum_list_begin(&writer);
    for (int i = 0; i < 1000; i++) /* beyond the first capacity: the bytes move meanwhile */
        rr_datum_put_int(&writer, i);
    rr_datum_list_end(&writer, mark, 1000);
    rr_buffer_t *buffer = rr_datum_finish(&writer);
    rr_datum_reader_t reader = reader_of(buffer);
    ck_assert_int_eq(rr_datum_get_list(&reader, &count), RR_OK);
    ck_assert_uint_eq(count, 1000);
    for (int i = 0; i < 1000; i++)
        ck_assert_int_eq(next(&reader, RR_DATUM_INT).number, i);
    rr_buffer_unref(buffer);
}
END_TEST

START_TEST(above_the_limit) {
    rr_datum_writer_t writer = {.limit = 100};
    for (int i = 0; i < 11; i++)
        rr_datum_put_int(&writer, i);
    ck_assert_int_eq(writer.status, RR_OK);
    ck_assert_ptr_null(rr_datum_put_room(&writer, RR_DATUM_TEXT, 97)); /* 1 byte is left */
    ck_assert_int_eq(writer.status, RR_ETOOBIG);
    rr_datum_put_null(&writer); /* it would fit, but the first failure stays */
    ck_assert_uint_eq(writer.size, 99);
    ck_assert_ptr_null(rr_datum_finish(&writer));
    ck_assert_int_eq(writer.status, RR_ETOOBIG);
    ck_assert_ptr_null(writer.data);
}
END_TEST

START_TEST(nothing_written) {
    rr_datum_writer_t writer = {0};
    rr_buffer_t *buffer = rr_datum_finish(&writer);
    ck_assert_uint_eq(rr_buffer_size(buffer), 0);
    rr_buffer_unref(buffer);
}
END_TEST

#ifndef NDEBUG
START_TEST(out_of_memory) {
    int64_t before = rr__alloc_live();
    for (uint64_t n = 1;; n++) {
        rr_datum_writer_t writer = {0};
        rr__alloc_fail_at(n);
        put_one_of_each(&writer);
        rr_buffer_t *buffer = rr_datum_finish(&writer);
        bool failed = rr__alloc_failed();
        ck_assert(failed == !buffer);
        ck_assert_int_eq(writer.status, failed ? RR_ENOMEM : RR_OK);
        rr_buffer_unref(buffer);
        ck_assert_int_eq(rr__alloc_live(), before);
        if (!failed)
            break;
    }
    rr__alloc_fail_at(0);
}
END_TEST
#define OUT_OF_MEMORY , out_of_memory
#else
#define OUT_OF_MEMORY
#endif

CHECK_MAIN("datum", what_is_written_is_read, written_again_it_is_the_same, cut_short, what_is_no_datum_is_refused, skipping,
           what_must_be_of_a_kind, lists_whose_count_comes_last, above_the_limit, nothing_written OUT_OF_MEMORY)
