/* cluster.h: what the workloads of `rr-bench cluster` share. A run has a process for each node, one CPU each where there are
 * enough; the floor is a pair of processes with nothing but libuv and frames of a length between them. */
#ifndef RR_BENCH_CLUSTER_H
#define RR_BENCH_CLUSTER_H

#include "bench/bench.h"

typedef struct cluster_params {
    double duration, warmup;
    uint64_t size;        /* of a body */
    uint64_t outstanding; /* call: in flight */
    bool relay;           /* the two nodes reach each other through a third only */
    bool guest;           /* the links' loops may run the actors where they share a CPU with them (executor.h) */
    bool pinned;          /* actors live on the loops of their nodes' links, not on core workers */
} cluster_params_t;

typedef struct cluster_workload {
    const char *name, *summary;
    void (*run)(const cluster_params_t *p, bench_run_t *out);
    void (*floor)(const cluster_params_t *p, bench_run_t *out);
    const char *metric; /* what its share of the floor is taken of */
} cluster_workload_t;

/* One way: at most CLUSTER_WINDOW messages on their way, acknowledged by the receiving actor; every one is checked for its
 * number. Metric "messages". */
#define CLUSTER_WINDOW 16384u
#define CLUSTER_ACK 1024u
void cluster_oneway(const cluster_params_t *p, bench_run_t *out);
/* Calls with `outstanding` in flight. Metric "calls", latency "call". */
void cluster_call(const cluster_params_t *p, bench_run_t *out);

/* The same work between two processes that do nothing else (u32 size | body): floor_pair.c. */
void floor_pair_oneway(const cluster_params_t *p, bench_run_t *out);
void floor_pair_call(const cluster_params_t *p, bench_run_t *out);

const cluster_workload_t *cluster_find(const char *name);
void cluster_params_init(cluster_params_t *p);
bench_result_t *cluster_execute(const cluster_workload_t *workload, const cluster_params_t *p, unsigned runs,
                                bool floor);

/* ---- Processes of a run ---------------------------------------------------------------------------------------------- */

typedef enum cluster_phase {
    CLUSTER_STARTING,
    CLUSTER_WARMUP,
    CLUSTER_MEASURE,
    CLUSTER_STOP,
    CLUSTER_OVER, /* the two that measure have ended: what stood between them may go */
} cluster_phase_t;

/* In pages that all processes of a run share. */
typedef struct cluster_shared {
    _Atomic(int) phase;       /* written by the orchestrator, read by all (acquire) */
    _Atomic(uint32_t) ready;  /* processes that are set up; released by them, acquired by the orchestrator */
    _Atomic(uint32_t) listening; /* how many addresses below are there; release, acquire */
    char address[4][64];      /* by node id */
    _Atomic(uint64_t) target; /* the receiving actor's address; release, acquire */
    _Atomic(uint64_t) counted; /* messages or calls of the measured time; relaxed, read behind the processes' ends */
} cluster_shared_t;

/* Forks `count` processes that run body(node = 1.., …), drives them through the phases, and notes a failure for each that
 * does not end well. Metrics: CPU of all, cores that others used. Returns the measured seconds; 0: it failed. */
typedef void (*cluster_body_t)(const cluster_params_t *p, unsigned node, cluster_shared_t *shared, bench_run_t *out);
double cluster_processes(const cluster_params_t *p, unsigned count, cluster_body_t body, cluster_shared_t *shared,
                       bench_run_t *out);
cluster_shared_t *cluster_share(void);
void cluster_unshare(cluster_shared_t *shared);
static inline cluster_phase_t cluster_phase(cluster_shared_t *shared) {
    return (cluster_phase_t)__atomic_load_n((int *)&shared->phase, __ATOMIC_ACQUIRE);
}
/* Blocks (setting up only) until `count` processes listen; ends the process after 10 s. */
void cluster_await_listeners(cluster_shared_t *shared, unsigned count);

#endif
