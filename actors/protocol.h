/* protocol.h: what gates and scenes say to each other. Everything is little endian, packed by hand, and decoded with
 * bounds checks, because the same bytes cross nodes.
 *
 * One actor message carries a batch: a 16-byte head, then records, each 24 bytes of head and a body padded to 8. Order
 * is the order of the records; between two actors it is the order of the batches.
 *
 *     batch  := u32 version (RR_BATCH_VERSION) | u32 records | u64 sent_ns | record…
 *     record := u32 size (of the body) | u16 kind | u16 cmd | u32 slot | u32 arg | u64 incarnation | body | padding to
 * 8
 *
 * A session is named by (shard's address, slot, incarnation). The incarnation is never used twice, so what is late for
 * an older owner of a slot, or of an id, finds nobody. A shard's incarnations grow, as a session's hops do: an ENTER that
 * is older than what its receiver knows of the slot is refused.
 *
 * Bodies above RR_BODY_INLINE travel without a copy: the record has RR_RECORD_FOLLOWS in its kind, an empty body, its
 * batch ends there, and the next message between the two actors is RR_TYPE_INPUT_BODY or RR_TYPE_OUTPUT_BODY, the body itself.
 *
 * Session move, in records (S = shard, A = old scene, B = new one):
 *     A -> S  MOVE         S holds the session's new input
 *     S -> A  FENCE        behind everything that S ever sent to A for it: A's queue is now complete
 *     A -> B  ENTER (call) B adopts the session; B -> S JOIN; B runs its enter handler; answers
 *     A -> S  RETURN …     on success: what A had not handled, in order; then MOVED(B). S sends those to B, then what
 * it held, then new input directly: one FIFO from A through S to B, on any number of nodes. A -> S  STAY         on
 * failure: S sends what it held to A. `arg` of MOVE, JOIN, MOVED and STAY is the session's hop: a record of an attempt
 * that is over finds another number.
 *
 * MOVED(B) goes another way than B's JOIN, and may overtake it. If S has heard nothing of B yet (or nothing since it lost it: B
 * may be back under the same address), it goes on holding until the JOIN comes, and asks B meanwhile (ATTACH): behind the answer
 * none comes any more, since B has ended the session when it lost S, and then B is gone for that session as if it had crashed.
 *
 * When the client leaves on the way back to its login scene, S's LEFT and A's ENTER race to B. ENTER names the login
 * scene (A has it from FENCE), so B knows a session of its own that it does not have registered: its offline is over
 * there, and B refuses it. Its offline at A follows from A's own LEFT.
 *
 * When the client leaves while the move is under way, S tells A, and B as well if it has joined; a JOIN that comes later is
 * answered with LEFT. So B never depends on A to hear of it: A may be gone by then. Whether the session is offline at A or
 * at B is decided by B's answer to ENTER: the one of them that has it.
 *
 * A scene that is gone (crashed, its node down, its name another's): what the gate does about its sessions is the gate's
 * option scene_lost. `close`: 4009. `wait`: S holds their input, looks for the name's next owner N until scene_wait is over,
 * and when N serves:
 *     S -> N  RESUME       the session with its id and the extra of its last enter; N enters it (from_scene = N's own name,
 *                          which no move can be from) and says JOIN; behind it, in order: what the gone scene had given back
 *                          (RETURN), what S held, then new input. RR_RESUME_LOGIN: N has the id registered, too.
 * N may be the very same scene, under the same address: its node was out of reach for longer than links live, and not long
 * enough to lose its name; or it was given up by a master that is gone, and has its name again. The end of a link is told at both
 * ends before anything comes by the next, so that scene has ended all sessions of S: it is another one for S, and S for it. If the
 * session's last offline there still runs, it waits for that; so does one that lives elsewhere (ANNOUNCE).
 * `relogin`: the session is over at its login scene (LEFT), and begins anew with VERIFY and the key that S has kept.
 * A scene that the session was moving to, and had joined, hears DROP: it stays with the name that had it.
 *
 * An orderly end is no harder on clients than a crash: A, whose node ends, gives a session that nobody takes back to S, by the
 * move to itself:
 *     A -> S  MOVE         with RR_MOVE_BACK; S holds
 *     S -> A  FENCE        says what becomes of the session by scene_lost. Nothing (close, or S ends as well): A says STAY, and
 *                          ends it as ever: offline, 1001 or 4009
 *     A -> S  RETURN …     then JOIN, if the logic gave a state: the extra of its next enter; then MOVED(A). For S its scene is
 *                          gone from here on. `wait`: LOST, until the name's next owner gets RESUME. Whose client leaves while A
 *                          still lives is offline at A, later at its login scene only. `relogin`: offline at A, then VERIFY.
 *
 * What that means for messages: a client's message is handled at most once. Those that S had given to the gone scene are
 * lost with it, whether it had acknowledged them or not (RR_REC_ACK counts what was taken out of the mailbox, which is not
 * what was finished, and comes late: giving them again would double some). Those that S had not yet given to it (what
 * it read while it stood still without a lease, say), or was given back, are delivered once and in order. Over the limits of time
 * (scene_wait) or input (queue_messages, queue_bytes): 4009, so nothing is left out in the middle of what a session that lives
 * on is given after the loss.
 *
 * A restarted login scene has lost its table of ids: S tells it of every session that lives elsewhere (ANNOUNCE), and of
 * those that live on with it (RESUME with RR_RESUME_LOGIN), before any new VERIFY: a second login kicks the first as before.
 *
 * Handing over (RR_TYPE_HAND_OVER): A says DRAINING to its shards, which hold further logins back and answer QUIET behind
 * the last VERIFY or RESUME; ENTER is refused; A's sessions move one by one, by the move above. */
