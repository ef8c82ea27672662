/* postgres_value.c: datums to PostgreSQL's text form and back.
 *
 * Results are taken as text: every type of a server has that form, those of extensions too, and what has no datum of its own
 * (inet, a range, infinity as a date) stays readable. Arrays are lists. Parameters that Python's types determine say their type, as the
 * server could not tell otherwise what `SELECT $1` is; text does not, so that it fits wherever a literal would. */
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "actors/database/postgres_impl.h"

enum { /* OIDs of pg_type: fixed for ever */
    TYPE_BOOL = 16, TYPE_BYTEA = 17, TYPE_CHAR = 18, TYPE_NAME = 19, TYPE_INT8 = 20, TYPE_INT2 = 21, TYPE_INT4 = 23, TYPE_TEXT = 25, TYPE_OID = 26,
    TYPE_JSON = 114, TYPE_BPCHAR = 1042, TYPE_VARCHAR = 1043,
    TYPE_FLOAT4 = 700, TYPE_FLOAT8 = 701, TYPE_DATE = 1082, TYPE_TIME = 1083, TYPE_TIMESTAMP = 1114, TYPE_TIMESTAMPTZ = 1184,
    TYPE_INTERVAL = 1186, TYPE_TIMETZ = 1266, TYPE_NUMERIC = 1700, TYPE_UUID = 2950, TYPE_JSONB = 3802,
};

#define US_PER_S 1000000ll
#define US_PER_DAY (86400 * US_PER_S)
#define TEXT_MAX 80 /* of a value that we write */
#define DIMENSIONS_MAX 6 /* the server's own limit */

/* ---- Parameters ---- */

static bool grow(rr__pg_parameters_t *p, uint32_t count) {
    if (count <= p->capacity)
        return true;
    void **arrays[] = {(void **)&p->datums, (void **)&p->types, (void **)&p->values, (void **)&p->sizes, (void **)&p->formats};
    size_t sizes[] = {sizeof *p->datums, sizeof *p->types, sizeof *p->values, sizeof *p->sizes, sizeof *p->formats};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        void *bigger = realloc(*arrays[i], count * sizes[i]);
        if (!bigger)
            return false;
        *arrays[i] = bigger;
    }
    p->capacity = count;
    return true;
}

void rr__pg_parameters_free(rr__pg_parameters_t *p) {
    free(p->datums);
    free(p->types);
    free(p->values);
    free(p->sizes);
    free(p->formats);
    free(p->texts);
    *p = (rr__pg_parameters_t){0};
}

static bool has_text(const rr_datum_t *datum) {
    return datum->kind == RR_DATUM_TEXT || datum->kind == RR_DATUM_DECIMAL || datum->kind == RR_DATUM_JSON ||
           datum->kind == RR_DATUM_UUID;
}

static size_t room_for(const rr_datum_t *datum) {
    return has_text(datum) ? (size_t)datum->text.size + 1 : TEXT_MAX;
}

static int write_clock(char *out, size_t size, const rr_moment_t *m) {
    int used = snprintf(out, size, "%02u:%02u:%02u", m->hour, m->minute, m->second);
    if (m->microsecond)
        used += snprintf(out + used, size - (size_t)used, ".%06u", m->microsecond);
    if (m->flags & RR_MOMENT_ZONED) {
        int east = m->offset < 0 ? -m->offset : m->offset;
        used += snprintf(out + used, size - (size_t)used, "%c%02d:%02d:%02d", m->offset < 0 ? '-' : '+', east / 3600,
                         east / 60 % 60, east % 60);
    }
    return used;
}

static void write_moment(char *out, size_t size, const rr_datum_t *datum) {
    const rr_moment_t *m = &datum->moment;
    if (datum->kind == RR_DATUM_TIME) {
        write_clock(out, size, m);
        return;
    }
    int used = snprintf(out, size, "%04d-%02u-%02u", m->year, m->month, m->day);
    if (datum->kind == RR_DATUM_DATETIME) {
        out[used++] = ' ';
        write_clock(out + used, size - (size_t)used, m);
    }
}

static void write_span(char *out, size_t size, int64_t span) {
    uint64_t all = span < 0 ? 0 - (uint64_t)span : (uint64_t)span;
    unsigned day = (unsigned)(all / US_PER_DAY), second = (unsigned)(all % US_PER_DAY / US_PER_S);
    const char *sign = span < 0 ? "-" : "";
    snprintf(out, size, "%s%u days %s%02u:%02u:%02u.%06u", sign, day, sign, second / 3600, second / 60 % 60, second % 60,
             (unsigned)(all % US_PER_S));
}

