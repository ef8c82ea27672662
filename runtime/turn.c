/* turn.c: what a worker does with a runnable actor: its messages, the turn's end; and the end of the actor. */
#include "runtime/actor.h"

#include <assert.h>
#include <string.h>

#include "runtime/alloc.h"
#include "runtime/overseer.h"
#include "runtime/sheet.h"
#include "runtime/system.h"

#define DEFAULT_TURN_MESSAGES 256
#define DEFAULT_TURN_US 500
#define DEFAULT_CLOCK_EVERY 32
#define CLOCK_STEP_MAX 8     /* where one message may take long: looks at the clock are at most so many messages apart, */
#define CLOCK_STEP_NS 1000   /* and twice as far as before after messages that took less than this together */
#define GIVE_WAY_NS 10000    /* about what a read and a write of a socket take: less is not worth being sent by itself */
#define GUEST_TURN_NS 2000000 /* about what a thread waits for another one of its CPU anyway */

/* ---- The end of an actor ---------------------------------------------------------------------------------------- */

static inline __attribute__((always_inline)) rr_message_t *pop(rr_system_t *system, rr__pool_t *pool, rr_actor_t *actor) {
    rr_message_t *tail = actor->tail;
    rr_message_t *next = atomic_load_explicit(&tail->next, memory_order_acquire);
    if (!next)
        return NULL;
    actor->tail = next;
    if (next->flags & RR__ANNOUNCES)
        __builtin_prefetch((void *)(uintptr_t)next->request, 1);
    next->flags |= RR__QUEUED;
    if ((void *)tail != (void *)&actor->stub) {
        tail->flags &= (uint8_t)~RR__QUEUED;
        if (!(tail->flags & RR__TAKEN))
            rr__message_free_fast(system, pool, tail);
    }
    return next;
}

/* A pack or sheet that the last turn has left in the middle: it is still the dummy. */
static rr_message_t *begun_pack(rr_actor_t *actor) {
    rr_message_t *tail = actor->tail;
    bool packed = (void *)tail != (void *)&actor->stub && rr__is_packed(tail);
    return packed && rr__packed_left(tail) ? tail : NULL;
}

/* Ends everything that was counted before DEAD was set: messages may still be on their way into the queue. */
static void drain_mailbox(rr_system_t *system, rr_actor_t *actor, uint64_t left) {
    /* Who lost its name has surely not handled them. */
    int reason = actor->reason == RR_STALE ? RR_STALE : RR_DIED;
    rr_message_t *begun = begun_pack(actor);
    if (begun)
        left -= rr__refuse_pack(system, begun, begun->to == actor->addr ? reason : RR_NOROUTE);
    while (left) {
        rr_message_t *msg = pop(system, rr__my_pool(system), actor);
        if (msg && rr__is_packed(msg)) {
            left -= rr__refuse_pack(system, msg, msg->to == actor->addr ? reason : RR_NOROUTE);
        } else if (msg) {
            left -= msg->weight;
            rr__undeliverable(system, msg, msg->to == actor->addr ? reason : RR_NOROUTE);
            rr__message_drop_payload(msg);
        } else if (atomic_load_explicit(&actor->control, memory_order_relaxed)) {
            left -= rr__handle_control(system, actor);
        } else {
            rr__relax();
        }
    }
    rr_message_t *dummy = actor->tail;
    if ((void *)dummy != (void *)&actor->stub) {
        dummy->flags &= (uint8_t)~RR__QUEUED;
        if (!(dummy->flags & RR__TAKEN))
            rr__message_free(system, rr__my_pool(system), dummy);
        actor->tail = (rr_message_t *)(void *)&actor->stub;
    }
}

/* From here on nobody finds the actor. Its last turn has consumed `consumed` of the word. */
static void bury(rr_system_t *system, rr_actor_t *actor, uint64_t consumed) {
    rr_addr_t addr = actor->addr;
    int reason = actor->reason;
    rr__names_end(actor);
    rr__directory_withdraw(&system->directory, addr);
    uint64_t word = atomic_fetch_or_explicit(&actor->word, RR__DEAD, memory_order_acq_rel);
    drain_mailbox(system, actor, rr__word_count(word) - rr__word_count(consumed));
    if (actor->side) {
        rr__calls_end(actor);
        rr__timers_end(actor);
        rr__relations_end(actor, reason);
        rr__resume_senders(system, actor, 0);
    }
    if (actor->arg && !(actor->bits & RR__ARG_OWNED) && actor->behavior->unstarted)
        actor->behavior->unstarted(actor->arg); /* the first turn would have cleared it */
    rr__actor_free_parts(actor);
    actor->phase = RR__PHASE_DEAD;
    rr__directory_release(&system->directory, rr__my_pool(system) ? &rr__current->cache : NULL, actor, addr);
    rr__actor_gone(system);
}

