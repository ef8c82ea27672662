/* One node's share of a graph, keys, hashes. */
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "conf/share.h"
#include "tests/unit/check_main.h"

#define NODES                                                                                                          \
    "group: world\nnodes:\n  front: { address: tcp://127.0.0.1:7000 }\n  back: { address: tcp://127.0.0.1:7001 }\n"    \
    "  far: {}\n"
#define ACTORS                                                                                                         \
    "actors:\n  broker@0: { role: broker, node: front }\n"                                                             \
    "  gate@0: { role: gate, node: front, listen: tcp://127.0.0.1:7002 }\n"                                            \
    "  scene@0: { role: scene, node: back, logic: echo }\n"                                                            \
    "  scene@1: { role: scene, node: far, script: /nowhere/on/this/machine.py }\n"

/* Parses, chooses the node and checks. */
static rr_graph_t *graph_of(const char *text, const char *node) {
    rr_graph_t *graph = rr_graph_new();
    ck_assert_ptr_nonnull(graph);
    if (rr_graph_parse_yaml(graph, "g.yaml", text, strlen(text)) == RR_OK && rr_graph_select(graph, node) == RR_OK &&
        rr_graph_check(graph) != RR_OK)
        ck_assert_uint_gt(rr_graph_error_count(graph), 0);
    return graph;
}

static rr_graph_t *share_of(const char *text, const char *node, rr_share_t *share) {
    rr_graph_t *graph = graph_of(text, node);
    if (rr_graph_error_count(graph) || rr_graph_share(graph, share) != RR_OK)
        ck_abort_msg("%s", rr_graph_error_text(graph, 0));
    return graph;
}

static void expect_refusal(const char *text, const char *node, const char *what, const char *mend) {
    rr_share_t share;
    rr_graph_t *graph = graph_of(text, node);
    if (!rr_graph_error_count(graph))
        ck_assert_int_eq(rr_graph_share(graph, &share), RR_EINVAL);
    const char *said = rr_graph_error_text(graph, 0);
    ck_assert_msg(strstr(said, what) && strstr(said, mend), "%s\nlacks '%s' or '%s'", said, what, mend);
    rr_graph_free(graph);
}

START_TEST(shares_of_nodes) {
    rr_share_t share;
    rr_graph_t *graph = share_of(NODES ACTORS, "front", &share);
    ck_assert(share.cluster && share.relay);
    ck_assert_ptr_null(share.master);
    ck_assert_str_eq(share.node, "front");
    ck_assert_str_eq(share.group, "world");
    ck_assert_str_eq(share.listen, "tcp://127.0.0.1:7000");
    ck_assert(rr_graph_runs(graph, rr_graph_find_actor(graph, "gate@0")));
    ck_assert(!rr_graph_runs(graph, rr_graph_find_actor(graph, "scene@0")));
    rr_graph_free(graph);
    graph = share_of(NODES ACTORS, "back", &share);
    ck_assert(share.cluster && !share.relay);
    ck_assert_str_eq(share.master, "tcp://127.0.0.1:7000");
    ck_assert_str_eq(share.listen, "tcp://127.0.0.1:7001");
    rr_graph_free(graph);
}
END_TEST

START_TEST(a_node_without_an_address) {
    rr_share_t share;
    rr_graph_t *graph = share_of(NODES "actors:\n  broker@0: { role: broker, node: front }\n  scene@1: { role: scene, node: far, logic: "
                                       "echo }\n",
                                 "far", &share);
    ck_assert(share.cluster && !share.relay);
    ck_assert_ptr_null(share.listen);
    ck_assert_str_eq(share.master, "tcp://127.0.0.1:7000");
    rr_graph_free(graph);
}
END_TEST

START_TEST(what_others_need_is_not_looked_for) {
    rr_share_t share;
    rr_graph_free(share_of(NODES ACTORS, "back", &share));
    rr_graph_t *graph = graph_of(NODES ACTORS, "far");
    ck_assert_uint_eq(rr_graph_error_count(graph), 1);
    ck_assert_ptr_nonnull(strstr(rr_graph_error_text(graph, 0), "no script /nowhere/on/this/machine.py"));
    rr_graph_free(graph);
}
END_TEST

