/* login.c: verifiers and their answers (spec.md section 6, first row). */
#include "python/convert.h"
#include "python/handler.h"
#include "python/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* "123" -> 123 where the gate wants ints; anything else stays what it is. New reference. */
static PyObject *normal_id(const rr_script_t *script, PyObject *id) {
    if (!script->session_id_int || !PyUnicode_Check(id))
        return Py_NewRef(id);
    Py_ssize_t size;
    const char *text = PyUnicode_AsUTF8AndSize(id, &size);
    if (!text)
        return NULL;
    size_t digits = strspn(text + (*text == '-'), "0123456789");
    if (!digits || digits + (*text == '-') != (size_t)size || digits > 19)
        return Py_NewRef(id);
    errno = 0;
    long long value = strtoll(text, NULL, 10);
    return errno ? Py_NewRef(id) : PyLong_FromLongLong(value);
}

static bool is_zero(PyObject *id) {
    return PyLong_Check(id) && !PyBool_Check(id) && PyObject_IsTrue(id) == 0;
}

/* id into verdict->id; its object is kept until the next verdict. 0 or -1 with an exception. */
static int set_id(rr_script_t *script, PyObject *id, rr_verdict_t *verdict) {
    if (PyUnicode_Check(id)) {
        Py_ssize_t size;
        verdict->id.text = PyUnicode_AsUTF8AndSize(id, &size);
        if (!verdict->id.text)
            return -1;
        if (size < 1 || size > 255) {
            PyErr_Format(PyExc_ValueError, "a session id has 1 to 255 bytes, not %zd", size);
            return -1;
        }
        verdict->id.size = (uint32_t)size;
    } else if (PyLong_Check(id) && !PyBool_Check(id)) {
        verdict->id.number = PyLong_AsLongLong(id);
        if (verdict->id.number == -1 && PyErr_Occurred())
            return -1;
    } else {
        PyErr_Format(PyExc_TypeError, "a session id is str or int, not %.100s", Py_TYPE(id)->tp_name);
        return -1;
    }
    Py_XSETREF(script->verdict_id, Py_NewRef(id));
    return 0;
}

static int set_extra(rr_script_t *script, PyObject *extra, rr_verdict_t *verdict) {
    rr__body_t body;
    if (!extra || extra == Py_None)
        return 0;
    if (rr__body_from(script->state, extra, false, &body) != 0)
        return -1;
    PyObject *bytes = PyBytes_FromStringAndSize(body.data, (Py_ssize_t)body.size);
    rr__body_clear(&body);
    if (!bytes)
        return -1;
    Py_XSETREF(script->verdict_extra, bytes);
    if (PyBytes_GET_SIZE(bytes)) {
        verdict->extra = PyBytes_AS_STRING(bytes);
        verdict->extra_size = (size_t)PyBytes_GET_SIZE(bytes);
    }
    return 0;
}

int rr__verdict_build(rr_script_t *script, PyObject *id, PyObject *extra, rr_verdict_t *verdict) {
    *verdict = (rr_verdict_t){.code = RR_EREFUSED};
    PyObject *normal = normal_id(script, id);
    if (!normal)
        return RR_EHANDLER;
    bool redirect = is_zero(normal); /* only [0, extra] sends something to those who may not come in */
    bool refuse = redirect || normal == Py_None || (PyUnicode_Check(normal) && PyUnicode_GET_LENGTH(normal) == 0);
    int rc = refuse && !redirect ? 0 : set_extra(script, extra, verdict);
    if (rc == 0 && !refuse)
        rc = set_id(script, normal, verdict);
    Py_DECREF(normal);
    if (rc != 0)
        return RR_EHANDLER;
    verdict->code = refuse ? RR_EREFUSED : RR_OK;
    return RR_OK;
}

static int refuse(rr_script_t *script, const rr__origin_t *origin, const char *why, rr_verdict_t *verdict) {
    *verdict = (rr_verdict_t){.code = RR_EREFUSED};
    rr__note(script, RR_WARN, origin, why);
    return RR_OK;
}

int rr__verdict_from(rr_script_t *script, const rr__origin_t *origin, PyObject *answer, rr_verdict_t *verdict) {
    bool list = PyList_Check(answer) || PyTuple_Check(answer);
    Py_ssize_t size = list ? PySequence_Fast_GET_SIZE(answer) : 0;
    if (answer == Py_None || (list && size == 0)) {
        if (origin->arity >= 5)
            return RR_SCRIPT_PENDING;
        return refuse(script, origin, "refused by the verifier", verdict);
    }
    if (!list)
        return refuse(script, origin, "refused: the verifier must return [id] or [id, extra]", verdict);
    if (size > 2)
        return refuse(script, origin, "refused: the verifier returned more than [id, extra]", verdict);
    PyObject *id = PySequence_Fast_GET_ITEM(answer, 0), *extra = size > 1 ? PySequence_Fast_GET_ITEM(answer, 1) : NULL;
    if (rr__verdict_build(script, id, extra, verdict) != RR_OK)
        return refuse(script, origin, "refused: the verifier's answer is not usable", verdict);
    if (verdict->code != RR_OK && !verdict->extra)
        rr__note(script, RR_WARN, origin, "refused by the verifier");
    return RR_OK;
}

