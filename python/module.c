#include "python/module.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "python/awaitable.h"
#include "python/convert.h"
#include "python/database.h"
#include "python/handler.h"
#include "python/result.h"
#include "python/session.h"
#include "runtime/hash.h"

rr_script_t *rr__script_here(rr__state_t *state) {
    rr_script_t *script = state->script;
    if (script && script->tstate == PyThreadState_Get())
        return script;
    PyErr_SetString(PyExc_RuntimeError,
                    script ? "this works only on the scene's own thread: use redrabbit.call_soon_threadsafe()"
                           : "the scene is over");
    return NULL;
}

static bool takes(Py_ssize_t count, Py_ssize_t least, Py_ssize_t most, const char *name) {
    if (count >= least && count <= most)
        return true;
    PyErr_Format(PyExc_TypeError, "%s() takes %zd to %zd arguments, got %zd", name, least, most, count);
    return false;
}

static PyObject *failed(const char *what, int rc) {
    return PyErr_Format(PyExc_RuntimeError, "%s: %s", what, rr_strerror(rc));
}

/* RR_OK -> True, not held / not there -> False, anything else -> an error. */
static PyObject *yes_or_no(int rc, const char *what) {
    if (rc == RR_OK)
        Py_RETURN_TRUE;
    if (rc == RR_ENOENT || rc == RR_NOROUTE)
        Py_RETURN_FALSE;
    return rc == RR_ETOOBIG ? PyErr_Format(PyExc_ValueError, "%s: the body is too big", what) : failed(what, rc);
}

/* ---- Sending ---- */

/* The host's session behind an argument, as far as it is known without a look-up: a Session object, or the very id object
 * that the running handler was given (the usual answer to whoever asked). */
static void *known_session(const rr_script_t *script, PyObject *who) {
    if (script->current && (who == script->current->id || who == (PyObject *)script->current))
        return script->current->host;
    return Py_IS_TYPE(who, script->state->session_type) ? ((rr_script_session_t *)who)->host : NULL;
}

static int send_by_id(rr_script_t *script, PyObject *who, uint16_t cmd, const rr__body_t *body, int *rc) {
    rr_sid_t id;
    if (rr__sid_from(script->state, who, &id) != 0)
        return -1;
    *rc = script->host.send(script->context, &id, cmd, body->data, body->size, body->text);
    return 0;
}

PyObject *rr__module_send(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    rr__state_t *state = rr__module_state(module);
    rr_script_t *script = rr__script_here(state);
    uint16_t cmd;
    rr__body_t body;
    if (!script || !takes(count, 3, 3, "send") || rr__cmd_from(args[1], &cmd) != 0 ||
        rr__body_from(state, args[2], false, &body) != 0)
        return NULL;
    int rc = RR_ENOENT, failed = 0;
    if (!rr__session_gone(state, args[0])) { /* encoding the body may have run Python: looked at now, not before */
        void *session = known_session(script, args[0]);
        if (session)
            rc = script->host.send_to(script->context, session, cmd, body.data, body.size, body.text);
        if (rc == RR_ENOENT)
            failed = send_by_id(script, args[0], cmd, &body, &rc);
    }
    rr__body_clear(&body);
    return failed ? NULL : yes_or_no(rc, "send");
}

static PyObject *module_multi_send(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    rr__state_t *state = rr__module_state(module);
    rr_script_t *script = rr__script_here(state);
    uint16_t cmd;
    rr__body_t body;
    if (!script || !takes(count, 3, 3, "multi_send") || rr__cmd_from(args[1], &cmd) != 0)
        return NULL;
    PyObject *list = PySequence_Fast(args[0], "multi_send() wants the session ids as a list");
    if (!list)
        return NULL;
    size_t held = 0;
    int rc = rr__body_from(state, args[2], false, &body);
    if (rc == 0) { /* encoding the body may have run Python, and changed the list: read now, not before */
        rr__ids_t ids;
        Py_ssize_t n = PySequence_Fast_GET_SIZE(list);
        rc = rr__ids_from(state, PySequence_Fast_ITEMS(list), n, &ids);
        if (rc == 0)
            held = script->host.multi_send(script->context, ids.ids, (size_t)n, ids.list, cmd, body.data, body.size, body.text);
        rr__ids_clear(&ids);
        rr__body_clear(&body);
    }
    Py_DECREF(list);
    return rc == 0 ? PyLong_FromSize_t(held) : NULL;
}

static PyObject *module_broadcast(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    rr__state_t *state = rr__module_state(module);
    rr_script_t *script = rr__script_here(state);
    uint16_t cmd;
    rr__body_t body;
    if (!script || !takes(count, 2, 2, "broadcast") || rr__cmd_from(args[0], &cmd) != 0 ||
        rr__body_from(state, args[1], false, &body) != 0)
        return NULL;
    int rc = script->host.broadcast(script->context, cmd, body.data, body.size, body.text);
    rr__body_clear(&body);
    return yes_or_no(rc, "broadcast");
}

