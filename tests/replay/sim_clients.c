#include "tests/replay/sim_clients.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/http_impl.h"

/* ---- Loops: executors without threads (the system is a replay) ---- */

struct rr_loop {
    rr_system_t *system;
    rr_executor_t *executor;
};

int rr_loop_create(rr_system_t *system, const char *name, rr_loop_t **out) {
    rr_loop_t *loop = calloc(1, sizeof *loop);
    if (!loop) {
        return RR_ENOMEM;
    }
    loop->system = system;
    *out = loop; /* freed by the test */
    return rr_pool_create(system, &(rr_pool_options_t){.name = name, .threads = 1}, &loop->executor);
}

rr_executor_t *rr_loop_executor(rr_loop_t *loop) { return loop->executor; }
rr_loop_t *rr_loop_current(void) { return NULL; }
uv_loop_t *rr_loop_uv(rr_loop_t *loop) { return NULL; }
uint64_t rr_loop_now_ns(rr_loop_t *loop) { return rr_system_now_ns(loop->system); }

/* ---- Listeners ---- */

struct rr_listener {
    rr_loop_t *const *loops;
    rr_accept_fn accept;
    void *context;
    bool started;
};

static rr_listener_t *last_listener;
static rr_connection_t *opened; /* by the accept under way */

int rr_listener_open(rr_loop_t *const *loops, size_t loop_count, const rr_address_t *address, rr_accept_fn accept,
                     void *context, rr_listener_t **out, char *why, size_t why_size) {
    rr_listener_t *listener = calloc(1, sizeof *listener);
    if (!listener) {
        return RR_ENOMEM;
    }
    *listener = (rr_listener_t){.loops = loops, .accept = accept, .context = context};
    *out = last_listener = listener;
    return RR_OK;
}

int rr_listener_start(rr_listener_t *listener) {
    listener->started = true;
    return RR_OK;
}

unsigned rr_listener_port(const rr_listener_t *listener) { return 0; }
void rr_listener_pause(rr_listener_t *listener) { listener->started = false; }
void rr_listener_stop(rr_listener_t *listener) { listener->started = false; }

void rr_listener_destroy(rr_listener_t *listener) {
    if (listener == last_listener) {
        last_listener = NULL;
    }
    free(listener);
}

rr_listener_t *sim_listener(void) { return last_listener; }

/* ---- Connections ---- */

typedef struct said {
    struct said *next;
    uint16_t cmd;
    size_t size;
    uint8_t body[];
} said_t;

struct rr_connection {
    const rr_connection_handler_t *handler;
    void *context, *client;
    sim_heard_fn heard;
    said_t *first, **last; /* not yet taken */
    bool paused, closing, taking;
    rr_close_reason_t reason;
};

const char *rr_close_label(rr_close_reason_t reason) {
    static const char *const labels[] = {
#define LABEL(name, code, label) label,
        RR_CLOSE_REASONS(LABEL)
#undef LABEL
    };
    return labels[reason];
}

void rr_connection_options_init(rr_connection_options_t *options) { *options = (rr_connection_options_t){0}; }

int rr_connection_open(rr_loop_t *loop, int fd, const rr_connection_options_t *options,
                       const rr_connection_handler_t *handler, void *context, rr_connection_t **out) {
    rr_connection_t *connection = calloc(1, sizeof *connection);
    if (!connection) {
        return RR_ENOMEM;
    }
    *connection = (rr_connection_t){.handler = handler, .context = context};
    connection->last = &connection->first;
    *out = opened = connection;
    return RR_OK;
}

rr_connection_t *sim_connect(rr_listener_t *listener, size_t loop, void *client, sim_heard_fn heard) {
    opened = NULL;
    if (listener && listener->started) {
        listener->accept(listener->context, listener->loops[loop], -1);
    }
    if (opened) {
        opened->client = client;
        opened->heard = heard;
    }
    return opened;
}

static void take(rr_connection_t *connection) {
    if (connection->taking || !connection->first || connection->closing || connection->paused) {
        return;
    }
    connection->taking = true;
    connection->handler->alive(connection->context, connection);
    if (!connection->handler->input || connection->handler->input(connection->context, connection)) {
        while (connection->first && !connection->closing && !connection->paused) {
            said_t *said = connection->first;
            connection->first = said->next;
            if (!connection->first) {
                connection->last = &connection->first;
            }
            connection->handler->message(connection->context, connection, said->cmd, 0, said->body, said->size, NULL);
            free(said);
        }
    }
    connection->taking = false;
}

void sim_say(rr_connection_t *connection, uint16_t cmd, const void *body, size_t size) {
    said_t *said = malloc(sizeof *said + size);
    if (!said) {
        abort();
    }
    *said = (said_t){.cmd = cmd, .size = size};
    memcpy(said->body, body, size);
    *connection->last = said;
    connection->last = &said->next;
    take(connection);
}

