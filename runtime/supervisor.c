#include <string.h>

#include "runtime/alloc.h"
#include "runtime/system.h"

/* A supervisor is an ordinary actor that monitors its children. On the n-th restart within the period it gives up: a child
 * that cannot live is an error to be seen, not to be repeated. */

#define DEFAULT_MAX_RESTARTS 5
#define DEFAULT_WITHIN_MS    60000
#define MAX_RESTARTS         65536 /* each has its time remembered */

typedef struct child {
    rr_child_t spec; /* name and arg point into the block */
    rr_addr_t addr;  /* RR_NOBODY while it does not run */
    uint64_t monitor;
    bool stopping; /* ended on purpose, to be started again with others */
} child_t;

typedef struct supervisor {
    rr_supervisor_t spec;
    child_t *children;  /* in the block */
    uint64_t *restarts; /* in the block: times of the latest, a ring of max_restarts + 1 */
    size_t count;
    unsigned restart_count;
    size_t waiting; /* children killed whose end is awaited before the restart goes on */
    size_t restart_from;
    char *block;
} supervisor_t;

static void tell(supervisor_t *s, size_t index, rr_addr_t addr, int reason) {
    if (s->spec.event)
        s->spec.event(s->spec.context, index, addr, reason);
}

/* ---- Copying the specification ------------------------------------------------------------------------------------
 * Everything stands in one block, which travels as the actor's argument: so nothing is left behind if the actor ends
 * before its start(). The block: head, children, ring, then each child's name and argument. */

typedef struct head {
    supervisor_t supervisor; /* its pointers are into the block where it was made */
    size_t size;
} head_t;

static size_t aligned(size_t size) { return (size + 15) & ~(size_t)15; }

static size_t ring_size(const rr_supervisor_t *spec) { return ((size_t)spec->max_restarts + 1) * sizeof(uint64_t); }

static size_t name_size(const rr_spawn_t *spec) { return spec->name ? strlen(spec->name) + 1 : 0; }

static size_t block_size(const rr_supervisor_t *spec) {
    size_t size = aligned(sizeof(head_t)) + aligned(spec->child_count * sizeof(child_t)) + aligned(ring_size(spec));
    for (size_t i = 0; i < spec->child_count; i++)
        size += aligned(name_size(&spec->children[i].spawn)) + aligned(spec->children[i].spawn.arg_size);
    return size;
}

static void *place(char **at, const void *data, size_t size) {
    void *here = *at;
    if (data)
        memcpy(here, data, size);
    *at += aligned(size);
    return here;
}

static head_t *make_block(const rr_supervisor_t *spec) {
    size_t size = block_size(spec);
    char *block = rr__calloc(1, size), *at = block;
    if (!block)
        return NULL;
    head_t *head = place(&at, NULL, sizeof *head);
    supervisor_t *s = &head->supervisor;
    *s = (supervisor_t){.spec = *spec, .count = spec->child_count, .block = block};
    s->spec.children = NULL; /* the caller's */
    s->spec.name = NULL;
    s->children = place(&at, NULL, spec->child_count * sizeof *s->children);
    s->restarts = place(&at, NULL, ring_size(spec));
    for (size_t i = 0; i < spec->child_count; i++) {
        rr_child_t *child = &s->children[i].spec;
        *child = spec->children[i];
        if (child->spawn.name)
            child->spawn.name = place(&at, child->spawn.name, name_size(&child->spawn));
        if (child->spawn.arg_size)
            child->spawn.arg = place(&at, child->spawn.arg, child->spawn.arg_size);
    }
    head->size = size;
    return head;
}

/* The argument's block is somebody else's copy of the one that was made: s gets one of its own, with right pointers. */
static int adopt_block(supervisor_t *s, const head_t *from) {
    char *made = from->supervisor.block, *block = rr__malloc(from->size);
    if (!block)
        return RR_ENOMEM;
    memcpy(block, from, from->size);
    *s = from->supervisor;
    s->block = block;
    s->children = (child_t *)(void *)(block + ((char *)s->children - made));
    s->restarts = (uint64_t *)(void *)(block + ((char *)s->restarts - made));
    for (size_t i = 0; i < s->count; i++) {
        rr_spawn_t *child = &s->children[i].spec.spawn;
        if (child->name)
            child->name = block + (child->name - made);
        if (child->arg_size)
            child->arg = block + ((const char *)child->arg - made);
    }
    return RR_OK;
}

/* ---- Starting and restarting --------------------------------------------------------------------------------------- */

static int start_child(rr_actor_t *self, supervisor_t *s, size_t index) {
    child_t *child = &s->children[index];
    child->stopping = false;
    int rc = rr_spawn(self, &child->spec.spawn, &child->addr);
    if (rc == RR_OK)
        rc = rr_monitor(self, child->addr, &child->monitor);
    tell(s, index, rc == RR_OK ? child->addr : RR_NOBODY, rc);
    return rc;
}

static bool too_often(rr_actor_t *self, supervisor_t *s) {
    unsigned ring = s->spec.max_restarts + 1;
    uint64_t now = rr_now_ns(self);
    s->restarts[s->restart_count++ % ring] = now;
    if (s->restart_count < ring)
        return false;
    uint64_t oldest = s->restarts[s->restart_count % ring];
    return now - oldest <= s->spec.within_ms * RR_NS_PER_MS;
}

static const char *child_name(const child_t *child) {
    const char *name = child->spec.spawn.name;
    return name ? name : child->spec.spawn.behavior ? child->spec.spawn.behavior->name : "?";
}

