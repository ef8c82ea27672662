/* fake_host.h: a host in C for one script, which writes down what the script does, one line each. No scheduler, no
 * sockets: a test plays the scene on threads of its own. */
#ifndef RR_TESTS_FAKE_HOST_H
#define RR_TESTS_FAKE_HOST_H

#include <check.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "python/script.h"
#include "runtime/executor.h"
#include "runtime/query.h"

typedef struct fake {
    rr_script_t *script;
    char folder[64], file[128], why[4096];
    pthread_mutex_t lock; /* the record and wakes: wake_threadsafe comes from any thread */
    pthread_cond_t changed;
    char *record;
    size_t used, capacity;
    unsigned wakes;
    uint64_t timers[64]; /* tokens started and not cancelled, in order */
    size_t timer_count;
    uint64_t last_call; /* token */
    uint64_t queries[64]; /* tokens of queries under way, in order */
    size_t query_count;
    rr_buffer_t *waited[4]; /* what query_wait brings, in order; RR_NOROUTE without one */
    const char *held;   /* only this session id is held; NULL = all */
    unsigned direct;    /* sends that came by session, not by id */
    uint64_t last_list; /* of multi_send */
    int move_rc;
} fake_t;

__attribute__((unused)) static uint64_t now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

__attribute__((format(printf, 2, 3))) static void note(fake_t *fake, const char *format, ...) {
    char line[65536];
    va_list args;
    va_start(args, format);
    int size = vsnprintf(line, sizeof line - 1, format, args);
    va_end(args);
    if (size > (int)sizeof line - 2)
        size = (int)sizeof line - 2;
    line[size++] = '\n';
    line[size] = '\0';
    pthread_mutex_lock(&fake->lock);
    if (fake->used + (size_t)size + 1 > fake->capacity) {
        fake->capacity = (fake->capacity + (size_t)size + 1) * 2;
        fake->record = realloc(fake->record, fake->capacity);
    }
    memcpy(fake->record + fake->used, line, (size_t)size + 1);
    fake->used += (size_t)size;
    pthread_mutex_unlock(&fake->lock);
}

static const char *show(const rr_sid_t *id, char *out) {
    if (id->text)
        sprintf(out, "'%.*s'", (int)id->size, id->text);
    else
        sprintf(out, "%lld", (long long)id->number);
    return out;
}

static bool is_held(fake_t *fake, const rr_sid_t *id) {
    char text[300];
    return !fake->held || strcmp(show(id, text), fake->held) == 0;
}

static int fake_send(void *host, const rr_sid_t *id, uint16_t cmd, const void *body, size_t size, bool text) {
    char name[300];
    if (!is_held(host, id))
        return RR_ENOENT;
    note(host, "send %s %u %s %.*s", show(id, name), cmd, text ? "text" : "data", (int)size, (const char *)body);
    return RR_OK;
}

/* A session of the host's is its id's text here (session_of). */
static int fake_send_to(void *host, void *session, uint16_t cmd, const void *body, size_t size, bool text) {
    rr_sid_t id = {.text = session, .size = (uint32_t)strlen(session)};
    int rc = fake_send(host, &id, cmd, body, size, text);
    ((fake_t *)host)->direct += rc == RR_OK;
    return rc;
}

static size_t fake_multi_send(void *host, const rr_sid_t *ids, size_t count, uint64_t list, uint16_t cmd, const void *body,
                              size_t size, bool text) {
    ((fake_t *)host)->last_list = list;
    char name[300];
    size_t held = 0;
    for (size_t i = 0; i < count; i++) {
        if (!is_held(host, &ids[i]))
            continue;
        held++;
        note(host, "multi %s %u %.*s", show(&ids[i], name), cmd, (int)size, (const char *)body);
    }
    return held;
}

static int fake_broadcast(void *host, uint16_t cmd, const void *body, size_t size, bool text) {
    note(host, "broadcast %u %s %.*s", cmd, text ? "text" : "data", (int)size, (const char *)body);
    return RR_OK;
}

static int fake_broadcast_gate(void *host, const char *gate, uint16_t cmd, const void *body, size_t size, bool text) {
    note(host, "gate %s %u %.*s", gate, cmd, (int)size, (const char *)body);
    return RR_OK;
}

