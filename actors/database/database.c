/* database.c: the actor: what arrives, whose it is, its turns, its start and end. */
#include "actors/database/database.h"

#include <stdlib.h>
#include <string.h>

#include "actors/database/database_impl.h"
#include "actors/protocol.h"

#define TAG_TIMER 1u
#define NS_PER_MS 1000000ull

/* ---- Options ---- */

void rr_database_options_init(rr_database_options_t *options) {
    *options = (rr_database_options_t){
        .pool = 8,
        .queue_messages = 16384,
        .queue_bytes = 64u << 20,
        .query_timeout_ms = 10000,
        .acquire_timeout_ms = 5000,
        .connect_timeout_ms = 5000,
        .retry_min_ms = 100,
        .retry_max_ms = 5000,
        .transaction_timeout_ms = 60000,
        .idle_ms = 300000,
        .slow_ms = 1000,
        .result_bytes = 64u << 20,
        .stream_bytes = 256u << 10,
        .statements = 256,
        .pipeline = 4,
    };
}

void rr__db_arg_drop(rr_database_arg_t *arg) {
    if (!arg || atomic_fetch_sub_explicit(&arg->references, 1, memory_order_acq_rel) != 1)
        return;
    rr__db_url_free(&arg->parts);
    free(arg);
}

void rr_database_arg_free(rr_database_arg_t *arg) { rr__db_arg_drop(arg); }

/* A relative file of SQLite's is in the folder. */
static int place_file(rr__db_url_t *parts, const char *folder) {
    if (parts->driver != &rr__db_sqlite || !folder || parts->database[0] == '/' || strcmp(parts->database, ":memory:") == 0)
        return RR_OK;
    char *path = malloc(strlen(folder) + strlen(parts->database) + 2);
    if (!path)
        return RR_ENOMEM;
    sprintf(path, "%s/%s", folder, parts->database);
    free(parts->database);
    parts->database = path;
    return RR_OK;
}

static int place_password(rr__db_url_t *parts, const char *password) {
    char *copy = password ? strdup(password) : NULL;
    if (password && !copy)
        return RR_ENOMEM;
    if (copy) {
        explicit_bzero(parts->password, strlen(parts->password));
        free(parts->password);
        parts->password = copy;
    }
    return RR_OK;
}

/* A call must not end before its query. */
static int check_times(const rr_database_options_t *options, char *why, size_t why_size) {
    if (options->query_timeout_ms <= RR_DATABASE_QUERY_MS_MAX && options->acquire_timeout_ms <= RR_DATABASE_ACQUIRE_MS_MAX)
        return RR_OK;
    return rr_fail(RR_EINVAL, why, why_size,
                   "query_timeout is at most %u s and acquire_timeout %u s: a query that needs longer says so itself",
                   RR_DATABASE_QUERY_MS_MAX / 1000, RR_DATABASE_ACQUIRE_MS_MAX / 1000);
}

static int new_arg(const rr_database_options_t *options, rr_database_arg_t **out, char *why, size_t why_size) {
    rr_database_arg_t *arg = calloc(1, sizeof *arg);
    snprintf(why, why_size, "out of memory");
    if (!arg)
        return RR_ENOMEM;
    atomic_init(&arg->references, 1);
    int rc = rr__db_url_parse(options->url, &arg->parts, why, why_size);
    if (rc == RR_OK)
        rc = place_file(&arg->parts, options->folder);
    if (rc == RR_OK)
        rc = place_password(&arg->parts, options->password);
    if (rc != RR_OK) {
        rr__db_arg_drop(arg);
        return rc;
    }
    rr_database_redact(options->url, arg->shown, sizeof arg->shown);
    snprintf(arg->name, sizeof arg->name, "%s", options->name ? options->name : "");
    arg->options = *options;
    arg->options.name = arg->name[0] ? arg->name : NULL;
    arg->options.url = arg->shown;
    arg->options.folder = arg->options.password = NULL;
    arg->options.pool = options->pool ? options->pool : 1;
    *out = arg;
    return RR_OK;
}

