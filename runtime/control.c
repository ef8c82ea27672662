/* control.c: the second lane of an actor (kill, drain, grants, news of nodes), and who waits for room: muted senders, held
 * proxies. */
#include "runtime/actor.h"

#include <assert.h>

#include "runtime/alloc.h"
#include "runtime/system.h"

/* ---- The control lane ------------------------------------------------------------------------------------------- */

bool rr__control_send(rr_system_t *system, rr_addr_t to, rr_addr_t from, int op, int reason) {
    rr__flush_burst();
    rr_actor_t *actor = rr__directory_find(&system->directory, to);
    rr__control_t *control = actor ? rr__malloc(sizeof *control) : NULL;
    if (!control)
        return false;
    *control = (rr__control_t){.to = to, .from = from, .op = op, .reason = reason};
    uint64_t word = atomic_fetch_add_explicit(&actor->word, 1, memory_order_acq_rel);
    if (word & RR__DEAD) {
        rr__free(control);
        return false;
    }
    control->next = atomic_load_explicit(&actor->control, memory_order_relaxed);
    while (!atomic_compare_exchange_weak(&actor->control, &control->next, control))
        ;
    /* Nobody else posts a muted actor, and nobody may wait for one that is muted. */
    if (!rr__word_count(word) || (atomic_load(&actor->muted) && atomic_exchange(&actor->muted, 0)))
        rr__post(actor);
    return true;
}

void rr_kill(rr_system_t *system, rr_addr_t target, int reason) {
    /* False: it is gone already, which is what was asked for. (Without memory for 32 bytes nothing else works either.) */
    (void)rr__control_send(system, target, RR_NOBODY, RR__KILL, reason);
}

static rr__control_t *take_control(rr_actor_t *actor) {
    rr__control_t *list = atomic_exchange_explicit(&actor->control, NULL, memory_order_acquire), *oldest = NULL;
    while (list) {
        rr__control_t *next = list->next;
        list->next = oldest;
        oldest = list;
        list = next;
    }
    return oldest;
}

void rr__on_drain(rr_system_t *system, rr_actor_t *actor) {
    actor->bits |= RR__DRAINING;
    if (!rr__may_run(system, actor))
        rr_exit(actor, RR_STALE); /* it has nothing to say any more */
    else if (actor->behavior->drain && actor->phase == RR__PHASE_LIVE)
        actor->behavior->drain(actor, actor->state);
}

static void add_muted(rr_system_t *system, rr_actor_t *actor, rr_addr_t sender) {
    rr__side_t *side = rr__actor_side(actor);
    if (!side || rr__list_add(&side->muted, sender, 0) != RR_OK)
        rr__unmute(system, sender); /* without memory to remember it, it must not wait */
}

static void add_notice(rr_system_t *system, rr_actor_t *actor, rr_addr_t waiter) {
    rr__side_t *side = rr__actor_side(actor);
    if (!side || rr__list_add(&side->muted, waiter, 1) != RR_OK)
        rr__tell_room(system, actor->addr, waiter);
}

static void grant(rr_system_t *system, rr_actor_t *actor, uint64_t epoch) {
    rr__side_t *side = rr__actor_side(actor);
    if (!side) {
        rr_log(system, RR_ERROR, "RUNTIME", "no memory for an actor's epoch: it is ended");
        rr_exit(actor, RR_ENOMEM);
        return;
    }
    side->epoch = epoch;
    actor->bits |= RR__GRANTED;
}

/* Without a lease it may not hear of it now: then the next turn does. */
static void call_due(rr_system_t *system, rr_actor_t *actor) {
    if (actor->phase != RR__PHASE_LIVE)
        return;
    if (rr__may_run(system, actor)) {
        rr__on_call_timer(actor, rr__current);
        return;
    }
    rr_message_t *msg = rr__message_new(rr__my_pool(system), 0);
    if (!msg) {
        rr_log(system, RR_ERROR, "RUNTIME", "no memory to end an actor's calls at their deadline");
        return;
    }
    msg->kind = RR__CALL_TIMER;
    msg->flags |= RR__UNSHEDDABLE;
    msg->to = msg->from = actor->addr;
    if (rr__deliver(system, NULL, msg) != RR_OK)
        return; /* it is ending: its calls end with it */
}

static void control(rr_system_t *system, rr_actor_t *actor, const rr__control_t *item) {
    switch (item->op) {
    case RR__KILL:
        rr_exit(actor, item->reason);
        break;
    case RR__DRAIN:
        rr__on_drain(system, actor);
        break;
    case RR__WAIT_ROOM:
        add_muted(system, actor, item->from);
        break;
    case RR__NOTICE_ROOM:
        add_notice(system, actor, item->from);
        break;
    case RR__GRANT:
        grant(system, actor, item->from);
        break;
    case RR__CALL_DUE:
        call_due(system, actor);
        break;
    default: /* RR__NODE_DOWN */
        if (actor->side) {
            rr__calls_node_down(actor, (unsigned)item->reason);
            rr__relations_node_down(actor, (unsigned)item->reason);
        }
    }
}

