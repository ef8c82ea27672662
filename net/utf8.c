#include "net/utf8.h"

#include <string.h>

#define HIGH_BITS RR_UTF8_HIGH_BITS

static uint64_t load64(const uint8_t *p) {
    uint64_t v;
    memcpy(&v, p, 8);
    return v;
}

/* Chat and JSON are mostly ASCII: skips it 32 bytes at a time; fewer than eight are left or the next eight are not all of it. */
static const uint8_t *skip_blocks(const uint8_t *p, const uint8_t *end) {
    while (end - p >= 32 && !((load64(p) | load64(p + 8) | load64(p + 16) | load64(p + 24)) & HIGH_BITS)) {
        p += 32;
    }
    while (end - p >= 8 && !(load64(p) & HIGH_BITS)) {
        p += 8;
    }
    return p;
}

/* `start` is where the text begins: the last bytes are looked at together with those before them. */
static const uint8_t *skip_ascii(const uint8_t *p, const uint8_t *start, const uint8_t *end) {
    p = skip_blocks(p, end);
    if (end - p < 8 && end - start >= 8 && !(load64(end - 8) & HIGH_BITS)) {
        return end;
    }
    while (p < end && *p < 0x80) {
        p++;
    }
    return p;
}

static bool tail(uint8_t byte) {
    return (byte & 0xc0) == 0x80;
}

/* The length of the well-formed sequence at p (its first byte is >= 0x80), 0 if there is none. The second byte's range is
 * what excludes overlong forms, surrogates and too large code points (table 3-7 of the Unicode standard). */
static size_t sequence(const uint8_t *p, size_t left) {
    uint8_t lead = p[0];
    if (lead >= 0xc2 && lead <= 0xdf) {
        return left >= 2 && tail(p[1]) ? 2 : 0;
    }
    if ((lead & 0xf0) == 0xe0) {
        uint8_t low = lead == 0xe0 ? 0xa0 : 0x80, high = lead == 0xed ? 0x9f : 0xbf;
        return left >= 3 && p[1] >= low && p[1] <= high && tail(p[2]) ? 3 : 0;
    }
    if (lead >= 0xf0 && lead <= 0xf4) {
        uint8_t low = lead == 0xf0 ? 0x90 : 0x80, high = lead == 0xf4 ? 0x8f : 0xbf;
        return left >= 4 && p[1] >= low && p[1] <= high && tail(p[2]) && tail(p[3]) ? 4 : 0;
    }
    return 0;
}

/* From p on, where the first byte that may be no ASCII is. Apart, so that its registers are not saved for what is all ASCII. */
static __attribute__((noinline)) bool valid_from(const uint8_t *p, const uint8_t *data, const uint8_t *end) {
    while ((p = skip_ascii(p, data, end)) < end) {
        while (p < end && *p >= 0x80) { /* stay here through runs of non-ASCII */
            size_t n = sequence(p, (size_t)(end - p));
            if (n == 0) {
                return false;
            }
            p += n;
        }
    }
    return true;
}

bool rr_utf8_valid(const uint8_t *data, size_t size) {
    const uint8_t *end = data + size, *p = skip_blocks(data, end);
    if (end - p < 8 && size >= 8 && !(load64(end - 8) & HIGH_BITS)) {
        return true;
    }
    return valid_from(p, data, end);
}
