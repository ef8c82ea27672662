/* Bridges: calls between groups through second systems, by a carrier of the test's own: the systems of the bridge's group
 * live in this process, and a proxy of one puts what it gets into another. */
#include "actors/bridge.h"

#include <stdio.h>
#include <stdlib.h>

#include "actors/bridge_impl.h"
#include "actors/protocol.h"
#include "runtime/metrics.h"
#include "runtime/remote.h"
#include "tests/unit/runtime/rig.h"

/* ---- The bridge's group ------------------------------------------------------------------------------------------- */

enum { NODES = 8 };

/* Under `lock`; written by the carrier, which takes it for writing, read by proxies and registrars. */
static struct {
    pthread_rwlock_t lock;
    rr_system_t *nodes[NODES + 1];
    const char *places[NODES + 1]; /* which bridge each is at */
} world = {.lock = PTHREAD_RWLOCK_INITIALIZER};

static latch_t entered = LATCH_INIT, named = LATCH_INIT;
static _Atomic(bool) shut, silent; /* nobody may enter; what the proxies get vanishes. Relaxed: the tests wait on latches */

typedef struct proxy {
    unsigned to;
} proxy_t;

static int proxy_start(rr_actor_t *self, void *state, const void *arg) {
    memcpy(state, arg, sizeof(unsigned));
    return RR_OK;
}

static void proxy_receive(rr_actor_t *self, void *state, rr_message_t *msg) {
    proxy_t *my = state;
    rr_envelope_t env;
    if (!rr_envelope_of(self, msg, &env) || silent)
        return;
    pthread_rwlock_rdlock(&world.lock);
    rr_system_t *there = world.nodes[my->to];
    int rc = there ? rr_remote_deliver(there, &env, NULL) : RR_NOROUTE;
    pthread_rwlock_unlock(&world.lock);
    if (rc != RR_OK)
        rr_envelope_refuse(rr_system_of(self), &env, rc);
}
static const rr_behavior_t proxy = {
    .name = "proxy", .state_size = sizeof(proxy_t), .start = proxy_start, .receive = proxy_receive, .proxy = true};

/* Another node of the same bridge. Under the lock. */
static bool is_neighbour(rr_system_t *here, unsigned node) {
    const char *place = world.places[rr_system_node(here)];
    return world.nodes[node] && world.nodes[node] != here && place && strcmp(world.places[node], place) == 0;
}

static bool has_owner(rr_system_t *here, const char *name) {
    for (unsigned i = 1; i <= NODES; i++)
        if (is_neighbour(here, i) && rr_addr_node(rr_lookup(world.nodes[i], name)) == i)
            return true;
    return false;
}

/* Grants every name, unless somebody has it, and tells the others of it. */
static void registrar_receive(rr_actor_t *self, void *state, rr_message_t *msg) {
    rr_name_event_t event;
    MUST(rr_message_type(msg) == RR_TYPE_NAME && rr_message_size(msg) == sizeof event);
    memcpy(&event, rr_message_data(msg), sizeof event);
    rr_system_t *here = rr_system_of(self);
    pthread_rwlock_rdlock(&world.lock);
    bool taken = event.registered && has_owner(here, event.name);
    for (unsigned i = 1; i <= NODES && !taken; i++) {
        if (!is_neighbour(here, i))
            continue;
        if (event.registered)
            MUST(rr_remote_name_set(world.nodes[i], event.name, event.addr) == RR_OK);
        else
            rr_remote_name_drop(world.nodes[i], event.name, event.addr);
    }
    pthread_rwlock_unlock(&world.lock);
    if (event.registered && taken)
        rr_kill(here, event.addr, RR_STALE);
    else if (event.registered && rr_lease_grant(here, event.addr, 1))
        latch_add(&named, 1);
}
static const rr_behavior_t registrar = {.name = "registrar", .receive = registrar_receive};

