#include "actors/master.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "actors/master_impl.h"
#include "runtime/clock.h"

#define RESERVED_NS (60 * RR_NS_PER_S) /* an id that was asked for and never used */
#define TICK 1u
#define DEAD 2u /* from this process only: dead_t */

typedef struct dead {
    uint64_t incarnation;
    unsigned node;
} dead_t;

static uint64_t lease_ns(const rr_master_t *master) { return master->options.lease_ms * 1000000ull; }

/* ---- Nodes ---- */

static rr__node_t *find_node(rr_master_t *master, unsigned id) { return rr_map_get(&master->nodes, id); }

/* The member of that id and incarnation; NULL. */
rr__node_t *rr__master_member(rr_master_t *master, unsigned id, uint64_t incarnation) {
    rr__node_t *node = find_node(master, id);
    return node && node->phase == RR__MEMBER && node->identity.incarnation == incarnation ? node : NULL;
}

static bool was_here(const rr_master_t *master, unsigned id) { return master->gone[id / 8] >> id % 8 & 1; }

/* Is somebody there, as far as one can tell? */
bool rr__master_is_lively(rr_master_t *master, const rr__node_t *node) {
    if (node->identity.node == master->options.self.node)
        return true;
    if (node->link == RR__LINK_UNKNOWN)
        return rr__master_boot(master) - node->heard_ns < lease_ns(master) * 2 / 3;
    return node->link == RR__LINK_UP;
}

static rr__node_t *find_by_name(rr_master_t *master, const char *text, const rr__node_t *not_this) {
    for (uint32_t i = 0; master->nodes.cells && i <= master->nodes.mask; i++) {
        rr__node_t *node = master->nodes.cells[i].value;
        if (master->nodes.cells[i].key && node != not_this && !node->replaced && !strcmp(node->identity.name, text))
            return node;
    }
    return NULL;
}

static void set_heard(rr_master_t *master, rr__node_t *node) {
    pthread_mutex_lock(&master->lock);
    node->heard_ns = rr__master_boot(master);
    pthread_mutex_unlock(&master->lock);
}

static rr__node_t *add_node(rr_master_t *master, const rr_node_identity_t *who) {
    rr__node_t *node = master->nodes.count < master->options.max_nodes ? calloc(1, sizeof *node) : NULL;
    if (!node)
        return NULL;
    node->identity = *who;
    LIST_INIT(&node->names);
    node->heard_ns = rr__master_boot(master);
    pthread_mutex_lock(&master->lock);
    bool added = rr_map_put(&master->nodes, who->node, node);
    pthread_mutex_unlock(&master->lock);
    if (!added) {
        free(node);
        return NULL;
    }
    master->gone[who->node / 8] &= (uint8_t)~(1u << who->node % 8);
    return node;
}

static void drop_node(rr_master_t *master, rr__node_t *node, bool left) {
    while (!LIST_EMPTY(&node->names))
        rr__master_name_free(master, LIST_FIRST(&node->names));
    if (node->phase == RR__MEMBER) {
        rr__master_tell_gone(master, node, left);
        master->gone[node->identity.node / 8] |= (uint8_t)(1u << node->identity.node % 8);
        rr_count(&master->members, (uint64_t)-1);
    }
    pthread_mutex_lock(&master->lock);
    rr_map_take(&master->nodes, node->identity.node);
    pthread_mutex_unlock(&master->lock);
    free(node);
}

static void become_member(rr_master_t *master, rr__node_t *node) {
    if (node->phase == RR__MEMBER)
        return;
    node->phase = RR__MEMBER;
    rr_count(&master->members, 1);
    rr_log(master->system, RR_INFO, "BROKER", "node %s joins as number %u%s%s", node->identity.name,
           node->identity.node, node->identity.address[0] ? ", at " : "", node->identity.address);
}

/* ---- Joining (loop thread) ---- */

