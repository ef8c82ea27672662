/* database_impl.h: the inside of a database actor, shared by the files of this folder. All on the database's loop thread.
 *
 *     call -> request -> waits (ready | behind its key | behind its transaction) -> runs on a connection -> ended -> reply
 *
 * What needs the actor (replies, monitors, events, its timer) is done in its turns; drivers come back between turns too, so what
 * they end is listed, and a turn is asked for: one for all that an iteration of the loop brought. */
#ifndef RR_ACTORS_DATABASE_DATABASE_IMPL_H
#define RR_ACTORS_DATABASE_DATABASE_IMPL_H

#include <stddef.h>
#include <sys/queue.h>

#include "actors/database/driver.h"
#include "actors/database/sql.h"
#include "actors/map.h"
#include "runtime/metrics.h"
#include "runtime/random.h"
#include "runtime/wheel.h"

#define RR__DB_WINDOW 256u  /* jobs given ahead to one multiplexed connection */
#define RR__DB_BUCKETS 18u  /* of latencies: 64 us, doubled each; the last one is for all above */
#define RR__DB_GRACE_MS 1000u /* what cancelling may take, then the connection is closed */
#define RR__DB_BRIEF_MS 5u    /* a read that takes no longer is short: others may be sent behind it */
#define RR__DB_BRIEF_RUNS 64u /* once it has been short so often in a row */

/* ---- Addresses (url.c) ---- */

/* Any thread. RR_OK; RR_EINVAL, RR_EUNSUPPORTED, RR_ENOMEM with why. */
RR_MUST_CHECK int rr__db_url_parse(const char *text, rr__db_url_t *out, char *why, size_t why_size);
void rr__db_url_free(rr__db_url_t *url); /* wipes the password */
/* The value of ?name=…, NULL if it is not given. */
const char *rr__db_url_option(const rr__db_url_t *url, const char *name);
/* For a driver's check: RR_OK, or RR_EINVAL with why if the URL has an option that is not in names (ended by NULL). */
RR_MUST_CHECK int rr__db_url_known(const rr__db_url_t *url, const char *const *names, char *why, size_t why_size);

/* ---- What a database is made from ---- */

struct rr_database_arg { /* shared by the specs made from it and by every actor; the last one frees it */
    _Atomic(uint32_t) references; /* any holder; acq_rel on dropping, so that who frees it has seen all others' reads */
    bool lent;                     /* somebody else than the actors holds a reference */
    rr_database_options_t options; /* its strings are copies; password is NULL: it is in parts */
    rr__db_url_t parts;
    char shown[512]; /* the URL without secrets */
    char name[128];  /* "" = anonymous */
};
void rr__db_arg_drop(rr_database_arg_t *arg);

/* ---- Requests ---- */

typedef struct rr__db_timer {
    rr_wheel_node_t node; /* first: the wheel hands it back */
    void (*fn)(struct rr__db_timer *timer);
} rr__db_timer_t;
#define RR__DB_OF_TIMER(timer, type, member) ((type *)((char *)(timer) - offsetof(type, member)))

typedef struct rr__db rr__db_t;
typedef struct rr__db_request rr__db_request_t;
typedef struct rr__db_transaction rr__db_transaction_t;
typedef struct rr__db_stream rr__db_stream_t;
typedef struct rr__db_subscription rr__db_subscription_t;
typedef TAILQ_HEAD(rr__db_requests, rr__db_request) rr__db_requests_t;

/* Who asks: monitored from the first request to its end. */
typedef struct rr__db_asker {
    rr_addr_t addr;
    uint64_t monitor;
    rr__db_requests_t requests;
    rr_map_t by_id; /* those that it may cancel; of two with one number the later */
    TAILQ_HEAD(, rr__db_transaction) transactions;
    TAILQ_HEAD(, rr__db_stream) streams;
    TAILQ_HEAD(, rr__db_subscription) subscriptions;
    bool gone;
} rr__db_asker_t;

/* The requests of one key: one is ready or runs, the others wait here. */
typedef struct rr__db_lane {
    uint64_t hash;
    size_t size;
    char *key;
    rr__db_requests_t behind;
} rr__db_lane_t;

typedef enum rr__db_place {
    RR__DB_NOWHERE = 0,
    RR__DB_READY,   /* in db->ready: starts on the next free connection */
    RR__DB_BEHIND,  /* behind its lane's or its transaction's */
    RR__DB_RUNNING, /* a driver has it */
    RR__DB_HELD,    /* a stream's between two parts, a subscription's; a CLOSE that waits for the driver */
    RR__DB_ENDED,   /* in db->ended: its answer waits for a turn */
} rr__db_place_t;

