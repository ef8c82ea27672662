#include "net/link.h"

#include <stdio.h>
#include <stdlib.h>

#include "net/mesh_impl.h"

#define ASK_FIRST_MS 100u
#define ASK_MAX_MS   1000u
#define STALL_MIN_MS 500u
#define TYPE_MARK 1u /* from the mesh to a proxy: what came before is taken over */

/* ---- States ---- */

const char *rr_link_state_name(rr_link_state_t state) {
    static const char *const names[] = {"idle", "connecting", "up", "suspect", "down"};
    return (unsigned)state < sizeof names / sizeof names[0] ? names[state] : "unknown";
}

/* Comings and goings of tools are no news, nor is the end of a link that nobody needed. */
static rr_level_t told_at(const rr__link_t *link, rr_level_t level) {
    return link->peer.name[0] == RR_NODE_VISITOR || !link->wanted ? RR_DEBUG : level;
}

static void tell_path(rr__link_t *link, const char *what) {
    rr_log(link->mesh->system, told_at(link, RR_INFO), "LINK", "%s: %s%s", link->text, what,
           link->path && link->path != link->direct ? link->path->peer.name : "");
    link->told_via = rr_counted(&link->via);
}

void rr__link_set_state(rr__link_t *link, rr_link_state_t state) {
    rr_mesh_t *mesh = link->mesh;
    if (rr__link_state(link) == state) {
        return;
    }
    atomic_store_explicit(&link->state, (int)state, memory_order_relaxed);
    if (state == RR_LINK_UP) {
        tell_path(link, link->path && link->path != link->direct ? "up through " : "up");
    } else if (state == RR_LINK_SUSPECT) {
        rr_log(mesh->system, told_at(link, RR_WARN), "LINK", "%s: silent for %u ms", link->text, mesh->options.suspect_ms);
    }
    if (mesh->options.handler && mesh->options.handler->state) {
        mesh->options.handler->state(mesh->options.context, link->node, link->peer.incarnation, state);
    }
}

static void heard(rr__link_t *link) {
    link->heard_ns = rr__mesh_now(link->mesh);
    atomic_store_explicit(&link->heard_counter_ns, link->heard_ns, memory_order_relaxed);
    if (link->agreed && rr__link_state(link) == RR_LINK_SUSPECT) {
        rr__link_set_state(link, RR_LINK_UP);
    }
}

void rr__link_want(rr__link_t *link) {
    if (link->wanted || link->ended || link->left) {
        return;
    }
    link->wanted = true;
    link->heard_ns = rr__mesh_now(link->mesh);
    rr__link_set_state(link, RR_LINK_CONNECTING);
    rr__mesh_due(link->mesh, 0);
}

/* ---- Agreeing ---- */

static rr_node_session_t my_session(const rr__link_t *link) {
    return (rr_node_session_t){link->mesh->options.self.incarnation, link->mine};
}

static rr_node_session_t their_session(const rr__link_t *link) {
    return (rr_node_session_t){link->peer.incarnation, link->theirs};
}

static bool send_open(rr__link_t *link, rr__wire_t *wire, unsigned flags, uint32_t ask) {
    uint8_t frame[RR_NODE_OPEN_SIZE];
    rr_node_open_t open = {(uint16_t)link->mesh->options.self.node,
                           (uint16_t)flags,
                           ask,
                           my_session(link),
                           their_session(link),
                           link->received};
    bool sent = rr__wire_write(wire, frame, rr_node_open_encode(frame, link->node, &open));
    link->said_ns = rr__mesh_now(link->mesh);
    return sent;
}

void rr__link_ask(rr__link_t *link) {
    uint64_t delay = (uint64_t)ASK_FIRST_MS << (link->asks < 5 ? link->asks : 5);
    delay = delay > ASK_MAX_MS ? ASK_MAX_MS : delay;
    link->agreed = false;
    link->asking = true;
    link->ask++;
    link->asks++;
    link->ask_due_ns = rr__mesh_now(link->mesh) + delay * RR__MS;
    rr__mesh_due(link->mesh, link->ask_due_ns);
    if (link->path) {
        (void)send_open(link, link->path, RR_NODE_OPEN_ASK | RR_NODE_OPEN_RESEND,
                        link->ask); /* else asked again later */
    }
}

