/* list.h: an actor's relations to others: who monitors it, its links, its muted senders. Private to runtime/.
 *
 * A bag of (address, id), in the order of adding until something is removed. Adding is O(1); the first removal from a
 * list of more than RR__LIST_SHORT makes an index, and from then on removing is O(1) as well: 100,000 watchers of one
 * actor may all leave. Lists that only grow, and short ones, pay for no index. Touched by the actor's turn only. */
#ifndef RR_RUNTIME_LIST_H
#define RR_RUNTIME_LIST_H

#include "runtime/redrabbit.h"

typedef struct rr__watcher {
    rr_addr_t addr;
    uint64_t id; /* the monitor's; 0 for links and muted senders; 1: waits for room, wants a message */
} rr__watcher_t;

typedef struct rr__list {
    rr__watcher_t *items;
    uint32_t *index; /* open addressing: number of an item + 1, 0 = empty; NULL = none */
    uint32_t count, capacity;
    uint32_t index_mask;
} rr__list_t;

#define RR__LIST_SHORT 16u /* compared one by one */

/* RR_ENOMEM: nothing was added. */
RR_MUST_CHECK int rr__list_add(rr__list_t *list, rr_addr_t addr, uint64_t id);
/* False if it is not there; of several alike one goes. Never fails for memory: it is then slower. */
bool rr__list_remove(rr__list_t *list, rr_addr_t addr, uint64_t id);
/* Frees everything; the list is empty and usable. */
void rr__list_clear(rr__list_t *list);

#endif
