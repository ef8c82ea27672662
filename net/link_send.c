#include <stdlib.h>

#include "net/mesh_impl.h"

#define HEAD         (RR_NODE_HEADER + RR_NODE_SEGMENT_HEADER)
#define SEGMENT_MAX  (RR_NODE_HEADER + RR_NODE_BODY_MAX)
#define SHAKY_ROOM   (12u << 10)
#define RING_FIRST   64u
#define SMALL        256u         /* payloads up to here are copied without a call */
#define SHEET_COPIED (32u << 10)  /* sheets with less in them are copied: kept, they would take twice their bytes of memory */
#define ACK_BYTES    (64u << 10) /* owed at the end of a loop turn: acknowledged at once */
#define ACK_DELAY_NS (3 * RR__MS)

_Static_assert(HEAD + RR_RECORD_MAX + RR__COPY_MAX <= SHAKY_ROOM, "what is copied fits the smallest segment");
_Static_assert(HEAD + RR_RECORD_MAX + RR__PIECE <= SEGMENT_MAX, "a piece fits a segment");
_Static_assert(RR_SHEET_HEAD == HEAD && RR_SHEET_SAME == RR_RECORD_SAME, "a sheet is a segment without its heads");
_Static_assert(RR_ROW_MAX <= RR__PIECE, "no limit of messages is below what a sheet may hold");
_Static_assert(RR__COPY_MAX < RR__PIECE && RR__CHUNK >= 2 * SEGMENT_MAX,
               "what is copied fits a segment, and that a chunk");

static bool is_open(const rr__link_t *link) {
    return link->start && link->at > link->start + HEAD;
}

static void show_unacked(rr__link_t *link) {
    atomic_store_explicit(&link->unacked_bytes, link->bytes, memory_order_relaxed);
}

/* ---- Segments ---- */

static bool ring_has_room(rr__link_t *link) {
    if (link->sealed - link->acked + 1 < link->capacity) {
        return true;
    }
    uint32_t capacity = link->capacity ? 2 * link->capacity : RING_FIRST;
    rr__segment_t *ring = malloc(capacity * sizeof *ring);
    if (!ring) {
        return false;
    }
    for (uint64_t seq = link->acked + 1; seq <= link->sealed; seq++) {
        ring[seq & (capacity - 1)] = link->ring[seq & (link->capacity - 1)];
    }
    free(link->ring);
    link->ring = ring;
    link->capacity = capacity;
    return true;
}

static rr__segment_t *segment_at(rr__link_t *link, uint64_t seq) {
    return &link->ring[seq & (link->capacity - 1)];
}

/* A segment arrives as a whole or not at all: while connections break, small ones get across where big ones would be
 * begun again for ever. */
static size_t room(const rr__link_t *link) {
    return link->shaky_bytes ? SHAKY_ROOM : SEGMENT_MAX;
}

/* Numbers it. There is room in the ring. */
static void add_segment(rr__link_t *link, const rr__segment_t *segment) {
    *segment_at(link, ++link->sealed) = *segment;
    if (link->acked + 1 == link->sealed) {
        link->progress_ns = rr__mesh_now(link->mesh);
    }
    link->bytes += segment->size + segment->tail_size;
}

/* Ends the open segment and numbers it. There is room in the ring: begin() saw to it. */
static void seal(rr__link_t *link, rr_buffer_t *tail, uint32_t tail_start, uint32_t tail_size) {
    add_segment(link, &(rr__segment_t){.chunk = rr_buffer_ref(link->chunk),
                                       .data = link->start,
                                       .size = (uint32_t)(link->at - link->start),
                                       .messages = link->open_messages,
                                       .tail = tail,
                                       .tail_start = tail_start,
                                       .tail_size = tail_size});
    link->start = link->at;
    link->open_messages = 0;
    link->last.any = false;
    if (link->chunk_end - link->start < (ptrdiff_t)(HEAD + RR_RECORD_MAX + 512)) {
        rr_buffer_unref(link->chunk);
        link->chunk = NULL;
        link->start = NULL;
    } else {
        link->at = link->start + HEAD;
        link->limit = link->chunk_end - link->start > (ptrdiff_t)room(link) ? link->start + room(link) : link->chunk_end;
    }
}

