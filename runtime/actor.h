/* actor.h: the inside of an actor. Private to runtime/; its life:
 *
 *   spawn --> NEW --first turn: start()--> LIVE --rr_exit, kill, failed link--> ENDING --end of turn--> DEAD
 *
 * Scheduling needs no state of its own: the mailbox word's count is > 0 exactly while the actor is queued, running or
 * muted, because whoever turns it from 0 posts the actor, and only the running turn's end subtracts. */
#ifndef RR_RUNTIME_ACTOR_H
#define RR_RUNTIME_ACTOR_H

#include "runtime/list.h"
#include "runtime/message.h"
#include "runtime/remote.h"
#include "runtime/table.h"
#include "runtime/wheel.h"

/* The mailbox word: count of messages (by weight), their bytes in units of 64, and whether the actor is dead. */
#define RR__COUNT_BITS 28
#define RR__COUNT_MASK ((1ull << RR__COUNT_BITS) - 1)
#define RR__UNIT (1ull << RR__COUNT_BITS)
#define RR__UNIT_BITS 34
#define RR__UNIT_MASK ((1ull << RR__UNIT_BITS) - 1)
#define RR__DEAD (1ull << 63)

static inline uint64_t rr__word_count(uint64_t word) { return word & RR__COUNT_MASK; }
static inline uint64_t rr__word_units(uint64_t word) { return word >> RR__COUNT_BITS & RR__UNIT_MASK; }

/* The policy of a proxy that pauses its senders: in the header for who may not read the behavior. */
#define RR__PROXY_PAUSE (RR_POLICY_PAUSE_SOURCE + 1)

typedef enum rr__phase { RR__PHASE_FREE = 0, RR__PHASE_NEW, RR__PHASE_LIVE, RR__PHASE_ENDING, RR__PHASE_DEAD } rr__phase_t;

enum rr__control_op {
    RR__KILL,
    RR__DRAIN,
    RR__WAIT_ROOM,   /* from a muted sender */
    RR__NOTICE_ROOM, /* from somebody who wants a message when there is room */
    RR__GRANT,       /* of its name: `from` is the epoch */
    RR__NODE_DOWN,   /* `reason` is the node */
    RR__CALL_DUE,    /* a deadline of its calls is over, and it is paused */
};

/* The second lane: kill, drain, requests of muted senders, news of nodes. Rare, so allocated one by one. */
typedef struct rr__control {
    struct rr__control *next;
    rr_addr_t to, from;
    int op, reason;
} rr__control_t;

typedef struct rr__call {
    rr__entry_t entry;
    rr_reply_fn fn;
    void *context;
    uint64_t deadline_ns;
    unsigned node; /* whom it was sent to */
} rr__call_t;

typedef struct rr__timer {
    rr_wheel_node_t node;
    rr_worker_t *worker; /* whose wheel it is in; changed by the owner's turn only, under that worker's timer lock */
    rr_addr_t owner;
    uint64_t id, due_ns, repeat_ns;
    uint32_t tag;
    uint8_t kind; /* RR_TIMER or RR__CALL_TIMER */
} rr__timer_t;

typedef struct rr__timer_entry {
    rr__entry_t entry;
    rr__timer_t *timer;
} rr__timer_entry_t;

typedef struct rr__monitor_entry { /* whom this actor monitors */
    rr__entry_t entry;
    rr_addr_t target;
} rr__monitor_entry_t;

typedef struct rr__taken_entry {
    rr__entry_t entry;
    rr_message_t *msg;
} rr__taken_entry_t;

/* What most actors never need, made on first use. Touched by the running turn only. */
typedef struct rr__side {
    char **names; /* names[0] is the spawn name */
    uint32_t name_count;
    rr__table_t calls, timers, monitors, taken;
    rr__list_t watchers, links, muted;
    rr__timer_t *call_timer; /* for the earliest deadline of `calls`; NULL = never made */
    uint64_t call_timer_ns;  /* when it fires; UINT64_MAX = not armed */
    rr_addr_t mute_on;       /* a full PAUSE_SOURCE receiver that this turn sent to */
    uint64_t epoch;          /* of its granted name */
} rr__side_t;

/* Actors live in a type-stable arena: their memory is reused for other actors only, never given back while the system
 * lives. So a producer that looked an actor up just before it died may still touch its mailbox: it either sees the DEAD
 * bit, or adds to the actor that lives there now, whose turn finds a foreign `to` and treats it as undeliverable. */
