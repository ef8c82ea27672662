#include "python/database.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "python/awaitable.h"
#include "python/module.h"
#include "python/result.h"
#include "python/values.h"

/* ---- Errors ---- */

static PyObject *lax_text(const char *data, size_t size) {
    return PyUnicode_DecodeUTF8(data ? data : "", (Py_ssize_t)size, "replace");
}

PyObject *rr__database_error(rr__state_t *state, const rr_db_answer_t *answer) {
    if (!state->database_error)
        return PyErr_Format(PyExc_RuntimeError, "the package redrabbit is not imported");
    PyObject *args[7] = {NULL,
                         PyLong_FromLong(answer->error),
                         PyBool_FromLong(answer->executed != RR_EXECUTED_NO),
                         PyLong_FromLongLong(answer->number),
                         lax_text(answer->state, answer->state_size),
                         lax_text(answer->message, answer->message_size),
                         lax_text(answer->sql, answer->sql_size)};
    bool whole = true;
    for (size_t i = 1; i < 7; i++)
        whole = whole && args[i];
    PyObject *error =
        whole ? PyObject_Vectorcall(state->database_error, args + 1, 6 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL) : NULL;
    for (size_t i = 1; i < 7; i++)
        Py_XDECREF(args[i]);
    return error;
}

static rr_db_error_t error_of_call(int status) {
    switch (status) {
    case RR_NOROUTE:
    case RR_STALE:
    case RR_DIED:
    case RR_LINKDOWN:
    case RR_ESTOPPING:
        return RR_DB_CONNECTION;
    case RR_EFULL:
    case RR_OVERLOAD:
    case RR_ELIMIT:
    case RR_ENOMEM:
        return RR_DB_BUSY;
    case RR_TIMEOUT:
        return RR_DB_TIMEOUT;
    case RR_CANCELLED:
        return RR_DB_CANCELLED;
    case RR_ETOOBIG:
        return RR_DB_DATA;
    default:
        return RR_DB_STATE;
    }
}

static bool maybe_executed(int status) {
    return status == RR_DIED || status == RR_LINKDOWN || status == RR_TIMEOUT || status == RR_CANCELLED ||
           status == RR_EPROTO;
}

/* The exception of a request that got no answer from its database. */
static PyObject *call_error(rr__state_t *state, PyObject *database, int status, const void *text, size_t size) {
    const char *name = PyUnicode_AsUTF8(database);
    char message[400];
    if (!name)
        return NULL;
    if (status == RR_EHANDLER && !size)
        status = RR_DIED; /* it failed over this request */
    if (status == RR_NOROUTE)
        snprintf(message, sizeof message, "there is no database named %.127s", name);
    else if (status == RR_EHANDLER)
        snprintf(message, sizeof message, "%.127s is no database: %.*s", name, size < 200 ? (int)size : 200,
                 (const char *)text);
    else
        snprintf(message, sizeof message, "%.127s: %s", name, rr_strerror(status));
    const char *code = rr_error_name(status);
    const rr_db_answer_t answer = {.error = error_of_call(status),
                                   .executed = maybe_executed(status) ? RR_EXECUTED_MAYBE : RR_EXECUTED_NO,
                                   .state = code,
                                   .state_size = strlen(code),
                                   .message = message,
                                   .message_size = strlen(message)};
    return rr__database_error(state, &answer);
}

/* Turns the pending exception, of a value that Python cannot take, into one of the database: the query itself was executed. */
static PyObject *conversion_error(rr__state_t *state) {
    PyObject *cause = rr__exception_take();
    if (!PyErr_GivenExceptionMatches(cause, PyExc_ValueError) && !PyErr_GivenExceptionMatches(cause, PyExc_OverflowError) &&
        !PyErr_GivenExceptionMatches(cause, PyExc_ArithmeticError))
        return cause;
    PyObject *text = PyObject_Str(cause);
    Py_ssize_t size = 0;
    const char *message = text ? PyUnicode_AsUTF8AndSize(text, &size) : NULL;
    PyErr_Clear();
    const rr_db_answer_t answer = {.error = RR_DB_DATA,
                                   .executed = RR_EXECUTED_MAYBE,
                                   .message = message ? message : "a value cannot be shown",
                                   .message_size = message ? (size_t)size : strlen("a value cannot be shown")};
    PyObject *error = rr__database_error(state, &answer);
    Py_XDECREF(text);
    if (!error) {
        Py_DECREF(cause);
        return rr__exception_take();
    }
    PyException_SetCause(error, cause);
    return error;
}

