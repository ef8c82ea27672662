/* listener.h: a bound TCP port that accepts in bursts and hands descriptors to loops. */
#ifndef RR_NET_LISTENER_H
#define RR_NET_LISTENER_H

#include "net/address.h"
#include "net/loop.h"

typedef struct rr_listener rr_listener_t;

/* A new connection's descriptor (non-blocking, TCP_NODELAY set), on the loop it is meant for; the function owns it. */
typedef void (*rr_accept_fn)(void *context, rr_loop_t *loop, int fd);

/* Binds and listens (backlog SOMAXCONN); accepting starts with rr_listener_start. With several loops each gets its share
 * (SO_REUSEPORT or hand-over, the implementation's choice; must be even for long-lived connections). Before or after
 * rr_system_start. RR_EADDRINUSE, RR_EACCES, RR_EINVAL (does not resolve; why, may be NULL, says it). Any thread. */
RR_MUST_CHECK int rr_listener_open(rr_loop_t *const *loops, size_t loop_count, const rr_address_t *address,
                                   rr_accept_fn accept, void *context, rr_listener_t **out, char *why, size_t why_size);
/* Accepting begins. RR_ENOMEM, RR_EIO. */
RR_MUST_CHECK int rr_listener_start(rr_listener_t *listener);

/* The port in use (of interest after port 0). */
unsigned rr_listener_port(const rr_listener_t *listener);

/* Accepting ends soon (for a drain that an actor leads); rr_listener_stop is still needed. Any thread. */
void rr_listener_pause(rr_listener_t *listener);

/* Stops accepting; when it returns no accept call is running or will run. Then destroy frees. Not on a loop
 * thread; before rr_system_destroy. */
void rr_listener_stop(rr_listener_t *listener);
void rr_listener_destroy(rr_listener_t *listener);

/* Accepted, and refused because descriptors ran out (accepting is retried after a pause, not spun). Any thread. */
typedef struct rr_listener_stats {
    uint64_t accepted, out_of_descriptors;
} rr_listener_stats_t;
void rr_listener_stats(rr_listener_t *listener, rr_listener_stats_t *out);

/* Raises the soft limit on open files to the hard one; returns what is now in force. Once, at the start of a process. */
size_t rr_raise_file_limit(void);

#endif
