/* master_names.c: names and their owners: granted, kept, freed, claimed. */
#include <stdlib.h>
#include <string.h>

#include "actors/master_impl.h"
#include "runtime/hash.h"

#define WAIT_MAX_MS 1000u /* a waiting claim asks again at least so often */

/* ---- Names ---- */

static bool has_text(const void *item, const void *key) { return !strcmp(((const rr__name_t *)item)->text, key); }

rr__name_t *rr__master_name_find(rr_master_t *master, const char *text) {
    return rr_set_find(&master->names, rr_hash_text(text), has_text, text);
}

/* ---- Granting and freeing ---- */

void rr__master_name_free(rr_master_t *master, rr__name_t *name) {
    rr__master_tell_name(master, name->text, RR_NOBODY, name->epoch);
    rr_set_remove(&master->names, rr_hash_text(name->text), name);
    rr_count(&master->owned, (uint64_t)-1);
    LIST_REMOVE(name, entry);
    free(name);
}

static uint64_t new_epoch(rr_master_t *master) { return (uint64_t)master->options.term << 32 | ++master->counter; }

/* NULL: out of memory, or too many. */
rr__name_t *rr__master_name_own(rr_master_t *master, rr__node_t *node, const char *text, rr_addr_t addr, uint64_t epoch) {
    rr__name_t *name = master->names.count < master->options.max_names ? calloc(1, sizeof *name) : NULL;
    if (!name || !rr_set_add(&master->names, rr_hash_text(text), name)) {
        free(name);
        return NULL;
    }
    name->node = node;
    name->addr = addr;
    name->epoch = epoch;
    strcpy(name->text, text);
    LIST_INSERT_HEAD(&node->names, name, entry);
    rr_count(&master->owned, 1);
    rr__master_tell_name(master, text, addr, epoch);
    return name;
}

/* ---- Claims ---- */

typedef struct verdict {
    uint8_t result;
    uint64_t epoch, owner;
    const char *node;
    uint32_t wait_ms;
} verdict_t;

static uint32_t wait_ms(rr_master_t *master, uint64_t until_ns) {
    uint64_t now = rr__master_boot(master), left = until_ns > now ? rr__to_ms(until_ns - now) + 1 : 1;
    rr_count(&master->waits, 1);
    return (uint32_t)left;
}

static verdict_t grant(rr_master_t *master, rr__node_t *node, const char *text, rr_addr_t addr) {
    rr__name_t *name = rr__master_name_own(master, node, text, addr, new_epoch(master));
    if (!name)
        return (verdict_t){RR_REG_WAIT, 0, 0, "", WAIT_MAX_MS}; /* the limit, or memory */
    rr_count(&master->grants, 1);
    return (verdict_t){RR_REG_GRANTED, name->epoch, addr, "", 0};
}

static verdict_t claim(rr_master_t *master, rr__node_t *node, const char *text, rr_addr_t addr) {
    rr__name_t *name = rr__master_name_find(master, text);
    if (name && name->node == node && name->addr == addr)
        return (verdict_t){RR_REG_GRANTED, name->epoch, addr, "", 0};
    if (name && name->node == node) { /* its earlier actor of that name has ended */
        rr__master_name_free(master, name);
        return grant(master, node, text, addr);
    }
    if (name) {
        bool lively = rr__master_is_lively(master, name->node);
        rr_count(&master->refusals, lively);
        return (verdict_t){lively ? RR_REG_REFUSED : RR_REG_WAIT, name->epoch, name->addr, name->node->identity.name,
                           lively ? 0 : wait_ms(master, name->node->heard_ns + rr__master_patience_ns(master))};
    }
    if (rr__master_in_grace(master))
        return (verdict_t){RR_REG_WAIT, 0, 0, "", wait_ms(master, master->grace_until_ns)};
    return grant(master, node, text, addr);
}

static verdict_t release(rr_master_t *master, rr__node_t *node, const char *text, rr_addr_t addr) {
    rr__name_t *name = rr__master_name_find(master, text);
    if (name && name->node == node && name->addr == addr)
        rr__master_name_free(master, name);
    return (verdict_t){.result = RR_REG_RELEASED, .node = ""};
}

static void put_verdict(rr_reg_out_t *out, const verdict_t *verdict) {
    rr_reg_put8(out, verdict->result);
    rr_reg_put64(out, verdict->epoch);
    rr_reg_put64(out, verdict->owner);
    rr_reg_put_str(out, verdict->node);
    rr_reg_put32(out, verdict->wait_ms);
}

void rr__master_on_update(rr_actor_t *self, rr_master_t *master, rr_message_t *msg) {
    rr_reg_in_t in = rr_reg_in_of(msg);
    unsigned id = rr_reg_get16(&in);
    uint64_t incarnation = rr_reg_get64(&in);
    uint32_t count = rr_reg_get32(&in);
    char why[RR_REG_WHY] = "", text[RR_REG_NAME_SIZE];
    if (in.bad || rr_addr_node(rr_message_from(msg)) != id) {
        rr_reply_error(self, msg, RR_EHANDLER, rr_strerror(RR_EPROTO));
        return;
    }
    rr__node_t *node = rr__master_member(master, id, incarnation);
    if (rr__master_is_stale(master, 0, id, incarnation, why) || !node) {
        rr__master_answer_status(self, msg, why[0] ? RR_REG_STALE : RR_REG_UNKNOWN, why);
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
    rr__master_answer(self, msg, &out);
}
