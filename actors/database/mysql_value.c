/* mysql_value.c: values between datums and MariaDB's two protocols. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "actors/database/mysql_impl.h"
#include "net/utf8.h"

#define BINARY_CHARSET 63
#define US_PER_S 1000000ll

static bool is_integer(enum enum_field_types type) {
    return type == MYSQL_TYPE_TINY || type == MYSQL_TYPE_SHORT || type == MYSQL_TYPE_LONG || type == MYSQL_TYPE_INT24 ||
           type == MYSQL_TYPE_LONGLONG || type == MYSQL_TYPE_YEAR;
}

static bool is_moment(enum enum_field_types type) {
    return type == MYSQL_TYPE_DATE || type == MYSQL_TYPE_NEWDATE || type == MYSQL_TYPE_DATETIME || type == MYSQL_TYPE_TIMESTAMP;
}

static bool is_decimal(enum enum_field_types type) { return type == MYSQL_TYPE_DECIMAL || type == MYSQL_TYPE_NEWDECIMAL; }

/* ---- In ---- */

/* Days since 1970-01-01 and back (Howard Hinnant, "chrono-compatible low-level date algorithms"). */
static int64_t days_of(int64_t year, unsigned month, unsigned day) {
    year -= month <= 2;
    int64_t era = (year >= 0 ? year : year - 399) / 400;
    unsigned of_era = (unsigned)(year - era * 400), of_year = (153 * (month + (month > 2 ? -3u : 9)) + 2) / 5 + day - 1;
    return era * 146097 + (int64_t)(of_era * 365 + of_era / 4 - of_era / 100 + of_year) - 719468;
}

static void date_of(int64_t days, MYSQL_TIME *out) {
    days += 719468;
    int64_t era = (days >= 0 ? days : days - 146096) / 146097;
    unsigned of_era = (unsigned)(days - era * 146097), year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    unsigned of_year = of_era - (365 * year + year / 4 - year / 100), month = (5 * of_year + 2) / 153;
    out->day = of_year - (153 * month + 2) / 5 + 1;
    out->month = month < 10 ? month + 3 : month - 9;
    out->year = (unsigned)(year + era * 400) + (out->month <= 2);
}

/* The server keeps no zones: a moment in one is given in UTC. */
static void bind_moment(MYSQL_TIME *out, const rr_datum_t *datum) {
    const rr_moment_t *m = &datum->moment;
    *out = (MYSQL_TIME){.year = (unsigned)m->year, .month = m->month, .day = m->day, .hour = m->hour, .minute = m->minute,
                        .second = m->second, .second_part = m->microsecond};
    if (datum->kind == RR_DATUM_DATETIME && m->flags & RR_MOMENT_ZONED && m->offset) {
        int64_t seconds = days_of(m->year, m->month, m->day) * 86400 + m->hour * 3600 + m->minute * 60 + m->second - m->offset;
        int64_t days = seconds >= 0 ? seconds / 86400 : -((-seconds + 86399) / 86400), rest = seconds - days * 86400;
        date_of(days, out);
        out->hour = (unsigned)(rest / 3600);
        out->minute = (unsigned)(rest / 60 % 60);
        out->second = (unsigned)(rest % 60);
    }
    out->time_type = datum->kind == RR_DATUM_DATE ? MYSQL_TIMESTAMP_DATE : datum->kind == RR_DATUM_TIME ? MYSQL_TIMESTAMP_TIME : MYSQL_TIMESTAMP_DATETIME;
}

static bool bind_span(MYSQL_TIME *out, int64_t us, const char **why) {
    uint64_t size = us < 0 ? -(uint64_t)us : (uint64_t)us, seconds = size / US_PER_S;
    if (seconds > 838 * 3600 + 59 * 60 + 59) {
        *why = "a length of time is 838:59:59 at most";
        return false;
    }
    *out = (MYSQL_TIME){.hour = (unsigned)(seconds / 3600), .minute = (unsigned)(seconds / 60 % 60), .second = (unsigned)(seconds % 60),
                        .second_part = (unsigned long)(size % US_PER_S), .neg = us < 0, .time_type = MYSQL_TIMESTAMP_TIME};
    return true;
}

