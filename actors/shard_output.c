/* shard_output.c: what scenes say, carried out: straight into the connections' output, which leaves in one write per
 * connection and turn of the loop. */
#include <stdlib.h>

#include "actors/gate_impl.h"

#define WARN_NS     1000000000ull
#define SHARE_ABOVE RR_BODY_INLINE /* bodies that came by themselves go out by reference */

/* A record with its message: behind its head in the record, or the message that followed. */
typedef struct output {
    rr__shard_t *shard;
    rr__scene_ref_t *from;
    const rr_record_t *record;
    const uint8_t *body; /* all of it, or what followed */
    size_t size;
    rr_buffer_t *owner; /* body lies in it; may be NULL */
    const uint8_t *list; /* of the last MULTICAST; NULL: none yet */
    uint32_t listed;     /* how many there are in it */
} output_t;

static void bad(output_t *o) {
    rr_count(&o->shard->count.bad_records, 1);
}

/* ---- To clients ---- */

/* The scene's fault, not the client's. Its send said True: only the gate knows its limit. */
static void drop(rr__shard_t *shard, size_t size) {
    uint64_t now = rr_loop_now_ns(shard->loop);
    rr_count(&shard->count.dropped, 1);
    if (shard->dropped_warned_ns && now - shard->dropped_warned_ns < WARN_NS) {
        shard->dropped_unwarned++;
        return;
    }
    rr_log(shard->system, RR_WARN, "GATE",
           "%s: a message of %zu bytes was not sent: max_packet_size is %zu (%llu more since the last warning)",
           shard->gate->options.name, size, shard->gate->options.max_packet,
           (unsigned long long)shard->dropped_unwarned);
    shard->dropped_warned_ns = now ? now : 1;
    shard->dropped_unwarned = 0;
}

static void sent_many(rr__slot_t *slot, int rc, unsigned count, size_t size) {
    rr__shard_t *shard = slot->shard;
    if (rc == RR_OK) {
        rr_count(&shard->count.messages_out, count);
        rr_count(&shard->count.bytes_out, size);
    } else if (rc == RR_ELIMIT) {
        rr__shard_close(slot, RR_CLOSE_SLOW_READER);
    } else if (rc == RR_ENOMEM) {
        rr__shard_close(slot, RR_CLOSE_IO);
    } else if (rc == RR_ETOOBIG) {
        drop(shard, size);
    } /* else it is closing, or was never one to send to */
}

static void sent(rr__slot_t *slot, int rc, size_t size) {
    sent_many(slot, rc, 1, size);
}

static void send_one(output_t *o, rr__slot_t *slot, uint16_t cmd, const uint8_t *body, size_t size, bool text) {
    if (size <= SHARE_ABOVE || !o->owner) {
        sent(slot, rr_connection_send(slot->connection, cmd, body, size, text), size);
        return;
    }
    rr_shared_message_t *message = rr_shared_message_new(cmd, o->owner, body, size, text);
    sent(slot, message ? rr_connection_send_shared(slot->connection, message) : RR_ENOMEM, size);
    rr_shared_message_free(message);
}

static rr__slot_t *listed_slot(rr__shard_t *shard, const uint8_t *list, uint32_t i) {
    const uint8_t *p = list + (size_t)i * RR_LIST_ENTRY;
    return rr__shard_slot(shard, rr_get32(p + 8), rr_get64(p));
}

/* Finds whom a MULTICAST is for, and where its message begins. False: it makes no sense. */
static bool read_list(output_t *o) {
    const rr_record_t *record = o->record;
    if (record->arg & RR_SEND_SAME)
        return o->list && o->listed == record->slot && !record->follows;
    size_t size = (size_t)record->slot * RR_LIST_ENTRY;
    if (size > record->size)
        return false;
    o->list = record->body;
    o->listed = record->slot;
    if (!record->follows) {
        o->body += size;
        o->size -= size;
    }
    return true;
}

