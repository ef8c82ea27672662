/* system.h: one runtime instance. Private to runtime/. */
#ifndef RR_RUNTIME_SYSTEM_H
#define RR_RUNTIME_SYSTEM_H

#include <pthread.h>

#include "runtime/actor.h"
#include "runtime/census.h"
#include "runtime/clock.h"
#include "runtime/deadletter.h"
#include "runtime/directory.h"
#include "runtime/lease.h"
#include "runtime/metrics.h"
#include "runtime/metrics_registry.h"
#include "runtime/names.h"
#include "runtime/overseer.h"
#include "runtime/random.h"
#include "runtime/sheet.h"

#define RR__MAX_WORKERS 1024
#define RR__MAX_VISITED 4 /* pools that may have guests on one loop */

/* A turn that sends several messages in a row to one actor hands the first over at once and links the rest here, to be
 * handed over by one addition and one exchange: at the next send to anybody else, at 64, at the next look at the time (every
 * 32 messages; after every message where handlers may block), and at the turn's end. So no order that anybody could observe
 * changes. Counting 8 -> 1 on two workers: 1.9 x; a ring of 10,000 with 100 tokens, which bunch: 1.3 x. */
#define RR__ANNOUNCED 8u
typedef struct rr__burst {
    rr_addr_t to; /* whom this turn sent to last; RR_NOBODY at its start */
    rr_actor_t *actor;
    rr_message_t *first, *last; /* NULL = none waits */
    uint64_t add;               /* what they count in the word */
    unsigned count;
    bool deep; /* many wait there already */
    bool away; /* to another node: all but the first are packed (pack.h) */
    rr_message_t *recent[RR__ANNOUNCED]; /* if deep: the last ones appended */
} rr__burst_t;

struct rr_worker {
    rr_system_t *system;
    rr_executor_t *executor;
    rr__pool_t *pool;
    rr_actor_t *current; /* in a turn; NULL between */
    uint64_t now_ns;     /* the last clock reading */
    uint64_t turn_ns;    /* when the turn began; only of actors that may be guests, 0 = that does not matter */
    bool hosts;          /* takes guests; not while one is in its turn. Its thread only, as the next two */
    rr_actor_t *guest;   /* woken by this thread, waits to be run on it; NULL = none */
    rr_executor_t *visited[RR__MAX_VISITED]; /* pools whose thread_begin was called here; NULL at the end */
    unsigned id;
    rr__burst_t burst;
    bool self_sent; /* the actor in its turn has sent to itself */
    bool cut;       /* the last turn gave way in its middle */
    rr__directory_cache_t cache; /* free slots and headers */
    rr__serials_t serials;       /* of what its present handler spawns */
    rr_counter_t turns, messages; /* written by this worker, read by metrics */
    /* Odd while in a turn. Written by this worker (release), read by thieves and the monitor, who compare two readings:
     * the same odd value means one long turn. */
    _Atomic(uint64_t) turn_seq;

    /* Timers: armed and fired by this worker, cancelled by any, fired by the monitor when this one sits in a long turn. */
    pthread_mutex_t timer_lock;
    rr_wheel_t wheel; /* under timer_lock */
    rr_worker_t *next_retired; /* of system->retired */
    /* The wheel's next expiry; written under timer_lock, read without it to skip the lock (relaxed: the worker itself
     * always sees its own writes; a stale value costs the monitor a needless look). */
    _Atomic(uint64_t) timer_next_ns;
};

struct rr_system {
    rr_options_t options;
    rr_clock_t clock;
    unsigned node;
    struct rr__log *log;
    rr__metrics_t *metrics;
    rr__directory_t directory;
    rr__names_t names;
    rr__lease_t lease;
    struct rr__remote *remote; /* remote.c */
    struct rr__fence *fence;   /* fence.c */
    rr_executor_t *core;

    /* Number -> pool. Set once by the first worker of that number (release), never unset before destroy. */
    _Atomic(rr__pool_t *) pools[RR__MAX_WORKERS];
    pthread_mutex_t lock; /* workers[], executors, seeds, phase */
    pthread_cond_t changed; /* an actor ended while somebody waits */
    rr_worker_t *workers[RR__MAX_WORKERS]; /* under lock */
    rr_executor_t *executors;              /* newest first, under lock */
    rr_random_t random;                    /* under lock */
    rr_worker_t *retired;                  /* detached; their wheels may still hold timers; under lock */
    rr_counter_t retired_turns, retired_messages;
    bool started, stopped, has_directory;
    /* Loops that may have guests were added. Set under lock, read by spawn (relaxed: who is spawned before is no guest). */
    _Atomic(bool) has_loops;
    bool left_behind; /* a thread did not come back when it was stopped, and may still be anywhere in here; under lock */

    rr__census_t census;
    _Alignas(64) _Atomic(uint32_t) waiters; /* threads in wait_idle or drain; seq_cst against the census */
    _Atomic(bool) draining;         /* set once by drain; relaxed reads */
    rr__sheets_t sheets;
    rr__dead_letters_t dead;
    rr_counter_t late_replies, refused; /* shared counters */

    rr__overseer_t overseer;
    unsigned cpus;
    struct rr__replay *replay;   /* NULL unless this instance runs from a seed */
    /* Workers of all pools that are not asleep; relaxed, a hint for spinning. On a line that no turn looks at. */
    _Alignas(64) _Atomic(int) running_threads;
    /* 1 while a worker spins: one per system; relaxed, it guards nothing but CPU time. */
    _Atomic(int) spinner;
};

extern _Thread_local rr_worker_t *rr__current __attribute__((tls_model("initial-exec")));

/* The calling thread's pool if it is a worker of this system, else NULL. */
static inline rr__pool_t *rr__my_pool(const rr_system_t *system) {
    return rr__current && rr__current->system == system ? rr__current->pool : NULL;
}

static inline rr_system_t *rr__system_of(const rr_actor_t *actor) {
    return atomic_load_explicit(&((rr_actor_t *)actor)->executor, memory_order_relaxed)->system;
}

/* Before anything that must not overtake what the present handler has sent. */
static inline void rr__flush_burst(void) {
    if (__builtin_expect(rr__current && rr__current->burst.first, 0))
        rr__burst_flush(rr__current);
}

/* Not without its node's lease, if it has a name that depends on it. */
static inline bool rr__may_run(rr_system_t *system, const rr_actor_t *actor) {
    return !(actor->bits & RR__LEASED) || rr__lease_allows(system, actor);
}

/* rr_worker_attach, and the same for a worker whose executor changes from turn to turn (replay). */
rr_worker_t *rr__worker_attach(rr_system_t *system, rr_executor_t *executor);

/* Drain or stop has begun: nothing is to be restarted. */
bool rr__system_draining(rr_system_t *system);

/* Calls thread_end of the pools whose guests this worker has had. */
void rr__pools_left(rr_worker_t *worker);

/* remote.c */
RR_MUST_CHECK int rr__remote_create(struct rr__remote **out);
void rr__remote_destroy(struct rr__remote *remote);
rr_actor_t *rr__proxy_for(rr_system_t *system, rr_addr_t addr); /* NULL: no route there */
bool rr__remote_paused(rr_system_t *system, rr_addr_t addr);
void rr__tell_room(rr_system_t *system, rr_addr_t target, rr_addr_t waiter);

void rr__actor_gone(rr_system_t *system); /* counts one actor less, wakes waiters */

#endif
