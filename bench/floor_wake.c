/* What it costs to wake a sleeping thread on another CPU, there and back. */
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "bench/floor.h"

typedef struct side {
    _Alignas(64) _Atomic(uint32_t) word; /* futex: the other side stores 1 (release), this one waits and clears (acquire) */
    int event, epoll;
} side_t;

typedef struct wake {
    side_t sides[2];
    bool futex;
    atomic_bool stop; /* stored before the last signal (release), read after it (acquire) */
} wake_t;

static void signal_side(const wake_t *w, side_t *s) {
    if (w->futex) {
        atomic_store_explicit(&s->word, 1, memory_order_release);
        syscall(SYS_futex, &s->word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
        return;
    }
    uint64_t one = 1;
    if (write(s->event, &one, sizeof one) != sizeof one)
        bench_die("eventfd: %s", strerror(errno));
}

static void wait_side(const wake_t *w, side_t *s) {
    if (w->futex) {
        while (atomic_exchange_explicit(&s->word, 0, memory_order_acquire) == 0)
            syscall(SYS_futex, &s->word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
        return;
    }
    struct epoll_event event;
    uint64_t count;
    while (epoll_wait(s->epoll, &event, 1, -1) != 1) {
    }
    if (read(s->event, &count, sizeof count) != sizeof count)
        bench_die("eventfd: %s", strerror(errno));
}

static void open_side(side_t *s) {
    struct epoll_event event = {.events = EPOLLIN};
    s->event = eventfd(0, EFD_CLOEXEC);
    s->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (s->event < 0 || s->epoll < 0 || epoll_ctl(s->epoll, EPOLL_CTL_ADD, s->event, &event) != 0)
        bench_die("eventfd: %s", strerror(errno));
}

static void *answer(void *context) {
    wake_t *w = context;
    bench_pin(1);
    do {
        wait_side(w, &w->sides[1]);
        signal_side(w, &w->sides[0]);
    } while (!atomic_load_explicit(&w->stop, memory_order_acquire));
    return NULL;
}

static void round_trip(wake_t *w) {
    signal_side(w, &w->sides[1]);
    wait_side(w, &w->sides[0]);
}

static void run(const floor_params_t *p, bench_run_t *out, bool futex) {
    wake_t *w = aligned_alloc(64, sizeof *w);
    pthread_t thread;
    histogram_t *h = histogram_new();
    if (!w)
        bench_die("out of memory");
    memset(w, 0, sizeof *w);
    w->futex = futex;
    open_side(&w->sides[0]);
    open_side(&w->sides[1]);
    bench_pin(0);
    int rc = pthread_create(&thread, NULL, answer, w);
    if (rc != 0)
        bench_die("pthread_create: %s", strerror(rc));
    uint64_t began = bench_now_ns(), before = began, now = began;
    while (now < began + (uint64_t)(p->duration * 1e9)) {
        round_trip(w);
        now = bench_now_ns();
        histogram_record(h, now - before);
        before = now;
    }
    atomic_store_explicit(&w->stop, true, memory_order_release);
    round_trip(w);
    pthread_join(thread, NULL);
    bench_metric(out, "round_trips", "/s", BENCH_HIGHER, (double)h->total / ((double)(now - began) / 1e9));
    bench_latency(out, "round trip", h);
    histogram_free(h);
    free(w);
}

void floor_wake_futex(const floor_params_t *p, bench_run_t *out) { run(p, out, true); }
void floor_wake_eventfd(const floor_params_t *p, bench_run_t *out) { run(p, out, false); }
