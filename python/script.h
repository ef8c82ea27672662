/* script.h: a Python script as the logic of one scene. The embedding of CPython behind it: design.md section 4.
 *
 * Layering: python/ knows runtime/ only. Whoever runs a script (actors/scene) gives it a host: what the script can do to
 * the outside. The script never blocks on the host, but in query_wait; the host calls the script only inside a turn, between
 * rr_script_enter and rr_script_leave, and host functions are called only from inside script functions, on that thread. */
#ifndef RR_PYTHON_SCRIPT_H
#define RR_PYTHON_SCRIPT_H

#include "runtime/redrabbit.h"

/* ---- CPython of this process ---- */

typedef struct rr_python_options {
    const char *executable;    /* -python_venv's or found python (spec: venv search is done by conf); NULL = the built-in */
    const char *venv;          /* folder, NULL = none */
    const char *package_path;  /* folder that holds redrabbit/, ffext.py … */
    size_t switch_interval_us; /* shared GIL; 0 = 500 */
} rr_python_options_t;

/* Starts CPython, once per process, on the main thread, before any script. The reason of a failure goes to why. SIGPIPE is
 * ignored from then on (unless it has a handler), as Python wants it; no other signal is touched.
 * RR_EINVAL (venv of another version, missing executable), RR_EIO. */
RR_MUST_CHECK int rr_python_start(const rr_python_options_t *options, char *why, size_t why_size);
/* Ends it, on the same thread, after every script was destroyed and all python workers left. False if threads of foreign
 * code were still alive: then the caller leaves by _exit. */
bool rr_python_stop(void);
const char *rr_python_version(void);  /* "3.13.0" of the embedded library */
bool rr_python_parallel(void);        /* own-GIL interpreters are possible */
const char *rr_python_home(void);     /* where the standard library is taken from */

/* Pool options to give the python workers: thread hooks, stack size, budget, spares (see executor.h). */
struct rr_pool_options;
void rr_python_pool_options(struct rr_pool_options *options, unsigned threads);

/* ---- Session ids ---- */

/* str of 1..255 bytes UTF-8, or a 64-bit int != 0; 5 and "5" differ. text == NULL means the int. */
typedef struct rr_sid {
    const char *text;
    uint32_t size;
    int64_t number;
} rr_sid_t;

/* ---- The host ---- */

typedef struct rr_script rr_script_t;

/* An answer to verify: code RR_OK accept (id set), RR_EREFUSED refuse (extra, if any, goes out first as cmd 0). */
typedef struct rr_verdict {
    int code;
    rr_sid_t id;
    const void *extra; /* NULL = none */
    size_t extra_size;
} rr_verdict_t;

/* Where a session goes when its scene hands over. Borrowed. */
typedef struct rr_hand_to {
    const char *scene; /* NULL = the hand-over's own, else drain_to; "" = nowhere: it stays, and ends with the scene */
    const void *state; /* the extra of its enter there */
    size_t size;
} rr_hand_to_t;

/* A message that was not delivered, or not handled. Borrowed. */
typedef struct rr_letter {
    const char *to, *from; /* names; "#NODE:SLOT" of what has none (any more); "" from = sent from outside any actor */
    const char *reason;    /* "NOROUTE" … (error.h) */
    const char *what;      /* for people and for comparing: "to clients", "from clients", "call" … */
    uint32_t size;         /* bytes */
    uint64_t lost;         /* that were not told before this one, because there were too many */
} rr_letter_t;

#define RR_SCRIPT_LISTS 16u

/* Every function gets the host pointer of rr_script_create. Bodies are borrowed during the call; `text` = known to be valid
 * UTF-8 (a str or JSON); false = bytes, which may be UTF-8 too and are not looked at here. */