static unsigned free_id(rr_master_t *master) {
    for (unsigned tries = 1; tries < RR__MASTER_NODES; tries++) {
        unsigned id = master->next_id;
        master->next_id = id + 1 < RR__MASTER_NODES - 1 ? id + 1 : 1; /* the last is nobody's (cluster.c) */
        if (!find_node(master, id) && id != master->options.self.node)
            return id;
    }
    return 0;
}

int rr_master_join(rr_master_t *master, rr_node_identity_t *who, char *why, size_t why_size) {
    if (atomic_load_explicit(&master->deposed, memory_order_relaxed))
        return rr_fail(RR_EREFUSED, why, why_size, "this master was replaced by a later one: end it");
    if (!who->name[0] || !who->incarnation)
        return rr_fail(RR_EREFUSED, why, why_size, "a node without a name");
    rr__node_t *same = find_by_name(master, who->name, NULL);
    if (same && same->phase == RR__RESERVED) {
        drop_node(master, same, true);
        same = NULL;
    }
    if (same && rr__master_is_lively(master, same))
        return rr_fail(
            RR_EREFUSED, why, why_size,
            "a node named %s is alive already (number %u%s%s): end that process, or give this one another name",
            who->name, same->identity.node, same->identity.address[0] ? ", at " : "", same->identity.address);
    who->node = free_id(master);
    if (!who->node || !add_node(master, who))
        return rr_fail(RR_ELIMIT, why, why_size, "the group has %u nodes, which is the limit", master->nodes.count);
    if (same) {
        same->replaced = true;
        rr_log(master->system, RR_WARN, "BROKER", "node %s (number %u) is silent; another process takes its place as number %u",
               who->name, same->identity.node, who->node);
    }
    return RR_OK;
}

int rr_master_unknown(rr_master_t *master, const rr_node_identity_t *who, char *why, size_t why_size) {
    rr__node_t *node = find_node(master, who->node);
    if (was_here(master, who->node) || (node && node->identity.incarnation != who->incarnation))
        return rr_fail(RR_ESTATE, why, why_size, "node number %u (%s) was given up, as it was not heard of for a lease",
                       who->node, who->name);
    return RR_OK;
}

void rr_master_link(rr_master_t *master, unsigned id, uint64_t incarnation, bool up) {
    rr__node_t *node = find_node(master, id);
    if (node && node->identity.incarnation == incarnation)
        node->link = up ? RR__LINK_UP : RR__LINK_CUT;
}

bool rr_master_visitor_left(rr_master_t *master, unsigned id, uint64_t incarnation) {
    rr__node_t *node = find_node(master, id);
    if (!node || node->identity.incarnation != incarnation || node->phase == RR__MEMBER)
        return false;
    drop_node(master, node, true);
    return true;
}

uint64_t rr_master_lease_left_ms(rr_master_t *master, unsigned id) {
    if (id == master->options.self.node)
        return UINT64_MAX;
    pthread_mutex_lock(&master->lock);
    rr__node_t *node = find_node(master, id);
    uint64_t end = node ? node->heard_ns + lease_ns(master) : 0, now = rr__master_boot(master);
    pthread_mutex_unlock(&master->lock);
    return end > now ? (end - now) / 1000000 : 0;
}

/* ---- Calls ---- */

void rr__master_answer(rr_actor_t *self, rr_message_t *msg, rr_reg_out_t *out) {
    if (out->failed)
        rr_reply_error(self, msg, RR_EHANDLER, rr_strerror(RR_ENOMEM));
    else
        rr_reply(self, msg, out->data, out->size);
    rr_reg_out_free(out);
}

void rr__master_answer_status(rr_actor_t *self, rr_message_t *msg, uint8_t status, const char *why) {
    rr_reg_out_t out = {0};
    rr_reg_put8(&out, status);
    rr_reg_put_str(&out, why);
    rr__master_answer(self, msg, &out);
}

/* A later master was heard of: nothing may be granted here any more. */
static void depose(rr_master_t *master, uint32_t term) {
    if (atomic_exchange_explicit(&master->deposed, true, memory_order_relaxed))
        return;
    rr_lease_set(master->system, 0);
    rr_log(master->system, RR_FATAL, "BROKER",
           "group %s has a later master (term %u, this one's is %u): this one grants nothing any more; end this process",
           master->options.self.group, term, master->options.term);
}

