/* logic.h: what a scene does, behind one table: Python (scene_python.h) or C. And what it can do: the rr_scene_*
 * functions.
 *
 * Everything here runs inside a turn of the scene's actor, one call at a time. `state` is the logic's own zeroed memory
 * of state_size bytes. Handlers return RR_OK              finished RR_SCRIPT_PENDING  they run on; rr_scene_done(scene,
 * token, …) follows, exactly once an error           failed (the logic has logged it); RR_ENOENT: no handler for that
 * cmd While a handler of a session is pending, the scene gives it no further message (spec.md 5.2).
 *
 * A game server in C is one such table:
 *
 *     static int on_message(void *state, rr_session_t *session, uint16_t cmd, const void *body, size_t size,
 *                           rr_buffer_t *owner, uint64_t token) {
 *         rr_scene_t *scene = rr_session_scene(session);
 *         return rr_scene_send(scene, session, cmd, body, size, false);
 *     }
 *     static const rr_scene_logic_t echo = {.name = "echo", .message = on_message};
 */
#ifndef RR_ACTORS_LOGIC_H
#define RR_ACTORS_LOGIC_H

#include "python/script.h"
#include "runtime/metrics.h"

typedef struct rr_scene rr_scene_t;
typedef struct rr_session rr_session_t;

typedef struct rr_login {
    const void *key;
    size_t key_size;
    int64_t online_time; /* Unix seconds of the connect */
    const char *ip;
    const char *gate;
    uint64_t cb_id; /* for a late answer: rr_scene_verdict */
} rr_login_t;

/* NULL entries do the natural thing: verify accepts the key as id, others do nothing. */
typedef struct rr_scene_logic {
    const char *name;
    size_t state_size;
    /* The scene starts. PENDING: it is not served before done(token). An error ends the scene; why gets one line. */
    int (*load)(void *state, rr_scene_t *scene, const void *arg, uint64_t token, char *why, size_t why_size);
    /* Around the calls of one turn (only around turns that make any). */
    void (*turn_begin)(void *state);
    void (*turn_end)(void *state);
    /* verdict is filled when RR_OK is returned; its memory is borrowed until the next call. PENDING: rr_scene_verdict.
     */
    int (*verify)(void *state, const rr_login_t *login, rr_verdict_t *verdict);
    /* The logic's part of a session, kept in rr_session_user; freed by session_free. RR_ENOMEM. */
    int (*session_new)(void *state, rr_session_t *session);
    void (*session_free)(void *state, rr_session_t *session);
    int (*enter)(void *state, rr_session_t *session, const char *from_scene, const void *extra, size_t size,
                 uint64_t token);
    /* owner != NULL: body lies in this buffer, of which a reference may be taken. */
    int (*message)(void *state, rr_session_t *session, uint16_t cmd, const void *body, size_t size, rr_buffer_t *owner,
                   uint64_t token);
    bool (*concurrent)(void *state, uint16_t cmd); /* opted out of one-at-a-time; asked only while one is pending */
    int (*offline)(void *state, rr_session_t *session, int64_t online_time, const char *reason, uint64_t token);
    /* The scene hands over: where to with this session, and with what? Its messages wait, no handler of it runs. RR_OK: *to
     * says it (its memory is borrowed until the next call). PENDING: rr_scene_hand_to follows. RR_ENOENT: as not asked. An
     * error: the session stays. leave follows when it has moved. A node that ends gives it back to its gate (scene_lost) if there
     * is nowhere to go, also after an error: leave follows with the scene's own name (wait), or offline (relogin). A scene that is
     * "" means that it stays until the scene is stopped; then, if the hand-over was for that, it is closed (drain), whatever its
     * gate does with those whose scene is gone. */
    int (*hand_over)(void *state, rr_session_t *session, uint64_t token, rr_hand_to_t *to);
    int (*leave)(void *state, rr_session_t *session, const char *to_scene, uint64_t token);
    /* Answered by rr_scene_reply(scene, request, …), now or later. NULL: "no service". */
    void (*service)(void *state, uint64_t request, const char *from, const char *method, const void *body, size_t size);
    /* The end of rr_scene_call / rr_scene_change made with token. error NULL = success; body NULL = None. */
    void (*answer)(void *state, uint64_t token, const char *error, const void *body, size_t size);
    void (*timer)(void *state, uint64_t token);
    /* The end of rr_scene_query made with token: RR_OK with the database's answer (rr_db_answer_decode; buffer: what data
     * lies in, of which a reference may be taken), else as the call ended: "not executed" or "maybe executed" (error.h). */
    void (*queried)(void *state, uint64_t token, int status, const void *data, size_t size, rr_buffer_t *buffer);
    /* An event of one of the scene's subscriptions (runtime/query.h). */
    void (*query_event)(void *state, const void *data, size_t size);
    /* A database that this scene asked is gone, with the scene's subscriptions there; what was under way ends by queried. */
    void (*database_down)(void *state, const char *name);
    /* After rr_scene_watch_dead_letters, for each. RR_OK, an error; RR_ENOENT: it wants no more of them. */
    int (*dead_letter)(void *state, const rr_letter_t *letter);
    /* After rr_scene_wake: goes on with what is runnable. ms until it wants to run again by itself, -1 = not. */
    int64_t (*run)(void *state);
    void (*cancel)(void *state, uint64_t token); /* of a pending handler; its done must follow soon */
    /* False: why has the error. *version (in, out): successful loads. */
    bool (*reload)(void *state, const char *module, unsigned *version, char *why, size_t why_size);
    /* Files may have been saved: true: text says which were loaded anew ("" = nothing has changed); false: the error. */
    bool (*saved)(void *state, unsigned *version, char *text, size_t text_size);
    int (*cleanup)(void *state, uint64_t token); /* before the end, if it is an orderly one */
    void (*destroy)(void *state);                /* the end, always (if load was called) */
    void (*metrics)(void *state, rr_metrics_writer_t *writer, const char *labels); /* any thread */
} rr_scene_logic_t;