#ifndef RR_ACTORS_PROTOCOL_H
#define RR_ACTORS_PROTOCOL_H

#include <string.h>

#include "python/script.h"
#include "runtime/redrabbit.h"

/* ---- Types of actor messages ---- */

enum {
    RR_TYPE_INPUT = 0x0100, /* shard -> scene: batch */
    RR_TYPE_OUTPUT,         /* scene -> shard: batch */
    RR_TYPE_INPUT_BODY,     /* shard -> scene: the body that the record before announced */
    RR_TYPE_ENTER,          /* call, scene -> scene: rr_enter_t…; answered empty when the enter handler is finished */
    RR_TYPE_SERVICE,        /* call, anyone -> scene: see rr_service_encode */
    RR_TYPE_ATTACH,         /* call, gate or shard -> scene: answered (empty) as soon as the scene serves, behind all that it says
                               to that shard before */
    RR_TYPE_RELOAD,         /* call, anyone -> scene: module name ("" = its script); answered with rr_reload_reply */
    RR_TYPE_FORGET,         /* send, scene -> scene: rr_forget_t: the ENTER was given up: do not keep the session */
    RR_TYPE_HAND_OVER,      /* call, anyone -> scene: rr_hand_over_t | target; answered with rr_handed_over_t at its end */
    RR_TYPE_STOP,           /* send: offline everyone, clean up, end; u32 ms after which the sender gives up, if it says so */
    RR_TYPE_RUN,            /* a scene to itself: coroutines or a backlog are waiting */
    RR_TYPE_LOGIN_SCENE,    /* call, gate -> its shards: u64 address of the login scene, 0 = gone */
    RR_TYPE_FLUSH,          /* a shard to itself */
    RR_TYPE_DRAIN,          /* gate -> its shards: u64 pointer to a latch of this process; stop reading */
    RR_TYPE_CLOSE_ALL,      /* the same: flush, say goodbye (1001), close */
    RR_TYPE_JOB,            /* a shard's own HTTP work, a pointer of this process */
    RR_TYPE_BRIDGE,         /* call, anyone -> bridge -> another group's bridge: see rr_bridge_encode */
    RR_TYPE_QUERY,          /* call, anyone -> database: runtime/query.h */
    RR_TYPE_QUERY_CANCEL,   /* send, the asking actor -> database: u64 id of its query: it is not wanted any more */
    RR_TYPE_QUERY_EVENT,    /* send, database -> subscriber: runtime/query.h */
    RR_TYPE_OUTPUT_BODY,    /* scene -> shard: as RR_TYPE_INPUT_BODY */
    RR_TYPE_SAVED,          /* call, conf/reload -> scene: files may have been saved; answered with rr_reload_reply | text */
};

/* ---- Batches and records ---- */

