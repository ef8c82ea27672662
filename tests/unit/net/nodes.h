/* nodes.h: several nodes in one process, each a system with a loop and a mesh; real loopback sockets between them, if
 * wanted through a proxy (faults.h). For the tests of links and meshes. */
#ifndef RR_TESTS_NET_NODES_H
#define RR_TESTS_NET_NODES_H

#include <check.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "net/mesh.h"
#include "runtime/metrics.h"
#include "runtime/remote.h"

typedef struct node {
    rr_system_t *system;
    rr_loop_t *loop;
    rr_mesh_t *mesh;
    rr_node_identity_t who;
    rr_mesh_handler_t handler;
    /* Written by the node's loop, read by the test. */
    _Atomic(int) states[8];      /* how often each link state was told */
    _Atomic(int) last_state[64]; /* of each peer */
    _Atomic(uint64_t) changed_ns[64];
} node_t;

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

static void on_state(void *context, unsigned node, uint64_t incarnation, rr_link_state_t state) {
    node_t *n = context;
    (void)incarnation;
    atomic_fetch_add(&n->states[state], 1);
    atomic_store(&n->changed_ns[node], now_ns());
    atomic_store(&n->last_state[node], (int)state);
}

/* Nobody is given up for silence: a machine with much else to do is silent for seconds. */
static void node_options(rr_mesh_options_t *o) {
    rr_mesh_options_init(o);
    o->listen = "tcp://127.0.0.1:0";
    o->heartbeat_ms = 50;
    o->suspect_ms = 400;
    o->down_ms = 60000;
    o->backoff_min_ms = 2;
    o->backoff_max_ms = 20;
}

/* For tests in which silence is an end: longer than what a machine with much else to do keeps a thread waiting. */
static inline void node_options_impatient(rr_mesh_options_t *o) {
    node_options(o);
    o->down_ms = 4000;
}

/* A node with that id; o may be NULL (node_options). */
static void node_start(node_t *n, unsigned id, const rr_mesh_options_t *o) {
    rr_options_t options;
    rr_mesh_options_t mesh;
    char why[512] = "";
    memset(n, 0, sizeof *n);
    rr_options_init(&options);
    options.node = id;
    options.core_threads = 1;
    options.log_level = getenv("RR_TEST_LOG") ? RR_DEBUG : RR_FATAL;
    ck_assert_int_eq(rr_system_create(&n->system, &options), RR_OK);
    ck_assert_int_eq(rr_loop_create(n->system, "io", &n->loop), RR_OK);
    ck_assert_int_eq(rr_system_start(n->system), RR_OK);
    if (o) {
        mesh = *o;
    } else {
        node_options(&mesh);
    }
    mesh.self.node = id;
    mesh.self.incarnation = rr_system_random(n->system) | 1;
    if (!mesh.self.group[0]) {
        strcpy(mesh.self.group, "test");
    }
    snprintf(mesh.self.name, sizeof mesh.self.name, "n%u", id);
    if (!mesh.handler) {
        n->handler = (rr_mesh_handler_t){.state = on_state};
        mesh.handler = &n->handler;
        mesh.context = n;
    }
    int rc = rr_mesh_create(n->loop, &mesh, &n->mesh, why, sizeof why);
    ck_assert_msg(rc == RR_OK, "%s", why);
    n->who = mesh.self;
    snprintf(n->who.address, sizeof n->who.address, "%.255s", rr_mesh_address(n->mesh));
}

static void node_stop(node_t *n) {
    rr_system_stop(n->system);
    rr_mesh_destroy(n->mesh);
    rr_system_destroy(n->system);
    n->system = NULL;
}

/* n is told of peer, at another address if `address` is not NULL ("" = none). */
static void node_tell(node_t *n, const node_t *peer, const char *address, bool eager) {
    rr_node_identity_t who = peer->who;
    if (address) {
        snprintf(who.address, sizeof who.address, "%s", address);
    }
    ck_assert_int_eq(rr_mesh_peer(n->mesh, &who, eager), RR_OK);
}

static void pause_ms(unsigned ms) { /* between two looks at something that others change */
    struct timespec t = {ms / 1000, (long)(ms % 1000) * 1000000};
    nanosleep(&t, NULL);
}

/* Under a sanitizer everything takes several times as long. */
static uint64_t patience_ns(unsigned ms) {
    const char *sanitizer = getenv("RR_SANITIZE");
    return (sanitizer && *sanitizer ? 3 : 1) * (uint64_t)ms * 1000000;
}

