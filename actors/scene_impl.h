/* scene_impl.h: the inside of a scene, shared by its files. Private to actors/. Everything is touched by the scene's
 * turn only, except the counters (read by metrics) and `wake_wanted`.
 *
 * A session's life here:
 *
 *     VERIFYING --yes--> (WAITING for an older login of its id) --> ENTERING --> READY <--> MOVING --> AWAY or gone
 *     ENTER from another scene ----(WAITING)----------------------> ENTERING
 *     READY, the client left, handlers finished --> OFFLINE --> freed
 *     AWAY: registered here, held by another scene; --left--> OFFLINE
 *
 * The logic is called from the outermost level only: what it asks for inside a call and what would call it again (a
 * late verdict, the end of a coroutine, an error known at once) is put into `todo` and done by rr__scene_settle, after
 * the record or message in hand. So no function of a session's life needs to fear that its session is freed by a call
 * it makes. */
#ifndef RR_ACTORS_SCENE_IMPL_H
#define RR_ACTORS_SCENE_IMPL_H

#include "actors/map.h"
#include "actors/outlet.h"
#include "actors/scene.h"
#include "net/connection.h"

/* The last list of a MULTICAST in the batch that is being filled for a shard. */
typedef struct rr__listed {
    uint32_t count; /* of its sessions; 0 = none yet */
    uint32_t cuts;  /* of the outlet: which batch it is in */
    size_t at;      /* in it */
    enum { RR__LIST_NEW, RR__LIST_DIFFERENT, RR__LIST_DOUBLE } kind; /* DIFFERENT: nobody is in it twice; NEW: not known yet */
} rr__listed_t;

/* A shard of a gate, as the scene sees it. */
typedef struct rr__peer {
    struct rr__peer *next;
    rr_scene_t *scene;
    rr_addr_t addr;
    char *gate;
    rr_session_t **slots; /* slot -> the session there, NULL if none of ours */
    uint32_t slot_capacity;
    uint32_t held; /* sessions of this shard that hear our broadcasts */
    rr_outlet_t out;
    rr__listed_t listed;
    bool dead;
    bool dirty;   /* in this turn's list of those to flush */
    bool blocked; /* its mailbox was full; retried by timer */
    struct rr__peer *next_dirty;
    bool named;   /* was told our name */
    bool quiet;   /* gives us no new sessions, as it was asked */
    uint32_t hello_flags;
    uint64_t messages, bytes;             /* handled of its input */
    uint64_t acked_messages, acked_bytes; /* and told */
    uint32_t window, window_bytes;
    bool body_follows; /* the next RR_TYPE_INPUT_BODY is `pending`'s */
    rr_record_t pending;
    uint8_t *pending_head;
} rr__peer_t;

typedef enum rr__session_state {
    RR__VERIFYING,
    RR__WAITING,
    RR__ENTERING,
    RR__READY,
    RR__MOVING,
    RR__AWAY,
    RR__OFFLINE,
    RR__GONE, /* moved away; kept until its handlers have ended */
} rr__session_state_t;

enum {
    RR__LEFT = 1,        /* the client is gone (or must be taken for gone) */
    RR__CLOSING = 2,     /* CLOSE was sent; nothing more is said or heard */
    RR__LOGIN = 4,       /* this scene is its login scene: the id is registered here */
    RR__LOGIN_LEFT = 8,  /* its shard said so to the login scene, not yet to the holder, both of which we are */
    RR__MAPPED = 16,     /* peer->slots[slot] is this one */
    RR__TABLED = 32,     /* scene->ids has it */
    RR__USER = 64,       /* logic->session_new was called */
    RR__DROPPED = 128,   /* the move here was given up while its enter ran */
    RR__CANCELLED = 256, /* its handlers were told to end */
    RR__WATCHED = 512,
    RR__JOINED = 1024, /* counted in peer->held */
    RR__ENDING = 2048, /* the scene stops: its handlers get their time while the client still hears them */
    RR__STAYS = 4096,     /* the hand-over leaves it here: nobody takes it */
    RR__HELD_BACK = 8192, /* an attempt to hand it over failed: the next is made with the hand-over's beat */
    RR__ENDS_HERE = 16384, /* the logic keeps it to the scene's end, which is its own: no gate keeps it for the next owner */
};

typedef struct rr__queued {
    struct rr__queued *next;
    rr_buffer_t *owner; /* of body, NULL: body stands behind this */
    const uint8_t *body;
    uint32_t size;
    uint16_t cmd;
} rr__queued_t;

