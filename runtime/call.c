#include "runtime/alloc.h"
#include "runtime/system.h"

#include <string.h>

/* Deadlines: a caller has one timer, for its earliest deadline. It is armed when a call needs an earlier one than it is
 * armed for, and looked after when it fires: a call that ends in time costs the wheel nothing. A caller that is paused, because
 * it has sent to somebody who is full, is told of it by the control lane. */

#define CALL sizeof(rr__call_t)
#define TAKEN sizeof(rr__taken_entry_t)
#define LONG_MS 1000 /* of these RR_CLOCK_SOON_NS are at most a fiftieth */

static void send_to_caller(rr_system_t *system, rr_message_t *reply, rr_addr_t to, uint64_t request, int code,
                           rr_addr_t from) {
    if (!reply) {
        /* The caller's deadline ends the call all the same. */
        rr_log(system, RR_ERROR, "RUNTIME", "no memory for a reply: the call will time out");
        return;
    }
    reply->kind = RR_REPLY;
    reply->flags |= RR__UNSHEDDABLE; /* bounded by the caller's outstanding calls */
    reply->to = to;
    reply->from = from;
    reply->request = request;
    reply->type = (uint32_t)code;
    if (rr__deliver(system, NULL, reply) != RR_OK)
        return; /* the caller is gone: counted as a late reply */
}

int rr__reply_code(rr_system_t *system, rr_addr_t to, uint64_t request, int code) {
    if (to == RR_NOBODY)
        return RR_NOROUTE;
    rr_message_t *reply = rr__message_copy(rr__my_pool(system), NULL, 0);
    send_to_caller(system, reply, to, request, code, RR_NOBODY);
    return RR_OK;
}

/* ---- Calling ---------------------------------------------------------------------------------------------------- */

static int arm_deadline(rr_actor_t *self, uint64_t deadline_ns) {
    rr__side_t *side = self->side;
    if (side->call_timer_ns <= deadline_ns)
        return RR_OK;
    if (!side->call_timer) {
        side->call_timer = rr__calloc(1, sizeof *side->call_timer);
        if (!side->call_timer)
            return RR_ENOMEM;
        side->call_timer->owner = self->addr;
        side->call_timer->kind = RR__CALL_TIMER;
    }
    rr__timer_disarm(side->call_timer);
    rr__timer_arm(rr__current, side->call_timer, deadline_ns);
    side->call_timer_ns = deadline_ns;
    return RR_OK;
}

/* Not the turn's coarse time: a handler may have been busy for longer than the timeout before it calls. A look at the clock
 * is a tenth of a call's cost, so a long timeout, for which some milliseconds more are nothing, has a cheaper one. */
static uint64_t deadline(const rr_system_t *system, unsigned timeout_ms) {
    uint64_t now = timeout_ms < LONG_MS ? rr_clock_now(&system->clock) : rr_clock_soon(&system->clock);
    return now + timeout_ms * RR_NS_PER_MS;
}

static int begin_call(rr_actor_t *self, rr_message_t *msg, rr_addr_t to, uint32_t type, unsigned timeout_ms,
                      rr_reply_fn fn, void *context, uint64_t *id_out) {
    if (!msg)
        return RR_ENOMEM;
    rr_system_t *system = rr_system_of(self);
    rr__side_t *side = rr__actor_side(self);
    int rc = side && fn ? RR_OK : fn ? RR_ENOMEM : RR_EINVAL;
    uint64_t id = 0;
    rr__call_t *call = rc == RR_OK ? rr__table_add(&side->calls, CALL, &id, &rc) : NULL;
    if (!call)
        goto fail;
    call->fn = fn;
    call->context = context;
    call->node = rr_addr_node(to);
    rr__touch_remote(self, to);
    call->deadline_ns = deadline(system, timeout_ms ? timeout_ms : RR_CALL_TIMEOUT_MS);
    rc = arm_deadline(self, call->deadline_ns);
    if (rc != RR_OK)
        goto remove;
    msg->kind = RR_CALL;
    msg->to = to;
    msg->from = self->addr;
    msg->request = id;
    msg->type = type;
    if (id_out)
        *id_out = id;
    return rr__deliver(system, self, msg);
remove:
    rr__table_remove(&side->calls, CALL, id);
fail:
    rr__message_free(system, rr__my_pool(system), msg);
    return rc;
}

