/* bridge_link.c: a bridge's two actors in a link's system: who calls other groups, and who is called by them. Two, because
 * the second one's name is a lease: while that is in doubt it stands still, and the first need not. */
#include <stdio.h>
#include <string.h>

#include "actors/bridge_impl.h"
#include "actors/protocol.h"

static rr__link_t *link_of(const void *arg) {
    rr__link_t *link;
    memcpy(&link, arg, sizeof link);
    return link;
}

/* ---- The caller ---- */

typedef struct caller {
    rr__link_t *link;
} caller_t;

/* As many as there are calls under way at most: never refused for fullness, which would end the call late. */
static void answer(rr__link_t *link, uint64_t token, int status, rr_buffer_t *buffer) {
    rr__parcel_t parcel = {.kind = RR__PARCEL_ANSWER, .token = token, .status = status, .buffer = buffer};
    int rc = rr__pipe_push(&link->bridge->inbox, &parcel, true);
    if (rc != RR_OK && rc != RR_NOROUTE) /* the call ends by its deadline */
        rr_log(link->bridge->own, RR_WARN, "BRIDGE", "an answer through %s is lost: %s", link->address, rr_strerror(rc));
}

static void answer_text(rr__link_t *link, uint64_t token, const char *text) {
    rr_buffer_t *buffer = rr_buffer_copy(text, strlen(text));
    answer(link, token, buffer ? RR_EHANDLER : RR_ENOMEM, buffer);
}

static void on_reply(rr_actor_t *self, void *state, int status, rr_message_t *msg, void *context) {
    caller_t *caller = state;
    rr_buffer_t *buffer = msg ? rr__payload(msg) : NULL;
    answer(caller->link, (uint64_t)(uintptr_t)context, msg && !buffer ? RR_ENOMEM : status, buffer);
}

_Static_assert(sizeof(uintptr_t) == 8, "tokens travel as context pointers");

/* An outer service's call: RR_TYPE_SERVICE as it came, for the actor of the same name. */
static void call_outer(rr_actor_t *self, caller_t *caller, rr__parcel_t *parcel, unsigned timeout_ms) {
    rr__link_t *link = caller->link;
    rr_addr_t to = rr_lookup(rr_system_of(self), link->bridge->name);
    char why[400];
    if (to == RR_NOBODY) {
        snprintf(why, sizeof why, "NOROUTE: there is no actor named %s at %s", link->bridge->name, link->address);
        answer_text(link, parcel->token, why);
        return;
    }
    int rc = rr_call_buffer(self, to, RR_TYPE_SERVICE, rr_buffer_ref(parcel->buffer), timeout_ms, on_reply,
                            (void *)(uintptr_t)parcel->token, NULL);
    if (rc != RR_OK)
        answer(link, parcel->token, rc == RR_ELIMIT ? RR_OVERLOAD : rc, NULL);
}

static void call_group(rr_actor_t *self, caller_t *caller, rr__parcel_t *parcel, unsigned timeout_ms) {
    rr__link_t *link = caller->link;
    rr_bridge_target_t target;
    const void *request;
    size_t size;
    char why[400];
    int rc = rr_bridge_decode(rr_buffer_data(parcel->buffer), rr_buffer_size(parcel->buffer), &target, &request, &size);
    if (rc != RR_OK) {
        answer(link, parcel->token, rc, NULL);
        return;
    }
    rr_addr_t to = rr_lookup(rr_system_of(self), target.group);
    if (to == RR_NOBODY) { /* it was there when the door looked */
        snprintf(why, sizeof why, "NOROUTE: there is no group named %s at the bridge %s", target.group, link->address);
        answer_text(link, parcel->token, why);
        return;
    }
    rc = rr_call_buffer(self, to, RR_TYPE_BRIDGE, rr_buffer_ref(parcel->buffer), timeout_ms, on_reply,
                        (void *)(uintptr_t)parcel->token, NULL);
    if (rc != RR_OK)
        answer(link, parcel->token, rc == RR_ELIMIT ? RR_OVERLOAD : rc, NULL);
}

static void carry_out_calls(rr_actor_t *self, caller_t *caller) {
    uint64_t now = rr_now_ns(self);
    for (rr__parcel_t *parcel = rr__pipe_take(&caller->link->calls), *next; parcel; parcel = next) {
        next = parcel->next;
        unsigned left_ms = parcel->until_ns > now ? (unsigned)((parcel->until_ns - now) / 1000000) : 0;
        if (left_ms) /* else its caller has heard TIMEOUT */
            (caller->link->bridge->outer ? call_outer : call_group)(self, caller, parcel, left_ms);
        rr__parcel_free(parcel);
    }
}

void rr__link_ended(rr__link_t *link, int reason) {
    pthread_mutex_lock(&link->lock);
    link->reason = link->ended ? link->reason : reason;
    link->ended = true;
    pthread_cond_broadcast(&link->changed);
    pthread_mutex_unlock(&link->lock);
}

static int caller_start(rr_actor_t *self, void *state, const void *arg) {
    caller_t *caller = state;
    caller->link = link_of(arg);
    return caller->link->agent != RR_NOBODY ? rr_monitor(self, caller->link->agent, NULL) : RR_OK;
}

static void caller_receive(rr_actor_t *self, void *state, rr_message_t *msg) {
    caller_t *caller = state;
    if (rr_message_kind(msg) == RR_DOWN)
        rr__link_ended(caller->link, (int)rr_message_type(msg));
    else if (rr_message_kind(msg) == RR_SEND && rr_message_type(msg) == RR_TYPE_BRIDGE_WAKE)
        carry_out_calls(self, caller);
}

