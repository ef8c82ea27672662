#include "net/wire.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "net/mesh_impl.h"

#define BUFFER_SIZE   (256u << 10) /* a frame that was cut, and many reads' worth behind it */
#define LIMIT         (1u << 20)   /* of pending output; links stop at a half of it and go on at a quarter */
#define LIMIT_RELAY   (32u << 20)  /* who relays holds what others have in their windows */
#define LINGER_MS     1000u
#define COPY_MAX      2048u /* slices up to here are copied: cheaper than a piece of their own in every writev */
#define READ_SLICE    (64u << 10) /* after such a read the loop has its turn: else a flood is read to its end before any answer leaves */
#define REFUSED_LINES 10u
#define NO_NODE       "these are no bytes of a RedRabbit node: clients belong to a gate's port"

struct rr__handshake {
    uint8_t hello[RR_NODE_HELLO_MAX], challenge[RR_NODE_HELLO_MAX]; /* bodies */
    size_t hello_size, challenge_size;
    rr_node_hello_t theirs;
};

static const rr_stream_handler_t stream_handler;

/* ---- Life ---- */

static void read_again(rr_deferred_t *item) {
    rr__wire_t *wire = (rr__wire_t *)((char *)item - offsetof(rr__wire_t, again));
    if (wire->stream && wire->state != RR__WIRE_ENDING) {
        rr_stream_resume(wire->stream);
    }
}

static rr__wire_t *wire_new(rr_mesh_t *mesh, bool dialled) {
    rr__wire_t *wire = calloc(1, sizeof *wire);
    rr__handshake_t *handshake = calloc(1, sizeof *handshake);
    if (!wire || !handshake) {
        free(wire);
        free(handshake);
        return NULL;
    }
    wire->mesh = mesh;
    wire->handshake = handshake;
    wire->again.fn = read_again;
    wire->dialled = dialled;
    wire->limit = mesh->options.self.relay ? LIMIT_RELAY : LIMIT;
    wire->began_ns = wire->read_ns = wire->written_ns = rr__mesh_now(mesh);
    wire->next = mesh->wires;
    wire->prev = &mesh->wires;
    if (wire->next) {
        wire->next->prev = &wire->next;
    }
    mesh->wires = wire;
    if (!dialled) {
        mesh->strangers++;
    }
    rr__mesh_due(mesh, wire->began_ns + mesh->options.connect_ms * RR__MS);
    return wire;
}

static void no_stranger(rr__wire_t *wire) {
    if (!wire->dialled && wire->handshake) {
        wire->mesh->strangers--;
    }
    free(wire->handshake);
    wire->handshake = NULL;
}

static void wire_free(rr__wire_t *wire) {
    no_stranger(wire);
    wire->mesh->carrier->ops->defer_cancel(wire->mesh->carrier, &wire->again);
    *wire->prev = wire->next;
    if (wire->next) {
        wire->next->prev = wire->prev;
    }
    free(wire->buffer);
    free(wire);
}

static void on_closed(void *owner, int error) {
    rr__wire_t *wire = owner;
    wire->stream = NULL;
    if (wire->state != RR__WIRE_ENDING) {
        wire->error = error ? error : RR_EIO;
        snprintf(wire->why, sizeof wire->why, "%s", error ? rr_strerror(error) : "closed by the other side");
    }
    wire->state = RR__WIRE_ENDING;
    rr__mesh_wire_closed(wire->mesh, wire, wire->error, wire->why);
    wire_free(wire);
}

void rr__wire_end(rr__wire_t *wire, int error, bool gently, const char *format, ...) {
    if (wire->state == RR__WIRE_ENDING) {
        return;
    }
    va_list args;
    va_start(args, format);
    vsnprintf(wire->why, sizeof wire->why, format, args);
    va_end(args);
    bool dialling = wire->state == RR__WIRE_DIALLING;
    wire->state = RR__WIRE_ENDING;
    wire->error = error;
    if (wire->stream && gently) {
        rr_stream_close(wire->stream, LINGER_MS);
    } else if (wire->stream) {
        rr_stream_abort(wire->stream);
    } else if (dialling) {
        wire->mesh->carrier->ops->dial_cancel(wire->mesh->carrier, &wire->dial);
        on_closed(wire, error);
    }
}

