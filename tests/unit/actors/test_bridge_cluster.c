/* Bridges over real links: two groups and a bridge's master in one process, on loopback sockets; the bridge dies and comes
 * back, by itself and under calls. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "actors/bridge.h"
#include "actors/cluster.h"
#include "actors/protocol.h"
#include "tests/unit/runtime/rig.h"

#define LEASE_MS 900u
#define PATIENCE_NS (60 * 1000000000ull)
#define PATIENCE_MS 30000u

static char folder[] = "/tmp/rr-test-bridge-XXXXXX", state_path[64], address[64];
static rr_mesh_options_t mesh;

/* ---- The bridge's process ---- */

typedef struct master {
    rr_system_t *system;
    rr_cluster_t *cluster;
} master_t;
static master_t master;

static void start_master(const char *listen, const char *key) {
    rr_cluster_options_t options;
    rr_cluster_ticket_t ticket;
    rr_options_t system;
    rr_loop_t *loop;
    char why[512];
    rr_cluster_options_init(&options);
    options.group = RR_BRIDGE_GROUP;
    options.node_name = "bridge";
    options.listen = listen;
    options.state_path = state_path;
    options.lease_ms = LEASE_MS;
    options.margin_ms = 100;
    options.mesh = &mesh;
    options.key = key;
    options.key_size = key ? strlen(key) : 0;
    ck_assert_msg(rr_cluster_join(&options, &ticket, NULL, NULL, NULL, why, sizeof why) == RR_OK, "%s", why);
    rig_options(&system, 1);
    system.log_screen = getenv("RR_TEST_LOG") != NULL;
    system.log_level = RR_DEBUG;
    system.node = ticket.self.node;
    ck_assert_int_eq(rr_system_create(&master.system, &system), RR_OK);
    ck_assert_int_eq(rr_loop_create(master.system, "io", &loop), RR_OK);
    int rc = rr_cluster_create(master.system, loop, &options, &ticket, &master.cluster, why, sizeof why);
    ck_assert_msg(rc == RR_OK, "%s", why);
    strcpy(address, rr_mesh_address(rr_cluster_mesh(master.cluster)));
    ck_assert_int_eq(rr_system_start(master.system), RR_OK);
}

static void stop_master(void) { /* without a word to anybody, as by kill -9 */
    rr_system_stop(master.system);
    rr_cluster_destroy(master.cluster);
    rr_system_destroy(master.system);
    master = (master_t){0};
}

/* ---- Two groups ---- */

typedef struct group {
    rr_system_t *system;
    rr_bridge_t *bridge;
} group_t;
static group_t a, b;

static void server_receive(rr_actor_t *self, void *state, rr_message_t *msg) {
    rr_service_request_t request;
    MUST(rr_service_decode(rr_message_data(msg), rr_message_size(msg), &request) == RR_OK);
    rr_buffer_t *answer = rr_answer_encode(request.body, request.size);
    MUST(answer);
    rr_reply_buffer(self, msg, answer);
}
static const rr_behavior_t server = {.name = "server", .receive = server_receive};

static latch_t ok = LATCH_INIT, failed = LATCH_INIT;
static struct {
    pthread_mutex_t lock;
    char text[600];
} last = {.lock = PTHREAD_MUTEX_INITIALIZER};

typedef struct order {
    char group[32];
    uint32_t size, timeout_ms;
} order_t;

static void on_reply(rr_actor_t *self, void *state, int status, rr_message_t *msg, void *context) {
    pthread_mutex_lock(&last.lock);
    snprintf(last.text, sizeof last.text, "%.*s", status == RR_EHANDLER ? (int)rr_message_size(msg) : 400,
             status == RR_EHANDLER ? (const char *)rr_message_data(msg) : rr_error_name(status));
    pthread_mutex_unlock(&last.lock);
    if (status == RR_OK)
        MUST(rr_message_size(msg) == 1 + (size_t)(uintptr_t)context);
    latch_add(status == RR_OK ? &ok : &failed, 1);
}

