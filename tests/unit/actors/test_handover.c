/* Scenes that hand their sessions over: where to, with what, what waits meanwhile, and that nothing is lost or doubled. */
#include "actors/protocol.h"
#include "fixture.h"

static client_t *log_in_at(const char *key, const char *scene) {
    client_t *client = log_in(key);
    char order[80];
    snprintf(order, sizeof(order), "move:%s", scene);
    tell(client, 1, order);
    expect(client, 100, "welcome");
    return client;
}

static void hand_over(const char *scene, const char *to, uint64_t moved, uint64_t left) {
    uint64_t m, l;
    ck_assert_int_eq(rr_scenes_hand_over(node.system, &scene, 1, to, false, 5000, &m, &l), RR_OK);
    ck_assert_uint_eq(m, moved);
    ck_assert_uint_eq(l, left);
}

static void stop_scene(size_t i) {
    ck_assert_int_eq(rr_actors_drain(node.system, NULL, 0, &node.scenes[i].name, 1, false, 5000), RR_OK);
    while (rr_lookup(node.system, node.scenes[i].name) != RR_NOBODY)
        usleep(500);
}

START_TEST(sessions_go_where_they_should_with_their_state) {
    prepare();
    node.scene_count = 3;
    node.scenes[1].drain_to = "scene@2";
    start();
    client_t *a = log_in_at("alice", "scene@1"), *b = log_in_at("keep-bob", "scene@1"), *c = log_in_at("fail-carol", "scene@1");
    tell(a, 6, "1");
    expect(a, 6, "1 1");
    hand_over("scene@1", NULL, 1, 2); /* bob's logic keeps him, carol's failed */
    expect(a, 100, "welcome");
    await_line("scene@2 enter alice from 'scene@1' extra 'count:1'");
    ck_assert(was_noted("scene@1 leave alice to scene@2"));
    tell(a, 6, "2");
    expect(a, 6, "2 2");
    expect_silence(b); /* is served until the end */
    expect_silence(c);
    tell(a, 1, "move:scene@1"); /* a scene that was drained takes nobody */
    await_line("scene@2 answer 55 error *");
    expect_silence(a);
    stop_scene(1);
    expect_closed(b);
    expect_closed(c);
    await_line("scene@1 offline keep-bob drain");
    ck_assert_uint_eq(times_noted("scene@1 offline alice*"), 0);
    expect_silence(a);
    ck_assert(metric("rr_scene_handed_over_total{scene=\"scene@0\"}") == 0);
    hang_up(a);
    await_line("scene@2 offline alice peer");
    await_line("scene@0 offline alice peer");
    hang_up(b);
    hang_up(c);
    finish();
}
END_TEST

START_TEST(a_logic_may_answer_later_and_messages_wait) {
    prepare();
    start();
    client_t *a = log_in("pend-alice"), *b = log_in_at("bob", "scene@1"), *c = log_in("keep-carol");
    tell(c, 1, "handover:scene@1");
    await_line("scene@0 hand over pend-alice");
    tell(a, 6, "1");
    tell(a, 6, "2");
    tell(c, 1, "handto:pend-alice");
    expect(a, 100, "welcome");
    expect(a, 6, "1 1");
    expect(a, 6, "2 2");
    await_line("scene@1 enter pend-alice from 'scene@0' extra 'later'");
    await_line("scene@0 answer 57 ok [1, 1]");
    client_t *d = log_in("dora"); /* open again by now, or soon: her login waits */
    tell(a, 1, "move:scene@0");
    expect(a, 100, "welcome");
    expect_silence(a);
    expect_silence(b);
    expect_silence(d);
    hang_up(a);
    hang_up(b);
    hang_up(c);
    hang_up(d);
    finish();
}
END_TEST

START_TEST(running_handlers_end_first_and_what_is_queued_goes_along) {
    prepare();
    start();
    client_t *a = log_in("alice"), *c = log_in("keep-carol");
    tell(a, 1, "wait"); /* runs on */
    tell(a, 6, "1");
    tell(a, 6, "2");
    await_line("scene@0 message alice 1 wait");
    tell(c, 1, "handover:scene@1");
    tell(c, 1, "echo:x");
    expect(c, 1, "echo:x");
    ck_assert(!was_noted("scene@0 hand over alice"));
    tell(c, 1, "go:alice");
    expect(a, 100, "welcome");
    expect(a, 6, "1 1"); /* handled there: the count begins at 0, as handed over */
    expect(a, 6, "2 2");
    await_line("scene@1 enter alice from 'scene@0' extra 'count:0'");
    hang_up(a);
    hang_up(c);
    finish();
}
END_TEST