static void write_real(char *out, size_t size, double real) {
    if (isfinite(real))
        snprintf(out, size, "%.17g", real);
    else
        snprintf(out, size, "%s", isnan(real) ? "NaN" : real < 0 ? "-Infinity" : "Infinity");
}

/* The type that a datum has for the server; 0 = what the statement needs. */
static Oid type_of(const rr_datum_t *datum) {
    bool zoned = datum->kind >= RR_DATUM_DATE && datum->kind <= RR_DATUM_DATETIME && datum->moment.flags & RR_MOMENT_ZONED;
    switch (datum->kind) {
    case RR_DATUM_BOOL: return TYPE_BOOL;
    case RR_DATUM_INT: return datum->number >= INT32_MIN && datum->number <= INT32_MAX ? TYPE_INT4 : TYPE_INT8;
    case RR_DATUM_UINT:
    case RR_DATUM_DECIMAL: return TYPE_NUMERIC;
    case RR_DATUM_REAL: return TYPE_FLOAT8;
    case RR_DATUM_BYTES: return TYPE_BYTEA;
    case RR_DATUM_UUID: return TYPE_UUID;
    case RR_DATUM_DATE: return TYPE_DATE;
    case RR_DATUM_TIME: return zoned ? TYPE_TIMETZ : TYPE_TIME;
    case RR_DATUM_DATETIME: return zoned ? TYPE_TIMESTAMPTZ : TYPE_TIMESTAMP;
    case RR_DATUM_SPAN: return TYPE_INTERVAL;
    default: return 0;
    }
}

static int refuse(rr__db_failure_t *why, uint32_t index, const char *text) {
    *why = (rr__db_failure_t){.error = RR_DB_DATA};
    snprintf(why->message, sizeof why->message, "parameter %u: %s", index + 1, text);
    return RR_EINVAL;
}

/* Writes a value into out, which has room_for it. */
static int write_value(char *out, const rr_datum_t *datum, uint32_t index, rr__db_failure_t *why) {
    switch (datum->kind) {
    case RR_DATUM_BOOL: snprintf(out, TEXT_MAX, "%c", datum->flag ? 't' : 'f'); return RR_OK;
    case RR_DATUM_INT: snprintf(out, TEXT_MAX, "%lld", (long long)datum->number); return RR_OK;
    case RR_DATUM_UINT: snprintf(out, TEXT_MAX, "%llu", (unsigned long long)datum->big); return RR_OK;
    case RR_DATUM_REAL: write_real(out, TEXT_MAX, datum->real); return RR_OK;
    case RR_DATUM_SPAN: write_span(out, TEXT_MAX, datum->number); return RR_OK;
    case RR_DATUM_DATE:
    case RR_DATUM_TIME:
    case RR_DATUM_DATETIME: write_moment(out, TEXT_MAX, datum); return RR_OK;
    case RR_DATUM_TEXT:
    case RR_DATUM_DECIMAL:
    case RR_DATUM_JSON:
    case RR_DATUM_UUID:
        if (memchr(datum->text.data, 0, datum->text.size))
            return refuse(why, index, "PostgreSQL's text cannot hold the character NUL");
        memcpy(out, datum->text.data, datum->text.size);
        out[datum->text.size] = '\0';
        return RR_OK;
    case RR_DATUM_LIST: return refuse(why, index, "a list is no value: an array goes as text, '{1,2}'");
    default: return refuse(why, index, "an error is no value");
    }
}

static int bind_one(rr__pg_parameters_t *p, uint32_t i, rr__db_failure_t *why) {
    const rr_datum_t *datum = &p->datums[i];
    p->types[i] = type_of(datum);
    p->formats[i] = datum->kind == RR_DATUM_BYTES;
    p->sizes[i] = datum->kind == RR_DATUM_BYTES ? (int)datum->text.size : 0;
    p->values[i] = datum->kind == RR_DATUM_BYTES ? datum->text.data : NULL;
    if (datum->kind == RR_DATUM_BYTES && datum->text.size > INT_MAX)
        return refuse(why, i, "too long");
    if (datum->kind == RR_DATUM_BYTES || datum->kind == RR_DATUM_NULL)
        return RR_OK;
    char *out = p->texts + p->text_size;
    p->values[i] = out;
    p->text_size += room_for(datum);
    return write_value(out, datum, i, why);
}

