/* rig.h: a running system for a test, ways to wait for what actors do, and the check that all memory came back.
 * Each test runs in its own process (Check forks), so what a test needs to share with its actors may be static. */
#ifndef RR_TESTS_RIG_H
#define RR_TESTS_RIG_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "runtime/alloc.h"
#include "runtime/executor.h"
#include "runtime/redrabbit.h"
#include "tests/unit/check_main.h"

#define RIG_PATIENCE_S 60 /* no wait in a test may last longer: the test then fails where it waits */

/* ---- A count that actors raise and the test waits for ------------------------------------------------------------ */

typedef struct latch {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint64_t count;
} latch_t;
#define LATCH_INIT {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0}

static inline void latch_add(latch_t *latch, uint64_t n) {
    pthread_mutex_lock(&latch->lock);
    latch->count += n;
    pthread_cond_broadcast(&latch->changed);
    pthread_mutex_unlock(&latch->lock);
}

static inline uint64_t latch_count(latch_t *latch) {
    pthread_mutex_lock(&latch->lock);
    uint64_t count = latch->count;
    pthread_mutex_unlock(&latch->lock);
    return count;
}

static inline bool latch_reached(latch_t *latch, uint64_t n, unsigned ms) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += ms / 1000;
    until.tv_nsec += (long)(ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    pthread_mutex_lock(&latch->lock);
    int rc = 0;
    while (latch->count < n && rc == 0)
        rc = pthread_cond_timedwait(&latch->changed, &latch->lock, &until);
    bool reached = latch->count >= n;
    pthread_mutex_unlock(&latch->lock);
    return reached;
}

#define latch_wait(latch, n)                                                                                           \
    do {                                                                                                               \
        if (!latch_reached(latch, n, RIG_PATIENCE_S * 1000))                                                           \
            ck_abort_msg("%s: %llu of %llu", #latch, (unsigned long long)latch_count(latch), (unsigned long long)(n)); \
    } while (0)

/* Inside a handler, to hold a worker until the test says so (a test's actor may block; a real one must not). */
static inline void latch_hold(latch_t *latch, uint64_t n) {
    if (!latch_reached(latch, n, RIG_PATIENCE_S * 1000))
        abort();
}

/* ---- A system ------------------------------------------------------------------------------------------------------ */

static __attribute__((unused)) int64_t rig_live; /* blocks alive before the system was made */

static inline void rig_options(rr_options_t *options, unsigned threads) {
    rr_options_init(options);
    options->core_threads = threads;
    options->log_screen = false;
    options->replay = false;
}

static inline rr_system_t *rig_start_with(const rr_options_t *options) {
#ifndef NDEBUG
    rig_live = rr__alloc_live();
#endif
    rr_system_t *system = NULL;
    ck_assert_int_eq(rr_system_create(&system, options), RR_OK);
    ck_assert_int_eq(rr_system_start(system), RR_OK);
    return system;
}

static inline rr_system_t *rig_start(unsigned threads) {
    rr_options_t options;
    rig_options(&options, threads);
    return rig_start_with(&options);
}

/* Stops, destroys, and looks whether everything was freed. */
static inline void rig_end(rr_system_t *system) {
    ck_assert_msg(rr_system_stop(system), "a thread did not come back");
    rr_system_destroy(system);
#ifndef NDEBUG
    ck_assert_int_eq(rr__alloc_live() - rig_live, 0);
#endif
}

/* Waits until no actor is left. */
static inline void rig_quiet(rr_system_t *system) {
    ck_assert_msg(rr_system_wait_idle(system, RIG_PATIENCE_S * 1000), "%zu actors still alive",
                  rr_system_actor_count(system));
}

static inline rr_addr_t rig_spawn(rr_system_t *system, const rr_spawn_t *spec) {
    rr_addr_t addr = RR_NOBODY;
    ck_assert_int_eq(rr_system_spawn(system, spec, &addr), RR_OK);
    ck_assert_uint_ne(addr, RR_NOBODY);
    return addr;
}

static inline rr_addr_t rig_spawn_behavior(rr_system_t *system, const rr_behavior_t *behavior) {
    return rig_spawn(system, &(rr_spawn_t){.behavior = behavior});
}

static inline void rig_send(rr_system_t *system, rr_addr_t to, uint32_t type) {
    ck_assert_int_eq(rr_system_send(system, to, type, NULL, 0), RR_OK);
}

/* A send whose receiver may be gone, or full, and that is all right. */
static inline void rig_try_send(rr_system_t *system, rr_addr_t to, uint32_t type) {
    int rc = rr_system_send(system, to, type, "x", 1);
    ck_assert(rc == RR_OK || rc == RR_NOROUTE || rc == RR_EFULL);
}

static inline rr_addr_t rig_addr(unsigned node, uint64_t slot, unsigned generation) {
    return (rr_addr_t)node << 48 | slot << 24 | generation;
}

/* Inside actors: Check's assertions are for the test's own thread, so a wrong thing there ends the process. */
#define MUST(condition)                                                                                                \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: in an actor: %s\n", __FILE__, __LINE__, #condition);                               \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

#endif