static int fake_close(void *host, const rr_sid_t *id) {
    char name[300];
    note(host, "close %s", show(id, name));
    return is_held(host, id) ? RR_OK : RR_ENOENT;
}

static int fake_change_scene(void *host, const rr_sid_t *id, const char *scene, const void *extra, size_t size,
                             uint64_t token) {
    char name[300];
    fake_t *fake = host;
    note(host, "move %s %s %.*s", show(id, name), scene, (int)size, (const char *)extra);
    fake->last_call = token;
    return fake->move_rc;
}

static int fake_hand_over(void *host, const char *to, unsigned timeout_ms, uint64_t token) {
    fake_t *fake = host;
    note(host, "drain %s %u", to ? to : "-", timeout_ms);
    fake->last_call = token;
    return fake->move_rc;
}

static void fake_hand_to(void *host, uint64_t token, int status, const rr_hand_to_t *to) {
    note(host, "hand_to %llu %d %s %.*s", (unsigned long long)token, status, status == RR_OK && to->scene ? to->scene : "-",
         status == RR_OK ? (int)to->size : 0, (const char *)to->state);
}

static int fake_verdict(void *host, uint64_t cb_id, const rr_verdict_t *verdict) {
    char name[300] = "-";
    note(host, "verdict %llu %d %s %.*s", (unsigned long long)cb_id, verdict->code,
         verdict->code == RR_OK ? show(&verdict->id, name) : name, (int)verdict->extra_size,
         (const char *)verdict->extra);
    return cb_id == 404 ? RR_ENOENT : RR_OK;
}

static int fake_timer_start(void *host, uint64_t delay_ms, uint64_t repeat_ms, uint64_t token) {
    fake_t *fake = host;
    note(host, "timer %llu %llu", (unsigned long long)delay_ms, (unsigned long long)repeat_ms);
    if (fake->timer_count == 64)
        return RR_ELIMIT;
    fake->timers[fake->timer_count++] = token;
    return RR_OK;
}

static bool fake_timer_cancel(void *host, uint64_t token) {
    fake_t *fake = host;
    for (size_t i = 0; i < fake->timer_count; i++) {
        if (fake->timers[i] == token) {
            memmove(&fake->timers[i], &fake->timers[i + 1], (--fake->timer_count - i) * sizeof token);
            note(host, "timer cancelled");
            return true;
        }
    }
    return false;
}

static int fake_call(void *host, const char *group, const char *name, const char *method, const void *body,
                     size_t size, unsigned timeout_ms, uint64_t token) {
    fake_t *fake = host;
    note(host, "call %s %s %s %.*s %u", group ? group : "-", name, method, (int)size, (const char *)body, timeout_ms);
    fake->last_call = token;
    return RR_OK;
}

static int fake_reply(void *host, uint64_t request, const char *error, const void *body, size_t size) {
    note(host, "reply %llu %s %s%.*s", (unsigned long long)request, error ? error : "-", body ? "=" : "none",
         (int)size, (const char *)body);
    return RR_OK;
}

static int fake_watch_dead_letters(void *host) {
    fake_t *fake = host;
    note(host, "watch dead letters");
    return fake->move_rc;
}

static bool fake_exists(void *host, const char *name) { return strcmp(name, "gate@0") == 0; }
static uint64_t fake_alloc_id(void *host) { return 77; }
static const char *fake_config(void *host, const char *option) { return strcmp(option, "-gate") == 0 ? "gate@0" : NULL; }
static const char *fake_name(void *host) { return "scene@0"; }
static uint64_t fake_epoch(void *host) { return 3; }

static void fake_log(void *host, rr_level_t level, const char *module, const char *text, size_t size) {
    note(host, "log %d %s %.*s", (int)level, module, (int)size, text);
}

static void fake_print(void *host, bool error, const char *line, size_t size) {
    note(host, "%s %.*s", error ? "stderr" : "print", (int)size, line);
}

static void fake_done(void *host, uint64_t token, int status) {
    note(host, "done %llu %d", (unsigned long long)token, status);
}

static void fake_wake(void *host) {
    fake_t *fake = host;
    pthread_mutex_lock(&fake->lock);
    fake->wakes++;
    pthread_cond_broadcast(&fake->changed);
    pthread_mutex_unlock(&fake->lock);
}

