/* A gate, three scenes that crash, are restarted, end in order and hand over, and clients that log in, move, and leave, on one
 * thread, under virtual time, from a seed. The checker holds that
 *   - a client's message is handled at most once, and a client's messages in order, whatever crashes and moves;
 *   - where no scene crashed, every message of a client who is still there is handled, whatever was restarted in order (but what
 *     came for a session behind its end: scenes that have too little time, or whose logic keeps it, say that it ends);
 *   - behind it all nothing is left over: no session, no handler, no message, no connection, at any scene or gate;
 *   - every login has had one offline at its login scene, where no scene crashed;
 *   - of broadcasts that a scene makes one behind the other, a client hears all or none, in order and with nothing in between, and
 *     what the scene sends it behind them comes behind them;
 *   - who comes then is served.
 * `--seeds N --first N`; one again: `--seed N`, with what happens: `--log`. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "actors/gate.h"
#include "actors/protocol.h"
#include "actors/scene.h"
#include "runtime/random.h"
#include "runtime/replay.h"
#include "tests/replay/seeds.h"
#include "tests/replay/sim_clients.h"

enum { CLIENTS = 12, IDS = 6, SCENES = 3, LOOPS = 2, STEPS = 600 };
#define MS 1000000ull

typedef struct client {
    rr_connection_t *connection; /* NULL: not there */
    uint32_t life;               /* counts its connections: what an earlier one said is not this one's */
    uint32_t said, handled;      /* numbers of its messages */
    unsigned id;
    bool ended; /* its scene ended first, in time or not: what was on the way to it is lost */
    uint32_t sets[SCENES];   /* the last set of broadcasts heard of each scene */
    uint32_t heard, of_them; /* of the last one: how many, of how many */
} client_t;

static struct world {
    uint64_t seed;
    bool log, faults, crashing, calm;
    bool patient; /* ends in order have time enough, and no logic keeps a session: nobody may be left */
    rr_random_t random;
    rr_system_t *system;
    rr_loop_t *loops[LOOPS];
    rr_gate_t *gate;
    rr_gate_options_t options;
    rr_gate_listen_t listen;
    rr_scene_options_t scenes[SCENES];
    rr_addr_t usher;
    client_t clients[CLIENTS];
    uint64_t handled, crashes, restarts, shouts;
    uint32_t sets; /* of broadcasts, numbered over all scenes */
} w;

static void fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
static void fail(const char *format, ...) {
    va_list args;
    va_start(args, format);
    fprintf(stderr, "seed %llu: ", (unsigned long long)w.seed);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    abort();
}

static void must(int rc) {
    if (rc != RR_OK)
        fail("%s", rr_error_name(rc));
}

static void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void say(const char *format, ...) {
    va_list args;
    if (!w.log)
        return;
    printf("%10.3f ms  ", (double)rr_system_now_ns(w.system) / 1e6);
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    putchar('\n');
}

static unsigned draw(unsigned below) { return (unsigned)rr_random_below(&w.random, below); }
static bool chance(unsigned percent) { return draw(100) < percent; }

/* ---- What scenes do ---- */

typedef struct logic {
    rr_scene_t *scene;
} logic_t;

/* What clients say: cmd 1, a record in bytes. */
enum { DO_ECHO, DO_SHOUT, DO_MOVE, DO_WAIT, DO_CLOSE, DO_BYE, DO_CRASH, DO_HAND_OVER, ORDERS };
typedef struct order {
    uint32_t client, life, number, what, where, id;
} order_t;

/* What all are told: cmd 2, and the one who asked for it, behind it, with cmd 3. */
typedef struct shout {
    uint32_t scene, set, index, count;
} shout_t;

static rr_sid_t id_of(unsigned id, char text[16]) {
    snprintf(text, 16, "p%u", id);
    return (rr_sid_t){.text = text, .size = (uint32_t)strlen(text)};
}

static const char *name_of(unsigned scene) { return w.scenes[scene % SCENES].name; }

