#include "runtime/system.h"

#include <stdio.h>
#include <string.h>

#include "runtime/alloc.h"

/* Without memory an addition fails, not the process: the element's hh.tbl is then NULL. */
#define HASH_NONFATAL_OOM 1
#define uthash_malloc(size) rr__malloc(size)
#define uthash_free(memory, size) rr__free(memory)
#include <uthash.h>

struct rr__name {
    UT_hash_handle hh;
    rr_addr_t addr;
    bool leased;
    char text[];
};

void rr__names_init(rr__names_t *names) { pthread_rwlock_init(&names->lock, NULL); }

static void free_all(struct rr__name **table) {
    struct rr__name *name, *next;
    HASH_ITER(hh, *table, name, next) {
        HASH_DEL(*table, name);
        rr__free(name);
    }
}

void rr__names_destroy(rr__names_t *names) {
    free_all(&names->own);
    free_all(&names->remote);
    pthread_rwlock_destroy(&names->lock);
}

bool rr_name_legal(const char *name) {
    size_t size = strlen(name);
    return size >= 1 && size <= 127 &&
           strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-.@:/#") == size;
}

/* NULL when out of memory. */
static struct rr__name *new_name(const char *text, rr_addr_t addr, bool leased) {
    size_t size = strlen(text);
    struct rr__name *name = rr__malloc(sizeof *name + size + 1);
    if (!name)
        return NULL;
    memcpy(name->text, text, size + 1);
    name->addr = addr;
    name->leased = leased;
    return name;
}

static struct rr__name *find(struct rr__name *table, const char *text) {
    struct rr__name *found;
    HASH_FIND(hh, table, text, strlen(text), found);
    return found;
}

/* False: out of memory. */
static bool add(struct rr__name **table, struct rr__name *name) {
    HASH_ADD(hh, *table, text, strlen(name->text), name);
    return name->hh.tbl != NULL;
}

/* ---- The watcher ------------------------------------------------------------------------------------------------- */

/* Under the lock, so that events have the order of what they tell: delivering takes no lock of names. */
static int tell(rr_system_t *system, rr_addr_t watcher, const struct rr__name *name, bool registered) {
    if (watcher == RR_NOBODY)
        return RR_OK;
    rr_name_event_t event = {.addr = name->addr, .registered = registered};
    memcpy(event.name, name->text, strlen(name->text));
    rr_message_t *msg = rr__message_copy(rr__my_pool(system), &event, sizeof event);
    if (!msg)
        return RR_ENOMEM;
    msg->flags |= RR__UNSHEDDABLE; /* bounded by the names there are */
    msg->to = watcher;
    msg->type = RR_TYPE_NAME;
    return rr__deliver(system, NULL, msg);
}

int rr_system_watch_names(rr_system_t *system, rr_addr_t to) {
    rr__names_t *names = &system->names;
    int rc = RR_OK;
    pthread_rwlock_wrlock(&names->lock);
    names->watcher = to;
    for (struct rr__name *name = names->own; name && rc == RR_OK; name = name->hh.next)
        if (name->leased)
            rc = tell(system, to, name, true);
    pthread_rwlock_unlock(&names->lock);
    return rc;
}

/* ---- Own names --------------------------------------------------------------------------------------------------- */

int rr__names_add(rr_system_t *system, const char *text, rr_addr_t addr, bool leased) {
    rr__names_t *names = &system->names;
    if (!rr_name_legal(text))
        return RR_EINVAL;
    struct rr__name *name = new_name(text, addr, leased);
    if (!name)
        return RR_ENOMEM;
    pthread_rwlock_wrlock(&names->lock);
    int rc = find(names->own, text) ? RR_EEXIST : add(&names->own, name) ? RR_OK : RR_ENOMEM;
    if (rc == RR_OK && leased && tell(system, names->watcher, name, true) == RR_ENOMEM) {
        HASH_DEL(names->own, name);
        rc = RR_ENOMEM;
    }
    pthread_rwlock_unlock(&names->lock);
    if (rc != RR_OK)
        rr__free(name);
    return rc;
}

bool rr__names_remove(rr_system_t *system, const char *text, rr_addr_t addr) {
    rr__names_t *names = &system->names;
    pthread_rwlock_wrlock(&names->lock);
    struct rr__name *found = find(names->own, text);
    if (found && found->addr != addr)
        found = NULL;
    bool lost = false;
    if (found) {
        HASH_DEL(names->own, found);
        lost = found->leased && tell(system, names->watcher, found, false) == RR_ENOMEM;
    }
    pthread_rwlock_unlock(&names->lock);
    if (lost)
        rr_log(system, RR_ERROR, "RUNTIME", "no memory to tell that the name %s is free", text);
    rr__free(found);
    return found != NULL;
}

rr_addr_t rr_lookup(rr_system_t *system, const char *text) {
    rr__names_t *names = &system->names;
    pthread_rwlock_rdlock(&names->lock);
    struct rr__name *found = find(names->own, text);
    if (!found)
        found = find(names->remote, text);
    rr_addr_t addr = found ? found->addr : RR_NOBODY;
    pthread_rwlock_unlock(&names->lock);
    return addr;
}

static const struct rr__name *find_addr(const struct rr__name *table, rr_addr_t addr) {
    const struct rr__name *name = table;
    while (name && name->addr != addr)
        name = name->hh.next;
    return name;
}

bool rr_name_of(rr_system_t *system, rr_addr_t addr, char *out, size_t size) {
    rr__names_t *names = &system->names;
    pthread_rwlock_rdlock(&names->lock);
    const struct rr__name *found = find_addr(names->own, addr);
    if (!found)
        found = find_addr(names->remote, addr);
    if (found)
        snprintf(out, size, "%s", found->text);
    pthread_rwlock_unlock(&names->lock);
    return found != NULL;
}

/* ---- Names of other nodes ---------------------------------------------------------------------------------------- */

int rr_remote_name_set(rr_system_t *system, const char *text, rr_addr_t addr) {
    rr__names_t *names = &system->names;
    if (!rr_name_legal(text) || addr == RR_NOBODY)
        return RR_EINVAL;
    struct rr__name *name = new_name(text, addr, true);
    if (!name)
        return RR_ENOMEM;
    pthread_rwlock_wrlock(&names->lock);
    struct rr__name *found = find(names->remote, text);
    bool added = !found && add(&names->remote, name);
    if (found)
        found->addr = addr;
    pthread_rwlock_unlock(&names->lock);
    if (!added)
        rr__free(name);
    return found || added ? RR_OK : RR_ENOMEM;
}

void rr_remote_name_drop(rr_system_t *system, const char *text, rr_addr_t addr) {
    rr__names_t *names = &system->names;
    pthread_rwlock_wrlock(&names->lock);
    struct rr__name *found = find(names->remote, text);
    if (found && addr != RR_NOBODY && found->addr != addr)
        found = NULL;
    if (found)
        HASH_DEL(names->remote, found);
    pthread_rwlock_unlock(&names->lock);
    rr__free(found);
}

void rr_remote_names_forget(rr_system_t *system, unsigned node) {
    rr__names_t *names = &system->names;
    struct rr__name *name, *next;
    pthread_rwlock_wrlock(&names->lock);
    HASH_ITER(hh, names->remote, name, next) {
        if (rr_addr_node(name->addr) != node)
            continue;
        HASH_DEL(names->remote, name);
        rr__free(name);
    }
    pthread_rwlock_unlock(&names->lock);
}
