/* Results: collecting, summing up, and printing as text or JSON. */
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "bench/bench.h"

void bench_metric(bench_run_t *run, const char *name, const char *unit, int better, double value) {
    if (run->metric_count == sizeof run->metrics / sizeof *run->metrics)
        return;
    bench_metric_t *m = &run->metrics[run->metric_count++];
    snprintf(m->name, sizeof m->name, "%s", name);
    snprintf(m->unit, sizeof m->unit, "%s", unit);
    m->value = isfinite(value) ? value : 0;
    m->better = better;
}

/* 0, 50, 75, 87.5 …: each point halves what is left, as HdrHistogram prints it, two points per half. */
double bench_curve_percent(unsigned point) {
    double whole = floor(point / 2.0), left = pow(0.5, whole);
    return 100.0 * (1.0 - left * (point % 2 ? 0.75 : 1.0));
}

void bench_latency(bench_run_t *run, const char *name, const histogram_t *h) {
    if (run->latency_count == sizeof run->latencies / sizeof *run->latencies)
        return;
    bench_latency_t *l = &run->latencies[run->latency_count++];
    snprintf(l->name, sizeof l->name, "%s", name);
    l->count = h->total;
    l->p50 = histogram_percentile(h, 50);
    l->p90 = histogram_percentile(h, 90);
    l->p99 = histogram_percentile(h, 99);
    l->p999 = histogram_percentile(h, 99.9);
    l->max = h->max;
    l->mean = histogram_mean(h);
    for (unsigned i = 0; i < BENCH_CURVE; i++)
        l->curve[i] = histogram_percentile(h, bench_curve_percent(i));
}

void bench_fail(bench_run_t *run, const char *format, ...) {
    if (run->failure[0])
        return;
    char text[sizeof run->failure];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    memcpy(run->failure, text, sizeof text);
}

bench_result_t *bench_result_new(const char *suite, const char *workload, json_t *params) {
    bench_result_t *r = bench_alloc(sizeof *r);
    r->suite = suite;
    r->workload = workload;
    r->params = params;
    return r;
}

void bench_result_add_run(bench_result_t *r, const bench_run_t *run) {
    r->runs = bench_realloc(r->runs, (r->run_count + 1) * sizeof *r->runs);
    r->runs[r->run_count++] = *run;
}

void bench_result_free(bench_result_t *r) {
    if (!r)
        return;
    bench_result_free(r->floor);
    json_decref(r->params);
    free(r->runs);
    free(r);
}

void bench_results_add(bench_results_t *all, bench_result_t *r) {
    all->items = bench_realloc(all->items, (all->count + 1) * sizeof(bench_result_t *));
    all->items[all->count++] = r;
}

