/* random.c: xoshiro256** and the kernel's randomness (see random.h for the sources). */
#include "runtime/random.h"

#include <assert.h>
#include <errno.h>
#include <sys/random.h>

static uint64_t splitmix64(uint64_t *state) {
    uint64_t z = *state += 0x9e3779b97f4a7c15ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

void rr_random_seed(rr_random_t *random, uint64_t seed) {
    for (int i = 0; i < 4; i++)
        random->s[i] = splitmix64(&seed);
}

static inline uint64_t rotate(uint64_t x, int by) { return (x << by) | (x >> (64 - by)); }

uint64_t rr_random_next(rr_random_t *random) {
    uint64_t *s = random->s;
    uint64_t result = rotate(s[1] * 5, 7) * 9;
    uint64_t t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate(s[3], 45);
    return result;
}

/* Lemire, "Fast random integer generation in an interval", ACM TOMACS 29, 2019: one multiplication, rarely a second try. */
uint64_t rr_random_below(rr_random_t *random, uint64_t bound) {
    assert(bound > 0);
    unsigned __int128 product = (unsigned __int128)rr_random_next(random) * bound;
    if ((uint64_t)product < bound) {
        uint64_t threshold = -bound % bound;
        while ((uint64_t)product < threshold)
            product = (unsigned __int128)rr_random_next(random) * bound;
    }
    return (uint64_t)(product >> 64);
}

int rr_random_os(void *out, size_t size) {
    uint8_t *at = out;
    while (size > 0) {
        ssize_t got = getrandom(at, size, 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return RR_EIO;
        at += got;
        size -= (size_t)got;
    }
    return RR_OK;
}