static bool new_chunk(rr__link_t *link) {
    rr_buffer_t *chunk = rr_buffer_new(RR__CHUNK);
    if (!chunk) {
        return false;
    }
    rr_buffer_unref(link->chunk);
    link->chunk = chunk;
    link->start = rr_buffer_data(chunk);
    link->chunk_end = link->start + RR__CHUNK;
    link->at = link->start + HEAD;
    link->limit = link->start + room(link);
    link->last.any = false;
    return true;
}

/* Room for a record of `size` bytes in the open segment, whose whole length may become `whole` with what is by
 * reference. */
static bool begin(rr__link_t *link, size_t size, size_t whole) {
    if (is_open(link) &&
        (size > (size_t)(link->limit - link->at) || (size_t)(link->at - link->start) + whole > SEGMENT_MAX)) {
        seal(link, NULL, 0, 0);
    }
    if (!ring_has_room(link)) {
        return false;
    }
    return (link->start && size <= (size_t)(link->limit - link->at)) || new_chunk(link);
}

/* ---- Records ---- */

static inline rr_record_t record_of(const rr_envelope_t *env) {
    rr_record_t r = {.to = env->to & RR_RECORD_ADDR,
                     .from = env->from & RR_RECORD_ADDR,
                     .request = env->request,
                     .type = env->type,
                     .size = env->size,
                     .weight = env->weight,
                     .kind = env->kind};
    r.flags = (env->flags & RR_ENVELOPE_UNSHEDDABLE ? RR_RECORD_UNSHEDDABLE : 0) |
              (env->from == RR_NOBODY ? RR_RECORD_NOBODY : 0) | (env->request ? RR_RECORD_REQUEST : 0);
    return r;
}

static inline uint8_t *put_record(uint8_t *at, rr__last_t *last, rr_record_t *r) {
    if (last->any && r->to == last->to && r->from == last->from && r->type == last->type) {
        r->flags |= RR_RECORD_SAME;
    }
    *last = (rr__last_t){true, r->type, r->to, r->from};
    return rr_record_put(at, r);
}

static void write_record(rr__link_t *link, rr_record_t *r) { link->at = put_record(link->at, &link->last, r); }

static void refuse(rr__link_t *link, const rr_envelope_t *env, int reason) {
    rr_envelope_refuse(link->mesh->system, env, reason);
}

/* A message of at most RR__PIECE bytes. */
static void put_message(rr__link_t *link, const rr_envelope_t *env) {
    bool copied = env->size <= RR__COPY_MAX || !env->buffer;
    if (!begin(link, RR_RECORD_MAX + (copied ? env->size : 0), RR_RECORD_MAX + env->size)) {
        refuse(link, env, RR_ENOMEM);
        return;
    }
    rr_record_t r = record_of(env);
    write_record(link, &r);
    link->open_messages++;
    if (!copied) {
        seal(link, rr_buffer_ref(env->buffer), (uint32_t)((const uint8_t *)env->data - rr_buffer_data(env->buffer)),
             env->size);
    } else if (env->size) {
        memcpy(link->at, env->data, env->size);
        link->at += env->size;
    }
}

void rr__link_send_control(rr__link_t *link, unsigned kind, rr_addr_t actor) {
    rr_record_t r = {.to = actor & RR_RECORD_ADDR, .kind = (uint8_t)kind, .weight = 1};
    if (begin(link, RR_RECORD_MAX, RR_RECORD_MAX)) {
        write_record(link, &r);
        rr__link_flush_soon(link);
    }
}