bool rr__master_is_stale(rr_master_t *master, uint32_t term_seen, unsigned id, uint64_t incarnation, char why[RR_REG_WHY]) {
    rr__node_t *node = find_node(master, id);
    if (term_seen > master->options.term)
        depose(master, term_seen);
    if (atomic_load_explicit(&master->deposed, memory_order_relaxed))
        snprintf(why, RR_REG_WHY, "this master was replaced by a later one");
    else if (was_here(master, id))
        snprintf(why, RR_REG_WHY, "its lease ran out, and its names may be others' by now");
    else if (node && node->identity.incarnation != incarnation)
        snprintf(why, RR_REG_WHY, "its node number was given to another process");
    else if (node && node->replaced)
        snprintf(why, RR_REG_WHY, "another process has taken its place under the name %.64s", node->identity.name);
    else
        return false;
    return true;
}

static void put_state(rr_master_t *master, rr_reg_out_t *out, unsigned id) {
    rr_reg_put8(out, RR_REG_OK);
    rr_reg_put_str(out, "");
    rr_reg_put32(out, master->options.term);
    rr_reg_put32(out, id == master->options.self.node ? RR_REG_FOR_EVER : master->options.lease_ms);
}

/* One name that a node says it has: keeps it, or tells that it is another's. */
static bool keep_name(rr_master_t *master, rr__node_t *node, const char *text, rr_addr_t addr, uint64_t epoch, bool held,
                      rr_reg_out_t *lost) {
    rr__name_t *name = rr__master_name_find(master, text);
    if (!name && held && rr__master_in_grace(master) && epoch >> 32 < master->options.term)
        name = rr__master_name_own(master, node, text, addr, epoch);
    if (name && name->node != node && held && rr__master_in_grace(master) && epoch > name->epoch) {
        rr__master_name_free(master, name); /* its holder hears that it lost it with the next word */
        name = rr__master_name_own(master, node, text, addr, epoch);
    }
    if (!name || (name->node == node && name->addr == addr))
        return false; /* kept, or to be claimed anew */
    rr_reg_put_str(lost, text);
    rr_reg_put64(lost, addr);
    rr_reg_put64(lost, name->epoch);
    rr_reg_put64(lost, name->addr);
    rr_reg_put_str(lost, name->node->identity.name);
    return true;
}

/* Names that it has here and does not speak of any more were released meanwhile. */
static void free_unsaid(rr_master_t *master, rr__node_t *node, const rr_reg_in_t *said, uint32_t count) {
    for (rr__name_t *name = LIST_FIRST(&node->names), *next; name; name = next) {
        rr_reg_in_t in = *said;
        bool found = false;
        next = LIST_NEXT(name, entry);
        for (uint32_t i = 0; i < count && !found; i++) {
            char text[RR_REG_NAME_SIZE];
            rr_reg_get_name(&in, text);
            found = rr_reg_get64(&in) == name->addr && !strcmp(text, name->text);
            (void)rr_reg_get64(&in);
            (void)rr_reg_get8(&in);
        }
        if (!found)
            rr__master_name_free(master, name);
    }
}

static int take_hello(rr_master_t *master, rr_message_t *msg, const rr_node_identity_t *who, uint8_t flags, rr__node_t **out) {
    rr__node_t *node = find_node(master, who->node);
    if (!node)
        node = add_node(master, who);
    if (!node)
        return RR_ELIMIT;
    bool news = node->phase != RR__MEMBER || node->agent != rr_message_from(msg) ||
                strcmp(node->identity.address, who->address) || node->draining != ((flags & RR_REG_DRAINING) != 0);
    become_member(master, node);
    node->identity = *who;
    node->agent = rr_message_from(msg);
    node->draining = flags & RR_REG_DRAINING;
    set_heard(master, node);
    if (news)
        rr__master_tell_node(master, node);
    *out = node;
    return RR_OK;
}

/* Both listen, or listened, at one address of one machine since one boot: only one process can, and a stopped one still does.
 * (A process that leaves closes its port too, but gives its names back before.) */
