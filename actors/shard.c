/* shard.c: a gate's part on one loop: its clients' slots, their input on its way to scenes, their time limits. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "actors/gate_impl.h"

#define RESUME_SLICE 64u
#define NS_PER_MS    1000000ull

/* ---- Scenes ---- */

rr__scene_ref_t *rr__scene_known(const rr__shard_t *shard, rr_addr_t addr) {
    rr__scene_ref_t *ref = shard->scenes;
    while (ref && (ref->addr != addr || (ref->dead && !ref->superseded)))
        ref = ref->next;
    return ref;
}

rr__scene_ref_t *rr__scene_ref(rr__shard_t *shard, rr_addr_t addr) {
    rr__scene_ref_t *ref = rr__scene_known(shard, addr);
    if (ref)
        return ref;
    ref = calloc(1, sizeof(*ref));
    if (!ref)
        return NULL;
    ref->addr = addr;
    rr_outlet_init(&ref->out, RR_TYPE_INPUT);
    ref->paused = (rr__link_t){&ref->paused, &ref->paused};
    ref->next = shard->scenes;
    shard->scenes = ref;
    rr__ref_dirty(shard, ref); /* to be monitored */
    return ref;
}

void rr__ref_dirty(rr__shard_t *shard, rr__scene_ref_t *ref) {
    if (!ref->dirty) {
        ref->dirty = true;
        ref->next_dirty = shard->dirty;
        shard->dirty = ref;
    }
    if (!shard->in_turn)
        rr__shard_ask_turn(shard);
}

void rr__ref_use(rr__scene_ref_t **field, rr__scene_ref_t *ref) {
    if (*field)
        (*field)->users--;
    *field = ref;
    if (ref)
        ref->users++;
}

/* The first record says who we are. */
int rr__ref_put(rr__shard_t *shard, rr__scene_ref_t *ref, uint16_t kind, uint16_t cmd, uint32_t slot,
                uint64_t incarnation, uint32_t arg, const void *head, size_t head_size, const void *body, size_t size,
                rr_buffer_t *owner) {
    if (ref->dead)
        return RR_OK;
    if (ref->records == 0 && kind != RR_REC_HELLO) {
        const rr_gate_options_t *o = &shard->gate->options;
        rr_hello_t hello = {.window = o->window_messages,
                            .window_bytes = (uint32_t)o->window_bytes,
                            .flags = o->scene_lost == RR_LOST_WAIT ? RR_HELLO_KEEPS : 0};
        int rc = rr__ref_put(shard, ref, RR_REC_HELLO, 0, 0, 0, 0, &hello, sizeof(hello), o->name, strlen(o->name), NULL);
        if (rc != RR_OK)
            return rc;
    }
    int rc = rr_outlet_put(&ref->out, kind, cmd, slot, incarnation, arg, head, head_size, body, size, owner);
    if (rc != RR_OK)
        return rc;
    ref->records += size > RR_BODY_INLINE ? 2 : 1;
    ref->bytes += RR_RECORD_HEAD + head_size + size;
    rr__ref_dirty(shard, ref);
    return RR_OK;
}

void rr__ref_record(rr__slot_t *slot, rr__scene_ref_t *ref, uint16_t kind, uint32_t arg) {
    if (rr__ref_put(slot->shard, ref, kind, 0, slot->index, slot->incarnation, arg, NULL, 0, NULL, 0, NULL) != RR_OK)
        rr_log(slot->shard->system, RR_ERROR, "GATE", "%s: out of memory: a scene is not told about a session",
               slot->shard->gate->options.name);
}

void rr__ref_fence(rr__slot_t *slot, rr__scene_ref_t *ref, uint16_t back) {
    uint8_t login[8];
    rr_put64(login, slot->login ? slot->login->addr : RR_NOBODY);
    if (rr__ref_put(slot->shard, ref, RR_REC_FENCE, back, slot->index, slot->incarnation, slot->hop, login, sizeof(login),
                NULL, 0, NULL) != RR_OK)
        rr__shard_close(slot, RR_CLOSE_IO);
}

static bool behind(const rr__shard_t *shard, const rr__scene_ref_t *ref, unsigned part) {
    const rr_gate_options_t *o = &shard->gate->options;
    return ref->records - ref->done_records >= o->window_messages / part ||
           ref->bytes - ref->done_bytes >= o->window_bytes / part;
}

static void flush_ref(rr__shard_t *shard, rr__scene_ref_t *ref) {
    if (!ref->dead && !ref->monitor && rr_monitor(shard->self, ref->addr, &ref->monitor) != RR_OK) {
        rr__ref_dirty(shard, ref);
        return;
    }
    uint64_t now = rr_outlet_empty(&ref->out) ? 0 : rr_now_ns(shard->self);
    while (!rr_outlet_empty(&ref->out)) {
        const rr__segment_t *segment = rr_outlet_peek(&ref->out, now);
        if (!segment) {
            rr__ref_dirty(shard, ref);
            return;
        }
        /* Never refused for fullness: the window bounds it. Without the scene its end will be told. */
        int rc = ref->dead ? RR_OK
                           : rr_send_unsheddable(shard->self, ref->addr, segment->type, rr_buffer_ref(segment->buffer),
                                                 segment->weight);
        if (rc == RR_ENOMEM) {
            rr__ref_dirty(shard, ref);
            return;
        }
        rr_outlet_pop(&ref->out);
        rr_count(&shard->count.batches_in, 1);
    }
}

