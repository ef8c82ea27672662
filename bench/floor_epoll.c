/* Bare epoll: one thread, one read and one write per connection and wake-up. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench/bench.h"
#include "bench/floor_server.h"
#include "bench/wire.h"

#define EVENTS 256
#define READ_SIZE (256u << 10)
#define UNSENT_LIMIT (16u << 20)
#define MOST_LOGINS 10000000u

typedef struct bytes {
    uint8_t *data;
    size_t at, size, capacity;
} bytes_t;

typedef struct room room_t;

typedef struct client {
    int fd;
    uint32_t place; /* in server->clients */
    wire_kind_t kind;
    bool known, upgraded, logged_in, blocked, dead;
    bytes_t in, out;
    room_t *room; /* NULL: in none */
} client_t;

struct room {
    client_t **members;
    unsigned count, capacity;
    bytes_t said; /* in this wake-up */
    room_t *next_said;
};

typedef struct server {
    int epoll, listener;
    client_t **clients;
    unsigned count, capacity;
    client_t *dead[EVENTS * 2];
    unsigned dead_count;
    bytes_t reply, broadcast;
    room_t **rooms, *said;
    unsigned room_count;
    uint8_t *buffer;
    size_t buffer_size;
} server_t;

static uint8_t *room(bytes_t *b, size_t more) {
    if (b->at == b->size)
        b->at = b->size = 0;
    if (b->size + more > b->capacity) {
        b->capacity = (b->size + more) * 2;
        b->data = bench_realloc(b->data, b->capacity);
    }
    return b->data + b->size;
}

static void append(bytes_t *b, const void *data, size_t size) {
    memcpy(room(b, size), data, size);
    b->size += size;
}

static void watch(server_t *s, int op, int fd, void *who, uint32_t events) {
    struct epoll_event e = {.events = events, .data.ptr = who};
    if (epoll_ctl(s->epoll, op, fd, &e) != 0)
        bench_die("epoll_ctl: %s", strerror(errno));
}

/* Freed only after the wake-up's events: one of them may still name it. */
static void bury(server_t *s, client_t *c) {
    if (c->dead)
        return;
    c->dead = true;
    close(c->fd);
    s->clients[c->place] = s->clients[--s->count];
    s->clients[c->place]->place = c->place;
    if (s->dead_count == sizeof s->dead / sizeof *s->dead)
        bench_die("floor server: too many connections ended at once");
    for (unsigned i = 0; c->room && i < c->room->count; i++)
        if (c->room->members[i] == c)
            c->room->members[i] = c->room->members[--c->room->count];
    s->dead[s->dead_count++] = c;
}

static void free_dead(server_t *s) {
    while (s->dead_count) {
        client_t *c = s->dead[--s->dead_count];
        free(c->in.data);
        free(c->out.data);
        free(c);
    }
}

static void block(server_t *s, client_t *c, bool blocked) {
    if (c->blocked != blocked)
        watch(s, EPOLL_CTL_MOD, c->fd, c, blocked ? EPOLLIN | EPOLLOUT : EPOLLIN);
    c->blocked = blocked;
}

/* Writes at once what goes out at once and keeps the rest. */
static void deliver(server_t *s, client_t *c, const uint8_t *data, size_t size) {
    ssize_t n = 0;
    if (!c->blocked) {
        n = send(c->fd, data, size, MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN) {
            shutdown(c->fd, SHUT_RDWR); /* its own event ends it */
            return;
        }
        n = n < 0 ? 0 : n;
    }
    if ((size_t)n < size) {
        append(&c->out, data + n, size - (size_t)n);
        block(s, c, true);
        if (c->out.size - c->out.at > UNSENT_LIMIT)
            shutdown(c->fd, SHUT_RDWR);
    }
}

static void send_rest(server_t *s, client_t *c) {
    ssize_t n = send(c->fd, c->out.data + c->out.at, c->out.size - c->out.at, MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN) {
        bury(s, c);
        return;
    }
    c->out.at += n > 0 ? (size_t)n : 0;
    if (c->out.at == c->out.size)
        block(s, c, false);
}

/* Bytes used, 0 = incomplete, -1 = no upgrade. */
static long upgrade(server_t *s, client_t *c, const char *data, size_t size) {
    static const char field[] = "Sec-WebSocket-Key: ";
    const char *end = memmem(data, size, "\r\n\r\n", 4);
    if (!end)
        return size > 8192 ? -1 : 0;
    const char *key = memmem(data, (size_t)(end - data), field, sizeof field - 1);
    if (!key)
        return -1;
    key += sizeof field - 1;
    char accept[29], answer[256];
    wire_accept_key(key, strcspn(key, "\r"), accept);
    int n = snprintf(answer, sizeof answer,
                     "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                     "Sec-WebSocket-Accept: %s\r\n\r\n",
                     accept);
    deliver(s, c, (const uint8_t *)answer, (size_t)n);
    c->upgraded = true;
    return (long)(end - data) + 4;
}

static room_t *room_at(server_t *s, unsigned number) {
    if (number >= s->room_count) {
        s->rooms = bench_realloc(s->rooms, (number + 1) * sizeof *s->rooms);
        memset(s->rooms + s->room_count, 0, (number + 1 - s->room_count) * sizeof *s->rooms);
        s->room_count = number + 1;
    }
    if (!s->rooms[number])
        s->rooms[number] = bench_alloc(sizeof(room_t));
    return s->rooms[number];
}