typedef struct rr_script_host {
    /* RR_OK; RR_ENOENT = this scene does not hold the session (the script sees False; the host counts and warns). */
    int (*send)(void *host, const rr_sid_t *id, uint16_t cmd, const void *body, size_t size, bool text);
    /* The same for the host's own session of rr_script_session_new, without a look-up by id. RR_ENOENT is not counted and
     * no warning: send by id follows, which may find the id's next session. */
    int (*send_to)(void *host, void *session, uint16_t cmd, const void *body, size_t size, bool text);
    /* Returns how many of them this scene holds. list != 0: a number that this script gives to these very ids and to no others;
     * no more than RR_SCRIPT_LISTS of them are in use at a time, each with another rest modulo that. */
    size_t (*multi_send)(void *host, const rr_sid_t *ids, size_t count, uint64_t list, uint16_t cmd, const void *body,
                         size_t size, bool text);
    int (*broadcast)(void *host, uint16_t cmd, const void *body, size_t size, bool text);
    int (*broadcast_gate)(void *host, const char *gate, uint16_t cmd, const void *body, size_t size, bool text);
    int (*close)(void *host, const rr_sid_t *id);
    /* done: 0 = none, else rr_script_answer(token, error, …) follows when the move ended. */
    int (*change_scene)(void *host, const rr_sid_t *id, const char *scene, const void *extra, size_t size,
                        uint64_t token);
    /* Hands all sessions over to other scenes; rr_script_answer(token, …) follows with [moved, left]. to NULL = as the
     * scene's options say. RR_ESTATE: under way already. */
    int (*hand_over)(void *host, const char *to, unsigned timeout_ms, uint64_t token);
    /* The end of a pending rr_script_hand_over. status RR_OK: *to says where. */
    void (*hand_to)(void *host, uint64_t token, int status, const rr_hand_to_t *to);
    /* A late verdict (on_verify_auth_callback). RR_ENOENT: unknown or already answered cb_id. */
    int (*verdict)(void *host, uint64_t cb_id, const rr_verdict_t *verdict);
    /* One-shot or periodic; rr_script_timer(token) follows. */
    int (*timer_start)(void *host, uint64_t delay_ms, uint64_t repeat_ms, uint64_t token);
    bool (*timer_cancel)(void *host, uint64_t token);
    /* Calls a service by name; rr_script_answer(token, …) follows exactly once, never inside. group NULL = own group.
     * method: number as decimal text, or a name. */
    int (*call)(void *host, const char *group, const char *name, const char *method, const void *body, size_t size,
                unsigned timeout_ms, uint64_t token);
    /* Answers a service request (now or later). error NULL = success; body NULL = None. */
    int (*reply)(void *host, uint64_t request, const char *error, const void *body, size_t size);
    /* The script has an on_dead_letter now: rr_script_dead_letter follows for each, until it returns RR_ENOENT. RR_ELIMIT: too
     * many scenes of this process do so. */
    int (*watch_dead_letters)(void *host);
    bool (*exists)(void *host, const char *name);
    uint64_t (*alloc_id)(void *host);
    /* Value of a configuration option of this process ("-gate" style or plain), NULL if absent; valid during the call. */
    const char *(*config)(void *host, const char *option);
    const char *(*name)(void *host); /* "scene@0" */
    uint64_t (*epoch)(void *host);
    void (*log)(void *host, rr_level_t level, const char *module, const char *text, size_t size);
    /* print(): whole lines of standard output / error, to be shown with the scene's name whatever the log level. */
    void (*print)(void *host, bool error, const char *line, size_t size);
    /* An async handler ended: token as given to the script function that returned RR_SCRIPT_PENDING. */
    void (*done)(void *host, uint64_t token, int status);
    /* The scene has runnable coroutines or loop callbacks left: give it another turn soon (rr_script_run). */
    void (*wake)(void *host);
    /* Like wake, but from any thread (asyncio's call_soon_threadsafe, executor results). */
    void (*wake_threadsafe)(void *host);
    /* Online sessions of this scene: calls each(context, id) for all, during the call. */
    void (*sessions)(void *host, void (*each)(void *context, const rr_sid_t *id), void *context);
    int (*connect_outer)(void *host, const char *name, const char *address); /* 0 / negative */
    /* Opens a database by URL in this process, or finds the one that serves it: its name goes to `name` (128 bytes are
     * enough). pool 0 = the default. RR_OK, or a negative code with one line in why that names no password. */
    int (*database)(void *host, const char *url, unsigned pool, char *name, size_t name_size, char *why, size_t why_size);
    /* Asks the database of that name; request (runtime/query.h, its id = token) is taken over, also on failure. RR_OK:
     * rr_script_queried(token, …) follows exactly once, never inside. RR_NOROUTE: there is no actor of that name; RR_ENOMEM,
     * RR_ELIMIT. timeout_ms: the request's own, 0 = the database's. */
    int (*query)(void *host, const char *database, rr_buffer_t *request, unsigned timeout_ms, uint64_t token);
    /* Nobody waits for that query any more: its database may stop it. rr_script_queried follows all the same. */
    void (*query_cancel)(void *host, uint64_t token);
    /* As query, but waits: called without the GIL, and the only function here that blocks. *reply, with a reference, if RR_OK;
     * else as the call ended. patience_ms: how long the database may take to answer or to give up, 0 = as by default. */
    int (*query_wait)(void *host, const char *database, rr_buffer_t *request, unsigned patience_ms, rr_buffer_t **reply);
} rr_script_host_t;

