/* suite: what ./dev bench runs. Each workload with its floor in turn; gate workloads need a server, given with --gate. */
#include <string.h>
#include <unistd.h>

#include "bench/actors.h"
#include "bench/commands.h"
#include "bench/gate.h"
#include "bench/options.h"

typedef struct suite_options {
    bool full, json;
    const char *part, *server, *gate, *lists, *lists_gate, *out;
    bench_output_t output;
} suite_options_t;

#define SUITE_SPECS(o)                                                                                                 \
    {"full", OPTION_FLAG, &(o)->full, "every workload and mode, longer"},                                              \
        {"part", OPTION_TEXT, &(o)->part, "only actors, gate, or the workload of that name"},                          \
        {"server", OPTION_TEXT, &(o)->server, "shell command of the gate's process; none: only actors"},               \
        {"gate", OPTION_TEXT, &(o)->gate, "its addresses: tcp://HOST:PORT,ws://HOST:PORT"},                            \
        {"lists", OPTION_TEXT, &(o)->lists, "the same of a server that sends to lists: multicast, with --full"},       \
        {"lists-gate", OPTION_TEXT, &(o)->lists_gate, "its addresses"},                                                \
        {"json", OPTION_FLAG, &(o)->json, "print JSON"},                                                               \
        {"out", OPTION_TEXT, &(o)->out, "write JSON there, text to standard output"},

void command_suite_help(void) {
    suite_options_t o = {0};
    option_spec_t specs[] = {SUITE_SPECS(&o)};
    options_help(specs, OPTIONS_COUNT(specs));
}

/* A step of the suite: a workload and what differs from its defaults. */
typedef struct actors_step {
    const char *workload;
    uint64_t pairs, actors, tokens, outstanding, size, threads;
    const char *generator;
    bool only_full;
} actors_step_t;

static const actors_step_t actors_steps[] = {
    {.workload = "pingpong", .pairs = 1},
    {.workload = "pingpong", .pairs = 1000},
    {.workload = "counting"},
    {.workload = "ring", .actors = 100, .tokens = 1},
    {.workload = "ring", .actors = 10000, .tokens = 100},
    {.workload = "spawn", .outstanding = 1000},
    {.workload = "spawn", .outstanding = UINT64_MAX, .only_full = true},
    {.workload = "tree"},
    {.workload = "fanout"},
    {.workload = "idle"},
    {.workload = "closed"},
    {.workload = "paced", .generator = "poll"},
    {.workload = "paced", .generator = "timer"},
    {.workload = "pingpong", .pairs = 1, .size = 64, .only_full = true},
    {.workload = "pingpong", .pairs = 1, .size = 4096, .only_full = true},
    {.workload = "pingpong", .pairs = 1, .size = 1048576, .only_full = true},
    {.workload = "pingpong", .pairs = 1, .threads = 4, .only_full = true},
    {.workload = "pingpong", .pairs = 1000, .threads = 4, .only_full = true},
    {.workload = "pingpong", .pairs = 1000, .threads = 8, .only_full = true},
    {.workload = "counting", .threads = 4, .only_full = true},
    {.workload = "counting", .threads = 8, .only_full = true},
    {.workload = "closed", .threads = 8, .only_full = true},
};

static bool chosen(const suite_options_t *o, const char *family, const char *workload, bool only_full) {
    if (only_full && !o->full)
        return false;
    return !o->part || strcmp(o->part, family) == 0 || strcmp(o->part, workload) == 0;
}

static bench_result_t *run_actor_step(const suite_options_t *o, const actors_step_t *s) {
    actors_params_t p;
    actors_params_init(&p);
    p.duration = o->full ? 1 : 0.5;
    p.warmup = 0.2;
    p.pairs = s->pairs ? s->pairs : p.pairs;
    p.actors = s->actors ? s->actors : p.actors;
    p.tokens = s->tokens ? s->tokens : p.tokens;
    p.size = s->size ? s->size : p.size;
    p.threads = s->threads;
    p.outstanding = s->outstanding == UINT64_MAX ? 0 : s->outstanding ? s->outstanding : p.outstanding;
    p.generator = s->generator ? s->generator : p.generator;
    return actors_execute(actors_find(s->workload), &p, o->full ? 10 : 3, true);
}

static void add(const suite_options_t *o, bench_results_t *results, bench_result_t *result) {
    bench_results_add(results, result);
    bench_show(results, &o->output);
}

static void run_actors(const suite_options_t *o, bench_results_t *results) {
    for (unsigned i = 0; i < sizeof actors_steps / sizeof *actors_steps; i++)
        if (chosen(o, "actors", actors_steps[i].workload, actors_steps[i].only_full))
            add(o, results, run_actor_step(o, &actors_steps[i]));
}

typedef struct gate_step {
    const char *workload;
    unsigned connections, outstanding;
    bool only_full, lists;
} gate_step_t;

static const gate_step_t gate_steps[] = {
    {"echo", 50, 1, false, false},      {"echo", 50, 16, false, false},       {"echo", 1000, 16, false, false},
    {"connect", 50, 1, false, false},   {"broadcast", 1000, 16, false, false}, {"idle", 1000, 1, false, false},
    {"echo", 1, 1, true, false},        {"broadcast", 1000, 64, true, false}, {"idle", 10000, 1, true, false},
    {"multicast", 1000, 16, true, true}, {"chat", 1000, 1, true, false},
};

static bench_result_t *run_gate_step(const suite_options_t *o, const gate_step_t *s, const char *to) {
    gate_plan_t plan;
    gate_plan_init(&plan);
    plan.workload = gate_find(s->workload);
    plan.runs = o->full ? 3 : 1;
    plan.server = s->lists ? o->lists : o->server;
    plan.server_cpu = bench_cpus() > 1 ? 0 : -1;
    plan.floor = true;
    plan.params.to = to;
    plan.params.cpu = bench_cpus() > 1 ? 1 : -1;
    plan.params.duration = o->full ? 2 : 1;
    plan.params.warmup = 0.3;
    plan.params.connections = s->connections;
    plan.params.outstanding = s->outstanding;
    return gate_execute(&plan);
}

static void run_gates(const suite_options_t *o, bench_results_t *results, const char *addresses, bool lists) {
    char *list = strdup(addresses ? addresses : ""), *save = NULL;
    if (!list)
        bench_die("out of memory");
    for (char *to = strtok_r(list, ",", &save); to; to = strtok_r(NULL, ",", &save))
        for (unsigned i = 0; i < sizeof gate_steps / sizeof *gate_steps; i++) {
            const gate_step_t *s = &gate_steps[i];
            if (s->lists == lists && chosen(o, "gate", s->workload, s->only_full))
                add(o, results, run_gate_step(o, s, to));
        }
    free(list);
}

int command_suite(int argc, char **argv, int first) {
    suite_options_t o = {0};
    option_spec_t specs[] = {SUITE_SPECS(&o)};
    bench_results_t results = {0};
    if (options_parse(specs, OPTIONS_COUNT(specs), argc, argv, first) > 0)
        bench_die("suite takes no workloads: use rr-bench actors or rr-bench gate");
    o.output = (bench_output_t){.json = o.json || o.out, .path = o.out, .shown = true};
    bench_show(&results, &o.output);
    run_actors(&o, &results);
    run_gates(&o, &results, o.gate, false);
    run_gates(&o, &results, o.lists_gate, true);
    if (results.count == 0)
        bench_die("suite: no such part '%s' (gate workloads need --gate, multicast --lists-gate; some are only in --full)",
                  o.part ? o.part : "");
    int status = bench_print(&results, &o.output);
    bench_results_free(&results);
    return status;
}
