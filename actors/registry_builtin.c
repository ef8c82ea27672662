/* registry_builtin.c: the registry whose keeper is the group's master (master.h), by ordinary calls to its broker.
 *
 * One call of each kind is under way at a time: RENEW or HELLO (the lease, and what changed), and UPDATE (claims and releases
 * that have gathered). A call that failed is made again after RETRY_MS; everything in it is idempotent. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "actors/map.h"
#include "actors/registry_wire.h"
#include "runtime/hash.h"
#include "runtime/metrics.h"
#include "runtime/remote.h"

#define RETRY_MS 300u
#define CALL_MS 5000u
#define CALL_MIN_MS 250u
#define BATCH 512u /* names in one UPDATE */
#define FIRST_MS 2000u /* time-out of calls before the lease is known */

enum { TIMER_RENEW = RR_REGISTRY_TIMER, TIMER_UPDATE };

typedef enum want {
    WANT_CLAIM,   /* to be asked for */
    CLAIMING,     /* in the UPDATE that is under way */
    WAITING,      /* until wait_ns */
    OWNED,
    WANT_RELEASE, /* to be given back */
    RELEASING,
} want_t;

typedef struct claim {
    LIST_ENTRY(claim) entry;
    want_t want;
    bool told; /* that it waits */
    bool unconfirmed; /* was ours under an earlier master, or so we think */
    rr_addr_t addr;
    uint64_t epoch; /* while it is ours; 0 */
    uint64_t wait_ns;
    char name[RR_REG_NAME_SIZE];
} claim_t;

typedef struct builtin {
    rr_registry_t base;
    rr_actor_t *self;
    rr_registry_config_t config;
    rr_set_t claims;
    LIST_HEAD(, claim) all;
    uint32_t todo, waiting; /* claims in WANT_CLAIM and WANT_RELEASE; in WAITING */
    uint32_t unconfirmed; /* while there are any, the lease is not made longer: their actors could run on it */
    uint32_t term, lease_ms;
    uint64_t table, version;
    /* When the renewal under way was sent; the end of the lease; and of the one that was told (events->renewed). */
    uint64_t sent_ns, until_ns, told_until_ns;
    bool hello, renewing, updating, draining, unreachable, lost, behind, leaving;
    uint64_t renew_timer, update_timer, renew_call, update_call;
    uint64_t update_due_ns;
    struct batch *batch; /* under way */
    void (*left)(void *context);
    void *left_context;
    rr_counter_t renewals, refusals, grants, changes, wholes;
} builtin_t;

static void renew_now(builtin_t *reg);
static void send_update(builtin_t *reg);

static uint64_t boot(builtin_t *reg) { return rr_system_boot_ns(rr_system_of(reg->self)); }

static bool has_name(const void *item, const void *key) { return !strcmp(((const claim_t *)item)->name, key); }

static claim_t *find(builtin_t *reg, const char *name) {
    return rr_set_find(&reg->claims, rr_hash_text(name), has_name, name);
}

static bool is_todo(want_t want) { return want == WANT_CLAIM || want == WANT_RELEASE; }

static void set_want(builtin_t *reg, claim_t *claim, want_t want) {
    reg->todo += (uint32_t)is_todo(want) - (uint32_t)is_todo(claim->want);
    reg->waiting += (uint32_t)(want == WAITING) - (uint32_t)(claim->want == WAITING);
    claim->want = want;
}

static void set_unconfirmed(builtin_t *reg, claim_t *claim, bool unconfirmed) {
    reg->unconfirmed += (uint32_t)unconfirmed - (uint32_t)claim->unconfirmed;
    claim->unconfirmed = unconfirmed;
}

static void drop(builtin_t *reg, claim_t *claim) {
    set_want(reg, claim, OWNED);
    set_unconfirmed(reg, claim, false);
    rr_set_remove(&reg->claims, rr_hash_text(claim->name), claim);
    LIST_REMOVE(claim, entry);
    free(claim);
}

/* ---- Timers ---- */