static int logic_load(void *state, rr_scene_t *scene, const void *arg, uint64_t token, char *why, size_t size) {
    ((logic_t *)state)->scene = scene;
    return RR_OK;
}

/* A handler that runs on for a while. */
static int run_on(logic_t *my, uint64_t token) {
    must(rr_scene_timer(my->scene, 1 + draw(chance(20) ? 2000 : 100), 0, token));
    return RR_SCRIPT_PENDING;
}

static void logic_timer(void *state, uint64_t token) { rr_scene_done(((logic_t *)state)->scene, token, RR_OK); }

static void logic_cancel(void *state, uint64_t token) {
    logic_t *my = state;
    if (chance(10)) /* ignores it */
        return;
    if (rr_scene_timer_cancel(my->scene, token))
        rr_scene_done(my->scene, token, RR_CANCELLED);
}

static int logic_verify(void *state, const rr_login_t *login, rr_verdict_t *verdict) {
    static char key[32];
    snprintf(key, sizeof key, "%.*s", (int)login->key_size, (const char *)login->key);
    *verdict = (rr_verdict_t){.id = {.text = key, .size = (uint32_t)login->key_size}};
    if (!w.calm && chance(5))
        verdict->code = RR_EREFUSED;
    return RR_OK;
}

static int logic_enter(void *state, rr_session_t *session, const char *from, const void *extra, size_t size,
                       uint64_t token) {
    logic_t *my = state;
    say("%s: enter %s from '%s'", rr_scene_name(my->scene), rr_session_id(session)->text, from);
    if (w.calm)
        return RR_OK;
    if (chance(10)) { /* it may be one too many: then the answer says so */
        int rc = rr_scene_change(my->scene, rr_session_id(session), name_of(draw(SCENES)), "e", 1, 2);
        if (rc != RR_OK && rc != RR_ESTATE && rc != RR_ENOENT)
            must(rc);
    }
    return chance(30) ? run_on(my, token) : chance(10) ? RR_EHANDLER : RR_OK;
}

/* At most once and in order: no number but a higher one. */
static void check_number(const order_t *order) {
    client_t *client = &w.clients[order->client];
    if (client->life != order->life) /* said by a connection that is over */
        return;
    if (order->number <= client->handled)
        fail("client %u: message %u is handled behind message %u", order->client, order->number, client->handled);
    client->handled = order->number;
    w.handled++;
}

/* Up to five broadcasts: rows of the simulated connections hold three. */
static int shout(rr_scene_t *scene, rr_session_t *session) {
    shout_t what = {.set = ++w.sets, .count = 1 + draw(5)};
    while (what.scene < SCENES - 1 && strcmp(name_of(what.scene), rr_scene_name(scene)) != 0)
        what.scene++;
    int rc = RR_OK;
    for (; what.index < what.count && rc == RR_OK; what.index++)
        rc = rr_scene_broadcast(scene, 2, &what, sizeof what, false);
    return rc == RR_OK ? rr_scene_send(scene, session, 3, &what, sizeof what, false) : rc;
}

static void told(void *context, uint16_t cmd, const void *body, size_t size) {
    client_t *client = context;
    shout_t what;
    if (cmd != 2 && client->heard != client->of_them)
        fail("client %u: cmd %u within a set of broadcasts", (unsigned)(client - w.clients), cmd);
    if (cmd != 2 && cmd != 3)
        return;
    memcpy(&what, body, sizeof what);
    if (cmd == 3 && client->sets[what.scene] != what.set)
        fail("client %u: what was sent behind set %u comes behind set %u", (unsigned)(client - w.clients), what.set,
             client->sets[what.scene]);
    if (cmd == 3)
        return;
    if (what.index == 0 && (client->heard != client->of_them || what.set <= client->sets[what.scene]))
        fail("client %u: set %u of broadcasts begins within or behind set %u", (unsigned)(client - w.clients), what.set,
             client->sets[what.scene]);
    if (what.index != 0 && (client->sets[what.scene] != what.set || client->heard != what.index))
        fail("client %u: broadcast %u of set %u comes behind %u of set %u", (unsigned)(client - w.clients), what.index, what.set,
             client->heard, client->sets[what.scene]);
    client->sets[what.scene] = what.set;
    client->heard = what.index + 1;
    client->of_them = what.count;
    w.shouts++;
}

