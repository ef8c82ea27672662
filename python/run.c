/* run.c: how Python code is run as a handler, and what follows when it ends. */
#include "python/awaitable.h"
#include "python/convert.h"
#include "python/internal.h"
#include "python/module.h"
#include "python/watchdog.h"
#include "runtime/clock.h"

#include <string.h>

#define SLOW_MS 100 /* who develops is told of handlers that take longer */

/* An exception that is on its way stays that. */
static void note_slow(rr_script_t *script) {
    const rr__origin_t *origin = script->origin;
    if (rr_machine_ms() - script->began_ms < SLOW_MS ||
        (origin && (origin->kind == RR__LOAD || origin->kind == RR__INIT)))
        return;
    PyObject *error = rr__exception_take();
    rr__note(script, RR_WARN, origin, "it held its scene up for more than 100 ms, in which nothing else of that scene ran");
    if (error)
        rr__exception_raise(error);
}

void rr__python_begin(rr_script_t *script) {
    rr__watch_t *watch = &script->watch;
    if (script->reload_on_save && watch->depth == 0)
        script->began_ms = rr_machine_ms();
    if (watch->depth++ == 0)
        atomic_store_explicit(&watch->sequence, atomic_load_explicit(&watch->sequence, memory_order_relaxed) + 1,
                              memory_order_release);
}

void rr__python_end(rr_script_t *script) {
    rr__watch_t *watch = &script->watch;
    if (--watch->depth > 0)
        return;
    atomic_store_explicit(&watch->sequence, atomic_load_explicit(&watch->sequence, memory_order_relaxed) + 1,
                          memory_order_release);
    if (watch->struck)
        rr__watchdog_clear(script);
    if (script->reload_on_save)
        note_slow(script);
}

/* ---- Errors ---- */

static PyObject *describe(const rr__origin_t *origin) {
    if (!origin)
        return PyUnicode_FromString("");
    PyObject *subject = origin->subject ? origin->subject : Py_None;
    switch (origin->kind) {
    case RR__MESSAGE:
        return PyUnicode_FromFormat("cmd %d, session %R", origin->cmd, subject);
    case RR__SERVICE:
        return PyUnicode_FromFormat("service %R", subject);
    case RR__VERIFY:
        return PyUnicode_FromFormat("login");
    case RR__ENTER:
        return PyUnicode_FromFormat("enter, session %R", subject);
    case RR__OFFLINE:
        return PyUnicode_FromFormat("offline, session %R", subject);
    case RR__HAND_OVER:
        return PyUnicode_FromFormat("drain, session %R", subject);
    case RR__LEAVE:
        return PyUnicode_FromFormat("leave, session %R", subject);
    case RR__DEAD_LETTER:
        return PyUnicode_FromString("dead letter");
    case RR__INIT:
        return PyUnicode_FromString("init()");
    case RR__CLEANUP:
        return PyUnicode_FromString("cleanup()");
    case RR__LOAD:
        return PyUnicode_FromString("loading");
    case RR__TIMER:
        return PyUnicode_FromString("timer");
    case RR__CALLBACK:
        return PyUnicode_FromString("callback");
    default:
        return PyUnicode_FromString("task");
    }
}

static void count_error(rr_script_t *script, PyObject *error) {
    rr__bump(&script->stats.exceptions);
    if (PyErr_GivenExceptionMatches(error, script->state->handler_timeout))
        rr__bump(&script->stats.timeouts);
    if (PyErr_GivenExceptionMatches(error, PyExc_MemoryError))
        rr__bump(&script->stats.memory_errors);
}

static void say_broken(rr_script_t *script) {
    static const char text[] = "an error happened, and another one while it was written down";
    PyErr_Clear();
    script->host.log(script->context, RR_ERROR, "PYTHON", text, sizeof text - 1);
}

/* What happens while it is written down must not fail for the memory limit: the error may be just that. */
void rr__report(rr_script_t *script, const rr__origin_t *origin) {
    PyObject *error = rr__exception_take();
    if (!error)
        return;
    count_error(script, error);
    script->account.lifted++;
    PyObject *where = describe(origin);
    PyObject *result = where ? PyObject_CallMethod(script->glue, "report", "OO", error, where) : NULL;
    if (!result)
        say_broken(script);
    Py_XDECREF(result);
    Py_XDECREF(where);
    bool starved = PyErr_GivenExceptionMatches(error, PyExc_MemoryError);
    Py_DECREF(error);
    if (starved)
        PyGC_Collect();
    script->account.lifted--;
}

