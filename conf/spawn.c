#include "conf/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netdb.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "actors/broker.h"
#include "actors/scene.h"
#include "actors/scene_python.h"
#include "conf/databases.h"
#include "conf/home.h"
#include "conf/membership.h"
#include "conf/outside.h"
#include "conf/reload.h"
#include "conf/watch.h"
#include "runtime/clock.h"
#include "runtime/executor.h"

#define LOOPS_MAX 64

typedef struct rr_running_scene {
    const rr_item_t *item;
    rr_running_t *running;
    rr_script_options_t script;
    rr_scene_options_t options;
    const char **path;
    char *folder; /* the script's */
    /* Under running->lock: */
    bool told, failed; /* its first load ended; with an error */
    rr_addr_t supervisor;
} rr_running_scene_t;

struct rr_running {
    rr_graph_t *graph;
    const rr_share_t *share;
    rr_membership_t *member; /* NULL: all names are this process's own */
    rr_outside_t *outside;
    rr_databases_t *databases;
    rr_reload_t *reload; /* NULL: saved scripts are not loaded by themselves */
    const volatile int *stop;
    rr_addr_t watch;
    rr_system_t *system;
    rr_loop_t *loops[LOOPS_MAX];
    size_t loop_count;
    rr_executor_t *python; /* NULL without Python scenes */
    rr_running_scene_t *scenes;
    const char **scene_names, **reload_names; /* all scenes; those with a script, once reload is there */
    size_t scene_count;
    rr_gate_t **gates;
    const rr_item_t **gate_items;
    bool *gate_open; /* under running->lock: it has begun to accept */
    size_t gate_count;
    int broker_fd; /* holds the broker's port; -1 = none */
    bool python_started, system_started;
    char venv[PATH_MAX]; /* "" = none */
    char log_path[PATH_MAX], script_js[PATH_MAX], package[PATH_MAX];
    rr_running_wake_fn wake;
    void *wake_context;
    pthread_mutex_t lock; /* guards what follows: written by scenes and gates, read by the main thread */
    size_t loading, opening;
    unsigned pulse;
    bool ending; /* gates end because they shall */
    bool asked;  /* to drain and end */
    char failure[1024];
};

static size_t cpus(void) {
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 ? (size_t)n : 1;
}

/* ---- What scenes and gates report ---- */

static void scene_loaded(void *context, const char *name, int status, const char *why) {
    rr_running_scene_t *scene = context;
    rr_running_t *running = scene->running;
    pthread_mutex_lock(&running->lock);
    if (!scene->told) {
        scene->told = true;
        scene->failed = status != RR_OK;
        running->loading--;
        if (scene->failed && scene->supervisor != RR_NOBODY) /* at the start there is no second try */
            rr_kill(running->system, scene->supervisor, RR_CANCELLED);
        if (scene->failed && !running->failure[0])
            snprintf(running->failure, sizeof running->failure, "%s (%s) does not start: %s", name,
                     scene->script.file ? scene->script.file : scene->options.logic->name, why && *why ? why : rr_strerror(status));
    }
    pthread_mutex_unlock(&running->lock);
    running->wake(running->wake_context);
}

/* Its supervisor says: a scene ended before it was loaded. */
static void scene_event(void *context, size_t child, rr_addr_t addr, int reason) {
    rr_running_scene_t *scene = context;
    (void)child;
    if (addr == RR_NOBODY && reason == RR_STALE)
        scene_loaded(scene, scene->options.name, RR_STALE, "its name belongs to another node of the group; run it there only, or "
                                                           "give one of the two another name");
}

static void gate_ended(void *context, size_t index, int reason) {
    rr_running_t *running = context;
    pthread_mutex_lock(&running->lock);
    if (!running->ending && !running->failure[0])
        snprintf(running->failure, sizeof running->failure, "%s has ended: %s%s", rr_gate_name(running->gates[index]),
                 rr_strerror(reason), reason == RR_STALE ? ": its name belongs to another node of the group" : "");
    pthread_mutex_unlock(&running->lock);
    running->wake(running->wake_context);
}

static void database_ended(void *context, const char *name, int reason) {
    rr_running_t *running = context;
    pthread_mutex_lock(&running->lock);
    if (!running->ending && !running->failure[0])
        snprintf(running->failure, sizeof running->failure, "%s has ended: %s%s", name, rr_strerror(reason),
                 reason == RR_STALE ? ": its name belongs to another node of the group" : "");
    pthread_mutex_unlock(&running->lock);
    running->wake(running->wake_context);
}

static void asked_to_drain(void *context) {
    rr_running_t *running = context;
    pthread_mutex_lock(&running->lock);
    running->asked = true;
    pthread_mutex_unlock(&running->lock);
    running->wake(running->wake_context);
}

/* Its scenes are about to end, and none could have its name again: their supervisors must not try. */
static void lost_group(void *context, const char *why) {
    rr_running_t *running = context;
    pthread_mutex_lock(&running->lock);
    if (!running->ending && !running->failure[0])
        snprintf(running->failure, sizeof running->failure, "node %s is no member of its group any more: %s; start it again",
                 running->share->node, why);
    for (size_t i = 0; i < running->scene_count; i++)
        rr_kill(running->system, running->scenes[i].supervisor, RR_STALE);
    pthread_mutex_unlock(&running->lock);
    running->wake(running->wake_context);
}

