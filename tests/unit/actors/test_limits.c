/* Limits: each closes exactly who exceeds it, and is counted; a scene that does not keep up pauses its own clients. */
#include "fixture.h"

static void expect_reason(const char *reason, double count) {
    char sample[120];
    snprintf(sample, sizeof(sample), "rr_gate_closes_total{gate=\"gate@0\",reason=\"%s\"}", reason);
    await_metric(sample, count);
}

START_TEST(too_big) {
    prepare();
    node.options.max_packet = 100;
    start();
    client_t *a = log_in("alice"), *b = log_in("bob");
    char body[101] = "";
    put_message(a, 1, body, 101);
    expect_closed(a);
    expect_reason("too_big", 1);
    await_line("scene@0 offline alice too_big");
    put_message(b, 7, body, 100);
    ck_assert(hear(b) && b->cmd == 99);
    ck_assert(hear(b) && b->size == 100);
    hang_up(a);
    hang_up(b);
    finish();
}
END_TEST

START_TEST(connections) {
    prepare();
    node.options.max_connections = 2;
    start();
    client_t *a = log_in("alice"), *b = log_in("bob"), *c = dial();
    expect_closed(c);
    await_metric("rr_gate_limit_hits_total{gate=\"gate@0\",limit=\"connections\"}", 1);
    hang_up(a);
    await_line("scene@0 offline alice peer");
    expect(b, 99, "scene@0 offline alice");
    client_t *d = log_in("dora"); /* room again */
    expect_silence(b);
    hang_up(b);
    hang_up(c);
    hang_up(d);
    finish();
}
END_TEST

START_TEST(connections_of_one_address) {
    prepare();
    node.options.max_per_ip = 1;
    start();
    client_t *a = log_in("alice"), *b = dial();
    expect_closed(b);
    await_metric("rr_gate_limit_hits_total{gate=\"gate@0\",limit=\"per_ip\"}", 1);
    hang_up(a);
    await_line("scene@0 offline alice peer");
    await_metric("rr_gate_closes_total{gate=\"gate@0\",reason=\"peer\"}", 1);
    client_t *c = log_in("carol");
    hang_up(b);
    hang_up(c);
    finish();
}
END_TEST

START_TEST(pending_logins) {
    prepare();
    node.options.max_pending_logins = 2;
    start();
    client_t *a = dial(), *b = dial(), *c = dial();
    tell(a, 0, "late:a");
    tell(b, 0, "late:b");
    await_line("scene@0 verify late:a from 127.0.0.1 by gate@0");
    await_line("scene@0 verify late:b from 127.0.0.1 by gate@0");
    tell(c, 0, "late:c");
    expect_closed(c);
    ck_assert_double_eq(metric("rr_gate_limit_hits_total{gate=\"gate@0\",limit=\"pending_logins\"}"), 1);
    hang_up(a);
    hang_up(b);
    hang_up(c);
    finish();
}
END_TEST

START_TEST(messages_behind_an_unanswered_login) {
    prepare();
    node.options.pending_messages = 3;
    start();
    client_t *a = dial(), *b = dial();
    tell(a, 0, "late:a");
    for (int i = 0; i < 4; i++)
        tell(a, 1, "echo:x");
    expect_closed(a);
    expect_reason("queue", 1);
    tell(b, 0, "late:b");
    for (int i = 0; i < 3; i++)
        tell(b, 1, "echo:x");
    await_line("scene@0 verify late:b from 127.0.0.1 by gate@0");
    client_t *boss = log_in("boss");
    tell(boss, 1, "verdict:b");
    expect(b, 0, "late");
    expect(b, 100, "welcome");
    for (int i = 0; i < 3; i++)
        expect(b, 1, "echo:x");
    hang_up(a);
    hang_up(b);
    hang_up(boss);
    finish();
}
END_TEST

START_TEST(rate) {
    prepare();
    node.options.rate = 50;
    node.options.rate_burst = 10;
    start();
    client_t *a = log_in("alice"), *b = log_in("bob");
    for (int i = 0; i < 12; i++)
        tell(a, 1, "echo:x");
    while (hear(a))
        ck_assert(a->cmd == 1);
    expect_reason("rate", 1);
    await_line("scene@0 offline alice rate");
    expect(b, 99, "scene@0 offline alice");
    expect_silence(b);
    hang_up(a);
    hang_up(b);
    finish();
}
END_TEST

