#include "actors/member.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <time.h>

#include "actors/cluster.h"
#include "actors/map.h"
#include "actors/registry_wire.h"
#include "runtime/clock.h"
#include "runtime/hash.h"
#include "runtime/remote.h"

#define DRAIN_MS 2000u  /* how long the agent's own end waits for the master */
#define LINGER_MS 5000u /* if it could not say so (net/mesh.c, say_leave): how long the link may still bring something */

enum { DO_MASTER = 0x0260, DO_DRAINING, DO_LEAVE, DO_GIVE_UP, DO_DEAD };
enum { TIMER_LEASE = 1, TIMER_FORGET };

typedef struct node {
    rr_node_identity_t identity;
    rr_node_status_t status;
    rr_addr_t agent;
    bool silent, seen;
} node_t;

typedef struct name { /* of the group; or, in `mine`, of a leased actor here */
    rr_addr_t addr;
    uint64_t epoch;
    bool seen;
    char text[RR_REG_NAME_SIZE];
} name_t;

typedef struct leaver {
    STAILQ_ENTRY(leaver) entry;
    unsigned node;
    uint64_t incarnation;
} leaver_t;

typedef struct dead { /* DO_DEAD */
    uint64_t incarnation;
    unsigned node;
} dead_t;

struct rr_member {
    rr_system_t *system;
    rr_member_options_t options;
    rr_addr_t addr;
    rr_registry_t *registry; /* agent's turns only, from here ... */
    rr_set_t mine;
    uint64_t until_ns, lease_timer;
    bool fenced, lost;
    STAILQ_HEAD(, leaver) leavers; /* one TIMER_FORGET each, in their order */
    rr_actor_t *self; /* ... to here */
    /* Others look at nodes, names and left under it; only the agent's turns change nodes and names. */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    rr_map_t nodes;
    rr_set_t names;
    bool left;
    _Atomic(uint64_t) shown_until_ns; /* until_ns for metrics and rr_member_fenced; written by the agent, relaxed: nothing hangs on it */
    rr_counter_t refused, fenced_times;
};

static bool has_text(const void *item, const void *key) { return !strcmp(((const name_t *)item)->text, key); }

static name_t *find(const rr_set_t *set, const char *text) {
    return rr_set_find(set, rr_hash_text(text), has_text, text);
}

/* NULL: out of memory. */
static name_t *add(rr_set_t *set, const char *text) {
    name_t *name = calloc(1, sizeof *name);
    if (!name || !rr_set_add(set, rr_hash_text(text), name)) {
        free(name);
        return NULL;
    }
    strcpy(name->text, text);
    return name;
}

static void drop(rr_set_t *set, name_t *name) {
    rr_set_remove(set, rr_hash_text(name->text), name);
    free(name);
}

static bool is_mine(const rr_member_t *member, unsigned node) { return node == member->options.self.node; }

/* ---- The names here ---- */

static void end_actor(rr_member_t *member, name_t *name) {
    rr_kill(member->system, name->addr, RR_STALE);
    drop(&member->mine, name);
}

static void on_granted(void *context, const char *text, rr_addr_t addr, uint64_t epoch) {
    rr_member_t *member = context;
    name_t *name = find(&member->mine, text);
    if (!name || name->addr != addr)
        return; /* it ended meanwhile: its release is on its way */
    name->epoch = epoch;
    if (rr_fence_own(member->system, text, addr, epoch) != RR_OK) { /* others could not tell it from an earlier owner */
        rr_log(member->system, RR_ERROR, "NAMES", "no memory for the epoch of %s: it ends", text);
        end_actor(member, name);
        return;
    }
    if (rr_lease_grant(member->system, addr, epoch))
        rr_log(member->system, RR_DEBUG, "NAMES", "%s is ours (epoch %llu)", text, (unsigned long long)epoch);
}

static void on_refused(void *context, const char *text, rr_addr_t addr, const rr_registry_owner_t *owner) {
    rr_member_t *member = context;
    name_t *name = find(&member->mine, text);
    if (!name || name->addr != addr)
        return;
    rr_count(&member->refused, 1);
    rr_log(member->system, RR_ERROR, "NAMES",
           "%s belongs to node %s: the one here ends (STALE); a name has one owner in its group: end that one first, or give "
           "this one another name",
           text, owner->node);
    end_actor(member, name);
}

