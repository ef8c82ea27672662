/* Life of an actor: start, turns, exit, kill, finish, children, taken messages, limits. */
#include "tests/unit/runtime/rig.h"

static latch_t got = LATCH_INIT, gate = LATCH_INIT, inside = LATCH_INIT, finished = LATCH_INIT;
static char history[256]; /* written by the one actor of a test, read after it ended */
static _Atomic(int) reason_seen;

static void note(const char *what) { strncat(history, what, sizeof history - strlen(history) - 1); }

static int life_start(rr_actor_t *self, void *state, const void *arg) {
    MUST(*(int *)state == 0); /* zeroed */
    MUST(strcmp(arg, "argument") == 0);
    *(int *)state = 1;
    note("start ");
    return RR_OK;
}
static void life_begin(rr_actor_t *self, void *state) { note("( "); }
/* Turns without anything leave no trace: there are many while a sender stands still between counting and linking its message. */
static void life_end(rr_actor_t *self, void *state) {
    size_t length = strlen(history);
    if (length >= 2 && strcmp(history + length - 2, "( ") == 0)
        history[length - 2] = '\0';
    else
        note(") ");
}
static void life_receive(rr_actor_t *self, void *state, rr_message_t *msg) {
    MUST(rr_state(self) == state && *(int *)state == 1);
    note("receive ");
    rr_exit(self, RR_EIO);
    note("after ");
}
static void life_finish(rr_actor_t *self, void *state, int reason) {
    MUST(*(int *)state == 1);
    reason_seen = reason;
    note("finish");
    latch_add(&finished, 1);
}
static const rr_behavior_t life = {.name = "life",
                                   .state_size = sizeof(int),
                                   .start = life_start,
                                   .receive = life_receive,
                                   .turn_begin = life_begin,
                                   .turn_end = life_end,
                                   .finish = life_finish};

START_TEST(life_in_order) {
    rr_system_t *system = rig_start(2);
    char arg[] = "argument";
    rr_addr_t addr = rig_spawn(system, &(rr_spawn_t){.behavior = &life, .arg = arg, .arg_size = sizeof arg});
    memset(arg, 'x', sizeof arg); /* it was copied */
    rig_try_send(system, addr, 1);
    rig_try_send(system, addr, 2); /* not handled: exit came first */
    rig_quiet(system);
    latch_wait(&finished, 1);
    ck_assert_int_eq(reason_seen, RR_EIO);
    char *receive = strstr(history, "receive after ");
    ck_assert_ptr_nonnull(receive);
    ck_assert_ptr_null(strstr(receive + 1, "receive"));
    ck_assert_ptr_nonnull(strstr(receive, "finish) ")); /* the last turn's end: what finish produced is flushed too */
    ck_assert(strstr(history, "start ") < strstr(history, "receive"));
    int open = 0;
    for (char *at = history; *at; at++) { /* turn_begin and turn_end alternate */
        open += *at == '(' ? 1 : *at == ')' ? -1 : 0;
        ck_assert(open == 0 || open == 1);
    }
    rig_end(system);
}
END_TEST

static int fail_start(rr_actor_t *self, void *state, const void *arg) { return RR_EACCES; }
static void never(rr_actor_t *self, void *state, rr_message_t *msg) { MUST(!"receives"); }
static void never_finish(rr_actor_t *self, void *state, int reason) { MUST(!"finishes"); }
static const rr_behavior_t failing = {
    .name = "failing", .state_size = 100, .start = fail_start, .receive = never, .finish = never_finish};

START_TEST(start_that_fails) {
    rr_system_t *system = rig_start(2);
    for (int i = 0; i < 100; i++) {
        rr_addr_t addr = rig_spawn_behavior(system, &failing);
        int rc = rr_system_send(system, addr, 1, "x", 1);
        ck_assert(rc == RR_OK || rc == RR_NOROUTE);
    }
    rig_quiet(system);
    rig_end(system);
}
END_TEST

static int exit_in_start(rr_actor_t *self, void *state, const void *arg) {
    rr_exit(self, RR_OK);
    return RR_OK;
}
static void note_finish(rr_actor_t *self, void *state, int reason) {
    reason_seen = reason;
    latch_add(&finished, 1);
}
static const rr_behavior_t short_lived = {
    .name = "short", .start = exit_in_start, .receive = never, .finish = note_finish};

