/* internal.h: one script from inside: what script.c, module.c, awaitable.c and their neighbours share.
 *
 * Everything in rr_script is touched only by the thread that has entered the script (its GIL is held), except what says
 * otherwise. */
#ifndef RR_PYTHON_INTERNAL_H
#define RR_PYTHON_INTERNAL_H

#include "python/compat.h"

#include <stdatomic.h>

#include "python/interpreter.h"
#include "python/lists.h"
#include "python/memory.h"
#include "python/script.h"
#include "python/tokens.h"

#define RR__MAX_TASKS 65536u       /* coroutines of one scene that are under way */
#define RR__MAX_FOREIGN_LINES 1000 /* lines printed by a script's own threads that wait for the scene's next turn */

/* ---- Handlers: what decorators register ---- */

typedef enum rr__kind {
    RR__MESSAGE = 0, /* key = cmd */
    RR__SERVICE,     /* key = method as text */
    RR__VERIFY,
    RR__ENTER,
    RR__OFFLINE,
    RR__LEAVE,
    RR__HAND_OVER, /* on_drain */
    RR__DEAD_LETTER,
    RR__KINDS,
    /* Not registered, only where a coroutine came from. */
    RR__LOAD = RR__KINDS,
    RR__INIT,
    RR__CLEANUP,
    RR__TIMER,
    RR__CALLBACK,
    RR__SPAWNED,
} rr__kind_t;

typedef enum rr__protocol {
    RR__JSON = 0,
    RR__RAW,
    RR__BUFFER,
    RR__TEXT,  /* str, strict UTF-8 */
    RR__TYPED, /* a thrift or protobuf class */
} rr__protocol_t;

typedef struct rr__handler {
    PyObject_HEAD
    PyObject *function;
    PyObject *key;     /* int, str or None */
    PyObject *module;  /* name of the module that registered it */
    PyObject *type;    /* class of RR__TYPED, else NULL */
    PyObject *convert; /* maps the session id first, or NULL */
    uint8_t kind, protocol;
    uint8_t arity;   /* positional arguments it takes, for the callbacks with optional ones */
    bool modern;     /* of the redrabbit package: gets Session objects; a service's str is a JSON string */
    bool concurrent; /* opted out of one handler per session at a time */
} rr__handler_t;

/* ---- Where a piece of Python came from: for logs, and for what follows when it ends ---- */

typedef struct rr__origin {
    rr__kind_t kind;
    bool modern;
    bool answered;       /* verify: on_verify_auth_callback was called */
    uint8_t arity;       /* verify */
    uint16_t cmd;        /* message */
    uint64_t token;      /* of the host: handler, verify's cb_id, service's request; timer: ours */
    PyObject *subject;   /* session id, method or NULL; owned by tasks, borrowed elsewhere */
} rr__origin_t;

/* ---- Futures and tasks ---- */

typedef enum rr__future_state { RR__PENDING = 0, RR__RESULT, RR__ERROR, RR__CANCELLED } rr__future_state_t;

typedef struct rr__future {
    PyObject_HEAD
    PyObject *value;  /* result or exception */
    PyObject *waiter; /* the first task or callable waiting */
    PyObject *more;   /* list of further ones */
    uint64_t token;   /* of the timer or call that will end it; 0 = none */
    uint8_t state;
    bool retrieved; /* somebody looked at its exception */
} rr__future_t;

typedef struct rr__task {
    rr__future_t future;
    PyObject *coroutine; /* NULL when over; in asyncio scenes an asyncio.Task */
    PyObject *context;
    rr__future_t *waiting; /* what it awaits */
    rr__origin_t origin;
    PyObject *thrown; /* to be thrown into it at the next step */
    uint64_t serial;  /* key in rr_script.tasks */
    bool queued;     /* in the ready ring */
    bool foreign;    /* driven by asyncio */
} rr__task_t;

typedef struct rr__ready {
    PyObject *what;     /* a task to step, or a callable */
    PyObject *argument; /* for callables */
} rr__ready_t;

/* What a token of ours will bring: rr_script_timer or rr_script_answer. */
typedef enum rr__wait_kind {
    RR__WAIT_FUTURE,
    RR__WAIT_TIMER,
    RR__WAIT_CALLBACK,
    RR__WAIT_MOVE,
    RR__WAIT_REPORT,
    RR__WAIT_QUERY, /* rr_script_queried; target NULL: nobody waits any more, but its end is still to be seen to */
} rr__wait_kind_t;
typedef struct rr__wait {
    rr__wait_kind_t kind;
    uint8_t op, shape; /* of a query: rr_db_op_t, rr__shape_t with its flags */
    bool timer;        /* host->timer_cancel is due when it is dropped */
    bool repeat;
    bool running;      /* an async periodic timer's last run is still under way */
    PyObject *target;  /* future or callable */
    PyObject *data;    /* argument tuple of a timer; reply type of a call; description of a move; name of a database */
} rr__wait_t;

/* ---- Types of values of databases (values.c): imported when first met; NULL = not yet ---- */

