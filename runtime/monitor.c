#include "runtime/alloc.h"
#include "runtime/system.h"

/* Links and monitors are messages to the other actor, in order with everything else; so they work the same across nodes. */

#define ENTRY sizeof(rr__monitor_entry_t)

/* Relations are bounded by those who made them, so never refused for fullness. */
static int tell(rr_system_t *system, uint8_t kind, rr_addr_t from, rr_addr_t to, uint64_t id, int reason) {
    rr_message_t *msg = rr__message_new(rr__my_pool(system), 0);
    if (!msg)
        return RR_ENOMEM;
    msg->kind = kind;
    msg->flags |= RR__UNSHEDDABLE;
    msg->from = from;
    msg->to = to;
    msg->request = id;
    msg->type = (uint32_t)reason;
    return rr__deliver(system, NULL, msg);
}

/* Where there is no memory even for a notice, the log is the last place that can say so. */
static void must_tell(rr_system_t *system, uint8_t kind, rr_addr_t from, rr_addr_t to, uint64_t id, int reason) {
    if (tell(system, kind, from, to, id, reason) == RR_ENOMEM)
        rr_log(system, RR_ERROR, "RUNTIME", "no memory to tell an actor of another one's end");
}

void rr__relation_refused(rr_system_t *system, const rr_message_t *msg, int reason) {
    must_tell(system, msg->kind == RR__MONITOR ? RR_DOWN : RR_EXIT, msg->to, msg->from, msg->request, reason);
}

/* ---- Monitors --------------------------------------------------------------------------------------------------- */

int rr_monitor(rr_actor_t *self, rr_addr_t target, uint64_t *id_out) {
    rr__side_t *side = rr__actor_side(self);
    uint64_t id;
    int rc = RR_ENOMEM;
    rr__monitor_entry_t *entry = side ? rr__table_add(&side->monitors, ENTRY, &id, &rc) : NULL;
    if (!entry)
        return rc;
    entry->target = target;
    rr__touch_remote(self, target);
    rc = tell(rr_system_of(self), RR__MONITOR, self->addr, target, id, 0);
    if (rc == RR_ENOMEM) {
        rr__table_remove(&side->monitors, ENTRY, id);
        return rc;
    }
    if (id_out)
        *id_out = id;
    return RR_OK; /* a target that is gone is told by RR_DOWN */
}

bool rr_demonitor(rr_actor_t *self, uint64_t id) {
    rr__monitor_entry_t *entry = self->side ? rr__table_get(&self->side->monitors, ENTRY, id) : NULL;
    if (!entry)
        return false;
    must_tell(rr_system_of(self), RR__DEMONITOR, self->addr, entry->target, id, 0);
    return rr__table_remove(&self->side->monitors, ENTRY, id);
}

/* ---- Links ------------------------------------------------------------------------------------------------------ */

int rr__link_here(rr_actor_t *self, rr_addr_t other) {
    rr__side_t *side = rr__actor_side(self);
    if (!side)
        return RR_ENOMEM;
    rr__list_remove(&side->links, other, 0);
    return rr__list_add(&side->links, other, 0);
}

void rr__unlink_here(rr_actor_t *self, rr_addr_t other) {
    if (self->side)
        rr__list_remove(&self->side->links, other, 0);
}

int rr_link(rr_actor_t *self, rr_addr_t target) {
    if (target == self->addr)
        return RR_EINVAL;
    rr__touch_remote(self, target);
    int rc = rr__link_here(self, target);
    if (rc == RR_OK && tell(rr_system_of(self), RR__LINK, self->addr, target, 0, 0) == RR_ENOMEM) {
        rr__unlink_here(self, target);
        rc = RR_ENOMEM;
    }
    return rc;
}

void rr_unlink(rr_actor_t *self, rr_addr_t target) {
    rr__unlink_here(self, target);
    must_tell(rr_system_of(self), RR__UNLINK, self->addr, target, 0, 0);
}

/* ---- What arrives ----------------------------------------------------------------------------------------------- */