/* ---- Parameters ---- */

static int blame_at(Py_ssize_t at) {
    PyObject *number = PyLong_FromSsize_t(at + 1);
    if (number)
        rr__value_blame(number);
    Py_XDECREF(number);
    return -1;
}

#define PARAMETERS_WANTED "parameters are a list or tuple, or a dict for :name"
#define BATCH_WANTED "a batch wants a list of lists (or dicts) of parameters, such as [[1, 'a'], [2, 'b']]"

static PyObject *fast_list(PyObject *values, const char *what) {
    if (PyUnicode_Check(values) || PyBytes_Check(values) || PyByteArray_Check(values) || PyAnySet_Check(values) ||
        !(Py_TYPE(values)->tp_iter || PySequence_Check(values))) {
        PyErr_Format(PyExc_TypeError, "%s, not %.100s", what, Py_TYPE(values)->tp_name);
        return NULL;
    }
    return PySequence_Fast(values, what);
}

static int put_positions(rr__state_t *state, rr_datum_writer_t *writer, PyObject *values, const char *what) {
    PyObject *list = fast_list(values, what);
    if (!list)
        return -1;
    rr_datum_put_list(writer, (uint32_t)PySequence_Fast_GET_SIZE(list));
    int rc = 0;
    for (Py_ssize_t i = 0; rc == 0 && i < PySequence_Fast_GET_SIZE(list); i++)
        if (rr__value_put(state, writer, PySequence_Fast_GET_ITEM(list, i)) != 0)
            rc = blame_at(i);
    Py_DECREF(list);
    return rc;
}

static int put_named(rr__state_t *state, rr_datum_writer_t *writer, PyObject *values) {
    PyObject *name, *value;
    Py_ssize_t at = 0;
    rr_datum_put_list(writer, (uint32_t)PyDict_GET_SIZE(values) * 2);
    while (PyDict_Next(values, &at, &name, &value)) {
        if (!PyUnicode_Check(name)) {
            PyErr_Format(PyExc_TypeError, "a parameter's name is str, not %.100s", Py_TYPE(name)->tp_name);
            return -1;
        }
        if (rr__value_put(state, writer, name) != 0 || rr__value_put(state, writer, value) != 0) {
            rr__value_blame(name);
            return -1;
        }
    }
    return 0;
}

/* One execution's. *named is set by the first; the others must be the same. */
static int put_set(rr__state_t *state, rr_datum_writer_t *writer, PyObject *values, const char *what, int *named) {
    int is_dict = PyDict_Check(values);
    if (*named >= 0 && *named != is_dict) {
        PyErr_SetString(PyExc_TypeError, "parameters are all by position, or all by name");
        return -1;
    }
    *named = is_dict;
    return is_dict ? put_named(state, writer, values) : put_positions(state, writer, values, what);
}

static int put_word(rr__state_t *state, rr_datum_writer_t *writer, PyObject *word) {
    bool fine = PyUnicode_Check(word) || PyFloat_Check(word) || (PyLong_Check(word) && !PyBool_Check(word)) ||
                PyObject_CheckBuffer(word);
    if (fine)
        return rr__value_put(state, writer, word);
    PyErr_Format(PyExc_TypeError, "a word of a command is str, bytes, int or float, not %.100s", Py_TYPE(word)->tp_name);
    return -1;
}

static int put_words(rr__state_t *state, rr_datum_writer_t *writer, PyObject *words) {
    PyObject *list = fast_list(words, "a command is a list or tuple of words");
    if (!list)
        return -1;
    int rc = 0;
    rr_datum_put_list(writer, (uint32_t)PySequence_Fast_GET_SIZE(list));
    for (Py_ssize_t i = 0; rc == 0 && i < PySequence_Fast_GET_SIZE(list); i++)
        if (put_word(state, writer, PySequence_Fast_GET_ITEM(list, i)) != 0)
            rc = blame_at(i);
    Py_DECREF(list);
    return rc;
}

