/* neighbours.h: the other groups of a running graph: its bridges (-bridge_broker), and services that scripts connect to. */
#ifndef RR_CONF_NEIGHBOURS_H
#define RR_CONF_NEIGHBOURS_H

#include "actors/bridge.h"
#include "conf/share.h"

typedef struct rr_neighbours rr_neighbours_t;

/* After rr_system_start. Bridges are entered in the background. key: of the group, may be NULL; borrowed until the end. On
 * failure why has one line. Main thread. */
RR_MUST_CHECK int rr_neighbours_create(rr_system_t *system, const rr_share_t *share, const void *key, size_t key_size,
                                       rr_neighbours_t **out, char *why, size_t why_size);
/* As rr_outers_connect. */
RR_MUST_CHECK int rr_neighbours_connect(rr_neighbours_t *neighbours, const char *name, const char *address, char *why,
                                        size_t why_size);
/* Behind the drain of the scenes; at most about deadline_ms. */
void rr_neighbours_stop(rr_neighbours_t *neighbours, unsigned deadline_ms);
void rr_neighbours_destroy(rr_neighbours_t *neighbours); /* after rr_system_stop, before rr_system_destroy; NULL is allowed */

#endif
