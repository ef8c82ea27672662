#include "runtime/list.h"

#include "runtime/alloc.h"

/* Source of the mixing constants: Steele, Lea, Flood, "Fast splittable pseudorandom number generators" (2014). */
static uint32_t hash_of(rr_addr_t addr, uint64_t id) {
    uint64_t x = addr + id * 0x9e3779b97f4a7c15ull;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ x >> 27) * 0x94d049bb133111ebull;
    return (uint32_t)(x >> 32);
}

static uint32_t home_of(const rr__list_t *list, uint32_t number) {
    return hash_of(list->items[number].addr, list->items[number].id) & list->index_mask;
}

static void index_put(rr__list_t *list, uint32_t number) {
    uint32_t at = home_of(list, number);
    while (list->index[at])
        at = (at + 1) & list->index_mask;
    list->index[at] = number + 1;
}

static void index_drop(rr__list_t *list) {
    rr__free(list->index);
    list->index = NULL;
}

/* Made anew for the present capacity, at most half full. Without memory there is none. */
static void index_make(rr__list_t *list) {
    uint32_t size = 2 * RR__LIST_SHORT;
    while (size < 2 * list->capacity)
        size *= 2;
    index_drop(list);
    list->index = rr__calloc(size, sizeof *list->index);
    if (!list->index)
        return;
    list->index_mask = size - 1;
    for (uint32_t i = 0; i < list->count; i++)
        index_put(list, i);
}

/* Where the index holds an item. */
static uint32_t index_slot(const rr__list_t *list, uint32_t number) {
    uint32_t at = home_of(list, number);
    while (list->index[at] != number + 1)
        at = (at + 1) & list->index_mask;
    return at;
}

/* Linear probing without tombstones: what follows moves up if its home allows. Source: Knuth, TAOCP 3, 6.4, algorithm R. */
static void index_remove(rr__list_t *list, uint32_t hole) {
    uint32_t mask = list->index_mask;
    for (uint32_t at = (hole + 1) & mask; list->index[at]; at = (at + 1) & mask) {
        uint32_t home = home_of(list, list->index[at] - 1);
        if (((at - home) & mask) >= ((at - hole) & mask)) {
            list->index[hole] = list->index[at];
            hole = at;
        }
    }
    list->index[hole] = 0;
}

int rr__list_add(rr__list_t *list, rr_addr_t addr, uint64_t id) {
    bool grown = list->count == list->capacity;
    if (grown) {
        uint32_t capacity = list->capacity ? list->capacity * 2 : 4;
        rr__watcher_t *items = rr__realloc(list->items, capacity * sizeof *items);
        if (!items)
            return RR_ENOMEM;
        list->items = items;
        list->capacity = capacity;
    }
    list->items[list->count++] = (rr__watcher_t){addr, id};
    if (list->index && grown)
        index_make(list);
    else if (list->index)
        index_put(list, list->count - 1);
    return RR_OK;
}

static bool is(const rr__list_t *list, uint32_t number, rr_addr_t addr, uint64_t id) {
    return list->items[number].addr == addr && list->items[number].id == id;
}

/* Its number, or UINT32_MAX. */
static uint32_t find(const rr__list_t *list, rr_addr_t addr, uint64_t id) {
    if (!list->index) {
        for (uint32_t i = 0; i < list->count; i++)
            if (is(list, i, addr, id))
                return i;
        return UINT32_MAX;
    }
    uint32_t at = hash_of(addr, id) & list->index_mask;
    for (; list->index[at]; at = (at + 1) & list->index_mask)
        if (is(list, list->index[at] - 1, addr, id))
            return list->index[at] - 1;
    return UINT32_MAX;
}

bool rr__list_remove(rr__list_t *list, rr_addr_t addr, uint64_t id) {
    if (!list->index && list->count > RR__LIST_SHORT)
        index_make(list);
    uint32_t number = find(list, addr, id), last = list->count - 1;
    if (number == UINT32_MAX)
        return false;
    if (list->index) {
        index_remove(list, index_slot(list, number));
        if (number != last)
            list->index[index_slot(list, last)] = number + 1;
    }
    list->items[number] = list->items[last];
    list->count = last;
    return true;
}

void rr__list_clear(rr__list_t *list) {
    rr__free(list->items);
    index_drop(list);
    *list = (rr__list_t){0};
}
