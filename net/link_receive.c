#include <stdio.h>
#include <stdlib.h>

#include "net/mesh_impl.h"

typedef struct reader {
    rr__link_t *link;
    rr_addr_t here, there; /* node parts */
    uint64_t messages, bytes;
    const char *wrong; /* what breaks the protocol */
} reader_t;

/* ---- Delivering ---- */

static void undelivered(void *context, const rr_envelope_t *env, int rc) {
    rr__link_t *link = context;
    if (env->kind == RR_SEND) {
        rr__link_send_nack(link, env, rc);
    } else {
        rr_envelope_refuse(link->mesh->system, env, rc == RR_EFULL ? RR_OVERLOAD : rc);
    }
}

static void deliver(reader_t *reader, const rr_envelope_t *env) {
    rr__link_t *link = reader->link;
    bool filling = false;
    reader->messages++;
    reader->bytes += env->size;
    int rc = rr_delivery_add(&link->mesh->delivery, env, &filling);
    if (__builtin_expect(rc == RR_EPROTO, 0)) {
        reader->wrong = "a message of a kind or to an address that may not come from outside";
        return;
    }
    if (__builtin_expect(rc != RR_OK, 0)) {
        undelivered(link, env, rc);
    }
    if (__builtin_expect(filling || rc == RR_EFULL, 0) && link->last_paused != env->to) {
        rr__pause_ask(link->mesh, link, env->to);
    }
}

static rr_envelope_t envelope_of(const reader_t *reader, const rr_record_t *r, const uint8_t *data,
                                 rr_buffer_t *buffer) {
    return (rr_envelope_t){.to = reader->here | r->to,
                           .from = r->flags & RR_RECORD_NOBODY ? RR_NOBODY : reader->there | r->from,
                           .request = r->request,
                           .type = r->type,
                           .size = r->size,
                           .weight = r->weight,
                           .kind = r->kind,
                           .flags = r->flags & RR_RECORD_UNSHEDDABLE ? RR_ENVELOPE_UNSHEDDABLE : 0,
                           .data = data,
                           .buffer = buffer};
}

/* ---- Cut messages ---- */

static rr__assembly_t *assembly_of(rr__link_t *link, bool used, uint32_t id) {
    for (unsigned i = 0; i < RR_NODE_TRANSFERS; i++) {
        rr__assembly_t *a = &link->assemblies[i];
        if (a->used == used && (!used || a->id == id)) {
            return a;
        }
    }
    return NULL;
}

static void begin_cut(reader_t *reader, const rr_record_t *r, const uint8_t *data) {
    rr__link_t *link = reader->link;
    rr__assembly_t *a = assembly_of(link, true, r->transfer) ? NULL : assembly_of(link, false, 0);
    if (!a) {
        reader->wrong = "too many cut messages at once";
        return;
    }
    *a = (rr__assembly_t){.used = true, .id = r->transfer, .have = r->piece, .record = *r};
    bool fits = r->size <= link->mesh->options.max_message;
    a->buffer = fits ? rr_buffer_new(r->size) : NULL;
    if (a->buffer) {
        memcpy(rr_buffer_data(a->buffer), data, r->piece);
    } else { /* its other pieces are skipped */
        rr_envelope_t env = envelope_of(reader, r, NULL, NULL);
        undelivered(link, &env, fits ? RR_ENOMEM : RR_ETOOBIG);
    }
}

static void more_of_cut(reader_t *reader, const rr_record_t *r, const uint8_t *data) {
    rr__assembly_t *a = assembly_of(reader->link, true, r->type);
    if (!a || r->piece > a->record.size - a->have) {
        reader->wrong = "a piece of no message";
        return;
    }
    if (a->buffer) {
        memcpy(rr_buffer_data(a->buffer) + a->have, data, r->piece);
    }
    a->have += r->piece;
    if (a->have < a->record.size) {
        return;
    }
    rr_buffer_t *buffer = a->buffer;
    a->used = false;
    a->buffer = NULL;
    if (buffer) {
        rr_envelope_t env = envelope_of(reader, &a->record, rr_buffer_data(buffer), buffer);
        deliver(reader, &env);
        rr_buffer_unref(buffer);
    }
}

void rr__link_drop_input(rr__link_t *link) {
    if (link->mesh->delivery.context == link) {
        rr_delivery_flush(&link->mesh->delivery);
        link->mesh->delivery.context = NULL;
    }
    for (unsigned i = 0; i < RR_NODE_TRANSFERS; i++) {
        rr_buffer_unref(link->assemblies[i].buffer);
        link->assemblies[i] = (rr__assembly_t){.used = false};
    }
    link->received = 0;
    link->owes = false;
    link->owed_bytes = 0;
    link->last_paused = RR_NOBODY;
}