static void client_receive(rr_actor_t *self, void *state, rr_message_t *msg) {
    order_t order;
    memcpy(&order, rr_message_data(msg), sizeof order);
    char *body = calloc(1, order.size + 1);
    rr_bridge_target_t target = {order.group, "scene@0", order.timeout_ms};
    rr_buffer_t *buffer = rr_bridge_encode(&target, "client", "echo", body, order.size);
    MUST(rr_call_buffer(self, rr_lookup(rr_system_of(self), RR_BRIDGE_NAME), RR_TYPE_BRIDGE, buffer, order.timeout_ms,
                        on_reply, (void *)(uintptr_t)order.size, NULL) == RR_OK);
    free(body);
}
static const rr_behavior_t client = {.name = "client", .receive = client_receive};

static rr_addr_t client_of[2];

static void begin_group(group_t *group, const char *name, const char *key) {
    rr_bridge_link_t link = {name, address};
    rr_bridge_options_t options;
    rr_options_t system;
    char why[600];
    rr_bridge_options_init(&options);
    options.links = &link;
    options.link_count = 1;
    options.mesh = &mesh;
    options.key = key;
    options.key_size = key ? strlen(key) : 0;
    options.retry_min_ms = 50;
    options.retry_max_ms = 400;
    rig_options(&system, 1);
    system.log_screen = getenv("RR_TEST_LOG") != NULL;
    system.log_level = RR_DEBUG;
    options.system = &system;
    group->system = rig_start_with(&system);
    rig_spawn(group->system, &(rr_spawn_t){.behavior = &server, .name = "scene@0"});
    client_of[group == &b] = rig_spawn_behavior(group->system, &client);
    ck_assert_msg(rr_bridge_create(group->system, &options, &group->bridge, why, sizeof why) == RR_OK, "%s", why);
}

static void end_group(group_t *group, unsigned leave_ms) {
    if (leave_ms)
        rr_bridge_stop(group->bridge, leave_ms);
    rr_system_stop(group->system);
    rr_bridge_destroy(group->bridge);
    rr_system_destroy(group->system);
}

static void send_order(group_t *from, const char *group, uint32_t size, uint32_t timeout_ms) {
    order_t order = {.size = size, .timeout_ms = timeout_ms};
    strcpy(order.group, group);
    ck_assert_int_eq(rr_system_send(from->system, client_of[from == &b], 1, &order, sizeof order), RR_OK);
}

static uint64_t ends(void) { return latch_count(&ok) + latch_count(&failed); }

/* True: it was answered. */
static bool ask(group_t *from, const char *group, uint32_t size, uint32_t timeout_ms) {
    uint64_t before = ends(), good = latch_count(&ok), begun = rr_system_now_ns(from->system);
    send_order(from, group, size, timeout_ms);
    while (ends() == before) {
        ck_assert_msg(rr_system_now_ns(from->system) - begun < timeout_ms * 1000000ull + PATIENCE_NS, "no end");
        nanosleep(&(struct timespec){0, 1000000}, NULL);
    }
    return latch_count(&ok) > good;
}

static void ask_until(group_t *from, const char *group, bool answered) {
    uint64_t begun = rr_system_now_ns(from->system);
    while (ask(from, group, 10, 500) != answered)
        ck_assert_msg(rr_system_now_ns(from->system) - begun < PATIENCE_NS, "still %s", last.text);
}

/* Links are down after so long; where no fault is made, that is longer than a busy machine keeps a thread waiting. */
static void begin(const char *key, unsigned down_ms) {
    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(state_path, sizeof state_path, "%s/bridge.state", folder);
    rr_mesh_options_init(&mesh);
    mesh.heartbeat_ms = 50;
    mesh.suspect_ms = 400;
    mesh.down_ms = down_ms;
    mesh.backoff_min_ms = 5;
    mesh.backoff_max_ms = 50;
    start_master("tcp://127.0.0.1:0", key);
    begin_group(&a, "GroupA", key);
    begin_group(&b, "GroupB", key);
    ask_until(&a, "GroupB", true);
    ask_until(&b, "GroupA", true);
}

