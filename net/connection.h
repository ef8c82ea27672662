/* connection.h: one client. Finds out what it speaks from its first bytes (spec.md section 4) and turns its bytes into
 * (cmd, body) messages and back: 8-byte frames, WebSocket (upgraded over HTTP), policy request, plain HTTP requests.
 *
 * All functions: loop thread only, unless said otherwise. */
#ifndef RR_NET_CONNECTION_H
#define RR_NET_CONNECTION_H

#include "net/http.h"
#include "net/stream.h"

typedef struct rr_connection rr_connection_t;

/* One enum for every end of a session: metric label, log text, WebSocket code (spec.md section 5.6). */
/* X(name, WebSocket code, label) */
#define RR_CLOSE_REASONS(X)                                                                                            \
    X(RR_CLOSE_NORMAL, 1000, "normal")        /* the script closed it, or an orderly end */                            \
    X(RR_CLOSE_PEER, 1000, "peer")            /* the client left */                                                    \
    X(RR_CLOSE_DRAIN, 1001, "drain")                                                                                   \
    X(RR_CLOSE_PROTOCOL, 1002, "protocol")                                                                             \
    X(RR_CLOSE_ENCODING, 1007, "encoding")                                                                             \
    X(RR_CLOSE_TOO_BIG, 1009, "too_big")                                                                               \
    X(RR_CLOSE_REPLACED, 4001, "replaced")                                                                             \
    X(RR_CLOSE_REFUSED, 4002, "refused")                                                                               \
    X(RR_CLOSE_KICKED, 4003, "kicked")                                                                                 \
    X(RR_CLOSE_IDLE, 4004, "idle")                                                                                     \
    X(RR_CLOSE_LOGIN_TIMEOUT, 4005, "login_timeout")                                                                   \
    X(RR_CLOSE_RATE, 4006, "rate")                                                                                     \
    X(RR_CLOSE_QUEUE, 4007, "queue")                                                                                   \
    X(RR_CLOSE_SLOW_READER, 4008, "slow_reader")                                                                       \
    X(RR_CLOSE_SCENE_GONE, 4009, "scene_gone")                                                                         \
    X(RR_CLOSE_LIMIT, 1013, "limit")          /* too many connections, of one address or at all */                     \
    X(RR_CLOSE_STALLED, 1002, "stalled")      /* a frame or request that was begun and not finished in time */         \
    X(RR_CLOSE_IO, 1006, "io")                /* the connection broke */

typedef enum rr_close_reason {
#define RR_CLOSE_ENUM(name, code, label) name,
    RR_CLOSE_REASONS(RR_CLOSE_ENUM)
#undef RR_CLOSE_ENUM
    RR_CLOSE_REASON_COUNT
} rr_close_reason_t;
const char *rr_close_label(rr_close_reason_t reason); /* any thread */
unsigned rr_close_code(rr_close_reason_t reason);     /* any thread */

typedef enum rr_wire { /* what the client's latest frame was: decides what it is sent */
    RR_WIRE_UNKNOWN = 0,
    RR_WIRE_TCP,
    RR_WIRE_WS_TEXT,
    RR_WIRE_WS_BINARY,
} rr_wire_t;

typedef struct rr_connection_options {
    size_t max_packet;    /* body bytes; default 1,000,000; below 512 MiB, so that words like "GET " are no sizes */
    size_t send_limit;    /* output bytes; default 4 MiB, never below max_packet + 64 KiB */
    bool big_endian;      /* the 8-byte header in network order */
    bool tcp, websocket;  /* what this listener speaks; HTTP goes with websocket */
    unsigned handshake_ms; /* the first whole message or HTTP request must arrive within; default 10,000; 0 = no limit */
    unsigned partial_ms;   /* a begun frame must be complete within (slow loris), a kept-alive HTTP client must ask again
                              within; default 30,000; 0 = no limit */
    size_t http_body;      /* bytes of an HTTP request's body; default 1 MiB, above it 413 */
    const rr_http_handler_t *http; /* answers plain HTTP requests; NULL = 404 */
    const char *const *subprotocols; /* NULL-terminated; the first that the client offers is chosen; NULL = none */
} rr_connection_options_t;
void rr_connection_options_init(rr_connection_options_t *options);