static void bind_to(MYSQL_BIND *bind, enum enum_field_types type, void *buffer, size_t size) {
    bind->buffer_type = type;
    bind->buffer = buffer;
    bind->buffer_length = (unsigned long)size;
}

bool rr__my_bind_in(MYSQL_BIND *bind, my_cell_t *cell, const rr_datum_t *datum, const char **why) {
    memset(bind, 0, sizeof *bind);
    switch (datum->kind) {
    case RR_DATUM_NULL:
        bind->buffer_type = MYSQL_TYPE_NULL;
        return true;
    case RR_DATUM_BOOL:
        cell->number = datum->flag;
        bind_to(bind, MYSQL_TYPE_LONGLONG, &cell->number, sizeof cell->number);
        return true;
    case RR_DATUM_INT:
    case RR_DATUM_UINT:
        cell->number = datum->number;
        bind_to(bind, MYSQL_TYPE_LONGLONG, &cell->number, sizeof cell->number);
        bind->is_unsigned = datum->kind == RR_DATUM_UINT;
        return true;
    case RR_DATUM_REAL:
        if (!isfinite(datum->real)) { /* no column keeps it, and one of DECIMAL would silently have 0 */
            *why = "the server keeps no nan and no inf";
            return false;
        }
        cell->real = datum->real;
        bind_to(bind, MYSQL_TYPE_DOUBLE, &cell->real, sizeof cell->real);
        return true;
    case RR_DATUM_DATE:
    case RR_DATUM_TIME:
    case RR_DATUM_DATETIME:
        if (datum->kind == RR_DATUM_TIME && datum->moment.flags & RR_MOMENT_ZONED && datum->moment.offset) { /* in UTC: of which day? */
            *why = "a time in another zone than UTC: the server's TIME keeps none";
            return false;
        }
        bind_moment(&cell->time, datum);
        bind_to(bind, datum->kind == RR_DATUM_DATE ? MYSQL_TYPE_DATE : datum->kind == RR_DATUM_TIME ? MYSQL_TYPE_TIME : MYSQL_TYPE_DATETIME,
                &cell->time, sizeof cell->time);
        return true;
    case RR_DATUM_SPAN:
        bind_to(bind, MYSQL_TYPE_TIME, &cell->time, sizeof cell->time);
        return bind_span(&cell->time, datum->number, why);
    case RR_DATUM_TEXT:
    case RR_DATUM_DECIMAL:
    case RR_DATUM_JSON:
    case RR_DATUM_UUID:
    case RR_DATUM_BYTES:
        bind_to(bind, datum->kind == RR_DATUM_BYTES ? MYSQL_TYPE_LONG_BLOB : MYSQL_TYPE_STRING, (void *)(uintptr_t)datum->text.data,
                datum->text.size);
        return true;
    default:
        *why = "a parameter has a type that the server does not";
        return false;
    }
}

/* ---- Out ---- */

void rr__my_bind_out(MYSQL_BIND *bind, my_cell_t *cell, const MYSQL_FIELD *field, bool texts) {
    memset(bind, 0, sizeof *bind);
    bind->length = &bind->length_value;
    bind->is_null = &bind->is_null_value;
    bind->error = &bind->error_value;
    if (texts) {
        bind_to(bind, MYSQL_TYPE_STRING, NULL, 0);
    } else if (is_integer(field->type)) {
        bind_to(bind, MYSQL_TYPE_LONGLONG, &cell->number, sizeof cell->number);
        bind->is_unsigned = (field->flags & UNSIGNED_FLAG) != 0;
    } else if (field->type == MYSQL_TYPE_FLOAT) {
        bind_to(bind, MYSQL_TYPE_FLOAT, &cell->small, sizeof cell->small);
    } else if (field->type == MYSQL_TYPE_DOUBLE) {
        bind_to(bind, MYSQL_TYPE_DOUBLE, &cell->real, sizeof cell->real);
    } else if (is_moment(field->type) || field->type == MYSQL_TYPE_TIME) {
        bind_to(bind, field->type, &cell->time, sizeof cell->time);
    } else {
        bind_to(bind, is_decimal(field->type) ? MYSQL_TYPE_STRING : MYSQL_TYPE_BLOB, NULL, 0);
    }
}

