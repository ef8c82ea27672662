#include "net/mesh.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "net/mesh_impl.h"

#define NODES          65536u
#define BODY_SRC(body) rr__get16(body)

/* ---- Time ---- */

void rr__mesh_due(rr_mesh_t *mesh, uint64_t at_ns) {
    uint64_t now = rr__mesh_now(mesh);
    at_ns = at_ns > now ? at_ns : now; /* so that a tick knows how late it is */
    if (at_ns >= mesh->tick_due_ns || mesh->ended) {
        return;
    }
    if (mesh->ticking) { /* set at its end, for what it has not looked at any more */
        mesh->tick_due_ns = at_ns;
        return;
    }
    mesh->tick_due_ns = at_ns;
    mesh->carrier->ops->timer(mesh->carrier, RR__TIMER_TICK, at_ns - now);
}

uint64_t rr__mesh_jitter(rr_mesh_t *mesh, uint64_t ns) {
    return ns / 2 + rr_random_below(&mesh->random, ns / 2 + 1);
}

static void leave_tick(rr_mesh_t *mesh, uint64_t now);

/* While this thread itself stood still (the process was stopped, say) nobody could be heard: that time counts for nobody, unless it
 * was so long that the others have surely given us up. */
static void forgive(rr_mesh_t *mesh, uint64_t now, uint64_t late) {
    uint64_t ms = late / RR__MS;
    bool over = ms >= mesh->options.down_ms;
    if (ms + mesh->options.heartbeat_ms >= mesh->options.suspect_ms) { /* as long as others may have missed us */
        rr_log(mesh->system, RR_WARN, "LINK", "this process stood still for %llu ms: other nodes %s given it up",
               (unsigned long long)ms, over ? "have" : "may have");
    }
    for (rr__link_t *link = mesh->links; link && !over; link = link->next) {
        link->heard_ns = link->heard_ns + late < now ? link->heard_ns + late : now;
    }
    for (rr__wire_t *wire = mesh->wires; wire && !over; wire = wire->next) {
        wire->read_ns = wire->read_ns + late < now ? wire->read_ns + late : now;
    }
}

static void tick(rr_mesh_t *mesh) {
    uint64_t now = rr__mesh_now(mesh), due = UINT64_MAX, at;
    if (now > mesh->tick_due_ns && now - mesh->tick_due_ns > mesh->options.heartbeat_ms * RR__MS) {
        forgive(mesh, now, now - mesh->tick_due_ns);
    }
    mesh->ticking = true;
    mesh->tick_due_ns = UINT64_MAX;
    for (rr__wire_t *wire = mesh->wires, *next; wire; wire = next) {
        next = wire->next;
        at = rr__wire_tick(wire, now);
        due = at < due ? at : due;
    }
    for (rr__link_t *link = mesh->links, *next; link; link = next) {
        next = link->next;
        at = rr__link_tick(link, now);
        due = at < due ? at : due;
        if (link->actor && rr__link_is_drained(link)) {
            rr_kill(mesh->system, link->proxy, RR_OK);
        }
    }
    if (mesh->left) {
        leave_tick(mesh, now);
        due = mesh->leave_due_ns < due ? mesh->leave_due_ns : due;
    }
    due = mesh->tick_due_ns < due ? mesh->tick_due_ns : due;
    mesh->tick_due_ns = UINT64_MAX;
    mesh->ticking = false;
    if (due != UINT64_MAX) {
        rr__mesh_due(mesh, due < now + RR__MS ? now + RR__MS : due);
    }
}

static void acks_due(rr_mesh_t *mesh) {
    mesh->ack_timer = false;
    while (mesh->owing) {
        rr__link_send_ack(mesh->owing);
    }
}

static void on_timer(void *context, unsigned which) {
    if (which == RR__TIMER_ACK) {
        acks_due(context);
    } else {
        tick(context);
    }
}

/* ---- Peers ---- */

static rr__link_t **slot_of(rr__link_t ***pages, unsigned node, bool make) {
    rr__link_t ***page = &pages[node >> 8];
    if (!*page && make) {
        *page = calloc(256, sizeof **page);
    }
    return *page ? &(*page)[node & 255] : NULL;
}

rr__link_t *rr__mesh_link(rr_mesh_t *mesh, unsigned node) {
    rr__link_t **slot = node < NODES ? slot_of(mesh->nodes, node, false) : NULL;
    return slot && *slot && !(*slot)->ended ? *slot : NULL;
}

static void describe(rr__link_t *link) {
    snprintf(link->text, sizeof link->text, "link to %s (%u)", link->peer.name[0] ? link->peer.name : "node",
             link->node);
}

static rr__link_t *link_new(rr_mesh_t *mesh, const rr_node_identity_t *peer) {
    rr__link_t *link = calloc(1, sizeof *link);
    if (link) {
        link->mesh = mesh;
        link->node = peer->node;
        link->peer = *peer;
        link->mine = rr__mesh_session(mesh);
        link->flush.fn = rr__link_on_flush;
        describe(link);
    }
    return link;
}

