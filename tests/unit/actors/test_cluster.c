/* Several nodes of a group in one process, with real loops and loopback sockets: they join, see each other's names, lose and
 * regain their master. What needs exact time is in test_registry.c, under a virtual clock. */
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "actors/cluster.h"
#include "runtime/remote.h"
#include "tests/unit/check_main.h"

#define LEASE_MS 900u
#define MARGIN_MS 200u
#define PATIENCE_MS 20000u

typedef struct node {
    rr_system_t *system;
    rr_cluster_t *cluster;
    char address[64];
    char why[512];
    _Atomic(int) drains, losses;
} node_t;

static char folder[] = "/tmp/rr-test-cluster-XXXXXX", state_path[64];

static uint64_t now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

#define until(condition)                                                                                               \
    do {                                                                                                               \
        uint64_t begun = now_ms();                                                                                     \
        while (!(condition)) {                                                                                         \
            struct timespec pause = {0, 2000000};                                                                      \
            ck_assert_msg(now_ms() - begun < PATIENCE_MS, "never: %s", #condition);                                    \
            nanosleep(&pause, NULL);                                                                                   \
        }                                                                                                              \
    } while (0)

static void on_drain(void *context) { ((node_t *)context)->drains++; }
static void on_lost(void *context, const char *why) { ((node_t *)context)->losses++; }

static void set_up(void) {
    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(state_path, sizeof state_path, "%s/world.state", folder);
}

static void clean_up(void) {
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    ck_assert_int_eq(system(command), 0);
}

static void options_for(rr_cluster_options_t *options, rr_mesh_options_t *mesh, const char *name, const char *master) {
    rr_cluster_options_init(options);
    rr_mesh_options_init(mesh);
    mesh->heartbeat_ms = 50;
    mesh->suspect_ms = 400;
    mesh->down_ms = 1500;
    mesh->backoff_min_ms = 5;
    mesh->backoff_max_ms = 50;
    options->group = "world";
    options->node_name = name;
    options->listen = "tcp://127.0.0.1:0";
    options->master = master;
    options->state_path = state_path;
    options->lease_ms = LEASE_MS;
    options->margin_ms = MARGIN_MS;
    options->join_ms = 5000;
    options->mesh = mesh;
}

static int try_start(node_t *n, const rr_cluster_options_t *given) {
    rr_cluster_options_t options = *given;
    rr_cluster_ticket_t ticket;
    rr_options_t system;
    rr_loop_t *loop;
    *n = (node_t){0};
    options.drain = on_drain;
    options.lost = on_lost;
    options.context = n;
    int rc = rr_cluster_join(&options, &ticket, NULL, NULL, NULL, n->why, sizeof n->why);
    if (rc != RR_OK)
        return rc;
    rr_options_init(&system);
    system.node = ticket.self.node;
    system.core_threads = 1;
    system.log_level = getenv("RR_TEST_LOG") ? RR_DEBUG : RR_FATAL;
    system.log_screen = getenv("RR_TEST_LOG") != NULL;
    system.replay = false;
    ck_assert_int_eq(rr_system_create(&n->system, &system), RR_OK);
    ck_assert_int_eq(rr_loop_create(n->system, "io", &loop), RR_OK);
    rc = rr_cluster_create(n->system, loop, &options, &ticket, &n->cluster, n->why, sizeof n->why);
    ck_assert_msg(rc == RR_OK, "%s", n->why);
    strcpy(n->address, rr_mesh_address(rr_cluster_mesh(n->cluster)));
    ck_assert_int_eq(rr_system_start(n->system), RR_OK);
    return RR_OK;
}

static void start_at(node_t *n, const char *name, const char *listen, const char *master, bool fresh) {
    rr_cluster_options_t options;
    rr_mesh_options_t mesh;
    options_for(&options, &mesh, name, master);
    options.listen = listen ? listen : options.listen;
    options.fresh = fresh;
    int rc = try_start(n, &options);
    ck_assert_msg(rc == RR_OK, "%s", n->why);
}

static void start(node_t *n, const char *name, const node_t *master) {
    start_at(n, name, NULL, master ? master->address : NULL, true);
}

/* As if it were killed: nothing is said to anybody, but for what the kernel says. */
static void end(node_t *n) {
    rr_system_stop(n->system);
    rr_cluster_destroy(n->cluster);
    rr_system_destroy(n->system);
    n->system = NULL;
}

static void leave(node_t *n) {
    ck_assert_int_eq(rr_system_drain(n->system, 5000), RR_OK);
    rr_cluster_leave(n->cluster, 2000);
    end(n);
}

/* ---- Actors ---- */

typedef struct probe {
    _Atomic(int) started, ended, reason;
    _Atomic(uint64_t) epoch, handled;
    _Atomic(int) status;
    rr_addr_t target;
} probe_t;

typedef struct owner {
    probe_t *probe;
} owner_t;

static int owner_start(rr_actor_t *self, void *state, const void *arg) {
    probe_t *probe = ((owner_t *)state)->probe = *(probe_t *const *)arg;
    probe->epoch = rr_epoch(self);
    probe->started++;
    return RR_OK;
}
static void owner_receive(rr_actor_t *self, void *state, rr_message_t *msg) {
    ((owner_t *)state)->probe->handled++;
    if (rr_message_kind(msg) == RR_CALL)
        rr_reply(self, msg, "yes", 3);
}
static void owner_finish(rr_actor_t *self, void *state, int reason) {
    ((owner_t *)state)->probe->reason = reason;
    ((owner_t *)state)->probe->ended++;
}
static const rr_behavior_t owner = {
    .name = "owner", .state_size = sizeof(owner_t), .start = owner_start, .receive = owner_receive, .finish = owner_finish};

static rr_addr_t spawn(node_t *n, const char *name, probe_t *probe) {
    rr_addr_t addr;
    rr_spawn_t spec = {.behavior = &owner, .arg = &probe, .arg_size = sizeof probe, .name = name, .leased = true};
    ck_assert_int_eq(rr_system_spawn(n->system, &spec, &addr), RR_OK);
    return addr;
}

static void on_reply(rr_actor_t *self, void *state, int status, rr_message_t *msg, void *context) {
    ((probe_t *)context)->status = status == RR_OK ? 1 : status;
    rr_exit(self, RR_OK);
}
static int asker_start(rr_actor_t *self, void *state, const void *arg) {
    probe_t *probe = *(probe_t *const *)arg;
    return rr_call(self, probe->target, 1, "?", 1, 5000, on_reply, probe, NULL);
}
static void asker_receive(rr_actor_t *self, void *state, rr_message_t *msg) {}
static const rr_behavior_t asker = {.name = "asker", .start = asker_start, .receive = asker_receive};

/* A call from a node to whoever has the name there; 1 = answered. */
static int ask(node_t *n, const char *name) {
    static probe_t probe;
    probe_t *arg = &probe;
    probe.status = 0;
    probe.target = rr_lookup(n->system, name);
    rr_spawn_t spec = {.behavior = &asker, .arg = &arg, .arg_size = sizeof arg};
    ck_assert_int_eq(rr_system_spawn(n->system, &spec, NULL), RR_OK);
    until(probe.status);
    return probe.status;
}

static size_t count_nodes(node_t *n) { return rr_cluster_nodes(n->cluster, NULL, 0); }

/* ---- Tests ---- */

START_TEST(names_are_seen_everywhere) {
    node_t m, a, b;
    probe_t one = {0}, two = {0}, here = {0};
    set_up();
    start(&m, "front", NULL);
    start(&a, "back", &m);
    start(&b, "side", &m);
    rr_addr_t x = spawn(&a, "scene@0", &one), y = spawn(&b, "scene@1", &two), z = spawn(&m, "scene@2", &here);
    until(one.started && two.started && here.started);
    ck_assert_uint_ne(one.epoch, 0);
    ck_assert_uint_ne(one.epoch, two.epoch);
    node_t *all[] = {&m, &a, &b};
    for (int i = 0; i < 3; i++) {
        until(rr_lookup(all[i]->system, "scene@0") == x && rr_lookup(all[i]->system, "scene@1") == y &&
              rr_lookup(all[i]->system, "scene@2") == z);
        until(count_nodes(all[i]) == 3);
        ck_assert_uint_eq(rr_cluster_names(all[i]->cluster, NULL, 0), 3);
        ck_assert_int_eq(ask(all[i], "scene@0"), 1);
        ck_assert_int_eq(ask(all[i], "scene@1"), 1);
        ck_assert_int_eq(ask(all[i], "scene@2"), 1);
    }
    leave(&b); /* in order: its names are free at once, and everybody hears it */
    until(rr_lookup(m.system, "scene@1") == RR_NOBODY && rr_lookup(a.system, "scene@1") == RR_NOBODY);
    until(count_nodes(&a) == 2);
    leave(&a);
    leave(&m);
    clean_up();
}
END_TEST

CHECK_MAIN("cluster", names_are_seen_everywhere)