/* Bounded although nobody can be told to wait: beyond the window and some more they are lost, and counted. */
void rr__link_send_nack(rr__link_t *link, const rr_envelope_t *env, int reason) {
    rr_count(&link->nacks, 1);
    rr_record_t r = record_of(env);
    r.kind = RR_RECORD_NACK;
    r.size = 8;
    r.weight = 1;
    if (link->bytes > link->mesh->options.window_bytes + (4u << 20) ||
        !begin(link, RR_RECORD_MAX + r.size, RR_RECORD_MAX + r.size)) {
        rr_count(&link->lost_nacks, 1);
        return;
    }
    write_record(link, &r);
    rr__put32(link->at, env->size);
    rr__put32(link->at + 4, (uint32_t)reason);
    link->at += 8;
    rr__link_flush_soon(link);
}

/* ---- Cut messages ---- */

static rr__transfer_t *transfer_between(rr__link_t *link, rr_addr_t from, rr_addr_t to) {
    for (unsigned i = 0; i < RR_NODE_TRANSFERS; i++) {
        rr__transfer_t *t = &link->transfers[i];
        if (t->env.buffer && (!t->last_seq || t->first) && t->env.from == from && t->env.to == to) {
            return t;
        }
    }
    return NULL;
}

static rr__transfer_t *free_transfer(rr__link_t *link) {
    for (unsigned i = 0; i < RR_NODE_TRANSFERS; i++) {
        if (!link->transfers[i].env.buffer) {
            return &link->transfers[i];
        }
    }
    return NULL;
}

/* A copy that outlives the message. NULL when out of memory. */
static rr__follower_t *keep(const rr_envelope_t *env) {
    rr__follower_t *f = malloc(sizeof *f);
    rr_buffer_t *buffer = !f ? NULL : env->buffer ? rr_buffer_ref(env->buffer) : rr_buffer_copy(env->data, env->size);
    if (!buffer) {
        free(f);
        return NULL;
    }
    f->next = NULL;
    f->env = *env;
    f->env.data = env->buffer ? env->data : rr_buffer_data(buffer);
    f->env.buffer = buffer;
    return f;
}

static void follow(rr__link_t *link, rr__transfer_t *t, const rr_envelope_t *env) {
    rr__follower_t *f = keep(env);
    if (!f) {
        refuse(link, env, RR_ENOMEM);
        return;
    }
    if (t->last) {
        t->last->next = f;
    } else {
        t->first = f;
    }
    t->last = f;
    link->follower_count++;
}

/* There is a free slot: behind the message that takes the last one the proxy holds. */
static void start_transfer(rr__link_t *link, const rr_envelope_t *env, rr__transfer_t *t) {
    *t = (rr__transfer_t){.env = *env, .id = ++link->transfer_id};
    rr_buffer_ref(env->buffer);
    link->transfer_count++;
}

/* The next of those who waited behind a transfer must be cut too: it goes on in a slot of its own, with the rest behind
 * it. */
static void pass_on(rr__link_t *link, rr__transfer_t *t, rr__transfer_t *slot) {
    rr__follower_t *f = t->first, *rest = f->next, *last = t->last;
    t->first = t->last = NULL;
    link->follower_count--;
    start_transfer(link, &f->env, slot);
    slot->first = rest;
    slot->last = rest ? last : NULL;
    rr_buffer_unref(f->env.buffer);
    free(f);
}

/* The last piece is sealed: those who waited behind it go, up to the next that must be cut (which may have to wait for
 * a slot). */
static void release_followers(rr__link_t *link, rr__transfer_t *t) {
    for (rr__follower_t *f = t->first; f && f->env.size <= RR__PIECE; f = t->first) {
        t->first = f->next;
        t->last = t->first ? t->last : NULL;
        link->follower_count--;
        put_message(link, &f->env);
        rr_buffer_unref(f->env.buffer);
        free(f);
    }
    /* One slot stays free: the proxy can hold only behind a message that it has. */
    rr__transfer_t *slot = t->first && link->transfer_count < RR_NODE_TRANSFERS - 1 ? free_transfer(link) : NULL;
    if (slot) {
        pass_on(link, t, slot);
    }
}

