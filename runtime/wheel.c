/* wheel.c: the timing wheel. */
#include "runtime/wheel.h"

#include <assert.h>

#define NS_PER_TICK 1000000ull
#define LEVEL_BITS  6
#define MAX_TICK    ((1ull << (LEVEL_BITS * RR_WHEEL_LEVELS)) - 1)

static void list_init(rr_wheel_node_t *head) { head->next = head->previous = head; }

static bool list_empty(const rr_wheel_node_t *head) { return head->next == head; }

static void list_append(rr_wheel_node_t *head, rr_wheel_node_t *node) {
    node->previous = head->previous;
    node->next = head;
    head->previous->next = node;
    head->previous = node;
}

static void list_unlink(rr_wheel_node_t *node) {
    node->previous->next = node->next;
    node->next->previous = node->previous;
    node->next = node->previous = 0;
}

/* Moves all nodes of one list to the end of another. */
static void list_splice(rr_wheel_node_t *to, rr_wheel_node_t *from) {
    if (list_empty(from))
        return;
    from->next->previous = to->previous;
    to->previous->next = from->next;
    from->previous->next = to;
    to->previous = from->previous;
    list_init(from);
}

static uint64_t ceil_tick(uint64_t ns) {
    uint64_t tick = ns / NS_PER_TICK + (ns % NS_PER_TICK != 0);
    return tick < MAX_TICK ? tick : MAX_TICK;
}

static unsigned level_of(uint64_t now, uint64_t tick) {
    uint64_t differs = (now ^ tick) | 1;
    return (unsigned)(63 - __builtin_clzll(differs)) / LEVEL_BITS;
}

static unsigned slot_of(uint64_t tick, unsigned level) {
    return (unsigned)(tick >> (LEVEL_BITS * level)) & (RR_WHEEL_SLOTS - 1);
}

static void insert(rr_wheel_t *wheel, rr_wheel_node_t *node) {
    unsigned level = level_of(wheel->tick, node->tick);
    unsigned slot = slot_of(node->tick, level);
    list_append(&wheel->slots[level][slot], node);
    wheel->occupied[level] |= 1ull << slot;
}

void rr_wheel_init(rr_wheel_t *wheel, uint64_t now_ns) {
    wheel->tick = now_ns / NS_PER_TICK;
    wheel->count = 0;
    list_init(&wheel->due);
    for (unsigned level = 0; level < RR_WHEEL_LEVELS; level++) {
        wheel->occupied[level] = 0;
        for (unsigned slot = 0; slot < RR_WHEEL_SLOTS; slot++)
            list_init(&wheel->slots[level][slot]);
    }
}

void rr_wheel_add(rr_wheel_t *wheel, rr_wheel_node_t *node, uint64_t at_ns) {
    assert(!rr_wheel_pending(node));
    uint64_t tick = ceil_tick(at_ns);
    /* Never the tick that is being fired: a timer that arms itself anew must not keep expire from returning. */
    node->tick = tick > wheel->tick ? tick : wheel->tick + 1;
    wheel->count++;
    insert(wheel, node);
}

bool rr_wheel_remove(rr_wheel_t *wheel, rr_wheel_node_t *node) {
    if (!rr_wheel_pending(node))
        return false;
    rr_wheel_node_t *next = node->next;
    list_unlink(node);
    wheel->count--;
    /* An empty circular list leaves its head behind, which tells the slot; the due list has no bit. */
    rr_wheel_node_t *first = &wheel->slots[0][0];
    if (list_empty(next) && next >= first && next < first + RR_WHEEL_LEVELS * RR_WHEEL_SLOTS) {
        unsigned index = (unsigned)(next - first);
        wheel->occupied[index / RR_WHEEL_SLOTS] &= ~(1ull << (index % RR_WHEEL_SLOTS));
    }
    return true;
}

/* The level of the earliest nodes, RR_WHEEL_LEVELS when there are none. */
static unsigned first_level(const rr_wheel_t *wheel) {
    unsigned level = 0;
    while (level < RR_WHEEL_LEVELS && wheel->occupied[level] == 0)
        level++;
    return level;
}

/* The first tick that the first slot of a level can hold: exact on level 0. */
static uint64_t first_tick(const rr_wheel_t *wheel, unsigned level) {
    unsigned slot = (unsigned)__builtin_ctzll(wheel->occupied[level]);
    uint64_t above = wheel->tick & ~((1ull << (LEVEL_BITS * (level + 1))) - 1);
    return above | (uint64_t)slot << (LEVEL_BITS * level);
}

/* Moves the first slot's nodes to due (level 0), or down now that their time is nearer. */
static void open_slot(rr_wheel_t *wheel, unsigned level) {
    unsigned slot = (unsigned)__builtin_ctzll(wheel->occupied[level]);
    rr_wheel_node_t *head = &wheel->slots[level][slot];
    wheel->occupied[level] &= ~(1ull << slot);
    if (level == 0) {
        list_splice(&wheel->due, head);
        return;
    }
    rr_wheel_node_t moving;
    list_init(&moving);
    list_splice(&moving, head);
    while (!list_empty(&moving)) {
        rr_wheel_node_t *node = moving.next;
        list_unlink(node);
        insert(wheel, node);
    }
}

static uint64_t fire_due(rr_wheel_t *wheel, rr_wheel_fn fire, void *context) {
    uint64_t fired = 0;
    while (!list_empty(&wheel->due)) {
        rr_wheel_node_t *node = wheel->due.next;
        list_unlink(node);
        wheel->count--;
        fired++;
        fire(node, context);
    }
    return fired;
}

uint64_t rr_wheel_expire(rr_wheel_t *wheel, uint64_t now_ns, rr_wheel_fn fire, void *context) {
    uint64_t target = now_ns / NS_PER_TICK;
    uint64_t fired = 0;
    for (unsigned level; (level = first_level(wheel)) < RR_WHEEL_LEVELS;) {
        uint64_t tick = first_tick(wheel, level);
        if (tick > target)
            break;
        wheel->tick = tick;
        open_slot(wheel, level);
        fired += fire_due(wheel, fire, context);
    }
    if (target > wheel->tick && target <= MAX_TICK)
        wheel->tick = target;
    return fired;
}

uint64_t rr_wheel_next(const rr_wheel_t *wheel) {
    unsigned level = first_level(wheel);
    if (level == RR_WHEEL_LEVELS)
        return UINT64_MAX;
    uint64_t tick = first_tick(wheel, level);
    return tick > UINT64_MAX / NS_PER_TICK ? UINT64_MAX - 1 : tick * NS_PER_TICK;
}

rr_wheel_node_t *rr_wheel_pop_any(rr_wheel_t *wheel) {
    unsigned level = first_level(wheel);
    if (level == RR_WHEEL_LEVELS)
        return 0;
    rr_wheel_node_t *node = wheel->slots[level][__builtin_ctzll(wheel->occupied[level])].next;
    rr_wheel_remove(wheel, node);
    return node;
}
