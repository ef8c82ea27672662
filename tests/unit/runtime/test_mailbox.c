/* Mailboxes: order, payloads, limits, weights, what cannot be delivered. */
#include "tests/unit/runtime/rig.h"

static latch_t got = LATCH_INIT, gate = LATCH_INIT, inside = LATCH_INIT;
static uint32_t types[4096];

/* Message 0 holds the actor until the test opens the gate; all are recorded. */
static void record(rr_actor_t *self, void *state, rr_message_t *msg) {
    if (rr_message_type(msg) == 0) {
        latch_add(&inside, 1);
        latch_hold(&gate, 1);
    }
    types[latch_count(&got)] = rr_message_type(msg);
    latch_add(&got, 1);
}
static const rr_behavior_t recorder = {.name = "recorder", .receive = record};

static rr_addr_t held_recorder(rr_system_t *system, rr_spawn_t spec) {
    spec.behavior = &recorder;
    rr_addr_t addr = rig_spawn(system, &spec);
    rig_send(system, addr, 0);
    latch_wait(&inside, 1);
    return addr;
}

START_TEST(first_in_first_out) {
    rr_system_t *system = rig_start(2);
    rr_addr_t addr = held_recorder(system, (rr_spawn_t){0});
    for (uint32_t i = 1; i < 4000; i++)
        rig_send(system, addr, i);
    latch_add(&gate, 1);
    latch_wait(&got, 4000);
    for (uint32_t i = 0; i < 4000; i++)
        ck_assert_uint_eq(types[i], i);
    rig_end(system);
}
END_TEST

START_TEST(limit_of_messages) {
    rr_system_t *system = rig_start(2);
    rr_addr_t addr = held_recorder(system, (rr_spawn_t){.mailbox_messages = 100});
    int accepted = 0, refused = 0;
    for (uint32_t i = 1; i < 300; i++) {
        int rc = rr_system_send(system, addr, i, NULL, 0);
        ck_assert(rc == RR_OK || rc == RR_EFULL);
        *(rc == RR_OK ? &accepted : &refused) += 1;
        ck_assert(rc != RR_OK || !refused); /* once full, full */
    }
    ck_assert_int_ge(accepted, 98); /* the held one counts; overshoot of one per thread at most */
    ck_assert_int_le(accepted, 101);
    latch_add(&gate, 1);
    latch_wait(&got, (uint64_t)accepted + 1);
    while (rr_system_send(system, addr, 7, NULL, 0) != RR_OK)
        ; /* room again when the turn ends */
    latch_wait(&got, (uint64_t)accepted + 2);
    rig_end(system);
}
END_TEST

START_TEST(limit_of_bytes) {
    rr_system_t *system = rig_start(2);
    rr_addr_t addr = held_recorder(system, (rr_spawn_t){.mailbox_bytes = 100000, .mailbox_messages = 1000});
    static char kilobyte[1024];
    int accepted = 0;
    while (rr_system_send(system, addr, 1, kilobyte, sizeof kilobyte) == RR_OK)
        ck_assert_int_lt(++accepted, 200);
    ck_assert_int_ge(accepted, 80); /* accounting is in units of 64 bytes, at least one each */
    ck_assert_int_le(accepted, 100);
    ck_assert_int_eq(rr_system_send(system, addr, 1, kilobyte, sizeof kilobyte), RR_EFULL);
    latch_add(&gate, 1);
    latch_wait(&got, (uint64_t)accepted + 1);
    rig_end(system);
}
END_TEST

static rr_addr_t target;
static _Atomic(int) results[8];

static void send_weights(rr_actor_t *self, void *state, rr_message_t *msg) {
    results[0] = rr_send_batch(self, target, 1, rr_buffer_copy("x", 1), 60);
    results[1] = rr_send_batch(self, target, 2, rr_buffer_copy("x", 1), 60);  /* one batch may pass the limit */
    results[2] = rr_send_batch(self, target, 3, rr_buffer_copy("x", 1), 1);   /* now it is full */
    results[3] = rr_send_unsheddable(self, target, 4, rr_buffer_copy("x", 1), 500); /* is never refused */
    results[4] = rr_send_batch(self, target, 5, rr_buffer_copy("x", 1), 0);
    results[5] = rr_send_batch(self, target, 6, rr_buffer_copy("x", 1), 65536);
    latch_add(&inside, 1);
}
static const rr_behavior_t weigher = {.name = "weigher", .receive = send_weights};

START_TEST(weights_and_unsheddable) {
    rr_system_t *system = rig_start(2);
    target = held_recorder(system, (rr_spawn_t){.mailbox_messages = 100});
    rig_send(system, rig_spawn_behavior(system, &weigher), 1);
    latch_wait(&inside, 2);
    ck_assert_int_eq(results[0], RR_OK);
    ck_assert_int_eq(results[1], RR_OK);
    ck_assert_int_eq(results[2], RR_EFULL);
    ck_assert_int_eq(results[3], RR_OK);
    ck_assert_int_eq(results[4], RR_EINVAL);
    ck_assert_int_eq(results[5], RR_EINVAL);
    latch_add(&gate, 1);
    latch_wait(&got, 4);
    ck_assert_uint_eq(types[3], 4);
    while (rr_system_send(system, target, 9, NULL, 0) != RR_OK)
        ; /* the weights are given back when the turn ends */
    latch_wait(&got, 5);
    rig_end(system);
}
END_TEST

