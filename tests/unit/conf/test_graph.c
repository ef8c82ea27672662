/* The config graph: both front ends, every check, every message's place. */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "conf/graph.h"

static char folder[] = "/tmp/rr_graph_XXXXXX";

static void make_file(const char *name, const char *text) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "w");
    if (!file || fputs(text, file) < 0 || fclose(file) != 0)
        abort(); /* also used outside of tests */
}

/* Parses `text` as FOLDER/g.yaml and checks it. */
static rr_graph_t *yaml(const char *text) {
    rr_graph_t *graph = rr_graph_new();
    char file[512];
    ck_assert_ptr_nonnull(graph);
    snprintf(file, sizeof file, "%s/g.yaml", folder);
    if (rr_graph_parse_yaml(graph, file, text, strlen(text)) == RR_OK && rr_graph_check(graph) != RR_OK)
        ck_assert_uint_gt(rr_graph_error_count(graph), 0);
    return graph;
}

static rr_graph_t *fine(rr_graph_t *graph) {
    if (rr_graph_error_count(graph))
        ck_abort_msg("%s", rr_graph_error_text(graph, 0));
    return graph;
}

/* The graph's first error is at LINE:COLUMN and contains both texts; takes the graph. */
static void expect_error(rr_graph_t *graph, const char *place, const char *what, const char *mend) {
    ck_assert_msg(rr_graph_error_count(graph) > 0, "no error, expected: %s", what);
    const char *text = rr_graph_error_text(graph, 0);
    char prefix[600];
    snprintf(prefix, sizeof prefix, "%s/g.yaml:%s: ", folder, place);
    ck_assert_msg(strncmp(text, prefix, strlen(prefix)) == 0, "%s\nis not at %s", text, place);
    ck_assert_msg(strstr(text, what) && strstr(text, mend), "%s\nlacks '%s' or '%s'", text, what, mend);
    ck_assert_ptr_null(strchr(text, '\n'));
    rr_graph_free(graph);
}

static const char whole[] = "group: world\n"
                            "python_path: lib\n"
                            "nodes:\n"
                            "  front: { address: tcp://10.0.0.1:7000, threads: 2 }\n"
                            "  back: { address: tcp://10.0.0.2:7000, threads: 8, python_threads: 8 }\n"
                            "actors:\n"
                            "  broker@0: { role: broker, node: front, listen: \"tcp://0.0.0.0:10241\" }\n"
                            "  gate@0: { role: gate, node: front, listen: [\"tcp://0.0.0.0:10242\", \"ws://0.0.0.0:8080\"],\n"
                            "            login: scene@0, rate: { messages: 50 }, www: { /: www, /lib: /usr } }\n"
                            "  scene@0: { role: scene, node: back, script: main.py }\n"
                            "  \"room@{1..8}\": { role: scene, node: back, script: ./main.py, restart: { max: 7, within: 2m } }\n";

START_TEST(whole_graph) {
    rr_graph_t *graph = yaml(whole);
    fine(graph);
    ck_assert_uint_eq(rr_graph_actor_count(graph), 11);
    ck_assert_uint_eq(rr_graph_node_count(graph), 2);
    const rr_item_t *gate = rr_graph_find_actor(graph, "gate@0");
    ck_assert_uint_eq(rr_item_value(gate, "listen")->count, 2);
    ck_assert_str_eq(rr_item_value(gate, "listen")->texts[1], "ws://0.0.0.0:8080");
    ck_assert_int_eq(rr_item_number(gate, "rate.messages"), 50);
    ck_assert_int_eq(rr_item_number(gate, "heartbeat_timeout"), 600000);
    ck_assert_int_eq(rr_item_number(gate, "max_packet_size"), 1000000);
    const rr_value_t *www = rr_item_value(gate, "www");
    char path[512];
    snprintf(path, sizeof path, "%s/www", folder);
    ck_assert_str_eq(www->keys[0], "/");
    ck_assert_str_eq(www->texts[0], path);
    ck_assert_str_eq(www->texts[1], "/usr");
    const rr_item_t *room = rr_graph_find_actor(graph, "room@8");
    ck_assert_ptr_nonnull(room);
    ck_assert_int_eq(rr_item_number(room, "restart.max"), 7);
    ck_assert_int_eq(rr_item_number(room, "restart.within"), 120000);
    ck_assert_str_eq(rr_item_text(room, "interpreter"), "auto");
    snprintf(path, sizeof path, "%s/main.py", folder);
    ck_assert_str_eq(rr_item_text(room, "script"), path);
    rr_graph_free(graph);
}
END_TEST