/* ---- The end of all ---- */

void rr__db_release(rr__db_t *db) {
    rr__db_request_t *request;
    if (db->self)
        return;
    rr__db_flush(db);
    if (db->alive > 0)
        return;
    rr_loop_end_remove(db->options->loop, &db->loop_end);
    rr__db_events_flush(db);
    while ((request = TAILQ_FIRST(&db->spare))) {
        TAILQ_REMOVE(&db->spare, request, link);
        free(request);
    }
    rr__db_statements_free(db);
    rr_map_free(&db->askers);
    rr_map_free(&db->monitors);
    rr_map_free(&db->transactions);
    rr_map_free(&db->streams);
    rr_map_free(&db->subscriptions);
    rr_set_free(&db->lanes);
    free(db->ready);
    free(db->connections);
    rr__db_arg_drop(db->arg);
    free(db);
}

/* The loop ends before its actors do: connections close now, while it still runs for them. */
static void on_loop_end(rr_loop_end_t *item) {
    rr__db_t *db = (rr__db_t *)((char *)item - offsetof(rr__db_t, loop_end));
    db->closing = true;
    rr__db_pool_close(db);
}

/* ---- Time ---- */

void rr__db_timer_set(rr__db_t *db, rr__db_timer_t *timer, unsigned ms, void (*fn)(rr__db_timer_t *timer)) {
    rr_wheel_remove(&db->wheel, &timer->node);
    timer->fn = fn;
    rr_wheel_add(&db->wheel, &timer->node, rr__db_after(db, ms));
    if (!db->in_turn && rr_wheel_next(&db->wheel) < db->timer_due_ns)
        rr__db_ask_turn(db);
}

static void fire(rr_wheel_node_t *node, void *context) {
    rr__db_timer_t *timer = (rr__db_timer_t *)node;
    (void)context;
    timer->fn(timer);
}

/* The actor's one timer: for the earliest of the wheel's. */
static void arm(rr__db_t *db) {
    uint64_t next = rr_wheel_next(&db->wheel), now = rr__db_now(db);
    if (next >= db->timer_due_ns)
        return;
    if (db->timer_due_ns != UINT64_MAX)
        rr_timer_cancel(db->self, db->timer_id);
    db->timer_due_ns = next;
    if (rr_timer_start(db->self, next > now ? (next - now + NS_PER_MS - 1) / NS_PER_MS : 0, 0, TAG_TIMER, &db->timer_id) != RR_OK) {
        db->timer_due_ns = UINT64_MAX; /* tried again at the next turn's end */
        rr_log(db->system, RR_ERROR, "DB", "%s: no memory for a timer", db->label);
    }
}

/* ---- Askers ---- */

void rr__db_asker_drop(rr__db_asker_t *asker) {
    if (asker->gone && TAILQ_EMPTY(&asker->requests) && TAILQ_EMPTY(&asker->transactions) && TAILQ_EMPTY(&asker->streams) &&
        TAILQ_EMPTY(&asker->subscriptions)) {
        rr_map_free(&asker->by_id);
        free(asker);
    }
}

static rr__db_asker_t *asker_new(rr__db_t *db, rr_addr_t addr) {
    rr__db_asker_t *asker = calloc(1, sizeof *asker);
    if (!asker)
        return NULL;
    asker->addr = addr;
    TAILQ_INIT(&asker->requests);
    TAILQ_INIT(&asker->transactions);
    TAILQ_INIT(&asker->streams);
    TAILQ_INIT(&asker->subscriptions);
    if (rr_monitor(db->self, addr, &asker->monitor) != RR_OK) {
        free(asker);
        return NULL;
    }
    if (!rr_map_put(&db->monitors, asker->monitor, asker) || !rr_map_put(&db->askers, addr, asker)) {
        rr_map_take(&db->monitors, asker->monitor);
        rr_demonitor(db->self, asker->monitor);
        free(asker);
        return NULL;
    }
    return asker;
}

