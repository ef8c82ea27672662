#include "python/watchdog.h"
#include "runtime/clock.h"

#include <time.h>

#define TICK_MAX_MS 100
#define TICK_MIN_MS 2
#define NUDGE_TICK_MS 20 /* a handler that runs longer than one or two of these is nudged */
#define NUDGE_MIN_US 1000
#define NUDGE_MAX_US 20000
#define NUDGE_WAITED_US 200 /* the GIL was not to be had at once: somebody computes */
#define GIL_PATIENCE_MS 1000 /* a strike that waits longer for the GIL: the handler is inside C */

static struct {
    pthread_mutex_t lock; /* the list, and the watchdog's own fields of each watch */
    pthread_cond_t changed;
    pthread_t thread;
    bool running, stopping;
    rr__watch_t *first;
} dog = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

/* ---- A strike ---- */

static PyThreadState *borrow_state(rr_script_t *script) {
    PyThreadState *state = PyThreadState_New(script->interp->state);
    if (state)
        PyEval_RestoreThread(state);
    return state;
}

/* A handler that swallows the exception gets the next one soon; one that sleeps in C less and less often. */
static uint64_t pause_after(const rr__watch_t *watch, unsigned struck) {
    uint64_t ms = watch->limit_ms < 100 ? watch->limit_ms : 100;
    return ms << (struck < 6 ? struck : 6);
}

/* Under the GIL nothing can start or end meanwhile: the sequence tells whether the same handler still runs. */
static void *strike(void *argument) {
    rr__watch_t *watch = argument;
    rr_script_t *script = watch->script;
    uint64_t seen;
    pthread_mutex_lock(&dog.lock);
    seen = watch->seen;
    pthread_mutex_unlock(&dog.lock);
    PyThreadState *state = borrow_state(script);
    unsigned struck = 0;
    if (state) {
        if (atomic_load_explicit(&watch->sequence, memory_order_acquire) == seen && script->state) {
            watch->struck++;
            PyThreadState_SetAsyncExc(atomic_load_explicit(&watch->thread_id, memory_order_relaxed),
                                      script->state->handler_timeout);
        }
        struck = watch->struck;
        PyThreadState_Clear(state);
        PyThreadState_DeleteCurrent();
    }
    pthread_mutex_lock(&dog.lock);
    watch->striking = false;
    watch->next_ms = rr_machine_ms() + pause_after(watch, struck);
    pthread_cond_broadcast(&dog.changed);
    pthread_mutex_unlock(&dog.lock);
    return NULL;
}

static void launch(rr__watch_t *watch) {
    pthread_t thread;
    watch->striking = true;
    if (pthread_create(&thread, NULL, strike, watch) != 0) {
        watch->striking = false;
        return;
    }
    pthread_detach(thread);
}

/* ---- Nudging ---- */

/* Waiting for the GIL in the handler's interpreter is the nudge. Paced, and rarely if the GIL is free (the handler sleeps). */
static void *nudge(void *argument) {
    rr__watch_t *watch = argument;
    pthread_mutex_lock(&dog.lock);
    uint64_t seen = watch->seen;
    pthread_mutex_unlock(&dog.lock);
    for (unsigned pause_us = NUDGE_MIN_US;;) {
        uint64_t before = rr_machine_ns() / 1000;
        PyThreadState *state = borrow_state(watch->script);
        if (!state)
            break;
        bool same = atomic_load_explicit(&watch->sequence, memory_order_acquire) == seen;
        PyThreadState_Clear(state);
        PyThreadState_DeleteCurrent();
        if (!same)
            break;
        bool waited = rr_machine_ns() / 1000 - before > NUDGE_WAITED_US;
        pause_us = waited ? NUDGE_MIN_US : pause_us * 2 < NUDGE_MAX_US ? pause_us * 2 : NUDGE_MAX_US;
        struct timespec pause = {.tv_nsec = (long)pause_us * 1000};
        nanosleep(&pause, NULL);
    }
    pthread_mutex_lock(&dog.lock);
    watch->nudging = false;
    pthread_cond_broadcast(&dog.changed);
    pthread_mutex_unlock(&dog.lock);
    return NULL;
}

static void launch_nudge(rr__watch_t *watch) {
    pthread_t thread;
    watch->nudging = pthread_create(&thread, NULL, nudge, watch) == 0; /* if not: at the next look */
    if (watch->nudging)
        pthread_detach(thread);
}

/* ---- The look-out ---- */

