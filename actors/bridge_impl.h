/* bridge_impl.h: the inside of bridges. Private to actors/.
 *
 *     own system                                  a link's system (of the bridge's group)
 *     door ("bridge@0")  --- link->calls ------>  caller: calls "GroupB" there
 *       |    ^------------- door->inbox <-------    its answers
 *       |    ^------------- door->inbox <-------  agent ("GroupA"): who is called from there
 *       |------------------ link->answers ----->    the answers to that
 *       calls scenes of the own group
 *
 * Door, caller and agent are actors; each touches its own state only. Between them are pipes. A link's system comes and
 * goes with the link's thread (bridge.c); the pipes stay, open or closed. */
#ifndef RR_ACTORS_BRIDGE_IMPL_H
#define RR_ACTORS_BRIDGE_IMPL_H

#include <pthread.h>

#include "actors/bridge.h"
#include "net/mesh.h"
#include "runtime/metrics.h"

/* ---- Pipes: parcels from actors of one system to one actor of another ---- */

typedef enum rr__parcel_kind {
    RR__PARCEL_CALL,   /* buffer: RR_TYPE_BRIDGE's payload (an outer's: RR_TYPE_SERVICE's) */
    RR__PARCEL_ANSWER, /* status; buffer: the reply, or the error's text for RR_EHANDLER, or NULL */
    RR__PARCEL_GONE,   /* to a door: the link that the token names is gone */
} rr__parcel_kind_t;

typedef struct rr__parcel {
    struct rr__parcel *next;
    uint64_t token;    /* see rr__bridged */
    uint64_t until_ns; /* CALL: nobody waits any more */
    int status;
    rr__parcel_kind_t kind;
    rr_buffer_t *buffer; /* owned */
} rr__parcel_t;

/* The reader gets RR_TYPE_BRIDGE_WAKE when there is something, and takes all of it. */
#define RR_TYPE_BRIDGE_WAKE 0x0300u

typedef struct rr__pipe {
    pthread_mutex_t lock; /* all of it */
    rr__parcel_t *first, **last;
    size_t count, limit;
    rr_system_t *system; /* NULL = closed */
    rr_addr_t reader;
    bool woken;
    bool shut; /* closed, and not to be opened until rr__pipe_allow */
} rr__pipe_t;

void rr__pipe_init(rr__pipe_t *pipe, size_t limit);
void rr__pipe_destroy(rr__pipe_t *pipe); /* closes */
/* By the reader as it starts, or its maker. Nothing happens if it was closed since rr__pipe_allow. */
void rr__pipe_open(rr__pipe_t *pipe, rr_system_t *system, rr_addr_t reader);
void rr__pipe_allow(rr__pipe_t *pipe); /* as a new pipe is */
/* What is inside is thrown away. After return nobody sends to the reader's system any more. */
void rr__pipe_close(rr__pipe_t *pipe);
/* Takes over the buffer, also on failure. `forced`: over the limit, too. RR_OK, RR_NOROUTE (closed), RR_OVERLOAD, RR_ENOMEM. */
RR_MUST_CHECK int rr__pipe_push(rr__pipe_t *pipe, const rr__parcel_t *parcel, bool forced);
rr__parcel_t *rr__pipe_take(rr__pipe_t *pipe); /* all, oldest first; NULL if empty. Reader only. */
void rr__parcel_free(rr__parcel_t *parcel);    /* one */
/* A message's payload as a buffer of its own reference; NULL when out of memory. */
rr_buffer_t *rr__payload(const rr_message_t *msg);

/* Answers msg (which is taken) with what an answer's parcel says. */
void rr__pass_on(rr_actor_t *self, rr_message_t *msg, const rr__parcel_t *parcel);

/* ---- Calls that wait for an answer from the other system ---- */

/* A token is link 8 | generation 32 | slot 24: one that is over never matches again. Used by one actor. */
typedef struct rr__waiting {
    rr_message_t *msg; /* taken; NULL = free */
    uint64_t until_ns;
    uint32_t generation, next_free; /* slot + 1 */
    uint8_t link;
} rr__waiting_t;

