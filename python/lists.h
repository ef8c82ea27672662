/* lists.h: lists of session ids that a script sends to again and again. One that comes twice is kept, decoded, for the third
 * time: its items are str and int, which never change, so the same objects are the same ids. Entered. */
#ifndef RR_PYTHON_LISTS_H
#define RR_PYTHON_LISTS_H

#include "python/compat.h"

#include "python/script.h"

#define RR__ID_LIST_LEAST 16    /* shorter ones are decoded faster than kept */
#define RR__ID_LIST_MOST  16384 /* longer ones would keep much memory: 32 bytes an id */

typedef struct rr__id_list {
    Py_ssize_t count; /* of the list seen here last; with first and last what tells it from others until it is kept */
    const PyObject *first, *last; /* not owned */
    PyObject **items; /* owned, each a reference; NULL = seen, but not kept */
    rr_sid_t *ids;    /* owned; their texts are the items' */
    uint64_t number;  /* names it to the host: never that of another list */
} rr__id_list_t;

typedef struct rr__id_lists {
    rr__id_list_t all[RR_SCRIPT_LISTS];
    uint64_t kept; /* so far */
} rr__id_lists_t;

/* Ids for one call. */
typedef struct rr__ids {
    const rr_sid_t *ids; /* valid until the next rr__ids_from or rr__ids_clear */
    uint64_t list;       /* for the host, 0 = not kept */
    rr_sid_t *own;       /* to be freed; NULL = none */
} rr__ids_t;

struct rr__state;

/* The ids of `count` items (a list's or tuple's), borrowed from them. Runs no Python. 0, or -1 and an exception. */
int rr__ids_from(struct rr__state *state, PyObject *const *items, Py_ssize_t count, rr__ids_t *out);
void rr__ids_clear(rr__ids_t *ids);
void rr__id_lists_clear(rr__id_lists_t *lists);

#endif
