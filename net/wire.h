/* wire.h: one connection with a neighbour: its handshake, its frames, its heartbeats and limits. What the frames mean
 * is the business of links and of the mesh. Private to net/. Carrier's thread only. */
#ifndef RR_NET_WIRE_H
#define RR_NET_WIRE_H

#include "net/carrier.h"
#include "net/node_frame.h"
#include "net/stream_impl.h"

typedef struct rr__wire rr__wire_t;
typedef struct rr__link rr__link_t;

typedef enum rr__wire_state {
    RR__WIRE_DIALLING = 0, /* no stream yet */
    RR__WIRE_HELLO,        /* accepted: waits for HELLO */
    RR__WIRE_AUTH,         /* accepted: waits for AUTH */
    RR__WIRE_CHALLENGE,    /* dialled: waits for CHALLENGE */
    RR__WIRE_WELCOME,      /* dialled: waits for WELCOME */
    RR__WIRE_OPEN,
    RR__WIRE_ENDING, /* nothing more is read or written; closed() follows */
} rr__wire_state_t;

typedef struct rr__handshake rr__handshake_t;

struct rr__wire {
    rr_mesh_t *mesh;
    rr_stream_t *stream;      /* NULL while dialling */
    rr__wire_t *next, **prev; /* of mesh->wires */
    rr__link_t *link; /* whom we dialled, or who proved to be there; NULL for strangers and once the link is gone */
    rr_node_identity_t peer; /* proven, when OPEN, as is the next */
    uint64_t graph;
    rr__dial_t dial;
    rr__handshake_t *handshake; /* until OPEN */
    uint8_t state;              /* rr__wire_state_t */
    bool dialled;
    bool useful;  /* a session was agreed over it */
    bool wait;    /* the peer refused without fault of ours */
    bool refused; /* by either side, for good */
    uint64_t began_ns, read_ns, written_ns;
    size_t limit;    /* of the stream */
    uint8_t *buffer; /* what was read and is not parsed yet; NULL while there is none */
    size_t used;
    rr_deferred_t again; /* reading goes on */
    int error;
    char why[320]; /* why it ended */
};

/* A stranger. The handle is taken over. */
void rr__wire_accept(rr_mesh_t *mesh, intptr_t handle);
/* Dials a link's address. RR_ENOMEM, RR_EINVAL: nothing happened; else closed() will be told if it fails. */
RR_MUST_CHECK int rr__wire_dial(rr_mesh_t *mesh, rr__link_t *link, const char *address, rr__wire_t **out);

/* Ends it: pending output is still sent if `gently`. closed() follows later, never inside. Idempotent. */
void rr__wire_end(rr__wire_t *wire, int error, bool gently, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* The neighbour is told the reason first. */
void rr__wire_refuse(rr__wire_t *wire, const rr_node_refusal_t *refusal);

/* May more be written now? When it may again after a false, rr__mesh_wire_room is called. */
static inline bool rr__wire_has_room(const rr__wire_t *wire) {
    return wire->state == RR__WIRE_OPEN && rr_stream_pending(wire->stream) < wire->limit / 2;
}
/* A small whole frame; false: it was not sent (over the limit, or ending). */
bool rr__wire_write(rr__wire_t *wire, const uint8_t *frame, size_t size);
/* Frame bytes by reference. */
bool rr__wire_write_slice(rr__wire_t *wire, const rr_slice_t *slice);

/* What was written leaves now: the other side works on it while this one goes on. */
static inline void rr__wire_flush(rr__wire_t *wire) {
    if (wire->state == RR__WIRE_OPEN) {
        rr_stream_flush(wire->stream);
    }
}

/* Heartbeat, time limits; when to be called next. */
uint64_t rr__wire_tick(rr__wire_t *wire, uint64_t now);
/* Silent for so long that another path is better. */
bool rr__wire_is_silent(const rr__wire_t *wire, uint64_t now);

#endif
