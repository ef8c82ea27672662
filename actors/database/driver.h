/* driver.h: what a kind of database must be able to do: one table a driver, each in a file of its own
 * (sqlite.c, mysql.c, postgres.c, redis.c), registered by one line in url.c.
 *
 * All functions are called on the database's loop thread, all must return at once, and all that they promise to call later
 * (rr__db_*) is called on that thread too, also from inside. A driver that needs a thread comes back by a uv_async_t of its own, not
 * by rr_loop_post: a loop that ends closes its connections first, and waits only for their handles. */
#ifndef RR_ACTORS_DATABASE_DRIVER_H
#define RR_ACTORS_DATABASE_DRIVER_H

#include "actors/database/database.h"

/* A URL in its parts; strings are NUL-terminated, decoded, never NULL ("" = not given). */
typedef struct rr__db_url {
    const struct rr__db_driver *driver;
    char *host, *user, *password, *database; /* database: file name for SQLite */
    unsigned port;                           /* 0 = the driver's usual one */
    char **option_names, **option_values;    /* ?charset=utf8mb4&tls=require */
    size_t option_count;
} rr__db_url_t;

typedef struct rr__db_connection rr__db_connection_t; /* the pool's side of one connection */
typedef struct rr__db_job rr__db_job_t;

/* What a query is to a driver. Lives from execute (or fetch) until rr__db_done. */
struct rr__db_job {
    rr_db_op_t op; /* QUERY, BATCH, STREAM, COMMANDS, SUBSCRIBE (again after a lost connection); BEGIN, COMMIT, ROLLBACK come as
                      QUERY with the driver's text and RR_QUERY_TEXTS, as nothing that needs to be prepared; CLOSE of a subscription */
    unsigned flags;
    const char *text; /* in the driver's own placeholder style (driver->style); NUL-terminated; UTF-8 */
    size_t text_size;
    uint64_t text_hash;             /* for the statement cache; texts may differ all the same: compare */
    const struct rr__sql *sql;      /* the translated statement (sql.h); for rr__db_arrange */
    uint32_t placeholders;          /* values to bind: the length of rr__db_arrange's out */
    uint32_t parameter_count;       /* datums of the list of one execution, names included */
    rr_datum_reader_t parameters;   /* behind the LIST's head: one execution's, for rr__db_arrange; BATCH, COMMANDS: LISTs */
    uint32_t list_count;            /* BATCH, COMMANDS, SUBSCRIBE: how many there are */
    rr_datum_writer_t out;          /* the answer, limit set; see rr__db_columns and rr__db_row */
    int64_t affected;               /* set by the driver; -1 at first */
    bool has_last_id;
    int64_t last_id;
    uint64_t stream;                /* SUBSCRIBE: the subscription's id, for rr__db_event */
    bool transaction;               /* within one: a driver that was given jobs ahead refuses it (STATE) if there is none any more */
    bool more;                      /* STREAM: set by the driver at the end of a part */
    bool gather;                    /* others may be sent right behind it in the same iteration of the loop: one message is enough */
    bool sent;                      /* set by the driver as soon as a byte of it may reach the server: from then on an error
                                       means "maybe executed", unless the server itself said that it failed */
    void *driver_data;              /* the driver's, during the job */
};

typedef enum rr__db_style { RR__DB_QUESTION, RR__DB_DOLLAR, RR__DB_NO_SQL } rr__db_style_t; /* ?, $1, none */

