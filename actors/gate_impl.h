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
 *       |                       | ^               |  ^---the name's next owner---.  |
 *       |                       | '--key kept-----|--------------------------- LOST <--scene gone (scene_lost)
 *       '-----------------------'-----------------'--> CLOSED --socket gone--> free */
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

/* A scene that this shard talks to. Lives until it is dead and no slot names it. One that was out of reach and is back, under
 * the same address, has ended our sessions meanwhile: it is another one, beside the dead one that slots still name. */
typedef struct rr__scene_ref {
    struct rr__scene_ref *next;
    rr_addr_t addr;
    char *name;      /* NULL until it said it */
    uint32_t lost;   /* slots that wait for the name's next owner; then it is dead */
    rr_addr_t found; /* that owner; asking: whether it serves */
    bool asking;
    bool superseded; /* dead for us, but its end was not told yet */
    bool unheard;    /* we know of it by a MOVED only: it may be dead */
    int ended;       /* if dead: how; RR_OK: in order, nobody crashed, no node was lost */
    bool draining;   /* takes no new sessions */
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
    bool body_follows; /* its next RR_TYPE_OUTPUT_BODY is `pending`'s */
    rr_record_t pending;
    uint8_t *pending_head;
} rr__scene_ref_t;

typedef enum rr__slot_state {
    RR__FREE = 0,
    RR__OPEN,
    RR__LOGGING_IN,
    RR__ACTIVE,
    RR__MOVED_OFF,
    RR__LOST, /* scene: the dead one, whose name's next owner gets it; NULL: it waits to log in again */
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
    rr__held_t *returned, **returned_last; /* what the old scene gave back, or was never sent, to go first */
    rr__held_t *extra; /* of the enter at the new scene, cmd RR_JOIN_*: kept when the move has succeeded */
    uint32_t since;    /* tick: LOST */
    bool arrived;      /* MOVED_OFF, and `scene` is the new one already: waits for its JOIN, or for word that there is none */
    bool asked;        /* arrived: that word is asked for */
    bool forgotten;    /* MOVED_OFF: the new scene said JOIN, and was out of reach since: it has ended the session */
} rr__hold_t;

/* What a slot remembers of its session, one behind the other: the id (encoded; from ACCEPT on), the session key, and the
 * extra of its last enter, these two only as far as scene_lost wants them. */
typedef enum rr__part { RR__KEPT_SID, RR__KEPT_KEY, RR__KEPT_EXTRA, RR__KEPT_PARTS } rr__part_t;
typedef struct rr__kept {
    uint16_t size[RR__KEPT_PARTS];
    uint8_t data[];
} rr__kept_t;

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
    rr__kept_t *kept; /* NULL = nothing */
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
#define RR__EARLY_SHIFT 5
enum {
    RR__SLOT_STAYED = 1,    /* the move with the number `hop` is over */
    RR__SLOT_MOVE_EARLY = 2, /* the target moves it on already, before its old scene has said MOVED */
    RR__SLOT_WAITS = 4,      /* for a login scene: one of shard->waiting */
    RR__SLOT_AGAIN = 8,      /* LOGGING_IN: not for the first time, the client knows nothing of it */
    RR__SLOT_NO_EXTRA = 16,  /* its enter's extra was too large to keep */
    RR__SLOT_EARLY_CMD = 3 << RR__EARLY_SHIFT, /* the cmd of that early MOVE (RR_MOVE_*), as long as it waits */
};
_Static_assert((RR_MOVE_BACK | RR_MOVE_EXTRA) << RR__EARLY_SHIFT == RR__SLOT_EARLY_CMD, "an early MOVE keeps its whole cmd");

#define RR__CHUNK_SLOTS 256u /* 40 KiB: a size class of jemalloc */
#define RR__WHEEL       256u

