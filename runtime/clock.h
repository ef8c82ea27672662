/* clock.h: where all times come from: the machine, or (replay builds, simulation) a hand that moves only when told to.
 * There is no global clock: each system has its own. */
#ifndef RR_RUNTIME_CLOCK_H
#define RR_RUNTIME_CLOCK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#define RR_NS_PER_MS 1000000ull
#define RR_NS_PER_S 1000000000ull

/* A virtual clock starts at one second, so that 0 is never a time, on this day: 2026-01-01 00:00:00 UTC. */
#define RR_CLOCK_VIRTUAL_START_NS RR_NS_PER_S
#define RR_CLOCK_VIRTUAL_EPOCH_NS (1767225600ull * RR_NS_PER_S)

typedef struct rr_clock {
    bool is_virtual; /* set by rr_clock_init, constant afterwards */
    /* Virtual time. Written by the one thread that drives the simulation, read by any. Release/acquire: who sees the
     * time 5 also sees what the driver did before it became 5. */
    _Atomic(uint64_t) virtual_ns;
    uint64_t ahead_ns; /* of rr_clock_soon: set by rr_clock_init, constant afterwards */
} rr_clock_t;

void rr_clock_init(rr_clock_t *clock, bool is_virtual);

/* Monotonic nanoseconds; only differences mean anything. Any thread. */
uint64_t rr_clock_now(const rr_clock_t *clock);

/* A time that is not before now, and at most RR_CLOCK_SOON_NS after it: for deadlines for which that is nothing. It is the
 * kernel's last tick and two ticks more, for a fourth of rr_clock_now's cost (unless a tick is late by more than a tick, as
 * in a machine that stands still: then it is as much too early). Any thread. */
#define RR_CLOCK_SOON_NS (20 * RR_NS_PER_MS)
uint64_t rr_clock_soon(const rr_clock_t *clock);

/* Nanoseconds of Unix time. A virtual clock counts from RR_CLOCK_VIRTUAL_EPOCH_NS. Any thread. */
uint64_t rr_clock_wall(const rr_clock_t *clock);

/* Nanoseconds that also pass while the machine sleeps (CLOCK_BOOTTIME): for leases that others count too. Any thread. */
uint64_t rr_clock_boot(const rr_clock_t *clock);

/* Moves a virtual clock; never backwards (an earlier time is ignored). Its driving thread only. */
void rr_clock_set(rr_clock_t *clock, uint64_t now_ns);
void rr_clock_advance(rr_clock_t *clock, uint64_t by_ns);

/* The machine's monotonic time, whatever a system's clock says: for what stands outside of systems, as starts, ends and
 * threads that wait for each other. Any thread. */
uint64_t rr_machine_ns(void);
uint64_t rr_machine_ms(void);

/* That time `ns` from now, as sem_clockwait takes it, and a wait for a condition whose clock is CLOCK_MONOTONIC. */
struct timespec rr_machine_in(uint64_t ns);

#endif
