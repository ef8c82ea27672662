/* sim_clients.h: clients of a gate without sockets, in the system's virtual time. Stands for net/loop.h, net/listener.h and
 * net/connection.h (the linker takes these instead): a connection's messages are given to the gate by its test, between
 * turns, and what the gate sends is counted. One thread. */
#ifndef RR_TESTS_SIM_CLIENTS_H
#define RR_TESTS_SIM_CLIENTS_H

#include "net/connection.h"
#include "net/listener.h"

/* Hears what the gate sends to a client; inside a turn. */
typedef void (*sim_heard_fn)(void *client, uint16_t cmd, const void *body, size_t size);

/* Connects a client, which is what its owner calls it, to a started listener; loop as in rr_listener_open. NULL: refused. */
rr_connection_t *sim_connect(rr_listener_t *listener, size_t loop, void *client, sim_heard_fn heard);
/* The client says something: it is taken at once, or when the gate reads again. */
void sim_say(rr_connection_t *connection, uint16_t cmd, const void *body, size_t size);
/* The client is gone; the gate hears of it now. The connection is gone, too. */
void sim_hang_up(rr_connection_t *connection);
/* The gate has closed it: told to it, and gone. False: it has not. */
bool sim_reap(rr_connection_t *connection);
/* The listener that was opened last, NULL = none. */
rr_listener_t *sim_listener(void);

#endif
