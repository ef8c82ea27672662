/* drain.c: the order in which gates and scenes end. */
#include <stdlib.h>

#include "actors/gate_impl.h"

/* Watches the scenes' end for the thread that waits. */
typedef struct watcher_arg {
    rr__latch_t *latch;
    size_t count;
    rr_addr_t scenes[];
} watcher_arg_t;

typedef struct watcher {
    rr__latch_t *latch;
    size_t left;
} watcher_t;

static int watcher_start(rr_actor_t *self, void *state, const void *arg) {
    watcher_t *watcher = state;
    const watcher_arg_t *given = arg;
    uint64_t id;
    watcher->latch = given->latch;
    for (size_t i = 0; i < given->count; i++) {
        if (rr_monitor(self, given->scenes[i], &id) == RR_OK)
            watcher->left++;
        else
            rr__latch_down(watcher->latch);
        rr_buffer_t *nothing = rr_buffer_new(1);
        int rc = nothing ? rr_send_unsheddable(self, given->scenes[i], RR_TYPE_STOP, nothing, 1) : RR_ENOMEM;
        if (rc != RR_OK && rc != RR_NOROUTE) /* gone is fine: its DOWN comes */
            rr_kill(rr_system_of(self), given->scenes[i], rc);
    }
    return RR_OK;
}

static void watcher_receive(rr_actor_t *self, void *state, rr_message_t *msg) {
    watcher_t *watcher = state;
    if (rr_message_kind(msg) != RR_DOWN)
        return;
    watcher->left--;
    rr__latch_down(watcher->latch);
    if (watcher->left == 0)
        rr_exit(self, RR_OK);
}

static void watcher_finish(rr_actor_t *self, void *state, int reason) {
    watcher_t *watcher = state;
    for (; watcher->left > 0; watcher->left--)
        rr__latch_drop(watcher->latch, 1);
}

static const rr_behavior_t watcher_behavior = {
    .name = "drain",
    .state_size = sizeof(watcher_t),
    .start = watcher_start,
    .receive = watcher_receive,
    .finish = watcher_finish,
};

static int drain_scenes(rr_system_t *system, const rr_addr_t *scenes, size_t count, unsigned deadline_ms) {
    if (count == 0)
        return RR_OK;
    rr__latch_t *latch = rr__latch_new((unsigned)count);
    if (!latch)
        return RR_ENOMEM;
    size_t size = sizeof(watcher_arg_t) + count * sizeof(*scenes);
    watcher_arg_t *arg = malloc(size);
    rr_addr_t watcher;
    int rc = RR_ENOMEM;
    if (arg) {
        *arg = (watcher_arg_t){latch, count};
        memcpy(arg->scenes, scenes, count * sizeof(*scenes));
        rr_spawn_t spec = {.behavior = &watcher_behavior, .arg = arg, .arg_size = size};
        rc = rr_system_spawn(system, &spec, &watcher);
        free(arg);
    }
    if (rc != RR_OK) {
        rr__latch_drop(latch, (unsigned)count + 1);
        return rc;
    }
    if (rr__latch_wait(latch, deadline_ms))
        return RR_OK;
    for (size_t i = 0; i < count; i++)
        rr_kill(system, scenes[i], RR_CANCELLED);
    rr_kill(system, watcher, RR_CANCELLED);
    return RR_TIMEOUT;
}

static unsigned left(rr_system_t *system, uint64_t until_ns) {
    uint64_t now = rr_system_now_ns(system);
    return now < until_ns ? (unsigned)((until_ns - now) / 1000000) : 0;
}

static void keep_first(int *rc, int other) {
    if (*rc == RR_OK)
        *rc = other;
}

int rr_actors_drain(rr_system_t *system, rr_gate_t *const *gates, size_t gate_count, const char *const *scenes,
                    size_t scene_count, unsigned deadline_ms) {
    /* A part of the time is kept for saying goodbye to the clients. */
    uint64_t until = rr_system_now_ns(system) + deadline_ms * 1000000ull;
    unsigned goodbye_ms = deadline_ms / 5;
    int rc = RR_OK;
    size_t count = 0;
    rr_addr_t *addresses = calloc(scene_count + 1, sizeof(*addresses));
    if (!addresses)
        return RR_ENOMEM;
    for (size_t i = 0; i < gate_count; i++)
        keep_first(&rc, rr_gate_drain(gates[i], left(system, until - goodbye_ms * 1000000ull)));
    for (size_t i = 0; i < scene_count; i++) {
        addresses[count] = rr_lookup(system, scenes[i]);
        count += addresses[count] != RR_NOBODY;
    }
    keep_first(&rc, drain_scenes(system, addresses, count, left(system, until - goodbye_ms * 1000000ull)));
    for (size_t i = 0; i < gate_count; i++)
        keep_first(&rc, rr_gate_close(gates[i], left(system, until)));
    free(addresses);
    return rc == RR_OK ? RR_OK : rc == RR_ENOMEM ? RR_ENOMEM : RR_TIMEOUT;
}
