/* redrabbit.h: the one header for actors written in C.
 *
 * An actor is state plus a behavior. It lives on an executor (core workers unless told otherwise), handles one message
 * at a time, and talks to others by address only. Nothing here blocks. Functions that take `self` may be called only
 * inside that actor's own callbacks; functions that take a system may be called from any thread.
 *
 *     static void echo(rr_actor_t *self, void *state, rr_message_t *msg) {
 *         if (rr_message_kind(msg) == RR_CALL)
 *             rr_reply(self, msg, rr_message_data(msg), rr_message_size(msg));
 *     }
 *     static const rr_behavior_t echo_behavior = {.name = "echo", .receive = echo};
 *     ...
 *     rr_spawn_t spec = {.behavior = &echo_behavior, .name = "echo@0"};
 *     rr_addr_t addr;
 *     int rc = rr_system_spawn(system, &spec, &addr);
 */
#ifndef RR_RUNTIME_REDRABBIT_H
#define RR_RUNTIME_REDRABBIT_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/buffer.h"
#include "runtime/error.h"

typedef struct rr_system rr_system_t;
typedef struct rr_actor rr_actor_t;
typedef struct rr_message rr_message_t;
typedef struct rr_executor rr_executor_t;
struct rr_envelope; /* remote.h */
struct rr_run;
struct rr_sheet;

/* ---- Addresses -------------------------------------------------------------------------------------------------- */

/* node 16 | slot 24 | generation 24. 0 is nobody. An address is never reused while anyone may still hold it. */
typedef uint64_t rr_addr_t;
#define RR_NOBODY ((rr_addr_t)0)
static inline unsigned rr_addr_node(rr_addr_t a) { return (unsigned)(a >> 48); }
static inline unsigned rr_addr_slot(rr_addr_t a) { return (unsigned)(a >> 24) & 0xffffff; }
static inline unsigned rr_addr_generation(rr_addr_t a) { return (unsigned)a & 0xffffff; }

/* ---- Messages --------------------------------------------------------------------------------------------------- */

typedef enum rr_kind {
    RR_SEND = 0, /* one way */
    RR_CALL,     /* wants rr_reply or rr_reply_error; a handler that does neither (nor rr_message_take) answers EHANDLER */
    RR_REPLY,    /* never seen by receive(): goes to the reply function of rr_call */
    RR_TIMER,    /* rr_message_type = the tag of rr_timer_start, rr_message_request = its id */
    RR_DOWN,     /* a monitored actor ended: rr_message_from = who, rr_message_request = the monitor's id,
                    rr_message_type = reason as uint32 (cast back to int) */
    RR_EXIT,     /* a linked actor ended and this one traps exits; fields as RR_DOWN, no request */
} rr_kind_t;

rr_kind_t rr_message_kind(const rr_message_t *msg);
uint32_t rr_message_type(const rr_message_t *msg); /* the sender's number for what this is */
rr_addr_t rr_message_from(const rr_message_t *msg); /* RR_NOBODY when sent from outside any actor */
uint64_t rr_message_request(const rr_message_t *msg); /* call, timer or monitor id; 0 for RR_SEND */
const void *rr_message_data(const rr_message_t *msg); /* valid until the handler returns (or the message is released) */
size_t rr_message_size(const rr_message_t *msg);

/* The shared buffer behind the payload, NULL if it is inline. Borrowed: rr_buffer_ref to keep it. */
rr_buffer_t *rr_message_buffer(const rr_message_t *msg);

/* Keeps the message (and, for RR_CALL, the right to answer it) beyond the handler. Afterwards the actor owns it and ends
 * it by rr_reply*, or rr_message_release. Calls still kept when the actor dies are answered DIED (65,536 of them are
 * remembered; callers beyond those wait for their deadline). Handler only. */
void rr_message_take(rr_actor_t *self, rr_message_t *msg);

/* Frees a taken message; an unanswered call is answered CANCELLED. */
void rr_message_release(rr_actor_t *self, rr_message_t *msg);

/* ---- Behaviors and spawning ------------------------------------------------------------------------------------- */

