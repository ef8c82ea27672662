/* stream_tcp.c: streams on libuv's TCP handles.
 *
 * Output waits as a list of segments: chunks of copied bytes, or references to buffers. Whoever writes first in a loop turn
 * defers a flush; the flush hands everything to the kernel by one non-blocking writev (uv_try_write). Only what the kernel
 * does not take becomes a libuv write request, so the usual case allocates nothing but a warm chunk from the loop. */
#include <assert.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "net/loop_impl.h"
#include "net/stream_impl.h"

#define READ_SIZE (64u << 10) /* per read: more only pushes the parsers' data out of the cache */
#define IOV_MAX_USED 64u
#define HEAD_MAX 32u

_Static_assert(RR_STREAM_HEADROOM + READ_SIZE <= RR_LOOP_SCRATCH, "headroom and a read fit the scratch");

typedef enum segment_kind { SEGMENT_SMALL, SEGMENT_BIG, SEGMENT_OWN /* malloc'ed for its size */, SEGMENT_BUFFER } segment_kind_t;

typedef struct segment {
    struct segment *next;
    uint8_t *data;
    rr_buffer_t *owner;  /* SEGMENT_BUFFER only */
    uint32_t start, end; /* still to be sent: data[start, end) */
    uint32_t capacity;
    uint8_t kind;
} segment_t;

#define SMALL_ROOM (RR__CHUNK_SMALL - sizeof(segment_t))
#define BIG_ROOM (RR__CHUNK_BIG - sizeof(segment_t))

typedef struct tcp_stream tcp_stream_t;

/* A write that the kernel did not take whole. */
typedef struct slow_write {
    uv_write_t request;
    segment_t *segments;
    uint32_t size;
} slow_write_t;

/* What only a closing stream needs. */
typedef struct farewell {
    uv_shutdown_t request;
    rr__deadline_t deadline;
    tcp_stream_t *stream;
} farewell_t;

enum {
    READING = 1,   /* wanted by the owner */
    ABOVE_LOW = 2, /* drained() is owed */
    CLOSING = 4,   /* the owner is done: flush, half-close, wait for the peer */
    CLOSED = 8,    /* uv_close was called */
    BIG = 16,      /* the last turn's output outgrew a small chunk: begin with a big one */
    KICKED = 32,
    PEER_ENDED = 64,
    LINGER_HARD = 128, /* close as soon as it is flushed: no half-close */
};

struct tcp_stream {
    rr_stream_t base;
    uv_tcp_t tcp; /* handle.data: this */
    rr_deferred_t flush;
    segment_t *first, *last;
    slow_write_t *slow; /* in the kernel's way; nothing is tried until it is through */
    farewell_t *farewell;
    uint32_t queued; /* bytes in first..last */
    uint32_t limit;
    int error; /* for closed() */
    unsigned flags;
};

static tcp_stream_t *self_of(const rr_stream_t *stream) {
    return (tcp_stream_t *)stream;
}

static rr_loop_t *loop_of(const tcp_stream_t *s) {
    return s->tcp.loop->data;
}

/* ---- Segments ---- */

static segment_t *segment_new(rr_loop_t *loop, segment_kind_t kind, uint32_t capacity) {
    segment_t *segment = kind <= SEGMENT_BIG ? rr__loop_chunk_get(loop, kind == SEGMENT_BIG)
                                             : malloc(sizeof *segment + capacity);
    if (segment) {
        *segment = (segment_t){.data = (uint8_t *)(segment + 1), .kind = (uint8_t)kind};
        segment->capacity = kind == SEGMENT_SMALL ? SMALL_ROOM : kind == SEGMENT_BIG ? BIG_ROOM : capacity;
    }
    return segment;
}

static void segment_free(rr_loop_t *loop, segment_t *segment) {
    if (segment->kind <= SEGMENT_BIG) {
        rr__loop_chunk_put(loop, segment->kind == SEGMENT_BIG, segment);
        return;
    }
    rr_buffer_unref(segment->owner);
    free(segment);
}