#define RR_BATCH_VERSION  4u
#define RR_BATCH_HEAD     16u
#define RR_RECORD_HEAD    24u
#define RR_BODY_INLINE    4096u
#define RR_RECORD_FOLLOWS 0x8000u /* in kind: the body is the next message */

enum rr_record_kind {
    /* shard -> scene */
    RR_REC_HELLO = 1, /* first record to a scene: rr_hello_t | gate name */
    RR_REC_VERIFY,    /* rr_login_head_t | ip | key */
    RR_REC_MESSAGE,   /* a client's message */
    RR_REC_LEFT,      /* arg = rr_close_reason_t | RR_LEFT_* : the client is gone */
    RR_REC_FENCE,     /* arg = hop; cmd = RR_BACK_*; u64 address of the session's login scene, 0 = it has none any more */
    RR_REC_ANNOUNCE,  /* to a restarted login scene: i64 online_time | sid: a session that lives elsewhere */
    RR_REC_DROP,      /* arg = hop: the move that brought the session to this scene was given up meanwhile */
    RR_REC_RESUME,    /* arg = hop; rr_resume_head_t | sid | extra: its scene is gone, and this one has the name now */
    RR_REC_QUIET,     /* answers DRAINING, with its arg: 1 = no VERIFY and no RESUME follows behind this; 0 also by itself */
    /* scene -> shard */
    RR_REC_ACCEPT =
        32,        /* arg = flags; u32 sid size | sid | extra: verified; arg RR_ACCEPT_EXTRA: extra goes out as cmd 0 */
    RR_REC_REFUSE, /* arg RR_ACCEPT_EXTRA: extra goes out as cmd 0 first; closed with 4002 */
    RR_REC_JOIN,   /* arg = hop: from now on the session hears this scene's broadcasts. cmd = RR_JOIN_*; extra of its enter */
    RR_REC_PART,   /* arg = hop: its enter failed: it does not */
    RR_REC_SEND,   /* arg = RR_SEND_TEXT */
    RR_REC_MULTICAST, /* slot = count; count × (u64 incarnation, u32 slot, u32 0), unless arg has RR_SEND_SAME | message */
    RR_REC_BROADCAST, /* to the sessions of the sending scene */
    RR_REC_GATE_CAST, /* to all verified sessions of the gate */
    RR_REC_CLOSE,     /* arg = rr_close_reason_t: flush, close */
    RR_REC_MOVE,      /* arg = hop; cmd = RR_MOVE_* */
    RR_REC_STAY,      /* arg = hop */
    RR_REC_RETURN,    /* a message that the old scene did not handle */
    RR_REC_MOVED, /* arg = hop; u64 address of the new scene | u32 1 + reason if the client left meanwhile, else 0 | its
                     name */
    RR_REC_ACK,   /* u64 messages | u64 bytes: handled of this shard's input so far (the shard's window) */
    RR_REC_NAME,  /* the scene's name, before its first JOIN */
    RR_REC_DRAINING, /* arg 1: no new sessions here; 0: again. Answered with QUIET */
};

#define RR_SEND_TEXT    1u /* the body is valid UTF-8 */
#define RR_SEND_SAME    2u /* MULTICAST: to the list of the last one before it in this batch that has one; all of it are different */
#define RR_LIST_ENTRY   16u /* bytes of a MULTICAST's list for each session */
#define RR_ACCEPT_EXTRA 1u /* there is extra data (it may be empty) */
#define RR_ACCEPT_TEXT  2u /* and it is valid UTF-8 */
/* Of MOVE: the scene ends and would give the session back to its gate, with the extra of its next enter. */
#define RR_MOVE_BACK  1u
#define RR_MOVE_EXTRA 2u
/* Of FENCE, what becomes of a session that is given back. */
#define RR_BACK_REFUSED 0u /* nothing: the gate does not keep it, or ends as well */
#define RR_BACK_KEPT    1u /* it waits for the next owner of the scene's name */
#define RR_BACK_AGAIN   2u /* it logs in again */
#define RR_LEFT_HOLDER  0x100u
#define RR_LEFT_LOGIN   0x200u
#define RR_LEFT_REASON  0xffu

typedef struct rr_record {
    uint32_t size; /* of body */
    uint16_t kind; /* without RR_RECORD_FOLLOWS */
    uint16_t cmd;
    uint32_t slot;
    uint32_t arg;
    uint64_t incarnation;
    bool follows;
    const uint8_t *body;
} rr_record_t;

