#include "runtime/actor.h"

#include <assert.h>
#include <string.h>

#include "runtime/alloc.h"
#include "runtime/fence.h"
#include "runtime/overseer.h"
#include "runtime/pack.h"
#include "runtime/system.h"

#define DEFAULT_TURN_MESSAGES 256
#define DEFAULT_TURN_US 500
#define DEFAULT_CLOCK_EVERY 32
#define CLOCK_STEP_MAX 8     /* where one message may take long: looks at the clock are at most so many messages apart, */
#define CLOCK_STEP_NS 1000   /* and twice as far as before after messages that took less than this together */
#define GIVE_WAY_NS 10000    /* about what a read and a write of a socket take: less is not worth being sent by itself */
#define BURST_MAX 64 /* messages that are handed over at once */
#define AWAY_MAX 256 /* the same to another node, packed */
#define PROXY_PAUSE (RR_POLICY_PAUSE_SOURCE + 1) /* the policy of a proxy that pauses: in the header for who may not read the behavior */
#define PROXY_HARD 8 /* it refuses at so many times its limit of messages, at which its senders are paused */
#define PROXY_HARD_BYTES 32 /* the same of its bytes */
#define DELIVERY_MAX 1024 /* the same for what comes from another node: many at a time anyway */
#define GUEST_TURN_NS 2000000 /* about what a thread waits for another one of its CPU anyway */

_Thread_local rr_worker_t *rr__current;

static void flush_burst(void) {
    if (__builtin_expect(rr__current && rr__current->burst.first, 0))
        rr__burst_flush(rr__current);
}

rr__side_t *rr__actor_side(rr_actor_t *actor) {
    if (!actor->side) {
        actor->side = rr__calloc(1, sizeof *actor->side);
        if (actor->side)
            actor->side->call_timer_ns = UINT64_MAX;
    }
    return actor->side;
}

static rr_system_t *system_of(const rr_actor_t *actor) {
    return atomic_load_explicit(&((rr_actor_t *)actor)->executor, memory_order_relaxed)->system;
}

rr_system_t *rr_system_of(rr_actor_t *self) { return system_of(self); }
rr_executor_t *rr_executor_of(rr_actor_t *self) {
    return atomic_load_explicit(&self->executor, memory_order_relaxed);
}
rr_addr_t rr_self(const rr_actor_t *self) { return self->addr; }
void *rr_state(rr_actor_t *self) { return self->state; }
const char *rr_name(rr_actor_t *self) { return self->side && self->side->name_count ? self->side->names[0] : ""; }
void rr_trap_exits(rr_actor_t *self, bool on) { self->trap_exits = on; }
uint64_t rr_now_ns(rr_actor_t *self) { return rr_clock_now(&system_of(self)->clock); }
uint64_t rr_now_coarse_ns(rr_actor_t *self) { return rr__current ? rr__current->now_ns : rr_now_ns(self); }

void rr_exit(rr_actor_t *self, int reason) {
    if (self->phase == RR__PHASE_ENDING)
        return;
    self->phase = RR__PHASE_ENDING;
    self->reason = reason;
}

/* ---- Names ------------------------------------------------------------------------------------------------------ */

int rr_register(rr_actor_t *self, const char *name) {
    rr__side_t *side = rr__actor_side(self);
    if (!side)
        return RR_ENOMEM;
    char **names = rr__realloc(side->names, (side->name_count + 1) * sizeof *names);
    if (!names)
        return RR_ENOMEM;
    side->names = names;
    char *copy = rr__strdup(name);
    if (!copy)
        return RR_ENOMEM;
    int rc = rr__names_add(system_of(self), name, self->addr, self->bits & RR__LEASED);
    if (rc == RR_OK)
        names[side->name_count++] = copy;
    else
        rr__free(copy);
    return rc;
}

int rr_unregister(rr_actor_t *self, const char *name) {
    if (!rr__names_remove(system_of(self), name, self->addr))
        return RR_ENOENT;
    rr__side_t *side = self->side;
    for (uint32_t i = 0; i < side->name_count; i++)
        if (!strcmp(side->names[i], name)) {
            rr__free(side->names[i]);
            memmove(&side->names[i], &side->names[i + 1], (--side->name_count - i) * sizeof *side->names);
            break;
        }
    return RR_OK;
}

static void names_end(rr_actor_t *actor) {
    rr__side_t *side = actor->side;
    for (uint32_t i = 0; side && i < side->name_count; i++) {
        rr__names_remove(system_of(actor), side->names[i], actor->addr);
        rr__free(side->names[i]);
    }
    if (side) {
        rr__free(side->names);
        side->names = NULL;
        side->name_count = 0;
    }
}

/* ---- Spawning --------------------------------------------------------------------------------------------------- */

static int copy_arg(const rr_spawn_t *spec, const void **arg) {
    *arg = spec->arg;
    if (!spec->arg_size)
        return RR_OK;
    void *copy = rr__malloc(spec->arg_size);
    if (!copy)
        return RR_ENOMEM;
    memcpy(copy, spec->arg, spec->arg_size);
    *arg = copy;
    return RR_OK;
}