void rr__note(rr_script_t *script, rr_level_t level, const rr__origin_t *origin, const char *what) {
    script->account.lifted++;
    PyObject *error = rr__exception_take();
    PyObject *where = describe(origin);
    PyObject *result = where ? PyObject_CallMethod(script->glue, "note", "iOsO", (int)level, where, what,
                                                   error ? error : Py_None)
                             : NULL;
    if (!result)
        say_broken(script);
    Py_XDECREF(result);
    Py_XDECREF(where);
    Py_XDECREF(error);
    script->account.lifted--;
}

/* ---- Contexts: a copy of the scene's base context for each handler ---- */

/* A context that the last handler left untouched (empty, referenced by us and, as the entered one, by the thread) is as
 * good as a new copy. Within a turn it stays entered for the next handler. */
static bool untouched(const rr_script_t *script, PyObject *context, Py_ssize_t references) {
    return script->base_empty && Py_REFCNT(context) == references && PyObject_Size(context) == 0;
}

static void context_leave(rr_script_t *script, PyObject *context) {
    if (PyContext_Exit(context) != 0)
        PyErr_Clear();
    if (!script->spare_context && untouched(script, context, 1))
        script->spare_context = context;
    else
        Py_DECREF(context);
}

/* Enters one for a handler; NULL with an exception. */
static PyObject *context_enter(rr_script_t *script) {
    PyObject *context = script->open_context;
    script->open_context = NULL;
    if (context && untouched(script, context, 2)) /* what is neither handler nor task may have run meanwhile */
        return context;
    if (context)
        context_leave(script, context);
    context = script->spare_context ? script->spare_context : PyContext_Copy(script->base_context);
    script->spare_context = NULL;
    if (context && PyContext_Enter(context) != 0)
        Py_CLEAR(context);
    return context;
}

void rr__context_close(rr_script_t *script) {
    PyObject *context = script->open_context;
    script->open_context = NULL;
    if (context)
        context_leave(script, context);
}

/* ---- Running ---- */

static int go_on_as_task(rr_script_t *script, rr__origin_t *origin, PyObject *coroutine, PyObject *context,
                         PyObject *yielded) {
    rr__task_t *task = rr__task_new(script, coroutine, origin, context);
    if (!task)
        return RR_EHANDLER;
    int rc = RR_SCRIPT_PENDING;
    if (script->asyncio)
        rc = rr__task_start_foreign(script, task) ? RR_SCRIPT_PENDING : RR_EHANDLER;
    else
        rr__task_wait(script, task, yielded);
    Py_DECREF(task);
    return rc;
}

/* The first step is taken on the spot: a handler that awaits nothing needs no task. */
static int run_awaitable(rr_script_t *script, rr__origin_t *origin, PyObject *coroutine, PyObject *context,
                         PyObject **result) {
    if (script->asyncio)
        return go_on_as_task(script, origin, coroutine, context, NULL);
    PyObject *yielded = NULL;
    rr__python_begin(script);
    PySendResult how = PyIter_Send(coroutine, Py_None, &yielded);
    rr__python_end(script);
    if (how == PYGEN_RETURN) {
        *result = yielded;
        return RR_OK;
    }
    int rc = how == PYGEN_NEXT ? go_on_as_task(script, origin, coroutine, context, yielded) : RR_EHANDLER;
    Py_XDECREF(yielded);
    return rc;
}

static bool awaitable(const rr_script_t *script, PyObject *value) {
    return PyCoro_CheckExact(value) || Py_IS_TYPE(value, script->state->future_type) ||
           Py_IS_TYPE(value, script->state->task_type);
}