/* ---- Writing ---- */

bool rr__wire_write(rr__wire_t *wire, const uint8_t *frame, size_t size) {
    if (wire->state == RR__WIRE_ENDING || !wire->stream) {
        return false;
    }
    int rc = rr_stream_write(wire->stream, frame, size);
    if (rc == RR_OK) {
        wire->written_ns = rr__mesh_now(wire->mesh);
    } else if (rc != RR_ELIMIT) {
        rr__wire_end(wire, rc, false, "writing failed: %s", rr_strerror(rc));
    }
    return rc == RR_OK;
}

bool rr__wire_write_slice(rr__wire_t *wire, const rr_slice_t *slice) {
    if (slice->size <= COPY_MAX) {
        return rr__wire_write(wire, slice->data, slice->size);
    }
    if (wire->state != RR__WIRE_OPEN) {
        return false;
    }
    int rc = rr_stream_write_slice(wire->stream, NULL, 0, slice);
    wire->written_ns = rr__mesh_now(wire->mesh);
    if (rc != RR_OK) { /* room was looked for before: this is no question of limits, and half a frame may be out */
        rr__wire_end(wire, rc, false, "writing failed: %s", rr_strerror(rc));
    }
    return rc == RR_OK;
}

/* ---- Refusing ---- */

/* How to call the other side in a log: what it said it is, and where it is. */
static const char *call_peer(rr__wire_t *wire, char out[400]) {
    char ip[64] = "";
    const rr_node_identity_t *who =
        wire->state == RR__WIRE_OPEN || !wire->handshake ? &wire->peer : &wire->handshake->theirs.who;
    if (wire->stream) {
        rr_stream_peer_ip(wire->stream, ip, sizeof ip);
    }
    if (who->name[0] || who->node) {
        snprintf(out, 400, "node %s (%u) at %s", who->name, who->node, who->address[0] ? who->address : ip);
    } else if (wire->link) {
        snprintf(out, 400, "%s", rr__link_text(wire->link));
    } else {
        snprintf(out, 400, "somebody at %s", ip);
    }
    return out;
}

/* A tool's mistake (the wrong group, say) is told to its user, who made it. A wrong key may be anybody's. */
static bool is_for_its_user(const rr__wire_t *wire, int code) {
    return code == RR_EREFUSED && wire->state != RR__WIRE_OPEN && wire->handshake &&
           wire->handshake->theirs.who.name[0] == RR_NODE_VISITOR;
}

static void log_refusal(rr__wire_t *wire, int code, const char *format, const char *peer, const char *why) {
    rr_mesh_t *mesh = wire->mesh;
    uint64_t held = 0;
    if (is_for_its_user(wire, code)) {
        rr_log(mesh->system, RR_DEBUG, "LINK", format, peer, why);
        return;
    }
    if (!rr_log_limit(&mesh->refused_log, REFUSED_LINES, rr__mesh_now(mesh), &held)) {
        return;
    }
    if (held) {
        rr_log(mesh->system, RR_WARN, "LINK", "%llu more handshakes were refused", (unsigned long long)held);
    }
    rr_log(mesh->system, RR_WARN, "LINK", format, peer, why);
}

void rr__wire_refuse(rr__wire_t *wire, const rr_node_refusal_t *refusal) {
    if (wire->state == RR__WIRE_ENDING) {
        return;
    }
    uint8_t frame[RR_NODE_REFUSE_MAX];
    char peer[400];
    if (!refusal->wait) {
        wire->refused = true;
        rr_count(&wire->mesh->counters.refused, 1);
        log_refusal(wire, refusal->code, "%s is refused: %s", call_peer(wire, peer), refusal->why);
    }
    wire->wait = refusal->wait;
    (void)rr__wire_write(wire, frame, rr_node_refuse_encode(frame, refusal));
    rr__wire_end(wire, refusal->code, true, "refused: %s", refusal->why);
}