/* One piece. False: out of memory, later. */
static bool send_piece(rr__link_t *link, rr__transfer_t *t) {
    uint32_t left = t->env.size - t->sent, piece = left > RR__PIECE ? RR__PIECE : left;
    if (!begin(link, RR_RECORD_MAX, RR_RECORD_MAX + piece)) {
        return false;
    }
    rr_record_t r = {.kind = RR_RECORD_FRAGMENT, .type = t->id, .size = piece, .weight = 1};
    if (!t->sent) {
        r = record_of(&t->env);
        r.flags |= RR_RECORD_CUT;
        r.transfer = t->id;
        r.piece = piece;
        link->open_messages++;
    }
    write_record(link, &r);
    uint32_t offset = (uint32_t)((const uint8_t *)t->env.data - rr_buffer_data(t->env.buffer));
    seal(link, rr_buffer_ref(t->env.buffer), offset + t->sent, piece);
    t->sent += piece;
    if (t->sent == t->env.size) {
        t->last_seq = link->sealed;
        release_followers(link, t);
    }
    return true;
}

/* One piece of each transfer. False: there was nothing to do. */
static bool send_pieces(rr__link_t *link) {
    bool any = false;
    for (unsigned i = 0; i < RR_NODE_TRANSFERS && link->transfer_count; i++) {
        rr__transfer_t *t = &link->transfers[i];
        if (t->env.buffer && !t->last_seq) {
            any = send_piece(link, t) || any;
        }
    }
    return any;
}

static void transfers_acked(rr__link_t *link) {
    for (unsigned i = 0; i < RR_NODE_TRANSFERS && link->transfer_count; i++) {
        rr__transfer_t *t = &link->transfers[i];
        if (t->env.buffer && t->last_seq && t->last_seq <= link->acked) {
            rr_buffer_t *done = t->env.buffer;
            link->transfer_count--;
            if (t->first) { /* who waited for a slot gets this one */
                rr__transfer_t before = *t;
                pass_on(link, &before, t);
            } else {
                *t = (rr__transfer_t){.id = 0};
            }
            rr_buffer_unref(done);
        }
    }
}

/* ---- From the proxy ---- */

static size_t window(const rr__link_t *link) {
    size_t all = link->mesh->options.window_bytes;
    bool relayed = link->path && link->path != link->direct;
    return relayed && all > RR__WINDOW_RELAYED ? RR__WINDOW_RELAYED : all;
}

static bool is_full(const rr__link_t *link) {
    return link->bytes >= window(link) || link->transfer_count >= RR_NODE_TRANSFERS - 1 ||
           link->follower_count >= RR__FOLLOWERS;
}

/* Whoever owns a name says so, and since when, ahead of its first message in a session. */
static void announce(rr__link_t *link, const rr_envelope_t *env) {
    rr_announcement_t announcement;
    if (rr_announce(link->mesh->system, &link->announced, env, &announcement)) {
        put_message(link, &announcement.env);
    }
}

static void hold_if_full(rr__link_t *link) {
    if (__builtin_expect(is_full(link), 0) && !link->held) {
        link->held = true;
        rr_hold(link->actor);
    }
}

void rr__link_send(rr__link_t *link, const rr_envelope_t *env) {
    if (env->size > link->mesh->options.max_message) {
        refuse(link, env, RR_ETOOBIG);
        return;
    }
    announce(link, env);
    rr_count(&link->sent_messages, 1);
    rr_count(&link->sent_bytes, env->size);
    rr__transfer_t *t = link->transfer_count ? transfer_between(link, env->from, env->to) : NULL;
    if (__builtin_expect(t != NULL, 0)) {
        follow(link, t, env);
    } else if (__builtin_expect(env->size > RR__PIECE, 0)) {
        start_transfer(link, env, free_transfer(link));
    } else {
        put_message(link, env);
    }
    hold_if_full(link);
}

