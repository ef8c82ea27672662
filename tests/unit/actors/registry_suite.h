/* registry_suite.h: what every driver of the registry must pass (actors/registry.h), under a virtual clock.
 *
 * A driver's test makes `keeper` (starts and ends whatever keeps the names; nothing of an earlier one's memory may be left but
 * what its state file says) and runs the cases. Each node is a system of its own with an agent that uses the driver; between
 * nodes are proxies that hand over at once, or nothing at all when cut. A leased actor works every 100 ms and checks, in every
 * turn, that nobody with a higher epoch has worked under its name before it. */
#ifndef RR_TESTS_REGISTRY_SUITE_H
#define RR_TESTS_REGISTRY_SUITE_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "actors/cluster.h"
#include "actors/member.h"
#include "runtime/clock.h"
#include "runtime/random.h"
#include "runtime/remote.h"
#include "runtime/replay.h"
#include "runtime/system.h"
#include "tests/unit/check_main.h"

#define LEASE_MS 15000u
#define MARGIN_MS 2000u
#define STEP_MS 5u
#define NODES 400u
#define NAMES 16u
#define MUST(condition) ck_assert_msg(condition, "%s at %llu ms (seed %u)", #condition, (unsigned long long)world.now_ms, world.seed)

typedef struct node {
    bool there, stopped, keeper;
    rr_system_t *system;
    rr_member_t *member;
    rr_node_identity_t who;
    int lost, drains;
} node_t;

/* What a leased actor has done; by the test. */
typedef struct job {
    unsigned node, name;
    int started, ended, reason;
    uint64_t epoch, turns, first_ms, last_ms;
} job_t;

typedef struct suite_driver {
    const rr_registry_ops_t *ops;
    /* Starts the keeper on nodes[id] (whose system exists) and fills in who->service; later starts of it are restarts. */
    void (*keeper_start)(node_t *node, bool grace);
    void (*keeper_stop)(node_t *node); /* after its system's end */
} suite_driver_t;
extern const suite_driver_t suite_driver;

static struct {
    uint64_t now_ms; /* since the beginning */
    node_t nodes[NODES];
    bool cut[NODES][NODES];
    unsigned keeper, next_id, seed;
    uint64_t highest[NAMES]; /* epoch that has worked under each name */
} world;

/* ---- Between the nodes ---- */

typedef struct proxy {
    unsigned from, to;
    rr_announced_t announced;
} proxy_t;

static int proxy_start(rr_actor_t *self, void *state, const void *arg) {
    *(proxy_t *)state = *(const proxy_t *)arg;
    return RR_OK;
}

static void proxy_receive(rr_actor_t *self, void *state, rr_message_t *msg) {
    proxy_t *my = state;
    rr_envelope_t env;
    node_t *there = &world.nodes[my->to];
    if (!rr_envelope_of(self, msg, &env) || world.cut[my->from][my->to])
        return;
    if (!there->there) {
        rr_envelope_refuse(world.nodes[my->from].system, &env, RR_NOROUTE);
        return;
    }
    if (rr_route(there->system, my->from) == RR_NOBODY) { /* it forgot this node: the mesh refuses its connection */
        if (my->to == world.keeper)
            rr_member_given_up(world.nodes[my->from].member, "it was given up");
        return;
    }
    rr_announcement_t first;
    if (rr_announce(world.nodes[my->from].system, &my->announced, &env, &first))
        MUST(rr_remote_deliver(there->system, &first.env, NULL) == RR_OK);
    int rc = rr_remote_deliver(there->system, &env, NULL);
    if (rc != RR_OK)
        rr_envelope_refuse(there->system, &env, rc);
}
static const rr_behavior_t proxy_behavior = {
    .name = "proxy", .state_size = sizeof(proxy_t), .start = proxy_start, .receive = proxy_receive, .proxy = true};

static void add_route(unsigned from, unsigned to) {
    proxy_t arg = {.from = from, .to = to};
    rr_addr_t addr;
    rr_spawn_t spec = {.behavior = &proxy_behavior, .arg = &arg, .arg_size = sizeof arg};
    if (from == to || rr_route(world.nodes[from].system, to) != RR_NOBODY)
        return;
    MUST(rr_system_spawn(world.nodes[from].system, &spec, &addr) == RR_OK);
    MUST(rr_route_set(world.nodes[from].system, to, addr) == RR_OK);
}

