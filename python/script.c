#include "python/script.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "python/awaitable.h"
#include "python/convert.h"
#include "python/handler.h"
#include "python/internal.h"
#include "python/module.h"
#include "python/poller.h"
#include "python/session.h"
#include "python/threadstate.h"
#include "python/watchdog.h"

/* ---- Turns ---- */

static void publish_thread(rr_script_t *script, PyThreadState *state) {
    script->tstate = state;
    atomic_store_explicit(&script->watch.thread_id, state->thread_id, memory_order_relaxed);
}

static void flush_foreign_lines(rr_script_t *script) {
    size_t count = script->foreign_count, lost = script->foreign_lost;
    script->foreign_count = script->foreign_lost = 0;
    for (size_t i = 0; i < count; i++) {
        rr__foreign_line_t line = script->foreign_lines[i];
        if (rr__line_out(script, line.kind, line.module, line.text) != 0)
            PyErr_Clear();
        Py_XDECREF(line.module);
        Py_DECREF(line.text);
    }
    if (!lost)
        return;
    char text[80];
    int length = snprintf(text, sizeof text, "%zu lines of the script's own threads were lost: too many", lost);
    script->host.log(script->context, RR_WARN, "PYTHON", text, (size_t)length);
}

void rr_script_enter(rr_script_t *script) {
    rr__thread_sweep();
    PyThreadState *state = rr__thread_state(script->interp);
    if (!state)
        Py_FatalError("RedRabbit: no memory for a thread state"); /* a turn cannot be refused */
    PyEval_RestoreThread(state);
    publish_thread(script, state);
    rr__bump(&script->stats.entries);
    if (script->account.limit)
        rr__memory_enter(&script->account);
    if (script->loop_running) {
        PyObject *result = PyObject_CallOneArg(script->loop_running, Py_True);
        if (!result)
            rr__report(script, NULL);
        Py_XDECREF(result);
    }
    if (script->foreign_count || script->foreign_lost)
        flush_foreign_lines(script);
}

void rr_script_leave(rr_script_t *script) {
    rr__context_close(script);
    if (script->loop_running) {
        PyObject *result = PyObject_CallOneArg(script->loop_running, Py_False);
        if (!result)
            rr__report(script, NULL);
        Py_XDECREF(result);
    }
    if (script->account.limit)
        rr__memory_enter(NULL);
    script->tstate = NULL;
    PyEval_SaveThread();
}

void rr__turn_end(rr_script_t *script) {
    rr__ready_wake(script);
    if (!script->loop_pending || script->woken)
        return;
    PyObject *pending = PyObject_CallNoArgs(script->loop_pending);
    if (!pending)
        rr__report(script, NULL);
    else if (pending == Py_True) {
        script->woken = true;
        script->host.wake(script->context);
    }
    Py_XDECREF(pending);
}

/* ---- Creation ---- */

static void stem_of(const char *file, char *out, size_t size) {
    const char *base = strrchr(file, '/');
    base = base ? base + 1 : file;
    const char *dot = strrchr(base, '.');
    snprintf(out, size, "%.*s", (int)(dot && dot != base ? (size_t)(dot - base) : strlen(base)), base);
}

/* One clear line about the pending exception, for messages of a failed start. Clears it. */
static void explain(rr_script_t *script, char *why, size_t size) {
    PyObject *error = rr__exception_take();
    PyObject *text = script->glue ? PyObject_CallMethod(script->glue, "explain", "O", error) : NULL;
    if (!text) {
        PyErr_Clear();
        text = PyUnicode_FromFormat("%s: %S", Py_TYPE(error)->tp_name, error);
    }
    const char *utf8 = text ? PyUnicode_AsUTF8(text) : NULL;
    snprintf(why, size, "%s", utf8 ? utf8 : "an error that cannot be shown");
    PyErr_Clear();
    Py_XDECREF(text);
    Py_DECREF(error);
}

static PyObject *path_list(const rr_script_options_t *options) {
    PyObject *list = PyList_New(0);
    for (const char *const *at = options->path; list && at && *at; at++) {
        PyObject *folder = PyUnicode_DecodeFSDefault(*at);
        if (!folder || PyList_Append(list, folder) != 0)
            Py_CLEAR(list);
        Py_XDECREF(folder);
    }
    return list;
}