void rr__abandon(rr_system_t *system, rr_actor_t *actor) {
    actor->reason = RR_CANCELLED;
    actor->phase = RR__PHASE_ENDING;
    bury(system, actor, 1);
}

void rr__finish_now(rr_system_t *system, rr_actor_t *actor, int reason) {
    /* Two counts stand for no message: the first turn's, and the one that a muted turn keeps. */
    uint64_t consumed = actor->phase == RR__PHASE_NEW || (actor->bits & RR__CARRY) ? 1 : 0;
    rr_exit(actor, reason);
    if (actor->behavior->turn_begin)
        actor->behavior->turn_begin(actor, actor->state);
    if ((actor->bits & RR__STARTED) && actor->behavior->finish)
        actor->behavior->finish(actor, actor->state, actor->reason);
    if (actor->behavior->turn_end)
        actor->behavior->turn_end(actor, actor->state);
    rr__flush_burst();
    bury(system, actor, consumed);
}

/* ---- A turn ----------------------------------------------------------------------------------------------------- */

static bool shed(rr_actor_t *actor, const rr_message_t *msg, uint64_t consumed) {
    if (atomic_load_explicit(&actor->policy, memory_order_relaxed) != RR_POLICY_DROP_OLDEST ||
        (msg->flags & RR__UNSHEDDABLE))
        return false;
    return rr__over_limit(actor, atomic_load_explicit(&actor->word, memory_order_relaxed) - consumed, 1);
}

static void receive(rr_actor_t *actor, rr_message_t *msg) {
    actor->behavior->receive(actor, actor->state, msg);
    if (msg->kind == RR_CALL && !(msg->flags & (RR__TAKEN | RR__ANSWERED)))
        rr__auto_reply(actor, msg);
}

/* For another node's actor? */
static bool is_passed_on(const rr_worker_t *worker, const rr_actor_t *proxy, rr_addr_t to) {
    return proxy->behavior->proxy && rr_addr_node(to) != worker->system->node;
}

static void pass_on(rr_actor_t *proxy, rr_message_t *msg) {
    if (proxy->behavior->forward) {
        rr_envelope_t env = rr__envelope(msg);
        proxy->behavior->forward(proxy, proxy->state, &env);
    } else {
        proxy->behavior->receive(proxy, proxy->state, msg);
    }
}

static void dispatch(rr_worker_t *worker, rr_actor_t *actor, rr_message_t *msg, uint64_t consumed) {
    worker->serials.left = 0;
    if (__builtin_expect(msg->to != actor->addr, 0)) {
        if (is_passed_on(worker, actor, msg->to))
            pass_on(actor, msg);
        else
            rr__undeliverable(worker->system, msg, RR_NOROUTE);
    } else if (__builtin_expect(msg->kind <= RR_CALL, 1)) {
        if (__builtin_expect(shed(actor, msg, consumed), 0)) {
            rr_count_shared(&worker->system->refused, 1);
            rr__undeliverable(worker->system, msg, RR_OVERLOAD);
        } else {
            receive(actor, msg);
        }
    } else if (msg->kind == RR_REPLY) {
        rr__on_reply(actor, msg);
    } else if (msg->kind == RR_TIMER) {
        if (rr__on_timer(actor, worker, msg->request))
            receive(actor, msg);
    } else if (msg->kind == RR__CALL_TIMER) {
        rr__on_call_timer(actor, worker);
    } else if (rr__on_relation(actor, msg)) {
        receive(actor, msg);
    }
    if (!(msg->flags & RR__TAKEN))
        rr__message_drop_payload(msg);
}

static __attribute__((noinline)) rr_message_t *unpack_large(rr_worker_t *worker, const rr_message_t *pack, const rr_packed_t *item) {
    rr_envelope_t env = rr__packed_envelope(pack, item);
    return rr__message_of(worker->system, &env);
}

