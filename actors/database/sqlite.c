/* sqlite.c: SQLite as a driver: a file, and a thread that has it. Jobs are given to it ahead and come back in order, a wake-up for
 * all that are ready. WAL, foreign keys on; a lock is waited for until the query's time is over. */
#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "actors/database/database_impl.h"
#include "net/utf8.h"
#include "runtime/clock.h"

#define LOCK_LOOK_MS 5 /* how often a lock is tried again */
#define PROGRESS_STEPS 1000 /* of SQLite's machine, some 10 us, between two looks whether the task is still wanted */

typedef struct statement {
    sqlite3_stmt *handle;
    uint64_t hash;
    bool used;                       /* by a stream: another one of the same text is prepared anew */
    struct statement *older, *newer; /* by use */
} statement_t;

typedef enum what { WHAT_EXECUTE, WHAT_FETCH, WHAT_END_STREAM } what_t;

typedef struct task { /* a job's way to the thread and back */
    struct task *next;
    rr__db_job_t *job;
    what_t what;
    bool cancelled; /* under lock */
    rr__db_failure_t failure;
    statement_t *stream;
} task_t;

typedef struct task_queue {
    task_t *first, **last;
} task_queue_t;

typedef struct sqlite_file { /* a connection's state: kept until its thread is gone */
    rr__db_connection_t *connection;
    const rr_database_options_t *options;
    const char *path;
    uv_async_t back; /* the thread has results */
    pthread_t thread;
    pthread_mutex_t lock; /* over what follows up to `db` */
    pthread_cond_t wake;
    task_queue_t todo, done;
    task_t *current;
    bool stop, opened_ready, gone;
    /* What the thread is at shall end. Written under lock: true by the loop, anew by the thread with each task. Read by the thread
     * without it, while SQLite works; relaxed: nothing is read by its word, and the next look sees it as well. */
    _Atomic(bool) unwanted;
    sqlite3 *db; /* the thread's, except for sqlite3_interrupt under the lock while there is a current task */
    rr__db_failure_t open_failure;
    bool opened_told, has_handle, has_thread;
    rr_deferred_t closed; /* one that did not get that far */
    bool in_transaction; /* as of the last job that came back; the loop's */
    /* The thread's own: */
    rr_set_t statements;
    statement_t *oldest, *newest;
    unsigned statement_count;
    statement_t *stream;
} sqlite_file_t;

static sqlite_file_t *file_of(rr__db_connection_t *connection) { return rr__db_state(connection); }

/* ---- Errors ---- */

static rr_db_error_t class_of(int code) {
    switch (code & 0xff) {
    case SQLITE_OK:
    case SQLITE_ROW:
    case SQLITE_DONE:
        return RR_DB_OK;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return RR_DB_DEADLOCK;
    case SQLITE_CONSTRAINT:
        return RR_DB_INTEGRITY;
    case SQLITE_ERROR:
        return RR_DB_SYNTAX;
    case SQLITE_TOOBIG:
    case SQLITE_MISMATCH:
    case SQLITE_RANGE:
        return RR_DB_DATA;
    case SQLITE_CANTOPEN:
    case SQLITE_NOTADB:
    case SQLITE_AUTH:
    case SQLITE_PERM:
        return RR_DB_AUTH;
    case SQLITE_INTERRUPT:
        return RR_DB_CANCELLED;
    default:
        return RR_DB_SERVER;
    }
}

static void say(rr__db_failure_t *failure, rr_db_error_t error, const char *text) {
    failure->error = error;
    snprintf(failure->message, sizeof failure->message, "%s", text);
}

static bool fail(sqlite_file_t *file, task_t *task, int code) {
    rr__db_failure_t *failure = &task->failure;
    int extended = file->db ? sqlite3_extended_errcode(file->db) : code;
    say(failure, class_of(code), file->db ? sqlite3_errmsg(file->db) : sqlite3_errstr(code));
    failure->number = (extended & 0xff) == (code & 0xff) ? extended : code;
    return false;
}