/* BATCH, COMMANDS: a list of them. */
static int put_sets(rr__state_t *state, rr_datum_writer_t *writer, rr_db_op_t op, PyObject *sets, int *named) {
    PyObject *list = fast_list(sets, op == RR_DB_BATCH ? BATCH_WANTED : "commands are a list");
    if (!list)
        return -1;
    int rc = 0;
    rr_datum_put_list(writer, (uint32_t)PySequence_Fast_GET_SIZE(list));
    for (Py_ssize_t i = 0; rc == 0 && i < PySequence_Fast_GET_SIZE(list); i++) {
        PyObject *set = PySequence_Fast_GET_ITEM(list, i);
        rc = op == RR_DB_BATCH ? put_set(state, writer, set, BATCH_WANTED, named) : put_words(state, writer, set);
    }
    Py_DECREF(list);
    return rc;
}

/* Whatever kind the op wants; *named: 1 if by name. */
static int put_parameters(rr__state_t *state, rr_datum_writer_t *writer, rr_db_op_t op, PyObject *values, int *named) {
    if (values == Py_None || (PyTuple_Check(values) && PyTuple_GET_SIZE(values) == 0 && op != RR_DB_BATCH)) {
        rr_datum_put_null(writer);
        return 0;
    }
    if (op == RR_DB_BATCH || op == RR_DB_COMMANDS)
        return put_sets(state, writer, op, values, named);
    return op == RR_DB_SUBSCRIBE ? put_words(state, writer, values) : put_set(state, writer, values, PARAMETERS_WANTED, named);
}

static bool by_name(rr_db_op_t op, PyObject *values) {
    if (op == RR_DB_BATCH && PyList_Check(values) && PyList_GET_SIZE(values))
        return PyDict_Check(PyList_GET_ITEM(values, 0));
    if (op == RR_DB_BATCH && PyTuple_Check(values) && PyTuple_GET_SIZE(values))
        return PyDict_Check(PyTuple_GET_ITEM(values, 0));
    return PyDict_Check(values);
}

/* ---- Requests ---- */

/* The arguments of query() and query_wait(): (database, op, text, parameters, shape, timeout_ms, flags, key, transaction,
 * stream). */
enum { DATABASE, OP, TEXT, PARAMETERS, SHAPE, TIMEOUT, FLAGS, KEY, TRANSACTION, STREAM, ARGUMENTS };

typedef struct request {
    rr_query_t query;
    const char *database;
    unsigned shape;
} request_t;

static int text_from(PyObject *text, const char **data, size_t *size) {
    Py_ssize_t length = 0;
    if (text == Py_None)
        return 0;
    if (!PyUnicode_Check(text)) {
        PyErr_Format(PyExc_TypeError, "str is wanted, not %.100s", Py_TYPE(text)->tp_name);
        return -1;
    }
    *data = PyUnicode_AsUTF8AndSize(text, &length);
    *size = (size_t)length;
    return *data ? 0 : -1;
}

static int request_from(PyObject *const *args, request_t *out) {
    *out = (request_t){0};
    rr_query_t *query = &out->query;
    out->database = PyUnicode_AsUTF8(args[DATABASE]);
    if (!out->database || text_from(args[TEXT], &query->text, &query->text_size) != 0 ||
        text_from(args[KEY], &query->key, &query->key_size) != 0)
        return -1;
    unsigned long op = PyLong_AsUnsignedLong(args[OP]);
    unsigned long shape = PyErr_Occurred() ? 0 : PyLong_AsUnsignedLong(args[SHAPE]);
    unsigned long timeout = PyErr_Occurred() ? 0 : PyLong_AsUnsignedLong(args[TIMEOUT]);
    query->flags = PyErr_Occurred() ? 0 : (unsigned)PyLong_AsUnsignedLong(args[FLAGS]);
    query->transaction = PyErr_Occurred() ? 0 : PyLong_AsUnsignedLongLong(args[TRANSACTION]);
    query->stream = PyErr_Occurred() ? 0 : PyLong_AsUnsignedLongLong(args[STREAM]);
    if (PyErr_Occurred())
        return -1;
    if (op == 0 || op >= RR_DB_OPS || (shape & 15) >= RR__SHAPES || shape > UINT8_MAX || timeout > 86400000) {
        PyErr_SetString(PyExc_ValueError, "a time-out is 0 to 86,400 seconds");
        return -1;
    }
    query->op = (rr_db_op_t)op;
    query->timeout_ms = (unsigned)timeout;
    out->shape = (unsigned)shape;
    query->flags |= by_name(query->op, args[PARAMETERS]) ? RR_QUERY_NAMED : 0;
    return 0;
}

