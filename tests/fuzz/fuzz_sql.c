/* Any bytes as a statement, of each kind of database: what is translated takes as many values as it says, and SQLite, which is at hand,
 * must see the same placeholders. */
#include <ctype.h>
#include <sqlite3.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "actors/database/database_impl.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* As many values as it wants, named as it wants them. */
static void fit(const rr__sql_t *sql) {
    rr_datum_writer_t writer = {0};
    char why[200];
    rr_datum_t *out = calloc(sql->placeholders + 1u, sizeof *out);
    for (uint32_t i = 0; i < sql->placeholders; i++) {
        if (sql->named)
            rr_datum_put_text(&writer, RR_DATUM_TEXT, sql->names[i].at, sql->names[i].size);
        rr_datum_put_int(&writer, i);
    }
    uint32_t count = sql->placeholders * (sql->named ? 2 : 1);
    rr_datum_reader_t values = rr_datum_reader(writer.data ? writer.data : (const uint8_t *)"", writer.size);
    const rr__db_job_t job = {.sql = sql, .placeholders = sql->placeholders};
    if (out && writer.status == RR_OK &&
        (rr__sql_fit(sql, values, count, why, sizeof why) != RR_OK || rr__db_arrange(&job, values, count, out) != RR_OK))
        abort();
    if (!sql->named && rr__sql_fit(sql, values, count + 1, why, sizeof why) == RR_OK)
        abort();
    rr_datum_drop(&writer);
    free(out);
}

/* Nothing but placeholders is changed. */
static void is_whole(const rr__sql_t *sql) {
    if (strlen(sql->text) != sql->text_size || strlen(sql->source) != sql->source_size)
        abort();
    if (sql->driver->style == RR__DB_QUESTION && !sql->named && !strstr(sql->source, "??") && strcmp(sql->text, sql->source) != 0)
        abort();
}

/* It takes other parameters than `?`, which are its own affair. */
static bool has_others(sqlite3_stmt *statement, const char *text) {
    for (int i = 1; i <= sqlite3_bind_parameter_count(statement); i++)
        if (sqlite3_bind_parameter_name(statement, i))
            return true;
    for (; *text; text++)
        if (text[0] == '?' && (text[1] == '?' || isdigit((unsigned char)text[1])))
            return true;
    return false;
}

static void ask_sqlite(const rr__sql_t *sql) {
    sqlite3 *db;
    sqlite3_stmt *statement = NULL;
    const char *tail = "";
    if (sqlite3_open(":memory:", &db) == SQLITE_OK && sqlite3_prepare_v2(db, sql->source, -1, &statement, &tail) == SQLITE_OK &&
        statement && !*tail && !has_others(statement, sql->source) &&
        (uint32_t)sqlite3_bind_parameter_count(statement) != sql->placeholders)
        abort();
    sqlite3_finalize(statement);
    sqlite3_close(db);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const rr__db_driver_t *const drivers[] = {&rr__db_sqlite, &rr__db_mysql, &rr__db_postgres};
    char *copy = malloc(size ? size : 1); /* exactly as large as it says: ASan sees every byte too far */
    if (size)
        memcpy(copy, data, size);
    for (unsigned i = 0; i < 6; i++) {
        rr__sql_t *sql;
        char why[200] = "";
        int rc = rr__sql_translate(drivers[i / 2], copy, size, i % 2, &sql, why, sizeof why);
        if (rc != RR_OK && !why[0])
            abort(); /* refused without a word */
        if (rc != RR_OK)
            continue;
        is_whole(sql);
        fit(sql);
        if (i == 0)
            ask_sqlite(sql);
        rr__sql_free(sql);
    }
    free(copy);
    return 0;
}
