#include "bench/floor.h"

#include <string.h>

static const struct {
    const char *name;
    void (*run)(const floor_params_t *p, bench_run_t *out);
} probes[] = {
    {"mpsc1", floor_mpsc_one},
    {"mpsc2", floor_mpsc_two},
    {"bounce", floor_bounce},
    {"futex", floor_wake_futex},
    {"eventfd", floor_wake_eventfd},
    {"poll", floor_poll},
    {"poll-busy", floor_poll_busy},
    {"issue", floor_issue},
};

typedef struct job {
    unsigned probe;
    const floor_params_t *params;
} job_t;

static void in_child(void *context, bench_run_t *run) {
    const job_t *job = context;
    probes[job->probe].run(job->params, run);
}

bool floor_run(const char *name, const floor_params_t *p, bench_run_t *out) {
    for (unsigned i = 0; i < sizeof probes / sizeof *probes; i++)
        if (strcmp(probes[i].name, name) == 0) {
            job_t job = {i, p};
            bench_in_child(out, in_child, &job, 30 + (unsigned)p->duration);
            return true;
        }
    return false;
}
