/* clock.c: real and virtual time. */
#include "runtime/clock.h"

#include <assert.h>
#include <time.h>

static uint64_t machine_time(clockid_t id) {
    struct timespec now;
    int rc = clock_gettime(id, &now);
    assert(rc == 0); /* fails only for an unknown clock */
    (void)rc;
    return (uint64_t)now.tv_sec * RR_NS_PER_S + (uint64_t)now.tv_nsec;
}

static uint64_t virtual_time(const rr_clock_t *clock) {
    return atomic_load_explicit(&((rr_clock_t *)clock)->virtual_ns, memory_order_acquire);
}

void rr_clock_init(rr_clock_t *clock, bool is_virtual) {
    clock->is_virtual = is_virtual;
    atomic_init(&clock->virtual_ns, RR_CLOCK_VIRTUAL_START_NS);
}

uint64_t rr_clock_now(const rr_clock_t *clock) {
    return clock->is_virtual ? virtual_time(clock) : machine_time(CLOCK_MONOTONIC);
}

uint64_t rr_clock_wall(const rr_clock_t *clock) {
    return clock->is_virtual ? RR_CLOCK_VIRTUAL_EPOCH_NS + virtual_time(clock) : machine_time(CLOCK_REALTIME);
}

uint64_t rr_clock_boot(const rr_clock_t *clock) {
    return clock->is_virtual ? virtual_time(clock) : machine_time(CLOCK_BOOTTIME);
}

void rr_clock_set(rr_clock_t *clock, uint64_t now_ns) {
    assert(clock->is_virtual);
    if (now_ns > virtual_time(clock))
        atomic_store_explicit(&clock->virtual_ns, now_ns, memory_order_release);
}

void rr_clock_advance(rr_clock_t *clock, uint64_t by_ns) { rr_clock_set(clock, virtual_time(clock) + by_ns); }