/* Moves a link between lists; under the lock, as others read them. */
static void relist(rr__link_t *link, rr__link_t **list) {
    if (link->prev) {
        *link->prev = link->next;
        if (link->next) {
            link->next->prev = link->prev;
        }
    }
    link->prev = list;
    if (list) {
        link->next = *list;
        if (link->next) {
            link->next->prev = &link->next;
        }
        *list = link;
    }
}

void rr__mesh_attach(rr_mesh_t *mesh, rr__link_t *link) {
    pthread_mutex_lock(&mesh->lock);
    link->attached = true;
    relist(link, &mesh->links);
    bool over = link->superseded || link->forgotten, eager = link->eager;
    pthread_mutex_unlock(&mesh->lock);
    rr__link_t **slot = over ? NULL : slot_of(mesh->nodes, link->node, true);
    if (slot) {
        *slot = link;
    }
    if (!slot) {
        rr__link_end(link, over ? "it is known to be gone" : "out of memory");
    } else if (eager) {
        rr__link_want(link);
    }
}

static void cut_wires(rr_mesh_t *mesh, rr__link_t *link) {
    for (rr__wire_t *wire = mesh->wires, *next; wire; wire = next) {
        next = wire->next;
        if (wire->link == link) {
            wire->link = NULL;
            rr__wire_end(wire, RR_OK, true, "the node is forgotten");
        }
    }
}

static void unknow(rr_mesh_t *mesh, rr__link_t *link) {
    rr__link_t **slot = slot_of(mesh->known, link->node, false);
    if (!slot || *slot != link) {
        return;
    }
    *slot = NULL;
    mesh->known_count--;
    if (rr_route(mesh->system, link->node) == link->proxy &&
        rr_route_set(mesh->system, link->node, RR_NOBODY) != RR_OK) {
        rr_log(mesh->system, RR_ERROR, "LINK", "%s: its route cannot be taken away", link->text);
    }
}

void rr__mesh_detach(rr_mesh_t *mesh, rr__link_t *link) {
    link->ended = true;
    rr__link_drop_output(link, RR_LINKDOWN);
    rr__link_drop_input(link);
    mesh->carrier->ops->defer_cancel(mesh->carrier, &link->flush);
    pthread_mutex_lock(&mesh->lock);
    relist(link, NULL);
    unknow(mesh, link);
    pthread_mutex_unlock(&mesh->lock);
    rr__link_t **slot = slot_of(mesh->nodes, link->node, false);
    if (slot && *slot == link) {
        *slot = NULL;
    }
    cut_wires(mesh, link);
    rr__link_free(link);
}

/* An order about a node for the carrier's thread. */
typedef struct order {
    rr_mesh_t *mesh;
    unsigned node;
    uint64_t incarnation;
} order_t;

/* Whose end is decided, or the other one: a node that is told of anew gets a new link, while its earlier one ends still. */
static rr__link_t *find_attached(const order_t *order, bool doomed) {
    rr_mesh_t *mesh = order->mesh;
    rr__link_t *link = mesh->links;
    pthread_mutex_lock(&mesh->lock);
    while (link && (link->node != order->node || link->peer.incarnation != order->incarnation || link->ended ||
                    (link->superseded || link->forgotten) != doomed)) {
        link = link->next;
    }
    pthread_mutex_unlock(&mesh->lock);
    return link;
}

static void run_want(void *context) {
    order_t *order = context;
    rr__link_t *link = find_attached(order, false);
    if (link) {
        rr__link_want(link);
    }
    free(order);
}

static void run_end(void *context) {
    order_t *order = context;
    rr__link_t *link = find_attached(order, true);
    if (link) {
        rr__link_end(link, link->superseded ? "another process has its node id now" : "it is known to be gone");
    }
    free(order);
}

/* The link that is known now is wanted, or is over: from here on it is another one that a node of the same incarnation gets.
 * True: its proxy has not begun yet, it learns that when it is attached. */
static bool note_order(rr_mesh_t *mesh, unsigned node, uint64_t incarnation, bool ends) {
    pthread_mutex_lock(&mesh->lock);
    rr__link_t **slot = slot_of(mesh->known, node, false);
    rr__link_t *link = slot && *slot && (*slot)->peer.incarnation == incarnation ? *slot : NULL;
    bool fresh = link && !link->attached;
    if (link) {
        link->forgotten = link->forgotten || ends;
        link->eager = link->eager || !ends;
    }
    pthread_mutex_unlock(&mesh->lock);
    return fresh;
}

