/* pool.c: a database's connections: opened when they are needed, given work, closed. */
#include <stdlib.h>
#include <string.h>

#include "actors/database/database_impl.h"

#define NS_PER_MS 1000000ull
#define SAY_EVERY_NS (60ull * 1000 * NS_PER_MS) /* a server that stays away is logged so often */

int rr__db_pool_init(rr__db_t *db) {
    unsigned most = db->driver->pool_max;
    db->pool_size = most && db->options->pool > most ? most : db->options->pool;
    db->connections = calloc(db->pool_size + 1u, sizeof *db->connections);
    if (!db->connections)
        return RR_ENOMEM;
    for (unsigned i = 0; i <= db->pool_size; i++) {
        db->connections[i].db = db;
        TAILQ_INIT(&db->connections[i].running);
    }
    return RR_OK;
}

/* ---- What drivers ask for ---- */

void *rr__db_state(rr__db_connection_t *connection) { return connection->state; }
const rr__db_url_t *rr__db_url(rr__db_connection_t *connection) { return &connection->db->arg->parts; }
const rr_database_options_t *rr__db_options(rr__db_connection_t *connection) { return connection->db->options; }
rr_loop_t *rr__db_loop(rr__db_connection_t *connection) { return connection->db->options->loop; }
rr_system_t *rr__db_system(rr__db_connection_t *connection) { return connection->db->system; }

static bool in_use(const rr__db_connection_t *connection) { return connection->in_flight > 0 || connection->reserved; }

static void count_in_use(rr__db_t *db, bool before, bool after) {
    if (before != after)
        rr_count(&db->count.in_use, after ? 1 : (uint64_t)-1);
}

/* ---- Opening ---- */

static bool is_listener(const rr__db_connection_t *connection) { return connection == &connection->db->connections[connection->db->pool_size]; }

static void count_open(rr__db_t *db, int by) {
    db->open += (unsigned)by;
    rr_count(&db->count.open, (uint64_t)(int64_t)by);
}

static void on_retry(rr__db_timer_t *timer) {
    rr__db_t *db = RR__DB_OF_TIMER(timer, rr__db_t, retry);
    rr__db_connection_t *listener = TAILQ_EMPTY(&db->listening) ? NULL : rr__db_listener(db);
    if (listener && listener->link == RR__DB_OPEN)
        rr__db_subscriptions_go(listener); /* those that it refused */
    rr__db_pump(db);
}

static void say_failure(rr__db_t *db, const char *what) {
    uint64_t now = rr__db_now(db);
    if (db->failures > 1 && now < db->said_ns + SAY_EVERY_NS)
        return;
    db->said_ns = now;
    db->said_away = true;
    rr_log(db->system, RR_WARN, "DB", "%s: %s %s: %s; it is tried again (%u times so far)", db->label, what, db->arg->shown,
           db->last_failure.message, db->failures);
}

/* A wrong password, database or file stays wrong for a while: those who wait learn it at once. */
static void fail_waiting(rr__db_t *db) {
    while (db->ready_count > 0)
        rr__db_end_failed(rr__db_ready_pop(db), &db->last_failure, RR_EXECUTED_NO);
}

/* The next connect comes after a pause. what: for the log, before the address. */
static void put_off(rr__db_t *db, const rr__db_failure_t *failure, const char *what) {
    const rr_database_options_t *options = db->options;
    unsigned pause = options->retry_min_ms;
    db->last_failure = *failure;
    rr__db_one_line(db->last_failure.message);
    for (unsigned i = 0; i < db->failures && pause < options->retry_max_ms; i++)
        pause *= 2;
    pause = pause < options->retry_max_ms ? pause : options->retry_max_ms;
    pause = pause / 2 + (unsigned)rr_random_below(&db->random, pause / 2 + 1);
    db->failures++;
    rr_count(&db->count.connect_failures, 1);
    say_failure(db, what);
    db->retry_ns = rr__db_after(db, pause);
    rr__db_timer_set(db, &db->retry, pause, on_retry);
}

static void open_failed(rr__db_t *db, const rr__db_failure_t *failure) {
    put_off(db, failure, "cannot connect to");
    if ((failure->error == RR_DB_AUTH || failure->lasting) && db->open == 0)
        fail_waiting(db);
}

/* It has carried something out, or has been there for a while: the next failure is the first one again. */
static void proved(rr__db_connection_t *connection) {
    rr__db_t *db = connection->db;
    if (connection->proven)
        return;
    connection->proven = true;
    db->failures = 0;
    db->retry_ns = 0;
}

