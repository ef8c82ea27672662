/* query.h: what asks a database actor (actors/database/database.h), and what it answers: bytes in the datums of datum.h. Here, and
 * not beside the actor, because scripts (python/) write and read the same. Knows no database; no state; any thread.
 *
 *     request := op INT | id INT | transaction INT | stream INT | timeout_ms INT | flags INT | key (TEXT or NULL) |
 *                text (TEXT or NULL) | parameters: LIST, or NULL = none
 *     answer  := status INT (RR_DB_OK) | id INT | affected INT | last_id INT | flags INT |
 *                columns: LIST of TEXT | row LIST … to the end of the payload   (five INTs: a head of one size)
 *     error   := status INT (an rr_db_error_t) | executed INT | number INT | state TEXT | message TEXT | sql TEXT
 *
 * What each op takes and brings:
 *     QUERY      text = one statement; parameters: a LIST, by position for `?`; or, with RR_QUERY_NAMED, name TEXT and value in
 *                turn, for `:name`. -> affected, last_id, columns, rows. Within a transaction, if one is named.
 *                What would stay on its connection (BEGIN, SET, …) ends as STATE, unless RR_QUERY_TEXTS is set; see
 *                actors/database/GUIDE.md.
 *     BATCH      text; parameters = LIST of LISTs: the statement once for each, on one connection, all or none (within a
 *                transaction of its own unless one is named). -> affected of all
 *     BEGIN      flags = isolation and RR_QUERY_READ_ONLY; transaction = one that stays open for as long as this one is waited
 *                for: if such hold all connections, it fails at once. -> id: the transaction; it belongs to the asking actor,
 *                whose end rolls it back
 *     COMMIT, ROLLBACK   the transaction, which is over then, whatever the answer
 *     STREAM     as QUERY, but -> id: the stream, columns, and first rows; RR_ANSWER_MORE in flags: NEXT brings more
 *     NEXT       stream. -> rows; without RR_ANSWER_MORE it was the last part, and the stream is closed
 *     CLOSE      stream: the rest is not wanted
 *     COMMANDS   (Redis) parameters = LIST of LISTs of TEXT, BYTES, INT or REAL: one command each, sent together; with
 *                RR_QUERY_ATOMIC as one MULTI … EXEC. -> one row, its datums the replies in order, ERROR datums among them
 *     SUBSCRIBE  (Redis) parameters = LIST of TEXT: channels; with RR_QUERY_PATTERN patterns. -> id: the subscription, of
 *                the asking actor; RR_TYPE_QUERY_EVENT messages follow, which carry the request's id (the asker's own number, so
 *                that those of several databases do not mix), until CLOSE (stream = the answer's id) or the actor's end
 *     DESCRIBE   -> one row: driver TEXT ("sqlite", "mysql", "postgresql", "redis"), server version TEXT or NULL (not
 *                connected yet), INT: for how many ms a query that names no time-out may wait for a connection and run
 *
 *     event   := id INT (of the SUBSCRIBE request, as its asker chose it) | channel TEXT | pattern (TEXT or NULL) |
 *                payload BYTES | lost INT (events that this subscriber missed before this one because it did not keep up, or
 *                the connection was lost: at least so many)
 */
#ifndef RR_RUNTIME_QUERY_H
#define RR_RUNTIME_QUERY_H

#include "runtime/datum.h"

typedef enum rr_db_op {
    RR_DB_QUERY = 1,
    RR_DB_BATCH,
    RR_DB_BEGIN,
    RR_DB_COMMIT,
    RR_DB_ROLLBACK,
    RR_DB_STREAM,
    RR_DB_NEXT,
    RR_DB_CLOSE,
    RR_DB_COMMANDS,
    RR_DB_SUBSCRIBE,
    RR_DB_DESCRIBE,
    RR_DB_OPS,
} rr_db_op_t;

enum { /* flags of a request */
    RR_QUERY_NAMED = 1,
    RR_QUERY_READ_ONLY = 2,
    RR_QUERY_ATOMIC = 4,
    RR_QUERY_PATTERN = 8,
    RR_QUERY_TEXTS = 16, /* every value of the answer as TEXT, NULL as NULL, as the server writes it: what ffext shows */
    RR_QUERY_READ_UNCOMMITTED = 1 << 8, /* BEGIN: at most one of these; none = the server's default */
    RR_QUERY_READ_COMMITTED = 2 << 8,
    RR_QUERY_REPEATABLE_READ = 3 << 8,
    RR_QUERY_SERIALIZABLE = 4 << 8,
    RR_QUERY_ISOLATION = 7 << 8,
};

enum { /* flags of an answer */
    RR_ANSWER_MORE = 1,
    RR_ANSWER_LAST_ID = 2, /* last_id counts; set by rr_db_answer_begin */
};

