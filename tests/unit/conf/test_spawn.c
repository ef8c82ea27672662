/* What spawning takes from the graph: defaults agree with those of gate and scene, get_config finds options. */
#include <string.h>

#include "actors/scene.h"
#include "conf/spawn.h"
#include "tests/unit/check_main.h"

static int64_t preset(rr_scope_t scope, const char *key) {
    rr_item_t item = {.scope = scope};
    ck_assert_msg(rr_option_find(scope, key) != NULL, "no option %s", key);
    return rr_item_number(&item, key);
}

START_TEST(gate_defaults_agree) {
    rr_gate_options_t o;
    rr_gate_options_init(&o);
    ck_assert_int_eq(preset(RR_SCOPE_GATE, "max_packet_size"), (int64_t)o.max_packet);
    ck_assert_int_eq(preset(RR_SCOPE_GATE, "send_buffer"), (int64_t)o.send_limit);
    ck_assert_int_eq(preset(RR_SCOPE_GATE, "max_connections"), o.max_connections);
    ck_assert_int_eq(preset(RR_SCOPE_GATE, "max_per_ip"), o.max_per_ip);
    ck_assert_int_eq(preset(RR_SCOPE_GATE, "max_logins"), o.max_pending_logins);
    ck_assert_int_eq(preset(RR_SCOPE_GATE, "login_queue.messages"), o.pending_messages);
    ck_assert_int_eq(preset(RR_SCOPE_GATE, "login_queue.bytes"), (int64_t)o.pending_bytes);
    ck_assert_int_eq(preset(RR_SCOPE_GATE, "rate.messages"), o.rate);
    ck_assert_int_eq(preset(RR_SCOPE_GATE, "queue.messages"), o.queue_messages);
    ck_assert_int_eq(preset(RR_SCOPE_GATE, "queue.bytes"), (int64_t)o.queue_bytes);
    ck_assert_int_eq(preset(RR_SCOPE_GATE, "login_timeout"), o.login_timeout_ms);
    ck_assert_int_eq(preset(RR_SCOPE_GATE, "heartbeat_timeout"), o.idle_timeout_ms);
    ck_assert_int_eq(preset(RR_SCOPE_GATE, "frame_timeout"), o.partial_timeout_ms);
    ck_assert_int_eq(preset(RR_SCOPE_GATE, "window.messages"), o.window_messages);
    ck_assert_int_eq(preset(RR_SCOPE_GATE, "window.bytes"), (int64_t)o.window_bytes);
    ck_assert_int_eq(preset(RR_SCOPE_GATE, "metrics"), o.metrics);
}
END_TEST

START_TEST(scene_defaults_agree) {
    rr_scene_options_t o;
    rr_scene_options_init(&o);
    ck_assert_int_eq(preset(RR_SCOPE_SCENE, "queue.messages"), o.queue_messages);
    ck_assert_int_eq(preset(RR_SCOPE_SCENE, "queue.bytes"), (int64_t)o.queue_bytes);
    ck_assert_int_eq(preset(RR_SCOPE_SCENE, "queue_total.messages"), o.queue_total_messages);
    ck_assert_int_eq(preset(RR_SCOPE_SCENE, "queue_total.bytes"), (int64_t)o.queue_total_bytes);
    ck_assert_int_eq(preset(RR_SCOPE_SCENE, "max_requests"), o.max_requests);
    ck_assert_int_eq(preset(RR_SCOPE_SCENE, "verify_timeout"), o.verify_timeout_ms);
    ck_assert_int_eq(preset(RR_SCOPE_SCENE, "kick_wait"), o.kick_wait_ms);
    ck_assert_int_eq(preset(RR_SCOPE_SCENE, "offline_wait"), o.offline_wait_ms);
    ck_assert_int_eq(preset(RR_SCOPE_SCENE, "move_timeout"), o.move_timeout_ms);
    ck_assert_int_eq(preset(RR_SCOPE_SCENE, "outbox"), (int64_t)o.outbox_limit);
    ck_assert_int_eq(preset(RR_SCOPE_SCENE, "turn") * 1000, o.turn_us);
    ck_assert_int_eq(preset(RR_SCOPE_SCENE, "mailbox.messages"), RR_MAILBOX_MESSAGES);
    ck_assert_int_eq(preset(RR_SCOPE_SCENE, "mailbox.bytes"), RR_MAILBOX_BYTES);
}
END_TEST

static const char text[] = "group: g\nactors:\n  gate@1: { role: gate, listen: tcp://*:7, login: s, max_connections: 50 }\n"
                           "  s: { role: scene, logic: echo }\n  gate@2: { role: gate, listen: tcp://*:8, login: s }\n";

START_TEST(get_config) {
    rr_graph_t *graph = rr_graph_new();
    int rc = rr_graph_parse_yaml(graph, "g.yaml", text, sizeof text - 1);
    ck_assert_int_eq(rc, RR_OK);
    rc = rr_graph_check(graph);
    ck_assert_int_eq(rc, RR_OK);
    ck_assert_str_eq(rr_graph_config(graph, "-gate"), "gate@1");
    ck_assert_str_eq(rr_graph_config(graph, "-scene"), "s");
    ck_assert_str_eq(rr_graph_config(graph, "-group"), "g");
    ck_assert_str_eq(rr_graph_config(graph, "group"), "g");
    ck_assert_str_eq(rr_graph_config(graph, "-gate_listen"), "tcp://*:7");
    ck_assert_str_eq(rr_graph_config(graph, "-heartbeat_timeout"), "600");
    ck_assert_ptr_null(rr_graph_config(graph, "-python_venv"));
    ck_assert_ptr_null(rr_graph_config(graph, "-nonsense"));
    bool given;
    ck_assert_uint_eq(rr_graph_connections(graph, &given), 100050);
    ck_assert(given);
    rr_graph_free(graph);
}
END_TEST

CHECK_MAIN("spawn", gate_defaults_agree, scene_defaults_agree, get_config)
