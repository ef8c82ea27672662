/* pack.h: small messages for one receiver, packed into one. Private to runtime/.
 *
 * What goes to or comes from another node comes in runs. As messages of their own they are made on one thread and read and
 * freed on another, each with cache lines of its own; packed they cross together, and each becomes a message (or, for a
 * proxy, an envelope) only in its receiver's turn, where it is freed again at once. A pack is a message of kind RR__PACK
 * with everything inline. In a mailbox it counts what its messages would count one by one, and a turn may stop between any
 * two of them: nobody but the runtime can tell that they were packed. */
#ifndef RR_RUNTIME_PACK_H
#define RR_RUNTIME_PACK_H

#include <string.h>

#include "runtime/message.h"

/* The first pack of a row is small and takes small ones only, so that a few messages here and there cost no memory; those behind
 * it, and whatever is larger in a row that is no short one, go to big packs. */
#define RR__PACKED_SMALL 256u
#define RR__PACKED_MAX RR_ROW_MAX /* larger ones are messages of their own */
#define RR__PACKED_ROW 4u    /* as many before a larger one is packed */

/* rr_packed_t stands in front of each payload. `to` is the pack's. */
_Static_assert(sizeof(rr_packed_t) == 32 && offsetof(struct rr_message, payload) % 8 == 0, "payloads are 8-aligned");

static inline uint8_t *rr__pack_bytes(rr_message_t *pack) { return pack->payload.data; }

/* An empty one for that receiver; NULL when out of memory. Its `size` are the bytes in use, its `request` those taken out. */
static inline rr_message_t *rr__pack_new(rr__pool_t *pool, rr_addr_t to, bool big) {
    rr_message_t *pack = big ? rr__message_new_big(pool) : rr__message_new(pool, RR__INLINE_MAX);
    if (!pack)
        return NULL;
    pack->kind = RR__PACK;
    pack->to = to;
    pack->size = 0;
    return pack;
}

/* A message's bytes in the mailbox, see rr__message_units. */
static inline uint64_t rr__envelope_counts(const rr_envelope_t *env, uint64_t unit) {
    return env->weight + ((env->size >> 6) + 1) * unit;
}

/* Behind `count` others of its row? */
static inline bool rr__packable(const rr_envelope_t *env, unsigned count) {
    return !env->buffer && count && env->size <= (count < RR__PACKED_ROW ? RR__PACKED_SMALL : RR__PACKED_MAX);
}

/* Where one more would stand; NULL: there is no room. */
static inline rr_packed_t *rr__pack_room(rr_message_t *pack, uint32_t payload) {
    uint32_t size = (uint32_t)sizeof(rr_packed_t) + ((payload + 7) & ~7u);
    if (size > (pack->size_class == RR__BIG_CLASS ? RR__BIG_MAX : RR__INLINE_MAX) - pack->size)
        return NULL;
    return (rr_packed_t *)(void *)(rr__pack_bytes(pack) + pack->size);
}

/* The payload behind it, and its bytes in the pack. */
static inline void rr__pack_add(rr_message_t *pack, rr_packed_t *item, const void *data, uint32_t size) {
    if (size <= RR__PACKED_SMALL)
        rr_copy_small((uint8_t *)(item + 1), data, size);
    else
        memcpy(item + 1, data, size);
    pack->size += (uint32_t)sizeof *item + ((size + 7) & ~7u);
}

/* Appends a copy. False: there is no room. */
static inline bool rr__pack_put(rr_message_t *pack, const rr_envelope_t *env) {
    rr_packed_t *item = rr__pack_room(pack, env->size);
    if (!item)
        return false;
    rr_packed_set(item, env->from, env->request, env->type, env->size, env->weight, env->kind, env->flags);
    rr__pack_add(pack, item, env->data, env->size);
    return true;
}

/* Whoever begins with a pack fetches the one behind it, which was written on another thread; what is far into a big one comes by
 * itself then. */
static inline void rr__pack_fetch_next(const rr_message_t *pack) {
    const char *next = (const char *)atomic_load_explicit(&pack->next, memory_order_relaxed);
    for (unsigned line = 0; next && line < sizeof(struct rr_message) + RR__INLINE_MAX; line += 64)
        __builtin_prefetch(next + line);
}

static inline bool rr__pack_empty(const rr_message_t *pack) { return pack->request >= pack->size; }

/* Those that are left, for a proxy. */
static inline rr_run_t rr__pack_run(rr_message_t *pack) {
    return (rr_run_t){.to = pack->to, .at = rr__pack_bytes(pack) + pack->request, .end = rr__pack_bytes(pack) + pack->size};
}

/* Those that were taken out of a run are taken out of its pack. Returns what they count in the mailbox. */
static inline uint64_t rr__pack_taken(rr_message_t *pack, const rr_run_t *run, uint64_t unit) {
    pack->request = (uint64_t)(run->at - rr__pack_bytes(pack));
    return run->weight + run->units * unit;
}

/* The next one of a pack that is not empty, taken out; its payload stands in the pack behind it. */
static inline const rr_packed_t *rr__pack_next(rr_message_t *pack) {
    const rr_packed_t *item = (const rr_packed_t *)(const void *)(rr__pack_bytes(pack) + pack->request);
    pack->request += sizeof *item + ((item->size + 7) & ~7u);
    return item;
}

static inline rr_envelope_t rr__packed_envelope(const rr_message_t *pack, const rr_packed_t *item) {
    rr_run_t run = {.to = pack->to};
    return rr_run_envelope(&run, item);
}

static inline rr_envelope_t rr__pack_take(rr_message_t *pack) { return rr__packed_envelope(pack, rr__pack_next(pack)); }

static inline uint64_t rr__packed_counts(const rr_packed_t *item, uint64_t unit) {
    return item->weight + ((item->size >> 6) + 1) * unit;
}

#endif