START_TEST(queue_of_a_session) {
    prepare();
    node.scenes[0].queue_messages = 3;
    start();
    client_t *a = log_in("alice"), *b = log_in("bob");
    tell(a, 1, "wait");
    for (int i = 0; i < 4; i++)
        tell(a, 1, "echo:x");
    expect_closed(a);
    expect_reason("queue", 1);
    ck_assert_double_eq(metric("rr_scene_queue_full_total{scene=\"scene@0\"}"), 1);
    tell(b, 1, "go:alice");
    await_line("scene@0 offline alice queue");
    hang_up(a);
    hang_up(b);
    finish();
}
END_TEST

/* Two sessions fill the queues; who comes next is served, who has most goes. */
static void fill_queues(bool by_bytes) {
    static char big[] = "echo:xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx";
    prepare();
    if (by_bytes)
        node.scenes[0].queue_total_bytes = 5 * strlen(big);
    else
        node.scenes[0].queue_total_messages = 5;
    start();
    client_t *a = log_in("alice"), *b = log_in("bob"), *c = log_in("carol");
    tell(a, 1, "wait");
    tell(b, 1, "wait");
    for (int i = 0; i < 3; i++)
        tell(a, 1, big);
    await_metric("rr_scene_queued{scene=\"scene@0\"}", 3);
    tell(b, 2, big);
    tell(b, 3, by_bytes ? big : "echo:3");
    await_metric("rr_scene_queued{scene=\"scene@0\"}", 5);
    tell(c, 1, "echo:no queue, no limit");
    expect(c, 1, "echo:no queue, no limit");
    ck_assert_double_eq(metric("rr_scene_queue_total_full_total{scene=\"scene@0\"}"), 0);
    tell(b, 4, "echo:4"); /* one too many: alice has more than bob */
    expect_closed(a);
    expect_reason("queue", 1);
    await_metric("rr_scene_queued{scene=\"scene@0\"}", 3);
    ck_assert_double_eq(metric("rr_scene_queue_total_full_total{scene=\"scene@0\"}"), 1);
    ck_assert_double_eq(metric("rr_scene_queue_full_total{scene=\"scene@0\"}"), 0);
    tell(c, 1, "go:alice");
    await_line("scene@0 offline alice queue");
    expect(b, 99, "scene@0 offline alice");
    tell(c, 1, "go:bob");
    expect(b, 2, big);
    expect(b, 3, by_bytes ? big : "echo:3");
    expect(b, 4, "echo:4");
    await_metric("rr_scene_queued_bytes{scene=\"scene@0\"}", 0);
    hang_up(a);
    hang_up(b);
    hang_up(c);
    finish();
}

START_TEST(queues_of_all_sessions_messages) { fill_queues(false); }
END_TEST

START_TEST(queues_of_all_sessions_bytes) { fill_queues(true); }
END_TEST

START_TEST(queue_alone_above_the_total) {
    prepare();
    node.scenes[0].queue_total_messages = 2;
    start();
    client_t *a = log_in("alice"), *b = log_in("bob");
    tell(a, 1, "wait");
    for (int i = 0; i < 3; i++)
        tell(a, 1, "echo:x");
    expect_closed(a);
    expect_reason("queue", 1);
    tell(b, 1, "go:alice");
    await_line("scene@0 offline alice queue");
    await_metric("rr_scene_queued{scene=\"scene@0\"}", 0);
    hang_up(a);
    hang_up(b);
    finish();
}
END_TEST

START_TEST(login_time) {
    prepare();
    node.options.login_timeout_ms = 200;
    start();
    client_t *a = dial(), *b = dial();
    tell(b, 0, "late:b");
    expect_closed(a);
    expect_closed(b);
    expect_reason("login_timeout", 2);
    hang_up(a);
    hang_up(b);
    finish();
}
END_TEST

START_TEST(idle_time_and_heartbeats) {
    prepare();
    node.options.idle_timeout_ms = 2000;
    node.options.heartbeat_cmd = 500;
    start();
    client_t *a = log_in("alice"), *b = log_in("bob");
    for (int i = 0; i < 60; i++) { /* bob stays alive, alice does not */
        tell(b, 500, "beat");
        usleep(50000);
    }
    expect_closed(a);
    expect_reason("idle", 1);
    await_line("scene@0 offline alice idle");
    ck_assert(!was_noted("scene@0 message bob 500 beat")); /* swallowed */
    await_metric("rr_gate_heartbeats_total{gate=\"gate@0\"}", 60);
    expect(b, 99, "scene@0 offline alice");
    hang_up(a);
    hang_up(b);
    finish();
}
END_TEST

