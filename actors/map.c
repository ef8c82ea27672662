#include "actors/map.h"

#include <stdlib.h>

static uint64_t spread(uint64_t key) {
    return (key ^ key >> 32) * 0x9e3779b97f4a7c15ull >> 20;
}

static uint32_t find_cell(const rr_map_t *map, uint64_t key) {
    uint32_t i = (uint32_t)spread(key) & map->mask;
    while (map->cells[i].key && map->cells[i].key != key)
        i = (i + 1) & map->mask;
    return i;
}

static bool map_grow(rr_map_t *map) {
    uint32_t capacity = map->cells ? (map->mask + 1) * 2 : 16;
    rr_map_t bigger = {.cells = calloc(capacity, sizeof(*bigger.cells)), .mask = capacity - 1, .count = map->count};
    if (!bigger.cells)
        return false;
    for (uint32_t i = 0; map->cells && i <= map->mask; i++)
        if (map->cells[i].key)
            bigger.cells[find_cell(&bigger, map->cells[i].key)] = map->cells[i];
    free(map->cells);
    *map = bigger;
    return true;
}

bool rr_map_put(rr_map_t *map, uint64_t key, void *value) {
    if ((!map->cells || map->count * 4 >= (map->mask + 1) * 3) && !map_grow(map))
        return false;
    struct rr__map_cell *cell = &map->cells[find_cell(map, key)];
    map->count += cell->key == 0;
    cell->key = key;
    cell->value = value;
    return true;
}

void *rr_map_get(const rr_map_t *map, uint64_t key) {
    return map->cells && key ? map->cells[find_cell(map, key)].value : NULL;
}

void *rr_map_take(rr_map_t *map, uint64_t key) {
    if (!map->cells || !key)
        return NULL;
    uint32_t hole = find_cell(map, key);
    void *value = map->cells[hole].value;
    if (!map->cells[hole].key)
        return NULL;
    for (uint32_t i = (hole + 1) & map->mask; map->cells[i].key; i = (i + 1) & map->mask) {
        uint32_t home = (uint32_t)spread(map->cells[i].key) & map->mask;
        if (((i - home) & map->mask) >= ((i - hole) & map->mask)) { /* it may move back into the hole */
            map->cells[hole] = map->cells[i];
            hole = i;
        }
    }
    map->cells[hole].key = 0;
    map->cells[hole].value = NULL;
    map->count--;
    return value;
}

void *rr_map_any(const rr_map_t *map, uint64_t *key) {
    for (uint32_t i = 0; map->count && i <= map->mask; i++)
        if (map->cells[i].key) {
            *key = map->cells[i].key;
            return map->cells[i].value;
        }
    return NULL;
}

void rr_map_free(rr_map_t *map) {
    free(map->cells);
    *map = (rr_map_t){0};
}

/* ---- Sets ---- */

static void set_insert(rr_set_t *set, uint64_t hash, void *item) {
    uint32_t i = (uint32_t)hash & set->mask;
    while (set->cells[i].item)
        i = (i + 1) & set->mask;
    set->cells[i].hash = hash;
    set->cells[i].item = item;
}

static bool set_grow(rr_set_t *set) {
    uint32_t capacity = set->cells ? (set->mask + 1) * 2 : 16;
    rr_set_t bigger = {.cells = calloc(capacity, sizeof(*bigger.cells)), .mask = capacity - 1, .count = set->count};
    if (!bigger.cells)
        return false;
    for (uint32_t i = 0; set->cells && i <= set->mask; i++)
        if (set->cells[i].item)
            set_insert(&bigger, set->cells[i].hash, set->cells[i].item);
    free(set->cells);
    *set = bigger;
    return true;
}

bool rr_set_add(rr_set_t *set, uint64_t hash, void *item) {
    if ((!set->cells || set->count * 4 >= (set->mask + 1) * 3) && !set_grow(set))
        return false;
    set_insert(set, hash, item);
    set->count++;
    return true;
}

void *rr_set_find(const rr_set_t *set, uint64_t hash, rr_set_equal_fn equal, const void *key) {
    if (!set->cells)
        return NULL;
    for (uint32_t i = (uint32_t)hash & set->mask; set->cells[i].item; i = (i + 1) & set->mask)
        if (set->cells[i].hash == hash && equal(set->cells[i].item, key))
            return set->cells[i].item;
    return NULL;
}

bool rr_set_remove(rr_set_t *set, uint64_t hash, const void *item) {
    if (!set->cells)
        return false;
    uint32_t hole = (uint32_t)hash & set->mask;
    while (set->cells[hole].item && set->cells[hole].item != item)
        hole = (hole + 1) & set->mask;
    if (!set->cells[hole].item)
        return false;
    for (uint32_t i = (hole + 1) & set->mask; set->cells[i].item; i = (i + 1) & set->mask) {
        uint32_t home = (uint32_t)set->cells[i].hash & set->mask;
        if (((i - home) & set->mask) >= ((i - hole) & set->mask)) {
            set->cells[hole] = set->cells[i];
            hole = i;
        }
    }
    set->cells[hole].item = NULL;
    set->count--;
    return true;
}

void rr_set_free(rr_set_t *set) {
    free(set->cells);
    *set = (rr_set_t){0};
}