void bench_results_free(bench_results_t *all) {
    for (unsigned i = 0; i < all->count; i++)
        bench_result_free(all->items[i]);
    free(all->items);
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double *bench_values(const bench_result_t *r, const char *metric, unsigned *count) {
    double *values = bench_alloc((r->run_count + 1) * sizeof *values);
    *count = 0;
    for (unsigned i = 0; i < r->run_count; i++)
        for (unsigned m = 0; m < r->runs[i].metric_count && !r->runs[i].failure[0]; m++)
            if (strcmp(r->runs[i].metrics[m].name, metric) == 0)
                values[(*count)++] = r->runs[i].metrics[m].value;
    qsort(values, *count, sizeof *values, by_value);
    return values;
}

double bench_median(const double *sorted, unsigned count) {
    if (count == 0)
        return 0;
    return count % 2 ? sorted[count / 2] : (sorted[count / 2 - 1] + sorted[count / 2]) / 2;
}

/* ---- Text ----------------------------------------------------------------------------------------------------------- */

static void print_number(FILE *f, double v) {
    double a = fabs(v);
    if (a >= 1e9)
        fprintf(f, "%9.2f G", v / 1e9);
    else if (a >= 1e6)
        fprintf(f, "%9.2f M", v / 1e6);
    else if (a >= 1e4)
        fprintf(f, "%9.1f k", v / 1e3);
    else if (a >= 100)
        fprintf(f, "%9.0f  ", v);
    else
        fprintf(f, "%9.2f  ", v);
}

static void print_time(FILE *f, const char *label, uint64_t ns) {
    if (ns >= 10000000)
        fprintf(f, "  %s %.1f ms", label, (double)ns / 1e6);
    else if (ns >= 1000)
        fprintf(f, "  %s %.1f us", label, (double)ns / 1e3);
    else
        fprintf(f, "  %s %u ns", label, (unsigned)ns);
}

static const bench_run_t *first_good(const bench_result_t *r) {
    for (unsigned i = 0; i < r->run_count; i++)
        if (!r->runs[i].failure[0])
            return &r->runs[i];
    return NULL;
}

static double median_of(const bench_result_t *r, const char *metric, double *low, double *high) {
    unsigned n;
    double *values = bench_values(r, metric, &n);
    double median = bench_median(values, n);
    if (low)
        *low = n ? values[0] : 0;
    if (high)
        *high = n ? values[n - 1] : 0;
    free(values);
    return median;
}

static double value_of(const bench_run_t *run, const char *metric) {
    for (unsigned m = 0; m < run->metric_count; m++)
        if (strcmp(run->metrics[m].name, metric) == 0)
            return run->metrics[m].value;
    return 0;
}

/* And whether the machine was worse in that run, too. */
static void print_uneven(FILE *f, const bench_result_t *r, const char *metric, double share) {
    const bench_run_t *worst = NULL;
    for (unsigned i = 0; i < r->run_count; i++)
        if (!r->runs[i].failure[0] && (!worst || value_of(&r->runs[i], metric) < value_of(worst, metric)))
            worst = &r->runs[i];
    double issue = median_of(r, BENCH_ISSUE, NULL, NULL);
    fprintf(f, "  UNEVEN: worst run %.2f x median", share);
    if (worst && issue > 0)
        fprintf(f, ", its cores %.2f x", value_of(worst, BENCH_ISSUE) / issue);
}

static void print_metric(FILE *f, const bench_result_t *r, const bench_metric_t *m) {
    double low, high, median = median_of(r, m->name, &low, &high);
    fprintf(f, "  %-22s", m->name);
    print_number(f, median);
    fprintf(f, " %-8s", m->unit);
    if (r->run_count > 1) {
        fprintf(f, "  min");
        print_number(f, low);
        fprintf(f, "  max");
        print_number(f, high);
    }
    if (r->floor && m->better != BENCH_INFO) {
        double floor = median_of(r->floor, m->name, NULL, NULL);
        if (floor > 0)
            fprintf(f, "  = %.2f x %s", median / floor, r->floor_name);
    }
    double worst = m->better == BENCH_HIGHER ? (median > 0 ? low / median : 1) : 1;
    if (worst < 0.7)
        print_uneven(f, r, m->name, worst);
    if (strcmp(m->name, BENCH_OTHERS) == 0 && median > 0.15)
        fprintf(f, "  NOISY: other processes were busy");
    fputc('\n', f);
}

static uint64_t median_latency(const bench_result_t *r, unsigned index, size_t field) {
    double *values = bench_alloc((r->run_count + 1) * sizeof *values);
    unsigned n = 0;
    for (unsigned i = 0; i < r->run_count; i++)
        if (!r->runs[i].failure[0] && index < r->runs[i].latency_count)
            values[n++] = (double)*(const uint64_t *)((const char *)&r->runs[i].latencies[index] + field);
    qsort(values, n, sizeof *values, by_value);
    uint64_t median = (uint64_t)bench_median(values, n);
    free(values);
    return median;
}

static void print_latency(FILE *f, const bench_result_t *r, unsigned index, const char *name) {
    fprintf(f, "  latency %-14s", name);
    print_time(f, "p50", median_latency(r, index, offsetof(bench_latency_t, p50)));
    print_time(f, "p90", median_latency(r, index, offsetof(bench_latency_t, p90)));
    print_time(f, "p99", median_latency(r, index, offsetof(bench_latency_t, p99)));
    print_time(f, "p99.9", median_latency(r, index, offsetof(bench_latency_t, p999)));
    print_time(f, "max", median_latency(r, index, offsetof(bench_latency_t, max)));
    fprintf(f, "  (%llu samples)\n", (unsigned long long)median_latency(r, index, offsetof(bench_latency_t, count)));
}

static void print_params(FILE *f, json_t *params) {
    const char *key;
    json_t *value;
    json_object_foreach(params, key, value) {
        char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(6));
        fprintf(f, " %s=%s", key, text ? text : "?");
        free(text);
    }
}