int rr__pg_bind(rr__pg_parameters_t *p, const rr__db_job_t *job, rr_datum_reader_t values, uint32_t count,
                rr__db_failure_t *why) {
    *why = (rr__db_failure_t){.error = RR_DB_DATA};
    p->count = job->placeholders;
    p->text_size = 0;
    if (p->count > 65535) {
        snprintf(why->message, sizeof why->message, "%u parameters: PostgreSQL takes 65535", p->count);
        return RR_EINVAL;
    }
    if (!grow(p, p->count))
        goto nomem;
    if (rr__db_arrange(job, values, count, p->datums) != RR_OK) {
        if (count == p->count)
            snprintf(why->message, sizeof why->message, "a parameter is no value of SQL, or the wrong one by name");
        else
            snprintf(why->message, sizeof why->message, "%u values for %u placeholders", count, p->count);
        return RR_EINVAL;
    }
    size_t room = 0;
    for (uint32_t i = 0; i < p->count; i++)
        room += room_for(&p->datums[i]);
    if (room > p->text_capacity) {
        char *bigger = realloc(p->texts, room);
        if (!bigger)
            goto nomem;
        p->texts = bigger;
        p->text_capacity = room;
    }
    for (uint32_t i = 0; i < p->count; i++) {
        int rc = bind_one(p, i, why);
        if (rc != RR_OK)
            return rc;
    }
    return RR_OK;
nomem:
    why->error = RR_DB_SERVER;
    snprintf(why->message, sizeof why->message, "%s", rr_strerror(RR_ENOMEM));
    return RR_ENOMEM;
}

/* ---- Results ---- */

/* `digits` digits; false: others. */
static bool take(const char **at, unsigned digits, unsigned *out) {
    *out = 0;
    for (unsigned i = 0; i < digits; i++, (*at)++) {
        if (**at < '0' || **at > '9')
            return false;
        *out = *out * 10 + (unsigned)(**at - '0');
    }
    return true;
}

static bool take_char(const char **at, char c) {
    if (**at != c)
        return false;
    (*at)++;
    return true;
}

static bool take_date(const char **at, rr_moment_t *m) {
    unsigned year, month, day;
    if (!take(at, 4, &year) || !take_char(at, '-') || !take(at, 2, &month) || !take_char(at, '-') || !take(at, 2, &day) || !year)
        return false;
    m->year = (int16_t)year;
    m->month = (uint8_t)month;
    m->day = (uint8_t)day;
    return true;
}

static bool take_fraction(const char **at, uint32_t *microsecond) {
    uint32_t value = 0, digits = 0;
    if (take_char(at, '.'))
        for (; **at >= '0' && **at <= '9' && digits < 6; (*at)++, digits++)
            value = value * 10 + (uint32_t)(**at - '0');
    for (; digits && digits < 6; digits++)
        value *= 10;
    *microsecond = value;
    return true;
}

static bool take_clock(const char **at, rr_moment_t *m) {
    unsigned hour, minute, second;
    if (!take(at, 2, &hour) || !take_char(at, ':') || !take(at, 2, &minute) || !take_char(at, ':') || !take(at, 2, &second) ||
        hour > 23)
        return false;
    m->hour = (uint8_t)hour;
    m->minute = (uint8_t)minute;
    m->second = (uint8_t)second;
    return take_fraction(at, &m->microsecond);
}

/* +08, +05:30, -00:00:08 */
static bool take_zone(const char **at, rr_moment_t *m) {
    bool west = **at == '-';
    unsigned part[3] = {0};
    if (!west && **at != '+')
        return false;
    (*at)++;
    for (unsigned i = 0; i < 3; i++)
        if ((i && !take_char(at, ':')) || !take(at, 2, &part[i])) {
            if (i == 0 || **at)
                return false;
            break;
        }
    m->offset = (int32_t)(part[0] * 3600 + part[1] * 60 + part[2]);
    m->offset = west ? -m->offset : m->offset;
    m->flags = RR_MOMENT_ZONED;
    return true;
}

static bool put_moment(rr_datum_writer_t *out, Oid type, const char *at) {
    rr_moment_t m = {0};
    bool date = type == TYPE_DATE, clock = type == TYPE_TIME || type == TYPE_TIMETZ;
    if ((!clock && !take_date(&at, &m)) || (!date && !clock && !take_char(&at, ' ')) || (!date && !take_clock(&at, &m)) ||
        ((type == TYPE_TIMETZ || type == TYPE_TIMESTAMPTZ) && !take_zone(&at, &m)) || *at)
        return false;
    rr_datum_put_moment(out, date ? RR_DATUM_DATE : clock ? RR_DATUM_TIME : RR_DATUM_DATETIME, &m);
    return true;
}