static void set_limits(rr_actor_t *actor, const rr_spawn_t *spec) {
    uint32_t count = spec->mailbox_messages ? spec->mailbox_messages : RR_MAILBOX_MESSAGES;
    uint32_t bytes = spec->mailbox_bytes ? spec->mailbox_bytes : RR_MAILBOX_BYTES;
    if (count > RR__COUNT_MASK / 4)
        count = RR__COUNT_MASK / 4;
    atomic_store_explicit(&actor->limit_count, count, memory_order_relaxed);
    /* A message counts at least one unit: a limit in bytes must not undercut the one in messages. */
    uint32_t units = bytes / RR_MAILBOX_UNIT > count ? bytes / RR_MAILBOX_UNIT : count;
    atomic_store_explicit(&actor->limit_units, units, memory_order_relaxed);
    unsigned policy = spec->policy == RR_POLICY_PAUSE_SOURCE && spec->behavior->proxy ? PROXY_PAUSE : spec->policy;
    atomic_store_explicit(&actor->policy, (uint8_t)policy, memory_order_relaxed);
}

/* Nobody where there are several CPUs, or nobody to be a guest of: then its turns need not be timed. */
static bool may_be_guest(const rr_spawn_t *spec, const rr_executor_t *executor) {
    const rr_system_t *system = executor->system;
    return system->cpus == 1 && (spec->guest || executor == system->core) &&
           atomic_load_explicit(&((rr_system_t *)system)->has_loops, memory_order_relaxed);
}

/* Everything but the address, the word and being found. */
static void init_header(rr_actor_t *actor, const rr_spawn_t *spec, rr_executor_t *executor) {
    atomic_store_explicit(&actor->stub, NULL, memory_order_relaxed);
    actor->tail = (rr_message_t *)(void *)&actor->stub;
    atomic_store_explicit(&actor->head, actor->tail, memory_order_relaxed);
    atomic_store_explicit(&actor->executor, executor, memory_order_relaxed);
    atomic_store_explicit(&actor->muted, 0, memory_order_relaxed);
    actor->trap_exits = spec->trap_exits;
    actor->run_next = NULL;
    actor->behavior = spec->behavior;
    actor->state = NULL;
    actor->side = NULL;
    actor->reason = RR_OK;
    actor->bits = (uint8_t)((may_be_guest(spec, executor) ? RR__GUEST : 0) | (spec->leased ? RR__LEASED : 0));
    actor->calm = 0;
    atomic_store_explicit(&actor->remote, 0, memory_order_relaxed);
    set_limits(actor, spec);
}

static int link_parent(rr_actor_t *parent, rr_actor_t *child) {
    int rc = rr__link_here(child, parent->addr);
    return rc == RR_OK ? rr__link_here(parent, child->addr) : rc;
}

/* The parts of an actor that need memory. All or nothing. */
static int equip(rr_actor_t *actor, rr_actor_t *parent, const rr_spawn_t *spec) {
    if (spec->behavior->state_size) {
        actor->state = rr__calloc(1, spec->behavior->state_size);
        if (!actor->state)
            return RR_ENOMEM;
    }
    int rc = copy_arg(spec, &actor->arg);
    if (rc != RR_OK)
        return rc;
    if (spec->arg_size)
        actor->bits |= RR__ARG_OWNED;
    if (parent && spec->link)
        rc = link_parent(parent, actor);
    return rc;
}

static void free_parts(rr_actor_t *actor) {
    if (actor->bits & RR__ARG_OWNED)
        rr__free((void *)actor->arg);
    rr__free(actor->state);
    if (actor->side) {
        rr__list_clear(&actor->side->watchers);
        rr__list_clear(&actor->side->links);
        rr__list_clear(&actor->side->muted);
        rr__free(actor->side);
    }
    actor->state = NULL;
    actor->side = NULL;
    actor->bits = 0;
}

static rr_executor_t *executor_for(rr_system_t *system, rr_actor_t *parent, const rr_spawn_t *spec) {
    if (spec->executor)
        return spec->executor;
    return parent ? rr_executor_of(parent) : system->core;
}

int rr__spawn(rr_system_t *system, rr_actor_t *parent, const rr_spawn_t *spec, rr_addr_t *out) {
    if (!spec->behavior || !spec->behavior->receive)
        return RR_EINVAL;
    flush_burst();
    rr__directory_cache_t *cache = rr__my_pool(system) ? &rr__current->cache : NULL;
    rr_actor_t *actor;
    rr_addr_t addr;
    int rc = rr__directory_claim(&system->directory, cache, &actor, &addr);
    if (rc != RR_OK)
        return rc;
    init_header(actor, spec, executor_for(system, parent, spec));
    actor->addr = addr;
    rc = equip(actor, parent, spec);
    if (rc != RR_OK)
        goto fail;
    uint64_t serial = rr__census_spawned(system);
    /* A drain ends the newest first, and those that others speak through last. */
    atomic_store_explicit(&actor->serial, spec->behavior->proxy ? 0 : serial, memory_order_relaxed);
    actor->phase = RR__PHASE_NEW;
    atomic_store_explicit(&actor->word, 1, memory_order_release); /* the first turn itself counts one */
    rr__directory_publish(&system->directory, actor);
    /* Named last: who finds the name must find the actor. A failure then ends it as an actor that never started. */
    if (spec->name && (rc = rr_register(actor, spec->name)) != RR_OK)
        goto unpublish;
    if (out)
        *out = addr;
    rr__post(actor);
    return RR_OK;
unpublish:
    if (parent && spec->link) {
        rr__unlink_here(parent, addr);
        rr__unlink_here(actor, parent->addr);
    }
    rr__directory_withdraw(&system->directory, addr);
    if (!(actor->bits & RR__ARG_OWNED))
        actor->arg = NULL; /* still its owner's, who learns that nothing was spawned */
    rr__abandon(system, actor);
    return rc;
fail:
    if (parent && spec->link)
        rr__unlink_here(parent, addr);
    free_parts(actor);
    rr__directory_release(&system->directory, cache, actor, addr);
    return rc;
}

