/* lease.h: leased actors that wait for their node's lease. Private to runtime/; the public part is in remote.h. */
#ifndef RR_RUNTIME_LEASE_H
#define RR_RUNTIME_LEASE_H

#include <pthread.h>

#include "runtime/actor.h"

typedef struct rr__lease {
    /* Boot time until when leased actors may run. Written under lock; read by every turn of a leased actor (relaxed: a turn
     * that sees an older, shorter lease looks again under the lock before it gives up). */
    _Atomic(uint64_t) until_ns;
    pthread_mutex_t lock;
    rr_addr_t *suspended; /* under lock */
    uint32_t count, capacity;
} rr__lease_t;

void rr__lease_init(rr__lease_t *lease);
void rr__lease_destroy(rr__lease_t *lease);

/* May this leased actor start a turn now? Its worker only. */
bool rr__lease_allows(rr_system_t *system, const rr_actor_t *actor);
/* Puts an actor aside that may not run, and is then no longer the caller's. False: it may run after all, or has news in its
 * control lane, and is still the caller's. */
bool rr__lease_suspend(rr_system_t *system, rr_actor_t *actor);

#endif