/* What a FLOAT means to people: the shortest digits that give it back. */
static double widened(float number) {
    char text[32];
    for (int digits = 6; digits <= 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, (double)number);
        if (strtof(text, NULL) == number)
            break;
    }
    return strtod(text, NULL);
}

/* 0000-00-00, and days of month 0, are no dates elsewhere: as the server writes them. */
static void put_no_date(rr_datum_writer_t *out, const MYSQL_TIME *time, bool day_only) {
    char text[64];
    int size = day_only ? snprintf(text, sizeof text, "%04u-%02u-%02u", time->year, time->month, time->day)
                        : snprintf(text, sizeof text, "%04u-%02u-%02u %02u:%02u:%02u", time->year, time->month, time->day, time->hour,
                                   time->minute, time->second);
    rr_datum_put_text(out, RR_DATUM_TEXT, text, (size_t)size);
}

static void put_time(rr_datum_writer_t *out, const MYSQL_TIME *time, enum enum_field_types type) {
    bool day_only = type == MYSQL_TYPE_DATE || type == MYSQL_TYPE_NEWDATE;
    if (type == MYSQL_TYPE_TIME) {
        int64_t us = ((int64_t)(time->day * 24 + time->hour) * 3600 + time->minute * 60 + time->second) * US_PER_S + (int64_t)time->second_part;
        rr_datum_put_span(out, time->neg ? -us : us);
        return;
    }
    if (time->year == 0 || time->month == 0 || time->day == 0) {
        put_no_date(out, time, day_only);
        return;
    }
    rr_moment_t moment = {.year = (int16_t)time->year, .month = (uint8_t)time->month, .day = (uint8_t)time->day};
    if (!day_only) {
        moment.hour = (uint8_t)time->hour;
        moment.minute = (uint8_t)time->minute;
        moment.second = (uint8_t)time->second;
        moment.microsecond = (uint32_t)time->second_part;
    }
    rr_datum_put_moment(out, day_only ? RR_DATUM_DATE : RR_DATUM_DATETIME, &moment);
}

/* BIT(n): its bytes, the highest first. */
static void put_bits(rr_datum_writer_t *out, const uint8_t *data, size_t size) {
    uint64_t number = 0;
    for (size_t i = 0; i < size; i++)
        number = number << 8 | data[i];
    rr_datum_put_uint(out, number);
}

static rr_datum_kind_t kind_of(const MYSQL_FIELD *field) {
    if (is_decimal(field->type))
        return RR_DATUM_DECIMAL;
    if (field->type == MYSQL_TYPE_JSON)
        return RR_DATUM_JSON;
    return field->charsetnr == BINARY_CHARSET ? RR_DATUM_BYTES : RR_DATUM_TEXT;
}

static void put_long(rr_datum_writer_t *out, MYSQL_STMT *statement, unsigned column, const MYSQL_BIND *bind, const MYSQL_FIELD *field,
                     bool texts) {
    size_t size = bind->length_value;
    uint8_t bits[8];
    bool is_bits = field->type == MYSQL_TYPE_BIT && !texts && size <= sizeof bits;
    size_t at = out->size;
    uint8_t *room = is_bits ? bits : rr_datum_put_room(out, texts ? RR_DATUM_TEXT : kind_of(field), size);
    MYSQL_BIND whole = {.buffer_type = bind->buffer_type, .buffer = room, .buffer_length = size};
    whole.length = &whole.length_value;
    whole.is_null = &whole.is_null_value;
    whole.error = &whole.error_value;
    if (!room || (size && mysql_stmt_fetch_column(statement, &whole, column, 0) != 0)) {
        out->status = out->status ? out->status : RR_EPROTO;
        return;
    }
    if (is_bits)
        put_bits(out, bits, size);
    else if (texts && !rr_utf8_valid(room, size))
        out->data[at] = RR_DATUM_BYTES;
}

