/* datum.c: typed values as bytes. Numbers are little endian whatever the machine. */
#include "runtime/datum.h"

#include <assert.h>
#include <endian.h>
#include <string.h>

#define CAPACITY_FIRST 232u /* with a buffer's head one class of the allocator */
#define LIMIT_DEFAULT (1u << 30)
#define MOMENT_SIZE 16u
#define DEPTH_MAX 32

static bool has_text(rr_datum_kind_t kind) {
    return (kind >= RR_DATUM_TEXT && kind <= RR_DATUM_UUID) || kind == RR_DATUM_ERROR;
}

static bool has_moment(rr_datum_kind_t kind) { return kind >= RR_DATUM_DATE && kind <= RR_DATUM_DATETIME; }

/* ---- Writing ---- */

static bool grow(rr_datum_writer_t *writer, size_t size) {
    size_t limit = writer->limit ? writer->limit : LIMIT_DEFAULT, capacity = writer->capacity;
    if (size > limit || writer->size > limit - size) {
        writer->status = RR_ETOOBIG;
        return false;
    }
    size_t needed = writer->size + size;
    capacity = capacity > limit / 2 ? limit : capacity ? capacity * 2 : CAPACITY_FIRST;
    capacity = capacity > limit ? limit : capacity > needed ? capacity : needed;
    rr_buffer_t *more = writer->buffer ? rr_buffer_resize(writer->buffer, capacity) : rr_buffer_new(capacity);
    if (!more) {
        writer->status = RR_ENOMEM;
        return false;
    }
    writer->buffer = more;
    writer->data = rr_buffer_data(more);
    writer->capacity = capacity;
    return true;
}

/* Room for so many bytes, counted as written; NULL after a failure. */
static inline uint8_t *room(rr_datum_writer_t *writer, size_t size) {
    if (writer->status != RR_OK || (size > writer->capacity - writer->size && !grow(writer, size)))
        return NULL;
    uint8_t *at = writer->data + writer->size;
    writer->size += size;
    return at;
}

static void store16(uint8_t *at, uint16_t number) {
    number = htole16(number);
    memcpy(at, &number, sizeof number);
}

static void store32(uint8_t *at, uint32_t number) {
    number = htole32(number);
    memcpy(at, &number, sizeof number);
}

static void put64(rr_datum_writer_t *writer, rr_datum_kind_t kind, uint64_t number) {
    uint8_t *at = room(writer, 1 + sizeof number);
    if (!at)
        return;
    at[0] = (uint8_t)kind;
    number = htole64(number);
    memcpy(at + 1, &number, sizeof number);
}

void rr_datum_put_null(rr_datum_writer_t *writer) {
    uint8_t *at = room(writer, 1);
    if (at)
        at[0] = RR_DATUM_NULL;
}

void rr_datum_put_bool(rr_datum_writer_t *writer, bool flag) {
    uint8_t *at = room(writer, 2);
    if (!at)
        return;
    at[0] = RR_DATUM_BOOL;
    at[1] = flag;
}

void rr_datum_put_int(rr_datum_writer_t *writer, int64_t number) { put64(writer, RR_DATUM_INT, (uint64_t)number); }

void rr_datum_put_uint(rr_datum_writer_t *writer, uint64_t number) {
    put64(writer, number > INT64_MAX ? RR_DATUM_UINT : RR_DATUM_INT, number);
}

void rr_datum_put_real(rr_datum_writer_t *writer, double number) {
    uint64_t bits;
    memcpy(&bits, &number, sizeof bits);
    put64(writer, RR_DATUM_REAL, bits);
}

uint8_t *rr_datum_put_room(rr_datum_writer_t *writer, rr_datum_kind_t kind, size_t size) {
    assert(has_text(kind));
    if (size > UINT32_MAX) {
        writer->status = writer->status ? writer->status : RR_ETOOBIG;
        return NULL;
    }
    uint8_t *at = room(writer, 5 + size);
    if (!at)
        return NULL;
    at[0] = (uint8_t)kind;
    store32(at + 1, (uint32_t)size);
    return at + 5;
}

void rr_datum_put_text(rr_datum_writer_t *writer, rr_datum_kind_t kind, const void *data, size_t size) {
    uint8_t *at = rr_datum_put_room(writer, kind, size);
    if (at && size)
        memcpy(at, data, size);
}

void rr_datum_put_moment(rr_datum_writer_t *writer, rr_datum_kind_t kind, const rr_moment_t *moment) {
    assert(has_moment(kind));
    uint8_t *at = room(writer, 1 + MOMENT_SIZE);
    if (!at)
        return;
    at[0] = (uint8_t)kind;
    store16(at + 1, (uint16_t)moment->year);
    memcpy(at + 3, (const uint8_t[]){moment->month, moment->day, moment->hour, moment->minute, moment->second, moment->flags}, 6);
    store32(at + 9, moment->microsecond);
    store32(at + 13, (uint32_t)moment->offset);
}

void rr_datum_put_span(rr_datum_writer_t *writer, int64_t microseconds) {
    put64(writer, RR_DATUM_SPAN, (uint64_t)microseconds);
}