static void on_waits(void *context, const char *text, rr_addr_t addr, const rr_registry_owner_t *owner, unsigned ms) {
    rr_member_t *member = context;
    if (owner->addr != RR_NOBODY)
        rr_log(member->system, RR_WARN, "NAMES", "%s waits for the lease of node %s to end, which is silent: %u ms at most",
               text, owner->node, ms);
    else
        rr_log(member->system, RR_INFO, "NAMES", "%s waits: the master was started anew and grants in %u ms", text, ms);
}

static void end_all(rr_member_t *member) {
    while (member->mine.count)
        for (uint32_t i = 0; i <= member->mine.mask; i++)
            if (member->mine.cells[i].item) {
                end_actor(member, member->mine.cells[i].item);
                break;
            }
}

static void on_lost(void *context, const char *why) {
    rr_member_t *member = context;
    member->lost = true;
    rr_lease_set(member->system, 0);
    atomic_store_explicit(&member->shown_until_ns, 0, memory_order_relaxed);
    rr_log(member->system, RR_FATAL, "NAMES", "this node is no member of group %s any more: %s; its named actors end (STALE)",
           member->options.self.group, why);
    if (member->options.lost) /* first: who would start them again must know */
        member->options.lost(member->options.context, why);
    end_all(member);
}

static void claim_here(rr_member_t *member, const rr_name_event_t *event) {
    name_t *name = find(&member->mine, event->name);
    if (!name)
        name = add(&member->mine, event->name);
    if (name)
        *name = (name_t){.addr = event->addr}, strcpy(name->text, event->name);
    if (name && !member->lost && member->registry->ops->claim(member->registry, event->name, event->addr) == RR_OK)
        return;
    int reason = member->lost ? RR_STALE : RR_ENOMEM; /* lost: that has been said, and why */
    rr_log(member->system, member->lost ? RR_DEBUG : RR_ERROR, "NAMES", "%s cannot be claimed and ends: %s", event->name,
           rr_strerror(reason));
    rr_kill(member->system, event->addr, reason);
}

static void release_here(rr_member_t *member, const rr_name_event_t *event) {
    name_t *name = find(&member->mine, event->name);
    if (name && name->addr == event->addr)
        drop(&member->mine, name);
    if (member->registry->ops->release(member->registry, event->name, event->addr) != RR_OK)
        rr_log(member->system, RR_ERROR, "NAMES", "no memory to release %s: it stays ours", event->name);
}

static void on_name_here(rr_member_t *member, rr_message_t *msg) {
    rr_name_event_t event;
    if (rr_message_size(msg) != sizeof event)
        return;
    memcpy(&event, rr_message_data(msg), sizeof event);
    if (event.registered)
        claim_here(member, &event);
    else
        release_here(member, &event);
}

/* ---- The lease ---- */

bool rr_member_fenced(rr_member_t *member) {
    uint64_t until = atomic_load_explicit(&member->shown_until_ns, memory_order_relaxed);
    return until != 0 && until != UINT64_MAX && rr_system_boot_ns(member->system) >= until; /* 0: no member yet, or no more */
}

static void watch_lease(rr_member_t *member) {
    if (member->lease_timer)
        (void)rr_timer_cancel(member->self, member->lease_timer);
    member->lease_timer = 0;
    uint64_t now = rr_system_boot_ns(member->system);
    if (member->until_ns == UINT64_MAX || member->fenced)
        return;
    uint64_t ms = member->until_ns > now ? (member->until_ns - now) / 1000000 + 1 : 1;
    if (rr_timer_start(member->self, ms, 0, TIMER_LEASE, &member->lease_timer) != RR_OK)
        rr_log(member->system, RR_ERROR, "NAMES", "no memory for a timer: the lease's end will go unsaid");
}