static void alive(void *context) {
    rr_running_t *running = context;
    pthread_mutex_lock(&running->lock);
    running->pulse++;
    pthread_mutex_unlock(&running->lock);
    running->wake(running->wake_context);
}

static void gate_ready(void *context, rr_gate_t *gate) {
    rr_running_t *running = context;
    pthread_mutex_lock(&running->lock);
    for (size_t i = 0; i < running->gate_count; i++)
        running->gate_open[i] |= running->gates[i] == gate;
    running->opening--;
    pthread_mutex_unlock(&running->lock);
    running->wake(running->wake_context);
}

rr_running_state_t rr_running_state(rr_running_t *running, char *why, size_t why_size) {
    pthread_mutex_lock(&running->lock);
    rr_running_state_t state = running->failure[0]                         ? RR_RUNNING_FAILED
                               : running->asked                           ? RR_RUNNING_ASKED
                               : running->loading + running->opening == 0 ? RR_RUNNING_READY
                                                                           : RR_RUNNING_STARTING;
    snprintf(why, why_size, "%s", running->failure);
    pthread_mutex_unlock(&running->lock);
    return state;
}

/* ---- CPython and threads ---- */

static bool has_python(rr_graph_t *graph) {
    for (size_t i = 0; i < rr_graph_actor_count(graph); i++) {
        const rr_item_t *actor = rr_graph_actor(graph, i);
        if (actor->scope == RR_SCOPE_SCENE && rr_item_value(actor, "script") && rr_graph_runs(graph, actor))
            return true;
    }
    return false;
}

static int start_python(rr_running_t *running, const char *folder, char *why, size_t why_size) {
    char executable[PATH_MAX + 16];
    const char *asked = rr_item_text(rr_graph_top(running->graph), "venv");
    if (!rr_find_venv(asked, folder, running->venv, sizeof running->venv))
        running->venv[0] = 0;
    snprintf(executable, sizeof executable, "%s/bin/python3", running->venv);
    if (!rr_home_path("python", running->package, sizeof running->package))
        return rr_fail(RR_ETOOBIG, why, why_size, "the program's folder has too long a path; move it");
    rr_python_options_t options = {.executable = running->venv[0] ? executable : NULL,
                                   .venv = running->venv[0] ? running->venv : NULL, .package_path = running->package};
    int rc = rr_python_start(&options, why, why_size);
    running->python_started = rc == RR_OK;
    return rc;
}

/* A thread count: of the node that this process is, of the graph, of its only node, else 0. */
static unsigned threads_of(rr_graph_t *graph, const char *key) {
    const rr_item_t *node = rr_graph_selected(graph), *top = rr_graph_top(graph);
    if (!node && !rr_item_value(top, key) && rr_graph_node_count(graph) == 1)
        node = rr_graph_node(graph, 0);
    return (unsigned)rr_item_number(node && rr_item_value(node, key) ? node : top, key);
}

/* The stem of files that several nodes may write into one folder: each has its own. */
static const char *own_stem(const rr_running_t *running, const char *stem, char *out, size_t size) {
    const rr_item_t *node = rr_graph_selected(running->graph);
    snprintf(out, size, "%s%s%s", stem, node ? "-" : "", node ? node->name : "");
    return out;
}

static int create_system(rr_running_t *running, char *why, size_t why_size) {
    rr_item_t *top = rr_graph_top(running->graph);
    const rr_value_t *classes = rr_item_value(top, "log.classes"), *to_file = rr_item_value(top, "log.to_file");
    char joined[1024] = "", stem[512];
    rr_options_t options;
    for (size_t i = 0; classes && i < classes->count; i++) {
        size_t used = strlen(joined);
        snprintf(joined + used, sizeof joined - used, "%s%s", i ? "," : "", classes->texts[i]);
    }
    rr_options_init(&options);
    if (running->member)
        options.node = rr_membership_self(running->member)->node;
    options.core_threads = threads_of(running->graph, "threads");
    options.max_actors = (unsigned)rr_item_number(top, "max_actors");
    options.log_level = (rr_level_t)(RR_FATAL + rr_item_number(top, "log.level"));
    options.log_classes = joined;
    options.log_screen = rr_item_flag(top, "log.screen");
    options.log_path = (to_file ? to_file->number : rr_item_value(top, "log.path") != NULL) ? rr_item_text(top, "log.path") : NULL;
    options.log_file = own_stem(running, rr_item_text(top, "log.name"), stem, sizeof stem);
    int rc = rr_system_create(&running->system, &options);
    if (rc != RR_OK && rc != RR_ENOMEM && options.log_path)
        snprintf(why, why_size, "cannot write the log into %s: %s; create the folder or choose another log path",
                 options.log_path, rr_strerror(rc));
    else if (rc != RR_OK)
        snprintf(why, why_size, "the runtime does not start: %s", rr_strerror(rc));
    return rc;
}