START_TEST(all_in_one_process) {
    rr_share_t share;
    rr_graph_t *graph = share_of(NODES "actors:\n  broker@0: { role: broker, node: front, listen: tcp://127.0.0.1:7000 }\n"
                                       "  s: { role: scene, node: back, logic: echo }\n",
                                 NULL, &share);
    ck_assert(!share.cluster);
    ck_assert(rr_graph_runs(graph, rr_graph_find_actor(graph, "s")));
    rr_graph_free(graph);
    rr_graph_free(share_of("actors:\n  s: { role: scene, logic: echo }\n", NULL, &share));
    ck_assert(!share.cluster);
}
END_TEST

START_TEST(the_command_lines_brokers) {
    rr_share_t share;
    rr_graph_t *graph = share_of("actors:\n  b: { role: broker, listen: tcp://127.0.0.1:7 }\n", NULL, &share);
    ck_assert(share.cluster && share.relay && !share.master);
    ck_assert_int_eq(strncmp(share.node, "node-", 5), 0);
    rr_graph_free(graph);
    graph = share_of("actors:\n  b: { role: broker, listen: tcp://127.0.0.1:7, master: tcp://127.0.0.1:8 }\n", NULL, &share);
    ck_assert(share.cluster && share.relay);
    ck_assert_str_eq(share.master, "tcp://127.0.0.1:8");
    rr_graph_free(graph);
    graph = share_of("actors:\n  b: { role: broker, master: tcp://127.0.0.1:8 }\n", NULL, &share);
    ck_assert(share.cluster && !share.relay && !share.listen);
    rr_graph_free(graph);
    graph = share_of("actors:\n  b: { role: broker, listen: tcp://127.0.0.1:7, bridges: [ A@tcp://127.0.0.1:9 ] }\n", NULL, &share);
    ck_assert_uint_eq(share.bridges->count, 1);
    rr_graph_free(graph);
    expect_refusal("actors:\n  b: { role: broker, bridges: [ A@tcp://127.0.0.1:9 ] }\n", NULL, "g.yaml:2:", "that listens");
    expect_refusal("actors:\n  b: { role: broker, listen: tcp://127.0.0.1:7, master: tcp://127.0.0.1:7 }\n", NULL, "its own master",
                   "-broker");
}
END_TEST

START_TEST(what_cannot_run_apart) {
    expect_refusal(NODES ACTORS, "fornt", "did you mean 'front'", "front, back, far");
    expect_refusal(NODES ACTORS, "zz", "no node 'zz'", "the graph has front, back, far");
    expect_refusal("actors:\n  s: { role: scene, logic: echo }\n", "a", "has no nodes", "leave --node out");
    expect_refusal(NODES "actors:\n  s: { role: scene, logic: echo, node: back }\n", "back", "on no node", "`node: NAME`");
    expect_refusal(NODES "actors:\n  b: { role: broker, node: far }\n", "back", "node far runs the master b", "`address: ");
    expect_refusal(NODES "actors:\n  b: { role: broker, node: front }\n  s: { role: scene, logic: echo }\n", "back",
                   "g.yaml:8:3: s is on no node", "front, back, far");
    expect_refusal("nodes: { a: { address: tcp://*:1 } }\nactors:\n  b: { role: broker, node: a }\n", "a", "cannot dial tcp://*:1",
                   "listen:");
    expect_refusal("nodes: { a: { listen: tcp://*:1 } }\nactors:\n  b: { role: broker, node: a }\n", "a", "do not know where",
                   "address:");
}
END_TEST