int rr_spawn(rr_actor_t *self, const rr_spawn_t *spec, rr_addr_t *out) {
    return rr__spawn(system_of(self), self, spec, out);
}

int rr_system_spawn(rr_system_t *system, const rr_spawn_t *spec, rr_addr_t *out) {
    if (atomic_load_explicit(&system->draining, memory_order_relaxed))
        return RR_ESTOPPING;
    return rr__spawn(system, NULL, spec, out);
}

/* ---- Delivering ------------------------------------------------------------------------------------------------- */

void rr__undeliverable(rr_system_t *system, const rr_message_t *msg, int reason) {
    switch (msg->kind) {
    case RR_CALL:
        if (rr__reply_code(system, msg->from, msg->request, reason) != RR_OK)
            rr__dead_letter(system, msg, reason);
        break;
    case RR_SEND:
        rr__dead_letter(system, msg, reason);
        break;
    case RR_REPLY:
        rr_count_shared(&system->late_replies, 1);
        break;
    case RR__MONITOR:
    case RR__LINK:
        rr__relation_refused(system, msg, reason == RR_DIED ? RR_NOROUTE : reason);
        break;
    default: /* fired timers, downs and exits of those who are no more */
        break;
    }
}

/* Each of those in a pack that were not taken out yet. Returns what they weigh. */
static uint64_t refuse_pack(rr_system_t *system, rr_message_t *pack, int reason) {
    uint64_t weight = 0;
    while (!rr__pack_empty(pack)) {
        rr_envelope_t env = rr__pack_take(pack);
        weight += env.weight;
        rr_envelope_refuse(system, &env, reason);
    }
    return weight;
}

static int fail(rr_system_t *system, rr_message_t *msg, int reason) {
    bool call = msg->kind == RR_CALL;
    if (call || reason == RR_NOROUTE || reason == RR_STALE)
        rr__undeliverable(system, msg, reason);
    rr__message_free(system, rr__my_pool(system), msg);
    return call ? RR_OK : reason;
}

static bool over_limit(const rr_actor_t *actor, uint64_t word, unsigned times) {
    return rr__word_count(word) >= (uint64_t)times * atomic_load_explicit(&actor->limit_count, memory_order_relaxed) ||
           rr__word_units(word) >= (uint64_t)times * atomic_load_explicit(&actor->limit_units, memory_order_relaxed);
}

/* So that what waits there stays in the cache, a proxy pauses its senders early, and refuses no earlier for it. */
static bool proxy_is_full(const rr_actor_t *to, uint64_t word) {
    return rr__word_count(word) >= PROXY_HARD * (uint64_t)atomic_load_explicit(&to->limit_count, memory_order_relaxed) ||
           rr__word_units(word) >= PROXY_HARD_BYTES * (uint64_t)atomic_load_explicit(&to->limit_units, memory_order_relaxed);
}

/* Whom a message for `to` is queued at. Not read from that one's header: it may have died, and be another one by now. */
static rr_addr_t waited_for(rr_system_t *system, rr_addr_t to) {
    return rr_addr_node(to) == system->node ? to : rr_route(system, rr_addr_node(to));
}

/* The receiver is over its limit. RR_OK = deliver all the same; RR_EFULL; RR_CANCELLED = drop and say nothing. */
static int apply_policy(rr_actor_t *to, uint64_t word, rr_actor_t *sender, const rr_message_t *msg) {
    unsigned policy = atomic_load_explicit(&to->policy, memory_order_relaxed);
    switch (policy) {
    case RR_POLICY_DROP_NEWEST:
        return msg->kind == RR_CALL ? RR_EFULL : RR_CANCELLED;
    case RR_POLICY_DROP_OLDEST:
        return over_limit(to, word, 2) ? RR_EFULL : RR_OK;
    case RR_POLICY_PAUSE_SOURCE:
    case PROXY_PAUSE:
        if (policy == PROXY_PAUSE ? proxy_is_full(to, word) : over_limit(to, word, 2))
            return RR_EFULL;
        if (sender && sender != to && !rr_executor_of(sender)->pinned && rr__actor_side(sender))
            sender->side->mute_on = waited_for(system_of(sender), msg->to);
        return RR_OK;
    default:
        return RR_EFULL;
    }
}

static int refuse(rr_system_t *system, rr_message_t *msg, int rc) {
    rr_count_shared(&system->refused, 1);
    if (rc == RR_EFULL)
        return fail(system, msg, msg->kind == RR_CALL ? RR_OVERLOAD : RR_EFULL);
    rr__message_free(system, rr__my_pool(system), msg);
    return RR_OK;
}

static inline int deliver_to(rr_system_t *system, rr_actor_t *to, rr_actor_t *sender, rr_message_t *msg) {
    uint64_t word = atomic_load_explicit(&to->word, memory_order_relaxed);
    if (__builtin_expect(over_limit(to, word, 1), 0) && !(msg->flags & RR__UNSHEDDABLE)) {
        int rc = apply_policy(to, word, sender, msg);
        if (rc != RR_OK)
            return refuse(system, msg, rc);
    }
    uint64_t add = msg->weight + rr__message_units(msg) * RR__UNIT;
    word = atomic_fetch_add_explicit(&to->word, add, memory_order_acq_rel);
    if (__builtin_expect((word & RR__DEAD) != 0, 0))
        return fail(system, msg, RR_NOROUTE);
    rr_message_t *previous = atomic_exchange_explicit(&to->head, msg, memory_order_acq_rel);
    atomic_store_explicit(&previous->next, msg, memory_order_release);
    if (!rr__word_count(word))
        rr__post(to);
    return RR_OK;
}

