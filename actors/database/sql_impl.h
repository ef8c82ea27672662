/* sql_impl.h: shared by the files about SQL: what of a statement is a string, a quoted name or a comment. No state; any thread. */
#ifndef RR_ACTORS_DATABASE_SQL_IMPL_H
#define RR_ACTORS_DATABASE_SQL_IMPL_H

#include "actors/database/sql.h"

typedef struct rr__sql_source {
    const rr__db_driver_t *driver; /* whose SQL it is */
    const char *start, *end;
} rr__sql_source_t;

static inline bool rr__sql_is_postgres(const rr__sql_source_t *source) { return source->driver->style == RR__DB_DOLLAR; }
static inline bool rr__sql_is_mysql(const rr__sql_source_t *source) { return source->driver->backslashes; } /* or MariaDB's */
static inline bool rr__sql_is_sqlite(const rr__sql_source_t *source) {
    return !rr__sql_is_postgres(source) && !rr__sql_is_mysql(source);
}

static inline bool rr__sql_is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (unsigned char)c >= 0x80; }
static inline bool rr__sql_is_digit(char c) { return c >= '0' && c <= '9'; }
static inline bool rr__sql_is_in_word(char c) { return rr__sql_is_letter(c) || rr__sql_is_digit(c); }
static inline bool rr__sql_is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

/* Behind the string, quoted name, comment or cast that begins at `at`, where neither placeholders nor words count; NULL if none does.
 * One that is never closed goes to the end: it is the server's affair. */
const char *rr__sql_behind_other(const rr__sql_source_t *source, const char *at);

/* ---- sql_effect.c ---- */

/* SELECT first, and neither FOR (UPDATE …) nor INTO, wherever they stand. */
bool rr__sql_reads(const rr__sql_source_t *source);
rr__sql_effect_t rr__sql_effect_of(const rr__sql_source_t *source);

#endif