static PyObject *module_broadcast_gate(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    rr__state_t *state = rr__module_state(module);
    rr_script_t *script = rr__script_here(state);
    uint16_t cmd;
    rr__body_t body;
    if (!script || !takes(count, 3, 3, "broadcast_gate"))
        return NULL;
    const char *gate = PyUnicode_AsUTF8(args[0]);
    if (!gate || rr__cmd_from(args[1], &cmd) != 0 || rr__body_from(state, args[2], false, &body) != 0)
        return NULL;
    int rc = script->host.broadcast_gate(script->context, gate, cmd, body.data, body.size, body.text);
    rr__body_clear(&body);
    return yes_or_no(rc, "broadcast_gate");
}

PyObject *rr__module_close(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    rr__state_t *state = rr__module_state(module);
    rr_script_t *script = rr__script_here(state);
    rr_sid_t id;
    if (!script || !takes(count, 1, 1, "close") || rr__sid_from(state, args[0], &id) != 0)
        return NULL;
    if (rr__session_gone(state, args[0]))
        Py_RETURN_FALSE;
    return yes_or_no(script->host.close(script->context, &id), "close");
}

/* ---- Waiting ---- */

static PyObject *give_up(rr_script_t *script, PyObject *future, uint64_t token, const char *what, int rc) {
    rr__wait_drop(script, token);
    Py_DECREF(future);
    return failed(what, rc);
}

/* ---- Moving ---- */

static int move(rr_script_t *script, PyObject *const *args, Py_ssize_t count, uint64_t token) {
    rr_sid_t id;
    rr__body_t body = {0};
    const char *scene = PyUnicode_AsUTF8(args[1]);
    if (!scene || rr__sid_from(script->state, args[0], &id) != 0 ||
        (count > 2 && rr__body_from(script->state, args[2], false, &body) != 0))
        return 1;
    int rc = RR_ENOENT;
    if (!rr__session_gone(script->state, args[0]))
        rc = script->host.change_scene(script->context, &id, scene, body.data, body.size, token);
    rr__body_clear(&body);
    return rc;
}

PyObject *rr__module_move(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    rr_script_t *script = rr__script_here(rr__module_state(module));
    uint64_t token;
    if (!script || !takes(count, 2, 3, "move"))
        return NULL;
    PyObject *future = rr__wait_future(script, RR__WAIT_FUTURE, NULL, &token, NULL);
    if (!future)
        return NULL;
    int rc = move(script, args, count, token);
    if (rc == RR_OK)
        return future;
    if (rc < 0)
        return give_up(script, future, token, "move", rc);
    rr__wait_drop(script, token);
    Py_DECREF(future);
    return NULL;
}

/* change_session_scene: True or False at once; a late failure is logged. */
static PyObject *module_move_now(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    rr_script_t *script = rr__script_here(rr__module_state(module));
    if (!script || !takes(count, 2, 3, "change_session_scene"))
        return NULL;
    PyObject *what = PyUnicode_FromFormat("session %R to scene %R", args[0], args[1]);
    uint64_t token = what ? rr__wait_new(script, RR__WAIT_REPORT, NULL, what, NULL) : 0;
    Py_XDECREF(what);
    if (!token)
        return NULL;
    int rc = move(script, args, count, token);
    if (rc != RR_OK)
        rr__wait_drop(script, token);
    if (rc == RR_ESTATE) {
        rr__note(script, RR_WARN, script->origin, "change_session_scene: the session is on its way already, or the scene is stopping");
        Py_RETURN_FALSE;
    }
    return rc > 0 ? NULL : yes_or_no(rc, "change_session_scene");
}

/* drain(to or None, timeout_ms): a future of [moved, left]. */
static PyObject *module_drain(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    rr_script_t *script = rr__script_here(rr__module_state(module));
    uint64_t token;
    if (!script || !takes(count, 2, 2, "drain"))
        return NULL;
    const char *to = args[0] == Py_None ? NULL : PyUnicode_AsUTF8(args[0]);
    unsigned long ms = PyErr_Occurred() ? 0 : PyLong_AsUnsignedLong(args[1]);
    if (PyErr_Occurred())
        return NULL;
    if (to && !rr_name_legal(to))
        return PyErr_Format(PyExc_ValueError, "%R is not the name of a scene", args[0]);
    PyObject *future = rr__wait_future(script, RR__WAIT_FUTURE, NULL, &token, NULL);
    if (!future)
        return NULL;
    int rc = script->host.hand_over(script->context, to, ms > UINT_MAX ? UINT_MAX : (unsigned)ms, token);
    return rc == RR_OK ? future : give_up(script, future, token, "drain", rc);
}

/* ---- Login answers ---- */

