/* fake_stream.h: a stream without a socket, for tests and fuzzing: what is written is collected, what arrives is fed by
 * hand, the end comes when fake_stream_end is called (never inside another call, as with the real one). */
#ifndef RR_TESTS_FAKE_STREAM_H
#define RR_TESTS_FAKE_STREAM_H

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "net/stream_impl.h"

typedef struct fake_stream {
    rr_stream_t base;
    rr__deadlines_t deadlines;
    uint8_t *out;
    size_t out_size, out_capacity;
    size_t limit; /* writes beyond it fail with RR_ELIMIT */
    bool paused, kicked, closing, aborted;
    uint8_t memory[RR_STREAM_HEADROOM + 65536];
} fake_stream_t;

static inline fake_stream_t *fake_of(const rr_stream_t *stream) {
    return (fake_stream_t *)stream;
}

static inline uint8_t *fake_reserve(rr_stream_t *stream, size_t size, int *error) {
    fake_stream_t *f = fake_of(stream);
    *error = f->closing ? RR_ESTATE : f->out_size + size > f->limit ? RR_ELIMIT : RR_OK;
    if (*error != RR_OK) {
        return NULL;
    }
    if (f->out_size + size > f->out_capacity) {
        f->out_capacity = 2 * (f->out_size + size);
        f->out = realloc(f->out, f->out_capacity);
        assert(f->out);
    }
    return f->out + f->out_size;
}

static inline void fake_commit(rr_stream_t *stream, size_t size) {
    fake_of(stream)->out_size += size;
}

static inline int fake_write(rr_stream_t *stream, const void *data, size_t size) {
    int error;
    uint8_t *room = fake_reserve(stream, size, &error);
    if (room && size) {
        memcpy(room, data, size);
        fake_commit(stream, size);
    }
    return error;
}

static inline int fake_write_slice(rr_stream_t *stream, const void *head, size_t head_size, const rr_slice_t *slice) {
    int error;
    uint8_t *room = fake_reserve(stream, head_size + slice->size, &error);
    if (room) {
        if (head_size) {
            memcpy(room, head, head_size);
        }
        memcpy(room + head_size, slice->data, slice->size);
        fake_commit(stream, head_size + slice->size);
    }
    return error;
}

static inline size_t fake_pending(const rr_stream_t *stream) {
    return fake_of(stream)->out_size;
}

static inline void fake_pause(rr_stream_t *stream) {
    fake_of(stream)->paused = true;
}

static inline void fake_resume(rr_stream_t *stream) {
    fake_of(stream)->paused = false;
}

static inline void fake_kick(rr_stream_t *stream) {
    fake_of(stream)->kicked = true;
}

static inline void fake_close(rr_stream_t *stream, unsigned linger_ms) {
    (void)linger_ms;
    fake_of(stream)->closing = true;
}

static inline void fake_abort(rr_stream_t *stream) {
    fake_of(stream)->closing = fake_of(stream)->aborted = true;
}

static inline const char *fake_peer_ip(const rr_stream_t *stream, char *out, size_t size) {
    (void)stream;
    (void)size;
    return strcpy(out, "192.0.2.1");
}

static inline rr_loop_t *fake_loop(rr_stream_t *stream) {
    (void)stream;
    return NULL;
}

static inline rr__deadlines_t *fake_deadlines(const rr_stream_t *stream) {
    return &fake_of(stream)->deadlines;
}

static const rr_stream_ops_t fake_ops = {
    .write = fake_write,
    .write_slice = fake_write_slice,
    .reserve = fake_reserve,
    .commit = fake_commit,
    .pending = fake_pending,
    .pause = fake_pause,
    .resume = fake_resume,
    .kick = fake_kick,
    .close = fake_close,
    .abort = fake_abort,
    .peer_ip = fake_peer_ip,
    .loop = fake_loop,
    .deadlines = fake_deadlines,
};

static inline fake_stream_t *fake_stream_new(const rr_stream_handler_t *handler, void *owner) {
    fake_stream_t *f = malloc(sizeof *f);
    assert(f);
    memset(f, 0, offsetof(fake_stream_t, memory));
    f->base = (rr_stream_t){.ops = &fake_ops, .handler = handler, .owner = owner};
    f->limit = 16u << 20;
    f->deadlines.now_ns = 1000000000ull;
    rr_wheel_init(&f->deadlines.wheel, f->deadlines.now_ns);
    return f;
}

/* Runs kicks until there are none. */
static inline void fake_stream_run(fake_stream_t *f) {
    while (f->kicked && !f->closing) {
        f->kicked = false;
        f->base.handler->data(f->base.owner, f->memory + RR_STREAM_HEADROOM, 0);
    }
}

/* The bytes arrive in one read (or several, if the owner wants them elsewhere); what comes after a pause or close is not
 * delivered. Returns how many were taken. */
static inline size_t fake_stream_feed(fake_stream_t *f, const void *data, size_t size) {
    size_t at = 0;
    fake_stream_run(f);
    while (at < size && !f->paused && !f->closing) {
        size_t room = 0, n = size - at < 65536 ? size - at : 65536;
        uint8_t *to = f->base.handler->room ? f->base.handler->room(f->base.owner, &room) : NULL;
        n = to && n > room ? room : n;
        to = to ? to : f->memory + RR_STREAM_HEADROOM;
        memcpy(to, (const uint8_t *)data + at, n);
        f->base.handler->data(f->base.owner, to, n);
        at += n;
        fake_stream_run(f);
    }
    return at;
}

static inline void fake_stream_pass(fake_stream_t *f, unsigned ms) {
    f->deadlines.now_ns += ms * 1000000ull;
    rr__deadlines_fire(&f->deadlines);
    fake_stream_run(f);
}

/* The stream ends: tells the owner, frees. */
static inline void fake_stream_end(fake_stream_t *f, int error) {
    f->base.handler->closed(f->base.owner, error);
    free(f->out);
    free(f);
}

#endif
