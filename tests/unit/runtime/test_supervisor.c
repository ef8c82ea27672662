/* Supervisors: the three strategies, the three kinds of children, giving up, ending. */
#include "tests/unit/runtime/rig.h"

static latch_t starts = LATCH_INIT, ends = LATCH_INIT, gave_up = LATCH_INIT;

enum { CHILDREN = 4 };
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static rr_addr_t current[CHILDREN]; /* under lock */
static char order[512];             /* of starts and ends; under lock */
static int last_end;

static void on_event(void *context, size_t child, rr_addr_t addr, int reason) {
    pthread_mutex_lock(&lock);
    char text[8];
    if (addr == RR_NOBODY && current[child] == RR_NOBODY) {
        last_end = reason;
        latch_add(&gave_up, 1);
    } else if (addr == RR_NOBODY) {
        current[child] = RR_NOBODY;
        last_end = reason;
        snprintf(text, sizeof text, "-%zu", child);
        strncat(order, text, sizeof order - strlen(order) - 1);
        latch_add(&ends, 1);
    } else {
        current[child] = addr;
        snprintf(text, sizeof text, "+%zu", child);
        strncat(order, text, sizeof order - strlen(order) - 1);
        latch_add(&starts, 1);
    }
    pthread_mutex_unlock(&lock);
}

static rr_addr_t child_addr(size_t i) {
    pthread_mutex_lock(&lock);
    rr_addr_t addr = current[i];
    pthread_mutex_unlock(&lock);
    return addr;
}

static void clear_order(void) {
    pthread_mutex_lock(&lock);
    order[0] = '\0';
    pthread_mutex_unlock(&lock);
}

static void end_as_told(rr_actor_t *self, void *state, rr_message_t *msg) { rr_exit(self, -(int)rr_message_type(msg)); }
static const rr_behavior_t worker = {.name = "worker", .receive = end_as_told};

static rr_system_t *rig;
static rr_addr_t boss;

static void begin(rr_strategy_t strategy, rr_restart_t restart, unsigned max_restarts) {
    rig = rig_start(2);
    static const char *const names[CHILDREN] = {"zero", "one", "two", NULL};
    rr_child_t children[CHILDREN] = {0};
    for (int i = 0; i < CHILDREN; i++) {
        children[i].spawn.behavior = &worker;
        children[i].spawn.name = names[i];
        children[i].restart = restart;
    }
    rr_supervisor_t spec = {.name = "boss",
                            .strategy = strategy,
                            .max_restarts = max_restarts,
                            .within_ms = 60000,
                            .children = children,
                            .child_count = CHILDREN,
                            .event = on_event};
    ck_assert_int_eq(rr_supervisor_spawn(rig, &spec, &boss), RR_OK);
    memset(children, 0xff, sizeof children); /* copied */
    latch_wait(&starts, CHILDREN);
    ck_assert_str_eq(order, "+0+1+2+3");
    ck_assert_uint_eq(rr_lookup(rig, "boss"), boss);
    ck_assert_uint_eq(rr_lookup(rig, "one"), child_addr(1));
    clear_order();
}

START_TEST(one_for_one) {
    begin(RR_ONE_FOR_ONE, RR_RESTART_PERMANENT, 100);
    rr_addr_t before[CHILDREN];
    for (size_t i = 0; i < CHILDREN; i++)
        before[i] = child_addr(i);
    rig_send(rig, before[1], 15);
    latch_wait(&starts, CHILDREN + 1);
    ck_assert_str_eq(order, "-1+1");
    ck_assert_int_eq(last_end, -15);
    for (size_t i = 0; i < CHILDREN; i++)
        ck_assert((child_addr(i) == before[i]) == (i != 1));
    ck_assert_uint_eq(rr_lookup(rig, "one"), child_addr(1)); /* the name is the new one's */
    rig_send(rig, child_addr(2), 0); /* permanent: a normal end too */
    latch_wait(&starts, CHILDREN + 2);
    rr_kill(rig, child_addr(3), RR_CANCELLED);
    latch_wait(&starts, CHILDREN + 3);
    ck_assert_ptr_null(strstr(order, "0"));
    rr_kill(rig, boss, RR_CANCELLED); /* takes its children along */
    rig_quiet(rig);
    rig_end(rig);
}
END_TEST