/* One out of a pack, as a message of its own. */
static inline rr_message_t *unpack(rr_worker_t *worker, const rr_message_t *pack, const rr_packed_t *item) {
    if (item->size > RR__INLINE_MAX)
        return unpack_large(worker, pack, item);
    rr_message_t *msg = rr__message_new_fast(worker->pool, item->size);
    if (!msg)
        return NULL;
    msg->to = pack->to;
    msg->from = item->from;
    msg->request = item->request;
    msg->type = item->type;
    msg->weight = item->weight;
    msg->kind = item->kind;
    msg->flags |= item->flags & RR__UNSHEDDABLE;
    if (item->size <= RR__PACKED_SMALL)
        rr_copy_small(msg->payload.data, (const uint8_t *)(item + 1), item->size);
    else
        memcpy(msg->payload.data, item + 1, item->size);
    return msg;
}

/* A proxy's, as many as it likes; *taken: how many. Returns what they count. */
static uint64_t forward_packed(rr_actor_t *proxy, rr_message_t *pack, unsigned *taken) {
    rr_run_t run = rr__pack_run(pack);
    if (proxy->behavior->forward_run) {
        proxy->behavior->forward_run(proxy, proxy->state, &run);
    } else {
        const rr_packed_t *first = rr_run_first(&run);
        rr_envelope_t env = rr_run_envelope(&run, first);
        proxy->behavior->forward(proxy, proxy->state, &env);
        rr_run_take(&run, first);
    }
    *taken = run.taken;
    return rr__pack_taken(pack, &run, RR__UNIT);
}

/* One out of a pack or a sheet, a message of its own now. */
static inline void dispatch_unpacked(rr_worker_t *worker, rr_actor_t *actor, rr_message_t *msg, uint64_t consumed) {
    msg->flags |= RR__QUEUED; /* taken and answered within its handler, it is still freed here */
    dispatch(worker, actor, msg, consumed);
    msg->flags &= (uint8_t)~RR__QUEUED;
    if (!(msg->flags & RR__TAKEN))
        rr__message_free_fast(worker->system, worker->pool, msg);
}

/* A sheet: as a whole, if the proxy takes it so, else the next one of it. Returns what was taken counts; *taken: how many. */
static __attribute__((noinline)) uint64_t dispatch_sheet(rr_worker_t *worker, rr_actor_t *actor, rr_message_t *msg, uint64_t consumed,
                                                         unsigned *taken) {
    bool passed_on = actor->behavior->forward && is_passed_on(worker, actor, msg->to);
    rr_sheet_t sheet;
    if (passed_on && actor->behavior->forward_sheet && rr__sheet_whole(msg, &sheet)) {
        uint64_t counts = sheet.count + rr__sheet_of(msg)->units * RR__UNIT;
        if (actor->behavior->forward_sheet(actor, actor->state, &sheet)) {
            *taken = sheet.count;
            rr__message_drop_payload(msg);
            return counts;
        }
    }
    rr_envelope_t env = rr__sheet_take(msg);
    uint64_t counts = rr__envelope_counts(&env, RR__UNIT);
    rr_message_t *one = passed_on ? NULL : rr__message_of(worker->system, &env);
    if (passed_on)
        actor->behavior->forward(actor, actor->state, &env);
    else if (one)
        dispatch_unpacked(worker, actor, one, consumed + counts);
    else
        rr_envelope_refuse(worker->system, &env, RR_ENOMEM);
    return counts;
}

/* The next one of a pack; a proxy's several. Returns what it counts. */
static uint64_t dispatch_packed(rr_worker_t *worker, rr_actor_t *actor, rr_message_t *pack, uint64_t consumed,
                                unsigned *taken) {
    if (pack->kind == RR__SHEET)
        return dispatch_sheet(worker, actor, pack, consumed, taken);
    if (actor->behavior->forward && is_passed_on(worker, actor, pack->to))
        return forward_packed(actor, pack, taken);
    const rr_packed_t *item = rr__pack_next(pack);
    uint64_t counts = rr__packed_counts(item, RR__UNIT);
    rr_message_t *msg = unpack(worker, pack, item);
    if (msg) {
        dispatch_unpacked(worker, actor, msg, consumed + counts);
    } else {
        rr_envelope_t env = rr__packed_envelope(pack, item);
        rr_envelope_refuse(worker->system, &env, RR_ENOMEM);
    }
    return counts;
}

