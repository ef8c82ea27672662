/* graph_config.c: what a script's get_config says, and what all gates ask for together. */
#include "conf/graph.h"

#include <string.h>

/* The first value of an option among the graph and the actors, else its default. */
static const char *first_value(rr_graph_t *graph, const rr_option_t *option) {
    if (option->scopes & RR_SCOPE_GRAPH)
        return rr_item_text(rr_graph_top(graph), option->key);
    for (size_t i = 0; i < rr_graph_actor_count(graph); i++) {
        const rr_item_t *actor = rr_graph_actor(graph, i);
        if ((actor->scope & option->scopes) && rr_item_value(actor, option->key))
            return rr_item_text(actor, option->key);
    }
    return option->preset;
}

static const char *first_name(rr_graph_t *graph, rr_scope_t scope) {
    for (size_t i = 0; i < rr_graph_actor_count(graph); i++) {
        if (rr_graph_actor(graph, i)->scope == scope)
            return rr_graph_actor(graph, i)->name;
    }
    return NULL;
}

const char *rr_graph_config(rr_graph_t *graph, const char *option) {
    static const rr_scope_t scopes[] = {RR_SCOPE_GRAPH, RR_SCOPE_GATE, RR_SCOPE_SCENE, RR_SCOPE_BROKER};
    if (strcmp(option, "-gate") == 0)
        return first_name(graph, RR_SCOPE_GATE);
    if (strcmp(option, "-scene") == 0)
        return first_name(graph, RR_SCOPE_SCENE);
    const rr_option_t *found = rr_option_find_arg(option);
    for (size_t i = 0; !found && i < sizeof scopes / sizeof scopes[0]; i++)
        found = rr_option_find(scopes[i], option);
    return found ? first_value(graph, found) : NULL;
}

size_t rr_graph_connections(rr_graph_t *graph, bool *given) {
    size_t sum = 0;
    *given = false;
    for (size_t i = 0; i < rr_graph_actor_count(graph); i++) {
        const rr_item_t *gate = rr_graph_actor(graph, i);
        if (gate->scope != RR_SCOPE_GATE || !rr_graph_runs(graph, gate))
            continue;
        sum += (size_t)rr_item_number(gate, "max_connections");
        *given |= rr_item_value(gate, "max_connections") != NULL;
    }
    return sum;
}
