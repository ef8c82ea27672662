/* All memory comes back: after every way to end, and after each single allocation of a busy scenario has failed once. */
#include "runtime/replay.h"
#include "tests/unit/runtime/rig.h"

#ifdef NDEBUG
int main(void) {
    puts("skipped: the counting allocator is part of builds with assertions only");
    return 77;
}
#else

/* ---- A scenario that uses everything, and takes every refusal as it comes ------------------------------------------- */

enum { GO = 1, WORK, ASK, KEEP };

typedef struct busy {
    int replies;
    rr_message_t *kept;
} busy_t;

static _Atomic(int) endings; /* the crowd below runs on several threads */
static int begun;

static void ended(rr_actor_t *self, void *state, int status, rr_message_t *msg, void *context) { endings++; }

static int any(int rc) { return rc; } /* out of memory is a result like others here */

static void busy_receive(rr_actor_t *self, void *state, rr_message_t *msg);
static int busy_start(rr_actor_t *self, void *state, const void *arg) { return RR_OK; }
static void busy_finish(rr_actor_t *self, void *state, int reason) {
    any(rr_send(self, rr_self(self) + 1, WORK, "last", 4));
}
static const rr_behavior_t busy = {.name = "busy",
                                   .state_size = sizeof(busy_t),
                                   .start = busy_start,
                                   .receive = busy_receive,
                                   .finish = busy_finish};

static void all_kinds(rr_actor_t *self) {
    static const char big[3000] = "big";
    rr_spawn_t spec = {.behavior = &busy, .name = "child", .arg = big, .arg_size = 100, .link = true, .trap_exits = true};
    rr_addr_t child = RR_NOBODY, other = RR_NOBODY;
    any(rr_spawn(self, &spec, &child));
    any(rr_spawn(self, &(rr_spawn_t){.behavior = &busy, .mailbox_messages = 3, .policy = RR_POLICY_PAUSE_SOURCE}, &other));
    any(rr_register(self, "second"));
    any(rr_register(self, "third"));
    any(rr_unregister(self, "second"));
    uint64_t id = 0;
    if (rr_monitor(self, child, &id) == RR_OK)
        any(rr_monitor(self, other, NULL));
    (void)rr_demonitor(self, id);
    any(rr_link(self, other));
    for (int i = 0; i < 6; i++)
        any(rr_send(self, other, WORK, big, (size_t)i * 500));
    rr_buffer_t *buffer = rr_buffer_copy(big, sizeof big);
    if (buffer)
        any(rr_send_buffer(self, child, WORK, buffer));
    for (int i = 0; i < 5; i++) {
        int rc = rr_call(self, i % 2 ? child : other, i < 3 ? ASK : KEEP, big, 10, 20, ended, NULL, &id);
        begun += rc == RR_OK;
    }
    (void)rr_call_cancel(self, id);
    begun += rr_call(self, RR_NOBODY, ASK, NULL, 0, 20, ended, NULL, NULL) == RR_OK;
    any(rr_timer_start(self, 5, 0, 1, NULL));
    if (rr_timer_start(self, 5, 5, 2, &id) == RR_OK)
        (void)rr_timer_cancel(self, id);
    rr_trap_exits(self, true);
    rr_unlink(self, other);
    rr_kill(rr_system_of(self), child, RR_EIO);
}

static void busy_receive(rr_actor_t *self, void *state, rr_message_t *msg) {
    busy_t *my = state;
    if (rr_message_kind(msg) == RR_SEND && rr_message_type(msg) == GO)
        all_kinds(self);
    else if (rr_message_kind(msg) == RR_CALL && rr_message_type(msg) == ASK)
        rr_reply_error(self, msg, RR_EHANDLER, "no");
    else if (rr_message_kind(msg) == RR_CALL && !my->kept) {
        rr_message_take(self, msg);
        my->kept = msg;
    }
}

static void scenario(rr_system_t *system) {
    rr_addr_t addr;
    rr_child_t child = {.spawn = {.behavior = &busy, .name = "supervised", .arg = "x", .arg_size = 1}};
    rr_supervisor_t supervisor = {.name = "boss", .children = &child, .child_count = 1};
    any(rr_supervisor_spawn(system, &supervisor, NULL));
    if (rr_system_spawn(system, &(rr_spawn_t){.behavior = &busy, .name = "first"}, &addr) == RR_OK)
        any(rr_system_send(system, addr, GO, "go", 2));
    (void)rr_replay_run(system, 0);
    rr_kill(system, rr_lookup(system, "supervised"), RR_EIO);
    rr_log(system, RR_WARN, "TEST", "a line of %d words", 5);
    (void)rr_replay_run(system, 0);
}

