/* postgres.c: PostgreSQL through libpq, on the database's loop.
 *
 * A job is a pipeline: prepare if need be, execute (a BATCH: many times), one sync; so it costs one round trip whether its
 * statement is prepared or not, and a batch outside a transaction is one by itself: what lies before a sync is undone as a
 * whole. A statement is prepared when it comes for the second time. The server commits at the sync, after it has said how
 * many rows it changed: a job has succeeded when the sync is answered, not before.
 *
 * Short reads go behind each other. Where no connection is idle, the pool sends a read that has always been short (pool.c) behind
 * others of its kind, a few at most, each with a sync of its own: the server need not wait for us between two of them, and what
 * an iteration of the loop has for one connection leaves as one segment. They are answered in order, and fail alone.
 *   What may go wrong: the first one takes long for once. Those behind it wait for it; they cannot be taken back, nor does it help
 * them that another connection is idle by now. So nothing is sent behind one that has been at work for 5 ms, or whose statement was
 * not short 64 times in a row; and an asker whose time is over, or who gives up, is answered at once (MAYBE executed), while
 * its query stays where it is, keeping its key's place, and is stopped on the server when its turn comes.
 * An asker that holds a lock by a transaction and reads outside of it can so wait, until its time-out, for one that waits for that lock.
 *   Stopping the first one may hit the next: the server is told to stop what it does, not what we mean. As long as a killer is
 * under way nothing new is sent. Of those that were, one that answers 57014 though nobody wanted it stopped was not carried
 * out, says the server: the pool may give it to another connection, the only case in which a query is sent twice.
 *   A connection that breaks leaves all of them without an answer: each asker hears that its query may have been executed, the
 * first one with the server's word.
 *   Never in a pipeline with others: transactions, streams, batches, COPY, whatever is no plain SELECT, and what prepares or
 * forgets a statement, so that nobody depends on another's success.
 *
 * Rows come one by one (libpq's single-row mode): a result that is too big is noticed when the limit is reached, and a stream
 * whose reader does not keep up leaves its rows in the socket. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "actors/database/postgres_impl.h"

#define FORGET_MAX 4u   /* statements that one job takes off the server */
#define PIPELINE_MAX 16u /* jobs under way; the pool has a limit, too */
#define READ_ON_MS 10u    /* about what a killer costs both sides: the rest of a stream that ends within it needs none */

typedef enum step_kind { STEP_PREPARE, STEP_EXECUTE, STEP_FORGET, STEP_RENEW, STEP_SYNC } step_kind_t;

typedef struct step { /* a command that was sent; they are answered in order */
    step_kind_t kind;
    rr__pg_statement_t *statement; /* NULL = none */
    bool last;                     /* of its job */
} step_t;

typedef struct state {
    rr__db_connection_t *connection;
    rr__pg_wire_t wire;
    rr__pg_statements_t statements;
    rr__pg_parameters_t parameters;

    rr__db_job_t *job; /* the first that is not answered; NULL = idle */
    rr__db_job_t *behind[PIPELINE_MAX];
    unsigned behind_count;
    rr__db_failure_t failure; /* of the first; so is what follows, but for the steps */
    step_t *steps;            /* of all jobs under way, as they were sent; step: that which is answered next */
    size_t step, step_count, step_capacity;
    bool plain;          /* the job is one execution and nothing else */
    bool has_columns;    /* of the job's present part */
    bool paused;         /* a stream between two parts */
    bool discarding;     /* the rest of the rows is not wanted */
    bool ending;         /* as the stream's user said: no failure then */
    bool in_transaction; /* since before the job */
    bool in_error;       /* and it can only be rolled back */
    bool fresh;          /* the socket has just been read: nothing new can be there */
    bool stale;          /* the server knows none of our statements any more */
    bool torn;           /* a job went out in part only */

    uv_timer_t moment;    /* until a stream that nobody wants is stopped on the server; has been initialised: has_moment */
    bool has_moment;
    rr__pg_wire_t killer; /* asks the server, on a connection of its own, to stop the job */
    bool killing;         /* it is not gone yet */
    const rr__db_job_t *aimed, *target; /* whom it is for; whom it should be for */
    unsigned exposed;     /* jobs under way that it may have hit, the first ones; once it is gone */
    bool held;            /* the job is over, but the killer could still hit the next one */
    bool closing;
} state_t;

