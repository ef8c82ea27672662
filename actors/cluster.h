/* cluster.h: this process as a node of a group: joining, the links, the names.
 *
 * One node of a group is its master: its broker hands out node ids and epochs and tells everybody of every change. A process
 * that knows the master's address joins first (it learns its node id, which a system has from its creation on), then makes
 * its system with that id, then its membership:
 *
 *     rr_cluster_join(&options, &ticket, …)          blocks; the master itself: at once
 *     rr_options.node = ticket.node; rr_system_create(…)
 *     rr_cluster_create(system, loop, &options, &ticket, &cluster, …)
 *     actors are spawned with rr_spawn_t.leased and a name: they start when the master has granted it
 *     rr_cluster_leave(cluster, …)                    behind the drain of the node's actors
 *     rr_cluster_destroy(cluster)                     after rr_system_stop
 *
 * What happens by itself from then on: the names of leased actors are claimed, renewed with the node's lease (one call to the
 * master each third of it), and released when they end; rr_lookup finds names of other nodes; links are made when somebody
 * sends there. An actor whose name belongs to somebody else, or was given away meanwhile, ends with RR_STALE and a clear log
 * line. Without a master everything known goes on for the lease, and then stands still until it is back.
 *
 * The guarantee, as in Gray and Cheriton, "Leases" (SOSP 1989): the owner counts the lease from when it *sent* the renewal,
 * the master from when it *received* it, plus a margin: so the owner stops first. Epochs (master's term << 32 | counter; the
 * term is fsynced before a start's first grant) grow with every grant; receivers refuse what carries a lower one. */
#ifndef RR_ACTORS_CLUSTER_H
#define RR_ACTORS_CLUSTER_H

#include "actors/registry.h"
#include "actors/state_file.h"

typedef struct rr_cluster rr_cluster_t;

typedef struct rr_cluster_options {
    const char *group;       /* "world" */
    const char *node_name;   /* as in the graph; the seed's command line: "node-PID" */
    const char *listen;      /* tcp://HOST:PORT of this node's port for nodes; the master: required. NULL: does not listen,
                                others reach it through a relay */
    const char *advertise;   /* what others are told to dial; NULL = listen with the real port */
    const char *master;      /* tcp://HOST:PORT of the group's master; NULL = this node is the master */
    bool relay;              /* forwards for others: a master always does, a slave broker too */
    const void *key;         /* the group's shared secret */
    size_t key_size;
    const char *state_path;  /* master only: file for its term; NULL: see rr_cluster_state_path */
    bool fresh;              /* master only: no node of an earlier master lives for sure (whoever starts all of a group's
                                processes knows): grants at once, without waiting for lease and margin */
    const char *broker;      /* master only: its broker's name, "broker@0" */
    unsigned lease_ms;       /* 15,000; the master's counts, members are told */
    unsigned margin_ms;      /* 2,000 */
    unsigned join_ms;        /* how long rr_cluster_join tries altogether: 0 = for ever */
    const rr_mesh_options_t *mesh; /* limits and times of the links, NULL = defaults; self, listen, key are set from here */
    /* Both on the loop's thread: must not block. May be NULL. drain: somebody asked this node to drain and end
     * (rr_cluster_drain_node). lost: it is no member any more (its lease ran out and it was given up, or it was replaced): all
     * its leased actors end with RR_STALE right behind this call; the process should end and start anew. */
    void (*drain)(void *context);
    void (*lost)(void *context, const char *why);
    void *context;
} rr_cluster_options_t;
void rr_cluster_options_init(rr_cluster_options_t *options);

/* Where the master keeps its term unless told: $STATE_DIRECTORY, $XDG_STATE_HOME/redrabbit or ~/.local/state/redrabbit,
 * "GROUP.state". RR_ETOOBIG, RR_ENOENT (no home). */
RR_MUST_CHECK int rr_cluster_state_path(const char *group, char *out, size_t size);

