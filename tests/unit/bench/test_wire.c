/* The generator's own framing, against the bytes of net/PROTOCOL.md. */
#include <stdlib.h>
#include <string.h>

#include "bench/wire.h"
#include "tests/unit/check_main.h"

static void check_put(wire_kind_t kind, uint16_t cmd, const char *body, uint32_t mask, const void *bytes, size_t size) {
    uint8_t out[128];
    ck_assert_uint_eq(wire_put(kind, out, cmd, body, strlen(body), mask), size);
    ck_assert_mem_eq(out, bytes, size);
}

START_TEST(test_bytes_of_the_protocol) {
    check_put(WIRE_TCP, 1, "hello", 0, "\x05\0\0\0\x01\0\0\0hello", 13);
    check_put(WIRE_TCP_BIG, 1, "hello", 0, "\0\0\0\x05\0\x01\0\0hello", 13);
    check_put(WIRE_TCP, 258, "", 0, "\0\0\0\0\x02\x01\0\0", 8);
    check_put(WIRE_WS_TEXT, 1, "hello", 0, "\x81\x0b" "cmd:1\nhello", 13);
    check_put(WIRE_WS_TEXT, 1, "hello", 0x3d21fa37, "\x81\x8b\x37\xfa\x21\x3d\x54\x97\x45\x07\x06\xf0\x49\x58\x5b\x96\x4e", 17);
    check_put(WIRE_WS_BINARY, 1, "hello", 0x3d21fa37,
              "\x82\x8d\x37\xfa\x21\x3d\x32\xfa\x21\x3d\x36\xfa\x21\x3d\x5f\x9f\x4d\x51\x58", 19);
}
END_TEST

static void round_trip(wire_kind_t kind, uint16_t cmd, size_t size, uint32_t mask) {
    uint8_t *body = malloc(size + 1), *bytes = malloc(size + WIRE_OVERHEAD);
    ck_assert(body != NULL && bytes != NULL);
    for (size_t i = 0; i < size; i++)
        body[i] = (uint8_t)('a' + i % 23);
    size_t length = wire_put(kind, bytes, cmd, body, size, mask);
    wire_message_t m;
    wire_kind_t seen = kind;
    ck_assert_int_eq(wire_take(&seen, bytes, length - 1, &m), 0); /* not whole: nothing is changed */
    ck_assert_int_eq(wire_take(&seen, bytes, length, &m), (long)length);
    ck_assert_int_eq(seen, kind);
    ck_assert_uint_eq(m.cmd, cmd);
    ck_assert_uint_eq(m.size, size);
    ck_assert_mem_eq(m.body, body, size);
    free(body);
    free(bytes);
}

START_TEST(test_round_trips) {
    static const size_t sizes[] = {1, 9, 110, 117, 118, 119, 126, 65500, 65528, 70000};
    for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int kind = WIRE_TCP; kind <= WIRE_WS_BINARY; kind++) {
            round_trip((wire_kind_t)kind, 65535, sizes[i], 0);
            if (wire_is_ws((wire_kind_t)kind))
                round_trip((wire_kind_t)kind, 7, sizes[i], 0x01020304);
        }
}
END_TEST

START_TEST(test_malformed) {
    uint8_t huge[16] = {0xff, 0xff, 0xff, 0xff}, fragment[] = {0x01, 0x00}, disagrees[] = {0x82, 0x08, 9, 0, 0, 0, 1, 0, 0, 0};
    wire_message_t m;
    wire_kind_t tcp = WIRE_TCP, ws = WIRE_WS_TEXT;
    ck_assert_int_eq(wire_take(&tcp, huge, sizeof huge, &m), -1);
    ck_assert_int_eq(wire_take(&ws, fragment, sizeof fragment, &m), -1);
    ck_assert_int_eq(wire_take(&ws, disagrees, sizeof disagrees, &m), -1);
}
END_TEST

START_TEST(test_accept_key) {
    char accept[29];
    wire_accept_key("dGhlIHNhbXBsZSBub25jZQ==", 24, accept);
    ck_assert_str_eq(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
}
END_TEST

CHECK_MAIN("wire", test_bytes_of_the_protocol, test_round_trips, test_malformed, test_accept_key)