static void fake_sessions(void *host, void (*each)(void *context, const rr_sid_t *id), void *context) {
    rr_sid_t id = {.text = "bob", .size = 3};
    each(context, &id);
    id = (rr_sid_t){.number = 5};
    each(context, &id);
}

static int fake_connect_outer(void *host, const char *name, const char *address) { return RR_EUNSUPPORTED; }

static int fake_database(void *host, const char *url, unsigned pool, char *name, size_t name_size, char *why,
                         size_t why_size) {
    note(host, "database %s %u", url, pool);
    snprintf(name, name_size, "db@url");
    snprintf(why, why_size, "no such thing");
    return strncmp(url, "bad:", 4) == 0 ? RR_EINVAL : RR_OK;
}

/* A value of a request as text: kind and content. */
static void show_datum(rr_datum_reader_t *reader, char *out, size_t size) {
    rr_datum_t datum;
    size_t used = strlen(out);
    ck_assert_int_eq(rr_datum_get(reader, &datum), RR_OK);
    const rr_moment_t *m = &datum.moment;
    switch (datum.kind) {
    case RR_DATUM_LIST:
        snprintf(out + used, size - used, "(");
        for (uint32_t i = 0; i < datum.count; i++) {
            if (i)
                snprintf(out + strlen(out), size - strlen(out), " ");
            show_datum(reader, out, size);
        }
        snprintf(out + strlen(out), size - strlen(out), ")");
        break;
    case RR_DATUM_NULL:
        snprintf(out + used, size - used, "null");
        break;
    case RR_DATUM_BOOL:
        snprintf(out + used, size - used, "bool:%d", datum.flag);
        break;
    case RR_DATUM_INT:
    case RR_DATUM_SPAN:
        snprintf(out + used, size - used, "%s:%lld", rr_datum_kind_name(datum.kind), (long long)datum.number);
        break;
    case RR_DATUM_UINT:
        snprintf(out + used, size - used, "uint:%llu", (unsigned long long)datum.big);
        break;
    case RR_DATUM_REAL:
        snprintf(out + used, size - used, "real:%g", datum.real);
        break;
    case RR_DATUM_DATE:
    case RR_DATUM_TIME:
    case RR_DATUM_DATETIME:
        snprintf(out + used, size - used, "%s:%d-%d-%dT%d:%d:%d.%u", rr_datum_kind_name(datum.kind), m->year, m->month,
                 m->day, m->hour, m->minute, m->second, m->microsecond);
        if (m->flags & RR_MOMENT_ZONED)
            snprintf(out + strlen(out), size - strlen(out), "%+d", m->offset);
        break;
    default:
        snprintf(out + used, size - used, "%s:%.*s", rr_datum_kind_name(datum.kind),
                 datum.text.size < 200 ? (int)datum.text.size : 200, datum.text.data);
    }
}

static void note_query(fake_t *fake, const char *what, const char *database, rr_buffer_t *request, uint64_t token) {
    rr_query_t query;
    ck_assert_int_eq(rr_query_decode(rr_buffer_data(request), rr_buffer_size(request), &query), RR_OK);
    ck_assert_uint_eq(query.id, token);
    char parameters[8192] = "";
    if (query.parameters) {
        rr_datum_reader_t reader = rr_datum_reader(query.parameters, query.parameters_size);
        show_datum(&reader, parameters, sizeof parameters);
    }
    note(fake, "%s %s op=%d flags=%u t=%llu s=%llu ms=%u key=%.*s '%.*s' %s", what, database, query.op, query.flags,
         (unsigned long long)query.transaction, (unsigned long long)query.stream, query.timeout_ms, (int)query.key_size,
         query.key ? query.key : "", (int)query.text_size, query.text ? query.text : "", parameters);
    rr_buffer_unref(request);
}

static int fake_query(void *host, const char *database, rr_buffer_t *request, unsigned timeout_ms, uint64_t token) {
    fake_t *fake = host;
    note_query(fake, "query", database, request, token);
    if (strcmp(database, "db@none") == 0)
        return RR_NOROUTE;
    ck_assert_uint_lt(fake->query_count, 64);
    fake->queries[fake->query_count++] = token;
    return RR_OK;
}