static void ref_free(rr__scene_ref_t *ref) {
    rr_outlet_free(&ref->out);
    free(ref->pending_head);
    free(ref->name);
    free(ref);
}

/* Dead, and named by no slot any more. */
static void drop_dead_refs(rr__shard_t *shard) {
    for (rr__scene_ref_t **link = &shard->scenes, *ref; (ref = *link);) {
        if (ref->dead && ref->users == 0 && !ref->dirty && !ref->asking && !ref->superseded) {
            *link = ref->next;
            ref_free(ref);
        } else {
            link = &ref->next;
        }
    }
}

/* ---- Lists of slots ---- */

void rr__slot_member(rr__slot_t *slot, rr__scene_ref_t *ref) {
    if (slot->member) {
        *slot->member_prev = slot->member_next;
        if (slot->member_next)
            slot->member_next->member_prev = slot->member_prev;
        slot->member_prev = NULL;
    }
    rr__ref_use(&slot->member, ref);
    if (ref) {
        slot->member_next = ref->members;
        slot->member_prev = &ref->members;
        if (slot->member_next)
            slot->member_next->member_prev = &slot->member_next;
        ref->members = slot;
    }
}

static void unlink_paused(rr__slot_t *slot) {
    if (!slot->paused.next)
        return;
    slot->paused.prev->next = slot->paused.next;
    slot->paused.next->prev = slot->paused.prev;
    slot->paused.next = NULL;
}

static void pause_slot(rr__slot_t *slot, rr__scene_ref_t *ref) {
    if (slot->paused.next)
        return;
    rr_count(&slot->shard->count.pauses, 1);
    rr_connection_pause(slot->connection);
    slot->paused = (rr__link_t){&ref->paused, ref->paused.prev};
    slot->paused.prev->next = ref->paused.prev = &slot->paused;
}

void rr__slot_unpause(rr__slot_t *slot) {
    if (!slot->paused.next)
        return;
    unlink_paused(slot);
    slot->alive_tick = slot->shard->tick; /* it was us who did not listen */
    if (!slot->shard->draining)
        rr_connection_resume(slot->connection);
}

void rr__slot_early(rr__slot_t *slot, bool early, uint16_t cmd) {
    unsigned others = slot->flags & ~(unsigned)(RR__SLOT_MOVE_EARLY | RR__SLOT_EARLY_CMD);
    slot->flags = (uint8_t)(others | (early ? RR__SLOT_MOVE_EARLY | (unsigned)cmd << RR__EARLY_SHIFT : 0));
}

static rr__slot_t *first_paused(const rr__scene_ref_t *ref) {
    return ref->paused.next == &ref->paused
               ? NULL
               : (rr__slot_t *)((char *)ref->paused.next - offsetof(rr__slot_t, paused));
}

/* The scene has caught up: reads its sessions again, a slice now and the rest in later turns. Those for whom there is no
 * room any more when their input is looked at are paused again before a message of theirs is taken (on_input). */
void rr__ref_resume(rr__shard_t *shard, rr__scene_ref_t *ref) {
    rr__slot_t *slot = first_paused(ref);
    if (!slot || behind(shard, ref, 2)) {
        ref->resuming = false;
        return;
    }
    for (unsigned n = 0; n < RESUME_SLICE && slot; n++, slot = first_paused(ref))
        rr__slot_unpause(slot);
    ref->resuming = slot != NULL;
    if (ref->resuming)
        rr__shard_ask_turn(shard);
}

/* ---- The wheel: a look at every slot when its next limit may be due ---- */

static void wheel_remove(rr__slot_t *slot) {
    if (!slot->wheel_prev)
        return;
    *slot->wheel_prev = slot->wheel_next;
    if (slot->wheel_next)
        slot->wheel_next->wheel_prev = slot->wheel_prev;
    slot->wheel_prev = NULL;
}

static void wheel_add(rr__slot_t *slot, uint32_t ticks) {
    rr__shard_t *shard = slot->shard;
    ticks = ticks < 1 ? 1 : ticks > RR__WHEEL - 1 ? RR__WHEEL - 1 : ticks;
    rr__slot_t **bucket = &shard->wheel[(shard->tick + ticks) % RR__WHEEL];
    wheel_remove(slot);
    slot->wheel_next = *bucket;
    slot->wheel_prev = bucket;
    if (*bucket)
        (*bucket)->wheel_prev = &slot->wheel_next;
    *bucket = slot;
}

