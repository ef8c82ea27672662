/* Messages nobody handles are counted, and told to whoever wants to know. */
#include <unistd.h>

#include "tests/unit/runtime/rig.h"

static latch_t told = LATCH_INIT, inside = LATCH_INIT, gate = LATCH_INIT;
static rr_dead_letter_t letters[64];

static void note(rr_actor_t *self, void *state, rr_message_t *msg) {
    MUST(rr_message_type(msg) == RR_TYPE_DEAD_LETTER && rr_message_size(msg) == sizeof(rr_dead_letter_t));
    uint64_t n = latch_count(&told);
    if (n < 64)
        memcpy(&letters[n], rr_message_data(msg), sizeof(rr_dead_letter_t));
    latch_add(&told, 1);
}
static const rr_behavior_t undertaker = {.name = "undertaker", .receive = note};

static void hold(rr_actor_t *self, void *state, rr_message_t *msg) {
    latch_add(&inside, 1);
    latch_hold(&gate, 1);
}
static const rr_behavior_t holder = {.name = "holder", .receive = hold};

static void watch(rr_system_t *system, rr_addr_t who, unsigned room) {
    ck_assert_int_eq(rr_system_watch_dead_letters(system, who, room), RR_OK);
}

START_TEST(told_with_particulars) {
    rr_system_t *system = rig_start(2);
    rr_addr_t who = rig_spawn_behavior(system, &undertaker);
    watch(system, who, 0);
    rr_addr_t nowhere = rig_addr(1, 500, 3);
    ck_assert_int_eq(rr_system_send(system, nowhere, 42, "12345", 5), RR_NOROUTE);
    latch_wait(&told, 1);
    ck_assert_uint_eq(letters[0].to, nowhere);
    ck_assert_uint_eq(letters[0].from, RR_NOBODY);
    ck_assert_uint_eq(letters[0].type, 42);
    ck_assert_uint_eq(letters[0].size, 5);
    ck_assert_int_eq(letters[0].reason, RR_NOROUTE);
    ck_assert_int_eq(letters[0].kind, RR_SEND);
    ck_assert_uint_eq(rr_system_dead_letters(system), 1);
    rr_system_unwatch_dead_letters(system, who);
    ck_assert_int_eq(rr_system_send(system, nowhere, 42, "12345", 5), RR_NOROUTE);
    ck_assert_uint_eq(rr_system_dead_letters(system), 2);
    ck_assert(!latch_reached(&told, 2, 20));
    rig_end(system);
}
END_TEST

START_TEST(what_a_mailbox_still_held) {
    rr_system_t *system = rig_start(2);
    watch(system, rig_spawn_behavior(system, &undertaker), 0);
    rr_addr_t addr = rig_spawn_behavior(system, &holder);
    rig_send(system, addr, 0);
    latch_wait(&inside, 1);
    for (uint32_t i = 1; i <= 20; i++)
        ck_assert_int_eq(rr_system_send(system, addr, i, "abc", 3), RR_OK);
    rr_kill(system, addr, RR_CANCELLED);
    latch_add(&gate, 1);
    latch_wait(&told, 20);
    for (uint32_t i = 0; i < 20; i++) {
        ck_assert_uint_eq(letters[i].type, i + 1);
        ck_assert_uint_eq(letters[i].to, addr);
        ck_assert_int_eq(letters[i].reason, RR_DIED);
    }
    rig_end(system);
}
END_TEST

START_TEST(the_subscriber_itself_is_gone_or_full) { /* no recursion, nothing blocks */
    rr_system_t *system = rig_start(2);
    rr_addr_t gone = rig_spawn_behavior(system, &undertaker);
    rr_kill(system, gone, RR_OK);
    rig_quiet(system);
    watch(system, gone, 0);
    for (int i = 0; i < 100; i++)
        ck_assert_int_eq(rr_system_send(system, gone, 1, NULL, 0), RR_NOROUTE);
    ck_assert_uint_ge(rr_system_dead_letters(system), 100);
    rr_addr_t full = rig_spawn(system, &(rr_spawn_t){.behavior = &holder, .mailbox_messages = 2});
    rig_send(system, full, 0);
    latch_wait(&inside, 1);
    watch(system, full, 0);
    for (int i = 0; i < 100; i++)
        ck_assert_int_eq(rr_system_send(system, gone, 1, NULL, 0), RR_NOROUTE);
    latch_add(&gate, 1);
    rig_end(system);
}
END_TEST