static void clean_up(void) {
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    ck_assert_int_eq(system(command), 0);
}

static void end(void) {
    end_group(&a, 1000);
    end_group(&b, 0);
    stop_master();
    clean_up();
}

/* ---- Tests ---- */

START_TEST(relayed_both_ways) {
    begin("a shared secret", 60000);
    static const uint32_t sizes[] = {0, 1, 4000, 100000, 3000000};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        ck_assert_msg(ask(&a, "GroupB", sizes[i], PATIENCE_MS), "%s", last.text);
        ck_assert_msg(ask(&b, "GroupA", sizes[i], PATIENCE_MS), "%s", last.text);
    }
    ck_assert(!ask(&a, "GroupC", 1, PATIENCE_MS));
    ck_assert_ptr_nonnull(strstr(last.text, "NOROUTE: there is no group named GroupC at the bridge tcp://127.0.0.1:"));
    end();
}
END_TEST

START_TEST(the_bridge_dies_and_returns_under_calls) {
    begin(NULL, 1500);
    enum { ROUNDS = 100 };
    char listen[64];
    strcpy(listen, address);
    uint64_t before = ends();
    for (int i = 0; i < ROUNDS; i++) {
        if (i == ROUNDS / 4)
            stop_master();
        if (i == ROUNDS / 2)
            start_master(listen, NULL);
        send_order(&a, "GroupB", 100, 1000);
        send_order(&b, "GroupA", 100, 1000);
        nanosleep(&(struct timespec){0, 10000000}, NULL);
    }
    uint64_t begun = rr_system_now_ns(a.system);
    while (ends() < before + 2 * ROUNDS) { /* every one of them, in bounded time */
        ck_assert_uint_lt(rr_system_now_ns(a.system) - begun, PATIENCE_NS);
        nanosleep(&(struct timespec){0, 1000000}, NULL);
    }
    ask_until(&a, "GroupB", true);
    ask_until(&b, "GroupA", true);
    end();
}
END_TEST

START_TEST(the_bridge_is_away_for_longer_than_a_lease) {
    begin(NULL, 1500);
    char listen[64];
    strcpy(listen, address);
    stop_master();
    ask_until(&a, "GroupB", false);
    nanosleep(&(struct timespec){4, 0}, NULL); /* leases and links are given up meanwhile */
    ck_assert(!ask(&a, "GroupB", 1, 500));
    start_master(listen, NULL);
    ask_until(&a, "GroupB", true);
    ask_until(&b, "GroupA", true);
    end();
}
END_TEST

START_TEST(a_group_leaves_and_returns) {
    begin(NULL, 1500);
    end_group(&b, 1000);
    ask_until(&a, "GroupB", false);
    begin_group(&b, "GroupB", NULL);
    ask_until(&a, "GroupB", true);
    end_group(&b, 0); /* without a word */
    begin_group(&b, "GroupB", NULL);
    ask_until(&a, "GroupB", true);
    ask_until(&b, "GroupA", true);
    end();
}
END_TEST

START_TEST(a_wrong_key_is_no_way_in) {
    begin("a shared secret", 60000);
    end_group(&b, 1000);
    begin_group(&b, "GroupB", "another secret!");
    for (int i = 0; i < 20; i++)
        ck_assert(!ask(&a, "GroupB", 1, PATIENCE_MS) && !ask(&b, "GroupA", 1, PATIENCE_MS));
    ck_assert_ptr_nonnull(strstr(last.text, "NOROUTE: group GroupA is not known; 0 of 1 bridges are connected"));
    end();
}
END_TEST

CHECK_MAIN("bridge_cluster", relayed_both_ways, the_bridge_dies_and_returns_under_calls,
           the_bridge_is_away_for_longer_than_a_lease, a_group_leaves_and_returns, a_wrong_key_is_no_way_in)
