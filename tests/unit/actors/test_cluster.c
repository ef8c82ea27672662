/* Several nodes of a group in one process, with real loops and loopback sockets: they join, see each other's names, lose and
 * regain their master. What needs exact time is in test_registry.c, under a virtual clock. */
#include <jansson.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "actors/cluster.h"
#include "runtime/remote.h"
#include "tests/unit/check_main.h"

#define LEASE_MS 900u
#define MARGIN_MS 200u
#define PATIENCE_MS 60000u

typedef struct node {
    rr_system_t *system;
    rr_cluster_t *cluster;
    char address[64];
    char why[512];
    _Atomic(int) drains, losses;
} node_t;

static unsigned lease_ms = LEASE_MS; /* longer where none shall end */
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
    options->lease_ms = lease_ms;
    options->margin_ms = MARGIN_MS;
    options->join_ms = 20000;
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
    rr_cluster_leave(n->cluster, 2000);
    ck_assert_int_eq(rr_system_drain(n->system, 30000), RR_OK);
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

/* n's link to the other one needs nobody in between. */
static bool is_direct(node_t *n, const node_t *other) {
    rr_link_info_t links[8];
    size_t count = rr_mesh_list(rr_cluster_mesh(n->cluster), links, 8);
    for (size_t i = 0; i < count && i < 8; i++)
        if (links[i].peer.node == rr_system_node(other->system))
            return links[i].state == RR_LINK_UP && !links[i].relayed;
    return false;
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

START_TEST(the_master_is_started_anew) {
    node_t m, a, b;
    probe_t one = {0}, late = {0};
    char address[64];
    set_up();
    lease_ms = 4000;
    start(&m, "front", NULL);
    start(&a, "back", &m);
    start(&b, "side", &m);
    strcpy(address, m.address);
    rr_addr_t x = spawn(&a, "scene@0", &one);
    until(rr_lookup(b.system, "scene@0") == x);
    uint64_t epoch = one.epoch;
    ck_assert_int_eq(ask(&b, "scene@0"), 1);
    until(is_direct(&b, &a) && is_direct(&a, &b)); /* else the call would be lost with the master that passes it on */
    end(&m); /* as by kill -9 */
    ck_assert_int_eq(ask(&b, "scene@0"), 1); /* routes and names go on */
    start_at(&m, "front", address, NULL, false);
    until(rr_lookup(m.system, "scene@0") == x && count_nodes(&m) == 3); /* renewals return by themselves */
    rr_addr_t y = spawn(&b, "scene@1", &late);
    until(late.started && rr_lookup(a.system, "scene@1") == y); /* new grants follow */
    ck_assert_uint_gt(late.epoch, epoch);
    ck_assert_int_eq(one.started, 1);
    ck_assert_int_eq(one.ended, 0);
    ck_assert_int_eq(ask(&m, "scene@0"), 1);
    ck_assert_int_eq(ask(&b, "scene@0"), 1);
    ck_assert_int_eq(a.losses + b.losses, 0);
    leave(&b);
    leave(&a);
    leave(&m);
    clean_up();
}
END_TEST

/* The state file was lost, and the number that its successor drew is a living member's: that member has to be started anew. */
START_TEST(the_new_master_has_a_members_number) {
    node_t m, a;
    probe_t one = {0};
    char address[64];
    set_up();
    start(&m, "front", NULL);
    start(&a, "back", &m);
    strcpy(address, m.address);
    spawn(&a, "scene@0", &one);
    until(one.started);
    end(&m); /* as by kill -9 */
    FILE *state = fopen(state_path, "w");
    ck_assert_ptr_nonnull(state);
    fprintf(state, "redrabbit-group-state 1\nterm 1\nnext-id %u\nclean 0\n", rr_system_node(a.system));
    ck_assert_int_eq(fclose(state), 0);
    start_at(&m, "front", address, NULL, false);
    ck_assert_uint_eq(rr_system_node(m.system), rr_system_node(a.system));
    until(a.losses && one.ended); /* once its lease is over */
    ck_assert_int_eq(one.reason, RR_STALE);
    end(&a);
    start(&a, "back", &m);
    until(count_nodes(&m) == 2);
    leave(&a);
    leave(&m);
    clean_up();
}
END_TEST

START_TEST(a_node_dies_and_another_takes_over) {
    node_t m, a, b;
    probe_t one = {0}, two = {0};
    set_up();
    start(&m, "front", NULL);
    start(&a, "back", &m);
    spawn(&a, "scene@0", &one);
    until(rr_lookup(m.system, "scene@0") != RR_NOBODY);
    end(&a); /* as by kill -9 */
    until(rr_cluster_nodes(m.cluster, NULL, 0) == 2); /* the lease lasts */
    start(&b, "back", &m); /* restarted under its name at once; its scene waits for the lease */
    uint64_t began = now_ms();
    rr_addr_t y = spawn(&b, "scene@0", &two);
    until(two.started);
    ck_assert_uint_le(now_ms() - began, LEASE_MS + MARGIN_MS + PATIENCE_MS / 2);
    ck_assert_uint_gt(two.epoch, one.epoch);
    until(rr_lookup(m.system, "scene@0") == y);
    leave(&b);
    leave(&m);
    clean_up();
}
END_TEST

START_TEST(a_restart_in_its_place_takes_over_at_once) {
    node_t m, a, b;
    probe_t one = {0}, two = {0};
    rr_cluster_options_t options;
    rr_mesh_options_t mesh;
    char address[64];
    set_up();
    options_for(&options, &mesh, "front", NULL);
    options.lease_ms = 60000; /* nobody waits for that */
    options.fresh = true;
    ck_assert_int_eq(try_start(&m, &options), RR_OK);
    until(count_nodes(&m) == 1);
    leave(&m);
    options.fresh = false;
    ck_assert_int_eq(try_start(&m, &options), RR_OK); /* after a clean end nothing is waited for */
    start(&a, "back", &m);
    strcpy(address, a.address);
    spawn(&a, "scene@0", &one);
    until(rr_lookup(m.system, "scene@0") != RR_NOBODY);
    end(&a);
    until(rr_mesh_list(rr_cluster_mesh(m.cluster), NULL, 0) == 1);
    start_at(&b, "back", address, m.address, false);
    rr_addr_t y = spawn(&b, "scene@0", &two);
    until(two.started && rr_lookup(m.system, "scene@0") == y);
    ck_assert_uint_gt(two.epoch, one.epoch);
    until(count_nodes(&m) == 2);
    leave(&b);
    leave(&m);
    clean_up();
}
END_TEST

static rr_node_identity_t who_is(node_t *n, const char *name) {
    rr_cluster_node_t list[8];
    size_t count = rr_cluster_nodes(n->cluster, list, 8);
    for (size_t i = 0; i < count; i++) {
        if (strcmp(list[i].identity.name, name) == 0)
            return list[i].identity;
    }
    ck_abort_msg("nobody knows %s", name);
}

/* With leases and silences of ten minutes: whoever waited for any of them would wait in vain. */
START_TEST(who_is_said_to_be_dead_is_not_waited_for) {
    node_t m, a, b;
    probe_t one = {0}, two = {0};
    rr_cluster_options_t options;
    rr_mesh_options_t mesh;
    set_up();
    options_for(&options, &mesh, "front", NULL);
    options.fresh = true;
    options.lease_ms = mesh.down_ms = 600000;
    mesh.suspect_ms = 300000;
    ck_assert_int_eq(try_start(&m, &options), RR_OK);
    options.node_name = "back";
    options.master = m.address;
    ck_assert_int_eq(try_start(&a, &options), RR_OK);
    options.node_name = "side";
    ck_assert_int_eq(try_start(&b, &options), RR_OK);
    spawn(&a, "scene@0", &one);
    until(rr_lookup(b.system, "scene@0") != RR_NOBODY);
    ck_assert_int_eq(ask(&b, "scene@0"), 1);
    rr_node_identity_t dead = who_is(&b, "back"), front = who_is(&b, "front");
    rr_cluster_node_died(m.cluster, dead.node, dead.incarnation + 1); /* somebody else: */
    rr_cluster_node_died(b.cluster, dead.node, dead.incarnation + 1);
    ck_assert_int_eq(ask(&b, "scene@0"), 1); /* nothing happens */
    end(&a);                                 /* as by kill -9 */
    rr_cluster_node_died(m.cluster, dead.node, dead.incarnation);
    until(count_nodes(&m) == 2 && count_nodes(&b) == 2 && rr_lookup(b.system, "scene@0") == RR_NOBODY);
    rr_addr_t y = spawn(&b, "scene@0", &two);
    until(two.started && rr_lookup(m.system, "scene@0") == y);
    ck_assert_uint_gt(two.epoch, one.epoch);
    end(&m);
    rr_cluster_node_died(b.cluster, front.node, front.incarnation);
    until(count_nodes(&b) == 1);
    rr_cluster_leave(b.cluster, 600000);
    end(&b);
    clean_up();
}
END_TEST

/* ---- Real processes ---- */

/* A node `back` with scene@0, in a process of its own (forked before there are threads): it waits for the master's address. Ends
 * with 42 when its membership is lost and its actor ended as STALE, 43 when the actor worked after that of another process. */
static pid_t fork_node(int *to) {
    int ends[2];
    ck_assert_int_eq(pipe(ends), 0);
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    *to = ends[1];
    if (pid)
        return pid;
    static node_t node;
    static probe_t probe;
    char address[64] = "";
    ck_assert_int_gt(read(ends[0], address, sizeof address - 1), 0);
    start_at(&node, "back", NULL, address, false);
    spawn(&node, "scene@0", &probe);
    until(node.losses);
    until(probe.ended);
    _exit(probe.reason == RR_STALE ? 42 : 43);
}

static void tell_address(int to, const node_t *master) {
    ck_assert_int_eq(write(to, master->address, strlen(master->address)), (ssize_t)strlen(master->address));
    close(to);
}

START_TEST(a_stopped_process_comes_back) {
    node_t m, b;
    probe_t two = {0};
    int to, status;
    set_up();
    pid_t child = fork_node(&to);
    start(&m, "front", NULL);
    start(&b, "side", &m);
    tell_address(to, &m);
    until(rr_lookup(b.system, "scene@0") != RR_NOBODY);
    ck_assert_int_eq(ask(&b, "scene@0"), 1);
    ck_assert_int_eq(kill(child, SIGSTOP), 0);
    rr_cluster_node_t list[8];
    size_t count = 0;
    until((count = rr_cluster_nodes(m.cluster, list, 8)) == 2); /* given up after lease and margin */
    rr_addr_t y = spawn(&b, "scene@0", &two);
    until(two.started && rr_lookup(m.system, "scene@0") == y);
    ck_assert_int_eq(kill(child, SIGCONT), 0);
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFEXITED(status));
    ck_assert_int_eq(WEXITSTATUS(status), 42);
    ck_assert_int_eq(ask(&m, "scene@0"), 1);
    ck_assert_uint_eq(rr_lookup(m.system, "scene@0"), y);
    leave(&b);
    leave(&m);
    clean_up();
}
END_TEST

