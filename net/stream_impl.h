/* stream_impl.h: what a kind of stream provides. Private to net/ and its tests. */
#ifndef RR_NET_STREAM_IMPL_H
#define RR_NET_STREAM_IMPL_H

#include "net/deadline.h"
#include "net/stream.h"

struct rr_stream_ops {
    int (*write)(rr_stream_t *stream, const void *data, size_t size);
    int (*write_slice)(rr_stream_t *stream, const void *head, size_t head_size, const rr_slice_t *slice);
    uint8_t *(*reserve)(rr_stream_t *stream, size_t size, int *error);
    void (*commit)(rr_stream_t *stream, size_t size);
    void (*flush)(rr_stream_t *stream); /* NULL: it knows no better moment */
    size_t (*pending)(const rr_stream_t *stream);
    void (*pause)(rr_stream_t *stream);
    void (*resume)(rr_stream_t *stream);
    void (*kick)(rr_stream_t *stream);
    void (*close)(rr_stream_t *stream, unsigned linger_ms);
    void (*abort)(rr_stream_t *stream);
    const char *(*peer_ip)(const rr_stream_t *stream, char *out, size_t size);
    rr_loop_t *(*loop)(rr_stream_t *stream);               /* NULL if it has none */
    rr__deadlines_t *(*deadlines)(const rr_stream_t *stream);
};

/* First member of every stream. */
struct rr_stream {
    const rr_stream_ops_t *ops;
    const rr_stream_handler_t *handler;
    void *owner;
    /* The rest of the chunk that is being written, while a flush is due anyway: small messages go straight there, and the
     * stream counts them later. Both NULL when there is none (always, for streams that do not want this). */
    uint8_t *room, *room_end;
};

/* rr_stream_reserve and rr_stream_commit with the usual case inline. */
static inline uint8_t *rr__stream_reserve(rr_stream_t *stream, size_t size, int *error) {
    if ((size_t)(stream->room_end - stream->room) >= size && stream->room) {
        return stream->room;
    }
    return stream->ops->reserve(stream, size, error);
}

static inline void rr__stream_commit(rr_stream_t *stream, size_t size) {
    if (stream->room) {
        stream->room += size;
    } else {
        stream->ops->commit(stream, size);
    }
}

static inline rr__deadlines_t *rr__stream_deadlines(const rr_stream_t *stream) {
    return stream->ops->deadlines(stream);
}

#endif