static bool proves_dead(const rr__node_t *node, const rr__node_t *former) {
    return node->place[0] && !strcmp(node->place, former->place) && node->identity.address[0] &&
           !strcmp(node->identity.address, former->identity.address);
}

static rr__node_t *find_dead(rr_master_t *master, const rr__node_t *node) {
    for (uint32_t i = 0; master->nodes.cells && i <= master->nodes.mask; i++) {
        rr__node_t *former = master->nodes.cells[i].value;
        if (master->nodes.cells[i].key && former != node && former->replaced &&
            !strcmp(former->identity.name, node->identity.name) && proves_dead(node, former))
            return former;
    }
    return NULL;
}

static void take_over(rr_master_t *master, const rr__node_t *node, rr__node_t *former) {
    rr_log(master->system, RR_INFO, "BROKER", "node %s (number %u) is dead: number %u listens in its place",
           former->identity.name, former->identity.node, node->identity.node);
    drop_node(master, former, false);
}

static void on_hello(rr_actor_t *self, rr_master_t *master, rr_message_t *msg) {
    rr_reg_in_t in = rr_reg_in_of(msg);
    uint32_t term = rr_reg_get32(&in);
    uint64_t table = rr_reg_get64(&in), version = rr_reg_get64(&in);
    uint8_t flags = rr_reg_get8(&in);
    char why[RR_REG_WHY], text[RR_REG_NAME_SIZE];
    rr_node_identity_t who;
    char place[RR_REG_PLACE];
    rr_reg_get_identity(&in, master->options.self.group, &who);
    rr_reg_get_str(&in, place, sizeof place);
    uint32_t count = rr_reg_get32(&in);
    if (in.bad || rr_addr_node(rr_message_from(msg)) != who.node) {
        rr_reply_error(self, msg, RR_EHANDLER, rr_strerror(RR_EPROTO));
        return;
    }
    if (rr__master_is_stale(master, term, who.node, who.incarnation, why)) {
        rr__master_answer_status(self, msg, RR_REG_STALE, why);
        return;
    }
    rr__node_t *known = find_node(master, who.node), *same = find_by_name(master, who.name, known), *node;
    if (same && same->phase == RR__MEMBER && (!known || known->phase == RR__RESERVED) && rr__master_is_lively(master, same)) {
        rr__master_answer_status(self, msg, RR_REG_STALE, "another node of its name is alive");
        return;
    }
    if (same)
        same->replaced = true;
    if (take_hello(master, msg, &who, flags, &node) != RR_OK) {
        rr_reply_error(self, msg, RR_EHANDLER, rr_strerror(RR_ELIMIT));
        return;
    }
    memcpy(node->place, place, sizeof place);
    for (rr__node_t *dead; (dead = find_dead(master, node));)
        take_over(master, node, dead);
    rr_reg_out_t out = {0}, lost = {0};
    uint32_t lost_count = 0;
    rr_reg_in_t names = in;
    for (uint32_t i = 0; i < count && !in.bad; i++) {
        rr_reg_get_name(&in, text);
        uint64_t addr = rr_reg_get64(&in), epoch = rr_reg_get64(&in);
        bool held = rr_reg_get8(&in);
        if (!in.bad && rr_addr_node(addr) == who.node)
            lost_count += keep_name(master, node, text, addr, epoch, held, &lost);
    }
    if (!in.bad)
        free_unsaid(master, node, &names, count);
    put_state(master, &out, who.node);
    rr_reg_put32(&out, lost_count);
    rr_reg_put_bytes(&out, lost.data, lost.size);
    out.failed |= lost.failed;
    rr__master_put_changes(master, &out, table, version);
    rr_reg_out_free(&lost);
    rr__master_answer(self, msg, &out);
}

