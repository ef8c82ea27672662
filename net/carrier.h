/* carrier.h: what a mesh stands on: a thread with time and byte streams to other nodes. Real (carrier_tcp.c: a net loop
 * and TCP), or simulated (virtual time, no sockets), so that links and meshes are the same code in both. Private to
 * net/.
 *
 * All functions: the carrier's thread only, unless said otherwise. */
#ifndef RR_NET_CARRIER_H
#define RR_NET_CARRIER_H

#include "net/loop.h"
#include "net/stream.h"

typedef struct rr__carrier rr__carrier_t;

/* A connection under way. The maker embeds it and keeps it until done() or dial_cancel. */
typedef struct rr__dial {
    /* RR_OK: `handle` is for open. Else why says what failed. Never inside dial(). */
    void (*done)(struct rr__dial *dial, int error, intptr_t handle, const char *why);
    void *inner; /* the carrier's */
} rr__dial_t;

typedef struct rr__carrier_handler {
    void (*accepted)(void *context, intptr_t handle); /* a stranger; `handle` is for open or drop */
    void (*timer)(void *context, unsigned which);     /* fired */
    void (*ends)(void *context); /* the thread ends: last chance to say something. Streams close right after */
} rr__carrier_handler_t;

enum { RR__TIMER_TICK, RR__TIMER_ACK, RR__TIMERS };

typedef struct rr__carrier_ops {
    rr_executor_t *(*executor)(rr__carrier_t *carrier); /* any thread */
    uint64_t (*now_ns)(rr__carrier_t *carrier);
    bool (*here)(rr__carrier_t *carrier); /* is this its thread? Any thread */
    /* fn(context) on its thread: soon; or before this returns (not on a loop or worker). Any thread. */
    int (*post)(rr__carrier_t *carrier, void (*fn)(void *context), void *context);
    void (*call)(rr__carrier_t *carrier, void (*fn)(void *context), void *context);
    void (*defer)(rr__carrier_t *carrier, rr_deferred_t *item); /* rr_loop_defer */
    void (*defer_cancel)(rr__carrier_t *carrier, rr_deferred_t *item);
    void (*timer)(rr__carrier_t *carrier, unsigned which, uint64_t after_ns); /* once; replaces an earlier setting */
    /* Binds. Any thread, once, before anything else. Accepting begins with `begin`. */
    int (*listen)(rr__carrier_t *carrier, const char *address, char *bound, size_t bound_size, char *why,
                  size_t why_size);
    int (*begin)(rr__carrier_t *carrier); /* any thread */
    void (*close_listener)(rr__carrier_t *carrier);
    int (*dial)(rr__carrier_t *carrier, const char *address, rr__dial_t *dial);
    void (*dial_cancel)(rr__carrier_t *carrier, rr__dial_t *dial);
    int (*open)(rr__carrier_t *carrier, intptr_t handle, const rr_stream_handler_t *handler, void *owner,
                size_t send_limit, rr_stream_t **out); /* takes the handle over, also on failure */
    void (*drop)(rr__carrier_t *carrier, intptr_t handle);
    bool (*is_local)(rr__carrier_t *carrier, const char *address); /* may be dialled or bound without a key */
    void (*destroy)(rr__carrier_t *carrier);                       /* after its thread has ended */
} rr__carrier_ops_t;

struct rr__carrier {
    const rr__carrier_ops_t *ops;
    const rr__carrier_handler_t *handler;
    void *context; /* the mesh */
};

RR_MUST_CHECK int rr__carrier_tcp(rr_loop_t *loop, const rr__carrier_handler_t *handler, void *context,
                                  rr__carrier_t **out);

#endif