static void set_timer(builtin_t *reg, uint64_t *timer, uint64_t ms, uint32_t tag) {
    if (*timer)
        (void)rr_timer_cancel(reg->self, *timer);
    *timer = 0;
    if (rr_timer_start(reg->self, ms, 0, tag, timer) != RR_OK)
        rr_log(rr_system_of(reg->self), RR_ERROR, "NAMES", "no memory for a timer: the lease cannot be renewed in time");
}

static unsigned call_ms(const builtin_t *reg) {
    unsigned ms = reg->lease_ms == RR_REG_FOR_EVER ? CALL_MS : reg->lease_ms ? reg->lease_ms / 10 : FIRST_MS;
    return ms < CALL_MIN_MS ? CALL_MIN_MS : ms < CALL_MS ? ms : CALL_MS;
}

static unsigned renew_ms(const builtin_t *reg) {
    unsigned third = reg->lease_ms == RR_REG_FOR_EVER ? CALL_MS : reg->lease_ms / 3;
    return third ? third : 1;
}

static unsigned retry_ms(const builtin_t *reg) {
    unsigned tenth = reg->lease_ms && reg->lease_ms / 10 < RETRY_MS ? reg->lease_ms / 10 : RETRY_MS;
    return tenth ? tenth : 1;
}

/* ---- The end of membership ---- */

static void lose(builtin_t *reg, const char *why) {
    if (reg->lost)
        return;
    reg->lost = true;
    reg->config.events->lost(reg->config.context, why);
}

static void reachable(builtin_t *reg, bool yes, const char *why) {
    if (reg->unreachable == !yes)
        return;
    reg->unreachable = !yes;
    reg->config.events->reachable(reg->config.context, yes, why);
}

/* ---- Changes ---- */

/* Somebody else owns a name now, or nobody does. */
static void compare(builtin_t *reg, const char *name, rr_addr_t addr, uint64_t epoch) {
    claim_t *claim = find(reg, name);
    if (!claim)
        return;
    if (claim->want == WAITING && addr == RR_NOBODY) {
        set_want(reg, claim, WANT_CLAIM); /* now, not when the time is over */
    } else if (claim->want == OWNED && addr != RR_NOBODY && addr != claim->addr && epoch > claim->epoch) {
        rr_registry_owner_t owner = {.addr = addr, .epoch = epoch, .node = "another node"};
        rr_addr_t mine = claim->addr;
        drop(reg, claim);
        rr_count(&reg->refusals, 1);
        reg->config.events->refused(reg->config.context, name, mine, &owner);
    }
}

static bool take_change(builtin_t *reg, rr_reg_in_t *in, bool skip) {
    const rr_registry_events_t *events = reg->config.events;
    uint8_t kind = rr_reg_get8(in);
    if (kind == RR_REG_NODE) {
        rr_node_identity_t who;
        uint8_t status = rr_reg_get8(in);
        rr_addr_t agent = rr_reg_get64(in);
        rr_reg_get_identity(in, reg->config.self.group, &who);
        if (!in->bad && !skip)
            events->node(reg->config.context, &who, status, agent);
    } else if (kind == RR_REG_NODE_GONE) {
        unsigned node = rr_reg_get16(in);
        uint64_t incarnation = rr_reg_get64(in);
        bool left = rr_reg_get8(in);
        if (in->bad || skip)
            return !in->bad;
        if (node == reg->config.self.node && incarnation == reg->config.self.incarnation && !reg->leaving)
            lose(reg, "its lease ran out, and its names may be others' by now");
        else
            events->node_gone(reg->config.context, node, incarnation, left);
    } else if (kind == RR_REG_NAME) {
        char name[RR_REG_NAME_SIZE];
        rr_reg_get_name(in, name);
        rr_addr_t addr = rr_reg_get64(in);
        uint64_t epoch = rr_reg_get64(in);
        if (!in->bad && !skip) {
            events->name(reg->config.context, name, addr, epoch);
            compare(reg, name, addr, epoch);
        }
    } else if (kind == RR_REG_SETTLED) {
        if (!skip)
            events->settled(reg->config.context);
    } else {
        in->bad = true;
    }
    if (!in->bad && !skip)
        rr_count(&reg->changes, 1);
    return !in->bad;
}

