#include "bench/cluster.h"
#include "bench/commands.h"
#include "bench/options.h"

typedef struct cluster_options {
    cluster_params_t params;
    uint64_t runs;
    bool floor, json;
    const char *out;
} cluster_options_t;

#define CLUSTER_SPECS(o)                                                                                               \
    {"duration", OPTION_SECONDS, &(o)->params.duration, "measured time of a run"},                                     \
        {"warmup", OPTION_SECONDS, &(o)->params.warmup, "before it, not counted"},                                     \
        {"runs", OPTION_COUNT, &(o)->runs, "the median is reported"},                                                  \
        {"size", OPTION_SIZE, &(o)->params.size, "a message's body, 8 bytes to 64 KiB"},                               \
        {"outstanding", OPTION_COUNT, &(o)->params.outstanding, "call: in flight"},                                    \
        {"relay", OPTION_FLAG, &(o)->params.relay, "through a third node"},                                            \
        {"guest", OPTION_FLAG, &(o)->params.guest, "the links' loops may run the actors (on one CPU they do anyway)"},  \
        {"pinned", OPTION_FLAG, &(o)->params.pinned, "the actors live on the links' loops"},                           \
        {"floor", OPTION_FLAG, &(o)->floor, "measure a bare libuv pair in turn and print the share"},                  \
        {"json", OPTION_FLAG, &(o)->json, "print JSON"},                                                               \
        {"out", OPTION_TEXT, &(o)->out, "write JSON there, text to standard output"},

static void defaults(cluster_options_t *o) {
    *o = (cluster_options_t){.runs = 5};
    cluster_params_init(&o->params);
}

void command_cluster_help(void) {
    cluster_options_t o;
    defaults(&o);
    option_spec_t specs[] = {CLUSTER_SPECS(&o)};
    options_help(specs, OPTIONS_COUNT(specs));
}

int command_cluster(int argc, char **argv, int first) {
    cluster_options_t o;
    defaults(&o);
    option_spec_t specs[] = {CLUSTER_SPECS(&o)};
    int names = options_parse(specs, OPTIONS_COUNT(specs), argc, argv, first);
    if (names == 0 || o.runs == 0)
        bench_die("cluster: which workload? oneway, call");
    if (o.params.size < 8 || o.params.size > 65536 || o.params.outstanding < 1 || o.params.outstanding > 10000)
        bench_die("cluster: --size is 8 to 64 KiB, --outstanding 1 to 10,000");
    for (int i = 0; i < names; i++)
        if (!cluster_find(argv[first + i]))
            bench_die("cluster: no workload '%s': oneway, call", argv[first + i]);
    bench_results_t results = {0};
    for (int i = 0; i < names; i++)
        bench_results_add(&results,
                          cluster_execute(cluster_find(argv[first + i]), &o.params, (unsigned)o.runs, o.floor));
    bench_output_t output = {.json = o.json || o.out, .path = o.out};
    int status = bench_print(&results, &output);
    bench_results_free(&results);
    return status;
}
