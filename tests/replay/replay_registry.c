/* replay_registry.c: thousands of groups with their registry, each in one process under virtual time from its seed: master,
 * agents, leases, fences, links and calls by name are the real ones (actors/cluster.h), the network is sim.h's. Nodes are
 * partitioned, paused and killed, the master restarts with or without its state file, several nodes claim a name at once. The
 * checker:
 *   - no turn of an owner comes behind one of a later owner of that name; epochs grow with every grant
 *   - no actor takes in a message of a lower epoch of a name than it has heard
 *   - every call by name ends once, in time; OK = executed once; NOROUTE, STALE, OVERLOAD = not executed, ever; else at most once
 *   - when the faults are over all names can be had, all nodes agree who has them, and everybody reaches everybody by name
 * A failure names its seed; --seed N plays it again (--log: with the nodes' logs).
 *     replay_registry [--seeds N] [--first N] [--seed N] [--log]
 *     replay_registry --nodes N     N nodes at peace: what a change costs, and that only changes are told */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "actors/cluster_impl.h"
#include "runtime/metrics.h"
#include "tests/replay/seeds.h"
#include "tests/replay/sim.h"

#define LEASE_MS 1500u
#define MARGIN_MS 300u
#define DOWN_MS 1000u
#define NAMES 4u
#define MAX_LIVES 160u
#define MAX_JOBS 1024u
#define MAX_CALLS 65536u
#define FAULTS_NS (15000 * SIM_MS)
#define CALM_NS ((2 * (LEASE_MS + MARGIN_MS) + 6000) * SIM_MS)
#define AGREE_MS 3000u /* from a claim at peace until all know */

typedef struct world world_t;

typedef struct node { /* a life, as the checker sees it */
    world_t *world;
    sim_life_t *life;
    rr_cluster_t *cluster;
    rr_addr_t ear;
    unsigned probed;
} node_t;

typedef struct job { /* who has, had, or claims a name */
    node_t *node;
    unsigned name;
} job_t;

typedef struct speaker { /* state of jobs and ears */
    node_t *node;
    job_t *job;         /* NULL: an ear, which has no name */
    rr_message_t *kept; /* a call that is answered later */
    uint64_t heard[NAMES]; /* highest epoch of each name */
} speaker_t;

typedef struct call {
    node_t *from;
    uint64_t deadline, began;
    unsigned executed;
    int status;
    bool ended, surely_not, probe;
} call_t;

