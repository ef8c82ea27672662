#include "python/values.h"

#include <limits.h>

#include "python/convert.h"
#include "python/database.h"

#define MAX_DEPTH     32 /* of lists in lists: what rr_datum_skip takes, too */
#define DAY_SECONDS   86400ll
#define MICRO         1000000ll
#define SPAN_DAYS_MAX (INT64_MAX / MICRO / DAY_SECONDS - 1)

/* ---- Types of the standard library: no datetime C API, which interpreters with their own GIL refuse before 3.13 ---- */

/* A module's attribute, kept in *slot. Borrowed; NULL = an exception. */
static PyObject *imported(PyObject **slot, const char *module, const char *name) {
    if (*slot)
        return *slot;
    PyObject *from = PyImport_ImportModule(module);
    *slot = from ? PyObject_GetAttrString(from, name) : NULL;
    Py_XDECREF(from);
    return *slot;
}

/* The same, but NULL without an exception if the module was never imported: then no value is of its types. */
static PyObject *known(PyObject **slot, const char *module, const char *name) {
    if (*slot)
        return *slot;
    PyObject *key = PyUnicode_FromString(module);
    PyObject *from = key ? PyImport_GetModule(key) : NULL;
    *slot = from ? PyObject_GetAttrString(from, name) : NULL;
    Py_XDECREF(from);
    Py_XDECREF(key);
    PyErr_Clear();
    return *slot;
}

static bool is_a(PyObject *value, PyObject **slot, const char *module, const char *name) {
    PyObject *type = known(slot, module, name);
    return type && PyType_Check(type) && PyObject_TypeCheck(value, (PyTypeObject *)type);
}

int rr__types_traverse(rr__types_t *types, visitproc visit, void *arg) {
    Py_VISIT(types->decimal);
    Py_VISIT(types->uuid);
    Py_VISIT(types->date);
    Py_VISIT(types->time);
    Py_VISIT(types->datetime);
    Py_VISIT(types->timedelta);
    Py_VISIT(types->timezone);
    Py_VISIT(types->utc);
    Py_VISIT(types->zone);
    return 0;
}

void rr__types_clear(rr__types_t *types) {
    Py_CLEAR(types->decimal);
    Py_CLEAR(types->uuid);
    Py_CLEAR(types->date);
    Py_CLEAR(types->time);
    Py_CLEAR(types->datetime);
    Py_CLEAR(types->timedelta);
    Py_CLEAR(types->timezone);
    Py_CLEAR(types->utc);
    Py_CLEAR(types->zone);
}

/* ---- Out: what parameters become ---- */

static int put_int(rr_datum_writer_t *writer, PyObject *value) {
    int overflow;
    long long number = PyLong_AsLongLongAndOverflow(value, &overflow);
    if (!overflow) {
        if (number == -1 && PyErr_Occurred())
            return -1;
        rr_datum_put_int(writer, number);
        return 0;
    }
    unsigned long long big = overflow > 0 ? PyLong_AsUnsignedLongLong(value) : 0;
    if (overflow > 0 && !PyErr_Occurred()) {
        rr_datum_put_uint(writer, big);
        return 0;
    }
    PyErr_Clear();
    PyErr_SetString(PyExc_OverflowError, "the int has more than 64 bits: pass a Decimal or a str");
    return -1;
}

static int put_text(rr_datum_writer_t *writer, rr_datum_kind_t kind, PyObject *text) {
    Py_ssize_t size;
    const char *utf8 = text ? PyUnicode_AsUTF8AndSize(text, &size) : NULL;
    if (!utf8)
        return -1;
    rr_datum_put_text(writer, kind, utf8, (size_t)size);
    return 0;
}

static int put_shown(rr_datum_writer_t *writer, rr_datum_kind_t kind, PyObject *value) {
    PyObject *text = PyObject_Str(value);
    int rc = put_text(writer, kind, text);
    Py_XDECREF(text);
    return rc;
}

static int put_buffer(rr_datum_writer_t *writer, PyObject *value) {
    Py_buffer view;
    if (PyObject_GetBuffer(value, &view, PyBUF_SIMPLE) != 0)
        return -1;
    rr_datum_put_text(writer, RR_DATUM_BYTES, view.buf, (size_t)view.len);
    PyBuffer_Release(&view);
    return 0;
}

