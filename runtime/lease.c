#include "runtime/lease.h"

#include "runtime/alloc.h"
#include "runtime/system.h"

/* A suspended actor is in the state of a muted one (actor.h): counted, queued nowhere, and posted by whoever exchanges
 * `muted` for 0: a renewed lease, or whoever writes into its control lane. */

void rr__lease_init(rr__lease_t *lease) { pthread_mutex_init(&lease->lock, NULL); }

void rr__lease_destroy(rr__lease_t *lease) {
    rr__free(lease->suspended);
    pthread_mutex_destroy(&lease->lock);
}

uint64_t rr_system_boot_ns(rr_system_t *system) { return rr_clock_boot(&system->clock); }
uint64_t rr_epoch(const rr_actor_t *self) { return self->side ? self->side->epoch : 0; }

bool rr__lease_allows(rr_system_t *system, const rr_actor_t *actor) {
    if (!(actor->bits & RR__GRANTED))
        return false;
    uint64_t until = atomic_load_explicit(&system->lease.until_ns, memory_order_relaxed);
    return until == UINT64_MAX || rr_clock_boot(&system->clock) < until;
}

/* Under the lock. False: out of memory. */
static bool remember(rr__lease_t *lease, rr_addr_t addr) {
    for (uint32_t i = 0; i < lease->count; i++)
        if (lease->suspended[i] == addr)
            return true;
    if (lease->count == lease->capacity) {
        uint32_t capacity = lease->capacity ? lease->capacity * 2 : 16;
        rr_addr_t *more = rr__realloc(lease->suspended, capacity * sizeof *more);
        if (!more)
            return false;
        lease->suspended = more;
        lease->capacity = capacity;
    }
    lease->suspended[lease->count++] = addr;
    return true;
}

bool rr__lease_suspend(rr_system_t *system, rr_actor_t *actor) {
    rr__lease_t *lease = &system->lease;
    pthread_mutex_lock(&lease->lock);
    /* Under the lock: a renewal is either seen here, or sees the actor. (Without memory to remember it, it asks again.) */
    bool aside = !rr__lease_allows(system, actor) && remember(lease, actor->addr);
    if (aside)
        atomic_store(&actor->muted, 1);
    pthread_mutex_unlock(&lease->lock);
    /* As with muting: the suspender stores muted, then looks at control; a pusher pushes, then looks at muted. */
    bool news = aside && atomic_load(&actor->control) && atomic_exchange(&actor->muted, 0);
    return aside && !news;
}

void rr_lease_set(rr_system_t *system, uint64_t until_boot_ns) {
    rr__lease_t *lease = &system->lease;
    pthread_mutex_lock(&lease->lock);
    atomic_store_explicit(&lease->until_ns, until_boot_ns, memory_order_relaxed);
    rr_addr_t *list = lease->suspended;
    uint32_t count = lease->count;
    lease->suspended = NULL;
    lease->count = lease->capacity = 0;
    pthread_mutex_unlock(&lease->lock);
    for (uint32_t i = 0; i < count; i++)
        rr__unmute(system, list[i]);
    rr__free(list);
}

bool rr_lease_grant(rr_system_t *system, rr_addr_t addr, uint64_t epoch) {
    return rr__control_send(system, addr, epoch, RR__GRANT, 0);
}

unsigned rr_lease_suspended(rr_system_t *system) {
    pthread_mutex_lock(&system->lease.lock);
    unsigned count = system->lease.count;
    pthread_mutex_unlock(&system->lease.lock);
    return count;
}