static void give_up(rr_actor_t *self, supervisor_t *s, size_t index) {
    rr_log(rr_system_of(self), RR_ERROR, "SUPERVISOR", "%s: child %s was restarted more than %u times within %u ms; giving up",
           *rr_name(self) ? rr_name(self) : "supervisor",
           child_name(&s->children[index]),
           s->spec.max_restarts, s->spec.within_ms);
    tell(s, index, RR_NOBODY, RR_ELIMIT);
    rr_exit(self, RR_ELIMIT);
}

/* Kills what stands with it according to the strategy; the restart goes on when all of them have ended. A child before
 * them may fail while they do: then the restart begins with that one. */
static void stop_siblings(rr_actor_t *self, supervisor_t *s, size_t failed) {
    size_t first = s->spec.strategy == RR_ONE_FOR_ALL ? 0 : failed;
    if (!s->waiting || first < s->restart_from)
        s->restart_from = first;
    for (size_t i = s->count; i-- > first;) {
        child_t *child = &s->children[i];
        if (child->addr == RR_NOBODY || child->stopping)
            continue;
        child->stopping = true;
        s->waiting++;
        rr_kill(rr_system_of(self), child->addr, RR_CANCELLED);
    }
}

static void restart_child(rr_actor_t *self, supervisor_t *s, size_t index) {
    int rc = start_child(self, s, index);
    if (rc == RR_OK)
        return;
    rr_log(rr_system_of(self), RR_ERROR, "SUPERVISOR", "child %zu cannot be started: %s", index, rr_strerror(rc));
    rr_exit(self, rc);
}

/* Those that were stopped for it, and the failed one; temporary children stay away once they have ended. */
static void restart_siblings(rr_actor_t *self, supervisor_t *s) {
    for (size_t i = s->restart_from; i < s->count; i++) {
        child_t *child = &s->children[i];
        bool wanted = child->stopping && child->spec.restart != RR_RESTART_TEMPORARY;
        child->stopping = false;
        if (wanted && child->addr == RR_NOBODY)
            restart_child(self, s, i);
    }
}

static bool wants_restart(rr_actor_t *self, const child_t *child, int reason) {
    if (rr__system_draining(rr_system_of(self)))
        return false;
    return child->spec.restart == RR_RESTART_PERMANENT || (child->spec.restart == RR_RESTART_TRANSIENT && reason != RR_OK);
}

static void child_ended(rr_actor_t *self, supervisor_t *s, size_t index, int reason) {
    child_t *child = &s->children[index];
    child->addr = RR_NOBODY;
    tell(s, index, RR_NOBODY, reason);
    if (child->stopping) {
        if (--s->waiting == 0)
            restart_siblings(self, s);
        return;
    }
    if (!wants_restart(self, child, reason))
        return;
    if (too_often(self, s)) {
        give_up(self, s, index);
        return;
    }
    if (s->spec.strategy == RR_ONE_FOR_ONE) {
        restart_child(self, s, index);
        return;
    }
    stop_siblings(self, s, index);
    child->stopping = true; /* started again with the others */
    if (!s->waiting)
        restart_siblings(self, s);
}

/* ---- The actor ----------------------------------------------------------------------------------------------------- */

static int start(rr_actor_t *self, void *state, const void *arg) {
    supervisor_t *s = state;
    int adopted = adopt_block(s, arg);
    if (adopted != RR_OK)
        return adopted;
    for (size_t i = 0; i < s->count; i++) {
        int rc = start_child(self, s, i);
        if (rc != RR_OK)
            rr_exit(self, rc);
        if (rc != RR_OK)
            break;
    }
    return RR_OK; /* finish() gives back what start took, also after a failure */
}

static void receive(rr_actor_t *self, void *state, rr_message_t *msg) {
    supervisor_t *s = state;
    if (rr_message_kind(msg) != RR_DOWN)
        return;
    for (size_t i = 0; i < s->count; i++)
        if (s->children[i].monitor == rr_message_request(msg)) {
            s->children[i].monitor = 0;
            child_ended(self, s, i, (int)rr_message_type(msg));
            return;
        }
}

static void finish(rr_actor_t *self, void *state, int reason) {
    supervisor_t *s = state;
    for (size_t i = s->count; i-- > 0;)
        if (s->children[i].addr != RR_NOBODY)
            rr_kill(rr_system_of(self), s->children[i].addr, reason == RR_OK ? RR_CANCELLED : reason);
    rr__free(s->block);
}

static const rr_behavior_t behavior = {
    .name = "supervisor",
    .state_size = sizeof(supervisor_t),
    .start = start,
    .receive = receive,
    .finish = finish,
};

int rr_supervisor_spawn(rr_system_t *system, const rr_supervisor_t *given, rr_addr_t *out) {
    rr_supervisor_t spec = *given;
    if (spec.max_restarts > MAX_RESTARTS)
        return RR_EINVAL;
    if (!spec.max_restarts)
        spec.max_restarts = DEFAULT_MAX_RESTARTS;
    if (!spec.within_ms)
        spec.within_ms = DEFAULT_WITHIN_MS;
    head_t *head = make_block(&spec);
    if (!head)
        return RR_ENOMEM;
    rr_spawn_t spawn = {.behavior = &behavior, .arg = head, .arg_size = head->size, .name = spec.name};
    int rc = rr_system_spawn(system, &spawn, out);
    rr__free(head);
    return rc;
}
