/* compare: two rr-bench programs, run in turn (A B B A …, so that a drift of the machine hits both), or two saved sets of
 * runs. A difference counts when an exact rank test, corrected for the number of metrics looked at (Holm, 1 % family-wise),
 * says that it is no accident, and it is larger than --threshold; else it is noise. */
#include <errno.h>
#include <math.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/commands.h"
#include "bench/documents.h"
#include "bench/options.h"
#include "bench/statistics.h"

#define FAMILY_WISE 0.01
#define SIDE_MAX 100u

typedef struct series { /* one metric of one measurement, both sides; logarithms, so that differences are ratios */
    char *name;
    int better;
    double values[2][SIDE_MAX];
    unsigned count[2];
    double p, ratio;
    bool real;
} series_t;

typedef struct comparison {
    series_t **series;
    unsigned count;
    bool paired;
    double threshold;
} comparison_t;

static series_t *series_of(comparison_t *c, const char *key, const char *metric, const char *part, int better) {
    char name[1200];
    snprintf(name, sizeof name, "%s: %s%s%s", key, metric, *part ? " " : "", part);
    for (unsigned i = 0; i < c->count; i++)
        if (strcmp(c->series[i]->name, name) == 0)
            return c->series[i];
    series_t *s = bench_alloc(sizeof *s);
    s->name = bench_alloc(strlen(name) + 1);
    strcpy(s->name, name);
    s->better = better;
    c->series = bench_realloc(c->series, (c->count + 1) * sizeof(series_t *));
    return c->series[c->count++] = s;
}

static void add_value(series_t *s, unsigned side, const json_t *value) {
    double v = json_number_value(value);
    if (v > 0 && s->count[side] < SIDE_MAX)
        s->values[side][s->count[side]++] = log(v);
}

static int direction(const json_t *result, const char *metric) {
    const char *better = json_string_value(
        json_object_get(json_object_get(json_object_get(result, "summary"), metric), "better"));
    return !better || strcmp(better, "info") == 0 ? 0 : strcmp(better, "higher") == 0 ? 1 : -1;
}

static void add_run(comparison_t *c, const char *key, const json_t *result, json_t *run, unsigned side) {
    static const char *const parts[] = {"p50", "p99"};
    const char *name;
    json_t *value;
    if (!json_is_true(json_object_get(run, "ok")))
        bench_die("%s: a run failed (%s): nothing to compare", key, json_string_value(json_object_get(run, "failure")));
    json_object_foreach(json_object_get(run, "metrics"), name, value) {
        int better = direction(result, name);
        if (better != 0 && strncmp(name, "p99", 3) != 0) /* that comes with the latencies */
            add_value(series_of(c, key, name, "", better), side, value);
    }
    json_object_foreach(json_object_get(run, "latency_ns"), name, value)
        for (unsigned i = 0; i < 2; i++)
            add_value(series_of(c, key, name, parts[i], -1), side, json_object_get(value, parts[i]));
}

static void add_document(comparison_t *c, const json_t *doc, unsigned side) {
    size_t i, j;
    json_t *result, *run;
    json_array_foreach(json_object_get(doc, "results"), i, result) {
        char *key = document_key(result);
        json_array_foreach(json_object_get(result, "runs"), j, run)
            add_run(c, key, result, run, side);
        free(key);
    }
}

/* ---- Running the two programs ------------------------------------------------------------------------------------------ */

static json_t *run_program(const char *program, char **args, unsigned count) {
    int ends[2];
    char **argv = bench_alloc((count + 6) * sizeof *argv);
    unsigned n = 0;
    argv[n++] = (char *)program;
    for (unsigned i = 0; i < count; i++)
        argv[n++] = args[i];
    argv[n++] = "--json";
    argv[n++] = "--runs";
    argv[n++] = "1";
    if (pipe(ends) != 0)
        bench_die("pipe: %s", strerror(errno));
    fflush(NULL);
    pid_t pid = fork();
    if (pid < 0)
        bench_die("fork: %s", strerror(errno));
    if (pid == 0) {
        dup2(ends[1], 1);
        close(ends[0]);
        close(ends[1]);
        execvp(program, argv);
        _exit(127);
    }
    close(ends[1]);
    free(argv);
    FILE *f = fdopen(ends[0], "r");
    json_error_t error;
    json_t *doc = f ? json_loadf(f, 0, &error) : NULL;
    int status = 0;
    if (f)
        fclose(f);
    waitpid(pid, &status, 0);
    if (!doc || !WIFEXITED(status) || WEXITSTATUS(status) != 0)
        bench_die("%s: failed (status %d)", program, WIFEXITED(status) ? WEXITSTATUS(status) : -1);
    document_check(doc, program);
    return doc;
}

