/* Real sockets: a system with a loop, a listener and connections that echo. */
#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/connection.h"
#include "net/frame.h"
#include "net/listener.h"

typedef struct server {
    rr_system_t *system;
    rr_loop_t *loops[2];
    size_t loop_count;
    rr_listener_t *listener;
    rr_connection_options_t options;
    /* Written on the loops, read by the test; relaxed: the test waits for values to appear. */
    _Atomic(int) opened, closed, by_loop[2];
    _Atomic(int) reason;
} server_t;

static void on_message(void *context, rr_connection_t *c, uint16_t cmd, uint16_t flag, const uint8_t *body, size_t size, rr_buffer_t *owner) {
    int rc = rr_connection_send(c, cmd, body, size, false);
    if (rc == RR_ELIMIT) {
        rr_connection_close(c, RR_CLOSE_SLOW_READER);
    }
}

static void on_closed(void *context, rr_connection_t *c, rr_close_reason_t reason) {
    server_t *s = context;
    atomic_store(&s->reason, (int)reason);
    atomic_fetch_add(&s->closed, 1);
}

static const rr_connection_handler_t handler = {.message = on_message, .closed = on_closed};

static void on_accept(void *context, rr_loop_t *loop, int fd) {
    server_t *s = context;
    rr_connection_t *c;
    ck_assert_ptr_eq(rr_loop_current(), loop);
    ck_assert_int_eq(rr_connection_open(loop, fd, &s->options, &handler, s, &c), RR_OK);
    atomic_fetch_add(&s->by_loop[rr_loop_index(loop)], 1);
    atomic_fetch_add(&s->opened, 1);
}

static void server_start(server_t *s, const char *address, size_t loops) {
    rr_options_t options;
    rr_address_t at;
    char why[512];
    memset(s, 0, sizeof *s);
    rr_options_init(&options);
    options.core_threads = 1;
    options.log_level = RR_WARN;
    rr_connection_options_init(&s->options);
    ck_assert_int_eq(rr_system_create(&s->system, &options), RR_OK);
    s->loop_count = loops;
    for (size_t i = 0; i < loops; i++) {
        ck_assert_int_eq(rr_loop_create(s->system, "io", &s->loops[i]), RR_OK);
        ck_assert_uint_eq(rr_loop_index(s->loops[i]), i);
    }
    ck_assert_int_eq(rr_address_parse(address, &at, why, sizeof why), RR_OK);
    int rc = rr_listener_open(s->loops, loops, &at, on_accept, s, &s->listener, why, sizeof why);
    ck_assert_msg(rc == RR_OK, "%s", why);
    ck_assert_int_eq(rr_listener_start(s->listener), RR_OK);
    ck_assert_int_eq(rr_system_start(s->system), RR_OK);
}

static void server_stop(server_t *s) {
    rr_listener_stop(s->listener);
    rr_system_stop(s->system);
    rr_listener_destroy(s->listener);
    rr_system_destroy(s->system);
    ck_assert_int_eq(atomic_load(&s->opened), atomic_load(&s->closed)); /* each exactly once */
}

static int client(server_t *s, int family) {
    union {
        struct sockaddr any;
        struct sockaddr_in four;
        struct sockaddr_in6 six;
    } name = {0};
    uint16_t port = htons((uint16_t)rr_listener_port(s->listener));
    if (family == AF_INET) {
        name.four = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = port, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    } else {
        name.six = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = port, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    }
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(connect(fd, &name.any, family == AF_INET ? sizeof name.four : sizeof name.six), 0);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct timeval limit = {.tv_sec = 60};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    return fd;
}

static void put(int fd, const void *data, size_t size) {
    for (size_t at = 0; at < size;) {
        ssize_t n = send(fd, (const char *)data + at, size - at, MSG_NOSIGNAL);
        ck_assert_int_gt(n, 0);
        at += (size_t)n;
    }
}

static void get(int fd, void *data, size_t size) {
    for (size_t at = 0; at < size;) {
        ssize_t n = recv(fd, (char *)data + at, size - at, 0);
        ck_assert_msg(n > 0, "recv: %zd %s after %zu of %zu", n, strerror(errno), at, size);
        at += (size_t)n;
    }
}