void rr__link_set_path(rr__link_t *link, rr__wire_t *path) {
    if (link->path != path && path && link->path) {
        rr_count(&link->reconnects, 1);
    }
    link->path = path;
    uint64_t via = path && path != link->direct && path->link ? path->link->node : 0;
    atomic_store_explicit(&link->via, via, memory_order_relaxed);
}

void rr__link_path_lost(rr__link_t *link) {
    if (link->agreed) {
        rr_count(&link->reconnects, 1);
    }
    link->path = NULL;
    link->agreed = link->asking = false;
    link->asks = 0;
    link->shaky_bytes = RR__SHAKY;
    if (rr__link_state(link) == RR_LINK_UP) {
        rr__link_set_state(link, RR_LINK_CONNECTING);
    }
    rr__mesh_due(link->mesh, 0);
}

/* Everything is known for going on. */
static void agreed(rr__link_t *link) {
    rr_mesh_t *mesh = link->mesh;
    link->agreed = true;
    link->asks = 0;
    link->progress_ns = rr__mesh_now(mesh);
    if (link->path) {
        link->path->useful = true;
    }
    if (rr__link_state(link) == RR_LINK_DOWN) { /* a new session: there is a way again */
        pthread_mutex_lock(&mesh->lock);
        if (!link->superseded && rr_route_set(mesh->system, link->node, link->proxy) != RR_OK) {
            rr_log(mesh->system, RR_ERROR, "LINK", "%s: no memory for its route", link->text);
        }
        pthread_mutex_unlock(&mesh->lock);
    }
    bool was_up = rr__link_state(link) == RR_LINK_UP;
    rr__link_set_state(link, RR_LINK_UP);
    if (was_up && link->told_via != rr_counted(&link->via)) {
        tell_path(link, link->path && link->path != link->direct ? "now through " : "direct now");
    }
    rr__link_unhold(link);
    rr__link_rewind(link);
    rr__mesh_due(mesh, link->said_ns + mesh->options.heartbeat_ms * RR__MS);
}

static void send_gone(rr__link_t *link, rr__wire_t *wire, rr_node_session_t session) {
    uint8_t frame[RR_NODE_GONE_SIZE];
    rr_node_gone_t gone = {(uint16_t)link->mesh->options.self.node, session};
    (void)rr__wire_write(wire, frame, rr_node_gone_encode(frame, RR_NODE_GONE, link->node, &gone));
}

static void answer(rr__link_t *link, rr__wire_t *wire, const rr_node_open_t *open) {
    rr__link_want(link);
    rr__link_set_path(link, wire);
    (void)send_open(link, wire, RR_NODE_OPEN_ANSWER | RR_NODE_OPEN_RESEND, open->ask); /* lost: it asks again */
    if (!link->asking) {
        agreed(link);
    }
}

static bool on_open(rr__link_t *link, rr__wire_t *wire, const rr_node_open_t *open, char *why, size_t why_size) {
    const rr_node_identity_t *self = &link->mesh->options.self;
    if (open->from.incarnation != link->peer.incarnation || open->from.number < link->theirs_seen || link->ended ||
        link->left) {
        return true; /* from an earlier life of its, or of the session */
    }
    bool knows = open->to.number != 0;
    if (knows && (open->to.incarnation != self->incarnation || open->to.number > link->mine)) {
        send_gone(link, wire, open->from);
        return true;
    }
    if (link->theirs && open->from.number > link->theirs) {
        rr__link_over(link, "the other side gave up the session");
    }
    if (knows && open->to.number != link->mine) { /* we gave that one up */
        send_gone(link, wire, open->from);
        return true;
    }
    if (link->theirs != open->from.number) {
        link->asked = 0;
    }
    link->theirs = link->theirs_seen = open->from.number;
    link->tag = rr_node_session_tag(self->node, my_session(link), link->node, their_session(link));
    if (!rr__link_on_ack(link, open->received)) {
        snprintf(why, why_size, "it says it received what was never sent");
        return false;
    }
    heard(link);
    if (open->flags & RR_NODE_OPEN_ASK) {
        if (!link->asked || (int32_t)(open->ask - link->asked) >= 0) {
            link->asked = open->ask;
            answer(link, wire, open);
        } /* else a later one, by another path, has overtaken it: who asked does not wait for its answer, nor uses its path */
    } else if ((open->flags & RR_NODE_OPEN_ANSWER) && link->asking && open->ask == link->ask && knows) {
        link->asking = false;
        rr__link_set_path(link, wire);
        agreed(link);
    }
    return true;
}

