/* echo: every message comes back to its sender. Closed loop (so many outstanding per connection), or paced: then a
 * message's latency counts from when it was due, whether or not it could be sent by then. */
#include <string.h>

#include "bench/gate.h"

#define PACED_OUTSTANDING 4096u /* per connection; when all are waiting, what is due goes out late, and counts as late */

typedef struct echo_conn {
    uint32_t sent, received;
    uint64_t *sent_at; /* ring of echo->ring */
} echo_conn_t;

typedef struct echo {
    echo_conn_t *conns;
    uint32_t ring; /* a power of two */
    body_t body;
    uint64_t sent, received;
    uint64_t next_due, turn; /* paced */
} echo_t;

static void send_one(gate_run_t *run, conn_t *c, uint64_t at) {
    echo_t *e = run->state;
    echo_conn_t *ec = &e->conns[c->index];
    ec->sent_at[ec->sent & (e->ring - 1)] = at;
    body_tag(&e->body, c->index, ec->sent++);
    e->sent++;
    generator_send(run->g, c, (uint16_t)run->p->cmd, e->body.text, e->body.size);
}

static void message(generator_t *g, conn_t *c, const wire_message_t *m) {
    gate_run_t *run = gate_of(g);
    echo_t *e = run->state;
    echo_conn_t *ec = &e->conns[c->index];
    if (m->cmd != run->p->reply_cmd || ec->received == ec->sent ||
        !body_is(&e->body, c->index, ec->received, m->body, m->size)) {
        bench_fail(run->out, "connection %u: message %u came back wrong, twice or out of order (cmd %u, %zu bytes)",
                   c->index, ec->received, m->cmd, m->size);
        return;
    }
    uint64_t at = ec->sent_at[ec->received++ & (e->ring - 1)], now = generator_now(g);
    e->received++;
    if (run->measuring) {
        run->counted++;
        if (at >= run->began_at)
            histogram_record(run->latency, now > at ? now - at : 0);
    }
    if (run->p->rate == 0 && !run->stopping)
        send_one(run, c, now);
}

static void send_due(gate_run_t *run) {
    echo_t *e = run->state;
    uint64_t now = bench_now_ns(), gap = (uint64_t)(1e9 / run->p->rate);
    for (; e->next_due <= now; e->next_due += gap, e->turn++) {
        conn_t *c = generator_conn(run->g, (unsigned)(e->turn % run->p->connections));
        const echo_conn_t *ec = &e->conns[c->index];
        if (ec->sent - ec->received == e->ring)
            return;
        send_one(run, c, e->next_due);
    }
    run->due_at = e->next_due;
}

static bool all_back(gate_run_t *run) {
    const echo_t *e = run->state;
    return e->sent == e->received;
}

static void start(gate_run_t *run) {
    echo_t *e = run->state;
    e->next_due = bench_now_ns();
    for (uint64_t i = 0; run->p->rate == 0 && i < run->p->connections; i++)
        for (uint64_t k = 0; k < run->p->outstanding; k++)
            send_one(run, generator_conn(run->g, (unsigned)i), e->next_due);
}

static void init(echo_t *e, const gate_params_t *p) {
    uint64_t wanted = p->rate > 0 ? PACED_OUTSTANDING : p->outstanding;
    for (e->ring = 1; e->ring < wanted;)
        e->ring *= 2;
    e->conns = bench_alloc(p->connections * sizeof *e->conns);
    for (uint64_t i = 0; i < p->connections; i++)
        e->conns[i].sent_at = bench_alloc(e->ring * sizeof(uint64_t));
    body_init(&e->body, p->size, p->json_body);
}

static void destroy(echo_t *e, const gate_params_t *p) {
    for (uint64_t i = 0; i < p->connections; i++)
        free(e->conns[i].sent_at);
    free(e->conns);
    body_free(&e->body);
}

void gate_echo(const gate_params_t *p, bench_run_t *out) {
    static const generator_ops_t ops = {.message = message, .closed = gate_closed};
    echo_t echo = {0};
    gate_run_t run = {.state = &echo};
    init(&echo, p);
    if (gate_begin(&run, p, out, &ops, (unsigned)p->connections)) {
        start(&run);
        gate_measure(&run, p->rate > 0 ? send_due : NULL);
        if (!gate_drain(&run, all_back, 10))
            bench_fail(out, "%llu of %llu messages did not come back", (unsigned long long)(echo.sent - echo.received),
                       (unsigned long long)echo.sent);
        bench_metric(out, "messages", "msg/s", p->rate > 0 ? BENCH_INFO : BENCH_HIGHER,
                     (double)run.counted / gate_seconds(&run));
        gate_machine_metrics(&run, "msg");
        bench_latency(out, "echo", run.latency);
    }
    gate_end(&run);
    destroy(&echo, p);
}