typedef struct rr__types {
    PyObject *decimal, *uuid, *date, *time, *datetime, *timedelta, *timezone, *utc;
    PyObject *zone; /* the last one made, for zone_offset */
    int32_t zone_offset;
} rr__types_t;

/* ---- Per interpreter: the module _redrabbit's state ---- */

typedef struct rr__state {
    rr_script_t *script; /* NULL when no scene runs here */
    PyTypeObject *future_type, *task_type, *session_type, *handler_type, *buffer_type, *result_type;
    PyObject *cancelled_error, *handler_timeout, *call_error;
    PyObject *json_scan, *json_encode; /* C accelerators with our settings, set by redrabbit._host */
    PyObject *thrift_encode, *typed_decode;
    /* Functions of redrabbit._database; NULL until it is imported. */
    PyObject *database_error, *database_event, *database_down;
    rr__types_t types;
    rr__id_lists_t lists;
    PyObject *empty_text;
    PyObject *name_thrift_spec, *name_serialize, *name_throw, *name_cancel, *name_set_result, *name_set_exception,
        *name_done, *name_create_future;
} rr__state_t;

/* ---- The watchdog's view ---- */

typedef struct rr__watch {
    unsigned limit_ms; /* 0 = not watched; constant */
    /* The limit for what runs now: loading may take longer. Written by the entered thread before it begins (ordered by
     * sequence), read by the watchdog. */
    _Atomic(unsigned) current_ms;
    /* Odd while Python runs. Written by the entered thread (release: thread_id is published with it), read by the
     * watchdog thread (acquire). Re-read under the GIL before it strikes, so no strike hits the next handler. */
    _Atomic(uint64_t) sequence;
    _Atomic(unsigned long) thread_id; /* of the entered thread; relaxed, ordered by sequence */
    unsigned depth;                   /* of rr__python_begin; the entered thread's */
    unsigned struck;                  /* strikes at the current handler; under the GIL */
    /* The watchdog's own, under its lock. */
    uint64_t seen, since_ms, next_ms;
    bool striking, reported;
    bool nudged, nudging; /* nudged: constant, see watchdog.h; nudging: a thread does */
    struct rr__watch *next;
    rr_script_t *script;
} rr__watch_t;

/* ---- The script ---- */

typedef struct rr__foreign_line {
    int kind; /* 0 output, 1 error, 2.. log level + 2 */
    PyObject *module, *text;
} rr__foreign_line_t;

struct rr_script {
    /* hot: every message */
    PyThreadState *tstate; /* of the turn in progress, NULL outside; changed under the GIL */
    rr_script_host_t host;
    void *context;
    rr__state_t *state;
    PyObject *base_context, *spare_context;
    PyObject *open_context; /* entered and untouched: for the turn's next handler; NULL while one runs */
    PyObject *spare_body;   /* the last raw body, of which no handler kept a reference; its memory is used again */
    bool base_empty; /* the base context has no variables */
    rr__origin_t *origin; /* what runs now */
    rr_script_session_t *current; /* whose message is being handled, until its handler returns */
    rr__watch_t watch;
    rr__handler_t **pages[256]; /* message handlers by cmd; borrowed from registry */
    rr__handler_t *single[RR__KINDS];
    rr__account_t account;

    rr__interp_t *interp;
    rr_interpreter_t kind;
    rr_system_t *system; /* for the watchdog's log; NULL in tests */
    char *file, *name, *scene;
    bool asyncio, session_id_int, reload_on_save, to_log;
    bool warned_no_verifier;
    uint64_t began_ms; /* what runs now; with reload_on_save */

    PyObject *module_c;    /* _redrabbit */
    PyObject *glue;        /* redrabbit._host */
    PyObject *module;      /* the script's own, NULL before load */
    PyObject *registry;    /* {(kind, key): handler} */
    PyObject *services;    /* {method: handler} */
    PyObject *sessions;    /* {id: Session} */
    PyObject *loop_step, *loop_pending, *loop_running; /* asyncio scenes: functions of redrabbit._host, else NULL */
    int loop_fd;           /* its epoll instance */
    uint64_t poll_id;      /* the poller's, under its lock; 0 = not watched */
    rr_script_t *poll_next;
    PyObject *verdict_id, *verdict_extra; /* keep the last verdict's bytes alive */
    PyObject *hand_scene, *hand_state;    /* and the last on_drain's */
    rr_verdict_t early;    /* on_verify_auth_callback from inside the verifier */
    PyObject *early_id, *early_extra;
    bool early_set;
    bool verifying;        /* rr_script_verify is on the stack, for verifying_id */
    uint64_t verifying_id;

    rr__tokens_t tasks;    /* serial -> rr__task_t, owned: all that are under way */
    rr__tokens_t handlers; /* the host's token -> rr__task_t, borrowed */
    rr__tokens_t waits; /* our token -> rr__wait_t, owned */
    uint64_t next_token;
    rr__ready_t *ready; /* ring */
    size_t ready_head, ready_count, ready_capacity;
    bool woken; /* host->wake was called for what is in the ring */