static void enter(server_t *s, client_t *c, const wire_message_t *login) {
    char key[64];
    unsigned size, number;
    snprintf(key, sizeof key, "%.*s", (int)(login->size < sizeof key ? login->size : sizeof key - 1), (const char *)login->body);
    if (sscanf(key, "%u-floor-%u", &size, &number) != 2 || size == 0 || number > MOST_LOGINS)
        return;
    room_t *room = room_at(s, number / size);
    if (room->count == room->capacity) {
        room->capacity = room->capacity * 2 + 32;
        room->members = bench_realloc(room->members, room->capacity * sizeof *room->members);
    }
    room->members[room->count++] = c;
    c->room = room;
}

static bytes_t *to_room(server_t *s, room_t *room) {
    if (room->said.size == 0) {
        room->next_said = s->said;
        s->said = room;
    }
    return &room->said;
}

static bool message(server_t *s, client_t *c, const wire_message_t *m) {
    if (m->type != WIRE_DATA)
        return m->type != WIRE_CLOSE;
    if (!c->logged_in) {
        c->logged_in = true;
        enter(s, c, m);
        return true;
    }
    bool talks = m->cmd == FLOOR_CMD_ROOM && c->room;
    bytes_t *to = m->cmd == FLOOR_CMD_BROADCAST ? &s->broadcast : talks ? to_room(s, c->room) : &s->reply;
    uint8_t *out = room(to, m->size + WIRE_OVERHEAD);
    to->size += wire_put(c->kind, out, m->cmd, m->body, m->size, 0);
    return true;
}

static long take(server_t *s, client_t *c, uint8_t *data, size_t size) {
    if (!c->known) {
        if (size < 4)
            return 0;
        c->known = true;
        c->kind = memcmp(data, "GET ", 4) == 0 ? WIRE_WS_TEXT : WIRE_TCP;
    }
    if (wire_is_ws(c->kind) && !c->upgraded)
        return upgrade(s, c, (const char *)data, size);
    wire_message_t m;
    long used = wire_take(&c->kind, data, size, &m);
    return used > 0 && !message(s, c, &m) ? -1 : used;
}

static void keep(client_t *c, const uint8_t *data, size_t size) {
    c->in.at = c->in.size = 0;
    if (size)
        append(&c->in, data, size);
}

static void readable(server_t *s, client_t *c) {
    size_t kept = c->in.size, at = 0;
    if (s->buffer_size < kept + READ_SIZE) {
        s->buffer_size = 2 * (kept + READ_SIZE);
        s->buffer = bench_realloc(s->buffer, s->buffer_size);
    }
    if (kept)
        memcpy(s->buffer, c->in.data, kept);
    ssize_t n = recv(c->fd, s->buffer + kept, s->buffer_size - kept, 0);
    if (n <= 0) {
        if (n == 0 || errno != EAGAIN)
            bury(s, c);
        return;
    }
    size_t size = kept + (size_t)n;
    long used = 1;
    while (at < size && (used = take(s, c, s->buffer + at, size - at)) > 0)
        at += (size_t)used;
    keep(c, s->buffer + at, size - at);
    if (s->reply.size)
        deliver(s, c, s->reply.data, s->reply.size);
    s->reply.at = s->reply.size = 0;
    if (used < 0)
        bury(s, c);
}

/* The clients of one listener are all of one kind here, so one encoding serves all. */
static void spread(server_t *s) {
    if (!s->broadcast.size)
        return;
    for (unsigned i = 0; i < s->count; i++)
        if (s->clients[i]->logged_in)
            deliver(s, s->clients[i], s->broadcast.data, s->broadcast.size);
    s->broadcast.at = s->broadcast.size = 0;
}

static void spread_rooms(server_t *s) {
    for (room_t *room = s->said; room; room = room->next_said) {
        for (unsigned i = 0; i < room->count; i++)
            deliver(s, room->members[i], room->said.data, room->said.size);
        room->said.at = room->said.size = 0;
    }
    s->said = NULL;
}

static void accept_all(server_t *s) {
    int fd, one = 1;
    while ((fd = accept4(s->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        client_t *c = bench_alloc(sizeof *c);
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        c->fd = fd;
        if (s->count == s->capacity) {
            s->capacity = s->capacity * 2 + 64;
            s->clients = bench_realloc(s->clients, s->capacity * sizeof(client_t *));
        }
        c->place = s->count;
        s->clients[s->count++] = c;
        watch(s, EPOLL_CTL_ADD, fd, c, EPOLLIN);
    }
}

static void on_event(server_t *s, const struct epoll_event *e) {
    client_t *c = e->data.ptr;
    if (!c) {
        accept_all(s);
        return;
    }
    if (!c->dead && e->events & EPOLLOUT)
        send_rest(s, c);
    if (!c->dead && e->events & (EPOLLIN | EPOLLHUP | EPOLLERR))
        readable(s, c);
}

_Noreturn void floor_epoll_serve(int listener) {
    server_t s = {.listener = listener, .epoll = epoll_create1(EPOLL_CLOEXEC)};
    struct epoll_event events[EVENTS];
    if (s.epoll < 0)
        bench_die("epoll_create1: %s", strerror(errno));
    watch(&s, EPOLL_CTL_ADD, listener, NULL, EPOLLIN);
    for (;;) {
        int n = epoll_wait(s.epoll, events, EVENTS, -1);
        for (int i = 0; i < n; i++)
            on_event(&s, &events[i]);
        spread(&s);
        spread_rooms(&s);
        free_dead(&s);
    }
}
