/* The processes of a run, and the workloads by name. */
#include "bench/cluster.h"

#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define SETUP_S 10
#define END_S 20

static const cluster_workload_t workloads[] = {
    {"oneway", "one actor sends to one on another node", cluster_oneway, floor_pair_oneway, "messages"},
    {"call", "one actor calls one on another node", cluster_call, floor_pair_call, "calls"},
};

const cluster_workload_t *cluster_find(const char *name) {
    for (unsigned i = 0; i < sizeof workloads / sizeof *workloads; i++)
        if (strcmp(workloads[i].name, name) == 0)
            return &workloads[i];
    return NULL;
}

void cluster_params_init(cluster_params_t *p) {
    *p = (cluster_params_t){.duration = 1, .warmup = 0.3, .size = 64, .outstanding = 1};
}

/* ---- Processes ---------------------------------------------------------------------------------------------------------- */

cluster_shared_t *cluster_share(void) {
    void *memory = mmap(NULL, sizeof(cluster_shared_t), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        bench_die("no memory that processes share");
    return memory;
}

void cluster_unshare(cluster_shared_t *shared) { munmap(shared, sizeof *shared); }

/* Polling: another process has no condition variable here, and setting up is not measured. */
static bool reaches(_Atomic(uint32_t) *counter, uint32_t count, double seconds) {
    uint64_t deadline = bench_now_ns() + (uint64_t)(seconds * 1e9);
    while (atomic_load_explicit(counter, memory_order_acquire) < count) {
        if (bench_now_ns() > deadline)
            return false;
        bench_sleep_until_ns(bench_now_ns() + 1000000);
    }
    return true;
}

void cluster_await_listeners(cluster_shared_t *shared, unsigned count) {
    if (!reaches(&shared->listening, count, SETUP_S))
        bench_die("the other process of the run does not listen");
}

static pid_t start(const cluster_params_t *p, unsigned node, cluster_body_t body, cluster_shared_t *shared,
                   bench_run_t *out) {
    pid_t pid = fork();
    if (pid < 0)
        bench_die("no process could be started");
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        dup2(STDERR_FILENO, STDOUT_FILENO); /* where a node logs; ours may be JSON */
        bench_pin((int)((node - 1) % (unsigned)bench_cpus()));
        body(p, node, shared, out);
        exit(0);
    }
    return pid;
}

static void set_phase(cluster_shared_t *shared, cluster_phase_t phase) {
    atomic_store_explicit(&shared->phase, phase, memory_order_release);
}

/* CPU seconds of the processes now. */
static double cpu_of(const pid_t *pids, unsigned count) {
    double sum = 0;
    for (unsigned i = 0; i < count; i++)
        sum += bench_process_cpu(pids[i]);
    return sum;
}

static void measure(const cluster_params_t *p, const pid_t *pids, unsigned count, cluster_shared_t *shared,
                    bench_run_t *out, double *seconds) {
    set_phase(shared, CLUSTER_WARMUP);
    bench_sleep_until_ns(bench_now_ns() + (uint64_t)(p->warmup * 1e9));
    double cpu = cpu_of(pids, count), machine = bench_machine_cpu();
    uint64_t began = bench_now_ns();
    set_phase(shared, CLUSTER_MEASURE);
    bench_sleep_until_ns(began + (uint64_t)(p->duration * 1e9));
    set_phase(shared, CLUSTER_STOP);
    *seconds = (double)(bench_now_ns() - began) / 1e9;
    cpu = cpu_of(pids, count) - cpu;
    machine = bench_machine_cpu() - machine;
    bench_metric(out, "cpu", "cores", BENCH_INFO, cpu / *seconds);
    bench_metric(out, BENCH_OTHERS, "cores", BENCH_INFO, bench_positive(machine - cpu) / *seconds);
}

static void await_end(pid_t pid, unsigned node, bench_run_t *out) {
    uint64_t deadline = bench_now_ns() + END_S * 1000000000ull;
    int status = 0;
    pid_t got;
    while ((got = waitpid(pid, &status, WNOHANG)) == 0 && bench_now_ns() < deadline)
        bench_sleep_until_ns(bench_now_ns() + 1000000);
    if (got == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return;
    bench_fail(out, got == 0 ? "node %u does not end: messages were lost" : "node %u did not end well", node);
    if (got == 0) {
        kill(pid, SIGKILL);
        waitpid(pid, &status, 0);
    }
}

double cluster_processes(const cluster_params_t *p, unsigned count, cluster_body_t body, cluster_shared_t *shared,
                       bench_run_t *out) {
    pid_t pids[3];
    double seconds = 0;
    for (unsigned i = 0; i < count; i++)
        pids[i] = start(p, i + 1, body, shared, out);
    if (reaches(&shared->ready, count, SETUP_S))
        measure(p, pids, count, shared, out, &seconds);
    else
        bench_fail(out, "the nodes did not find each other within %d s", SETUP_S);
    set_phase(shared, CLUSTER_STOP);
    for (unsigned i = 0; i < count; i++) {
        if (i == 2) /* the relay: until now the others needed it */
            set_phase(shared, CLUSTER_OVER);
        await_end(pids[i], i + 1, out);
    }
    return out->failure[0] ? 0 : seconds;
}

/* ---- Runs --------------------------------------------------------------------------------------------------------------- */

typedef struct job {
    void (*run)(const cluster_params_t *p, bench_run_t *out);
    const cluster_params_t *p;
} job_t;

static void run_job(void *context, bench_run_t *run) {
    const job_t *job = context;
    job->run(job->p, run);
}

static void once(bench_result_t *result, void (*run)(const cluster_params_t *p, bench_run_t *out),
                 const cluster_params_t *p) {
    bench_run_t outcome = {0};
    job_t job = {run, p};
    bench_in_child(&outcome, run_job, &job, (unsigned)(p->warmup + p->duration) + SETUP_S + 3 * END_S);
    bench_result_add_run(result, &outcome);
}

static json_t *params_json(const cluster_params_t *p, bool call) {
    json_t *json = json_pack("{s:I s:b s:b s:b}", "size", (json_int_t)p->size, "relay", p->relay, "pinned", p->pinned,
                             "guest", p->guest);
    if (call)
        json_object_set_new(json, "outstanding", json_integer((json_int_t)p->outstanding));
    return json;
}

bench_result_t *cluster_execute(const cluster_workload_t *workload, const cluster_params_t *p, unsigned runs,
                                bool floor) {
    bool call = strcmp(workload->name, "call") == 0;
    bench_result_t *result = bench_result_new("cluster", workload->name, params_json(p, call));
    if (floor) {
        result->floor = bench_result_new("floor", "pair", params_json(p, call));
        snprintf(result->floor_name, sizeof result->floor_name, "bare libuv pair");
    }
    for (unsigned i = 0; i < runs; i++) {
        bench_progress("cluster %s: run %u of %u", workload->name, i + 1, runs);
        once(result, workload->run, p);
        if (floor)
            once(result->floor, workload->floor, p);
    }
    bench_progress_done();
    return result;
}
