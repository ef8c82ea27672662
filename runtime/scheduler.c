/* The worker pools. Per worker a slot for the actor it woke last (run next: its message is still in the cache), a stack of
 * new actors, a ring of woken ones; a queue of the pool for what comes from outside. Idle workers steal, then sleep.
 *
 * Who wakes whom: a worker that goes on to run a turn while more than one other actor waits wakes one sleeper, if nobody
 * searches already; a searcher that finds work does the same. A single waiting actor is left to its worker: taking the
 * only runnable partner of a ping-pong away costs a factor of ten. If that worker then sits in one long turn, searchers
 * and the overseer notice it by its turn's number and take the actor after all.
 *
 * A pool whose handlers never block runs no more workers at a time than there are CPUs: more of them only take turns on the
 * same cores, each with a colder cache, and are preempted in the middle of a hand-over. The others are its reserve: they
 * sleep until the overseer finds a worker in one long turn, and stand in for that one until it is back.
 *
 * On a single CPU a loop that wakes an actor of short turns runs it on its own thread: a guest (executor.h). Nothing shared
 * takes part in that: the actor waits in its host's worker instead of the pool's queue, and whoever takes it from there owes
 * it the same turn. */
#include <limits.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <sched.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "runtime/alloc.h"
#include "runtime/clock.h"
#include "runtime/deque.h"
#include "runtime/overseer.h"
#include "runtime/replay_run.h"
#include "runtime/system.h"

#define SLOT_TURNS   16     /* in a row out of the slot, while others wait */
#define FAIR_PICK    61     /* every so many picks the oldest first */
#define FAIR_QUEUE   4      /* every so many of them the pool's queue first */
#define CLOCK_PICK   64     /* every so many picks the timers */
#define SPIN_NS      50000  /* before sleeping; about what a wake-up costs */
#define LONG_TURN_NS 50000  /* after which even a worker's single waiting actor may be taken */
#define STEAL_MAX    128
#define LOOT_TURN_NS 2000   /* turns so long are worth the cache lines that a theft moves; of shorter ones */
#define THEFT_NS     64000000 /* a worker steals once in so long on average, */
#define THEFTS_SAVED 8      /* so many at once if it has stolen nothing for long, */
#define REST_NS      250000 /* and looks so often meanwhile whether one sits in a long turn */
#define STOP_WAIT_S  2

typedef struct pool pool_t;

typedef enum mode { MODE_NONE = 0, MODE_ACTIVE, MODE_IDLE, MODE_SURPLUS } worker_mode_t;

typedef struct sighting { /* how long a victim has been in its present turn, as a thief saw it */
    uint64_t seq, since_ns;
} sighting_t;

typedef struct member {
    /* The actor to run next. The owner touches it in every turn, a thief hardly ever: so it is guarded by a lock that is
     * biased towards the owner and costs it no locked instruction. Owner: busy = 1, look at wanted, use the slot, busy = 0
     * (release). Thief: wanted = 1 (CAS), membarrier, wait for busy = 0 (acquire), use the slot, wanted = 0 (release).
     * The membarrier stands for the full fence that the owner leaves out: either the owner's busy is seen by the thief, or
     * the owner's later look sees wanted (Dice, Huang & Yang, "Asymmetric Dekker synchronization", 2001). Without that
     * system call the owner exchanges busy (seq_cst). */
    _Alignas(64) _Atomic(rr_actor_t *) slot;
    _Atomic(uint32_t) slot_busy, slot_wanted;
    bool biased; /* constant */
    rr__stack_t fresh;
    rr__ring_t woken;
    pool_t *pool;
    /* Set at the thread's start (release), read by thieves and the overseer. */
    _Atomic(rr_worker_t *) worker;
    pthread_t thread;
    unsigned index, slot_turns, picks, ring_takes; /* owner */
    uint64_t loot_ns, loot_seq;        /* owner: the last theft's time (0 = judged), and the worker's turn_seq then */
    uint64_t theft_due_ns;             /* owner: no theft before */
    uint64_t pace_ns;                  /* owner: when the last CLOCK_PICK picks were over; 0 = it has been dry since */
    sighting_t seen[64];               /* owner; by victim's index modulo 64: a collision only forgets */
    worker_mode_t mode;                /* under pool->lock */
    bool stuck;                        /* under pool->lock */
    /* The overseer saw it stuck: it is counted in stuck_now, which is for its owner to end after this turn. Set under pool->lock, read relaxed by the owner. */
    _Atomic(bool) check_in;
    struct member *next_idle;  /* under pool->lock */
    _Atomic(uint32_t) awake;   /* futex: 0 = sleeps; set under pool->lock, waited for by the owner */
    rr_counter_t steals, parks;
    bool joined;
} member_t;

struct pool {
    rr_executor_t executor;
    rr_pool_options_t options;
    unsigned target, capacity;
    unsigned active; /* so many run turns at a time, of those that are not stuck; below target: the rest is the reserve */
    size_t stack_size;
    bool biased; /* membarrier is to be had */

