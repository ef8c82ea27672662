/* report: one self-contained HTML page (inline SVG, nothing is loaded) from saved runs. Results of the same measurement in
 * several files share a plot. */
#include <errno.h>
#include <math.h>
#include <string.h>

#include "bench/commands.h"
#include "bench/documents.h"
#include "bench/options.h"

static const char *const colours[] = {"#2f6fb3", "#c8503c", "#3b8f5a", "#8a5fb0", "#b5852a", "#4d9aa8"};
#define COLOURS (sizeof colours / sizeof *colours)

typedef struct report {
    json_t **docs;
    char **names;
    unsigned count;
    FILE *f;
} report_t;

static void escape(FILE *f, const char *text) {
    for (; text && *text; text++)
        switch (*text) {
        case '<': fputs("&lt;", f); break;
        case '>': fputs("&gt;", f); break;
        case '&': fputs("&amp;", f); break;
        case '"': fputs("&quot;", f); break;
        default: fputc(*text, f);
        }
}

static void human(char *out, size_t size, double v) {
    double a = fabs(v);
    snprintf(out, size, a >= 1e6 ? "%.2f M" : a >= 1e4 ? "%.1f k" : a >= 100 ? "%.0f" : "%.2f",
             a >= 1e6 ? v / 1e6 : a >= 1e4 ? v / 1e3 : v);
}

static void human_time(char *out, size_t size, double ns) {
    snprintf(out, size, ns >= 1e6 ? "%.3g ms" : ns >= 1e3 ? "%.3g µs" : "%.3g ns",
             ns >= 1e6 ? ns / 1e6 : ns >= 1e3 ? ns / 1e3 : ns);
}

static void head(FILE *f) {
    fputs("<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" "
          "content=\"width=device-width, initial-scale=1\"><title>RedRabbit benchmarks</title>\n<style>\n"
          ":root{--fg:#1c2430;--bg:#fff;--soft:#667;--line:#d5dae2;--band:#f4f6f9}\n"
          "@media(prefers-color-scheme:dark){:root{--fg:#e4e8ef;--bg:#14181f;--soft:#98a2b3;--line:#323a47;--band:#1b212b}}\n"
          "body{font:15px/1.5 system-ui,sans-serif;color:var(--fg);background:var(--bg);max-width:60rem;margin:2rem auto;"
          "padding:0 1rem}\nh1{font-size:1.6rem}h2{font-size:1.05rem;margin:2.2rem 0 .4rem;border-top:1px solid var(--line);"
          "padding-top:1rem}\ntable{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:.88rem}\n"
          "td,th{padding:.15rem .8rem .15rem 0;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}\n"
          "td:first-child,th:first-child{text-align:left}th{color:var(--soft);font-weight:500}\n"
          ".scroll{overflow-x:auto}svg{width:100%;min-width:42rem;height:auto;display:block;margin:.4rem 0}svg text{fill:var(--fg);"
          "font:12px system-ui,sans-serif}.soft{color:var(--soft)}svg .soft{fill:var(--soft)}.grid{stroke:var(--line)}\n"
          ".bad{color:#c8503c;font-weight:600}i.key{display:inline-block;width:.8em;height:.8em;border-radius:2px;"
          "margin-right:.4em}\n</style>\n<h1>RedRabbit benchmarks</h1>\n",
          f);
}

static void list_documents(const report_t *r) {
    fputs("<div class=scroll><table><tr><th>file<th>taken<th>CPU<th>CPUs<th>kernel</tr>\n", r->f);
    for (unsigned i = 0; i < r->count; i++) {
        const json_t *machine = json_object_get(r->docs[i], "machine");
        fprintf(r->f, "<tr><td><i class=key style=\"background:%s\"></i>", colours[i % COLOURS]);
        escape(r->f, r->names[i]);
        fputs("<td>", r->f);
        escape(r->f, json_string_value(json_object_get(r->docs[i], "time")));
        fputs("<td>", r->f);
        escape(r->f, json_string_value(json_object_get(machine, "cpu")));
        fprintf(r->f, "<td>%d<td>", (int)json_integer_value(json_object_get(machine, "cpus")));
        escape(r->f, json_string_value(json_object_get(machine, "kernel")));
        fputs("</tr>\n", r->f);
    }
    fputs("</table></div>\n<p class=soft>Bars: median of the runs; dots: each run; dashed mark: the machine's own limit "
          "(floor) in the same session. Curves: latency up to a percentile, both axes logarithmic; dashed: the floor's.</p>\n",
          r->f);
}