static rr__db_asker_t *asker_of(rr__db_t *db, rr_addr_t addr) {
    rr__db_asker_t *asker = rr_map_get(&db->askers, addr);
    return asker || addr == RR_NOBODY ? asker : asker_new(db, addr);
}

/* Its transactions are rolled back, streams and subscriptions end. What else it has asked for is carried out: it was sent. */
static void asker_gone(rr__db_t *db, rr__db_asker_t *asker) {
    rr_map_take(&db->askers, asker->addr);
    rr_map_take(&db->monitors, asker->monitor);
    rr__db_sessions_abandon(asker);
    rr__db_subscriptions_abandon(asker);
    asker->gone = true;
    rr__db_asker_drop(asker);
}

static void on_down(rr__db_t *db, rr_message_t *msg) {
    rr__db_asker_t *asker = rr_map_get(&db->monitors, rr_message_request(msg));
    if (asker)
        asker_gone(db, asker);
}

/* ---- Requests ---- */

static void describe(rr__db_request_t *request) {
    rr__db_t *db = request->db;
    rr_datum_writer_t *out = &request->job.out;
    rr__db_columns(&request->job, 3);
    rr_datum_put_text(out, RR_DATUM_TEXT, "driver", 6);
    rr_datum_put_text(out, RR_DATUM_TEXT, "version", 7);
    rr_datum_put_text(out, RR_DATUM_TEXT, "patience", 8);
    rr__db_row(&request->job, 3);
    rr_datum_put_text(out, RR_DATUM_TEXT, db->driver->name, strlen(db->driver->name));
    if (db->version[0])
        rr_datum_put_text(out, RR_DATUM_TEXT, db->version, strlen(db->version));
    else
        rr_datum_put_null(out);
    rr_datum_put_int(out, (int64_t)db->options->acquire_timeout_ms + db->options->query_timeout_ms);
    rr__db_end_good(request, 0);
}

static void close_one(rr__db_request_t *request, const rr_query_t *query) {
    if (!rr__db_stream_close(request, query) && !rr__db_subscription_close(request, query))
        rr__db_end_good(request, 0); /* it is over already: that is what was asked for */
}

static void route(rr__db_request_t *request, const rr_query_t *query) {
    bool within = query->transaction && request->op != RR_DB_BEGIN;
    if (request->db->draining && !within && request->op != RR_DB_NEXT && request->op != RR_DB_CLOSE) {
        rr__db_end_error(request, RR_DB_CANCELLED, RR_EXECUTED_NO, "the database stops");
        return;
    }
    if (!rr__db_prepare(request, query))
        return;
    switch (request->op) {
    case RR_DB_BEGIN:
        rr__db_begin(request, query);
        break;
    case RR_DB_STREAM:
        rr__db_stream_open(request, query);
        break;
    case RR_DB_NEXT:
        rr__db_stream_next(request, query);
        break;
    case RR_DB_CLOSE:
        close_one(request, query);
        break;
    case RR_DB_SUBSCRIBE:
        rr__db_subscribe(request, query);
        break;
    case RR_DB_DESCRIBE:
        describe(request);
        break;
    default:
        if (query->transaction || request->op == RR_DB_COMMIT || request->op == RR_DB_ROLLBACK)
            rr__db_in_transaction(request, query);
        else
            rr__db_enqueue(request, query);
    }
}

/* The call's bytes, so that they outlive it. */
static rr_buffer_t *payload_of(rr_message_t *msg) {
    rr_buffer_t *buffer = rr_message_buffer(msg);
    return buffer && rr_buffer_data(buffer) == rr_message_data(msg) ? rr_buffer_ref(buffer)
                                                                    : rr_buffer_copy(rr_message_data(msg), rr_message_size(msg));
}

