#include "conf/share.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "net/address.h"
#include "net/mesh.h"
#include "runtime/hash.h"

/* ---- Names ---- */

static void check_length(rr_graph_t *graph, rr_place_t place, const char *what, const char *name, size_t max) {
    if (strlen(name) > max)
        rr_graph_error(graph, place, "%s '%.140s' is too long for a cluster; use at most %zu characters", what, name, max);
}

/* ---- Addresses ---- */

static bool is_any(const char *host) { return strcmp(host, "*") == 0 || strcmp(host, "0.0.0.0") == 0 || strcmp(host, "::") == 0; }

static bool parse(const char *text, rr_address_t *out) { return text && rr_address_parse(text, out, NULL, 0) == RR_OK; }

/* An address that others can dial. */
static bool is_dialled(const char *text) {
    rr_address_t address;
    return parse(text, &address) && !is_any(address.host) && address.port;
}

static bool is_loopback(const char *text) {
    rr_address_t address;
    return parse(text, &address) && rr_address_is_loopback(&address);
}

static bool same_port(const char *a, const char *b) {
    rr_address_t one, other;
    return parse(a, &one) && parse(b, &other) && one.port == other.port;
}

/* Where a node, or the broker on it, said so. */
static rr_place_t place_of(const rr_item_t *item, const char *key) {
    const rr_value_t *value = item ? rr_item_value(item, key) : NULL;
    return value ? value->place : item ? item->place : (rr_place_t){0};
}

static void check_key_needed(rr_graph_t *graph, const rr_share_t *share, const char *address, rr_place_t place) {
    if (address && !share->key_file && !is_loopback(address))
        rr_graph_error(graph, place,
                       "without a key a cluster stays on this machine, and %s is not loopback; write a key (`openssl rand -hex "
                       "32 > cluster.key; chmod 600 cluster.key`) and name it: `cluster_key: cluster.key` (-cluster_key FILE)",
                       address);
}

/* ---- Brokers ---- */

/* The first broker on a node (NULL: on any) that is a master, or (any) whatever it is. */
static const rr_item_t *find_broker(rr_graph_t *graph, const char *node, bool any) {
    for (size_t i = 0; i < rr_graph_actor_count(graph); i++) {
        const rr_item_t *actor = rr_graph_actor(graph, i);
        const char *where = rr_item_text(actor, "node");
        if (actor->scope == RR_SCOPE_BROKER && (any || !rr_item_value(actor, "master")) &&
            (!node || (where && strcmp(where, node) == 0)))
            return actor;
    }
    return NULL;
}

/* ---- Without --node ---- */

/* On nodes of their own they had one each. */
static void check_one_main(rr_graph_t *graph) {
    const rr_item_t *first = NULL;
    for (size_t i = 0; i < rr_graph_actor_count(graph); i++) {
        const rr_item_t *actor = rr_graph_actor(graph, i);
        if (actor->scope != RR_SCOPE_SCENE || strcmp(rr_item_text(actor, "interpreter"), "main") != 0)
            continue;
        if (first) {
            rr_graph_error(graph, place_of(actor, "interpreter"),
                           "%s and %s both want the main interpreter, which exists once a process; run the nodes apart (--node, or "
                           "redrabbit up)",
                           first->name, actor->name);
            return;
        }
        first = actor;
    }
}

static void share_of_process(rr_graph_t *graph, rr_share_t *share) {
    const rr_item_t *broker = find_broker(graph, NULL, true);
    bool nodes = rr_graph_node_count(graph) > 0;
    share->master = rr_item_text(broker, "master");
    share->listen = rr_item_text(broker, "listen");
    share->cluster = share->master || (share->listen && !nodes);
    if (nodes && find_broker(graph, NULL, false))
        share->cluster = false; /* all of the group is here */
    share->relay = share->listen != NULL;
    share->advertise = is_dialled(share->listen) ? share->listen : NULL;
    share->broker = broker->name;
    share->state = rr_item_text(broker, "state");
    share->fresh = rr_item_flag(broker, "fresh");
    share->bridges = rr_item_value(broker, "bridges");
    snprintf(share->node, sizeof share->node, "node-%ld", (long)getpid());
    if (share->bridges && !share->cluster)
        rr_graph_error(graph, share->bridges->place,
                       "bridges to other groups need a broker that listens; give %s `listen: tcp://127.0.0.1:10241` (-broker)",
                       broker->name);
    check_one_main(graph);
    if (share->master && share->listen && strcmp(share->master, share->listen) == 0)
        rr_graph_error(graph, place_of(broker, "listen"),
                       "%s is its own master: both addresses are %s; give this process its own `-broker`", broker->name, share->listen);
    if (share->cluster)
        check_key_needed(graph, share, share->listen, place_of(broker, "listen"));
    if (share->cluster)
        check_key_needed(graph, share, share->master, place_of(broker, "master"));
}

