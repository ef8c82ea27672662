/* The timing wheel against a plain list as its model. */
#include <string.h>

#include "runtime/random.h"
#include "runtime/wheel.h"
#include "tests/unit/check_main.h"

#define MS 1000000ull

typedef struct timer {
    rr_wheel_node_t node;
    uint64_t at_ns;
    unsigned fired;
} test_timer_t;

typedef struct run {
    rr_wheel_t *wheel;
    uint64_t now_ns, last_tick;
    test_timer_t *victim, *again;
} run_t;

static void fire(rr_wheel_node_t *node, void *context) {
    test_timer_t *timer = (test_timer_t *)node;
    run_t *run = context;
    if (rr_wheel_pending(node) || timer->at_ns > run->now_ns || node->tick < run->last_tick)
        ck_abort_msg("early or out of order"); /* ck_assert would be slow here */
    run->last_tick = node->tick;
    timer->fired++;
}

START_TEST(fires_in_time_and_order) {
    static rr_wheel_t wheel;
    rr_wheel_init(&wheel, 5 * MS);
    ck_assert_uint_eq(rr_wheel_next(&wheel), UINT64_MAX);
    test_timer_t timers[4] = {{.at_ns = 10 * MS}, {.at_ns = 7 * MS + 1}, {.at_ns = 100 * MS}, {.at_ns = 7 * MS}};
    for (int i = 0; i < 4; i++)
        rr_wheel_add(&wheel, &timers[i].node, timers[i].at_ns);
    ck_assert_uint_eq(rr_wheel_next(&wheel), 7 * MS);
    run_t run = {.wheel = &wheel, .now_ns = 7 * MS - 1};
    ck_assert_uint_eq(rr_wheel_expire(&wheel, run.now_ns, fire, &run), 0);
    run.now_ns = 7 * MS;
    ck_assert_uint_eq(rr_wheel_expire(&wheel, run.now_ns, fire, &run), 1);
    ck_assert_uint_eq(timers[3].fired, 1);
    ck_assert_uint_eq(rr_wheel_next(&wheel), 8 * MS); /* 7 ms + 1 ns is rounded up */
    run.now_ns = 1000 * MS;
    ck_assert_uint_eq(rr_wheel_expire(&wheel, run.now_ns, fire, &run), 3);
    ck_assert_uint_eq(wheel.count, 0);
    ck_assert_uint_eq(rr_wheel_next(&wheel), UINT64_MAX);
}
END_TEST

START_TEST(what_is_late_fires_next_tick) {
    static rr_wheel_t wheel;
    rr_wheel_init(&wheel, 50 * MS);
    test_timer_t timer = {.at_ns = 3 * MS};
    rr_wheel_add(&wheel, &timer.node, timer.at_ns);
    ck_assert_uint_eq(rr_wheel_next(&wheel), 51 * MS);
    run_t run = {.wheel = &wheel, .now_ns = 51 * MS};
    ck_assert_uint_eq(rr_wheel_expire(&wheel, run.now_ns, fire, &run), 1);
}
END_TEST

static void fire_and_meddle(rr_wheel_node_t *node, void *context) {
    run_t *run = context;
    fire(node, context);
    if (run->victim)
        rr_wheel_remove(run->wheel, &run->victim->node); /* due in the same tick */
    if (run->again && !rr_wheel_pending(&run->again->node)) {
        run->again->at_ns = node->tick * MS;
        rr_wheel_add(run->wheel, &run->again->node, 0); /* at once = next tick: must end all the same */
    }
}

