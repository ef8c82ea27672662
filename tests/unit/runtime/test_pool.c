/* Pools of workers: begin and end of threads, spare threads for stuck ones, stealing, run queues of pinned executors. */
#include <sched.h>
#include <time.h>

#include "tests/unit/runtime/loop.h"
#include "tests/unit/runtime/rig.h"

static unsigned cpus_here(void) {
    cpu_set_t set;
    MUST(sched_getaffinity(0, sizeof set, &set) == 0);
    return (unsigned)CPU_COUNT(&set);
}

static latch_t begun = LATCH_INIT, ended = LATCH_INIT, inside = LATCH_INIT, gate = LATCH_INIT, done = LATCH_INIT;

static void on_begin(void *context, rr_worker_t *worker) {
    MUST(rr_worker_current() == worker && strcmp(context, "context") == 0);
    latch_add(&begun, 1);
}
static void on_end(void *context, rr_worker_t *worker) {
    MUST(rr_worker_current() == worker);
    latch_add(&ended, 1);
}

static rr_executor_t *make_pool(rr_system_t *system, rr_pool_options_t options) {
    options.thread_begin = on_begin;
    options.thread_end = on_end;
    options.context = "context";
    rr_executor_t *pool = NULL;
    ck_assert_int_eq(rr_pool_create(system, &options, &pool), RR_OK);
    return pool;
}

static rr_executor_t *expected_pool;
static void where(rr_actor_t *self, void *state, rr_message_t *msg) {
    MUST(rr_executor_of(self) == expected_pool);
    MUST(rr_worker_executor(rr_worker_current()) == expected_pool);
    latch_add(&done, 1);
}
static const rr_behavior_t whereabouts = {.name = "where", .receive = where};

START_TEST(threads_begin_and_end) {
    rr_system_t *system = rig_start(1);
    expected_pool = make_pool(system, (rr_pool_options_t){.name = "extra", .threads = 3, .stack_size = 4 << 20});
    rr_addr_t addr = rig_spawn(system, &(rr_spawn_t){.behavior = &whereabouts, .executor = expected_pool});
    for (int i = 0; i < 100; i++)
        rig_send(system, addr, 0);
    latch_wait(&done, 100);
    latch_wait(&begun, 3);
    rr_pool_stats_t stats;
    const struct timespec pause = {.tv_nsec = 1000000};
    rr_pool_stats(expected_pool, &stats);
    for (int i = 0; i < 10000 && stats.messages < 100; i++) { /* counted when a turn has ended, which nothing tells */
        nanosleep(&pause, NULL);
        rr_pool_stats(expected_pool, &stats);
    }
    ck_assert_uint_eq(stats.threads, 3);
    ck_assert_uint_ge(stats.messages, 100);
    ck_assert_uint_ge(stats.turns, 1);
    expected_pool = rr_system_core(system);
    rig_send(system, rig_spawn_behavior(system, &whereabouts), 0);
    latch_wait(&done, 101);
    rig_end(system);
    ck_assert_uint_eq(latch_count(&ended), latch_count(&begun));
}
END_TEST

static void hold(rr_actor_t *self, void *state, rr_message_t *msg) {
    latch_add(&inside, 1);
    latch_hold(&gate, 1);
    latch_add(&done, 1);
}
static const rr_behavior_t holder = {.name = "holder", .receive = hold};
static void count_only(rr_actor_t *self, void *state, rr_message_t *msg) { latch_add(&done, 1); }
static const rr_behavior_t counter = {.name = "counter", .receive = count_only};

START_TEST(spares_replace_stuck_workers) {
    rr_system_t *system = rig_start(1);
    rr_executor_t *pool = make_pool(system, (rr_pool_options_t){.name = "py", .threads = 2, .stuck_ms = 20, .max_spares = 6});
    for (int i = 0; i < 5; i++)
        rig_send(system, rig_spawn(system, &(rr_spawn_t){.behavior = &holder, .executor = pool}), 0);
    latch_wait(&inside, 5); /* more blocked handlers than threads */
    rr_addr_t addr = rig_spawn(system, &(rr_spawn_t){.behavior = &counter, .executor = pool});
    for (int i = 0; i < 1000; i++)
        rig_send(system, addr, 0);
    latch_wait(&done, 1000); /* and another is still served */
    rr_pool_stats_t stats;
    rr_pool_stats(pool, &stats);
    ck_assert_uint_ge(stats.stuck, 4); /* the overseer may not have looked at the fifth yet */
    ck_assert_uint_ge(stats.spares_max, 4);
    ck_assert_uint_le(stats.spares_max, 6);
    latch_add(&gate, 1);
    latch_wait(&done, 1005);
    rig_end(system);
    ck_assert_uint_eq(latch_count(&ended), latch_count(&begun));
}
END_TEST

