/* bridge.h: calls between groups, and to single services of outer ones.
 *
 * A bridge is a process that is a bare broker: the master of a group whose nodes are masters of other groups. Such a master
 * (`-bridge_broker GroupA@tcp://…`) holds a second system, its node in the bridge's group, where one actor bears its own
 * group's name. This file is that side of it. A call goes
 *
 *     scene -> bridge@0 of its own group | the second system -> (relayed by the bridge) -> "GroupB" | GroupB's own system -> scene
 *
 * and its answer the same way back. Bars are borders of systems inside one process: a bounded queue each, whose reader is
 * woken once per batch.
 *
 * Every call ends: with the service's answer; NOROUTE (surely not executed) if no bridge knows the group, the group has no
 * such name, or the bridge is not reached yet; OVERLOAD; TIMEOUT or LINKDOWN (maybe executed). Each hop waits a little
 * less long than the one before it, so the caller hears where it got stuck. Calls sent while a bridge or a link is away end
 * so; later ones work again by themselves.
 *
 * The second system is reached in the background: a process serves before its bridge is there. */
#ifndef RR_ACTORS_BRIDGE_H
#define RR_ACTORS_BRIDGE_H

#include "runtime/redrabbit.h"

typedef struct rr_bridge rr_bridge_t;

#define RR_BRIDGE_NAME "bridge@0" /* whom scenes ask for other groups */
/* The group whose master a bridge is: what a process is without -group, and the lines that start bridges have none. */
#define RR_BRIDGE_GROUP "default"
#define RR_BRIDGE_LINKS_MAX 64u

/* ---- How another group is entered -------------------------------------------------------------------------------- */

typedef struct rr_bridge_place {
    const char *group;   /* the group to enter: RR_BRIDGE_GROUP */
    const char *address; /* tcp://HOST:PORT of its master */
    const char *as;      /* the name this node wants there; different in every process */
    const void *key;
    size_t key_size;
    const rr_options_t *system; /* for the new system; node is set by the carrier */
    const struct rr_mesh_options *mesh; /* times and limits of the links; NULL = defaults */
    /* To be called when this node is no member any more: any thread, must not block. */
    void (*lost)(void *context, const char *why);
    void *context;
} rr_bridge_place_t;

typedef struct rr_bridge_stay {
    rr_system_t *system;     /* started */
    rr_executor_t *executor; /* for the bridge's actors there; NULL = the core workers */
    bool leased;             /* names there are leases */
    void *handle;            /* the carrier's */
} rr_bridge_stay_t;

/* rr_bridge_cluster (a node of a real cluster), or a test's. Called on the bridge's own threads only. */
typedef struct rr_bridge_carrier {
    /* Blocks until the group is entered, as long as it takes. RR_OK; RR_CANCELLED: *stop became nonzero; else an error that
     * waiting does not mend: why has one line. `say` tells of waiting, line by line. */
    int (*enter)(const rr_bridge_place_t *place, void (*say)(void *context, const char *line), void *context,
                 const volatile int *stop, rr_bridge_stay_t *out, char *why, size_t why_size);
    /* False: its master is given up, and only entering anew will find it. Asked about once a second; NULL = always true. */
    bool (*alive)(const rr_bridge_stay_t *stay);
    /* Leaves; stops and destroys the system. */
    void (*leave)(rr_bridge_stay_t *stay, unsigned deadline_ms);
} rr_bridge_carrier_t;

extern const rr_bridge_carrier_t rr_bridge_cluster; /* bridge_cluster.c */

/* ---- Bridges ------------------------------------------------------------------------------------------------------ */

typedef struct rr_bridge_link {
    const char *group;   /* the own group's name there: a name of an actor */
    const char *address; /* the bridge's */
} rr_bridge_link_t;

typedef struct rr_bridge_options {
    const char *name;              /* RR_BRIDGE_NAME */
    bool leased;                   /* that name is a lease of the own group: true in a cluster */
    const rr_bridge_link_t *links; /* 1 to RR_BRIDGE_LINKS_MAX */
    size_t link_count;
    const void *key; /* of the bridge's group; NULL: loopback only */
    size_t key_size;
    unsigned max_calls; /* under way, each direction of each link; 16,384. Over it: OVERLOAD */
    unsigned retry_min_ms, retry_max_ms;  /* after an error that waiting does not mend: 1,000, doubled up to 5,000 */
    const rr_options_t *system;           /* the second systems': where and what they log; NULL = the screen */
    const struct rr_mesh_options *mesh;   /* net/mesh.h: times and limits of their links; NULL = defaults */
    const rr_bridge_carrier_t *carrier;   /* &rr_bridge_cluster */
} rr_bridge_options_t;
void rr_bridge_options_init(rr_bridge_options_t *options);

/* Spawns the actor bridge@0 in `own` (which must be started) and begins to enter the bridges' groups. Options are copied.
 * why gets one line. RR_EINVAL, RR_ENOMEM, RR_EEXIST (there is one), RR_ELIMIT. Any thread. */
RR_MUST_CHECK int rr_bridge_create(rr_system_t *own, const rr_bridge_options_t *options, rr_bridge_t **out, char *why,
                                   size_t why_size);
/* Leaves the bridges' groups: others are told at once. Calls under way end LINKDOWN, later ones NOROUTE. At most about
 * deadline_ms. Not on a worker or loop. */
void rr_bridge_stop(rr_bridge_t *bridge, unsigned deadline_ms);
/* Stops if need be and frees. After rr_system_stop(own), before rr_system_destroy(own). NULL is allowed. */
void rr_bridge_destroy(rr_bridge_t *bridge);

typedef struct rr_bridge_state {
    const char *group, *address; /* as long as the bridge */
    bool up;
} rr_bridge_state_t;
/* Copies at most `max` entries; returns how many links there are. Any thread. */
size_t rr_bridge_list(rr_bridge_t *bridge, rr_bridge_state_t *out, size_t max);

/* ---- Services of outer groups (ffext.connect_to_outer_service) ----------------------------------------------------- */

/* One set per process. The service `name` of the group whose master is at `address` becomes an actor `name` of this
 * process: whoever here calls that name calls there. Only this process sees it (each process connects for itself), and it
 * lives until the end. */
typedef struct rr_outers rr_outers_t;

/* Of `options` key, max_calls, retry, system, mesh and carrier count. RR_ENOMEM. */
RR_MUST_CHECK int rr_outers_create(rr_system_t *own, const rr_bridge_options_t *options, rr_outers_t **out);
/* Begins to connect: RR_OK also if it is connected to that address already. RR_EINVAL (name, address), RR_EEXIST (the name is
 * an actor's, or another address's), RR_ELIMIT (RR_BRIDGE_LINKS_MAX), RR_ENOMEM, RR_ESTOPPING. why gets one line. Any
 * thread; does not block. Calls before it is connected end NOROUTE. */
RR_MUST_CHECK int rr_outers_connect(rr_outers_t *outers, const char *name, const char *address, char *why,
                                    size_t why_size);
void rr_outers_stop(rr_outers_t *outers, unsigned deadline_ms); /* as rr_bridge_stop */
void rr_outers_destroy(rr_outers_t *outers);                    /* as rr_bridge_destroy */

#endif