static int logic_message(void *state, rr_session_t *session, uint16_t cmd, const void *body, size_t size,
                         rr_buffer_t *owner, uint64_t token) {
    logic_t *my = state;
    order_t order;
    char text[16];
    int rc = RR_OK;
    if (size != sizeof order)
        fail("a message of %zu bytes", size);
    memcpy(&order, body, size);
    rr_sid_t other = id_of(order.id, text);
    say("%s: client %u (%s) message %u: %u %s", rr_scene_name(my->scene), order.client, rr_session_id(session)->text,
        order.number, order.what, name_of(order.where));
    check_number(&order);
    switch (order.what) {
    case DO_SHOUT:
        rc = shout(my->scene, session);
        break;
    case DO_MOVE:
        rc = rr_scene_change(my->scene, rr_session_id(session), name_of(order.where), "m", 1, 1);
        break;
    case DO_WAIT:
        return run_on(my, token);
    case DO_CLOSE:
        rc = rr_scene_close(my->scene, &other);
        break;
    case DO_BYE:
        rc = rr_scene_close(my->scene, rr_session_id(session));
        break;
    case DO_CRASH:
        w.crashes++;
        rr_exit(rr_scene_actor(my->scene), RR_EHANDLER);
        break;
    case DO_HAND_OVER:
        rc = rr_scene_hand_over(my->scene, name_of(order.where), 50 + draw(300), 3);
        break;
    default:
        rc = rr_scene_send(my->scene, session, 1, "ok", 2, true);
    }
    return rc == RR_ENOMEM || rc == RR_EINVAL ? rc : RR_OK; /* anything may have happened to it meanwhile */
}

static bool logic_concurrent(void *state, uint16_t cmd) { return cmd == 2; }

static void excuse(const rr_sid_t *id) {
    for (client_t *client = w.clients; client < w.clients + CLIENTS; client++) {
        char text[16];
        client->ended = client->ended || !strcmp(id_of(client->id, text).text, id->text);
    }
}

static int logic_offline(void *state, rr_session_t *session, int64_t online_time, const char *reason, uint64_t token) {
    logic_t *my = state;
    say("%s: offline %s, %s", rr_scene_name(my->scene), rr_session_id(session)->text, reason);
    if (!strcmp(reason, "drain") && !w.patient)
        excuse(rr_session_id(session));
    return !w.calm && chance(10) ? run_on(my, token) : RR_OK;
}

static int logic_hand_over(void *state, rr_session_t *session, uint64_t token, rr_hand_to_t *to) {
    if (chance(10) && !w.patient)
        to->scene = "";
    if (chance(50)) {
        to->state = "state";
        to->size = 5;
    }
    return chance(10) ? RR_EHANDLER : chance(20) ? run_on(state, token) : RR_OK;
}

static void logic_answer(void *state, uint64_t token, const char *error, const void *body, size_t size) {
    say("%s: answer %u %s", rr_scene_name(((logic_t *)state)->scene), (unsigned)token, error ? error : "");
}

static const rr_scene_logic_t logic = {
    .name = "sim",
    .state_size = sizeof(logic_t),
    .load = logic_load,
    .verify = logic_verify,
    .enter = logic_enter,
    .message = logic_message,
    .concurrent = logic_concurrent,
    .offline = logic_offline,
    .hand_over = logic_hand_over,
    .answer = logic_answer,
    .timer = logic_timer,
    .cancel = logic_cancel,
};

/* ---- The orderly restart: what the end of a scene's node does, and then its next start ---- */