static void on_renew(rr_actor_t *self, rr_master_t *master, rr_message_t *msg) {
    rr_reg_in_t in = rr_reg_in_of(msg);
    uint32_t term = rr_reg_get32(&in);
    uint64_t table = rr_reg_get64(&in), version = rr_reg_get64(&in);
    uint8_t flags = rr_reg_get8(&in);
    unsigned id = rr_reg_get16(&in);
    uint64_t incarnation = rr_reg_get64(&in);
    char why[RR_REG_WHY];
    if (!rr_reg_done(&in) || rr_addr_node(rr_message_from(msg)) != id) {
        rr_reply_error(self, msg, RR_EHANDLER, rr_strerror(RR_EPROTO));
        return;
    }
    if (rr__master_is_stale(master, term, id, incarnation, why)) {
        rr__master_answer_status(self, msg, RR_REG_STALE, why);
        return;
    }
    rr__node_t *node = rr__master_member(master, id, incarnation);
    if (!node) { /* not known since a restart: it shall say what it has */
        rr__master_answer_status(self, msg, RR_REG_UNKNOWN, "");
        return;
    }
    set_heard(master, node);
    rr_count(&master->renewals, 1);
    if (node->draining != ((flags & RR_REG_DRAINING) != 0)) {
        node->draining = flags & RR_REG_DRAINING;
        rr__master_tell_node(master, node);
    }
    rr_reg_out_t out = {0};
    put_state(master, &out, id);
    rr_reg_put32(&out, 0);
    rr__master_put_changes(master, &out, table, version);
    rr__master_answer(self, msg, &out);
}

/* ---- Leaving and draining ---- */

static void on_leave(rr_actor_t *self, rr_master_t *master, rr_message_t *msg) {
    rr_reg_in_t in = rr_reg_in_of(msg);
    unsigned id = rr_reg_get16(&in);
    rr__node_t *node = rr__master_member(master, id, rr_reg_get64(&in));
    if (!rr_reg_done(&in) || rr_addr_node(rr_message_from(msg)) != id) {
        rr_reply_error(self, msg, RR_EHANDLER, rr_strerror(RR_EPROTO));
        return;
    }
    rr__master_answer_status(self, msg, RR_REG_OK, "");
    if (!node)
        return;
    rr_log(master->system, RR_INFO, "BROKER", "node %s (number %u) leaves", node->identity.name, id);
    drop_node(master, node, true);
}

static void answer_drain(rr_actor_t *self, rr_message_t *msg, uint8_t status, const char *why, unsigned node) {
    rr_reg_out_t out = {0};
    rr_reg_put8(&out, status);
    rr_reg_put_str(&out, why);
    rr_reg_put16(&out, (uint16_t)node);
    rr__master_answer(self, msg, &out);
}

static void on_drain_order(rr_actor_t *self, rr_master_t *master, rr_message_t *msg) {
    rr_reg_in_t in = rr_reg_in_of(msg);
    char text[RR_NODE_NAME_MAX + 1], why[RR_REG_WHY];
    bool only_ask = rr_reg_get8(&in);
    rr_reg_get_str(&in, text, sizeof text);
    rr__node_t *node = rr_reg_done(&in) ? find_by_name(master, text, NULL) : NULL;
    if (!node || node->phase != RR__MEMBER) {
        snprintf(why, sizeof why, "group %s has no node named %.64s", master->options.self.group, in.bad ? "" : text);
        answer_drain(self, msg, RR_REG_UNKNOWN, why, 0);
        return;
    }
    int rc = only_ask ? RR_OK : rr_send(self, node->agent, RR_REG_DRAIN, NULL, 0);
    if (!only_ask && rc == RR_OK)
        rr_log(master->system, RR_INFO, "BROKER", "node %s (number %u) is told to drain", text, node->identity.node);
    snprintf(why, sizeof why, "node %.64s cannot be told: %s", text, rr_strerror(rc));
    answer_drain(self, msg, rc == RR_OK ? RR_REG_OK : RR_REG_STALE, rc == RR_OK ? "" : why, node->identity.node);
}

/* ---- All of them ---- */