static int order(rr_mesh_t *mesh, unsigned node, uint64_t incarnation, void (*fn)(void *context)) {
    order_t *order = malloc(sizeof *order);
    if (!order) {
        return RR_ENOMEM;
    }
    *order = (order_t){mesh, node, incarnation};
    if (mesh->carrier->ops->here(mesh->carrier)) {
        fn(order);
        return RR_OK;
    }
    int rc = mesh->carrier->ops->post(mesh->carrier, fn, order);
    if (rc != RR_OK) {
        free(order);
    }
    return rc;
}

/* Senders are paused at a quarter of the messages and a sixteenth of the bytes (and refused at twice the whole of each), so that on
 * their way to the link's thread they stay in the cache. */
static int spawn_proxy(rr_mesh_t *mesh, rr__link_t *link) {
    size_t least = (size_t)mesh->options.queue_messages * RR_MAILBOX_UNIT;
    size_t bytes = (mesh->options.window_bytes > least ? mesh->options.window_bytes : least) / 16;
    rr_spawn_t spec = {.behavior = &rr__proxy_behavior,
                       .arg = &link,
                       .arg_size = sizeof link,
                       .executor = mesh->carrier->ops->executor(mesh->carrier),
                       .mailbox_messages = mesh->options.queue_messages < 4 ? 1 : mesh->options.queue_messages / 4,
                       .mailbox_bytes = bytes > UINT32_MAX ? UINT32_MAX : (uint32_t)bytes,
                       .policy = RR_POLICY_PAUSE_SOURCE};
    return rr_system_spawn(mesh->system, &spec, &link->proxy);
}

/* Under the lock. *old: who had the id before. */
static int put_link(rr_mesh_t *mesh, const rr_node_identity_t *peer, rr__link_t **out, rr__link_t **old) {
    rr__link_t **slot = slot_of(mesh->known, peer->node, true);
    if (!slot) {
        return RR_ENOMEM;
    }
    *old = *slot;
    if (*old && (*old)->peer.incarnation == peer->incarnation && !(*old)->forgotten) {
        if (peer->address[0]) {
            memcpy((*old)->peer.address, peer->address, sizeof peer->address);
        }
        (*old)->peer.relay = peer->relay;
        (*old)->peer.service = peer->service;
        *out = *old;
        *old = NULL;
        return RR_OK;
    }
    if (!*old && mesh->known_count >= mesh->options.max_peers) {
        return RR_ELIMIT;
    }
    rr__link_t *link = link_new(mesh, peer);
    int rc = link ? spawn_proxy(mesh, link) : RR_ENOMEM;
    if (rc != RR_OK) {
        free(link);
        return rc;
    }
    if (*old) { /* its session is over before the other's begins */
        (*old)->superseded = true;
        rr_node_down(mesh->system, peer->node);
        rr_remote_pauses_forget(mesh->system, peer->node);
    } else {
        mesh->known_count++;
    }
    relist(link, &mesh->fresh);
    *slot = link;
    *out = link;
    return rr_route_set(mesh->system, peer->node, link->proxy);
}

int rr__mesh_add(rr_mesh_t *mesh, const rr_node_identity_t *peer, bool eager, rr__link_t **out) {
    bool known = strnlen(peer->address, sizeof peer->address) < sizeof peer->address &&
                 strnlen(peer->name, sizeof peer->name) < sizeof peer->name;
    if (peer->node < 1 || peer->node >= NODES || peer->node == mesh->options.self.node || !peer->incarnation ||
        !known) {
        return RR_EINVAL;
    }
    rr__link_t *link = NULL, *old = NULL;
    uint64_t before = 0;
    pthread_mutex_lock(&mesh->lock);
    int rc = put_link(mesh, peer, &link, &old);
    if (old) {
        before = old->peer.incarnation;
    }
    if (rc == RR_OK) {
        link->eager = link->eager || eager;
    }
    pthread_mutex_unlock(&mesh->lock);
    if (rc == RR_OK && old) {
        rc = order(mesh, peer->node, before, run_end);
    }
    if (rc == RR_OK && mesh->carrier->ops->here(mesh->carrier) && !link->attached) {
        rr__mesh_attach(mesh, link);
    }
    if (rc == RR_OK && out) {
        *out = link;
    }
    return rc;
}

int rr_mesh_peer(rr_mesh_t *mesh, const rr_node_identity_t *peer, bool eager) {
    int rc = rr__mesh_add(mesh, peer, eager, NULL);
    if (rc == RR_OK && eager && !note_order(mesh, peer->node, peer->incarnation, false)) {
        rc = order(mesh, peer->node, peer->incarnation, run_want);
    }
    return rc;
}

void rr_mesh_forget(rr_mesh_t *mesh, unsigned node, uint64_t incarnation) {
    if (!note_order(mesh, node, incarnation, true) && order(mesh, node, incarnation, run_end) != RR_OK) {
        rr_log(mesh->system, RR_ERROR, "LINK", "no memory to forget node %u now: it ends after %u ms of silence", node,
               mesh->options.down_ms);
    }
}

/* ---- Paths ---- */

