#include <string.h>

#include "bench/commands.h"
#include "bench/floor_server.h"
#include "bench/gate.h"
#include "bench/options.h"

typedef struct gate_options {
    gate_plan_t plan;
    const char *body, *mode, *out;
    bool json;
    uint64_t rate_count;
} gate_options_t;

#define GATE_SPECS(o)                                                                                                  \
    {"to", OPTION_TEXT, &(o)->plan.params.to, "tcp://HOST:PORT, tcp-be:// (network byte order), ws://HOST:PORT/PATH"}, \
        {"mode", OPTION_TEXT, &(o)->mode, "CONNECTIONSxOUTSTANDING at once, e.g. 1000x16"},                            \
        {"connections", OPTION_COUNT, &(o)->plan.params.connections, "clients"},                                       \
        {"outstanding", OPTION_COUNT, &(o)->plan.params.outstanding, "messages under way per client"},                 \
        {"size", OPTION_SIZE, &(o)->plan.params.size, "bytes of a body"},                                              \
        {"body", OPTION_TEXT, &(o)->body, "raw or json"},                                                              \
        {"binary", OPTION_FLAG, &(o)->plan.params.binary, "WebSocket: binary frames, not text"},                       \
        {"rate", OPTION_COUNT, &(o)->rate_count, "messages a second in all, paced; 0 = closed loop"},                  \
        {"sleep", OPTION_FLAG, &(o)->plan.params.sleeps, "paced: sleep until a message is due (waking up counts, too)"}, \
        {"duration", OPTION_SECONDS, &(o)->plan.params.duration, "measured time of a run"},                            \
        {"warmup", OPTION_SECONDS, &(o)->plan.params.warmup, "before it, not counted"},                                \
        {"runs", OPTION_COUNT, &(o)->plan.runs, "the median is reported"},                                             \
        {"cmd", OPTION_COUNT, &(o)->plan.params.cmd, "the server echoes this"},                                        \
        {"reply-cmd", OPTION_COUNT, &(o)->plan.params.reply_cmd, "with this"},                                         \
        {"broadcast-cmd", OPTION_COUNT, &(o)->plan.params.broadcast_cmd, "the server sends this to all"},              \
        {"multicast-cmd", OPTION_COUNT, &(o)->plan.params.multicast_cmd, "and this to a list of all"},                 \
        {"room-cmd", OPTION_COUNT, &(o)->plan.params.room_cmd, "and this to its sender's room"},                         \
        {"room", OPTION_COUNT, &(o)->plan.params.room,                                                                 \
         "rooms: clients in each; --server has it as RR_BENCH_ROOM, a lists.yaml of yours needs it"},                  \
        {"login", OPTION_TEXT, &(o)->plan.params.login, "session key; {n} = number, {pid}"},                           \
        {"ready", OPTION_TEXT, &(o)->plan.params.ready, "how a login's end is seen: echo, now, or a cmd"},             \
        {"connecting", OPTION_COUNT, &(o)->plan.params.connecting, "unfinished logins at a time"},                     \
        {"scenario", OPTION_TEXT, &(o)->plan.params.scenario, "chat: a file of steps (bench/scenario.h)"},             \
        {"server", OPTION_TEXT, &(o)->plan.server, "shell command, started and stopped for each run"},                 \
        {"server-cpu", OPTION_CPU, &(o)->plan.server_cpu, "bind it there; floor servers too"},                         \
        {"cpu", OPTION_CPU, &(o)->plan.params.cpu, "bind the generator there"},                                        \
        {"pid", OPTION_COUNT, &(o)->plan.params.pid, "the server's process; 0 = who listens on the port"},             \
        {"floor", OPTION_FLAG, &(o)->plan.floor, "run the floor servers in turn and print the share"},                 \
        {"json", OPTION_FLAG, &(o)->json, "print JSON"},                                                               \
        {"out", OPTION_TEXT, &(o)->out, "write JSON there, text to standard output"},

static void defaults(gate_options_t *o) {
    *o = (gate_options_t){.body = "raw"};
    gate_plan_init(&o->plan);
}

void command_gate_help(void) {
    gate_options_t o;
    defaults(&o);
    option_spec_t specs[] = {GATE_SPECS(&o)};
    gate_workloads_help();
    options_help(specs, OPTIONS_COUNT(specs));
}

static void apply_mode(gate_options_t *o) {
    unsigned connections, outstanding;
    if (!o->mode)
        return;
    if (sscanf(o->mode, "%ux%u", &connections, &outstanding) != 2)
        bench_die("--mode %s: CONNECTIONSxOUTSTANDING, e.g. 50x16", o->mode);
    o->plan.params.connections = connections;
    o->plan.params.outstanding = outstanding;
}

static void check(gate_options_t *o) {
    gate_params_t *p = &o->plan.params;
    apply_mode(o);
    if (!p->to)
        bench_die("gate: --to tcp://HOST:PORT or ws://HOST:PORT is missing");
    if (p->connections == 0 || p->outstanding == 0 || p->connections > 60000 || o->plan.runs == 0)
        bench_die("gate: connections (at most 60000), outstanding and runs must not be 0");
    if (p->room == 0)
        bench_die("gate: --room must not be 0");
    if (p->sleeps && o->rate_count == 0)
        bench_die("gate: --sleep goes with --rate");
    if (p->cmd > 65535 || p->reply_cmd > 65535 || p->broadcast_cmd > 65535 || p->multicast_cmd > 65535 ||
        p->room_cmd > 65535)
        bench_die("gate: a cmd is 0-65535");
    if (strcmp(o->body, "json") != 0 && strcmp(o->body, "raw") != 0)
        bench_die("gate: --body raw or json");
    p->json_body = strcmp(o->body, "json") == 0;
    p->rate = (double)o->rate_count;
    /* Server on one core, generator on another, when both are ours to place. */
    if ((o->plan.server || o->plan.floor) && bench_cpus() > 1) {
        o->plan.server_cpu = o->plan.server_cpu < 0 ? 0 : o->plan.server_cpu;
        p->cpu = p->cpu < 0 ? 1 : p->cpu;
    }
}

int command_gate(int argc, char **argv, int first) {
    gate_options_t o;
    defaults(&o);
    option_spec_t specs[] = {GATE_SPECS(&o)};
    int names = options_parse(specs, OPTIONS_COUNT(specs), argc, argv, first);
    check(&o);
    if (names == 0)
        bench_die("gate: which workload? echo, broadcast, multicast, rooms, connect, idle, chat");
    bench_results_t results = {0};
    for (int i = 0; i < names; i++)
        if (!gate_find(argv[first + i]))
            bench_die("gate: no workload '%s': echo, broadcast, multicast, rooms, connect, idle, chat", argv[first + i]);
    for (int i = 0; i < names; i++) {
        o.plan.workload = gate_find(argv[first + i]);
        bench_results_add(&results, gate_execute(&o.plan));
    }
    bench_output_t output = {.json = o.json || o.out, .path = o.out};
    int status = bench_print(&results, &output);
    bench_results_free(&results);
    return status;
}
