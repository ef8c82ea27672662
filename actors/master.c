#include "actors/master.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "actors/map.h"
#include "actors/registry_wire.h"
#include "runtime/clock.h"
#include "runtime/remote.h"

#define NODES 65536u
#define LOG 8192u             /* changes that are kept for those who missed some */
#define RESERVED_NS (60 * RR_NS_PER_S) /* an id that was asked for and never used */
#define WAIT_MAX_MS 1000u     /* a waiting claim asks again at least so often */
#define TICK 1u
#define DEAD 2u       /* from this process only: dead_t */
#define QUERIES 16u   /* questions of tools under way */
#define LINKS_MS 1000u /* how long a node may take to tell its links */

typedef struct name {
    LIST_ENTRY(name) entry; /* of its node */
    struct node *node;
    uint64_t addr, epoch;
    char text[RR_REG_NAME_SIZE];
} name_t;

typedef enum phase { RESERVED = 0, MEMBER } phase_t;
typedef enum link { LINK_UNKNOWN = 0, LINK_UP, LINK_CUT } link_t;

typedef struct node {
    rr_node_identity_t identity;
    rr_addr_t agent;
    phase_t phase;
    link_t link;
    bool draining, replaced;
    char place[RR_REG_PLACE];
    /* When its last renewal was received (boot clock). Its thread writes, under master->lock when others look. */
    uint64_t heard_ns;
    LIST_HEAD(, name) names;
} node_t;

typedef struct change {
    uint8_t *bytes;
    uint32_t size;
} change_t;

typedef struct dead {
    uint64_t incarnation;
    unsigned node;
} dead_t;

struct query;

struct rr_master {
    rr_system_t *system;
    rr_master_options_t options;
    rr_addr_t addr;
    uint64_t table; /* what versions count in: this start of the master */
    uint32_t counter;
    unsigned next_id;
    uint64_t grace_until_ns, tick_ns, ticked_ns;
    rr_map_t nodes; /* id -> node_t; changed under lock */
    rr_set_t names;
    uint64_t version; /* of the last change */
    change_t log[LOG]; /* change of version v at v % LOG */
    uint64_t flushed;  /* version that all were told of */
    uint8_t gone[NODES / 8]; /* ids whose node ended in this term: never taken back */
    LIST_HEAD(, query) queries;
    unsigned query_count;
    /* For rr_master_lease_left_ms: nodes and heard_ns are changed under it. */
    pthread_mutex_t lock;
    _Atomic(bool) deposed; /* written by its thread, read by any (relaxed: only itself counts) */
    rr_counter_t members, owned, grants, refusals, waits, renewals, expired, changes, wholes;
};

static uint64_t boot(const rr_master_t *master) { return rr_system_boot_ns(master->system); }
static uint64_t lease_ns(const rr_master_t *master) { return master->options.lease_ms * 1000000ull; }
static uint64_t patience_ns(const rr_master_t *master) {
    return (master->options.lease_ms + (uint64_t)master->options.margin_ms) * 1000000ull;
}
static bool in_grace(const rr_master_t *master) { return boot(master) < master->grace_until_ns; }
static unsigned to_ms(uint64_t ns) { return (unsigned)(ns / 1000000); }

static int refuse(int code, char *why, size_t why_size, const char *format, ...) __attribute__((format(printf, 4, 5)));
static int refuse(int code, char *why, size_t why_size, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(why, why_size, format, args);
    va_end(args);
    return code;
}

/* ---- Names ---- */

static uint64_t hash_of(const char *text) { /* FNV-1a */
    uint64_t hash = 0xcbf29ce484222325ull;
    for (; *text; text++)
        hash = (hash ^ (unsigned char)*text) * 0x100000001b3ull;
    return hash;
}

static bool has_text(const void *item, const void *key) { return !strcmp(((const name_t *)item)->text, key); }

static name_t *find_name(rr_master_t *master, const char *text) {
    return rr_set_find(&master->names, hash_of(text), has_text, text);
}

/* ---- Changes ---- */

static void record(rr_master_t *master, rr_reg_out_t *out) {
    change_t *slot = &master->log[++master->version % LOG];
    free(slot->bytes);
    if (out->failed) { /* nobody can be told: who asks from before here is told everything */
        rr_log(master->system, RR_ERROR, "BROKER", "no memory to remember a change");
        rr_reg_out_free(out);
    }
    *slot = (change_t){out->data, (uint32_t)out->size};
    rr_count(&master->changes, 1);
}

static void put_name(rr_reg_out_t *out, const char *text, rr_addr_t addr, uint64_t epoch) {
    rr_reg_put8(out, RR_REG_NAME);
    rr_reg_put_str(out, text);
    rr_reg_put64(out, addr);
    rr_reg_put64(out, epoch);
}