START_TEST(rest_for_one) {
    begin(RR_REST_FOR_ONE, RR_RESTART_PERMANENT, 100);
    rr_addr_t zero = child_addr(0), one = child_addr(1);
    rig_send(rig, one, 15);
    latch_wait(&starts, CHILDREN + 3);
    ck_assert_uint_eq(child_addr(0), zero);
    ck_assert_uint_ne(child_addr(1), one);
    ck_assert_ptr_nonnull(strstr(order, "+1+2+3")); /* in order, after the rest had ended */
    ck_assert_uint_eq(rr_lookup(rig, "two"), child_addr(2));
    rr_kill(rig, boss, RR_OK);
    rig_quiet(rig);
    rig_end(rig);
}
END_TEST

START_TEST(one_for_all) {
    begin(RR_ONE_FOR_ALL, RR_RESTART_PERMANENT, 100);
    rr_addr_t before[CHILDREN];
    for (size_t i = 0; i < CHILDREN; i++)
        before[i] = child_addr(i);
    for (uint64_t round = 1; round <= 5; round++) {
        clear_order();
        rig_send(rig, child_addr(round % CHILDREN), 15);
        latch_wait(&starts, CHILDREN * (round + 1));
        ck_assert_ptr_nonnull(strstr(order, "+0+1+2+3"));
        for (size_t i = 0; i < CHILDREN; i++) {
            ck_assert_uint_ne(child_addr(i), before[i]);
            before[i] = child_addr(i);
        }
    }
    rig_end(rig); /* with all alive */
}
END_TEST

START_TEST(transient_and_temporary) {
    begin(RR_ONE_FOR_ONE, RR_RESTART_TRANSIENT, 100);
    rig_send(rig, child_addr(1), 0); /* a normal end: stays away */
    latch_wait(&ends, 1);
    rig_send(rig, child_addr(2), 15);
    latch_wait(&starts, CHILDREN + 1);
    ck_assert_uint_eq(child_addr(1), RR_NOBODY);
    ck_assert_uint_eq(rr_lookup(rig, "one"), RR_NOBODY);
    rr_kill(rig, boss, RR_OK);
    rig_quiet(rig);
    rig_end(rig);
}
END_TEST

START_TEST(temporary_is_never_restarted) {
    begin(RR_ONE_FOR_ONE, RR_RESTART_TEMPORARY, 100);
    rig_send(rig, child_addr(1), 15);
    rig_send(rig, child_addr(2), 0);
    latch_wait(&ends, 2);
    ck_assert_uint_eq(latch_count(&starts), CHILDREN);
    rr_kill(rig, boss, RR_OK);
    rig_quiet(rig);
    rig_end(rig);
}
END_TEST

START_TEST(the_ended_are_not_revived_by_others) {
    begin(RR_ONE_FOR_ONE, RR_RESTART_TRANSIENT, 100);
    rig_send(rig, child_addr(2), 0);
    latch_wait(&ends, 1);
    rig_send(rig, child_addr(1), 15);
    latch_wait(&starts, CHILDREN + 1);
    ck_assert_uint_ne(child_addr(1), RR_NOBODY);
    ck_assert_uint_eq(child_addr(2), RR_NOBODY);
    rr_kill(rig, boss, RR_OK);
    rig_quiet(rig);
    rig_end(rig);
}
END_TEST

