/* up_impl.h: `redrabbit up` from inside, shared by up.c, up_choose.c and up_node.c. One thread. */
#ifndef RR_CONF_UP_IMPL_H
#define RR_CONF_UP_IMPL_H

#include <poll.h>
#include <signal.h>
#include <sys/types.h>

#include "conf/printer.h"
#include "conf/run_key.h"
#include "conf/up.h"

#define RR__UP_LINE 65536u /* of a node's output; a longer one is printed in parts */

typedef enum rr_up_state { UP_IDLE = 0, UP_RUNNING, UP_WAITING /* for its restart */, UP_ENDED } rr_up_state_t;

/* In this order nodes end, each by the last of its actors: what is said in scenes' last handlers reaches clients through gates,
 * what is written there a database, by links that brokers relay; and names come from the master to the end. */
typedef enum rr_up_rank { UP_SCENES = 0, UP_DATABASES, UP_GATES, UP_BROKERS, UP_MASTER } rr_up_rank_t;

typedef struct rr_up_node {
    const char *name;
    rr_up_state_t state;
    rr_up_rank_t rank;
    bool ready, was_ready, asked; /* asked: told to end */
    bool knew;                    /* it ran when the last master died, and may hold names of it */
    pid_t pid;
    int output; /* its stdout and stderr; -1 = closed */
    int word;   /* where it is told of others that died (siblings.h); -1 = closed */
    uint64_t restart_ms;               /* UP_WAITING: when */
    uint64_t restarts[RR_UP_RESTARTS]; /* when the last ones were; 0 = never */
    char line[RR__UP_LINE];
    size_t used;
} rr_up_node_t;

typedef struct rr_up {
    const rr_up_options_t *options;
    rr_up_node_t **nodes;
    size_t count;
    struct pollfd *polls; /* of the signals, standard output, then of each node */
    rr_printer_t *out;
    int signals;
    int width; /* of the longest name */
    bool colour, all_ready;
    bool stopping, killed; /* killed: all that still ran, as it took too long */
    bool strangers;        /* a node may run that was not started here: one that ended by itself may be another terminal's by now */
    bool at_terminal;      /* whose end is ours */
    rr_up_rank_t ending;  /* while stopping: nodes up to this rank were told to end */
    /* While stopping: until when scenes and databases are waited for, then gates and brokers; when what has not ended is killed. */
    uint64_t early_ms, late_ms, deadline_ms;
    uint64_t signal_ms;   /* the first signal that stopped it, 0 = none */
    int status;
    rr_run_key_t key; /* path "": the graph has one, or the group has none */
} rr_up_t;

/* ---- up_choose.c ---- */

/* Which nodes, the master's first: the others would only wait for it. False: out of memory. What is wrong is noted in the graph. */
RR_MUST_CHECK bool rr__up_choose(rr_up_t *up);
/* Before: the graph has no key, and will have one; whose, will be known when the nodes are chosen. */
void rr__up_promise_key(rr_up_t *up);
/* Behind: that of another `up` which runs a part of the graph already, else a new one, if the master's node is among ours; if it is
 * not, the group has none. False: it cannot be, and why was said. */
RR_MUST_CHECK bool rr__up_find_key(rr_up_t *up);

/* ---- up_node.c ---- */

/* How a node is told to end: of a whole graph that ends, no scene hands its sessions over to another (run.h). */
static inline int rr__up_end_signal(const rr_up_t *up) { return up->options->node_count ? SIGTERM : SIGINT; }
/* Its process begins. False: errno. */
RR_MUST_CHECK bool rr__up_start(rr_up_t *up, rr_up_node_t *node);
/* Reads its output, and prints the whole lines; all: also what there may be no room for. */
void rr__up_read_output(rr_up_t *up, rr_up_node_t *node, bool all);
/* Prints the whole lines that were read; all: the rest, too. */
void rr__up_take_lines(rr_up_t *up, rr_up_node_t *node, bool all);
/* -1 is left alone, and stands there then. */
void rr__up_close(int *fd);

#endif
