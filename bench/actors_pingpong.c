/* pingpong: pairs of actors, one message to and fro; every message is checked. Counts messages, both ways. */
#include <string.h>

#include "bench/actors.h"

#define START 0xf0000000u
#define SEQUENCE 0x7fffffffu

typedef struct pingpong {
    payload_t payload;
    actors_run_t run;
} pingpong_t;

typedef struct pair {
    pingpong_t *bench;
    rr_addr_t peer;
    uint32_t sequence;
    actors_counter_t counter;
} pair_t;

static int start(rr_actor_t *self, void *state, const void *arg) {
    memcpy(state, arg, sizeof(pair_t));
    return RR_OK;
}

static void check(pair_t *p, const rr_message_t *msg, uint32_t sequence) {
    if (rr_message_type(msg) != sequence || !payload_is(&p->bench->payload, msg))
        bench_fail(p->bench->run.out, "message %u arrived as %u, or with another body", sequence,
                   rr_message_type(msg));
}

static void ponger(rr_actor_t *self, void *state, rr_message_t *msg) {
    pair_t *p = state;
    check(p, msg, p->sequence);
    actors_sent(&p->bench->run, payload_send(&p->bench->payload, self, rr_message_from(msg), p->sequence));
    p->sequence = (p->sequence + 1) & SEQUENCE;
}

static void pinger(rr_actor_t *self, void *state, rr_message_t *msg) {
    pair_t *p = state;
    actors_phase_t phase = actors_phase(&p->bench->run);
    if (rr_message_type(msg) != START) {
        check(p, msg, p->sequence);
        p->sequence = (p->sequence + 1) & SEQUENCE;
        actors_count(&p->counter, phase, 2);
    }
    if (phase == ACTORS_STOP) {
        actors_add(&p->bench->run, &p->counter);
        actors_done(&p->bench->run);
        return;
    }
    actors_sent(&p->bench->run, payload_send(&p->bench->payload, self, p->peer, p->sequence));
}

static const rr_behavior_t ping_behavior = {.name = "ping", .state_size = sizeof(pair_t), .start = start, .receive = pinger};
static const rr_behavior_t pong_behavior = {.name = "pong", .state_size = sizeof(pair_t), .start = start, .receive = ponger};

static void spawn_pair(pingpong_t *b) {
    pair_t arg = {.bench = b};
    rr_spawn_t spec = {.behavior = &pong_behavior, .arg = &arg, .arg_size = sizeof arg};
    arg.peer = actors_spawn_spec(&b->run, &spec);
    spec.behavior = &ping_behavior;
    actors_kick(&b->run, actors_spawn_spec(&b->run, &spec), START);
}

void actors_pingpong(const actors_params_t *p, bench_run_t *out) {
    pingpong_t b = {0};
    payload_init(&b.payload, p->size);
    actors_begin(&b.run, p, out, (uint32_t)p->pairs);
    for (uint64_t i = 0; i < p->pairs; i++)
        spawn_pair(&b);
    if (actors_measure(&b.run))
        bench_metric(out, "messages", "msg/s", BENCH_HIGHER, (double)b.run.counted / actors_seconds(&b.run));
    actors_end(&b.run);
    payload_free(&b.payload);
}
