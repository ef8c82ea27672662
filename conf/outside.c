#include "conf/outside.h"

#include <stdlib.h>
#include <string.h>

#include "conf/membership.h"

struct rr_outside {
    rr_system_t *system;
    rr_bridge_t *bridge; /* NULL = none */
    rr_outers_t *outers;
    char *key;
    size_t key_size;
};

/* "GroupA@tcp://…", as check.c has found them. */
static int split(const rr_value_t *bridges, char *texts, rr_bridge_link_t *links) {
    for (size_t i = 0; i < bridges->count; i++) {
        strcpy(texts, bridges->texts[i]);
        char *at = strstr(texts, "@tcp://");
        if (!at)
            return RR_EINVAL;
        *at = 0;
        links[i] = (rr_bridge_link_t){texts, at + 1};
        texts += strlen(bridges->texts[i]) + 1;
    }
    return RR_OK;
}

static int create_bridge(rr_outside_t *outside, const rr_value_t *bridges, rr_bridge_options_t *options, char *why,
                         size_t why_size) {
    size_t size = 0;
    for (size_t i = 0; i < bridges->count; i++)
        size += strlen(bridges->texts[i]) + 1;
    rr_bridge_link_t *links = calloc(bridges->count + 1, sizeof *links);
    char *texts = malloc(size + 1);
    int rc = links && texts ? split(bridges, texts, links) : RR_ENOMEM;
    options->links = links;
    options->link_count = bridges->count;
    if (rc == RR_OK)
        rc = rr_bridge_create(outside->system, options, &outside->bridge, why, why_size);
    else
        snprintf(why, why_size, "the bridge does not start: %s", rr_strerror(rc));
    free(links);
    free(texts);
    return rc;
}

static int read_key(rr_outside_t *outside, const rr_share_t *share, char *why, size_t why_size) {
    char warning[512]; /* of the same file: said by the membership */
    if (!share->key_file)
        return RR_OK;
    return rr_key_read(share->key_file, &outside->key, &outside->key_size, why, why_size, warning, sizeof warning);
}

int rr_outside_create(rr_graph_t *graph, const rr_share_t *share, rr_system_t *system, rr_outside_t **out, char *why,
                      size_t why_size) {
    const rr_item_t *top = rr_graph_top(graph);
    rr_bridge_options_t options;
    rr_mesh_options_t mesh;
    rr_options_t logs;
    rr_outside_t *outside = calloc(1, sizeof *outside);
    snprintf(why, why_size, "out of memory");
    if (!outside)
        return RR_ENOMEM;
    outside->system = system;
    rr_membership_times(graph, &mesh);
    rr_options_init(&logs);
    logs.log_level = (rr_level_t)(RR_FATAL + rr_item_number(top, "log.level"));
    logs.log_screen = rr_item_flag(top, "log.screen");
    int rc = read_key(outside, share, why, why_size);
    rr_bridge_options_init(&options);
    options.leased = share->cluster;
    options.key = outside->key;
    options.key_size = outside->key_size;
    options.mesh = &mesh;
    options.system = &logs;
    if (rc == RR_OK)
        rc = rr_outers_create(system, &options, &outside->outers);
    if (rc == RR_OK && share->bridges)
        rc = create_bridge(outside, share->bridges, &options, why, why_size);
    if (rc == RR_OK)
        *out = outside;
    else
        rr_outside_destroy(outside);
    return rc;
}

int rr_outside_connect(rr_outside_t *outside, const char *name, const char *address, char *why, size_t why_size) {
    return rr_outers_connect(outside->outers, name, address, why, why_size);
}

void rr_outside_stop(rr_outside_t *outside, unsigned deadline_ms) {
    rr_outers_stop(outside->outers, deadline_ms);
    if (outside->bridge)
        rr_bridge_stop(outside->bridge, deadline_ms);
}

void rr_outside_destroy(rr_outside_t *outside) {
    if (!outside)
        return;
    rr_outers_destroy(outside->outers);
    rr_bridge_destroy(outside->bridge);
    if (outside->key)
        explicit_bzero(outside->key, outside->key_size);
    free(outside->key);
    free(outside);
}