    pthread_mutex_t lock;
    rr_actor_t *first, *last;      /* the pool's queue; under lock */
    _Atomic(uint32_t) queued;      /* its length; written under lock, read without it to skip the lock */
    member_t *idle, *surplus;      /* under lock */
    unsigned alive, stuck_now, surplus_now, ended; /* under lock */
    /* Sleeping members: written under lock, read by wakers (seq_cst: see sleep_until_woken). */
    _Atomic(int) idle_count;
    /* So many sleepers are not woken: target - active - stuck_now. Written under lock, read by wakers beside idle_count. */
    _Atomic(int) reserve;
    /* 1 while a member has been woken or has run dry and looks for work (seq_cst). */
    _Atomic(int) searching;
    /* futex: 1 while the searcher rests. Set by it, cleared by who ends the rest; seq_cst beside `queued`: see rest. */
    _Atomic(uint32_t) resting;
    /* Set by a worker whose turns are long, for the thief whose rest it ends then, which resets it. Relaxed: a hint. */
    _Atomic(bool) worthwhile;
    _Atomic(bool) stopping;
    pthread_cond_t ended_one;
    rr_counter_t wakes, stucks, spare_hits; /* under lock */
    rr_counter_t guest_turns;               /* shared: any loop */
    member_t *members[];           /* capacity; NULL until started; under lock, then constant */
};

static pool_t *pool_of(rr_executor_t *executor) { return (pool_t *)(void *)executor; }

static _Thread_local member_t *current_member __attribute__((tls_model("initial-exec")));

static unsigned cpus(void) {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set))
        return 1;
    int count = CPU_COUNT(&set);
    return count > 0 ? (unsigned)count : 1;
}

/* ---- Waking ----------------------------------------------------------------------------------------------------- */

static void futex_wake(_Atomic(uint32_t) *word) { syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0); }

/* While the word is `value`; UINT64_MAX = without limit. */
static void futex_wait(_Atomic(uint32_t) *word, uint32_t value, uint64_t ns) {
    struct timespec ts = {.tv_sec = (time_t)(ns / RR_NS_PER_S), .tv_nsec = (long)(ns % RR_NS_PER_S)};
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, ns == UINT64_MAX ? NULL : &ts, NULL, 0);
}

/* Under the lock; after it futex_wake, which is for outside of it: where both share a CPU the woken one runs at once, and
 * its first step is to take that lock. A wake-up that comes late, when the member sleeps again, is one too many at worst. */
static void rouse(pool_t *pool, member_t *member) {
    member->mode = MODE_ACTIVE;
    rr_count(&pool->wakes, 1);
    atomic_store_explicit(&member->awake, 1, memory_order_release);
}

/* Does one sleep that may run? seq_cst loads: after the caller's push, in the one order that sleep_until_woken relies on. */
static inline bool may_wake(pool_t *pool) { return atomic_load(&pool->idle_count) > atomic_load(&pool->reserve); }

/* Are more awake than may run? So it is at the start, after a timer of one of the reserve, and after a long turn. */
static inline bool is_crowded(pool_t *pool) {
    return atomic_load_explicit(&pool->idle_count, memory_order_relaxed) <
           atomic_load_explicit(&pool->reserve, memory_order_relaxed);
}

/* Under the lock, when one is found stuck or is back. */
static void count_stuck(pool_t *pool, int change) {
    pool->stuck_now += (unsigned)change;
    int reserve = (int)pool->target - (int)pool->active - (int)pool->stuck_now;
    atomic_store(&pool->reserve, reserve > 0 ? reserve : 0);
}

/* The caller has set `searching`: the woken one inherits it. */
static void wake_searcher(pool_t *pool) {
    pthread_mutex_lock(&pool->lock);
    member_t *member = may_wake(pool) ? pool->idle : NULL;
    if (member) {
        pool->idle = member->next_idle;
        atomic_fetch_sub(&pool->idle_count, 1);
        rouse(pool, member);
    } else { /* still under the lock: who makes the reserve smaller after this wakes one for what was pushed before */
        atomic_store(&pool->searching, 0);
    }
    pthread_mutex_unlock(&pool->lock);
    if (member)
        futex_wake(&member->awake);
}

static void wake_one(pool_t *pool) {
    int none = 0;
    if (may_wake(pool) && !atomic_load(&pool->searching) &&
        atomic_compare_exchange_strong(&pool->searching, &none, 1))
        wake_searcher(pool);
}

/* What comes from outside does not wait for a searcher's rest to end. */
static void end_rest(pool_t *pool) {
    if (atomic_load(&pool->resting) && atomic_exchange(&pool->resting, 0))
        futex_wake(&pool->resting);
}

/* ---- The pool's queue ------------------------------------------------------------------------------------------- */

static void queue_push(pool_t *pool, rr_actor_t *actor) {
    actor->run_next = NULL;
    pthread_mutex_lock(&pool->lock);
    if (pool->last)
        pool->last->run_next = actor;
    else
        pool->first = actor;
    pool->last = actor;
    uint32_t queued = atomic_load_explicit(&pool->queued, memory_order_relaxed);
    atomic_store(&pool->queued, queued + 1);
    pthread_mutex_unlock(&pool->lock);
}

