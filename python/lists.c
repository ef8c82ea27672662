#include "python/lists.h"

#include <stdlib.h>
#include <string.h>

#include "python/convert.h"

static void forget(rr__id_list_t *list) {
    for (Py_ssize_t i = 0; list->items && i < list->count; i++)
        Py_DECREF(list->items[i]);
    free(list->items);
    free(list->ids);
    *list = (rr__id_list_t){0};
}

void rr__id_lists_clear(rr__id_lists_t *lists) {
    for (unsigned i = 0; i < RR_SCRIPT_LISTS; i++)
        forget(&lists->all[i]);
}

static rr__id_list_t *place(rr__id_lists_t *lists, PyObject *const *items, Py_ssize_t count) {
    uint64_t key = ((uintptr_t)items[0] ^ (uintptr_t)items[count - 1] << 1) + (uint64_t)count;
    return &lists->all[(key * 0x9e3779b97f4a7c15ull >> 32) % RR_SCRIPT_LISTS];
}

static bool seen(const rr__id_list_t *list, PyObject *const *items, Py_ssize_t count) {
    return list->count == count && list->first == items[0] && list->last == items[count - 1];
}

static bool immutable(PyObject *const *items, Py_ssize_t count) {
    for (Py_ssize_t i = 0; i < count; i++)
        if (!PyUnicode_CheckExact(items[i]) && !PyLong_CheckExact(items[i]))
            return false;
    return true;
}

/* Takes over the ids of a list that comes for the second time; without memory it stays as it is. */
static void keep(rr__id_lists_t *lists, rr__id_list_t *list, PyObject *const *items, Py_ssize_t count, rr__ids_t *ids) {
    PyObject **copy = malloc((size_t)count * sizeof *copy);
    if (!copy)
        return;
    for (Py_ssize_t i = 0; i < count; i++)
        copy[i] = Py_NewRef(items[i]);
    forget(list);
    *list = (rr__id_list_t){.count = count, .first = items[0], .last = items[count - 1], .items = copy, .ids = ids->own};
    list->number = ++lists->kept * RR_SCRIPT_LISTS + (uint64_t)(list - lists->all);
    ids->list = list->number;
    ids->own = NULL;
}

static int decode(rr__state_t *state, PyObject *const *items, Py_ssize_t count, rr__ids_t *out) {
    out->ids = out->own = malloc((size_t)(count ? count : 1) * sizeof *out->own);
    if (!out->own) {
        PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t i = 0; i < count; i++)
        if (rr__sid_from(state, items[i], &out->own[i]) != 0) {
            rr__ids_clear(out);
            return -1;
        }
    return 0;
}

int rr__ids_from(rr__state_t *state, PyObject *const *items, Py_ssize_t count, rr__ids_t *out) {
    *out = (rr__ids_t){0};
    if (count < RR__ID_LIST_LEAST || count > RR__ID_LIST_MOST)
        return decode(state, items, count, out);
    rr__id_list_t *list = place(&state->lists, items, count);
    bool again = seen(list, items, count);
    if (again && list->items && memcmp(list->items, items, (size_t)count * sizeof *items) == 0) {
        out->ids = list->ids;
        out->list = list->number;
        return 0;
    }
    if (decode(state, items, count, out) != 0)
        return -1;
    if (again && immutable(items, count)) {
        keep(&state->lists, list, items, count, out);
    } else {
        forget(list);
        *list = (rr__id_list_t){.count = count, .first = items[0], .last = items[count - 1]};
    }
    return 0;
}

void rr__ids_clear(rr__ids_t *ids) {
    free(ids->own);
    *ids = (rr__ids_t){0};
}
