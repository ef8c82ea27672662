/* fanout: one actor sends to all workers, each acknowledges, and when all have, it starts over. */
#include <string.h>

#include "bench/actors.h"

#define GO UINT32_MAX
#define INDEX 0xffffffu

typedef struct fanout {
    payload_t payload;
    rr_addr_t *workers;
    uint8_t *acked; /* per worker: the last round it acknowledged */
    uint32_t count, missing, next;
    uint8_t round;
    actors_counter_t counter;
    actors_run_t run;
} fanout_t;

typedef struct worker {
    fanout_t *fanout;
    uint32_t index;
} worker_t;

static int start(rr_actor_t *self, void *state, const void *arg) {
    memcpy(state, arg, sizeof(worker_t));
    return RR_OK;
}

static void work(rr_actor_t *self, void *state, rr_message_t *msg) {
    const worker_t *w = state;
    if (!payload_is(&w->fanout->payload, msg))
        bench_fail(w->fanout->run.out, "worker %u: the body changed on its way", w->index);
    uint32_t ack = rr_message_type(msg) << 24 | w->index;
    actors_sent(&w->fanout->run, rr_send(self, rr_message_from(msg), ack, NULL, 0));
}

static void send_slice(rr_actor_t *self, fanout_t *f) {
    uint32_t end = f->next + ACTORS_SLICE < f->count ? f->next + ACTORS_SLICE : f->count;
    for (; f->next < end; f->next++)
        actors_sent(&f->run, payload_send(&f->payload, self, f->workers[f->next], f->round));
    if (f->next < f->count)
        actors_sent(&f->run, rr_send(self, rr_self(self), GO, NULL, 0));
}

static void next_round(rr_actor_t *self, fanout_t *f) {
    f->round++;
    f->next = 0;
    f->missing = f->count;
    send_slice(self, f);
}

static void got_ack(rr_actor_t *self, fanout_t *f, uint32_t ack) {
    uint32_t index = ack & INDEX;
    actors_phase_t phase = actors_phase(&f->run);
    if (index >= f->count || ack >> 24 != f->round || f->acked[index] == f->round) {
        bench_fail(f->run.out, "worker %u acknowledged twice, or round %u instead of %u", index, ack >> 24, f->round);
        return;
    }
    f->acked[index] = f->round;
    actors_count(&f->counter, phase, 2);
    if (--f->missing > 0)
        return;
    if (phase != ACTORS_STOP) {
        next_round(self, f);
        return;
    }
    actors_add(&f->run, &f->counter);
    actors_done(&f->run);
}

static void lead(rr_actor_t *self, void *state, rr_message_t *msg) {
    fanout_t *f = *(fanout_t **)state;
    if (rr_message_type(msg) != GO)
        got_ack(self, f, rr_message_type(msg));
    else if (f->next == f->count)
        next_round(self, f);
    else
        send_slice(self, f);
}

static int start_leader(rr_actor_t *self, void *state, const void *arg) {
    *(const void **)state = arg;
    return RR_OK;
}

static const rr_behavior_t worker_behavior = {.name = "worker", .state_size = sizeof(worker_t), .start = start, .receive = work};
static const rr_behavior_t leader_behavior = {.name = "leader", .state_size = sizeof(void *), .start = start_leader, .receive = lead};

void actors_fanout(const actors_params_t *p, bench_run_t *out) {
    fanout_t f = {.count = (uint32_t)p->workers, .next = (uint32_t)p->workers};
    if (p->workers == 0 || p->workers > 60000)
        bench_die("fanout: 1 to 60000 workers (all acknowledge into one mailbox)");
    payload_init(&f.payload, p->size);
    f.workers = bench_alloc(p->workers * sizeof *f.workers);
    f.acked = bench_alloc(p->workers);
    actors_begin(&f.run, p, out, 1);
    for (uint32_t i = 0; i < f.count; i++) {
        worker_t arg = {&f, i};
        rr_spawn_t spec = {.behavior = &worker_behavior, .arg = &arg, .arg_size = sizeof arg};
        f.workers[i] = actors_spawn_spec(&f.run, &spec);
    }
    actors_kick(&f.run, actors_spawn(&f.run, &leader_behavior, &f), GO);
    if (actors_measure(&f.run))
        bench_metric(out, "messages", "msg/s", BENCH_HIGHER, (double)f.run.counted / actors_seconds(&f.run));
    actors_end(&f.run);
    payload_free(&f.payload);
    free(f.workers);
    free(f.acked);
}