static bool refuse(task_t *task, rr_db_error_t error, const char *text) {
    say(&task->failure, error, text);
    return false;
}

/* ---- Statements (the thread) ---- */

static bool has_text(const void *item, const void *key) {
    const statement_t *statement = item;
    return !statement->used && strcmp(sqlite3_sql(statement->handle), key) == 0;
}

static void unlink_statement(sqlite_file_t *file, statement_t *statement) {
    *(statement->older ? &statement->older->newer : &file->oldest) = statement->newer;
    *(statement->newer ? &statement->newer->older : &file->newest) = statement->older;
}

static void link_newest(sqlite_file_t *file, statement_t *statement) {
    statement->newer = NULL;
    statement->older = file->newest;
    *(file->newest ? &file->newest->newer : &file->oldest) = statement;
    file->newest = statement;
}

static void drop(sqlite_file_t *file, statement_t *statement) {
    if (rr_set_remove(&file->statements, statement->hash, statement)) {
        unlink_statement(file, statement);
        file->statement_count--;
    }
    sqlite3_finalize(statement->handle);
    free(statement);
}

static void keep(sqlite_file_t *file, statement_t *statement) {
    if (!rr_set_add(&file->statements, statement->hash, statement))
        return; /* used once, and dropped by release */
    link_newest(file, statement);
    file->statement_count++;
    for (statement_t *old = file->oldest, *newer; old && file->statement_count > file->options->statements; old = newer) {
        newer = old->newer;
        if (!old->used && old != statement)
            drop(file, old);
    }
}

static bool is_blank(const char *text) { return text[strspn(text, " \t\r\n;")] == '\0'; }

/* Nothing but blanks and comments. */
static bool is_over(sqlite_file_t *file, const char *text) {
    sqlite3_stmt *next = NULL;
    if (is_blank(text))
        return true;
    int code = sqlite3_prepare_v2(file->db, text, -1, &next, NULL);
    sqlite3_finalize(next);
    return code == SQLITE_OK && !next;
}

static statement_t *prepare(sqlite_file_t *file, task_t *task, const char *text, const char **tail) {
    statement_t *statement = calloc(1, sizeof *statement);
    if (!statement) {
        refuse(task, RR_DB_SERVER, "out of memory");
        return NULL;
    }
    int code = sqlite3_prepare_v3(file->db, text, -1, SQLITE_PREPARE_PERSISTENT, &statement->handle, tail);
    if (code == SQLITE_OK && statement->handle)
        return statement;
    free(statement);
    if (code != SQLITE_OK)
        fail(file, task, code);
    else
        refuse(task, RR_DB_SYNTAX, "there is no statement");
    return NULL;
}

/* A statement that nobody uses; NULL with the task's failure. */
static statement_t *statement_of(sqlite_file_t *file, task_t *task) {
    rr__db_job_t *job = task->job;
    const char *tail = "";
    statement_t *statement = rr_set_find(&file->statements, job->text_hash, has_text, job->text);
    if (statement) {
        unlink_statement(file, statement);
        link_newest(file, statement);
        statement->used = true;
        return statement;
    }
    statement = prepare(file, task, job->text, &tail);
    if (statement && !is_over(file, tail)) {
        refuse(task, RR_DB_SYNTAX, "one statement at a time");
        sqlite3_finalize(statement->handle);
        free(statement);
        return NULL;
    }
    if (statement) {
        statement->hash = job->text_hash;
        statement->used = true;
        keep(file, statement);
    }
    return statement;
}

static void release(sqlite_file_t *file, statement_t *statement) {
    statement->used = false;
    sqlite3_reset(statement->handle);
    sqlite3_clear_bindings(statement->handle);
    if (statement != file->newest && !statement->older && !statement->newer && statement != file->oldest)
        drop(file, statement); /* it could not be kept */
}

/* ---- Values in ---- */

