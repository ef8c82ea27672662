/* scene_python.c: maps the script's host onto the scene, and the scene's logic onto the script. No decisions of its
 * own. */
#include "actors/scene_python.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "actors/scene_impl.h"

typedef struct python_state {
    rr_scene_t *scene;
    rr_script_t *script;
} python_state_t;

/* ---- The host: from the script to the scene ---- */

static rr_scene_t *scene_of(void *host) {
    return ((python_state_t *)host)->scene;
}

static int host_send(void *host, const rr_sid_t *id, uint16_t cmd, const void *body, size_t size, bool text) {
    return rr_scene_send_id(scene_of(host), id, cmd, body, size, text);
}

static int host_send_to(void *host, void *session, uint16_t cmd, const void *body, size_t size, bool text) {
    if (!rr__session_held(session))
        return RR_ENOENT;
    return rr_scene_send(scene_of(host), session, cmd, body, size, text);
}

static size_t host_multi_send(void *host, const rr_sid_t *ids, size_t count, uint64_t list, uint16_t cmd, const void *body,
                              size_t size, bool text) {
    return rr_scene_multi_send(scene_of(host), ids, count, list, cmd, body, size, text);
}

static int host_broadcast(void *host, uint16_t cmd, const void *body, size_t size, bool text) {
    return rr_scene_broadcast(scene_of(host), cmd, body, size, text);
}

static int host_broadcast_gate(void *host, const char *gate, uint16_t cmd, const void *body, size_t size, bool text) {
    return rr_scene_broadcast_gate(scene_of(host), gate, cmd, body, size, text);
}

static int host_close(void *host, const rr_sid_t *id) {
    return rr_scene_close(scene_of(host), id);
}

static int host_change(void *host, const rr_sid_t *id, const char *to, const void *extra, size_t size, uint64_t token) {
    return rr_scene_change(scene_of(host), id, to, extra, size, token);
}

static int host_hand_over(void *host, const char *to, unsigned timeout_ms, uint64_t token) {
    return rr_scene_hand_over(scene_of(host), to, timeout_ms, token);
}

static void host_hand_to(void *host, uint64_t token, int status, const rr_hand_to_t *to) {
    rr_scene_hand_to(scene_of(host), token, status, to);
}

static int host_verdict(void *host, uint64_t cb_id, const rr_verdict_t *verdict) {
    return rr_scene_verdict(scene_of(host), cb_id, verdict);
}

static int host_timer_start(void *host, uint64_t delay_ms, uint64_t repeat_ms, uint64_t token) {
    return rr_scene_timer(scene_of(host), delay_ms, repeat_ms, token);
}

static bool host_timer_cancel(void *host, uint64_t token) {
    return rr_scene_timer_cancel(scene_of(host), token);
}

static int host_call(void *host, const char *group, const char *name, const char *method, const void *body, size_t size,
                     unsigned timeout_ms, uint64_t token) {
    if (group)
        return rr_scene_call_group(scene_of(host), group, name, method, body, size, timeout_ms, token);
    return rr_scene_call(scene_of(host), name, method, body, size, timeout_ms, token);
}

static int host_reply(void *host, uint64_t request, const char *error, const void *body, size_t size) {
    return rr_scene_reply(scene_of(host), request, error, body, size);
}

static int host_watch_dead_letters(void *host) {
    return rr_scene_watch_dead_letters(scene_of(host));
}

static bool host_exists(void *host, const char *name) {
    return rr_scene_exists(scene_of(host), name);
}
static uint64_t host_alloc_id(void *host) {
    return rr_scene_alloc_id(scene_of(host));
}
static const char *host_config(void *host, const char *option) {
    return rr_scene_config(scene_of(host), option);
}
static const char *host_name(void *host) {
    return rr_scene_name(scene_of(host));
}
static uint64_t host_epoch(void *host) {
    return rr_scene_epoch(scene_of(host));
}