/* Ticks until the next look; 0 = it was closed. */
static uint32_t check_login(rr__slot_t *slot) {
    const rr_gate_t *gate = slot->shard->gate;
    uint32_t age = slot->shard->tick - slot->opened_tick;
    bool speaks = slot->state == RR__LOGGING_IN || rr_connection_wire(slot->connection) != RR_WIRE_UNKNOWN;
    if (!gate->login_ticks || !speaks) /* plain HTTP has limits of its own in net/ */
        return RR__WHEEL;
    if (age >= gate->login_ticks) {
        rr__shard_close(slot, RR_CLOSE_LOGIN_TIMEOUT);
        return 0;
    }
    return gate->login_ticks - age;
}

static uint32_t check_idle(rr__slot_t *slot) {
    rr__shard_t *shard = slot->shard;
    uint32_t limit = shard->gate->idle_ticks, third = limit / 3 ? limit / 3 : 1;
    if (!limit)
        return RR__WHEEL;
    if (slot->paused.next)
        slot->alive_tick = shard->tick;
    uint32_t silent = shard->tick - slot->alive_tick, unpinged = shard->tick - slot->ping_tick;
    if (silent >= limit) {
        rr__shard_close(slot, RR_CLOSE_IDLE);
        return 0;
    }
    uint32_t next = limit - silent;
    if (rr_connection_wire(slot->connection) < RR_WIRE_WS_TEXT)
        return next;
    uint32_t since = silent < unpinged ? silent : unpinged;
    if (since >= third) {
        if (rr_connection_ping(slot->connection) == RR_ELIMIT) {
            rr__shard_close(slot, RR_CLOSE_SLOW_READER);
            return 0;
        }
        rr_count(&shard->count.pings, 1);
        slot->ping_tick = shard->tick;
        since = 0;
    }
    return third - since < next ? third - since : next;
}

static void check(rr__slot_t *slot) {
    uint32_t next = slot->state >= RR__ACTIVE ? check_idle(slot) : check_login(slot);
    if (next && slot->state == RR__LOST) {
        uint32_t left = rr__check_lost(slot);
        next = left < next ? left : next;
    }
    if (next)
        wheel_add(slot, next);
}

void rr__slot_watch(rr__slot_t *slot) {
    check(slot);
}

static void turn_wheel(rr__shard_t *shard) {
    uint32_t now = (uint32_t)(rr_now_ns(shard->self) / NS_PER_MS / shard->gate->tick_ms);
    uint32_t steps = now - shard->tick < RR__WHEEL ? now - shard->tick : RR__WHEEL;
    uint32_t from = shard->tick;
    shard->tick = now;
    for (uint32_t i = 1; i <= steps; i++) {
        rr__slot_t *list = shard->wheel[(from + i) % RR__WHEEL];
        shard->wheel[(from + i) % RR__WHEEL] = NULL;
        for (rr__slot_t *slot = list, *next; slot; slot = next) {
            next = slot->wheel_next;
            slot->wheel_prev = NULL;
            check(slot);
        }
    }
    rr__refs_look(shard);
}

static void start_ticking(rr__shard_t *shard) {
    if (shard->ticking || shard->open == 0)
        return;
    shard->ticking = rr_timer_start(shard->self, shard->gate->tick_ms, 0, RR__TAG_TICK, NULL) == RR_OK;
}

/* ---- Slots ---- */

static bool add_chunk(rr__shard_t *shard) {
    rr__slot_t **chunks = realloc(shard->chunks, (shard->chunk_count + 1) * sizeof(*chunks));
    if (!chunks)
        return false;
    shard->chunks = chunks;
    rr__slot_t *chunk = calloc(RR__CHUNK_SLOTS, sizeof(*chunk));
    if (!chunk)
        return false;
    for (uint32_t i = RR__CHUNK_SLOTS; i-- > 0;) {
        chunk[i].shard = shard;
        chunk[i].index = shard->chunk_count * RR__CHUNK_SLOTS + i;
        chunk[i].wheel_next = shard->free;
        shard->free = &chunk[i];
    }
    chunks[shard->chunk_count++] = chunk;
    return true;
}

static rr__slot_t *slot_new(rr__shard_t *shard) {
    if (!shard->free && !add_chunk(shard))
        return NULL;
    rr__slot_t *slot = shard->free;
    shard->free = slot->wheel_next;
    *slot = (rr__slot_t){.shard = shard,
                         .index = slot->index,
                         .incarnation = ++shard->last_incarnation,
                         .state = RR__OPEN,
                         .online_time = (int64_t)time(NULL),
                         .opened_tick = shard->tick,
                         .alive_tick = shard->tick,
                         .rate_tokens = (float)shard->gate->options.rate_burst};
    return slot;
}

static void slot_free(rr__slot_t *slot) {
    rr__shard_t *shard = slot->shard;
    slot->state = RR__FREE;
    slot->connection = NULL;
    slot->wheel_next = shard->free;
    shard->free = slot;
}

