#include "runtime/table.h"

#include "runtime/alloc.h"
#include <string.h>

static rr__entry_t *slot(const rr__table_t *table, size_t entry_size, uint32_t index) {
    return (rr__entry_t *)(void *)(table->entries + entry_size * index);
}

static bool grow(rr__table_t *table, size_t entry_size) {
    uint32_t capacity = table->capacity ? table->capacity * 2 : 4;
    char *entries = rr__realloc(table->entries, entry_size * capacity);
    if (!entries)
        return false;
    memset(entries + entry_size * table->capacity, 0, entry_size * (capacity - table->capacity));
    table->entries = entries;
    for (uint32_t i = capacity; i > table->capacity; i--) {
        slot(table, entry_size, i - 1)->next = table->free_head;
        table->free_head = i;
    }
    table->capacity = capacity;
    return true;
}

void *rr__table_add(rr__table_t *table, size_t entry_size, uint64_t *id, int *rc) {
    if (table->count >= RR__TABLE_MAX) {
        *rc = RR_ELIMIT;
        return NULL;
    }
    if (!table->free_head && !grow(table, entry_size)) {
        *rc = RR_ENOMEM;
        return NULL;
    }
    uint32_t index = table->free_head - 1;
    rr__entry_t *entry = slot(table, entry_size, index);
    table->free_head = entry->next;
    entry->live++;
    table->count++;
    memset(entry + 1, 0, entry_size - sizeof *entry);
    *id = (uint64_t)entry->live << 32 | index;
    *rc = RR_OK;
    return entry;
}

void *rr__table_get(const rr__table_t *table, size_t entry_size, uint64_t id) {
    uint32_t index = (uint32_t)id, live = (uint32_t)(id >> 32);
    if (index >= table->capacity || !(live & 1))
        return NULL;
    rr__entry_t *entry = slot(table, entry_size, index);
    return entry->live == live ? entry : NULL;
}

bool rr__table_remove(rr__table_t *table, size_t entry_size, uint64_t id) {
    rr__entry_t *entry = rr__table_get(table, entry_size, id);
    if (!entry)
        return false;
    entry->live++;
    entry->next = table->free_head;
    table->free_head = (uint32_t)id + 1;
    table->count--;
    return true;
}

void *rr__table_at(const rr__table_t *table, size_t entry_size, uint32_t index, uint64_t *id) {
    if (index >= table->capacity)
        return NULL;
    rr__entry_t *entry = slot(table, entry_size, index);
    *id = (uint64_t)entry->live << 32 | index;
    return entry->live & 1 ? entry : NULL;
}

void rr__table_clear(rr__table_t *table) {
    rr__free(table->entries);
    *table = (rr__table_t){0};
}
