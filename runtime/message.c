#include "runtime/message.h"

#include "runtime/alloc.h"
#include <string.h>

#include "runtime/system.h"

#define SLAB_SIZE (64u << 10)
#define CHAIN_MAX (9 * RR__BUNCH)
#define CHAIN_MAX_BIG RR__BUNCH /* what lies in chains is memory that its owner does not use again while it is warm */

static const uint16_t class_size[RR__CLASSES] = {64, 128, 256, 512, 1024, 8192};

rr__pool_t *rr__pool_new(unsigned number) {
    rr__pool_t *pool = rr__aligned_alloc(64, (sizeof *pool + 63) & ~(size_t)63);
    if (!pool)
        return NULL;
    memset(pool, 0, sizeof *pool);
    pool->number = (uint16_t)number;
    return pool;
}

void rr__pool_destroy(rr__pool_t *pool) {
    if (!pool)
        return;
    for (void *slab = pool->slabs; slab;) {
        void *next = *(void **)slab;
        rr__free(slab);
        slab = next;
    }
    rr__free(pool);
}

static void send_home(rr_system_t *system, rr__chain_t *chain) {
    if (!chain->count)
        return;
    rr__pool_t *home = atomic_load_explicit(&system->pools[chain->origin - 1], memory_order_acquire);
    rr__bunch_t *old = atomic_load_explicit(&home->inbound, memory_order_relaxed);
    do
        chain->last->next = old;
    while (!atomic_compare_exchange_weak_explicit(&home->inbound, &old, chain->first, memory_order_release,
                                                  memory_order_relaxed));
    chain->count = 0;
}

void rr__pool_flush(rr_system_t *system, rr__pool_t *pool) {
    for (unsigned i = 0; i < 16; i++)
        send_home(system, &pool->out[i]);
}

static rr__bunch_t *bunch_begin(rr_message_t *msg, unsigned size_class, rr__bunch_t *next) {
    rr__bunch_t *bunch = (rr__bunch_t *)(void *)msg;
    bunch->next = next;
    bunch->count = 0;
    bunch->size_class = (uint8_t)size_class;
    return bunch;
}

/* Makes room: the half that was freed first becomes a bunch. */
static __attribute__((noinline)) void shelf_pack(rr__shelf_t *shelf, unsigned size_class) {
    rr__bunch_t *bunch = bunch_begin(shelf->at_hand[0], size_class, shelf->bunches);
    bunch->count = RR__BUNCH - 1;
    memcpy(bunch->others, shelf->at_hand + 1, sizeof bunch->others);
    memcpy(shelf->at_hand, shelf->at_hand + RR__BUNCH, RR__BUNCH * sizeof shelf->at_hand[0]);
    shelf->count = RR__BUNCH;
    shelf->bunches = bunch;
}

static inline void shelf_put(rr__shelf_t *shelf, rr_message_t *msg) {
    if (__builtin_expect(shelf->count == 2 * RR__BUNCH, 0))
        shelf_pack(shelf, msg->size_class);
    shelf->at_hand[shelf->count++] = msg;
}

static rr_message_t *carve(rr__pool_t *pool, unsigned size_class) {
    size_t size = class_size[size_class];
    if (pool->slab_left < size) {
        char *slab = rr__aligned_alloc(64, SLAB_SIZE);
        if (!slab)
            return NULL;
        *(void **)slab = pool->slabs; /* the rest of the old slab is given up: at most 1 KiB in 64, for a big one 8 */
        pool->slabs = slab;
        pool->slab = slab + 64;
        pool->slab_left = SLAB_SIZE - 64;
    }
    rr_message_t *msg = (rr_message_t *)(void *)pool->slab;
    pool->slab += size;
    pool->slab_left -= size;
    return msg;
}

/* One at a time: what came home may be much, and most of it cold. */
static rr__bunch_t *take_returned(rr__pool_t *pool, unsigned size_class) {
    for (;;) {
        if (!pool->returned && atomic_load_explicit(&pool->inbound, memory_order_relaxed))
            pool->returned = atomic_exchange_explicit(&pool->inbound, NULL, memory_order_acquire);
        rr__bunch_t *bunch = pool->returned;
        if (!bunch)
            return NULL;
        pool->returned = bunch->next;
        if (bunch->size_class == size_class)
            return bunch;
        bunch->next = pool->free[bunch->size_class].bunches;
        pool->free[bunch->size_class].bunches = bunch;
    }
}

/* While this bunch is given out, the next one's messages are fetched, and the head of the one after it. */
static void fetch_ahead(const rr__bunch_t *bunch) {
    if (!bunch)
        return;
    for (unsigned i = 0; i < bunch->count; i++)
        __builtin_prefetch(bunch->others[i], 1);
    if (bunch->next)
        __builtin_prefetch(bunch->next, 1);
}