static void on_multicast(output_t *o, rr_shared_message_t *message) {
    for (uint32_t i = 0; i < o->listed; i++) {
        rr__slot_t *slot = listed_slot(o->shard, o->list, i);
        if (slot)
            sent(slot, rr_connection_send_shared(slot->connection, message), o->size);
        else
            rr_count(&o->shard->count.stale, 1);
    }
    rr_count(&o->shard->count.multicasts, 1);
}

static void on_broadcast(output_t *o, rr_shared_message_t *message) {
    for (rr__slot_t *slot = o->from->members, *next; slot; slot = next) {
        next = slot->member_next; /* a slow reader leaves the list */
        sent(slot, rr_connection_send_shared(slot->connection, message), o->size);
    }
    rr_count(&o->shard->count.broadcasts, 1);
}

/* Small broadcasts one behind the other, or multicasts to one list, go to each client at once: a call a client, not one a
 * client and message. False: it is not one of those, or it must wait for the row that is there. */
static bool row_take(const output_t *o) {
    rr__shard_t *shard = o->shard;
    const rr_record_t *record = o->record;
    size_t limit = shard->gate->options.max_packet;
    bool to_list = record->kind == RR_REC_MULTICAST;
    if ((record->kind != RR_REC_BROADCAST && !to_list) || record->follows || (limit && o->size > limit))
        return false;
    if (!shard->row)
        shard->row = rr_shared_row_new(); /* without memory each goes by itself */
    const uint8_t *list = to_list ? o->list : NULL;
    if (!shard->row || (rr_shared_row_count(shard->row) > 0 && shard->row_list != list))
        return false;
    shard->row_list = list;
    shard->row_listed = to_list ? o->listed : 0;
    return rr_shared_row_add(shard->row, record->cmd, o->body, o->size, record->arg & RR_SEND_TEXT);
}

static void row_to_members(rr__scene_ref_t *from, rr_shared_row_t *row) {
    unsigned count = rr_shared_row_count(row);
    for (rr__slot_t *slot = from->members, *next; slot; slot = next) {
        next = slot->member_next; /* a slow reader leaves the list */
        sent_many(slot, rr_connection_send_row(slot->connection, row), count, rr_shared_row_bytes(row));
    }
}

static void row_to_list(rr__shard_t *shard, rr_shared_row_t *row) {
    unsigned count = rr_shared_row_count(row);
    for (uint32_t i = 0; i < shard->row_listed; i++) {
        rr__slot_t *slot = listed_slot(shard, shard->row_list, i);
        if (slot)
            sent_many(slot, rr_connection_send_row(slot->connection, row), count, rr_shared_row_bytes(row));
        else
            rr_count(&shard->count.stale, count);
    }
}

static void row_out(rr__shard_t *shard, rr__scene_ref_t *from) {
    rr_shared_row_t *row = shard->row;
    unsigned count = row ? rr_shared_row_count(row) : 0;
    if (count == 0)
        return;
    if (shard->row_list)
        row_to_list(shard, row);
    else
        row_to_members(from, row);
    rr_count(shard->row_list ? &shard->count.multicasts : &shard->count.broadcasts, count);
    shard->row_list = NULL;
    rr_shared_row_clear(row);
}

static void on_gate_cast(output_t *o, rr_shared_message_t *message) {
    rr__shard_t *shard = o->shard;
    for (uint32_t c = 0; c < shard->chunk_count; c++)
        for (uint32_t i = 0; i < RR__CHUNK_SLOTS; i++) {
            rr__slot_t *slot = &shard->chunks[c][i];
            if (slot->state == RR__ACTIVE || slot->state == RR__MOVED_OFF || slot->state == RR__LOST)
                sent(slot, rr_connection_send_shared(slot->connection, message), o->size);
        }
    rr_count(&shard->count.broadcasts, 1);
}

