/* link.h: the end-to-end session with another node, and the proxy actor that stands for it here. Private to net/.
 *
 * Sending (link_send.c). Whatever local actors send to an actor of that node lands in the proxy's mailbox
 * (runtime/remote.h). A turn of the proxy writes each message as a record into the open segment, in a shared chunk of
 * memory; once per loop turn the segment is sealed, numbered and written to the path by reference. The same bytes are
 * the copy that is kept until it is acknowledged; once it was written to a path, not a byte of it changes any more. When `window` bytes are unacknowledged the proxy holds: its mailbox
 * fills, and senders are paused or refused as for any full mailbox. Messages above RR__PIECE become transfers: pieces,
 * one per transfer in turn, written only while little else waits; later messages of the same sender and receiver wait
 * behind them.
 *
 * Receiving (link_receive.c). Segments are taken in order of their numbers, each once; what comes again is dropped, a
 * gap is asked to be sent again. A message counts as received when it is in its receiver's mailbox or its sender's node
 * was told that it is not.
 *
 * Session (link.c). Both sides name it by incarnation and number (node_frame.h). Whenever a link has a new path, or
 * doubts the old one, it asks (OPEN): sending rests until the answer says what was received, then goes on behind that.
 * Paths keep order while they live, so an answer covers all that was sent before the ask. Whoever gives up takes the
 * next number: what belongs to an earlier one is refused (GONE). */
#ifndef RR_NET_LINK_H
#define RR_NET_LINK_H

#include "net/wire.h"
#include "runtime/metrics.h"
#include "runtime/remote.h"

#define RR__PIECE          (56u << 10)  /* of a message that is cut */
#define RR__COPY_MAX       (8u << 10)   /* payloads up to here are copied into the segment */
#define RR__CHUNK          (256u << 10) /* memory for segments */
#define RR__FOLLOWERS      4096u        /* messages that wait behind transfers of their sender and receiver */
#define RR__WINDOW_RELAYED (1u << 20)
#define RR__SHAKY          (8u << 20) /* bytes to be acknowledged behind a lost path before segments are big again */

typedef struct rr__segment {
    rr_buffer_t *chunk; /* a reference */
    uint8_t *data;
    uint32_t size, messages;
    rr_buffer_t *tail; /* the last record's payload, by reference; NULL = none */
    uint32_t tail_start, tail_size;
} rr__segment_t;

typedef struct rr__follower {
    struct rr__follower *next;
    rr_envelope_t env; /* owns a reference to env.buffer */
} rr__follower_t;

typedef struct rr__transfer {
    rr_envelope_t env; /* owns a reference to env.buffer; NULL = the slot is free */
    uint32_t id, sent;
    uint64_t last_seq; /* of its last piece; 0 = not written yet */
    rr__follower_t *first, *last;
} rr__transfer_t;

typedef struct rr__assembly { /* a cut message that is coming in */
    bool used;
    uint32_t id, have;
    rr_record_t record;
    rr_buffer_t *buffer; /* NULL: too big, its bytes are skipped */
} rr__assembly_t;

typedef struct rr__last { /* the record before, in the same segment */
    bool any;
    uint32_t type;
    uint64_t to, from;
} rr__last_t;

struct rr__link {
    rr_mesh_t *mesh;
    rr__link_t *next, **prev; /* of mesh->fresh, or mesh->links when attached */
    rr_addr_t proxy;
    rr_actor_t *actor; /* the proxy while it lives */
    unsigned node;
    rr_node_identity_t peer; /* under mesh->lock */
    char text[160];          /* for logs */
    uint64_t other_graph;    /* which it runs, if that is another one than ours and was told */

    /* The session. */
    uint32_t mine, theirs, theirs_seen; /* numbers; theirs 0 = not known */
    uint64_t tag;
    bool wanted, attached, ended, left, held, draining, told_no_key;
    bool mark_sent, marked; /* rr_mesh_leave: everything that was sent before it is taken over */
    bool superseded, forgotten, eager; /* under mesh->lock */
    bool agreed;                       /* both know both numbers, and what to send next */
    bool asking;
    uint32_t ask;  /* number of the latest ask */
    unsigned asks; /* in a row without an answer */
    uint32_t asked; /* number of the other side's latest ask in this session; 0 = none */
    uint64_t ask_due_ns, heard_ns, said_ns, progress_ns;
    rr__wire_t *path, *direct, *dialling;
    uint64_t told_via; /* where the log last said that it goes, as `via` */
    uint64_t dial_due_ns, backoff_ns;
    unsigned bad_relay; /* said that it has no way; until ... */
    uint64_t bad_until_ns;

