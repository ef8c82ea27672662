#include "conf/ask.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "actors/cluster.h"
#include "conf/run.h"
#include "conf/run_key.h"
#include "conf/share.h"

#define QUERY_MS 5000u
#define DRAIN_MS 60000u
#define DEFAULT_GROUP "default"

typedef struct rr_question {
    const char *broker, *group, *key_file, *node;
    bool json, group_given;
    unsigned timeout_ms;
    rr_run_key_t found; /* of a `redrabbit up` that runs the group here */
    char *key;
    size_t key_size;
} rr_question_t;

static int wrong(const char *command, const char *what) {
    fprintf(stderr, "redrabbit: %s: %s\n", command, what);
    return RR_EXIT_USAGE;
}

/* ---- The command line ---- */

/* "--broker ADDR": the value behind the option, NULL if argv[*at] is not that option; missing values are "". */
static const char *value_of(int argc, char **argv, int *at, const char *option) {
    if (strcmp(argv[*at], option) != 0 && strcmp(argv[*at], option + 1) != 0)
        return NULL;
    return *at + 1 < argc ? argv[++*at] : "";
}

static bool read_timeout(const char *text, unsigned *out) {
    static const rr_option_t seconds = {.key = "--timeout", .type = RR_TYPE_DURATION, .min = 1, .max = 86400000};
    int64_t number;
    if (rr_option_parse(&seconds, text, &number, NULL, 0) != RR_OK)
        return false;
    *out = (unsigned)number;
    return true;
}

/* The graph's file says what the options would. */
static int read_graph(const char *command, const char *file, rr_graph_t *graph, rr_question_t *question) {
    rr_share_t share = {0};
    int rc = rr_graph_read_yaml(graph, file);
    if (rc == RR_OK)
        rc = rr_graph_check(graph);
    if (rc == RR_OK && rr_graph_node_count(graph))
        rc = rr_graph_select(graph, rr_graph_node(graph, 0)->name);
    if (rc == RR_OK)
        rc = rr_graph_share(graph, &share);
    for (size_t i = 0; i < rr_graph_error_count(graph); i++)
        fprintf(stderr, "%s\n", rr_graph_error_text(graph, i));
    if (rc != RR_OK)
        return RR_EXIT_USAGE;
    if (!share.cluster)
        return wrong(command, "this graph runs in one process, whose actors nobody outside can ask for");
    const char *own = share.advertise ? share.advertise : share.listen;
    question->broker = question->broker ? question->broker : share.master ? share.master : own;
    question->group = question->group_given ? question->group : share.group;
    question->key_file = question->key_file ? question->key_file : share.key_file;
    return RR_EXIT_OK;
}

static int read_argument(const char *command, int argc, char **argv, int *at, rr_question_t *question, const char **file) {
    const char *value;
    if ((value = value_of(argc, argv, at, "--broker"))) {
        question->broker = value;
    } else if ((value = value_of(argc, argv, at, "--group"))) {
        question->group = value;
        question->group_given = true;
    } else if ((value = value_of(argc, argv, at, "--cluster_key"))) {
        question->key_file = value;
    } else if ((value = value_of(argc, argv, at, "--timeout"))) {
        if (!read_timeout(value, &question->timeout_ms))
            return wrong(command, "--timeout needs a time such as 30s");
    } else if (strcmp(argv[*at], "--json") == 0 && strcmp(command, "ps") == 0) {
        question->json = true;
        value = "1";
    } else if (!argv[*at][0]) {
        return wrong(command, "a word is empty");
    } else if (argv[*at][0] == '-') {
        char text[200];
        snprintf(text, sizeof text, "there is no option '%.100s'; it knows --broker, --group, --cluster_key, --timeout%s", argv[*at],
                 strcmp(command, "ps") == 0 ? " and --json" : "");
        return wrong(command, text);
    } else if (strcmp(command, "drain") == 0 && !question->node) {
        question->node = value = argv[*at];
    } else if (!*file) {
        *file = value = argv[*at];
    } else {
        return wrong(command, "too many words; `redrabbit --help` shows how it is written");
    }
    if (value && !*value)
        return wrong(command, "an option at the end lacks its value");
    return RR_EXIT_OK;
}

static int read_key(const char *command, rr_question_t *question) {
    char why[600], warning[600];
    if (!question->key_file && rr_run_key_find(question->group, question->broker, &question->found))
        question->key_file = question->found.path;
    if (!question->key_file)
        return RR_EXIT_OK;
    if (rr_key_read(question->key_file, &question->key, &question->key_size, why, sizeof why, warning, sizeof warning) != RR_OK)
        return wrong(command, why);
    if (warning[0])
        fprintf(stderr, "redrabbit: warning: %s\n", warning);
    return RR_EXIT_OK;
}

