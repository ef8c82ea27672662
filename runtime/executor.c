#include "runtime/executor.h"

#include "runtime/alloc.h"
#include "runtime/system.h"

/* ---- Workers ---------------------------------------------------------------------------------------------------- */

rr_worker_t *rr_worker_current(void) { return rr__current; }
rr_executor_t *rr_worker_executor(rr_worker_t *worker) { return worker->executor; }
unsigned rr_worker_id(const rr_worker_t *worker) { return worker->id; }

/* Under the lock: a free number and the pool that goes with it. */
static bool number_worker(rr_system_t *system, rr_worker_t *worker) {
    for (unsigned id = 0; id < RR__MAX_WORKERS; id++) {
        if (system->workers[id])
            continue;
        rr__pool_t *pool = atomic_load_explicit(&system->pools[id], memory_order_relaxed);
        if (!pool)
            pool = rr__pool_new(id);
        if (!pool)
            return false;
        atomic_store_explicit(&system->pools[id], pool, memory_order_release);
        worker->id = id;
        worker->pool = pool;
        system->workers[id] = worker;
        return true;
    }
    return false;
}

rr_worker_t *rr__worker_attach(rr_system_t *system, rr_executor_t *executor) {
    rr_worker_t *worker = rr__aligned_alloc(64, (sizeof *worker + 63) & ~(size_t)63);
    if (!worker)
        return NULL;
    memset(worker, 0, sizeof *worker);
    worker->system = system;
    worker->executor = executor;
    worker->now_ns = rr_clock_now(&system->clock);
    rr_wheel_init(&worker->wheel, worker->now_ns);
    atomic_store_explicit(&worker->timer_next_ns, UINT64_MAX, memory_order_relaxed);
    pthread_mutex_init(&worker->timer_lock, NULL);
    pthread_mutex_lock(&system->lock);
    bool numbered = number_worker(system, worker);
    pthread_mutex_unlock(&system->lock);
    if (!numbered) {
        pthread_mutex_destroy(&worker->timer_lock);
        rr__free(worker);
        return NULL;
    }
    atomic_fetch_add_explicit(&system->running_threads, 1, memory_order_relaxed);
    rr__current = worker;
    return worker;
}

rr_worker_t *rr_worker_attach(rr_executor_t *executor) { return rr__worker_attach(executor->system, executor); }

void rr_worker_idle(rr_worker_t *worker) { rr__pool_flush(worker->system, worker->pool); }

void rr_worker_asleep(rr_worker_t *worker, bool asleep) {
    if (asleep)
        rr__pool_flush(worker->system, worker->pool);
    atomic_fetch_add_explicit(&worker->system->running_threads, asleep ? -1 : 1, memory_order_relaxed);
}

/* Timers still armed here belong to living actors: the system keeps the worker until it is destroyed, and the overseer, or
 * the actors' own next turns, look after its wheel. */
void rr_worker_detach(rr_worker_t *worker) {
    rr_system_t *system = worker->system;
    rr_worker_host(worker, false);
    rr__pools_left(worker);
    rr__directory_cache_flush(&system->directory, &worker->cache);
    rr_worker_asleep(worker, true);
    rr__current = NULL;
    pthread_mutex_lock(&system->lock);
    system->workers[worker->id] = NULL;
    rr_count(&system->retired_turns, rr_counted(&worker->turns));
    rr_count(&system->retired_messages, rr_counted(&worker->messages));
    worker->next_retired = system->retired;
    system->retired = worker;
    pthread_mutex_unlock(&system->lock);
}

/* ---- Executors -------------------------------------------------------------------------------------------------- */

int rr_executor_add(rr_system_t *system, rr_executor_t *executor) {
    executor->system = system;
    pthread_mutex_lock(&system->lock);
    executor->next = system->executors;
    system->executors = executor;
    if (executor->pinned)
        atomic_store_explicit(&system->has_loops, true, memory_order_relaxed);
    bool start = system->started && !system->stopped;
    pthread_mutex_unlock(&system->lock);
    return start && executor->ops->start ? executor->ops->start(executor) : RR_OK;
}

rr_executor_t *rr_system_core(rr_system_t *system) { return system->core; }

/* ---- Run queue of pinned executors ------------------------------------------------------------------------------- */

bool rr_runqueue_push(rr_runqueue_t *queue, rr_actor_t *actor) {
    rr_actor_t *old = atomic_load_explicit(&queue->posted, memory_order_relaxed);
    do
        actor->run_next = old;
    while (!atomic_compare_exchange_weak_explicit(&queue->posted, &old, actor, memory_order_release,
                                                  memory_order_relaxed));
    return !old;
}

/* The posted ones, newest first, go behind those that are queued, oldest first. */
static void take_posted(rr_runqueue_t *queue) {
    rr_actor_t *actor = atomic_exchange_explicit(&queue->posted, NULL, memory_order_acquire), *first = NULL;
    if (!actor)
        return;
    rr_actor_t *last = actor;
    while (actor) {
        rr_actor_t *next = actor->run_next;
        actor->run_next = first;
        first = actor;
        actor = next;
    }
    if (queue->first)
        queue->last->run_next = first;
    else
        queue->first = first;
    queue->last = last;
}

rr_actor_t *rr_runqueue_pop(rr_runqueue_t *queue) {
    if (!queue->first)
        take_posted(queue);
    rr_actor_t *actor = queue->first;
    if (actor)
        queue->first = actor->run_next;
    return actor;
}

bool rr_runqueue_empty(rr_runqueue_t *queue) {
    return !queue->first && !atomic_load_explicit(&queue->posted, memory_order_acquire);
}
