/* mysql.c: MariaDB and MySQL as a driver, over libmariadb's calls that do not wait. Statements with parameters are prepared, and kept;
 * others go as text. Rows are read as they come, never stored first. A query is stopped by KILL QUERY from a second connection.
 *
 * Short reads go behind each other, as postgres.c tells, where the server is MariaDB's and speaks without TLS: mysql_pipe.c. A read that
 * was stopped in the place of another (1317, though nobody wanted that) was not carried out, and may be given again. */
#include <arpa/inet.h>
#include <mysqld_error.h>
#include <stdlib.h>
#include <string.h>

#include "actors/database/mysql_impl.h"

#define PIPELINE_MAX 16u /* jobs under way; the pool has a limit, too */
#define AGAIN_MS 50u     /* from one KILL QUERY to the next, for a query that goes on */

typedef struct my_kept { /* a prepared statement */
    MYSQL_STMT *handle;
    char *text;
    uint64_t hash;
    bool singly; /* the server takes no lists of values for it */
    struct my_kept *older, *newer; /* by use */
} my_kept_t;

typedef struct my_values { /* room for one execution's parameters, or for one row */
    MYSQL_BIND *binds;
    my_cell_t *cells;
    rr_datum_t *datums;
    unsigned capacity;
} my_values_t;

typedef struct my_behind { /* it was sent, the job before it is not over */
    rr__db_job_t *job;
    my_kept_t *kept;
} my_behind_t;

typedef struct my_state {
    my_link_t main; /* first */
    my_link_t killer;
    rr__db_connection_t *connection;
    uv_getaddrinfo_t resolving;
    char address[INET6_ADDRSTRLEN + 16];
    bool linked, resolves, closing;
    bool kills;  /* the killer is at work: the connection's next job waits for it */
    bool paused; /* it has nothing under way, and will say KILL again */
    bool ended;  /* the job is over, and waits for the killer */
    bool broken;
    bool rolled_back; /* by a deadlock: the server's last word about transactions is older */
    bool streaming;   /* a result is open between two parts */
    bool discarding;  /* what comes of the result is for nothing */
    bool own;         /* BATCH: in a transaction of its own */
    bool bulk_able;   /* the server takes several of its lists at once */
    bool pipe_able;   /* and requests before it has answered others */
    bool plain;       /* the job is one execution that was sent, and nothing else */
    my_behind_t behind[PIPELINE_MAX];
    unsigned behind_count;
    const rr__db_job_t *aimed; /* whom the killer is for */
    unsigned exposed;          /* jobs under way that it may have hit, the first ones */
    unsigned bulk_lists; /* under way */
    my_bulk_t bulk;
    rr__db_job_t *job;
    rr__db_failure_t failure;
    const char *second; /* of a text of two statements */
    /* The result: */
    MYSQL_RES *result;
    MYSQL_FIELD *fields;
    unsigned columns;
    int64_t rows;
    my_values_t in, out;
    /* Statements: */
    my_kept_t *current;
    my_kept_t *victim; /* to be closed before the next one is prepared */
    rr_set_t kept;
    my_kept_t *oldest, *newest;
    unsigned kept_count;
    rr_deferred_t closed; /* one that has no handle to close */
} my_state_t;

static my_state_t *state_of(rr__db_connection_t *connection) { return rr__db_state(connection); }
static my_state_t *owner(my_link_t *link) { return link->owner; }

static unsigned connect_ms(const my_state_t *state) { return rr__db_options(state->connection)->connect_timeout_ms; }

static void fetch_next(my_link_t *link);
static void result_over(my_link_t *link);
static void batch_next(my_link_t *link);
static void batch_end(my_link_t *link);

/* ---- The job's end ---- */

static void take(my_state_t *state, rr__db_job_t *job) {
    state->job = job;
    state->failure.error = RR_DB_OK;
    state->failure.number = 0;
    state->failure.message[0] = state->failure.state[0] = '\0';
    state->broken = state->discarding = state->ended = state->plain = false;
}

static void read_answer(my_link_t *link);

/* The first one is over: the next is it now. Its answer is read in the main link's next step. */
static void next_job(my_state_t *state) {
    if (state->exposed > 0)
        state->exposed--;
    if (state->behind_count == 0)
        return;
    take(state, state->behind[0].job);
    state->current = state->behind[0].kept;
    state->rows = 0;
    state->plain = true;
    state->behind_count--;
    memmove(state->behind, state->behind + 1, state->behind_count * sizeof *state->behind);
    state->main.step = read_answer;
}

static void tell(my_state_t *state) {
    rr__db_job_t *job = state->job;
    rr__db_failure_t failure = state->failure;
    bool broken = state->broken;
    state->job = state->streaming ? job : NULL;
    state->ended = false;
    state->failure.error = RR_DB_OK;
    if (state->aimed == job)
        state->aimed = NULL;
    if (!broken && !state->closing)
        next_job(state);
    rr__db_done(state->connection, job, failure.error == RR_DB_OK ? NULL : &failure, broken);
}

