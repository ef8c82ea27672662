#include "python/handler.h"

#include <stddef.h>
#include <stdlib.h>
#include <structmember.h>

#include "python/convert.h"
#include "python/module.h"

/* ---- The type ---- */

static int traverse(PyObject *object, visitproc visit, void *arg) {
    rr__handler_t *self = (rr__handler_t *)object;
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(self->function);
    Py_VISIT(self->key);
    Py_VISIT(self->module);
    Py_VISIT(self->type);
    Py_VISIT(self->convert);
    return 0;
}

static int clear(PyObject *object) {
    rr__handler_t *self = (rr__handler_t *)object;
    Py_CLEAR(self->function);
    Py_CLEAR(self->key);
    Py_CLEAR(self->module);
    Py_CLEAR(self->type);
    Py_CLEAR(self->convert);
    return 0;
}

static void dealloc(PyObject *object) {
    PyTypeObject *type = Py_TYPE(object);
    PyObject_GC_UnTrack(object);
    clear(object);
    PyObject_GC_Del(object);
    Py_DECREF(type);
}

static PyMemberDef members[] = {
    {"kind", T_UBYTE, offsetof(rr__handler_t, kind), READONLY, NULL},
    {"key", T_OBJECT, offsetof(rr__handler_t, key), READONLY, NULL},
    {"function", T_OBJECT, offsetof(rr__handler_t, function), READONLY, NULL},
    {"module", T_OBJECT, offsetof(rr__handler_t, module), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};
static PyType_Slot slots[] = {
    {Py_tp_traverse, traverse}, {Py_tp_clear, clear},
    {Py_tp_dealloc, dealloc},   {Py_tp_members, members},
    {Py_tp_doc, (void *)PyDoc_STR("One registration: what a decorator left behind.")}, {0, NULL},
};
PyType_Spec rr__handler_spec = {
    .name = "_redrabbit.Handler",
    .basicsize = sizeof(rr__handler_t),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};

/* ---- The tables ---- */

static int set_message(rr_script_t *script, rr__handler_t *handler) {
    uint16_t cmd;
    if (rr__cmd_from(handler->key, &cmd) != 0)
        return -1;
    rr__handler_t ***page = &script->pages[cmd >> 8];
    if (!*page)
        *page = calloc(256, sizeof **page);
    if (!*page) {
        PyErr_NoMemory();
        return -1;
    }
    (*page)[cmd & 255] = handler;
    return 0;
}

/* The registry could not keep it: the tables must not point to it. */
static void forget(rr_script_t *script, const rr__handler_t *handler) {
    for (size_t i = 0; i < 256 * 256; i++) {
        if (script->pages[i >> 8] && script->pages[i >> 8][i & 255] == handler)
            script->pages[i >> 8][i & 255] = NULL;
    }
    for (size_t i = 0; i < RR__KINDS; i++) {
        if (script->single[i] == handler)
            script->single[i] = NULL;
    }
}

int rr__handler_add(rr_script_t *script, rr__handler_t *handler) {
    PyObject *key = Py_BuildValue("(iO)", handler->kind, handler->key);
    int rc = key ? 0 : -1;
    if (rc == 0 && handler->kind == RR__MESSAGE)
        rc = set_message(script, handler);
    else if (rc == 0 && handler->kind == RR__SERVICE)
        rc = PyDict_SetItem(script->services, handler->key, (PyObject *)handler);
    else if (rc == 0)
        script->single[handler->kind] = handler;
    if (rc == 0)
        rc = PyDict_SetItem(script->registry, key, (PyObject *)handler); /* keeps it; may drop the one before */
    if (rc != 0)
        forget(script, handler);
    Py_XDECREF(key);
    return rc;
}

void rr__handler_clear(rr_script_t *script) {
    for (size_t i = 0; i < 256; i++) {
        free(script->pages[i]);
        script->pages[i] = NULL;
    }
    for (size_t i = 0; i < RR__KINDS; i++)
        script->single[i] = NULL;
    PyDict_Clear(script->services);
    PyDict_Clear(script->registry);
}

int rr__handler_replace_all(rr_script_t *script, PyObject *handlers) {
    PyObject *all = PySequence_Tuple(handlers); /* keeps them alive while the registry is empty */
    if (!all)
        return -1;
    rr__handler_clear(script);
    int rc = 0;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(all) && rc == 0; i++) {
        PyObject *handler = PyTuple_GET_ITEM(all, i);
        if (Py_IS_TYPE(handler, script->state->handler_type)) {
            rc = rr__handler_add(script, (rr__handler_t *)handler);
        } else {
            PyErr_SetString(PyExc_TypeError, "restore() wants what registrations() gave");
            rc = -1;
        }
    }
    Py_DECREF(all);
    return rc;
}