/* Looks until it holds, at most `ms` or, since only what fails waits so long, twenty seconds if that is more. */
#define EVENTUALLY(ms, condition)                                                                                      \
    do {                                                                                                               \
        uint64_t until = now_ns() + patience_ns((ms) > 20000 ? (ms) : 20000);                                          \
        while (!(condition) && now_ns() < until) {                                                                     \
            pause_ms(1);                                                                                               \
        }                                                                                                              \
        ck_assert_msg(condition, "%s did not come true within %u ms", #condition, (unsigned)(ms));                     \
    } while (0)

static rr_link_info_t node_link(node_t *n, unsigned peer) {
    rr_link_info_t info[64];
    size_t count = rr_mesh_list(n->mesh, info, 64);
    for (size_t i = 0; i < count && i < 64; i++) {
        if (info[i].peer.node == peer) {
            return info[i];
        }
    }
    return (rr_link_info_t){.state = RR_LINK_IDLE};
}

/* ---- An actor that checks numbered messages ---- */

/* A message: who sent it and its number, then bytes that follow from these. */
typedef struct numbered {
    uint32_t sender, number;
} numbered_t;

#define SENDERS 64
typedef struct sink {
    _Atomic(uint64_t) received, wrong; /* the sink's turn writes, the test reads */
    uint32_t next[SENDERS];            /* the sink's turn only */
    /* Calls are answered with their payload, unless this is set. */
    _Atomic(int) mute;
    _Atomic(int) slow_us;
} sink_t;

static uint8_t filler(const numbered_t *n, size_t i) {
    return (uint8_t)(n->sender * 31 + n->number * 7 + i);
}

static void fill(void *out, size_t size, uint32_t sender, uint32_t number) {
    numbered_t n = {sender, number};
    memcpy(out, &n, sizeof n);
    for (size_t i = sizeof n; i < size; i++) {
        ((uint8_t *)out)[i] = filler(&n, i);
    }
}

static bool is_right(sink_t *sink, const uint8_t *data, size_t size) {
    numbered_t n;
    if (size < sizeof n) {
        return false;
    }
    memcpy(&n, data, sizeof n);
    if (n.sender >= SENDERS || n.number != sink->next[n.sender]) {
        fprintf(stderr, "sender %u: number %u instead of %u\n", n.sender, n.number,
                n.sender < SENDERS ? sink->next[n.sender] : 0);
        if (n.sender < SENDERS) {
            sink->next[n.sender] = n.number + 1; /* said once */
        }
        return false;
    }
    sink->next[n.sender]++;
    for (size_t i = sizeof n; i < size; i++) {
        if (data[i] != filler(&n, i)) {
            return false;
        }
    }
    return true;
}

static int sink_start(rr_actor_t *self, void *state, const void *arg) {
    (void)self;
    *(sink_t **)state = *(sink_t *const *)arg;
    return RR_OK;
}

static void sink_receive(rr_actor_t *self, void *state, rr_message_t *msg) {
    sink_t *sink = *(sink_t **)state;
    if (rr_message_kind(msg) == RR_CALL) {
        if (atomic_load(&sink->mute)) {
            rr_message_take(self, msg);
        } else {
            rr_reply(self, msg, rr_message_data(msg), rr_message_size(msg));
        }
        return;
    }
    int slow = atomic_load(&sink->slow_us);
    if (slow) {
        struct timespec t = {0, slow * 1000L};
        nanosleep(&t, NULL);
    }
    if (!is_right(sink, rr_message_data(msg), rr_message_size(msg))) {
        atomic_fetch_add(&sink->wrong, 1);
    }
    atomic_fetch_add(&sink->received, 1);
}

static const rr_behavior_t sink_behavior = {
    .name = "sink", .state_size = sizeof(sink_t *), .start = sink_start, .receive = sink_receive};

static rr_addr_t sink_spawn(node_t *n, sink_t *sink, uint32_t mailbox) {
    rr_addr_t addr;
    rr_spawn_t spec = {.behavior = &sink_behavior, .arg = &sink, .arg_size = sizeof sink, .mailbox_messages = mailbox};
    ck_assert_int_eq(rr_system_spawn(n->system, &spec, &addr), RR_OK);
    return addr;
}

/* ---- An actor that sends them ---- */

typedef struct source {
    rr_addr_t to;
    uint32_t sender, size;
    _Atomic(uint32_t) count; /* the test writes, its turn reads; UINT32_MAX: until it is told 0 */
    uint32_t burst;         /* a turn */
    unsigned pause_us;      /* between turns */
    _Atomic(uint32_t) sent; /* its turn writes, the test reads */
    _Atomic(uint32_t) refused;
} source_t;

static int source_start(rr_actor_t *self, void *state, const void *arg) {
    *(source_t **)state = *(source_t *const *)arg;
    return rr_send(self, rr_self(self), 0, NULL, 0);
}

static void source_receive(rr_actor_t *self, void *state, rr_message_t *msg) {
    source_t *s = *(source_t **)state;
    (void)msg;
    uint32_t sent = atomic_load(&s->sent);
    uint8_t *data = malloc(s->size);
    for (uint32_t i = 0; i < s->burst && sent < s->count; i++) {
        fill(data, s->size, s->sender, sent);
        int rc = rr_send(self, s->to, 7, data, s->size);
        if (rc != RR_OK) { /* full: the same number again, later */
            atomic_fetch_add(&s->refused, 1);
            break;
        }
        sent++;
    }
    free(data);
    atomic_store(&s->sent, sent);
    if (sent < s->count) {
        uint64_t id;
        int rc = s->pause_us >= 1000 ? rr_timer_start(self, s->pause_us / 1000, 0, 0, &id)
                                     : rr_send(self, rr_self(self), 0, NULL, 0);
        ck_assert_int_eq(rc, RR_OK);
    }
}

static const rr_behavior_t source_behavior = {
    .name = "source", .state_size = sizeof(source_t *), .start = source_start, .receive = source_receive};

static rr_addr_t source_spawn(node_t *n, source_t *source) {
    rr_addr_t addr;
    rr_spawn_t spec = {.behavior = &source_behavior, .arg = &source, .arg_size = sizeof source};
    ck_assert_int_eq(rr_system_spawn(n->system, &spec, &addr), RR_OK);
    return addr;
}

#endif