static void advance(state_t *state);
static void begin_step(state_t *state);
static void finish(state_t *state, bool broken);

/* ---- Failures ---- */

static void fail(state_t *state, rr_db_error_t error, const char *text) {
    if (state->failure.error != RR_DB_OK)
        return; /* the first one is the cause */
    state->failure = (rr__db_failure_t){.error = error};
    snprintf(state->failure.message, sizeof state->failure.message, "%s", text);
}

static void fail_as_told(state_t *state, const PGresult *result) {
    if (state->failure.error == RR_DB_OK)
        rr__pg_failure(state->wire.pq, result, &state->failure);
}

static void lose(state_t *state) {
    fail_as_told(state, NULL);
    state->failure.error = RR_DB_CONNECTION;
    finish(state, true);
}

/* ---- Stopping a job on the server ---- */

static void end_killer(state_t *state) {
    rr__pg_close(&state->killer);
}

static void killer_failed(state_t *state, const char *text) {
    rr_log(rr__db_system(state->connection), RR_DEBUG, "DB", "a query could not be cancelled: %s", text);
    end_killer(state);
}

static void on_killer_events(rr__pg_wire_t *wire) {
    state_t *state = rr__db_state(wire->connection);
    int left = PQconsumeInput(wire->pq) ? PQflush(wire->pq) : -1;
    if (left < 0) {
        killer_failed(state, PQerrorMessage(wire->pq));
        return;
    }
    while (!PQisBusy(wire->pq)) {
        PGresult *result = PQgetResult(wire->pq);
        if (!result) { /* the signal is sent: what it hits, it hits now */
            end_killer(state);
            return;
        }
        PQclear(result);
    }
    int rc = rr__pg_wait(wire, UV_READABLE | (left ? UV_WRITABLE : 0));
    if (rc != RR_OK)
        killer_failed(state, rr_strerror(rc));
}

static void on_killer_up(rr__pg_wire_t *wire, const rr__db_failure_t *failure) {
    state_t *state = rr__db_state(wire->connection);
    if (failure) {
        killer_failed(state, failure->message);
        return;
    }
    char text[64];
    snprintf(text, sizeof text, "SELECT pg_cancel_backend(%d)", PQbackendPID(state->wire.pq));
    if (!PQsendQuery(wire->pq, text))
        killer_failed(state, PQerrorMessage(wire->pq));
    else
        on_killer_events(wire);
}

static void free_state(state_t *state) {
    if (!state->closing || state->killing || state->has_moment || state->wire.connection)
        return;
    rr__pg_statements_free(&state->statements);
    rr__pg_parameters_free(&state->parameters);
    free(state->steps);
    rr__db_closed(state->connection);
}

static void kill_job(state_t *state);

static void on_killer_gone(rr__pg_wire_t *wire) {
    state_t *state = rr__db_state(wire->connection);
    state->killing = false;
    state->exposed = (state->job != NULL) + state->behind_count;
    if (state->closing)
        free_state(state);
    else if (state->held)
        finish(state, false);
    else if (state->target && state->target != state->aimed)
        kill_job(state);
}

/* libpq's PQcancel would block, for as long as the server does not answer. */
static void kill_job(state_t *state) {
    state->target = state->job;
    if (state->killing || state->closing)
        return;
    state->killing = true;
    state->aimed = state->target;
    state->killer = (rr__pg_wire_t){.on_up = on_killer_up, .on_events = on_killer_events, .on_gone = on_killer_gone};
    rr__pg_dial(&state->killer, state->connection);
}

static void on_moment_over(uv_timer_t *timer) {
    state_t *state = timer->data;
    if (state->job && state->discarding && !state->held)
        kill_job(state);
}

static void on_moment_gone(uv_handle_t *handle) {
    state_t *state = handle->data;
    state->has_moment = false;
    free_state(state);
}

/* The rest of a stream is not wanted. A killer is a second connection, with all that logging in takes: it is dialed when the
 * rest is not here within a moment. */