static bool can_relay(rr_mesh_t *mesh, rr__link_t *relay, rr__link_t *link, uint64_t now) {
    return relay != link && relay->peer.relay && relay->direct && relay->direct->state == RR__WIRE_OPEN &&
           !rr__wire_is_silent(relay->direct, now) && !(link->bad_relay == relay->node && now < link->bad_until_ns);
    (void)mesh;
}

/* The relay after the one that is in use, or knew no way, in turn: several may know none. */
static rr__wire_t *relay_path(rr_mesh_t *mesh, rr__link_t *link, uint64_t now) {
    rr__wire_t *first = NULL;
    bool behind = false;
    for (rr__link_t *relay = mesh->links; relay; relay = relay->next) {
        if (can_relay(mesh, relay, link, now)) {
            if (behind) {
                return relay->direct;
            }
            first = first ? first : relay->direct;
        }
        behind = behind || (link->path ? relay->direct == link->path : relay->node == link->bad_relay);
    }
    return first;
}

/* Other nodes that relay are wanted too when this one cannot be reached. */
static void want_relays(rr_mesh_t *mesh, rr__link_t *link) {
    for (rr__link_t *relay = mesh->links; relay; relay = relay->next) {
        if (relay != link && relay->peer.relay) {
            rr__link_want(relay);
        }
    }
}

rr__wire_t *rr__mesh_path(rr_mesh_t *mesh, rr__link_t *link, bool other) {
    uint64_t now = rr__mesh_now(mesh);
    rr__wire_t *direct = link->direct && link->direct->state == RR__WIRE_OPEN ? link->direct : NULL;
    if (direct && !rr__wire_is_silent(direct, now) && !other) {
        return direct;
    }
    rr__wire_t *relay = relay_path(mesh, link, now);
    if (!relay && !direct) {
        want_relays(mesh, link);
    }
    return relay && (!direct || link->path == direct) ? relay : direct ? direct : relay;
}

/* ---- Relaying ---- */

/* The neighbour may speak for itself, and for others if it is a relay that has passed it on. */
static bool source_ok(const rr__wire_t *wire, rr_node_header_t h, unsigned src) {
    return h.flags & RR_NODE_RELAYED ? wire->peer.relay : src == wire->peer.node;
}

static void pass_on(rr_mesh_t *mesh, rr__wire_t *wire, rr_node_header_t h, uint8_t *frame) {
    rr__link_t *link = rr__mesh_link(mesh, h.dst);
    rr__wire_t *out = link ? link->direct : NULL;
    bool may = mesh->options.self.relay && !(h.flags & RR_NODE_RELAYED);
    if (!may || !out || out->state != RR__WIRE_OPEN) {
        uint8_t answer[RR_NODE_UNREACHABLE_SIZE];
        if (may && link) { /* nobody here needed it so far; who asks asks again */
            rr__link_want(link);
        }
        (void)rr__wire_write(wire, answer, rr_node_unreachable_encode(answer, h.dst));
        return;
    }
    rr_node_header_put(frame, h.type, h.flags | RR_NODE_RELAYED, h.dst, h.size);
    if (rr__wire_write(out, frame, RR_NODE_HEADER + h.size)) {
        rr_count(&mesh->counters.relayed_frames, 1);
    } else {
        rr_count(&mesh->counters.relay_dropped, 1); /* its sender notices the gap */
    }
}

bool rr__mesh_wire_frame(rr_mesh_t *mesh, rr__wire_t *wire, rr_node_header_t h, uint8_t *frame, char *why,
                         size_t why_size) {
    const uint8_t *body = frame + RR_NODE_HEADER;
    if (h.type == RR_NODE_UNREACHABLE) {
        unsigned node;
        bool ok = rr_node_unreachable_decode(body, h.size, &node);
        rr__link_t *link = ok ? rr__mesh_link(mesh, node) : NULL;
        if (link) {
            rr__link_unreachable(link, wire->peer.node);
        }
        snprintf(why, why_size, "a malformed frame");
        return ok;
    }
    if (h.type < RR_NODE_SEGMENT || h.type > RR_NODE_LEAVE || h.size < 2 || !h.dst) {
        snprintf(why, why_size, "a frame of unknown type %u", h.type);
        return false;
    }
    unsigned src = BODY_SRC(body);
    if (!source_ok(wire, h, src)) {
        snprintf(why, why_size, "a frame in the name of node %u", src);
        return false;
    }
    if (h.dst != mesh->options.self.node) {
        pass_on(mesh, wire, h, frame);
        return true;
    }
    rr__link_t *link = rr__mesh_link(mesh, src);
    if (!link || rr__link_frame(link, wire, h, body, why, why_size)) {
        return true; /* nobody we know yet: it asks again */
    }
    rr_log(mesh->system, RR_ERROR, "LINK", "%s: breaks the protocol: %s", link->text, why);
    rr__link_over(link, "it broke the protocol");
    return wire != link->direct; /* a relay is not to blame */
}

/* ---- Wires ---- */

