/* master_impl.h: the inside of the group's broker, shared by its files. Private to actors/. Everything is touched on its one thread
 * (master.h), except where it is said. */
#ifndef RR_ACTORS_MASTER_IMPL_H
#define RR_ACTORS_MASTER_IMPL_H

#include <pthread.h>
#include <sys/queue.h>

#include "actors/map.h"
#include "actors/master.h"
#include "actors/registry_wire.h"
#include "runtime/clock.h"
#include "runtime/remote.h"

#define RR__MASTER_NODES 65536u
#define RR__MASTER_LOG 8192u /* changes that are kept for those who missed some */

typedef struct rr__name {
    LIST_ENTRY(rr__name) entry; /* of its node */
    struct rr__node *node;
    uint64_t addr, epoch;
    char text[RR_REG_NAME_SIZE];
} rr__name_t;

typedef enum rr__phase { RR__RESERVED = 0, RR__MEMBER } rr__phase_t;
typedef enum rr__reach { RR__LINK_UNKNOWN = 0, RR__LINK_UP, RR__LINK_CUT } rr__reach_t;

typedef struct rr__node {
    rr_node_identity_t identity;
    rr_addr_t agent;
    rr__phase_t phase;
    rr__reach_t link;
    bool draining, replaced;
    char place[RR_REG_PLACE];
    /* When its last renewal was received (boot clock). Its thread writes, under master->lock when others look. */
    uint64_t heard_ns;
    LIST_HEAD(, rr__name) names;
} rr__node_t;

typedef struct rr__change {
    uint8_t *bytes;
    uint32_t size;
} rr__change_t;

struct rr__query;

struct rr_master {
    rr_system_t *system;
    rr_master_options_t options;
    rr_addr_t addr;
    uint64_t table; /* what versions count in: this start of the master */
    uint32_t counter;
    unsigned next_id;
    uint64_t grace_until_ns, tick_ns, ticked_ns;
    rr_map_t nodes; /* id -> rr__node_t; changed under lock */
    rr_set_t names;
    uint64_t version; /* of the last change */
    rr__change_t log[RR__MASTER_LOG]; /* change of version v at v % RR__MASTER_LOG */
    uint64_t flushed; /* version that all were told of */
    uint8_t gone[RR__MASTER_NODES / 8]; /* ids whose node ended in this term: never taken back */
    LIST_HEAD(, rr__query) queries;
    unsigned query_count;
    /* For rr_master_lease_left_ms: nodes and heard_ns are changed under it. */
    pthread_mutex_t lock;
    _Atomic(bool) deposed; /* written by its thread, read by any (relaxed: only itself counts) */
    rr_counter_t members, owned, grants, refusals, waits, renewals, expired, changes, wholes;
};

static inline uint64_t rr__master_boot(const rr_master_t *master) { return rr_system_boot_ns(master->system); }
/* How long a node is waited for that is not heard. */
static inline uint64_t rr__master_patience_ns(const rr_master_t *master) {
    return (master->options.lease_ms + (uint64_t)master->options.margin_ms) * 1000000ull;
}
static inline bool rr__master_in_grace(const rr_master_t *master) { return rr__master_boot(master) < master->grace_until_ns; }
static inline unsigned rr__to_ms(uint64_t ns) { return (unsigned)(ns / 1000000); }

/* ---- master.c: nodes, calls ---- */

/* The member of that id and incarnation; NULL. */
rr__node_t *rr__master_member(rr_master_t *master, unsigned id, uint64_t incarnation);
/* Is somebody there, as far as one can tell? */
bool rr__master_is_lively(rr_master_t *master, const rr__node_t *node);
/* May it no longer speak for this node, or this master for the group? */
bool rr__master_is_stale(rr_master_t *master, uint32_t term_seen, unsigned id, uint64_t incarnation, char why[RR_REG_WHY]);
/* Frees what is in `out`. */
void rr__master_answer(rr_actor_t *self, rr_message_t *msg, rr_reg_out_t *out);
void rr__master_answer_status(rr_actor_t *self, rr_message_t *msg, uint8_t status, const char *why);

/* ---- master_changes.c: what all are told ---- */

void rr__master_tell_name(rr_master_t *master, const char *text, rr_addr_t addr, uint64_t epoch);
void rr__master_tell_node(rr_master_t *master, const rr__node_t *node);
void rr__master_tell_gone(rr_master_t *master, const rr__node_t *node, bool left);
void rr__master_tell_settled(rr_master_t *master);
/* What is new since that version of that table, or all there is. */
void rr__master_put_changes(rr_master_t *master, rr_reg_out_t *out, uint64_t table, uint64_t version);
/* Behind a turn: tells every member what the turn has changed. */
void rr__master_flush(rr_actor_t *self, rr_master_t *master);

/* ---- master_names.c: who owns what ---- */

rr__name_t *rr__master_name_find(rr_master_t *master, const char *text); /* NULL: nobody's */
/* NULL: out of memory, or too many. */
rr__name_t *rr__master_name_own(rr_master_t *master, rr__node_t *node, const char *text, rr_addr_t addr, uint64_t epoch);
void rr__master_name_free(rr_master_t *master, rr__name_t *name);
void rr__master_on_update(rr_actor_t *self, rr_master_t *master, rr_message_t *msg);

/* ---- master_report.c: for people ---- */

void rr__master_on_query(rr_actor_t *self, rr_master_t *master, rr_message_t *msg);
void rr__master_queries_free(rr_master_t *master);

#endif
