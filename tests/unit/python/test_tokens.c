/* The table of tokens against a plain array. */
#include <check.h>
#include <stdlib.h>

#include "python/tokens.h"

START_TEST(like_an_array) {
    enum { KEYS = 512, STEPS = 200000 };
    static void *model[KEYS + 1];
    rr__tokens_t table = {0};
    size_t count = 0;
    unsigned seed = 1;
    for (int step = 0; step < STEPS; step++) {
        uint64_t key = (uint64_t)rand_r(&seed) % KEYS + 1, wide = key * 0x100000001ull;
        if (rand_r(&seed) % 2) {
            count += !model[key];
            model[key] = &model[key];
            ck_assert_int_eq(rr__tokens_put(&table, wide, &model[key]), RR_OK);
        } else {
            ck_assert_ptr_eq(rr__tokens_take(&table, wide), model[key]);
            count -= model[key] != NULL;
            model[key] = NULL;
        }
        ck_assert_uint_eq(table.count, count);
        key = (uint64_t)rand_r(&seed) % KEYS + 1;
        ck_assert_ptr_eq(rr__tokens_get(&table, key * 0x100000001ull), model[key]);
    }
    uint64_t any;
    while (rr__tokens_any(&table, &any))
        ck_assert_ptr_nonnull(rr__tokens_take(&table, any));
    ck_assert_uint_eq(table.count, 0);
    rr__tokens_free(&table);
}
END_TEST

START_TEST(empty) {
    rr__tokens_t table = {0};
    uint64_t token;
    ck_assert_ptr_null(rr__tokens_get(&table, 1));
    ck_assert_ptr_null(rr__tokens_take(&table, 1));
    ck_assert(!rr__tokens_any(&table, &token));
    rr__tokens_free(&table);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("tokens");
    TCase *tcase = tcase_create("tokens");
    tcase_add_test(tcase, like_an_array);
    tcase_add_test(tcase, empty);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
