/* What a full mailbox does under each policy; pausing sources must slow them down and never deadlock. */
#include <sched.h>

#include "runtime/metrics.h"
#include "tests/unit/runtime/rig.h"

static latch_t got = LATCH_INIT, gate = LATCH_INIT, inside = LATCH_INIT, sent = LATCH_INIT, down = LATCH_INIT;
static uint32_t types[100000];

static void record(rr_actor_t *self, void *state, rr_message_t *msg) {
    if (rr_message_type(msg) == 0) {
        latch_add(&inside, 1);
        latch_hold(&gate, 1);
        return;
    }
    types[latch_count(&got)] = rr_message_type(msg);
    latch_add(&got, 1);
}
static const rr_behavior_t recorder = {.name = "recorder", .receive = record};

static rr_addr_t held(rr_system_t *system, rr_policy_t policy, uint32_t limit) {
    rr_addr_t addr = rig_spawn(
        system, &(rr_spawn_t){.behavior = &recorder, .policy = policy, .mailbox_messages = limit});
    rig_send(system, addr, 0);
    latch_wait(&inside, 1);
    return addr;
}

static uint64_t refused_metric(rr_system_t *system) {
    rr_buffer_t *text = NULL;
    ck_assert_int_eq(rr_metrics_text(system, &text), RR_OK);
    char *copy = strndup((const char *)rr_buffer_data(text), rr_buffer_size(text));
    char *line = strstr(copy, "\nrr_mailbox_refused_total ");
    ck_assert_ptr_nonnull(line);
    uint64_t value = strtoull(line + strlen("\nrr_mailbox_refused_total "), NULL, 10);
    free(copy);
    rr_buffer_unref(text);
    return value;
}

START_TEST(drop_newest) {
    rr_system_t *system = rig_start(2);
    rr_addr_t addr = held(system, RR_POLICY_DROP_NEWEST, 100);
    for (uint32_t i = 1; i <= 300; i++)
        ck_assert_int_eq(rr_system_send(system, addr, i, NULL, 0), RR_OK); /* the sender is not told */
    uint64_t dropped = refused_metric(system);
    ck_assert_uint_ge(dropped, 199);
    ck_assert_uint_le(dropped, 202);
    latch_add(&gate, 1);
    latch_wait(&got, 300 - dropped);
    for (uint32_t i = 0; i < 300 - dropped; i++)
        ck_assert_uint_eq(types[i], i + 1); /* the oldest stay, in order */
    rig_end(system);
}
END_TEST

START_TEST(drop_oldest) {
    rr_system_t *system = rig_start(2);
    rr_addr_t addr = held(system, RR_POLICY_DROP_OLDEST, 100);
    int accepted = 0;
    while (rr_system_send(system, addr, (uint32_t)accepted + 1, NULL, 0) == RR_OK)
        ck_assert_int_lt(++accepted, 1000);
    ck_assert_int_ge(accepted, 195); /* refused at twice the limit only */
    ck_assert_int_le(accepted, 202);
    latch_add(&gate, 1);
    ck_assert_int_eq(rr_system_drain(system, RIG_PATIENCE_S * 1000), RR_OK); /* a kill could overtake the last messages */
    uint64_t handled = latch_count(&got);
    ck_assert_uint_ge(handled, 95); /* about the limit is left */
    ck_assert_uint_le(handled, 102);
    ck_assert_uint_eq(types[handled - 1], (uint32_t)accepted); /* the newest was handled */
    for (uint32_t i = 1; i < handled; i++)
        ck_assert_uint_eq(types[i], types[i - 1] + 1);
    rig_end(system);
}
END_TEST

/* ---- Pausing sources ------------------------------------------------------------------------------------------------- */

enum { PER_SOURCE = 20000, SOURCES = 8 };
static rr_addr_t sink;
static _Atomic(uint64_t) in_flight_max, refused;
static _Atomic(uint64_t) sent_count, handled_count;

static void swallow(rr_actor_t *self, void *state, rr_message_t *msg) {
    uint64_t handled = atomic_fetch_add(&handled_count, 1) + 1;
    uint64_t waiting = atomic_load(&sent_count) - handled;
    uint64_t max = atomic_load(&in_flight_max);
    while ((int64_t)waiting > (int64_t)max && !atomic_compare_exchange_weak(&in_flight_max, &max, waiting))
        ;
    volatile unsigned slow = 0; /* slower than its senders */
    for (int i = 0; i < 200; i++)
        slow++;
    if (handled == (uint64_t)PER_SOURCE * SOURCES)
        latch_add(&down, 1);
}
static const rr_behavior_t swallower = {.name = "sink", .receive = swallow};

