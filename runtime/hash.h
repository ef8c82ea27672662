/* hash.h: FNV-1a with 64 bits (Fowler, Noll, Vo; draft-eastlake-fnv). For tables of names, and to tell by one number whether a
 * text is still the same. Not where somebody gains by choosing keys that collide. Any thread. */
#ifndef RR_RUNTIME_HASH_H
#define RR_RUNTIME_HASH_H

#include <stddef.h>
#include <stdint.h>

#define RR_HASH_START 0xcbf29ce484222325ull

/* A hash, RR_HASH_START at first, continued by these bytes. */
static inline uint64_t rr_hash_add(uint64_t hash, const void *bytes, size_t size) {
    const uint8_t *at = bytes;
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ at[i]) * 0x100000001b3ull;
    return hash;
}

static inline uint64_t rr_hash_bytes(const void *bytes, size_t size) {
    return rr_hash_add(RR_HASH_START, bytes, size);
}

/* Of a text up to its NUL. */
static inline uint64_t rr_hash_text(const char *text) {
    uint64_t hash = RR_HASH_START;
    for (; *text; text++)
        hash = rr_hash_add(hash, text, 1);
    return hash;
}

#endif