rr__slot_t *rr__shard_slot(rr__shard_t *shard, uint32_t index, uint64_t incarnation) {
    if (index / RR__CHUNK_SLOTS >= shard->chunk_count)
        return NULL;
    rr__slot_t *slot = &shard->chunks[index / RR__CHUNK_SLOTS][index % RR__CHUNK_SLOTS];
    return slot->incarnation == incarnation && slot->state > RR__FREE && slot->state < RR__CLOSED ? slot : NULL;
}

/* ---- Input on the move ---- */

static void held_free(rr__held_t *held) {
    for (rr__held_t *next; held; held = next) {
        next = held->next;
        rr_buffer_unref(held->owner);
        free(held);
    }
}

void rr__hold_free(rr__slot_t *slot) {
    if (!slot->hold)
        return;
    held_free(slot->hold->first);
    held_free(slot->hold->returned);
    held_free(slot->hold->extra);
    free(slot->hold);
    slot->hold = NULL;
}

bool rr__hold_make(rr__slot_t *slot) {
    if (slot->hold)
        return true;
    rr__hold_t *hold = calloc(1, sizeof(*hold));
    if (!hold)
        return false;
    hold->last = &hold->first;
    hold->returned_last = &hold->returned;
    slot->hold = hold;
    return true;
}

static void forward_list(rr__slot_t *slot, const rr__held_t *list) {
    for (; list && slot->state < RR__LOST; list = list->next)
        rr__slot_forward(slot, list->cmd, list->body, list->size, list->owner);
}

void rr__hold_release(rr__slot_t *slot) {
    rr__slot_t keeper = {.hold = slot->hold};
    slot->hold = NULL;
    if (!keeper.hold)
        return;
    forward_list(slot, keeper.hold->returned);
    forward_list(slot, keeper.hold->first);
    rr__hold_free(&keeper);
}

static void hold(rr__slot_t *slot, uint16_t cmd, const uint8_t *body, size_t size, rr_buffer_t *owner) {
    const rr_gate_options_t *o = &slot->shard->gate->options;
    rr__hold_t *h = slot->hold;
    bool full = (o->queue_messages && h->count >= o->queue_messages) ||
                (o->queue_bytes && h->count && h->bytes + size > o->queue_bytes);
    rr__held_t *held = full ? NULL : malloc(sizeof(*held) + (owner ? 0 : size));
    if (!held) {
        rr_count(&slot->shard->count.limit_held, 1);
        rr__shard_close(slot, slot->state == RR__LOST ? RR_CLOSE_SCENE_GONE : RR_CLOSE_QUEUE);
        return;
    }
    *held = (rr__held_t){.owner = owner ? rr_buffer_ref(owner) : NULL,
                         .size = (uint32_t)size,
                         .cmd = cmd,
                         .body = owner ? body : (const uint8_t *)(held + 1)};
    if (!owner && size)
        memcpy(held + 1, body, size);
    *h->last = held;
    h->last = &held->next;
    h->count++;
    h->bytes += size;
}

/* ---- The end of a session ---- */

/* Everything but the socket: scenes hear of it at once, before what is queued has left. */
static void detach(rr__slot_t *slot, rr_close_reason_t reason) {
    rr__shard_t *shard = slot->shard;
    rr_gate_t *gate = shard->gate;
    rr__slot_state_t state = slot->state;
    rr__scene_ref_t *member = slot->member;
    rr__slot_leave_lists(slot);
    slot->state = RR__CLOSED;
    wheel_remove(slot);
    unlink_paused(slot);
    rr__slot_member(slot, NULL);
    rr__hold_free(slot);
    rr_count(&shard->count.closes[reason], 1);
    if (state == RR__LOGGING_IN)
        atomic_fetch_sub_explicit(&gate->pending_logins, 1, memory_order_relaxed);
    if (state == RR__ACTIVE || state == RR__MOVED_OFF || state == RR__LOST) {
        atomic_fetch_sub_explicit(&gate->session_count, 1, memory_order_relaxed);
        rr_count(&shard->count.sessions, (uint64_t)-1);
    }
    if (slot->scene && slot->scene == slot->login) {
        rr__ref_record(slot, slot->scene, RR_REC_LEFT, reason | RR_LEFT_HOLDER | RR_LEFT_LOGIN);
    } else {
        if (slot->scene)
            rr__ref_record(slot, slot->scene, RR_REC_LEFT, reason | RR_LEFT_HOLDER);
        if (slot->login)
            rr__ref_record(slot, slot->login, RR_REC_LEFT, reason | RR_LEFT_LOGIN);
    }
    if (member && member != slot->scene && state == RR__MOVED_OFF) /* its old scene may not live to say so */
        rr__ref_record(slot, member, RR_REC_LEFT, reason | RR_LEFT_HOLDER);
    rr__ref_use(&slot->scene, NULL);
    rr__ref_use(&slot->login, NULL);
    free(slot->kept);
    slot->kept = NULL;
}

