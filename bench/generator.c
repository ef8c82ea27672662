#include "bench/generator.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/address.h"

#define EVENTS 256
#define READ_SIZE (256u << 10)
#define PROBE_SIZE 22u /* without its quotes: a JSON handler that gets a string may send it as text */
#define SPIN_NS 100000 /* a sleeping thread is woken in tens of microseconds: look again for that long first */

struct generator {
    generator_options_t options;
    generator_ops_t ops;
    void *user;
    address_t address;
    int epoll;
    unsigned count, ready, connecting;
    unsigned *waiting, waiting_at, waiting_end; /* ring of indices that wait for a free place among `connecting` */
    conn_t *conns;
    conn_t **dirty;
    unsigned dirty_count;
    uint64_t serial, now, last_event;
    uint32_t random; /* masks */
    uint8_t *buffer;
    size_t buffer_size;
    char accept[29];
    char host[160];
};

static void touch(generator_t *g, conn_t *c);
static void drop(generator_t *g, conn_t *c, const char *why);

generator_t *generator_new(const generator_options_t *options, const generator_ops_t *ops, unsigned connections,
                           void *user) {
    generator_t *g = bench_alloc(sizeof *g);
    g->options = *options;
    g->ops = *ops;
    g->user = user;
    g->count = connections;
    address_parse(options->to, &g->address);
    bench_need_files(connections + 64);
    g->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (g->epoll < 0)
        bench_die("epoll_create1: %s", strerror(errno));
    g->conns = bench_alloc(connections * sizeof *g->conns);
    g->dirty = bench_alloc(connections * sizeof(conn_t *));
    g->waiting = bench_alloc((connections + 1) * sizeof *g->waiting);
    g->random = 0x9e3779b9u;
    g->buffer_size = 2 * READ_SIZE;
    g->buffer = bench_alloc(g->buffer_size);
    wire_accept_key(WIRE_KEY, strlen(WIRE_KEY), g->accept);
    for (unsigned i = 0; i < connections; i++) {
        g->conns[i].index = i;
        g->conns[i].fd = -1;
    }
    return g;
}

void generator_free(generator_t *g) {
    for (unsigned i = 0; i < g->count; i++) {
        generator_close(g, &g->conns[i], true);
        free(g->conns[i].in);
        free(g->conns[i].out);
    }
    close(g->epoll);
    free(g->conns);
    free(g->dirty);
    free(g->waiting);
    free(g->buffer);
    free(g);
}

void *generator_user(generator_t *g) { return g->user; }
conn_t *generator_conn(generator_t *g, unsigned index) { return &g->conns[index]; }
uint64_t generator_now(const generator_t *g) { return g->now; }
unsigned generator_ready_count(const generator_t *g) { return g->ready; }

size_t generator_expand(char *out, size_t capacity, const char *text, uint64_t n, uint64_t i) {
    size_t at = 0;
    while (*text && at + 24 < capacity) {
        if (strncmp(text, "{n}", 3) == 0 || strncmp(text, "{i}", 3) == 0) {
            at += (size_t)snprintf(out + at, capacity - at, "%llu", (unsigned long long)(text[1] == 'n' ? n : i));
            text += 3;
        } else if (strncmp(text, "{pid}", 5) == 0) {
            at += (size_t)snprintf(out + at, capacity - at, "%d", (int)getpid());
            text += 5;
        } else {
            out[at++] = *text++;
        }
    }
    out[at] = 0;
    return at;
}

/* ---- Sending --------------------------------------------------------------------------------------------------------- */

static uint32_t next_mask(generator_t *g) { /* xorshift32 never yields 0 */
    g->random ^= g->random << 13;
    g->random ^= g->random >> 17;
    g->random ^= g->random << 5;
    return g->random;
}

static uint8_t *reserve(conn_t *c, size_t size) {
    if (c->out_at == c->out_size)
        c->out_at = c->out_size = 0;
    if (c->out_size + size > c->out_capacity) {
        c->out_capacity = (uint32_t)(c->out_size + size) * 2;
        c->out = bench_realloc(c->out, c->out_capacity);
    }
    return c->out + c->out_size;
}

static void touch(generator_t *g, conn_t *c) {
    if (!c->dirty) {
        c->dirty = true;
        g->dirty[g->dirty_count++] = c;
    }
}

