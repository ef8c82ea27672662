/* stress_runtime.c: random actors on several threads, with a checker that knows every message (world.h) and a watchdog
 * that shows all stacks when nothing moves.
 *     stress_runtime [--seconds N] [--threads N] [--seed N]    three runs: ended by an audit, a drain, a stop */
#include <dirent.h>
#include <execinfo.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "runtime/alloc.h"
#include "tests/stress/world.h"
#include "tests/unit/runtime/loop.h"

#define PATIENCE_S 60 /* without any activity, or for the quiet at the end */

typedef struct options {
    unsigned seconds, threads, end; /* end: 0 = audit, 1 = drain, 2 = stop */
    uint64_t seed;
} options_t;

/* ---- The watchdog ----------------------------------------------------------------------------------------------------- */

static void show_stack(int signal) {
    void *frames[64];
    int count = backtrace(frames, 64);
    backtrace_symbols_fd(frames, count, STDERR_FILENO);
    if (write(STDERR_FILENO, "\n", 1) < 0)
        return;
}

static void nap_ms(long ms) {
    struct timespec pause = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&pause, NULL);
}

/* One thread after the other, so that their lines do not mix. */
static void show_all_stacks(void) {
    DIR *tasks = opendir("/proc/self/task");
    for (struct dirent *task; tasks && (task = readdir(tasks));) {
        int id = atoi(task->d_name);
        if (!id)
            continue;
        fprintf(stderr, "thread %d:\n", id);
        syscall(SYS_tgkill, getpid(), id, SIGUSR1);
        nap_ms(50);
    }
    if (tasks)
        closedir(tasks);
}

static void give_up(const world_t *world, const char *why) {
    world_print(world);
    fflush(stdout);
    fprintf(stderr, "%s (seed %llu)\n", why, (unsigned long long)world->seed);
    show_all_stacks();
    abort();
}

static uint64_t pulse_of(world_t *world) {
    return world->activity + world->handled + world->replies + world->accepted + world->no_route + world->spawns;
}

typedef struct watchdog {
    world_t *world;
    _Atomic(bool) stop;
} watchdog_t;

static void *watch(void *context) {
    watchdog_t *dog = context;
    uint64_t before = 0, still = 0;
    while (!atomic_load(&dog->stop)) {
        nap_ms(100);
        uint64_t now = pulse_of(dog->world);
        still = now == before ? still + 1 : 0;
        before = now;
        if (still > PATIENCE_S * 10)
            give_up(dog->world, "nothing moves");
    }
    return NULL;
}

/* ---- The run ------------------------------------------------------------------------------------------------------------ */

typedef struct poker {
    world_t *world;
    uint64_t seed;
} poker_t;

static void *poke(void *context) {
    poker_t *my = context;
    rr_random_t random;
    rr_random_seed(&random, my->seed);
    while (!atomic_load(&my->world->poked)) {
        for (int i = 0; i < 20; i++)
            world_poke(my->world, &random);
        if (rr_random_below(&random, 4) == 0)
            nap_ms(1); /* now and then all runs dry: sleeping and waking are to be seen too */
    }
    return NULL;
}

/* Quiet: nothing has moved for longer than any timer or deadline takes. */
static void wait_quiet(world_t *world) {
    uint64_t before = 0;
    for (int still = 0, looks = 0; still < 5; looks++) {
        if (looks > PATIENCE_S * 10)
            give_up(world, "it never gets quiet");
        nap_ms(100);
        uint64_t now = pulse_of(world);
        still = now == before ? still + 1 : 0;
        before = now;
    }
}

static void check_books(world_t *world) {
    uint64_t asked = world_audit(world);
    for (int looks = 0; atomic_load(&world->audited) < asked; looks++) {
        if (looks > PATIENCE_S * 100)
            give_up(world, "the audit does not end");
        nap_ms(10);
    }
    uint32_t count = atomic_load(&world->next_id);
    for (uint32_t id = 1; id < count && id < WORLD_IDS; id++)
        rr_kill(world->system, atomic_load(&world->addr_of[id]), RR_CANCELLED);
    if (!rr_system_wait_idle(world->system, PATIENCE_S * 1000))
        give_up(world, "not all die");
}

