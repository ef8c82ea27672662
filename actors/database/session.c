/* session.c: transactions and streams: what keeps a connection from one request to the next. */
#include <stdlib.h>
#include <string.h>

#include "actors/database/database_impl.h"

static void transaction_timed_out(rr__db_timer_t *timer);
static void stream_timed_out(rr__db_timer_t *timer);
static void stream_end(rr__db_stream_t *stream);
static void stream_cut(rr__db_stream_t *stream);

static uint64_t new_id(rr__db_t *db) {
    if (++db->next_id == 0)
        ++db->next_id;
    return db->next_id;
}

/* A statement of the driver's own. */
static void set_text(rr__db_request_t *request, const char *text) {
    request->job.op = RR_DB_QUERY;
    request->job.flags = RR_QUERY_TEXTS;
    request->job.text = text;
    request->job.text_size = strlen(text);
    request->job.text_hash = rr__sql_hash(text, request->job.text_size);
}

/* ---- Transactions: begin and end ---- */

/* Whoever asks holds so many connections while it waits. */
static unsigned held(const rr__db_request_t *request) {
    unsigned count = 0;
    const rr__db_transaction_t *transaction;
    for (uint64_t id = request->within; id && (transaction = rr_map_get(&request->db->transactions, id)); id = transaction->within)
        count += transaction->asker == request->asker;
    return count;
}

void rr__db_begin(rr__db_request_t *request, const rr_query_t *query) {
    const char *why = "this database has no transactions", *text = NULL;
    if (request->db->driver->begin)
        text = request->db->driver->begin(query->flags, &why);
    if (!text) {
        rr__db_end_error(request, RR_DB_STATE, RR_EXECUTED_NO, "%s", why);
        return;
    }
    request->within = query->transaction;
    if (held(request) >= request->db->pool_size) {
        rr__db_end_error(request, RR_DB_STATE, RR_EXECUTED_NO,
                         "this handler's own transactions hold all %u connections: for a part of one take tx.savepoint()", request->db->pool_size);
        return;
    }
    set_text(request, text);
    rr__db_enqueue(request, query);
}

static void watch_transaction(rr__db_transaction_t *transaction) {
    rr__db_timer_set(transaction->db, &transaction->timer, transaction->db->options->transaction_timeout_ms, transaction_timed_out);
}

/* Nobody can name it any more. */
static void transaction_forget(rr__db_transaction_t *transaction) {
    rr__db_timer_clear(transaction->db, &transaction->timer);
    rr_map_take(&transaction->db->transactions, transaction->id);
    if (transaction->asker)
        TAILQ_REMOVE(&transaction->asker->transactions, transaction, of_asker);
    transaction->asker = NULL;
}

static void transaction_over(rr__db_transaction_t *transaction) {
    rr__db_connection_t *connection = transaction->connection;
    bool marked = transaction->marked;
    transaction_forget(transaction);
    free(transaction);
    if (!connection)
        return;
    connection->transaction = NULL;
    if (connection->link == RR__DB_OPEN && (marked || connection->db->driver->in_transaction(connection)))
        rr__db_connection_close(connection); /* whatever it is in, or keeps: nobody else shall be, or have it */
}

static void transaction_abandon(rr__db_transaction_t *transaction);

/* BEGIN came back well. */
static void transaction_new(rr__db_request_t *request, rr__db_connection_t *connection) {
    rr__db_t *db = request->db;
    rr__db_transaction_t *transaction = calloc(1, sizeof *transaction);
    if (transaction)
        *transaction = (rr__db_transaction_t){.id = new_id(db), .within = request->within, .db = db, .asker = request->asker,
                                              .connection = connection};
    if (!transaction || !rr_map_put(&db->transactions, transaction->id, transaction)) {
        free(transaction);
        rr__db_end_error(request, RR_DB_BUSY, RR_EXECUTED_NO, "out of memory");
        rr__db_connection_close(connection);
        return;
    }
    TAILQ_INIT(&transaction->behind);
    connection->transaction = transaction;
    TAILQ_INSERT_TAIL(&request->asker->transactions, transaction, of_asker);
    watch_transaction(transaction);
    rr__db_end_good(request, transaction->id);
    if (request->asker->gone)
        transaction_abandon(transaction);
}

/* ---- Within a transaction ---- */