/* One to run; a fair share of the rest goes to the member's own ring. */
static rr_actor_t *queue_take(member_t *member) {
    pool_t *pool = member->pool;
    if (!atomic_load_explicit(&pool->queued, memory_order_relaxed))
        return NULL;
    pthread_mutex_lock(&pool->lock);
    uint32_t queued = atomic_load_explicit(&pool->queued, memory_order_relaxed);
    uint32_t share = queued / pool->active + 1, taken = 0;
    rr_actor_t *result = NULL;
    if (share > STEAL_MAX)
        share = STEAL_MAX;
    while (pool->first && taken < share) {
        rr_actor_t *actor = pool->first, *next = actor->run_next; /* once in the ring it may run elsewhere */
        if (result && !rr__ring_push(&member->woken, actor))
            break;
        if (!result)
            result = actor;
        pool->first = next;
        taken++;
    }
    if (!pool->first)
        pool->last = NULL;
    atomic_store_explicit(&pool->queued, queued - taken, memory_order_relaxed);
    pthread_mutex_unlock(&pool->lock);
    return result;
}

/* ---- The slot --------------------------------------------------------------------------------------------------- */

static inline void slot_enter(member_t *member) {
    for (;;) {
        if (__builtin_expect(member->biased, 1)) {
            atomic_store_explicit(&member->slot_busy, 1, memory_order_relaxed);
            atomic_signal_fence(memory_order_seq_cst);
        } else {
            atomic_exchange(&member->slot_busy, 1);
        }
        if (__builtin_expect(!atomic_load(&member->slot_wanted), 1))
            return;
        atomic_store_explicit(&member->slot_busy, 0, memory_order_release);
        while (atomic_load_explicit(&member->slot_wanted, memory_order_acquire))
            sched_yield(); /* the thief is at it: two loads and a store */
    }
}

static inline void slot_leave(member_t *member) {
    atomic_store_explicit(&member->slot_busy, 0, memory_order_release);
}

/* Owner: puts an actor in (NULL: takes only), returns what was there. */
static inline rr_actor_t *slot_swap(member_t *member, rr_actor_t *actor) {
    slot_enter(member);
    rr_actor_t *before = atomic_load_explicit(&member->slot, memory_order_relaxed);
    atomic_store_explicit(&member->slot, actor, memory_order_release);
    slot_leave(member);
    return before;
}

/* A thief gives up when the owner holds it: then that one's turn has ended, or does not need help. */
static rr_actor_t *slot_steal(member_t *victim) {
    uint32_t none = 0;
    if (!atomic_load_explicit(&victim->slot, memory_order_relaxed) ||
        !atomic_compare_exchange_strong(&victim->slot_wanted, &none, 1))
        return NULL;
    if (victim->biased)
        syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0);
    rr_actor_t *actor = NULL;
    if (!atomic_load(&victim->slot_busy)) {
        actor = atomic_load_explicit(&victim->slot, memory_order_acquire);
        atomic_store_explicit(&victim->slot, NULL, memory_order_relaxed);
    }
    atomic_store_explicit(&victim->slot_wanted, 0, memory_order_release);
    return actor;
}

/* ---- Posting ---------------------------------------------------------------------------------------------------- */

static void push_woken(member_t *member, rr_actor_t *actor) {
    if (!rr__ring_push(&member->woken, actor))
        queue_push(member->pool, actor);
}

static void post_local(member_t *member, rr_actor_t *actor) {
    if (actor->phase == RR__PHASE_NEW) {
        if (!rr__stack_push(&member->fresh, actor))
            queue_push(member->pool, actor);
        return;
    }
    rr_actor_t *before = slot_swap(member, actor);
    if (before)
        push_woken(member, before);
}

static bool may_visit(const pool_t *pool, const rr_worker_t *host) {
    if (pool->executor.system->cpus > 1 || atomic_load_explicit(&pool->queued, memory_order_relaxed) ||
        atomic_load_explicit(&pool->stopping, memory_order_relaxed) || rr__system_draining(pool->executor.system))
        return false;
    for (unsigned i = 0; i < RR__MAX_VISITED; i++)
        if (!host->visited[i] || host->visited[i] == &pool->executor)
            return true;
    return false;
}

/* The loop that wakes an actor keeps it, to run it next. */
static bool become_guest(pool_t *pool, rr_actor_t *actor) {
    rr_worker_t *host = rr__current;
    if (!host || !host->hosts || host->guest || host->system != pool->executor.system || !rr__is_calm(actor) ||
        !may_visit(pool, host))
        return false;
    host->guest = actor;
    return true;
}

static void pool_post(rr_executor_t *executor, rr_actor_t *actor) {
    pool_t *pool = pool_of(executor);
    member_t *member = current_member;
    if (member && member->pool == pool) {
        post_local(member, actor);
        return;
    }
    if (become_guest(pool, actor))
        return;
    queue_push(pool, actor); /* seq_cst inside: whoever goes to sleep after this sees it */
    wake_one(pool);
    end_rest(pool);
}

/* ---- Picking ---------------------------------------------------------------------------------------------------- */

static rr_actor_t *take_slot(member_t *member) {
    if (!atomic_load_explicit(&member->slot, memory_order_relaxed))
        return NULL;
    return slot_swap(member, NULL);
}

/* Now and then the pool's queue comes first: a ring that never runs dry must not keep out what came from outside. */
static rr_actor_t *take_oldest(member_t *member) {
    rr_actor_t *actor = NULL;
    if (++member->ring_takes % FAIR_QUEUE == 0 && (actor = queue_take(member)))
        return actor;
    if (rr__ring_take(&member->woken, &actor, 1))
        return actor;
    return queue_take(member);
}

static bool others_wait(member_t *member) {
    return rr__ring_count(&member->woken) || !rr__stack_empty(&member->fresh) ||
           atomic_load_explicit(&member->pool->queued, memory_order_relaxed);
}

