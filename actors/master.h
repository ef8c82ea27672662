/* master.h: the broker of a whole group: who its nodes are, and who owns which name, under which epoch. One process of the
 * group has it; the agents of all nodes (member.h, the own one too) call it with what registry_wire.h describes. The broker
 * of a process without a group is broker.h.
 *
 * Everything happens on one thread: the actor's, and the loop's that calls the functions below (the actor is pinned to that
 * loop, so these never run beside one of its turns). CLUSTER.md says why names are safe. */
#ifndef RR_ACTORS_MASTER_H
#define RR_ACTORS_MASTER_H

#include "actors/registry.h"
#include "runtime/metrics.h"

typedef struct rr_master rr_master_t;

typedef struct rr_master_options {
    rr_node_identity_t self; /* self.service is filled in */
    const char *name;        /* "broker@0"; NULL: without one */
    uint32_t term;           /* greater than that of every master before (state_file.h); not 0 */
    unsigned ids_left;       /* ids behind self.node that are this term's to hand out first */
    bool grace;              /* others may still own names: for lease and margin only what was held before is accepted */
    unsigned lease_ms, margin_ms;
    unsigned max_nodes; /* 1,024 */
    unsigned max_names; /* 65,536 */
    rr_executor_t *executor; /* the loop's; NULL = core */
} rr_master_options_t;

/* Spawns the broker; options are copied. RR_ENOMEM, RR_EEXIST. Freed by rr_master_free after rr_system_stop. */
RR_MUST_CHECK int rr_master_create(rr_system_t *system, const rr_master_options_t *options, rr_master_t **out);
void rr_master_free(rr_master_t *master); /* NULL is allowed */
rr_addr_t rr_master_addr(const rr_master_t *master);

/* rr_mesh_handler_t's functions. Loop thread. */
int rr_master_join(rr_master_t *master, rr_node_identity_t *who, char *why, size_t why_size);
int rr_master_unknown(rr_master_t *master, const rr_node_identity_t *who, char *why, size_t why_size);
/* Whether there is a connection to a node right now: who is connected and alive is not waited for. Loop thread. */
void rr_master_link(rr_master_t *master, unsigned node, uint64_t incarnation, bool up);
/* The session with a node is over: true if it never became a member, and is forgotten now. Loop thread. */
bool rr_master_visitor_left(rr_master_t *master, unsigned node, uint64_t incarnation);

/* rr_cluster_node_died. Any thread. */
void rr_master_node_died(rr_master_t *master, unsigned node, uint64_t incarnation);

/* How long a node's lease lasts still; UINT64_MAX: for ever, 0: it has none. Any thread. */
uint64_t rr_master_lease_left_ms(rr_master_t *master, unsigned node);
/* Nobody else owns anything: a successor needs no grace. After rr_system_stop. */
bool rr_master_is_clean(const rr_master_t *master);
bool rr_master_is_deposed(const rr_master_t *master); /* a later master was heard of. Any thread */

void rr_master_collect(void *master, rr_metrics_writer_t *writer); /* a rr_metrics_collect_fn */

#endif