static int bind_moment(sqlite3_stmt *handle, int at, const rr_datum_t *datum) {
    const rr_moment_t *m = &datum->moment;
    char text[64] = "";
    size_t used = 0;
    if (datum->kind != RR_DATUM_TIME)
        used += (size_t)snprintf(text, sizeof text, "%04d-%02u-%02u", m->year, m->month, m->day);
    if (datum->kind != RR_DATUM_DATE) {
        used += (size_t)snprintf(text + used, sizeof text - used, "%s%02u:%02u:%02u", used ? " " : "", m->hour, m->minute, m->second);
        if (m->microsecond)
            used += (size_t)snprintf(text + used, sizeof text - used, ".%06u", m->microsecond);
        int minutes = abs(m->offset) / 60;
        if (m->flags & RR_MOMENT_ZONED)
            used += (size_t)snprintf(text + used, sizeof text - used, "%c%02d:%02d", m->offset < 0 ? '-' : '+', minutes / 60, minutes % 60);
    }
    return sqlite3_bind_text(handle, at, text, (int)used, SQLITE_TRANSIENT);
}

/* Texts are the call's own bytes: they live as long as the job does. SQLITE_MISMATCH: it has no such type. */
static int bind_one(sqlite3_stmt *handle, int at, const rr_datum_t *datum, sqlite3_destructor_type life) {
    switch (datum->kind) {
    case RR_DATUM_NULL:
        return sqlite3_bind_null(handle, at);
    case RR_DATUM_BOOL:
        return sqlite3_bind_int(handle, at, datum->flag);
    case RR_DATUM_INT:
        return sqlite3_bind_int64(handle, at, datum->number);
    case RR_DATUM_REAL:
        return sqlite3_bind_double(handle, at, datum->real);
    case RR_DATUM_BYTES:
        return sqlite3_bind_blob64(handle, at, datum->text.size ? datum->text.data : "", datum->text.size, life);
    case RR_DATUM_TEXT:
    case RR_DATUM_DECIMAL:
    case RR_DATUM_JSON:
    case RR_DATUM_UUID:
        return sqlite3_bind_text64(handle, at, datum->text.data, datum->text.size, life, SQLITE_UTF8);
    case RR_DATUM_DATE:
    case RR_DATUM_TIME:
    case RR_DATUM_DATETIME:
        return bind_moment(handle, at, datum);
    default:
        return SQLITE_MISMATCH;
    }
}

static bool bind_all(sqlite_file_t *file, task_t *task, statement_t *statement, rr_datum_reader_t values, uint32_t count) {
    rr_datum_t small[16], *datums = small;
    uint32_t n = task->job->placeholders;
    if (n != (uint32_t)sqlite3_bind_parameter_count(statement->handle))
        return refuse(task, RR_DB_DATA, "placeholders are all ? (with a list), or all :name (with a dict); the statement has others");
    if (n > sizeof small / sizeof *small && !(datums = malloc(n * sizeof *datums)))
        return refuse(task, RR_DB_SERVER, "out of memory");
    int code = rr__db_arrange(task->job, values, count, datums) == RR_OK ? SQLITE_OK : SQLITE_RANGE;
    for (uint32_t i = 0; i < n && code == SQLITE_OK; i++)
        code = bind_one(statement->handle, (int)i + 1, &datums[i], SQLITE_STATIC);
    if (datums != small)
        free(datums);
    if (code == SQLITE_MISMATCH)
        return refuse(task, RR_DB_DATA, "a parameter is no value of SQLite: a length of time, or an integer of 2^63 or more");
    return code == SQLITE_OK || fail(file, task, code);
}

/* ---- Values out ---- */

static void put_text(rr__db_job_t *job, sqlite3_stmt *handle, int column, bool text) {
    const void *data = sqlite3_column_type(handle, column) == SQLITE_BLOB && !text ? sqlite3_column_blob(handle, column)
                                                                                 : (const void *)sqlite3_column_text(handle, column);
    size_t size = (size_t)sqlite3_column_bytes(handle, column);
    rr_datum_put_text(&job->out, rr_utf8_valid(data ? data : (const void *)"", size) ? RR_DATUM_TEXT : RR_DATUM_BYTES, data, size);
}