static void refuse(rr__db_t *db, rr_message_t *msg, rr_db_error_t error, const char *why, const rr_query_t *query) {
    rr_buffer_t *answer = rr_db_answer_error(error, RR_EXECUTED_NO, 0, NULL, why, query->text, query->text_size);
    rr_count(&db->count.errors[error], 1);
    if (answer)
        rr_reply_buffer(db->self, msg, answer);
    else
        rr_reply_error(db->self, msg, RR_ENOMEM, NULL);
}

/* Why there is no room for it; NULL: there is. What ends something is never refused. */
static const char *no_room(const rr__db_t *db, const rr_query_t *query, size_t size, rr_db_error_t *error) {
    if (query->op == RR_DB_COMMIT || query->op == RR_DB_ROLLBACK || query->op == RR_DB_CLOSE)
        return NULL;
    *error = size > db->options->queue_bytes ? RR_DB_DATA : RR_DB_BUSY;
    if (*error == RR_DB_DATA)
        return "the query and its parameters are bigger than `queue.bytes`";
    bool full = db->waiting >= db->options->queue_messages || db->waiting_bytes + size > db->options->queue_bytes;
    return full ? "too many queries wait: `queue` is full" : NULL;
}

/* NULL: out of memory. */
static rr__db_request_t *request_of(rr__db_t *db, rr__db_asker_t *asker, const rr_query_t *query) {
    rr__db_request_t *request = rr__db_request_new(db, query->op);
    if (!request)
        return NULL;
    if (query->id && !rr_map_put(&asker->by_id, query->id, request)) {
        rr__db_request_free(request);
        return NULL;
    }
    request->id = query->id;
    request->timeout_ms = query->timeout_ms;
    request->asker = asker;
    TAILQ_INSERT_TAIL(&asker->requests, request, of_asker);
    return request;
}

static void on_query(rr__db_t *db, rr_message_t *msg) {
    rr_query_t query;
    rr_buffer_t *payload = payload_of(msg);
    size_t size = rr_message_size(msg);
    if (payload && rr_query_decode(rr_buffer_data(payload), size, &query) != RR_OK) {
        rr_reply_error(db->self, msg, RR_EHANDLER, "this is no query");
        rr_buffer_unref(payload);
        return;
    }
    rr_db_error_t error = RR_DB_BUSY;
    const char *why = payload ? no_room(db, &query, size, &error) : NULL;
    rr__db_asker_t *asker = payload && !why ? asker_of(db, rr_message_from(msg)) : NULL;
    rr__db_request_t *request = asker ? request_of(db, asker, &query) : NULL;
    if (!request) {
        refuse(db, msg, why ? error : RR_DB_BUSY, why ? why : "out of memory", payload ? &query : &(rr_query_t){0});
        rr_buffer_unref(payload);
        return;
    }
    rr_message_take(db->self, msg);
    request->msg = msg;
    request->payload = payload;
    request->cost = (uint32_t)size;
    route(request, &query);
}

static void cancel_one(rr__db_request_t *request) {
    if (request->place == RR__DB_RUNNING) {
        rr__db_cancel(request, RR_DB_CANCELLED);
    } else if (request->place == RR__DB_HELD && request->stream && request->stream->request->place == RR__DB_RUNNING) {
        rr__db_cancel(request->stream->request, RR_DB_CANCELLED);
    } else if (request->place == RR__DB_READY || request->place == RR__DB_BEHIND) {
        rr__db_withdraw(request);
        rr__db_end_error(request, RR_DB_CANCELLED, RR_EXECUTED_NO, "its asker gave it up");
    }
}

static void on_cancel(rr__db_t *db, rr_message_t *msg) {
    rr__db_asker_t *asker = rr_map_get(&db->askers, rr_message_from(msg));
    uint64_t id = rr_message_size(msg) == 8 ? rr_get64(rr_message_data(msg)) : 0;
    rr__db_request_t *request = asker && id ? rr_map_get(&asker->by_id, id) : NULL;
    if (request)
        cancel_one(request);
}

/* ---- The actor ---- */

