/* scene_database.c: a scene as a client of databases: queries by the database's name, their ends, events of subscriptions. */
#include <stdio.h>

#include "actors/database/database.h"
#include "actors/scene_impl.h"

#define BLOCKED_MS 15000u      /* as rr_database_options_init has it: for a connection, and for the query */
#define BLOCKED_SLACK_MS 2000u /* over a query's patience: for cancelling it on the server */

static unsigned call_ms(unsigned timeout_ms) {
    return timeout_ms ? timeout_ms + (RR_DATABASE_CALL_MS - RR_DATABASE_QUERY_MS_MAX) : RR_DATABASE_CALL_MS;
}

int rr_scene_database(rr_scene_t *scene, const char *url, unsigned pool, char *name, size_t name_size, char *why,
                      size_t why_size) {
    if (scene->options->open_database)
        return scene->options->open_database(scene->options->context, url, pool, name, name_size, why, why_size);
    return rr_fail(RR_EUNSUPPORTED, why, why_size, "this process opens no databases by URL");
}

static void on_queried(rr_actor_t *self, void *state, int status, rr_message_t *msg, void *context) {
    rr_scene_t *scene = state;
    uint64_t token = (uint64_t)(uintptr_t)context;
    rr_map_take(&scene->queries, token);
    if (status != RR_OK)
        rr_count(&scene->count.query_failures, 1);
    if (!scene->logic->queried)
        return;
    rr__logic_begin(scene);
    scene->logic->queried(scene->state, token, status, msg ? rr_message_data(msg) : NULL, msg ? rr_message_size(msg) : 0,
                          msg ? rr_message_buffer(msg) : NULL);
    rr__logic_end(scene);
    rr__scene_settle(scene);
}

_Static_assert(sizeof(uintptr_t) == 8, "tokens travel as context pointers, addresses as values of a map");

int rr_scene_query(rr_scene_t *scene, const char *database, rr_buffer_t *request, unsigned timeout_ms, uint64_t token) {
    rr_addr_t target = rr__scene_lookup_database(scene, database);
    int rc = target == RR_NOBODY ? RR_NOROUTE : token == 0 ? RR_EINVAL : RR_OK;
    rr_count(&scene->count.queries, 1);
    if (rc == RR_OK && !rr_map_put(&scene->queries, token, (void *)(uintptr_t)target))
        rc = RR_ENOMEM;
    if (rc != RR_OK) {
        rr_buffer_unref(request);
        return rc;
    }
    rc = rr_call_buffer(scene->self, target, RR_TYPE_QUERY, request, call_ms(timeout_ms), on_queried,
                        (void *)(uintptr_t)token, NULL);
    if (rc != RR_OK)
        rr_map_take(&scene->queries, token);
    return rc;
}

/* A cancel that does not get through (mailbox full, actor gone) is one that the query's own time-out makes up for. */
static void send_cancel(rr_scene_t *scene, rr_addr_t database, uint64_t token) {
    uint8_t id[8];
    rr_put64(id, token);
    int rc = rr_send(scene->self, database, RR_TYPE_QUERY_CANCEL, id, sizeof id);
    if (rc != RR_OK && rc != RR_NOROUTE)
        rr_log(scene->system, RR_DEBUG, "SCENE", "%s: a query's cancel was not sent: %s", scene->options->name,
               rr_strerror(rc));
}

void rr_scene_query_cancel(rr_scene_t *scene, uint64_t token) {
    void *target = rr_map_get(&scene->queries, token);
    if (target)
        send_cancel(scene, (rr_addr_t)(uintptr_t)target, token);
}

/* A database that never answers must not stop a scene for minutes. */
static unsigned blocked_ms(unsigned patience_ms) { return (patience_ms ? patience_ms : BLOCKED_MS) + BLOCKED_SLACK_MS; }

int rr_scene_query_wait(rr_scene_t *scene, const char *database, rr_buffer_t *request, unsigned patience_ms,
                        rr_buffer_t **reply) {
    rr_addr_t target = rr__scene_lookup_database(scene, database);
    rr_count(&scene->count.queries, 1);
    if (target != RR_NOBODY && target != scene->addr) /* it would wait for itself */
        return rr_database_ask(scene->system, target, request, blocked_ms(patience_ms), reply);
    rr_buffer_unref(request);
    return target == RR_NOBODY ? RR_NOROUTE : RR_EINVAL;
}

void rr__on_query_event(rr_scene_t *scene, rr_message_t *msg) {
    rr_count(&scene->count.query_events, 1);
    if (!scene->logic->query_event || scene->cleaned)
        return;
    rr__logic_begin(scene);
    scene->logic->query_event(scene->state, rr_message_data(msg), rr_message_size(msg));
    rr__logic_end(scene);
}

void rr__database_down(rr_scene_t *scene, const char *name) {
    if (!scene->logic->database_down || scene->cleaned)
        return;
    rr__logic_begin(scene);
    scene->logic->database_down(scene->state, name);
    rr__logic_end(scene);
}

void rr__queries_free(rr_scene_t *scene) {
    uint64_t token;
    for (void *target; (target = rr_map_any(&scene->queries, &token));) {
        rr_map_take(&scene->queries, token);
        send_cancel(scene, (rr_addr_t)(uintptr_t)target, token);
    }
    rr_map_free(&scene->queries);
}
