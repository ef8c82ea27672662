/* Records, batches, outlets, ids, service requests, and the hash tables. */
#include <stdio.h>
#include <stdlib.h>

#include "actors/map.h"
#include "actors/outlet.h"
#include "tests/unit/check_main.h"

START_TEST(batch_round_trip) {
    rr_batch_t batch = {0};
    for (uint32_t i = 0; i < 100; i++) {
        uint8_t *body = rr_batch_add(&batch, RR_REC_MESSAGE, (uint16_t)i, i * 3, i * 7ull + 1, i * 5, i);
        ck_assert_ptr_nonnull(body);
        memset(body, (int)i, i);
    }
    rr_buffer_t *buffer = rr_batch_take(&batch, 42, 0);
    ck_assert_ptr_nonnull(buffer);
    ck_assert_uint_eq(batch.size, 0);
    rr_batch_reader_t reader;
    rr_record_t record;
    ck_assert_int_eq(rr_batch_open(&reader, rr_buffer_data(buffer), rr_buffer_size(buffer)), RR_OK);
    ck_assert_uint_eq(reader.sent_ns, 42);
    for (uint32_t i = 0; i < 100; i++) {
        ck_assert_int_eq(rr_batch_next(&reader, &record), RR_OK);
        ck_assert_uint_eq(record.kind, RR_REC_MESSAGE);
        ck_assert_uint_eq(record.cmd, i);
        ck_assert_uint_eq(record.slot, i * 3);
        ck_assert_uint_eq(record.arg, i * 5);
        ck_assert_uint_eq(record.incarnation, i * 7ull + 1);
        ck_assert_uint_eq(record.size, i);
        ck_assert(!record.follows);
        for (uint32_t b = 0; b < i; b++)
            ck_assert_uint_eq(record.body[b], i);
    }
    ck_assert_int_eq(rr_batch_next(&reader, &record), RR_ENOENT);
    rr_buffer_unref(buffer);
    rr_batch_free(&batch);
}
END_TEST

static void fill(rr_batch_t *batch, unsigned records) {
    for (unsigned i = 0; i < records; i++)
        memset(rr_batch_add(batch, RR_REC_SEND, (uint16_t)i, i, 3, 4, 64), (int)i, 64);
}

static void check_filled(rr_buffer_t *buffer, unsigned records) {
    rr_batch_reader_t reader;
    rr_record_t record;
    ck_assert_int_eq(rr_batch_open(&reader, rr_buffer_data(buffer), rr_buffer_size(buffer)), RR_OK);
    for (unsigned i = 0; i < records; i++) {
        ck_assert_int_eq(rr_batch_next(&reader, &record), RR_OK);
        ck_assert(record.slot == i && record.size == 64 && record.body[0] == i && record.body[63] == i);
    }
    ck_assert_int_eq(rr_batch_next(&reader, &record), RR_ENOENT);
    rr_buffer_unref(buffer);
}

START_TEST(large_batches_leave_without_a_copy) {
    rr_batch_t batch = {0};
    fill(&batch, 100);
    size_t capacity = batch.capacity;
    const uint8_t *data = batch.data;
    rr_buffer_t *large = rr_batch_take(&batch, 0, 1u << 20);
    ck_assert_ptr_eq(rr_buffer_data(large), data);
    ck_assert_ptr_null(batch.buffer);
    fill(&batch, 2); /* little in a large buffer: copied, and the buffer stays */
    ck_assert_uint_eq(batch.capacity, capacity);
    data = batch.data;
    rr_buffer_t *small = rr_batch_take(&batch, 0, 1u << 20);
    ck_assert_ptr_ne(rr_buffer_data(small), data);
    fill(&batch, 2);
    ck_assert_ptr_eq(batch.data, data);
    rr_buffer_t *second = rr_batch_take(&batch, 0, 0); /* keeps nothing */
    ck_assert_ptr_null(batch.buffer);
    ck_assert_uint_eq(batch.capacity, 0);
    check_filled(large, 100);
    check_filled(small, 2);
    check_filled(second, 2);
    rr_batch_free(&batch);
}
END_TEST