/* The result with that key in document d, NULL if it has none. */
static json_t *find(const report_t *r, unsigned d, const char *key) {
    size_t i;
    json_t *result;
    json_array_foreach(json_object_get(r->docs[d], "results"), i, result) {
        char *other = document_key(result);
        bool same = strcmp(other, key) == 0;
        free(other);
        if (same)
            return result;
    }
    return NULL;
}

/* The metric that a workload is about: its first that has a better side. */
static const char *main_metric(const json_t *result, const char **unit, bool *lower) {
    const char *name;
    json_t *metric;
    json_object_foreach(json_object_get(result, "summary"), name, metric) {
        const char *better = json_string_value(json_object_get(metric, "better"));
        if (better && strcmp(better, "info") != 0) {
            *unit = json_string_value(json_object_get(metric, "unit"));
            *lower = strcmp(better, "lower") == 0;
            return name;
        }
    }
    return NULL;
}

static double summary(const json_t *result, const char *metric, const char *what) {
    return json_number_value(json_object_get(json_object_get(json_object_get(result, "summary"), metric), what));
}

/* ---- Bars -------------------------------------------------------------------------------------------------------------- */

#define LEFT 130.0
#define WIDTH 620.0

/* As much of a long name as there is room for: its end, by which such names differ. */
static const char *tail_of(const char *name) {
    size_t size = strlen(name), room = 18;
    const char *tail = size > room ? name + size - room : name;
    while (tail > name && (*tail & 0xc0) == 0x80) /* not from the middle of a character */
        tail++;
    return tail;
}

static void bar(const report_t *r, const json_t *result, unsigned d, const char *metric, double scale, double y) {
    char text[32];
    size_t i;
    json_t *run;
    double median = summary(result, metric, "median");
    human(text, sizeof text, median);
    fprintf(r->f, "<text x=\"%g\" y=\"%g\" text-anchor=\"end\">", LEFT - 8, y + 16);
    escape(r->f, tail_of(r->names[d]));
    fprintf(r->f, "</text><rect x=\"%g\" y=\"%g\" width=\"%.1f\" height=\"18\" rx=\"2\" fill=\"%s\" fill-opacity=\".75\"/>",
            LEFT, y + 3, median * scale, colours[d % COLOURS]);
    json_array_foreach(json_object_get(result, "runs"), i, run) {
        double v = json_number_value(json_object_get(json_object_get(run, "metrics"), metric));
        fprintf(r->f, "<circle cx=\"%.1f\" cy=\"%g\" r=\"3\" fill=\"var(--bg)\" stroke=\"var(--fg)\"/>", LEFT + v * scale,
                y + 12);
    }
    double floor = summary(json_object_get(result, "floor"), metric, "median");
    if (floor > 0)
        fprintf(r->f, "<line x1=\"%.1f\" x2=\"%.1f\" y1=\"%g\" y2=\"%g\" stroke=\"var(--fg)\" stroke-dasharray=\"3 2\"/>",
                LEFT + floor * scale, LEFT + floor * scale, y, y + 24);
    fprintf(r->f, "<text x=\"%g\" y=\"%g\" class=soft>%s</text>\n", LEFT + WIDTH + 10, y + 16, text);
}

static void bars(const report_t *r, const char *key, const char *metric, const char *unit, bool lower) {
    double top = 0;
    unsigned rows = 0;
    for (unsigned d = 0; d < r->count; d++) {
        json_t *result = find(r, d, key);
        if (!result)
            continue;
        rows++;
        top = fmax(top, fmax(summary(result, metric, "max"), summary(json_object_get(result, "floor"), metric, "median")));
    }
    if (top <= 0)
        return;
    fprintf(r->f, "<div class=scroll><svg viewBox=\"0 0 860 %u\" role=img><text x=\"%g\" y=\"14\" class=soft>", rows * 26 + 22, LEFT);
    escape(r->f, metric);
    fputs(", ", r->f);
    escape(r->f, unit);
    fputs(lower ? " (less is better)</text>\n" : " (more is better)</text>\n", r->f);
    double y = 20;
    for (unsigned d = 0; d < r->count; d++)
        if (find(r, d, key)) {
            bar(r, find(r, d, key), d, metric, WIDTH / top, y);
            y += 26;
        }
    fputs("</svg></div>\n", r->f);
}

/* ---- Latency curves ------------------------------------------------------------------------------------------------------ */

#define HEIGHT 220.0

typedef struct scale {
    double low, high, x_max; /* log10 of ns; log2 of 1 / (1 - p) */
} scale_t;

