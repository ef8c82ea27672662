/* cluster_impl.h: a cluster on any thread with time and connections: a loop's, or a simulated one. Private to actors/ and
 * its tests. */
#ifndef RR_ACTORS_CLUSTER_IMPL_H
#define RR_ACTORS_CLUSTER_IMPL_H

#include "actors/cluster.h"

/* What a cluster stands on. */
typedef struct rr__cluster_base {
    rr_executor_t *executor; /* of that thread: the agent's, the broker's and the mesh's */
    /* fn(context) on that thread, soon. Any thread. RR_ENOMEM, RR_ESTOPPING. */
    int (*post)(void *from, void (*fn)(void *context), void *context);
    /* As rr_mesh_create. */
    int (*mesh)(void *from, const rr_mesh_options_t *options, rr_mesh_t **out, char *why, size_t why_size);
    void *from;
} rr__cluster_base_t;

/* As rr_cluster_create. base is copied. */
RR_MUST_CHECK int rr__cluster_create(rr_system_t *system, const rr__cluster_base_t *base, const rr_cluster_options_t *options,
                                     rr_cluster_ticket_t *ticket, rr_cluster_t **out, char *why, size_t why_size);

/* What a master answers to a process that joins: who->node is its number, *master who keeps the names. Codes as of
 * rr_cluster_join. Its thread. */
RR_MUST_CHECK int rr__cluster_admit(rr_cluster_t *master, rr_node_identity_t *who, rr_node_identity_t *self, char *why,
                                    size_t why_size);

#endif