void rr_datum_put_list(rr_datum_writer_t *writer, uint32_t count) {
    uint8_t *at = room(writer, 5);
    if (!at)
        return;
    at[0] = RR_DATUM_LIST;
    store32(at + 1, count);
}

void rr_datum_put(rr_datum_writer_t *writer, const rr_datum_t *datum) {
    switch (datum->kind) {
    case RR_DATUM_BOOL:
        rr_datum_put_bool(writer, datum->flag);
        break;
    case RR_DATUM_INT:
        rr_datum_put_int(writer, datum->number);
        break;
    case RR_DATUM_UINT:
        rr_datum_put_uint(writer, datum->big);
        break;
    case RR_DATUM_REAL:
        rr_datum_put_real(writer, datum->real);
        break;
    case RR_DATUM_SPAN:
        rr_datum_put_span(writer, datum->number);
        break;
    case RR_DATUM_LIST:
        rr_datum_put_list(writer, datum->count);
        break;
    default:
        if (has_text(datum->kind))
            rr_datum_put_text(writer, datum->kind, datum->text.data, datum->text.size);
        else if (has_moment(datum->kind))
            rr_datum_put_moment(writer, datum->kind, &datum->moment);
        else
            rr_datum_put_null(writer);
    }
}

void rr_datum_put_packed(rr_datum_writer_t *writer, const void *data, size_t size) {
    uint8_t *at = room(writer, size);
    if (at && size)
        memcpy(at, data, size);
}

size_t rr_datum_list_begin(rr_datum_writer_t *writer) {
    size_t mark = writer->size;
    rr_datum_put_list(writer, 0);
    return mark;
}

void rr_datum_list_end(rr_datum_writer_t *writer, size_t mark, uint32_t count) {
    if (writer->status == RR_OK)
        store32(writer->data + mark + 1, count);
}

rr_buffer_t *rr_datum_finish(rr_datum_writer_t *writer) {
    rr_buffer_t *buffer = NULL;
    if (writer->status == RR_OK && !writer->buffer && !(writer->buffer = rr_buffer_new(0)))
        writer->status = RR_ENOMEM;
    if (writer->status == RR_OK) {
        buffer = writer->buffer;
        rr_buffer_truncate(buffer, writer->size);
        writer->buffer = NULL;
    }
    rr_datum_drop(writer);
    return buffer;
}

void rr_datum_drop(rr_datum_writer_t *writer) {
    rr_buffer_unref(writer->buffer);
    writer->buffer = NULL;
    writer->data = NULL;
    writer->size = writer->capacity = 0;
}

/* ---- Reading ---- */

static uint32_t load32(const uint8_t *at) {
    uint32_t number;
    memcpy(&number, at, sizeof number);
    return le32toh(number);
}

static uint64_t load64(const uint8_t *at) {
    uint64_t number;
    memcpy(&number, at, sizeof number);
    return le64toh(number);
}

static bool sound_moment(rr_datum_kind_t kind, const rr_moment_t *m) {
    bool date = kind == RR_DATUM_TIME || (m->year >= 1 && m->year <= 9999 && m->month >= 1 && m->month <= 12 && m->day >= 1 && m->day <= 31);
    return date && m->hour < 24 && m->minute < 60 && m->second < 60 && m->microsecond < 1000000 && m->offset > -86400 &&
           m->offset < 86400;
}

static int get_moment(const uint8_t *at, rr_datum_t *out) {
    uint16_t year;
    memcpy(&year, at, sizeof year);
    out->moment = (rr_moment_t){.year = (int16_t)le16toh(year), .month = at[2], .day = at[3], .hour = at[4], .minute = at[5],
                                .second = at[6], .flags = at[7], .microsecond = load32(at + 8), .offset = (int32_t)load32(at + 12)};
    return sound_moment(out->kind, &out->moment) ? RR_OK : RR_EPROTO;
}

/* The payload of a number: its kind is in out. */
static int get_number(uint64_t number, rr_datum_t *out) {
    if (out->kind == RR_DATUM_UINT && number <= INT64_MAX)
        return RR_EPROTO;
    if (out->kind == RR_DATUM_REAL)
        memcpy(&out->real, &number, sizeof number);
    else if (out->kind == RR_DATUM_UINT)
        out->big = number;
    else
        out->number = (int64_t)number;
    return RR_OK;
}

/* Bytes of a kind's payload, without the bytes of a text. */
static size_t fixed_size(rr_datum_kind_t kind) {
    if (has_text(kind) || kind == RR_DATUM_LIST)
        return 4;
    return kind == RR_DATUM_NULL ? 0 : kind == RR_DATUM_BOOL ? 1 : has_moment(kind) ? MOMENT_SIZE : 8;
}