static int create_threads(rr_running_t *running, char *why, size_t why_size) {
    size_t loops = threads_of(running->graph, "loops"), python = threads_of(running->graph, "python_threads");
    int rc = RR_OK;
    if (!loops)
        loops = cpus() >= 8 ? 2 : 1;
    for (size_t i = 0; i < loops && i < LOOPS_MAX && rc == RR_OK; i++) {
        char name[16];
        snprintf(name, sizeof name, "loop/%zu", i);
        rc = rr_loop_create(running->system, name, &running->loops[i]);
        running->loop_count += rc == RR_OK;
    }
    if (rc == RR_OK && running->python_started) {
        rr_pool_options_t options = {0};
        rr_python_pool_options(&options, (unsigned)(python ? python : cpus() > 2 ? cpus() : 2));
        rc = rr_pool_create(running->system, &options, &running->python);
    }
    if (rc != RR_OK)
        snprintf(why, why_size, "no threads: %s; lower threads, loops or python_threads", rr_strerror(rc));
    return rc;
}

/* ---- The broker ---- */

/* Takes the broker's port, so that a second process on it learns so at once: all nodes in one process, where nobody joins. */
static int hold_port(rr_running_t *running, const rr_item_t *broker, char *why, size_t why_size) {
    const char *text = rr_item_text(broker, "listen");
    rr_address_t address;
    if (!text)
        return RR_OK;
    int rc = rr_address_parse(text, &address, why, why_size);
    if (rc != RR_OK)
        return rc;
    char port[16];
    struct addrinfo hints = {.ai_flags = AI_PASSIVE | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM}, *found = NULL;
    snprintf(port, sizeof port, "%u", address.port);
    int failed = getaddrinfo(strcmp(address.host, "*") == 0 ? NULL : address.host, port, &hints, &found);
    if (failed)
        return rr_fail(RR_EINVAL, why, why_size, "the broker's address %s: %s; use an address of this machine", text,
                       gai_strerror(failed));
    running->broker_fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (running->broker_fd < 0 || bind(running->broker_fd, found->ai_addr, found->ai_addrlen) != 0) {
        rc = rr_error_from_errno(errno);
        if (errno == EADDRINUSE)
            snprintf(why, why_size, "the broker's address %s is taken; give this process its own `-broker` and `-master_broker %s`",
                     text, text);
        else
            snprintf(why, why_size, "the broker's address %s cannot be bound: %s; use an address of this machine", text,
                     strerror(errno));
    }
    freeaddrinfo(found);
    return rc;
}

static int spawn_broker(rr_running_t *running, const rr_item_t *item, char *why, size_t why_size) {
    rr_broker_options_t options;
    rr_broker_options_init(&options);
    options.name = item->name;
    int rc = rr_broker_spawn(running->system, &options, NULL);
    if (rc != RR_OK)
        snprintf(why, why_size, "broker %s does not start: %s", item->name, rr_strerror(rc));
    return rc;
}

/* ---- Scenes ---- */

static const char *config_of(void *context, const char *option) {
    rr_running_scene_t *scene = context;
    return rr_graph_config(scene->running->graph, option);
}

static int connect_outer(void *context, const char *name, const char *address, char *why, size_t why_size) {
    rr_running_scene_t *scene = context;
    return rr_outside_connect(scene->running->outside, name, address, why, why_size);
}

static int open_database(void *context, const char *url, unsigned pool, char *name, size_t name_size, char *why, size_t why_size) {
    rr_running_scene_t *scene = context;
    return rr_databases_open(scene->running->databases, url, scene->folder, pool, name, name_size, why, why_size);
}

/* True if a gate that logs in at this scene asks for ids as numbers. */
static bool wants_int_ids(rr_graph_t *graph, const char *scene) {
    for (size_t i = 0; i < rr_graph_actor_count(graph); i++) {
        const rr_item_t *gate = rr_graph_actor(graph, i);
        if (gate->scope == RR_SCOPE_GATE && strcmp(rr_item_text(gate, "login"), scene) == 0 &&
            strcmp(rr_item_text(gate, "session_id"), "int") == 0)
            return true;
    }
    return false;
}

/* The scene's folders, then the graph's. */
static int fill_path(rr_running_scene_t *scene, const rr_value_t *own, const rr_value_t *shared) {
    size_t count = 0;
    scene->path = calloc((own ? own->count : 0) + (shared ? shared->count : 0) + 1, sizeof *scene->path);
    if (!scene->path)
        return RR_ENOMEM;
    for (size_t i = 0; own && i < own->count; i++)
        scene->path[count++] = own->texts[i];
    for (size_t i = 0; shared && i < shared->count; i++)
        scene->path[count++] = shared->texts[i];
    return RR_OK;
}

static rr_interpreter_t interpreter_of(const rr_item_t *item) {
    const char *text = rr_item_text(item, "interpreter");
    return strcmp(text, "own") == 0      ? RR_INTERPRETER_OWN
           : strcmp(text, "shared") == 0 ? RR_INTERPRETER_SHARED
           : strcmp(text, "main") == 0   ? RR_INTERPRETER_MAIN
                                         : RR_INTERPRETER_DEFAULT;
}