static PyObject *module_verdict(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    rr_script_t *script = rr__script_here(rr__module_state(module));
    if (!script || !takes(count, 3, 3, "on_verify_auth_callback"))
        return NULL;
    uint64_t cb_id = PyLong_AsUnsignedLongLong(args[2]);
    if (cb_id == (uint64_t)-1 && PyErr_Occurred())
        return NULL;
    rr_verdict_t verdict;
    if (rr__verdict_build(script, args[0], args[1], &verdict) != RR_OK)
        return NULL;
    rr__origin_t *origin = script->origin;
    int rc;
    if (script->verifying && script->verifying_id == cb_id) { /* inside the verifier: its host still waits */
        rc = script->early_set ? RR_ENOENT : RR_OK;
        if (rc == RR_OK) {
            script->early = verdict;
            script->early_set = true;
            script->early_id = script->verdict_id; /* its bytes outlive further verdicts */
            script->early_extra = script->verdict_extra;
            script->verdict_id = script->verdict_extra = NULL;
        }
    } else {
        if (origin && origin->kind == RR__VERIFY && origin->token == cb_id)
            origin->answered = true;
        rc = script->host.verdict(script->context, cb_id, &verdict);
    }
    if (rc == RR_OK)
        Py_RETURN_TRUE;
    char text[96];
    int length = snprintf(text, sizeof text, "on_verify_auth_callback: unknown or already answered cb_id %llu",
                          (unsigned long long)cb_id);
    script->host.log(script->context, RR_WARN, "PYTHON", text, (size_t)length);
    Py_RETURN_FALSE;
}

/* ---- Timers and calls ---- */

static PyObject *module_timer(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    rr_script_t *script = rr__script_here(rr__module_state(module));
    if (!script || !takes(count, 4, 4, "timer"))
        return NULL;
    uint64_t delay = PyLong_AsUnsignedLongLong(args[0]);
    uint64_t repeat = PyErr_Occurred() ? 0 : PyLong_AsUnsignedLongLong(args[1]);
    if (PyErr_Occurred()) {
        PyErr_Clear();
        return PyErr_Format(PyExc_ValueError, "a timer wants whole milliseconds, 0 or more");
    }
    if (!PyCallable_Check(args[2]) || !PyTuple_Check(args[3]))
        return PyErr_Format(PyExc_TypeError, "a timer wants a function");
    rr__wait_t *wait;
    uint64_t token = rr__wait_new(script, RR__WAIT_TIMER, args[2], args[3], &wait);
    if (!token)
        return NULL;
    wait->timer = true;
    wait->repeat = repeat > 0;
    int rc = script->host.timer_start(script->context, delay, repeat, token);
    if (rc == RR_OK)
        return PyLong_FromUnsignedLongLong(token);
    wait->timer = false;
    rr__wait_drop(script, token);
    return failed("timer", rc);
}

static rr__wait_t *timer_of(rr_script_t *script, uint64_t token) {
    rr__wait_t *wait = rr__tokens_get(&script->waits, token);
    return wait && wait->kind == RR__WAIT_TIMER ? wait : NULL;
}

static PyObject *module_timer_cancel(PyObject *module, PyObject *id) {
    rr_script_t *script = rr__script_here(rr__module_state(module));
    uint64_t token = script ? PyLong_AsUnsignedLongLong(id) : 0;
    if (PyErr_Occurred())
        return NULL;
    return PyBool_FromLong(timer_of(script, token) && rr__wait_drop(script, token));
}

/* [(id, function)] of all timers that will still fire. */
static PyObject *module_timers(PyObject *module, PyObject *unused) {
    rr_script_t *script = rr__script_here(rr__module_state(module));
    PyObject *list = script ? PyList_New(0) : NULL;
    uint64_t token;
    size_t at = 0;
    for (rr__wait_t *wait; list && (wait = rr__tokens_next(&script->waits, &at, &token));) {
        if (wait->kind != RR__WAIT_TIMER)
            continue;
        PyObject *pair = Py_BuildValue("(KO)", (unsigned long long)token, wait->target);
        if (!pair || PyList_Append(list, pair) != 0)
            Py_CLEAR(list);
        Py_XDECREF(pair);
    }
    return list;
}

/* Gives a timer another function; one that is over meanwhile does not matter. */
static PyObject *module_timer_set(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    rr_script_t *script = rr__script_here(rr__module_state(module));
    if (!script || !takes(count, 2, 2, "timer_set"))
        return NULL;
    rr__wait_t *wait = timer_of(script, PyLong_AsUnsignedLongLong(args[0]));
    if (PyErr_Occurred())
        return NULL;
    if (wait)
        Py_SETREF(wait->target, Py_NewRef(args[1]));
    Py_RETURN_NONE;
}

