#include "runtime/overseer.h"

#include <time.h>

#include "runtime/alloc.h"
#include "runtime/clock.h"
#include "runtime/system.h"

#define TICK_MS 10
#define QUIET_TICKS 5 /* without any turn: sleep long */
#define LONG_SLEEP_MS 1000

typedef struct look { /* what the last look saw of each worker */
    uint64_t seq;
    unsigned ticks; /* in the same turn */
} look_t;

void rr__overseer_init(rr__overseer_t *overseer) {
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&overseer->wake, &attr);
    pthread_condattr_destroy(&attr);
    pthread_mutex_init(&overseer->lock, NULL);
}

/* True if the worker did anything since the last look. */
static bool look_at(rr_worker_t *worker, look_t *look) {
    uint64_t seq = atomic_load_explicit(&worker->turn_seq, memory_order_acquire);
    bool same = seq == look->seq;
    look->ticks = same && (seq & 1) ? look->ticks + 1 : 0;
    look->seq = seq;
    if (look->ticks) {
        rr__worker_timers_for(worker);
        if (worker->executor->ops->stuck)
            worker->executor->ops->stuck(worker->executor, worker, look->ticks * TICK_MS);
    }
    return !same || (seq & 1);
}

static bool look_at_all(rr_system_t *system, look_t *looks) {
    bool active = false;
    pthread_mutex_lock(&system->lock);
    for (unsigned id = 0; id < RR__MAX_WORKERS; id++)
        if (system->workers[id])
            active |= look_at(system->workers[id], &looks[id]);
    for (rr_worker_t *worker = system->retired; worker; worker = worker->next_retired)
        rr__worker_timers_for(worker);
    pthread_mutex_unlock(&system->lock);
    return active;
}

/* False when told to stop. */
static bool doze(rr__overseer_t *overseer, unsigned ms) {
    struct timespec until = rr_machine_in(ms * RR_NS_PER_MS);
    pthread_mutex_lock(&overseer->lock);
    bool wait_for_wake = ms == LONG_SLEEP_MS;
    while (!overseer->stopping) {
        if (wait_for_wake && !atomic_load_explicit(&overseer->asleep, memory_order_relaxed))
            break;
        if (pthread_cond_timedwait(&overseer->wake, &overseer->lock, &until))
            break;
    }
    bool go_on = !overseer->stopping;
    pthread_mutex_unlock(&overseer->lock);
    return go_on;
}

static void *oversee(void *context) {
    rr_system_t *system = context;
    rr__overseer_t *overseer = &system->overseer;
    look_t *looks = rr__calloc(RR__MAX_WORKERS, sizeof *looks);
    unsigned quiet = 0;
    pthread_setname_np(pthread_self(), "overseer");
    if (!looks)
        rr_log(system, RR_ERROR, "RUNTIME", "no memory for the overseer: long turns delay timers");
    bool go_on = looks != NULL;
    while (go_on) {
        quiet = look_at_all(system, looks) ? 0 : quiet + 1;
        bool sleep_long = quiet > QUIET_TICKS;
        atomic_store_explicit(&overseer->asleep, sleep_long, memory_order_relaxed);
        go_on = doze(overseer, sleep_long ? LONG_SLEEP_MS : TICK_MS);
    }
    rr__free(looks);
    return NULL;
}

int rr__overseer_start(rr_system_t *system) {
    rr__overseer_t *overseer = &system->overseer;
    overseer->stopping = false;
    int rc = pthread_create(&overseer->thread, NULL, oversee, system);
    if (rc)
        return rr_error_from_errno(rc);
    overseer->running = true;
    return RR_OK;
}

void rr__overseer_stop(rr_system_t *system) {
    rr__overseer_t *overseer = &system->overseer;
    if (!overseer->running)
        return;
    pthread_mutex_lock(&overseer->lock);
    overseer->stopping = true;
    pthread_cond_signal(&overseer->wake);
    pthread_mutex_unlock(&overseer->lock);
    pthread_join(overseer->thread, NULL);
    overseer->running = false;
}

void rr__overseer_wake(rr_system_t *system) {
    rr__overseer_t *overseer = &system->overseer;
    pthread_mutex_lock(&overseer->lock);
    atomic_store_explicit(&overseer->asleep, false, memory_order_relaxed);
    pthread_cond_signal(&overseer->wake);
    pthread_mutex_unlock(&overseer->lock);
}
