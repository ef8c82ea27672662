/* gate.c: a gate as a whole: made from its options, its control actor, its metrics, its end. */
#include "actors/gate.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "actors/gate_impl.h"
#include "runtime/clock.h"

#define RETRY_MS  50
#define ATTACH_MS 5000
#define WATCH_MS  1000
enum { TAG_RETRY = 1, TAG_WATCH };

/* ---- Options ---- */

void rr_gate_options_init(rr_gate_options_t *options) {
    *options = (rr_gate_options_t){
        .login = "scene@0",
        .max_packet = 1000000,
        .send_limit = 4u << 20,
        .max_connections = 100000,
        .max_pending_logins = 10000,
        .pending_messages = 64,
        .pending_bytes = 256u << 10,
        .queue_messages = 1024,
        .queue_bytes = 4u << 20,
        .login_timeout_ms = 15000,
        .idle_timeout_ms = 600000,
        .partial_timeout_ms = 30000,
        .heartbeat_cmd = -1,
        .scene_wait_ms = 30000,
        .window_messages = 65536,
        .window_bytes = 8u << 20,
        .metrics = true,
    };
}

static unsigned choose_tick(const rr_gate_options_t *o) {
    unsigned shortest = 16000;
    if (o->login_timeout_ms && o->login_timeout_ms < shortest)
        shortest = o->login_timeout_ms;
    if (o->idle_timeout_ms && o->idle_timeout_ms < shortest)
        shortest = o->idle_timeout_ms;
    if (o->scene_lost != RR_LOST_CLOSE && o->scene_wait_ms && o->scene_wait_ms < shortest)
        shortest = o->scene_wait_ms;
    unsigned tick = shortest / 32;
    return tick < 10 ? 10 : tick;
}

static bool copy(char **out, const char *text, const char **field) {
    *out = text ? strdup(text) : NULL;
    *field = *out;
    return !text || *out;
}

static bool copy_list(char ***out, const char *const *list, const char *const **field) {
    size_t count = 0;
    *field = NULL;
    while (list && list[count])
        count++;
    if (!count)
        return true;
    *out = calloc(count + 1, sizeof(**out));
    for (size_t i = 0; *out && i < count; i++)
        if (!((*out)[i] = strdup(list[i])))
            return false;
    *field = (const char *const *)*out;
    return *out;
}

static void free_list(char **list) {
    for (size_t i = 0; list && list[i]; i++)
        free(list[i]);
    free(list);
}

static int copy_options(rr_gate_t *gate, const rr_gate_options_t *options) {
    rr_gate_options_t *o = &gate->options;
    *o = *options;
    if (!copy(&gate->name, options->name, &o->name) || !copy(&gate->login_name, options->login, &o->login) ||
        !copy(&gate->client_js, options->client_js, &o->client_js) ||
        !copy(&gate->editor_scene, options->editor.scene, &o->editor.scene) ||
        !copy(&gate->editor_script, options->editor.script, &o->editor.script) ||
        !copy(&gate->editor_token, options->editor.token, &o->editor.token) ||
        !copy_list(&gate->subprotocols, options->subprotocols, &o->subprotocols))
        return RR_ENOMEM;
    if (o->rate && !o->rate_burst)
        o->rate_burst = 2 * o->rate;
    o->window_messages = o->window_messages ? o->window_messages : 65536;
    o->window_bytes = o->window_bytes && o->window_bytes <= UINT32_MAX ? o->window_bytes : 8u << 20;
    gate->tick_ms = choose_tick(o);
    gate->login_ticks = (o->login_timeout_ms + gate->tick_ms - 1) / gate->tick_ms;
    gate->idle_ticks = (o->idle_timeout_ms + gate->tick_ms - 1) / gate->tick_ms;
    gate->lost_ticks = (o->scene_wait_ms + gate->tick_ms - 1) / gate->tick_ms;
    o->listen = NULL; /* the caller's; what is needed of it is in ports */
    return RR_OK;
}

/* ---- Creating ---- */

