/* Messages: one handler at a time, sends, broadcasts, services, timers (spec.md 5.2, 5.4, 5.5). */
#include "fixture.h"

START_TEST(one_handler_per_session_at_a_time) {
    prepare();
    start();
    client_t *a = log_in("alice"), *b = log_in("bob");
    tell(a, 1, "wait");
    tell(a, 2, "echo:second");
    tell(a, 3, "echo:third");
    tell(a, 9, "echo:passes"); /* waits too: it is behind messages that wait */
    tell(b, 1, "echo:others run");
    expect(b, 1, "echo:others run");
    await_metric("rr_scene_queued{scene=\"scene@0\"}", 3);
    ck_assert(!was_noted("scene@0 message alice 2 echo:second"));
    tell(b, 1, "go:alice");
    expect(a, 2, "echo:second");
    expect(a, 3, "echo:third");
    expect(a, 9, "echo:passes");
    tell(a, 1, "wait");
    tell(a, 9, "echo:concurrent"); /* opted out, and nothing is before it */
    expect(a, 9, "echo:concurrent");
    tell(b, 1, "go:alice");
    expect_silence(a);
    hang_up(a);
    hang_up(b);
    finish();
}
END_TEST

START_TEST(enter_is_finished_before_the_first_message) {
    prepare();
    start();
    client_t *boss = log_in("boss"), *a = dial();
    tell(a, 0, "slow-alice");
    tell(a, 1, "echo:1");
    await_line("scene@0 enter slow-alice from '' extra ''");
    await_metric("rr_scene_queued{scene=\"scene@0\"}", 1);
    ck_assert(!was_noted("scene@0 message slow-alice 1 echo:1"));
    tell(boss, 1, "all:heard while entering");
    expect(a, 1, "heard while entering"); /* its enter has begun */
    tell(boss, 1, "go:slow-alice");
    expect(a, 1, "echo:1");
    hang_up(a);
    hang_up(boss);
    finish();
}
END_TEST

START_TEST(nobody_hears_a_broadcast_before_its_own_enter) {
    prepare();
    start();
    client_t *boss = log_in("boss"), *a = dial();
    tell(a, 0, "late:alice");
    await_line("scene@0 verify late:alice from 127.0.0.1 by gate@0");
    tell(boss, 1, "all:not for alice");
    tell(boss, 1, "gate:gate@0");
    expect(boss, 1, "not for alice");
    expect(boss, 1, "to all");
    tell(boss, 1, "verdict:alice");
    expect(a, 0, "late");
    expect(a, 100, "welcome");
    tell(boss, 1, "all:for alice too");
    tell(boss, 1, "gate:gate@0");
    expect(a, 1, "for alice too");
    expect(a, 1, "to all");
    hang_up(a);
    hang_up(boss);
    finish();
}
END_TEST

START_TEST(sends_reach_sessions_held_here_only) {
    prepare();
    start();
    client_t *a = log_in("alice"), *b = log_in("bob");
    char line[100];
    tell(a, 1, "send:bob");
    expect(b, 1, "alice");
    tell(a, 1, "send:nobody");
    snprintf(line, sizeof(line), "scene@0 send nobody %d", RR_ENOENT);
    await_line(line);
    tell(a, 1, "multi:bob");
    expect(a, 1, "multi");
    expect(b, 1, "multi");
    await_line("scene@0 multi 2");
    tell(a, 1, "gate:nowhere@0");
    snprintf(line, sizeof(line), "scene@0 broadcast_gate %d", RR_ENOENT);
    await_line(line);
    tell(a, 1, "close:nobody");
    snprintf(line, sizeof(line), "scene@0 close nobody %d", RR_ENOENT);
    await_line(line);
    ck_assert_double_ge(metric("rr_scene_unknown_sessions_total{scene=\"scene@0\"}"), 3);
    hang_up(a);
    hang_up(b);
    finish();
}
END_TEST