START_TEST(spares_are_limited) {
    rr_system_t *system = rig_start(1);
    rr_executor_t *pool = make_pool(system, (rr_pool_options_t){.name = "py", .threads = 1, .stuck_ms = 20, .max_spares = 2});
    for (int i = 0; i < 10; i++)
        rig_send(system, rig_spawn(system, &(rr_spawn_t){.behavior = &holder, .executor = pool}), 0);
    latch_wait(&inside, 3);
    ck_assert(!latch_reached(&inside, 4, 200)); /* one thread and two spares: no more */
    rr_pool_stats_t stats;
    rr_pool_stats(pool, &stats);
    ck_assert_uint_eq(stats.spares_max, 2);
    ck_assert_uint_ge(stats.spare_limit_hits, 1);
    latch_add(&gate, 1);
    latch_wait(&done, 10);
    rig_end(system);
}
END_TEST

/* All actors are made on one worker: the others must come and take some. */
enum { BURNERS = 500 };
static _Atomic(int) left;
static void burn(rr_actor_t *self, void *state, rr_message_t *msg) {
    volatile unsigned x = 0;
    for (int i = 0; i < 200000; i++)
        x++;
    if (atomic_fetch_sub(&left, 1) == 1)
        latch_add(&done, 1);
    rr_exit(self, RR_OK);
}
static const rr_behavior_t burner = {.name = "burner", .receive = burn};
static void spawn_burners(rr_actor_t *self, void *state, rr_message_t *msg) {
    rr_spawn_t spec = {.behavior = &burner};
    rr_addr_t addr;
    for (int i = 0; i < BURNERS; i++) {
        MUST(rr_spawn(self, &spec, &addr) == RR_OK);
        MUST(rr_send(self, addr, 0, NULL, 0) == RR_OK);
    }
}
static const rr_behavior_t spawner = {.name = "spawner", .receive = spawn_burners};

START_TEST(work_is_stolen) {
    rr_system_t *system = rig_start(2);
    uint64_t until = rr_system_now_ns(system) + RIG_PATIENCE_S * 1000000000ull;
    rr_pool_stats_t stats = {0};
    for (uint64_t i = 1; !stats.steals && rr_system_now_ns(system) < until; i++) { /* the thief may get no CPU meanwhile */
        left = BURNERS;
        rig_send(system, rig_spawn_behavior(system, &spawner), 0);
        latch_wait(&done, i);
        rr_pool_stats(rr_system_core(system), &stats);
    }
    ck_assert_uint_gt(stats.steals, 0);
    rig_end(system);
}
END_TEST

/* Turns so short that a theft draws everything after it are left to one worker, but for a theft now and then; work that lasts
 * is stolen from it at once. */
