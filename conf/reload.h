/* reload.h: reload on save, for people who develop: what is saved in the folders of the scenes' scripts is loaded, while clients
 * stay (python/redrabbit/README.md). */
#ifndef RR_CONF_RELOAD_H
#define RR_CONF_RELOAD_H

#include "runtime/redrabbit.h"

typedef struct rr_reload rr_reload_t;

typedef struct rr_reload_options {
    const char *const *scenes; /* names of Python scenes of this process; scene_count of them, borrowed until the end */
    size_t scene_count;
    const char *const *folders; /* of their scripts and python_path; copied */
    size_t folder_count;
} rr_reload_options_t;

/* Spawns the actor that asks the scenes to look at their files, and the thread that hears of saves (saves.h). After
 * rr_system_start; a scene that does not run yet, or is started anew, loads what is there anyway. What a scene says comes into the
 * log: once for all that say the same. RR_ENOMEM, RR_EIO and what rr_system_spawn says. */
RR_MUST_CHECK int rr_reload_start(rr_system_t *system, const rr_reload_options_t *options, rr_reload_t **out);

/* Nothing is loaded any more that is saved from now on; the actor ends with the system. NULL is fine. Before the system stops. */
void rr_reload_stop(rr_reload_t *reload);

#endif