START_TEST(implied_broker) {
    rr_graph_t *graph = yaml("actors:\n  s: { role: scene, script: main.py }\n");
    fine(graph);
    ck_assert_int_eq(rr_graph_find_actor(graph, "broker@0")->scope, RR_SCOPE_BROKER);
    rr_graph_free(graph);
}
END_TEST

#define SCENE "  scene@0: { role: scene, script: main.py }\n"

START_TEST(yaml_errors) {
    expect_error(yaml("actors: [\n"), "2:1", "not valid YAML", "check indentation");
    expect_error(yaml("group: a\n%;\x9d"), "2:1", "not UTF-8", "save");
    expect_error(yaml("%YAML 1.2\n---\n"), "1:1", "directives", "remove");
    expect_error(yaml(""), "1:1", "no graph", "actors:");
    expect_error(yaml("- a\n"), "1:1", "no graph", "actors:");
    expect_error(yaml("group: a\n"), "1:1", "no actors", "add");
    expect_error(yaml("actors:\n  - a\n"), "1:1", "must be a map", "NAME");
    expect_error(yaml("actors:\n  a:\n"), "2:3", "needs a map", "a: {");
    expect_error(yaml("actors:\n  a: { script: main.py }\n"), "2:3", "no role", "role: scene");
    expect_error(yaml("actors:\n  a: { role: gat }\n"), "2:14", "unknown role 'gat'", "did you mean 'gate'?");
    expect_error(yaml("actors:\n  a: { role: elephant }\n"), "2:14", "unknown role", "broker, gate, scene and database");
    expect_error(yaml("actors:\n  a: { role: scene, role: scene, script: main.py }\n"), "2:21", "given twice", "leave");
    expect_error(yaml("actors:\n" SCENE "  a b: { role: scene, script: main.py }\n"), "3:3", "not a legal name", "scene@0");
    expect_error(yaml("actors:\n" SCENE SCENE), "3:3", "used twice (first: line 2)", "own name");
    expect_error(yaml("actors:\n" SCENE "  \"scene@{0..2}\": { role: scene, script: main.py }\n"), "3:3", "used twice", "own");
    expect_error(yaml("actors:\n  \"s@{3..1}\": { role: scene, script: main.py }\n"), "2:3", "malformed range", "{1..8}");
    expect_error(yaml("actors:\n  a: { role: scene, script: main.py, scirpt: x }\n"), "2:38", "no option 'scirpt'", "'script'?");
    expect_error(yaml("grup: x\nactors:\n" SCENE), "1:1", "a graph has no option 'grup'", "did you mean 'group'?");
    expect_error(yaml("actors:\n  a: { role: scene, script: main.py, restart: { mx: 1 } }\n"), "2:49", "restart.mx",
                 "'restart.max'?");
    expect_error(yaml("actors:\n  a: { role: scene, script: [main.py] }\n"), "2:21", "one value", "list");
    expect_error(yaml("actors:\n  a: { role: scene, script: { x: y } }\n"), "2:21", "not a map", "single");
    expect_error(yaml("actors:\n  a: { role: scene, script: }\n"), "2:21", "script is empty", "leave it out");
    expect_error(yaml("actors:\n  a: { role: scene, script: none.py }\n"), "2:29", "no script", "correct the path");
    expect_error(yaml("actors:\n  a: { role: scene }\n"), "2:3", "no script", "add");
    expect_error(yaml("x: &a 1\nactors: *a\n"), "2:1", "must be a map", "NAME");
    expect_error(yaml("actors:\n  a: { role: scene, script: &m main.py }\n  b: { role: scene, script: *m }\n"), "3:30", "aliases", "write the");
}
END_TEST