void rr__my_put_bound(rr_datum_writer_t *out, MYSQL_STMT *statement, unsigned column, const MYSQL_BIND *bind, const my_cell_t *cell,
                      const MYSQL_FIELD *field, bool texts) {
    if (bind->is_null_value)
        rr_datum_put_null(out);
    else if (!bind->buffer)
        put_long(out, statement, column, bind, field, texts);
    else if (bind->buffer_type == MYSQL_TYPE_LONGLONG && bind->is_unsigned)
        rr_datum_put_uint(out, (uint64_t)cell->number);
    else if (bind->buffer_type == MYSQL_TYPE_LONGLONG)
        rr_datum_put_int(out, cell->number);
    else if (bind->buffer_type == MYSQL_TYPE_FLOAT)
        rr_datum_put_real(out, widened(cell->small));
    else if (bind->buffer_type == MYSQL_TYPE_DOUBLE)
        rr_datum_put_real(out, cell->real);
    else
        put_time(out, &cell->time, field->type);
}

/* ---- Out of texts: NUL-terminated, as libmariadb keeps rows ---- */

/* "[-]H:MM:SS[.ffffff]" or "YYYY-MM-DD[ HH:MM:SS[.ffffff]]". */
static bool read_time(const char *text, enum enum_field_types type, MYSQL_TIME *out) {
    char fraction[8] = "";
    int count;
    memset(out, 0, sizeof *out);
    if (type == MYSQL_TYPE_TIME) {
        out->neg = *text == '-';
        count = sscanf(text + out->neg, "%u:%u:%u.%6[0-9]", &out->hour, &out->minute, &out->second, fraction);
        if (count < 3)
            return false;
    } else {
        count = sscanf(text, "%u-%u-%u %u:%u:%u.%6[0-9]", &out->year, &out->month, &out->day, &out->hour, &out->minute, &out->second, fraction);
        if (count < 3)
            return false;
    }
    unsigned long us = 0;
    for (int i = 0; i < 6; i++)
        us = us * 10 + (unsigned long)(i < (int)strlen(fraction) ? fraction[i] - '0' : 0);
    out->second_part = us;
    return true;
}

void rr__my_put_text(rr_datum_writer_t *out, const MYSQL_FIELD *field, const char *data, size_t size, bool texts) {
    MYSQL_TIME time;
    if (!data)
        rr_datum_put_null(out);
    else if (texts)
        rr_datum_put_text(out, rr_utf8_valid((const uint8_t *)data, size) ? RR_DATUM_TEXT : RR_DATUM_BYTES, data, size);
    else if (is_integer(field->type) && field->flags & UNSIGNED_FLAG)
        rr_datum_put_uint(out, strtoull(data, NULL, 10));
    else if (is_integer(field->type))
        rr_datum_put_int(out, strtoll(data, NULL, 10));
    else if (field->type == MYSQL_TYPE_FLOAT || field->type == MYSQL_TYPE_DOUBLE)
        rr_datum_put_real(out, strtod(data, NULL));
    else if (field->type == MYSQL_TYPE_BIT && size <= 8)
        put_bits(out, (const uint8_t *)data, size);
    else if ((is_moment(field->type) || field->type == MYSQL_TYPE_TIME) && read_time(data, field->type, &time))
        put_time(out, &time, field->type);
    else
        rr_datum_put_text(out, kind_of(field), data, size);
}