/* Written by the shard's thread, read by metrics. */
typedef struct rr__shard_counters {
    rr_counter_t connections, sessions, logins, messages_in, bytes_in, messages_out, bytes_out, batches_in, batches_out;
    rr_counter_t lost, losses, resumes, relogins;
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
    bool login_drained;     /* it was drained, or is: logins wait for the next */
    uint32_t waiting;       /* slots that wait for a login scene */
    bool seeking;           /* TAG_SEEK is under way */
    bool unasked;           /* some slot arrived where it could not be asked for the JOIN: TAG_SEEK asks */
    uint32_t looked_tick;   /* the last look for names that belong to others now */
    bool turn_asked;        /* RR_TYPE_FLUSH is under way */
    bool in_turn;
    bool accepting, draining, closing;
    struct rr__latch *drain_latch, *close_latch;

    uint32_t tick; /* since start, in gate->tick_ms */
    bool ticking;
    rr__slot_t *wheel[RR__WHEEL];
    rr_shared_row_t *row; /* of broadcasts or multicasts to one list, empty between two records that are none; NULL until the first */
    const uint8_t *row_list; /* whom a row that is not empty is for, in the batch at hand; NULL: the scene's members */
    uint32_t row_listed;
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
    uint64_t moved, left; /* under lock: what they had to say (hand-over) */
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
    unsigned tick_ms, login_ticks, idle_ticks, lost_ticks;
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
/* The one that has the address; a dead one only as long as its end was not told. NULL: none. */
rr__scene_ref_t *rr__scene_known(const rr__shard_t *shard, rr_addr_t addr);
void rr__ref_dirty(rr__shard_t *shard, rr__scene_ref_t *ref);
/* A record for a scene, and how much of its window it takes; RR_OK or RR_ENOMEM. What is for a dead one goes nowhere. */
int rr__ref_put(rr__shard_t *shard, rr__scene_ref_t *ref, uint16_t kind, uint16_t cmd, uint32_t slot,
                uint64_t incarnation, uint32_t arg, const void *head, size_t head_size, const void *body, size_t size,
                rr_buffer_t *owner);
void rr__ref_use(rr__scene_ref_t **field, rr__scene_ref_t *ref); /* sets a slot's field, counting users */
void rr__ref_record(rr__slot_t *slot, rr__scene_ref_t *ref, uint16_t kind, uint32_t arg);
/* For the slot's hop; back: RR_BACK_*. May close the slot. */
void rr__ref_fence(rr__slot_t *slot, rr__scene_ref_t *ref, uint16_t back);
/* A message of the session to the scene that holds it. */
void rr__slot_forward(rr__slot_t *slot, uint16_t cmd, const uint8_t *body, size_t size, rr_buffer_t *owner);
void rr__slot_member(rr__slot_t *slot, rr__scene_ref_t *ref); /* NULL: of none */
void rr__hold_free(rr__slot_t *slot);
bool rr__hold_make(rr__slot_t *slot); /* there is one now; false: out of memory */
void rr__hold_release(rr__slot_t *slot); /* all of it to its scene, in order */
void rr__each_slot(rr__shard_t *shard, void (*fn)(rr__slot_t *slot, void *context), void *context);
void rr__slot_unpause(rr__slot_t *slot);
void rr__slot_early(rr__slot_t *slot, bool early, uint16_t cmd); /* remembers a MOVE that came early, or forgets it */
void rr__slot_watch(rr__slot_t *slot); /* its limits changed: looks at them anew */
void rr__ref_resume(rr__shard_t *shard, rr__scene_ref_t *ref);

/* ---- shard_lost.c ---- */

enum { RR__TAG_TICK = 1, RR__TAG_SEEK };

/* Remembers a part, or drops it (data NULL). False: out of memory, or it is too large; then it is dropped. */
bool rr__slot_keep(rr__slot_t *slot, rr__part_t part, const void *data, size_t size);
const uint8_t *rr__slot_kept(const rr__slot_t *slot, rr__part_t part, size_t *size); /* *size 0: nothing */
/* It moved to a scene of which nothing was heard yet, not even the JOIN: what it says is held until that comes. Without it (the
 * scene is dead, or was out of reach meanwhile) the session is lost. */
void rr__slot_await_join(rr__slot_t *slot);
/* The slot's scene is dead: keeps the session as the gate's option says, or closes it. */
void rr__slot_lose(rr__slot_t *slot);
/* Its scene, which ends, would give it back: what would become of it? with_extra: of its next enter, too. RR_BACK_*. */
uint16_t rr__slot_back(const rr__slot_t *slot, bool with_extra);
uint32_t rr__check_lost(rr__slot_t *slot); /* ticks until its time is up; 0 = it was closed */
void rr__slot_leave_lists(rr__slot_t *slot); /* its end: nobody waits for it any more */
void rr__seek(rr__shard_t *shard);           /* RR__TAG_SEEK */
void rr__ref_unsent(rr__shard_t *shard, rr__scene_ref_t *ref); /* it is dead: what waits for it goes back to its sessions */
void rr__refs_look(rr__shard_t *shard);      /* now and then: does a live scene's name belong to another? */
void rr__ref_lose(rr__shard_t *shard, rr__scene_ref_t *ref); /* it is dead from now on */

bool rr__login_open(const rr__shard_t *shard); /* the login scene is there, and takes logins */
/* The first message of a client: begins its login, or lets it wait for a login scene. */
void rr__slot_log_in(rr__slot_t *slot, const uint8_t *key, size_t size, rr_buffer_t *owner);
void rr__logins_go(rr__shard_t *shard); /* a login scene is there: those who wait for it */

/* ---- shard_output.c ---- */

void rr__hold_return(rr__slot_t *slot, uint16_t cmd, const uint8_t *body, size_t size); /* may close the slot */
void rr__shard_output(rr__shard_t *shard, rr_message_t *msg); /* RR_TYPE_OUTPUT */
void rr__shard_body(rr__shard_t *shard, rr_message_t *msg);   /* RR_TYPE_OUTPUT_BODY */

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