struct rr__db_request {
    rr__db_job_t job; /* first: drivers hand it back */
    rr__db_t *db;
    rr_db_op_t op;
    rr_message_t *msg;    /* the call, kept until its answer; NULL: nobody waits */
    rr_buffer_t *payload; /* the call's bytes, which the job points into: a driver's thread may outlive the call */
    uint64_t id;        /* the asker's number for it */
    unsigned timeout_ms;
    rr__db_request_t *face; /* who is answered for it: itself; a stream's: the STREAM or NEXT that waits; or NULL */
    rr__db_asker_t *asker;
    rr__sql_t *sql;     /* referenced */
    rr_datum_reader_t parameters; /* as they came, with list_count: a driver that never sent the job has used up the job's own */
    uint32_t list_count;
    rr__db_lane_t *lane;
    rr__db_transaction_t *transaction;
    uint64_t within; /* BEGIN: the transaction that stays open meanwhile; 0 = none */
    rr__db_stream_t *stream;             /* this is a stream's */
    rr__db_subscription_t *subscription; /* this is a subscription's, or closes one */
    rr__db_connection_t *connection;     /* while a driver has it */
    rr__db_place_t place;
    rr_db_error_t giving_up; /* TIMEOUT or CANCELLED: the driver was told to cancel it */
    bool queued;             /* counted in db->waiting */
    uint32_t heap_index;
    uint32_t cost;
    uint64_t sequence, arrived_ns, started_ns;
    uint64_t first_ns; /* since when none is before it on its connection */
    rr__db_timer_t timer;
    rr_buffer_t *answer; /* NULL: out of memory */
    TAILQ_ENTRY(rr__db_request) link;     /* lane, transaction, connection, ended, or free */
    TAILQ_ENTRY(rr__db_request) of_asker;
};

struct rr__db_transaction {
    uint64_t id;
    uint64_t within; /* the one that its asker held when it began; 0 = none */
    rr__db_t *db;
    rr__db_asker_t *asker;           /* NULL: abandoned */
    rr__db_connection_t *connection; /* NULL: it was lost */
    rr__db_requests_t behind;
    rr__db_stream_t *stream; /* the open one */
    bool opening;            /* a stream begins */
    bool ending;             /* COMMIT or ROLLBACK is on its way: nothing may follow */
    bool hollow;             /* the server ended it: only ROLLBACK is possible */
    bool carried_out;        /* by a statement of its own: DDL of MariaDB's commits what was before */
    bool marked;             /* a statement left the connection other than it was: nobody has it behind this one */
    rr__db_timer_t timer;
    TAILQ_ENTRY(rr__db_transaction) of_asker;
};

struct rr__db_stream {
    uint64_t id;
    rr__db_t *db;
    rr__db_asker_t *asker; /* NULL: abandoned */
    rr__db_request_t *request;
    rr__db_connection_t *connection; /* NULL: it was lost */
    rr__db_transaction_t *transaction;
    rr__db_request_t *closer; /* the CLOSE that waits */
    bool unwanted;            /* to be ended as soon as the driver is back */
    bool ending;              /* the driver was told so */
    rr__db_timer_t timer;
    TAILQ_ENTRY(rr__db_stream) of_asker;
};

struct rr__db_subscription {
    uint64_t id;
    rr__db_t *db;
    rr__db_asker_t *asker;
    rr__db_request_t *request; /* executed anew on every new connection */
    uint64_t lost;
    bool bound; /* the connection has it */
    TAILQ_ENTRY(rr__db_subscription) of_asker;
    TAILQ_ENTRY(rr__db_subscription) link;
};

typedef struct rr__db_event {
    struct rr__db_event *next;
    uint64_t subscription, lost;
    rr_buffer_t *buffer;
} rr__db_event_t;

/* ---- Connections (pool.c) ---- */

typedef enum rr__db_link { RR__DB_CLOSED = 0, RR__DB_OPENING, RR__DB_OPEN, RR__DB_CLOSING } rr__db_link_t;

struct rr__db_connection {
    rr__db_t *db;
    void *state; /* the driver's; NULL while closed */
    rr__db_link_t link;
    unsigned in_flight;
    bool proven;   /* it has carried out a job */
    bool reserved; /* for a transaction or stream, also one that only begins */
    bool brief;    /* all that it has under way are short reads */
    rr__db_transaction_t *transaction;
    rr__db_stream_t *stream;     /* outside of a transaction */
    rr__db_request_t *reserver; /* the BEGIN or STREAM that is under way on it */
    rr__db_requests_t running;
    uint64_t used_ns;
    rr__db_timer_t timer; /* of opening */
};