void rr__shard_close(rr__slot_t *slot, rr_close_reason_t reason) {
    if (slot->state == RR__CLOSED || slot->state == RR__FREE)
        return;
    detach(slot, reason);
    rr_connection_close(slot->connection, reason);
}

/* ---- Input ---- */

void rr__slot_forward(rr__slot_t *slot, uint16_t cmd, const uint8_t *body, size_t size, rr_buffer_t *owner) {
    rr__shard_t *shard = slot->shard;
    rr__scene_ref_t *ref = slot->scene;
    if (rr__ref_put(shard, ref, RR_REC_MESSAGE, cmd, slot->index, slot->incarnation, 0, NULL, 0, body, size, owner) !=
        RR_OK) {
        rr__shard_close(slot, RR_CLOSE_IO);
        return;
    }
    if (__builtin_expect(behind(shard, ref, 1), 0))
        pause_slot(slot, ref);
}

/* A message behind an unanswered login goes to the scene, too, which keeps it in the session's queue: no round trip
 * when the answer is yes. How much of that there may be is limited here. */
static void pipelined(rr__slot_t *slot, uint16_t cmd, const uint8_t *body, size_t size, rr_buffer_t *owner) {
    const rr_gate_options_t *o = &slot->shard->gate->options;
    if (slot->flags & RR__SLOT_AGAIN) { /* a session that lives on, not a stranger: a session's limits hold */
        if (slot->flags & RR__SLOT_WAITS)
            hold(slot, cmd, body, size, owner);
        else
            rr__slot_forward(slot, cmd, body, size, owner);
        return;
    }
    bool full = (o->pending_messages && slot->pending_messages >= o->pending_messages) ||
                (o->pending_bytes && slot->pending_messages && slot->pending_bytes + size > o->pending_bytes);
    if (full) {
        rr_count(&slot->shard->count.limit_pending_queue, 1);
        rr__shard_close(slot, RR_CLOSE_QUEUE);
        return;
    }
    slot->pending_messages++;
    slot->pending_bytes += (uint32_t)size;
    if (slot->flags & RR__SLOT_WAITS)
        hold(slot, cmd, body, size, owner);
    else
        rr__slot_forward(slot, cmd, body, size, owner);
}

/* A token bucket per session, refilled by the loop's clock. */
static bool within_rate(rr__slot_t *slot) {
    const rr_gate_options_t *o = &slot->shard->gate->options;
    uint32_t now = (uint32_t)(rr_loop_now_ns(slot->shard->loop) / NS_PER_MS);
    slot->rate_tokens += (float)(now - slot->rate_tick) * (float)o->rate / 1000.0f;
    slot->rate_tick = now;
    if (slot->rate_tokens > (float)o->rate_burst)
        slot->rate_tokens = (float)o->rate_burst;
    if (slot->rate_tokens < 1.0f)
        return false;
    slot->rate_tokens -= 1.0f;
    return true;
}

static void on_message(void *context, rr_connection_t *connection, uint16_t cmd, uint16_t flag, const uint8_t *body,
                       size_t size, rr_buffer_t *owner) {
    rr__slot_t *slot = context;
    rr__shard_t *shard = slot->shard;
    const rr_gate_options_t *o = &shard->gate->options;
    rr_count(&shard->count.messages_in, 1);
    rr_count(&shard->count.bytes_in, size);
    if (slot->state == RR__OPEN) {
        rr__slot_log_in(slot, body, size, owner);
        return;
    }
    if (cmd == o->heartbeat_cmd) {
        rr_count(&shard->count.heartbeats, 1);
        return;
    }
    if (o->rate && !within_rate(slot)) {
        rr_count(&shard->count.limit_rate, 1);
        rr__shard_close(slot, RR_CLOSE_RATE);
        return;
    }
    switch ((rr__slot_state_t)slot->state) {
    case RR__ACTIVE:
        rr__slot_forward(slot, cmd, body, size, owner);
        break;
    case RR__LOGGING_IN:
        pipelined(slot, cmd, body, size, owner);
        break;
    case RR__MOVED_OFF:
    case RR__LOST:
        hold(slot, cmd, body, size, owner);
        break;
    default:
        break;
    }
}

/* Over the window a session's input is left whole: taken apart, each piece would cost a write of its own later. */
static bool on_input(void *context, rr_connection_t *connection) {
    rr__slot_t *slot = context;
    if (slot->state != RR__ACTIVE || !behind(slot->shard, slot->scene, 1))
        return true;
    pause_slot(slot, slot->scene);
    return false;
}

static void on_alive(void *context, rr_connection_t *connection) {
    rr__slot_t *slot = context;
    slot->alive_tick = slot->shard->tick;
}