static void put_value(rr__db_job_t *job, sqlite3_stmt *handle, int column) {
    int type = sqlite3_column_type(handle, column);
    if (type == SQLITE_NULL)
        rr_datum_put_null(&job->out);
    else if (type == SQLITE_TEXT || job->flags & RR_QUERY_TEXTS)
        put_text(job, handle, column, type != SQLITE_BLOB);
    else if (type == SQLITE_INTEGER)
        rr_datum_put_int(&job->out, sqlite3_column_int64(handle, column));
    else if (type == SQLITE_FLOAT)
        rr_datum_put_real(&job->out, sqlite3_column_double(handle, column));
    else
        rr_datum_put_text(&job->out, RR_DATUM_BYTES, sqlite3_column_blob(handle, column), (size_t)sqlite3_column_bytes(handle, column));
}

static void put_columns(rr__db_job_t *job, sqlite3_stmt *handle) {
    int count = sqlite3_column_count(handle);
    rr__db_columns(job, (uint32_t)count);
    for (int i = 0; i < count; i++) {
        const char *name = sqlite3_column_name(handle, i);
        rr_datum_put_text(&job->out, RR_DATUM_TEXT, name ? name : "", name ? strlen(name) : 0);
    }
}

static void put_row(rr__db_job_t *job, sqlite3_stmt *handle) {
    int count = sqlite3_column_count(handle);
    rr__db_row(job, (uint32_t)count);
    for (int i = 0; i < count; i++)
        put_value(job, handle, i);
}

/* ---- Jobs (the thread) ---- */

/* Rows until the end, the limit, or the end of a part. */
static int rows(rr__db_job_t *job, sqlite3_stmt *handle, size_t part, int64_t *count) {
    int code;
    while ((code = sqlite3_step(handle)) == SQLITE_ROW) {
        put_row(job, handle);
        ++*count;
        if (job->out.status != RR_OK || (part && job->out.size >= part))
            break;
    }
    return code;
}

static void note_changes(sqlite_file_t *file, rr__db_job_t *job, bool reads, int64_t total_before, int64_t count) {
    job->affected = reads ? count : sqlite3_total_changes64(file->db) != total_before ? sqlite3_changes64(file->db) : 0;
    job->last_id = sqlite3_last_insert_rowid(file->db);
    job->has_last_id = !reads && job->last_id != 0;
}

static bool run(sqlite_file_t *file, task_t *task, statement_t *statement) {
    rr__db_job_t *job = task->job;
    sqlite3_stmt *handle = statement->handle;
    int64_t count = 0, before = sqlite3_total_changes64(file->db);
    bool reads = sqlite3_stmt_readonly(handle);
    if (!bind_all(file, task, statement, job->parameters, job->parameter_count))
        return false;
    if (!reads)
        sqlite3_set_last_insert_rowid(file->db, 0);
    put_columns(job, handle);
    int code = rows(job, handle, 0, &count);
    if (code != SQLITE_DONE && code != SQLITE_ROW)
        return fail(file, task, code);
    note_changes(file, job, reads, before, count);
    return true;
}

static bool run_query(sqlite_file_t *file, task_t *task) {
    statement_t *statement = statement_of(file, task);
    if (!statement)
        return false;
    bool good = run(file, task, statement);
    release(file, statement);
    return good;
}

static void set_unwanted(sqlite_file_t *file, bool unwanted) {
    atomic_store_explicit(&file->unwanted, unwanted, memory_order_relaxed);
}

static bool is_unwanted(sqlite_file_t *file) { return atomic_load_explicit(&file->unwanted, memory_order_relaxed); }