static void set_connection_options(rr_gate_t *gate, const rr_gate_listen_t *listen, size_t i) {
    const rr_gate_options_t *o = &gate->options;
    rr_connection_options_t *c = &gate->connections[i];
    rr_connection_options_init(c);
    c->max_packet = o->max_packet ? o->max_packet : (512u << 20) - 1;
    c->send_limit = o->send_limit ? o->send_limit : SIZE_MAX;
    c->big_endian = listen->big_endian;
    c->tcp = listen->address.scheme == RR_SCHEME_TCP;
    c->websocket = true;
    c->handshake_ms = o->login_timeout_ms;
    c->partial_ms = o->partial_timeout_ms;
    c->subprotocols = o->subprotocols;
    gate->http[i] = (rr_http_handler_t){.request = rr__gate_http_request, .context = &gate->ports[i]};
    c->http = &gate->http[i];
}

static int open_port(rr_gate_t *gate, rr_loop_t *const *loops, size_t loop_count, const rr_gate_listen_t *listen,
                     size_t i, char *why, size_t why_size) {
    struct rr__gate_port *port = &gate->ports[i];
    char text[300], reason[300] = "";
    *port = (struct rr__gate_port){.gate = gate, .index = i};
    set_connection_options(gate, listen, i);
    int rc = rr_listener_open(loops, loop_count, &listen->address, rr__shard_accept, port, &port->listener, reason,
                              sizeof(reason));
    if (rc != RR_OK) {
        rr_address_format(&listen->address, text, sizeof(text));
        if (reason[0]) /* says where and why */
            snprintf(why, why_size, "%s: %s", gate->options.name, reason);
        else
            snprintf(why, why_size, "%s: cannot listen on %s: %s", gate->options.name, text, rr_strerror(rc));
        return rc;
    }
    gate->port_count++;
    return RR_OK;
}

static int create_parts(rr_gate_t *gate, rr_loop_t *const *loops, size_t loop_count, const rr_gate_options_t *options,
                        char *why, size_t why_size) {
    int rc = copy_options(gate, options);
    gate->connections = calloc(options->listen_count, sizeof(*gate->connections));
    gate->http = calloc(options->listen_count, sizeof(*gate->http));
    gate->ports = calloc(options->listen_count, sizeof(*gate->ports));
    gate->shards = calloc(loop_count, sizeof(*gate->shards));
    if (rc != RR_OK || !gate->connections || !gate->http || !gate->ports || !gate->shards)
        return RR_ENOMEM;
    rc = rr__gate_http_init(gate, why, why_size);
    for (size_t i = 0; rc == RR_OK && i < loop_count; i++) {
        gate->shard_count++;
        rc = rr__shard_init(&gate->shards[i], gate, loops[i], (unsigned)i);
    }
    for (size_t i = 0; rc == RR_OK && i < options->listen_count; i++)
        rc = open_port(gate, loops, loop_count, &options->listen[i], i, why, why_size);
    return rc;
}

int rr_gate_create(rr_system_t *system, rr_loop_t *const *loops, size_t loop_count, const rr_gate_options_t *options,
                   rr_gate_t **out, char *why, size_t why_size) {
    char nowhere[8];
    if (!why || !why_size) {
        why = nowhere;
        why_size = sizeof(nowhere);
    }
    why[0] = 0;
    if (loop_count == 0 || options->listen_count == 0 || !options->name || !options->login ||
        !rr_name_legal(options->name) || !rr_name_legal(options->login)) {
        return rr_fail(RR_EINVAL, why, why_size,
                       "a gate needs a legal name, a login scene, a loop and at least one address to listen on");
    }
    rr_gate_t *gate = calloc(1, sizeof(*gate));
    if (!gate)
        return RR_ENOMEM;
    gate->system = system;
    pthread_mutex_init(&gate->ip_lock, NULL);
    int rc = create_parts(gate, loops, loop_count, options, why, why_size);
    if (rc != RR_OK) {
        if (!why[0])
            snprintf(why, why_size, "%s: %s", options->name, rr_strerror(rc));
        rr_gate_destroy(gate);
        return rc;
    }
    *out = gate;
    return RR_OK;
}

const char *rr_gate_name(const rr_gate_t *gate) {
    return gate->options.name;
}
rr_addr_t rr_gate_address(const rr_gate_t *gate) {
    return gate->control;
}
const char *rr_gate_editor_token(const rr_gate_t *gate) {
    return gate->options.editor.token;
}

