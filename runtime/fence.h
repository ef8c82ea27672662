/* fence.h: names that changed hands, as this node knows it. Private to runtime/; the public part is in remote.h. */
#ifndef RR_RUNTIME_FENCE_H
#define RR_RUNTIME_FENCE_H

#include "runtime/remote.h"

struct rr__fence;
RR_MUST_CHECK int rr__fence_create(struct rr__fence **out);
void rr__fence_destroy(struct rr__fence *fence); /* NULL is allowed */

/* Did this address lose its name? Any thread. */
bool rr__fence_stale(rr_system_t *system, rr_addr_t addr);

/* A message from outside: RR_OK = deliver it; RR_STALE, RR_EPROTO = do not; RR_CANCELLED = it is settled here already. */
RR_MUST_CHECK int rr__fence_check(rr_system_t *system, const rr_envelope_t *env);

#endif