START_TEST(value_errors) {
    expect_error(yaml("actors:\n  a: { role: scene, script: main.py, watchdog: soon }\n"), "2:48", "'soon'", "30s");
    expect_error(yaml("actors:\n  a: { role: scene, script: main.py, asyncio: perhaps }\n"), "2:47", "perhaps", "true or");
    expect_error(yaml("actors:\n  a: { role: scene, script: main.py, memory: -1 }\n"), "2:46", "'-1'", "64KiB");
    expect_error(yaml("actors:\n  a: { role: scene, script: main.py, interpreter: mine }\n"), "2:51", "mine", "own|shared|main");
    expect_error(yaml("actors:\n  a: { role: scene, script: main.py, mailbox: { bytes: 1MiB } }\n"), "2:56",
                 "mailbox.bytes 1048576 is too little for mailbox.messages 65536", "mailbox.messages to 16384 or less");
    expect_error(yaml("actors:\n  a: { role: scene, script: main.py, mailbox: { messages: 2000000 } }\n"), "2:59",
                 "too little", "mailbox.bytes to 128000000 or more");
    rr_graph_free(fine(yaml("actors:\n  a: { role: scene, script: main.py, mailbox: { messages: 1024, bytes: 64KiB } }\n")));
    expect_error(yaml("loops: 65\nactors:\n" SCENE), "1:8", "loops 65 is out of bounds", "0 to 64");
    expect_error(yaml("drain: 2d\nactors:\n" SCENE), "1:8", "out of bounds", "0 to 1d");
    expect_error(yaml("actors:\n" SCENE "  g: { role: gate, listen: nonsense }\n"), "3:28", "bad address", "tcp://");
    expect_error(yaml("actors:\n" SCENE "  b: { role: broker, listen: ws://127.0.0.1:1 }\n"), "3:30", "must be a tcp://", "ws:");
    expect_error(yaml("actors:\n" SCENE "  b: { role: broker, listen: 'tcp://127.0.0.1:1?byte_order=little' }\n"), "3:30",
                 "has no byte order", "leave out");
}
END_TEST

START_TEST(reference_errors) {
    expect_error(yaml("actors:\n" SCENE "  g: { role: gate }\n"), "3:3", "listens nowhere", "tcp://127.0.0.1:10242");
    expect_error(yaml("actors:\n" SCENE "  g: { role: gate, listen: [] }\n"), "3:20", "listens nowhere", "add");
    expect_error(yaml("actors:\n" SCENE "  g: { role: gate, listen: tcp://*:1, login: scene@1 }\n"), "3:46",
                 "login of g is 'scene@1', which is not in this graph", "did you mean 'scene@0'?");
    expect_error(yaml("actors:\n" SCENE "  g: { role: gate, listen: tcp://*:1, login: g }\n"), "3:46", "which is no scene", "");
    expect_error(yaml("actors:\n  a: { role: scene, script: main.py, node: far }\n"), "2:44", "no node 'far'", "nodes:");
    expect_error(yaml("actors:\n" SCENE "  g: { role: gate, listen: [tcp://*:1, tcp://127.0.0.1:1] }\n"), "3:40",
                 "port 1 is given twice (first: line 3)", "its own");
    expect_error(yaml("actors:\n" SCENE "  b: { role: broker }\n  c: { role: broker }\n"), "4:3", "both master", "master:");
    expect_error(yaml("actors:\n" SCENE "  b: { role: broker, bridges: [x] }\n"), "3:32", "no bridge", "GroupA@tcp");
    expect_error(yaml("actors:\n" SCENE "  g: { role: gate, listen: tcp://*:1, www: nowhere }\n"), "3:44", "no folder", "create");
    expect_error(yaml("actors:\n" SCENE "  g: { role: gate, listen: tcp://*:1, editor: { token: x } }\n"), "3:56", "no scene", "add");
    expect_error(yaml("actors:\n  a: { role: scene, script: main.py, interpreter: main }\n"
                      "  b: { role: scene, script: main.py, interpreter: main }\n"),
                 "3:51", "once a process", "shared");
    expect_error(yaml("venv: .\nactors:\n" SCENE), "1:7", "no virtual environment", "-m venv");
}
END_TEST

