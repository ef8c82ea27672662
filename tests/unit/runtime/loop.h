/* loop.h: a pinned executor of one thread, as a network loop is one, but without a network. */
#ifndef RR_TESTS_LOOP_H
#define RR_TESTS_LOOP_H

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "runtime/executor.h"

typedef struct loop {
    rr_executor_t base;
    rr_runqueue_t queue;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool stop, woken;
} loop_t;

static void loop_wake(loop_t *loop) {
    pthread_mutex_lock(&loop->lock);
    loop->woken = true;
    pthread_cond_signal(&loop->wake);
    pthread_mutex_unlock(&loop->lock);
}

static void loop_post(rr_executor_t *executor, rr_actor_t *actor) {
    if (rr_runqueue_push(&((loop_t *)executor)->queue, actor))
        loop_wake((loop_t *)executor);
}

static void *loop_run(void *context) {
    loop_t *loop = context;
    rr_worker_t *worker = rr_worker_attach(&loop->base);
    if (!worker)
        abort();
    for (bool stop = false; !stop;) {
        rr_actor_t *actor;
        while ((actor = rr_runqueue_pop(&loop->queue)))
            if (rr_worker_run(worker, actor))
                rr_runqueue_push(&loop->queue, actor);
        uint64_t next = rr_worker_timers(worker);
        rr_worker_idle(worker);
        pthread_mutex_lock(&loop->lock);
        if (!loop->woken && !loop->stop && rr_runqueue_empty(&loop->queue)) {
            struct timespec until;
            clock_gettime(CLOCK_REALTIME, &until);
            uint64_t now = rr_system_now_ns(loop->base.system);
            uint64_t wait = next > now ? next - now : 0;
            wait = wait > 50000000 ? 50000000 : wait;
            until.tv_nsec += (long)wait;
            until.tv_sec += until.tv_nsec / 1000000000;
            until.tv_nsec %= 1000000000;
            pthread_cond_timedwait(&loop->wake, &loop->lock, &until);
        }
        loop->woken = false;
        stop = loop->stop;
        pthread_mutex_unlock(&loop->lock);
    }
    rr_worker_detach(worker);
    return NULL;
}

static int loop_start(rr_executor_t *executor) {
    loop_t *loop = (loop_t *)executor;
    return pthread_create(&loop->thread, NULL, loop_run, loop) == 0 ? RR_OK : RR_ELIMIT;
}

static bool loop_stop(rr_executor_t *executor) {
    loop_t *loop = (loop_t *)executor;
    pthread_mutex_lock(&loop->lock);
    loop->stop = true;
    pthread_cond_signal(&loop->wake);
    pthread_mutex_unlock(&loop->lock);
    pthread_join(loop->thread, NULL);
    return true;
}

static void loop_destroy(rr_executor_t *executor) {
    loop_t *loop = (loop_t *)executor;
    pthread_cond_destroy(&loop->wake);
    pthread_mutex_destroy(&loop->lock);
    free(loop);
}

static const rr_executor_ops_t loop_ops = {
    .name = "loop", .post = loop_post, .start = loop_start, .stop = loop_stop, .destroy = loop_destroy};

/* Ready for rr_executor_add. */
static inline rr_executor_t *loop_new(void) {
    loop_t *loop = calloc(1, sizeof *loop);
    if (!loop)
        abort();
    loop->base.ops = &loop_ops;
    strcpy(loop->base.name, "loop/0");
    loop->base.pinned = true;
    pthread_mutex_init(&loop->lock, NULL);
    pthread_cond_init(&loop->wake, NULL);
    return &loop->base;
}

#endif