static void put_node(rr_reg_out_t *out, const node_t *node) {
    rr_reg_put8(out, RR_REG_NODE);
    rr_reg_put8(out, node->draining ? RR_NODE_DRAINING : RR_NODE_ALIVE);
    rr_reg_put64(out, node->agent);
    rr_reg_put_identity(out, &node->identity);
}

static void tell_name(rr_master_t *master, const char *text, rr_addr_t addr, uint64_t epoch) {
    rr_reg_out_t out = {0};
    put_name(&out, text, addr, epoch);
    record(master, &out);
}

static void tell_node(rr_master_t *master, const node_t *node) {
    rr_reg_out_t out = {0};
    put_node(&out, node);
    record(master, &out);
}

static void tell_gone(rr_master_t *master, const node_t *node, bool left) {
    rr_reg_out_t out = {0};
    rr_reg_put8(&out, RR_REG_NODE_GONE);
    rr_reg_put16(&out, (uint16_t)node->identity.node);
    rr_reg_put64(&out, node->identity.incarnation);
    rr_reg_put8(&out, left);
    record(master, &out);
}

static void tell_settled(rr_master_t *master) {
    rr_reg_out_t out = {0};
    rr_reg_put8(&out, RR_REG_SETTLED);
    record(master, &out);
}

/* Are all changes behind that version still in the log? */
static bool remembers(const rr_master_t *master, uint64_t from) {
    if (from > master->version || master->version - from > LOG)
        return false;
    for (uint64_t v = from + 1; v <= master->version; v++)
        if (!master->log[v % LOG].bytes)
            return false;
    return true;
}

static void put_changes_head(rr_master_t *master, rr_reg_out_t *out, uint64_t from, uint8_t whole) {
    rr_reg_put64(out, master->table);
    rr_reg_put64(out, from);
    rr_reg_put64(out, master->version);
    rr_reg_put8(out, whole);
}

static void put_since(rr_master_t *master, rr_reg_out_t *out, uint64_t from) {
    put_changes_head(master, out, from, RR_REG_CHANGES);
    rr_reg_put32(out, (uint32_t)(master->version - from));
    for (uint64_t v = from + 1; v <= master->version; v++)
        rr_reg_put_bytes(out, master->log[v % LOG].bytes, master->log[v % LOG].size);
}

static void put_whole(rr_master_t *master, rr_reg_out_t *out) {
    uint32_t count = 0;
    put_changes_head(master, out, 0, master->grace_until_ns ? RR_REG_SO_FAR : RR_REG_WHOLE);
    size_t at = out->size;
    rr_reg_put32(out, 0);
    for (uint32_t i = 0; master->nodes.cells && i <= master->nodes.mask; i++) {
        node_t *node = master->nodes.cells[i].value;
        if (master->nodes.cells[i].key && node->phase == MEMBER) {
            put_node(out, node);
            count++;
        }
    }
    for (uint32_t i = 0; master->names.cells && i <= master->names.mask; i++) {
        name_t *name = master->names.cells[i].item;
        if (name) {
            put_name(out, name->text, name->addr, name->epoch);
            count++;
        }
    }
    rr_reg_patch32(out, at, count);
    rr_count(&master->wholes, 1);
}

static void put_changes(rr_master_t *master, rr_reg_out_t *out, uint64_t table, uint64_t version) {
    if (table == master->table && remembers(master, version))
        put_since(master, out, version);
    else
        put_whole(master, out);
}

static void tell_agent(rr_actor_t *self, node_t *node, rr_buffer_t *buffer) {
    int rc = rr_send_buffer(self, node->agent, RR_REG_CHANGED, rr_buffer_ref(buffer));
    if (rc != RR_OK) /* it sees the gap with the next change or renewal, and asks for what it missed */
        rr_log(rr_system_of(self), RR_DEBUG, "BROKER", "node %s misses a change for now: %s", node->identity.name,
               rr_strerror(rc));
}

static void flush(rr_actor_t *self, rr_master_t *master) {
    if (master->flushed == master->version)
        return;
    rr_reg_out_t out = {0};
    if (remembers(master, master->flushed))
        put_since(master, &out, master->flushed);
    else
        put_whole(master, &out);
    rr_buffer_t *buffer = out.failed ? NULL : rr_buffer_copy(out.data, out.size);
    rr_reg_out_free(&out);
    master->flushed = master->version;
    if (!buffer) {
        rr_log(master->system, RR_ERROR, "BROKER", "no memory to tell of a change: nodes hear of it with their renewals");
        return;
    }
    for (uint32_t i = 0; master->nodes.cells && i <= master->nodes.mask; i++) {
        node_t *node = master->nodes.cells[i].value;
        if (master->nodes.cells[i].key && node->phase == MEMBER)
            tell_agent(self, node, buffer);
    }
    rr_buffer_unref(buffer);
}

