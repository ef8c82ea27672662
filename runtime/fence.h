/* fence.h: names that changed hands, as this node knows it. Private to runtime/; the public part is in remote.h. */
#ifndef RR_RUNTIME_FENCE_H
#define RR_RUNTIME_FENCE_H

#include <stdatomic.h>

#include "runtime/remote.h"

struct rr__fence;
RR_MUST_CHECK int rr__fence_create(struct rr__fence **out);
void rr__fence_destroy(struct rr__fence *fence); /* NULL is allowed */

/* How many addresses have lost their names: written under the fences' lock, read by every message from or to another node (relaxed:
 * who does not see it yet accepts a message that came before the news). What system->fence begins with. */
typedef struct rr__fence_count {
    _Atomic(uint32_t) n;
} rr__fence_count_t;
static inline bool rr__fence_any(const struct rr__fence *fence) {
    return atomic_load_explicit(&((rr__fence_count_t *)(void *)fence)->n, memory_order_relaxed) != 0;
}

/* Did this address lose its name? Any thread. */
bool rr__fence_stale(rr_system_t *system, rr_addr_t addr);

/* A message from outside: RR_OK = deliver it; RR_STALE, RR_EPROTO = do not; RR_CANCELLED = it is settled here already. */
RR_MUST_CHECK int rr__fence_check(rr_system_t *system, const rr_envelope_t *env);

#endif