static int prepend_package(void) {
    PyObject *path = PySys_GetObject("path"); /* borrowed */
    PyObject *folder = PyUnicode_DecodeFSDefault(rr__python_package_path());
    int rc = path && folder && PyList_Check(path) ? PySequence_Contains(path, folder) : -1;
    if (rc == 0)
        rc = PyList_Insert(path, 0, folder);
    Py_XDECREF(folder);
    return rc < 0 ? -1 : 0;
}

static int take_loop(rr_script_t *script) {
    if (!script->asyncio)
        return 0;
    script->loop_step = PyObject_GetAttrString(script->glue, "loop_step");
    script->loop_pending = PyObject_GetAttrString(script->glue, "loop_pending");
    script->loop_running = PyObject_GetAttrString(script->glue, "loop_running");
    PyObject *fd = PyObject_CallMethod(script->glue, "loop_fileno", NULL);
    script->loop_fd = fd ? (int)PyLong_AsLong(fd) : -1;
    Py_XDECREF(fd);
    PyObject *result = PyErr_Occurred() ? NULL : PyObject_CallOneArg(script->loop_running, Py_True);
    Py_XDECREF(result);
    if (!result)
        return -1;
    if (rr__poller_add(script) == RR_OK)
        return 0;
    PyErr_SetString(PyExc_OSError, "the event loop's sockets cannot be watched");
    return -1;
}

/* With the interpreter entered: the module's state, our Python half, paths. */
static int furnish(rr_script_t *script, const rr_script_options_t *options) {
    script->base_context = PyContext_New();
    script->registry = PyDict_New();
    script->services = PyDict_New();
    script->sessions = PyDict_New();
    script->foreign_calls = PyList_New(0);
    script->module_c = PyImport_ImportModule("_redrabbit");
    if (!script->base_context || !script->registry || !script->services || !script->sessions ||
        !script->foreign_calls || !script->module_c)
        return -1;
    script->base_empty = true;
    script->state = rr__module_state(script->module_c);
    script->state->script = script;
    if (prepend_package() != 0)
        return -1;
    script->glue = PyImport_ImportModule("redrabbit._host");
    PyObject *path = script->glue ? path_list(options) : NULL;
    PyObject *result = path ? PyObject_CallMethod(script->glue, "setup", "O", path) : NULL;
    Py_XDECREF(path);
    Py_XDECREF(result);
    return result ? take_loop(script) : -1;
}

static void script_free(rr_script_t *script) {
    rr__tokens_free(&script->tasks);
    rr__tokens_free(&script->handlers);
    rr__tokens_free(&script->waits);
    free(script->ready);
    free(script->foreign_lines);
    free(script->file);
    free(script->name);
    free(script->scene);
    free(script);
}

static rr_script_t *script_alloc(rr_system_t *system, const rr_script_options_t *options,
                                 const rr_script_host_t *host, void *context) {
    rr_script_t *script = calloc(1, sizeof *script);
    if (!script)
        return NULL;
    char stem[256];
    stem_of(options->file, stem, sizeof stem);
    script->file = realpath(options->file, NULL);
    if (!script->file)
        script->file = strdup(options->file);
    script->name = strdup(stem);
    script->scene = strdup(options->scene ? options->scene : stem);
    script->host = *host;
    script->context = context;
    script->system = system;
    script->asyncio = options->asyncio;
    script->session_id_int = options->session_id_int;
    script->reload_on_save = options->reload_on_save;
    script->watch.limit_ms = options->watchdog_ms;
    atomic_init(&script->watch.current_ms, options->watchdog_ms);
    script->account.limit = options->memory_limit;
    script->kind = options->interpreter ? options->interpreter : rr__interp_default();
    script->loop_fd = -1;
    if (script->file && script->name && script->scene)
        return script;
    script_free(script);
    return NULL;
}