/* Several statements in one text, without parameters, for the seed's scripts: the rows of the last one that has some. */
static bool run_script(sqlite_file_t *file, task_t *task) {
    rr__db_job_t *job = task->job;
    const char *at = job->text;
    bool good = true;
    while (good && !is_over(file, at)) {
        const char *tail = "";
        if (is_unwanted(file))
            return refuse(task, RR_DB_CANCELLED, "it was given up between two statements");
        statement_t *statement = prepare(file, task, at, &tail);
        if (!statement)
            return false;
        if (sqlite3_column_count(statement->handle) > 0 || job->out.size == 0)
            rr_datum_drop(&job->out);
        good = run(file, task, statement);
        sqlite3_finalize(statement->handle);
        free(statement);
        at = tail;
    }
    return good;
}

/* May it be that there is more than one statement? */
static bool is_script(const rr__db_job_t *job) {
    const char *semicolon = job->placeholders == 0 ? strchr(job->text, ';') : NULL;
    return (job->flags & RR_QUERY_TEXTS) && semicolon && !is_blank(semicolon);
}

static int simple(sqlite_file_t *file, const char *text) { return sqlite3_exec(file->db, text, NULL, NULL, NULL); }

static bool run_lists(sqlite_file_t *file, task_t *task, statement_t *statement) {
    rr__db_job_t *job = task->job;
    int64_t affected = 0;
    for (uint32_t i = 0; i < job->list_count; i++) {
        rr_datum_reader_t values;
        int count = rr__db_next_list(job, &values), code;
        int64_t before = sqlite3_total_changes64(file->db);
        if (count < 0 || !bind_all(file, task, statement, values, (uint32_t)count))
            return count < 0 ? refuse(task, RR_DB_DATA, "a batch takes a list of lists") : false;
        while ((code = sqlite3_step(statement->handle)) == SQLITE_ROW) {
        }
        if (code != SQLITE_DONE)
            return fail(file, task, code);
        sqlite3_reset(statement->handle);
        affected += sqlite3_total_changes64(file->db) != before ? sqlite3_changes64(file->db) : 0;
    }
    job->affected = affected;
    return true;
}

static bool run_batch(sqlite_file_t *file, task_t *task) {
    bool own = sqlite3_get_autocommit(file->db);
    int code = own ? simple(file, "BEGIN IMMEDIATE") : SQLITE_OK;
    if (code != SQLITE_OK)
        return fail(file, task, code);
    statement_t *statement = statement_of(file, task);
    bool good = statement && run_lists(file, task, statement);
    if (statement)
        release(file, statement);
    if (own && good) {
        code = simple(file, "COMMIT");
        good = code == SQLITE_OK || fail(file, task, code);
    }
    if (own && !good && !sqlite3_get_autocommit(file->db))
        (void)simple(file, "ROLLBACK"); /* the failure that counts is told already */
    return good;
}

/* ---- Streams (the thread) ---- */

static void stream_over(sqlite_file_t *file) {
    if (file->stream)
        release(file, file->stream);
    file->stream = NULL;
}

static bool stream_part(sqlite_file_t *file, task_t *task) {
    rr__db_job_t *job = task->job;
    int64_t count = 0;
    if (!file->stream)
        return refuse(task, RR_DB_STATE, "the stream is over");
    put_columns(job, file->stream->handle);
    int code = rows(job, file->stream->handle, file->options->stream_bytes, &count);
    job->more = code == SQLITE_ROW;
    if (job->more)
        return true;
    bool good = code == SQLITE_DONE || fail(file, task, code);
    stream_over(file);
    return good;
}

static bool stream_begin(sqlite_file_t *file, task_t *task) {
    file->stream = statement_of(file, task);
    if (!file->stream)
        return false;
    if (!bind_all(file, task, file->stream, task->job->parameters, task->job->parameter_count)) {
        stream_over(file);
        return false;
    }
    return stream_part(file, task);
}

/* ---- The thread ---- */

/* A text that names no transaction any more runs in none: the server's rollback was not seen yet by who sent it. */
static bool transaction_is_gone(sqlite_file_t *file, const rr__db_job_t *job) {
    return job->transaction && sqlite3_get_autocommit(file->db) && strcmp(job->text, "ROLLBACK") != 0;
}