START_TEST(same_port_on_two_nodes) {
    rr_graph_t *graph = yaml("nodes: { a: {}, b: {} }\nactors:\n" SCENE
                             "  g: { role: gate, node: a, listen: tcp://*:1 }\n  h: { role: gate, node: b, listen: tcp://*:1 }\n");
    fine(graph);
    rr_graph_free(graph);
}
END_TEST

START_TEST(nodes_have_their_own_addresses) {
    rr_graph_free(fine(yaml("nodes: { a: { address: tcp://127.0.0.1:1 }, b: { address: tcp://127.0.0.2:1 } }\nactors:\n" SCENE)));
    expect_error(yaml("nodes:\n  a: { address: tcp://10.0.0.1:1 }\n  b: { address: tcp://10.0.0.1:1 }\nactors:\n" SCENE), "3:17",
                 "port 1 is given twice", "each listener");
    expect_error(yaml("nodes:\n  a: { address: tcp://127.0.0.1:1 }\nactors:\n" SCENE "  g: { role: gate, node: a, listen: tcp://*:1 }\n"),
                 "2:17", "port 1 is given twice", "each listener");
    rr_graph_free(fine(yaml("nodes:\n  a: {}\n  b: {}\nactors:\n  s: { role: scene, script: main.py, interpreter: main, node: a }\n"
                            "  t: { role: scene, script: main.py, interpreter: main, node: b }\n")));
}
END_TEST

START_TEST(ephemeral_port_warns) {
    rr_graph_t *graph = yaml("actors:\n" SCENE "  g: { role: gate, listen: tcp://*:40000 }\n");
    fine(graph);
    ck_assert_uint_eq(rr_graph_warning_count(graph), 1);
    ck_assert_ptr_nonnull(strstr(rr_graph_warning_text(graph, 0), "g.yaml:3:28: port 40000"));
    rr_graph_free(graph);
}
END_TEST

START_TEST(many_errors_are_all_shown) {
    rr_graph_t *graph = yaml("actors:\n  a: { role: x }\n  b: { role: y }\n  c: { role: scene, a: 1, b: 2 }\n");
    ck_assert_uint_eq(rr_graph_error_count(graph), 4);
    rr_graph_free(graph);
}
END_TEST

/* ---- The command line ---- */

static rr_graph_t *args(const char *line) {
    rr_graph_t *graph = rr_graph_new();
    char copy[2048], *argv[64];
    int argc = 0;
    snprintf(copy, sizeof copy, "%s", line);
    for (char *save = NULL, *word = strtok_r(copy, " ", &save); word; word = strtok_r(NULL, " ", &save))
        argv[argc++] = word;
    ck_assert_int_eq(chdir(folder), 0);
    if (rr_graph_read_args(graph, argc, argv) == RR_OK && rr_graph_check(graph) != RR_OK)
        ck_assert_uint_gt(rr_graph_error_count(graph), 0);
    return graph;
}

