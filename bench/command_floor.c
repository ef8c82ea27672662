#include <string.h>

#include "bench/address.h"
#include "bench/commands.h"
#include "bench/floor.h"
#include "bench/floor_server.h"
#include "bench/gate.h"
#include "bench/options.h"

typedef struct floor_options {
    uint64_t runs;
    double duration;
    bool json;
    const char *out;
} floor_options_t;

#define FLOOR_SPECS(o)                                                                                                 \
    {"runs", OPTION_COUNT, &(o)->runs, "the median is reported"},                                                      \
        {"duration", OPTION_SECONDS, &(o)->duration, "of each run"},                                                   \
        {"json", OPTION_FLAG, &(o)->json, "print JSON"},                                                               \
        {"out", OPTION_TEXT, &(o)->out, "write JSON there, text to standard output"},

void command_floor_help(void) {
    floor_options_t o = {.runs = 3, .duration = 1};
    option_spec_t specs[] = {FLOOR_SPECS(&o)};
    options_help(specs, OPTIONS_COUNT(specs));
}

static const char *const probes[] = {"mpsc1", "mpsc2", "bounce", "futex", "eventfd", "poll", "poll-busy", "issue"};

static const struct {
    const char *name, *server, *workload;
    unsigned connections, outstanding;
} servers[] = {
    {"epoll-tcp", "epoll-tcp", "echo", 1, 1},          {"epoll-tcp", "epoll-tcp", "echo", 50, 1},
    {"epoll-tcp", "epoll-tcp", "echo", 50, 16},        {"epoll-tcp", "epoll-tcp", "echo", 1000, 16},
    {"epoll-tcp", "epoll-tcp", "broadcast", 1000, 16}, {"epoll-tcp", "epoll-tcp", "connect", 50, 1},
    {"epoll-tcp", "epoll-tcp", "idle", 1000, 1},       {"libuv-tcp", "libuv-tcp", "echo", 50, 1},
    {"libuv-tcp", "libuv-tcp", "echo", 50, 16},        {"libuv-tcp", "libuv-tcp", "echo", 1000, 16},
    {"libuv-tcp", "libuv-tcp", "broadcast", 1000, 16}, {"libuv-tcp", "libuv-tcp", "connect", 50, 1},
    {"libuv-tcp", "libuv-tcp", "idle", 1000, 1},       {"epoll-ws", "epoll-ws", "echo", 50, 1},
    {"epoll-ws", "epoll-ws", "echo", 50, 16},          {"epoll-ws", "epoll-ws", "echo", 1000, 16},
    {"epoll-ws", "epoll-ws", "broadcast", 1000, 16},   {"epoll-ws", "epoll-ws", "connect", 50, 1},
    {"epoll-ws", "epoll-ws", "idle", 1000, 1},
};

static bench_result_t *probe(const floor_options_t *o, const char *name) {
    floor_params_t params = {.duration = o->duration};
    bench_result_t *result = bench_result_new("floor", name, json_pack("{s:f}", "duration", o->duration));
    for (uint64_t i = 0; i < o->runs; i++) {
        bench_run_t run = {0};
        bench_progress("floor %s", name);
        floor_run(name, &params, &run);
        bench_result_add_run(result, &run);
    }
    return result;
}

/* A fresh server for each run: memory that an earlier one freed would hide what this one needs. */
static void serve_once(bench_result_t *result, gate_plan_t *plan, const char *kind) {
    floor_server_t server;
    bench_run_t run = {0};
    floor_server_start(&server, kind, plan->server_cpu);
    plan->params.to = server.to;
    plan->params.pid = (uint64_t)server.pid;
    gate_run_once(plan->workload, &plan->params, &run);
    floor_server_stop(&server);
    bench_result_add_run(result, &run);
}

static bench_result_t *serve(const floor_options_t *o, unsigned index) {
    gate_plan_t plan;
    gate_plan_init(&plan);
    plan.workload = gate_find(servers[index].workload);
    plan.params.duration = o->duration;
    plan.params.warmup = o->duration / 5;
    plan.params.connections = servers[index].connections;
    plan.params.outstanding = servers[index].outstanding;
    plan.params.to = strcmp(servers[index].server, "epoll-ws") == 0 ? "ws://127.0.0.1:0" : "tcp://127.0.0.1:0";
    plan.params.cpu = 1;
    plan.server_cpu = 0;
    bench_result_t *result = bench_result_new("floor", plan.workload->name, gate_params_json(&plan));
    json_object_set_new(result->params, "server", json_string(servers[index].name));
    for (uint64_t i = 0; i < o->runs; i++) {
        bench_progress("floor %s, %s: run %llu", servers[index].name, plan.workload->name, (unsigned long long)i + 1);
        serve_once(result, &plan, servers[index].server);
    }
    return result;
}

static bool wanted(int argc, char **argv, int first, int names, const char *name) {
    for (int i = 0; i < names; i++)
        if (strcmp(argv[first + i], name) == 0)
            return true;
    return names == 0;
}

int command_floor(int argc, char **argv, int first) {
    floor_options_t o = {.runs = 3, .duration = 1};
    option_spec_t specs[] = {FLOOR_SPECS(&o)};
    int names = options_parse(specs, OPTIONS_COUNT(specs), argc, argv, first);
    bench_results_t results = {0};
    for (unsigned i = 0; i < sizeof probes / sizeof *probes; i++)
        if (wanted(argc, argv, first, names, probes[i]))
            bench_results_add(&results, probe(&o, probes[i]));
    for (unsigned i = 0; i < sizeof servers / sizeof *servers; i++)
        if (wanted(argc, argv, first, names, servers[i].name) || wanted(argc, argv, first, names, servers[i].workload))
            bench_results_add(&results, serve(&o, i));
    if (results.count == 0)
        bench_die("floor: mpsc1, mpsc2, bounce, futex, eventfd, poll, poll-busy, issue, epoll-tcp, libuv-tcp, epoll-ws, echo, broadcast, "
                  "connect, idle, or nothing for all");
    bench_output_t output = {.json = o.json || o.out, .path = o.out};
    int status = bench_print(&results, &output);
    bench_results_free(&results);
    return status;
}

/* A floor server in the foreground: something to try `rr-bench gate` on. */
int command_server(int argc, char **argv, int first) {
    const char *kind = first < argc ? argv[first] : "", *address = first + 1 < argc ? argv[first + 1] : NULL;
    if (!address || (strcmp(kind, "epoll") != 0 && strcmp(kind, "libuv") != 0))
        bench_die("server epoll|libuv tcp://HOST:PORT (epoll serves TCP and WebSocket, libuv TCP)");
    bench_need_files(20000);
    int fd = floor_listen(address);
    if (strcmp(kind, "libuv") == 0)
        floor_libuv_serve(fd);
    floor_epoll_serve(fd);
}