/* A linked actor ended: true if this one wants to see it as a message. */
static bool on_linked_end(rr_actor_t *self, const rr_message_t *msg) {
    if (!self->side || !rr__list_remove(&self->side->links, msg->from, 0))
        return false; /* unlinked meanwhile */
    int reason = (int)msg->type;
    if (!self->trap_exits && reason != RR_OK)
        rr_exit(self, reason);
    return self->trap_exits;
}

static void add_relation(rr_actor_t *self, const rr_message_t *msg) {
    rr__side_t *side = rr__actor_side(self);
    int rc = RR_ENOMEM;
    rr__touch_remote(self, msg->from);
    if (side && msg->kind == RR__MONITOR)
        rc = rr__list_add(&side->watchers, msg->from, msg->request);
    else if (side)
        rc = rr__link_here(self, msg->from);
    if (rc != RR_OK)
        rr__relation_refused(rr_system_of(self), msg, rc);
}

bool rr__on_relation(rr_actor_t *self, rr_message_t *msg) {
    switch (msg->kind) {
    case RR_DOWN:
        return self->side && rr__table_remove(&self->side->monitors, ENTRY, msg->request);
    case RR_EXIT:
        return on_linked_end(self, msg);
    case RR__DEMONITOR:
        if (self->side)
            rr__list_remove(&self->side->watchers, msg->from, msg->request);
        return false;
    case RR__UNLINK:
        rr__unlink_here(self, msg->from);
        return false;
    default:
        add_relation(self, msg);
        return false;
    }
}

/* To those here, or to those of other nodes. */
static void tell_end(rr_actor_t *self, int reason, bool away) {
    rr_system_t *system = rr_system_of(self);
    const rr__side_t *side = self->side;
    for (uint32_t i = 0; i < side->watchers.count; i++)
        if ((rr_addr_node(side->watchers.items[i].addr) != system->node) == away)
            must_tell(system, RR_DOWN, self->addr, side->watchers.items[i].addr, side->watchers.items[i].id, reason);
    for (uint32_t i = 0; i < side->links.count; i++)
        if ((rr_addr_node(side->links.items[i].addr) != system->node) == away)
            must_tell(system, RR_EXIT, self->addr, side->links.items[i].addr, 0, reason);
}

/* Other nodes first: who waits here for the end before this node leaves relies on that news being on its way. */
void rr__relations_end(rr_actor_t *self, int reason) {
    rr_system_t *system = rr_system_of(self);
    rr__side_t *side = self->side;
    tell_end(self, reason, true);
    tell_end(self, reason, false);
    for (uint32_t i = 0; i < side->monitors.capacity; i++) {
        uint64_t id;
        rr__monitor_entry_t *entry = rr__table_at(&side->monitors, ENTRY, i, &id);
        if (entry)
            must_tell(system, RR__DEMONITOR, self->addr, entry->target, id, 0);
    }
    rr__table_clear(&side->monitors);
    rr__list_clear(&side->watchers);
    rr__list_clear(&side->links);
}

/* Notices come as messages, behind what the node's actors themselves have sent in time. */
void rr__relations_node_down(rr_actor_t *self, unsigned node) {
    rr_system_t *system = rr_system_of(self);
    rr__side_t *side = self->side;
    for (uint32_t i = 0; i < side->monitors.capacity; i++) {
        uint64_t id;
        rr__monitor_entry_t *entry = rr__table_at(&side->monitors, ENTRY, i, &id);
        if (entry && rr_addr_node(entry->target) == node)
            must_tell(system, RR_DOWN, entry->target, self->addr, id, RR_LINKDOWN);
    }
    for (uint32_t i = 0; i < side->links.count; i++)
        if (rr_addr_node(side->links.items[i].addr) == node)
            must_tell(system, RR_EXIT, side->links.items[i].addr, self->addr, 0, RR_LINKDOWN);
    for (uint32_t i = side->watchers.count; i-- > 0;)
        if (rr_addr_node(side->watchers.items[i].addr) == node)
            rr__list_remove(&side->watchers, side->watchers.items[i].addr, side->watchers.items[i].id);
}
