#include "python/poller.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

static struct {
    pthread_mutex_t lock; /* everything; held around a wake, which only posts, so that removal is final */
    pthread_t thread;
    int epoll, stop; /* stop: an eventfd */
    bool running;
    uint64_t last_id; /* events name scripts by number: a stale one finds nobody */
    rr_script_t *first;
} poller = {.lock = PTHREAD_MUTEX_INITIALIZER, .epoll = -1, .stop = -1};

static void wake(uint64_t id) {
    pthread_mutex_lock(&poller.lock);
    for (rr_script_t *script = poller.first; script; script = script->poll_next) {
        if (script->poll_id == id) {
            script->host.wake_threadsafe(script->context);
            break;
        }
    }
    pthread_mutex_unlock(&poller.lock);
}

static void *watch_all(void *unused) {
    struct epoll_event events[32];
    for (;;) {
        int count = epoll_wait(poller.epoll, events, 32, -1);
        if (count < 0 && errno != EINTR)
            return NULL;
        for (int i = 0; i < count; i++) {
            if (!events[i].data.u64)
                return NULL; /* rr__poller_stop */
            wake(events[i].data.u64);
        }
    }
}

static int start(void) {
    if (poller.running)
        return RR_OK;
    poller.epoll = epoll_create1(EPOLL_CLOEXEC);
    poller.stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = 0};
    if (poller.epoll >= 0 && poller.stop >= 0 && epoll_ctl(poller.epoll, EPOLL_CTL_ADD, poller.stop, &event) == 0 &&
        pthread_create(&poller.thread, NULL, watch_all, NULL) == 0) {
        poller.running = true;
        return RR_OK;
    }
    if (poller.epoll >= 0)
        close(poller.epoll);
    if (poller.stop >= 0)
        close(poller.stop);
    poller.epoll = poller.stop = -1;
    return RR_EIO;
}

int rr__poller_add(rr_script_t *script) {
    pthread_mutex_lock(&poller.lock);
    int rc = start();
    if (rc == RR_OK) {
        struct epoll_event event = {.events = EPOLLIN | EPOLLONESHOT, .data.u64 = poller.last_id + 1};
        rc = epoll_ctl(poller.epoll, EPOLL_CTL_ADD, script->loop_fd, &event) == 0 ? RR_OK : RR_EIO;
    }
    if (rc == RR_OK) {
        script->poll_id = ++poller.last_id;
        script->poll_next = poller.first;
        poller.first = script;
    }
    pthread_mutex_unlock(&poller.lock);
    return rc;
}

void rr__poller_arm(rr_script_t *script) {
    struct epoll_event event = {.events = EPOLLIN | EPOLLONESHOT, .data.u64 = script->poll_id};
    if (epoll_ctl(poller.epoll, EPOLL_CTL_MOD, script->loop_fd, &event) != 0)
        script->host.wake(script->context); /* cannot be: then at least keep turning */
}

void rr__poller_remove(rr_script_t *script) {
    pthread_mutex_lock(&poller.lock);
    for (rr_script_t **at = &poller.first; *at; at = &(*at)->poll_next) {
        if (*at == script) {
            *at = script->poll_next;
            script->poll_id = 0;
            if (epoll_ctl(poller.epoll, EPOLL_CTL_DEL, script->loop_fd, NULL) != 0)
                script->loop_fd = -1; /* the loop closed it already */
            break;
        }
    }
    pthread_mutex_unlock(&poller.lock);
}

void rr__poller_stop(void) {
    pthread_mutex_lock(&poller.lock);
    bool running = poller.running;
    poller.running = false;
    uint64_t one = 1;
    if (running && write(poller.stop, &one, sizeof one) != (ssize_t)sizeof one)
        running = false; /* an eventfd always takes one; if not, better a thread left than a hang */
    pthread_mutex_unlock(&poller.lock);
    if (!running)
        return;
    pthread_join(poller.thread, NULL);
    close(poller.epoll);
    close(poller.stop);
}