static rr_actor_t *pick_slot(member_t *member) {
    if (member->slot_turns >= SLOT_TURNS && others_wait(member)) {
        member->slot_turns = 0;
        rr_actor_t *actor = take_slot(member);
        if (actor)
            push_woken(member, actor);
        return NULL;
    }
    rr_actor_t *actor = take_slot(member);
    if (actor)
        member->slot_turns++;
    return actor;
}

static rr_actor_t *pick_own(member_t *member) {
    rr_actor_t *actor = NULL;
    if (++member->picks % FAIR_PICK == 0 && (actor = take_oldest(member)))
        return actor;
    if ((actor = pick_slot(member)))
        return actor;
    member->slot_turns = 0;
    if ((actor = rr__stack_pop(&member->fresh)))
        return actor;
    return take_oldest(member);
}

/* ---- Stealing --------------------------------------------------------------------------------------------------- */

static bool in_long_turn(member_t *victim, sighting_t *seen, uint64_t now) {
    rr_worker_t *worker = atomic_load_explicit(&victim->worker, memory_order_acquire);
    if (!worker)
        return false;
    uint64_t seq = atomic_load_explicit(&worker->turn_seq, memory_order_acquire);
    if (seq != seen->seq || !(seq & 1)) {
        *seen = (sighting_t){seq, now};
        return false;
    }
    return now - seen->since_ns > LONG_TURN_NS;
}

static rr_actor_t *steal_from(member_t *thief, member_t *victim, bool long_turn) {
    uint32_t count = rr__ring_count(&victim->woken);
    if (count >= 2 || (count && long_turn)) {
        rr_actor_t *loot[STEAL_MAX];
        uint32_t taken = rr__ring_take(&victim->woken, loot, STEAL_MAX);
        for (uint32_t i = 1; i < taken; i++)
            push_woken(thief, loot[i]);
        if (taken)
            return loot[0];
    }
    rr_actor_t *actor = rr__stack_steal(&victim->fresh);
    if (!actor && long_turn)
        actor = slot_steal(victim);
    return actor;
}

static uint64_t turns_seq(const member_t *member) {
    rr_worker_t *worker = atomic_load_explicit(&member->worker, memory_order_relaxed);
    return atomic_load_explicit(&worker->turn_seq, memory_order_relaxed);
}

static void note_theft(member_t *thief, uint64_t now) {
    rr_count(&thief->steals, 1);
    thief->loot_ns = now;
    thief->loot_seq = turns_seq(thief);
    uint64_t saved = now - THEFTS_SAVED * (uint64_t)THEFT_NS, due = thief->theft_due_ns;
    due = (due > saved ? due : saved) + THEFT_NS;
    thief->theft_due_ns = due < now + THEFT_NS ? due : now + THEFT_NS; /* after one out of turn */
}

static rr_actor_t *steal(member_t *thief, uint64_t now) {
    pool_t *pool = thief->pool;
    rr_actor_t *actor = queue_take(thief);
    for (unsigned i = 1; i <= pool->capacity && !actor; i++) {
        unsigned index = (thief->index + i) % pool->capacity;
        member_t *victim = __atomic_load_n(&pool->members[index], __ATOMIC_ACQUIRE);
        if (!victim || victim == thief)
            continue;
        actor = steal_from(thief, victim, in_long_turn(victim, &thief->seen[index % 64], now));
        if (actor)
            note_theft(thief, now);
    }
    return actor;
}

/* Spinning pays only where a CPU would idle otherwise, and one spinner per process is enough. On a single CPU it keeps those
 * from running who would bring the work. */
static bool may_spin(rr_system_t *system) {
    int none = 0;
    return system->cpus > 1 &&
           atomic_load_explicit(&system->running_threads, memory_order_relaxed) <= (int)system->cpus &&
           atomic_compare_exchange_strong_explicit(&system->spinner, &none, 1, memory_order_relaxed,
                                                   memory_order_relaxed);
}

/* Where turns are short and actors talk to each other (clients of one server, workers that answer one leader), a theft draws
 * those that the stolen ones talk to after them, until all is on the thief's side, and the other one, dry now, steals it back:
 * each time every cache line moves. That much is lost whether or not some of it ran side by side meanwhile; so such thefts
 * are rare. Those of longer turns are not counted. */
static void judge_loot(member_t *member, uint64_t now) {
    if (member->loot_ns && now - member->loot_ns >= (turns_seq(member) - member->loot_seq) / 2 * LOOT_TURN_NS)
        member->theft_due_ns -= THEFT_NS;
    member->loot_ns = 0;
}

static bool one_in_long_turn(member_t *member, uint64_t now) {
    pool_t *pool = member->pool;
    bool found = false;
    for (unsigned i = 0; i < pool->capacity && !found; i++) {
        member_t *victim = __atomic_load_n(&pool->members[i], __ATOMIC_ACQUIRE);
        found = victim && victim != member && in_long_turn(victim, &member->seen[i % 64], now);
    }
    return found;
}

/* No theft is due, nobody would be helped by one out of turn, and no timer wants the thread. */
static bool may_rest(member_t *member, uint64_t now) {
    pool_t *pool = member->pool;
    rr_worker_t *worker = atomic_load_explicit(&member->worker, memory_order_relaxed);
    return member->theft_due_ns > now && !atomic_load(&pool->stopping) &&
           atomic_load_explicit(&worker->timer_next_ns, memory_order_relaxed) > now + REST_NS &&
           !atomic_exchange_explicit(&pool->worthwhile, false, memory_order_relaxed) && !one_in_long_turn(member, now);
}