static void run_pairs(comparison_t *c, char *const programs[2], char **args, unsigned count, unsigned pairs) {
    for (unsigned i = 0; i < pairs * 2; i++) {
        unsigned side = (i % 4 == 1 || i % 4 == 2) ? 1 : 0; /* A B B A */
        bench_progress("compare: run %u of %u, %s", i + 1, pairs * 2, programs[side]);
        json_t *doc = run_program(programs[side], args, count);
        add_document(c, doc, side);
        json_decref(doc);
    }
    bench_progress_done();
}

/* ---- Judging ------------------------------------------------------------------------------------------------------------- */

static void judge(const comparison_t *c, series_t *s) {
    double differences[SIDE_MAX];
    unsigned n = s->count[0];
    s->p = s->ratio = 1;
    if (n == 0 || s->count[1] == 0)
        return;
    if (c->paired && n == s->count[1]) {
        for (unsigned i = 0; i < n; i++)
            differences[i] = s->values[1][i] - s->values[0][i];
        s->p = statistics_signed_rank(differences, n);
        s->ratio = exp(statistics_shift_paired(differences, n));
    } else {
        s->p = statistics_rank_sum(s->values[0], n, s->values[1], s->count[1]);
        s->ratio = exp(statistics_shift(s->values[0], n, s->values[1], s->count[1]));
    }
}

static int by_p(const void *a, const void *b) {
    const series_t *x = *(series_t *const *)a, *y = *(series_t *const *)b;
    return (x->p > y->p) - (x->p < y->p);
}

/* Holm: the k-th smallest p must be below alpha / (tests - k); the first that is not ends it. */
static void correct(comparison_t *c) {
    series_t **order = bench_alloc(c->count * sizeof *order);
    memcpy(order, c->series, c->count * sizeof *order);
    qsort(order, c->count, sizeof *order, by_p);
    for (unsigned i = 0; i < c->count && order[i]->p <= FAMILY_WISE / (c->count - i); i++)
        order[i]->real = fabs(log(order[i]->ratio)) >= log(1 + c->threshold / 100);
    free(order);
}

static bool is_worse(const series_t *s) { return s->real && (s->ratio > 1) != (s->better > 0); }

/* The smallest p that so many runs can give at all, against what is asked for. */
static bool too_few(const comparison_t *c, const series_t *s) {
    double least = 2;
    if (c->paired) {
        for (unsigned i = 0; i < s->count[0]; i++)
            least /= 2;
    } else {
        for (unsigned i = 0; i < s->count[0]; i++)
            least *= (double)(i + 1) / (s->count[1] + i + 1);
    }
    return least > FAMILY_WISE / c->count;
}

static void free_series(series_t *s) {
    free(s->name);
    free(s);
}

/* What only one side has is said, and is no test: it must not make the others' proof harder. */
static void drop_unmatched(comparison_t *c) {
    unsigned kept = 0;
    for (unsigned i = 0; i < c->count; i++) {
        series_t *s = c->series[i];
        if (s->count[0] && s->count[1]) {
            c->series[kept++] = s;
            continue;
        }
        if (s->count[0] + s->count[1])
            printf("only in %-3s                            %s\n", s->count[0] ? "OLD" : "NEW", s->name);
        free_series(s);
    }
    c->count = kept;
    if (kept == 0)
        bench_die("compare: the two have nothing in common");
}

