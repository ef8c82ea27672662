/* carrier_tcp.c: the real carrier: one net loop, its listener, and non-blocking connects.
 *
 * A connect is a plain socket watched by a uv_poll until it is writable; the stream then takes the bare descriptor.
 * Names are resolved on libuv's threads; numbers never leave the loop. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/carrier.h"
#include "net/listener.h"
#include "net/loop_impl.h"

typedef struct tcp_carrier {
    rr__carrier_t base;
    rr_loop_t *loop;
    rr_listener_t *listener;
    uv_timer_t *timers[RR__TIMERS]; /* NULL until first used, and after the loop's end */
    rr_loop_end_t end;
    bool ended;
} tcp_carrier_t;

typedef struct connecting { /* its own life: libuv's handles close later */
    uv_getaddrinfo_t lookup;
    uv_poll_t poll;
    tcp_carrier_t *carrier;
    rr__dial_t *dial; /* NULL = cancelled */
    int fd;
    char text[320];
} connecting_t;

static tcp_carrier_t *self_of(rr__carrier_t *carrier) {
    return (tcp_carrier_t *)carrier;
}

/* ---- The loop's services ---- */

static rr_executor_t *executor(rr__carrier_t *carrier) {
    return rr_loop_executor(self_of(carrier)->loop);
}

static uint64_t now_ns(rr__carrier_t *carrier) {
    return rr_loop_now_ns(self_of(carrier)->loop);
}

static bool here(rr__carrier_t *carrier) {
    return rr_loop_current() == self_of(carrier)->loop;
}

static int post(rr__carrier_t *carrier, void (*fn)(void *context), void *context) {
    return rr_loop_post(self_of(carrier)->loop, fn, context);
}

static void call(rr__carrier_t *carrier, void (*fn)(void *context), void *context) {
    rr__loop_call(self_of(carrier)->loop, fn, context);
}

static void defer(rr__carrier_t *carrier, rr_deferred_t *item) {
    rr_loop_defer(self_of(carrier)->loop, item);
}

static void defer_cancel(rr__carrier_t *carrier, rr_deferred_t *item) {
    rr_loop_defer_cancel(self_of(carrier)->loop, item);
}

static void on_timer(uv_timer_t *timer) {
    tcp_carrier_t *self = timer->data;
    rr__loop_awake(self->loop);
    for (unsigned which = 0; which < RR__TIMERS; which++) {
        if (self->timers[which] == timer) {
            self->base.handler->timer(self->base.context, which);
        }
    }
    uv_stop(timer->loop); /* what it caused is flushed before the loop sleeps */
}

static void timer_set(rr__carrier_t *carrier, unsigned which, uint64_t after_ns) {
    tcp_carrier_t *self = self_of(carrier);
    if (!self->timers[which] && !self->ended) {
        uv_timer_t *timer = malloc(sizeof *timer);
        if (!timer) {
            return; /* the next one that is set does its work */
        }
        uv_timer_init(rr_loop_uv(self->loop), timer);
        timer->data = self;
        self->timers[which] = timer;
    }
    if (self->timers[which]) {
        uv_update_time(rr_loop_uv(self->loop));
        uv_timer_start(self->timers[which], on_timer, (after_ns + 999999) / 1000000, 0);
    }
}

/* ---- Listening ---- */

static void on_accept(void *context, rr_loop_t *loop, int fd) {
    (void)loop;
    tcp_carrier_t *self = context;
    self->base.handler->accepted(self->base.context, fd);
}

static int listen_at(rr__carrier_t *carrier, const char *text, char *bound, size_t bound_size, char *why,
                     size_t why_size) {
    tcp_carrier_t *self = self_of(carrier);
    rr_address_t address;
    int rc = rr_address_parse(text, &address, why, why_size);
    if (rc != RR_OK) {
        return rc;
    }
    rc = rr_listener_open(&self->loop, 1, &address, on_accept, self, &self->listener, why, why_size);
    if (rc == RR_OK) {
        address.port = rr_listener_port(self->listener);
        rr_address_format(&address, bound, bound_size);
    }
    return rc;
}

