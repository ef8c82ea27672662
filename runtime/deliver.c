/* deliver.c: a message on its way into a mailbox: from a handler, in bursts, from outside and from other nodes; and what becomes of
 * one that cannot be delivered. */
#include "runtime/actor.h"

#include "runtime/fence.h"
#include "runtime/sheet.h"
#include "runtime/system.h"

#define BURST_MAX 64 /* messages that are handed over at once */
#define AWAY_MAX 256 /* the same to another node, packed */
#define PROXY_HARD 8 /* it refuses at so many times its limit of messages, at which its senders are paused */
#define PROXY_HARD_BYTES 32 /* the same of its bytes */
#define DELIVERY_MAX 1024 /* the same for what comes from another node: many at a time anyway */

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

/* Each of those in a pack or a sheet that were not taken out yet. Returns what they weigh. */
uint64_t rr__refuse_pack(rr_system_t *system, rr_message_t *pack, int reason) {
    uint64_t weight = 0;
    while (rr__packed_left(pack)) {
        rr_envelope_t env = rr__packed_take(pack);
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
        return rr__over_limit(to, word, 2) ? RR_EFULL : RR_OK;
    case RR_POLICY_PAUSE_SOURCE:
    case RR__PROXY_PAUSE:
        if (policy == RR__PROXY_PAUSE ? proxy_is_full(to, word) : rr__over_limit(to, word, 2))
            return RR_EFULL;
        if (sender && sender != to && !rr_executor_of(sender)->pinned && rr__actor_side(sender))
            sender->side->mute_on = waited_for(rr__system_of(sender), msg->to);
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
    if (__builtin_expect(rr__over_limit(to, word, 1), 0) && !(msg->flags & RR__UNSHEDDABLE)) {
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
    rr__flush_burst();
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
        rr__flush_burst();
        d->actor = rr__directory_find(&d->system->directory, env->to);
        if (!d->actor)
            return RR_NOROUTE;
        d->to = env->to;
        d->add = d->count = 0;
    }
    rr_actor_t *to = d->actor;
    uint64_t word = atomic_load_explicit(&to->word, memory_order_relaxed) + d->add;
    unsigned times = atomic_load_explicit(&to->policy, memory_order_relaxed) == RR_POLICY_FAIL ? 1 : 2;
    if (rr__over_limit(to, word, times) && !(env->flags & RR__UNSHEDDABLE)) {
        rr_count_shared(&d->system->refused, 1);
        return RR_EFULL;
    }
    if (!append_packed(d->system, d->first ? d->count : 0, &d->last, env))
        return RR_ENOMEM;
    if (!d->first)
        d->first = d->last;
    uint64_t add = rr__envelope_counts(env, RR__UNIT);
    *filling = rr__over_limit(to, 2 * rr__word_count(word + add) + 2 * rr__word_units(word + add) * RR__UNIT, 1);
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
            if (rr__is_packed(msg))
                (void)rr__refuse_pack(worker->system, msg, RR_NOROUTE);
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
    return __builtin_expect(!rr__over_limit(burst->actor, word + burst->add, 1), 1) ||
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

/* Into the sheet that stands there, or, of what is larger, a new one, once a quarter of a sheet has gone there in this row: so
 * sheets take no more than five times the memory of what they hold. False: into no sheet. */
static bool append_sheet(rr_worker_t *worker, const rr_envelope_t *env) {
    rr__burst_t *burst = &worker->burst;
    rr_message_t *last = burst->last;
    if (last->kind == RR__SHEET && rr__sheet_put(last, env))
        return true;
    bool much = rr__word_units(burst->add) * RR_MAILBOX_UNIT >= RR__SHEET_SIZE / 4;
    rr_message_t *sheet =
        much && env->size > RR__PACKED_SMALL ? rr__sheet_new(worker->system, env->from, env->to) : NULL;
    if (!sheet)
        return false;
    (void)rr__sheet_put(sheet, env); /* fits an empty one */
    atomic_store_explicit(&last->next, sheet, memory_order_relaxed);
    burst->last = sheet;
    return true;
}

/* One that begins a pack or goes into a sheet, or cannot go into any. False: it needs a message, or the ordinary way. */
static __attribute__((noinline)) bool burst_pack_first(rr_worker_t *worker, const rr_envelope_t *env) {
    rr__burst_t *burst = &worker->burst;
    if (!rr__packable(env, burst->count) ||
        (!append_sheet(worker, env) && !append_packed(worker->system, burst->count, &burst->last, env)))
        return false;
    burst_count(worker, rr__envelope_counts(env, RR__UNIT), AWAY_MAX);
    return true;
}

/* Over its limit a proxy still takes what the sender's turn sends: the sender is paused behind that. */
static inline bool takes_more(rr_actor_t *proxy, uint64_t word, rr_actor_t *sender, rr_addr_t to) {
    if (__builtin_expect(!rr__over_limit(proxy, word, 1), 1))
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
    return send_message(rr__system_of(self), self, rr__message_copy_fast(rr__current->pool, data, size), to, type);
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
    return send_wrapped(rr__system_of(self), self, to, type, buffer, 1, 0);
}

int rr_send_batch(rr_actor_t *self, rr_addr_t to, uint32_t type, rr_buffer_t *buffer, unsigned weight) {
    return send_wrapped(rr__system_of(self), self, to, type, buffer, weight, 0);
}

int rr_send_unsheddable(rr_actor_t *self, rr_addr_t to, uint32_t type, rr_buffer_t *buffer, unsigned weight) {
    return send_wrapped(rr__system_of(self), self, to, type, buffer, weight, RR__UNSHEDDABLE);
}

int rr_system_send_buffer(rr_system_t *system, rr_addr_t to, uint32_t type, rr_buffer_t *buffer) {
    return send_wrapped(system, NULL, to, type, buffer, 1, 0);
}