/* Failures of several children at once, while the restart for one of them is under way: all come back, once. */
START_TEST(failures_cross) {
    begin(RR_REST_FOR_ONE, RR_RESTART_PERMANENT, 60000);
    for (int round = 0; round < 200; round++) {
        for (size_t i = CHILDREN; i-- > 0;) {
            rr_addr_t addr = child_addr(i);
            if (addr != RR_NOBODY)
                rig_try_send(rig, addr, 15);
        }
    }
    for (int i = 0;; i++) { /* they settle: all alive at once */
        bool all = true;
        for (size_t k = 0; k < CHILDREN; k++)
            all &= child_addr(k) != RR_NOBODY;
        if (all && rr_system_actor_count(rig) == CHILDREN + 1)
            break;
        struct timespec pause = {0, 1000000};
        ck_assert_int_lt(i, RIG_PATIENCE_S * 1000);
        nanosleep(&pause, NULL);
    }
    rr_kill(rig, boss, RR_OK);
    rig_quiet(rig);
    rig_end(rig);
}
END_TEST

static void note_down(rr_actor_t *self, void *state, rr_message_t *msg) {
    if (rr_message_kind(msg) == RR_SEND) {
        MUST(rr_monitor(self, boss, NULL) == RR_OK);
        latch_add(&starts, 1);
        return;
    }
    MUST(rr_message_kind(msg) == RR_DOWN && (int)rr_message_type(msg) == RR_ELIMIT);
    latch_add(&ends, 100);
    rr_exit(self, RR_OK);
}
static const rr_behavior_t observer = {.name = "observer", .receive = note_down};

START_TEST(gives_up_after_too_many) {
    begin(RR_ONE_FOR_ONE, RR_RESTART_PERMANENT, 3);
    rig_send(rig, rig_spawn_behavior(rig, &observer), 0);
    latch_wait(&starts, CHILDREN + 1); /* the observer counts itself as one */
    for (uint64_t i = 0; i < 3; i++) {
        rig_send(rig, child_addr(1), 15);
        latch_wait(&starts, CHILDREN + 2 + i);
    }
    rig_send(rig, child_addr(1), 15); /* the fourth within a minute */
    latch_wait(&gave_up, 1);
    rig_quiet(rig); /* the supervisor and all its children */
    ck_assert_uint_ge(latch_count(&ends), 100);
    ck_assert_int_eq(last_end, RR_ELIMIT);
    ck_assert_uint_eq(rr_lookup(rig, "boss"), RR_NOBODY);
    rig_end(rig);
}
END_TEST

static int fail_start(rr_actor_t *self, void *state, const void *arg) { return RR_EIO; }
static const rr_behavior_t broken = {.name = "broken", .start = fail_start, .receive = end_as_told};

START_TEST(a_child_that_never_starts) {
    rig = rig_start(2);
    rr_child_t child = {.spawn = {.behavior = &broken}, .restart = RR_RESTART_PERMANENT};
    rr_supervisor_t spec = {.max_restarts = 5, .children = &child, .child_count = 1, .event = on_event};
    ck_assert_int_eq(rr_supervisor_spawn(rig, &spec, NULL), RR_OK);
    latch_wait(&gave_up, 1); /* no busy loop for ever */
    rig_quiet(rig);
    ck_assert_uint_le(latch_count(&starts), 7);
    rig_end(rig);
}
END_TEST

START_TEST(no_children_and_bad_ones) {
    rig = rig_start(2);
    rr_supervisor_t spec = {.name = "empty"};
    ck_assert_int_eq(rr_supervisor_spawn(rig, &spec, &boss), RR_OK);
    ck_assert_int_eq(rr_supervisor_spawn(rig, &spec, NULL), RR_EEXIST);
    spec = (rr_supervisor_t){.max_restarts = 1u << 30};
    ck_assert_int_eq(rr_supervisor_spawn(rig, &spec, NULL), RR_EINVAL);
    spec = (rr_supervisor_t){.name = "not legal"};
    ck_assert_int_eq(rr_supervisor_spawn(rig, &spec, NULL), RR_EINVAL);
    rr_kill(rig, boss, RR_OK);
    rig_quiet(rig);
    rig_end(rig);
}
END_TEST

CHECK_MAIN("supervisor", one_for_one, rest_for_one, one_for_all, transient_and_temporary, temporary_is_never_restarted,
           the_ended_are_not_revived_by_others, failures_cross, gives_up_after_too_many, a_child_that_never_starts, no_children_and_bad_ones)