static const char *not_possible(const rr__db_transaction_t *transaction, rr_db_op_t op) {
    if (transaction->hollow)
        return "the server has ended this transaction: roll it back and begin another";
    bool open = transaction->opening || (transaction->stream && !transaction->stream->unwanted); /* else it waits for its end */
    if (open && op != RR_DB_COMMIT && op != RR_DB_ROLLBACK)
        return "a stream of this transaction is open: end it first";
    return NULL;
}

static void enqueue_in(rr__db_transaction_t *transaction, rr__db_request_t *request) {
    request->transaction = transaction;
    request->job.transaction = true;
    request->place = RR__DB_BEHIND;
    TAILQ_INSERT_TAIL(&transaction->behind, request, link);
    rr__db_timer_clear(transaction->db, &transaction->timer);
    if (transaction->connection)
        rr__db_transaction_go(transaction->connection);
}

/* The end of one that the server or the network has ended already. */
static void end_hollow(rr__db_transaction_t *transaction, rr__db_request_t *request) {
    bool lost = !transaction->connection;
    if (transaction->carried_out)
        rr__db_end_error(request, RR_DB_STATE, RR_EXECUTED_MAYBE,
                         "a statement of this transaction has ended it, as CREATE and ALTER do on MariaDB: what was before is committed");
    else if (request->op == RR_DB_ROLLBACK)
        rr__db_end_good(request, 0);
    else
        rr__db_end_error(request, lost ? RR_DB_CONNECTION : RR_DB_STATE, RR_EXECUTED_NO, "%s",
                         lost ? "the connection was lost: the transaction is rolled back" : "the server has rolled this transaction back");
    if (request->op == RR_DB_ROLLBACK || request->op == RR_DB_COMMIT) {
        rr__db_connection_t *connection = transaction->connection;
        transaction_over(transaction);
        if (connection && connection->link == RR__DB_OPEN)
            rr__db_connection_free(connection);
        rr__db_pump(request->db);
    }
}

void rr__db_in_transaction(rr__db_request_t *request, const rr_query_t *query) {
    rr__db_transaction_t *transaction = rr_map_get(&request->db->transactions, query->transaction);
    bool ends = request->op == RR_DB_COMMIT || request->op == RR_DB_ROLLBACK;
    if (!transaction || transaction->asker != request->asker || transaction->ending) {
        rr__db_end_error(request, RR_DB_STATE, RR_EXECUTED_NO,
                         "there is no such transaction: it has ended, or was idle for longer than `transaction_timeout`");
        return;
    }
    const char *why = not_possible(transaction, request->op);
    if (!transaction->connection || (transaction->hollow && ends && TAILQ_EMPTY(&transaction->connection->running))) {
        end_hollow(transaction, request);
    } else if (why && !(transaction->hollow && ends)) {
        rr__db_end_error(request, RR_DB_STATE, RR_EXECUTED_NO, "%s", why);
    } else {
        rr__db_stream_t *open = transaction->stream; /* then it ends */
        transaction->ending = ends;
        transaction->marked |= request->sql && request->sql->effect == RR__SQL_KEEPS;
        if (ends)
            set_text(request, request->op == RR_DB_COMMIT ? "COMMIT" : "ROLLBACK");
        rr__db_wait(request, request->db->options->acquire_timeout_ms);
        enqueue_in(transaction, request);
        if (open && request->op == RR_DB_ROLLBACK)
            stream_cut(open);
        else if (open)
            stream_end(open);
    }
}

static bool may_start(const rr__db_transaction_t *transaction, const rr__db_connection_t *connection) {
    unsigned window = transaction->db->driver->multiplexed ? RR__DB_WINDOW : 1;
    return !transaction->opening && !transaction->stream && connection->in_flight < window;
}

void rr__db_transaction_go(rr__db_connection_t *connection) {
    rr__db_transaction_t *transaction;
    rr__db_request_t *request;
    while ((transaction = connection->transaction) && may_start(transaction, connection) && (request = TAILQ_FIRST(&transaction->behind))) {
        bool ends = request->op == RR_DB_COMMIT || request->op == RR_DB_ROLLBACK;
        if (transaction->hollow && connection->in_flight > 0)
            break;
        TAILQ_REMOVE(&transaction->behind, request, link);
        request->place = RR__DB_NOWHERE;
        if (transaction->hollow) {
            end_hollow(transaction, request);
        } else {
            transaction->opening = request->op == RR_DB_STREAM;
            rr__db_start(request, connection);
        }
        if (ends || connection->link != RR__DB_OPEN)
            return; /* it may be gone */
    }
    if (transaction && connection->in_flight == 0 && !transaction->stream && !transaction->ending)
        watch_transaction(transaction);
}