/* A killer that has nothing under way is not needed any more. */
static void dismiss_killer(my_state_t *state) {
    if (!state->paused)
        return;
    state->paused = false;
    rr__my_link_close(&state->killer);
}

/* It waits for the killer, whose word must not reach the next job. */
static void job_over(my_state_t *state) {
    if (state->failure.error != RR_DB_OK)
        state->streaming = false;
    state->ended = true;
    dismiss_killer(state);
    if (!state->kills)
        tell(state);
    else if (state->behind_count > 0)
        rr__my_pause(&state->main); /* the next one's answer is not read before */
}

static void refuse(my_state_t *state, rr_db_error_t error, const char *text) {
    if (state->failure.error != RR_DB_OK)
        return; /* the first one counts */
    state->failure.error = error;
    snprintf(state->failure.message, sizeof state->failure.message, "%s", text);
}

/* It was stopped in the place of another. */
static bool is_stray(const my_state_t *state, unsigned number) {
    return number == ER_QUERY_INTERRUPTED && state->exposed > 0 && state->job != state->aimed;
}

static void note(my_state_t *state, unsigned number, const char *sql_state, const char *message) {
    rr__db_failure_t failure;
    if (is_stray(state, number)) {
        state->job->sent = false;
        refuse(state, RR_DB_CONNECTION, "it was stopped on the server in the place of another query");
        return;
    }
    bool broken = rr__my_failure(number, sql_state, message, &failure);
    state->broken |= broken;
    if (failure.error == RR_DB_DEADLOCK && number != 1205) /* a lock that was waited for too long costs the statement only */
        state->rolled_back = true;
    if (state->failure.error == RR_DB_OK)
        state->failure = failure;
}

static void note_link(my_state_t *state) {
    MYSQL *mysql = state->main.mysql;
    note(state, mysql_errno(mysql), mysql_sqlstate(mysql), mysql_error(mysql));
}

static void note_statement(my_state_t *state) {
    MYSQL_STMT *handle = state->current->handle;
    if (mysql_stmt_errno(handle) != 0)
        note(state, mysql_stmt_errno(handle), mysql_stmt_sqlstate(handle), mysql_stmt_error(handle));
    else
        note_link(state); /* a row that broke off is the connection's error */
}

/* ---- Room for values ---- */

static bool make_room(my_values_t *values, unsigned count, bool datums) {
    if (count <= values->capacity)
        return true;
    MYSQL_BIND *binds = realloc(values->binds, count * sizeof *binds);
    values->binds = binds ? binds : values->binds;
    my_cell_t *cells = realloc(values->cells, count * sizeof *cells);
    values->cells = cells ? cells : values->cells;
    rr_datum_t *more = datums ? realloc(values->datums, count * sizeof *more) : NULL;
    values->datums = more ? more : values->datums;
    if (!binds || !cells || (datums && !more))
        return false;
    values->capacity = count;
    return true;
}

static void drop_room(my_values_t *values) {
    free(values->binds);
    free(values->cells);
    free(values->datums);
}

/* ---- Results ---- */

static bool texts(const my_state_t *state) { return (state->job->flags & RR_QUERY_TEXTS) != 0; }

static void put_columns(my_state_t *state) {
    rr__db_columns(state->job, state->columns);
    for (unsigned i = 0; i < state->columns; i++)
        rr_datum_put_text(&state->job->out, RR_DATUM_TEXT, state->fields[i].name, state->fields[i].name_length);
}

static bool part_is_full(const my_state_t *state) {
    return state->job->op == RR_DB_STREAM && state->job->out.size >= rr__db_options(state->connection)->stream_bytes;
}

static void kill_query(my_state_t *state);

/* Reads on, unless that would be for nothing or for the next part. */
static void row_done(my_link_t *link) {
    my_state_t *state = owner(link);
    state->rows++;
    if (state->job->out.status != RR_OK && !state->discarding) {
        state->discarding = true;
        kill_query(state);
    }
    if (!state->discarding && part_is_full(state)) {
        state->job->more = state->streaming = true;
        rr__my_pause(link); /* what is there already would wake the loop for nothing */
        job_over(state);
        return;
    }
    link->step = fetch_next;
}

static void row_of_statement(my_link_t *link) {
    my_state_t *state = owner(link);
    if (link->code != 0 && link->code != MYSQL_DATA_TRUNCATED) {
        if (link->code != MYSQL_NO_DATA && !state->discarding)
            note_statement(state);
        result_over(link);
        return;
    }
    if (!state->discarding) {
        rr__db_row(state->job, state->columns);
        for (unsigned i = 0; i < state->columns; i++)
            rr__my_put_bound(&state->job->out, state->current->handle, i, &state->out.binds[i], &state->out.cells[i],
                             &state->fields[i], texts(state));
    }
    row_done(link);
}

