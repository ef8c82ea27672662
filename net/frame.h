/* frame.h: how one message (cmd, body) looks on the wire (spec.md section 4): the 8-byte header in both byte orders, and
 * the first line of a WebSocket text. Pure; any thread. */
#ifndef RR_NET_FRAME_H
#define RR_NET_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define RR_FRAME_HEADER 8u
#define RR_FRAME_TEXT_MAX 10u /* "cmd:65535\n" */

typedef struct rr_frame_header {
    uint32_t size; /* of the body */
    uint16_t cmd;
    uint16_t flag;
} rr_frame_header_t;

static inline rr_frame_header_t rr_frame_decode(const uint8_t in[RR_FRAME_HEADER], bool big_endian) {
    rr_frame_header_t h;
    memcpy(&h.size, in, 4);
    memcpy(&h.cmd, in + 4, 2);
    memcpy(&h.flag, in + 6, 2);
    if (big_endian != (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__)) {
        h.size = __builtin_bswap32(h.size);
        h.cmd = __builtin_bswap16(h.cmd);
        h.flag = __builtin_bswap16(h.flag);
    }
    return h;
}

static inline void rr_frame_encode(uint8_t out[RR_FRAME_HEADER], uint32_t size, uint16_t cmd, bool big_endian) {
    uint16_t flag = 0;
    if (big_endian != (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__)) {
        size = __builtin_bswap32(size);
        cmd = __builtin_bswap16(cmd);
    }
    memcpy(out, &size, 4);
    memcpy(out + 4, &cmd, 2);
    memcpy(out + 6, &flag, 2);
}

/* Reads "cmd:<decimal>\n" at the start of a text. Returns its length, or 0 if the text does not begin with exactly that
 * (then *cmd = 0 and the whole text is the body). At most ten digits; above 65535 is no number. */
size_t rr_frame_text_decode(const uint8_t *text, size_t size, uint16_t *cmd);

/* Writes "cmd:<number>\n"; returns its length. */
size_t rr_frame_text_encode(uint8_t out[RR_FRAME_TEXT_MAX], uint16_t cmd);

#endif