static void first_turn(rr_worker_t *worker, rr_actor_t *actor) {
    worker->serials.left = 0;
    int rc = actor->behavior->start ? actor->behavior->start(actor, actor->state, actor->arg) : RR_OK;
    if (actor->bits & RR__ARG_OWNED)
        rr__free((void *)actor->arg);
    actor->bits &= (uint8_t)~RR__ARG_OWNED;
    actor->arg = NULL;
    if (rc != RR_OK) {
        rr_exit(actor, rc);
        return;
    }
    actor->bits |= RR__STARTED;
    if (actor->phase == RR__PHASE_NEW)
        actor->phase = RR__PHASE_LIVE;
    if (actor->bits & RR__DRAINING)
        rr__on_drain(rr__system_of(actor), actor); /* it was asked to before it began */
}

/* Time is looked at rarely: a reading costs as much as a short message. */
static bool time_over(rr_worker_t *worker, uint64_t *since) {
    worker->now_ns = rr_clock_now(&worker->system->clock);
    if (!*since)
        *since = worker->now_ns;
    unsigned us = worker->executor->turn_us ? worker->executor->turn_us : DEFAULT_TURN_US;
    return worker->now_ns - *since > us * 1000ull;
}

bool rr_others_wait(void) {
    rr_executor_t *executor = rr__current ? rr__current->executor : NULL;
    return executor && executor->ops->others_wait && executor->ops->others_wait(executor);
}

/* An actor that goes on by messages to itself lets the others have a turn first, each time. */
static bool lets_others_go(rr_worker_t *worker) {
    worker->self_sent = false;
    return rr_others_wait();
}

/* When a turn looks at the time. */
typedef struct looks {
    uint64_t since_ns;   /* the first look; 0 = none yet */
    unsigned step, next; /* so many messages from one to the next, which is behind so many */
    bool varies;         /* the step: every message is worth a look, unless they are very short */
    bool shares;         /* the turn is on a loop, and does not gather what it says: it gives way after so many messages */
    uint64_t half;
} looks_t;

static looks_t first_look(rr_worker_t *worker, rr_actor_t *actor) {
    const rr_executor_t *executor = worker->executor;
    looks_t looks = {.step = DEFAULT_CLOCK_EVERY};
    if (!actor->behavior->proxy && executor->clock_every) { /* a proxy's messages are short work, whatever else its executor runs */
        looks.step = executor->clock_every;
        looks.varies = executor->clock_every == 1;
        looks.shares = executor->pinned && !actor->behavior->turn_end;
        if (executor->pinned) { /* it has just looked */
            looks.since_ns = worker->now_ns;
            looks.half = rr__word_count(atomic_load_explicit(&actor->word, memory_order_relaxed)) / 2;
        } else {
            (void)time_over(worker, &looks.since_ns);
        }
    }
    looks.next = looks.step;
    return looks;
}

/* On a loop what a turn has sent leaves only after it. So a turn of much work ends in its middle, if others wait: the other node
 * has something to do, while this one goes on with the other half. */
static bool gives_way(rr_worker_t *worker, const looks_t *looks, uint64_t consumed) {
    return looks->shares && worker->now_ns - looks->since_ns >= GIVE_WAY_NS && rr__word_count(consumed) >= looks->half &&
           (worker->cut = rr_others_wait());
}

/* True: the turn is over. */
static bool look(rr_worker_t *worker, looks_t *looks, unsigned done, uint64_t consumed) {
    uint64_t before = worker->now_ns;
    if (time_over(worker, &looks->since_ns) || gives_way(worker, looks, consumed))
        return true;
    if (looks->varies && worker->now_ns - before >= CLOCK_STEP_NS)
        looks->step = 1;
    else if (looks->varies && looks->step < CLOCK_STEP_MAX)
        looks->step *= 2;
    looks->next = done + looks->step;
    return false;
}