/* The request as bytes. NULL = an exception. */
static rr_buffer_t *encode(rr__state_t *state, const request_t *request, PyObject *parameters) {
    rr_datum_writer_t writer = {0};
    int named = -1;
    rr_query_begin(&writer, &request->query);
    if (put_parameters(state, &writer, request->query.op, parameters, &named) != 0) {
        rr_datum_drop(&writer);
        return NULL;
    }
    int status = writer.status;
    rr_buffer_t *buffer = rr_datum_finish(&writer);
    if (buffer)
        return buffer;
    if (status == RR_ETOOBIG)
        PyErr_SetString(PyExc_ValueError, "the parameters are bigger than 1 GiB");
    else
        PyErr_NoMemory();
    return NULL;
}

static PyObject *function_query(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    rr__state_t *state = rr__module_state(module);
    rr_script_t *script = rr__script_here(state);
    request_t request;
    uint64_t token;
    rr__wait_t *wait;
    if (!script)
        return NULL;
    if (count != ARGUMENTS)
        return PyErr_Format(PyExc_TypeError, "query() takes %d arguments, got %zd", ARGUMENTS, count);
    if (request_from(args, &request) != 0)
        return NULL;
    PyObject *future = rr__wait_future(script, RR__WAIT_QUERY, args[DATABASE], &token, &wait);
    if (!future)
        return NULL;
    wait->op = (uint8_t)request.query.op;
    wait->shape = (uint8_t)request.shape;
    request.query.id = token;
    rr_buffer_t *buffer = encode(state, &request, args[PARAMETERS]);
    int rc = buffer ? script->host.query(script->context, request.database, buffer, request.query.timeout_ms, token) : 0;
    if (buffer && rc == RR_OK)
        return future;
    PyObject *error = buffer ? call_error(state, args[DATABASE], rc, NULL, 0) : NULL;
    rr__wait_free(rr__tokens_take(&script->waits, token));
    if (error)
        rr__wait_end(script, future, error, true);
    else
        Py_CLEAR(future);
    return future;
}

/* ---- Nobody waits: what an answer brings must be given back ---- */

/* A request whose end nobody sees. Failing here costs the database's own time-out at most. */
static void send_alone(rr_script_t *script, PyObject *database, const rr_query_t *from) {
    rr__wait_t *wait;
    const char *name = PyUnicode_AsUTF8(database);
    uint64_t token = name ? rr__wait_new(script, RR__WAIT_QUERY, NULL, database, &wait) : 0;
    rr_query_t query = *from;
    query.id = token;
    rr_buffer_t *buffer = token ? rr_query_encode(&query) : NULL;
    if (token)
        wait->op = (uint8_t)query.op;
    int rc = buffer ? script->host.query(script->context, name, buffer, 0, token) : RR_ENOMEM;
    if (rc != RR_OK && token)
        rr__wait_free(rr__tokens_take(&script->waits, token));
    if (rc != RR_OK)
        PyErr_Clear();
}

static void give_back(rr_script_t *script, const rr__wait_t *wait, const rr_db_answer_t *answer) {
    rr_query_t query = {0};
    if (wait->op == RR_DB_BEGIN)
        query = (rr_query_t){.op = RR_DB_ROLLBACK, .transaction = answer->id};
    else if (wait->op == RR_DB_SUBSCRIBE || (wait->op == RR_DB_STREAM && answer->flags & RR_ANSWER_MORE))
        query = (rr_query_t){.op = RR_DB_CLOSE, .stream = answer->id};
    if (query.op && answer->error == RR_DB_OK)
        send_alone(script, wait->data, &query);
}