/* Why an actor ended: RR_OK (rr_exit(self, RR_OK), normal), an error code of its own, or RR_CANCELLED (killed). */
typedef struct rr_behavior {
    const char *name;  /* for logs and metrics; static storage */
    size_t state_size; /* bytes of zeroed state given to every callback; 0 = state is NULL */
    /* First turn, on the actor's executor. Not RR_OK = the actor ends with that reason, finish is not called. Optional. */
    int (*start)(rr_actor_t *self, void *state, const void *arg);
    /* It was spawned, and ends before start() was called, which never follows: what arg refers to may be let go. Not for an
     * arg that was copied, nor when spawning it failed. On whichever thread ends it. Optional. */
    void (*unstarted)(const void *arg);
    /* Every message. The runtime frees msg afterwards, unless taken. Required. */
    void (*receive)(rr_actor_t *self, void *state, rr_message_t *msg);
    /* Around every turn (a batch of messages), the first (start) and the last (finish) included. turn_end runs before the
     * actor can move to another thread: flush here what the turn produced. Optional. */
    void (*turn_begin)(rr_actor_t *self, void *state);
    void (*turn_end)(rr_actor_t *self, void *state);
    /* Drain reached this actor (rr_system_drain): finish what you can, now or over later turns, then rr_exit. Optional;
     * NULL = ends when its mailbox is empty. Runs inside a turn. */
    void (*drain)(rr_actor_t *self, void *state);
    /* The end. self can still send, not receive. State is freed afterwards. Optional. */
    void (*finish)(rr_actor_t *self, void *state, int reason);
    /* Stands for the actors of another node (remote.h): receive() also gets, whatever their kind, messages to these. */
    bool proxy;
    /* Gets those instead of receive(), taken apart; valid during the call. Spares making messages of what was packed. Optional. */
    void (*forward)(rr_actor_t *self, void *state, const struct rr_envelope *env);
    /* Gets those that came in a row for one actor together (remote.h), beside forward(). Takes at least the first; the others that it
     * leaves come again, to either. Optional. */
    void (*forward_run)(rr_actor_t *self, void *state, struct rr_run *run);
    /* Gets a sheet of those (remote.h), beside forward(): true: it has taken all; false: none, and they come one by one. Optional. */
    bool (*forward_sheet)(rr_actor_t *self, void *state, const struct rr_sheet *sheet);
} rr_behavior_t;

typedef enum rr_policy { /* what happens when a mailbox is over its limit */
    RR_POLICY_FAIL = 0,     /* the send returns RR_EFULL, a call ends OVERLOAD */
    RR_POLICY_DROP_NEWEST,  /* dropped and counted; the send returns RR_OK; a call ends OVERLOAD */
    RR_POLICY_DROP_OLDEST,  /* the consumer sheds its oldest; producers are refused at twice the limit */
    RR_POLICY_PAUSE_SOURCE, /* a local core actor is muted when its turn ends, resumed at half (only its calls' deadlines reach it
                               meanwhile); others as FAIL at 2x (a proxy: 8x its messages) */
} rr_policy_t;

#define RR_MAILBOX_MESSAGES 65536u
#define RR_MAILBOX_BYTES (64u << 20)
#define RR_MAILBOX_UNIT 64u

typedef struct rr_spawn {
    const rr_behavior_t *behavior; /* required; must outlive the actor */
    const void *arg;               /* given to start(). Borrowed and must outlive start() unless arg_size > 0: then copied */
    size_t arg_size;
    const char *name;        /* registered before start() runs; copied; NULL = anonymous */
    rr_executor_t *executor; /* NULL = the parent's, or the core workers */
    uint32_t mailbox_messages; /* limits; 0 = RR_MAILBOX_MESSAGES / RR_MAILBOX_BYTES */
    uint32_t mailbox_bytes; /* a message counts at least RR_MAILBOX_UNIT; so less than mailbox_messages of them counts as that */
    rr_policy_t policy;
    bool link;       /* rr_spawn only: linked to its parent from the start */
    bool trap_exits; /* linked actors' ends arrive as RR_EXIT instead of ending this one */
    bool guest;      /* its turns are short as a rule, as those of the core workers' actors: on a single CPU a loop that wakes it may run it itself (executor.h) */
    bool leased;     /* its names are the group's: no turn starts, not even the first, without a lease (remote.h) */
} rr_spawn_t;

/* Spawns a child. *out (may be NULL) gets its address at once; messages sent to it from now on arrive after start().
 * RR_ENOMEM, RR_EEXIST (name in use), RR_ELIMIT (max_actors), RR_ESTOPPING, RR_EINVAL. */
RR_MUST_CHECK int rr_spawn(rr_actor_t *self, const rr_spawn_t *spec, rr_addr_t *out);

/* The same from any thread, without a parent. */
RR_MUST_CHECK int rr_system_spawn(rr_system_t *system, const rr_spawn_t *spec, rr_addr_t *out);

/* Ends the calling actor when the handler returns; what is left in its mailbox goes to dead letters (calls: DIED). */
void rr_exit(rr_actor_t *self, int reason);

