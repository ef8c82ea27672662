/* compat.h: CPython.h and the few differences between 3.11, 3.12 and 3.13 that matter here. Include it first. */
#ifndef RR_PYTHON_COMPAT_H
#define RR_PYTHON_COMPAT_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#if PY_VERSION_HEX < 0x030B0000
#error "CPython 3.11 or later is needed"
#endif

/* Own-GIL interpreters exist in 3.12, but only from 3.13 on do the standard library's C modules load in them. */
#define RR__OWN_GIL (PY_VERSION_HEX >= 0x030D0000)

/* Takes the pending exception as one normalised object with its traceback attached; NULL if there is none. */
static inline PyObject *rr__exception_take(void) {
#if PY_VERSION_HEX >= 0x030C0000
    return PyErr_GetRaisedException();
#else
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    if (!type)
        return NULL;
    PyErr_NormalizeException(&type, &value, &traceback);
    if (traceback)
        PyException_SetTraceback(value, traceback);
    Py_DECREF(type);
    Py_XDECREF(traceback);
    return value;
#endif
}

/* For bytes that get another content while nobody else refers to them. CPython keeps the hash in the object and has no call
 * for this; the field is there, marked as deprecated since 3.11, in every version up to 3.14. */
static inline void rr__bytes_forget_hash(PyObject *bytes) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
    ((PyBytesObject *)bytes)->ob_shash = -1;
#pragma GCC diagnostic pop
}

/* The context that runs, borrowed; NULL if there is none. CPython has no call for it; the field is there up to 3.14. */
static inline PyObject *rr__context_here(void) { return PyThreadState_Get()->context; }

/* Raises an exception object; takes over the reference. */
static inline void rr__exception_raise(PyObject *exception) {
#if PY_VERSION_HEX >= 0x030C0000
    PyErr_SetRaisedException(exception);
#else
    PyErr_SetObject((PyObject *)Py_TYPE(exception), exception);
    Py_DECREF(exception);
#endif
}

#endif