/* Whatever is cut off or changed, nothing is read outside (ASan looks). */
START_TEST(batches_from_outside_are_checked) {
    rr_batch_t batch = {0};
    for (int i = 0; i < 3; i++)
        memcpy(rr_batch_add(&batch, RR_REC_SEND, 1, 2, 3, 4, 13), "hello, world!", 13);
    rr_buffer_t *whole = rr_batch_take(&batch, 0, 0);
    size_t size = rr_buffer_size(whole);
    unsigned sound = 0;
    for (size_t cut = 0; cut < size; cut++) {
        for (unsigned change = 0; change < 16; change++) {
            uint8_t *copy = malloc(cut ? cut : 1);
            memcpy(copy, rr_buffer_data(whole), cut);
            if (change && cut > change * 3)
                copy[change * 3] ^= 0x81;
            rr_batch_reader_t reader;
            rr_record_t record;
            int rc = rr_batch_open(&reader, copy, cut);
            uint32_t sum = 0;
            while (rc == RR_OK && (rc = rr_batch_next(&reader, &record)) == RR_OK)
                for (uint32_t b = 0; b < record.size; b++)
                    sum += record.body[b];
            sound += rc == RR_ENOENT;
            ck_assert(rc == RR_ENOENT || rc == RR_EPROTO);
            free(copy);
        }
    }
    ck_assert_uint_lt(sound, 16); /* a cut batch is not whole, unless its count was changed to fit */
    rr_buffer_unref(whole);
    rr_batch_free(&batch);
}
END_TEST

START_TEST(outlet_cuts_and_sends_large_bodies_alone) {
    rr_outlet_t outlet;
    rr_outlet_init(&outlet, RR_TYPE_INPUT);
    ck_assert(rr_outlet_empty(&outlet));
    uint8_t *large = malloc(100000);
    memset(large, 7, 100000);
    ck_assert_int_eq(rr_outlet_put(&outlet, RR_REC_SEND, 1, 1, 1, 0, NULL, 0, "a", 1, NULL), RR_OK);
    ck_assert_int_eq(rr_outlet_put(&outlet, RR_REC_SEND, 2, 1, 1, 0, "head", 4, large, 100000, NULL), RR_OK);
    ck_assert_int_eq(rr_outlet_put(&outlet, RR_REC_SEND, 3, 1, 1, 0, NULL, 0, "b", 1, NULL), RR_OK);
    rr_batch_reader_t reader;
    rr_record_t record;
    const rr__segment_t *s = rr_outlet_peek(&outlet, 1);
    ck_assert_uint_eq(s->type, RR_TYPE_INPUT);
    ck_assert_uint_eq(s->weight, 2);
    ck_assert_int_eq(rr_batch_open(&reader, rr_buffer_data(s->buffer), rr_buffer_size(s->buffer)), RR_OK);
    ck_assert_int_eq(rr_batch_next(&reader, &record), RR_OK);
    ck_assert(!record.follows);
    ck_assert_int_eq(rr_batch_next(&reader, &record), RR_OK);
    ck_assert(record.follows);
    ck_assert_uint_eq(record.cmd, 2);
    ck_assert_uint_eq(record.size, 4);
    ck_assert_mem_eq(record.body, "head", 4);
    rr_outlet_pop(&outlet);
    s = rr_outlet_peek(&outlet, 1);
    ck_assert_uint_eq(s->type, RR_TYPE_INPUT_BODY);
    ck_assert_uint_eq(rr_buffer_size(s->buffer), 100000);
    rr_outlet_pop(&outlet);
    s = rr_outlet_peek(&outlet, 1);
    ck_assert_uint_eq(s->weight, 1);
    rr_outlet_pop(&outlet);
    ck_assert(rr_outlet_empty(&outlet));
    ck_assert_uint_eq(outlet.bytes, 0);
    ck_assert_ptr_null(rr_outlet_peek(&outlet, 1));
    for (int i = 0; i < 10000; i++) /* more than one message may hold */
        ck_assert_ptr_nonnull(rr_outlet_add(&outlet, RR_REC_SEND, 1, 1, 1, 0, 0));
    unsigned records = 0;
    for (; (s = rr_outlet_peek(&outlet, 1)); rr_outlet_pop(&outlet)) {
        ck_assert_uint_le(s->weight, RR_OUTLET_RECORDS);
        ck_assert_uint_le(rr_buffer_size(s->buffer), RR_OUTLET_CUT + 64);
        records += s->weight;
    }
    ck_assert_uint_eq(records, 10000);
    rr_outlet_free(&outlet);
    free(large);
}
END_TEST

