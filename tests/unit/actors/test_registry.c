/* The builtin registry: the suite that every driver must pass, and what is the master's own: its state file, its joiners. */
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "actors/master.h"
#include "actors/state_file.h"
#include "tests/unit/actors/registry_suite.h"

/* ---- The driver ---- */

static rr_master_t *masters[NODES];
static uint32_t term = 100;

static void keeper_start(node_t *node, bool grace) {
    rr_master_options_t options = {.self = node->who,
                                   .name = "broker@0",
                                   .term = ++term,
                                   .grace = grace,
                                   .lease_ms = LEASE_MS,
                                   .margin_ms = MARGIN_MS,
                                   .max_nodes = 1024,
                                   .max_names = 65536};
    MUST(rr_master_create(node->system, &options, &masters[node->who.node]) == RR_OK);
    node->who.service = rr_master_addr(masters[node->who.node]);
}

static void keeper_stop(node_t *node) { rr_master_free(masters[node->who.node]); }

const suite_driver_t suite_driver = {&rr_registry_builtin, keeper_start, keeper_stop};

/* ---- A later master ---- */

START_TEST(a_later_master_deposes_the_earlier) {
    job_t at_old, job;
    begin();
    unsigned old = world.keeper, a = start_node();
    spawn_job(old, 1, &at_old);
    spawn_job(a, 0, &job);
    advance(1000);
    restart_keeper(); /* while the earlier one lives: somebody gave it another state file */
    advance(1000);
    ck_assert(!rr_master_is_deposed(masters[old]));
    add_route(a, old); /* the later one knows nothing of it */
    ck_assert_int_eq(rr_member_master(world.nodes[a].member, &world.nodes[old].who), RR_OK); /* and so hears of the later */
    advance(1000);
    ck_assert(rr_master_is_deposed(masters[old]));
    uint64_t turns = at_old.turns;
    advance(5000);
    ck_assert_uint_eq(at_old.turns, turns);
    finish();
}
END_TEST

START_TEST(who_may_join) {
    char why[256];
    begin();
    rr_master_t *master = masters[world.keeper];
    rr_node_identity_t first = {.incarnation = 11, .group = "world", .name = "back"}, second = first, nameless = first;
    ck_assert_int_eq(rr_master_join(master, &first, why, sizeof why), RR_OK);
    ck_assert_uint_ne(first.node, 0);
    second.incarnation = 12; /* the first never came: its place is free */
    ck_assert_int_eq(rr_master_join(master, &second, why, sizeof why), RR_OK);
    ck_assert_uint_gt(second.node, first.node);
    nameless.name[0] = '\0';
    ck_assert_int_eq(rr_master_join(master, &nameless, why, sizeof why), RR_EREFUSED);
    world.next_id = 20; /* a node named node-20, alive */
    unsigned a = start_node();
    advance(500);
    rr_node_identity_t twin = world.nodes[a].who;
    twin.incarnation = 13;
    ck_assert_int_eq(rr_master_join(master, &twin, why, sizeof why), RR_EREFUSED);
    ck_assert_ptr_nonnull(strstr(why, "alive already"));
    job_t before, after;
    spawn_job(a, 0, &before);
    advance(500);
    rr_master_link(master, a, world.nodes[a].who.incarnation, false); /* its connection is gone: it may well be dead */
    ck_assert_int_eq(rr_master_join(master, &twin, why, sizeof why), RR_OK);
    advance(6000); /* it was not: it is told so */
    ck_assert_int_eq(world.nodes[a].lost, 1);
    unsigned b = start_node();
    spawn_job(b, 0, &after);
    advance(LEASE_MS + MARGIN_MS + 1000);
    ck_assert_int_eq(after.started, 1);
    finish();
}
END_TEST

/* ---- The state file ---- */

static char folder[] = "/tmp/rr-test-registry-XXXXXX", path[96];

static void make_folder(void) {
    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/deep/world.state", folder);
}

