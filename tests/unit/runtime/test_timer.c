/* Timers: never early, cancelled means cancelled, repeats without bursts, many at once. */
#include "tests/unit/runtime/rig.h"

static latch_t fired = LATCH_INIT, gate = LATCH_INIT, inside = LATCH_INIT;

typedef struct clockwork {
    uint64_t started_ns, ids[1000];
    int count;
} clockwork_t;

static void one_shots(rr_actor_t *self, void *state, rr_message_t *msg) {
    clockwork_t *my = state;
    if (rr_message_kind(msg) == RR_SEND) {
        my->started_ns = rr_now_ns(self);
        static const unsigned delays[] = {40, 5, 0, 20, 5, 60, 1};
        for (uint32_t i = 0; i < 7; i++)
            MUST(rr_timer_start(self, delays[i], 0, delays[i], &my->ids[i]) == RR_OK);
        return;
    }
    MUST(rr_message_kind(msg) == RR_TIMER);
    MUST(rr_message_from(msg) == RR_NOBODY || rr_message_from(msg) == rr_self(self));
    MUST(rr_now_ns(self) - my->started_ns >= rr_message_type(msg) * 1000000ull); /* never early */
    bool known = false;
    for (int i = 0; i < 7; i++)
        known |= my->ids[i] == rr_message_request(msg);
    MUST(known);
    MUST(!rr_timer_cancel(self, rr_message_request(msg))); /* a one-shot that arrives is over */
    latch_add(&fired, 1);
    if (++my->count == 7)
        rr_exit(self, RR_OK);
}
static const rr_behavior_t one_shot = {.name = "one", .state_size = sizeof(clockwork_t), .receive = one_shots};

START_TEST(fire_once_and_not_early) {
    rr_system_t *system = rig_start(2);
    rig_send(system, rig_spawn_behavior(system, &one_shot), 0);
    rig_quiet(system);
    ck_assert_uint_eq(latch_count(&fired), 7);
    rig_end(system);
}
END_TEST

static void repeat(rr_actor_t *self, void *state, rr_message_t *msg) {
    clockwork_t *my = state;
    if (rr_message_kind(msg) == RR_SEND) {
        my->started_ns = rr_now_ns(self);
        MUST(rr_timer_start(self, 3, 5, 9, &my->ids[0]) == RR_OK);
        return;
    }
    MUST(rr_message_request(msg) == my->ids[0] && rr_message_type(msg) == 9);
    my->count++;
    MUST(rr_now_ns(self) - my->started_ns >= (3 + (uint64_t)(my->count - 1) * 5 - 1) * 1000000ull);
    latch_add(&fired, 1);
    if (my->count == 8) {
        MUST(rr_timer_cancel(self, my->ids[0]));
        MUST(!rr_timer_cancel(self, my->ids[0]));
        MUST(rr_timer_start(self, 40, 0, 10, &my->ids[0]) == RR_OK);
    }
}
static void repeat_checked(rr_actor_t *self, void *state, rr_message_t *msg) {
    clockwork_t *my = state;
    if (rr_message_kind(msg) == RR_TIMER && my->count == 8) { /* only the second timer may come now */
        MUST(rr_message_type(msg) == 10);
        rr_exit(self, RR_OK);
        return;
    }
    repeat(self, state, msg);
}
static const rr_behavior_t repeater = {
    .name = "repeat", .state_size = sizeof(clockwork_t), .receive = repeat_checked};

START_TEST(repeat_until_cancelled) {
    rr_system_t *system = rig_start(2);
    rig_send(system, rig_spawn_behavior(system, &repeater), 0);
    rig_quiet(system);
    ck_assert_uint_eq(latch_count(&fired), 8);
    rig_end(system);
}
END_TEST

/* A period missed is not made up for: after a long handler one message comes, not twenty. */
static void missed(rr_actor_t *self, void *state, rr_message_t *msg) {
    clockwork_t *my = state;
    if (rr_message_kind(msg) == RR_SEND && rr_message_type(msg) == 0) {
        MUST(rr_timer_start(self, 2, 2, 1, &my->ids[0]) == RR_OK);
        latch_add(&inside, 1);
        latch_hold(&gate, 1);
    } else if (rr_message_kind(msg) == RR_SEND) {
        my->count += 100; /* the mark: what came before it had piled up */
        MUST(rr_timer_cancel(self, my->ids[0]));
        rr_exit(self, RR_OK);
    } else {
        my->count++;
    }
}
static void missed_finish(rr_actor_t *self, void *state, int reason) {
    MUST(((clockwork_t *)state)->count <= 100 + 1);
    latch_add(&fired, 1);
}
static const rr_behavior_t sleepy = {
    .name = "sleepy", .state_size = sizeof(clockwork_t), .receive = missed, .finish = missed_finish};