int rr_script_create(rr_system_t *system, const rr_script_options_t *options, const rr_script_host_t *host,
                     void *context, rr_script_t **out, char *why, size_t why_size) {
    *out = NULL;
    rr__thread_sweep();
    rr_script_t *script = script_alloc(system, options, host, context);
    if (!script)
        return rr_fail(RR_ENOMEM, why, why_size, "out of memory");
    int rc = rr__interp_new(script->kind, &script->interp, why, why_size);
    if (rc != RR_OK) {
        script_free(script);
        return rc;
    }
    publish_thread(script, PyThreadState_Get());
    if (script->account.limit)
        rr__memory_enter(&script->account);
    script->account.lifted++;
    rc = furnish(script, options) == 0 ? RR_OK : RR_EINVAL;
    script->account.lifted--;
    script->watch.nudged = RR__NUDGED(script->interp);
    if (rc == RR_OK && (script->watch.limit_ms || script->watch.nudged))
        rc = rr__watchdog_add(script);
    if (rc == RR_OK) {
        *out = script;
        return RR_OK;
    }
    if (PyErr_Occurred())
        explain(script, why, why_size);
    else
        snprintf(why, why_size, "no thread for the watchdog");
    (void)rr_script_destroy(script); /* whether or not it ends cleanly: the start failed */
    return rc;
}

/* ---- Load, init, cleanup ---- */

/* Imports read files: what runs at load, and at a reload, may take ten times as long as a handler, and at least LOAD_MS. */
#define LOAD_MS 5000

static void allow_ms(rr_script_t *script, unsigned ms) {
    atomic_store_explicit(&script->watch.current_ms, ms, memory_order_relaxed);
}

static void begin_load(rr_script_t *script) {
    unsigned limit = script->watch.limit_ms;
    allow_ms(script, limit > LOAD_MS / 10 ? limit * 10 : LOAD_MS);
    rr__python_begin(script);
}

static void end_load(rr_script_t *script) {
    rr__python_end(script);
    allow_ms(script, script->watch.limit_ms);
}

static int load_module(rr_script_t *script, char *why, size_t why_size) {
    rr__origin_t origin = {.kind = RR__LOAD}, *before = script->origin;
    script->origin = &origin;
    begin_load(script);
    PyObject *module = PyObject_CallMethod(script->glue, "load", NULL);
    end_load(script);
    if (!module) {
        PyObject *error = rr__exception_take();
        Py_INCREF(error);
        rr__exception_raise(error);
        script->account.lifted++;
        explain(script, why, why_size);
        script->account.lifted--;
        rr__exception_raise(error);
        rr__report(script, &origin);
    }
    script->origin = before;
    script->module = module;
    return module ? RR_OK : RR_EHANDLER;
}

/* A function of the script's module, if it defines one; new reference. */
static PyObject *module_function(rr_script_t *script, const char *name) {
    PyObject *function = script->module ? PyDict_GetItemString(PyModule_GetDict(script->module), name) : NULL;
    return function && PyCallable_Check(function) ? Py_NewRef(function) : NULL;
}

int rr_script_load(rr_script_t *script, uint64_t token, char *why, size_t why_size) {
    int rc = load_module(script, why, why_size);
    PyObject *init = rc == RR_OK ? module_function(script, "init") : NULL;
    if (init) {
        rr__origin_t origin = {.kind = RR__INIT, .token = token};
        PyObject *args[1] = {NULL}, *result = NULL;
        char what[128];
        rc = rr__run(script, &origin, init, args + 1, 0, &result);
        if (rc == RR_EHANDLER)
            snprintf(why, why_size, "init() of %s raised an error, see the log", script->file);
        if (rc == RR_OK && rr__init_status(result, what, sizeof what) != RR_OK) {
            snprintf(why, why_size, "init() of %s %s", script->file, what);
            rc = RR_EHANDLER;
        }
        Py_XDECREF(result);
        Py_DECREF(init);
    }
    rr__turn_end(script);
    return rc;
}

int rr_script_cleanup(rr_script_t *script, uint64_t token) {
    PyObject *cleanup = module_function(script, "cleanup");
    if (!cleanup)
        return RR_OK;
    rr__origin_t origin = {.kind = RR__CLEANUP, .token = token};
    PyObject *args[1] = {NULL}, *result = NULL;
    int rc = rr__run(script, &origin, cleanup, args + 1, 0, &result);
    Py_XDECREF(result);
    Py_DECREF(cleanup);
    rr__turn_end(script);
    return rc;
}

/* ---- Sessions ---- */

#define SPARE_BODY_MAX 4096 /* above it the copy costs more than the object */