/* Sends a few, then asks itself to go on: each turn sends at most ten. */
static void pour(rr_actor_t *self, void *state, rr_message_t *msg) {
    uint32_t *left = state;
    if (rr_message_type(msg) == 1)
        *left = PER_SOURCE;
    for (int i = 0; i < 10 && *left; i++) {
        atomic_fetch_add(&sent_count, 1);
        int rc = rr_send(self, sink, 7, "payload", 7);
        if (rc != RR_OK) {
            MUST(rc == RR_EFULL || rc == RR_NOROUTE);
            atomic_fetch_sub(&sent_count, 1);
            atomic_fetch_add(&refused, 1);
            break;
        }
        --*left;
    }
    if (*left)
        MUST(rr_send(self, rr_self(self), 2, NULL, 0) == RR_OK);
    else
        latch_add(&sent, 1);
}
static const rr_behavior_t source = {.name = "source", .state_size = sizeof(uint32_t), .receive = pour};

START_TEST(pause_source) {
    rr_system_t *system = rig_start(2);
    sink = rig_spawn(system, &(rr_spawn_t){.behavior = &swallower,
                                           .policy = RR_POLICY_PAUSE_SOURCE,
                                           .mailbox_messages = 200});
    for (int i = 0; i < SOURCES; i++)
        rig_send(system, rig_spawn_behavior(system, &source), 1);
    latch_wait(&down, 1); /* everything arrives, */
    latch_wait(&sent, SOURCES);
    ck_assert_uint_lt(in_flight_max, 200 + SOURCES * 260 * 10); /* and memory stays bounded */
    rig_end(system);
}
END_TEST

enum { BYSTANDER_ROUNDS = 20000 };
static rr_addr_t bystanders[2];
static void bystand(rr_actor_t *self, void *state, rr_message_t *msg) {
    uint32_t round = rr_message_type(msg);
    if (round == BYSTANDER_ROUNDS)
        latch_add(&down, 1);
    else
        MUST(rr_send(self, bystanders[rr_self(self) == bystanders[0]], round + 1, NULL, 0) == RR_OK);
}
static const rr_behavior_t bystander = {.name = "bystander", .receive = bystand};

/* While the receiver does not come round to it, the flooder waits near the limit, refused nothing; others go on. */
START_TEST(flood_slows_only_the_flooder) {
    rr_system_t *system = rig_start(2);
    sink = held(system, RR_POLICY_PAUSE_SOURCE, 100);
    rig_send(system, rig_spawn_behavior(system, &source), 1);
    while (atomic_load(&sent_count) < 100)
        ;
    for (int i = 0; i < 2; i++)
        bystanders[i] = rig_spawn_behavior(system, &bystander);
    rig_send(system, bystanders[0], 1);
    latch_wait(&down, 1);
    ck_assert_uint_le(sent_count, 110); /* the turn of ten that met the limit was its last */
    latch_add(&gate, 1);
    latch_wait(&got, PER_SOURCE);
    ck_assert_uint_eq(refused, 0);
    rig_end(system);
}
END_TEST

START_TEST(outsiders_are_refused) {
    rr_system_t *system = rig_start(2);
    rr_addr_t addr = held(system, RR_POLICY_PAUSE_SOURCE, 100);
    int accepted = 0;
    while (rr_system_send(system, addr, 1, NULL, 0) == RR_OK)
        ck_assert_int_lt(++accepted, 1000);
    ck_assert_int_ge(accepted, 195);
    ck_assert_int_le(accepted, 202);
    latch_add(&gate, 1);
    latch_wait(&got, (uint64_t)accepted);
    rig_end(system);
}
END_TEST

/* A cycle of actors, each with a tiny mailbox and this policy, all flooding the next: it must always move. */
#if defined(__SANITIZE_THREAD__)
enum { CYCLE = 6, ROUNDS = 500 };
#else
enum { CYCLE = 6, ROUNDS = 2000 };
#endif
static rr_addr_t cycle[CYCLE];
static _Atomic(uint64_t) moved; /* members write, the test reads; relaxed would do */
static _Atomic(int64_t) tokens;

