/* fixture.h: a node with a gate, scenes whose logic does what its clients ask for and records what happened, and
 * blocking clients on real loopback sockets. For the tests of actors/. */
#ifndef RR_TESTS_ACTORS_FIXTURE_H
#define RR_TESTS_ACTORS_FIXTURE_H

#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "actors/gate.h"
#include "actors/scene.h"
#include "runtime/metrics.h"
#include "tests/unit/check_main.h"

#define PATIENCE_MS 30000 /* how long a test waits for what must come: only one that fails waits to the end */

/* ---- What happened, in order ---- */

static struct record {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    char *lines[200000];
    size_t count;
} happened = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static inline void note(const char *format, ...) {
    char line[512];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    if (getenv("RR_TEST_NOTES"))
        fprintf(stderr, "%s\n", line);
    pthread_mutex_lock(&happened.lock);
    ck_assert_uint_lt(happened.count, sizeof(happened.lines) / sizeof(*happened.lines));
    happened.lines[happened.count++] = strdup(line);
    pthread_cond_broadcast(&happened.changed);
    pthread_mutex_unlock(&happened.lock);
}

/* Is it the line asked for? One that ends in '*' stands for all that begin so. */
static inline bool is_line(const char *line, const char *wanted) {
    size_t size = strlen(wanted);
    return wanted[size - 1] == '*' ? !strncmp(line, wanted, size - 1) : !strcmp(line, wanted);
}

/* Index of the first such line at or after `from`, -1 if there is none. Under the lock. */
static inline int find_line(const char *line, size_t from) {
    for (size_t i = from; i < happened.count; i++)
        if (is_line(happened.lines[i], line))
            return (int)i;
    return -1;
}

/* Waits for one of two lines: 0 or 1, which one. */
static inline int await_either(const char *line, const char *other) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += PATIENCE_MS / 1000;
    pthread_mutex_lock(&happened.lock);
    bool first = false, second = false;
    int rc = 0;
    while (!(first = find_line(line, 0) >= 0) && !(second = find_line(other, 0) >= 0) && rc == 0)
        rc = pthread_cond_timedwait(&happened.changed, &happened.lock, &until);
    if (!first && !second) {
        fprintf(stderr, "never happened: %s; what did:\n", line);
        for (size_t i = 0; i < happened.count && i < 100; i++)
            fprintf(stderr, "  %s\n", happened.lines[i]);
    }
    pthread_mutex_unlock(&happened.lock);
    ck_assert_msg(first || second, "never happened: %s", line);
    return first ? 0 : 1;
}

/* Waits for a line and returns its index. */
static inline int await_line(const char *line) {
    await_either(line, line);
    pthread_mutex_lock(&happened.lock);
    int at = find_line(line, 0);
    pthread_mutex_unlock(&happened.lock);
    return at;
}

static inline bool was_noted(const char *line) {
    pthread_mutex_lock(&happened.lock);
    bool found = find_line(line, 0) >= 0;
    pthread_mutex_unlock(&happened.lock);
    return found;
}

static inline unsigned times_noted(const char *line) {
    unsigned n = 0;
    pthread_mutex_lock(&happened.lock);
    for (size_t i = 0; i < happened.count; i++)
        n += is_line(happened.lines[i], line);
    pthread_mutex_unlock(&happened.lock);
    return n;
}

/* ---- The logic ---- */

typedef struct puppet {
    rr_scene_t *scene;
    bool storm; /* anything may happen: results are not looked at */
    struct {
        char id[64];
        uint64_t token;
    } waiting[64]; /* handlers that run on, by session */
    struct {
        char id[64];
        uint64_t cb_id;
    } verdicts[64];
    uint64_t request; /* a service request not yet answered */
} puppet_t;

static inline rr_sid_t sid_of(const char *text) {
    return (rr_sid_t){.text = text, .size = (uint32_t)strlen(text)};
}

static inline const char *id_text(const rr_session_t *session) {
    static _Thread_local char number[32];
    const rr_sid_t *id = rr_session_id(session);
    if (id->text)
        return id->text;
    snprintf(number, sizeof(number), "#%lld", (long long)id->number);
    return number;
}

static inline const char *scene_name(puppet_t *puppet) {
    return rr_scene_name(puppet->scene);
}

