/* actors.h: what the workloads of `rr-bench actors` share. Each run has a process and a system of its own. */
#ifndef RR_BENCH_ACTORS_H
#define RR_BENCH_ACTORS_H

#include <stdatomic.h>

#include "bench/bench.h"
#include "runtime/redrabbit.h"

/* Producers send and drivers spawn at most so many a turn, then message themselves to go on. */
#define ACTORS_SLICE 1000u

typedef struct actors_params {
    uint64_t threads;  /* core workers; 0 = CPUs */
    double duration, warmup;
    uint64_t pairs, producers, actors, tokens, clients, workers, count, leaves, outstanding, size, selfish;
    double rate;
    const char *generator; /* paced: poll or timer */
    const char *policy;    /* of a flooded mailbox: pause or fail */
} actors_params_t;

/* Where a run is. One writer, the main thread; actors look at it once per message. Relaxed: it only tells actors when to
 * count and when to stop, all results come through the latch. */
typedef enum actors_phase { ACTORS_WARMUP, ACTORS_MEASURE, ACTORS_STOP } actors_phase_t;

typedef struct actors_run {
    const actors_params_t *p;
    bench_run_t *out;
    rr_system_t *system;
    void *state; /* the workload's own */
    _Alignas(64) _Atomic(int) phase;
    _Alignas(64) _Atomic(uint64_t) counted; /* added to once per actor, at its end (relaxed: read after the latch) */
    _Atomic(uint32_t) latch;                /* what main waits for; counted down with release, read with acquire */
    uint64_t began_at, ended_at;
    double cpu, machine_cpu;
    uint64_t steals, parks; /* of the core workers: before, and once measured meanwhile */
    bool memory_matters; /* the workload is about how much it takes */
    histogram_t *latency; /* recorded with histogram_record_shared */
} actors_run_t;

static inline actors_phase_t actors_phase(const actors_run_t *run) {
    return (actors_phase_t)atomic_load_explicit(&((actors_run_t *)run)->phase, memory_order_relaxed);
}

/* Messages since measuring began, for one actor: call once per message that counts. */
typedef struct actors_counter {
    uint64_t count;
    bool measuring;
} actors_counter_t;
static inline void actors_count(actors_counter_t *c, actors_phase_t phase, uint64_t n) {
    if (phase == ACTORS_MEASURE) {
        if (!c->measuring) {
            c->measuring = true;
            c->count = 0;
        }
        c->count += n;
    }
}
void actors_add(actors_run_t *run, const actors_counter_t *c);

/* Builds and starts the system; ends the program's child if that fails. latch = how often actors_done is awaited. */
void actors_begin(actors_run_t *run, const actors_params_t *p, bench_run_t *out, uint32_t latch);
void actors_done(actors_run_t *run);
/* False: not within timeout_s; a failure is noted. */
bool actors_wait(actors_run_t *run, double timeout_s);
/* Warm-up, measured time, stop, and waiting for the latch. */
bool actors_measure(actors_run_t *run);
/* For workloads that count: the clock starts now / stops now. */
void actors_clock_start(actors_run_t *run);
void actors_clock_stop(actors_run_t *run);
double actors_seconds(const actors_run_t *run);
/* CPU of the process, CPU of others, peak memory; then stops and destroys the system. */
void actors_end(actors_run_t *run);

/* Spawns, or notes a failure and ends the process. */
rr_addr_t actors_spawn(actors_run_t *run, const rr_behavior_t *behavior, const void *arg);
rr_addr_t actors_spawn_spec(actors_run_t *run, const rr_spawn_t *spec);
rr_addr_t actors_spawn_child(actors_run_t *run, rr_actor_t *self, const rr_behavior_t *behavior, const void *arg);
/* From the main thread / from an actor; anything but RR_OK is a failure of the run. */
void actors_kick(actors_run_t *run, rr_addr_t to, uint32_t type);
bool actors_sent(actors_run_t *run, int rc);

/* ---- Payloads: `size` bytes, copied inline when small, else one shared buffer that is never copied -------------------- */

#define ACTORS_INLINE 512u

typedef struct payload {
    rr_buffer_t *buffer; /* NULL = inline */
    const void *data;
    size_t size;
} payload_t;
void payload_init(payload_t *p, size_t size);
void payload_free(payload_t *p);
int payload_send(const payload_t *p, rr_actor_t *self, rr_addr_t to, uint32_t type);
/* The same bytes, and for shared payloads the very same memory? */
bool payload_is(const payload_t *p, const rr_message_t *msg);

/* ---- Workloads -------------------------------------------------------------------------------------------------------- */

typedef struct actors_workload {
    const char *name, *summary, *options; /* options: those that it looks at, for the parameters of its result */
    void (*run)(const actors_params_t *p, bench_run_t *out);
    const char *floor; /* the probe of floor.h whose "messages" is its limit, or NULL */
} actors_workload_t;

void actors_pingpong(const actors_params_t *p, bench_run_t *out);
void actors_counting(const actors_params_t *p, bench_run_t *out);
void actors_ring(const actors_params_t *p, bench_run_t *out);
void actors_spawning(const actors_params_t *p, bench_run_t *out);
void actors_tree(const actors_params_t *p, bench_run_t *out);
void actors_fanout(const actors_params_t *p, bench_run_t *out);
void actors_idle(const actors_params_t *p, bench_run_t *out);
void actors_paced(const actors_params_t *p, bench_run_t *out);
void actors_closed(const actors_params_t *p, bench_run_t *out);

const actors_workload_t *actors_find(const char *name);
void actors_params_init(actors_params_t *p);

/* `runs` runs of one workload in child processes, with the floor's in turn if floor. */
bench_result_t *actors_execute(const actors_workload_t *workload, const actors_params_t *p, unsigned runs, bool floor);

#endif