static void start_scene(unsigned i) {
    rr_child_t child = {.restart = RR_RESTART_TRANSIENT};
    rr_supervisor_t spec = {.children = &child, .child_count = 1, .max_restarts = 10000};
    rr_scene_spec(&w.scenes[i], &child.spawn);
    must(rr_supervisor_spawn(w.system, &spec, NULL));
}

/* One restart of each scene at a time. */
typedef struct usher {
    struct restart {
        unsigned scene;
        bool under_way;
        rr_addr_t addr;
        uint64_t monitor;
    } restarts[SCENES];
} usher_t;

static void on_handed_over(rr_actor_t *self, void *state, int status, rr_message_t *msg, void *context) {
    struct restart *restart = context;
    uint8_t ms[4];
    rr_put32(ms, 50 + draw(1000));
    rr_handed_over_t result = {0};
    if (status == RR_OK)
        memcpy(&result, rr_message_data(msg), sizeof result);
    say("usher: %s has handed over: %s, %llu left", name_of(restart->scene), rr_error_name(status),
        (unsigned long long)result.left);
    if (status == RR_EHANDLER || (w.patient && result.left > 0))
        fail("%s, which ends, leaves %llu sessions: %s", name_of(restart->scene), (unsigned long long)result.left,
             rr_error_name(status));
    int rc = rr_send(self, restart->addr, RR_TYPE_STOP, ms, chance(50) ? sizeof ms : 0);
    if (rc != RR_OK && rc != RR_NOROUTE) /* a crash came first: that is told as well */
        must(rc);
}

static void begin_restart(rr_actor_t *self, struct restart *restart) {
    rr_hand_over_t head = {.deadline_ms = (w.patient ? 10000 : 50) + draw(1500), .flags = RR_HAND_OVER_BACK};
    rr_addr_t addr = rr_lookup(w.system, name_of(restart->scene));
    if (restart->under_way || addr == RR_NOBODY)
        return;
    restart->under_way = true;
    restart->addr = addr;
    w.restarts++;
    say("usher: %s is to end", name_of(restart->scene));
    must(rr_monitor(self, restart->addr, &restart->monitor));
    must(rr_call(self, restart->addr, RR_TYPE_HAND_OVER, &head, sizeof head, head.deadline_ms + 100, on_handed_over, restart,
                 NULL));
}

static void usher_receive(rr_actor_t *self, void *state, rr_message_t *msg) {
    usher_t *usher = state;
    rr_kind_t kind = rr_message_kind(msg);
    for (unsigned i = 0; i < SCENES; i++) {
        struct restart *restart = &usher->restarts[i];
        restart->scene = i;
        if (kind == RR_SEND && rr_message_type(msg) == i) {
            begin_restart(self, restart);
        } else if (kind == RR_DOWN && restart->under_way && rr_message_request(msg) == restart->monitor) {
            bool crashed = (int)rr_message_type(msg) != RR_OK; /* then its supervisor starts it again */
            say("usher: %s is gone%s", name_of(i), crashed ? ", crashed" : "");
            restart->under_way = !crashed;
            if (!crashed)
                must(rr_timer_start(self, draw(chance(20) ? 3000 : 200) + 1, 0, i, NULL));
        } else if (kind == RR_TIMER && rr_message_type(msg) == i) {
            restart->under_way = false;
            start_scene(i);
        }
    }
}

static const rr_behavior_t usher = {.name = "usher", .state_size = sizeof(usher_t), .receive = usher_receive};

/* ---- The world ---- */

