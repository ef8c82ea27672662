/* bridge_door.c: a bridge's actor in its own group's system: whom scenes call for other groups, and who calls the own
 * group's names for those. An outer service's stand-in is the same actor with one link and no groups. */
#include <stdio.h>
#include <string.h>

#include "actors/bridge_impl.h"
#include "actors/protocol.h"

typedef struct door {
    rr_bridge_t *bridge;
    rr__bridged_t calls; /* of our group's actors, under way through a link */
} door_t;

static int door_start(rr_actor_t *self, void *state, const void *arg) {
    door_t *door = state;
    memcpy(&door->bridge, arg, sizeof door->bridge);
    door->calls.limit = door->bridge->max_calls;
    return RR_OK;
}

static void count_pending(door_t *door) {
    atomic_store_explicit(&door->bridge->pending, door->calls.count, memory_order_relaxed); /* see bridge_impl.h */
}

static void refuse(rr_actor_t *self, door_t *door, rr_message_t *msg, int code, const char *text) {
    rr_count(&door->bridge->errors, 1);
    rr_reply_error(self, msg, code, text);
}

/* ---- Calling the own group ---- */

/* Answers a call of the own group to itself with what its service said. */
static void on_own_reply(rr_actor_t *self, void *state, int status, rr_message_t *msg, void *context) {
    door_t *door = state;
    rr_message_t *call = rr__bridged_take(&door->calls, (uint64_t)(uintptr_t)context);
    rr__parcel_t parcel = {.status = status, .buffer = msg ? rr__payload(msg) : NULL};
    count_pending(door);
    if (call)
        rr__pass_on(self, call, &parcel);
    rr_buffer_unref(parcel.buffer);
}

static void answer_link(door_t *door, uint64_t token, int status, rr_buffer_t *buffer) {
    rr__parcel_t parcel = {.kind = RR__PARCEL_ANSWER, .token = token, .status = status, .buffer = buffer};
    rr_bridge_t *bridge = door->bridge;
    if (status != RR_OK)
        rr_count(&bridge->errors, 1);
    /* Never refused for fullness: no more than calls from there. */
    if (rr__token_link(token) < bridge->link_count &&
        rr__pipe_push(&bridge->links[rr__token_link(token)].answers, &parcel, true) != RR_OK)
        rr_count(&bridge->errors, 1); /* its caller's link is gone, or it ends by its deadline */
}

static void on_reply(rr_actor_t *self, void *state, int status, rr_message_t *msg, void *context) {
    rr_buffer_t *buffer = msg ? rr__payload(msg) : NULL;
    answer_link(state, (uint64_t)(uintptr_t)context, msg && !buffer ? RR_ENOMEM : status, buffer);
}

static void say_nobody(const rr_bridge_target_t *target, char *why, size_t size) {
    snprintf(why, size, "NOROUTE: there is no actor named %s in group %s", target->name, target->group);
}

static void release(void *context) { rr_buffer_unref(context); }

/* Calls target->name with the request, a part of `buffer` (of which it takes a reference). */
static int call_own(rr_actor_t *self, rr_addr_t to, rr_buffer_t *buffer, const void *request, size_t size,
                    unsigned timeout_ms, rr_reply_fn fn, uint64_t token) {
    rr_buffer_t *part = rr_buffer_wrap(request, size, release, rr_buffer_ref(buffer));
    if (!part) {
        rr_buffer_unref(buffer);
        return RR_ENOMEM;
    }
    int rc = rr_call_buffer(self, to, RR_TYPE_SERVICE, part, timeout_ms, fn, (void *)(uintptr_t)token, NULL);
    return rc == RR_ELIMIT ? RR_OVERLOAD : rc;
}

static void on_call_from_link(rr_actor_t *self, door_t *door, const rr__parcel_t *parcel) {
    rr_bridge_target_t target;
    const void *request;
    size_t size;
    uint64_t now = rr_now_ns(self);
    int rc = rr_bridge_decode(rr_buffer_data(parcel->buffer), rr_buffer_size(parcel->buffer), &target, &request, &size);
    rr_count(&door->bridge->calls_in, 1);
    if (parcel->until_ns <= now) /* its caller has heard TIMEOUT */
        return;
    rr_addr_t to = rc == RR_OK ? rr_lookup(door->bridge->own, target.name) : RR_NOBODY;
    if (rc == RR_OK && to == RR_NOBODY) {
        char why[400];
        say_nobody(&target, why, sizeof why);
        rr_buffer_t *text = rr_buffer_copy(why, strlen(why));
        answer_link(door, parcel->token, text ? RR_EHANDLER : RR_ENOMEM, text);
        return;
    }
    if (rc == RR_OK)
        rc = call_own(self, to, parcel->buffer, request, size,
                      rr__hop_ms((unsigned)((parcel->until_ns - now) / 1000000) + 1, 1), on_reply, parcel->token);
    if (rc != RR_OK)
        answer_link(door, parcel->token, rc, NULL);
}

/* ---- Calls of the own group to others ---- */

