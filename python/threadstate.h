/* threadstate.h: one PyThreadState per (interpreter, OS thread), made lazily, never moved, given back by its own thread. */
#ifndef RR_PYTHON_THREADSTATE_H
#define RR_PYTHON_THREADSTATE_H

#include "python/interpreter.h"

/* The calling thread's state of an interpreter; NULL when out of memory. Nothing is entered. */
PyThreadState *rr__thread_state(rr__interp_t *interp);

/* Takes a state that CPython made for the calling thread. RR_ENOMEM. */
RR_MUST_CHECK int rr__thread_adopt(rr__interp_t *interp, PyThreadState *state);

/* Gives back this thread's states of interpreters that are ending. Nothing may be entered. Cheap when none is. */
void rr__thread_sweep(void);

/* Gives back this one, if there is one. Nothing may be entered. */
void rr__thread_give_back(rr__interp_t *interp);

/* The calling thread's state if it has one already. */
PyThreadState *rr__thread_peek(const rr__interp_t *interp);

/* Leaves a state to somebody else, undeleted. */
void rr__thread_forget(rr__interp_t *interp);

/* Gives back all states of the calling thread: it must not enter any interpreter afterwards until it makes new ones. */
void rr__thread_end(void);

#endif
