#include "runtime/replay.h"

#include <stdio.h>

#include "runtime/alloc.h"
#include "runtime/random.h"
#include "runtime/replay_run.h"
#include "runtime/system.h"

#define FIRST_CAPACITY 1024

struct rr__replay {
    rr_worker_t *worker;
    rr_random_t random;
    rr_actor_t **runnable;
    size_t count, capacity;
    uint64_t trace;
};

typedef struct stand_in { /* for a pool */
    rr_executor_t executor;
} stand_in_t;

static void replay_post(rr_executor_t *executor, rr_actor_t *actor) {
    rr__replay_t *replay = executor->system->replay;
    if (replay->count == replay->capacity) {
        size_t capacity = replay->capacity * 2;
        rr_actor_t **more = rr__realloc(replay->runnable, capacity * sizeof *more);
        if (!more)
            abort(); /* a lost actor would make the run a different one without a word */
        replay->runnable = more;
        replay->capacity = capacity;
    }
    replay->runnable[replay->count++] = actor;
}

static bool replay_others_wait(rr_executor_t *executor) { return executor->system->replay->count > 0; }

static void stand_in_destroy(rr_executor_t *executor) { rr__free(executor); }

static const rr_executor_ops_t stand_in_ops = {
    .name = "replay", .post = replay_post, .destroy = stand_in_destroy, .others_wait = replay_others_wait};

int rr__replay_executor(rr_system_t *system, const rr_pool_options_t *options, rr_executor_t **out) {
    stand_in_t *stand_in = rr__calloc(1, sizeof *stand_in);
    if (!stand_in)
        return RR_ENOMEM;
    stand_in->executor.ops = &stand_in_ops;
    snprintf(stand_in->executor.name, sizeof stand_in->executor.name, "%s", options->name ? options->name : "pool");
    *out = &stand_in->executor;
    return rr_executor_add(system, &stand_in->executor);
}

int rr__replay_create(rr_system_t *system, uint64_t seed, rr__replay_t **out) {
    (void)system;
    rr__replay_t *replay = rr__calloc(1, sizeof *replay);
    if (!replay)
        return RR_ENOMEM;
    replay->runnable = rr__malloc(FIRST_CAPACITY * sizeof *replay->runnable);
    if (!replay->runnable) {
        rr__free(replay);
        return RR_ENOMEM;
    }
    replay->capacity = FIRST_CAPACITY;
    rr_random_seed(&replay->random, seed);
    *out = replay;
    return RR_OK;
}

int rr__replay_start(rr_system_t *system) {
    rr_worker_t *before = rr__current;
    system->replay->worker = rr__worker_attach(system, system->core);
    rr__current = before;
    return system->replay->worker ? RR_OK : RR_ENOMEM;
}

void rr__replay_stop(rr_system_t *system) {
    rr_worker_t *before = rr__current;
    if (system->replay->worker)
        rr_worker_detach(system->replay->worker);
    system->replay->worker = NULL;
    rr__current = before;
}

void rr__replay_destroy(rr__replay_t *replay) {
    if (!replay)
        return;
    rr__free(replay->runnable);
    rr__free(replay);
}

static void trace(rr__replay_t *replay, uint64_t value) {
    replay->trace = (replay->trace ^ value) * 0x9e3779b97f4a7c15ull;
    replay->trace ^= replay->trace >> 29;
}

static void run_one(rr__replay_t *replay) {
    size_t index = rr_random_below(&replay->random, replay->count);
    rr_actor_t *actor = replay->runnable[index];
    replay->runnable[index] = replay->runnable[--replay->count];
    rr_worker_t *worker = replay->worker;
    worker->executor = rr_executor_of(actor);
    worker->executor->turn_messages = 1 + (unsigned)rr_random_below(&replay->random, 8);
    rr_addr_t addr = actor->addr;
    uint64_t before = rr_counted(&worker->messages);
    if (rr_worker_run(worker, actor))
        replay_post(worker->executor, actor);
    trace(replay, addr);
    trace(replay, rr_counted(&worker->messages) - before);
}

/* Nothing is runnable: on to the next timer. False if there is none before the limit. */
static bool jump(rr_system_t *system, uint64_t limit_ns) {
    uint64_t next = rr_worker_timers(system->replay->worker);
    if (system->replay->count)
        return true;
    if (next == UINT64_MAX || next > limit_ns)
        return false;
    rr_clock_set(&system->clock, next);
    (void)rr_worker_timers(system->replay->worker);
    return true;
}

static size_t run(rr_system_t *system, size_t max_turns, uint64_t limit_ns) {
    rr__replay_t *replay = system->replay;
    rr_worker_t *before = rr__current;
    rr__current = replay->worker;
    size_t turns = 0;
    while (turns < max_turns) {
        if (!replay->count && !jump(system, limit_ns))
            break;
        if (!replay->count)
            continue;
        run_one(replay);
        turns++;
    }
    rr__current = before;
    return turns;
}

size_t rr_replay_run(rr_system_t *system, size_t max_turns) {
    return run(system, max_turns ? max_turns : SIZE_MAX, UINT64_MAX - 1);
}

size_t rr_replay_run_until(rr_system_t *system, uint64_t until_ns) {
    size_t turns = run(system, SIZE_MAX, until_ns);
    rr_clock_set(&system->clock, until_ns);
    return turns;
}

uint64_t rr_replay_next(rr_system_t *system) {
    rr_worker_t *before = rr__current;
    rr__current = system->replay->worker;
    uint64_t next = rr_worker_timers(system->replay->worker);
    rr__current = before;
    return system->replay->count ? rr_system_now_ns(system) : next;
}

uint64_t rr_replay_trace(rr_system_t *system) { return system->replay->trace; }
