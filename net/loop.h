/* loop.h: one libuv loop on its own thread, which is also an executor: actors pinned to it run between its I/O events. */
#ifndef RR_NET_LOOP_H
#define RR_NET_LOOP_H

#include <uv.h>

#include "runtime/executor.h"

typedef struct rr_loop rr_loop_t;

/* Makes a loop and adds it to the system (owned by it): its thread starts with rr_system_start (or at once if that is
 * over) and ends with rr_system_stop. RR_ENOMEM, RR_EIO. */
RR_MUST_CHECK int rr_loop_create(rr_system_t *system, const char *name, rr_loop_t **out);

/* Spawn with this executor to pin an actor to the loop's thread. Any thread. */
rr_executor_t *rr_loop_executor(rr_loop_t *loop);
rr_system_t *rr_loop_system(rr_loop_t *loop);
unsigned rr_loop_index(const rr_loop_t *loop); /* dense from 0 within the system */

/* The calling thread's loop, NULL if it has none. */
rr_loop_t *rr_loop_current(void);

/* The libuv loop. Loop thread only. */
uv_loop_t *rr_loop_uv(rr_loop_t *loop);

/* Loop's idea of now in ns (updated once per iteration). Loop thread only. */
uint64_t rr_loop_now_ns(rr_loop_t *loop);

/* Runs fn(item) once on the loop thread before the loop next polls, after the actors' turns: the place to flush what a
 * whole batch produced. An item queued twice runs once. Loop thread only; the item belongs to its maker and must stay
 * alive until it ran or rr_loop_defer_cancel. */
typedef struct rr_deferred {
    void (*fn)(struct rr_deferred *item);
    struct rr_deferred *next, **prev; /* the loop's */
} rr_deferred_t;
void rr_loop_defer(rr_loop_t *loop, rr_deferred_t *item);
void rr_loop_defer_cancel(rr_loop_t *loop, rr_deferred_t *item);

/* The loop's threads, and those that they make from then on, ask the kernel for long time slices: for one whose work is as much as
 * comes, so that loops and workers that wake on the same CPU go first (20 ms at most, at the same share for each over time). Linux
 * 6.12; elsewhere nothing changes. Any thread. RR_ENOMEM, RR_ESTOPPING. */
RR_MUST_CHECK int rr_loop_long_slices(rr_loop_t *loop);
/* The same with short ones (0.1 ms): for one that has little to do at once, beside others that have much, such as a database's server,
 * on the same CPU. It goes first when it wakes. */
RR_MUST_CHECK int rr_loop_short_slices(rr_loop_t *loop);

/* Runs fn(context) on the loop thread soon. Any thread. RR_ENOMEM, RR_ESTOPPING. */
RR_MUST_CHECK int rr_loop_post(rr_loop_t *loop, void (*fn)(void *context), void *context);

/* fn(item) once when the loop ends, on its thread: close the handles that you have on it; it runs until they are closed. The item
 * belongs to its maker; removing one that is not in is fine. Loop thread only (or anyone's before the loop runs). */
typedef struct rr_loop_end {
    void (*fn)(struct rr_loop_end *item);
    struct rr_loop_end *next, **prev; /* the loop's */
} rr_loop_end_t;
void rr_loop_end_add(rr_loop_t *loop, rr_loop_end_t *item);
void rr_loop_end_remove(rr_loop_t *loop, rr_loop_end_t *item);

/* The loop's scratch for reads: parse in place, keep nothing. Loop thread only. */
#define RR_LOOP_SCRATCH (256u << 10)
uint8_t *rr_loop_scratch(rr_loop_t *loop);

#endif
