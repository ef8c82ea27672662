/* join.c: asking for a node id, before there is a system or a loop: a blocking socket with a deadline, and the
 * dialler's half of the handshake. */
#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/address.h"
#include "net/node_frame.h"
#include "runtime/clock.h"
#include "runtime/random.h"

#define NO_NODE_PORT "this is no port for nodes: name the master's node port, not a gate's"

typedef struct join {
    int fd;
    uint64_t deadline_ms;
    const char *address;
    char *why;
    size_t why_size;
    uint8_t frame[RR_NODE_HEADER + RR_NODE_HELLO_MAX]; /* received last */
    rr_node_header_t h;
    uint8_t hello[RR_NODE_HELLO_MAX], challenge[RR_NODE_HELLO_MAX];
    size_t hello_size, challenge_size;
} join_t;

static int fail(join_t *j, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));
static int fail(join_t *j, int code, const char *format, ...) {
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (j->why && j->why_size) {
        snprintf(j->why, j->why_size, "cannot join the group at %s: %s", j->address, text);
    }
    return code;
}

static int await(join_t *j, short events) {
    for (;;) {
        uint64_t now = rr_machine_ms();
        struct pollfd p = {.fd = j->fd, .events = events};
        int rc = now >= j->deadline_ms ? 0 : poll(&p, 1, (int)(j->deadline_ms - now));
        if (rc > 0) {
            return RR_OK;
        }
        if (rc == 0) {
            return fail(j, RR_TIMEOUT, "no answer in time");
        }
        if (errno != EINTR) {
            return fail(j, RR_EIO, "%s", strerror(errno));
        }
    }
}

