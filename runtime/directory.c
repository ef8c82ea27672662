#include "runtime/directory.h"

#include <string.h>
#include <sys/mman.h>

#include "runtime/alloc.h"

#define FIRST_RING 131072u
#define FETCH_AHEAD 4 /* spawns: a slot was last used 65536 of them ago, and often by another CPU */

/* Address space only: pages come with their first use. */
static void *reserve(size_t size) {
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

int rr__directory_init(rr__directory_t *directory, unsigned node, unsigned max_actors) {
    memset(directory, 0, sizeof *directory);
    directory->node = node;
    directory->max_actors = max_actors;
    directory->headers_used = 1; /* index 0 means none */
    pthread_mutex_init(&directory->lock, NULL);
    directory->slots_size = (size_t)max_actors * sizeof *directory->slots;
    directory->arena_size = ((size_t)max_actors + 1) * sizeof *directory->arena;
    directory->slots = reserve(directory->slots_size);
    directory->arena = reserve(directory->arena_size);
    directory->free_slots = rr__malloc(FIRST_RING * sizeof *directory->free_slots);
    directory->ring_size = FIRST_RING;
    if (directory->slots && directory->arena && directory->free_slots)
        return RR_OK;
    rr__directory_destroy(directory);
    return RR_ENOMEM;
}

void rr__directory_destroy(rr__directory_t *directory) {
    if (directory->slots)
        munmap(directory->slots, directory->slots_size);
    if (directory->arena)
        munmap(directory->arena, directory->arena_size);
    rr__free(directory->free_slots);
    pthread_mutex_destroy(&directory->lock);
}

/* ---- Slots and headers ------------------------------------------------------------------------------------------ */

static bool ring_push(rr__directory_t *d, uint32_t slot) {
    if (d->free_count == d->ring_size) {
        uint32_t *ring = rr__malloc(2 * (size_t)d->ring_size * sizeof *ring);
        if (!ring)
            return false; /* the slot is lost, nothing else: its generation can no longer be reused */
        for (uint32_t i = 0; i < d->free_count; i++)
            ring[i] = d->free_slots[(d->free_first + i) & (d->ring_size - 1)];
        rr__free(d->free_slots);
        d->free_slots = ring;
        d->free_first = 0;
        d->ring_size *= 2;
    }
    d->free_slots[(d->free_first + d->free_count++) & (d->ring_size - 1)] = slot;
    return true;
}

/* Under the lock. False: none left. */
static bool take_slot(rr__directory_t *d, uint32_t *slot) {
    bool fresh = d->slots_used < d->max_actors;
    if (d->free_count > RR__FREE_SLOTS || (!fresh && d->free_count)) {
        *slot = d->free_slots[d->free_first];
        d->free_first = (d->free_first + 1) & (d->ring_size - 1);
        d->free_count--;
        return true;
    }
    if (fresh)
        *slot = d->slots_used++;
    return fresh;
}

static rr_actor_t *take_header(rr__directory_t *d) {
    rr_actor_t *header = d->free_headers;
    if (header)
        d->free_headers = header->run_next;
    else if (d->headers_used <= d->max_actors)
        header = &d->arena[d->headers_used++];
    return header;
}

static void refill(rr__directory_t *d, rr__directory_cache_t *cache) {
    pthread_mutex_lock(&d->lock);
    while (cache->slot_count < RR__CACHE / 2 && take_slot(d, &cache->slots[cache->slot_count]))
        cache->slot_count++;
    while (cache->header_count < RR__CACHE / 2) {
        rr_actor_t *header = take_header(d);
        if (!header)
            break;
        cache->headers[cache->header_count++] = header;
    }
    pthread_mutex_unlock(&d->lock);
}

static rr_addr_t next_address(rr__directory_t *d, uint32_t slot) {
    uint64_t entry = atomic_load_explicit(&d->slots[slot], memory_order_relaxed);
    uint64_t generation = ((entry >> 40) + 1) & 0xffffff;
    if (!generation)
        generation = 1;
    return (uint64_t)d->node << 48 | (uint64_t)slot << 24 | generation;
}

/* Without a cache: threads that are no workers. */
static int claim_one(rr__directory_t *d, rr_actor_t **out, rr_addr_t *addr) {
    uint32_t slot = 0;
    pthread_mutex_lock(&d->lock);
    bool ok = take_slot(d, &slot);
    *out = ok ? take_header(d) : NULL;
    if (ok && !*out)
        ring_push(d, slot);
    pthread_mutex_unlock(&d->lock);
    if (!*out)
        return RR_ELIMIT;
    *addr = next_address(d, slot);
    return RR_OK;
}

int rr__directory_claim(rr__directory_t *d, rr__directory_cache_t *cache, rr_actor_t **out, rr_addr_t *addr) {
    if (!cache)
        return claim_one(d, out, addr);
    if (!cache->slot_count || !cache->header_count)
        refill(d, cache);
    if (!cache->slot_count || !cache->header_count)
        return RR_ELIMIT;
    *out = cache->headers[--cache->header_count];
    *addr = next_address(d, cache->slots[--cache->slot_count]);
    if (cache->slot_count >= FETCH_AHEAD)
        __builtin_prefetch(&d->slots[cache->slots[cache->slot_count - FETCH_AHEAD]], 1);
    return RR_OK;
}

static void set_slot(rr__directory_t *d, rr_addr_t addr, uint64_t index) {
    uint64_t entry = (uint64_t)rr_addr_generation(addr) << 40 | index;
    atomic_store_explicit(&d->slots[rr_addr_slot(addr)], entry, memory_order_release);
}

void rr__directory_publish(rr__directory_t *d, rr_actor_t *actor) {
    set_slot(d, actor->addr, (uint64_t)(actor - d->arena));
}

void rr__directory_withdraw(rr__directory_t *d, rr_addr_t addr) { set_slot(d, addr, 0); }

static void give_back(rr__directory_t *d, const uint32_t *slots, unsigned slot_count, rr_actor_t *const *headers,
                      unsigned header_count) {
    pthread_mutex_lock(&d->lock);
    for (unsigned i = 0; i < slot_count; i++)
        ring_push(d, slots[i]);
    for (unsigned i = 0; i < header_count; i++) {
        headers[i]->run_next = d->free_headers;
        d->free_headers = headers[i];
    }
    pthread_mutex_unlock(&d->lock);
}

void rr__directory_release(rr__directory_t *d, rr__directory_cache_t *cache, rr_actor_t *actor, rr_addr_t addr) {
    uint32_t slot = rr_addr_slot(addr);
    if (!cache) {
        give_back(d, &slot, 1, &actor, 1);
        return;
    }
    cache->freed_slots[cache->freed_count++] = slot;
    cache->headers[cache->header_count++] = actor;
    if (cache->freed_count < RR__CACHE && cache->header_count < RR__CACHE * 2)
        return;
    unsigned surplus = cache->header_count > RR__CACHE ? cache->header_count - RR__CACHE : 0;
    cache->header_count -= surplus;
    give_back(d, cache->freed_slots, cache->freed_count, cache->headers + cache->header_count, surplus);
    cache->freed_count = 0;
}

void rr__directory_cache_flush(rr__directory_t *d, rr__directory_cache_t *cache) {
    give_back(d, cache->freed_slots, cache->freed_count, cache->headers, cache->header_count);
    give_back(d, cache->slots, cache->slot_count, NULL, 0);
    cache->freed_count = cache->header_count = cache->slot_count = 0;
}

size_t rr__directory_list(rr__directory_t *d, rr__listed_t **out) {
    pthread_mutex_lock(&d->lock);
    uint32_t used = d->slots_used;
    pthread_mutex_unlock(&d->lock);
    size_t count = 0, capacity = 0;
    *out = NULL;
    for (uint32_t slot = 0; slot < used; slot++) {
        uint64_t entry = atomic_load_explicit(&d->slots[slot], memory_order_acquire);
        uint64_t index = entry & 0xffffffffffull;
        if (!index)
            continue;
        if (count == capacity) {
            capacity = capacity ? capacity * 2 : 64;
            rr__listed_t *more = rr__realloc(*out, capacity * sizeof *more);
            if (!more)
                break; /* the caller asks again for the rest */
            *out = more;
        }
        (*out)[count++] = (rr__listed_t){
            .addr = (uint64_t)d->node << 48 | (uint64_t)slot << 24 | entry >> 40,
            .serial = atomic_load_explicit(&d->arena[index].serial, memory_order_relaxed),
        };
    }
    return count;
}
