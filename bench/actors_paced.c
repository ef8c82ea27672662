/* paced: calls at a fixed rate from one actor to another. A call's latency counts from when it was due, so that a stall
 * shows in every call it delayed (no coordinated omission).
 * poll: the generator messages itself and looks at the clock each turn. timer: a 1 ms timer issues what is due; due times
 * are the timer's own ticks, the earliest ever seen being taken as its phase. selfish: actors that message themselves all
 * the time, beside it. */
#include <string.h>

#include "bench/actors.h"

#define GO 1u
#define CALL 2u
#define TICK_NS 1000000u

typedef struct paced {
    rr_addr_t server;
    bool timer;
    uint64_t gap, next_due;       /* poll */
    uint64_t phase, tick;         /* timer: when tick 0 was due, and the last one issued */
    uint64_t sent, received, late_ticks;
    bool ended;
    actors_run_t run;
} paced_t;

static void serve(rr_actor_t *self, void *state, rr_message_t *msg) {
    rr_reply(self, msg, rr_message_data(msg), rr_message_size(msg));
}

static void replied(rr_actor_t *self, void *state, int status, rr_message_t *msg, void *context) {
    paced_t *p = *(paced_t **)state;
    uint64_t due = (uint64_t)(uintptr_t)context, now = rr_now_ns(self);
    if (status != RR_OK || rr_message_size(msg) != sizeof p->received ||
        memcmp(rr_message_data(msg), &p->received, sizeof p->received) != 0)
        bench_fail(p->run.out, "call %llu: %s", (unsigned long long)p->received,
                   status != RR_OK ? rr_strerror(status) : "answered out of order");
    p->received++;
    if (actors_phase(&p->run) == ACTORS_MEASURE)
        histogram_record(p->run.latency, now > due ? now - due : 0);
}

static void issue(rr_actor_t *self, paced_t *p, uint64_t due) {
    int rc = rr_call(self, p->server, CALL, &p->sent, sizeof p->sent, 0, replied, (void *)(uintptr_t)due, NULL);
    p->sent++;
    actors_sent(&p->run, rc);
}

static bool is_over(paced_t *p) {
    if (actors_phase(&p->run) != ACTORS_STOP)
        return false;
    if (!p->ended && p->sent == p->received) {
        p->ended = true;
        actors_done(&p->run);
    }
    return true;
}

static void poll(rr_actor_t *self, paced_t *p) {
    uint64_t now = rr_now_ns(self);
    if (!is_over(p))
        for (; p->next_due <= now; p->next_due += p->gap)
            issue(self, p, p->next_due);
    if (!p->ended)
        actors_sent(&p->run, rr_send(self, rr_self(self), GO, NULL, 0));
}

static void tick(rr_actor_t *self, paced_t *p) {
    uint64_t now = rr_now_ns(self), count = TICK_NS / p->gap;
    if (is_over(p))
        return;
    if (p->phase == 0)
        p->phase = now - TICK_NS;
    uint64_t tick_now = (now - p->phase + TICK_NS / 2) / TICK_NS;
    if (p->phase + tick_now * TICK_NS > now)
        p->phase = now - tick_now * TICK_NS;
    p->late_ticks += tick_now > p->tick + 1;
    for (; p->tick < tick_now; p->tick++)
        for (uint64_t i = 0; i < count; i++)
            issue(self, p, p->phase + (p->tick + 1) * TICK_NS);
}

static void generate(rr_actor_t *self, void *state, rr_message_t *msg) {
    paced_t *p = *(paced_t **)state;
    if (rr_message_kind(msg) == RR_TIMER)
        tick(self, p);
    else if (!p->timer)
        poll(self, p);
    else
        actors_sent(&p->run, rr_timer_start(self, 1, 1, 0, NULL));
}

static void selfish(rr_actor_t *self, void *state, rr_message_t *msg) {
    paced_t *p = *(paced_t **)state;
    if (actors_phase(&p->run) != ACTORS_STOP)
        actors_sent(&p->run, rr_send(self, rr_self(self), GO, NULL, 0));
}

static int start(rr_actor_t *self, void *state, const void *arg) {
    *(const void **)state = arg;
    return RR_OK;
}

static const rr_behavior_t server_behavior = {.name = "server", .receive = serve};
static const rr_behavior_t generator_behavior = {
    .name = "generator", .state_size = sizeof(void *), .start = start, .receive = generate};
static const rr_behavior_t selfish_behavior = {
    .name = "selfish", .state_size = sizeof(void *), .start = start, .receive = selfish};

void actors_paced(const actors_params_t *params, bench_run_t *out) {
    paced_t p = {.timer = strcmp(params->generator, "timer") == 0};
    if (!p.timer && strcmp(params->generator, "poll") != 0)
        bench_die("paced: --generator poll or timer");
    if (params->rate < 1000 || params->rate > 1e6)
        bench_die("paced: --rate from 1000 to 1000000");
    p.gap = (uint64_t)(1e9 / params->rate);
    actors_begin(&p.run, params, out, 1);
    p.server = actors_spawn(&p.run, &server_behavior, NULL);
    rr_addr_t generator = actors_spawn(&p.run, &generator_behavior, &p);
    for (uint64_t i = 0; i < params->selfish; i++)
        actors_kick(&p.run, actors_spawn(&p.run, &selfish_behavior, &p), GO);
    p.next_due = rr_system_now_ns(p.run.system);
    actors_kick(&p.run, generator, GO);
    if (actors_measure(&p.run)) {
        bench_metric(out, "calls", "/s", BENCH_INFO, (double)p.run.latency->total / actors_seconds(&p.run));
        if (p.timer)
            bench_metric(out, "late_ticks", "", BENCH_INFO, (double)p.late_ticks);
        bench_metric(out, "p99", "us", BENCH_LOWER, (double)histogram_percentile(p.run.latency, 99) / 1e3);
        bench_metric(out, "p99.9", "us", BENCH_LOWER, (double)histogram_percentile(p.run.latency, 99.9) / 1e3);
        bench_latency(out, "call", p.run.latency);
    }
    actors_end(&p.run);
}