static void segments_free(rr_loop_t *loop, segment_t *segment) {
    for (segment_t *next; segment; segment = next) {
        next = segment->next;
        segment_free(loop, segment);
    }
}

static void append(tcp_stream_t *s, segment_t *segment) {
    if (s->last) {
        s->last->next = segment;
    } else {
        s->first = segment;
    }
    s->last = segment;
}

/* A segment at the end of the list with room for size more bytes, NULL when out of memory. */
static segment_t *segment_with_room(tcp_stream_t *s, uint32_t size) {
    segment_t *last = s->last;
    if (last && last->capacity - last->end >= size) { /* a buffer's capacity is 0 and so is its end's difference */
        return last;
    }
    rr_loop_t *loop = loop_of(s);
    bool grow = last && last->kind == SEGMENT_SMALL && last == s->first && last->end + size <= BIG_ROOM;
    segment_kind_t kind = SEGMENT_OWN;
    if (grow || size <= BIG_ROOM) {
        kind = grow || last || size > SMALL_ROOM || (s->flags & BIG) ? SEGMENT_BIG : SEGMENT_SMALL;
    }
    segment_t *segment = segment_new(loop, kind, size);
    if (!segment) {
        return NULL;
    }
    if (grow) { /* a copy of a few hundred bytes is cheaper than a second piece in every writev */
        segment->start = last->start;
        segment->end = last->end;
        memcpy(segment->data, last->data, last->end);
        s->first = s->last = NULL;
        segment_free(loop, last);
    }
    append(s, segment);
    return segment;
}

/* ---- Flushing ---- */

/* Bytes that went straight into the last chunk (rr_stream.room) and are not counted yet. */
static uint32_t uncounted(const tcp_stream_t *s) {
    return s->base.room ? (uint32_t)(s->base.room - s->last->data) - s->last->end : 0;
}

static size_t pending(const rr_stream_t *stream) {
    const tcp_stream_t *s = self_of(stream);
    return s->queued + uncounted(s) + (s->slow ? s->tcp.write_queue_size : 0);
}

/* Counts them, and takes the chunk back: before anything looks at the list. */
static void settle(tcp_stream_t *s) {
    if (s->base.room) {
        uint32_t size = uncounted(s);
        s->last->end += size;
        s->queued += size;
        s->base.room = s->base.room_end = NULL;
        if (pending(&s->base) > s->limit / 4) {
            s->flags |= ABOVE_LOW;
        }
    }
}

/* Lends the rest of the last chunk, as far as the limit allows. */
static void lend(tcp_stream_t *s) {
    size_t left = s->limit - pending(&s->base), room = s->last->capacity - s->last->end;
    s->base.room = s->last->data + s->last->end;
    s->base.room_end = s->base.room + (room < left ? room : left);
}

static void close_now(tcp_stream_t *s, int error);
static void half_close(tcp_stream_t *s);
static void after_slow_write(uv_write_t *request, int status);

static unsigned gather(const tcp_stream_t *s, uv_buf_t *bufs, size_t *total) {
    unsigned n = 0;
    *total = 0;
    for (const segment_t *segment = s->first; segment && n < IOV_MAX_USED; segment = segment->next) {
        size_t size = segment->end - segment->start;
        if (size) {
            bufs[n++] = uv_buf_init((char *)segment->data + segment->start, (unsigned)size);
            *total += size;
        }
    }
    return n;
}

/* Forgets the first `size` bytes, and segments that are empty. */
static void consume(tcp_stream_t *s, size_t size) {
    s->queued -= (uint32_t)size;
    while (s->first) {
        segment_t *segment = s->first;
        uint32_t here = segment->end - segment->start;
        if (here > size) {
            segment->start += (uint32_t)size;
            return;
        }
        size -= here;
        s->first = segment->next;
        segment_free(loop_of(s), segment);
    }
    s->last = NULL;
}