static int begin(rr__carrier_t *carrier) {
    return rr_listener_start(self_of(carrier)->listener);
}

static void close_listener(rr__carrier_t *carrier) {
    if (self_of(carrier)->listener) {
        rr_listener_pause(self_of(carrier)->listener);
    }
}

/* ---- Dialling ---- */

static void free_connecting(uv_handle_t *handle) {
    free(handle->data);
}

static void finish(connecting_t *c, int error, int fd, const char *what) {
    rr__dial_t *dial = c->dial;
    c->dial = NULL;
    if (!dial) {
        if (fd >= 0) {
            close(fd);
        }
        return;
    }
    char why[400];
    snprintf(why, sizeof why, "%s: %s", c->text, what);
    dial->inner = NULL;
    dial->done(dial, error, fd, why);
}

static void on_writable(uv_poll_t *poll, int status, int events) {
    (void)events;
    connecting_t *c = poll->data;
    rr__loop_awake(c->carrier->loop);
    int error = 0, fd = c->fd;
    socklen_t size = sizeof error;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0) {
        error = errno;
    } else if (!error && status < 0) { /* libuv's own word for a failed poll says less */
        error = -status;
    }
    uv_close((uv_handle_t *)poll, free_connecting); /* watches no more, so that the stream can; the memory goes later */
    if (error) {
        close(fd);
        finish(c, rr_error_from_errno(error), -1, strerror(error));
    } else {
        finish(c, RR_OK, fd, "");
    }
}

/* Own socket, connecting. RR_OK: on_writable follows and c is its own master. */
static int start_connect(connecting_t *c, const struct sockaddr *address, socklen_t size, const char **what) {
    int one = 1, fd = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) != 0 ||
        (connect(fd, address, size) != 0 && errno != EINPROGRESS)) {
        int error = errno;
        if (fd >= 0) {
            close(fd);
        }
        *what = strerror(error);
        return rr_error_from_errno(error);
    }
    c->fd = fd;
    if (uv_poll_init(rr_loop_uv(c->carrier->loop), &c->poll, fd) != 0) {
        close(fd);
        *what = "out of memory";
        return RR_ENOMEM;
    }
    c->poll.data = c;
    uv_poll_start(&c->poll, UV_WRITABLE, on_writable);
    return RR_OK;
}

static void after_lookup(uv_getaddrinfo_t *request, int status, struct addrinfo *list) {
    connecting_t *c = request->data;
    rr__loop_awake(c->carrier->loop);
    const char *what = status == 0 ? "" : uv_strerror(status);
    int rc = status == 0 ? RR_OK : RR_EINVAL;
    if (c->dial && rc == RR_OK) {
        rc = start_connect(c, list->ai_addr, list->ai_addrlen, &what);
    } else if (!c->dial) {
        rc = RR_CANCELLED;
    }
    uv_freeaddrinfo(list);
    if (rc != RR_OK) {
        finish(c, rc, -1, what);
        free(c);
    }
}

static bool is_number(const rr_address_t *address, struct sockaddr_storage *out, socklen_t *size) {
    if (uv_ip4_addr(address->host, (int)address->port, (struct sockaddr_in *)out) == 0) {
        *size = sizeof(struct sockaddr_in);
        return true;
    }
    *size = sizeof(struct sockaddr_in6);
    return uv_ip6_addr(address->host, (int)address->port, (struct sockaddr_in6 *)out) == 0;
}

static int look_up(connecting_t *c, const rr_address_t *address) {
    char port[8];
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    snprintf(port, sizeof port, "%u", address->port);
    c->lookup.data = c;
    int rc = uv_getaddrinfo(rr_loop_uv(c->carrier->loop), &c->lookup, after_lookup, address->host, port, &hints);
    return rc == 0 ? RR_OK : rr_error_from_errno(rc);
}

