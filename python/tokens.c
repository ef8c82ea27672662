#include "python/tokens.h"

#include <stdlib.h>
#include <string.h>

static size_t home(const rr__tokens_t *table, uint64_t token) {
    return (size_t)((token * 0x9E3779B97F4A7C15ull) >> 32) & table->mask;
}

static size_t find(const rr__tokens_t *table, uint64_t token) {
    size_t at = home(table, token);
    while (table->keys[at] && table->keys[at] != token)
        at = (at + 1) & table->mask;
    return at;
}

static int resize(rr__tokens_t *table, size_t capacity) {
    rr__tokens_t bigger = {.mask = capacity - 1, .count = table->count};
    bigger.keys = calloc(capacity, sizeof *bigger.keys);
    bigger.values = malloc(capacity * sizeof *bigger.values);
    if (!bigger.keys || !bigger.values) {
        rr__tokens_free(&bigger);
        return RR_ENOMEM;
    }
    for (size_t i = 0; table->mask && i <= table->mask; i++) {
        if (!table->keys[i])
            continue;
        size_t at = find(&bigger, table->keys[i]);
        bigger.keys[at] = table->keys[i];
        bigger.values[at] = table->values[i];
    }
    rr__tokens_free(table);
    *table = bigger;
    return RR_OK;
}

int rr__tokens_put(rr__tokens_t *table, uint64_t token, void *value) {
    if (!table->mask || table->count * 4 >= table->mask * 3) {
        int rc = resize(table, table->mask ? (table->mask + 1) * 2 : 16);
        if (rc != RR_OK)
            return rc;
    }
    size_t at = find(table, token);
    if (!table->keys[at])
        table->count++;
    table->keys[at] = token;
    table->values[at] = value;
    return RR_OK;
}

void *rr__tokens_get(const rr__tokens_t *table, uint64_t token) {
    if (!table->mask || !token)
        return NULL;
    size_t at = find(table, token);
    return table->keys[at] ? table->values[at] : NULL;
}

/* Linear probing without tombstones: later entries of the run move up into the hole. */
static void close_hole(rr__tokens_t *table, size_t hole) {
    for (size_t at = (hole + 1) & table->mask; table->keys[at]; at = (at + 1) & table->mask) {
        size_t want = home(table, table->keys[at]);
        if (((at - want) & table->mask) >= ((at - hole) & table->mask)) {
            table->keys[hole] = table->keys[at];
            table->values[hole] = table->values[at];
            hole = at;
        }
    }
    table->keys[hole] = 0;
}

void *rr__tokens_take(rr__tokens_t *table, uint64_t token) {
    if (!table->mask || !token)
        return NULL;
    size_t at = find(table, token);
    if (!table->keys[at])
        return NULL;
    void *value = table->values[at];
    close_hole(table, at);
    table->count--;
    return value;
}

void *rr__tokens_next(const rr__tokens_t *table, size_t *at, uint64_t *token) {
    while (table->mask && *at <= table->mask) {
        size_t here = (*at)++;
        *token = table->keys[here];
        if (*token)
            return table->values[here];
    }
    return NULL;
}

bool rr__tokens_any(const rr__tokens_t *table, uint64_t *token) {
    for (size_t i = 0; table->count && i <= table->mask; i++) {
        if (table->keys[i]) {
            *token = table->keys[i];
            return true;
        }
    }
    return false;
}

void rr__tokens_free(rr__tokens_t *table) {
    free(table->keys);
    free(table->values);
    memset(table, 0, sizeof *table);
}
