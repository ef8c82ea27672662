/* wheel.h: a hierarchical timing wheel (Varghese & Lauck, "Hashed and hierarchical timing wheels", SOSP 1987, scheme 7):
 * adding and removing are O(1), whatever the number of timers. Ticks of 1 ms; 8 levels of 64 slots reach 2^48 ms.
 *
 * A node's level is the highest group of 6 bits in which its tick differs from the wheel's; so all nodes of one level lie
 * ahead of all nodes of the levels below, and a bitmap per level finds the next one without walking empty slots.
 * Nodes are embedded in what they belong to. No locks, no allocation: one thread at a time. */
#ifndef RR_RUNTIME_WHEEL_H
#define RR_RUNTIME_WHEEL_H

#include <stdbool.h>
#include <stdint.h>

#define RR_WHEEL_LEVELS 8
#define RR_WHEEL_SLOTS  64

typedef struct rr_wheel_node {
    struct rr_wheel_node *next, *previous; /* NULL when it is in no wheel */
    uint64_t tick;                         /* when it is due, in ms */
} rr_wheel_node_t;

typedef struct rr_wheel {
    uint64_t tick;                                          /* all due up to here has been fired */
    uint64_t count;                                         /* nodes inside */
    uint64_t occupied[RR_WHEEL_LEVELS];                     /* bit s: slot s holds nodes */
    rr_wheel_node_t slots[RR_WHEEL_LEVELS][RR_WHEEL_SLOTS]; /* heads of circular lists */
    rr_wheel_node_t due;                                    /* of the tick that is being fired */
} rr_wheel_t;

/* The wheel points into itself: it must not be moved afterwards. */
void rr_wheel_init(rr_wheel_t *wheel, uint64_t now_ns);

/* Makes a node ready for rr_wheel_add (a zeroed one is). */
static inline void rr_wheel_node_init(rr_wheel_node_t *node) { node->next = node->previous = 0; }

static inline bool rr_wheel_pending(const rr_wheel_node_t *node) { return node->next != 0; }

/* Fires at the first rr_wheel_expire whose now_ns is not before at_ns (rounded up to the next ms; at least one tick after
 * the wheel's own time). The node must not be pending. */
void rr_wheel_add(rr_wheel_t *wheel, rr_wheel_node_t *node, uint64_t at_ns);

/* Takes a node out; false if it was not pending. Also inside the expire callback, for any node. */
bool rr_wheel_remove(rr_wheel_t *wheel, rr_wheel_node_t *node);

/* Fires all that is due, in order of ticks. The node is no longer pending when fire gets it: fire may free it, add it
 * again, and add and remove others. Returns how many were fired. */
typedef void (*rr_wheel_fn)(rr_wheel_node_t *node, void *context);
uint64_t rr_wheel_expire(rr_wheel_t *wheel, uint64_t now_ns, rr_wheel_fn fire, void *context);

/* When to call rr_wheel_expire next, in ns: exact for what is due within 64 ms, else never late but perhaps early (then
 * nothing fires and the answer is nearer). UINT64_MAX when empty. */
uint64_t rr_wheel_next(const rr_wheel_t *wheel);

/* Takes any node out, for clearing a wheel; NULL when empty. O(levels). */
rr_wheel_node_t *rr_wheel_pop_any(rr_wheel_t *wheel);

#endif
