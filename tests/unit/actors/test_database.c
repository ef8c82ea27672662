/* The database actor on real SQLite files: values, transactions, streams, limits, time-outs, order, ends. */
#include <sqlite3.h>
#include <stdarg.h>
#include <unistd.h>

#include "actors/database/database.h"
#include "actors/protocol.h"
#include "runtime/metrics.h"
#include "tests/unit/runtime/rig.h"

typedef struct world {
    rr_system_t *system;
    rr_loop_t *loop;
    rr_addr_t db;
    char folder[64];
} world_t;

static rr_database_options_t preset(world_t *world, const char *url) {
    rr_database_options_t options;
    rr_database_options_init(&options);
    options.name = "db@test";
    options.url = url;
    options.folder = world->folder;
    options.loop = world->loop;
    return options;
}

static void world_open(world_t *world) {
    strcpy(world->folder, "/tmp/rr-db-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(world->folder));
    world->system = rig_start(2);
    ck_assert_int_eq(rr_loop_create(world->system, "db", &world->loop), RR_OK);
}

static void world_spawn(world_t *world, const rr_database_options_t *options) {
    char why[256];
    int rc = rr_database_spawn(world->system, options, &world->db, why, sizeof why);
    ck_assert_msg(rc == RR_OK, "%s", why);
}

static void world_start(world_t *world) {
    world_open(world);
    rr_database_options_t options = preset(world, "sqlite://./test.db");
    world_spawn(world, &options);
}

static void remove_folder(const char *folder) {
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    ck_assert_int_eq(system(command), 0);
}

static void world_end(world_t *world) {
    ck_assert_int_eq(rr_system_drain(world->system, 10000), RR_OK);
    rig_end(world->system);
    remove_folder(world->folder);
}

/* ---- Asking ---- */

typedef struct asked {
    rr_buffer_t *buffer;
    rr_db_answer_t answer;
} asked_t;

static asked_t ask_query(world_t *world, const rr_query_t *query) {
    asked_t out = {0};
    int rc = rr_database_ask(world->system, world->db, rr_query_encode(query), 30000, &out.buffer);
    ck_assert_msg(rc == RR_OK, "%s", rr_strerror(rc));
    ck_assert_int_eq(rr_db_answer_decode(rr_buffer_data(out.buffer), rr_buffer_size(out.buffer), &out.answer), RR_OK);
    return out;
}

static rr_buffer_t *list_of(uint32_t count, const rr_datum_t *datums) {
    rr_datum_writer_t writer = {0};
    rr_datum_put_list(&writer, count);
    for (uint32_t i = 0; i < count; i++)
        rr_datum_put(&writer, &datums[i]);
    return rr_datum_finish(&writer);
}

static asked_t ask(world_t *world, rr_db_op_t op, const char *text, uint32_t count, const rr_datum_t *datums) {
    rr_buffer_t *parameters = list_of(count, datums);
    rr_query_t query = {.op = op, .text = text, .text_size = strlen(text), .parameters = rr_buffer_data(parameters),
                        .parameters_size = rr_buffer_size(parameters)};
    asked_t out = ask_query(world, &query);
    rr_buffer_unref(parameters);
    return out;
}

static void asked_end(asked_t *asked) { rr_buffer_unref(asked->buffer); }

static void good(asked_t *asked) {
    ck_assert_msg(asked->answer.error == RR_DB_OK, "%s: %.*s", rr_db_error_name(asked->answer.error),
                  (int)asked->answer.message_size, asked->answer.message);
}

/* Does it, and it must go well; what it changed is returned. */
static int64_t does(world_t *world, const char *text) {
    asked_t asked = ask(world, RR_DB_QUERY, text, 0, NULL);
    good(&asked);
    int64_t affected = asked.answer.affected;
    asked_end(&asked);
    return affected;
}

static int64_t number_of(world_t *world, const char *text) {
    asked_t asked = ask(world, RR_DB_QUERY, text, 0, NULL);
    uint32_t count;
    int64_t number;
    good(&asked);
    ck_assert_int_eq(rr_datum_get_list(&asked.answer.rows, &count), RR_OK);
    ck_assert_int_eq(rr_datum_get_int(&asked.answer.rows, &number), RR_OK);
    asked_end(&asked);
    return number;
}

static void fails(world_t *world, const rr_query_t *query, rr_db_error_t error, rr_executed_t executed) {
    asked_t asked = ask_query(world, query);
    ck_assert_msg(asked.answer.error == error, "%s: %.*s", rr_db_error_name(asked.answer.error), (int)asked.answer.message_size,
                  asked.answer.message);
    ck_assert_int_eq(asked.answer.executed, executed);
    asked_end(&asked);
}

static void fails_text(world_t *world, const char *text, rr_db_error_t error) {
    fails(world, &(rr_query_t){.op = RR_DB_QUERY, .text = text, .text_size = strlen(text)}, error, RR_EXECUTED_NO);
}

/* The text names what to do about it. */
static void fails_saying(world_t *world, const char *text, rr_db_error_t error, const char *word) {
    asked_t asked = ask(world, RR_DB_QUERY, text, 0, NULL);
    ck_assert_int_eq(asked.answer.error, error);
    ck_assert_int_eq(asked.answer.executed, RR_EXECUTED_NO);
    ck_assert_msg(memmem(asked.answer.message, asked.answer.message_size, word, strlen(word)) != NULL, "%s: %.*s", word,
                  (int)asked.answer.message_size, asked.answer.message);
    asked_end(&asked);
}

#define TEXT(s) {.kind = RR_DATUM_TEXT, .text = {s, sizeof(s) - 1}}
#define INT(n) {.kind = RR_DATUM_INT, .number = n}

/* ---- An asker that stays: transactions and streams are its own ---- */

typedef struct session {
    world_t *world;
    rr_addr_t addr;
    pthread_mutex_t lock;
    rr_buffer_t *replies[64];
    int statuses[64];
    latch_t answered;
} session_t;

typedef struct order { /* one call for the asker to make */
    rr_buffer_t *request;
    uintptr_t slot;
} order_t;

static void on_reply(rr_actor_t *self, void *state, int status, rr_message_t *msg, void *context) {
    session_t *session = *(session_t **)state;
    uintptr_t slot = (uintptr_t)context;
    pthread_mutex_lock(&session->lock);
    session->statuses[slot] = status;
    session->replies[slot] = status == RR_OK ? rr_buffer_copy(rr_message_data(msg), rr_message_size(msg)) : NULL;
    pthread_mutex_unlock(&session->lock);
    latch_add(&session->answered, 1);
}

static int session_start_actor(rr_actor_t *self, void *state, const void *arg) {
    *(session_t **)state = *(session_t *const *)arg;
    return RR_OK;
}

static void session_receive(rr_actor_t *self, void *state, rr_message_t *msg) {
    session_t *session = *(session_t **)state;
    order_t order;
    if (rr_message_type(msg) == RR_TYPE_QUERY_CANCEL) {
        MUST(rr_send(self, session->world->db, RR_TYPE_QUERY_CANCEL, rr_message_data(msg), 8) == RR_OK);
        return;
    }
    memcpy(&order, rr_message_data(msg), sizeof order);
    MUST(rr_call_buffer(self, session->world->db, RR_TYPE_QUERY, order.request, RR_DATABASE_CALL_MS, on_reply, (void *)order.slot,
                        NULL) == RR_OK);
}

static const rr_behavior_t session_behavior = {
    .name = "session", .state_size = sizeof(session_t *), .start = session_start_actor, .receive = session_receive};

static void session_open(session_t *session, world_t *world) {
    *session = (session_t){.world = world, .lock = PTHREAD_MUTEX_INITIALIZER, .answered = LATCH_INIT};
    rr_spawn_t spec = {.behavior = &session_behavior, .arg = &session, .arg_size = sizeof session};
    session->addr = rig_spawn(world->system, &spec);
}

static void session_send(session_t *session, uintptr_t slot, const rr_query_t *query) {
    order_t order = {rr_query_encode(query), slot};
    ck_assert_int_eq(rr_system_send(session->world->system, session->addr, 1, &order, sizeof order), RR_OK);
}

static asked_t session_take(session_t *session, uintptr_t slot) {
    asked_t out = {0};
    ck_assert_int_eq(session->statuses[slot], RR_OK);
    out.buffer = session->replies[slot];
    ck_assert_int_eq(rr_db_answer_decode(rr_buffer_data(out.buffer), rr_buffer_size(out.buffer), &out.answer), RR_OK);
    return out;
}

static asked_t session_ask(session_t *session, const rr_query_t *query) {
    uint64_t before = latch_count(&session->answered);
    session_send(session, 0, query);
    latch_wait(&session->answered, before + 1);
    return session_take(session, 0);
}

static uint64_t session_does(session_t *session, rr_db_op_t op, uint64_t transaction, const char *text) {
    rr_query_t query = {.op = op, .transaction = transaction, .text = text, .text_size = text ? strlen(text) : 0};
    asked_t asked = session_ask(session, &query);
    good(&asked);
    uint64_t id = asked.answer.id;
    asked_end(&asked);
    return id;
}

static void session_fails(session_t *session, rr_db_op_t op, uint64_t transaction, uint64_t stream, const char *text, rr_db_error_t error) {
    rr_query_t query = {.op = op, .transaction = transaction, .stream = stream, .text = text, .text_size = text ? strlen(text) : 0};
    asked_t asked = session_ask(session, &query);
    ck_assert_msg(asked.answer.error == error, "%s: %.*s", rr_db_error_name(asked.answer.error), (int)asked.answer.message_size,
                  asked.answer.message);
    asked_end(&asked);
}

static void session_end(session_t *session) {
    rr_kill(session->world->system, session->addr, RR_CANCELLED);
}

/* ---- Cases ---- */

START_TEST(values_in_and_out) {
    world_t world;
    world_start(&world);
    does(&world, "CREATE TABLE t (id INTEGER PRIMARY KEY, a, b, c, d, e)");
    const rr_datum_t in[] = {TEXT("h\xc3\xa9llo"), INT(INT64_MIN), {.kind = RR_DATUM_REAL, .real = 0.5}, {.kind = RR_DATUM_BYTES, .text = {"\0\xff", 2}},
                             {.kind = RR_DATUM_NULL}};
    asked_t asked = ask(&world, RR_DB_QUERY, "INSERT INTO t (a, b, c, d, e) VALUES (?, ?, ?, ?, ?)", 5, in);
    good(&asked);
    ck_assert_int_eq(asked.answer.affected, 1);
    ck_assert(asked.answer.has_last_id);
    ck_assert_int_eq(asked.answer.last_id, 1);
    asked_end(&asked);
    asked = ask(&world, RR_DB_QUERY, "SELECT a, b, c, d, e FROM t", 0, NULL);
    good(&asked);
    rr_datum_t out;
    uint32_t count;
    ck_assert_uint_eq(asked.answer.column_count, 5);
    ck_assert(!asked.answer.has_last_id);
    ck_assert_int_eq(rr_datum_get_list(&asked.answer.rows, &count), RR_OK);
    for (int i = 0; i < 5; i++) {
        ck_assert_int_eq(rr_datum_get(&asked.answer.rows, &out), RR_OK);
        ck_assert_int_eq(out.kind, in[i].kind);
        if (out.kind == RR_DATUM_TEXT || out.kind == RR_DATUM_BYTES)
            ck_assert(out.text.size == in[i].text.size && memcmp(out.text.data, in[i].text.data, out.text.size) == 0);
        else if (out.kind != RR_DATUM_NULL)
            ck_assert(out.big == in[i].big);
    }
    asked_end(&asked);
    world_end(&world);
}
END_TEST

START_TEST(dates_and_others_are_text) {
    world_t world;
    world_start(&world);
    const rr_datum_t in[] = {
        {.kind = RR_DATUM_DATETIME, .moment = {2024, 2, 29, 1, 2, 3, RR_MOMENT_ZONED, 500, -19800}},
        {.kind = RR_DATUM_DATE, .moment = {.year = 2024, .month = 2, .day = 29}},
        {.kind = RR_DATUM_DECIMAL, .text = {"1.50", 4}},
        {.kind = RR_DATUM_BOOL, .flag = true},
    };
    asked_t asked = ask(&world, RR_DB_QUERY, "SELECT ? || '|' || ? || '|' || ? || '|' || ?", 4, in);
    const char *text;
    size_t size;
    uint32_t count;
    good(&asked);
    ck_assert_int_eq(rr_datum_get_list(&asked.answer.rows, &count), RR_OK);
    ck_assert_int_eq(rr_datum_get_text(&asked.answer.rows, &text, &size), RR_OK);
    ck_assert_mem_eq(text, "2024-02-29 01:02:03.000500-05:30|2024-02-29|1.50|1", size);
    asked_end(&asked);
    const rr_datum_t span = {.kind = RR_DATUM_SPAN, .number = 1};
    asked = ask(&world, RR_DB_QUERY, "SELECT ?", 1, &span);
    ck_assert_int_eq(asked.answer.error, RR_DB_DATA);
    asked_end(&asked);
    world_end(&world);
}
END_TEST

START_TEST(named_parameters_and_texts) {
    world_t world;
    world_start(&world);
    const rr_datum_t in[] = {TEXT("b"), INT(2), TEXT("a"), INT(1)};
    rr_buffer_t *parameters = list_of(4, in);
    const char *sql = "SELECT :a, :b, ':a', :a + :b";
    rr_query_t query = {.op = RR_DB_QUERY, .flags = RR_QUERY_NAMED | RR_QUERY_TEXTS, .text = sql, .text_size = strlen(sql),
                        .parameters = rr_buffer_data(parameters), .parameters_size = rr_buffer_size(parameters)};
    asked_t asked = ask_query(&world, &query);
    static const char *const expected[] = {"1", "2", ":a", "3"};
    uint32_t count;
    good(&asked);
    ck_assert_int_eq(rr_datum_get_list(&asked.answer.rows, &count), RR_OK);
    for (int i = 0; i < 4; i++) {
        rr_datum_t datum;
        ck_assert_int_eq(rr_datum_get(&asked.answer.rows, &datum), RR_OK);
        ck_assert_int_eq(datum.kind, RR_DATUM_TEXT);
        ck_assert_mem_eq(datum.text.data, expected[i], datum.text.size);
    }
    asked_end(&asked);
    static const char script[] = "CREATE TABLE s (n); INSERT INTO s VALUES (4); /* ; */ -- the end;";
    asked = ask_query(&world, &(rr_query_t){.op = RR_DB_QUERY, .flags = RR_QUERY_TEXTS, .text = script, .text_size = sizeof script - 1});
    good(&asked);
    asked_end(&asked);
    ck_assert_int_eq(number_of(&world, "SELECT n FROM s"), 4);
    query.text = "SELECT :c";
    query.text_size = strlen(query.text);
    fails(&world, &query, RR_DB_DATA, RR_EXECUTED_NO);
    rr_buffer_unref(parameters);
    world_end(&world);
}
END_TEST

/* What SQLite itself would take for a placeholder, and nobody gives a value for. */
START_TEST(placeholders_of_both_kinds) {
    world_t world;
    rr_datum_t one = INT(1);
    world_start(&world);
    fails_saying(&world, "SELECT :a", RR_DB_DATA, "placeholders are all ? (with a list), or all :name");
    asked_t asked = ask(&world, RR_DB_QUERY, "SELECT ?, :a", 1, &one);
    ck_assert_int_eq(asked.answer.error, RR_DB_DATA);
    asked_end(&asked);
    world_end(&world);
}
END_TEST

START_TEST(errors_have_classes) {
    world_t world;
    world_start(&world);
    does(&world, "CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER NOT NULL UNIQUE)");
    does(&world, "CREATE TABLE child (t INTEGER REFERENCES t(id))");
    does(&world, "INSERT INTO t VALUES (1, 1)");
    fails_text(&world, "SELEC 1", RR_DB_SYNTAX);
    fails_text(&world, "SELECT * FROM missing", RR_DB_SYNTAX);
    fails_text(&world, "INSERT INTO t VALUES (2, 1)", RR_DB_INTEGRITY);
    fails_text(&world, "INSERT INTO t VALUES (2, NULL)", RR_DB_INTEGRITY);
    fails_text(&world, "INSERT INTO child VALUES (9)", RR_DB_INTEGRITY); /* foreign keys are on */
    fails_text(&world, "SELECT 1; SELECT 2", RR_DB_SYNTAX);
    fails_text(&world, "SELECT 1; SELEC 2", RR_DB_SYNTAX);
    ck_assert_int_eq(number_of(&world, "SELECT 1; -- the end; /* ? */"), 1);
    fails_text(&world, "SELECT ?", RR_DB_DATA);
    fails_text(&world, "SELECT '\xff'", RR_DB_DATA);
    fails_text(&world, "", RR_DB_SYNTAX);
    fails(&world, &(rr_query_t){.op = RR_DB_COMMANDS}, RR_DB_STATE, RR_EXECUTED_NO);
    fails(&world, &(rr_query_t){.op = RR_DB_QUERY}, RR_DB_STATE, RR_EXECUTED_NO);
    fails(&world, &(rr_query_t){.op = RR_DB_COMMIT}, RR_DB_STATE, RR_EXECUTED_NO);
    fails(&world, &(rr_query_t){.op = RR_DB_NEXT, .stream = 7}, RR_DB_STATE, RR_EXECUTED_NO);
    world_end(&world);
}
END_TEST

static asked_t batch(world_t *world, const char *text, int rows, int64_t first) {
    rr_datum_writer_t writer = {0};
    rr_datum_put_list(&writer, (uint32_t)rows);
    for (int i = 0; i < rows; i++) {
        rr_datum_put_list(&writer, 1);
        rr_datum_put_int(&writer, first + i);
    }
    rr_query_t query = {.op = RR_DB_BATCH, .text = text, .text_size = strlen(text), .parameters = writer.data, .parameters_size = writer.size};
    asked_t out = ask_query(world, &query);
    rr_datum_drop(&writer);
    return out;
}

START_TEST(a_batch_is_all_or_none) {
    world_t world;
    world_start(&world);
    does(&world, "CREATE TABLE t (id INTEGER PRIMARY KEY)");
    asked_t asked = batch(&world, "INSERT INTO t VALUES (?)", 1000, 1);
    good(&asked);
    ck_assert_int_eq(asked.answer.affected, 1000);
    asked_end(&asked);
    asked = batch(&world, "INSERT INTO t VALUES (?)", 10, 995 + 1); /* five are new, then one is there already */
    ck_assert_int_eq(asked.answer.error, RR_DB_INTEGRITY);
    asked_end(&asked);
    asked = batch(&world, "INSERT INTO t VALUES (?)", 10, 2000);
    good(&asked);
    asked_end(&asked);
    ck_assert_int_eq(number_of(&world, "SELECT count(*) FROM t"), 1010);
    asked = batch(&world, "INSERT INTO t VALUES (?, ?)", 1, 5000);
    ck_assert_int_eq(asked.answer.error, RR_DB_DATA);
    asked_end(&asked);
    world_end(&world);
}
END_TEST

START_TEST(transactions) {
    world_t world;
    session_t session, other;
    world_start(&world);
    session_open(&session, &world);
    session_open(&other, &world);
    does(&world, "CREATE TABLE t (id INTEGER PRIMARY KEY)");
    uint64_t id = session_does(&session, RR_DB_BEGIN, 0, NULL);
    ck_assert_uint_ne(id, 0);
    session_does(&session, RR_DB_QUERY, id, "INSERT INTO t VALUES (1)");
    session_fails(&session, RR_DB_QUERY, id, 0, "INSERT INTO t VALUES (1)", RR_DB_INTEGRITY); /* the transaction lives on */
    session_fails(&other, RR_DB_QUERY, id, 0, "SELECT 1", RR_DB_STATE); /* it is not its own */
    session_does(&session, RR_DB_QUERY, id, "INSERT INTO t VALUES (2)");
    session_does(&session, RR_DB_COMMIT, id, NULL);
    session_fails(&session, RR_DB_QUERY, id, 0, "SELECT 1", RR_DB_STATE);
    session_fails(&session, RR_DB_COMMIT, id, 0, NULL, RR_DB_STATE);
    ck_assert_int_eq(number_of(&world, "SELECT count(*) FROM t"), 2);
    id = session_does(&session, RR_DB_BEGIN, 0, NULL);
    session_does(&session, RR_DB_QUERY, id, "INSERT INTO t VALUES (3)");
    session_does(&session, RR_DB_ROLLBACK, id, NULL);
    ck_assert_int_eq(number_of(&world, "SELECT count(*) FROM t"), 2);
    session_end(&session);
    session_end(&other);
    world_end(&world);
}
END_TEST

/* What ends a transaction behind its asker's back: nothing of it may go on in autocommit. */
START_TEST(a_transaction_that_the_server_ended) {
    world_t world;
    session_t session;
    world_start(&world);
    session_open(&session, &world);
    does(&world, "CREATE TABLE t (id INTEGER PRIMARY KEY ON CONFLICT ROLLBACK)");
    does(&world, "INSERT INTO t VALUES (1)");
    uint64_t id = session_does(&session, RR_DB_BEGIN, 0, NULL);
    session_does(&session, RR_DB_QUERY, id, "INSERT INTO t VALUES (2)");
    session_fails(&session, RR_DB_QUERY, id, 0, "INSERT INTO t VALUES (1)", RR_DB_INTEGRITY);
    session_fails(&session, RR_DB_QUERY, id, 0, "INSERT INTO t VALUES (3)", RR_DB_STATE);
    session_does(&session, RR_DB_ROLLBACK, id, NULL);
    ck_assert_int_eq(number_of(&world, "SELECT count(*) FROM t"), 1);
    /* The same with everything sent ahead. */
    id = session_does(&session, RR_DB_BEGIN, 0, NULL);
    uint64_t before = latch_count(&session.answered);
    for (int i = 0; i < 10; i++) {
        char text[64];
        snprintf(text, sizeof text, "INSERT INTO t VALUES (%d)", i == 3 ? 1 : 10 + i);
        session_send(&session, (uintptr_t)i, &(rr_query_t){.op = RR_DB_QUERY, .transaction = id, .text = text, .text_size = strlen(text)});
    }
    session_send(&session, 10, &(rr_query_t){.op = RR_DB_COMMIT, .transaction = id});
    latch_wait(&session.answered, before + 11);
    for (uintptr_t i = 0; i <= 10; i++) {
        asked_t asked = session_take(&session, i);
        ck_assert_int_eq(asked.answer.error, i < 3 ? RR_DB_OK : i == 3 ? RR_DB_INTEGRITY : RR_DB_STATE);
        asked_end(&asked);
    }
    ck_assert_int_eq(number_of(&world, "SELECT count(*) FROM t"), 1);
    session_end(&session);
    world_end(&world);
}
END_TEST

START_TEST(an_askers_end_rolls_back) {
    world_t world;
    session_t session;
    world_start(&world);
    session_open(&session, &world);
    does(&world, "CREATE TABLE t (id INTEGER PRIMARY KEY)");
    uint64_t id = session_does(&session, RR_DB_BEGIN, 0, NULL);
    session_does(&session, RR_DB_QUERY, id, "INSERT INTO t VALUES (1)");
    session_end(&session);
    ck_assert_int_eq(number_of(&world, "SELECT count(*) FROM t"), 0); /* it waits for the connection until then */
    world_end(&world);
}
END_TEST

/* In one that is not rolled back before, as it is where this thread waits for its CPU for as long as a transaction may idle. */
static uint64_t insert_in_transaction(session_t *session) {
    for (;;) {
        uint64_t id = session_does(session, RR_DB_BEGIN, 0, NULL);
        rr_query_t query = {.op = RR_DB_QUERY, .transaction = id, .text = "INSERT INTO t VALUES (1)", .text_size = 24};
        asked_t asked = session_ask(session, &query);
        rr_db_error_t error = asked.answer.error;
        asked_end(&asked);
        if (error == RR_DB_OK)
            return id;
        ck_assert_int_eq(error, RR_DB_STATE);
    }
}

START_TEST(an_idle_transaction_is_rolled_back) {
    world_t world;
    session_t session;
    world_open(&world);
    rr_database_options_t options = preset(&world, "sqlite://./test.db");
    options.transaction_timeout_ms = 500;
    world_spawn(&world, &options);
    session_open(&session, &world);
    does(&world, "CREATE TABLE t (id INTEGER PRIMARY KEY)");
    uint64_t id = insert_in_transaction(&session);
    ck_assert_int_eq(number_of(&world, "SELECT count(*) FROM t"), 0);
    session_fails(&session, RR_DB_COMMIT, id, 0, NULL, RR_DB_STATE);
    session_end(&session);
    world_end(&world);
}
END_TEST

#define ENDLESS "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) "

static uint64_t stream_begin(session_t *session, const char *text, unsigned flags) {
    rr_query_t query = {.op = RR_DB_STREAM, .text = text, .text_size = strlen(text)};
    asked_t asked = session_ask(session, &query);
    good(&asked);
    ck_assert_uint_eq(asked.answer.flags & RR_ANSWER_MORE, flags);
    uint64_t id = asked.answer.id;
    asked_end(&asked);
    return id;
}

static uint64_t rows_in(asked_t *asked) {
    uint64_t rows = 0;
    while (rr_datum_skip(&asked->answer.rows) == RR_OK)
        rows++;
    return rows;
}

START_TEST(streams) {
    world_t world;
    session_t session;
    world_open(&world);
    rr_database_options_t options = preset(&world, "sqlite://./test.db");
    options.stream_bytes = 4096;
    world_spawn(&world, &options);
    session_open(&session, &world);
    stream_begin(&session, "SELECT 1", 0); /* all of it at once */
    rr_query_t query = {.op = RR_DB_STREAM, .text = ENDLESS "SELECT x FROM n LIMIT 10000"};
    query.text_size = strlen(query.text);
    asked_t asked = session_ask(&session, &query);
    good(&asked);
    uint64_t id = asked.answer.id, rows = rows_in(&asked), parts = 1;
    bool more = asked.answer.flags & RR_ANSWER_MORE;
    asked_end(&asked);
    for (; more; parts++) {
        asked = session_ask(&session, &(rr_query_t){.op = RR_DB_NEXT, .stream = id});
        good(&asked);
        ck_assert_uint_lt(rr_buffer_size(asked.buffer), 4096 + 200);
        rows += rows_in(&asked);
        more = asked.answer.flags & RR_ANSWER_MORE;
        asked_end(&asked);
    }
    ck_assert_uint_eq(rows, 10000);
    ck_assert_uint_gt(parts, 30);
    session_fails(&session, RR_DB_NEXT, 0, id, NULL, RR_DB_STATE);
    id = stream_begin(&session, ENDLESS "SELECT x FROM n", RR_ANSWER_MORE); /* never read to its end */
    asked = session_ask(&session, &(rr_query_t){.op = RR_DB_CLOSE, .stream = id});
    good(&asked);
    asked_end(&asked);
    ck_assert_int_eq(number_of(&world, "SELECT 7"), 7); /* the connection is free again */
    stream_begin(&session, ENDLESS "SELECT x FROM n", RR_ANSWER_MORE);
    session_end(&session); /* its stream ends with it */
    ck_assert_int_eq(number_of(&world, "SELECT 8"), 8);
    world_end(&world);
}
END_TEST

START_TEST(a_stream_within_a_transaction) {
    world_t world;
    session_t session;
    world_start(&world);
    session_open(&session, &world);
    does(&world, "CREATE TABLE t (id INTEGER PRIMARY KEY)");
    uint64_t id = session_does(&session, RR_DB_BEGIN, 0, NULL);
    session_does(&session, RR_DB_QUERY, id, "INSERT INTO t VALUES (1)");
    rr_query_t query = {.op = RR_DB_STREAM, .transaction = id, .text = ENDLESS "SELECT x FROM n"};
    query.text_size = strlen(query.text);
    asked_t asked = session_ask(&session, &query);
    good(&asked);
    asked_end(&asked);
    session_fails(&session, RR_DB_QUERY, id, 0, "SELECT 1", RR_DB_STATE);
    session_does(&session, RR_DB_COMMIT, id, NULL); /* ends the stream too */
    ck_assert_int_eq(number_of(&world, "SELECT count(*) FROM t"), 1);
    session_end(&session);
    world_end(&world);
}
END_TEST

START_TEST(a_query_that_takes_too_long_is_cancelled) {
    world_t world;
    session_t session;
    world_start(&world);
    const char *endless = ENDLESS "SELECT count(*) FROM n";
    fails(&world, &(rr_query_t){.op = RR_DB_QUERY, .timeout_ms = 50, .text = endless, .text_size = strlen(endless)}, RR_DB_TIMEOUT,
          RR_EXECUTED_NO);
    session_open(&session, &world);
    session_send(&session, 1, &(rr_query_t){.op = RR_DB_QUERY, .id = 77, .text = endless, .text_size = strlen(endless)});
    session_send(&session, 2, &(rr_query_t){.op = RR_DB_QUERY, .id = 78, .text = "SELECT 1", .text_size = 8});
    uint8_t id[8];
    rr_put64(id, 77);
    ck_assert_int_eq(rr_system_send(world.system, session.addr, RR_TYPE_QUERY_CANCEL, id, 8), RR_OK);
    latch_wait(&session.answered, 2);
    asked_t asked = session_take(&session, 1);
    ck_assert_int_eq(asked.answer.error, RR_DB_CANCELLED);
    asked_end(&asked);
    asked = session_take(&session, 2);
    good(&asked);
    asked_end(&asked);
    session_end(&session);
    world_end(&world);
}
END_TEST

/* Holds SQLite's thread where no statement runs: behind the batch's BEGIN, when sqlite3_interrupt hits nothing. */
static latch_t reached = LATCH_INIT, go_on = LATCH_INIT;

static int on_statement_over(unsigned what, void *context, void *statement, void *ns) {
    if (strcmp(sqlite3_sql(statement), "BEGIN IMMEDIATE") == 0) {
        latch_add(&reached, 1);
        latch_hold(&go_on, 1);
    }
    return 0;
}

static int on_open(sqlite3 *handle, char **error, const struct sqlite3_api_routines *api) {
    return sqlite3_trace_v2(handle, SQLITE_TRACE_PROFILE, on_statement_over, NULL);
}

START_TEST(a_cancel_between_two_statements) {
    world_t world;
    session_t session;
    ck_assert_int_eq(sqlite3_auto_extension((void (*)(void))on_open), SQLITE_OK);
    world_start(&world);
    does(&world, "CREATE TEMP TABLE mark (n)"); /* gone with the connection */
    session_open(&session, &world);
    const char *text = ENDLESS "SELECT count(*) FROM n WHERE x > ?";
    rr_datum_writer_t lists = {0};
    rr_datum_put_list(&lists, 1);
    rr_datum_put_list(&lists, 1);
    rr_datum_put_int(&lists, 1);
    session_send(&session, 1, &(rr_query_t){.op = RR_DB_BATCH, .id = 77, .text = text, .text_size = strlen(text),
                                            .parameters = lists.data, .parameters_size = lists.size});
    latch_wait(&reached, 1);
    uint8_t id[8];
    rr_put64(id, 77);
    ck_assert_int_eq(rr_system_send(world.system, session.addr, RR_TYPE_QUERY_CANCEL, id, 8), RR_OK);
    session_send(&session, 2, &(rr_query_t){.op = RR_DB_DESCRIBE});
    latch_wait(&session.answered, 1); /* DESCRIBE: the cancel is there */
    latch_add(&go_on, 1);
    latch_wait(&session.answered, 2);
    rr_buffer_unref(session.replies[2]);
    asked_t asked = session_take(&session, 1);
    ck_assert_int_eq(asked.answer.error, RR_DB_CANCELLED);
    ck_assert_int_eq(asked.answer.executed, RR_EXECUTED_NO);
    asked_end(&asked);
    ck_assert_int_eq(number_of(&world, "SELECT count(*) FROM temp.mark"), 0); /* it is still the same connection */
    rr_datum_drop(&lists);
    session_end(&session);
    world_end(&world);
    sqlite3_reset_auto_extension();
}
END_TEST

/* What waits behind a transaction is given up from its end: each is found by its number. */
START_TEST(many_are_cancelled) {
    world_t world;
    session_t holder, session;
    world_start(&world);
    session_open(&holder, &world);
    session_open(&session, &world);
    uint64_t transaction = session_does(&holder, RR_DB_BEGIN, 0, NULL);
    for (uint64_t i = 0; i < 64; i++)
        session_send(&session, i, &(rr_query_t){.op = RR_DB_QUERY, .id = 100 + i / 2 * 2, .text = "SELECT 1", .text_size = 8});
    for (uint64_t i = 64; i-- > 0;) {
        uint8_t id[8];
        rr_put64(id, 100 + i);
        ck_assert_int_eq(rr_system_send(world.system, session.addr, RR_TYPE_QUERY_CANCEL, id, 8), RR_OK);
    }
    latch_wait(&session.answered, 32);
    session_does(&holder, RR_DB_COMMIT, transaction, NULL);
    latch_wait(&session.answered, 64);
    for (uintptr_t i = 0; i < 64; i++) { /* of two with one number the later; of a number twice cancelled only one */
        asked_t asked = session_take(&session, i);
        ck_assert_int_eq(asked.answer.error, i % 2 ? RR_DB_CANCELLED : RR_DB_OK);
        asked_end(&asked);
    }
    session_end(&holder);
    session_end(&session);
    world_end(&world);
}
END_TEST

START_TEST(results_above_the_limit) {
    world_t world;
    world_open(&world);
    rr_database_options_t options = preset(&world, "sqlite://./test.db");
    options.result_bytes = 10000;
    world_spawn(&world, &options);
    const char *text = ENDLESS "SELECT x FROM n"; /* it would never end by itself */
    fails(&world, &(rr_query_t){.op = RR_DB_QUERY, .text = text, .text_size = strlen(text)}, RR_DB_TOO_BIG, RR_EXECUTED_MAYBE);
    ck_assert_int_eq(number_of(&world, "SELECT 1"), 1);
    world_end(&world);
}
END_TEST

/* So that nothing later waits for the file to be opened, which may take long on a busy machine. */
static void await_connection(world_t *world) {
    for (rr_db_error_t error = RR_DB_BUSY; error != RR_DB_OK;) {
        asked_t asked = ask(world, RR_DB_QUERY, "SELECT 1", 0, NULL);
        error = asked.answer.error;
        asked_end(&asked);
        ck_assert(error == RR_DB_OK || error == RR_DB_BUSY);
    }
}

/* A connection of a transaction keeps all others waiting: the queue's limits, in number and in time. */
START_TEST(a_full_queue) {
    world_t world;
    session_t holder, session;
    world_open(&world);
    rr_database_options_t options = preset(&world, "sqlite://./test.db");
    options.queue_messages = 3;
    options.acquire_timeout_ms = 500;
    world_spawn(&world, &options);
    await_connection(&world);
    session_open(&holder, &world);
    session_open(&session, &world);
    uint64_t id = session_does(&holder, RR_DB_BEGIN, 0, NULL);
    for (uintptr_t i = 0; i < 5; i++)
        session_send(&session, i, &(rr_query_t){.op = RR_DB_QUERY, .text = "SELECT 1", .text_size = 8});
    latch_wait(&session.answered, 5);
    unsigned full = 0, late = 0;
    for (uintptr_t i = 0; i < 5; i++) {
        asked_t asked = session_take(&session, i);
        ck_assert_int_eq(asked.answer.error, RR_DB_BUSY);
        ck_assert_int_eq(asked.answer.executed, RR_EXECUTED_NO);
        full += memmem(asked.answer.message, asked.answer.message_size, "queue", 5) != NULL;
        late += memmem(asked.answer.message, asked.answer.message_size, "no connection became free", 25) != NULL;
        asked_end(&asked);
    }
    ck_assert_uint_eq(full, 2);
    ck_assert_uint_eq(late, 3);
    session_does(&holder, RR_DB_COMMIT, id, NULL);
    ck_assert_int_eq(number_of(&world, "SELECT 1"), 1);
    session_end(&holder);
    session_end(&session);
    world_end(&world);
}
END_TEST

/* A call would end before its query. */
START_TEST(time_outs_longer_than_a_call) {
    world_t world;
    world_open(&world);
    rr_database_options_t options = preset(&world, "sqlite://./test.db");
    char why[200] = "";
    rr_addr_t addr;
    options.query_timeout_ms = RR_DATABASE_QUERY_MS_MAX + 1;
    ck_assert_int_eq(rr_database_spawn(world.system, &options, &addr, why, sizeof why), RR_EINVAL);
    ck_assert_ptr_nonnull(strstr(why, "query_timeout is at most 480 s"));
    options.query_timeout_ms = RR_DATABASE_QUERY_MS_MAX;
    options.acquire_timeout_ms = RR_DATABASE_ACQUIRE_MS_MAX + 1;
    ck_assert_int_eq(rr_database_spawn(world.system, &options, &addr, why, sizeof why), RR_EINVAL);
    options.acquire_timeout_ms = RR_DATABASE_ACQUIRE_MS_MAX;
    world_spawn(&world, &options);
    does(&world, "SELECT 1");
    world_end(&world);
}
END_TEST

/* By hand, nothing would hold the connection for what follows. */
START_TEST(transactions_by_hand) {
    world_t world;
    session_t session;
    world_start(&world);
    session_open(&session, &world);
    fails_saying(&world, "BEGIN", RR_DB_STATE, "`async with db.transaction() as tx:`");
    fails_text(&world, "/* now */ commit;", RR_DB_STATE);
    fails_saying(&world, "SAVEPOINT a", RR_DB_STATE, "`async with tx.savepoint():`"); /* SQLite would begin a transaction */
    uint64_t id = session_does(&session, RR_DB_BEGIN, 0, NULL);
    session_fails(&session, RR_DB_QUERY, id, 0, "ROLLBACK", RR_DB_STATE);
    session_does(&session, RR_DB_QUERY, id, "SAVEPOINT a");
    session_does(&session, RR_DB_QUERY, id, "ROLLBACK TO a");
    session_does(&session, RR_DB_QUERY, id, "RELEASE a");
    session_does(&session, RR_DB_COMMIT, id, NULL);
    rr_query_t script = {.op = RR_DB_QUERY, .flags = RR_QUERY_TEXTS, .text = "BEGIN; SELECT 1; COMMIT", .text_size = 23};
    asked_t asked = ask_query(&world, &script); /* the seed's scripts have the file for as long as they run */
    good(&asked);
    asked_end(&asked);
    session_end(&session);
    world_end(&world);
}
END_TEST

START_TEST(a_transaction_within_a_transaction) {
    world_t world;
    session_t session;
    world_open(&world);
    rr_database_options_t options = preset(&world, "sqlite://./test.db");
    options.acquire_timeout_ms = 500;
    world_spawn(&world, &options);
    await_connection(&world);
    session_open(&session, &world);
    uint64_t id = session_does(&session, RR_DB_BEGIN, 0, NULL);
    asked_t asked = session_ask(&session, &(rr_query_t){.op = RR_DB_BEGIN}); /* another handler's */
    ck_assert_int_eq(asked.answer.error, RR_DB_BUSY);
    ck_assert_ptr_null(memmem(asked.answer.message, asked.answer.message_size, "tx", 2));
    asked_end(&asked);
    asked = session_ask(&session, &(rr_query_t){.op = RR_DB_QUERY, .text = "SELECT 1", .text_size = 8});
    ck_assert_int_eq(asked.answer.error, RR_DB_BUSY);
    ck_assert_ptr_nonnull(memmem(asked.answer.message, asked.answer.message_size, "tx.query", 8));
    asked_end(&asked);
    fails_saying(&world, "SELECT 1", RR_DB_BUSY, "1 of 1 are in use"); /* of others it is not said */
    asked = session_ask(&session, &(rr_query_t){.op = RR_DB_BEGIN, .transaction = id}); /* who keeps it open need not wait */
    ck_assert_int_eq(asked.answer.error, RR_DB_STATE);
    ck_assert_ptr_nonnull(memmem(asked.answer.message, asked.answer.message_size, "tx.savepoint()", 14));
    asked_end(&asked);
    session_does(&session, RR_DB_COMMIT, id, NULL);
    session_end(&session);
    world_end(&world);
}
END_TEST

START_TEST(queries_of_one_asker_run_in_order) {
    world_t world;
    session_t session;
    world_start(&world);
    does(&world, "CREATE TABLE t (n)");
    session_open(&session, &world);
    for (uintptr_t i = 0; i < 64; i++) {
        char text[64];
        snprintf(text, sizeof text, "INSERT INTO t VALUES ((SELECT count(*) FROM t) = %d)", (int)i);
        session_send(&session, i, &(rr_query_t){.op = RR_DB_QUERY, .key = "k", .key_size = 1, .text = text, .text_size = strlen(text)});
    }
    latch_wait(&session.answered, 64);
    for (uintptr_t i = 0; i < 64; i++) {
        asked_t asked = session_take(&session, i);
        good(&asked);
        asked_end(&asked);
    }
    ck_assert_int_eq(number_of(&world, "SELECT sum(n) FROM t"), 64);
    session_end(&session);
    world_end(&world);
}
END_TEST

/* Another process has the file: the query waits for it, until its time is over. */
START_TEST(a_locked_file) {
    world_t world;
    char path[128];
    sqlite3 *other;
    world_start(&world);
    does(&world, "CREATE TABLE t (n)");
    snprintf(path, sizeof path, "%s/test.db", world.folder);
    ck_assert_int_eq(sqlite3_open(path, &other), SQLITE_OK);
    ck_assert_int_eq(sqlite3_exec(other, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    const char *text = "INSERT INTO t VALUES (1)";
    asked_t asked = ask_query(&world, &(rr_query_t){.op = RR_DB_QUERY, .timeout_ms = 1000, .text = text, .text_size = strlen(text)});
    ck_assert_int_eq(asked.answer.error, RR_DB_TIMEOUT);
    ck_assert_int_eq(asked.answer.executed, RR_EXECUTED_NO);
    ck_assert_int_eq(asked.answer.number, SQLITE_BUSY);
    asked_end(&asked);
    ck_assert_int_eq(sqlite3_exec(other, "COMMIT", NULL, NULL, NULL), SQLITE_OK);
    ck_assert_int_eq(does(&world, text), 1);
    sqlite3_close(other);
    world_end(&world);
}
END_TEST

START_TEST(a_file_that_cannot_be_opened) {
    world_t world;
    world_open(&world);
    rr_database_options_t options = preset(&world, "sqlite://./missing/test.db");
    world_spawn(&world, &options);
    fails_saying(&world, "SELECT 1", RR_DB_CONNECTION, "/missing/test.db: unable to open");
    world_end(&world);
}
END_TEST

START_TEST(describing) {
    world_t world;
    world_start(&world);
    ck_assert_int_eq(number_of(&world, "SELECT 1"), 1); /* it is connected now */
    asked_t asked = ask_query(&world, &(rr_query_t){.op = RR_DB_DESCRIBE});
    const char *text;
    size_t size;
    uint32_t count;
    good(&asked);
    ck_assert_int_eq(rr_datum_get_list(&asked.answer.rows, &count), RR_OK);
    ck_assert_int_eq(rr_datum_get_text(&asked.answer.rows, &text, &size), RR_OK);
    ck_assert_mem_eq(text, "sqlite", size);
    ck_assert_int_eq(rr_datum_get_text(&asked.answer.rows, &text, &size), RR_OK);
    ck_assert_mem_eq(text, sqlite3_libversion(), size);
    int64_t patience;
    ck_assert_int_eq(rr_datum_get_int(&asked.answer.rows, &patience), RR_OK);
    ck_assert_int_eq(patience, 15000); /* for a connection, and to run */
    asked_end(&asked);
    world_end(&world);
}
END_TEST

START_TEST(metrics) {
    world_t world;
    world_start(&world);
    does(&world, "CREATE TABLE t (n)");
    fails_text(&world, "SELEC", RR_DB_SYNTAX);
    rr_buffer_t *text;
    ck_assert_int_eq(rr_metrics_text(world.system, &text), RR_OK);
    const char *all = (const char *)rr_buffer_data(text);
    size_t size = rr_buffer_size(text);
    ck_assert_ptr_nonnull(memmem(all, size, "rr_db_queries_total{database=\"db@test\"} 2", 41));
    static const char error[] = "rr_db_errors_total{database=\"db@test\",class=\"syntax\"} 1";
    ck_assert_ptr_nonnull(memmem(all, size, error, sizeof error - 1));
    static const char count[] = "rr_db_query_seconds_count{database=\"db@test\"} 2";
    ck_assert_ptr_nonnull(memmem(all, size, count, sizeof count - 1));
    rr_buffer_unref(text);
    world_end(&world);
}
END_TEST

/* Killed, and its loop stopped, in the middle of everything: all is given back, all who wait are told. */
START_TEST(its_end_in_the_middle) {
    world_t world;
    session_t session;
    world_start(&world);
    session_open(&session, &world);
    const char *endless = ENDLESS "SELECT count(*) FROM n";
    for (uintptr_t i = 0; i < 10; i++)
        session_send(&session, i, &(rr_query_t){.op = RR_DB_QUERY, .text = endless, .text_size = strlen(endless)});
    session_send(&session, 10, &(rr_query_t){.op = RR_DB_BEGIN});
    session_send(&session, 11, &(rr_query_t){.op = RR_DB_DESCRIBE});
    latch_wait(&session.answered, 1); /* DESCRIBE: all are there */
    rr_kill(world.system, world.db, RR_CANCELLED);
    latch_wait(&session.answered, 12);
    for (int i = 0; i < 12; i++)
        rr_buffer_unref(session.replies[i]);
    session_end(&session);
    rig_end(world.system);
    remove_folder(world.folder);
}
END_TEST

/* The thread comes back with the transaction's stream when the transaction, whose COMMIT waits behind it, is gone. */
START_TEST(its_end_before_a_transactions) {
    world_t world;
    session_t session;
    world_start(&world);
    session_open(&session, &world);
    uint64_t id = session_does(&session, RR_DB_BEGIN, 0, NULL);
    const char *endless = ENDLESS "SELECT count(*) FROM n";
    session_send(&session, 1, &(rr_query_t){.op = RR_DB_STREAM, .transaction = id, .text = endless, .text_size = strlen(endless)});
    session_send(&session, 2, &(rr_query_t){.op = RR_DB_COMMIT, .transaction = id});
    session_send(&session, 3, &(rr_query_t){.op = RR_DB_DESCRIBE});
    latch_wait(&session.answered, 2); /* BEGIN and DESCRIBE: all are there */
    rr_kill(world.system, world.db, RR_CANCELLED);
    latch_wait(&session.answered, 4);
    for (int i = 1; i < 4; i++)
        rr_buffer_unref(session.replies[i]);
    session_end(&session);
    rig_end(world.system);
    remove_folder(world.folder);
}
END_TEST

START_TEST(the_loop_ends_first) {
    world_t world;
    session_t session;
    world_start(&world);
    session_open(&session, &world);
    uint64_t id = session_does(&session, RR_DB_BEGIN, 0, NULL);
    const char *endless = ENDLESS "SELECT count(*) FROM n";
    session_send(&session, 1, &(rr_query_t){.op = RR_DB_QUERY, .transaction = id, .text = endless, .text_size = strlen(endless)});
    session_send(&session, 2, &(rr_query_t){.op = RR_DB_DESCRIBE});
    latch_wait(&session.answered, 2);
    rr_system_stop(world.system);
    rr_buffer_unref(session.replies[1]); /* of a loop that had time to answer */
    rr_buffer_unref(session.replies[2]);
    rig_end(world.system);
    remove_folder(world.folder);
}
END_TEST

/* What it was made from is its own: LeakSanitizer looks. */
START_TEST(it_never_starts) {
    world_t world = {.folder = "/tmp"};
    rr_options_t options;
    rig_options(&options, 1);
    ck_assert_int_eq(rr_system_create(&world.system, &options), RR_OK);
    ck_assert_int_eq(rr_loop_create(world.system, "db", &world.loop), RR_OK);
    rr_database_options_t of_db = preset(&world, "sqlite://./test.db");
    world_spawn(&world, &of_db);
    char why[256];
    rr_addr_t second; /* the name is in use: nothing was spawned, nothing is given back twice */
    ck_assert_int_eq(rr_database_spawn(world.system, &of_db, &second, why, sizeof why), RR_EEXIST);
    rr_system_destroy(world.system);
}
END_TEST

CHECK_MAIN("database", values_in_and_out, dates_and_others_are_text, named_parameters_and_texts, placeholders_of_both_kinds,
           errors_have_classes, a_batch_is_all_or_none, transactions, a_transaction_that_the_server_ended, an_askers_end_rolls_back,
           an_idle_transaction_is_rolled_back, streams, a_stream_within_a_transaction, a_query_that_takes_too_long_is_cancelled,
           a_cancel_between_two_statements, many_are_cancelled, results_above_the_limit, a_full_queue, transactions_by_hand,
           time_outs_longer_than_a_call,
           a_transaction_within_a_transaction, queries_of_one_asker_run_in_order, a_locked_file, a_file_that_cannot_be_opened, describing,
           metrics, its_end_in_the_middle, its_end_before_a_transactions, the_loop_ends_first, it_never_starts)
