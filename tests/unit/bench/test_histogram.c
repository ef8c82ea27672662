/* The histogram's layout, its precision, and what it answers. */
#include "bench/histogram.h"
#include "tests/unit/check_main.h"

START_TEST(test_slots_cover_everything_in_order) {
    uint64_t before = 0;
    ck_assert_uint_eq(histogram_slot(0), 0);
    for (unsigned slot = 0; slot < HISTOGRAM_SLOTS; slot++) {
        uint64_t top = histogram_slot_top(slot);
        ck_assert_uint_eq(histogram_slot(top), slot);
        if (slot > 0) {
            ck_assert_uint_gt(top, before);
            ck_assert_uint_eq(histogram_slot(before + 1), slot); /* no gap */
        }
        before = top;
    }
    ck_assert_uint_eq(before, HISTOGRAM_TOP);
    ck_assert_uint_eq(histogram_slot(UINT64_MAX), HISTOGRAM_SLOTS - 1);
}
END_TEST

START_TEST(test_three_significant_digits) {
    uint64_t v = 1;
    for (unsigned i = 0; i < 400 && v < HISTOGRAM_TOP; i++, v += v / 10 + 1) {
        uint64_t top = histogram_slot_top(histogram_slot(v));
        ck_assert_uint_ge(top, v);
        ck_assert_double_le((double)(top - v), (double)v / 1000.0);
    }
}
END_TEST

START_TEST(test_percentiles_of_known_values) {
    histogram_t *h = histogram_new();
    ck_assert_uint_eq(histogram_percentile(h, 50), 0);
    for (uint64_t v = 1; v <= 1000; v++)
        histogram_record(h, v);
    ck_assert_uint_eq(h->total, 1000);
    ck_assert_uint_eq(histogram_percentile(h, 50), 500);
    ck_assert_uint_eq(histogram_percentile(h, 90), 900);
    ck_assert_uint_eq(histogram_percentile(h, 99), 990);
    ck_assert_uint_eq(histogram_percentile(h, 99.9), 999);
    ck_assert_uint_eq(histogram_percentile(h, 100), 1000);
    ck_assert_uint_eq(histogram_percentile(h, 0), 1);
    ck_assert_double_eq_tol(histogram_mean(h), 500.5, 0.001);
    histogram_free(h);
}
END_TEST

START_TEST(test_large_values_keep_their_maximum) {
    histogram_t *h = histogram_new();
    histogram_record(h, 1);
    histogram_record(h, 123456789);
    ck_assert_uint_eq(h->max, 123456789);
    ck_assert_uint_eq(histogram_percentile(h, 99.9), 123456789); /* not the step's edge beyond it */
    histogram_record(h, UINT64_MAX);
    ck_assert_uint_eq(h->max, UINT64_MAX);
    ck_assert_uint_eq(h->counts[HISTOGRAM_SLOTS - 1], 1);
    histogram_reset(h);
    ck_assert_uint_eq(h->total + h->max, 0);
    histogram_free(h);
}
END_TEST

START_TEST(test_adding_is_recording_both) {
    histogram_t *a = histogram_new(), *b = histogram_new(), *both = histogram_new();
    for (uint64_t i = 0; i < 5000; i++) {
        uint64_t v = i * i * 37 % 1000003;
        histogram_record(i % 3 ? a : b, v);
        histogram_record_shared(both, v);
    }
    histogram_add(a, b);
    ck_assert_uint_eq(a->total, both->total);
    ck_assert_uint_eq(a->max, both->max);
    for (unsigned i = 0; i < HISTOGRAM_SLOTS; i++)
        ck_assert_uint_eq(a->counts[i], both->counts[i]);
    histogram_free(a);
    histogram_free(b);
    histogram_free(both);
}
END_TEST

CHECK_MAIN("histogram", test_slots_cover_everything_in_order, test_three_significant_digits,
           test_percentiles_of_known_values, test_large_values_keep_their_maximum, test_adding_is_recording_both)
