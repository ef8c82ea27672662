/* stream.c: the calls that every kind of stream answers. The real one is stream_tcp.c. */
#include "net/stream_impl.h"

int rr_stream_write(rr_stream_t *stream, const void *data, size_t size) {
    return stream->ops->write(stream, data, size);
}

int rr_stream_write_slice(rr_stream_t *stream, const void *head, size_t head_size, const rr_slice_t *slice) {
    return stream->ops->write_slice(stream, head, head_size, slice);
}

int rr_stream_write_buffer(rr_stream_t *stream, const void *head, size_t head_size, rr_buffer_t *buffer) {
    rr_slice_t slice = {.owner = buffer, .data = rr_buffer_data(buffer), .size = rr_buffer_size(buffer)};
    return stream->ops->write_slice(stream, head, head_size, &slice);
}

uint8_t *rr_stream_reserve(rr_stream_t *stream, size_t size, int *error) {
    return rr__stream_reserve(stream, size, error);
}

void rr_stream_commit(rr_stream_t *stream, size_t size) {
    rr__stream_commit(stream, size);
}

void rr_stream_flush(rr_stream_t *stream) {
    if (stream->ops->flush) {
        stream->ops->flush(stream);
    }
}

size_t rr_stream_pending(const rr_stream_t *stream) {
    return stream->ops->pending(stream);
}

void rr_stream_pause(rr_stream_t *stream) {
    stream->ops->pause(stream);
}

void rr_stream_resume(rr_stream_t *stream) {
    stream->ops->resume(stream);
}

void rr_stream_kick(rr_stream_t *stream) {
    stream->ops->kick(stream);
}

void rr_stream_close(rr_stream_t *stream, unsigned linger_ms) {
    stream->ops->close(stream, linger_ms);
}

void rr_stream_abort(rr_stream_t *stream) {
    stream->ops->abort(stream);
}

const char *rr_stream_peer_ip(const rr_stream_t *stream, char *out, size_t size) {
    return stream->ops->peer_ip(stream, out, size);
}

rr_loop_t *rr_stream_loop(rr_stream_t *stream) {
    return stream->ops->loop(stream);
}