/* Whose the ids of a list were when all of its scene's were last looked at. */
typedef struct rr__known_list {
    uint64_t number;  /* rr_scene_multi_send's; 0 = none */
    uint64_t version; /* the scene's ids_version then: if it is another now, `sessions` means nothing */
    rr_session_t **sessions; /* for each id; NULL where there was none */
} rr__known_list_t;

/* A handler that runs on. */
typedef enum rr__op_kind {
    RR__OP_ENTER,
    RR__OP_MESSAGE,
    RR__OP_OFFLINE,
    RR__OP_LEAVE,
    RR__OP_HAND_OVER,
    RR__OP_LOAD,
    RR__OP_CLEANUP
} rr__op_kind_t;
typedef struct rr__op {
    struct rr__op *next, **prev; /* of its session */
    rr_session_t *session;       /* NULL: none, or it could not wait any longer */
    uint64_t token;
    rr__op_kind_t kind;
} rr__op_t;

/* What only sessions on their way need. */
typedef struct rr__transit {
    uint64_t cb_id; /* VERIFYING */
    uint32_t login_flags;
    rr_session_t *older; /* WAITING for it */
    rr_session_t *next_waiter;
    void *extra; /* WAITING: of the verdict */
    size_t extra_size;
    bool has_extra;
    bool resumed;          /* its former scene is gone: it comes from its gate */
    bool announced;        /* it lives elsewhere, as its gate says */
    rr_message_t *enter;   /* moved here: the call to answer */
    struct rr__move *move; /* moving away */
} rr__transit_t;

/* A move away. Outlives its session if that is forced out meanwhile. */
typedef struct rr__move {
    struct rr__move *next, **prev;
    rr_scene_t *scene;
    rr_session_t *session; /* NULL: gone */
    rr__peer_t *peer;
    uint64_t incarnation;
    uint32_t slot, hop;
    rr_addr_t target;
    uint64_t token;
    bool fenced; /* the ENTER call is out: the move is freed by its end */
    bool late;   /* its enter handler must end first */
    bool handing; /* of a hand-over */
    bool again;   /* and not its session's first attempt */
    bool back;    /* to its gate: to is our own name */
    void *extra;
    size_t extra_size;
    char *to; /* scene name */
} rr__move_t;

/* All sessions are handed over to other scenes. */
typedef struct rr__hand_over {
    rr_message_t *call; /* to be answered at the end; NULL = answered, or asked for by the logic */
    uint64_t token;     /* of the logic, 0 = none */
    uint64_t deadline_ns, force_ns; /* its end; from when on running handlers are not waited for */
    uint64_t back_ns;               /* from when on those that nobody took, as was tried, are given back */
    uint64_t late_ns;               /* as force_ns, for those that failed: they were served meanwhile */
    uint64_t retry_ns;              /* not before then those that failed */
    unsigned retry_ms;              /* the last pause before it; 0 = none failed since one moved */
    uint64_t moved, given_back;
    uint64_t cut;    /* of both: sessions whose handlers still ran */
    uint32_t moving; /* under way */
    bool reopen, elsewhere, back;
    bool stop; /* RR_TYPE_STOP waits for the last */
    bool over; /* told; what comes late is still handed over */
    char to[RR_SID_MAX]; /* "" = options->drain_to */
} rr__hand_over_t;

/* What most sessions never need; made on first use, kept until the session ends. */
typedef struct rr__rare {
    uint64_t deadline_ns; /* of its watch */
    rr_session_t *watch_next, **watch_prev;
    rr_session_t *waiters; /* newer logins of the same id, oldest first */
} rr__rare_t;

/* The scene is its peer's: an idle session takes 128 bytes, and there are many. */
struct rr_session {
    rr__peer_t *peer;
    uint64_t incarnation;
    rr_sid_t id; /* text is owned */
    void *user;
    uint32_t online_time; /* Unix seconds, until the year 2106 */
    uint32_t slot, hop;
    uint16_t flags;
    uint8_t state;
    uint8_t reason;   /* rr_close_reason_t, once LEFT */
    uint16_t running; /* pending handlers: messages and leave */
    uint16_t queued;
    uint32_t queued_bytes;
    rr__queued_t *first, **last;
    rr__op_t *ops;
    rr__transit_t *transit;
    rr__rare_t *rare;
    rr_session_t *all_next, **all_prev;
};
_Static_assert(sizeof(struct rr_session) <= 128, "an idle session of a scene");
#define RR__RUNNING_MAX 60000u /* concurrent handlers of one session */

static inline rr_scene_t *rr__scene_of(const rr_session_t *session) {
    return session->peer->scene;
}