int rr__run_raw(rr_script_t *script, rr__origin_t *origin, PyObject *function, PyObject *const *args, size_t count,
                PyObject **result) {
    int rc = RR_EHANDLER;
    rr__origin_t *before = script->origin;
    script->origin = origin;
    PyObject *value = NULL, *context = context_enter(script);
    if (context) {
        rr__python_begin(script);
        value = PyObject_Vectorcall(function, args, count | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
        rr__python_end(script);
    }
    if (value && !awaitable(script, value)) {
        *result = value;
        rc = RR_OK;
    } else if (value) {
        rc = run_awaitable(script, origin, value, context, result);
        Py_DECREF(value);
    }
    PyObject *error = rc == RR_EHANDLER ? rr__exception_take() : NULL;
    if (context && !before && untouched(script, context, 2)) /* nobody else's is entered around this one */
        script->open_context = context;
    else if (context)
        context_leave(script, context);
    if (error)
        rr__exception_raise(error);
    script->origin = before;
    return rc;
}

int rr__run(rr_script_t *script, rr__origin_t *origin, PyObject *function, PyObject *const *args, size_t count,
            PyObject **result) {
    int rc = rr__run_raw(script, origin, function, args, count, result);
    if (rc == RR_EHANDLER)
        rr__report(script, origin);
    return rc;
}

/* ---- The ends of tasks ---- */

static int status_of(rr_script_t *script, const rr__origin_t *origin, PyObject *result) {
    if (result)
        return RR_OK;
    if (PyErr_ExceptionMatches(script->state->cancelled_error)) {
        PyErr_Clear();
        return RR_CANCELLED;
    }
    rr__report(script, origin);
    return RR_EHANDLER;
}

static void settle_verify(rr_script_t *script, rr__origin_t *origin, PyObject *result) {
    rr_verdict_t verdict = {.code = RR_EREFUSED};
    int rc = RR_OK;
    if (status_of(script, origin, result) == RR_OK)
        rc = rr__verdict_from(script, origin, result, &verdict);
    if (rc == RR_SCRIPT_PENDING || origin->answered)
        return;
    if (script->host.verdict(script->context, origin->token, &verdict) != RR_OK)
        rr__note(script, RR_DEBUG, origin, "the answer came when nobody waited for it any more");
}

void rr__service_reply(rr_script_t *script, const rr__origin_t *origin, PyObject *result) {
    rr__body_t body = {0};
    const char *error = NULL;
    PyObject *text = NULL;
    if (!result || (result != Py_None && rr__body_from(script->state, result, origin->modern, &body) != 0)) {
        PyObject *exception = rr__exception_take();
        text = PyUnicode_FromFormat("%s: %S", Py_TYPE(exception)->tp_name, exception);
        error = text ? PyUnicode_AsUTF8(text) : NULL;
        if (!error) {
            PyErr_Clear();
            error = "the handler failed";
        }
        rr__exception_raise(exception);
        rr__report(script, origin);
    }
    int rc = script->host.reply(script->context, origin->token, error, body.data, body.size);
    rr__body_clear(&body);
    Py_XDECREF(text);
    if (rc != RR_OK)
        rr__note(script, RR_WARN, origin, "the answer could not be sent");
}

static void settle_hand_over(rr_script_t *script, rr__origin_t *origin, PyObject *result) {
    rr_hand_to_t to = {0};
    int status = status_of(script, origin, result);
    if (status == RR_OK)
        status = rr__hand_to_from(script, origin, result, &to);
    script->host.hand_to(script->context, origin->token, status, &to);
}

static void settle_timer(rr_script_t *script, rr__origin_t *origin, PyObject *result) {
    rr__wait_t *wait = rr__tokens_get(&script->waits, origin->token);
    if (wait)
        wait->running = false;
    (void)status_of(script, origin, result); /* reported; nobody else waits for it */
}

/* False or a number other than 0 is a failed start; True and None are not. */
int rr__init_status(PyObject *result, char *what, size_t size) {
    bool failed = result == Py_False;
    if (PyLong_Check(result) && !PyBool_Check(result))
        failed = PyObject_IsTrue(result) != 0;
    if (!failed)
        return RR_OK;
    PyObject *text = PyObject_Repr(result);
    const char *shown = text ? PyUnicode_AsUTF8(text) : NULL;
    snprintf(what, size, "returned %.40s, which means that the start failed", shown ? shown : "a number");
    Py_XDECREF(text);
    PyErr_Clear();
    return RR_EHANDLER;
}

void rr__settle(rr_script_t *script, rr__origin_t *origin, PyObject *result) {
    int status;
    char what[128];
    switch (origin->kind) {
    case RR__VERIFY:
        settle_verify(script, origin, result);
        return;
    case RR__SERVICE:
        rr__service_reply(script, origin, result);
        return;
    case RR__HAND_OVER:
        settle_hand_over(script, origin, result);
        return;
    case RR__TIMER:
        settle_timer(script, origin, result);
        return;
    case RR__INIT:
        status = status_of(script, origin, result);
        if (status == RR_OK && rr__init_status(result, what, sizeof what) != RR_OK) {
            status = RR_EHANDLER;
            rr__note(script, RR_ERROR, origin, what);
        }
        break;
    case RR__MESSAGE:
    case RR__ENTER:
    case RR__OFFLINE:
    case RR__LEAVE:
    case RR__CLEANUP:
        status = status_of(script, origin, result);
        break;
    default:
        (void)status_of(script, origin, result);
        return;
    }
    script->host.done(script->context, origin->token, status);
}