static PyObject *module_sleep(PyObject *module, PyObject *seconds) {
    rr_script_t *script = rr__script_here(rr__module_state(module));
    double value = script ? PyFloat_AsDouble(seconds) : 0;
    if (PyErr_Occurred())
        return NULL;
    if (!(value >= 0 && value < 1e11))
        return PyErr_Format(PyExc_ValueError, "sleep() wants 0 or more seconds");
    uint64_t token, ms = (uint64_t)(value * 1000);
    rr__wait_t *wait;
    PyObject *future = rr__wait_future(script, RR__WAIT_FUTURE, NULL, &token, &wait);
    if (!future)
        return NULL;
    wait->timer = true;
    if ((double)ms < value * 1000)
        ms++;
    int rc = script->host.timer_start(script->context, ms, 0, token);
    if (rc == RR_OK)
        return future;
    wait->timer = false;
    return give_up(script, future, token, "sleep", rc);
}

/* (name, method, body, json_text, timeout_ms, group): what both kinds of call share. 1 = an exception is raised. */
static int start_call(rr_script_t *script, PyObject *const *args, uint64_t token) {
    const char *name = PyUnicode_AsUTF8(args[0]);
    const char *group = args[5] == Py_None ? NULL : PyUnicode_AsUTF8(args[5]);
    long timeout = PyLong_AsLong(args[4]);
    if (PyErr_Occurred() || !name)
        return 1;
    if (timeout < 0 || timeout > 86400000) {
        PyErr_SetString(PyExc_ValueError, "a call's time-out is 0 to 86,400 seconds");
        return 1;
    }
    rr__body_t body;
    PyObject *method = PyObject_Str(args[1]);
    const char *text = method ? PyUnicode_AsUTF8(method) : NULL;
    int rc = text && rr__body_from(script->state, args[2], args[3] == Py_True, &body) == 0 ? RR_OK : 1;
    if (rc == RR_OK) {
        rc = script->host.call(script->context, group, name, text, body.data, body.size, (unsigned)timeout, token);
        rr__body_clear(&body);
    }
    Py_XDECREF(method);
    return rc;
}

/* call(name, method, body, json_text, timeout_ms, group, reply_type) -> future */
static PyObject *module_call(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    rr_script_t *script = rr__script_here(rr__module_state(module));
    uint64_t token;
    if (!script || !takes(count, 7, 7, "call"))
        return NULL;
    PyObject *future = rr__wait_future(script, RR__WAIT_FUTURE, args[6] == Py_None ? NULL : args[6], &token, NULL);
    if (!future)
        return NULL;
    int rc = start_call(script, args, token);
    if (rc == RR_OK)
        return future;
    if (rc < 0)
        return give_up(script, future, token, "call", rc);
    rr__wait_drop(script, token);
    Py_DECREF(future);
    return NULL;
}

/* call_back(name, method, body, json_text, timeout_ms, group, callback or None) */
static PyObject *module_call_back(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    rr_script_t *script = rr__script_here(rr__module_state(module));
    if (!script || !takes(count, 7, 7, "call_service"))
        return NULL;
    PyObject *callback = args[6] == Py_None ? NULL : args[6];
    if (callback && !PyCallable_Check(callback))
        return PyErr_Format(PyExc_TypeError, "the callback of call_service() must be callable");
    uint64_t token = rr__wait_new(script, RR__WAIT_CALLBACK, callback, NULL, NULL);
    if (!token)
        return NULL;
    int rc = start_call(script, args, token);
    if (rc == RR_OK)
        Py_RETURN_NONE;
    rr__wait_drop(script, token);
    return rc < 0 ? failed("call_service", rc) : NULL;
}

/* spawn(coroutine) -> Task */
static PyObject *module_spawn(PyObject *module, PyObject *coroutine) {
    rr_script_t *script = rr__script_here(rr__module_state(module));
    if (!script)
        return NULL;
    rr__origin_t origin = {.kind = RR__SPAWNED};
    PyObject *context = PyContext_CopyCurrent();
    rr__task_t *task = context ? rr__task_new(script, coroutine, &origin, context) : NULL;
    Py_XDECREF(context);
    if (!task)
        return NULL;
    task->queued = true;
    if (rr__ready_push(script, (PyObject *)task, NULL) == 0)
        return (PyObject *)task;
    Py_DECREF(task);
    return NULL;
}

/* context() -> the contextvars.Context that runs: each handler, and each spawned one, has its own */
static PyObject *module_context(PyObject *module, PyObject *none) {
    PyObject *context = rr__context_here();
    return Py_NewRef(context ? context : Py_None);
}

/* ---- Questions ---- */

static PyObject *module_exists(PyObject *module, PyObject *name) {
    rr_script_t *script = rr__script_here(rr__module_state(module));
    const char *text = script ? PyUnicode_AsUTF8(name) : NULL;
    return text ? PyBool_FromLong(script->host.exists(script->context, text)) : NULL;
}

static PyObject *module_alloc_id(PyObject *module, PyObject *unused) {
    rr_script_t *script = rr__script_here(rr__module_state(module));
    return script ? PyLong_FromUnsignedLongLong(script->host.alloc_id(script->context)) : NULL;
}