static int links_peer(void *context, const rr_node_identity_t *node, bool eager) {
    unsigned from = (unsigned)((node_t *)context - world.nodes);
    add_route(from, node->node);
    return RR_OK;
}

static void links_forget(void *context, unsigned node, uint64_t incarnation) {
    node_t *here = context;
    rr_addr_t proxy = rr_route(here->system, node);
    if (proxy == RR_NOBODY)
        return;
    MUST(rr_route_set(here->system, node, RR_NOBODY) == RR_OK);
    rr_kill(here->system, proxy, RR_OK);
    rr_node_down(here->system, node);
}
static const rr_member_links_t suite_links = {.peer = links_peer, .forget = links_forget};

static void cut(unsigned a, unsigned b, bool on) { world.cut[a][b] = world.cut[b][a] = on; }

/* ---- Nodes and time ---- */

static uint64_t clock_ns(void) { return RR_CLOCK_VIRTUAL_START_NS + world.now_ms * 1000000; }

static void make_system(unsigned id, const char *name) {
    node_t *node = &world.nodes[id];
    rr_options_t options;
    *node = (node_t){.who = {.node = id, .incarnation = id * 1000003ull, .group = "world"}};
    snprintf(node->who.name, sizeof node->who.name, "%s", name);
    rr_options_init(&options);
    options.node = id;
    options.seed = id + 1;
    options.replay = true;
    options.log_screen = getenv("RR_TEST_LOG") != NULL;
    options.log_level = options.log_screen ? RR_DEBUG : RR_FATAL;
    MUST(rr_system_create(&node->system, &options) == RR_OK);
    rr_clock_set(&node->system->clock, clock_ns());
    MUST(rr_system_start(node->system) == RR_OK);
    node->there = true;
}

static void on_lost(void *context, const char *why) { ((node_t *)context)->lost++; }
static void on_drain(void *context) { ((node_t *)context)->drains++; }

static void make_member(unsigned id) {
    node_t *node = &world.nodes[id];
    rr_member_options_t options = {
        .self = node->who,
        .master = world.nodes[world.keeper].who,
        .registry = suite_driver.ops,
        .links = &suite_links,
        .links_context = node,
        .lost = on_lost,
        .drain = on_drain,
        .context = node,
    };
    add_route(id, world.keeper);
    add_route(world.keeper, id);
    MUST(rr_member_create(node->system, &options, &node->member) == RR_OK);
}

/* The keeper's node, with an agent of its own. Ids go up: none is used twice. */
static unsigned start_keeper(bool grace) {
    unsigned id = world.next_id++;
    char name[16];
    snprintf(name, sizeof name, "front");
    make_system(id, name);
    world.keeper = id;
    world.nodes[id].keeper = true;
    suite_driver.keeper_start(&world.nodes[id], grace);
    make_member(id);
    return id;
}

static unsigned start_node(void) {
    unsigned id = world.next_id++;
    char name[16];
    snprintf(name, sizeof name, "node-%u", id);
    make_system(id, name);
    make_member(id);
    return id;
}

/* As by kill -9. */
static void end_node(unsigned id) {
    node_t *node = &world.nodes[id];
    node->there = false;
    rr_system_stop(node->system);
    rr_system_destroy(node->system);
    rr_member_free(node->member);
    if (node->keeper)
        suite_driver.keeper_stop(node);
}

static void advance(uint64_t ms) {
    for (uint64_t end = world.now_ms + ms; world.now_ms < end;) {
        world.now_ms += STEP_MS;
        for (unsigned i = 1; i < world.next_id; i++)
            if (world.nodes[i].there && !world.nodes[i].stopped)
                rr_replay_run_until(world.nodes[i].system, clock_ns());
    }
}

static void stop_node(unsigned id) { world.nodes[id].stopped = true; }

/* All the time that it stood still is over for it at once. */
static void resume_node(unsigned id) {
    rr_clock_set(&world.nodes[id].system->clock, clock_ns());
    world.nodes[id].stopped = false;
}

/* The keeper was ended and comes back as a new process: the others find it. */
static unsigned restart_keeper(void) {
    unsigned id = start_keeper(true);
    for (unsigned i = 1; i < id; i++)
        if (world.nodes[i].there && !world.nodes[i].keeper) {
            add_route(i, id);
            add_route(id, i);
            MUST(rr_member_master(world.nodes[i].member, &world.nodes[id].who) == RR_OK);
        }
    return id;
}