static void route(rr_system_t *from, unsigned to) {
    rr_spawn_t spec = {.behavior = &proxy, .arg = &to, .arg_size = sizeof to, .policy = RR_POLICY_PAUSE_SOURCE};
    rr_addr_t addr;
    MUST(rr_system_spawn(from, &spec, &addr) == RR_OK);
    MUST(rr_route_set(from, to, addr) == RR_OK);
}

/* What is known of the names at this place. */
static void learn_names(rr_system_t *here) {
    static const char *const names[] = {"GroupA", "GroupB", "service@0"};
    for (unsigned i = 1; i <= NODES; i++)
        for (size_t n = 0; world.nodes[i] && n < sizeof names / sizeof *names; n++) {
            rr_addr_t owner = rr_lookup(world.nodes[i], names[n]);
            if (is_neighbour(here, i) && rr_addr_node(owner) == i)
                MUST(rr_remote_name_set(here, names[n], owner) == RR_OK);
        }
}

static int enter(const rr_bridge_place_t *place, void (*say)(void *context, const char *line), void *context,
                 const volatile int *stop, rr_bridge_stay_t *out, char *why, size_t why_size) {
    rr_options_t options;
    rr_addr_t addr;
    if (shut || strstr(place->address, ":9")) {
        snprintf(why, why_size, "nobody may enter");
        return RR_EREFUSED;
    }
    MUST(strcmp(place->group, RR_BRIDGE_GROUP) == 0 && *place->as);
    pthread_rwlock_wrlock(&world.lock);
    unsigned node = 1;
    while (world.nodes[node])
        node++;
    MUST(node <= NODES);
    rig_options(&options, 1);
    options.node = node;
    MUST(rr_system_create(&out->system, &options) == RR_OK);
    MUST(rr_system_start(out->system) == RR_OK);
    world.nodes[node] = out->system;
    world.places[node] = strdup(place->address);
    rr_lease_set(out->system, UINT64_MAX);
    for (unsigned i = 1; i <= NODES; i++)
        if (world.nodes[i] && i != node) {
            route(out->system, i);
            route(world.nodes[i], node);
        }
    learn_names(out->system);
    MUST(rr_system_spawn(out->system, &(rr_spawn_t){.behavior = &registrar}, &addr) == RR_OK);
    pthread_rwlock_unlock(&world.lock);
    MUST(rr_system_watch_names(out->system, addr) == RR_OK);
    out->leased = true;
    latch_add(&entered, 1);
    return RR_OK;
}

static void leave(rr_bridge_stay_t *stay, unsigned deadline_ms) {
    unsigned node = rr_system_node(stay->system);
    pthread_rwlock_wrlock(&world.lock);
    world.nodes[node] = NULL;
    free((char *)world.places[node]);
    world.places[node] = NULL;
    for (unsigned i = 1; i <= NODES; i++)
        if (world.nodes[i]) {
            MUST(rr_route_set(world.nodes[i], node, RR_NOBODY) == RR_OK);
            rr_remote_names_forget(world.nodes[i], node);
            rr_node_down(world.nodes[i], node);
        }
    pthread_rwlock_unlock(&world.lock);
    rr_system_stop(stay->system);
    rr_system_destroy(stay->system);
}
static const rr_bridge_carrier_t carrier = {.enter = enter, .leave = leave};

/* ---- Two groups ---------------------------------------------------------------------------------------------------- */

typedef struct group {
    rr_system_t *system;
    rr_bridge_t *bridge;
} group_t;
static group_t a, b;

#define AT "tcp://127.0.0.1:1"

static rr_bridge_t *make_bridge(rr_system_t *system, const rr_bridge_link_t *links, size_t count, unsigned max_calls) {
    rr_bridge_options_t options;
    rr_bridge_t *bridge = NULL;
    char why[600];
    rr_bridge_options_init(&options);
    options.links = links;
    options.link_count = count;
    options.max_calls = max_calls;
    options.retry_min_ms = 20;
    options.retry_max_ms = 100;
    options.carrier = &carrier;
    ck_assert_msg(rr_bridge_create(system, &options, &bridge, why, sizeof why) == RR_OK, "%s", why);
    return bridge;
}

