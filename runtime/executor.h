/* executor.h: where actors run. For the makers of executors (worker pools here, network loops in net/), not for actors.
 *
 * An actor belongs to one executor for its whole life. Whoever turns its mailbox from empty to non-empty calls
 * ops->post; the executor then owes it one rr_worker_run on one of its threads, and another one for as long as that
 * returns true. Each such thread attaches a worker: its message pool, timer wheel and counters. */
#ifndef RR_RUNTIME_EXECUTOR_H
#define RR_RUNTIME_EXECUTOR_H

#include <stdatomic.h>

#include "runtime/redrabbit.h"

typedef struct rr_worker rr_worker_t;

typedef struct rr_executor_ops {
    const char *name;
    /* A runnable actor. Any thread; must not block nor call back into the actor. */
    void (*post)(rr_executor_t *executor, rr_actor_t *actor);
    /* Threads start / are told to stop and joined; from rr_system_start / rr_system_stop, in order of adding / reverse. */
    int (*start)(rr_executor_t *executor);
    /* False: a thread did not come back within 2 s and was left behind. */
    bool (*stop)(rr_executor_t *executor);
    /* Frees the executor; from rr_system_destroy. */
    void (*destroy)(rr_executor_t *executor);
    /* A timer of one of its workers is now due at at_ns, earlier than all before: only called on that worker's thread
     * between turns or inside a turn; the executor looks at rr_worker_next_timer_ns before it sleeps anyway, so most
     * leave this NULL. */
    void (*timer)(rr_executor_t *executor, rr_worker_t *worker, uint64_t at_ns);
    /* A worker has been inside one turn for at least `ms` (called about every 10 ms, by the overseer's thread); may be
     * NULL. Must not block. */
    void (*stuck)(rr_executor_t *executor, rr_worker_t *worker, unsigned ms);
    /* Does any other actor wait for the calling worker? May be NULL: no. Its thread, inside a turn. */
    bool (*others_wait)(rr_executor_t *executor);
} rr_executor_ops_t;

/* Embed as the first member. The maker sets ops, name and pinned; rr_executor_add sets the rest. */
struct rr_executor {
    const rr_executor_ops_t *ops;
    rr_system_t *system;
    rr_executor_t *next;
    char name[24];
    bool pinned; /* one thread only (loops): its actors are never muted */
    unsigned turn_messages; /* budget of a turn; 0 = 256 */
    unsigned turn_us;       /* and in time; 0 = 500 */
    unsigned clock_every;   /* look at the time every so many messages; 1 = after each, up to eighth if they are very short; 0 = 32 */
};

/* Hands the executor to the system, which starts, stops and destroys it. Before rr_system_start, or later: then it is
 * started at once. RR_ENOMEM or what start returned. */
RR_MUST_CHECK int rr_executor_add(rr_system_t *system, rr_executor_t *executor);

/* The core workers' pool. */
rr_executor_t *rr_system_core(rr_system_t *system);

/* Makes the calling thread a worker of the executor; it becomes the thread's current worker. NULL when out of memory. */
rr_worker_t *rr_worker_attach(rr_executor_t *executor);

/* Returns the thread's caches and ends its worker. No turn may be in progress. */
void rr_worker_detach(rr_worker_t *worker);

/* Runs one turn of a posted actor. True = it is still runnable and must be run again. */
bool rr_worker_run(rr_worker_t *worker, rr_actor_t *actor);

/* Do other actors wait for their turns on the calling thread, which is in one's? False if it is no worker. */
bool rr_others_wait(void);

/* Fires the worker's due timers (posts their messages); returns when the earliest of the rest is due, in ns on
 * rr_system_now_ns's clock, UINT64_MAX if there is none. Its thread only. */
uint64_t rr_worker_timers(rr_worker_t *worker);

/* Before the thread sleeps: sends messages freed here home to their pools. */
void rr_worker_idle(rr_worker_t *worker);

/* Around every sleep of its thread: what is awake decides whether a searching worker may spin. An attached worker counts as
 * awake. Its thread only. */
void rr_worker_asleep(rr_worker_t *worker, bool asleep);

