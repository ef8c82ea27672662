/* gate.h: the only door for outside clients.
 *
 * A gate is one control actor, named as the gate ("gate@0"), and one shard per loop ("gate@0#0", …), pinned there. A
 * client's bytes are parsed on its loop and go straight to the mailbox of the session's scene: one hop. All that a
 * shard sends to one scene within a loop turn is one actor message, and so is all that a scene's turn sends to one
 * shard (protocol.h).
 *
 * Order: rr_gate_create (ports are bound, so a port in use is known at once), rr_system_start, rr_gate_start, …,
 * rr_actors_drain (or rr_gate_drain and rr_gate_close by hand), rr_system_stop, rr_gate_destroy. */
#ifndef RR_ACTORS_GATE_H
#define RR_ACTORS_GATE_H

#include "net/connection.h"
#include "net/listener.h"
#include "runtime/metrics.h"

typedef struct rr_gate rr_gate_t;

typedef struct rr_gate_listen {
    rr_address_t
        address;     /* tcp:// speaks everything of spec.md section 4 on one port, ws:// and http:// no binary TCP */
    bool big_endian; /* the 8-byte header, whatever address.byte_order says */
} rr_gate_listen_t;

typedef struct rr_gate_folder {
    const char *prefix; /* "/" or "/codemirror" */
    const char *folder;
} rr_gate_folder_t;

typedef struct rr_gate_editor { /* off unless scene is set */
    const char *scene;          /* reloaded by POST /editor/reload */
    const char *script;         /* the file that is read and written */
    const char *token;          /* NULL = 128 random bits, see rr_gate_editor_token */
} rr_gate_editor_t;

/* What happens to the sessions of a scene that is gone: crashed, its node down, its name another's; or it ends
 * with its node, in order, and nobody takes them. See protocol.h for what
 * that means for messages. */
typedef enum rr_scene_lost {
    RR_LOST_CLOSE = 0, /* closed, 4009 */
    RR_LOST_WAIT,      /* their input is held; they enter the scene that has the name next */
    RR_LOST_RELOGIN,   /* their input is held; they log in again with the key that they gave (kept up to 65,535 bytes) */
} rr_scene_lost_t;

typedef struct rr_gate_options {
    const char *name;  /* "gate@0"; required */
    const char *login; /* the login scene; "scene@0" */
    bool leased;       /* its names are the group's (rr_spawn_t.leased) */
    const rr_gate_listen_t *listen;
    size_t listen_count; /* >= 1 */

    /* Limits; each is counted when hit (label `reason` or `limit` of the metrics). 0 = none, except where it says so.
     */
    size_t max_packet;           /* bytes of a body; 1,000,000. Closed with 1009 */
    size_t send_limit;           /* output waiting for one client; 4 MiB. 4008 */
    unsigned max_connections;    /* of this gate; 100,000. 1013 */
    unsigned max_per_ip;         /* connections of one address; 0. 1013 */
    unsigned max_pending_logins; /* 10,000. 1013 */
    unsigned pending_messages;   /* pipelined behind an unanswered login; 64. 4007 */
    size_t pending_bytes;        /* the same in bytes; 256 KiB (at least one message). 4007 */
    unsigned rate;               /* messages a second of one session; 0. 4006 */
    unsigned rate_burst;         /* 0 = 2 × rate */
    unsigned queue_messages;     /* held for a session while it moves (4007) or its scene is gone (4009); 1024 */
    size_t queue_bytes;          /* 4 MiB */
    unsigned login_timeout_ms;   /* from the connect to the verifier's yes; 15,000. 4005 */
    unsigned
        idle_timeout_ms; /* heartbeat_timeout: nothing received for; 600,000. 4004; WebSocket is pinged at a third */
    unsigned partial_timeout_ms; /* a begun frame must be complete within; 30,000. 1002 */
    int heartbeat_cmd;           /* swallowed; -1 = none */
    unsigned
        window_messages; /* on their way to one scene from one loop; 65,536 (never 0). Over it its clients' sockets */
    size_t window_bytes; /* are not read until it has caught up; 8 MiB (never 0) */

    rr_scene_lost_t scene_lost; /* close */
    unsigned scene_wait_ms;     /* how long they wait; 30,000. Over it, or over queue_messages or queue_bytes: 4009 */

    bool session_id_int;             /* digit strings returned by verify become ints */
    const char *const *subprotocols; /* WebSocket, NULL-terminated; NULL = none */

    /* HTTP. */
    const rr_gate_folder_t *www; /* the longest prefix wins */
    size_t www_count;
    const char *client_js; /* file served as /redrabbit.js; NULL = none */
    bool metrics;          /* GET /metrics; true */
    rr_gate_editor_t editor;

    /* Told once, on the gate's thread, when accepting has begun (the login scene serves); may be NULL. */
    void (*ready)(void *context, rr_gate_t *gate);
    void *context;
} rr_gate_options_t;