static void on_renewed(void *context, uint64_t until_ns) {
    rr_member_t *member = context;
    if (member->lost)
        return;
    member->until_ns = until_ns;
    atomic_store_explicit(&member->shown_until_ns, until_ns, memory_order_relaxed);
    rr_lease_set(member->system, until_ns);
    if (member->fenced && until_ns > rr_system_boot_ns(member->system)) {
        member->fenced = false;
        rr_log(member->system, RR_INFO, "NAMES", "the lease is renewed: named actors go on");
    }
    watch_lease(member);
}

static void on_lease_timer(rr_member_t *member) {
    member->lease_timer = 0;
    if (member->fenced || rr_system_boot_ns(member->system) < member->until_ns) {
        watch_lease(member);
        return;
    }
    member->fenced = true;
    rr_count(&member->fenced_times, 1);
    rr_log(member->system, RR_WARN, "NAMES",
           "FENCED: the master of group %s was not reached for a whole lease: %u named actors of node %s stand still until it is back",
           member->options.self.group, member->mine.count, member->options.self.name);
}

static void on_reachable(void *context, bool yes, const char *why) {
    rr_member_t *member = context;
    if (yes)
        rr_log(member->system, RR_INFO, "NAMES", "the master of group %s answers again", member->options.self.group);
    else if (rr_system_boot_ns(member->system) >= member->until_ns) /* the end of the lease is said apart */
        rr_log(member->system, RR_WARN, "NAMES", "the master of group %s cannot be reached (%s)", member->options.self.group, why);
    else
        rr_log(member->system, RR_WARN, "NAMES",
               "the master of group %s cannot be reached (%s): all that is known goes on as long as the lease lasts",
               member->options.self.group, why);
}

/* ---- What the registry tells ---- */

static void forget_link(rr_member_t *member, unsigned id, uint64_t incarnation) {
    member->options.links->forget(member->options.links_context, id, incarnation);
    rr_fences_forget(member->system, id);
}

/* A node that left says the last things, and that it leaves, on its links by itself, as its very last words. */
static void forget_link_later(rr_member_t *member, unsigned id, uint64_t incarnation) {
    leaver_t *leaver = malloc(sizeof *leaver);
    if (!leaver || rr_timer_start(member->self, LINGER_MS, 0, TIMER_FORGET, NULL) != RR_OK) {
        free(leaver);
        forget_link(member, id, incarnation);
        return;
    }
    leaver->node = id;
    leaver->incarnation = incarnation;
    STAILQ_INSERT_TAIL(&member->leavers, leaver, entry);
}

static void on_forget_timer(rr_member_t *member) {
    leaver_t *leaver = STAILQ_FIRST(&member->leavers);
    if (!leaver)
        return;
    STAILQ_REMOVE_HEAD(&member->leavers, entry);
    forget_link(member, leaver->node, leaver->incarnation);
    free(leaver);
}

static void forget_node(rr_member_t *member, node_t *node, bool left) {
    unsigned id = node->identity.node;
    uint64_t incarnation = node->identity.incarnation;
    pthread_mutex_lock(&member->lock);
    rr_map_take(&member->nodes, id);
    pthread_mutex_unlock(&member->lock);
    free(node);
    if (is_mine(member, id))
        return;
    rr_remote_names_forget(member->system, id);
    if (left)
        forget_link_later(member, id, incarnation);
    else
        forget_link(member, id, incarnation);
}

static void on_node(void *context, const rr_node_identity_t *who, rr_node_status_t status, rr_addr_t agent) {
    rr_member_t *member = context;
    node_t *node = rr_map_get(&member->nodes, who->node);
    if (node && node->identity.incarnation != who->incarnation) {
        forget_node(member, node, false);
        node = NULL;
    }
    bool fresh = !node;
    if (fresh)
        node = calloc(1, sizeof *node);
    pthread_mutex_lock(&member->lock);
    bool added = !fresh || (node && rr_map_put(&member->nodes, who->node, node));
    if (added) {
        node->identity = *who;
        node->status = status;
        node->agent = agent;
        node->seen = true;
    }
    pthread_mutex_unlock(&member->lock);
    int rc = !added ? RR_ENOMEM : is_mine(member, who->node) ? RR_OK : member->options.links->peer(member->options.links_context, who, false);
    if (rc != RR_OK)
        rr_log(member->system, RR_ERROR, "NAMES", "node %s cannot be taken up: %s", who->name, rr_strerror(rc));
    if (!added)
        free(node);
}

