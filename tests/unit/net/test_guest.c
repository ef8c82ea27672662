/* Guests: on a single CPU a loop runs the actors that it wakes itself; one that blocks does not keep the loop. */
#include <sched.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "net/loop.h"
#include "runtime/executor.h"
#include "support.h"

#define GUESTS 7 /* more than a loop has threads */
#define ROUNDS 5000

#define FLOOD_MESSAGES 4000 /* many turns' worth */
#define PILE 32u            /* less than a turn's worth, but */
#define HEAVY_NS 5000       /* worth a break */
#define PATIENCE_NS 60000000000ull

enum { ASK = 1, ANSWER, BLOCK, GO, FLOOD, NOTE, TICK, GO_PILE, HEAVY, HEARD };

typedef struct world {
    rr_system_t *system;
    rr_loop_t *loop;
    rr_executor_t *pool;
    rr_addr_t front, guests[GUESTS];
    sem_t done, release, inside;
    _Atomic(unsigned) on_loop, elsewhere, begun, ended, ticks; /* relaxed counts, read for checks only */
    _Atomic(unsigned) heard, heard_before_the_end;             /* of a pile; the same */
    bool guest_flag;
} world_t;

/* Aborts in all builds: these run on other threads than the test's. */
#define MUST(condition)                                                                                                \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

static void wait_for(sem_t *semaphore) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 60;
    MUST(sem_timedwait(semaphore, &until) == 0);
}

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

static void be_busy(uint64_t ns) {
    for (uint64_t until = now_ns() + ns; now_ns() < until;) {
    }
}

/* ---- The guest: answers, or blocks until it is released ---- */

typedef struct guest {
    world_t *world;
    uint64_t seen;
} guest_t;

static int guest_start(rr_actor_t *self, void *state, const void *arg) {
    ((guest_t *)state)->world = *(world_t *const *)arg;
    return RR_OK;
}

static void guest_receive(rr_actor_t *self, void *state, rr_message_t *msg) {
    guest_t *guest = state;
    world_t *world = guest->world;
    MUST(rr_loop_current() == NULL);
    MUST(rr_executor_of(self) == world->pool);
    if (rr_message_type(msg) == BLOCK) {
        sem_post(&world->inside);
        wait_for(&world->release);
        return;
    }
    uint64_t number = *(const uint64_t *)rr_message_data(msg);
    bool on_loop = rr_worker_executor(rr_worker_current()) == rr_loop_executor(world->loop);
    atomic_fetch_add(on_loop ? &world->on_loop : &world->elsewhere, 1);
    if (rr_message_type(msg) == NOTE) {
        if (number == FLOOD_MESSAGES - 1) {
            sem_post(&world->done);
        }
        return;
    }
    if (rr_message_type(msg) == HEAVY) {
        be_busy(HEAVY_NS);
        if (number == PILE - 1) {
            atomic_store(&world->heard_before_the_end, atomic_load(&world->heard));
        }
        MUST(rr_send(self, world->front, HEARD, NULL, 0) == RR_OK);
        return;
    }
    MUST(number == guest->seen++);
    MUST(rr_send(self, world->front, ANSWER, &number, sizeof number) == RR_OK);
}

static const rr_behavior_t guest_behavior = {
    .name = "guest", .state_size = sizeof(guest_t), .start = guest_start, .receive = guest_receive};

/* ---- The front: on the loop, asks one guest after the other ---- */

typedef struct front {
    world_t *world;
    uint64_t asked[GUESTS], left;
    unsigned whom;
} front_t;

static int front_start(rr_actor_t *self, void *state, const void *arg) {
    ((front_t *)state)->world = *(world_t *const *)arg;
    return rr_timer_start(self, 5, 5, TICK, NULL);
}

static void ask(rr_actor_t *self, front_t *front) {
    uint64_t number = front->asked[front->whom]++;
    MUST(rr_send(self, front->world->guests[front->whom], ASK, &number, sizeof number) == RR_OK);
}

static void front_receive(rr_actor_t *self, void *state, rr_message_t *msg) {
    front_t *front = state;
    world_t *world = front->world;
    MUST(rr_loop_current() == world->loop);
    switch (rr_message_type(msg)) {
    case GO: /* so many rounds with this one */
        front->whom = *(const unsigned *)rr_message_data(msg);
        front->left = ROUNDS;
        ask(self, front);
        break;
    case ANSWER:
        MUST(*(const uint64_t *)rr_message_data(msg) == front->asked[front->whom] - 1);
        if (--front->left) {
            ask(self, front);
        } else {
            sem_post(&world->done);
        }
        break;
    case FLOOD:
        for (uint64_t i = 0; i < FLOOD_MESSAGES; i++) {
            MUST(rr_send(self, world->guests[*(const unsigned *)rr_message_data(msg)], NOTE, &i, sizeof i) == RR_OK);
        }
        break;
    case GO_PILE:
        atomic_store(&world->heard, 0);
        for (uint64_t i = 0; i < PILE; i++) {
            MUST(rr_send(self, world->guests[*(const unsigned *)rr_message_data(msg)], HEAVY, &i, sizeof i) == RR_OK);
        }
        break;
    case HEARD:
        if (atomic_fetch_add(&world->heard, 1) + 1 == PILE) {
            sem_post(&world->done);
        }
        break;
    case BLOCK:
        MUST(rr_send(self, world->guests[*(const unsigned *)rr_message_data(msg)], BLOCK, NULL, 0) == RR_OK);
        break;
    default:
        atomic_fetch_add(&world->ticks, 1);
    }
}

