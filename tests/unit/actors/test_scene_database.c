/* A scene as a client of databases: answers, ends without one, cancelling, events, asking with waiting. The database here is
 * an actor of the test's own. */
#include "actors/database/database.h"
#include "actors/protocol.h"
#include "fixture.h"

/* ---- A database: the query's text says what becomes of it ---- */

typedef struct fake_db {
    rr_message_t *held;
    uint64_t held_id;
} fake_db_t;

static rr_buffer_t *answer_text(const char *text, size_t size) {
    rr_datum_writer_t writer = {0};
    rr_db_answer_begin(&writer, 0, 1, NULL, 0);
    rr_datum_put_list(&writer, 1);
    rr_datum_put_text(&writer, RR_DATUM_TEXT, "c", 1);
    rr_datum_put_list(&writer, 1);
    rr_datum_put_text(&writer, RR_DATUM_TEXT, text, size);
    return rr_datum_finish(&writer);
}

static void send_event(rr_actor_t *self, rr_addr_t to, uint64_t id) {
    rr_datum_writer_t writer = {0};
    rr_datum_put_int(&writer, (int64_t)id);
    ck_assert_int_eq(rr_send_buffer(self, to, RR_TYPE_QUERY_EVENT, rr_datum_finish(&writer)), RR_OK);
}

static void on_query(rr_actor_t *self, fake_db_t *db, rr_message_t *msg) {
    rr_query_t query;
    ck_assert_int_eq(rr_query_decode(rr_message_data(msg), rr_message_size(msg), &query), RR_OK);
    note("db asked %.*s", (int)query.text_size, query.text);
    if (!strncmp(query.text, "die", 3)) {
        rr_message_take(self, msg); /* the runtime answers for who ends */
        rr_exit(self, RR_EHANDLER);
    } else if (!strncmp(query.text, "hold", 4)) {
        rr_message_take(self, msg);
        db->held = msg;
        db->held_id = query.id;
    } else if (!strncmp(query.text, "hear", 4)) {
        send_event(self, rr_message_from(msg), query.id);
        rr_reply_buffer(self, msg, answer_text(query.text, query.text_size));
    } else {
        rr_reply_buffer(self, msg, answer_text(query.text, query.text_size));
    }
}

static void db_receive(rr_actor_t *self, void *state, rr_message_t *msg) {
    fake_db_t *db = state;
    if (rr_message_type(msg) == RR_TYPE_QUERY) {
        on_query(self, db, msg);
        return;
    }
    ck_assert_uint_eq(rr_message_type(msg), RR_TYPE_QUERY_CANCEL);
    ck_assert_uint_eq(rr_message_size(msg), 8);
    ck_assert_uint_eq(rr_get64(rr_message_data(msg)), db->held_id);
    note("db cancels");
    rr_reply_buffer(self, db->held, rr_db_answer_error(RR_DB_CANCELLED, RR_EXECUTED_MAYBE, 0, "", "given up", "", 0));
    db->held = NULL;
}

static const rr_behavior_t db_behavior = {.name = "db", .state_size = sizeof(fake_db_t), .receive = db_receive};

/* ---- The scene: its config names what it asks when it is loaded ---- */

typedef struct asker {
    rr_scene_t *scene;
} asker_t;

static rr_buffer_t *request(const char *text, uint64_t id) {
    rr_query_t query = {.op = RR_DB_QUERY, .id = id, .text = text, .text_size = strlen(text)};
    rr_buffer_t *buffer = rr_query_encode(&query);
    ck_assert_ptr_nonnull(buffer);
    return buffer;
}

static int ask(asker_t *client, const char *database, const char *text, uint64_t token) {
    return rr_scene_query(client->scene, database, request(text, token), 0, token);
}

static int client_load(void *state, rr_scene_t *scene, const void *arg, uint64_t token, char *why, size_t why_size) {
    asker_t *client = state;
    char name[64] = "", reason[64] = "";
    rr_buffer_t *reply;
    client->scene = scene;
    ck_assert_int_eq(ask(client, "db@nowhere", "x", 1), RR_NOROUTE);
    ck_assert_int_eq(ask(client, "db@main", "x", 0), RR_EINVAL);
    ck_assert_int_eq(rr_scene_query_wait(scene, "db@nowhere", request("x", 0), 0, &reply), RR_NOROUTE);
    ck_assert_int_eq(rr_scene_query_wait(scene, "scene@0", request("x", 0), 0, &reply), RR_EINVAL);
    ck_assert_int_eq(rr_scene_database(scene, "sqlite://x", 0, name, sizeof name, reason, sizeof reason), RR_EUNSUPPORTED);
    ck_assert_str_eq(reason, "this process opens no databases by URL");
    for (const char *const *text = arg; *text; text++)
        ck_assert_int_eq(ask(client, "db@main", *text, (uint64_t)(text - (const char *const *)arg) + 10), RR_OK);
    return RR_OK;
}