static void on_node_gone(void *context, unsigned id, uint64_t incarnation, bool left) {
    rr_member_t *member = context;
    node_t *node = rr_map_get(&member->nodes, id);
    if (!node || node->identity.incarnation != incarnation)
        return;
    if (!is_mine(member, id))
        rr_log(member->system, RR_INFO, "NAMES", "node %s (number %u) %s", node->identity.name, id, left ? "has left" : "is gone");
    forget_node(member, node, left);
}

/* The way to the master is there before the table that names it. */
static void on_node_died(rr_member_t *member, const dead_t *dead) {
    node_t *node = rr_map_get(&member->nodes, dead->node);
    if (node && node->identity.incarnation == dead->incarnation)
        on_node_gone(member, dead->node, dead->incarnation, false);
    else
        member->options.links->forget(member->options.links_context, dead->node, dead->incarnation);
}

/* In the table of all; NULL: gone, or no memory. */
static void put_name(rr_member_t *member, const char *text, rr_addr_t addr, uint64_t epoch) {
    name_t *name = find(&member->names, text);
    pthread_mutex_lock(&member->lock);
    if (addr == RR_NOBODY && name) {
        drop(&member->names, name);
    } else if (addr != RR_NOBODY) {
        if (!name)
            name = add(&member->names, text);
        if (name) {
            name->addr = addr;
            name->epoch = epoch;
            name->seen = true;
        }
    }
    pthread_mutex_unlock(&member->lock);
}

static void on_name(void *context, const char *text, rr_addr_t addr, uint64_t epoch) {
    rr_member_t *member = context;
    name_t *before = find(&member->names, text);
    rr_addr_t former = before ? before->addr : RR_NOBODY;
    put_name(member, text, addr, epoch);
    (void)rr_fence_name(member->system, text, addr, epoch); /* its answer is for who owns it */
    if (addr == RR_NOBODY)
        rr_remote_name_drop(member->system, text, RR_NOBODY);
    else if (is_mine(member, rr_addr_node(addr)))
        rr_remote_name_drop(member->system, text, former == addr ? RR_NOBODY : former);
    else if (rr_remote_name_set(member->system, text, addr) != RR_OK)
        rr_log(member->system, RR_ERROR, "NAMES", "no memory to note where %s is", text);
}

static void on_whole(void *context) {
    rr_member_t *member = context;
    for (uint32_t i = 0; member->nodes.cells && i <= member->nodes.mask; i++)
        if (member->nodes.cells[i].key)
            ((node_t *)member->nodes.cells[i].value)->seen = false;
    for (uint32_t i = 0; member->names.cells && i <= member->names.mask; i++)
        if (member->names.cells[i].item)
            ((name_t *)member->names.cells[i].item)->seen = false;
}

static bool drop_unseen(rr_member_t *member) {
    for (uint32_t i = 0; member->names.cells && i <= member->names.mask; i++) {
        name_t *name = member->names.cells[i].item;
        if (name && !name->seen) {
            char text[RR_REG_NAME_SIZE];
            strcpy(text, name->text);
            on_name(member, text, RR_NOBODY, name->epoch);
            return true;
        }
    }
    for (uint32_t i = 0; member->nodes.cells && i <= member->nodes.mask; i++) {
        node_t *node = member->nodes.cells[i].value;
        if (member->nodes.cells[i].key && !node->seen) {
            on_node_gone(member, node->identity.node, node->identity.incarnation, false);
            return true;
        }
    }
    return false;
}

static void on_settled(void *context) {
    while (drop_unseen(context))
        ;
}

static const rr_registry_events_t events = {
    .granted = on_granted,
    .refused = on_refused,
    .waits = on_waits,
    .renewed = on_renewed,
    .reachable = on_reachable,
    .lost = on_lost,
    .whole = on_whole,
    .settled = on_settled,
    .node = on_node,
    .node_gone = on_node_gone,
    .name = on_name,
};

/* ---- Leaving ---- */

