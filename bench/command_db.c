#include <string.h>

#include "bench/commands.h"
#include "bench/db.h"
#include "bench/options.h"

typedef struct db_options {
    db_params_t params;
    uint64_t runs;
    bool floor, json;
    const char *out;
} db_options_t;

#define DB_SPECS(o)                                                                                                    \
    {"to", OPTION_TEXT, &(o)->params.to, "mysql://, postgresql://, redis:// or sqlite:///file"},                       \
        {"connections", OPTION_COUNT, &(o)->params.connections, "of the pool, and of the plain client"},               \
        {"outstanding", OPTION_COUNT, &(o)->params.outstanding, "queries under way"},                                  \
        {"rows", OPTION_COUNT, &(o)->params.rows, "of the table, or keys"},                                            \
        {"batch", OPTION_COUNT, &(o)->params.batch, "insert: rows of a transaction"},                                  \
        {"scene", OPTION_FLAG, &(o)->params.scene, "a scene's Python asks, not an actor in C"},                        \
        {"plain", OPTION_FLAG, &(o)->params.plain, "the plain client asks, as a load for what runs beside it"},         \
        {"pinned", OPTION_FLAG, &(o)->params.pinned, "the actor lives on the database's loop, not on a core worker"},  \
        {"program", OPTION_TEXT, &(o)->params.program, "redrabbit, for --scene"},                                      \
        {"cpu", OPTION_CPU, &(o)->params.cpu, "bind the asking process there"},                                        \
        {"duration", OPTION_SECONDS, &(o)->params.duration, "measured time of a run"},                                 \
        {"warmup", OPTION_SECONDS, &(o)->params.warmup, "before it, not counted"},                                     \
        {"runs", OPTION_COUNT, &(o)->runs, "the median is reported"},                                                  \
        {"floor", OPTION_FLAG, &(o)->floor, "run a plain C client (Redis: redis-benchmark) in turn, print the share"}, \
        {"json", OPTION_FLAG, &(o)->json, "print JSON"},                                                               \
        {"out", OPTION_TEXT, &(o)->out, "write JSON there, text to standard output"},

static void defaults(db_options_t *o) {
    *o = (db_options_t){.runs = 5};
    db_params_init(&o->params);
}

void command_db_help(void) {
    db_options_t o;
    defaults(&o);
    option_spec_t specs[] = {DB_SPECS(&o)};
    options_help(specs, OPTIONS_COUNT(specs));
}

int command_db(int argc, char **argv, int first) {
    db_options_t o;
    defaults(&o);
    option_spec_t specs[] = {DB_SPECS(&o)};
    int names = options_parse(specs, OPTIONS_COUNT(specs), argc, argv, first);
    db_params_t *p = &o.params;
    if (names == 0)
        bench_die("db: which workload? select, insert (SQLite) or get (Redis): rr-bench db select --to URL");
    if (!p->to)
        bench_die("db: which database? --to mysql://user:password@host/db, postgresql://…, redis://… or sqlite:///file");
    if (o.runs == 0)
        bench_die("db: --runs is not 0");
    if (!p->connections || p->connections > 1000 || !p->outstanding || p->outstanding > 10000 || !p->rows || !p->batch)
        bench_die("db: --connections is 1 to 1,000, --outstanding 1 to 10,000, --rows and --batch are not 0");
    for (int i = 0; i < names; i++)
        if (!db_find(argv[first + i]))
            bench_die("db: no workload '%s': select, insert, get", argv[first + i]);
    for (int i = 0; i < names; i++)
        db_check(db_find(argv[first + i]), p);
    bench_results_t results = {0};
    for (int i = 0; i < names; i++)
        bench_results_add(&results, db_execute(db_find(argv[first + i]), p, (unsigned)o.runs, o.floor));
    bench_output_t output = {.json = o.json || o.out, .path = o.out};
    int status = bench_print(&results, &output);
    bench_results_free(&results);
    return status;
}
