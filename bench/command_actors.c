#include <string.h>

#include "bench/actors.h"
#include "bench/commands.h"
#include "bench/options.h"

typedef struct actors_options {
    actors_params_t params;
    uint64_t runs, rate;
    bool floor, json;
    const char *out;
} actors_options_t;

#define ACTORS_SPECS(o)                                                                                                \
    {"threads", OPTION_COUNT, &(o)->params.threads, "core workers; 0 = one per CPU"},                                  \
        {"duration", OPTION_SECONDS, &(o)->params.duration, "measured time of a run"},                                 \
        {"warmup", OPTION_SECONDS, &(o)->params.warmup, "before it, not counted"},                                     \
        {"runs", OPTION_COUNT, &(o)->runs, "the median is reported"},                                                  \
        {"size", OPTION_SIZE, &(o)->params.size, "pingpong, counting, fanout: payload; above 512 B a shared buffer"},  \
        {"pairs", OPTION_COUNT, &(o)->params.pairs, "pingpong"},                                                       \
        {"producers", OPTION_COUNT, &(o)->params.producers, "counting"},                                               \
        {"policy", OPTION_TEXT, &(o)->params.policy, "counting: pause or fail, what a full mailbox does"},             \
        {"actors", OPTION_COUNT, &(o)->params.actors, "ring"},                                                         \
        {"tokens", OPTION_COUNT, &(o)->params.tokens, "ring"},                                                         \
        {"count", OPTION_COUNT, &(o)->params.count, "spawn, idle: actors"},                                            \
        {"outstanding", OPTION_COUNT, &(o)->params.outstanding, "spawn: alive at a time; 0 = all at once"},            \
        {"leaves", OPTION_COUNT, &(o)->params.leaves, "tree: a power of ten"},                                         \
        {"workers", OPTION_COUNT, &(o)->params.workers, "fanout"},                                                     \
        {"clients", OPTION_COUNT, &(o)->params.clients, "closed"},                                                     \
        {"rate", OPTION_COUNT, &(o)->rate, "paced: calls a second"},                                                   \
        {"generator", OPTION_TEXT, &(o)->params.generator, "paced: poll or timer"},                                    \
        {"selfish", OPTION_COUNT, &(o)->params.selfish, "paced: actors beside it that message themselves"},            \
        {"floor", OPTION_FLAG, &(o)->floor, "measure the bare queue in turn and print the share"},                     \
        {"json", OPTION_FLAG, &(o)->json, "print JSON"},                                                               \
        {"out", OPTION_TEXT, &(o)->out, "write JSON there, text to standard output"},

static void defaults(actors_options_t *o) {
    *o = (actors_options_t){.runs = 5, .rate = 50000};
    actors_params_init(&o->params);
}

void command_actors_help(void) {
    actors_options_t o;
    defaults(&o);
    option_spec_t specs[] = {ACTORS_SPECS(&o)};
    options_help(specs, OPTIONS_COUNT(specs));
}

int command_actors(int argc, char **argv, int first) {
    static const char all[] = "pingpong, counting, ring, spawn, tree, fanout, idle, paced, closed";
    actors_options_t o;
    defaults(&o);
    option_spec_t specs[] = {ACTORS_SPECS(&o)};
    int names = options_parse(specs, OPTIONS_COUNT(specs), argc, argv, first);
    o.params.rate = (double)o.rate;
    if (names == 0 || o.runs == 0)
        bench_die("actors: which workload? %s", all);
    for (int i = 0; i < names; i++)
        if (!actors_find(argv[first + i]))
            bench_die("actors: no workload '%s': %s", argv[first + i], all);
    bench_results_t results = {0};
    for (int i = 0; i < names; i++)
        bench_results_add(&results,
                          actors_execute(actors_find(argv[first + i]), &o.params, (unsigned)o.runs, o.floor));
    bench_output_t output = {.json = o.json || o.out, .path = o.out};
    int status = bench_print(&results, &output);
    bench_results_free(&results);
    return status;
}
