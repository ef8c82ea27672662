/* deadletter.h: messages that nobody handles: counted, and told to those who watch. Private to runtime/. */
#ifndef RR_RUNTIME_DEADLETTER_H
#define RR_RUNTIME_DEADLETTER_H

#include <pthread.h>

#include "runtime/metrics.h"
#include "runtime/redrabbit.h"

typedef struct rr__letter_watcher {
    rr_addr_t addr; /* RR_NOBODY: a free place */
    unsigned room;  /* 0 = as its mailbox has */
    unsigned under_way;
    uint64_t lost; /* not told since it asked last */
} rr__letter_watcher_t;

typedef struct rr__dead_letters {
    pthread_mutex_t lock; /* the watchers */
    rr__letter_watcher_t watchers[RR_DEAD_LETTER_WATCHERS];
    /* How many. Written under the lock, read by whoever has a dead letter, relaxed: one that crosses a subscription may be told or
     * not. */
    _Atomic(unsigned) watched;
    rr_counter_t count, untold; /* shared counters */
} rr__dead_letters_t;

void rr__dead_letters_init(rr__dead_letters_t *dead);
void rr__dead_letters_destroy(rr__dead_letters_t *dead);
/* msg cannot be delivered, and nobody is answered for it. Any thread; the message stays the caller's. */
void rr__dead_letter(rr_system_t *system, const rr_message_t *msg, int reason);

#endif