typedef struct rr__bridged {
    rr__waiting_t *slots;
    uint32_t capacity, limit, count, first_free; /* slot + 1 */
    uint32_t generation;
    uint64_t timer; /* that looks for deadlines; 0 = none runs */
} rr__bridged_t;

#define RR__BRIDGED_TICK_MS 100
static inline unsigned rr__token_link(uint64_t token) { return (unsigned)(token >> 56); }

/* Takes msg (rr_message_take) and returns its token; 0: full or out of memory, msg is not taken. */
uint64_t rr__bridged_add(rr__bridged_t *calls, rr_actor_t *self, rr_message_t *msg, unsigned link, uint64_t until_ns);
rr_message_t *rr__bridged_take(rr__bridged_t *calls, uint64_t token); /* NULL: it is over */
/* Ends with `code` those of a link (-1: all) whose deadline is before now_ns (UINT64_MAX: all). Returns how many. */
unsigned rr__bridged_end(rr__bridged_t *calls, rr_actor_t *self, int link, uint64_t now_ns, int code);
void rr__bridged_tick(rr__bridged_t *calls, rr_actor_t *self); /* on its timer: ends what is over its deadline */
void rr__bridged_destroy(rr__bridged_t *calls);

/* How much less long each hop waits than the one before. */
unsigned rr__hop_ms(unsigned timeout_ms, unsigned hops);

/* ---- Links and bridges ---- */

typedef struct rr__link {
    rr_bridge_t *bridge;
    unsigned index;
    char *group, *address;
    rr__pipe_t calls, answers;
    pthread_t thread;
    bool running; /* the thread was made; main thread of the bridge only */
    /* What the agents of this link, one after the other, number their calls with. */
    uint32_t generation;
    /* Calls in a row that ended in TIMEOUT or LINKDOWN; of two links that know a group the better one is asked. Door only. */
    unsigned failures;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t changed;
    rr_system_t *system; /* NULL = not there */
    rr_addr_t agent;
    bool started; /* the bridge is whole: begin */
    bool ended; /* the agent ended, or the membership, for `reason` */
    int reason;
    char said[256]; /* the last complaint, and when: not again and again. The link's thread only */
    uint64_t said_ns;
    bool waits; /* said that it waits for the bridge. The link's thread only */
} rr__link_t;

struct rr_bridge {
    rr_system_t *own;
    const rr_bridge_carrier_t *carrier;
    char *name;
    bool outer; /* `name` is a service of the only link's group, not a door to groups */
    void *key;
    size_t key_size;
    unsigned max_calls, retry_min_ms, retry_max_ms;
    rr_options_t system;
    rr_mesh_options_t mesh;
    bool has_mesh;
    rr__pipe_t inbox;
    rr__link_t *links;
    size_t link_count;
    /* How long a membership's end may take. Written by rr_bridge_stop before `stop`, read by a link's thread that leaves, which may
     * do so for its own reasons at that moment: relaxed, either value will do. */
    _Atomic(unsigned) leave_ms;
    /* Nonzero: threads end. Written once by rr_bridge_stop (release), read by the door, the links' threads and what they wait in
     * (acquire, or as volatile: only its own value matters). */
    volatile int stop;
    bool stopped, collecting;
    /* Written by the door, read by metrics. */
    rr_counter_t calls_out, calls_in, errors, pending;
};

/* ---- bridge_door.c ---- */
RR_MUST_CHECK int rr__door_spawn(rr_bridge_t *bridge, bool leased);

/* ---- bridge_link.c ---- */
/* Spawns the caller and, for a bridge, the agent; opens the pipes. */
RR_MUST_CHECK int rr__link_spawn(rr__link_t *link, const rr_bridge_stay_t *stay);
/* Tells the link's thread that its stay is over; the first reason counts. Any thread. */
void rr__link_ended(rr__link_t *link, int reason);

#endif