unsigned rr_gate_port(const rr_gate_t *gate, size_t listen) {
    return listen < gate->port_count ? rr_listener_port(gate->ports[listen].listener) : 0;
}

size_t rr_gate_sessions(const rr_gate_t *gate) {
    return atomic_load_explicit(&((rr_gate_t *)gate)->session_count, memory_order_relaxed);
}

/* ---- The control actor: keeps the login scene's address, starts listening when it serves ---- */

typedef struct control {
    rr_gate_t *gate;
    rr_addr_t login; /* attached, RR_NOBODY if none */
    uint64_t monitor;
    unsigned waiting; /* shards that have not yet heard of the first one */
} control_t;

static void attach(rr_actor_t *self, control_t *control);

static void retry(rr_actor_t *self, control_t *control) {
    if (rr_timer_start(self, RETRY_MS, 0, TAG_RETRY, NULL) != RR_OK)
        rr_log(control->gate->system, RR_ERROR, "GATE", "%s: out of memory: %s will not be looked for again",
               control->gate->options.name, control->gate->options.login);
}

static void start_listening(control_t *control) {
    rr_gate_t *gate = control->gate;
    if (gate->listening || gate->stopped)
        return;
    gate->listening = true;
    for (size_t i = 0; i < gate->port_count; i++) {
        int rc = rr_listener_start(gate->ports[i].listener);
        if (rc != RR_OK)
            rr_log(gate->system, RR_ERROR, "GATE", "%s: listening on port %u failed: %s", gate->options.name,
                   rr_listener_port(gate->ports[i].listener), rr_strerror(rc));
    }
    rr_log(gate->system, RR_INFO, "GATE", "%s: open, login by %s", gate->options.name, gate->options.login);
    if (gate->options.ready)
        gate->options.ready(gate->options.context, gate);
}

static void on_shard_told(rr_actor_t *self, void *state, int status, rr_message_t *msg, void *context) {
    control_t *control = state;
    if (control->waiting > 0 && --control->waiting == 0)
        start_listening(control);
}

static void tell_shards(rr_actor_t *self, control_t *control) {
    uint8_t body[8];
    rr_put64(body, control->login);
    for (size_t i = 0; i < control->gate->shard_count; i++) {
        int rc = rr_call(self, control->gate->shards[i].addr, RR_TYPE_LOGIN_SCENE, body, sizeof(body), 0, on_shard_told,
                         NULL, NULL);
        if (rc == RR_OK && control->login)
            control->waiting++;
        else if (rc != RR_OK)
            rr_log(control->gate->system, RR_ERROR, "GATE", "%s: out of memory: a loop does not know the login scene",
                   control->gate->options.name);
    }
}

static void on_attached(rr_actor_t *self, void *state, int status, rr_message_t *msg, void *context) {
    control_t *control = state;
    rr_addr_t scene = (rr_addr_t)(uintptr_t)context;
    if (status != RR_OK || rr_monitor(self, scene, &control->monitor) != RR_OK) {
        retry(self, control);
        return;
    }
    control->login = scene;
    tell_shards(self, control);
}

static void attach(rr_actor_t *self, control_t *control) {
    rr_addr_t scene = rr_lookup(control->gate->system, control->gate->options.login);
    if (scene == RR_NOBODY ||
        rr_call(self, scene, RR_TYPE_ATTACH, NULL, 0, ATTACH_MS, on_attached, (void *)(uintptr_t)scene, NULL) != RR_OK)
        retry(self, control);
}

static void lose_login(rr_actor_t *self, control_t *control, rr_level_t level, const char *how) {
    rr_log(control->gate->system, level, "GATE", "%s: %s %s", control->gate->options.name,
           control->gate->options.login, how);
    control->login = RR_NOBODY;
    tell_shards(self, control);
    retry(self, control);
}

/* A name of the group can get another owner while the former one is alive, cut off or stopped: no end is told then. */
static void watch_login(rr_actor_t *self, control_t *control) {
    rr_addr_t owner = rr_lookup(control->gate->system, control->gate->options.login);
    if (control->login == RR_NOBODY || owner == RR_NOBODY || owner == control->login || control->gate->stopped)
        return;
    rr_demonitor(self, control->monitor);
    lose_login(self, control, RR_WARN, "has another owner: logins wait until it serves");
}

