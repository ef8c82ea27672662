/* queue.c: requests until a driver has them: what they ask for, the order they wait in, how long they may wait. */
#include <stdlib.h>
#include <string.h>

#include "actors/database/database_impl.h"

#define SPARE_MAX 1024u /* requests kept for the next ones */
#define STATEMENTS_MAX 1024u

/* ---- Requests ---- */

rr__db_request_t *rr__db_request_new(rr__db_t *db, rr_db_op_t op) {
    rr__db_request_t *request = TAILQ_FIRST(&db->spare);
    if (request) {
        TAILQ_REMOVE(&db->spare, request, link);
        db->spare_count--;
        memset(request, 0, sizeof *request);
    } else {
        request = calloc(1, sizeof *request);
        if (!request)
            return NULL;
    }
    request->db = db;
    request->op = request->job.op = op;
    request->job.affected = -1;
    request->job.out.limit = db->options->result_bytes;
    request->face = request;
    request->arrived_ns = rr__db_now(db);
    request->sequence = ++db->next_sequence;
    db->active++;
    return request;
}

static void unref_sql(rr__sql_t *sql) {
    if (sql && --sql->references == 0)
        rr__sql_free(sql);
}

void rr__db_request_free(rr__db_request_t *request) {
    rr__db_t *db = request->db;
    rr__db_wait_over(request);
    rr__db_timer_clear(db, &request->timer);
    if (request->asker) {
        TAILQ_REMOVE(&request->asker->requests, request, of_asker);
        if (request->id && rr_map_get(&request->asker->by_id, request->id) == request)
            rr_map_take(&request->asker->by_id, request->id);
        rr__db_asker_drop(request->asker);
    }
    unref_sql(request->sql);
    rr_buffer_unref(request->payload);
    rr_datum_drop(&request->job.out);
    rr_buffer_unref(request->answer);
    db->active--;
    if (db->spare_count >= SPARE_MAX || !db->self) {
        free(request);
        return;
    }
    TAILQ_INSERT_HEAD(&db->spare, request, link);
    db->spare_count++;
}

/* ---- Statements ---- */

typedef struct rr__sql_entry {
    rr__sql_t *sql;
    uint64_t hash; /* of the source */
    struct rr__sql_entry *older, *newer;
} rr__sql_entry_t;

typedef struct wanted {
    const char *text;
    size_t size;
    bool named;
} wanted_t;

static bool is_wanted(const void *item, const void *key) {
    const rr__sql_t *sql = ((const rr__sql_entry_t *)item)->sql;
    const wanted_t *wanted = key;
    return sql->source_size == wanted->size && sql->named == wanted->named && memcmp(sql->source, wanted->text, wanted->size) == 0;
}

static void unlink_entry(rr__db_t *db, rr__sql_entry_t *entry) {
    *(entry->older ? &entry->older->newer : &db->oldest) = entry->newer;
    *(entry->newer ? &entry->newer->older : &db->newest) = entry->older;
}

static void link_newest(rr__db_t *db, rr__sql_entry_t *entry) {
    entry->newer = NULL;
    entry->older = db->newest;
    *(db->newest ? &db->newest->newer : &db->oldest) = entry;
    db->newest = entry;
}

static void drop_oldest(rr__db_t *db) {
    rr__sql_entry_t *entry = db->oldest;
    unlink_entry(db, entry);
    rr_set_remove(&db->statements, entry->hash, entry);
    unref_sql(entry->sql);
    free(entry);
}

void rr__db_statements_free(rr__db_t *db) {
    while (db->oldest)
        drop_oldest(db);
    rr_set_free(&db->statements);
}

/* Keeps it for the next time; without memory it is translated again then. */
static void remember(rr__db_t *db, rr__sql_t *sql, uint64_t hash) {
    rr__sql_entry_t *entry = malloc(sizeof *entry);
    if (!entry)
        return;
    *entry = (rr__sql_entry_t){.sql = sql, .hash = hash};
    if (!rr_set_add(&db->statements, hash, entry)) {
        free(entry);
        return;
    }
    sql->references++;
    link_newest(db, entry);
    if (db->statements.count > STATEMENTS_MAX)
        drop_oldest(db);
}