/* ---- Scripts ---- */

typedef enum rr_interpreter { RR_INTERPRETER_DEFAULT = 0, RR_INTERPRETER_OWN, RR_INTERPRETER_SHARED, RR_INTERPRETER_MAIN } rr_interpreter_t;

typedef struct rr_script_options {
    const char *file;             /* path of the script; module name = its stem */
    const char *const *path;      /* more sys.path folders, NULL-terminated; may be NULL */
    rr_interpreter_t interpreter;
    unsigned watchdog_ms;         /* a handler longer than this gets the time-out exception; 0 = never. Loading may
                                     take ten times as long, and at least 5 s */
    size_t memory_limit;          /* bytes of Python memory; 0 = none */
    bool asyncio;                 /* a host-stepped event loop */
    const char *scene;            /* name, for messages; copied */
    bool session_id_int;          /* digit strings returned by verify become ints (spec 5.1) */
    bool reload_on_save;          /* for development: remembers what its modules were made of, for rr_script_look; warns of
                                     handlers that take longer than 100 ms */
} rr_script_options_t;

#define RR_SCRIPT_PENDING 1 /* an async handler runs on: host->done(token) follows */

/* Makes the interpreter (not yet the module). On a python worker, inside the scene's turn; leaves the script entered. why
 * gets one clear line on failure. RR_EINVAL, RR_ENOMEM, RR_EUNSUPPORTED. */
RR_MUST_CHECK int rr_script_create(rr_system_t *system, const rr_script_options_t *options,
                                   const rr_script_host_t *host, void *context, rr_script_t **out, char *why,
                                   size_t why_size);

/* Around a turn: takes / releases the interpreter for the calling worker thread. Between them: any of the below. */
void rr_script_enter(rr_script_t *script);
void rr_script_leave(rr_script_t *script);

/* Imports the module and runs init() if there is one (awaited if async). RR_OK, RR_SCRIPT_PENDING (token), or RR_EHANDLER
 * with `why` = the error and where. */
RR_MUST_CHECK int rr_script_load(rr_script_t *script, uint64_t token, char *why, size_t why_size);

/* Login. verdict is filled when RR_OK is returned (strings valid until the next script function). RR_SCRIPT_PENDING: the
 * host's verdict function gets it later with cb_id. An exception etc. is logged and comes back as a refusing verdict. */
RR_MUST_CHECK int rr_script_verify(rr_script_t *script, const void *key, size_t key_size, int64_t online_time,
                                   const char *ip, const char *gate, uint64_t cb_id, rr_verdict_t *verdict);

/* One session as the script sees it: keeps the id's Python object. host_session: what host->send_to gets; it lives until
 * rr_script_session_free. NULL when out of memory. */
typedef struct rr_script_session rr_script_session_t;
rr_script_session_t *rr_script_session_new(rr_script_t *script, const rr_sid_t *id, void *host_session);
void rr_script_session_free(rr_script_t *script, rr_script_session_t *session);

/* Handlers. RR_OK = finished; RR_SCRIPT_PENDING = async, host->done(token) follows; RR_EHANDLER = it raised (already
 * logged and counted); RR_ENOENT = no handler for the cmd; RR_EENCODING = the body is not what the handler declared. */