static bool add_us(int64_t *span, int64_t count, int64_t unit) {
    int64_t product;
    return !__builtin_mul_overflow(count, unit, &product) && !__builtin_add_overflow(*span, product, span);
}

/* [-]HH:MM:SS[.f], hours of any length */
static bool take_hours(const char *at, int64_t *span) {
    bool minus = *at == '-';
    char *end;
    at += *at == '-' || *at == '+';
    long long hours = strtoll(at, &end, 10);
    unsigned minute, second;
    uint32_t micro;
    const char *rest = end;
    if (!take_char(&rest, ':') || !take(&rest, 2, &minute) || !take_char(&rest, ':') || !take(&rest, 2, &second) ||
        !take_fraction(&rest, &micro) || *rest)
        return false;
    int64_t sign = minus ? -1 : 1;
    return add_us(span, sign * hours, 3600 * US_PER_S) &&
           add_us(span, sign * (int64_t)(minute * 60 + second), US_PER_S) && add_us(span, sign * (int64_t)micro, 1);
}

/* 1 year 2 mons -3 days +04:05:06.7. A year counts 365 days and a month 30: a span has no calendar. */
static bool put_span(rr_datum_writer_t *out, const char *at) {
    static const struct { const char *name; int64_t us; } units[] = {
        {"year", 365 * US_PER_DAY}, {"mon", 30 * US_PER_DAY}, {"day", US_PER_DAY}};
    int64_t span = 0;
    while (*at) {
        char *end;
        long long count = strtoll(at, &end, 10);
        if (end == at || *end == ':' ) {
            if (!take_hours(at, &span))
                return false;
            break;
        }
        const char *name = end + (*end == ' ');
        size_t i = 0;
        while (i < 3 && strncmp(name, units[i].name, strlen(units[i].name)) != 0)
            i++;
        if (i == 3 || !add_us(&span, count, units[i].us))
            return false;
        at = name + strcspn(name, " ");
        at += *at == ' ';
    }
    rr_datum_put_span(out, span);
    return true;
}