/* The translated statement, with a reference for the caller. */
static int statement(rr__db_t *db, const rr_query_t *query, rr__sql_t **out, char *why, size_t why_size) {
    wanted_t wanted = {query->text, query->text_size, (query->flags & RR_QUERY_NAMED) != 0};
    uint64_t hash = rr__sql_hash(query->text, query->text_size) + wanted.named;
    rr__sql_entry_t *entry = rr_set_find(&db->statements, hash, is_wanted, &wanted);
    if (entry) {
        if (entry != db->newest) {
            unlink_entry(db, entry);
            link_newest(db, entry);
        }
        *out = entry->sql;
        (*out)->references++;
        return RR_OK;
    }
    int rc = rr__sql_translate(db->driver, query->text, query->text_size, wanted.named, out, why, why_size);
    if (rc == RR_OK)
        remember(db, *out, hash);
    return rc;
}

/* ---- What a call asks for ---- */

static bool fail(rr__db_request_t *request, rr_db_error_t error, const char *why) {
    rr__db_end_error(request, error, RR_EXECUTED_NO, "%s", why);
    return false;
}

/* The parameters behind their list's head. */
static bool take_parameters(rr__db_request_t *request, const rr_query_t *query, uint32_t *count) {
    *count = 0;
    request->job.parameters = rr_datum_reader(query->parameters, query->parameters_size);
    return !query->parameters || rr_datum_get_list(&request->job.parameters, count) == RR_OK;
}

/* BATCH: each of its lists fits. */
static bool check_lists(rr__db_request_t *request) {
    rr__db_job_t job = request->job; /* a copy: its reader moves */
    char why[200] = "a batch takes a list of lists";
    for (uint32_t i = 0; i < job.list_count; i++) {
        rr_datum_reader_t values;
        int count = rr__db_next_list(&job, &values);
        if (count < 0 || rr__sql_fit(request->sql, values, (uint32_t)count, why, sizeof why) != RR_OK)
            return fail(request, RR_DB_DATA, why);
    }
    return true;
}

/* What a statement does to its connection must be what the pool knows of it. */
static bool check_effect(rr__db_request_t *request, const rr_query_t *query) {
    switch (request->sql->effect) {
    case RR__SQL_TRANSACTS:
        return fail(request, RR_DB_STATE, "a transaction begins and ends by `async with db.transaction() as tx:`, not by statements: "
                                          "others could go to its connection, and the next one to another");
    case RR__SQL_LOCKS:
        return fail(request, RR_DB_STATE, "this would lock tables for a connection of the pool, not for you: take SELECT … FOR UPDATE in "
                                          "`async with db.transaction() as tx:`");
    case RR__SQL_WITHIN:
        return query->transaction || fail(request, RR_DB_STATE, "this is part of a transaction: `async with db.transaction() as tx:`, and "
                                                                "`async with tx.savepoint():` within");
    case RR__SQL_KEEPS:
        return query->transaction || fail(request, RR_DB_STATE, "this would hold for one connection of the pool, and queries go to any: in "
                                                                "`async with db.transaction() as tx:` it holds until that ends");
    default:
        return true;
    }
}

static bool prepare_sql(rr__db_request_t *request, const rr_query_t *query) {
    char why[200] = "out of memory";
    uint32_t count;
    if (request->db->driver->style == RR__DB_NO_SQL)
        return fail(request, RR_DB_STATE, "this database takes commands, not SQL");
    if (!query->text)
        return fail(request, RR_DB_STATE, "there is no statement");
    int rc = statement(request->db, query, &request->sql, why, sizeof why);
    if (rc != RR_OK)
        return fail(request, rc == RR_ENOMEM ? RR_DB_BUSY : RR_DB_DATA, why);
    if (!(query->flags & RR_QUERY_TEXTS) && !check_effect(request, query))
        return false;
    rr__db_job_t *job = &request->job;
    job->sql = request->sql;
    job->text = request->sql->text;
    job->text_size = request->sql->text_size;
    job->text_hash = request->sql->hash;
    job->placeholders = request->sql->placeholders;
    if (!take_parameters(request, query, &count))
        return fail(request, RR_DB_DATA, "parameters are a list");
    if (request->op == RR_DB_BATCH) {
        job->list_count = count;
        return check_lists(request);
    }
    job->parameter_count = count;
    if (rr__sql_fit(request->sql, job->parameters, count, why, sizeof why) != RR_OK)
        return fail(request, RR_DB_DATA, why);
    return true;
}

