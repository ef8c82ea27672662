/* postgres_impl.h: what the files of the PostgreSQL driver share. Private to postgres*.c. */
#ifndef RR_ACTORS_DATABASE_POSTGRES_IMPL_H
#define RR_ACTORS_DATABASE_POSTGRES_IMPL_H

#include <libpq-fe.h>

#include "actors/database/driver.h"
#include "actors/map.h"

/* ---- postgres_wire.c: one libpq connection on a loop ------------------------------------------------------------ */

typedef struct rr__pg_poll rr__pg_poll_t;

/* Zero it, set the callbacks and dial. All on the loop thread. */
typedef struct rr__pg_wire {
    PGconn *pq;
    rr__pg_poll_t *poll; /* of the descriptor that libpq has at the moment */
    rr__db_connection_t *connection;
    uv_getaddrinfo_t resolver;
    uv_idle_t turn; /* closed when nothing else is */
    unsigned handles; /* of libuv, and requests, that are not gone yet */
    int waits_for;    /* UV_READABLE, UV_WRITABLE */
    uv_prepare_t gatherer; /* has been initialised: gathers */
    bool resolving, up, closing, gathers, gathering;

    void (*on_up)(struct rr__pg_wire *wire, const rr__db_failure_t *failure); /* NULL: it is open */
    void (*on_events)(struct rr__pg_wire *wire); /* once open: the socket is ready, or broken */
    void (*on_gathered)(struct rr__pg_wire *wire); /* what was gathered is on its way */
    void (*on_gone)(struct rr__pg_wire *wire);   /* closed for good, never from inside rr__pg_close */
} rr__pg_wire_t;

/* Connects to where the connection's URL says, without ever blocking: names are looked up on libuv's threads. on_up follows,
 * perhaps from inside, unless it is closed before. */
void rr__pg_dial(rr__pg_wire_t *wire, rr__db_connection_t *connection);
/* Calls on_events when the socket is ready for events (UV_READABLE, UV_WRITABLE). RR_EIO, RR_ENOMEM. */
RR_MUST_CHECK int rr__pg_wait(rr__pg_wire_t *wire, int events);
/* What libpq sends from now on leaves as one (over TCP), before the loop waits next: on_gathered follows then, unless it is closed. */
void rr__pg_gather(rr__pg_wire_t *wire);
/* No more on_events until rr__pg_wait: also for a connection that broke. */
void rr__pg_rest(rr__pg_wire_t *wire);
/* on_gone follows, once. Only for one that was dialed. */
void rr__pg_close(rr__pg_wire_t *wire);

/* What libpq, or the server if there is a result, says. */
void rr__pg_failure(const PGconn *pq, const PGresult *result, rr__db_failure_t *out);
/* Options of a URL that libpq does not know: RR_EINVAL. */
RR_MUST_CHECK int rr__pg_check(const rr__db_url_t *url, char *why, size_t why_size);

/* ---- postgres_value.c: datums and libpq's values ---------------------------------------------------------------- */

/* The parameters of one execution as libpq takes them; kept and used again. */
typedef struct rr__pg_parameters {
    uint32_t count, capacity;
    rr_datum_t *datums;
    Oid *types; /* 0 = as the statement needs it */
    const char **values;
    int *sizes, *formats;
    char *texts; /* what values of text point into */
    size_t text_size, text_capacity;
} rr__pg_parameters_t;

/* From a job's values. RR_OK; else why is filled. values of BYTES point into the job. */
RR_MUST_CHECK int rr__pg_bind(rr__pg_parameters_t *parameters, const rr__db_job_t *job, rr_datum_reader_t values,
                              uint32_t count, rr__db_failure_t *why);
void rr__pg_parameters_free(rr__pg_parameters_t *parameters);
/* One value of a result in text form. */
void rr__pg_put(rr_datum_writer_t *out, Oid type, const char *text, size_t size);

/* ---- postgres_statement.c: prepared statements of one connection ------------------------------------------------ */

typedef struct rr__pg_statement {
    struct rr__pg_statement *newer, *older;
    uint64_t key;
    char name[16];
    bool prepared; /* the server has it, or will have it when it has read what we sent */
    bool outdated; /* what it selects from was altered: it must be prepared anew */
    uint32_t count;
    size_t size;
    char *text;
    Oid types[]; /* of its parameters */
} rr__pg_statement_t;

/* By text and types, latest used first. Zeroed = empty. */
typedef struct rr__pg_statements {
    rr_map_t map;
    rr__pg_statement_t *newest, *oldest;
    unsigned serial;
} rr__pg_statements_t;

/* The statement, which becomes the newest; *seen = it was there before. NULL: no memory, or two texts of one hash: then it
 * is run without. */
rr__pg_statement_t *rr__pg_statement_use(rr__pg_statements_t *statements, const rr__db_job_t *job,
                                         const rr__pg_parameters_t *parameters, bool *seen);
void rr__pg_statement_drop(rr__pg_statements_t *statements, rr__pg_statement_t *statement);
void rr__pg_statements_free(rr__pg_statements_t *statements);

#endif
