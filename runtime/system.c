#include "runtime/system.h"

#include <sched.h>
#include <time.h>

#include "runtime/alloc.h"
#include "runtime/clock.h"
#include "runtime/fence.h"
#include "runtime/log.h"
#include "runtime/replay.h"
#include "runtime/replay_run.h"

#define DEFAULT_MAX_ACTORS (4u << 20)
#define MAX_ACTORS         0xffffffu

void rr_options_init(rr_options_t *options) {
    *options = (rr_options_t){.node = 1, .max_actors = DEFAULT_MAX_ACTORS, .log_level = RR_INFO, .log_screen = true};
#ifdef RR_REPLAY
    options->replay = true;
#endif
}

rr__metrics_t *rr__system_metrics(rr_system_t *system) { return system->metrics; }
unsigned rr_system_node(const rr_system_t *system) { return system->node; }
uint64_t rr_system_now_ns(rr_system_t *system) { return rr_clock_now(&system->clock); }

size_t rr_system_actor_count(rr_system_t *system) {
    return rr__census_living(system);
}

uint64_t rr_system_random(rr_system_t *system) {
    pthread_mutex_lock(&system->lock);
    uint64_t number = rr_random_next(&system->random);
    pthread_mutex_unlock(&system->lock);
    return number;
}

void rr_log(rr_system_t *system, rr_level_t level, const char *class, const char *format, ...) {
    if (!rr__log_enabled(system->log, level, class))
        return;
    va_list args;
    va_start(args, format);
    rr__log_write(system->log, level, class, format, args);
    va_end(args);
}

void rr_print(rr_system_t *system, const void *bytes, size_t size) { rr__log_raw(system->log, bytes, size); }
void rr_log_reopen(rr_system_t *system) { rr__log_reopen(system->log); }

/* ---- Metrics of the runtime itself ------------------------------------------------------------------------------- */

static void collect_pool(rr_metrics_writer_t *writer, rr_executor_t *executor) {
    rr_pool_stats_t stats;
    rr_pool_stats(executor, &stats);
    if (!stats.threads)
        return;
    char labels[96] = "";
    rr_metrics_label(labels, sizeof labels, "pool", executor->name);
    const rr_metric_type_t counter = RR_METRIC_COUNTER, gauge = RR_METRIC_GAUGE;
    rr_metrics_write(writer, "rr_pool_threads", gauge, "Workers wanted.", labels, stats.threads);
    rr_metrics_write(writer, "rr_pool_parked", gauge, "Workers asleep.", labels, stats.parked);
    rr_metrics_write(writer, "rr_pool_spares", gauge, "Spare threads started.", labels, stats.spares);
    rr_metrics_write(writer, "rr_pool_turns_total", counter, "Turns run.", labels, (double)stats.turns);
    rr_metrics_write(writer, "rr_pool_messages_total", counter, "Messages handled.", labels, (double)stats.messages);
    rr_metrics_write(writer, "rr_pool_steals_total", counter, "Steals.", labels, (double)stats.steals);
    rr_metrics_write(writer, "rr_pool_parks_total", counter, "Times a worker went to sleep.", labels,
                     (double)stats.parks);
    rr_metrics_write(writer, "rr_pool_wakes_total", counter, "Times a worker was woken.", labels, (double)stats.wakes);
    rr_metrics_write(writer, "rr_pool_stuck_total", counter, "Turns so long that the worker was replaced.", labels,
                     (double)stats.stuck);
    rr_metrics_write(writer, "rr_pool_spare_limit_hits_total", counter, "Times no further spare thread was allowed.",
                     labels, (double)stats.spare_limit_hits);
    rr_metrics_write(writer, "rr_pool_guest_turns_total", counter, "Turns on the threads of loops.", labels,
                     (double)stats.guest_turns);
}

