/* redrabbit: the program. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "conf/ask.h"
#include "conf/home.h"
#include "conf/new.h"
#include "conf/run.h"
#include "conf/run_key.h"
#include "conf/up.h"
#include "conf/usage.h"

/* Errors and warnings, a line each; the exit status. */
static int report(const rr_graph_t *graph, bool warnings) {
    for (size_t i = 0; warnings && i < rr_graph_warning_count(graph); i++)
        fprintf(stderr, "%s (warning)\n", rr_graph_warning_text(graph, i));
    for (size_t i = 0; i < rr_graph_error_count(graph); i++)
        fprintf(stderr, "%s\n", rr_graph_error_text(graph, i));
    return rr_graph_error_count(graph) ? RR_EXIT_USAGE : RR_EXIT_OK;
}

static int wrong(const char *what) {
    fprintf(stderr, "redrabbit: %s\n", what);
    return RR_EXIT_USAGE;
}

/* A node that is started by hand beside a `redrabbit up` of its group. */
static void borrow_key(rr_share_t *share, rr_run_key_t *key) {
    if (!share->cluster || !share->master || share->key_file || !rr_run_key_find(share->group, share->master, key))
        return;
    share->key_file = key->path;
    printf("redrabbit: joins the group of a `redrabbit up` that runs here, with its key %s\n", key->path);
}

static int run_graph(rr_graph_t *graph, const char *folder, const char *node) {
    rr_run_key_t key;
    rr_share_t share;
    bool sound = rr_graph_select(graph, node) == RR_OK && rr_graph_check(graph) == RR_OK && rr_graph_share(graph, &share) == RR_OK;
    int status = report(graph, true);
    if (sound)
        borrow_key(&share, &key);
    return sound ? rr_run(graph, &share, folder) : status;
}

/* Takes "--node NAME" out of argv. */
static const char *take_node(int *argc, char **argv) {
    for (int i = 0; i + 1 < *argc; i++) {
        if (strcmp(argv[i], "--node") != 0)
            continue;
        const char *node = argv[i + 1];
        memmove(&argv[i], &argv[i + 2], (size_t)(*argc - i - 2) * sizeof *argv);
        *argc -= 2;
        return node;
    }
    return NULL;
}

/* argv[0] is a graph's file, or the first of the seed's options. */
static int command_run(rr_graph_t *graph, int argc, char **argv) {
    if (strcmp(argv[argc - 1], "--node") == 0)
        return wrong("--node needs the name of one of the graph's nodes");
    const char *node = take_node(&argc, argv);
    bool yaml = argc > 0 && argv[0][0] != '-';
    char *folder = yaml ? rr__folder_of(argv[0]) : strdup(".");
    int rc = RR_OK, status;
    if (yaml) {
        rc = rr_graph_read_yaml(graph, argv[0]);
        argv++;
        argc--;
    }
    if (rc == RR_OK && (argc > 0 || !yaml))
        rc = rr_graph_read_args(graph, argc, argv);
    if (!folder)
        status = wrong("out of memory");
    else
        status = rc == RR_OK ? run_graph(graph, folder, node) : report(graph, true);
    free(folder);
    return status;
}

static int command_check(rr_graph_t *graph, int argc, char **argv) {
    if (argc == 1 && strcmp(argv[0], "--options") == 0) {
        rr_options_print(stdout);
        return RR_EXIT_OK;
    }
    if (argc != 1)
        return wrong("check needs the path of one graph, or --options");
    if (rr_graph_read_yaml(graph, argv[0]) != RR_OK || rr_graph_check(graph) != RR_OK)
        return report(graph, true);
    report(graph, true);
    printf("%s: fine, %zu actors\n", argv[0], rr_graph_actor_count(graph));
    return RR_EXIT_OK;
}

static int write_svg(rr_graph_t *graph, const char *path) {
    FILE *out = fopen(path, "we");
    if (out)
        rr_graph_draw_svg(graph, out);
    bool ok = out && !ferror(out);
    if (out && fclose(out) != 0)
        ok = false;
    if (!ok)
        fprintf(stderr, "redrabbit: cannot write %s; choose another path for --svg\n", path);
    return ok ? RR_EXIT_OK : RR_EXIT_FAILED;
}

static int command_graph(rr_graph_t *graph, int argc, char **argv) {
    bool svg = (argc == 2 || argc == 3) && strcmp(argv[1], "--svg") == 0;
    if (argc != 1 && !svg)
        return wrong("graph needs the path of one graph, and perhaps --svg [FILE]");
    if (rr_graph_read_yaml(graph, argv[0]) != RR_OK || rr_graph_check(graph) != RR_OK)
        return report(graph, true);
    if (argc == 3)
        return write_svg(graph, argv[2]);
    (svg ? rr_graph_draw_svg : rr_graph_draw_text)(graph, stdout);
    return RR_EXIT_OK;
}

static int command_new(rr_graph_t *graph, int argc, char **argv) {
    char why[512];
    (void)graph;
    if (argc != 1)
        return wrong("new needs one name, as in `redrabbit new mygame`");
    if (rr_new_project(argv[0], why, sizeof why) != RR_OK)
        return wrong(why);
    printf("%s/ is ready:\n  redrabbit %s/graph.yaml --watch  runs it, and loads what you save; its page: http://127.0.0.1:10242/\n"
           "  python3 %s/test_main.py          tests it\n",
           argv[0], argv[0], argv[0]);
    return RR_EXIT_OK;
}