/* Answers "echo" with its body; "fail" with an error; "none" with None; keeps "hold" for ever; "from" with its caller. */
static void server_receive(rr_actor_t *self, void *state, rr_message_t *msg) {
    rr_service_request_t request;
    MUST(rr_message_kind(msg) == RR_CALL && rr_message_type(msg) == RR_TYPE_SERVICE);
    MUST(rr_service_decode(rr_message_data(msg), rr_message_size(msg), &request) == RR_OK);
    if (!strcmp(request.method, "fail")) {
        rr_reply_error(self, msg, RR_EHANDLER, "it fails");
        return;
    }
    if (!strcmp(request.method, "hold")) {
        rr_message_take(self, msg);
        return;
    }
    rr_buffer_t *answer = !strcmp(request.method, "none")   ? rr_answer_encode(NULL, 0)
                          : !strcmp(request.method, "from") ? rr_answer_encode(request.from, strlen(request.from))
                                                            : rr_answer_encode(request.body, request.size);
    MUST(answer);
    rr_reply_buffer(self, msg, answer);
}
static const rr_behavior_t server = {.name = "server", .receive = server_receive};

/* A client: calls what it is told, notes how it ended. */
typedef struct order {
    uint32_t count, timeout_ms, size;
    bool direct; /* to `name` as a service, not to a group */
    char group[130], name[130], method[16];
} order_t;

static struct {
    pthread_mutex_t lock;
    int status;
    size_t size;
    char text[5000];
    unsigned ok, failed;
} last = {.lock = PTHREAD_MUTEX_INITIALIZER};
static latch_t ends = LATCH_INIT;

static void on_reply(rr_actor_t *self, void *state, int status, rr_message_t *msg, void *context) {
    const void *body = NULL;
    size_t size = 0;
    if (status == RR_OK)
        MUST(rr_answer_decode(rr_message_data(msg), rr_message_size(msg), &body, &size) == RR_OK);
    else if (status == RR_EHANDLER) {
        body = rr_message_data(msg);
        size = rr_message_size(msg);
    }
    pthread_mutex_lock(&last.lock);
    last.status = status;
    last.size = body ? size : SIZE_MAX;
    snprintf(last.text, sizeof last.text, "%.*s", body ? (int)size : 4, body ? (const char *)body : "None");
    last.ok += status == RR_OK;
    last.failed += status != RR_OK;
    pthread_mutex_unlock(&last.lock);
    latch_add(&ends, 1);
}

static void client_receive(rr_actor_t *self, void *state, rr_message_t *msg) {
    order_t order;
    memcpy(&order, rr_message_data(msg), sizeof order);
    char *body = calloc(1, order.size + 1);
    memset(body, 'x', order.size);
    rr_bridge_target_t target = {order.group, order.name, order.timeout_ms};
    rr_addr_t to = rr_lookup(rr_system_of(self), order.direct ? order.name : RR_BRIDGE_NAME);
    for (uint32_t i = 0; i < order.count; i++) {
        rr_buffer_t *buffer = order.direct ? rr_service_encode("client", order.method, body, order.size)
                                           : rr_bridge_encode(&target, "client", order.method, body, order.size);
        MUST(buffer);
        MUST(rr_call_buffer(self, to, order.direct ? RR_TYPE_SERVICE : RR_TYPE_BRIDGE, buffer, order.timeout_ms + 2000,
                            on_reply, NULL, NULL) == RR_OK);
    }
    free(body);
}
static const rr_behavior_t client = {.name = "client", .receive = client_receive};

static uint64_t ends_awaited;

static void say(rr_system_t *system, order_t order) {
    rr_addr_t who = rig_spawn_behavior(system, &client);
    ck_assert_int_eq(rr_system_send(system, who, 1, &order, sizeof order), RR_OK);
}

static void ask_many(rr_system_t *system, order_t order) {
    say(system, order);
    ends_awaited += order.count;
    latch_wait(&ends, ends_awaited);
}

