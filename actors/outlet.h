/* outlet.h: what one actor has for another until it is sent: the batch being filled, and before it whole messages
 * already (batches that were cut, bodies that travel by themselves). Private to actors/. Used by one actor's thread. */
#ifndef RR_ACTORS_OUTLET_H
#define RR_ACTORS_OUTLET_H

#include "actors/protocol.h"

#define RR_OUTLET_CUT     (64u << 10) /* a batch is cut when it reaches this many bytes */
#define RR_OUTLET_RECORDS 4096u       /* or this many records: what one message may weigh stays far below 65,535 */

typedef struct rr__segment {
    struct rr__segment *next;
    rr_buffer_t *buffer;
    uint32_t type;
    uint32_t weight;
} rr__segment_t;

/* Zeroed = empty. */
typedef struct rr_outlet {
    rr_batch_t batch;
    rr__segment_t *first, **last;
    size_t bytes;  /* of all that waits */
    uint32_t type; /* of batches: RR_TYPE_INPUT or RR_TYPE_OUTPUT */
    uint32_t cuts; /* how many batches are whole: names the one being filled */
} rr_outlet_t;

void rr_outlet_init(rr_outlet_t *outlet, uint32_t type);
bool rr_outlet_empty(const rr_outlet_t *outlet);

/* True: the next record goes behind others into the batch being filled; false: it begins one. */
bool rr_outlet_goes_on(const rr_outlet_t *outlet);

/* Appends a record, body to be filled in by the caller. NULL when out of memory. */
uint8_t *rr_outlet_add(rr_outlet_t *outlet, uint16_t kind, uint16_t cmd, uint32_t slot, uint64_t incarnation,
                       uint32_t arg, size_t size);
/* The same with the body given: copied if small, else sent as its own message; owner (may be NULL): the buffer in which
 * body lies, referenced instead of copied when that pays. `head` bytes of record body go before it inline, and force a
 * copy unless the body is large, which then follows alone. RR_OK or RR_ENOMEM. */
RR_MUST_CHECK int rr_outlet_put(rr_outlet_t *outlet, uint16_t kind, uint16_t cmd, uint32_t slot, uint64_t incarnation,
                                uint32_t arg, const void *head, size_t head_size, const void *body, size_t size,
                                rr_buffer_t *owner);

/* The oldest whole message, borrowed; NULL = nothing left, or out of memory (then it is not empty). */
const rr__segment_t *rr_outlet_peek(rr_outlet_t *outlet, uint64_t now_ns);
void rr_outlet_pop(rr_outlet_t *outlet);
void rr_outlet_free(rr_outlet_t *outlet);

#endif