static int put_json(rr__state_t *state, rr_datum_writer_t *writer, PyObject *value) {
    rr__body_t body;
    if (rr__body_from(state, value, true, &body) != 0) {
        if (PyErr_ExceptionMatches(PyExc_TypeError)) {
            PyObject *error = rr__exception_take();
            PyErr_Format(PyExc_TypeError, "a %.100s goes as JSON: %S", Py_TYPE(value)->tp_name, error);
            Py_DECREF(error);
        }
        return -1;
    }
    rr_datum_put_text(writer, RR_DATUM_JSON, body.data, body.size);
    rr__body_clear(&body);
    return 0;
}

/* An int attribute; 0 with an exception raised on failure: looked at once, when all are read. */
static long number_of(PyObject *value, const char *name) {
    PyObject *number = PyErr_Occurred() ? NULL : PyObject_GetAttrString(value, name);
    long result = number ? PyLong_AsLong(number) : 0;
    Py_XDECREF(number);
    return result;
}

static void read_date(PyObject *value, rr_moment_t *moment) {
    moment->year = (int16_t)number_of(value, "year");
    moment->month = (uint8_t)number_of(value, "month");
    moment->day = (uint8_t)number_of(value, "day");
}

/* The clock and, if the value is an aware one, its zone. */
static void read_clock(PyObject *value, rr_moment_t *moment) {
    moment->hour = (uint8_t)number_of(value, "hour");
    moment->minute = (uint8_t)number_of(value, "minute");
    moment->second = (uint8_t)number_of(value, "second");
    moment->microsecond = (uint32_t)number_of(value, "microsecond");
    PyObject *offset = PyErr_Occurred() ? NULL : PyObject_CallMethod(value, "utcoffset", NULL);
    if (offset && offset != Py_None) {
        moment->flags = RR_MOMENT_ZONED;
        moment->offset = (int32_t)(number_of(offset, "days") * DAY_SECONDS + number_of(offset, "seconds"));
    }
    Py_XDECREF(offset);
}

static int put_moment(rr_datum_writer_t *writer, rr_datum_kind_t kind, PyObject *value) {
    rr_moment_t moment = {0};
    if (kind != RR_DATUM_TIME)
        read_date(value, &moment);
    if (kind != RR_DATUM_DATE)
        read_clock(value, &moment);
    if (PyErr_Occurred())
        return -1;
    rr_datum_put_moment(writer, kind, &moment);
    return 0;
}

static int put_span(rr_datum_writer_t *writer, PyObject *value) {
    long days = number_of(value, "days"), seconds = number_of(value, "seconds"), micro = number_of(value, "microseconds");
    if (PyErr_Occurred())
        return -1;
    if (days > SPAN_DAYS_MAX || days < -SPAN_DAYS_MAX) {
        PyErr_SetString(PyExc_OverflowError, "the timedelta is too long");
        return -1;
    }
    rr_datum_put_span(writer, (days * DAY_SECONDS + seconds) * MICRO + micro);
    return 0;
}

static int put_library(rr__state_t *state, rr_datum_writer_t *writer, PyObject *value) {
    rr__types_t *types = &state->types;
    if (is_a(value, &types->datetime, "datetime", "datetime"))
        return put_moment(writer, RR_DATUM_DATETIME, value);
    if (is_a(value, &types->date, "datetime", "date"))
        return put_moment(writer, RR_DATUM_DATE, value);
    if (is_a(value, &types->time, "datetime", "time"))
        return put_moment(writer, RR_DATUM_TIME, value);
    if (is_a(value, &types->timedelta, "datetime", "timedelta"))
        return put_span(writer, value);
    if (is_a(value, &types->decimal, "decimal", "Decimal"))
        return put_shown(writer, RR_DATUM_DECIMAL, value);
    if (is_a(value, &types->uuid, "uuid", "UUID"))
        return put_shown(writer, RR_DATUM_UUID, value);
    PyErr_Format(PyExc_TypeError, "a database takes no %.100s: pass its str(), or the .value of an Enum", Py_TYPE(value)->tp_name);
    return -1;
}

int rr__value_put(rr__state_t *state, rr_datum_writer_t *writer, PyObject *value) {
    if (value == Py_None) {
        rr_datum_put_null(writer);
        return 0;
    }
    if (PyBool_Check(value)) {
        rr_datum_put_bool(writer, value == Py_True);
        return 0;
    }
    if (PyLong_Check(value))
        return put_int(writer, value);
    if (PyUnicode_Check(value))
        return put_text(writer, RR_DATUM_TEXT, value);
    if (PyFloat_Check(value)) {
        rr_datum_put_real(writer, PyFloat_AS_DOUBLE(value));
        return 0;
    }
    if (PyObject_CheckBuffer(value))
        return put_buffer(writer, value);
    if (PyDict_Check(value) || PyList_Check(value) || PyTuple_Check(value))
        return put_json(state, writer, value);
    return put_library(state, writer, value);
}

