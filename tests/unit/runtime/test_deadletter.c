/* Messages nobody handles are counted, and told to whoever wants to know. */
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

START_TEST(told_with_particulars) {
    rr_system_t *system = rig_start(2);
    rr_system_watch_dead_letters(system, rig_spawn_behavior(system, &undertaker));
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
    rr_system_watch_dead_letters(system, RR_NOBODY);
    ck_assert_int_eq(rr_system_send(system, nowhere, 42, "12345", 5), RR_NOROUTE);
    ck_assert_uint_eq(rr_system_dead_letters(system), 2);
    ck_assert(!latch_reached(&told, 2, 20));
    rig_end(system);
}
END_TEST

START_TEST(what_a_mailbox_still_held) {
    rr_system_t *system = rig_start(2);
    rr_system_watch_dead_letters(system, rig_spawn_behavior(system, &undertaker));
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
    rr_system_watch_dead_letters(system, gone);
    for (int i = 0; i < 100; i++)
        ck_assert_int_eq(rr_system_send(system, gone, 1, NULL, 0), RR_NOROUTE);
    ck_assert_uint_ge(rr_system_dead_letters(system), 100);
    rr_addr_t full = rig_spawn(system, &(rr_spawn_t){.behavior = &holder, .mailbox_messages = 2});
    rig_send(system, full, 0);
    latch_wait(&inside, 1);
    rr_system_watch_dead_letters(system, full);
    for (int i = 0; i < 100; i++)
        ck_assert_int_eq(rr_system_send(system, gone, 1, NULL, 0), RR_NOROUTE);
    latch_add(&gate, 1);
    rig_end(system);
}
END_TEST

CHECK_MAIN("deadletter", told_with_particulars, what_a_mailbox_still_held, the_subscriber_itself_is_gone_or_full)