static void on_call(rr_actor_t *self, rr_master_t *master, rr_message_t *msg) {
    switch (rr_message_type(msg)) {
    case RR_REG_HELLO:
        on_hello(self, master, msg);
        break;
    case RR_REG_RENEW:
        on_renew(self, master, msg);
        break;
    case RR_REG_UPDATE:
        rr__master_on_update(self, master, msg);
        break;
    case RR_REG_LEAVE:
        on_leave(self, master, msg);
        break;
    case RR_REG_DRAIN:
        on_drain_order(self, master, msg);
        break;
    case RR_REG_QUERY:
        rr__master_on_query(self, master, msg);
        break;
    default:
        rr_reply_error(self, msg, RR_EHANDLER, "a broker does not know this kind of call");
    }
}

/* ---- Time ---- */

static void expire(rr_master_t *master, rr__node_t *node) {
    if (node->phase == RR__MEMBER) {
        rr_count(&master->expired, 1);
        rr_log(master->system, RR_WARN, "BROKER", "node %s (number %u) is gone: not heard of for %u ms; its names are free",
               node->identity.name, node->identity.node, rr__to_ms(rr__master_boot(master) - node->heard_ns));
    }
    drop_node(master, node, false);
}

static bool is_over(rr_master_t *master, const rr__node_t *node, uint64_t now) {
    uint64_t limit = node->phase == RR__RESERVED ? RESERVED_NS : rr__master_patience_ns(master);
    return node->identity.node != master->options.self.node && now - node->heard_ns > limit;
}

/* Somebody whose time is over; NULL. */
static rr__node_t *find_over(rr_master_t *master, uint64_t now) {
    for (uint32_t i = 0; master->nodes.cells && i <= master->nodes.mask; i++)
        if (master->nodes.cells[i].key && is_over(master, master->nodes.cells[i].value, now))
            return master->nodes.cells[i].value;
    return NULL;
}

/* While this process itself stood still nobody's renewal could be received: that time counts for nobody. */
static void forgive(rr_master_t *master, uint64_t stalled_ns) {
    pthread_mutex_lock(&master->lock);
    for (uint32_t i = 0; master->nodes.cells && i <= master->nodes.mask; i++)
        if (master->nodes.cells[i].key)
            ((rr__node_t *)master->nodes.cells[i].value)->heard_ns += stalled_ns;
    pthread_mutex_unlock(&master->lock);
    rr_log(master->system, RR_WARN, "BROKER", "this process stood still for %u ms: leases last so much longer here",
           rr__to_ms(stalled_ns));
}

static void on_tick(rr_master_t *master) {
    uint64_t now = rr__master_boot(master), late = now - master->ticked_ns;
    if (late > master->tick_ns * 2 + RR_NS_PER_S)
        forgive(master, late - master->tick_ns);
    master->ticked_ns = now;
    if (master->grace_until_ns && now >= master->grace_until_ns) {
        master->grace_until_ns = 0;
        rr__master_tell_settled(master);
        rr_log(master->system, RR_INFO, "BROKER", "the earlier master's leases are over: names are granted from now on");
    }
    for (rr__node_t *node; (node = find_over(master, now));)
        expire(master, node);
}

/* Whoever waited for its process says so. */
static void on_dead(rr_master_t *master, rr_message_t *msg) {
    dead_t dead;
    memcpy(&dead, rr_message_data(msg), sizeof dead);
    rr__node_t *node = find_node(master, dead.node);
    if (!node || node->identity.incarnation != dead.incarnation || dead.node == master->options.self.node)
        return;
    if (node->phase == RR__MEMBER)
        rr_log(master->system, RR_INFO, "BROKER", "node %s (number %u) is dead, says who started it: its names are free",
               node->identity.name, dead.node);
    drop_node(master, node, false);
}

void rr_master_node_died(rr_master_t *master, unsigned id, uint64_t incarnation) {
    dead_t dead = {incarnation, id};
    int rc = rr_system_send(master->system, master->addr, DEAD, &dead, sizeof dead);
    if (rc != RR_OK && rc != RR_NOROUTE)
        rr_log(master->system, RR_WARN, "BROKER", "node number %u is dead, but its lease is waited for: %s", id, rr_strerror(rc));
}

/* ---- The actor ---- */