/* Asks another actor to end before its next message, through the control lane (ahead of its mailbox). Never fails: an
 * actor that is gone already is what was asked for. Any thread. */
void rr_kill(rr_system_t *system, rr_addr_t target, int reason);

rr_addr_t rr_self(const rr_actor_t *self);
void *rr_state(rr_actor_t *self); /* the actor's state, as given to its callbacks */
const char *rr_name(rr_actor_t *self); /* "" when anonymous; valid while the actor lives */
rr_system_t *rr_system_of(rr_actor_t *self);
rr_executor_t *rr_executor_of(rr_actor_t *self);

/* ---- Sending and calling ---------------------------------------------------------------------------------------- */

/* Sends a copy of data. Order between two actors is kept. RR_EFULL / RR_NOROUTE / RR_ENOMEM / RR_ETOOBIG (> 1 GiB). */
RR_MUST_CHECK int rr_send(rr_actor_t *self, rr_addr_t to, uint32_t type, const void *data, size_t size);

/* Sends a shared buffer without a copy. Takes over the caller's reference, also on failure. */
RR_MUST_CHECK int rr_send_buffer(rr_actor_t *self, rr_addr_t to, uint32_t type, rr_buffer_t *buffer);

/* As rr_send_buffer, counted as `weight` messages (1..65535) against the receiver's limit: for batches. */
RR_MUST_CHECK int rr_send_batch(rr_actor_t *self, rr_addr_t to, uint32_t type, rr_buffer_t *buffer, unsigned weight);

/* As rr_send_batch but never refused for fullness: only for what is bounded by its own source (sessions, timers). */
RR_MUST_CHECK int rr_send_unsheddable(rr_actor_t *self, rr_addr_t to, uint32_t type, rr_buffer_t *buffer, unsigned weight);

/* From any thread outside an actor. */
RR_MUST_CHECK int rr_system_send(rr_system_t *system, rr_addr_t to, uint32_t type, const void *data, size_t size);
RR_MUST_CHECK int rr_system_send_buffer(rr_system_t *system, rr_addr_t to, uint32_t type, rr_buffer_t *buffer);

/* How a call ended: status RR_OK with the reply in msg (valid during the function; rr_message_take keeps it), else an
 * error; msg then carries the handler's error text as payload for RR_EHANDLER and is NULL for all others. Runs in a turn
 * of the caller, in mailbox order. */
typedef void (*rr_reply_fn)(rr_actor_t *self, void *state, int status, rr_message_t *msg, void *context);

#define RR_CALL_TIMEOUT_MS 5000

/* Sends a request and always ends in exactly one fn(…). timeout_ms 0 = RR_CALL_TIMEOUT_MS; there is no call without a
 * deadline (one of a second or more may pass up to 20 ms late). Errors that are known at once (NOROUTE, OVERLOAD …) also
 * come through fn, in a later message, never from inside rr_call. Returns RR_OK, or RR_ENOMEM / RR_EINVAL / RR_ELIMIT (65,536 outstanding), when fn will not run.
 * *id (may be NULL) is for rr_call_cancel. If the caller dies first, fn does not run: context must be owned by its state. */
RR_MUST_CHECK int rr_call(rr_actor_t *self, rr_addr_t to, uint32_t type, const void *data, size_t size,
                          unsigned timeout_ms, rr_reply_fn fn, void *context, uint64_t *id);
RR_MUST_CHECK int rr_call_buffer(rr_actor_t *self, rr_addr_t to, uint32_t type, rr_buffer_t *buffer,
                                 unsigned timeout_ms, rr_reply_fn fn, void *context, uint64_t *id);

/* Ends an outstanding call now, with fn(RR_CANCELLED) from inside this function; false if it ended already. */
bool rr_call_cancel(rr_actor_t *self, uint64_t id);

/* Answers a RR_CALL once; later answers are ignored. A taken message is released by it. A late reply (caller's deadline
 * over, caller dead) is dropped and counted. */
void rr_reply(rr_actor_t *self, rr_message_t *msg, const void *data, size_t size);
void rr_reply_buffer(rr_actor_t *self, rr_message_t *msg, rr_buffer_t *buffer); /* takes over the reference */
void rr_reply_error(rr_actor_t *self, rr_message_t *msg, int code, const char *text); /* text may be NULL; else code = EHANDLER */

/* ---- Names ------------------------------------------------------------------------------------------------------ */

/* A legal name: 1-127 bytes of A-Z a-z 0-9 and _ - . @ : / # */
bool rr_name_legal(const char *name);