/* Gives the gathered rest to libuv, which waits for the socket. */
static int write_slowly(tcp_stream_t *s) {
    uv_buf_t bufs[IOV_MAX_USED];
    size_t total;
    unsigned n = gather(s, bufs, &total);
    slow_write_t *slow = malloc(sizeof *slow);
    if (!slow) {
        return UV_ENOMEM;
    }
    slow->request.data = s;
    int rc = uv_write(&slow->request, (uv_stream_t *)&s->tcp, bufs, n, after_slow_write);
    if (rc != 0) {
        free(slow);
        return rc;
    }
    slow->segments = s->first;
    slow->size = (uint32_t)total;
    s->slow = slow;
    s->queued -= (uint32_t)total;
    segment_t *last = s->first;
    for (unsigned seen = last->end > last->start; seen < n;) {
        last = last->next;
        seen += last->end > last->start;
    }
    s->first = last->next;
    last->next = NULL;
    s->last = s->first ? s->last : NULL;
    return 0;
}

static int try_write(tcp_stream_t *s) {
    while (s->queued && !s->slow) {
        uv_buf_t bufs[IOV_MAX_USED];
        size_t total;
        unsigned n = gather(s, bufs, &total);
        int rc = uv_try_write((uv_stream_t *)&s->tcp, bufs, n);
        if (rc < 0 && rc != UV_EAGAIN) {
            return rc;
        }
        rr__stream_counters_t *counters = rr__loop_counters(loop_of(s));
        rr_count(&counters->writes, 1);
        size_t sent = rc > 0 ? (size_t)rc : 0;
        rr_count(&counters->written_bytes, sent);
        consume(s, sent);
        if (sent < total) {
            rc = write_slowly(s);
            if (rc != 0) {
                return rc;
            }
        }
    }
    return 0;
}

static void flush(tcp_stream_t *s) {
    if (s->flags & CLOSED) {
        return;
    }
    settle(s);
    s->flags = s->queued > SMALL_ROOM ? s->flags | BIG : s->flags & ~(unsigned)BIG;
    int rc = try_write(s);
    if (rc != 0) {
        close_now(s, rr_error_from_errno(rc));
    } else if ((s->flags & CLOSING) && !s->slow && !s->queued) {
        half_close(s);
    }
}

static void flush_now(rr_stream_t *stream) {
    flush(self_of(stream)); /* the one that is deferred follows all the same, and tells that it is drained */
}

static void tell_drained(tcp_stream_t *s) {
    if ((s->flags & (ABOVE_LOW | CLOSING | CLOSED)) == ABOVE_LOW && pending(&s->base) <= s->limit / 4) {
        s->flags &= ~(unsigned)ABOVE_LOW;
        if (s->base.handler->drained) {
            s->base.handler->drained(s->base.owner);
        }
    }
}

static void on_deferred(rr_deferred_t *item) {
    tcp_stream_t *s = (tcp_stream_t *)((char *)item - offsetof(tcp_stream_t, flush));
    if (s->flags & KICKED) {
        s->flags &= ~(unsigned)KICKED;
        if (!(s->flags & (CLOSING | CLOSED))) {
            s->base.handler->data(s->base.owner, rr_loop_scratch(loop_of(s)) + RR_STREAM_HEADROOM, 0);
            if (!(s->flags & KICKED)) {
                rr_loop_defer_cancel(loop_of(s), &s->flush);
            }
        }
    }
    flush(s);
    tell_drained(s);
}

static void after_slow_write(uv_write_t *request, int status) {
    slow_write_t *slow = (slow_write_t *)request;
    tcp_stream_t *s = request->data;
    s->slow = NULL;
    segments_free(loop_of(s), slow->segments);
    if (status == 0) {
        rr__stream_counters_t *counters = rr__loop_counters(loop_of(s));
        rr_count(&counters->writes, 1);
        rr_count(&counters->written_bytes, slow->size);
    }
    free(slow);
    if (s->flags & CLOSED) {
        return;
    }
    if (status != 0) {
        close_now(s, rr_error_from_errno(status));
        return;
    }
    flush(s);
    tell_drained(s);
}

/* ---- Writing ---- */