static bool prepare_commands(rr__db_request_t *request, const rr_query_t *query) {
    if (request->db->driver->style != RR__DB_NO_SQL)
        return fail(request, RR_DB_STATE, "this database takes SQL, not commands");
    if (!take_parameters(request, query, &request->job.list_count) || request->job.list_count == 0)
        return fail(request, RR_DB_DATA, request->op == RR_DB_SUBSCRIBE ? "there is no channel" : "there is no command");
    return true;
}

static bool prepare(rr__db_request_t *request, const rr_query_t *query) {
    request->job.flags = query->flags;
    switch (request->op) {
    case RR_DB_QUERY:
    case RR_DB_BATCH:
    case RR_DB_STREAM:
        return prepare_sql(request, query);
    case RR_DB_COMMANDS:
    case RR_DB_SUBSCRIBE:
        return prepare_commands(request, query);
    default:
        return true;
    }
}

bool rr__db_prepare(rr__db_request_t *request, const rr_query_t *query) {
    if (!prepare(request, query))
        return false;
    request->parameters = request->job.parameters;
    request->list_count = request->job.list_count;
    return true;
}

/* ---- Ready: a heap, the oldest first ---- */

static void heap_set(rr__db_t *db, uint32_t i, rr__db_request_t *request) {
    db->ready[i] = request;
    request->heap_index = i;
}

