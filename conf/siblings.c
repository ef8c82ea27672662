#include "conf/siblings.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define VARIABLE "REDRABBIT_UP_FD"

struct rr_siblings {
    int fd, stop_fd;
    void (*dead)(void *context, const rr_sibling_t *dead);
    void *context;
    pthread_t thread;
};

/* ---- In `redrabbit up` ---- */

bool rr_siblings_pair(int ends[2]) { return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) == 0; }

bool rr_siblings_pass(int end) {
    char text[16];
    snprintf(text, sizeof text, "%d", end);
    return fcntl(end, F_SETFD, 0) == 0 && setenv(VARIABLE, text, 1) == 0;
}

/* False: nothing is there (now), or nothing that makes sense. Of an end that was closed with something unread the first call says
 * just that, before what it had sent. */
static bool take(int fd, rr_sibling_t *out) {
    ssize_t got = recv(fd, out, sizeof *out, MSG_TRUNC);
    if (got < 0 && errno == ECONNRESET)
        got = recv(fd, out, sizeof *out, MSG_TRUNC);
    return got == (ssize_t)sizeof *out;
}

static bool say(int fd, const rr_sibling_t *who) { return send(fd, who, sizeof *who, MSG_NOSIGNAL) == (ssize_t)sizeof *who; }

bool rr_siblings_who(int end, rr_sibling_t *out) { return take(end, out); }

void rr_siblings_tell(int end, const rr_sibling_t *dead) { (void)say(end, dead); }

/* ---- In a node ---- */

int rr_siblings_take(void) {
    const char *text = getenv(VARIABLE);
    int fd = text ? atoi(text) : -1, type = 0;
    socklen_t size = sizeof type;
    unsetenv(VARIABLE);
    /* A process further down may have the variable, but not the socket. */
    bool ours = fd > 2 && getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0 && type == SOCK_SEQPACKET;
    return ours && fcntl(fd, F_SETFD, FD_CLOEXEC) == 0 ? fd : -1;
}

static void *run(void *arg) {
    rr_siblings_t *siblings = arg;
    rr_sibling_t dead;
    bool open = true;
    pthread_setname_np(pthread_self(), "siblings");
    for (;;) {
        struct pollfd fds[] = {{.fd = siblings->stop_fd, .events = POLLIN}, {.fd = open ? siblings->fd : -1, .events = POLLIN}};
        int n = poll(fds, 2, -1);
        if (fds[0].revents || (n < 0 && errno != EINTR))
            return NULL;
        while (n > 0 && fds[1].revents && take(siblings->fd, &dead))
            siblings->dead(siblings->context, &dead);
        open = open && !(n > 0 && (fds[1].revents & (POLLHUP | POLLERR))); /* `up` has ended: so does this process, soon */
    }
}

static void free_all(rr_siblings_t *siblings) {
    if (siblings->stop_fd >= 0)
        close(siblings->stop_fd);
    close(siblings->fd);
    free(siblings);
}

int rr_siblings_start(int fd, const rr_sibling_t *self, void (*dead)(void *context, const rr_sibling_t *dead), void *context,
                      rr_siblings_t **out) {
    rr_siblings_t *siblings = calloc(1, sizeof *siblings);
    if (!siblings) {
        close(fd);
        return RR_ENOMEM;
    }
    *siblings = (rr_siblings_t){.fd = fd, .stop_fd = eventfd(0, EFD_CLOEXEC), .dead = dead, .context = context};
    int rc = siblings->stop_fd >= 0 && say(fd, self) && pthread_create(&siblings->thread, NULL, run, siblings) == 0 ? RR_OK : RR_EIO;
    if (rc == RR_OK)
        *out = siblings;
    else
        free_all(siblings);
    return rc;
}

void rr_siblings_stop(rr_siblings_t *siblings) {
    if (!siblings)
        return;
    (void)eventfd_write(siblings->stop_fd, 1); /* cannot fail: nobody else writes it */
    pthread_join(siblings->thread, NULL);
    free_all(siblings);
}
