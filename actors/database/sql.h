/* sql.h: statements as their writers give them -> statements as a driver wants them. Private to this folder. No state; any thread.
 *
 * Placeholders are the same for every database: `?` in turn, or `:name` (RR_QUERY_NAMED); `??` is a question mark. Strings, quoted
 * names, comments, casts (`::`) and dollar quotes are left alone, as the server reads them. In PostgreSQL's style a text without `?`
 * may use `$1` itself. */
#ifndef RR_ACTORS_DATABASE_SQL_H
#define RR_ACTORS_DATABASE_SQL_H

#include "actors/database/driver.h"

typedef struct rr__sql_name {
    const char *at; /* in the source */
    uint32_t size;
} rr__sql_name_t;

/* What a statement does to its connection, as far as its text says: a function, a procedure or a block may do anything. */
typedef enum rr__sql_effect {
    RR__SQL_NONE = 0,
    RR__SQL_TRANSACTS, /* begins or ends a transaction, or says how they do: BEGIN, COMMIT, ROLLBACK without TO, XA, SET autocommit … */
    RR__SQL_WITHIN,    /* is something within a transaction only: SAVEPOINT, RELEASE, ROLLBACK TO, PostgreSQL's SET LOCAL … */
    RR__SQL_KEEPS,     /* leaves the connection other than it was, or may: SET, USE, CREATE TEMPORARY, PREPARE, LISTEN, EXECUTE IMMEDIATE … */
    RR__SQL_LOCKS,     /* holds tables, and ends the transaction: LOCK TABLES of MariaDB and MySQL, FLUSH … WITH READ LOCK, BACKUP STAGE */
} rr__sql_effect_t;

typedef struct rr__sql {
    const rr__db_driver_t *driver;
    char *source; /* as given, NUL-terminated */
    size_t source_size;
    bool named;
    char *text; /* translated, NUL-terminated; may be the source */
    size_t text_size;
    uint64_t hash;         /* of text */
    uint32_t placeholders; /* values to bind */
    rr__sql_name_t *names; /* named: that of each placeholder; else NULL */
    uint64_t listed;       /* a bit for each of the first 64 that stands alone in IN (?): a list is no value there */
    uint32_t references;   /* for the cache of its owner */
    bool reads;            /* a SELECT that locks and makes nothing, as far as its text says: a function may do anything */
    rr__sql_effect_t effect;
    uint32_t quick_runs;   /* for the pool: how often in a row it took next to no time; a longer one begins anew */
} rr__sql_t;

/* RR_OK; RR_ENOMEM; RR_EINVAL: no UTF-8, a NUL in it, or over 65,535 placeholders (why has one line). *out is the caller's. */
RR_MUST_CHECK int rr__sql_translate(const rr__db_driver_t *driver, const char *source, size_t size, bool named, rr__sql_t **out,
                                    char *why, size_t why_size);
void rr__sql_free(rr__sql_t *sql);
/* 64 bits of a text, for caches. */
uint64_t rr__sql_hash(const void *data, size_t size);

/* Do these parameters fit: RR_OK, or RR_EINVAL with one line in why, which names placeholders of other libraries (%s, $1). values: behind the LIST's head of `count` datums. */
RR_MUST_CHECK int rr__sql_fit(const rr__sql_t *sql, rr_datum_reader_t values, uint32_t count, char *why, size_t why_size);

#endif