static const rr_behavior_t front_behavior = {
    .name = "front", .state_size = sizeof(front_t), .start = front_start, .receive = front_receive};

/* ---- The world ---- */

static void on_begin(void *context, rr_worker_t *worker) {
    MUST(rr_worker_current() == worker);
    atomic_fetch_add(&((world_t *)context)->begun, 1);
}

static void on_end(void *context, rr_worker_t *worker) {
    MUST(rr_worker_current() == worker);
    atomic_fetch_add(&((world_t *)context)->ended, 1);
}

static rr_addr_t spawn(world_t *world, const rr_behavior_t *behavior, rr_executor_t *executor) {
    rr_addr_t addr;
    rr_spawn_t spec = {.behavior = behavior, .arg = &world, .arg_size = sizeof world, .executor = executor};
    spec.guest = world->guest_flag;
    ck_assert_int_eq(rr_system_spawn(world->system, &spec, &addr), RR_OK);
    return addr;
}

static void pin(unsigned cpus) {
    cpu_set_t all, some;
    CPU_ZERO(&some);
    ck_assert_int_eq(sched_getaffinity(0, sizeof all, &all), 0);
    for (int i = 0; i < CPU_SETSIZE && (unsigned)CPU_COUNT(&some) < cpus; i++) {
        if (CPU_ISSET(i, &all)) {
            CPU_SET(i, &some);
        }
    }
    ck_assert_int_eq(sched_setaffinity(0, sizeof some, &some), 0);
}

static world_t *setup_with(bool guest_flag, bool core) {
    world_t *world = calloc(1, sizeof *world);
    rr_options_t options;
    rr_options_init(&options);
    options.log_level = RR_WARN;
    options.core_threads = 1;
    sem_init(&world->done, 0, 0);
    sem_init(&world->release, 0, 0);
    sem_init(&world->inside, 0, 0);
    world->guest_flag = guest_flag;
    ck_assert_int_eq(rr_system_create(&world->system, &options), RR_OK);
    ck_assert_int_eq(rr_loop_create(world->system, "io", &world->loop), RR_OK);
    rr_pool_options_t pool = {.name = "pool", .threads = 1, .stuck_ms = 20, .context = world};
    pool.thread_begin = on_begin;
    pool.thread_end = on_end;
    if (core) {
        world->pool = rr_system_core(world->system);
    } else {
        ck_assert_int_eq(rr_pool_create(world->system, &pool, &world->pool), RR_OK);
    }
    ck_assert_int_eq(rr_system_start(world->system), RR_OK);
    for (unsigned i = 0; i < GUESTS; i++) {
        world->guests[i] = spawn(world, &guest_behavior, world->pool);
    }
    world->front = spawn(world, &front_behavior, rr_loop_executor(world->loop));
    return world;
}

static world_t *setup(bool guest_flag) {
    return setup_with(guest_flag, false);
}

static void teardown(world_t *world) {
    ck_assert(rr_system_stop(world->system));
    ck_assert_uint_eq(atomic_load(&world->begun), atomic_load(&world->ended));
    rr_system_destroy(world->system);
    sem_destroy(&world->done);
    sem_destroy(&world->release);
    sem_destroy(&world->inside);
    free(world);
}

static void tell(world_t *world, uint32_t type, unsigned guest) {
    ck_assert_int_eq(rr_system_send(world->system, world->front, type, &guest, sizeof guest), RR_OK);
}

static void play(world_t *world, unsigned guest) {
    tell(world, GO, guest);
    wait_for(&world->done);
}

static uint64_t guest_turns(world_t *world) {
    rr_pool_stats_t stats;
    rr_pool_stats(world->pool, &stats);
    return stats.guest_turns;
}

/* Until it has had turns on the loop. On a busy machine a thread may lose its CPU in the midst of a short turn, and the actor
 * its right for a while. */
static void play_as_guest(world_t *world, unsigned guest) {
    uint64_t before = guest_turns(world);
    for (uint64_t until = now_ns() + PATIENCE_NS; guest_turns(world) == before && now_ns() < until;) {
        play(world, guest);
    }
    ck_assert_uint_gt(guest_turns(world), before);
}

static void post_done(void *world) {
    sem_post(&((world_t *)world)->done);
}

/* The loop runs, whoever is held up. */
static void check_loop(world_t *world) {
    ck_assert_int_eq(rr_loop_post(world->loop, post_done, world), RR_OK);
    wait_for(&world->done);
}

/* ---- Tests ---- */