static int hex(char c) {
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool put_bytes(rr_datum_writer_t *out, const char *text, size_t size) {
    if (size >= 2 && text[0] == '\\' && text[1] == 'x') {
        uint8_t *room = rr_datum_put_room(out, RR_DATUM_BYTES, size / 2 - 1);
        for (size_t i = 2; room && i + 1 < size; i += 2)
            *room++ = (uint8_t)(hex(text[i]) << 4 | hex(text[i + 1]));
        return true;
    }
    size_t plain;
    unsigned char *bytes = PQunescapeBytea((const unsigned char *)text, &plain); /* bytea_output = escape */
    if (!bytes)
        return false;
    rr_datum_put_text(out, RR_DATUM_BYTES, bytes, plain);
    PQfreemem(bytes);
    return true;
}

static bool put_number(rr_datum_writer_t *out, Oid type, const char *text) {
    char *end;
    if (type == TYPE_FLOAT4 || type == TYPE_FLOAT8) {
        double real = strtod(text, &end);
        rr_datum_put_real(out, real);
    } else {
        long long number = strtoll(text, &end, 10);
        rr_datum_put_int(out, number);
    }
    return true;
}

/* False: nothing was written, it has no datum. */
static bool put_typed(rr_datum_writer_t *out, Oid type, const char *text, size_t size) {
    switch (type) {
    case TYPE_BOOL: rr_datum_put_bool(out, *text == 't'); return true;
    case TYPE_INT2:
    case TYPE_INT4:
    case TYPE_INT8:
    case TYPE_OID:
    case TYPE_FLOAT4:
    case TYPE_FLOAT8: return put_number(out, type, text);
    case TYPE_BYTEA: return put_bytes(out, text, size);
    case TYPE_JSON:
    case TYPE_JSONB: rr_datum_put_text(out, RR_DATUM_JSON, text, size); return true;
    case TYPE_NUMERIC: rr_datum_put_text(out, RR_DATUM_DECIMAL, text, size); return true;
    case TYPE_UUID: rr_datum_put_text(out, RR_DATUM_UUID, text, size); return true;
    case TYPE_INTERVAL: return put_span(out, text);
    case TYPE_DATE:
    case TYPE_TIME:
    case TYPE_TIMETZ:
    case TYPE_TIMESTAMP:
    case TYPE_TIMESTAMPTZ: return put_moment(out, type, text);
    default: return false;
    }
}

/* ---- Arrays: {1,NULL,3}, {"a \"b\"","{"}, {{1,2},{3,4}}, [2:3]={1,2} ---- */

typedef struct array {
    rr_datum_writer_t *out;
    Oid type; /* of its items */
    char *item; /* room for any of them */
} array_t;

/* The type of an array's items; 0 = it is no array that we read. */
static Oid item_type(Oid type) {
    static const struct { Oid array, item; } types[] = {
        {199, TYPE_JSON}, {1000, TYPE_BOOL}, {1001, TYPE_BYTEA}, {1002, TYPE_CHAR}, {1003, TYPE_NAME}, {1005, TYPE_INT2},
        {1007, TYPE_INT4}, {1009, TYPE_TEXT}, {1014, TYPE_BPCHAR}, {1015, TYPE_VARCHAR}, {1016, TYPE_INT8}, {1021, TYPE_FLOAT4},
        {1022, TYPE_FLOAT8}, {1028, TYPE_OID}, {1115, TYPE_TIMESTAMP}, {1182, TYPE_DATE}, {1183, TYPE_TIME},
        {1185, TYPE_TIMESTAMPTZ}, {1187, TYPE_INTERVAL}, {1231, TYPE_NUMERIC}, {1270, TYPE_TIMETZ}, {2951, TYPE_UUID},
        {3807, TYPE_JSONB},
    };
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (types[i].array == type)
            return types[i].item;
    return 0;
}

/* The comma or brace behind an item; NULL: it does not end, or is too deep. */
static const char *behind_item(const char *at) {
    unsigned depth = 1; /* we are inside of one */
    bool quoted = false;
    for (; *at; at++) {
        if (*at == '\\' && at[1])
            at++;
        else if (*at == '"')
            quoted = !quoted;
        else if (!quoted && *at == '{' && ++depth > DIMENSIONS_MAX)
            return NULL;
        else if (!quoted && depth == 1 && (*at == ',' || *at == '}'))
            return at;
        else if (!quoted && *at == '}')
            depth--;
    }
    return NULL;
}

/* How many items follow, up to the brace that ends them, which *end becomes. False: there is none. */
static bool count_items(const char *at, uint32_t *count, const char **end) {
    *count = 0;
    for (*end = at; at && *at != '}'; at = **end == ',' ? *end + 1 : *end) {
        *end = behind_item(at);
        if (!*end)
            return false;
        ++*count;
        if (**end == '}')
            break;
    }
    return **end == '}';
}

static void put_item(array_t *array, const char *at, const char *end) {
    size_t size = 0;
    bool quoted = false;
    for (; at < end; at++) {
        quoted |= *at == '"';
        if (*at == '"')
            continue;
        at += *at == '\\';
        array->item[size++] = *at;
    }
    array->item[size] = '\0';
    if (!quoted && strcasecmp(array->item, "NULL") == 0)
        rr_datum_put_null(array->out);
    else
        rr__pg_put(array->out, array->type, array->item, size);
}

/* Behind the brace that began them; it was seen that all of them end. */
static void put_items(array_t *array, const char *at) {
    const char *last, *end;
    uint32_t count;
    if (!count_items(at, &count, &last))
        return;
    rr_datum_put_list(array->out, count);
    for (; count > 0; count--, at = end + 1) {
        end = behind_item(at);
        if (*at == '{')
            put_items(array, at + 1);
        else
            put_item(array, at, end);
    }
}

/* False: nothing was written, it is none. */
static bool put_array(rr_datum_writer_t *out, Oid type, const char *text, size_t size) {
    const char *at = *text == '[' ? strchr(text, '=') : NULL, *last; /* bounds that do not begin at 1 */
    char small[256];
    uint32_t count;
    at = at ? at + 1 : text;
    if (*at != '{' || !count_items(at + 1, &count, &last) || last != text + size - 1)
        return false;
    array_t array = {.out = out, .type = item_type(type), .item = size < sizeof small ? small : malloc(size + 1)};
    if (!array.item) {
        out->status = RR_ENOMEM;
        return true;
    }
    put_items(&array, at + 1);
    if (array.item != small)
        free(array.item);
    return true;
}

void rr__pg_put(rr_datum_writer_t *out, Oid type, const char *text, size_t size) {
    if (item_type(type) && put_array(out, type, text, size))
        return;
    if (!put_typed(out, type, text, size))
        rr_datum_put_text(out, RR_DATUM_TEXT, text, size);
}