/* A transaction's end must reach the server; a part of a stream is stopped by its CLOSE. */
static bool may_be_cancelled(rr_db_op_t op) {
    return op != RR_DB_COMMIT && op != RR_DB_ROLLBACK && op != RR_DB_CLOSE && op != RR_DB_NEXT;
}

void rr__query_abandon(rr_script_t *script, uint64_t token, rr__wait_t *wait) {
    PyObject *target = wait->target;
    wait->target = NULL;
    if (may_be_cancelled((rr_db_op_t)wait->op))
        script->host.query_cancel(script->context, token);
    Py_XDECREF(target);
}

/* query_forget(database, op, transaction, stream): ROLLBACK or CLOSE, without waiting for the end. */
static PyObject *function_query_forget(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    rr_script_t *script = rr__script_here(rr__module_state(module));
    if (!script)
        return NULL;
    if (count != 4 || !PyUnicode_Check(args[0]))
        return PyErr_Format(PyExc_TypeError, "query_forget(database, op, transaction, stream)");
    rr_query_t query = {.op = (rr_db_op_t)PyLong_AsLong(args[1]),
                        .transaction = PyLong_AsUnsignedLongLong(args[2]),
                        .stream = PyLong_AsUnsignedLongLong(args[3])};
    if (PyErr_Occurred())
        return NULL;
    send_alone(script, args[0], &query);
    Py_RETURN_NONE;
}

/* query_drop(token): asyncio's future of that query was cancelled. */
static PyObject *function_query_drop(PyObject *module, PyObject *number) {
    rr_script_t *script = rr__script_here(rr__module_state(module));
    uint64_t token = script ? PyLong_AsUnsignedLongLong(number) : 0;
    if (PyErr_Occurred())
        return NULL;
    rr__wait_t *wait = rr__tokens_get(&script->waits, token);
    return PyBool_FromLong(wait && wait->kind == RR__WAIT_QUERY && rr__wait_drop(script, token));
}

/* ---- Answers ---- */

static PyObject *first_row(rr__state_t *state, rr_db_answer_t *answer, bool dicts, rr__text_style_t style) {
    PyObject *columns = dicts ? rr__result_columns(answer) : NULL, *row = NULL;
    if (!dicts || columns)
        row = rr__result_row(state, answer, columns, style);
    Py_XDECREF(columns);
    return row || PyErr_Occurred() ? row : Py_NewRef(Py_None);
}

static PyObject *first_value(rr__state_t *state, rr_db_answer_t *answer, rr__text_style_t style) {
    uint32_t count;
    int rc = rr_datum_get_list(&answer->rows, &count);
    if (rc == RR_OK && count)
        return rr__value_get(state, &answer->rows, style);
    if (rc == RR_OK || rc == RR_ENOENT)
        Py_RETURN_NONE;
    return PyErr_Format(PyExc_ValueError, "the answer makes no sense");
}

static PyObject *part(rr__state_t *state, rr_db_answer_t *answer, bool dicts, rr__text_style_t style) {
    PyObject *rows = rr__result_new(state, answer, dicts, style);
    if (!rows)
        return NULL;
    return Py_BuildValue("KON", (unsigned long long)answer->id, answer->flags & RR_ANSWER_MORE ? Py_True : Py_False, rows);
}

static PyObject *replies(rr__state_t *state, rr_db_answer_t *answer, rr__text_style_t style) {
    PyObject *row = rr__result_row(state, answer, NULL, style);
    if (!row)
        return PyErr_Occurred() ? NULL : PyList_New(0);
    PyObject *list = PySequence_List(row);
    Py_DECREF(row);
    return list;
}

