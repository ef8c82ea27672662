/* mysql_tls.c: connecting with TLS, on a thread for each connect: libmariadb's handshake waits for the server whatever it is told, and
 * compares the certificate with the host's name only if it looks that up itself, which waits too.
 * libuv's threads would be too few: servers that do not answer would hold them all, and whoever else needs one.
 *
 * Meanwhile the MYSQL is that thread's. It is told to stop by shutting its socket: by a descriptor of our own, as the number of
 * libmariadb's may be somebody else's by then. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "actors/database/mysql_impl.h"

#define NONE (-1)

bool rr__my_tls(const rr__db_url_t *url) {
    const char *tls = rr__db_url_option(url, "tls");
    return tls && strcmp(tls, "off") != 0;
}

bool rr__my_tls_verify(const rr__db_url_t *url) {
    const char *tls = rr__db_url_option(url, "tls");
    return tls && strcmp(tls, "verify") == 0;
}

void rr__my_tls_options(MYSQL *mysql, const rr__db_url_t *url, unsigned timeout_ms) {
    const char *ca = rr__db_url_option(url, "ca");
    unsigned seconds = (timeout_ms + 999) / 1000; /* of each wait of the handshake */
    unsigned tcp = MYSQL_PROTOCOL_TCP; /* also to "localhost" */
    my_bool yes = 1;
    if (!rr__db_url_option(url, "socket"))
        mysql_options(mysql, MYSQL_OPT_PROTOCOL, &tcp);
    mysql_options(mysql, MYSQL_OPT_CONNECT_TIMEOUT, &seconds);
    mysql_optionsv(mysql, MYSQL_OPT_SSL_ENFORCE, &yes);
    if (ca)
        mysql_optionsv(mysql, MYSQL_OPT_SSL_CA, ca);
    if (rr__my_tls_verify(url))
        mysql_optionsv(mysql, MYSQL_OPT_SSL_VERIFY_SERVER_CERT, &yes);
}

/* ---- Stopping ---- */

static void drop_twin(my_link_t *link, bool shut) {
    int twin = atomic_exchange(&link->twin, NONE);
    if (twin == NONE)
        return;
    if (shut)
        (void)shutdown(twin, SHUT_RDWR); /* it may not be connected, or not any more */
    (void)close(twin);
}

/* Either the loop sees our twin, or we see its `stop`: sequentially consistent, both. */
static void keep_twin(my_link_t *link, int fd) {
    drop_twin(link, false);
    int twin = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    atomic_store(&link->twin, twin < 0 ? NONE : twin);
    if (atomic_load(&link->stop))
        drop_twin(link, true);
}

void rr__my_tls_stop(my_link_t *link) {
    atomic_store(&link->stop, true);
    drop_twin(link, true);
}

/* ---- The thread ---- */

static uint64_t now_ms(void) { return uv_hrtime() / 1000000; }

/* What came of what is waited for. When the time is over, or we are to stop: all of it, on a shut socket. */
static int wait_for(my_link_t *link, int waits, uint64_t until_ms) {
    int fd = mysql_get_socket(link->mysql);
    struct pollfd poll_fd = {.fd = fd,
                             .events = (short)((waits & MYSQL_WAIT_READ ? POLLIN : 0) | (waits & MYSQL_WAIT_WRITE ? POLLOUT : 0) |
                                               (waits & MYSQL_WAIT_EXCEPT ? POLLPRI : 0))};
    keep_twin(link, fd);
    uint64_t now = now_ms();
    int ready = 0;
    if (now < until_ms && !atomic_load(&link->stop)) {
        while ((ready = poll(&poll_fd, 1, (int)(until_ms - now))) < 0 && errno == EINTR)
            continue;
    }
    if (ready <= 0)
        (void)shutdown(fd, SHUT_RDWR);
    int came = (poll_fd.revents & (POLLIN | POLLHUP | POLLERR) ? MYSQL_WAIT_READ : 0) |
               (poll_fd.revents & (POLLOUT | POLLHUP | POLLERR) ? MYSQL_WAIT_WRITE : 0) |
               (poll_fd.revents & POLLPRI ? MYSQL_WAIT_EXCEPT : 0);
    return waits & came ? waits & came : waits & ~MYSQL_WAIT_TIMEOUT;
}

static void connect_here(void *context) {
    my_link_t *link = context;
    const rr__db_url_t *url = link->url;
    const char *socket = rr__db_url_option(url, "socket");
    uint64_t until = now_ms() + link->timeout_ms;
    int waits = mysql_real_connect_start(&link->opened, link->mysql, socket ? NULL : url->host[0] ? url->host : "127.0.0.1", url->user,
                                         url->password, url->database[0] ? url->database : NULL,
                                         socket ? 0 : url->port ? url->port : 3306, socket, 0);
    while (waits)
        waits = mysql_real_connect_cont(&link->opened, link->mysql, wait_for(link, waits, until));
    drop_twin(link, false);
    uv_async_send(&link->back); /* the last thing it does */
}

static void on_back(uv_async_t *back) {
    my_link_t *link = back->data;
    if (uv_thread_join(&link->thread) == 0) /* it has nothing left to do but to end */
        rr__my_works_no_more(link);
}

int rr__my_tls_connect(my_link_t *link) {
    atomic_init(&link->twin, NONE);
    atomic_init(&link->stop, false);
    if (uv_async_init(rr_loop_uv(link->loop), &link->back, on_back) != 0)
        return RR_ENOMEM;
    link->back.data = link;
    link->has_back = true;
    link->handles++;
    return uv_thread_create(&link->thread, connect_here, link) == 0 ? RR_OK : RR_ENOMEM;
}