rr_executor_t *rr_worker_executor(rr_worker_t *worker);
unsigned rr_worker_id(const rr_worker_t *worker); /* dense from 0 within the system, reused after detach */
rr_worker_t *rr_worker_current(void); /* of the calling thread, NULL if none */

/* ---- Guests ----
 * On a single CPU a hand-over to another thread is two switches and a few system calls, and nothing runs sooner for it. So
 * there a loop that makes an actor of an idle pool runnable may keep it and run it itself, if it is one of the core workers'
 * or was spawned as a `guest`, and its last turns were all short. The loop must be ready for a turn that is not: another of
 * its threads goes on with its sockets then (ops->stuck tells it). */

/* From now on the worker takes guests, or not: then one that waits goes back to its pool. Its thread, between turns. */
void rr_worker_host(rr_worker_t *worker, bool takes_guests);
/* Is there one that waits? Its thread. */
bool rr_worker_has_guest(const rr_worker_t *worker);
/* Takes the one that waits; NULL = none. The caller owes it rr_worker_visit or rr_actor_post. Its thread. */
rr_actor_t *rr_worker_guest(rr_worker_t *worker);
/* Runs a guest's turn: rr_worker_run; meanwhile no other guest is taken. True = it has more to do than a guest should have:
 * the caller owes it rr_actor_post, which takes it to its pool, where it stays until it has had some turns that were enough.
 * If it only let others go first it waits again, as before. */
bool rr_worker_visit(rr_worker_t *worker, rr_actor_t *actor);
/* Posts an actor that still is runnable after its turn, or was not run. */
void rr_actor_post(rr_actor_t *actor);

/* ---- A queue of runnable actors for pinned executors: many producers, one consumer ---- */

typedef struct rr_runqueue {
    /* LIFO list of posted actors, linked through the actors themselves. Producers push with release (the actor's
     * state was written before), the consumer takes all with acquire. NULL = empty. */
    _Atomic(rr_actor_t *) posted;
    rr_actor_t *first, *last; /* consumer only, in order of posting */
} rr_runqueue_t;

/* True if the queue of posted actors was empty: wake the consumer. Any thread. */
bool rr_runqueue_push(rr_runqueue_t *queue, rr_actor_t *actor);
/* The next actor or NULL. Consumer only. */
rr_actor_t *rr_runqueue_pop(rr_runqueue_t *queue);
bool rr_runqueue_empty(rr_runqueue_t *queue);

/* ---- Pools of workers ---- */

typedef struct rr_pool_options {
    const char *name;       /* thread names: name/0 … */
    /* 0 = CPUs (those that the process may run on at its start). More of them, in a pool without stuck_ms, are a reserve:
     * so many turns as there are CPUs run at a time, and one more for each that the overseer finds in its place after
     * 10 ms. */
    unsigned threads;
    size_t stack_size;      /* 0 = default */
    unsigned turn_messages; /* 0 = 256 */
    unsigned turn_us;       /* 0 = 500 */
    /* A worker inside one turn for longer is replaced by a spare thread until it comes back; 0 = never. Its handlers may
     * block. */
    unsigned stuck_ms;
    unsigned max_spares; /* 0 = 4 * threads + 8 */
    /* On each worker thread, before its first and after its last turn; may be NULL. */
    void (*thread_begin)(void *context, rr_worker_t *worker);
    void (*thread_end)(void *context, rr_worker_t *worker);
    void *context;
} rr_pool_options_t;

/* Makes and adds a pool. *out is owned by the system. */
RR_MUST_CHECK int rr_pool_create(rr_system_t *system, const rr_pool_options_t *options, rr_executor_t **out);

typedef struct rr_pool_stats {
    unsigned threads, parked, spares, spares_max;
    uint64_t turns, messages, steals, parks, wakes, stuck, spare_limit_hits; /* stuck: turns that others stood in for */
    uint64_t guest_turns; /* of its actors on the threads of loops; not in turns */
} rr_pool_stats_t;
void rr_pool_stats(rr_executor_t *pool, rr_pool_stats_t *out);

#endif
