/* mesh.h: this node's way to the other nodes of its group.
 *
 * For each other node that it was told of, the mesh has a link: an end-to-end session (link.h) whose proxy actor
 * (runtime/remote.h) is pinned to the mesh's loop. A link's segments travel over a connection to that very node, or, where
 * none can be made, over a connection to a node that relays (a broker): the session does not notice the change, nor a
 * connection's death; what is unacknowledged is sent again. Only `down_ms` without a sign of life ends the session: then
 * everybody who waited for that node is told (rr_node_down), and what comes later is a new session.
 *
 * Everything of a mesh happens on one loop. Functions: any thread unless said otherwise. */
#ifndef RR_NET_MESH_H
#define RR_NET_MESH_H

#include "net/loop.h"

typedef struct rr_mesh rr_mesh_t;

#define RR_NODE_PROTOCOL 2u /* versions must be equal */
#define RR_GROUP_MAX 63u
#define RR_NODE_NAME_MAX 63u
#define RR_NODE_ADDRESS_MAX 255u
/* A name that begins so is no node's of a graph, but that of a tool, which asks something and goes, or of somebody who is looked for:
 * their links are told of at RR_DEBUG only. */
#define RR_NODE_VISITOR '?'

/* Who somebody on the node port is; all of it authenticated by the group's key. */
typedef struct rr_node_identity {
    unsigned node;        /* 0: has none yet and asks for one (rr_node_join) */
    uint64_t incarnation; /* random, of the process */
    uint64_t service;     /* the address of the node's broker actor; RR_NOBODY if it has none */
    bool relay;           /* it forwards for others */
    char group[RR_GROUP_MAX + 1];
    char name[RR_NODE_NAME_MAX + 1];       /* as in the graph, for people */
    char address[RR_NODE_ADDRESS_MAX + 1]; /* where it listens for nodes, as others should dial it; "" = not at all */
} rr_node_identity_t;

typedef enum rr_link_state {
    RR_LINK_IDLE = 0,   /* known, never needed so far: no connection */
    RR_LINK_CONNECTING, /* no path now */
    RR_LINK_UP,
    RR_LINK_SUSPECT,    /* silent for suspect_ms */
    RR_LINK_DOWN,       /* given up: the session is over for ever */
} rr_link_state_t;
const char *rr_link_state_name(rr_link_state_t state);

typedef struct rr_mesh_handler {
    /* A link's state changed. Loop thread. */
    void (*state)(void *context, unsigned node, uint64_t incarnation, rr_link_state_t state);
    /* Somebody without a node id, in possession of the key, asks for one: fills in who->node and *master (the identity to
     * be told back); not RR_OK: refused, with a reason in `why`. NULL: this node hands out none. Loop thread; must not
     * block. */
    int (*join)(void *context, rr_node_identity_t *who, rr_node_identity_t *master, char *why, size_t why_size);
    /* A node with an id connected, or answered where another one was expected, that the mesh was not told of (a master that
     * was restarted hears so of its nodes, and they of it): RR_OK = take it as a peer. NULL: refused. Loop thread. */
    int (*unknown)(void *context, const rr_node_identity_t *who, char *why, size_t why_size);
    /* That peer refused this node's connection, and why. What it says is not proven (it may be anybody's word): only to be
     * believed by who has reason to. NULL: nobody is told. Loop thread. */
    void (*refused)(void *context, unsigned node, int code, const char *why);
} rr_mesh_handler_t;