static void fill_limits(rr_scene_options_t *options, const rr_item_t *item) {
    options->queue_messages = (unsigned)rr_item_number(item, "queue.messages");
    options->queue_bytes = (size_t)rr_item_number(item, "queue.bytes");
    options->queue_total_messages = (unsigned)rr_item_number(item, "queue_total.messages");
    options->queue_total_bytes = (size_t)rr_item_number(item, "queue_total.bytes");
    options->max_requests = (unsigned)rr_item_number(item, "max_requests");
    options->verify_timeout_ms = (unsigned)rr_item_number(item, "verify_timeout");
    options->kick_wait_ms = (unsigned)rr_item_number(item, "kick_wait");
    options->offline_wait_ms = (unsigned)rr_item_number(item, "offline_wait");
    options->move_timeout_ms = (unsigned)rr_item_number(item, "move_timeout");
    options->outbox_limit = (size_t)rr_item_number(item, "outbox");
    options->turn_us = (unsigned)rr_item_number(item, "turn") * 1000;
}

static bool reloads_on_save(const rr_running_t *running) {
    return running->python_started && rr_item_flag(rr_graph_top(running->graph), "reload_on_save");
}

static int fill_scene(rr_running_t *running, rr_running_scene_t *scene, const rr_item_t *item, char *why, size_t why_size) {
    const char *logic = rr_item_text(item, "logic");
    scene->item = item;
    scene->running = running;
    rr_scene_options_init(&scene->options);
    fill_limits(&scene->options, item);
    scene->options.name = item->name;
    scene->options.drain_to = rr_item_text(item, "drain_to");
    scene->options.leased = running->member != NULL;
    scene->options.config = config_of;
    scene->options.connect_outer = connect_outer;
    scene->options.open_database = open_database;
    scene->options.loaded = scene_loaded;
    scene->options.context = scene;
    scene->folder = logic ? strdup(".") : rr__folder_of(rr_item_text(item, "script"));
    if (!scene->folder)
        return RR_ENOMEM;
    if (logic) {
        scene->options.logic = rr_logic_find(logic);
        if (!scene->options.logic)
            snprintf(why, why_size, "scene %s: there is no logic '%s'; use echo or chat, or a script", item->name, logic);
        return scene->options.logic ? RR_OK : RR_EINVAL;
    }
    scene->options.logic = &rr_scene_python;
    scene->options.logic_arg = &scene->script;
    scene->options.executor = running->python;
    scene->script.file = rr_item_text(item, "script");
    scene->script.interpreter = interpreter_of(item);
    scene->script.watchdog_ms = (unsigned)rr_item_number(item, "watchdog");
    scene->script.memory_limit = (size_t)rr_item_number(item, "memory");
    scene->script.asyncio = rr_item_flag(item, "asyncio");
    scene->script.scene = item->name;
    scene->script.reload_on_save = reloads_on_save(running);
    scene->script.session_id_int = wants_int_ids(running->graph, item->name);
    int rc = fill_path(scene, rr_item_value(item, "python_path"), rr_item_value(rr_graph_top(running->graph), "python_path"));
    scene->script.path = scene->path;
    return rc;
}

/* Each scene has a supervisor of its own: one that crashes too often ends alone. */
static int spawn_scene(rr_running_t *running, rr_running_scene_t *scene, char *why, size_t why_size) {
    rr_child_t child = {.restart = RR_RESTART_TRANSIENT};
    unsigned max = (unsigned)rr_item_number(scene->item, "restart.max");
    rr_scene_spec(&scene->options, &child.spawn);
    child.spawn.mailbox_messages = (uint32_t)rr_item_number(scene->item, "mailbox.messages");
    child.spawn.mailbox_bytes = (uint32_t)rr_item_number(scene->item, "mailbox.bytes");
    if (!max)
        child.restart = RR_RESTART_TEMPORARY;
    rr_supervisor_t supervisor = {.max_restarts = max, .within_ms = (unsigned)rr_item_number(scene->item, "restart.within"),
                                  .children = &child, .child_count = 1, .event = scene_event, .context = scene};
    rr_addr_t addr;
    int rc = rr_supervisor_spawn(running->system, &supervisor, &addr);
    pthread_mutex_lock(&running->lock);
    if (rc == RR_OK && scene->failed)
        rr_kill(running->system, addr, RR_CANCELLED);
    scene->supervisor = rc == RR_OK ? addr : RR_NOBODY;
    pthread_mutex_unlock(&running->lock);
    if (rc != RR_OK)
        snprintf(why, why_size, "scene %s does not start: %s", scene->options.name, rr_strerror(rc));
    return rc;
}

/* ---- Reload on save ---- */

/* The scenes' folders and names, into arrays with room for all of them. A script's own folder is where it really lies, as Python
 * sees it. */
static void collect_reload(const rr_running_t *running, const char **names, const char **folders, char **real,
                           rr_reload_options_t *out) {
    for (size_t i = 0; i < running->scene_count; i++) {
        const rr_running_scene_t *scene = &running->scenes[i];
        if (!scene->script.file)
            continue;
        char *file = realpath(scene->script.file, NULL);
        real[out->scene_count] = file ? rr__folder_of(file) : NULL;
        free(file);
        folders[out->folder_count++] = real[out->scene_count] ? real[out->scene_count] : scene->folder;
        names[out->scene_count++] = scene->item->name;
        for (const char **at = scene->path; at && *at; at++)
            folders[out->folder_count++] = *at;
    }
}