    /* Sending. Segments acked+1 .. sealed are in ring[seq % capacity]; up to `written` they are out on the path. */
    rr__segment_t *ring;
    uint32_t capacity;
    uint64_t acked, written, sealed;
    uint64_t headed; /* up to here they have their header: their bytes stay as they are, for an earlier copy may still be queued */
    size_t bytes;       /* of sealed ones */
    size_t shaky_bytes; /* a path was lost, and so many bytes were not acknowledged since: segments of what is copied stay small */
    rr_buffer_t *chunk;
    uint8_t *start, *at, *limit, *chunk_end; /* the open segment: [start, at); NULL = none */
    uint32_t open_messages;
    rr__last_t last;
    rr_deferred_t flush;
    rr__transfer_t transfers[RR_NODE_TRANSFERS];
    unsigned transfer_count, follower_count;
    uint32_t transfer_id;
    rr_announced_t announced; /* names of local actors, in this session */

    /* Receiving. */
    uint64_t received;
    size_t owed_bytes; /* received and not acknowledged */
    bool owes;
    rr__link_t *owing_next, **owing_prev;
    rr__assembly_t assemblies[RR_NODE_TRANSFERS];
    rr_addr_t last_paused;

    /* For rr_mesh_list and metrics: written here, read by any thread (relaxed). */
    rr_counter_t sent_messages, sent_bytes, received_messages, received_bytes, resent, reconnects, nacks, lost_nacks;
    rr_counter_t unacked_bytes, heard_counter_ns, via; /* via: 0 = direct */
    _Atomic(int) state;                                /* rr_link_state_t; this thread writes */
};

static inline unsigned rr__link_node(const rr__link_t *link) {
    return link->node;
}
static inline uint64_t rr__link_incarnation(const rr__link_t *link) {
    return link->peer.incarnation;
}
static inline const char *rr__link_text(const rr__link_t *link) {
    return link->text;
}
static inline rr_link_state_t rr__link_state(const rr__link_t *link) {
    return (rr_link_state_t)atomic_load_explicit(&((rr__link_t *)link)->state, memory_order_relaxed);
}

/* ---- link.c ---- */

extern const rr_behavior_t rr__proxy_behavior; /* arg: rr__link_t *, taken over */

void rr__link_want(rr__link_t *link); /* somebody needs it from now on */
void rr__link_ask(rr__link_t *link);
void rr__link_set_path(rr__link_t *link, rr__wire_t *path);
void rr__link_path_lost(rr__link_t *link);
/* The session is over: routes, calls, monitors, sends; a new one may follow (not if link->ended or left). */
void rr__link_over(rr__link_t *link, const char *why);
/* For ever. The proxy ends, and with it the link. */
void rr__link_end(rr__link_t *link, const char *why);
void rr__link_set_state(rr__link_t *link, rr_link_state_t state);
/* Frames from the peer. False: they break the protocol (why). `wire`: how they came. */
bool rr__link_frame(rr__link_t *link, rr__wire_t *wire, rr_node_header_t h, const uint8_t *body, char *why,
                    size_t why_size);
void rr__link_unreachable(rr__link_t *link, unsigned relay);
uint64_t rr__link_tick(rr__link_t *link, uint64_t now); /* when to call again */
bool rr__link_is_drained(const rr__link_t *link); /* it was asked to, and nothing is left */
/* Nothing that was sent before the first call is left. */
bool rr__link_is_finished(rr__link_t *link);
void rr__link_free(rr__link_t *link);

/* ---- link_send.c ---- */

void rr__link_send(rr__link_t *link, const rr_envelope_t *env);
void rr__link_send_run(rr__link_t *link, rr_run_t *run); /* those that are left, or until the link is held */
bool rr__link_send_sheet(rr__link_t *link, const rr_sheet_t *sheet); /* false: one by one, by rr__link_send */
void rr__link_send_control(rr__link_t *link, unsigned kind, rr_addr_t actor); /* PAUSE, RESUME */
void rr__link_send_nack(rr__link_t *link, const rr_envelope_t *env, int reason);
void rr__link_flush_soon(rr__link_t *link);
void rr__link_on_flush(rr_deferred_t *item);
void rr__link_pump(rr__link_t *link);
/* Whole segments leave now, and if this thread goes on with other turns, what there is for a node that has nothing of ours to do. */
void rr__link_push(rr__link_t *link, bool goes_on);
bool rr__link_on_ack(rr__link_t *link, uint64_t received); /* false: it acknowledges what was never sent */
void rr__link_rewind(rr__link_t *link);                    /* sends again what is not acknowledged */
void rr__link_send_ack(rr__link_t *link);
void rr__link_unhold(rr__link_t *link);
bool rr__link_is_idle(const rr__link_t *link); /* everything was sent and acknowledged */
/* Ends everything unacknowledged: sends as dead letters. */
void rr__link_drop_output(rr__link_t *link, int reason);

/* ---- link_receive.c ---- */

bool rr__link_segment(rr__link_t *link, const rr_node_segment_t *segment, const uint8_t *records, size_t size,
                      char *why, size_t why_size);
void rr__link_drop_input(rr__link_t *link);

#endif