static uint64_t run_messages(rr_worker_t *worker, rr_actor_t *actor, uint64_t consumed) {
    const rr_executor_t *executor = worker->executor;
    unsigned budget = executor->turn_messages ? executor->turn_messages : DEFAULT_TURN_MESSAGES;
    unsigned done = 0;
    looks_t looks = first_look(worker, actor);
    rr_message_t *pack = begun_pack(actor);
    while (done < budget) {
        if (__builtin_expect(atomic_load_explicit(&actor->control, memory_order_relaxed) != NULL, 0))
            consumed += rr__handle_control(worker->system, actor);
        if (__builtin_expect(actor->phase == RR__PHASE_ENDING || (actor->bits & RR__HELD), 0))
            break;
        rr_message_t *msg = pack ? pack : pop(worker->system, worker->pool, actor);
        unsigned taken = 1;
        if (!msg)
            break;
        if (__builtin_expect(rr__is_packed(msg), 0)) {
            if (msg != pack)
                rr__pack_fetch_next(msg);
            consumed += dispatch_packed(worker, actor, msg, consumed, &taken);
            pack = rr__packed_left(msg) ? msg : NULL;
        } else {
            consumed += msg->weight + rr__message_units(msg) * RR__UNIT;
            dispatch(worker, actor, msg, consumed);
        }
        if (__builtin_expect(actor->side != NULL, 0) && actor->side->mute_on)
            break; /* it sent to somebody who is full: end the turn, to be muted */
        if (__builtin_expect(worker->self_sent, 0) && lets_others_go(worker))
            break;
        done += taken;
        if (looks.varies || done >= looks.next)
            rr__flush_burst(); /* nobody waits for longer than until the next look, nor for a message that may take long */
        if (done >= looks.next && look(worker, &looks, done, consumed))
            break;
    }
    rr_count(&worker->messages, rr__word_count(consumed));
    return consumed;
}

static void check_single(rr_actor_t *actor, bool enter) {
#ifndef NDEBUG
    uint8_t was = atomic_exchange_explicit(&actor->running, enter, memory_order_relaxed);
    assert(was == !enter && "an actor runs on two threads");
#else
    (void)actor;
    (void)enter;
#endif
}

/* A draining actor without a drain() of its own ends when all is handled. */
static void drained(rr_actor_t *actor, uint64_t consumed) {
    if (!(actor->bits & RR__DRAINING) || actor->behavior->drain || actor->phase != RR__PHASE_LIVE ||
        (actor->side && (actor->side->calls.count || actor->side->taken.count)))
        return;
    uint64_t word = atomic_load_explicit(&actor->word, memory_order_relaxed);
    if (rr__word_count(word) == rr__word_count(consumed))
        rr_exit(actor, RR_OK);
}

static void last_words(rr_actor_t *actor) {
    if (!(actor->bits & RR__STARTED) || !actor->behavior->finish)
        return;
    actor->bits &= (uint8_t)~RR__STARTED; /* once */
    actor->behavior->finish(actor, actor->state, actor->reason);
}

/* Who is a guest in good standing need not be timed on its own workers: it is where it is a guest. 0 = it is not. */
static uint64_t turn_begins(const rr_worker_t *worker, const rr_actor_t *actor) {
    unsigned calm = actor->calm & RR__CALM_MAX, strikes = actor->calm >> RR__CALM_BITS;
    return calm >= RR__CALM_ENOUGH && !strikes ? 0 : rr_clock_now(&worker->system->clock);
}

/* May it go on to be a guest? A strike is forgiven after RR__CALM_MAX short turns. */
static void note_length(rr_worker_t *worker, rr_actor_t *actor) {
    unsigned calm = actor->calm & RR__CALM_MAX, strikes = actor->calm >> RR__CALM_BITS;
    if (rr_clock_now(&worker->system->clock) - worker->turn_ns > GUEST_TURN_NS) {
        calm = 0;
        if (worker->executor->pinned && strikes < RR__STRIKES_MAX)
            strikes++;
    } else if (calm < RR__CALM_MAX) {
        calm++;
    } else if (strikes) {
        calm = RR__CALM_ENOUGH;
        strikes--;
    }
    actor->calm = (uint16_t)(strikes << RR__CALM_BITS | calm);
}