static inline void rr_put16(uint8_t *p, uint16_t v) {
    memcpy(p, &v, 2);
}
static inline void rr_put32(uint8_t *p, uint32_t v) {
    memcpy(p, &v, 4);
}
static inline void rr_put64(uint8_t *p, uint64_t v) {
    memcpy(p, &v, 8);
}
static inline uint16_t rr_get16(const uint8_t *p) {
    uint16_t v;
    memcpy(&v, p, 2);
    return v;
}
static inline uint32_t rr_get32(const uint8_t *p) {
    uint32_t v;
    memcpy(&v, p, 4);
    return v;
}
static inline uint64_t rr_get64(const uint8_t *p) {
    uint64_t v;
    memcpy(&v, p, 8);
    return v;
}
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the formats above are copied as they are");

/* ---- Reading a batch ---- */

typedef struct rr_batch_reader {
    const uint8_t *at, *end;
    uint32_t records; /* left */
    uint64_t sent_ns;
} rr_batch_reader_t;

/* RR_OK or RR_EPROTO. data must stay valid while the reader is used. Any thread. */
RR_MUST_CHECK int rr_batch_open(rr_batch_reader_t *reader, const void *data, size_t size);
/* RR_OK, RR_ENOENT (the end), RR_EPROTO (what follows is nonsense). */
RR_MUST_CHECK int rr_batch_next(rr_batch_reader_t *reader, rr_record_t *out);

/* ---- Writing one ---- */

/* A growing buffer. One that is at least half full is sent as it is; a small batch is sent as a copy of the right size and
 * the memory used again. Zeroed = empty. */
typedef struct rr_batch {
    rr_buffer_t *buffer; /* of capacity bytes; NULL = made with the next record */
    uint8_t *data;       /* the buffer's */
    size_t size, capacity;
    uint32_t records;
} rr_batch_t;

/* Appends a record with room for `size` body bytes and returns where they go; NULL when out of memory (nothing
 * appended). */
uint8_t *rr_batch_add(rr_batch_t *batch, uint16_t kind, uint16_t cmd, uint32_t slot, uint64_t incarnation, uint32_t arg,
                      size_t size);
/* The batch as one buffer, ready to send; the batch is empty afterwards and keeps its memory up to `keep` bytes. NULL
 * when out of memory (the batch is kept). */
rr_buffer_t *rr_batch_take(rr_batch_t *batch, uint64_t now_ns, size_t keep);
void rr_batch_free(rr_batch_t *batch);

/* ---- Bodies ---- */

typedef struct rr_hello {
    uint32_t window;       /* messages that may be on their way */
    uint32_t window_bytes; /* and bytes: the scene acknowledges at least every quarter */
    uint32_t flags;
    uint32_t reserved;
} rr_hello_t;

#define RR_HELLO_KEEPS 1u /* the gate keeps what a RESUME needs: JOIN brings the enter's extra */

/* Of JOIN, only if the gate keeps it. */
#define RR_JOIN_EXTRA    1u     /* the body is the extra of the enter */
#define RR_JOIN_NO_EXTRA 2u     /* it has more than RR_KEPT_MAX bytes: the session cannot be resumed */
#define RR_KEPT_MAX      65535u /* of an extra, and of a session key */

/* RESUME: this head, sid, extra (which follows by itself if it is large). */
typedef struct rr_resume_head {
    uint64_t login; /* address of its login scene, 0 = it has none now */
    int64_t online_time;
    uint32_t flags; /* RR_RESUME_LOGIN */
    uint32_t sid_size;
} rr_resume_head_t;
#define RR_RESUME_LOGIN 1u /* the receiver is its login scene */

typedef struct rr_login_head {
    int64_t online_time; /* Unix seconds of the connect */
    uint32_t flags;      /* RR_LOGIN_INT: digit strings become ints */
    uint16_t ip_size;
    uint16_t reserved;
} rr_login_head_t;
#define RR_LOGIN_INT 1u

/* ENTER: this head, then gate name, from scene, sid, extra. */
typedef struct rr_enter_head {
    uint64_t shard, login; /* addresses: of the session's shard, of its login scene */
    uint64_t incarnation;
    int64_t online_time;
    uint32_t slot, hop;
    uint32_t gate_size, from_size, sid_size, extra_size;
    uint32_t hello_flags; /* of the shard's HELLO, which the new scene may not have yet */
    uint32_t reserved;
} rr_enter_head_t;