/* No verifier: whoever comes is who he says he is. */
static int accept_anyone(rr_script_t *script, const rr__origin_t *origin, const void *key, size_t size,
                         rr_verdict_t *verdict) {
    static const char text[] = "no session_verify_callback: every session key is accepted as the id";
    if (!script->warned_no_verifier)
        script->host.log(script->context, RR_WARN, "PYTHON", text, sizeof text - 1);
    script->warned_no_verifier = true;
    PyObject *id = PyUnicode_DecodeUTF8(key, (Py_ssize_t)size, NULL);
    int rc = id ? rr__verdict_build(script, id, NULL, verdict) : RR_EHANDLER;
    Py_XDECREF(id);
    if (rc != RR_OK)
        return refuse(script, origin, "refused: the session key is not usable as an id", verdict);
    if (verdict->code != RR_OK)
        rr__note(script, RR_WARN, origin, "refused: the session key is empty");
    return RR_OK;
}

static int call_verifier(rr_script_t *script, rr__origin_t *origin, PyObject *function, PyObject *key,
                         int64_t online_time, const char *ip, const char *gate, rr_verdict_t *verdict) {
    PyObject *args[6] = {NULL,
                         key,
                         PyLong_FromLongLong(online_time),
                         PyUnicode_FromString(ip ? ip : ""),
                         PyUnicode_FromString(gate ? gate : ""),
                         PyLong_FromUnsignedLongLong(origin->token)};
    PyObject *answer = NULL;
    int rc = RR_EHANDLER;
    script->verifying = true;
    script->verifying_id = origin->token;
    if (args[2] && args[3] && args[4] && args[5])
        rc = rr__run(script, origin, function, args + 1, origin->arity >= 5 ? 5 : 4, &answer);
    else
        rr__report(script, origin);
    script->verifying = false;
    if (script->early_set) {
        *verdict = script->early;
        rc = RR_OK;
    } else if (rc == RR_OK) {
        rc = rr__verdict_from(script, origin, answer, verdict);
    }
    Py_XDECREF(answer);
    for (size_t i = 2; i < 6; i++)
        Py_XDECREF(args[i]);
    return rc;
}

/* A coroutine that answered early by on_verify_auth_callback goes on, but has nothing more to say. */
static void mute_task(rr_script_t *script) {
    for (size_t i = 0; script->tasks.mask && i <= script->tasks.mask; i++) {
        rr__task_t *task = script->tasks.keys[i] ? script->tasks.values[i] : NULL;
        if (task && task->origin.kind == RR__VERIFY && task->origin.token == script->verifying_id)
            task->origin.answered = true;
    }
}

int rr_script_verify(rr_script_t *script, const void *key, size_t key_size, int64_t online_time, const char *ip,
                     const char *gate, uint64_t cb_id, rr_verdict_t *verdict) {
    rr__origin_t origin = {.kind = RR__VERIFY, .token = cb_id};
    rr__handler_t *handler;
    PyObject *function;
    *verdict = (rr_verdict_t){.code = RR_EREFUSED};
    Py_CLEAR(script->early_id);
    Py_CLEAR(script->early_extra);
    script->early_set = false;
    if (!rr__handler_callback(script, RR__VERIFY, &handler, &function))
        return accept_anyone(script, &origin, key, key_size, verdict);
    origin.arity = (uint8_t)rr__arity(handler, function, 4);
    PyObject *value = rr__body_decode(script->state, handler ? handler->protocol : RR__TEXT,
                                      handler ? handler->type : NULL, key, key_size, NULL);
    if (!value) {
        rr__bump(&script->stats.decode_errors);
        return refuse(script, &origin, "refused: the session key is not what the verifier declared", verdict);
    }
    rr__bump(&script->stats.handlers);
    Py_INCREF(function);
    int rc = call_verifier(script, &origin, function, value, online_time, ip, gate, verdict);
    Py_DECREF(function);
    Py_DECREF(value);
    if (script->early_set)
        mute_task(script);
    rr__turn_end(script);
    if (rc != RR_EHANDLER)
        return rc;
    *verdict = (rr_verdict_t){.code = RR_EREFUSED};
    return RR_OK;
}
