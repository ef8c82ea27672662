/* module.h: the C module _redrabbit: what the Python package and scripts call. Its functions: redrabbit/_redrabbit.pyi. */
#ifndef RR_PYTHON_MODULE_H
#define RR_PYTHON_MODULE_H

#include "python/internal.h"

PyMODINIT_FUNC rr__module_init(void); /* for PyImport_AppendInittab */

static inline rr__state_t *rr__module_state(PyObject *module) { return PyModule_GetState(module); }

/* Also methods of Session. */
PyObject *rr__module_send(PyObject *module, PyObject *const *args, Py_ssize_t count);
PyObject *rr__module_close(PyObject *module, PyObject *const *args, Py_ssize_t count);
PyObject *rr__module_move(PyObject *module, PyObject *const *args, Py_ssize_t count);

#endif