/* A handler that goes on for longer than its session may wait is left behind: its message is not handled again, and what it
 * says then reaches nobody. Those behind it go along. */
START_TEST(a_handler_that_takes_too_long_is_left_behind) {
    prepare();
    node.scenes[0].offline_wait_ms = 100;
    start();
    client_t *a = log_in("alice"), *c = log_in("keep-carol");
    tell(a, 1, "wait");
    tell(a, 6, "1");
    await_line("scene@0 message alice 1 wait");
    tell(c, 1, "handover:scene@1");
    expect(a, 100, "welcome");
    expect(a, 6, "1 1");
    await_line("scene@0 answer 57 ok [1, 1]");
    ck_assert_uint_eq(times_noted("scene@0 message alice 1 wait") + times_noted("scene@1 message alice 1 wait"), 1);
    ck_assert(metric("rr_scene_hand_over_cut_total{scene=\"scene@0\"}") == 1);
    tell(c, 1, "go:alice");
    expect_silence(c);
    expect_silence(a);
    hang_up(a);
    hang_up(c);
    finish();
}
END_TEST

/* Who was tried in vain is served meanwhile: a handler that begins then has its time as well, though the others' is over. */
START_TEST(who_was_not_taken_at_once_goes_when_its_handler_has_ended) {
    prepare();
    node.scenes[0].offline_wait_ms = 100;
    start();
    client_t *a = log_in("alice"), *b = log_in("bob"), *c = log_in("keep-carol");
    tell(c, 1, "handover:scene@2"); /* that is not there yet */
    await_line("scene@0 hand over alice");
    tell(a, 1, "wait");
    await_line("scene@0 message alice 1 wait");
    for (int i = 0; i < PATIENCE_MS && times_noted("scene@0 hand over bob") < 5; i++)
        usleep(1000); /* tried after 20, 40, 80 and 160 ms more */
    unsigned tries = times_noted("scene@0 hand over alice");
    node.scene_count = 3;
    start_scene(2);
    expect(b, 100, "welcome");
    await_line("scene@2 enter bob from 'scene@0' extra 'count:0'");
    ck_assert_uint_eq(times_noted("scene@0 hand over alice"), tries);
    tell(c, 1, "go:alice");
    expect(a, 100, "welcome");
    await_line("scene@2 enter alice from 'scene@0' extra 'count:0'");
    await_line("scene@0 answer 57 ok [2, 1]");
    ck_assert(metric("rr_scene_hand_over_cut_total{scene=\"scene@0\"}") == 0);
    hang_up(a);
    hang_up(b);
    hang_up(c);
    finish();
}
END_TEST

/* When its time is over nobody else goes: those under way are the last, then the scene serves on. */
START_TEST(an_end_in_time) {
    prepare();
    node.scenes[0].logic_arg = &node; /* a short deadline */
    node.scenes[0].move_timeout_ms = 1000;
    node.scenes[1].offline_wait_ms = 100;
    start();
    client_t *a = dial(), *b = log_in("bob"), *c = log_in("keep-carol");
    tell(a, 0, "slow-alice");
    await_line("scene@0 enter slow-alice from '' extra ''");
    tell(c, 1, "go:slow-alice");
    tell(b, 1, "wait");
    await_line("scene@0 message bob 1 wait");
    tell(c, 1, "handover:scene@1");
    await_line("scene@1 enter slow-alice from 'scene@0' extra 'count:0'"); /* and does not end there */
    /* A running handler is waited for until three quarters of the time; as a rule the next look comes when all of it is over. */
    bool forced = await_either("scene@0 answer 57 ok [0, 3]", "scene@0 answer 57 ok [1, 2]") == 1;
    tell(c, 1, "go:bob");
    expect_silence(c);
    if (forced)
        expect(b, 100, "welcome"); /* it went all the same */
    expect_silence(b);
    client_t *d = log_in("dora"); /* it lets sessions in again */
    expect_silence(d);
    expect_silence(a);
    ck_assert_int_eq(was_noted("scene@0 hand over bob"), forced);
    hang_up(a);
    hang_up(b);
    hang_up(c);
    hang_up(d);
    finish();
}
END_TEST

