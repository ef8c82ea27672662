/* clock.c: real and virtual time. */
#include "runtime/clock.h"

#include <assert.h>

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
    struct timespec tick = {0};
    bool known = !is_virtual && clock_getres(CLOCK_MONOTONIC_COARSE, &tick) == 0 && tick.tv_sec == 0;
    clock->ahead_ns = known && (uint64_t)tick.tv_nsec * 2 <= RR_CLOCK_SOON_NS ? (uint64_t)tick.tv_nsec * 2 : 0;
}

uint64_t rr_clock_now(const rr_clock_t *clock) {
    return clock->is_virtual ? virtual_time(clock) : machine_time(CLOCK_MONOTONIC);
}

uint64_t rr_clock_soon(const rr_clock_t *clock) {
    return clock->ahead_ns ? machine_time(CLOCK_MONOTONIC_COARSE) + clock->ahead_ns : rr_clock_now(clock);
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

uint64_t rr_machine_ns(void) {
    return machine_time(CLOCK_MONOTONIC);
}

uint64_t rr_machine_ms(void) {
    return machine_time(CLOCK_MONOTONIC) / RR_NS_PER_MS;
}

struct timespec rr_machine_in(uint64_t ns) {
    uint64_t until = machine_time(CLOCK_MONOTONIC) + ns;
    return (struct timespec){.tv_sec = (time_t)(until / RR_NS_PER_S), .tv_nsec = (long)(until % RR_NS_PER_S)};
}