/* Defaults as above, all else zero. */
void rr_gate_options_init(rr_gate_options_t *options);

/* Binds the listeners; *out is the caller's. options are copied, with their strings. On failure why has one line that
 * says what and where. RR_EINVAL, RR_EADDRINUSE, RR_EACCES, RR_ENOMEM, RR_EIO. */
RR_MUST_CHECK int rr_gate_create(rr_system_t *system, rr_loop_t *const *loops, size_t loop_count,
                                 const rr_gate_options_t *options, rr_gate_t **out, char *why, size_t why_size);

/* Spawns the actors; accepting begins when the login scene serves, and never before. After rr_system_start. RR_EEXIST:
 * the name is in use. */
RR_MUST_CHECK int rr_gate_start(rr_gate_t *gate);

const char *rr_gate_name(const rr_gate_t *gate);
rr_addr_t rr_gate_address(const rr_gate_t *gate);
unsigned rr_gate_port(const rr_gate_t *gate, size_t listen); /* in use, of interest after port 0 */
const char *rr_gate_editor_token(const rr_gate_t *gate);     /* NULL if there is no editor */
size_t rr_gate_sessions(const rr_gate_t *gate);              /* verified, now; any thread */

/* First half of the end: stops accepting and reading; returns when everything received is in the scenes' mailboxes.
 * Sends still work. Not on a worker or loop thread. RR_TIMEOUT. */
RR_MUST_CHECK int rr_gate_drain(rr_gate_t *gate, unsigned deadline_ms);

/* Second half: what scenes have sent is flushed, clients are closed with 1001, the actors end. The same thread rules.
 */
RR_MUST_CHECK int rr_gate_close(rr_gate_t *gate, unsigned deadline_ms);

/* After rr_system_stop, before the system is destroyed. */
void rr_gate_destroy(rr_gate_t *gate);

/* Tells actors that know RR_TYPE_STOP (scenes, databases) to end, and waits for it; what has not ended in time is killed. Scenes
 * cancel handlers that run on early enough for offline handlers and clean-up (after 3/8 of the time, if not before). RR_OK or
 * RR_TIMEOUT, RR_ENOMEM. Not on a worker or loop thread. */
RR_MUST_CHECK int rr_actors_stop(rr_system_t *system, const rr_addr_t *actors, size_t count, unsigned deadline_ms);

/* The whole order of design.md's drain for gates and scenes: gates stop accepting and reading; scenes empty their
 * mailboxes, run offline for every session while sends still work, clean up and end; gates flush and close. What is not
 * done in time is killed. elsewhere: other nodes of the group live on, so before they stop, the scenes hand the sessions of
 * those nodes' gates over to scenes there, for at most half of the time (rr_scenes_hand_over); those that nobody takes wait at their gates or log in again, as scene_lost says; who is left ends here. RR_OK or
 * RR_TIMEOUT. scenes: names (looked up here; missing ones, and those of other nodes, are fine). Not on a worker or loop
 * thread. */
RR_MUST_CHECK int rr_actors_drain(rr_system_t *system, rr_gate_t *const *gates, size_t gate_count,
                                  const char *const *scenes, size_t scene_count, bool elsewhere,
                                  unsigned deadline_ms);

#endif