struct rr_actor {
    /* ---- Producers' line ---- */
    /* The newest message. Producers exchange (acq_rel), then link the previous one's `next`: the queue of Vyukov
     * ("Intrusive MPSC node-based queue"), with the last consumed message as its dummy as in ponyc's messageq.c. Reset
     * by spawn before the word says that the actor is alive. */
    _Atomic(rr_message_t *) head;
    /* count | units | DEAD. Producers add before they link (acq_rel): who gets the count from 0 posts the actor, and by
     * acquire has the last turn's writes behind it. The turn's end subtracts what it consumed (acq_rel: releases the
     * turn's writes). Death sets DEAD (acq_rel) and drains exactly what was counted before; adds that see DEAD have no
     * effect. Spawn overwrites it (release). */
    _Atomic(uint64_t) word;
    /* Producers read these three after or instead of an add to the word; a stale read of a recycled actor's is harmless.
     * Relaxed, written by spawn before the word. */
    _Atomic(rr_executor_t *) executor;
    _Atomic(uint32_t) limit_count, limit_units;
    _Atomic(uint8_t) policy;
    /* 1 while its turn ended muted: then the count stays > 0 and no one has it queued. Whoever exchanges 1 for 0 posts
     * it. seq_cst against `control`: the muter stores muted then looks at control, a pusher pushes then looks at muted. */
    _Atomic(uint8_t) muted;
    uint8_t phase;      /* rr__phase_t, owner's turn and spawn */
    uint8_t trap_exits;
    /* 1 once it has called, monitored or linked across nodes, or was monitored from there. Written by its turn before the
     * message leaves, read by rr_node_down (relaxed: a call that is sent later ends by itself, its route is gone). */
    _Atomic(uint8_t) remote;
    _Atomic(rr__control_t *) control; /* LIFO; pushed by anyone (release), taken whole by the turn (acquire) */
    rr_actor_t *run_next;             /* of whoever has it queued */
    rr_addr_t addr;                   /* written by spawn before the word */

    /* ---- The turn's line ---- */
    rr_message_t *tail; /* the dummy: consumed already, or &stub */
    _Atomic(rr_message_t *) stub; /* stands for a message of which only `next` is ever used */
    const rr_behavior_t *behavior;
    void *state;
    rr__side_t *side;
    const void *arg; /* until start(): owned if arg_owned */
    _Atomic(uint64_t) serial; /* order of spawning; written by spawn, read by drain (relaxed: only the order counts) */
    int32_t reason;
    uint8_t bits; /* RR__ARG_OWNED … */
    _Atomic(uint8_t) running; /* debug builds: is it on two threads at once? */
    /* RR__GUEST: short turns in a row | strikes << RR__CALM_BITS. Written by its turn before the word is given back, read by
     * whoever makes it runnable and so has that turn's writes behind it: plain. */
    uint16_t calm;
};
_Static_assert(sizeof(struct rr_actor) == 128, "an idle actor's header: one line for producers, one for its turn");

enum { /* rr_actor.bits */
    RR__ARG_OWNED = 1,
    RR__DRAINING = 2,
    RR__CARRY = 4, /* a muted turn kept one count, which the next turn gives back */
    RR__STARTED = 8,
    RR__GUEST = 16, /* rr_spawn_t.guest */
    RR__LEASED = 32,
    RR__GRANTED = 64,
    RR__HELD = 128, /* rr_hold: only the control lane is heard */
};

/* A guest that takes its host's thread for long loses the right to be one until it has had so many short turns; after
 * some strikes until it has had thousands. */
#define RR__CALM_BITS 13
#define RR__CALM_MAX ((1u << RR__CALM_BITS) - 1)
#define RR__CALM_ENOUGH 64u
#define RR__STRIKES_ALLOWED 3u
#define RR__STRIKES_MAX 7u

/* Would the mailbox be full at this word, counted so many times? */
static inline bool rr__over_limit(const rr_actor_t *actor, uint64_t word, unsigned times) {
    return rr__word_count(word) >= (uint64_t)times * atomic_load_explicit(&actor->limit_count, memory_order_relaxed) ||
           rr__word_units(word) >= (uint64_t)times * atomic_load_explicit(&actor->limit_units, memory_order_relaxed);
}

static inline bool rr__is_calm(const rr_actor_t *actor) {
    return (actor->bits & RR__GUEST) && actor->phase == RR__PHASE_LIVE &&
           (actor->calm & RR__CALM_MAX) >= RR__CALM_ENOUGH && actor->calm >> RR__CALM_BITS < RR__STRIKES_ALLOWED;
}

rr__side_t *rr__actor_side(rr_actor_t *actor); /* NULL when out of memory */

/* Notes that the actor has to do with this address's node, if that is another one. */
static inline void rr__touch_remote(rr_actor_t *self, rr_addr_t other) {
    if (__builtin_expect(rr_addr_node(other) != rr_addr_node(self->addr), 0))
        atomic_store_explicit(&self->remote, 1, memory_order_relaxed);
}

