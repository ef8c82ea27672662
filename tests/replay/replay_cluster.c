/* replay_cluster.c: thousands of small clusters, each in one process under virtual time from its seed: links, relays, cuts,
 * partitions, delays, pauses and deaths of nodes (sim.h), under a checker that knows every message:
 *   - what one actor sends another arrives in order and at most once; exactly once as long as both live and neither side gave
 *     the session up; else it arrived or is a dead letter at its sender
 *   - every call ends once, in time; OK = executed once; NOROUTE, STALE, OVERLOAD = not executed, ever; else at most once
 *   - a monitor fires once, only if its target's node ended or a session was given up, and within the time of `down_ms`
 *   - when the faults are over everybody reaches everybody
 * A failure names its seed; --seed N plays it again (--log: with the nodes' logs).
 *     replay_cluster [--seeds N] [--first N] [--seed N] [--log] */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/system.h"
#include "tests/replay/seeds.h"
#include "tests/replay/sim.h"

#define ACTORS 3 /* of each life */
#define MAX_ACTORS 192u
#define MAX_CALLS 16384u
#define DOWN_MS 1000u
#define FAULTS_NS (5000 * SIM_MS)
#define CALM_NS (6000 * SIM_MS)
#define SLACK_NS (4000 * SIM_MS) /* what a dead node said last may still be on its way through a slow or blocked path */

enum { SENT = 1, DELIVERED = 2, DEAD = 4, REFUSED = 8, MAYBE = 16 /* in the mailbox of a paused actor when its node died */ };

typedef struct pair { /* what one actor sent another */
    uint8_t *fate;
    uint32_t sent, last, capacity;
} pair_t;

typedef struct monitor {
    uint64_t since, id;
    bool active;
} monitor_t;

typedef struct world world_t;
typedef struct node node_t;

typedef struct peer { /* an actor */
    world_t *world;
    node_t *node;
    unsigned number;
    rr_addr_t addr;
    rr_message_t *kept; /* a call that is answered later */
    unsigned asked;
} peer_t;

struct node { /* a life, as the checker sees it */
    world_t *world;
    sim_life_t *life;
    unsigned number;
    rr_node_identity_t who;
    bool down[64]; /* its session with that node (by number) was given up at least once */
};

typedef struct call {
    peer_t *from, *to;
    uint64_t began, deadline;
    unsigned executed;
    int status;
    bool ended, surely_not, probe, strict;
} call_t;

struct world {
    sim_t sim;
    uint64_t seed;
    bool log, calm, asks, strict; /* asks: for an answer of everybody; strict: and must get it */
    node_t *nodes[64];
    unsigned node_count;
    peer_t peers[MAX_ACTORS];
    unsigned peer_count;
    pair_t pairs[MAX_ACTORS][MAX_ACTORS];
    monitor_t monitors[MAX_ACTORS][MAX_ACTORS];
    call_t *calls;
    unsigned call_count, probes, answers;
    bool apart[SIM_PLACES][SIM_PLACES]; /* cannot dial each other */
    uint64_t delivered, ended, fired, letters;
};

