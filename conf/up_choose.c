/* up_choose.c: which nodes of a graph `redrabbit up` runs, in which order they end, and the group's key. */
#include "conf/up_impl.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "conf/share.h"

void rr__up_promise_key(rr_up_t *up) {
    rr_graph_t *graph = up->options->graph;
    const char *file = "(of this run)";
    rr_raw_t raw = {.place = {"cluster_key", 0, 0}, .texts = &file, .count = 1};
    rr_graph_set(graph, rr_graph_top(graph), "cluster_key", &raw, NULL, true);
}

bool rr__up_find_key(rr_up_t *up) {
    char why[600];
    rr_share_t share;
    if (rr_graph_share(up->options->graph, &share) != RR_OK) /* of the node selected last: it was sound before */
        return true;
    const char *master = share.master ? share.master : share.advertise ? share.advertise : share.listen;
    bool other = rr_run_key_find(share.group, master, &up->key), ours = up->nodes[0]->rank == UP_MASTER;
    if (other && ours) {
        fprintf(stderr, "redrabbit: another `redrabbit up` runs group %s at %s already; end that one first\n", share.group, master);
        return false;
    }
    if (ours && rr_run_key_make(share.group, master, &up->key, why, sizeof why) != RR_OK) {
        fprintf(stderr, "redrabbit: %s\n", why);
        return false;
    }
    return true;
}

static bool wanted(const rr_up_options_t *options, const char *name) {
    for (size_t i = 0; i < options->node_count; i++) {
        if (strcmp(options->nodes[i], name) == 0)
            return true;
    }
    return options->node_count == 0;
}

/* Of the node that is selected, if it is not the master's. */
static rr_up_rank_t rank_of(rr_graph_t *graph) {
    rr_up_rank_t rank = UP_SCENES;
    for (size_t i = 0; i < rr_graph_actor_count(graph); i++) {
        const rr_item_t *actor = rr_graph_actor(graph, i);
        rr_up_rank_t own = actor->scope == RR_SCOPE_BROKER     ? UP_BROKERS
                           : actor->scope == RR_SCOPE_GATE     ? UP_GATES
                           : actor->scope == RR_SCOPE_DATABASE ? UP_DATABASES
                                                               : UP_SCENES;
        if (own > rank && rr_graph_runs(graph, actor))
            rank = own;
    }
    return rank;
}

static bool add_node(rr_up_t *up, const char *name) {
    rr_share_t share;
    if (rr_graph_select(up->options->graph, name) != RR_OK || rr_graph_share(up->options->graph, &share) != RR_OK)
        return true; /* noted in the graph */
    rr_up_node_t *node = calloc(1, sizeof *node);
    if (!node)
        return false;
    node->name = name;
    node->output = node->word = -1;
    node->rank = share.cluster && !share.master ? UP_MASTER : rank_of(up->options->graph);
    up->nodes[up->count++] = node;
    int length = (int)strlen(name);
    up->width = length > up->width ? length : up->width;
    return true;
}

bool rr__up_choose(rr_up_t *up) {
    rr_graph_t *graph = up->options->graph;
    size_t count = rr_graph_node_count(graph);
    up->nodes = calloc(count + 1, sizeof(rr_up_node_t *));
    up->polls = calloc(count + 2, sizeof *up->polls);
    up->out = rr_printer_new(STDOUT_FILENO);
    bool ok = up->nodes && up->polls && up->out;
    for (size_t i = 0; i < up->options->node_count; i++) {
        if (rr_graph_select(graph, up->options->nodes[i]) != RR_OK)
            break; /* noted */
    }
    for (size_t i = 0; ok && i < count && !rr_graph_error_count(graph); i++) {
        if (wanted(up->options, rr_graph_node(graph, i)->name))
            ok = add_node(up, rr_graph_node(graph, i)->name);
    }
    for (size_t i = 1; ok && i < up->count; i++) {
        rr_up_node_t *node = up->nodes[i];
        if (node->rank != UP_MASTER)
            continue;
        memmove(up->nodes + 1, up->nodes, i * sizeof(rr_up_node_t *));
        up->nodes[0] = node;
    }
    return ok;
}