unsigned rr__arity(const rr__handler_t *handler, PyObject *function, unsigned usual) {
    if (handler && handler->arity)
        return handler->arity;
    unsigned bound = 0;
    if (PyMethod_Check(function)) {
        bound = 1;
        function = PyMethod_GET_FUNCTION(function);
    }
    if (!PyFunction_Check(function))
        return usual;
    PyCodeObject *code = (PyCodeObject *)PyFunction_GET_CODE(function);
    if (code->co_flags & CO_VARARGS || (unsigned)code->co_argcount < bound)
        return usual;
    return (unsigned)code->co_argcount - bound;
}

PyObject *rr__subject(const rr__handler_t *handler, rr_script_session_t *session) {
    if (!handler)
        return Py_NewRef(session->id);
    if (handler->modern)
        return Py_NewRef((PyObject *)session);
    return handler->convert ? PyObject_CallOneArg(handler->convert, session->id) : Py_NewRef(session->id);
}

static int failed(rr_script_t *script, rr__origin_t *origin) {
    rr__report(script, origin);
    return RR_EHANDLER;
}

/* Calls one of the session callbacks with `count` arguments after the session; steals them. */
static int session_callback(rr_script_t *script, rr__handler_t *handler, PyObject *function, rr__origin_t *origin,
                            rr_script_session_t *session, PyObject **rest, unsigned count, unsigned usual) {
    PyObject *args[5] = {NULL}, *result = NULL;
    bool whole = true;
    for (unsigned i = 0; i < count; i++)
        whole = (args[i + 2] = rest[i]) && whole;
    unsigned wanted = rr__arity(handler, function, usual);
    unsigned given = wanted < 1 ? 1 : wanted > count + 1 ? count + 1 : wanted;
    Py_INCREF(function);
    args[1] = whole ? rr__subject(handler, session) : NULL;
    rr__bump(&script->stats.handlers);
    int rc = args[1] ? rr__run(script, origin, function, args + 1, given, &result) : failed(script, origin);
    Py_XDECREF(result);
    for (unsigned i = 1; i < count + 2; i++)
        Py_XDECREF(args[i]);
    Py_DECREF(function);
    rr__turn_end(script);
    return rc;
}

static PyObject *text_or_bytes(const void *data, size_t size) {
    PyObject *text = PyUnicode_DecodeUTF8(data ? data : "", (Py_ssize_t)size, NULL);
    if (text || !PyErr_ExceptionMatches(PyExc_UnicodeDecodeError))
        return text;
    PyErr_Clear();
    return PyBytes_FromStringAndSize(data, (Py_ssize_t)size);
}

int rr_script_enter_session(rr_script_t *script, rr_script_session_t *session, const char *from_scene,
                            const void *extra, size_t size, uint64_t token) {
    rr__handler_t *handler;
    PyObject *function;
    if (!rr__handler_callback(script, RR__ENTER, &handler, &function))
        return RR_OK;
    rr__origin_t origin = {.kind = RR__ENTER, .token = token, .subject = session->id};
    PyObject *rest[] = {PyUnicode_FromString(from_scene ? from_scene : ""), text_or_bytes(extra, size)};
    return session_callback(script, handler, function, &origin, session, rest, 2, 3);
}

int rr_script_offline(rr_script_t *script, rr_script_session_t *session, int64_t online_time, const char *reason,
                      uint64_t token) {
    rr__handler_t *handler;
    PyObject *function;
    if (!rr__handler_callback(script, RR__OFFLINE, &handler, &function))
        return RR_OK;
    rr__origin_t origin = {.kind = RR__OFFLINE, .token = token, .subject = session->id};
    PyObject *time = PyLong_FromLongLong(online_time), *text = PyUnicode_FromString(reason ? reason : "");
    if (!handler || !handler->modern) {
        PyObject *rest[] = {time, text};
        return session_callback(script, handler, function, &origin, session, rest, 2, 2);
    }
    PyObject *rest[] = {text, time};
    return session_callback(script, handler, function, &origin, session, rest, 2, 2);
}

int rr_script_leave_session(rr_script_t *script, rr_script_session_t *session, const char *to_scene, uint64_t token) {
    rr__handler_t *handler;
    PyObject *function;
    if (!rr__handler_callback(script, RR__LEAVE, &handler, &function))
        return RR_OK;
    rr__origin_t origin = {.kind = RR__LEAVE, .token = token, .subject = session->id};
    PyObject *rest[] = {PyUnicode_FromString(to_scene ? to_scene : "")};
    return session_callback(script, handler, function, &origin, session, rest, 1, 2);
}