/* One of a transaction came back. */
static void transaction_done(rr__db_request_t *request, rr__db_connection_t *connection, const rr__db_failure_t *failure) {
    rr__db_transaction_t *transaction = request->transaction;
    rr_executed_t executed;
    rr__db_failure_t verdict = rr__db_verdict(request, failure, &executed);
    bool ends = request->op == RR_DB_COMMIT || request->op == RR_DB_ROLLBACK;
    if (verdict.error == RR_DB_OK || (request->op == RR_DB_ROLLBACK && failure->error == RR_DB_CONNECTION))
        rr__db_end_good(request, 0);
    else
        rr__db_end_failed(request, &verdict, executed);
    if (ends && verdict.error != RR_DB_OK && transaction->asker && connection->link == RR__DB_OPEN &&
        transaction->db->driver->in_transaction(connection)) {
        transaction->ending = false;
        transaction_abandon(transaction);
    } else if (ends) {
        transaction_over(transaction);
    } else if (connection->link == RR__DB_OPEN && failure->error != RR_DB_CONNECTION &&
               !transaction->db->driver->in_transaction(connection)) {
        transaction->hollow = true;
        transaction->carried_out = failure->error == RR_DB_OK;
    }
}

/* ---- A transaction's end without its asker ---- */

static void fail_behind(rr__db_transaction_t *transaction, rr_db_error_t error, const char *why) {
    rr__db_request_t *request;
    while ((request = TAILQ_FIRST(&transaction->behind))) {
        TAILQ_REMOVE(&transaction->behind, request, link);
        request->place = RR__DB_NOWHERE;
        rr__db_end_error(request, error, RR_EXECUTED_NO, "%s", why);
    }
}

/* Rolls it back as soon as its connection is free. */
static void transaction_abandon(rr__db_transaction_t *transaction) {
    rr__db_t *db = transaction->db;
    rr__db_connection_t *connection = transaction->connection;
    bool ending = transaction->ending;
    transaction_forget(transaction);
    if (!ending)
        fail_behind(transaction, RR_DB_CANCELLED, "the transaction is rolled back");
    if (!connection) {
        free(transaction);
        return;
    }
    if (transaction->stream)
        stream_cut(transaction->stream);
    if (ending)
        return; /* its COMMIT or ROLLBACK is on its way already */
    transaction->ending = true;
    rr__db_request_t *rollback = rr__db_request_new(db, RR_DB_ROLLBACK), *running;
    if (!rollback) {
        rr__db_connection_close(connection);
        return;
    }
    set_text(rollback, "ROLLBACK");
    TAILQ_FOREACH(running, &connection->running, link) {
        if (running->transaction == transaction && !running->stream)
            rr__db_cancel(running, RR_DB_CANCELLED);
    }
    enqueue_in(transaction, rollback);
}

static void transaction_timed_out(rr__db_timer_t *timer) {
    rr__db_transaction_t *transaction = RR__DB_OF_TIMER(timer, rr__db_transaction_t, timer);
    rr__db_t *db = transaction->db;
    rr_log(db->system, RR_WARN, "DB", "%s: a transaction without a query for %u ms is rolled back", db->label,
           db->options->transaction_timeout_ms);
    transaction_abandon(transaction);
}

static void transaction_lost(rr__db_connection_t *connection) {
    rr__db_transaction_t *transaction = connection->transaction;
    rr__db_request_t *running;
    TAILQ_FOREACH(running, &connection->running, link)
        running->transaction = NULL; /* what a thread still works on may come back later than this one lives */
    connection->transaction = NULL;
    transaction->connection = NULL;
    transaction->opening = false;
    fail_behind(transaction, RR_DB_CONNECTION, "the connection was lost: the transaction is rolled back");
    if (transaction->ending) {
        transaction_forget(transaction);
        free(transaction);
        return;
    }
    watch_transaction(transaction);
}

/* ---- Streams ---- */

/* The one who waits for a part: it takes the call over from the request that the driver has. */
static bool split_face(rr__db_request_t *request) {
    rr__db_request_t *face = rr__db_request_new(request->db, request->op);
    if (!face) {
        rr__db_end_error(request, RR_DB_BUSY, RR_EXECUTED_NO, "out of memory");
        return false;
    }
    face->msg = request->msg;
    face->place = RR__DB_HELD;
    request->msg = NULL;
    request->face = face;
    return true;
}