static int dial(rr__carrier_t *carrier, const char *text, rr__dial_t *item) {
    rr_address_t address;
    int rc = rr_address_parse(text, &address, NULL, 0);
    if (rc != RR_OK) {
        return rc;
    }
    connecting_t *c = calloc(1, sizeof *c);
    if (!c) {
        return RR_ENOMEM;
    }
    c->carrier = self_of(carrier);
    c->dial = item;
    snprintf(c->text, sizeof c->text, "%s", text);
    struct sockaddr_storage number;
    socklen_t size;
    const char *what;
    rc = is_number(&address, &number, &size) ? start_connect(c, (struct sockaddr *)&number, size, &what)
                                             : look_up(c, &address);
    if (rc != RR_OK) {
        free(c);
        return rc;
    }
    item->inner = c;
    return RR_OK;
}

static void dial_cancel(rr__carrier_t *carrier, rr__dial_t *item) {
    (void)carrier;
    connecting_t *c = item->inner;
    if (!c) {
        return;
    }
    item->inner = NULL;
    c->dial = NULL;
    if (c->poll.data) {
        uv_close((uv_handle_t *)&c->poll, free_connecting);
        close(c->fd);
    } else {
        uv_cancel((uv_req_t *)&c->lookup); /* running already: its callback finds no dial */
    }
}

/* ---- Streams ---- */

static int open_stream(rr__carrier_t *carrier, intptr_t handle, const rr_stream_handler_t *handler, void *owner,
                       size_t send_limit, rr_stream_t **out) {
    return rr_stream_open(self_of(carrier)->loop, (int)handle, handler, owner, send_limit, out);
}

static void drop(rr__carrier_t *carrier, intptr_t handle) {
    (void)carrier;
    close((int)handle);
}

static bool is_local(rr__carrier_t *carrier, const char *text) {
    (void)carrier;
    rr_address_t address;
    return rr_address_parse(text, &address, NULL, 0) == RR_OK && rr_address_is_loopback(&address);
}

/* ---- Life ---- */

static void free_timer(uv_handle_t *handle) {
    free(handle);
}

static void on_loop_end(rr_loop_end_t *item) {
    tcp_carrier_t *self = (tcp_carrier_t *)((char *)item - offsetof(tcp_carrier_t, end));
    self->base.handler->ends(self->base.context);
    self->ended = true;
    for (unsigned which = 0; which < RR__TIMERS; which++) {
        if (self->timers[which]) {
            uv_close((uv_handle_t *)self->timers[which], free_timer);
            self->timers[which] = NULL;
        }
    }
}

/* For a loop that never ran: it would look for us when it is freed. */
static void end_early(void *context) {
    tcp_carrier_t *self = context;
    if (!self->ended) {
        rr_loop_end_remove(self->loop, &self->end);
        on_loop_end(&self->end);
    }
}

static void destroy(rr__carrier_t *carrier) {
    tcp_carrier_t *self = self_of(carrier);
    rr__loop_call(self->loop, end_early, self);
    rr_listener_destroy(self->listener);
    free(self);
}

static const rr__carrier_ops_t tcp_ops = {
    .executor = executor,
    .now_ns = now_ns,
    .here = here,
    .post = post,
    .call = call,
    .defer = defer,
    .defer_cancel = defer_cancel,
    .timer = timer_set,
    .listen = listen_at,
    .begin = begin,
    .close_listener = close_listener,
    .dial = dial,
    .dial_cancel = dial_cancel,
    .open = open_stream,
    .drop = drop,
    .is_local = is_local,
    .destroy = destroy,
};

static void add_end(void *context) {
    tcp_carrier_t *self = context;
    rr_loop_end_add(self->loop, &self->end);
}

int rr__carrier_tcp(rr_loop_t *loop, const rr__carrier_handler_t *handler, void *context, rr__carrier_t **out) {
    tcp_carrier_t *self = calloc(1, sizeof *self);
    if (!self) {
        return RR_ENOMEM;
    }
    self->base = (rr__carrier_t){.ops = &tcp_ops, .handler = handler, .context = context};
    self->loop = loop;
    self->end.fn = on_loop_end;
    rr__loop_call(loop, add_end, self);
    *out = &self->base;
    return RR_OK;
}
