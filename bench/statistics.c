#include "bench/statistics.h"

#include <math.h>
#include <stdlib.h>

#include "bench/bench.h"

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Twice the rank of v among sorted values, ties sharing their mean rank: always a whole number. */
static unsigned double_rank(const double *sorted, unsigned n, double v) {
    unsigned below = 0, equal = 0;
    for (unsigned i = 0; i < n; i++) {
        below += sorted[i] < v;
        equal += sorted[i] == v;
    }
    return 2 * below + equal + 1;
}

static double *sorted_copy(const double *values, unsigned n) {
    double *out = bench_alloc(n * sizeof *out);
    for (unsigned i = 0; i < n; i++)
        out[i] = values[i];
    qsort(out, n, sizeof *out, ascending);
    return out;
}

/* From a probability mass over sums: the smaller tail at `sum`, doubled. */
static double two_sided(const double *mass, unsigned size, unsigned sum) {
    double low = 0, high = 0, all = 0;
    for (unsigned i = 0; i < size; i++) {
        all += mass[i];
        low += i <= sum ? mass[i] : 0;
        high += i >= sum ? mass[i] : 0;
    }
    double p = 2 * fmin(low, high) / all;
    return p < 1 ? p : 1;
}

double statistics_signed_rank(const double *differences, unsigned n) {
    double *sizes = bench_alloc(n * sizeof *sizes), *kept = bench_alloc(n * sizeof *kept);
    unsigned count = 0, total = 0, positive = 0;
    for (unsigned i = 0; i < n; i++)
        if (differences[i] != 0) {
            kept[count] = differences[i];
            sizes[count++] = fabs(differences[i]);
        }
    double *mass = bench_alloc(((size_t)count * (count + 1) + 2) * sizeof *mass);
    mass[0] = 1;
    for (unsigned i = 0; i < count; i++) {
        unsigned rank = double_rank(sizes, count, fabs(kept[i]));
        positive += kept[i] > 0 ? rank : 0;
        for (unsigned s = total + 1; s-- > 0;) {
            mass[s + rank] += mass[s] / 2;
            mass[s] /= 2;
        }
        total += rank;
    }
    double p = count ? two_sided(mass, total + 1, positive) : 1;
    free(mass);
    free(sizes);
    free(kept);
    return p;
}

/* mass[k][s]: how many ways there are to choose k of the ranks so far with sum s. */
static double rank_sum_p(const unsigned *ranks, unsigned n, unsigned m, unsigned sum) {
    unsigned all = n + m, limit = all * (all + 1) + 2;
    double *mass = bench_alloc((size_t)(n + 1) * limit * sizeof *mass);
    mass[0] = 1;
    for (unsigned i = 0; i < all; i++)
        for (unsigned k = (i < n ? i + 1 : n); k > 0; k--)
            for (unsigned s = limit; s-- > ranks[i];)
                mass[(size_t)k * limit + s] += mass[(size_t)(k - 1) * limit + s - ranks[i]];
    double p = two_sided(mass + (size_t)n * limit, limit, sum);
    free(mass);
    return p;
}

double statistics_rank_sum(const double *a, unsigned n, const double *b, unsigned m) {
    double *both = bench_alloc((n + m) * sizeof *both);
    unsigned *ranks = bench_alloc((n + m) * sizeof *ranks), sum = 0;
    for (unsigned i = 0; i < n + m; i++)
        both[i] = i < n ? a[i] : b[i - n];
    for (unsigned i = 0; i < n + m; i++) {
        ranks[i] = double_rank(both, n + m, both[i]);
        sum += i < n ? ranks[i] : 0;
    }
    double p = n && m ? rank_sum_p(ranks, n, m, sum) : 1;
    free(ranks);
    free(both);
    return p;
}

static double median_and_free(double *values, unsigned n) {
    double *sorted = sorted_copy(values, n), median = bench_median(sorted, n);
    free(sorted);
    free(values);
    return median;
}

double statistics_shift_paired(const double *d, unsigned n) {
    double *means = bench_alloc(((size_t)n * (n + 1) / 2 + 1) * sizeof *means);
    unsigned count = 0;
    for (unsigned i = 0; i < n; i++)
        for (unsigned j = i; j < n; j++)
            means[count++] = (d[i] + d[j]) / 2;
    return median_and_free(means, count);
}

double statistics_shift(const double *a, unsigned n, const double *b, unsigned m) {
    double *all = bench_alloc(((size_t)n * m + 1) * sizeof *all);
    unsigned count = 0;
    for (unsigned i = 0; i < n; i++)
        for (unsigned j = 0; j < m; j++)
            all[count++] = b[j] - a[i];
    return median_and_free(all, count);
}
