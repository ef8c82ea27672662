/* deque.h: the two queues of a pool's worker, of fixed size; what does not fit goes to the pool's own queue.
 *
 * rr__stack: new actors. The owner pushes and pops at the bottom (last in, first out: a tree of spawns is walked in depth),
 * thieves take the top. Chase & Lev, "Dynamic circular work-stealing deque" (SPAA 2005), with the orders of Lê et al.,
 * "Correct and efficient work-stealing for weak memory models" (PPoPP 2013), seq_cst operations in place of the fences.
 *
 * rr__ring: woken actors. The owner pushes at the tail, everybody takes at the head (as the run queue of Go's scheduler). */
#ifndef RR_RUNTIME_DEQUE_H
#define RR_RUNTIME_DEQUE_H

#include <stdatomic.h>
#include <stdbool.h>

#include "runtime/redrabbit.h"

#define RR__STACK_SIZE 1024u
#define RR__RING_SIZE  4096u

typedef struct rr__stack {
    /* Owner writes (seq_cst in pop, so that a thief's view of it and of top agree), thieves read. */
    _Alignas(64) _Atomic(int64_t) bottom;
    /* Grows only. Thieves, and the owner for the last item, advance it by CAS (seq_cst). */
    _Alignas(64) _Atomic(int64_t) top;
    _Atomic(rr_actor_t *) items[RR__STACK_SIZE]; /* relaxed: published by bottom (release) */
} rr__stack_t;

typedef struct rr__ring {
    /* Takers advance it by CAS (acq_rel: an item is read before its place is given up). */
    _Alignas(64) _Atomic(uint32_t) head;
    /* Owner only writes (release: publishes the items), takers read (acquire). */
    _Alignas(64) _Atomic(uint32_t) tail;
    _Atomic(rr_actor_t *) items[RR__RING_SIZE];
} rr__ring_t;

static inline bool rr__stack_push(rr__stack_t *stack, rr_actor_t *actor) {
    int64_t bottom = atomic_load_explicit(&stack->bottom, memory_order_relaxed);
    int64_t top = atomic_load_explicit(&stack->top, memory_order_acquire);
    if (bottom - top >= (int64_t)RR__STACK_SIZE)
        return false;
    atomic_store_explicit(&stack->items[bottom & (RR__STACK_SIZE - 1)], actor, memory_order_relaxed);
    atomic_store_explicit(&stack->bottom, bottom + 1, memory_order_release);
    return true;
}

static inline bool rr__stack_empty(rr__stack_t *stack) {
    return atomic_load_explicit(&stack->bottom, memory_order_relaxed) <=
           atomic_load_explicit(&stack->top, memory_order_relaxed);
}

static inline rr_actor_t *rr__stack_pop(rr__stack_t *stack) {
    if (rr__stack_empty(stack)) /* top only grows: empty for the owner stays empty */
        return NULL;
    int64_t bottom = atomic_load_explicit(&stack->bottom, memory_order_relaxed) - 1;
    atomic_store(&stack->bottom, bottom);
    int64_t top = atomic_load(&stack->top);
    rr_actor_t *actor = NULL;
    if (top <= bottom) {
        actor = atomic_load_explicit(&stack->items[bottom & (RR__STACK_SIZE - 1)], memory_order_relaxed);
        if (top < bottom)
            return actor;
        if (!atomic_compare_exchange_strong(&stack->top, &top, top + 1))
            actor = NULL; /* a thief was faster */
    }
    atomic_store_explicit(&stack->bottom, bottom + 1, memory_order_release);
    return actor;
}

static inline rr_actor_t *rr__stack_steal(rr__stack_t *stack) {
    int64_t top = atomic_load(&stack->top);
    int64_t bottom = atomic_load(&stack->bottom);
    if (top >= bottom)
        return NULL;
    rr_actor_t *actor = atomic_load_explicit(&stack->items[top & (RR__STACK_SIZE - 1)], memory_order_relaxed);
    return atomic_compare_exchange_strong(&stack->top, &top, top + 1) ? actor : NULL;
}

static inline uint32_t rr__ring_count(rr__ring_t *ring) {
    uint32_t head = atomic_load_explicit(&ring->head, memory_order_acquire);
    return atomic_load_explicit(&ring->tail, memory_order_acquire) - head;
}

static inline bool rr__ring_push(rr__ring_t *ring, rr_actor_t *actor) {
    uint32_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
    if (tail - atomic_load_explicit(&ring->head, memory_order_acquire) >= RR__RING_SIZE)
        return false;
    atomic_store_explicit(&ring->items[tail & (RR__RING_SIZE - 1)], actor, memory_order_relaxed);
    atomic_store_explicit(&ring->tail, tail + 1, memory_order_release);
    return true;
}

/* Takes up to `most`, at most half (rounded up), oldest first. */
static inline uint32_t rr__ring_take(rr__ring_t *ring, rr_actor_t **out, uint32_t most) {
    uint32_t head = atomic_load_explicit(&ring->head, memory_order_acquire), count;
    do {
        count = atomic_load_explicit(&ring->tail, memory_order_acquire) - head;
        if (count > RR__RING_SIZE) { /* head moved on between the two loads */
            head = atomic_load_explicit(&ring->head, memory_order_acquire);
            count = 0;
            continue;
        }
        count -= count / 2;
        if (count > most)
            count = most;
        if (!count)
            return 0;
        for (uint32_t i = 0; i < count; i++)
            out[i] = atomic_load_explicit(&ring->items[(head + i) & (RR__RING_SIZE - 1)], memory_order_relaxed);
    } while (!count || !atomic_compare_exchange_weak_explicit(&ring->head, &head, head + count, memory_order_acq_rel,
                                                              memory_order_acquire));
    return count;
}

#endif
