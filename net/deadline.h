/* deadline.h: coarse time-outs for many connections without a timer each: a wheel of lists, one per loop, looked at a few
 * times a second and only while something is in it. Private to net/. One thread. */
#ifndef RR_NET_DEADLINE_H
#define RR_NET_DEADLINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RR__WHEEL_TICK_MS 64u
#define RR__WHEEL_SLOTS 256u /* one round: 16 s; what is further away stays in its slot for another round */

typedef struct rr__deadline {
    struct rr__deadline *next, **prev; /* prev NULL = not set */
    void (*fn)(struct rr__deadline *item);
    uint64_t tick;
} rr__deadline_t;

typedef struct rr__wheel {
    rr__deadline_t *slots[RR__WHEEL_SLOTS];
    uint64_t tick; /* the last one looked at */
    size_t count;
    void (*busy)(void *context); /* told when the wheel gets its first item; may be NULL */
    void *context;
} rr__wheel_t;

/* (Re)sets item to fire fn between ms and ms + 2 ticks after now_ms. */
void rr__deadline_set(rr__wheel_t *wheel, rr__deadline_t *item, uint64_t now_ms, uint64_t ms);
void rr__deadline_clear(rr__wheel_t *wheel, rr__deadline_t *item);
static inline bool rr__deadline_is_set(const rr__deadline_t *item) {
    return item->prev != NULL;
}

/* Fires what is due. fn may set and clear any item. */
void rr__wheel_turn(rr__wheel_t *wheel, uint64_t now_ms);

#endif
