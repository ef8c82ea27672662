/* loop_impl.h: what streams and listeners need of their loop. Private to net/. Loop thread only, unless said otherwise. */
#ifndef RR_NET_LOOP_IMPL_H
#define RR_NET_LOOP_IMPL_H

#include "net/deadline.h"
#include "net/loop.h"
#include "net/stream.h"
#include "runtime/metrics.h"

/* Written by the loop's thread, read by any (relaxed, see rr_counter_t). */
typedef struct rr__stream_counters {
    rr_counter_t reads, read_bytes, writes, written_bytes, open;
} rr__stream_counters_t;

rr__stream_counters_t *rr__loop_counters(rr_loop_t *loop);
rr__deadlines_t *rr__loop_deadlines(rr_loop_t *loop);

/* I/O has begun after a sleep: producers need no longer wake us. Cheap; from every read. */
void rr__loop_awake(rr_loop_t *loop);

/* Memory for pending output, kept per loop so that it is warm and idle connections hold none. Sizes in bytes, header of
 * the user included. */
#define RR__CHUNK_SMALL 512u
#define RR__CHUNK_BIG 5120u /* not a power of two: chunks then do not all fall into the same cache sets */
void *rr__loop_chunk_get(rr_loop_t *loop, bool big); /* NULL when out of memory */
void rr__loop_chunk_put(rr_loop_t *loop, bool big, void *chunk);

/* Runs fn(context) on the loop's thread and waits for it; in the caller's thread if the loop does not run (not yet, or no
 * more). Any thread but a loop's own or a worker's. */
void rr__loop_call(rr_loop_t *loop, void (*fn)(void *context), void *context);

/* Ends a stream at the loop's end (stream_tcp.c). */
void rr__stream_tcp_loop_ends(uv_tcp_t *handle);

#endif