/* It was cancelled before it began. A stream whose part fails is over. */
static void give_up(sqlite_file_t *file, task_t *task) {
    refuse(task, RR_DB_CANCELLED, "it was given up before it began");
    if (task->what == WHAT_FETCH)
        stream_over(file);
}

static void run_task(sqlite_file_t *file, task_t *task) {
    rr__db_job_t *job = task->job;
    if (task->what == WHAT_END_STREAM) {
        stream_over(file);
        return;
    }
    job->sent = true;
    if (task->what == WHAT_FETCH)
        stream_part(file, task);
    else if (transaction_is_gone(file, job))
        refuse(task, RR_DB_STATE, "the transaction was rolled back");
    else if (job->transaction && sqlite3_get_autocommit(file->db))
        rr__db_columns(job, 0); /* a ROLLBACK of nothing */
    else if (job->op == RR_DB_BATCH)
        run_batch(file, task);
    else if (job->op == RR_DB_STREAM)
        stream_begin(file, task);
    else if (is_script(job))
        run_script(file, task);
    else
        run_query(file, task);
}

/* Somebody else has the file: 1 = try again, 0 = this one was cancelled. */
static int on_locked(void *context, int count) {
    sqlite_file_t *file = context;
    struct timespec until = rr_machine_in(LOCK_LOOK_MS * RR_NS_PER_MS);
    (void)count;
    pthread_mutex_lock(&file->lock);
    while (file->current && !file->current->cancelled && !file->stop &&
           pthread_cond_timedwait(&file->wake, &file->lock, &until) == 0) {
    }
    bool goes_on = !file->stop && file->current && !file->current->cancelled;
    pthread_mutex_unlock(&file->lock);
    return goes_on;
}

/* sqlite3_interrupt is lost when it comes while no statement has begun: before the first one, between two of a batch. */
static int on_progress(void *context) { return is_unwanted(context); }

static bool open_file(sqlite_file_t *file) {
    task_t task = {0};
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
    int code = sqlite3_open_v2(file->path, &file->db, flags, NULL);
    if (code == SQLITE_OK)
        code = sqlite3_busy_timeout(file->db, (int)file->options->connect_timeout_ms);
    if (code == SQLITE_OK)
        code = simple(file, "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON");
    if (code == SQLITE_OK)
        code = sqlite3_busy_handler(file->db, on_locked, file);
    if (code == SQLITE_OK) {
        sqlite3_progress_handler(file->db, PROGRESS_STEPS, on_progress, file);
        return true;
    }
    fail(file, &task, code);
    rr__db_failure_t *failure = &file->open_failure;
    *failure = (rr__db_failure_t){.error = RR_DB_CONNECTION, .number = task.failure.number, .lasting = task.failure.error == RR_DB_AUTH};
    snprintf(failure->message, sizeof failure->message, "cannot open the file %.200s: %.200s", file->path, task.failure.message);
    return false;
}

static void push(task_queue_t *queue, task_t *task) {
    task->next = NULL;
    *queue->last = task;
    queue->last = &task->next;
}

static task_t *pop(task_queue_t *queue) {
    task_t *task = queue->first;
    if (task && !(queue->first = task->next))
        queue->last = &queue->first;
    return task;
}

static void close_file(sqlite_file_t *file) {
    while (file->oldest)
        drop(file, file->oldest);
    rr_set_free(&file->statements);
    sqlite3_close_v2(file->db);
    file->db = NULL;
}