/* Of the first's sender, into the open segment: no check and no call for each. Returns how many. What it does not begin with, as
 * a segment's first record, takes the ordinary way. */
static unsigned put_run(rr__link_t *link, rr_run_t *run) {
    const rr_packed_t *item = rr_run_first(run);
    rr_addr_t from = item->from;
    if (!is_open(link) || link->transfer_count || !rr_is_announced(link->mesh->system, &link->announced, from)) {
        return 0;
    }
    size_t largest = link->mesh->options.max_message < RR__COPY_MAX ? link->mesh->options.max_message : RR__COPY_MAX;
    rr__last_t last = link->last;
    rr_run_t left = *run;
    uint8_t *at = link->at, *limit = link->limit;
    uint64_t bytes = 0;
    for (; item && item->from == from && item->size <= largest && (size_t)(limit - at) >= RR_RECORD_MAX + item->size;
         item = rr_run_first(&left)) {
        rr_envelope_t env = rr_run_envelope(&left, item);
        rr_record_t r = record_of(&env);
        at = put_record(at, &last, &r);
        if (env.size <= SMALL) {
            rr_copy_small(at, env.data, env.size);
        } else {
            memcpy(at, env.data, env.size);
        }
        at += env.size;
        bytes += env.size;
        rr_run_take(&left, item);
    }
    unsigned count = left.taken - run->taken;
    *run = left;
    link->last = last;
    link->at = at;
    link->open_messages += count;
    rr_count(&link->sent_messages, count);
    rr_count(&link->sent_bytes, bytes);
    return count;
}

void rr__link_send_run(rr__link_t *link, rr_run_t *run) {
    for (const rr_packed_t *item; (item = rr_run_first(run)) != NULL && !link->held;) {
        if (!put_run(link, run)) {
            rr_envelope_t env = rr_run_envelope(run, item);
            rr__link_send(link, &env);
            rr_run_take(run, item);
        }
    }
}

/* Into the open segment. False: out of memory. */
static bool copy_sheet(rr__link_t *link, const rr_sheet_t *sheet) {
    if (!begin(link, sheet->size, sheet->size)) {
        return false;
    }
    memcpy(link->at, sheet->records, sheet->size);
    link->at += sheet->size;
    link->last.any = false;
    link->open_messages += sheet->count;
    return true;
}

/* As a segment of its own, whose heads stand in front of the records. False: out of memory. */
static bool keep_sheet(rr__link_t *link, const rr_sheet_t *sheet) {
    if (is_open(link)) {
        seal(link, NULL, 0, 0);
    }
    if (!ring_has_room(link)) {
        return false;
    }
    add_segment(link, &(rr__segment_t){.chunk = rr_buffer_ref(sheet->buffer),
                                       .data = sheet->records - HEAD,
                                       .size = HEAD + sheet->size,
                                       .messages = sheet->count});
    return true;
}

bool rr__link_send_sheet(rr__link_t *link, const rr_sheet_t *sheet) {
    if (link->transfer_count || link->shaky_bytes ||
        !rr_is_announced(link->mesh->system, &link->announced, sheet->from) ||
        !(sheet->size < SHEET_COPIED ? copy_sheet(link, sheet) : keep_sheet(link, sheet))) {
        return false;
    }
    rr_count(&link->sent_messages, sheet->count);
    rr_count(&link->sent_bytes, sheet->bytes);
    hold_if_full(link);
    return true;
}

void rr__link_unhold(rr__link_t *link) {
    if (link->held && link->actor && link->bytes <= window(link) / 2 && link->transfer_count < RR_NODE_TRANSFERS - 1 &&
        link->follower_count <= RR__FOLLOWERS / 2) {
        link->held = false;
        rr_unhold(link->actor);
    }
}

