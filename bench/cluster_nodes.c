/* oneway and call between two nodes of ours: each a process with a system, a loop and a mesh; with --relay a third one that
 * the two can only reach each other through. */
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "bench/cluster.h"
#include "net/mesh.h"

enum { RELAY = 1, CLIENT, SERVER };
enum { GO = 1, DATA, ACK, QUIT };

typedef struct node {
    const cluster_params_t *p;
    cluster_shared_t *shared;
    bench_run_t *out;
    unsigned id;
    rr_system_t *system;
    rr_loop_t *loop;
    rr_mesh_t *mesh;
    _Atomic(int) over; /* set by the client's actor (release), awaited by its main thread (acquire) */
} node_t;

static _Noreturn void give_up(node_t *node, const char *what, const char *why) {
    bench_fail(node->out, "node %u: %s: %s", node->id, what, why);
    _exit(1);
}

static void must(node_t *node, int rc, const char *what) {
    if (rc != RR_OK)
        give_up(node, what, rr_strerror(rc));
}

/* ---- A node ------------------------------------------------------------------------------------------------------------- */

static const rr_mesh_handler_t no_news = {0};

static void identify(rr_node_identity_t *who, unsigned id, const char *address) {
    *who = (rr_node_identity_t){.node = id, .incarnation = 1000 + id, .relay = id == RELAY};
    strcpy(who->group, "bench");
    snprintf(who->name, sizeof who->name, "node%u", id);
    snprintf(who->address, sizeof who->address, "%s", address);
}

/* With --relay only the relay listens. */
static bool listens(const node_t *node) { return node->p->relay ? node->id == RELAY : node->id == SERVER; }

static void begin(node_t *node) {
    rr_options_t options;
    rr_options_init(&options);
    options.node = node->id;
    options.core_threads = 1;
    options.log_level = RR_WARN;
    must(node, rr_system_create(&node->system, &options), "system");
    must(node, rr_loop_create(node->system, "net", &node->loop), "loop");
    rr_mesh_options_t mesh;
    rr_mesh_options_init(&mesh);
    identify(&mesh.self, node->id, "");
    mesh.listen = listens(node) ? "tcp://127.0.0.1:0" : NULL;
    mesh.key = "bench";
    mesh.key_size = 5;
    mesh.handler = &no_news;
    char why[256] = "";
    if (rr_mesh_create(node->loop, &mesh, &node->mesh, why, sizeof why) != RR_OK)
        give_up(node, "mesh", why);
    must(node, rr_system_start(node->system), "start");
    if (listens(node)) {
        snprintf(node->shared->address[node->id], sizeof node->shared->address[0], "%s", rr_mesh_address(node->mesh));
        atomic_fetch_add_explicit(&node->shared->listening, 1, memory_order_release);
    }
}

static void know(node_t *node, unsigned id, bool eager) {
    rr_node_identity_t who;
    identify(&who, id, node->shared->address[id]);
    must(node, rr_mesh_peer(node->mesh, &who, eager), "peer");
}

static void meet(node_t *node) {
    cluster_await_listeners(node->shared, 1);
    unsigned other = node->id == CLIENT ? SERVER : CLIENT;
    if (node->p->relay && node->id != RELAY)
        know(node, RELAY, true);
    if (node->id != RELAY)
        know(node, other, false);
    else
        for (unsigned id = CLIENT; id <= SERVER; id++)
            know(node, id, false);
}

static rr_executor_t *executor(const node_t *node) {
    return node->p->pinned ? rr_loop_executor(node->loop) : NULL;
}

static void end(node_t *node) {
    rr_mesh_leave(node->mesh, 2000);
    if (!rr_system_stop(node->system))
        give_up(node, "stop", "a thread hangs");
    rr_mesh_destroy(node->mesh);
    rr_system_destroy(node->system);
}

static void await_phase(node_t *node, cluster_phase_t phase) {
    while (cluster_phase(node->shared) < phase)
        bench_sleep_until_ns(bench_now_ns() + 1000000);
}

/* ---- The server's actor --------------------------------------------------------------------------------------------------- */

typedef struct server {
    node_t *node;
    uint32_t next;
    uint64_t counted;
    bool over;
} server_t;

static int server_start(rr_actor_t *self, void *state, const void *arg) {
    ((server_t *)state)->node = *(node_t *const *)arg;
    return RR_OK;
}

static void server_data(rr_actor_t *self, server_t *s, const rr_message_t *msg) {
    uint32_t number;
    memcpy(&number, rr_message_data(msg), sizeof number);
    if (number != s->next || rr_message_size(msg) != s->node->p->size)
        bench_fail(s->node->out, "message %u came when %u was due", number, s->next);
    s->next = number + 1;
    s->counted += cluster_phase(s->node->shared) == CLUSTER_MEASURE;
    if (s->next % CLUSTER_ACK == 0 && rr_send(self, rr_message_from(msg), ACK, NULL, 0) != RR_OK)
        bench_fail(s->node->out, "an acknowledgement was refused");
}