static void to_many(output_t *o) {
    rr_shared_message_t *message =
        rr_shared_message_new(o->record->cmd, o->owner, o->body, o->size, o->record->arg & RR_SEND_TEXT);
    if (!message) {
        rr_count(&o->shard->count.dropped, 1);
        return;
    }
    if (o->record->kind == RR_REC_MULTICAST)
        on_multicast(o, message);
    else if (o->record->kind == RR_REC_BROADCAST)
        on_broadcast(o, message);
    else
        on_gate_cast(o, message);
    rr_shared_message_free(message);
}

/* ---- Login ---- */

static void on_accept(output_t *o, rr__slot_t *slot) {
    const rr_record_t *record = o->record;
    uint32_t sid_size = record->size >= 4 ? rr_get32(record->body) : UINT32_MAX;
    if (slot->state != RR__LOGGING_IN || slot->scene != o->from || sid_size > RR_SID_MAX ||
        sid_size > record->size - 4) {
        bad(o);
        return;
    }
    if (o->shard->gate->options.scene_lost != RR_LOST_RELOGIN && slot->kept)
        (void)rr__slot_keep(slot, RR__KEPT_KEY, NULL, 0);
    if (!rr__slot_keep(slot, RR__KEPT_SID, record->body + 4, sid_size)) {
        rr__shard_close(slot, RR_CLOSE_IO);
        return;
    }
    bool again = slot->flags & RR__SLOT_AGAIN;
    slot->flags &= (uint8_t)~RR__SLOT_AGAIN;
    slot->state = RR__ACTIVE;
    slot->hop = 0;
    slot->ping_tick = o->shard->tick;
    atomic_fetch_sub_explicit(&o->shard->gate->pending_logins, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&o->shard->gate->session_count, 1, memory_order_relaxed);
    rr_count(&o->shard->count.sessions, 1);
    rr__slot_watch(slot);
    if (!record->follows) {
        o->body += 4 + sid_size;
        o->size -= 4 + sid_size;
    }
    if ((record->arg & RR_ACCEPT_EXTRA) && !again)
        send_one(o, slot, 0, o->body, o->size, record->arg & RR_ACCEPT_TEXT);
}

static void on_refuse(output_t *o, rr__slot_t *slot) {
    if (slot->state != RR__LOGGING_IN || slot->scene != o->from) {
        bad(o);
        return;
    }
    if (o->record->arg & RR_ACCEPT_EXTRA)
        send_one(o, slot, 0, o->body, o->size, o->record->arg & RR_ACCEPT_TEXT);
    rr__ref_use(&slot->scene, NULL); /* it has forgotten the session already */
    rr__ref_use(&slot->login, NULL);
    rr__shard_close(slot, RR_CLOSE_REFUSED);
}

/* ---- Moves ---- */

static rr__held_t *held_new(uint16_t cmd, const uint8_t *body, size_t size) {
    rr__held_t *held = malloc(sizeof(*held) + size);
    if (!held)
        return NULL;
    *held = (rr__held_t){.size = (uint32_t)size, .cmd = cmd, .body = (const uint8_t *)(held + 1)};
    if (size)
        memcpy(held + 1, body, size);
    return held;
}

/* What a RESUME of the session would need. */
static void keep_extra(rr__slot_t *slot, uint16_t cmd, const uint8_t *body, size_t size) {
    bool none = cmd == RR_JOIN_NO_EXTRA || !rr__slot_keep(slot, RR__KEPT_EXTRA, cmd ? body : NULL, cmd ? size : 0);
    slot->flags = (uint8_t)((slot->flags & ~RR__SLOT_NO_EXTRA) | (none ? RR__SLOT_NO_EXTRA : 0));
}

/* Everything held goes to whoever has the session now. */
static void release(rr__slot_t *slot) {
    slot->state = RR__ACTIVE;
    rr__hold_release(slot);
}