/* Until the next theft is due. Returns what came from outside meanwhile. The searcher stays the one searcher: nobody is woken
 * for what it leaves alone. Announced (seq_cst), then a look at the queue: who pushes there looks for a rest afterwards, so
 * either it sees this one, or this one sees its push. */
static rr_actor_t *rest(member_t *member, uint64_t now) {
    pool_t *pool = member->pool;
    if (member->theft_due_ns <= now)
        return NULL;
    rr_worker_t *worker = atomic_load_explicit(&member->worker, memory_order_relaxed);
    rr_actor_t *actor = NULL;
    rr_worker_asleep(worker, true);
    while (!actor && may_rest(member, now)) {
        atomic_store(&pool->resting, 1);
        if (!atomic_load(&pool->queued))
            futex_wait(&pool->resting, 1, REST_NS);
        actor = queue_take(member);
        now = rr_clock_now(&pool->executor.system->clock);
    }
    atomic_store(&pool->resting, 0);
    rr_worker_asleep(worker, false);
    return actor;
}

static rr_actor_t *search(member_t *member) {
    rr_system_t *system = member->pool->executor.system;
    uint64_t dry = rr_clock_now(&system->clock);
    judge_loot(member, dry);
    rr_actor_t *actor = rest(member, dry);
    if (actor)
        return actor;
    uint64_t start = rr_clock_now(&system->clock), now = start;
    if ((actor = steal(member, now)))
        return actor;
    if (!may_spin(system))
        return NULL;
    do {
        for (int i = 0; i < 20; i++)
            rr__relax();
        now = rr_clock_now(&system->clock);
        actor = steal(member, now);
    } while (!actor && now - start < SPIN_NS && !atomic_load_explicit(&member->pool->stopping, memory_order_relaxed) &&
             atomic_load_explicit(&system->running_threads, memory_order_relaxed) <= (int)system->cpus);
    atomic_store_explicit(&system->spinner, 0, memory_order_relaxed);
    return actor;
}

/* ---- Sleeping --------------------------------------------------------------------------------------------------- */

/* Anything that a sleeper would have to be woken for? */
static bool work_in_sight(pool_t *pool) {
    if (atomic_load(&pool->queued))
        return true;
    for (unsigned i = 0; i < pool->capacity; i++) {
        member_t *member = __atomic_load_n(&pool->members[i], __ATOMIC_ACQUIRE);
        if (member && (rr__ring_count(&member->woken) >= 2 || !rr__stack_empty(&member->fresh)))
            return true;
    }
    return false;
}

static void go_idle(pool_t *pool, member_t *member) {
    pthread_mutex_lock(&pool->lock);
    member->mode = MODE_IDLE;
    member->next_idle = pool->idle;
    pool->idle = member;
    atomic_store_explicit(&member->awake, 0, memory_order_relaxed);
    atomic_fetch_add(&pool->idle_count, 1);
    pthread_mutex_unlock(&pool->lock);
}

/* Takes itself off the idle list; false if somebody has woken it meanwhile. */
static bool leave_idle(pool_t *pool, member_t *member) {
    pthread_mutex_lock(&pool->lock);
    bool still_idle = member->mode == MODE_IDLE;
    if (still_idle) {
        member_t **link = &pool->idle;
        while (*link != member)
            link = &(*link)->next_idle;
        *link = member->next_idle;
        atomic_fetch_sub(&pool->idle_count, 1);
        member->mode = MODE_ACTIVE;
    }
    pthread_mutex_unlock(&pool->lock);
    return still_idle;
}

/* Order: announced idle (seq_cst), then no longer searching, then one more look. A producer pushes, then looks for
 * sleepers; so either it sees this one, or this one sees its push. One of the reserve leaves that look to the others: as
 * many as may run were awake after it had announced itself, and whoever makes them fewer looks. */
static void sleep_until_woken(member_t *member) {
    pool_t *pool = member->pool;
    rr_system_t *system = pool->executor.system;
    rr_worker_t *worker = atomic_load_explicit(&member->worker, memory_order_relaxed);
    go_idle(pool, member);
    atomic_store(&pool->searching, 0);
    bool woken = false;
    if (!(may_wake(pool) && work_in_sight(pool)) && !atomic_load(&pool->stopping)) {
        rr_count(&member->parks, 1);
        rr_worker_asleep(worker, true);
        uint64_t next = atomic_load_explicit(&worker->timer_next_ns, memory_order_relaxed);
        uint64_t now = rr_clock_now(&system->clock);
        uint64_t wait = next == UINT64_MAX ? UINT64_MAX : next > now ? next - now : 0;
        if (wait)
            futex_wait(&member->awake, 0, wait);
        rr_worker_asleep(worker, false);
    }
    woken = !leave_idle(pool, member);
    if (!woken) { /* by itself: it searches only if nobody else does */
        int none = 0;
        (void)atomic_compare_exchange_strong(&pool->searching, &none, 1);
    }
    (void)rr_worker_timers(worker);
}

/* ---- Spares ----------------------------------------------------------------------------------------------------- */

static bool start_member(pool_t *pool);