static void pass_on(rr_actor_t *self, void *state, rr_message_t *msg) {
    uint32_t hops = rr_message_type(msg);
    uint32_t my = 0;
    atomic_fetch_add(&moved, 1);
    while (cycle[my] != rr_self(self))
        my++;
    if (hops == 0) {
        if (atomic_fetch_sub(&tokens, 1) == 1)
            latch_add(&down, 1);
        return;
    }
    /* Two copies while there are few tokens, one otherwise: floods until it is full. A refused one ends here. */
    int copies = atomic_load(&tokens) < 600 && hops > 8 ? 2 : 1;
    atomic_fetch_add(&tokens, copies - 1);
    for (int i = 0; i < copies; i++)
        if (rr_send(self, cycle[(my + 1) % CYCLE], hops - 1, NULL, 0) != RR_OK && atomic_fetch_sub(&tokens, 1) == 1)
            latch_add(&down, 1);
}
static const rr_behavior_t member = {.name = "member", .receive = pass_on};

static void run_cycle(unsigned members, unsigned limit) {
    rr_system_t *system = rig_start(2);
    for (unsigned i = 0; i < CYCLE; i++)
        cycle[i] = rig_spawn(system, &(rr_spawn_t){.behavior = &member,
                                                   .policy = RR_POLICY_PAUSE_SOURCE,
                                                   .mailbox_messages = limit});
    tokens = members;
    for (unsigned i = 0; i < members; i++)
        while (rr_system_send(system, cycle[i % CYCLE], ROUNDS, NULL, 0) == RR_EFULL)
            sched_yield(); /* those sent before are on their way already */
    for (uint64_t before = UINT64_MAX; !latch_reached(&down, 1, RIG_PATIENCE_S * 1000);) { /* on a busy machine it takes its time */
        uint64_t now = atomic_load(&moved);
        ck_assert_uint_ne(now, before);
        before = now;
    }
    rig_end(system);
}

START_TEST(cycles_do_not_deadlock) { run_cycle(12, 40); }
END_TEST

START_TEST(cycles_with_one_place) { run_cycle(6, 1); }
END_TEST

/* A muted sender still dies when killed, and still hears of the death of whom it waits for. */
START_TEST(muted_sender_can_be_killed) {
    rr_system_t *system = rig_start(2);
    sink = held(system, RR_POLICY_PAUSE_SOURCE, 10);
    rr_addr_t senders[SOURCES];
    for (int i = 0; i < SOURCES; i++) {
        senders[i] = rig_spawn_behavior(system, &source);
        rig_send(system, senders[i], 1);
    }
    while (atomic_load(&sent_count) < 10)
        ;
    for (int i = 0; i < SOURCES / 2; i++)
        rr_kill(system, senders[i], RR_CANCELLED);
    for (int i = 0; rr_system_actor_count(system) > 1 + SOURCES / 2; i++) {
        struct timespec pause = {0, 1000000};
        ck_assert_int_lt(i, RIG_PATIENCE_S * 1000);
        nanosleep(&pause, NULL);
    }
    rr_kill(system, sink, RR_CANCELLED); /* the others are set free: their sends fail from now on */
    latch_add(&gate, 1);
    for (int i = SOURCES / 2; i < SOURCES; i++)
        rr_kill(system, senders[i], RR_CANCELLED);
    rig_quiet(system);
    rig_end(system);
}
END_TEST

static void pour_until_gone(rr_actor_t *self, void *state, rr_message_t *msg) {
    for (int i = 0; i < 10; i++) {
        int rc = rr_send(self, sink, 7, NULL, 0);
        atomic_fetch_add(&sent_count, 1);
        if (rc == RR_NOROUTE) {
            rr_exit(self, RR_OK);
            return;
        }
    }
    MUST(rr_send(self, rr_self(self), 2, NULL, 0) == RR_OK);
}
static const rr_behavior_t stubborn = {.name = "stubborn", .receive = pour_until_gone};

START_TEST(death_frees_the_muted) {
    rr_system_t *system = rig_start(2);
    sink = held(system, RR_POLICY_PAUSE_SOURCE, 10);
    for (int i = 0; i < SOURCES; i++)
        rig_send(system, rig_spawn_behavior(system, &stubborn), 1);
    while (atomic_load(&sent_count) < 10)
        ;
    rr_kill(system, sink, RR_CANCELLED);
    latch_add(&gate, 1);
    rig_quiet(system); /* all of them noticed */
    rig_end(system);
}
END_TEST