enum { FOLLOWERS = 200, FEW_STEALS = 200, JOBS = 400, HELD_UP_NS = 40000, THEFTS_EACH = 8 };
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
enum { ROUNDS = 100, SLOWED = 1 }; /* no turn is short there */
#else
enum { ROUNDS = 5000, SLOWED = 0 };
#endif
static rr_addr_t followers[FOLLOWERS];
static unsigned answered, rounds;
static _Atomic(uint64_t) ran_on; /* bit per worker that ran a job */
/* Turns that lasted as if the CPU was taken away meanwhile: who sits in one is robbed with good reason, and steals back. */
static _Atomic(uint64_t) held_up;
static _Thread_local uint64_t turn_began_ns;
static void note_begin(rr_actor_t *self, void *state) { turn_began_ns = rr_now_ns(self); }
static void note_end(rr_actor_t *self, void *state) {
    if (rr_now_ns(self) - turn_began_ns >= HELD_UP_NS)
        atomic_fetch_add_explicit(&held_up, 1, memory_order_relaxed);
}
static void follow(rr_actor_t *self, void *state, rr_message_t *msg) {
    MUST(rr_send(self, rr_message_from(msg), 1, NULL, 0) == RR_OK);
}
static const rr_behavior_t follower = {.name = "follower", .receive = follow, .turn_begin = note_begin, .turn_end = note_end};
static void job(rr_actor_t *self, void *state, rr_message_t *msg) {
    atomic_fetch_or(&ran_on, 1ull << rr_worker_id(rr_worker_current()));
    burn(self, state, msg);
}
static const rr_behavior_t employee = {.name = "job", .receive = job};
static void employ(rr_actor_t *self, void *state, rr_message_t *msg) {
    rr_addr_t addr;
    for (int i = 0; i < JOBS; i++) {
        MUST(rr_spawn(self, &(rr_spawn_t){.behavior = &employee}, &addr) == RR_OK);
        MUST(rr_send(self, addr, 0, NULL, 0) == RR_OK);
    }
}
static const rr_behavior_t employer = {.name = "employer", .receive = employ};
static void lead(rr_actor_t *self, void *state, rr_message_t *msg) {
    if (rr_message_type(msg) == 1 && ++answered < FOLLOWERS)
        return;
    answered = 0;
    if (rounds++ < ROUNDS) {
        for (int i = 0; i < FOLLOWERS; i++)
            MUST(rr_send(self, followers[i], 0, NULL, 0) == RR_OK);
        return;
    }
    rounds = 0;
    latch_add(&done, 1);
}
static const rr_behavior_t leader = {.name = "leader", .receive = lead, .turn_begin = note_begin, .turn_end = note_end};

static uint64_t steals(rr_system_t *system) {
    rr_pool_stats_t stats;
    rr_pool_stats(rr_system_core(system), &stats);
    return stats.steals;
}

/* A worker whose CPU is taken away looks like one of long turns: it is robbed until nothing is left, and steals back. Its turn
 * was seen to last, so that much is let pass. One time of few thefts is enough. */
START_TEST(short_turns_stay_together) {
    rr_system_t *system = rig_start(2);
    for (int i = 0; i < FOLLOWERS; i++)
        followers[i] = rig_spawn_behavior(system, &follower);
    rr_addr_t addr = rig_spawn_behavior(system, &leader);
    bool few = false;
    uint64_t now = 0, let_pass = 0, until = rr_system_now_ns(system) + RIG_PATIENCE_S * 1000000000ull;
    for (uint64_t i = 1; !few && (i == 1 || (!SLOWED && rr_system_now_ns(system) < until)); i++) {
        uint64_t before = steals(system), held_before = atomic_load(&held_up);
        rig_send(system, addr, 0);
        latch_wait(&done, i);
        now = steals(system) - before;
        let_pass = FEW_STEALS + THEFTS_EACH * (atomic_load(&held_up) - held_before);
        few = now <= let_pass;
    }
    ck_assert_msg(few || SLOWED, "%llu thefts, not %llu", (unsigned long long)now, (unsigned long long)let_pass);
    until = rr_system_now_ns(system) + RIG_PATIENCE_S * 1000000000ull;
    do { /* again, where a thread gets no CPU for as long as that takes */
        uint64_t times = latch_count(&done);
        left = JOBS;
        rig_send(system, rig_spawn_behavior(system, &employer), 0);
        latch_wait(&done, times + 1);
    } while (cpus_here() > 1 && ran_on != 3 && rr_system_now_ns(system) < until);
    if (cpus_here() > 1)
        ck_assert_uint_eq(ran_on, 3); /* both workers */
    rig_end(system);
}
END_TEST

/* One stuck core worker does not hold back actors that sit behind it. */
START_TEST(stuck_core_worker_is_robbed) {
    rr_system_t *system = rig_start(2);
    rig_send(system, rig_spawn_behavior(system, &holder), 0);
    latch_wait(&inside, 1);
    for (int i = 0; i < 100; i++)
        rig_send(system, rig_spawn_behavior(system, &counter), 0);
    latch_wait(&done, 100);
    latch_add(&gate, 1);
    rig_end(system);
}
END_TEST

/* ---- More threads than CPUs ------------------------------------------------------------------------------------------- */

