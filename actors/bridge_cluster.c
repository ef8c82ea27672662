/* bridge_cluster.c: entering a bridge's group for real: a system, a loop and a membership of their own. */
#include <stdio.h>
#include <stdlib.h>

#include "actors/bridge.h"
#include "actors/cluster.h"

typedef struct handle {
    rr_cluster_t *cluster;
} handle_t;

static int fail(int code, char *why, size_t why_size, const char *what) {
    snprintf(why, why_size, "%s: %s", what, rr_strerror(code));
    return code;
}

/* The system of the ticket, not started. */
static int make(const rr_bridge_place_t *place, const rr_cluster_options_t *options, rr_cluster_ticket_t *ticket,
                rr_bridge_stay_t *out, handle_t *handle, char *why, size_t why_size) {
    rr_options_t system = *place->system;
    rr_loop_t *loop;
    system.node = ticket->self.node;
    int rc = rr_system_create(&out->system, &system);
    if (rc == RR_OK)
        rc = rr_loop_create(out->system, "bridge", &loop);
    if (rc != RR_OK) {
        rr_cluster_ticket_drop(ticket);
        return fail(rc, why, why_size, "the bridge's system does not start");
    }
    out->executor = rr_loop_executor(loop);
    out->leased = true;
    rc = rr_cluster_create(out->system, loop, options, ticket, &handle->cluster, why, why_size);
    if (rc == RR_OK && (rc = rr_system_start(out->system)) != RR_OK)
        fail(rc, why, why_size, "the bridge's system does not start");
    return rc;
}

static void unmake(rr_bridge_stay_t *stay, handle_t *handle) {
    if (stay->system && !rr_system_stop(stay->system)) /* none of our actors blocks: cannot be */
        abort();
    rr_cluster_destroy(handle->cluster);
    rr_system_destroy(stay->system);
    free(handle);
    *stay = (rr_bridge_stay_t){0};
}

static int enter(const rr_bridge_place_t *place, void (*say)(void *context, const char *line), void *context,
                 const volatile int *stop, rr_bridge_stay_t *out, char *why, size_t why_size) {
    rr_cluster_options_t options;
    rr_cluster_ticket_t ticket;
    rr_cluster_options_init(&options);
    options.group = place->group;
    options.node_name = place->as;
    options.master = place->address;
    options.key = place->key;
    options.key_size = place->key_size;
    options.mesh = place->mesh;
    options.lost = place->lost;
    options.context = place->context;
    handle_t *handle = calloc(1, sizeof *handle);
    if (!handle)
        return RR_ENOMEM;
    int rc = rr_cluster_join(&options, &ticket, say, context, stop, why, why_size);
    if (rc != RR_OK) {
        free(handle);
        return rc;
    }
    *out = (rr_bridge_stay_t){.handle = handle};
    rc = make(place, &options, &ticket, out, handle, why, why_size);
    if (rc != RR_OK)
        unmake(out, handle);
    return rc;
}

/* A node of a bridge's group reaches the others through the master only: without a link to it there is nothing to keep, and
 * a master that comes back may have left in order, which ends its links for good. */
static bool alive(const rr_bridge_stay_t *stay) {
    const handle_t *handle = stay->handle;
    rr_mesh_t *mesh = rr_cluster_mesh(handle->cluster);
    size_t max = rr_mesh_list(mesh, NULL, 0) + 16;
    rr_link_info_t *links = calloc(max, sizeof *links);
    bool found = links == NULL;
    size_t count = links ? rr_mesh_list(mesh, links, max) : 0;
    for (size_t i = 0; i < count && i < max; i++)
        found |= links[i].peer.service != RR_NOBODY && links[i].state != RR_LINK_DOWN;
    free(links);
    return found;
}

static void leave(rr_bridge_stay_t *stay, unsigned deadline_ms) {
    handle_t *handle = stay->handle;
    if (deadline_ms)
        rr_cluster_leave(handle->cluster, deadline_ms);
    unmake(stay, handle);
}

const rr_bridge_carrier_t rr_bridge_cluster = {.enter = enter, .alive = alive, .leave = leave};