static int connect_one(join_t *j, const struct addrinfo *info) {
    j->fd = socket(info->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (j->fd < 0) {
        return fail(j, RR_EIO, "%s", strerror(errno));
    }
    int error = connect(j->fd, info->ai_addr, info->ai_addrlen) == 0 ? 0 : errno;
    if (error == EINPROGRESS) {
        int rc = await(j, POLLOUT);
        if (rc != RR_OK) {
            return rc;
        }
        socklen_t size = sizeof error;
        getsockopt(j->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    }
    return error ? fail(j, RR_EIO, "%s", strerror(error)) : RR_OK;
}

static int connect_any(join_t *j, const rr_address_t *address) {
    char port[8];
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV}, *list;
    snprintf(port, sizeof port, "%u", address->port);
    int error = getaddrinfo(address->host, port, &hints, &list);
    if (error) {
        /* Without an answer it may be a network that comes up yet; a name that does not exist is a mistake. */
        return fail(j, error == EAI_AGAIN ? RR_EIO : RR_EINVAL, "%s", gai_strerror(error));
    }
    int rc = RR_EIO;
    for (const struct addrinfo *info = list; info && rc != RR_OK; info = info->ai_next) {
        if (j->fd >= 0) {
            close(j->fd);
        }
        rc = connect_one(j, info);
    }
    freeaddrinfo(list);
    return rc;
}

static int write_all(join_t *j, const uint8_t *data, size_t size) {
    while (size) {
        ssize_t n = send(j->fd, data, size, MSG_NOSIGNAL);
        if (n > 0) {
            data += n;
            size -= (size_t)n;
        } else if (errno == EAGAIN) {
            int rc = await(j, POLLOUT);
            if (rc != RR_OK) {
                return rc;
            }
        } else if (errno != EINTR) {
            return fail(j, RR_EIO, "%s", strerror(errno));
        }
    }
    return RR_OK;
}

static int read_all(join_t *j, uint8_t *data, size_t size) {
    while (size) {
        int rc = await(j, POLLIN);
        if (rc != RR_OK) {
            return rc;
        }
        ssize_t n = recv(j->fd, data, size, 0);
        if (n == 0) {
            return fail(j, RR_EIO, "the connection was closed: is this the port for nodes?");
        }
        if (n > 0) {
            data += n;
            size -= (size_t)n;
        } else if (errno != EINTR && errno != EAGAIN) {
            return fail(j, RR_EIO, "%s", strerror(errno));
        }
    }
    return RR_OK;
}

/* The next frame, which must be of that type. */
static int read_frame(join_t *j, rr_node_type_t type) {
    int rc = read_all(j, j->frame, RR_NODE_HEADER);
    if (rc != RR_OK) {
        return rc;
    }
    j->h = rr_node_header_get(j->frame);
    if (j->h.size > RR_NODE_HELLO_MAX) {
        return fail(j, RR_EPROTO, NO_NODE_PORT);
    }
    rc = read_all(j, j->frame + RR_NODE_HEADER, j->h.size);
    rr_node_refusal_t refusal;
    if (rc == RR_OK && j->h.type == RR_NODE_REFUSE &&
        rr_node_refuse_decode(j->frame + RR_NODE_HEADER, j->h.size, &refusal)) {
        return fail(j, refusal.code == RR_EACCES ? RR_EACCES : RR_EREFUSED, "it refuses: %s", refusal.why);
    }
    return rc != RR_OK || j->h.type == type ? rc : fail(j, RR_EPROTO, NO_NODE_PORT);
}

static int greet(join_t *j, const rr_node_identity_t *self, rr_node_hello_t *theirs) {
    uint8_t frame[RR_NODE_HEADER + RR_NODE_HELLO_MAX];
    rr_node_hello_t hello = {.protocol = RR_NODE_PROTOCOL, .join = true, .who = *self};
    hello.who.node = 0;
    int rc = rr_random_os(hello.nonce, sizeof hello.nonce);
    if (rc != RR_OK) {
        return fail(j, rc, "no randomness");
    }
    size_t size = rr_node_hello_encode(frame, RR_NODE_HELLO, &hello);
    j->hello_size = size - RR_NODE_HEADER;
    memcpy(j->hello, frame + RR_NODE_HEADER, j->hello_size);
    rc = write_all(j, frame, size);
    if (rc == RR_OK) {
        rc = read_frame(j, RR_NODE_CHALLENGE);
    }
    if (rc != RR_OK) {
        return rc;
    }
    j->challenge_size = j->h.size;
    memcpy(j->challenge, j->frame + RR_NODE_HEADER, j->h.size);
    rc = rr_node_hello_decode(j->challenge, j->challenge_size, theirs);
    if (rc == RR_EUNSUPPORTED) {
        return fail(j, RR_EREFUSED, "the versions of the node protocol differ, %u and %u: run the same redrabbit everywhere",
                    theirs->protocol, RR_NODE_PROTOCOL);
    }
    if (rc != RR_OK) {
        return fail(j, RR_EPROTO, NO_NODE_PORT);
    }
    if (strcmp(theirs->who.group, self->group) != 0) {
        return fail(j, RR_EREFUSED, "the groups differ, '%s' and '%s': give both the same -group, or the right address",
                    theirs->who.group, self->group);
    }
    return RR_OK;
}

static int prove(join_t *j, const void *key, size_t key_size, unsigned *given) {
    uint8_t proof[RR_NODE_PROOF], frame[RR_NODE_AUTH_SIZE];
    if (!rr_node_proof(proof, key, key_size, 'd', j->hello, j->hello_size, j->challenge, j->challenge_size, 0)) {
        return fail(j, RR_ENOMEM, "out of memory");
    }
    int rc = write_all(j, frame, rr_node_auth_encode(frame, proof));
    if (rc == RR_OK) {
        rc = read_frame(j, RR_NODE_WELCOME);
    }
    if (rc != RR_OK) {
        return rc;
    }
    if (j->h.size != RR_NODE_WELCOME_SIZE - RR_NODE_HEADER) {
        return fail(j, RR_EPROTO, NO_NODE_PORT);
    }
    const uint8_t *body = j->frame + RR_NODE_HEADER;
    *given = rr__get16(body + RR_NODE_PROOF);
    if (!rr_node_proof(proof, key, key_size, 'a', j->hello, j->hello_size, j->challenge, j->challenge_size, *given)) {
        return fail(j, RR_ENOMEM, "out of memory");
    }
    if (!rr_node_proof_equal(proof, body) || !*given) {
        return fail(j, RR_EACCES, "it cannot prove that it has the cluster key");
    }
    return RR_OK;
}

int rr_node_join(const char *address, const void *key, size_t key_size, rr_node_identity_t *self,
                 rr_node_identity_t *master, unsigned deadline_ms, char *why, size_t why_size) {
    join_t *j = calloc(1, sizeof *j);
    if (!j) {
        return RR_ENOMEM;
    }
    *j = (join_t){
        .fd = -1, .deadline_ms = rr_machine_ms() + deadline_ms, .address = address, .why = why, .why_size = why_size};
    rr_address_t at;
    rr_node_hello_t theirs;
    unsigned given = 0;
    int rc = rr_address_parse(address, &at, why, why_size);
    if (rc != RR_OK) {
        goto out;
    }
    if (!key_size && !rr_address_is_loopback(&at)) {
        rc = fail(j, RR_EACCES, "it is on another machine: a cluster key is needed (-cluster_key)");
        goto out;
    }
    rc = connect_any(j, &at);
    if (rc == RR_OK) {
        rc = greet(j, self, &theirs);
    }
    if (rc == RR_OK) {
        rc = prove(j, key, key_size, &given);
    }
    if (rc == RR_OK) {
        self->node = given;
        *master = theirs.who;
    }
out:
    if (j->fd >= 0) {
        close(j->fd);
    }
    free(j);
    return rc;
}
