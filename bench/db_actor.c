/* Through the database's actor, asked by an actor in C on a core worker, or on the database's loop. */
#include <semaphore.h>
#include <string.h>

#include "actors/database/database.h"
#include "actors/protocol.h"
#include "bench/db.h"

#define BATCHES 2u /* insert: one runs, one waits behind it */

typedef struct asker asker_t;

typedef struct slot { /* one query at a time */
    asker_t *asker;
    uint64_t id, asked;
} slot_t;

struct asker { /* its actor's only, until `over` */
    const db_params_t *p;
    db_clock_t *clock;
    bench_run_t *out;
    rr_addr_t database;
    bool insert, get;
    uint64_t random, inserted, busy;
    slot_t *slots;
    sem_t over;
};

static void ask(rr_actor_t *self, slot_t *slot);

/* ---- Requests ---- */

static void put_row(rr_datum_writer_t *writer, uint64_t id) {
    char name[64];
    db_name(id, name, sizeof name);
    rr_datum_put_list(writer, 3);
    rr_datum_put_int(writer, (int64_t)id);
    rr_datum_put_text(writer, RR_DATUM_TEXT, name, strlen(name));
    rr_datum_put_int(writer, db_score(id));
}

static rr_buffer_t *insert_request(const asker_t *a, uint64_t first) {
    rr_datum_writer_t writer = {0};
    rr_query_t query = {.op = RR_DB_BATCH, .text = DB_INSERT, .text_size = strlen(DB_INSERT)};
    rr_query_begin(&writer, &query);
    rr_datum_put_list(&writer, (uint32_t)a->p->batch);
    for (uint64_t i = 0; i < a->p->batch; i++)
        put_row(&writer, first + i);
    return rr_datum_finish(&writer);
}

static rr_buffer_t *get_request(uint64_t id) {
    char key[32];
    rr_datum_writer_t writer = {0};
    rr_query_t query = {.op = RR_DB_COMMANDS};
    rr_query_begin(&writer, &query);
    rr_datum_put_list(&writer, 1);
    rr_datum_put_list(&writer, 2);
    rr_datum_put_text(&writer, RR_DATUM_TEXT, "GET", 3);
    rr_datum_put_text(&writer, RR_DATUM_TEXT, key, (size_t)snprintf(key, sizeof key, "rr:%012llu", (unsigned long long)id));
    return rr_datum_finish(&writer);
}

static rr_buffer_t *select_request(uint64_t id) {
    rr_datum_writer_t writer = {0};
    rr_query_t query = {.op = RR_DB_QUERY, .text = DB_SELECT "?", .text_size = strlen(DB_SELECT "?")};
    rr_query_begin(&writer, &query);
    rr_datum_put_list(&writer, 1);
    rr_datum_put_int(&writer, (int64_t)id);
    return rr_datum_finish(&writer);
}

/* ---- Answers ---- */

static bool right_row(uint64_t id, rr_datum_reader_t *rows) {
    uint32_t count;
    int64_t got, score;
    const char *name;
    size_t size;
    return rr_datum_get_list(rows, &count) == RR_OK && count == 3 && rr_datum_get_int(rows, &got) == RR_OK &&
           rr_datum_get_text(rows, &name, &size) == RR_OK && name && rr_datum_get_int(rows, &score) == RR_OK &&
           db_row_is(id, got, name, size, score) && rows->at == rows->end;
}

static bool right_value(uint64_t id, rr_datum_reader_t *rows) {
    char want[64];
    uint32_t count;
    const char *name;
    size_t size;
    db_name(id, want, sizeof want);
    return rr_datum_get_list(rows, &count) == RR_OK && count == 1 && rr_datum_get_text(rows, &name, &size) == RR_OK && name &&
           size == strlen(want) && memcmp(name, want, size) == 0;
}

static void check(const slot_t *slot, int status, rr_message_t *msg) {
    asker_t *a = slot->asker;
    rr_db_answer_t answer;
    if (status != RR_OK || rr_db_answer_decode(rr_message_data(msg), rr_message_size(msg), &answer) != RR_OK)
        bench_fail(a->out, "a query ended with %s", rr_strerror(status));
    else if (answer.error != RR_DB_OK)
        bench_fail(a->out, "%s: %.*s", rr_db_error_name(answer.error), (int)answer.message_size, answer.message);
    else if (a->insert ? answer.affected != (int64_t)a->p->batch
                       : !(a->get ? right_value(slot->id, &answer.rows) : right_row(slot->id, &answer.rows)))
        bench_fail(a->out, "%llu came back wrong", (unsigned long long)slot->id);
}

static void on_answer(rr_actor_t *self, void *state, int status, rr_message_t *msg, void *context) {
    slot_t *slot = context;
    asker_t *a = slot->asker;
    check(slot, status, msg);
    if (db_clock_count(a->clock, slot->asked, a->insert ? a->p->batch : 1) && !a->out->failure[0])
        ask(self, slot);
    else if (--a->busy == 0)
        sem_post(&a->over);
}

