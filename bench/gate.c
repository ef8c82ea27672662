#include "bench/gate.h"

#include <string.h>
#include <sys/prctl.h>

static generator_options_t generator_options(const gate_params_t *p) {
    generator_options_t o = {.to = p->to, .binary = p->binary, .login = p->login, .cmd = (uint16_t)p->cmd,
                             .reply_cmd = (uint16_t)p->reply_cmd, .connecting = (unsigned)p->connecting};
    if (strcmp(p->ready, "now") == 0) {
        o.ready = READY_NOW;
    } else if (strcmp(p->ready, "echo") != 0) {
        o.ready = READY_CMD;
        o.ready_cmd = (uint16_t)atoi(p->ready);
    }
    return o;
}

bool gate_begin(gate_run_t *run, const gate_params_t *p, bench_run_t *out, const generator_ops_t *ops,
                unsigned logins) {
    generator_options_t options = generator_options(p);
    bench_pin(p->cpu);
    if (p->rate > 0)
        (void)bench_short_slice(); /* or what it waits for a CPU that others use, too, counts as the server's latency */
    if (p->sleeps)
        (void)prctl(PR_SET_TIMERSLACK, 1ul, 0, 0, 0); /* else the kernel may wake it 50 us late */
    run->p = p;
    run->out = out;
    run->latency = histogram_new();
    run->g = generator_new(&options, ops, (unsigned)p->connections, run);
    if (p->pid) {
        run->pids[0] = (int)p->pid;
        run->pid_count = 1;
    } else {
        run->pid_count = generator_server_pids(p->to, run->pids, 8);
    }
    return generator_login_all(run->g, 0, logins, 20 + logins / 200.0, out);
}

void gate_end(gate_run_t *run) {
    generator_free(run->g);
    histogram_free(run->latency);
}

double gate_server_cpu(const gate_run_t *run) {
    double sum = 0;
    for (unsigned i = 0; i < run->pid_count; i++)
        sum += bench_process_cpu(run->pids[i]);
    return sum;
}

uint64_t gate_server_rss(const gate_run_t *run) {
    uint64_t sum = 0;
    for (unsigned i = 0; i < run->pid_count; i++)
        sum += bench_process_rss(run->pids[i]);
    return sum;
}

static void start_measuring(gate_run_t *run) {
    histogram_reset(run->latency);
    run->counted = 0;
    run->cpu_before = gate_server_cpu(run);
    run->own_cpu_before = bench_own_cpu();
    run->machine_before = bench_machine_cpu();
    run->began_at = bench_now_ns();
    run->measuring = true;
}

static void run_until(gate_run_t *run, uint64_t until, void (*step)(gate_run_t *run)) {
    uint64_t shown = bench_now_ns(), now;
    while ((now = bench_now_ns()) < until && !run->out->failure[0]) {
        if (run->p->sleeps && run->due_at > now)
            generator_sleep(run->g, run->due_at - now);
        else
            generator_poll(run->g, run->p->rate > 0 ? 0 : 2000000);
        if (step)
            step(run);
        if (now - shown > 500000000) {
            bench_progress("%s: %.1f s left, %llu so far", run->p->to, (double)(until - now) / 1e9,
                           (unsigned long long)run->counted);
            shown = now;
        }
    }
}

void gate_measure(gate_run_t *run, void (*step)(gate_run_t *run)) {
    run_until(run, bench_now_ns() + (uint64_t)(run->p->warmup * 1e9), step);
    start_measuring(run);
    run_until(run, run->began_at + (uint64_t)(run->p->duration * 1e9), step);
    run->ended_at = bench_now_ns();
    run->measuring = false;
    run->stopping = true;
    run->cpu_before = gate_server_cpu(run) - run->cpu_before;
    run->own_cpu_before = bench_own_cpu() - run->own_cpu_before;
    run->machine_before = bench_machine_cpu() - run->machine_before;
}

bool gate_drain(gate_run_t *run, bool (*done)(gate_run_t *run), double timeout_s) {
    uint64_t deadline = bench_now_ns() + (uint64_t)(timeout_s * 1e9);
    while (!done(run) && !run->out->failure[0]) {
        if (bench_now_ns() > deadline)
            return false;
        generator_poll(run->g, 2000000);
    }
    return !run->out->failure[0];
}

double gate_seconds(const gate_run_t *run) { return (double)(run->ended_at - run->began_at) / 1e9; }

void gate_machine_metrics(gate_run_t *run, const char *per) {
    char name[32];
    double seconds = gate_seconds(run);
    if (run->pid_count) {
        snprintf(name, sizeof name, "server_cpu_per_%s", per);
        bench_metric(run->out, "server_cpu", "cores", BENCH_INFO, run->cpu_before / seconds);
        bench_metric(run->out, name, "us", BENCH_LOWER, run->counted ? run->cpu_before * 1e6 / (double)run->counted : 0);
        bench_metric(run->out, "server_rss", "MiB", BENCH_LOWER, (double)gate_server_rss(run) / 1048576);
    }
    bench_metric(run->out, "generator_cpu", "cores", BENCH_INFO, run->own_cpu_before / seconds);
    if (run->pid_count)
        bench_metric(run->out, BENCH_OTHERS, "cores", BENCH_INFO,
                     bench_positive(run->machine_before - run->own_cpu_before - run->cpu_before) / seconds);
}

void gate_closed(generator_t *g, conn_t *c, const char *why) {
    bench_fail(gate_of(g)->out, "connection %u: %s", c->index, why);
}