static void begin(uint64_t seed, bool log) {
    static const char *const names[SCENES] = {"scene@0", "scene@1", "scene@2"};
    rr_options_t options;
    char why[300];
    w = (struct world){.seed = seed, .log = log, .faults = seed % 4 != 0, .crashing = seed % 4 > 1};
    rr_random_seed(&w.random, seed);
    rr_options_init(&options);
    options.seed = seed;
    options.replay = true;
    options.log_screen = log;
    must(rr_system_create(&w.system, &options));
    for (int i = 0; i < LOOPS; i++)
        must(rr_loop_create(w.system, "loop", &w.loops[i]));
    rr_gate_options_init(&w.options);
    w.listen = (rr_gate_listen_t){.address = {.scheme = RR_SCHEME_TCP, .host = "127.0.0.1"}};
    w.options.name = "gate@0";
    w.options.listen = &w.listen;
    w.options.listen_count = 1;
    w.options.scene_lost = w.faults ? (rr_scene_lost_t)(seed % 3) : RR_LOST_CLOSE;
    w.patient = !w.crashing && w.options.scene_lost != RR_LOST_CLOSE && seed % 8 == 1;
    w.options.scene_wait_ms = 300 + draw(5000);
    must(rr_gate_create(w.system, w.loops, LOOPS, &w.options, &w.gate, why, sizeof why));
    must(rr_system_start(w.system));
    for (unsigned i = 0; i < SCENES; i++) {
        rr_scene_options_init(&w.scenes[i]);
        w.scenes[i].name = names[i];
        w.scenes[i].logic = &logic;
        w.scenes[i].offline_wait_ms = 50 + draw(400);
        w.scenes[i].kick_wait_ms = 50 + draw(400);
        w.scenes[i].move_timeout_ms = 20 + draw(400);
        w.scenes[i].drain_to = names[(i + 1) % SCENES];
        start_scene(i);
    }
    must(rr_system_spawn(w.system, &(rr_spawn_t){.behavior = &usher}, &w.usher));
    must(rr_gate_start(w.gate));
    rr_replay_run_until(w.system, rr_system_now_ns(w.system) + 500 * MS);
}

static void end(void) {
    rr_system_stop(w.system);
    rr_gate_destroy(w.gate);
    rr_system_destroy(w.system);
    for (int i = 0; i < LOOPS; i++)
        free(w.loops[i]);
}

static void pass(uint64_t ns) { rr_replay_run_until(w.system, rr_system_now_ns(w.system) + ns); }

static void come(client_t *client) {
    char key[16];
    client->id = draw(IDS);
    rr_sid_t id = id_of(client->id, key);
    client->connection = sim_connect(sim_listener(), draw(LOOPS), client, told);
    client->life++;
    memset(client->sets, 0, sizeof client->sets);
    client->heard = client->of_them = 0;
    client->said = client->handled = 0;
    client->ended = false;
    if (client->connection)
        sim_say(client->connection, 0, id.text, id.size);
}

static void act(client_t *client) {
    order_t order = {.client = (uint32_t)(client - w.clients), .life = client->life, .number = ++client->said};
    order.what = chance(30) ? DO_MOVE : draw(w.faults ? ORDERS : DO_CRASH);
    if (order.what == DO_CRASH && !w.crashing)
        order.what = DO_HAND_OVER;
    if ((order.what == DO_CRASH || order.what == DO_HAND_OVER) && !chance(30))
        order.what = DO_ECHO;
    order.where = draw(SCENES);
    order.id = draw(IDS);
    sim_say(client->connection, chance(80) ? 1 : 2, &order, sizeof order);
}

static void reap(void) {
    for (int i = 0; i < CLIENTS; i++)
        if (w.clients[i].connection && chance(50) && sim_reap(w.clients[i].connection))
            w.clients[i].connection = NULL;
}

static void step(void) {
    client_t *client = &w.clients[draw(CLIENTS)];
    if (!client->connection)
        come(client);
    else if (chance(4)) {
        say("client %u hangs up", (unsigned)(client - w.clients));
        sim_hang_up(client->connection);
        client->connection = NULL;
    } else
        act(client);
    if (w.faults && chance(1))
        must(rr_system_send(w.system, w.usher, draw(SCENES), NULL, 0));
    if (chance(70))
        rr_replay_run(w.system, draw(12) + 1);
    if (chance(20))
        pass(draw(chance(10) ? 500 : 20) * MS + 1);
    reap();
}

/* ---- Behind it ---- */