/* Under the lock: workers that are neither stuck nor set aside. */
static unsigned available(const pool_t *pool) { return pool->alive - pool->stuck_now - pool->surplus_now; }

static void bring_spare(pool_t *pool) {
    if (available(pool) >= pool->target)
        return;
    member_t *member = pool->surplus;
    if (member) {
        pool->surplus = member->next_idle;
        pool->surplus_now--;
        rouse(pool, member);
        futex_wake(&member->awake); /* rare: under the lock */
    } else if (pool->alive >= pool->capacity || !start_member(pool)) {
        rr_count(&pool->spare_hits, 1);
    }
}

static member_t *member_of(pool_t *pool, rr_worker_t *worker) {
    for (unsigned i = 0; i < pool->capacity; i++)
        if (pool->members[i] &&
            atomic_load_explicit(&pool->members[i]->worker, memory_order_relaxed) == worker)
            return pool->members[i];
    return NULL;
}

/* Overseer's thread: what waits behind the stuck worker goes to the pool's queue. Left where it is, it would be seen only
 * by workers that have run out of work. Bounded, as the worker may go on adding to it. */
static void rescue(member_t *member) {
    rr_actor_t *actor;
    for (unsigned i = 0; i < RR__RING_SIZE + RR__STACK_SIZE; i++) {
        if (!rr__ring_take(&member->woken, &actor, 1) && !(actor = rr__stack_steal(&member->fresh)) &&
            !(actor = slot_steal(member)))
            return;
        queue_push(member->pool, actor);
    }
}

/* Under the lock. Another runs in its place until it checks in. */
static void replace(pool_t *pool, member_t *member) {
    if (!member->stuck) {
        member->stuck = true;
        count_stuck(pool, 1);
        rr_count(&pool->stucks, 1);
        atomic_store_explicit(&member->check_in, true, memory_order_relaxed);
    }
    if (pool->options.stuck_ms)
        bring_spare(pool);
}

static void pool_stuck(rr_executor_t *executor, rr_worker_t *worker, unsigned ms) {
    pool_t *pool = pool_of(executor);
    bool replaces = pool->options.stuck_ms ? ms >= pool->options.stuck_ms : pool->active < pool->target;
    pthread_mutex_lock(&pool->lock);
    member_t *member = member_of(pool, worker);
    if (member && replaces)
        replace(pool, member);
    pthread_mutex_unlock(&pool->lock);
    if (member)
        rescue(member);
    if (atomic_load(&pool->queued))
        wake_one(pool);
}

static void hand_over(member_t *member) {
    rr_actor_t *actor;
    while ((actor = take_slot(member)) || (actor = rr__stack_pop(&member->fresh)) ||
           rr__ring_take(&member->woken, &actor, 1))
        queue_push(member->pool, actor);
}

/* Back from a long turn: its place may have been filled meanwhile. */
static void check_in(member_t *member) {
    pool_t *pool = member->pool;
    pthread_mutex_lock(&pool->lock);
    atomic_store_explicit(&member->check_in, false, memory_order_relaxed);
    member->stuck = false;
    count_stuck(pool, -1);
    bool surplus = available(pool) > pool->target && !atomic_load(&pool->stopping);
    if (surplus) {
        member->mode = MODE_SURPLUS;
        member->next_idle = pool->surplus;
        pool->surplus = member;
        pool->surplus_now++;
        atomic_store_explicit(&member->awake, 0, memory_order_relaxed);
    }
    pthread_mutex_unlock(&pool->lock);
    if (!surplus)
        return;
    rr_worker_t *worker = atomic_load_explicit(&member->worker, memory_order_relaxed);
    hand_over(member);
    wake_one(pool);
    rr_worker_asleep(worker, true);
    while (!atomic_load_explicit(&member->awake, memory_order_acquire)) {
        uint64_t next = rr_worker_timers(worker), now = worker->now_ns;
        hand_over(member); /* what its timers woke */
        if (atomic_load(&pool->queued))
            wake_one(pool);
        futex_wait(&member->awake, 0, next == UINT64_MAX ? UINT64_MAX : next > now ? next - now : 1);
    }
    rr_worker_asleep(worker, false);
}

/* ---- A worker's life -------------------------------------------------------------------------------------------- */

/* The next actor, or NULL when the pool stops. */
static rr_actor_t *next_actor(member_t *member) {
    pool_t *pool = member->pool;
    bool steps_aside = member->picks % CLOCK_PICK == 0 && is_crowded(pool);
    rr_actor_t *actor = steps_aside ? NULL : pick_own(member);
    if (__builtin_expect(actor != NULL, 1))
        return actor;
    member->pace_ns = 0;
    int none = 0;
    if (steps_aside) {
        hand_over(member);
        sleep_until_woken(member);
    } else {
        (void)atomic_compare_exchange_strong(&pool->searching, &none, 1);
    }
    while (!atomic_load_explicit(&pool->stopping, memory_order_relaxed)) {
        actor = pick_own(member);
        if (!actor && !is_crowded(pool))
            actor = search(member);
        if (actor) {
            atomic_store(&pool->searching, 0);
            return actor;
        }
        sleep_until_woken(member);
    }
    return NULL;
}

