/* closed: clients call one server, each with one call under way. Latency is sampled, 1 in 16: two readings of the clock per
 * call would cost more than the call's share of the server. */
#include <string.h>

#include "bench/actors.h"

#define GO 1u
#define CALL 2u
#define SAMPLE 16u

typedef struct closed {
    rr_addr_t server;
    actors_run_t run;
} closed_t;

typedef struct client {
    closed_t *closed;
    uint64_t calls, called_at;
    actors_counter_t counter;
} client_t;

static void serve(rr_actor_t *self, void *state, rr_message_t *msg) {
    uint64_t value = *(const uint64_t *)rr_message_data(msg) + 1;
    rr_reply(self, msg, &value, sizeof value);
}

static void call(rr_actor_t *self, client_t *c);

static void replied(rr_actor_t *self, void *state, int status, rr_message_t *msg, void *context) {
    client_t *c = state;
    closed_t *b = c->closed;
    actors_phase_t phase = actors_phase(&b->run);
    if (status != RR_OK || *(const uint64_t *)rr_message_data(msg) != c->calls + 1) {
        bench_fail(b->run.out, "call %llu: %s", (unsigned long long)c->calls,
                   status != RR_OK ? rr_strerror(status) : "the answer belongs to another call");
        return;
    }
    actors_count(&c->counter, phase, 1);
    if (c->called_at && phase == ACTORS_MEASURE)
        histogram_record_shared(b->run.latency, bench_now_ns() - c->called_at);
    c->calls++;
    if (phase != ACTORS_STOP) {
        call(self, c);
        return;
    }
    actors_add(&b->run, &c->counter);
    actors_done(&b->run);
}

static void call(rr_actor_t *self, client_t *c) {
    c->called_at = c->calls % SAMPLE == 0 ? bench_now_ns() : 0;
    actors_sent(&c->closed->run,
                rr_call(self, c->closed->server, CALL, &c->calls, sizeof c->calls, 0, replied, NULL, NULL));
}

static void go(rr_actor_t *self, void *state, rr_message_t *msg) { call(self, state); }

static int start(rr_actor_t *self, void *state, const void *arg) {
    ((client_t *)state)->closed = (closed_t *)arg;
    return RR_OK;
}

static const rr_behavior_t server_behavior = {.name = "server", .receive = serve};
static const rr_behavior_t client_behavior = {.name = "client", .state_size = sizeof(client_t), .start = start, .receive = go};

void actors_closed(const actors_params_t *p, bench_run_t *out) {
    closed_t b = {0};
    if (p->clients == 0)
        bench_die("closed: --clients must not be 0");
    actors_begin(&b.run, p, out, (uint32_t)p->clients);
    b.server = actors_spawn(&b.run, &server_behavior, NULL);
    for (uint64_t i = 0; i < p->clients; i++)
        actors_kick(&b.run, actors_spawn(&b.run, &client_behavior, &b), GO);
    if (actors_measure(&b.run)) {
        bench_metric(out, "calls", "/s", BENCH_HIGHER, (double)b.run.counted / actors_seconds(&b.run));
        bench_metric(out, "p99", "us", BENCH_LOWER, (double)histogram_percentile(b.run.latency, 99) / 1e3);
        bench_latency(out, "call", b.run.latency);
    }
    actors_end(&b.run);
}