static int ask(rr_system_t *system, const char *group, const char *name, const char *method, unsigned size) {
    order_t order = {.count = 1, .timeout_ms = 5000, .size = size};
    strcpy(order.group, group);
    strcpy(order.name, name);
    strcpy(order.method, method);
    ask_many(system, order);
    return last.status;
}

/* Names spread, bridges come back: asks again until it is answered so. */
static void ask_until(rr_system_t *system, const char *group, const char *name, int status) {
    for (int i = 0; ask(system, group, name, "echo", 3) != status; i++) {
        ck_assert_msg(i < 3000, "still %d %s", last.status, last.text);
        nanosleep(&(struct timespec){0, 5000000}, NULL);
    }
}

static void begin_group(group_t *group, const rr_bridge_link_t *links, size_t count, unsigned max_calls) {
    rr_options_t options;
    rig_options(&options, 2);
    ck_assert_int_eq(rr_system_create(&group->system, &options), RR_OK);
    ck_assert_int_eq(rr_system_start(group->system), RR_OK);
    rig_spawn(group->system, &(rr_spawn_t){.behavior = &server, .name = "scene@0"});
    group->bridge = make_bridge(group->system, links, count, max_calls);
}

static void end_group(group_t *group) {
    if (!group->system)
        return;
    rr_system_stop(group->system);
    rr_bridge_destroy(group->bridge);
    rr_system_destroy(group->system);
    *group = (group_t){0};
}

static void begin(void) {
#ifndef NDEBUG
    rig_live = rr__alloc_live();
#endif
    begin_group(&a, &(rr_bridge_link_t){"GroupA", AT}, 1, 100);
    begin_group(&b, &(rr_bridge_link_t){"GroupB", AT}, 1, 100);
    latch_wait(&named, 2);
}

static void end(void) {
    end_group(&a);
    end_group(&b);
#ifndef NDEBUG
    ck_assert_int_eq(rr__alloc_live() - rig_live, 0);
#endif
}

static double metric(rr_system_t *system, const char *line) {
    rr_buffer_t *text;
    ck_assert_int_eq(rr_metrics_text(system, &text), RR_OK);
    char *all = strndup((const char *)rr_buffer_data(text), rr_buffer_size(text)), *at = strstr(all, line);
    double value = at ? strtod(at + strlen(line), NULL) : -1;
    free(all);
    rr_buffer_unref(text);
    return value;
}

/* ---- Tests --------------------------------------------------------------------------------------------------------- */

START_TEST(both_directions) {
    begin();
    static const unsigned sizes[] = {0, 1, 100, 5000, 300000};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        ck_assert_int_eq(ask(a.system, "GroupB", "scene@0", "echo", sizes[i]), RR_OK);
        ck_assert_uint_eq(last.size, sizes[i]);
        ck_assert_int_eq(ask(b.system, "GroupA", "scene@0", "echo", sizes[i]), RR_OK);
        ck_assert_uint_eq(last.size, sizes[i]);
    }
    ck_assert_int_eq(ask(a.system, "GroupB", "scene@0", "none", 0), RR_OK);
    ck_assert_str_eq(last.text, "None");
    ck_assert_int_eq(ask(a.system, "GroupB", "scene@0", "from", 0), RR_OK);
    ck_assert_str_eq(last.text, "client");
    ck_assert_int_eq(ask(a.system, "GroupB", "scene@0", "fail", 0), RR_EHANDLER);
    ck_assert_str_eq(last.text, "it fails");
    ck_assert_int_eq(ask(a.system, "GroupA", "scene@0", "echo", 7), RR_OK); /* its own name */
    ck_assert_uint_eq(last.size, 7);
    ck_assert_int_eq(ask(a.system, "GroupA", "scene@0", "fail", 7), RR_EHANDLER);
    ck_assert_str_eq(last.text, "it fails");
    order_t many = {.count = 90, .timeout_ms = 5000, .size = 10, .group = "GroupB", .name = "scene@0", .method = "echo"};
    last.ok = 0;
    for (int i = 0; i < 10; i++)
        ask_many(a.system, many);
    ck_assert_uint_eq(last.ok, 900);
    ck_assert_double_eq(metric(a.system, "rr_bridge_pending{bridge=\"bridge@0\"} "), 0);
    ck_assert_double_eq(metric(a.system, "rr_bridge_up{bridge=\"bridge@0\",address=\"" AT "\"} "), 1);
    ck_assert_double_ge(metric(b.system, "rr_bridge_calls_in_total{bridge=\"bridge@0\"} "), 905);
    end();
}
END_TEST

