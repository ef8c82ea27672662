/* idle: what a logged-in connection that says nothing costs the server: resident memory (kernel buffers not counted) and
 * CPU. Afterwards each one must still answer. Needs a server without connections; a fresh one is best (--server). */
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

void gate_idle(const gate_params_t *p, bench_run_t *out) {
    static const generator_ops_t ops = {.message = message, .closed = gate_closed};
    idle_t idle = {0};
    gate_run_t run = {.state = &idle};
    body_init(&idle.body, p->size, p->json_body);
    gate_begin(&run, p, out, &ops, 0);
    if (!run.pid_count)
        bench_fail(out, "the server's process was not found: give --pid");
    uint64_t before = gate_server_rss(&run), began = bench_now_ns();
    if (generator_login_all(run.g, (unsigned)p->connections, 20 + (double)p->connections / 200.0, out)) {
        double login_seconds = (double)(bench_now_ns() - began) / 1e9;
        gate_measure(&run, NULL);
        uint64_t after = gate_server_rss(&run);
        ask_all(&run);
        if (!gate_drain(&run, all_answered, 20))
            bench_fail(out, "%llu idle connections did not answer",
                       (unsigned long long)(p->connections - idle.answered));
        bench_metric(out, "rss_per_connection", "bytes", BENCH_LOWER,
                     after > before ? (double)(after - before) / (double)p->connections : 0);
        bench_metric(out, "rss_before", "MiB", BENCH_INFO, (double)before / 1048576);
        bench_metric(out, "rss_idle", "MiB", BENCH_LOWER, (double)after / 1048576);
        bench_metric(out, "server_cpu", "cores", BENCH_INFO, run.cpu_before / gate_seconds(&run));
        bench_metric(out, "logins", "/s", BENCH_INFO, (double)p->connections / login_seconds);
    }
    gate_end(&run);
    body_free(&idle.body);
}