static void refuse(rr__wire_t *wire, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));
static void refuse(rr__wire_t *wire, int code, const char *format, ...) {
    rr_node_refusal_t refusal = {.code = code};
    va_list args;
    va_start(args, format);
    vsnprintf(refusal.why, sizeof refusal.why, format, args);
    va_end(args);
    rr__wire_refuse(wire, &refusal);
}

static void violation(rr__wire_t *wire, const char *what) {
    rr_count(&wire->mesh->counters.violations, 1);
    refuse(wire, RR_EPROTO, "%s", what);
}

/* ---- Handshake ---- */

static bool send_hello(rr__wire_t *wire, rr_node_type_t type, uint8_t *body, size_t *body_size) {
    uint8_t frame[RR_NODE_HEADER + RR_NODE_HELLO_MAX];
    rr_node_hello_t hello = {.protocol = RR_NODE_PROTOCOL,
                             .graph = wire->mesh->options.graph & RR_NODE_GRAPH,
                             .who = wire->mesh->options.self};
    if (rr_random_os(hello.nonce, sizeof hello.nonce) != RR_OK) {
        rr__wire_end(wire, RR_EIO, false, "no randomness for the handshake");
        return false;
    }
    size_t size = rr_node_hello_encode(frame, type, &hello);
    memcpy(body, frame + RR_NODE_HEADER, size - RR_NODE_HEADER);
    *body_size = size - RR_NODE_HEADER;
    return rr__wire_write(wire, frame, size);
}

/* What they are is possible here. Not proven yet. */
static bool take_hello(rr__wire_t *wire, const uint8_t *body, size_t size) {
    const rr_node_identity_t *self = &wire->mesh->options.self;
    rr_node_hello_t *theirs = &wire->handshake->theirs;
    int rc = rr_node_hello_decode(body, size, theirs);
    if (rc == RR_EUNSUPPORTED) {
        refuse(wire, rc, "the versions of the node protocol differ, %u and %u: run the same redrabbit everywhere",
               theirs->protocol, RR_NODE_PROTOCOL);
    } else if (rc != RR_OK) {
        violation(wire, NO_NODE);
    } else if (strcmp(theirs->who.group, self->group) != 0) {
        refuse(wire, RR_EREFUSED, "the groups differ, '%s' and '%s': give both the same -group, or the right address",
               theirs->who.group, self->group);
    } else if (theirs->who.node == self->node && theirs->who.incarnation == self->incarnation) {
        refuse(wire, RR_EREFUSED, "a node dialled itself");
    } else if (theirs->who.node == self->node) {
        refuse(wire, RR_ESTATE, "both claim to be node %u of the group: one of them has to be started anew", self->node);
    } else {
        return true;
    }
    return false;
}

static bool make_proof(rr__wire_t *wire, char side, unsigned given, uint8_t out[RR_NODE_PROOF]) {
    const rr__handshake_t *h = wire->handshake;
    const rr_mesh_options_t *options = &wire->mesh->options;
    if (!rr_node_proof(out, options->key, options->key_size, side, h->hello, h->hello_size, h->challenge,
                       h->challenge_size, given)) {
        rr__wire_end(wire, RR_ENOMEM, false, "out of memory");
        return false;
    }
    return true;
}

static void on_hello(rr__wire_t *wire, const uint8_t *body, size_t size) {
    rr__handshake_t *h = wire->handshake;
    memcpy(h->hello, body, size);
    h->hello_size = size;
    if (take_hello(wire, body, size) && send_hello(wire, RR_NODE_CHALLENGE, h->challenge, &h->challenge_size)) {
        wire->state = RR__WIRE_AUTH;
    }
}

/* At the address of the node we dialled lives another one that we know already. Nothing is proven yet, but to go on would cost
 * us the connection that we have with it: who accepts cuts the old one. */