static void read_on(state_t *state) {
    state->discarding = true;
    if (state->in_transaction) /* killing would end it */
        return;
    if (!state->has_moment) {
        uv_timer_init(rr_loop_uv(rr__db_loop(state->connection)), &state->moment); /* neither this nor its start ever fails */
        state->moment.data = state;
        state->has_moment = true;
    }
    uv_timer_start(&state->moment, on_moment_over, READ_ON_MS, 0);
}

static void pg_cancel(rr__db_connection_t *connection, rr__db_job_t *job) {
    state_t *state = rr__db_state(connection);
    if (state->job != job || state->paused || state->held)
        return;
    if (job->op != RR_DB_STREAM || state->in_transaction || state->discarding) {
        kill_job(state);
        return;
    }
    fail(state, RR_DB_CANCELLED, ""); /* whatever comes: rows of this part are dropped */
    read_on(state);
}

/* ---- The end of a job ---- */

static void drop_stale(state_t *state) {
    if (!state->stale)
        return;
    unsigned serial = state->statements.serial; /* names go on: whatever is left on the server keeps its own */
    rr__pg_statements_free(&state->statements);
    state->statements = (rr__pg_statements_t){.serial = serial};
    state->stale = false;
}

static void start_job(state_t *state, rr__db_job_t *job) {
    state->job = job;
    state->failure = (rr__db_failure_t){0};
    state->has_columns = state->paused = state->discarding = state->ending = false;
}

/* The first one was answered: the next is it now. */
static void next_job(state_t *state) {
    if (state->exposed > 0)
        state->exposed--;
    if (state->step == state->step_count)
        state->step = state->step_count = 0;
    if (state->behind_count == 0)
        return;
    start_job(state, state->behind[0]);
    state->behind_count--;
    memmove(state->behind, state->behind + 1, state->behind_count * sizeof *state->behind);
    begin_step(state);
}

static void finish(state_t *state, bool broken) {
    if (state->has_moment)
        uv_timer_stop(&state->moment);
    bool alone = state->behind_count == 0;
    if (!broken && alone && state->killing) {
        state->held = true;
        return;
    }
    state->held = false;
    if (!broken && alone && PQpipelineStatus(state->wire.pq) != PQ_PIPELINE_OFF && !PQexitPipelineMode(state->wire.pq)) {
        fail_as_told(state, NULL);
        broken = true;
    }
    if (!broken && rr__pg_wait(&state->wire, UV_READABLE) != RR_OK) {
        fail(state, RR_DB_CONNECTION, "the connection is broken");
        broken = true;
    }
    if (broken)
        rr__pg_rest(&state->wire); /* close follows */
    if (alone)
        drop_stale(state);
    rr__db_job_t *job = state->job;
    rr__db_failure_t failure = state->failure;
    bool failed = failure.error != RR_DB_OK && (broken || !state->ending);
    state->job = NULL;
    if (state->target == job)
        state->target = NULL;
    if (!broken)
        next_job(state);
    rr__db_done(state->connection, job, failed ? &failure : NULL, broken);
}

/* ---- Answers ---- */

static void put_columns(state_t *state, const PGresult *result) {
    if (state->has_columns)
        return;
    state->has_columns = true;
    int count = PQnfields(result);
    rr__db_columns(state->job, (uint32_t)count);
    for (int i = 0; i < count; i++) {
        const char *name = PQfname(result, i);
        rr_datum_put_text(&state->job->out, RR_DATUM_TEXT, name, strlen(name));
    }
}

static void put_value(rr__db_job_t *job, const PGresult *result, int row, int column) {
    if (PQgetisnull(result, row, column)) {
        rr_datum_put_null(&job->out);
        return;
    }
    Oid type = job->flags & RR_QUERY_TEXTS ? 0 : PQftype(result, column);
    rr__pg_put(&job->out, type, PQgetvalue(result, row, column), (size_t)PQgetlength(result, row, column));
}

static void discard_rest(state_t *state) {
    state->discarding = true;
    if (!state->in_transaction) /* else it would end the transaction, which nobody asked for */
        kill_job(state);
}