static void row_of_text(my_link_t *link) {
    my_state_t *state = owner(link);
    if (!link->row) {
        if (mysql_errno(link->mysql) != 0 && !state->discarding)
            note_link(state);
        result_over(link);
        return;
    }
    if (!state->discarding) {
        unsigned long *lengths = mysql_fetch_lengths(state->result);
        rr__db_row(state->job, state->columns);
        for (unsigned i = 0; i < state->columns; i++)
            rr__my_put_text(&state->job->out, &state->fields[i], link->row[i], link->row[i] ? lengths[i] : 0, texts(state));
    }
    row_done(link);
}

static void fetch_next(my_link_t *link) {
    my_state_t *state = owner(link);
    if (state->current) {
        link->statement = state->current->handle;
        rr__my_await(link, mysql_stmt_fetch_start(&link->code, link->statement), rr__my_fetch_cont, row_of_statement);
    } else {
        link->result = state->result;
        rr__my_await(link, mysql_fetch_row_start(&link->row, link->result), rr__my_fetch_row_cont, row_of_text);
    }
}

static void drop_result(my_state_t *state) {
    if (state->result)
        mysql_free_result(state->result); /* all of it was read, or it is only what describes a statement's */
    state->result = NULL;
    state->fields = NULL;
}

static void results_over(my_link_t *link);

static void result_dropped(my_link_t *link) {
    my_state_t *state = owner(link);
    if (link->mysql && mysql_errno(link->mysql) != 0 && !state->discarding)
        note_link(state);
    link->step = results_over;
}

static void drop_next(my_link_t *link) {
    my_state_t *state = owner(link);
    if (link->code > 0 && !state->discarding) {
        if (state->current)
            note_statement(state);
        else
            note_link(state);
    }
    if (link->code == 0 && state->current && mysql_stmt_field_count(state->current->handle) > 0) {
        rr__my_await(link, mysql_stmt_free_result_start(&link->flag, link->statement), rr__my_statement_free_cont, result_dropped);
        return;
    }
    link->result = link->code == 0 && !state->current ? mysql_use_result(link->mysql) : NULL;
    if (link->result)
        rr__my_await(link, mysql_free_result_start(link->result), rr__my_free_result_cont, result_dropped);
    else
        link->step = link->code == 0 ? result_dropped : results_over; /* it has no rows, or there was none */
}

static void next_result(my_link_t *link) {
    my_state_t *state = owner(link);
    if (state->current) {
        link->statement = state->current->handle;
        rr__my_await(link, mysql_stmt_next_result_start(&link->code, link->statement), rr__my_statement_next_cont, drop_next);
    } else {
        rr__my_await(link, mysql_next_result_start(&link->code, link->mysql), rr__my_next_cont, drop_next);
    }
}

/* A procedure has several results, the last one without rows: the first is the answer, the others are read and dropped. */
static void results_over(my_link_t *link) {
    my_state_t *state = owner(link);
    if (link->mysql && mysql_errno(link->mysql) == 0 && mysql_more_results(link->mysql))
        link->step = next_result;
    else if (state->job->op == RR_DB_BATCH)
        link->step = state->failure.error == RR_DB_OK ? batch_next : batch_end;
    else
        job_over(state);
}

/* All rows came, or the result broke off. */
static void result_over(my_link_t *link) {
    my_state_t *state = owner(link);
    rr__db_job_t *job = state->job;
    drop_result(state);
    job->more = state->streaming = false;
    job->affected = state->rows;
    link->step = results_over;
}

static void note_change(my_state_t *state, uint64_t affected, uint64_t last_id) {
    state->job->affected = (int64_t)affected;
    state->job->has_last_id = last_id != 0;
    state->job->last_id = (int64_t)last_id;
}

/* ---- Texts ---- */

static void text_sent(my_link_t *link);

static void send_text(my_link_t *link, const char *text, size_t size, my_step_fn after) {
    owner(link)->rolled_back = false;
    rr__my_await(link, mysql_real_query_start(&link->code, link->mysql, text, size), rr__my_query_cont, after);
}

static void send_second(my_link_t *link) {
    my_state_t *state = owner(link);
    const char *text = state->second;
    state->second = NULL;
    send_text(link, text, strlen(text), text_sent);
}

static void text_sent(my_link_t *link) {
    my_state_t *state = owner(link);
    if (link->code != 0) {
        note_link(state);
        job_over(state);
        return;
    }
    if (state->second) {
        link->step = send_second;
        return;
    }
    state->columns = mysql_field_count(link->mysql);
    if (state->columns == 0) {
        note_change(state, mysql_affected_rows(link->mysql), mysql_insert_id(link->mysql));
        job_over(state);
        return;
    }
    state->result = mysql_use_result(link->mysql);
    if (!state->result) {
        note_link(state);
        job_over(state);
        return;
    }
    state->fields = mysql_fetch_fields(state->result);
    put_columns(state);
    link->step = fetch_next;
}

/* BEGIN may be two statements: the isolation level, and the transaction. */
static void begin_text(my_link_t *link) {
    my_state_t *state = owner(link);
    rr__db_job_t *job = state->job;
    const char *second = strncmp(job->text, "SET TRANSACTION ", 16) == 0 && !job->sql ? strchr(job->text, ';') : NULL;
    job->sent = true;
    state->second = second ? second + 1 : NULL;
    send_text(link, job->text, second ? (size_t)(second - job->text) : job->text_size, text_sent);
}

