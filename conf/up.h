/* up.h: `redrabbit up`: the nodes of a graph as processes of this machine, for people who develop.
 *
 * Each node is this program itself with --node NAME, in a process group of its own, so that Ctrl-C reaches only `up`, which
 * stops them in order: those that run scenes only, with databases, with gates, with brokers, the master's; so what scenes say in
 * their last handlers reaches the clients before these are told goodbye. Each is told to end when those before it have ended, or
 * after 60 % (scenes and databases) or all of the graph's option `drain`; what runs 5 s later is killed, and so is everything at a
 * second signal. It is SIGINT that they get, so that no scene hands sessions over to one that ends as well, or SIGTERM, if `up`
 * runs a part of the graph. A node that ends with an error after it was ready is started again, after 1, 2,
 * 4 … s, at most RR_UP_RESTARTS times in RR_UP_WITHIN_MS; one that never got ready, or fails too often, ends them all. One that
 * ends with 0 was drained and stays away. Of one that ends with an error the others hear at once (siblings.h): they wait for nothing
 * of it, also while everything is stopped. If all were killed, the next master waits for no lease of them. One that died and was
 * not started again when everything is stopped did not end in order. */
#ifndef RR_CONF_UP_H
#define RR_CONF_UP_H

#include "conf/graph.h"

#define RR_UP_RESTARTS 5
#define RR_UP_WITHIN_MS 60000

typedef struct rr_up_options {
    rr_graph_t *graph;         /* checked */
    const char *file;          /* its file, for the nodes' command lines */
    char *const *nodes;        /* which nodes; node_count 0 = all */
    size_t node_count;
    char *const *more;         /* what else goes into every node's command line ("-log_level", "debug") */
    size_t more_count;
} rr_up_options_t;

/* Runs until all have ended: RR_EXIT_OK if all ended well, RR_EXIT_FAILED if one did not start or failed too often,
 * RR_EXIT_USAGE for names of no node or a graph with `daemon`, RR_EXIT_CUT if one did not end in time, or not in order. Main
 * thread; it blocks SIGCHLD, SIGTERM, SIGINT and SIGHUP (which it passes on: logs are opened anew; at a terminal it ends by it, as
 * by SIGTERM), and ignores SIGPIPE. */
int rr_up(const rr_up_options_t *options);

#endif
