/* answer.c: how requests end: answers, errors, what is measured and logged of them. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "actors/database/database_impl.h"

#define LINE_MAX_BYTES 200 /* of a slow query in the log, as in errors */

/* ---- Rows, as drivers write them ---- */

void rr__db_columns(rr__db_job_t *job, uint32_t count) {
    rr_db_answer_begin(&job->out, 0, -1, NULL, 0);
    rr_datum_put_list(&job->out, count);
}

void rr__db_row(rr__db_job_t *job, uint32_t count) { rr_datum_put_list(&job->out, count); }

/* ---- Ends ---- */

static void ended(rr__db_request_t *request, rr_buffer_t *answer) {
    rr__db_wait_over(request);
    rr__db_timer_clear(request->db, &request->timer);
    request->place = RR__DB_ENDED;
    request->answer = answer;
    TAILQ_INSERT_TAIL(&request->db->ended, request, link);
    rr__db_lane_leave(request);
    rr__db_ask_turn(request->db);
}

static void end_with_rows(rr__db_request_t *face, rr__db_request_t *request, uint64_t id, unsigned flags) {
    rr__db_job_t *job = &request->job;
    if (job->out.size == 0 && job->out.status == RR_OK)
        rr__db_columns(job, 0);
    rr_db_answer_head(&job->out, id, job->affected, job->has_last_id ? &job->last_id : NULL, flags);
    rr_buffer_t *answer = rr_datum_finish(&job->out);
    int status = job->out.status;
    job->out.status = RR_OK;
    if (answer)
        ended(face, answer);
    else if (status == RR_ETOOBIG)
        rr__db_end_error(face, RR_DB_TOO_BIG, RR_EXECUTED_MAYBE, "the result is above %zu bytes: stream it, or raise `result`",
                         request->db->options->result_bytes);
    else
        rr__db_end_error(face, RR_DB_SERVER, RR_EXECUTED_MAYBE, "out of memory");
}

void rr__db_end_good(rr__db_request_t *request, uint64_t id) { end_with_rows(request, request, id, 0); }

void rr__db_end_part(rr__db_request_t *face, rr__db_request_t *request, uint64_t id, bool more) {
    end_with_rows(face, request, id, more ? RR_ANSWER_MORE : 0);
}

void rr__db_end_silently(rr__db_request_t *request) { ended(request, NULL); }

/* What a server says goes to logs and terminals. */
void rr__db_one_line(char *text) {
    for (; *text; text++)
        if ((unsigned char)*text < ' ' || *text == 0x7f)
            *text = ' ';
}

/* An error ends a stream's request together with the one who waits for it. */
static void end_as_error(rr__db_request_t *request, const rr__db_failure_t *failure, rr_executed_t executed) {
    const rr__sql_t *sql = request->sql;
    rr__db_request_t *face = request->face;
    rr_count(&request->db->count.errors[failure->error], 1);
    rr__db_failure_t shown = *failure;
    rr__db_one_line(shown.message);
    rr__db_one_line(shown.state);
    if (face)
        ended(face, rr_db_answer_error(shown.error, executed, shown.number, shown.state, shown.message,
                                       sql ? sql->source : NULL, sql ? sql->source_size : 0));
    if (face != request)
        rr__db_end_silently(request);
}

void rr__db_end_failed(rr__db_request_t *request, const rr__db_failure_t *failure, rr_executed_t executed) {
    end_as_error(request, failure, executed);
}

void rr__db_end_error(rr__db_request_t *request, rr_db_error_t error, rr_executed_t executed, const char *format, ...) {
    rr__db_failure_t failure = {.error = error};
    va_list args;
    va_start(args, format);
    vsnprintf(failure.message, sizeof failure.message, format, args);
    va_end(args);
    end_as_error(request, &failure, executed);
}

void rr__db_end_early(rr__db_request_t *request, rr_db_error_t error) {
    rr__db_request_t *face = rr__db_request_new(request->db, request->op);
    if (!face)
        return;
    face->msg = request->msg;
    face->sql = request->sql;
    face->sql->references++;
    request->msg = NULL;
    request->face = NULL;
    rr__db_end_error(face, error, RR_EXECUTED_MAYBE, error == RR_DB_TIMEOUT ? "it was sent behind a query that takes longer than usual"
                                                                            : "its asker gave it up");
}

/* The server's word for a cancelled query is not the asker's: it timed out, or was given up. What the server itself ended did not
 * happen; of what was sent and never answered nobody knows. */
rr__db_failure_t rr__db_verdict(rr__db_request_t *request, const rr__db_failure_t *failure, rr_executed_t *executed) {
    rr__db_failure_t out = *failure;
    bool answered = out.error != RR_DB_CONNECTION && out.error != RR_DB_TIMEOUT && out.error != RR_DB_CANCELLED;
    *executed = request->job.sent && !(answered || out.number != 0) ? RR_EXECUTED_MAYBE : RR_EXECUTED_NO;
    if (out.error == RR_DB_CONNECTION && request->job.sent)
        *executed = RR_EXECUTED_MAYBE;
    if (request->giving_up != RR_DB_OK) {
        out.error = request->giving_up;
        if (out.error == RR_DB_TIMEOUT && !out.message[0])
            snprintf(out.message, sizeof out.message, "the query took longer than its time-out");
    }
    return out;
}

/* ---- Sending ---- */

static void send_answer(rr__db_t *db, rr__db_request_t *request) {
    rr_buffer_t *answer = request->answer;
    request->answer = NULL;
    if (answer)
        rr_reply_buffer(db->self, request->msg, answer);
    else
        rr_reply_error(db->self, request->msg, RR_ENOMEM, NULL);
    request->msg = NULL;
}

