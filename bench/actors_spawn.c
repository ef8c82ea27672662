/* spawn: a driver spawns actors and sends each one message; each replies and ends. At most `outstanding` live at a time
 * (0 = all at once). Every actor must answer exactly once. */
#include <string.h>

#include "bench/actors.h"

#define GO UINT32_MAX

typedef struct spawning {
    uint64_t limit, spawned, replied;
    bool going; /* the driver has a message to itself under way */
    uint8_t *seen; /* a bit per actor */
    actors_run_t run;
} spawning_t;

static void answer(rr_actor_t *self, void *state, rr_message_t *msg);
static const rr_behavior_t child_behavior = {.name = "mayfly", .state_size = sizeof(rr_addr_t), .receive = answer};

/* The driver's mailbox may be full when all answer at once: then the child messages itself and tries again. */
static void answer(rr_actor_t *self, void *state, rr_message_t *msg) {
    rr_addr_t *driver = state;
    uint32_t id = rr_message_type(msg);
    if (*driver == RR_NOBODY)
        *driver = rr_message_from(msg);
    int rc = rr_send(self, *driver, id, NULL, 0);
    if (rc == RR_EFULL)
        rc = rr_send(self, rr_self(self), id, NULL, 0);
    else
        rr_exit(self, rc);
}

static void spawn_one(rr_actor_t *self, spawning_t *s) {
    rr_addr_t child = actors_spawn_child(&s->run, self, &child_behavior, NULL);
    actors_sent(&s->run, rr_send(self, child, (uint32_t)s->spawned++, NULL, 0));
}

static void spawn_slice(rr_actor_t *self, spawning_t *s) {
    unsigned n = 0;
    while (n < ACTORS_SLICE && s->spawned < s->run.p->count && s->spawned - s->replied < s->limit) {
        spawn_one(self, s);
        n++;
    }
    s->going = n == ACTORS_SLICE;
    if (s->going)
        actors_sent(&s->run, rr_send(self, rr_self(self), GO, NULL, 0));
}

static void replied(spawning_t *s, uint32_t id) {
    if (id >= s->spawned || s->seen[id / 8] & 1u << id % 8) {
        bench_fail(s->run.out, "actor %u answered twice, or does not exist", id);
        return;
    }
    s->seen[id / 8] |= (uint8_t)(1u << id % 8);
    if (++s->replied == s->run.p->count) {
        actors_clock_stop(&s->run);
        actors_done(&s->run);
    }
}

static void drive(rr_actor_t *self, void *state, rr_message_t *msg) {
    spawning_t *s = *(spawning_t **)state;
    if (rr_message_type(msg) == GO) {
        spawn_slice(self, s);
        return;
    }
    replied(s, rr_message_type(msg));
    if (!s->going && s->spawned < s->run.p->count && s->spawned - s->replied < s->limit)
        spawn_one(self, s);
}

static int start(rr_actor_t *self, void *state, const void *arg) {
    *(const void **)state = arg;
    return RR_OK;
}

static const rr_behavior_t driver_behavior = {.name = "driver", .state_size = sizeof(void *), .start = start, .receive = drive};

void actors_spawning(const actors_params_t *p, bench_run_t *out) {
    spawning_t s = {.limit = p->outstanding ? p->outstanding : p->count};
    s.seen = bench_alloc(p->count / 8 + 1);
    actors_begin(&s.run, p, out, 1);
    s.run.memory_matters = true;
    rr_addr_t driver = actors_spawn(&s.run, &driver_behavior, &s);
    actors_clock_start(&s.run);
    actors_kick(&s.run, driver, GO);
    if (actors_wait(&s.run, 60 + p->duration))
        bench_metric(out, "actors", "/s", BENCH_HIGHER, (double)p->count / actors_seconds(&s.run));
    actors_end(&s.run);
    free(s.seen);
}
