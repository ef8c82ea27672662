#include "runtime/census.h"

#include "runtime/system.h"

static void count_own(_Atomic(uint64_t) *counter, memory_order order) {
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + 1, order);
}

static rr_worker_t *my_worker(const rr_system_t *system) {
    return rr__current && rr__current->system == system ? rr__current : NULL;
}

static uint64_t next_serial(rr__census_t *census, rr__serials_t *serials) {
    if (!serials->left) {
        serials->next = atomic_fetch_add_explicit(&census->serial, RR__SERIALS, memory_order_relaxed) + 1;
        serials->left = RR__SERIALS;
    }
    serials->left--;
    return serials->next++;
}

uint64_t rr__census_spawned(rr_system_t *system) {
    rr__census_t *census = &system->census;
    rr_worker_t *worker = my_worker(system);
    if (worker) {
        count_own(&worker->pool->tally.spawned, memory_order_relaxed);
        return next_serial(census, &worker->serials);
    }
    atomic_fetch_add_explicit(&census->elsewhere.spawned, 1, memory_order_relaxed);
    return atomic_fetch_add_explicit(&census->serial, 1, memory_order_relaxed) + 1;
}

void rr__census_ended(rr_system_t *system) {
    rr_worker_t *worker = my_worker(system);
    if (worker)
        count_own(&worker->pool->tally.ended, memory_order_seq_cst);
    else
        atomic_fetch_add(&system->census.elsewhere.ended, 1);
}

/* Numbers are given out from 0 and keep their pools, so the first without one ends the list. */
static const rr__tally_t *tally_of(rr_system_t *system, unsigned number) {
    rr__pool_t *pool = number < RR__MAX_WORKERS
                           ? atomic_load_explicit(&system->pools[number], memory_order_acquire)
                           : NULL;
    return pool ? &pool->tally : NULL;
}

static uint64_t all_ended(rr_system_t *system) {
    uint64_t sum = atomic_load(&system->census.elsewhere.ended);
    const rr__tally_t *tally;
    for (unsigned i = 0; (tally = tally_of(system, i)); i++)
        sum += atomic_load((_Atomic(uint64_t) *)&tally->ended);
    return sum;
}

uint64_t rr__census_total(rr_system_t *system) {
    uint64_t sum = atomic_load_explicit(&system->census.elsewhere.spawned, memory_order_relaxed);
    const rr__tally_t *tally;
    for (unsigned i = 0; (tally = tally_of(system, i)); i++)
        sum += atomic_load_explicit((_Atomic(uint64_t) *)&tally->spawned, memory_order_relaxed);
    return sum;
}

/* Ends first, then spawns: each end that was seen brings its actor's spawn with it. Are they as many, then those that were
 * seen to be spawned are those that were seen to end; and whoever one of them had spawned before its end was seen, too. */
uint64_t rr__census_living(rr_system_t *system) {
    uint64_t ended = all_ended(system);
    return rr__census_total(system) - ended;
}
