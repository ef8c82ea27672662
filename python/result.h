/* result.h: what a query brings: a list of rows that also knows columns, affected rows and the last id. Entered. */
#ifndef RR_PYTHON_RESULT_H
#define RR_PYTHON_RESULT_H

#include "python/values.h"
#include "runtime/query.h"

extern PyType_Spec rr__result_spec; /* based on list */

/* The columns' names as a tuple. New reference or NULL. */
PyObject *rr__result_columns(const rr_db_answer_t *answer);

/* The next row as a tuple, or as a dict if columns are given. New reference; NULL = an exception, or without one the end. */
PyObject *rr__result_row(rr__state_t *state, rr_db_answer_t *answer, PyObject *columns, rr__text_style_t style);

/* All that the answer has. New reference or NULL. */
PyObject *rr__result_new(rr__state_t *state, rr_db_answer_t *answer, bool dicts, rr__text_style_t style);

#endif