/* Is there room for size more bytes? */
static int admit(tcp_stream_t *s, size_t size) {
    settle(s);
    if (s->flags & (CLOSING | CLOSED)) {
        return RR_ESTATE;
    }
    if (pending(&s->base) + size > s->limit) {
        flush(s); /* the reader may be fast, and only this turn's output large */
        if (s->flags & CLOSED) {
            return RR_ESTATE;
        }
        if (pending(&s->base) + size > s->limit) {
            return RR_ELIMIT;
        }
    }
    return RR_OK;
}

static void queued(tcp_stream_t *s, size_t size) {
    s->queued += (uint32_t)size;
    if (pending(&s->base) > s->limit / 4) {
        s->flags |= ABOVE_LOW;
    }
    if (!s->slow) {
        rr_loop_defer(loop_of(s), &s->flush);
    }
}

static uint8_t *reserve(rr_stream_t *stream, size_t size, int *error) {
    tcp_stream_t *s = self_of(stream);
    *error = admit(s, size);
    if (*error != RR_OK) {
        return NULL;
    }
    segment_t *segment = segment_with_room(s, (uint32_t)size);
    if (!segment) {
        *error = RR_ENOMEM;
        return NULL;
    }
    return segment->data + segment->end;
}

static void commit(rr_stream_t *stream, size_t size) {
    tcp_stream_t *s = self_of(stream);
    assert(s->last && s->last->capacity - s->last->end >= size);
    s->last->end += (uint32_t)size;
    queued(s, size);
    lend(s);
}

static int write_copy(rr_stream_t *stream, const void *data, size_t size) {
    int error;
    uint8_t *room = reserve(stream, size, &error);
    if (!room) {
        return error;
    }
    memcpy(room, data, size);
    commit(stream, size);
    return RR_OK;
}

static int write_slice(rr_stream_t *stream, const void *head, size_t head_size, const rr_slice_t *slice) {
    tcp_stream_t *s = self_of(stream);
    assert(head_size <= HEAD_MAX && slice->owner);
    int error = admit(s, head_size + slice->size);
    if (error != RR_OK) {
        return error;
    }
    segment_t *body = segment_new(loop_of(s), SEGMENT_BUFFER, 0);
    segment_t *copy = body && head_size ? segment_with_room(s, (uint32_t)head_size) : NULL;
    if (!body || (head_size && !copy)) {
        free(body);
        return RR_ENOMEM;
    }
    if (head_size) {
        memcpy(copy->data + copy->end, head, head_size);
        copy->end += (uint32_t)head_size;
    }
    body->data = (uint8_t *)slice->data;
    body->end = (uint32_t)slice->size;
    body->capacity = body->end; /* no room behind it */
    body->owner = rr_buffer_ref(slice->owner);
    append(s, body);
    queued(s, head_size + slice->size);
    return RR_OK;
}

/* ---- Reading ---- */

static void on_room(uv_handle_t *handle, size_t suggested, uv_buf_t *buf) {
    tcp_stream_t *s = handle->data;
    rr_loop_t *loop = loop_of(s);
    size_t size = 0;
    uint8_t *room = NULL;
    rr__loop_awake(loop);
    if (s->base.handler->room && !(s->flags & CLOSING)) {
        room = s->base.handler->room(s->base.owner, &size);
    }
    if (!room) {
        room = rr_loop_scratch(loop) + RR_STREAM_HEADROOM;
        size = READ_SIZE;
    }
    *buf = uv_buf_init((char *)room, (unsigned)size);
}

static void on_end(tcp_stream_t *s, int error) {
    if (error != 0) {
        close_now(s, rr_error_from_errno(error));
        return;
    }
    s->flags |= PEER_ENDED;
    if (!(s->flags & CLOSING)) { /* what is queued still goes out; nobody will answer what we have not yet read */
        rr_stream_close(&s->base, 0);
    } else if (!s->slow && !s->queued) {
        close_now(s, RR_OK);
    } else {
        s->flags |= LINGER_HARD;
        uv_read_stop((uv_stream_t *)&s->tcp);
    }
}

