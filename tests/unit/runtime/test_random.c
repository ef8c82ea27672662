/* Randomness: reproducible, in range, without gross bias. */
#include <string.h>

#include "runtime/random.h"
#include "tests/unit/check_main.h"

START_TEST(same_seed_same_numbers) {
    rr_random_t a, b, c;
    rr_random_seed(&a, 42);
    rr_random_seed(&b, 42);
    rr_random_seed(&c, 43);
    int differs = 0;
    for (int i = 0; i < 1000; i++) {
        uint64_t x = rr_random_next(&a);
        ck_assert_uint_eq(x, rr_random_next(&b));
        differs += x != rr_random_next(&c);
    }
    ck_assert_int_eq(differs, 1000);
}
END_TEST

START_TEST(reference_vector) { /* s = {1, 2, 3, 4}: worked out by hand from the definition */
    rr_random_t random = {{1, 2, 3, 4}};
    ck_assert_uint_eq(rr_random_next(&random), 11520);
    ck_assert_uint_eq(rr_random_next(&random), 0);
    ck_assert_uint_eq(rr_random_next(&random), 1509978240);
}
END_TEST

START_TEST(below_is_uniform) {
    rr_random_t random;
    rr_random_seed(&random, 0);
    unsigned seen[7] = {0};
    for (int i = 0; i < 70000; i++)
        seen[rr_random_below(&random, 7)]++;
    for (int i = 0; i < 7; i++) { /* 10,000 expected, standard deviation about 93 */
        ck_assert_uint_gt(seen[i], 9500);
        ck_assert_uint_lt(seen[i], 10500);
    }
    for (int i = 0; i < 100; i++)
        ck_assert_uint_eq(rr_random_below(&random, 1), 0);
    uint64_t huge = (1ull << 63) + 1; /* half of all draws are rejected */
    for (int i = 0; i < 1000; i++)
        ck_assert_uint_lt(rr_random_below(&random, huge), huge);
}
END_TEST

START_TEST(from_the_kernel) {
    uint8_t a[300] = {0}, b[300] = {0};
    ck_assert_int_eq(rr_random_os(a, sizeof a), RR_OK);
    ck_assert_int_eq(rr_random_os(b, sizeof b), RR_OK);
    ck_assert_int_ne(memcmp(a, b, sizeof a), 0);
    ck_assert_int_eq(rr_random_os(NULL, 0), RR_OK);
}
END_TEST

CHECK_MAIN("random", same_seed_same_numbers, reference_vector, below_is_uniform, from_the_kernel)