static bool is_known_other(rr__wire_t *wire, const rr_node_identity_t *who) {
    rr__link_t *link = rr__mesh_link(wire->mesh, who->node);
    if (!link || link == wire->link || rr__link_incarnation(link) != who->incarnation) {
        return false;
    }
    rr_node_refusal_t refusal = {.code = RR_ENOENT, .wait = true};
    snprintf(refusal.why, sizeof refusal.why, "node %u was expected at this address", wire->link ? rr__link_node(wire->link) : 0);
    rr__wire_refuse(wire, &refusal);
    return true;
}

static void on_challenge(rr__wire_t *wire, const uint8_t *body, size_t size) {
    rr__handshake_t *h = wire->handshake;
    uint8_t proof[RR_NODE_PROOF], frame[RR_NODE_AUTH_SIZE];
    memcpy(h->challenge, body, size);
    h->challenge_size = size;
    if (take_hello(wire, body, size) && !is_known_other(wire, &h->theirs.who) && make_proof(wire, 'd', 0, proof) &&
        rr__wire_write(wire, frame, rr_node_auth_encode(frame, proof))) {
        wire->state = RR__WIRE_WELCOME;
    }
}

static void open_now(rr__wire_t *wire) {
    wire->peer = wire->handshake->theirs.who;
    wire->graph = wire->handshake->theirs.graph;
    no_stranger(wire);
    wire->state = RR__WIRE_OPEN;
    rr__mesh_wire_open(wire->mesh, wire);
}

static void on_auth(rr__wire_t *wire, const uint8_t *body, size_t size) {
    uint8_t proof[RR_NODE_PROOF], frame[RR_NODE_WELCOME_SIZE];
    rr_node_hello_t *theirs = &wire->handshake->theirs;
    rr_node_refusal_t refusal = {.code = RR_OK};
    if (!make_proof(wire, 'd', 0, proof)) {
        return;
    }
    if (size != RR_NODE_PROOF || !rr_node_proof_equal(body, proof)) {
        refuse(wire, RR_EACCES, "the cluster keys differ: give every node of the group the same -cluster_key");
        return;
    }
    rr__mesh_wire_admit(wire->mesh, wire, theirs, &refusal);
    if (refusal.code != RR_OK) {
        rr__wire_refuse(wire, &refusal);
        return;
    }
    unsigned given = theirs->join ? theirs->who.node : 0;
    if (!make_proof(wire, 'a', given, proof) ||
        !rr__wire_write(wire, frame, rr_node_welcome_encode(frame, proof, given))) {
        return;
    }
    if (theirs->join) {
        rr__wire_end(wire, RR_OK, true, "joined");
    } else {
        open_now(wire);
    }
}

static void on_welcome(rr__wire_t *wire, const uint8_t *body, size_t size) {
    uint8_t proof[RR_NODE_PROOF];
    if (!make_proof(wire, 'a', 0, proof)) {
        return;
    }
    if (size != RR_NODE_PROOF + 2 || !rr_node_proof_equal(body, proof)) {
        refuse(wire, RR_EACCES, "no proof of the cluster key");
        return;
    }
    const rr_node_identity_t *who = &wire->handshake->theirs.who;
    if (!wire->link || who->node != rr__link_node(wire->link) || who->incarnation != rr__link_incarnation(wire->link)) {
        rr__mesh_wire_stranger(wire->mesh, who);
        rr_node_refusal_t refusal = {.code = RR_ENOENT, .wait = true};
        snprintf(refusal.why, sizeof refusal.why, "node %u was expected at this address",
                 wire->link ? rr__link_node(wire->link) : 0);
        rr__wire_refuse(wire, &refusal);
        return;
    }
    open_now(wire);
}

static void on_refused(rr__wire_t *wire, const uint8_t *body, size_t size) {
    rr_node_refusal_t refusal;
    char peer[400];
    if (!rr_node_refuse_decode(body, size, &refusal)) {
        violation(wire, "a malformed refusal");
        return;
    }
    wire->wait = refusal.wait;
    const rr_mesh_handler_t *handler = wire->mesh->options.handler;
    if (wire->link && handler && handler->refused) {
        handler->refused(wire->mesh->options.context, rr__link_node(wire->link), refusal.code, refusal.why);
    }
    if (!refusal.wait) {
        wire->refused = true;
        rr_count(&wire->mesh->counters.refused, 1);
        log_refusal(wire, refusal.code, "%s refuses this node: %s", call_peer(wire, peer), refusal.why);
    }
    rr__wire_end(wire, refusal.code, false, "refused by it: %s", refusal.why);
}

