/* faults.h: a proxy between two nodes, on a thread of its own, that forwards bytes and can cut, freeze, delay and spoil
 * them. */
#ifndef RR_TESTS_NET_FAULTS_H
#define RR_TESTS_NET_FAULTS_H

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include "nodes.h"

#define FAULT_PAIRS  16
#define FAULT_BUFFER 16384

typedef struct fault_pipe { /* one direction */
    uint8_t data[FAULT_BUFFER];
    size_t used;
    uint64_t since_ns; /* when the first byte came in */
} fault_pipe_t;

typedef struct fault_pair {
    int fd[2]; /* who dialled us, and where we dialled; -1 = free */
    fault_pipe_t to[2];
} fault_pair_t;

typedef struct faults {
    int listener, port, target;
    char address[64];
    pthread_t thread;
    /* The test writes, the thread reads; relaxed orders would do. */
    _Atomic(int) stop, frozen, refuse, delay_ms, spoil_in; /* spoil_in: a byte is flipped after so many */
    _Atomic(int) cut_every_bytes; /* 0 = never; each pair is reset once so many bytes have gone through it */
    _Atomic(int) cut_now;
    _Atomic(int) cuts, live; /* the thread writes */
    _Atomic(uint64_t) heard_ns; /* the thread writes: before this, who dialled us was sent its last byte */
    fault_pair_t pairs[FAULT_PAIRS];
    uint64_t passed[FAULT_PAIRS];
    unsigned seed;
} faults_t;

static void fault_reset(faults_t *f, fault_pair_t *p) {
    struct linger hard = {1, 0}; /* RST: what is under way is lost */
    for (int side = 0; side < 2; side++) {
        setsockopt(p->fd[side], SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
        close(p->fd[side]);
        p->fd[side] = -1;
        p->to[side].used = 0;
    }
    atomic_fetch_sub(&f->live, 1);
}

static void fault_accept(faults_t *f) {
    int fd = accept4(f->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
        return;
    }
    struct sockaddr_in at = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)f->target), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int out = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
    fault_pair_t *p = NULL;
    for (int i = 0; i < FAULT_PAIRS && !p; i++) {
        p = f->pairs[i].fd[0] < 0 ? &f->pairs[i] : NULL;
    }
    if (!p || atomic_load(&f->refuse) || connect(out, (struct sockaddr *)&at, sizeof at) != 0) {
        close(fd);
        close(out);
        return;
    }
    fcntl(out, F_SETFL, O_NONBLOCK);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(out, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    p->fd[0] = fd;
    p->fd[1] = out;
    p->to[0].used = p->to[1].used = 0;
    f->passed[p - f->pairs] = 0;
    atomic_fetch_add(&f->live, 1);
}

/* Bytes in from one side. False: it is over. */
static bool fault_read(faults_t *f, fault_pair_t *p, int side) {
    fault_pipe_t *pipe = &p->to[!side];
    if (pipe->used == FAULT_BUFFER) {
        return true;
    }
    ssize_t n = recv(p->fd[side], pipe->data + pipe->used, FAULT_BUFFER - pipe->used, 0);
    if (n <= 0) {
        return n < 0 && (errno == EAGAIN || errno == EINTR);
    }
    int spoil = atomic_load(&f->spoil_in);
    if (spoil > 0 && spoil <= n) {
        pipe->data[pipe->used + (size_t)spoil - 1] ^= 0x55;
    }
    if (spoil > 0) {
        atomic_store(&f->spoil_in, spoil > n ? spoil - (int)n : 0);
    }
    pipe->since_ns = pipe->used ? pipe->since_ns : now_ns();
    pipe->used += (size_t)n;
    f->passed[p - f->pairs] += (uint64_t)n;
    return true;
}

static bool fault_write(faults_t *f, fault_pair_t *p, int side) {
    fault_pipe_t *pipe = &p->to[side];
    uint64_t delay = (uint64_t)atomic_load(&f->delay_ms) * 1000000;
    if (!pipe->used || now_ns() < pipe->since_ns + delay) {
        return true;
    }
    ssize_t n = send(p->fd[side], pipe->data, pipe->used, MSG_NOSIGNAL);
    if (n < 0) {
        return errno == EAGAIN || errno == EINTR;
    }
    if (side == 0) {
        atomic_store(&f->heard_ns, now_ns());
    }
    pipe->used -= (size_t)n;
    memmove(pipe->data, pipe->data + n, pipe->used);
    return true;
}

static void *fault_main(void *context) {
    faults_t *f = context;
    while (!atomic_load(&f->stop)) {
        struct pollfd fds[1 + 2 * FAULT_PAIRS] = {{.fd = f->listener, .events = POLLIN}};
        bool frozen = atomic_load(&f->frozen);
        for (int i = 0; i < FAULT_PAIRS; i++) {
            for (int side = 0; side < 2; side++) {
                fault_pair_t *p = &f->pairs[i];
                struct pollfd *at = &fds[1 + 2 * i + side];
                at->fd = frozen ? -1 : p->fd[side];
                at->events = (short)((p->to[!side].used < FAULT_BUFFER ? POLLIN : 0) |
                                     (p->to[side].used && !atomic_load(&f->delay_ms) ? POLLOUT : 0));
            }
        }
        poll(fds, 1 + 2 * FAULT_PAIRS, 1);
        if (fds[0].revents) {
            fault_accept(f);
        }
        bool now = atomic_exchange(&f->cut_now, 0);
        for (int i = 0; i < FAULT_PAIRS; i++) {
            fault_pair_t *p = &f->pairs[i];
            if (p->fd[0] < 0 || (frozen && !now)) {
                continue;
            }
            int every = atomic_load(&f->cut_every_bytes);
            bool ok = fault_read(f, p, 0) && fault_read(f, p, 1) && fault_write(f, p, 0) && fault_write(f, p, 1);
            if (now || !ok || (every && f->passed[i] >= (uint64_t)every / 2 + (uint64_t)(rand_r(&f->seed) % every))) {
                fault_reset(f, p);
                atomic_fetch_add(&f->cuts, 1);
            }
        }
    }
    for (int i = 0; i < FAULT_PAIRS; i++) {
        if (f->pairs[i].fd[0] >= 0) {
            fault_reset(f, &f->pairs[i]);
        }
    }
    close(f->listener);
    return NULL;
}

/* Stands before the node port of `n`. */
static faults_t *faults_start(const node_t *n) {
    faults_t *f = calloc(1, sizeof *f);
    f->seed = 7;
    f->target = atoi(strrchr(n->who.address, ':') + 1);
    for (int i = 0; i < FAULT_PAIRS; i++) {
        f->pairs[i].fd[0] = f->pairs[i].fd[1] = -1;
    }
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof at;
    f->listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(f->listener, (struct sockaddr *)&at, sizeof at), 0);
    ck_assert_int_eq(listen(f->listener, 64), 0);
    ck_assert_int_eq(getsockname(f->listener, (struct sockaddr *)&at, &size), 0);
    snprintf(f->address, sizeof f->address, "tcp://127.0.0.1:%u", ntohs(at.sin_port));
    ck_assert_int_eq(pthread_create(&f->thread, NULL, fault_main, f), 0);
    return f;
}

static void faults_stop(faults_t *f) {
    atomic_store(&f->stop, 1);
    pthread_join(f->thread, NULL);
    free(f);
}

#endif
