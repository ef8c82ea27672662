#include "bench/actors.h"

#include <string.h>
#include <unistd.h>

#include "bench/floor.h"
#include "runtime/executor.h"

/* ---- A run ------------------------------------------------------------------------------------------------------------ */

/* Nothing that comes later would be right: the child ends here, its run failed. */
static _Noreturn void give_up(actors_run_t *run, const char *what, int rc) {
    bench_fail(run->out, "%s: %s", what, rr_strerror(rc));
    _exit(0);
}

void actors_begin(actors_run_t *run, const actors_params_t *p, bench_run_t *out, uint32_t latch) {
    rr_options_t options;
    rr_options_init(&options);
    options.core_threads = (unsigned)p->threads;
    options.log_level = RR_WARN;
    run->p = p;
    run->out = out;
    run->latency = histogram_new();
    atomic_init(&run->phase, ACTORS_WARMUP);
    atomic_init(&run->counted, 0);
    atomic_init(&run->latch, latch);
    int rc = rr_system_create(&run->system, &options);
    if (rc == RR_OK)
        rc = rr_system_start(run->system);
    if (rc != RR_OK)
        give_up(run, "the runtime does not start", rc);
}

void actors_done(actors_run_t *run) { atomic_fetch_sub_explicit(&run->latch, 1, memory_order_release); }

bool actors_wait(actors_run_t *run, double timeout_s) {
    uint64_t deadline = bench_now_ns() + (uint64_t)(timeout_s * 1e9);
    while (atomic_load_explicit(&run->latch, memory_order_acquire) != 0) {
        if (bench_now_ns() > deadline) {
            bench_fail(run->out, "%u actors did not finish within %.0f s: messages were lost",
                       atomic_load(&run->latch), timeout_s);
            _exit(0); /* a run that hangs would hang the orderly end too */
        }
        bench_sleep_until_ns(bench_now_ns() + 500000);
    }
    return run->out->failure[0] == 0;
}

static void count_workers(const actors_run_t *run, uint64_t *steals, uint64_t *parks) {
    rr_pool_stats_t stats;
    rr_pool_stats(rr_system_core(run->system), &stats);
    *steals = stats.steals - *steals;
    *parks = stats.parks - *parks;
}

void actors_clock_start(actors_run_t *run) {
    run->cpu = bench_own_cpu();
    run->machine_cpu = bench_machine_cpu();
    run->steals = run->parks = 0;
    count_workers(run, &run->steals, &run->parks);
    run->began_at = bench_now_ns();
}

void actors_clock_stop(actors_run_t *run) {
    run->ended_at = bench_now_ns();
    count_workers(run, &run->steals, &run->parks);
    run->cpu = bench_own_cpu() - run->cpu;
    run->machine_cpu = bench_machine_cpu() - run->machine_cpu;
}

static void set_phase(actors_run_t *run, actors_phase_t phase) {
    atomic_store_explicit(&run->phase, phase, memory_order_relaxed);
}

bool actors_measure(actors_run_t *run) {
    bench_sleep_until_ns(bench_now_ns() + (uint64_t)(run->p->warmup * 1e9));
    set_phase(run, ACTORS_MEASURE);
    actors_clock_start(run);
    bench_sleep_until_ns(run->began_at + (uint64_t)(run->p->duration * 1e9));
    set_phase(run, ACTORS_STOP);
    actors_clock_stop(run);
    return actors_wait(run, 20);
}

double actors_seconds(const actors_run_t *run) { return (double)(run->ended_at - run->began_at) / 1e9; }

void actors_add(actors_run_t *run, const actors_counter_t *c) {
    atomic_fetch_add_explicit(&run->counted, c->count, memory_order_relaxed);
}

