/* handover.c: where a script's on_drain sends a session when its scene hands over, and with what. */
#include "python/convert.h"
#include "python/handler.h"
#include "python/internal.h"
#include "python/session.h"

static int set_scene(rr_script_t *script, PyObject *scene, rr_hand_to_t *to) {
    if (scene == Py_None)
        return 0;
    if (!PyUnicode_Check(scene)) {
        PyErr_Format(PyExc_TypeError, "a scene's name is str, not %.100s", Py_TYPE(scene)->tp_name);
        return -1;
    }
    to->scene = PyUnicode_AsUTF8(scene);
    if (!to->scene || !rr_name_legal(to->scene)) {
        if (to->scene)
            PyErr_Format(PyExc_ValueError, "%R is not the name of a scene", scene);
        return -1;
    }
    Py_XSETREF(script->hand_scene, Py_NewRef(scene));
    return 0;
}

static int set_state(rr_script_t *script, PyObject *state, rr_hand_to_t *to) {
    rr__body_t body;
    if (state == Py_None)
        return 0;
    if (rr__body_from(script->state, state, false, &body) != 0)
        return -1;
    PyObject *bytes = PyBytes_FromStringAndSize(body.data, (Py_ssize_t)body.size);
    rr__body_clear(&body);
    if (!bytes)
        return -1;
    Py_XSETREF(script->hand_state, bytes);
    to->state = PyBytes_AS_STRING(bytes);
    to->size = (size_t)PyBytes_GET_SIZE(bytes);
    return 0;
}

static int parse(rr_script_t *script, PyObject *answer, rr_hand_to_t *to) {
    bool pair = (PyTuple_Check(answer) || PyList_Check(answer)) && PySequence_Fast_GET_SIZE(answer) == 2;
    if (answer == Py_False) {
        to->scene = "";
        return 0;
    }
    if (pair)
        return set_scene(script, PySequence_Fast_GET_ITEM(answer, 0), to) == 0
                   ? set_state(script, PySequence_Fast_GET_ITEM(answer, 1), to)
                   : -1;
    if (answer == Py_None || PyUnicode_Check(answer))
        return set_scene(script, answer, to);
    PyErr_Format(PyExc_TypeError, "on_drain returns a scene's name, (name, state), None or False, not %.100s",
                 Py_TYPE(answer)->tp_name);
    return -1;
}

int rr__hand_to_from(rr_script_t *script, const rr__origin_t *origin, PyObject *answer, rr_hand_to_t *to) {
    *to = (rr_hand_to_t){0};
    if (parse(script, answer, to) == 0)
        return RR_OK;
    rr__report(script, origin);
    return RR_EHANDLER;
}

int rr_script_hand_over(rr_script_t *script, rr_script_session_t *session, uint64_t token, rr_hand_to_t *to) {
    rr__handler_t *handler;
    PyObject *function, *result = NULL;
    if (!rr__handler_callback(script, RR__HAND_OVER, &handler, &function))
        return RR_ENOENT;
    rr__origin_t origin = {.kind = RR__HAND_OVER, .token = token, .subject = session->id};
    PyObject *args[2] = {NULL, rr__subject(handler, session)};
    Py_INCREF(function);
    rr__bump(&script->stats.handlers);
    int rc = RR_EHANDLER;
    if (args[1])
        rc = rr__run(script, &origin, function, args + 1, 1, &result);
    else
        rr__report(script, &origin);
    if (rc == RR_OK)
        rc = rr__hand_to_from(script, &origin, result, to);
    Py_XDECREF(result);
    Py_XDECREF(args[1]);
    Py_DECREF(function);
    rr__turn_end(script);
    return rc;
}