static void take_changes(builtin_t *reg, rr_reg_in_t *in) {
    uint64_t table = rr_reg_get64(in), from = rr_reg_get64(in), to = rr_reg_get64(in);
    uint8_t whole = rr_reg_get8(in);
    uint32_t count = rr_reg_get32(in);
    if (in->bad || reg->lost)
        return;
    bool same = table == reg->table;
    if (same && to <= reg->version)
        return; /* known */
    if (!whole && (!same || from > reg->version)) {
        reg->behind = true; /* asks what it missed, at the turn's end */
        return;
    }
    if (whole) {
        rr_count(&reg->wholes, 1);
        reg->config.events->whole(reg->config.context);
    }
    for (uint32_t i = 0; i < count; i++)
        if (!take_change(reg, in, !whole && from + i < reg->version))
            break;
    if (in->bad) {
        rr_log(rr_system_of(reg->self), RR_ERROR, "NAMES", "the master's changes are malformed: asking for everything");
        reg->table = 0;
        reg->behind = true;
        return;
    }
    reg->table = table;
    reg->version = to;
    if (whole == RR_REG_WHOLE)
        reg->config.events->settled(reg->config.context);
}

/* ---- The lease ---- */

static void put_asker(builtin_t *reg, rr_reg_out_t *out) {
    rr_reg_put32(out, reg->term);
    rr_reg_put64(out, reg->table);
    rr_reg_put64(out, reg->version);
    rr_reg_put8(out, reg->draining ? RR_REG_DRAINING : 0);
}

static void put_hello(builtin_t *reg, rr_reg_out_t *out) {
    put_asker(reg, out);
    rr_reg_put_identity(out, &reg->config.self);
    rr_reg_put_str(out, reg->config.place);
    bool held = reg->sent_ns < reg->told_until_ns;
    uint32_t count = 0;
    size_t at = out->size;
    rr_reg_put32(out, 0);
    claim_t *claim;
    LIST_FOREACH(claim, &reg->all, entry) {
        if (!claim->epoch)
            continue;
        rr_reg_put_str(out, claim->name);
        rr_reg_put64(out, claim->addr);
        rr_reg_put64(out, claim->epoch);
        rr_reg_put8(out, held);
        count++;
    }
    rr_reg_patch32(out, at, count);
}

static void take_losses(builtin_t *reg, rr_reg_in_t *in) {
    uint32_t count = rr_reg_get32(in);
    for (uint32_t i = 0; i < count && !in->bad; i++) {
        char name[RR_REG_NAME_SIZE];
        rr_registry_owner_t owner = {0};
        rr_reg_get_name(in, name);
        rr_addr_t addr = rr_reg_get64(in);
        owner.epoch = rr_reg_get64(in);
        owner.addr = rr_reg_get64(in);
        rr_reg_get_str(in, owner.node, sizeof owner.node);
        claim_t *claim = in->bad ? NULL : find(reg, name);
        if (!claim || claim->addr != addr)
            continue;
        drop(reg, claim);
        rr_count(&reg->refusals, 1);
        reg->config.events->refused(reg->config.context, name, addr, &owner);
    }
}

/* The master has heard who we are: that our names are ours is asked anew, before the lease is made longer. */
static void claim_all(builtin_t *reg) {
    claim_t *claim;
    LIST_FOREACH(claim, &reg->all, entry) {
        if (claim->epoch)
            set_unconfirmed(reg, claim, true);
        if (claim->want == OWNED || claim->want == WAITING)
            set_want(reg, claim, WANT_CLAIM);
    }
}

static void tell_lease(builtin_t *reg) {
    if (reg->unconfirmed || reg->lost || reg->leaving || reg->until_ns == reg->told_until_ns)
        return;
    reg->told_until_ns = reg->until_ns;
    reg->config.events->renewed(reg->config.context, reg->until_ns);
}