static void end(rr_connection_t *connection, rr_close_reason_t reason) {
    for (said_t *next; connection->first; connection->first = next) {
        next = connection->first->next;
        free(connection->first);
    }
    connection->closing = true;
    connection->handler->closed(connection->context, connection, reason);
    free(connection);
}

void sim_hang_up(rr_connection_t *connection) { end(connection, connection->closing ? connection->reason : RR_CLOSE_PEER); }

bool sim_reap(rr_connection_t *connection) {
    if (!connection->closing) {
        take(connection); /* it may be read again since */
        return false;
    }
    end(connection, connection->reason);
    return true;
}

static int heard(rr_connection_t *connection, uint16_t cmd, const void *body, size_t size) {
    if (connection->closing) {
        return RR_ESTATE;
    }
    if (connection->heard) {
        connection->heard(connection->client, cmd, body, size);
    }
    return RR_OK;
}

int rr_connection_send(rr_connection_t *connection, uint16_t cmd, const void *body, size_t size, bool utf8) {
    return heard(connection, cmd, body, size);
}

struct rr_shared_message {
    uint16_t cmd;
    size_t size;
    uint8_t body[];
};

rr_shared_message_t *rr_shared_message_new(uint16_t cmd, rr_buffer_t *body, const uint8_t *data, size_t size, bool utf8) {
    rr_shared_message_t *message = malloc(sizeof *message + size);
    if (!message) {
        return NULL;
    }
    *message = (rr_shared_message_t){.cmd = cmd, .size = size};
    memcpy(message->body, data, size);
    return message;
}

void rr_shared_message_free(rr_shared_message_t *message) { free(message); }

int rr_connection_send_shared(rr_connection_t *connection, rr_shared_message_t *message) {
    return heard(connection, message->cmd, message->body, message->size);
}

struct rr_shared_row {
    unsigned count;
    size_t bytes;
    rr_shared_message_t *messages[3]; /* few, so that rows are full, too */
};

rr_shared_row_t *rr_shared_row_new(void) { return calloc(1, sizeof(rr_shared_row_t)); }

bool rr_shared_row_add(rr_shared_row_t *row, uint16_t cmd, const uint8_t *data, size_t size, bool utf8) {
    if (row->count == sizeof row->messages / sizeof *row->messages) {
        return false;
    }
    rr_shared_message_t *message = rr_shared_message_new(cmd, NULL, data, size, utf8);
    if (!message) {
        return false;
    }
    row->messages[row->count++] = message;
    row->bytes += size;
    return true;
}

void rr_shared_row_clear(rr_shared_row_t *row) {
    while (row->count) {
        rr_shared_message_free(row->messages[--row->count]);
    }
    row->bytes = 0;
}

void rr_shared_row_free(rr_shared_row_t *row) {
    if (row) {
        rr_shared_row_clear(row);
        free(row);
    }
}

unsigned rr_shared_row_count(const rr_shared_row_t *row) { return row->count; }
size_t rr_shared_row_bytes(const rr_shared_row_t *row) { return row->bytes; }

/* All or none: a client that is closing stays so. */
int rr_connection_send_row(rr_connection_t *connection, rr_shared_row_t *row) {
    int rc = RR_OK;
    for (unsigned i = 0; i < row->count && rc == RR_OK; i++) {
        rc = rr_connection_send_shared(connection, row->messages[i]);
    }
    return rc;
}

int rr_connection_ping(rr_connection_t *connection) { return RR_OK; }
void rr_connection_pause(rr_connection_t *connection) { connection->paused = true; }
void rr_connection_resume(rr_connection_t *connection) { connection->paused = false; }

void rr_connection_close(rr_connection_t *connection, rr_close_reason_t reason) {
    if (!connection->closing) {
        connection->closing = true;
        connection->reason = reason;
    }
}

rr_wire_t rr_connection_wire(const rr_connection_t *connection) { return RR_WIRE_TCP; }

const char *rr_connection_peer_ip(const rr_connection_t *connection, char *out, size_t size) {
    snprintf(out, size, "127.0.0.1");
    return out;
}

/* ---- Plain HTTP: nobody asks ---- */

void rr_http_answer(rr_http_reply_t *reply, int status, const char *content_type, const char *headers, const void *body,
                    size_t size) {
    abort();
}

void rr_http_answer_buffer(rr_http_reply_t *reply, int status, const char *content_type, const char *headers,
                           rr_buffer_t *body) {
    abort();
}

rr_loop_t *rr__http_reply_loop(const rr_http_reply_t *reply) { abort(); }
