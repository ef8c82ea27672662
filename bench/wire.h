/* wire.h: the client wire protocol (net/PROTOCOL.md), both ends, written for benchmarks: no state, no allocation.
 * Independent of net/ on purpose: a fault there must not be mirrored in what checks it. */
#ifndef RR_BENCH_WIRE_H
#define RR_BENCH_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum wire_kind { WIRE_TCP, WIRE_TCP_BIG, WIRE_WS_TEXT, WIRE_WS_BINARY } wire_kind_t;

static inline bool wire_is_ws(wire_kind_t kind) { return kind >= WIRE_WS_TEXT; }

typedef enum wire_type { WIRE_DATA, WIRE_PING, WIRE_PONG, WIRE_CLOSE } wire_type_t;

typedef struct wire_message {
    wire_type_t type;
    uint16_t cmd;
    const uint8_t *body; /* into the parsed bytes */
    size_t size;
} wire_message_t;

/* The most bytes that framing adds to a body. */
#define WIRE_OVERHEAD 32

/* Writes one message at out (room: size + WIRE_OVERHEAD); returns its length. mask: 0 = server to client (unmasked). */
size_t wire_put(wire_kind_t kind, uint8_t *out, uint16_t cmd, const void *body, size_t size, uint32_t mask);

/* A WebSocket control frame, type PING, PONG or CLOSE; size <= 125. */
size_t wire_put_control(uint8_t *out, wire_type_t type, const void *body, size_t size, uint32_t mask);

/* Takes one message off data (masked frames are unmasked in place). Returns bytes used, 0 = more is needed, -1 = not
 * this protocol. *kind may change between WS_TEXT and WS_BINARY to the frame's. */
long wire_take(wire_kind_t *kind, uint8_t *data, size_t size, wire_message_t *out);

/* The upgrade: a request (returns its length), and the key's answer (29 bytes with NUL). */
size_t wire_upgrade_request(char *out, size_t capacity, const char *host, const char *path);
void wire_accept_key(const char *key, size_t key_size, char out[29]);
#define WIRE_KEY "cnItYmVuY2ggcnItYmVuYw==" /* 16 constant bytes: a benchmark needs no secret */

#endif