static void print_result(FILE *f, const bench_result_t *r) {
    fprintf(f, "%s %s", r->suite, r->workload);
    print_params(f, r->params);
    fprintf(f, ", %u run%s\n", r->run_count, r->run_count == 1 ? "" : "s");
    const bench_run_t *good = first_good(r);
    for (unsigned m = 0; good && m < good->metric_count; m++)
        print_metric(f, r, &good->metrics[m]);
    for (unsigned l = 0; good && l < good->latency_count; l++)
        print_latency(f, r, l, good->latencies[l].name);
    for (unsigned l = 0; r->floor && first_good(r->floor) && l < first_good(r->floor)->latency_count; l++)
        print_latency(f, r->floor, l, "(floor)");
    for (unsigned i = 0; i < r->run_count; i++)
        if (r->runs[i].failure[0])
            fprintf(f, "  FAILED, run %u: %s\n", i + 1, r->runs[i].failure);
    for (unsigned i = 0; r->floor && i < r->floor->run_count; i++)
        if (r->floor->runs[i].failure[0])
            fprintf(f, "  FAILED, floor run %u: %s\n", i + 1, r->floor->runs[i].failure);
}

/* ---- JSON ----------------------------------------------------------------------------------------------------------- */

static json_t *latency_json(const bench_latency_t *l) {
    json_t *curve = json_array();
    for (unsigned i = 0; i < BENCH_CURVE; i++)
        json_array_append_new(curve, json_pack("[f,I]", bench_curve_percent(i), (json_int_t)l->curve[i]));
    return json_pack("{s:I,s:f,s:I,s:I,s:I,s:I,s:I,s:o}", "count", (json_int_t)l->count, "mean", l->mean, "p50",
                     (json_int_t)l->p50, "p90", (json_int_t)l->p90, "p99", (json_int_t)l->p99, "p99.9",
                     (json_int_t)l->p999, "max", (json_int_t)l->max, "curve", curve);
}

static json_t *run_json(const bench_run_t *run) {
    json_t *metrics = json_object(), *latencies = json_object();
    for (unsigned i = 0; i < run->metric_count; i++)
        json_object_set_new(metrics, run->metrics[i].name, json_real(run->metrics[i].value));
    for (unsigned i = 0; i < run->latency_count; i++)
        json_object_set_new(latencies, run->latencies[i].name, latency_json(&run->latencies[i]));
    json_t *out = json_pack("{s:b,s:o,s:o}", "ok", run->failure[0] == 0, "metrics", metrics, "latency_ns", latencies);
    if (run->failure[0])
        json_object_set_new(out, "failure", json_string(run->failure));
    return out;
}

static json_t *summary_json(const bench_result_t *r) {
    json_t *out = json_object();
    const bench_run_t *good = first_good(r);
    for (unsigned m = 0; good && m < good->metric_count; m++) {
        const bench_metric_t *metric = &good->metrics[m];
        double low, high, median = median_of(r, metric->name, &low, &high);
        const char *better = metric->better > 0 ? "higher" : metric->better < 0 ? "lower" : "info";
        json_t *one = json_pack("{s:s,s:s,s:f,s:f,s:f}", "unit", metric->unit, "better", better, "median", median,
                                "min", low, "max", high);
        double floor = r->floor ? median_of(r->floor, metric->name, NULL, NULL) : 0;
        if (floor > 0)
            json_object_set_new(one, "share_of_floor", json_real(median / floor));
        json_object_set_new(out, metric->name, one);
    }
    return out;
}

static json_t *result_json(const bench_result_t *r) {
    json_t *runs = json_array();
    for (unsigned i = 0; i < r->run_count; i++)
        json_array_append_new(runs, run_json(&r->runs[i]));
    json_t *out = json_pack("{s:s,s:s,s:O,s:o,s:o}", "suite", r->suite, "workload", r->workload, "params", r->params,
                            "summary", summary_json(r), "runs", runs);
    if (r->floor) {
        json_t *floor = result_json(r->floor);
        json_object_set_new(floor, "name", json_string(r->floor_name));
        json_object_set_new(out, "floor", floor);
    }
    return out;
}

