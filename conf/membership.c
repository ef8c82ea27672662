#include "conf/membership.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "conf/say.h"
#include "net/address.h"

struct rr_membership {
    const rr_share_t *share;
    rr_cluster_options_t options;
    rr_mesh_options_t mesh;
    rr_cluster_ticket_t ticket;
    rr_cluster_t *cluster;
    char *key;
    bool in_graph; /* a node of the graph, else of the command line */
    bool joined;   /* the ticket is good, and not used yet */
    char state[PATH_MAX];
};

static void say(void *context, const char *line) {
    (void)context;
    rr_say(stdout, "redrabbit: %s\n", line);
}

/* One machine may have masters of several groups of the same name, as the seed's lines have none: the port tells them apart.
 * NULL: as cluster.h says. */
static const char *default_state(rr_membership_t *member) {
    char name[RR_SHARE_NAME + 16];
    rr_address_t address;
    if (!member->share->listen || rr_address_parse(member->share->listen, &address, NULL, 0) != RR_OK)
        return NULL;
    snprintf(name, sizeof name, "%.63s-%u", member->share->group, address.port);
    for (char *at = name; *at; at++)
        *at = *at == '/' ? '_' : *at;
    return rr_cluster_state_path(name, member->state, sizeof member->state) == RR_OK ? member->state : NULL;
}

/* A first start with nobody about who could hold a name: without a key all nodes are on this machine, for development. Elsewhere a
 * missing file may have been lost, and then the master waits for the leases that may still last. */
static bool is_first(const rr_membership_t *member) {
    const char *path = member->options.state_path;
    return !member->share->key_file && path && access(path, F_OK) != 0;
}

void rr_membership_times(rr_graph_t *graph, rr_mesh_options_t *out) {
    const rr_item_t *top = rr_graph_top(graph);
    rr_mesh_options_init(out);
    out->heartbeat_ms = (unsigned)rr_item_number(top, "cluster.heartbeat");
    out->suspect_ms = (unsigned)rr_item_number(top, "cluster.suspect");
    out->down_ms = (unsigned)rr_item_number(top, "cluster.link_down");
}

static void fill_options(rr_membership_t *member, rr_graph_t *graph) {
    const rr_item_t *top = rr_graph_top(graph);
    const rr_share_t *share = member->share;
    rr_membership_times(graph, &member->mesh);
    member->mesh.graph = member->in_graph ? rr_graph_hash(graph) : 0;
    rr_cluster_options_init(&member->options);
    member->options.group = share->group;
    member->options.node_name = share->node;
    member->options.listen = share->listen;
    member->options.advertise = share->advertise;
    member->options.master = share->master;
    member->options.relay = share->relay;
    member->options.broker = share->broker;
    member->options.state_path = share->state ? share->state : default_state(member);
    member->options.fresh = share->fresh || is_first(member);
    member->options.lease_ms = (unsigned)rr_item_number(top, "cluster.lease");
    member->options.margin_ms = (unsigned)rr_item_number(top, "cluster.margin");
    member->options.join_ms = (unsigned)rr_item_number(top, "cluster.join_timeout");
    member->options.mesh = &member->mesh;
}

static int fill_key(rr_membership_t *member, char *why, size_t why_size) {
    char warning[512];
    if (!member->share->key_file)
        return RR_OK;
    int rc = rr_key_read(member->share->key_file, &member->key, &member->options.key_size, why, why_size, warning,
                         sizeof warning);
    member->options.key = member->key;
    if (rc == RR_OK && warning[0])
        fprintf(stderr, "redrabbit: warning: %s\n", warning);
    return rc;
}

/* Another master holds the state's lock. */
static void explain_taken(const rr_membership_t *member, char *why, size_t why_size) {
    const rr_share_t *share = member->share;
    if (member->in_graph)
        snprintf(why, why_size, "node %s: the group's master runs at %s already (it has %s.lock); end that process first (an earlier run?)",
                 share->node, share->listen, member->state);
    else
        snprintf(why, why_size,
                 "another broker runs at %s already (it has %s.lock); end that process first, or give this one its own `-broker` and "
                 "`-master_broker %s`",
                 share->listen, member->state, share->listen);
}

int rr_membership_join(const rr_membership_options_t *options, rr_membership_t **out, char *why, size_t why_size) {
    rr_membership_t *member = calloc(1, sizeof *member);
    snprintf(why, why_size, "out of memory");
    if (!member)
        return RR_ENOMEM;
    member->share = options->share;
    member->in_graph = rr_graph_selected(options->graph) != NULL;
    fill_options(member, options->graph);
    member->options.drain = options->drain;
    member->options.lost = options->lost;
    member->options.context = options->context;
    int rc = fill_key(member, why, why_size);
    if (rc == RR_OK)
        rc = rr_cluster_join(&member->options, &member->ticket, say, NULL, options->stop, why, why_size);
    if (rc == RR_EEXIST && member->state[0]) /* the file is of this port */
        explain_taken(member, why, why_size);
    member->joined = rc == RR_OK;
    if (rc == RR_OK)
        *out = member;
    else
        rr_membership_destroy(member);
    return rc;
}

const rr_node_identity_t *rr_membership_self(const rr_membership_t *member) { return &member->ticket.self; }

int rr_membership_create(rr_membership_t *member, rr_system_t *system, rr_loop_t *loop, char *why, size_t why_size) {
    const rr_share_t *share = member->share;
    int rc = rr_cluster_create(system, loop, &member->options, &member->ticket, &member->cluster, why, why_size);
    member->joined = false;
    if (rc == RR_EADDRINUSE && !member->in_graph)
        snprintf(why, why_size, "the broker's address %s is taken; give this process its own `-broker` and `-master_broker %s`",
                 share->listen, share->listen);
    else if (rc == RR_EADDRINUSE)
        snprintf(why, why_size,
                 "node %s: its port %s is taken; stop the process that has it (an earlier run?), or give the node another `address`",
                 share->node, share->listen);
    return rc;
}

void rr_membership_describe(const rr_membership_t *member, FILE *out) {
    const rr_share_t *share = member->share;
    const char *address = rr_mesh_address(rr_cluster_mesh(member->cluster));
    fprintf(out, "redrabbit: node %s (%u) of group %s, ", share->node, member->ticket.self.node, share->group);
    if (share->master)
        fprintf(out, "master %s", share->master);
    else
        fprintf(out, "its master");
    if (address[0])
        fprintf(out, "; listens for nodes on %s%s\n", address, share->key_file ? "" : ", without a key");
    else
        fprintf(out, "; listens for no nodes: they reach it through a broker\n");
}

rr_cluster_t *rr_membership_cluster(rr_membership_t *member) { return member->cluster; }

void rr_membership_destroy(rr_membership_t *member) {
    if (!member)
        return;
    rr_cluster_destroy(member->cluster);
    if (member->joined)
        rr_cluster_ticket_drop(&member->ticket);
    if (member->key)
        explicit_bzero(member->key, member->options.key_size);
    free(member->key);
    free(member);
}
