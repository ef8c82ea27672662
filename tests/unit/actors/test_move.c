/* Moving a session to another scene (spec.md 5.3). */
#include "actors/protocol.h"
#include "fixture.h"

START_TEST(messages_follow_in_order) {
    prepare();
    start();
    client_t *a = log_in("alice");
    tell(a, 1, "echo:old");
    tell(a, 1, "move:scene@1");
    for (int i = 0; i < 500; i++) { /* some at the old scene, some held, some direct */
        char text[32];
        snprintf(text, sizeof(text), "echo:%d", i);
        tell(a, 2, text);
    }
    expect(a, 1, "echo:old");
    expect(a, 100, "welcome"); /* of the new scene */
    for (int i = 0; i < 500; i++) {
        char text[32];
        snprintf(text, sizeof(text), "echo:%d", i);
        expect(a, 2, text);
    }
    await_line("scene@1 enter alice from 'scene@0' extra 'x'");
    await_line("scene@0 answer 55 ok ");
    ck_assert(was_noted("scene@0 leave alice to scene@1"));
    ck_assert(was_noted("scene@1 message alice 2 echo:0"));
    ck_assert(!was_noted("scene@0 message alice 2 echo:0"));
    ck_assert(!was_noted("scene@0 offline alice peer"));
    hang_up(a);
    await_line("scene@1 offline alice peer"); /* to the holder */
    await_line("scene@0 offline alice peer"); /* and to the login scene */
    ck_assert_uint_eq(times_noted("scene@1 offline alice peer"), 1);
    finish();
}
END_TEST

START_TEST(no_such_scene_and_failing_enter_leave_it_where_it_is) {
    prepare();
    start();
    client_t *a = log_in("alice");
    tell(a, 1, "move:nowhere");
    tell(a, 2, "echo:1");
    expect(a, 2, "echo:1");
    await_line("scene@0 answer 55 error NOROUTE: there is no scene nowhere");
    tell(a, 1, "move:scene@0");
    await_line("scene@0 answer 55 error STATE: the session is in scene@0 already");
    tell(a, 1, "movefail:scene@1");
    for (int i = 0; i < 100; i++)
        tell(a, (uint16_t)(200 + i), "echo:2");
    for (int i = 0; i < 100; i++)
        expect(a, (uint16_t)(200 + i), "echo:2");
    await_line("scene@0 answer 55 error HANDLER: enter failed in scene@1: the handler failed");
    ck_assert(was_noted("scene@0 message alice 299 echo:2"));
    ck_assert_uint_eq(times_noted("scene@0 leave alice to scene@1"), 0);
    client_t *b = log_in("bob");
    tell(b, 1, "all:still here");
    expect(a, 1, "still here"); /* in its broadcasts as before */
    hang_up(a);
    await_line("scene@0 offline alice peer");
    ck_assert(!was_noted("scene@1 offline alice peer"));
    hang_up(b);
    finish();
}
END_TEST

START_TEST(broadcasts_are_the_holders) {
    prepare();
    start();
    client_t *a = log_in("alice"), *b = log_in("bob");
    tell(a, 1, "move:scene@1");
    expect(a, 100, "welcome");
    tell(a, 1, "all:from one");
    expect(a, 1, "from one");
    tell(b, 1, "all:from zero");
    expect(b, 1, "from zero");
    tell(b, 1, "gate:gate@0");
    expect(a, 1, "to all");
    expect(b, 1, "to all");
    expect_silence(a);
    char line[64];
    tell(b, 1, "send:alice");
    snprintf(line, sizeof(line), "scene@0 send alice %d", RR_ENOENT); /* not its session any more */
    await_line(line);
    hang_up(a);
    hang_up(b);
    finish();
}
END_TEST

START_TEST(there_and_back_and_offline_once) {
    prepare();
    start();
    client_t *a = log_in("alice");
    for (int i = 0; i < 20; i++) {
        tell(a, 1, "move:scene@1");
        expect(a, 100, "welcome");
        tell(a, 1, "move:scene@0");
        expect(a, 100, "welcome");
    }
    expect_silence(a);
    hang_up(a);
    await_line("scene@0 offline alice peer");
    client_t *b = log_in("bob");
    expect_silence(b);
    ck_assert_uint_eq(times_noted("scene@0 offline alice peer"), 1);
    ck_assert(!was_noted("scene@1 offline alice peer"));
    hang_up(b);
    finish();
}
END_TEST