static void has_left(void *context) {
    rr_member_t *member = context;
    pthread_mutex_lock(&member->lock);
    member->left = true;
    pthread_cond_broadcast(&member->changed);
    pthread_mutex_unlock(&member->lock);
}

/* Nobody works under a name that is given back. */
static void leave(rr_member_t *member, unsigned deadline_ms) {
    rr_lease_set(member->system, 0);
    pthread_mutex_lock(&member->lock);
    bool again = member->left;
    pthread_mutex_unlock(&member->lock);
    if (!again)
        member->registry->ops->leave(member->registry, deadline_ms, has_left, member);
}

static void has_left_for_good(void *context) {
    rr_member_t *member = context;
    has_left(member);
    rr_exit(member->self, RR_OK);
}

void rr_member_leave(rr_member_t *member, unsigned deadline_ms) {
    struct timespec until = rr_machine_in(deadline_ms * RR_NS_PER_MS);
    uint32_t ms = deadline_ms;
    int rc = rr_system_send(member->system, member->addr, DO_LEAVE, &ms, sizeof ms);
    pthread_mutex_lock(&member->lock);
    while (rc == RR_OK && !member->left)
        if (pthread_cond_timedwait(&member->changed, &member->lock, &until) == ETIMEDOUT)
            break;
    pthread_mutex_unlock(&member->lock);
}

/* ---- The actor ---- */

static int agent_start(rr_actor_t *self, void *state, const void *arg) {
    rr_member_t *member = *(rr_member_t *const *)arg;
    *(rr_member_t **)state = member;
    member->self = self;
    rr_registry_config_t config = {
        .self = member->options.self,
        .master = member->options.master,
        .place = member->options.place ? member->options.place : "",
        .events = &events,
        .context = member,
    };
    int rc = member->options.registry->open(self, &config, &member->registry);
    if (rc != RR_OK)
        return rc;
    rc = rr_system_watch_names(member->system, rr_self(self));
    if (rc != RR_OK) {
        member->registry->ops->close(member->registry);
        member->registry = NULL;
    }
    return rc;
}

static void answer_links(rr_actor_t *self, rr_member_t *member, rr_message_t *msg) {
    const rr_member_links_t *links = member->options.links;
    char *text = links->describe ? links->describe(member->options.links_context) : NULL;
    rr_reply(self, msg, text ? text : "[]", text ? strlen(text) : 2);
    free(text);
}

static void give_up(rr_member_t *member, rr_message_t *msg) {
    char why[RR_REG_WHY];
    if (rr_system_boot_ns(member->system) < member->until_ns || member->lost)
        return; /* with a lease, or once more: anybody could say so; and it says so again */
    snprintf(why, sizeof why, "%.*s", (int)rr_message_size(msg), (const char *)rr_message_data(msg));
    on_lost(member, why);
}

static void on_send(rr_member_t *member, rr_message_t *msg) {
    const rr_registry_ops_t *ops = member->registry->ops;
    rr_node_identity_t master;
    dead_t dead;
    uint32_t ms;
    bool from_here = rr_message_from(msg) == RR_NOBODY;
    switch (rr_message_type(msg)) {
    case RR_TYPE_NAME:
        on_name_here(member, msg);
        break;
    case RR_REG_DRAIN:
        if (member->options.drain)
            member->options.drain(member->options.context);
        break;
    case DO_MASTER:
        if (from_here && rr_message_size(msg) == sizeof master) {
            memcpy(&master, rr_message_data(msg), sizeof master);
            ops->master(member->registry, &master);
        }
        break;
    case DO_DRAINING:
        if (from_here)
            ops->draining(member->registry);
        break;
    case DO_GIVE_UP:
        if (from_here)
            give_up(member, msg);
        break;
    case DO_DEAD:
        if (from_here && rr_message_size(msg) == sizeof dead) { /* the master says the same, unless it is the one that died */
            memcpy(&dead, rr_message_data(msg), sizeof dead);
            on_node_died(member, &dead);
        }
        break;
    case DO_LEAVE:
        if (from_here && rr_message_size(msg) == sizeof ms) {
            memcpy(&ms, rr_message_data(msg), sizeof ms);
            leave(member, ms);
        }
        break;
    }
}

