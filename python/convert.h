/* convert.h: message bodies and session ids between C and Python. Entered; errors raise a Python exception and return
 * NULL or a negative code. */
#ifndef RR_PYTHON_CONVERT_H
#define RR_PYTHON_CONVERT_H

#include "python/internal.h"

/* Bytes of a Python value, borrowed from it or from `owner`. */
typedef struct rr__body {
    const void *data;
    size_t size;
    bool text;       /* known to be UTF-8 */
    PyObject *owner; /* what was made for it; NULL = the value itself */
    Py_buffer view;  /* view.obj != NULL: to be released */
} rr__body_t;

/* str and bytes as they are (lone surrogates become '?'), buffers, thrift and protobuf objects, the rest as JSON.
 * json_text: a str is a JSON string too, not text. 0 or -1. */
int rr__body_from(rr__state_t *state, PyObject *value, bool json_text, rr__body_t *out);
void rr__body_clear(rr__body_t *body);

/* A value of the declared protocol; owner (may be NULL) is the shared buffer behind body. */
PyObject *rr__body_decode(rr__state_t *state, rr__protocol_t protocol, PyObject *type, const void *body, size_t size,
                          rr_buffer_t *owner);

/* JSON if it is JSON, else bytes: answers of calls that declare nothing. */
PyObject *rr__body_guess(rr__state_t *state, const void *body, size_t size);

PyObject *rr__json_decode(rr__state_t *state, const void *body, size_t size);

/* UTF-8 of a str; lone surrogates become '?' (then *owner, to be dropped by the caller, holds it). NULL = error. */
const char *rr__utf8(PyObject *text, Py_ssize_t *size, PyObject **owner);

/* str, int or Session -> id, borrowed from the object. -1 = TypeError. An id that cannot exist (empty, too long, 0, beyond
 * 64 bits) gives size 0 and number 0: nobody holds it. */
int rr__sid_from(rr__state_t *state, PyObject *id, rr_sid_t *out);
PyObject *rr__sid_object(const rr_sid_t *id);

/* cmd 0..65535, else ValueError / TypeError and -1. */
int rr__cmd_from(PyObject *cmd, uint16_t *out);

/* The `default` of the JSON encoder: dict views, sets and other iterables of ours as arrays. */
PyObject *rr__json_default(PyObject *module, PyObject *value);

extern PyType_Spec rr__buffer_spec; /* bytes-like view of a message's shared buffer */

#endif
