/* counting: producers flood one consumer, which checks that it gets everything, in each producer's order. Nothing may be
 * lost under the mailbox's limit: producers are paused by the runtime (policy pause) or refused and try again (fail). */
#include <string.h>

#include "bench/actors.h"

#define GO 0xf0000000u
#define END 0xf0000001u
#define SEQUENCE 0xffffffu
#define PRODUCERS 128u

typedef struct counting {
    payload_t payload;
    rr_addr_t consumer;
    atomic_ullong refused; /* relaxed sum, for information */
    actors_run_t run;
} counting_t;

typedef struct producer {
    counting_t *bench;
    uint32_t index;
    bool ended;
    uint64_t sent;
} producer_t;

typedef struct consumer {
    counting_t *bench;
    uint32_t ended;
    uint64_t received[PRODUCERS];
    actors_counter_t counter;
} consumer_t;

static int start(rr_actor_t *self, void *state, const void *arg) {
    memcpy(state, arg, sizeof(producer_t));
    return RR_OK;
}

static int start_consumer(rr_actor_t *self, void *state, const void *arg) {
    ((consumer_t *)state)->bench = (counting_t *)arg;
    return RR_OK;
}

/* False: the mailbox was full, nothing was sent. */
static bool offer(counting_t *b, int rc) {
    if (rc == RR_EFULL) {
        atomic_fetch_add_explicit(&b->refused, 1, memory_order_relaxed);
        return false;
    }
    return actors_sent(&b->run, rc);
}

static void send_slice(rr_actor_t *self, producer_t *p) {
    counting_t *b = p->bench;
    for (unsigned i = 0; i < ACTORS_SLICE; i++) {
        uint32_t type = p->index << 24 | ((uint32_t)p->sent & SEQUENCE);
        if (!offer(b, payload_send(&b->payload, self, b->consumer, type)))
            return;
        p->sent++;
    }
}

static void produce(rr_actor_t *self, void *state, rr_message_t *msg) {
    producer_t *p = state;
    counting_t *b = p->bench;
    if (actors_phase(&b->run) != ACTORS_STOP)
        send_slice(self, p);
    else if (offer(b, rr_send(self, b->consumer, END, p, sizeof *p)))
        return;
    actors_sent(&b->run, rr_send(self, rr_self(self), GO, NULL, 0));
}

static void end_of(consumer_t *c, const rr_message_t *msg) {
    producer_t p;
    memcpy(&p, rr_message_data(msg), sizeof p);
    if (c->received[p.index] != p.sent)
        bench_fail(c->bench->run.out, "producer %u: %llu sent, %llu received", p.index, (unsigned long long)p.sent,
                   (unsigned long long)c->received[p.index]);
    if (++c->ended == c->bench->run.p->producers) {
        actors_add(&c->bench->run, &c->counter);
        actors_done(&c->bench->run);
    }
}

static void consume(rr_actor_t *self, void *state, rr_message_t *msg) {
    consumer_t *c = state;
    uint32_t type = rr_message_type(msg), index = type >> 24;
    if (type == END) {
        end_of(c, msg);
        return;
    }
    if (index >= PRODUCERS || (c->received[index] & SEQUENCE) != (type & SEQUENCE) ||
        !payload_is(&c->bench->payload, msg)) {
        bench_fail(c->bench->run.out, "message %#x is out of order, lost or changed", type);
        return;
    }
    c->received[index]++;
    actors_count(&c->counter, actors_phase(&c->bench->run), 1);
}

static const rr_behavior_t producer_behavior = {
    .name = "producer", .state_size = sizeof(producer_t), .start = start, .receive = produce};
static const rr_behavior_t consumer_behavior = {
    .name = "consumer", .state_size = sizeof(consumer_t), .start = start_consumer, .receive = consume};

void actors_counting(const actors_params_t *p, bench_run_t *out) {
    counting_t b = {0};
    rr_spawn_t spec = {.behavior = &consumer_behavior, .arg = &b,
                       .policy = strcmp(p->policy, "fail") == 0 ? RR_POLICY_FAIL : RR_POLICY_PAUSE_SOURCE};
    if (p->producers == 0 || p->producers > PRODUCERS)
        bench_die("counting: 1 to %u producers", PRODUCERS);
    payload_init(&b.payload, p->size);
    actors_begin(&b.run, p, out, 1);
    b.consumer = actors_spawn_spec(&b.run, &spec);
    for (uint32_t i = 0; i < p->producers; i++) {
        producer_t arg = {.bench = &b, .index = i};
        spec = (rr_spawn_t){.behavior = &producer_behavior, .arg = &arg, .arg_size = sizeof arg};
        actors_kick(&b.run, actors_spawn_spec(&b.run, &spec), GO);
    }
    if (actors_measure(&b.run)) {
        bench_metric(out, "messages", "msg/s", BENCH_HIGHER, (double)b.run.counted / actors_seconds(&b.run));
        bench_metric(out, "refused", "msg", BENCH_INFO, (double)atomic_load(&b.refused));
    }
    actors_end(&b.run);
    payload_free(&b.payload);
}