/* Why a query failed. X(code, value, name): the name is what scripts and metrics show. */
#define RR_DB_ERRORS(X)                                                                                                \
    X(RR_DB_OK, 0, "ok")                                                                                               \
    X(RR_DB_CONNECTION, 1, "connection")   /* no connection, or it was lost: `executed` says what that means */        \
    X(RR_DB_AUTH, 2, "auth")               /* the server refuses us: password, unknown database */                     \
    X(RR_DB_SYNTAX, 3, "syntax")           /* also unknown tables and columns */                                       \
    X(RR_DB_INTEGRITY, 4, "integrity")     /* unique, foreign key, not null, check */                                  \
    X(RR_DB_DEADLOCK, 5, "deadlock")       /* deadlock, serialization failure, lock wait: the transaction may be tried again */ \
    X(RR_DB_TIMEOUT, 6, "timeout")         /* the query's, and it was cancelled */                                     \
    X(RR_DB_BUSY, 7, "busy")               /* no connection became free in time, or the queue is full: not executed */ \
    X(RR_DB_DATA, 8, "data")               /* a value that does not fit: range, encoding, type, number of parameters */ \
    X(RR_DB_STATE, 9, "state")             /* unknown or ended transaction or stream, wrong op for this driver */      \
    X(RR_DB_TOO_BIG, 10, "too_big")        /* the result is over the limit: stream it */                               \
    X(RR_DB_CANCELLED, 11, "cancelled")    /* the asking actor gave it up, or the database actor stops */              \
    X(RR_DB_SERVER, 12, "server")          /* anything else the server says: disk full, read only, out of memory */

typedef enum rr_db_error {
#define RR_DB_ENUM(code, value, name) code = value,
    RR_DB_ERRORS(RR_DB_ENUM)
#undef RR_DB_ENUM
} rr_db_error_t;

const char *rr_db_error_name(int error); /* "connection", …; "unknown"; static storage */

typedef enum rr_executed { RR_EXECUTED_NO = 0, RR_EXECUTED_MAYBE = 1 } rr_executed_t;

typedef struct rr_query {
    rr_db_op_t op;
    uint64_t id; /* the asking actor's number for it, for RR_TYPE_QUERY_CANCEL; 0 = cannot be cancelled */
    uint64_t transaction, stream;
    unsigned timeout_ms; /* 0 = the database's */
    unsigned flags;
    const char *key; /* queries of one key, whoever asks, run one after another in order of arrival; NULL = no order */
    size_t key_size;
    const char *text; /* not NUL-terminated */
    size_t text_size;
    const void *parameters; /* packed: one LIST, or NULL */
    size_t parameters_size;
} rr_query_t;

/* Writes a request; parameters are copied. NULL: out of memory or above 1 GiB. The reference is the caller's. */
rr_buffer_t *rr_query_encode(const rr_query_t *query);
/* The same into a writer up to and without the parameters: exactly one LIST or NULL must follow. */
void rr_query_begin(rr_datum_writer_t *writer, const rr_query_t *query);
/* Everything points into data. RR_EPROTO. */
RR_MUST_CHECK int rr_query_decode(const void *data, size_t size, rr_query_t *out);

typedef struct rr_db_answer {
    rr_db_error_t error; /* RR_DB_OK: the first part counts, else the second */
    uint64_t id;
    int64_t affected; /* rows changed, or brought where the server says so; -1 = unknown */
    bool has_last_id;
    int64_t last_id;
    unsigned flags; /* RR_ANSWER_* */
    uint32_t column_count;
    rr_datum_reader_t columns; /* column_count TEXTs */
    rr_datum_reader_t rows;    /* LISTs of column_count datums to the end */

    rr_executed_t executed;
    int64_t number;    /* the server's error number; 0 = none */
    const char *state; /* SQLSTATE, or the driver's word; not NUL-terminated */
    const char *message, *sql; /* sql: the statement's first line, at most 200 bytes */
    size_t state_size, message_size, sql_size;
} rr_db_answer_t;

/* The head of an answer into an empty writer: columns and rows follow (rr_datum_put_list(count), TEXTs; then a LIST a row).
 * last_id may be NULL. */
void rr_db_answer_begin(rr_datum_writer_t *writer, uint64_t id, int64_t affected, const int64_t *last_id, unsigned flags);
/* Writes the head of the answer that `writer` holds anew: what was not known before its rows. */
void rr_db_answer_head(rr_datum_writer_t *writer, uint64_t id, int64_t affected, const int64_t *last_id, unsigned flags);
/* A whole error answer; of sql the first line is kept. Strings may be NULL. NULL when out of memory. */
rr_buffer_t *rr_db_answer_error(rr_db_error_t error, rr_executed_t executed, int64_t number, const char *state,
                                const char *message, const char *sql, size_t sql_size);
/* Everything points into data. RR_EPROTO. */
RR_MUST_CHECK int rr_db_answer_decode(const void *data, size_t size, rr_db_answer_t *out);

#endif