static void accepted(void *context, intptr_t handle) {
    rr__wire_accept(context, handle);
}

/* Somebody without an id. */
static void admit_joiner(rr_mesh_t *mesh, rr_node_identity_t *who, rr_node_refusal_t *refusal) {
    const rr_mesh_handler_t *handler = mesh->options.handler;
    if (!handler || !handler->join) {
        refusal->code = RR_EREFUSED;
        snprintf(refusal->why, sizeof refusal->why, "this node hands out no node ids: join the group's master");
        return;
    }
    rr_node_identity_t master = mesh->options.self;
    refusal->code = handler->join(mesh->options.context, who, &master, refusal->why, sizeof refusal->why);
    if (refusal->code == RR_OK && (who->node == 0 || who->node >= NODES)) {
        refusal->code = RR_ELIMIT;
        snprintf(refusal->why, sizeof refusal->why, "no node id is free");
    }
}

static rr__link_t *admit_unknown(rr_mesh_t *mesh, const rr_node_identity_t *who, rr_node_refusal_t *refusal) {
    const rr_mesh_handler_t *handler = mesh->options.handler;
    snprintf(refusal->why, sizeof refusal->why, "node %u is not known here yet", who->node);
    refusal->wait = true;
    refusal->code = handler && handler->unknown
                        ? handler->unknown(mesh->options.context, who, refusal->why, sizeof refusal->why)
                        : RR_ENOENT;
    rr__link_t *link = NULL;
    if (refusal->code == RR_OK) {
        refusal->code = rr__mesh_add(mesh, who, false, &link);
        snprintf(refusal->why, sizeof refusal->why, "%s", rr_strerror(refusal->code));
    }
    return link;
}

void rr__mesh_wire_stranger(rr_mesh_t *mesh, const rr_node_identity_t *who) {
    const rr_mesh_handler_t *handler = mesh->options.handler;
    char why[256];
    rr__link_t *link = rr__mesh_link(mesh, who->node);
    if ((link && link->peer.incarnation == who->incarnation) || !handler || !handler->unknown ||
        handler->unknown(mesh->options.context, who, why, sizeof why) != RR_OK) {
        return;
    }
    int rc = rr_mesh_peer(mesh, who, true);
    if (rc != RR_OK) {
        rr_log(mesh->system, RR_ERROR, "LINK", "node %s cannot be taken up: %s", who->name, rr_strerror(rc));
    }
}

/* Two connections at once: the one that the lower node dialled stays, unless it is an old one that its other end has given
 * up already. */
static bool yields(rr_mesh_t *mesh, rr__link_t *link, rr_node_refusal_t *refusal) {
    if (mesh->options.self.node > link->node) {
        return false;
    }
    uint64_t now = rr__mesh_now(mesh), young = 250 * RR__MS;
    bool fresh = link->direct && link->direct->dialled && now - link->direct->began_ns < young;
    if ((link->dialling && link->dialling->state > RR__WIRE_CHALLENGE) || fresh) {
        refusal->code = RR_EEXIST;
        refusal->wait = true;
        snprintf(refusal->why, sizeof refusal->why, "the connection that this node dialled goes first");
        return true;
    }
    return false;
}

void rr__mesh_wire_admit(rr_mesh_t *mesh, rr__wire_t *wire, rr_node_hello_t *hello, rr_node_refusal_t *refusal) {
    rr_node_identity_t *who = &hello->who;
    if (mesh->leaving && !mesh->left) {
        *refusal = (rr_node_refusal_t){.code = RR_ESTOPPING, .wait = true, .why = "this node is leaving"};
        return;
    }
    if (hello->join) {
        admit_joiner(mesh, who, refusal);
        return;
    }
    rr__link_t *link = rr__mesh_link(mesh, who->node);
    if (!link || link->peer.incarnation != who->incarnation) {
        link = admit_unknown(mesh, who, refusal);
    }
    if (!link || yields(mesh, link, refusal)) {
        return;
    }
    if (link->left) {
        *refusal = (rr_node_refusal_t){.code = RR_ESTATE, .why = "it has left already"};
        return;
    }
    wire->link = link;
    if (link->dialling) {
        rr__wire_t *own = link->dialling;
        link->dialling = NULL;
        own->link = NULL;
        rr__wire_end(own, RR_OK, false, "the other side's connection goes first");
    }
    if (link->direct) { /* cut before the new one is answered */
        rr__wire_t *old = link->direct;
        rr__mesh_wire_closed(mesh, old, RR_OK, "replaced");
        old->link = NULL;
        rr__wire_end(old, RR_OK, false, "replaced by a new connection");
    }
}