static int master_start(rr_actor_t *self, void *state, const void *arg) {
    rr_master_t *master = *(rr_master_t *const *)arg;
    *(rr_master_t **)state = master;
    uint64_t ms = master->options.lease_ms / 20;
    ms = ms < 10 ? 10 : ms > 500 ? 500 : ms;
    master->tick_ns = ms * 1000000;
    master->ticked_ns = rr__master_boot(master);
    return rr_timer_start(self, ms, ms, TICK, NULL);
}

static void master_receive(rr_actor_t *self, void *state, rr_message_t *msg) {
    rr_master_t *master = *(rr_master_t **)state;
    if (rr_message_kind(msg) == RR_CALL)
        on_call(self, master, msg);
    else if (rr_message_kind(msg) == RR_TIMER)
        on_tick(master);
    else if (rr_message_kind(msg) == RR_SEND && rr_message_type(msg) == DEAD && rr_message_from(msg) == RR_NOBODY &&
             rr_message_size(msg) == sizeof(dead_t))
        on_dead(master, msg);
}

static void master_turn_end(rr_actor_t *self, void *state) {
    rr_master_t *master = *(rr_master_t **)state;
    if (master)
        rr__master_flush(self, master);
}

static const rr_behavior_t master_behavior = {
    .name = "broker",
    .state_size = sizeof(rr_master_t *),
    .start = master_start,
    .receive = master_receive,
    .turn_end = master_turn_end,
};

static void begin_grace(rr_master_t *master) {
    if (!master->options.grace)
        return;
    master->grace_until_ns = rr__master_boot(master) + rr__master_patience_ns(master);
    rr_log(master->system, RR_INFO, "BROKER",
           "an earlier master's leases may still last: for %u ms only names that were held before are accepted",
           rr__to_ms(rr__master_patience_ns(master)));
}

int rr_master_create(rr_system_t *system, const rr_master_options_t *options, rr_master_t **out) {
    rr_master_t *master = calloc(1, sizeof *master);
    if (!master)
        return RR_ENOMEM;
    master->system = system;
    master->options = *options;
    master->table = options->self.incarnation;
    master->next_id = options->self.node + 1 < RR__MASTER_NODES - 1 ? options->self.node + 1 : 1;
    pthread_mutex_init(&master->lock, NULL);
    begin_grace(master);
    rr_spawn_t spec = {.behavior = &master_behavior,
                       .arg = &master,
                       .arg_size = sizeof master,
                       .name = options->name,
                       .executor = options->executor};
    int rc = rr_system_spawn(system, &spec, &master->addr);
    master->options.self.service = master->addr;
    if (rc != RR_OK) {
        rr_master_free(master);
        return rc;
    }
    *out = master;
    return RR_OK;
}

rr_addr_t rr_master_addr(const rr_master_t *master) { return master->addr; }

bool rr_master_is_deposed(const rr_master_t *master) {
    return atomic_load_explicit(&((rr_master_t *)master)->deposed, memory_order_relaxed);
}

bool rr_master_is_clean(const rr_master_t *master) {
    for (uint32_t i = 0; master->nodes.cells && i <= master->nodes.mask; i++) {
        const rr__node_t *node = master->nodes.cells[i].value;
        if (master->nodes.cells[i].key && node->identity.node != master->options.self.node && node->phase == RR__MEMBER)
            return false;
    }
    return !master->grace_until_ns && !rr_master_is_deposed(master);
}

void rr_master_free(rr_master_t *master) {
    if (!master)
        return;
    for (uint32_t i = 0; master->names.cells && i <= master->names.mask; i++)
        free(master->names.cells[i].item);
    for (uint32_t i = 0; master->nodes.cells && i <= master->nodes.mask; i++)
        free(master->nodes.cells[i].value);
    for (unsigned i = 0; i < RR__MASTER_LOG; i++)
        free(master->log[i].bytes);
    rr__master_queries_free(master);
    rr_set_free(&master->names);
    rr_map_free(&master->nodes);
    pthread_mutex_destroy(&master->lock);
    free(master);
}
