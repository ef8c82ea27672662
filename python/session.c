#include "python/session.h"

#include <stddef.h>
#include <structmember.h>

#include "python/convert.h"
#include "python/module.h"

rr_script_session_t *rr_script_session_new(rr_script_t *script, const rr_sid_t *id, void *host_session) {
    rr__state_t *state = script->state;
    rr_script_session_t *self = PyObject_GC_New(rr_script_session_t, state->session_type);
    if (!self) {
        PyErr_Clear();
        return NULL;
    }
    self->dict = NULL;
    self->gone = false;
    self->host = host_session;
    self->id = rr__sid_object(id);
    PyObject_GC_Track(self);
    if (self->id && PyDict_SetItem(script->sessions, self->id, (PyObject *)self) == 0)
        return self;
    PyErr_Clear();
    Py_DECREF(self);
    return NULL;
}

void rr_script_session_free(rr_script_t *script, rr_script_session_t *session) {
    if (!session)
        return;
    session->gone = true;
    if (PyDict_GetItemWithError(script->sessions, session->id) == (PyObject *)session &&
        PyDict_DelItem(script->sessions, session->id) != 0)
        PyErr_Clear();
    PyErr_Clear();
    Py_DECREF(session);
}

static int traverse(PyObject *object, visitproc visit, void *arg) {
    rr_script_session_t *self = (rr_script_session_t *)object;
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(self->id);
    Py_VISIT(self->dict);
    return 0;
}

static int clear(PyObject *object) {
    Py_CLEAR(((rr_script_session_t *)object)->dict);
    return 0;
}

static void dealloc(PyObject *object) {
    rr_script_session_t *self = (rr_script_session_t *)object;
    PyTypeObject *type = Py_TYPE(object);
    PyObject_GC_UnTrack(object);
    Py_CLEAR(self->dict);
    Py_CLEAR(self->id);
    PyObject_GC_Del(object);
    Py_DECREF(type);
}

static PyObject *repr(PyObject *object) {
    return PyUnicode_FromFormat("<Session %R>", ((rr_script_session_t *)object)->id);
}

/* The methods are the module's functions with the session in front. */
static PyObject *forward(PyObject *object, PyObject *const *args, Py_ssize_t count,
                         PyObject *(*function)(PyObject *, PyObject *const *, Py_ssize_t)) {
    PyObject *all[5] = {object};
    if (count > 4)
        return PyErr_Format(PyExc_TypeError, "too many arguments");
    for (Py_ssize_t i = 0; i < count; i++)
        all[i + 1] = args[i];
    PyObject *module = PyType_GetModule(Py_TYPE(object));
    return module ? function(module, all, count + 1) : NULL;
}

static PyObject *session_send(PyObject *self, PyObject *const *args, Py_ssize_t count) {
    return forward(self, args, count, rr__module_send);
}

static PyObject *session_close(PyObject *self, PyObject *const *args, Py_ssize_t count) {
    return forward(self, args, count, rr__module_close);
}

static PyObject *session_move(PyObject *self, PyObject *const *args, Py_ssize_t count) {
    return forward(self, args, count, rr__module_move);
}

static PyObject *get_online(PyObject *object, void *closure) {
    return PyBool_FromLong(!((rr_script_session_t *)object)->gone);
}

static PyMethodDef methods[] = {
    {"send", (PyCFunction)(void (*)(void))session_send, METH_FASTCALL,
     PyDoc_STR("send($self, cmd, body, /)\n--\n\nSends to this session; False if this scene does not hold it.")},
    {"close", (PyCFunction)(void (*)(void))session_close, METH_FASTCALL,
     PyDoc_STR("close($self, /)\n--\n\nCloses the connection after what was sent before.")},
    {"move", (PyCFunction)(void (*)(void))session_move, METH_FASTCALL,
     PyDoc_STR("move($self, scene, extra='', /)\n--\n\nMoves to another scene; await it to learn of the end.")},
    {NULL, NULL, 0, NULL},
};
static PyMemberDef members[] = {
    {"id", T_OBJECT_EX, offsetof(rr_script_session_t, id), READONLY, PyDoc_STR("str or int, as the verifier gave it")},
    {"__dictoffset__", T_PYSSIZET, offsetof(rr_script_session_t, dict), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};
static PyGetSetDef properties[] = {
    {"online", get_online, NULL, PyDoc_STR("whether this scene still holds the session"), NULL},
    {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};
static PyType_Slot slots[] = {
    {Py_tp_traverse, traverse}, {Py_tp_clear, clear},     {Py_tp_dealloc, dealloc},     {Py_tp_repr, repr},
    {Py_tp_methods, methods},   {Py_tp_members, members}, {Py_tp_getset, properties},
    {Py_tp_doc, (void *)PyDoc_STR("One client that this scene holds. Scripts may put attributes of their own on it.")},
    {0, NULL},
};
PyType_Spec rr__session_spec = {
    .name = "_redrabbit.Session",
    .basicsize = sizeof(rr_script_session_t),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = slots,
};