static void agent_receive(rr_actor_t *self, void *state, rr_message_t *msg) {
    rr_member_t *member = *(rr_member_t **)state;
    if (member->registry->ops->receive(member->registry, msg))
        return;
    if (rr_message_kind(msg) == RR_TIMER && rr_message_type(msg) == TIMER_FORGET)
        on_forget_timer(member);
    else if (rr_message_kind(msg) == RR_TIMER)
        on_lease_timer(member);
    else if (rr_message_kind(msg) == RR_CALL && rr_message_type(msg) == RR_REG_LINKS)
        answer_links(self, member, msg);
    else if (rr_message_kind(msg) == RR_SEND)
        on_send(member, msg);
}

static void agent_turn_end(rr_actor_t *self, void *state) {
    rr_member_t *member = *(rr_member_t **)state;
    if (member && member->registry)
        member->registry->ops->turn_end(member->registry);
}

static void agent_drain(rr_actor_t *self, void *state) {
    rr_member_t *member = *(rr_member_t **)state;
    pthread_mutex_lock(&member->lock);
    bool left = member->left;
    pthread_mutex_unlock(&member->lock);
    if (left)
        rr_exit(self, RR_OK);
    else
        member->registry->ops->leave(member->registry, DRAIN_MS, has_left_for_good, member);
}

static void agent_finish(rr_actor_t *self, void *state, int reason) {
    rr_member_t *member = *(rr_member_t **)state;
    member->registry->ops->close(member->registry);
    member->registry = NULL;
    has_left(member);
}

static const rr_behavior_t agent_behavior = {
    .name = "agent",
    .state_size = sizeof(rr_member_t *),
    .start = agent_start,
    .receive = agent_receive,
    .turn_end = agent_turn_end,
    .drain = agent_drain,
    .finish = agent_finish,
};

int rr_member_create(rr_system_t *system, const rr_member_options_t *options, rr_member_t **out) {
    rr_member_t *member = calloc(1, sizeof *member);
    if (!member)
        return RR_ENOMEM;
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&member->changed, &attr);
    pthread_condattr_destroy(&attr);
    pthread_mutex_init(&member->lock, NULL);
    STAILQ_INIT(&member->leavers);
    member->system = system;
    member->options = *options;
    rr_spawn_t spec = {
        .behavior = &agent_behavior, .arg = &member, .arg_size = sizeof member, .executor = options->executor};
    int rc = rr_system_spawn(system, &spec, &member->addr);
    if (rc == RR_OK)
        *out = member;
    else
        rr_member_free(member);
    return rc;
}

static void free_all(rr_set_t *set) {
    for (uint32_t i = 0; set->cells && i <= set->mask; i++)
        free(set->cells[i].item);
    rr_set_free(set);
}

void rr_member_free(rr_member_t *member) {
    if (!member)
        return;
    for (leaver_t *leaver; (leaver = STAILQ_FIRST(&member->leavers));) {
        STAILQ_REMOVE_HEAD(&member->leavers, entry);
        free(leaver);
    }
    free_all(&member->mine);
    free_all(&member->names);
    for (uint32_t i = 0; member->nodes.cells && i <= member->nodes.mask; i++)
        free(member->nodes.cells[i].value);
    rr_map_free(&member->nodes);
    pthread_mutex_destroy(&member->lock);
    pthread_cond_destroy(&member->changed);
    free(member);
}

rr_addr_t rr_member_addr(const rr_member_t *member) { return member->addr; }

int rr_member_master(rr_member_t *member, const rr_node_identity_t *master) {
    return rr_system_send(member->system, member->addr, DO_MASTER, master, sizeof *master);
}

void rr_member_given_up(rr_member_t *member, const char *why) {
    if (rr_system_send(member->system, member->addr, DO_GIVE_UP, why, strlen(why)) != RR_OK)
        return; /* the agent is gone: so is what it could lose */
}

