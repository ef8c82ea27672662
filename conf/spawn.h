/* spawn.h: a checked graph becomes a running system: CPython, threads, broker, scenes under supervisors, gates. */
#ifndef RR_CONF_SPAWN_H
#define RR_CONF_SPAWN_H

#include "actors/gate.h"
#include "conf/membership.h"
#include "conf/share.h"

typedef struct rr_running rr_running_t;

/* Told when something happened that rr_running_wait would tell. Any thread; must not block. */
typedef void (*rr_running_wake_fn)(void *context);

typedef struct rr_running_options {
    rr_graph_t *graph;
    const rr_share_t *share;  /* of the graph: what runs here, and as which node of its group */
    const char *folder;       /* the graph's: a .venv is looked for there */
    rr_running_wake_fn wake;
    void *context;
    const volatile int *stop; /* not 0 any more: give up waiting for the group's master; may be NULL */
} rr_running_options_t;

/* Builds everything; the group is joined and ports are bound, nothing runs yet. What options points to must outlive it. On
 * failure why has one line that says what, where and how to mend it. Main thread, once per process if the graph has Python
 * scenes. RR_ENOMEM, RR_EINVAL, RR_EIO, RR_EADDRINUSE …; RR_CANCELLED: `stop`. */
RR_MUST_CHECK int rr_running_create(const rr_running_options_t *options, rr_running_t **out, char *why, size_t why_size);
/* Starts threads, then the actors. Main thread. Errors as above. */
RR_MUST_CHECK int rr_running_start(rr_running_t *running, char *why, size_t why_size);

typedef enum rr_running_state {
    RR_RUNNING_STARTING, /* some scene loads, or some gate does not accept yet */
    RR_RUNNING_READY,
    RR_RUNNING_FAILED,   /* a scene could not be loaded at the start, a gate has ended, or the group has given this node up; why
                            says which and why */
    RR_RUNNING_ASKED,    /* somebody asked this node to drain and end */
} rr_running_state_t;
rr_running_state_t rr_running_state(rr_running_t *running, char *why, size_t why_size);

/* What a person wants to know at the start: which CPython, parallel or not and how to get that, the virtual environment, the
 * addresses, the page. Before (`late` false) and after the gates accept. */
void rr_running_describe(rr_running_t *running, bool late, FILE *out);

/* Appends the metrics as text to a file of the day in `folder`. RR_EIO, RR_ENOMEM. */
RR_MUST_CHECK int rr_running_report(rr_running_t *running, const char *folder);

/* Asks the workers for a sign of life: `wake` follows, and rr_running_pulse counts it. */
RR_MUST_CHECK int rr_running_ask(rr_running_t *running);
/* How many signs of life there were so far. */
unsigned rr_running_pulse(rr_running_t *running);

/* Its membership of a group; NULL if it has none. Good until rr_running_destroy. */
rr_membership_t *rr_running_membership(rr_running_t *running);

/* Its master was not reached for a whole lease: its named actors stand still, also in a drain. Main thread. */
bool rr_running_fenced(rr_running_t *running);

/* The orderly end. hand_over: the rest of the group lives on, so scenes give their sessions away first. RR_OK, or RR_TIMEOUT:
 * what was not done in time was killed. Main thread. */
RR_MUST_CHECK int rr_running_drain(rr_running_t *running, bool hand_over, unsigned deadline_ms);
/* Stops the threads and frees everything. False: a thread is still in some handler, or foreign threads live on in CPython:
 * the caller leaves by _exit. */
bool rr_running_destroy(rr_running_t *running);

rr_system_t *rr_running_system(rr_running_t *running);

#endif