static void on_login_down(rr_actor_t *self, control_t *control, int reason) {
    if (reason == RR_OK) /* somebody wanted it so */
        lose_login(self, control, RR_INFO, "was stopped: logins go on when it is back");
    else
        lose_login(self, control, RR_WARN,
                   control->gate->options.scene_lost == RR_LOST_CLOSE ? "is gone: logins are refused until it is back"
                                                                      : "is gone: logins wait until it is back");
}

static void control_receive(rr_actor_t *self, void *state, rr_message_t *msg) {
    control_t *control = state;
    switch (rr_message_kind(msg)) {
    case RR_TIMER:
        if (rr_message_type(msg) == TAG_WATCH)
            watch_login(self, control);
        else
            attach(self, control);
        break;
    case RR_DOWN:
        if (rr_message_request(msg) == control->monitor && !control->gate->stopped)
            on_login_down(self, control, (int)rr_message_type(msg));
        break;
    case RR_SEND:
        if (rr_message_type(msg) == RR_TYPE_CLOSE_ALL)
            rr_exit(self, RR_OK);
        break;
    default:
        break;
    }
}

/* ---- Metrics ---- */

typedef struct gate_metric {
    const char *name, *help;
    size_t offset;
    rr_metric_type_t type;
} gate_metric_t;