static void on_read(uv_stream_t *handle, ssize_t size, const uv_buf_t *buf) {
    tcp_stream_t *s = handle->data;
    if (size == 0 || (s->flags & CLOSED)) {
        return;
    }
    if (size < 0) {
        on_end(s, size == UV_EOF ? 0 : (int)size);
        return;
    }
    rr__stream_counters_t *counters = rr__loop_counters(loop_of(s));
    rr_count(&counters->reads, 1);
    rr_count(&counters->read_bytes, (uint64_t)size);
    if (s->flags & CLOSING) {
        return; /* discarded: unread bytes at close would make the kernel reset the connection and lose our last words */
    }
    s->base.handler->data(s->base.owner, (uint8_t *)buf->base, (size_t)size);
    if (s->flush.prev && !(s->flags & KICKED)) { /* its own answers leave at once: others' wait for the end of the turn */
        rr_loop_defer_cancel(loop_of(s), &s->flush);
        flush(s);
        tell_drained(s);
    }
}

static void pause_reading(rr_stream_t *stream) {
    tcp_stream_t *s = self_of(stream);
    if ((s->flags & (READING | CLOSING | CLOSED)) == READING) {
        s->flags &= ~(unsigned)READING;
        uv_read_stop((uv_stream_t *)&s->tcp);
    }
}

static void resume_reading(rr_stream_t *stream) {
    tcp_stream_t *s = self_of(stream);
    if (!(s->flags & (READING | CLOSING | CLOSED))) {
        s->flags |= READING;
        if (uv_read_start((uv_stream_t *)&s->tcp, on_room, on_read) != 0) {
            close_now(s, RR_EIO);
        }
    }
}

static void kick(rr_stream_t *stream) {
    tcp_stream_t *s = self_of(stream);
    if (!(s->flags & (CLOSING | CLOSED))) {
        s->flags |= KICKED;
        rr_loop_defer(loop_of(s), &s->flush);
    }
}

/* ---- Closing ---- */

static void after_close(uv_handle_t *handle) {
    tcp_stream_t *s = handle->data;
    rr_loop_t *loop = loop_of(s);
    rr_counter_t *open = &rr__loop_counters(loop)->open;
    rr_count(open, (uint64_t)-1);
    segments_free(loop, s->first);
    free(s->farewell);
    s->base.handler->closed(s->base.owner, s->error);
    free(s);
}

static void close_now(tcp_stream_t *s, int error) {
    if (s->flags & CLOSED) {
        return;
    }
    settle(s);
    s->flags |= CLOSED;
    s->error = error;
    rr_loop_defer_cancel(loop_of(s), &s->flush);
    if (s->farewell) {
        rr__deadline_clear(rr__loop_deadlines(loop_of(s)), &s->farewell->deadline);
    }
    uv_close((uv_handle_t *)&s->tcp, after_close);
}

static void on_linger_over(rr__deadline_t *item) {
    farewell_t *farewell = (farewell_t *)((char *)item - offsetof(farewell_t, deadline));
    close_now(farewell->stream, farewell->stream->queued || farewell->stream->slow ? RR_TIMEOUT : RR_OK);
}

static void after_shutdown(uv_shutdown_t *request, int status) {
    farewell_t *farewell = (farewell_t *)request;
    if (status != 0) { /* the peer is gone already */
        close_now(farewell->stream, RR_OK);
    }
}

/* Everything is sent: say so, then wait for the peer's end. */
static void half_close(tcp_stream_t *s) {
    if (s->farewell->request.handle) {
        return; /* said already */
    }
    if ((s->flags & (LINGER_HARD | PEER_ENDED)) ||
        uv_shutdown(&s->farewell->request, (uv_stream_t *)&s->tcp, after_shutdown) != 0) {
        close_now(s, RR_OK);
    }
}