/* ---- Granting and freeing ---- */

static void free_name(rr_master_t *master, name_t *name) {
    tell_name(master, name->text, RR_NOBODY, name->epoch);
    rr_set_remove(&master->names, hash_of(name->text), name);
    rr_count(&master->owned, (uint64_t)-1);
    LIST_REMOVE(name, entry);
    free(name);
}

static uint64_t new_epoch(rr_master_t *master) { return (uint64_t)master->options.term << 32 | ++master->counter; }

/* NULL: out of memory, or too many. */
static name_t *own(rr_master_t *master, node_t *node, const char *text, rr_addr_t addr, uint64_t epoch) {
    name_t *name = master->names.count < master->options.max_names ? calloc(1, sizeof *name) : NULL;
    if (!name || !rr_set_add(&master->names, hash_of(text), name)) {
        free(name);
        return NULL;
    }
    name->node = node;
    name->addr = addr;
    name->epoch = epoch;
    strcpy(name->text, text);
    LIST_INSERT_HEAD(&node->names, name, entry);
    rr_count(&master->owned, 1);
    tell_name(master, text, addr, epoch);
    return name;
}

/* ---- Nodes ---- */

static node_t *find_node(rr_master_t *master, unsigned id) { return rr_map_get(&master->nodes, id); }

/* The member of that id and incarnation; NULL. */
static node_t *member(rr_master_t *master, unsigned id, uint64_t incarnation) {
    node_t *node = find_node(master, id);
    return node && node->phase == MEMBER && node->identity.incarnation == incarnation ? node : NULL;
}

static bool was_here(const rr_master_t *master, unsigned id) { return master->gone[id / 8] >> id % 8 & 1; }

/* Is somebody there, as far as one can tell? */
static bool is_lively(rr_master_t *master, const node_t *node) {
    if (node->identity.node == master->options.self.node)
        return true;
    if (node->link == LINK_UNKNOWN)
        return boot(master) - node->heard_ns < lease_ns(master) * 2 / 3;
    return node->link == LINK_UP;
}

static node_t *find_by_name(rr_master_t *master, const char *text, const node_t *not_this) {
    for (uint32_t i = 0; master->nodes.cells && i <= master->nodes.mask; i++) {
        node_t *node = master->nodes.cells[i].value;
        if (master->nodes.cells[i].key && node != not_this && !node->replaced && !strcmp(node->identity.name, text))
            return node;
    }
    return NULL;
}

static void set_heard(rr_master_t *master, node_t *node) {
    pthread_mutex_lock(&master->lock);
    node->heard_ns = boot(master);
    pthread_mutex_unlock(&master->lock);
}

