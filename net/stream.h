/* stream.h: one connected byte stream on a loop: reads into the loop's scratch, writes gathered per loop turn, bounded.
 *
 * All functions: loop thread only. A stream never moves to another loop. */
#ifndef RR_NET_STREAM_H
#define RR_NET_STREAM_H

#include "net/loop.h"
#include "runtime/buffer.h"

typedef struct rr_stream rr_stream_t;

#define RR_STREAM_HEADROOM (8u << 10)

typedef struct rr_stream_handler {
    /* Bytes arrived; data is valid during the call only, may be changed in place, and (unless it came from room) has
     * RR_STREAM_HEADROOM bytes in front that may be written too: a cut message's first part can be put back before its
     * rest. size 0: rr_stream_kick. The handler may close or pause the stream inside. */
    void (*data)(void *owner, uint8_t *data, size_t size);
    /* Where the next read should put its bytes, *size of them at most (a large body's own memory); NULL from it = the
     * loop's scratch as usual. May be NULL. */
    uint8_t *(*room)(void *owner, size_t *size);
    /* The end, exactly once: error RR_OK = the peer's orderly end or our own close. Afterwards the stream is gone. */
    void (*closed)(void *owner, int error);
    /* The pending output, which was above a quarter of the send limit, fell to it; may be NULL. Never inside a write. */
    void (*drained)(void *owner);
} rr_stream_handler_t;

/* Where streams come from: real TCP, or simulated (tests, fuzzing, replay builds). See stream_impl.h. */
typedef struct rr_stream_ops rr_stream_ops_t;

/* Takes over an accepted or connected libuv TCP handle's descriptor. owner is passed to the handler. Limits in bytes:
 * output above send_limit makes the next write fail with RR_ELIMIT (a slow reader). RR_ENOMEM, RR_EIO. */
RR_MUST_CHECK int rr_stream_open(rr_loop_t *loop, int fd, const rr_stream_handler_t *handler, void *owner,
                                 size_t send_limit, rr_stream_t **out);

/* Queues bytes (copied); they leave with the loop turn's one writev. RR_ELIMIT: over the send limit, nothing queued.
 * RR_ESTATE: closing. RR_ENOMEM. */
RR_MUST_CHECK int rr_stream_write(rr_stream_t *stream, const void *data, size_t size);
/* Head (copied) then the buffer's bytes without a copy (a reference is taken). Same errors. head_size <= 32. */
RR_MUST_CHECK int rr_stream_write_buffer(rr_stream_t *stream, const void *head, size_t head_size, rr_buffer_t *buffer);
/* The same for a part of a buffer; slice->owner is required. */
RR_MUST_CHECK int rr_stream_write_slice(rr_stream_t *stream, const void *head, size_t head_size, const rr_slice_t *slice);
/* Room for size bytes to be written in place, right behind what is queued; commit with the size really used (<= size).
 * NULL as rr_stream_write's errors (*error says which). Nothing else may be called between the two. */
uint8_t *rr_stream_reserve(rr_stream_t *stream, size_t size, int *error);
void rr_stream_commit(rr_stream_t *stream, size_t size);

/* Hands what is queued to the kernel now, as far as it takes it, instead of at the end of the turn. Not inside the handler. */
void rr_stream_flush(rr_stream_t *stream);

size_t rr_stream_pending(const rr_stream_t *stream); /* bytes not yet accepted by the kernel */

void rr_stream_pause(rr_stream_t *stream);  /* stop reading */
void rr_stream_resume(rr_stream_t *stream); /* may call data() only from the loop, never inside */
void rr_stream_kick(rr_stream_t *stream);   /* soon: data() with size 0, for an owner that kept bytes back */

/* Flushes what is queued, then closes (half-close first; at most linger_ms, then hard). handler->closed follows, never
 * inside this call. Reads are discarded from now on. Idempotent. */
void rr_stream_close(rr_stream_t *stream, unsigned linger_ms);
/* Closes now, what is queued is lost. handler->closed follows, never inside this call. */
void rr_stream_abort(rr_stream_t *stream);

/* "127.0.0.1" / "::1" of the peer (a v4-mapped address is shown as v4), "" once it is closed; returns out. size >= 46. */
const char *rr_stream_peer_ip(const rr_stream_t *stream, char *out, size_t size);
rr_loop_t *rr_stream_loop(rr_stream_t *stream);

/* Bytes and calls of all streams of a loop, for metrics and the tables in bench/README.md. Any thread (relaxed). */
typedef struct rr_stream_stats {
    uint64_t reads, read_bytes, writes, written_bytes, open;
} rr_stream_stats_t;
void rr_stream_stats(rr_loop_t *loop, rr_stream_stats_t *out);

#endif