void rr__db_stream_open(rr__db_request_t *request, const rr_query_t *query) {
    if (!split_face(request))
        return;
    if (query->transaction)
        rr__db_in_transaction(request, query);
    else
        rr__db_enqueue(request, query);
}

static void watch_stream(rr__db_stream_t *stream) {
    rr__db_timer_set(stream->db, &stream->timer, stream->db->options->transaction_timeout_ms, stream_timed_out);
}

static void stream_forget(rr__db_stream_t *stream) {
    rr__db_timer_clear(stream->db, &stream->timer);
    rr_map_take(&stream->db->streams, stream->id);
    if (stream->asker)
        TAILQ_REMOVE(&stream->asker->streams, stream, of_asker);
    stream->asker = NULL;
}

static void stream_detach(rr__db_stream_t *stream) {
    if (stream->transaction)
        stream->transaction->stream = NULL;
    if (stream->connection && stream->connection->stream == stream)
        stream->connection->stream = NULL;
    stream->transaction = NULL;
    stream->connection = NULL;
}

/* Its request was ended before, or is none of the driver's any more. */
static void stream_over(rr__db_stream_t *stream) {
    stream_forget(stream);
    stream_detach(stream);
    if (stream->closer)
        rr__db_end_good(stream->closer, 0);
    free(stream);
}

/* Tells the driver that the rest is not wanted, as soon as it is back. Within a transaction the part that is under way, which is
 * small and has a time-out, is waited for: to cancel it would abort the transaction on PostgreSQL. */
static void stream_end(rr__db_stream_t *stream) {
    stream->unwanted = true;
    if (stream->ending)
        return;
    rr__db_timer_clear(stream->db, &stream->timer);
    if (stream->request->place == RR__DB_RUNNING) {
        if (!stream->transaction)
            rr__db_cancel(stream->request, RR_DB_CANCELLED);
        return;
    }
    if (!stream->connection) {
        rr__db_end_silently(stream->request);
        stream_over(stream);
        return;
    }
    stream->ending = true;
    stream->request->place = RR__DB_NOWHERE;
    rr__db_end_stream(stream->request, stream->connection);
}

/* Of a transaction that is not wanted either. */
static void stream_cut(rr__db_stream_t *stream) {
    if (!stream->ending && stream->request->place == RR__DB_RUNNING)
        rr__db_cancel(stream->request, RR_DB_CANCELLED);
    stream_end(stream);
}

static rr__db_stream_t *stream_new(rr__db_request_t *request, rr__db_connection_t *connection) {
    rr__db_t *db = request->db;
    rr__db_stream_t *stream = calloc(1, sizeof *stream);
    if (stream)
        *stream = (rr__db_stream_t){.id = new_id(db), .db = db, .asker = request->asker, .request = request, .connection = connection,
                                    .transaction = request->transaction};
    if (!stream || !rr_map_put(&db->streams, stream->id, stream)) {
        free(stream);
        return NULL;
    }
    if (stream->transaction)
        stream->transaction->stream = stream;
    else
        connection->stream = stream;
    TAILQ_INSERT_TAIL(&request->asker->streams, stream, of_asker);
    request->stream = stream;
    return stream;
}

/* A part came, and more will. */
static void stream_part(rr__db_stream_t *stream) {
    rr__db_request_t *request = stream->request, *face = request->face;
    request->place = RR__DB_HELD;
    request->face = NULL;
    if (request->job.out.status != RR_OK)
        stream->unwanted = true;
    if (face)
        rr__db_end_part(face, request, stream->id, true);
    if (stream->unwanted)
        stream_end(stream);
    else
        watch_stream(stream);
}

/* The last part, or all of a stream that was none. */
static void last_part(rr__db_request_t *request) {
    rr__db_request_t *face = request->face;
    request->face = NULL;
    if (face)
        rr__db_end_part(face, request, 0, false);
    rr__db_end_silently(request);
}

static void stream_opened(rr__db_request_t *request, rr__db_connection_t *connection) {
    if (!request->job.more) {
        last_part(request);
        return;
    }
    rr__db_stream_t *stream = stream_new(request, connection);
    if (!stream) {
        rr__db_end_error(request, RR_DB_BUSY, RR_EXECUTED_MAYBE, "out of memory");
        rr__db_connection_close(connection); /* the driver's stream goes with it */
        return;
    }
    stream->unwanted = request->asker->gone;
    stream_part(stream);
}