START_TEST(exit_from_start) {
    rr_system_t *system = rig_start(2);
    rr_addr_t addr = rig_spawn_behavior(system, &short_lived);
    rig_try_send(system, addr, 1);
    rig_quiet(system);
    ck_assert_uint_eq(latch_count(&finished), 1);
    rig_end(system);
}
END_TEST

static void hold_receive(rr_actor_t *self, void *state, rr_message_t *msg) {
    latch_add(&got, 1);
    latch_add(&inside, 1);
    latch_hold(&gate, 1);
}
static const rr_behavior_t holder = {.name = "holder", .receive = hold_receive, .finish = note_finish};

START_TEST(kill_overtakes_the_mailbox) {
    rr_system_t *system = rig_start(2);
    rr_addr_t addr = rig_spawn_behavior(system, &holder);
    for (int i = 0; i < 1000; i++)
        rig_send(system, addr, 1);
    latch_wait(&inside, 1);
    rr_kill(system, addr, RR_ELIMIT);
    rr_kill(system, addr, RR_EIO); /* the first reason counts */
    latch_add(&gate, 1);
    rig_quiet(system);
    ck_assert_uint_eq(latch_count(&got), 1);
    ck_assert_int_eq(reason_seen, RR_ELIMIT);
    ck_assert_uint_eq(rr_system_dead_letters(system), 999);
    rr_kill(system, addr, RR_EIO); /* gone: what was asked for */
    rr_kill(system, RR_NOBODY, RR_EIO);
    rig_end(system);
}
END_TEST

START_TEST(kill_an_idle_one) {
    rr_system_t *system = rig_start(2);
    rr_addr_t addr = rig_spawn_behavior(system, &holder);
    latch_add(&gate, 1);
    rig_send(system, addr, 1);
    latch_wait(&inside, 1);
    rr_kill(system, addr, RR_CANCELLED);
    rig_quiet(system);
    ck_assert_int_eq(reason_seen, RR_CANCELLED);
    rig_end(system);
}
END_TEST

START_TEST(kill_races_with_spawn_and_send) {
    rr_system_t *system = rig_start(2);
    latch_add(&gate, 1);
    for (int i = 0; i < 3000; i++) {
        rr_addr_t addr = rig_spawn_behavior(system, &holder);
        rig_try_send(system, addr, 1);
        rr_kill(system, addr, RR_CANCELLED);
        rig_try_send(system, addr, 1);
    }
    rig_quiet(system);
    rig_end(system);
}
END_TEST

/* ---- Children ------------------------------------------------------------------------------------------------------ */

static rr_addr_t parent_addr;
static _Atomic(rr_addr_t) child_addr;

static int child_start(rr_actor_t *self, void *state, const void *arg) {
    MUST(rr_lookup(rr_system_of(self), "child") == rr_self(self)); /* registered before start */
    MUST(strcmp(rr_name(self), "child") == 0);
    return RR_OK;
}
static void child_receive(rr_actor_t *self, void *state, rr_message_t *msg) {
    MUST(rr_message_from(msg) == parent_addr);
    latch_add(&got, 1);
    rr_exit(self, RR_OK);
}
static void child_finish(rr_actor_t *self, void *state, int reason) {
    MUST(rr_send(self, parent_addr, 2, "bye", 3) == RR_OK); /* the dying can still send */
}
static const rr_behavior_t child = {
    .name = "child", .start = child_start, .receive = child_receive, .finish = child_finish};

static void parent_receive(rr_actor_t *self, void *state, rr_message_t *msg) {
    if (rr_message_type(msg) == 2) {
        MUST(rr_message_from(msg) == child_addr && rr_message_size(msg) == 3);
        rr_exit(self, RR_OK);
        return;
    }
    parent_addr = rr_self(self);
    MUST(strcmp(rr_name(self), "") == 0);
    rr_addr_t addr;
    rr_spawn_t spec = {.behavior = &child, .name = "child"};
    MUST(rr_spawn(self, &spec, &addr) == RR_OK);
    child_addr = addr;
    MUST(rr_spawn(self, &spec, NULL) == RR_EEXIST);
    spec.name = "no spaces";
    MUST(rr_spawn(self, &spec, NULL) == RR_EINVAL);
    spec = (rr_spawn_t){0};
    MUST(rr_spawn(self, &spec, NULL) == RR_EINVAL);
    spec = (rr_spawn_t){.behavior = &child, .name = "child", .link = true};
    MUST(rr_spawn(self, &spec, NULL) == RR_EEXIST); /* nor does the failure kill the parent it was to be linked to */
    MUST(rr_send(self, addr, 1, NULL, 0) == RR_OK); /* arrives after its start */
    latch_add(&inside, 1);
}
static const rr_behavior_t parent = {.name = "parent", .receive = parent_receive};