static void put_rows(state_t *state, const PGresult *result) {
    rr__db_job_t *job = state->job;
    int rows = PQntuples(result), columns = PQnfields(result);
    for (int row = 0; row < rows && !state->discarding; row++) {
        rr__db_row(job, (uint32_t)columns);
        for (int column = 0; column < columns; column++)
            put_value(job, result, row, column);
        if (job->out.status != RR_OK) {
            bool big = job->out.status == RR_ETOOBIG;
            fail(state, big ? RR_DB_TOO_BIG : RR_DB_SERVER, big ? "the result is over the limit: stream it" : rr_strerror(job->out.status));
            discard_rest(state);
        }
    }
    state->paused = job->op == RR_DB_STREAM && !state->discarding && PQresultStatus(result) == PGRES_SINGLE_TUPLE &&
                    job->out.size >= rr__db_options(state->connection)->stream_bytes;
}

/* A COMMIT of a transaction in which something failed is a ROLLBACK, and no error for the server. */
static bool commit_was_rollback(const rr__db_job_t *job, PGresult *result) {
    return strncasecmp(job->text, "commit", 6) == 0 && strcmp(PQcmdStatus(result), "ROLLBACK") == 0;
}

static void on_success(state_t *state, PGresult *result) {
    rr__db_job_t *job = state->job;
    if (!state->ending && job->op != RR_DB_BATCH)
        put_columns(state, result);
    const char *count = PQcmdTuples(result);
    if (*count)
        job->affected = (job->affected < 0 ? 0 : job->affected) + strtoll(count, NULL, 10);
    else if (job->op != RR_DB_BATCH)
        job->affected = 0;
    if (commit_was_rollback(job, result))
        fail(state, RR_DB_STATE, "rolled back: a statement of the transaction had failed");
}

/* It was stopped in the place of another. */
static bool is_stray(const state_t *state, const char *code) {
    return code && strcmp(code, "57014") == 0 && (state->killing || state->exposed > 0) && state->job != state->target;
}

static void on_error(state_t *state, const step_t *step, const PGresult *result) {
    const char *code = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    if (is_stray(state, code)) {
        state->job->sent = false;
        fail(state, RR_DB_CONNECTION, "it was stopped on the server in the place of another query");
        return;
    }
    if (step->kind == STEP_FORGET)
        return; /* it stays in the table, and is tried again */
    if (step->kind == STEP_PREPARE && step->statement)
        step->statement->prepared = false;
    bool altered = code && (strncmp(code, "42", 2) == 0 || strcmp(code, "0A000") == 0);
    if (step->kind == STEP_EXECUTE && step->statement && altered)
        step->statement->outdated = true; /* planned for a table that is another one now: the next use prepares it anew */
    if (code && strcmp(code, "26000") == 0)
        state->stale = true; /* DISCARD ALL */
    fail_as_told(state, result);
}

static void on_command_done(state_t *state, const step_t *step, PGresult *result) {
    if (step->kind == STEP_EXECUTE)
        on_success(state, result);
    else if (step->kind == STEP_FORGET)
        rr__pg_statement_drop(&state->statements, step->statement);
    else if (step->kind == STEP_RENEW)
        step->statement->outdated = false;
}

/* False: the job cannot go on. */
static bool on_result(state_t *state, PGresult *result) {
    const step_t *step = &state->steps[state->step];
    switch (PQresultStatus(result)) {
    case PGRES_SINGLE_TUPLE:
    case PGRES_TUPLES_OK:
        if (step->kind == STEP_EXECUTE && !state->discarding && state->job->op != RR_DB_BATCH) {
            put_columns(state, result);
            put_rows(state, result);
        }
        if (PQresultStatus(result) == PGRES_TUPLES_OK)
            on_command_done(state, step, result);
        return true;
    case PGRES_COMMAND_OK:
    case PGRES_EMPTY_QUERY: on_command_done(state, step, result); return true;
    case PGRES_PIPELINE_SYNC: return true;
    case PGRES_PIPELINE_ABORTED:
        if (step->kind == STEP_PREPARE && step->statement)
            step->statement->prepared = false;
        return true;
    case PGRES_FATAL_ERROR: on_error(state, step, result); return PQstatus(state->wire.pq) == CONNECTION_OK;
    case PGRES_COPY_IN:
    case PGRES_COPY_OUT: fail(state, RR_DB_STATE, "COPY is not possible here"); return false;
    default: fail_as_told(state, result); return false;
    }
}

