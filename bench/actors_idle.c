/* idle: resident bytes per actor that does nothing: new (spawned, no message yet) and used (has handled one and answered
 * it), and the CPU that all of them together take while nothing happens. */
#include <string.h>
#include <unistd.h>

#include "bench/actors.h"

#define SPAWN 1u
#define USE 2u
#define ACK 3u

typedef struct idle {
    rr_addr_t *actors;
    uint64_t next, acked;
    actors_run_t run;
} idle_t;

static void sleeper(rr_actor_t *self, void *state, rr_message_t *msg) {
    ++*(uint64_t *)state;
    int rc = rr_send(self, rr_message_from(msg), ACK, NULL, 0);
    if (rc != RR_OK)
        rr_exit(self, rc);
}

static const rr_behavior_t sleeper_behavior = {.name = "sleeper", .state_size = sizeof(uint64_t), .receive = sleeper};

static void slice(rr_actor_t *self, idle_t *i, uint32_t what) {
    uint64_t count = i->run.p->count;
    for (unsigned n = 0; n < ACTORS_SLICE && i->next < count; n++, i->next++)
        if (what == SPAWN)
            i->actors[i->next] = actors_spawn_child(&i->run, self, &sleeper_behavior, NULL);
        else
            actors_sent(&i->run, rr_send(self, i->actors[i->next], USE, NULL, 0));
    if (i->next < count)
        actors_sent(&i->run, rr_send(self, rr_self(self), what, NULL, 0));
    else if (what == SPAWN)
        actors_done(&i->run);
}

static void drive(rr_actor_t *self, void *state, rr_message_t *msg) {
    idle_t *i = *(idle_t **)state;
    if (rr_message_type(msg) == ACK) {
        if (++i->acked == i->run.p->count)
            actors_done(&i->run);
        return;
    }
    slice(self, i, rr_message_type(msg));
}

static int start(rr_actor_t *self, void *state, const void *arg) {
    *(const void **)state = arg;
    return RR_OK;
}

static const rr_behavior_t driver_behavior = {.name = "driver", .state_size = sizeof(void *), .start = start, .receive = drive};

/* Until the workers rest: less than a tenth of a core over 50 ms. */
static double settled_rss(actors_run_t *run) {
    double before = bench_own_cpu(), now;
    for (unsigned i = 0; i < 200; i++, before = now) {
        bench_sleep_until_ns(bench_now_ns() + 50000000);
        now = bench_own_cpu();
        if (now - before < 0.005)
            return (double)bench_process_rss((int)getpid());
    }
    bench_fail(run->out, "the workers do not come to rest");
    return 0;
}

static double step(idle_t *i, rr_addr_t driver, uint32_t what) {
    i->next = 0;
    atomic_store(&i->run.latch, 1);
    actors_kick(&i->run, driver, what);
    actors_wait(&i->run, 60);
    return settled_rss(&i->run);
}

void actors_idle(const actors_params_t *p, bench_run_t *out) {
    idle_t i = {0};
    double count = (double)p->count;
    i.actors = bench_alloc(p->count * sizeof *i.actors);
    memset(i.actors, 1, p->count * sizeof *i.actors); /* resident before the baseline is taken */
    actors_begin(&i.run, p, out, 1);
    i.run.memory_matters = true;
    rr_addr_t driver = actors_spawn(&i.run, &driver_behavior, &i);
    double before = settled_rss(&i.run), fresh = step(&i, driver, SPAWN), used = step(&i, driver, USE);
    actors_clock_start(&i.run);
    bench_sleep_until_ns(bench_now_ns() + (uint64_t)(p->duration * 1e9));
    actors_clock_stop(&i.run);
    bench_metric(out, "new", "bytes", BENCH_LOWER, (fresh - before) / count);
    bench_metric(out, "used", "bytes", BENCH_LOWER, (used - before) / count);
    bench_metric(out, "idle_cpu", "%", BENCH_LOWER, i.run.cpu / actors_seconds(&i.run) * 100);
    actors_end(&i.run);
    free(i.actors);
}