bool rr__handler_callback(rr_script_t *script, rr__kind_t kind, rr__handler_t **handler, PyObject **function) {
    static const char *const names[RR__KINDS] = {[RR__VERIFY] = "g_session_verify_callback",
                                                 [RR__ENTER] = "g_session_enter_callback",
                                                 [RR__OFFLINE] = "g_session_offline_callback"};
    *handler = script->single[kind];
    if (names[kind] && script->module) {
        *function = PyDict_GetItemString(PyModule_GetDict(script->module), names[kind]);
        if (*function && PyCallable_Check(*function)) {
            if (*handler && (*handler)->function != *function)
                *handler = NULL;
            return true;
        }
    }
    *function = *handler ? (*handler)->function : NULL;
    return *function != NULL;
}

/* ---- register() ---- */

static PyObject *optional(PyObject *value) { return value == Py_None ? NULL : Py_NewRef(value); }

static PyObject *normal_key(rr__kind_t kind, PyObject *key) {
    if (kind == RR__MESSAGE) {
        uint16_t cmd;
        return rr__cmd_from(key, &cmd) == 0 ? PyLong_FromLong(cmd) : NULL;
    }
    return kind == RR__SERVICE ? PyObject_Str(key) : Py_NewRef(Py_None);
}

PyObject *rr__module_register(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    rr__state_t *state = rr__module_state(module);
    rr_script_t *script = rr__script_here(state);
    if (!script)
        return NULL;
    if (count != 9)
        return PyErr_Format(PyExc_TypeError, "register() takes 9 arguments");
    long kind = PyLong_AsLong(args[0]), protocol = PyLong_AsLong(args[3]);
    long arity = PyLong_AsLong(args[6]), flags = PyLong_AsLong(args[7]);
    if (PyErr_Occurred())
        return NULL;
    if (kind < 0 || kind >= RR__KINDS || protocol < 0 || protocol > RR__TYPED)
        return PyErr_Format(PyExc_ValueError, "register(): unknown kind or protocol");
    if (!PyCallable_Check(args[2]))
        return PyErr_Format(PyExc_TypeError, "a handler must be callable, not %.100s", Py_TYPE(args[2])->tp_name);
    if (kind == RR__DEAD_LETTER && script->host.watch_dead_letters(script->context) != RR_OK)
        return PyErr_Format(PyExc_RuntimeError, "at most %d scenes of a process can watch dead letters", RR_DEAD_LETTER_WATCHERS);
    PyObject *key = normal_key((rr__kind_t)kind, args[1]);
    rr__handler_t *self = key ? PyObject_GC_New(rr__handler_t, state->handler_type) : NULL;
    if (!self) {
        Py_XDECREF(key);
        return NULL;
    }
    self->key = key;
    self->function = Py_NewRef(args[2]);
    self->type = optional(args[4]);
    self->convert = optional(args[5]);
    self->module = Py_NewRef(args[8]);
    self->kind = (uint8_t)kind;
    self->protocol = (uint8_t)protocol;
    self->arity = (uint8_t)arity;
    self->modern = flags & 1;
    self->concurrent = flags & 2;
    PyObject_GC_Track(self);
    int rc = rr__handler_add(script, self);
    Py_DECREF(self);
    return rc == 0 ? Py_NewRef(Py_None) : NULL;
}