/* Every turn, too: a wake-up may have found the mailbox full. */
static void caller_turn(rr_actor_t *self, void *state) {
    caller_t *caller = state;
    if (caller->link)
        carry_out_calls(self, caller);
}

static const rr_behavior_t caller_behavior = {
    .name = "bridge-caller",
    .state_size = sizeof(caller_t),
    .start = caller_start,
    .receive = caller_receive,
    .turn_begin = caller_turn,
};

/* ---- The agent ---- */

typedef struct agent {
    rr__link_t *link;
    rr__bridged_t calls;
} agent_t;

static int agent_start(rr_actor_t *self, void *state, const void *arg) {
    agent_t *agent = state;
    agent->link = link_of(arg);
    agent->calls.limit = agent->link->bridge->max_calls;
    agent->calls.generation = agent->link->generation;
    rr__pipe_open(&agent->link->answers, rr_system_of(self), rr_self(self)); /* before the first call that wants one */
    rr_log(agent->link->bridge->own, RR_INFO, "BRIDGE", "group %s is at the bridge %s", agent->link->group,
           agent->link->address);
    return RR_OK;
}

static void agent_called(rr_actor_t *self, agent_t *agent, rr_message_t *msg) {
    rr__link_t *link = agent->link;
    rr_bridge_target_t target;
    const void *request;
    size_t size;
    int rc = rr_bridge_decode(rr_message_data(msg), rr_message_size(msg), &target, &request, &size);
    if (rc != RR_OK) {
        rr_reply_error(self, msg, RR_EHANDLER, rc == RR_EUNSUPPORTED
                                                   ? "UNSUPPORTED: a call of another version; update the older group"
                                                   : "PROTO: not a call to a group");
        return;
    }
    rr__parcel_t parcel = {.kind = RR__PARCEL_CALL, .buffer = rr__payload(msg)};
    parcel.until_ns = rr_now_ns(self) + rr__hop_ms(target.timeout_ms, 1) * 1000000ull;
    parcel.token = parcel.buffer ? rr__bridged_add(&agent->calls, self, msg, link->index, parcel.until_ns) : 0;
    link->generation = agent->calls.generation;
    if (!parcel.token) {
        rr_buffer_unref(parcel.buffer);
        rr_reply_error(self, msg, RR_OVERLOAD, NULL);
        return;
    }
    rc = rr__pipe_push(&link->bridge->inbox, &parcel, false);
    if (rc != RR_OK)
        rr_reply_error(self, rr__bridged_take(&agent->calls, parcel.token), rc, NULL);
}

static void carry_out_answers(rr_actor_t *self, agent_t *agent) {
    for (rr__parcel_t *parcel = rr__pipe_take(&agent->link->answers), *next; parcel; parcel = next) {
        next = parcel->next;
        rr_message_t *msg = rr__bridged_take(&agent->calls, parcel->token);
        if (msg)
            rr__pass_on(self, msg, parcel);
        rr__parcel_free(parcel);
    }
}

static void agent_receive(rr_actor_t *self, void *state, rr_message_t *msg) {
    agent_t *agent = state;
    if (rr_message_kind(msg) == RR_CALL && rr_message_type(msg) == RR_TYPE_BRIDGE)
        agent_called(self, agent, msg);
    else if (rr_message_kind(msg) == RR_CALL)
        rr_reply_error(self, msg, RR_EHANDLER, "PROTO: a group is called by its bridge only");
    else if (rr_message_kind(msg) == RR_TIMER)
        rr__bridged_tick(&agent->calls, self);
    else if (rr_message_kind(msg) == RR_SEND && rr_message_type(msg) == RR_TYPE_BRIDGE_WAKE)
        carry_out_answers(self, agent); /* it may have come since this turn began: nobody wakes us for the same again */
}

/* Every turn, too: a wake-up may have found the mailbox full. */
static void agent_turn(rr_actor_t *self, void *state) {
    agent_t *agent = state;
    if (agent->link)
        carry_out_answers(self, agent);
}

static void agent_finish(rr_actor_t *self, void *state, int reason) {
    rr__bridged_destroy(&((agent_t *)state)->calls);
}

static const rr_behavior_t agent_behavior = {
    .name = "bridge-agent",
    .state_size = sizeof(agent_t),
    .start = agent_start,
    .receive = agent_receive,
    .turn_begin = agent_turn,
    .finish = agent_finish,
};

/* ---- Both ---- */

int rr__link_spawn(rr__link_t *link, const rr_bridge_stay_t *stay) {
    rr_spawn_t agent = {.behavior = &agent_behavior, .arg = &link, .arg_size = sizeof link, .name = link->group,
                        .executor = stay->executor, .leased = stay->leased};
    rr_spawn_t caller = {.behavior = &caller_behavior, .arg = &link, .arg_size = sizeof link, .executor = stay->executor};
    rr_addr_t called = RR_NOBODY, calls;
    rr__pipe_allow(&link->answers);
    rr__pipe_allow(&link->calls);
    int rc = link->bridge->outer ? RR_OK : rr_system_spawn(stay->system, &agent, &called);
    if (rc != RR_OK)
        return rc;
    pthread_mutex_lock(&link->lock);
    link->agent = called;
    pthread_mutex_unlock(&link->lock);
    rc = rr_system_spawn(stay->system, &caller, &calls);
    if (rc != RR_OK)
        return rc;
    rr__pipe_open(&link->calls, stay->system, calls);
    return RR_OK;
}
