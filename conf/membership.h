/* membership.h: a process' share of the graph as a node of its group: what actors/cluster.h needs, taken from the graph.
 *
 * rr_membership_join before the system is made (it learns the node's id), rr_membership_create before the system starts,
 * rr_membership_leave behind the drain of gates and scenes, rr_membership_destroy after rr_system_stop. Main thread. */
#ifndef RR_CONF_MEMBERSHIP_H
#define RR_CONF_MEMBERSHIP_H

#include "actors/cluster.h"
#include "conf/share.h"

typedef struct rr_membership rr_membership_t;

typedef struct rr_membership_options {
    rr_graph_t *graph;
    const rr_share_t *share;  /* with share->cluster */
    const volatile int *stop; /* not 0 any more: give up waiting for the master; may be NULL */
    /* Both on a loop's thread; must not block. */
    void (*drain)(void *context);                 /* somebody asked this node to drain and end */
    void (*lost)(void *context, const char *why); /* it is no node of the group any more */
    void *context;
} rr_membership_options_t;

/* Joins the group, waiting for its master; prints a line when it waits. Blocks until then, or `stop`: RR_CANCELLED. What
 * options points to must outlive it. On failure why has one line. */
RR_MUST_CHECK int rr_membership_join(const rr_membership_options_t *options, rr_membership_t **out, char *why, size_t why_size);

/* Who this process is: its node is the id for rr_options_t.node. */
const rr_node_identity_t *rr_membership_self(const rr_membership_t *member);

/* Opens the node's port. RR_EADDRINUSE and others: why has one line that says how to mend it. */
RR_MUST_CHECK int rr_membership_create(rr_membership_t *member, rr_system_t *system, rr_loop_t *loop, char *why, size_t why_size);

/* What a person wants to know once it is there. */
void rr_membership_describe(const rr_membership_t *member, FILE *out);

/* The links' times and limits, of the graph. */
void rr_membership_times(rr_graph_t *graph, rr_mesh_options_t *out);

/* NULL before rr_membership_create. */
rr_cluster_t *rr_membership_cluster(rr_membership_t *member);

void rr_membership_destroy(rr_membership_t *member); /* NULL is allowed */

#endif