typedef struct rr_connection_handler {
    /* A whole message. body is valid during the call only, unless owner != NULL, whose reference may then be taken
     * (large bodies: no copy). The handler may close or pause inside. */
    void (*message)(void *context, rr_connection_t *connection, uint16_t cmd, uint16_t flag, const uint8_t *body,
                    size_t size, rr_buffer_t *owner);
    /* Before the messages of a read, or of what a pause kept back, are taken: false = not now, it is paused (by this
     * call, with rr_connection_pause) and everything is kept. At most once per read; may be NULL. */
    bool (*input)(void *context, rr_connection_t *connection);
    /* Any bytes at all arrived (heartbeat); may be NULL. Called at most once per read. */
    void (*alive)(void *context, rr_connection_t *connection);
    /* The end, exactly once, never inside another function of this header. Then the connection is gone. A connection
     * that never became a session (HTTP, policy, scanners) ends here too. */
    void (*closed)(void *context, rr_connection_t *connection, rr_close_reason_t reason);
} rr_connection_handler_t;

/* Takes over fd. options and handler must outlive the connection. RR_ENOMEM, RR_EIO (fd is closed). */
RR_MUST_CHECK int rr_connection_open(rr_loop_t *loop, int fd, const rr_connection_options_t *options,
                                     const rr_connection_handler_t *handler, void *context, rr_connection_t **out);

/* Sends one message in the form that the client last used (before any: the form its protocol starts with). `utf8` = the
 * caller knows that body is valid UTF-8; else it is checked where it matters, and goes as binary if it is not. RR_ELIMIT:
 * the client reads too slowly; the caller closes with RR_CLOSE_SLOW_READER. RR_ESTATE: closing. RR_ETOOBIG: above
 * max_packet, which holds both ways; nothing is sent and the connection is fine. */
RR_MUST_CHECK int rr_connection_send(rr_connection_t *connection, uint16_t cmd, const void *body, size_t size, bool utf8);

/* A message for many: encoded once per wire form when first needed, bodies above 1 KiB sent without a copy. */
typedef struct rr_shared_message rr_shared_message_t;
/* Copies nothing, takes a reference to body. NULL when out of memory. */
rr_shared_message_t *rr_shared_message_new(uint16_t cmd, rr_buffer_t *body, const uint8_t *data, size_t size, bool utf8);
void rr_shared_message_free(rr_shared_message_t *message);
RR_MUST_CHECK int rr_connection_send_shared(rr_connection_t *connection, rr_shared_message_t *message);

/* A row of small messages for many, which each client gets at once and in order: encoded once per wire form, then one copy or
 * reference a client for all of them. Loop thread only. */
typedef struct rr_shared_row rr_shared_row_t;
/* An empty one, to be used again and again. NULL when out of memory. */
rr_shared_row_t *rr_shared_row_new(void);
void rr_shared_row_free(rr_shared_row_t *row); /* NULL is allowed */
/* data must stay until the row is cleared. False, and nothing has changed: it is full, or the message (above 1 KiB) goes better
 * by itself: an empty row takes every smaller one. Not between a send and the next clear. */
bool rr_shared_row_add(rr_shared_row_t *row, uint16_t cmd, const uint8_t *data, size_t size, bool utf8);
void rr_shared_row_clear(rr_shared_row_t *row);
unsigned rr_shared_row_count(const rr_shared_row_t *row); /* messages in it */
size_t rr_shared_row_bytes(const rr_shared_row_t *row);   /* their bodies together */
/* All of them, or none: the errors of rr_connection_send; RR_ETOOBIG if one is above max_packet; RR_ENOMEM. */
RR_MUST_CHECK int rr_connection_send_row(rr_connection_t *connection, rr_shared_row_t *row);

/* WebSocket ping (nothing on TCP). */
RR_MUST_CHECK int rr_connection_ping(rr_connection_t *connection);

void rr_connection_pause(rr_connection_t *connection);
void rr_connection_resume(rr_connection_t *connection);

/* Flushes, says goodbye (WebSocket close frame with the reason's code), closes; closed(reason) follows. Idempotent: the
 * first reason stays. */
void rr_connection_close(rr_connection_t *connection, rr_close_reason_t reason);

rr_wire_t rr_connection_wire(const rr_connection_t *connection);
size_t rr_connection_pending(const rr_connection_t *connection);
const char *rr_connection_peer_ip(const rr_connection_t *connection, char *out, size_t size);
void *rr_connection_context(rr_connection_t *connection);
void rr_connection_set_context(rr_connection_t *connection, void *context);

#endif
