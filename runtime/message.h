/* message.h: the envelope and its pools. Private to runtime/.
 *
 * Small payloads stand inline behind a 48-byte header; larger ones are a referenced buffer. Messages come from the pool of
 * the worker that makes them and go home to it: a worker frees its own by a plain push, and returns others' in chains of
 * up to 63 (packs of 8 KiB: 7, so that they are used again while they are warm) by one compare-and-swap, so that a producer
 * on one core and a consumer on another share one cache line per chain, not per message. Threads that are no workers use
 * malloc. Sanitizer builds use malloc for every message. */
#ifndef RR_RUNTIME_MESSAGE_H
#define RR_RUNTIME_MESSAGE_H

#include <stdatomic.h>
#include <string.h>

#include "runtime/census.h"
#include "runtime/executor.h"
#include "runtime/remote.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define RR__POOLS 0 /* every message its own allocation, so that the sanitizers see each one's life */
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define RR__POOLS 0
#endif
#endif
#ifndef RR__POOLS
#define RR__POOLS 1
#endif

enum { /* kinds behind the public ones: never seen by receive(), except a proxy's */
    RR__MONITOR = RR_KIND_MONITOR,
    RR__DEMONITOR = RR_KIND_DEMONITOR,
    RR__LINK = RR_KIND_LINK,
    RR__UNLINK = RR_KIND_UNLINK,
    RR__CALL_TIMER,
    RR__PACK,  /* pack.h */
    RR__SHEET, /* sheet.h */
};

enum {
    RR__BUFFERED = 1,    /* payload.buffer holds a reference */
    RR__UNSHEDDABLE = RR_ENVELOPE_UNSHEDDABLE, /* never refused or shed for fullness */
    RR__ANSWERED = 4,    /* a call that was replied to */
    RR__TAKEN = 8,       /* owned by its handler; `to` is then its id in the actor's table of taken messages */
    RR__QUEUED = 16,     /* stands in a mailbox as its dummy, or is in its turn out of a pack: freed by that */
    RR__ANNOUNCES = 32,  /* `request` is the address of a message that stands a little behind this one */
};

struct rr_message {
    /* Written once by the producer that came next (release), read by the consumer (acquire): publishes that message. */
    _Atomic(rr_message_t *) next;
    rr_addr_t to;
    rr_addr_t from;
    uint64_t request; /* id of a call, timer or monitor; of a RR_SEND nothing, or see RR__ANNOUNCES */
    uint32_t type;
    uint32_t size;
    uint16_t origin; /* the owning pool's number + 1; 0 = malloc */
    uint16_t weight; /* what it counts in the mailbox */
    uint8_t kind;
    uint8_t flags;
    uint8_t size_class;
    uint8_t unused;
    union {
        rr_buffer_t *buffer;
        uint8_t data[16];
    } payload;
};
_Static_assert(offsetof(struct rr_message, payload) == 48, "a 16-byte payload shares the header's cache line");

#define RR__CLASSES 6
#define RR__INLINE_MAX 976u /* 1024 - header */
#define RR__BIG_CLASS 5u    /* packs only: pack.h */
#define RR__BIG_MAX 8144u   /* 8192 - header */

#define RR__BUNCH 7u

/* Free messages lie in bunches: one stands for itself and for six others, whose memory is not touched. After some seconds
 * of flooding the free messages of a pool lie in no order at all, more of them than fit a core's cache: in a list of single
 * ones every allocation waits for the memory of the one before. Of a bunch all are known, so they are fetched ahead. */
typedef struct rr__bunch {
    struct rr__bunch *next;
    rr_message_t *others[RR__BUNCH - 1];
    uint8_t count, size_class; /* count: of others */
} rr__bunch_t;
_Static_assert(sizeof(rr__bunch_t) <= 64, "a bunch stands in the smallest message");

typedef struct rr__shelf { /* free messages of one class */
    unsigned count;
    rr_message_t *at_hand[2 * RR__BUNCH]; /* last in, first out; filled and emptied by bunches */
    rr__bunch_t *bunches;
} rr__shelf_t;

typedef struct rr__chain { /* bunches of one origin */
    uint16_t origin, count; /* count of messages; 0 = empty */
    rr__bunch_t *first, *last;
} rr__chain_t;

/* One worker's messages, and its part of the census. It outlives the worker: the next one with the same number takes it over. */
typedef struct rr__pool {
    uint16_t number; /* owner only, from here ... */
    rr__bunch_t *returned; /* came home, not yet sorted into free[] */
    rr__shelf_t free[RR__CLASSES];
    char *slab;
    size_t slab_left;
    void *slabs; /* chain of all, for the end */
    rr__chain_t out[16]; /* freed here, not yet sent home ... to here */
    /* Chains that came home. Others push (CAS release), the owner takes all (exchange acquire); never popped one by one,
     * so no ABA. On its own line: the owner's allocations must not share it. */
    _Alignas(64) _Atomic(rr__bunch_t *) inbound;
    rr__tally_t tally; /* actors that workers of this number spawned and ended */
} rr__pool_t;