START_TEST(moving_from_within_enter) {
    prepare();
    start();
    client_t *a = dial();
    tell(a, 0, "bounce-alice");
    tell(a, 1, "echo:follows");
    expect(a, 100, "welcome");
    expect(a, 100, "welcome");
    expect(a, 1, "echo:follows");
    await_line("scene@1 enter bounce-alice from 'scene@0' extra 'b'");
    await_line("scene@1 message bounce-alice 1 echo:follows");
    await_line("scene@0 answer 77 ok ");
    hang_up(a);
    finish();
}
END_TEST

START_TEST(a_new_login_replaces_a_session_that_moved_on) {
    prepare();
    start();
    client_t *a = log_in("alice");
    tell(a, 1, "move:scene@1");
    expect(a, 100, "welcome");
    client_t *b = log_in("alice");
    expect_closed(a);
    await_line("scene@1 offline alice replaced");
    await_line("scene@0 offline alice replaced");
    expect_silence(b);
    ck_assert_uint_eq(rr_gate_sessions(node.gate), 1);
    tell(b, 1, "move:scene@1");
    expect(b, 100, "welcome");
    expect_silence(b);
    hang_up(a);
    hang_up(b);
    finish();
}
END_TEST

START_TEST(leaving_while_moving) {
    prepare();
    start();
    client_t *boss = log_in("boss");
    tell(boss, 1, "move:scene@1");
    expect(boss, 100, "welcome");
    for (int i = 0; i < 50; i++) {
        char name[32], line[64];
        snprintf(name, sizeof(name), "p%d", i);
        client_t *a = log_in(name);
        tell(a, 1, "move:scene@1");
        if (i % 2)
            usleep((useconds_t)i * 20); /* to hit all stages of the move */
        hang_up(a);
        snprintf(line, sizeof(line), "scene@0 offline p%d *", i); /* always, as its login scene or its holder */
        await_line(line);
    }
    /* Whatever a scene let in goes offline there once. */
    for (int i = 0; i < 50; i++) {
        char line[64], entered[64];
        snprintf(entered, sizeof(entered), "scene@1 enter p%d from 'scene@0' extra 'x'", i);
        snprintf(line, sizeof(line), "scene@1 offline p%d *", i);
        if (was_noted(entered))
            await_line(line);
        ck_assert_uint_le(times_noted(line), 1);
        snprintf(line, sizeof(line), "scene@0 offline p%d *", i);
        ck_assert_uint_eq(times_noted(line), 1);
    }
    ck_assert_double_eq(metric("rr_scene_sessions{scene=\"scene@1\"}"), 1);
    ck_assert_double_eq(metric("rr_scene_sessions{scene=\"scene@0\"}"), 0);
    ck_assert_double_eq(metric("rr_scene_away{scene=\"scene@0\"}"), 1);
    hang_up(boss);
    finish();
}
END_TEST

START_TEST(a_move_that_takes_too_long_is_undone) {
    prepare();
    node.scenes[0].move_timeout_ms = 1000;
    start();
    client_t *boss = log_in("boss");
    tell(boss, 1, "move:scene@1");
    expect(boss, 100, "welcome");
    client_t *a = dial();
    tell(a, 0, "slow-alice");
    await_line("scene@0 enter slow-alice from '' extra ''");
    client_t *here = log_in("here");
    tell(here, 1, "go:slow-alice");
    tell(a, 1, "move:scene@1"); /* its enter there waits for a go, too */
    tell(a, 2, "echo:1");
    await_line("scene@1 enter slow-alice from 'scene@0' extra 'x'");
    expect(a, 2, "echo:1"); /* it stayed */
    ck_assert(was_noted("scene@0 message slow-alice 2 echo:1"));
    tell(boss, 1, "go:slow-alice"); /* late: forgotten there, without offline */
    expect_silence(boss);
    ck_assert_double_eq(metric("rr_scene_sessions{scene=\"scene@1\"}"), 1);
    tell(boss, 1, "all:not for alice");
    expect_silence(a);
    hang_up(a);
    await_line("scene@0 offline slow-alice peer");
    ck_assert(!was_noted("scene@1 offline slow-alice peer"));
    hang_up(here);
    hang_up(boss);
    finish();
}
END_TEST