START_TEST(stop_with_muted_senders) {
    rr_system_t *system = rig_start(2);
    sink = rig_spawn(system, &(rr_spawn_t){.behavior = &swallower,
                                           .policy = RR_POLICY_PAUSE_SOURCE,
                                           .mailbox_messages = 20});
    for (int i = 0; i < SOURCES; i++)
        rig_send(system, rig_spawn_behavior(system, &source), 1);
    while (atomic_load(&handled_count) < 1000)
        ;
    rig_end(system);
}
END_TEST

/* ---- A paused caller ---- */

enum { CALLER_BEGINS = 1, CALLER_POURS, CALLER_LIMIT = 10, CALLER_LATER_MS = 200 };
static latch_t timed_out = LATCH_INIT;

static void on_timed_out(rr_actor_t *self, void *state, int status, rr_message_t *msg, void *context) {
    MUST(status == RR_TIMEOUT);
    latch_add(&timed_out, 1);
}

/* Fills the sink's mailbox behind two calls, and has more to say. */
static void call_and_pour(rr_actor_t *self, void *state, rr_message_t *msg) {
    if (rr_message_type(msg) == CALLER_BEGINS) {
        MUST(rr_call(self, sink, 7, NULL, 0, 20, on_timed_out, NULL, NULL) == RR_OK);
        MUST(rr_call(self, sink, 7, NULL, 0, CALLER_LATER_MS, on_timed_out, NULL, NULL) == RR_OK);
        for (int i = 0; i < 100; i++)
            MUST(rr_send(self, rr_self(self), CALLER_POURS, NULL, 0) == RR_OK);
    } else {
        MUST(rr_send(self, sink, 7, NULL, 0) == RR_OK);
        atomic_fetch_add(&sent_count, 1);
    }
}
static const rr_behavior_t pouring_caller = {.name = "caller", .receive = call_and_pour};

/* Its calls end at their deadlines, in front of what it has not read; and it stays paused. */
START_TEST(a_paused_caller_hears_its_deadlines) {
    rr_system_t *system = rig_start(2);
    sink = held(system, RR_POLICY_PAUSE_SOURCE, CALLER_LIMIT);
    rig_send(system, rig_spawn_behavior(system, &pouring_caller), CALLER_BEGINS);
    latch_wait(&timed_out, 2);
    ck_assert_uint_lt(atomic_load(&sent_count), 2 * CALLER_LIMIT);
    latch_add(&gate, 1);
    latch_wait(&got, 2 + 100);
    rig_end(system);
}
END_TEST

/* The deadline passes in the very turn that is paused at its end: then its timer is in the mailbox already. */
static void call_and_dawdle(rr_actor_t *self, void *state, rr_message_t *msg) {
    if (rr_message_type(msg) == CALLER_BEGINS) {
        MUST(rr_call(self, sink, 7, NULL, 0, 1, on_timed_out, NULL, NULL) == RR_OK);
        for (int i = 0; i < 100; i++)
            MUST(rr_send(self, rr_self(self), CALLER_POURS, NULL, 0) == RR_OK);
        for (uint64_t until = rr_now_ns(self) + 60 * 1000000ull; rr_now_ns(self) < until;)
            sched_yield();
        for (int i = 0; i < CALLER_LIMIT; i++)
            MUST(rr_send(self, sink, 7, NULL, 0) == RR_OK);
    } else {
        MUST(rr_send(self, sink, 7, NULL, 0) == RR_OK);
    }
}
static const rr_behavior_t dawdler = {.name = "dawdler", .receive = call_and_dawdle};

START_TEST(a_deadline_passes_as_its_caller_is_paused) {
    rr_system_t *system = rig_start(2);
    sink = held(system, RR_POLICY_PAUSE_SOURCE, CALLER_LIMIT);
    rig_send(system, rig_spawn_behavior(system, &dawdler), CALLER_BEGINS);
    latch_wait(&timed_out, 1);
    latch_add(&gate, 1);
    latch_wait(&got, 1 + CALLER_LIMIT + 100);
    rig_end(system);
}
END_TEST

CHECK_MAIN("policy", drop_newest, drop_oldest, pause_source, flood_slows_only_the_flooder, outsiders_are_refused,
           cycles_do_not_deadlock, cycles_with_one_place, muted_sender_can_be_killed, death_frees_the_muted, stop_with_muted_senders,
           a_paused_caller_hears_its_deadlines, a_deadline_passes_as_its_caller_is_paused)