START_TEST(absent_groups_and_names) {
    begin();
    ck_assert_int_eq(ask(a.system, "GroupC", "scene@0", "echo", 0), RR_EHANDLER);
    ck_assert_str_eq(last.text, "NOROUTE: there is no group named GroupC at the bridge " AT);
    ck_assert_int_eq(ask(a.system, "GroupB", "scene@7", "echo", 0), RR_EHANDLER);
    ck_assert_str_eq(last.text, "NOROUTE: there is no actor named scene@7 in group GroupB");
    ck_assert_int_eq(ask(a.system, "GroupA", "scene@7", "echo", 0), RR_EHANDLER);
    ck_assert_str_eq(last.text, "NOROUTE: there is no actor named scene@7 in group GroupA");
    order_t wrong = {.count = 1, .timeout_ms = 1000, .name = RR_BRIDGE_NAME, .direct = true, .method = "echo"};
    ask_many(a.system, wrong);
    ck_assert_str_eq(last.text, "PROTO: a bridge takes calls to groups only");
    end_group(&b);
    ask_until(a.system, "GroupB", "scene@0", RR_EHANDLER);
    ck_assert_str_eq(last.text, "NOROUTE: there is no group named GroupB at the bridge " AT);
    end();
}
END_TEST

START_TEST(deadlines_are_kept_in_order) {
    begin();
    order_t hold = {.count = 100, .timeout_ms = 300, .group = "GroupB", .name = "scene@0", .method = "hold"};
    last.failed = 0;
    ask_many(a.system, hold); /* the table is full of them meanwhile */
    ck_assert_uint_eq(last.failed, 100);
    ck_assert_int_eq(last.status, RR_TIMEOUT);
    ask_until(a.system, "GroupB", "scene@0", RR_OK); /* the other side's slots may be free a little later */
    silent = true; /* nothing comes back: the own side's deadlines end them */
    hold.count = 20;
    ask_many(a.system, hold);
    ck_assert_int_eq(last.status, RR_TIMEOUT);
    silent = false;
    ask_until(a.system, "GroupB", "scene@0", RR_OK); /* the other side's slots may be free a little later */
    end();
}
END_TEST

START_TEST(too_many_are_refused) {
    begin();
    order_t hold = {.count = 150, .timeout_ms = 2000, .group = "GroupB", .name = "scene@0", .method = "hold"};
    say(a.system, hold);
    latch_wait(&ends, 50); /* those over the limit, at once */
    pthread_mutex_lock(&last.lock);
    ck_assert_int_eq(last.status, RR_OVERLOAD);
    pthread_mutex_unlock(&last.lock);
    ends_awaited = 150;
    latch_wait(&ends, ends_awaited);
    ck_assert_int_eq(last.status, RR_TIMEOUT);
    ask_until(a.system, "GroupB", "scene@0", RR_OK); /* the other side's slots may be free a little later */
    end();
}
END_TEST

/* A call that comes in while the door's turn is under way is part of that turn: it does not wait for the next, which may
 * never come. */