static void fake_query_cancel(void *host, uint64_t token) { note(host, "query cancelled %llu", (unsigned long long)token); }

static int fake_query_wait(void *host, const char *database, rr_buffer_t *request, unsigned patience_ms,
                           rr_buffer_t **reply) {
    fake_t *fake = host;
    note(fake, "waits %u ms at most", patience_ms);
    note_query(fake, "wait", database, request, 0);
    *reply = fake->waited[0];
    memmove(&fake->waited[0], &fake->waited[1], sizeof fake->waited - sizeof fake->waited[0]);
    fake->waited[3] = NULL;
    return *reply ? RR_OK : RR_NOROUTE;
}

static const rr_script_host_t fake_functions = {
    .send = fake_send,
    .send_to = fake_send_to,
    .multi_send = fake_multi_send,
    .broadcast = fake_broadcast,
    .broadcast_gate = fake_broadcast_gate,
    .close = fake_close,
    .change_scene = fake_change_scene,
    .hand_over = fake_hand_over,
    .hand_to = fake_hand_to,
    .verdict = fake_verdict,
    .timer_start = fake_timer_start,
    .timer_cancel = fake_timer_cancel,
    .call = fake_call,
    .reply = fake_reply,
    .watch_dead_letters = fake_watch_dead_letters,
    .exists = fake_exists,
    .alloc_id = fake_alloc_id,
    .config = fake_config,
    .name = fake_name,
    .epoch = fake_epoch,
    .log = fake_log,
    .print = fake_print,
    .done = fake_done,
    .wake = fake_wake,
    .wake_threadsafe = fake_wake,
    .sessions = fake_sessions,
    .connect_outer = fake_connect_outer,
    .database = fake_database,
    .query = fake_query,
    .query_cancel = fake_query_cancel,
    .query_wait = fake_query_wait,
};

/* ---- What tests use ---- */

__attribute__((unused)) static void python_up(void) {
    char why[1024];
    ck_assert_msg(rr_python_start(NULL, why, sizeof why) == RR_OK, "%s", why);
}

__attribute__((unused)) static void python_down(void) { ck_assert(rr_python_stop()); }

/* Ends what the calling thread holds of CPython, as the workers' pool does. */
__attribute__((unused)) static void thread_over(void) {
    rr_pool_options_t options;
    rr_python_pool_options(&options, 1);
    options.thread_end(options.context, NULL);
}

static void write_text(const char *path, const char *text) {
    FILE *file = fopen(path, "we");
    ck_assert_ptr_nonnull(file);
    fputs(text, file);
    fclose(file);
}

__attribute__((unused)) static void rewrite(fake_t *fake, const char *code) { write_text(fake->file, code); }

