/* mysql_impl.h: shared by the files of the MariaDB and MySQL driver. All on the database's loop thread.
 *
 * libmariadb's calls come in pairs: X_start begins, and says what it waits for; X_cont goes on when that came. A link is a MYSQL
 * with the socket's poll; what it does is a chain of steps, each of which begins one call and names the next step. */
#ifndef RR_ACTORS_DATABASE_MYSQL_IMPL_H
#define RR_ACTORS_DATABASE_MYSQL_IMPL_H

#include <mysql.h>
#include <stdatomic.h>

#include "actors/database/database_impl.h"

typedef struct my_link my_link_t;
typedef void (*my_step_fn)(my_link_t *link);
typedef int (*my_cont_fn)(my_link_t *link, int ready);

struct my_link {
    MYSQL *mysql; /* NULL: closed */
    void *owner;
    rr_loop_t *loop;
    uv_poll_t poll;
    uv_timer_t timer;
    unsigned handles;  /* that are not closed yet */
    bool polls;        /* poll is a handle */
    int events;        /* what it polls for */
    int waits;         /* MYSQL_WAIT_* of the call under way; 0 = none */
    my_cont_fn cont;   /* of that call */
    my_step_fn after;  /* behind it */
    my_step_fn step;   /* to run now */
    my_step_fn idle;   /* the server said something unasked: it closes */
    my_step_fn closed; /* nothing of it is left */
    /* Written by ourselves (mysql_pipe.c): */
    uint8_t *unsent;
    size_t unsent_size, unsent_capacity;
    bool stuck;             /* the socket takes no more of it now */
    rr_deferred_t gathered; /* before the loop waits: sends it */
    /* Connecting with TLS (mysql_tls.c): */
    const rr__db_url_t *url;
    unsigned timeout_ms;
    uv_thread_t thread;
    uv_async_t back;
    bool has_back;    /* back is a handle */
    bool works;       /* the thread has mysql and opened; waits is not 0 */
    bool closes;      /* as soon as it is back */
    atomic_int twin;  /* the thread's: a second descriptor of its socket. Who takes it closes it: the thread, or the loop, to shut it */
    atomic_bool stop; /* the loop's, for the thread: shut the next twin. Both are sequentially consistent: one of them sees the other */
    /* What the calls bring: */
    MYSQL *opened;
    MYSQL_STMT *statement;
    MYSQL_RES *result;
    MYSQL_ROW row;
    int code;
    my_bool flag;
};

/* ---- mysql_wire.c ---- */

/* Two handles on the loop. RR_OK, RR_ENOMEM, RR_EIO: nothing is left. */
RR_MUST_CHECK int rr__my_link_init(my_link_t *link, rr_loop_t *loop, void *owner);
/* A call was begun that waits for `waits` (0: it is over): `after` follows it. */
void rr__my_await(my_link_t *link, int waits, my_cont_fn cont, my_step_fn after);
/* Runs a step, and those behind it until one waits. */
void rr__my_go(my_link_t *link, my_step_fn step);
/* Looks at the socket, and at the clock, for what is waited for. */
void rr__my_watch(my_link_t *link);
/* Runs a step in ms, unless the link is closed before. While no call is under way. */
void rr__my_later(my_link_t *link, unsigned ms, my_step_fn step);
/* The socket is not looked at until the next call waits for it. */
void rr__my_pause(my_link_t *link);
/* Shuts the socket: the call under way ends by an error, its steps run inside; later ones fail. */
void rr__my_link_shut(my_link_t *link);
/* Closes what has no call under way; `closed` follows. */
void rr__my_link_close(my_link_t *link);

/* Begins to connect, to an address in numbers (with TLS: to the URL's host, within timeout_ms); `after` follows. RR_ENOMEM: nothing
 * does. */
RR_MUST_CHECK int rr__my_connect(my_link_t *link, const rr__db_url_t *url, const char *address, unsigned timeout_ms, my_step_fn after);
/* The thread is back. */
void rr__my_works_no_more(my_link_t *link);
/* Is a connection that has just been opened encrypted, if the URL requires that? */
bool rr__my_is_private(MYSQL *mysql, const rr__db_url_t *url);
/* The error of a MYSQL or statement, classified; whether its connection is of no more use. */
bool rr__my_failure(unsigned number, const char *state, const char *message, rr__db_failure_t *out);