START_TEST(a_target_that_is_not_there_yet) {
    prepare();
    start();
    client_t *a = log_in("alice"), *c = log_in("keep-carol");
    tell(c, 1, "handover:scene@2");
    await_line("scene@0 hand over alice");
    for (int i = 0; i < 5; i++)
        expect_silence(a); /* is served where it is */
    node.scene_count = 3;
    start_scene(2);
    expect(a, 100, "welcome");
    await_line("scene@2 enter alice from 'scene@0' extra 'count:0'");
    await_line("scene@0 answer 57 ok [1, 1]");
    hang_up(a);
    hang_up(c);
    finish();
}
END_TEST

START_TEST(logins_wait_while_their_scene_is_replaced) {
    prepare();
    start();
    client_t *a = log_in("alice");
    hand_over("scene@0", "scene@1", 1, 0);
    expect(a, 100, "welcome");
    client_t *b = dial();
    tell(b, 0, "bob");
    tell(b, 3, "echo:behind it");
    expect_silence(a);
    stop_scene(0);
    ck_assert_uint_eq(times_noted("scene@0 offline*"), 0); /* alice lives on, registered nowhere for a moment */
    ck_assert(!was_noted("scene@0 verify bob*"));
    start_scene(0);
    expect(b, 100, "welcome");
    expect(b, 3, "echo:behind it");
    client_t *a2 = log_in("alice"); /* known again */
    expect_closed(a);
    await_line("scene@1 offline alice replaced");
    await_line("scene@0 offline alice replaced");
    expect(b, 99, "scene@0 offline alice");
    hang_up(a);
    hang_up(a2);
    hang_up(b);
    finish();
}
END_TEST

START_TEST(clients_that_leave_and_scenes_that_die_meanwhile) {
    prepare();
    start();
    client_t *a = log_in("pend-alice"), *b = log_in("bob"), *c = log_in("keep-carol");
    tell(c, 1, "handover:scene@1");
    await_line("scene@0 hand over pend-alice");
    hang_up(a);
    await_line("scene@0 offline pend-alice peer");
    expect(c, 99, "scene@0 offline pend-alice");
    tell(c, 1, "handto:pend-alice"); /* too late for her */
    await_line("scene@0 answer 57 ok [1, 1]");
    while (hear(b) && b->cmd == 99)
        ; /* her offline notice, if he was still there */
    ck_assert_str_eq(b->body, "welcome");
    ck_assert_uint_eq(times_noted("scene@1 enter pend-alice*"), 0);
    hang_up(b);
    hang_up(c);
    finish();
}
END_TEST

START_TEST(sessions_whose_gate_ends_as_well_are_left_alone) {
    prepare();
    start();
    client_t *a = log_in("alice");
    const char *scene = "scene@0";
    uint64_t moved, left;
    ck_assert_int_eq(rr_scenes_hand_over(node.system, &scene, 1, "scene@1", true, 5000, &moved, &left), RR_OK);
    ck_assert_uint_eq(moved, 0);
    ck_assert_uint_eq(left, 0); /* her gate ends with the node: there is nothing to hand over */
    ck_assert(!was_noted("scene@0 hand over alice"));
    expect_silence(a);
    hang_up(a);
    finish();
}
END_TEST

/* ---- Nobody takes them ---- */

static void on_given_back(rr_actor_t *self, void *state, int status, rr_message_t *msg, void *context) {
    rr_exit(self, RR_OK);
}

static int asker_start(rr_actor_t *self, void *state, const void *arg) {
    rr_hand_over_t head = {.deadline_ms = 2000, .flags = RR_HAND_OVER_BACK};
    return rr_call(self, *(const rr_addr_t *)arg, RR_TYPE_HAND_OVER, &head, sizeof(head), 5000, on_given_back, NULL, NULL);
}

static void asker_receive(rr_actor_t *self, void *state, rr_message_t *msg) {}

/* As the end of a scene's node does; here the gate lives on the same one. */
static void give_back(size_t i) {
    static const rr_behavior_t asker = {.name = "asker", .state_size = 1, .start = asker_start, .receive = asker_receive};
    rr_addr_t addr;
    rr_spawn_t spec = {.behavior = &asker, .arg = &node.addresses[i], .arg_size = sizeof(rr_addr_t)};
    ck_assert_int_eq(rr_system_spawn(node.system, &spec, &addr), RR_OK);
}

/* Others' offline notices may come before. */
static void await_welcome(client_t *client) {
    while (hear(client) && client->cmd == 99)
        ;
    ck_assert_str_eq(client->body, "welcome");
}

static void await_closed(client_t *client) {
    while (hear(client))
        ck_assert_uint_eq(client->cmd, 99);
}