void generator_send(generator_t *g, conn_t *c, uint16_t cmd, const void *body, size_t size) {
    uint8_t *out = reserve(c, size + WIRE_OVERHEAD);
    uint32_t mask = wire_is_ws((wire_kind_t)c->kind) ? next_mask(g) : 0;
    c->out_size += (uint32_t)wire_put((wire_kind_t)c->kind, out, cmd, body, size, mask);
    touch(g, c);
}

static void send_bytes(generator_t *g, conn_t *c, const void *data, size_t size) {
    memcpy(reserve(c, size), data, size);
    c->out_size += (uint32_t)size;
    touch(g, c);
}

static void watch(generator_t *g, conn_t *c, int op, uint32_t events) {
    struct epoll_event e = {.events = events, .data.ptr = c};
    if (epoll_ctl(g->epoll, op, c->fd, &e) != 0)
        bench_die("epoll_ctl: %s", strerror(errno));
}

static void set_blocked(generator_t *g, conn_t *c, bool blocked) {
    if (c->blocked == blocked)
        return;
    c->blocked = blocked;
    watch(g, c, EPOLL_CTL_MOD, blocked ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

static void flush(generator_t *g, conn_t *c) {
    if (c->state == CONN_FREE || c->state == CONN_CONNECTING || c->out_at == c->out_size)
        return;
    ssize_t n = send(c->fd, c->out + c->out_at, c->out_size - c->out_at, MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN && errno != EINTR) {
        drop(g, c, strerror(errno));
        return;
    }
    if (n > 0)
        c->out_at += (uint32_t)n;
    set_blocked(g, c, c->out_at < c->out_size);
}

static void flush_dirty(generator_t *g) {
    for (unsigned i = 0; i < g->dirty_count; i++) {
        conn_t *c = g->dirty[i];
        c->dirty = false;
        if (!c->blocked)
            flush(g, c);
    }
    g->dirty_count = 0;
}

/* ---- Connecting ------------------------------------------------------------------------------------------------------ */

static void leave_connecting(generator_t *g, const conn_t *c) {
    if (c->state == CONN_READY)
        g->ready--;
    else if (c->state != CONN_FREE)
        g->connecting--;
}

static void release(generator_t *g, conn_t *c) {
    leave_connecting(g, c);
    close(c->fd);
    c->fd = -1;
    c->state = CONN_FREE;
    c->in_size = c->out_at = c->out_size = 0;
    c->blocked = false;
}

static void drop(generator_t *g, conn_t *c, const char *why) {
    char unreached[300];
    if (c->state == CONN_CONNECTING) {
        snprintf(unreached, sizeof unreached, "the server at %.160s cannot be reached: %s", g->options.to, why);
        why = unreached;
    }
    release(g, c);
    if (g->ops.closed)
        g->ops.closed(g, c, why);
}

void generator_close(generator_t *g, conn_t *c, bool hard) {
    if (c->state == CONN_FREE)
        return;
    struct linger linger = {.l_onoff = 1, .l_linger = 0};
    if (hard)
        setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    release(g, c);
}

static void dial(generator_t *g, conn_t *c) {
    int one = 1;
    c->fd = socket(g->address.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0)
        bench_die("socket: %s", strerror(errno));
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    c->kind = g->address.kind == WIRE_WS_TEXT && g->options.binary ? WIRE_WS_BINARY : (uint8_t)g->address.kind;
    c->state = CONN_CONNECTING;
    c->serial = g->serial++;
    c->opened_at = bench_now_ns();
    g->connecting++;
    if (connect(c->fd, (struct sockaddr *)&g->address.storage, g->address.size) != 0 && errno != EINPROGRESS) {
        drop(g, c, strerror(errno));
        return;
    }
    c->blocked = true;
    watch(g, c, EPOLL_CTL_ADD, EPOLLIN | EPOLLOUT);
}

void generator_connect(generator_t *g, unsigned index) {
    g->waiting[g->waiting_end] = index;
    g->waiting_end = (g->waiting_end + 1) % (g->count + 1);
}

static void dial_waiting(generator_t *g) {
    while (g->waiting_at != g->waiting_end && g->connecting < g->options.connecting) {
        conn_t *c = &g->conns[g->waiting[g->waiting_at]];
        g->waiting_at = (g->waiting_at + 1) % (g->count + 1);
        if (c->state == CONN_FREE)
            dial(g, c);
    }
}

static size_t probe_body(const conn_t *c, char *out, size_t capacity) {
    return (size_t)snprintf(out, capacity, "\"ready %016llx\"", (unsigned long long)c->serial);
}

static void become_ready(generator_t *g, conn_t *c) {
    g->connecting--;
    g->ready++;
    c->state = CONN_READY;
    if (g->ops.ready)
        g->ops.ready(g, c);
}

static void start_login(generator_t *g, conn_t *c) {
    char text[512];
    size_t size = generator_expand(text, sizeof text, g->options.login, c->serial, 0);
    c->state = CONN_LOGIN;
    generator_send(g, c, 0, text, size);
    if (g->options.ready == READY_ECHO) {
        size = probe_body(c, text, sizeof text);
        generator_send(g, c, g->options.cmd, text, size);
    } else if (g->options.ready == READY_NOW) {
        become_ready(g, c);
    }
}

static void connected(generator_t *g, conn_t *c) {
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error) {
        drop(g, c, strerror(error));
        return;
    }
    if (wire_is_ws((wire_kind_t)c->kind)) {
        char request[512];
        size_t n = wire_upgrade_request(request, sizeof request, g->address.host, g->address.path);
        c->state = CONN_UPGRADING;
        send_bytes(g, c, request, n);
    } else {
        start_login(g, c);
    }
}

/* ---- Receiving ------------------------------------------------------------------------------------------------------- */

/* The answer to the upgrade: bytes used, 0 = incomplete, -1 = refused. */
static long take_upgrade(generator_t *g, conn_t *c, const uint8_t *data, size_t size) {
    const uint8_t *end = memmem(data, size, "\r\n\r\n", 4);
    if (!end)
        return size > 16384 ? -1 : 0;
    size_t used = (size_t)(end - data) + 4;
    if (size < 12 || memcmp(data, "HTTP/1.1 101", 12) != 0 || !memmem(data, used, g->accept, 28))
        return -1;
    start_login(g, c);
    return (long)used;
}

static void login_message(generator_t *g, conn_t *c, const wire_message_t *m) {
    char text[64];
    if (g->options.ready == READY_CMD && m->cmd == g->options.ready_cmd) {
        become_ready(g, c);
    } else if (g->options.ready == READY_ECHO && m->cmd == g->options.reply_cmd) {
        probe_body(c, text, sizeof text);
        if (memmem(m->body, m->size, text + 1, PROBE_SIZE))
            become_ready(g, c);
    } /* anything else is a welcome or somebody's broadcast */
}

static void control_message(generator_t *g, conn_t *c, const wire_message_t *m) {
    if (m->type == WIRE_PING) {
        uint8_t *out = reserve(c, m->size + WIRE_OVERHEAD);
        c->out_size += (uint32_t)wire_put_control(out, WIRE_PONG, m->body, m->size, next_mask(g));
        touch(g, c);
    } else if (m->type == WIRE_CLOSE) {
        char why[48];
        snprintf(why, sizeof why, "closed by the server, code %u",
                 m->size >= 2 ? (unsigned)(m->body[0] << 8 | m->body[1]) : 1005);
        drop(g, c, why);
    }
}

/* A server that sends everything to everybody sends others' probes too. */
static bool is_probe(const wire_message_t *m) {
    size_t quote = m->size == PROBE_SIZE + 2;
    return (quote || m->size == PROBE_SIZE) && memcmp(m->body + quote, "ready ", 6) == 0;
}

static void handle(generator_t *g, conn_t *c, const wire_message_t *m) {
    if (m->type != WIRE_DATA)
        control_message(g, c, m);
    else if (c->state == CONN_LOGIN)
        login_message(g, c, m);
    else if (!is_probe(m))
        g->ops.message(g, c, m);
}

/* Takes all whole messages off data; returns bytes used. The connection may be closed by then. */
static size_t take_all(generator_t *g, conn_t *c, uint8_t *data, size_t size) {
    size_t at = 0;
    int fd = c->fd;
    while (at < size && c->state != CONN_FREE && c->fd == fd) {
        wire_message_t m;
        long used;
        if (c->state == CONN_UPGRADING) {
            used = take_upgrade(g, c, data + at, size - at);
        } else {
            wire_kind_t kind = (wire_kind_t)c->kind;
            used = wire_take(&kind, data + at, size - at, &m);
            if (used > 0)
                handle(g, c, &m);
        }
        if (used < 0)
            drop(g, c, c->state == CONN_UPGRADING ? "the upgrade was refused" : "malformed bytes from the server");
        if (used <= 0)
            break;
        at += (size_t)used;
    }
    return at;
}

static void keep_rest(conn_t *c, const uint8_t *data, size_t size) {
    if (size > c->in_capacity) {
        c->in_capacity = (uint32_t)size * 2;
        c->in = bench_realloc(c->in, c->in_capacity);
    }
    memcpy(c->in, data, size);
    c->in_size = (uint32_t)size;
}

static void readable(generator_t *g, conn_t *c) {
    if (g->buffer_size < c->in_size + READ_SIZE) {
        g->buffer_size = 2 * (c->in_size + READ_SIZE);
        g->buffer = bench_realloc(g->buffer, g->buffer_size);
    }
    if (c->in_size)
        memcpy(g->buffer, c->in, c->in_size);
    ssize_t n = recv(c->fd, g->buffer + c->in_size, g->buffer_size - c->in_size, 0);
    if (n <= 0) {
        if (n == 0 || (errno != EAGAIN && errno != EINTR))
            drop(g, c, n == 0 ? "closed by the server" : strerror(errno));
        return;
    }
    size_t size = c->in_size + (size_t)n;
    c->in_size = 0;
    size_t used = take_all(g, c, g->buffer, size);
    if (c->state != CONN_FREE && used < size)
        keep_rest(c, g->buffer + used, size - used);
}

static void on_event(generator_t *g, conn_t *c, uint32_t events) {
    if (c->state == CONN_FREE)
        return;
    g->now = bench_now_ns();
    if (c->state == CONN_CONNECTING)
        connected(g, c);
    else if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
        readable(g, c);
    /* its answers leave now, so that the next connection's work is not part of this one's latency */
    if (c->state != CONN_FREE && (!c->blocked || events & EPOLLOUT))
        flush(g, c);
}

static void on_events(generator_t *g, struct epoll_event *events, int n, uint64_t now) {
    if (n > 0)
        g->last_event = now;
    g->now = now;
    for (int i = 0; i < n; i++)
        on_event(g, events[i].data.ptr, events[i].events);
    dial_waiting(g);
    flush_dirty(g);
}

void generator_poll(generator_t *g, uint64_t wait_ns) {
    struct epoll_event events[EVENTS];
    dial_waiting(g);
    flush_dirty(g);
    int n = epoll_wait(g->epoll, events, EVENTS, 0);
    uint64_t now = bench_now_ns();
    if (n == 0 && wait_ns >= 1000000 && now - g->last_event > SPIN_NS)
        n = epoll_wait(g->epoll, events, EVENTS, (int)(wait_ns / 1000000));
    on_events(g, events, n, now);
}

void generator_sleep(generator_t *g, uint64_t wait_ns) {
    struct epoll_event events[EVENTS];
    struct timespec wait = {.tv_sec = (time_t)(wait_ns / 1000000000), .tv_nsec = (long)(wait_ns % 1000000000)};
    dial_waiting(g);
    flush_dirty(g);
    int n = epoll_pwait2(g->epoll, events, EVENTS, &wait, NULL);
    on_events(g, events, n, bench_now_ns());
}

bool generator_login_all(generator_t *g, unsigned from, unsigned count, double timeout_s, bench_run_t *run) {
    uint64_t deadline = bench_now_ns() + (uint64_t)(timeout_s * 1e9);
    for (unsigned i = from; i < count; i++)
        generator_connect(g, i);
    while (g->ready < count && !run->failure[0]) {
        generator_poll(g, 10000000);
        bench_progress("%s: %u of %u logged in", g->options.to, g->ready, count);
        if (bench_now_ns() > deadline)
            bench_fail(run, "only %u of %u connections logged in within %.0f s", g->ready, count, timeout_s);
    }
    return g->ready >= count;
}

static bool has_ended(int pid) {
    siginfo_t info = {0};
    return pid > 0 && waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == pid;
}

bool generator_wait_listening(const char *to, double timeout_s, int pid) {
    address_t address;
    uint64_t deadline = bench_now_ns() + (uint64_t)(timeout_s * 1e9);
    address_parse(to, &address);
    while (bench_now_ns() < deadline && !has_ended(pid)) {
        int fd = socket(address.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        bool up = fd >= 0 && connect(fd, (struct sockaddr *)&address.storage, address.size) == 0;
        if (fd >= 0)
            close(fd);
        if (up)
            return true;
        bench_sleep_until_ns(bench_now_ns() + 20000000);
    }
    return false;
}