static void on_gone(rr__link_t *link, const rr_node_gone_t *gone) {
    if (gone->session.incarnation == link->mesh->options.self.incarnation && gone->session.number == link->mine &&
        !link->ended) {
        rr__link_over(link, "the other side has given up the session");
    }
}

static void on_leave(rr__link_t *link, const rr_node_gone_t *leave) {
    if (leave->session.incarnation == link->peer.incarnation && !link->left) {
        link->left = true;
        rr__link_over(link, "it left");
    }
}

static bool on_segment(rr__link_t *link, rr_node_header_t h, const uint8_t *body, char *why, size_t why_size) {
    rr_node_segment_t segment;
    if (!rr_node_segment_get(h, body, &segment)) {
        snprintf(why, why_size, "a malformed segment");
        return false;
    }
    if (segment.tag != link->tag || !link->theirs) {
        return true; /* of a session that is over */
    }
    heard(link);
    if (!rr__link_on_ack(link, segment.received)) {
        snprintf(why, why_size, "it acknowledges what was never sent");
        return false;
    }
    return rr__link_segment(link, &segment, body + RR_NODE_SEGMENT_HEADER, h.size - RR_NODE_SEGMENT_HEADER, why,
                            why_size);
}

static bool on_ack(rr__link_t *link, rr_node_header_t h, const uint8_t *body, char *why, size_t why_size) {
    rr_node_ack_t ack;
    if (!rr_node_ack_decode(h, body, &ack)) {
        snprintf(why, why_size, "a malformed acknowledgement");
        return false;
    }
    if (ack.tag == link->tag && link->theirs) {
        heard(link);
        if (!rr__link_on_ack(link, ack.received)) {
            snprintf(why, why_size, "it acknowledges what was never sent");
            return false;
        }
        if (link->agreed && link->written < link->sealed) {
            rr__link_flush_soon(link);
        }
    }
    return true;
}

bool rr__link_frame(rr__link_t *link, rr__wire_t *wire, rr_node_header_t h, const uint8_t *body, char *why,
                    size_t why_size) {
    rr_node_open_t open;
    rr_node_gone_t gone;
    if (h.type == RR_NODE_SEGMENT) {
        return on_segment(link, h, body, why, why_size);
    }
    if (h.type == RR_NODE_ACK) {
        return on_ack(link, h, body, why, why_size);
    }
    if (h.type == RR_NODE_OPEN && rr_node_open_decode(h, body, &open)) {
        return on_open(link, wire, &open, why, why_size);
    }
    if ((h.type == RR_NODE_GONE || h.type == RR_NODE_LEAVE) && rr_node_gone_decode(h, body, &gone)) {
        if (h.type == RR_NODE_GONE) {
            on_gone(link, &gone);
        } else {
            on_leave(link, &gone);
        }
        return true;
    }
    bool known = h.type == RR_NODE_OPEN || h.type == RR_NODE_GONE || h.type == RR_NODE_LEAVE;
    snprintf(why, why_size, known ? "a malformed frame of type %u" : "a frame of unknown type %u", h.type);
    return false;
}

void rr__link_unreachable(rr__link_t *link, unsigned relay) {
    if (!link->path || link->path == link->direct || !link->path->link || link->path->link->node != relay) {
        return;
    }
    link->bad_relay = relay;
    link->bad_until_ns = rr__mesh_now(link->mesh) + ASK_MAX_MS * RR__MS;
    link->agreed = false;
    link->asking = false;
    link->path = NULL;
    uint64_t soon = rr__mesh_now(link->mesh) + ASK_FIRST_MS * RR__MS;
    link->ask_due_ns = soon;
    rr__mesh_due(link->mesh, soon);
}

/* ---- The end of a session ---- */

static void node_down(rr__link_t *link) {
    rr_mesh_t *mesh = link->mesh;
    pthread_mutex_lock(&mesh->lock);
    bool ours = !link->superseded; /* else its successor's calls are no business of ours */
    if (ours && rr_route_set(mesh->system, link->node, RR_NOBODY) != RR_OK) {
        rr_log(mesh->system, RR_ERROR, "LINK", "%s: its route cannot be taken away", link->text);
    }
    pthread_mutex_unlock(&mesh->lock);
    if (ours) {
        rr_node_down(mesh->system, link->node);
        rr_remote_pauses_forget(mesh->system, link->node);
    }
}

