/* census.h: how many actors live, and in which order they were spawned. Private to runtime/.
 *
 * Each worker counts for itself: one count for all was a cache line that every spawn and every end on every CPU had to
 * fetch, which cost a tree of a million actors on two workers a quarter of its time. */
#ifndef RR_RUNTIME_CENSUS_H
#define RR_RUNTIME_CENSUS_H

#include <stdatomic.h>
#include <stdint.h>

#include "runtime/redrabbit.h"

/* Serial numbers that a worker takes at a time, for what one handler spawns. Between two handlers it may have heard of
 * actors that were spawned elsewhere, and the next is to be newer than those. */
#define RR__SERIALS 16u

/* Of one worker's number; of all threads that are no workers. Written by its worker alone (those threads: added to). */
typedef struct rr__tally {
    /* Written before the actor's word (release), relaxed; a reader that has seen its end therefore sees this. */
    _Alignas(64) _Atomic(uint64_t) spawned;
    /* seq_cst: written, then a look for waiters, who announce themselves and then look here. So either they see it, or are
     * seen. */
    _Atomic(uint64_t) ended;
} rr__tally_t;

typedef struct rr__census {
    rr__tally_t elsewhere;             /* threads that are no workers */
    _Alignas(64) _Atomic(uint64_t) serial; /* the last number given out; relaxed: only its own order counts */
} rr__census_t;

typedef struct rr__serials { /* one worker's */
    uint64_t next;
    unsigned left;
} rr__serials_t;

/* One more; returns its serial number. Before its word is set. Any thread. */
uint64_t rr__census_spawned(rr_system_t *system);
/* One less. It can no longer be found. Any thread. */
void rr__census_ended(rr_system_t *system);
/* How many live. Never less than were alive at some moment during the call; 0 = at some moment none, and none was on its way. */
uint64_t rr__census_living(rr_system_t *system);
/* How many have been spawned. */
uint64_t rr__census_total(rr_system_t *system);

#endif
