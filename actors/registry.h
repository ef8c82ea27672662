/* registry.h: how the names of a group are owned: a table of operations that a node's agent (member.h) uses from inside its
 * turns. Drivers: "builtin" (registry_builtin.c: the master's broker, by ordinary calls); a store of others' making (etcd)
 * can stand behind the same table. tests/unit/actors/registry_suite.h is what every driver must pass:
 *
 * A name has one owner. Each grant's epoch is greater than every one before it, also across restarts of whatever keeps
 * them. A node's names are its own until its lease runs out, which the node counts from when it *sent* the renewal; they are
 * given to others only after release, or lease and margin after the last renewal *received*. */
#ifndef RR_ACTORS_REGISTRY_H
#define RR_ACTORS_REGISTRY_H

#include "net/mesh.h"

typedef enum rr_node_status { RR_NODE_ALIVE = 0, RR_NODE_SUSPECT, RR_NODE_DRAINING } rr_node_status_t;
const char *rr_node_status_name(rr_node_status_t status);

typedef struct rr_registry rr_registry_t;

/* Who has a name that was refused. */
typedef struct rr_registry_owner {
    rr_addr_t addr;
    uint64_t epoch;
    char node[RR_NODE_NAME_MAX + 1];
} rr_registry_owner_t;

/* What a driver tells, always inside the agent's turns. Names are NUL-terminated, valid during the call. */
typedef struct rr_registry_events {
    /* claim's end: it is ours, with this epoch (also again, with the same or a higher one, after a restart of the master). */
    void (*granted)(void *context, const char *name, rr_addr_t addr, uint64_t epoch);
    /* claim's other end, or a name that was ours is another one's: final. */
    void (*refused)(void *context, const char *name, rr_addr_t addr, const rr_registry_owner_t *owner);
    /* The claim waits: somebody silent has the name, or the master was restarted. Once per claim; ms = for about so long. */
    void (*waits)(void *context, const char *name, rr_addr_t addr, const rr_registry_owner_t *owner, unsigned ms);
    /* The node's lease lasts until then (rr_system_boot_ns); UINT64_MAX = for ever. */
    void (*renewed)(void *context, uint64_t until_boot_ns);
    /* The registry cannot be reached (once) / answers again. */
    void (*reachable)(void *context, bool yes, const char *why);
    /* This process is no member any more: all it owned is or will be others'. Final. */
    void (*lost)(void *context, const char *why);
    /* Everything that is, begins / was told: forget what was not. Between them a lease may pass: nodes return one by one to a
     * restarted master, and what is known of the others stays meanwhile. */
    void (*whole)(void *context);
    void (*settled)(void *context);
    /* A node is there, or its status or address changed; agent: its agent's address. */
    void (*node)(void *context, const rr_node_identity_t *node, rr_node_status_t status, rr_addr_t agent);
    /* left: in order; it may still have something to say on its links. */
    void (*node_gone)(void *context, unsigned node, uint64_t incarnation, bool left);
    /* Who owns a name now; addr RR_NOBODY: nobody since that epoch ended. */
    void (*name)(void *context, const char *name, rr_addr_t addr, uint64_t epoch);
} rr_registry_events_t;

typedef struct rr_registry_config {
    rr_node_identity_t self, master;
    /* The machine's boot and network namespace, "" = not known: who listens at an address there proves that whoever did so
     * before is dead. Borrowed. */
    const char *place;
    const rr_registry_events_t *events; /* must outlive the driver */
    void *context;
} rr_registry_config_t;

/* All functions: inside the agent's turns. */
typedef struct rr_registry_ops {
    const char *name;
    /* Begins: joins with what was claimed so far. RR_ENOMEM. */
    RR_MUST_CHECK int (*open)(rr_actor_t *self, const rr_registry_config_t *config, rr_registry_t **out);
    /* Asks for a name for a local address / gives it back. Idempotent; answers come as events. RR_ENOMEM, RR_EINVAL. */
    RR_MUST_CHECK int (*claim)(rr_registry_t *registry, const char *name, rr_addr_t addr);
    RR_MUST_CHECK int (*release)(rr_registry_t *registry, const char *name, rr_addr_t addr);
    void (*draining)(rr_registry_t *registry); /* told to everybody */
    /* Gives everything back and is no member any more; done(context) once, at the latest after deadline_ms. */
    void (*leave)(rr_registry_t *registry, unsigned deadline_ms, void (*done)(void *context), void *context);
    /* Another process keeps the names now (a restarted master). */
    void (*master)(rr_registry_t *registry, const rr_node_identity_t *master);
    /* Every message of the agent is shown to it: true = it was the driver's. */
    bool (*receive)(rr_registry_t *registry, rr_message_t *msg);
    void (*turn_end)(rr_registry_t *registry); /* at the end of each turn: what the turn gathered goes out */
    void (*close)(rr_registry_t *registry);    /* frees it; in finish(), too */
    /* For metrics, any thread: renewals answered, claims refused, grants, changes applied, whole tables taken. */
    void (*counts)(const rr_registry_t *registry, uint64_t out[5]);
} rr_registry_ops_t;

struct rr_registry {
    const rr_registry_ops_t *ops;
};

extern const rr_registry_ops_t rr_registry_builtin;

/* Timer tags from here on are the driver's. */
#define RR_REGISTRY_TIMER 0x52470000u

#endif