START_TEST(a_killed_process_is_replaced) {
    node_t m, b;
    probe_t two = {0};
    int to, status;
    set_up();
    pid_t child = fork_node(&to);
    start(&m, "front", NULL);
    start(&b, "side", &m);
    tell_address(to, &m);
    until(rr_lookup(b.system, "scene@0") != RR_NOBODY);
    ck_assert_int_eq(kill(child, SIGKILL), 0);
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    until(rr_cluster_nodes(m.cluster, NULL, 0) == 2);
    until(rr_lookup(b.system, "scene@0") == RR_NOBODY);
    rr_addr_t y = spawn(&b, "scene@0", &two);
    until(two.started && rr_lookup(m.system, "scene@0") == y);
    leave(&b);
    leave(&m);
    clean_up();
}
END_TEST

START_TEST(who_may_not_join) {
    node_t m, a, twin, other;
    rr_cluster_options_t options;
    rr_mesh_options_t mesh;
    set_up();
    start(&m, "front", NULL);
    start(&a, "back", &m);
    until(count_nodes(&m) == 2);
    options_for(&options, &mesh, "back", m.address);
    ck_assert_int_eq(try_start(&twin, &options), RR_EREFUSED);
    ck_assert_ptr_nonnull(strstr(twin.why, "alive already"));
    options_for(&options, &mesh, "third", m.address);
    options.group = "another";
    ck_assert_int_eq(try_start(&other, &options), RR_EREFUSED);
    ck_assert_ptr_nonnull(strstr(other.why, "group"));
    options_for(&options, &mesh, "third", m.address);
    options.key = "wrong";
    options.key_size = 5;
    ck_assert_int_eq(try_start(&other, &options), RR_EACCES);
    options_for(&options, &mesh, "third", a.address); /* not the master */
    ck_assert_int_eq(try_start(&other, &options), RR_EREFUSED);
    ck_assert_ptr_nonnull(strstr(other.why, "not the group's master"));
    options_for(&options, &mesh, "front", NULL); /* a second master on the same state */
    ck_assert_int_eq(try_start(&other, &options), RR_EEXIST);
    options_for(&options, &mesh, "third", "tcp://127.0.0.1:1");
    options.join_ms = 300;
    ck_assert_int_eq(try_start(&other, &options), RR_TIMEOUT);
    leave(&a);
    leave(&m);
    clean_up();
}
END_TEST

