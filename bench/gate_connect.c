/* connect: connections per second, each with its login and one message answered; `connections` are under way. They are
 * reset, not closed, so that the generator's ports do not run out in TIME_WAIT. */
#include <string.h>

#include "bench/gate.h"

typedef struct connects {
    uint64_t begun, finished;
    double timeout;
} connects_t;

static void ready(generator_t *g, conn_t *c) {
    gate_run_t *run = gate_of(g);
    connects_t *state = run->state;
    uint64_t now = bench_now_ns();
    state->finished++;
    if (run->measuring) {
        run->counted++;
        histogram_record(run->latency, now - c->opened_at);
    }
    generator_close(g, c, true);
    if (!run->stopping) {
        state->begun++;
        generator_connect(g, c->index);
    }
}

static void message(generator_t *g, conn_t *c, const wire_message_t *m) {}

static bool all_finished(gate_run_t *run) {
    const connects_t *state = run->state;
    return state->begun == state->finished;
}

void gate_connect(const gate_params_t *p, bench_run_t *out) {
    static const generator_ops_t ops = {.ready = ready, .message = message, .closed = gate_closed};
    connects_t state = {.begun = p->connections};
    gate_run_t run = {.state = &state};
    if (strcmp(p->ready, "now") == 0)
        bench_die("connect needs --ready echo or a cmd: otherwise nothing tells that the login is over");
    gate_begin(&run, p, out, &ops, 0);
    for (unsigned i = 0; i < p->connections; i++)
        generator_connect(run.g, i);
    gate_measure(&run, NULL);
    if (!gate_drain(&run, all_finished, 10))
        bench_fail(out, "%llu logins did not finish", (unsigned long long)(state.begun - state.finished));
    bench_metric(out, "connects", "/s", BENCH_HIGHER, (double)run.counted / gate_seconds(&run));
    gate_machine_metrics(&run, "connect");
    bench_latency(out, "connect+login", run.latency);
    gate_end(&run);
}