void actors_end(actors_run_t *run) {
    double seconds = actors_seconds(run);
    if (seconds > 0) {
        bench_metric(run->out, "cpu", "cores", BENCH_INFO, run->cpu / seconds);
        bench_metric(run->out, BENCH_OTHERS, "cores", BENCH_INFO,
                     bench_positive(run->machine_cpu - run->cpu) / seconds);
        /* How often a worker took from another, and slept. */
        bench_metric(run->out, "steals", "/s", BENCH_INFO, (double)run->steals / seconds);
        bench_metric(run->out, "parks", "/s", BENCH_INFO, (double)run->parks / seconds);
    }
    bench_metric(run->out, "peak_rss", "MiB", run->memory_matters ? BENCH_LOWER : BENCH_INFO, (double)bench_own_peak_rss() / 1048576);
    rr_system_stop(run->system);
    rr_system_destroy(run->system);
    histogram_free(run->latency);
}

/* ---- Spawning and sending ---------------------------------------------------------------------------------------------- */

rr_addr_t actors_spawn_spec(actors_run_t *run, const rr_spawn_t *spec) {
    rr_addr_t addr = RR_NOBODY;
    int rc = rr_system_spawn(run->system, spec, &addr);
    if (rc != RR_OK)
        give_up(run, "spawn", rc);
    return addr;
}

rr_addr_t actors_spawn(actors_run_t *run, const rr_behavior_t *behavior, const void *arg) {
    rr_spawn_t spec = {.behavior = behavior, .arg = arg};
    return actors_spawn_spec(run, &spec);
}

rr_addr_t actors_spawn_child(actors_run_t *run, rr_actor_t *self, const rr_behavior_t *behavior, const void *arg) {
    rr_spawn_t spec = {.behavior = behavior, .arg = arg};
    rr_addr_t addr = RR_NOBODY;
    int rc = rr_spawn(self, &spec, &addr);
    if (rc != RR_OK)
        give_up(run, "spawn", rc);
    return addr;
}

void actors_kick(actors_run_t *run, rr_addr_t to, uint32_t type) {
    actors_sent(run, rr_system_send(run->system, to, type, NULL, 0));
}

bool actors_sent(actors_run_t *run, int rc) {
    if (rc != RR_OK)
        bench_fail(run->out, "a message was refused: %s", rr_strerror(rc));
    return rc == RR_OK;
}

/* ---- Payloads ----------------------------------------------------------------------------------------------------------- */

void payload_init(payload_t *p, size_t size) {
    uint8_t *bytes = bench_alloc(size);
    for (size_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)(i * 7 + 1);
    *p = (payload_t){.data = bytes, .size = size};
    if (size <= ACTORS_INLINE)
        return;
    p->buffer = rr_buffer_copy(bytes, size);
    free(bytes);
    if (!p->buffer)
        bench_die("out of memory");
    p->data = rr_buffer_data(p->buffer);
}

void payload_free(payload_t *p) {
    if (p->buffer)
        rr_buffer_unref(p->buffer);
    else
        free((void *)p->data);
}

int payload_send(const payload_t *p, rr_actor_t *self, rr_addr_t to, uint32_t type) {
    if (p->buffer)
        return rr_send_buffer(self, to, type, rr_buffer_ref(p->buffer));
    return rr_send(self, to, type, p->data, p->size);
}

bool payload_is(const payload_t *p, const rr_message_t *msg) {
    if (rr_message_size(msg) != p->size)
        return false;
    const void *data = rr_message_data(msg);
    if (p->size == sizeof(uint64_t)) /* the usual case must not cost a call, nor its reading beyond the end */
        return *(const uint64_t *)data == *(const uint64_t *)p->data;
    return p->buffer ? data == p->data : p->size == 0 || memcmp(data, p->data, p->size) == 0;
}

/* ---- Workloads ------------------------------------------------------------------------------------------------------------ */

static const actors_workload_t workloads[] = {
    {"pingpong", "pairs of actors, one message to and fro", "pairs size", actors_pingpong, "mpsc1"},
    {"counting", "producers flood one consumer", "producers size policy", actors_counting, "mpsc2"},
    {"ring", "tokens go round a ring of actors", "actors tokens", actors_ring, "mpsc1"},
    {"spawn", "spawn, one message, a reply, death", "count outstanding", actors_spawning, NULL},
    {"tree", "each actor spawns ten, leaves answer, sums go up (\"skynet\")", "leaves", actors_tree, NULL},
    {"fanout", "one sends to all workers, all acknowledge, again", "workers size", actors_fanout, "mpsc1"},
    {"idle", "bytes per actor that has never run, and that has had a message", "count", actors_idle, NULL},
    {"paced", "calls at a fixed rate, latency from the scheduled time", "rate generator selfish", actors_paced, "poll"},
    {"closed", "clients call one server, each one call at a time", "clients", actors_closed, NULL},
};

