#include <string.h>

#include "runtime/alloc.h"
#include "runtime/system.h"

/* A supervisor is an ordinary actor that monitors its children. On the n-th restart within the period it gives up: a child
 * that cannot live is an error to be seen, not to be repeated. */

#define DEFAULT_MAX_RESTARTS 5
#define DEFAULT_WITHIN_MS    60000

typedef struct child {
    rr_child_t spec;
    char *name;
    void *arg;
    rr_addr_t addr; /* RR_NOBODY while it does not run */
    uint64_t monitor;
    bool stopping; /* killed by the supervisor, to be started again */
} child_t;

typedef struct supervisor {
    rr_supervisor_t spec;
    child_t *children;
    size_t count;
    uint64_t *restarts; /* times of the latest, a ring of max_restarts + 1 */
    unsigned restart_count;
    size_t waiting; /* children killed whose end is awaited before the restart goes on */
    size_t restart_from;
} supervisor_t;

static void tell(supervisor_t *s, size_t index, rr_addr_t addr, int reason) {
    if (s->spec.event)
        s->spec.event(s->spec.context, index, addr, reason);
}

/* ---- Copying the specification ------------------------------------------------------------------------------------ */

static void free_children(child_t *children, size_t count) {
    for (size_t i = 0; i < count; i++) {
        rr__free(children[i].name);
        rr__free(children[i].arg);
    }
    rr__free(children);
}

static bool copy_child(child_t *to, const rr_child_t *from) {
    to->spec = *from;
    if (from->spawn.name && !(to->name = rr__strdup(from->spawn.name)))
        return false;
    to->spec.spawn.name = to->name;
    if (from->spawn.arg_size) {
        to->arg = rr__malloc(from->spawn.arg_size);
        if (!to->arg)
            return false;
        memcpy(to->arg, from->spawn.arg, from->spawn.arg_size);
        to->spec.spawn.arg = to->arg;
    }
    return true;
}

static child_t *copy_children(const rr_child_t *from, size_t count) {
    child_t *children = rr__calloc(count ? count : 1, sizeof *children);
    for (size_t i = 0; children && i < count; i++)
        if (!copy_child(&children[i], &from[i])) {
            free_children(children, count);
            return NULL;
        }
    return children;
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

static void give_up(rr_actor_t *self, supervisor_t *s, size_t index) {
    rr_log(rr_system_of(self), RR_ERROR, "SUPERVISOR", "%s: child %s was restarted more than %u times within %u ms; giving up",
           *rr_name(self) ? rr_name(self) : "supervisor",
           s->children[index].name ? s->children[index].name : s->children[index].spec.spawn.behavior->name,
           s->spec.max_restarts, s->spec.within_ms);
    tell(s, index, RR_NOBODY, RR_ELIMIT);
    rr_exit(self, RR_ELIMIT);
}

/* Kills what stands with it according to the strategy; the restart goes on when all of them have ended. */
static void stop_siblings(rr_actor_t *self, supervisor_t *s, size_t failed) {
    size_t first = s->spec.strategy == RR_ONE_FOR_ALL ? 0 : failed;
    s->restart_from = first;
    for (size_t i = s->count; i-- > first;) {
        child_t *child = &s->children[i];
        if (child->addr == RR_NOBODY)
            continue;
        child->stopping = true;
        s->waiting++;
        rr_kill(rr_system_of(self), child->addr, RR_CANCELLED);
    }
}

static void start_from(rr_actor_t *self, supervisor_t *s, size_t first) {
    for (size_t i = first; i < s->count; i++) {
        child_t *child = &s->children[i];
        if (child->addr != RR_NOBODY || (!child->stopping && i != first && child->spec.restart == RR_RESTART_TEMPORARY))
            continue;
        int rc = start_child(self, s, i);
        if (rc != RR_OK) {
            rr_log(rr_system_of(self), RR_ERROR, "SUPERVISOR", "child %zu cannot be started: %s", i, rr_strerror(rc));
            rr_exit(self, rc);
            return;
        }
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
            start_from(self, s, s->restart_from);
        return;
    }
    if (!wants_restart(self, child, reason))
        return;
    if (too_often(self, s)) {
        give_up(self, s, index);
        return;
    }
    if (s->spec.strategy == RR_ONE_FOR_ONE) {
        start_from(self, s, index);
        return;
    }
    child->stopping = true; /* started again with the others */
    stop_siblings(self, s, index);
    if (!s->waiting)
        start_from(self, s, s->restart_from);
}

/* ---- The actor ----------------------------------------------------------------------------------------------------- */

static int start(rr_actor_t *self, void *state, const void *arg) {
    supervisor_t *s = state;
    *s = *(const supervisor_t *)arg; /* owns the copies from now on */
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
    free_children(s->children, s->count);
    rr__free(s->restarts);
}

static const rr_behavior_t behavior = {
    .name = "supervisor",
    .state_size = sizeof(supervisor_t),
    .start = start,
    .receive = receive,
    .finish = finish,
};

int rr_supervisor_spawn(rr_system_t *system, const rr_supervisor_t *spec, rr_addr_t *out) {
    supervisor_t arg = {.spec = *spec, .count = spec->child_count};
    if (!arg.spec.max_restarts)
        arg.spec.max_restarts = DEFAULT_MAX_RESTARTS;
    if (!arg.spec.within_ms)
        arg.spec.within_ms = DEFAULT_WITHIN_MS;
    arg.spec.children = NULL;
    arg.spec.name = NULL;
    arg.children = copy_children(spec->children, spec->child_count);
    arg.restarts = rr__calloc(arg.spec.max_restarts + 1, sizeof *arg.restarts);
    int rc = RR_ENOMEM;
    if (arg.children && arg.restarts) {
        rr_spawn_t spawn = {.behavior = &behavior, .arg = &arg, .arg_size = sizeof arg, .name = spec->name};
        rc = rr_system_spawn(system, &spawn, out);
    }
    if (rc != RR_OK) {
        if (arg.children)
            free_children(arg.children, arg.count);
        rr__free(arg.restarts);
    }
    return rc;
}