static int create(rr_system_t **system) {
    rr_options_t options;
    rig_options(&options, 2);
    options.replay = true; /* one thread: the n-th allocation is the same one in every run */
    options.seed = 5;
    options.log_level = RR_FATAL;
    options.max_actors = 1000;
    int rc = rr_system_create(system, &options);
    if (rc != RR_OK)
        return rc;
    rc = rr_system_start(*system);
    if (rc != RR_OK)
        rr_system_destroy(*system);
    return rc;
}

START_TEST(each_allocation_fails_once) {
    int64_t before = rr__alloc_live();
    uint64_t n = 1;
    for (bool reached = true; reached; n++) {
        begun = 0;
        endings = 0;
        rr__alloc_fail_at(n);
        rr_system_t *system = NULL;
        int rc = create(&system);
        if (rc == RR_OK) {
            scenario(system);
            reached = rr__alloc_failed();
            rr__alloc_fail_at(0);
            rr_system_stop(system);
            rr_system_destroy(system);
        } else {
            ck_assert_int_eq(rc, RR_ENOMEM);
            reached = rr__alloc_failed();
            rr__alloc_fail_at(0);
        }
        ck_assert_msg(rr__alloc_live() == before, "%lld blocks left after allocation %llu failed",
                      (long long)(rr__alloc_live() - before), (unsigned long long)n);
        ck_assert_msg(endings <= begun, "allocation %llu: %d calls begun, %d ended", (unsigned long long)n, begun,
                      endings);
    }
    ck_assert_uint_gt(n, 60);
}
END_TEST

START_TEST(a_failed_allocation_loses_no_call) { /* every call that began also ends, though its reply found no memory */
    for (uint64_t n = 1, reached = 1; reached; n++) {
        begun = 0;
        endings = 0;
        rr_system_t *system = NULL;
        ck_assert_int_eq(create(&system), RR_OK);
        rr__alloc_fail_at(n);
        scenario(system);
        reached = rr__alloc_failed();
        rr__alloc_fail_at(0);
        bool caller_lives = rr_lookup(system, "first") != RR_NOBODY;
        ck_assert_msg(!caller_lives || endings == begun, "allocation %llu: %d calls begun, %d ended",
                      (unsigned long long)n, begun, endings);
        rr_system_destroy(system);
    }
}
END_TEST

/* ---- Ways to end, on threads ------------------------------------------------------------------------------------------ */

static latch_t done = LATCH_INIT;
static void spread(rr_actor_t *self, void *state, rr_message_t *msg) {
    if (rr_message_kind(msg) != RR_SEND)
        return;
    latch_add(&done, 1);
    uint32_t depth = rr_message_type(msg);
    static const char payload[2000] = "payload";
    for (int i = 0; depth && i < 3; i++)
        any(rr_send(self, rr_self(self), depth - 1, payload, depth * 300));
    any(rr_timer_start(self, 10000, 0, 1, NULL));
    any(rr_call(self, rr_self(self), 100, payload, 5, 10000, ended, NULL, NULL));
    any(rr_monitor(self, rr_self(self), NULL));
    if (depth == 3)
        any(rr_send(self, rr_self(self) ^ 1, 1, payload, sizeof payload));
}
static const rr_behavior_t spreader = {.name = "spreader", .receive = spread};

static rr_system_t *crowd(unsigned actors) {
    rr_system_t *system = rig_start(2);
    for (unsigned i = 0; i < actors; i++)
        any(rr_system_send(system, rig_spawn_behavior(system, &spreader), 4, "x", 1));
    return system;
}

START_TEST(stop_in_the_middle) {
    for (int round = 0; round < 20; round++) {
        rr_system_t *system = crowd(200);
        latch_wait(&done, (uint64_t)round * 100 + 100);
        rig_end(system);
    }
}
END_TEST

START_TEST(drain_in_the_middle) {
    for (int round = 0; round < 10; round++) {
        rr_system_t *system = crowd(200);
        ck_assert_int_eq(rr_system_drain(system, 20000), RR_OK);
        rig_end(system);
    }
}
END_TEST

START_TEST(destroy_without_stop) {
    rr_system_t *system = crowd(50);
    int64_t before = rig_live;
    rr_system_destroy(system);
    ck_assert_int_eq(rr__alloc_live(), before);
    rr_system_destroy(NULL);
}
END_TEST

CHECK_MAIN("dispose", each_allocation_fails_once, a_failed_allocation_loses_no_call, stop_in_the_middle,
           drain_in_the_middle, destroy_without_stop)
#endif
