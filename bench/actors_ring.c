/* ring: tokens go round a ring of actors. A token knows where it must be after how many hops. */
#include <string.h>

#include "bench/actors.h"

typedef struct ring {
    rr_addr_t *actors; /* written before the first token is sent, then only read */
    uint32_t size;
    actors_run_t run;
} ring_t;

typedef struct member {
    ring_t *ring;
    uint32_t index;
} member_t;

typedef struct token {
    uint32_t place; /* index of the actor that must get it */
    uint32_t hops;
    uint64_t counted;
} token_t;

static int start(rr_actor_t *self, void *state, const void *arg) {
    memcpy(state, arg, sizeof(member_t));
    return RR_OK;
}

static void pass_on(rr_actor_t *self, void *state, rr_message_t *msg) {
    const member_t *m = state;
    ring_t *r = m->ring;
    token_t token;
    actors_phase_t phase = actors_phase(&r->run);
    if (rr_message_size(msg) != sizeof token) {
        bench_fail(r->run.out, "a token arrived with %zu bytes", rr_message_size(msg));
        return;
    }
    memcpy(&token, rr_message_data(msg), sizeof token);
    if (token.place != m->index || token.hops != rr_message_type(msg))
        bench_fail(r->run.out, "actor %u got the token for %u", m->index, token.place);
    if (phase == ACTORS_STOP) {
        atomic_fetch_add_explicit(&r->run.counted, token.counted, memory_order_relaxed);
        actors_done(&r->run);
        return;
    }
    token.counted += phase == ACTORS_MEASURE;
    token.hops++;
    token.place = m->index + 1 == r->size ? 0 : m->index + 1;
    actors_sent(&r->run, rr_send(self, r->actors[token.place], token.hops, &token, sizeof token));
}

static const rr_behavior_t behavior = {.name = "ring", .state_size = sizeof(member_t), .start = start, .receive = pass_on};

static void inject(ring_t *r, uint32_t place) {
    token_t token = {.place = place};
    actors_sent(&r->run, rr_system_send(r->run.system, r->actors[place], 0, &token, sizeof token));
}

void actors_ring(const actors_params_t *p, bench_run_t *out) {
    ring_t r = {.size = (uint32_t)p->actors};
    if (p->actors == 0 || p->tokens == 0)
        bench_die("ring: --actors and --tokens must not be 0");
    r.actors = bench_alloc(p->actors * sizeof *r.actors);
    actors_begin(&r.run, p, out, (uint32_t)p->tokens);
    for (uint32_t i = 0; i < r.size; i++) {
        member_t arg = {&r, i};
        rr_spawn_t spec = {.behavior = &behavior, .arg = &arg, .arg_size = sizeof arg};
        r.actors[i] = actors_spawn_spec(&r.run, &spec);
    }
    for (uint64_t i = 0; i < p->tokens; i++)
        inject(&r, (uint32_t)(i * p->actors / p->tokens % p->actors));
    if (actors_measure(&r.run))
        bench_metric(out, "messages", "hop/s", BENCH_HIGHER, (double)r.run.counted / actors_seconds(&r.run));
    actors_end(&r.run);
    free(r.actors);
}
