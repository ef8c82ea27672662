/* map.h: two small hash tables, open addressing with linear probing and backward-shift deletion (Knuth, TAOCP 3, 6.4
 * R): no tombstones, so they stay fast however long a scene lives. Private to actors/. Used by one thread. */
#ifndef RR_ACTORS_MAP_H
#define RR_ACTORS_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* u64 -> pointer. Zeroed = empty. Key 0 and NULL values are not allowed. */
typedef struct rr_map {
    struct rr__map_cell {
        uint64_t key;
        void *value;
    } * cells;
    uint32_t count, mask; /* capacity - 1; 0 without cells */
} rr_map_t;

bool rr_map_put(rr_map_t *map, uint64_t key, void *value); /* replaces; false: out of memory */
void *rr_map_get(const rr_map_t *map, uint64_t key);       /* NULL if absent */
void *rr_map_take(rr_map_t *map, uint64_t key);            /* removes; NULL if absent */
/* Some entry, NULL if empty: to take all apart. */
void *rr_map_any(const rr_map_t *map, uint64_t *key);
void rr_map_free(rr_map_t *map);

/* A set of things found by hash and comparison. Zeroed = empty. */
typedef struct rr_set {
    struct rr__set_cell {
        uint64_t hash;
        void *item;
    } * cells;
    uint32_t count, mask;
} rr_set_t;

typedef bool (*rr_set_equal_fn)(const void *item, const void *key);
bool rr_set_add(rr_set_t *set, uint64_t hash, void *item); /* the caller knows it is absent; false: out of memory */
void *rr_set_find(const rr_set_t *set, uint64_t hash, rr_set_equal_fn equal, const void *key);
bool rr_set_remove(rr_set_t *set, uint64_t hash, const void *item); /* by identity; false if absent */
void rr_set_free(rr_set_t *set);

#endif
