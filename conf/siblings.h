/* siblings.h: `redrabbit up` tells the nodes that it started which of them is dead: it alone knows for sure, as it has waited for
 * that process. The others need not wait then until the dead one's links were silent for long enough, or its lease is over.
 *
 * Each node inherits a socket, whose number is in $REDRABBIT_UP_FD. Its first message is who it is; what it gets are those that
 * died. A name would not do: another process may have it by then. */
#ifndef RR_CONF_SIBLINGS_H
#define RR_CONF_SIBLINGS_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/error.h"

typedef struct rr_siblings rr_siblings_t;

typedef struct rr_sibling { /* as in rr_node_identity_t */
    unsigned node;
    uint64_t incarnation;
} rr_sibling_t;

/* ---- In `redrabbit up`. Main thread ---- */

/* Makes the socket: ends[0] stays here, ends[1] is for the node. Both close on exec, and are the caller's. False: errno says why. */
bool rr_siblings_pair(int ends[2]);
/* Behind the fork, in the node-to-be: the program that it becomes finds `end`, which it keeps over exec. False: errno says why. */
bool rr_siblings_pass(int end);
/* Who the node at the other end was; false: it has not said, and was in no group. After its end: never waits. */
bool rr_siblings_who(int end, rr_sibling_t *out);
/* Never waits. Who does not hear it (it has ended, or has left hundreds unread) finds out by the silence. */
void rr_siblings_tell(int end, const rr_sibling_t *dead);

/* ---- In a node ---- */

/* The descriptor that this process inherited, which nothing that it starts inherits any more; -1 = `redrabbit up` did not start it.
 * Once, before there are threads. */
int rr_siblings_take(void);

/* Says who this node is, and hears what comes on fd (of rr_siblings_take), which is its from now on, also on failure: dead() is
 * called for each node that died, on a thread of its own, which it must not block for long. RR_ENOMEM, RR_EIO (no thread, no
 * descriptor, nobody there). */
RR_MUST_CHECK int rr_siblings_start(int fd, const rr_sibling_t *self, void (*dead)(void *context, const rr_sibling_t *dead),
                                    void *context, rr_siblings_t **out);
/* Ends the thread: dead() is not called afterwards. NULL is fine. Not on the thread. */
void rr_siblings_stop(rr_siblings_t *siblings);

#endif