const actors_workload_t *actors_find(const char *name) {
    for (unsigned i = 0; i < sizeof workloads / sizeof *workloads; i++)
        if (strcmp(workloads[i].name, name) == 0)
            return &workloads[i];
    return NULL;
}

void actors_params_init(actors_params_t *p) {
    *p = (actors_params_t){.duration = 1, .warmup = 0.3, .pairs = 1, .producers = 8, .actors = 100, .tokens = 1,
                           .clients = 64, .workers = 1000, .count = 1000000, .leaves = 1000000, .outstanding = 1000,
                           .size = 8, .rate = 50000, .generator = "poll", .policy = "pause"};
}

static json_t *params_json(const actors_workload_t *w, const actors_params_t *p) {
    const struct {
        const char *name;
        uint64_t value;
    } numbers[] = {{"pairs", p->pairs},     {"producers", p->producers}, {"actors", p->actors},
                   {"tokens", p->tokens},   {"clients", p->clients},     {"workers", p->workers},
                   {"count", p->count},     {"leaves", p->leaves},       {"outstanding", p->outstanding},
                   {"size", p->size},       {"selfish", p->selfish},     {"rate", (uint64_t)p->rate}};
    json_t *o = json_object();
    for (unsigned i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (strstr(w->options, numbers[i].name))
            json_object_set_new(o, numbers[i].name, json_integer((json_int_t)numbers[i].value));
    if (strstr(w->options, "generator"))
        json_object_set_new(o, "generator", json_string(p->generator));
    if (strstr(w->options, "policy"))
        json_object_set_new(o, "policy", json_string(p->policy));
    json_object_set_new(o, "threads", json_integer((json_int_t)(p->threads ? p->threads : (uint64_t)bench_cpus())));
    return o;
}

typedef struct job {
    const actors_workload_t *workload;
    const actors_params_t *params;
} job_t;

static void in_child(void *context, bench_run_t *run) {
    const job_t *job = context;
    job->workload->run(job->params, run);
}

/* A neighbour that never rests is the machine's matter first: then the limit is measured with one, too. */
static const char *floor_of(const actors_workload_t *workload, const actors_params_t *p) {
    if (workload->run != actors_paced)
        return workload->floor;
    return strcmp(p->generator, "timer") == 0 ? NULL : p->selfish ? "poll-busy" : "poll";
}

bench_result_t *actors_execute(const actors_workload_t *workload, const actors_params_t *p, unsigned runs, bool floor) {
    bench_result_t *result = bench_result_new("actors", workload->name, params_json(workload, p));
    const char *limit = floor ? floor_of(workload, p) : NULL;
    floor_params_t floor_params = {.duration = workload->run == actors_paced ? p->duration : 0.5};
    job_t job = {workload, p};
    if (limit) {
        result->floor = bench_result_new("floor", limit, json_object());
        snprintf(result->floor_name, sizeof result->floor_name, "%s", limit);
    }
    for (unsigned i = 0; i < runs; i++) {
        bench_run_t run = {0}, floor_run_result = {0};
        bench_progress("actors %s: run %u of %u", workload->name, i + 1, runs);
        if (result->floor) {
            floor_run(limit, &floor_params, &floor_run_result);
            bench_result_add_run(result->floor, &floor_run_result);
        }
        double issue = floor_issue_now();
        bench_in_child(&run, in_child, &job, 120 + (unsigned)p->duration);
        bench_metric(&run, BENCH_ISSUE, "G/s", BENCH_INFO, (issue + floor_issue_now()) / 2e9);
        bench_result_add_run(result, &run);
    }
    return result;
}
