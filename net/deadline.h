/* deadline.h: coarse time-outs for many connections without a libuv timer each: the runtime's wheel, one per loop, with
 * deadlines rounded up to a quarter of a second so that one wake-up serves many. Private to net/. One thread. */
#ifndef RR_NET_DEADLINE_H
#define RR_NET_DEADLINE_H

#include "runtime/wheel.h"

#define RR__DEADLINE_ROUND_MS 250u

typedef struct rr__deadline {
    rr_wheel_node_t node; /* first: the wheel hands it back */
    void (*fn)(struct rr__deadline *item);
} rr__deadline_t;

typedef struct rr__deadlines {
    rr_wheel_t wheel;
    uint64_t now_ns;               /* the owner keeps it right */
    void (*busy)(void *context);   /* told when the first item goes in; may be NULL */
    void *context;
} rr__deadlines_t;

/* fn(item) will be called ms from now, up to RR__DEADLINE_ROUND_MS later. Replaces an earlier deadline of the item. */
void rr__deadline_set(rr__deadlines_t *deadlines, rr__deadline_t *item, unsigned ms, void (*fn)(rr__deadline_t *item));

static inline bool rr__deadline_is_set(const rr__deadline_t *item) {
    return rr_wheel_pending(&item->node);
}

static inline void rr__deadline_clear(rr__deadlines_t *deadlines, rr__deadline_t *item) {
    rr_wheel_remove(&deadlines->wheel, &item->node);
}

/* Fires what is due at now_ns; fn may set, clear and free any item. */
void rr__deadlines_fire(rr__deadlines_t *deadlines);

#endif
