/* remote.h: actors of other nodes, as this node sees them. For makers of carriers (net/) and registries, not for actors: these
 * send, call and monitor an address and need not know where it lives.
 *
 * For each other node there is one proxy: an actor whose behavior has `proxy` set. Whatever is sent to an address of that
 * node goes into the proxy's mailbox as it is; the proxy's receive() gets it whatever its kind, and sends it on. What comes
 * from the node is put into the receiver's mailbox by rr_remote_deliver. Order between two actors is the order of these
 * mailboxes and of the carrier. */
#ifndef RR_RUNTIME_REMOTE_H
#define RR_RUNTIME_REMOTE_H

#include <string.h>

#include "runtime/redrabbit.h"

/* What RR_MONITOR … are on the wire; together with rr_kind_t (RR_TIMER never travels). */
enum { RR_KIND_MONITOR = 16, RR_KIND_DEMONITOR, RR_KIND_LINK, RR_KIND_UNLINK, RR_KIND_ANNOUNCE = 24 };

enum { RR_ENVELOPE_UNSHEDDABLE = 2 }; /* never refused for fullness */

/* A message, taken apart. */
typedef struct rr_envelope {
    rr_addr_t to, from;
    uint64_t request;
    uint32_t type, size;
    uint16_t weight; /* 1.. */
    uint8_t kind;
    uint8_t flags;
    const void *data;
    rr_buffer_t *buffer; /* behind data, or NULL; borrowed: the receiver of the envelope takes a reference if it keeps it */
} rr_envelope_t;

/* Inside a proxy's receive(): true and the parts of a message for the other node; false: msg is for the proxy itself (its
 * timers, what its carrier told it). Valid as long as msg. */
bool rr_envelope_of(rr_actor_t *proxy, rr_message_t *msg, rr_envelope_t *out);

/* Messages in a row for one actor of another node, as they stand in the proxy's mailbox: for forward_run(). */
typedef struct rr_packed { /* in front of each payload; 8-aligned */
    rr_addr_t from;
    uint64_t request;
    uint32_t type, size;
    uint16_t weight;
    uint8_t kind, flags; /* as an envelope's */
    uint32_t unused;
} rr_packed_t;
typedef struct rr_run {
    rr_addr_t to; /* of all */
    const uint8_t *at, *end; /* those that are left: read them by rr_run_first */
    unsigned taken;
    uint64_t weight, units; /* of those that were taken: what they count in the mailbox */
} rr_run_t;

/* One by one: a structure with room to spare the compiler clears as a whole first (`rep stos`), which takes as long as all the rest. */
static inline void rr_packed_set(rr_packed_t *item, rr_addr_t from, uint64_t request, uint32_t type, uint32_t size, uint16_t weight,
                                 uint8_t kind, uint8_t flags) {
    item->from = from;
    item->request = request;
    item->type = type;
    item->size = size;
    item->weight = weight;
    item->kind = kind;
    item->flags = flags;
}

/* The first that is left, its payload behind it; NULL: there is none. */
static inline const rr_packed_t *rr_run_first(const rr_run_t *run) {
    return run->at < run->end ? (const rr_packed_t *)(const void *)run->at : NULL;
}
/* Takes it. */
static inline void rr_run_take(rr_run_t *run, const rr_packed_t *first) {
    run->at = (const uint8_t *)(first + 1) + (((size_t)first->size + 7) & ~(size_t)7);
    run->taken++;
    run->weight += first->weight;
    run->units += (first->size >> 6) + 1;
}
/* Its parts, as forward() gets them. */
static inline rr_envelope_t rr_run_envelope(const rr_run_t *run, const rr_packed_t *first) {
    return (rr_envelope_t){.to = run->to,
                           .from = first->from,
                           .request = first->request,
                           .type = first->type,
                           .size = first->size,
                           .weight = first->weight,
                           .kind = first->kind,
                           .flags = first->flags,
                           .data = first + 1};
}