static inline int puppet_load(void *state, rr_scene_t *scene, const void *arg, uint64_t token, char *why, size_t size) {
    ((puppet_t *)state)->scene = scene;
    ((puppet_t *)state)->storm = arg != NULL;
    note("%s loaded", rr_scene_name(scene));
    return RR_OK;
}

/* Keys: "no" refuses, "redirect" refuses with extra, "extra:ID" has extra, "late:ID" answers when someone says
 * verdict:ID, "inside:ID" answers late from inside, "int:N" is a number, all else is the id. */
static inline int puppet_verify(void *state, const rr_login_t *login, rr_verdict_t *verdict) {
    puppet_t *puppet = state;
    static _Thread_local char key[300];
    snprintf(key, sizeof(key), "%.*s", (int)login->key_size, (const char *)login->key);
    note("%s verify %s from %s by %s", scene_name(puppet), key, login->ip, login->gate);
    ck_assert_int_gt(login->online_time, 1600000000);
    char *id = strchr(key, ':');
    *verdict = (rr_verdict_t){.id = sid_of(id ? id + 1 : key)};
    if (!strcmp(key, "no") || !strcmp(key, "redirect"))
        verdict->code = RR_EREFUSED;
    if (!strcmp(key, "redirect") || !strncmp(key, "extra:", 6)) {
        verdict->extra = "extra";
        verdict->extra_size = 5;
    }
    if (!strncmp(key, "int:", 4))
        verdict->id = (rr_sid_t){.number = atoll(id + 1)};
    if (!strncmp(key, "inside:", 7)) {
        ck_assert_int_eq(rr_scene_verdict(puppet->scene, login->cb_id, verdict), RR_OK);
        ck_assert_int_eq(rr_scene_verdict(puppet->scene, login->cb_id, verdict), RR_ENOENT);
        return RR_SCRIPT_PENDING;
    }
    if (strncmp(key, "late:", 5) != 0)
        return RR_OK;
    for (size_t i = 0; i < 64; i++)
        if (!puppet->verdicts[i].cb_id) {
            puppet->verdicts[i].cb_id = login->cb_id;
            snprintf(puppet->verdicts[i].id, 64, "%s", id + 1);
            break;
        }
    return RR_SCRIPT_PENDING;
}

static inline int run_on(puppet_t *puppet, const char *id, uint64_t token) {
    for (size_t i = 0; i < 64; i++)
        if (!puppet->waiting[i].token) {
            puppet->waiting[i].token = token;
            snprintf(puppet->waiting[i].id, 64, "%s", id);
            return RR_SCRIPT_PENDING;
        }
    ck_assert_msg(puppet->storm, "too many waiting handlers");
    return RR_OK;
}

static inline void go(puppet_t *puppet, const char *id, int status) {
    for (size_t i = 0; i < 64; i++)
        if (puppet->waiting[i].token && !strcmp(puppet->waiting[i].id, id)) {
            uint64_t token = puppet->waiting[i].token;
            puppet->waiting[i].token = 0;
            rr_scene_done(puppet->scene, token, status);
            return;
        }
    note("%s nothing waits for %s", scene_name(puppet), id);
}

static inline void say(puppet_t *puppet, const char *format, ...) __attribute__((format(printf, 2, 3)));
static inline void say(puppet_t *puppet, const char *format, ...) {
    char text[600];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    note("%s %s", scene_name(puppet), text);
}

static inline int puppet_enter(void *state, rr_session_t *session, const char *from, const void *extra, size_t size,
                               uint64_t token) {
    puppet_t *puppet = state;
    const char *id = id_text(session);
    if (strncmp(id, "bot-", 4))
        note("%s enter %s from '%s' extra '%.*s'", scene_name(puppet), id, from, (int)size,
         size ? (const char *)extra : "");
    if (!strncmp(id, "slowback-", 9) && *from) /* wants to go back while its enter runs on */
        say(puppet, "change %d", rr_scene_change(puppet->scene, rr_session_id(session), from, "b", 1, 78));
    if (!strncmp(id, "slow-", 5) || (!strncmp(id, "slowback-", 9) && *from))
        return run_on(puppet, id, token);
    unsigned count = 0; /* of cmd 6, brought by a hand-over */
    char brought[64];
    snprintf(brought, sizeof(brought), "%.*s", (int)size, size ? (const char *)extra : "");
    if (sscanf(brought, "count:%u", &count) == 1)
        rr_session_set_user(session, (void *)(uintptr_t)count);
    if (!strncmp(id, "bounce-", 7) && !strcmp(from, ""))
        ck_assert_int_eq(rr_scene_change(puppet->scene, rr_session_id(session), "scene@1", "b", 1, 77), RR_OK);
    if (!strncmp(id, "nofail-", 7) == 0 && size == 4 && !memcmp(extra, "fail", 4))
        return RR_EHANDLER;
    int rc = rr_scene_send(puppet->scene, session, 100, "welcome", 7, true);
    ck_assert(rc == RR_OK || puppet->storm);
    return RR_OK;
}