bool rr__link_is_idle(const rr__link_t *link) {
    return !is_open(link) && link->acked == link->sealed && !link->transfer_count && !link->held;
}

/* ---- Out on the path ---- */

static bool write_segment(rr__link_t *link, uint64_t seq) {
    rr__segment_t *s = segment_at(link, seq);
    if (seq > link->headed) {
        rr_node_segment_t head = {(uint16_t)link->mesh->options.self.node, link->tag, seq, link->received};
        rr_node_segment_put(s->data, link->node, &head, s->size + s->tail_size - HEAD);
    }
    rr_slice_t slice = {s->chunk, s->data, s->size};
    if (!rr__wire_write_slice(link->path, &slice)) {
        return false;
    }
    if (s->tail) {
        rr_slice_t tail = {s->tail, rr_buffer_data(s->tail) + s->tail_start, s->tail_size};
        return rr__wire_write_slice(link->path, &tail);
    }
    return true;
}

static void acknowledged(rr__link_t *link) {
    link->owes = false;
    link->owed_bytes = 0;
    if (link->owing_prev) {
        *link->owing_prev = link->owing_next;
        if (link->owing_next) {
            link->owing_next->owing_prev = link->owing_prev;
        }
        link->owing_prev = NULL;
    }
}

/* Writes sealed segments while the path takes them. True: all are out. */
static bool write_sealed(rr__link_t *link) {
    while (link->written < link->sealed) {
        if (!rr__wire_has_room(link->path) || !write_segment(link, link->written + 1)) {
            return false;
        }
        link->written++;
        link->said_ns = link->path->written_ns;
        if (link->written > link->headed) { /* one that is sent again says what it said before */
            link->headed = link->written;
            acknowledged(link);
        }
    }
    return true;
}

void rr__link_pump(rr__link_t *link) {
    while (link->agreed && link->path && write_sealed(link)) {
        if (is_open(link)) {
            seal(link, NULL, 0, 0);
        } else if (link->bytes >= window(link) || !send_pieces(link)) {
            break;
        }
    }
}

/* Everything that it was sent is acknowledged: it waits for us. */
static bool other_side_is_idle(const rr__link_t *link) {
    return link->acked == link->sealed;
}

void rr__link_push(rr__link_t *link, bool goes_on) {
    if (!link->agreed || !link->path) {
        return;
    }
    if (goes_on && is_open(link) && other_side_is_idle(link)) {
        seal(link, NULL, 0, 0);
    }
    if (link->written < link->sealed) {
        (void)write_sealed(link); /* what the path does not take now leaves with the turn's flush, or when there is room */
        rr__wire_flush(link->path);
    }
}

static void owe(rr__link_t *link) {
    rr_mesh_t *mesh = link->mesh;
    if (!link->owing_prev) {
        link->owing_next = mesh->owing;
        link->owing_prev = &mesh->owing;
        if (link->owing_next) {
            link->owing_next->owing_prev = &link->owing_next;
        }
        mesh->owing = link;
    }
    if (!mesh->ack_timer) {
        mesh->ack_timer = true;
        mesh->carrier->ops->timer(mesh->carrier, RR__TIMER_ACK, ACK_DELAY_NS);
    }
}

void rr__link_send_ack(rr__link_t *link) {
    uint8_t frame[RR_NODE_ACK_SIZE];
    rr_node_ack_t ack = {(uint16_t)link->mesh->options.self.node, link->tag, link->received};
    acknowledged(link);
    if (link->path && rr__wire_write(link->path, frame, rr_node_ack_encode(frame, link->node, &ack))) {
        link->said_ns = link->path->written_ns;
    }
}

void rr__link_on_flush(rr_deferred_t *item) {
    rr__link_t *link = (rr__link_t *)((char *)item - offsetof(rr__link_t, flush));
    rr__link_pump(link);
    if (link->owes && link->owed_bytes >= ACK_BYTES) {
        rr__link_send_ack(link);
    } else if (link->owes) {
        owe(link);
    }
    show_unacked(link);
}

