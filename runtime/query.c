/* query.c: requests to databases and their answers as bytes. Ids are 64-bit patterns: they travel as INT whatever their sign. */
#include "runtime/query.h"

#include <string.h>

#define SQL_SHOWN 200u

const char *rr_db_error_name(int error) {
    switch (error) {
#define RR_DB_NAME(code, value, name)                                                                                  \
    case value:                                                                                                        \
        return name;
        RR_DB_ERRORS(RR_DB_NAME)
#undef RR_DB_NAME
    default:
        return "unknown";
    }
}

/* ---- Requests ---- */

static void put_text_or_null(rr_datum_writer_t *writer, const char *text, size_t size) {
    if (text)
        rr_datum_put_text(writer, RR_DATUM_TEXT, text, size);
    else
        rr_datum_put_null(writer);
}

void rr_query_begin(rr_datum_writer_t *writer, const rr_query_t *query) {
    rr_datum_put_int(writer, query->op);
    rr_datum_put_int(writer, (int64_t)query->id);
    rr_datum_put_int(writer, (int64_t)query->transaction);
    rr_datum_put_int(writer, (int64_t)query->stream);
    rr_datum_put_int(writer, query->timeout_ms);
    rr_datum_put_int(writer, query->flags);
    put_text_or_null(writer, query->key, query->key_size);
    put_text_or_null(writer, query->text, query->text_size);
}

rr_buffer_t *rr_query_encode(const rr_query_t *query) {
    rr_datum_writer_t writer = {0};
    rr_query_begin(&writer, query);
    if (query->parameters)
        rr_datum_put_packed(&writer, query->parameters, query->parameters_size);
    else
        rr_datum_put_null(&writer);
    return rr_datum_finish(&writer);
}

static int get_unsigned(rr_datum_reader_t *reader, unsigned *out) {
    int64_t number = 0;
    int rc = rr_datum_get_int(reader, &number);
    if (rc == RR_OK && (number < 0 || number > UINT32_MAX))
        rc = RR_EPROTO;
    *out = (unsigned)number;
    return rc;
}

static int get_id(rr_datum_reader_t *reader, uint64_t *out) {
    int64_t number = 0;
    int rc = rr_datum_get_int(reader, &number);
    *out = (uint64_t)number;
    return rc;
}

static int get_head(rr_datum_reader_t *reader, rr_query_t *out) {
    unsigned op = 0;
    int rc = get_unsigned(reader, &op);
    if (rc == RR_OK && (op < RR_DB_QUERY || op >= RR_DB_OPS))
        rc = RR_EPROTO;
    out->op = (rr_db_op_t)op;
    if (rc == RR_OK)
        rc = get_id(reader, &out->id);
    if (rc == RR_OK)
        rc = get_id(reader, &out->transaction);
    if (rc == RR_OK)
        rc = get_id(reader, &out->stream);
    if (rc == RR_OK)
        rc = get_unsigned(reader, &out->timeout_ms);
    return rc == RR_OK ? get_unsigned(reader, &out->flags) : rc;
}

/* One LIST or NULL, and nothing behind it. */
static int get_parameters(rr_datum_reader_t *reader, rr_query_t *out) {
    rr_datum_t datum;
    rr_datum_reader_t at = *reader;
    int rc = rr_datum_get(&at, &datum);
    if (rc == RR_OK && datum.kind != RR_DATUM_LIST && datum.kind != RR_DATUM_NULL)
        rc = RR_EPROTO;
    if (rc == RR_OK && datum.kind == RR_DATUM_LIST) {
        out->parameters = reader->at;
        out->parameters_size = (size_t)(reader->end - reader->at);
    }
    if (rc == RR_OK)
        rc = rr_datum_skip(reader);
    return rc == RR_OK && reader->at != reader->end ? RR_EPROTO : rc;
}

int rr_query_decode(const void *data, size_t size, rr_query_t *out) {
    rr_datum_reader_t reader = rr_datum_reader(data, size);
    memset(out, 0, sizeof *out);
    int rc = get_head(&reader, out);
    if (rc == RR_OK)
        rc = rr_datum_get_text(&reader, &out->key, &out->key_size);
    if (rc == RR_OK)
        rc = rr_datum_get_text(&reader, &out->text, &out->text_size);
    if (rc == RR_OK)
        rc = get_parameters(&reader, out);
    return rc == RR_OK ? RR_OK : RR_EPROTO;
}

/* ---- Answers ---- */