/* ---- Sessions ---- */

rr_scene_t *rr_session_scene(const rr_session_t *session);
const rr_sid_t *rr_session_id(const rr_session_t *session); /* text is NUL-terminated */
int64_t rr_session_online_time(const rr_session_t *session);
void *rr_session_user(const rr_session_t *session);
void rr_session_set_user(rr_session_t *session, void *user);

/* The session of an id, if this scene holds it and it is not closing; else NULL (no warning). */
rr_session_t *rr_scene_find(rr_scene_t *scene, const rr_sid_t *id);

/* ---- What a scene can do ---- */

/* To a session that this scene holds. `text`: the body is known to be UTF-8. RR_OK; RR_ENOENT: not held or closing
 * (counted, a rate-limited warning); RR_EFULL: the gate does not keep up, nothing was sent (counted). Bodies are
 * copied. */
RR_MUST_CHECK int rr_scene_send(rr_scene_t *scene, rr_session_t *session, uint16_t cmd, const void *body, size_t size,
                                bool text);
RR_MUST_CHECK int rr_scene_send_id(rr_scene_t *scene, const rr_sid_t *id, uint16_t cmd, const void *body, size_t size,
                                   bool text);
/* Returns how many of them got it; the others are counted, with one warning. list: 0, or a number that the logic gives to these
 * very ids and never to others, so that the scene may remember whose they are: the RR_SCRIPT_LISTS last ones with different
 * rests modulo that. */
size_t rr_scene_multi_send(rr_scene_t *scene, const rr_sid_t *ids, size_t count, uint64_t list, uint16_t cmd,
                           const void *body, size_t size, bool text);
/* To all sessions held here whose enter has begun. RR_OK, RR_EFULL, RR_ENOMEM. */
RR_MUST_CHECK int rr_scene_broadcast(rr_scene_t *scene, uint16_t cmd, const void *body, size_t size, bool text);
/* To all verified sessions of a gate. RR_ENOENT: no such gate. */
RR_MUST_CHECK int rr_scene_broadcast_gate(rr_scene_t *scene, const char *gate, uint16_t cmd, const void *body,
                                          size_t size, bool text);
/* Flushes what was sent before, closes; the offline handler follows. RR_ENOENT. */
RR_MUST_CHECK int rr_scene_close(rr_scene_t *scene, const rr_sid_t *id);
/* Moves a session to another scene. token != 0: answer(token) follows when it ended. RR_ENOENT: not held; RR_ESTATE: it
 * is moving or leaving already; both without an answer. */
RR_MUST_CHECK int rr_scene_change(rr_scene_t *scene, const rr_sid_t *id, const char *to_scene, const void *extra,
                                  size_t size, uint64_t token);
/* Hands all sessions over as RR_TYPE_HAND_OVER does, and then goes on as before. to NULL = drain_to. token: answer(token)
 * follows: two numbers as JSON, [moved, left]. RR_ESTATE: it is being done already, or the scene stops. RR_ENOMEM. */
RR_MUST_CHECK int rr_scene_hand_over(rr_scene_t *scene, const char *to, unsigned deadline_ms, uint64_t token);
/* The end of a pending hand_over. status RR_OK: *to says where. */
void rr_scene_hand_to(rr_scene_t *scene, uint64_t token, int status, const rr_hand_to_t *to);
/* A late answer to verify. RR_ENOENT: unknown or answered already. */
RR_MUST_CHECK int rr_scene_verdict(rr_scene_t *scene, uint64_t cb_id, const rr_verdict_t *verdict);
/* A pending handler ended. */
void rr_scene_done(rr_scene_t *scene, uint64_t token, int status);

