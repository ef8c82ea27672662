/* Calls: every way to end, exactly once each. */
#include "tests/unit/runtime/rig.h"

static latch_t done = LATCH_INIT, gate = LATCH_INIT, inside = LATCH_INIT;

/* ---- A server with every behaviour, chosen by the request's type -------------------------------------------------- */

enum { ECHO, FAIL, FAIL_CODE, SILENT, TWICE, DIE, KEEP, KEEP_AND_DIE, BUFFER, HOLD, RELEASE, ANSWER_KEPT };

typedef struct server {
    rr_message_t *kept;
} server_t;

static void serve(rr_actor_t *self, void *state, rr_message_t *msg) {
    server_t *server = state;
    switch (rr_message_type(msg)) {
    case ECHO:
        rr_reply(self, msg, rr_message_data(msg), rr_message_size(msg));
        break;
    case FAIL:
        rr_reply_error(self, msg, RR_EHANDLER, "it broke");
        break;
    case FAIL_CODE:
        rr_reply_error(self, msg, RR_EACCES, NULL);
        break;
    case TWICE:
        rr_reply(self, msg, "first", 5);
        rr_reply(self, msg, "second", 6);
        rr_reply_error(self, msg, RR_EIO, "third");
        break;
    case DIE:
        rr_exit(self, RR_EIO);
        break;
    case KEEP:
        rr_message_take(self, msg);
        server->kept = msg;
        latch_add(&inside, 1);
        break;
    case KEEP_AND_DIE:
        rr_message_take(self, msg);
        rr_exit(self, RR_OK);
        break;
    case BUFFER:
        rr_reply_buffer(self, msg, rr_buffer_ref(rr_message_buffer(msg)));
        break;
    case HOLD:
        latch_add(&inside, 1);
        latch_hold(&gate, 1);
        rr_reply(self, msg, NULL, 0);
        break;
    case RELEASE:
        rr_message_take(self, msg);
        rr_message_release(self, msg);
        break;
    case ANSWER_KEPT:
        rr_reply(self, server->kept, "late", 4);
        rr_reply(self, msg, NULL, 0);
        break;
    default: /* SILENT */
        break;
    }
}
static const rr_behavior_t server = {.name = "server", .state_size = sizeof(server_t), .receive = serve};

/* ---- A client that makes one call and notes how it ended ----------------------------------------------------------- */

typedef struct plan {
    rr_addr_t to;
    uint32_t type;
    unsigned timeout_ms;
    size_t size; /* of the request */
    bool cancel; /* at once */
    int status;  /* results */
    size_t reply_size;
    char reply[32];
    int endings;
    bool inside_call;
    rr_addr_t from;
} plan_t;

static void ended(rr_actor_t *self, void *state, int status, rr_message_t *msg, void *context) {
    plan_t *plan = context;
    MUST(!plan->inside_call || status == RR_CANCELLED); /* never from inside rr_call */
    plan->status = status;
    plan->endings++;
    MUST(status == RR_OK || status == RR_EHANDLER || !msg);
    MUST(status != RR_OK || (msg && rr_message_kind(msg) == RR_REPLY));
    if (msg) {
        plan->from = rr_message_from(msg);
        plan->reply_size = rr_message_size(msg);
        size_t kept = plan->reply_size < sizeof plan->reply ? plan->reply_size : sizeof plan->reply;
        memcpy(plan->reply, rr_message_data(msg), kept);
    }
    latch_add(&done, 1);
}

static void client_receive(rr_actor_t *self, void *state, rr_message_t *msg) {
    plan_t *plan;
    memcpy(&plan, rr_message_data(msg), sizeof plan);
    static const char bytes[70000] = "request";
    uint64_t id = 0;
    plan->inside_call = true;
    MUST(rr_call(self, plan->to, plan->type, bytes, plan->size, plan->timeout_ms, ended, plan, &id) == RR_OK);
    MUST(id != 0);
    if (plan->cancel) {
        MUST(rr_call_cancel(self, id));
        MUST(plan->endings == 1);
        MUST(!rr_call_cancel(self, id));
    }
    plan->inside_call = false;
}
static const rr_behavior_t client = {.name = "client", .receive = client_receive};

static rr_system_t *rig;
static rr_addr_t caller;

static void begin(void) {
    rig = rig_start(2);
    caller = rig_spawn_behavior(rig, &client);
}

static void run_plan(plan_t *plan) {
    uint64_t before = latch_count(&done);
    ck_assert_int_eq(rr_system_send(rig, caller, 1, &plan, sizeof plan), RR_OK);
    latch_wait(&done, before + 1);
    ck_assert_int_eq(plan->endings, 1);
}