static PyObject *shaped(rr__state_t *state, rr_db_answer_t *answer, unsigned shape, uint64_t token) {
    bool dicts = shape & RR__SHAPE_DICTS;
    rr__text_style_t style = (rr__text_style_t)(shape / RR__SHAPE_STYLE_BIT);
    switch ((rr__shape_t)(shape & 15)) {
    case RR__SHAPE_ONE:
        return first_row(state, answer, dicts, style);
    case RR__SHAPE_VALUE:
    case RR__SHAPE_REPLY:
        return first_value(state, answer, style);
    case RR__SHAPE_COUNT:
        return PyLong_FromLongLong(answer->affected);
    case RR__SHAPE_ID:
        return Py_BuildValue("KK", (unsigned long long)answer->id, (unsigned long long)token);
    case RR__SHAPE_PART:
        return part(state, answer, dicts, style);
    case RR__SHAPE_REPLIES:
        return replies(state, answer, style);
    case RR__SHAPE_NONE:
        Py_RETURN_NONE;
    default:
        return rr__result_new(state, answer, dicts, style);
    }
}

/* What the query ended with: a value, or with *is_error an exception. Never NULL. */
static PyObject *outcome(rr__state_t *state, PyObject *database, unsigned shape, uint64_t token, int status,
                         const void *data, size_t size, bool *is_error) {
    rr_db_answer_t answer;
    *is_error = true;
    int rc = status == RR_OK ? rr_db_answer_decode(data, size, &answer) : status;
    PyObject *value;
    if (rc != RR_OK) {
        value = call_error(state, database, rc, status == RR_OK ? NULL : data, status == RR_OK ? 0 : size);
        return value ? value : rr__exception_take();
    }
    if (answer.error != RR_DB_OK) {
        value = rr__database_error(state, &answer);
        return value ? value : rr__exception_take();
    }
    value = shaped(state, &answer, shape, token);
    if (!value)
        return conversion_error(state);
    *is_error = (shape & 15) == RR__SHAPE_REPLY && PyExceptionInstance_Check(value);
    return value;
}

void rr_script_queried(rr_script_t *script, uint64_t token, int status, const void *data, size_t size,
                       rr_buffer_t *buffer) {
    rr__wait_t *wait = rr__tokens_take(&script->waits, token);
    if (!wait)
        return;
    if (wait->target) {
        bool is_error;
        PyObject *value = outcome(script->state, wait->data, wait->shape, token, status, data, size, &is_error);
        rr__wait_end(script, wait->target, value, is_error);
    } else {
        rr_db_answer_t answer;
        if (status == RR_OK && rr_db_answer_decode(data, size, &answer) == RR_OK)
            give_back(script, wait, &answer);
    }
    rr__wait_free(wait);
    rr__ready_drain(script);
    rr__turn_end(script);
}

/* query_wait(… as query, patience_ms): the value; blocks this scene, and only it. */
static PyObject *function_query_wait(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    rr__state_t *state = rr__module_state(module);
    rr_script_t *script = rr__script_here(state);
    request_t request;
    if (!script)
        return NULL;
    if (count != ARGUMENTS + 1)
        return PyErr_Format(PyExc_TypeError, "query_wait() takes %d arguments, got %zd", ARGUMENTS + 1, count);
    unsigned long patience = PyLong_AsUnsignedLong(args[ARGUMENTS]);
    if (PyErr_Occurred() || request_from(args, &request) != 0)
        return NULL;
    rr_buffer_t *buffer = encode(state, &request, args[PARAMETERS]), *reply = NULL;
    if (!buffer)
        return NULL;
    int rc;
    Py_BEGIN_ALLOW_THREADS;
    rc = script->host.query_wait(script->context, request.database, buffer, patience < UINT_MAX / 2 ? (unsigned)patience : UINT_MAX / 2, &reply);
    Py_END_ALLOW_THREADS;
    bool is_error;
    PyObject *value = outcome(state, args[DATABASE], request.shape, 0, rc, reply ? rr_buffer_data(reply) : NULL,
                              reply ? rr_buffer_size(reply) : 0, &is_error);
    rr_buffer_unref(reply);
    if (!is_error)
        return value;
    rr__exception_raise(value);
    return NULL;
}

/* ---- Events ---- */