rr__pool_t *rr__pool_new(unsigned number);
/* Frees the pool and all its messages, wherever they are. */
void rr__pool_destroy(rr__pool_t *pool);
/* Sends everything freed here home. Owner only. */
void rr__pool_flush(rr_system_t *system, rr__pool_t *pool);

/* A message with room for `size` inline bytes (<= RR__INLINE_MAX), header fields zero but size and origin. pool may be NULL.
 * NULL when out of memory. */
rr_message_t *rr__message_new(rr__pool_t *pool, size_t size);
static inline rr_message_t *rr__message_new_fast(rr__pool_t *pool, size_t size); /* without a call if one is at hand */
rr_message_t *rr__message_new_big(rr__pool_t *pool); /* RR__BIG_MAX inline bytes */
/* A message with a copy of data: inline, or as a buffer of its own above RR__INLINE_MAX. */
rr_message_t *rr__message_copy(rr__pool_t *pool, const void *data, size_t size);
/* The same, for where every nanosecond counts: the commonest (8 to 16 bytes, one is at hand) without a call. */
static inline rr_message_t *rr__message_copy_fast(rr__pool_t *pool, const void *data, size_t size);
/* A message around a buffer, whose reference it takes over also on failure. */
rr_message_t *rr__message_wrap(rr__pool_t *pool, rr_buffer_t *buffer);
/* Drops the payload now, keeps the node. */
void rr__message_drop_buffer(rr_message_t *msg); /* its rare part */
static inline void rr__message_drop_payload(rr_message_t *msg) {
    if (__builtin_expect(msg->flags & RR__BUFFERED, 0))
        rr__message_drop_buffer(msg);
}
/* Payload and node. pool: the calling thread's, or NULL. */
void rr__message_free(rr_system_t *system, rr__pool_t *pool, rr_message_t *msg);
/* The same, without a call for one of the own pool. */
static inline void rr__message_free_fast(rr_system_t *system, rr__pool_t *pool, rr_message_t *msg);

/* Mailbox accounting in units of 64 bytes, at least one. */
static inline uint32_t rr__message_units(const rr_message_t *msg) { return (msg->size >> 6) + 1; }

/* ---- What is worth inlining ------------------------------------------------------------------------------------------ */

/* All fields but to and type. origin: the pool's number + 1, or 0. */
static inline void rr__message_init(rr_message_t *msg, unsigned origin, unsigned size_class, size_t size) {
    atomic_store_explicit(&msg->next, NULL, memory_order_relaxed);
    msg->from = RR_NOBODY;
    msg->request = 0;
    msg->size = (uint32_t)size;
    msg->origin = (uint16_t)origin;
    msg->weight = 1;
    msg->kind = RR_SEND;
    msg->flags = 0;
    msg->size_class = (uint8_t)size_class;
}

/* What an envelope says but the body, into a new message. */
static inline void rr__message_address(rr_message_t *msg, const rr_envelope_t *env) {
    msg->to = env->to;
    msg->from = env->from;
    msg->request = env->request;
    msg->type = env->type;
    msg->weight = env->weight;
    msg->kind = env->kind;
    msg->flags |= env->flags & RR__UNSHEDDABLE;
}

static inline unsigned rr__message_class(size_t payload) {
    size_t need = payload + offsetof(struct rr_message, payload);
    return need <= 64 ? 0 : 64 - (unsigned)__builtin_clzll((unsigned long long)(need - 1)) - 6;
}

static inline rr_message_t *rr__message_new_fast(rr__pool_t *pool, size_t size) {
    unsigned size_class = rr__message_class(size);
    if (!RR__POOLS || !pool || !pool->free[size_class].count)
        return rr__message_new(pool, size);
    rr_message_t *msg = pool->free[size_class].at_hand[--pool->free[size_class].count];
    rr__message_init(msg, pool->number + 1u, size_class, size);
    return msg;
}

/* 8 to 16 bytes, as two overlapping eights. */
static inline void rr__copy_few(void *to, const void *from, size_t size) {
    memcpy(to, from, 8);
    memcpy((char *)to + size - 8, (const char *)from + size - 8, 8);
}

static inline rr_message_t *rr__message_copy_fast(rr__pool_t *pool, const void *data, size_t size) {
    if (!RR__POOLS || !pool || size - 8 > 8 || !pool->free[0].count)
        return rr__message_copy(pool, data, size);
    rr_message_t *msg = pool->free[0].at_hand[--pool->free[0].count];
    rr__message_init(msg, pool->number + 1u, 0, size);
    rr__copy_few(msg->payload.data, data, size);
    return msg;
}

static inline void rr__message_free_fast(rr_system_t *system, rr__pool_t *pool, rr_message_t *msg) {
    rr__shelf_t *shelf = pool && msg->origin == pool->number + 1 ? &pool->free[msg->size_class] : NULL;
    if (!shelf || shelf->count == 2 * RR__BUNCH || (msg->flags & RR__BUFFERED))
        rr__message_free(system, pool, msg);
    else
        shelf->at_hand[shelf->count++] = msg;
}

#endif