/* The client's node stays until it has heard this: an acknowledgement that came later would be refused. */
static void server_quit(rr_actor_t *self, server_t *s, const rr_message_t *msg) {
    if (s->over)
        bench_fail(s->node->out, "the end came twice");
    s->over = true;
    atomic_fetch_add(&s->node->shared->counted, s->counted);
    if (rr_send(self, rr_message_from(msg), QUIT, NULL, 0) != RR_OK || rr_send(self, rr_self(self), GO, NULL, 0) != RR_OK)
        bench_fail(s->node->out, "the answer to the end was refused");
}

static void server_receive(rr_actor_t *self, void *state, rr_message_t *msg) {
    server_t *s = state;
    if (rr_message_kind(msg) == RR_CALL)
        rr_reply(self, msg, rr_message_data(msg), rr_message_size(msg));
    else if (rr_message_type(msg) == DATA)
        server_data(self, s, msg);
    else if (rr_message_type(msg) == QUIT)
        server_quit(self, s, msg);
    else /* GO: its answer is out of its hands, and its node may leave */
        atomic_store_explicit(&s->node->over, 1, memory_order_release);
}
static const rr_behavior_t server_behavior = {
    .name = "server", .state_size = sizeof(server_t), .start = server_start, .receive = server_receive};

/* ---- The client's actors --------------------------------------------------------------------------------------------------- */

typedef struct client {
    node_t *node;
    rr_addr_t to;
    uint32_t sent, acked; /* oneway */
    uint64_t counted;
    unsigned in_flight;   /* call */
    bool ready, waiting, over;
    histogram_t *latency;
    uint8_t *body;
} client_t;

static int client_start(rr_actor_t *self, void *state, const void *arg) {
    client_t *c = state;
    c->node = *(node_t *const *)arg;
    c->to = atomic_load_explicit(&c->node->shared->target, memory_order_acquire);
    c->body = bench_alloc(c->node->p->size + sizeof(uint64_t));
    c->latency = histogram_new();
    return RR_OK;
}

static void again(rr_actor_t *self, client_t *c) {
    if (rr_send(self, rr_self(self), GO, NULL, 0) != RR_OK)
        bench_fail(c->node->out, "a message to itself was refused");
}

static void client_over(rr_actor_t *self, client_t *c) {
    int rc = rr_send(self, c->to, QUIT, NULL, 0);
    if (rc == RR_EFULL && c->sent) { /* one way, on a loop: behind a full mailbox it tries again */
        again(self, c);
        return;
    }
    c->over = true;
    if (c->latency->total)
        bench_latency(c->node->out, "call", c->latency);
    atomic_fetch_add(&c->node->shared->counted, c->counted);
    if (rc != RR_OK)
        bench_fail(c->node->out, "the last message was refused");
}

/* The end has come back: nothing of ours is on its way any more, and its node may leave. */
static bool client_is_over(client_t *c, const rr_message_t *msg) {
    if (c->over && rr_message_type(msg) == QUIT)
        atomic_store_explicit(&c->node->over, 1, memory_order_release);
    return c->over;
}

/* The way is there: the orchestrator may go on. */
static void client_ready(client_t *c) {
    if (!c->ready)
        atomic_fetch_add_explicit(&c->node->shared->ready, 1, memory_order_release);
    c->ready = true;
}

/* At most a thousand a turn, and no more than the window on their way. */
static void client_oneway(rr_actor_t *self, void *state, rr_message_t *msg) {
    client_t *c = state;
    if (client_is_over(c, msg))
        return;
    if (rr_message_type(msg) == ACK) {
        c->acked += CLUSTER_ACK;
        client_ready(c);
        if (!c->waiting)
            return;
    }
    if (cluster_phase(c->node->shared) >= CLUSTER_STOP) {
        client_over(self, c);
        return;
    }
    unsigned slice = 0;
    int rc = RR_OK;
    for (; slice < 1000 && c->sent - c->acked < CLUSTER_WINDOW; slice++, c->sent++) {
        memcpy(c->body, &c->sent, sizeof c->sent);
        rc = rr_send(self, c->to, DATA, c->body, c->node->p->size);
        if (rc != RR_OK)
            break;
    }
    if (rc != RR_OK && rc != RR_EFULL) /* full: an actor on a loop is not paused, it tries again */
        bench_fail(c->node->out, "message %u was refused: %s", c->sent, rr_strerror(rc));
    c->waiting = rc == RR_OK && slice < 1000;
    if (!c->waiting)
        again(self, c);
}

static void call_once(rr_actor_t *self, client_t *c);