START_TEST(short_turns_run_on_the_loop) {
    pin(1);
    world_t *world = setup(true);
    play_as_guest(world, 0);
    play_as_guest(world, 1);
    ck_assert_uint_eq((atomic_load(&world->on_loop) + atomic_load(&world->elsewhere)) % ROUNDS, 0);
    ck_assert_uint_ge(atomic_load(&world->elsewhere), 126); /* each was to prove itself first */
    ck_assert_uint_eq(guest_turns(world), atomic_load(&world->on_loop));
    teardown(world);
}
END_TEST

START_TEST(only_those_that_were_spawned_so) {
    pin(1);
    world_t *world = setup(false);
    play(world, 0);
    ck_assert_uint_eq(atomic_load(&world->on_loop), 0);
    teardown(world);
}
END_TEST

START_TEST(and_those_of_the_core_workers) {
    pin(1);
    world_t *world = setup_with(false, true);
    play_as_guest(world, 0);
    ck_assert_uint_eq(guest_turns(world), atomic_load(&world->on_loop));
    teardown(world);
}
END_TEST

/* It hears of a part of its answers before it makes the last, and is a guest still. */
static bool has_a_break(void) {
    world_t *world = setup(true);
    play_as_guest(world, 0);
    unsigned before = atomic_load(&world->on_loop);
    tell(world, GO_PILE, 0);
    wait_for(&world->done);
    bool whole = atomic_load(&world->on_loop) == before + PILE && atomic_load(&world->heard_before_the_end) > 0;
    teardown(world);
    return whole;
}

/* A busy machine makes the turn longer than a guest's may be, which is held against that one for long: then another world's. */
START_TEST(a_long_turn_has_a_break) {
    pin(1);
    bool whole = false;
    for (uint64_t until = now_ns() + PATIENCE_NS; !whole && now_ns() < until;) {
        whole = has_a_break();
    }
    ck_assert(whole);
}
END_TEST

START_TEST(not_where_another_cpu_could_run_them) {
    world_t *world;
    cpu_set_t all;
    ck_assert_int_eq(sched_getaffinity(0, sizeof all, &all), 0);
    world = setup(true);
    play(world, 0);
    if (CPU_COUNT(&all) > 1) {
        ck_assert_uint_eq(guest_turns(world), 0);
    }
    teardown(world);
}
END_TEST

START_TEST(one_with_much_to_do_goes_to_its_pool) {
    pin(1);
    world_t *world = setup(true);
    play_as_guest(world, 0);
    unsigned others = atomic_load(&world->elsewhere);
    tell(world, FLOOD, 0);
    wait_for(&world->done);
    ck_assert_uint_ge(atomic_load(&world->elsewhere) - others, FLOOD_MESSAGES / 2);
    play_as_guest(world, 0); /* and is back */
    teardown(world);
}
END_TEST

/* Blocks as a guest, at a time when nothing else would wake the loop. */
static void block(world_t *world, unsigned guest) {
    tell(world, BLOCK, guest);
    wait_for(&world->inside);
    check_loop(world);
}

/* True if it could be one more time. */
static bool block_as_guest(world_t *world) {
    uint64_t before = guest_turns(world);
    play(world, 0);
    bool was_guest = guest_turns(world) > before;
    block(world, 0);
    unsigned ticks = atomic_load(&world->ticks);
    while (atomic_load(&world->ticks) < ticks + 3) { /* the front's timer stands in the blocked thread's wheel */
        check_loop(world);
    }
    sem_post(&world->release);
    return was_guest;
}

START_TEST(a_guest_that_blocks_loses_the_loop) {
    pin(1);
    world_t *world = setup(true);
    unsigned strikes = 0;
    play_as_guest(world, 0);
    while (strikes < 20 && block_as_guest(world)) {
        strikes++;
    }
    ck_assert_uint_lt(strikes, 20); /* three, and it is no guest for long */
    play_as_guest(world, 1);        /* others are not blamed */
    teardown(world);
}
END_TEST

START_TEST(many_block_at_once) {
    pin(1);
    world_t *world = setup(true);
    for (unsigned i = 0; i < GUESTS; i++) {
        play(world, i);
    }
    for (unsigned i = 0; i < GUESTS; i++) {
        block(world, i);
    }
    for (unsigned i = 0; i < GUESTS; i++) {
        sem_post(&world->release);
    }
    for (unsigned i = 0; i < GUESTS; i++) {
        play(world, i);
    }
    teardown(world);
}
END_TEST

START_TEST(the_end_while_one_blocks) {
    pin(1);
    world_t *world = setup(true);
    play(world, 0);
    block(world, 0);
    sem_post(&world->release);
    teardown(world);
}
END_TEST

RUN_TESTS("guest", short_turns_run_on_the_loop, only_those_that_were_spawned_so, and_those_of_the_core_workers,
          not_where_another_cpu_could_run_them, a_long_turn_has_a_break, one_with_much_to_do_goes_to_its_pool, a_guest_that_blocks_loses_the_loop, many_block_at_once, the_end_while_one_blocks)