static void collect(void *context, rr_metrics_writer_t *writer) {
    rr_system_t *system = context;
    const rr_metric_type_t counter = RR_METRIC_COUNTER;
    rr_metrics_write(writer, "rr_actors", RR_METRIC_GAUGE, "Living actors.", NULL,
                     (double)rr_system_actor_count(system));
    rr_metrics_write(writer, "rr_actors_spawned_total", counter, "Actors spawned.", NULL,
                     (double)rr__census_total(system));
    rr_metrics_write(writer, "rr_dead_letters_total", counter, "Messages that could not be delivered.", NULL,
                     (double)rr_counted(&system->dead.count));
    rr_metrics_write(writer, "rr_dead_letters_untold_total", counter,
                     "Times that who watches them was not told of one: it had too many to look at.", NULL,
                     (double)rr_counted(&system->dead.untold));
    rr_metrics_write(writer, "rr_dead_letter_watchers", RR_METRIC_GAUGE, "Actors that are told of dead letters.", NULL,
                     (double)atomic_load_explicit(&system->dead.watched, memory_order_relaxed));
    rr_metrics_write(writer, "rr_late_replies_total", counter, "Replies to calls that were over.", NULL,
                     (double)rr_counted(&system->late_replies));
    rr_metrics_write(writer, "rr_mailbox_refused_total", counter, "Messages refused or shed by full mailboxes.", NULL,
                     (double)rr_counted(&system->refused));
    rr_metrics_write(writer, "rr_log_lines_total", counter, "Lines logged.", NULL, (double)rr__log_lines(system->log));
    rr_metrics_write(writer, "rr_log_dropped_total", counter, "Lines that did not fit into the log's queue.", NULL,
                     (double)rr__log_dropped(system->log));
    rr_metrics_write(writer, "rr_log_lost_total", counter, "Lines that the log's file or screen did not take: disk full.", NULL,
                     (double)rr__log_lost(system->log));
    for (rr_executor_t *executor = system->executors; executor; executor = executor->next)
        collect_pool(writer, executor);
}

/* ---- Making one -------------------------------------------------------------------------------------------------- */

static unsigned count_cpus(void) {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set))
        return 1;
    return (unsigned)CPU_COUNT(&set);
}

static void init_locks(rr_system_t *system) {
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&system->changed, &attr);
    pthread_condattr_destroy(&attr);
    pthread_mutex_init(&system->lock, NULL);
    rr__overseer_init(&system->overseer);
    rr__names_init(&system->names);
    rr__lease_init(&system->lease);
    rr__dead_letters_init(&system->dead);
}

static int open_log(rr_system_t *system, const rr_options_t *options) {
    rr__log_options_t log = {
        .level = options->log_level,
        .classes = options->log_classes,
        .screen = options->log_screen,
        .path = options->log_path,
        .file = options->log_file,
        .clock = &system->clock,
    };
    return rr__log_create(&system->log, &log);
}

static int seed(rr_system_t *system, uint64_t number) {
    int rc = number ? RR_OK : rr_random_os(&number, sizeof number);
    rr_random_seed(&system->random, number);
    if (rc == RR_OK && system->options.replay)
        rc = rr__replay_create(system, rr_random_next(&system->random), &system->replay);
    return rc;
}

static int create_core(rr_system_t *system) {
    rr_pool_options_t core = {.name = "core", .threads = system->options.core_threads};
    int rc = rr_pool_create(system, &core, &system->core);
    return rc == RR_OK ? rr__metrics_add(system->metrics, collect, system) : rc;
}

int rr_system_create(rr_system_t **out, const rr_options_t *options) {
    if (options->node < 1 || options->node > 65535 || options->max_actors < 1 || options->max_actors > MAX_ACTORS)
        return RR_EINVAL;
    rr_system_t *system = rr__aligned_alloc(64, (sizeof *system + 63) & ~(size_t)63);
    if (!system)
        return RR_ENOMEM;
    memset(system, 0, sizeof *system);
    system->options = *options;
    system->node = options->node;
    system->cpus = count_cpus();
    rr_clock_init(&system->clock, options->replay);
    init_locks(system);
    int rc = rr__directory_init(&system->directory, options->node, options->max_actors);
    system->has_directory = rc == RR_OK;
    if (rc == RR_OK)
        rc = rr__remote_create(&system->remote);
    if (rc == RR_OK)
        rc = rr__fence_create(&system->fence);
    if (rc == RR_OK)
        rc = open_log(system, options);
    if (rc == RR_OK)
        rc = rr__metrics_create(&system->metrics);
    if (rc == RR_OK)
        rc = seed(system, options->seed);
    if (rc == RR_OK)
        rc = create_core(system);
    if (rc == RR_OK)
        *out = system;
    else
        rr_system_destroy(system);
    return rc;
}

