/* spawn_impl.h: a running graph's inside, shared by the files that build it (spawn*.c, describe.c). */
#ifndef RR_CONF_SPAWN_IMPL_H
#define RR_CONF_SPAWN_IMPL_H

#include <limits.h>
#include <pthread.h>

#include "actors/scene.h"
#include "actors/scene_python.h"
#include "conf/databases.h"
#include "conf/outside.h"
#include "conf/reload.h"
#include "conf/spawn.h"

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

/* All on the main thread; a failed one has said why, but for RR_ENOMEM. */

/* ---- spawn_threads.c ---- */

/* Does a scene with a script run here? */
bool rr__has_python(rr_graph_t *graph);
/* folder: where a .venv is looked for. */
RR_MUST_CHECK int rr__start_python(rr_running_t *running, const char *folder, char *why, size_t why_size);
/* The stem of files that several nodes may write into one folder: each has its own. Returns `out`. */
const char *rr__own_stem(const rr_running_t *running, const char *stem, char *out, size_t size);
RR_MUST_CHECK int rr__create_system(rr_running_t *running, char *why, size_t why_size);
/* The loops and, with Python, its workers. */
RR_MUST_CHECK int rr__create_threads(rr_running_t *running, char *why, size_t why_size);

/* ---- spawn_scene.c ---- */

/* From the graph to options; `path` and `folder` are freed with the running graph. */
RR_MUST_CHECK int rr__fill_scene(rr_running_t *running, rr_running_scene_t *scene, const rr_item_t *item, char *why, size_t why_size);
/* Under a supervisor of its own: one that crashes too often ends alone. */
RR_MUST_CHECK int rr__spawn_scene(rr_running_t *running, rr_running_scene_t *scene, char *why, size_t why_size);
bool rr__reloads_on_save(const rr_running_t *running);
RR_MUST_CHECK int rr__start_reload(rr_running_t *running, char *why, size_t why_size);
/* Does nothing without a reload. */
void rr__end_reload(rr_running_t *running);

/* ---- spawn_gate.c ---- */

/* Its ports are bound; it accepts once it is started. */
RR_MUST_CHECK int rr__create_gate(rr_running_t *running, const rr_item_t *item, rr_gate_t **out, char *why, size_t why_size);

#endif