static PyObject *module_config(PyObject *module, PyObject *option) {
    rr_script_t *script = rr__script_here(rr__module_state(module));
    const char *text = script ? PyUnicode_AsUTF8(option) : NULL;
    if (!text)
        return NULL;
    const char *value = script->host.config(script->context, text);
    return value ? PyUnicode_DecodeUTF8(value, (Py_ssize_t)strlen(value), "surrogateescape") : Py_NewRef(Py_None);
}

static PyObject *module_name(PyObject *module, PyObject *unused) {
    rr__state_t *state = rr__module_state(module);
    return PyUnicode_FromString(state->script ? state->script->scene : "");
}

static PyObject *module_epoch(PyObject *module, PyObject *unused) {
    rr_script_t *script = rr__script_here(rr__module_state(module));
    return script ? PyLong_FromUnsignedLongLong(script->host.epoch(script->context)) : NULL;
}

static void collect(void *context, const rr_sid_t *id) {
    PyObject *list = context, *object = PyErr_Occurred() ? NULL : rr__sid_object(id);
    if (object)
        (void)PyList_Append(list, object); /* its error is looked at when all are through */
    Py_XDECREF(object);
}

static PyObject *module_session_ids(PyObject *module, PyObject *unused) {
    rr_script_t *script = rr__script_here(rr__module_state(module));
    PyObject *list = script ? PyList_New(0) : NULL;
    if (list)
        script->host.sessions(script->context, collect, list);
    if (list && PyErr_Occurred())
        Py_CLEAR(list);
    return list;
}

static PyObject *module_session(PyObject *module, PyObject *id) {
    rr_script_t *script = rr__script_here(rr__module_state(module));
    if (!script)
        return NULL;
    PyObject *session = PyDict_GetItemWithError(script->sessions, id);
    if (!session && PyErr_Occurred())
        return NULL;
    return Py_NewRef(session ? session : Py_None);
}

static PyObject *module_connect_outer(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    rr_script_t *script = rr__script_here(rr__module_state(module));
    if (!script || !takes(count, 2, 2, "connect_to_outer_service"))
        return NULL;
    const char *name = PyUnicode_AsUTF8(args[0]), *address = name ? PyUnicode_AsUTF8(args[1]) : NULL;
    return address ? PyLong_FromLong(script->host.connect_outer(script->context, name, address)) : NULL;
}

/* ---- Registrations, for decorators and reload ---- */

static PyObject *module_registrations(PyObject *module, PyObject *unused) {
    rr_script_t *script = rr__script_here(rr__module_state(module));
    return script ? PyDict_Values(script->registry) : NULL;
}

static PyObject *module_restore(PyObject *module, PyObject *handlers) {
    rr_script_t *script = rr__script_here(rr__module_state(module));
    return script && rr__handler_replace_all(script, handlers) == 0 ? Py_NewRef(Py_None) : NULL;
}

/* The hash of the script's text, for "which version runs there". */
static PyObject *module_set_version(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    rr_script_t *script = rr__script_here(rr__module_state(module));
    if (!script || !takes(count, 2, 2, "set_version"))
        return NULL;
    unsigned version = atomic_load_explicit(&script->stats.version, memory_order_relaxed);
    atomic_store_explicit(&script->stats.version, version + 1, memory_order_relaxed);
    if (args[1] == Py_True)
        rr__bump(&script->stats.reloads);
    if (!PyBytes_Check(args[0]))
        Py_RETURN_NONE;
    uint64_t hash = rr_hash_bytes(PyBytes_AS_STRING(args[0]), (size_t)PyBytes_GET_SIZE(args[0]));
    atomic_store_explicit(&script->stats.source_hash, hash, memory_order_relaxed);
    Py_RETURN_NONE;
}

/* ---- Bodies ---- */

static PyObject *module_encode(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    rr__body_t body;
    if (!takes(count, 1, 2, "encode") ||
        rr__body_from(rr__module_state(module), args[0], count == 2 && args[1] == Py_True, &body) != 0)
        return NULL;
    PyObject *bytes = PyBytes_FromStringAndSize(body.data, (Py_ssize_t)body.size);
    rr__body_clear(&body);
    return bytes;
}

static PyObject *module_decode_json(PyObject *module, PyObject *value) {
    rr__state_t *state = rr__module_state(module);
    rr__body_t body;
    if (rr__body_from(state, value, false, &body) != 0)
        return NULL;
    PyObject *result = rr__json_decode(state, body.data, body.size);
    rr__body_clear(&body);
    return result;
}

/* ---- Lines of output and log: from other threads they wait for the scene's next turn ---- */

static int keep_line(rr_script_t *script, int kind, PyObject *name, PyObject *text) {
    if (script->foreign_count == RR__MAX_FOREIGN_LINES) {
        script->foreign_lost++;
        return 0;
    }
    if (!script->foreign_lines)
        script->foreign_lines = calloc(RR__MAX_FOREIGN_LINES, sizeof *script->foreign_lines);
    if (!script->foreign_lines)
        return -1;
    script->foreign_lines[script->foreign_count++] =
        (rr__foreign_line_t){kind, Py_XNewRef(name), Py_NewRef(text)};
    script->host.wake_threadsafe(script->context);
    return 0;
}

