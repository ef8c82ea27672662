/* replay_run.h: the replay scheduler behind replay.h. Private to runtime/. */
#ifndef RR_RUNTIME_REPLAY_RUN_H
#define RR_RUNTIME_REPLAY_RUN_H

#include "runtime/executor.h"

typedef struct rr__replay rr__replay_t;

RR_MUST_CHECK int rr__replay_create(rr_system_t *system, uint64_t seed, rr__replay_t **out);
/* Its worker, on the thread that made the system. */
RR_MUST_CHECK int rr__replay_start(rr_system_t *system);
void rr__replay_stop(rr_system_t *system);
void rr__replay_destroy(rr__replay_t *replay);

/* Stands for a pool. */
RR_MUST_CHECK int rr__replay_executor(rr_system_t *system, const rr_pool_options_t *options, rr_executor_t **out);

#endif