static void on_closed(void *context, rr_connection_t *connection, rr_close_reason_t reason) {
    rr__slot_t *slot = context;
    rr__shard_t *shard = slot->shard;
    if (slot->state != RR__CLOSED)
        detach(slot, reason);
    if (slot->ip)
        rr__ip_leave(shard->gate, slot->ip);
    atomic_fetch_sub_explicit(&shard->gate->connection_count, 1, memory_order_relaxed);
    rr_count(&shard->count.connections, (uint64_t)-1);
    slot_free(slot);
    shard->open--;
    if (shard->open == 0 && shard->closing)
        rr__shard_ask_turn(shard);
}

static const rr_connection_handler_t connection_handler = {
    .message = on_message, .input = on_input, .alive = on_alive, .closed = on_closed};

/* ---- Accepting ---- */

static rr__shard_t *shard_of(rr_gate_t *gate, rr_loop_t *loop) {
    for (size_t i = 0; i < gate->shard_count; i++)
        if (gate->shards[i].loop == loop)
            return &gate->shards[i];
    return NULL;
}

/* Counts the connection in, or says which limit forbids it. */
static rr_counter_t *over_limit(rr__shard_t *shard) {
    rr_gate_t *gate = shard->gate;
    uint32_t count = atomic_fetch_add_explicit(&gate->connection_count, 1, memory_order_relaxed);
    return gate->options.max_connections && count >= gate->options.max_connections ? &shard->count.limit_connections
                                                                                   : NULL;
}

void rr__shard_accept(void *context, rr_loop_t *loop, int fd) {
    struct rr__gate_port *port = context;
    rr_gate_t *gate = port->gate;
    rr__shard_t *shard = shard_of(gate, loop);
    if (!shard || !shard->accepting) {
        close(fd);
        return;
    }
    rr_counter_t *limit = over_limit(shard);
    if (shard->open == 0) /* the wheel stood still */
        shard->tick = (uint32_t)(rr_loop_now_ns(loop) / NS_PER_MS / gate->tick_ms);
    rr__slot_t *slot = limit ? NULL : slot_new(shard);
    if (!slot || rr_connection_open(loop, fd, &gate->connections[port->index], &connection_handler, slot,
                                    &slot->connection) != RR_OK) {
        if (!slot)
            close(fd);
        else
            slot_free(slot);
        if (limit) {
            rr_count(limit, 1);
            rr_count(&shard->count.closes[RR_CLOSE_LIMIT], 1);
        }
        atomic_fetch_sub_explicit(&gate->connection_count, 1, memory_order_relaxed);
        return;
    }
    shard->open++;
    rr_count(&shard->count.connections, 1);
    wheel_add(slot, gate->login_ticks ? gate->login_ticks : RR__WHEEL);
    if (!shard->ticking)
        rr__shard_ask_turn(shard);
    char ip[64];
    if (gate->options.max_per_ip &&
        !rr__ip_enter(gate, rr_connection_peer_ip(slot->connection, ip, sizeof(ip)), &slot->ip)) {
        rr_count(&shard->count.limit_per_ip, 1);
        rr__shard_close(slot, RR_CLOSE_LIMIT);
    }
}

/* ---- The actor ---- */

void rr__shard_ask_turn(rr__shard_t *shard) {
    if (shard->turn_asked || !shard->self)
        return;
    /* Refused only when its mailbox is full: then a turn is coming anyway. */
    shard->turn_asked = rr_system_send(shard->system, shard->addr, RR_TYPE_FLUSH, NULL, 0) == RR_OK;
}

void rr__each_slot(rr__shard_t *shard, void (*fn)(rr__slot_t *slot, void *context), void *context) {
    for (uint32_t c = 0; c < shard->chunk_count; c++)
        for (uint32_t i = 0; i < RR__CHUNK_SLOTS; i++)
            if (shard->chunks[c][i].state != RR__FREE && shard->chunks[c][i].state != RR__CLOSED)
                fn(&shard->chunks[c][i], context);
}

typedef struct loss {
    rr__scene_ref_t *ref;
    unsigned clients;
} loss_t;

static void scene_gone(rr__slot_t *slot, void *context) {
    loss_t *loss = context;
    if (slot->member == loss->ref) {
        if (slot->state == RR__MOVED_OFF)
            slot->hold->forgotten = true;
        rr__slot_member(slot, NULL);
    }
    if (slot->scene != loss->ref || slot->state == RR__LOST)
        return;
    loss->clients++;
    rr__slot_lose(slot);
}