typedef struct rr__db_driver {
    const char *name;       /* "mysql": what DESCRIBE and metrics say */
    const char *schemes[4]; /* "mysql", "mariadb", NULL */
    rr__db_style_t style;
    bool backslashes;       /* '\'' is a quote within a string of its SQL */
    bool multiplexed;       /* one connection takes many jobs at once, in order (Redis, SQLite) */
    unsigned pool_max;      /* 0 = any; SQLite: 1 */
    size_t state_size;      /* bytes of zeroed state a connection */
    /* What is wrong with the URL, besides its syntax. RR_OK, RR_EINVAL with why. Any thread. */
    int (*check)(const rr__db_url_t *url, char *why, size_t why_size);
    /* Opens the connection: rr__db_opened follows, exactly once, unless the pool closes it before (it watches
     * connect_timeout_ms). rr__db_lost follows at most once after a good one. */
    void (*open)(rr__db_connection_t *connection);
    /* Runs a job: rr__db_done(job) follows, exactly once. Not multiplexed: one at a time (but for follow); an open stream
     * counts as one.
     * BATCH: all or none, by the driver itself when the connection is not in a transaction yet.
     * SUBSCRIBE: a connection that was given one carries subscriptions only from then on: SUBSCRIBE and CLOSE (job->stream
     * says which); the pool opens one beside its `pool` for that. When it is lost, the pool opens another and executes each
     * SUBSCRIBE anew there, and the next event of each says that some were lost. */
    void (*execute)(rr__db_connection_t *connection, rr__db_job_t *job);
    /* NULL: it cannot. Sends a short read (QUERY, outside of transactions) behind the short reads that the connection has under
     * way: true, and rr__db_done follows, in that order, never from inside. False: not now, nothing was done. One that turns
     * out to be stopped on the server by the cancelling of another ends with CONNECTION and job->sent false. */
    bool (*follow)(rr__db_connection_t *connection, rr__db_job_t *job);
    /* The next part of the stream that `job` (the same, out emptied) opened: rr__db_done follows. A stream whose last part or an
     * error was told is over: end_stream does not follow. */
    void (*fetch)(rr__db_connection_t *connection, rr__db_job_t *job);
    /* The rest of the stream is not wanted: rr__db_done follows. May cost the connection (rr__db_lost instead of waiting). */
    void (*end_stream)(rr__db_connection_t *connection, rr__db_job_t *job);
    /* The job's time is over, or nobody wants it; it is not behind another: stop it on the server (KILL QUERY, PQcancel, sqlite3_interrupt). Its
     * rr__db_done follows all the same, soon, with whatever came of it; the pool, which knows why, makes the server's "it was
     * cancelled" TIMEOUT or CANCELLED, and closes the connection when nothing comes within a second. */
    void (*cancel)(rr__db_connection_t *connection, rr__db_job_t *job);
    /* BEGIN in the driver's SQL, for flags of the request; static storage; NULL = not possible (why). */
    const char *(*begin)(unsigned flags, const char **why);
    /* Is the connection inside a transaction? After COMMIT/ROLLBACK or an error; what the pool does then: roll back or close. */
    bool (*in_transaction)(rr__db_connection_t *connection);
    /* Closes, whatever it is doing; every job on it ends by rr__db_done with CONNECTION first, from inside (one that a thread
     * works on: as soon as it can). rr__db_closed
     * follows, never from inside, once nothing of it is left (handles closed, threads gone): then the state is freed. */
    void (*close)(rr__db_connection_t *connection);
} rr__db_driver_t;

extern const rr__db_driver_t rr__db_sqlite, rr__db_mysql, rr__db_postgres, rr__db_redis;

/* ---- What a driver uses (pool.c) ---- */

void *rr__db_state(rr__db_connection_t *connection);
const rr__db_url_t *rr__db_url(rr__db_connection_t *connection);
const rr_database_options_t *rr__db_options(rr__db_connection_t *connection);
rr_loop_t *rr__db_loop(rr__db_connection_t *connection);
rr_system_t *rr__db_system(rr__db_connection_t *connection);

/* An error as the server or its library says it. Strings are copied. */
typedef struct rr__db_failure {
    rr_db_error_t error; /* RR_DB_OK = no failure */
    int64_t number;
    char state[16];
    char message[512];
    bool lasting; /* of opening: until somebody changes something; who waits learns it at once. AUTH always is */
} rr__db_failure_t;

/* version: the server's, copied; failure NULL or its error RR_DB_OK = open. */
void rr__db_opened(rr__db_connection_t *connection, const char *version, const rr__db_failure_t *failure);
/* The connection broke while idle (jobs on it were ended by the driver before). The pool calls close. */
void rr__db_lost(rr__db_connection_t *connection, const rr__db_failure_t *failure);
void rr__db_closed(rr__db_connection_t *connection);
/* failure as above. broken: the connection can take no more jobs; the pool calls close. */
void rr__db_done(rr__db_connection_t *connection, rr__db_job_t *job, const rr__db_failure_t *failure, bool broken);
/* A subscription's message: to its subscriber. */
void rr__db_event(rr__db_connection_t *connection, uint64_t subscription, const char *channel, size_t channel_size,
                  const char *pattern, size_t pattern_size, const void *payload, size_t size);

/* Writing the answer: once the columns (also for none; again for each part of a stream), then each row: rr__db_row and a put a
 * column. On the driver's thread if it has one: nobody else touches the job meanwhile. When job->out.status is not RR_OK the rest
 * is for nothing: stop reading it; the pool makes the error. BATCH and COMMANDS: see query.h. */
void rr__db_columns(rr__db_job_t *job, uint32_t count); /* then count × rr_datum_put_text(&job->out, RR_DATUM_TEXT, …) */
void rr__db_row(rr__db_job_t *job, uint32_t count);
/* The next parameter set of a BATCH or COMMANDS, its values behind it: their count, or a negative code. */
RR_MUST_CHECK int rr__db_next_list(rr__db_job_t *job, rr_datum_reader_t *values);
/* The parameters of one execution into `out` (job->placeholders of them, in their order; names are matched). RR_OK; RR_EINVAL: their
 * number or names differ, or one is a list (the pool has checked that before the job began). */
RR_MUST_CHECK int rr__db_arrange(const rr__db_job_t *job, rr_datum_reader_t values, uint32_t count, rr_datum_t *out);

#endif