/* ---- Leased actors ---- */

static int job_start(rr_actor_t *self, void *state, const void *arg) {
    job_t *job = *(job_t **)state = *(job_t *const *)arg;
    job->started++;
    job->epoch = rr_epoch(self);
    job->first_ms = world.now_ms;
    MUST(job->epoch > world.highest[job->name]); /* grows with every owner */
    world.highest[job->name] = job->epoch;
    return rr_timer_start(self, 100, 100, 1, NULL);
}

static void job_receive(rr_actor_t *self, void *state, rr_message_t *msg) {
    job_t *job = *(job_t **)state;
    MUST(rr_epoch(self) >= world.highest[job->name]); /* no owner before has a turn behind a later one's */
    world.highest[job->name] = job->epoch = rr_epoch(self);
    job->turns++;
    job->last_ms = world.now_ms;
    if (rr_message_kind(msg) == RR_CALL)
        rr_reply(self, msg, NULL, 0);
}

static void job_finish(rr_actor_t *self, void *state, int reason) { (*(job_t **)state)->reason = reason; }

static const rr_behavior_t job_behavior = {
    .name = "job", .state_size = sizeof(job_t *), .start = job_start, .receive = job_receive, .finish = job_finish};

static rr_addr_t spawn_job(unsigned node, unsigned name, job_t *job) {
    char text[32];
    rr_addr_t addr;
    *job = (job_t){.node = node, .name = name};
    snprintf(text, sizeof text, "scene@%u", name);
    rr_spawn_t spec = {.behavior = &job_behavior, .arg = &job, .arg_size = sizeof job, .name = text, .leased = true};
    int rc = rr_system_spawn(world.nodes[node].system, &spec, &addr);
    MUST(rc == RR_OK || rc == RR_EEXIST); /* this very node has one of that name */
    return rc == RR_OK ? addr : RR_NOBODY;
}

static rr_addr_t look(unsigned node, unsigned name) {
    char text[32];
    snprintf(text, sizeof text, "scene@%u", name);
    return rr_lookup(world.nodes[node].system, text);
}

static void begin(void) {
    unsigned seed = world.seed;
    memset(&world, 0, sizeof world);
    world.seed = seed;
    world.next_id = 1;
    start_keeper(false);
}

static void finish(void) {
    for (unsigned i = 1; i < world.next_id; i++)
        if (world.nodes[i].there)
            end_node(i);
}

/* ---- The cases ---- */

START_TEST(a_name_has_one_owner) {
    job_t first, second, third;
    begin();
    unsigned a = start_node(), b = start_node();
    rr_addr_t x = spawn_job(a, 0, &first);
    advance(500);
    ck_assert_int_eq(first.started, 1);
    ck_assert_uint_eq(look(b, 0), x);
    ck_assert_uint_eq(look(world.keeper, 0), x);
    spawn_job(b, 0, &second); /* refused: ends without having begun */
    advance(500);
    ck_assert_int_eq(second.started, 0);
    ck_assert_uint_eq(look(b, 0), x);
    advance(60000);
    ck_assert_uint_gt(first.turns, 590);
    rr_kill(world.nodes[a].system, x, RR_OK); /* given back: free at once */
    advance(100);
    ck_assert_uint_eq(look(b, 0), RR_NOBODY);
    rr_addr_t y = spawn_job(b, 0, &third);
    advance(100);
    ck_assert_int_eq(third.started, 1);
    ck_assert_uint_gt(third.epoch, first.epoch);
    ck_assert_uint_eq(look(a, 0), y);
    finish();
}
END_TEST

START_TEST(claims_at_once) {
    enum { OWNERS = 6 };
    static job_t jobs[NAMES][OWNERS];
    unsigned nodes[OWNERS];
    begin();
    for (unsigned i = 0; i < OWNERS; i++)
        nodes[i] = i ? start_node() : world.keeper;
    advance(100);
    for (unsigned name = 0; name < NAMES; name++)
        for (unsigned i = 0; i < OWNERS; i++)
            spawn_job(nodes[i], name, &jobs[name][i]);
    advance(1000);
    for (unsigned name = 0; name < NAMES; name++) {
        int started = 0;
        for (unsigned i = 0; i < OWNERS; i++)
            started += jobs[name][i].started;
        ck_assert_int_eq(started, 1);
    }
    finish();
}
END_TEST

