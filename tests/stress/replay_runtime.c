/* replay_runtime.c: thousands of small random worlds (world.h), each run on one thread from its seed under virtual time.
 * The same seed must give the same run: equal hashes of the trace. A failure names its seed; --seed N plays it again.
 *     replay_runtime [--seeds N] [--first N] [--seed N [--log]] */
#include <stdio.h>
#include <stdlib.h>

#include "runtime/alloc.h"
#include "runtime/replay.h"
#include "tests/replay/seeds.h"
#include "tests/stress/world.h"

static void fail(uint64_t seed, const char *why) {
    fprintf(stderr, "seed %llu: %s\n", (unsigned long long)seed, why);
    exit(EXIT_FAILURE);
}

static rr_system_t *start(uint64_t seed, bool log) {
    rr_options_t options;
    rr_options_init(&options);
    options.replay = true;
    options.seed = seed;
    options.log_screen = log;
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

static uint64_t run(uint64_t seed, bool log, bool print) {
    rr_system_t *system = start(seed, log);
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
    if (print)
        printf("seed %llu: trace %016llx\n", (unsigned long long)seed, (unsigned long long)trace);
    rr_system_destroy(system);
    world_free(&world);
#ifndef NDEBUG
    if (rr__alloc_live() != 0)
        fail(seed, "memory was not given back");
#endif
    return trace;
}

int main(int argc, char **argv) { return seeds_main(argc, argv, run, "worlds"); }