START_TEST(close_flushes_first) {
    prepare();
    start();
    client_t *a = log_in("alice"), *b = log_in("bob");
    tell(a, 1, "bye");
    expect(a, 1, "last words");
    expect_closed(a);
    await_line("scene@0 offline alice kicked");
    expect(b, 99, "scene@0 offline alice");
    tell(b, 1, "close:alice"); /* gone: no more to close */
    expect_silence(b);
    ck_assert_uint_eq(times_noted("scene@0 offline alice kicked"), 1);
    hang_up(a);
    hang_up(b);
    finish();
}
END_TEST

START_TEST(unicasts_and_broadcasts_keep_one_order) {
    prepare();
    start();
    client_t *a = log_in("alice"), *b = log_in("bob");
    for (int i = 0; i < 300; i++) {
        char text[64];
        snprintf(text, sizeof(text), i % 3 == 0 ? "all:%d" : i % 3 == 1 ? "echo:%d" : "send:bob", i);
        tell(b, (uint16_t)(1000 + i), text);
    }
    for (int i = 0; i < 300; i++) {
        ck_assert(hear(b));
        ck_assert_uint_eq(b->cmd, 1000 + i);
    }
    for (int i = 0; i < 300; i += 3) {
        ck_assert(hear(a));
        ck_assert_uint_eq(a->cmd, 1000 + i);
    }
    hang_up(a);
    hang_up(b);
    finish();
}
END_TEST

/* Broadcasts one behind the other leave the gate as rows: more of them than a row holds, large ones in between, a unicast that
 * ends one. */
START_TEST(rows_of_broadcasts_arrive_whole_and_in_order) {
    prepare();
    start();
    client_t *a = log_in("alice"), *b = log_in("bob");
    static char body[1501];
    unsigned heard[2] = {0, 0};
    for (int i = 0; i < 400; i++) {
        int size = i % 200 == 103 ? 1500 : 20 + i % 500;
        memset(body, 'a' + i % 26, (size_t)size);
        memcpy(body, i % 90 == 89 ? "echo:" : "all:-", 5);
        body[size] = 0;
        tell(b, (uint16_t)(1000 + i), body);
    }
    for (int i = 0; i < 400; i++) {
        size_t size = (size_t)(i % 200 == 103 ? 1500 : 20 + i % 500);
        bool own = i % 90 == 89;
        for (int who = own; who < 2; who++) {
            client_t *c = who ? b : a;
            ck_assert(hear(c));
            ck_assert_uint_eq(c->cmd, 1000 + i);
            ck_assert_uint_eq(c->size, own ? size : size - 4);
            ck_assert_int_eq(c->body[c->size - 1], 'a' + i % 26);
            heard[who]++;
        }
    }
    ck_assert_uint_eq(heard[0], 396);
    await_metric("rr_gate_broadcasts_total{gate=\"gate@0\"}", 396);
    await_metric("rr_gate_messages_out_total{gate=\"gate@0\"}", heard[0] + heard[1]);
    hang_up(a);
    hang_up(b);
    finish();
}
END_TEST

/* The same with lists: one that stays, one that changes, one with somebody twice, broadcasts and large messages in between.
 * Each client gets everything of its own in order; who is in a list twice gets each message twice before the next. */
