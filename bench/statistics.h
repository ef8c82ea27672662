/* statistics.h: is a difference real? Exact permutation tests on ranks: no assumption about how benchmark times are
 * distributed (they are skewed and have outliers), right for small samples, ties allowed. */
#ifndef RR_BENCH_STATISTICS_H
#define RR_BENCH_STATISTICS_H

/* Two-sided p of Wilcoxon's signed-rank test on n differences (zeros are dropped); n <= 200. */
double statistics_signed_rank(const double *differences, unsigned n);

/* Two-sided p of the Wilcoxon-Mann-Whitney rank-sum test; n + m <= 200. */
double statistics_rank_sum(const double *a, unsigned n, const double *b, unsigned m);

/* Hodges-Lehmann estimates: the median of all pairwise means of differences; of all b - a. */
double statistics_shift_paired(const double *differences, unsigned n);
double statistics_shift(const double *a, unsigned n, const double *b, unsigned m);

#endif
