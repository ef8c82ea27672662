/* The rank tests against values known from published tables and by counting by hand. */
#include "bench/statistics.h"
#include "tests/unit/check_main.h"

START_TEST(test_signed_rank_extremes) {
    double all_up[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    ck_assert_double_eq_tol(statistics_signed_rank(all_up, 8), 2.0 / 256, 1e-12);
    double balanced[4] = {1, -1, 2, -2};
    ck_assert_double_eq_tol(statistics_signed_rank(balanced, 4), 1, 1e-12);
    double nothing[3] = {0, 0, 0};
    ck_assert_double_eq_tol(statistics_signed_rank(nothing, 3), 1, 1e-12);
}
END_TEST

START_TEST(test_signed_rank_known) {
    /* ranks 1..5, only rank 1 negative: W- = 1; P(W <= 1) = 2 / 32, two-sided 4 / 32 */
    double d[5] = {-1, 2, 3, 4, 5};
    ck_assert_double_eq_tol(statistics_signed_rank(d, 5), 4.0 / 32, 1e-12);
}
END_TEST

START_TEST(test_rank_sum_known) {
    double a[5] = {1, 2, 3, 4, 5}, b[5] = {6, 7, 8, 9, 10};
    ck_assert_double_eq_tol(statistics_rank_sum(a, 5, b, 5), 2.0 / 252, 1e-12);
    double c[3] = {1, 2, 4}, d[3] = {3, 5, 6}; /* rank sum 7 of 6..15: 1 + 1 of 20 ways are <= 7 */
    ck_assert_double_eq_tol(statistics_rank_sum(c, 3, d, 3), 4.0 / 20, 1e-12);
    double same[4] = {5, 5, 5, 5};
    ck_assert_double_eq_tol(statistics_rank_sum(same, 4, same, 4), 1, 1e-12);
}
END_TEST

START_TEST(test_shifts) {
    double a[3] = {1, 2, 3}, b[3] = {11, 12, 13}, d[3] = {1, 2, 9};
    ck_assert_double_eq_tol(statistics_shift(a, 3, b, 3), 10, 1e-12);
    ck_assert_double_eq_tol(statistics_shift_paired(d, 3), 3.5, 1e-12); /* 1 1.5 2 5 5.5 9 */
}
END_TEST

CHECK_MAIN("statistics", test_signed_rank_extremes, test_signed_rank_known, test_rank_sum_known, test_shifts)