START_TEST(multicasts_arrive_whole_and_in_order) {
    static const struct {
        const char *ids;
        unsigned times[2]; /* for alice and for bob */
    } lists[] = {{"alice,bob", {1, 1}}, {"bob", {0, 1}}, {"bob,alice", {1, 1}}, {"alice,bob,alice", {2, 1}}};
    prepare();
    start();
    client_t *clients[2] = {log_in("alice"), log_in("bob")};
    char order[1560];
    unsigned heard = 0;
    for (int i = 0; i < 480; i++) {
        int size = i % 120 == 77 ? 1500 : 40 + i % 300; /* above and below what goes into a row */
        int head = i % 40 == 33 ? snprintf(order, sizeof(order), "all:")
                                : snprintf(order, sizeof(order), "many:%s ", lists[i / 100 % 4].ids);
        memset(order + head, 'a' + i % 26, (size_t)(size - head));
        order[size] = 0;
        tell(clients[1], (uint16_t)(1000 + i), order);
    }
    for (int i = 0; i < 480; i++)
        for (int who = 0; who < 2; who++) {
            unsigned times = i % 40 == 33 ? 1 : lists[i / 100 % 4].times[who];
            for (heard += times; times > 0; times--) {
                ck_assert(hear(clients[who]));
                ck_assert_uint_eq(clients[who]->cmd, 1000 + i);
                ck_assert_int_eq(clients[who]->body[0], 'a' + i % 26);
                ck_assert_int_eq(clients[who]->body[clients[who]->size - 1], 'a' + i % 26);
            }
        }
    await_metric("rr_gate_multicasts_total{gate=\"gate@0\"}", 468);
    await_metric("rr_gate_broadcasts_total{gate=\"gate@0\"}", 12);
    await_metric("rr_gate_messages_out_total{gate=\"gate@0\"}", heard);
    hang_up(clients[0]);
    hang_up(clients[1]);
    finish();
}
END_TEST

static void to_list(client_t *teller, const char *list, const char *sent, client_t *const *heard) {
    char order[64], line[64];
    snprintf(order, sizeof(order), "many:#%s hi", list);
    snprintf(line, sizeof(line), "scene@0 list %s", sent);
    unsigned before = times_noted(line);
    tell(teller, 3, order);
    for (; *heard; heard++)
        expect(*heard, 3, "hi");
    expect_silence(teller);
    ck_assert_uint_eq(times_noted(line), before + 1);
}

/* Whose the ids of a numbered list are is looked up anew when sessions have come or gone. */
START_TEST(lists_are_remembered_as_long_as_they_hold) {
    prepare();
    start();
    client_t *a = log_in("alice"), *b = log_in("bob");
    for (int i = 0; i < 2; i++)
        to_list(a, "17,alice,bob", "17 2", (client_t *[]){a, b, NULL});
    hang_up(b);
    expect(a, 99, "scene@0 offline bob");
    to_list(a, "17,alice,bob", "17 1", (client_t *[]){a, NULL});
    b = log_in("bob");
    to_list(a, "17,alice,bob", "17 2", (client_t *[]){a, b, NULL});
    to_list(a, "33,bob", "33 1", (client_t *[]){b, NULL}); /* in the same place */
    to_list(a, "17,alice,bob", "17 2", (client_t *[]){a, b, NULL});
    hang_up(a);
    hang_up(b);
    finish();
}
END_TEST

START_TEST(large_bodies_arrive_whole_and_in_order) {
    prepare();
    start();
    client_t *a = log_in("alice");
    static const size_t sizes[] = {0, 1, 4095, 4096, 4097, 70000, 5, 999999, 300000, 1};
    for (int round = 0; round < 3; round++)
        for (size_t i = 0; i < 10; i++) {
            char *body = malloc(sizes[i] + 1);
            memset(body, 'a' + (int)i, sizes[i]);
            put_message(a, 7, body, sizes[i]);
            free(body);
            ck_assert(hear(a));
            ck_assert_uint_eq(a->size, sizes[i]);
            ck_assert(sizes[i] == 0 || (a->body[0] == 'a' + (int)i && a->body[sizes[i] - 1] == 'a' + (int)i));
        }
    char *body = malloc(20001); /* a broadcast above the inline limit */
    memset(body, 'z', 20000);
    memcpy(body, "all:", 4);
    body[20000] = 0;
    hang_up(a);
    free(body);
    finish();
}
END_TEST