static unsigned limit_of(const rr__watch_t *watch) {
    return atomic_load_explicit(&watch->current_ms, memory_order_relaxed);
}

/* Two strikes without effect, or no GIL for a strike: the handler is inside C, where no exception reaches it. Only said:
 * rr_log wants no GIL, but a script's host may be called on its own thread only. */
static void report_stuck(rr__watch_t *watch, uint64_t now) {
    if (watch->reported || now - watch->since_ms < limit_of(watch) + GIL_PATIENCE_MS)
        return;
    watch->reported = true;
    if (watch->script->system)
        rr_log(watch->script->system, RR_WARN, "PYTHON",
               "%s: a handler has run for %llu ms and is inside C code (or sleeps), where it cannot be stopped; "
               "other scenes go on",
               watch->script->scene, (unsigned long long)(now - watch->since_ms));
}

static void look_at(rr__watch_t *watch, uint64_t now) {
    uint64_t sequence = atomic_load_explicit(&watch->sequence, memory_order_acquire);
    if (!(sequence & 1) || sequence != watch->seen) {
        if (watch->striking || watch->nudging)
            return; /* they find out themselves */
        watch->seen = sequence;
        watch->since_ms = now;
        watch->next_ms = now + limit_of(watch);
        watch->reported = false;
        return;
    }
    if (watch->nudged && !watch->nudging)
        launch_nudge(watch);
    if (!watch->limit_ms || (now < watch->next_ms && !watch->striking))
        return;
    report_stuck(watch, now);
    if (!watch->striking && now >= watch->next_ms)
        launch(watch);
}

static unsigned tick(void) {
    unsigned ms = TICK_MAX_MS;
    for (rr__watch_t *watch = dog.first; watch; watch = watch->next) {
        if (watch->limit_ms && watch->limit_ms / 4 < ms)
            ms = watch->limit_ms / 4;
        if (watch->nudged && NUDGE_TICK_MS < ms)
            ms = NUDGE_TICK_MS;
    }
    return ms < TICK_MIN_MS ? TICK_MIN_MS : ms;
}

static void *watch_all(void *unused) {
    pthread_mutex_lock(&dog.lock);
    while (!dog.stopping) {
        uint64_t now = rr_machine_ms();
        for (rr__watch_t *watch = dog.first; watch; watch = watch->next)
            look_at(watch, now);
        if (dog.first) {
            struct timespec until = rr_machine_in(tick() * RR_NS_PER_MS);
            pthread_cond_clockwait(&dog.changed, &dog.lock, CLOCK_MONOTONIC, &until);
        } else {
            pthread_cond_wait(&dog.changed, &dog.lock);
        }
    }
    pthread_mutex_unlock(&dog.lock);
    return NULL;
}

int rr__watchdog_add(rr_script_t *script) {
    rr__watch_t *watch = &script->watch;
    int rc = RR_OK;
    pthread_mutex_lock(&dog.lock);
    if (!dog.running) {
        dog.stopping = false;
        dog.running = pthread_create(&dog.thread, NULL, watch_all, NULL) == 0;
        rc = dog.running ? RR_OK : RR_ENOMEM;
    }
    if (rc == RR_OK) {
        watch->script = script;
        watch->next = dog.first;
        dog.first = watch;
        pthread_cond_broadcast(&dog.changed);
    }
    pthread_mutex_unlock(&dog.lock);
    return rc;
}

void rr__watchdog_remove(rr_script_t *script) {
    if (!script->watch.script)
        return;
    PyThreadState *state = PyEval_SaveThread();
    pthread_mutex_lock(&dog.lock);
    for (rr__watch_t **at = &dog.first; *at; at = &(*at)->next) {
        if (*at == &script->watch) {
            *at = script->watch.next;
            break;
        }
    }
    while (script->watch.striking || script->watch.nudging)
        pthread_cond_wait(&dog.changed, &dog.lock);
    script->watch.script = NULL;
    pthread_mutex_unlock(&dog.lock);
    PyEval_RestoreThread(state);
}

void rr__watchdog_stop(void) {
    pthread_mutex_lock(&dog.lock);
    bool running = dog.running;
    dog.stopping = true;
    dog.running = false;
    pthread_cond_broadcast(&dog.changed);
    pthread_mutex_unlock(&dog.lock);
    if (running)
        pthread_join(dog.thread, NULL);
}

void rr__watchdog_clear(rr_script_t *script) {
    script->watch.struck = 0;
    PyThreadState_SetAsyncExc(atomic_load_explicit(&script->watch.thread_id, memory_order_relaxed), NULL);
}
