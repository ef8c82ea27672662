/* sheet.h: larger messages for one actor of another node, packed as they leave. Private to runtime/.
 *
 * A turn that sends much to one actor of another node fills packs (pack.h). Behind some of these what is larger goes to sheets of
 * 64 KiB: there messages stand as records of the node protocol (net/NODES.md), behind room for a segment's heads. So a
 * link sends a sheet as a segment as it stands and keeps it until it is acknowledged, and between rr_send and the kernel no byte
 * is copied twice. A sheet is a message of kind RR__SHEET with the sheet's memory as its buffer. It holds plain sends of one
 * sender; in a mailbox it counts what they would count one by one, and they can be taken out one by one. */
#ifndef RR_RUNTIME_SHEET_H
#define RR_RUNTIME_SHEET_H

#include <endian.h>

#include "runtime/pack.h"

#define RR__SHEET_SIZE (64u << 10) /* with its head */
#define RR__SHEETS_KEPT 64u        /* what a link has under way at most, as its options stand */

typedef struct rr__sheet { /* in front of a sheet's memory */
    rr_system_t *system;
    rr_addr_t from;
    uint64_t units, bytes; /* of those that are left: in the mailbox; payloads */
    uint32_t count;        /* of those that are left */
    uint32_t at, end;      /* where those that are left stand */
    uint32_t type;         /* of the last that was put or taken */
} rr__sheet_t;
#define RR__SHEET_START ((uint32_t)sizeof(rr__sheet_t) + RR_SHEET_HEAD)

/* Memory of sheets that are no more, for the next ones, last in first out: warm, and not faulted in anew. Whoever drops a sheet
 * puts it into an empty place (CAS release), whoever makes one takes it out (exchange acquire); any thread. */
typedef struct rr__sheets {
    _Atomic(void *) kept[RR__SHEETS_KEPT];
} rr__sheets_t;
void rr__sheets_free(rr__sheets_t *sheets);

/* An empty one for what `from` sends to `to`, in a message of the calling thread's pool; NULL when out of memory. */
rr_message_t *rr__sheet_new(rr_system_t *system, rr_addr_t from, rr_addr_t to);
/* Appends a copy of a plain send, before anybody else sees the sheet. False: it is another sender's, or there is no room. */
bool rr__sheet_put(rr_message_t *msg, const rr_envelope_t *env);
/* The next one of a sheet that is not empty, taken out; its payload stands in the sheet. */
rr_envelope_t rr__sheet_take(rr_message_t *msg);
/* All of one that none was taken out of; false: some were. */
bool rr__sheet_whole(rr_message_t *msg, rr_sheet_t *out);

static inline rr__sheet_t *rr__sheet_of(rr_message_t *msg) {
    return (rr__sheet_t *)(void *)rr_buffer_data(msg->payload.buffer);
}

static inline bool rr__is_packed(const rr_message_t *msg) { return msg->kind == RR__PACK || msg->kind == RR__SHEET; }

/* Is anything left in what is a pack or a sheet? (A sheet that was taken as a whole has no buffer any more.) */
static inline bool rr__packed_left(rr_message_t *msg) {
    if (__builtin_expect(msg->kind == RR__PACK, 1))
        return !rr__pack_empty(msg);
    return msg->kind == RR__SHEET && (msg->flags & RR__BUFFERED) && rr__sheet_of(msg)->count;
}

/* The next one of either, taken out. */
static inline rr_envelope_t rr__packed_take(rr_message_t *msg) {
    return msg->kind == RR__PACK ? rr__pack_take(msg) : rr__sheet_take(msg);
}

#endif
