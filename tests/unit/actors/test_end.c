/* Ends: a scene that crashes, its successor, drain, stop. */
#include "fixture.h"

static rr_addr_t supervise(size_t i) {
    rr_addr_t addr;
    rr_child_t child = {.restart = RR_RESTART_TRANSIENT};
    rr_scene_spec(&node.scenes[i], &child.spawn);
    rr_supervisor_t spec = {.children = &child, .child_count = 1, .max_restarts = 100};
    ck_assert_int_eq(rr_supervisor_spawn(node.system, &spec, &addr), RR_OK);
    return addr;
}

static void start_supervised(void) {
    prepare();
    node.scene_count = 0;
    ck_assert_int_eq(rr_system_start(node.system), RR_OK);
    supervise(0);
    supervise(1);
    start_gate();
    await_line("ready");
    await_line("scene@1 loaded");
}

START_TEST(sessions_of_a_crashed_scene_are_closed_and_others_served) {
    start_supervised();
    client_t *a = log_in("alice"), *b = log_in("bob");
    tell(b, 1, "move:scene@1");
    expect(b, 100, "welcome");
    tell(b, 1, "crash");
    expect_closed(b);
    await_metric("rr_gate_closes_total{gate=\"gate@0\",reason=\"scene_gone\"}", 1);
    await_line("scene@0 offline bob scene_gone"); /* the login scene hears of it */
    expect(a, 99, "scene@0 offline bob");
    expect_silence(a);
    while (times_noted("scene@1 loaded") < 2)
        usleep(1000); /* its supervisor restarts it: wait for the successor */
    tell(a, 1, "move:scene@1");
    expect(a, 100, "welcome");
    expect_silence(a);
    hang_up(a);
    hang_up(b);
    finish();
}
END_TEST

START_TEST(a_login_scene_comes_back_and_knows_who_is_online) {
    start_supervised();
    client_t *a = log_in("alice"), *b = log_in("bob");
    tell(b, 1, "move:scene@1");
    expect(b, 100, "welcome");
    tell(a, 1, "crash");
    expect_closed(a);
    expect_silence(b);                                   /* held elsewhere: it stays */
    await_metric("rr_scene_away{scene=\"scene@0\"}", 1); /* the successor was told */
    client_t *c = log_in("carol"), *b2 = log_in("bob");
    expect_closed(b);
    await_line("scene@1 offline bob replaced");
    await_line("scene@0 offline bob replaced");
    expect(c, 99, "scene@0 offline bob");
    expect_silence(b2);
    expect_silence(c);
    hang_up(a);
    hang_up(b);
    hang_up(b2);
    hang_up(c);
    finish();
}
END_TEST

/* Nor is it said of that one, which was never cancelled, that it ignores it. */
START_TEST(behind_a_handler_that_was_cancelled_none_begins) {
    prepare();
    node.scenes[0].offline_wait_ms = 200;
    start();
    client_t *a = log_in("alice");
    tell(a, 1, "wait");
    tell(a, 1, "echo:behind it");
    await_metric("rr_scene_queued{scene=\"scene@0\"}", 1);
    ck_assert_int_eq(drain_node(), RR_OK);
    ck_assert_int_lt(await_line("scene@0 cancel alice"), await_line("scene@0 offline alice drain"));
    ck_assert(!was_noted("scene@0 message alice 1 echo:behind it"));
    hang_up(a);
    stop_node();
}
END_TEST

START_TEST(listening_begins_when_the_login_scene_serves) {
    prepare();
    ck_assert_int_eq(rr_system_start(node.system), RR_OK);
    start_gate();
    client_t *a = dial(); /* in the kernel's backlog */
    tell(a, 0, "alice");
    ck_assert(!was_noted("ready"));
    start_scene(0);
    start_scene(1);
    await_line("ready");
    expect(a, 100, "welcome");
    hang_up(a);
    finish();
}
END_TEST