static void expect_args_error(const char *line, const char *what) {
    rr_graph_t *graph = args(line);
    ck_assert_msg(rr_graph_error_count(graph) > 0, "no error for %s", line);
    const char *text = rr_graph_error_text(graph, 0);
    ck_assert_msg(strstr(text, what), "%s\nlacks: %s", text, what);
    ck_assert_int_eq(strncmp(text, "redrabbit: ", 11), 0);
    rr_graph_free(graph);
}

START_TEST(seed_line) {
    rr_graph_t *graph = args("-gate gate@0 -broker tcp://127.0.0.1:10241 -gate_listen tcp://127.0.0.1:10242 "
                             "-python_path ./ -scene scene@0 -heartbeat_timeout 30 -max_packet_size 5000 -log_level 5");
    fine(graph);
    ck_assert_uint_eq(rr_graph_actor_count(graph), 3);
    const rr_item_t *gate = rr_graph_find_actor(graph, "gate@0");
    ck_assert_str_eq(rr_item_text(gate, "listen"), "tcp://127.0.0.1:10242");
    ck_assert_int_eq(rr_item_number(gate, "heartbeat_timeout"), 30000);
    ck_assert_int_eq(rr_item_number(gate, "max_packet_size"), 5000);
    ck_assert_str_eq(rr_item_text(rr_graph_find_actor(graph, "scene@0"), "script"), "./main.py");
    ck_assert_str_eq(rr_item_text(rr_graph_find_actor(graph, "broker@0"), "listen"), "tcp://127.0.0.1:10241");
    ck_assert_int_eq(rr_item_number(rr_graph_top(graph), "log.level"), 4);
    rr_graph_free(graph);
}
END_TEST

START_TEST(seed_cluster_lines_parse) {
    rr_graph_t *graph = args("-broker tcp://127.0.0.1:10242 -bridge_broker GroupA@tcp://127.0.0.1:10241,B@tcp://[::1]:1");
    fine(graph);
    ck_assert_uint_eq(rr_item_value(rr_graph_find_actor(graph, "broker@0"), "bridges")->count, 2);
    rr_graph_free(graph);
    graph = args("-broker tcp://127.0.0.1:10243 -master_broker tcp://127.0.0.1:10242 -gate g -gate_listen tcp://*:1");
    fine(graph); /* the login scene may live elsewhere */
    rr_graph_free(graph);
    graph = args("-broker tcp://127.0.0.1:10243 -gate g -gate_listen tcp://*:1");
    fine(graph); /* it may join later */
    ck_assert_uint_eq(rr_graph_warning_count(graph), 1);
    ck_assert_ptr_nonnull(strstr(rr_graph_warning_text(graph, 0), "must come from another process"));
    rr_graph_free(graph);
    expect_args_error("-gate g -gate_listen tcp://*:1", "not in this graph");
}
END_TEST

START_TEST(args_errors) {
    expect_args_error("-gate_lisen tcp://*:1", "unknown option '-gate_lisen'; did you mean '-gate_listen'?");
    expect_args_error("--node=lobby", "unknown option '--node=lobby'; an option's value stands behind a space: --node lobby");
    expect_args_error("-gat g", "did you mean '-gate'?");
    expect_args_error("main.py", "'main.py' belongs to no option");
    expect_args_error("-gate", "-gate: -gate needs a value");
    expect_args_error("-gate -scene x", "-gate needs a value");
    expect_args_error("-gate a -gate b", "-gate is given twice");
    expect_args_error("-gate x -scene x -gate_listen tcp://*:1", "-scene: the name 'x' is used twice (first: -gate)");
    expect_args_error("-gate g -scene scene@0 -gate_listen 127.0.0.1:1", "-gate_listen: bad address '127.0.0.1:1'");
    expect_args_error("-scene s -max_packet_size 5", "-max_packet_size: there is no gate");
    expect_args_error("-broker tcp://127.0.0.1:5 -gate g -scene scene@0 -gate_listen tcp://127.0.0.1:5", "port 5 is given twice");
    expect_args_error("-scene s -python_path nowhere", "no main.py in nowhere");
    expect_args_error("-f nowhere.conf", "-f: cannot read nowhere.conf");
    expect_args_error("-f", "-f: needs the name");
    expect_args_error("-log_level 3", "nothing to start");
    expect_args_error("-scene , ", "-scene is empty");
}
END_TEST