/* Rows of the step that is answered next come one by one; one that an error before it has skipped brings none. */
static void begin_step(state_t *state) {
    PGconn *pq = state->wire.pq;
    if (state->step < state->step_count && state->steps[state->step].kind == STEP_EXECUTE && state->job->op != RR_DB_BATCH &&
        PQpipelineStatus(pq) != PQ_PIPELINE_ABORTED && !PQsetSingleRowMode(pq))
        rr_log(rr__db_system(state->connection), RR_WARN, "DB", "libpq gives the rows of a result all at once");
}

static void end_part(state_t *state) {
    rr__pg_rest(&state->wire); /* what comes stays in the socket, and then at the server */
    state->job->more = true;
    rr__db_done(state->connection, state->job, NULL, false);
}

/* Takes the step on that a result belonged to. False: libpq has nothing more to say, but not all steps were answered. */
static bool next_step(state_t *state, const PGresult *result, bool *silent, bool *last) {
    bool sync = state->steps[state->step].kind == STEP_SYNC;
    if (result ? sync && PQresultStatus(result) == PGRES_PIPELINE_SYNC : !sync) {
        *last = state->steps[state->step++].last;
        *silent = false;
        if (!*last)
            begin_step(state);
        return true;
    }
    bool again = *silent;
    *silent = !result;
    return !(again && !result);
}

static void advance(state_t *state) {
    bool silent = false, last = false;
    while (state->job && !state->held && !PQisBusy(state->wire.pq)) {
        PGresult *result = PQgetResult(state->wire.pq);
        bool good = result ? on_result(state, result) : PQstatus(state->wire.pq) == CONNECTION_OK;
        good = good && next_step(state, result, &silent, &last);
        PQclear(result);
        if (!good) {
            fail_as_told(state, NULL);
            finish(state, true);
            return;
        }
        if (state->paused) {
            end_part(state);
            return;
        }
        if (last)
            finish(state, false);
        last = false;
    }
}

static void on_idle_events(state_t *state, bool good) {
    PGconn *pq = state->wire.pq;
    bool busy = PQisBusy(pq); /* reads notices, and the server's good-bye */
    if (good && !busy && PQstatus(pq) == CONNECTION_OK && rr__pg_wait(&state->wire, UV_READABLE) == RR_OK)
        return;
    rr__db_failure_t failure;
    rr__pg_failure(pq, NULL, &failure);
    rr__pg_rest(&state->wire);
    rr__db_lost(state->connection, &failure);
}

static void on_job_events(state_t *state, bool good) {
    rr__pg_wire_t *wire = &state->wire;
    if (state->held) {
        if (!good)
            rr__pg_rest(wire); /* the next job will find it broken */
        return;
    }
    state->fresh = good;
    advance(state); /* even if it broke: what the server said before that counts */
    state->fresh = false;
    if (!state->job || state->paused || state->held || state->closing)
        return;
    int left = good ? PQflush(wire->pq) : -1;
    if (left < 0 || rr__pg_wait(wire, UV_READABLE | (left ? UV_WRITABLE : 0)) != RR_OK)
        lose(state);
}

static void on_events(rr__pg_wire_t *wire) {
    state_t *state = rr__db_state(wire->connection);
    bool good = PQconsumeInput(wire->pq);
    if (state->job)
        on_job_events(state, good);
    else
        on_idle_events(state, good);
}

/* ---- Sending ---- */

static bool push(state_t *state, step_kind_t kind, rr__pg_statement_t *statement) {
    if (state->step_count == state->step_capacity && state->step > 0) {
        state->step_count -= state->step;
        memmove(state->steps, state->steps + state->step, state->step_count * sizeof *state->steps);
        state->step = 0;
    }
    if (state->step_count == state->step_capacity) {
        size_t capacity = state->step_capacity ? state->step_capacity * 2 : 8;
        step_t *bigger = realloc(state->steps, capacity * sizeof *bigger);
        if (!bigger)
            return false;
        state->steps = bigger;
        state->step_capacity = capacity;
    }
    state->steps[state->step_count++] = (step_t){.kind = kind, .statement = statement};
    return true;
}