/* Runs what comes until it is told to stop; what is left then is not run. */
static void work(sqlite_file_t *file) {
    pthread_mutex_lock(&file->lock);
    while (!file->stop) {
        task_t *task = pop(&file->todo);
        if (!task) {
            pthread_cond_wait(&file->wake, &file->lock);
            continue;
        }
        file->current = task;
        bool cancelled = task->cancelled;
        set_unwanted(file, cancelled);
        pthread_mutex_unlock(&file->lock);
        if (cancelled && task->what != WHAT_END_STREAM)
            give_up(file, task);
        else
            run_task(file, task);
        pthread_mutex_lock(&file->lock);
        file->current = NULL;
        task->job->driver_data = sqlite3_get_autocommit(file->db) ? NULL : task; /* for the loop: a transaction is open */
        push(&file->done, task);
        uv_async_send(&file->back);
    }
    pthread_mutex_unlock(&file->lock);
}

static void *thread_main(void *context) {
    sqlite_file_t *file = context;
    pthread_setname_np(pthread_self(), "sqlite");
    bool open = open_file(file);
    pthread_mutex_lock(&file->lock);
    file->opened_ready = true;
    pthread_mutex_unlock(&file->lock);
    uv_async_send(&file->back);
    if (open)
        work(file);
    stream_over(file);
    close_file(file);
    pthread_mutex_lock(&file->lock);
    while (!file->stop) /* it did not open: the loop says when to go */
        pthread_cond_wait(&file->wake, &file->lock);
    file->gone = true;
    pthread_mutex_unlock(&file->lock);
    uv_async_send(&file->back);
    return NULL;
}

/* ---- The loop's side ---- */

static void closed(sqlite_file_t *file) {
    pthread_cond_destroy(&file->wake);
    pthread_mutex_destroy(&file->lock);
    rr__db_closed(file->connection);
}

static void on_handle_closed(uv_handle_t *handle) { closed(handle->data); }

static void on_closed(rr_deferred_t *item) { closed((sqlite_file_t *)((char *)item - offsetof(sqlite_file_t, closed))); }

static void give_back(sqlite_file_t *file, task_t *task) {
    rr__db_job_t *job = task->job;
    rr__db_failure_t failure = task->failure;
    file->in_transaction = job->driver_data != NULL;
    job->driver_data = NULL;
    free(task);
    rr__db_done(file->connection, job, failure.error == RR_DB_OK ? NULL : &failure, false);
}

static void on_back(uv_async_t *handle) {
    sqlite_file_t *file = handle->data;
    task_t *task;
    pthread_mutex_lock(&file->lock);
    task_queue_t done = file->done;
    bool ready = file->opened_ready, gone = file->gone;
    file->done = (task_queue_t){NULL, &file->done.first};
    pthread_mutex_unlock(&file->lock);
    if (ready && !file->opened_told) {
        file->opened_told = true;
        rr__db_opened(file->connection, sqlite3_libversion(), &file->open_failure);
    }
    while ((task = done.first)) {
        done.first = task->next;
        give_back(file, task);
    }
    if (gone) {
        pthread_join(file->thread, NULL); /* its last act was to say so */
        uv_close((uv_handle_t *)handle, on_handle_closed);
    }
}

static void opened_not(rr__db_connection_t *connection) {
    rr__db_failure_t failure = {.error = RR_DB_CONNECTION};
    say(&failure, RR_DB_CONNECTION, "no memory or thread for it");
    rr__db_opened(connection, NULL, &failure);
}

static int check(const rr__db_url_t *url, char *why, size_t why_size) {
    static const char *const options[] = {NULL};
    if (!url->database[0])
        return rr_fail(RR_EINVAL, why, why_size,
                       "the file is missing: sqlite://./game.db or sqlite:///var/lib/game.db");
    return rr__db_url_known(url, options, why, why_size);
}

static void open_(rr__db_connection_t *connection) {
    sqlite_file_t *file = file_of(connection);
    pthread_condattr_t attr;
    *file = (sqlite_file_t){.connection = connection, .options = rr__db_options(connection), .path = rr__db_url(connection)->database};
    file->todo.last = &file->todo.first;
    file->done.last = &file->done.first;
    file->back.data = file;
    file->closed.fn = on_closed;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&file->wake, &attr);
    pthread_condattr_destroy(&attr);
    pthread_mutex_init(&file->lock, NULL);
    file->has_handle = uv_async_init(rr_loop_uv(rr__db_loop(connection)), &file->back, on_back) == 0;
    file->has_thread = file->has_handle && pthread_create(&file->thread, NULL, thread_main, file) == 0;
    if (!file->has_thread)
        opened_not(connection);
}