static void sift_up(rr__db_t *db, uint32_t i, rr__db_request_t *request) {
    while (i > 0 && db->ready[(i - 1) / 2]->sequence > request->sequence) {
        heap_set(db, i, db->ready[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
    heap_set(db, i, request);
}

static void sift_down(rr__db_t *db, uint32_t i, rr__db_request_t *request) {
    for (;;) {
        uint32_t child = i * 2 + 1;
        if (child + 1 < db->ready_count && db->ready[child + 1]->sequence < db->ready[child]->sequence)
            child++;
        if (child >= db->ready_count || db->ready[child]->sequence > request->sequence)
            break;
        heap_set(db, i, db->ready[child]);
        i = child;
    }
    heap_set(db, i, request);
}

static void heap_remove(rr__db_t *db, rr__db_request_t *request) {
    uint32_t i = request->heap_index;
    rr__db_request_t *last = db->ready[--db->ready_count];
    request->place = RR__DB_NOWHERE;
    if (last == request)
        return;
    if (i > 0 && db->ready[(i - 1) / 2]->sequence > last->sequence)
        sift_up(db, i, last);
    else
        sift_down(db, i, last);
}

static bool heap_room(rr__db_t *db) {
    if (db->ready_count < db->ready_capacity)
        return true;
    uint32_t capacity = db->ready_capacity ? db->ready_capacity * 2 : 64;
    rr__db_request_t **more = realloc(db->ready, capacity * sizeof(*more));
    if (!more)
        return false;
    db->ready = more;
    db->ready_capacity = capacity;
    return true;
}

void rr__db_ready(rr__db_request_t *request) {
    rr__db_t *db = request->db;
    if (!heap_room(db)) {
        rr__db_end_error(request, RR_DB_BUSY, RR_EXECUTED_NO, "out of memory");
        return;
    }
    request->place = RR__DB_READY;
    sift_up(db, db->ready_count++, request);
}

rr__db_request_t *rr__db_ready_pop(rr__db_t *db) {
    rr__db_request_t *request = db->ready[0];
    heap_remove(db, request);
    return request;
}

/* ---- Keys ---- */

static bool is_key(const void *item, const void *key) {
    const rr__db_lane_t *lane = item;
    const rr_query_t *query = key;
    return lane->size == query->key_size && memcmp(lane->key, query->key, lane->size) == 0;
}

static rr__db_lane_t *lane_new(rr__db_t *db, uint64_t hash, const rr_query_t *query) {
    rr__db_lane_t *lane = malloc(sizeof *lane + query->key_size);
    if (!lane)
        return NULL;
    *lane = (rr__db_lane_t){.hash = hash, .size = query->key_size, .key = (char *)(lane + 1)};
    memcpy(lane->key, query->key, query->key_size);
    TAILQ_INIT(&lane->behind);
    if (rr_set_add(&db->lanes, hash, lane))
        return lane;
    free(lane);
    return NULL;
}

void rr__db_lane_leave(rr__db_request_t *request) {
    rr__db_lane_t *lane = request->lane;
    if (!lane)
        return;
    request->lane = NULL;
    rr__db_request_t *next = TAILQ_FIRST(&lane->behind);
    if (!next) {
        rr_set_remove(&request->db->lanes, lane->hash, lane);
        free(lane);
        return;
    }
    TAILQ_REMOVE(&lane->behind, next, link);
    rr__db_ready(next);
}

/* With one connection all run in order of arrival anyway. */
void rr__db_enqueue(rr__db_request_t *request, const rr_query_t *query) {
    rr__db_t *db = request->db;
    rr__db_wait(request, db->options->acquire_timeout_ms);
    if (!query->key || db->pool_size == 1) {
        rr__db_ready(request);
        return;
    }
    uint64_t hash = rr__sql_hash(query->key, query->key_size);
    rr__db_lane_t *lane = rr_set_find(&db->lanes, hash, is_key, query);
    if (lane) {
        request->lane = lane;
        request->place = RR__DB_BEHIND;
        TAILQ_INSERT_TAIL(&lane->behind, request, link);
        return;
    }
    request->lane = lane_new(db, hash, query);
    if (request->lane)
        rr__db_ready(request);
    else
        rr__db_end_error(request, RR_DB_BUSY, RR_EXECUTED_NO, "out of memory");
}

/* ---- Waiting ---- */

/* Perhaps: a scene's handlers are one asker. BEGIN says what its handler holds. */
static bool waits_for_itself(const rr__db_request_t *request) {
    return request->op != RR_DB_BEGIN && !request->transaction && request->asker && !TAILQ_EMPTY(&request->asker->transactions);
}

static bool server_is_away(const rr__db_t *db) { return db->failures > 0 && db->open == 0; }

static void on_wait_over(rr__db_timer_t *timer) {
    rr__db_request_t *request = RR__DB_OF_TIMER(timer, rr__db_request_t, timer);
    rr__db_t *db = request->db;
    rr__db_withdraw(request);
    if (request->subscription)
        rr__db_subscription_give_up(request, RR_DB_CONNECTION);
    else if (server_is_away(db))
        rr__db_end_failed(request, &db->last_failure, RR_EXECUTED_NO);
    else
        rr__db_end_error(request, RR_DB_BUSY, RR_EXECUTED_NO, "no connection became free within %u ms; %u of %u are in use%s",
                         db->options->acquire_timeout_ms, (unsigned)rr_counted(&db->count.in_use), db->pool_size,
                         waits_for_itself(request) ? "; the same scene has a transaction open: what belongs to it is asked of it "
                                                     "(tx.query)" : "");
}

void rr__db_wait(rr__db_request_t *request, unsigned ms) {
    rr__db_t *db = request->db;
    if (!request->queued) {
        request->queued = true;
        db->waiting++;
        db->waiting_bytes += request->cost;
    }
    rr__db_timer_set(db, &request->timer, ms, on_wait_over);
}

void rr__db_wait_over(rr__db_request_t *request) {
    if (!request->queued)
        return;
    request->queued = false;
    request->db->waiting--;
    request->db->waiting_bytes -= request->cost;
    rr__db_timer_clear(request->db, &request->timer);
}

void rr__db_withdraw(rr__db_request_t *request) {
    if (request->place == RR__DB_READY) {
        heap_remove(request->db, request);
    } else if (request->place == RR__DB_BEHIND && request->transaction) {
        TAILQ_REMOVE(&request->transaction->behind, request, link);
        if (request->op == RR_DB_COMMIT || request->op == RR_DB_ROLLBACK)
            request->transaction->ending = false;
    } else if (request->place == RR__DB_BEHIND) {
        TAILQ_REMOVE(&request->lane->behind, request, link);
        request->lane = NULL; /* another one of its key has it */
    }
    request->place = RR__DB_NOWHERE;
}