static bool send_forget(state_t *state, step_kind_t kind, rr__pg_statement_t *statement) {
    char text[40];
    snprintf(text, sizeof text, "DEALLOCATE %s", statement->name);
    return push(state, kind, statement) && PQsendQueryParams(state->wire.pq, text, 0, NULL, NULL, NULL, NULL, 0);
}

static bool send_prepare(state_t *state, rr__pg_statement_t *statement) {
    if (statement->outdated && !send_forget(state, STEP_RENEW, statement))
        return false;
    statement->prepared = true;
    return push(state, STEP_PREPARE, statement) &&
           PQsendPrepare(state->wire.pq, statement->name, statement->text, (int)statement->count, statement->types);
}

static rr__pg_statement_t *statement_for(state_t *state, const rr__db_job_t *job, bool *seen) {
    *seen = false;
    return rr__db_options(state->connection)->statements ? rr__pg_statement_use(&state->statements, job, &state->parameters, seen)
                                                         : NULL;
}

/* One execution, with the parameters that are bound. */
static bool send_one(state_t *state, const rr__db_job_t *job) {
    rr__pg_parameters_t *p = &state->parameters;
    bool seen;
    rr__pg_statement_t *statement = statement_for(state, job, &seen);
    bool prepare = statement && (!statement->prepared || statement->outdated) && (seen || job->op == RR_DB_BATCH) && !state->in_error;
    if (prepare && !send_prepare(state, statement))
        return false;
    int count = (int)p->count;
    if (statement && statement->prepared)
        return push(state, STEP_EXECUTE, statement) &&
               PQsendQueryPrepared(state->wire.pq, statement->name, count, p->values, p->sizes, p->formats, 0);
    return push(state, STEP_EXECUTE, NULL) &&
           PQsendQueryParams(state->wire.pq, job->text, count, p->types, p->values, p->sizes, p->formats, 0);
}

static bool send_batch(state_t *state, rr__db_job_t *job) {
    for (uint32_t i = 0; i < job->list_count; i++) {
        rr_datum_reader_t values;
        int count = rr__db_next_list(job, &values);
        if (count < 0 || rr__pg_bind(&state->parameters, job, values, (uint32_t)count, &state->failure) != RR_OK)
            return false; /* check_batch has seen them all: only memory can be short */
        state->failure = (rr__db_failure_t){0};
        if (!send_one(state, job))
            return false;
    }
    return true;
}

static bool send_sync(state_t *state) {
    return push(state, STEP_SYNC, NULL) && PQpipelineSync(state->wire.pq);
}

/* Takes the statements unused for longest off the server, behind the job: with no round trip of its own. */
static bool send_forgets(state_t *state) {
    unsigned limit = rr__db_options(state->connection)->statements, sent = 0;
    if (state->statements.map.count <= limit || state->in_transaction)
        return true;
    rr__pg_statement_t *next, *statement = state->statements.oldest;
    for (size_t over = state->statements.map.count - limit; over && statement && sent < FORGET_MAX; over--, statement = next) {
        next = statement->newer;
        if (!statement->prepared)
            rr__pg_statement_drop(&state->statements, statement);
        else if (!send_forget(state, STEP_FORGET, statement))
            return false;
        else
            sent++;
    }
    return !sent || send_sync(state);
}

/* Every parameter of a batch before the first is sent: an execution that was sent could not be taken back. */
static int check_batch(state_t *state, rr__db_job_t *job) {
    rr_datum_reader_t all = job->parameters;
    for (uint32_t i = 0; i < job->list_count; i++) {
        rr_datum_reader_t values;
        int count = rr__db_next_list(job, &values);
        if (count < 0) {
            fail(state, RR_DB_DATA, "the parameters of a batch are lists");
            return RR_EINVAL;
        }
        int rc = rr__pg_bind(&state->parameters, job, values, (uint32_t)count, &state->failure);
        if (rc != RR_OK)
            return rc;
    }
    job->parameters = all;
    state->failure = (rr__db_failure_t){0};
    return RR_OK;
}