START_TEST(children) {
    rr_system_t *system = rig_start(2);
    rig_send(system, rig_spawn_behavior(system, &parent), 1);
    rig_quiet(system);
    ck_assert_uint_eq(latch_count(&inside), 1);
    ck_assert_uint_eq(latch_count(&got), 1);
    rig_end(system);
}
END_TEST

/* ---- Taken messages -------------------------------------------------------------------------------------------------- */

typedef struct taker {
    rr_message_t *kept[10];
    int count;
} taker_t;

static void take_receive(rr_actor_t *self, void *state, rr_message_t *msg) {
    taker_t *taker = state;
    if (taker->count < 10) {
        rr_message_take(self, msg);
        taker->kept[taker->count++] = msg;
        latch_add(&got, 1);
        return;
    }
    for (int i = 0; i < 10; i++) {
        MUST(rr_message_type(taker->kept[i]) == (uint32_t)i);
        char expected_text[2000];
        memset(expected_text, 'a' + i, sizeof expected_text);
        size_t size = (size_t)i * 200;
        MUST(rr_message_size(taker->kept[i]) == size);
        MUST(memcmp(rr_message_data(taker->kept[i]), expected_text, size) == 0);
        if (i % 2) /* the others are given back when the actor dies */
            rr_message_release(self, taker->kept[i]);
    }
    latch_add(&got, 1);
    rr_exit(self, RR_OK);
}
static const rr_behavior_t taker = {.name = "taker", .state_size = sizeof(taker_t), .receive = take_receive};

START_TEST(taken_messages_stay) {
    rr_system_t *system = rig_start(2);
    rr_addr_t addr = rig_spawn_behavior(system, &taker);
    for (int i = 0; i < 11; i++) {
        char text[2000];
        memset(text, 'a' + i, sizeof text);
        ck_assert_int_eq(rr_system_send(system, addr, (uint32_t)i, text, (size_t)i * 200 % 2000), RR_OK);
        latch_wait(&got, (uint64_t)i + 1);
    }
    rig_quiet(system);
    rig_end(system);
}
END_TEST

/* ---- Many, limits, options -------------------------------------------------------------------------------------------- */

static void one_shot(rr_actor_t *self, void *state, rr_message_t *msg) { rr_exit(self, RR_OK); }
static const rr_behavior_t mayfly = {.name = "mayfly", .state_size = 64, .receive = one_shot};

START_TEST(many_short_lives) {
    rr_system_t *system = rig_start(2);
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < 5000; i++)
            rig_send(system, rig_spawn_behavior(system, &mayfly), 1);
        rig_quiet(system);
    }
    ck_assert_uint_eq(rr_system_dead_letters(system), 0);
    rig_end(system);
}
END_TEST

START_TEST(addresses_are_not_reused) {
    rr_system_t *system = rig_start(1);
    static rr_addr_t seen[2000];
    for (int i = 0; i < 2000; i++) {
        seen[i] = rig_spawn_behavior(system, &mayfly);
        rig_send(system, seen[i], 1);
        rig_quiet(system);
        ck_assert_uint_eq(rr_addr_node(seen[i]), 1);
        for (int k = 0; k < i; k++)
            if (seen[k] == seen[i])
                ck_abort_msg("reused");
        ck_assert_int_eq(rr_system_send(system, seen[i], 1, NULL, 0), RR_NOROUTE);
    }
    rig_end(system);
}
END_TEST

START_TEST(limit_of_actors) {
    rr_options_t options;
    rig_options(&options, 1);
    options.max_actors = 100;
    options.node = 77;
    rr_system_t *system = rig_start_with(&options);
    ck_assert_uint_eq(rr_system_node(system), 77);
    int alive = 0;
    rr_addr_t addr = RR_NOBODY;
    rr_spawn_t spec = {.behavior = &mayfly};
    for (; alive < 200; alive++) {
        int rc = rr_system_spawn(system, &spec, &addr);
        if (rc != RR_OK) {
            ck_assert_int_eq(rc, RR_ELIMIT);
            break;
        }
        ck_assert_uint_eq(rr_addr_node(addr), 77);
    }
    ck_assert_int_le(alive, 100);
    ck_assert_int_ge(alive, 90);
    ck_assert_uint_eq(rr_system_actor_count(system), (size_t)alive);
    rr_kill(system, addr, RR_OK);
    rig_end(system); /* with actors alive */
}
END_TEST

