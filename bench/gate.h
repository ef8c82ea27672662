/* gate.h: what the workloads of `rr-bench gate` share. Each runs in a process of its own, on one thread. */
#ifndef RR_BENCH_GATE_H
#define RR_BENCH_GATE_H

#include "bench/generator.h"

typedef struct gate_params {
    const char *to;
    uint64_t connections, outstanding, size;
    double rate;  /* messages/s in all, from a schedule; 0 = as fast as answers come */
    bool sleeps;  /* paced: between two messages that are due; else it polls all the time */
    double duration, warmup;
    bool binary, json_body;
    uint64_t cmd, reply_cmd, broadcast_cmd, multicast_cmd, room_cmd;
    uint64_t room; /* clients of one */
    uint64_t connecting; /* unfinished logins at a time */
    const char *login, *ready; /* ready: echo, now, or a cmd */
    const char *scenario;      /* file, or NULL */
    uint64_t pid;              /* of the server; 0 = whoever listens on the port */
    int cpu;                   /* the generator's */
} gate_params_t;

typedef struct gate_run {
    const gate_params_t *p;
    bench_run_t *out;
    generator_t *g;
    void *state; /* the workload's own */
    bool measuring, stopping;
    uint64_t due_at; /* paced: when the next message is */
    uint64_t began_at, ended_at;
    uint64_t counted; /* what the workload counts, while measuring */
    histogram_t *latency;
    int pids[8];
    unsigned pid_count;
    double cpu_before, own_cpu_before, machine_before; /* differences once measured */
} gate_run_t;

/* Creates the generator (user pointer = the run) and logs `logins` connections in. False: failed, see out. */
bool gate_begin(gate_run_t *run, const gate_params_t *p, bench_run_t *out, const generator_ops_t *ops,
                unsigned logins);
void gate_end(gate_run_t *run);

/* Runs warm-up and measured time, calling step (may be NULL) between wake-ups; stops early on a failure. */
void gate_measure(gate_run_t *run, void (*step)(gate_run_t *run));

/* Polls until done(run), at most timeout_s: what is not there by then was lost. */
bool gate_drain(gate_run_t *run, bool (*done)(gate_run_t *run), double timeout_s);

double gate_seconds(const gate_run_t *run); /* measured time */
double gate_server_cpu(const gate_run_t *run); /* CPU seconds so far, all its processes */
uint64_t gate_server_rss(const gate_run_t *run);

/* CPU and memory of the server and the generator's own load, as metrics; per = what `counted` counts. */
void gate_machine_metrics(gate_run_t *run, const char *per);

/* The default closed(): a connection that ends is a failure. */
void gate_closed(generator_t *g, conn_t *c, const char *why);

static inline gate_run_t *gate_of(generator_t *g) { return generator_user(g); }

/* ---- Bodies: 16 hexadecimal digits (connection, sequence) and a pattern up to the size, or that within JSON ---------- */

typedef struct body {
    char *text;
    size_t size, tag_at;
    bool json;
} body_t;

void body_init(body_t *b, size_t size, bool json);
void body_free(body_t *b);
/* Sets the tag in place; the text is then ready to be sent. */
void body_tag(body_t *b, uint32_t connection, uint32_t sequence);
/* Is this that message? JSON may have been re-encoded: then only the tag is compared. */
bool body_is(body_t *b, uint32_t connection, uint32_t sequence, const uint8_t *data, size_t size);
/* The tag of a received body; false if it has none. */
bool body_read_tag(const body_t *b, const uint8_t *data, size_t size, uint32_t *connection, uint32_t *sequence);

/* ---- Workloads -------------------------------------------------------------------------------------------------------- */

typedef struct gate_workload {
    const char *name, *summary;
    void (*run)(const gate_params_t *p, bench_run_t *out);
} gate_workload_t;

void gate_echo(const gate_params_t *p, bench_run_t *out);
void gate_broadcast(const gate_params_t *p, bench_run_t *out);
void gate_multicast(const gate_params_t *p, bench_run_t *out);
void gate_rooms(const gate_params_t *p, bench_run_t *out);
void gate_connect(const gate_params_t *p, bench_run_t *out);
void gate_idle(const gate_params_t *p, bench_run_t *out);
void gate_chat(const gate_params_t *p, bench_run_t *out);

const gate_workload_t *gate_find(const char *name);
void gate_workloads_help(void); /* a line each, to standard output */

/* One workload, `runs` times, in child processes. server: a shell command that is started for each run, with
 * params.room as RR_BENCH_ROOM in its environment, or NULL.
 * floor: the floor servers run the same in turn. Takes nothing over. */
typedef struct gate_plan {
    const gate_workload_t *workload;
    gate_params_t params;
    uint64_t runs;
    const char *server;
    int server_cpu;
    bool floor;
} gate_plan_t;
bench_result_t *gate_execute(const gate_plan_t *plan);
void gate_plan_init(gate_plan_t *plan);

/* Its parts: one run of a workload in a child process, and a plan's parameters for the result. */
void gate_run_once(const gate_workload_t *workload, const gate_params_t *params, bench_run_t *run);
json_t *gate_params_json(const gate_plan_t *plan);

#endif