int rr__line_out(rr_script_t *script, int kind, PyObject *name, PyObject *text) {
    Py_ssize_t size;
    PyObject *owner;
    const char *line = rr__utf8(text, &size, &owner);
    const char *module = name ? PyUnicode_AsUTF8(name) : "PYTHON";
    if (!line || !module)
        return -1;
    if (kind >= 2)
        script->host.log(script->context, (rr_level_t)(kind - 2), module, line, (size_t)size);
    else if (script->to_log)
        script->host.log(script->context, kind ? RR_ERROR : RR_INFO, module, line, (size_t)size);
    else
        script->host.print(script->context, kind == 1, line, (size_t)size);
    Py_XDECREF(owner);
    return 0;
}

static PyObject *line(PyObject *module, int kind, PyObject *name, PyObject *text) {
    rr_script_t *script = rr__module_state(module)->script;
    if (!PyUnicode_Check(text) || (name && !PyUnicode_Check(name)))
        return PyErr_Format(PyExc_TypeError, "text must be str");
    if (!script)
        Py_RETURN_NONE;
    int rc = script->tstate == PyThreadState_Get() ? rr__line_out(script, kind, name, text)
                                                   : keep_line(script, kind, name, text);
    if (rc == 0)
        Py_RETURN_NONE;
    return PyErr_Occurred() ? NULL : PyErr_NoMemory();
}

/* print_line(error, text) */
static PyObject *module_print_line(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    return takes(count, 2, 2, "print_line") ? line(module, args[0] == Py_True, NULL, args[1]) : NULL;
}

/* log(level, module, text) */
static PyObject *module_log(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    if (!takes(count, 3, 3, "log"))
        return NULL;
    long level = PyLong_AsLong(args[0]);
    if (PyErr_Occurred())
        return NULL;
    if (level < RR_FATAL || level > RR_TRACE)
        return PyErr_Format(PyExc_ValueError, "a log level is 1 (fatal) to 6 (trace)");
    return line(module, (int)level + 2, args[1], args[2]);
}

static PyObject *module_stdout_to_log(PyObject *module, PyObject *on) {
    rr_script_t *script = rr__script_here(rr__module_state(module));
    if (!script)
        return NULL;
    script->to_log = PyObject_IsTrue(on) == 1;
    Py_RETURN_NONE;
}

/* call_soon_threadsafe(function, args) from any thread of this interpreter. */
static PyObject *module_call_soon(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    rr_script_t *script = rr__module_state(module)->script;
    if (!takes(count, 2, 2, "call_soon_threadsafe"))
        return NULL;
    if (!script)
        return PyErr_Format(PyExc_RuntimeError, "the scene is over");
    if (PyList_GET_SIZE(script->foreign_calls) >= (Py_ssize_t)RR__MAX_TASKS)
        return PyErr_Format(PyExc_RuntimeError, "too many calls wait for the scene");
    PyObject *pair = PyTuple_Pack(2, args[0], args[1]);
    int rc = pair ? PyList_Append(script->foreign_calls, pair) : -1;
    Py_XDECREF(pair);
    if (rc != 0)
        return NULL;
    script->host.wake_threadsafe(script->context);
    Py_RETURN_NONE;
}

/* configure(scan, encode, thrift_encode, typed_decode, cancelled): redrabbit._host hands in what Python does better. */
static PyObject *module_configure(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    rr__state_t *state = rr__module_state(module);
    if (!takes(count, 5, 5, "configure"))
        return NULL;
    Py_XSETREF(state->json_scan, Py_NewRef(args[0]));
    Py_XSETREF(state->json_encode, Py_NewRef(args[1]));
    Py_XSETREF(state->thrift_encode, Py_NewRef(args[2]));
    Py_XSETREF(state->typed_decode, Py_NewRef(args[3]));
    if (args[4] != Py_None)
        Py_XSETREF(state->cancelled_error, Py_NewRef(args[4]));
    Py_RETURN_NONE;
}

static PyObject *module_facts(PyObject *module, PyObject *unused) {
    static const char *const kinds[] = {"default", "own", "shared", "main"};
    rr_script_t *script = rr__module_state(module)->script;
    if (!script)
        return PyErr_Format(PyExc_RuntimeError, "no scene runs here");
    return Py_BuildValue("{s:s,s:s,s:s,s:s,s:O,s:O,s:s,s:s,s:d}", "scene", script->scene, "file", script->file, "module",
                         script->name, "interpreter", kinds[script->kind], "asyncio",
                         script->asyncio ? Py_True : Py_False, "reload_on_save",
                         script->reload_on_save ? Py_True : Py_False, "package_path", rr__python_package_path(), "venv",
                         rr__python_venv() ? rr__python_venv() : "", "switch_interval", rr__python_switch_interval());
}