/* ---- With --node ---- */

/* What this node binds and what others dial. */
static void fill_ports(rr_graph_t *graph, const rr_item_t *node, const rr_item_t *broker, rr_share_t *share) {
    const char *address = rr_item_text(node, "address"), *bind = rr_item_text(node, "listen");
    const char *brokers = broker ? rr_item_text(broker, "listen") : NULL;
    rr_place_t place = address ? place_of(node, "address") : place_of(broker ? broker : node, "listen");
    if (!bind)
        bind = address && !(brokers && same_port(address, brokers)) ? address : brokers;
    share->listen = bind;
    share->advertise = address ? address : is_dialled(bind) ? bind : NULL;
    if (address && !is_dialled(address))
        rr_graph_error(graph, place, "node %s: others cannot dial %s; write the host that they reach it at, and `listen: %s`",
                       node->name, address, address);
    if (rr_item_value(node, "listen") && !address)
        rr_graph_error(graph, place_of(node, "listen"), "node %s listens, but others do not know where; add `address: tcp://HOST:PORT`",
                       node->name);
    if (address && brokers && strcmp(address, brokers) != 0 && strcmp(bind, brokers) != 0)
        rr_graph_warn(graph, place_of(broker, "listen"),
                      "%s does not listen on %s: the port of its node is %s, for brokers and tools as well; leave `listen` out",
                      broker->name, brokers, address);
    check_key_needed(graph, share, bind, place);
}

/* Who the others join: the address of the master's node. */
static const char *master_address(rr_graph_t *graph, const rr_item_t *broker) {
    const char *where = rr_item_text(broker, "node");
    const rr_item_t *node = where ? rr_graph_find_node(graph, where) : NULL;
    const char *address = node ? rr_item_text(node, "address") : NULL;
    if (!address)
        address = rr_item_text(broker, "listen");
    if (!node)
        rr_graph_error(graph, broker->place,
                       "%s, the master of the group, is on no node; write it with `node: NAME`, and give that node an `address`",
                       broker->name);
    else if (!address)
        rr_graph_error(graph, node->place, "node %s runs the master %s and needs an address; add `address: tcp://127.0.0.1:7000`",
                       node->name, broker->name);
    else if (!is_dialled(address))
        rr_graph_error(graph, place_of(broker, "listen"), "other nodes cannot dial %s; give node %s an `address`", address, node->name);
    return address;
}

/* The editor reads and writes the script's file, so the scene must be at hand. */
static void check_editor(rr_graph_t *graph, const rr_item_t *gate) {
    const rr_value_t *value = gate->scope == RR_SCOPE_GATE ? rr_item_value(gate, "editor.scene") : NULL;
    const rr_item_t *scene = value ? rr_graph_find_actor(graph, value->texts[0]) : NULL;
    if (scene && rr_graph_runs(graph, gate) && !rr_graph_runs(graph, scene))
        rr_graph_error(graph, value->place, "%s can only edit a scene of its own node; move %s there, or leave `editor` out", gate->name,
                       scene->name);
}

static void check_placed(rr_graph_t *graph) {
    char names[256];
    for (size_t i = 0; i < rr_graph_actor_count(graph); i++) {
        const rr_item_t *actor = rr_graph_actor(graph, i);
        check_editor(graph, actor);
        if (actor->scope != RR_SCOPE_BROKER && !rr_item_value(actor, "node"))
            rr_graph_error(graph, actor->place, "%s is on no node, so no share of the graph has it; add `node:` (%s)", actor->name,
                           rr_graph_node_names(graph, names, sizeof names));
    }
}

