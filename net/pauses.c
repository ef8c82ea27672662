/* pauses.c: which local actors are full, and which nodes were told so. An entry lives from the first "pause" until the
 * actor has room again or is gone (rr_wait_room tells the mesh's helper). */
#include <stdlib.h>

#include "net/mesh_impl.h"

struct rr__pause {
    rr__pause_t *next;
    rr_addr_t actor;
    unsigned count, capacity;
    uint16_t *nodes;
};

static rr__pause_t **find(rr_mesh_t *mesh, rr_addr_t actor) {
    unsigned hash = (unsigned)(actor * 0x9e3779b97f4a7c15ull >> 56) % RR__PAUSE_BUCKETS;
    rr__pause_t **at = &mesh->pauses.buckets[hash];
    while (*at && (*at)->actor != actor) {
        at = &(*at)->next;
    }
    return at;
}

static bool add_node(rr__pause_t *pause, unsigned node) {
    for (unsigned i = 0; i < pause->count; i++) {
        if (pause->nodes[i] == node) {
            return false;
        }
    }
    if (pause->count == pause->capacity) {
        unsigned capacity = pause->capacity ? 2 * pause->capacity : 4;
        uint16_t *nodes = realloc(pause->nodes, capacity * sizeof *nodes);
        if (!nodes) {
            return false;
        }
        pause->nodes = nodes;
        pause->capacity = capacity;
    }
    pause->nodes[pause->count++] = (uint16_t)node;
    return true;
}

static void drop(rr__pause_t **at) {
    rr__pause_t *pause = *at;
    *at = pause->next;
    free(pause->nodes);
    free(pause);
}

void rr__pause_ask(rr_mesh_t *mesh, rr__link_t *link, rr_addr_t actor) {
    rr__pause_t **at = find(mesh, actor);
    bool first = !*at;
    if (first) {
        *at = calloc(1, sizeof **at);
        if (!*at) {
            return; /* what comes too much is refused, and its senders are told */
        }
        (*at)->actor = actor;
    }
    if (!add_node(*at, link->node)) {
        return;
    }
    if (first && rr_wait_room(mesh->system, actor, mesh->helper) != RR_OK) {
        drop(at); /* it is gone, or nobody would say when to go on */
        return;
    }
    link->last_paused = actor;
    rr__link_send_control(link, RR_RECORD_PAUSE, actor);
}

void rr__pause_room(rr_mesh_t *mesh, rr_addr_t actor) {
    rr__pause_t **at = find(mesh, actor);
    if (!*at) {
        return;
    }
    for (unsigned i = 0; i < (*at)->count; i++) {
        rr__link_t *link = rr__mesh_link(mesh, (*at)->nodes[i]);
        if (link) {
            link->last_paused = RR_NOBODY;
            rr__link_send_control(link, RR_RECORD_RESUME, actor);
        }
    }
    drop(at);
}

static void forget_node(rr__pause_t *pause, unsigned node) {
    for (unsigned i = 0; i < pause->count; i++) {
        if (pause->nodes[i] == node) {
            pause->nodes[i] = pause->nodes[--pause->count];
            return;
        }
    }
}

void rr__pauses_forget(rr_mesh_t *mesh, unsigned node) {
    for (unsigned b = 0; b < RR__PAUSE_BUCKETS; b++) {
        for (rr__pause_t **at = &mesh->pauses.buckets[b]; *at;) {
            if (node == 0) {
                drop(at);
                continue;
            }
            forget_node(*at, node); /* an entry without nodes goes when there is room */
            at = &(*at)->next;
        }
    }
}