void rr__link_flush_soon(rr__link_t *link) {
    link->mesh->carrier->ops->defer(link->mesh->carrier, &link->flush);
}

static void segment_free(rr__segment_t *s) {
    rr_buffer_unref(s->chunk);
    rr_buffer_unref(s->tail);
}

bool rr__link_on_ack(rr__link_t *link, uint64_t received) {
    if (received > link->sealed) {
        return false;
    }
    if (received <= link->acked) {
        return true;
    }
    while (link->acked < received) {
        rr__segment_t *s = segment_at(link, ++link->acked);
        size_t size = s->size + s->tail_size;
        link->bytes -= size;
        link->shaky_bytes -= size < link->shaky_bytes ? size : link->shaky_bytes;
        segment_free(s);
    }
    link->written = link->written < received ? received : link->written;
    link->progress_ns = rr__mesh_now(link->mesh);
    show_unacked(link);
    transfers_acked(link);
    rr__link_unhold(link);
    if (link->transfer_count || link->draining || link->mesh->leaving) {
        rr__link_flush_soon(link);
        rr__mesh_due(link->mesh, link->progress_ns);
    }
    return true;
}

void rr__link_rewind(rr__link_t *link) {
    rr_count(&link->resent, link->written - link->acked);
    link->written = link->acked;
    rr__link_flush_soon(link);
}

/* ---- The end ---- */

/* Dead letters of a segment that nobody will acknowledge. Calls, monitors and links end by rr_node_down. */
static void refuse_segment(rr__link_t *link, const uint8_t *data, size_t size, size_t tail, int reason) {
    const uint8_t *at = data + HEAD, *end = data + size + tail; /* what is by reference is not looked at */
    rr_record_t r = {.to = 0};
    rr_addr_t here = (rr_addr_t)link->mesh->options.self.node << 48, there = (rr_addr_t)link->node << 48;
    while (at < end && (at = rr_record_get(at, end, &r)) != NULL) {
        if (r.kind == RR_SEND && !(r.flags & RR_RECORD_CUT)) {
            rr_envelope_t env = {
                .to = there | r.to, .type = r.type, .size = r.size, .weight = r.weight, .kind = RR_SEND};
            env.from = r.flags & RR_RECORD_NOBODY ? RR_NOBODY : here | r.from;
            refuse(link, &env, reason);
        }
        at += r.piece;
    }
}

static void drop_transfer(rr__link_t *link, rr__transfer_t *t, int reason) {
    if (t->env.kind == RR_SEND) {
        refuse(link, &t->env, reason);
    }
    rr_buffer_unref(t->env.buffer);
    for (rr__follower_t *f = t->first, *next; f; f = next) {
        next = f->next;
        refuse(link, &f->env, reason);
        rr_buffer_unref(f->env.buffer);
        free(f);
    }
    *t = (rr__transfer_t){.id = 0};
}

void rr__link_drop_output(rr__link_t *link, int reason) {
    while (link->acked < link->sealed) {
        rr__segment_t *s = segment_at(link, ++link->acked);
        refuse_segment(link, s->data, s->size, s->tail_size, reason);
        segment_free(s);
    }
    if (is_open(link)) {
        refuse_segment(link, link->start, (size_t)(link->at - link->start), 0, reason);
    }
    rr_buffer_unref(link->chunk);
    link->chunk = NULL;
    link->start = link->at = link->limit = link->chunk_end = NULL;
    for (unsigned i = 0; i < RR_NODE_TRANSFERS; i++) {
        if (link->transfers[i].env.buffer) {
            drop_transfer(link, &link->transfers[i], reason);
        }
    }
    link->transfer_count = link->follower_count = 0;
    link->open_messages = 0;
    link->last.any = false;
    link->announced = (rr_announced_t){0};
    link->acked = link->written = link->sealed = link->headed = 0;
    link->bytes = 0;
    acknowledged(link);
}
