#include "python/awaitable.h"

#include <stdlib.h>

#include "python/module.h"

#define DRAIN_LIMIT 256 /* steps of one drain: then other actors have their turn */

static bool is_future(const rr__state_t *state, PyObject *object) {
    return Py_IS_TYPE(object, state->future_type) || Py_IS_TYPE(object, state->task_type);
}

/* ---- The ready ring ---- */

static int ring_grow(rr_script_t *script) {
    size_t capacity = script->ready_capacity ? script->ready_capacity * 2 : 16;
    rr__ready_t *ring = malloc(capacity * sizeof *ring);
    if (!ring) {
        PyErr_NoMemory();
        return -1;
    }
    for (size_t i = 0; i < script->ready_count; i++)
        ring[i] = script->ready[(script->ready_head + i) & (script->ready_capacity - 1)];
    free(script->ready);
    script->ready = ring;
    script->ready_capacity = capacity;
    script->ready_head = 0;
    return 0;
}

int rr__ready_push(rr_script_t *script, PyObject *what, PyObject *argument) {
    if (script->ready_count == script->ready_capacity && ring_grow(script) != 0)
        return -1;
    size_t at = (script->ready_head + script->ready_count++) & (script->ready_capacity - 1);
    script->ready[at] = (rr__ready_t){Py_NewRef(what), Py_XNewRef(argument)};
    return 0;
}

static void run_callable(rr_script_t *script, PyObject *function, PyObject *argument) {
    rr__origin_t origin = {.kind = RR__CALLBACK};
    PyObject *args[] = {NULL, argument}, *result = NULL;
    if (rr__run(script, &origin, function, args + 1, argument ? 1 : 0, &result) == RR_OK)
        Py_DECREF(result);
}

void rr__ready_wake(rr_script_t *script) {
    if (!script->ready_count || script->woken)
        return;
    script->woken = true;
    script->host.wake(script->context);
}

void rr__ready_drain(rr_script_t *script) {
    script->woken = false;
    for (int left = DRAIN_LIMIT; script->ready_count && left; left--) {
        rr__ready_t next = script->ready[script->ready_head];
        script->ready_head = (script->ready_head + 1) & (script->ready_capacity - 1);
        script->ready_count--;
        if (Py_IS_TYPE(next.what, script->state->task_type)) {
            ((rr__task_t *)next.what)->queued = false;
            rr__task_step(script, (rr__task_t *)next.what);
        } else {
            run_callable(script, next.what, next.argument);
        }
        Py_DECREF(next.what);
        Py_XDECREF(next.argument);
    }
    rr__ready_wake(script);
}

static int queue_task(rr_script_t *script, rr__task_t *task) {
    if (task->queued || rr__task_over(task))
        return 0;
    if (rr__ready_push(script, (PyObject *)task, NULL) != 0)
        return -1;
    task->queued = true;
    return 0;
}

/* ---- Futures ---- */

static PyObject *task_finished(PyObject *object, PyObject *driver);

static void future_init(rr__future_t *self) {
    self->value = self->waiter = self->more = NULL;
    self->token = 0;
    self->state = RR__PENDING;
    self->retrieved = false;
}

rr__future_t *rr__future_new(rr__state_t *state) {
    rr__future_t *self = PyObject_GC_New(rr__future_t, state->future_type);
    if (!self)
        return NULL;
    future_init(self);
    PyObject_GC_Track(self);
    return self;
}

static void wake_one(rr_script_t *script, rr__future_t *future, PyObject *waiter) {
    int rc;
    if (Py_IS_TYPE(waiter, script->state->task_type)) {
        rr__task_t *task = (rr__task_t *)waiter;
        if (task->waiting != future)
            return;
        Py_CLEAR(task->waiting);
        rc = queue_task(script, task);
    } else {
        rc = rr__ready_push(script, waiter, (PyObject *)future);
    }
    if (rc != 0)
        rr__report(script, script->origin);
}

static void wake_all(rr__state_t *state, rr__future_t *self) {
    PyObject *waiter = self->waiter, *more = self->more;
    self->waiter = self->more = NULL;
    if (state->script) {
        Py_INCREF(self);
        if (waiter)
            wake_one(state->script, self, waiter);
        for (Py_ssize_t i = 0; more && i < PyList_GET_SIZE(more); i++)
            wake_one(state->script, self, PyList_GET_ITEM(more, i));
        Py_DECREF(self);
    }
    Py_XDECREF(waiter);
    Py_XDECREF(more);
}