static void take_state(builtin_t *reg, rr_reg_in_t *in) {
    uint32_t term = rr_reg_get32(in), lease_ms = rr_reg_get32(in);
    if (in->bad)
        return;
    if (term < reg->term) {
        reachable(reg, false, "who answers is a master of an earlier term: end that process");
        return;
    }
    reg->term = term;
    reg->lease_ms = lease_ms;
    reg->until_ns = lease_ms == RR_REG_FOR_EVER ? UINT64_MAX : reg->sent_ns + lease_ms * 1000000ull;
    rr_count(&reg->renewals, 1);
    reachable(reg, true, "");
    take_losses(reg, in);
    if (reg->hello)
        claim_all(reg);
    reg->hello = false;
    if (!in->bad)
        take_changes(reg, in);
    tell_lease(reg);
}

/* A renewal without an answer, in words: nobody needs to know whether it was executed, for it is sent again. */
static const char *silence(int status) {
    switch (status) {
    case RR_TIMEOUT:
        return "it does not answer";
    case RR_LINKDOWN:
        return "the link to its node is down";
    case RR_NOROUTE:
        return "there is no way to its node";
    default:
        return rr_strerror(status);
    }
}

static void on_renewed(rr_actor_t *self, void *state, int status, rr_message_t *msg, void *context) {
    builtin_t *reg = context;
    char why[RR_REG_WHY];
    reg->renewing = false;
    reg->renew_call = 0;
    if (reg->lost || reg->leaving)
        return;
    uint64_t next = retry_ms(reg);
    if (status == RR_OK) {
        rr_reg_in_t in = rr_reg_in_of(msg);
        uint8_t answer = rr_reg_get8(&in);
        rr_reg_get_str(&in, why, sizeof why);
        if (answer == RR_REG_STALE && !in.bad) {
            lose(reg, why);
            return;
        }
        if (answer == RR_REG_UNKNOWN && !in.bad) {
            reg->hello = true;
            renew_now(reg);
            return;
        }
        take_state(reg, &in);
        if (!reg->unreachable)
            next = renew_ms(reg);
        if (in.bad)
            rr_log(rr_system_of(self), RR_ERROR, "NAMES", "the master's answer is malformed");
    } else if (status != RR_CANCELLED) { /* there is another master meanwhile, who is asked instead */
        if (status == RR_EHANDLER && msg)
            snprintf(why, sizeof why, "%.*s", (int)rr_message_size(msg), (const char *)rr_message_data(msg));
        else
            snprintf(why, sizeof why, "%s", silence(status));
        reachable(reg, false, why);
    }
    if (!reg->lost)
        set_timer(reg, &reg->renew_timer, next, TIMER_RENEW);
}

static void renew_now(builtin_t *reg) {
    if (reg->renewing || reg->lost || reg->leaving)
        return;
    rr_reg_out_t out = {0};
    reg->behind = false;
    reg->sent_ns = boot(reg);
    if (reg->hello) {
        put_hello(reg, &out);
    } else {
        put_asker(reg, &out);
        rr_reg_put16(&out, (uint16_t)reg->config.self.node);
        rr_reg_put64(&out, reg->config.self.incarnation);
    }
    int rc = out.failed ? RR_ENOMEM
                        : rr_call(reg->self, reg->config.master.service, reg->hello ? RR_REG_HELLO : RR_REG_RENEW,
                                  out.data, out.size, call_ms(reg), on_renewed, reg, &reg->renew_call);
    rr_reg_out_free(&out);
    if (rc == RR_OK)
        reg->renewing = true;
    else
        set_timer(reg, &reg->renew_timer, retry_ms(reg), TIMER_RENEW);
}

/* ---- Claims and releases ---- */

