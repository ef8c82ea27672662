#include "net/deadline.h"

void rr__deadline_clear(rr__wheel_t *wheel, rr__deadline_t *item) {
    if (!item->prev) {
        return;
    }
    *item->prev = item->next;
    if (item->next) {
        item->next->prev = item->prev;
    }
    item->prev = NULL;
    wheel->count--;
}

static void push(rr__deadline_t **slot, rr__deadline_t *item) {
    item->next = *slot;
    item->prev = slot;
    if (item->next) {
        item->next->prev = &item->next;
    }
    *slot = item;
}

void rr__deadline_set(rr__wheel_t *wheel, rr__deadline_t *item, uint64_t now_ms, uint64_t ms) {
    rr__deadline_clear(wheel, item);
    uint64_t now = now_ms / RR__WHEEL_TICK_MS;
    if (wheel->count == 0) {
        wheel->tick = now; /* it was not looked at while empty */
    }
    item->tick = (now_ms + ms) / RR__WHEEL_TICK_MS + 1;
    if (item->tick <= wheel->tick) {
        item->tick = wheel->tick + 1;
    }
    push(&wheel->slots[item->tick % RR__WHEEL_SLOTS], item);
    if (wheel->count++ == 0 && wheel->busy) {
        wheel->busy(wheel->context);
    }
}

/* Fires the due items of one slot. They are first moved to a list of their own, so that fn may change the slot. */
static void fire(rr__wheel_t *wheel, rr__deadline_t **slot, uint64_t now) {
    rr__deadline_t *due = NULL;
    for (rr__deadline_t *item = *slot, *next; item; item = next) {
        next = item->next;
        if (item->tick <= now) {
            rr__deadline_clear(wheel, item);
            wheel->count++; /* still counted until it fires */
            push(&due, item);
        }
    }
    while (due) {
        rr__deadline_t *item = due;
        rr__deadline_clear(wheel, item);
        item->fn(item);
    }
}

void rr__wheel_turn(rr__wheel_t *wheel, uint64_t now_ms) {
    uint64_t now = now_ms / RR__WHEEL_TICK_MS;
    uint64_t rounds = now > wheel->tick ? now - wheel->tick : 0;
    uint64_t first = rounds >= RR__WHEEL_SLOTS ? now - RR__WHEEL_SLOTS + 1 : wheel->tick + 1;
    wheel->tick = now > wheel->tick ? now : wheel->tick;
    for (uint64_t tick = first; tick <= now && wheel->count; tick++) {
        fire(wheel, &wheel->slots[tick % RR__WHEEL_SLOTS], now);
    }
}