static rr__db_t *db_of(void *state) { return *(rr__db_t **)state; }

void rr__db_ask_turn(rr__db_t *db) {
    if (db->in_turn || db->turn_asked || !db->self)
        return;
    /* Refused only when its mailbox is full: then a turn is coming anyway. */
    db->turn_asked = rr_system_send(db->system, db->addr, RR_TYPE_FLUSH, NULL, 0) == RR_OK;
}

static rr__db_t *db_new(rr_actor_t *self, rr_database_arg_t *arg) {
    rr__db_t *db = calloc(1, sizeof *db);
    if (!db)
        return NULL;
    *db = (rr__db_t){.arg = arg, .options = &arg->options, .driver = arg->parts.driver, .system = rr_system_of(self), .self = self,
                     .addr = rr_self(self), .in_turn = true, .timer_due_ns = UINT64_MAX};
    snprintf(db->label, sizeof db->label, "%.127s", arg->name[0] ? arg->name : arg->shown);
    db->event_last = &db->event_first;
    TAILQ_INIT(&db->ended);
    TAILQ_INIT(&db->spare);
    TAILQ_INIT(&db->listening);
    rr_random_seed(&db->random, rr_system_random(db->system));
    db->next_id = rr_random_next(&db->random) >> 1; /* ids of an earlier owner of the name are nobody's here */
    if (rr__db_pool_init(db) != RR_OK) {
        free(db);
        return NULL;
    }
    rr_wheel_init(&db->wheel, rr__db_now(db));
    if (arg->lent)
        atomic_fetch_add_explicit(&arg->references, 1, memory_order_relaxed); /* its holder has one */
    return db;
}

/* A holder keeps what it has lent. */
static void database_unstarted(const void *arg) {
    rr_database_arg_t *own = (rr_database_arg_t *)(uintptr_t)arg;
    if (!own->lent)
        rr__db_arg_drop(own);
}

static int database_start(rr_actor_t *self, void *state, const void *arg) {
    rr__db_t *db = db_new(self, (rr_database_arg_t *)(uintptr_t)arg);
    if (!db) {
        database_unstarted(arg);
        return RR_ENOMEM;
    }
    *(rr__db_t **)state = db;
    if (rr_metrics_add(db->system, rr__db_collect, db) != RR_OK) {
        *(rr__db_t **)state = NULL;
        db->self = NULL;
        rr__db_release(db);
        return RR_ENOMEM;
    }
    db->loop_end.fn = on_loop_end;
    rr_loop_end_add(db->options->loop, &db->loop_end);
    return RR_OK; /* turn_end opens the first connection */
}

/* Askers end before: what they have left open is rolled back. */
static void database_drain(rr_actor_t *self, void *state) {
    rr__db_t *db = db_of(state);
    uint64_t addr;
    rr__db_asker_t *asker;
    db->draining = true;
    while ((asker = rr_map_any(&db->askers, &addr))) {
        rr_demonitor(self, asker->monitor);
        asker_gone(db, asker);
    }
}

static void database_receive(rr_actor_t *self, void *state, rr_message_t *msg) {
    rr__db_t *db = db_of(state);
    switch (rr_message_kind(msg)) {
    case RR_CALL:
        if (rr_message_type(msg) == RR_TYPE_QUERY)
            on_query(db, msg);
        break;
    case RR_SEND:
        if (rr_message_type(msg) == RR_TYPE_QUERY_CANCEL)
            on_cancel(db, msg);
        else if (rr_message_type(msg) == RR_TYPE_FLUSH)
            db->turn_asked = false;
        else if (rr_message_type(msg) == RR_TYPE_STOP)
            database_drain(self, state);
        break;
    case RR_DOWN:
        on_down(db, msg);
        break;
    case RR_TIMER:
        db->timer_due_ns = UINT64_MAX;
        break;
    default:
        break;
    }
}

static void database_turn_begin(rr_actor_t *self, void *state) {
    if (db_of(state))
        db_of(state)->in_turn = true;
}

