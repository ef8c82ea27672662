#include "bench/histogram.h"

#include <math.h>
#include <string.h>

#include "bench/bench.h"

histogram_t *histogram_new(void) { return bench_alloc(sizeof(histogram_t)); }

void histogram_free(histogram_t *h) { free(h); }

void histogram_reset(histogram_t *h) { memset(h, 0, sizeof *h); }

/* Bucket b covers [2^(b+10), 2^(b+11)) in steps of 2^b; bucket 0 also covers everything below, in steps of 1. */
unsigned histogram_slot(uint64_t value) {
    if (value > HISTOGRAM_TOP)
        value = HISTOGRAM_TOP;
    unsigned width = 64 - (unsigned)__builtin_clzll(value | (2 * HISTOGRAM_HALF - 1));
    unsigned bucket = width - HISTOGRAM_SUB_BITS;
    return bucket * HISTOGRAM_HALF + (unsigned)(value >> bucket);
}

uint64_t histogram_slot_top(unsigned slot) {
    unsigned bucket = slot / HISTOGRAM_HALF;
    if (bucket > 0)
        bucket--;
    uint64_t step = slot - bucket * HISTOGRAM_HALF;
    return ((step + 1) << bucket) - 1;
}

void histogram_record_shared(histogram_t *h, uint64_t value) {
    __atomic_fetch_add(&h->counts[histogram_slot(value)], 1, __ATOMIC_RELAXED);
    __atomic_fetch_add(&h->total, 1, __ATOMIC_RELAXED);
    uint64_t seen = __atomic_load_n(&h->max, __ATOMIC_RELAXED);
    while (value > seen &&
           !__atomic_compare_exchange_n(&h->max, &seen, value, 1, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    }
}

void histogram_add(histogram_t *into, const histogram_t *from) {
    for (unsigned i = 0; i < HISTOGRAM_SLOTS; i++)
        into->counts[i] += from->counts[i];
    into->total += from->total;
    if (from->max > into->max)
        into->max = from->max;
}

uint64_t histogram_percentile(const histogram_t *h, double percent) {
    if (h->total == 0)
        return 0;
    /* 99.9 % of 1000 is 999, though 99.9 / 100 * 1000 is a little more */
    uint64_t wanted = (uint64_t)ceil(percent / 100.0 * (double)h->total * (1 - 1e-12)), seen = 0;
    if (wanted < 1)
        wanted = 1;
    for (unsigned i = 0; i < HISTOGRAM_SLOTS; i++) {
        seen += h->counts[i];
        if (seen >= wanted) {
            uint64_t top = histogram_slot_top(i);
            return top < h->max ? top : h->max;
        }
    }
    return h->max;
}

double histogram_mean(const histogram_t *h) {
    double sum = 0;
    for (unsigned i = 0; i < HISTOGRAM_SLOTS; i++)
        if (h->counts[i]) {
            double low = i ? (double)histogram_slot_top(i - 1) + 1 : 0;
            sum += (double)h->counts[i] * (low + (double)histogram_slot_top(i)) / 2;
        }
    return h->total ? sum / (double)h->total : 0;
}
