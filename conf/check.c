/* Is the graph sound as a whole? What a single value can tell was checked when it was set. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "actors/database/database.h"
#include "conf/databases.h"
#include "conf/graph.h"
#include "net/address.h"
#include "runtime/redrabbit.h"

typedef void (*rr_actor_check_fn)(rr_graph_t *graph, rr_item_t *actor);

static void each_actor(rr_graph_t *graph, rr_scope_t scope, rr_actor_check_fn check) {
    for (size_t i = 0; i < rr_graph_actor_count(graph); i++) {
        if (rr_graph_actor(graph, i)->scope & scope)
            check(graph, rr_graph_actor(graph, i));
    }
}

static size_t count_of(rr_graph_t *graph, rr_scope_t scope) {
    size_t count = 0;
    for (size_t i = 0; i < rr_graph_actor_count(graph); i++)
        count += rr_graph_actor(graph, i)->scope == scope;
    return count;
}

/* ---- Brokers ---- */

/* Other processes may have actors that this graph does not name. */
static bool is_open(rr_graph_t *graph, const char *key) {
    for (size_t i = 0; i < rr_graph_actor_count(graph); i++) {
        const rr_item_t *actor = rr_graph_actor(graph, i);
        if (actor->scope == RR_SCOPE_BROKER && rr_item_value(actor, key))
            return true;
    }
    return false;
}

static void check_brokers(rr_graph_t *graph) {
    const rr_item_t *master = NULL;
    for (size_t i = 0; i < rr_graph_actor_count(graph); i++) {
        const rr_item_t *actor = rr_graph_actor(graph, i);
        if (actor->scope != RR_SCOPE_BROKER || rr_item_value(actor, "master"))
            continue;
        if (master)
            rr_graph_error(graph, actor->place, "%s and %s are both master brokers; a group has one: give this one `master:`",
                           master->name, actor->name);
        master = actor;
    }
    if (count_of(graph, RR_SCOPE_BROKER))
        return;
    const char *name = rr_graph_find_actor(graph, "broker@0") ? "broker" : "broker@0";
    if (!rr_graph_add(graph, RR_SCOPE_BROKER, name, (rr_place_t){0}))
        rr_graph_error(graph, (rr_place_t){0}, "out of memory");
}

static void check_bridges(rr_graph_t *graph, rr_item_t *broker) {
    const rr_value_t *bridges = rr_item_value(broker, "bridges");
    for (size_t i = 0; bridges && i < bridges->count; i++) {
        const char *at = strstr(bridges->texts[i], "@tcp://");
        rr_address_t address;
        if (!at || at == bridges->texts[i] || rr_address_parse(at + 1, &address, NULL, 0) != RR_OK)
            rr_graph_error(graph, bridges->places[i], "'%.100s' is no bridge; write it as GroupA@tcp://127.0.0.1:10241",
                           bridges->texts[i]);
    }
}

/* ---- References ---- */

typedef struct rr_scan {
    rr_graph_t *graph;
    rr_scope_t scope;
    size_t index;
} rr_scan_t;

static const char *next_actor(void *state) {
    rr_scan_t *scan = state;
    while (scan->index < rr_graph_actor_count(scan->graph)) {
        const rr_item_t *actor = rr_graph_actor(scan->graph, scan->index++);
        if (actor->scope == scan->scope)
            return actor->name;
    }
    return NULL;
}

/* A value that names a scene must name one of this graph. */
static void check_scene_name(rr_graph_t *graph, const rr_item_t *gate, const char *key) {
    const char *name = rr_item_text(gate, key);
    const rr_value_t *value = rr_item_value(gate, key);
    const rr_item_t *scene = name ? rr_graph_find_actor(graph, name) : NULL;
    rr_scan_t scan = {graph, RR_SCOPE_SCENE, 0};
    char near[128], mend[192];
    if (!name || (scene && scene->scope == RR_SCOPE_SCENE) || (!scene && is_open(graph, "master")))
        return;
    if (!scene && !rr_graph_node_count(graph) && is_open(graph, "listen") && !count_of(graph, RR_SCOPE_SCENE)) {
        rr_graph_warn(graph, value ? value->place : gate->place,
                      "%s of %s is '%s', which must come from another process; or add it here: -scene %s", key, gate->name, name, name);
        return;
    }
    if (rr_nearest(name, next_actor, &scan, near, sizeof near))
        snprintf(mend, sizeof mend, "did you mean '%s'?", near);
    else
        snprintf(mend, sizeof mend, "add a scene of that name, or set %s to one that there is", key);
    rr_graph_error(graph, value ? value->place : gate->place, "%s of %s is '%s', which is %s; %s", key, gate->name, name,
                   scene ? "no scene" : "not in this graph", mend);
}