enum { CROWD = 16, CROWD_TURNS = 2000 };
static _Atomic(unsigned) in_turn, most_in_turn;

static void note_most(unsigned now) {
    unsigned most = atomic_load(&most_in_turn);
    while (now > most && !atomic_compare_exchange_weak(&most_in_turn, &most, now))
        ;
}

static void short_turn(rr_actor_t *self, void *state, rr_message_t *msg) {
    uint32_t n = rr_message_type(msg);
    note_most(atomic_fetch_add(&in_turn, 1) + 1);
    for (volatile unsigned i = 0; i < 2000; i++)
        ;
    atomic_fetch_sub(&in_turn, 1);
    if (n)
        MUST(rr_send(self, rr_self(self), n - 1, NULL, 0) == RR_OK);
    else
        latch_add(&done, 1);
}
static const rr_behavior_t crowder = {.name = "crowder", .receive = short_turn};

/* A turn that the machine interrupts for long is stood in for, too: the overseer cannot know why it lasts. */
START_TEST(no_more_run_than_there_are_cpus) {
    rr_system_t *system = rig_start(cpus_here() + 6);
    rr_pool_stats_t stats;
    for (int i = 0; i < CROWD; i++)
        rig_send(system, rig_spawn_behavior(system, &crowder), CROWD_TURNS);
    latch_wait(&done, CROWD);
    rr_pool_stats(rr_system_core(system), &stats);
    ck_assert_uint_eq(stats.threads, cpus_here() + 6);
    ck_assert_uint_le(atomic_load(&most_in_turn), cpus_here() + stats.stuck);
    rig_end(system);
}
END_TEST

START_TEST(the_reserve_stands_in_for_long_turns) {
    unsigned reserve = 3, cpus = cpus_here();
    rr_system_t *system = rig_start(cpus + reserve);
    rr_pool_stats_t stats;
    for (unsigned i = 0; i < cpus + reserve - 1; i++)
        rig_send(system, rig_spawn_behavior(system, &holder), 0);
    latch_wait(&inside, cpus + reserve - 1); /* more long turns than CPUs */
    for (int i = 0; i < 100; i++)
        rig_send(system, rig_spawn_behavior(system, &counter), 0);
    latch_wait(&done, 100); /* and the last one serves the others */
    rr_pool_stats(rr_system_core(system), &stats);
    ck_assert_uint_ge(stats.stuck, reserve);
    latch_add(&gate, 1);
    latch_wait(&done, 100 + cpus + reserve - 1);
    for (int i = 0; i < CROWD; i++) /* they have all come back and step aside */
        rig_send(system, rig_spawn_behavior(system, &crowder), CROWD_TURNS);
    latch_wait(&done, 100 + cpus + reserve - 1 + CROWD);
    rig_end(system);
}
END_TEST

/* ---- Fairness: nobody starves behind actors that are always runnable -------------------------------------------------- */

static void forever(rr_actor_t *self, void *state, rr_message_t *msg) {
    MUST(rr_send(self, rr_self(self), 0, NULL, 0) == RR_OK);
}
static const rr_behavior_t restless = {.name = "restless", .receive = forever};

START_TEST(outsiders_get_their_turn) {
    rr_system_t *system = rig_start(1);
    for (int i = 0; i < 3; i++)
        rig_send(system, rig_spawn_behavior(system, &restless), 0);
    for (uint64_t i = 1; i <= 20; i++) {
        rig_send(system, rig_spawn_behavior(system, &counter), 0);
        latch_wait(&done, i);
    }
    rig_end(system);
}
END_TEST

START_TEST(nobody_starves_behind_a_stuck_worker) { /* while the other worker never runs out of work */
    rr_system_t *system = rig_start(2);
    for (int i = 0; i < 3; i++)
        rig_send(system, rig_spawn_behavior(system, &restless), 0);
    for (uint64_t i = 1; i <= 5; i++) {
        rig_send(system, rig_spawn_behavior(system, &counter), 0);
        rig_send(system, rig_spawn_behavior(system, &holder), 0);
        latch_wait(&done, i * 10 - 9);
        for (uint64_t k = 0; k < 8; k++)
            rig_send(system, rig_spawn_behavior(system, &counter), 0);
        latch_wait(&inside, i);
        latch_wait(&done, i * 10 - 1);
        latch_add(&gate, 1);
        latch_wait(&done, i * 10);
        pthread_mutex_lock(&gate.lock);
        gate.count = 0;
        pthread_mutex_unlock(&gate.lock);
    }
    rig_end(system);
}
END_TEST