void rr_member_node_died(rr_member_t *member, unsigned id, uint64_t incarnation) {
    dead_t dead = {incarnation, id};
    int rc = rr_system_send(member->system, member->addr, DO_DEAD, &dead, sizeof dead);
    if (rc != RR_OK && rc != RR_NOROUTE) /* without an agent nobody waits for anybody */
        rr_log(member->system, RR_WARN, "NAMES", "node number %u is dead, but its links are waited for: %s", id, rr_strerror(rc));
}

void rr_member_draining(rr_member_t *member) {
    if (rr_system_send(member->system, member->addr, DO_DRAINING, NULL, 0) != RR_OK)
        rr_log(member->system, RR_WARN, "NAMES", "the others cannot be told that this node drains");
}

/* ---- For others to look at ---- */

bool rr_member_knows(rr_member_t *member, unsigned id, uint64_t incarnation) {
    pthread_mutex_lock(&member->lock);
    node_t *node = rr_map_get(&member->nodes, id);
    bool knows = node && node->identity.incarnation == incarnation;
    pthread_mutex_unlock(&member->lock);
    return knows;
}

void rr_member_link(rr_member_t *member, unsigned id, uint64_t incarnation, bool silent) {
    pthread_mutex_lock(&member->lock);
    node_t *node = rr_map_get(&member->nodes, id);
    if (node && node->identity.incarnation == incarnation)
        node->silent = silent;
    pthread_mutex_unlock(&member->lock);
}

size_t rr_member_nodes(rr_member_t *member, rr_cluster_node_t *out, size_t max) {
    size_t count = 0;
    pthread_mutex_lock(&member->lock);
    for (uint32_t i = 0; member->nodes.cells && i <= member->nodes.mask; i++) {
        const node_t *node = member->nodes.cells[i].value;
        if (!member->nodes.cells[i].key)
            continue;
        if (count < max)
            out[count] = (rr_cluster_node_t){.identity = node->identity,
                                             .status = node->silent && node->status == RR_NODE_ALIVE ? RR_NODE_SUSPECT
                                                                                                     : node->status};
        count++;
    }
    pthread_mutex_unlock(&member->lock);
    return count;
}

size_t rr_member_names(rr_member_t *member, rr_cluster_name_t *out, size_t max) {
    size_t count = 0;
    pthread_mutex_lock(&member->lock);
    for (uint32_t i = 0; member->names.cells && i <= member->names.mask; i++) {
        const name_t *name = member->names.cells[i].item;
        if (!name)
            continue;
        if (count < max) {
            out[count] = (rr_cluster_name_t){.addr = name->addr, .epoch = name->epoch};
            strcpy(out[count].name, name->text);
        }
        count++;
    }
    pthread_mutex_unlock(&member->lock);
    return count;
}

void rr_member_collect(void *context, rr_metrics_writer_t *writer) {
    rr_member_t *member = context;
    const rr_metric_type_t counter = RR_METRIC_COUNTER, gauge = RR_METRIC_GAUGE;
    uint64_t until = atomic_load_explicit(&member->shown_until_ns, memory_order_relaxed);
    uint64_t now = rr_system_boot_ns(member->system);
    double left = until == UINT64_MAX ? -1 : until > now ? (double)(until - now) / 1e9 : 0;
    pthread_mutex_lock(&member->lock);
    double nodes = member->nodes.count, names = member->names.count;
    pthread_mutex_unlock(&member->lock);
    rr_metrics_write(writer, "rr_cluster_nodes", gauge, "Nodes that this one knows of, itself included.", NULL, nodes);
    rr_metrics_write(writer, "rr_cluster_names", gauge, "Names of the group that this node knows of.", NULL, names);
    rr_metrics_write(writer, "rr_cluster_lease_left_seconds", gauge, "How long named actors may run still; -1: for ever.",
                     NULL, left);
    rr_metrics_write(writer, "rr_cluster_fenced_actors", gauge, "Named actors that stand still without a lease.", NULL,
                     rr_lease_suspended(member->system));
    rr_metrics_write(writer, "rr_cluster_fenced_total", counter, "Times the lease ran out.", NULL,
                     (double)rr_counted(&member->fenced_times));
    rr_metrics_write(writer, "rr_cluster_names_refused_total", counter, "Named actors ended as another node has the name.",
                     NULL, (double)rr_counted(&member->refused));
}