START_TEST(without_a_key_only_loopback) {
    rr_share_t share;
    const char *text = "nodes: { a: { address: tcp://10.0.0.1:1 } }\nactors:\n  b: { role: broker, node: a }\n";
    expect_refusal(text, "a", "g.yaml:1:24: without a key", "cluster_key:");
    expect_refusal("actors:\n  b: { role: broker, listen: tcp://*:7 }\n", NULL, "tcp://*:7 is not loopback", "cluster_key");
    expect_refusal("actors:\n  b: { role: broker, master: tcp://there:7 }\n", NULL, "tcp://there:7 is not loopback", "-cluster_key");
    char keyed[300];
    snprintf(keyed, sizeof keyed, "cluster_key: k\n%s", text);
    rr_graph_t *graph = share_of(keyed, "a", &share);
    ck_assert_str_eq(share.key_file, "k");
    rr_graph_free(graph);
}
END_TEST

static char path[] = "/tmp/rr_share_XXXXXX";

static void write_key(const char *text, mode_t mode) {
    FILE *file = fopen(path, "w");
    ck_assert_ptr_nonnull(file);
    ck_assert_int_ge(fputs(text, file), 0);
    ck_assert_int_eq(fclose(file), 0);
    ck_assert_int_eq(chmod(path, mode), 0);
}

START_TEST(keys) {
    char *key, why[600] = "", warning[600] = "";
    size_t size;
    int fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    close(fd);
    write_key(" \n0123456789abcdef0123\r\n", 0600);
    ck_assert_int_eq(rr_key_read(path, &key, &size, why, sizeof why, warning, sizeof warning), RR_OK);
    ck_assert_uint_eq(size, 20);
    ck_assert_str_eq(key, "0123456789abcdef0123");
    ck_assert_str_eq(warning, "");
    free(key);
    ck_assert_int_eq(chmod(path, 0640), 0);
    ck_assert_int_eq(rr_key_read(path, &key, &size, why, sizeof why, warning, sizeof warning), RR_OK);
    ck_assert_ptr_nonnull(strstr(warning, "chmod 600"));
    free(key);
    write_key("short\n", 0600);
    ck_assert_int_eq(rr_key_read(path, &key, &size, why, sizeof why, warning, sizeof warning), RR_EINVAL);
    ck_assert_ptr_nonnull(strstr(why, "5 bytes"));
    ck_assert_int_eq(unlink(path), 0);
    ck_assert_int_eq(rr_key_read(path, &key, &size, why, sizeof why, warning, sizeof warning), RR_EIO);
    ck_assert_ptr_nonnull(strstr(why, "No such file"));
    ck_assert_ptr_nonnull(strstr(why, "openssl rand"));
}
END_TEST

static uint64_t hash_of(const char *text) {
    rr_graph_t *graph = graph_of(text, NULL);
    uint64_t hash = rr_graph_hash(graph);
    rr_graph_free(graph);
    return hash;
}

#define TWO "nodes: { a: {}, b: {} }\nactors:\n"
START_TEST(hashes) {
    uint64_t hash = hash_of(TWO "  s: { role: scene, logic: echo, node: a }\n  t: { role: scene, logic: echo, node: b }\n");
    ck_assert_uint_eq(hash, hash_of(TWO "  t: { role: scene, logic: chat, node: b }\n  s: { role: scene, logic: echo, node: a }\n"));
    ck_assert_uint_ne(hash, hash_of(TWO "  s: { role: scene, logic: echo, node: b }\n  t: { role: scene, logic: echo, node: b }\n"));
    ck_assert_uint_ne(hash, hash_of(TWO "  s: { role: scene, logic: echo, node: b }\n  t: { role: scene, logic: echo, node: a }\n"));
    ck_assert_uint_ne(hash, hash_of("group: x\n" TWO "  s: { role: scene, logic: echo, node: a }\n  t: { role: scene, logic: echo, node: b "
                                    "}\n"));
}
END_TEST

CHECK_MAIN("share", shares_of_nodes, a_node_without_an_address, what_others_need_is_not_looked_for, all_in_one_process,
           the_command_lines_brokers, what_cannot_run_apart, without_a_key_only_loopback, keys, hashes)
