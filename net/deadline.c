#include "net/deadline.h"

#include <stddef.h>

#define NS_PER_MS 1000000ull

void rr__deadline_set(rr__deadlines_t *deadlines, rr__deadline_t *item, unsigned ms, void (*fn)(rr__deadline_t *item)) {
    rr__deadline_clear(deadlines, item);
    uint64_t at_ms = deadlines->now_ns / NS_PER_MS + ms;
    at_ms += RR__DEADLINE_ROUND_MS - at_ms % RR__DEADLINE_ROUND_MS;
    item->fn = fn;
    bool first = deadlines->wheel.count == 0;
    rr_wheel_add(&deadlines->wheel, &item->node, at_ms * NS_PER_MS);
    if (first && deadlines->busy) {
        deadlines->busy(deadlines->context);
    }
}

static void fire(rr_wheel_node_t *node, void *context) {
    rr__deadline_t *item = (rr__deadline_t *)node;
    item->fn(item);
}

void rr__deadlines_fire(rr__deadlines_t *deadlines) {
    rr_wheel_expire(&deadlines->wheel, deadlines->now_ns, fire, NULL);
}