/* Its next scene wants to move it on while its enter runs: giving the move up ends that, too. */
START_TEST(an_enter_that_wants_to_move_on_is_undone) {
    prepare();
    node.scenes[0].move_timeout_ms = 1000;
    node.scenes[1].offline_wait_ms = 100;
    start();
    client_t *a = log_in("slowback-alice");
    tell(a, 1, "move:scene@1");
    await_line("scene@1 change 0");
    await_line("scene@0 answer 55 error TIMEOUT: scene@1: *");
    await_line("scene@1 answer 78 error CANCELLED: the session is not here any more");
    await_line("scene@1 cancel slowback-alice"); /* its handler is told to end, not left to itself */
    expect_silence(a);
    ck_assert_double_eq(metric("rr_scene_sessions{scene=\"scene@1\"}"), 0);
    ck_assert_double_eq(metric("rr_scene_pending_handlers{scene=\"scene@1\"}"), 0);
    tell(a, 1, "move:scene@1"); /* nothing is in the way of the next attempt */
    await_line("scene@0 answer 55 error TIMEOUT: scene@1: *");
    hang_up(a);
    await_line("scene@0 offline slowback-alice peer");
    ck_assert(!was_noted("scene@1 offline *"));
    finish();
}
END_TEST

/* The client leaves while it enters elsewhere, and the scene that it comes from, which is its login scene, crashes before
 * it can say so: the gate does. */
START_TEST(leaving_while_the_old_scene_crashes) {
    prepare();
    node.scenes[1].offline_wait_ms = 100;
    start();
    client_t *boss = log_in("boss"), *there = log_in("there"), *a = dial();
    tell(there, 1, "move:scene@1");
    expect(there, 100, "welcome");
    tell(a, 0, "slow-alice");
    await_line("scene@0 enter slow-alice from '' extra ''");
    tell(boss, 1, "go:slow-alice");
    tell(a, 1, "move:scene@1");
    await_line("scene@1 enter slow-alice from 'scene@0' extra 'x'");
    tell(there, 1, "all:joined");
    expect(there, 1, "joined");
    expect(a, 1, "joined"); /* its gate knows that it is at scene@1 already */
    hang_up(a);
    await_gauge("rr_gate_sessions{", 2);
    tell(boss, 1, "crash");
    await_line("scene@1 cancel slow-alice");
    await_gauge("rr_scene_sessions{scene=\"scene@1\"}", 1);
    expect_silence(there);
    hang_up(there);
    hang_up(boss);
    finish();
}
END_TEST

/* ---- A scene@1 of our own: it does each step of a move when it is told to ---- */

static struct {
    rr_enter_head_t head;
    rr_addr_t login; /* as FENCE says */
} lent;              /* the session that scene@1 has; written by its turns only */

enum { COME_BACK = 1, SAY_MOVED, COME_LATE, LET_IN, GIVE_BACK, SAY_MANY };
static bool own_ends; /* it is about to end: gives her back to her gate before she has entered, so as early as can be */
static rr_message_t *own_call; /* the ENTER that waits for LET_IN */
static size_t own_to; /* the scene that it gives her to */

static uint8_t *add_record(rr_batch_t *batch, uint16_t kind, uint32_t hop, size_t size) {
    uint8_t *body = rr_batch_add(batch, kind, 0, lent.head.slot, lent.head.incarnation, hop, size);
    ck_assert_ptr_nonnull(body);
    return body;
}

static void tell_shard(rr_actor_t *self, rr_batch_t *batch) {
    ck_assert_int_eq(rr_send_buffer(self, lent.head.shard, RR_TYPE_OUTPUT, rr_batch_take(batch, 0, 0)), RR_OK);
    rr_batch_free(batch);
}

/* MOVE before her old scene knows that she is here. Broadcasts behind it say that the gate has it. */
static void own_leave(rr_actor_t *self, rr_message_t *msg) {
    rr_batch_t batch = {0};
    add_record(&batch, RR_REC_JOIN, lent.head.hop, 0);
    ck_assert_ptr_nonnull(rr_batch_add(&batch, RR_REC_MOVE, RR_MOVE_BACK | RR_MOVE_EXTRA, lent.head.slot,
                                       lent.head.incarnation, lent.head.hop + 1, 0));
    memcpy(rr_batch_add(&batch, RR_REC_BROADCAST, 1, 0, 0, RR_SEND_TEXT, 5), "moved", 5);
    tell_shard(self, &batch);
    rr_message_take(self, msg);
    own_call = msg;
}