void rr__link_over(rr__link_t *link, const char *why) {
    rr_mesh_t *mesh = link->mesh;
    rr_link_state_t state = rr__link_state(link);
    rr_delivery_flush(&mesh->delivery); /* what came before the end comes before the news of it */
    if (state != RR_LINK_DOWN) {
        rr_log(mesh->system, told_at(link, link->left || mesh->leaving ? RR_INFO : RR_WARN), "LINK", "%s: down: %s", link->text, why);
        node_down(link);
    }
    rr__pauses_forget(mesh, link->node);
    rr__link_drop_output(link, RR_LINKDOWN);
    rr__link_drop_input(link);
    link->mine = rr__mesh_session(mesh);
    link->theirs = 0;
    link->agreed = link->asking = false;
    link->asks = 0;
    link->ask_due_ns = 0;
    link->heard_ns = rr__mesh_now(mesh);
    rr__link_set_state(link, RR_LINK_DOWN);
    rr__link_unhold(link);
    rr__mesh_due(mesh, 0);
}

void rr__link_end(rr__link_t *link, const char *why) {
    if (link->ended) {
        return;
    }
    link->ended = true;
    rr__link_over(link, why);
    rr_kill(link->mesh->system, link->proxy, RR_OK);
}

/* ---- Time ---- */