static void client_queried(void *state, uint64_t token, int status, const void *data, size_t size, rr_buffer_t *buffer) {
    asker_t *client = state;
    rr_db_answer_t answer = {0};
    const char *text = "";
    size_t text_size = 0;
    uint32_t count;
    if (status == RR_OK)
        ck_assert_int_eq(rr_db_answer_decode(data, size, &answer), RR_OK);
    if (status == RR_OK && answer.error == RR_DB_OK) {
        ck_assert_int_eq(rr_datum_get_list(&answer.rows, &count), RR_OK);
        ck_assert_int_eq(rr_datum_get_text(&answer.rows, &text, &text_size), RR_OK);
    }
    note("queried %u %s %s %.*s", (unsigned)token, rr_error_name(status), rr_db_error_name(answer.error), (int)text_size, text);
    if (text_size == 6 && !memcmp(text, "cancel", 6)) {
        rr_scene_query_cancel(client->scene, 10);
        rr_scene_query_cancel(client->scene, 999); /* unknown: nothing */
    }
}

static void client_event(void *state, const void *data, size_t size) {
    rr_datum_reader_t reader = rr_datum_reader(data, size);
    int64_t id;
    ck_assert_int_eq(rr_datum_get_int(&reader, &id), RR_OK);
    note("event %d", (int)id);
}

static void client_down(void *state, const char *name) {
    note("down %s", name);
}

static const rr_scene_logic_t client_logic = {.name = "client",
                                              .state_size = sizeof(asker_t),
                                              .load = client_load,
                                              .queried = client_queried,
                                              .query_event = client_event,
                                              .database_down = client_down};

static rr_system_t *sys;
static rr_addr_t db, scene;
static rr_scene_options_t options;

/* A database, and a scene with that logic. */
static void up_with(const rr_scene_logic_t *logic, const void *arg) {
    rr_options_t settings;
    rr_options_init(&settings);
    settings.log_screen = false;
    ck_assert_int_eq(rr_system_create(&sys, &settings), RR_OK);
    rr_spawn_t spec = {.behavior = &db_behavior, .name = "db@main"};
    ck_assert_int_eq(rr_system_spawn(sys, &spec, &db), RR_OK);
    rr_scene_options_init(&options);
    options.name = "scene@0";
    options.logic = logic;
    options.logic_arg = arg;
    ck_assert_int_eq(rr_scene_spawn(sys, &options, &scene), RR_OK);
    ck_assert_int_eq(rr_system_start(sys), RR_OK);
}

static void up(const char *const *texts) {
    up_with(&client_logic, texts);
}

static void down(void) {
    rr_system_stop(sys);
    rr_system_destroy(sys);
}

/* ---- Cases ---- */

START_TEST(answers_come_with_their_tokens) {
    up((const char *const[]){"one", "two", "hear", NULL});
    await_line("queried 10 OK ok one");
    await_line("queried 11 OK ok two");
    await_line("queried 12 OK ok hear");
    await_line("event 12");
    down();
}
END_TEST

START_TEST(what_nobody_waits_for_is_cancelled) {
    up((const char *const[]){"hold", "cancel", NULL});
    await_line("db cancels");
    await_line("queried 10 OK cancelled *");
    ck_assert_uint_eq(times_noted("db cancels"), 1);
    down();
}
END_TEST

START_TEST(a_database_that_dies_may_have_executed_it) {
    up((const char *const[]){"hold", "die", NULL});
    await_line("queried 10 DIED *");
    await_line("queried 11 DIED *");
    await_line("down db@main");
    down();
}
END_TEST

/* What is under way when the scene ends is cancelled. */
START_TEST(a_scene_that_ends_cancels) {
    up((const char *const[]){"hold", NULL});
    await_line("db asked hold");
    ck_assert_int_eq(rr_system_send(sys, scene, RR_TYPE_STOP, NULL, 0), RR_OK);
    await_line("db cancels");
    down();
}
END_TEST

START_TEST(asking_waits) {
    rr_buffer_t *reply;
    rr_db_answer_t answer;
    up((const char *const[]){NULL});
    ck_assert_int_eq(rr_database_ask(sys, db, request("now", 0), 0, &reply), RR_OK);
    ck_assert_int_eq(rr_db_answer_decode(rr_buffer_data(reply), rr_buffer_size(reply), &answer), RR_OK);
    ck_assert_uint_eq(answer.column_count, 1);
    rr_buffer_unref(reply);
    ck_assert_int_eq(rr_database_ask(sys, db, request("hold", 0), 20, &reply), RR_TIMEOUT);
    ck_assert_ptr_null(reply);
    ck_assert_int_eq(rr_database_ask(sys, db, request("die", 0), 0, &reply), RR_DIED);
    ck_assert_int_eq(rr_database_ask(sys, db, request("x", 0), 0, &reply), RR_NOROUTE);
    down();
}
END_TEST

/* A scene stands still for its query's time, and some seconds; not for ever. */
static int waiter_load(void *state, rr_scene_t *waiter, const void *arg, uint64_t token, char *why, size_t why_size) {
    rr_buffer_t *reply;
    int rc = rr_scene_query_wait(waiter, "db@main", request("hold", 0), 1, &reply);
    note("waited %s", rr_error_name(rc));
    return RR_OK;
}

static const rr_scene_logic_t waiter_logic = {.name = "waiter", .state_size = sizeof(asker_t), .load = waiter_load};

START_TEST(a_database_that_never_answers) {
    up_with(&waiter_logic, NULL);
    await_line("waited TIMEOUT");
    down();
}
END_TEST

CHECK_MAIN("actors.scene_database", answers_come_with_their_tokens, what_nobody_waits_for_is_cancelled,
           a_database_that_dies_may_have_executed_it, a_scene_that_ends_cancels, asking_waits, a_database_that_never_answers)