/* To another node's actor, or to nobody. Apart, so that the ordinary way keeps its registers. */
static __attribute__((noinline)) int deliver_elsewhere(rr_system_t *system, rr_actor_t *sender, rr_message_t *msg) {
    rr_actor_t *to = rr__proxy_for(system, msg->to);
    if (!to)
        return fail(system, msg, RR_NOROUTE);
    if (rr__fence_stale(system, msg->to))
        return fail(system, msg, RR_STALE);
    if (rr__remote_paused(system, msg->to) && !(msg->flags & RR__UNSHEDDABLE))
        return refuse(system, msg, RR_EFULL);
    return deliver_to(system, to, sender, msg);
}

int rr__deliver(rr_system_t *system, rr_actor_t *sender, rr_message_t *msg) {
    flush_burst();
    rr_actor_t *to = rr__directory_find(&system->directory, msg->to);
    if (__builtin_expect(!to, 0))
        return deliver_elsewhere(system, sender, msg);
    return deliver_to(system, to, sender, msg);
}

/* Behind a row of `count`, up to `last`: into the pack that stands there, a new one, or as a message. False: out of memory. */
static inline bool append_packed(rr_system_t *system, unsigned count, rr_message_t **last, const rr_envelope_t *env) {
    bool packs = rr__packable(env, count), behind = packs && (*last)->kind == RR__PACK;
    if (behind && rr__pack_put(*last, env))
        return true;
    rr_message_t *msg = packs ? rr__pack_new(rr__my_pool(system), env->to, behind || env->size > RR__PACKED_SMALL)
                              : rr__message_of(system, env);
    if (!msg)
        return false;
    if (packs)
        (void)rr__pack_put(msg, env); /* fits an empty one */
    if (count)
        atomic_store_explicit(&(*last)->next, msg, memory_order_relaxed);
    *last = msg;
    return true;
}

static inline bool may_come_from_outside(const rr_system_t *system, const rr_envelope_t *env) {
    enum { KINDS = 1u << RR_SEND | 1u << RR_CALL | 1u << RR_REPLY | 1u << RR_DOWN | 1u << RR_EXIT | 1u << RR_KIND_MONITOR |
                   1u << RR_KIND_DEMONITOR | 1u << RR_KIND_LINK | 1u << RR_KIND_UNLINK | 1u << RR_KIND_ANNOUNCE };
    return env->kind < 32 && (KINDS >> env->kind & 1) && env->weight >= 1 && rr_addr_node(env->to) == system->node &&
           rr_addr_node(env->from) != system->node;
}

int rr_delivery_add(rr_delivery_t *d, const rr_envelope_t *env, bool *filling) {
    *filling = false;
    if (__builtin_expect(!may_come_from_outside(d->system, env), 0))
        return RR_EPROTO;
    if (__builtin_expect(env->kind == RR_KIND_ANNOUNCE || rr__fence_any(d->system->fence), 0)) {
        int fenced = rr__fence_check(d->system, env);
        if (fenced != RR_OK)
            return fenced == RR_CANCELLED ? RR_OK : fenced;
    }
    if (d->first && (d->to != env->to || d->count == DELIVERY_MAX))
        rr_delivery_flush(d);
    if (!d->first) {
        flush_burst();
        d->actor = rr__directory_find(&d->system->directory, env->to);
        if (!d->actor)
            return RR_NOROUTE;
        d->to = env->to;
        d->add = d->count = 0;
    }
    rr_actor_t *to = d->actor;
    uint64_t word = atomic_load_explicit(&to->word, memory_order_relaxed) + d->add;
    unsigned times = atomic_load_explicit(&to->policy, memory_order_relaxed) == RR_POLICY_FAIL ? 1 : 2;
    if (over_limit(to, word, times) && !(env->flags & RR__UNSHEDDABLE)) {
        rr_count_shared(&d->system->refused, 1);
        return RR_EFULL;
    }
    if (!append_packed(d->system, d->first ? d->count : 0, &d->last, env))
        return RR_ENOMEM;
    if (!d->first)
        d->first = d->last;
    uint64_t add = rr__envelope_counts(env, RR__UNIT);
    *filling = over_limit(to, 2 * rr__word_count(word + add) + 2 * rr__word_units(word + add) * RR__UNIT, 1);
    d->add += add;
    d->count++;
    return RR_OK;
}

/* How much more of a limit may be used before a mailbox counts as filling, see rr_delivery_add. */
static uint64_t before_filling(uint64_t used, uint32_t limit) {
    return 2 * used < limit ? (limit - 2 * used - 1) / 2 : 0;
}