static void end(rr__state_t *state, rr__future_t *self, rr__future_state_t how, PyObject *value) {
    if (self->state != RR__PENDING)
        return;
    self->state = how;
    self->token = 0;
    self->value = Py_XNewRef(value);
    wake_all(state, self);
}

void rr__future_result(rr__state_t *state, rr__future_t *future, PyObject *value) {
    end(state, future, RR__RESULT, value);
}

void rr__future_error(rr__state_t *state, rr__future_t *future, PyObject *exception) {
    end(state, future, RR__ERROR, exception);
}

bool rr__future_cancel(rr__state_t *state, rr__future_t *self) {
    if (self->state != RR__PENDING)
        return false;
    if (Py_IS_TYPE((PyObject *)self, state->task_type)) {
        if (state->script)
            rr__task_cancel(state->script, (rr__task_t *)self);
        return true;
    }
    if (self->token && state->script)
        rr__wait_drop(state->script, self->token);
    end(state, self, RR__CANCELLED, NULL);
    return true;
}

/* Raises what a future that is not pending ended with; on a result, returns it. */
static PyObject *outcome(rr__state_t *state, rr__future_t *self) {
    switch (self->state) {
    case RR__RESULT:
        return Py_NewRef(self->value);
    case RR__ERROR:
        self->retrieved = true;
        rr__exception_raise(Py_NewRef(self->value));
        return NULL;
    case RR__CANCELLED:
        PyErr_SetNone(state->cancelled_error);
        return NULL;
    default:
        PyErr_SetString(PyExc_RuntimeError, "the future is not done");
        return NULL;
    }
}

static rr__state_t *state_of(PyObject *object) { return PyType_GetModuleState(Py_TYPE(object)); }

static PySendResult future_send(PyObject *object, PyObject *value, PyObject **result) {
    rr__future_t *self = (rr__future_t *)object;
    if (self->state == RR__PENDING) {
        *result = Py_NewRef(object);
        return PYGEN_NEXT;
    }
    *result = outcome(state_of(object), self);
    return *result ? PYGEN_RETURN : PYGEN_ERROR;
}

static PyObject *future_next(PyObject *object) {
    PyObject *result;
    PySendResult how = future_send(object, Py_None, &result);
    if (how != PYGEN_RETURN)
        return result;
    PyObject *stop = PyObject_CallOneArg(PyExc_StopIteration, result);
    Py_DECREF(result);
    if (stop)
        rr__exception_raise(stop);
    return NULL;
}

static int future_traverse(PyObject *object, visitproc visit, void *arg) {
    rr__future_t *self = (rr__future_t *)object;
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(self->value);
    Py_VISIT(self->waiter);
    Py_VISIT(self->more);
    return 0;
}

static int future_clear(PyObject *object) {
    rr__future_t *self = (rr__future_t *)object;
    Py_CLEAR(self->value);
    Py_CLEAR(self->waiter);
    Py_CLEAR(self->more);
    return 0;
}

/* An error nobody asked for would vanish: say it. */
static void report_unseen(rr__future_t *self, const rr__origin_t *origin) {
    if (self->state != RR__ERROR || self->retrieved)
        return;
    PyObject *pending = rr__exception_take();
    rr__state_t *state = state_of((PyObject *)self);
    if (state && state->script && state->script->tstate == PyThreadState_Get()) {
        rr__exception_raise(Py_NewRef(self->value));
        rr__report(state->script, origin);
    }
    PyErr_Clear(); /* state_of fails when the module is being taken apart */
    if (pending)
        rr__exception_raise(pending);
}

static void future_dealloc(PyObject *object) {
    PyTypeObject *type = Py_TYPE(object);
    PyObject_GC_UnTrack(object);
    report_unseen((rr__future_t *)object, NULL);
    future_clear(object);
    PyObject_GC_Del(object);
    Py_DECREF(type);
}

static PyObject *future_create(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    if (PyTuple_GET_SIZE(args) || (kwargs && PyDict_GET_SIZE(kwargs)))
        return PyErr_Format(PyExc_TypeError, "Future() takes no arguments");
    return (PyObject *)rr__future_new(PyType_GetModuleState(type));
}

static PyObject *done_already(void) {
    PyErr_SetString(PyExc_RuntimeError, "the future is done already");
    return NULL;
}