typedef struct rr__backlog_item {
    struct rr__backlog_item *next;
    rr_message_t *msg;
} rr__backlog_item_t;

typedef enum rr__todo_kind { RR__TODO_VERDICT, RR__TODO_DONE, RR__TODO_ANSWER, RR__TODO_HAND_TO } rr__todo_kind_t;
typedef struct rr__todo {
    struct rr__todo *next;
    rr__todo_kind_t kind;
    rr_session_t *session; /* VERDICT */
    uint64_t token;        /* DONE, ANSWER, HAND_TO */
    int status;            /* DONE, HAND_TO; VERDICT: its code */
    rr_sid_t id;           /* VERDICT: text in data */
    bool has_extra;
    size_t extra_size;
    bool answered;         /* ANSWER: data is the answer, no error */
    char data[]; /* VERDICT: id text, extra; ANSWER: error text or body; HAND_TO: u32 1 + size of scene, scene, state */
} rr__todo_t;

#define RR__LATENCY_BUCKETS 14 /* 64 µs … 524 ms by doubling, then more */

/* Written by the scene's turn, read by metrics. */
typedef struct rr__scene_counters {
    rr_counter_t sessions, away, messages, handler_errors, no_handler, bad_bodies, unknown_sessions, queue_full, stale;
    rr_counter_t resumed, handed_over, given_back, hand_over_cut, hand_over_failures;
    rr_counter_t logins, refused, replaced, offlines, moves_out, moves_in, move_failures, cancelled, verify_timeouts;
    rr_counter_t sends, multicasts, broadcasts, sent_bytes, send_refused, services, calls, call_errors, timers,
        overloads;
    rr_counter_t queries, query_failures, query_events, query_events_lost;
    rr_counter_t bad_records, queued, queued_bytes, queue_total_full, pending_handlers, backlog, turns_cut, reloads, version;
    rr_counter_t latency_sum_us, latency[RR__LATENCY_BUCKETS];
} rr__scene_counters_t;

struct rr_scene {
    rr_actor_t *self;
    rr_system_t *system;
    rr_addr_t addr;
    const rr_scene_options_t *options;
    const rr_scene_logic_t *logic;
    void *state; /* the logic's */

    bool created;  /* load was called: destroy must be */
    bool loaded;   /* serves */
    bool handed_over; /* it was closed by a hand-over: sessions registered only live on … */
    bool node_ends;   /* … but for those of this node's gates */
    bool stopping; /* RR_TYPE_STOP is being carried out */
    bool cleaned;
    bool entered; /* logic->turn_begin was called in this turn */
    bool settling;
    bool run_queued, watching, retrying;
    bool run_due;         /* the logic asked for run() */
    int depth;            /* inside a call of the logic */
    uint64_t turn_end_ns; /* 0 = not yet known */
    uint64_t flushed_ns;
    uint64_t next_token;
    uint64_t run_timer;
    uint64_t stop_until_ns;   /* what stops it gives up then; 0 = it did not say */
    unsigned offline_wait_ms; /* the option, or less: what such a stop leaves */
    uint64_t stop_deadline_ns, serve_deadline_ns;
    /* Set by any thread (release) that wants run() and could not or need not send a message; taken by the turn
     * (acquire). */
    _Atomic(bool) wake_wanted;

    rr__peer_t *peers, *dirty;
    unsigned blocked; /* peers */
    rr_set_t ids;
    uint64_t ids_version; /* one more with each change of ids */
    rr__known_list_t lists[RR_SCRIPT_LISTS];
    rr_map_t ops, verdicts, timers_by_token, timers_by_id, requests, downs /* monitor id -> peer or name */;
    rr_map_t queries; /* token -> its database's address */
    rr_set_t names; /* of other actors, for calls */
    rr__move_t *moves;
    rr__hand_over_t *hand_over; /* NULL: none */
    rr_session_t *watched, *all;
    rr__backlog_item_t *backlog, **backlog_last;
    bool reading; /* the oldest of the backlog is a batch, read up to `reader` */
    rr_batch_reader_t reader;
    rr__todo_t *todo, **todo_last;
    uint64_t warned_ns, unwarned;
    uint64_t crowded_ns, crowded; /* the last warning about queue_total, and sessions closed since */
    uint64_t last_id;
    rr__scene_counters_t count;
};

/* ---- scene.c ---- */

/* Around every call of the logic. */
void rr__logic_begin(rr_scene_t *scene);
void rr__logic_end(rr_scene_t *scene);
void rr__scene_settle(rr_scene_t *scene);
bool rr__scene_todo(rr_scene_t *scene, rr__todo_t *todo); /* queues it; false if todo is NULL */
void rr__scene_fail(rr_scene_t *scene, uint64_t token,
                    const char *text);   /* answer(token, error) soon; token 0: nothing */