bool rr_script_concurrent(rr_script_t *script, uint16_t cmd) {
    rr__handler_t *handler = rr__handler_message(script, cmd);
    return handler && handler->concurrent;
}

/* A raw body in the memory of the last one, if that had the same size and is nobody's any more: most handlers drop it when
 * they return. Never one of the shared objects for 0 and 1 bytes. */
static PyObject *raw_body(rr_script_t *script, const void *body, size_t size) {
    PyObject *bytes = script->spare_body;
    script->spare_body = NULL;
    if (bytes && PyBytes_GET_SIZE(bytes) == (Py_ssize_t)size) {
        memcpy(PyBytes_AS_STRING(bytes), body, size);
        rr__bytes_forget_hash(bytes);
        return bytes;
    }
    Py_XDECREF(bytes);
    return PyBytes_FromStringAndSize(body, (Py_ssize_t)size);
}

static void body_done(rr_script_t *script, PyObject *value) {
    if (!script->spare_body && PyBytes_CheckExact(value) && Py_REFCNT(value) == 1 && PyBytes_GET_SIZE(value) > 1 &&
        PyBytes_GET_SIZE(value) <= SPARE_BODY_MAX)
        script->spare_body = value;
    else
        Py_DECREF(value);
}

/* A typed body or a mapped id runs Python of the script's: inside the watchdog's sight. */
static PyObject *decode_body(rr_script_t *script, rr__handler_t *handler, const void *body, size_t size,
                             rr_buffer_t *owner) {
    if (handler->protocol == RR__RAW)
        return raw_body(script, body, size);
    if (handler->protocol != RR__TYPED)
        return rr__body_decode(script->state, handler->protocol, NULL, body, size, owner);
    rr__python_begin(script);
    PyObject *value = rr__body_decode(script->state, RR__TYPED, handler->type, body, size, owner);
    rr__python_end(script);
    return value;
}

/* Clients' send() leaves a str as it is, and that is seldom JSON. */
static int undecodable(rr_script_t *script, const rr__handler_t *handler, const rr__origin_t *origin) {
    rr__bump(&script->stats.decode_errors);
    rr__note(script, RR_WARN, origin,
             handler->protocol == RR__JSON ? "the body is not JSON, as the handler declared ('text' takes what is sent as a str)"
                                           : "the body is not what the handler declared");
    return RR_EENCODING;
}

int rr_script_message(rr_script_t *script, rr_script_session_t *session, uint16_t cmd, const void *body, size_t size,
                      rr_buffer_t *owner, uint64_t token) {
    rr__handler_t *handler = rr__handler_message(script, cmd);
    rr__origin_t origin = {.kind = RR__MESSAGE, .token = token, .cmd = cmd, .subject = session->id};
    if (!handler) {
        rr__bump(&script->stats.no_handler);
        rr__note(script, RR_WARN, &origin, "no handler for this cmd");
        return RR_ENOENT;
    }
    Py_INCREF(handler); /* a reload inside may replace it */
    PyObject *result = NULL, *value = decode_body(script, handler, body, size, owner);
    int rc = value ? RR_OK : undecodable(script, handler, &origin);
    if (value) {
        PyObject *args[3] = {NULL, rr__subject(handler, session), value};
        rr__bump(&script->stats.handlers);
        script->current = session;
        rc = args[1] ? rr__run(script, &origin, handler->function, args + 1, 2, &result) : failed(script, &origin);
        script->current = NULL;
        Py_XDECREF(args[1]);
        Py_XDECREF(result);
        body_done(script, value);
    }
    Py_DECREF(handler);
    if (script->ready_count || script->loop_pending)
        rr__turn_end(script);
    return rc;
}

/* ---- Services, answers, timers ---- */

static void refuse_request(rr_script_t *script, uint64_t request, const char *method) {
    char text[512];
    snprintf(text, sizeof text, "%s has no service '%s'", script->scene, method);
    if (script->host.reply(script->context, request, text, NULL, 0) != RR_OK)
        rr__note(script, RR_WARN, NULL, "an answer could not be sent");
}