static void ask(rr_actor_t *self, slot_t *slot) {
    asker_t *a = slot->asker;
    slot->id = a->insert ? a->inserted : db_next(&a->random, a->p->rows);
    a->inserted += a->insert ? a->p->batch : 0;
    slot->asked = bench_now_ns();
    rr_buffer_t *request = a->insert ? insert_request(a, slot->id) : a->get ? get_request(slot->id) : select_request(slot->id);
    if (!request || rr_call_buffer(self, a->database, RR_TYPE_QUERY, request, RR_DATABASE_CALL_MS, on_answer, slot, NULL) != RR_OK)
        bench_die("db: a query could not be sent");
}

static int asker_start(rr_actor_t *self, void *state, const void *arg) {
    asker_t *a = *(asker_t *const *)arg;
    for (uint64_t i = 0, count = a->busy; i < count; i++)
        ask(self, &a->slots[i]);
    return RR_OK;
}

static void asker_receive(rr_actor_t *self, void *state, rr_message_t *msg) {
}

static const rr_behavior_t asker_behavior = {.name = "asker", .start = asker_start, .receive = asker_receive};

/* ---- The run ---- */

static void must(int rc, const char *what) {
    if (rc != RR_OK)
        bench_die("db: %s: %s", what, rr_strerror(rc));
}

static int64_t ask_number(rr_system_t *system, rr_addr_t database, const char *sql) {
    rr_query_t query = {.op = RR_DB_QUERY, .text = sql, .text_size = strlen(sql)};
    rr_buffer_t *reply = NULL;
    rr_db_answer_t answer;
    uint32_t count;
    int64_t number = -1;
    must(rr_database_ask(system, database, rr_query_encode(&query), 30000, &reply), "asking");
    if (rr_db_answer_decode(rr_buffer_data(reply), rr_buffer_size(reply), &answer) != RR_OK || answer.error != RR_DB_OK ||
        (answer.column_count && (rr_datum_get_list(&answer.rows, &count) != RR_OK || rr_datum_get_int(&answer.rows, &number) != RR_OK)))
        bench_die("db: %s failed", sql);
    rr_buffer_unref(reply);
    return number;
}

static rr_addr_t spawn_database(rr_system_t *system, const db_params_t *p, rr_loop_t *loop) {
    rr_database_options_t options;
    rr_database_options_init(&options);
    char why[256] = "";
    rr_addr_t database;
    options.url = p->to;
    options.pool = (unsigned)p->connections;
    options.loop = loop;
    if (rr_database_spawn(system, &options, &database, why, sizeof why) != RR_OK)
        bench_die("db: %s", why);
    return database;
}

void db_actor(const db_workload_t *workload, const db_params_t *p, bench_run_t *out) {
    asker_t a = {.p = p, .out = out, .random = 88172645463325252ull};
    a.insert = strcmp(workload->name, "insert") == 0;
    a.get = strcmp(workload->name, "get") == 0;
    a.busy = a.insert ? BATCHES : p->outstanding;
    a.slots = bench_alloc(a.busy * sizeof *a.slots);
    for (uint64_t i = 0; i < a.busy; i++)
        a.slots[i].asker = &a;
    sem_init(&a.over, 0, 0);
    rr_system_t *system;
    rr_options_t options;
    rr_options_init(&options);
    options.core_threads = 1;
    options.log_level = RR_WARN;
    must(rr_system_create(&system, &options), "system");
    must(rr_system_start(system), "start");
    rr_loop_t *loop;
    must(rr_loop_create(system, "databases", &loop), "loop");
    a.database = spawn_database(system, p, loop);
    if (a.insert)
        ask_number(system, a.database, "DELETE FROM " DB_TABLE "_log");
    else if (!a.get)
        ask_number(system, a.database, "SELECT 1"); /* the plain client has opened its connections, too, when its time begins */
    db_clock_t clock;
    db_clock_start(&clock, p);
    a.clock = &clock;
    const asker_t *arg = &a;
    rr_spawn_t spec = {.behavior = &asker_behavior, .arg = &arg, .arg_size = sizeof arg,
                       .executor = p->pinned ? rr_loop_executor(loop) : NULL};
    must(rr_system_spawn(system, &spec, NULL), "spawn");
    while (sem_wait(&a.over) != 0) {
    }
    if (a.insert && ask_number(system, a.database, "SELECT count(DISTINCT id) FROM " DB_TABLE "_log") != (int64_t)a.inserted)
        bench_fail(out, "of %llu rows not each is there", (unsigned long long)a.inserted);
    if (!rr_system_stop(system))
        bench_fail(out, "a thread hangs");
    rr_system_destroy(system);
    db_clock_tell(&clock, workload, out);
    free(a.slots);
    sem_destroy(&a.over);
}
