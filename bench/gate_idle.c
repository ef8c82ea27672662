/* idle: what a logged-in connection that says nothing costs the server: resident memory (kernel buffers not counted) and
 * CPU. Afterwards each one must still answer. Needs a server without connections; a fresh one is best (--server).
 *
 * A connection's memory is what the last nine tenths of them add: the first tenth also brings what a server that was never
 * talked to has not touched yet, which differs by some MiB from start to start. With that it is rss_per_connection_all. */
#include "bench/gate.h"

typedef struct idle {
    body_t body;
    uint64_t answered;
} idle_t;

static void message(generator_t *g, conn_t *c, const wire_message_t *m) {
    gate_run_t *run = gate_of(g);
    idle_t *idle = run->state;
    if (m->cmd != run->p->reply_cmd || !body_is(&idle->body, c->index, 1, m->body, m->size))
        bench_fail(run->out, "connection %u: unexpected message (cmd %u, %zu bytes)", c->index, m->cmd, m->size);
    idle->answered++;
}

static bool all_answered(gate_run_t *run) {
    const idle_t *idle = run->state;
    return idle->answered == run->p->connections;
}

static void ask_all(gate_run_t *run) {
    idle_t *idle = run->state;
    for (unsigned i = 0; i < run->p->connections; i++) {
        body_tag(&idle->body, i, 1);
        generator_send(run->g, generator_conn(run->g, i), (uint16_t)run->p->cmd, idle->body.text, idle->body.size);
    }
}

typedef struct memory {
    uint64_t before, tenth, idle; /* resident bytes: without connections, with a tenth of them, with all */
} memory_t;

static void tell_memory(const gate_params_t *p, const memory_t *m, bench_run_t *out) {
    uint64_t tenth = p->connections / 10;
    bench_metric(out, "rss_per_connection", "bytes", BENCH_LOWER,
                 bench_positive((double)m->idle - (double)m->tenth) / (double)(p->connections - tenth));
    bench_metric(out, "rss_per_connection_all", "bytes", BENCH_INFO,
                 bench_positive((double)m->idle - (double)m->before) / (double)p->connections);
    bench_metric(out, "rss_before", "MiB", BENCH_INFO, (double)m->before / 1048576);
    bench_metric(out, "rss_tenth", "MiB", BENCH_INFO, (double)m->tenth / 1048576);
    bench_metric(out, "rss_idle", "MiB", BENCH_LOWER, (double)m->idle / 1048576);
}

void gate_idle(const gate_params_t *p, bench_run_t *out) {
    static const generator_ops_t ops = {.message = message, .closed = gate_closed};
    idle_t idle = {0};
    gate_run_t run = {.state = &idle};
    body_init(&idle.body, p->size, p->json_body);
    gate_begin(&run, p, out, &ops, 0);
    if (!run.pid_count)
        bench_fail(out, "the server's process was not found: give --pid");
    memory_t memory = {.before = gate_server_rss(&run)};
    double patience = 20 + (double)p->connections / 200.0;
    uint64_t began = bench_now_ns();
    bool in = generator_login_all(run.g, 0, (unsigned)p->connections / 10, patience, out);
    memory.tenth = gate_server_rss(&run);
    if (in && generator_login_all(run.g, (unsigned)p->connections / 10, (unsigned)p->connections, patience, out)) {
        double login_seconds = (double)(bench_now_ns() - began) / 1e9;
        gate_measure(&run, NULL);
        memory.idle = gate_server_rss(&run);
        ask_all(&run);
        if (!gate_drain(&run, all_answered, 20))
            bench_fail(out, "%llu idle connections did not answer",
                       (unsigned long long)(p->connections - idle.answered));
        tell_memory(p, &memory, out);
        bench_metric(out, "server_cpu", "cores", BENCH_INFO, run.cpu_before / gate_seconds(&run));
        bench_metric(out, "logins", "/s", BENCH_INFO, (double)p->connections / login_seconds);
    }
    gate_end(&run);
    body_free(&idle.body);
}
