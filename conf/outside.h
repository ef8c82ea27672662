/* outside.h: a process' ways to other groups: its bridges, and the outer services that its scripts ask for. */
#ifndef RR_CONF_OUTSIDE_H
#define RR_CONF_OUTSIDE_H

#include "actors/bridge.h"
#include "conf/share.h"

typedef struct rr_outside rr_outside_t;

/* Makes the bridge of share->bridges, if there are any; the rest when asked for. After rr_system_start. The graph must
 * outlive it. RR_OK, or why has one line. Main thread. */
RR_MUST_CHECK int rr_outside_create(rr_graph_t *graph, const rr_share_t *share, rr_system_t *system, rr_outside_t **out,
                                    char *why, size_t why_size);

/* As rr_outers_connect. Any thread. */
RR_MUST_CHECK int rr_outside_connect(rr_outside_t *outside, const char *name, const char *address, char *why, size_t why_size);

/* Leaves the other groups. Behind the drain of the scenes. Main thread. */
void rr_outside_stop(rr_outside_t *outside, unsigned deadline_ms);
void rr_outside_destroy(rr_outside_t *outside); /* after rr_system_stop; NULL is allowed */

#endif
