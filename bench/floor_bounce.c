/* What it costs to hand one cache line to another CPU and back, both spinning. On virtual machines it jumps by a factor of
 * four when the host moves a CPU: look here first when everything between two workers got slower at once. */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "bench/floor.h"

#define STOP UINT64_MAX

typedef struct bounce {
    /* The starter stores odd numbers, the other answers with the even one above; release and acquire, as a hand-over
     * of data would need. STOP ends the other side. */
    _Alignas(64) _Atomic(uint64_t) line;
} bounce_t;

static void *answer(void *context) {
    bounce_t *b = context;
    uint64_t seen;
    bench_pin(1);
    while ((seen = atomic_load_explicit(&b->line, memory_order_acquire)) != STOP)
        if (seen & 1)
            atomic_store_explicit(&b->line, seen + 1, memory_order_release);
        else
            bench_relax();
    return NULL;
}

static void round_trip(bounce_t *b, uint64_t number) {
    atomic_store_explicit(&b->line, number, memory_order_release);
    while (atomic_load_explicit(&b->line, memory_order_acquire) == number)
        bench_relax();
}

void floor_bounce(const floor_params_t *p, bench_run_t *out) {
    bounce_t b = {0};
    pthread_t thread;
    uint64_t count = 0, began, now;
    bench_pin(0);
    int rc = pthread_create(&thread, NULL, answer, &b);
    if (rc != 0)
        bench_die("pthread_create: %s", strerror(rc));
    began = bench_now_ns();
    do {
        for (unsigned i = 0; i < 1000; i++)
            round_trip(&b, 2 * count++ + 1);
        now = bench_now_ns();
    } while (now < began + (uint64_t)(p->duration * 1e9));
    atomic_store_explicit(&b.line, STOP, memory_order_release);
    pthread_join(thread, NULL);
    bench_metric(out, "round_trips", "/s", BENCH_HIGHER, (double)count / ((double)(now - began) / 1e9));
    bench_metric(out, "round_trip", "ns", BENCH_LOWER, (double)(now - began) / (double)count);
}