#define COUNTER(field, help)                                                                                           \
    { "rr_gate_" #field "_total", help, offsetof(rr__shard_counters_t, field), RR_METRIC_COUNTER }
#define GAUGE(field, help)                                                                                             \
    { "rr_gate_" #field, help, offsetof(rr__shard_counters_t, field), RR_METRIC_GAUGE }

static const gate_metric_t gate_metrics[] = {
    GAUGE(connections, "Open connections."),
    GAUGE(sessions, "Verified sessions."),
    COUNTER(logins, "Logins begun."),
    COUNTER(messages_in, "Messages received."),
    COUNTER(bytes_in, "Bytes of their bodies."),
    COUNTER(messages_out, "Messages sent, each receiver of a broadcast counted."),
    COUNTER(bytes_out, "Bytes of their bodies."),
    COUNTER(batches_in, "Actor messages to scenes."),
    COUNTER(batches_out, "Actor messages from scenes."),
    COUNTER(multicasts, "Messages sent to lists of sessions."),
    COUNTER(broadcasts, "Messages sent to all sessions of a scene or gate."),
    GAUGE(lost, "Sessions that wait for a scene that is gone."),
    COUNTER(losses, "Sessions that lost their scene and were kept."),
    COUNTER(resumes, "Sessions given to the next owner of their scene's name."),
    COUNTER(relogins, "Sessions logged in again because their scene was gone."),
    COUNTER(pauses, "Times a client was not read because its scene did not keep up."),
    COUNTER(heartbeats, "Heartbeat messages swallowed."),
    COUNTER(pings, "WebSocket pings sent."),
    COUNTER(stale, "Records for sessions that are gone."),
    COUNTER(bad_records, "Records that make no sense."),
    COUNTER(no_login_scene, "Logins refused because there was no login scene."),
    COUNTER(dropped, "Messages dropped: above max_packet, or to many without memory for it."),
};

static const gate_metric_t limit_metrics[] = {
    {"connections", NULL, offsetof(rr__shard_counters_t, limit_connections), RR_METRIC_COUNTER},
    {"per_ip", NULL, offsetof(rr__shard_counters_t, limit_per_ip), RR_METRIC_COUNTER},
    {"pending_logins", NULL, offsetof(rr__shard_counters_t, limit_pending_logins), RR_METRIC_COUNTER},
    {"pending_queue", NULL, offsetof(rr__shard_counters_t, limit_pending_queue), RR_METRIC_COUNTER},
    {"queue", NULL, offsetof(rr__shard_counters_t, limit_held), RR_METRIC_COUNTER},
    {"rate", NULL, offsetof(rr__shard_counters_t, limit_rate), RR_METRIC_COUNTER},
};

static double sum(rr_gate_t *gate, size_t offset) {
    uint64_t total = 0;
    for (size_t i = 0; i < gate->shard_count; i++)
        total += rr_counted((rr_counter_t *)((char *)&gate->shards[i].count + offset));
    return (double)(int64_t)total;
}

static void write_labelled(rr_gate_t *gate, rr_metrics_writer_t *writer, const char *name, const char *help,
                           const char *key, const char *value, size_t offset) {
    char labels[256] = "";
    if (rr_metrics_label(labels, sizeof(labels), "gate", gate->options.name) &&
        rr_metrics_label(labels, sizeof(labels), key, value))
        rr_metrics_write(writer, name, RR_METRIC_COUNTER, help, labels, sum(gate, offset));
}

static void collect(void *context, rr_metrics_writer_t *writer) {
    rr_gate_t *gate = context;
    char labels[200] = "";
    if (!rr_metrics_label(labels, sizeof(labels), "gate", gate->options.name))
        return;
    for (size_t i = 0; i < sizeof(gate_metrics) / sizeof(*gate_metrics); i++)
        rr_metrics_write(writer, gate_metrics[i].name, gate_metrics[i].type, gate_metrics[i].help, labels,
                         sum(gate, gate_metrics[i].offset));
    for (unsigned r = 0; r < RR_CLOSE_REASON_COUNT; r++)
        write_labelled(gate, writer, "rr_gate_closes_total", "Connections ended, by reason.", "reason",
                       rr_close_label((rr_close_reason_t)r),
                       offsetof(rr__shard_counters_t, closes) + r * sizeof(rr_counter_t));
    for (size_t i = 0; i < sizeof(limit_metrics) / sizeof(*limit_metrics); i++)
        write_labelled(gate, writer, "rr_gate_limit_hits_total", "Times a limit was hit.", "limit",
                       limit_metrics[i].name, limit_metrics[i].offset);
}

/* ---- Starting ---- */

static int control_start(rr_actor_t *self, void *state, const void *arg) {
    control_t *control = state;
    control->gate = *(rr_gate_t *const *)arg;
    if (control->gate->options.leased && rr_timer_start(self, WATCH_MS, WATCH_MS, TAG_WATCH, NULL) != RR_OK)
        return RR_ENOMEM;
    attach(self, control);
    return RR_OK;
}

static void control_drain(rr_actor_t *self, void *state) {
    control_t *control = state;
    control->gate->stopped = true;
    for (size_t i = 0; i < control->gate->port_count; i++)
        rr_listener_pause(control->gate->ports[i].listener);
    rr_exit(self, RR_OK);
}

static const rr_behavior_t control_behavior = {
    .name = "gate",
    .state_size = sizeof(control_t),
    .start = control_start,
    .receive = control_receive,
    .drain = control_drain,
};

static int spawn_shards(rr_gate_t *gate, size_t *spawned) {
    int rc = RR_OK;
    for (*spawned = 0; *spawned < gate->shard_count; (*spawned)++) {
        rr__shard_t *shard = &gate->shards[*spawned];
        rr_spawn_t spec = {.behavior = &rr__shard_behavior,
                           .arg = &shard,
                           .arg_size = sizeof(shard),
                           .name = shard->name,
                           .executor = rr_loop_executor(shard->loop),
                           .leased = gate->options.leased};
        rc = rr_system_spawn(gate->system, &spec, &shard->addr);
        if (rc != RR_OK)
            break;
    }
    return rc;
}

int rr_gate_start(rr_gate_t *gate) {
    size_t spawned;
    rr_spawn_t spec = {.behavior = &control_behavior,
                       .arg = &gate,
                       .arg_size = sizeof(gate),
                       .name = gate->options.name,
                       .executor = rr_loop_executor(gate->shards[0].loop),
                       .leased = gate->options.leased};
    int rc = spawn_shards(gate, &spawned);
    if (rc == RR_OK)
        rc = rr_metrics_add(gate->system, collect, gate);
    if (rc != RR_OK)
        goto fail;
    rc = rr_system_spawn(gate->system, &spec, &gate->control);
    if (rc == RR_OK)
        return RR_OK;
    rr_metrics_remove(gate->system, collect, gate);
fail:
    while (spawned-- > 0)
        rr_kill(gate->system, gate->shards[spawned].addr, rc);
    return rc;
}

/* ---- Latches ---- */

rr__latch_t *rr__latch_new(unsigned count) {
    rr__latch_t *latch = calloc(1, sizeof(*latch));
    if (!latch)
        return NULL;
    pthread_mutex_init(&latch->lock, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&latch->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    latch->count = count;
    latch->users = count + 1;
    return latch;
}

void rr__latch_drop(rr__latch_t *latch, unsigned users) {
    pthread_mutex_lock(&latch->lock);
    bool last = (latch->users -= users) == 0;
    pthread_mutex_unlock(&latch->lock);
    if (!last)
        return;
    pthread_cond_destroy(&latch->changed);
    pthread_mutex_destroy(&latch->lock);
    free(latch);
}

void rr__latch_down(rr__latch_t *latch) {
    pthread_mutex_lock(&latch->lock);
    latch->count--;
    pthread_cond_signal(&latch->changed);
    pthread_mutex_unlock(&latch->lock);
    rr__latch_drop(latch, 1);
}

bool rr__latch_wait(rr__latch_t *latch, unsigned deadline_ms) {
    struct timespec until = rr_machine_in(deadline_ms * RR_NS_PER_MS);
    pthread_mutex_lock(&latch->lock);
    while (latch->count > 0 && pthread_cond_timedwait(&latch->changed, &latch->lock, &until) == 0)
        ;
    bool over = latch->count == 0;
    pthread_mutex_unlock(&latch->lock);
    rr__latch_drop(latch, 1);
    return over;
}

/* ---- Ending ---- */

/* Tells all shards something and waits until each has done it. */
static int tell_and_wait(rr_gate_t *gate, uint32_t type, unsigned deadline_ms) {
    rr__latch_t *latch = rr__latch_new((unsigned)gate->shard_count);
    if (!latch)
        return RR_ENOMEM;
    uint8_t body[8];
    rr_put64(body, (uint64_t)(uintptr_t)latch);
    for (size_t i = 0; i < gate->shard_count; i++)
        if (rr_system_send(gate->system, gate->shards[i].addr, type, body, sizeof(body)) != RR_OK)
            rr__latch_down(latch); /* it is gone already, or so full that waiting for it makes no sense */
    return rr__latch_wait(latch, deadline_ms) ? RR_OK : RR_TIMEOUT;
}

int rr_gate_drain(rr_gate_t *gate, unsigned deadline_ms) {
    gate->stopped = true;
    for (size_t i = 0; i < gate->port_count; i++)
        if (gate->ports[i].listener)
            rr_listener_stop(gate->ports[i].listener);
    return tell_and_wait(gate, RR_TYPE_DRAIN, deadline_ms);
}

int rr_gate_close(rr_gate_t *gate, unsigned deadline_ms) {
    int rc = tell_and_wait(gate, RR_TYPE_CLOSE_ALL, deadline_ms);
    if (rr_system_send(gate->system, gate->control, RR_TYPE_CLOSE_ALL, NULL, 0) != RR_OK)
        rr_kill(gate->system, gate->control, RR_OK);
    return rc;
}

void rr_gate_destroy(rr_gate_t *gate) {
    if (gate->control)
        rr_metrics_remove(gate->system, collect, gate);
    for (size_t i = 0; i < gate->port_count; i++) {
        rr_listener_stop(gate->ports[i].listener);
        rr_listener_destroy(gate->ports[i].listener);
    }
    for (size_t i = 0; i < gate->shard_count; i++)
        rr__shard_free(&gate->shards[i]);
    rr__gate_http_free(gate);
    rr__ips_free(gate);
    pthread_mutex_destroy(&gate->ip_lock);
    free(gate->shards);
    free(gate->ports);
    free(gate->http);
    free(gate->connections);
    free(gate->name);
    free(gate->login_name);
    free(gate->client_js);
    free(gate->editor_scene);
    free(gate->editor_script);
    free(gate->editor_token);
    free_list(gate->subprotocols);
    free(gate);
}