static void put_frame(int fd, uint16_t cmd, const void *body, size_t size) {
    uint8_t head[RR_FRAME_HEADER];
    rr_frame_encode(head, (uint32_t)size, cmd, false);
    put(fd, head, sizeof head);
    put(fd, body, size);
}

static void expect_frame(int fd, uint16_t cmd, const void *body, size_t size) {
    uint8_t head[RR_FRAME_HEADER];
    get(fd, head, sizeof head);
    rr_frame_header_t h = rr_frame_decode(head, false);
    ck_assert_uint_eq(h.cmd, cmd);
    ck_assert_uint_eq(h.flag, 0);
    ck_assert_uint_eq(h.size, size);
    uint8_t *got = malloc(size + 1);
    get(fd, got, size);
    ck_assert_int_eq(memcmp(got, body, size), 0);
    free(got);
}

static void expect_end(int fd) {
    char byte;
    ssize_t n = recv(fd, &byte, 1, 0);
    ck_assert_msg(n == 0, "recv: %zd %s", n, strerror(errno));
}

/* Waits for a counter of the server, bounded. */
static void await(_Atomic(int) *value, int at_least) {
    for (int i = 0; i < 10000 && atomic_load(value) < at_least; i++) {
        poll(NULL, 0, 2);
    }
    ck_assert_int_ge(atomic_load(value), at_least);
}

START_TEST(small_messages_come_back) {
    server_t s;
    server_start(&s, "tcp://*:0", 1);
    int four = client(&s, AF_INET), six = client(&s, AF_INET6);
    for (int i = 0; i < 1000; i++) {
        put_frame(four, (uint16_t)i, "hello", 5);
        put_frame(six, (uint16_t)(i + 1), "", 0);
        expect_frame(four, (uint16_t)i, "hello", 5);
        expect_frame(six, (uint16_t)(i + 1), "", 0);
    }
    close(four);
    close(six);
    await(&s.closed, 2);
    ck_assert_int_eq(atomic_load(&s.reason), RR_CLOSE_PEER);
    server_stop(&s);
}
END_TEST

START_TEST(pipelined_and_large) {
    server_t s;
    server_start(&s, "tcp://127.0.0.1:0", 1);
    int fd = client(&s, AF_INET);
    size_t size = 900000;
    uint8_t *body = malloc(size);
    for (size_t i = 0; i < size; i++) {
        body[i] = (uint8_t)(i * 7 + (i >> 8));
    }
    for (int i = 0; i < 50; i++) {
        put_frame(fd, 1, body, 64);
    }
    put_frame(fd, 2, body, size);
    put_frame(fd, 3, body, 70000);
    put_frame(fd, 4, body, 5000);
    for (int i = 0; i < 50; i++) {
        expect_frame(fd, 1, body, 64);
    }
    expect_frame(fd, 2, body, size);
    expect_frame(fd, 3, body, 70000);
    expect_frame(fd, 4, body, 5000);
    free(body);
    close(fd);
    server_stop(&s);
}
END_TEST

START_TEST(slow_reader_is_bounded) {
    server_t s;
    server_start(&s, "tcp://127.0.0.1:0", 1);
    s.options.send_limit = 1; /* raised to its floor */
    int fd = client(&s, AF_INET);
    uint8_t *body = calloc(1, 500000);
    struct timeval limit = {.tv_sec = 5};
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    uint8_t head[RR_FRAME_HEADER];
    rr_frame_encode(head, 500000, 1, false);
    for (int i = 0; i < 200; i++) { /* never reads: the kernel's buffers fill, then ours */
        if (send(fd, head, sizeof head, MSG_NOSIGNAL) < 0 || send(fd, body, 500000, MSG_NOSIGNAL) < 0) {
            break;
        }
        if (atomic_load(&s.closed)) {
            break;
        }
    }
    await(&s.closed, 1);
    ck_assert_int_eq(atomic_load(&s.reason), RR_CLOSE_SLOW_READER);
    free(body);
    close(fd);
    server_stop(&s);
}
END_TEST

