/* database.h: the actor through which everybody reaches a database: a pool of connections behind one name. Scripts use it
 * through `redrabbit.database`, actors in C by messages (runtime/query.h), from any node.
 *
 *     static void on_rows(rr_actor_t *self, void *state, int status, rr_message_t *msg, void *context) {
 *         rr_db_answer_t answer;
 *         if (status == RR_OK && rr_db_answer_decode(rr_message_data(msg), rr_message_size(msg), &answer) == RR_OK && …
 *     }
 *     rr_query_t query = {.op = RR_DB_QUERY, .text = sql, .text_size = strlen(sql)};
 *     rr_buffer_t *request = rr_query_encode(&query);
 *     rc = rr_call_buffer(self, rr_lookup(system, "db@main"), RR_TYPE_QUERY, request, RR_DATABASE_CALL_MS, on_rows, NULL, NULL);
 *
 * The actor is pinned to a loop that no gate uses. It owns the queue, the connections' states, transactions and streams; a
 * driver (driver.h) does the talking: on the loop without ever blocking it, or on threads of its own.
 *
 * Order: two queries that one actor sends on one transaction, or with one key, run in that order. Others run on whatever
 * connection is free; with `pool` 1 everything runs in order of arrival.
 * An asker's end rolls its transactions back and ends its streams and subscriptions; other queries that it has sent are carried out
 * (what an `offline` handler wrote last is written), their answers dropped. RR_TYPE_QUERY_CANCEL takes one back.
 * Promise: no query is ever sent to the server a second time by us, but for a read of which the server said that it did not carry
 * it out (postgres.c: stopped in the place of another). An error says whether it may have been executed. */
#ifndef RR_ACTORS_DATABASE_DATABASE_H
#define RR_ACTORS_DATABASE_DATABASE_H

#include "net/loop.h"
#include "runtime/query.h"
#include "runtime/redrabbit.h"

/* The deadline to give rr_call: the database ends every query itself (acquire + query time-out); this only catches its node's end. */
#define RR_DATABASE_CALL_MS 600000u
/* So a database's own time-outs are at most these. A query may have a longer one: its call takes as much longer than
 * RR_DATABASE_CALL_MS as its time-out is longer than RR_DATABASE_QUERY_MS_MAX. */
#define RR_DATABASE_QUERY_MS_MAX 480000u
#define RR_DATABASE_ACQUIRE_MS_MAX 60000u

typedef struct rr_database_options {
    const char *name; /* "db@main"; NULL = anonymous */
    const char *url;  /* sqlite:///abs/file, sqlite://./file, mysql://user:password@host:3306/db?charset=…, mariadb://,
                         postgresql://, redis://:password@host:6379/0, and the seed's mysql://host:port/user/password/db */
    const char *folder;        /* that relative sqlite files are relative to; NULL = the working folder */
    const char *password;      /* instead of the URL's; NULL = that one. Copied, wiped at the end, never logged */
    rr_loop_t *loop;           /* required; not a gate's */
    bool leased;               /* its name is the group's */
    unsigned pool;             /* connections; 8. SQLite has one thread whatever this says. Opened when needed, the first at once */
    unsigned queue_messages;   /* queries waiting for a connection; 16,384. Over it: BUSY */
    size_t queue_bytes;        /* the same in bytes; 64 MiB */
    unsigned query_timeout_ms; /* from its start; 10,000, at most RR_DATABASE_QUERY_MS_MAX. Then it is cancelled on the server */
    unsigned acquire_timeout_ms;     /* from its arrival to its start; 5,000, at most RR_DATABASE_ACQUIRE_MS_MAX. Then BUSY (or CONNECTION, if the server is away) */
    unsigned connect_timeout_ms;     /* 5,000 */
    unsigned retry_min_ms, retry_max_ms; /* pause after a failed connect, doubled each time, with jitter; 100, 5,000 */
    unsigned transaction_timeout_ms; /* a transaction or stream without a query for so long is rolled back; 60,000 */
    unsigned idle_ms;          /* a connection unused for so long is closed, the last one stays; 300,000; 0 = never */
    unsigned slow_ms;          /* a query longer than this is logged, without its parameters; 1,000; 0 = never */
    size_t result_bytes;       /* of one answer; 64 MiB. Over it: TOO_BIG */
    size_t stream_bytes;       /* of one part of a stream; 256 KiB */
    unsigned statements;       /* prepared ones kept per connection; 256 */
    unsigned pipeline;         /* PostgreSQL, MariaDB: short reads under way on one connection when none is idle; 4; 1 = one by one */
} rr_database_options_t;

/* Defaults as above, all else zero. */
void rr_database_options_init(rr_database_options_t *options);

/* Looks at a URL without connecting: RR_OK with the driver's name (static) in *driver, or RR_EINVAL / RR_EUNSUPPORTED with one
 * line in why that never contains the password. Any thread. */
RR_MUST_CHECK int rr_database_check_url(const char *url, const char **driver, char *why, size_t why_size);

/* True if the URL names a password. False also if it is wrong. Any thread. */
bool rr_database_has_password(const char *url);

/* A URL fit for logs, metrics and drawings: its password and user's secrets are "***". Returns out. Any thread. */
char *rr_database_redact(const char *url, char *out, size_t size);

/* Spawns one. Everything in options is copied. It lives on when its server is away: queries fail clearly, connecting goes on
 * with pauses. RR_EINVAL, RR_EUNSUPPORTED (why has one line), else as rr_system_spawn. Any thread. */
RR_MUST_CHECK int rr_database_spawn(rr_system_t *system, const rr_database_options_t *options, rr_addr_t *out, char *why,
                                    size_t why_size);

/* The spec alone, for a supervisor's child; *arg (the checked copy of options) is freed by rr_database_arg_free when no actor
 * made from it lives any more. Errors as above. */
typedef struct rr_database_arg rr_database_arg_t;
RR_MUST_CHECK int rr_database_spec(const rr_database_options_t *options, rr_spawn_t *out, rr_database_arg_t **arg, char *why,
                                   size_t why_size);
void rr_database_arg_free(rr_database_arg_t *arg);

/* Asks and waits: for python workers, which may block (ffext's sync_query), tests and tools; never on a core worker or a loop.
 * request's reference is taken over. *reply (the caller unrefs) when RR_OK; else as a call ends: RR_NOROUTE, RR_TIMEOUT … */
RR_MUST_CHECK int rr_database_ask(rr_system_t *system, rr_addr_t database, rr_buffer_t *request, unsigned timeout_ms,
                                  rr_buffer_t **reply);

#endif