static void take_verdict(builtin_t *reg, claim_t *claim, rr_reg_in_t *in) {
    rr_registry_owner_t owner = {0};
    uint8_t result = rr_reg_get8(in);
    uint64_t epoch = rr_reg_get64(in);
    owner.epoch = epoch;
    owner.addr = rr_reg_get64(in);
    rr_reg_get_str(in, owner.node, sizeof owner.node);
    uint32_t ms = rr_reg_get32(in);
    if (in->bad || !claim)
        return;
    const rr_registry_events_t *events = reg->config.events;
    char name[RR_REG_NAME_SIZE];
    rr_addr_t addr = claim->addr;
    memcpy(name, claim->name, sizeof name);
    if (result == RR_REG_GRANTED && claim->want == CLAIMING) {
        bool news = claim->epoch != epoch;
        claim->epoch = epoch;
        set_want(reg, claim, OWNED);
        set_unconfirmed(reg, claim, false);
        if (news) {
            rr_count(&reg->grants, 1);
            events->granted(reg->config.context, name, addr, epoch);
        }
    } else if (result == RR_REG_REFUSED && claim->want == CLAIMING) {
        drop(reg, claim);
        rr_count(&reg->refusals, 1);
        events->refused(reg->config.context, name, addr, &owner);
    } else if (result == RR_REG_WAIT && claim->want == CLAIMING) {
        set_want(reg, claim, WAITING);
        claim->wait_ns = boot(reg) + (ms < 1000 ? ms : 1000) * 1000000ull;
        if (!claim->told)
            events->waits(reg->config.context, name, addr, &owner, ms);
        claim->told = true;
    } else if (result == RR_REG_RELEASED && claim->want == RELEASING) {
        drop(reg, claim);
    }
}

/* What was under way is to be said again. */
static void again(builtin_t *reg) {
    claim_t *claim;
    LIST_FOREACH(claim, &reg->all, entry) {
        if (claim->want == CLAIMING)
            set_want(reg, claim, WANT_CLAIM);
        else if (claim->want == RELEASING)
            set_want(reg, claim, WANT_RELEASE);
    }
}

/* The names of an UPDATE under way, in its order. */
typedef struct batch {
    uint32_t count;
    struct {
        rr_addr_t addr;
        char name[RR_REG_NAME_SIZE];
    } items[];
} batch_t;

static void take_verdicts(builtin_t *reg, const batch_t *batch, rr_reg_in_t *in) {
    if (rr_reg_get32(in) != batch->count)
        in->bad = true;
    for (uint32_t i = 0; i < batch->count && !in->bad; i++) {
        claim_t *claim = find(reg, batch->items[i].name);
        take_verdict(reg, claim && claim->addr == batch->items[i].addr ? claim : NULL, in);
    }
}

static void on_updated(rr_actor_t *self, void *state, int status, rr_message_t *msg, void *context) {
    builtin_t *reg = context;
    batch_t *batch = reg->batch;
    char why[RR_REG_WHY];
    uint64_t pause_ms = 0;
    reg->updating = false;
    reg->batch = NULL;
    reg->update_call = 0;
    if (status == RR_OK && !reg->lost) {
        rr_reg_in_t in = rr_reg_in_of(msg);
        uint8_t answer = rr_reg_get8(&in);
        rr_reg_get_str(&in, why, sizeof why);
        if (answer == RR_REG_OK && !in.bad) {
            take_verdicts(reg, batch, &in);
        } else { /* it says so to the renewal too, with the consequences */
            reg->hello = reg->hello || answer == RR_REG_UNKNOWN;
            reg->behind = true;
            pause_ms = retry_ms(reg);
        }
    } else {
        pause_ms = retry_ms(reg);
    }
    free(batch);
    again(reg); /* whatever had no verdict */
    tell_lease(reg);
    reg->update_due_ns = pause_ms ? boot(reg) + pause_ms * 1000000 : 0;
    if (pause_ms && !reg->lost)
        set_timer(reg, &reg->update_timer, pause_ms, TIMER_UPDATE);
}

static void put_items(builtin_t *reg, rr_reg_out_t *out, batch_t *batch, uint32_t most) {
    claim_t *claim;
    LIST_FOREACH(claim, &reg->all, entry) {
        if (batch->count == most)
            break;
        if (!is_todo(claim->want))
            continue;
        rr_reg_put8(out, claim->want == WANT_CLAIM ? RR_REG_CLAIM : RR_REG_RELEASE);
        rr_reg_put_str(out, claim->name);
        rr_reg_put64(out, claim->addr);
        batch->items[batch->count].addr = claim->addr;
        memcpy(batch->items[batch->count++].name, claim->name, sizeof claim->name);
        set_want(reg, claim, claim->want == WANT_CLAIM ? CLAIMING : RELEASING);
    }
}