static void host_log(void *host, rr_level_t level, const char *module, const char *text, size_t size) {
    rr_scene_t *scene = scene_of(host);
    char *copy = NULL;
    size = size < 65536 ? size : 65536;
    if (memchr(text, 0, size) && (copy = malloc(size))) { /* a text of a client's: what is behind a NUL shall be seen */
        for (size_t i = 0; i < size; i++)
            copy[i] = text[i] ? text[i] : '?';
    }
    rr_log(scene->system, level, module, "%s: %.*s", scene->options->name, (int)size, copy ? copy : text);
    free(copy);
}

/* Whole lines, with the scene's name, whatever the log level. Standard error goes the same way, named as such. */
static void host_print(void *host, bool error, const char *line, size_t size) {
    rr_scene_t *scene = scene_of(host);
    const char *name = scene->options->name;
    size_t room = strlen(name) + size + 16;
    char small[512], *text = room <= sizeof(small) ? small : malloc(room);
    if (!text)
        return;
    int head = sprintf(text, "[%s]%s ", name, error ? "!" : "");
    memcpy(text + head, line, size);
    text[(size_t)head + size] = '\n';
    rr_print(scene->system, text, (size_t)head + size + 1);
    if (text != small)
        free(text);
}

static void host_done(void *host, uint64_t token, int status) {
    rr_scene_done(scene_of(host), token, status);
}
static void host_wake(void *host) {
    rr_scene_wake(scene_of(host));
}
static void host_wake_threadsafe(void *host) {
    rr_scene_wake_threadsafe(scene_of(host));
}

static void host_sessions(void *host, void (*each)(void *context, const rr_sid_t *id), void *context) {
    rr_scene_sessions(scene_of(host), each, context);
}

static int host_connect_outer(void *host, const char *name, const char *address) {
    return rr_scene_connect_outer(scene_of(host), name, address);
}

static int host_database(void *host, const char *url, unsigned pool, char *name, size_t name_size, char *why,
                         size_t why_size) {
    return rr_scene_database(scene_of(host), url, pool, name, name_size, why, why_size);
}

static int host_query(void *host, const char *database, rr_buffer_t *request, unsigned timeout_ms, uint64_t token) {
    return rr_scene_query(scene_of(host), database, request, timeout_ms, token);
}

static void host_query_cancel(void *host, uint64_t token) {
    rr_scene_query_cancel(scene_of(host), token);
}

static int host_query_wait(void *host, const char *database, rr_buffer_t *request, unsigned patience_ms,
                           rr_buffer_t **reply) {
    return rr_scene_query_wait(scene_of(host), database, request, patience_ms, reply);
}

static const rr_script_host_t host = {
    .send = host_send,
    .send_to = host_send_to,
    .multi_send = host_multi_send,
    .broadcast = host_broadcast,
    .broadcast_gate = host_broadcast_gate,
    .close = host_close,
    .change_scene = host_change,
    .hand_over = host_hand_over,
    .hand_to = host_hand_to,
    .verdict = host_verdict,
    .timer_start = host_timer_start,
    .timer_cancel = host_timer_cancel,
    .call = host_call,
    .reply = host_reply,
    .watch_dead_letters = host_watch_dead_letters,
    .exists = host_exists,
    .alloc_id = host_alloc_id,
    .config = host_config,
    .name = host_name,
    .epoch = host_epoch,
    .log = host_log,
    .print = host_print,
    .done = host_done,
    .wake = host_wake,
    .wake_threadsafe = host_wake_threadsafe,
    .sessions = host_sessions,
    .connect_outer = host_connect_outer,
    .database = host_database,
    .query = host_query,
    .query_cancel = host_query_cancel,
    .query_wait = host_query_wait,
};

/* ---- The logic: from the scene to the script ---- */