void rr__scene_again(rr_scene_t *scene); /* another turn soon */
void rr__scene_stop(rr_scene_t *scene);  /* RR_TYPE_STOP */
void rr__scene_idle(rr_scene_t *scene);  /* something ended: may the stop go on? */
void rr__scene_loaded(rr_scene_t *scene, int status, const char *why);
void rr__scene_cleaned(rr_scene_t *scene);
static inline void rr__count_down(rr_counter_t *c) {
    rr_count(c, (uint64_t)-1);
}

/* ---- scene_session.c ---- */

rr_session_t *rr__session_at(rr__peer_t *peer, uint32_t slot, uint64_t incarnation);
void rr__on_left(rr_scene_t *scene, rr__peer_t *peer, const rr_record_t *record);
void rr__on_resume(rr_scene_t *scene, rr__peer_t *peer, const rr_record_t *record, const uint8_t *body, size_t size);
void rr__on_announce(rr_scene_t *scene, rr__peer_t *peer, const rr_record_t *record);
void rr__on_done(rr_scene_t *scene, uint64_t token, int status);
void rr__on_watch(rr_scene_t *scene); /* timer: deadlines */
void rr__peer_down(rr_scene_t *scene, rr__peer_t *peer);
void rr__sessions_stop(rr_scene_t *scene); /* offline for all */
void rr__sessions_free(rr_scene_t *scene); /* at the end, without a word */
bool rr__op_add(rr_scene_t *scene, rr_session_t *session, rr__op_kind_t kind, uint64_t token);
bool rr__session_held(const rr_session_t *session); /* may be sent to */

/* For the other files of a session's life. */
rr_session_t *rr__session_new(rr_scene_t *scene, rr__peer_t *peer, uint32_t slot, uint64_t incarnation);
void rr__session_free(rr_session_t *session); /* at once, telling nobody but the logic */
bool rr__session_set_id(rr_session_t *session, const rr_sid_t *id);
rr_session_t *rr__session_by_id(rr_scene_t *scene, const rr_sid_t *id);
bool rr__session_table(rr_session_t *session);
void rr__session_unmap(rr_session_t *session);
void rr__session_join(rr_session_t *session, const void *extra, size_t size);
void rr__session_part(rr_session_t *session);
void rr__session_enter(rr_session_t *session, const char *from, const void *extra, size_t size);
void rr__session_offline(rr_session_t *session);
void rr__session_depart(rr_session_t *session); /* moved away: AWAY or GONE */
void rr__session_keep_away(rr_session_t *session); /* given back: AWAY */
void rr__session_end(rr_session_t *session, rr_close_reason_t reason); /* given back, to begin anew: offline */
void rr__watch(rr_session_t *session, uint64_t ms);
void rr__unwatch(rr_session_t *session);
rr__transit_t *rr__transit(rr_session_t *session); /* made if need be; NULL when out of memory */
void rr__transit_free(rr_session_t *session);
int rr__session_set_user(rr_session_t *session);
rr__rare_t *rr__session_rare(rr_session_t *session); /* made if need be; NULL when out of memory */
void rr__session_over(rr_session_t *session); /* the client is still connected, but from here on its session is over */
void rr__ops_cancel(rr_session_t *session);
void rr__ops_orphan(rr_session_t *session); /* handlers that still run end for nobody */

/* ---- scene_login.c ---- */

void rr__on_verify(rr_scene_t *scene, rr__peer_t *peer, const rr_record_t *record, const uint8_t *key, size_t size);
void rr__on_verdict(rr_session_t *session, const rr_verdict_t *verdict);
void rr__session_refuse(rr_session_t *session, const void *extra, size_t size, bool has_extra);
bool rr__session_keep_extra(rr_session_t *session, const rr_verdict_t *verdict); /* false: out of memory */
/* One id, several sessions: the newest wins, one after the other. */
void rr__session_wait_for(rr_session_t *session, rr_session_t *older);
rr_session_t *rr__session_take_waiters(rr_session_t *session);
void rr__session_promote(rr_session_t *session); /* it has waited, and comes next */
void rr__session_resume(rr_session_t *session);
void rr__session_finish(rr_session_t *session); /* its end here; who waited for it comes next */
void rr__session_force_out(rr_session_t *older); /* it must be over now, whatever it does */

/* ---- scene_queue.c ---- */

void rr__on_message(rr_scene_t *scene, rr__peer_t *peer, const rr_record_t *record, const uint8_t *body, size_t size,
                    rr_buffer_t *owner);