static void give(rr__db_connection_t *connection, rr__db_job_t *job, what_t what) {
    sqlite_file_t *file = file_of(connection);
    task_t *task = calloc(1, sizeof *task);
    if (!task) {
        rr__db_failure_t failure = {.error = RR_DB_BUSY, .message = "out of memory"};
        rr__db_done(connection, job, &failure, what != WHAT_EXECUTE); /* a stream that cannot go on: not without closing */
        return;
    }
    task->job = job;
    task->what = what;
    job->driver_data = task;
    pthread_mutex_lock(&file->lock);
    push(&file->todo, task);
    if (!file->current)
        pthread_cond_signal(&file->wake);
    pthread_mutex_unlock(&file->lock);
}

static void execute(rr__db_connection_t *connection, rr__db_job_t *job) { give(connection, job, WHAT_EXECUTE); }
static void fetch(rr__db_connection_t *connection, rr__db_job_t *job) { give(connection, job, WHAT_FETCH); }
static void end_stream(rr__db_connection_t *connection, rr__db_job_t *job) { give(connection, job, WHAT_END_STREAM); }

static void cancel(rr__db_connection_t *connection, rr__db_job_t *job) {
    sqlite_file_t *file = file_of(connection);
    pthread_mutex_lock(&file->lock);
    task_t *task = job->driver_data; /* NULL: it is done */
    if (task)
        task->cancelled = true;
    if (task && file->current == task) {
        set_unwanted(file, true);
        sqlite3_interrupt(file->db);
        pthread_cond_broadcast(&file->wake); /* it may wait for a lock */
    }
    pthread_mutex_unlock(&file->lock);
}

static const char *begin(unsigned flags, const char **why) {
    (void)why;
    /* Every isolation level is met: SQLite's transactions are serializable. A writer takes the lock at once, or two that read
     * first could not both write. */
    return flags & RR_QUERY_READ_ONLY ? "BEGIN" : "BEGIN IMMEDIATE";
}

static bool in_transaction(rr__db_connection_t *connection) { return file_of(connection)->in_transaction; }

static void close_(rr__db_connection_t *connection) {
    sqlite_file_t *file = file_of(connection);
    rr__db_failure_t failure = {.error = RR_DB_CONNECTION, .message = "the database is closed"};
    task_t *task;
    if (!file->has_thread) {
        if (file->has_handle)
            uv_close((uv_handle_t *)&file->back, on_handle_closed);
        else
            rr_loop_defer(rr__db_loop(connection), &file->closed);
        return;
    }
    pthread_mutex_lock(&file->lock);
    task_queue_t todo = file->todo;
    file->todo = (task_queue_t){NULL, &file->todo.first};
    file->stop = true;
    set_unwanted(file, true);
    if (file->current)
        sqlite3_interrupt(file->db);
    pthread_cond_broadcast(&file->wake);
    pthread_mutex_unlock(&file->lock);
    while ((task = todo.first)) {
        rr__db_job_t *job = task->job;
        todo.first = task->next;
        free(task);
        rr__db_done(connection, job, &failure, false);
    }
}

const rr__db_driver_t rr__db_sqlite = {
    .name = "sqlite",
    .schemes = {"sqlite"},
    .style = RR__DB_QUESTION,
    .multiplexed = true,
    .pool_max = 1,
    .state_size = sizeof(sqlite_file_t),
    .check = check,
    .open = open_,
    .execute = execute,
    .fetch = fetch,
    .end_stream = end_stream,
    .cancel = cancel,
    .begin = begin,
    .in_transaction = in_transaction,
    .close = close_,
};