static node_t *add_node(rr_master_t *master, const rr_node_identity_t *who) {
    node_t *node = master->nodes.count < master->options.max_nodes ? calloc(1, sizeof *node) : NULL;
    if (!node)
        return NULL;
    node->identity = *who;
    LIST_INIT(&node->names);
    node->heard_ns = boot(master);
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

static void drop_node(rr_master_t *master, node_t *node, bool left) {
    while (!LIST_EMPTY(&node->names))
        free_name(master, LIST_FIRST(&node->names));
    if (node->phase == MEMBER) {
        tell_gone(master, node, left);
        master->gone[node->identity.node / 8] |= (uint8_t)(1u << node->identity.node % 8);
        rr_count(&master->members, (uint64_t)-1);
    }
    pthread_mutex_lock(&master->lock);
    rr_map_take(&master->nodes, node->identity.node);
    pthread_mutex_unlock(&master->lock);
    free(node);
}

static void become_member(rr_master_t *master, node_t *node) {
    if (node->phase == MEMBER)
        return;
    node->phase = MEMBER;
    rr_count(&master->members, 1);
    rr_log(master->system, RR_INFO, "BROKER", "node %s joins as number %u%s%s", node->identity.name,
           node->identity.node, node->identity.address[0] ? ", at " : "", node->identity.address);
}

/* ---- Joining (loop thread) ---- */

static unsigned free_id(rr_master_t *master) {
    for (unsigned tries = 1; tries < NODES; tries++) {
        unsigned id = master->next_id;
        master->next_id = id + 1 < NODES - 1 ? id + 1 : 1; /* the last is nobody's (cluster.c) */
        if (!find_node(master, id) && id != master->options.self.node)
            return id;
    }
    return 0;
}

int rr_master_join(rr_master_t *master, rr_node_identity_t *who, char *why, size_t why_size) {
    if (atomic_load_explicit(&master->deposed, memory_order_relaxed))
        return refuse(RR_EREFUSED, why, why_size, "this master was replaced by a later one: end it");
    if (!who->name[0] || !who->incarnation)
        return refuse(RR_EREFUSED, why, why_size, "a node without a name");
    node_t *same = find_by_name(master, who->name, NULL);
    if (same && same->phase == RESERVED) {
        drop_node(master, same, true);
        same = NULL;
    }
    if (same && is_lively(master, same))
        return refuse(RR_EREFUSED, why, why_size,
                      "a node named %s is alive already (number %u%s%s): end that process, or give this one another name",
                      who->name, same->identity.node, same->identity.address[0] ? ", at " : "", same->identity.address);
    who->node = free_id(master);
    if (!who->node || !add_node(master, who))
        return refuse(RR_ELIMIT, why, why_size, "the group has %u nodes, which is the limit", master->nodes.count);
    if (same) {
        same->replaced = true;
        rr_log(master->system, RR_WARN, "BROKER", "node %s (number %u) is silent; another process takes its place as number %u",
               who->name, same->identity.node, who->node);
    }
    return RR_OK;
}

int rr_master_unknown(rr_master_t *master, const rr_node_identity_t *who, char *why, size_t why_size) {
    node_t *node = find_node(master, who->node);
    if (was_here(master, who->node) || (node && node->identity.incarnation != who->incarnation))
        return refuse(RR_ESTATE, why, why_size, "node number %u (%s) was given up, as it was not heard of for a lease", who->node,
                      who->name);
    return RR_OK;
}

void rr_master_link(rr_master_t *master, unsigned id, uint64_t incarnation, bool up) {
    node_t *node = find_node(master, id);
    if (node && node->identity.incarnation == incarnation)
        node->link = up ? LINK_UP : LINK_CUT;
}

bool rr_master_visitor_left(rr_master_t *master, unsigned id, uint64_t incarnation) {
    node_t *node = find_node(master, id);
    if (!node || node->identity.incarnation != incarnation || node->phase == MEMBER)
        return false;
    drop_node(master, node, true);
    return true;
}

uint64_t rr_master_lease_left_ms(rr_master_t *master, unsigned id) {
    if (id == master->options.self.node)
        return UINT64_MAX;
    pthread_mutex_lock(&master->lock);
    node_t *node = find_node(master, id);
    uint64_t end = node ? node->heard_ns + lease_ns(master) : 0, now = boot(master);
    pthread_mutex_unlock(&master->lock);
    return end > now ? (end - now) / 1000000 : 0;
}

/* ---- Calls ---- */

static void answer(rr_actor_t *self, rr_message_t *msg, rr_reg_out_t *out) {
    if (out->failed)
        rr_reply_error(self, msg, RR_EHANDLER, rr_strerror(RR_ENOMEM));
    else
        rr_reply(self, msg, out->data, out->size);
    rr_reg_out_free(out);
}

static void answer_status(rr_actor_t *self, rr_message_t *msg, uint8_t status, const char *why) {
    rr_reg_out_t out = {0};
    rr_reg_put8(&out, status);
    rr_reg_put_str(&out, why);
    answer(self, msg, &out);
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

static bool is_stale(rr_master_t *master, uint32_t term_seen, unsigned id, uint64_t incarnation, char why[RR_REG_WHY]) {
    node_t *node = find_node(master, id);
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
static bool keep_name(rr_master_t *master, node_t *node, const char *text, rr_addr_t addr, uint64_t epoch, bool held,
                      rr_reg_out_t *lost) {
    name_t *name = find_name(master, text);
    if (!name && held && in_grace(master) && epoch >> 32 < master->options.term)
        name = own(master, node, text, addr, epoch);
    if (name && name->node != node && held && in_grace(master) && epoch > name->epoch) {
        free_name(master, name); /* its holder hears that it lost it with the next word */
        name = own(master, node, text, addr, epoch);
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
static void free_unsaid(rr_master_t *master, node_t *node, const rr_reg_in_t *said, uint32_t count) {
    for (name_t *name = LIST_FIRST(&node->names), *next; name; name = next) {
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
            free_name(master, name);
    }
}

static int take_hello(rr_master_t *master, rr_message_t *msg, const rr_node_identity_t *who, uint8_t flags, node_t **out) {
    node_t *node = find_node(master, who->node);
    if (!node)
        node = add_node(master, who);
    if (!node)
        return RR_ELIMIT;
    bool news = node->phase != MEMBER || node->agent != rr_message_from(msg) ||
                strcmp(node->identity.address, who->address) || node->draining != ((flags & RR_REG_DRAINING) != 0);
    become_member(master, node);
    node->identity = *who;
    node->agent = rr_message_from(msg);
    node->draining = flags & RR_REG_DRAINING;
    set_heard(master, node);
    if (news)
        tell_node(master, node);
    *out = node;
    return RR_OK;
}

/* Both listen, or listened, at one address of one machine since one boot: only one process can, and a stopped one still does.
 * (A process that leaves closes its port too, but gives its names back before.) */
static bool proves_dead(const node_t *node, const node_t *former) {
    return node->place[0] && !strcmp(node->place, former->place) && node->identity.address[0] &&
           !strcmp(node->identity.address, former->identity.address);
}

static node_t *find_dead(rr_master_t *master, const node_t *node) {
    for (uint32_t i = 0; master->nodes.cells && i <= master->nodes.mask; i++) {
        node_t *former = master->nodes.cells[i].value;
        if (master->nodes.cells[i].key && former != node && former->replaced &&
            !strcmp(former->identity.name, node->identity.name) && proves_dead(node, former))
            return former;
    }
    return NULL;
}

static void take_over(rr_master_t *master, const node_t *node, node_t *former) {
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
    if (is_stale(master, term, who.node, who.incarnation, why)) {
        answer_status(self, msg, RR_REG_STALE, why);
        return;
    }
    node_t *known = find_node(master, who.node), *same = find_by_name(master, who.name, known), *node;
    if (same && same->phase == MEMBER && (!known || known->phase == RESERVED) && is_lively(master, same)) {
        answer_status(self, msg, RR_REG_STALE, "another node of its name is alive");
        return;
    }
    if (same)
        same->replaced = true;
    if (take_hello(master, msg, &who, flags, &node) != RR_OK) {
        rr_reply_error(self, msg, RR_EHANDLER, rr_strerror(RR_ELIMIT));
        return;
    }
    memcpy(node->place, place, sizeof place);
    for (node_t *dead; (dead = find_dead(master, node));)
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
    put_changes(master, &out, table, version);
    rr_reg_out_free(&lost);
    answer(self, msg, &out);
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
    if (is_stale(master, term, id, incarnation, why)) {
        answer_status(self, msg, RR_REG_STALE, why);
        return;
    }
    node_t *node = member(master, id, incarnation);
    if (!node) { /* not known since a restart: it shall say what it has */
        answer_status(self, msg, RR_REG_UNKNOWN, "");
        return;
    }
    set_heard(master, node);
    rr_count(&master->renewals, 1);
    if (node->draining != ((flags & RR_REG_DRAINING) != 0)) {
        node->draining = flags & RR_REG_DRAINING;
        tell_node(master, node);
    }
    rr_reg_out_t out = {0};
    put_state(master, &out, id);
    rr_reg_put32(&out, 0);
    put_changes(master, &out, table, version);
    answer(self, msg, &out);
}

/* ---- Claims ---- */

typedef struct verdict {
    uint8_t result;
    uint64_t epoch, owner;
    const char *node;
    uint32_t wait_ms;
} verdict_t;

static uint32_t wait_ms(rr_master_t *master, uint64_t until_ns) {
    uint64_t now = boot(master), left = until_ns > now ? to_ms(until_ns - now) + 1 : 1;
    rr_count(&master->waits, 1);
    return (uint32_t)left;
}

static verdict_t grant(rr_master_t *master, node_t *node, const char *text, rr_addr_t addr) {
    name_t *name = own(master, node, text, addr, new_epoch(master));
    if (!name)
        return (verdict_t){RR_REG_WAIT, 0, 0, "", WAIT_MAX_MS}; /* the limit, or memory */
    rr_count(&master->grants, 1);
    return (verdict_t){RR_REG_GRANTED, name->epoch, addr, "", 0};
}

static verdict_t claim(rr_master_t *master, node_t *node, const char *text, rr_addr_t addr) {
    name_t *name = find_name(master, text);
    if (name && name->node == node && name->addr == addr)
        return (verdict_t){RR_REG_GRANTED, name->epoch, addr, "", 0};
    if (name && name->node == node) { /* its earlier actor of that name has ended */
        free_name(master, name);
        return grant(master, node, text, addr);
    }
    if (name) {
        bool lively = is_lively(master, name->node);
        rr_count(&master->refusals, lively);
        return (verdict_t){lively ? RR_REG_REFUSED : RR_REG_WAIT, name->epoch, name->addr, name->node->identity.name,
                           lively ? 0 : wait_ms(master, name->node->heard_ns + patience_ns(master))};
    }
    if (in_grace(master))
        return (verdict_t){RR_REG_WAIT, 0, 0, "", wait_ms(master, master->grace_until_ns)};
    return grant(master, node, text, addr);
}

static verdict_t release(rr_master_t *master, node_t *node, const char *text, rr_addr_t addr) {
    name_t *name = find_name(master, text);
    if (name && name->node == node && name->addr == addr)
        free_name(master, name);
    return (verdict_t){.result = RR_REG_RELEASED, .node = ""};
}

static void put_verdict(rr_reg_out_t *out, const verdict_t *verdict) {
    rr_reg_put8(out, verdict->result);
    rr_reg_put64(out, verdict->epoch);
    rr_reg_put64(out, verdict->owner);
    rr_reg_put_str(out, verdict->node);
    rr_reg_put32(out, verdict->wait_ms);
}

static void on_update(rr_actor_t *self, rr_master_t *master, rr_message_t *msg) {
    rr_reg_in_t in = rr_reg_in_of(msg);
    unsigned id = rr_reg_get16(&in);
    uint64_t incarnation = rr_reg_get64(&in);
    uint32_t count = rr_reg_get32(&in);
    char why[RR_REG_WHY] = "", text[RR_REG_NAME_SIZE];
    if (in.bad || rr_addr_node(rr_message_from(msg)) != id) {
        rr_reply_error(self, msg, RR_EHANDLER, rr_strerror(RR_EPROTO));
        return;
    }
    node_t *node = member(master, id, incarnation);
    if (is_stale(master, 0, id, incarnation, why) || !node) {
        answer_status(self, msg, why[0] ? RR_REG_STALE : RR_REG_UNKNOWN, why);
        return;
    }
    rr_reg_out_t out = {0};
    rr_reg_put8(&out, RR_REG_OK);
    rr_reg_put_str(&out, "");
    rr_reg_put32(&out, count);
    for (uint32_t i = 0; i < count && !in.bad; i++) {
        uint8_t op = rr_reg_get8(&in);
        rr_reg_get_name(&in, text);
        uint64_t addr = rr_reg_get64(&in);
        if (in.bad || rr_addr_node(addr) != id || (op != RR_REG_CLAIM && op != RR_REG_RELEASE)) {
            in.bad = true;
            break;
        }
        verdict_t verdict = op == RR_REG_CLAIM ? claim(master, node, text, addr) : release(master, node, text, addr);
        put_verdict(&out, &verdict);
    }
    if (in.bad || out.failed) {
        rr_reg_out_free(&out);
        rr_reply_error(self, msg, RR_EHANDLER, rr_strerror(in.bad ? RR_EPROTO : RR_ENOMEM));
        return;
    }
    answer(self, msg, &out);
}

static void on_leave(rr_actor_t *self, rr_master_t *master, rr_message_t *msg) {
    rr_reg_in_t in = rr_reg_in_of(msg);
    unsigned id = rr_reg_get16(&in);
    node_t *node = member(master, id, rr_reg_get64(&in));
    if (!rr_reg_done(&in) || rr_addr_node(rr_message_from(msg)) != id) {
        rr_reply_error(self, msg, RR_EHANDLER, rr_strerror(RR_EPROTO));
        return;
    }
    answer_status(self, msg, RR_REG_OK, "");
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
    answer(self, msg, &out);
}

static void on_drain_order(rr_actor_t *self, rr_master_t *master, rr_message_t *msg) {
    rr_reg_in_t in = rr_reg_in_of(msg);
    char text[RR_NODE_NAME_MAX + 1], why[RR_REG_WHY];
    bool only_ask = rr_reg_get8(&in);
    rr_reg_get_str(&in, text, sizeof text);
    node_t *node = rr_reg_done(&in) ? find_by_name(master, text, NULL) : NULL;
    if (!node || node->phase != MEMBER) {
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

/* ---- What is where, for people ---- */

typedef struct query { /* waits for the links of all nodes */
    LIST_ENTRY(query) entry;
    rr_master_t *master;
    rr_message_t *msg; /* taken */
    unsigned waits;
    bool any; /* links were put */
    rr_reg_out_t out;
} query_t;

static void put_text(rr_reg_out_t *out, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void put_text(rr_reg_out_t *out, const char *format, ...) {
    char text[1024];
    va_list args;
    va_start(args, format);
    int size = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    rr_reg_put_bytes(out, text, size < 0 ? 0 : (size_t)size < sizeof text ? (size_t)size : sizeof text - 1);
}

static const char *epoch_text(uint64_t epoch, char out[24]) {
    snprintf(out, 24, "%llu", (unsigned long long)epoch);
    return out;
}

static void put_node_json(rr_master_t *master, rr_reg_out_t *out, const node_t *node, bool first) {
    char name[RR_REG_JSON_TEXT], address[RR_REG_JSON_TEXT];
    bool own = node->identity.node == master->options.self.node;
    put_text(out, "%s{\"id\":%u,\"name\":%s,\"status\":\"%s\",\"address\":%s,\"master\":%s,\"relay\":%s,\"lease_left_ms\":",
             first ? "" : ",", node->identity.node, rr_reg_json_text(node->identity.name, name),
             rr_node_status_name(node->draining              ? RR_NODE_DRAINING
                                 : is_lively(master, node) ? RR_NODE_ALIVE
                                                             : RR_NODE_SUSPECT),
             rr_reg_json_text(node->identity.address, address), own ? "true" : "false",
             node->identity.relay ? "true" : "false");
    put_text(out, own ? "null}" : "%llu}", (unsigned long long)rr_master_lease_left_ms(master, node->identity.node));
}

static void put_table_json(rr_master_t *master, rr_reg_out_t *out) {
    char epoch[24];
    char group[RR_REG_JSON_TEXT];
    put_text(out, "{\"group\":%s,\"term\":%u,\"nodes\":[", rr_reg_json_text(master->options.self.group, group),
             master->options.term);
    bool first = true;
    for (uint32_t i = 0; master->nodes.cells && i <= master->nodes.mask; i++) {
        const node_t *node = master->nodes.cells[i].value;
        if (master->nodes.cells[i].key && node->phase == MEMBER) {
            put_node_json(master, out, node, first);
            first = false;
        }
    }
    put_text(out, "],\"names\":[");
    first = true;
    for (uint32_t i = 0; master->names.cells && i <= master->names.mask; i++) {
        const name_t *name = master->names.cells[i].item;
        if (!name)
            continue;
        put_text(out, "%s{\"name\":\"%s\",\"node\":%u,\"epoch\":%s}", first ? "" : ",", name->text,
                 name->node->identity.node, epoch_text(name->epoch, epoch));
        first = false;
    }
    put_text(out, "],\"links\":[");
}

static void end_query(rr_actor_t *self, query_t *query) {
    put_text(&query->out, "]}");
    LIST_REMOVE(query, entry);
    query->master->query_count--;
    answer(self, query->msg, &query->out);
    free(query);
}

static void on_links(rr_actor_t *self, void *state, int status, rr_message_t *msg, void *context) {
    query_t *query = context;
    const char *text = status == RR_OK ? rr_message_data(msg) : NULL;
    size_t size = text ? rr_message_size(msg) : 0;
    if (size > 2 && text[0] == '[' && text[size - 1] == ']') {
        put_text(&query->out, "%s", query->any ? "," : "");
        rr_reg_put_bytes(&query->out, text + 1, size - 2);
        query->any = true;
    }
    if (--query->waits == 0)
        end_query(self, query);
}

static void on_query(rr_actor_t *self, rr_master_t *master, rr_message_t *msg) {
    query_t *query = master->query_count < QUERIES ? calloc(1, sizeof *query) : NULL;
    if (!query) {
        rr_reply_error(self, msg, RR_EHANDLER, rr_strerror(RR_OVERLOAD));
        return;
    }
    query->master = master;
    query->msg = msg;
    query->waits = 1; /* this very function */
    rr_message_take(self, msg);
    LIST_INSERT_HEAD(&master->queries, query, entry);
    master->query_count++;
    put_table_json(master, &query->out);
    for (uint32_t i = 0; master->nodes.cells && i <= master->nodes.mask; i++) {
        const node_t *node = master->nodes.cells[i].value;
        if (master->nodes.cells[i].key && node->phase == MEMBER && is_lively(master, node) &&
            rr_call(self, node->agent, RR_REG_LINKS, NULL, 0, LINKS_MS, on_links, query, NULL) == RR_OK)
            query->waits++;
    }
    if (--query->waits == 0)
        end_query(self, query);
}

static void on_call(rr_actor_t *self, rr_master_t *master, rr_message_t *msg) {
    switch (rr_message_type(msg)) {
    case RR_REG_HELLO:
        on_hello(self, master, msg);
        break;
    case RR_REG_RENEW:
        on_renew(self, master, msg);
        break;
    case RR_REG_UPDATE:
        on_update(self, master, msg);
        break;
    case RR_REG_LEAVE:
        on_leave(self, master, msg);
        break;
    case RR_REG_DRAIN:
        on_drain_order(self, master, msg);
        break;
    case RR_REG_QUERY:
        on_query(self, master, msg);
        break;
    default:
        rr_reply_error(self, msg, RR_EHANDLER, "a broker does not know this kind of call");
    }
}

/* ---- Time ---- */

static void expire(rr_master_t *master, node_t *node) {
    if (node->phase == MEMBER) {
        rr_count(&master->expired, 1);
        rr_log(master->system, RR_WARN, "BROKER", "node %s (number %u) is gone: not heard of for %u ms; its names are free",
               node->identity.name, node->identity.node, to_ms(boot(master) - node->heard_ns));
    }
    drop_node(master, node, false);
}

static bool is_over(rr_master_t *master, const node_t *node, uint64_t now) {
    uint64_t limit = node->phase == RESERVED ? RESERVED_NS : patience_ns(master);
    return node->identity.node != master->options.self.node && now - node->heard_ns > limit;
}

/* Somebody whose time is over; NULL. */
static node_t *find_over(rr_master_t *master, uint64_t now) {
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
            ((node_t *)master->nodes.cells[i].value)->heard_ns += stalled_ns;
    pthread_mutex_unlock(&master->lock);
    rr_log(master->system, RR_WARN, "BROKER", "this process stood still for %u ms: leases last so much longer here",
           to_ms(stalled_ns));
}

static void on_tick(rr_master_t *master) {
    uint64_t now = boot(master), late = now - master->ticked_ns;
    if (late > master->tick_ns * 2 + RR_NS_PER_S)
        forgive(master, late - master->tick_ns);
    master->ticked_ns = now;
    if (master->grace_until_ns && now >= master->grace_until_ns) {
        master->grace_until_ns = 0;
        tell_settled(master);
        rr_log(master->system, RR_INFO, "BROKER", "the earlier master's leases are over: names are granted from now on");
    }
    for (node_t *node; (node = find_over(master, now));)
        expire(master, node);
}

/* Whoever waited for its process says so. */
static void on_dead(rr_master_t *master, rr_message_t *msg) {
    dead_t dead;
    memcpy(&dead, rr_message_data(msg), sizeof dead);
    node_t *node = find_node(master, dead.node);
    if (!node || node->identity.incarnation != dead.incarnation || dead.node == master->options.self.node)
        return;
    if (node->phase == MEMBER)
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
    master->ticked_ns = boot(master);
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
        flush(self, master);
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
    master->grace_until_ns = boot(master) + patience_ns(master);
    rr_log(master->system, RR_INFO, "BROKER",
           "an earlier master's leases may still last: for %u ms only names that were held before are accepted",
           to_ms(patience_ns(master)));
}

int rr_master_create(rr_system_t *system, const rr_master_options_t *options, rr_master_t **out) {
    rr_master_t *master = calloc(1, sizeof *master);
    if (!master)
        return RR_ENOMEM;
    master->system = system;
    master->options = *options;
    master->table = options->self.incarnation;
    master->next_id = options->self.node + 1 < NODES - 1 ? options->self.node + 1 : 1;
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
        const node_t *node = master->nodes.cells[i].value;
        if (master->nodes.cells[i].key && node->identity.node != master->options.self.node && node->phase == MEMBER)
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
    for (unsigned i = 0; i < LOG; i++)
        free(master->log[i].bytes);
    for (query_t *query; (query = LIST_FIRST(&master->queries));) { /* their messages went with the actor */
        LIST_REMOVE(query, entry);
        rr_reg_out_free(&query->out);
        free(query);
    }
    rr_set_free(&master->names);
    rr_map_free(&master->nodes);
    pthread_mutex_destroy(&master->lock);
    free(master);
}

/* ---- Metrics ---- */

void rr_master_collect(void *context, rr_metrics_writer_t *writer) {
    rr_master_t *master = context;
    const rr_metric_type_t counter = RR_METRIC_COUNTER, gauge = RR_METRIC_GAUGE;
    rr_metrics_write(writer, "rr_group_members", gauge, "Nodes of the group.", NULL, (double)rr_counted(&master->members));
    rr_metrics_write(writer, "rr_group_names", gauge, "Names owned.", NULL, (double)rr_counted(&master->owned));
    rr_metrics_write(writer, "rr_group_grants_total", counter, "Names granted.", NULL, (double)rr_counted(&master->grants));
    rr_metrics_write(writer, "rr_group_refusals_total", counter, "Claims refused: a living node has the name.", NULL,
                     (double)rr_counted(&master->refusals));
    rr_metrics_write(writer, "rr_group_waits_total", counter, "Claims told to wait for a lease to end.", NULL,
                     (double)rr_counted(&master->waits));
    rr_metrics_write(writer, "rr_group_renewals_total", counter, "Leases renewed.", NULL,
                     (double)rr_counted(&master->renewals));
    rr_metrics_write(writer, "rr_group_expired_total", counter, "Nodes whose lease ran out.", NULL,
                     (double)rr_counted(&master->expired));
    rr_metrics_write(writer, "rr_group_changes_total", counter, "Changes told.", NULL, (double)rr_counted(&master->changes));
    rr_metrics_write(writer, "rr_group_tables_total", counter, "Times the whole table was sent.", NULL,
                     (double)rr_counted(&master->wholes));
    rr_metrics_write(writer, "rr_group_term", gauge, "The master's term.", NULL, master->options.term);
}