typedef struct rr__db_counters {
    rr_counter_t queries, pipelined, slow, reconnects, connect_failures, cancels, events, events_lost;
    rr_counter_t errors[RR_DB_SERVER + 1];
    rr_counter_t latency[RR__DB_BUCKETS], latency_sum_us;
    rr_counter_t open, in_use, waiting, waiting_bytes; /* gauges */
} rr__db_counters_t;

/* A database. Outlives its actor until its last connection is closed. */
struct rr__db {
    rr_database_arg_t *arg;
    const rr_database_options_t *options;
    const rr__db_driver_t *driver;
    rr_system_t *system;
    rr_actor_t *self; /* NULL once the actor has ended */
    rr_addr_t addr;
    rr_loop_end_t loop_end;
    bool in_turn, turn_asked, pumping, pump_again;
    bool draining; /* takes no new requests */
    bool closing;  /* opens nothing any more */
    char label[128]; /* its name, or the shown URL */

    rr_map_t askers, monitors, transactions, streams, subscriptions;
    rr_set_t lanes, statements;
    struct rr__sql_entry *oldest, *newest; /* statements by use */
    uint64_t next_id, next_sequence;
    rr__db_request_t **ready; /* a heap by sequence */
    uint32_t ready_count, ready_capacity;
    uint32_t waiting; /* requests that no driver has yet */
    size_t waiting_bytes;
    uint32_t active; /* requests that are not freed yet */
    rr__db_requests_t ended, spare;
    uint32_t spare_count;
    TAILQ_HEAD(, rr__db_subscription) listening;
    rr__db_event_t *event_first, **event_last;
    uint32_t event_count;

    rr__db_connection_t *connections; /* pool_size of them, and one for subscriptions */
    unsigned pool_size, opening, open, alive; /* alive: with a state, closing ones included */
    unsigned failures;                        /* connects that failed, or were for nothing, in a row */
    uint64_t retry_ns;                        /* none before */
    uint64_t said_ns;                         /* when the log was last told of a failure */
    bool said_away;                           /* and nothing better since */
    rr__db_failure_t last_failure;
    char version[64];

    rr_wheel_t wheel;
    rr__db_timer_t retry, sweep;
    uint64_t timer_due_ns, timer_id;
    rr_random_t random;
    rr__db_counters_t count;
};

static inline uint64_t rr__db_now(const rr__db_t *db) { return rr_loop_now_ns(db->options->loop); }
static inline uint64_t rr__db_after(const rr__db_t *db, unsigned ms) { return rr__db_now(db) + ms * 1000000ull; }

/* fn(timer) in ms, between or inside turns; replaces an earlier setting. */
void rr__db_timer_set(rr__db_t *db, rr__db_timer_t *timer, unsigned ms, void (*fn)(rr__db_timer_t *timer));
static inline void rr__db_timer_clear(rr__db_t *db, rr__db_timer_t *timer) { rr_wheel_remove(&db->wheel, &timer->node); }

/* ---- queue.c ---- */

rr__db_request_t *rr__db_request_new(rr__db_t *db, rr_db_op_t op); /* NULL when out of memory */
void rr__db_request_free(rr__db_request_t *request);
/* Translates and checks what the call asks for. False: it has ended. */
bool rr__db_prepare(rr__db_request_t *request, const rr_query_t *query);
/* Puts it where it waits: behind its key, or ready. */
void rr__db_enqueue(rr__db_request_t *request, const rr_query_t *query);
void rr__db_ready(rr__db_request_t *request); /* by age among the others */
rr__db_request_t *rr__db_ready_pop(rr__db_t *db);
/* Counts it in or out as waiting, with its time-out. */
void rr__db_wait(rr__db_request_t *request, unsigned ms);
void rr__db_wait_over(rr__db_request_t *request);
/* Takes one that waits out of where it waits. */
void rr__db_withdraw(rr__db_request_t *request);
/* It has ended, or another place has it: the next of its key may go. */
void rr__db_lane_leave(rr__db_request_t *request);
void rr__db_statements_free(rr__db_t *db);

/* ---- answer.c ---- */