START_TEST(callback_may_add_and_remove) {
    static rr_wheel_t wheel;
    rr_wheel_init(&wheel, 0);
    test_timer_t a = {.at_ns = 20 * MS}, b = {.at_ns = 20 * MS};
    rr_wheel_add(&wheel, &a.node, a.at_ns);
    rr_wheel_add(&wheel, &b.node, b.at_ns);
    run_t run = {.wheel = &wheel, .now_ns = 30 * MS, .victim = &b, .again = &a};
    uint64_t fired = rr_wheel_expire(&wheel, run.now_ns, fire_and_meddle, &run);
    ck_assert_uint_eq(fired, 11); /* 20, 21 .. 30 */
    ck_assert_uint_eq(b.fired, 0);
    ck_assert(rr_wheel_pending(&a.node));
    ck_assert(!rr_wheel_remove(&wheel, &b.node));
    ck_assert(rr_wheel_remove(&wheel, &a.node));
    ck_assert_uint_eq(rr_wheel_next(&wheel), UINT64_MAX);
}
END_TEST

static uint64_t random_delay(rr_random_t *random) { /* all levels, short ones often */
    return rr_random_next(random) >> (24 + rr_random_below(random, 40));
}

START_TEST(against_a_model) {
    enum { COUNT = 500, STEPS = 10000 };
    static rr_wheel_t wheel;
    static test_timer_t timers[COUNT];
    for (uint64_t seed = 1; seed <= 8; seed++) {
        rr_random_t random;
        rr_random_seed(&random, seed);
        uint64_t now = random_delay(&random) * 1000;
        rr_wheel_init(&wheel, now);
        memset(timers, 0, sizeof timers);
        run_t run = {.wheel = &wheel};
        uint64_t pending = 0;
        for (int step = 0; step < STEPS; step++) {
            test_timer_t *timer = &timers[rr_random_below(&random, COUNT)];
            if (rr_wheel_pending(&timer->node)) {
                if (rr_random_below(&random, 3) == 0) {
                    ck_assert(rr_wheel_remove(&wheel, &timer->node));
                    pending--;
                }
            } else {
                timer->at_ns = now + random_delay(&random) * 1000;
                timer->fired = 0;
                rr_wheel_add(&wheel, &timer->node, timer->at_ns);
                pending++;
            }
            if (rr_random_below(&random, 4) == 0) {
                now += random_delay(&random) / 16;
                run.now_ns = now;
                pending -= rr_wheel_expire(&wheel, now, fire, &run);
            }
            ck_assert_uint_eq(wheel.count, pending);
            if (step % 32)
                continue;
            uint64_t earliest = UINT64_MAX, next = rr_wheel_next(&wheel);
            for (int i = 0; i < COUNT; i++) {
                if (!rr_wheel_pending(&timers[i].node))
                    continue;
                if (timers[i].node.tick <= now / MS)
                    ck_abort_msg("due but not fired");
                earliest = timers[i].node.tick < earliest ? timers[i].node.tick : earliest;
            }
            ck_assert(earliest == UINT64_MAX ? next == UINT64_MAX : next <= earliest * MS); /* never late */
            ck_assert_uint_gt(next, now);
        }
        while (rr_wheel_pop_any(&wheel))
            pending--;
        ck_assert_uint_eq(pending, 0);
    }
}
END_TEST

START_TEST(jumps_from_next_to_next) { /* as virtual time does: few steps to any time */
    static rr_wheel_t wheel;
    rr_wheel_init(&wheel, 0);
    test_timer_t far = {.at_ns = 365ull * 86400 * 1000 * MS}, never = {.at_ns = UINT64_MAX};
    rr_wheel_add(&wheel, &far.node, far.at_ns);
    rr_wheel_add(&wheel, &never.node, never.at_ns);
    int steps = 0;
    run_t run = {.wheel = &wheel};
    while (!far.fired) {
        run.now_ns = rr_wheel_next(&wheel);
        rr_wheel_expire(&wheel, run.now_ns, fire, &run);
        ck_assert_int_lt(++steps, 20);
    }
    ck_assert_uint_eq(run.now_ns, far.at_ns);
    ck_assert_uint_eq(never.fired, 0);
    ck_assert_ptr_eq(rr_wheel_pop_any(&wheel), &never.node);
    ck_assert_ptr_null(rr_wheel_pop_any(&wheel));
}
END_TEST

CHECK_MAIN("wheel", fires_in_time_and_order, what_is_late_fires_next_tick, callback_may_add_and_remove, against_a_model,
           jumps_from_next_to_next)
