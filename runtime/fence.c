#include "runtime/fence.h"

#include <string.h>

#include "runtime/alloc.h"
#include "runtime/system.h"

#define HASH_NONFATAL_OOM 1
#define uthash_malloc(size) rr__malloc(size)
#define uthash_free(memory, size) rr__free(memory)
#include <uthash.h>

#define NAMES 131072u  /* known at most, those that nobody has any more included */
#define STALE 65536u   /* addresses remembered at most: the oldest are forgotten */
#define OWN 65536u     /* of granted actors here, ended ones included: as they may still be heard */
#define BLOB_MAX 4096u /* names of one actor */

typedef struct known { /* the highest epoch heard of for a name */
    UT_hash_handle hh;
    rr_addr_t addr; /* RR_NOBODY: nobody since then */
    uint64_t epoch;
    char text[];
} known_t;

typedef struct stale {
    UT_hash_handle hh;
    rr_addr_t addr;
} stale_t;

typedef struct own { /* what is announced of an actor here: see put_name */
    UT_hash_handle hh;
    rr_addr_t addr;
    uint32_t size;
    uint8_t *blob;
} own_t;

/* In uthash tables the iteration order is that of insertion: the first is the oldest. */
struct rr__fence {
    rr__fence_count_t stale_count; /* first: rr__fence_any */
    pthread_rwlock_t lock;
    known_t *names;
    stale_t *stale;
    own_t *own;
    /* How many there are: written under the lock, read by every message to another node (relaxed). An actor is in here before
     * its first turn, whose messages reach the carrier through its proxy's mailbox (release and acquire). */
    _Atomic(uint32_t) own_count;
    _Atomic(uint32_t) version; /* of what actors announce; as own_count */
};

int rr__fence_create(struct rr__fence **out) {
    struct rr__fence *fence = rr__calloc(1, sizeof *fence);
    if (!fence)
        return RR_ENOMEM;
    pthread_rwlock_init(&fence->lock, NULL);
    *out = fence;
    return RR_OK;
}

static void drop_stale(struct rr__fence *fence, stale_t *item) {
    HASH_DEL(fence->stale, item);
    rr__free(item);
    atomic_store_explicit(&fence->stale_count.n, HASH_COUNT(fence->stale), memory_order_relaxed);
}

static void drop_known(struct rr__fence *fence, known_t *item) {
    HASH_DEL(fence->names, item);
    rr__free(item);
}

static void drop_own(struct rr__fence *fence, own_t *item) {
    HASH_DEL(fence->own, item);
    rr__free(item->blob);
    rr__free(item);
    atomic_store_explicit(&fence->own_count, HASH_COUNT(fence->own), memory_order_relaxed);
}

void rr__fence_destroy(struct rr__fence *fence) {
    if (!fence)
        return;
    while (fence->stale)
        drop_stale(fence, fence->stale);
    while (fence->names)
        drop_known(fence, fence->names);
    while (fence->own)
        drop_own(fence, fence->own);
    pthread_rwlock_destroy(&fence->lock);
    rr__free(fence);
}

/* ---- Stale addresses --------------------------------------------------------------------------------------------- */

/* Under the lock. Without memory it is as with an address that was forgotten: the others still refuse it. */
static void add_stale(struct rr__fence *fence, rr_addr_t addr) {
    stale_t *item;
    HASH_FIND(hh, fence->stale, &addr, sizeof addr, item);
    if (item || addr == RR_NOBODY)
        return;
    if (HASH_COUNT(fence->stale) >= STALE)
        drop_stale(fence, fence->stale);
    item = rr__malloc(sizeof *item);
    if (!item)
        return;
    item->addr = addr;
    HASH_ADD(hh, fence->stale, addr, sizeof addr, item);
    if (!item->hh.tbl)
        rr__free(item);
    atomic_store_explicit(&fence->stale_count.n, HASH_COUNT(fence->stale), memory_order_relaxed);
}

/* Under the lock. */
static void not_stale(struct rr__fence *fence, rr_addr_t addr) {
    stale_t *item;
    HASH_FIND(hh, fence->stale, &addr, sizeof addr, item);
    if (item)
        drop_stale(fence, item);
}