START_TEST(a_call_that_comes_within_a_turn) {
    begin();
    rr__link_t *link = &a.bridge->links[0];
    order_t nobody = {.count = 1, .timeout_ms = 5000, .group = "GroupC", .name = "scene@0", .method = "echo"};
    order_t call = {.count = 1, .timeout_ms = 5000, .group = "GroupA", .name = "scene@0", .method = "echo"};
    size_t waiting = 0;
    pthread_mutex_lock(&link->lock); /* the door stands still where it looks for a link */
    say(a.system, nobody);
    for (int i = 0; rr_counted(&a.bridge->calls_out) < 1; i++) {
        ck_assert_int_lt(i, RIG_PATIENCE_S * 1000);
        nanosleep(&(struct timespec){0, 1000000}, NULL);
    }
    say(b.system, call);
    for (int i = 0; waiting == 0; i++) {
        ck_assert_int_lt(i, RIG_PATIENCE_S * 1000);
        nanosleep(&(struct timespec){0, 1000000}, NULL);
        pthread_mutex_lock(&a.bridge->inbox.lock);
        waiting = a.bridge->inbox.count;
        pthread_mutex_unlock(&a.bridge->inbox.lock);
    }
    pthread_mutex_unlock(&link->lock);
    ends_awaited += 2;
    latch_wait(&ends, ends_awaited);
    ck_assert_uint_eq(last.failed, 1); /* nobody's */
    ck_assert_uint_eq(last.ok, 1);
    end();
}
END_TEST

static latch_t held = LATCH_INIT, let_go = LATCH_INIT;

static void hold_worker(rr_actor_t *self, void *state, rr_message_t *msg) {
    latch_add(&held, 1);
    latch_hold(&let_go, 1);
}
static const rr_behavior_t holder = {.name = "holder", .receive = hold_worker};

/* A wake-up that finds the mailbox full is made good by the turns that empty it. */
START_TEST(a_reader_whose_mailbox_is_full) {
    begin();
    rr__link_t *link = &a.bridge->links[0];
    ask_until(a.system, "GroupB", "scene@0", RR_OK);
    order_t call = {.count = 1, .timeout_ms = 5000, .group = "GroupB", .name = "scene@0", .method = "echo"};
    size_t waiting = 0;
    int rc = RR_OK;
    rig_send(link->system, rig_spawn_behavior(link->system, &holder), 1); /* its only worker */
    latch_wait(&held, 1);
    while (rc == RR_OK)
        rc = rr_system_send(link->system, link->calls.reader, 1, NULL, 0);
    ck_assert_int_eq(rc, RR_EFULL);
    say(a.system, call);
    for (int i = 0; waiting == 0; i++) {
        ck_assert_int_lt(i, RIG_PATIENCE_S * 1000);
        nanosleep(&(struct timespec){0, 1000000}, NULL);
        pthread_mutex_lock(&link->calls.lock);
        waiting = link->calls.count;
        pthread_mutex_unlock(&link->calls.lock);
    }
    latch_add(&let_go, 1);
    latch_wait(&ends, ++ends_awaited);
    ck_assert_int_eq(last.status, RR_OK);
    end();
}
END_TEST

START_TEST(a_group_leaves_under_calls) {
    begin();
    order_t hold = {.count = 50, .timeout_ms = 20000, .group = "GroupB", .name = "scene@0", .method = "hold"};
    say(a.system, hold);
    while (metric(b.system, "rr_bridge_calls_in_total{bridge=\"bridge@0\"} ") < 50)
        nanosleep(&(struct timespec){0, 1000000}, NULL);
    ck_assert_msg(latch_count(&ends) == 0, "%llu ended already: %d %s", (unsigned long long)latch_count(&ends), last.status,
                  last.text);
    rr_bridge_stop(b.bridge, 100);
    ends_awaited = 50;
    latch_wait(&ends, ends_awaited);
    ck_assert_uint_eq(last.failed, 50);
    ck_assert_msg(last.status == RR_DIED || last.status == RR_LINKDOWN, "%d", last.status);
    end_group(&b);
    begin_group(&b, &(rr_bridge_link_t){"GroupB", AT}, 1, 100);
    ask_until(a.system, "GroupB", "scene@0", RR_OK);
    say(a.system, hold);
    while (metric(b.system, "rr_bridge_calls_in_total{bridge=\"bridge@0\"} ") < 51)
        nanosleep(&(struct timespec){0, 1000000}, NULL);
    rr_bridge_stop(a.bridge, 100); /* the caller's own side */
    ends_awaited += 50;
    latch_wait(&ends, ends_awaited);
    ck_assert_int_eq(last.status, RR_LINKDOWN);
    ck_assert_int_eq(ask(a.system, "GroupB", "scene@0", "echo", 1), RR_EHANDLER);
    ck_assert_ptr_nonnull(strstr(last.text, "NOROUTE: group GroupB is not known; 0 of 1 bridges are connected, " AT " is not"));
    end();
}
END_TEST