void rr_script_service(rr_script_t *script, uint64_t request, const char *from, const char *method, const void *body,
                       size_t size) {
    PyObject *key = PyUnicode_FromString(method), *result = NULL;
    rr__handler_t *handler = key ? (rr__handler_t *)PyDict_GetItemWithError(script->services, key) : NULL;
    rr__origin_t origin = {.kind = RR__SERVICE, .token = request, .subject = key, .modern = handler && handler->modern};
    if (!handler) {
        PyErr_Clear();
        rr__bump(&script->stats.no_handler);
        refuse_request(script, request, method);
        Py_XDECREF(key);
        return;
    }
    Py_INCREF(handler);
    rr__bump(&script->stats.handlers);
    PyObject *args[3] = {NULL, decode_body(script, handler, body, size, NULL), NULL};
    if (!args[1]) {
        rr__bump(&script->stats.decode_errors);
        rr__service_reply(script, &origin, NULL);
    } else {
        int rc = rr__run_raw(script, &origin, handler->function, args + 1, 1, &result);
        if (rc != RR_SCRIPT_PENDING)
            rr__service_reply(script, &origin, result);
    }
    Py_XDECREF(args[1]);
    Py_XDECREF(result);
    Py_DECREF(handler);
    Py_DECREF(key);
    rr__ready_drain(script);
    rr__turn_end(script);
}

static PyObject *reply_value(rr_script_t *script, const rr__wait_t *wait, const void *body, size_t size) {
    if (!body)
        return Py_NewRef(Py_None);
    if (!wait->data)
        return rr__body_guess(script->state, body, size);
    if (wait->data == Py_True)
        return PyBytes_FromStringAndSize(body, (Py_ssize_t)size);
    return rr__body_decode(script->state, RR__TYPED, wait->data, body, size, NULL);
}

static void answer_future(rr_script_t *script, const rr__wait_t *wait, const char *error, const void *body,
                          size_t size) {
    PyObject *value;
    bool is_error = error != NULL;
    if (error)
        value = PyObject_CallFunction(script->state->call_error, "s", error);
    else
        value = reply_value(script, wait, body, size);
    if (!value) {
        value = rr__exception_take();
        is_error = true;
    }
    rr__wait_end(script, wait->target, value, is_error);
}

static void answer_callback(rr_script_t *script, const rr__wait_t *wait, const char *error, const void *body,
                            size_t size) {
    rr__origin_t origin = {.kind = RR__CALLBACK};
    if (!wait->target)
        return;
    PyObject *message = error ? Py_NewRef(Py_None) : reply_value(script, wait, body, size), *result = NULL;
    PyObject *args[3] = {NULL, error ? PyUnicode_FromString(error) : Py_NewRef(Py_None), message};
    if (!args[1] || !message)
        rr__report(script, &origin);
    else if (rr__run(script, &origin, wait->target, args + 1, 2, &result) == RR_OK)
        Py_DECREF(result);
    Py_XDECREF(args[1]);
    Py_XDECREF(message);
}

void rr_script_answer(rr_script_t *script, uint64_t token, const char *error, const void *body, size_t size) {
    rr__wait_t *wait = rr__tokens_take(&script->waits, token);
    if (!wait)
        return; /* cancelled meanwhile */
    if (wait->kind == RR__WAIT_FUTURE) {
        answer_future(script, wait, error, body, size);
    } else if (wait->kind == RR__WAIT_CALLBACK) {
        answer_callback(script, wait, error, body, size);
    } else if (wait->kind == RR__WAIT_REPORT && error) {
        PyObject *text = PyUnicode_FromFormat("moving %S failed: %s", wait->data, error);
        if (!text || rr__line_out(script, RR_WARN + 2, NULL, text) != 0)
            PyErr_Clear();
        Py_XDECREF(text);
    }
    rr__wait_free(wait);
    rr__ready_drain(script);
    rr__turn_end(script);
}

static void fire(rr_script_t *script, uint64_t token, PyObject *function, PyObject *data, bool *pending) {
    rr__origin_t origin = {.kind = RR__TIMER, .token = token};
    PyObject *args[9] = {NULL}, *result = NULL;
    size_t count = (size_t)PyTuple_GET_SIZE(data);
    rr__bump(&script->stats.handlers);
    for (size_t i = 0; i < count && i < 8; i++)
        args[i + 1] = PyTuple_GET_ITEM(data, (Py_ssize_t)i);
    int rc = rr__run(script, &origin, function, args + 1, count < 8 ? count : 8, &result);
    Py_XDECREF(result);
    *pending = rc == RR_SCRIPT_PENDING;
}