int rr_datum_get(rr_datum_reader_t *reader, rr_datum_t *out) {
    if (reader->at == reader->end)
        return RR_ENOENT;
    const uint8_t *at = reader->at + 1;
    rr_datum_kind_t kind = (rr_datum_kind_t)reader->at[0];
    size_t size = fixed_size(kind), left = (size_t)(reader->end - at);
    if (kind >= RR_DATUM_KINDS || left < size)
        return RR_EPROTO;
    int rc = RR_OK;
    out->kind = kind;
    if (has_text(kind)) {
        out->text.data = (const char *)at + 4;
        out->text.size = load32(at);
        rc = out->text.size <= left - 4 ? RR_OK : RR_EPROTO;
        size += out->text.size;
    } else if (kind == RR_DATUM_LIST) {
        out->count = load32(at);
        rc = out->count <= left - 4 ? RR_OK : RR_EPROTO;
    } else if (kind == RR_DATUM_BOOL) {
        out->flag = at[0] == 1;
        rc = at[0] <= 1 ? RR_OK : RR_EPROTO;
    } else if (has_moment(kind)) {
        rc = get_moment(at, out);
    } else if (kind != RR_DATUM_NULL) {
        rc = get_number(load64(at), out);
    }
    if (rc == RR_OK)
        reader->at = at + size;
    return rc;
}

static int pass_slowly(rr_datum_reader_t *reader, uint32_t *items) {
    rr_datum_t datum;
    int rc = rr_datum_get(reader, &datum);
    *items = rc == RR_OK && datum.kind == RR_DATUM_LIST ? datum.count : 0;
    return rc;
}

/* Over one datum; a list's items are still to come. Its value is looked at only where some would be wrong. */
static inline int pass(rr_datum_reader_t *reader, uint32_t *items) {
    size_t left = (size_t)(reader->end - reader->at), size = 9;
    if (left == 0)
        return RR_ENOENT;
    *items = 0;
    switch ((rr_datum_kind_t)reader->at[0]) {
    case RR_DATUM_INT:
    case RR_DATUM_REAL:
    case RR_DATUM_SPAN:
        break;
    case RR_DATUM_TEXT:
    case RR_DATUM_BYTES:
    case RR_DATUM_DECIMAL:
    case RR_DATUM_JSON:
    case RR_DATUM_UUID:
    case RR_DATUM_ERROR:
        size = left < 5 ? 5 : 5 + (size_t)load32(reader->at + 1);
        break;
    default:
        return pass_slowly(reader, items);
    }
    if (left < size)
        return RR_EPROTO;
    reader->at += size;
    return RR_OK;
}

/* Over a list's items, whatever is in them. */
static int pass_items(rr_datum_reader_t *reader, uint32_t count) {
    uint32_t left[DEPTH_MAX]; /* items to come at each depth */
    int depth = 0;
    left[0] = count;
    while (depth >= 0) {
        if (left[depth] == 0) {
            depth--;
            continue;
        }
        left[depth]--;
        if (pass(reader, &count) != RR_OK)
            return RR_EPROTO;
        if (count == 0)
            continue;
        if (++depth == DEPTH_MAX)
            return RR_EPROTO;
        left[depth] = count;
    }
    return RR_OK;
}

int rr_datum_skip(rr_datum_reader_t *reader) {
    rr_datum_reader_t at = *reader;
    uint32_t items;
    int rc = pass(&at, &items);
    if (rc == RR_OK && items)
        rc = pass_items(&at, items);
    if (rc == RR_OK)
        *reader = at;
    return rc;
}

int rr_datum_get_int(rr_datum_reader_t *reader, int64_t *out) {
    rr_datum_reader_t at = *reader;
    rr_datum_t datum;
    int rc = rr_datum_get(&at, &datum);
    if (rc == RR_OK && datum.kind != RR_DATUM_INT && datum.kind != RR_DATUM_BOOL)
        rc = RR_EPROTO;
    if (rc != RR_OK)
        return rc;
    *out = datum.kind == RR_DATUM_BOOL ? datum.flag : datum.number;
    *reader = at;
    return RR_OK;
}

int rr_datum_get_text(rr_datum_reader_t *reader, const char **data, size_t *size) {
    rr_datum_reader_t at = *reader;
    rr_datum_t datum;
    int rc = rr_datum_get(&at, &datum);
    if (rc == RR_OK && datum.kind != RR_DATUM_NULL && !has_text(datum.kind))
        rc = RR_EPROTO;
    if (rc != RR_OK)
        return rc;
    *data = datum.kind == RR_DATUM_NULL ? NULL : datum.text.data;
    *size = datum.kind == RR_DATUM_NULL ? 0 : datum.text.size;
    *reader = at;
    return RR_OK;
}

int rr_datum_get_list(rr_datum_reader_t *reader, uint32_t *count) {
    rr_datum_reader_t at = *reader;
    rr_datum_t datum;
    int rc = rr_datum_get(&at, &datum);
    if (rc == RR_OK && datum.kind != RR_DATUM_LIST)
        rc = RR_EPROTO;
    if (rc != RR_OK)
        return rc;
    *count = datum.count;
    *reader = at;
    return RR_OK;
}

const char *rr_datum_kind_name(rr_datum_kind_t kind) {
    static const char *const names[] = {"null", "bool", "int",  "uint", "real",     "text", "bytes", "decimal",
                                        "json", "uuid", "date", "time", "datetime", "span", "list",  "error"};
    return kind < RR_DATUM_KINDS ? names[kind] : "unknown";
}