START_TEST(sessions_wait_for_their_scenes_orderly_restart) {
    prepare();
    node.options.scene_lost = RR_LOST_WAIT;
    start();
    client_t *a = log_in_at("alice", "scene@1"), *b = log_in_at("bob", "scene@1"), *k = log_in_at("keep-kim", "scene@1"),
             *f = log_in_at("fail-fay", "scene@1");
    tell(a, 6, "1");
    expect(a, 6, "1 1");
    tell(a, 1, "wait"); /* runs on */
    tell(a, 6, "2");
    tell(a, 6, "3");
    await_line("scene@1 message alice 1 wait");
    give_back(1);
    await_metric("rr_gate_lost", 2); /* bob and fay */
    tell(k, 1, "go:alice");
    await_metric("rr_gate_lost", 3);
    tell(a, 6, "4"); /* held */
    hang_up(b);      /* while the scene still lives: offline there, and at the login scene */
    await_line("scene@1 offline bob peer");
    await_line("scene@0 offline bob peer");
    stop_scene(1);
    await_line("scene@1 offline keep-kim drain"); /* her logic keeps her to the end: that is one, whatever the gate does */
    await_line("scene@0 offline keep-kim drain");
    await_closed(k);
    start_scene(1);
    expect(a, 100, "welcome");
    expect(a, 6, "2 2"); /* goes on from what on_drain said: not handled there, in order here */
    expect(a, 6, "3 3");
    expect(a, 6, "4 4");
    expect(f, 100, "welcome");
    await_line("scene@1 enter alice from 'scene@1' extra 'count:1'");
    await_line("scene@1 enter fail-fay from 'scene@1' extra 'x'"); /* no state: that of its last enter */
    ck_assert(was_noted("scene@1 leave alice to scene@1"));
    ck_assert_uint_eq(times_noted("scene@1 offline alice*") + times_noted("scene@0 offline alice*"), 0);
    ck_assert_uint_eq(times_noted("scene@1 offline fail-fay*") + times_noted("scene@0 offline fail-fay*"), 0);
    ck_assert(metric("rr_gate_resumes_total") == 2);
    ck_assert_uint_eq(times_noted("scene@1 enter keep-kim*"), 1);
    ck_assert(metric("rr_gate_lost") == 0);
    hang_up(a);
    await_line("scene@1 offline alice peer");
    await_line("scene@0 offline alice peer");
    hang_up(f);
    hang_up(k);
    finish();
}
END_TEST

START_TEST(sessions_log_in_again_after_an_orderly_end) {
    prepare();
    node.options.scene_lost = RR_LOST_RELOGIN;
    start();
    client_t *a = log_in("alice"), *k = log_in("keep-kim");
    tell(a, 6, "1");
    expect(a, 6, "1 1");
    tell(a, 1, "wait");
    tell(a, 6, "2");
    await_line("scene@0 message alice 1 wait");
    give_back(0); /* the login scene itself */
    await_line("scene@0 hand over keep-kim");
    tell(k, 1, "go:alice");
    await_line("scene@0 offline alice drain"); /* that login is over */
    tell(a, 6, "3");
    stop_scene(0);
    await_closed(k); /* is not logged in again: it ended with the scene */
    start_scene(0);
    await_welcome(a);
    expect(a, 6, "2 1"); /* what was not handled, by who has it anew */
    expect(a, 6, "3 2");
    ck_assert_uint_eq(times_noted("scene@0 verify alice*"), 2);
    ck_assert_uint_eq(times_noted("scene@0 offline alice*"), 1);
    ck_assert_uint_eq(times_noted("scene@0 verify keep-kim*"), 1);
    ck_assert_uint_eq(times_noted("scene@0 offline keep-kim*"), 1);
    ck_assert(metric("rr_gate_relogins_total") == 1);
    hang_up(a);
    hang_up(k);
    finish();
}
END_TEST

START_TEST(a_gate_that_keeps_nobody_takes_nobody_back) {
    prepare();
    start();
    client_t *a = log_in("alice");
    give_back(0);
    await_line("scene@0 hand over alice");
    tell(a, 6, "1");
    expect(a, 6, "1 1"); /* is served until the end */
    stop_scene(0);
    expect_closed(a);
    await_line("scene@0 offline alice drain");
    hang_up(a);
    finish();
}
END_TEST

/* ---- Many clients, one scene after the other ---- */

#define BOTS      200
#define IN_FLIGHT 8

typedef struct bot {
    client_t *client;
    unsigned asked, answered;
} bot_t;

static struct {
    bot_t bots[BOTS];
    pthread_t thread;
    _Atomic(bool) stop;
    _Atomic(unsigned) answered; /* by all */
} crowd;

