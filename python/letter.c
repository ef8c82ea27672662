/* letter.c: dead letters, as a script's on_dead_letter sees them. */
#include "python/handler.h"
#include "python/internal.h"

#include <string.h>

static PyObject *show(const char *text) { return PyUnicode_DecodeUTF8(text, (Py_ssize_t)strlen(text), "replace"); }

int rr_script_dead_letter(rr_script_t *script, const rr_letter_t *letter) {
    enum { FIELDS = 6 };
    rr__handler_t *handler;
    PyObject *function, *result = NULL;
    if (!rr__handler_callback(script, RR__DEAD_LETTER, &handler, &function))
        return RR_ENOENT;
    rr__origin_t origin = {.kind = RR__DEAD_LETTER};
    PyObject *args[1 + FIELDS] = {NULL,
                                  show(letter->to),
                                  show(letter->from),
                                  show(letter->reason),
                                  show(letter->what),
                                  PyLong_FromUnsignedLong(letter->size),
                                  PyLong_FromUnsignedLongLong(letter->lost)};
    bool complete = true;
    for (size_t i = 1; i <= FIELDS; i++)
        complete = complete && args[i];
    int rc = RR_EHANDLER;
    Py_INCREF(function);
    rr__bump(&script->stats.handlers);
    if (complete)
        rc = rr__run(script, &origin, function, args + 1, FIELDS, &result);
    else
        rr__report(script, &origin);
    Py_XDECREF(result);
    for (size_t i = 1; i <= FIELDS; i++)
        Py_XDECREF(args[i]);
    Py_DECREF(function);
    rr__turn_end(script);
    return rc == RR_SCRIPT_PENDING ? RR_OK : rc;
}
