/* subscription.c: channels that askers listen to: on a connection of their own, made anew on the next one when it is lost. */
#include <stdlib.h>
#include <string.h>

#include "actors/database/database_impl.h"
#include "actors/protocol.h"

#define EVENTS_MAX 16384u /* that wait for the next turn */
#define NS_PER_MS 1000000ull

static rr__db_connection_t *listener(rr__db_t *db) { return &db->connections[db->pool_size]; }

static void listen_on(rr__db_subscription_t *subscription, rr__db_connection_t *connection) {
    rr__db_request_t *request = subscription->request;
    if (request->place == RR__DB_RUNNING || subscription->bound)
        return;
    request->place = RR__DB_NOWHERE;
    request->job.op = RR_DB_SUBSCRIBE;
    rr_datum_drop(&request->job.out);
    rr__db_start(request, connection);
}

void rr__db_subscribe(rr__db_request_t *request, const rr_query_t *query) {
    rr__db_t *db = request->db;
    rr__db_subscription_t *subscription = calloc(1, sizeof *subscription);
    rr__db_request_t *face = subscription ? rr__db_request_new(db, RR_DB_SUBSCRIBE) : NULL;
    if (subscription)
        *subscription = (rr__db_subscription_t){.id = ++db->next_id, .db = db, .asker = request->asker, .request = request};
    if (!face || !rr_map_put(&db->subscriptions, subscription->id, subscription)) {
        if (face)
            rr__db_request_free(face);
        free(subscription);
        rr__db_end_error(request, RR_DB_BUSY, RR_EXECUTED_NO, "out of memory");
        return;
    }
    face->msg = request->msg;
    face->place = RR__DB_HELD;
    request->msg = NULL;
    request->face = face;
    request->place = RR__DB_HELD;
    request->subscription = subscription;
    request->job.stream = subscription->id;
    TAILQ_INSERT_TAIL(&request->asker->subscriptions, subscription, of_asker);
    TAILQ_INSERT_TAIL(&db->listening, subscription, link);
    rr__db_wait(request, db->options->acquire_timeout_ms);
    rr__db_connection_t *connection = rr__db_listener(db);
    if (connection->link == RR__DB_OPEN)
        listen_on(subscription, connection);
}

static void forget(rr__db_subscription_t *subscription) {
    rr_map_take(&subscription->db->subscriptions, subscription->id);
    TAILQ_REMOVE(&subscription->db->listening, subscription, link);
    if (subscription->asker)
        TAILQ_REMOVE(&subscription->asker->subscriptions, subscription, of_asker);
    free(subscription);
}

void rr__db_subscription_give_up(rr__db_request_t *request, rr_db_error_t error) {
    rr__db_t *db = request->db;
    forget(request->subscription);
    request->subscription = NULL;
    if (db->last_failure.error != RR_DB_OK)
        rr__db_end_failed(request, &db->last_failure, RR_EXECUTED_NO);
    else
        rr__db_end_error(request, error, RR_EXECUTED_NO, "no connection for subscriptions within %u ms", db->options->acquire_timeout_ms);
}

/* Makes the closer one that says CLOSE of it on its connection. */
static void aim_closer(rr__db_request_t *closer, rr__db_subscription_t *subscription) {
    const rr__db_request_t *request = subscription->request;
    closer->job.op = RR_DB_CLOSE;
    closer->job.stream = subscription->id;
    closer->job.flags = request->job.flags;
    closer->job.parameters = request->job.parameters;
    closer->job.list_count = request->job.list_count;
    closer->payload = request->payload ? rr_buffer_ref(request->payload) : NULL;
    closer->subscription = subscription; /* a mark: it is gone when the driver comes back */
}

/* A connection that goes on may have what nobody wants, or a part of what it refused: or it would have it as long as it lives.
 * Without memory it does. */