/* A server that lets everybody in, and then breaks off, is one that cannot be connected to. Several connections that go at once
 * are one failure. Before the pool is pumped. */
static void lost_at_once(rr__db_connection_t *connection, const rr__db_failure_t *failure) {
    rr__db_t *db = connection->db;
    uint64_t now = rr__db_now(db);
    if (now - connection->used_ns >= db->options->retry_max_ms * NS_PER_MS)
        proved(connection);
    if (!connection->proven && now >= db->retry_ns)
        put_off(db, failure, "no lasting connection to");
}

static void on_opening_over(rr__db_timer_t *timer) {
    rr__db_connection_t *connection = RR__DB_OF_TIMER(timer, rr__db_connection_t, timer);
    rr__db_failure_t failure = {.error = RR_DB_CONNECTION};
    snprintf(failure.message, sizeof failure.message, "no connection within %u ms", connection->db->options->connect_timeout_ms);
    rr__db_opened(connection, NULL, &failure);
}

static bool open_one(rr__db_connection_t *connection) {
    rr__db_t *db = connection->db;
    connection->state = calloc(1, db->driver->state_size);
    if (!connection->state)
        return false;
    connection->link = RR__DB_OPENING;
    db->opening++;
    db->alive++;
    rr__db_timer_set(db, &connection->timer, db->options->connect_timeout_ms, on_opening_over);
    db->driver->open(connection);
    return true;
}

void rr__db_opened(rr__db_connection_t *connection, const char *version, const rr__db_failure_t *failure) {
    rr__db_t *db = connection->db;
    if (connection->link != RR__DB_OPENING)
        return; /* it was closed meanwhile */
    rr__db_timer_clear(db, &connection->timer);
    db->opening--;
    connection->link = RR__DB_OPEN;
    count_open(db, 1);
    if (failure && failure->error != RR_DB_OK) {
        rr__db_connection_close(connection);
        open_failed(db, failure);
    } else {
        if (db->said_away)
            rr_log(db->system, RR_INFO, "DB", "%s: connected to %s after %u failures", db->label, db->arg->shown, db->failures);
        if (db->failures > 0)
            rr_count(&db->count.reconnects, 1);
        db->said_away = connection->proven = false;
        connection->used_ns = rr__db_now(db);
        snprintf(db->version, sizeof db->version, "%s", version ? version : "");
        if (is_listener(connection))
            rr__db_subscriptions_go(connection);
    }
    rr__db_pump(db);
}

/* ---- Closing ---- */

static void detach(rr__db_connection_t *connection) {
    bool before = in_use(connection);
    rr__db_sessions_lost(connection);
    connection->reserved = false;
    count_in_use(connection->db, before, in_use(connection));
    if (is_listener(connection))
        rr__db_subscriptions_lost(connection);
}

void rr__db_connection_close(rr__db_connection_t *connection) {
    rr__db_t *db = connection->db;
    if (connection->link == RR__DB_CLOSED || connection->link == RR__DB_CLOSING)
        return;
    if (connection->link == RR__DB_OPEN)
        count_open(db, -1);
    else
        db->opening--;
    rr__db_timer_clear(db, &connection->timer);
    connection->link = RR__DB_CLOSING;
    db->driver->close(connection); /* ends its jobs */
    detach(connection);
}

void rr__db_closed(rr__db_connection_t *connection) {
    rr__db_t *db = connection->db;
    free(connection->state);
    connection->state = NULL;
    connection->link = RR__DB_CLOSED;
    db->alive--;
    if (!db->self) {
        rr__db_release(db);
        return;
    }
    if (is_listener(connection) && !TAILQ_EMPTY(&db->listening) && !db->closing)
        rr__db_listen_again(db, db->options->retry_min_ms); /* the pause may have been over before it was closed */
    rr__db_pump(db);
}

void rr__db_lost(rr__db_connection_t *connection, const rr__db_failure_t *failure) {
    rr__db_t *db = connection->db;
    if (connection->link != RR__DB_OPEN)
        return;
    rr_log(db->system, RR_DEBUG, "DB", "%s: a connection was lost: %s", db->label, failure->message);
    rr_count(&db->count.reconnects, 1);
    lost_at_once(connection, failure);
    rr__db_connection_close(connection);
    rr__db_pump(db);
}