/* As an end does: with the state of her next enter. */
static void own_give_back(rr_actor_t *self) {
    static const char name[] = "scene@1";
    rr_batch_t batch = {0};
    memcpy(rr_batch_add(&batch, RR_REC_JOIN, RR_JOIN_EXTRA, lent.head.slot, lent.head.incarnation, lent.head.hop + 1, 5),
           "state", 5);
    uint8_t *body = add_record(&batch, RR_REC_MOVED, lent.head.hop + 1, 12 + strlen(name));
    rr_put64(body, rr_self(self));
    rr_put32(body + 8, 0);
    memcpy(body + 12, name, strlen(name));
    tell_shard(self, &batch);
}

/* Takes alice in, and wants to give her back at once. */
static void own_enter(rr_actor_t *self, rr_message_t *msg) {
    rr_enter_t request;
    rr_batch_t batch = {0};
    ck_assert_int_eq(rr_enter_decode(rr_message_data(msg), rr_message_size(msg), &request), RR_OK);
    lent.head = request.head;
    if (own_ends) {
        own_leave(self, msg);
        return;
    }
    rr_reply(self, msg, NULL, 0);
    add_record(&batch, RR_REC_JOIN, lent.head.hop, 0);
    add_record(&batch, RR_REC_MOVE, lent.head.hop + 1, 0);
    tell_shard(self, &batch);
}

static void own_moved(rr_actor_t *self) {
    rr_batch_t batch = {0};
    uint8_t *body = add_record(&batch, RR_REC_MOVED, lent.head.hop + 1, 12);
    rr_put64(body, node.addresses[own_to]);
    rr_put32(body + 8, 0);
    tell_shard(self, &batch);
}

static void add_many(rr_batch_t *batch, uint16_t cmd, uint32_t count, bool same) {
    uint32_t list = same ? 0 : count * RR_LIST_ENTRY;
    uint8_t *body = rr_batch_add(batch, RR_REC_MULTICAST, cmd, count, 0, RR_SEND_TEXT | (same ? RR_SEND_SAME : 0), list + 4);
    ck_assert_ptr_nonnull(body);
    for (uint32_t i = 0; list && i < count; i++) { /* alice, then those who are gone */
        rr_put64(body + i * RR_LIST_ENTRY, lent.head.incarnation + i);
        rr_put32(body + i * RR_LIST_ENTRY + 8, lent.head.slot);
        rr_put32(body + i * RR_LIST_ENTRY + 12, 0);
    }
    memcpy(body + list, "many", 4);
}

/* Six that reach her, and three that make no sense: of no list, of another's size, and with a list that is cut short. */
static void own_many(rr_actor_t *self) {
    rr_batch_t batch = {0};
    add_many(&batch, 1, 2, true);
    add_many(&batch, 2, 2, false);
    add_many(&batch, 3, 2, true);
    add_many(&batch, 4, 3, true);
    add_many(&batch, 5, 2, true);
    memcpy(rr_batch_add(&batch, RR_REC_BROADCAST, 6, 0, 0, RR_SEND_TEXT, 4), "many", 4);
    add_many(&batch, 7, 2, true);
    rr_batch_add(&batch, RR_REC_MULTICAST, 8, 2, 0, 0, RR_LIST_ENTRY);
    add_many(&batch, 9, 1, false);
    tell_shard(self, &batch);
}

static void own_input(rr_message_t *msg) {
    rr_batch_reader_t reader;
    rr_record_t record;
    ck_assert_int_eq(rr_batch_open(&reader, rr_message_data(msg), rr_message_size(msg)), RR_OK);
    while (rr_batch_next(&reader, &record) == RR_OK) {
        if (record.kind == RR_REC_FENCE) {
            ck_assert_uint_eq(record.size, 8);
            ck_assert_uint_eq(record.arg, lent.head.hop + 1);
            lent.login = rr_get64(record.body);
            note("own fence %u", record.cmd);
        } else if (record.kind == RR_REC_LEFT) {
            note("own left");
        }
    }
}

static void own_answer(rr_actor_t *self, void *state, int status, rr_message_t *msg, void *context) {
    note("own answer %s", rr_error_name(status));
}