static bool end_turn(rr_worker_t *worker, rr_actor_t *actor, uint64_t consumed) {
    rr__flush_burst(); /* a message to itself must be counted before drained() looks */
    drained(actor, consumed);
    if (__builtin_expect(actor->phase == RR__PHASE_ENDING, 0))
        last_words(actor);
    if (actor->behavior->turn_end)
        actor->behavior->turn_end(actor, actor->state);
    rr__flush_burst();
    check_single(actor, false);
    if (__builtin_expect(actor->phase == RR__PHASE_ENDING, 0)) {
        last_words(actor); /* turn_end itself may have asked for the end */
        rr__flush_burst();
        bury(worker->system, actor, consumed);
        return false;
    }
    if (__builtin_expect(actor->side != NULL, 0)) {
        bool runnable = false;
        if (actor->side->mute_on && rr__mute(worker->system, actor, consumed, &runnable))
            return runnable;
        if (actor->side->muted.count) {
            uint64_t word = atomic_load_explicit(&actor->word, memory_order_relaxed);
            rr__resume_senders(worker->system, actor, word - consumed);
        }
    }
    if (__builtin_expect((actor->bits & RR__GUEST) && worker->turn_ns, 0))
        note_length(worker, actor);
    if (__builtin_expect(actor->bits & RR__HELD, 0))
        return !rr__rest(actor, consumed);
    uint64_t word = atomic_fetch_sub_explicit(&actor->word, consumed, memory_order_acq_rel) - consumed;
    return rr__word_count(word) != 0;
}

/* What stands for a turn while there is no lease: the control lane only. False: it shall end, in a turn that has consumed
 * so much; else *runnable: still runnable, and the caller's. */
static __attribute__((noinline, cold)) bool suspended_turn(rr_worker_t *worker, rr_actor_t *actor, uint64_t *ended,
                                                           bool *runnable) {
    bool carries = actor->phase == RR__PHASE_NEW || (actor->bits & RR__CARRY);
    uint64_t consumed = atomic_load_explicit(&actor->control, memory_order_relaxed)
                            ? rr__handle_control(worker->system, actor)
                            : 0;
    if (actor->phase == RR__PHASE_ENDING) {
        if (actor->behavior->turn_begin)
            actor->behavior->turn_begin(actor, actor->state);
        *ended = consumed + carries;
        return false;
    }
    rr__flush_burst();
    check_single(actor, false);
    uint64_t word = atomic_fetch_sub_explicit(&actor->word, consumed, memory_order_acq_rel) - consumed;
    *runnable = rr__word_count(word) != 0 && !rr__lease_suspend(worker->system, actor);
    return true;
}

bool rr_worker_run(rr_worker_t *worker, rr_actor_t *actor) {
    uint64_t seq = atomic_load_explicit(&worker->turn_seq, memory_order_relaxed);
    atomic_store_explicit(&worker->turn_seq, seq + 1, memory_order_release);
    if (__builtin_expect(atomic_load_explicit(&worker->system->overseer.asleep, memory_order_relaxed), 0))
        rr__overseer_wake(worker->system);
    worker->current = actor;
    if (worker->executor->pinned) /* a loop may have slept since the last reading */
        worker->now_ns = rr_clock_now(&worker->system->clock);
    worker->cut = false;
    check_single(actor, true);
    bool runnable;
    uint64_t consumed = 0;
    if (__builtin_expect(actor->bits & (RR__CARRY | RR__GUEST | RR__LEASED), 0)) {
        if (!rr__may_run(worker->system, actor)) {
            if (suspended_turn(worker, actor, &consumed, &runnable))
                goto out;
            goto end;
        }
        consumed = actor->bits & RR__CARRY ? 1 : 0;
        actor->bits &= (uint8_t)~RR__CARRY;
        worker->turn_ns = !(actor->bits & RR__GUEST) ? 0 : worker->executor->pinned ? worker->now_ns : turn_begins(worker, actor);
    }
    if (actor->behavior->turn_begin)
        actor->behavior->turn_begin(actor, actor->state);
    if (__builtin_expect(actor->phase == RR__PHASE_NEW, 0)) {
        if (atomic_load_explicit(&actor->control, memory_order_relaxed))
            consumed += rr__handle_control(worker->system, actor);
        consumed += 1;
        if (actor->phase == RR__PHASE_NEW)
            first_turn(worker, actor);
        rr__flush_burst();
    }
    worker->burst.to = RR_NOBODY;
    worker->self_sent = false;
    consumed = run_messages(worker, actor, consumed);
end:
    runnable = end_turn(worker, actor, consumed);
out:
    worker->current = NULL;
    rr_count(&worker->turns, 1);
    atomic_store_explicit(&worker->turn_seq, seq + 2, memory_order_release);
    return runnable;
}