/* `rest`: the list's number behind a # and a comma, or none; ids with commas between them, a space, then what they are sent. */
static inline void puppet_many(puppet_t *puppet, uint16_t cmd, char *rest) {
    char *body = strchr(rest, ' '), *save = NULL;
    rr_sid_t ids[8];
    size_t count = 0;
    uint64_t list = 0;
    if (*rest == '#')
        list = strtoull(rest + 1, &rest, 10);
    ck_assert_ptr_nonnull(body);
    *body++ = 0;
    for (char *id = strtok_r(rest, ",", &save); id && count < 8; id = strtok_r(NULL, ",", &save))
        ids[count++] = sid_of(id);
    size_t sent = rr_scene_multi_send(puppet->scene, ids, count, list, cmd, body, strlen(body), true);
    if (list)
        say(puppet, "list %llu %zu", (unsigned long long)list, sent);
    else
        ck_assert_uint_eq(sent, count);
}

/* Bodies are orders: WORD or WORD:REST. cmd 9 is the concurrent one. */
static inline int puppet_message(void *state, rr_session_t *session, uint16_t cmd, const void *body, size_t size,
                                 rr_buffer_t *owner, uint64_t token) {
    puppet_t *puppet = state;
    rr_scene_t *scene = puppet->scene;
    const char *id = id_text(session);
    if (cmd == 6) { /* answered with its number and the session's count; no notes */
        char answer[64];
        uintptr_t count = (uintptr_t)rr_session_user(session) + 1;
        rr_session_set_user(session, (void *)count);
        snprintf(answer, sizeof(answer), "%.*s %u", (int)size, (const char *)body, (unsigned)count);
        return rr_scene_send(scene, session, 6, answer, strlen(answer), true);
    }
    if (cmd == 7) /* bulk: no notes */
        return rr_scene_send(scene, session, 7, body, size, false);
    if (cmd == 8) {
        usleep(200);
        return rr_scene_send(scene, session, 8, body, size, false);
    }
    char text[1600], *rest;
    snprintf(text, sizeof(text), "%.*s", (int)size, (const char *)body);
    note("%s message %s %u %s", scene_name(puppet), id, cmd, text);
    rest = strchr(text, ':');
    if (rest)
        *rest++ = 0;
    else
        rest = text + strlen(text);
    rr_sid_t other = sid_of(rest);
    if (!strcmp(text, "echo")) {
        int rc = rr_scene_send(scene, session, cmd, body, size, false);
        ck_assert(rc == RR_OK || rc == RR_ENOENT); /* the client may have left */
    } else if (!strcmp(text, "all"))
        ck_assert_int_eq(rr_scene_broadcast(scene, cmd, rest, strlen(rest), true), RR_OK);
    else if (!strcmp(text, "gate"))
        say(puppet, "broadcast_gate %d", rr_scene_broadcast_gate(scene, rest, cmd, "to all", 6, true));
    else if (!strcmp(text, "send"))
        say(puppet, "send %s %d", rest, rr_scene_send_id(scene, &other, cmd, id, strlen(id), true));
    else if (!strcmp(text, "multi")) {
        rr_sid_t ids[3] = {other, sid_of("nobody"), *rr_session_id(session)};
        say(puppet, "multi %zu", rr_scene_multi_send(scene, ids, 3, 0, cmd, "multi", 5, true));
    } else if (!strcmp(text, "many"))
        puppet_many(puppet, cmd, rest);
    else if (!strcmp(text, "close"))
        say(puppet, "close %s %d", rest, rr_scene_close(scene, &other));
    else if (!strcmp(text, "bye")) {
        int sent = rr_scene_send(scene, session, cmd, "last words", 10, true);
        int closed = rr_scene_close(scene, rr_session_id(session));
        ck_assert((sent == RR_OK && closed == RR_OK) || puppet->storm);
        ck_assert_int_eq(rr_scene_send(scene, session, cmd, "too late", 8, true), RR_ENOENT);
    } else if (!strcmp(text, "move") || !strcmp(text, "movefail")) {
        const char *extra = !strcmp(text, "move") ? "x" : "fail";
        say(puppet, "change %d", rr_scene_change(scene, rr_session_id(session), rest, extra, strlen(extra), 55));
        int again = rr_scene_change(scene, rr_session_id(session), rest, extra, strlen(extra), 56);
        bool stays = !strcmp(rest, "nowhere") || !strcmp(rest, scene_name(puppet));
        ck_assert(again == (stays ? RR_OK : RR_ESTATE) || puppet->storm);
    } else if (!strcmp(text, "wait"))
        return run_on(puppet, id, token);
    else if (!strcmp(text, "go"))
        go(puppet, rest, RR_OK);
    else if (!strcmp(text, "verdict") || !strcmp(text, "reject")) {
        for (size_t i = 0; i < 64; i++)
            if (puppet->verdicts[i].cb_id && !strcmp(puppet->verdicts[i].id, rest)) {
                rr_verdict_t verdict = {.code = !strcmp(text, "reject") ? RR_EREFUSED : RR_OK,
                                        .id = other,
                                        .extra = "late",
                                        .extra_size = 4};
                say(puppet, "verdict %d", rr_scene_verdict(scene, puppet->verdicts[i].cb_id, &verdict));
                say(puppet, "again %d", rr_scene_verdict(scene, puppet->verdicts[i].cb_id, &verdict));
                puppet->verdicts[i].cb_id = 0;
            }
    } else if (!strcmp(text, "handover"))
        say(puppet, "hand_over %d", rr_scene_hand_over(scene, *rest ? rest : NULL, puppet->storm ? 60 : 5000, 57));
    else if (!strcmp(text, "handto")) {
        rr_hand_to_t later = {.state = "later", .size = 5};
        for (size_t i = 0; i < 64; i++)
            if (puppet->waiting[i].token && !strcmp(puppet->waiting[i].id, rest)) {
                rr_scene_hand_to(scene, puppet->waiting[i].token, RR_OK, &later);
                puppet->waiting[i].token = 0;
            }
    } else if (!strcmp(text, "call"))
        ck_assert_int_eq(rr_scene_call(scene, rest, "greet", "hello", 5, 0, 66), RR_OK);
    else if (!strcmp(text, "timer"))
        ck_assert_int_eq(rr_scene_timer(scene, 5, 0, 88), RR_OK);
    else if (!strcmp(text, "ticker"))
        ck_assert_int_eq(rr_scene_timer(scene, 2, 2, 89), RR_OK);
    else if (!strcmp(text, "flood"))
        ck_assert_int_eq(rr_scene_timer(scene, 50, 0, 90), RR_OK);
    else if (!strcmp(text, "crash"))
        rr_exit(rr_scene_actor(scene), RR_EHANDLER);
    else if (!strcmp(text, "raise"))
        return RR_EHANDLER;
    else if (!strcmp(text, "unknown"))
        return RR_ENOENT;
    return RR_OK;
}

