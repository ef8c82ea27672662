/* values.h: typed values (runtime/datum.h) to and from Python. Entered; errors raise a Python exception. */
#ifndef RR_PYTHON_VALUES_H
#define RR_PYTHON_VALUES_H

#include "python/internal.h"
#include "runtime/datum.h"

/* One value: None, bool, int of 64 bits, float, Decimal, str, what has bytes, date, time, datetime, timedelta, UUID; dict, list
 * and tuple as JSON. 0; -1: TypeError, OverflowError or ValueError. The writer's own failures stay in its status. */
int rr__value_put(rr__state_t *state, rr_datum_writer_t *writer, PyObject *value);

/* Names the parameter in the pending exception's text: "parameter 2: …". */
void rr__value_blame(PyObject *parameter);

/* How texts and bytes appear. */
typedef enum rr__text_style {
    RR__TEXT_AS_IS = 0, /* TEXT is str, BYTES is bytes */
    RR__TEXT_STR,       /* both are str; bytes that are not UTF-8 are a ValueError */
    RR__TEXT_BYTES,     /* both are bytes */
    RR__TEXT_SEED,      /* ffext: everything is str, NULL is '' */
} rr__text_style_t;

/* The next value of the reader; a LIST is a list, an ERROR what redrabbit._database makes of it. New reference or NULL. */
PyObject *rr__value_get(rr__state_t *state, rr_datum_reader_t *reader, rr__text_style_t style);

/* count values as a tuple. New reference or NULL. */
PyObject *rr__value_tuple(rr__state_t *state, rr_datum_reader_t *reader, uint32_t count, rr__text_style_t style);

int rr__types_traverse(rr__types_t *types, visitproc visit, void *arg);
void rr__types_clear(rr__types_t *types);

#endif