/* Plain sends of one actor to one of another node, as they stand in the proxy's mailbox: as records of the node protocol
 * (net/NODES.md), the first with its addresses and type, which the others may leave out. For forward_sheet(). */
#define RR_SHEET_HEAD 36u       /* bytes in front of the records that are whose who sends them as they stand */
#define RR_SHEET_SAME 1u        /* a record's flag: type and addresses as the one before, and left out */
#define RR_SHEET_RECORD 24u     /* bytes of a record without its payload */
#define RR_SHEET_RECORD_SAME 8u /* the same, with the flag */
typedef struct rr_sheet {
    rr_addr_t to, from;          /* of all */
    uint64_t bytes;              /* of all payloads */
    uint32_t count;              /* messages; none has more than RR_ROW_MAX bytes */
    uint32_t size;               /* of the records, in bytes; at most 64 KiB with RR_SHEET_HEAD */
    uint8_t *records;
    rr_buffer_t *buffer;         /* behind records and head; borrowed: whoever keeps them takes a reference */
} rr_sheet_t;

/* A payload of up to some hundred bytes, without a call. Writes no byte behind `size`. */
static inline void rr_copy_small(uint8_t *out, const uint8_t *in, uint32_t size) {
    if (size >= 16) {
        for (uint32_t at = 0; at + 16 < size; at += 16)
            memcpy(out + at, in + at, 16);
        memcpy(out + size - 16, in + size - 16, 16);
    } else if (size >= 8) {
        memcpy(out, in, 8);
        memcpy(out + size - 8, in + size - 8, 8);
    } else {
        for (uint32_t at = 0; at < size; at++)
            out[at] = in[at];
    }
}

/* For a proxy that can pass on no more now: its turn ends behind this message, and what comes stays in its mailbox, so that
 * senders meet its limit, until rr_unhold. Kill and drain are still heard. Actors pinned to a loop only; hold inside a handler,
 * unhold on the loop's thread (not inside a turn of that actor). */
void rr_hold(rr_actor_t *self);
void rr_unhold(rr_actor_t *self);

/* From now on messages to actors of `node` go to `proxy`; RR_NOBODY: to nobody (NOROUTE). Any thread. RR_EINVAL (the own
 * node, 0, above 65,535), RR_ENOMEM. */
RR_MUST_CHECK int rr_route_set(rr_system_t *system, unsigned node, rr_addr_t proxy);
rr_addr_t rr_route(rr_system_t *system, unsigned node); /* RR_NOBODY if there is none. Any thread. */

/* Puts what came from another node into the mailbox of a local actor. A reference to env->buffer is taken if there is one,
 * else data is copied. RR_OK; RR_NOROUTE, RR_EFULL, RR_STALE, RR_ENOMEM: it was not delivered, and nobody has been told yet: answer
 * calls, monitors and links by rr_envelope_refuse, and tell the sender's node of sends. RR_EPROTO: no kind or address that
 * may come from outside. *filling (may be NULL): the mailbox is at least half full now; time to ask for a pause. A worker's
 * thread (loops). */
RR_MUST_CHECK int rr_remote_deliver(rr_system_t *system, const rr_envelope_t *env, bool *filling);

/* The same for many messages: what comes in a row for one actor is handed over together, up to 1,024 at once, which spares both
 * threads most of their quarrel about its mailbox, and where they share a CPU most of the switches between them. Flushed before
 * its thread goes on to something else than what the other nodes say. */
typedef struct rr_delivery {
    rr_system_t *system;
    /* Told of each message whose actor ended before it was handed over (rr_delivery_add had said RR_OK). */
    void (*undelivered)(void *context, const rr_envelope_t *env, int reason);
    void *context;
    rr_actor_t *actor; /* from here on the runtime's; zero at first */
    rr_addr_t to;
    rr_message_t *first, *last;
    uint64_t add;
    unsigned count;
} rr_delivery_t;
RR_MUST_CHECK int rr_delivery_add(rr_delivery_t *delivery, const rr_envelope_t *env, bool *filling);
void rr_delivery_flush(rr_delivery_t *delivery);