int rr_call(rr_actor_t *self, rr_addr_t to, uint32_t type, const void *data, size_t size, unsigned timeout_ms,
            rr_reply_fn fn, void *context, uint64_t *id) {
    rr_message_t *msg = rr__message_copy(rr__current->pool, data, size);
    return begin_call(self, msg, to, type, timeout_ms, fn, context, id);
}

int rr_call_buffer(rr_actor_t *self, rr_addr_t to, uint32_t type, rr_buffer_t *buffer, unsigned timeout_ms,
                   rr_reply_fn fn, void *context, uint64_t *id) {
    rr_message_t *msg = rr__message_wrap(rr__current->pool, buffer);
    return begin_call(self, msg, to, type, timeout_ms, fn, context, id);
}

/* ---- How calls end ---------------------------------------------------------------------------------------------- */

static bool end_call(rr_actor_t *self, uint64_t id, int status, rr_message_t *msg) {
    rr__call_t *call = self->side ? rr__table_get(&self->side->calls, CALL, id) : NULL;
    if (!call)
        return false;
    rr_reply_fn fn = call->fn;
    void *context = call->context;
    rr__table_remove(&self->side->calls, CALL, id);
    fn(self, self->state, status, msg, context);
    return true;
}

void rr__on_reply(rr_actor_t *self, rr_message_t *msg) {
    int status = (int)msg->type;
    bool with_payload = status == RR_OK || status == RR_EHANDLER;
    if (!end_call(self, msg->request, status, with_payload ? msg : NULL))
        rr_count_shared(&rr_system_of(self)->late_replies, 1);
}

bool rr_call_cancel(rr_actor_t *self, uint64_t id) { return end_call(self, id, RR_CANCELLED, NULL); }

void rr__on_call_timer(rr_actor_t *self, rr_worker_t *worker) {
    rr__side_t *side = self->side;
    if (!side)
        return;
    worker->now_ns = rr_clock_now(&worker->system->clock);
    if (worker->now_ns < side->call_timer_ns)
        return; /* armed anew since this one was fired */
    side->call_timer_ns = UINT64_MAX;
    uint64_t earliest = UINT64_MAX;
    for (uint32_t i = 0; i < side->calls.capacity; i++) {
        uint64_t id;
        rr__call_t *call = rr__table_at(&side->calls, CALL, i, &id);
        if (call && call->deadline_ns <= worker->now_ns)
            end_call(self, id, RR_TIMEOUT, NULL);
        else if (call && call->deadline_ns < earliest)
            earliest = call->deadline_ns;
    }
    if (earliest != UINT64_MAX && arm_deadline(self, earliest) != RR_OK)
        rr_log(worker->system, RR_ERROR, "RUNTIME", "no memory for a call timer"); /* it exists: cannot happen */
}

/* Into its mailbox, behind the replies that came in time; but who is paused reads that only when it goes on. mute() looks after one
 * that is paused behind this look. */
int rr__call_timer_fired(rr_system_t *system, rr_message_t *msg) {
    rr_actor_t *actor = rr__directory_find(&system->directory, msg->to);
    if (actor && atomic_load(&actor->muted) && rr__control_send(system, msg->to, RR_NOBODY, RR__CALL_DUE, 0)) {
        rr__message_free(system, rr__my_pool(system), msg);
        return RR_OK;
    }
    return rr__deliver(system, NULL, msg);
}

void rr__calls_node_down(rr_actor_t *self, unsigned node) {
    for (uint32_t i = 0; i < self->side->calls.capacity; i++) {
        uint64_t id;
        rr__call_t *call = rr__table_at(&self->side->calls, CALL, i, &id);
        if (call && call->node == node) /* as a message: behind the replies that came in time */
            (void)rr__reply_code(rr_system_of(self), self->addr, id, RR_LINKDOWN);
    }
}