/* ---- Prepared statements ---- */

static bool is_text(const void *item, const void *key) { return strcmp(((const my_kept_t *)item)->text, key) == 0; }

static void unlink_kept(my_state_t *state, my_kept_t *kept) {
    *(kept->older ? &kept->older->newer : &state->oldest) = kept->newer;
    *(kept->newer ? &kept->newer->older : &state->newest) = kept->older;
}

static void link_newest(my_state_t *state, my_kept_t *kept) {
    kept->newer = NULL;
    kept->older = state->newest;
    *(state->newest ? &state->newest->newer : &state->oldest) = kept;
    state->newest = kept;
}

static void kept_free(my_kept_t *kept) {
    if (kept->handle)
        mysql_stmt_close(kept->handle); /* without its connection: no word to the server */
    free(kept->text);
    free(kept);
}

static void forget(my_state_t *state, my_kept_t *kept) {
    rr_set_remove(&state->kept, kept->hash, kept);
    unlink_kept(state, kept);
    state->kept_count--;
}

static void prepared(my_link_t *link);

static void not_prepared(my_link_t *link) {
    if (owner(link)->job->op == RR_DB_BATCH)
        link->step = batch_end; /* rolls back */
    else
        job_over(owner(link));
}

/* A new one in the place of the oldest. */
static void prepare(my_link_t *link) {
    my_state_t *state = owner(link);
    rr__db_job_t *job = state->job;
    my_kept_t *kept = calloc(1, sizeof *kept);
    if (kept) {
        kept->hash = job->text_hash;
        kept->text = strdup(job->text);
        kept->handle = mysql_stmt_init(link->mysql);
    }
    if (!kept || !kept->text || !kept->handle || !rr_set_add(&state->kept, kept->hash, kept)) {
        if (kept)
            kept_free(kept);
        refuse(state, RR_DB_SERVER, "out of memory");
        not_prepared(link);
        return;
    }
    link_newest(state, kept);
    state->kept_count++;
    state->current = kept;
    job->sent = true;
    link->statement = kept->handle;
    rr__my_await(link, mysql_stmt_prepare_start(&link->code, kept->handle, kept->text, job->text_size), rr__my_prepare_cont, prepared);
}

static void victim_closed(my_link_t *link) {
    my_state_t *state = owner(link);
    state->victim->handle = NULL;
    kept_free(state->victim);
    state->victim = NULL;
    link->step = prepare;
}

static void begin_statement(my_link_t *link) {
    my_state_t *state = owner(link);
    rr__db_job_t *job = state->job;
    unsigned most = rr__db_options(state->connection)->statements;
    state->current = rr_set_find(&state->kept, job->text_hash, is_text, job->text);
    if (state->current) {
        unlink_kept(state, state->current);
        link_newest(state, state->current);
        link->code = 0;
        link->step = prepared;
    } else if (state->oldest && state->kept_count >= (most ? most : 1)) {
        state->victim = state->oldest;
        forget(state, state->victim);
        link->statement = state->victim->handle;
        rr__my_await(link, mysql_stmt_close_start(&link->flag, link->statement), rr__my_statement_close_cont, victim_closed);
    } else {
        link->step = prepare;
    }
}

/* The parameters of one execution into the room for them. False: why not. */
static bool gather_values(my_state_t *state, const rr__db_job_t *job, rr_datum_reader_t values, uint32_t count, const char **why) {
    unsigned n = job->placeholders;
    *why = "out of memory";
    bool good = make_room(&state->in, n ? n : 1, true);
    if (good && rr__db_arrange(job, values, count, state->in.datums) != RR_OK) {
        *why = "the number of parameters differs";
        good = false;
    }
    for (unsigned i = 0; good && i < n; i++)
        good = rr__my_bind_in(&state->in.binds[i], &state->in.cells[i], &state->in.datums[i], why);
    return good;
}

static bool bind_values(my_state_t *state, rr_datum_reader_t values, uint32_t count) {
    rr__db_job_t *job = state->job;
    const char *why;
    unsigned n = job->placeholders;
    if (n != mysql_stmt_param_count(state->current->handle)) {
        refuse(state, RR_DB_DATA, "the statement has placeholders in places that were not seen: `??` is a question mark");
        return false;
    }
    if (!gather_values(state, job, values, count, &why))
        refuse(state, RR_DB_DATA, why);
    else if (n && mysql_stmt_bind_param(state->current->handle, state->in.binds) != 0)
        note_statement(state);
    return state->failure.error == RR_DB_OK;
}

static void executed(my_link_t *link);

static void execute_statement(my_link_t *link, my_step_fn after) {
    my_state_t *state = owner(link);
    state->rolled_back = false;
    state->job->sent = true;
    link->statement = state->current->handle;
    rr__my_await(link, mysql_stmt_execute_start(&link->code, link->statement), rr__my_execute_cont, after);
}