bool rr__fence_stale(rr_system_t *system, rr_addr_t addr) {
    struct rr__fence *fence = system->fence;
    if (!atomic_load_explicit(&fence->stale_count.n, memory_order_relaxed))
        return false;
    stale_t *item;
    pthread_rwlock_rdlock(&fence->lock);
    HASH_FIND(hh, fence->stale, &addr, sizeof addr, item);
    pthread_rwlock_unlock(&fence->lock);
    return item != NULL;
}

void rr_fences_forget(rr_system_t *system, unsigned node) {
    struct rr__fence *fence = system->fence;
    stale_t *item, *next;
    pthread_rwlock_wrlock(&fence->lock);
    HASH_ITER(hh, fence->stale, item, next)
        if (rr_addr_node(item->addr) == node)
            drop_stale(fence, item);
    pthread_rwlock_unlock(&fence->lock);
}

/* ---- Names ------------------------------------------------------------------------------------------------------- */

/* The oldest that nobody has, among the oldest some; else the oldest. */
static void make_room(struct rr__fence *fence) {
    known_t *item = fence->names;
    for (int i = 0; i < 64 && item && item->addr != RR_NOBODY; i++)
        item = item->hh.next;
    if (HASH_COUNT(fence->names) >= NAMES)
        drop_known(fence, item && item->addr == RR_NOBODY ? item : fence->names);
}

static bool add_known(struct rr__fence *fence, const char *text, rr_addr_t addr, uint64_t epoch) {
    size_t size = strlen(text);
    make_room(fence);
    known_t *item = rr__malloc(sizeof *item + size + 1);
    if (!item)
        return false;
    memcpy(item->text, text, size + 1);
    item->addr = addr;
    item->epoch = epoch;
    HASH_ADD(hh, fence->names, text, size, item);
    bool added = item->hh.tbl != NULL;
    if (!added)
        rr__free(item);
    return added;
}

bool rr_fence_name(rr_system_t *system, const char *text, rr_addr_t addr, uint64_t epoch) {
    struct rr__fence *fence = system->fence;
    known_t *item;
    bool owner = true;
    pthread_rwlock_wrlock(&fence->lock);
    HASH_FIND(hh, fence->names, text, strlen(text), item);
    if (!item) {
        if (!add_known(fence, text, addr, epoch))
            rr_log(system, RR_ERROR, "RUNTIME", "no memory to remember who owns %s", text);
    } else if (epoch > item->epoch) {
        if (item->addr != addr)
            add_stale(fence, item->addr);
        not_stale(fence, addr); /* it lost the name and has it again */
        item->addr = addr;
        item->epoch = epoch;
    } else if (epoch < item->epoch && addr != item->addr) {
        add_stale(fence, addr);
        owner = false;
    } else if (epoch == item->epoch && addr == RR_NOBODY) {
        item->addr = RR_NOBODY; /* released: the epoch stays */
    }
    pthread_rwlock_unlock(&fence->lock);
    return owner;
}

/* ---- Announcing -------------------------------------------------------------------------------------------------- */

/* A blob is any number of { u64 epoch, u8 size, name }, little endian. */
static uint32_t put_name(uint8_t *out, const char *text, uint64_t epoch) {
    size_t size = strlen(text);
    for (int i = 0; i < 8; i++)
        out[i] = (uint8_t)(epoch >> 8 * i);
    out[8] = (uint8_t)size;
    memcpy(out + 9, text, size);
    return (uint32_t)(9 + size);
}

/* Where the name stands in a blob; its end if it is not in there. */
static uint32_t place_of(const own_t *item, const char *text) {
    size_t size = strlen(text);
    uint32_t at = 0;
    while (at < item->size && (item->blob[at + 8] != size || memcmp(item->blob + at + 9, text, size)))
        at += 9u + item->blob[at + 8];
    return at;
}

static own_t *own_of(struct rr__fence *fence, rr_addr_t addr) {
    own_t *item;
    HASH_FIND(hh, fence->own, &addr, sizeof addr, item);
    if (item)
        return item;
    if (HASH_COUNT(fence->own) >= OWN)
        drop_own(fence, fence->own);
    item = rr__calloc(1, sizeof *item);
    if (!item)
        return NULL;
    item->addr = addr;
    HASH_ADD(hh, fence->own, addr, sizeof addr, item);
    if (!item->hh.tbl) {
        rr__free(item);
        return NULL;
    }
    return item;
}

