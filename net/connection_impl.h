/* connection_impl.h: what the parts of a connection share: connection.c (life, first bytes, TCP frames), connection_ws.c,
 * connection_http.c, connection_send.c. Private to net/ and its tests. Loop thread only. */
#ifndef RR_NET_CONNECTION_IMPL_H
#define RR_NET_CONNECTION_IMPL_H

#include "net/connection.h"
#include "net/frame.h"
#include "net/stream_impl.h"

#define RR__SMALL_FRAME 4096u  /* a cut frame up to here is kept and put back in front of its rest; larger ones are assembled */
#define RR__DIRECT_READ 16384u /* so much of a body still missing is read straight into it */
#define RR__LINGER_MS 2000u

typedef enum rr__protocol { /* what the connection speaks */
    RR__PROTOCOL_NEW = 0,
    RR__PROTOCOL_POLICY,
    RR__PROTOCOL_TCP,
    RR__PROTOCOL_HTTP,
    RR__PROTOCOL_WS,
} rr__protocol_t;

enum { /* rr_connection.flags */
    RR__ENDING = 1,      /* close was called, or the stream has ended: nothing more is parsed or sent */
    RR__PAUSED = 2,      /* by the owner */
    RR__HTTP_BUSY = 4,   /* a request waits for its answer, or the answer for the client */
    RR__STOP = RR__ENDING | RR__PAUSED | RR__HTTP_BUSY,
    RR__GREETED = 8,     /* the first whole message or request is here */
    RR__PROGRESS = 16,   /* one is here since the partial deadline was set */
    RR__HAS_REASON = 32,
    RR__WS_FIN = 64,     /* the frame that is being assembled is the message's last */
};

typedef struct rr__http_side rr__http_side_t;

struct rr_connection {
    rr_stream_t *stream;
    const rr_connection_options_t *options;
    const rr_connection_handler_t *handler;
    void *context;
    rr__deadline_t deadline; /* handshake, then partial */
    uint8_t *left;           /* bytes kept back: a cut small frame, or what a pause left unparsed; NULL if none */
    uint32_t left_start, left_end;
    /* A large or fragmented message that is being assembled. */
    rr_buffer_t *body;
    uint32_t body_used;
    uint32_t frame_left; /* bytes of the current frame still to come; > 0 only if left is NULL */
    union {
        rr_frame_header_t header; /* TCP */
        uint8_t mask[4];          /* WebSocket, turned so that [0] is for the next byte */
    } frame;
    rr__http_side_t *http;
    uint8_t protocol; /* rr__protocol_t */
    uint8_t wire;     /* rr_wire_t */
    uint8_t reason;   /* rr_close_reason_t, if RR__HAS_REASON */
    uint8_t flags;
    uint8_t opcode; /* WebSocket: of the fragmented or assembled message, 0 = none */
};

/* Gives the connection a stream that is open already (tests and fuzzing: a simulated one), with rr__connection_stream_handler
 * as its handler and the connection as its owner. */
rr_connection_t *rr__connection_new(const rr_connection_options_t *options, const rr_connection_handler_t *handler, void *context);
void rr__connection_begin(rr_connection_t *c, rr_stream_t *stream);
void rr__connection_free(rr_connection_t *c);
extern const rr_stream_handler_t rr__connection_stream_handler;

/* Parsers: take what they can of data, which may be changed in place; the number of bytes used. Not all of them = more is
 * needed, or the flags say RR__STOP. */
size_t rr__connection_parse_ws(rr_connection_t *c, uint8_t *data, size_t size);
size_t rr__connection_parse_http(rr_connection_t *c, uint8_t *data, size_t size);

/* A frame's whole part of the assembled message is here. */
void rr__connection_ws_assembled(rr_connection_t *c);

void rr__connection_deliver(rr_connection_t *c, uint16_t cmd, uint16_t flag, const uint8_t *body, size_t size, rr_buffer_t *owner);
/* Room for `more` bytes behind the assembled ones (exactly, or with room to grow); false: out of memory, and closing. */
bool rr__connection_body_room(rr_connection_t *c, size_t more, bool grow, size_t limit);
void rr__connection_body_drop(rr_connection_t *c);
/* Copies bytes of the current frame into the body (unless they were read there) and counts them. */
void rr__connection_body_take(rr_connection_t *c, const uint8_t *data, size_t size);

/* The HTTP answer is out: reads on. */
void rr__connection_http_go_on(rr_connection_t *c);
void rr__connection_http_free(rr_connection_t *c);
void rr__connection_http_drained(rr_connection_t *c);
void rr__connection_http_timeout(rr_connection_t *c);
/* 0 = none. */
void rr__connection_set_deadline(rr_connection_t *c, unsigned ms);

/* WebSocket control frames out; payload <= 125 bytes. */
int rr__connection_send_control(rr_connection_t *c, unsigned opcode, const void *payload, size_t size);

/* Closes after a close frame of the peer with that code (echoed). */
void rr__connection_ws_peer_closed(rr_connection_t *c, uint16_t code);

#endif
