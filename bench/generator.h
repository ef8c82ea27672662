/* generator.h: the load generator: one thread, one epoll, many client connections of one server.
 *
 * It must never be what limits a figure: one read and one write per connection and wake-up, however many messages they
 * carry; no allocation per message. It connects, upgrades, logs in, and hands over whole messages. */
#ifndef RR_BENCH_GENERATOR_H
#define RR_BENCH_GENERATOR_H

#include "bench/bench.h"
#include "bench/wire.h"

typedef struct generator generator_t;

typedef enum conn_state { CONN_FREE, CONN_CONNECTING, CONN_UPGRADING, CONN_LOGIN, CONN_READY } conn_state_t;

typedef struct conn {
    int fd;
    uint32_t index;
    uint8_t state; /* conn_state_t */
    uint8_t kind;  /* wire_kind_t */
    bool blocked;  /* the socket's buffer is full: EPOLLOUT is armed */
    bool dirty;    /* in the list of those to be flushed */
    uint32_t in_size, in_capacity;
    uint32_t out_at, out_size, out_capacity;
    uint8_t *in, *out;
    uint64_t opened_at; /* when connect() was called */
    uint64_t serial;    /* of this login, over all connections */
    void *user;
} conn_t;

typedef enum ready_when { READY_ECHO, READY_NOW, READY_CMD } ready_when_t;

typedef struct generator_options {
    const char *to;         /* tcp://host:port, tcp-be://host:port (network byte order), ws://host:port/path */
    bool binary;            /* WebSocket: binary frames instead of text */
    const char *login;      /* session key; {n} = serial number, {pid} = this process */
    ready_when_t ready;     /* how the end of the login is seen: an echo, at once, or a message of ready_cmd */
    uint16_t ready_cmd;
    uint16_t cmd, reply_cmd; /* of READY_ECHO's probe */
    unsigned connecting;    /* at most so many unfinished logins at a time */
} generator_options_t;

typedef struct generator_ops {
    void (*ready)(generator_t *g, conn_t *c);
    void (*message)(generator_t *g, conn_t *c, const wire_message_t *m); /* body is valid during the call */
    void (*closed)(generator_t *g, conn_t *c, const char *why);          /* c is free afterwards */
} generator_ops_t;

/* Ends the program if the address can't be used. */
generator_t *generator_new(const generator_options_t *options, const generator_ops_t *ops, unsigned connections,
                           void *user);
void generator_free(generator_t *g); /* closes what is open, without callbacks */
void *generator_user(generator_t *g);
conn_t *generator_conn(generator_t *g, unsigned index);

/* Starts the connection with that index; it is ready() later, or closed(). */
void generator_connect(generator_t *g, unsigned index);
/* Closes now (with RST if hard: no TIME_WAIT left behind); closed() is not called. */
void generator_close(generator_t *g, conn_t *c, bool hard);

/* Queues one message; it leaves with the flush at the end of the wake-up. */
void generator_send(generator_t *g, conn_t *c, uint16_t cmd, const void *body, size_t size);
static inline size_t generator_unsent(const conn_t *c) { return c->out_size - c->out_at; }

/* Handles what is there, waiting at most wait_ns for it (0 = only look), then flushes. */
void generator_poll(generator_t *g, uint64_t wait_ns);
/* The same, but gives the CPU away at once, until something comes or wait_ns are over. */
void generator_sleep(generator_t *g, uint64_t wait_ns);

/* Connects those from number `from` on, up to the first `count` of all, and waits until all these have logged in; those before
 * `from` have. False: some did not within timeout_s (the reason is in run). */
bool generator_login_all(generator_t *g, unsigned from, unsigned count, double timeout_s, bench_run_t *run);

uint64_t generator_now(const generator_t *g); /* time of the event being handled */
unsigned generator_ready_count(const generator_t *g);

/* Fills in text: {n} -> n, {i} -> i, {pid}. Truncates at capacity. Returns the length. */
size_t generator_expand(char *out, size_t capacity, const char *text, uint64_t n, uint64_t i);

/* The processes listening on the address's port (found through /proc); how many, at most `capacity`. */
unsigned generator_server_pids(const char *to, int *pids, unsigned capacity);

/* Tries to connect until it works, timeout_s is over, or child `pid` (0 = none) has ended. */
bool generator_wait_listening(const char *to, double timeout_s, int pid);

#endif
