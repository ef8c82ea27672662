/* waits.c: what the host will bring: by token, with the future, the function or the note that waits for it. */
#include "python/awaitable.h"

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
    rr__wait_t *wait = rr__tokens_get(&script->waits, token);
    if (!wait)
        return false;
    if (wait->kind == RR__WAIT_QUERY) {
        rr__query_abandon(script, token, wait);
        return true;
    }
    rr__tokens_take(&script->waits, token);
    if (wait->timer)
        script->host.timer_cancel(script->context, token);
    rr__wait_free(wait);
    return true;
}

static PyObject *new_future(rr_script_t *script, rr__wait_kind_t kind, uint64_t token) {
    if (!script->asyncio) {
        rr__future_t *future = rr__future_new(script->state);
        if (future)
            future->token = token;
        return (PyObject *)future;
    }
    if (kind == RR__WAIT_QUERY)
        return PyObject_CallMethod(script->glue, "create_query_future", "K", (unsigned long long)token);
    return PyObject_CallMethodNoArgs(script->glue, script->state->name_create_future);
}

PyObject *rr__wait_future(rr_script_t *script, rr__wait_kind_t kind, PyObject *data, uint64_t *token, rr__wait_t **out) {
    rr__wait_t *wait;
    *token = rr__wait_new(script, kind, NULL, data, &wait);
    if (!*token)
        return NULL;
    wait->target = new_future(script, kind, *token);
    if (!wait->target) {
        rr__wait_free(rr__tokens_take(&script->waits, *token));
        return NULL;
    }
    if (out)
        *out = wait;
    return Py_NewRef(wait->target);
}

void rr__wait_end(rr_script_t *script, PyObject *future, PyObject *value, bool is_error) {
    rr__state_t *state = script->state;
    if (!script->asyncio) {
        if (is_error)
            rr__future_error(state, (rr__future_t *)future, value);
        else
            rr__future_result(state, (rr__future_t *)future, value);
    } else {
        PyObject *done = PyObject_CallMethodNoArgs(future, state->name_done), *result = done;
        if (done == Py_False)
            result = PyObject_CallMethodOneArg(future, is_error ? state->name_set_exception : state->name_set_result,
                                               value);
        if (!result)
            rr__report(script, NULL);
        Py_XDECREF(result);
    }
    Py_DECREF(value);
}