static int read_question(const char *command, int argc, char **argv, rr_graph_t *graph, rr_question_t *question) {
    const char *file = NULL;
    int status = RR_EXIT_OK;
    for (int i = 0; i < argc && status == RR_EXIT_OK; i++)
        status = read_argument(command, argc, argv, &i, question, &file);
    if (status == RR_EXIT_OK && file)
        status = read_graph(command, file, graph, question);
    if (status == RR_EXIT_OK && strcmp(command, "drain") == 0 && !question->node)
        status = wrong(command, "name the node: redrabbit drain NODE --broker tcp://127.0.0.1:10241");
    if (status == RR_EXIT_OK && !question->broker)
        status = wrong(command, "name the group's master: --broker tcp://127.0.0.1:10241, or the graph's file");
    return status == RR_EXIT_OK ? read_key(command, question) : status;
}

static void forget_key(rr_question_t *question) {
    if (question->key)
        explicit_bzero(question->key, question->key_size);
    free(question->key);
}

/* What a refusal, which speaks of nodes, means for who asks. */
static void explain(const char *command, const rr_question_t *question, int rc, const char *why) {
    fprintf(stderr, "redrabbit: %s: %s\n", command, why);
    if (rc == RR_EACCES && question->key_file)
        fprintf(stderr, "redrabbit: %s: the key in %s is not the group's; name the one that its nodes have: --cluster_key FILE\n", command,
                question->key_file);
    else if (rc == RR_EACCES)
        fprintf(stderr,
                "redrabbit: %s: the group has a key; name it: --cluster_key FILE, or the graph that its nodes run. That of a "
                "`redrabbit up` is found without, if --broker is its master's address\n",
                command);
    else if (rc == RR_EREFUSED && !question->group_given && strcmp(question->group, DEFAULT_GROUP) == 0)
        fprintf(stderr, "redrabbit: %s: the group is taken to be '%s'; name another: --group NAME, or the graph that its nodes run\n",
                command, DEFAULT_GROUP);
    else if (rc == RR_EIO)
        fprintf(stderr, "redrabbit: %s: that is where its master should be: does the group run? Else name the master: --broker ADDRESS\n", command);
}

/* ---- ps ---- */