/* ---- Answering -------------------------------------------------------------------------------------------------- */

static void forget_taken(rr_actor_t *self, rr_message_t *msg) {
    if (self->side)
        rr__table_remove(&self->side->taken, TAKEN, msg->to);
    msg->flags &= (uint8_t)~RR__TAKEN;
    if (msg->flags & RR__QUEUED)
        rr__message_drop_payload(msg);
    else
        rr__message_free(rr_system_of(self), rr__my_pool(rr_system_of(self)), msg);
}

static void answer(rr_actor_t *self, rr_message_t *msg, rr_message_t *reply, int code) {
    if (msg->kind == RR_CALL && !(msg->flags & RR__ANSWERED)) {
        msg->flags |= RR__ANSWERED;
        send_to_caller(rr_system_of(self), reply, msg->from, msg->request, code, self->addr);
    } else if (reply) {
        rr__message_free(rr_system_of(self), rr__my_pool(rr_system_of(self)), reply);
    }
    if (msg->flags & RR__TAKEN)
        forget_taken(self, msg);
}

void rr_reply(rr_actor_t *self, rr_message_t *msg, const void *data, size_t size) {
    answer(self, msg, rr__message_copy(rr__my_pool(rr_system_of(self)), data, size), RR_OK);
}

void rr_reply_buffer(rr_actor_t *self, rr_message_t *msg, rr_buffer_t *buffer) {
    answer(self, msg, rr__message_wrap(rr__my_pool(rr_system_of(self)), buffer), RR_OK);
}

void rr_reply_error(rr_actor_t *self, rr_message_t *msg, int code, const char *text) {
    if (text)
        code = RR_EHANDLER;
    size_t size = text ? strlen(text) : 0;
    answer(self, msg, rr__message_copy(rr__my_pool(rr_system_of(self)), text, size), code);
}

void rr__auto_reply(rr_actor_t *self, rr_message_t *msg) {
    rr_reply_error(self, msg, RR_EHANDLER, "this actor does not answer such calls");
}

/* ---- Keeping messages ------------------------------------------------------------------------------------------- */

void rr_message_take(rr_actor_t *self, rr_message_t *msg) {
    if (msg->flags & RR__TAKEN)
        return;
    rr__side_t *side = rr__actor_side(self);
    uint64_t id = 0; /* of no entry: then only this actor's early end would go unanswered */
    int rc = RR_ENOMEM;
    rr__taken_entry_t *entry = side ? rr__table_add(&side->taken, TAKEN, &id, &rc) : NULL;
    if (entry)
        entry->msg = msg;
    else
        rr_log(rr_system_of(self), RR_ERROR, "RUNTIME", "a kept message is not remembered: %s", rr_strerror(rc));
    msg->to = id;
    msg->flags |= RR__TAKEN;
}

void rr_message_release(rr_actor_t *self, rr_message_t *msg) {
    if (msg->kind == RR_CALL && !(msg->flags & RR__ANSWERED))
        rr_reply_error(self, msg, RR_CANCELLED, NULL);
    else if (msg->flags & RR__TAKEN)
        forget_taken(self, msg);
}

void rr__calls_end(rr_actor_t *self) {
    rr__side_t *side = self->side;
    for (uint32_t i = 0; i < side->taken.capacity; i++) {
        uint64_t id;
        rr__taken_entry_t *entry = rr__table_at(&side->taken, TAKEN, i, &id);
        if (!entry)
            continue;
        rr_message_t *msg = entry->msg;
        if (msg->kind == RR_CALL && !(msg->flags & RR__ANSWERED))
            rr_reply_error(self, msg, RR_DIED, NULL);
        else
            forget_taken(self, msg);
    }
    rr__table_clear(&side->taken);
    rr__table_clear(&side->calls);
    if (side->call_timer) {
        rr__timer_disarm(side->call_timer);
        rr__free(side->call_timer);
        side->call_timer = NULL;
    }
}