static int start_reload(rr_running_t *running, char *why, size_t why_size) {
    size_t most = 1;
    for (size_t i = 0; i < running->scene_count; i++) {
        most++;
        for (const char **at = running->scenes[i].path; at && *at; at++)
            most++;
    }
    const char **folders = calloc(most, sizeof *folders);
    char **real = calloc(most, sizeof *real);
    rr_reload_options_t options = {.scenes = running->reload_names, .folders = folders};
    int rc = folders && real ? RR_OK : RR_ENOMEM;
    if (rc == RR_OK) {
        collect_reload(running, running->reload_names, folders, real, &options);
        rc = rr_reload_start(running->system, &options, &running->reload);
    }
    for (size_t i = 0; real && i < most; i++)
        free(real[i]);
    free(real);
    free(folders);
    if (rc != RR_OK)
        snprintf(why, why_size, "the folders of the scripts cannot be watched: %s; leave --watch (reload_on_save) out", rr_strerror(rc));
    return rc;
}

static void end_reload(rr_running_t *running) {
    rr_reload_stop(running->reload);
    running->reload = NULL;
}

/* ---- Gates ---- */

static size_t at_least_one(int64_t n) { return n > 0 ? (size_t)n : 1; }

static void fill_gate_limits(rr_gate_options_t *options, const rr_item_t *item) {
    options->max_packet = at_least_one(rr_item_number(item, "max_packet_size"));
    options->send_limit = (size_t)rr_item_number(item, "send_buffer");
    options->max_connections = (unsigned)rr_item_number(item, "max_connections");
    options->max_per_ip = (unsigned)rr_item_number(item, "max_per_ip");
    options->max_pending_logins = (unsigned)rr_item_number(item, "max_logins");
    options->pending_messages = (unsigned)rr_item_number(item, "login_queue.messages");
    options->pending_bytes = (size_t)rr_item_number(item, "login_queue.bytes");
    options->rate = (unsigned)rr_item_number(item, "rate.messages");
    options->rate_burst = (unsigned)rr_item_number(item, "rate.burst");
    options->queue_messages = (unsigned)rr_item_number(item, "queue.messages");
    options->queue_bytes = (size_t)rr_item_number(item, "queue.bytes");
    options->login_timeout_ms = (unsigned)rr_item_number(item, "login_timeout");
    options->idle_timeout_ms = (unsigned)rr_item_number(item, "heartbeat_timeout");
    options->partial_timeout_ms = (unsigned)rr_item_number(item, "frame_timeout");
    options->heartbeat_cmd = rr_item_value(item, "heartbeat_cmd") ? (int)rr_item_number(item, "heartbeat_cmd") : -1;
    options->window_messages = (unsigned)rr_item_number(item, "window.messages");
    options->window_bytes = (size_t)rr_item_number(item, "window.bytes");
    options->scene_lost = (rr_scene_lost_t)rr_item_number(item, "scene_lost");
    options->scene_wait_ms = (unsigned)rr_item_number(item, "scene_wait");
    options->session_id_int = strcmp(rr_item_text(item, "session_id"), "int") == 0;
    options->metrics = rr_item_flag(item, "metrics");
}

static int fill_listen(const rr_item_t *item, rr_gate_listen_t *listen, char *why, size_t why_size) {
    const rr_value_t *addresses = rr_item_value(item, "listen");
    bool all = strcmp(rr_item_text(item, "byte_order"), "network") == 0;
    int rc = RR_OK;
    for (size_t i = 0; i < addresses->count && rc == RR_OK; i++) {
        rc = rr_address_parse(addresses->texts[i], &listen[i].address, why, why_size);
        listen[i].big_endian = listen[i].address.byte_order ? listen[i].address.byte_order == RR_BYTE_ORDER_NETWORK : all;
    }
    return rc;
}

/* Folders that are missing have been complained about (check.c). */
static void fill_www(const rr_item_t *item, rr_gate_folder_t *www, size_t *count) {
    const rr_value_t *value = rr_item_value(item, "www");
    *count = 0;
    for (size_t i = 0; value && i < value->count; i++) {
        if (access(value->texts[i], F_OK) == 0)
            www[(*count)++] = (rr_gate_folder_t){value->keys ? value->keys[i] : "/", value->texts[i]};
    }
}

/* What to do about an address that cannot be listened on. */
static void add_mend(int rc, char *why, size_t why_size) {
    const char *mend = rc == RR_EADDRINUSE ? "; choose another port, or stop the process that has this one"
                       : rc == RR_EACCES   ? "; choose a port above 1023"
                       : rc == RR_EINVAL   ? "; use an address of this machine, or * for all"
                                           : "";
    size_t used = strlen(why);
    if (used < why_size)
        snprintf(why + used, why_size - used, "%s", mend);
}