static void own_return(rr_actor_t *self, uint32_t hop) {
    uint8_t request[sizeof(rr_enter_head_t) + RR_SID_MAX];
    rr_sid_t alice = sid_of("alice");
    rr_enter_head_t head = lent.head;
    ck_assert_uint_eq(lent.login, node.addresses[0]);
    head.login = lent.login;
    head.hop = hop;
    head.gate_size = head.from_size = head.extra_size = 0;
    head.sid_size = (uint32_t)rr_sid_encode(&alice, request + sizeof(head));
    memcpy(request, &head, sizeof(head));
    ck_assert_int_eq(rr_call(self, node.addresses[own_to], RR_TYPE_ENTER, request, sizeof(head) + head.sid_size, 0,
                             own_answer, NULL, NULL),
                     RR_OK);
}

static void own_receive(rr_actor_t *self, void *state, rr_message_t *msg) {
    switch (rr_message_type(msg)) {
    case RR_TYPE_ENTER:
        own_enter(self, msg);
        break;
    case RR_TYPE_INPUT:
        own_input(msg);
        break;
    case COME_BACK:
        own_return(self, lent.head.hop + 1);
        break;
    case COME_LATE:
        own_return(self, lent.head.hop);
        break;
    case SAY_MOVED:
        own_moved(self);
        break;
    case SAY_MANY:
        own_many(self);
        break;
    case LET_IN:
        rr_reply(self, own_call, NULL, 0);
        break;
    case GIVE_BACK:
        own_give_back(self);
        rr_exit(self, RR_OK);
        break;
    case RR_TYPE_STOP:
        rr_exit(self, RR_OK);
        break;
    default:
        break;
    }
}

static const rr_behavior_t own_scene = {.name = "own", .receive = own_receive};

static rr_addr_t start_own(void) {
    rr_spawn_t spec = {.behavior = &own_scene, .name = "scene@1"};
    node.scene_count = 1;
    start();
    ck_assert_int_eq(rr_system_spawn(node.system, &spec, &node.addresses[1]), RR_OK);
    return node.addresses[1];
}

/* The client's end is heard by the login scene before the session that is on its way back: that one comes too late. */
START_TEST(leaving_on_the_way_back_is_one_offline) {
    prepare();
    rr_addr_t own = start_own();
    client_t *a = log_in("alice");
    tell(a, 1, "move:scene@1");
    await_line("own fence 0");
    hang_up(a);
    await_line("scene@0 offline alice peer");
    await_line("own left");
    ck_assert_int_eq(rr_system_send(node.system, own, COME_BACK, NULL, 0), RR_OK);
    await_line("own answer *");
    ck_assert(was_noted("own answer HANDLER"));                 /* refused */
    ck_assert_uint_eq(times_noted("scene@0 enter alice *"), 1); /* the login's only */
    ck_assert_uint_eq(times_noted("scene@0 offline alice *"), 1);
    ck_assert_double_eq(metric("rr_scene_sessions{scene=\"scene@0\"}"), 0);
    ck_assert_double_eq(metric("rr_scene_away{scene=\"scene@0\"}"), 0);
    client_t *b = log_in("alice"); /* the id is free */
    expect_silence(b);
    hang_up(b);
    finish();
}
END_TEST

START_TEST(coming_back_in_time_is_let_in) {
    prepare();
    rr_addr_t own = start_own();
    client_t *a = log_in("alice");
    tell(a, 1, "move:scene@1");
    await_line("own fence 0");
    ck_assert_int_eq(rr_system_send(node.system, own, COME_BACK, NULL, 0), RR_OK);
    await_line("own answer OK");
    ck_assert_uint_eq(times_noted("scene@0 enter alice *"), 2);
    ck_assert_double_eq(metric("rr_scene_sessions{scene=\"scene@0\"}"), 1);
    expect(a, 100, "welcome");
    hang_up(a); /* before its shard knows that it is back */
    await_line("own left");
    ck_assert_int_eq(rr_system_send(node.system, own, SAY_MOVED, NULL, 0), RR_OK);
    await_line("scene@0 offline alice *");
    ck_assert_double_eq(metric("rr_scene_away{scene=\"scene@0\"}"), 0);
    ck_assert_uint_eq(times_noted("scene@0 offline alice *"), 1);
    finish();
}
END_TEST