static json_t *first_latency(const json_t *result) {
    json_t *runs = json_object_get(result, "runs"), *run = json_array_get(runs, json_array_size(runs) / 2);
    json_t *latencies = json_object_get(run, "latency_ns");
    void *at = json_object_iter(latencies);
    return at ? json_object_iter_value(at) : NULL;
}

static void widen(scale_t *s, const json_t *result) {
    size_t i;
    json_t *point;
    const json_t *latency = first_latency(result);
    double count = json_number_value(json_object_get(latency, "count"));
    json_array_foreach(json_object_get(latency, "curve"), i, point) {
        double v = log10(fmax(1, json_number_value(json_array_get(point, 1))));
        s->low = fmin(s->low, v);
        s->high = fmax(s->high, v);
    }
    if (count > 1)
        s->x_max = fmax(s->x_max, fmin(log2(count), BENCH_CURVE / 2.0));
}

static void curve(const report_t *r, const scale_t *s, const json_t *result, const char *colour, bool dashed) {
    size_t i;
    json_t *point;
    const json_t *latency = first_latency(result);
    if (!latency)
        return;
    fprintf(r->f, "<polyline fill=none stroke=\"%s\" stroke-width=2%s points=\"", colour,
            dashed ? " stroke-dasharray=\"4 3\" stroke-opacity=\".7\"" : "");
    json_array_foreach(json_object_get(latency, "curve"), i, point) {
        double x = -log2(1 - json_number_value(json_array_get(point, 0)) / 100);
        double y = log10(fmax(1, json_number_value(json_array_get(point, 1))));
        if (x <= s->x_max)
            fprintf(r->f, "%.1f,%.1f ", LEFT + x / s->x_max * WIDTH, 10 + (s->high - y) / (s->high - s->low) * HEIGHT);
    }
    fputs("\"/>\n", r->f);
}

static void axes(const report_t *r, const scale_t *s) {
    static const double percents[] = {0, 50, 90, 99, 99.9, 99.99};
    char text[32];
    for (double v = ceil(s->low); v <= s->high; v++) {
        double y = 10 + (s->high - v) / (s->high - s->low) * HEIGHT;
        human_time(text, sizeof text, pow(10, v));
        fprintf(r->f, "<line class=grid x1=\"%g\" x2=\"%g\" y1=\"%.1f\" y2=\"%.1f\"/><text x=\"%g\" y=\"%.1f\" "
                      "text-anchor=end class=soft>%s</text>\n",
                LEFT, LEFT + WIDTH, y, y, LEFT - 8, y + 4, text);
    }
    for (unsigned i = 0; i < sizeof percents / sizeof *percents; i++) {
        double x = -log2(1 - percents[i] / 100) / s->x_max;
        if (x <= 1)
            fprintf(r->f, "<text x=\"%.1f\" y=\"%g\" text-anchor=middle class=soft>%g %%</text>\n", LEFT + x * WIDTH,
                    HEIGHT + 28, percents[i]);
    }
}

static void curves(const report_t *r, const char *key) {
    scale_t s = {.low = 20, .high = 0, .x_max = 1};
    for (unsigned d = 0; d < r->count; d++) {
        json_t *result = find(r, d, key);
        if (result && first_latency(result)) {
            widen(&s, result);
            if (first_latency(json_object_get(result, "floor")))
                widen(&s, json_object_get(result, "floor"));
        }
    }
    if (s.high <= 0)
        return;
    s.low = floor(s.low);
    s.high = fmax(ceil(s.high), s.low + 1);
    fprintf(r->f, "<div class=scroll><svg viewBox=\"0 0 860 %g\" role=img>\n", HEIGHT + 40);
    axes(r, &s);
    for (unsigned d = 0; d < r->count; d++) {
        json_t *result = find(r, d, key);
        if (!result)
            continue;
        curve(r, &s, result, colours[d % COLOURS], false);
        curve(r, &s, json_object_get(result, "floor"), colours[d % COLOURS], true);
    }
    fputs("</svg></div>\n", r->f);
}

/* ---- Tables -------------------------------------------------------------------------------------------------------------- */

static void failures(const report_t *r, const json_t *result) {
    size_t i;
    json_t *run;
    json_array_foreach(json_object_get(result, "runs"), i, run)
        if (!json_is_true(json_object_get(run, "ok"))) {
            fputs("<p class=bad>Failed: ", r->f);
            escape(r->f, json_string_value(json_object_get(run, "failure")));
            fputs("</p>\n", r->f);
        }
}