static _Noreturn void fail(const world_t *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
static _Noreturn void fail(const world_t *w, const char *format, ...) {
    va_list args;
    va_start(args, format);
    fprintf(stderr, "seed %llu, at %.3f s: ", (unsigned long long)w->seed, (double)w->sim.now / 1e9);
    vfprintf(stderr, format, args);
    fprintf(stderr, "\nplay it again with --seed %llu --log\n", (unsigned long long)w->seed);
    va_end(args);
    exit(EXIT_FAILURE);
}

static bool lives(const node_t *n) {
    return !n->life->died_ns;
}

static bool gave_up(const node_t *a, const node_t *b) {
    return a->down[b->number] || b->down[a->number];
}

static node_t *node_by_id(world_t *w, unsigned id) {
    for (unsigned i = 0; i < w->node_count; i++) {
        if (w->nodes[i]->who.node == id) {
            return w->nodes[i];
        }
    }
    return NULL;
}

static peer_t *peer_by_addr(world_t *w, rr_addr_t addr) {
    for (unsigned i = 0; i < w->peer_count; i++) {
        if (w->peers[i].addr == addr) {
            return &w->peers[i];
        }
    }
    return NULL;
}

/* ---- Sends ---- */

typedef struct body {
    uint32_t from, to, number, size;
} body_t;

static uint32_t random_size(world_t *w) {
    unsigned draw = (unsigned)sim_below(&w->sim, 1000);
    uint32_t bound = draw < 4 ? 300000 : draw < 40 ? 20000 : 200;
    return (uint32_t)sizeof(body_t) + (uint32_t)sim_below(&w->sim, bound);
}

static void do_send(rr_actor_t *self, peer_t *from, peer_t *to) {
    world_t *w = from->world;
    pair_t *pair = &w->pairs[from->number][to->number];
    body_t body = {from->number, to->number, pair->sent + 1, random_size(w)};
    uint8_t *data = malloc(body.size);
    memset(data, (int)body.number, body.size);
    memcpy(data, &body, sizeof body);
    if (pair->sent + 1 >= pair->capacity) {
        pair->capacity = pair->capacity ? 2 * pair->capacity : 64;
        pair->fate = realloc(pair->fate, pair->capacity);
    }
    int rc = rr_send(self, to->addr, body.number, data, body.size);
    free(data);
    pair->fate[++pair->sent] = rc == RR_OK ? SENT : REFUSED;
    if (rc == RR_NOROUTE && lives(to->node) && !gave_up(from->node, to->node) && rr_addr_node(from->addr) != rr_addr_node(to->addr) &&
               rr_route(from->node->life->system, to->node->who.node) != RR_NOBODY) {
        fail(w, "actor %u: no way to actor %u although nobody gave up", from->number, to->number);
    }
}

static void on_send(peer_t *me, rr_message_t *msg) {
    world_t *w = me->world;
    const uint8_t *data = rr_message_data(msg);
    size_t size = rr_message_size(msg);
    body_t body;
    memcpy(&body, data, sizeof body);
    if (body.to != me->number || body.size != size || body.number != rr_message_type(msg) || body.from >= w->peer_count ||
        w->peers[body.from].addr != rr_message_from(msg) ||
        (size > sizeof body && (data[sizeof body] != (uint8_t)body.number || data[size - 1] != (uint8_t)body.number))) {
        fail(w, "actor %u got a spoilt message", me->number);
    }
    pair_t *pair = &w->pairs[body.from][me->number];
    if (body.number <= pair->last || body.number > pair->sent) {
        fail(w, "actor %u got message %u of actor %u behind message %u (%u were sent)", me->number, body.number, body.from, pair->last,
             pair->sent);
    }
    node_t *sender = w->peers[body.from].node;
    for (uint32_t i = pair->last + 1; i < body.number && !gave_up(me->node, sender); i++) {
        if (!(pair->fate[i] & REFUSED)) {
            fail(w, "actor %u got message %u of actor %u, but not message %u", me->number, body.number, body.from, i);
        }
    }
    if (pair->fate[body.number] & REFUSED) {
        fail(w, "actor %u got message %u of actor %u, whose send was refused", me->number, body.number, body.from);
    }
    pair->last = body.number;
    pair->fate[body.number] |= DELIVERED;
    w->delivered++;
}

/* ---- Calls ---- */

static void on_answer(rr_actor_t *self, void *state, int status, rr_message_t *msg, void *context) {
    peer_t *me = *(peer_t **)state;
    world_t *w = me->world;
    call_t *call = context;
    unsigned number = (unsigned)(call - w->calls);
    bool punctual = me->node->life->paused_last < call->began;
    (void)self;
    if (call->ended) {
        fail(w, "call %u ended twice", number);
    }
    call->ended = true;
    call->status = status;
    w->ended++;
    if (punctual && w->sim.now > call->deadline + 50 * SIM_MS) {
        fail(w, "call %u ended %.3f s behind its deadline", number, (double)(w->sim.now - call->deadline) / 1e9);
    }
    switch (status) {
    case RR_OK:
        if (call->executed != 1 || rr_message_size(msg) != sizeof number || memcmp(rr_message_data(msg), &number, sizeof number) != 0) {
            fail(w, "call %u was answered without being executed, or not with its answer", number);
        }
        w->answers += call->strict;
        break;
    case RR_NOROUTE:
    case RR_STALE:
    case RR_OVERLOAD:
        call->surely_not = true;
        if (call->executed) {
            fail(w, "call %u ended %s, but it was executed", number, rr_error_name(status));
        }
        break;
    case RR_DIED:
    case RR_LINKDOWN:
    case RR_TIMEOUT:
        break;
    default:
        fail(w, "call %u ended %s", number, rr_error_name(status));
    }
    if (status == RR_LINKDOWN && lives(call->to->node) && !gave_up(me->node, call->to->node)) {
        fail(w, "call %u ended LINKDOWN although nobody gave up", number);
    }
}

static void do_call(rr_actor_t *self, peer_t *from, peer_t *to, bool probe) {
    world_t *w = from->world;
    if (w->call_count == MAX_CALLS) {
        return;
    }
    unsigned number = w->call_count++, timeout = probe ? 2000 : 200 + (unsigned)sim_below(&w->sim, 2800);
    w->calls[number] = (call_t){.from = from, .to = to, .probe = probe, .strict = probe && w->strict, .began = w->sim.now, .deadline = w->sim.now + timeout * SIM_MS};
    w->probes += probe && w->strict;
    if (rr_call(self, to->addr, 0, &number, sizeof number, timeout, on_answer, &w->calls[number], NULL) != RR_OK) {
        fail(w, "a call could not be made");
    }
}

static void on_call(rr_actor_t *self, peer_t *me, rr_message_t *msg) {
    world_t *w = me->world;
    unsigned number;
    memcpy(&number, rr_message_data(msg), sizeof number);
    call_t *call = &w->calls[number];
    if (call->to != me || ++call->executed > 1) {
        fail(w, "call %u was executed twice, or by somebody else", number);
    }
    if (call->surely_not) {
        fail(w, "call %u is executed, but its caller was told that it surely was not", number);
    }
    if (!me->kept && !call->probe && sim_chance(&w->sim, 15)) {
        rr_message_take(self, msg);
        me->kept = msg;
    } else {
        rr_reply(self, msg, &number, sizeof number);
    }
}

/* ---- Monitors ---- */

static void do_monitor(rr_actor_t *self, peer_t *from, peer_t *to) {
    world_t *w = from->world;
    monitor_t *m = &w->monitors[from->number][to->number];
    if (!m->active) {
        *m = (monitor_t){.since = w->sim.now, .active = true};
        if (rr_monitor(self, to->addr, &m->id) != RR_OK) {
            fail(w, "a monitor could not be made");
        }
    } else if (sim_chance(&w->sim, 30)) {
        m->active = !rr_demonitor(self, m->id) && m->active;
    }
}

static void on_down(peer_t *me, rr_message_t *msg) {
    world_t *w = me->world;
    peer_t *to = peer_by_addr(w, rr_message_from(msg));
    monitor_t *m = to ? &w->monitors[me->number][to->number] : NULL;
    if (!m || !m->active || m->id != rr_message_request(msg)) {
        fail(w, "actor %u was told of an end that it does not wait for", me->number);
    }
    m->active = false;
    w->fired++;
    uint64_t died = to->node->life->died_ns, since = m->since > died ? m->since : died;
    bool known = rr_route(me->node->life->system, to->node->who.node) != RR_NOBODY;
    if (!died && !gave_up(me->node, to->node) && known) {
        fail(w, "actor %u was told of the end of actor %u (%s), which lives", me->number, to->number,
             rr_error_name((int)rr_message_type(msg)));
    }
    if (died && me->node->life->paused_last < m->since && w->sim.now > since + DOWN_MS * SIM_MS + SLACK_NS) {
        fail(w, "actor %u was told of the end of actor %u %.3f s late", me->number, to->number, (double)(w->sim.now - since) / 1e9);
    }
}

/* ---- The actors ---- */

static peer_t *random_peer(world_t *w) {
    unsigned recent = w->peer_count < 24 ? w->peer_count : 24; /* some of the dead, too */
    return &w->peers[w->peer_count - 1 - sim_below(&w->sim, recent)];
}

static void act(rr_actor_t *self, peer_t *me) {
    world_t *w = me->world;
    peer_t *to = random_peer(w);
    for (unsigned tries = 0; tries < 4 && (to->node == me->node || to->node->life->died_ns) && !sim_chance(&w->sim, 5); tries++) {
        to = random_peer(w);
    }
    unsigned draw = (unsigned)sim_below(&w->sim, 100);
    if (draw < 60) {
        for (uint64_t burst = 1 + (sim_chance(&w->sim, 5) ? sim_below(&w->sim, 100) : 0); burst; burst--) {
            do_send(self, me, to);
        }
    } else if (draw < 90) {
        do_call(self, me, to, false);
    } else {
        do_monitor(self, me, to);
    }
}

static void ask_everybody(rr_actor_t *self, peer_t *me) {
    for (unsigned i = 0; i < me->world->peer_count; i++) {
        if (lives(me->world->peers[i].node)) {
            do_call(self, me, &me->world->peers[i], true);
        }
    }
}

static void tick(rr_actor_t *self, peer_t *me) {
    world_t *w = me->world;
    if (me->kept && sim_chance(&w->sim, 30)) {
        rr_message_t *kept = me->kept;
        unsigned number;
        memcpy(&number, rr_message_data(kept), sizeof number);
        me->kept = NULL;
        rr_reply(self, kept, &number, sizeof number);
    }
    if (w->asks && me->number % ACTORS == 0 && me->asked < 1u + w->strict) {
        me->asked = 1u + w->strict;
        ask_everybody(self, me);
    }
    if (!w->calm) {
        act(self, me);
    }
    if (rr_timer_start(self, 5 + sim_below(&w->sim, 40), 0, 0, NULL) != RR_OK) {
        fail(w, "a timer could not be started");
    }
}

static int peer_start(rr_actor_t *self, void *state, const void *arg) {
    *(peer_t **)state = *(peer_t *const *)arg;
    return rr_timer_start(self, 1, 0, 0, NULL);
}

static void peer_receive(rr_actor_t *self, void *state, rr_message_t *msg) {
    peer_t *me = *(peer_t **)state;
    switch (rr_message_kind(msg)) {
    case RR_SEND:
        on_send(me, msg);
        break;
    case RR_CALL:
        on_call(self, me, msg);
        break;
    case RR_DOWN:
        on_down(me, msg);
        break;
    case RR_TIMER:
        tick(self, me);
        break;
    default:
        fail(me->world, "actor %u got something else", me->number);
    }
}

static const rr_behavior_t peer_behavior = {
    .name = "peer", .state_size = sizeof(peer_t *), .start = peer_start, .receive = peer_receive};

/* Hears of a node's dead letters. */
static int letters_start(rr_actor_t *self, void *state, const void *arg) {
    (void)self;
    *(node_t **)state = *(node_t *const *)arg;
    return RR_OK;
}

static void letters_receive(rr_actor_t *self, void *state, rr_message_t *msg) {
    node_t *n = *(node_t **)state;
    world_t *w = n->world;
    rr_dead_letter_t letter;
    (void)self;
    memcpy(&letter, rr_message_data(msg), sizeof letter);
    peer_t *from = peer_by_addr(w, letter.from), *to = peer_by_addr(w, letter.to);
    if (letter.kind != RR_SEND || !from || !to || from->node != n) {
        return;
    }
    pair_t *pair = &w->pairs[from->number][to->number];
    if (letter.type > pair->sent || (pair->fate[letter.type] & DEAD)) {
        fail(w, "message %u of actor %u to actor %u is a dead letter twice", letter.type, from->number, to->number);
    }
    if (pair->fate[letter.type] & REFUSED) {
        return; /* the sender was told, too */
    }
    if (lives(to->node) && !gave_up(n, to->node)) {
        fail(w, "message %u of actor %u to actor %u is a dead letter (%s) although nobody gave up", letter.type, from->number, to->number,
             rr_error_name(letter.reason));
    }
    pair->fate[letter.type] |= DEAD;
    w->letters++;
}

static const rr_behavior_t letters_behavior = {
    .name = "letters", .state_size = sizeof(node_t *), .start = letters_start, .receive = letters_receive};

/* ---- Nodes ---- */

static void on_state(void *context, unsigned id, uint64_t incarnation, rr_link_state_t state) {
    node_t *n = context, *other = node_by_id(n->world, id);
    (void)incarnation;
    if (other && state == RR_LINK_DOWN) {
        n->down[other->number] = true;
    }
}

static const rr_mesh_handler_t mesh_handler = {.state = on_state};

static void hear_of(void *context, uint64_t number) {
    node_t *n = context, *other = n->world->nodes[number];
    rr_node_identity_t who = other->who;
    if (n->world->apart[n->life->place][other->life->place]) {
        who.address[0] = '\0';
    }
    if (rr_mesh_peer(n->life->mesh, &who, sim_chance(&n->world->sim, 30)) != RR_OK) {
        fail(n->world, "a peer could not be told of");
    }
}

static void hear_of_death(void *context, uint64_t number) {
    node_t *n = context, *other = n->world->nodes[number];
    rr_mesh_forget(n->life->mesh, other->who.node, other->who.incarnation);
    n->down[other->number] = true;
}

static void spawn_actors(node_t *n) {
    world_t *w = n->world;
    for (unsigned i = 0; i < ACTORS && w->peer_count < MAX_ACTORS; i++) {
        peer_t *peer = &w->peers[w->peer_count];
        *peer = (peer_t){.world = w, .node = n, .number = w->peer_count};
        rr_spawn_t spec = {.behavior = &peer_behavior, .arg = &peer, .arg_size = sizeof peer};
        if (sim_chance(&w->sim, 30)) {
            spec.executor = n->life->executor;
        }
        if (rr_system_spawn(n->life->system, &spec, &peer->addr) != RR_OK) {
            fail(w, "an actor could not be spawned");
        }
        w->peer_count++;
    }
    rr_spawn_t spec = {.behavior = &letters_behavior, .arg = &n, .arg_size = sizeof n};
    rr_addr_t letters;
    if (rr_system_spawn(n->life->system, &spec, &letters) != RR_OK ||
        rr_system_watch_dead_letters(n->life->system, letters, 0) != RR_OK) {
        fail(w, "an actor could not be spawned");
    }
}

static void start_node(world_t *w, unsigned place) {
    if (w->node_count == sizeof w->nodes / sizeof *w->nodes || w->peer_count + ACTORS > MAX_ACTORS) {
        return;
    }
    node_t *n = calloc(1, sizeof *n);
    rr_mesh_options_t o;
    rr_mesh_options_init(&o);
    n->world = w;
    n->number = w->node_count++;
    w->nodes[n->number] = n;
    o.heartbeat_ms = 100;
    o.suspect_ms = 300;
    o.down_ms = DOWN_MS;
    o.connect_ms = 500;
    o.backoff_min_ms = 5;
    o.backoff_max_ms = 200;
    o.window_bytes = 256u << 10;
    o.handler = &mesh_handler;
    o.context = n;
    o.self = (rr_node_identity_t){.node = n->number + 1, .incarnation = rr_random_next(&w->sim.random) | 1, .relay = place <= w->seed % 2};
    snprintf(o.self.group, sizeof o.self.group, "sim");
    snprintf(o.self.name, sizeof o.self.name, "p%un%u", place, n->number + 1);
    snprintf(o.self.address, sizeof o.self.address, "sim:%u", place);
    n->who = o.self;
    n->life = sim_start(&w->sim, place, &o, w->log ? RR_DEBUG : RR_FATAL, n);
    for (unsigned i = 0; i < n->number; i++) {
        if (lives(w->nodes[i])) {
            sim_at(&w->sim, w->sim.now + sim_below(&w->sim, 300 * SIM_MS), n->life, hear_of, n, i);
            sim_at(&w->sim, w->sim.now + sim_below(&w->sim, 300 * SIM_MS), w->nodes[i]->life, hear_of, w->nodes[i], n->number);
        }
    }
    spawn_actors(n);
}

static void start_again(void *context, uint64_t place) {
    start_node(context, (unsigned)place);
}

/* What a paused actor has in its mailbox was acknowledged, and dies with its node. The others' mailboxes are empty between two
 * events. */
static void forget_mailbox(world_t *w, const peer_t *to) {
    const rr_actor_t *actor = rr__directory_find(&to->node->life->system->directory, to->addr);
    if (!actor || !atomic_load(&actor->muted)) {
        return;
    }
    for (unsigned from = 0; from < w->peer_count; from++) {
        pair_t *pair = &w->pairs[from][to->number];
        for (uint32_t i = pair->last + 1; i <= pair->sent; i++) {
            pair->fate[i] |= MAYBE;
        }
    }
}

static void kill_node(world_t *w, node_t *n) {
    for (unsigned i = 0; i < w->peer_count; i++) {
        if (w->peers[i].node == n) {
            forget_mailbox(w, &w->peers[i]);
        }
    }
    unsigned place = n->life->place;
    bool polite = sim_chance(&w->sim, 30);
    sim_kill(n->life, polite, sim_chance(&w->sim, 70));
    for (unsigned i = 0; i < w->node_count; i++) {
        if (lives(w->nodes[i]) && sim_chance(&w->sim, 60)) { /* the others find out by themselves */
            sim_at(&w->sim, w->sim.now + sim_below(&w->sim, 3000 * SIM_MS), w->nodes[i]->life, hear_of_death, w->nodes[i], n->number);
        }
    }
    sim_at(&w->sim, w->sim.now + 1 + sim_below(&w->sim, 1500 * SIM_MS), NULL, start_again, w, place);
}

/* ---- Faults ---- */

static void normal_paths(sim_t *sim) {
    for (unsigned a = 0; a < SIM_PLACES; a++) {
        for (unsigned b = 0; b < SIM_PLACES; b++) {
            sim->paths[a][b] = (sim_path_t){.delay_ns = SIM_MS / 5, .jitter_ns = SIM_MS / 5, .blocked_until = sim->paths[a][b].blocked_until};
        }
    }
}

static void one_fault(world_t *w) {
    sim_t *sim = &w->sim;
    unsigned draw = (unsigned)sim_below(sim, 100), a = (unsigned)sim_below(sim, sim->places), b = (unsigned)sim_below(sim, sim->places);
    sim_life_t *life = sim->at[a];
    sim_conn_t *conn = sim_any_conn(sim);
    if (draw < 45) {
        if (conn) {
            sim_cut(sim, conn);
        }
    } else if (draw < 60 && a != b) {
        uint64_t until = sim->now + sim_below(sim, 3 * DOWN_MS / 2 * SIM_MS);
        sim->paths[a][b].blocked_until = until;
        sim->paths[b][a].blocked_until = sim_chance(sim, 70) ? until : sim->paths[b][a].blocked_until; /* or one way only */
    } else if (draw < 75 && a != b) {
        sim->paths[a][b].delay_ns = sim_below(sim, 150 * SIM_MS);
        sim->paths[a][b].jitter_ns = sim_below(sim, 50 * SIM_MS);
        sim->paths[a][b].per_byte_ns = sim_chance(sim, 30) ? sim_below(sim, 20000) : 0;
    } else if (draw < 80) {
        normal_paths(sim);
    } else if (draw < 92 && life) {
        sim_pause(life, sim->now + sim_below(sim, 2 * DOWN_MS * SIM_MS));
    } else if (life) {
        kill_node(w, life->user);
    }
}

static void fault(void *context, uint64_t until) {
    world_t *w = context;
    if (w->sim.now < until) {
        one_fault(w);
        sim_at(&w->sim, w->sim.now + (10 + sim_below(&w->sim, 300)) * SIM_MS, NULL, fault, w, until);
    }
}

/* ---- The checks at the end ---- */

static void check_pair(world_t *w, const peer_t *from, const peer_t *to) {
    const pair_t *pair = &w->pairs[from->number][to->number];
    if (!lives(from->node)) {
        return;
    }
    bool whole = lives(to->node) && !gave_up(from->node, to->node);
    for (uint32_t i = 1; i <= pair->sent; i++) {
        if (!(pair->fate[i] & REFUSED) && !(pair->fate[i] & (whole ? DELIVERED : DELIVERED | DEAD | MAYBE))) {
            fail(w, "message %u of actor %u (node %u) to actor %u (node %u) was lost%s", i, from->number, from->node->who.node, to->number,
                 to->node->who.node, whole ? "" : " without a word");
        }
    }
}

static void show_links(const node_t *n) {
    for (const rr__link_t *l = n->life->mesh->links; l; l = l->next) {
        fprintf(stderr, "node %u to %u: %s%s%s%s%s, path %s, direct %s, sessions %u %u (%u), %u asks, bad relay %u\n", n->who.node, l->node,
                rr_link_state_name(rr__link_state(l)), l->wanted ? "" : ", not wanted", l->agreed ? ", agreed" : "",
                l->asking ? ", asking" : "", l->left ? ", left" : "", l->path ? l->path->peer.name : "none",
                l->direct ? l->direct->peer.name : l->dialling ? "dialling" : "none", l->mine, l->theirs, l->theirs_seen, l->asks, l->bad_relay);
    }
}

static void check_end(world_t *w) {
    for (unsigned i = 0; i < w->peer_count; i++) {
        for (unsigned j = 0; j < w->peer_count; j++) {
            const peer_t *from = &w->peers[i], *to = &w->peers[j];
            check_pair(w, from, to);
            if (w->monitors[i][j].active && lives(from->node) && !lives(to->node)) {
                fail(w, "actor %u was never told of the end of actor %u", i, j);
            }
        }
    }
    for (unsigned i = 0; i < w->call_count; i++) {
        if (lives(w->calls[i].from->node) && !w->calls[i].ended) {
            fail(w, "call %u never ended", i);
        }
    }
    for (unsigned i = 0; i < w->call_count; i++) {
        const call_t *c = &w->calls[i];
        if (c->strict && c->status != RR_OK) {
            for (unsigned j = 0; j < w->node_count; j++) {
                if (lives(w->nodes[j])) {
                    show_links(w->nodes[j]);
                }
            }
            fail(w, "behind all faults node %u cannot call node %u: %s", c->from->node->who.node, c->to->node->who.node,
                 rr_error_name(c->status));
        }
    }
    if (w->answers != w->probes || !w->probes) {
        fail(w, "behind all faults %u of %u calls were answered", w->answers, w->probes);
    }
}

/* ---- A world ---- */

static uint64_t run(uint64_t seed, bool log, bool print) {
    static world_t w;
    memset(&w, 0, sizeof w);
    w.seed = seed;
    w.log = log;
    w.calls = calloc(MAX_CALLS, sizeof *w.calls);
    sim_init(&w.sim, seed, 3 + (unsigned)(seed % 3));
    normal_paths(&w.sim);
    for (unsigned a = 1; a < w.sim.places; a++) {
        for (unsigned b = a + 1; b < w.sim.places; b++) {
            w.apart[a][b] = w.apart[b][a] = sim_chance(&w.sim, 35);
        }
    }
    for (unsigned place = 0; place < w.sim.places; place++) {
        start_node(&w, place);
    }
    uint64_t until = w.sim.now + FAULTS_NS;
    sim_at(&w.sim, w.sim.now + 200 * SIM_MS, NULL, fault, &w, until);
    sim_run(&w.sim, until);
    normal_paths(&w.sim);
    sim_hurry(&w.sim);
    w.calm = true;
    sim_run(&w.sim, until + CALM_NS);
    w.asks = true; /* whoever has not talked to a node since that gave it up hears so now */
    sim_run(&w.sim, until + CALM_NS + 3000 * SIM_MS);
    w.strict = true;
    sim_run(&w.sim, until + CALM_NS + 6000 * SIM_MS);
    check_end(&w);
    uint64_t steps = w.sim.steps;
    sim_destroy(&w.sim);
    if (print) {
        printf("seed %llu: %u nodes, %llu messages, %llu dead letters, %llu calls ended, %llu ends told, %llu steps, trace %016llx\n",
               (unsigned long long)seed, w.node_count, (unsigned long long)w.delivered, (unsigned long long)w.letters,
               (unsigned long long)w.ended, (unsigned long long)w.fired, (unsigned long long)steps, (unsigned long long)w.sim.trace);
    }
    for (unsigned i = 0; i < w.peer_count; i++) {
        for (unsigned j = 0; j < w.peer_count; j++) {
            free(w.pairs[i][j].fate);
        }
    }
    for (unsigned i = 0; i < w.node_count; i++) {
        free(w.nodes[i]);
    }
    free(w.calls);
    return w.sim.trace;
}

int main(int argc, char **argv) { return seeds_main(argc, argv, run, "clusters"); }
