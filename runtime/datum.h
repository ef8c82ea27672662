/* datum.h: typed values packed into bytes: rows of databases, parameters of queries, whatever actors of different
 * languages hand each other. Little endian, one tag byte and a payload each, read with bounds checks because the same
 * bytes cross nodes.
 *
 *     datum := u8 kind | payload
 *     NULL  (nothing)            BOOL u8                 INT i64          UINT u64 (only above INT64_MAX)   REAL f64
 *     TEXT, BYTES, DECIMAL, JSON, UUID, ERROR: u32 size | bytes             (all but BYTES are UTF-8: the writer's promise)
 *     DATE, TIME, DATETIME: i16 year | u8 month | u8 day | u8 hour | u8 minute | u8 second | u8 flags | u32 microsecond | i32 offset
 *     SPAN i64 microseconds      LIST u32 count, then count datums
 *
 * No allocation but the writer's; no state; any thread. */
#ifndef RR_RUNTIME_DATUM_H
#define RR_RUNTIME_DATUM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/buffer.h"

typedef enum rr_datum_kind {
    RR_DATUM_NULL = 0,
    RR_DATUM_BOOL,
    RR_DATUM_INT,
    RR_DATUM_UINT,
    RR_DATUM_REAL,
    RR_DATUM_TEXT,
    RR_DATUM_BYTES,
    RR_DATUM_DECIMAL, /* its digits as text, "NaN" allowed */
    RR_DATUM_JSON,    /* its text */
    RR_DATUM_UUID,    /* 36 characters */
    RR_DATUM_DATE,
    RR_DATUM_TIME,     /* of a day */
    RR_DATUM_DATETIME,
    RR_DATUM_SPAN,     /* a length of time; may be negative */
    RR_DATUM_LIST,
    RR_DATUM_ERROR,    /* one reply of several that is an error: its text */
    RR_DATUM_KINDS,
} rr_datum_kind_t;

#define RR_MOMENT_ZONED 1u /* offset counts: the moment is in a known zone */

typedef struct rr_moment {
    int16_t year; /* 1..9999; 0 in a TIME */
    uint8_t month, day, hour, minute, second;
    uint8_t flags; /* RR_MOMENT_* */
    uint32_t microsecond;
    int32_t offset; /* seconds east of UTC */
} rr_moment_t;

/* A value as read: text points into what was read. */
typedef struct rr_datum {
    rr_datum_kind_t kind;
    union {
        bool flag;
        int64_t number; /* INT, SPAN */
        uint64_t big;   /* UINT */
        double real;
        struct {
            const char *data; /* not NUL-terminated */
            uint32_t size;
        } text; /* TEXT, BYTES, DECIMAL, JSON, UUID, ERROR */
        rr_moment_t moment;
        uint32_t count; /* LIST: so many datums follow */
    };
} rr_datum_t;

/* ---- Writing ---- */

/* Grows as needed up to `limit` bytes (0 = 1 GiB). The first failure sticks: RR_ENOMEM or RR_ETOOBIG, later puts do nothing.
 * Zero it, set limit, and end it with rr_datum_finish or rr_datum_drop. */
typedef struct rr_datum_writer {
    rr_buffer_t *buffer; /* its own until finish */
    uint8_t *data;       /* the buffer's bytes */
    size_t size, capacity, limit;
    int status; /* RR_OK until something failed */
} rr_datum_writer_t;

void rr_datum_put_null(rr_datum_writer_t *writer);
void rr_datum_put_bool(rr_datum_writer_t *writer, bool flag);
void rr_datum_put_int(rr_datum_writer_t *writer, int64_t number);
void rr_datum_put_uint(rr_datum_writer_t *writer, uint64_t number); /* as INT where it fits */
void rr_datum_put_real(rr_datum_writer_t *writer, double number);
/* kind: one of those with text. */
void rr_datum_put_text(rr_datum_writer_t *writer, rr_datum_kind_t kind, const void *data, size_t size);
/* The same, but the bytes are filled in by the caller at once, before the next put; NULL after a failure. */
uint8_t *rr_datum_put_room(rr_datum_writer_t *writer, rr_datum_kind_t kind, size_t size);
/* kind: DATE, TIME, DATETIME. */
void rr_datum_put_moment(rr_datum_writer_t *writer, rr_datum_kind_t kind, const rr_moment_t *moment);
void rr_datum_put_span(rr_datum_writer_t *writer, int64_t microseconds);
void rr_datum_put_list(rr_datum_writer_t *writer, uint32_t count); /* its items follow */
void rr_datum_put(rr_datum_writer_t *writer, const rr_datum_t *datum); /* a LIST: its head only */
/* Datums that were packed before, as they are. */
void rr_datum_put_packed(rr_datum_writer_t *writer, const void *data, size_t size);
/* A list whose count is known at its end: begin returns a mark for end. */
size_t rr_datum_list_begin(rr_datum_writer_t *writer);
void rr_datum_list_end(rr_datum_writer_t *writer, size_t mark, uint32_t count);

/* What was written, as a buffer with one reference, without a copy; the writer is empty then. NULL after a failure
 * (writer->status says which), and nothing is kept. */
rr_buffer_t *rr_datum_finish(rr_datum_writer_t *writer);
void rr_datum_drop(rr_datum_writer_t *writer);

/* ---- Reading ---- */

typedef struct rr_datum_reader {
    const uint8_t *at, *end;
} rr_datum_reader_t;

static inline rr_datum_reader_t rr_datum_reader(const void *data, size_t size) {
    const uint8_t *at = data;
    return (rr_datum_reader_t){at, at + size};
}

/* The next datum. RR_OK; RR_ENOENT at the end; RR_EPROTO: not a datum (nothing is consumed). A LIST's items follow by
 * further calls; its count never promises more items than bytes are left. */
RR_MUST_CHECK int rr_datum_get(rr_datum_reader_t *reader, rr_datum_t *out);
/* Over the next datum, a LIST with all its items (nested at most 32 deep, else RR_EPROTO). Same errors. */
RR_MUST_CHECK int rr_datum_skip(rr_datum_reader_t *reader);
/* The next one must be of that kind (RR_DATUM_INT also takes BOOL), else RR_EPROTO. */
RR_MUST_CHECK int rr_datum_get_int(rr_datum_reader_t *reader, int64_t *out);
RR_MUST_CHECK int rr_datum_get_text(rr_datum_reader_t *reader, const char **data, size_t *size); /* any kind with text; NULL: data = NULL */
RR_MUST_CHECK int rr_datum_get_list(rr_datum_reader_t *reader, uint32_t *count);

/* "null", "int", …; static storage. */
const char *rr_datum_kind_name(rr_datum_kind_t kind);

#endif