static void keep_enter(output_t *o, rr__slot_t *slot, bool under_way) {
    if (!under_way) {
        keep_extra(slot, o->record->cmd, o->body, o->size);
        return;
    }
    free(slot->hold->extra); /* should the move fail after all, the last enter was the old scene's */
    slot->hold->extra = held_new(o->record->cmd, o->body, o->size);
    if (!slot->hold->extra)
        rr__shard_close(slot, RR_CLOSE_IO);
}

static void on_join(output_t *o, rr__slot_t *slot) {
    if (o->record->arg != slot->hop || slot->flags & RR__SLOT_STAYED) {
        rr__ref_record(slot, o->from, RR_REC_DROP, o->record->arg); /* that move was given up */
        return;
    }
    bool under_way = slot->state == RR__MOVED_OFF, arrived = under_way && slot->hold->arrived;
    rr__slot_member(slot, o->from);
    if (under_way)
        slot->hold->forgotten = false;
    if (o->shard->gate->options.scene_lost == RR_LOST_WAIT)
        keep_enter(o, slot, under_way && !arrived);
    if (arrived)
        release(slot);
}

static void on_part(output_t *o, rr__slot_t *slot) {
    if (slot->member == o->from)
        rr__slot_member(slot, NULL);
}

static void on_move(output_t *o, rr__slot_t *slot) {
    uint16_t cmd = o->record->cmd & (RR_MOVE_BACK | RR_MOVE_EXTRA);
    if (slot->state == RR__MOVED_OFF && slot->member == o->from && o->record->arg == slot->hop + 1) {
        rr__slot_early(slot, true, cmd);
        return;
    }
    if (slot->state != RR__ACTIVE || slot->scene != o->from) {
        bad(o);
        return;
    }
    if (!rr__hold_make(slot)) {
        rr__shard_close(slot, RR_CLOSE_IO);
        return;
    }
    slot->state = RR__MOVED_OFF;
    slot->hop = o->record->arg;
    slot->flags &= (uint8_t)~RR__SLOT_STAYED;
    rr__slot_unpause(slot);
    rr__ref_fence(slot, o->from, cmd & RR_MOVE_BACK ? rr__slot_back(slot, cmd & RR_MOVE_EXTRA) : RR_BACK_REFUSED);
}

void rr__hold_return(rr__slot_t *slot, uint16_t cmd, const uint8_t *body, size_t size) {
    rr__held_t *held = rr__hold_make(slot) ? held_new(cmd, body, size) : NULL;
    if (!held) {
        rr__shard_close(slot, RR_CLOSE_IO);
        return;
    }
    *slot->hold->returned_last = held;
    slot->hold->returned_last = &held->next;
}

static void on_return(output_t *o, rr__slot_t *slot) {
    if (slot->state != RR__MOVED_OFF || slot->scene != o->from)
        bad(o);
    else
        rr__hold_return(slot, o->record->cmd, o->body, o->size);
}

static void on_stay(output_t *o, rr__slot_t *slot) {
    if (slot->state != RR__MOVED_OFF || slot->hop != o->record->arg) {
        bad(o);
        return;
    }
    rr__slot_early(slot, false, 0);
    slot->flags |= RR__SLOT_STAYED;
    if (slot->member && slot->member != o->from)
        rr__ref_record(slot, slot->member, RR_REC_DROP, slot->hop);
    if (slot->member != o->from)
        rr__slot_member(slot, o->from);
    release(slot);
}

static void name_ref(rr__scene_ref_t *ref, const void *name, size_t size) {
    if (!ref->name && size > 0)
        ref->name = strndup(name, size); /* without memory its sessions cannot outlive it */
}

/* Where it moved to. One that we knew there, and is dead, may be back: it is another one then. */
static rr__scene_ref_t *target_of(rr__shard_t *shard, rr_addr_t addr) {
    rr__scene_ref_t *ref = rr__scene_known(shard, addr);
    if (ref)
        return ref;
    ref = rr__scene_ref(shard, addr);
    if (ref)
        ref->unheard = true;
    return ref;
}