static bool knows(rr__link_t *link, const char *group) {
    pthread_mutex_lock(&link->lock);
    bool known = link->system && rr_lookup(link->system, group) != RR_NOBODY;
    pthread_mutex_unlock(&link->lock);
    return known;
}

/* Of the links that know the group the one with fewest failures since its last success. */
static rr__link_t *link_to(rr_bridge_t *bridge, const char *group) {
    rr__link_t *best = NULL;
    for (size_t i = 0; i < bridge->link_count; i++) {
        rr__link_t *link = &bridge->links[i];
        if ((!best || link->failures < best->failures) && knows(link, group))
            best = link;
    }
    return best;
}

static bool is_own_group(const rr_bridge_t *bridge, const char *group) {
    for (size_t i = 0; i < bridge->link_count; i++)
        if (!strcmp(bridge->links[i].group, group))
            return true;
    return false;
}

/* Why no bridge knows the group. */
static void say_no_group(rr_bridge_t *bridge, const char *group, char *why, size_t size) {
    size_t up = 0;
    const char *away = NULL;
    for (size_t i = 0; i < bridge->link_count; i++) {
        rr__link_t *link = &bridge->links[i];
        pthread_mutex_lock(&link->lock);
        up += link->system != NULL;
        away = link->system ? away : link->address;
        pthread_mutex_unlock(&link->lock);
    }
    if (away)
        snprintf(why, size, "NOROUTE: group %s is not known; %zu of %zu bridges are connected, %s is not", group, up,
                 bridge->link_count, away);
    else
        snprintf(why, size, "NOROUTE: there is no group named %s at the bridge %s%s", group, bridge->links[0].address,
                 bridge->link_count > 1 ? ", nor at the others" : "");
}

/* Hands msg to a link; takes over buffer. */
static void send_to_link(rr_actor_t *self, door_t *door, rr_message_t *msg, rr__link_t *link, rr_buffer_t *buffer,
                         unsigned timeout_ms) {
    uint64_t now = rr_now_ns(self);
    rr__parcel_t parcel = {.kind = RR__PARCEL_CALL, .buffer = buffer};
    parcel.until_ns = now + rr__hop_ms(timeout_ms, 1) * 1000000ull;
    parcel.token = buffer ? rr__bridged_add(&door->calls, self, msg, link->index, now + timeout_ms * 1000000ull) : 0;
    if (!parcel.token) {
        rr_buffer_unref(buffer);
        refuse(self, door, msg, RR_OVERLOAD, NULL);
        return;
    }
    int rc = rr__pipe_push(&link->calls, &parcel, false);
    if (rc == RR_NOROUTE) {
        char why[400];
        snprintf(why, sizeof why, "NOROUTE: %s is not connected%s", link->address,
                 door->bridge->outer ? " (yet, or any more)" : " any more");
        refuse(self, door, rr__bridged_take(&door->calls, parcel.token), RR_EHANDLER, why);
    } else if (rc != RR_OK)
        refuse(self, door, rr__bridged_take(&door->calls, parcel.token), rc, NULL);
    count_pending(door);
}

/* A group may be called by its own name, too. */
static void call_own_group(rr_actor_t *self, door_t *door, rr_message_t *msg, const rr_bridge_target_t *target,
                           const void *request, size_t size) {
    rr_addr_t to = rr_lookup(door->bridge->own, target->name);
    if (to == RR_NOBODY) {
        char why[400];
        say_nobody(target, why, sizeof why);
        refuse(self, door, msg, RR_EHANDLER, why);
        return;
    }
    rr_buffer_t *buffer = rr_buffer_copy(request, size);
    uint64_t until = rr_now_ns(self) + target->timeout_ms * 1000000ull;
    uint64_t token = buffer ? rr__bridged_add(&door->calls, self, msg, RR_BRIDGE_LINKS_MAX, until) : 0;
    if (!token) {
        rr_buffer_unref(buffer);
        refuse(self, door, msg, RR_OVERLOAD, NULL);
        return;
    }
    int rc = rr_call_buffer(self, to, RR_TYPE_SERVICE, buffer, rr__hop_ms(target->timeout_ms, 1), on_own_reply,
                            (void *)(uintptr_t)token, NULL);
    if (rc != RR_OK)
        refuse(self, door, rr__bridged_take(&door->calls, token), rc == RR_ELIMIT ? RR_OVERLOAD : rc, NULL);
    count_pending(door);
}

static void on_call_to_group(rr_actor_t *self, door_t *door, rr_message_t *msg) {
    rr_bridge_target_t target;
    const void *request;
    size_t size;
    int rc = rr_bridge_decode(rr_message_data(msg), rr_message_size(msg), &target, &request, &size);
    rr_count(&door->bridge->calls_out, 1);
    if (rc != RR_OK) {
        refuse(self, door, msg, RR_EHANDLER, rc == RR_EUNSUPPORTED
                                                 ? "UNSUPPORTED: a call of another version; update the older node"
                                                 : "PROTO: not a call to a group");
        return;
    }
    if (is_own_group(door->bridge, target.group)) {
        call_own_group(self, door, msg, &target, request, size);
        return;
    }
    rr__link_t *link = link_to(door->bridge, target.group);
    if (!link) {
        char why[600];
        say_no_group(door->bridge, target.group, why, sizeof why);
        refuse(self, door, msg, RR_EHANDLER, why);
        return;
    }
    send_to_link(self, door, msg, link, rr__payload(msg), target.timeout_ms);
}

