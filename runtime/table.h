/* table.h: things of one actor that are named by an id which never comes back: outstanding calls, timers, monitors, taken
 * messages. O(1); ids carry a generation, so a late one finds nothing. Private to runtime/. */
#ifndef RR_RUNTIME_TABLE_H
#define RR_RUNTIME_TABLE_H

#include "runtime/redrabbit.h"

/* First member of every entry. live is odd while the entry is in use; next is the free list. */
typedef struct rr__entry {
    uint32_t live, next;
} rr__entry_t;

typedef struct rr__table {
    char *entries;
    uint32_t capacity, count, free_head; /* free_head: index + 1 */
} rr__table_t;

#define RR__TABLE_MAX 65536u

/* A zeroed new entry (behind its head) and its id (never 0). NULL: out of memory, or RR__TABLE_MAX reached (*rc says).
 * Entries move when the table grows: keep ids, not pointers. */
void *rr__table_add(rr__table_t *table, size_t entry_size, uint64_t *id, int *rc);
void *rr__table_get(const rr__table_t *table, size_t entry_size, uint64_t id); /* NULL if over */
bool rr__table_remove(rr__table_t *table, size_t entry_size, uint64_t id);
/* The i-th slot if in use, else NULL; with its id. */
void *rr__table_at(const rr__table_t *table, size_t entry_size, uint32_t index, uint64_t *id);
void rr__table_clear(rr__table_t *table);

#endif