static int print_verdicts(const comparison_t *c) {
    unsigned worse = 0, few = 0;
    for (unsigned i = 0; i < c->count; i++) {
        const series_t *s = c->series[i];
        const char *verdict = !s->real ? "noise" : is_worse(s) ? "SLOWER" : "faster";
        if (strstr(s->name, "rss") || strstr(s->name, "bytes") || strstr(s->name, ": new") || strstr(s->name, ": used"))
            verdict = !s->real ? "noise" : is_worse(s) ? "BIGGER" : "smaller";
        printf("%-7s %6.3f x  p %.4f  n %u/%u  %s\n", verdict, s->ratio, s->p, s->count[0], s->count[1], s->name);
        worse += is_worse(s);
        few += too_few(c, s);
    }
    if (few)
        printf("%u of these have too few runs for any verdict but noise at this many metrics: use more\n", few);
    return worse ? 1 : 0;
}

/* ---- The command ---------------------------------------------------------------------------------------------------------- */

typedef struct compare_options {
    uint64_t pairs;
    const char *threshold;
} compare_options_t;

#define COMPARE_SPECS(o)                                                                                               \
    {"pairs", OPTION_COUNT, &(o)->pairs, "interleaved runs of each program"},                                          \
        {"threshold", OPTION_TEXT, &(o)->threshold, "percent; smaller differences are noise even if they are real"},

void command_compare_help(void) {
    compare_options_t o = {.pairs = 12, .threshold = "2"};
    option_spec_t specs[] = {COMPARE_SPECS(&o)};
    options_help(specs, OPTIONS_COUNT(specs));
    puts("  -- ARGS…                   two programs: what each runs (actors pingpong counting ring fanout closed)");
}

/* Of several the first one decides. */
static bool is_json(const char *path) {
    char first[4096];
    snprintf(first, sizeof first, "%.*s", (int)strcspn(path, ","), path);
    FILE *f = fopen(first, "r");
    if (!f)
        bench_die("%s: %s", first, strerror(errno));
    int c = fgetc(f);
    fclose(f);
    return c == '{';
}

/* Each a file, or several with commas between: the runs of a side that were saved in turn with the other's. */
static void compare_files(comparison_t *c, char *const files[2]) {
    for (unsigned side = 0; side < 2; side++) {
        char *save = NULL;
        for (char *file = strtok_r(files[side], ",", &save); file; file = strtok_r(NULL, ",", &save)) {
            json_t *doc = document_load(file);
            add_document(c, doc, side);
            json_decref(doc);
        }
    }
}

int command_compare(int argc, char **argv, int first) {
    static char *default_args[] = {"actors", "pingpong", "counting", "ring", "fanout", "closed"};
    compare_options_t o = {.pairs = 12, .threshold = "2"};
    option_spec_t specs[] = {COMPARE_SPECS(&o)};
    int end = first;
    while (end < argc && strcmp(argv[end], "--") != 0)
        end++;
    if (options_parse(specs, OPTIONS_COUNT(specs), end, argv, first) != 2)
        bench_die("compare OLD NEW: two rr-bench programs, or two JSON files (or each several: a.json,b.json)");
    if (o.pairs == 0 || o.pairs > SIDE_MAX)
        bench_die("compare: --pairs 1 to %u", SIDE_MAX);
    comparison_t c = {.threshold = atof(o.threshold)};
    bool json = is_json(argv[first]);
    if (json != is_json(argv[first + 1]))
        bench_die("compare: one is JSON, the other is not");
    c.paired = !json;
    if (json)
        compare_files(&c, argv + first);
    else if (end + 1 < argc)
        run_pairs(&c, argv + first, argv + end + 1, (unsigned)(argc - end - 1), (unsigned)o.pairs);
    else
        run_pairs(&c, argv + first, default_args, sizeof default_args / sizeof *default_args, (unsigned)o.pairs);
    drop_unmatched(&c);
    for (unsigned i = 0; i < c.count; i++)
        judge(&c, c.series[i]);
    correct(&c);
    int status = print_verdicts(&c);
    for (unsigned i = 0; i < c.count; i++)
        free_series(c.series[i]);
    free(c.series);
    return status;
}