/* A session id in bytes: 'i' and a little-endian int64, or 's' and the text. */
#define RR_SID_MAX 256u
size_t rr_sid_encode(const rr_sid_t *id, uint8_t out[RR_SID_MAX]);
/* RR_OK or RR_EPROTO; out->text points into data and is not NUL-terminated. */
RR_MUST_CHECK int rr_sid_decode(const void *data, size_t size, rr_sid_t *out);
/* True if a and b are the same id; 5 and "5" differ. */
bool rr_sid_equal(const rr_sid_t *a, const rr_sid_t *b);
uint64_t rr_sid_hash(const rr_sid_t *id);
/* For people: 5, or 'alice' (control bytes escaped, cut to fit). Returns out. */
const char *rr_sid_show(const rr_sid_t *id, char *out, size_t size);
/* A text of digits (and a sign) that is a 64-bit int other than 0 becomes that int. */
void rr_sid_to_int(rr_sid_t *id);

typedef struct rr_enter {
    rr_enter_head_t head;
    rr_sid_t id; /* points into the data, like extra */
    char gate[RR_SID_MAX], from[RR_SID_MAX];
    const void *extra;
} rr_enter_t;
/* RR_OK or RR_EPROTO. */
RR_MUST_CHECK int rr_enter_decode(const void *data, size_t size, rr_enter_t *out);

/* FORGET. */
typedef struct rr_forget {
    uint64_t shard, incarnation;
    uint32_t slot, hop;
} rr_forget_t;

/* HAND_OVER: this, then the name of the scene to which all sessions go that the script's on_drain says nothing of ("" = the
 * option drain_to). */
typedef struct rr_hand_over {
    uint32_t deadline_ms; /* then what is left is left */
    uint32_t flags;
} rr_hand_over_t;
#define RR_HAND_OVER_REOPEN    1u /* at the end the scene lets sessions in again; else it stays closed, to be stopped (one
                                     that reopens is cut off by one that does not) */
#define RR_HAND_OVER_ELSEWHERE 2u /* this node ends: only to scenes of other nodes, only sessions of their gates */
#define RR_HAND_OVER_BACK      4u /* sessions that nobody takes are given back to their gates, for the name's next owner */
/* Its answer. */
typedef struct rr_handed_over {
    uint64_t moved, left; /* sessions; left: still here, nobody takes them */
} rr_handed_over_t;

/* A service request: method and body. body NULL = None. NULL when out of memory. */
rr_buffer_t *rr_service_encode(const char *from, const char *method, const void *body, size_t size);
typedef struct rr_service_request {
    const char *from, *method; /* NUL-terminated */
    const void *body;          /* NULL = None */
    size_t size;
} rr_service_request_t;
RR_MUST_CHECK int rr_service_decode(const void *data, size_t size, rr_service_request_t *out);
/* Its answer: a byte that tells None from a body, then the body. */
rr_buffer_t *rr_answer_encode(const void *body, size_t size);
RR_MUST_CHECK int rr_answer_decode(const void *data, size_t size, const void **body, size_t *body_size);

/* A call to another group: where to, and how long its caller waits, in front of a service request. Its answer is a
 * service's. group and name as names of actors. NULL when out of memory or a text is too long. */
typedef struct rr_bridge_target {
    const char *group, *name; /* NUL-terminated */
    unsigned timeout_ms;      /* > 0 */
} rr_bridge_target_t;
rr_buffer_t *rr_bridge_encode(const rr_bridge_target_t *target, const char *from, const char *method, const void *body,
                              size_t size);
/* RR_OK, RR_EUNSUPPORTED (another version) or RR_EPROTO. *out and *request point into the data. */
RR_MUST_CHECK int rr_bridge_decode(const void *data, size_t size, rr_bridge_target_t *out, const void **request,
                                   size_t *request_size);

/* The answer to RR_TYPE_RELOAD: this, then the error's text. To RR_TYPE_SAVED: if it is ok, behind it stand the files that were
 * run, "" = nothing had changed. */
typedef struct rr_reload_reply {
    uint32_t ok, version;
} rr_reload_reply_t;

#endif
