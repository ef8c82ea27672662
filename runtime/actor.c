#include "runtime/actor.h"

#include <string.h>

#include "runtime/alloc.h"
#include "runtime/system.h"

_Thread_local rr_worker_t *rr__current;

rr__side_t *rr__actor_side(rr_actor_t *actor) {
    if (!actor->side) {
        actor->side = rr__calloc(1, sizeof *actor->side);
        if (actor->side)
            actor->side->call_timer_ns = UINT64_MAX;
    }
    return actor->side;
}

rr_system_t *rr_system_of(rr_actor_t *self) { return rr__system_of(self); }

rr_executor_t *rr_executor_of(rr_actor_t *self) {
    return atomic_load_explicit(&self->executor, memory_order_relaxed);
}

rr_addr_t rr_self(const rr_actor_t *self) { return self->addr; }
void *rr_state(rr_actor_t *self) { return self->state; }
const char *rr_name(rr_actor_t *self) { return self->side && self->side->name_count ? self->side->names[0] : ""; }
void rr_trap_exits(rr_actor_t *self, bool on) { self->trap_exits = on; }
uint64_t rr_now_ns(rr_actor_t *self) { return rr_clock_now(&rr__system_of(self)->clock); }
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
    int rc = rr__names_add(rr__system_of(self), name, self->addr, self->bits & RR__LEASED);
    if (rc == RR_OK)
        names[side->name_count++] = copy;
    else
        rr__free(copy);
    return rc;
}

int rr_unregister(rr_actor_t *self, const char *name) {
    if (!rr__names_remove(rr__system_of(self), name, self->addr))
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

void rr__names_end(rr_actor_t *actor) {
    rr__side_t *side = actor->side;
    for (uint32_t i = 0; side && i < side->name_count; i++) {
        rr__names_remove(rr__system_of(actor), side->names[i], actor->addr);
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
    unsigned policy = spec->policy == RR_POLICY_PAUSE_SOURCE && spec->behavior->proxy ? RR__PROXY_PAUSE : spec->policy;
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

void rr__actor_free_parts(rr_actor_t *actor) {
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
    rr__flush_burst();
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
    rr__actor_free_parts(actor);
    rr__directory_release(&system->directory, cache, actor, addr);
    return rc;
}

int rr_spawn(rr_actor_t *self, const rr_spawn_t *spec, rr_addr_t *out) {
    return rr__spawn(rr__system_of(self), self, spec, out);
}

int rr_system_spawn(rr_system_t *system, const rr_spawn_t *spec, rr_addr_t *out) {
    if (atomic_load_explicit(&system->draining, memory_order_relaxed))
        return RR_ESTOPPING;
    return rr__spawn(system, NULL, spec, out);
}
