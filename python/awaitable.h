/* awaitable.h: futures, and tasks that drive coroutines without an event loop (PyIter_Send). Entered. */
#ifndef RR_PYTHON_AWAITABLE_H
#define RR_PYTHON_AWAITABLE_H

#include "python/internal.h"

extern PyType_Spec rr__future_spec, rr__task_spec;

rr__future_t *rr__future_new(rr__state_t *state);

/* End a future, once: later ends are ignored. Waiters become ready; they run in rr__ready_drain. */
void rr__future_result(rr__state_t *state, rr__future_t *future, PyObject *value);
void rr__future_error(rr__state_t *state, rr__future_t *future, PyObject *exception);
bool rr__future_cancel(rr__state_t *state, rr__future_t *future);

/* A task for a coroutine (or any awaitable), not yet run. origin is copied, its subject kept. NULL with an exception:
 * no coroutine, out of memory, too many tasks. context may be NULL: a copy of the base context. */
rr__task_t *rr__task_new(rr_script_t *script, PyObject *coroutine, const rr__origin_t *origin, PyObject *context);

/* Runs it until it waits or ends; the end goes to rr__settle. */
void rr__task_step(rr_script_t *script, rr__task_t *task);

/* Its coroutine yielded this: it waits for that. */
void rr__task_wait(rr_script_t *script, rr__task_t *task, PyObject *yielded);

/* Hands a new task to the scene's asyncio loop. Borrowed asyncio.Task, or NULL with an exception: the task is void. */
PyObject *rr__task_start_foreign(rr_script_t *script, rr__task_t *task);

/* Throws CancelledError into it at its next step. */
void rr__task_cancel(rr_script_t *script, rr__task_t *task);

static inline bool rr__task_over(const rr__task_t *task) { return task->future.state != RR__PENDING; }

/* Queues a callable or task for rr__ready_drain. 0, or -1 with MemoryError. */
int rr__ready_push(rr_script_t *script, PyObject *what, PyObject *argument);

/* Runs what is ready, a bounded number; asks the host for another turn if something is left. */
void rr__ready_drain(rr_script_t *script);

/* Asks the host for a turn if something is ready. */
void rr__ready_wake(rr_script_t *script);

#endif