START_TEST(a_silent_owner_keeps_its_name_for_lease_and_margin) {
    job_t first, second;
    begin();
    unsigned a = start_node(), b = start_node();
    spawn_job(a, 0, &first);
    advance(7000);
    cut(a, world.keeper, true);
    uint64_t cut_ms = world.now_ms;
    advance(6000); /* now its last renewal is so old that it counts as silent */
    advance(5000);
    rr_addr_t y = spawn_job(b, 0, &second);
    for (int i = 0; i < 4000 && !second.started; i++)
        advance(STEP_MS);
    ck_assert_int_eq(second.started, 1);
    ck_assert_uint_lt(first.last_ms, second.first_ms - MARGIN_MS / 2); /* stopped well before */
    ck_assert_uint_ge(second.first_ms, cut_ms - LEASE_MS / 3 - 100 + LEASE_MS + MARGIN_MS);
    ck_assert_uint_le(second.first_ms, cut_ms + LEASE_MS + MARGIN_MS + 1500);
    ck_assert_uint_gt(first.last_ms, cut_ms + LEASE_MS * 2 / 3 - 500); /* but not earlier than it had to */
    cut(a, world.keeper, false);
    uint64_t turns = first.turns;
    advance(10000);
    ck_assert_uint_eq(first.turns, turns); /* never again */
    ck_assert_int_eq(first.reason, RR_STALE);
    ck_assert_int_eq(world.nodes[a].lost, 1);
    ck_assert_int_eq(world.nodes[b].lost, 0);
    ck_assert_uint_eq(look(world.keeper, 0), y);
    finish();
}
END_TEST

START_TEST(a_short_silence_costs_nothing) {
    job_t job;
    begin();
    unsigned a = start_node();
    spawn_job(a, 0, &job);
    advance(6000);
    cut(a, world.keeper, true);
    advance(9000); /* shorter than what is left of the lease */
    cut(a, world.keeper, false);
    advance(6000);
    ck_assert_uint_gt(job.turns, 200);
    uint64_t epoch = job.epoch, turns = job.turns;
    cut(a, world.keeper, true);
    while (!rr_lease_suspended(world.nodes[a].system)) /* over for the owner, not for the keeper */
        advance(STEP_MS);
    uint64_t stood = job.turns;
    advance(300);
    ck_assert_uint_eq(job.turns, stood);
    ck_assert_uint_lt(stood - turns, 155);
    cut(a, world.keeper, false);
    advance(3000); /* it goes on */
    ck_assert_uint_gt(job.turns, stood);
    ck_assert_uint_eq(job.epoch, epoch);
    ck_assert_int_eq(world.nodes[a].lost, 0);
    finish();
}
END_TEST

START_TEST(a_stopped_process_comes_back_too_late) {
    job_t first, second;
    begin();
    unsigned a = start_node(), b = start_node();
    spawn_job(a, 0, &first);
    advance(3000);
    stop_node(a);
    uint64_t turns = first.turns;
    advance(12000);
    spawn_job(b, 0, &second);
    advance(20000);
    ck_assert_int_eq(second.started, 1);
    resume_node(a);
    advance(8000);
    ck_assert_uint_eq(first.turns, turns);
    ck_assert_int_eq(first.reason, RR_STALE);
    ck_assert_int_eq(world.nodes[a].lost, 1);
    ck_assert_uint_gt(second.turns, 100);
    finish();
}
END_TEST

START_TEST(names_outlive_the_keeper) {
    job_t job, fresh, other;
    begin();
    unsigned a = start_node(), b = start_node();
    rr_addr_t x = spawn_job(a, 0, &job);
    advance(20000);
    uint64_t epoch = job.epoch;
    end_node(world.keeper);
    advance(2000);
    ck_assert_uint_eq(look(b, 0), x); /* what is known goes on */
    restart_keeper();
    uint64_t restarted_ms = world.now_ms;
    spawn_job(b, 1, &fresh); /* waits: somebody may have it */
    spawn_job(b, 0, &other); /* refused: somebody has it */
    advance(5000);
    ck_assert_int_eq(fresh.started, 0);
    ck_assert_int_eq(other.started, 0);
    advance(30000);
    ck_assert_int_eq(fresh.started, 1);
    ck_assert_uint_ge(fresh.first_ms, restarted_ms + LEASE_MS + MARGIN_MS);
    ck_assert_uint_le(fresh.first_ms, restarted_ms + LEASE_MS + MARGIN_MS + 1500);
    ck_assert_int_eq(other.started, 0);
    ck_assert_uint_eq(job.epoch, epoch); /* the same owner, without a pause */
    ck_assert_uint_gt(job.turns, 555);
    ck_assert_uint_gt(fresh.epoch, epoch);
    ck_assert_uint_eq(look(world.keeper, 0), x);
    ck_assert_uint_eq(look(b, 0), x);
    finish();
}
END_TEST

