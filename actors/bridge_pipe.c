/* bridge_pipe.c: what goes from one system to another inside a process, and the calls that wait for it. */
#include <stdio.h>
#include <stdlib.h>

#include "actors/bridge_impl.h"

/* ---- Pipes ---- */

void rr__pipe_init(rr__pipe_t *pipe, size_t limit) {
    *pipe = (rr__pipe_t){.limit = limit};
    pipe->last = &pipe->first;
    pthread_mutex_init(&pipe->lock, NULL);
}

void rr__parcel_free(rr__parcel_t *parcel) {
    rr_buffer_unref(parcel->buffer);
    free(parcel);
}

/* Under the lock. */
static rr__parcel_t *take_all(rr__pipe_t *pipe) {
    rr__parcel_t *all = pipe->first;
    pipe->first = NULL;
    pipe->last = &pipe->first;
    pipe->count = 0;
    pipe->woken = false;
    return all;
}

void rr__pipe_open(rr__pipe_t *pipe, rr_system_t *system, rr_addr_t reader) {
    pthread_mutex_lock(&pipe->lock);
    if (!pipe->shut) {
        pipe->system = system;
        pipe->reader = reader;
    }
    pthread_mutex_unlock(&pipe->lock);
}

void rr__pipe_allow(rr__pipe_t *pipe) {
    pthread_mutex_lock(&pipe->lock);
    pipe->shut = false;
    pthread_mutex_unlock(&pipe->lock);
}

void rr__pipe_close(rr__pipe_t *pipe) {
    pthread_mutex_lock(&pipe->lock);
    pipe->system = NULL;
    pipe->shut = true;
    rr__parcel_t *all = take_all(pipe);
    pthread_mutex_unlock(&pipe->lock);
    for (rr__parcel_t *next; all; all = next) {
        next = all->next;
        rr__parcel_free(all);
    }
}

void rr__pipe_destroy(rr__pipe_t *pipe) {
    rr__pipe_close(pipe);
    pthread_mutex_destroy(&pipe->lock);
}

/* Under the lock: so its system cannot go away meanwhile. A reader whose mailbox is full has turns to come, and looks into
 * the pipe in each; the next parcel tries to wake it again. */
static void wake(rr__pipe_t *pipe) {
    if (!pipe->woken)
        pipe->woken = rr_system_send(pipe->system, pipe->reader, RR_TYPE_BRIDGE_WAKE, NULL, 0) == RR_OK;
}

int rr__pipe_push(rr__pipe_t *pipe, const rr__parcel_t *parcel, bool forced) {
    rr__parcel_t *copy = malloc(sizeof *copy);
    int rc = copy ? RR_OK : RR_ENOMEM;
    pthread_mutex_lock(&pipe->lock);
    if (rc == RR_OK && !pipe->system)
        rc = RR_NOROUTE;
    if (rc == RR_OK && pipe->count >= pipe->limit && !forced)
        rc = RR_OVERLOAD;
    if (rc == RR_OK) {
        *copy = *parcel;
        copy->next = NULL;
        *pipe->last = copy;
        pipe->last = &copy->next;
        pipe->count++;
        wake(pipe);
    }
    pthread_mutex_unlock(&pipe->lock);
    if (rc != RR_OK) {
        rr_buffer_unref(parcel->buffer);
        free(copy);
    }
    return rc;
}

rr__parcel_t *rr__pipe_take(rr__pipe_t *pipe) {
    pthread_mutex_lock(&pipe->lock);
    rr__parcel_t *all = take_all(pipe);
    pthread_mutex_unlock(&pipe->lock);
    return all;
}

rr_buffer_t *rr__payload(const rr_message_t *msg) {
    rr_buffer_t *buffer = rr_message_buffer(msg);
    return buffer ? rr_buffer_ref(buffer) : rr_buffer_copy(rr_message_data(msg), rr_message_size(msg));
}