void rr__db_flush(rr__db_t *db) {
    rr__db_request_t *request;
    while ((request = TAILQ_FIRST(&db->ended))) {
        TAILQ_REMOVE(&db->ended, request, link);
        if (request->msg && db->self)
            send_answer(db, request);
        rr__db_request_free(request);
    }
}

/* ---- Measuring ---- */

static void count_latency(rr__db_t *db, uint64_t us) {
    unsigned bucket = 0;
    while (bucket < RR__DB_BUCKETS - 1 && us > 64ull << bucket)
        bucket++;
    rr_count(&db->count.latency[bucket], 1);
    rr_count(&db->count.latency_sum_us, us);
}

/* Begin and end of a transaction are the driver's own statements. */
static const char *text_of(const rr__db_request_t *request) {
    if (request->sql)
        return request->sql->source;
    return request->job.op == RR_DB_QUERY && request->job.text ? request->job.text : "commands";
}

static void log_slow(rr__db_request_t *request, uint64_t us) {
    const char *text = text_of(request);
    rr_count(&request->db->count.slow, 1);
    text += strspn(text, " \t\r\n");
    size_t size = strcspn(text, "\r\n");
    rr_log(request->db->system, RR_WARN, "DB", "%s: %.3f s: %.*s", request->db->label, (double)us / 1e6,
           size < LINE_MAX_BYTES ? (int)size : LINE_MAX_BYTES, text);
}

void rr__db_measure(rr__db_request_t *request) {
    rr__db_t *db = request->db;
    uint64_t now = rr__db_now(db), us = now > request->started_ns ? (now - request->started_ns) / 1000 : 0;
    rr_count(&db->count.queries, 1);
    count_latency(db, us);
    uint64_t alone_us = now > request->first_ns ? (now - request->first_ns) / 1000 : 0; /* the one before it was slow, or it is */
    if (db->options->slow_ms && alone_us >= db->options->slow_ms * 1000ull)
        log_slow(request, alone_us);
}

/* ---- Metrics ---- */

#define GAUGE(name, help) {"rr_db_" #name, RR_METRIC_GAUGE, help, offsetof(rr__db_counters_t, name)}
#define COUNTER(name, help) {"rr_db_" #name "_total", RR_METRIC_COUNTER, help, offsetof(rr__db_counters_t, name)}
static const struct {
    const char *name;
    rr_metric_type_t type;
    const char *help;
    size_t offset;
} metrics[] = {
    GAUGE(open, "Connections that are open."),
    GAUGE(in_use, "Connections with a query, a transaction or a stream."),
    GAUGE(waiting, "Queries that wait for a connection."),
    GAUGE(waiting_bytes, "Their bytes."),
    COUNTER(queries, "Queries that a connection has carried out, failed ones included."),
    COUNTER(pipelined, "Queries sent behind others on the same connection."),
    COUNTER(slow, "Queries slower than `slow`."),
    COUNTER(cancels, "Queries cancelled on the server: time-outs, and askers that gave up."),
    COUNTER(reconnects, "Connections opened in the place of lost ones."),
    COUNTER(connect_failures, "Connections that could not be opened."),
    COUNTER(events, "Messages of subscriptions."),
    COUNTER(events_lost, "Messages of subscriptions that a subscriber was too slow for."),
};

static void write_errors(rr__db_t *db, rr_metrics_writer_t *writer, const char *labels) {
    for (int error = RR_DB_CONNECTION; error <= RR_DB_SERVER; error++) {
        char of_class[256];
        snprintf(of_class, sizeof of_class, "%s", labels);
        if (rr_metrics_label(of_class, sizeof of_class, "class", rr_db_error_name(error)))
            rr_metrics_write(writer, "rr_db_errors_total", RR_METRIC_COUNTER, "Requests that ended in an error, by its class.", of_class,
                             (double)rr_counted(&db->count.errors[error]));
    }
}

static void write_latency(rr__db_t *db, rr_metrics_writer_t *writer, const char *labels) {
    uint64_t below = 0;
    for (unsigned i = 0; i < RR__DB_BUCKETS; i++) {
        char with_bound[256], bound[32];
        below += rr_counted(&db->count.latency[i]);
        snprintf(bound, sizeof bound, "%g", (double)(64ull << i) / 1e6);
        snprintf(with_bound, sizeof with_bound, "%s", labels);
        if (rr_metrics_label(with_bound, sizeof with_bound, "le", i == RR__DB_BUCKETS - 1 ? "+Inf" : bound))
            rr_metrics_write(writer, "rr_db_query_seconds_bucket", RR_METRIC_COUNTER, "Queries by the time that the database took.",
                             with_bound, (double)below);
    }
    rr_metrics_write(writer, "rr_db_query_seconds_count", RR_METRIC_COUNTER, "Queries measured.", labels, (double)below);
    rr_metrics_write(writer, "rr_db_query_seconds_sum", RR_METRIC_COUNTER, "Their times added up.", labels,
                     (double)rr_counted(&db->count.latency_sum_us) / 1e6);
}

void rr__db_collect(void *context, rr_metrics_writer_t *writer) {
    rr__db_t *db = context;
    char labels[200] = "";
    if (!rr_metrics_label(labels, sizeof labels, "database", db->label))
        return;
    for (size_t i = 0; i < sizeof metrics / sizeof *metrics; i++)
        rr_metrics_write(writer, metrics[i].name, metrics[i].type, metrics[i].help, labels,
                         (double)rr_counted((const rr_counter_t *)((const char *)&db->count + metrics[i].offset)));
    write_errors(db, writer, labels);
    write_latency(db, writer, labels);
}
