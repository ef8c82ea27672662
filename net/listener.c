/* listener.c: one listening socket, accepted on the first loop in bursts, dealt out to all loops in turn. (SO_REUSEPORT
 * would let a second process take the same port unnoticed, and deals by hash: uneven for long-lived connections.)
 *
 * Without descriptors the pending clients stay in the kernel's backlog: accepting rests for a moment instead of spinning. */
#include "net/listener.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/loop_impl.h"

#define BURST 64        /* accepts per wake-up; the rest is reported again in the next iteration */
#define REST_MS 100u    /* pause when descriptors ran out */
#define LOG_EVERY_NS 10000000000ull

/* The part that lives on the accepting loop; freed when both its handles are closed. */
typedef struct acceptor {
    uv_poll_t poll;
    uv_timer_t rest;
    rr_loop_end_t end;
    rr_listener_t *listener; /* NULL once stopped */
    unsigned handles;
} acceptor_t;

struct rr_listener {
    rr_accept_fn accept;
    void *context;
    int fd;
    unsigned port;
    char address[300];
    size_t loop_count, turn;
    acceptor_t *acceptor; /* loops[0]'s thread only */
    bool stopped;         /* loops[0]'s thread only: a start that comes late does nothing */
    uint64_t logged_ns;
    rr_counter_t accepted, out_of_descriptors; /* written on loops[0] only */
    rr_loop_t *loops[];
};

typedef struct handover {
    rr_listener_t *listener;
    rr_loop_t *loop;
    int fd;
} handover_t;

static void on_readable(uv_poll_t *poll, int status, int events);

/* ---- Binding ---- */

static int set(int fd, int level, int name, int value) {
    return setsockopt(fd, level, name, &value, sizeof value);
}

/* TCP_NODELAY is inherited by what is accepted (Linux): one system call less per connection. */
static int bind_one(const struct addrinfo *info, bool dual) {
    int fd = socket(info->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -errno;
    }
    if (set(fd, SOL_SOCKET, SO_REUSEADDR, 1) != 0 || set(fd, IPPROTO_TCP, TCP_NODELAY, 1) != 0 ||
        (info->ai_family == AF_INET6 && set(fd, IPPROTO_IPV6, IPV6_V6ONLY, !dual) != 0) ||
        bind(fd, info->ai_addr, info->ai_addrlen) != 0 || listen(fd, SOMAXCONN) != 0) {
        int error = errno;
        close(fd);
        return -error;
    }
    return fd;
}

static int resolve(const rr_address_t *address, const char *host, struct addrinfo **out) {
    char port[8];
    snprintf(port, sizeof port, "%u", address->port);
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    return getaddrinfo(host, port, &hints, out);
}

/* A descriptor, or a negated errno; *resolver = getaddrinfo's complaint. */
static int bind_any(const rr_address_t *address, int *resolver) {
    bool any = strcmp(address->host, "*") == 0;
    const char *hosts[] = {any ? "::" : address->host, any ? "0.0.0.0" : NULL};
    int rc = -EADDRNOTAVAIL;
    for (size_t i = 0; i < 2 && hosts[i]; i++) { /* "*": both families on one socket, or IPv4 where there is no IPv6 */
        struct addrinfo *list = NULL;
        *resolver = resolve(address, hosts[i], &list);
        if (*resolver != 0) {
            continue;
        }
        for (struct addrinfo *info = list; info && rc < 0; info = info->ai_next) {
            rc = bind_one(info, any);
        }
        freeaddrinfo(list);
        if (rc >= 0 || rc == -EADDRINUSE || rc == -EACCES) {
            break;
        }
    }
    return rc;
}

static unsigned port_of(int fd) {
    struct sockaddr_storage name;
    socklen_t size = sizeof name;
    if (getsockname(fd, (struct sockaddr *)&name, &size) != 0) {
        return 0;
    }
    return ntohs(name.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&name)->sin6_port
                                            : ((struct sockaddr_in *)&name)->sin_port);
}

static int explain(const char *address, int error, int resolver, char *why, size_t size) {
    const char *text = resolver ? gai_strerror(resolver) : strerror(-error);
    if (why && size) {
        snprintf(why, size, "cannot listen on %s: %s", address, text);
    }
    if (resolver || error == -EADDRNOTAVAIL) {
        return RR_EINVAL;
    }
    int code = rr_error_from_errno(error);
    return code == RR_EADDRINUSE || code == RR_EACCES || code == RR_ENOMEM ? code : RR_EIO;
}

int rr_listener_open(rr_loop_t *const *loops, size_t loop_count, const rr_address_t *address, rr_accept_fn accept,
                     void *context, rr_listener_t **out, char *why, size_t why_size) {
    char text[300];
    rr_address_format(address, text, sizeof text);
    int resolver = 0;
    int fd = bind_any(address, &resolver);
    if (fd < 0) {
        return explain(text, fd, resolver, why, why_size);
    }
    rr_listener_t *listener = calloc(1, sizeof *listener + loop_count * sizeof listener->loops[0]);
    if (!listener) {
        close(fd);
        return RR_ENOMEM;
    }
    listener->accept = accept;
    listener->context = context;
    listener->fd = fd;
    listener->port = port_of(fd);
    listener->loop_count = loop_count;
    memcpy(listener->loops, loops, loop_count * sizeof loops[0]);
    memcpy(listener->address, text, sizeof text);
    *out = listener;
    return RR_OK;
}

/* ---- Accepting ---- */

static void run_handover(void *context) {
    handover_t *h = context;
    h->listener->accept(h->listener->context, h->loop, h->fd);
    free(h);
}

