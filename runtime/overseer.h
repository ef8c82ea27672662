/* overseer.h: a thread that looks after workers which sit in one long turn: fires their timers for them and tells their
 * executor, which brings a spare thread or has their queue stolen. It looks every 10 ms while anything runs, and sleeps
 * when nothing does. Private to runtime/. */
#ifndef RR_RUNTIME_OVERSEER_H
#define RR_RUNTIME_OVERSEER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "runtime/redrabbit.h"

typedef struct rr__overseer {
    pthread_t thread;
    bool running;   /* start and stop only */
    bool stopping;  /* under lock */
    pthread_mutex_t lock;
    pthread_cond_t wake;
    /* 1 while it sleeps long because nothing ran. Set by the overseer, cleared by whoever starts a turn (relaxed: a missed
     * wake-up is made good by its own look once a second). */
    _Atomic(bool) asleep;
} rr__overseer_t;

void rr__overseer_init(rr__overseer_t *overseer);
RR_MUST_CHECK int rr__overseer_start(rr_system_t *system);
void rr__overseer_stop(rr_system_t *system);
void rr__overseer_wake(rr_system_t *system);

#endif