/* A row of messages behind the one that was added last, of its kind, `from`, `to`, `type` and flags: written in place, without a call for each.
 * Begun by rr_delivery_row (false: add the next one by rr_delivery_add), filled by
 * rr_row_put, ended by rr_delivery_row_end before anything else is done with the delivery. A worker's thread (loops). */
typedef struct rr_row {
    uint8_t *at, *end; /* room for messages */
    unsigned left;     /* so many messages at most, none of which makes the mailbox fill */
    uint64_t units;    /* and so much of its room in bytes, in units of 64 */
    unsigned count;    /* written so far */
    uint64_t used;     /* units of these */
    rr_packed_t head;  /* what they have in common */
} rr_row_t;
/* `before`: a plain message (RR_SEND, RR_CALL, RR_REPLY) of weight 1, added right before with whatever result. */
bool rr_delivery_row(rr_delivery_t *delivery, const rr_envelope_t *before, rr_row_t *row);
void rr_delivery_row_end(rr_delivery_t *delivery, rr_row_t *row);

/* One more, of at most RR_ROW_MAX bytes. False: there is no room for it in the row. */
#define RR_ROW_MAX 2000u
static inline bool rr_row_put(rr_row_t *row, uint64_t request, const uint8_t *data, uint32_t size) {
    uint32_t room = (uint32_t)sizeof(rr_packed_t) + ((size + 7) & ~7u), units = (size >> 6) + 1;
    if (room > (size_t)(row->end - row->at) || row->count == row->left || row->used + units > row->units)
        return false;
    rr_packed_t *item = (rr_packed_t *)(void *)row->at;
    *item = row->head;
    item->request = request;
    item->size = size;
    if (size <= 256)
        rr_copy_small((uint8_t *)(item + 1), data, size);
    else
        memcpy(item + 1, data, size);
    row->at += room;
    row->count++;
    row->used += units;
    return true;
}

/* Ends a message that cannot be delivered, as the runtime does: a call is answered with `reason`, a monitor gets RR_DOWN, a
 * send is counted as a dead letter and told to the subscriber. Any thread. */
void rr_envelope_refuse(rr_system_t *system, const rr_envelope_t *env, int reason);

/* A node is gone for ever (its route was taken away before): every local actor's outstanding calls to it end with
 * RR_LINKDOWN, monitors and links on its actors fire with RR_LINKDOWN, and its actors' monitors here are forgotten. In the
 * actors' own turns, soon. Any thread. */
void rr_node_down(rr_system_t *system, unsigned node);

/* ---- Backpressure ------------------------------------------------------------------------------------------------ */

/* The other node said that this actor of its is full / has room again: meanwhile sends to it are refused as for a full
 * local mailbox (RR_EFULL, OVERLOAD), except unsheddable ones. Any thread. RR_ENOMEM. */
RR_MUST_CHECK int rr_remote_pause(rr_system_t *system, rr_addr_t target, bool paused);
/* Forgets all pauses of a node's actors. Any thread. */
void rr_remote_pauses_forget(rr_system_t *system, unsigned node);

/* Asks to be told (RR_SEND of RR_TYPE_ROOM, from = target) once, when the local actor's mailbox is half empty again or it is
 * gone. RR_NOROUTE: it is gone already. RR_ENOMEM. Any thread. */
#define RR_TYPE_ROOM 0xffff0002u
RR_MUST_CHECK int rr_wait_room(rr_system_t *system, rr_addr_t target, rr_addr_t waiter);

/* ---- Names ------------------------------------------------------------------------------------------------------- */

/* Where a name lives that is owned by another node: rr_lookup finds it if no local actor has it. Any thread. RR_EINVAL,
 * RR_ENOMEM. An earlier address of the name is replaced. */