START_TEST(many_clients_are_dealt_evenly) {
    server_t s;
    server_start(&s, "tcp://127.0.0.1:0", 2);
    enum { CLIENTS = 200 };
    int fds[CLIENTS];
    for (int i = 0; i < CLIENTS; i++) {
        fds[i] = client(&s, AF_INET);
    }
    for (int i = 0; i < CLIENTS; i++) {
        put_frame(fds[i], (uint16_t)i, "x", 1);
    }
    for (int i = 0; i < CLIENTS; i++) {
        expect_frame(fds[i], (uint16_t)i, "x", 1);
    }
    ck_assert_int_eq(atomic_load(&s.by_loop[0]), CLIENTS / 2);
    ck_assert_int_eq(atomic_load(&s.by_loop[1]), CLIENTS / 2);
    rr_listener_stats_t stats;
    rr_listener_stats(s.listener, &stats);
    ck_assert_uint_eq(stats.accepted, CLIENTS);
    for (int i = 0; i < CLIENTS; i += 2) {
        close(fds[i]);
    }
    await(&s.closed, CLIENTS / 2);
    server_stop(&s); /* the rest is ended by the loops' end */
    for (int i = 1; i < CLIENTS; i += 2) {
        close(fds[i]);
    }
}
END_TEST

START_TEST(websocket_and_goodbye) {
    static const char request[] = "GET / HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: keep-alive, upgrade\r\n"
                                  "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n";
    static const uint8_t frame[] = {0x81, 0x8b, 0x37, 0xfa, 0x21, 0x3d, 0x54, 0x97, 0x45, 0x07, 0x06, 0xf0, 0x49, 0x58, 0x5b, 0x96, 0x4e};
    static const uint8_t answer[] = {0x81, 0x0b, 'c', 'm', 'd', ':', '1', '\n', 'h', 'e', 'l', 'l', 'o'};
    static const uint8_t bye[] = {0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8};
    server_t s;
    server_start(&s, "ws://127.0.0.1:0", 1);
    int fd = client(&s, AF_INET);
    char text[512] = "";
    for (size_t i = 0; i < sizeof request - 1; i++) {
        put(fd, request + i, 1);
    }
    put(fd, frame, sizeof frame);
    for (size_t n = 0; !strstr(text, "\r\n\r\n"); n++) {
        get(fd, text + n, 1);
    }
    ck_assert_ptr_nonnull(strstr(text, "101 Switching Protocols"));
    ck_assert_ptr_nonnull(strstr(text, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    uint8_t got[32];
    get(fd, got, sizeof answer);
    ck_assert_int_eq(memcmp(got, answer, sizeof answer), 0);
    put(fd, bye, sizeof bye);
    get(fd, got, 4);
    ck_assert_int_eq(memcmp(got, "\x88\x02\x03\xe8", 4), 0);
    expect_end(fd);
    close(fd);
    await(&s.closed, 1);
    ck_assert_int_eq(atomic_load(&s.reason), RR_CLOSE_PEER);
    server_stop(&s);
}
END_TEST

START_TEST(silent_clients_are_closed) {
    server_t s;
    server_start(&s, "tcp://127.0.0.1:0", 1);
    s.options.handshake_ms = 100;
    s.options.partial_ms = 100;
    int silent = client(&s, AF_INET);
    expect_end(silent);
    await(&s.closed, 1);
    ck_assert_int_eq(atomic_load(&s.reason), RR_CLOSE_LOGIN_TIMEOUT);
    int cut = client(&s, AF_INET);
    put_frame(cut, 1, "a", 1);
    put(cut, "\x05\0", 2);
    expect_frame(cut, 1, "a", 1);
    expect_end(cut);
    await(&s.closed, 2);
    ck_assert_int_eq(atomic_load(&s.reason), RR_CLOSE_STALLED);
    close(silent);
    close(cut);
    server_stop(&s);
}
END_TEST

START_TEST(port_in_use_is_said) {
    server_t s;
    server_start(&s, "tcp://127.0.0.1:0", 1);
    rr_address_t at = {.scheme = RR_SCHEME_TCP, .host = "127.0.0.1", .port = rr_listener_port(s.listener)};
    rr_listener_t *second;
    char why[512];
    ck_assert_int_eq(rr_listener_open(s.loops, 1, &at, on_accept, &s, &second, why, sizeof why), RR_EADDRINUSE);
    ck_assert_ptr_nonnull(strstr(why, "in use"));
    strcpy(at.host, "no.such.host.invalid");
    ck_assert_int_eq(rr_listener_open(s.loops, 1, &at, on_accept, &s, &second, why, sizeof why), RR_EINVAL);
    server_stop(&s);
}
END_TEST

START_TEST(out_of_descriptors_waits) {
    server_t s;
    server_start(&s, "tcp://127.0.0.1:0", 1);
    int first = client(&s, AF_INET), fds[3];
    await(&s.opened, 1);
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons((uint16_t)rr_listener_port(s.listener)),
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int highest = first;
    for (int i = 0; i < 3; i++) {
        fds[i] = socket(AF_INET, SOCK_STREAM, 0);
        highest = fds[i] > highest ? fds[i] : highest;
    }
    struct rlimit before, low;
    getrlimit(RLIMIT_NOFILE, &before);
    low = before;
    low.rlim_cur = (rlim_t)highest + 1; /* what is open stays open, nothing more can be */
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &low), 0);
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(connect(fds[i], (struct sockaddr *)&name, sizeof name), 0);
    }
    rr_listener_stats_t stats = {0};
    for (int i = 0; i < 10000 && stats.out_of_descriptors < 3; i++) {
        poll(NULL, 0, 2);
        rr_listener_stats(s.listener, &stats);
    }
    ck_assert_uint_eq(stats.out_of_descriptors, 3); /* looked at every 2 ms: it does not spin */
    put_frame(first, 1, "still served", 12);
    expect_frame(first, 1, "still served", 12);
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &before), 0);
    await(&s.opened, 4);
    for (int i = 0; i < 3; i++) {
        put_frame(fds[i], 2, "late", 4);
        expect_frame(fds[i], 2, "late", 4);
        close(fds[i]);
    }
    close(first);
    server_stop(&s);
}
END_TEST