START_TEST(bad_options) {
    rr_options_t options;
    rr_system_t *system = NULL;
    rig_options(&options, 1);
    options.node = 65536;
    ck_assert_int_eq(rr_system_create(&system, &options), RR_EINVAL);
    rig_options(&options, 1);
    options.max_actors = 1u << 24;
    ck_assert_int_eq(rr_system_create(&system, &options), RR_EINVAL);
    rig_options(&options, 1);
    options.log_path = "/dev/null/nowhere";
    ck_assert_int_lt(rr_system_create(&system, &options), 0);
}
END_TEST

START_TEST(several_systems) {
    rr_system_t *a = rig_start(1);
    int64_t before = rig_live;
    rr_options_t options;
    rig_options(&options, 2);
    options.node = 2;
    rr_system_t *b = rig_start_with(&options);
    rr_addr_t in_a = rig_spawn_behavior(a, &mayfly), in_b = rig_spawn_behavior(b, &mayfly);
    ck_assert_int_eq(rr_system_send(a, in_b, 1, NULL, 0), RR_NOROUTE); /* no route between nodes in runtime/ alone */
    rig_send(a, in_a, 1);
    rig_quiet(a);
    ck_assert_uint_eq(rr_system_actor_count(b), 1);
    rig_send(b, in_b, 1);
    rig_quiet(b);
    rr_system_stop(b);
    rr_system_destroy(b);
    rig_live = before;
    rig_end(a);
}
END_TEST

START_TEST(never_started) {
    rr_options_t options;
    rig_options(&options, 2);
    rr_system_t *system = NULL;
    int64_t before = 0;
#ifndef NDEBUG
    before = rr__alloc_live();
#endif
    ck_assert_int_eq(rr_system_create(&system, &options), RR_OK);
    rr_addr_t addr = rig_spawn_behavior(system, &mayfly);
    ck_assert_int_eq(rr_system_send(system, addr, 1, "x", 1), RR_OK);
    rr_system_stop(system);
    rr_system_destroy(system);
#ifndef NDEBUG
    ck_assert_int_eq(rr__alloc_live(), before);
#endif
    (void)before;
}
END_TEST

static const void *given_back[4];
static size_t given_back_count;
static void borrowed_unstarted(const void *arg) { given_back[given_back_count++] = arg; }
static int borrowed_start(rr_actor_t *self, void *state, const void *arg) {
    latch_add(&got, 1);
    return *(const int *)arg;
}
static const rr_behavior_t borrowed = {
    .name = "borrowed", .start = borrowed_start, .unstarted = borrowed_unstarted, .receive = never};

START_TEST(an_arg_that_no_start_took) {
    static const int good = RR_OK, bad = RR_EIO, waiting = RR_OK;
    rr_system_t *system = rig_start(1);
    rig_spawn(system, &(rr_spawn_t){.behavior = &borrowed, .arg = &bad});
    rig_quiet(system); /* its start failed: it was called */
    rig_spawn(system, &(rr_spawn_t){.behavior = &borrowed, .arg = &good, .name = "taken"});
    latch_wait(&got, 2);
    ck_assert_int_eq(rr_system_spawn(system, &(rr_spawn_t){.behavior = &borrowed, .arg = &good, .name = "taken"}, NULL), RR_EEXIST);
    rig_end(system);
    ck_assert_uint_eq(given_back_count, 0);
    rr_options_t options;
    rig_options(&options, 1);
    ck_assert_int_eq(rr_system_create(&system, &options), RR_OK);
    rig_spawn(system, &(rr_spawn_t){.behavior = &borrowed, .arg = &waiting});
    rig_spawn(system, &(rr_spawn_t){.behavior = &borrowed, .arg = &waiting, .arg_size = sizeof waiting}); /* a copy: not lent */
    rr_system_destroy(system);
    ck_assert_uint_eq(given_back_count, 1);
    ck_assert_ptr_eq(given_back[0], &waiting);
}
END_TEST

CHECK_MAIN("actor", life_in_order, start_that_fails, exit_from_start, kill_overtakes_the_mailbox, kill_an_idle_one,
           kill_races_with_spawn_and_send, children, taken_messages_stay, many_short_lives, addresses_are_not_reused,
           limit_of_actors, bad_options, several_systems, never_started, an_arg_that_no_start_took)
