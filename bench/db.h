/* db.h: what the workloads of `rr-bench db` share: the same work through the database actor (asked by an actor in C, or by a
 * scene's Python) and by a plain client of the same library with as many connections, in turn. */
#ifndef RR_BENCH_DB_H
#define RR_BENCH_DB_H

#include "bench/bench.h"

typedef struct db_params {
    double duration, warmup;
    const char *to;       /* mysql://, postgresql://, redis://, sqlite:///file */
    uint64_t connections; /* of the pool, and of the plain client */
    uint64_t outstanding; /* queries under way; the plain client has one on each connection */
    uint64_t rows;        /* of the table, or keys */
    uint64_t batch;       /* insert: rows of a transaction */
    bool scene;           /* a scene asks, not an actor in C */
    bool plain;           /* the plain client asks, with nothing of ours between: a load for what is measured beside it */
    bool pinned;          /* the actor lives on the database's loop, not on a core worker */
    const char *program;  /* redrabbit, for a scene */
    int cpu;              /* bind the asking process there; -1 = anywhere */
} db_params_t;

typedef struct db_workload {
    const char *name, *summary;
    const char *unit;
    unsigned kinds;    /* of databases that it goes with: a bit each */
    const char *takes; /* these, as URLs */
} db_workload_t;

const db_workload_t *db_find(const char *name); /* NULL: none */
void db_params_init(db_params_t *p);
/* Ends the program with one line if p->to is no database of ours, or none that the workload goes with. Before anything is run. */
void db_check(const db_workload_t *workload, const db_params_t *p);
bench_result_t *db_execute(const db_workload_t *workload, const db_params_t *p, unsigned runs, bool floor);

/* ---- What is asked for --------------------------------------------------------------------------------------------------- */

#define DB_TABLE "rr_bench"
#define DB_SELECT "SELECT id, name, score FROM " DB_TABLE " WHERE id = "
#define DB_INSERT "INSERT INTO " DB_TABLE "_log (id, name, score) VALUES (?, ?, ?)"
/* Row `id`: its name and score, so that every answer can be checked. */
static inline void db_name(uint64_t id, char *out, size_t size) { snprintf(out, size, "player-%08llu", (unsigned long long)id); }
static inline int64_t db_score(uint64_t id) { return (int64_t)(id * 2654435761u % 1000003); }
bool db_row_is(uint64_t id, int64_t got_id, const char *name, size_t name_size, int64_t score);
static inline uint64_t db_next(uint64_t *random, uint64_t rows) { /* xorshift; 0 to rows - 1 */
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    return *random % rows;
}

/* ---- A run's clock, the same for both sides ---------------------------------------------------------------------------- */

typedef struct db_clock {
    uint64_t begins, ends; /* of the measured time */
    uint64_t counted;
    histogram_t *latency;
} db_clock_t;

void db_clock_start(db_clock_t *clock, const db_params_t *p);
/* An answer to what was asked at `asked` came; false: the time is over, ask no more. */
bool db_clock_count(db_clock_t *clock, uint64_t asked, uint64_t units);
/* Metrics "queries" (or the workload's own word) and latency "query". */
void db_clock_tell(db_clock_t *clock, const db_workload_t *workload, bench_run_t *out);

/* ---- The two sides ------------------------------------------------------------------------------------------------------ */

typedef enum db_kind { DB_MYSQL, DB_POSTGRES, DB_SQLITE, DB_REDIS, DB_NONE } db_kind_t;
typedef struct db_url {
    db_kind_t kind;
    char user[64], password[64], host[128], database[512];
    unsigned port;
} db_url_t;
/* Ends the program with one line if it is none of ours. */
void db_url_parse(const char *text, db_url_t *out);

/* The table, filled: by the plain clients, before the first run. */
void db_prepare(const db_params_t *p);
void db_plain(const db_workload_t *workload, const db_params_t *p, bench_run_t *out);
void db_actor(const db_workload_t *workload, const db_params_t *p, bench_run_t *out);
void db_scene(const db_workload_t *workload, const db_params_t *p, bench_run_t *out);

/* One file for each library. */
void db_mysql_prepare(const db_url_t *url, const db_params_t *p);
void db_mysql_select(const db_url_t *url, const db_params_t *p, db_clock_t *clock, bench_run_t *out);
void db_postgres_prepare(const db_url_t *url, const db_params_t *p);
void db_postgres_select(const db_url_t *url, const db_params_t *p, db_clock_t *clock, bench_run_t *out);
void db_sqlite_prepare(const db_url_t *url, const db_params_t *p);
void db_sqlite_select(const db_url_t *url, const db_params_t *p, db_clock_t *clock, bench_run_t *out);
void db_sqlite_insert(const db_url_t *url, const db_params_t *p, db_clock_t *clock, bench_run_t *out);
void db_redis_prepare(const db_url_t *url, const db_params_t *p);
/* redis-benchmark itself, one thread, no pipelining. */
void db_redis_get(const db_url_t *url, const db_params_t *p, const db_workload_t *workload, bench_run_t *out);

#endif
