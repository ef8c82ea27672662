/* mesh_impl.h: what the parts of a mesh share: mesh.c (peers, paths, relaying), mesh_dial.c, wire.c (one connection),
 * link.c (sessions), link_send.c, link_receive.c, pauses.c. Private to net/ and its tests. Carrier's thread only,
 * unless said otherwise. */
#ifndef RR_NET_MESH_IMPL_H
#define RR_NET_MESH_IMPL_H

#include <pthread.h>
#include <semaphore.h>

#include "net/carrier.h"
#include "net/link.h"
#include "net/mesh.h"
#include "net/wire.h"
#include "runtime/log.h"
#include "runtime/metrics.h"
#include "runtime/random.h"
#include "runtime/remote.h"

#define RR__MS 1000000ull

/* One thread writes (the carrier's), any reads; see rr_counter_t. */
typedef struct rr__mesh_counters {
    rr_counter_t refused, accepted, dialled, relayed_frames, relay_dropped, strangers_dropped, violations,
        graphs_differ;
} rr__mesh_counters_t;

typedef struct rr__pause rr__pause_t;
#define RR__PAUSE_BUCKETS 256u
typedef struct rr__pauses {
    rr__pause_t *buckets[RR__PAUSE_BUCKETS];
} rr__pauses_t;

struct rr_mesh {
    rr_system_t *system;
    rr__carrier_t *carrier;
    rr_mesh_options_t options; /* key: a copy of our own */
    char address[300];         /* as bound */
    rr_addr_t helper;          /* the actor that hears when there is room again */
    rr_random_t random;
    uint64_t tick_due_ns; /* when the tick timer fires; UINT64_MAX = not set */
    bool ticking, leaving, ended;
    uint64_t leave_due_ns;
    sem_t *left;             /* somebody waits in rr_mesh_leave */
    rr__link_t *links;       /* attached ones; changed under `lock`, for rr_mesh_list */
    rr__link_t **nodes[256]; /* nodes[node / 256][node % 256]: the attached one */
    rr__wire_t *wires;
    unsigned strangers;
    /* What a read has brought and is not handed over yet, for the link that is its context. Flushed at the read's end (wire.c), and
     * before anybody is told that the link is over. */
    rr_delivery_t delivery;
    rr__link_t *owing; /* links that owe an acknowledgement */
    bool ack_timer;
    rr__pauses_t pauses;
    rr_log_limit_t refused_log;
    rr__mesh_counters_t counters;
    /* Whom rr_mesh_peer told of: any thread, under `lock`, as are links' identities and routes. `fresh`: those whose
     * proxy has not begun yet. */
    /* The last number given to a session of this mesh: none is used twice, also with a node that was forgotten and comes back in
     * the same incarnation (it may still know the old ones). Relaxed: only its own value matters. Loop and rr_mesh_peer's callers. */
    _Atomic(uint32_t) sessions;
    pthread_mutex_t lock;
    rr__link_t **known[256];
    unsigned known_count;
    rr__link_t *fresh;
};

/* rr_mesh_create on any carrier: `carry` makes it. */
typedef int (*rr__carrier_fn)(void *from, const rr__carrier_handler_t *handler, void *context, rr__carrier_t **out);
RR_MUST_CHECK int rr__mesh_create(rr_system_t *system, rr__carrier_fn carry, void *from,
                                  const rr_mesh_options_t *options, rr_mesh_t **out, char *why, size_t why_size);

static inline uint64_t rr__mesh_now(rr_mesh_t *mesh) {
    return mesh->carrier->ops->now_ns(mesh->carrier);
}
/* Looks after everything at that time, or earlier. */
void rr__mesh_due(rr_mesh_t *mesh, uint64_t at_ns);
uint64_t rr__mesh_jitter(rr_mesh_t *mesh, uint64_t ns); /* between a half and the whole of it */

rr__link_t *rr__mesh_link(rr_mesh_t *mesh, unsigned node); /* the attached one; NULL */
/* rr_mesh_peer's inside; *out (may be NULL) is attached if this is the carrier's thread. */
RR_MUST_CHECK int rr__mesh_add(rr_mesh_t *mesh, const rr_node_identity_t *peer, bool eager, rr__link_t **out);
void rr__mesh_attach(rr_mesh_t *mesh, rr__link_t *link);
void rr__mesh_detach(rr_mesh_t *mesh, rr__link_t *link); /* forgets it everywhere; frees it */

/* The way to a node now: its own connection, or one to a relay (another than `not_via` if there is one); NULL. */
rr__wire_t *rr__mesh_path(rr_mesh_t *mesh, rr__link_t *link, bool other);

/* From wires. */
void rr__mesh_wire_admit(rr_mesh_t *mesh, rr__wire_t *wire, rr_node_hello_t *hello, rr_node_refusal_t *refusal);
/* Another node than was expected answers at an address: it may be the expected one's successor. Its key is proven. */
void rr__mesh_wire_stranger(rr_mesh_t *mesh, const rr_node_identity_t *who);
void rr__mesh_wire_open(rr_mesh_t *mesh, rr__wire_t *wire);
bool rr__mesh_wire_frame(rr_mesh_t *mesh, rr__wire_t *wire, rr_node_header_t h, uint8_t *frame, char *why,
                         size_t why_size);
void rr__mesh_wire_room(rr_mesh_t *mesh, rr__wire_t *wire);
void rr__mesh_wire_closed(rr_mesh_t *mesh, rr__wire_t *wire, int error, const char *why);

/* Dialling: mesh_dial.c. */
uint64_t rr__mesh_dial_tick(rr_mesh_t *mesh, rr__link_t *link, uint64_t now); /* when to call again */
void rr__mesh_dial_failed(rr_mesh_t *mesh, rr__link_t *link, bool refused);

void rr__mesh_collect(void *context, rr_metrics_writer_t *writer); /* mesh_info.c; any thread */

/* Pauses: pauses.c. */
void rr__pause_ask(rr_mesh_t *mesh, rr__link_t *link, rr_addr_t actor);
void rr__pause_room(rr_mesh_t *mesh, rr_addr_t actor);
void rr__pauses_forget(rr_mesh_t *mesh, unsigned node); /* 0: all */

static inline uint32_t rr__mesh_session(rr_mesh_t *mesh) {
    return atomic_fetch_add_explicit(&mesh->sessions, 1, memory_order_relaxed) + 1;
}

#endif