/* Turns that are worth a theft do not wait for a thief's rest to end. */
static __attribute__((noinline)) void note_pace(member_t *member, uint64_t now) {
    pool_t *pool = member->pool;
    if (member->pace_ns && now - member->pace_ns > CLOCK_PICK * LOOT_TURN_NS &&
        (rr__ring_count(&member->woken) >= 2 || !rr__stack_empty(&member->fresh)) &&
        atomic_load_explicit(&pool->resting, memory_order_relaxed)) {
        atomic_store_explicit(&pool->worthwhile, true, memory_order_relaxed);
        end_rest(pool);
    }
    member->pace_ns = now;
}

static void run_turns(member_t *member, rr_worker_t *worker) {
    pool_t *pool = member->pool;
    rr_actor_t *actor;
    while ((actor = next_actor(member))) {
        if (rr__ring_count(&member->woken) >= 2 || !rr__stack_empty(&member->fresh) ||
            atomic_load_explicit(&pool->queued, memory_order_relaxed))
            wake_one(pool);
        if (rr_worker_run(worker, actor))
            push_woken(member, actor);
        if (__builtin_expect(atomic_load_explicit(&member->check_in, memory_order_relaxed), 0))
            check_in(member);
        bool looks = member->picks % CLOCK_PICK == 0;
        if (looks || worker->now_ns >= atomic_load_explicit(&worker->timer_next_ns, memory_order_relaxed))
            (void)rr_worker_timers(worker);
        if (looks)
            note_pace(member, worker->now_ns);
        if (__builtin_expect(atomic_load_explicit(&pool->stopping, memory_order_relaxed), 0))
            break;
    }
    hand_over(member);
}

static void *member_main(void *context) {
    member_t *member = context;
    pool_t *pool = member->pool;
    rr_system_t *system = pool->executor.system;
    char name[32];
    snprintf(name, sizeof name, "%.10s/%u", pool->executor.name, member->index);
    pthread_setname_np(pthread_self(), name);
    rr_worker_t *worker = rr_worker_attach(&pool->executor);
    if (!worker) {
        rr_log(system, RR_ERROR, "RUNTIME", "worker %s: no memory, or more than %d workers", name, RR__MAX_WORKERS);
        goto out;
    }
    current_member = member;
    atomic_store_explicit(&member->worker, worker, memory_order_release);
    if (pool->options.thread_begin)
        pool->options.thread_begin(pool->options.context, worker);
    run_turns(member, worker);
    if (pool->options.thread_end)
        pool->options.thread_end(pool->options.context, worker);
    current_member = NULL;
    atomic_store_explicit(&member->worker, NULL, memory_order_release);
    rr_worker_detach(worker);
out:
    pthread_mutex_lock(&pool->lock);
    pool->ended++;
    pthread_cond_broadcast(&pool->ended_one);
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

/* Under the lock. */
static bool start_member(pool_t *pool) {
    member_t *member = rr__aligned_alloc(64, (sizeof *member + 63) & ~(size_t)63);
    if (!member)
        return false;
    memset(member, 0, sizeof *member);
    member->pool = pool;
    member->index = pool->alive;
    member->mode = MODE_ACTIVE;
    member->biased = pool->biased;
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    if (pool->stack_size)
        pthread_attr_setstacksize(&attr, pool->stack_size);
    int rc = pthread_create(&member->thread, &attr, member_main, member);
    pthread_attr_destroy(&attr);
    if (rc) {
        rr__free(member);
        return false;
    }
    __atomic_store_n(&pool->members[pool->alive], member, __ATOMIC_RELEASE);
    pool->alive++;
    return true;
}

static int pool_start(rr_executor_t *executor) {
    pool_t *pool = pool_of(executor);
    bool ok = true;
    pthread_mutex_lock(&pool->lock);
    while (ok && pool->alive < pool->target)
        ok = start_member(pool);
    pthread_mutex_unlock(&pool->lock);
    return ok ? RR_OK : RR_ENOMEM;
}

/* ---- The end ---------------------------------------------------------------------------------------------------- */

static bool wait_ended(pool_t *pool) {
    struct timespec until = rr_machine_in(STOP_WAIT_S * RR_NS_PER_S);
    int rc = 0;
    pthread_mutex_lock(&pool->lock);
    while (pool->ended < pool->alive && !rc)
        rc = pthread_cond_timedwait(&pool->ended_one, &pool->lock, &until);
    bool all = pool->ended == pool->alive;
    pthread_mutex_unlock(&pool->lock);
    return all;
}

static bool pool_stop(rr_executor_t *executor) {
    pool_t *pool = pool_of(executor);
    pthread_mutex_lock(&pool->lock);
    atomic_store(&pool->stopping, true);
    for (unsigned i = 0; i < pool->alive; i++) {
        atomic_store_explicit(&pool->members[i]->awake, 1, memory_order_release);
        futex_wake(&pool->members[i]->awake);
    }
    pthread_mutex_unlock(&pool->lock);
    if (!wait_ended(pool))
        return false;
    for (unsigned i = 0; i < pool->alive; i++) {
        if (!pool->members[i]->joined)
            pthread_join(pool->members[i]->thread, NULL);
        pool->members[i]->joined = true;
    }
    return true;
}

static void pool_destroy(rr_executor_t *executor) {
    pool_t *pool = pool_of(executor);
    for (unsigned i = 0; i < pool->alive; i++)
        rr__free(pool->members[i]);
    pthread_mutex_destroy(&pool->lock);
    pthread_cond_destroy(&pool->ended_one);
    rr__free(pool);
}

static bool pool_others_wait(rr_executor_t *executor) {
    member_t *member = current_member;
    (void)executor;
    return member && (atomic_load_explicit(&member->slot, memory_order_relaxed) || others_wait(member));
}

static const rr_executor_ops_t pool_ops = {
    .name = "pool",
    .post = pool_post,
    .start = pool_start,
    .stop = pool_stop,
    .destroy = pool_destroy,
    .stuck = pool_stuck,
    .others_wait = pool_others_wait,
};

/* ---- Guests ----------------------------------------------------------------------------------------------------- */

void rr_actor_post(rr_actor_t *actor) { rr__post(actor); }

bool rr_worker_has_guest(const rr_worker_t *worker) { return worker->guest != NULL; }

rr_actor_t *rr_worker_guest(rr_worker_t *worker) {
    rr_actor_t *actor = worker->guest;
    worker->guest = NULL;
    return actor;
}

void rr_worker_host(rr_worker_t *worker, bool takes_guests) {
    worker->hosts = takes_guests;
    rr_actor_t *actor = takes_guests ? NULL : rr_worker_guest(worker);
    if (actor)
        rr__post(actor);
}

/* may_visit has seen that there is room. */
static void arrive(rr_worker_t *worker, pool_t *pool) {
    unsigned i = 0;
    while (worker->visited[i] && worker->visited[i] != &pool->executor)
        i++;
    if (worker->visited[i])
        return;
    worker->visited[i] = &pool->executor;
    if (pool->options.thread_begin)
        pool->options.thread_begin(pool->options.context, worker);
}

void rr__pools_left(rr_worker_t *worker) {
    for (unsigned i = 0; i < RR__MAX_VISITED && worker->visited[i]; i++) {
        pool_t *pool = pool_of(worker->visited[i]);
        if (pool->options.thread_end)
            pool->options.thread_end(pool->options.context, worker);
        worker->visited[i] = NULL;
    }
}

bool rr_worker_visit(rr_worker_t *worker, rr_actor_t *actor) {
    pool_t *pool = pool_of(rr_executor_of(actor));
    bool hosts = worker->hosts;
    arrive(worker, pool);
    rr_count_shared(&pool->guest_turns, 1);
    worker->hosts = false;
    bool runnable = rr_worker_run(worker, actor);
    worker->hosts = hosts;
    if (runnable && worker->cut) { /* to give way in its middle */
        worker->guest = actor;
        return false;
    }
    if (runnable) /* ours until it is posted */
        actor->calm &= (uint16_t)~RR__CALM_MAX;
    return runnable;
}

/* ---- Making one ------------------------------------------------------------------------------------------------- */

static pool_t *new_pool(const rr_pool_options_t *options) {
    unsigned target = options->threads ? options->threads : cpus();
    unsigned spares = !options->stuck_ms ? 0 : options->max_spares ? options->max_spares : 4 * target + 8;
    unsigned capacity = target + spares;
    pool_t *pool = rr__calloc(1, sizeof *pool + capacity * sizeof pool->members[0]);
    if (!pool)
        return NULL;
    pool->options = *options;
    pool->target = target;
    pool->capacity = capacity;
    pool->active = options->stuck_ms || target < cpus() ? target : cpus();
    count_stuck(pool, 0);
    pool->stack_size = options->stack_size;
    pool->biased = !syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0);
    pool->executor.ops = &pool_ops;
    pool->executor.turn_messages = options->turn_messages;
    pool->executor.turn_us = options->turn_us;
    pool->executor.clock_every = options->stuck_ms ? 1 : 0; /* handlers that may block are worth a look at the time */
    snprintf(pool->executor.name, sizeof pool->executor.name, "%s", options->name ? options->name : "pool");
    pthread_mutex_init(&pool->lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&pool->ended_one, &attr);
    pthread_condattr_destroy(&attr);
    return pool;
}