/* The session is the target's now, or was, if the client has left meanwhile: it hears of that then. */
static void on_moved(output_t *o, rr__slot_t *slot) {
    const rr_record_t *record = o->record;
    rr__scene_ref_t *target = record->size >= 12 ? target_of(o->shard, rr_get64(record->body)) : NULL;
    if (!target) {
        bad(o);
        return;
    }
    name_ref(target, record->body + 12, record->size - 12);
    if (!slot) {
        uint32_t left = rr_get32(record->body + 8);
        rr__slot_t gone = {.shard = o->shard, .index = record->slot, .incarnation = record->incarnation};
        rr__ref_record(&gone, target, RR_REC_LEFT,
                       (left && left <= RR_CLOSE_REASON_COUNT ? left - 1 : RR_CLOSE_PEER) | RR_LEFT_HOLDER);
        return;
    }
    if (slot->state != RR__MOVED_OFF || slot->hop != record->arg) {
        bad(o);
        return;
    }
    rr__ref_use(&slot->scene, target);
    if (slot->member == o->from)
        rr__slot_member(slot, NULL); /* its JOIN is on the way */
    if (slot->hold->extra)
        keep_extra(slot, slot->hold->extra->cmd, slot->hold->extra->body, slot->hold->extra->size);
    if (target->dead || target == o->from) { /* gone, or given back by the old one, which ends */
        rr__slot_lose(slot);
        return;
    }
    if (slot->member != target && (target->unheard || slot->hold->forgotten)) {
        rr__slot_await_join(slot);
        return;
    }
    release(slot);
    if (slot->state == RR__ACTIVE && slot->flags & RR__SLOT_MOVE_EARLY) {
        uint16_t cmd = (slot->flags & RR__SLOT_EARLY_CMD) >> RR__EARLY_SHIFT;
        rr_record_t move = {.arg = slot->hop + 1, .cmd = cmd};
        output_t early = {.shard = o->shard, .from = target, .record = &move};
        rr__slot_early(slot, false, 0);
        on_move(&early, slot);
    }
}

/* ---- Dispatch ---- */

static void on_ack(output_t *o) {
    if (o->record->size < 16) {
        bad(o);
        return;
    }
    o->from->done_records = rr_get64(o->record->body);
    o->from->done_bytes = rr_get64(o->record->body + 8);
    rr__ref_resume(o->shard, o->from);
}

/* Behind the answer no login is given to it, until it says otherwise. */
static void on_draining(output_t *o) {
    o->from->draining = o->record->arg == 1;
    if (o->from == o->shard->login)
        o->shard->login_drained = o->from->draining;
    if (rr__ref_put(o->shard, o->from, RR_REC_QUIET, 0, 0, 0, o->record->arg, NULL, 0, NULL, 0, NULL) != RR_OK)
        rr_log(o->shard->system, RR_ERROR, "GATE", "%s: out of memory: a scene that is drained waits in vain",
               o->shard->gate->options.name);
    rr__logins_go(o->shard);
}

static void on_close(output_t *o, rr__slot_t *slot) {
    if (o->record->arg < RR_CLOSE_REASON_COUNT)
        rr__shard_close(slot, (rr_close_reason_t)o->record->arg);
    else
        bad(o);
}

static void to_session(output_t *o) {
    static void (*const handlers[])(output_t *, rr__slot_t *) = {
        [RR_REC_ACCEPT] = on_accept, [RR_REC_REFUSE] = on_refuse, [RR_REC_JOIN] = on_join,
        [RR_REC_PART] = on_part,     [RR_REC_CLOSE] = on_close,   [RR_REC_MOVE] = on_move,
        [RR_REC_STAY] = on_stay,     [RR_REC_RETURN] = on_return, [RR_REC_MOVED] = on_moved,
    };
    const rr_record_t *record = o->record;
    if (record->kind >= sizeof(handlers) / sizeof(*handlers) || !handlers[record->kind]) {
        bad(o);
        return;
    }
    rr__slot_t *slot = rr__shard_slot(o->shard, record->slot, record->incarnation);
    if (slot || record->kind == RR_REC_MOVED)
        handlers[record->kind](o, slot);
    else
        rr_count(&o->shard->count.stale, 1);
    if (!slot && record->kind == RR_REC_JOIN) { /* should its old scene be gone, nobody else would say so */
        rr__slot_t gone = {.shard = o->shard, .index = record->slot, .incarnation = record->incarnation};
        rr__ref_record(&gone, o->from, RR_REC_LEFT, RR_CLOSE_PEER | RR_LEFT_HOLDER);
    }
}