static void cpu_model(char *out, size_t size) {
    snprintf(out, size, "unknown");
    FILE *f = fopen("/proc/cpuinfo", "r");
    char line[256];
    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, "model name", 10) == 0 && strchr(line, ':')) {
            line[strcspn(line, "\n")] = 0;
            snprintf(out, size, "%s", strchr(line, ':') + 2);
            break;
        }
    if (f)
        fclose(f);
}

static json_t *machine_json(void) {
    char cpu[128];
    struct utsname os;
    uname(&os);
    cpu_model(cpu, sizeof cpu);
    return json_pack("{s:s,s:i,s:s,s:s}", "cpu", cpu, "cpus", bench_cpus(), "kernel", os.release, "arch", os.machine);
}

static json_t *document(const bench_results_t *all) {
    char when[40];
    time_t now = time(NULL);
    struct tm tm;
    strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &tm));
    json_t *results = json_array();
    for (unsigned i = 0; i < all->count; i++)
        json_array_append_new(results, result_json(all->items[i]));
    return json_pack("{s:i,s:s,s:o,s:o}", "rr_bench", 1, "time", when, "machine", machine_json(), "results", results);
}

/* NULL: none. */
static const char *first_failure(const bench_result_t *r) {
    for (unsigned i = 0; i < r->run_count; i++)
        if (r->runs[i].failure[0])
            return r->runs[i].failure;
    if (r->run_count == 0)
        return "there was no run";
    return r->floor ? first_failure(r->floor) : NULL;
}

static void write_json(const bench_results_t *all, FILE *f, const char *path) {
    json_t *doc = document(all);
    bool good = f && json_dumpf(doc, f, JSON_INDENT(1) | JSON_REAL_PRECISION(12)) == 0 && fputc('\n', f) != EOF && fflush(f) == 0;
    if (!good)
        bench_die("%s: writing failed: %s", path, strerror(errno));
    json_decref(doc);
}

static void print_json(const bench_results_t *all, const char *path) {
    struct stat st;
    char next[4096];
    if (!path) {
        write_json(all, stdout, "standard output");
        return;
    }
    /* Who is ended in the middle leaves what was saved before; a device or a pipe is no file to be replaced. */
    bool replace = stat(path, &st) != 0 || S_ISREG(st.st_mode);
    int size = snprintf(next, sizeof next, replace ? "%s.new" : "%s", path);
    FILE *f = size > 0 && (size_t)size < sizeof next ? fopen(next, "w") : NULL;
    write_json(all, f, next);
    if (fclose(f) != 0 || (replace && rename(next, path) != 0))
        bench_die("%s: writing failed: %s", path, strerror(errno));
}

/* Saved first: what was seen is there. */
void bench_show(const bench_results_t *all, const bench_output_t *output) {
    if (output->path)
        print_json(all, output->path);
    bench_progress_done();
    if (all->count && (!output->json || output->path)) {
        print_result(stdout, all->items[all->count - 1]);
        fflush(stdout);
    }
}

int bench_print(const bench_results_t *all, const bench_output_t *output) {
    int status = 0;
    bench_progress_done();
    if (!output->shown && (!output->json || output->path))
        for (unsigned i = 0; i < all->count; i++)
            print_result(stdout, all->items[i]);
    if (output->json)
        print_json(all, output->path);
    for (unsigned i = 0; i < all->count; i++) {
        const char *failure = first_failure(all->items[i]);
        if (!failure)
            continue;
        fprintf(stderr, "rr-bench: %s %s: failed: %s\n", all->items[i]->suite, all->items[i]->workload, failure);
        status = 1;
    }
    return status;
}

void bench_progress(const char *format, ...) {
    if (!isatty(2))
        return;
    va_list args;
    va_start(args, format);
    fputs("\r\033[K", stderr);
    vfprintf(stderr, format, args);
    fflush(stderr);
    va_end(args);
}

void bench_progress_done(void) {
    if (isatty(2))
        fputs("\r\033[K", stderr);
}