struct world {
    sim_t sim;
    uint64_t seed;
    bool log, silent;
    unsigned probing; /* rounds in which everybody calls every name; the last must succeed */
    node_t *nodes[MAX_LIVES], *at[SIM_PLACES];
    unsigned node_count, job_count, call_count;
    uint64_t due[SIM_PLACES]; /* when a process is started there */
    job_t jobs[MAX_JOBS];
    call_t *calls;
    uint64_t highest[NAMES]; /* epoch that has worked under each name */
    uint32_t term;           /* the master's file; 0 = lost, or none yet */
    unsigned first_id;
    uint64_t turns, grants, ended, answers, masters, lost;
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

static const char *name_text(unsigned name) {
    static char text[32];
    snprintf(text, sizeof text, "scene@%u", name);
    return text;
}

/* ---- What actors say ---- */

typedef struct body {
    uint64_t epoch;
    uint32_t name, call; /* of who says it; NAMES: nobody's */
} body_t;

static body_t say(rr_actor_t *self, const speaker_t *me, uint32_t call) {
    return (body_t){me->job ? rr_epoch(self) : 0, me->job ? me->job->name : NAMES, call};
}

static void hear(speaker_t *me, const body_t *body, unsigned from) {
    uint64_t *heard = &me->heard[body->name];
    if (body->name == NAMES) {
        return;
    }
    if (body->epoch < *heard) {
        fail(me->node->world, "node %u took epoch %llx of name %u behind %llx (from node %u)", me->node->life->node,
             (unsigned long long)body->epoch, body->name, (unsigned long long)*heard, from);
    }
    if (me->node->world->log && *heard != body->epoch) {
        fprintf(stderr, "%.3f node %u hears %s of name %u with epoch %llx from node %u\n", (double)me->node->world->sim.now / 1e9,
                me->node->life->node, me->job ? "as an owner" : "", body->name, (unsigned long long)body->epoch, from);
    }
    *heard = body->epoch;
}

static void on_answer(rr_actor_t *self, void *state, int status, rr_message_t *msg, void *context) {
    speaker_t *me = state;
    world_t *w = me->node->world;
    call_t *call = context;
    unsigned number = (unsigned)(call - w->calls);
    (void)self;
    if (call->ended) {
        fail(w, "call %u ended twice", number);
    }
    call->ended = true;
    call->status = status;
    w->ended++;
    w->answers += status == RR_OK && call->probe;
    if (!me->job && me->node->life->paused_last < call->began && w->sim.now > call->deadline + 50 * SIM_MS) {
        fail(w, "call %u ended %.3f s behind its deadline", number, (double)(w->sim.now - call->deadline) / 1e9);
    }
    call->surely_not = status == RR_NOROUTE || status == RR_STALE || status == RR_OVERLOAD;
    if (status == RR_OK) {
        body_t answer;
        memcpy(&answer, rr_message_data(msg), sizeof answer);
        if (answer.call != number || call->executed != 1) {
            fail(w, "call %u was answered without being executed, or not with its answer", number);
        }
        hear(me, &answer, rr_addr_node(rr_message_from(msg)));
    } else if (call->surely_not && call->executed) {
        fail(w, "call %u ended %s, but it was executed", number, rr_error_name(status));
    } else if (!call->surely_not && status != RR_DIED && status != RR_LINKDOWN && status != RR_TIMEOUT) {
        fail(w, "call %u ended %s", number, rr_error_name(status));
    }
}

static void call_name(rr_actor_t *self, speaker_t *me, unsigned name, bool probe) {
    world_t *w = me->node->world;
    rr_addr_t to = rr_lookup(rr_system_of(self), name_text(name));
    if (w->call_count == MAX_CALLS || (to == RR_NOBODY && !probe)) {
        return;
    }
    unsigned number = w->call_count++, timeout = w->probing ? 2000 : 100 + (unsigned)sim_below(&w->sim, 1500);
    call_t *call = &w->calls[number];
    *call = (call_t){.from = me->node, .began = w->sim.now, .deadline = w->sim.now + timeout * SIM_MS, .probe = probe};
    body_t body = say(self, me, number);
    if (rr_call(self, to, 0, &body, sizeof body, timeout, on_answer, call, NULL) != RR_OK) {
        fail(w, "a call could not be made");
    }
}

static void answer(rr_actor_t *self, speaker_t *me, rr_message_t *msg) {
    body_t body;
    memcpy(&body, rr_message_data(msg), sizeof body);
    body = say(self, me, body.call);
    rr_reply(self, msg, &body, sizeof body);
}

static void on_call(rr_actor_t *self, speaker_t *me, rr_message_t *msg) {
    world_t *w = me->node->world;
    body_t body;
    memcpy(&body, rr_message_data(msg), sizeof body);
    hear(me, &body, rr_addr_node(rr_message_from(msg)));
    call_t *call = &w->calls[body.call];
    if (++call->executed > 1) {
        fail(w, "call %u was executed twice", body.call);
    }
    if (call->surely_not) {
        fail(w, "call %u is executed, but its caller was told that it surely was not", body.call);
    }
    if (!me->kept && !call->probe && sim_chance(&w->sim, 10)) {
        rr_message_take(self, msg);
        me->kept = msg;
    } else {
        answer(self, me, msg);
    }
}

/* ---- Those who speak ---- */

static void tell_an_ear(rr_actor_t *self, const speaker_t *me) {
    world_t *w = me->node->world;
    unsigned recent = w->node_count < 12 ? w->node_count : 12;
    const node_t *to = w->nodes[w->node_count - 1 - sim_below(&w->sim, recent)];
    body_t body = say(self, me, 0);
    int rc = rr_send(self, to->ear, 0, &body, sizeof body);
    if (rc != RR_OK && rc != RR_NOROUTE && rc != RR_EFULL) {
        fail(w, "a send failed: %s", rr_error_name(rc));
    }
}

/* In every turn. */
static void check_turn(rr_actor_t *self, const speaker_t *me) {
    world_t *w = me->node->world;
    uint64_t *highest = &w->highest[me->job->name], epoch = rr_epoch(self);
    w->turns++;
    if (epoch < *highest) {
        fail(w, "name %u: an owner with epoch %llx has a turn behind one with %llx", me->job->name, (unsigned long long)epoch,
             (unsigned long long)*highest);
    }
    w->grants += epoch > *highest;
    *highest = epoch;
}

static void tick(rr_actor_t *self, speaker_t *me) {
    world_t *w = me->node->world;
    if (me->kept && sim_chance(&w->sim, 30)) {
        rr_message_t *kept = me->kept;
        me->kept = NULL;
        answer(self, me, kept);
    }
    if (!me->job && me->node->probed < w->probing) {
        me->node->probed++;
        for (unsigned name = 0; name < NAMES; name++) {
            call_name(self, me, name, w->probing == 2);
        }
    } else if (!w->probing && sim_chance(&w->sim, 60)) {
        call_name(self, me, (unsigned)sim_below(&w->sim, NAMES), false);
    } else if (!w->probing && me->job) {
        tell_an_ear(self, me);
    }
    if (rr_timer_start(self, 10 + sim_below(&w->sim, 60), 0, 0, NULL) != RR_OK) {
        fail(w, "a timer could not be started");
    }
}

static int speaker_start(rr_actor_t *self, void *state, const void *arg) {
    speaker_t *me = state;
    *me = *(const speaker_t *)arg;
    if (me->job) {
        uint64_t highest = me->node->world->highest[me->job->name];
        if (rr_epoch(self) <= highest) {
            fail(me->node->world, "name %u was granted with epoch %llx behind %llx", me->job->name, (unsigned long long)rr_epoch(self),
                 (unsigned long long)highest);
        }
        check_turn(self, me);
    }
    return me->node->world->silent ? RR_OK : rr_timer_start(self, 1, 0, 0, NULL);
}

static void speaker_receive(rr_actor_t *self, void *state, rr_message_t *msg) {
    speaker_t *me = state;
    body_t body;
    if (me->job) {
        check_turn(self, me);
    }
    switch (rr_message_kind(msg)) {
    case RR_SEND:
        memcpy(&body, rr_message_data(msg), sizeof body);
        hear(me, &body, rr_addr_node(rr_message_from(msg)));
        break;
    case RR_CALL:
        on_call(self, me, msg);
        break;
    case RR_TIMER:
        tick(self, me);
        break;
    default:
        fail(me->node->world, "something else arrived");
    }
}

static const rr_behavior_t speaker_behavior = {.name = "speaker",
                                               .state_size = sizeof(speaker_t),
                                               .start = speaker_start,
                                               .receive = speaker_receive};

/* ---- Nodes ---- */

static void end_mesh(sim_life_t *life) {
    node_t *n = life->user;
    rr_cluster_destroy(n->cluster);
    n->cluster = NULL;
}

static void kill_node(world_t *w, node_t *n, uint64_t again_ms) {
    unsigned place = n->life->place;
    sim_kill(n->life, false, sim_chance(&w->sim, 70));
    w->at[place] = NULL;
    w->due[place] = w->sim.now + again_ms * SIM_MS;
}

static void kill_lost(void *context, uint64_t number) {
    node_t *n = context;
    (void)number;
    if (!n->life->died_ns) {
        kill_node(n->world, n, 1 + sim_below(&n->world->sim, 500));
    }
}

/* As its process would: it ends and is started anew. Not from inside its turn. */
static void on_lost(void *context, const char *why) {
    node_t *n = context;
    (void)why;
    n->world->lost++;
    sim_at(&n->world->sim, n->world->sim.now, NULL, kill_lost, n, 0);
}

static void mesh_options(rr_mesh_options_t *o) {
    rr_mesh_options_init(o);
    o->heartbeat_ms = 100;
    o->suspect_ms = 300;
    o->down_ms = DOWN_MS;
    o->connect_ms = 500;
    o->backoff_min_ms = 5;
    o->backoff_max_ms = 200;
    o->window_bytes = 256u << 10;
}

static void who_is_at(world_t *w, unsigned place, rr_node_identity_t *who) {
    *who = (rr_node_identity_t){.incarnation = rr_random_next(&w->sim.random) | 1, .relay = place == 0};
    snprintf(who->group, sizeof who->group, "sim");
    snprintf(who->name, sizeof who->name, "place-%u", place);
    snprintf(who->address, sizeof who->address, "sim:%u", place);
}

/* Terms and numbers as state_file.c has them, by virtual time. */
static void next_term(world_t *w, rr_cluster_ticket_t *ticket) {
    uint32_t clock = (uint32_t)(w->sim.now / (1000 * SIM_MS)) + 1000;
    bool lost = w->term == 0;
    w->term = !lost && clock <= w->term ? w->term + 1 : clock;
    w->first_id = lost ? 1 + (unsigned)sim_below(&w->sim, 65534 - RR_STATE_IDS) : (w->first_id - 1 + RR_STATE_IDS) % 65534 + 1;
    ticket->state = (rr_state_file_t){.lock_fd = -1, .term = w->term, .first_id = w->first_id, .grace = w->masters > 0};
    ticket->self.node = w->first_id;
    ticket->master = ticket->self;
    w->masters++;
}

/* False: not now. */
static bool admitted(world_t *w, unsigned place, rr_cluster_ticket_t *ticket) {
    node_t *master = w->at[0];
    const sim_path_t *there = &w->sim.paths[place][0], *back = &w->sim.paths[0][place];
    char why[512];
    if (place == 0) {
        next_term(w, ticket);
        return true;
    }
    if (!master || master->life->paused_until > w->sim.now || there->blocked_until > w->sim.now || back->blocked_until > w->sim.now) {
        return false;
    }
    sim_enter(&w->sim, master->life);
    int rc = rr__cluster_admit(master->cluster, &ticket->self, &ticket->master, why, sizeof why);
    sim_enter(&w->sim, NULL);
    if (rc != RR_OK && w->log) {
        fprintf(stderr, "%.3f place %u is not admitted: %s\n", (double)w->sim.now / 1e9, place, why);
    }
    return rc == RR_OK;
}

static void start_cluster(world_t *w, node_t *n, rr_cluster_ticket_t *ticket) {
    rr_cluster_options_t options;
    rr_mesh_options_t mesh;
    char why[512];
    rr_cluster_options_init(&options);
    mesh_options(&mesh);
    options.group = "sim";
    options.listen = ticket->self.address;
    options.master = n->life->place ? "sim:0" : NULL;
    options.lease_ms = LEASE_MS;
    options.margin_ms = MARGIN_MS;
    options.mesh = &mesh;
    options.lost = on_lost;
    options.context = n;
    rr__cluster_base_t base = {.executor = n->life->executor, .post = sim_post, .mesh = sim_mesh, .from = n->life};
    n->life->end = end_mesh;
    if (rr__cluster_create(n->life->system, &base, &options, ticket, &n->cluster, why, sizeof why) != RR_OK) {
        fail(w, "a node could not be started: %s", why);
    }
}

static void start_node(world_t *w, unsigned place) {
    rr_cluster_ticket_t ticket = {.state.lock_fd = -1};
    who_is_at(w, place, &ticket.self);
    if (w->node_count == MAX_LIVES || !admitted(w, place, &ticket)) {
        return;
    }
    node_t *n = calloc(1, sizeof *n);
    n->world = w;
    w->nodes[w->node_count++] = n;
    w->at[place] = n;
    n->life = sim_boot(&w->sim, place, ticket.self.node, ticket.self.incarnation, w->log ? RR_DEBUG : RR_FATAL, n);
    if (w->log) {
        fprintf(stderr, "%.3f place %u is node %u, incarnation %llx\n", (double)w->sim.now / 1e9, place, ticket.self.node,
                (unsigned long long)ticket.self.incarnation);
    }
    start_cluster(w, n, &ticket);
    speaker_t ear = {.node = n};
    rr_spawn_t spec = {.behavior = &speaker_behavior, .arg = &ear, .arg_size = sizeof ear};
    if (rr_system_spawn(n->life->system, &spec, &n->ear) != RR_OK) {
        fail(w, "an ear could not be spawned");
    }
}

/* Starts what is due, again and again. */
static void start_all(void *context, uint64_t number) {
    world_t *w = context;
    (void)number;
    for (unsigned place = 0; place < w->sim.places; place++) {
        if (!w->at[place] && w->due[place] <= w->sim.now) {
            start_node(w, place);
        }
    }
    sim_at(&w->sim, w->sim.now + (20 + sim_below(&w->sim, 60)) * SIM_MS, NULL, start_all, w, 0);
}

static void claim(void *context, uint64_t name) {
    node_t *n = context;
    world_t *w = n->world;
    if (w->job_count == MAX_JOBS) {
        return;
    }
    job_t *job = &w->jobs[w->job_count];
    speaker_t state = {.node = n, .job = job};
    rr_addr_t addr;
    *job = (job_t){.node = n, .name = (unsigned)name};
    rr_spawn_t spec = {
        .behavior = &speaker_behavior, .arg = &state, .arg_size = sizeof state, .name = name_text((unsigned)name), .leased = true};
    int rc = rr_system_spawn(n->life->system, &spec, &addr);
    if (rc == RR_OK) {
        w->job_count++;
    } else if (rc != RR_EEXIST) { /* there is one here */
        fail(w, "a job could not be spawned: %s", rr_error_name(rc));
    }
}

static void release(void *context, uint64_t name) {
    node_t *n = context;
    rr_addr_t addr = rr_lookup(n->life->system, name_text((unsigned)name));
    if (addr != RR_NOBODY && rr_addr_node(addr) == n->life->node) {
        rr_kill(n->life->system, addr, RR_OK);
    }
}

/* On that node's thread. */
static void on_node(world_t *w, node_t *n, uint64_t after_ms, void (*fn)(void *context, uint64_t number), uint64_t number) {
    if (n) {
        sim_at(&w->sim, w->sim.now + after_ms * SIM_MS, n->life, fn, n, number);
    }
}

static node_t *any_node(world_t *w) {
    return w->at[sim_below(&w->sim, w->sim.places)];
}

/* ---- Faults ---- */

static void normal_paths(sim_t *sim) {
    for (unsigned a = 0; a < sim->places; a++) {
        for (unsigned b = 0; b < sim->places; b++) {
            sim->paths[a][b] =
                (sim_path_t){.delay_ns = SIM_MS / 5, .jitter_ns = SIM_MS / 5, .blocked_until = sim->paths[a][b].blocked_until};
        }
    }
}

/* Between two places, or one and all others. */
static void part(world_t *w, unsigned a, unsigned b) {
    sim_t *sim = &w->sim;
    bool all = sim_chance(sim, 40), both = sim_chance(sim, 70);
    uint64_t until = sim->now + sim_below(sim, 2 * (LEASE_MS + MARGIN_MS) * SIM_MS);
    for (unsigned other = all ? 0 : b; other < (all ? sim->places : b + 1); other++) {
        sim->paths[a][other].blocked_until = until;
        sim->paths[other][a].blocked_until = both ? until : sim->paths[other][a].blocked_until;
    }
}

static void restart_master(world_t *w) {
    if (w->at[0]) {
        bool loses = sim_chance(&w->sim, 25);
        uint64_t away = sim_chance(&w->sim, 50) ? sim_below(&w->sim, 300) : sim_below(&w->sim, 2 * LEASE_MS);
        w->term = loses ? 0 : w->term;
        kill_node(w, w->at[0], loses ? away + 1100 : away); /* a lost file's successor follows the clock, which counts seconds */
    }
}

static void one_fault(world_t *w) {
    sim_t *sim = &w->sim;
    unsigned draw = (unsigned)sim_below(sim, 100), a = (unsigned)sim_below(sim, sim->places), b = (unsigned)sim_below(sim, sim->places);
    sim_conn_t *conn = sim_any_conn(sim);
    if (draw < 15) {
        if (conn) {
            sim_cut(sim, conn);
        }
    } else if (draw < 30) {
        part(w, a, b);
    } else if (draw < 40) {
        sim->paths[a][b].delay_ns = sim_below(sim, 150 * SIM_MS);
        sim->paths[a][b].jitter_ns = sim_below(sim, 50 * SIM_MS);
    } else if (draw < 45) {
        normal_paths(sim);
    } else if (draw < 57 && w->at[a]) {
        sim_pause(w->at[a]->life, sim->now + sim_below(sim, 2 * LEASE_MS * SIM_MS));
    } else if (draw < 63 && a && w->at[a]) {
        kill_node(w, w->at[a], sim_below(sim, 1500));
    } else if (draw < 67) {
        restart_master(w);
    } else if (draw < 75) {
        on_node(w, any_node(w), 0, release, sim_below(sim, NAMES));
    } else { /* several claim a name at once */
        uint64_t name = sim_below(sim, NAMES);
        for (uint64_t claims = 1 + sim_below(sim, 4); claims; claims--) {
            on_node(w, any_node(w), sim_below(sim, 3), claim, name);
        }
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

static void show_links(const node_t *n) {
    for (const rr__link_t *l = n->life->mesh->links; l; l = l->next) {
        fprintf(stderr, "node %u to %u: %s%s%s%s%s, path %s, direct %s%s\n", n->life->node, l->node, rr_link_state_name(rr__link_state(l)),
                l->wanted ? "" : ", not wanted", l->agreed ? ", agreed" : "", l->asking ? ", asking" : "", l->left ? ", left" : "",
                l->path ? l->path->peer.name : "none", l->direct ? l->direct->peer.name : l->dialling ? "dialling" : "none",
                rr_route(n->life->system, l->node) == RR_NOBODY ? ", no route" : "");
    }
}

static void check_agreement(world_t *w) {
    for (unsigned name = 0; name < NAMES; name++) {
        rr_addr_t owner = rr_lookup(w->at[0]->life->system, name_text(name));
        if (owner == RR_NOBODY) {
            fail(w, "behind all faults nobody has name %u", name);
        }
        for (unsigned place = 1; place < w->sim.places; place++) {
            rr_addr_t found = w->at[place] ? rr_lookup(w->at[place]->life->system, name_text(name)) : owner;
            if (found != owner) {
                show_links(w->at[place]);
                show_links(w->at[0]);
                fail(w, "behind all faults name %u is %llx's for place %u, and %llx's for the master", name, (unsigned long long)found,
                     place, (unsigned long long)owner);
            }
        }
    }
}

static void check_end(world_t *w) {
    unsigned probes = 0;
    for (unsigned place = 0; place < w->sim.places; place++) {
        if (!w->at[place]) {
            fail(w, "behind all faults place %u could not join", place);
        }
    }
    check_agreement(w);
    for (unsigned i = 0; i < w->call_count; i++) {
        const call_t *call = &w->calls[i];
        probes += call->probe;
        if (!call->ended && !call->from->life->died_ns && w->sim.now > call->deadline + 100 * SIM_MS && call->probe) {
            fail(w, "call %u never ended", i);
        }
        if (call->probe && call->status != RR_OK) {
            for (unsigned place = 0; place < w->sim.places; place++) {
                show_links(w->at[place]);
            }
            fail(w, "behind all faults call %u of node %u by name ended %s", i, call->from->life->node, rr_error_name(call->status));
        }
    }
    if (probes != w->sim.places * NAMES || w->answers != probes) {
        fail(w, "behind all faults %llu of %u calls by name were answered", (unsigned long long)w->answers, probes);
    }
}

/* ---- A world at peace ---- */

static void begin(world_t *w, uint64_t seed, unsigned places, bool log);
static void end(world_t *w);

#define FILLERS 10u       /* names of each node, so that the table is large */
#define KNOWN_MS 100u     /* in which everybody must know of a change */
#define CHANGE_BYTES 200u /* what a change may cost for each node, its acknowledgement and the frames around it included */

typedef struct cost {
    uint64_t bytes, writes, tables, known_ms;
} cost_t;

static uint64_t metric(const node_t *n, const char *name) {
    rr_buffer_t *text;
    char line[100];
    if (rr_metrics_text(n->life->system, &text) != RR_OK) {
        fail(n->world, "no metrics");
    }
    int size = snprintf(line, sizeof line, "\n%s ", name);
    const char *at = memmem(rr_buffer_data(text), rr_buffer_size(text), line, (size_t)size);
    uint64_t value = at ? strtoull(at + size, NULL, 10) : UINT64_MAX;
    rr_buffer_unref(text);
    return value;
}

static bool all_know(const world_t *w, unsigned name, bool owned) {
    rr_addr_t owner = rr_lookup(w->at[0]->life->system, name_text(name));
    bool same = (owner != RR_NOBODY) == owned;
    for (unsigned place = 1; place < w->sim.places && same; place++) {
        same = rr_lookup(w->at[place]->life->system, name_text(name)) == owner;
    }
    return same;
}

/* What a second costs in which `change` is made at one node; without: the second itself. */
static cost_t measure(world_t *w, void (*change)(void *context, uint64_t number), bool owned) {
    cost_t cost = {w->sim.bytes, w->sim.writes, metric(w->at[0], "rr_group_tables_total"), 0};
    uint64_t begun = w->sim.now;
    if (change) {
        on_node(w, w->at[w->sim.places / 2], 0, change, 0);
        sim_run(&w->sim, w->sim.now + SIM_MS);
        while (!all_know(w, 0, owned)) {
            sim_run(&w->sim, w->sim.now + SIM_MS);
            if (w->sim.now > begun + KNOWN_MS * SIM_MS) {
                fail(w, "after %u ms some do not know of a change", KNOWN_MS);
            }
        }
        cost.known_ms = (w->sim.now - begun) / SIM_MS;
    }
    sim_run(&w->sim, begun + 1000 * SIM_MS);
    return (cost_t){w->sim.bytes - cost.bytes, w->sim.writes - cost.writes, metric(w->at[0], "rr_group_tables_total") - cost.tables,
                    cost.known_ms};
}

static void fill(void *context, uint64_t number) {
    node_t *n = context;
    speaker_t filler = {.node = n};
    char name[32];
    rr_addr_t addr;
    snprintf(name, sizeof name, "filler@%u", (unsigned)number);
    rr_spawn_t spec = {.behavior = &speaker_behavior, .arg = &filler, .arg_size = sizeof filler, .name = name, .leased = true};
    if (rr_system_spawn(n->life->system, &spec, &addr) != RR_OK) {
        fail(n->world, "a filler could not be spawned");
    }
}

static void check_change(world_t *w, const char *what, const cost_t *idle, const cost_t *cost) {
    uint64_t bytes = cost->bytes > idle->bytes ? cost->bytes - idle->bytes : 0;
    uint64_t writes = cost->writes > idle->writes ? cost->writes - idle->writes : 0;
    printf("%u nodes, %u names, %s: known to all after %llu ms, %llu bytes and %llu writes above the %llu and %llu of a second at rest\n",
           w->sim.places, (unsigned)metric(w->at[0], "rr_group_names"), what, (unsigned long long)cost->known_ms,
           (unsigned long long)bytes, (unsigned long long)writes, (unsigned long long)idle->bytes, (unsigned long long)idle->writes);
    if (cost->tables || bytes > (uint64_t)CHANGE_BYTES * w->sim.places) {
        fail(w, "%s: %llu whole tables were sent, and %llu bytes", what, (unsigned long long)cost->tables, (unsigned long long)bytes);
    }
}

static void measure_all(world_t *w) {
    cost_t idle = measure(w, NULL, false), grant = measure(w, claim, true), freed = measure(w, release, false);
    check_change(w, "a name granted", &idle, &grant);
    check_change(w, "a name released", &idle, &freed);
}

static int peace(unsigned nodes) {
    static world_t w;
    begin(&w, 1, nodes, false);
    w.silent = true;
    sim_run(&w.sim, w.sim.now + 3000 * SIM_MS);
    for (unsigned place = 0; place < nodes; place++) {
        if (!w.at[place] || metric(w.at[place], "rr_cluster_nodes") != nodes) {
            fail(&w, "place %u does not know everybody", place);
        }
    }
    measure_all(&w);
    for (unsigned i = 0; i < nodes * FILLERS; i++) {
        on_node(&w, w.at[i / FILLERS], i % 50, fill, i);
    }
    sim_run(&w.sim, w.sim.now + 3000 * SIM_MS);
    measure_all(&w);
    end(&w);
    return EXIT_SUCCESS;
}

/* ---- A world ---- */

static void begin(world_t *w, uint64_t seed, unsigned places, bool log) {
    memset(w, 0, sizeof *w);
    w->seed = seed;
    w->log = log;
    w->calls = calloc(MAX_CALLS, sizeof *w->calls);
    sim_init(&w->sim, seed, places);
    normal_paths(&w->sim);
    start_all(w, 0);
}

static void end(world_t *w) {
    for (unsigned place = 0; place < w->sim.places; place++) {
        if (w->at[place]) {
            sim_kill(w->at[place]->life, false, false);
        }
    }
    sim_destroy(&w->sim);
    for (unsigned i = 0; i < w->node_count; i++) {
        free(w->nodes[i]);
    }
    free(w->calls);
}

static uint64_t run(uint64_t seed, bool log, bool print) {
    static world_t w;
    begin(&w, seed, 3 + (unsigned)(seed % 4), log);
    uint64_t until = w.sim.now + FAULTS_NS;
    sim_at(&w.sim, w.sim.now + 200 * SIM_MS, NULL, fault, &w, until);
    sim_run(&w.sim, until);
    normal_paths(&w.sim);
    sim_hurry(&w.sim);
    sim_run(&w.sim, until + CALM_NS);
    for (unsigned name = 0; name < NAMES; name++) {
        on_node(&w, any_node(&w), 0, claim, name); /* unless somebody has it */
    }
    sim_run(&w.sim, until + CALM_NS + AGREE_MS * SIM_MS);
    w.probing = 1; /* whoever has not talked to a node since that gave it up hears so now */
    sim_run(&w.sim, until + CALM_NS + 2 * AGREE_MS * SIM_MS);
    w.probing = 2;
    sim_run(&w.sim, until + CALM_NS + 3 * AGREE_MS * SIM_MS);
    check_end(&w);
    uint64_t steps = w.sim.steps;
    end(&w);
    if (print) {
        printf("seed %llu: %u nodes, %llu masters, %llu given up, %llu epochs, %llu turns of owners, %llu calls ended, %llu steps, "
               "trace %016llx\n",
               (unsigned long long)seed, w.node_count, (unsigned long long)w.masters, (unsigned long long)w.lost,
               (unsigned long long)w.grants, (unsigned long long)w.turns, (unsigned long long)w.ended, (unsigned long long)steps,
               (unsigned long long)w.sim.trace);
    }
    return w.sim.trace;
}

int main(int argc, char **argv) {
    unsigned long nodes = argc == 3 && strcmp(argv[1], "--nodes") == 0 ? strtoul(argv[2], NULL, 10) : 0;
    if (nodes)
        return nodes >= 2 && nodes <= SIM_PLACES ? peace((unsigned)nodes) : EXIT_FAILURE;
    return seeds_main(argc, argv, run, "groups");
}
