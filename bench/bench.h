/* bench.h: what all parts of rr-bench share: results, time, the machine, and how the program ends on errors. */
#ifndef RR_BENCH_BENCH_H
#define RR_BENCH_BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <jansson.h>

#include "bench/histogram.h"

/* ---- Ending --------------------------------------------------------------------------------------------------------- */

/* One line on stderr, exit status 2: wrong use, or the machine refused something that a benchmark can't do without. */
_Noreturn void bench_die(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Zeroed memory, or the end of the program. Release with free(). */
void *bench_alloc(size_t size);
void *bench_realloc(void *old, size_t size);

/* ---- Results -------------------------------------------------------------------------------------------------------- */

typedef enum bench_better { BENCH_LOWER = -1, BENCH_INFO = 0, BENCH_HIGHER = 1 } bench_better_t;

typedef struct bench_metric {
    char name[32];
    char unit[16];
    double value;
    int better; /* bench_better_t: which way is an improvement; BENCH_INFO is never compared */
} bench_metric_t;

#define BENCH_CURVE 24 /* points of a latency's percentile curve */

typedef struct bench_latency { /* nanoseconds */
    char name[32];
    uint64_t count, p50, p90, p99, p999, max;
    double mean;
    uint64_t curve[BENCH_CURVE]; /* at bench_curve_percent(i) */
} bench_latency_t;

/* One run of one workload: plain memory, so that it can live in pages shared with the process that ran it. */
typedef struct bench_run {
    unsigned metric_count, latency_count;
    bench_metric_t metrics[16];
    bench_latency_t latencies[6];
    char failure[256]; /* empty: everything that was sent arrived, whole and in order */
} bench_run_t;

void bench_metric(bench_run_t *run, const char *name, const char *unit, int better, double value);
void bench_latency(bench_run_t *run, const char *name, const histogram_t *h);

/* The first failure is kept: what came after it is a consequence. Any thread of the run's process. */
void bench_fail(bench_run_t *run, const char *format, ...) __attribute__((format(printf, 2, 3)));

double bench_curve_percent(unsigned point);

typedef struct bench_result {
    const char *suite, *workload;
    json_t *params; /* owned */
    bench_run_t *runs;
    unsigned run_count;
    struct bench_result *floor; /* what the machine itself does, measured in turn with the runs; may be NULL */
    char floor_name[48];
} bench_result_t;

typedef struct bench_results {
    bench_result_t **items;
    unsigned count;
} bench_results_t;

/* Takes params over. */
bench_result_t *bench_result_new(const char *suite, const char *workload, json_t *params);
void bench_result_add_run(bench_result_t *result, const bench_run_t *run);
void bench_result_free(bench_result_t *result);
void bench_results_add(bench_results_t *results, bench_result_t *result);
void bench_results_free(bench_results_t *results);

/* Values of one metric over all runs that did not fail, sorted ascending; count is set. Caller frees. */
double *bench_values(const bench_result_t *result, const char *metric, unsigned *count);
double bench_median(const double *sorted, unsigned count);

/* Prints all results as text, or as one JSON document. Returns the exit status: 1 if any run failed. */
typedef struct bench_output {
    bool json;
    const char *path; /* JSON goes there, and text to stdout; NULL = stdout */
    bool shown; /* bench_show has printed each result already */
} bench_output_t;
int bench_print(const bench_results_t *results, const bench_output_t *output);
/* In a long row of workloads: prints the newest result's text, and writes all so far to output->path, so that who breaks it
 * off has something. Without any result yet: whether the path can be written to turns out before the work, not behind it. */
void bench_show(const bench_results_t *results, const bench_output_t *output);

/* A run's text as soon as it has ended, on stderr, when that is a terminal or verbose was asked for. */
void bench_progress(const char *format, ...) __attribute__((format(printf, 1, 2)));
void bench_progress_done(void);

/* ---- Time and the machine -------------------------------------------------------------------------------------------- */

/* CLOCK_MONOTONIC in nanoseconds. */
uint64_t bench_now_ns(void);
void bench_sleep_until_ns(uint64_t at);

/* Binds the calling thread (and what it starts later) to one CPU; -1 or a CPU that does not exist: nothing is done. */
void bench_pin(int cpu);
int bench_cpus(void);

/* Time slices of 0.1 ms for the calling thread: where it shares its CPU, it is let in as soon as it wakes, and still gets no more
 * than its share. False: the kernel has none (Linux before 6.12) or refuses, or the thread is not of the default policy. */
bool bench_short_slice(void);

/* In a loop that waits for another thread. */
static inline void bench_relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* CPU seconds (user + system) and resident bytes of a process and all its threads; 0 when it is gone. */
double bench_process_cpu(int pid);
uint64_t bench_process_rss(int pid);

/* CPU seconds that the whole machine has spent, all processes. What is left after ours are subtracted is reported as
 * BENCH_OTHERS: a figure taken while others were busy says little. */
#define BENCH_OTHERS "others_cpu"
/* What the CPUs issued just before and after a run (floor.h): how much of their cores the host left them. */
#define BENCH_ISSUE "core_issue"
double bench_machine_cpu(void);
static inline double bench_positive(double v) { return v > 0 ? v : 0; }
double bench_own_cpu(void);
uint64_t bench_own_peak_rss(void);

/* Raises the soft limit of open files to what is needed; ends the program with the mend if the hard one is below. */
void bench_need_files(unsigned count);

/* Runs body(context, run) in a child process (own memory peak; a crash is a failed run, not the end of the program). */
void bench_in_child(bench_run_t *run, void (*body)(void *context, bench_run_t *run), void *context, unsigned timeout_s);

#endif
