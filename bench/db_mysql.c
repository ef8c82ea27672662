/* The plain client of MariaDB: libmariadb's non-blocking calls, one poll(2), a prepared statement, one query on each
 * connection. */
#include <mysql.h>
#include <poll.h>
#include <string.h>

#include "bench/db.h"

typedef enum link_step { LINK_EXECUTE, LINK_STORE, LINK_IDLE } link_step_t;

typedef struct link {
    MYSQL *mysql;
    MYSQL_STMT *statement;
    MYSQL_BIND in[1], out[3];
    int64_t id, got_id, score;
    char name[64];
    unsigned long name_size;
    uint64_t asked;
    link_step_t step;
} link_t;

static MYSQL *dial(const db_url_t *url) {
    MYSQL *mysql = mysql_init(NULL);
    if (!mysql)
        bench_die("out of memory");
    mysql_options(mysql, MYSQL_OPT_NONBLOCK, 0);
    if (!mysql_real_connect(mysql, url->host, url->user, url->password, url->database, url->port, NULL, 0))
        bench_die("db: %s", mysql_error(mysql));
    return mysql;
}

static void run(MYSQL *mysql, const char *sql) {
    if (mysql_query(mysql, sql) != 0)
        bench_die("db: %s: %s", sql, mysql_error(mysql));
}

void db_mysql_prepare(const db_url_t *url, const db_params_t *p) {
    MYSQL *mysql = dial(url);
    char text[200];
    run(mysql, "DROP TABLE IF EXISTS " DB_TABLE);
    run(mysql, "CREATE TABLE " DB_TABLE " (id INT PRIMARY KEY, name VARCHAR(64) NOT NULL, score BIGINT NOT NULL) ENGINE=InnoDB");
    run(mysql, "BEGIN");
    for (uint64_t id = 0; id < p->rows; id++) {
        char name[64];
        db_name(id, name, sizeof name);
        snprintf(text, sizeof text, "INSERT INTO " DB_TABLE " VALUES (%llu, '%s', %lld)", (unsigned long long)id, name,
                 (long long)db_score(id));
        run(mysql, text);
    }
    run(mysql, "COMMIT");
    mysql_close(mysql);
}

static void open_link(link_t *link, const db_url_t *url) {
    link->mysql = dial(url);
    link->statement = mysql_stmt_init(link->mysql);
    link->in[0] = (MYSQL_BIND){.buffer_type = MYSQL_TYPE_LONGLONG, .buffer = &link->id};
    link->out[0] = (MYSQL_BIND){.buffer_type = MYSQL_TYPE_LONGLONG, .buffer = &link->got_id};
    link->out[1] = (MYSQL_BIND){.buffer_type = MYSQL_TYPE_STRING, .buffer = link->name, .buffer_length = sizeof link->name,
                                .length = &link->name_size};
    link->out[2] = (MYSQL_BIND){.buffer_type = MYSQL_TYPE_LONGLONG, .buffer = &link->score};
    if (!link->statement || mysql_stmt_prepare(link->statement, DB_SELECT "?", strlen(DB_SELECT "?")) != 0 ||
        mysql_stmt_bind_param(link->statement, link->in) || mysql_stmt_bind_result(link->statement, link->out))
        bench_die("db: %s", mysql_error(link->mysql));
}

static short events_of(int status) {
    return (short)((status & MYSQL_WAIT_READ ? POLLIN : 0) | (status & MYSQL_WAIT_WRITE ? POLLOUT : 0));
}

/* The row is here: checked, and the result let go. */
static void take(link_t *link, bench_run_t *out) {
    if (mysql_stmt_fetch(link->statement) != 0 ||
        !db_row_is((uint64_t)link->id, link->got_id, link->name, link->name_size, link->score))
        bench_fail(out, "row %lld came back wrong", (long long)link->id);
    mysql_stmt_free_result(link->statement); /* all of it was stored: nothing is waited for */
    link->step = LINK_IDLE;
}

/* Goes as far as it can; what it waits for, 0 = it has its answer. */
static short go_on(link_t *link, int status, bool fresh, bench_run_t *out) {
    int rc = 0;
    if (link->step == LINK_EXECUTE) {
        status = fresh ? mysql_stmt_execute_start(&rc, link->statement) : mysql_stmt_execute_cont(&rc, link->statement, status);
        if (status)
            return events_of(status);
        link->step = LINK_STORE;
        fresh = true;
    }
    if (rc == 0)
        status = fresh ? mysql_stmt_store_result_start(&rc, link->statement)
                       : mysql_stmt_store_result_cont(&rc, link->statement, status);
    if (rc != 0) {
        bench_fail(out, "%s", mysql_stmt_error(link->statement));
        link->step = LINK_IDLE;
        return 0;
    }
    if (status)
        return events_of(status);
    take(link, out);
    return 0;
}

static short ask(link_t *link, uint64_t id, bench_run_t *out) {
    link->id = (int64_t)id;
    link->asked = bench_now_ns();
    link->step = LINK_EXECUTE;
    return go_on(link, 0, true, out);
}

static int waited(short events) {
    return (events & (POLLIN | POLLERR | POLLHUP) ? MYSQL_WAIT_READ : 0) | (events & POLLOUT ? MYSQL_WAIT_WRITE : 0);
}

/* Counts the answer and asks anew, as often as the answer is there at once: then nothing is left that poll would tell. False:
 * the run is over. */
static bool ask_on(link_t *link, struct pollfd *poll, uint64_t *random, db_clock_t *clock, const db_params_t *p, bench_run_t *out) {
    while (link->step == LINK_IDLE) {
        if (!db_clock_count(clock, link->asked, 1) || out->failure[0]) {
            poll->fd = -1;
            return false;
        }
        poll->events = ask(link, db_next(random, p->rows), out);
    }
    return true;
}

void db_mysql_select(const db_url_t *url, const db_params_t *p, db_clock_t *clock, bench_run_t *out) {
    link_t *links = bench_alloc(p->connections * sizeof *links);
    struct pollfd *polls = bench_alloc(p->connections * sizeof *polls);
    uint64_t random = 88172645463325252ull, busy = p->connections;
    for (uint64_t i = 0; i < p->connections; i++) {
        open_link(&links[i], url);
        polls[i].fd = mysql_get_socket(links[i].mysql);
    }
    histogram_free(clock->latency);
    db_clock_start(clock, p);
    for (uint64_t i = 0; i < p->connections; i++) {
        polls[i].events = ask(&links[i], db_next(&random, p->rows), out);
        if (!ask_on(&links[i], &polls[i], &random, clock, p, out))
            busy--;
    }
    while (busy && poll(polls, p->connections, 10000) > 0)
        for (uint64_t i = 0; i < p->connections; i++) {
            if (!polls[i].revents)
                continue;
            polls[i].events = go_on(&links[i], waited(polls[i].revents), false, out);
            if (!ask_on(&links[i], &polls[i], &random, clock, p, out))
                busy--;
        }
    if (busy)
        bench_fail(out, "%llu queries were not answered", (unsigned long long)busy);
    for (uint64_t i = 0; i < p->connections; i++) {
        mysql_stmt_close(links[i].statement);
        mysql_close(links[i].mysql);
    }
    free(links);
    free(polls);
}
