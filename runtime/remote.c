#include "runtime/remote.h"

#include <string.h>
#include <sys/mman.h>

#include "runtime/alloc.h"
#include "runtime/fence.h"
#include "runtime/system.h"

#define HASH_NONFATAL_OOM 1
#define uthash_malloc(size) rr__malloc(size)
#define uthash_free(memory, size) rr__free(memory)
#include <uthash.h>

#define NODES 65536u

_Static_assert((int)RR__MONITOR == (int)RR_KIND_MONITOR && (int)RR__UNLINK == (int)RR_KIND_UNLINK,
               "the kinds' numbers travel");

typedef struct paused {
    UT_hash_handle hh;
    rr_addr_t addr;
} paused_t;

struct rr__remote {
    /* Node -> proxy. Address space only, until a node's page is used. Written by rr_route_set (release: the proxy exists),
     * read by every send to another node (acquire). */
    _Atomic(rr_addr_t) *routes;
    /* How many actors are paused: written under pause_lock, read by every send to another node (relaxed: a pause is a hint
     * that comes late anyway). */
    _Atomic(uint32_t) paused_count;
    pthread_rwlock_t pause_lock;
    paused_t *paused;
};

int rr__remote_create(struct rr__remote **out) {
    struct rr__remote *remote = rr__calloc(1, sizeof *remote);
    if (!remote)
        return RR_ENOMEM;
    remote->routes = mmap(NULL, NODES * sizeof *remote->routes, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (remote->routes == MAP_FAILED) {
        rr__free(remote);
        return RR_ENOMEM;
    }
    pthread_rwlock_init(&remote->pause_lock, NULL);
    *out = remote;
    return RR_OK;
}

static void drop_pauses(struct rr__remote *remote, unsigned node, bool all) {
    paused_t *item, *next;
    HASH_ITER(hh, remote->paused, item, next) {
        if (!all && rr_addr_node(item->addr) != node)
            continue;
        HASH_DEL(remote->paused, item);
        rr__free(item);
    }
    atomic_store_explicit(&remote->paused_count, HASH_COUNT(remote->paused), memory_order_relaxed);
}

void rr__remote_destroy(struct rr__remote *remote) {
    if (!remote)
        return;
    drop_pauses(remote, 0, true);
    pthread_rwlock_destroy(&remote->pause_lock);
    munmap(remote->routes, NODES * sizeof *remote->routes);
    rr__free(remote);
}

/* ---- Routes ------------------------------------------------------------------------------------------------------ */

int rr_route_set(rr_system_t *system, unsigned node, rr_addr_t proxy) {
    if (node < 1 || node >= NODES || node == system->node)
        return RR_EINVAL;
    atomic_store_explicit(&system->remote->routes[node], proxy, memory_order_release);
    return RR_OK;
}

rr_addr_t rr_route(rr_system_t *system, unsigned node) {
    return node < NODES ? atomic_load_explicit(&system->remote->routes[node], memory_order_acquire) : RR_NOBODY;
}

rr_actor_t *rr__proxy_for(rr_system_t *system, rr_addr_t addr) {
    unsigned node = rr_addr_node(addr);
    rr_addr_t proxy = node == system->node ? RR_NOBODY : rr_route(system, node);
    return proxy == RR_NOBODY ? NULL : rr__directory_find(&system->directory, proxy);
}

/* ---- Pauses ------------------------------------------------------------------------------------------------------ */

bool rr__remote_paused(rr_system_t *system, rr_addr_t addr) {
    struct rr__remote *remote = system->remote;
    if (!atomic_load_explicit(&remote->paused_count, memory_order_relaxed))
        return false;
    paused_t *found;
    pthread_rwlock_rdlock(&remote->pause_lock);
    HASH_FIND(hh, remote->paused, &addr, sizeof addr, found);
    pthread_rwlock_unlock(&remote->pause_lock);
    return found != NULL;
}

/* Under the lock; false: out of memory. */
static bool add_pause(struct rr__remote *remote, rr_addr_t addr) {
    paused_t *item = rr__malloc(sizeof *item);
    if (!item)
        return false;
    item->addr = addr;
    HASH_ADD(hh, remote->paused, addr, sizeof addr, item);
    bool added = item->hh.tbl != NULL;
    if (!added)
        rr__free(item);
    return added;
}

int rr_remote_pause(rr_system_t *system, rr_addr_t target, bool paused) {
    struct rr__remote *remote = system->remote;
    paused_t *found;
    int rc = RR_OK;
    pthread_rwlock_wrlock(&remote->pause_lock);
    HASH_FIND(hh, remote->paused, &target, sizeof target, found);
    if (paused && !found)
        rc = add_pause(remote, target) ? RR_OK : RR_ENOMEM;
    if (!paused && found) {
        HASH_DEL(remote->paused, found);
        rr__free(found);
    }
    atomic_store_explicit(&remote->paused_count, HASH_COUNT(remote->paused), memory_order_relaxed);
    pthread_rwlock_unlock(&remote->pause_lock);
    return rc;
}

void rr_remote_pauses_forget(rr_system_t *system, unsigned node) {
    pthread_rwlock_wrlock(&system->remote->pause_lock);
    drop_pauses(system->remote, node, false);
    pthread_rwlock_unlock(&system->remote->pause_lock);
}

int rr_wait_room(rr_system_t *system, rr_addr_t target, rr_addr_t waiter) {
    if (!rr__directory_find(&system->directory, target))
        return RR_NOROUTE;
    return rr__control_send(system, target, waiter, RR__NOTICE_ROOM, 0) ? RR_OK : RR_NOROUTE;
}

void rr__tell_room(rr_system_t *system, rr_addr_t target, rr_addr_t waiter) {
    rr_message_t *msg = rr__message_new(rr__my_pool(system), 0);
    if (!msg) {
        rr_log(system, RR_ERROR, "RUNTIME", "no memory to tell that an actor has room again");
        return;
    }
    msg->flags |= RR__UNSHEDDABLE; /* one for each rr_wait_room */
    msg->to = waiter;
    msg->from = target;
    msg->type = RR_TYPE_ROOM;
    if (rr__deliver(system, NULL, msg) != RR_OK)
        return; /* who waited is gone: a dead letter */
}

/* ---- Envelopes --------------------------------------------------------------------------------------------------- */

rr_envelope_t rr__envelope(rr_message_t *msg) {
    return (rr_envelope_t){
        .to = msg->to,
        .from = msg->from,
        .request = msg->request,
        .type = msg->type,
        .size = msg->size,
        .weight = msg->weight,
        .kind = msg->kind,
        .flags = msg->flags & RR__UNSHEDDABLE,
        .data = rr_message_data(msg),
        .buffer = rr_message_buffer(msg),
    };
}

bool rr_envelope_of(rr_actor_t *proxy, rr_message_t *msg, rr_envelope_t *out) {
    if (msg->to == proxy->addr)
        return false;
    *out = rr__envelope(msg);
    return true;
}

rr_message_t *rr__message_of(rr_system_t *system, const rr_envelope_t *env) {
    rr_message_t *msg = env->buffer ? rr__message_wrap(rr__my_pool(system), rr_buffer_ref(env->buffer))
                                    : rr__message_copy(rr__my_pool(system), env->data, env->size);
    if (!msg)
        return NULL;
    rr__message_address(msg, env);
    return msg;
}

static void note_undelivered(void *context, const rr_envelope_t *env, int reason) {
    (void)env;
    *(int *)context = reason;
}

int rr_remote_deliver(rr_system_t *system, const rr_envelope_t *env, bool *filling) {
    bool unused;
    int late = RR_OK;
    rr_delivery_t single = {.system = system, .undelivered = note_undelivered, .context = &late};
    int rc = rr_delivery_add(&single, env, filling ? filling : &unused);
    rr_delivery_flush(&single);
    return rc == RR_OK ? late : rc;
}

void rr_envelope_refuse(rr_system_t *system, const rr_envelope_t *env, int reason) {
    rr_message_t msg = {.to = env->to,
                        .from = env->from,
                        .request = env->request,
                        .type = env->type,
                        .size = env->size,
                        .kind = env->kind};
    rr__undeliverable(system, &msg, reason);
}

/* ---- A node's end ------------------------------------------------------------------------------------------------ */

void rr_node_down(rr_system_t *system, unsigned node) {
    rr__listed_t *list;
    size_t count = rr__directory_list(&system->directory, &list);
    for (size_t i = 0; i < count; i++) {
        rr_actor_t *actor = rr__directory_find(&system->directory, list[i].addr);
        if (actor && atomic_load_explicit(&actor->remote, memory_order_relaxed))
            rr__control_send(system, list[i].addr, RR_NOBODY, RR__NODE_DOWN, (int)node);
    }
    rr__free(list);
}