static void set_gauges(rr__db_t *db) {
    atomic_store_explicit(&db->count.waiting, db->waiting, memory_order_relaxed);
    atomic_store_explicit(&db->count.waiting_bytes, db->waiting_bytes, memory_order_relaxed);
}

/* Drained: nothing is under way, and nothing is kept open by a living asker. */
static void end_if_drained(rr__db_t *db) {
    if (!db->draining || db->active > 0)
        return;
    db->closing = true;
    rr__db_pool_close(db);
    rr_exit(db->self, RR_OK);
}

static void database_turn_end(rr_actor_t *self, void *state) {
    rr__db_t *db = db_of(state);
    if (!db || !db->self)
        return;
    rr_wheel_expire(&db->wheel, rr__db_now(db), fire, NULL);
    rr__db_pump(db);
    rr__db_flush(db);
    rr__db_events_flush(db);
    set_gauges(db);
    end_if_drained(db);
    arm(db);
    db->in_turn = false;
}

/* Everyone who still waits is told. A driver's thread may keep a request for a while: it is nobody's then. */
static void cancel_all(rr__db_t *db) {
    uint64_t addr;
    rr__db_asker_t *asker;
    while (db->ready_count > 0)
        rr__db_end_error(rr__db_ready_pop(db), RR_DB_CANCELLED, RR_EXECUTED_NO, "the database stops");
    while ((asker = rr_map_any(&db->askers, &addr)))
        asker_gone(db, asker);
    rr__db_pool_close(db);
    rr__db_flush(db);
}

static void database_finish(rr_actor_t *self, void *state, int reason) {
    rr__db_t *db = db_of(state);
    if (!db)
        return;
    rr_metrics_remove(db->system, rr__db_collect, db);
    db->in_turn = true;
    db->closing = true;
    cancel_all(db);
    db->self = NULL;
    *(rr__db_t **)state = NULL;
    rr__db_release(db);
}

static const rr_behavior_t database_behavior = {
    .name = "database",
    .state_size = sizeof(rr__db_t *),
    .start = database_start,
    .unstarted = database_unstarted,
    .receive = database_receive,
    .turn_begin = database_turn_begin,
    .turn_end = database_turn_end,
    .drain = database_drain,
    .finish = database_finish,
};

/* ---- Spawning ---- */

int rr_database_spec(const rr_database_options_t *options, rr_spawn_t *out, rr_database_arg_t **arg, char *why, size_t why_size) {
    int rc = check_times(options, why, why_size);
    if (rc == RR_OK)
        rc = new_arg(options, arg, why, why_size);
    if (rc != RR_OK)
        return rc;
    (*arg)->lent = true;
    /* Twice the queue: what is refused for its size is in the mailbox until the turn's end, and must not make it full for the next. */
    uint64_t mailbox = 2ull * (*arg)->options.queue_bytes;
    if (mailbox < RR_MAILBOX_BYTES)
        mailbox = RR_MAILBOX_BYTES;
    *out = (rr_spawn_t){.behavior = &database_behavior,
                        .arg = *arg,
                        .name = (*arg)->options.name,
                        .executor = rr_loop_executor(options->loop),
                        .mailbox_bytes = mailbox > UINT32_MAX ? UINT32_MAX : (uint32_t)mailbox,
                        .leased = options->leased};
    return RR_OK;
}

int rr_database_spawn(rr_system_t *system, const rr_database_options_t *options, rr_addr_t *out, char *why, size_t why_size) {
    rr_database_arg_t *arg;
    rr_spawn_t spec;
    int rc = rr_database_spec(options, &spec, &arg, why, why_size);
    if (rc != RR_OK)
        return rc;
    arg->lent = false; /* the actor takes it over */
    rc = rr_system_spawn(system, &spec, out);
    if (rc != RR_OK) {
        rr__db_arg_drop(arg);
        snprintf(why, why_size, "%s", rr_strerror(rc));
    }
    return rc;
}