bool rr_delivery_row(rr_delivery_t *d, const rr_envelope_t *before, rr_row_t *row) {
    rr_message_t *pack = d->last;
    if (!d->first || d->to != before->to || pack->kind != RR__PACK || pack->size_class != RR__BIG_CLASS ||
        d->count >= DELIVERY_MAX || rr__fence_any(d->system->fence))
        return false;
    uint64_t word = atomic_load_explicit(&d->actor->word, memory_order_relaxed) + d->add;
    uint64_t left = before_filling(rr__word_count(word), atomic_load_explicit(&d->actor->limit_count, memory_order_relaxed));
    *row = (rr_row_t){.at = rr__pack_bytes(pack) + pack->size,
                      .end = rr__pack_bytes(pack) + RR__BIG_MAX,
                      .left = left < DELIVERY_MAX - d->count ? (unsigned)left : DELIVERY_MAX - d->count,
                      .units = before_filling(rr__word_units(word),
                                              atomic_load_explicit(&d->actor->limit_units, memory_order_relaxed)),
                      .head = {.from = before->from,
                               .type = before->type,
                               .weight = 1,
                               .kind = before->kind,
                               .flags = before->flags}};
    return true;
}

void rr_delivery_row_end(rr_delivery_t *d, rr_row_t *row) {
    d->last->size = (uint32_t)(row->at - rr__pack_bytes(d->last));
    d->count += row->count;
    d->add += row->count + row->used * RR__UNIT;
}

static void delivery_failed(rr_delivery_t *d, rr_message_t *msg) {
    for (rr_message_t *next; msg; msg = next) {
        next = atomic_load_explicit(&msg->next, memory_order_relaxed);
        rr_envelope_t env;
        if (msg->kind == RR__PACK) {
            while (!rr__pack_empty(msg)) {
                env = rr__pack_take(msg);
                d->undelivered(d->context, &env, RR_NOROUTE);
            }
        } else {
            env = rr__envelope(msg);
            d->undelivered(d->context, &env, RR_NOROUTE);
        }
        rr__message_free(d->system, rr__my_pool(d->system), msg);
    }
}

void rr_delivery_flush(rr_delivery_t *d) {
    rr_message_t *first = d->first;
    d->first = NULL;
    if (!first)
        return;
    uint64_t word = atomic_fetch_add_explicit(&d->actor->word, d->add, memory_order_acq_rel);
    if (__builtin_expect((word & RR__DEAD) != 0, 0)) {
        delivery_failed(d, first);
        return;
    }
    rr_message_t *previous = atomic_exchange_explicit(&d->actor->head, d->last, memory_order_acq_rel);
    atomic_store_explicit(&previous->next, first, memory_order_release);
    if (!rr__word_count(word))
        rr__post(d->actor);
}

/* ---- Bursts ----------------------------------------------------------------------------------------------------- */

#define BURST_DEEP 4096 /* as many of the smallest messages are a quarter of a megabyte */

void rr__burst_flush(rr_worker_t *worker) {
    rr__burst_t *burst = &worker->burst;
    rr_message_t *first = burst->first;
    rr_actor_t *to = burst->actor;
    burst->first = NULL; /* before anything that might send */
    uint64_t word = atomic_fetch_add_explicit(&to->word, burst->add, memory_order_acq_rel);
    if (__builtin_expect((word & RR__DEAD) != 0, 0)) {
        for (rr_message_t *msg = first, *next; msg; msg = next) {
            next = atomic_load_explicit(&msg->next, memory_order_relaxed);
            if (msg->kind == RR__PACK)
                (void)refuse_pack(worker->system, msg, RR_NOROUTE);
            (void)fail(worker->system, msg, RR_NOROUTE); /* a dead letter: its sender has gone on */
        }
        return;
    }
    rr_message_t *previous = atomic_exchange_explicit(&to->head, burst->last, memory_order_acq_rel);
    atomic_store_explicit(&previous->next, first, memory_order_release);
    if (!rr__word_count(word))
        rr__post(to);
}

/* Behind a long queue messages have left the cache when their turn comes, and each says where the next one is only when it
 * has been read. So one that goes eight before this one says where this one is. Both are still the burst's own. */
static void announce(rr__burst_t *burst, rr_message_t *msg) {
    rr_message_t **place = &burst->recent[burst->count % RR__ANNOUNCED];
    if (burst->count >= RR__ANNOUNCED && (*place)->kind == RR_SEND) {
        (*place)->request = (uint64_t)(uintptr_t)msg;
        (*place)->flags |= RR__ANNOUNCES;
    }
    *place = msg;
}

static inline bool burst_fits(rr__burst_t *burst, rr_actor_t *sender, const rr_message_t *msg) {
    uint64_t word = atomic_load_explicit(&burst->actor->word, memory_order_relaxed);
    if (!burst->first)
        burst->deep = rr__word_count(word) >= BURST_DEEP && !burst->away;
    return __builtin_expect(!over_limit(burst->actor, word + burst->add, 1), 1) ||
           (!(msg->flags & RR__UNSHEDDABLE) && apply_policy(burst->actor, word + burst->add, sender, msg) == RR_OK);
}

static inline void burst_count(rr_worker_t *worker, uint64_t add, unsigned max) {
    worker->burst.add += add;
    if (++worker->burst.count >= max)
        rr__burst_flush(worker);
}

static inline bool burst_link(rr_worker_t *worker, rr_actor_t *sender, rr_message_t *msg) {
    rr__burst_t *burst = &worker->burst;
    if (!burst_fits(burst, sender, msg))
        return false;
    if (burst->first)
        atomic_store_explicit(&burst->last->next, msg, memory_order_relaxed);
    else
        burst->first = msg;
    burst->last = msg;
    if (__builtin_expect(burst->deep, 0))
        announce(burst, msg);
    burst_count(worker, msg->weight + rr__message_units(msg) * RR__UNIT, BURST_MAX);
    return true;
}