START_TEST(replies) {
    begin();
    plan_t plan = {.to = rig_spawn_behavior(rig, &server), .type = ECHO, .size = 7};
    run_plan(&plan);
    ck_assert_int_eq(plan.status, RR_OK);
    ck_assert_uint_eq(plan.reply_size, 7);
    ck_assert_mem_eq(plan.reply, "request", 7);
    ck_assert_uint_eq(plan.from, plan.to);
    plan = (plan_t){.to = plan.to, .type = ECHO, .size = 0};
    run_plan(&plan);
    ck_assert_int_eq(plan.status, RR_OK);
    plan = (plan_t){.to = plan.to, .type = BUFFER, .size = 70000};
    run_plan(&plan);
    ck_assert_int_eq(plan.status, RR_OK);
    ck_assert_uint_eq(plan.reply_size, 70000);
    plan = (plan_t){.to = plan.to, .type = TWICE};
    run_plan(&plan);
    ck_assert_mem_eq(plan.reply, "first", 5);
    rig_end(rig);
}
END_TEST

START_TEST(handler_errors) {
    begin();
    plan_t plan = {.to = rig_spawn_behavior(rig, &server), .type = FAIL};
    run_plan(&plan);
    ck_assert_int_eq(plan.status, RR_EHANDLER);
    ck_assert_uint_eq(plan.reply_size, 8);
    ck_assert_mem_eq(plan.reply, "it broke", 8);
    plan = (plan_t){.to = plan.to, .type = FAIL_CODE};
    run_plan(&plan);
    ck_assert_int_eq(plan.status, RR_EACCES);
    plan = (plan_t){.to = plan.to, .type = SILENT};
    run_plan(&plan);
    ck_assert_int_eq(plan.status, RR_EHANDLER); /* not answered by its handler */
    plan = (plan_t){.to = plan.to, .type = RELEASE};
    run_plan(&plan);
    ck_assert_int_eq(plan.status, RR_CANCELLED);
    rig_end(rig);
}
END_TEST

START_TEST(no_route) {
    begin();
    plan_t plan = {.to = RR_NOBODY};
    run_plan(&plan);
    ck_assert_int_eq(plan.status, RR_NOROUTE);
    rr_addr_t gone = rig_spawn_behavior(rig, &server);
    plan = (plan_t){.to = gone, .type = DIE};
    run_plan(&plan);
    ck_assert(plan.status == RR_EHANDLER || plan.status == RR_DIED); /* ended inside the handler, unanswered */
    while (rr_system_actor_count(rig) > 1)
        ;
    plan = (plan_t){.to = gone, .type = ECHO};
    run_plan(&plan);
    ck_assert_int_eq(plan.status, RR_NOROUTE);
    rig_end(rig);
}
END_TEST

START_TEST(overload) {
    begin();
    rr_addr_t full = rig_spawn(rig, &(rr_spawn_t){.behavior = &server, .mailbox_messages = 5});
    rig_send(rig, full, HOLD);
    latch_wait(&inside, 1);
    while (rr_system_send(rig, full, ECHO, NULL, 0) == RR_OK)
        ;
    plan_t plan = {.to = full, .type = ECHO};
    run_plan(&plan);
    ck_assert_int_eq(plan.status, RR_OVERLOAD);
    latch_add(&gate, 1);
    rig_end(rig);
}
END_TEST

START_TEST(receiver_dies) {
    begin();
    plan_t plan = {.to = rig_spawn_behavior(rig, &server), .type = KEEP_AND_DIE};
    run_plan(&plan);
    ck_assert_int_eq(plan.status, RR_DIED);

    rr_addr_t held = rig_spawn_behavior(rig, &server); /* waiting in its mailbox when it is killed */
    rig_send(rig, held, HOLD);
    latch_wait(&inside, 1);
    plan = (plan_t){.to = held, .type = ECHO};
    plan_t *pointer = &plan;
    ck_assert_int_eq(rr_system_send(rig, caller, 1, &pointer, sizeof pointer), RR_OK);
    rr_kill(rig, held, RR_CANCELLED);
    plan_t flush = {.to = RR_NOBODY}; /* when this one has ended the other one was sent */
    pointer = &flush;
    ck_assert_int_eq(rr_system_send(rig, caller, 1, &pointer, sizeof pointer), RR_OK);
    latch_wait(&done, 2);
    latch_add(&gate, 1);
    latch_wait(&done, 3);
    ck_assert_int_eq(plan.status, RR_DIED);
    rig_end(rig);
}
END_TEST

START_TEST(times_out_and_late_reply_is_dropped) {
    begin();
    rr_addr_t to = rig_spawn_behavior(rig, &server);
    plan_t plan = {.to = to, .type = KEEP, .timeout_ms = 30};
    run_plan(&plan);
    ck_assert_int_eq(plan.status, RR_TIMEOUT);
    latch_wait(&inside, 1);
    plan_t late = {.to = to, .type = ANSWER_KEPT};
    run_plan(&late);
    ck_assert_int_eq(late.status, RR_OK);
    plan_t other = {.to = to, .type = ECHO, .size = 3};
    run_plan(&other);
    ck_assert_int_eq(plan.endings, 1);
    rig_end(rig);
}
END_TEST