START_TEST(idle_costs_nothing) {
    server_t s;
    server_start(&s, "tcp://127.0.0.1:0", 1);
    int fd = client(&s, AF_INET);
    put_frame(fd, 1, "x", 1);
    expect_frame(fd, 1, "x", 1);
    long switches = 1000;
    for (int i = 0; i < 5 && switches >= 50; i++) { /* on a busy machine the last of the work may be done late */
        struct rusage a, b;
        poll(NULL, 0, 600); /* past the last coarse deadline: what is measured is quiet, not this pause */
        getrusage(RUSAGE_SELF, &a);
        poll(NULL, 0, 1000);
        getrusage(RUSAGE_SELF, &b);
        switches = b.ru_nvcsw - a.ru_nvcsw;
    }
    ck_assert_msg(switches < 50, "%ld wake-ups in an idle second", switches);
    close(fd);
    server_stop(&s);
}
END_TEST

START_TEST(nodelay_is_inherited) {
    server_t s;
    server_start(&s, "tcp://127.0.0.1:0", 1);
    int fds[2] = {client(&s, AF_INET), 0};
    await(&s.opened, 1);
    /* The accepted descriptor is the only other connected socket with our port as its own. */
    int found = 0;
    for (int fd = 3; fd < 64; fd++) {
        struct sockaddr_in name;
        socklen_t size = sizeof name;
        int on = 0;
        socklen_t on_size = sizeof on;
        if (getpeername(fd, (struct sockaddr *)&name, &size) == 0) {
            size = sizeof name;
            getsockname(fd, (struct sockaddr *)&name, &size);
            if (ntohs(name.sin_port) == rr_listener_port(s.listener)) {
                ck_assert_int_eq(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, &on_size), 0);
                ck_assert_int_ne(on, 0);
                found++;
            }
        }
    }
    ck_assert_int_eq(found, 1);
    close(fds[0]);
    server_stop(&s);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("echo");
    TCase *tc = tcase_create("echo");
    tcase_add_test(tc, small_messages_come_back);
    tcase_add_test(tc, pipelined_and_large);
    tcase_add_test(tc, slow_reader_is_bounded);
    tcase_add_test(tc, many_clients_are_dealt_evenly);
    tcase_add_test(tc, websocket_and_goodbye);
    tcase_add_test(tc, silent_clients_are_closed);
    tcase_add_test(tc, port_in_use_is_said);
    tcase_add_test(tc, out_of_descriptors_waits);
    tcase_add_test(tc, idle_costs_nothing);
    tcase_add_test(tc, nodelay_is_inherited);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