START_TEST(it_serves_before_its_bridge_is_there) {
    shut = true;
    begin_group(&a, &(rr_bridge_link_t){"GroupA", AT}, 1, 100);
    begin_group(&b, &(rr_bridge_link_t){"GroupB", AT}, 1, 100);
    ck_assert_int_eq(ask(a.system, "GroupA", "scene@0", "echo", 1), RR_OK);
    ck_assert_int_eq(ask(a.system, "GroupB", "scene@0", "echo", 1), RR_EHANDLER);
    ck_assert_ptr_nonnull(strstr(last.text, "NOROUTE: group GroupB is not known; 0 of 1"));
    rr_bridge_state_t state;
    ck_assert_uint_eq(rr_bridge_list(a.bridge, &state, 1), 1);
    ck_assert(!state.up && !strcmp(state.group, "GroupA") && !strcmp(state.address, AT));
    shut = false;
    ask_until(a.system, "GroupB", "scene@0", RR_OK);
    end_group(&a);
    end_group(&b);
}
END_TEST

START_TEST(several_bridges) {
    static const rr_bridge_link_t links[] = {{"GroupA", "tcp://127.0.0.1:9"}, {"GroupA", "tcp://127.0.0.1:2"}, {"GroupA", AT}};
    begin_group(&a, links, 3, 100); /* one of them is never there */
    begin_group(&b, &(rr_bridge_link_t){"GroupB", "tcp://127.0.0.1:2"}, 1, 100);
    ask_until(a.system, "GroupB", "scene@0", RR_OK);
    ask_until(b.system, "GroupA", "scene@0", RR_OK);
    ck_assert_int_eq(ask(a.system, "GroupC", "scene@0", "echo", 1), RR_EHANDLER);
    ck_assert_str_eq(last.text,
                     "NOROUTE: group GroupC is not known; 2 of 3 bridges are connected, tcp://127.0.0.1:9 is not");
    end_group(&a);
    end_group(&b);
}
END_TEST

START_TEST(a_name_that_another_group_has) {
    begin();
    rr_system_t *third = rig_start(1);
    rr_bridge_t *thief = make_bridge(third, &(rr_bridge_link_t){"GroupB", AT}, 1, 100);
    latch_wait(&entered, 5); /* it tries again and again */
    ck_assert_int_eq(ask(a.system, "GroupB", "scene@0", "echo", 1), RR_OK);
    end_group(&b);
    ask_until(a.system, "GroupB", "scene@0", RR_EHANDLER);
    for (int i = 0; strcmp(last.text, "NOROUTE: there is no actor named scene@0 in group GroupB") != 0; i++) {
        ck_assert_int_lt(i, 3000);
        ask(a.system, "GroupB", "scene@0", "echo", 1); /* the thief has it now, and no such actor */
        nanosleep(&(struct timespec){0, 5000000}, NULL);
    }
    rr_system_stop(third);
    rr_bridge_destroy(thief);
    rr_system_destroy(third);
    end_group(&a);
}
END_TEST