/* up has the nodes' bare names where running a graph has --node. */
static int node_to_up(const char *file, const char *node) {
    char text[512];
    snprintf(text, sizeof text, "up takes names of nodes as they are: redrabbit up %.200s %.100s", file, node ? node : "NODE");
    return wrong(text);
}

/* argv: GRAPH.yaml [NODE …] [-option value …] */
static int command_up(rr_graph_t *graph, int argc, char **argv) {
    int nodes = 0;
    if (argc < 1 || argv[0][0] == '-')
        return wrong("up needs the path of a graph, and perhaps names of its nodes");
    while (1 + nodes < argc && argv[1 + nodes][0] != '-')
        nodes++;
    for (int i = 1 + nodes; i < argc; i++) {
        if (strcmp(argv[i], "--node") == 0)
            return node_to_up(argv[0], i + 1 < argc ? argv[i + 1] : NULL);
        if (strncmp(argv[i], "--node=", 7) == 0)
            return node_to_up(argv[0], argv[i] + 7);
    }
    rr_up_options_t options = {.graph = graph, .file = argv[0], .nodes = argv + 1, .node_count = (size_t)nodes,
                               .more = argv + 1 + nodes, .more_count = (size_t)(argc - 1 - nodes)};
    int rc = rr_graph_read_yaml(graph, argv[0]);
    if (rc == RR_OK && options.more_count)
        rc = rr_graph_read_args(graph, (int)options.more_count, argv + 1 + nodes);
    if (rc == RR_OK)
        rc = rr_graph_check(graph);
    int status = rc == RR_OK ? rr_up(&options) : RR_EXIT_USAGE;
    int reported = report(graph, rc != RR_OK);
    return status == RR_EXIT_OK ? reported : status;
}

static int command_ps(rr_graph_t *graph, int argc, char **argv) {
    (void)graph;
    return rr_ask_ps(argc, argv);
}

static int command_drain(rr_graph_t *graph, int argc, char **argv) {
    (void)graph;
    return rr_ask_drain(argc, argv);
}

static const struct {
    const char *name;
    int (*run)(rr_graph_t *graph, int argc, char **argv);
} commands[] = {{"check", command_check}, {"graph", command_graph}, {"new", command_new},
              {"up", command_up}, {"ps", command_ps}, {"drain", command_drain}};

#define COMMAND_COUNT (sizeof commands / sizeof commands[0])

/* COMMAND_COUNT = there is none of that name. */
static size_t find_command(const char *name) {
    size_t at = 0;
    while (at < COMMAND_COUNT && strcmp(commands[at].name, name) != 0)
        at++;
    return at;
}

/* A bare word that is no file was meant as a command. */
static bool means_command(const char *word) { return word[0] != '-' && !strpbrk(word, "./") && access(word, F_OK) != 0; }

static int no_such_command(const char *word) {
    char text[256];
    snprintf(text, sizeof text, "%.100s is neither a command (up, ps, drain, check, graph, new) nor a graph's file; --help lists what there is",
             word);
    return wrong(text);
}

static bool asks_for_help(const char *word) { return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0; }

/* In any place: who asks for help wants nothing done. */
static bool is_help(int argc, char **argv) {
    for (int i = 0; i < argc; i++) {
        if (asks_for_help(argv[i]))
            return true;
    }
    return false;
}

/* word: a command, a graph's file; options are explained by the whole program's text. */
static int help(const char *word) {
    bool command = find_command(word) < COMMAND_COUNT;
    if (*word && !command && means_command(word))
        return no_such_command(word);
    rr_usage_print(*word && !command && word[0] != '-' ? RR_USAGE_RUN : word, stdout);
    return RR_EXIT_OK;
}

static int dispatch(rr_graph_t *graph, int argc, char **argv) {
    size_t command = find_command(argv[0]);
    if (is_help(argc - 1, argv + 1))
        return help(argv[0]);
    if (command < COMMAND_COUNT)
        return commands[command].run(graph, argc - 1, argv + 1);
    return means_command(argv[0]) ? no_such_command(argv[0]) : command_run(graph, argc, argv);
}

/* Where the Python package and the JavaScript client lie: python/ and net/www/ below it. */
static int print_home(void) {
    char path[4096];
    if (!rr_home_path("", path, sizeof path))
        return wrong("the program's folder has too long a path; move it");
    printf("%s\n", path);
    return RR_EXIT_OK;
}

int main(int argc, char **argv) {
    if (argc < 2 || asks_for_help(argv[1]) || strcmp(argv[1], "help") == 0)
        return help(argc > 2 ? argv[2] : "");
    if (strcmp(argv[1], "--version") == 0) {
        printf("redrabbit %s\n", rr_version());
        return RR_EXIT_OK;
    }
    if (strcmp(argv[1], "--home") == 0)
        return print_home();
    rr_graph_t *graph = rr_graph_new();
    if (!graph)
        return wrong("out of memory");
    int status = dispatch(graph, argc - 1, argv + 1);
    rr_graph_free(graph);
    return status;
}
