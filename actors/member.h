/* member.h: a node's agent: the actor that keeps this process a member of its group. It claims the names of leased actors as
 * they appear (runtime/remote.h), grants them their turns, renews the node's lease, and carries what the registry tells into
 * the runtime (names of others, addresses that lost theirs) and to the mesh (who there is). Used by cluster.c. */
#ifndef RR_ACTORS_MEMBER_H
#define RR_ACTORS_MEMBER_H

#include "actors/registry.h"
#include "runtime/metrics.h"

typedef struct rr_member rr_member_t;

/* What it does to the links; the mesh, or a test's. Agent's turns. */
typedef struct rr_member_links {
    int (*peer)(void *context, const rr_node_identity_t *node, bool eager);
    void (*forget)(void *context, unsigned node, uint64_t incarnation);
    /* This node's links as JSON, for `redrabbit ps`; NULL = none. The caller frees. */
    char *(*describe)(void *context);
} rr_member_links_t;

typedef struct rr_member_options {
    rr_node_identity_t self, master;
    const char *place; /* rr_registry_config_t; must outlive the member. NULL = "" */
    const rr_registry_ops_t *registry; /* &rr_registry_builtin */
    const rr_member_links_t *links;
    void *links_context;
    rr_executor_t *executor;                         /* the loop's; NULL = core */
    void (*drain)(void *context);                    /* this node shall drain; may be NULL. Agent's turn: must not block */
    void (*lost)(void *context, const char *why);    /* it is no member any more; may be NULL. As drain */
    void *context;
} rr_member_options_t;

/* Spawns the agent. options are copied, strings too. RR_ENOMEM. Freed by rr_member_free after rr_system_stop. */
RR_MUST_CHECK int rr_member_create(rr_system_t *system, const rr_member_options_t *options, rr_member_t **out);
void rr_member_free(rr_member_t *member); /* NULL is allowed */
rr_addr_t rr_member_addr(const rr_member_t *member);

/* Another process is the group's master now. Any thread. */
RR_MUST_CHECK int rr_member_master(rr_member_t *member, const rr_node_identity_t *master);
/* Is this node's session with that node over for ever, as far as the group knows? Any thread. */
bool rr_member_knows(rr_member_t *member, unsigned node, uint64_t incarnation);
/* The link to a node is silent (or not any more): for rr_member_nodes. Any thread. */
void rr_member_link(rr_member_t *member, unsigned node, uint64_t incarnation, bool silent);
/* The master's process refuses this node's connection as one that was given up: believed once the lease is over. Any thread. */
void rr_member_given_up(rr_member_t *member, const char *why);
/* rr_cluster_node_died. Any thread. */
void rr_member_node_died(rr_member_t *member, unsigned node, uint64_t incarnation);
/* Has the lease run out, so that named actors stand still? Any thread. */
bool rr_member_fenced(rr_member_t *member);
/* Tells everybody that this node drains. Any thread. */
void rr_member_draining(rr_member_t *member);
/* Gives all names back; returns when the master knows, or deadline_ms is over. Not on a worker or loop. */
void rr_member_leave(rr_member_t *member, unsigned deadline_ms);

/* As rr_cluster_nodes and rr_cluster_names. */
struct rr_cluster_node;
struct rr_cluster_name;
size_t rr_member_nodes(rr_member_t *member, struct rr_cluster_node *out, size_t max);
size_t rr_member_names(rr_member_t *member, struct rr_cluster_name *out, size_t max);

void rr_member_collect(void *member, rr_metrics_writer_t *writer); /* a rr_metrics_collect_fn */

#endif
