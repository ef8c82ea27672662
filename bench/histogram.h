/* histogram.h: latencies in a log-linear histogram with HdrHistogram's layout (G. Tene; wiki page "HdrHistogram design"):
 * buckets of doubling width, 2048 linear steps each, so that every value keeps 3 significant decimal digits.
 * Values are whole nanoseconds from 0 to 2^42 - 1 (73 minutes); larger ones are counted at the top. */
#ifndef RR_BENCH_HISTOGRAM_H
#define RR_BENCH_HISTOGRAM_H

#include <stddef.h>
#include <stdint.h>

#define HISTOGRAM_SUB_BITS 11 /* 2 * 10^3 rounded up to a power of two: 3 significant digits */
#define HISTOGRAM_MAX_BITS 42
#define HISTOGRAM_HALF (1u << (HISTOGRAM_SUB_BITS - 1))
#define HISTOGRAM_SLOTS ((HISTOGRAM_MAX_BITS - HISTOGRAM_SUB_BITS + 2) * HISTOGRAM_HALF)
#define HISTOGRAM_TOP ((UINT64_C(1) << HISTOGRAM_MAX_BITS) - 1)

typedef struct histogram {
    uint64_t total;
    uint64_t max; /* exact, not a step's edge */
    uint64_t counts[HISTOGRAM_SLOTS];
} histogram_t;

/* A zeroed histogram (264 KiB), freed with histogram_free; ends the program when out of memory. */
histogram_t *histogram_new(void);
void histogram_free(histogram_t *h);
void histogram_reset(histogram_t *h);

/* The slot of a value, and the largest value that shares its slot (HdrHistogram's highestEquivalentValue). */
unsigned histogram_slot(uint64_t value);
uint64_t histogram_slot_top(unsigned slot);

/* Counts one value. One thread at a time. */
static inline void histogram_record(histogram_t *h, uint64_t value) {
    h->counts[histogram_slot(value)]++;
    h->total++;
    if (value > h->max)
        h->max = value;
}

/* The same while several threads record into one histogram; readers come after all of them. Relaxed: the counts stand
 * for themselves, and joining the threads orders them before the reader. */
void histogram_record_shared(histogram_t *h, uint64_t value);

void histogram_add(histogram_t *into, const histogram_t *from);

/* The smallest recorded value's slot top such that at least `percent` % of all values are not above it, but never more
 * than the maximum; 0 when empty. */
uint64_t histogram_percentile(const histogram_t *h, double percent);

double histogram_mean(const histogram_t *h);

#endif