START_TEST(missed_periods_do_not_pile_up) {
    rr_system_t *system = rig_start(2);
    rr_addr_t addr = rig_spawn_behavior(system, &sleepy);
    rig_send(system, addr, 0);
    latch_wait(&inside, 1);
    ck_assert(!latch_reached(&fired, 1, 60)); /* lets thirty periods pass */
    rig_send(system, addr, 1);
    latch_add(&gate, 1);
    latch_wait(&fired, 1);
    rig_quiet(system);
    rig_end(system);
}
END_TEST

/* A timer that has already become a message is cancelled all the same. */
static void cancel_queued(rr_actor_t *self, void *state, rr_message_t *msg) {
    clockwork_t *my = state;
    MUST(rr_message_kind(msg) == RR_SEND); /* RR_TIMER must never come */
    if (rr_message_type(msg) == 0) {
        for (int i = 0; i < 100; i++)
            MUST(rr_timer_start(self, 1, i % 2 ? 1 : 0, 1, &my->ids[i]) == RR_OK);
        latch_add(&inside, 1);
        latch_hold(&gate, 1); /* they all fire now, on whatever thread */
        for (int i = 0; i < 100; i++)
            MUST(rr_timer_cancel(self, my->ids[i]));
    } else {
        rr_exit(self, RR_OK);
    }
}
static const rr_behavior_t canceller = {
    .name = "cancel", .state_size = sizeof(clockwork_t), .receive = cancel_queued};

START_TEST(cancel_after_firing) {
    rr_system_t *system = rig_start(2);
    rr_addr_t addr = rig_spawn_behavior(system, &canceller);
    rig_send(system, addr, 0);
    latch_wait(&inside, 1);
    ck_assert(!latch_reached(&fired, 1, 60));
    latch_add(&gate, 1);
    ck_assert(!latch_reached(&fired, 1, 30));
    rig_send(system, addr, 1);
    rig_quiet(system);
    rig_end(system);
}
END_TEST

/* A timer fires in time although the worker that armed it is stuck in another actor's handler. */
static void arm_only(rr_actor_t *self, void *state, rr_message_t *msg) {
    if (rr_message_kind(msg) == RR_TIMER)
        latch_add(&fired, 1);
    else
        MUST(rr_timer_start(self, 20, 0, 1, NULL) == RR_OK);
}
static const rr_behavior_t armer = {.name = "armer", .receive = arm_only};
static void block(rr_actor_t *self, void *state, rr_message_t *msg) {
    latch_add(&inside, 1);
    latch_hold(&gate, 1);
}
static const rr_behavior_t blocker = {.name = "blocker", .receive = block};

START_TEST(fires_beside_a_stuck_worker) {
    rr_system_t *system = rig_start(2);
    for (int i = 0; i < 50; i++)
        rig_send(system, rig_spawn_behavior(system, &armer), 0);
    rig_send(system, rig_spawn_behavior(system, &blocker), 0);
    latch_wait(&inside, 1);
    latch_wait(&fired, 50); /* though one of two workers stands still */
    latch_add(&gate, 1);
    rig_end(system);
}
END_TEST

static void start_most(rr_actor_t *self, void *state, rr_message_t *msg) {
    if (rr_message_kind(msg) == RR_TIMER) {
        latch_add(&fired, 1);
        return;
    }
    int rc = RR_OK;
    uint32_t count = 0;
    while ((rc = rr_timer_start(self, 60000 + count % 977, 0, count, NULL)) == RR_OK)
        MUST(++count <= 65536);
    MUST(rc == RR_ELIMIT);
    MUST(count == 65536);
    latch_add(&inside, 1);
}
static const rr_behavior_t greedy = {.name = "greedy", .receive = start_most};

START_TEST(limit_and_death_with_timers) {
    rr_system_t *system = rig_start(2);
    rr_addr_t addr = rig_spawn_behavior(system, &greedy);
    rig_send(system, addr, 0);
    latch_wait(&inside, 1);
    rr_kill(system, addr, RR_OK);
    rig_quiet(system);
    addr = rig_spawn_behavior(system, &greedy);
    rig_send(system, addr, 0);
    latch_wait(&inside, 2);
    rig_end(system); /* and a stop with timers armed */
    ck_assert_uint_eq(latch_count(&fired), 0);
}
END_TEST

START_TEST(idle_costs_nothing) { /* one far timer: the workers sleep */
    rr_system_t *system = rig_start(2);
    rig_send(system, rig_spawn_behavior(system, &greedy), 0);
    latch_wait(&inside, 1);
    struct timespec before, after;
    ck_assert(!latch_reached(&fired, 1, 50)); /* spinning is over */
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
    ck_assert(!latch_reached(&fired, 1, 300));
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after);
    double used = (double)(after.tv_sec - before.tv_sec) * 1e3 + (double)(after.tv_nsec - before.tv_nsec) / 1e6;
    ck_assert_msg(used < 30, "%.1f ms of CPU in 300 ms of idling", used);
    rig_end(system);
}
END_TEST

CHECK_MAIN("timer", fire_once_and_not_early, repeat_until_cancelled, missed_periods_do_not_pile_up, cancel_after_firing,
           fires_beside_a_stuck_worker, limit_and_death_with_timers, idle_costs_nothing)