static void answered(my_link_t *link) {
    link->code = link->flag;
    executed(link);
}

static void read_answer(my_link_t *link) { rr__my_pipe_read(link, owner(link)->current->handle, false, answered); }

/* Together with those that may be sent right behind it, if there are any. */
static void send_execution(my_link_t *link) {
    my_state_t *state = owner(link);
    rr__db_job_t *job = state->job;
    MYSQL_STMT *handle = state->current->handle;
    if (job->gather && state->pipe_able && rr__my_pipe_put(link, handle)) {
        state->rolled_back = false;
        job->sent = true;
        rr__my_pipe_read(link, handle, true, answered);
    } else {
        execute_statement(link, executed);
    }
    state->plain = job->op == RR_DB_QUERY && link->waits;
}

/* What could not be prepared is not kept. */
static void prepare_failed(my_link_t *link) {
    my_state_t *state = owner(link);
    my_kept_t *kept = state->current;
    note_statement(state);
    forget(state, kept);
    kept_free(kept); /* the server has none: nothing is sent */
    state->current = NULL;
    not_prepared(link);
}

/* It is to be stopped before it was sent (again), when the server has nothing to stop. */
static bool is_stopped(my_state_t *state) {
    if (state->aimed != state->job)
        return false;
    note(state, ER_QUERY_INTERRUPTED, "70100", "it was stopped before it was carried out");
    return true;
}

static void prepared(my_link_t *link) {
    my_state_t *state = owner(link);
    rr__db_job_t *job = state->job;
    if (link->code != 0)
        prepare_failed(link);
    else if (is_stopped(state))
        not_prepared(link);
    else if (job->op == RR_DB_BATCH)
        link->step = batch_next;
    else if (bind_values(state, job->parameters, job->parameter_count))
        send_execution(link);
    else
        job_over(state);
}

/* Columns and where their values go. */
static bool bind_columns(my_state_t *state) {
    MYSQL_STMT *handle = state->current->handle;
    state->result = mysql_stmt_result_metadata(handle);
    if (!state->result || !make_room(&state->out, state->columns, false)) {
        refuse(state, RR_DB_SERVER, "out of memory");
        return false;
    }
    state->fields = mysql_fetch_fields(state->result);
    for (unsigned i = 0; i < state->columns; i++)
        rr__my_bind_out(&state->out.binds[i], &state->out.cells[i], &state->fields[i], texts(state));
    if (mysql_stmt_bind_result(handle, state->out.binds) != 0)
        note_statement(state);
    return state->failure.error == RR_DB_OK;
}

static void executed(my_link_t *link) {
    my_state_t *state = owner(link);
    MYSQL_STMT *handle = state->current->handle;
    if (link->code != 0) {
        note_statement(state);
        job_over(state);
        return;
    }
    state->columns = mysql_stmt_field_count(handle);
    if (state->columns == 0) {
        note_change(state, mysql_stmt_affected_rows(handle), mysql_stmt_insert_id(handle));
        job_over(state);
        return;
    }
    if (!bind_columns(state)) {
        state->broken = true; /* rows that nobody can read are on their way */
        drop_result(state);
        job_over(state);
        return;
    }
    put_columns(state);
    link->step = fetch_next;
}

/* ---- Batches ---- */

static void batch_closed(my_link_t *link) {
    my_state_t *state = owner(link);
    if (link->code != 0)
        note_link(state);
    job_over(state);
}

static void batch_end(my_link_t *link) {
    my_state_t *state = owner(link);
    bool good = state->failure.error == RR_DB_OK;
    if (state->own && !state->broken)
        send_text(link, good ? "COMMIT" : "ROLLBACK", good ? 6 : 8, batch_closed);
    else
        job_over(state);
}

static void batch_flushed(my_link_t *link) {
    if (link->flag)
        note_statement(owner(link));
    link->step = results_over;
}

static void batch_executed(my_link_t *link) {
    my_state_t *state = owner(link);
    MYSQL_STMT *handle = state->current->handle;
    if (link->code != 0) {
        note_statement(state);
        link->step = batch_end;
    } else if (mysql_stmt_field_count(handle) > 0) { /* rows of a batch are for nobody */
        rr__my_await(link, mysql_stmt_free_result_start(&link->flag, handle), rr__my_statement_free_cont, batch_flushed);
    } else {
        state->job->affected += (int64_t)mysql_stmt_affected_rows(handle);
        link->step = batch_next;
    }
}

static void bulk_executed(my_link_t *link) {
    my_state_t *state = owner(link);
    rr__db_job_t *job = state->job;
    MYSQL_STMT *handle = state->current->handle;
    if (link->code != 0 && mysql_stmt_errno(handle) == ER_UNSUPPORTED_PS) {
        state->current->singly = true; /* nothing was executed: the same lists again */
    } else {
        if (link->code != 0)
            note_statement(state);
        else if (state->bulk.failed)
            refuse(state, RR_DB_DATA, "a batch takes a list of lists");
        else
            job->affected += (int64_t)mysql_stmt_affected_rows(handle);
        job->parameters = state->bulk.behind;
        job->list_count -= state->bulk_lists;
    }
    rr__my_bulk_end(handle);
    link->step = state->failure.error == RR_DB_OK ? batch_next : batch_end;
}

