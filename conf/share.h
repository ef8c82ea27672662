/* share.h: which part of the graph this process runs, and how the process takes part in its group.
 *
 * Without nodes, or with all of them, everything runs in this process; it is a node of a group only if its broker listens
 * (then it is the group's master) or has a master (then it joins that one's group). With --node NAME it is that node: its
 * port for nodes is the node's `address`, else what its broker listens on; the group's master is the node that runs the
 * first broker without a `master`, else whoever the brokers' `master` says. */
#ifndef RR_CONF_SHARE_H
#define RR_CONF_SHARE_H

#include "conf/graph.h"

#define RR_SHARE_NAME 64u
#define RR_KEY_MIN 16u
#define RR_KEY_MAX 4096u

typedef struct rr_share {
    bool cluster;                /* false: all names are this process's own; nothing below counts */
    bool relay;                  /* a broker runs here: it forwards for others */
    char node[RR_SHARE_NAME];    /* the node's name; without --node: "node-PID" */
    const char *group;
    const char *listen;          /* the port for nodes; NULL = none: reached through a relay */
    const char *advertise;       /* what others dial; NULL = listen */
    const char *master;          /* who to join; NULL = this is the master */
    const char *broker;          /* the name of the master's broker */
    const char *state;           /* the master's file; NULL = where it is by default */
    bool fresh;                  /* the master's: no node of an earlier start lives */
    const char *key_file;        /* NULL = none: loopback only */
    const rr_value_t *bridges;   /* GROUP@ADDRESS each, of the broker that runs here; NULL = none */
} rr_share_t;

/* The share of the node chosen by rr_graph_select. RR_OK, or RR_EINVAL with the errors in the graph: what can be run together
 * but not apart. The strings belong to the graph. After rr_graph_check. */
RR_MUST_CHECK int rr_graph_share(rr_graph_t *graph, rr_share_t *out);

/* Reads a key: the file's text without the white space around it, RR_KEY_MIN to RR_KEY_MAX bytes, malloced. RR_OK, RR_EIO,
 * RR_EINVAL, RR_ENOMEM: why has one line. *warning (if not "") is worth telling: others may read the file. */
RR_MUST_CHECK int rr_key_read(const char *path, char **key, size_t *size, char *why, size_t why_size, char *warning,
                              size_t warning_size);

/* A number that two graphs have in common if they agree on group, nodes, addresses, actors, where these run, and who logs in
 * where (64-bit FNV-1a). Everything else may differ from machine to machine. */
uint64_t rr_graph_hash(rr_graph_t *graph);

#endif