/* ---- The module ---- */

#define FAST(name) (PyCFunction)(void (*)(void))(name), METH_FASTCALL

static PyMethodDef functions[] = {
    {"send", FAST(rr__module_send), PyDoc_STR("send($module, id, cmd, body, /)\n--\n\nTo one session.")},
    {"multi_send", FAST(module_multi_send), PyDoc_STR("multi_send($module, ids, cmd, body, /)\n--\n\nTo many.")},
    {"broadcast", FAST(module_broadcast), PyDoc_STR("broadcast($module, cmd, body, /)\n--\n\nTo all held.")},
    {"broadcast_gate", FAST(module_broadcast_gate),
     PyDoc_STR("broadcast_gate($module, gate, cmd, body, /)\n--\n\nTo all clients of a gate.")},
    {"close", FAST(rr__module_close), PyDoc_STR("close($module, id, /)\n--\n\nAfter what was sent before.")},
    {"move", FAST(rr__module_move), PyDoc_STR("move($module, id, scene, extra='', /)\n--\n\nAwait it for the end.")},
    {"move_now", FAST(module_move_now), PyDoc_STR("move_now($module, id, scene, extra='', /)\n--\n\nTrue or False.")},
    {"drain", FAST(module_drain), PyDoc_STR("drain($module, to, timeout_ms, /)\n--\n\nAwait it for [moved, left].")},
    {"verdict", FAST(module_verdict), PyDoc_STR("verdict($module, id, extra, cb_id, /)\n--\n\nA late answer.")},
    {"timer", FAST(module_timer), PyDoc_STR("timer($module, delay_ms, repeat_ms, function, args, /)\n--\n\n")},
    {"timer_cancel", module_timer_cancel, METH_O, PyDoc_STR("timer_cancel($module, id, /)\n--\n\n")},
    {"timers", module_timers, METH_NOARGS, NULL},
    {"timer_set", FAST(module_timer_set), NULL},
    {"sleep", module_sleep, METH_O, PyDoc_STR("sleep($module, seconds, /)\n--\n\nAwait it.")},
    {"call", FAST(module_call), NULL},
    {"call_back", FAST(module_call_back), NULL},
    {"context", module_context, METH_NOARGS, PyDoc_STR("context($module, /)\n--\n\nThe context that runs.")},
    {"spawn", module_spawn, METH_O, PyDoc_STR("spawn($module, coroutine, /)\n--\n\nRuns it by itself.")},
    {"exists", module_exists, METH_O, PyDoc_STR("exists($module, name, /)\n--\n\nWhether an actor has that name.")},
    {"alloc_id", module_alloc_id, METH_NOARGS, NULL},
    {"config", module_config, METH_O, NULL},
    {"name", module_name, METH_NOARGS, NULL},
    {"epoch", module_epoch, METH_NOARGS, NULL},
    {"session_ids", module_session_ids, METH_NOARGS, NULL},
    {"session", module_session, METH_O, NULL},
    {"connect_outer", FAST(module_connect_outer), NULL},
    {"register", FAST(rr__module_register), NULL},
    {"registrations", module_registrations, METH_NOARGS, NULL},
    {"restore", module_restore, METH_O, NULL},
    {"set_version", FAST(module_set_version), NULL},
    {"encode", FAST(module_encode), NULL},
    {"decode_json", module_decode_json, METH_O, NULL},
    {"json_default", rr__json_default, METH_O, NULL},
    {"print_line", FAST(module_print_line), NULL},
    {"log", FAST(module_log), NULL},
    {"stdout_to_log", module_stdout_to_log, METH_O, NULL},
    {"call_soon", FAST(module_call_soon), NULL},
    {"configure", FAST(module_configure), NULL},
    {"facts", module_facts, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static int add_type(PyObject *module, PyType_Spec *spec, PyObject *base, PyTypeObject **out) {
    PyObject *bases = base ? PyTuple_Pack(1, base) : NULL;
    *out = (PyTypeObject *)PyType_FromModuleAndSpec(module, spec, bases);
    Py_XDECREF(bases);
    return *out ? PyModule_AddType(module, *out) : -1;
}

static int add_error(PyObject *module, const char *name, const char *doc, PyObject *base, PyObject **out) {
    char full[64];
    snprintf(full, sizeof full, "redrabbit.%s", name);
    *out = PyErr_NewExceptionWithDoc(full, doc, base, NULL);
    return *out ? PyModule_AddObjectRef(module, name, *out) : -1;
}

static int add_names(rr__state_t *state) {
    const struct {
        PyObject **to;
        const char *text;
    } names[] = {{&state->name_thrift_spec, "thrift_spec"}, {&state->name_serialize, "SerializeToString"},
                 {&state->name_throw, "throw"},             {&state->name_cancel, "cancel"},
                 {&state->name_set_result, "set_result"},   {&state->name_set_exception, "set_exception"},
                 {&state->name_done, "done"},               {&state->name_create_future, "create_future"},
                 {&state->empty_text, ""}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        *names[i].to = PyUnicode_InternFromString(names[i].text);
        if (!*names[i].to)
            return -1;
    }
    return 0;
}

/* ---- A module whose own class has properties ---- */

/* The interpreter looks names of such a module up anew each time, in its class first. What is in its dict is found here with
 * one look: properties are not. */
static PyObject *api_getattro(PyObject *module, PyObject *name) {
    PyObject *dict = PyModule_GetDict(module); /* borrowed */
    PyObject *value = dict ? PyDict_GetItemWithError(dict, name) : NULL;
    if (value)
        return Py_NewRef(value);
    return PyErr_Occurred() ? NULL : PyModule_Type.tp_getattro(module, name);
}

static PyType_Slot api_slots[] = {
    {Py_tp_getattro, api_getattro},
    {Py_tp_doc, (void *)PyDoc_STR("Base of a module's class: its functions are found faster than properties.")},
    {0, NULL},
};
static PyType_Spec api_spec = {
    .name = "_redrabbit.Api",
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots = api_slots,
};

static int add_api(PyObject *module) {
    PyTypeObject *type;
    int rc = add_type(module, &api_spec, (PyObject *)&PyModule_Type, &type);
    Py_XDECREF(type); /* the module keeps it */
    return rc;
}

static int execute(PyObject *module) {
    rr__state_t *state = rr__module_state(module);
    memset(state, 0, sizeof *state);
    if (add_names(state) != 0 || add_type(module, &rr__future_spec, NULL, &state->future_type) != 0 ||
        add_type(module, &rr__task_spec, NULL, &state->task_type) != 0 ||
        add_type(module, &rr__session_spec, NULL, &state->session_type) != 0 ||
        add_type(module, &rr__handler_spec, NULL, &state->handler_type) != 0 ||
        add_type(module, &rr__buffer_spec, NULL, &state->buffer_type) != 0 ||
        add_type(module, &rr__result_spec, (PyObject *)&PyList_Type, &state->result_type) != 0 ||
        add_api(module) != 0 || PyModule_AddFunctions(module, rr__database_functions) != 0)
        return -1;
    if (add_error(module, "CancelledError", "The handler or task was cancelled.", PyExc_BaseException,
                  &state->cancelled_error) != 0 ||
        add_error(module, "HandlerTimeout", "The watchdog stops a handler that ran too long.", PyExc_BaseException,
                  &state->handler_timeout) != 0 ||
        add_error(module, "CallError", "A call of another actor ended in an error; its text says which.", NULL,
                  &state->call_error) != 0)
        return -1;
    return 0;
}

static int module_traverse(PyObject *module, visitproc visit, void *arg) {
    rr__state_t *s = rr__module_state(module);
    PyObject *all[] = {(PyObject *)s->future_type, (PyObject *)s->task_type, (PyObject *)s->session_type,
                       (PyObject *)s->handler_type, (PyObject *)s->buffer_type, s->cancelled_error, s->handler_timeout,
                       s->call_error, s->json_scan, s->json_encode, s->thrift_encode, s->typed_decode,
                       (PyObject *)s->result_type, s->database_error, s->database_event, s->database_down};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        Py_VISIT(all[i]);
    return rr__types_traverse(&s->types, visit, arg);
}

static int module_clear(PyObject *module) {
    rr__state_t *s = rr__module_state(module);
    PyObject **all[] = {(PyObject **)&s->future_type, (PyObject **)&s->task_type, (PyObject **)&s->session_type,
                        (PyObject **)&s->handler_type, (PyObject **)&s->buffer_type, &s->cancelled_error,
                        &s->handler_timeout, &s->call_error, &s->json_scan, &s->json_encode, &s->thrift_encode,
                        &s->typed_decode, &s->empty_text, &s->name_thrift_spec, &s->name_serialize, &s->name_throw,
                        &s->name_cancel, &s->name_set_result, &s->name_set_exception, &s->name_done,
                        &s->name_create_future, (PyObject **)&s->result_type, &s->database_error,
                        &s->database_event, &s->database_down};
    rr__types_clear(&s->types);
    rr__id_lists_clear(&s->lists);
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        Py_CLEAR(*all[i]);
    return 0;
}

static void module_free(void *module) { module_clear(module); }

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, execute},
#if PY_VERSION_HEX >= 0x030C0000
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
    {0, NULL},
};
static PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_redrabbit",
    .m_doc = PyDoc_STR("What the RedRabbit runtime offers to a scene's Python; use the package redrabbit instead."),
    .m_size = sizeof(rr__state_t),
    .m_methods = functions,
    .m_slots = module_slots,
    .m_traverse = module_traverse,
    .m_clear = module_clear,
    .m_free = module_free,
};

PyMODINIT_FUNC rr__module_init(void) { return PyModuleDef_Init(&definition); }
