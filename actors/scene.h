/* scene.h: the actor where the game happens: it holds sessions, and a logic (logic.h) handles what they say. Also the
 * login registry, when a gate names it as its login scene (spec.md section 5). */
#ifndef RR_ACTORS_SCENE_H
#define RR_ACTORS_SCENE_H

#include "actors/logic.h"

typedef struct rr_scene_options {
    const char *name;              /* "scene@0"; required */
    const rr_scene_logic_t *logic; /* required: rr_scene_python (scene_python.h), rr_logic_find("echo"), your own */
    const void *logic_arg;         /* given to load(): rr_script_options_t for rr_scene_python */
    rr_executor_t *executor;       /* NULL = the core workers; a python pool for rr_scene_python */
    bool leased;                   /* its name is the group's (rr_spawn_t.leased) */

    unsigned queue_messages;    /* per session, waiting behind a pending handler, enter or move; 1024, at most
                                   65,535. Over it: 4007 */
    size_t queue_bytes;         /* the same in bytes; 4 MiB, at least one message */
    unsigned queue_total_messages; /* of all sessions; 1,048,576. Over it: the session with the most closes, 4007 */
    size_t queue_total_bytes;      /* the same in bytes; 256 MiB, at least one message */
    unsigned max_requests;      /* service requests being handled; 10,000. Over it: OVERLOAD */
    unsigned verify_timeout_ms; /* a late verdict must come within; 60,000. Afterwards refused */
    unsigned kick_wait_ms;      /* a newer login waits for the older's offline; 5,000 */
    unsigned offline_wait_ms;   /* a pending handler of a leaving session is cancelled after; 5,000 */
    unsigned move_timeout_ms;   /* the target's enter must be finished within; 5,000 */
    const char *drain_to; /* the scene that takes this one's sessions when it hands over (rr_scenes_hand_over) and its logic
                             names none; NULL = none */
    size_t outbox_limit; /* bytes kept for a gate that does not keep up; 64 MiB. Over it sends fail with RR_EFULL */
    unsigned turn_us;    /* a turn's length before others get theirs; 2,000 */

    /* Configuration look-up for scripts (get_config); may be NULL. Any thread. */
    const char *(*config)(void *context, const char *option);
    /* rr_scene_connect_outer: begins, and does not block; why gets one line. May be NULL. Any thread. */
    int (*connect_outer)(void *context, const char *name, const char *address, char *why, size_t why_size);
    /* A database by URL: the actor that serves it in this process, spawned if there is none yet; all who give the same URL and
     * pool share it. Its name (local, without secrets) goes to name; why gets one line. RR_OK, RR_EINVAL, RR_EUNSUPPORTED,
     * RR_ENOMEM. pool 0 = the default. May be NULL. Any thread; does not block. */
    int (*open_database)(void *context, const char *url, unsigned pool, char *name, size_t name_size, char *why,
                         size_t why_size);
    /* Told once per (re)start, on the scene's thread: loaded (RR_OK) or failed, with one line that says why; may be
     * NULL. */
    void (*loaded)(void *context, const char *name, int status, const char *why);
    void *context;
} rr_scene_options_t;

/* Defaults as above, all else zero. */
void rr_scene_options_init(rr_scene_options_t *options);

/* Fills a spawn spec (for rr_system_spawn, or a child of a supervisor: use RR_RESTART_TRANSIENT, an orderly stop is no
 * fault). Nothing is copied: options, and what it points to, must outlive every actor made from it. */
void rr_scene_spec(const rr_scene_options_t *options, rr_spawn_t *out);

/* Makes the scenes of these names hand all their sessions over (RR_TYPE_HAND_OVER in protocol.h), all at the same time, and
 * returns when that is finished: from then on they take no new sessions, and are to be stopped (rr_actors_drain). Where
 * each session goes says the logic (on_drain), else `to` (NULL = the scenes' drain_to). A scene that is not there, or is being
 * drained itself, is tried again until the time is over. elsewhere: this node ends, so they go to scenes of other nodes only,
 * and the sessions of this node's own gates, which end with it, are left alone. Those that nobody takes are given
 * back to gates that keep them or log them in again (scene_lost; elsewhere only); others, and those that their
 * logic keeps, are counted in *left and end with their scene. A running handler is waited for up to the scene's offline_wait_ms, at
 * most three quarters of deadline_ms: then its session goes without it. New logins wait at their gates meanwhile. RR_OK, also if
 * some are left; RR_TIMEOUT: some scene did not answer within deadline_ms; names that do not exist, or not on this node, are
 * fine. moved and left may be NULL. Not on a worker or loop thread. */
RR_MUST_CHECK int rr_scenes_hand_over(rr_system_t *system, const char *const *scenes, size_t count, const char *to,
                                      bool elsewhere, unsigned deadline_ms, uint64_t *moved, uint64_t *left);

/* Spawns one without a supervisor. Errors as rr_system_spawn. Any thread. */
RR_MUST_CHECK int rr_scene_spawn(rr_system_t *system, const rr_scene_options_t *options, rr_addr_t *out);

#endif
