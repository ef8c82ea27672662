/* Relations: what was added and not removed is there, short or long, with an index or without memory for one. */
#include "runtime/list.h"
#include "runtime/random.h"
#include "tests/unit/runtime/rig.h"

enum { KEYS = 3000 };

/* Every key of the model is in the list as often as there, and nothing else. */
static void same(const rr__list_t *list, const uint8_t *model) {
    static uint8_t found[KEYS];
    uint32_t total = 0;
    memset(found, 0, sizeof found);
    for (uint32_t i = 0; i < list->count; i++) {
        ck_assert_uint_eq(list->items[i].id, list->items[i].addr * 7);
        ck_assert_uint_lt(list->items[i].addr, KEYS);
        found[list->items[i].addr]++;
    }
    for (uint32_t i = 0; i < KEYS; i++)
        total += model[i];
    ck_assert_mem_eq(found, model, KEYS);
    ck_assert_uint_eq(list->count, total);
}

static void play(uint32_t keys, uint64_t seed) {
    rr_random_t random;
    rr__list_t list = {0};
    static uint8_t model[KEYS];
    memset(model, 0, sizeof model);
    rr_random_seed(&random, seed);
    for (int step = 0; step < 60000; step++) {
        uint32_t key = (uint32_t)rr_random_below(&random, keys);
        bool more = rr_random_below(&random, 1000) < (step / 10000 % 2 ? 300u : 700u);
        if (more && model[key] < 3) {
            ck_assert_int_eq(rr__list_add(&list, key, key * 7), RR_OK);
            model[key]++;
        } else if (!more) {
            ck_assert(rr__list_remove(&list, key, key * 7) == (model[key] > 0));
            model[key] -= model[key] > 0;
        }
        if (step % 1000 == 0)
            same(&list, model);
    }
    same(&list, model);
    ck_assert(!rr__list_remove(&list, 5, 1)); /* the id counts, too */
    rr__list_clear(&list);
    ck_assert(!rr__list_remove(&list, 5, 35));
    ck_assert_ptr_null(list.items);
}

START_TEST(as_a_model_says) {
    play(20, 42); /* short */
    play(KEYS, 43);
}
END_TEST

START_TEST(index_on_first_need) {
    rr__list_t list = {0};
    for (uint32_t i = 0; i < 1000; i++)
        ck_assert_int_eq(rr__list_add(&list, i, 0), RR_OK);
    ck_assert_ptr_null(list.index);
    ck_assert_uint_eq(list.items[999].addr, 999);
    ck_assert(rr__list_remove(&list, 500, 0));
    ck_assert_ptr_nonnull(list.index);
    rr__list_clear(&list);
}
END_TEST

#ifndef NDEBUG
START_TEST(without_memory) {
    rr__list_t list = {0};
    for (uint32_t i = 0; i < 64; i++)
        ck_assert_int_eq(rr__list_add(&list, i, 1), RR_OK);
    rr__alloc_fail_at(1); /* no index: still found */
    ck_assert(rr__list_remove(&list, 40, 1));
    ck_assert(rr__alloc_failed());
    ck_assert_ptr_null(list.index);
    ck_assert(rr__list_remove(&list, 41, 1));
    ck_assert_ptr_nonnull(list.index);
    for (uint32_t i = 0; i < 2; i++)
        ck_assert_int_eq(rr__list_add(&list, 40 + i, 1), RR_OK);
    rr__alloc_fail_at(1); /* no room: as it was */
    ck_assert_int_eq(rr__list_add(&list, 64, 1), RR_ENOMEM);
    ck_assert_uint_eq(list.count, 64);
    rr__alloc_fail_at(2); /* room, but no greater index */
    ck_assert_int_eq(rr__list_add(&list, 64, 1), RR_OK);
    ck_assert(rr__alloc_failed());
    rr__alloc_fail_at(0);
    for (uint32_t i = 0; i <= 64; i++)
        ck_assert(rr__list_remove(&list, i, 1));
    ck_assert_uint_eq(list.count, 0);
    rr__list_clear(&list);
}
END_TEST
CHECK_MAIN("list", as_a_model_says, index_on_first_need, without_memory)
#else
CHECK_MAIN("list", as_a_model_says, index_on_first_need)
#endif
