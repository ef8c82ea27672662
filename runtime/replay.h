/* replay.h: running a whole system on one thread, in an order drawn from its seed, under virtual time. The same seed and
 * the same calls give the same run: a failing one can be looked at again and again. For tests and simulation. */
#ifndef RR_RUNTIME_REPLAY_H
#define RR_RUNTIME_REPLAY_H

#include "runtime/redrabbit.h"

/* Runs up to max_turns turns (0 = until nothing is runnable and no timer is left). When nothing is runnable the clock
 * jumps to the next timer. Returns the turns run. Only with rr_options_t.replay, after rr_system_start, on one thread. */
size_t rr_replay_run(rr_system_t *system, size_t max_turns);

/* The same, but the clock never passes `until_ns` (of rr_system_now_ns), where it is left at the end. */
size_t rr_replay_run_until(rr_system_t *system, uint64_t until_ns);

/* When there is something to run next (on rr_system_now_ns's clock): now, the earliest timer's time, UINT64_MAX = never. For
 * whoever moves several systems through one virtual time. */
uint64_t rr_replay_next(rr_system_t *system);

/* A hash over every turn so far (who ran, how many messages): equal runs have equal ones. */
uint64_t rr_replay_trace(rr_system_t *system);

#endif