/* Newest first in the list, so recursion starts the oldest first. */
static int start_from(rr_executor_t *executor) {
    if (!executor)
        return RR_OK;
    int rc = start_from(executor->next);
    return rc == RR_OK && executor->ops->start ? executor->ops->start(executor) : rc;
}

int rr_system_start(rr_system_t *system) {
    pthread_mutex_lock(&system->lock);
    bool again = system->started;
    system->started = true;
    rr_executor_t *executors = system->executors;
    pthread_mutex_unlock(&system->lock);
    if (again)
        return RR_ESTATE;
    int rc = system->replay ? rr__replay_start(system) : rr__overseer_start(system);
    return rc == RR_OK ? start_from(executors) : rc;
}

/* ---- Waiting ----------------------------------------------------------------------------------------------------- */

void rr__actor_gone(rr_system_t *system) {
    rr__census_ended(system);
    if (__builtin_expect(atomic_load(&system->waiters) > 0, 0)) {
        pthread_mutex_lock(&system->lock);
        pthread_cond_broadcast(&system->changed);
        pthread_mutex_unlock(&system->lock);
    }
}

typedef bool (*condition_t)(rr_system_t *system, rr_addr_t addr);

/* Waits for a condition that only an actor's end can make true. until NULL = for ever. */
static bool wait_for(rr_system_t *system, condition_t condition, rr_addr_t addr, const struct timespec *until) {
    if (system->replay) {
        while (!condition(system, addr) && rr_replay_run(system, 1))
            ;
        return condition(system, addr);
    }
    atomic_fetch_add(&system->waiters, 1);
    pthread_mutex_lock(&system->lock);
    int rc = 0;
    while (!condition(system, addr) && !rc)
        rc = until ? pthread_cond_timedwait(&system->changed, &system->lock, until)
                   : pthread_cond_wait(&system->changed, &system->lock);
    bool met = condition(system, addr);
    pthread_mutex_unlock(&system->lock);
    atomic_fetch_sub(&system->waiters, 1);
    return met;
}

static bool nobody_left(rr_system_t *system, rr_addr_t addr) {
    (void)addr;
    return rr__census_living(system) == 0;
}

static bool is_gone(rr_system_t *system, rr_addr_t addr) { return !rr__directory_find(&system->directory, addr); }

bool rr_system_wait_idle(rr_system_t *system, unsigned timeout_ms) {
    struct timespec until = rr_machine_in(timeout_ms * RR_NS_PER_MS);
    return wait_for(system, nobody_left, RR_NOBODY, timeout_ms ? &until : NULL);
}

/* ---- Drain and stop ---------------------------------------------------------------------------------------------- */

static int newest_first(const void *a, const void *b) {
    uint64_t x = ((const rr__listed_t *)a)->serial, y = ((const rr__listed_t *)b)->serial;
    return x < y ? 1 : x > y ? -1 : 0;
}

static size_t list_newest_first(rr_system_t *system, rr__listed_t **list) {
    size_t count = rr__directory_list(&system->directory, list);
    if (count)
        qsort(*list, count, sizeof **list, newest_first);
    return count;
}

static bool drain_all(rr_system_t *system, const struct timespec *until) {
    bool in_time = true;
    while (in_time && rr_system_actor_count(system)) {
        rr__listed_t *list;
        size_t count = list_newest_first(system, &list);
        for (size_t i = 0; i < count && in_time; i++) {
            if (rr__control_send(system, list[i].addr, RR_NOBODY, RR__DRAIN, 0))
                in_time = wait_for(system, is_gone, list[i].addr, until);
        }
        rr__free(list);
        if (!count) /* withdrawn, but not yet counted as gone */
            in_time = wait_for(system, nobody_left, RR_NOBODY, until);
    }
    return in_time;
}

