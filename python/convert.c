#include "python/convert.h"

#include <string.h>

#include "python/module.h"
#include "python/session.h"

/* ---- Ids and commands ---- */

int rr__sid_from(rr__state_t *state, PyObject *id, rr_sid_t *out) {
    *out = (rr_sid_t){0};
    if (Py_IS_TYPE(id, state->session_type))
        id = ((rr_script_session_t *)id)->id;
    if (PyUnicode_Check(id)) {
        Py_ssize_t size;
        out->text = PyUnicode_AsUTF8AndSize(id, &size);
        if (!out->text) { /* lone surrogates: no such session */
            PyErr_Clear();
            out->text = "";
            return 0;
        }
        out->size = size <= 255 ? (uint32_t)size : 0;
        return 0;
    }
    if (PyLong_Check(id) && !PyBool_Check(id)) {
        int overflow;
        out->number = PyLong_AsLongLongAndOverflow(id, &overflow);
        if (overflow)
            out->number = 0;
        return 0;
    }
    PyErr_Format(PyExc_TypeError, "a session id is str or int, not %.100s", Py_TYPE(id)->tp_name);
    return -1;
}

PyObject *rr__sid_object(const rr_sid_t *id) {
    return id->text ? PyUnicode_DecodeUTF8(id->text, id->size, "replace") : PyLong_FromLongLong(id->number);
}

int rr__cmd_from(PyObject *cmd, uint16_t *out) {
    long value = PyLong_AsLong(cmd);
    if (value == -1 && PyErr_Occurred()) {
        if (PyErr_ExceptionMatches(PyExc_OverflowError))
            PyErr_SetString(PyExc_ValueError, "cmd must be 0 to 65535");
        return -1;
    }
    if (value < 0 || value > 65535) {
        PyErr_Format(PyExc_ValueError, "cmd must be 0 to 65535, not %ld", value);
        return -1;
    }
    *out = (uint16_t)value;
    return 0;
}

/* ---- Out ---- */

const char *rr__utf8(PyObject *text, Py_ssize_t *size, PyObject **owner) {
    *owner = NULL;
    const char *utf8 = PyUnicode_AsUTF8AndSize(text, size);
    if (utf8 || !PyErr_ExceptionMatches(PyExc_UnicodeEncodeError))
        return utf8;
    PyErr_Clear();
    *owner = PyUnicode_AsEncodedString(text, "utf-8", "replace");
    if (!*owner)
        return NULL;
    *size = PyBytes_GET_SIZE(*owner);
    return PyBytes_AS_STRING(*owner);
}

static int from_text(PyObject *text, rr__body_t *out) {
    Py_ssize_t size;
    PyObject *owner;
    out->data = rr__utf8(text, &size, &owner);
    if (!out->data)
        return -1;
    out->size = (size_t)size;
    out->text = true;
    Py_XSETREF(out->owner, owner ? owner : Py_NewRef(text));
    return 0;
}

/* The encoder hands back a tuple of pieces, nearly always one. */
static int from_json(rr__state_t *state, PyObject *value, rr__body_t *out) {
    PyObject *level = PyLong_FromLong(0);
    PyObject *args[] = {value, level};
    PyObject *pieces = level ? PyObject_Vectorcall(state->json_encode, args, 2, NULL) : NULL;
    Py_XDECREF(level);
    if (!pieces)
        return -1;
    PyObject *text;
    if (PyTuple_CheckExact(pieces) && PyTuple_GET_SIZE(pieces) == 1)
        text = Py_NewRef(PyTuple_GET_ITEM(pieces, 0));
    else
        text = PyUnicode_Join(state->empty_text, pieces);
    Py_DECREF(pieces);
    int rc = text ? from_text(text, out) : -1;
    Py_XDECREF(text);
    return rc;
}

static int from_bytes_of(PyObject *bytes, rr__body_t *out) {
    if (!bytes)
        return -1;
    if (!PyBytes_Check(bytes)) {
        PyErr_Format(PyExc_TypeError, "a message serialised itself to %.100s, not bytes", Py_TYPE(bytes)->tp_name);
        Py_DECREF(bytes);
        return -1;
    }
    out->data = PyBytes_AS_STRING(bytes);
    out->size = (size_t)PyBytes_GET_SIZE(bytes);
    out->owner = bytes;
    return 0;
}