static void close_gently(rr_stream_t *stream, unsigned linger_ms) {
    tcp_stream_t *s = self_of(stream);
    if (s->flags & (CLOSING | CLOSED)) {
        return;
    }
    settle(s);
    s->flags |= CLOSING | (linger_ms ? 0 : LINGER_HARD);
    s->farewell = calloc(1, sizeof *s->farewell);
    if (!s->farewell) {
        close_now(s, RR_ENOMEM);
        return;
    }
    s->farewell->stream = s;
    /* Even without a linger time, what is queued gets a moment: else a peer that stopped reading would hold us for ever. */
    rr__deadline_set(rr__loop_deadlines(loop_of(s)), &s->farewell->deadline, linger_ms ? linger_ms : 1000, on_linger_over);
    if (!(s->flags & (READING | PEER_ENDED))) {
        (void)uv_read_start((uv_stream_t *)&s->tcp, on_room, on_read); /* failing, the deadline ends it */
    }
    rr_loop_defer(loop_of(s), &s->flush);
}

static void abort_now(rr_stream_t *stream) {
    close_now(self_of(stream), RR_OK);
}

void rr__stream_tcp_loop_ends(uv_tcp_t *handle) {
    tcp_stream_t *s = handle->data;
    if (!uv_is_closing((uv_handle_t *)handle)) {
        settle(s);
        (void)try_write(s);
        close_now(s, RR_OK);
    }
}

/* ---- Opening, and the rest ---- */

static const char *peer_ip(const rr_stream_t *stream, char *out, size_t size) {
    const tcp_stream_t *s = self_of(stream);
    struct sockaddr_storage name;
    int length = sizeof name;
    out[0] = '\0';
    if ((s->flags & CLOSED) || uv_tcp_getpeername(&s->tcp, (struct sockaddr *)&name, &length) != 0) {
        return out;
    }
    const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)&name;
    if (name.ss_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&six->sin6_addr)) {
        uv_inet_ntop(AF_INET, six->sin6_addr.s6_addr + 12, out, size);
    } else if (name.ss_family == AF_INET6) {
        uv_ip6_name(six, out, size);
    } else if (name.ss_family == AF_INET) {
        uv_ip4_name((const struct sockaddr_in *)&name, out, size);
    }
    return out;
}

static rr_loop_t *loop_of_stream(rr_stream_t *stream) {
    return loop_of(self_of(stream));
}

static rr__deadlines_t *deadlines_of_stream(const rr_stream_t *stream) {
    return rr__loop_deadlines(loop_of(self_of(stream)));
}

static const rr_stream_ops_t tcp_ops = {
    .write = write_copy,
    .write_slice = write_slice,
    .reserve = reserve,
    .commit = commit,
    .flush = flush_now,
    .pending = pending,
    .pause = pause_reading,
    .resume = resume_reading,
    .kick = kick,
    .close = close_gently,
    .abort = abort_now,
    .peer_ip = peer_ip,
    .loop = loop_of_stream,
    .deadlines = deadlines_of_stream,
};

static void free_handle(uv_handle_t *handle) {
    free(handle->data);
}

int rr_stream_open(rr_loop_t *loop, int fd, const rr_stream_handler_t *handler, void *owner, size_t send_limit,
                   rr_stream_t **out) {
    tcp_stream_t *s = calloc(1, sizeof *s);
    if (!s || uv_tcp_init(rr_loop_uv(loop), &s->tcp) != 0) {
        free(s);
        close(fd);
        return RR_ENOMEM;
    }
    s->base = (rr_stream_t){.ops = &tcp_ops, .handler = handler, .owner = owner};
    s->tcp.data = s;
    s->limit = send_limit < UINT32_MAX / 2 ? (uint32_t)send_limit : UINT32_MAX / 2;
    s->flush.fn = on_deferred;
    s->flags = READING;
    if (uv_tcp_open(&s->tcp, fd) != 0) {
        close(fd);
        uv_close((uv_handle_t *)&s->tcp, free_handle);
        return RR_EIO;
    }
    if (uv_read_start((uv_stream_t *)&s->tcp, on_room, on_read) != 0) {
        uv_close((uv_handle_t *)&s->tcp, free_handle); /* with the descriptor */
        return RR_EIO;
    }
    rr_count(&rr__loop_counters(loop)->open, 1);
    *out = &s->base;
    return RR_OK;
}