RR_MUST_CHECK int rr_script_enter_session(rr_script_t *script, rr_script_session_t *session, const char *from_scene,
                                          const void *extra, size_t size, uint64_t token);
RR_MUST_CHECK int rr_script_message(rr_script_t *script, rr_script_session_t *session, uint16_t cmd, const void *body,
                                    size_t size, rr_buffer_t *owner, uint64_t token);
RR_MUST_CHECK int rr_script_offline(rr_script_t *script, rr_script_session_t *session, int64_t online_time,
                                    const char *reason, uint64_t token);
RR_MUST_CHECK int rr_script_leave_session(rr_script_t *script, rr_script_session_t *session, const char *to_scene,
                                          uint64_t token);
/* Where to with this session, and with what, now that its scene hands over? RR_OK: *to (valid until the next script
 * function). RR_SCRIPT_PENDING: host->hand_to(token) follows. RR_ENOENT: no handler. RR_EHANDLER: it raised, or its answer
 * is none (logged). */
RR_MUST_CHECK int rr_script_hand_over(rr_script_t *script, rr_script_session_t *session, uint64_t token,
                                      rr_hand_to_t *to);
bool rr_script_concurrent(rr_script_t *script, uint16_t cmd); /* that cmd's handler opted out of one-at-a-time */

/* A service request from another actor: answered by host->reply(request) now or later, also for unknown methods. */
void rr_script_service(rr_script_t *script, uint64_t request, const char *from, const char *method, const void *body,
                       size_t size);
/* The end of a host call / change_scene made with token: error NULL = success; body NULL = None. */
void rr_script_answer(rr_script_t *script, uint64_t token, const char *error, const void *body, size_t size);
void rr_script_timer(rr_script_t *script, uint64_t token);
/* RR_OK, also if its handler runs on; RR_EHANDLER: it raised (logged); RR_ENOENT: there is none any more. */
RR_MUST_CHECK int rr_script_dead_letter(rr_script_t *script, const rr_letter_t *letter);
/* The end of a host query: status RR_OK with the database's answer (buffer: what data lies in), else as the call ended. */
void rr_script_queried(rr_script_t *script, uint64_t token, int status, const void *data, size_t size,
                       rr_buffer_t *buffer);
/* An event of a subscription that this script made (runtime/query.h). */
void rr_script_query_event(rr_script_t *script, const void *data, size_t size);
/* A database that this script asked is gone, and its subscriptions there. */
void rr_script_database_down(rr_script_t *script, const char *name);
/* Steps ready coroutines and asyncio callbacks; returns ms until it wants to run again by itself, -1 = not. */
int64_t rr_script_run(rr_script_t *script);
/* Cancels the pending handler of a token (CancelledError inside); done follows within later runs. */
void rr_script_cancel(rr_script_t *script, uint64_t token);

/* ffext.reload(name) from outside (console, editor); "" = the script itself. True = fine; else `why` has the traceback. */
bool rr_script_reload(rr_script_t *script, const char *module, char *why, size_t why_size);
/* Looks at the files of the script and of the modules that it imports from its own folders: those whose text has changed are
 * reloaded, and those that import them, all or none. True = fine, text = the files that were run ("" = nothing has changed); else
 * text has the traceback, and the old code goes on. Blocks for as long as reading the files takes. Without reload_on_save: nothing
 * has ever changed. */
bool rr_script_look(rr_script_t *script, char *text, size_t text_size);

/* cleanup() (awaited: may return RR_SCRIPT_PENDING). */
RR_MUST_CHECK int rr_script_cleanup(rr_script_t *script, uint64_t token);

/* Ends the interpreter (as design.md 4.5). Entered on a python worker; afterwards the script is gone and not entered.
 * False: abandoned because foreign threads live in it. */
bool rr_script_destroy(rr_script_t *script);

typedef struct rr_script_stats {
    uint64_t entries, handlers, exceptions, timeouts, memory_errors, reloads, pending, decode_errors, no_handler;
    size_t memory;        /* bytes now (if accounted) */
    unsigned version;     /* 1, +1 per successful reload */
    uint64_t source_hash; /* of the script's text */
} rr_script_stats_t;
void rr_script_stats(const rr_script_t *script, rr_script_stats_t *out); /* any thread, relaxed */

#endif