/* The owner of a name, here or on a node that this one knows of, or RR_NOBODY. Any thread; takes a short lock: look up once,
 * keep the address, monitor it. */
rr_addr_t rr_lookup(rr_system_t *system, const char *name);

/* The other way round, for reports: some name of that actor, while it has one. Looks through all of them. False: none. Any
 * thread. */
bool rr_name_of(rr_system_t *system, rr_addr_t addr, char *out, size_t size);

/* The epoch under which a leased actor holds its name: greater than that of every owner before it, so a fencing token for
 * databases. 0 = not leased. */
uint64_t rr_epoch(const rr_actor_t *self);

/* Registers an additional name for self / drops it. RR_EEXIST, RR_EINVAL, RR_ENOENT. */
RR_MUST_CHECK int rr_register(rr_actor_t *self, const char *name);
RR_MUST_CHECK int rr_unregister(rr_actor_t *self, const char *name);

/* ---- Timers ----------------------------------------------------------------------------------------------------- */

/* RR_TIMER with `tag` arrives after delay_ms (rounded up to the wheel's 1 ms), then every repeat_ms if that is not 0
 * (a period that is missed is not made up for). *id (may be NULL) is for rr_timer_cancel. RR_ENOMEM, RR_ELIMIT. */
RR_MUST_CHECK int rr_timer_start(rr_actor_t *self, uint64_t delay_ms, uint64_t repeat_ms, uint32_t tag, uint64_t *id);

/* After it returns no RR_TIMER of that id arrives, even one already in the mailbox. False if it is over already. */
bool rr_timer_cancel(rr_actor_t *self, uint64_t id);

/* Nanoseconds of the system's monotonic clock (virtual in replay). _coarse is the worker's last clock reading: free, a
 * few turns old at most. */
uint64_t rr_now_ns(rr_actor_t *self);
uint64_t rr_now_coarse_ns(rr_actor_t *self);

/* ---- Links and monitors (as in OTP) ------------------------------------------------------------------------------ */

/* RR_DOWN arrives once when target ends (at once, reason RR_NOROUTE, if it is gone). *id for rr_demonitor. RR_ENOMEM. */
RR_MUST_CHECK int rr_monitor(rr_actor_t *self, rr_addr_t target, uint64_t *id);
bool rr_demonitor(rr_actor_t *self, uint64_t id); /* afterwards no RR_DOWN of that id is delivered */

/* Both end when one ends with a reason other than RR_OK, unless the other traps exits. Ends with a missing target as if
 * it had died. RR_ENOMEM. */
RR_MUST_CHECK int rr_link(rr_actor_t *self, rr_addr_t target);
void rr_unlink(rr_actor_t *self, rr_addr_t target);
void rr_trap_exits(rr_actor_t *self, bool on);

/* ---- Supervisors -------------------------------------------------------------------------------------------------- */

typedef enum rr_strategy { RR_ONE_FOR_ONE = 0, RR_REST_FOR_ONE, RR_ONE_FOR_ALL } rr_strategy_t;
typedef enum rr_restart { RR_RESTART_PERMANENT = 0, RR_RESTART_TRANSIENT /* on errors only */, RR_RESTART_TEMPORARY } rr_restart_t;

typedef struct rr_child {
    rr_spawn_t spawn; /* arg with arg_size 0 must outlive the supervisor */
    rr_restart_t restart;
} rr_child_t;

typedef struct rr_supervisor {
    const char *name; /* may be NULL */
    rr_strategy_t strategy;
    unsigned max_restarts; /* more than this many within_ms: children and supervisor end with RR_ELIMIT; 0 = 5 */
    unsigned within_ms;    /* 0 = 60,000 */
    const rr_child_t *children; /* copied */
    size_t child_count;
    /* Told of every start, end and giving up (addr RR_NOBODY), on the supervisor's turn; may be NULL. */
    void (*event)(void *context, size_t child, rr_addr_t addr, int reason);
    void *context;
} rr_supervisor_t;

/* Spawns a supervisor, which spawns its children in order. Any thread. Errors as rr_system_spawn. */
RR_MUST_CHECK int rr_supervisor_spawn(rr_system_t *system, const rr_supervisor_t *spec, rr_addr_t *out);

/* ---- Log -------------------------------------------------------------------------------------------------------- */

typedef enum rr_level { RR_FATAL = 1, RR_ERROR, RR_WARN, RR_INFO, RR_DEBUG, RR_TRACE } rr_level_t;

/* One line; never blocks (bounded queue to a log thread; what does not fit is counted). `class` is a short upper-case
 * module name. Any thread. */