static void leave(rr__db_subscription_t *subscription) {
    rr__db_t *db = subscription->db;
    rr__db_connection_t *connection = listener(db);
    rr__db_request_t *closer = connection->link == RR__DB_OPEN ? rr__db_request_new(db, RR_DB_CLOSE) : NULL;
    if (!closer)
        return;
    aim_closer(closer, subscription);
    rr__db_start(closer, connection);
}

/* On the next connection, if there is time left. */
static void wait_again(rr__db_subscription_t *subscription, const rr__db_failure_t *failure) {
    rr__db_request_t *request = subscription->request;
    rr__db_t *db = subscription->db;
    uint64_t waited = (rr__db_now(db) - request->arrived_ns) / NS_PER_MS;
    if (waited < db->options->acquire_timeout_ms) {
        rr__db_wait(request, db->options->acquire_timeout_ms - (unsigned)waited);
        return;
    }
    forget(subscription);
    request->subscription = NULL;
    rr__db_end_failed(request, failure, RR_EXECUTED_NO);
}

/* A server that has let it listen before does not any more: its asker learns by `lost` what that cost, once it is let in again. */
static void refused_again(rr__db_subscription_t *subscription, const rr__db_failure_t *failure) {
    rr__db_t *db = subscription->db;
    rr_log(db->system, RR_WARN, "DB", "%s: a subscription is refused after a new connection: %s; it is tried again", db->label, failure->message);
    rr__db_listen_again(db, db->options->retry_max_ms);
}

/* SUBSCRIBE came back: the first time its asker is told. */
static void subscribed(rr__db_subscription_t *subscription, const rr__db_failure_t *failure) {
    rr__db_request_t *request = subscription->request, *face = request->face;
    request->place = RR__DB_HELD;
    subscription->bound = failure->error == RR_DB_OK;
    bool lost = failure->error == RR_DB_CONNECTION;
    if (!lost && (!subscription->asker || !subscription->bound))
        leave(subscription);
    if (!subscription->asker) { /* unwanted meanwhile */
        forget(subscription);
        rr__db_end_silently(request);
    } else if (face && subscription->bound) {
        request->face = NULL;
        rr__db_end_good(face, subscription->id);
    } else if (face && !lost) {
        forget(subscription);
        request->subscription = NULL;
        rr__db_end_failed(request, failure, RR_EXECUTED_NO);
    } else if (face) {
        wait_again(subscription, failure);
    } else if (!lost && !subscription->bound) {
        refused_again(subscription, failure);
    }
}

void rr__db_subscription_done(rr__db_request_t *request, const rr__db_failure_t *failure) {
    rr__db_subscription_t *subscription = request->subscription;
    if (request->op == RR_DB_SUBSCRIBE) {
        subscribed(subscription, failure);
        return;
    }
    request->subscription = NULL; /* a CLOSE: what is lost with its connection is closed too */
    rr__db_end_good(request, 0);
}

/* Says CLOSE on the connection; the subscription is over for its asker at once. */
static void unsubscribe(rr__db_subscription_t *subscription, rr__db_request_t *closer) {
    rr__db_t *db = subscription->db;
    rr__db_connection_t *connection = listener(db);
    rr__db_request_t *request = subscription->request;
    bool bound = subscription->bound && connection->link == RR__DB_OPEN;
    if (closer && bound)
        aim_closer(closer, subscription);
    if (request->face) { /* given up before it was there */
        rr__db_end_error(request->face, RR_DB_CANCELLED, RR_EXECUTED_NO, "its asker gave it up");
        request->face = NULL;
    }
    if (request->place == RR__DB_RUNNING) {
        TAILQ_REMOVE(&subscription->asker->subscriptions, subscription, of_asker);
        subscription->asker = NULL; /* left and forgotten when it comes back */
    } else {
        request->subscription = NULL;
        rr__db_end_silently(request);
        forget(subscription);
    }
    if (closer && bound)
        rr__db_start(closer, connection);
    else if (closer)
        rr__db_end_good(closer, 0);
}

bool rr__db_subscription_close(rr__db_request_t *request, const rr_query_t *query) {
    rr__db_subscription_t *subscription = rr_map_get(&request->db->subscriptions, query->stream);
    if (!subscription || subscription->asker != request->asker)
        return false;
    unsubscribe(subscription, request);
    return true;
}