static int create_gate(rr_running_t *running, const rr_item_t *item, rr_gate_t **out, char *why, size_t why_size) {
    const rr_value_t *addresses = rr_item_value(item, "listen"), *folders = rr_item_value(item, "www");
    const rr_value_t *subprotocols = rr_item_value(item, "subprotocols");
    const char *edited = rr_item_text(item, "editor.scene");
    rr_gate_listen_t *listen = calloc(addresses->count, sizeof *listen);
    rr_gate_folder_t *www = calloc((folders ? folders->count : 0) + 1, sizeof *www);
    const char **protocols = calloc((subprotocols ? subprotocols->count : 0) + 1, sizeof *protocols);
    rr_gate_options_t options;
    int rc = listen && www && protocols ? RR_OK : RR_ENOMEM;
    rr_gate_options_init(&options);
    options.name = item->name;
    options.leased = running->member != NULL;
    options.login = rr_item_text(item, "login");
    fill_gate_limits(&options, item);
    if (rc == RR_OK)
        rc = fill_listen(item, listen, why, why_size);
    if (rc != RR_OK)
        goto out;
    fill_www(item, www, &options.www_count);
    for (size_t i = 0; subprotocols && i < subprotocols->count; i++)
        protocols[i] = subprotocols->texts[i];
    options.listen = listen;
    options.listen_count = addresses->count;
    options.www = www;
    options.subprotocols = subprotocols ? protocols : NULL;
    options.client_js = rr_home_path("net/www/redrabbit.js", running->script_js, sizeof running->script_js) ? running->script_js : NULL;
    if (edited)
        options.editor = (rr_gate_editor_t){edited, rr_item_text(rr_graph_find_actor(running->graph, edited), "script"),
                                            rr_item_text(item, "editor.token")};
    options.ready = gate_ready;
    options.context = running;
    rc = rr_gate_create(running->system, running->loops, running->loop_count, &options, out, why, why_size);
    add_mend(rc, why, why_size);
out:
    if (rc == RR_ENOMEM)
        snprintf(why, why_size, "out of memory");
    free(listen);
    free(www);
    free(protocols);
    return rc;
}

/* ---- All of it ---- */

static int allocate(rr_running_t *running) {
    size_t actors = rr_graph_actor_count(running->graph) + 1;
    running->broker_fd = -1;
    running->scenes = calloc(actors, sizeof *running->scenes);
    running->scene_names = calloc(actors, sizeof *running->scene_names);
    running->reload_names = calloc(actors, sizeof *running->reload_names);
    running->gates = calloc(actors, sizeof *running->gates);
    running->gate_items = calloc(actors, sizeof *running->gate_items);
    running->gate_open = calloc(actors, sizeof *running->gate_open);
    bool all = running->scenes && running->scene_names && running->reload_names && running->gates && running->gate_items && running->gate_open;
    return all ? RR_OK : RR_ENOMEM;
}

/* One actor's share of the building; brokers only take their port, databases are made together. */
static int create_actor(rr_running_t *running, const rr_item_t *item, char *why, size_t why_size) {
    int rc = RR_OK;
    if (!rr_graph_runs(running->graph, item))
        return RR_OK;
    if (item->scope == RR_SCOPE_BROKER) {
        rc = running->broker_fd < 0 && !running->member ? hold_port(running, item, why, why_size) : RR_OK;
    } else if (item->scope == RR_SCOPE_SCENE) {
        rr_running_scene_t *scene = &running->scenes[running->scene_count];
        running->scene_names[running->scene_count++] = item->name;
        rc = fill_scene(running, scene, item, why, why_size);
    } else if (item->scope == RR_SCOPE_GATE) {
        rc = create_gate(running, item, &running->gates[running->gate_count], why, why_size);
        running->gate_items[running->gate_count] = item;
        running->gate_count += rc == RR_OK;
    }
    return rc;
}

static int join_group(rr_running_t *running, char *why, size_t why_size) {
    rr_membership_options_t options = {.graph = running->graph, .share = running->share, .stop = running->stop,
                                       .drain = asked_to_drain, .lost = lost_group, .context = running};
    return rr_membership_join(&options, &running->member, why, why_size);
}

/* The threads and, between them, the membership: the group's node id is the system's, and its port is on the first loop. */
static int create_parts(rr_running_t *running, const char *folder, char *why, size_t why_size) {
    int rc = allocate(running);
    if (rc == RR_OK && has_python(running->graph))
        rc = start_python(running, folder, why, why_size);
    if (rc == RR_OK && running->share->cluster)
        rc = join_group(running, why, why_size);
    if (rc == RR_OK)
        rc = create_system(running, why, why_size);
    if (rc == RR_OK)
        rc = create_threads(running, why, why_size);
    if (rc == RR_OK && running->member)
        rc = rr_membership_create(running->member, running->system, running->loops[0], why, why_size);
    return rc;
}

static int create_databases(rr_running_t *running, char *why, size_t why_size) {
    rr_databases_options_t options = {.graph = running->graph, .system = running->system, .loops = running->loops,
                                      .loop_count = running->loop_count, .leased = running->member != NULL,
                                      .ended = database_ended, .context = running};
    return rr_databases_create(&options, &running->databases, why, why_size);
}

int rr_running_create(const rr_running_options_t *options, rr_running_t **out, char *why, size_t why_size) {
    rr_running_t *running = calloc(1, sizeof *running);
    rr_graph_t *graph = options->graph;
    snprintf(why, why_size, "out of memory");
    if (!running)
        return RR_ENOMEM;
    running->graph = graph;
    running->share = options->share;
    running->stop = options->stop;
    running->wake = options->wake;
    running->wake_context = options->context;
    pthread_mutex_init(&running->lock, NULL);
    int rc = create_parts(running, options->folder, why, why_size);
    for (size_t i = 0; i < rr_graph_actor_count(graph) && rc == RR_OK; i++)
        rc = create_actor(running, rr_graph_actor(graph, i), why, why_size);
    if (rc == RR_OK)
        rc = create_databases(running, why, why_size);
    running->loading = running->scene_count;
    running->opening = running->gate_count;
    if (rc == RR_OK)
        *out = running;
    else if (!rr_running_destroy(running))
        snprintf(why + strlen(why), why_size - strlen(why), " (and CPython did not end)");
    return rc;
}