static void run_callback(rr_script_t *script, rr__origin_t *origin, PyObject *function, PyObject *const *args,
                         size_t count) {
    PyObject *result = NULL;
    rr__bump(&script->stats.handlers);
    if (rr__run(script, origin, function, args, count, &result) == RR_OK)
        Py_DECREF(result);
    rr__ready_drain(script);
    rr__turn_end(script);
}

void rr_script_query_event(rr_script_t *script, const void *data, size_t size) {
    rr_datum_reader_t reader = rr_datum_reader(data, size);
    PyObject *fields = script->state->database_event ? rr__value_tuple(script->state, &reader, 5, RR__TEXT_AS_IS) : NULL;
    rr__origin_t origin = {.kind = RR__CALLBACK};
    if (!fields) {
        if (PyErr_Occurred())
            rr__report(script, &origin);
        return;
    }
    PyObject *args[6] = {NULL};
    for (size_t i = 0; i < 5; i++)
        args[i + 1] = PyTuple_GET_ITEM(fields, (Py_ssize_t)i);
    run_callback(script, &origin, script->state->database_event, args + 1, 5);
    Py_DECREF(fields);
}

void rr_script_database_down(rr_script_t *script, const char *name) {
    rr__origin_t origin = {.kind = RR__CALLBACK};
    PyObject *args[2] = {NULL, PyUnicode_FromString(name)};
    if (!args[1])
        rr__report(script, &origin);
    else if (script->state->database_down)
        run_callback(script, &origin, script->state->database_down, args + 1, 1);
    Py_XDECREF(args[1]);
}

/* ---- Databases ---- */

/* database_open(url, pool): the name of the database that serves it. */
static PyObject *function_database_open(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    rr_script_t *script = rr__script_here(rr__module_state(module));
    if (!script)
        return NULL;
    const char *url = count == 2 ? PyUnicode_AsUTF8(args[0]) : NULL;
    unsigned long pool = url ? PyLong_AsUnsignedLong(args[1]) : 0;
    if (PyErr_Occurred())
        return NULL;
    if (!url || pool > 100000)
        return PyErr_Format(PyExc_ValueError, "database_open(url, pool)");
    char name[128] = "", why[600] = "";
    int rc = script->host.database(script->context, url, (unsigned)pool, name, sizeof name, why, sizeof why);
    if (rc == RR_OK)
        return PyUnicode_FromString(name);
    return PyErr_Format(rc == RR_ENOMEM ? PyExc_MemoryError : PyExc_ValueError, "%s", why[0] ? why : rr_strerror(rc));
}

/* database_setup(make_error, on_event, on_down): redrabbit._database hands in what is Python's. */
static PyObject *function_database_setup(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    rr__state_t *state = rr__module_state(module);
    if (count != 3 || !PyCallable_Check(args[0]) || !PyCallable_Check(args[1]) || !PyCallable_Check(args[2]))
        return PyErr_Format(PyExc_TypeError, "database_setup(make_error, on_event, on_down)");
    Py_XSETREF(state->database_error, Py_NewRef(args[0]));
    Py_XSETREF(state->database_event, Py_NewRef(args[1]));
    Py_XSETREF(state->database_down, Py_NewRef(args[2]));
    Py_RETURN_NONE;
}

#define FAST(name) (PyCFunction)(void (*)(void))(name), METH_FASTCALL

PyMethodDef rr__database_functions[] = {
    {"query", FAST(function_query), PyDoc_STR("A request to a database; await it for what its shape says.")},
    {"query_wait", FAST(function_query_wait), PyDoc_STR("The same, waiting for it: blocks the scene.")},
    {"query_forget", FAST(function_query_forget), PyDoc_STR("query_forget($module, database, op, transaction, stream, /)\n--\n\n")},
    {"query_drop", function_query_drop, METH_O, PyDoc_STR("query_drop($module, token, /)\n--\n\n")},
    {"database_open", FAST(function_database_open), PyDoc_STR("database_open($module, url, pool, /)\n--\n\n")},
    {"database_setup", FAST(function_database_setup), PyDoc_STR("database_setup($module, make_error, on_event, on_down, /)\n--\n\n")},
    {NULL, NULL, 0, NULL},
};