typedef struct rr_cluster_ticket {
    rr_node_identity_t self, master;
    rr_state_file_t state; /* the master's: open and locked */
} rr_cluster_ticket_t;
/* Of a ticket that is not used. */
void rr_cluster_ticket_drop(rr_cluster_ticket_t *ticket);

/* Joins, trying again with back-off while the master is not there (one line through `say` when it waits, one when it is
 * over). RR_ETIMEDOUT is RR_TIMEOUT; others (wrong key, group, version, a node of that name is alive) are final: why says what
 * and how to mend. stop (may be NULL) is polled about every 100 ms: nonzero ends it with RR_CANCELLED. Blocks. */
RR_MUST_CHECK int rr_cluster_join(const rr_cluster_options_t *options, rr_cluster_ticket_t *ticket,
                                  void (*say)(void *context, const char *line), void *context, const volatile int *stop,
                                  char *why, size_t why_size);

/* Opens the node's port and spawns its agent, and on the master the broker. Before rr_system_start. options need not outlive
 * it; the ticket is used up, also on failure. */
RR_MUST_CHECK int rr_cluster_create(rr_system_t *system, rr_loop_t *loop, const rr_cluster_options_t *options,
                                    rr_cluster_ticket_t *ticket, rr_cluster_t **out, char *why, size_t why_size);

/* The master was not reached for a whole lease: the named actors of this node stand still, and what needs their turns (handing
 * over, offline handlers) does not happen until it is back. Any thread. */
bool rr_cluster_fenced(rr_cluster_t *cluster);
/* This node takes no new sessions and its names are about to move: told to everybody (RR_NODE_DRAINING). Any thread. */
void rr_cluster_draining(rr_cluster_t *cluster);
/* That node's process is dead, as whoever started it and has waited for its end knows for sure: nobody here waits for its links
 * then, and on the master its names are free. One that is not known: nothing happens. Any thread. */
void rr_cluster_node_died(rr_cluster_t *cluster, unsigned node, uint64_t incarnation);
/* Names released, everything sent is acknowledged or deadline_ms is over, the others told that the node is gone. Not on a
 * worker or loop; after the node's actors were drained. */
void rr_cluster_leave(rr_cluster_t *cluster, unsigned deadline_ms);
void rr_cluster_destroy(rr_cluster_t *cluster); /* after rr_system_stop; NULL is allowed */

rr_mesh_t *rr_cluster_mesh(rr_cluster_t *cluster);

/* ---- What is where (redrabbit ps, console, metrics) ---- */

typedef struct rr_cluster_node {
    rr_node_identity_t identity;
    rr_node_status_t status;
    uint64_t lease_left_ms; /* master only, else 0 */
} rr_cluster_node_t;

typedef struct rr_cluster_name {
    char name[128];
    rr_addr_t addr;
    uint64_t epoch;
} rr_cluster_name_t;

/* Copies of what this node knows; each returns how many there are, at most `max` are written. Any thread. */
size_t rr_cluster_nodes(rr_cluster_t *cluster, rr_cluster_node_t *out, size_t max);
size_t rr_cluster_names(rr_cluster_t *cluster, rr_cluster_name_t *out, size_t max);

/* For a tool: joins as an observer (no id is used up for good), asks the master, leaves. *json is the caller's (free): nodes,
 * names, links of all nodes as documented in conf/README.md. Blocks. */
RR_MUST_CHECK int rr_cluster_query(const char *broker, const char *group, const void *key, size_t key_size,
                                   unsigned deadline_ms, char **json, char *why, size_t why_size);
/* The same: tells the node of that name to drain and end; returns when it is gone (or deadline_ms is over: RR_TIMEOUT). */
RR_MUST_CHECK int rr_cluster_drain_node(const char *broker, const char *group, const void *key, size_t key_size,
                                        const char *node, unsigned deadline_ms, char *why, size_t why_size);

#endif
