/* Logins: verdicts, the registry, one live session per id (spec.md 5.1, 5.2, 5.4). */
#include "fixture.h"

START_TEST(accepted_then_served_in_order) {
    prepare();
    start();
    client_t *a = dial();
    tell(a, 0, "extra:alice");
    tell(a, 1, "echo:1"); /* pipelined behind the login */
    tell(a, 2, "echo:2");
    expect(a, 0, "extra");
    expect(a, 100, "welcome");
    expect(a, 1, "echo:1");
    expect(a, 2, "echo:2");
    ck_assert(was_noted("scene@0 verify extra:alice from 127.0.0.1 by gate@0"));
    ck_assert(was_noted("scene@0 enter alice from '' extra ''"));
    ck_assert_uint_eq(rr_gate_sessions(node.gate), 1);
    hang_up(a);
    await_line("scene@0 offline alice peer");
    finish();
}
END_TEST

START_TEST(refused_closes) {
    prepare();
    start();
    client_t *a = dial(), *b = dial();
    tell(a, 0, "no");
    expect_closed(a);
    tell(b, 5, "redirect");
    expect(b, 0, "extra");
    expect_closed(b);
    await_metric("rr_gate_closes_total{gate=\"gate@0\",reason=\"refused\"}", 2);
    hang_up(a);
    hang_up(b);
    finish();
}
END_TEST

START_TEST(second_login_replaces_the_first) {
    prepare();
    start();
    client_t *a = log_in("alice"), *b = log_in("alice");
    expect_closed(a);
    int offline = await_line("scene@0 offline alice replaced");
    pthread_mutex_lock(&happened.lock);
    int first = find_line("scene@0 enter alice from '' extra ''", 0);
    int second = find_line("scene@0 enter alice from '' extra ''", (size_t)first + 1);
    pthread_mutex_unlock(&happened.lock);
    ck_assert_int_lt(first, offline);
    ck_assert_int_lt(offline, second); /* the newer enters when the older is gone */
    expect_silence(b);
    ck_assert_uint_eq(rr_gate_sessions(node.gate), 1);
    hang_up(a);
    hang_up(b);
    finish();
}
END_TEST

START_TEST(many_logins_of_one_id_leave_one) {
    prepare();
    start();
    client_t *clients[20];
    for (int i = 0; i < 20; i++) {
        clients[i] = dial();
        tell(clients[i], 0, "alice");
    }
    await_metric("rr_scene_replaced_total{scene=\"scene@0\"}", 19);
    await_metric("rr_scene_offlines_total{scene=\"scene@0\"}", 19);
    unsigned alive = 0;
    for (int i = 0; i < 20; i++) {
        tell(clients[i], 3, "echo:here");
        bool here = false;
        while (!here && hear(clients[i]))
            here = clients[i]->cmd == 3;
        alive += here;
    }
    ck_assert_uint_eq(alive, 1);
    ck_assert_uint_eq(rr_gate_sessions(node.gate), 1);
    for (int i = 0; i < 20; i++)
        hang_up(clients[i]);
    finish();
}
END_TEST

START_TEST(five_and_text_five_differ) {
    prepare();
    start();
    client_t *a = log_in("int:5"), *b = log_in("5");
    expect_silence(a);
    expect_silence(b);
    ck_assert_uint_eq(rr_gate_sessions(node.gate), 2);
    hang_up(a);
    hang_up(b);
    finish();
}
END_TEST

START_TEST(digit_strings_become_ints_if_the_gate_says_so) {
    prepare();
    node.options.session_id_int = true;
    start();
    client_t *a = log_in("5");
    ck_assert(was_noted("scene@0 enter #5 from '' extra ''"));
    client_t *b = log_in("05x");
    ck_assert(was_noted("scene@0 enter 05x from '' extra ''"));
    hang_up(a);
    hang_up(b);
    finish();
}
END_TEST