/* The driver came back with a stream's request. */
static void stream_done(rr__db_request_t *request, rr__db_connection_t *connection, const rr__db_failure_t *failure) {
    rr__db_stream_t *stream = request->stream;
    rr__db_transaction_t *transaction = request->transaction;
    rr_executed_t executed;
    bool over = true;
    if (!stream && transaction)
        transaction->opening = false;
    if (stream && stream->ending) {
        rr__db_end_silently(request);
    } else if (failure->error != RR_DB_OK) {
        rr__db_failure_t verdict = rr__db_verdict(request, failure, &executed);
        rr__db_end_failed(request, &verdict, executed);
    } else if (!stream) {
        stream_opened(request, connection);
        over = false;
    } else if (request->job.more) {
        stream_part(stream);
        over = false;
    } else {
        last_part(request);
    }
    if (stream && over)
        stream_over(stream);
    if (over && transaction && connection->link == RR__DB_OPEN && failure->error != RR_DB_OK &&
        failure->error != RR_DB_CONNECTION && !transaction->db->driver->in_transaction(connection))
        transaction->hollow = true;
}

static rr__db_stream_t *stream_of(rr__db_request_t *request, uint64_t id) {
    rr__db_stream_t *stream = rr_map_get(&request->db->streams, id);
    return stream && stream->asker == request->asker && !stream->closer ? stream : NULL;
}

void rr__db_stream_next(rr__db_request_t *request, const rr_query_t *query) {
    rr__db_stream_t *stream = stream_of(request, query->stream);
    if (!stream || stream->unwanted) {
        rr__db_end_error(request, RR_DB_STATE, RR_EXECUTED_NO,
                         "there is no such stream: it has ended, or was idle for longer than `transaction_timeout`");
    } else if (!stream->connection) {
        rr__db_end_error(request, RR_DB_CONNECTION, RR_EXECUTED_NO, "the connection was lost");
        stream_end(stream);
    } else if (stream->request->face) {
        rr__db_end_error(request, RR_DB_STATE, RR_EXECUTED_NO, "a part of this stream is on its way already");
    } else {
        rr__db_timer_clear(stream->db, &stream->timer);
        request->place = RR__DB_HELD;
        request->stream = stream;
        stream->request->face = request;
        stream->request->job.more = false;
        stream->request->timeout_ms = request->timeout_ms;
        rr__db_fetch(stream->request, stream->connection);
    }
}

bool rr__db_stream_close(rr__db_request_t *request, const rr_query_t *query) {
    rr__db_stream_t *stream = stream_of(request, query->stream);
    if (!stream)
        return false;
    request->place = RR__DB_HELD;
    stream->closer = request;
    stream_end(stream);
    return true;
}

static void stream_timed_out(rr__db_timer_t *timer) {
    rr__db_stream_t *stream = RR__DB_OF_TIMER(timer, rr__db_stream_t, timer);
    rr_log(stream->db->system, RR_WARN, "DB", "%s: a stream that nobody read for %u ms is closed", stream->db->label,
           stream->db->options->transaction_timeout_ms);
    stream_forget(stream);
    stream_end(stream);
}

/* ---- Both ---- */

bool rr__db_session_done(rr__db_request_t *request, rr__db_connection_t *connection, const rr__db_failure_t *failure) {
    if (request->op == RR_DB_STREAM)
        stream_done(request, connection, failure);
    else if (request->transaction)
        transaction_done(request, connection, failure);
    else if (request->op == RR_DB_BEGIN && failure->error == RR_DB_OK)
        transaction_new(request, connection);
    else
        return false;
    return true;
}

/* A stream that its driver has was ended by the driver before; one between two parts learns it when it asks for the next. */
void rr__db_sessions_lost(rr__db_connection_t *connection) {
    rr__db_transaction_t *transaction = connection->transaction;
    rr__db_stream_t *stream = transaction ? transaction->stream : connection->stream;
    if (stream) {
        stream_detach(stream);
        if (stream->unwanted || !stream->asker)
            stream_end(stream);
    }
    if (transaction)
        transaction_lost(connection);
}

void rr__db_sessions_abandon(rr__db_asker_t *asker) {
    rr__db_stream_t *stream;
    rr__db_transaction_t *transaction;
    while ((stream = TAILQ_FIRST(&asker->streams))) {
        stream_forget(stream);
        stream_cut(stream);
    }
    while ((transaction = TAILQ_FIRST(&asker->transactions)))
        transaction_abandon(transaction);
}
