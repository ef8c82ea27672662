/* Workloads of databases by name, their runs, and what both sides count with. */
#include "bench/db.h"

#include <string.h>

static const db_workload_t workloads[] = {
    {"select", "a row by its primary key, `--outstanding` under way", "queries", 1u << DB_MYSQL | 1u << DB_POSTGRES | 1u << DB_SQLITE,
     "mysql://…, postgresql://… or sqlite:///file"},
    {"insert", "SQLite: rows in transactions of `--batch`, one after another", "rows", 1u << DB_SQLITE, "sqlite:///file"},
    {"get", "Redis: GET, `--outstanding` under way; the floor is redis-benchmark", "queries", 1u << DB_REDIS, "redis://…"},
};

const db_workload_t *db_find(const char *name) {
    for (unsigned i = 0; i < sizeof workloads / sizeof *workloads; i++)
        if (strcmp(workloads[i].name, name) == 0)
            return &workloads[i];
    return NULL;
}

void db_params_init(db_params_t *p) {
    *p = (db_params_t){.duration = 2, .warmup = 0.5, .connections = 8, .outstanding = 64, .rows = 10000, .batch = 100,
                       .program = "build/redrabbit", .cpu = -1};
}

bool db_row_is(uint64_t id, int64_t got_id, const char *name, size_t name_size, int64_t score) {
    char want[64];
    db_name(id, want, sizeof want);
    return (uint64_t)got_id == id && score == db_score(id) && name_size == strlen(want) && memcmp(name, want, name_size) == 0;
}

/* ---- Counting ---- */

void db_clock_start(db_clock_t *clock, const db_params_t *p) {
    uint64_t now = bench_now_ns();
    *clock = (db_clock_t){.begins = now + (uint64_t)(p->warmup * 1e9), .latency = histogram_new()};
    clock->ends = clock->begins + (uint64_t)(p->duration * 1e9);
}

bool db_clock_count(db_clock_t *clock, uint64_t asked, uint64_t units) {
    uint64_t now = bench_now_ns();
    if (now >= clock->begins && now < clock->ends) {
        clock->counted += units;
        histogram_record(clock->latency, now - asked);
    }
    return now < clock->ends;
}

void db_clock_tell(db_clock_t *clock, const db_workload_t *workload, bench_run_t *out) {
    double seconds = (double)(clock->ends - clock->begins) / 1e9;
    bench_metric(out, workload->unit, "/s", BENCH_HIGHER, (double)clock->counted / seconds);
    bench_latency(out, "query", clock->latency);
    histogram_free(clock->latency);
}

/* ---- Addresses ---- */

static void copy_decoded(char *out, size_t size, const char *text, size_t length) {
    size_t used = 0;
    for (size_t i = 0; i < length && used + 1 < size; i++) {
        unsigned byte;
        if (text[i] == '%' && i + 2 < length && sscanf(text + i + 1, "%2x", &byte) == 1) {
            out[used++] = (char)byte;
            i += 2;
        } else {
            out[used++] = text[i];
        }
    }
    out[used] = '\0';
}