static void tell_loss(const rr__shard_t *shard, const loss_t *loss) {
    static const char *const ends[] = {[RR_LOST_CLOSE] = "closed (4009)",
                                       [RR_LOST_WAIT] = "wait for its name's next owner",
                                       [RR_LOST_RELOGIN] = "log in again"};
    const char *name = loss->ref->name ? loss->ref->name : "a scene";
    if (loss->clients == 0 || shard->draining)
        return;
    if (loss->ref->ended == RR_OK)
        rr_log(shard->system, RR_INFO, "GATE", "%s: %s was stopped; its clients, by scene_lost: %u %s", shard->gate->options.name, name,
               loss->clients, shard->gate->options.scene_lost == RR_LOST_CLOSE ? "closed (1001)" : ends[shard->gate->options.scene_lost]);
    else
        rr_log(shard->system, RR_WARN, "GATE", "%s: %s is gone (%s); its clients, by scene_lost: %u %s", shard->gate->options.name, name,
               rr_strerror(loss->ref->ended), loss->clients, ends[shard->gate->options.scene_lost]);
}

void rr__ref_lose(rr__shard_t *shard, rr__scene_ref_t *ref) {
    if (ref->dead)
        return;
    ref->dead = true;
    if (shard->login == ref)
        rr__ref_use(&shard->login, NULL);
    rr__ref_unsent(shard, ref);
    loss_t loss = {.ref = ref};
    rr__each_slot(shard, scene_gone, &loss);
    tell_loss(shard, &loss);
    rr__ref_dirty(shard, ref); /* drops what was for it */
}

static void on_down(rr__shard_t *shard, uint64_t monitor, int reason) {
    rr__scene_ref_t *ref = shard->scenes;
    while (ref && ref->monitor != monitor)
        ref = ref->next;
    if (!ref)
        return;
    ref->superseded = false;
    ref->ended = reason;
    rr__ref_lose(shard, ref);
}

/* A session that outlived its login scene: its successor must know that the id is taken. */
static void announce(rr__slot_t *slot, void *context) {
    rr__shard_t *shard = slot->shard;
    rr__scene_ref_t *login = context;
    uint8_t body[8 + RR_SID_MAX];
    size_t size;
    const uint8_t *sid = rr__slot_kept(slot, RR__KEPT_SID, &size);
    if (!size || size > RR_SID_MAX || !slot->login || !slot->login->dead)
        return;
    if (slot->state == RR__LOST && slot->scene == slot->login) /* its RESUME says it all */
        return;
    rr_put64(body, (uint64_t)slot->online_time);
    memcpy(body + 8, sid, size);
    rr__ref_use(&slot->login, login);
    if (rr__ref_put(shard, login, RR_REC_ANNOUNCE, 0, slot->index, slot->incarnation, slot->hop, body, 8 + size, NULL, 0,
                NULL) != RR_OK)
        rr__shard_close(slot, RR_CLOSE_SCENE_GONE);
}

static void on_login_scene(rr__shard_t *shard, rr_message_t *msg) {
    rr_addr_t addr = rr_message_size(msg) == 8 ? rr_get64(rr_message_data(msg)) : RR_NOBODY;
    rr__scene_ref_t *ref = addr ? rr__scene_ref(shard, addr) : NULL;
    rr__ref_use(&shard->login, ref);
    shard->accepting = !shard->draining;
    if (!ref)
        return;
    shard->login_drained = ref->draining;
    /* It must know of us, to tell us when it takes no more logins. */
    if (ref->records == 0 && rr__ref_put(shard, ref, RR_REC_QUIET, 0, 0, 0, 0, NULL, 0, NULL, 0, NULL) != RR_OK)
        rr_log(shard->system, RR_ERROR, "GATE", "%s: out of memory: the login scene does not know of a loop",
               shard->gate->options.name);
    rr__each_slot(shard, announce, ref);
    rr__logins_go(shard);
}

static void pause_reading(rr__slot_t *slot, void *context) {
    if (slot->state == RR__OPEN)
        rr__shard_close(slot, RR_CLOSE_DRAIN);
    else
        rr_connection_pause(slot->connection);
}

static void say_goodbye(rr__slot_t *slot, void *context) {
    rr__shard_close(slot, RR_CLOSE_DRAIN);
}

static void on_drain(rr__shard_t *shard, rr__latch_t *latch) {
    shard->draining = true;
    shard->accepting = false;
    shard->drain_latch = latch;
    rr__each_slot(shard, pause_reading, NULL);
}

static void on_close_all(rr__shard_t *shard, rr__latch_t *latch) {
    shard->draining = shard->closing = true;
    shard->accepting = false;
    shard->close_latch = latch;
    rr__each_slot(shard, say_goodbye, NULL);
}

static void *pointer_of(const rr_message_t *msg) {
    return rr_message_size(msg) == 8 ? (void *)(uintptr_t)rr_get64(rr_message_data(msg)) : NULL;
}

static void on_send(rr__shard_t *shard, rr_message_t *msg) {
    switch (rr_message_type(msg)) {
    case RR_TYPE_OUTPUT:
        rr__shard_output(shard, msg);
        break;
    case RR_TYPE_OUTPUT_BODY:
        rr__shard_body(shard, msg);
        break;
    case RR_TYPE_FLUSH:
        shard->turn_asked = false;
        break;
    case RR_TYPE_DRAIN:
        on_drain(shard, pointer_of(msg));
        break;
    case RR_TYPE_CLOSE_ALL:
        on_close_all(shard, pointer_of(msg));
        break;
    case RR_TYPE_JOB:
        rr__editor_job(shard, pointer_of(msg));
        break;
    default:
        rr_count(&shard->count.bad_records, 1);
    }
}

