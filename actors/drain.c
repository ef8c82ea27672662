/* drain.c: the order in which gates and scenes end. */
#include <stdio.h>
#include <stdlib.h>

#include "actors/gate_impl.h"
#include "actors/scene.h"

/* Watches the scenes' end for the thread that waits. */
typedef struct watcher_arg {
    rr__latch_t *latch;
    unsigned deadline_ms;
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
        rr_buffer_t *time = rr_buffer_new(4);
        if (time)
            rr_put32(rr_buffer_data(time), given->deadline_ms);
        int rc = time ? rr_send_unsheddable(self, given->scenes[i], RR_TYPE_STOP, time, 1) : RR_ENOMEM;
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

int rr_actors_stop(rr_system_t *system, const rr_addr_t *scenes, size_t count, unsigned deadline_ms) {
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
        *arg = (watcher_arg_t){.latch = latch, .deadline_ms = deadline_ms, .count = count};
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

/* ---- Handing over ---- */

#define ANSWER_MS 2000u /* what a scene may take to say that its time is up, of a short time an eighth */

typedef struct giver_arg {
    rr__latch_t *latch;
    unsigned deadline_ms, answer_ms;
    uint32_t flags;
    char to[RR_SID_MAX];
    size_t count;
    rr_addr_t scenes[];
} giver_arg_t;

static void on_handed_over(rr_actor_t *self, void *state, int status, rr_message_t *msg, void *context) {
    watcher_t *watcher = state;
    rr_handed_over_t result = {0};
    if (status == RR_OK && rr_message_size(msg) == sizeof(result))
        memcpy(&result, rr_message_data(msg), sizeof(result));
    pthread_mutex_lock(&watcher->latch->lock);
    watcher->latch->moved += result.moved;
    watcher->latch->left += result.left;
    pthread_mutex_unlock(&watcher->latch->lock);
    watcher->left--;
    rr__latch_down(watcher->latch);
    if (watcher->left == 0)
        rr_exit(self, RR_OK);
}

static int giver_start(rr_actor_t *self, void *state, const void *arg) {
    watcher_t *watcher = state;
    const giver_arg_t *given = arg;
    uint8_t body[sizeof(rr_hand_over_t) + RR_SID_MAX];
    rr_hand_over_t head = {.deadline_ms = given->deadline_ms, .flags = given->flags};
    size_t size = strlen(given->to);
    memcpy(body, &head, sizeof(head));
    memcpy(body + sizeof(head), given->to, size);
    watcher->latch = given->latch;
    for (size_t i = 0; i < given->count; i++) {
        if (rr_call(self, given->scenes[i], RR_TYPE_HAND_OVER, body, sizeof(head) + size,
                    given->deadline_ms + given->answer_ms, on_handed_over, NULL, NULL) == RR_OK)
            watcher->left++;
        else
            rr__latch_down(watcher->latch);
    }
    if (watcher->left == 0)
        rr_exit(self, RR_OK);
    return RR_OK;
}

static void giver_receive(rr_actor_t *self, void *state, rr_message_t *msg) {}

static const rr_behavior_t giver_behavior = {
    .name = "hand-over",
    .state_size = sizeof(watcher_t),
    .start = giver_start,
    .receive = giver_receive,
    .finish = watcher_finish,
};

static int spawn_giver(rr_system_t *system, const giver_arg_t *arg, size_t size, rr_addr_t *giver) {
    rr_spawn_t spec = {.behavior = &giver_behavior, .arg = arg, .arg_size = size};
    return rr_system_spawn(system, &spec, giver);
}

/* The addresses of those scenes that live on this node: a name may be another node's by now. */
static size_t find_scenes(rr_system_t *system, const char *const *scenes, size_t count, rr_addr_t *out) {
    size_t found = 0;
    for (size_t i = 0; i < count; i++) {
        out[found] = rr_lookup(system, scenes[i]);
        found += out[found] != RR_NOBODY && rr_addr_node(out[found]) == rr_system_node(system);
    }
    return found;
}

static int hand_over(rr_system_t *system, giver_arg_t *arg, uint64_t *moved, uint64_t *left) {
    rr_addr_t giver;
    size_t size = sizeof(*arg) + arg->count * sizeof(*arg->scenes);
    if (arg->count == 0)
        return RR_OK;
    rr__latch_t *latch = arg->latch = rr__latch_new((unsigned)arg->count);
    int rc = latch ? spawn_giver(system, arg, size, &giver) : RR_ENOMEM;
    if (rc != RR_OK) {
        if (latch)
            rr__latch_drop(latch, (unsigned)arg->count + 1);
        return rc;
    }
    pthread_mutex_lock(&latch->lock);
    latch->users++; /* to read the sums; the one of rr__latch_new is dropped by waiting */
    pthread_mutex_unlock(&latch->lock);
    if (!rr__latch_wait(latch, arg->deadline_ms + 2 * arg->answer_ms)) {
        rr_kill(system, giver, RR_CANCELLED);
        rc = RR_TIMEOUT;
    }
    pthread_mutex_lock(&latch->lock);
    *moved = latch->moved;
    *left = latch->left;
    pthread_mutex_unlock(&latch->lock);
    rr__latch_drop(latch, 1);
    return rc;
}

int rr_scenes_hand_over(rr_system_t *system, const char *const *scenes, size_t count, const char *to, bool elsewhere,
                        unsigned deadline_ms, uint64_t *moved, uint64_t *left) {
    uint64_t ignored;
    moved = moved ? moved : &ignored;
    left = left ? left : &ignored;
    *moved = *left = 0;
    if (to && !rr_name_legal(to))
        return RR_EINVAL;
    giver_arg_t *arg = calloc(1, sizeof(*arg) + (count + 1) * sizeof(*arg->scenes));
    if (!arg)
        return RR_ENOMEM;
    snprintf(arg->to, sizeof(arg->to), "%s", to ? to : "");
    arg->deadline_ms = deadline_ms;
    arg->answer_ms = deadline_ms / 8 < ANSWER_MS ? deadline_ms / 8 : ANSWER_MS;
    arg->flags = elsewhere ? RR_HAND_OVER_ELSEWHERE | RR_HAND_OVER_BACK : 0;
    arg->count = find_scenes(system, scenes, count, arg->scenes);
    int rc = hand_over(system, arg, moved, left);
    free(arg);
    return rc;
}

/* ---- The whole end ---- */

static unsigned left(rr_system_t *system, uint64_t until_ns) {
    uint64_t now = rr_system_now_ns(system);
    return now < until_ns ? (unsigned)((until_ns - now) / 1000000) : 0;
}

static void keep_first(int *rc, int other) {
    if (*rc == RR_OK)
        *rc = other;
}

/* The time is for moving the sessions; what it does not use is the stop's. Scenes that fail here are stopped all the same. */
static int let_go(rr_system_t *system, const char *const *scenes, size_t count, unsigned deadline_ms) {
    uint64_t moved, left_here;
    int rc = rr_scenes_hand_over(system, scenes, count, NULL, true, deadline_ms, &moved, &left_here);
    if (rc != RR_OK)
        rr_log(system, RR_WARN, "SCENE", "not all sessions could be handed over: %s", rr_strerror(rc));
    return rc == RR_TIMEOUT ? RR_OK : rc; /* a scene that hangs is its stop's business */
}

int rr_actors_drain(rr_system_t *system, rr_gate_t *const *gates, size_t gate_count, const char *const *scenes,
                    size_t scene_count, bool elsewhere, unsigned deadline_ms) {
    /* A part of the time is kept for saying goodbye to the clients. */
    uint64_t until = rr_system_now_ns(system) + deadline_ms * 1000000ull;
    unsigned goodbye_ms = deadline_ms / 5;
    int rc = RR_OK;
    rr_addr_t *addresses = calloc(scene_count + 1, sizeof(*addresses));
    if (!addresses)
        return RR_ENOMEM;
    for (size_t i = 0; i < gate_count; i++)
        keep_first(&rc, rr_gate_drain(gates[i], left(system, until - goodbye_ms * 1000000ull)));
    if (elsewhere)
        keep_first(&rc, let_go(system, scenes, scene_count, left(system, until) / 2));
    size_t count = find_scenes(system, scenes, scene_count, addresses);
    keep_first(&rc, rr_actors_stop(system, addresses, count, left(system, until - goodbye_ms * 1000000ull)));
    for (size_t i = 0; i < gate_count; i++)
        keep_first(&rc, rr_gate_close(gates[i], left(system, until)));
    free(addresses);
    return rc == RR_OK ? RR_OK : rc == RR_ENOMEM ? RR_ENOMEM : RR_TIMEOUT;
}