static bool plain(PyObject *value) {
    return PyDict_CheckExact(value) || PyList_CheckExact(value) || PyLong_CheckExact(value) ||
           PyTuple_CheckExact(value) || PyFloat_CheckExact(value) || value == Py_None || PyBool_Check(value);
}

int rr__body_from(rr__state_t *state, PyObject *value, bool json_text, rr__body_t *out) {
    out->owner = NULL;
    out->view.obj = NULL;
    out->text = false;
    if (PyUnicode_Check(value) && !json_text) {
        Py_ssize_t size;
        out->data = rr__utf8(value, &size, &out->owner);
        out->size = (size_t)size;
        out->text = true;
        return out->data ? 0 : -1;
    }
    if (PyBytes_Check(value)) {
        out->data = PyBytes_AS_STRING(value);
        out->size = (size_t)PyBytes_GET_SIZE(value);
        return 0;
    }
    if (plain(value) || PyUnicode_Check(value))
        return from_json(state, value, out);
    if (PyObject_CheckBuffer(value)) {
        if (PyObject_GetBuffer(value, &out->view, PyBUF_SIMPLE) != 0)
            return -1;
        out->data = out->view.buf;
        out->size = (size_t)out->view.len;
        return 0;
    }
    PyObject *type = (PyObject *)Py_TYPE(value);
    if (PyObject_HasAttr(type, state->name_thrift_spec))
        return from_bytes_of(PyObject_CallOneArg(state->thrift_encode, value), out);
    if (PyObject_HasAttr(type, state->name_serialize))
        return from_bytes_of(PyObject_CallMethodNoArgs(value, state->name_serialize), out);
    return from_json(state, value, out);
}

void rr__body_clear(rr__body_t *body) {
    Py_CLEAR(body->owner);
    if (body->view.obj)
        PyBuffer_Release(&body->view);
}

PyObject *rr__json_default(PyObject *module, PyObject *value) {
    if (PyAnySet_Check(value) || PyDictKeys_Check(value) || PyDictValues_Check(value) || PyDictItems_Check(value) ||
        Py_TYPE(value)->tp_iternext)
        return PySequence_List(value);
    if (!PyType_Check(value) && !PyMapping_Check(value) && Py_TYPE(value)->tp_iter)
        return PySequence_List(value);
    if (!PyType_Check(value) && PyObject_HasAttrString(value, "keys") && PyMapping_Check(value)) {
        PyObject *dict = PyDict_New();
        if (dict && PyDict_Merge(dict, value, 1) != 0)
            Py_CLEAR(dict);
        return dict;
    }
    if (PySequence_Check(value) && !PyType_Check(value))
        return PySequence_List(value);
    return PyErr_Format(PyExc_TypeError, "%.100s cannot be sent: it is not str, bytes, JSON, thrift or protobuf",
                        Py_TYPE(value)->tp_name);
}

/* ---- In ---- */

static bool blank(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }

PyObject *rr__json_decode(rr__state_t *state, const void *body, size_t size) {
    const char *text = body;
    while (size && blank(text[size - 1]))
        size--;
    while (size && blank(*text)) {
        text++;
        size--;
    }
    if (!size)
        return PyErr_Format(PyExc_ValueError, "the body is empty, not JSON");
    PyObject *string = PyUnicode_DecodeUTF8(text, (Py_ssize_t)size, NULL);
    if (!string)
        return NULL;
    PyObject *zero = PyLong_FromLong(0), *value = NULL;
    PyObject *args[] = {string, zero};
    PyObject *pair = zero ? PyObject_Vectorcall(state->json_scan, args, 2, NULL) : NULL;
    if (pair) {
        if (PyLong_AsSsize_t(PyTuple_GET_ITEM(pair, 1)) == PyUnicode_GET_LENGTH(string))
            value = Py_NewRef(PyTuple_GET_ITEM(pair, 0));
        else
            PyErr_Format(PyExc_ValueError, "the body is not JSON: something follows at %S", PyTuple_GET_ITEM(pair, 1));
        Py_DECREF(pair);
    } else if (PyErr_ExceptionMatches(PyExc_StopIteration)) {
        PyErr_Clear();
        PyErr_SetString(PyExc_ValueError, "the body is not JSON");
    }
    Py_XDECREF(zero);
    Py_DECREF(string);
    return value;
}