/* As many lists as one message may have. False: the next one goes alone. */
static bool execute_bulk(my_link_t *link) {
    my_state_t *state = owner(link);
    rr__db_job_t *job = state->job;
    my_kept_t *kept = state->current;
    unsigned n = job->placeholders;
    if (!state->bulk_able || kept->singly || n == 0 || n != mysql_stmt_param_count(kept->handle) ||
        mysql_stmt_field_count(kept->handle) > 0 || !make_room(&state->in, n, true))
        return false;
    state->bulk_lists = rr__my_bulk_begin(&state->bulk, kept->handle, job, state->in.binds, state->in.cells, state->in.datums);
    if (state->bulk_lists > 0)
        execute_statement(link, bulk_executed);
    return state->bulk_lists > 0;
}

static void batch_next(my_link_t *link) {
    my_state_t *state = owner(link);
    rr__db_job_t *job = state->job;
    rr_datum_reader_t values;
    if (job->list_count == 0 || is_stopped(state)) {
        link->step = batch_end;
        return;
    }
    if (execute_bulk(link))
        return;
    job->list_count--;
    int count = rr__db_next_list(job, &values);
    if (count >= 0 && bind_values(state, values, (uint32_t)count)) {
        execute_statement(link, batch_executed);
        return;
    }
    refuse(state, RR_DB_DATA, "a batch takes a list of lists");
    link->step = batch_end;
}

static void batch_begun(my_link_t *link) {
    my_state_t *state = owner(link);
    if (link->code != 0) {
        note_link(state);
        job_over(state);
        return;
    }
    link->step = begin_statement;
}

static bool is_in_transaction(const my_state_t *state) {
    return !state->rolled_back && state->main.mysql && state->main.mysql->server_status & SERVER_STATUS_IN_TRANS;
}

static void begin_batch(my_link_t *link) {
    my_state_t *state = owner(link);
    state->job->affected = 0;
    state->job->sent = true;
    state->own = !is_in_transaction(state);
    if (state->own)
        send_text(link, "START TRANSACTION", 17, batch_begun);
    else
        link->step = begin_statement;
}

/* ---- Stopping a query ---- */

static void all_closed(my_state_t *state);

static void tell_and_go_on(my_state_t *state) {
    tell(state);
    if (state->closing || !state->main.step)
        return;
    rr__my_watch(&state->main);
    rr__my_go(&state->main, state->main.step);
}

static void killer_closed(my_link_t *link) {
    my_state_t *state = owner(link);
    state->kills = false;
    if (state->closing)
        all_closed(state);
    else if (state->ended)
        tell_and_go_on(state);
}

static void killer_end(my_link_t *link) { rr__my_link_close(link); }

static void killer_lost(my_link_t *link) { dismiss_killer(owner(link)); }

static void say_kill(my_link_t *link);

/* A server drops the word when it comes just before it begins with the query: it is said again until the query has ended, or the
 * grace is over. Who else was hit is under way behind it, and given again. */
static void killed(my_link_t *link) {
    my_state_t *state = owner(link);
    if (link->code != 0 || state->closing || state->ended) {
        killer_end(link); /* then the grace decides; or it is over already */
        return;
    }
    state->paused = true;
    rr__my_later(link, AGAIN_MS, say_kill);
}

static void say_kill(my_link_t *link) {
    my_state_t *state = owner(link);
    char text[64];
    state->paused = false;
    int size = snprintf(text, sizeof text, "KILL QUERY %lu", mysql_thread_id(state->main.mysql));
    rr__my_await(link, mysql_real_query_start(&link->code, link->mysql, text, (unsigned long)size), rr__my_query_cont, killed);
}

static void killer_open(my_link_t *link) {
    my_state_t *state = owner(link);
    link->idle = killer_lost;
    if (!link->opened || !rr__my_is_private(link->mysql, rr__db_url(state->connection)) || state->closing || state->ended)
        killer_end(link);
    else
        link->step = say_kill;
}

static void begin_kill(my_link_t *link) {
    my_state_t *state = owner(link);
    if (rr__my_connect(link, rr__db_url(state->connection), state->address, connect_ms(state), killer_open) != RR_OK)
        killer_end(link);
}

static void kill_query(my_state_t *state) {
    if (state->kills || state->closing || rr__my_link_init(&state->killer, rr__db_loop(state->connection), state) != RR_OK)
        return; /* without one the grace decides */
    state->kills = true;
    state->aimed = state->job;
    state->exposed = 1 + state->behind_count;
    state->killer.closed = killer_closed;
    rr__my_go(&state->killer, begin_kill);
}

static void cancel(rr__db_connection_t *connection, rr__db_job_t *job) {
    my_state_t *state = state_of(connection);
    if (state->job == job && !state->ended)
        kill_query(state);
}