static double metric(const char *text, const char *name) {
    double sum = 0;
    size_t size = strlen(name);
    for (const char *line = text; line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL)
        if (!strncmp(line, name, size)) {
            const char *end = strchr(line, '\n'), *at = end ? end : line + strlen(line);
            while (at[-1] != ' ')
                at--;
            sum += atof(at);
        }
    return sum;
}

static void check_end(void) {
    static const char *const gauges[] = {"rr_scene_sessions{",     "rr_scene_away{",         "rr_scene_queued{",
                                         "rr_scene_queued_bytes{", "rr_gate_sessions{",      "rr_gate_connections{",
                                         "rr_gate_lost{",          "rr_scene_pending_handlers{"};
    rr_buffer_t *buffer;
    must(rr_metrics_text(w.system, &buffer));
    char *text = strndup((const char *)rr_buffer_data(buffer), rr_buffer_size(buffer));
    rr_buffer_unref(buffer);
    if (!text)
        abort();
    for (size_t i = 0; i < sizeof gauges / sizeof *gauges; i++)
        if (metric(text, gauges[i]) != 0)
            fail("%s is %g at the end", gauges[i], metric(text, gauges[i]));
    if (metric(text, "rr_scene_bad_records_total") != 0)
        fail("a scene was told what makes no sense");
    if (!w.faults && metric(text, "rr_scene_offlines_total{scene=\"scene@0\"}") !=
                         metric(text, "rr_scene_logins_total{scene=\"scene@0\"}"))
        fail("%g logins, %g offlines at the login scene", metric(text, "rr_scene_logins_total{scene=\"scene@0\"}"),
             metric(text, "rr_scene_offlines_total{scene=\"scene@0\"}"));
    free(text);
}

static void heard(void *client, uint16_t cmd, const void *body, size_t size) { *(bool *)client = true; }

/* Who comes now is served. */
static void check_service(void) {
    bool answered = false;
    order_t order = {.client = 0, .life = UINT32_MAX, .number = 1, .what = DO_ECHO};
    rr_connection_t *connection = sim_connect(sim_listener(), draw(LOOPS), &answered, heard);
    if (!connection)
        fail("nobody is let in any more");
    sim_say(connection, 0, "last", 4);
    sim_say(connection, 1, &order, sizeof order);
    pass(2000 * MS);
    if (!answered)
        fail("who comes at the end is not served");
    sim_hang_up(connection);
    pass(1000 * MS);
}

/* All that those who are still there have said comes to an end, if it is only given the time. */
static void check_handled(void) {
    for (int i = 0; i < 30; i++) {
        pass(500 * MS);
        for (client_t *client = w.clients; client < w.clients + CLIENTS; client++)
            if (client->connection && sim_reap(client->connection))
                client->connection = NULL;
    }
    for (int i = 0; i < CLIENTS; i++)
        if (w.clients[i].connection && w.crashes == 0 && !w.clients[i].ended && w.clients[i].handled != w.clients[i].said)
            fail("client %d has said %u messages, %u are handled", i, w.clients[i].said, w.clients[i].handled);
}

static void hang_up_all(void) {
    for (int i = 0; i < CLIENTS; i++)
        if (w.clients[i].connection)
            sim_hang_up(w.clients[i].connection);
}

static uint64_t run(uint64_t seed, bool log, bool print) {
    begin(seed, log);
    for (int i = 0; i < STEPS; i++)
        step();
    w.calm = true;
    check_handled();
    hang_up_all();
    pass(15000 * MS);
    check_end();
    check_service();
    check_end();
    uint64_t trace = rr_replay_trace(w.system);
    if (print)
        printf("seed %llu: %llu messages handled, %llu broadcasts heard, %llu crashes, %llu orderly restarts, trace %016llx\n",
               (unsigned long long)seed, (unsigned long long)w.handled, (unsigned long long)w.shouts, (unsigned long long)w.crashes,
               (unsigned long long)w.restarts, (unsigned long long)trace);
    end();
    return trace;
}

int main(int argc, char **argv) { return seeds_main(argc, argv, run, "storms"); }