static inline bool puppet_concurrent(void *state, uint16_t cmd) {
    return cmd == 9;
}

static inline int puppet_offline(void *state, rr_session_t *session, int64_t online_time, const char *reason,
                                 uint64_t token) {
    puppet_t *puppet = state;
    const char *id = id_text(session);
    ck_assert_int_gt(online_time, 1600000000);
    /* It is nobody's any more: not to be sent to, not in broadcasts. */
    ck_assert_int_eq(rr_scene_send(puppet->scene, session, 1, "x", 1, true), RR_ENOENT);
    char text[200];
    snprintf(text, sizeof(text), "%s offline %s", scene_name(puppet), id);
    ck_assert_int_eq(rr_scene_broadcast(puppet->scene, 99, text, strlen(text), true), RR_OK);
    note("%s %s", text, reason);
    return RR_OK;
}

static inline int puppet_leave(void *state, rr_session_t *session, const char *to, uint64_t token) {
    if (strncmp(id_text(session), "bot-", 4))
        note("%s leave %s to %s", scene_name(state), id_text(session), to);
    return RR_OK;
}

/* Ids: "keep-…" stay, "pend-…" are answered by handto:ID, "fail-…" raise; all others go with their count. */
static inline int puppet_hand_over(void *state, rr_session_t *session, uint64_t token, rr_hand_to_t *to) {
    puppet_t *puppet = state;
    static _Thread_local char text[64];
    const char *id = id_text(session);
    if (strncmp(id, "bot-", 4))
        note("%s hand over %s", scene_name(puppet), id);
    if (!strncmp(id, "keep-", 5))
        to->scene = "";
    if (!strncmp(id, "fail-", 5))
        return RR_EHANDLER;
    if (!strncmp(id, "pend-", 5))
        return run_on(puppet, id, token);
    snprintf(text, sizeof(text), "count:%u", (unsigned)(uintptr_t)rr_session_user(session));
    to->state = text;
    to->size = strlen(text);
    return RR_OK;
}