/* timer(token) follows. RR_ELIMIT, RR_ENOMEM. */
RR_MUST_CHECK int rr_scene_timer(rr_scene_t *scene, uint64_t delay_ms, uint64_t repeat_ms, uint64_t token);
bool rr_scene_timer_cancel(rr_scene_t *scene, uint64_t token);

/* Calls a service by name; answer(token) follows, never inside. timeout_ms 0 = 5000. RR_ENOMEM, RR_ELIMIT, RR_EINVAL.
 */
RR_MUST_CHECK int rr_scene_call(rr_scene_t *scene, const char *name, const char *method, const void *body, size_t size,
                                unsigned timeout_ms, uint64_t token);
/* The same in another group, through this group's bridge (bridge.h). */
RR_MUST_CHECK int rr_scene_call_group(rr_scene_t *scene, const char *group, const char *name, const char *method,
                                      const void *body, size_t size, unsigned timeout_ms, uint64_t token);
/* The service `name` of the outer group whose broker is at address becomes callable by name here, soon. RR_OK;
 * RR_EUNSUPPORTED (the process has no such thing), RR_EINVAL, RR_EEXIST …: the reason is logged. */
RR_MUST_CHECK int rr_scene_connect_outer(rr_scene_t *scene, const char *name, const char *address);
/* Opens a database by URL (scene.h: open_database); its name goes to `name`. RR_OK; RR_EUNSUPPORTED (this process opens none),
 * RR_EINVAL, RR_ENOMEM: why has one line, without the password. */
RR_MUST_CHECK int rr_scene_database(rr_scene_t *scene, const char *url, unsigned pool, char *name, size_t name_size,
                                    char *why, size_t why_size);
/* Asks a database by name; request is a query (runtime/query.h) whose id is token, its reference is taken over, also on
 * failure. RR_OK: queried(token) follows exactly once, never inside. RR_NOROUTE: there is no actor of that name; RR_ENOMEM,
 * RR_ELIMIT, RR_EINVAL (token 0). timeout_ms: that of the request, 0 = the database's own. */
RR_MUST_CHECK int rr_scene_query(rr_scene_t *scene, const char *database, rr_buffer_t *request, unsigned timeout_ms,
                                 uint64_t token);
/* Nobody waits for it any more; queried(token) follows all the same. Unknown tokens are ignored. What is under way when the
 * scene ends is cancelled by itself. */
void rr_scene_query_cancel(rr_scene_t *scene, uint64_t token);
/* As rr_scene_query, but waits for *reply (to be unreffed) and blocks the calling worker: only on a python pool. A database that
 * does not answer within patience_ms (for how long it may itself let the query wait and run: its DESCRIBE says that; 0 = 15 s, the
 * default of both together) and 2 s more is not waited for: RR_TIMEOUT. RR_EINVAL: the scene itself has that name. */
RR_MUST_CHECK int rr_scene_query_wait(rr_scene_t *scene, const char *database, rr_buffer_t *request, unsigned patience_ms,
                                      rr_buffer_t **reply);
/* Answers a service request. error NULL = success, body NULL = None. RR_ENOENT: answered or given up already. */
RR_MUST_CHECK int rr_scene_reply(rr_scene_t *scene, uint64_t request, const char *error, const void *body, size_t size);
/* dead_letter follows for messages that got lost in this process, or on their way from it to another node (of any sender). At
 * most 256 wait for a scene. RR_ELIMIT: RR_DEAD_LETTER_WATCHERS of this process watch already. */
RR_MUST_CHECK int rr_scene_watch_dead_letters(rr_scene_t *scene);
bool rr_scene_exists(rr_scene_t *scene, const char *name); /* a live actor has this name */

void rr_scene_wake(rr_scene_t *scene);            /* run() soon */
void rr_scene_wake_threadsafe(rr_scene_t *scene); /* the same from any thread, while the logic lives */
void rr_scene_sessions(rr_scene_t *scene, void (*each)(void *context, const rr_sid_t *id), void *context);
const char *rr_scene_config(rr_scene_t *scene, const char *option);
const char *rr_scene_name(const rr_scene_t *scene);
uint64_t rr_scene_epoch(const rr_scene_t *scene);
uint64_t rr_scene_alloc_id(rr_scene_t *scene); /* unique among the scenes of this process, increasing */
rr_actor_t *rr_scene_actor(rr_scene_t *scene);

/* ---- Shipped logics, by name in a graph: `role: scene, logic: echo` ---- */

/* echo: every message back to its sender. chat: every message to all. NULL if there is none of that name. */
const rr_scene_logic_t *rr_logic_find(const char *name);

#endif