/* From inside the scene's turn only: elsewhere nobody would run the waiters. */
static bool settable(PyObject *object, rr__state_t **state) {
    *state = state_of(object);
    if (!rr__script_here(*state))
        return false;
    return ((rr__future_t *)object)->state == RR__PENDING || done_already();
}

static PyObject *future_set_result(PyObject *object, PyObject *value) {
    rr__state_t *state;
    if (!settable(object, &state))
        return NULL;
    rr__future_result(state, (rr__future_t *)object, value);
    Py_RETURN_NONE;
}

static PyObject *future_set_exception(PyObject *object, PyObject *value) {
    rr__state_t *state;
    if (!settable(object, &state))
        return NULL;
    PyObject *exception = PyExceptionClass_Check(value) ? PyObject_CallNoArgs(value) : Py_NewRef(value);
    if (!exception)
        return NULL;
    if (PyExceptionInstance_Check(exception)) {
        rr__future_error(state, (rr__future_t *)object, exception);
        Py_DECREF(exception);
        Py_RETURN_NONE;
    }
    Py_DECREF(exception);
    return PyErr_Format(PyExc_TypeError, "set_exception() wants an exception");
}

static PyObject *future_cancel(PyObject *object, PyObject *unused) {
    rr__state_t *state = state_of(object);
    if (!rr__script_here(state))
        return NULL;
    return PyBool_FromLong(rr__future_cancel(state, (rr__future_t *)object));
}

static PyObject *future_done(PyObject *object, PyObject *unused) {
    return PyBool_FromLong(((rr__future_t *)object)->state != RR__PENDING);
}

static PyObject *future_cancelled(PyObject *object, PyObject *unused) {
    return PyBool_FromLong(((rr__future_t *)object)->state == RR__CANCELLED);
}

static PyObject *future_outcome(PyObject *object, PyObject *unused) {
    return outcome(state_of(object), (rr__future_t *)object);
}

static PyObject *future_exception(PyObject *object, PyObject *unused) {
    rr__future_t *self = (rr__future_t *)object;
    if (self->state == RR__ERROR) {
        self->retrieved = true;
        return Py_NewRef(self->value);
    }
    if (self->state == RR__RESULT)
        Py_RETURN_NONE;
    return outcome(state_of(object), self);
}

static int add_waiter(rr__future_t *self, PyObject *waiter) {
    if (!self->waiter) {
        self->waiter = Py_NewRef(waiter);
        return 0;
    }
    if (!self->more)
        self->more = PyList_New(0);
    return self->more ? PyList_Append(self->more, waiter) : -1;
}

static PyObject *future_add_done_callback(PyObject *object, PyObject *function) {
    rr__future_t *self = (rr__future_t *)object;
    rr_script_t *script = rr__script_here(state_of(object));
    if (!script)
        return NULL;
    int rc = self->state == RR__PENDING ? add_waiter(self, function) : rr__ready_push(script, function, object);
    return rc == 0 ? Py_NewRef(Py_None) : NULL;
}

static PyObject *future_repr(PyObject *object) {
    static const char *const names[] = {"pending", "done", "failed", "cancelled"};
    return PyUnicode_FromFormat("<%s %s>", Py_TYPE(object)->tp_name, names[((rr__future_t *)object)->state]);
}