static void send_update(builtin_t *reg) {
    if (!reg->todo || reg->updating || reg->lost || reg->leaving || reg->hello || boot(reg) < reg->update_due_ns)
        return;
    uint32_t most = reg->todo < BATCH ? reg->todo : BATCH;
    batch_t *batch = malloc(sizeof *batch + most * sizeof batch->items[0]);
    rr_reg_out_t out = {0};
    int rc = RR_ENOMEM;
    if (batch) {
        batch->count = 0;
        rr_reg_put16(&out, (uint16_t)reg->config.self.node);
        rr_reg_put64(&out, reg->config.self.incarnation);
        rr_reg_put32(&out, most);
        put_items(reg, &out, batch, most);
        if (!out.failed)
            rc = rr_call(reg->self, reg->config.master.service, RR_REG_UPDATE, out.data, out.size, call_ms(reg), on_updated,
                         reg, &reg->update_call);
    }
    rr_reg_out_free(&out);
    reg->updating = rc == RR_OK;
    if (rc == RR_OK) {
        reg->batch = batch;
        return;
    }
    free(batch);
    again(reg);
    reg->update_due_ns = boot(reg) + retry_ms(reg) * 1000000ull;
    set_timer(reg, &reg->update_timer, retry_ms(reg), TIMER_UPDATE);
}

/* Claims whose time to wait is over; when the next one's is. */
static void wake_waiting(builtin_t *reg) {
    uint64_t now = boot(reg), next = UINT64_MAX;
    claim_t *claim;
    LIST_FOREACH(claim, &reg->all, entry) {
        if (claim->want != WAITING)
            continue;
        if (claim->wait_ns <= now)
            set_want(reg, claim, WANT_CLAIM);
        else if (claim->wait_ns < next)
            next = claim->wait_ns;
    }
    if (next != UINT64_MAX)
        set_timer(reg, &reg->update_timer, (next - now) / 1000000 + 1, TIMER_UPDATE);
}

static int builtin_claim(rr_registry_t *base, const char *name, rr_addr_t addr) {
    builtin_t *reg = (builtin_t *)base;
    if (!rr_name_legal(name) || addr == RR_NOBODY)
        return RR_EINVAL;
    claim_t *claim = find(reg, name);
    if (claim && claim->addr == addr && claim->want != WANT_RELEASE && claim->want != RELEASING)
        return RR_OK;
    if (!claim) {
        claim = calloc(1, sizeof *claim);
        if (!claim || !rr_set_add(&reg->claims, rr_hash_text(name), claim)) {
            free(claim);
            return RR_ENOMEM;
        }
        strcpy(claim->name, name);
        claim->want = OWNED;
        LIST_INSERT_HEAD(&reg->all, claim, entry);
    }
    claim->addr = addr;
    claim->epoch = 0;
    claim->told = false;
    set_unconfirmed(reg, claim, false);
    set_want(reg, claim, WANT_CLAIM);
    return RR_OK;
}

static int builtin_release(rr_registry_t *base, const char *name, rr_addr_t addr) {
    builtin_t *reg = (builtin_t *)base;
    claim_t *claim = find(reg, name);
    if (!claim || claim->addr != addr)
        return RR_OK;
    claim->epoch = 0;
    set_unconfirmed(reg, claim, false);
    set_want(reg, claim, WANT_RELEASE);
    return RR_OK;
}

/* ---- Leaving ---- */

static void left(builtin_t *reg) {
    void (*done)(void *context) = reg->left;
    reg->left = NULL;
    if (done)
        done(reg->left_context);
}

static void on_left(rr_actor_t *self, void *state, int status, rr_message_t *msg, void *context) { left(context); }