void rr__pass_on(rr_actor_t *self, rr_message_t *msg, const rr__parcel_t *parcel) {
    if (parcel->status == RR_OK && parcel->buffer)
        rr_reply_buffer(self, msg, rr_buffer_ref(parcel->buffer));
    else if (parcel->status == RR_EHANDLER && parcel->buffer) {
        char text[4096];
        size_t size = rr_buffer_size(parcel->buffer);
        snprintf(text, sizeof text, "%.*s", (int)(size < sizeof text ? size : sizeof text - 1),
                 (const char *)rr_buffer_data(parcel->buffer));
        rr_reply_error(self, msg, RR_EHANDLER, text);
    } else
        rr_reply_error(self, msg, parcel->status ? parcel->status : RR_EHANDLER, NULL);
}

/* ---- Calls ---- */

#define SLOT_BITS 24

static bool grow(rr__bridged_t *calls) {
    uint32_t capacity = calls->capacity ? calls->capacity * 2 : 64;
    capacity = capacity < calls->limit ? capacity : calls->limit;
    rr__waiting_t *slots = capacity > calls->capacity ? realloc(calls->slots, capacity * sizeof *slots) : NULL;
    if (!slots)
        return false;
    for (uint32_t i = capacity; i > calls->capacity; i--) {
        slots[i - 1] = (rr__waiting_t){.next_free = calls->first_free};
        calls->first_free = i;
    }
    calls->slots = slots;
    calls->capacity = capacity;
    return true;
}

uint64_t rr__bridged_add(rr__bridged_t *calls, rr_actor_t *self, rr_message_t *msg, unsigned link, uint64_t until_ns) {
    if (!calls->first_free && !grow(calls))
        return 0;
    if (!calls->timer && rr_timer_start(self, RR__BRIDGED_TICK_MS, RR__BRIDGED_TICK_MS, 0, &calls->timer) != RR_OK)
        return 0;
    uint32_t slot = calls->first_free - 1;
    rr__waiting_t *waiting = &calls->slots[slot];
    calls->first_free = waiting->next_free;
    calls->generation += calls->generation == UINT32_MAX ? 2 : 1;
    *waiting = (rr__waiting_t){.msg = msg, .until_ns = until_ns, .generation = calls->generation, .link = (uint8_t)link};
    calls->count++;
    rr_message_take(self, msg);
    return (uint64_t)link << 56 | (uint64_t)waiting->generation << SLOT_BITS | slot;
}

static rr_message_t *free_slot(rr__bridged_t *calls, uint32_t slot) {
    rr_message_t *msg = calls->slots[slot].msg;
    calls->slots[slot] = (rr__waiting_t){.next_free = calls->first_free};
    calls->first_free = slot + 1;
    calls->count--;
    return msg;
}

rr_message_t *rr__bridged_take(rr__bridged_t *calls, uint64_t token) {
    uint32_t slot = (uint32_t)(token & ((1u << SLOT_BITS) - 1)), generation = (uint32_t)(token >> SLOT_BITS);
    if (slot >= calls->capacity || !calls->slots[slot].msg || calls->slots[slot].generation != generation)
        return NULL;
    return free_slot(calls, slot);
}

unsigned rr__bridged_end(rr__bridged_t *calls, rr_actor_t *self, int link, uint64_t now_ns, int code) {
    unsigned ended = 0;
    for (uint32_t i = 0; i < calls->capacity && calls->count; i++) {
        rr__waiting_t *waiting = &calls->slots[i];
        if (!waiting->msg || waiting->until_ns > now_ns || (link >= 0 && waiting->link != link))
            continue;
        rr_reply_error(self, free_slot(calls, i), code, NULL);
        ended++;
    }
    return ended;
}

void rr__bridged_tick(rr__bridged_t *calls, rr_actor_t *self) {
    if (calls->count)
        rr__bridged_end(calls, self, -1, rr_now_ns(self), RR_TIMEOUT);
    if (calls->count || !calls->timer)
        return;
    rr_timer_cancel(self, calls->timer);
    calls->timer = 0;
}

void rr__bridged_destroy(rr__bridged_t *calls) {
    free(calls->slots); /* the runtime answers what their actor had taken */
}

unsigned rr__hop_ms(unsigned timeout_ms, unsigned hops) {
    unsigned way = timeout_ms / 50 > 100 ? 100 : timeout_ms / 50;
    return timeout_ms - way * hops > 0 ? timeout_ms - way * hops : 1;
}