/* At hand there is none. */
static __attribute__((noinline)) rr_message_t *shelf_refill(rr__pool_t *pool, unsigned size_class) {
    rr__shelf_t *shelf = &pool->free[size_class];
    rr__bunch_t *bunch = shelf->bunches;
    if (bunch)
        shelf->bunches = bunch->next;
    else if (!(bunch = take_returned(pool, size_class)))
        return carve(pool, size_class);
    shelf->count = bunch->count;
    memcpy(shelf->at_hand, bunch->others, sizeof bunch->others);
    fetch_ahead(shelf->bunches ? shelf->bunches : pool->returned);
    return (rr_message_t *)(void *)bunch;
}

static inline rr_message_t *pool_get(rr__pool_t *pool, unsigned size_class) {
    rr__shelf_t *shelf = &pool->free[size_class];
    if (__builtin_expect(shelf->count, 1))
        return shelf->at_hand[--shelf->count];
    return shelf_refill(pool, size_class);
}

static inline rr_message_t *new_of_class(rr__pool_t *pool, size_t size, unsigned size_class) {
    bool pooled = RR__POOLS && pool;
    rr_message_t *msg = pooled ? pool_get(pool, size_class) : rr__malloc(class_size[size_class]);
    if (!msg)
        return NULL;
    rr__message_init(msg, pooled ? pool->number + 1u : 0, size_class, size);
    return msg;
}

static inline rr_message_t *message_new(rr__pool_t *pool, size_t size) {
    return new_of_class(pool, size, rr__message_class(size));
}

rr_message_t *rr__message_new(rr__pool_t *pool, size_t size) { return message_new(pool, size); }

rr_message_t *rr__message_new_big(rr__pool_t *pool) { return new_of_class(pool, RR__BIG_MAX, RR__BIG_CLASS); }

rr_message_t *rr__message_copy(rr__pool_t *pool, const void *data, size_t size) {
    if (size <= RR__INLINE_MAX) {
        rr_message_t *msg = message_new(pool, size);
        if (msg && size - 8 <= 8)
            rr__copy_few(msg->payload.data, data, size);
        else if (msg && size)
            memcpy(msg->payload.data, data, size);
        return msg;
    }
    rr_buffer_t *buffer = rr_buffer_copy(data, size);
    return buffer ? rr__message_wrap(pool, buffer) : NULL;
}

rr_message_t *rr__message_wrap(rr__pool_t *pool, rr_buffer_t *buffer) {
    rr_message_t *msg = rr__message_new(pool, sizeof buffer);
    if (!msg) {
        rr_buffer_unref(buffer);
        return NULL;
    }
    msg->size = (uint32_t)rr_buffer_size(buffer);
    msg->flags = RR__BUFFERED;
    msg->payload.buffer = buffer;
    return msg;
}

void rr__message_drop_buffer(rr_message_t *msg) {
    rr_buffer_unref(msg->payload.buffer);
    msg->flags &= (uint8_t)~RR__BUFFERED;
    msg->size = 0;
}

static void chain_add(rr__chain_t *chain, rr_message_t *msg) {
    rr__bunch_t *bunch = chain->first;
    uint8_t size_class = msg->size_class;
    if (chain->count++ && bunch->count < RR__BUNCH - 1 && bunch->size_class == size_class) {
        bunch->others[bunch->count++] = msg;
        return;
    }
    chain->first = bunch_begin(msg, size_class, bunch);
    if (chain->count == 1)
        chain->last = chain->first;
}

static __attribute__((noinline)) void free_remote(rr_system_t *system, rr__pool_t *pool, rr_message_t *msg) {
    rr__chain_t single = {0};
    rr__chain_t *chain = pool ? &pool->out[msg->origin & 15] : &single;
    if (chain->count && chain->origin != msg->origin)
        send_home(system, chain);
    chain->origin = msg->origin;
    unsigned most = msg->size_class == RR__BIG_CLASS ? CHAIN_MAX_BIG : CHAIN_MAX; /* its header is the chain's now */
    chain_add(chain, msg);
    if (!pool || chain->count >= most)
        send_home(system, chain);
}

void rr__message_free(rr_system_t *system, rr__pool_t *pool, rr_message_t *msg) {
    rr__message_drop_payload(msg);
    if (!msg->origin)
        rr__free(msg);
    else if (pool && msg->origin == pool->number + 1)
        shelf_put(&pool->free[msg->size_class], msg);
    else
        free_remote(system, pool, msg);
}

rr_kind_t rr_message_kind(const rr_message_t *msg) { return (rr_kind_t)msg->kind; }
uint32_t rr_message_type(const rr_message_t *msg) { return msg->type; }
rr_addr_t rr_message_from(const rr_message_t *msg) { return msg->from; }
uint64_t rr_message_request(const rr_message_t *msg) { return msg->flags & RR__ANNOUNCES ? 0 : msg->request; }
size_t rr_message_size(const rr_message_t *msg) { return msg->size; }

const void *rr_message_data(const rr_message_t *msg) {
    return msg->flags & RR__BUFFERED ? rr_buffer_data(msg->payload.buffer) : msg->payload.data;
}

rr_buffer_t *rr_message_buffer(const rr_message_t *msg) {
    return msg->flags & RR__BUFFERED ? msg->payload.buffer : NULL;
}