static void on_answer(rr_actor_t *self, void *state, int status, rr_message_t *msg, void *context) {
    client_t *c = state;
    uint64_t sent_at;
    c->in_flight--;
    if (status != RR_OK || rr_message_size(msg) != c->node->p->size)
        bench_fail(c->node->out, "a call ended: %s", rr_strerror(status));
    cluster_phase_t phase = cluster_phase(c->node->shared);
    if (phase == CLUSTER_MEASURE && status == RR_OK) {
        memcpy(&sent_at, rr_message_data(msg), sizeof sent_at);
        histogram_record(c->latency, bench_now_ns() - sent_at);
        c->counted++;
    }
    client_ready(c);
    if (phase < CLUSTER_STOP && status == RR_OK)
        call_once(self, c);
    else if (c->in_flight == 0)
        client_over(self, c);
}

static void call_once(rr_actor_t *self, client_t *c) {
    uint64_t now = bench_now_ns();
    memcpy(c->body, &now, sizeof now);
    c->in_flight++;
    if (rr_call(self, c->to, DATA, c->body, c->node->p->size, 0, on_answer, NULL, NULL) != RR_OK)
        bench_fail(c->node->out, "a call was refused");
}

static void client_call(rr_actor_t *self, void *state, rr_message_t *msg) {
    client_t *c = state;
    if (client_is_over(c, msg))
        return;
    for (uint64_t i = 0; i < c->node->p->outstanding; i++)
        call_once(self, c);
}

static void client_finish(rr_actor_t *self, void *state, int reason) {
    client_t *c = state;
    free(c->body);
    histogram_free(c->latency);
}

static const rr_behavior_t oneway_behavior = {.name = "client",
                                              .state_size = sizeof(client_t),
                                              .start = client_start,
                                              .receive = client_oneway,
                                              .finish = client_finish};
static const rr_behavior_t call_behavior = {.name = "client",
                                            .state_size = sizeof(client_t),
                                            .start = client_start,
                                            .receive = client_call,
                                            .finish = client_finish};

/* ---- The processes ----------------------------------------------------------------------------------------------------------- */

static rr_addr_t spawn(node_t *node, const rr_behavior_t *behavior) {
    rr_addr_t addr;
    rr_spawn_t spec = {
        .behavior = behavior, .arg = &node, .arg_size = sizeof node, .executor = executor(node), .guest = node->p->guest};
    must(node, rr_system_spawn(node->system, &spec, &addr), "spawn");
    return addr;
}

static void await_over(node_t *node) {
    while (!atomic_load_explicit(&node->over, memory_order_acquire))
        bench_sleep_until_ns(bench_now_ns() + 1000000);
}

static void run_client(node_t *node, const rr_behavior_t *behavior) {
    while (!atomic_load_explicit(&node->shared->target, memory_order_acquire))
        bench_sleep_until_ns(bench_now_ns() + 1000000);
    must(node, rr_system_send(node->system, spawn(node, behavior), GO, NULL, 0), "send");
    await_over(node);
}

static void run_node(const cluster_params_t *p, unsigned id, cluster_shared_t *shared, bench_run_t *out,
                     const rr_behavior_t *behavior) {
    node_t node = {.p = p, .shared = shared, .out = out, .id = id};
    begin(&node);
    meet(&node);
    if (id == CLIENT) {
        run_client(&node, behavior);
    } else {
        if (id == SERVER)
            atomic_store_explicit(&shared->target, spawn(&node, &server_behavior), memory_order_release);
        atomic_fetch_add_explicit(&shared->ready, 1, memory_order_release);
        if (id == SERVER)
            await_over(&node);
        else
            await_phase(&node, CLUSTER_OVER);
    }
    end(&node);
}

/* Without a relay its place stays empty, and so does its CPU. */
static void node_oneway(const cluster_params_t *p, unsigned place, cluster_shared_t *shared, bench_run_t *out) {
    run_node(p, p->relay && place == 3 ? RELAY : place + 1, shared, out, &oneway_behavior);
}

static void node_call(const cluster_params_t *p, unsigned place, cluster_shared_t *shared, bench_run_t *out) {
    run_node(p, p->relay && place == 3 ? RELAY : place + 1, shared, out, &call_behavior);
}

static void execute(const cluster_params_t *p, cluster_body_t body, const char *metric, const char *unit,
                    bench_run_t *out) {
    cluster_shared_t *shared = cluster_share();
    double seconds = cluster_processes(p, p->relay ? 3 : 2, body, shared, out);
    if (seconds > 0)
        bench_metric(out, metric, unit, BENCH_HIGHER, (double)shared->counted / seconds);
    cluster_unshare(shared);
}

void cluster_oneway(const cluster_params_t *p, bench_run_t *out) { execute(p, node_oneway, "messages", "msg/s", out); }
void cluster_call(const cluster_params_t *p, bench_run_t *out) { execute(p, node_call, "calls", "call/s", out); }
