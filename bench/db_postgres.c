/* The plain client of PostgreSQL: libpq's asynchronous calls, one poll(2), a prepared statement, one query on each connection. */
#include <libpq-fe.h>
#include <poll.h>
#include <string.h>

#include "bench/db.h"

typedef struct link {
    PGconn *pq;
    uint64_t id, asked;
    bool busy;
} link_t;

static PGconn *dial(const db_url_t *url) {
    char port[12];
    snprintf(port, sizeof port, "%u", url->port);
    const char *names[] = {"host", "port", "user", "password", "dbname", NULL};
    const char *values[] = {url->host, port, url->user, url->password, url->database, NULL};
    PGconn *pq = PQconnectdbParams(names, values, 0);
    if (PQstatus(pq) != CONNECTION_OK)
        bench_die("db: %s", PQerrorMessage(pq));
    return pq;
}

static void run(PGconn *pq, const char *sql) {
    PGresult *result = PQexec(pq, sql);
    if (PQresultStatus(result) != PGRES_COMMAND_OK && PQresultStatus(result) != PGRES_TUPLES_OK)
        bench_die("db: %s: %s", sql, PQerrorMessage(pq));
    PQclear(result);
}

void db_postgres_prepare(const db_url_t *url, const db_params_t *p) {
    PGconn *pq = dial(url);
    char text[200];
    run(pq, "DROP TABLE IF EXISTS " DB_TABLE);
    run(pq, "CREATE TABLE " DB_TABLE " (id INT PRIMARY KEY, name VARCHAR(64) NOT NULL, score BIGINT NOT NULL)");
    run(pq, "BEGIN");
    for (uint64_t id = 0; id < p->rows; id++) {
        char name[64];
        db_name(id, name, sizeof name);
        snprintf(text, sizeof text, "INSERT INTO " DB_TABLE " VALUES (%llu, '%s', %lld)", (unsigned long long)id, name,
                 (long long)db_score(id));
        run(pq, text);
    }
    run(pq, "COMMIT");
    run(pq, "ANALYZE " DB_TABLE);
    PQfinish(pq);
}

static void ask(link_t *link, uint64_t id) {
    char text[24];
    snprintf(text, sizeof text, "%llu", (unsigned long long)id);
    const char *values[] = {text};
    link->id = id;
    link->asked = bench_now_ns();
    link->busy = PQsendQueryPrepared(link->pq, "select", 1, values, NULL, NULL, 0) && PQflush(link->pq) == 0;
    if (!link->busy)
        bench_die("db: %s", PQerrorMessage(link->pq));
}

static bool right(const PGresult *result, uint64_t id) {
    return PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) == 1 &&
           db_row_is(id, atoll(PQgetvalue(result, 0, 0)), PQgetvalue(result, 0, 1), (size_t)PQgetlength(result, 0, 1),
                     atoll(PQgetvalue(result, 0, 2)));
}

static bool take(link_t *link, bench_run_t *out) {
    if (!PQconsumeInput(link->pq)) {
        bench_fail(out, "the connection broke");
        link->busy = false;
    }
    while (link->busy && !PQisBusy(link->pq)) {
        PGresult *result = PQgetResult(link->pq);
        link->busy = result != NULL;
        if (result && !right(result, link->id))
            bench_fail(out, "row %llu came back wrong: %s", (unsigned long long)link->id, PQresultErrorMessage(result));
        PQclear(result);
    }
    return !link->busy;
}

void db_postgres_select(const db_url_t *url, const db_params_t *p, db_clock_t *clock, bench_run_t *out) {
    link_t *links = bench_alloc(p->connections * sizeof *links);
    struct pollfd *polls = bench_alloc(p->connections * sizeof *polls);
    uint64_t random = 88172645463325252ull, busy = p->connections;
    for (uint64_t i = 0; i < p->connections; i++) {
        links[i].pq = dial(url);
        PQclear(PQprepare(links[i].pq, "select", DB_SELECT "$1", 1, NULL));
        PQsetnonblocking(links[i].pq, 1);
        polls[i] = (struct pollfd){.fd = PQsocket(links[i].pq), .events = POLLIN};
    }
    histogram_free(clock->latency);
    db_clock_start(clock, p);
    for (uint64_t i = 0; i < p->connections; i++)
        ask(&links[i], db_next(&random, p->rows));
    while (busy && poll(polls, p->connections, 10000) > 0)
        for (uint64_t i = 0; i < p->connections; i++)
            if (polls[i].revents && links[i].busy && take(&links[i], out)) {
                if (db_clock_count(clock, links[i].asked, 1) && !out->failure[0])
                    ask(&links[i], db_next(&random, p->rows));
                else
                    busy--;
            }
    if (busy)
        bench_fail(out, "%llu queries were not answered", (unsigned long long)busy);
    for (uint64_t i = 0; i < p->connections; i++)
        PQfinish(links[i].pq);
    free(links);
    free(polls);
}