static const char *next_node(void *state) {
    rr_scan_t *scan = state;
    return scan->index < rr_graph_node_count(scan->graph) ? rr_graph_node(scan->graph, scan->index++)->name : NULL;
}

static void check_node_name(rr_graph_t *graph, rr_item_t *actor) {
    const rr_value_t *node = rr_item_value(actor, "node");
    rr_scan_t scan = {.graph = graph};
    char near[128], mend[192] = "add it under `nodes:` or leave `node` out";
    if (!node || rr_graph_find_node(graph, node->texts[0]))
        return;
    if (rr_nearest(node->texts[0], next_node, &scan, near, sizeof near))
        snprintf(mend, sizeof mend, "did you mean '%s'?", near);
    rr_graph_error(graph, node->place, "there is no node '%s'; %s", node->texts[0], mend);
}

/* ---- Files ---- */

static bool is_folder(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static void check_folders(rr_graph_t *graph, const rr_item_t *item, const char *key) {
    const rr_value_t *value = rr_item_value(item, key);
    for (size_t i = 0; value && i < value->count; i++) {
        if (!is_folder(value->texts[i]))
            rr_graph_error(graph, value->places[i], "%s: there is no folder %s; create it or correct the path", key,
                           value->texts[i]);
    }
}

/* The pages themselves must be there; what lies under a further prefix may be missing on this machine. */
static void check_www(rr_graph_t *graph, const rr_item_t *gate) {
    const rr_value_t *www = rr_item_value(gate, "www");
    for (size_t i = 0; www && i < www->count; i++) {
        const char *prefix = www->keys ? www->keys[i] : "/";
        if (prefix[0] != '/')
            rr_graph_error(graph, www->places[i], "www: the prefix '%.100s' must begin with '/'", prefix);
        else if (!is_folder(www->texts[i]))
            (prefix[1] ? rr_graph_warn : rr_graph_error)(graph, www->places[i],
                                                         "www: there is no folder %s; create it or correct the path",
                                                         www->texts[i]);
    }
}

static void check_script(rr_graph_t *graph, rr_item_t *scene) {
    const rr_value_t *script = rr_item_value(scene, "script");
    struct stat st;
    if (rr_item_value(scene, "logic")) {
        if (script)
            rr_graph_error(graph, script->place, "scene %s has a script and a logic; leave one out", scene->name);
        return;
    }
    if (!script) {
        rr_graph_error(graph, scene->place, "scene %s has no script; add `script: FILE.py`", scene->name);
        return;
    }
    if (!rr_graph_runs(graph, scene))
        return;
    const char *file = script->texts[0];
    size_t length = strlen(file);
    if (stat(file, &st) != 0 || !S_ISREG(st.st_mode))
        rr_graph_error(graph, script->place, "there is no script %s; create it or correct the path", file);
    else if (access(file, R_OK) != 0)
        rr_graph_error(graph, script->place, "the script %s may not be read; change its permissions", file);
    else if (length < 4 || strcmp(file + length - 3, ".py") != 0)
        rr_graph_error(graph, script->place, "the script %s must be a .py file", file);
}

static void check_venv(rr_graph_t *graph) {
    const rr_value_t *venv = rr_item_value(rr_graph_top(graph), "venv");
    char file[4200];
    if (!venv)
        return;
    snprintf(file, sizeof file, "%s/pyvenv.cfg", venv->texts[0]);
    if (access(file, R_OK) != 0)
        rr_graph_error(graph, venv->place, "%s is no virtual environment (no pyvenv.cfg); make one with `python3 -m venv %s`",
                       venv->texts[0], venv->texts[0]);
}

/* ---- Addresses ---- */

typedef struct rr_bound {
    rr_address_t address;
    rr_place_t place;
    const char *node;
    bool dialled; /* a node's address: unlike ports, these must differ between nodes */
} rr_bound_t;

static bool is_any(const char *host) { return strcmp(host, "*") == 0 || strcmp(host, "0.0.0.0") == 0 || strcmp(host, "::") == 0; }

/* Listeners of one node, or two nodes that others would dial as one. */
static bool collide(const rr_bound_t *a, const rr_bound_t *b) {
    bool dialled = a->dialled && b->dialled;
    return a->address.port && a->address.port == b->address.port && (dialled || strcmp(a->node, b->node) == 0) &&
           (is_any(a->address.host) || is_any(b->address.host) || strcmp(a->address.host, b->address.host) == 0);
}

static void check_bound(rr_graph_t *graph, const rr_bound_t *bound, size_t count) {
    const rr_bound_t *mine = &bound[count];
    for (size_t i = 0; i < count; i++) {
        if (!collide(&bound[i], mine))
            continue;
        char where[128] = "on the command line";
        if (bound[i].place.line)
            snprintf(where, sizeof where, "line %d", bound[i].place.line);
        else if (bound[i].place.file)
            snprintf(where, sizeof where, "%s", bound[i].place.file);
        rr_graph_error(graph, mine->place, "port %u is given twice (first: %s); give each listener its own", mine->address.port,
                       where);
        return;
    }
    if (mine->address.port >= 32768 && mine->address.port <= 60999)
        rr_graph_warn(graph, mine->place,
                      "port %u lies in the range that the system hands to outgoing connections, which may take it at any time; "
                      "a port below 32768 is safe",
                      mine->address.port);
}

static size_t collect_addresses(const rr_item_t *item, const char *key, rr_bound_t *bound, size_t count) {
    const rr_value_t *value = rr_item_value(item, key);
    const char *node = item->scope == RR_SCOPE_NODE ? item->name : rr_item_text(item, "node");
    for (size_t i = 0; value && i < value->count; i++) {
        if (rr_address_parse(value->texts[i], &bound[count].address, NULL, 0) != RR_OK)
            continue; /* noted when it was set */
        bound[count].place = value->places[i];
        bound[count].dialled = item->scope == RR_SCOPE_NODE;
        bound[count++].node = node ? node : "";
    }
    return count;
}

/* A broker may say its node's address once more. */
static bool is_brokers_own(rr_graph_t *graph, const rr_bound_t *node) {
    for (size_t i = 0; i < rr_graph_actor_count(graph); i++) {
        const rr_item_t *actor = rr_graph_actor(graph, i);
        const char *where = rr_item_text(actor, "node"), *listen = rr_item_text(actor, "listen");
        rr_address_t address;
        if (actor->scope == RR_SCOPE_BROKER && listen && where && strcmp(where, node->node) == 0 &&
            rr_address_parse(listen, &address, NULL, 0) == RR_OK && address.port == node->address.port)
            return true;
    }
    return false;
}

static void check_addresses(rr_graph_t *graph) {
    size_t most = rr_graph_node_count(graph), count = 0;
    for (size_t i = 0; i < rr_graph_actor_count(graph); i++) {
        const rr_value_t *listen = rr_item_value(rr_graph_actor(graph, i), "listen");
        most += listen ? listen->count : 0;
    }
    rr_bound_t *bound = calloc(most + 1, sizeof *bound);
    if (!bound) {
        rr_graph_error(graph, (rr_place_t){0}, "out of memory");
        return;
    }
    for (size_t i = 0; i < rr_graph_actor_count(graph); i++) {
        size_t first = count;
        count = collect_addresses(rr_graph_actor(graph, i), "listen", bound, count);
        for (; first < count; first++)
            check_bound(graph, bound, first);
    }
    for (size_t i = 0; i < rr_graph_node_count(graph); i++) {
        size_t first = count;
        count = collect_addresses(rr_graph_node(graph, i), "address", bound, count);
        if (first < count && !is_brokers_own(graph, &bound[first]))
            check_bound(graph, bound, first);
    }
    free(bound);
}

/* ---- Roles ---- */

static void check_gate(rr_graph_t *graph, rr_item_t *gate) {
    const rr_value_t *listen = rr_item_value(gate, "listen");
    if (!listen || !listen->count)
        rr_graph_error(graph, listen ? listen->place : gate->place,
                       "gate %s listens nowhere; add `listen: tcp://127.0.0.1:10242` (-gate_listen on the command line)",
                       gate->name);
    check_scene_name(graph, gate, "login");
    check_scene_name(graph, gate, "editor.scene");
    if (rr_item_value(gate, "editor.token") && !rr_item_value(gate, "editor.scene"))
        rr_graph_error(graph, rr_item_value(gate, "editor.token")->place,
                       "editor has no scene; add `scene: scene@0` to say whose script may be edited");
    if (rr_graph_runs(graph, gate))
        check_www(graph, gate);
}

/* The runtime would not go below: better said than done in silence. */
static void check_mailbox(rr_graph_t *graph, const rr_item_t *scene) {
    int64_t messages = rr_item_number(scene, "mailbox.messages"), bytes = rr_item_number(scene, "mailbox.bytes");
    const rr_value_t *value = rr_item_value(scene, "mailbox.bytes");
    if (bytes / RR_MAILBOX_UNIT >= messages)
        return;
    if (!value)
        value = rr_item_value(scene, "mailbox.messages");
    rr_graph_error(graph, value->place,
                   "%s: mailbox.bytes %lld is too little for mailbox.messages %lld, of which each counts at least %u bytes; set "
                   "mailbox.bytes to %lld or more, or mailbox.messages to %lld or less",
                   scene->name, (long long)bytes, (long long)messages, RR_MAILBOX_UNIT, (long long)messages * RR_MAILBOX_UNIT,
                   (long long)bytes / RR_MAILBOX_UNIT);
}

static void check_scene(rr_graph_t *graph, rr_item_t *scene) {
    check_script(graph, scene);
    check_mailbox(graph, scene);
    check_scene_name(graph, scene, "drain_to");
    if (rr_graph_runs(graph, scene))
        check_folders(graph, scene, "python_path");
}

static void check_database(rr_graph_t *graph, rr_item_t *database) {
    const rr_value_t *url = rr_item_value(database, "url"), *env = rr_item_value(database, "password_env"),
                     *file = rr_item_value(database, "password_file"), *outside = file ? file : env;
    const char *driver;
    char why[256];
    if (!url) {
        rr_graph_error(graph, database->place, "database %s has no url; add `url: \"sqlite://./game.db\"`", database->name);
        return;
    }
    if (rr_database_check_url(url->texts[0], &driver, why, sizeof why) != RR_OK) {
        rr_graph_error(graph, url->place, "url of %s: %s", database->name, why);
        return;
    }
    if (env && file)
        rr_graph_error(graph, file->place, "the password of %s is in a variable and in a file; leave one out", database->name);
    else if (outside && rr_database_has_password(url->texts[0]))
        rr_graph_error(graph, outside->place, "the password of %s is in its url already; take it out there", database->name);
    else if (outside && strcmp(driver, "sqlite") == 0)
        rr_graph_error(graph, outside->place, "%s is a file, which has no password; leave it out", database->name);
    else if (outside && rr_graph_runs(graph, database) && rr_database_password(database, NULL, 0, why, sizeof why) != RR_OK)
        rr_graph_error(graph, outside->place, "%s", why);
}

static bool wants_main(const rr_item_t *actor) {
    return actor->scope == RR_SCOPE_SCENE && strcmp(rr_item_text(actor, "interpreter"), "main") == 0;
}

static bool same_node(const rr_item_t *a, const rr_item_t *b) {
    const char *one = rr_item_text(a, "node"), *other = rr_item_text(b, "node");
    return one && other ? strcmp(one, other) == 0 : one == other;
}

/* The main interpreter exists once a process. Stops at the first mistake. */
static void check_main_interpreter(rr_graph_t *graph) {
    for (size_t i = 0; i < rr_graph_actor_count(graph); i++) {
        const rr_item_t *actor = rr_graph_actor(graph, i);
        for (size_t k = 0; k < i && wants_main(actor); k++) {
            const rr_item_t *first = rr_graph_actor(graph, k);
            if (!wants_main(first) || !same_node(first, actor))
                continue;
            rr_graph_error(graph, rr_item_value(actor, "interpreter")->place,
                           "%s and %s both want the main interpreter, which exists once a process; give one of them "
                           "`interpreter: shared`",
                           first->name, actor->name);
            return;
        }
    }
}

int rr_graph_check(rr_graph_t *graph) {
    each_actor(graph, RR_SCOPE_ACTOR, check_node_name);
    each_actor(graph, RR_SCOPE_BROKER, check_bridges);
    each_actor(graph, RR_SCOPE_GATE, check_gate);
    each_actor(graph, RR_SCOPE_SCENE, check_scene);
    each_actor(graph, RR_SCOPE_DATABASE, check_database);
    check_brokers(graph);
    check_addresses(graph);
    check_main_interpreter(graph);
    check_folders(graph, rr_graph_top(graph), "python_path");
    check_venv(graph);
    return rr_graph_error_count(graph) ? RR_EINVAL : RR_OK;
}