static const size_t sizes[] = {0, 1, 15, 16, 17, 80, 208, 464, 975, 976, 977, 4096, 100000};
enum { SIZES = sizeof sizes / sizeof *sizes };

static void check_payload(rr_actor_t *self, void *state, rr_message_t *msg) {
    size_t size = sizes[rr_message_type(msg)];
    const uint8_t *data = rr_message_data(msg);
    MUST(rr_message_size(msg) == size);
    MUST(rr_message_kind(msg) == RR_SEND && rr_message_request(msg) == 0 && rr_message_from(msg) == RR_NOBODY);
    for (size_t i = 0; i < size; i++)
        MUST(data[i] == (uint8_t)(i * 7 + size));
    latch_add(&got, 1);
}
static const rr_behavior_t checker = {.name = "checker", .receive = check_payload};

START_TEST(payloads_of_all_sizes) {
    rr_system_t *system = rig_start(1);
    rr_addr_t addr = rig_spawn_behavior(system, &checker);
    static uint8_t bytes[100000];
    for (uint32_t k = 0; k < SIZES; k++) {
        for (size_t i = 0; i < sizes[k]; i++)
            bytes[i] = (uint8_t)(i * 7 + sizes[k]);
        ck_assert_int_eq(rr_system_send(system, addr, k, bytes, sizes[k]), RR_OK);
        ck_assert_int_eq(rr_system_send_buffer(system, addr, k, rr_buffer_copy(bytes, sizes[k])), RR_OK);
    }
    latch_wait(&got, 2 * SIZES);
    rig_end(system);
}
END_TEST

static rr_buffer_t *expected;
static void keep_buffer(rr_actor_t *self, void *state, rr_message_t *msg) {
    MUST(rr_message_buffer(msg) == expected); /* the same, not a copy */
    latch_add(&got, 1);
}
static const rr_behavior_t keeper = {.name = "keeper", .receive = keep_buffer};

static void buffer_released(void *context) { latch_add(context, 1); }

START_TEST(buffers_are_shared_and_released) {
    static latch_t released = LATCH_INIT;
    rr_system_t *system = rig_start(2);
    expected = rr_buffer_wrap("bytes", 5, buffer_released, &released);
    for (int i = 0; i < 10; i++)
        ck_assert_int_eq(rr_system_send_buffer(system, rig_spawn_behavior(system, &keeper), 0, rr_buffer_ref(expected)),
                         RR_OK);
    latch_wait(&got, 10);
    ck_assert_uint_eq(latch_count(&released), 0);
    rr_buffer_unref(expected);
    rr_system_stop(system); /* whatever a mailbox still holds as its last message is dropped */
    ck_assert_uint_eq(latch_count(&released), 1);
    rig_end(system);
}
END_TEST

START_TEST(undeliverable) {
    static latch_t released = LATCH_INIT;
    rr_system_t *system = rig_start(1);
    ck_assert_int_eq(rr_system_send(system, RR_NOBODY, 1, "x", 1), RR_NOROUTE);
    ck_assert_int_eq(rr_system_send(system, rig_addr(1, 77, 5), 1, "x", 1), RR_NOROUTE);
    ck_assert_int_eq(rr_system_send(system, rig_addr(9, 1, 1), 1, "x", 1), RR_NOROUTE); /* other node */
    rr_addr_t addr = rig_spawn_behavior(system, &recorder);
    ck_assert_int_eq(rr_system_send(system, addr ^ 1, 1, "x", 1), RR_NOROUTE); /* another generation */
    rr_kill(system, addr, RR_CANCELLED);
    rig_quiet(system);
    ck_assert_int_eq(rr_system_send(system, addr, 1, "x", 1), RR_NOROUTE);
    rr_buffer_t *buffer = rr_buffer_wrap("x", 1, buffer_released, &released);
    ck_assert_int_eq(rr_system_send_buffer(system, addr, 1, buffer), RR_NOROUTE);
    ck_assert_uint_eq(latch_count(&released), 1); /* taken over on failure too */
    ck_assert_uint_ge(rr_system_dead_letters(system), 6);
    rig_end(system);
}
END_TEST

START_TEST(too_big) {
    static latch_t released = LATCH_INIT;
    rr_system_t *system = rig_start(1);
    rr_addr_t addr = rig_spawn_behavior(system, &recorder);
    rr_buffer_t *buffer = rr_buffer_wrap("x", ((size_t)1 << 30) + 1, buffer_released, &released);
    ck_assert_int_eq(rr_system_send_buffer(system, addr, 1, buffer), RR_ETOOBIG);
    ck_assert_uint_eq(latch_count(&released), 1);
    ck_assert_int_eq(rr_system_send(system, addr, 1, "x", ((size_t)1 << 30) + 1), RR_ETOOBIG);
    rig_end(system);
}
END_TEST

CHECK_MAIN("mailbox", first_in_first_out, limit_of_messages, limit_of_bytes, weights_and_unsheddable,
           payloads_of_all_sizes, buffers_are_shared_and_released, undeliverable, too_big)