void rr__db_subscriptions_abandon(rr__db_asker_t *asker) {
    rr__db_subscription_t *subscription;
    while ((subscription = TAILQ_FIRST(&asker->subscriptions)))
        unsubscribe(subscription, rr__db_request_new(subscription->db, RR_DB_CLOSE));
}

void rr__db_subscriptions_go(rr__db_connection_t *connection) {
    rr__db_subscription_t *subscription, *next;
    for (subscription = TAILQ_FIRST(&connection->db->listening); subscription; subscription = next) {
        next = TAILQ_NEXT(subscription, link);
        listen_on(subscription, connection);
    }
}

void rr__db_subscriptions_lost(rr__db_connection_t *connection) {
    rr__db_t *db = connection->db;
    rr__db_subscription_t *subscription;
    TAILQ_FOREACH(subscription, &db->listening, link) {
        subscription->lost += subscription->bound;
        subscription->bound = false;
    }
    if (!TAILQ_EMPTY(&db->listening) && !db->closing)
        rr__db_listen_again(db, db->options->retry_min_ms);
}

/* ---- Events ---- */

static rr_buffer_t *encode(rr__db_subscription_t *subscription, const char *channel, size_t channel_size, const char *pattern,
                           size_t pattern_size, const void *payload, size_t size) {
    rr_datum_writer_t writer = {0};
    rr_datum_put_int(&writer, (int64_t)subscription->request->id); /* as its asker chose it */
    rr_datum_put_text(&writer, RR_DATUM_TEXT, channel, channel_size);
    if (pattern)
        rr_datum_put_text(&writer, RR_DATUM_TEXT, pattern, pattern_size);
    else
        rr_datum_put_null(&writer);
    rr_datum_put_text(&writer, RR_DATUM_BYTES, payload, size);
    rr_datum_put_int(&writer, (int64_t)subscription->lost);
    return rr_datum_finish(&writer);
}

void rr__db_event(rr__db_connection_t *connection, uint64_t id, const char *channel, size_t channel_size, const char *pattern,
                  size_t pattern_size, const void *payload, size_t size) {
    rr__db_t *db = connection->db;
    rr__db_subscription_t *subscription = rr_map_get(&db->subscriptions, id);
    if (!subscription || !subscription->asker)
        return;
    rr__db_event_t *event = db->event_count < EVENTS_MAX ? malloc(sizeof *event) : NULL;
    rr_buffer_t *buffer = event ? encode(subscription, channel, channel_size, pattern, pattern_size, payload, size) : NULL;
    rr_count(&db->count.events, 1);
    if (!buffer) {
        free(event);
        subscription->lost++;
        rr_count(&db->count.events_lost, 1);
        return;
    }
    *event = (rr__db_event_t){.subscription = id, .lost = subscription->lost, .buffer = buffer};
    subscription->lost = 0;
    *db->event_last = event;
    db->event_last = &event->next;
    db->event_count++;
    rr__db_ask_turn(db);
}

static void send_event(rr__db_t *db, rr__db_event_t *event) {
    rr__db_subscription_t *subscription = rr_map_get(&db->subscriptions, event->subscription);
    if (!subscription || !subscription->asker) {
        rr_buffer_unref(event->buffer);
        return;
    }
    if (rr_send_buffer(db->self, subscription->asker->addr, RR_TYPE_QUERY_EVENT, event->buffer) != RR_OK) {
        subscription->lost += event->lost + 1;
        rr_count(&db->count.events_lost, 1);
    }
}

void rr__db_events_flush(rr__db_t *db) {
    rr__db_event_t *event;
    while ((event = db->event_first)) {
        db->event_first = event->next;
        if (!event->next)
            db->event_last = &db->event_first;
        db->event_count--;
        if (db->self)
            send_event(db, event);
        else
            rr_buffer_unref(event->buffer);
        free(event);
    }
}
