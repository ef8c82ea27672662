/* random.h: seedable randomness, one state per user: the same seed gives the same numbers on every machine.
 * xoshiro256** 1.0 (Blackman & Vigna, "Scrambled linear pseudorandom number generators", ACM TOMS 47, 2021), seeded by
 * splitmix64. Not for secrets: those come from rr_random_os. */
#ifndef RR_RUNTIME_RANDOM_H
#define RR_RUNTIME_RANDOM_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/error.h"

typedef struct rr_random {
    uint64_t s[4]; /* owned by one thread at a time */
} rr_random_t;

/* Any seed is good, 0 too. */
void rr_random_seed(rr_random_t *random, uint64_t seed);

/* 64 uniform bits. */
uint64_t rr_random_next(rr_random_t *random);

/* Uniform in 0 .. bound - 1 without bias; bound > 0. */
uint64_t rr_random_below(rr_random_t *random, uint64_t bound);

/* Fills out with bytes fit for keys, from the kernel. RR_EIO. Any thread. */
RR_MUST_CHECK int rr_random_os(void *out, size_t size);

#endif