int rr_pool_create(rr_system_t *system, const rr_pool_options_t *options, rr_executor_t **out) {
    if (system->replay)
        return rr__replay_executor(system, options, out);
    pool_t *pool = new_pool(options);
    if (!pool)
        return RR_ENOMEM;
    *out = &pool->executor;
    return rr_executor_add(system, &pool->executor);
}

void rr_pool_stats(rr_executor_t *executor, rr_pool_stats_t *out) {
    *out = (rr_pool_stats_t){0};
    if (executor->ops != &pool_ops)
        return;
    pool_t *pool = pool_of(executor);
    pthread_mutex_lock(&pool->lock);
    out->threads = pool->target;
    out->parked = (unsigned)atomic_load(&pool->idle_count);
    out->spares = pool->alive - pool->target;
    out->spares_max = pool->capacity - pool->target;
    out->wakes = rr_counted(&pool->wakes);
    out->stuck = rr_counted(&pool->stucks);
    out->spare_limit_hits = rr_counted(&pool->spare_hits);
    out->guest_turns = rr_counted(&pool->guest_turns);
    for (unsigned i = 0; i < pool->alive; i++) {
        out->steals += rr_counted(&pool->members[i]->steals);
        out->parks += rr_counted(&pool->members[i]->parks);
        rr_worker_t *worker = atomic_load_explicit(&pool->members[i]->worker, memory_order_acquire);
        out->turns += worker ? rr_counted(&worker->turns) : 0;
        out->messages += worker ? rr_counted(&worker->messages) : 0;
    }
    pthread_mutex_unlock(&pool->lock);
}