START_TEST(the_keeper_is_away_for_long) {
    job_t job;
    begin();
    unsigned a = start_node();
    rr_addr_t x = spawn_job(a, 0, &job);
    advance(3000);
    uint64_t epoch = job.epoch;
    end_node(world.keeper);
    advance(60000);
    uint64_t stood = job.turns;
    ck_assert_uint_lt(stood, 200); /* stands still */
    ck_assert_uint_eq(rr_lease_suspended(world.nodes[a].system), 1);
    restart_keeper();
    advance(LEASE_MS); /* it is known again, but others could have the name */
    ck_assert_uint_eq(job.turns, stood);
    advance(MARGIN_MS + 2000);
    ck_assert_uint_gt(job.turns, stood); /* nobody had */
    ck_assert_uint_gt(job.epoch, epoch);
    ck_assert_uint_eq(look(world.keeper, 0), x);
    ck_assert_int_eq(world.nodes[a].lost, 0);
    finish();
}
END_TEST

START_TEST(a_stopped_keeper_gives_nobody_up) {
    job_t one, two;
    begin();
    unsigned a = start_node(), b = start_node();
    spawn_job(a, 0, &one);
    spawn_job(b, 1, &two);
    advance(3000);
    stop_node(world.keeper);
    advance(60000);
    resume_node(world.keeper);
    advance(10000);
    ck_assert_int_eq(world.nodes[a].lost + world.nodes[b].lost, 0);
    ck_assert_uint_lt(world.now_ms - one.last_ms, 300);
    ck_assert_uint_lt(world.now_ms - two.last_ms, 300);
    finish();
}
END_TEST

START_TEST(who_missed_changes_catches_up) {
    enum { CHURN = 40 };
    static job_t jobs[NAMES], kept;
    begin();
    unsigned a = start_node(), b = start_node();
    advance(500);
    rr_addr_t x = spawn_job(a, 15, &kept);
    advance(500);
    cut(b, world.keeper, true);
    for (unsigned i = 0; i < CHURN; i++) {
        rr_addr_t addr = spawn_job(a, i % 8, &jobs[i % 8]);
        advance(50);
        rr_kill(world.nodes[a].system, addr, RR_OK);
        advance(50);
    }
    rr_addr_t last = spawn_job(a, 3, &jobs[3]);
    advance(100);
    cut(b, world.keeper, false);
    advance(7000);
    ck_assert_uint_eq(look(b, 3), last);
    ck_assert_uint_eq(look(b, 15), x);
    for (unsigned i = 0; i < 8; i++)
        if (i != 3)
            ck_assert_uint_eq(look(b, i), RR_NOBODY);
    unsigned late = start_node(); /* comes with nothing: is told everything */
    advance(500);
    ck_assert_uint_eq(look(late, 3), last);
    ck_assert_uint_eq(look(late, 15), x);
    finish();
}
END_TEST

START_TEST(a_hundred_nodes) {
    static job_t jobs[NAMES];
    begin();
    for (unsigned i = 1; i < 100; i++)
        start_node();
    advance(500);
    rr_addr_t addrs[NAMES];
    for (unsigned i = 0; i < NAMES; i++)
        addrs[i] = spawn_job(2 + i * 5, i, &jobs[i]);
    advance(100);
    for (unsigned node = 1; node < world.next_id; node++) {
        ck_assert_uint_eq(rr_member_nodes(world.nodes[node].member, NULL, 0), 100);
        for (unsigned i = 0; i < NAMES; i++)
            ck_assert_uint_eq(look(node, i), addrs[i]);
    }
    end_node(2);
    advance(LEASE_MS + MARGIN_MS + 1000);
    for (unsigned node = 1; node < world.next_id; node++)
        if (world.nodes[node].there) {
            ck_assert_uint_eq(rr_member_nodes(world.nodes[node].member, NULL, 0), 99);
            ck_assert_uint_eq(look(node, 0), RR_NOBODY);
            ck_assert_uint_eq(look(node, 1), addrs[1]);
        }
    finish();
}
END_TEST