/* One more to another node: a copy goes into a pack, and the message, still in the cache, back to its pool. */
static __attribute__((noinline)) bool burst_pack(rr_worker_t *worker, rr_actor_t *sender, rr_message_t *msg) {
    rr__burst_t *burst = &worker->burst;
    rr_envelope_t env = rr__envelope(msg);
    if (!rr__packable(&env, burst->count))
        return burst_link(worker, sender, msg);
    if (!burst_fits(burst, sender, msg) || !append_packed(worker->system, burst->count, &burst->last, &env))
        return false;
    burst_count(worker, rr__envelope_counts(&env, RR__UNIT), AWAY_MAX);
    rr__message_free(worker->system, worker->pool, msg);
    return true;
}

/* One that begins a pack, or cannot go into one. False: it needs a message, or the ordinary way. */
static __attribute__((noinline)) bool burst_pack_first(rr_worker_t *worker, const rr_envelope_t *env) {
    rr__burst_t *burst = &worker->burst;
    if (!rr__packable(env, burst->count) || !append_packed(worker->system, burst->count, &burst->last, env))
        return false;
    burst_count(worker, rr__envelope_counts(env, RR__UNIT), AWAY_MAX);
    return true;
}

/* Over its limit a proxy still takes what the sender's turn sends: the sender is paused behind that. */
static inline bool takes_more(rr_actor_t *proxy, uint64_t word, rr_actor_t *sender, rr_addr_t to) {
    if (__builtin_expect(!over_limit(proxy, word, 1), 1))
        return true;
    rr_message_t msg = {.to = to, .kind = RR_SEND};
    return apply_policy(proxy, word, sender, &msg) == RR_OK;
}

/* The same without a message. False: it needs one, or the ordinary way. */
static inline bool burst_pack_bytes(rr_worker_t *worker, rr_actor_t *self, rr_addr_t to, uint32_t type, const void *data,
                                    size_t size) {
    rr__burst_t *burst = &worker->burst;
    if (!burst->first || !burst->away || burst->to != to || worker->current != self || size > RR__PACKED_MAX)
        return false;
    uint64_t word = atomic_load_explicit(&burst->actor->word, memory_order_relaxed);
    if (!takes_more(burst->actor, word + burst->add, self, to))
        return false;
    rr_message_t *pack = burst->last;
    bool fits = size <= RR__PACKED_SMALL || burst->count >= RR__PACKED_ROW;
    rr_packed_t *item = fits && pack->kind == RR__PACK ? rr__pack_room(pack, (uint32_t)size) : NULL;
    if (!item)
        return burst_pack_first(worker, &(rr_envelope_t){.to = to,
                                                         .from = self->addr,
                                                         .type = type,
                                                         .size = (uint32_t)size,
                                                         .weight = 1,
                                                         .kind = RR_SEND,
                                                         .data = data});
    rr_packed_set(item, self->addr, 0, type, (uint32_t)size, 1, RR_SEND, 0);
    rr__pack_add(pack, item, data, (uint32_t)size);
    burst_count(worker, 1 + ((size >> 6) + 1) * RR__UNIT, AWAY_MAX);
    return true;
}

/* Begins one to another node's actor, as deliver_elsewhere. (64 at most go on if it is paused just now.) */
static __attribute__((noinline)) bool burst_elsewhere(rr_worker_t *worker, rr_actor_t *sender, rr_message_t *msg) {
    if (!rr__remote_paused(worker->system, msg->to) && !rr__fence_stale(worker->system, msg->to))
        worker->burst.actor = rr__proxy_for(worker->system, msg->to);
    worker->burst.away = true;
    return worker->burst.actor && burst_link(worker, sender, msg);
}

/* False: it has to go the ordinary way. */
static bool burst_append(rr_worker_t *worker, rr_actor_t *sender, rr_message_t *msg) {
    rr__burst_t *burst = &worker->burst;
    if (!burst->first) {
        burst->actor = rr__directory_find(&worker->system->directory, msg->to);
        burst->add = 0;
        burst->count = 0;
        burst->away = false;
        if (__builtin_expect(!burst->actor, 0))
            return burst_elsewhere(worker, sender, msg);
    } else if (__builtin_expect(burst->away, 0)) {
        return burst_pack(worker, sender, msg);
    }
    return burst_link(worker, sender, msg);
}

/* ---- The control lane ------------------------------------------------------------------------------------------- */

