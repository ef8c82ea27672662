/* gate_impl.h: the inside of a gate, shared by its files. Private to actors/.
 *
 * rr_gate belongs to whoever created it; its actors (control, shards) point to it and are gone when it is destroyed. A
 * shard and its slots are touched by its loop's thread only, in two ways: inside turns of its actor, and in callbacks
 * of its connections between turns. Callbacks may not send (they are no turn): they append to outlets and ask for a
 * turn, which comes in the same iteration of the loop and whose end sends everything, each scene's share as one
 * message.
 *
 * A slot's states:
 *     OPEN --first message--> LOGIN --ACCEPT--> ACTIVE <--MOVE / STAY, MOVED--> MOVING
 *       \________________________\________________\___________________________\--> CLOSED --socket gone--> free */
#ifndef RR_ACTORS_GATE_IMPL_H
#define RR_ACTORS_GATE_IMPL_H

#include <pthread.h>

#include "actors/gate.h"
#include "actors/outlet.h"

typedef struct rr__shard rr__shard_t;
typedef struct rr__slot rr__slot_t;

typedef struct rr__link { /* of a ring; next NULL: of none */
    struct rr__link *next, *prev;
} rr__link_t;

/* A scene that this shard talks to. Lives until it is dead and no slot names it. */
typedef struct rr__scene_ref {
    struct rr__scene_ref *next;
    rr_addr_t addr;
    uint64_t monitor; /* 0: not yet; in turns only */
    rr_outlet_t out;
    bool dirty, dead;
    struct rr__scene_ref *next_dirty;
    uint32_t users;                    /* slots that name it */
    rr__slot_t *members;               /* sessions that hear its broadcasts */
    rr__link_t paused;                 /* ring of those not read because it does not keep up, oldest first */
    uint64_t records, bytes;           /* given to its outlet */
    uint64_t done_records, done_bytes; /* acknowledged */
    bool resuming;
    bool body_follows; /* its next RR_TYPE_BODY is `pending`'s */
    rr_record_t pending;
    uint8_t *pending_head;
} rr__scene_ref_t;

typedef enum rr__slot_state {
    RR__FREE = 0,
    RR__OPEN,
    RR__LOGGING_IN,
    RR__ACTIVE,
    RR__MOVED_OFF,
    RR__CLOSED
} rr__slot_state_t;

typedef struct rr__held { /* input of a session on the move */
    struct rr__held *next;
    rr_buffer_t *owner; /* NULL: the body stands behind this */
    const uint8_t *body;
    uint32_t size;
    uint16_t cmd;
} rr__held_t;

typedef struct rr__hold {
    rr__held_t *first, **last;
    uint32_t count;
    size_t bytes;
    rr__held_t *returned, **returned_last; /* what the old scene gave back, to go first */
} rr__hold_t;

struct rr__slot {
    rr__shard_t *shard;
    rr_connection_t *connection;
    uint64_t incarnation;
    rr__scene_ref_t *scene;  /* holds the session (LOGIN: the login scene) */
    rr__scene_ref_t *login;  /* has its id registered */
    rr__scene_ref_t *member; /* whose broadcasts it hears */
    rr__slot_t *member_next, **member_prev;
    rr__link_t paused; /* next NULL: it is read */
    rr__slot_t *wheel_next, **wheel_prev;
    rr__hold_t *hold;
    uint8_t *sid; /* u16 size, encoded id; NULL before ACCEPT */
    void *ip;     /* entry of the per-address count, NULL if not counted */
    int64_t online_time;
    uint32_t index;
    union {
        uint32_t hop;           /* from ACCEPT on */
        uint32_t pending_bytes; /* before: sent behind the login */
    };
    uint32_t alive_tick; /* last bytes */
    union {
        uint32_t ping_tick;   /* last ping, from ACCEPT on */
        uint32_t opened_tick; /* before */
    };
    uint32_t rate_tick; /* tokens were added up to here */
    float rate_tokens;
    uint16_t pending_messages;
    uint8_t state; /* rr__slot_state_t */
    uint8_t flags;
};
_Static_assert(sizeof(struct rr__slot) <= 160, "an idle client's part at the gate");
enum {
    RR__SLOT_STAYED = 1,    /* the move with the number `hop` is over */
    RR__SLOT_MOVE_EARLY = 2 /* the target moves it on already, before its old scene has said MOVED */
};

#define RR__CHUNK_SLOTS 256u /* 40 KiB: a size class of jemalloc */
#define RR__WHEEL       256u

/* Written by the shard's thread, read by metrics. */
typedef struct rr__shard_counters {
    rr_counter_t connections, sessions, logins, messages_in, bytes_in, messages_out, bytes_out, batches_in, batches_out;
    rr_counter_t multicasts, broadcasts, pauses, heartbeats, pings, stale, bad_records, no_login_scene, dropped;
    rr_counter_t limit_connections, limit_per_ip, limit_pending_logins, limit_pending_queue, limit_held, limit_rate;
    rr_counter_t closes[RR_CLOSE_REASON_COUNT];
} rr__shard_counters_t;

struct rr__shard {
    rr_gate_t *gate;
    rr_loop_t *loop;
    rr_system_t *system;
    rr_actor_t *self; /* NULL before start and after finish */
    rr_addr_t addr;
    char *name;
    unsigned index;

    rr__slot_t **chunks;
    uint32_t chunk_count;
    rr__slot_t *free; /* through wheel_next */
    uint64_t last_incarnation;
    uint32_t open; /* connections */