START_TEST(zero_and_overlong_ids_are_refused) {
    prepare();
    start();
    char key[300];
    memset(key, 'x', 256);
    key[256] = 0;
    client_t *a = dial(), *b = dial(), *c = dial();
    tell(a, 0, "int:0");
    tell(b, 0, key);
    tell(c, 0, "");
    expect_closed(a);
    expect_closed(b);
    expect_closed(c);
    key[255] = 0; /* 255 bytes are fine */
    client_t *d = log_in(key);
    hang_up(a);
    hang_up(b);
    hang_up(c);
    hang_up(d);
    finish();
}
END_TEST

START_TEST(late_verdict) {
    prepare();
    start();
    client_t *boss = log_in("boss"), *a = dial();
    tell(a, 0, "late:alice");
    tell(a, 1, "echo:early");
    await_line("scene@0 verify late:alice from 127.0.0.1 by gate@0");
    ck_assert(!was_noted("scene@0 enter alice from '' extra ''"));
    tell(boss, 1, "verdict:alice");
    expect(a, 0, "late");
    expect(a, 100, "welcome");
    expect(a, 1, "echo:early");
    ck_assert(was_noted("scene@0 verdict 0"));
    char again[40];
    snprintf(again, sizeof(again), "scene@0 again %d", RR_ENOENT);
    await_line(again);
    client_t *b = dial();
    tell(b, 0, "late:bob");
    await_line("scene@0 verify late:bob from 127.0.0.1 by gate@0");
    tell(boss, 1, "reject:bob");
    expect(b, 0, "late");
    expect_closed(b);
    client_t *c = dial();
    tell(c, 0, "inside:carol");
    expect(c, 100, "welcome");
    hang_up(a);
    hang_up(b);
    hang_up(c);
    hang_up(boss);
    finish();
}
END_TEST

START_TEST(client_that_left_before_the_answer_goes_offline_without_entering) {
    prepare();
    start();
    client_t *boss = log_in("boss"), *a = dial();
    tell(a, 0, "late:alice");
    await_line("scene@0 verify late:alice from 127.0.0.1 by gate@0");
    hang_up(a);
    await_metric("rr_gate_closes_total{gate=\"gate@0\",reason=\"peer\"}", 1);
    expect_silence(boss); /* the scene has heard of it */
    tell(boss, 1, "verdict:alice");
    await_line("scene@0 offline alice peer");
    ck_assert(!was_noted("scene@0 enter alice from '' extra ''"));
    hang_up(boss);
    finish();
}
END_TEST

START_TEST(no_answer_in_time_is_a_no) {
    prepare();
    node.scenes[0].verify_timeout_ms = 100;
    start();
    client_t *a = dial();
    tell(a, 0, "late:alice");
    expect_closed(a);
    await_metric("rr_scene_verify_timeouts_total{scene=\"scene@0\"}", 1);
    hang_up(a);
    finish();
}
END_TEST

START_TEST(an_older_session_that_does_not_end_is_put_out) {
    prepare();
    node.scenes[0].kick_wait_ms = 300;
    node.scenes[0].offline_wait_ms = 60000;
    start();
    client_t *a = log_in("stubborn");
    tell(a, 1, "wait");
    await_line("scene@0 message stubborn 1 wait");
    client_t *b = log_in("stubborn"); /* comes in though the older one's handler never ends */
    await_line("scene@0 offline stubborn replaced");
    expect_silence(b);
    hang_up(a);
    hang_up(b);
    finish();
}
END_TEST

START_TEST(without_a_verifier_the_key_is_the_id) {
    prepare();
    node.scenes[0].logic = rr_logic_find("echo");
    start();
    client_t *a = dial();
    tell(a, 0, "alice");
    tell(a, 12, "hello");
    expect(a, 12, "hello");
    client_t *b = dial();
    tell(b, 0, "");
    expect_closed(b);
    hang_up(a);
    hang_up(b);
    finish();
}
END_TEST

CHECK_MAIN("login", accepted_then_served_in_order, refused_closes, second_login_replaces_the_first,
           many_logins_of_one_id_leave_one, five_and_text_five_differ, digit_strings_become_ints_if_the_gate_says_so,
           zero_and_overlong_ids_are_refused, late_verdict,
           client_that_left_before_the_answer_goes_offline_without_entering, no_answer_in_time_is_a_no,
           an_older_session_that_does_not_end_is_put_out, without_a_verifier_the_key_is_the_id)