static void share_of_node(rr_graph_t *graph, const rr_item_t *node, rr_share_t *share) {
    const rr_item_t *master = find_broker(graph, NULL, false), *broker = find_broker(graph, node->name, true);
    share->cluster = true;
    snprintf(share->node, sizeof share->node, "%s", node->name);
    check_length(graph, node->place, "the node's name", node->name, RR_NODE_NAME_MAX);
    check_placed(graph);
    fill_ports(graph, node, broker, share);
    share->relay = broker && share->listen;
    share->bridges = broker ? rr_item_value(broker, "bridges") : NULL;
    const char *address = master ? master_address(graph, master) : rr_item_text(find_broker(graph, NULL, true), "master");
    bool here = master && master == find_broker(graph, node->name, false);
    share->master = here ? NULL : address;
    share->state = here ? rr_item_text(master, "state") : NULL;
    share->fresh = here && rr_item_flag(master, "fresh");
    share->broker = master ? master->name : find_broker(graph, NULL, true)->name;
    check_key_needed(graph, share, share->master, place_of(master, "listen"));
}

int rr_graph_share(rr_graph_t *graph, rr_share_t *out) {
    size_t before = rr_graph_error_count(graph);
    rr_item_t *top = rr_graph_top(graph);
    const rr_item_t *node = rr_graph_selected(graph);
    *out = (rr_share_t){.group = rr_item_text(top, "group"), .key_file = rr_item_text(top, "cluster_key")};
    if (node)
        share_of_node(graph, node, out);
    else
        share_of_process(graph, out);
    if (out->cluster)
        check_length(graph, place_of(top, "group"), "the group's name", out->group, RR_GROUP_MAX);
    return rr_graph_error_count(graph) > before ? RR_EINVAL : RR_OK;
}

/* ---- The key ---- */

int rr_key_read(const char *path, char **key, size_t *size, char *why, size_t why_size, char *warning, size_t warning_size) {
    struct stat st;
    char *text = rr__read_file(path, size);
    warning[0] = 0;
    if (!text) {
        snprintf(why, why_size, "cannot read the cluster key %s: %s; write one: openssl rand -hex 32 > %s; chmod 600 %s", path,
                 strerror(errno), path, path);
        return errno == ENOMEM ? RR_ENOMEM : RR_EIO;
    }
    if (stat(path, &st) == 0 && (st.st_mode & 077))
        snprintf(warning, warning_size, "the cluster key %s can be read by others; chmod 600 %s", path, path);
    size_t first = 0;
    while (first < *size && isspace((unsigned char)text[first]))
        first++;
    while (*size > first && isspace((unsigned char)text[*size - 1]))
        (*size)--;
    *size -= first;
    memmove(text, text + first, *size);
    text[*size] = 0;
    if (*size >= RR_KEY_MIN && *size <= RR_KEY_MAX) {
        *key = text;
        return RR_OK;
    }
    snprintf(why, why_size, "the cluster key in %s has %zu bytes; write one of %u to %u: openssl rand -hex 32 > %s", path, *size,
             RR_KEY_MIN, RR_KEY_MAX, path);
    explicit_bzero(text, *size);
    free(text);
    return RR_EINVAL;
}

/* ---- The hash ---- */

static uint64_t add_text(uint64_t hash, const char *text) {
    text = text ? text : "\1";
    return rr_hash_add(rr_hash_add(hash, text, strlen(text)), "\xff", 1);
}

/* Sums of hashes: the order in which things are written does not count. */
uint64_t rr_graph_hash(rr_graph_t *graph) {
    const uint64_t basis = RR_HASH_START;
    uint64_t sum = add_text(basis, rr_item_text(rr_graph_top(graph), "group"));
    for (size_t i = 0; i < rr_graph_node_count(graph); i++) {
        const rr_item_t *node = rr_graph_node(graph, i);
        sum += add_text(add_text(add_text(basis, "node"), node->name), rr_item_text(node, "address"));
    }
    for (size_t i = 0; i < rr_graph_actor_count(graph); i++) {
        const rr_item_t *actor = rr_graph_actor(graph, i);
        uint64_t hash = add_text(add_text(basis, rr_scope_name(actor->scope)), actor->name);
        sum += add_text(hash, rr_item_text(actor, "node"));
        if (actor->scope == RR_SCOPE_GATE)
            sum += add_text(add_text(hash, "login"), rr_item_text(actor, "login"));
    }
    return sum;
}
