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

/* Appends a copy. False: there is no room. */
static inline bool rr__pack_put(rr_message_t *pack, const rr_envelope_t *env) {
    uint32_t size = (uint32_t)sizeof(rr_packed_t) + ((env->size + 7) & ~7u);
    if (size > (pack->size_class == RR__BIG_CLASS ? RR__BIG_MAX : RR__INLINE_MAX) - pack->size)
        return false;
    rr_packed_t *item = (rr_packed_t *)(void *)(rr__pack_bytes(pack) + pack->size);
    *item = (rr_packed_t){.from = env->from,
                           .request = env->request,
                           .type = env->type,
                           .size = env->size,
                           .weight = env->weight,
                           .kind = env->kind,
                           .flags = env->flags};
    if (env->size <= RR__PACKED_SMALL)
        rr_copy_small((uint8_t *)(item + 1), env->data, env->size);
    else
        memcpy(item + 1, env->data, env->size);
    pack->size += size;
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
    uint64_t counts = 0;
    rr_run_t done = {.at = rr__pack_bytes(pack) + pack->request, .end = run->at};
    for (const rr_packed_t *item; (item = rr_run_first(&done)) != NULL; rr_run_take(&done, item))
        counts += item->weight + ((item->size >> 6) + 1) * unit;
    pack->request = (uint64_t)(run->at - rr__pack_bytes(pack));
    return counts;
}

/* The next one of a pack that is not empty; its data stand in the pack. */
static inline rr_envelope_t rr__pack_take(rr_message_t *pack) {
    rr_run_t run = rr__pack_run(pack);
    const rr_packed_t *item = rr_run_first(&run);
    pack->request += sizeof *item + ((item->size + 7) & ~7u);
    return rr_run_envelope(&run, item);
}

#endif