bool rr__control_send(rr_system_t *system, rr_addr_t to, rr_addr_t from, int op, int reason) {
    flush_burst();
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

static bool may_run(rr_system_t *system, const rr_actor_t *actor) {
    return !(actor->bits & RR__LEASED) || rr__lease_allows(system, actor);
}

static void on_drain(rr_system_t *system, rr_actor_t *actor) {
    actor->bits |= RR__DRAINING;
    if (!may_run(system, actor))
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
    if (may_run(system, actor)) {
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
        on_drain(system, actor);
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
static uint64_t handle_control(rr_system_t *system, rr_actor_t *actor) {
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

static void resume_senders(rr_system_t *system, rr_actor_t *actor, uint64_t word) {
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
static bool mute(rr_system_t *system, rr_actor_t *actor, uint64_t consumed, bool *runnable) {
    rr_addr_t target = actor->side->mute_on, self = actor->addr;
    actor->side->mute_on = RR_NOBODY;
    uint64_t word = atomic_load_explicit(&actor->word, memory_order_relaxed);
    rr_actor_t *to = rr__directory_find(&system->directory, target);
    if (!to || !over_limit(to, atomic_load_explicit(&to->word, memory_order_relaxed), 1) ||
        over_limit(actor, word - consumed, 1) || actor->side->muted.count || !rr__word_count(consumed))
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
    assert(rr_executor_of(self)->pinned || system_of(self)->replay);
    self->bits |= RR__HELD;
}

void rr_unhold(rr_actor_t *self) {
    self->bits &= (uint8_t)~RR__HELD;
    if (atomic_load(&self->muted) && atomic_exchange(&self->muted, 0))
        rr__post(self);
}

/* The end of a held actor's turn: as a muted one it keeps a count, so that nobody posts it but rr_unhold and the control
 * lane. False: the control lane has come already, and it is still runnable. */
static bool rest(rr_actor_t *actor, uint64_t consumed) {
    actor->bits |= RR__CARRY;
    atomic_fetch_sub_explicit(&actor->word, consumed - 1, memory_order_acq_rel);
    atomic_store(&actor->muted, 1);
    return !(atomic_load(&actor->control) && atomic_exchange(&actor->muted, 0));
}

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

/* A pack that the last turn has left in the middle: it is still the dummy. */
static rr_message_t *begun_pack(rr_actor_t *actor) {
    rr_message_t *tail = actor->tail;
    bool pack = (void *)tail != (void *)&actor->stub && tail->kind == RR__PACK;
    return pack && !rr__pack_empty(tail) ? tail : NULL;
}

/* Ends everything that was counted before DEAD was set: messages may still be on their way into the queue. */
static void drain_mailbox(rr_system_t *system, rr_actor_t *actor, uint64_t left) {
    /* Who lost its name has surely not handled them. */
    int reason = actor->reason == RR_STALE ? RR_STALE : RR_DIED;
    rr_message_t *begun = begun_pack(actor);
    if (begun)
        left -= refuse_pack(system, begun, begun->to == actor->addr ? reason : RR_NOROUTE);
    while (left) {
        rr_message_t *msg = pop(system, rr__my_pool(system), actor);
        if (msg && msg->kind == RR__PACK) {
            left -= refuse_pack(system, msg, msg->to == actor->addr ? reason : RR_NOROUTE);
        } else if (msg) {
            left -= msg->weight;
            rr__undeliverable(system, msg, msg->to == actor->addr ? reason : RR_NOROUTE);
            rr__message_drop_payload(msg);
        } else if (atomic_load_explicit(&actor->control, memory_order_relaxed)) {
            left -= handle_control(system, actor);
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
    names_end(actor);
    rr__directory_withdraw(&system->directory, addr);
    uint64_t word = atomic_fetch_or_explicit(&actor->word, RR__DEAD, memory_order_acq_rel);
    drain_mailbox(system, actor, rr__word_count(word) - rr__word_count(consumed));
    if (actor->side) {
        rr__calls_end(actor);
        rr__timers_end(actor);
        rr__relations_end(actor, reason);
        resume_senders(system, actor, 0);
    }
    if (actor->arg && !(actor->bits & RR__ARG_OWNED) && actor->behavior->unstarted)
        actor->behavior->unstarted(actor->arg); /* the first turn would have cleared it */
    free_parts(actor);
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
    flush_burst();
    bury(system, actor, consumed);
}

/* ---- A turn ----------------------------------------------------------------------------------------------------- */

static bool shed(rr_actor_t *actor, const rr_message_t *msg, uint64_t consumed) {
    if (atomic_load_explicit(&actor->policy, memory_order_relaxed) != RR_POLICY_DROP_OLDEST ||
        (msg->flags & RR__UNSHEDDABLE))
        return false;
    return over_limit(actor, atomic_load_explicit(&actor->word, memory_order_relaxed) - consumed, 1);
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

/* The next one of a pack; a proxy's several. Returns what it counts. */
static uint64_t dispatch_packed(rr_worker_t *worker, rr_actor_t *actor, rr_message_t *pack, uint64_t consumed,
                                unsigned *taken) {
    if (actor->behavior->forward && is_passed_on(worker, actor, pack->to))
        return forward_packed(actor, pack, taken);
    const rr_packed_t *item = rr__pack_next(pack);
    uint64_t counts = rr__packed_counts(item, RR__UNIT);
    rr_message_t *msg = unpack(worker, pack, item);
    if (msg) {
        msg->flags |= RR__QUEUED; /* taken and answered within its handler, it is still freed here */
        dispatch(worker, actor, msg, consumed + counts);
        msg->flags &= (uint8_t)~RR__QUEUED;
        if (!(msg->flags & RR__TAKEN))
            rr__message_free_fast(worker->system, worker->pool, msg);
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
        on_drain(system_of(actor), actor); /* it was asked to before it began */
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
            consumed += handle_control(worker->system, actor);
        if (__builtin_expect(actor->phase == RR__PHASE_ENDING || (actor->bits & RR__HELD), 0))
            break;
        rr_message_t *msg = pack ? pack : pop(worker->system, worker->pool, actor);
        unsigned taken = 1;
        if (!msg)
            break;
        if (__builtin_expect(msg->kind == RR__PACK, 0)) {
            if (msg != pack)
                rr__pack_fetch_next(msg);
            consumed += dispatch_packed(worker, actor, msg, consumed, &taken);
            pack = rr__pack_empty(msg) ? NULL : msg;
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
            flush_burst(); /* nobody waits for longer than until the next look, nor for a message that may take long */
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
    flush_burst(); /* a message to itself must be counted before drained() looks */
    drained(actor, consumed);
    if (__builtin_expect(actor->phase == RR__PHASE_ENDING, 0))
        last_words(actor);
    if (actor->behavior->turn_end)
        actor->behavior->turn_end(actor, actor->state);
    flush_burst();
    check_single(actor, false);
    if (__builtin_expect(actor->phase == RR__PHASE_ENDING, 0)) {
        last_words(actor); /* turn_end itself may have asked for the end */
        flush_burst();
        bury(worker->system, actor, consumed);
        return false;
    }
    if (__builtin_expect(actor->side != NULL, 0)) {
        bool runnable = false;
        if (actor->side->mute_on && mute(worker->system, actor, consumed, &runnable))
            return runnable;
        if (actor->side->muted.count) {
            uint64_t word = atomic_load_explicit(&actor->word, memory_order_relaxed);
            resume_senders(worker->system, actor, word - consumed);
        }
    }
    if (__builtin_expect((actor->bits & RR__GUEST) && worker->turn_ns, 0))
        note_length(worker, actor);
    if (__builtin_expect(actor->bits & RR__HELD, 0))
        return !rest(actor, consumed);
    uint64_t word = atomic_fetch_sub_explicit(&actor->word, consumed, memory_order_acq_rel) - consumed;
    return rr__word_count(word) != 0;
}

/* What stands for a turn while there is no lease: the control lane only. False: it shall end, in a turn that has consumed
 * so much; else *runnable: still runnable, and the caller's. */
static __attribute__((noinline, cold)) bool suspended_turn(rr_worker_t *worker, rr_actor_t *actor, uint64_t *ended,
                                                           bool *runnable) {
    bool carries = actor->phase == RR__PHASE_NEW || (actor->bits & RR__CARRY);
    uint64_t consumed = atomic_load_explicit(&actor->control, memory_order_relaxed)
                            ? handle_control(worker->system, actor)
                            : 0;
    if (actor->phase == RR__PHASE_ENDING) {
        if (actor->behavior->turn_begin)
            actor->behavior->turn_begin(actor, actor->state);
        *ended = consumed + carries;
        return false;
    }
    flush_burst();
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
        if (!may_run(worker->system, actor)) {
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
            consumed += handle_control(worker->system, actor);
        consumed += 1;
        if (actor->phase == RR__PHASE_NEW)
            first_turn(worker, actor);
        flush_burst();
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

/* ---- Sending ---------------------------------------------------------------------------------------------------- */

static int send_message(rr_system_t *system, rr_actor_t *self, rr_message_t *msg, rr_addr_t to, uint32_t type) {
    if (!msg)
        return RR_ENOMEM;
    msg->to = to;
    msg->type = type;
    if (self) {
        msg->from = self->addr;
        rr__burst_t *burst = &rr__current->burst;
        if (to == self->addr)
            rr__current->self_sent = true;
        if (rr__current->current == self) { /* else between turns, on its loop: nothing would flush it */
            if (burst->to == to && burst_append(rr__current, self, msg))
                return RR_OK;
            burst->to = to;
        }
    }
    return rr__deliver(system, self, msg);
}

#define TOO_BIG (1ull << 30)

int rr_send(rr_actor_t *self, rr_addr_t to, uint32_t type, const void *data, size_t size) {
    if (__builtin_expect(rr__current->burst.away, 0) && burst_pack_bytes(rr__current, self, to, type, data, size))
        return RR_OK;
    if (size > TOO_BIG)
        return RR_ETOOBIG;
    return send_message(system_of(self), self, rr__message_copy_fast(rr__current->pool, data, size), to, type);
}

int rr_system_send(rr_system_t *system, rr_addr_t to, uint32_t type, const void *data, size_t size) {
    if (size > TOO_BIG)
        return RR_ETOOBIG;
    return send_message(system, NULL, rr__message_copy(rr__my_pool(system), data, size), to, type);
}

static int send_wrapped(rr_system_t *system, rr_actor_t *self, rr_addr_t to, uint32_t type, rr_buffer_t *buffer,
                        unsigned weight, uint8_t flags) {
    bool weight_ok = weight >= 1 && weight <= UINT16_MAX;
    if (!weight_ok || rr_buffer_size(buffer) > TOO_BIG) {
        rr_buffer_unref(buffer);
        return weight_ok ? RR_ETOOBIG : RR_EINVAL;
    }
    rr_message_t *msg = rr__message_wrap(rr__my_pool(system), buffer);
    if (msg) {
        msg->weight = (uint16_t)weight;
        msg->flags |= flags;
    }
    return send_message(system, self, msg, to, type);
}

int rr_send_buffer(rr_actor_t *self, rr_addr_t to, uint32_t type, rr_buffer_t *buffer) {
    return send_wrapped(system_of(self), self, to, type, buffer, 1, 0);
}

int rr_send_batch(rr_actor_t *self, rr_addr_t to, uint32_t type, rr_buffer_t *buffer, unsigned weight) {
    return send_wrapped(system_of(self), self, to, type, buffer, weight, 0);
}

int rr_send_unsheddable(rr_actor_t *self, rr_addr_t to, uint32_t type, rr_buffer_t *buffer, unsigned weight) {
    return send_wrapped(system_of(self), self, to, type, buffer, weight, RR__UNSHEDDABLE);
}

int rr_system_send_buffer(rr_system_t *system, rr_addr_t to, uint32_t type, rr_buffer_t *buffer) {
    return send_wrapped(system, NULL, to, type, buffer, 1, 0);
}