/* Told once: rolling updates change graphs, so it is no reason to refuse. */
static void compare_graphs(rr_mesh_t *mesh, rr__link_t *link, uint64_t theirs) {
    uint64_t ours = mesh->options.graph & RR_NODE_GRAPH;
    if (!ours || !theirs || ours == theirs || link->other_graph == theirs) {
        return;
    }
    link->other_graph = theirs;
    rr_count(&mesh->counters.graphs_differ, 1);
    rr_log(mesh->system, RR_WARN, "LINK",
           "node %s runs another graph (%012llx) than this node, %s (%012llx): they disagree on nodes, addresses, actors, where these "
           "run or who logs in where; start both from the same file, unless an update is under way",
           link->peer.name, (unsigned long long)theirs, mesh->options.self.name, (unsigned long long)ours);
}

void rr__mesh_wire_open(rr_mesh_t *mesh, rr__wire_t *wire) {
    rr__link_t *link = wire->link;
    uint64_t now = rr__mesh_now(mesh);
    compare_graphs(mesh, link, wire->graph);
    if (link->dialling == wire) {
        link->dialling = NULL;
    }
    if (link->direct && link->direct != wire) {
        rr__wire_t *old = link->direct;
        rr__mesh_wire_closed(mesh, old, RR_OK, "replaced");
        old->link = NULL;
        rr__wire_end(old, RR_OK, false, "replaced by a new connection");
    }
    link->direct = wire;
    rr__mesh_due(mesh, now + mesh->options.heartbeat_ms * RR__MS);
    if (wire->dialled) {
        if (link->wanted) {
            rr__link_set_path(link, wire);
            link->asks = 0;
            rr__link_ask(link);
        }
    } else { /* it asks; if not, we do */
        link->asks = link->asks ? link->asks : 1;
        link->ask_due_ns = now + 100 * RR__MS;
        rr__mesh_due(mesh, link->ask_due_ns);
    }
    if (link->peer.relay) { /* others may have waited for a relay */
        rr__mesh_due(mesh, 0);
    }
}

void rr__mesh_wire_room(rr_mesh_t *mesh, rr__wire_t *wire) {
    for (rr__link_t *link = mesh->links; link; link = link->next) {
        if (link->path == wire) {
            rr__link_flush_soon(link);
        }
    }
}

void rr__mesh_wire_closed(rr_mesh_t *mesh, rr__wire_t *wire, int error, const char *why) {
    for (rr__link_t *link = mesh->links; link; link = link->next) {
        if (link->path == wire) {
            rr__link_path_lost(link);
        }
    }
    rr__link_t *link = wire->link;
    if (!link) {
        return;
    }
    bool open = link->direct == wire;
    if (!open && link->dialling != wire) {
        return;
    }
    uint64_t now = rr__mesh_now(mesh);
    if (open) {
        link->direct = NULL;
    } else {
        link->dialling = NULL;
    }
    if (wire->useful) {
        link->backoff_ns = 0;
        link->dial_due_ns = now + (wire->dialled ? 0 : rr__mesh_jitter(mesh, mesh->options.backoff_min_ms * RR__MS));
    } else {
        rr__mesh_dial_failed(mesh, link, wire->refused);
    }
    if (!mesh->ended && link->wanted && !link->left) {
        rr_log(mesh->system, RR_DEBUG, "LINK", "%s: connection %s: %s (%s)", link->text, open ? "lost" : "failed", why,
               rr_error_name(error));
    }
    rr__mesh_due(mesh, link->dial_due_ns);
}

/* ---- Leaving ---- */

/* Who has no connection to us hears it through a relay. */
static rr__wire_t *leave_path(rr_mesh_t *mesh, rr__link_t *link) {
    rr__wire_t *path = link->path ? link->path : link->direct;
    return path && path->state == RR__WIRE_OPEN ? path : relay_path(mesh, link, rr__mesh_now(mesh));
}

/* The last word, to all that are known, also to those that we never spoke to: nobody waits for us any more. */
static void say_leave(rr_mesh_t *mesh) {
    uint8_t frame[RR_NODE_GONE_SIZE];
    rr_node_gone_t leave = {(uint16_t)mesh->options.self.node, {mesh->options.self.incarnation, 0}};
    for (rr__link_t *link = mesh->links; link; link = link->next) {
        rr__wire_t *path = link->left ? NULL : leave_path(mesh, link);
        if (path && path == link->path && link->owes) { /* else what was delivered here would count as lost there */
            rr__link_send_ack(link);
        }
        if (path) {
            (void)rr__wire_write(path, frame, rr_node_gone_encode(frame, RR_NODE_LEAVE, link->node, &leave));
        }
    }
    for (rr__wire_t *wire = mesh->wires, *next; wire; wire = next) {
        next = wire->next;
        rr__wire_end(wire, RR_OK, true, "this node leaves");
    }
}

static void leave_now(rr_mesh_t *mesh) {
    sem_t *left = mesh->left;
    mesh->left = NULL;
    say_leave(mesh);
    if (left) {
        sem_post(left);
    }
}