/* Puts a message into its receiver's mailbox, or ends it as undeliverable. Takes over msg. sender: for PAUSE_SOURCE, or
 * NULL. The result is rr_send's; calls always return RR_OK (their errors come as replies). */
int rr__deliver(rr_system_t *system, rr_actor_t *sender, rr_message_t *msg);

rr_envelope_t rr__envelope(rr_message_t *msg);
rr_message_t *rr__message_of(rr_system_t *system, const rr_envelope_t *env); /* a copy; NULL when out of memory */

/* deliver.c */
void rr__burst_flush(rr_worker_t *worker); /* hands over what the present handler has linked for one receiver */
/* Answers, reports or counts a message that will not be handled. msg stays the caller's. */
void rr__undeliverable(rr_system_t *system, const rr_message_t *msg, int reason);
/* The same for each of those in a pack that were not taken out yet. Returns what they weigh. */
uint64_t rr__refuse_pack(rr_system_t *system, rr_message_t *pack, int reason);

/* In a loop that waits for another core. */
static inline void rr__relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Posts an actor to its executor: only by whoever made it runnable. */
static inline void rr__post(rr_actor_t *actor) {
    rr_executor_t *executor = atomic_load_explicit(&actor->executor, memory_order_relaxed);
    executor->ops->post(executor, actor);
}

/* control.c: the second lane. */
bool rr__control_send(rr_system_t *system, rr_addr_t to, rr_addr_t from, int op, int reason); /* false: no such actor, or no memory */
uint64_t rr__handle_control(rr_system_t *system, rr_actor_t *actor); /* in its turn; returns how many counts it consumed */
void rr__on_drain(rr_system_t *system, rr_actor_t *actor); /* in its turn: it is told that it should end */
/* Those who wait for room hear of it, if there is some at this word, or the actor has ended. */
void rr__resume_senders(rr_system_t *system, rr_actor_t *actor, uint64_t word);
/* The end of a turn that sent to a full receiver: true if the actor is muted now, and then no longer the caller's. */
bool rr__mute(rr_system_t *system, rr_actor_t *actor, uint64_t consumed, bool *runnable);
/* The end of a held actor's turn. False: the control lane has come already, and it is still runnable. */
bool rr__rest(rr_actor_t *actor, uint64_t consumed);

/* actor.c: parts of an actor's end. */
void rr__names_end(rr_actor_t *actor);
void rr__actor_free_parts(rr_actor_t *actor);

/* The internal spawn. */
RR_MUST_CHECK int rr__spawn(rr_system_t *system, rr_actor_t *parent, const rr_spawn_t *spec, rr_addr_t *out);

/* Parts of a turn, each in the file of its concept. */
void rr__on_reply(rr_actor_t *self, rr_message_t *msg);               /* call.c */
void rr__on_call_timer(rr_actor_t *self, rr_worker_t *worker);        /* call.c */
int rr__call_timer_fired(rr_system_t *system, rr_message_t *msg);     /* call.c: as rr__deliver */
bool rr__on_timer(rr_actor_t *self, rr_worker_t *worker, uint64_t id); /* timer.c: false = cancelled; else re-armed or over */
bool rr__on_relation(rr_actor_t *self, rr_message_t *msg);            /* monitor.c: true = receive() gets it */
void rr__relations_end(rr_actor_t *self, int reason);                 /* monitor.c */
void rr__relation_refused(rr_system_t *system, const rr_message_t *msg, int reason); /* monitor.c: target is gone */
RR_MUST_CHECK int rr__link_here(rr_actor_t *self, rr_addr_t other);   /* monitor.c: one side of a link */
void rr__unlink_here(rr_actor_t *self, rr_addr_t other);
void rr__unmute(rr_system_t *system, rr_addr_t sender);
/* Ends an actor whose name could not be registered, before its first turn. */
void rr__abandon(rr_system_t *system, rr_actor_t *actor);
/* Ends an actor outside any turn; only when no worker runs any more. */
void rr__finish_now(rr_system_t *system, rr_actor_t *actor, int reason);
void rr__calls_end(rr_actor_t *self);                                 /* call.c: taken calls answered, table freed */
void rr__timers_end(rr_actor_t *self);                                /* timer.c */
void rr__auto_reply(rr_actor_t *self, rr_message_t *msg);             /* call.c: a handler that did not answer */
void rr__calls_node_down(rr_actor_t *self, unsigned node);            /* call.c */
void rr__relations_node_down(rr_actor_t *self, unsigned node);        /* monitor.c */
int rr__reply_code(rr_system_t *system, rr_addr_t to, uint64_t request, int code); /* call.c */
void rr__timer_arm(rr_worker_t *worker, rr__timer_t *timer, uint64_t due_ns);
void rr__timer_disarm(rr__timer_t *timer);
void rr__worker_timers_for(rr_worker_t *worker); /* fires what is due there, from another thread */

#endif
