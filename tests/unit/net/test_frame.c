#include <stdio.h>
#include <stdlib.h>

#include "net/frame.h"
#include "net/utf8.h"
#include "support.h"

START_TEST(header_both_orders) {
    static const uint8_t little[8] = {5, 0, 0, 0, 2, 1, 0, 0}, big[8] = {0, 0, 0, 5, 1, 2, 0, 0};
    uint8_t out[8];
    rr_frame_encode(out, 5, 0x102, false);
    ck_assert_mem_eq(out, little, 8);
    rr_frame_encode(out, 5, 0x102, true);
    ck_assert_mem_eq(out, big, 8);
    rr_frame_header_t h = rr_frame_decode(little, false);
    ck_assert(h.size == 5 && h.cmd == 0x102 && h.flag == 0);
    h = rr_frame_decode(big, true);
    ck_assert(h.size == 5 && h.cmd == 0x102 && h.flag == 0);
    h = rr_frame_decode((const uint8_t *)"\xff\xff\xff\xff\1\0\2\0", false);
    ck_assert(h.size == UINT32_MAX && h.cmd == 1 && h.flag == 2);
}
END_TEST

static void text(const char *in, size_t line, unsigned cmd) {
    uint16_t got = 7;
    char *copy = malloc(strlen(in) + 1); /* exact size: an overrun is seen */
    memcpy(copy, in, strlen(in));
    ck_assert_msg(rr_frame_text_decode((uint8_t *)copy, strlen(in), &got) == line && got == cmd, "%s: %u", in, got);
    free(copy);
}

START_TEST(text_line) {
    text("cmd:1\nhello", 6, 1);
    text("cmd:65535\n", 10, 65535);
    text("cmd:0\n", 6, 0);
    text("cmd:007\nx", 8, 7);
    text("cmd:65536\nx", 0, 0);
    text("cmd:99999999999999999999\nx", 0, 0);
    text("cmd:\nx", 0, 0);
    text("cmd:1", 0, 0);
    text("cmd:12345", 0, 0);
    text("cmd:1 \n", 0, 0);
    text("cmd:-1\n", 0, 0);
    text("cmd:1\r\n", 0, 0);
    text(" cmd:1\n", 0, 0);
    text("CMD:1\n", 0, 0);
    text("", 0, 0);
    text("cmd", 0, 0);
    text("hello", 0, 0);
    unsigned wrong = 0;
    for (unsigned cmd = 0; cmd <= 65535; cmd++) {
        uint8_t out[RR_FRAME_TEXT_MAX];
        char expected[16];
        size_t n = rr_frame_text_encode(out, (uint16_t)cmd);
        wrong += n != (size_t)snprintf(expected, sizeof expected, "cmd:%u\n", cmd) || memcmp(out, expected, n) != 0;
    }
    ck_assert_uint_eq(wrong, 0);
}
END_TEST

/* The definition, one byte at a time: decodes a code point and asks what RFC 3629 asks. */
static bool slow_valid(const uint8_t *p, size_t n) {
    for (size_t i = 0; i < n;) {
        uint32_t c = p[i], need = c < 0x80 ? 0 : c >> 5 == 6 ? 1 : c >> 4 == 14 ? 2 : c >> 3 == 30 ? 3 : 9;
        if (need == 9 || n - i <= need) {
            return false;
        }
        c &= need == 0 ? 0x7f : 0x3fu >> need;
        for (uint32_t k = 1; k <= need; k++) {
            if (p[i + k] >> 6 != 2) {
                return false;
            }
            c = c << 6 | (p[i + k] & 0x3f);
        }
        static const uint32_t least[] = {0, 0x80, 0x800, 0x10000};
        if (c < least[need] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff)) {
            return false;
        }
        i += need + 1;
    }
    return true;
}

START_TEST(utf8_against_the_definition) {
    uint8_t bytes[4];
    unsigned wrong = 0; /* an assertion per string would take minutes */
    for (uint32_t v = 0; v < 1u << 24; v++) { /* all strings of three bytes, and a fourth that fits or not */
        bytes[0] = (uint8_t)(v >> 16);
        bytes[1] = (uint8_t)(v >> 8);
        bytes[2] = (uint8_t)v;
        bytes[3] = v % 3 ? 0x80 : 'a';
        if (bytes[0] < 0xc0 && bytes[0] != 'a' && bytes[0] != 0x80) {
            continue;
        }
        wrong += rr_utf8_valid(bytes, 3) != slow_valid(bytes, 3);
        wrong += rr_utf8_valid(bytes, 4) != slow_valid(bytes, 4);
    }
    ck_assert_uint_eq(wrong, 0);
}
END_TEST

START_TEST(utf8_at_every_offset) {
    unsigned wrong = 0;
    for (size_t size = 0; size < 100; size++) {
        uint8_t *text = malloc(size + 1);
        memset(text, 'a', size);
        wrong += !rr_utf8_valid(text, size);
        for (size_t at = 0; at < size; at++) {
            text[at] = 0x80;
            wrong += rr_utf8_valid(text, size);
            text[at] = 'a';
            if (at + 2 <= size) {
                memcpy(text + at, "\xc3\xa9", 2);
                wrong += !rr_utf8_valid(text, size);
                wrong += rr_utf8_valid(text, at + 1);
                memset(text + at, 'a', 2);
            }
        }
        free(text);
    }
    ck_assert_uint_eq(wrong, 0);
}
END_TEST

RUN_TESTS("frame", header_both_orders, text_line, utf8_against_the_definition, utf8_at_every_offset)