static void leave_tick(rr_mesh_t *mesh, uint64_t now) {
    bool idle = true;
    for (rr__link_t *link = mesh->links; link; link = link->next) {
        idle = rr__link_is_finished(link) && idle; /* every link is asked */
    }
    if (idle || now >= mesh->leave_due_ns) {
        leave_now(mesh);
    }
}

typedef struct leave_order {
    rr_mesh_t *mesh;
    unsigned deadline_ms;
    sem_t left;
} leave_order_t;

static void run_leave(void *context) {
    leave_order_t *order = context;
    rr_mesh_t *mesh = order->mesh;
    mesh->carrier->ops->close_listener(mesh->carrier);
    if (mesh->leaving || mesh->ended ||
        !mesh->carrier->ops->here(mesh->carrier)) { /* said already, or nobody can say it */
        mesh->leaving = true;
        sem_post(&order->left);
        return;
    }
    mesh->leaving = true;
    mesh->left = &order->left;
    mesh->leave_due_ns = rr__mesh_now(mesh) + order->deadline_ms * RR__MS;
    rr__mesh_due(mesh, 0);
}

void rr_mesh_leave(rr_mesh_t *mesh, unsigned deadline_ms) {
    leave_order_t order = {.mesh = mesh, .deadline_ms = deadline_ms};
    sem_init(&order.left, 0, 0);
    mesh->carrier->ops->call(mesh->carrier, run_leave, &order);
    while (sem_wait(&order.left) != 0) { /* a signal */
    }
    sem_destroy(&order.left);
}

/* The carrier's thread ends. */
static void on_end(void *context) {
    rr_mesh_t *mesh = context;
    if (!mesh->leaving || mesh->left) {
        leave_now(mesh);
    }
    mesh->leaving = mesh->ended = true;
    for (rr__wire_t *wire = mesh->wires, *next; wire; wire = next) {
        next = wire->next;
        if (wire->state == RR__WIRE_DIALLING) {
            rr__wire_end(wire, RR_OK, false, "the end");
        }
    }
    mesh->carrier->ops->close_listener(mesh->carrier);
}

/* ---- The helper: hears when full actors have room ---- */

static int helper_start(rr_actor_t *self, void *state, const void *arg) {
    (void)self;
    *(rr_mesh_t **)state = *(rr_mesh_t *const *)arg;
    return RR_OK;
}

static void helper_receive(rr_actor_t *self, void *state, rr_message_t *msg) {
    (void)self;
    if (rr_message_kind(msg) == RR_SEND && rr_message_type(msg) == RR_TYPE_ROOM) {
        rr__pause_room(*(rr_mesh_t **)state, rr_message_from(msg));
    }
}

static const rr_behavior_t helper_behavior = {
    .name = "mesh", .state_size = sizeof(rr_mesh_t *), .proxy = true, .start = helper_start, .receive = helper_receive};

static int spawn_helper(rr_mesh_t *mesh) {
    rr_spawn_t spec = {.behavior = &helper_behavior,
                       .arg = &mesh,
                       .arg_size = sizeof mesh,
                       .executor = mesh->carrier->ops->executor(mesh->carrier)};
    return rr_system_spawn(mesh->system, &spec, &mesh->helper);
}

/* ---- Making ---- */

static const rr__carrier_handler_t carrier_handler = {.accepted = accepted, .timer = on_timer, .ends = on_end};

static int check(const rr_mesh_options_t *o, rr_system_t *system, char *why, size_t why_size) {
    const char *what = NULL;
    if (o->self.node != rr_system_node(system)) {
        what = "the mesh's node id is not its system's";
    } else if (!o->self.incarnation) {
        what = "an incarnation is needed";
    } else if (!o->heartbeat_ms || o->suspect_ms <= o->heartbeat_ms || o->down_ms <= o->suspect_ms) {
        what = "heartbeat_ms < suspect_ms < down_ms is needed";
    } else if (!o->connect_ms || !o->backoff_min_ms || o->backoff_max_ms < o->backoff_min_ms) {
        what = "connect_ms, backoff_min_ms and backoff_max_ms must be above 0, the last not below the one before";
    } else if (o->window_bytes < (256u << 10) || o->window_bytes > (1u << 30) || !o->queue_messages || !o->max_peers ||
               !o->max_strangers || o->max_message < RR__PIECE || o->max_message > (1u << 30)) {
        what = "a limit is out of range";
    }
    if (what && why && why_size) {
        snprintf(why, why_size, "%s", what);
    }
    return what ? RR_EINVAL : RR_OK;
}

void rr_mesh_options_init(rr_mesh_options_t *options) {
    *options = (rr_mesh_options_t){.heartbeat_ms = 1000,
                                   .suspect_ms = 3000,
                                   .down_ms = 10000,
                                   .connect_ms = 5000,
                                   .backoff_min_ms = 100,
                                   .backoff_max_ms = 5000,
                                   .window_bytes = 4u << 20,
                                   .queue_messages = 16384,
                                   .max_peers = 1024,
                                   .max_strangers = 64,
                                   .max_message = 16u << 20};
}