void rr__db_pool_close(rr__db_t *db) {
    rr__db_timer_clear(db, &db->retry);
    rr__db_timer_clear(db, &db->sweep);
    for (unsigned i = 0; i <= db->pool_size; i++)
        rr__db_connection_close(&db->connections[i]);
}

/* ---- Idle ones ---- */

static void on_sweep(rr__db_timer_t *timer) {
    rr__db_t *db = RR__DB_OF_TIMER(timer, rr__db_t, sweep);
    uint64_t idle = db->options->idle_ms * NS_PER_MS, now = rr__db_now(db);
    for (unsigned i = db->pool_size; i-- > 0 && db->open > 1;) {
        rr__db_connection_t *connection = &db->connections[i];
        if (connection->link == RR__DB_OPEN && connection->in_flight == 0 && !connection->reserved && now - connection->used_ns >= idle)
            rr__db_connection_close(connection);
    }
    if (db->open > 1)
        rr__db_timer_set(db, &db->sweep, db->options->idle_ms / 2 + 1, on_sweep);
}

static void watch_idle(rr__db_t *db) {
    if (db->options->idle_ms && db->open > 1 && !rr_wheel_pending(&db->sweep.node))
        rr__db_timer_set(db, &db->sweep, db->options->idle_ms / 2 + 1, on_sweep);
}

/* ---- Giving work ---- */

static unsigned window(const rr__db_t *db) { return db->driver->multiplexed ? RR__DB_WINDOW : 1; }

static void on_grace_over(rr__db_timer_t *timer) {
    rr__db_request_t *request = RR__DB_OF_TIMER(timer, rr__db_request_t, timer);
    rr__db_connection_t *connection = request->connection;
    rr_log(request->db->system, RR_WARN, "DB", "%s: a cancelled query did not end: its connection is closed", request->db->label);
    rr__db_connection_close(connection);
    rr__db_pump(connection->db);
}

static void stop(rr__db_request_t *request) {
    rr__db_t *db = request->db;
    rr_count(&db->count.cancels, 1);
    rr__db_timer_set(db, &request->timer, RR__DB_GRACE_MS, on_grace_over);
    db->driver->cancel(request->connection, &request->job);
}

/* One that was sent behind others cannot be stopped on the server before its time has come; its asker need not wait for that. */
static bool is_behind(const rr__db_request_t *request) {
    return !request->db->driver->multiplexed && request != TAILQ_FIRST(&request->connection->running);
}

void rr__db_cancel(rr__db_request_t *request, rr_db_error_t why) {
    if (request->giving_up != RR_DB_OK)
        return;
    request->giving_up = why;
    if (!is_behind(request)) {
        stop(request);
        return;
    }
    rr__db_timer_clear(request->db, &request->timer);
    rr__db_end_early(request, why);
}

static void on_time_out(rr__db_timer_t *timer) {
    rr__db_cancel(RR__DB_OF_TIMER(timer, rr__db_request_t, timer), RR_DB_TIMEOUT);
}

/* A read that has always been short until now. */
static bool is_brief(const rr__db_request_t *request) {
    return request->op == RR_DB_QUERY && !request->transaction && request->sql && request->sql->reads &&
           request->sql->quick_runs >= RR__DB_BRIEF_RUNS;
}

/* A driver gets it: on its connection's list, with the query's time. */
static void give(rr__db_request_t *request, rr__db_connection_t *connection) {
    rr__db_t *db = request->db;
    connection->brief = is_brief(request); /* behind others: as they are */
    bool before = in_use(connection);
    rr__db_wait_over(request);
    request->connection = connection;
    request->place = RR__DB_RUNNING;
    request->giving_up = RR_DB_OK;
    request->started_ns = request->first_ns = rr__db_now(db);
    request->job.sent = false;
    TAILQ_INSERT_TAIL(&connection->running, request, link);
    connection->in_flight++;
    if ((request->op == RR_DB_BEGIN || request->op == RR_DB_STREAM) && !request->transaction) {
        connection->reserved = true;
        connection->reserver = request;
    }
    count_in_use(db, before, true);
    rr__db_timer_set(db, &request->timer, request->timeout_ms ? request->timeout_ms : db->options->query_timeout_ms, on_time_out);
}

/* With a pool of one all run in order of arrival, also those that are given again. */
static bool pipelines(const rr__db_t *db) { return db->driver->follow && db->options->pipeline > 1 && db->pool_size > 1; }