static inline void puppet_service(void *state, uint64_t request, const char *from, const char *method, const void *body,
                                  size_t size) {
    puppet_t *puppet = state;
    note("%s service %s %s %.*s", scene_name(puppet), from, method, (int)size, (const char *)body);
    ck_assert_int_eq(rr_scene_reply(puppet->scene, request, NULL, "answer", 6), RR_OK);
    ck_assert_int_eq(rr_scene_reply(puppet->scene, request, NULL, "answer", 6), RR_ENOENT);
}

static inline void puppet_answer(void *state, uint64_t token, const char *error, const void *body, size_t size) {
    puppet_t *puppet = state;
    note("%s answer %llu %s%s%.*s", scene_name(puppet), (unsigned long long)token, error ? "error " : "ok ",
         error ? error : "", (int)size, size ? (const char *)body : "");
}

static inline void puppet_timer(void *state, uint64_t token) {
    puppet_t *puppet = state;
    note("%s timer %llu", scene_name(puppet), (unsigned long long)token);
    if (token == 90) { /* more than the gate takes while its loops stand still */
        rr_sid_t id = sid_of("alice");
        static uint8_t body[60000];
        uint32_t n = 0;
        int rc = RR_OK;
        for (; n < 10000 && rc == RR_OK; n += rc == RR_OK) {
            memcpy(body, &n, 4);
            rc = rr_scene_send_id(puppet->scene, &id, 90, body, sizeof(body), false);
        }
        ck_assert_int_eq(rc, RR_EFULL);
        note("flood %u", n);
    }
    if (token == 89 && times_noted("scene@0 timer 89") == 3)
        ck_assert(rr_scene_timer_cancel(puppet->scene, 89));
}

static inline void puppet_cancel(void *state, uint64_t token) {
    puppet_t *puppet = state;
    for (size_t i = 0; i < 64; i++)
        if (puppet->waiting[i].token == token) {
            note("%s cancel %s", scene_name(puppet), puppet->waiting[i].id);
            if (!strncmp(puppet->waiting[i].id, "stubborn", 8))
                continue; /* ignores it */
            puppet->waiting[i].token = 0;
            rr_scene_done(puppet->scene, token, RR_CANCELLED);
        }
}

static inline int puppet_cleanup(void *state, uint64_t token) {
    note("%s cleanup", scene_name(state));
    return RR_OK;
}

static inline bool puppet_reload(void *state, const char *module, unsigned *version, char *why, size_t why_size) {
    static _Atomic(unsigned) reloads = 1;
    note("%s reload", scene_name(state));
    *version = ++reloads;
    snprintf(why, why_size, "Traceback: \"line 1\"\n");
    return reloads % 2 == 0;
}

static inline void puppet_destroy(void *state) {
    note("%s destroyed", scene_name(state));
}

