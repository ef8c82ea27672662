/* Through a scene: redrabbit with scenes/db.py beside a database, as a process of its own; its script counts and checks, and
 * says in a file what came of it. */
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/db.h"

#define DONE "rr-bench db: done"
#define END_S 15

static void write_graph(const char *path, const db_params_t *p) {
    char script[4096];
    FILE *file = fopen(path, "w");
    if (!file || !realpath("bench/scenes/db.py", script))
        bench_die("db --scene: run it from the project's folder (bench/scenes/db.py)");
    fprintf(file,
            "group: bench\nactors:\n  broker@0: { role: broker }\n  db@0: { role: database, url: \"%s\", pool: %llu }\n"
            "  scene@0: { role: scene, script: \"%s\" }\n",
            p->to, (unsigned long long)p->connections, script);
    if (fclose(file) != 0)
        bench_die("db: %s cannot be written", path);
}

static void set_number(const char *name, double value) {
    char text[40];
    snprintf(text, sizeof text, "%.9g", value);
    setenv(name, text, 1);
}

static FILE *start(const db_workload_t *workload, const db_params_t *p, const char *graph, const char *told, pid_t *pid) {
    int ends[2];
    if (pipe(ends) != 0 || (*pid = fork()) < 0)
        bench_die("db: %s could not be started", p->program);
    if (*pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        dup2(ends[1], 1);
        dup2(ends[1], 2);
        close(ends[0]);
        close(ends[1]);
        setenv("RR_BENCH_WORKLOAD", workload->name, 1);
        setenv("RR_BENCH_TOLD", told, 1);
        set_number("RR_BENCH_OUTSTANDING", (double)p->outstanding);
        set_number("RR_BENCH_ROWS", (double)p->rows);
        set_number("RR_BENCH_BATCH", (double)p->batch);
        set_number("RR_BENCH_WARMUP", p->warmup);
        set_number("RR_BENCH_DURATION", p->duration);
        execl(p->program, p->program, graph, (char *)NULL);
        _exit(127);
    }
    close(ends[1]);
    FILE *from = fdopen(ends[0], "r");
    if (!from)
        bench_die("out of memory");
    return from;
}

/* What is in the file once the script says so; NULL, and the last line in its place. */
static json_t *read_outcome(FILE *from, const char *path, char *last, size_t size) {
    char *line = NULL;
    size_t room = 0;
    bool done = false;
    while (!done && getline(&line, &room, from) > 0) {
        done = strstr(line, DONE) != NULL;
        snprintf(last, size, "%.*s", (int)strcspn(line, "\n"), line);
    }
    free(line);
    return done ? json_load_file(path, 0, NULL) : NULL;
}

static void stop(pid_t pid, FILE *from, bench_run_t *out) {
    int status = 0;
    uint64_t until = bench_now_ns() + END_S * 1000000000ull;
    kill(pid, SIGTERM);
    while (fgetc(from) != EOF) {
    }
    fclose(from);
    while (waitpid(pid, &status, WNOHANG) == 0)
        if (bench_now_ns() > until) {
            kill(pid, SIGKILL);
            bench_fail(out, "redrabbit did not end within %d s", END_S);
            until = UINT64_MAX;
        } else {
            bench_sleep_until_ns(bench_now_ns() + 1000000);
        }
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        bench_fail(out, "redrabbit did not end well");
}

static void tell(const db_workload_t *workload, const json_t *told, bench_run_t *out) {
    const char *failure = json_string_value(json_object_get(told, "failure"));
    double counted = json_number_value(json_object_get(told, "counted"));
    double seconds = json_number_value(json_object_get(told, "seconds"));
    const json_t *each, *latencies = json_object_get(told, "microseconds");
    histogram_t *latency = histogram_new();
    size_t i;
    json_array_foreach(latencies, i, each)
        histogram_record(latency, (uint64_t)(json_number_value(each) * 1000));
    if (failure)
        bench_fail(out, "%s", failure);
    bench_metric(out, workload->unit, "/s", BENCH_HIGHER, seconds > 0 ? counted / seconds : 0);
    bench_latency(out, "query", latency);
    histogram_free(latency);
}

void db_scene(const db_workload_t *workload, const db_params_t *p, bench_run_t *out) {
    char graph[] = "/tmp/rr-bench-XXXXXX.yaml", path[sizeof graph + 5], last[200] = "nothing";
    int fd = mkstemps(graph, 5);
    if (fd < 0)
        bench_die("db: %s cannot be made", graph);
    close(fd);
    snprintf(path, sizeof path, "%s.json", graph);
    write_graph(graph, p);
    pid_t pid;
    FILE *from = start(workload, p, graph, path, &pid);
    json_t *told = read_outcome(from, path, last, sizeof last);
    if (told)
        tell(workload, told, out);
    else
        bench_fail(out, "the scene said: %s", last);
    stop(pid, from, out);
    json_decref(told);
    unlink(graph);
    unlink(path);
}