/* ---- Jobs ---- */

static void execute(rr__db_connection_t *connection, rr__db_job_t *job) {
    my_state_t *state = state_of(connection);
    take(state, job);
    state->current = NULL;
    state->rows = 0;
    state->second = NULL;
    rr__my_go(&state->main, job->op == RR_DB_BATCH ? begin_batch : job->placeholders > 0 ? begin_statement : begin_text);
}

static bool takes_more(const my_state_t *state) {
    return state->job && state->plain && state->behind_count < PIPELINE_MAX && !(state->main.waits & MYSQL_WAIT_WRITE) && !state->ended &&
           !state->discarding && !state->kills && !state->broken && !state->closing;
}

/* What has no prepared statement on this connection waits until it can be the first one; there it also hears what is wrong. */
static bool follow(rr__db_connection_t *connection, rr__db_job_t *job) {
    my_state_t *state = state_of(connection);
    const char *why;
    if (!state->pipe_able || !takes_more(state))
        return false;
    my_kept_t *kept = rr_set_find(&state->kept, job->text_hash, is_text, job->text);
    if (!kept || job->placeholders != mysql_stmt_param_count(kept->handle) ||
        !gather_values(state, job, job->parameters, job->parameter_count, &why) ||
        mysql_stmt_bind_param(kept->handle, state->in.binds) != 0 || !rr__my_pipe_put(&state->main, kept->handle))
        return false;
    unlink_kept(state, kept);
    link_newest(state, kept);
    state->behind[state->behind_count++] = (my_behind_t){job, kept};
    return true;
}

static void fetch(rr__db_connection_t *connection, rr__db_job_t *job) {
    my_state_t *state = state_of(connection);
    take(state, job);
    state->streaming = false;
    put_columns(state);
    rr__my_go(&state->main, fetch_next);
}

/* What is on its way is read and dropped; the server is told to stop sending. */
static void end_stream(rr__db_connection_t *connection, rr__db_job_t *job) {
    my_state_t *state = state_of(connection);
    take(state, job);
    state->streaming = false;
    state->discarding = true;
    kill_query(state);
    rr__my_go(&state->main, fetch_next);
}

static const char *begin(unsigned flags, const char **why) {
#define LEVELS(end)                                                                                                    \
    {end, "SET TRANSACTION ISOLATION LEVEL READ UNCOMMITTED;" end, "SET TRANSACTION ISOLATION LEVEL READ COMMITTED;" end, \
     "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ;" end, "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE;" end}
    static const char *const begins[2][5] = {LEVELS("START TRANSACTION"), LEVELS("START TRANSACTION READ ONLY")};
#undef LEVELS
    unsigned level = (flags & RR_QUERY_ISOLATION) >> 8;
    if (level > 4) {
        *why = "there is no such isolation level";
        return NULL;
    }
    return begins[(flags & RR_QUERY_READ_ONLY) != 0][level];
}

static bool in_transaction(rr__db_connection_t *connection) { return is_in_transaction(state_of(connection)); }

/* ---- Opening ---- */

static int check(const rr__db_url_t *url, char *why, size_t why_size) {
    static const char *const options[] = {"charset", "tls", "ca", "socket", NULL};
    const char *charset = rr__db_url_option(url, "charset"), *tls = rr__db_url_option(url, "tls");
    if (charset && strcmp(charset, "utf8mb4") != 0 && strcmp(charset, "utf8") != 0)
        return rr_fail(RR_EINVAL, why, why_size, "charset is utf8mb4");
    if (tls && strcmp(tls, "require") != 0 && strcmp(tls, "verify") != 0 && strcmp(tls, "off") != 0)
        return rr_fail(RR_EINVAL, why, why_size, "tls is verify, require or off");
    if (rr__db_url_option(url, "ca") && !rr__my_tls_verify(url))
        return rr_fail(RR_EINVAL, why, why_size, "ca is for tls=verify");
    return rr__db_url_known(url, options, why, why_size);
}

static void main_idle(my_link_t *link) {
    my_state_t *state = owner(link);
    rr__db_failure_t failure = {.error = RR_DB_CONNECTION, .message = "the server closed the connection"};
    if (!state->job && !state->ended)
        rr__db_lost(state->connection, &failure);
}

static void opened(my_link_t *link) {
    my_state_t *state = owner(link);
    if (state->closing)
        return;
    if (!link->opened) {
        note_link(state);
        rr__db_opened(state->connection, NULL, &state->failure);
        return;
    }
    if (!rr__my_is_private(link->mysql, rr__db_url(state->connection))) {
        refuse(state, RR_DB_CONNECTION, "the URL asks for TLS, which the server does not have");
        rr__db_opened(state->connection, NULL, &state->failure);
        return;
    }
    link->idle = main_idle;
    state->bulk_able = rr__my_bulk_able(link->mysql);
    state->pipe_able = state->bulk_able && !rr__my_tls(rr__db_url(state->connection)); /* MariaDB's servers; its library's TLS is its own */
    rr__db_opened(state->connection, mysql_get_server_info(link->mysql), NULL);
}