static void builtin_leave(rr_registry_t *base, unsigned deadline_ms, void (*done)(void *context), void *context) {
    builtin_t *reg = (builtin_t *)base;
    rr_reg_out_t out = {0};
    reg->left = done;
    reg->left_context = context;
    reg->leaving = true;
    rr_reg_put16(&out, (uint16_t)reg->config.self.node);
    rr_reg_put64(&out, reg->config.self.incarnation);
    int rc = reg->lost || out.failed ? RR_ESTATE
                                     : rr_call(reg->self, reg->config.master.service, RR_REG_LEAVE, out.data, out.size,
                                               deadline_ms ? deadline_ms : 1, on_left, reg, NULL);
    rr_reg_out_free(&out);
    if (rc != RR_OK)
        left(reg);
}

/* ---- The rest of the table ---- */

static int builtin_open(rr_actor_t *self, const rr_registry_config_t *config, rr_registry_t **out) {
    builtin_t *reg = calloc(1, sizeof *reg);
    if (!reg)
        return RR_ENOMEM;
    reg->base.ops = &rr_registry_builtin;
    reg->self = self;
    reg->config = *config;
    reg->hello = true;
    LIST_INIT(&reg->all);
    *out = &reg->base;
    renew_now(reg);
    return RR_OK;
}

static void builtin_draining(rr_registry_t *base) {
    builtin_t *reg = (builtin_t *)base;
    reg->draining = true;
    reg->behind = true; /* said with the next renewal, now */
}

static void builtin_master(rr_registry_t *base, const rr_node_identity_t *master) {
    builtin_t *reg = (builtin_t *)base;
    reg->config.master = *master;
    reg->hello = true;
    /* What the earlier one may still have answered counts no more: the new one knows nothing of it. */
    if (reg->update_call)
        (void)rr_call_cancel(reg->self, reg->update_call);
    if (reg->renew_call)
        (void)rr_call_cancel(reg->self, reg->renew_call);
    renew_now(reg);
}

static bool builtin_receive(rr_registry_t *base, rr_message_t *msg) {
    builtin_t *reg = (builtin_t *)base;
    if (rr_message_kind(msg) == RR_TIMER && rr_message_type(msg) == TIMER_RENEW) {
        reg->renew_timer = 0;
        renew_now(reg);
    } else if (rr_message_kind(msg) == RR_TIMER && rr_message_type(msg) == TIMER_UPDATE) {
        reg->update_timer = 0;
        wake_waiting(reg);
    } else if (rr_message_kind(msg) == RR_SEND && rr_message_type(msg) == RR_REG_CHANGED) {
        rr_reg_in_t in = rr_reg_in_of(msg);
        if (rr_message_from(msg) == reg->config.master.service)
            take_changes(reg, &in);
    } else {
        return false;
    }
    return true;
}

static void builtin_turn_end(rr_registry_t *base) {
    builtin_t *reg = (builtin_t *)base;
    send_update(reg);
    if (reg->behind && !reg->unreachable)
        renew_now(reg);
    if (reg->waiting && !reg->update_timer && !reg->lost)
        wake_waiting(reg);
}

static void builtin_close(rr_registry_t *base) {
    builtin_t *reg = (builtin_t *)base;
    left(reg);
    while (!LIST_EMPTY(&reg->all)) {
        claim_t *claim = LIST_FIRST(&reg->all);
        LIST_REMOVE(claim, entry);
        free(claim);
    }
    rr_set_free(&reg->claims);
    free(reg->batch);
    free(reg);
}

static void builtin_counts(const rr_registry_t *base, uint64_t out[5]) {
    const builtin_t *reg = (const builtin_t *)base;
    out[0] = rr_counted(&reg->renewals);
    out[1] = rr_counted(&reg->refusals);
    out[2] = rr_counted(&reg->grants);
    out[3] = rr_counted(&reg->changes);
    out[4] = rr_counted(&reg->wholes);
}

const rr_registry_ops_t rr_registry_builtin = {
    .name = "builtin",
    .open = builtin_open,
    .claim = builtin_claim,
    .release = builtin_release,
    .draining = builtin_draining,
    .leave = builtin_leave,
    .master = builtin_master,
    .receive = builtin_receive,
    .turn_end = builtin_turn_end,
    .close = builtin_close,
    .counts = builtin_counts,
};