static int spawn_watch(rr_running_t *running, char *why, size_t why_size) {
    rr_addr_t *gates = calloc(running->gate_count + 1, sizeof *gates);
    rr_watch_options_t options = {gates, running->gate_count, gate_ended, alive, running};
    for (size_t i = 0; gates && i < running->gate_count; i++)
        gates[i] = rr_gate_address(running->gates[i]);
    int rc = gates ? rr_watch_spawn(running->system, &options, &running->watch) : RR_ENOMEM;
    free(gates);
    if (rc != RR_OK)
        snprintf(why, why_size, "the runtime does not start: %s", rr_strerror(rc));
    return rc;
}

int rr_running_start(rr_running_t *running, char *why, size_t why_size) {
    int rc = rr_system_start(running->system);
    running->system_started = rc == RR_OK;
    if (rc != RR_OK)
        snprintf(why, why_size, "the runtime does not start: %s; lower the numbers of threads", rr_strerror(rc));
    for (size_t i = 0; i < rr_graph_actor_count(running->graph) && rc == RR_OK; i++) {
        const rr_item_t *item = rr_graph_actor(running->graph, i);
        if (item->scope == RR_SCOPE_BROKER && !running->member)
            rc = spawn_broker(running, item, why, why_size);
    }
    if (rc == RR_OK)
        rc = rr_outside_create(running->graph, running->share, running->system, &running->outside, why, why_size);
    if (rc == RR_OK)
        rc = rr_databases_start(running->databases, why, why_size);
    if (rc == RR_OK && reloads_on_save(running))
        rc = start_reload(running, why, why_size);
    for (size_t i = 0; i < running->scene_count && rc == RR_OK; i++)
        rc = spawn_scene(running, &running->scenes[i], why, why_size);
    for (size_t i = 0; i < running->gate_count && rc == RR_OK; i++) {
        rc = rr_gate_start(running->gates[i]);
        if (rc != RR_OK)
            snprintf(why, why_size, "gate %s does not start: %s", rr_gate_name(running->gates[i]), rr_strerror(rc));
    }
    return rc == RR_OK ? spawn_watch(running, why, why_size) : rc;
}

int rr_running_ask(rr_running_t *running) { return rr_watch_ask(running->system, running->watch); }

unsigned rr_running_pulse(rr_running_t *running) {
    pthread_mutex_lock(&running->lock);
    unsigned pulse = running->pulse;
    pthread_mutex_unlock(&running->lock);
    return pulse;
}

static unsigned left_of(unsigned deadline_ms, uint64_t start_ms) {
    uint64_t spent = rr_machine_ms() - start_ms;
    return spent + 100 < deadline_ms ? deadline_ms - (unsigned)spent : 100;
}

/* An actor whose name was not granted does not run, so it cannot end in order either: such scenes are killed, such gates (which
 * never had a client) are left to the system. Returns how many gates remain to be drained. */
static size_t leave_out_waiting(rr_running_t *running, rr_gate_t **gates) {
    size_t count = 0;
    pthread_mutex_lock(&running->lock);
    running->ending = true;
    for (size_t i = 0; i < running->gate_count; i++) {
        if (!running->member || running->gate_open[i])
            gates[count++] = running->gates[i];
    }
    for (size_t i = 0; running->member && i < running->scene_count; i++) {
        rr_addr_t scene = rr_lookup(running->system, running->scene_names[i]);
        if (running->scenes[i].told || rr_addr_node(scene) != rr_system_node(running->system))
            continue;
        rr_kill(running->system, running->scenes[i].supervisor, RR_CANCELLED);
        rr_kill(running->system, scene, RR_CANCELLED);
    }
    pthread_mutex_unlock(&running->lock);
    return count;
}

rr_membership_t *rr_running_membership(rr_running_t *running) { return running->member; }

bool rr_running_fenced(rr_running_t *running) {
    return running->system_started && running->member && rr_cluster_fenced(rr_membership_cluster(running->member));
}

int rr_running_drain(rr_running_t *running, bool hand_over, unsigned deadline_ms) {
    uint64_t start = rr_machine_ms();
    rr_gate_t **gates = calloc(running->gate_count + 1, sizeof(rr_gate_t *));
    if (!gates || !running->system_started) { /* without threads nothing can end in order: destroy ends it */
        free(gates);
        return running->system_started ? RR_TIMEOUT : RR_OK;
    }
    end_reload(running);
    size_t gate_count = leave_out_waiting(running, gates);
    if (running->member)
        rr_cluster_draining(rr_membership_cluster(running->member));
    int actors = rr_actors_drain(running->system, gates, gate_count, running->scene_names, running->scene_count,
                                 hand_over && running->member, deadline_ms);
    int databases = rr_databases_stop(running->databases, left_of(deadline_ms, start) / 2); /* scenes wrote until now */
    if (running->outside)
        rr_outside_stop(running->outside, left_of(deadline_ms, start) / 4);
    if (running->member)
        rr_cluster_leave(rr_membership_cluster(running->member), left_of(deadline_ms, start));
    int rest = rr_system_drain(running->system, left_of(deadline_ms, start));
    free(gates);
    return actors != RR_OK ? actors : databases != RR_OK ? databases : rest;
}