RR_MUST_CHECK int rr_remote_name_set(rr_system_t *system, const char *name, rr_addr_t addr);
/* Forgets it, if it is (still) that address; RR_NOBODY: whatever it is. Any thread. */
void rr_remote_name_drop(rr_system_t *system, const char *name, rr_addr_t addr);
void rr_remote_names_forget(rr_system_t *system, unsigned node);

/* `to` hears of every name of a leased actor (rr_spawn_t.leased) that is registered or dropped here, those that exist first:
 * RR_SEND of RR_TYPE_NAME with an rr_name_event_t, in order. One watcher; RR_NOBODY ends it. Any thread. RR_ENOMEM. */
#define RR_TYPE_NAME 0xffff0003u
typedef struct rr_name_event {
    rr_addr_t addr;
    uint32_t registered; /* 0 = dropped */
    char name[128];
} rr_name_event_t;
RR_MUST_CHECK int rr_system_watch_names(rr_system_t *system, rr_addr_t to);

/* ---- Leases ------------------------------------------------------------------------------------------------------ */

/* A leased actor's turns start only when its name was granted and the node's lease lasts; else it is suspended, with its
 * mailbox, kill and drain still heard. So no two owners of a name ever start turns inside each other's lease. */

/* Until when (rr_system_boot_ns) leased actors may run. 0 = not at all; UINT64_MAX = for ever (a node that is its own
 * master). Actors that were suspended go on. Any thread. */
void rr_lease_set(rr_system_t *system, uint64_t until_boot_ns);
/* The name of a leased actor was granted with this epoch (> 0). Any thread. False: it is gone. */
bool rr_lease_grant(rr_system_t *system, rr_addr_t addr, uint64_t epoch);
uint64_t rr_system_boot_ns(rr_system_t *system); /* the clock of leases: it goes on while the machine sleeps */

/* ---- Fences: names that changed hands ---------------------------------------------------------------------------- */

/* An address that lost its name is neither heard nor spoken to on this node any more: what it sends, and what is sent to it,
 * ends as STALE; its replies end the calls as LINKDOWN (maybe executed). A node knows so from the registry (rr_fence_name) and
 * from the new owner itself: carriers announce a named actor's names and epochs ahead of its first message to a node, in the
 * same order. actors/CLUSTER.md has the argument. Bounded: 131,072 names, 65,536 stale addresses; the oldest are forgotten. */

/* This name belongs to addr since that epoch (RR_NOBODY: to nobody, since that epoch ended). The highest epoch counts:
 * earlier owners are stale. False: addr is. Any thread. */
bool rr_fence_name(rr_system_t *system, const char *name, rr_addr_t addr, uint64_t epoch);
/* A node's session is over for ever: its stale addresses need not be remembered. Any thread. */
void rr_fences_forget(rr_system_t *system, unsigned node);

/* A name was granted to an actor here: carriers will announce it. Before rr_lease_grant. Any thread. RR_EINVAL, RR_ENOMEM. */
RR_MUST_CHECK int rr_fence_own(rr_system_t *system, const char *name, rr_addr_t addr, uint64_t epoch);

/* For carriers. What a session has announced: zeroed when it begins. It may forget: then it is announced again. */
typedef struct rr_announced {
    uint32_t version;
    rr_addr_t known[256];
} rr_announced_t;
typedef struct rr_announcement {
    rr_envelope_t env;
    uint8_t bytes[4096 + 256];
} rr_announcement_t;
/* True: out->env (of RR_KIND_ANNOUNCE) is to be sent ahead of env, in the same order; rr_remote_deliver takes it in. The
 * session's thread. */
bool rr_announce(rr_system_t *system, rr_announced_t *done, const rr_envelope_t *env, rr_announcement_t *out);
/* True: rr_announce has nothing to say ahead of what this actor has sent so far (it said so before). For many messages of one
 * sender that are in the session's hands already. The session's thread. */
bool rr_is_announced(rr_system_t *system, const rr_announced_t *done, rr_addr_t from);

/* Leased actors suspended now, for metrics. Any thread. */
unsigned rr_lease_suspended(rr_system_t *system);

#endif