static void kill_all(rr_system_t *system) {
    rr__listed_t *list;
    size_t count = list_newest_first(system, &list);
    for (size_t i = 0; i < count; i++)
        rr_kill(system, list[i].addr, RR_CANCELLED);
    rr__free(list);
    if (count) {
        struct timespec until = rr_machine_in(RR_NS_PER_S);
        (void)wait_for(system, nobody_left, RR_NOBODY, &until);
    }
}

int rr_system_drain(rr_system_t *system, unsigned deadline_ms) {
    struct timespec until = rr_machine_in(deadline_ms * RR_NS_PER_MS);
    atomic_store_explicit(&system->draining, true, memory_order_relaxed);
    if (drain_all(system, &until))
        return RR_OK;
    kill_all(system);
    return RR_TIMEOUT;
}

bool rr__system_draining(rr_system_t *system) {
    return atomic_load_explicit(&system->draining, memory_order_relaxed);
}

static void finish_rest(rr_system_t *system) {
    rr_worker_t *before = rr__current;
    rr_worker_t *worker = rr__worker_attach(system, system->core);
    if (worker) {
        rr__listed_t *list;
        size_t count;
        while ((count = list_newest_first(system, &list))) {
            for (size_t i = 0; i < count; i++) {
                rr_actor_t *actor = rr__directory_find(&system->directory, list[i].addr);
                if (actor)
                    rr__finish_now(system, actor, RR_CANCELLED);
            }
            rr__free(list);
        }
        rr_worker_detach(worker);
    }
    rr__current = before;
}

bool rr_system_stop(rr_system_t *system) {
    pthread_mutex_lock(&system->lock);
    bool again = system->stopped || !system->started;
    system->stopped = true;
    atomic_store_explicit(&system->draining, true, memory_order_relaxed);
    bool clean = !system->left_behind;
    pthread_mutex_unlock(&system->lock);
    if (!again) {
        rr__overseer_stop(system);
        for (rr_executor_t *executor = system->executors; executor; executor = executor->next)
            clean = (!executor->ops->stop || executor->ops->stop(executor)) && clean;
        if (system->replay)
            rr__replay_stop(system);
        pthread_mutex_lock(&system->lock);
        system->left_behind = !clean;
        pthread_mutex_unlock(&system->lock);
    }
    if (clean && system->has_directory)
        finish_rest(system);
    return clean;
}

void rr_system_flush_log(rr_system_t *system) { rr__log_flush(system->log); }

static void free_executors(rr_system_t *system) {
    for (rr_executor_t *executor = system->executors, *next; executor; executor = next) {
        next = executor->next;
        if (executor->ops->destroy)
            executor->ops->destroy(executor);
    }
}

static void free_workers(rr_system_t *system) {
    for (rr_worker_t *worker = system->retired, *next; worker; worker = next) {
        next = worker->next_retired;
        pthread_mutex_destroy(&worker->timer_lock);
        rr__free(worker);
    }
    for (unsigned i = 0; i < RR__MAX_WORKERS; i++)
        rr__pool_destroy(atomic_load_explicit(&system->pools[i], memory_order_relaxed));
}

void rr_system_destroy(rr_system_t *system) {
    if (!system || !rr_system_stop(system))
        return;
    free_executors(system);
    free_workers(system);
    rr__sheets_free(&system->sheets);
    if (system->has_directory)
        rr__directory_destroy(&system->directory);
    rr__names_destroy(&system->names);
    rr__lease_destroy(&system->lease);
    rr__dead_letters_destroy(&system->dead);
    rr__remote_destroy(system->remote);
    rr__fence_destroy(system->fence);
    rr__metrics_destroy(system->metrics);
    rr__log_destroy(system->log);
    rr__replay_destroy(system->replay);
    pthread_mutex_destroy(&system->lock);
    pthread_cond_destroy(&system->changed);
    pthread_mutex_destroy(&system->overseer.lock);
    pthread_cond_destroy(&system->overseer.wake);
    rr__free(system);
}
