/* Sessions that outlive their scene: scene_lost wait and relogin, logins that wait, second logins afterwards. */
#include "fixture.h"

static void supervise(size_t i) {
    rr_addr_t addr;
    rr_child_t child = {.restart = RR_RESTART_TRANSIENT};
    rr_scene_spec(&node.scenes[i], &child.spawn);
    rr_supervisor_t spec = {.children = &child, .child_count = 1, .max_restarts = 100};
    ck_assert_int_eq(rr_supervisor_spawn(node.system, &spec, &addr), RR_OK);
}

static void start_with(rr_scene_lost_t lost, bool supervised) {
    node.options.scene_lost = lost;
    ck_assert_int_eq(rr_system_start(node.system), RR_OK);
    for (size_t i = 0; i < 2; i++) {
        if (supervised)
            supervise(i);
        else
            start_scene(i);
    }
    start_gate();
    await_line("ready");
    await_line("scene@1 loaded");
}

/* Ends a scene that nobody restarts, and waits until the gate knows of `lost` sessions that wait. */
static void kill_scene(size_t i, unsigned lost) {
    rr_kill(node.system, node.addresses[i], RR_CANCELLED);
    while (rr_lookup(node.system, node.scenes[i].name) != RR_NOBODY)
        usleep(500); /* nothing tells a thread outside */
    await_metric("rr_gate_lost", lost);
}

static client_t *log_in_at(const char *key, const char *scene) {
    client_t *client = log_in(key);
    char order[80];
    snprintf(order, sizeof(order), "move:%s", scene);
    tell(client, 1, order);
    expect(client, 100, "welcome");
    return client;
}

START_TEST(a_restarted_scene_gets_its_sessions_back) {
    prepare();
    start_with(RR_LOST_WAIT, true);
    client_t *a = log_in("alice"), *b = log_in_at("bob", "scene@1"), *c = log_in("carol");
    tell(b, 1, "crash");
    expect(b, 100, "welcome"); /* of the successor; the socket is the same */
    await_line("scene@1 enter bob from 'scene@1' extra 'x'"); /* its own name, and the last enter's extra */
    expect_silence(b);
    tell(c, 1, "crash"); /* the login scene: alice and carol are there, bob is registered there */
    expect(a, 100, "welcome");
    expect(c, 100, "welcome");
    await_line("scene@0 enter alice from 'scene@0' extra ''");
    expect_silence(a);
    expect_silence(b);
    await_metric("rr_scene_away{scene=\"scene@0\"}", 1);
    tell(a, 1, "all:from zero");
    expect(a, 1, "from zero");
    expect(c, 1, "from zero");
    client_t *a2 = log_in("alice"), *b2 = log_in("bob"); /* the ids are known again: the older ones go */
    expect_closed(a);
    expect_closed(b);
    await_line("scene@0 offline alice replaced");
    await_line("scene@1 offline bob replaced");
    await_line("scene@0 offline bob replaced");
    expect(c, 99, "scene@0 offline alice");
    hang_up(a2);
    while (times_noted("scene@0 offline alice*") < 2)
        usleep(500);
    ck_assert(metric("rr_gate_resumes_total") == 3);
    ck_assert(metric("rr_gate_lost") == 0);
    hang_up(a);
    hang_up(b);
    hang_up(b2);
    hang_up(c);
    finish();
}
END_TEST

START_TEST(held_input_arrives_whole_and_in_order) {
    prepare();
    start_with(RR_LOST_WAIT, false);
    client_t *a = log_in_at("alice", "scene@1"), *b = log_in_at("bob", "scene@1");
    static char big[20000];
    char text[32];
    memset(big, 'b', sizeof(big));
    kill_scene(1, 2);
    for (int i = 0; i < 500; i++) {
        snprintf(text, sizeof(text), "%d", i);
        tell(a, 6, text);
    }
    put_message(a, 7, big, sizeof(big));
    hang_up(b); /* who leaves meanwhile is not brought there */
    await_line("scene@0 offline bob peer");
    start_scene(1);
    expect(a, 100, "welcome");
    for (int i = 0; i < 500; i++) {
        snprintf(text, sizeof(text), "%d %d", i, i + 1); /* each once: the count is the number */
        expect(a, 6, text);
    }
    ck_assert(hear(a) && a->cmd == 7 && a->size == sizeof(big) && !memcmp(a->body, big, sizeof(big)));
    ck_assert(!was_noted("scene@1 enter bob from 'scene@1' extra 'x'"));
    hang_up(a);
    finish();
}
END_TEST

START_TEST(limits_of_time_and_input) {
    prepare();
    node.options.scene_wait_ms = 400;
    node.options.queue_messages = 5;
    start_with(RR_LOST_WAIT, false);
    client_t *a = log_in_at("alice", "scene@1"), *b = log_in_at("bob", "scene@1");
    kill_scene(1, 2);
    for (int i = 0; i < 6; i++)
        tell(a, 6, "x");
    expect_closed(a); /* at once */
    ck_assert(metric("rr_gate_limit_hits_total{gate=\"gate@0\",limit=\"queue\"}") == 1);
    expect_closed(b); /* when its time is up */
    await_metric("rr_gate_closes_total{gate=\"gate@0\",reason=\"scene_gone\"}", 2);
    await_line("scene@0 offline alice scene_gone");
    await_line("scene@0 offline bob scene_gone");
    ck_assert(metric("rr_gate_lost") == 0);
    hang_up(a);
    hang_up(b);
    finish();
}
END_TEST