static void drop_folder(void) {
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    ck_assert_int_eq(system(command), 0);
}

START_TEST(terms_grow) {
    rr_state_file_t one, two;
    char why[256];
    make_folder();
    ck_assert_int_eq(rr_state_file_open(path, &one, why, sizeof why), RR_OK);
    ck_assert(one.grace); /* nothing is known of earlier ones */
    ck_assert_int_eq(rr_state_file_open(path, &two, why, sizeof why), RR_EEXIST);
    ck_assert_ptr_nonnull(strstr(why, "another master"));
    uint32_t last = one.term;
    unsigned id = one.first_id;
    rr_state_file_close(&one, false); /* others may own names */
    ck_assert_int_eq(rr_state_file_open(path, &one, why, sizeof why), RR_OK);
    ck_assert_uint_gt(one.term, last);
    ck_assert(one.grace);
    ck_assert_uint_eq(one.first_id, id + RR_STATE_IDS);
    last = one.term;
    rr_state_file_close(&one, true);
    ck_assert_int_eq(rr_state_file_open(path, &one, why, sizeof why), RR_OK);
    ck_assert(!one.grace);
    ck_assert_uint_gt(one.term, last);
    rr_state_file_close(&one, true);
    drop_folder();
}
END_TEST

START_TEST(a_lost_file_costs_only_time) {
    rr_state_file_t one;
    char why[256];
    make_folder();
    ck_assert_int_eq(rr_state_file_open(path, &one, why, sizeof why), RR_OK);
    uint32_t last = one.term;
    unsigned number = one.first_id;
    rr_state_file_close(&one, true);
    ck_assert_int_eq(unlink(path), 0);
    struct timespec pause = {1, 100000000}; /* terms follow the clock, whose unit is a second */
    nanosleep(&pause, NULL);
    ck_assert_int_eq(rr_state_file_open(path, &one, why, sizeof why), RR_OK);
    ck_assert_uint_gt(one.term, last);
    ck_assert_uint_ne(one.first_id, number); /* but once in 63,486 times */
    ck_assert(one.grace);
    rr_state_file_close(&one, true);
    drop_folder();
}
END_TEST

START_TEST(a_damaged_file_is_refused) {
    rr_state_file_t one;
    char why[256];
    make_folder();
    ck_assert_int_eq(rr_state_file_open(path, &one, why, sizeof why), RR_OK);
    rr_state_file_close(&one, true);
    int fd = open(path, O_WRONLY | O_TRUNC);
    ck_assert_int_eq(write(fd, "redrab", 6), 6);
    close(fd);
    ck_assert_int_eq(rr_state_file_open(path, &one, why, sizeof why), RR_EIO);
    ck_assert_ptr_nonnull(strstr(why, "damaged"));
    fd = open(path, O_WRONLY | O_TRUNC);
    ck_assert_int_eq(write(fd, "redrabbit-group-state 2\nterms", 29), 29);
    close(fd);
    ck_assert_int_eq(rr_state_file_open(path, &one, why, sizeof why), RR_EUNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(why, "another version"));
    ck_assert_int_eq(unlink(path), 0);
    ck_assert_int_eq(mkdir(path, 0700), 0); /* cannot be renamed to */
    ck_assert_int_ne(rr_state_file_open(path, &one, why, sizeof why), RR_OK);
    ck_assert_int_eq(rmdir(path), 0);
    ck_assert_int_eq(mkfifo(path, 0600), 0); /* nobody is waited for who might write it */
    ck_assert_int_eq(rr_state_file_open(path, &one, why, sizeof why), RR_EINVAL);
    ck_assert_ptr_nonnull(strstr(why, "not a file"));
    drop_folder();
}
END_TEST

CHECK_MAIN("registry", REGISTRY_SUITE, a_later_master_deposes_the_earlier, who_may_join, terms_grow,
           a_lost_file_costs_only_time, a_damaged_file_is_refused)