static PyObject *decode_typed(rr__state_t *state, PyObject *type, const void *body, size_t size) {
    PyObject *bytes = PyBytes_FromStringAndSize(body, (Py_ssize_t)size);
    PyObject *args[] = {type, bytes};
    PyObject *value = bytes ? PyObject_Vectorcall(state->typed_decode, args, 2, NULL) : NULL;
    Py_XDECREF(bytes);
    return value;
}

/* ---- Buffer objects ---- */

typedef struct {
    PyObject_HEAD
    rr_buffer_t *owner;
    const void *data;
    Py_ssize_t size;
} buffer_t;

static PyObject *buffer_new(rr__state_t *state, const void *body, size_t size, rr_buffer_t *owner) {
    buffer_t *self = PyObject_New(buffer_t, state->buffer_type);
    if (!self)
        return NULL;
    self->owner = owner ? rr_buffer_ref(owner) : rr_buffer_copy(body, size);
    self->data = owner ? body : self->owner ? rr_buffer_data(self->owner) : NULL;
    self->size = (Py_ssize_t)size;
    if (self->owner)
        return (PyObject *)self;
    Py_DECREF(self);
    return PyErr_NoMemory();
}

static void buffer_dealloc(PyObject *object) {
    PyTypeObject *type = Py_TYPE(object);
    rr_buffer_unref(((buffer_t *)object)->owner);
    PyObject_Free(object);
    Py_DECREF(type);
}

static int buffer_get(PyObject *object, Py_buffer *view, int flags) {
    buffer_t *self = (buffer_t *)object;
    return PyBuffer_FillInfo(view, object, (void *)self->data, self->size, 1, flags);
}

static Py_ssize_t buffer_length(PyObject *object) { return ((buffer_t *)object)->size; }

static PyObject *buffer_bytes(PyObject *object, PyObject *unused) {
    buffer_t *self = (buffer_t *)object;
    return PyBytes_FromStringAndSize(self->data, self->size);
}

static PyMethodDef buffer_methods[] = {
    {"__bytes__", buffer_bytes, METH_NOARGS, NULL},
    {"tobytes", buffer_bytes, METH_NOARGS, PyDoc_STR("tobytes($self, /)\n--\n\nA copy as bytes.")},
    {NULL, NULL, 0, NULL},
};
static PyType_Slot buffer_slots[] = {
    {Py_tp_dealloc, buffer_dealloc},
    {Py_tp_methods, buffer_methods},
    {Py_bf_getbuffer, buffer_get},
    {Py_sq_length, buffer_length},
    {Py_tp_doc, (void *)PyDoc_STR("Read-only bytes of a message, shared with the runtime: use memoryview(), bytes().")},
    {0, NULL},
};
PyType_Spec rr__buffer_spec = {
    .name = "_redrabbit.Buffer",
    .basicsize = sizeof(buffer_t),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = buffer_slots,
};

PyObject *rr__body_decode(rr__state_t *state, rr__protocol_t protocol, PyObject *type, const void *body, size_t size,
                          rr_buffer_t *owner) {
    switch (protocol) {
    case RR__RAW:
        return PyBytes_FromStringAndSize(body, (Py_ssize_t)size);
    case RR__BUFFER:
        return buffer_new(state, body, size, owner);
    case RR__TEXT:
        return PyUnicode_DecodeUTF8(body, (Py_ssize_t)size, NULL);
    case RR__TYPED:
        return decode_typed(state, type, body, size);
    case RR__JSON:
        break;
    }
    return rr__json_decode(state, body, size);
}

PyObject *rr__body_guess(rr__state_t *state, const void *body, size_t size) {
    PyObject *value = rr__json_decode(state, body, size);
    if (value || !PyErr_ExceptionMatches(PyExc_ValueError))
        return value;
    PyErr_Clear();
    return PyBytes_FromStringAndSize(body, (Py_ssize_t)size);
}