static const rr_scene_logic_t puppet_logic = {
    .name = "puppet",
    .state_size = sizeof(puppet_t),
    .load = puppet_load,
    .verify = puppet_verify,
    .enter = puppet_enter,
    .message = puppet_message,
    .concurrent = puppet_concurrent,
    .offline = puppet_offline,
    .hand_over = puppet_hand_over,
    .leave = puppet_leave,
    .service = puppet_service,
    .answer = puppet_answer,
    .timer = puppet_timer,
    .cancel = puppet_cancel,
    .reload = puppet_reload,
    .cleanup = puppet_cleanup,
    .destroy = puppet_destroy,
};

/* ---- The node ---- */

#define LOOPS 2

static struct node {
    rr_system_t *system;
    rr_loop_t *loops[LOOPS];
    rr_gate_t *gate;
    rr_gate_options_t options;
    rr_scene_options_t scenes[3];
    rr_addr_t addresses[3];
    size_t scene_count;
    rr_gate_listen_t listen;
} node;

static inline void on_ready(void *context, rr_gate_t *gate) {
    note("ready");
}

/* Options may be changed between prepare and start. */
static inline void prepare(void) {
    rr_options_t options;
    rr_options_init(&options);
    options.core_threads = 2;
    options.log_screen = getenv("RR_TEST_LOG") != NULL;
    ck_assert_int_eq(rr_system_create(&node.system, &options), RR_OK);
    for (int i = 0; i < LOOPS; i++)
        ck_assert_int_eq(rr_loop_create(node.system, "loop", &node.loops[i]), RR_OK);
    rr_gate_options_init(&node.options);
    node.options.name = "gate@0";
    node.options.ready = on_ready;
    node.listen = (rr_gate_listen_t){.address = {.scheme = RR_SCHEME_TCP, .host = "127.0.0.1"}};
    node.options.listen = &node.listen;
    node.options.listen_count = 1;
    node.scene_count = 2;
    static const char *const names[] = {"scene@0", "scene@1", "scene@2"};
    for (int i = 0; i < 3; i++) {
        rr_scene_options_init(&node.scenes[i]);
        node.scenes[i].name = names[i];
        node.scenes[i].logic = &puppet_logic;
    }
}

static inline void start_scene(size_t i) {
    ck_assert_int_eq(rr_scene_spawn(node.system, &node.scenes[i], &node.addresses[i]), RR_OK);
}

static inline void start_gate(void) {
    char why[300];
    int rc = rr_gate_create(node.system, node.loops, LOOPS, &node.options, &node.gate, why, sizeof(why));
    ck_assert_msg(rc == RR_OK, "%s", why);
    ck_assert_int_eq(rr_gate_start(node.gate), RR_OK);
}

static inline void start(void) {
    ck_assert_int_eq(rr_system_start(node.system), RR_OK);
    for (size_t i = 0; i < node.scene_count; i++)
        start_scene(i);
    start_gate();
    await_line("ready");
}

static inline int drain_node(void) {
    static const char *const names[] = {"scene@0", "scene@1", "scene@2"};
    return rr_actors_drain(node.system, &node.gate, node.gate ? 1 : 0, names, 3, false, 5000);
}

static inline void stop_node(void) {
    rr_system_stop(node.system);
    if (node.gate)
        rr_gate_destroy(node.gate);
    rr_system_destroy(node.system);
    for (size_t i = 0; i < happened.count; i++)
        free(happened.lines[i]);
    happened.count = 0;
}

static inline void finish(void) {
    ck_assert_int_eq(drain_node(), RR_OK);
    stop_node();
}

