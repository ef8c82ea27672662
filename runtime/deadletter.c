#include "runtime/deadletter.h"

#include "runtime/system.h"

void rr__dead_letters_init(rr__dead_letters_t *dead) { pthread_mutex_init(&dead->lock, NULL); }
void rr__dead_letters_destroy(rr__dead_letters_t *dead) { pthread_mutex_destroy(&dead->lock); }

uint64_t rr_system_dead_letters(rr_system_t *system) { return rr_counted(&system->dead.count); }

/* ---- Who watches ------------------------------------------------------------------------------------------------- */

/* Under the lock. NULL: it does not watch. */
static rr__letter_watcher_t *find(rr__dead_letters_t *dead, rr_addr_t addr) {
    for (unsigned i = 0; i < RR_DEAD_LETTER_WATCHERS; i++)
        if (dead->watchers[i].addr == addr)
            return &dead->watchers[i];
    return NULL;
}

static void drop(rr__dead_letters_t *dead, rr__letter_watcher_t *watcher) {
    *watcher = (rr__letter_watcher_t){.addr = RR_NOBODY};
    atomic_fetch_sub_explicit(&dead->watched, 1, memory_order_relaxed);
}

/* Those that have ended are noticed by their next letter, which may not have come yet. */
static void drop_ended(rr_system_t *system) {
    for (unsigned i = 0; i < RR_DEAD_LETTER_WATCHERS; i++) {
        rr__letter_watcher_t *watcher = &system->dead.watchers[i];
        if (watcher->addr != RR_NOBODY && !rr__directory_find(&system->directory, watcher->addr))
            drop(&system->dead, watcher);
    }
}

int rr_system_watch_dead_letters(rr_system_t *system, rr_addr_t to, unsigned room) {
    rr__dead_letters_t *dead = &system->dead;
    if (to == RR_NOBODY || rr_addr_node(to) != system->node)
        return RR_EINVAL;
    pthread_mutex_lock(&dead->lock);
    rr__letter_watcher_t *watcher = find(dead, to);
    bool added = !watcher;
    if (added && !find(dead, RR_NOBODY))
        drop_ended(system);
    if (added && (watcher = find(dead, RR_NOBODY))) {
        watcher->addr = to;
        atomic_fetch_add_explicit(&dead->watched, 1, memory_order_relaxed);
    }
    if (watcher)
        watcher->room = room;
    pthread_mutex_unlock(&dead->lock);
    return watcher ? RR_OK : RR_ELIMIT;
}

void rr_system_unwatch_dead_letters(rr_system_t *system, rr_addr_t to) {
    rr__dead_letters_t *dead = &system->dead;
    pthread_mutex_lock(&dead->lock);
    rr__letter_watcher_t *watcher = to != RR_NOBODY ? find(dead, to) : NULL;
    if (watcher)
        drop(dead, watcher);
    pthread_mutex_unlock(&dead->lock);
}

uint64_t rr_dead_letter_taken(rr_actor_t *self) {
    rr__dead_letters_t *dead = &rr_system_of(self)->dead;
    uint64_t lost = 0;
    pthread_mutex_lock(&dead->lock);
    rr__letter_watcher_t *watcher = find(dead, rr_self(self));
    if (watcher) {
        watcher->under_way -= watcher->under_way > 0;
        lost = watcher->lost;
        watcher->lost = 0;
    }
    pthread_mutex_unlock(&dead->lock);
    return lost;
}

/* ---- Telling ----------------------------------------------------------------------------------------------------- */

/* Those who have room for one more. */
static unsigned choose(rr__dead_letters_t *dead, rr_addr_t out[RR_DEAD_LETTER_WATCHERS]) {
    unsigned count = 0;
    pthread_mutex_lock(&dead->lock);
    for (unsigned i = 0; i < RR_DEAD_LETTER_WATCHERS; i++) {
        rr__letter_watcher_t *watcher = &dead->watchers[i];
        if (watcher->addr == RR_NOBODY)
            continue;
        if (watcher->room && watcher->under_way >= watcher->room) {
            watcher->lost++;
            rr_count_shared(&dead->untold, 1);
            continue;
        }
        watcher->under_way += watcher->room > 0;
        out[count++] = watcher->addr;
    }
    pthread_mutex_unlock(&dead->lock);
    return count;
}

/* Its mailbox is full, or it has ended. */
static void not_told(rr__dead_letters_t *dead, rr_addr_t to, int rc) {
    pthread_mutex_lock(&dead->lock);
    rr__letter_watcher_t *watcher = find(dead, to);
    if (watcher && rc == RR_NOROUTE) {
        drop(dead, watcher);
    } else if (watcher) {
        watcher->under_way -= watcher->under_way > 0;
        watcher->lost++;
        rr_count_shared(&dead->untold, 1);
    }
    pthread_mutex_unlock(&dead->lock);
}

void rr__dead_letter(rr_system_t *system, const rr_message_t *msg, int reason) {
    rr__dead_letters_t *dead = &system->dead;
    rr_addr_t to[RR_DEAD_LETTER_WATCHERS];
    rr_count_shared(&dead->count, 1);
    if (atomic_load_explicit(&dead->watched, memory_order_relaxed) == 0 || msg->type == RR_TYPE_DEAD_LETTER)
        return;
    rr_dead_letter_t letter = {msg->from, msg->to, msg->type, msg->size, reason, msg->kind};
    unsigned count = choose(dead, to);
    for (unsigned i = 0; i < count; i++) {
        int rc = rr_system_send(system, to[i], RR_TYPE_DEAD_LETTER, &letter, sizeof letter);
        if (rc != RR_OK)
            not_told(dead, to[i], rc);
    }
}