/* ---- Reading ---- */

static void on_frame(rr__wire_t *wire, rr_node_header_t h, uint8_t *frame) {
    static const uint8_t expected[] = {[RR__WIRE_HELLO] = RR_NODE_HELLO,
                                       [RR__WIRE_AUTH] = RR_NODE_AUTH,
                                       [RR__WIRE_CHALLENGE] = RR_NODE_CHALLENGE,
                                       [RR__WIRE_WELCOME] = RR_NODE_WELCOME};
    const uint8_t *body = frame + RR_NODE_HEADER;
    char why[128];
    if (h.type == RR_NODE_REFUSE) {
        on_refused(wire, body, h.size);
    } else if (wire->state == RR__WIRE_OPEN) {
        if (h.type != RR_NODE_HEARTBEAT && !rr__mesh_wire_frame(wire->mesh, wire, h, frame, why, sizeof why)) {
            violation(wire, why);
        }
    } else if (h.type != expected[wire->state]) {
        violation(wire, "a frame out of order in the handshake");
    } else if (wire->state == RR__WIRE_HELLO) {
        on_hello(wire, body, h.size);
    } else if (wire->state == RR__WIRE_AUTH) {
        on_auth(wire, body, h.size);
    } else if (wire->state == RR__WIRE_CHALLENGE) {
        on_challenge(wire, body, h.size);
    } else {
        on_welcome(wire, body, h.size);
    }
}

/* Handles whole frames; the number of bytes used. */
static size_t parse(rr__wire_t *wire, uint8_t *data, size_t size) {
    size_t at = 0;
    while (wire->state != RR__WIRE_ENDING && size - at >= RR_NODE_HEADER) {
        rr_node_header_t h = rr_node_header_get(data + at);
        bool open = wire->state == RR__WIRE_OPEN;
        if (h.size > (open ? RR_NODE_BODY_MAX : RR_NODE_HELLO_MAX)) {
            violation(wire, open ? "a frame above 64 KiB" : NO_NODE);
            break;
        }
        if (size - at < RR_NODE_HEADER + h.size) {
            break;
        }
        on_frame(wire, h, data + at);
        at += RR_NODE_HEADER + h.size;
    }
    rr_delivery_flush(&wire->mesh->delivery);
    return wire->state == RR__WIRE_ENDING ? size : at;
}

static void on_data(void *owner, uint8_t *data, size_t size) {
    rr__wire_t *wire = owner;
    wire->read_ns = rr__mesh_now(wire->mesh);
    if (size >= READ_SLICE) {
        rr_stream_pause(wire->stream);
        wire->mesh->carrier->ops->defer(wire->mesh->carrier, &wire->again);
    }
    if (wire->buffer) {
        wire->used += size;
        size_t done = parse(wire, wire->buffer, wire->used);
        wire->used -= done;
        memmove(wire->buffer, wire->buffer + done, wire->used);
        return;
    }
    size_t done = parse(wire, data, size);
    if (done == size) {
        return;
    }
    wire->buffer = malloc(BUFFER_SIZE);
    if (!wire->buffer) {
        rr__wire_end(wire, RR_ENOMEM, false, "out of memory");
        return;
    }
    wire->used = size - done;
    memcpy(wire->buffer, data + done, wire->used);
}

static uint8_t *on_room(void *owner, size_t *size) {
    rr__wire_t *wire = owner;
    if (!wire->buffer) {
        return NULL;
    }
    *size = BUFFER_SIZE - wire->used;
    return wire->buffer + wire->used;
}

static void on_drained(void *owner) {
    rr__wire_t *wire = owner;
    if (wire->state == RR__WIRE_OPEN) {
        rr__mesh_wire_room(wire->mesh, wire);
    }
}