void rr_script_timer(rr_script_t *script, uint64_t token) {
    rr__wait_t *wait = rr__tokens_get(&script->waits, token);
    bool pending;
    if (!wait || wait->running)
        return; /* cancelled; or an async run of a periodic timer takes longer than its period */
    if (!wait->repeat)
        rr__tokens_take(&script->waits, token);
    if (wait->kind == RR__WAIT_FUTURE) {
        rr__wait_end(script, wait->target, Py_NewRef(Py_None), false);
    } else if (!wait->repeat) {
        fire(script, token, wait->target, wait->data, &pending);
    } else {
        PyObject *function = Py_NewRef(wait->target), *data = Py_NewRef(wait->data);
        wait->running = true; /* until the run, or what it awaits, is over */
        fire(script, token, function, data, &pending);
        rr__wait_t *still = rr__tokens_get(&script->waits, token); /* it may have cancelled itself */
        if (still && !pending)
            still->running = false;
        Py_DECREF(function);
        Py_DECREF(data);
        wait = NULL;
    }
    if (wait && !wait->repeat)
        rr__wait_free(wait);
    rr__ready_drain(script);
    rr__turn_end(script);
}

/* ---- Turns of our own ---- */

static void run_foreign_calls(rr_script_t *script) {
    if (PyList_GET_SIZE(script->foreign_calls) == 0)
        return;
    PyObject *calls = script->foreign_calls, *empty = PyList_New(0);
    if (!empty) {
        rr__report(script, NULL);
        return;
    }
    script->foreign_calls = empty;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(calls); i++) {
        PyObject *pair = PyList_GET_ITEM(calls, i);
        bool pending;
        fire(script, 0, PyTuple_GET_ITEM(pair, 0), PyTuple_GET_ITEM(pair, 1), &pending);
    }
    Py_DECREF(calls);
}

static int64_t step_loop(rr_script_t *script) {
    rr__origin_t origin = {.kind = RR__CALLBACK}, *before = script->origin;
    script->origin = &origin;
    rr__python_begin(script);
    PyObject *ms = PyObject_CallNoArgs(script->loop_step);
    rr__python_end(script);
    script->origin = before;
    int64_t wait = ms ? PyLong_AsLongLong(ms) : -1;
    if (PyErr_Occurred()) {
        rr__report(script, &origin);
        wait = 0; /* e.g. the watchdog stopped a callback: the rest of the loop goes on */
    }
    Py_XDECREF(ms);
    rr__poller_arm(script);
    return wait;
}

int64_t rr_script_run(rr_script_t *script) {
    script->woken = false;
    if (script->foreign_count || script->foreign_lost)
        flush_foreign_lines(script);
    run_foreign_calls(script);
    rr__ready_drain(script);
    if (script->ready_count)
        return 0;
    return script->loop_step ? step_loop(script) : -1;
}

void rr_script_cancel(rr_script_t *script, uint64_t token) {
    rr__task_t *task = rr__tokens_get(&script->handlers, token);
    if (!task)
        return;
    rr__task_cancel(script, task);
    rr__turn_end(script);
}

/* ---- Reload, figures ---- */

/* Calls a function of redrabbit._reload, which says (fine, text). argument NULL = none. */
static bool reload(rr_script_t *script, const char *function, const char *argument, char *text, size_t size) {
    rr__origin_t origin = {.kind = RR__LOAD}, *before = script->origin;
    int fine = 0;
    const char *utf8 = NULL;
    script->origin = &origin;
    begin_load(script);
    PyObject *module = PyImport_ImportModule("redrabbit._reload");
    PyObject *answer = module ? PyObject_CallMethod(module, function, argument ? "s" : NULL, argument) : NULL;
    end_load(script);
    script->origin = before;
    bool whole = answer && PyArg_ParseTuple(answer, "ps", &fine, &utf8);
    if (whole)
        snprintf(text, size, "%s", utf8);
    else
        explain(script, text, size);
    Py_XDECREF(answer);
    Py_XDECREF(module);
    rr__turn_end(script);
    return whole && fine;
}

bool rr_script_reload(rr_script_t *script, const char *module, char *why, size_t why_size) {
    return reload(script, "asked", *module ? module : script->name, why, why_size);
}