static PyMethodDef future_methods[] = {
    {"set_result", future_set_result, METH_O, PyDoc_STR("set_result($self, value, /)\n--\n\nEnds it with a value.")},
    {"set_exception", future_set_exception, METH_O, PyDoc_STR("set_exception($self, error, /)\n--\n\nEnds it so.")},
    {"cancel", future_cancel, METH_NOARGS, PyDoc_STR("cancel($self, /)\n--\n\nFalse if it is done already.")},
    {"done", future_done, METH_NOARGS, PyDoc_STR("done($self, /)\n--\n\nWhether it has ended, however.")},
    {"cancelled", future_cancelled, METH_NOARGS, PyDoc_STR("cancelled($self, /)\n--\n\nWhether it was cancelled.")},
    {"result", future_outcome, METH_NOARGS, PyDoc_STR("result($self, /)\n--\n\nIts value, or raises its error.")},
    {"exception", future_exception, METH_NOARGS, PyDoc_STR("exception($self, /)\n--\n\nIts error or None.")},
    {"add_done_callback", future_add_done_callback, METH_O,
     PyDoc_STR("add_done_callback($self, function, /)\n--\n\nCalls function(future) after the end.")},
    {NULL, NULL, 0, NULL},
};
static PyMethodDef task_methods[] = {
    {"cancel", future_cancel, METH_NOARGS, PyDoc_STR("cancel($self, /)\n--\n\nThrows CancelledError into it.")},
    {"done", future_done, METH_NOARGS, PyDoc_STR("done($self, /)\n--\n\nWhether it has ended, however.")},
    {"cancelled", future_cancelled, METH_NOARGS, PyDoc_STR("cancelled($self, /)\n--\n\nWhether it was cancelled.")},
    {"result", future_outcome, METH_NOARGS, PyDoc_STR("result($self, /)\n--\n\nIts value, or raises its error.")},
    {"exception", future_exception, METH_NOARGS, PyDoc_STR("exception($self, /)\n--\n\nIts error or None.")},
    {"add_done_callback", future_add_done_callback, METH_O,
     PyDoc_STR("add_done_callback($self, function, /)\n--\n\nCalls function(task) after the end.")},
    {"_finished", task_finished, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};
/* `for row in db.query(…)`, without await, would take one None after the other for ever. */
static PyObject *future_iter(PyObject *object) {
    return PyErr_Format(PyExc_TypeError, "this is no list yet, but a %s: write `await` before it", Py_TYPE(object)->tp_name);
}

static PyType_Slot future_slots[] = {
    {Py_tp_new, future_create},       {Py_tp_traverse, future_traverse}, {Py_tp_clear, future_clear},
    {Py_tp_dealloc, future_dealloc},  {Py_tp_repr, future_repr},         {Py_tp_methods, future_methods},
    {Py_tp_iter, future_iter},  {Py_tp_iternext, future_next},     {Py_am_await, PyObject_SelfIter},
    {Py_am_send, future_send},        {Py_tp_doc, (void *)PyDoc_STR("A value that comes later: await it.")},
    {0, NULL},
};
PyType_Spec rr__future_spec = {
    .name = "_redrabbit.Future",
    .basicsize = sizeof(rr__future_t),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = future_slots,
};

/* ---- Tasks ---- */

static int task_traverse(PyObject *object, visitproc visit, void *arg) {
    rr__task_t *self = (rr__task_t *)object;
    Py_VISIT(self->coroutine);
    Py_VISIT(self->context);
    Py_VISIT(self->waiting);
    Py_VISIT(self->thrown);
    Py_VISIT(self->origin.subject);
    return future_traverse(object, visit, arg);
}

static int task_clear(PyObject *object) {
    rr__task_t *self = (rr__task_t *)object;
    Py_CLEAR(self->coroutine);
    Py_CLEAR(self->context);
    Py_CLEAR(self->waiting);
    Py_CLEAR(self->thrown);
    Py_CLEAR(self->origin.subject);
    return future_clear(object);
}

static void task_dealloc(PyObject *object) {
    PyTypeObject *type = Py_TYPE(object);
    rr__task_t *self = (rr__task_t *)object;
    PyObject_GC_UnTrack(object);
    if (self->origin.kind == RR__SPAWNED)
        report_unseen(&self->future, &self->origin);
    task_clear(object);
    PyObject_GC_Del(object);
    Py_DECREF(type);
}

static PyType_Slot task_slots[] = {
    {Py_tp_traverse, task_traverse},  {Py_tp_clear, task_clear},       {Py_tp_dealloc, task_dealloc},
    {Py_tp_repr, future_repr},        {Py_tp_methods, task_methods},   {Py_tp_iter, future_iter},
    {Py_tp_iternext, future_next},    {Py_am_await, PyObject_SelfIter}, {Py_am_send, future_send},
    {Py_tp_doc, (void *)PyDoc_STR("A coroutine that runs by itself: await it for its result.")},
    {0, NULL},
};
PyType_Spec rr__task_spec = {
    .name = "_redrabbit.Task",
    .basicsize = sizeof(rr__task_t),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = task_slots,
};

/* What PyIter_Send can drive: a coroutine itself, or the iterator of another awaitable. */
static PyObject *drivable(PyObject *awaitable) {
    if (PyCoro_CheckExact(awaitable))
        return Py_NewRef(awaitable);
    PyAsyncMethods *async = Py_TYPE(awaitable)->tp_as_async;
    if (async && async->am_await)
        return async->am_await(awaitable);
    return PyErr_Format(PyExc_TypeError, "a coroutine is wanted, not %.100s", Py_TYPE(awaitable)->tp_name);
}

static void count_tasks(rr_script_t *script) {
    atomic_store_explicit(&script->stats.pending, script->tasks.count, memory_order_relaxed);
}

/* Started by the host with a token of its own, under which it may cancel it. */
static bool has_token(const rr__origin_t *origin) {
    return origin->token && (origin->kind == RR__MESSAGE || origin->kind == RR__ENTER || origin->kind == RR__OFFLINE ||
                             origin->kind == RR__LEAVE || origin->kind == RR__HAND_OVER ||
                             origin->kind == RR__INIT || origin->kind == RR__CLEANUP);
}

/* The script keeps tasks alive until they end: what they wait for may only be known to themselves. */
static int remember(rr_script_t *script, rr__task_t *task) {
    if (rr__tokens_put(&script->tasks, task->serial, task) != RR_OK)
        return -1;
    if (has_token(&task->origin) && rr__tokens_put(&script->handlers, task->origin.token, task) != RR_OK) {
        rr__tokens_take(&script->tasks, task->serial);
        return -1;
    }
    Py_INCREF(task);
    count_tasks(script);
    return 0;
}

static void forget(rr_script_t *script, rr__task_t *task) {
    if (has_token(&task->origin))
        rr__tokens_take(&script->handlers, task->origin.token);
    if (rr__tokens_take(&script->tasks, task->serial))
        Py_DECREF(task);
    count_tasks(script);
}

rr__task_t *rr__task_new(rr_script_t *script, PyObject *coroutine, const rr__origin_t *origin, PyObject *context) {
    if (script->tasks.count >= RR__MAX_TASKS) {
        PyErr_Format(PyExc_RuntimeError, "%u coroutines of this scene are under way: no more", RR__MAX_TASKS);
        return NULL;
    }
    PyObject *driven = script->asyncio && PyCoro_CheckExact(coroutine) ? Py_NewRef(coroutine) : drivable(coroutine);
    PyObject *own = context ? Py_NewRef(context) : PyContext_Copy(script->base_context);
    rr__task_t *self = driven && own ? PyObject_GC_New(rr__task_t, script->state->task_type) : NULL;
    if (!self) {
        Py_XDECREF(driven);
        Py_XDECREF(own);
        return NULL;
    }
    future_init(&self->future);
    self->coroutine = driven;
    self->context = own;
    self->waiting = NULL;
    self->origin = *origin;
    Py_XINCREF(self->origin.subject);
    self->queued = self->foreign = false;
    self->thrown = NULL;
    self->serial = ++script->next_token;
    PyObject_GC_Track(self);
    if (remember(script, self) == 0)
        return self;
    Py_DECREF(self);
    PyErr_NoMemory();
    return NULL;
}

/* The end of a task: its result, or NULL with the exception raised. */
static void task_end(rr_script_t *script, rr__task_t *task, PyObject *result) {
    Py_CLEAR(task->coroutine);
    Py_INCREF(task);
    forget(script, task);
    if (task->origin.kind != RR__SPAWNED) {
        rr__settle(script, &task->origin, result);
        end(script->state, &task->future, result ? RR__RESULT : RR__CANCELLED, result);
    } else if (result) {
        end(script->state, &task->future, RR__RESULT, result);
    } else {
        PyObject *error = rr__exception_take();
        bool cancelled = PyErr_GivenExceptionMatches(error, script->state->cancelled_error);
        end(script->state, &task->future, cancelled ? RR__CANCELLED : RR__ERROR, cancelled ? NULL : error);
        Py_DECREF(error);
    }
    Py_XDECREF(result);
    Py_DECREF(task);
}

/* coroutine.throw() with the outcome in PyIter_Send's terms; takes over the error. */
static PySendResult throw_in(rr_script_t *script, rr__task_t *task, PyObject *error, PyObject **result) {
    *result = error ? PyObject_CallMethodOneArg(task->coroutine, script->state->name_throw, error) : NULL;
    Py_XDECREF(error);
    if (*result)
        return PYGEN_NEXT;
    if (!PyErr_ExceptionMatches(PyExc_StopIteration))
        return PYGEN_ERROR;
    PyObject *stop = rr__exception_take();
    *result = PyObject_GetAttrString(stop, "value");
    Py_DECREF(stop);
    return *result ? PYGEN_RETURN : PYGEN_ERROR;
}

/* What the coroutine yielded: one of our futures, None (just another turn), or something we cannot wait for. */
static int wait_for(rr_script_t *script, rr__task_t *task, PyObject *yielded) {
    if (yielded == Py_None)
        return queue_task(script, task);
    if (!is_future(script->state, yielded)) {
        PyErr_Format(PyExc_RuntimeError, "%.100s cannot be awaited here: set `asyncio: true` for this scene",
                     Py_TYPE(yielded)->tp_name);
        return -1;
    }
    rr__future_t *future = (rr__future_t *)yielded;
    if (future->state != RR__PENDING)
        return queue_task(script, task);
    if (add_waiter(future, (PyObject *)task) != 0)
        return -1;
    Py_XSETREF(task->waiting, (rr__future_t *)Py_NewRef(future));
    return 0;
}

/* Queues the task to get the pending exception thrown in at its next step. */
static void throw_later(rr_script_t *script, rr__task_t *task) {
    Py_XSETREF(task->thrown, rr__exception_take());
    if (queue_task(script, task) != 0)
        rr__report(script, &task->origin);
}

void rr__task_wait(rr_script_t *script, rr__task_t *task, PyObject *yielded) {
    if (wait_for(script, task, yielded) != 0)
        throw_later(script, task);
}

static PySendResult advance(rr_script_t *script, rr__task_t *task, PyObject **result) {
    PySendResult how;
    if (task->thrown) {
        PyObject *error = task->thrown;
        task->thrown = NULL;
        how = throw_in(script, task, error, result);
    } else {
        how = PyIter_Send(task->coroutine, Py_None, result);
    }
    if (how == PYGEN_NEXT) {
        rr__task_wait(script, task, *result);
        Py_CLEAR(*result);
    }
    return how;
}

void rr__task_step(rr_script_t *script, rr__task_t *task) {
    if (rr__task_over(task) || task->foreign || !task->coroutine)
        return;
    PyObject *result = NULL;
    PySendResult how = PYGEN_ERROR;
    rr__origin_t *before = script->origin;
    Py_INCREF(task);
    script->origin = &task->origin;
    if (PyContext_Enter(task->context) == 0) {
        rr__python_begin(script);
        how = advance(script, task, &result);
        rr__python_end(script);
        if (PyContext_Exit(task->context) != 0)
            PyErr_Clear();
    }
    if (how != PYGEN_NEXT)
        task_end(script, task, how == PYGEN_RETURN ? result : NULL);
    script->origin = before;
    Py_DECREF(task);
}

PyObject *rr__task_start_foreign(rr_script_t *script, rr__task_t *task) {
    PyObject *args[] = {task->coroutine, (PyObject *)task};
    PyObject *drive = PyObject_GetAttrString(script->glue, "drive");
    PyObject *foreign = drive ? PyObject_Vectorcall(drive, args, 2, NULL) : NULL;
    Py_XDECREF(drive);
    if (!foreign) {
        task->future.state = RR__CANCELLED;
        forget(script, task);
        return NULL;
    }
    task->foreign = true;
    Py_XSETREF(task->coroutine, foreign);
    return foreign;
}

/* The asyncio.Task that drives it is done. */
static PyObject *task_finished(PyObject *object, PyObject *driver) {
    rr_script_t *script = rr__script_here(state_of(object));
    rr__task_t *task = (rr__task_t *)object;
    if (!script)
        return NULL;
    if (rr__task_over(task))
        Py_RETURN_NONE;
    task_end(script, task, PyObject_CallMethod(driver, "result", NULL));
    Py_RETURN_NONE;
}

void rr__task_cancel(rr_script_t *script, rr__task_t *task) {
    if (rr__task_over(task))
        return;
    if (task->foreign) {
        PyObject *result = PyObject_CallMethodNoArgs(task->coroutine, script->state->name_cancel);
        if (!result)
            rr__report(script, &task->origin);
        Py_XDECREF(result);
        return;
    }
    rr__future_t *waiting = task->waiting;
    if (waiting && waiting->state == RR__PENDING) {
        Py_INCREF(waiting);
        rr__future_cancel(script->state, waiting); /* wakes the task, which sees CancelledError */
        Py_DECREF(waiting);
        return;
    }
    PyErr_SetNone(script->state->cancelled_error);
    throw_later(script, task);
}