void rr_db_answer_begin(rr_datum_writer_t *writer, uint64_t id, int64_t affected, const int64_t *last_id, unsigned flags) {
    rr_datum_put_int(writer, RR_DB_OK);
    rr_datum_put_int(writer, (int64_t)id);
    rr_datum_put_int(writer, affected);
    rr_datum_put_int(writer, last_id ? *last_id : 0);
    rr_datum_put_int(writer, (flags & ~(unsigned)RR_ANSWER_LAST_ID) | (last_id ? RR_ANSWER_LAST_ID : 0));
}

void rr_db_answer_head(rr_datum_writer_t *writer, uint64_t id, int64_t affected, const int64_t *last_id, unsigned flags) {
    size_t size = writer->size;
    if (writer->status != RR_OK)
        return;
    writer->size = 0;
    rr_db_answer_begin(writer, id, affected, last_id, flags);
    writer->size = size;
}

/* The first line that is not empty, cut between two characters. */
static void put_first_line(rr_datum_writer_t *writer, const char *sql, size_t size) {
    size_t length = 0;
    while (size && strchr(" \t\r\n", *sql)) {
        sql++;
        size--;
    }
    while (length < size && length < SQL_SHOWN && sql[length] != '\n' && sql[length] != '\r')
        length++;
    while (length && length < size && ((unsigned char)sql[length] & 0xc0) == 0x80)
        length--;
    rr_datum_put_text(writer, RR_DATUM_TEXT, sql, length);
}

rr_buffer_t *rr_db_answer_error(rr_db_error_t error, rr_executed_t executed, int64_t number, const char *state,
                                const char *message, const char *sql, size_t sql_size) {
    rr_datum_writer_t writer = {0};
    state = state ? state : "";
    message = message ? message : "";
    rr_datum_put_int(&writer, error);
    rr_datum_put_int(&writer, executed);
    rr_datum_put_int(&writer, number);
    rr_datum_put_text(&writer, RR_DATUM_TEXT, state, strlen(state));
    rr_datum_put_text(&writer, RR_DATUM_TEXT, message, strlen(message));
    put_first_line(&writer, sql ? sql : "", sql ? sql_size : 0);
    return rr_datum_finish(&writer);
}

static int decode_columns(rr_datum_reader_t *reader, rr_db_answer_t *out) {
    int rc = rr_datum_get_list(reader, &out->column_count);
    out->columns = *reader;
    for (uint32_t i = 0; rc == RR_OK && i < out->column_count; i++) {
        rr_datum_t datum;
        rc = rr_datum_get(reader, &datum);
        if (rc == RR_OK && datum.kind != RR_DATUM_TEXT)
            rc = RR_EPROTO;
    }
    out->columns.end = reader->at;
    out->rows = *reader;
    return rc;
}

static int decode_good(rr_datum_reader_t *reader, rr_db_answer_t *out) {
    int rc = get_id(reader, &out->id);
    if (rc == RR_OK)
        rc = rr_datum_get_int(reader, &out->affected);
    if (rc == RR_OK)
        rc = rr_datum_get_int(reader, &out->last_id);
    if (rc == RR_OK)
        rc = get_unsigned(reader, &out->flags);
    out->has_last_id = out->flags & RR_ANSWER_LAST_ID;
    return rc == RR_OK ? decode_columns(reader, out) : rc;
}

static int decode_error(rr_datum_reader_t *reader, rr_db_answer_t *out) {
    unsigned executed = 0;
    int rc = get_unsigned(reader, &executed);
    if (rc == RR_OK && executed > RR_EXECUTED_MAYBE)
        rc = RR_EPROTO;
    out->executed = (rr_executed_t)executed;
    if (rc == RR_OK)
        rc = rr_datum_get_int(reader, &out->number);
    if (rc == RR_OK)
        rc = rr_datum_get_text(reader, &out->state, &out->state_size);
    if (rc == RR_OK)
        rc = rr_datum_get_text(reader, &out->message, &out->message_size);
    return rc == RR_OK ? rr_datum_get_text(reader, &out->sql, &out->sql_size) : rc;
}

int rr_db_answer_decode(const void *data, size_t size, rr_db_answer_t *out) {
    rr_datum_reader_t reader = rr_datum_reader(data, size);
    unsigned error = 0;
    memset(out, 0, sizeof *out);
    int rc = get_unsigned(&reader, &error);
    out->error = (rr_db_error_t)error;
    if (rc == RR_OK)
        rc = error == RR_DB_OK ? decode_good(&reader, out) : decode_error(&reader, out);
    return rc == RR_OK ? RR_OK : RR_EPROTO;
}
