#include <stdlib.h>
#include <string.h>

#include "net/websocket.h"
#include "support.h"

static int decode(const char *bytes, size_t size, rr_ws_head_t *h) {
    uint8_t *copy = malloc(size ? size : 1); /* exact size: an overrun is seen */
    memcpy(copy, bytes, size);
    int rc = rr_ws_head_decode(copy, size, h);
    free(copy);
    return rc;
}

START_TEST(heads) {
    rr_ws_head_t h;
    ck_assert_int_eq(decode("\x81\x85\1\2\3\4", 6, &h), 1);
    ck_assert(h.fin && h.opcode == RR_WS_TEXT && h.size == 5 && h.head_size == 6 && memcmp(h.mask, "\1\2\3\4", 4) == 0);
    ck_assert_int_eq(decode("\x02\xfe\x01\x00\1\2\3\4", 8, &h), 1);
    ck_assert(!h.fin && h.opcode == RR_WS_BINARY && h.size == 256 && h.head_size == 8);
    ck_assert_int_eq(decode("\x80\xff\0\0\0\0\0\x01\0\0\1\2\3\4", 14, &h), 1);
    ck_assert(h.fin && h.opcode == RR_WS_CONTINUATION && h.size == 65536 && h.head_size == 14);
    for (size_t n = 0; n < 14; n++) {
        ck_assert_int_eq(decode("\x80\xff\0\0\0\0\0\x01\0\0\1\2\3\4", n, &h), 0);
    }
}
END_TEST

START_TEST(violations) {
    rr_ws_head_t h;
    static const struct {
        const char *bytes;
        size_t size;
    } bad[] = {{"\x81\x05", 2}, /* unmasked */
               {"\xc1\x85", 2}, {"\xa1\x85", 2}, {"\x91\x85", 2}, {"\x83\x85", 2}, {"\x8b\x85", 2}, {"\x8f\x85", 2},
               {"\x09\x80", 2}, /* fragmented ping */
               {"\x89\xfe", 2}, /* long ping */
               {"\x82\xfe\x00\x7d\0\0\0\0", 8}, {"\x82\xff\0\0\0\0\0\0\xff\xff\0\0\0\0", 14}, /* not the shortest form */
               {"\x82\xff\x80\0\0\0\0\0\0\0\0\0\0\0", 14}, /* the frame that killed an ancestor */
               {"\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0", 14}, {"\xc1", 1}, {"\x83", 1}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ck_assert_msg(decode(bad[i].bytes, bad[i].size, &h) == RR_EPROTO, "case %zu", i);
    }
}
END_TEST

START_TEST(encode_lengths) {
    static const struct {
        uint64_t size;
        size_t head;
        const char *bytes;
    } cases[] = {{0, 2, "\x82\0"}, {125, 2, "\x82\x7d"}, {126, 4, "\x82\x7e\0\x7e"}, {65535, 4, "\x82\x7e\xff\xff"},
                 {65536, 10, "\x82\x7f\0\0\0\0\0\1\0\0"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint8_t out[RR_WS_SERVER_HEAD_MAX];
        ck_assert_uint_eq(rr_ws_head_encode(out, RR_WS_BINARY, cases[i].size), cases[i].head);
        ck_assert_mem_eq(out, cases[i].bytes, cases[i].head);
    }
}
END_TEST

/* A single byte above 0x7f is seen wherever it is. */
START_TEST(unmask_sees_what_is_ascii) {
    const uint8_t mask[4] = {0xb7, 0x7a, 0x21, 0xfd};
    unsigned wrong = 0;
    for (size_t size = 1; size < 70; size++) {
        for (size_t at = 0; at < size; at++) {
            uint8_t *data = malloc(size);
            for (size_t i = 0; i < size; i++) {
                data[i] = (uint8_t)((i == at ? 0x80 : 0x7f) ^ mask[i & 3]);
            }
            wrong += rr_ws_unmask(data, size, mask, 0);
            free(data);
        }
    }
    ck_assert_uint_eq(wrong, 0);
}
END_TEST

START_TEST(unmask_in_pieces) {
    const uint8_t mask[4] = {0x37, 0xfa, 0x21, 0x3d};
    unsigned wrong = 0;
    for (size_t size = 0; size < 70; size++) {
        for (size_t cut = 0; cut <= size; cut++) {
            uint8_t *data = malloc(size + 1);
            for (size_t i = 0; i < size; i++) {
                data[i] = (uint8_t)(i ^ mask[i & 3]);
            }
            wrong += !rr_ws_unmask(data, cut, mask, 0);
            wrong += !rr_ws_unmask(data + cut, size - cut, mask, cut);
            for (size_t i = 0; i < size; i++) {
                wrong += data[i] != i;
            }
            free(data);
        }
    }
    ck_assert_uint_eq(wrong, 0);
}
END_TEST

START_TEST(close_payloads) {
    uint16_t code;
    ck_assert(rr_ws_close_decode((const uint8_t *)"", 0, &code) == RR_OK && code == 1005);
    ck_assert(rr_ws_close_decode((const uint8_t *)"\x03\xe8", 2, &code) == RR_OK && code == 1000);
    ck_assert(rr_ws_close_decode((const uint8_t *)"\x0f\xa3kicked", 8, &code) == RR_OK && code == 4003);
    ck_assert_int_eq(rr_ws_close_decode((const uint8_t *)"\x03", 1, &code), RR_EPROTO);
    ck_assert_int_eq(rr_ws_close_decode((const uint8_t *)"\x03\xe8\xff", 3, &code), RR_EENCODING);
    static const unsigned illegal[] = {0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535};
    for (size_t i = 0; i < sizeof illegal / sizeof illegal[0]; i++) {
        uint8_t payload[2] = {(uint8_t)(illegal[i] >> 8), (uint8_t)illegal[i]};
        ck_assert_int_eq(rr_ws_close_decode(payload, 2, &code), RR_EPROTO);
    }
}
END_TEST

START_TEST(accept_key) {
    char out[RR_WS_ACCEPT_SIZE];
    ck_assert_int_eq(rr_ws_accept("dGhlIHNhbXBsZSBub25jZQ==", out), RR_OK);
    ck_assert_str_eq(out, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    static const char *const bad[] = {"", "x", "dGhlIHNhbXBsZSBub25jZQ=", "dGhlIHNhbXBsZSBub25jZQ==x",
                                      "dGhlIHNhbXBsZSBub25jZQA=", "dGhlIHNhbXBsZSBub25j!Q=="};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ck_assert_int_eq(rr_ws_accept(bad[i], out), RR_EINVAL);
    }
}
END_TEST

RUN_TESTS("websocket", heads, violations, encode_lengths, unmask_in_pieces, unmask_sees_what_is_ascii, close_payloads, accept_key)