START_TEST(an_async_handler_may_finish_then_is_cancelled_and_offline_is_last) {
    prepare();
    node.scenes[0].offline_wait_ms = 300;
    start();
    client_t *boss = log_in("boss"), *a = log_in("alice"), *b = log_in("bob");
    tell(a, 1, "wait");
    tell(a, 2, "echo:unhandled");
    tell(b, 1, "wait");
    tell(b, 2, "echo:handled");
    await_line("scene@0 message alice 1 wait");
    await_line("scene@0 message bob 1 wait");
    hang_up(a);
    hang_up(b);
    await_metric("rr_gate_closes_total{gate=\"gate@0\",reason=\"peer\"}", 2);
    tell(boss, 1, "go:bob"); /* in time: what it said before it left is handled, too */
    int handled = await_line("scene@0 message bob 2 echo:handled"), bob = await_line("scene@0 offline bob peer");
    ck_assert_int_lt(handled, bob);
    int cancel = await_line("scene@0 cancel alice"), alice = await_line("scene@0 offline alice peer");
    ck_assert_int_lt(cancel, alice);
    ck_assert(!was_noted("scene@0 message alice 2 echo:unhandled"));
    hang_up(boss);
    finish();
}
END_TEST

START_TEST(a_handler_that_ignores_its_cancellation_holds_nothing_up) {
    prepare();
    node.scenes[0].offline_wait_ms = 150;
    start();
    client_t *a = log_in("stubborn");
    tell(a, 1, "wait");
    await_line("scene@0 message stubborn 1 wait");
    hang_up(a);
    await_line("scene@0 cancel stubborn");
    await_line("scene@0 offline stubborn peer");
    finish();
}
END_TEST

START_TEST(handler_errors_are_counted_and_the_next_message_is_served) {
    prepare();
    start();
    client_t *a = log_in("alice");
    tell(a, 1, "raise");
    tell(a, 1, "unknown");
    expect_silence(a);
    ck_assert_double_eq(metric("rr_scene_handler_errors_total{scene=\"scene@0\"}"), 1);
    ck_assert_double_eq(metric("rr_scene_no_handler_total{scene=\"scene@0\"}"), 1);
    hang_up(a);
    finish();
}
END_TEST

START_TEST(services_between_scenes) {
    prepare();
    start();
    client_t *a = log_in("alice");
    tell(a, 1, "call:scene@1");
    await_line("scene@1 service scene@0 greet hello");
    await_line("scene@0 answer 66 ok answer");
    tell(a, 1, "call:nowhere");
    await_line("scene@0 answer 66 error NOROUTE: there is no actor named nowhere");
    hang_up(a);
    finish();
}
END_TEST

START_TEST(timers) {
    prepare();
    start();
    client_t *a = log_in("alice");
    tell(a, 1, "timer");
    tell(a, 1, "ticker");
    await_line("scene@0 timer 88");
    await_metric("rr_scene_timers_total{scene=\"scene@0\"}", 4);
    expect_silence(a);
    usleep(20000); /* a cancelled ticker would have ticked on in this time */
    ck_assert_uint_eq(times_noted("scene@0 timer 89"), 3);
    ck_assert_uint_eq(times_noted("scene@0 timer 88"), 1);
    hang_up(a);
    finish();
}
END_TEST

CHECK_MAIN("messages", one_handler_per_session_at_a_time, enter_is_finished_before_the_first_message,
           nobody_hears_a_broadcast_before_its_own_enter, sends_reach_sessions_held_here_only, close_flushes_first,
           unicasts_and_broadcasts_keep_one_order, rows_of_broadcasts_arrive_whole_and_in_order,
           multicasts_arrive_whole_and_in_order, lists_are_remembered_as_long_as_they_hold, large_bodies_arrive_whole_and_in_order,
           an_async_handler_may_finish_then_is_cancelled_and_offline_is_last,
           a_handler_that_ignores_its_cancellation_holds_nothing_up,
           handler_errors_are_counted_and_the_next_message_is_served, services_between_scenes, timers)