/* To the next loop in turn. */
static void deal(rr_listener_t *listener, int fd) {
    rr_loop_t *loop = listener->loops[listener->turn++ % listener->loop_count];
    if (loop == listener->loops[0]) {
        listener->accept(listener->context, loop, fd);
        return;
    }
    handover_t *h = malloc(sizeof *h);
    if (h) {
        *h = (handover_t){.listener = listener, .loop = loop, .fd = fd};
    }
    if (!h || rr_loop_post(loop, run_handover, h) != RR_OK) {
        free(h);
        close(fd);
    }
}

static void after_rest(uv_timer_t *timer) {
    acceptor_t *acceptor = timer->data;
    if (acceptor->listener) {
        uv_poll_start(&acceptor->poll, UV_READABLE, on_readable);
    }
}

static void rest(acceptor_t *acceptor) {
    rr_listener_t *listener = acceptor->listener;
    rr_count(&listener->out_of_descriptors, 1);
    uv_poll_stop(&acceptor->poll);
    uv_timer_start(&acceptor->rest, after_rest, REST_MS, 0);
    uint64_t now = rr_loop_now_ns(listener->loops[0]);
    if (listener->logged_ns == 0 || now - listener->logged_ns > LOG_EVERY_NS) {
        listener->logged_ns = now;
        rr_log(rr_loop_system(listener->loops[0]), RR_WARN, "NET",
               "%s: out of file descriptors, new connections wait; raise the limit (ulimit -n), or let gates have fewer clients "
               "(max_connections)",
               listener->address);
    }
}

static void on_readable(uv_poll_t *poll, int status, int events) {
    acceptor_t *acceptor = poll->data;
    rr__loop_awake(poll->loop->data);
    for (unsigned i = 0; i < BURST && acceptor->listener; i++) { /* accept() may pause us */
        int fd = accept4(acceptor->listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            rr_count(&acceptor->listener->accepted, 1);
            deal(acceptor->listener, fd);
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            rest(acceptor);
            return;
        } else if (errno != ECONNABORTED && errno != EINTR && errno != EPROTO) {
            return; /* EAGAIN: all taken */
        }
    }
}

/* ---- Starting and stopping, on loops[0] ---- */

static void after_close(uv_handle_t *handle) {
    acceptor_t *acceptor = handle->data;
    if (--acceptor->handles == 0) {
        free(acceptor);
    }
}

static void acceptor_end(acceptor_t *acceptor) {
    acceptor->listener->acceptor = NULL;
    acceptor->listener = NULL;
    uv_close((uv_handle_t *)&acceptor->poll, after_close);
    uv_close((uv_handle_t *)&acceptor->rest, after_close);
}

static void on_loop_end(rr_loop_end_t *item) {
    acceptor_end((acceptor_t *)((char *)item - offsetof(acceptor_t, end)));
}

static void do_start(void *context) {
    rr_listener_t *listener = context;
    if (listener->stopped || listener->acceptor) {
        return;
    }
    uv_loop_t *uv = rr_loop_uv(listener->loops[0]);
    acceptor_t *acceptor = calloc(1, sizeof *acceptor);
    if (!acceptor || uv_poll_init(uv, &acceptor->poll, listener->fd) != 0) {
        free(acceptor);
        rr_log(rr_loop_system(listener->loops[0]), RR_ERROR, "NET", "%s: accepting cannot begin: out of memory", listener->address);
        return;
    }
    uv_timer_init(uv, &acceptor->rest);
    acceptor->poll.data = acceptor->rest.data = acceptor;
    acceptor->handles = 2;
    acceptor->listener = listener;
    acceptor->end.fn = on_loop_end;
    rr_loop_end_add(listener->loops[0], &acceptor->end);
    listener->acceptor = acceptor;
    uv_poll_start(&acceptor->poll, UV_READABLE, on_readable);
}

static void do_stop(void *context) {
    rr_listener_t *listener = context;
    listener->stopped = true;
    if (listener->acceptor) {
        rr_loop_end_remove(listener->loops[0], &listener->acceptor->end);
        acceptor_end(listener->acceptor);
    }
    if (listener->fd >= 0) { /* who connects from now on is refused at once instead of waiting in the backlog */
        close(listener->fd);
        listener->fd = -1;
    }
}

static void nothing(void *context) {
    (void)context;
}

int rr_listener_start(rr_listener_t *listener) {
    return rr_loop_post(listener->loops[0], do_start, listener);
}

void rr_listener_pause(rr_listener_t *listener) {
    if (rr_loop_current() == listener->loops[0]) {
        do_stop(listener);
    } else {
        (void)!rr_loop_post(listener->loops[0], do_stop, listener); /* fails only if the loop has ended, or stop will do it */
    }
}

void rr_listener_stop(rr_listener_t *listener) {
    for (size_t i = 0; i < listener->loop_count; i++) { /* posts are in order: behind these no hand-over is left */
        rr__loop_call(listener->loops[i], i == 0 ? do_stop : nothing, listener);
    }
}

void rr_listener_destroy(rr_listener_t *listener) {
    if (listener) {
        rr_listener_stop(listener);
        free(listener);
    }
}

unsigned rr_listener_port(const rr_listener_t *listener) {
    return listener->port;
}

void rr_listener_stats(rr_listener_t *listener, rr_listener_stats_t *out) {
    *out = (rr_listener_stats_t){rr_counted(&listener->accepted), rr_counted(&listener->out_of_descriptors)};
}

size_t rr_raise_file_limit(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) {
        return 0;
    }
    rlim_t before = limit.rlim_cur;
    limit.rlim_cur = limit.rlim_max;
    return setrlimit(RLIMIT_NOFILE, &limit) == 0 ? limit.rlim_cur : before;
}
