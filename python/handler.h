/* handler.h: what scripts register, and the tables that find it. */
#ifndef RR_PYTHON_HANDLER_H
#define RR_PYTHON_HANDLER_H

#include "python/internal.h"

extern PyType_Spec rr__handler_spec;

/* Adds a registration, replacing the one with the same kind and key. 0 or -1 with an exception. */
int rr__handler_add(rr_script_t *script, rr__handler_t *handler);

/* Replaces all registrations by those of an iterable. 0 or -1. */
int rr__handler_replace_all(rr_script_t *script, PyObject *handlers);

/* Drops everything. */
void rr__handler_clear(rr_script_t *script);

static inline rr__handler_t *rr__handler_message(const rr_script_t *script, uint16_t cmd) {
    rr__handler_t **page = script->pages[cmd >> 8];
    return page ? page[cmd & 255] : NULL;
}

/* The registered callback of a kind, or what the script assigned to its global g_session_…_callback (spec: "as scripts in
 * the wild do"). *function gets the callable, borrowed; the handler may be NULL then. False if there is none. */
bool rr__handler_callback(rr_script_t *script, rr__kind_t kind, rr__handler_t **handler, PyObject **function);

/* _redrabbit.register(kind, key, function, protocol, type, convert, arity, flags, module) */
PyObject *rr__module_register(PyObject *module, PyObject *const *args, Py_ssize_t count);

#endif