static int copy_key(rr_mesh_t *mesh, const rr_mesh_options_t *options) {
    mesh->options.key = NULL;
    if (!options->key_size) {
        return RR_OK;
    }
    void *key = malloc(options->key_size);
    if (key) {
        memcpy(key, options->key, options->key_size);
    }
    mesh->options.key = key;
    return key ? RR_OK : RR_ENOMEM;
}

static int start_listening(rr_mesh_t *mesh, char *why, size_t why_size) {
    rr__carrier_t *carrier = mesh->carrier;
    const char *at = mesh->options.listen;
    if (!at) {
        return RR_OK;
    }
    if (!mesh->options.key_size && !carrier->ops->is_local(carrier, at)) {
        return rr_fail(RR_EACCES, why, why_size,
                       "%s can be reached from other machines: a cluster key is needed (-cluster_key)", at);
    }
    int rc = carrier->ops->listen(carrier, at, mesh->address, sizeof mesh->address, why, why_size);
    if (rc == RR_OK && !mesh->options.self.address[0]) {
        snprintf(mesh->options.self.address, sizeof mesh->options.self.address, "%.255s", mesh->address);
    }
    return rc;
}

static void mesh_free(rr_mesh_t *mesh) {
    for (rr__link_t *link = mesh->fresh, *next; link; link = next) { /* their proxies never began */
        next = link->next;
        rr__link_free(link);
    }
    for (rr__link_t *link = mesh->links, *next; link; link = next) { /* nor did these: attached by rr_mesh_peer on this thread */
        next = link->next;
        rr__link_drop_input(link);
        rr__link_drop_output(link, RR_LINKDOWN);
        rr__link_free(link);
    }
    for (unsigned i = 0; i < 256; i++) {
        free(mesh->known[i]);
        free(mesh->nodes[i]);
    }
    rr__pauses_forget(mesh, 0);
    pthread_mutex_destroy(&mesh->lock);
    if (mesh->options.key) {
        explicit_bzero((void *)mesh->options.key, mesh->options.key_size);
        free((void *)mesh->options.key);
    }
    free(mesh);
}

int rr__mesh_create(rr_system_t *system, rr__carrier_fn carry, void *from, const rr_mesh_options_t *options,
                    rr_mesh_t **out, char *why, size_t why_size) {
    char unused[8];
    why = why && why_size ? why : unused;
    why_size = why == unused ? sizeof unused : why_size;
    int rc = check(options, system, why, why_size);
    if (rc != RR_OK) {
        return rc;
    }
    rr_mesh_t *mesh = calloc(1, sizeof *mesh);
    if (!mesh) {
        return rr_fail(RR_ENOMEM, why, why_size, "out of memory");
    }
    mesh->system = system;
    mesh->options = *options;
    mesh->tick_due_ns = UINT64_MAX;
    pthread_mutex_init(&mesh->lock, NULL);
    rr_random_seed(&mesh->random, rr_system_random(system));
    snprintf(why, why_size, "out of memory");
    rc = copy_key(mesh, options);
    if (rc == RR_OK) {
        rc = carry(from, &carrier_handler, mesh, &mesh->carrier);
    }
    if (rc == RR_OK) {
        rc = start_listening(mesh, why, why_size);
    }
    if (rc == RR_OK) {
        rc = rr_metrics_add(system, rr__mesh_collect, mesh);
    }
    if (rc == RR_OK) {
        rc = spawn_helper(mesh);
        if (rc == RR_OK && mesh->options.listen) {
            rc = mesh->carrier->ops->begin(mesh->carrier);
        }
        if (rc != RR_OK) {
            rr_metrics_remove(system, rr__mesh_collect, mesh);
        }
    }
    if (rc != RR_OK) {
        if (mesh->carrier) {
            mesh->carrier->ops->destroy(mesh->carrier);
        }
        mesh_free(mesh);
        return rc;
    }
    why[0] = '\0';
    *out = mesh;
    return RR_OK;
}

static int carry_tcp(void *loop, const rr__carrier_handler_t *handler, void *context, rr__carrier_t **out) {
    return rr__carrier_tcp(loop, handler, context, out);
}

int rr_mesh_create(rr_loop_t *loop, const rr_mesh_options_t *options, rr_mesh_t **out, char *why, size_t why_size) {
    return rr__mesh_create(rr_loop_system(loop), carry_tcp, loop, options, out, why, why_size);
}

void rr_mesh_destroy(rr_mesh_t *mesh) {
    if (!mesh) {
        return;
    }
    rr_metrics_remove(mesh->system, rr__mesh_collect, mesh);
    mesh->ended = true;
    mesh->carrier->ops->destroy(mesh->carrier);
    mesh->carrier = NULL;
    mesh_free(mesh);
}

const char *rr_mesh_address(const rr_mesh_t *mesh) {
    return mesh->address;
}