void rr__db_start(rr__db_request_t *request, rr__db_connection_t *connection) {
    rr__db_t *db = request->db;
    give(request, connection);
    request->job.gather = connection->brief && pipelines(db) && db->ready_count > 0;
    db->driver->execute(connection, &request->job);
}

void rr__db_fetch(rr__db_request_t *request, rr__db_connection_t *connection) {
    give(request, connection);
    request->db->driver->fetch(connection, &request->job);
}

void rr__db_end_stream(rr__db_request_t *request, rr__db_connection_t *connection) {
    give(request, connection);
    request->db->driver->end_stream(connection, &request->job);
}

/* The free connection with least to do; of equals the first, so that the last ones fall idle. */
static rr__db_connection_t *pick(rr__db_t *db) {
    rr__db_connection_t *best = NULL;
    unsigned most = window(db);
    for (unsigned i = 0; i < db->pool_size; i++) {
        rr__db_connection_t *connection = &db->connections[i];
        if (connection->link != RR__DB_OPEN || connection->reserved || connection->in_flight >= most)
            continue;
        if (connection->in_flight == 0)
            return connection;
        if (!best || connection->in_flight < best->in_flight)
            best = connection;
    }
    return best;
}

static bool takes_more(const rr__db_connection_t *connection) {
    if (connection->link != RR__DB_OPEN || connection->reserved || !connection->brief)
        return false;
    const rr__db_request_t *first = TAILQ_FIRST(&connection->running);
    return first && first->giving_up == RR_DB_OK && rr__db_now(connection->db) - first->first_ns < RR__DB_BRIEF_MS * NS_PER_MS;
}

static bool send_behind(rr__db_connection_t *connection) {
    rr__db_t *db = connection->db;
    rr__db_request_t *request = db->ready[0];
    if (!db->driver->follow(connection, &request->job))
        return false;
    give(rr__db_ready_pop(db), connection);
    request->job.sent = true;
    rr_count(&db->count.pipelined, 1);
    return true;
}

/* No connection is idle, and none could be opened: a short read that waits goes behind others, where there are fewest. */
static bool pipeline(rr__db_t *db) {
    if (!pipelines(db) || db->open < db->pool_size || !is_brief(db->ready[0]))
        return false;
    for (unsigned depth = 1; depth < db->options->pipeline; depth++)
        for (unsigned i = 0; i < db->pool_size; i++)
            if (db->connections[i].in_flight == depth && takes_more(&db->connections[i]) && send_behind(&db->connections[i]))
                return true;
    return false;
}

static bool start_oldest(rr__db_t *db) {
    rr__db_connection_t *connection = pick(db);
    if (connection)
        rr__db_start(rr__db_ready_pop(db), connection);
    return connection || pipeline(db);
}

/* Opens as many as there are requests that wait, one at a time while the server is away; the first one even if nobody waits. */
static void open_missing(rr__db_t *db) {
    unsigned wanted = db->ready_count ? db->ready_count : db->open == 0;
    if (db->failures > 0)
        wanted = rr__db_now(db) >= db->retry_ns ? 1 : 0;
    for (unsigned i = 0; i < db->pool_size && db->opening < wanted; i++) {
        unsigned failures = db->failures;
        if (db->connections[i].link == RR__DB_CLOSED && (!open_one(&db->connections[i]) || db->failures != failures))
            break;
    }
    watch_idle(db);
}

void rr__db_pump(rr__db_t *db) {
    if (db->pumping) {
        db->pump_again = true;
        return;
    }
    if (!db->self)
        return;
    db->pumping = true;
    do {
        db->pump_again = false;
        while (db->ready_count > 0 && start_oldest(db)) {
        }
        if (!db->closing)
            open_missing(db);
    } while (db->pump_again);
    db->pumping = false;
}

rr__db_connection_t *rr__db_listener(rr__db_t *db) {
    rr__db_connection_t *connection = &db->connections[db->pool_size];
    if (connection->link == RR__DB_CLOSED && !db->closing && rr__db_now(db) >= db->retry_ns)
        open_one(connection);
    return connection;
}

void rr__db_listen_again(rr__db_t *db, unsigned ms) {
    if (!rr_wheel_pending(&db->retry.node))
        rr__db_timer_set(db, &db->retry, ms, on_retry);
}

/* ---- Coming back ---- */