START_TEST(bodies_are_shared_when_that_pays) {
    rr_outlet_t outlet;
    rr_outlet_init(&outlet, RR_TYPE_OUTPUT);
    rr_buffer_t *body = rr_buffer_new(50000);
    memset(rr_buffer_data(body), 1, 50000);
    ck_assert_int_eq(rr_outlet_put(&outlet, RR_REC_SEND, 1, 1, 1, 0, NULL, 0, rr_buffer_data(body), 50000, body),
                     RR_OK);
    ck_assert_int_eq(rr_outlet_put(&outlet, RR_REC_SEND, 1, 1, 1, 0, NULL, 0, rr_buffer_data(body) + 10, 40000, body),
                     RR_OK);
    rr_outlet_pop((rr_outlet_peek(&outlet, 1), &outlet));
    ck_assert_uint_eq(rr_outlet_peek(&outlet, 1)->type, RR_TYPE_OUTPUT_BODY);
    ck_assert_ptr_eq(rr_outlet_peek(&outlet, 1)->buffer, body);
    rr_outlet_pop(&outlet);
    rr_outlet_pop(&outlet);
    ck_assert_ptr_eq(rr_buffer_data(rr_outlet_peek(&outlet, 1)->buffer), rr_buffer_data(body) + 10);
    rr_buffer_unref(body);
    rr_outlet_free(&outlet);
}
END_TEST

START_TEST(session_ids) {
    uint8_t bytes[RR_SID_MAX];
    rr_sid_t five = {.number = 5}, text_five = {.text = "5", .size = 1}, out;
    ck_assert(!rr_sid_equal(&five, &text_five));
    ck_assert_uint_ne(rr_sid_hash(&five), rr_sid_hash(&text_five));
    ck_assert_int_eq(rr_sid_decode(bytes, rr_sid_encode(&five, bytes), &out), RR_OK);
    ck_assert(rr_sid_equal(&five, &out));
    ck_assert_int_eq(rr_sid_decode(bytes, rr_sid_encode(&text_five, bytes), &out), RR_OK);
    ck_assert(rr_sid_equal(&text_five, &out));
    ck_assert_int_eq(rr_sid_decode("", 0, &out), RR_EPROTO);
    ck_assert_int_eq(rr_sid_decode("s", 1, &out), RR_EPROTO);
    ck_assert_int_eq(rr_sid_decode("i\0\0\0\0\0\0\0\0", 9, &out), RR_EPROTO); /* 0 is no id */
    ck_assert_int_eq(rr_sid_decode("x12", 3, &out), RR_EPROTO);
    static const struct {
        const char *text;
        int64_t number;
    } cases[] = {{"1", 1},
                 {"-7", -7},
                 {"9223372036854775807", INT64_MAX},
                 {"-9223372036854775808", INT64_MIN},
                 {"9223372036854775808", 0},
                 {"0", 0},
                 {"", 0},
                 {"-", 0},
                 {"1x", 0},
                 {"99999999999999999999999", 0}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        rr_sid_t id = {.text = cases[i].text, .size = (uint32_t)strlen(cases[i].text)};
        rr_sid_to_int(&id);
        ck_assert_int_eq(id.number, cases[i].number);
        ck_assert_int_eq(id.text == NULL, cases[i].number != 0);
    }
    char shown[16];
    rr_sid_t odd = {.text = "a'\n\\0123456789", .size = 14};
    ck_assert_str_eq(rr_sid_show(&odd, shown, sizeof(shown)), "'a\\x27\\x0a'");
}
END_TEST