/* Its caller's deadline is not in the message: kept longer than any usual one, and what comes too late is dropped. */
#define OUTER_MS 60000u

static void on_call_to_outer(rr_actor_t *self, door_t *door, rr_message_t *msg) {
    rr_count(&door->bridge->calls_out, 1);
    send_to_link(self, door, msg, &door->bridge->links[0], rr__payload(msg), OUTER_MS);
}

/* ---- What comes from the links ---- */

static void judge(rr__link_t *link, int status) {
    bool bad = status == RR_TIMEOUT || status == RR_LINKDOWN;
    link->failures = !bad ? 0 : link->failures < 1000 ? link->failures + 1 : link->failures;
}

static void on_answer(rr_actor_t *self, door_t *door, const rr__parcel_t *parcel) {
    rr_message_t *msg = rr__bridged_take(&door->calls, parcel->token);
    if (!msg)
        return;
    judge(&door->bridge->links[rr__token_link(parcel->token)], parcel->status);
    if (parcel->status != RR_OK)
        rr_count(&door->bridge->errors, 1);
    rr__pass_on(self, msg, parcel);
}

static void carry_out(rr_actor_t *self, door_t *door) {
    for (rr__parcel_t *parcel = rr__pipe_take(&door->bridge->inbox), *next; parcel; parcel = next) {
        next = parcel->next;
        if (parcel->kind == RR__PARCEL_CALL)
            on_call_from_link(self, door, parcel);
        else if (parcel->kind == RR__PARCEL_ANSWER)
            on_answer(self, door, parcel);
        else
            rr_count(&door->bridge->errors,
                     rr__bridged_end(&door->calls, self, (int)rr__token_link(parcel->token), UINT64_MAX, RR_LINKDOWN));
        rr__parcel_free(parcel);
    }
    count_pending(door);
}

static void on_tick(rr_actor_t *self, door_t *door) {
    uint64_t now = rr_now_ns(self);
    for (uint32_t i = 0; i < door->calls.capacity; i++) {
        const rr__waiting_t *waiting = &door->calls.slots[i];
        if (waiting->msg && waiting->until_ns <= now && waiting->link < door->bridge->link_count)
            judge(&door->bridge->links[waiting->link], RR_TIMEOUT);
    }
    rr__bridged_tick(&door->calls, self);
    count_pending(door);
}

/* ---- The actor ---- */

static void door_receive(rr_actor_t *self, void *state, rr_message_t *msg) {
    door_t *door = state;
    uint32_t wanted = door->bridge->outer ? RR_TYPE_SERVICE : RR_TYPE_BRIDGE;
    if (rr_message_kind(msg) == RR_TIMER)
        on_tick(self, door);
    else if (rr_message_kind(msg) == RR_SEND && rr_message_type(msg) == RR_TYPE_BRIDGE_WAKE)
        carry_out(self, door); /* it may have come since this turn began: nobody wakes us for the same parcels again */
    else if (rr_message_kind(msg) != RR_CALL)
        return;
    else if (rr_message_type(msg) != wanted)
        rr_reply_error(self, msg, RR_EHANDLER, door->bridge->outer ? "PROTO: an outer service takes service calls only"
                                                                   : "PROTO: a bridge takes calls to groups only");
    else if (door->bridge->outer)
        on_call_to_outer(self, door, msg);
    else
        on_call_to_group(self, door, msg);
}

/* Every turn, too: a wake-up may have found the mailbox full. */
static void door_turn(rr_actor_t *self, void *state) {
    door_t *door = state;
    if (door->bridge)
        carry_out(self, door);
}

static void door_finish(rr_actor_t *self, void *state, int reason) {
    door_t *door = state;
    /* The name is given back when the node leaves: then it is stopped already. */
    if (reason == RR_STALE && !__atomic_load_n(&door->bridge->stop, __ATOMIC_ACQUIRE))
        rr_log(door->bridge->own, RR_ERROR, "BRIDGE",
               "%s belongs to another node of this group: one node of a group has -bridge_broker", door->bridge->name);
    rr__pipe_close(&door->bridge->inbox);
    rr__bridged_destroy(&door->calls);
}

static const rr_behavior_t door_behavior = {
    .name = "bridge",
    .state_size = sizeof(door_t),
    .start = door_start,
    .receive = door_receive,
    .turn_begin = door_turn,
    .finish = door_finish,
};

int rr__door_spawn(rr_bridge_t *bridge, bool leased) {
    rr_spawn_t spec = {.behavior = &door_behavior, .arg = &bridge, .arg_size = sizeof bridge, .name = bridge->name,
                       .leased = leased};
    rr_addr_t door;
    int rc = rr_system_spawn(bridge->own, &spec, &door);
    if (rc == RR_OK)
        rr__pipe_open(&bridge->inbox, bridge->own, door);
    return rc;
}