START_TEST(a_port_in_use_is_known_at_once) {
    prepare();
    start();
    rr_gate_t *other;
    char why[300];
    node.listen.address.port = rr_gate_port(node.gate, 0);
    node.options.name = "gate@1";
    ck_assert_int_eq(rr_gate_create(node.system, node.loops, LOOPS, &node.options, &other, why, sizeof(why)),
                     RR_EADDRINUSE);
    ck_assert_ptr_nonnull(strstr(why, "gate@1: cannot listen on tcp://127.0.0.1:"));
    finish();
}
END_TEST

START_TEST(drain) {
    prepare();
    start();
    client_t *a = log_in("alice"), *b = log_in("bob");
    tell(b, 1, "move:scene@1");
    expect(b, 100, "welcome");
    for (int i = 0; i < 100; i++)
        tell(a, (uint16_t)(200 + i), "echo:x");
    expect(a, 200, "echo:x"); /* the rest is on its way */
    ck_assert_int_eq(drain_node(), RR_OK);
    for (int i = 1; hear(a) && a->cmd >= 200; i++) /* what was received is answered, as far as it was received */
        ck_assert_uint_eq(a->cmd, 200 + i);
    expect_closed(b);
    await_line("scene@0 offline alice drain");
    await_line("scene@0 offline bob drain");
    int offline = await_line("scene@1 offline bob drain"), cleanup = await_line("scene@1 cleanup");
    ck_assert_int_lt(offline, cleanup);
    ck_assert_int_lt(cleanup, await_line("scene@1 destroyed"));
    ck_assert_uint_eq(times_noted("scene@0 offline alice*"), 1);
    ck_assert_uint_eq(times_noted("scene@0 offline bob*"), 1);
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)rr_gate_port(node.gate, 0)),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert_int_ne(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0); /* nobody listens */
    close(fd);
    hang_up(a);
    hang_up(b);
    stop_node();
}
END_TEST

START_TEST(drain_tells_those_who_are_still_there) {
    prepare();
    node.scene_count = 1;
    start();
    client_t *clients[3];
    unsigned heard = 0;
    for (int i = 0; i < 3; i++) {
        char name[16];
        snprintf(name, sizeof(name), "c%d", i);
        clients[i] = log_in(name);
    }
    ck_assert_int_eq(drain_node(), RR_OK);
    for (int i = 0; i < 3; i++) {
        while (hear(clients[i]))
            heard += clients[i]->cmd == 99;
        hang_up(clients[i]);
    }
    ck_assert_uint_eq(heard, 2 + 1 + 0); /* the first's offline to two, the second's to one */
    stop_node();
}
END_TEST

START_TEST(stop_without_drain_leaks_nothing) {
    prepare();
    start();
    client_t *a = log_in("alice"), *b = dial();
    tell(a, 1, "wait");
    tell(a, 1, "echo:queued");
    tell(b, 0, "late:bob");
    await_metric("rr_scene_queued{scene=\"scene@0\"}", 1);
    stop_node();
    hang_up(a);
    hang_up(b);
}
END_TEST

START_TEST(killed_scene_frees_what_it_held) {
    prepare();
    start();
    client_t *a = log_in("alice"), *b = dial();
    tell(a, 1, "wait");
    tell(a, 1, "echo:queued");
    tell(b, 0, "late:bob");
    await_metric("rr_scene_queued{scene=\"scene@0\"}", 1);
    await_line("scene@0 verify late:bob from 127.0.0.1 by gate@0");
    rr_kill(node.system, node.addresses[0], RR_CANCELLED);
    expect_closed(a);
    expect_closed(b);
    await_line("scene@0 destroyed");
    client_t *c = dial();
    tell(c, 0, "carol"); /* no login scene: refused, not kept waiting */
    expect_closed(c);
    hang_up(a);
    hang_up(b);
    hang_up(c);
    finish();
}
END_TEST

CHECK_MAIN("end", sessions_of_a_crashed_scene_are_closed_and_others_served,
           a_login_scene_comes_back_and_knows_who_is_online, behind_a_handler_that_was_cancelled_none_begins,
           listening_begins_when_the_login_scene_serves,
           a_port_in_use_is_known_at_once, drain, drain_tells_those_who_are_still_there,
           stop_without_drain_leaks_nothing, killed_scene_frees_what_it_held)