START_TEST(a_name_of_somebody_alive_is_refused) {
    node_t m, a, b;
    probe_t one = {0}, two = {0};
    set_up();
    start(&m, "front", NULL);
    start(&a, "back", &m);
    start(&b, "side", &m);
    rr_addr_t x = spawn(&a, "scene@0", &one);
    until(rr_lookup(b.system, "scene@0") == x);
    rr_addr_t y = spawn(&b, "scene@0", &two);
    until(rr_lookup(b.system, "scene@0") == x); /* its own is ended, without having begun */
    ck_assert_uint_ne(x, y);
    ck_assert_int_eq(two.started, 0);
    ck_assert_int_eq(ask(&b, "scene@0"), 1);
    leave(&b);
    leave(&a);
    leave(&m);
    clean_up();
}
END_TEST

START_TEST(tools_ask_and_drain) {
    node_t m, a;
    probe_t one = {0};
    char why[512], *json = NULL;
    set_up();
    start(&m, "front", NULL);
    start(&a, "back", &m);
    spawn(&a, "scene@0", &one);
    until(rr_lookup(m.system, "scene@0") != RR_NOBODY);
    for (int i = 0; i < 3; i++) {
        int rc = rr_cluster_query(m.address, "world", NULL, 0, 5000, &json, why, sizeof why);
        ck_assert_msg(rc == RR_OK, "%s", why);
        json_t *root = json_loads(json, 0, NULL);
        ck_assert_msg(root != NULL, "%s", json);
        ck_assert_uint_eq(json_array_size(json_object_get(root, "nodes")), 2);
        ck_assert_uint_eq(json_array_size(json_object_get(root, "names")), 1);
        ck_assert_uint_eq(json_array_size(json_object_get(root, "links")), 2);
        json_decref(root);
        free(json);
    }
    ck_assert_uint_eq(count_nodes(&a), 2); /* tools are no members */
    until(rr_mesh_list(rr_cluster_mesh(m.cluster), NULL, 0) == 1); /* and leave nothing behind */
    ck_assert_int_eq(rr_cluster_query(a.address, "world", NULL, 0, 3000, &json, why, sizeof why), RR_EREFUSED);
    ck_assert_int_eq(rr_cluster_drain_node(m.address, "world", NULL, 0, "nobody", 3000, why, sizeof why), RR_ENOENT);
    ck_assert_ptr_nonnull(strstr(why, "no node named nobody"));
    ck_assert_int_eq(rr_cluster_drain_node(m.address, "world", NULL, 0, "back", 700, why, sizeof why), RR_TIMEOUT);
    ck_assert_int_eq(a.drains, 1);
    leave(&a);
    leave(&m);
    clean_up();
}
END_TEST

CHECK_MAIN("cluster", names_are_seen_everywhere, the_master_is_started_anew, the_new_master_has_a_members_number,
           a_node_dies_and_another_takes_over, a_restart_in_its_place_takes_over_at_once,
           who_is_said_to_be_dead_is_not_waited_for, a_stopped_process_comes_back, a_killed_process_is_replaced, who_may_not_join, a_name_of_somebody_alive_is_refused, tools_ask_and_drain)