/* In peace, with a look at all the books; or by a drain or a stop in the middle of it all. */
static void end(world_t *world, unsigned how) {
    if (how == 1) {
        if (rr_system_drain(world->system, PATIENCE_S * 1000) != RR_OK)
            give_up(world, "the drain does not end");
    } else if (how == 0) {
        atomic_store(&world->calm, true);
        wait_quiet(world);
        check_books(world);
    }
    if (!rr_system_stop(world->system))
        give_up(world, "a thread does not come back");
    if (rr_system_actor_count(world->system) != 0)
        give_up(world, "actors are left after the stop");
}

static rr_system_t *start(const options_t *options) {
    rr_options_t system_options;
    rr_options_init(&system_options);
    system_options.replay = false;
    system_options.core_threads = options->threads;
    system_options.seed = options->seed;
    system_options.log_screen = false;
    rr_system_t *system = NULL;
    int rc = rr_system_create(&system, &system_options);
    if (rc == RR_OK)
        rc = rr_system_start(system);
    if (rc != RR_OK) {
        fprintf(stderr, "cannot start: %s\n", rr_strerror(rc));
        exit(EXIT_FAILURE);
    }
    return system;
}

/* Beside the core workers: a pool whose handlers may block, and a pinned loop. */
static void add_executors(world_t *world) {
    rr_pool_options_t blocking = {.name = "blocking", .threads = 2, .stuck_ms = 10, .max_spares = 4};
    int rc = rr_pool_create(world->system, &blocking, &world->executors[1]);
    world->may_block = true;
    world->executors[2] = loop_new();
    if (rc == RR_OK)
        rc = rr_executor_add(world->system, world->executors[2]);
    if (rc != RR_OK) {
        fprintf(stderr, "cannot add executors: %s\n", rr_strerror(rc));
        exit(EXIT_FAILURE);
    }
}

static void run(const options_t *options) {
    rr_system_t *system = start(options);
    static world_t world;
    world_init(&world, system, options->seed);
    add_executors(&world);
    watchdog_t dog = {.world = &world};
    poker_t pokers[2] = {{&world, options->seed + 1}, {&world, options->seed + 2}};
    pthread_t watching, poking[2];
    int failed = pthread_create(&watching, NULL, watch, &dog);
    for (int i = 0; i < 2; i++)
        failed |= pthread_create(&poking[i], NULL, poke, &pokers[i]);
    if (failed)
        give_up(&world, "no threads");
    nap_ms((long)options->seconds * 1000);
    atomic_store(&world.poked, true);
    for (int i = 0; i < 2; i++)
        pthread_join(poking[i], NULL);
    end(&world, options->end);
    world_check_sums(&world);
    atomic_store(&dog.stop, true);
    pthread_join(watching, NULL);
    world_print(&world);
    rr_system_destroy(system);
    world_free(&world);
}

int main(int argc, char **argv) {
    options_t options = {.seconds = 3, .threads = 4, .seed = 1};
    if (rr_random_os(&options.seed, sizeof options.seed) != RR_OK)
        return EXIT_FAILURE;
    options.seed &= 0xffffffff;
    for (int i = 1; i + 1 < argc; i += 2) {
        uint64_t value = strtoull(argv[i + 1], NULL, 10);
        if (strcmp(argv[i], "--seconds") == 0)
            options.seconds = (unsigned)value;
        else if (strcmp(argv[i], "--threads") == 0)
            options.threads = (unsigned)value;
        else if (strcmp(argv[i], "--seed") == 0)
            options.seed = value;
    }
    printf("seed %llu\n", (unsigned long long)options.seed);
    fflush(stdout);
    signal(SIGUSR1, show_stack);
    for (options.end = 0; options.end < 3; options.end++)
        run(&options);
#ifndef NDEBUG
    if (rr__alloc_live() != 0) {
        fprintf(stderr, "%lld blocks not given back\n", (long long)rr__alloc_live());
        return EXIT_FAILURE;
    }
#endif
    return EXIT_SUCCESS;
}
