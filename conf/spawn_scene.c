/* spawn_scene.c: the graph's scenes: options, supervisors, what their first load came to, reload on save. */
#include "conf/spawn_impl.h"

#include <stdlib.h>
#include <string.h>

#include "conf/home.h"

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

bool rr__reloads_on_save(const rr_running_t *running) {
    return running->python_started && rr_item_flag(rr_graph_top(running->graph), "reload_on_save");
}

int rr__fill_scene(rr_running_t *running, rr_running_scene_t *scene, const rr_item_t *item, char *why, size_t why_size) {
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
    scene->script.reload_on_save = rr__reloads_on_save(running);
    scene->script.session_id_int = wants_int_ids(running->graph, item->name);
    int rc = fill_path(scene, rr_item_value(item, "python_path"), rr_item_value(rr_graph_top(running->graph), "python_path"));
    scene->script.path = scene->path;
    return rc;
}

/* Each scene has a supervisor of its own: one that crashes too often ends alone. */
int rr__spawn_scene(rr_running_t *running, rr_running_scene_t *scene, char *why, size_t why_size) {
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

int rr__start_reload(rr_running_t *running, char *why, size_t why_size) {
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

void rr__end_reload(rr_running_t *running) {
    rr_reload_stop(running->reload);
    running->reload = NULL;
}