/* ---- A pinned executor ------------------------------------------------------------------------------------------------ */

static pthread_t loop_thread;
static bool thread_known;
static rr_addr_t partner;

static void bounce(rr_actor_t *self, void *state, rr_message_t *msg) {
    uint32_t n = rr_message_type(msg);
    if (rr_executor_of(self) == expected_pool) { /* on the loop: always the same thread */
        MUST(!thread_known || pthread_equal(loop_thread, pthread_self()));
        loop_thread = pthread_self();
        thread_known = true;
    }
    if (rr_message_kind(msg) == RR_TIMER) {
        latch_add(&done, 1);
        return;
    }
    rr_addr_t to = rr_message_from(msg) ? rr_message_from(msg) : partner;
    if (n > 0)
        MUST(rr_send(self, to, n - 1, NULL, 0) == RR_OK);
    else
        MUST(rr_timer_start(self, 5, 0, 1, NULL) == RR_OK);
}
static const rr_behavior_t bouncer = {.name = "bouncer", .receive = bounce};

START_TEST(pinned_executor) {
    rr_system_t *system = rig_start(2);
    rr_executor_t *loop = loop_new();
    ck_assert_int_eq(rr_executor_add(system, loop), RR_OK); /* after the start: started at once */
    expected_pool = loop;
    rr_addr_t pinned = rig_spawn(system, &(rr_spawn_t){.behavior = &bouncer, .executor = loop});
    partner = rig_spawn_behavior(system, &bouncer); /* on the core workers */
    for (int i = 0; i < 20; i++)
        rig_send(system, pinned, 500 + (uint32_t)i % 2);
    latch_wait(&done, 20);
    rig_end(system);
}
END_TEST

/* ---- Looks at the clock where handlers may take long ------------------------------------------------------------------ */

enum { FILL = 1, SHORT, LONG, SHORTS = 65, LONGS = 30, APART = 8 };
static unsigned longs_in_turn, longest_turn; /* the loop's thread only, until the latch is full */

static void mixed_begin(rr_actor_t *self, void *state) { longs_in_turn = 0; }

static void mixed(rr_actor_t *self, void *state, rr_message_t *msg) {
    if (rr_message_type(msg) == FILL) {
        for (unsigned i = 0; i < SHORTS + LONGS; i++)
            MUST(rr_send(self, rr_self(self), i < SHORTS ? SHORT : LONG, NULL, 0) == RR_OK);
        return;
    }
    if (rr_message_type(msg) == SHORT)
        return;
    for (uint64_t until = rr_now_ns(self) + 600000; rr_now_ns(self) < until;) { /* more than a whole turn may take */
    }
    longest_turn = ++longs_in_turn > longest_turn ? longs_in_turn : longest_turn;
    latch_add(&done, 1);
}
static const rr_behavior_t mixed_behavior = {.name = "mixed", .receive = mixed, .turn_begin = mixed_begin};

/* However short those before were. */
START_TEST(long_messages_soon_end_a_turn) {
    rr_system_t *system = rig_start(1);
    rr_executor_t *loop = loop_new();
    loop->clock_every = 1;
    ck_assert_int_eq(rr_executor_add(system, loop), RR_OK);
    rig_send(system, rig_spawn(system, &(rr_spawn_t){.behavior = &mixed_behavior, .executor = loop}), FILL);
    latch_wait(&done, LONGS);
    ck_assert_uint_le(longest_turn, APART);
    rig_end(system);
}
END_TEST

CHECK_MAIN("pool", threads_begin_and_end, spares_replace_stuck_workers, spares_are_limited, work_is_stolen,
           short_turns_stay_together, stuck_core_worker_is_robbed, no_more_run_than_there_are_cpus, the_reserve_stands_in_for_long_turns,
           outsiders_get_their_turn, nobody_starves_behind_a_stuck_worker, pinned_executor, long_messages_soon_end_a_turn)