int rr__my_query_cont(my_link_t *link, int ready);
int rr__my_prepare_cont(my_link_t *link, int ready);
int rr__my_execute_cont(my_link_t *link, int ready);
int rr__my_fetch_cont(my_link_t *link, int ready);
int rr__my_fetch_row_cont(my_link_t *link, int ready);
int rr__my_free_result_cont(my_link_t *link, int ready);
int rr__my_statement_free_cont(my_link_t *link, int ready);
int rr__my_next_cont(my_link_t *link, int ready);
int rr__my_statement_next_cont(my_link_t *link, int ready);
int rr__my_statement_close_cont(my_link_t *link, int ready);

/* ---- mysql_pipe.c ---- */

/* An execution of the statement, with the parameters that are bound: sent, together with others, before the loop waits. False:
 * nothing was done (it is too large, or the memory is short). Not while libmariadb has something of its own to send. */
RR_MUST_CHECK bool rr__my_pipe_put(my_link_t *link, MYSQL_STMT *statement);
/* Reads the answer to the oldest execution whose answer was not read, up to its rows: link->flag, then `after`. first: none was under
 * way before it. */
void rr__my_pipe_read(my_link_t *link, MYSQL_STMT *statement, bool first, my_step_fn after);
/* Sends what the socket takes. */
void rr__my_pipe_flush(my_link_t *link);
/* The link closes: what was not sent never is. */
void rr__my_pipe_drop(my_link_t *link);

/* ---- mysql_tls.c ---- */

/* Does the URL ask for TLS; and for a look at the certificate? */
bool rr__my_tls(const rr__db_url_t *url);
bool rr__my_tls_verify(const rr__db_url_t *url);
void rr__my_tls_options(MYSQL *mysql, const rr__db_url_t *url, unsigned timeout_ms);
/* Connects as link->url says, on a thread: rr__my_works_no_more follows, on the loop. RR_ENOMEM: it does not. */
RR_MUST_CHECK int rr__my_tls_connect(my_link_t *link);
/* It is to come back soon, without a connection. */
void rr__my_tls_stop(my_link_t *link);

/* ---- mysql_value.c ---- */

typedef union my_cell {
    int64_t number;
    double real;
    float small;
    MYSQL_TIME time;
} my_cell_t;

/* One parameter; its cell and the datum outlive the binding. False: it has no such value (why). */
bool rr__my_bind_in(MYSQL_BIND *bind, my_cell_t *cell, const rr_datum_t *datum, const char **why);
/* Where a column's value goes. */
void rr__my_bind_out(MYSQL_BIND *bind, my_cell_t *cell, const MYSQL_FIELD *field, bool texts);
/* Writes a column of the row that was fetched. */
void rr__my_put_bound(rr_datum_writer_t *out, MYSQL_STMT *statement, unsigned column, const MYSQL_BIND *bind, const my_cell_t *cell,
                      const MYSQL_FIELD *field, bool texts);
/* The same from a text. data NULL = NULL. */
void rr__my_put_text(rr_datum_writer_t *out, const MYSQL_FIELD *field, const char *data, size_t size, bool texts);

/* ---- mysql_bulk.c ---- */

typedef struct my_bulk {
    rr__db_job_t job; /* a copy, whose reader moves */
    rr_datum_reader_t behind; /* the job's parameters behind what goes at once */
    my_cell_t *cells;         /* borrowed, as the datums: room for one list's */
    rr_datum_t *datums;
    bool failed; /* a list could not be read when the message was written */
} my_bulk_t;

/* Does the server take several lists in a message? Once it is connected. */
bool rr__my_bulk_able(MYSQL *mysql);
/* Makes the statement's next execution one of so many of the job's next lists; 0: the next one must go alone, nothing was
 * changed. types, cells, datums: room for a list's values; they, bulk and the job's bytes are used until it is executed. */
unsigned rr__my_bulk_begin(my_bulk_t *bulk, MYSQL_STMT *statement, const rr__db_job_t *job, MYSQL_BIND *types, my_cell_t *cells,
                           rr_datum_t *datums);
/* Behind that execution: later ones are of one list again. */
void rr__my_bulk_end(MYSQL_STMT *statement);

#endif