static const rr_stream_handler_t stream_handler = {
    .data = on_data, .room = on_room, .closed = on_closed, .drained = on_drained};

/* ---- Beginning ---- */

void rr__wire_accept(rr_mesh_t *mesh, intptr_t handle) {
    rr__carrier_t *carrier = mesh->carrier;
    rr__wire_t *wire = NULL;
    if (mesh->strangers >= mesh->options.max_strangers || mesh->leaving) {
        rr_count(&mesh->counters.strangers_dropped, 1);
    } else {
        wire = wire_new(mesh, false);
    }
    if (!wire) {
        carrier->ops->drop(carrier, handle);
        return;
    }
    rr_count(&mesh->counters.accepted, 1);
    wire->state = RR__WIRE_HELLO;
    if (carrier->ops->open(carrier, handle, &stream_handler, wire, wire->limit, &wire->stream) != RR_OK) {
        wire_free(wire);
    }
}

static void on_dialled(rr__dial_t *dial, int error, intptr_t handle, const char *why) {
    rr__wire_t *wire = (rr__wire_t *)((char *)dial - offsetof(rr__wire_t, dial));
    rr__carrier_t *carrier = wire->mesh->carrier;
    if (error == RR_OK) {
        error = carrier->ops->open(carrier, handle, &stream_handler, wire, wire->limit, &wire->stream);
        why = rr_strerror(error);
    }
    if (error != RR_OK) {
        snprintf(wire->why, sizeof wire->why, "%s", why);
        wire->state = RR__WIRE_ENDING;
        wire->error = error;
        on_closed(wire, error);
        return;
    }
    wire->state = RR__WIRE_CHALLENGE;
    (void)send_hello(wire, RR_NODE_HELLO, wire->handshake->hello, &wire->handshake->hello_size);
}

int rr__wire_dial(rr_mesh_t *mesh, rr__link_t *link, const char *address, rr__wire_t **out) {
    rr__wire_t *wire = wire_new(mesh, true);
    if (!wire) {
        return RR_ENOMEM;
    }
    wire->link = link;
    wire->dial.done = on_dialled;
    int rc = mesh->carrier->ops->dial(mesh->carrier, address, &wire->dial);
    if (rc != RR_OK) {
        wire_free(wire);
        return rc;
    }
    rr_count(&mesh->counters.dialled, 1);
    *out = wire;
    return RR_OK;
}

/* ---- Time ---- */

bool rr__wire_is_silent(const rr__wire_t *wire, uint64_t now) {
    return now - wire->read_ns >= wire->mesh->options.suspect_ms * RR__MS;
}

uint64_t rr__wire_tick(rr__wire_t *wire, uint64_t now) {
    const rr_mesh_options_t *options = &wire->mesh->options;
    if (wire->state == RR__WIRE_ENDING) {
        return UINT64_MAX;
    }
    if (wire->state != RR__WIRE_OPEN) {
        uint64_t due = wire->began_ns + options->connect_ms * RR__MS;
        if (now >= due) {
            rr__wire_end(wire, RR_TIMEOUT, false, "no handshake within %u ms", options->connect_ms);
            return UINT64_MAX;
        }
        return due;
    }
    uint64_t silent_due = wire->read_ns + options->down_ms * RR__MS;
    if (now >= silent_due) {
        rr__wire_end(wire, RR_TIMEOUT, false, "silent for %u ms", options->down_ms);
        return UINT64_MAX;
    }
    if (wire->buffer && !wire->used && now - wire->read_ns > 1000 * RR__MS) {
        free(wire->buffer);
        wire->buffer = NULL;
    }
    uint64_t beat_due = wire->written_ns + options->heartbeat_ms * RR__MS;
    if (now >= beat_due) {
        uint8_t frame[RR_NODE_HEADER];
        rr_node_header_put(frame, RR_NODE_HEARTBEAT, 0, 0, 0);
        (void)rr__wire_write(wire, frame, sizeof frame);
        beat_due = now + options->heartbeat_ms * RR__MS;
    }
    return beat_due < silent_due ? beat_due : silent_due;
}