static db_kind_t kind_of(const char *text) {
    static const struct { const char *scheme; db_kind_t kind; } kinds[] = {
        {"mysql://", DB_MYSQL}, {"mariadb://", DB_MYSQL}, {"postgresql://", DB_POSTGRES}, {"postgres://", DB_POSTGRES},
        {"sqlite://", DB_SQLITE}, {"redis://", DB_REDIS}};
    for (unsigned i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (strncmp(text, kinds[i].scheme, strlen(kinds[i].scheme)) == 0)
            return kinds[i].kind;
    return DB_NONE;
}

void db_url_parse(const char *text, db_url_t *out) {
    *out = (db_url_t){.kind = kind_of(text)};
    if (out->kind == DB_NONE)
        bench_die("db: --to mysql://, postgresql://, redis:// or sqlite:///file, not '%s'", text);
    const char *at = strstr(text, "://") + 3, *slash = strchr(at, '/'), *sign = NULL;
    if (out->kind == DB_SQLITE) {
        copy_decoded(out->database, sizeof out->database, at, strlen(at));
        return;
    }
    const char *end = slash ? slash : at + strlen(at);
    for (const char *c = at; c < end; c++)
        sign = *c == '@' ? c : sign;
    if (sign) {
        const char *colon = memchr(at, ':', (size_t)(sign - at));
        copy_decoded(out->user, sizeof out->user, at, (size_t)((colon ? colon : sign) - at));
        if (colon)
            copy_decoded(out->password, sizeof out->password, colon + 1, (size_t)(sign - colon - 1));
        at = sign + 1;
    }
    const char *colon = memchr(at, ':', (size_t)(end - at));
    copy_decoded(out->host, sizeof out->host, at, (size_t)((colon ? colon : end) - at));
    out->port = colon ? (unsigned)atoi(colon + 1) : out->kind == DB_MYSQL ? 3306 : out->kind == DB_POSTGRES ? 5432 : 6379;
    if (slash)
        copy_decoded(out->database, sizeof out->database, slash + 1, strcspn(slash + 1, "?"));
}

/* ---- Runs ---- */

void db_check(const db_workload_t *workload, const db_params_t *p) {
    db_url_t url;
    db_url_parse(p->to, &url);
    if (!(workload->kinds >> url.kind & 1)) /* the scheme only: a URL has a password */
        bench_die("db: %s does not go with %.*s://, but --to %s", workload->name, (int)strcspn(p->to, ":"), p->to, workload->takes);
    if (url.kind == DB_SQLITE && !url.database[0])
        bench_die("db: --to sqlite:// names no file: sqlite:///tmp/bench.db");
}

void db_prepare(const db_params_t *p) {
    db_url_t url;
    db_url_parse(p->to, &url);
    switch (url.kind) {
    case DB_MYSQL: db_mysql_prepare(&url, p); break;
    case DB_POSTGRES: db_postgres_prepare(&url, p); break;
    case DB_SQLITE: db_sqlite_prepare(&url, p); break;
    default: db_redis_prepare(&url, p); break;
    }
}

void db_plain(const db_workload_t *workload, const db_params_t *p, bench_run_t *out) {
    db_url_t url;
    db_clock_t clock;
    db_url_parse(p->to, &url);
    if (url.kind == DB_REDIS) {
        db_redis_get(&url, p, workload, out);
        return;
    }
    db_clock_start(&clock, p);
    if (strcmp(workload->name, "insert") == 0)
        db_sqlite_insert(&url, p, &clock, out);
    else if (url.kind == DB_MYSQL)
        db_mysql_select(&url, p, &clock, out);
    else if (url.kind == DB_POSTGRES)
        db_postgres_select(&url, p, &clock, out);
    else
        db_sqlite_select(&url, p, &clock, out);
    db_clock_tell(&clock, workload, out);
}

typedef struct job {
    void (*run)(const db_workload_t *workload, const db_params_t *p, bench_run_t *out);
    const db_workload_t *workload;
    const db_params_t *p;
} job_t;

static void run_job(void *context, bench_run_t *run) {
    const job_t *job = context;
    bench_pin(job->p->cpu);
    double machine = bench_machine_cpu();
    uint64_t began = bench_now_ns();
    job->run(job->workload, job->p, run);
    double seconds = (double)(bench_now_ns() - began) / 1e9, own = bench_own_cpu();
    bench_metric(run, "cpu", "cores", BENCH_INFO, own / seconds);
    bench_metric(run, "all_cpu", "cores", BENCH_INFO, (bench_machine_cpu() - machine) / seconds); /* the server's, too */
}

static void once(bench_result_t *result, const job_t *job) {
    bench_run_t outcome = {0};
    bench_in_child(&outcome, run_job, (void *)job, (unsigned)(job->p->warmup + job->p->duration) + 30);
    bench_result_add_run(result, &outcome);
}

static json_t *params_json(const db_params_t *p) {
    db_url_t url;
    db_url_parse(p->to, &url); /* the scheme only: a URL has a password */
    return json_pack("{s:s# s:I s:I s:I s:I s:b s:b s:b}", "database", p->to, (int)strcspn(p->to, ":"), "connections",
                     (json_int_t)p->connections, "outstanding", (json_int_t)p->outstanding, "rows", (json_int_t)p->rows,
                     "batch", (json_int_t)p->batch, "scene", p->scene, "plain", p->plain, "pinned",
                     p->pinned);
}

bench_result_t *db_execute(const db_workload_t *workload, const db_params_t *p, unsigned runs, bool floor) {
    bench_result_t *result = bench_result_new("db", workload->name, params_json(p));
    bool get = strcmp(workload->name, "get") == 0;
    if (floor) {
        result->floor = bench_result_new("floor", workload->name, params_json(p));
        snprintf(result->floor_name, sizeof result->floor_name, "%s", get ? "redis-benchmark" : "plain C client");
    }
    db_prepare(p);
    for (unsigned i = 0; i < runs; i++) {
        bench_progress("db %s: run %u of %u", workload->name, i + 1, runs);
        once(result, &(job_t){p->plain ? db_plain : p->scene ? db_scene : db_actor, workload, p});
        if (floor)
            once(result->floor, &(job_t){db_plain, workload, p});
    }
    bench_progress_done();
    return result;
}