void rr__db_connection_free(rr__db_connection_t *connection) {
    bool reserved = connection->transaction || connection->stream || connection->reserver;
    bool before = in_use(connection);
    if (connection->reserved && !reserved) {
        connection->reserved = false;
        count_in_use(connection->db, before, in_use(connection));
    }
}

/* It never went out, or the server did not carry it out: another connection may take it, if there is time left. */
static bool try_again(rr__db_request_t *request, const rr__db_failure_t *failure) {
    rr__db_t *db = request->db;
    uint64_t waited = (rr__db_now(db) - request->arrived_ns) / NS_PER_MS;
    if (failure->error != RR_DB_CONNECTION || request->job.sent || request->giving_up != RR_DB_OK || request->transaction ||
        request->stream || request->subscription || !db->self || db->closing || waited >= db->options->acquire_timeout_ms)
        return false;
    rr_datum_drop(&request->job.out);
    request->job.out.status = RR_OK;
    request->job.parameters = request->parameters;
    request->job.list_count = request->list_count;
    rr__db_wait(request, db->options->acquire_timeout_ms - (unsigned)waited);
    rr__db_ready(request);
    return true;
}

static void settle(rr__db_request_t *request, rr__db_connection_t *connection, const rr__db_failure_t *failure) {
    static const rr__db_failure_t none = {.error = RR_DB_OK};
    static const rr__db_failure_t late = {.error = RR_DB_CONNECTION, .message = "the connection is closed"};
    failure = failure ? failure : &none;
    if (failure->error == RR_DB_OK && connection->link != RR__DB_OPEN && (request->op == RR_DB_BEGIN || request->job.more))
        failure = &late; /* a thread's: what it has opened went with the connection */
    if (request->subscription) {
        rr__db_subscription_done(request, failure);
        return;
    }
    if (try_again(request, failure))
        return;
    rr__db_measure(request);
    if (rr__db_session_done(request, connection, failure))
        return;
    if (!request->face) { /* its asker has had an answer */
        rr__db_end_silently(request);
        return;
    }
    if (failure->error == RR_DB_OK) {
        rr__db_end_good(request, 0);
        return;
    }
    rr_executed_t executed;
    rr__db_failure_t verdict = rr__db_verdict(request, failure, &executed);
    rr__db_end_failed(request, &verdict, executed);
}

/* How long a read takes, while none is before it. */
static void learn(const rr__db_request_t *request) {
    rr__sql_t *sql = request->sql;
    if (!sql || !sql->reads || request->op != RR_DB_QUERY)
        return;
    bool quick = rr__db_now(request->db) - request->first_ns < RR__DB_BRIEF_MS * NS_PER_MS;
    sql->quick_runs = !quick ? 0 : sql->quick_runs < RR__DB_BRIEF_RUNS ? sql->quick_runs + 1 : RR__DB_BRIEF_RUNS;
}

/* The server works on the next one now. Was that given up while others were before it: now it can be stopped. */
static void next_is_first(rr__db_connection_t *connection) {
    rr__db_request_t *first = TAILQ_FIRST(&connection->running);
    if (connection->db->driver->multiplexed || !first)
        return;
    first->first_ns = rr__db_now(connection->db);
    if (first->giving_up != RR_DB_OK && connection->link == RR__DB_OPEN)
        stop(first);
}

void rr__db_done(rr__db_connection_t *connection, rr__db_job_t *job, const rr__db_failure_t *failure, bool broken) {
    rr__db_request_t *request = (rr__db_request_t *)job;
    rr__db_t *db = connection->db;
    bool before = in_use(connection);
    TAILQ_REMOVE(&connection->running, request, link);
    connection->in_flight--;
    learn(request);
    if (!broken)
        next_is_first(connection);
    count_in_use(db, before, in_use(connection));
    if (!broken || (failure && failure->number != 0))
        proved(connection);
    else if (connection->link == RR__DB_OPEN && failure)
        lost_at_once(connection, failure);
    connection->used_ns = rr__db_now(db);
    rr__db_timer_clear(db, &request->timer);
    request->place = RR__DB_NOWHERE;
    request->connection = NULL;
    if (connection->reserver == request)
        connection->reserver = NULL;
    settle(request, connection, failure);
    if (broken)
        rr__db_connection_close(connection);
    else if (connection->link == RR__DB_OPEN && connection->transaction)
        rr__db_transaction_go(connection);
    if (connection->link == RR__DB_OPEN)
        rr__db_connection_free(connection);
    rr__db_pump(db);
}