START_TEST(bad_options) {
    rr_system_t *system = rig_start(1);
    rr_bridge_options_t options;
    rr_bridge_t *bridge;
    char why[600];
    rr_bridge_options_init(&options);
    options.carrier = &carrier;
    ck_assert_int_eq(rr_bridge_create(system, &options, &bridge, why, sizeof why), RR_EINVAL);
    options.link_count = 1;
    options.links = &(rr_bridge_link_t){"no name", AT};
    ck_assert_int_eq(rr_bridge_create(system, &options, &bridge, why, sizeof why), RR_EINVAL);
    ck_assert_ptr_nonnull(strstr(why, "'no name'"));
    options.links = &(rr_bridge_link_t){"A", "ws://127.0.0.1:1"};
    ck_assert_int_eq(rr_bridge_create(system, &options, &bridge, why, sizeof why), RR_EINVAL);
    ck_assert_ptr_nonnull(strstr(why, "tcp://"));
    options.links = &(rr_bridge_link_t){"A", AT};
    rig_spawn(system, &(rr_spawn_t){.behavior = &server, .name = RR_BRIDGE_NAME});
    ck_assert_int_eq(rr_bridge_create(system, &options, &bridge, why, sizeof why), RR_EEXIST);
    ck_assert_str_eq(why, "bridge@0 exists already");
    rig_end(system);
}
END_TEST

START_TEST(outer_services) {
    rr_bridge_options_t options;
    rr_bridge_stay_t outside = {0};
    rr_outers_t *outers;
    char why[600];
    rr_bridge_place_t place = {.group = RR_BRIDGE_GROUP, .address = AT, .as = "outside"};
    ck_assert_int_eq(enter(&place, NULL, NULL, NULL, &outside, why, sizeof why), RR_OK);
    rig_spawn(outside.system, &(rr_spawn_t){.behavior = &server, .name = "service@0", .leased = true});
    rr_system_t *system = rig_start(2);
    rr_bridge_options_init(&options);
    options.carrier = &carrier;
    options.key = "a key";
    options.key_size = 5;
    ck_assert_int_eq(rr_outers_create(system, &options, &outers), RR_OK);
    latch_wait(&named, 1);
    ck_assert_int_eq(rr_outers_connect(outers, "service@0", AT, why, sizeof why), RR_OK);
    ck_assert_int_eq(rr_outers_connect(outers, "service@0", AT, why, sizeof why), RR_OK);
    ck_assert_int_eq(rr_outers_connect(outers, "service@0", "tcp://127.0.0.1:2", why, sizeof why), RR_EEXIST);
    ck_assert_str_eq(why, "service@0 is connected to " AT);
    ck_assert_int_eq(rr_outers_connect(outers, "service@1", "nowhere", why, sizeof why), RR_EINVAL);
    rig_spawn(system, &(rr_spawn_t){.behavior = &server, .name = "mine"});
    ck_assert_int_eq(rr_outers_connect(outers, "mine", AT, why, sizeof why), RR_EEXIST);
    ck_assert_int_eq(rr_outers_connect(outers, "service@9", AT, why, sizeof why), RR_OK);
    order_t order = {.count = 1, .timeout_ms = 2000, .size = 5000, .direct = true, .name = "service@0", .method = "echo"};
    last.status = RR_EHANDLER;
    for (int i = 0; last.status != RR_OK; i++) {
        ask_many(system, order);
        ck_assert_msg(i < 3000, "%s", last.text);
    }
    ck_assert_uint_eq(last.size, 5000);
    strcpy(order.name, "service@9");
    for (int i = 0; !strstr(last.text, "there is no actor named service@9 at " AT); i++) {
        ask_many(system, order);
        ck_assert_msg(i < 3000, "%s", last.text);
    }
    rr_outers_stop(outers, 100);
    ck_assert_int_eq(rr_outers_connect(outers, "service@2", AT, why, sizeof why), RR_ESTOPPING);
    ask_many(system, order);
    ck_assert_int_eq(last.status, RR_EHANDLER);
    rr_system_stop(system);
    rr_outers_destroy(outers);
    rr_system_destroy(system);
    leave(&outside, 0);
}
END_TEST

CHECK_MAIN("bridge", both_directions, absent_groups_and_names, deadlines_are_kept_in_order, too_many_are_refused,
           a_call_that_comes_within_a_turn, a_reader_whose_mailbox_is_full, a_group_leaves_under_calls,
           it_serves_before_its_bridge_is_there, several_bridges, a_name_that_another_group_has, bad_options,
           outer_services)