    /* From the script's own threads, which hold the GIL of this interpreter while they touch it. */
    rr__foreign_line_t *foreign_lines;
    size_t foreign_count, foreign_lost;
    PyObject *foreign_calls; /* list of (callable, args) */

    /* Statistics: written by the entered thread, read anywhere, relaxed. */
    struct {
        _Atomic(uint64_t) entries, handlers, exceptions, timeouts, memory_errors, reloads, pending, decode_errors,
            no_handler, source_hash;
        _Atomic(unsigned) version;
    } stats;
};

static inline void rr__bump(_Atomic(uint64_t) *counter) {
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + 1, memory_order_relaxed);
}

/* The script that the calling thread has entered; NULL with RuntimeError raised on any other thread. */
rr_script_t *rr__script_here(rr__state_t *state);

/* ---- Running Python as a handler (script.c) ---- */

/* Calls function. RR_OK: *result is its value (new reference). RR_SCRIPT_PENDING: a coroutine went on as a task, which
 * ends in rr__settle. RR_EHANDLER: it raised; logged. args[-1] must be writable (vectorcall offset). */
int rr__run(rr_script_t *script, rr__origin_t *origin, PyObject *function, PyObject *const *args, size_t count,
            PyObject **result);

/* The same, but RR_EHANDLER leaves the exception raised. */
int rr__run_raw(rr_script_t *script, rr__origin_t *origin, PyObject *function, PyObject *const *args, size_t count,
                PyObject **result);

/* Leaves the context that stays entered between the handlers of a turn. */
void rr__context_close(rr_script_t *script);

/* A task ended: result, or NULL with the exception raised. Tells the host what it waits for. */
void rr__settle(rr_script_t *script, rr__origin_t *origin, PyObject *result);

/* Around Python code: the watchdog counts, contexts are entered. */
void rr__python_begin(rr_script_t *script);
void rr__python_end(rr_script_t *script);

/* Logs the pending exception (rate-limited) and clears it. */
void rr__report(rr_script_t *script, const rr__origin_t *origin);

/* Logs one line, rate-limited, with the pending exception's text if there is one, which is cleared. */
void rr__note(rr_script_t *script, rr_level_t level, const rr__origin_t *origin, const char *what);

/* Answers a service request: result, or NULL with the exception raised. */
void rr__service_reply(rr_script_t *script, const rr__origin_t *origin, PyObject *result);

/* Of init()'s value: RR_OK, or RR_EHANDLER with what it "returned …". */
int rr__init_status(PyObject *result, char *what, size_t size);

/* How many positional arguments a callback takes; `usual` if that cannot be seen. handler may be NULL. */
unsigned rr__arity(const rr__handler_t *handler, PyObject *function, unsigned usual);

/* At the end of each script function: asks for another turn if something waits for one. */
void rr__turn_end(rr_script_t *script);

/* Interprets what a verifier returned (new verdict in *verdict, or RR_SCRIPT_PENDING = the answer follows). */
int rr__hand_to_from(rr_script_t *script, const rr__origin_t *origin, PyObject *answer, rr_hand_to_t *to);
/* What a handler gets for the session: the id, the mapped id, or the Session. New reference; NULL = an exception. */
PyObject *rr__subject(const rr__handler_t *handler, rr_script_session_t *session);

int rr__verdict_from(rr_script_t *script, const rr__origin_t *origin, PyObject *answer, rr_verdict_t *verdict);

/* Builds an accepting or refusing verdict from id and extra, keeping their bytes alive until the next one.
 * RR_OK, or RR_EHANDLER with an exception raised. */
int rr__verdict_build(rr_script_t *script, PyObject *id, PyObject *extra, rr_verdict_t *verdict);

/* A line for the log (kind = level + 2) or for output (0) and error (1). Entered. 0, or -1 with an exception (module.c). */
int rr__line_out(rr_script_t *script, int kind, PyObject *name, PyObject *text);

/* ---- Waits (waits.c) ---- */

/* New token for a wait; 0 with an exception raised when out of memory. Takes new references to target and data. */
uint64_t rr__wait_new(rr_script_t *script, rr__wait_kind_t kind, PyObject *target, PyObject *data, rr__wait_t **out);
/* Forgets it; a timer of the host is cancelled. False if unknown. */
bool rr__wait_drop(rr_script_t *script, uint64_t token);
void rr__wait_free(rr__wait_t *wait);

/* A future that the handlers of this scene can await (ours, or asyncio's), and its wait. New reference; NULL = an exception.
 * out may be NULL. */
PyObject *rr__wait_future(rr_script_t *script, rr__wait_kind_t kind, PyObject *data, uint64_t *token, rr__wait_t **out);
/* Ends such a future, which may be done already (cancelled). Steals value. */
void rr__wait_end(rr_script_t *script, PyObject *future, PyObject *value, bool is_error);

/* ---- Queries (database.c) ---- */

/* Nobody waits for the query of this token any more. */
void rr__query_abandon(rr_script_t *script, uint64_t token, rr__wait_t *wait);

#endif
