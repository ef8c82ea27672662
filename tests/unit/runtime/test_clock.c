/* Clocks: the machine's and the virtual one. */
#include "runtime/clock.h"
#include "tests/unit/check_main.h"

START_TEST(machine_clock_moves_forward) {
    rr_clock_t clock;
    rr_clock_init(&clock, false);
    uint64_t before = rr_clock_now(&clock);
    for (int i = 0; i < 1000; i++) {
        uint64_t now = rr_clock_now(&clock);
        ck_assert_uint_ge(now, before);
        before = now;
    }
    ck_assert_uint_gt(rr_clock_wall(&clock), 1700000000ull * RR_NS_PER_S);
    ck_assert_uint_gt(rr_clock_boot(&clock), 0);
}
END_TEST

/* Without the two ticks it would be behind nearly always. In between the thread may lose its CPU, so the first look is the
 * one that it must not be behind, the last one that it must not be far ahead of. */
START_TEST(soon_is_not_before_now_and_not_long_after) {
    rr_clock_t clock;
    rr_clock_init(&clock, false);
    for (uint64_t began = rr_clock_now(&clock), now = began; now - began < 30 * RR_NS_PER_MS;) {
        uint64_t soon = rr_clock_soon(&clock);
        ck_assert_uint_ge(soon, now);
        now = rr_clock_now(&clock);
        ck_assert_uint_le(soon, now + RR_CLOCK_SOON_NS);
    }
}
END_TEST

START_TEST(virtual_clock_obeys) {
    rr_clock_t clock, other;
    rr_clock_init(&clock, true);
    ck_assert_uint_eq(rr_clock_soon(&clock), RR_CLOCK_VIRTUAL_START_NS);
    rr_clock_init(&other, true);
    ck_assert_uint_eq(rr_clock_now(&clock), RR_CLOCK_VIRTUAL_START_NS);
    rr_clock_advance(&clock, 5);
    ck_assert_uint_eq(rr_clock_now(&clock), RR_CLOCK_VIRTUAL_START_NS + 5);
    rr_clock_set(&clock, 7 * RR_NS_PER_S);
    rr_clock_set(&clock, 3); /* never backwards */
    ck_assert_uint_eq(rr_clock_now(&clock), 7 * RR_NS_PER_S);
    ck_assert_uint_eq(rr_clock_boot(&clock), 7 * RR_NS_PER_S);
    ck_assert_uint_eq(rr_clock_wall(&clock), RR_CLOCK_VIRTUAL_EPOCH_NS + 7 * RR_NS_PER_S);
    ck_assert_uint_eq(rr_clock_now(&other), RR_CLOCK_VIRTUAL_START_NS); /* no shared state */
}
END_TEST

START_TEST(machine_time_without_a_system) {
    rr_clock_t clock;
    rr_clock_init(&clock, false);
    uint64_t before = rr_clock_now(&clock), ns = rr_machine_ns(), ms = rr_machine_ms();
    struct timespec in = rr_machine_in(1999999999);
    uint64_t due = (uint64_t)in.tv_sec * RR_NS_PER_S + (uint64_t)in.tv_nsec, after = rr_clock_now(&clock);
    ck_assert(before <= ns && ns <= after);
    ck_assert(ns / RR_NS_PER_MS <= ms && ms <= after / RR_NS_PER_MS);
    ck_assert(ns + 1999999999 <= due && due <= after + 1999999999);
    ck_assert(in.tv_nsec >= 0 && in.tv_nsec < (long)RR_NS_PER_S);
}
END_TEST

CHECK_MAIN("clock", machine_clock_moves_forward, machine_time_without_a_system,
           soon_is_not_before_now_and_not_long_after, virtual_clock_obeys)
