/* The plain client of SQLite: one connection, prepared statements, WAL as the driver has it. */
#include <sqlite3.h>
#include <string.h>

#include "bench/db.h"

static sqlite3 *dial(const db_url_t *url) {
    sqlite3 *db;
    if (sqlite3_open(url->database, &db) != SQLITE_OK)
        bench_die("db: %s: %s", url->database, sqlite3_errmsg(db));
    sqlite3_busy_timeout(db, 5000);
    sqlite3_exec(db, "PRAGMA journal_mode = WAL", NULL, NULL, NULL);
    sqlite3_exec(db, "PRAGMA synchronous = NORMAL", NULL, NULL, NULL);
    return db;
}

static void run(sqlite3 *db, const char *sql) {
    char *why = NULL;
    if (sqlite3_exec(db, sql, NULL, NULL, &why) != SQLITE_OK)
        bench_die("db: %s: %s", sql, why);
}

static sqlite3_stmt *prepare(sqlite3 *db, const char *sql) {
    sqlite3_stmt *statement;
    if (sqlite3_prepare_v2(db, sql, -1, &statement, NULL) != SQLITE_OK)
        bench_die("db: %s: %s", sql, sqlite3_errmsg(db));
    return statement;
}

static bool insert(sqlite3_stmt *statement, uint64_t id) {
    char name[64];
    db_name(id, name, sizeof name);
    sqlite3_bind_int64(statement, 1, (sqlite3_int64)id);
    sqlite3_bind_text(statement, 2, name, -1, SQLITE_STATIC);
    sqlite3_bind_int64(statement, 3, db_score(id));
    bool good = sqlite3_step(statement) == SQLITE_DONE;
    sqlite3_reset(statement);
    return good;
}

void db_sqlite_prepare(const db_url_t *url, const db_params_t *p) {
    sqlite3 *db = dial(url);
    run(db, "DROP TABLE IF EXISTS " DB_TABLE);
    run(db, "DROP TABLE IF EXISTS " DB_TABLE "_log");
    run(db, "CREATE TABLE " DB_TABLE " (id INTEGER PRIMARY KEY, name TEXT NOT NULL, score INTEGER NOT NULL)");
    run(db, "CREATE TABLE " DB_TABLE "_log (number INTEGER PRIMARY KEY, id INTEGER NOT NULL, name TEXT NOT NULL, score INTEGER NOT NULL)");
    run(db, "BEGIN");
    sqlite3_stmt *statement = prepare(db, "INSERT INTO " DB_TABLE " VALUES (?, ?, ?)");
    for (uint64_t id = 0; id < p->rows; id++)
        if (!insert(statement, id))
            bench_die("db: %s", sqlite3_errmsg(db));
    sqlite3_finalize(statement);
    run(db, "COMMIT");
    sqlite3_close(db);
}

void db_sqlite_select(const db_url_t *url, const db_params_t *p, db_clock_t *clock, bench_run_t *out) {
    sqlite3 *db = dial(url);
    sqlite3_stmt *statement = prepare(db, DB_SELECT "?");
    uint64_t random = 88172645463325252ull, asked;
    do {
        uint64_t id = db_next(&random, p->rows);
        asked = bench_now_ns();
        sqlite3_bind_int64(statement, 1, (sqlite3_int64)id);
        if (sqlite3_step(statement) != SQLITE_ROW ||
            !db_row_is(id, sqlite3_column_int64(statement, 0), (const char *)sqlite3_column_text(statement, 1),
                       (size_t)sqlite3_column_bytes(statement, 1), sqlite3_column_int64(statement, 2)))
            bench_fail(out, "row %llu came back wrong", (unsigned long long)id);
        sqlite3_reset(statement);
    } while (db_clock_count(clock, asked, 1) && !out->failure[0]);
    sqlite3_finalize(statement);
    sqlite3_close(db);
}

void db_sqlite_insert(const db_url_t *url, const db_params_t *p, db_clock_t *clock, bench_run_t *out) {
    sqlite3 *db = dial(url);
    run(db, "DELETE FROM " DB_TABLE "_log");
    sqlite3_stmt *statement = prepare(db, DB_INSERT);
    uint64_t id = 0, asked;
    do {
        asked = bench_now_ns();
        run(db, "BEGIN");
        for (uint64_t i = 0; i < p->batch; i++)
            if (!insert(statement, id++))
                bench_fail(out, "%s", sqlite3_errmsg(db));
        run(db, "COMMIT");
    } while (db_clock_count(clock, asked, p->batch) && !out->failure[0]);
    sqlite3_finalize(statement);
    statement = prepare(db, "SELECT count(*), count(DISTINCT id) FROM " DB_TABLE "_log");
    if (sqlite3_step(statement) != SQLITE_ROW || (uint64_t)sqlite3_column_int64(statement, 0) != id ||
        (uint64_t)sqlite3_column_int64(statement, 1) != id)
        bench_fail(out, "of %llu rows not each is there once", (unsigned long long)id);
    sqlite3_finalize(statement);
    sqlite3_close(db);
}
