/* replay_runtime.c: thousands of small random worlds (world.h), each run on one thread from its seed under virtual time.
 * The same seed must give the same run: equal hashes of the trace. A failure names its seed; --seed N plays it again.
 *     replay_runtime [--seeds N] [--first N] [--seed N] */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/alloc.h"
#include "runtime/replay.h"
#include "tests/stress/world.h"

#define SEED_SECONDS 120 /* one world takes milliseconds */

static char last_words[96]; /* made before each run: a handler may only write */

static void on_failure(int sig) {
    if (write(STDERR_FILENO, last_words, strlen(last_words)) < 0)
        _exit(3);
    signal(sig, SIG_DFL);
    raise(sig);
}

static void fail(uint64_t seed, const char *why) {
    fprintf(stderr, "seed %llu: %s\n", (unsigned long long)seed, why);
    exit(EXIT_FAILURE);
}

static rr_system_t *start(uint64_t seed) {
    rr_options_t options;
    rr_options_init(&options);
    options.replay = true;
    options.seed = seed;
    options.log_screen = false;
    options.max_actors = 100000;
    rr_system_t *system = NULL;
    if (rr_system_create(&system, &options) != RR_OK || rr_system_start(system) != RR_OK)
        fail(seed, "cannot start");
    return system;
}

static void play(world_t *world, rr_random_t *random) {
    rr_system_t *system = world->system;
    for (int i = 0; i < 400; i++)
        world_poke(world, random);
    for (uint64_t steps = 5 + rr_random_below(random, 200); steps; steps--) {
        for (uint64_t pokes = rr_random_below(random, 8); pokes; pokes--)
            world_poke(world, random);
        if (rr_random_below(random, 5) == 0) /* a while passes */
            (void)rr_replay_run_until(system, rr_system_now_ns(system) + rr_random_below(random, 30) * 1000000);
        else
            (void)rr_replay_run(system, 1 + rr_random_below(random, 50));
    }
}

static void audit(world_t *world) {
    rr_system_t *system = world->system;
    atomic_store(&world->calm, true);
    (void)rr_replay_run(system, 0);
    uint64_t asked = world_audit(world);
    (void)rr_replay_run(system, 0);
    if (world->audited != asked)
        fail(world->seed, "the audit did not reach everyone");
    uint32_t count = world->next_id;
    for (uint32_t id = 1; id < count && id < WORLD_IDS; id++)
        rr_kill(system, world->addr_of[id], RR_CANCELLED);
    (void)rr_replay_run(system, 0);
    if (rr_system_actor_count(system) != 0)
        fail(world->seed, "not all died");
}

/* Every second world ends in peace, the others by a drain or a stop in the middle of it all. */
static void end(world_t *world) {
    if (world->seed % 4 < 2)
        audit(world);
    else if (world->seed % 4 == 2 && rr_system_drain(world->system, 60000) != RR_OK)
        fail(world->seed, "the drain did not end");
    rr_system_stop(world->system);
    if (rr_system_actor_count(world->system) != 0)
        fail(world->seed, "actors are left after the stop");
    world_check_sums(world);
}

static uint64_t run(uint64_t seed, bool print) {
    snprintf(last_words, sizeof last_words, "failed; play it again with --seed %llu\n", (unsigned long long)seed);
    alarm(SEED_SECONDS);
    rr_system_t *system = start(seed);
    static world_t world;
    world_init(&world, system, seed);
    rr_pool_options_t second = {.name = "second"};
    if (rr_pool_create(system, &second, &world.executors[1]) != RR_OK)
        fail(seed, "no second pool");
    rr_random_t random;
    rr_random_seed(&random, ~seed);
    play(&world, &random);
    end(&world);
    if (print)
        world_print(&world);
    uint64_t trace = rr_replay_trace(system);
    rr_system_destroy(system);
    world_free(&world);
#ifndef NDEBUG
    if (rr__alloc_live() != 0)
        fail(seed, "memory was not given back");
#endif
    return trace;
}

static void run_twice(uint64_t seed, bool print) {
    uint64_t first = run(seed, print), second = run(seed, false);
    if (first != second)
        fail(seed, "two runs differ");
    if (print)
        printf("seed %llu: trace %016llx\n", (unsigned long long)seed, (unsigned long long)first);
}

int main(int argc, char **argv) {
    uint64_t seeds = 300, first = 1;
    bool one = false;
    for (int i = 1; i + 1 < argc; i += 2) {
        uint64_t value = strtoull(argv[i + 1], NULL, 10);
        if (strcmp(argv[i], "--seeds") == 0)
            seeds = value;
        else if (strcmp(argv[i], "--first") == 0 || strcmp(argv[i], "--seed") == 0)
            first = value;
        if (strcmp(argv[i], "--seed") == 0)
            seeds = one = true;
    }
    signal(SIGABRT, on_failure);
    signal(SIGALRM, on_failure);
    signal(SIGSEGV, on_failure);
    uint64_t different = 0, last = 0;
    for (uint64_t seed = first; seed < first + seeds; seed++) {
        if (one || seed % 10 == 0) {
            run_twice(seed, one);
            continue;
        }
        uint64_t trace = run(seed, false);
        different += trace != last;
        last = trace;
    }
    if (!one && different < seeds / 2)
        fail(first, "different seeds give equal runs");
    printf("%llu seeds\n", (unsigned long long)seeds);
    return EXIT_SUCCESS;
}
