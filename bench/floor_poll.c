/* How late a thread notices that a time has come, though it does nothing but look at the clock: what the kernel and the
 * host leave of a CPU. Alone, a second CPU takes what else has to run; with a thread that spins beside it there is none,
 * and every wake-up on the machine costs one of the two a turn. */
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "bench/floor.h"
#include "bench/histogram.h"

#define GAP_NS 20000u

static void *spin(void *context) {
    while (!atomic_load_explicit((atomic_bool *)context, memory_order_relaxed))
        bench_relax();
    return NULL;
}

static uint64_t watch(histogram_t *late, uint64_t until) {
    uint64_t due = bench_now_ns() + GAP_NS, now;
    while ((now = bench_now_ns()) < until)
        for (; due <= now; due += GAP_NS)
            histogram_record(late, now - due);
    return late->total;
}

static void poll_clock(const floor_params_t *p, bench_run_t *out, unsigned neighbours) {
    pthread_t threads[8];
    atomic_bool stop = false; /* stored once by this thread, only tells the spinning ones to end: relaxed */
    histogram_t *late = histogram_new();
    for (unsigned i = 0; i < neighbours; i++) {
        int rc = pthread_create(&threads[i], NULL, spin, &stop);
        if (rc != 0)
            bench_die("pthread_create: %s", strerror(rc));
    }
    (void)watch(late, bench_now_ns() + 100000000); /* until the kernel has spread them over the CPUs */
    histogram_reset(late);
    uint64_t looks = watch(late, bench_now_ns() + (uint64_t)(p->duration * 1e9));
    atomic_store_explicit(&stop, true, memory_order_relaxed);
    for (unsigned i = 0; i < neighbours; i++)
        pthread_join(threads[i], NULL);
    bench_metric(out, "calls", "/s", BENCH_INFO, (double)looks / p->duration);
    bench_metric(out, "p99", "us", BENCH_LOWER, (double)histogram_percentile(late, 99) / 1e3);
    bench_metric(out, "p99.9", "us", BENCH_LOWER, (double)histogram_percentile(late, 99.9) / 1e3);
    bench_latency(out, "late", late);
    histogram_free(late);
}

void floor_poll(const floor_params_t *p, bench_run_t *out) { poll_clock(p, out, 0); }
void floor_poll_busy(const floor_params_t *p, bench_run_t *out) { poll_clock(p, out, 1); }