START_TEST(slow_reader) {
    prepare();
    node.options.max_packet = 100000;
    node.options.send_limit = 300000;
    start();
    client_t *a = log_in("alice"), *b = log_in("bob");
    char *body = malloc(90000);
    memset(body, 'x', 90000);
    for (int i = 0; i < 400; i++) { /* 36 MB back, never read */
        uint32_t n = 90000;
        uint8_t head[8] = {0};
        memcpy(head, &n, 4);
        head[4] = 7;
        put_bytes(a, head, 8);
        put_bytes(a, body, 90000);
    }
    free(body);
    await_line("scene@0 offline alice slow_reader");
    expect_reason("slow_reader", 1);
    expect(b, 99, "scene@0 offline alice");
    expect_silence(b);
    hang_up(a);
    hang_up(b);
    finish();
}
END_TEST

static void *send_many(void *context) {
    client_t *client = context;
    char body[100] = "";
    for (int i = 0; i < 1000; i++) {
        memcpy(body, &i, 4);
        put_message(client, 8, body, sizeof(body));
    }
    return NULL;
}

START_TEST(a_scene_that_does_not_keep_up_pauses_its_clients_and_loses_nothing) {
    prepare();
    node.options.window_messages = 64;
    start();
    client_t *clients[4], *other;
    pthread_t threads[4];
    for (int c = 0; c < 4; c++) {
        char name[16];
        snprintf(name, sizeof(name), "c%d", c);
        clients[c] = log_in(name);
    }
    other = log_in("other");
    tell(other, 1, "move:scene@1");
    expect(other, 100, "welcome");
    for (int c = 0; c < 4; c++)
        pthread_create(&threads[c], NULL, send_many, clients[c]);
    await_metric("rr_gate_pauses_total{gate=\"gate@0\"}", 1);
    expect_silence(other); /* another scene's clients do not feel it */
    for (int i = 0; i < 1000; i++)
        for (int c = 0; c < 4; c++) {
            int n;
            ck_assert(hear(clients[c]));
            memcpy(&n, clients[c]->body, 4);
            ck_assert_int_eq(n, i);
        }
    for (int c = 0; c < 4; c++) {
        pthread_join(threads[c], NULL);
        hang_up(clients[c]);
    }
    hang_up(other);
    finish();
}
END_TEST

static void stand_still(void *context) {
    while (!was_noted("flood*"))
        usleep(1000); /* the loop is made to hang until the scene has sent all it could */
}

START_TEST(a_gate_that_does_not_keep_up_loses_nothing_that_was_accepted) {
    prepare();
    node.options.send_limit = 1u << 30;
    node.scenes[0].outbox_limit = 1u << 20;
    start();
    client_t *a = log_in("alice");
    unsigned accepted;
    tell(a, 1, "flood");
    await_line("scene@0 message alice 1 flood");
    for (int i = 0; i < LOOPS; i++)
        ck_assert_int_eq(rr_loop_post(node.loops[i], stand_still, NULL), RR_OK);
    int at = await_line("flood*");
    ck_assert_int_eq(sscanf(happened.lines[at], "flood %u", &accepted), 1);
    ck_assert_uint_gt(accepted, 1000); /* its mailbox' 64 MiB and the scene's own limit */
    tell(a, 3, "echo:behind it");
    for (unsigned i = 0; i < accepted; i++) {
        uint32_t n;
        ck_assert(hear(a));
        ck_assert_uint_eq(a->cmd, 90);
        memcpy(&n, a->body, 4);
        ck_assert_uint_eq(n, i);
    }
    expect(a, 3, "echo:behind it");
    ck_assert_double_ge(metric("rr_scene_send_refused_total{scene=\"scene@0\"}"), 1);
    hang_up(a);
    finish();
}
END_TEST

CHECK_MAIN("limits", a_gate_that_does_not_keep_up_loses_nothing_that_was_accepted, too_big, connections,
           connections_of_one_address, pending_logins, messages_behind_an_unanswered_login, rate, queue_of_a_session,
           queues_of_all_sessions_messages, queues_of_all_sessions_bytes, queue_alone_above_the_total,
           login_time, idle_time_and_heartbeats, slow_reader,
           a_scene_that_does_not_keep_up_pauses_its_clients_and_loses_nothing)