__attribute__((unused)) static void fake_init(fake_t *fake, const char *code) {
    memset(fake, 0, sizeof *fake);
    pthread_mutex_init(&fake->lock, NULL);
    pthread_cond_init(&fake->changed, NULL);
    strcpy(fake->folder, "/tmp/rr-python-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(fake->folder));
    snprintf(fake->file, sizeof fake->file, "%s/game.py", fake->folder);
    write_text(fake->file, code);
    fake->capacity = 4096;
    fake->record = calloc(1, fake->capacity);
}

/* Creates and loads; leaves the script entered. */
__attribute__((unused)) static int fake_open(fake_t *fake, const rr_script_options_t *options) {
    rr_script_options_t all = options ? *options : (rr_script_options_t){0};
    all.file = fake->file;
    all.scene = "scene@0";
    int rc = rr_script_create(NULL, &all, &fake_functions, fake, &fake->script, fake->why, sizeof fake->why);
    if (rc != RR_OK)
        return rc;
    return rr_script_load(fake->script, 1, fake->why, sizeof fake->why);
}

__attribute__((unused)) static void fake_start(fake_t *fake, const char *code, const rr_script_options_t *options) {
    fake_init(fake, code);
    int rc = fake_open(fake, options);
    ck_assert_msg(rc == RR_OK || rc == RR_SCRIPT_PENDING, "%d %s\n%s", rc, fake->why, fake->record);
}

__attribute__((unused)) static void fake_clean(fake_t *fake) {
    char command[256];
    snprintf(command, sizeof command, "rm -rf %s", fake->folder);
    if (system(command) != 0)
        ck_abort_msg("%s", command);
    free(fake->record);
    pthread_mutex_destroy(&fake->lock);
    pthread_cond_destroy(&fake->changed);
}

/* Entered; afterwards nothing is. */
__attribute__((unused)) static void fake_end(fake_t *fake) {
    ck_assert(rr_script_destroy(fake->script));
    fake_clean(fake);
}

__attribute__((unused)) static rr_script_session_t *session_of(fake_t *fake, const char *id) {
    rr_sid_t sid = {.text = id, .size = (uint32_t)strlen(id)};
    rr_script_session_t *session = rr_script_session_new(fake->script, &sid, (void *)(uintptr_t)id);
    ck_assert_ptr_nonnull(session);
    return session;
}

__attribute__((unused)) static int message(fake_t *fake, rr_script_session_t *session, uint16_t cmd, const char *body,
                                           uint64_t token) {
    return rr_script_message(fake->script, session, cmd, body, strlen(body), NULL, token);
}

__attribute__((unused)) static bool recorded(fake_t *fake, const char *text) {
    pthread_mutex_lock(&fake->lock);
    bool found = strstr(fake->record, text) != NULL;
    pthread_mutex_unlock(&fake->lock);
    return found;
}

__attribute__((unused)) static size_t times(fake_t *fake, const char *text) {
    size_t count = 0;
    for (const char *at = fake->record; (at = strstr(at, text)); at += strlen(text))
        count++;
    return count;
}

#define EXPECT(fake, text)                                                                                             \
    ck_assert_msg(recorded(fake, text), "'%s' is missing in:\n%s", text, (fake)->record)
#define EXPECT_NOT(fake, text)                                                                                         \
    ck_assert_msg(!recorded(fake, text), "'%s' must not be in:\n%s", text, (fake)->record)

__attribute__((unused)) static void forget(fake_t *fake) {
    fake->used = 0;
    fake->record[0] = '\0';
}

/* Fires the oldest timer. */
__attribute__((unused)) static void fire_timer(fake_t *fake) {
    ck_assert_uint_gt(fake->timer_count, 0);
    uint64_t token = fake->timers[0];
    memmove(&fake->timers[0], &fake->timers[1], --fake->timer_count * sizeof token);
    rr_script_timer(fake->script, token);
}

/* Answers the oldest query; takes over the buffer (NULL: status says why). */
__attribute__((unused)) static void answer_query(fake_t *fake, int status, rr_buffer_t *answer) {
    ck_assert_uint_gt(fake->query_count, 0);
    uint64_t token = fake->queries[0];
    memmove(&fake->queries[0], &fake->queries[1], --fake->query_count * sizeof token);
    rr_script_queried(fake->script, token, status, answer ? rr_buffer_data(answer) : NULL,
                      answer ? rr_buffer_size(answer) : 0, answer);
    rr_buffer_unref(answer);
}

/* Plays turns until the text is recorded; fails after a minute. Entered, and entered again afterwards. */
__attribute__((unused)) static void turn_until(fake_t *fake, const char *text) {
    uint64_t until = now_ms() + 60000;
    while (!recorded(fake, text)) {
        ck_assert_msg(now_ms() < until, "'%s' does not come:\n%s", text, fake->record);
        int64_t wait = rr_script_run(fake->script);
        rr_script_leave(fake->script);
        pthread_mutex_lock(&fake->lock);
        if (!fake->wakes && wait != 0) {
            struct timespec when;
            clock_gettime(CLOCK_REALTIME, &when);
            long ns = when.tv_nsec + (wait > 0 && wait < 100 ? wait : 100) * 1000000;
            when.tv_sec += ns / 1000000000;
            when.tv_nsec = ns % 1000000000;
            pthread_cond_timedwait(&fake->changed, &fake->lock, &when);
        }
        fake->wakes = 0;
        pthread_mutex_unlock(&fake->lock);
        rr_script_enter(fake->script);
    }
}

__attribute__((unused)) static int run_suite(Suite *suite) {
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

#endif