START_TEST(leaving_gives_everything_back) {
    job_t first, second;
    begin();
    unsigned a = start_node(), b = start_node();
    spawn_job(a, 0, &first);
    advance(500);
    MUST(rr_system_drain(world.nodes[a].system, 1000) != RR_EINVAL); /* runs on its own clock */
    advance(200);
    ck_assert_uint_eq(look(b, 0), RR_NOBODY);
    ck_assert_uint_eq(rr_member_nodes(world.nodes[b].member, NULL, 0), 2);
    spawn_job(b, 0, &second);
    advance(100);
    ck_assert_int_eq(second.started, 1);
    finish();
}
END_TEST

/* Random faults under the checks in every turn; `seed` is printed by a failure (it is the case's number). */
static void chaos(unsigned seed) {
    enum { OWNERS = 5, STEPS = 150, JOBS = OWNERS * STEPS };
    static job_t jobs[JOBS];
    unsigned nodes[OWNERS], used = 0;
    rr_random_t random;
    rr_random_seed(&random, seed);
    begin();
    for (unsigned i = 0; i < OWNERS; i++)
        nodes[i] = start_node();
    for (unsigned step = 0; step < STEPS; step++) {
        unsigned i = (unsigned)rr_random_below(&random, OWNERS), a = nodes[i], keeper = world.keeper;
        switch (rr_random_below(&random, 8)) {
        case 0:
            cut(a, keeper, !world.cut[a][keeper]);
            break;
        case 1:
            if (world.nodes[a].stopped)
                resume_node(a);
            else
                stop_node(a);
            break;
        case 2:
            end_node(a);
            nodes[i] = start_node();
            break;
        case 3:
            if (rr_random_below(&random, 4) == 0) {
                end_node(keeper);
                advance(rr_random_below(&random, 40) * 1000);
                restart_keeper();
            }
            break;
        default:
            spawn_job(a, (unsigned)rr_random_below(&random, 4), &jobs[used++]);
        }
        for (unsigned n = 0; n < OWNERS; n++) /* who was given up is started anew, as its process would be */
            if (world.nodes[nodes[n]].lost) {
                end_node(nodes[n]);
                nodes[n] = start_node();
            }
        advance(rr_random_below(&random, 5000) / STEP_MS * STEP_MS);
    }
    for (unsigned n = 0; n < OWNERS; n++) { /* all well again: names can be had */
        cut(nodes[n], world.keeper, false);
        if (world.nodes[nodes[n]].stopped)
            resume_node(nodes[n]);
    }
    advance(2 * (LEASE_MS + MARGIN_MS));
    static job_t last;
    unsigned fresh = start_node();
    spawn_job(fresh, 9, &last);
    advance(LEASE_MS + MARGIN_MS + 2000);
    MUST(last.started == 1);
    finish();
}

START_TEST(random_faults) {
    unsigned first = getenv("RR_TEST_SEED") ? (unsigned)atoi(getenv("RR_TEST_SEED")) : 1;
    unsigned count = getenv("RR_TEST_SEEDS") ? (unsigned)atoi(getenv("RR_TEST_SEEDS")) : 3;
    for (unsigned seed = first; seed < first + count; seed++) {
        if (getenv("RR_TEST_SEEDS"))
            fprintf(stderr, "seed %u\n", seed);
        world.seed = seed;
        chaos(seed);
    }
}
END_TEST

#define REGISTRY_SUITE random_faults,                                                                                                 \
    a_name_has_one_owner, claims_at_once, a_silent_owner_keeps_its_name_for_lease_and_margin,                          \
        a_short_silence_costs_nothing, a_stopped_process_comes_back_too_late, names_outlive_the_keeper,                \
        the_keeper_is_away_for_long, a_stopped_keeper_gives_nobody_up, who_missed_changes_catches_up, a_hundred_nodes, \
        leaving_gives_everything_back

#endif