static uint64_t earlier(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

static uint64_t silence_tick(rr__link_t *link, uint64_t now) {
    const rr_mesh_options_t *options = &link->mesh->options;
    if (rr__link_state(link) == RR_LINK_DOWN) {
        return UINT64_MAX;
    }
    uint64_t suspect = link->heard_ns + options->suspect_ms * RR__MS, down = link->heard_ns + options->down_ms * RR__MS;
    if (now >= down) {
        char why[80];
        snprintf(why, sizeof why, "silent for %u ms", options->down_ms);
        rr__link_over(link, why);
        return UINT64_MAX;
    }
    if (now >= suspect) {
        rr__link_set_state(link, RR_LINK_SUSPECT);
        return down;
    }
    return suspect;
}

/* Has a path and agrees, or asks. */
static uint64_t path_tick(rr__link_t *link, uint64_t now) {
    rr_mesh_t *mesh = link->mesh;
    if (link->agreed && !rr__wire_is_silent(link->path, now)) {
        uint64_t stall_ms = 2ull * mesh->options.heartbeat_ms;
        stall_ms = stall_ms < STALL_MIN_MS ? STALL_MIN_MS : stall_ms;
        uint64_t stalled = link->written > link->acked ? link->progress_ns + stall_ms * RR__MS : UINT64_MAX;
        uint64_t beat = link->said_ns + mesh->options.heartbeat_ms * RR__MS;
        if (now >= stalled) {
            rr__link_ask(link);
            return link->ask_due_ns;
        }
        if (now >= beat) {
            rr__link_send_ack(link);
            beat = now + mesh->options.heartbeat_ms * RR__MS;
        }
        return earlier(beat, stalled);
    }
    if (now < link->ask_due_ns && (link->asking || !link->path) && link->asks) {
        return link->ask_due_ns;
    }
    rr__wire_t *path = rr__mesh_path(mesh, link, link->asks % 2 == 1);
    if (path) {
        rr__link_set_path(link, path);
        rr__link_ask(link);
        return link->ask_due_ns;
    }
    if (link->path) { /* silent, and there is no other */
        rr__link_ask(link);
        return link->ask_due_ns;
    }
    return link->bad_until_ns > now ? link->bad_until_ns : UINT64_MAX; /* a connection that opens comes back to us */
}

uint64_t rr__link_tick(rr__link_t *link, uint64_t now) {
    if (!link->wanted || link->ended || link->left) {
        return UINT64_MAX;
    }
    uint64_t due = silence_tick(link, now);
    due = earlier(due, path_tick(link, now));
    return earlier(due, rr__mesh_dial_tick(link->mesh, link, now));
}

/* ---- The proxy ---- */

typedef struct proxy {
    rr__link_t *link;
} proxy_t;

static int proxy_start(rr_actor_t *self, void *state, const void *arg) {
    proxy_t *proxy = state;
    rr__link_t *link = *(rr__link_t *const *)arg;
    proxy->link = link;
    link->actor = self;
    if (!link->attached) {
        rr__mesh_attach(link->mesh, link);
    }
    return RR_OK;
}

/* To the proxy itself. */
static void proxy_receive(rr_actor_t *self, void *state, rr_message_t *msg) {
    rr__link_t *link = ((proxy_t *)state)->link;
    (void)self;
    if (rr_message_from(msg) == link->proxy) { /* the mark: everything before it is taken over */
        link->draining = true;
        rr__mesh_due(link->mesh, 0);
    } else if (rr_message_type(msg) == TYPE_MARK) {
        link->marked = true;
        rr__mesh_due(link->mesh, 0);
    } /* nobody else talks to a proxy itself */
}

/* False: what is sent now reaches nobody. */
static bool takes(rr__link_t *link) {
    if (__builtin_expect(!link->wanted, 0)) {
        rr__link_want(link);
    }
    return __builtin_expect(rr__link_state(link) != RR_LINK_DOWN && !link->ended, 1);
}

static void proxy_forward(rr_actor_t *self, void *state, const rr_envelope_t *env) {
    rr__link_t *link = ((proxy_t *)state)->link;
    (void)self;
    if (takes(link)) {
        rr__link_send(link, env);
    } else {
        rr_envelope_refuse(link->mesh->system, env, RR_NOROUTE);
    }
}

static void proxy_forward_run(rr_actor_t *self, void *state, rr_run_t *run) {
    rr__link_t *link = ((proxy_t *)state)->link;
    (void)self;
    if (takes(link)) {
        rr__link_send_run(link, run);
        return;
    }
    for (const rr_packed_t *item; (item = rr_run_first(run)) != NULL; rr_run_take(run, item)) {
        rr_envelope_t env = rr_run_envelope(run, item);
        rr_envelope_refuse(link->mesh->system, &env, RR_NOROUTE);
    }
}

static bool proxy_forward_sheet(rr_actor_t *self, void *state, const rr_sheet_t *sheet) {
    rr__link_t *link = ((proxy_t *)state)->link;
    (void)self;
    return takes(link) && rr__link_send_sheet(link, sheet);
}

static void proxy_turn_end(rr_actor_t *self, void *state) {
    rr__link_t *link = ((proxy_t *)state)->link;
    (void)self;
    if (link && link->attached && !link->ended) {
        rr__link_push(link, rr_others_wait());
        rr__link_flush_soon(link);
    }
}

/* The others are gone already: what they said last is still in the mailbox, is sent, and is acknowledged. */
static void proxy_drain(rr_actor_t *self, void *state) {
    (void)state;
    if (rr_send(self, rr_self(self), 0, NULL, 0) != RR_OK) {
        rr_exit(self, RR_OK);
    }
}

/* What is said once this node has left reaches nobody: waiting for its acknowledgement would only end with the deadline. */
bool rr__link_is_drained(const rr__link_t *link) {
    bool left = link->mesh->leaving && !link->mesh->left;
    return link->draining && (rr__link_is_idle(link) || rr__link_state(link) == RR_LINK_DOWN || !link->wanted || left);
}

bool rr__link_is_finished(rr__link_t *link) {
    if (link->actor && !link->mark_sent) { /* a full mailbox: at a later call */
        link->mark_sent = rr_system_send(link->mesh->system, link->proxy, TYPE_MARK, NULL, 0) == RR_OK;
    }
    return (link->marked || !link->actor) && (rr__link_is_idle(link) || rr__link_state(link) == RR_LINK_DOWN);
}

static void proxy_finish(rr_actor_t *self, void *state, int reason) {
    proxy_t *proxy = state;
    rr__link_t *link = proxy->link;
    (void)self;
    (void)reason;
    proxy->link = NULL;
    link->actor = NULL;
    rr__mesh_detach(link->mesh, link);
}

const rr_behavior_t rr__proxy_behavior = {
    .name = "link",
    .state_size = sizeof(proxy_t),
    .proxy = true,
    .start = proxy_start,
    .receive = proxy_receive,
    .forward = proxy_forward,
    .forward_run = proxy_forward_run,
    .forward_sheet = proxy_forward_sheet,
    .turn_end = proxy_turn_end,
    .drain = proxy_drain,
    .finish = proxy_finish,
};

void rr__link_free(rr__link_t *link) {
    free(link->ring);
    free(link);
}
