#include "python/result.h"

#include <stddef.h>
#include <structmember.h>

typedef struct {
    PyListObject list;
    PyObject *columns, *affected, *last_id;
} result_t;

/* ---- From an answer ---- */

PyObject *rr__result_columns(const rr_db_answer_t *answer) {
    rr_datum_reader_t reader = answer->columns;
    PyObject *tuple = PyTuple_New(answer->column_count);
    for (uint32_t i = 0; tuple && i < answer->column_count; i++) {
        const char *data;
        size_t size;
        PyObject *name = NULL;
        if (rr_datum_get_text(&reader, &data, &size) != RR_OK)
            PyErr_SetString(PyExc_ValueError, "the answer makes no sense");
        else
            name = PyUnicode_DecodeUTF8(data ? data : "", (Py_ssize_t)size, "replace");
        if (name)
            PyTuple_SET_ITEM(tuple, i, name);
        else
            Py_CLEAR(tuple);
    }
    return tuple;
}

static PyObject *named(PyObject *columns, PyObject *row) {
    PyObject *dict = PyDict_New();
    for (Py_ssize_t i = 0; dict && i < PyTuple_GET_SIZE(columns) && i < PyTuple_GET_SIZE(row); i++)
        if (PyDict_SetItem(dict, PyTuple_GET_ITEM(columns, i), PyTuple_GET_ITEM(row, i)) != 0)
            Py_CLEAR(dict);
    return dict;
}

PyObject *rr__result_row(rr__state_t *state, rr_db_answer_t *answer, PyObject *columns, rr__text_style_t style) {
    uint32_t count;
    int rc = rr_datum_get_list(&answer->rows, &count);
    if (rc == RR_ENOENT)
        return NULL;
    if (rc != RR_OK)
        return PyErr_Format(PyExc_ValueError, "the answer makes no sense");
    PyObject *row = rr__value_tuple(state, &answer->rows, count, style);
    if (!row || !columns)
        return row;
    PyObject *dict = named(columns, row);
    Py_DECREF(row);
    return dict;
}

static int fill(rr__state_t *state, result_t *self, rr_db_answer_t *answer, bool dicts, rr__text_style_t style) {
    self->columns = rr__result_columns(answer);
    self->affected = PyLong_FromLongLong(answer->affected);
    self->last_id = answer->has_last_id ? PyLong_FromLongLong(answer->last_id) : Py_NewRef(Py_None);
    if (!self->columns || !self->affected || !self->last_id)
        return -1;
    PyObject *row;
    while ((row = rr__result_row(state, answer, dicts ? self->columns : NULL, style))) {
        int rc = PyList_Append((PyObject *)self, row);
        Py_DECREF(row);
        if (rc != 0)
            return -1;
    }
    return PyErr_Occurred() ? -1 : 0;
}

PyObject *rr__result_new(rr__state_t *state, rr_db_answer_t *answer, bool dicts, rr__text_style_t style) {
    result_t *self = (result_t *)state->result_type->tp_alloc(state->result_type, 0);
    if (self && fill(state, self, answer, dicts, style) != 0)
        Py_CLEAR(self);
    return (PyObject *)self;
}

/* ---- The type ---- */

static PyObject *result_dicts(PyObject *object, PyObject *unused) {
    result_t *self = (result_t *)object;
    PyObject *list = PyList_New(0);
    for (Py_ssize_t i = 0; list && i < PyList_GET_SIZE(object); i++) {
        PyObject *row = PyList_GET_ITEM(object, i);
        PyObject *dict = PyTuple_Check(row) ? named(self->columns, row) : Py_NewRef(row);
        if (!dict || PyList_Append(list, dict) != 0)
            Py_CLEAR(list);
        Py_XDECREF(dict);
    }
    return list;
}

static int result_traverse(PyObject *object, visitproc visit, void *arg) {
    result_t *self = (result_t *)object;
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(self->columns);
    Py_VISIT(self->affected);
    Py_VISIT(self->last_id);
    return PyList_Type.tp_traverse(object, visit, arg);
}

static int result_clear(PyObject *object) {
    return PyList_Type.tp_clear(object);
}

static void result_dealloc(PyObject *object) {
    result_t *self = (result_t *)object;
    PyTypeObject *type = Py_TYPE(object);
    PyObject_GC_UnTrack(object);
    Py_CLEAR(self->columns);
    Py_CLEAR(self->affected);
    Py_CLEAR(self->last_id);
    PyList_Type.tp_dealloc(object);
    Py_DECREF(type);
}

static PyMemberDef result_members[] = {
    {"columns", T_OBJECT, offsetof(result_t, columns), READONLY, PyDoc_STR("The columns' names, a tuple.")},
    {"affected", T_OBJECT, offsetof(result_t, affected), READONLY, PyDoc_STR("Rows changed; -1: the server does not say.")},
    {"last_id", T_OBJECT, offsetof(result_t, last_id), READONLY,
     PyDoc_STR("The id that the server gave to the (last) row inserted, or None.")},
    {NULL, 0, 0, 0, NULL},
};
static PyMethodDef result_methods[] = {
    {"dicts", result_dicts, METH_NOARGS, PyDoc_STR("dicts($self, /)\n--\n\nThe rows as dicts by column.")},
    {NULL, NULL, 0, NULL},
};
static PyType_Slot result_slots[] = {
    {Py_tp_traverse, result_traverse}, {Py_tp_clear, result_clear},     {Py_tp_dealloc, result_dealloc},
    {Py_tp_members, result_members},   {Py_tp_methods, result_methods},
    {Py_tp_doc, (void *)PyDoc_STR("The rows of a query, a list; and its columns, affected rows and last id.")},
    {0, NULL},
};
PyType_Spec rr__result_spec = {
    .name = "_redrabbit.Result",
    .basicsize = sizeof(result_t),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = result_slots,
};