/* ---- Many of them, who look at many ---- */

static latch_t go_on = LATCH_INIT, looked = LATCH_INIT;
static _Atomic(uint64_t) lost;

/* Stops at the first until it may go on. */
static void look(rr_actor_t *self, void *state, rr_message_t *msg) {
    latch_add(&inside, 1);
    latch_hold(&go_on, 1);
    lost += rr_dead_letter_taken(self);
    latch_add(&looked, 1);
}
static const rr_behavior_t slow = {.name = "slow", .receive = look};

static void lose(rr_system_t *system, unsigned count) {
    for (unsigned i = 0; i < count; i++)
        ck_assert_int_eq(rr_system_send(system, rig_addr(1, 500, 3), 42, NULL, 0), RR_NOROUTE);
}

/* Who does not keep up has no more than its room in its mailbox, and hears how many it has missed. */
START_TEST(a_flood) {
    rr_system_t *system = rig_start(2);
    rr_addr_t who = rig_spawn_behavior(system, &slow);
    watch(system, who, 10);
    watch(system, rig_spawn_behavior(system, &undertaker), 0); /* another hears all */
    lose(system, 1000);
    latch_wait(&inside, 1);
    latch_wait(&told, 1000);
    latch_add(&go_on, 1);
    latch_wait(&looked, 10);
    lose(system, 1);
    latch_wait(&looked, 11);
    ck_assert(!latch_reached(&looked, 12, 20));
    ck_assert_uint_eq(lost, 990);
    ck_assert_uint_eq(rr_system_dead_letters(system), 1001);
    rr_system_unwatch_dead_letters(system, who);
    lose(system, 1);
    latch_wait(&told, 1002);
    ck_assert(!latch_reached(&looked, 12, 20));
    rig_end(system);
}
END_TEST

START_TEST(not_more_than_so_many) {
    rr_system_t *system = rig_start(2);
    rr_addr_t all[RR_DEAD_LETTER_WATCHERS + 1];
    for (unsigned i = 0; i <= RR_DEAD_LETTER_WATCHERS; i++)
        all[i] = rig_spawn_behavior(system, &undertaker);
    for (unsigned i = 0; i < RR_DEAD_LETTER_WATCHERS; i++)
        watch(system, all[i], 0);
    watch(system, all[0], 5); /* one of them already */
    ck_assert_int_eq(rr_system_watch_dead_letters(system, all[RR_DEAD_LETTER_WATCHERS], 0), RR_ELIMIT);
    ck_assert_int_eq(rr_system_watch_dead_letters(system, RR_NOBODY, 0), RR_EINVAL);
    ck_assert_int_eq(rr_system_watch_dead_letters(system, rig_addr(2, 1, 1), 0), RR_EINVAL);
    rr_kill(system, all[3], RR_OK);
    while (rr_system_actor_count(system) > RR_DEAD_LETTER_WATCHERS)
        usleep(100); /* nothing tells of its end */
    watch(system, all[RR_DEAD_LETTER_WATCHERS], 0); /* who has ended makes room */
    lose(system, 1);
    latch_wait(&told, RR_DEAD_LETTER_WATCHERS);
    ck_assert(!latch_reached(&told, RR_DEAD_LETTER_WATCHERS + 1, 20));
    rig_end(system);
}
END_TEST

CHECK_MAIN("deadletter", told_with_particulars, what_a_mailbox_still_held, the_subscriber_itself_is_gone_or_full, a_flood,
           not_more_than_so_many)