static int check_parameters(state_t *state, rr__db_job_t *job) {
    if (job->op == RR_DB_BATCH)
        return check_batch(state, job);
    int rc = rr__pg_bind(&state->parameters, job, job->parameters, job->parameter_count, &state->failure);
    if (rc == RR_OK)
        state->failure = (rr__db_failure_t){0};
    return rc;
}

static bool send_all(state_t *state, rr__db_job_t *job) {
    bool good = PQenterPipelineMode(state->wire.pq) && (job->op == RR_DB_BATCH ? send_batch(state, job) : send_one(state, job)) &&
                send_sync(state) && send_forgets(state);
    if (good)
        state->steps[state->step_count - 1].last = true;
    state->plain = state->step_count == 2;
    return good;
}

static void pg_execute(rr__db_connection_t *connection, rr__db_job_t *job) {
    state_t *state = rr__db_state(connection);
    PGconn *pq = state->wire.pq;
    start_job(state, job);
    if (job->op != RR_DB_QUERY && job->op != RR_DB_BATCH && job->op != RR_DB_STREAM) {
        fail(state, RR_DB_STATE, "PostgreSQL cannot do this here");
        finish(state, false);
        return;
    }
    if (check_parameters(state, job) != RR_OK) {
        finish(state, false);
        return;
    }
    bool good = state->fresh || PQconsumeInput(pq);
    if (!good || PQisBusy(pq) || PQstatus(pq) != CONNECTION_OK) { /* it went meanwhile: nothing was sent */
        lose(state);
        return;
    }
    state->in_transaction = PQtransactionStatus(pq) != PQTRANS_IDLE;
    state->in_error = PQtransactionStatus(pq) == PQTRANS_INERROR;
    if (job->op == RR_DB_BATCH && !job->list_count) {
        job->affected = 0;
        rr__db_columns(job, 0);
        finish(state, false);
        return;
    }
    job->sent = true;
    if (job->gather)
        rr__pg_gather(&state->wire);
    if (!send_all(state, job)) {
        lose(state);
        return;
    }
    if (job->op == RR_DB_BATCH)
        rr__db_columns(job, 0);
    begin_step(state);
    int left = PQflush(pq);
    if (left < 0 || rr__pg_wait(&state->wire, UV_READABLE | (left ? UV_WRITABLE : 0)) != RR_OK)
        lose(state);
}

/* ---- Behind others ---- */

static bool takes_more(const state_t *state) {
    return state->job && state->plain && state->behind_count < PIPELINE_MAX && !state->in_transaction && !state->stale &&
           !state->discarding && !state->killing && !state->torn && !state->closing;
}

/* What has no prepared statement on this connection waits until it can be the first one. */
static bool pg_follow(rr__db_connection_t *connection, rr__db_job_t *job) {
    state_t *state = rr__db_state(connection);
    rr__pg_parameters_t *p = &state->parameters;
    rr__db_failure_t why; /* it hears of that as the first one */
    if (!takes_more(state) || rr__pg_bind(p, job, job->parameters, job->parameter_count, &why) != RR_OK)
        return false;
    bool seen;
    rr__pg_statement_t *statement = statement_for(state, job, &seen);
    if (!statement || !statement->prepared || statement->outdated)
        return false;
    rr__pg_gather(&state->wire);
    state->behind[state->behind_count++] = job;
    state->torn = !push(state, STEP_EXECUTE, statement) ||
                  !PQsendQueryPrepared(state->wire.pq, statement->name, (int)p->count, p->values, p->sizes, p->formats, 0) ||
                  !send_sync(state);
    if (!state->torn)
        state->steps[state->step_count - 1].last = true;
    return true;
}

/* Before the loop waits: what libpq still has of it, and what could not be told from inside pg_follow. */
static void on_gathered(rr__pg_wire_t *wire) {
    state_t *state = rr__db_state(wire->connection);
    if (!state->job || state->paused || state->held)
        return;
    int left = state->torn ? -1 : PQflush(wire->pq);
    if (left < 0 || rr__pg_wait(wire, UV_READABLE | (left ? UV_WRITABLE : 0)) != RR_OK)
        lose(state);
}