START_TEST(service_requests) {
    rr_service_request_t request;
    rr_buffer_t *buffer = rr_service_encode("scene@0", "greet", "body", 4);
    ck_assert_int_eq(rr_service_decode(rr_buffer_data(buffer), rr_buffer_size(buffer), &request), RR_OK);
    ck_assert_str_eq(request.from, "scene@0");
    ck_assert_str_eq(request.method, "greet");
    ck_assert_uint_eq(request.size, 4);
    ck_assert_mem_eq(request.body, "body", 4);
    for (size_t cut = 0; cut < rr_buffer_size(buffer) - 4; cut++)
        ck_assert_int_eq(rr_service_decode(rr_buffer_data(buffer), cut, &request), RR_EPROTO);
    rr_buffer_unref(buffer);
    buffer = rr_service_encode("a", "b", NULL, 0); /* None is not an empty body */
    ck_assert_int_eq(rr_service_decode(rr_buffer_data(buffer), rr_buffer_size(buffer), &request), RR_OK);
    ck_assert_ptr_null(request.body);
    rr_buffer_unref(buffer);
    const void *body;
    size_t size;
    buffer = rr_answer_encode("", 0);
    ck_assert_int_eq(rr_answer_decode(rr_buffer_data(buffer), rr_buffer_size(buffer), &body, &size), RR_OK);
    ck_assert_ptr_nonnull(body);
    rr_buffer_unref(buffer);
    buffer = rr_answer_encode(NULL, 0);
    ck_assert_int_eq(rr_answer_decode(rr_buffer_data(buffer), rr_buffer_size(buffer), &body, &size), RR_OK);
    ck_assert_ptr_null(body);
    rr_buffer_unref(buffer);
    ck_assert_int_eq(rr_answer_decode("", 0, &body, &size), RR_EPROTO);
    ck_assert_int_eq(rr_answer_decode("\2", 1, &body, &size), RR_EPROTO);
}
END_TEST

START_TEST(map_against_an_array) {
    static void *model[1000];
    rr_map_t map = {0};
    uint64_t random = 12345;
    uint32_t count = 0;
    for (int i = 0; i < 20000; i++) {
        random = random * 6364136223846793005ull + 1442695040888963407ull;
        uint64_t key = (random >> 40) % 999 + 1;
        if (random >> 63) {
            count += model[key] == NULL;
            model[key] = (void *)(uintptr_t)(i + 1);
            ck_assert(rr_map_put(&map, key, model[key]));
        } else {
            ck_assert_ptr_eq(rr_map_take(&map, key), model[key]);
            count -= model[key] != NULL;
            model[key] = NULL;
        }
        ck_assert_ptr_eq(rr_map_get(&map, key), model[key]);
        ck_assert_uint_eq(map.count, count);
    }
    for (uint64_t key = 1; key < 1000; key++)
        ck_assert_ptr_eq(rr_map_get(&map, key), model[key]);
    for (uint64_t key; rr_map_any(&map, &key); count--)
        ck_assert_ptr_eq(rr_map_take(&map, key), model[key]);
    ck_assert_uint_eq(count, 0);
    rr_map_free(&map);
}
END_TEST

static bool same(const void *item, const void *key) {
    return item == key;
}

START_TEST(set_against_an_array) {
    static bool model[1000];
    static int items[1000];
    rr_set_t set = {0};
    uint64_t random = 99;
    for (int i = 0; i < 20000; i++) {
        random = random * 6364136223846793005ull + 1442695040888963407ull;
        size_t n = (random >> 40) % 1000;
        uint64_t hash = n % 7 == 0 ? 5 : n * 0x9e3779b97f4a7c15ull >> 16; /* some collide */
        if (!model[n])
            ck_assert(rr_set_add(&set, hash, &items[n]));
        else
            ck_assert(rr_set_remove(&set, hash, &items[n]));
        model[n] = !model[n];
        ck_assert_ptr_eq(rr_set_find(&set, hash, same, &items[n]), model[n] ? &items[n] : NULL);
    }
    for (size_t n = 0; n < 1000; n++) {
        uint64_t hash = n % 7 == 0 ? 5 : n * 0x9e3779b97f4a7c15ull >> 16;
        ck_assert_ptr_eq(rr_set_find(&set, hash, same, &items[n]), model[n] ? &items[n] : NULL);
        ck_assert_int_eq(rr_set_remove(&set, hash, &items[n]), model[n]);
    }
    ck_assert_uint_eq(set.count, 0);
    rr_set_free(&set);
}
END_TEST

CHECK_MAIN("protocol", batch_round_trip, large_batches_leave_without_a_copy, batches_from_outside_are_checked, outlet_cuts_and_sends_large_bodies_alone,
           bodies_are_shared_when_that_pays, session_ids, service_requests, map_against_an_array, set_against_an_array)