static void table_rows(const report_t *r, unsigned d, const json_t *result) {
    const char *name;
    json_t *metric;
    char text[4][32];
    json_object_foreach(json_object_get(result, "summary"), name, metric) {
        static const char *const fields[] = {"median", "min", "max"};
        for (unsigned i = 0; i < 3; i++)
            human(text[i], sizeof text[i], json_number_value(json_object_get(metric, fields[i])));
        double share = json_number_value(json_object_get(metric, "share_of_floor"));
        text[3][0] = 0;
        if (share > 0)
            snprintf(text[3], sizeof text[3], "%.2f", share);
        fprintf(r->f, "<tr><td><i class=key style=\"background:%s\"></i>", colours[d % COLOURS]);
        escape(r->f, name);
        fputs("<td>", r->f);
        escape(r->f, json_string_value(json_object_get(metric, "unit")));
        fprintf(r->f, "<td>%s<td>%s<td>%s<td>%s</tr>\n", text[0], text[1], text[2], text[3]);
    }
}

static void latency_rows(const report_t *r, const json_t *result) {
    static const char *const fields[] = {"p50", "p90", "p99", "p99.9", "max"};
    const json_t *latency = first_latency(result);
    char text[32];
    if (!latency)
        return;
    fputs("<tr><td>latency of the middle run", r->f);
    for (unsigned i = 0; i < 5; i++) {
        human_time(text, sizeof text, json_number_value(json_object_get(latency, fields[i])));
        fprintf(r->f, "<td>%s %s", fields[i], text);
    }
    fputs("</tr>\n", r->f);
}

static void section(const report_t *r, const json_t *result) {
    char *key = document_key(result);
    const char *unit = "", *metric;
    bool lower = false;
    fputs("<h2>", r->f);
    escape(r->f, key);
    fputs("</h2>\n", r->f);
    metric = main_metric(result, &unit, &lower);
    if (metric)
        bars(r, key, metric, unit, lower);
    curves(r, key);
    fputs("<div class=scroll><table><tr><th>metric<th>unit<th>median<th>min<th>max<th>of floor</tr>\n", r->f);
    for (unsigned d = 0; d < r->count; d++) {
        json_t *one = find(r, d, key);
        if (one) {
            table_rows(r, d, one);
            latency_rows(r, one);
        }
    }
    fputs("</table></div>\n", r->f);
    for (unsigned d = 0; d < r->count; d++)
        if (find(r, d, key))
            failures(r, find(r, d, key));
    free(key);
}

static bool shown_before(const report_t *r, unsigned d, const json_t *result) {
    char *key = document_key(result);
    bool shown = false;
    for (unsigned i = 0; i < d && !shown; i++)
        shown = find(r, i, key) != NULL;
    free(key);
    return shown;
}

static char *short_name(const char *path) {
    const char *base = strrchr(path, '/') ? strrchr(path, '/') + 1 : path, *dot = strrchr(base, '.');
    size_t size = dot && dot > base ? (size_t)(dot - base) : strlen(base);
    char *out = bench_alloc(size + 1);
    memcpy(out, base, size);
    return out;
}

static void write_page(const report_t *r) {
    size_t i;
    json_t *result;
    head(r->f);
    list_documents(r);
    for (unsigned d = 0; d < r->count; d++)
        json_array_foreach(json_object_get(r->docs[d], "results"), i, result)
            if (!shown_before(r, d, result))
                section(r, result);
    fputs("</html>\n", r->f);
}

int command_report(int argc, char **argv, int first) {
    const char *out = NULL;
    option_spec_t specs[] = {{"out", OPTION_TEXT, &out, "the page"}};
    for (int i = first; i < argc; i++)
        if (strcmp(argv[i], "-o") == 0)
            argv[i] = "--out";
    report_t r = {0};
    r.count = (unsigned)options_parse(specs, 1, argc, argv, first);
    if (r.count == 0 || !out)
        bench_die("report FILE.json… -o PAGE.html");
    r.docs = bench_alloc(r.count * sizeof *r.docs);
    r.names = bench_alloc(r.count * sizeof *r.names);
    for (unsigned i = 0; i < r.count; i++) {
        r.docs[i] = document_load(argv[first + (int)i]);
        r.names[i] = short_name(argv[first + (int)i]);
    }
    r.f = fopen(out, "w");
    if (!r.f)
        bench_die("%s: %s", out, strerror(errno));
    write_page(&r);
    if (fclose(r.f) != 0)
        bench_die("%s: %s", out, strerror(errno));
    for (unsigned i = 0; i < r.count; i++) {
        json_decref(r.docs[i]);
        free(r.names[i]);
    }
    free(r.docs);
    free(r.names);
    return 0;
}