bool rr_script_look(rr_script_t *script, char *text, size_t text_size) {
    return reload(script, "look", NULL, text, text_size);
}

void rr_script_stats(const rr_script_t *script, rr_script_stats_t *out) {
#define READ(name) out->name = atomic_load_explicit(&script->stats.name, memory_order_relaxed)
    READ(entries);
    READ(handlers);
    READ(exceptions);
    READ(timeouts);
    READ(memory_errors);
    READ(reloads);
    READ(decode_errors);
    READ(no_handler);
    READ(source_hash);
    READ(version);
    READ(pending);
#undef READ
    ptrdiff_t used = atomic_load_explicit(&script->account.used, memory_order_relaxed);
    out->memory = used > 0 ? (size_t)used : 0;
}

/* ---- The end ---- */

static void drop_waits(rr_script_t *script) {
    uint64_t token;
    while (rr__tokens_any(&script->waits, &token))
        rr__wait_free(rr__tokens_take(&script->waits, token));
}

static void drop_work(rr_script_t *script) {
    uint64_t token;
    drop_waits(script);
    while (rr__tokens_any(&script->tasks, &token)) {
        rr__task_t *task = rr__tokens_take(&script->tasks, token);
        task->future.state = RR__CANCELLED;
        Py_CLEAR(task->coroutine); /* its finally blocks run now */
        Py_DECREF(task);
    }
    drop_waits(script); /* what they asked for: a rollback, the end of a stream */
    for (; script->ready_count; script->ready_count--) {
        rr__ready_t *next = &script->ready[script->ready_head];
        script->ready_head = (script->ready_head + 1) & (script->ready_capacity - 1);
        Py_DECREF(next->what);
        Py_XDECREF(next->argument);
    }
    PyErr_Clear();
}

static void drop_objects(rr_script_t *script) {
    for (size_t i = 0; i < script->foreign_count; i++) {
        Py_XDECREF(script->foreign_lines[i].module);
        Py_DECREF(script->foreign_lines[i].text);
    }
    script->foreign_count = 0;
    Py_CLEAR(script->foreign_calls);
    Py_CLEAR(script->loop_step);
    Py_CLEAR(script->loop_pending);
    Py_CLEAR(script->loop_running);
    Py_CLEAR(script->verdict_id);
    Py_CLEAR(script->verdict_extra);
    Py_CLEAR(script->hand_scene);
    Py_CLEAR(script->hand_state);
    Py_CLEAR(script->early_id);
    Py_CLEAR(script->early_extra);
    Py_CLEAR(script->spare_body);
    Py_CLEAR(script->spare_context);
    Py_CLEAR(script->base_context);
    Py_CLEAR(script->module);
    Py_CLEAR(script->sessions);
    Py_CLEAR(script->services);
    Py_CLEAR(script->registry);
    Py_CLEAR(script->glue);
    Py_CLEAR(script->module_c);
    PyErr_Clear();
}

/* The script's threads are asked to end and waited for, at most 2 s; atexit functions run while all still works. */
static void wind_up(rr_script_t *script) {
    if (script->poll_id)
        rr__poller_remove(script);
    rr__python_begin(script);
    PyObject *result = script->glue ? PyObject_CallMethod(script->glue, "stop", NULL) : NULL;
    rr__python_end(script);
    if (!result)
        PyErr_Clear();
    Py_XDECREF(result);
}

bool rr_script_destroy(rr_script_t *script) {
    script->account.lifted++;
    rr__context_close(script);
    wind_up(script);
    drop_work(script);
    if (script->registry)
        rr__handler_clear(script);
    rr__watchdog_remove(script);
    if (script->state)
        script->state->script = NULL;
    drop_objects(script);
    unsigned foreign = rr__interp_foreign_threads(script->interp);
    rr__interp_t *interp = script->interp;
    rr__memory_enter(NULL);
    PyEval_SaveThread();
    if (foreign) {
        char text[200];
        int length = snprintf(text, sizeof text,
                              "%u threads that the script of %s started are still alive: its interpreter is abandoned",
                              foreign, script->scene);
        script->host.log(script->context, RR_WARN, "PYTHON", text, (size_t)length);
        rr__interp_abandon(interp);
    } else {
        rr__interp_release(interp);
    }
    script_free(script);
    return foreign == 0;
}