typedef struct rr_mesh_options {
    rr_node_identity_t self; /* self.node = rr_system_node; self.address: what others are told to dial */
    const char *listen;      /* tcp://HOST:PORT to bind (port 0: any); NULL = does not listen */
    uint64_t graph;          /* a hash of the graph that it runs, of which 48 bits travel; 0 = of none. Who links to a node with
                                another one logs so, once, and counts it */
    const void *key;         /* the group's shared secret; copied. Without one only loopback may be bound or dialled */
    size_t key_size;
    unsigned heartbeat_ms;   /* 1,000: an idle link says so much */
    unsigned suspect_ms;     /* 3,000 */
    unsigned down_ms;        /* 10,000 */
    unsigned connect_ms;     /* 5,000: connecting and handshake together */
    unsigned backoff_min_ms, backoff_max_ms; /* 100, 5,000; doubled each time, with jitter */
    /* Sent and not acknowledged, per link, then the proxy's mailbox fills (senders are paused at a sixteenth of as many bytes
     * there, and refused at twice): 4 MiB. More does not speed up a link below 50 ms, and what overflows the caches slows it:
     * with 16 MiB and 65,536 messages a flood of 64-byte messages ran at 0.7 of this. */
    size_t window_bytes;
    /* Of the proxy's mailbox: 16,384. At a quarter of it senders are paused (RR_POLICY_PAUSE_SOURCE), at
     * twice it they are refused. */
    unsigned queue_messages;
    unsigned max_peers;      /* 1,024 */
    unsigned max_strangers;  /* connections that have not said who they are: 64 */
    size_t max_message;      /* a message's bytes, both ways: 16 MiB */
    const rr_mesh_handler_t *handler; /* must outlive the mesh */
    void *context;
} rr_mesh_options_t;
void rr_mesh_options_init(rr_mesh_options_t *options);

/* Makes the mesh of rr_loop_system(loop) and binds `listen`. why gets a whole sentence on failure: RR_EINVAL, RR_EADDRINUSE,
 * RR_EACCES (not loopback and no key), RR_EIO, RR_ENOMEM. Before or after rr_system_start. */
RR_MUST_CHECK int rr_mesh_create(rr_loop_t *loop, const rr_mesh_options_t *options, rr_mesh_t **out, char *why,
                                 size_t why_size);
/* Accepts and dials no more; pending output is flushed and acknowledged, at most deadline_ms; then peers are told that this
 * node leaves (its incarnation is over: they need not wait for down_ms). Blocks: not on a loop or worker. */
void rr_mesh_leave(rr_mesh_t *mesh, unsigned deadline_ms);
/* After rr_system_stop. NULL is allowed. */
void rr_mesh_destroy(rr_mesh_t *mesh);

/* The address it listens at, with the real port; "" if it does not. */
const char *rr_mesh_address(const rr_mesh_t *mesh);

/* Tells of a node: from now on messages to it have a way (a route is set before this returns; it is dialled when first
 * needed, or at once if `eager`). A known node with the same incarnation: its address is updated; with another one: the
 * earlier session is over. RR_ENOMEM, RR_ELIMIT, RR_EINVAL. */
RR_MUST_CHECK int rr_mesh_peer(rr_mesh_t *mesh, const rr_node_identity_t *peer, bool eager);
/* The node is dead for sure, or has left: ends its session now (if it is that incarnation), as after down_ms. */
void rr_mesh_forget(rr_mesh_t *mesh, unsigned node, uint64_t incarnation);

/* For `redrabbit ps` and metrics. */
typedef struct rr_link_info {
    rr_node_identity_t peer;
    rr_link_state_t state;
    bool relayed;
    unsigned via;       /* the relay's node id if relayed */
    uint64_t silent_ms; /* since its last sign of life */
    uint64_t sent_messages, sent_bytes, received_messages, received_bytes, resent_segments, reconnects, nacks;
    size_t unacked_bytes;
} rr_link_info_t;
/* Copies at most `max` entries as of now; returns how many there are. */
size_t rr_mesh_list(rr_mesh_t *mesh, rr_link_info_t *out, size_t max);

/* join.h's blocking part stands here because it comes before the node's own system: connects to a node that hands out ids
 * (the group's master), proves the key, and asks for one. On success *self has the id, *master who answered. deadline_ms for
 * all of it. why gets a whole sentence. RR_EACCES (wrong key), RR_EREFUSED (wrong group, version, name in use), RR_TIMEOUT,
 * RR_EIO (nobody listens), RR_EINVAL. Any thread that may block. */
RR_MUST_CHECK int rr_node_join(const char *address, const void *key, size_t key_size, rr_node_identity_t *self,
                               rr_node_identity_t *master, unsigned deadline_ms, char *why, size_t why_size);

#endif