bool rr_running_destroy(rr_running_t *running) {
    bool clean = true;
    end_reload(running);
    if (running->system && !rr_system_stop(running->system)) {
        rr_system_flush_log(running->system);
        return false; /* a thread is still in some handler: nothing may be taken from under it */
    }
    for (size_t i = 0; i < running->gate_count; i++)
        rr_gate_destroy(running->gates[i]);
    rr_outside_destroy(running->outside);
    rr_databases_destroy(running->databases);
    rr_membership_destroy(running->member);
    if (running->python_started)
        clean = rr_python_stop();
    if (!clean && running->system)
        rr_system_flush_log(running->system);
    else if (running->system)
        rr_system_destroy(running->system);
    if (running->broker_fd >= 0)
        close(running->broker_fd);
    for (size_t i = 0; i < running->scene_count; i++) {
        free(running->scenes[i].path);
        free(running->scenes[i].folder);
    }
    free(running->scenes);
    free(running->scene_names);
    free(running->reload_names);
    free(running->gates);
    free(running->gate_items);
    free(running->gate_open);
    pthread_mutex_destroy(&running->lock);
    free(running);
    return clean;
}

rr_system_t *rr_running_system(rr_running_t *running) { return running->system; }

/* ---- Words for people ---- */

static void describe_python(const rr_running_t *running, FILE *out) {
    fprintf(out, "redrabbit: CPython %s (%s)\n", rr_python_version(), rr_python_home());
    if (rr_python_parallel())
        fprintf(out, "redrabbit: scenes run in parallel: each has its own interpreter and GIL\n");
    else
        fprintf(out, "redrabbit: scenes share one GIL and do not run in parallel; CPython >= 3.13 does that: ./dev python builds "
                     "one, then ./dev build\n");
    if (running->venv[0])
        fprintf(out, "redrabbit: virtual environment %s\n", running->venv);
    else
        fprintf(out, "redrabbit: no virtual environment; .venv beside the graph or -python_venv DIR gives one\n");
}

static void describe_gate(const rr_running_t *running, size_t index, FILE *out) {
    const rr_value_t *listen = rr_item_value(running->gate_items[index], "listen");
    rr_gate_t *gate = running->gates[index];
    char text[300];
    for (size_t i = 0; i < listen->count; i++) {
        rr_address_t address;
        if (rr_address_parse(listen->texts[i], &address, NULL, 0) != RR_OK)
            continue;
        address.port = rr_gate_port(gate, i);
        fprintf(out, "redrabbit: %s listens on %s\n", rr_gate_name(gate), rr_address_format(&address, text, sizeof text));
        if (i || !rr_item_value(running->gate_items[index], "www"))
            continue;
        bool any = strcmp(address.host, "*") == 0 || strcmp(address.host, "0.0.0.0") == 0 || strcmp(address.host, "::") == 0;
        address.scheme = RR_SCHEME_HTTP;
        address.byte_order = RR_BYTE_ORDER_UNSAID;
        if (any)
            snprintf(address.host, sizeof address.host, "127.0.0.1");
        const char *token = rr_gate_editor_token(gate);
        fprintf(out, "redrabbit: the page is %s/%s%s\n", rr_address_format(&address, text, sizeof text), token ? "#token=" : "",
                token ? token : "");
    }
}

void rr_running_describe(rr_running_t *running, bool late, FILE *out) {
    if (!late && running->python_started)
        describe_python(running, out);
    if (!late && running->member)
        rr_membership_describe(running->member, out);
    for (size_t i = 0; late && i < running->gate_count; i++)
        describe_gate(running, i, out);
    if (late && running->reload)
        fprintf(out, "redrabbit: saved scripts are loaded at once\n");
}

/* ---- The performance report ---- */

int rr_running_report(rr_running_t *running, const char *folder) {
    char path[PATH_MAX], day[32], now[64], stem[256];
    time_t seconds = time(NULL);
    struct tm local;
    rr_buffer_t *text = NULL;
    localtime_r(&seconds, &local);
    strftime(day, sizeof day, "%Y%m%d", &local);
    strftime(now, sizeof now, "%Y-%m-%d %H:%M:%S", &local);
    snprintf(path, sizeof path, "%s/%s-%s.txt", folder, own_stem(running, "perf", stem, sizeof stem), day);
    if (mkdir(folder, 0777) != 0 && errno != EEXIST)
        return rr_error_from_errno(errno);
    int rc = rr_metrics_text(running->system, &text);
    if (rc != RR_OK)
        return rc;
    FILE *file = fopen(path, "ae");
    bool ok = file && fprintf(file, "# %s\n", now) > 0 && fwrite(rr_buffer_data(text), 1, rr_buffer_size(text), file) == rr_buffer_size(text);
    if (file && fclose(file) != 0)
        ok = false;
    rr_buffer_unref(text);
    return ok ? RR_OK : RR_EIO;
}

/* ---- get_config ---- */

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