void rr__value_blame(PyObject *parameter) {
    PyObject *error = rr__exception_take();
    PyObject *class = PyErr_GivenExceptionMatches(error, PyExc_TypeError)       ? PyExc_TypeError
                      : PyErr_GivenExceptionMatches(error, PyExc_OverflowError) ? PyExc_OverflowError
                      : PyErr_GivenExceptionMatches(error, PyExc_ValueError)    ? PyExc_ValueError
                                                                                : NULL;
    if (!class) {
        rr__exception_raise(error);
        return;
    }
    PyErr_Format(class, "parameter %S: %S", parameter, error);
    Py_DECREF(error);
}

/* ---- In: what answers become ---- */

static PyObject *call(PyObject *type, const int *numbers, size_t count, PyObject *zone) {
    PyObject *args[9] = {NULL}, *result = NULL;
    size_t made = 0;
    for (; type && made < count; made++) {
        args[made + 1] = PyLong_FromLong(numbers[made]);
        if (!args[made + 1])
            break;
    }
    if (type && made == count) {
        args[made + 1] = zone;
        result = PyObject_Vectorcall(type, args + 1, (count + (zone ? 1 : 0)) | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    }
    for (size_t i = 0; i < made; i++)
        Py_DECREF(args[i + 1]);
    return result;
}

static PyObject *new_zone(rr__types_t *types, int32_t offset) {
    const int numbers[] = {0, offset};
    PyObject *delta = call(imported(&types->timedelta, "datetime", "timedelta"), numbers, 2, NULL);
    PyObject *type = delta ? imported(&types->timezone, "datetime", "timezone") : NULL;
    PyObject *zone = type ? PyObject_CallOneArg(type, delta) : NULL;
    Py_XDECREF(delta);
    return zone;
}

/* The zone of an offset: answers name the same one again and again. Borrowed; NULL = an exception. */
static PyObject *zone_of(rr__types_t *types, int32_t offset) {
    if (offset == 0 && !types->utc) {
        PyObject *type = imported(&types->timezone, "datetime", "timezone");
        types->utc = type ? PyObject_GetAttrString(type, "utc") : NULL;
    }
    if (offset == 0)
        return types->utc;
    if (!types->zone || types->zone_offset != offset) {
        Py_XSETREF(types->zone, new_zone(types, offset));
        types->zone_offset = offset;
    }
    return types->zone;
}

static PyObject *get_moment(rr__state_t *state, const rr_datum_t *datum) {
    rr__types_t *types = &state->types;
    const rr_moment_t *m = &datum->moment;
    const int all[] = {m->year, m->month, m->day, m->hour, m->minute, m->second, (int)m->microsecond};
    if (datum->kind == RR_DATUM_DATE)
        return call(imported(&types->date, "datetime", "date"), all, 3, NULL);
    PyObject *zone = NULL;
    if (m->flags & RR_MOMENT_ZONED) {
        zone = zone_of(types, m->offset);
        if (!zone)
            return NULL;
    }
    if (datum->kind == RR_DATUM_TIME)
        return call(imported(&types->time, "datetime", "time"), all + 3, 4, zone);
    return call(imported(&types->datetime, "datetime", "datetime"), all, 7, zone);
}

static PyObject *get_span(rr__state_t *state, int64_t microseconds) {
    const int64_t day = DAY_SECONDS * MICRO;
    const int numbers[] = {(int)(microseconds / day), (int)(microseconds % day / MICRO), (int)(microseconds % MICRO)};
    return call(imported(&state->types.timedelta, "datetime", "timedelta"), numbers, 3, NULL);
}

static PyObject *get_str(const rr_datum_t *datum) {
    return PyUnicode_DecodeUTF8(datum->text.data, datum->text.size, NULL);
}

/* What a type of the standard library makes of a text. */
static PyObject *get_made(PyObject *type, const rr_datum_t *datum) {
    PyObject *text = type ? get_str(datum) : NULL;
    PyObject *value = text ? PyObject_CallOneArg(type, text) : NULL;
    Py_XDECREF(text);
    return value;
}

static PyObject *get_text(const rr_datum_t *datum, rr__text_style_t style) {
    bool text = style == RR__TEXT_AS_IS ? datum->kind == RR_DATUM_TEXT : style != RR__TEXT_BYTES;
    if (!text)
        return PyBytes_FromStringAndSize(datum->text.data, datum->text.size);
    if (style == RR__TEXT_SEED)
        return PyUnicode_DecodeUTF8(datum->text.data, datum->text.size, "replace");
    PyObject *value = get_str(datum);
    if (value || datum->kind == RR_DATUM_TEXT || !PyErr_ExceptionMatches(PyExc_UnicodeDecodeError))
        return value;
    PyErr_Clear();
    return PyErr_Format(PyExc_ValueError, "the reply is not UTF-8: `redis.raw` brings it as bytes");
}

/* No query's error, so RR_DB_OK: redrabbit._database knows the words that replies begin with. */
static PyObject *get_error(rr__state_t *state, const rr_datum_t *datum) {
    const rr_db_answer_t answer = {.error = RR_DB_OK, .message = datum->text.data, .message_size = datum->text.size};
    return rr__database_error(state, &answer);
}

static PyObject *get_at(rr__state_t *state, rr_datum_reader_t *reader, rr__text_style_t style, int depth);

static PyObject *get_list(rr__state_t *state, rr_datum_reader_t *reader, uint32_t count, rr__text_style_t style,
                          int depth) {
    if (depth == MAX_DEPTH)
        return PyErr_Format(PyExc_ValueError, "lists in lists, more than %d deep", MAX_DEPTH);
    PyObject *list = PyList_New(count);
    for (uint32_t i = 0; list && i < count; i++) {
        PyObject *item = get_at(state, reader, style, depth + 1);
        if (item)
            PyList_SET_ITEM(list, i, item);
        else
            Py_CLEAR(list);
    }
    return list;
}

static PyObject *get_kind(rr__state_t *state, const rr_datum_t *datum) {
    switch (datum->kind) {
    case RR_DATUM_DECIMAL:
        return get_made(imported(&state->types.decimal, "decimal", "Decimal"), datum);
    case RR_DATUM_UUID:
        return get_made(imported(&state->types.uuid, "uuid", "UUID"), datum);
    case RR_DATUM_JSON:
        return rr__json_decode(state, datum->text.data, datum->text.size);
    case RR_DATUM_DATE:
    case RR_DATUM_TIME:
    case RR_DATUM_DATETIME:
        return get_moment(state, datum);
    case RR_DATUM_SPAN:
        return get_span(state, datum->number);
    case RR_DATUM_ERROR:
        return get_error(state, datum);
    default:
        return PyErr_Format(PyExc_ValueError, "a value of kind %d", (int)datum->kind);
    }
}

static PyObject *get_at(rr__state_t *state, rr_datum_reader_t *reader, rr__text_style_t style, int depth) {
    rr_datum_t datum;
    if (rr_datum_get(reader, &datum) != RR_OK)
        return PyErr_Format(PyExc_ValueError, "the answer makes no sense");
    switch (datum.kind) {
    case RR_DATUM_NULL:
        return style == RR__TEXT_SEED ? Py_NewRef(state->empty_text) : Py_NewRef(Py_None);
    case RR_DATUM_BOOL:
        return PyBool_FromLong(datum.flag);
    case RR_DATUM_INT:
        return PyLong_FromLongLong(datum.number);
    case RR_DATUM_UINT:
        return PyLong_FromUnsignedLongLong(datum.big);
    case RR_DATUM_REAL:
        return PyFloat_FromDouble(datum.real);
    case RR_DATUM_TEXT:
    case RR_DATUM_BYTES:
        return get_text(&datum, style);
    case RR_DATUM_LIST:
        return get_list(state, reader, datum.count, style, depth);
    default:
        return get_kind(state, &datum);
    }
}

PyObject *rr__value_get(rr__state_t *state, rr_datum_reader_t *reader, rr__text_style_t style) {
    return get_at(state, reader, style, 0);
}

PyObject *rr__value_tuple(rr__state_t *state, rr_datum_reader_t *reader, uint32_t count, rr__text_style_t style) {
    PyObject *tuple = PyTuple_New(count);
    for (uint32_t i = 0; tuple && i < count; i++) {
        PyObject *item = get_at(state, reader, style, 0);
        if (item)
            PyTuple_SET_ITEM(tuple, i, item);
        else
            Py_CLEAR(tuple);
    }
    return tuple;
}
