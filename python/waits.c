#include "python/internal.h"

#include <stdlib.h>

uint64_t rr__wait_new(rr_script_t *script, rr__wait_kind_t kind, PyObject *target, PyObject *data, rr__wait_t **out) {
    rr__wait_t *wait = calloc(1, sizeof *wait);
    uint64_t token = ++script->next_token;
    if (!wait || rr__tokens_put(&script->waits, token, wait) != RR_OK) {
        free(wait);
        PyErr_NoMemory();
        return 0;
    }
    wait->kind = kind;
    wait->target = Py_XNewRef(target);
    wait->data = Py_XNewRef(data);
    if (out)
        *out = wait;
    return token;
}

void rr__wait_free(rr__wait_t *wait) {
    PyObject *target = wait->target, *data = wait->data;
    free(wait);
    Py_XDECREF(target);
    Py_XDECREF(data);
}

bool rr__wait_drop(rr_script_t *script, uint64_t token) {
    rr__wait_t *wait = rr__tokens_take(&script->waits, token);
    if (!wait)
        return false;
    if (wait->timer)
        script->host.timer_cancel(script->context, token);
    rr__wait_free(wait);
    return true;
}
