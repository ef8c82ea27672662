/* session.h: rr_script_session, which is the Python object Session itself. */
#ifndef RR_PYTHON_SESSION_H
#define RR_PYTHON_SESSION_H

#include "python/internal.h"

struct rr_script_session {
    PyObject_HEAD
    PyObject *id;   /* str or int: the same object for every handler */
    PyObject *dict; /* attributes set by scripts; made on first use */
    void *host;     /* the host's session, valid until it is gone */
    bool gone;      /* the host freed it: its methods say False */
};

extern PyType_Spec rr__session_spec;

/* A session argument of the module's functions: true and NULL-safe check that sends may go out for it. */
static inline bool rr__session_gone(const rr__state_t *state, PyObject *id) {
    return Py_IS_TYPE(id, state->session_type) && ((struct rr_script_session *)id)->gone;
}

#endif
