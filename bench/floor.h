/* floor.h: the machine's own limits, in the units of the workloads that are measured against them. */
#ifndef RR_BENCH_FLOOR_H
#define RR_BENCH_FLOOR_H

#include "bench/bench.h"

typedef struct floor_params {
    double duration;
} floor_params_t;

/* An intrusive queue of many producers and one consumer (D. Vyukov), messages reused, nothing else: push, pop and a call
 * through a pointer on one thread; one producer thread to one consumer thread. Metric "messages". */
void floor_mpsc_one(const floor_params_t *p, bench_run_t *out);
void floor_mpsc_two(const floor_params_t *p, bench_run_t *out);

/* Two threads on two CPUs wake each other through a futex / through eventfd and epoll. Metric "round_trips", latency. */
void floor_wake_futex(const floor_params_t *p, bench_run_t *out);
void floor_wake_eventfd(const floor_params_t *p, bench_run_t *out);

/* Two spinning threads on two CPUs pass a cache line to and fro. Metric "round_trips". */
void floor_bounce(const floor_params_t *p, bench_run_t *out);

/* How late a thread that only looks at the clock notices a time 50,000 times a second: alone / beside one that spins.
 * Metrics "p99" and "p99.9", latency. */
void floor_poll(const floor_params_t *p, bench_run_t *out);
void floor_poll_busy(const floor_params_t *p, bench_run_t *out);

/* What a core issues: independent additions, and multiplications of which each waits for the one before. Metrics
 * "additions" and "multiplications". */
void floor_issue(const floor_params_t *p, bench_run_t *out);
/* Additions a second just now: 1 ms on each CPU that the calling thread may use, their mean. */
double floor_issue_now(void);

/* One of the above by name (mpsc1, mpsc2, bounce, futex, eventfd, poll, poll-busy, issue), once, in a child process. False: no such name. */
bool floor_run(const char *name, const floor_params_t *p, bench_run_t *out);

#endif