START_TEST(a_second_login_kicks_one_that_waits) {
    prepare();
    start_with(RR_LOST_WAIT, false);
    client_t *a = log_in_at("alice", "scene@1");
    kill_scene(1, 1);
    client_t *a2 = log_in("alice");
    expect_closed(a);
    await_line("scene@0 offline alice replaced");
    start_scene(1);
    tell(a2, 1, "move:scene@1");
    expect(a2, 100, "welcome");
    expect_silence(a2);
    ck_assert_uint_eq(times_noted("scene@1 enter alice from 'scene@1'*"), 0);
    hang_up(a);
    hang_up(a2);
    finish();
}
END_TEST

/* The target's enter runs on while the old scene dies: it must give the session up. */
START_TEST(a_move_whose_scene_dies_is_given_up) {
    prepare();
    node.scenes[1].offline_wait_ms = 200; /* of the enter that never ends there */
    start_with(RR_LOST_WAIT, false);
    client_t *a = dial(), *b = log_in("bob");
    tell(a, 0, "slow-alice");
    await_line("scene@0 enter slow-alice from '' extra ''");
    tell(b, 1, "go:slow-alice");
    tell(a, 1, "move:scene@1");
    await_line("scene@1 enter slow-alice from 'scene@0' extra 'x'"); /* and waits there */
    tell(a, 6, "1");
    tell(a, 6, "2");
    kill_scene(0, 2);
    start_scene(0);
    expect(b, 100, "welcome");
    await_line("scene@0 enter slow-alice from 'scene@0' extra ''"); /* the extra of the enter that counts */
    tell(b, 1, "go:slow-alice");
    expect(a, 6, "1 1");
    expect(a, 6, "2 2");
    expect_silence(a);
    hang_up(a);
    await_line("scene@0 offline slow-alice peer");
    ck_assert_uint_eq(times_noted("scene@1 offline slow-alice*"), 0);
    hang_up(b);
    finish();
}
END_TEST

START_TEST(relogin) {
    prepare();
    start_with(RR_LOST_RELOGIN, false);
    client_t *a = dial();
    tell(a, 0, "extra:alice");
    expect(a, 0, "extra");
    expect(a, 100, "welcome");
    tell(a, 1, "move:scene@1");
    expect(a, 100, "welcome");
    rr_kill(node.system, node.addresses[1], RR_CANCELLED);
    await_line("scene@0 offline alice scene_gone"); /* that login is over … */
    expect(a, 100, "welcome");                      /* … and the next one brings no extra: the client knows of none */
    ck_assert_uint_eq(times_noted("scene@0 verify extra:alice from 127.0.0.1 by gate@0"), 2);
    ck_assert_uint_eq(times_noted("scene@0 enter alice from '' extra ''"), 2);
    expect_silence(a);
    client_t *a2 = log_in("alice");
    expect_closed(a);
    expect_silence(a2);
    ck_assert(metric("rr_gate_sessions") == 1);
    hang_up(a);
    hang_up(a2);
    finish();
}
END_TEST

START_TEST(relogin_when_the_login_scene_is_gone) {
    prepare();
    start_with(RR_LOST_RELOGIN, false);
    client_t *a = log_in("alice");
    char text[32];
    kill_scene(0, 1);
    for (int i = 0; i < 300; i++) { /* far more than a stranger may send behind a login */
        snprintf(text, sizeof(text), "%d", i);
        tell(a, 6, text);
    }
    start_scene(0);
    expect(a, 100, "welcome");
    for (int i = 0; i < 300; i++) {
        snprintf(text, sizeof(text), "%d %d", i, i + 1);
        expect(a, 6, text);
    }
    ck_assert(metric("rr_gate_relogins_total") == 1);
    ck_assert(metric("rr_gate_lost") == 0);
    hang_up(a);
    await_line("scene@0 offline alice peer");
    finish();
}
END_TEST

START_TEST(a_login_waits_for_the_login_scene) {
    prepare();
    start_with(RR_LOST_WAIT, false);
    rr_kill(node.system, node.addresses[0], RR_CANCELLED);
    while (rr_lookup(node.system, "scene@0") != RR_NOBODY)
        usleep(500);
    usleep(20000); /* most likely the loops know; both ways must work */
    client_t *a = dial(), *b = dial();
    tell(a, 0, "alice");
    tell(a, 3, "echo:behind it");
    tell(b, 0, "late:bob");
    start_scene(0);
    expect(a, 100, "welcome");
    expect(a, 3, "echo:behind it");
    await_line("scene@0 verify late:bob*");
    rr_kill(node.system, node.addresses[0], RR_CANCELLED); /* with a login unanswered: asked again */
    while (rr_lookup(node.system, "scene@0") != RR_NOBODY)
        usleep(500);
    start_scene(0);
    expect(a, 100, "welcome");
    while (times_noted("scene@0 verify late:bob*") < 2)
        usleep(500);
    tell(a, 1, "verdict:bob");
    expect(b, 0, "late");
    expect(b, 100, "welcome");
    hang_up(a);
    hang_up(b);
    finish();
}
END_TEST

START_TEST(drain_closes_those_that_wait) {
    prepare();
    start_with(RR_LOST_WAIT, false);
    client_t *a = log_in_at("alice", "scene@1");
    kill_scene(1, 1);
    ck_assert_int_eq(drain_node(), RR_OK);
    expect_closed(a);
    hang_up(a);
    stop_node();
}
END_TEST

CHECK_MAIN("survive", a_restarted_scene_gets_its_sessions_back, held_input_arrives_whole_and_in_order,
           limits_of_time_and_input, a_second_login_kicks_one_that_waits,
           a_move_whose_scene_dies_is_given_up, relogin, relogin_when_the_login_scene_is_gone,
           a_login_waits_for_the_login_scene, drain_closes_those_that_wait)