/* Returns how many counts it consumed. */
uint64_t rr__handle_control(rr_system_t *system, rr_actor_t *actor) {
    uint64_t consumed = 0;
    for (rr__control_t *item = take_control(actor), *next; item; item = next) {
        next = item->next;
        consumed++;
        if (item->to == actor->addr)
            control(system, actor, item);
        else if (item->op == RR__WAIT_ROOM)
            rr__unmute(system, item->from);
        else if (item->op == RR__NOTICE_ROOM)
            rr__tell_room(system, item->to, item->from);
        rr__free(item);
    }
    return consumed;
}

/* ---- Muted senders (RR_POLICY_PAUSE_SOURCE) ---------------------------------------------------------------------- */

void rr__unmute(rr_system_t *system, rr_addr_t sender) {
    rr_actor_t *actor = rr__directory_find(&system->directory, sender);
    if (actor && atomic_load(&actor->muted) && atomic_exchange(&actor->muted, 0))
        rr__post(actor);
}

void rr__resume_senders(rr_system_t *system, rr_actor_t *actor, uint64_t word) {
    uint32_t limit = atomic_load_explicit(&actor->limit_count, memory_order_relaxed);
    uint32_t units = atomic_load_explicit(&actor->limit_units, memory_order_relaxed);
    if (actor->phase == RR__PHASE_LIVE && (rr__word_count(word) > limit / 2 || rr__word_units(word) > units / 2))
        return;
    rr__list_t *muted = &actor->side->muted;
    while (muted->count) {
        rr__watcher_t waiter = muted->items[--muted->count];
        if (waiter.id)
            rr__tell_room(system, actor->addr, waiter.addr);
        else
            rr__unmute(system, waiter.addr);
    }
}

/* The end of a turn that sent to a full receiver: true if the actor is muted now, and then no longer the caller's.
 * Who is over its own limit, or is waited for by others, goes on: so no cycle of waiters can close. */
bool rr__mute(rr_system_t *system, rr_actor_t *actor, uint64_t consumed, bool *runnable) {
    rr_addr_t target = actor->side->mute_on, self = actor->addr;
    actor->side->mute_on = RR_NOBODY;
    uint64_t word = atomic_load_explicit(&actor->word, memory_order_relaxed);
    rr_actor_t *to = rr__directory_find(&system->directory, target);
    if (!to || !rr__over_limit(to, atomic_load_explicit(&to->word, memory_order_relaxed), 1) ||
        rr__over_limit(actor, word - consumed, 1) || actor->side->muted.count || !rr__word_count(consumed))
        return false;
    uint64_t deadline_ns = actor->side->call_timer_ns;
    actor->bits |= RR__CARRY;
    atomic_fetch_sub_explicit(&actor->word, consumed - 1, memory_order_acq_rel);
    atomic_store(&actor->muted, 1);
    bool waits = rr__control_send(system, target, self, RR__WAIT_ROOM, 0);
    /* Looked at behind `muted`: a timer that fired before that is in the mailbox, one that fires later finds it set. */
    bool due = deadline_ns <= rr_clock_now(&system->clock);
    *runnable = (!waits || due || atomic_load(&actor->control)) && atomic_exchange(&actor->muted, 0);
    if (due && *runnable)
        (void)rr__control_send(system, self, RR_NOBODY, RR__CALL_DUE, 0); /* no memory: with what is in the mailbox */
    return true;
}

/* ---- Holding a proxy -------------------------------------------------------------------------------------------- */

void rr_hold(rr_actor_t *self) {
    assert(rr_executor_of(self)->pinned || rr__system_of(self)->replay);
    self->bits |= RR__HELD;
}

void rr_unhold(rr_actor_t *self) {
    self->bits &= (uint8_t)~RR__HELD;
    if (atomic_load(&self->muted) && atomic_exchange(&self->muted, 0))
        rr__post(self);
}

/* The end of a held actor's turn: as a muted one it keeps a count, so that nobody posts it but rr_unhold and the control
 * lane. False: the control lane has come already, and it is still runnable. */
bool rr__rest(rr_actor_t *actor, uint64_t consumed) {
    actor->bits |= RR__CARRY;
    atomic_fetch_sub_explicit(&actor->word, consumed - 1, memory_order_acq_rel);
    atomic_store(&actor->muted, 1);
    return !(atomic_load(&actor->control) && atomic_exchange(&actor->muted, 0));
}