static int python_load(void *state, rr_scene_t *scene, const void *arg, uint64_t token, char *why, size_t why_size) {
    python_state_t *python = state;
    rr_script_options_t options = *(const rr_script_options_t *)arg;
    if (!options.scene)
        options.scene = rr_scene_name(scene);
    python->scene = scene;
    int rc = rr_script_create(scene->system, &options, &host, python, &python->script, why, why_size);
    return rc == RR_OK ? rr_script_load(python->script, token, why, why_size) : rc;
}

/* A system that is stopped without a drain finishes its actors on a thread that no script may be entered on. */
static bool abandoned(void) {
    return !rr_worker_current();
}

static void python_turn_begin(void *state) {
    python_state_t *python = state;
    if (python->script && !abandoned()) /* without a script rr_script_create enters */
        rr_script_enter(python->script);
}

static void python_turn_end(void *state) {
    python_state_t *python = state;
    if (python->script && !abandoned())
        rr_script_leave(python->script);
}

static int python_verify(void *state, const rr_login_t *login, rr_verdict_t *verdict) {
    return rr_script_verify(((python_state_t *)state)->script, login->key, login->key_size, login->online_time,
                            login->ip, login->gate, login->cb_id, verdict);
}

static rr_script_session_t *script_session(rr_session_t *session) {
    return rr_session_user(session);
}

static int python_session_new(void *state, rr_session_t *session) {
    rr_session_set_user(session, rr_script_session_new(((python_state_t *)state)->script, rr_session_id(session), session));
    return rr_session_user(session) ? RR_OK : RR_ENOMEM;
}

static void python_session_free(void *state, rr_session_t *session) {
    if (!abandoned())
        rr_script_session_free(((python_state_t *)state)->script, script_session(session));
}

static int python_enter(void *state, rr_session_t *session, const char *from, const void *extra, size_t size,
                        uint64_t token) {
    return rr_script_enter_session(((python_state_t *)state)->script, script_session(session), from, extra, size,
                                   token);
}

static int python_message(void *state, rr_session_t *session, uint16_t cmd, const void *body, size_t size,
                          rr_buffer_t *owner, uint64_t token) {
    return rr_script_message(((python_state_t *)state)->script, script_session(session), cmd, body, size, owner, token);
}

static bool python_concurrent(void *state, uint16_t cmd) {
    return rr_script_concurrent(((python_state_t *)state)->script, cmd);
}

static int python_offline(void *state, rr_session_t *session, int64_t online_time, const char *reason, uint64_t token) {
    return rr_script_offline(((python_state_t *)state)->script, script_session(session), online_time, reason, token);
}

static int python_leave(void *state, rr_session_t *session, const char *to, uint64_t token) {
    return rr_script_leave_session(((python_state_t *)state)->script, script_session(session), to, token);
}

static int python_hand_over(void *state, rr_session_t *session, uint64_t token, rr_hand_to_t *to) {
    return rr_script_hand_over(((python_state_t *)state)->script, script_session(session), token, to);
}

static void python_service(void *state, uint64_t request, const char *from, const char *method, const void *body,
                           size_t size) {
    rr_script_service(((python_state_t *)state)->script, request, from, method, body, size);
}

static void python_answer(void *state, uint64_t token, const char *error, const void *body, size_t size) {
    rr_script_answer(((python_state_t *)state)->script, token, error, body, size);
}

static int python_dead_letter(void *state, const rr_letter_t *letter) {
    return rr_script_dead_letter(((python_state_t *)state)->script, letter);
}

static void python_timer(void *state, uint64_t token) {
    rr_script_timer(((python_state_t *)state)->script, token);
}

static void python_queried(void *state, uint64_t token, int status, const void *data, size_t size,
                           rr_buffer_t *buffer) {
    rr_script_queried(((python_state_t *)state)->script, token, status, data, size, buffer);
}

static void python_query_event(void *state, const void *data, size_t size) {
    rr_script_query_event(((python_state_t *)state)->script, data, size);
}

static void python_database_down(void *state, const char *name) {
    rr_script_database_down(((python_state_t *)state)->script, name);
}