static void shard_receive(rr_actor_t *self, void *state, rr_message_t *msg) {
    rr__shard_t *shard = *(rr__shard_t **)state;
    switch (rr_message_kind(msg)) {
    case RR_SEND:
        on_send(shard, msg);
        break;
    case RR_CALL:
        if (rr_message_type(msg) == RR_TYPE_LOGIN_SCENE) {
            on_login_scene(shard, msg);
            rr_reply(self, msg, NULL, 0);
        }
        break;
    case RR_DOWN:
        on_down(shard, rr_message_request(msg), (int)rr_message_type(msg));
        break;
    case RR_TIMER:
        if (rr_message_type(msg) == RR__TAG_SEEK) {
            rr__seek(shard);
            break;
        }
        shard->ticking = false;
        turn_wheel(shard);
        break;
    default:
        break;
    }
}

static void shard_turn_begin(rr_actor_t *self, void *state) {
    if (*(rr__shard_t **)state)
        (*(rr__shard_t **)state)->in_turn = true;
}

static void latch_over(rr__latch_t **latch) {
    if (*latch)
        rr__latch_down(*latch);
    *latch = NULL;
}

static void flush_all(rr__shard_t *shard) {
    rr__scene_ref_t *ref = shard->dirty;
    shard->dirty = NULL;
    for (rr__scene_ref_t *next; ref; ref = next) {
        next = ref->next_dirty;
        ref->dirty = false;
        flush_ref(shard, ref);
    }
}

static void shard_turn_end(rr_actor_t *self, void *state) {
    rr__shard_t *shard = *(rr__shard_t **)state;
    if (!shard || !shard->self)
        return;
    for (rr__scene_ref_t *r = shard->scenes; r; r = r->next)
        if (r->resuming)
            rr__ref_resume(shard, r);
    flush_all(shard);
    drop_dead_refs(shard);
    start_ticking(shard);
    shard->in_turn = false;
    if (shard->dirty)
        rr__shard_ask_turn(shard);
    latch_over(&shard->drain_latch); /* all that was read is in the scenes' mailboxes */
    if (shard->closing && shard->open == 0) {
        latch_over(&shard->close_latch);
        rr_exit(self, RR_OK);
    }
}

static int shard_start(rr_actor_t *self, void *state, const void *arg) {
    rr__shard_t *shard = *(rr__shard_t *const *)arg;
    *(rr__shard_t **)state = shard;
    shard->self = self;
    shard->in_turn = true;
    shard->tick = (uint32_t)(rr_now_ns(self) / NS_PER_MS / shard->gate->tick_ms);
    return RR_OK;
}

/* A drain without rr_gate_drain before it: at least flush and say goodbye. */
static void shard_drain(rr_actor_t *self, void *state) {
    on_close_all(*(rr__shard_t **)state, NULL);
}

static void shard_finish(rr_actor_t *self, void *state, int reason) {
    rr__shard_t *shard = *(rr__shard_t **)state;
    shard->accepting = false;
    latch_over(&shard->drain_latch);
    latch_over(&shard->close_latch);
    flush_all(shard);
    shard->self = NULL;
}

const rr_behavior_t rr__shard_behavior = {
    .name = "shard",
    .state_size = sizeof(rr__shard_t *),
    .start = shard_start,
    .receive = shard_receive,
    .turn_begin = shard_turn_begin,
    .turn_end = shard_turn_end,
    .drain = shard_drain,
    .finish = shard_finish,
};

int rr__shard_init(rr__shard_t *shard, rr_gate_t *gate, rr_loop_t *loop, unsigned index) {
    shard->gate = gate;
    shard->loop = loop;
    shard->system = gate->system;
    shard->index = index;
    shard->last_incarnation = rr_system_random(gate->system);
    shard->name = malloc(strlen(gate->name) + 16);
    if (!shard->name)
        return RR_ENOMEM;
    sprintf(shard->name, "%s#%u", gate->name, index);
    return RR_OK;
}

void rr__shard_free(rr__shard_t *shard) {
    for (rr__scene_ref_t *ref = shard->scenes, *next; ref; ref = next) {
        next = ref->next;
        ref_free(ref);
    }
    for (uint32_t c = 0; c < shard->chunk_count; c++) {
        for (uint32_t i = 0; i < RR__CHUNK_SLOTS; i++) {
            rr__hold_free(&shard->chunks[c][i]);
            if (shard->chunks[c][i].state != RR__FREE)
                free(shard->chunks[c][i].kept);
        }
        free(shard->chunks[c]);
    }
    free(shard->chunks);
    rr_shared_row_free(shard->row);
    free(shard->name);
}