/* ---- What is no message ---- */

static void on_nack(reader_t *reader, const rr_record_t *r, const uint8_t *data) {
    if (r->piece != 8) {
        reader->wrong = "a malformed report of an undelivered message";
        return;
    }
    int reason = (int)rr__get32(data + 4);
    rr_envelope_t env = {.to = reader->there | r->to,
                         .from = r->flags & RR_RECORD_NOBODY ? RR_NOBODY : reader->here | r->from,
                         .type = r->type,
                         .size = rr__get32(data),
                         .weight = 1,
                         .kind = RR_SEND};
    rr_envelope_refuse(reader->link->mesh->system, &env, reason < 0 ? reason : RR_NOROUTE);
}

static void on_pause(reader_t *reader, const rr_record_t *r) {
    rr_system_t *system = reader->link->mesh->system;
    if (rr_remote_pause(system, reader->there | r->to, r->kind == RR_RECORD_PAUSE) != RR_OK) {
        rr_log(system, RR_WARN, "LINK", "%s: no memory for a pause: its messages may be refused", reader->link->text);
    }
}

static void take(reader_t *reader, const rr_record_t *r, const uint8_t *data) {
    if (__builtin_expect(r->kind < RR_RECORD_NACK && !(r->flags & RR_RECORD_CUT), 1)) {
        rr_envelope_t env = envelope_of(reader, r, data, NULL);
        deliver(reader, &env);
    } else if (r->flags & RR_RECORD_CUT) {
        begin_cut(reader, r, data);
    } else if (r->kind == RR_RECORD_FRAGMENT) {
        more_of_cut(reader, r, data);
    } else if (r->kind == RR_RECORD_NACK) {
        on_nack(reader, r, data);
    } else {
        on_pause(reader, r);
    }
}

/* ---- Segments ---- */

/* What follows a message in its row, as long as it is more of the same: no call for each. Returns where that ends. */
static const uint8_t *take_row(reader_t *reader, const rr_record_t *first, const uint8_t *at, const uint8_t *end) {
    rr_delivery_t *delivery = &reader->link->mesh->delivery;
    uint32_t again = rr_record_again(first), size;
    rr_envelope_t before = envelope_of(reader, first, NULL, NULL);
    rr_row_t row;
    if (!again || end - at < 4 || rr__get32(at) != again || !rr_delivery_row(delivery, &before, &row)) {
        return at;
    }
    uint64_t request, bytes = 0;
    const uint8_t *data;
    while ((data = rr_record_get_again(at, end, again, &size, &request)) != NULL && size <= RR_ROW_MAX &&
           rr_row_put(&row, request, data, size)) {
        __builtin_prefetch(data + 512);
        bytes += size;
        at = data + size;
    }
    rr_delivery_row_end(delivery, &row);
    reader->messages += row.count;
    reader->bytes += bytes;
    return at;
}

static bool take_records(rr__link_t *link, const uint8_t *at, const uint8_t *end, char *why, size_t why_size) {
    rr_delivery_t *delivery = &link->mesh->delivery;
    if (delivery->context != link) { /* those of another link tell that one */
        rr_delivery_flush(delivery);
        *delivery = (rr_delivery_t){.system = link->mesh->system, .undelivered = undelivered, .context = link};
    }
    reader_t reader = {.link = link,
                       .here = (rr_addr_t)link->mesh->options.self.node << 48,
                       .there = (rr_addr_t)link->node << 48};
    rr_record_t r = {.to = 0};
    while (at < end && !reader.wrong) {
        __builtin_prefetch(at + 512);
        const uint8_t *data = rr_record_get(at, end, &r);
        if (!data) {
            reader.wrong = "a malformed record";
            break;
        }
        take(&reader, &r, data);
        at = take_row(&reader, &r, data + r.piece, end);
    }
    rr_count(&link->received_messages, reader.messages);
    rr_count(&link->received_bytes, reader.bytes);
    if (reader.wrong) {
        snprintf(why, why_size, "%s", reader.wrong);
    }
    return !reader.wrong;
}

bool rr__link_segment(rr__link_t *link, const rr_node_segment_t *segment, const uint8_t *records, size_t size,
                      char *why, size_t why_size) {
    if (segment->seq > link->received + 1) { /* something is lost: a relay dropped it */
        if (!link->asking) {
            rr__link_ask(link);
        }
        return true;
    }
    link->owes = true;
    link->owed_bytes += size;
    rr__link_flush_soon(link);
    if (segment->seq <= link->received) {
        return true; /* here already */
    }
    link->received = segment->seq;
    return take_records(link, records, records + size, why, why_size);
}