START_TEST(options_file) {
    make_file("default.conf", "\xef\xbb\xbf# a comment\n-gate gate@0 -gate_listen tcp://*:7 # more\n-scene scene@0\r\n"
                              "-heartbeat_timeout 60\n-log_print_screen false -log_path \"a b\"\n-group x#1\n");
    rr_graph_t *graph = args("-f default.conf -heartbeat_timeout 90 -asyncio");
    fine(graph);
    ck_assert_int_eq(rr_item_number(rr_graph_find_actor(graph, "gate@0"), "heartbeat_timeout"), 90000);
    ck_assert(!rr_item_flag(rr_graph_top(graph), "log.screen"));
    ck_assert(rr_item_flag(rr_graph_find_actor(graph, "scene@0"), "asyncio"));
    ck_assert_str_eq(rr_item_text(rr_graph_top(graph), "log.path"), "a b");
    ck_assert_str_eq(rr_item_text(rr_graph_top(graph), "group"), "x#1");
    rr_graph_free(graph);
    make_file("bad.conf", "-gate g\n  -gate_lisen tcp://*:7\n");
    graph = args("-f bad.conf");
    ck_assert_str_eq(rr_graph_error_text(graph, 0), "bad.conf:2:3: unknown option '-gate_lisen'; did you mean '-gate_listen'?");
    rr_graph_free(graph);
    make_file("bad.conf", "-gate \"g\n");
    graph = args("-f bad.conf");
    ck_assert_str_eq(rr_graph_error_text(graph, 0), "bad.conf:1:7: this quote is not closed; close it on the same line");
    rr_graph_free(graph);
    make_file("bad.conf", "-scene scene@0\n-max_packet_size 0\n-gate g -gate_listen tcp://*:9\n");
    graph = args("-f bad.conf");
    ck_assert_ptr_nonnull(strstr(rr_graph_error_text(graph, 0), "bad.conf:2:18: max_packet_size 0 is out of bounds"));
    rr_graph_free(graph);
}
END_TEST

/* ---- Pictures ---- */

static char *drawn(rr_graph_t *graph, void (*draw)(rr_graph_t *, FILE *)) {
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    draw(graph, out);
    ck_assert_int_eq(fclose(out), 0);
    return text;
}

#define WITH_DB "actors:\n  s: { role: scene, logic: echo }\n  db@0: { role: database, "

/* A database's address, and where its password is. */
START_TEST(databases) {
    make_file("password", "secret\n");
    rr_graph_t *graph = fine(yaml(WITH_DB "url: \"sqlite://./x.db\", pool: 3, queue: { messages: 7 } }\n"));
    const rr_item_t *database = rr_graph_find_actor(graph, "db@0");
    ck_assert_int_eq(rr_item_number(database, "pool"), 3);
    ck_assert_int_eq(rr_item_number(database, "queue.messages"), 7);
    ck_assert_int_eq(rr_item_number(database, "query_timeout"), 10000);
    rr_graph_free(graph);
    rr_graph_free(fine(yaml(WITH_DB "url: \"postgresql://u@h/d\", password_file: password }\n")));
    expect_error(yaml(WITH_DB "pool: 3 }\n"), "3:3", "db@0 has no url", "add `url:");
    expect_error(yaml(WITH_DB "url: \"oracle://u:secret@h/d\" }\n"), "3:32", "no database 'oracle'", "known are sqlite");
    expect_error(yaml(WITH_DB "url: \"postgresql://u:secret@h:x/d\" }\n"), "3:32", "a port of 1 to 65535", "%40");
    expect_error(yaml(WITH_DB "url: \"postgresql://u:p@h/d\", password_file: password }\n"), "3:71", "in its url already", "take it out");
    expect_error(yaml(WITH_DB "url: \"postgresql://u@h/d\", password_file: password, password_env: X }\n"), "3:69", "and in a file",
                 "leave one out");
    expect_error(yaml(WITH_DB "url: \"postgresql://u@h/d\", password_file: missing }\n"), "3:69", "cannot be read", "No such file");
    unsetenv("RR_NO_SUCH");
    expect_error(yaml(WITH_DB "url: \"postgresql://u@h/d\", password_env: RR_NO_SUCH }\n"), "3:68", "RR_NO_SUCH is not set", "set it");
    expect_error(yaml(WITH_DB "url: \"sqlite://x.db\", password_env: HOME }\n"), "3:63", "which has no password", "leave it out");
}
END_TEST

