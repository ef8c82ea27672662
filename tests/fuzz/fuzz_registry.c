/* What agents and the master's broker say to each other (actors/registry_wire.h), said by anybody: to a master, or to an agent,
 * as its answers and as news. Each input has a system of its own, under virtual time. After a first byte that says to whom, a
 * row of { u8 what, u16 size, bytes }. */
#include <stdlib.h>
#include <string.h>

#include "actors/master.h"
#include "actors/member.h"
#include "actors/registry_wire.h"
#include "runtime/remote.h"
#include "runtime/replay.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { HERE = 1, THERE = 2, STEP_MS = 200, MESSAGES_MAX = 64, CALLS_MAX = 8 };

typedef struct world {
    rr_system_t *system;
    rr_master_t *master;
    rr_member_t *member;
    rr_addr_t calls_from[CALLS_MAX]; /* of the agent, not answered yet */
    uint64_t calls[CALLS_MAX];
    unsigned call_count;
} world_t;

static void must(bool ok) {
    if (!ok)
        abort();
}

static const rr_addr_t their_actor = (rr_addr_t)THERE << 48 | 1ull << 24 | 1;

/* ---- The other node: notes calls, and is silent ---- */

static int proxy_start(rr_actor_t *self, void *state, const void *arg) {
    (void)self;
    *(world_t **)state = *(world_t *const *)arg;
    return RR_OK;
}

static void proxy_receive(rr_actor_t *self, void *state, rr_message_t *msg) {
    world_t *world = *(world_t **)state;
    rr_envelope_t env;
    if (!rr_envelope_of(self, msg, &env) || env.kind != RR_CALL || world->call_count == CALLS_MAX)
        return;
    world->calls_from[world->call_count] = env.from;
    world->calls[world->call_count++] = env.request;
}

static const rr_behavior_t proxy = {
    .name = "proxy", .state_size = sizeof(world_t *), .start = proxy_start, .receive = proxy_receive, .proxy = true};

static void add_proxy(world_t *world) {
    rr_addr_t addr;
    rr_spawn_t spec = {.behavior = &proxy, .arg = &world, .arg_size = sizeof world};
    must(rr_system_spawn(world->system, &spec, &addr) == RR_OK);
    must(rr_route_set(world->system, THERE, addr) == RR_OK);
}

static int links_peer(void *context, const rr_node_identity_t *node, bool eager) {
    (void)context;
    (void)eager;
    must(node->node != 0 && memchr(node->name, 0, sizeof node->name) && memchr(node->address, 0, sizeof node->address));
    return RR_OK;
}

static void links_forget(void *context, unsigned node, uint64_t incarnation) {
    (void)context;
    (void)node;
    (void)incarnation;
}

static const rr_member_links_t links = {.peer = links_peer, .forget = links_forget};

/* ---- Setting up ---- */

static void make_master(world_t *world) {
    rr_master_options_t options = {.self = {.node = HERE, .incarnation = 11, .group = "world", .name = "front"},
                                   .term = 3,
                                   .lease_ms = 1000,
                                   .margin_ms = 200,
                                   .max_nodes = 16,
                                   .max_names = 64};
    must(rr_master_create(world->system, &options, &world->master) == RR_OK);
    rr_node_identity_t who = {.incarnation = 22, .group = "world", .name = "back"};
    char why[256];
    must(rr_master_join(world->master, &who, why, sizeof why) == RR_OK);
}

static void make_member(world_t *world) {
    rr_member_options_t options = {
        .self = {.node = HERE, .incarnation = 22, .group = "world", .name = "back"},
        .master = {.node = THERE, .incarnation = 11, .service = their_actor, .group = "world", .name = "front"},
        .registry = &rr_registry_builtin,
        .links = &links};
    must(rr_member_create(world->system, &options, &world->member) == RR_OK);
}

static void begin(world_t *world, bool master) {
    rr_options_t options;
    rr_options_init(&options);
    options.node = HERE;
    options.seed = 1;
    options.replay = true;
    options.log_screen = false;
    options.log_level = RR_FATAL;
    must(rr_system_create(&world->system, &options) == RR_OK);
    must(rr_system_start(world->system) == RR_OK);
    add_proxy(world);
    if (master)
        make_master(world);
    else
        make_member(world);
}

static void end(world_t *world) {
    rr_system_stop(world->system);
    rr_system_destroy(world->system);
    rr_master_free(world->master);
    rr_member_free(world->member);
}

/* ---- Speaking ---- */

/* Whatever comes of it: what cannot be delivered is nobody's business here. */
static void deliver(world_t *world, rr_envelope_t *env) {
    env->from = their_actor;
    env->weight = 1;
    (void)!rr_remote_deliver(world->system, env, NULL);
}

static void to_master(world_t *world, uint8_t what, const uint8_t *body, uint32_t size) {
    rr_envelope_t env = {.to = rr_master_addr(world->master),
                         .request = 1,
                         .type = RR_REG_HELLO + what % 9,
                         .size = size,
                         .kind = what & 128 ? RR_SEND : RR_CALL,
                         .data = body};
    deliver(world, &env);
}

static void to_agent(world_t *world, uint8_t what, const uint8_t *body, uint32_t size) {
    rr_envelope_t env = {.to = rr_member_addr(world->member), .size = size, .data = body};
    if (world->call_count && what % 4) {
        env.kind = RR_REPLY;
        env.to = world->calls_from[--world->call_count];
        env.request = world->calls[world->call_count];
        env.type = what % 4 == 3 ? (uint32_t)RR_LINKDOWN : RR_OK;
    } else {
        env.kind = RR_SEND;
        env.type = what & 128 ? RR_REG_DRAIN : RR_REG_CHANGED;
    }
    deliver(world, &env);
}

/* Every reader on a copy of exactly that size: any byte too far is seen. */
static void read_all(const uint8_t *body, size_t size) {
    uint8_t *copy = malloc(size ? size : 1);
    char name[RR_REG_NAME_SIZE], text[RR_REG_JSON_TEXT];
    rr_node_identity_t who;
    if (!copy)
        return;
    memcpy(copy, body, size);
    rr_reg_in_t in = rr_reg_in(copy, size);
    rr_reg_get_identity(&in, "world", &who);
    rr_reg_get_name(&in, name);
    must(in.bad || rr_name_legal(name));
    must(memchr(rr_reg_json_text(name, text), 0, sizeof text));
    while (!in.bad && !rr_reg_done(&in)) {
        (void)rr_reg_get64(&in);
        rr_reg_get_str(&in, name, sizeof name);
        must(memchr(name, 0, sizeof name));
    }
    free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    world_t world = {0};
    if (!size)
        return 0;
    bool master = data[0] & 1;
    const uint8_t *at = data + 1, *stop = data + size;
    begin(&world, master);
    for (unsigned i = 0; i < MESSAGES_MAX && stop - at >= 3; i++) {
        uint32_t left = (uint32_t)(stop - at - 3), whole = at[1] | (uint32_t)at[2] << 8;
        uint32_t length = whole < left ? whole : left;
        (void)rr_replay_run_until(world.system, rr_system_now_ns(world.system) + STEP_MS * 1000000ull);
        read_all(at + 3, length);
        (master ? to_master : to_agent)(&world, at[0], at + 3, length);
        at += 3 + length;
    }
    (void)rr_replay_run_until(world.system, rr_system_now_ns(world.system) + 5 * STEP_MS * 1000000ull);
    end(&world);
    return 0;
}
