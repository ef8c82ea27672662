/* master_changes.c: what changed, in order, and who is told of it. */
#include <stdlib.h>

#include "actors/master_impl.h"

static void record(rr_master_t *master, rr_reg_out_t *out) {
    rr__change_t *slot = &master->log[++master->version % RR__MASTER_LOG];
    free(slot->bytes);
    if (out->failed) { /* nobody can be told: who asks from before here is told everything */
        rr_log(master->system, RR_ERROR, "BROKER", "no memory to remember a change");
        rr_reg_out_free(out);
    }
    *slot = (rr__change_t){out->data, (uint32_t)out->size};
    rr_count(&master->changes, 1);
}

static void put_name(rr_reg_out_t *out, const char *text, rr_addr_t addr, uint64_t epoch) {
    rr_reg_put8(out, RR_REG_NAME);
    rr_reg_put_str(out, text);
    rr_reg_put64(out, addr);
    rr_reg_put64(out, epoch);
}

static void put_node(rr_reg_out_t *out, const rr__node_t *node) {
    rr_reg_put8(out, RR_REG_NODE);
    rr_reg_put8(out, node->draining ? RR_NODE_DRAINING : RR_NODE_ALIVE);
    rr_reg_put64(out, node->agent);
    rr_reg_put_identity(out, &node->identity);
}

void rr__master_tell_name(rr_master_t *master, const char *text, rr_addr_t addr, uint64_t epoch) {
    rr_reg_out_t out = {0};
    put_name(&out, text, addr, epoch);
    record(master, &out);
}

void rr__master_tell_node(rr_master_t *master, const rr__node_t *node) {
    rr_reg_out_t out = {0};
    put_node(&out, node);
    record(master, &out);
}

void rr__master_tell_gone(rr_master_t *master, const rr__node_t *node, bool left) {
    rr_reg_out_t out = {0};
    rr_reg_put8(&out, RR_REG_NODE_GONE);
    rr_reg_put16(&out, (uint16_t)node->identity.node);
    rr_reg_put64(&out, node->identity.incarnation);
    rr_reg_put8(&out, left);
    record(master, &out);
}

void rr__master_tell_settled(rr_master_t *master) {
    rr_reg_out_t out = {0};
    rr_reg_put8(&out, RR_REG_SETTLED);
    record(master, &out);
}

/* Are all changes behind that version still in the log? */
static bool remembers(const rr_master_t *master, uint64_t from) {
    if (from > master->version || master->version - from > RR__MASTER_LOG)
        return false;
    for (uint64_t v = from + 1; v <= master->version; v++)
        if (!master->log[v % RR__MASTER_LOG].bytes)
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
        rr_reg_put_bytes(out, master->log[v % RR__MASTER_LOG].bytes, master->log[v % RR__MASTER_LOG].size);
}

static void put_whole(rr_master_t *master, rr_reg_out_t *out) {
    uint32_t count = 0;
    put_changes_head(master, out, 0, master->grace_until_ns ? RR_REG_SO_FAR : RR_REG_WHOLE);
    size_t at = out->size;
    rr_reg_put32(out, 0);
    for (uint32_t i = 0; master->nodes.cells && i <= master->nodes.mask; i++) {
        rr__node_t *node = master->nodes.cells[i].value;
        if (master->nodes.cells[i].key && node->phase == RR__MEMBER) {
            put_node(out, node);
            count++;
        }
    }
    for (uint32_t i = 0; master->names.cells && i <= master->names.mask; i++) {
        rr__name_t *name = master->names.cells[i].item;
        if (name) {
            put_name(out, name->text, name->addr, name->epoch);
            count++;
        }
    }
    rr_reg_patch32(out, at, count);
    rr_count(&master->wholes, 1);
}

void rr__master_put_changes(rr_master_t *master, rr_reg_out_t *out, uint64_t table, uint64_t version) {
    if (table == master->table && remembers(master, version))
        put_since(master, out, version);
    else
        put_whole(master, out);
}

static void tell_agent(rr_actor_t *self, rr__node_t *node, rr_buffer_t *buffer) {
    int rc = rr_send_buffer(self, node->agent, RR_REG_CHANGED, rr_buffer_ref(buffer));
    if (rc != RR_OK) /* it sees the gap with the next change or renewal, and asks for what it missed */
        rr_log(rr_system_of(self), RR_DEBUG, "BROKER", "node %s misses a change for now: %s", node->identity.name,
               rr_strerror(rc));
}

void rr__master_flush(rr_actor_t *self, rr_master_t *master) {
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
        rr__node_t *node = master->nodes.cells[i].value;
        if (master->nodes.cells[i].key && node->phase == RR__MEMBER)
            tell_agent(self, node, buffer);
    }
    rr_buffer_unref(buffer);
}
