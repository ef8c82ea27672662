/* spawn_threads.c: CPython, the system, and its threads. */
#include "conf/spawn_impl.h"

#include <string.h>
#include <unistd.h>

#include "conf/home.h"
#include "runtime/executor.h"

static size_t cpus(void) {
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 ? (size_t)n : 1;
}

bool rr__has_python(rr_graph_t *graph) {
    for (size_t i = 0; i < rr_graph_actor_count(graph); i++) {
        const rr_item_t *actor = rr_graph_actor(graph, i);
        if (actor->scope == RR_SCOPE_SCENE && rr_item_value(actor, "script") && rr_graph_runs(graph, actor))
            return true;
    }
    return false;
}

int rr__start_python(rr_running_t *running, const char *folder, char *why, size_t why_size) {
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
const char *rr__own_stem(const rr_running_t *running, const char *stem, char *out, size_t size) {
    const rr_item_t *node = rr_graph_selected(running->graph);
    snprintf(out, size, "%s%s%s", stem, node ? "-" : "", node ? node->name : "");
    return out;
}

int rr__create_system(rr_running_t *running, char *why, size_t why_size) {
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
    options.log_file = rr__own_stem(running, rr_item_text(top, "log.name"), stem, sizeof stem);
    int rc = rr_system_create(&running->system, &options);
    if (rc != RR_OK && rc != RR_ENOMEM && options.log_path)
        snprintf(why, why_size, "cannot write the log into %s: %s; create the folder or choose another log path",
                 options.log_path, rr_strerror(rc));
    else if (rc != RR_OK)
        snprintf(why, why_size, "the runtime does not start: %s", rr_strerror(rc));
    return rc;
}

int rr__create_threads(rr_running_t *running, char *why, size_t why_size) {
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