    rr__scene_ref_t *scenes, *dirty;
    rr__scene_ref_t *login; /* the login scene, NULL = none now */
    bool turn_asked;        /* RR_TYPE_FLUSH is under way */
    bool in_turn;
    bool accepting, draining, closing;
    struct rr__latch *drain_latch, *close_latch;

    uint32_t tick; /* since start, in gate->tick_ms */
    bool ticking;
    rr__slot_t *wheel[RR__WHEEL];
    rr__shard_counters_t count;
    uint64_t dropped_warned_ns,
        dropped_unwarned; /* the last warning about a message above max_packet, and those since */
};

/* Lets a thread outside wait for actors. Freed by the last of both. */
typedef struct rr__latch {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned count; /* under lock, like users */
    unsigned users;
} rr__latch_t;
rr__latch_t *rr__latch_new(unsigned count);
void rr__latch_down(rr__latch_t *latch);                       /* one less to wait for; drops a user */
bool rr__latch_wait(rr__latch_t *latch, unsigned deadline_ms); /* false: time is up; drops a user */
void rr__latch_drop(rr__latch_t *latch, unsigned users);

struct rr_gate {
    rr_system_t *system;
    rr_gate_options_t options; /* strings owned */
    char *name, *login_name, *editor_scene, *editor_script, *editor_token, *client_js;
    char **subprotocols;                  /* NULL-terminated, or NULL */
    rr_connection_options_t *connections; /* per listener */
    rr_http_handler_t *http;              /* per listener */
    struct rr__gate_port {
        rr_gate_t *gate;
        rr_listener_t *listener;
        size_t index;
        bool started;
    } * ports;
    size_t port_count;
    rr__shard_t *shards;
    size_t shard_count;
    rr_addr_t control;
    rr_actor_t *control_self; /* its thread only */
    bool listening;           /* its thread only */
    _Atomic(bool) stopped;    /* set once by the thread that drains; a late start of listening looks at it (relaxed:
                                 rr_listener_stop makes a start that comes too late harmless) */
    unsigned tick_ms, login_ticks, idle_ticks;
    /* Gate-wide counts against limits. Any shard adds and subtracts; relaxed: only their own value matters, and an
     * overshoot by one per shard is harmless. */
    _Atomic(uint32_t) connection_count, pending_logins, session_count;
    /* Connections per address, under the lock: touched at connect and close, only if max_per_ip is set. */
    pthread_mutex_t ip_lock;
    void *ips;
    struct rr__gate_http *web; /* folders and editor, gate_http.c */
};

/* ---- shard.c ---- */

extern const rr_behavior_t rr__shard_behavior;
void rr__shard_accept(void *context, rr_loop_t *loop, int fd); /* context: struct rr__gate_port */
void rr__shard_close(rr__slot_t *slot, rr_close_reason_t reason);
rr__slot_t *rr__shard_slot(rr__shard_t *shard, uint32_t slot, uint64_t incarnation); /* NULL: nobody, or closed */
void rr__shard_ask_turn(rr__shard_t *shard);
int rr__shard_init(rr__shard_t *shard, rr_gate_t *gate, rr_loop_t *loop, unsigned index);
void rr__shard_free(rr__shard_t *shard);

/* For shard_output.c. */
rr__scene_ref_t *rr__scene_ref(rr__shard_t *shard, rr_addr_t addr); /* made if need be; NULL: out of memory */
void rr__ref_dirty(rr__shard_t *shard, rr__scene_ref_t *ref);
void rr__ref_use(rr__scene_ref_t **field, rr__scene_ref_t *ref); /* sets a slot's field, counting users */
void rr__ref_record(rr__slot_t *slot, rr__scene_ref_t *ref, uint16_t kind, uint32_t arg);
void rr__ref_fence(rr__slot_t *slot, rr__scene_ref_t *ref); /* for the slot's hop; may close the slot */
/* A message of the session to the scene that holds it. */
void rr__slot_forward(rr__slot_t *slot, uint16_t cmd, const uint8_t *body, size_t size, rr_buffer_t *owner);
void rr__slot_member(rr__slot_t *slot, rr__scene_ref_t *ref); /* NULL: of none */
void rr__hold_free(rr__slot_t *slot);
void rr__slot_unpause(rr__slot_t *slot);
void rr__slot_watch(rr__slot_t *slot); /* its limits changed: looks at them anew */
void rr__ref_resume(rr__shard_t *shard, rr__scene_ref_t *ref);

/* ---- shard_output.c ---- */

void rr__shard_output(rr__shard_t *shard, rr_message_t *msg); /* RR_TYPE_OUTPUT */
void rr__shard_body(rr__shard_t *shard, rr_message_t *msg);   /* RR_TYPE_BODY */

/* ---- gate_limits.c ---- */

bool rr__ip_enter(rr_gate_t *gate, const char *ip, void **entry); /* false: over the limit */
void rr__ip_leave(rr_gate_t *gate, void *entry);
void rr__ips_free(rr_gate_t *gate);

/* ---- gate_http.c ---- */

int rr__gate_http_init(rr_gate_t *gate, char *why, size_t why_size);
void rr__gate_http_free(rr_gate_t *gate);
void rr__gate_http_request(void *context, const rr_http_request_t *request,
                           rr_http_reply_t *reply); /* context: struct rr__gate_port */

/* ---- gate_editor.c ---- */

/* True if the request is the editor's and is (or will be) answered. */
bool rr__editor_request(struct rr__gate_port *port, const rr_http_request_t *request, rr_http_reply_t *reply);
/* RR_TYPE_JOB: a reload that waits for a turn. */
void rr__editor_job(rr__shard_t *shard, void *job);
void rr__editor_job_free(void *job);

#endif
