/* tokens.h: a small hash table from 64-bit tokens (never 0) to pointers: timers, calls and handlers under way.
 * One thread at a time; the table owns nothing. */
#ifndef RR_PYTHON_TOKENS_H
#define RR_PYTHON_TOKENS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/error.h"

typedef struct rr__tokens {
    uint64_t *keys; /* 0 = free */
    void **values;
    size_t mask; /* capacity - 1; 0 = nothing allocated */
    size_t count;
} rr__tokens_t;

/* RR_OK or RR_ENOMEM. Replaces the value of a token that is there. */
RR_MUST_CHECK int rr__tokens_put(rr__tokens_t *table, uint64_t token, void *value);
void *rr__tokens_get(const rr__tokens_t *table, uint64_t token); /* NULL = absent */
void *rr__tokens_take(rr__tokens_t *table, uint64_t token);      /* and removes it */
/* The next entry behind *at (0 = from the beginning; moved on), its token; NULL when there is none. Nothing may be put or taken
 * meanwhile. */
void *rr__tokens_next(const rr__tokens_t *table, size_t *at, uint64_t *token);
/* Any entry (for emptying the table); false when there is none. */
bool rr__tokens_any(const rr__tokens_t *table, uint64_t *token);
void rr__tokens_free(rr__tokens_t *table);

#endif