START_TEST(cancelled) {
    begin();
    rr_addr_t to = rig_spawn_behavior(rig, &server);
    plan_t plan = {.to = to, .type = ECHO, .cancel = true};
    run_plan(&plan);
    ck_assert_int_eq(plan.status, RR_CANCELLED);
    plan_t other = {.to = to, .type = ECHO};
    run_plan(&other);
    ck_assert_int_eq(other.status, RR_OK);
    ck_assert_int_eq(plan.endings, 1); /* its reply came and found nobody */
    rig_end(rig);
}
END_TEST

/* ---- Calling oneself, and from finish -------------------------------------------------------------------------------- */

static void self_reply(rr_actor_t *self, void *state, int status, rr_message_t *msg, void *context) {
    MUST(status == RR_OK && rr_message_size(msg) == 2);
    latch_add(&done, 1);
    rr_exit(self, RR_OK);
}
static void self_receive(rr_actor_t *self, void *state, rr_message_t *msg) {
    if (rr_message_kind(msg) == RR_CALL)
        rr_reply(self, msg, "ok", 2);
    else
        MUST(rr_call(self, rr_self(self), 5, NULL, 0, 0, self_reply, NULL, NULL) == RR_OK);
}
static const rr_behavior_t introvert = {.name = "introvert", .receive = self_receive};

START_TEST(call_to_oneself) {
    rr_system_t *system = rig_start(2);
    rig_send(system, rig_spawn_behavior(system, &introvert), 0);
    latch_wait(&done, 1);
    rig_quiet(system);
    rig_end(system);
}
END_TEST

static rr_addr_t silent_addr;
static void caller_dies(rr_actor_t *self, void *state, rr_message_t *msg) {
    for (int i = 0; i < 100; i++)
        MUST(rr_call(self, silent_addr, ECHO, "abc", 3, 100000, self_reply, NULL, NULL) == RR_OK);
    rr_exit(self, RR_OK);
}
static const rr_behavior_t mortal = {.name = "mortal", .receive = caller_dies};

START_TEST(caller_dies_first) { /* replies to the dead are dropped, fn does not run */
    rr_system_t *system = rig_start(2);
    silent_addr = rig_spawn_behavior(system, &server);
    for (int i = 0; i < 50; i++)
        rig_send(system, rig_spawn_behavior(system, &mortal), 0);
    while (rr_system_actor_count(system) > 1)
        ;
    rr_kill(system, silent_addr, RR_OK);
    rig_quiet(system);
    ck_assert_uint_eq(latch_count(&done), 0);
    rig_end(system);
}
END_TEST

/* ---- As many as there can be ---------------------------------------------------------------------------------------------- */

enum { MOST = 65536 };
static uint8_t ended_once[MOST];

static void one_of_many(rr_actor_t *self, void *state, int status, rr_message_t *msg, void *context) {
    uint32_t index = (uint32_t)(uintptr_t)context;
    MUST(status == RR_OK || status == RR_OVERLOAD || status == RR_TIMEOUT);
    MUST(ended_once[index]++ == 0);
    if (status == RR_OK) {
        uint32_t echoed;
        MUST(rr_message_size(msg) == sizeof echoed);
        memcpy(&echoed, rr_message_data(msg), sizeof echoed);
        MUST(echoed == index);
    }
    latch_add(&done, 1);
}

static void call_most(rr_actor_t *self, void *state, rr_message_t *msg) {
    uint32_t timeout;
    memcpy(&timeout, rr_message_data(msg), sizeof timeout);
    memset(ended_once, 0, sizeof ended_once);
    for (uint32_t i = 0; i < MOST; i++)
        MUST(rr_call(self, silent_addr, ECHO, &i, sizeof i, timeout, one_of_many, (void *)(uintptr_t)i, NULL) == RR_OK);
    MUST(rr_call(self, silent_addr, ECHO, NULL, 0, timeout, one_of_many, NULL, NULL) == RR_ELIMIT);
}
static const rr_behavior_t greedy = {.name = "greedy", .receive = call_most};