void rr__session_advance(rr_session_t *session); /* what waits, as far as it may run now */
void rr__queue_drop(rr_session_t *session);

/* ---- scene_move.c ---- */

void rr__on_enter(rr_scene_t *scene, rr_message_t *msg); /* takes it over (it is taken already) */
void rr__enter_start(rr_session_t *session);             /* a moved session may enter now */
void rr__enter_over(rr_session_t *session, int status);  /* its enter handler ended */
void rr__on_fence(rr_scene_t *scene, rr__peer_t *peer, const rr_record_t *record);
void rr__on_drop(rr_scene_t *scene, rr__peer_t *peer, const rr_record_t *record);
void rr__on_forget(rr_scene_t *scene, const rr_message_t *msg);
void rr__move_start(rr_session_t *session);
void rr__move_back(rr_session_t *session); /* the same, to its gate */
void rr__move_abort(rr_session_t *session, const char *why); /* before its fence */
void rr__move_orphan(rr_session_t *session);                 /* its session, which has one, is over */
void rr__moves_free(rr_scene_t *scene);
rr__move_t *rr__move_new(rr_session_t *session, const char *to, const void *extra, size_t size, uint64_t token);
bool rr__move_set(rr__move_t *move, const char *to, const void *extra, size_t size);

/* ---- scene_handover.c ---- */

void rr__on_hand_over(rr_scene_t *scene, rr_message_t *msg); /* takes it over (it is taken already) */
void rr__hand_over_beat(rr_scene_t *scene);                  /* timer */
bool rr__hand_over_delays(rr_scene_t *scene); /* the stop waits for those under way, a little; it comes again then */
void rr__hand_over_stop(rr_scene_t *scene);   /* the scene stops: answers */
void rr__hand_over_free(rr_scene_t *scene);
void rr__hand_over_failed(rr_session_t *session); /* an attempt: the next one comes later */
/* One more session is away: back, at its gate; cut: its handlers still run, and nobody waits for them any more. */
void rr__hand_over_moved(rr_scene_t *scene, bool back, bool cut);
bool rr__hand_over_ends(const rr_session_t *session); /* its gate ends together with this scene */
void rr__hand_over_hello(rr_scene_t *scene, rr__peer_t *peer); /* a shard that must be told */
/* True: the session is to be handed over now rather than handle its next message. */
bool rr__hand_over_wants(const rr_session_t *session);
void rr__hand_over_session(rr_session_t *session); /* begins it; may free the session */
void rr__on_hand_to(rr_scene_t *scene, uint64_t token, int status, const rr_hand_to_t *to);
void rr__hand_over_answered(rr_session_t *session, int status, const rr_hand_to_t *to);

/* ---- scene_send.c ---- */

rr__peer_t *rr__peer(rr_scene_t *scene, rr_addr_t addr, bool create);
/* A record to a peer; body may be NULL to have nothing. Out of memory is logged: the gate loses track otherwise. */
void rr__tell(rr__peer_t *peer, rr_scene_t *scene, uint16_t kind, uint16_t cmd, uint32_t slot, uint64_t incarnation,
              uint32_t arg, const void *head, size_t head_size, const void *body, size_t size);
void rr__tell_session(rr_session_t *session, uint16_t kind, uint32_t arg);
void rr__close_session(rr_session_t *session, rr_close_reason_t reason);
void rr__peer_dirty(rr_scene_t *scene, rr__peer_t *peer);
void rr__scene_flush(rr_scene_t *scene); /* sends what is for the shards */
void rr__peers_free(rr_scene_t *scene); /* and what is remembered of lists */

/* ---- scene_database.c ---- */

void rr__on_query_event(rr_scene_t *scene, rr_message_t *msg);
void rr__database_down(rr_scene_t *scene, const char *name);
void rr__queries_free(rr_scene_t *scene); /* cancels what is under way */

/* ---- scene_letters.c ---- */

void rr__on_dead_letter(rr_scene_t *scene, const rr_message_t *msg);

/* ---- scene_calls.c ---- */

void rr__on_service(rr_scene_t *scene, rr_message_t *msg); /* taken already */
void rr__on_script_timer(rr_scene_t *scene, uint64_t id);
bool rr__on_name_down(rr_scene_t *scene, uint64_t monitor);
void rr__calls_free(rr_scene_t *scene);
rr_addr_t rr__scene_lookup(rr_scene_t *scene, const char *name);
rr_addr_t rr__scene_lookup_database(rr_scene_t *scene, const char *name); /* the logic hears of its end */

#endif
