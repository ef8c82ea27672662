/* broadcast: one connection asks, all get. multicast: the same, sent by the server to a list of all of them. `outstanding` broadcasts are under way; the next one leaves when the oldest
 * has reached everybody. Every connection must get every one, in order. */
#include <string.h>

#include "bench/gate.h"

typedef struct broadcast {
    uint16_t cmd;
    uint32_t *received; /* per connection */
    uint32_t sent, finished, limit; /* broadcasts asked for, had by everybody, and how far the one may run ahead */
    uint64_t delivered;
    uint64_t *sent_at; /* rings of `limit`: when it was asked for, and how many have it */
    uint64_t *had_by;
    body_t body;
} broadcast_t;

static void ask(gate_run_t *run) {
    broadcast_t *b = run->state;
    while (!run->stopping && b->sent - b->finished < b->limit) {
        body_tag(&b->body, 0, b->sent);
        b->had_by[b->sent % b->limit] = 0;
        b->sent_at[b->sent++ % b->limit] = bench_now_ns();
        generator_send(run->g, generator_conn(run->g, 0), b->cmd, b->body.text, b->body.size);
    }
}

static void message(generator_t *g, conn_t *c, const wire_message_t *m) {
    gate_run_t *run = gate_of(g);
    broadcast_t *b = run->state;
    uint32_t expected = b->received[c->index];
    if (m->cmd != b->cmd || expected == b->sent || !body_is(&b->body, 0, expected, m->body, m->size)) {
        bench_fail(run->out, "connection %u: broadcast %u is missing, twice, wrong or out of order (cmd %u, %zu bytes)",
                   c->index, expected, m->cmd, m->size);
        return;
    }
    uint64_t at = b->sent_at[expected % b->limit], now = generator_now(g);
    b->received[c->index]++;
    b->delivered++;
    if (++b->had_by[expected % b->limit] == run->p->connections)
        b->finished++; /* in order: everybody has the earlier ones already */
    if (run->measuring) {
        run->counted++;
        if (at >= run->began_at)
            histogram_record(run->latency, now > at ? now - at : 0);
    }
}

static bool all_delivered(gate_run_t *run) {
    const broadcast_t *b = run->state;
    return b->delivered == (uint64_t)b->sent * run->p->connections;
}

static void to_all(const gate_params_t *p, bench_run_t *out, uint64_t cmd) {
    static const generator_ops_t ops = {.message = message, .closed = gate_closed};
    broadcast_t b = {.cmd = (uint16_t)cmd, .limit = (uint32_t)p->outstanding};
    gate_run_t run = {.state = &b};
    b.received = bench_alloc(p->connections * sizeof *b.received);
    b.sent_at = bench_alloc(b.limit * sizeof *b.sent_at);
    b.had_by = bench_alloc(b.limit * sizeof *b.had_by);
    body_init(&b.body, p->size, p->json_body);
    if (gate_begin(&run, p, out, &ops, (unsigned)p->connections)) {
        gate_measure(&run, ask);
        if (!gate_drain(&run, all_delivered, 10))
            bench_fail(out, "%llu deliveries are missing",
                       (unsigned long long)((uint64_t)b.sent * p->connections - b.delivered));
        bench_metric(out, "deliveries", "/s", BENCH_HIGHER, (double)run.counted / gate_seconds(&run));
        gate_machine_metrics(&run, "delivery");
        bench_latency(out, "delivery", run.latency);
    }
    gate_end(&run);
    free(b.received);
    free(b.sent_at);
    free(b.had_by);
    body_free(&b.body);
}

void gate_broadcast(const gate_params_t *p, bench_run_t *out) { to_all(p, out, p->broadcast_cmd); }

void gate_multicast(const gate_params_t *p, bench_run_t *out) { to_all(p, out, p->multicast_cmd); }