/* The end of a request: the answer is made now, sent in the next turn, and the request freed. */
void rr__db_end_good(rr__db_request_t *request, uint64_t id); /* from what its job's writer holds */
/* face: answered with what request, a stream's, holds. */
void rr__db_end_part(rr__db_request_t *face, rr__db_request_t *request, uint64_t id, bool more);
/* Control characters become spaces. */
void rr__db_one_line(char *text);
void rr__db_end_failed(rr__db_request_t *request, const rr__db_failure_t *failure, rr_executed_t executed);
void rr__db_end_error(rr__db_request_t *request, rr_db_error_t error, rr_executed_t executed, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* In a turn: sends what has ended, and events. */
void rr__db_flush(rr__db_t *db);
/* One that a driver came back with: latency, the slow log, `executed`, and what became of its cancelling. */
void rr__db_measure(rr__db_request_t *request);
rr__db_failure_t rr__db_verdict(rr__db_request_t *request, const rr__db_failure_t *failure, rr_executed_t *executed);
void rr__db_collect(void *db, rr_metrics_writer_t *writer); /* a rr_metrics_collect_fn */

/* One that nobody is told of any more. */
void rr__db_end_silently(rr__db_request_t *request);
/* Who waits for one that a driver has is told now, and the request goes on for nobody. Without memory: told at its end. */
void rr__db_end_early(rr__db_request_t *request, rr_db_error_t error);

/* ---- session.c ---- */

/* Each of these has the call from now on. */
void rr__db_begin(rr__db_request_t *request, const rr_query_t *query);
void rr__db_in_transaction(rr__db_request_t *request, const rr_query_t *query); /* QUERY …, COMMIT, ROLLBACK that name one */
void rr__db_stream_open(rr__db_request_t *request, const rr_query_t *query);
void rr__db_stream_next(rr__db_request_t *request, const rr_query_t *query);
bool rr__db_stream_close(rr__db_request_t *request, const rr_query_t *query); /* false: no such stream */
/* A driver came back with a request of a transaction or stream: true if it was handled. */
bool rr__db_session_done(rr__db_request_t *request, rr__db_connection_t *connection, const rr__db_failure_t *failure);
/* What waits on a connection that is a transaction's. */
void rr__db_transaction_go(rr__db_connection_t *connection);
void rr__db_sessions_lost(rr__db_connection_t *connection); /* it closes */
void rr__db_sessions_abandon(rr__db_asker_t *asker);

/* ---- subscription.c ---- */

void rr__db_subscribe(rr__db_request_t *request, const rr_query_t *query);
bool rr__db_subscription_close(rr__db_request_t *request, const rr_query_t *query); /* false: no such subscription */
void rr__db_subscription_done(rr__db_request_t *request, const rr__db_failure_t *failure);
void rr__db_subscriptions_go(rr__db_connection_t *connection);   /* it is open */
void rr__db_subscriptions_lost(rr__db_connection_t *connection);
void rr__db_subscriptions_abandon(rr__db_asker_t *asker);
void rr__db_subscription_give_up(rr__db_request_t *request, rr_db_error_t error);
void rr__db_events_flush(rr__db_t *db);

/* ---- pool.c ---- */

RR_MUST_CHECK int rr__db_pool_init(rr__db_t *db);
/* Starts what can be started, opens what is missing. */
void rr__db_pump(rr__db_t *db);
void rr__db_start(rr__db_request_t *request, rr__db_connection_t *connection);
void rr__db_fetch(rr__db_request_t *request, rr__db_connection_t *connection);
void rr__db_end_stream(rr__db_request_t *request, rr__db_connection_t *connection);
void rr__db_cancel(rr__db_request_t *request, rr_db_error_t why); /* a running one */
void rr__db_connection_close(rr__db_connection_t *connection);
/* Free for others, if nothing reserves it. */
void rr__db_connection_free(rr__db_connection_t *connection);
rr__db_connection_t *rr__db_listener(rr__db_t *db); /* the connection for subscriptions; opens it */
/* It was lost, or refuses something: opens it, and subscribes there to what it does not have, in ms, or when the pause that a failed
 * connect has set is over. */
void rr__db_listen_again(rr__db_t *db, unsigned ms);
void rr__db_pool_close(rr__db_t *db);

/* ---- database.c ---- */

void rr__db_ask_turn(rr__db_t *db);
void rr__db_asker_drop(rr__db_asker_t *asker); /* frees it if it is gone and has nothing left here */
void rr__db_release(rr__db_t *db); /* frees it once the actor and all connections are gone */

#endif
