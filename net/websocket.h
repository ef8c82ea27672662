/* websocket.h: the frames of RFC 6455, the server's side, and the handshake's arithmetic. Pure; any thread.
 *
 * Why not wslay, which the house would prefer: its frame context holds a 4 KiB buffer per connection (4,264 bytes
 * measured, our whole budget for an idle client is 1 KiB), pulls bytes through a callback into it (a copy of every byte) and
 * hands large frames out in pieces. Measured on 64-byte masked frames: 36 ns each for wslay_frame_recv, 10 ns for the
 * functions here, which work in place. */
#ifndef RR_NET_WEBSOCKET_H
#define RR_NET_WEBSOCKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/error.h"

typedef enum rr_ws_opcode {
    RR_WS_CONTINUATION = 0,
    RR_WS_TEXT = 1,
    RR_WS_BINARY = 2,
    RR_WS_CLOSE = 8,
    RR_WS_PING = 9,
    RR_WS_PONG = 10,
} rr_ws_opcode_t;

#define RR_WS_HEAD_MAX 14u      /* a client's: 2 + 8 + 4 */
#define RR_WS_SERVER_HEAD_MAX 10u
#define RR_WS_CONTROL_MAX 125u

typedef struct rr_ws_head {
    uint64_t size; /* of the payload */
    uint8_t mask[4];
    uint8_t head_size;
    uint8_t opcode;
    bool fin;
} rr_ws_head_t;

/* Reads a client's frame head. 1 = read; 0 = more bytes are needed; RR_EPROTO = not allowed (unmasked, reserved bits or
 * opcodes, a control frame that is fragmented or above 125 bytes, a length not in its shortest form or above 2^63). */
RR_MUST_CHECK int rr_ws_head_decode(const uint8_t *in, size_t size, rr_ws_head_t *out);

/* Writes a server's (unmasked, final) frame head; returns its length. */
size_t rr_ws_head_encode(uint8_t out[RR_WS_SERVER_HEAD_MAX], rr_ws_opcode_t opcode, uint64_t size);

/* Unmasks in place; phase = how many bytes of the frame came before. Is all of it ASCII? */
bool rr_ws_unmask(uint8_t *data, size_t size, const uint8_t mask[4], uint64_t phase);

/* The code of a close frame's payload: 1005 if empty. RR_EPROTO for one byte or a code that may not be sent;
 * RR_EENCODING if the reason text is not UTF-8. */
RR_MUST_CHECK int rr_ws_close_decode(const uint8_t *payload, size_t size, uint16_t *code);

/* Sec-WebSocket-Accept of a Sec-WebSocket-Key: 28 characters and a NUL. RR_EINVAL: the key is not 16 bytes in base64.
 * RR_EIO: no SHA-1 to be had. */
#define RR_WS_ACCEPT_SIZE 29u
RR_MUST_CHECK int rr_ws_accept(const char *key, char out[RR_WS_ACCEPT_SIZE]);

#endif
