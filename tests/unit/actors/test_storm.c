/* Many clients that do everything at once, in an order drawn from a seed: afterwards nothing is left over, and every
 * login has had exactly one offline at its login scene (spec.md 5.4). */
#include "fixture.h"

#define CLIENTS 30
#define IDS     12
#define STEPS   6000

static uint64_t state = 20240229;

static unsigned draw(unsigned below) {
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    return (unsigned)(state >> 33) % below;
}

static void drain_input(client_t *client) {
    char sink[4096];
    while (recv(client->fd, sink, sizeof(sink), MSG_DONTWAIT) > 0)
        ;
}

static client_t *come(void) {
    static const char *const kinds[] = {"", "", "", "", "late:", "inside:", "extra:", "slow-", "slowback-"};
    client_t *client = dial();
    char key[32];
    snprintf(key, sizeof(key), "%sp%u", kinds[draw(sizeof(kinds) / sizeof(*kinds))], draw(IDS));
    tell(client, 0, key);
    return client;
}

static void act(client_t *client) {
    static const char *const orders[] = {
        "move:scene@1", "move:scene@0",     "move:scene@2", "movefail:scene@1", "echo:x",       "all:x",       "wait",
        "go:p%u",       "go:slow-p%u",      "verdict:p%u",  "reject:p%u",       "close:p%u",    "bye",         "send:p%u",
        "gate:gate@0",  "go:slowback-p%u", "call:scene@1", "call:scene@2",     "raise"};
    char text[32];
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
#pragma GCC diagnostic ignored "-Wformat-extra-args"
    snprintf(text, sizeof(text), orders[draw(sizeof(orders) / sizeof(*orders))], draw(IDS));
#pragma GCC diagnostic pop
    tell(client, (uint16_t)(draw(5) ? 1 : 9), text);
}

/* Scenes that crash, are restarted, and hand over. */
static void disturb(client_t *client) {
    static const char *const faults[] = {"crash", "crash", "handover:scene@0", "handover:scene@1", "handover:scene@2",
                                         "handover"};
    tell(client, 1, faults[draw(sizeof(faults) / sizeof(*faults))]);
}

/* Until the gate and its login scene have handled what the clients said before: a login that is refused goes the same way
 * (or is closed, while there is no such scene). Else a busy machine would see little of the storm. */
static void keep_pace(void) {
    client_t *probe = dial();
    tell(probe, 0, "no");
    while (hear(probe))
        ;
    hang_up(probe);
}

static void supervise(size_t i) {
    rr_child_t child = {.restart = RR_RESTART_TRANSIENT};
    rr_scene_spec(&node.scenes[i], &child.spawn);
    rr_supervisor_t spec = {.children = &child, .child_count = 1, .max_restarts = 10000};
    ck_assert_int_eq(rr_supervisor_spawn(node.system, &spec, NULL), RR_OK);
}

static void storm(rr_scene_lost_t lost, bool faults) {
    client_t *clients[CLIENTS];
    if (getenv("RR_TEST_SEED"))
        state = strtoull(getenv("RR_TEST_SEED"), NULL, 0);
    prepare();
    node.scene_count = 3;
    for (int i = 0; i < 3; i++) {
        node.scenes[i].logic_arg = &node; /* tells the puppet that anything may happen */
        node.scenes[i].offline_wait_ms = 150;
        node.scenes[i].kick_wait_ms = 150;
        node.scenes[i].move_timeout_ms = 150;
        node.scenes[i].verify_timeout_ms = 300;
        node.scenes[i].drain_to = i ? "scene@0" : "scene@2";
    }
    node.options.scene_lost = lost;
    ck_assert_int_eq(rr_system_start(node.system), RR_OK);
    for (size_t i = 0; i < 3; i++)
        supervise(i);
    start_gate();
    await_line("ready");
    for (int i = 0; i < CLIENTS; i++)
        clients[i] = come();
    for (int step = 0; step < STEPS; step++) {
        unsigned i = draw(CLIENTS);
        drain_input(clients[i]);
        if (draw(12) == 0) {
            hang_up(clients[i]);
            clients[i] = come();
        } else if (faults && draw(20) == 0) {
            disturb(clients[i]);
        } else {
            act(clients[i]);
        }
        if (draw(30) == 0)
            keep_pace();
        if (draw(20) == 0)
            usleep(draw(2000));
    }
    for (int i = 0; i < CLIENTS; i++)
        hang_up(clients[i]);
    static const char *const gauges[] = {"rr_scene_sessions{", "rr_scene_away{",        "rr_scene_queued{",
                                         "rr_gate_sessions{",  "rr_gate_connections{", "rr_gate_lost{"};
    const size_t count = sizeof(gauges) / sizeof(*gauges);
    for (int wait = 0; wait < PATIENCE_MS / 10; wait++) { /* pending handlers are cancelled and given up in time */
        double left = 0;
        for (size_t g = 0; g < count; g++)
            left += metric(gauges[g]);
        if (left == 0 && faults)
            break;
        if (left == 0 &&
            metric("rr_scene_offlines_total{scene=\"scene@0\"}") == metric("rr_scene_logins_total{scene=\"scene@0\"}"))
            break;
        usleep(10000);
    }
    if (getenv("RR_TEST_LOG")) {
        rr_buffer_t *text;
        ck_assert_int_eq(rr_metrics_text(node.system, &text), RR_OK);
        fprintf(stderr, "%.*s", (int)rr_buffer_size(text), (const char *)rr_buffer_data(text));
        rr_buffer_unref(text);
    }
    for (size_t g = 0; g < count; g++)
        ck_assert_msg(metric(gauges[g]) == 0, "%s is %g", gauges[g], metric(gauges[g]));
    ck_assert_double_eq(metric("rr_scene_bad_records_total"), 0);
    if (faults) { /* what scenes count begins anew with each life */
        ck_assert_double_gt(metric("rr_gate_losses_total"), 0);
        finish();
        return;
    }
    ck_assert_double_gt(metric("rr_scene_logins_total{scene=\"scene@0\"}"), 50);
    ck_assert_double_gt(metric("rr_scene_moves_in_total"), 20); /* fewer on a busy machine: clients are closed first */
    ck_assert_double_eq(metric("rr_scene_offlines_total{scene=\"scene@0\"}"),
                        metric("rr_scene_logins_total{scene=\"scene@0\"}"));
    finish();
}

START_TEST(nothing_is_left_over) {
    storm(RR_LOST_CLOSE, false);
}
END_TEST

START_TEST(nothing_is_left_over_where_sessions_wait) {
    storm(RR_LOST_WAIT, true);
}
END_TEST

START_TEST(nothing_is_left_over_where_sessions_log_in_anew) {
    storm(RR_LOST_RELOGIN, true);
}
END_TEST

CHECK_MAIN("storm", nothing_is_left_over, nothing_is_left_over_where_sessions_wait,
           nothing_is_left_over_where_sessions_log_in_anew)