void rr_log(rr_system_t *system, rr_level_t level, const char *class, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Bytes as they are (whole lines, with their ends), whatever the level: what scripts print. Bounded and counted like
 * rr_log, never blocks. Any thread. */
void rr_print(rr_system_t *system, const void *bytes, size_t size);

/* Opens the log file anew (it was moved away). Any thread. */
void rr_log_reopen(rr_system_t *system);

/* ---- The system ------------------------------------------------------------------------------------------------- */

typedef struct rr_options {
    unsigned node;         /* 1..65535; default 1 */
    unsigned core_threads; /* 0 = CPUs; more run only in place of such as sit in one turn for more than 10 ms */
    unsigned max_actors;   /* default 4,194,304; at most 16,777,215 */
    uint64_t seed;         /* randomness, and the schedule in replay builds; 0 = from the OS */
    rr_level_t log_level;  /* default RR_INFO */
    const char *log_classes; /* "A,B": only these; NULL or "" = all */
    bool log_screen;       /* default true */
    const char *log_path;  /* a folder; NULL = no file */
    const char *log_file;  /* stem; default "redrabbit" */
    bool replay; /* no threads: all pools run on the thread that calls rr_replay_run (replay.h), in an order drawn from
                    the seed, under virtual time. Default false; true in builds with RR_REPLAY */
} rr_options_t;

void rr_options_init(rr_options_t *options);

/* Builds an instance; nothing runs before rr_system_start. RR_ENOMEM, RR_EINVAL, RR_EIO (log file). Any thread. */
RR_MUST_CHECK int rr_system_create(rr_system_t **out, const rr_options_t *options);
RR_MUST_CHECK int rr_system_start(rr_system_t *system);

/* The orderly end, from a thread that is no worker: every actor's drain(), mailboxes emptied, actors ended in reverse
 * order of spawning. RR_OK, or RR_TIMEOUT when the deadline came first (what is left is killed). */
RR_MUST_CHECK int rr_system_drain(rr_system_t *system, unsigned deadline_ms);

/* Stops and joins all threads; actors still alive are then finished on the calling thread (finish and turn_end run, with
 * RR_CANCELLED). False: a thread that did not come back (stuck in foreign code) was left behind, also when asked again later;
 * then nothing is finished or freed, rr_system_destroy included: leave by _exit. */
bool rr_system_stop(rr_system_t *system);
/* Waits until all lines that the calling thread has logged are written. For a main that leaves by _exit. Not on a worker. */
void rr_system_flush_log(rr_system_t *system);
/* Frees everything; stops first if need be. NULL is allowed. */
void rr_system_destroy(rr_system_t *system);

/* Blocks the calling (non-worker) thread until no actor is left or timeout_ms passed (0 = for ever): true if none. For
 * tests and tools. */
bool rr_system_wait_idle(rr_system_t *system, unsigned timeout_ms);

unsigned rr_system_node(const rr_system_t *system);
size_t rr_system_actor_count(rr_system_t *system);
uint64_t rr_system_now_ns(rr_system_t *system);
uint64_t rr_system_random(rr_system_t *system);

/* Dead letters, since start: messages that were not delivered, or not handled, and whose sender has no call that ends with an
 * error. Of this node: sent by its actors (also to other nodes), or left in a mailbox here. */
uint64_t rr_system_dead_letters(rr_system_t *system);

/* Each of them arrives at `to`, an actor of this node, as RR_SEND of RR_TYPE_DEAD_LETTER with an rr_dead_letter_t, from nobody,
 * until it ends or does not want to watch any more. room: how many may be under way to it before it has said
 * rr_dead_letter_taken; beyond those it is not told, which is counted. 0 = as many as its mailbox takes. Again: another room.
 * RR_ELIMIT: RR_DEAD_LETTER_WATCHERS do so already; RR_EINVAL: not of this node. Any thread. */
#define RR_TYPE_DEAD_LETTER 0xffff0001u
#define RR_DEAD_LETTER_WATCHERS 16
RR_MUST_CHECK int rr_system_watch_dead_letters(rr_system_t *system, rr_addr_t to, unsigned room);
void rr_system_unwatch_dead_letters(rr_system_t *system, rr_addr_t to);
/* One was looked at: there is room for another. How many it was not told of since it said so last. */
uint64_t rr_dead_letter_taken(rr_actor_t *self);
typedef struct rr_dead_letter {
    rr_addr_t from, to;
    uint32_t type;
    uint32_t size;
    int32_t reason;
    int32_t kind;
} rr_dead_letter_t;

#endif
