/* rr-bench: RedRabbit's benchmarks; README.md explains the method. */
#include <stdio.h>
#include <string.h>

#include "bench/bench.h"
#include "bench/commands.h"

static const struct {
    const char *name, *usage;
    int (*run)(int argc, char **argv, int first);
    void (*help)(void);
} commands[] = {
    {"actors", "actors WORKLOAD…          between actors: pingpong counting ring spawn tree fanout idle paced closed",
     command_actors, command_actors_help},
    {"gate", "gate WORKLOAD… --to ADDR  a server of the wire protocol: echo broadcast multicast rooms connect idle chat", command_gate,
     command_gate_help},
    {"cluster", "cluster WORKLOAD…         between the nodes of a group: oneway call", command_cluster,
     command_cluster_help},
    {"db", "db WORKLOAD… --to URL     a database through its actor, beside a plain client: select insert get", command_db,
     command_db_help},
    {"floor", "floor [NAME…]             this machine's limits: mpsc1 mpsc2 bounce futex eventfd epoll-tcp libuv-tcp epoll-ws",
     command_floor, command_floor_help},
    {"suite", "suite [--full]            the set that ./dev bench runs: our figures as shares of the floor",
     command_suite, command_suite_help},
    {"report", "report FILE.json… -o OUT  one HTML page with plots from runs saved with --out", command_report, NULL},
    {"compare", "compare OLD NEW           two rr-bench programs, or two JSON files: faster, slower or noise",
     command_compare, command_compare_help},
    {"server", "server epoll|libuv ADDR   a floor server to try things on", command_server, NULL},
};

#define COUNT (sizeof commands / sizeof *commands)

static int help(const char *name) {
    for (unsigned i = 0; i < COUNT; i++)
        if (name && strcmp(commands[i].name, name) == 0) {
            printf("rr-bench %s\n", commands[i].usage);
            if (commands[i].help)
                commands[i].help();
            return 0;
        }
    puts("usage: rr-bench COMMAND …");
    for (unsigned i = 0; i < COUNT; i++)
        printf("  %s\n", commands[i].usage);
    puts("  help COMMAND              its options");
    return name ? 2 : 0;
}

static bool asks_for_help(const char *word) { return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0; }

/* In any place before "--", behind which another program's arguments are. */
static bool is_help(int argc, char **argv) {
    for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (asks_for_help(argv[i]))
            return true;
    return false;
}

int main(int argc, char **argv) {
    if (argc < 2)
        return help(NULL);
    if (strcmp(argv[1], "help") == 0 || asks_for_help(argv[1]))
        return help(argc > 2 ? argv[2] : NULL);
    for (unsigned i = 0; i < COUNT; i++)
        if (strcmp(argv[1], commands[i].name) == 0)
            return is_help(argc - 2, argv + 2) ? help(argv[1]) : commands[i].run(argc, argv, 2);
    bench_die("no command '%s': see rr-bench help", argv[1]);
}