static const char *text_in(json_t *object, const char *key) {
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

static long long number_in(json_t *object, const char *key) {
    return (long long)json_integer_value(json_object_get(object, key));
}

/* The node's name by its id. */
static const char *node_name(json_t *nodes, long long id) {
    size_t i;
    json_t *node;
    json_array_foreach(nodes, i, node) {
        if (number_in(node, "id") == id)
            return text_in(node, "name");
    }
    return "?";
}

static int by_id(const void *a, const void *b) {
    long long one = number_in(*(json_t *const *)a, "id"), other = number_in(*(json_t *const *)b, "id");
    return (one > other) - (one < other);
}

static int by_name(const void *a, const void *b) { return strcmp(text_in(*(json_t *const *)a, "name"), text_in(*(json_t *const *)b, "name")); }

static int by_ends(const void *a, const void *b) {
    json_t *one = *(json_t *const *)a, *other = *(json_t *const *)b;
    long long x = number_in(one, "from") * 65536 + number_in(one, "to"), y = number_in(other, "from") * 65536 + number_in(other, "to");
    return (x > y) - (x < y);
}

/* Puts an array's entries in order; without memory they stay as they came. */
static void sort(json_t *array, int (*compare)(const void *, const void *)) {
    size_t count = json_array_size(array);
    json_t **items = calloc(count + 1, sizeof(json_t *));
    for (size_t i = 0; items && i < count; i++)
        items[i] = json_incref(json_array_get(array, i));
    if (items)
        qsort(items, count, sizeof(json_t *), compare);
    for (size_t i = 0; items && i < count; i++) {
        if (json_array_set_new(array, i, items[i]) != 0)
            break;
    }
    free(items);
}

/* Of the column that has this text of each: names of nodes may have 63 letters. */
static int width_of(json_t *array, const char *key, int least) {
    size_t i;
    json_t *item;
    json_array_foreach(array, i, item) {
        int width = (int)strlen(text_in(item, key));
        least = width > least ? width : least;
    }
    return least;
}

static void print_nodes(json_t *nodes) {
    int names = width_of(nodes, "name", 12), addresses = width_of(nodes, "address", 12);
    size_t i;
    json_t *node;
    printf("%-*s %6s %-10s %-*s %s\n", names, "NODE", "ID", "STATUS", addresses, "ADDRESS", "ROLE");
    json_array_foreach(nodes, i, node) {
        const char *address = text_in(node, "address");
        printf("%-*s %6lld %-10s %-*s %s\n", names, text_in(node, "name"), number_in(node, "id"), text_in(node, "status"),
               addresses, *address ? address : "(by relay)",
               json_is_true(json_object_get(node, "master")) ? "master" : json_is_true(json_object_get(node, "relay")) ? "relay" : "");
    }
}

static void print_actors(json_t *nodes, json_t *names) {
    int actor = width_of(names, "name", 12), where = width_of(nodes, "name", 12);
    size_t i;
    json_t *name;
    printf("\n%-*s %-*s %s\n", actor, "ACTOR", where, "NODE", "EPOCH");
    json_array_foreach(names, i, name) {
        printf("%-*s %-*s %lld\n", actor, text_in(name, "name"), where, node_name(nodes, number_in(name, "node")), number_in(name, "epoch"));
    }
}

static void print_links(json_t *nodes, json_t *links) {
    int width = width_of(nodes, "name", 12);
    size_t i;
    json_t *link;
    printf("\n%-*s %-*s %-10s %-*s %12s %12s %10s\n", width, "LINK FROM", width, "TO", "STATE", width, "VIA", "SENT", "RECEIVED", "UNACKED");
    json_array_foreach(links, i, link) {
        long long via = number_in(link, "via");
        printf("%-*s %-*s %-10s %-*s %12lld %12lld %10lld\n", width, node_name(nodes, number_in(link, "from")), width,
               node_name(nodes, number_in(link, "to")), text_in(link, "state"), width, via ? node_name(nodes, via) : "direct",
               number_in(link, "sent_messages"), number_in(link, "received_messages"), number_in(link, "unacked_bytes"));
    }
}

static int print_table(const char *json) {
    json_error_t error;
    json_t *root = json_loads(json, 0, &error);
    if (!root)
        return wrong("ps", "the broker's answer makes no sense; is it of another version?");
    json_t *nodes = json_object_get(root, "nodes");
    sort(nodes, by_id);
    sort(json_object_get(root, "names"), by_name);
    sort(json_object_get(root, "links"), by_ends);
    print_nodes(nodes);
    print_actors(nodes, json_object_get(root, "names"));
    print_links(nodes, json_object_get(root, "links"));
    json_decref(root);
    return RR_EXIT_OK;
}

int rr_ask_ps(int argc, char **argv) {
    rr_question_t question = {.group = DEFAULT_GROUP, .timeout_ms = QUERY_MS};
    rr_graph_t *graph = rr_graph_new();
    char why[1024] = "out of memory", *json = NULL;
    int status = graph ? read_question("ps", argc, argv, graph, &question) : wrong("ps", why);
    if (status != RR_EXIT_OK)
        goto out;
    int rc = rr_cluster_query(question.broker, question.group, question.key, question.key_size, question.timeout_ms, &json, why,
                              sizeof why);
    if (rc != RR_OK) {
        explain("ps", &question, rc, why);
        status = RR_EXIT_FAILED;
    } else if (question.json) {
        puts(json);
    } else {
        status = print_table(json);
    }
out:
    free(json);
    forget_key(&question);
    rr_graph_free(graph);
    return status;
}

/* ---- drain ---- */

int rr_ask_drain(int argc, char **argv) {
    rr_question_t question = {.group = DEFAULT_GROUP, .timeout_ms = DRAIN_MS};
    rr_graph_t *graph = rr_graph_new();
    char why[1024] = "out of memory";
    int status = graph ? read_question("drain", argc, argv, graph, &question) : wrong("drain", why);
    if (status != RR_EXIT_OK)
        goto out;
    int rc = rr_cluster_drain_node(question.broker, question.group, question.key, question.key_size, question.node,
                                   question.timeout_ms, why, sizeof why);
    if (rc == RR_OK)
        printf("redrabbit: node %s is drained and gone\n", question.node);
    else
        explain("drain", &question, rc, why);
    status = rc == RR_OK ? RR_EXIT_OK : rc == RR_TIMEOUT ? RR_EXIT_CUT : RR_EXIT_FAILED;
out:
    forget_key(&question);
    rr_graph_free(graph);
    return status;
}