START_TEST(most_outstanding) {
    rr_system_t *system = rig_start(2);
    silent_addr = rig_spawn(system, &(rr_spawn_t){.behavior = &server, .mailbox_messages = 2 * MOST});
    rr_addr_t addr = rig_spawn_behavior(system, &greedy);
    uint32_t timeout = 60000;
    for (uint64_t round = 1; round <= 3; round++) { /* the table is used again */
        ck_assert_int_eq(rr_system_send(system, addr, 0, &timeout, sizeof timeout), RR_OK);
        latch_wait(&done, round * MOST);
    }
    rig_send(system, silent_addr, HOLD); /* and all of them time out, while their server stands still */
    latch_wait(&inside, 1);
    timeout = 20;
    ck_assert_int_eq(rr_system_send(system, addr, 0, &timeout, sizeof timeout), RR_OK);
    latch_wait(&done, 4 * MOST);
    latch_add(&gate, 1);
    timeout = 60000;
    ck_assert_int_eq(rr_system_send(system, addr, 0, &timeout, sizeof timeout), RR_OK);
    latch_wait(&done, 5 * MOST);
    rig_end(system);
}
END_TEST

/* More kept requests than can be remembered: all of them can still be answered. */
enum { MANY_KEPT = 70000 };
static rr_message_t *hoard[MANY_KEPT];
static uint32_t hoarded;
static void hoard_receive(rr_actor_t *self, void *state, rr_message_t *msg) {
    rr_message_take(self, msg);
    hoard[hoarded++] = msg;
    if (hoarded < MANY_KEPT)
        return;
    for (uint32_t i = 0; i < MANY_KEPT; i++)
        rr_reply(self, hoard[i], rr_message_data(hoard[i]), rr_message_size(hoard[i]));
}
static const rr_behavior_t hoarder = {.name = "hoarder", .receive = hoard_receive};

static void hoard_reply(rr_actor_t *self, void *state, int status, rr_message_t *msg, void *context) {
    uint32_t index;
    MUST(status == RR_OK && rr_message_size(msg) == sizeof index);
    memcpy(&index, rr_message_data(msg), sizeof index);
    MUST(index == (uint32_t)(uintptr_t)context);
    latch_add(&done, 1);
}
static void call_hoarder(rr_actor_t *self, void *state, rr_message_t *msg) {
    for (uint32_t i = 0; i < MANY_KEPT / 2; i++)
        MUST(rr_call(self, silent_addr, 1, &i, sizeof i, 50000, hoard_reply, (void *)(uintptr_t)i, NULL) == RR_OK);
}
static const rr_behavior_t feeder = {.name = "feeder", .receive = call_hoarder};

START_TEST(more_kept_than_remembered) {
    rr_options_t options;
    rig_options(&options, 2);
    options.log_level = RR_FATAL;
    rr_system_t *system = rig_start_with(&options);
    silent_addr = rig_spawn(system, &(rr_spawn_t){.behavior = &hoarder, .mailbox_messages = 2 * MANY_KEPT});
    for (int i = 0; i < 2; i++)
        rig_send(system, rig_spawn_behavior(system, &feeder), 0);
    latch_wait(&done, MANY_KEPT);
    rig_end(system);
}
END_TEST

/* Deadlines in any order: each call times out near its own, not at the first or the last. */
static uint64_t called_at;
static unsigned busy_ms;
static _Atomic(int) too_early;
static void timed(rr_actor_t *self, void *state, int status, rr_message_t *msg, void *context) {
    MUST(status == RR_TIMEOUT);
    uint64_t waited = rr_now_ns(self) - called_at;
    if (waited < (uint64_t)(uintptr_t)context * 1000000)
        too_early++;
    latch_add(&done, 1);
}
static void call_with_deadlines(rr_actor_t *self, void *state, rr_message_t *msg) {
    static const unsigned deadlines[] = {90, 10, 50, 200, 30, 70, 10, 120, 1000};
    for (called_at = rr_now_ns(self); rr_now_ns(self) - called_at < busy_ms * 1000000ull;)
        ; /* a long handler: deadlines count from the call, not from its start */
    called_at = rr_now_ns(self);
    for (size_t i = 0; i < sizeof deadlines / sizeof *deadlines; i++)
        MUST(rr_call(self, silent_addr, KEEP, NULL, 0, deadlines[i], timed, (void *)(uintptr_t)deadlines[i], NULL) ==
             RR_OK);
}
static const rr_behavior_t punctual = {.name = "punctual", .receive = call_with_deadlines};

START_TEST(deadlines_in_any_order) {
    rr_system_t *system = rig_start(2);
    silent_addr = rig_spawn_behavior(system, &server);
    rr_addr_t addr = rig_spawn_behavior(system, &punctual);
    rig_send(system, addr, 0);
    latch_wait(&done, 9);
    busy_ms = 60;
    rig_send(system, addr, 0);
    latch_wait(&done, 18);
    ck_assert_int_eq(too_early, 0);
    rig_end(system);
}
END_TEST

CHECK_MAIN("call", replies, handler_errors, no_route, overload, receiver_dies, times_out_and_late_reply_is_dropped,
           cancelled, call_to_oneself, caller_dies_first, most_outstanding, more_kept_than_remembered,
           deadlines_in_any_order)
