/* interpreter.h: the CPython of this process and its interpreters (design.md section 4.1-4.5).
 *
 * CPython is one per process by nature, so its state here is the one global of the project: started and stopped on the
 * main thread, everything in it guarded as noted. */
#ifndef RR_PYTHON_INTERPRETER_H
#define RR_PYTHON_INTERPRETER_H

#include "python/compat.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "python/script.h"

typedef struct rr__interp {
    PyInterpreterState *state;
    bool main, own_gil;
    unsigned slot; /* index into each thread's table of thread states */
    /* Held while a thread gives its thread state back: whoever is last ends the interpreter. Taken without any GIL. */
    pthread_mutex_t release_lock;
    unsigned threads; /* thread states made by us; under process lock */
    PyThreadState *orphan; /* before 3.13: see threadstate.c; under release_lock */
    /* Set when its script is destroyed: threads give back their states when they next pass by. Written by the destroying
     * thread (release), read by workers in rr__thread_sweep (acquire). */
    atomic_bool ending;
} rr__interp_t;

/* Makes an interpreter and leaves it entered on the calling thread. The main interpreter is lent to one script at a
 * time (RR_ELIMIT). kind must not be RR_INTERPRETER_DEFAULT. */
RR_MUST_CHECK int rr__interp_new(rr_interpreter_t kind, rr__interp_t **out, char *why, size_t why_size);

/* Gives the interpreter up, from a thread that has left it. It ends when every worker has passed by. */
void rr__interp_release(rr__interp_t *interp);

/* Gives up an interpreter in which foreign threads live: it is never ended, rr_python_stop will say false. */
void rr__interp_abandon(rr__interp_t *interp);

/* How many thread states of it are not ours. Entered. */
unsigned rr__interp_foreign_threads(rr__interp_t *interp);

rr_interpreter_t rr__interp_default(void);
rr__interp_t *rr__interp_main(void);
PyThreadState *rr__interp_first_state(void); /* of the thread that started CPython */
const char *rr__python_package_path(void);
const char *rr__python_venv(void); /* NULL = none */
double rr__python_switch_interval(void);

/* For threadstate.c: one more / one less thread state. The latter is called with release_lock held, after the state is
 * gone, and frees an interpreter that nobody holds any more. */
void rr__interp_count(rr__interp_t *interp, int by);
/* Number of interpreters that wait for threads to pass by; relaxed: a hint, the sweep looks properly. */
bool rr__interp_any_ending(void);
/* Ends it on this thread, which holds the last thread state, and is entered. Afterwards nothing is entered. */
void rr__interp_end(rr__interp_t *interp, PyThreadState *last);
void rr__interp_free(rr__interp_t *interp);

#endif