/* ---- Streams ---- */

static void go_on(state_t *state) {
    state->paused = false;
    if (rr__pg_wait(&state->wire, UV_READABLE) != RR_OK)
        lose(state);
    else
        advance(state);
}

static void pg_fetch(rr__db_connection_t *connection, rr__db_job_t *job) {
    state_t *state = rr__db_state(connection);
    state->has_columns = false; /* each part names them */
    job->more = false;
    go_on(state);
}

static void pg_end_stream(rr__db_connection_t *connection, rr__db_job_t *job) {
    state_t *state = rr__db_state(connection);
    job->more = false;
    state->ending = true;
    read_on(state);
    go_on(state); /* it may be here already, as a whole */
}

/* ---- Opening and closing ---- */

static void on_up(rr__pg_wire_t *wire, const rr__db_failure_t *failure) {
    rr__db_opened(wire->connection, failure ? NULL : PQparameterStatus(wire->pq, "server_version"), failure);
}

static void on_gone(rr__pg_wire_t *wire) {
    state_t *state = rr__db_state(wire->connection);
    wire->connection = NULL;
    free_state(state);
}

static void pg_open(rr__db_connection_t *connection) {
    state_t *state = rr__db_state(connection);
    state->connection = connection;
    state->wire = (rr__pg_wire_t){.on_up = on_up, .on_events = on_events, .on_gathered = on_gathered, .on_gone = on_gone};
    rr__pg_dial(&state->wire, connection);
}

static void pg_close(rr__db_connection_t *connection) {
    state_t *state = rr__db_state(connection);
    if (state->closing)
        return;
    state->closing = true;
    rr__db_failure_t failure = {.error = RR_DB_CONNECTION, .message = "the connection was closed"};
    rr__db_job_t *job = state->job;
    bool waiting = job && !state->paused; /* between two parts nobody waits for a stream */
    state->job = NULL;
    if (waiting)
        rr__db_done(connection, job, &failure, true);
    for (unsigned i = 0; i < state->behind_count; i++)
        rr__db_done(connection, state->behind[i], &failure, true);
    state->behind_count = 0;
    if (state->killing)
        rr__pg_close(&state->killer);
    if (state->has_moment)
        uv_close((uv_handle_t *)&state->moment, on_moment_gone);
    rr__pg_close(&state->wire);
}

static bool pg_in_transaction(rr__db_connection_t *connection) {
    state_t *state = rr__db_state(connection);
    PGTransactionStatusType status = PQtransactionStatus(state->wire.pq);
    return status == PQTRANS_INTRANS || status == PQTRANS_INERROR;
}

static const char *pg_begin(unsigned flags, const char **why) {
    static const char *const texts[][2] = {
        {"BEGIN", "BEGIN READ ONLY"},
        {"BEGIN ISOLATION LEVEL READ UNCOMMITTED", "BEGIN ISOLATION LEVEL READ UNCOMMITTED READ ONLY"},
        {"BEGIN ISOLATION LEVEL READ COMMITTED", "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY"},
        {"BEGIN ISOLATION LEVEL REPEATABLE READ", "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"},
        {"BEGIN ISOLATION LEVEL SERIALIZABLE", "BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY"},
    };
    unsigned level = (flags & RR_QUERY_ISOLATION) >> 8;
    if (level < sizeof texts / sizeof *texts)
        return texts[level][(flags & RR_QUERY_READ_ONLY) != 0];
    *why = "unknown isolation level";
    return NULL;
}

const rr__db_driver_t rr__db_postgres = {
    .name = "postgresql",
    .schemes = {"postgresql", "postgres"},
    .style = RR__DB_DOLLAR,
    .state_size = sizeof(state_t),
    .check = rr__pg_check,
    .open = pg_open,
    .execute = pg_execute,
    .follow = pg_follow,
    .fetch = pg_fetch,
    .end_stream = pg_end_stream,
    .cancel = pg_cancel,
    .begin = pg_begin,
    .in_transaction = pg_in_transaction,
    .close = pg_close,
};