/* A sample's value out of the metrics' text, summed over all whose line begins with the text; -1 if there is none. */
static inline double metric(const char *sample) {
    rr_buffer_t *text;
    ck_assert_int_eq(rr_metrics_text(node.system, &text), RR_OK);
    char *copy = strndup((const char *)rr_buffer_data(text), rr_buffer_size(text));
    rr_buffer_unref(text);
    double sum = -1;
    for (char *save, *line = strtok_r(copy, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
        if (!strncmp(line, sample, strlen(sample)) && line[0] != '#')
            sum = (sum < 0 ? 0 : sum) + atof(strrchr(line, ' ') + 1);
    free(copy);
    return sum;
}

static inline void await_metric(const char *sample, double at_least) {
    for (int i = 0; i < PATIENCE_MS / 5 && metric(sample) < at_least; i++)
        usleep(5000); /* polling a counter: nothing tells of its change */
    ck_assert_msg(metric(sample) >= at_least, "%s is %g, not %g", sample, metric(sample), at_least);
}

static inline void await_gauge(const char *sample, double value) {
    for (int i = 0; i < PATIENCE_MS / 5 && metric(sample) != value; i++)
        usleep(5000); /* polling, too */
    ck_assert_msg(metric(sample) == value, "%s is %g, not %g", sample, metric(sample), value);
}

/* ---- Clients ---- */

typedef struct client {
    int fd;
    uint8_t in[1 << 16];
    size_t have;
    uint16_t cmd; /* of the last message */
    char *body;   /* owned, NUL-terminated */
    size_t size;
} client_t;

static inline client_t *dial(void) {
    client_t *client = calloc(1, sizeof(*client));
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)rr_gate_port(node.gate, 0)),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int one = 1;
    client->fd = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert_int_ge(client->fd, 0);
    setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    ck_assert_int_eq(connect(client->fd, (struct sockaddr *)&to, sizeof(to)), 0);
    return client;
}

static inline void hang_up(client_t *client) {
    close(client->fd);
    free(client->body);
    free(client);
}

static inline void put_bytes(client_t *client, const void *data, size_t size) {
    for (size_t done = 0; done < size;) {
        ssize_t n = send(client->fd, (const char *)data + done, size - done, MSG_NOSIGNAL);
        if (n < 0)
            return; /* closed by the gate: the reader will see it */
        done += (size_t)n;
    }
}

static inline void put_message(client_t *client, uint16_t cmd, const void *body, size_t size) {
    uint8_t *frame = malloc(8 + size);
    uint32_t n = (uint32_t)size;
    memcpy(frame, &n, 4);
    memcpy(frame + 4, &cmd, 2);
    memset(frame + 6, 0, 2);
    memcpy(frame + 8, body, size);
    put_bytes(client, frame, 8 + size);
    free(frame);
}

static inline void tell(client_t *client, uint16_t cmd, const char *text) {
    put_message(client, cmd, text, strlen(text));
}

/* More bytes into client->in; false: the gate closed. Aborts when nothing comes. */
static inline bool more(client_t *client) {
    struct pollfd p = {.fd = client->fd, .events = POLLIN};
    int rc = poll(&p, 1, PATIENCE_MS);
    ck_assert_msg(rc == 1, "the gate says nothing");
    ssize_t n = recv(client->fd, client->in + client->have, sizeof(client->in) - client->have, 0);
    if (n <= 0)
        return false;
    client->have += (size_t)n;
    return true;
}

static inline void drop_bytes(client_t *client, size_t size) {
    memmove(client->in, client->in + size, client->have - size);
    client->have -= size;
}

/* The next message into cmd, body, size; false: closed. */
static inline bool hear(client_t *client) {
    uint32_t size;
    while (client->have < 8)
        if (!more(client))
            return false;
    memcpy(&size, client->in, 4);
    memcpy(&client->cmd, client->in + 4, 2);
    drop_bytes(client, 8);
    free(client->body);
    client->body = calloc(1, size + 1);
    client->size = size;
    for (size_t got = 0; got < size;) {
        if (client->have == 0 && !more(client))
            return false;
        size_t n = client->have < size - got ? client->have : size - got;
        memcpy(client->body + got, client->in, n);
        drop_bytes(client, n);
        got += n;
    }
    return true;
}

static inline void expect(client_t *client, uint16_t cmd, const char *body) {
    ck_assert_msg(hear(client), "closed instead of %u %s", cmd, body);
    ck_assert_str_eq(client->body, body);
    ck_assert_uint_eq(client->cmd, cmd);
}

static inline void expect_closed(client_t *client) {
    while (hear(client))
        ck_assert_msg(client->cmd == 99, "heard %u %s instead of the end", client->cmd,
                      client->body); /* others' offline notices may pass */
}

/* Nothing is to come: what is asked for now is the next thing heard. */
static inline void expect_silence(client_t *client) {
    tell(client, 3, "echo:ping");
    expect(client, 3, "echo:ping");
}

static inline client_t *log_in(const char *key) {
    client_t *client = dial();
    tell(client, 0, key);
    expect(client, 100, "welcome");
    return client;
}

#endif
