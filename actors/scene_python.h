/* scene_python.h: a Python script as a scene's logic. */
#ifndef RR_ACTORS_SCENE_PYTHON_H
#define RR_ACTORS_SCENE_PYTHON_H

#include "actors/logic.h"

/* logic_arg: a const rr_script_options_t * that outlives the scene (its `scene` member may be NULL: the scene's own
 * name). The scene's executor must be a python pool (rr_python_pool_options). CPython must be started
 * (rr_python_start). */
extern const rr_scene_logic_t rr_scene_python;

#endif