/* An ENTER that was overtaken by a later one, as it may be that of a crashed scene of another node. */
START_TEST(an_enter_that_comes_too_late_is_refused) {
    prepare();
    rr_addr_t own = start_own();
    start_scene(2);
    own_to = 2;
    client_t *a = log_in("alice");
    tell(a, 1, "move:scene@1");
    await_line("own fence 0");
    ck_assert_int_eq(rr_system_send(node.system, own, COME_BACK, NULL, 0), RR_OK);
    await_line("own answer OK");
    ck_assert_int_eq(rr_system_send(node.system, own, SAY_MOVED, NULL, 0), RR_OK);
    expect(a, 100, "welcome");
    expect_silence(a); /* scene@2 has her */
    ck_assert_int_eq(rr_system_send(node.system, own, COME_LATE, NULL, 0), RR_OK);
    await_line("own answer HANDLER");
    expect_silence(a);
    ck_assert(!was_noted("scene@2 offline alice *"));
    ck_assert_double_eq(metric("rr_scene_sessions{scene=\"scene@2\"}"), 1);
    hang_up(a);
    await_line("scene@2 offline alice peer");
    finish();
}
END_TEST

/* The new scene ends, and gives the session back to its gate, before the old one has said that she moved. */
START_TEST(given_back_before_the_move_is_over) {
    prepare();
    node.options.scene_lost = RR_LOST_WAIT;
    own_ends = true;
    rr_addr_t own = start_own();
    client_t *a = log_in("alice");
    tell(a, 1, "move:scene@1");
    expect(a, 1, "moved");
    ck_assert_int_eq(rr_system_send(node.system, own, LET_IN, NULL, 0), RR_OK);
    char line[32];
    snprintf(line, sizeof(line), "own fence %u", RR_BACK_KEPT);
    await_line(line);
    tell(a, 6, "1"); /* held, as what was there before the fence would have been returned */
    ck_assert_int_eq(rr_system_send(node.system, own, GIVE_BACK, NULL, 0), RR_OK);
    await_gauge("rr_gate_lost{", 1);
    while (rr_lookup(node.system, "scene@1") != RR_NOBODY)
        usleep(500); /* a name: nothing tells of its end */
    node.scene_count = 2;
    start_scene(1);
    expect(a, 100, "welcome");
    expect(a, 6, "1 1");
    await_line("scene@1 enter alice from 'scene@1' extra 'state'");
    ck_assert(!was_noted("scene@0 offline alice*"));
    hang_up(a);
    await_line("scene@0 offline alice peer");
    finish();
}
END_TEST

/* A list is said once for those behind it in a batch; what says so wrongly is counted and harms nothing. */
START_TEST(multicasts_to_the_list_before) {
    prepare();
    rr_addr_t own = start_own();
    client_t *a = log_in("alice");
    tell(a, 1, "move:scene@1");
    await_line("own fence 0");
    ck_assert_int_eq(rr_system_send(node.system, own, SAY_MANY, NULL, 0), RR_OK);
    static const uint16_t heard[] = {2, 3, 5, 6, 7, 9};
    for (size_t i = 0; i < sizeof(heard) / sizeof(*heard); i++)
        expect(a, heard[i], "many");
    await_metric("rr_gate_bad_records_total{gate=\"gate@0\"}", 3);
    await_metric("rr_gate_stale_total{gate=\"gate@0\"}", 4); /* the other in the list of 2, 3, 5 and 7 */
    await_metric("rr_gate_multicasts_total{gate=\"gate@0\"}", 5);
    hang_up(a);
    await_line("own left");
    finish();
}
END_TEST

CHECK_MAIN("move", messages_follow_in_order, no_such_scene_and_failing_enter_leave_it_where_it_is,
           broadcasts_are_the_holders, there_and_back_and_offline_once, moving_from_within_enter,
           a_new_login_replaces_a_session_that_moved_on, leaving_while_moving, a_move_that_takes_too_long_is_undone,
           leaving_on_the_way_back_is_one_offline, coming_back_in_time_is_let_in,
           an_enter_that_wants_to_move_on_is_undone, leaving_while_the_old_scene_crashes,
           an_enter_that_comes_too_late_is_refused, given_back_before_the_move_is_over, multicasts_to_the_list_before)