int rr_fence_own(rr_system_t *system, const char *text, rr_addr_t addr, uint64_t epoch) {
    struct rr__fence *fence = system->fence;
    int rc = rr_name_legal(text) ? RR_ENOMEM : RR_EINVAL;
    if (rc == RR_EINVAL)
        return rc;
    pthread_rwlock_wrlock(&fence->lock);
    own_t *item = own_of(fence, addr);
    uint32_t at = item ? place_of(item, text) : 0;
    uint8_t *blob = item ? rr__realloc(item->blob, item->size + 9 + strlen(text)) : NULL;
    if (blob) {
        item->blob = blob;
        uint32_t end = at <= BLOB_MAX ? at + put_name(blob + at, text, epoch) : at;
        item->size = end > item->size ? end : item->size;
        atomic_store_explicit(&fence->own_count, HASH_COUNT(fence->own), memory_order_release);
        atomic_fetch_add_explicit(&fence->version, 1, memory_order_release);
        rc = RR_OK;
    }
    pthread_rwlock_unlock(&fence->lock);
    return rc;
}

static const rr_addr_t *cell_of(const rr_announced_t *done, rr_addr_t from) {
    return &done->known[(from * 0x9e3779b97f4a7c15ull) >> 56];
}

bool rr_announce(rr_system_t *system, rr_announced_t *done, const rr_envelope_t *env, rr_announcement_t *out) {
    struct rr__fence *fence = system->fence;
    if (!atomic_load_explicit(&fence->own_count, memory_order_acquire) || env->from == RR_NOBODY)
        return false;
    uint32_t version = atomic_load_explicit(&fence->version, memory_order_acquire);
    if (done->version != version)
        *done = (rr_announced_t){.version = version};
    rr_addr_t *cell = (rr_addr_t *)cell_of(done, env->from);
    if (*cell == env->from)
        return false;
    *cell = env->from;
    own_t *item;
    pthread_rwlock_rdlock(&fence->lock);
    HASH_FIND(hh, fence->own, &env->from, sizeof env->from, item);
    uint32_t size = item ? item->size : 0;
    if (item)
        memcpy(out->bytes, item->blob, size);
    pthread_rwlock_unlock(&fence->lock);
    out->env = (rr_envelope_t){.to = env->to,
                               .from = env->from,
                               .size = size,
                               .weight = 1,
                               .kind = RR_KIND_ANNOUNCE,
                               .flags = RR_ENVELOPE_UNSHEDDABLE,
                               .data = out->bytes};
    return size != 0;
}

bool rr_is_announced(rr_system_t *system, const rr_announced_t *done, rr_addr_t from) {
    struct rr__fence *fence = system->fence;
    if (!atomic_load_explicit(&fence->own_count, memory_order_acquire) || from == RR_NOBODY)
        return true;
    return done->version == atomic_load_explicit(&fence->version, memory_order_acquire) && *cell_of(done, from) == from;
}

static int hear(rr_system_t *system, const rr_envelope_t *env) {
    const uint8_t *at = env->data, *end = at + env->size;
    while (at != end) {
        char text[128];
        uint64_t epoch = 0;
        if (end - at < 9 || end - at - 9 < at[8] || at[8] >= sizeof text)
            return RR_EPROTO;
        for (int i = 0; i < 8; i++)
            epoch |= (uint64_t)at[i] << 8 * i;
        memcpy(text, at + 9, at[8]);
        text[at[8]] = '\0';
        if (!epoch || strlen(text) != at[8] || !rr_name_legal(text))
            return RR_EPROTO;
        at += 9 + at[8];
        if (!rr_fence_name(system, text, env->from, epoch))
            rr_log(system, RR_WARN, "NAMES", "an actor of node %u still takes itself for %s: it is not heard any more",
                   rr_addr_node(env->from), text);
    }
    return RR_CANCELLED;
}

int rr__fence_check(rr_system_t *system, const rr_envelope_t *env) {
    if (__builtin_expect(env->kind == RR_KIND_ANNOUNCE, 0))
        return hear(system, env);
    if (__builtin_expect(!rr__fence_stale(system, env->from), 1))
        return RR_OK;
    switch (env->kind) {
    case RR_REPLY: /* to a call that it has perhaps executed: that is what the caller hears */
        (void)rr__reply_code(system, env->to, env->request, RR_LINKDOWN);
        return RR_CANCELLED;
    case RR_DOWN:
    case RR_EXIT:
    case RR_KIND_DEMONITOR:
    case RR_KIND_UNLINK: /* of its end one may hear */
        return RR_OK;
    default:
        return RR_STALE;
    }
}