/* Reads what is there; every answer must be the next, counted once. */
static void read_answers(bot_t *bot) {
    uint32_t n, count, size;
    client_t *c = bot->client;
    ck_assert_msg(more(c), "a client was closed");
    while (c->have >= 8) {
        memcpy(&size, c->in, 4);
        memcpy(&c->cmd, c->in + 4, 2);
        if (c->have < 8 + size)
            return;
        char text[64];
        snprintf(text, sizeof(text), "%.*s", (int)size, (const char *)c->in + 8);
        drop_bytes(c, 8 + size);
        if (c->cmd == 100)
            continue; /* welcome */
        ck_assert_uint_eq(c->cmd, 6);
        ck_assert_int_eq(sscanf(text, "%u %u", &n, &count), 2);
        ck_assert_uint_eq(n, ++bot->answered);
        ck_assert_uint_eq(count, n);
        crowd.answered++;
    }
}

static void ask_more(bot_t *bot) {
    while (bot->asked - bot->answered < IN_FLIGHT) {
        char text[16];
        snprintf(text, sizeof(text), "%u", ++bot->asked);
        tell(bot->client, 6, text);
    }
}

static void *play(void *unused) {
    struct pollfd fds[BOTS];
    for (;;) {
        bool stop = crowd.stop, busy = false;
        for (int i = 0; i < BOTS; i++) {
            if (!stop)
                ask_more(&crowd.bots[i]);
            busy = busy || crowd.bots[i].answered < crowd.bots[i].asked;
            fds[i] = (struct pollfd){.fd = crowd.bots[i].client->fd, .events = POLLIN};
        }
        if (!busy)
            return NULL;
        ck_assert_int_gt(poll(fds, BOTS, PATIENCE_MS), 0);
        for (int i = 0; i < BOTS; i++)
            if (fds[i].revents)
                read_answers(&crowd.bots[i]);
    }
}

static void await_answers(unsigned more) {
    unsigned until = crowd.answered + more;
    for (int i = 0; i < PATIENCE_MS && crowd.answered < until; i++)
        usleep(1000); /* a counter: nothing tells of its change */
    ck_assert_uint_ge(crowd.answered, until);
}

static void replace(size_t i, const char *to) {
    uint64_t moved, left;
    const char *name = node.scenes[i].name;
    ck_assert_int_eq(rr_scenes_hand_over(node.system, &name, 1, to, false, 8000, &moved, &left), RR_OK);
    ck_assert_uint_eq(left, 0);
    ck_assert_uint_ge(moved, 1);
    await_answers(2000);
    stop_scene(i);
    start_scene(i);
    await_answers(2000);
}

START_TEST(two_hundred_clients_play_through_a_rolling_restart) {
    prepare();
    node.scene_count = 3;
    start();
    for (int i = 0; i < BOTS; i++) {
        char key[16];
        snprintf(key, sizeof(key), "bot-%d", i);
        crowd.bots[i].client = dial();
        tell(crowd.bots[i].client, 0, key);
        expect(crowd.bots[i].client, 100, "welcome");
    }
    ck_assert_int_eq(pthread_create(&crowd.thread, NULL, play, NULL), 0);
    await_answers(2000);
    replace(0, "scene@1"); /* the login scene, too */
    replace(1, "scene@2");
    replace(2, "scene@1");
    replace(1, "scene@0");
    replace(0, "scene@2");
    crowd.stop = true;
    pthread_join(crowd.thread, NULL);
    ck_assert_uint_eq(rr_gate_sessions(node.gate), BOTS);
    for (int i = 0; i < BOTS; i++)
        hang_up(crowd.bots[i].client);
    finish();
}
END_TEST

CHECK_MAIN("handover", sessions_go_where_they_should_with_their_state, a_logic_may_answer_later_and_messages_wait,
           running_handlers_end_first_and_what_is_queued_goes_along, a_target_that_is_not_there_yet, an_end_in_time,
           a_handler_that_takes_too_long_is_left_behind, who_was_not_taken_at_once_goes_when_its_handler_has_ended,
           logins_wait_while_their_scene_is_replaced, clients_that_leave_and_scenes_that_die_meanwhile,
           sessions_whose_gate_ends_as_well_are_left_alone, sessions_wait_for_their_scenes_orderly_restart,
           sessions_log_in_again_after_an_orderly_end, a_gate_that_keeps_nobody_takes_nobody_back, two_hundred_clients_play_through_a_rolling_restart)
