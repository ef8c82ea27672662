/* database.h: queries of databases from Python: requests out, answers and events in. The functions of _redrabbit on which
 * redrabbit/_database.py and _redis.py stand. Entered. */
#ifndef RR_PYTHON_DATABASE_H
#define RR_PYTHON_DATABASE_H

#include "python/internal.h"
#include "runtime/query.h"

/* What a query's answer becomes; redrabbit/_database.py has the same numbers. */
typedef enum rr__shape {
    RR__SHAPE_ROWS = 0, /* a Result */
    RR__SHAPE_ONE,      /* its first row, or None */
    RR__SHAPE_VALUE,    /* the first row's first value, or None */
    RR__SHAPE_COUNT,    /* affected rows */
    RR__SHAPE_ID,       /* BEGIN, SUBSCRIBE: (id, the request's own) */
    RR__SHAPE_PART,     /* STREAM, NEXT: (id, whether there is more, a Result) */
    RR__SHAPE_REPLIES,  /* COMMANDS: the list of replies, errors among them */
    RR__SHAPE_REPLY,    /* COMMANDS, one: its reply; an error is raised */
    RR__SHAPE_NONE,
    RR__SHAPES,
    RR__SHAPE_DICTS = 16,     /* flag: rows are dicts */
    RR__SHAPE_STYLE_BIT = 32, /* times an rr__text_style_t */
} rr__shape_t;

/* The exception of an answer that is an error, as redrabbit._database makes it. New reference; NULL = another exception. */
PyObject *rr__database_error(rr__state_t *state, const rr_db_answer_t *answer);

extern PyMethodDef rr__database_functions[]; /* ended by a NULL name */

#endif
