/* Messages between any two actors keep their order, whatever the scheduler does with either. */
#include "tests/unit/runtime/rig.h"

enum { ACTORS = 40, MESSAGES = 1500 };
static rr_addr_t all[ACTORS];
static latch_t done = LATCH_INIT;

typedef struct peer {
    uint32_t me, next_out[ACTORS], next_in[ACTORS], received;
} peer_t;

static int know_oneself(rr_actor_t *self, void *state, const void *arg) {
    ((peer_t *)state)->me = (uint32_t)(uintptr_t)arg;
    return RR_OK;
}

static void wander(rr_actor_t *self, void *state, rr_message_t *msg) {
    peer_t *my = state;
    uint32_t word[2];
    if (rr_message_type(msg) == 1) {
        memcpy(word, rr_message_data(msg), sizeof word);
        MUST(rr_message_from(msg) == all[word[0]]);
        MUST(word[1] == my->next_in[word[0]]); /* the next one of that sender, none lost, none twice */
        my->next_in[word[0]]++;
        if (++my->received == MESSAGES)
            latch_add(&done, 1);
    }
    uint32_t to = (my->me * 7 + my->received * 13 + 1) % ACTORS;
    word[0] = my->me;
    word[1] = my->next_out[to]++;
    if (rr_send(self, all[to], 1, word, sizeof word) != RR_OK)
        MUST(!"refused");
}
static const rr_behavior_t wanderer = {
    .name = "wanderer", .state_size = sizeof(peer_t), .start = know_oneself, .receive = wander};

static void run(unsigned threads) {
    rr_system_t *system = rig_start(threads);
    for (uint32_t i = 0; i < ACTORS; i++)
        all[i] = rig_spawn(system, &(rr_spawn_t){.behavior = &wanderer, .arg = (void *)(uintptr_t)i});
    for (uint32_t i = 0; i < ACTORS; i++) /* all are known before the first one sends */
        rig_send(system, all[i], 0);
    latch_wait(&done, 1); /* walks differ in length: one actor that got its share shows that all moved on */
    rig_end(system);
}

START_TEST(one_worker) { run(1); }
END_TEST

START_TEST(two_workers) { run(2); }
END_TEST

START_TEST(many_workers) { run(8); }
END_TEST

/* Several threads outside actors send to one actor: each thread's order is kept. */
enum { THREADS = 4, EACH = 20000 };
static rr_addr_t collector;
static uint32_t next_of[THREADS];

static void collect(rr_actor_t *self, void *state, rr_message_t *msg) {
    uint32_t thread = rr_message_type(msg), number;
    memcpy(&number, rr_message_data(msg), sizeof number);
    MUST(number == next_of[thread]++);
    if (next_of[thread] == EACH)
        latch_add(&done, 1);
}
static const rr_behavior_t collecting = {.name = "collecting", .receive = collect};

typedef struct outsider {
    rr_system_t *system;
    uint32_t number;
} outsider_t;

static void *send_all(void *context) {
    outsider_t *my = context;
    for (uint32_t i = 0; i < EACH;) {
        int rc = rr_system_send(my->system, collector, my->number, &i, sizeof i);
        MUST(rc == RR_OK || rc == RR_EFULL);
        i += rc == RR_OK;
    }
    return NULL;
}

START_TEST(outside_threads) {
    rr_system_t *system = rig_start(2);
    collector = rig_spawn_behavior(system, &collecting);
    pthread_t threads[THREADS];
    outsider_t outsiders[THREADS];
    for (uint32_t i = 0; i < THREADS; i++) {
        outsiders[i] = (outsider_t){system, i};
        ck_assert_int_eq(pthread_create(&threads[i], NULL, send_all, &outsiders[i]), 0);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    latch_wait(&done, THREADS);
    rig_end(system);
}
END_TEST

/* Different kinds in one queue keep their order: sends, calls, replies, the end. */
static char seen[64];
static void mixed_reply(rr_actor_t *self, void *state, int status, rr_message_t *msg, void *context) {
    strcat(seen, status == RR_OK ? "r" : "!");
}
static void mixed_receive(rr_actor_t *self, void *state, rr_message_t *msg) {
    if (rr_message_kind(msg) == RR_CALL) {
        strcat(seen, "c");
        rr_reply(self, msg, NULL, 0);
        MUST(rr_send(self, rr_message_from(msg), 3, NULL, 0) == RR_OK); /* behind the reply */
    } else if (rr_message_type(msg) == 1) {
        strcat(seen, "s");
    } else if (rr_message_type(msg) == 2) {
        strcat(seen, "e");
        rr_exit(self, RR_OK);
    }
}
static const rr_behavior_t mixed = {.name = "mixed", .receive = mixed_receive};

static void driver_receive(rr_actor_t *self, void *state, rr_message_t *msg) {
    if (rr_message_kind(msg) == RR_DOWN) {
        strcat(seen, "d");
        latch_add(&done, 1);
        return;
    }
    if (rr_message_type(msg) == 3) {
        strcat(seen, "a");
        return;
    }
    rr_addr_t to = collector;
    MUST(rr_monitor(self, to, NULL) == RR_OK);
    MUST(rr_send(self, to, 1, NULL, 0) == RR_OK);
    MUST(rr_call(self, to, 1, NULL, 0, 0, mixed_reply, NULL, NULL) == RR_OK);
    MUST(rr_send(self, to, 1, NULL, 0) == RR_OK);
    MUST(rr_send(self, to, 2, NULL, 0) == RR_OK);
}
static const rr_behavior_t driver = {.name = "driver", .receive = driver_receive};

START_TEST(kinds_keep_their_order) {
    rr_system_t *system = rig_start(1); /* one worker: `seen` needs no lock, and is exact */
    collector = rig_spawn_behavior(system, &mixed);
    rig_send(system, rig_spawn_behavior(system, &driver), 0);
    latch_wait(&done, 1);
    ck_assert_str_eq(seen, "scserad");
    rig_end(system);
}
END_TEST

CHECK_MAIN("order", one_worker, two_workers, many_workers, outside_threads, kinds_keep_their_order)