static void carry_out(output_t *o) {
    rr__slot_t *slot;
    switch (o->record->kind) {
    case RR_REC_SEND:
        slot = rr__shard_slot(o->shard, o->record->slot, o->record->incarnation);
        if (slot)
            send_one(o, slot, o->record->cmd, o->body, o->size, o->record->arg & RR_SEND_TEXT);
        else
            rr_count(&o->shard->count.stale, 1);
        break;
    case RR_REC_MULTICAST:
    case RR_REC_BROADCAST:
    case RR_REC_GATE_CAST:
        to_many(o);
        break;
    case RR_REC_ACK:
        on_ack(o);
        break;
    case RR_REC_NAME:
        name_ref(o->from, o->body, o->size);
        break;
    case RR_REC_DRAINING:
        on_draining(o);
        break;
    default:
        to_session(o);
    }
}

/* The record's message is the next one: keeps the record. */
static void expect_body(output_t *o) {
    rr__scene_ref_t *from = o->from;
    free(from->pending_head);
    from->pending = *o->record;
    from->pending_head = malloc(o->record->size ? o->record->size : 1);
    if (from->pending_head)
        memcpy(from->pending_head, o->record->body, o->record->size);
    else
        from->pending.size = 0;
    from->pending.body = from->pending_head;
    from->body_follows = true;
}

void rr__shard_body(rr__shard_t *shard, rr_message_t *msg) {
    rr__scene_ref_t *from = rr__scene_ref(shard, rr_message_from(msg));
    if (!from || !from->body_follows) {
        rr_count(&shard->count.bad_records, 1);
        return;
    }
    from->body_follows = false;
    output_t o = {shard, from, &from->pending, rr_message_data(msg), rr_message_size(msg), rr_message_buffer(msg), NULL, 0};
    if (from->pending.kind == RR_REC_MULTICAST && !read_list(&o))
        bad(&o);
    else
        carry_out(&o);
}

void rr__shard_output(rr__shard_t *shard, rr_message_t *msg) {
    rr_batch_reader_t reader;
    rr_record_t record;
    rr__scene_ref_t *from = rr__scene_ref(shard, rr_message_from(msg));
    if (from)
        from->unheard = false;
    int rc = from ? rr_batch_open(&reader, rr_message_data(msg), rr_message_size(msg)) : RR_EPROTO;
    rr_count(&shard->count.batches_out, 1);
    if (rc == RR_OK && from->dead) { /* its name is another's by now */
        rr_count(&shard->count.stale, reader.records);
        return;
    }
    output_t o = {.shard = shard, .from = from, .record = &record, .owner = rr_message_buffer(msg)};
    while (rc == RR_OK && (rc = rr_batch_next(&reader, &record)) == RR_OK) {
        o.body = record.body;
        o.size = record.size;
        if (record.kind == RR_REC_MULTICAST && !read_list(&o)) {
            bad(&o);
            continue;
        }
        if (row_take(&o))
            continue;
        row_out(shard, from);
        if (row_take(&o)) /* it was full, or for others */
            continue;
        if (record.follows)
            expect_body(&o);
        else
            carry_out(&o);
    }
    if (from)
        row_out(shard, from);
    if (rc == RR_EPROTO)
        rr_count(&shard->count.bad_records, 1);
}
