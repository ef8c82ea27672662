/* watch.h: an actor that looks after a running graph: hears when one of its gates ends, and answers the main thread as a
 * proof that the workers turn. */
#ifndef RR_CONF_WATCH_H
#define RR_CONF_WATCH_H

#include "runtime/redrabbit.h"

typedef struct rr_watch_options {
    const rr_addr_t *actors; /* monitored; copied */
    size_t count;
    /* Both in the actor's turn; must not block. */
    void (*ended)(void *context, size_t index, int reason); /* actors[index] did */
    void (*alive)(void *context);                           /* the answer to rr_watch_ask */
    void *context;
} rr_watch_options_t;

/* After rr_system_start. RR_ENOMEM and what rr_system_spawn says. */
RR_MUST_CHECK int rr_watch_spawn(rr_system_t *system, const rr_watch_options_t *options, rr_addr_t *out);

/* Asks for a sign of life. Any thread. Errors as rr_system_send. */
RR_MUST_CHECK int rr_watch_ask(rr_system_t *system, rr_addr_t watch);

#endif
