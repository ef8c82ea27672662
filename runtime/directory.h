/* directory.h: address -> actor, within one node. Private to runtime/.
 *
 * Slots are 64-bit words: generation 24 | index of the header in the arena 40 (0 = none). Looking up is one load. Slots are
 * reused first in, first out, with at least RR__FREE_SLOTS free before the first is used again: a generation of 24 bits
 * then lasts for 10^12 spawns. Headers are reused last in, first out: the warmest first. */
#ifndef RR_RUNTIME_DIRECTORY_H
#define RR_RUNTIME_DIRECTORY_H

#include <pthread.h>

#include "runtime/actor.h"

#define RR__FREE_SLOTS 65536u
#define RR__CACHE 64

typedef struct rr__directory_cache { /* one worker's */
    uint32_t slots[RR__CACHE], freed_slots[RR__CACHE];
    rr_actor_t *headers[RR__CACHE * 2];
    unsigned slot_count, freed_count, header_count;
} rr__directory_cache_t;

typedef struct rr__directory {
    unsigned node, max_actors;
    /* Written by spawn (release: the header is ready) and death (release), read by any sender (acquire). */
    _Atomic(uint64_t) *slots;
    rr_actor_t *arena;
    size_t slots_size, arena_size;

    _Alignas(64) pthread_mutex_t lock; /* apart from what every message looks at */
    uint32_t slots_used, headers_used; /* high-water marks */
    uint32_t *free_slots;              /* the oldest first */
    uint32_t free_first, free_count, ring_size; /* of the ring, which grows */
    rr_actor_t *free_headers; /* through run_next */
} rr__directory_t;

RR_MUST_CHECK int rr__directory_init(rr__directory_t *directory, unsigned node, unsigned max_actors);
void rr__directory_destroy(rr__directory_t *directory);

/* A header and an address for a new actor; it cannot be found yet. cache may be NULL. RR_ELIMIT, RR_ENOMEM. */
RR_MUST_CHECK int rr__directory_claim(rr__directory_t *directory, rr__directory_cache_t *cache, rr_actor_t **out,
                                      rr_addr_t *addr);
/* From now on it is found. */
void rr__directory_publish(rr__directory_t *directory, rr_actor_t *actor);
/* No longer. */
void rr__directory_withdraw(rr__directory_t *directory, rr_addr_t addr);
/* The header may be used again (the address was withdrawn, or never published). */
void rr__directory_release(rr__directory_t *directory, rr__directory_cache_t *cache, rr_actor_t *actor, rr_addr_t addr);
void rr__directory_cache_flush(rr__directory_t *directory, rr__directory_cache_t *cache);

static inline rr_actor_t *rr__directory_find(rr__directory_t *directory, rr_addr_t addr) {
    if (rr_addr_node(addr) != directory->node || rr_addr_slot(addr) >= directory->max_actors)
        return NULL;
    uint64_t entry = atomic_load_explicit(&directory->slots[rr_addr_slot(addr)], memory_order_acquire);
    uint64_t index = entry & 0xffffffffffull;
    return entry >> 40 == rr_addr_generation(addr) && index ? &directory->arena[index] : NULL;
}

/* The living actors, in no order; *out is the caller's (rr__free). Without memory for all it lists some. */
typedef struct rr__listed {
    rr_addr_t addr;
    uint64_t serial;
} rr__listed_t;
size_t rr__directory_list(rr__directory_t *directory, rr__listed_t **out);

#endif