START_TEST(pictures_hide_passwords) {
    rr_graph_t *graph = fine(yaml(WITH_DB "url: \"postgresql://u:secret@h/d\" }\n"));
    for (int svg = 0; svg < 2; svg++) {
        char *text = NULL;
        size_t size;
        FILE *out = open_memstream(&text, &size);
        (svg ? rr_graph_draw_svg : rr_graph_draw_text)(graph, out);
        fclose(out);
        ck_assert_ptr_nonnull(strstr(text, "postgresql://u:***@h/d"));
        ck_assert_ptr_null(strstr(text, "secret"));
        free(text);
    }
    rr_graph_free(graph);
}
END_TEST

START_TEST(pictures) {
    rr_graph_t *graph = yaml(whole);
    fine(graph);
    char *text = drawn(graph, rr_graph_draw_text), *svg = drawn(graph, rr_graph_draw_svg);
    ck_assert_ptr_nonnull(strstr(text, "group world\n|\n+-- node front  tcp://10.0.0.1:7000\n"));
    ck_assert_ptr_nonnull(strstr(text, "gate@0           gate    tcp://0.0.0.0:10242, ws://0.0.0.0:8080  login scene@0\n"));
    ck_assert_int_eq(strncmp(svg, "<svg ", 5), 0);
    ck_assert_ptr_nonnull(strstr(svg, ">room@8</text>"));
    ck_assert_ptr_nonnull(strstr(svg, "</svg>\n"));
    free(text);
    free(svg);
    rr_graph_free(graph);
}
END_TEST

int main(void) {
    char path[512];
    if (!mkdtemp(folder))
        return 1;
    make_file("main.py", "");
    snprintf(path, sizeof path, "%s/www", folder);
    mkdir(path, 0700);
    snprintf(path, sizeof path, "%s/lib", folder);
    mkdir(path, 0700);
    Suite *suite = suite_create("graph");
    TCase *tc = tcase_create("graph");
    suite_add_tcase(suite, tc);
    tcase_add_test(tc, whole_graph);
    tcase_add_test(tc, implied_broker);
    tcase_add_test(tc, yaml_errors);
    tcase_add_test(tc, value_errors);
    tcase_add_test(tc, reference_errors);
    tcase_add_test(tc, same_port_on_two_nodes);
    tcase_add_test(tc, nodes_have_their_own_addresses);
    tcase_add_test(tc, ephemeral_port_warns);
    tcase_add_test(tc, many_errors_are_all_shown);
    tcase_add_test(tc, seed_line);
    tcase_add_test(tc, seed_cluster_lines_parse);
    tcase_add_test(tc, args_errors);
    tcase_add_test(tc, options_file);
    tcase_add_test(tc, databases);
    tcase_add_test(tc, pictures_hide_passwords);
    tcase_add_test(tc, pictures);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    snprintf(path, sizeof path, "rm -r '%s'", folder);
    return system(path) != 0 || failed != 0;
}
