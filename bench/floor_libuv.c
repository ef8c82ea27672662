/* Bare libuv, TCP: what a server gains or loses by the event library that net/ stands on. */
#include <string.h>
#include <sys/socket.h>
#include <uv.h>

#include "bench/bench.h"
#include "bench/floor_server.h"
#include "bench/wire.h"

#define READ_SIZE (64u << 10)

typedef struct uv_client {
    uv_tcp_t tcp;
    unsigned place;
    bool logged_in, closing;
    uint8_t *in;
    size_t in_size;
} uv_client_t;

typedef struct uv_server {
    uv_loop_t loop;
    uv_tcp_t listener;
    uv_prepare_t prepare; /* before the loop waits: the wake-up's broadcasts leave */
    uv_client_t **clients;
    unsigned count, capacity;
    uint8_t *reply, *broadcast;
    size_t reply_size, reply_room, broadcast_size, broadcast_room;
    uint8_t *buffer;
    size_t buffer_size;
} uv_server_t;

static void add(uint8_t **data, size_t *size, size_t *capacity, const wire_message_t *m) {
    if (*size + m->size + WIRE_OVERHEAD > *capacity) {
        *capacity = (*size + m->size + WIRE_OVERHEAD) * 2;
        *data = bench_realloc(*data, *capacity);
    }
    *size += wire_put(WIRE_TCP, *data + *size, m->cmd, m->body, m->size, 0);
}

static void on_closed(uv_handle_t *handle) {
    uv_client_t *c = (uv_client_t *)handle;
    free(c->in);
    free(c);
}

static void end(uv_server_t *s, uv_client_t *c) {
    if (c->closing)
        return;
    c->closing = true;
    s->clients[c->place] = s->clients[--s->count];
    s->clients[c->place]->place = c->place;
    uv_close((uv_handle_t *)&c->tcp, on_closed);
}

static void on_written(uv_write_t *request, int status) { free(request); }

static void deliver(uv_client_t *c, const uint8_t *data, size_t size) {
    uv_buf_t buf = uv_buf_init((char *)data, (unsigned)size);
    int n = uv_try_write((uv_stream_t *)&c->tcp, &buf, 1);
    if (n == (int)size || (n < 0 && n != UV_EAGAIN))
        return;
    size_t left = size - (size_t)(n > 0 ? n : 0);
    uv_write_t *request = bench_alloc(sizeof *request + left);
    memcpy(request + 1, data + (size - left), left);
    buf = uv_buf_init((char *)(request + 1), (unsigned)left);
    if (uv_write(request, (uv_stream_t *)&c->tcp, &buf, 1, on_written) != 0)
        free(request);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf) {
    uv_server_t *s = handle->loop->data;
    const uv_client_t *c = (const uv_client_t *)handle;
    if (s->buffer_size < c->in_size + READ_SIZE) {
        s->buffer_size = 2 * (c->in_size + READ_SIZE);
        s->buffer = bench_realloc(s->buffer, s->buffer_size);
    }
    *buf = uv_buf_init((char *)s->buffer + c->in_size, (unsigned)(s->buffer_size - c->in_size));
}

static size_t take_all(uv_server_t *s, uv_client_t *c, size_t size) {
    wire_kind_t kind = WIRE_TCP;
    wire_message_t m;
    size_t at = 0;
    long used;
    while (at < size && (used = wire_take(&kind, s->buffer + at, size - at, &m)) > 0) {
        at += (size_t)used;
        if (!c->logged_in)
            c->logged_in = true;
        else if (m.cmd == FLOOR_CMD_BROADCAST)
            add(&s->broadcast, &s->broadcast_size, &s->broadcast_room, &m);
        else
            add(&s->reply, &s->reply_size, &s->reply_room, &m);
    }
    return at;
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf) {
    uv_server_t *s = stream->loop->data;
    uv_client_t *c = (uv_client_t *)stream;
    if (n < 0)
        end(s, c);
    if (n <= 0)
        return;
    if (c->in_size)
        memcpy(s->buffer, c->in, c->in_size);
    size_t size = c->in_size + (size_t)n, used = take_all(s, c, size);
    c->in_size = size - used;
    if (c->in_size) {
        c->in = bench_realloc(c->in, c->in_size);
        memcpy(c->in, s->buffer + used, c->in_size);
    }
    if (s->reply_size)
        deliver(c, s->reply, s->reply_size);
    s->reply_size = 0;
}

static void on_prepare(uv_prepare_t *handle) {
    uv_server_t *s = handle->loop->data;
    for (unsigned i = 0; s->broadcast_size && i < s->count; i++)
        if (s->clients[i]->logged_in)
            deliver(s->clients[i], s->broadcast, s->broadcast_size);
    s->broadcast_size = 0;
}

static void on_connection(uv_stream_t *listener, int status) {
    uv_server_t *s = listener->loop->data;
    if (status < 0)
        return;
    uv_client_t *c = bench_alloc(sizeof *c);
    uv_tcp_init(&s->loop, &c->tcp);
    if (s->count == s->capacity) {
        s->capacity = s->capacity * 2 + 64;
        s->clients = bench_realloc(s->clients, s->capacity * sizeof(uv_client_t *));
    }
    c->place = s->count;
    s->clients[s->count++] = c;
    if (uv_accept(listener, (uv_stream_t *)&c->tcp) != 0 ||
        uv_read_start((uv_stream_t *)&c->tcp, on_alloc, on_read) != 0)
        end(s, c);
    else
        uv_tcp_nodelay(&c->tcp, 1);
}

_Noreturn void floor_libuv_serve(int listener) {
    uv_server_t *s = bench_alloc(sizeof *s);
    if (uv_loop_init(&s->loop) != 0 || uv_tcp_init(&s->loop, &s->listener) != 0 ||
        uv_tcp_open(&s->listener, listener) != 0 || uv_prepare_init(&s->loop, &s->prepare) != 0)
        bench_die("libuv refused to start");
    s->loop.data = s;
    uv_prepare_start(&s->prepare, on_prepare);
    if (uv_listen((uv_stream_t *)&s->listener, 4096, on_connection) != 0)
        bench_die("libuv: listen failed");
    uv_run(&s->loop, UV_RUN_DEFAULT);
    bench_die("libuv: the loop ended");
}