static void dial(my_link_t *link) {
    my_state_t *state = owner(link);
    if (rr__my_connect(link, rr__db_url(state->connection), state->address, connect_ms(state), opened) != RR_OK)
        opened(link);
}

static void not_opened(my_state_t *state, const char *text) {
    rr__db_failure_t failure = {.error = RR_DB_CONNECTION};
    snprintf(failure.message, sizeof failure.message, "%s", text);
    rr__db_opened(state->connection, NULL, &failure);
}

/* Names are looked up on libuv's threads; libmariadb would wait. */
static void on_resolved(uv_getaddrinfo_t *request, int status, struct addrinfo *found) {
    my_state_t *state = request->data;
    state->resolves = false;
    if (state->closing) {
        uv_freeaddrinfo(found);
        all_closed(state);
        return;
    }
    bool named = status == 0 && getnameinfo(found->ai_addr, found->ai_addrlen, state->address, sizeof state->address, NULL, 0, NI_NUMERICHOST) == 0;
    uv_freeaddrinfo(found);
    if (named)
        rr__my_go(&state->main, dial);
    else
        not_opened(state, status ? uv_strerror(status) : "the host has no address");
}

static void main_closed(my_link_t *link) {
    my_state_t *state = owner(link);
    state->linked = false;
    all_closed(state);
}

/* When both links are gone and nothing is being looked up. */
static void all_closed(my_state_t *state) {
    if (state->linked || state->kills || state->resolves)
        return; /* the last of them comes here too */
    while (state->oldest) {
        my_kept_t *kept = state->oldest;
        forget(state, kept);
        kept_free(kept);
    }
    rr_set_free(&state->kept);
    drop_room(&state->in);
    drop_room(&state->out);
    rr__db_closed(state->connection);
}

static void on_closed(rr_deferred_t *item) { all_closed((my_state_t *)((char *)item - offsetof(my_state_t, closed))); }

static void open_(rr__db_connection_t *connection) {
    my_state_t *state = state_of(connection);
    const rr__db_url_t *url = rr__db_url(connection);
    const char *host = url->host[0] ? url->host : "127.0.0.1";
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    uint8_t bytes[16];
    state->connection = connection;
    state->closed.fn = on_closed;
    state->resolving.data = state;
    state->linked = rr__my_link_init(&state->main, rr__db_loop(connection), state) == RR_OK;
    state->main.closed = main_closed;
    if (!state->linked) {
        not_opened(state, "out of memory");
    } else if (inet_pton(AF_INET, host, bytes) == 1 || inet_pton(AF_INET6, host, bytes) == 1 || rr__db_url_option(url, "socket") ||
               rr__my_tls(url)) { /* then the name is looked up where the rest is done */
        snprintf(state->address, sizeof state->address, "%s", host);
        rr__my_go(&state->main, dial);
    } else {
        state->resolves = uv_getaddrinfo(rr_loop_uv(rr__db_loop(connection)), &state->resolving, on_resolved, host, NULL, &hints) == 0;
        if (!state->resolves)
            not_opened(state, "out of memory");
    }
}

/* ---- Closing ---- */

static void end_behind(my_state_t *state) {
    rr__db_failure_t failure = {.error = RR_DB_CONNECTION, .message = "the connection was closed"};
    unsigned count = state->behind_count;
    state->behind_count = 0;
    for (unsigned i = 0; i < count; i++)
        rr__db_done(state->connection, state->behind[i].job, &failure, true);
}

static void close_(rr__db_connection_t *connection) {
    my_state_t *state = state_of(connection);
    rr__db_job_t *job = state->job;
    bool under_way = job && !state->streaming;
    state->closing = true;
    if (state->resolves)
        uv_cancel((uv_req_t *)&state->resolving);
    dismiss_killer(state);
    if (state->kills && state->killer.waits)
        rr__my_link_shut(&state->killer); /* closes itself behind its call */
    if (!state->linked) {
        rr_loop_defer(rr__db_loop(connection), &state->closed);
        return;
    }
    if (under_way && !state->ended)
        refuse(state, RR_DB_CONNECTION, "the connection is closed");
    if (state->main.waits || state->streaming)
        rr__my_link_shut(&state->main); /* a call under way ends inside, and tells of its job */
    else if (state->main.step == read_answer)
        state->ended = true; /* its answer was not looked at yet */
    state->main.step = NULL;
    drop_result(state);
    if (state->ended)
        tell(state);
    end_behind(state);
    rr__my_link_close(&state->main);
}

const rr__db_driver_t rr__db_mysql = {
    .name = "mysql",
    .schemes = {"mysql", "mariadb"},
    .style = RR__DB_QUESTION,
    .backslashes = true,
    .state_size = sizeof(my_state_t),
    .check = check,
    .open = open_,
    .execute = execute,
    .follow = follow,
    .fetch = fetch,
    .end_stream = end_stream,
    .cancel = cancel,
    .begin = begin,
    .in_transaction = in_transaction,
    .close = close_,
};
