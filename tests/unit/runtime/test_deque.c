/* The workers' queues: everything put in comes out once, whoever takes it. */
#include "runtime/deque.h"
#include "tests/unit/runtime/rig.h"

enum { ITEMS = 200000, THIEVES = 3 };

static rr__stack_t stack;
static rr__ring_t ring;
static _Atomic(uint8_t) taken[ITEMS + 1];
static _Atomic(int) finished;
static _Atomic(uint64_t) stolen;

static rr_actor_t *item(uintptr_t number) { return (rr_actor_t *)number; } /* never followed */

static void take(rr_actor_t *actor) {
    MUST((uintptr_t)actor >= 1 && (uintptr_t)actor <= ITEMS);
    MUST(atomic_fetch_add(&taken[(uintptr_t)actor], 1) == 0);
}

static void check_all(void) {
    for (uintptr_t i = 1; i <= ITEMS; i++)
        if (taken[i] != 1)
            ck_abort_msg("item %lu was taken %d times", (unsigned long)i, taken[i]);
}

START_TEST(stack_alone) {
    ck_assert(rr__stack_empty(&stack));
    ck_assert_ptr_null(rr__stack_pop(&stack));
    ck_assert_ptr_null(rr__stack_steal(&stack));
    for (uintptr_t i = 1; i <= RR__STACK_SIZE; i++)
        ck_assert(rr__stack_push(&stack, item(i)));
    ck_assert(!rr__stack_push(&stack, item(9999))); /* full: the caller finds another place */
    ck_assert_ptr_eq(rr__stack_steal(&stack), item(1));
    ck_assert_ptr_eq(rr__stack_pop(&stack), item(RR__STACK_SIZE));
    ck_assert(rr__stack_push(&stack, item(5)));
    ck_assert_ptr_eq(rr__stack_pop(&stack), item(5));
    for (uintptr_t i = RR__STACK_SIZE - 1; i >= 2; i--)
        ck_assert_ptr_eq(rr__stack_pop(&stack), item(i));
    ck_assert_ptr_null(rr__stack_pop(&stack));
}
END_TEST

START_TEST(ring_alone) {
    rr_actor_t *out[RR__RING_SIZE];
    ck_assert_uint_eq(rr__ring_take(&ring, out, 10), 0);
    for (uintptr_t i = 1; i <= RR__RING_SIZE; i++)
        ck_assert(rr__ring_push(&ring, item(i)));
    ck_assert(!rr__ring_push(&ring, item(9999)));
    ck_assert_uint_eq(rr__ring_count(&ring), RR__RING_SIZE);
    ck_assert_uint_eq(rr__ring_take(&ring, out, 1), 1);
    ck_assert_ptr_eq(out[0], item(1));
    ck_assert_uint_eq(rr__ring_take(&ring, out, RR__RING_SIZE), RR__RING_SIZE / 2); /* at most half, oldest first */
    ck_assert_ptr_eq(out[0], item(2));
    uint32_t left = rr__ring_count(&ring);
    while (left)
        left -= rr__ring_take(&ring, out, 100);
    ck_assert_uint_eq(rr__ring_count(&ring), 0);
}
END_TEST

static void *steal_from_stack(void *context) {
    for (;;) {
        bool last = atomic_load(&finished);
        rr_actor_t *actor = rr__stack_steal(&stack);
        if (actor) {
            take(actor);
            atomic_fetch_add(&stolen, 1);
        } else if (last) {
            return NULL;
        }
    }
}

static void *take_from_ring(void *context) {
    rr_actor_t *out[64];
    for (;;) {
        bool last = atomic_load(&finished);
        uint32_t count = rr__ring_take(&ring, out, 64);
        for (uint32_t i = 0; i < count; i++)
            take(out[i]);
        atomic_fetch_add(&stolen, count);
        if (!count && last)
            return NULL;
    }
}

static void start_thieves(pthread_t *threads, void *(*body)(void *)) {
    for (int i = 0; i < THIEVES; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, body, NULL), 0);
}

static void join_thieves(pthread_t *threads) {
    atomic_store(&finished, 1);
    for (int i = 0; i < THIEVES; i++)
        pthread_join(threads[i], NULL);
}

START_TEST(stack_with_thieves) {
    pthread_t threads[THIEVES];
    start_thieves(threads, steal_from_stack);
    for (uintptr_t i = 1; i <= ITEMS;) {
        if (rr__stack_push(&stack, item(i)))
            i++;
        rr_actor_t *mine = i % 3 == 0 ? rr__stack_pop(&stack) : NULL; /* often the very last one: the contested case */
        if (mine)
            take(mine);
        if (i % 5 == 0 && (mine = rr__stack_pop(&stack)))
            take(mine);
    }
    for (rr_actor_t *mine; (mine = rr__stack_pop(&stack));)
        take(mine);
    join_thieves(threads);
    check_all();
}
END_TEST

START_TEST(ring_with_takers) {
    pthread_t threads[THIEVES];
    start_thieves(threads, take_from_ring);
    for (uintptr_t i = 1; i <= ITEMS;) {
        if (rr__ring_push(&ring, item(i)))
            i++;
        rr_actor_t *mine;
        if (i % 3 == 0 && rr__ring_take(&ring, &mine, 1))
            take(mine);
    }
    join_thieves(threads);
    check_all();
}
END_TEST

CHECK_MAIN("deque", stack_alone, ring_alone, stack_with_thieves, ring_with_takers)
