#include "conf/neighbours.h"

#include <stdlib.h>
#include <string.h>

struct rr_neighbours {
    rr_bridge_t *bridge; /* NULL = none */
    rr_outers_t *outers;
};

/* "GroupA@tcp://host:port", checked before (check.c): the group's name goes to names[i]. */
static bool fill_link(rr_bridge_link_t *link, char **name, const char *text) {
    const char *at = strstr(text, "@tcp://");
    *name = strndup(text, (size_t)(at - text));
    *link = (rr_bridge_link_t){.group = *name, .address = at + 1};
    return *name != NULL;
}

static int create_bridge(rr_neighbours_t *neighbours, rr_system_t *system, rr_bridge_options_t *options, const rr_value_t *bridges,
                         char *why, size_t why_size) {
    rr_bridge_link_t links[RR_BRIDGE_LINKS_MAX];
    char *names[RR_BRIDGE_LINKS_MAX] = {0};
    int rc = bridges->count <= RR_BRIDGE_LINKS_MAX ? RR_OK : RR_ELIMIT;
    if (rc != RR_OK)
        snprintf(why, why_size, "%zu bridges; %u are possible", bridges->count, RR_BRIDGE_LINKS_MAX);
    for (size_t i = 0; i < bridges->count && rc == RR_OK; i++)
        rc = fill_link(&links[i], &names[i], bridges->texts[i]) ? RR_OK : RR_ENOMEM;
    options->links = links;
    options->link_count = bridges->count;
    if (rc == RR_OK)
        rc = rr_bridge_create(system, options, &neighbours->bridge, why, why_size);
    for (size_t i = 0; i < RR_BRIDGE_LINKS_MAX; i++)
        free(names[i]);
    return rc;
}

int rr_neighbours_create(rr_system_t *system, const rr_share_t *share, const void *key, size_t key_size, rr_neighbours_t **out,
                         char *why, size_t why_size) {
    rr_neighbours_t *neighbours = calloc(1, sizeof *neighbours);
    rr_bridge_options_t options;
    snprintf(why, why_size, "out of memory");
    if (!neighbours)
        return RR_ENOMEM;
    rr_bridge_options_init(&options);
    options.leased = share->cluster;
    options.key = key;
    options.key_size = key_size;
    int rc = rr_outers_create(system, &options, &neighbours->outers);
    if (rc == RR_OK && share->bridges)
        rc = create_bridge(neighbours, system, &options, share->bridges, why, why_size);
    *out = neighbours; /* also on failure: destroyed with the rest, once the system's threads have ended */
    return rc;
}

int rr_neighbours_connect(rr_neighbours_t *neighbours, const char *name, const char *address, char *why, size_t why_size) {
    return rr_outers_connect(neighbours->outers, name, address, why, why_size);
}

void rr_neighbours_stop(rr_neighbours_t *neighbours, unsigned deadline_ms) {
    if (neighbours->bridge)
        rr_bridge_stop(neighbours->bridge, deadline_ms);
    if (neighbours->outers)
        rr_outers_stop(neighbours->outers, deadline_ms);
}

void rr_neighbours_destroy(rr_neighbours_t *neighbours) {
    if (!neighbours)
        return;
    rr_bridge_destroy(neighbours->bridge);
    if (neighbours->outers)
        rr_outers_destroy(neighbours->outers);
    free(neighbours);
}