static int64_t python_run(void *state) {
    return rr_script_run(((python_state_t *)state)->script);
}
static void python_cancel(void *state, uint64_t token) {
    rr_script_cancel(((python_state_t *)state)->script, token);
}

static unsigned version_of(const python_state_t *python) {
    rr_script_stats_t stats;
    rr_script_stats(python->script, &stats);
    return stats.version;
}

static bool python_reload(void *state, const char *module, unsigned *version, char *why, size_t why_size) {
    python_state_t *python = state;
    bool ok = rr_script_reload(python->script, module, why, why_size);
    *version = version_of(python);
    return ok;
}

static bool python_saved(void *state, unsigned *version, char *text, size_t text_size) {
    python_state_t *python = state;
    bool ok = rr_script_look(python->script, text, text_size);
    *version = version_of(python);
    return ok;
}

static int python_cleanup(void *state, uint64_t token) {
    return rr_script_cleanup(((python_state_t *)state)->script, token);
}

static void python_destroy(void *state) {
    python_state_t *python = state;
    if (!python->script)
        return;
    if (abandoned()) {
        rr_log(python->scene->system, RR_WARN, "SCENE",
               "%s: ended outside of its workers: its interpreter is abandoned", python->scene->options->name);
        return;
    }
    if (!rr_script_destroy(python->script))
        rr_log(python->scene->system, RR_WARN, "SCENE",
               "%s: threads of its script still run: its interpreter is abandoned", python->scene->options->name);
    python->script = NULL;
}

#define WRITE(name, type, help, value) rr_metrics_write(writer, "rr_script_" name, type, help, labels, (double)(value))

static void python_metrics(void *state, rr_metrics_writer_t *writer, const char *labels) {
    python_state_t *python = state;
    rr_script_stats_t stats;
    rr_script_stats(python->script, &stats);
    WRITE("entries_total", RR_METRIC_COUNTER, "Times the interpreter was entered.", stats.entries);
    WRITE("handlers_total", RR_METRIC_COUNTER, "Handlers called.", stats.handlers);
    WRITE("exceptions_total", RR_METRIC_COUNTER, "Handlers that raised.", stats.exceptions);
    WRITE("timeouts_total", RR_METRIC_COUNTER, "Handlers ended by the watchdog.", stats.timeouts);
    WRITE("memory_errors_total", RR_METRIC_COUNTER, "Allocations refused by the memory limit.", stats.memory_errors);
    WRITE("decode_errors_total", RR_METRIC_COUNTER, "Bodies that were not what the handler declares.",
          stats.decode_errors);
    WRITE("no_handler_total", RR_METRIC_COUNTER, "Messages without a handler.", stats.no_handler);
    WRITE("reloads_total", RR_METRIC_COUNTER, "Reloads.", stats.reloads);
    WRITE("pending", RR_METRIC_GAUGE, "Coroutines that wait.", stats.pending);
    WRITE("memory_bytes", RR_METRIC_GAUGE, "Python memory, where it is accounted.", stats.memory);
    WRITE("version", RR_METRIC_GAUGE, "Successful loads.", stats.version);
}

const rr_scene_logic_t rr_scene_python = {
    .name = "python",
    .state_size = sizeof(python_state_t),
    .load = python_load,
    .turn_begin = python_turn_begin,
    .turn_end = python_turn_end,
    .verify = python_verify,
    .session_new = python_session_new,
    .session_free = python_session_free,
    .enter = python_enter,
    .message = python_message,
    .concurrent = python_concurrent,
    .offline = python_offline,
    .hand_over = python_hand_over,
    .leave = python_leave,
    .service = python_service,
    .answer = python_answer,
    .dead_letter = python_dead_letter,
    .timer = python_timer,
    .queried = python_queried,
    .query_event = python_query_event,
    .database_down = python_database_down,
    .run = python_run,
    .cancel = python_cancel,
    .reload = python_reload,
    .saved = python_saved,
    .cleanup = python_cleanup,
    .destroy = python_destroy,
    .metrics = python_metrics,
};
