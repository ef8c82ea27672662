/* Links between nodes of one process over real sockets: messages, calls, monitors, big messages, fullness. */
#include "nodes.h"
#include "support.h"

typedef struct pair {
    node_t a, b;
} pair_t;

static void pair_start(pair_t *p, const rr_mesh_options_t *o) {
    node_start(&p->a, 1, o);
    node_start(&p->b, 2, o);
    node_tell(&p->a, &p->b, NULL, false);
    node_tell(&p->b, &p->a, NULL, false);
}

static void pair_stop(pair_t *p) {
    node_stop(&p->a);
    node_stop(&p->b);
}

START_TEST(messages_arrive_in_order_once) {
    pair_t p;
    sink_t sink = {0};
    pair_start(&p, NULL);
    source_t sources[4];
    memset(sources, 0, sizeof sources);
    rr_addr_t to = sink_spawn(&p.b, &sink, 1u << 20);
    static const uint32_t sizes[] = {8, 64, 1000, 20000}, counts[] = {50000, 50000, 20000, 500};
    uint64_t total = 0;
    for (uint32_t i = 0; i < 4; i++) {
        sources[i] = (source_t){.to = to, .sender = i, .count = counts[i], .size = sizes[i], .burst = 100};
        source_spawn(&p.a, &sources[i]);
        total += counts[i];
    }
    EVENTUALLY(30000, atomic_load(&sink.received) == total);
    ck_assert_uint_eq(atomic_load(&sink.wrong), 0);
    ck_assert_int_eq(node_link(&p.a, 2).state, RR_LINK_UP);
    ck_assert_int_eq(node_link(&p.b, 1).state, RR_LINK_UP);
    EVENTUALLY(2000, node_link(&p.a, 2).unacked_bytes == 0);
    pair_stop(&p);
}
END_TEST

/* Hundreds in one turn of each: they leave in segments of their own, beside small ones. */
START_TEST(larger_ones_of_long_turns_arrive_in_order) {
    pair_t p;
    sink_t sink = {0};
    pair_start(&p, NULL);
    source_t sources[4];
    memset(sources, 0, sizeof sources);
    rr_addr_t to = sink_spawn(&p.b, &sink, 1u << 20);
    static const uint32_t sizes[] = {300, 1000, 1900, 40};
    for (uint32_t i = 0; i < 4; i++) {
        sources[i] = (source_t){.to = to, .sender = i, .count = 10000, .size = sizes[i], .burst = 700};
        source_spawn(&p.a, &sources[i]);
    }
    EVENTUALLY(30000, atomic_load(&sink.received) == 40000);
    ck_assert_uint_eq(atomic_load(&sink.wrong), 0);
    EVENTUALLY(2000, node_link(&p.a, 2).unacked_bytes == 0);
    pair_stop(&p);
}
END_TEST

START_TEST(both_sides_may_begin) {
    pair_t p;
    sink_t sinks[2] = {0};
    pair_start(&p, NULL);
    source_t to_b = {.to = sink_spawn(&p.b, &sinks[0], 0), .sender = 1, .count = 2000, .size = 64, .burst = 10};
    source_t to_a = {.to = sink_spawn(&p.a, &sinks[1], 0), .sender = 2, .count = 2000, .size = 64, .burst = 10};
    source_spawn(&p.a, &to_b);
    source_spawn(&p.b, &to_a);
    EVENTUALLY(10000, atomic_load(&sinks[0].received) == 2000 && atomic_load(&sinks[1].received) == 2000);
    ck_assert_uint_eq(atomic_load(&sinks[0].wrong) + atomic_load(&sinks[1].wrong), 0);
    pair_stop(&p);
}
END_TEST

/* ---- Calls and monitors ---- */

typedef struct caller {
    rr_addr_t to;
    unsigned count, timeout_ms;
    bool monitor;
    _Atomic(int) answered, failed, status, down, down_reason; /* its turn writes, the test reads */
} caller_t;

static void on_reply(rr_actor_t *self, void *state, int status, rr_message_t *msg, void *context) {
    caller_t *c = *(caller_t **)state;
    (void)self;
    uintptr_t number = (uintptr_t)context;
    bool right = status == RR_OK && rr_message_size(msg) == sizeof number &&
                 !memcmp(rr_message_data(msg), &number, sizeof number);
    atomic_store(&c->status, status);
    atomic_fetch_add(right ? &c->answered : &c->failed, 1);
}

static int caller_start(rr_actor_t *self, void *state, const void *arg) {
    caller_t *c = *(caller_t **)state = *(caller_t *const *)arg;
    uint64_t id;
    if (c->monitor) { /* first: who has had an answer knows that it is there */
        ck_assert_int_eq(rr_monitor(self, c->to, &id), RR_OK);
    }
    for (uintptr_t i = 0; i < c->count; i++) {
        int rc = rr_call(self, c->to, 3, &i, sizeof i, c->timeout_ms, on_reply, (void *)i, NULL);
        ck_assert_int_eq(rc, RR_OK);
    }
    return RR_OK;
}

static void caller_receive(rr_actor_t *self, void *state, rr_message_t *msg) {
    caller_t *c = *(caller_t **)state;
    (void)self;
    if (rr_message_kind(msg) == RR_DOWN) {
        atomic_store(&c->down_reason, (int)rr_message_type(msg));
        atomic_fetch_add(&c->down, 1);
    }
}

static const rr_behavior_t caller_behavior = {
    .name = "caller", .state_size = sizeof(caller_t *), .start = caller_start, .receive = caller_receive};

static void caller_spawn(node_t *n, caller_t *c) {
    rr_spawn_t spec = {.behavior = &caller_behavior, .arg = &c, .arg_size = sizeof c};
    ck_assert_int_eq(rr_system_spawn(n->system, &spec, NULL), RR_OK);
}

START_TEST(calls_are_answered) {
    pair_t p;
    sink_t sink = {0};
    pair_start(&p, NULL);
    caller_t c = {.to = sink_spawn(&p.b, &sink, 0), .count = 1000, .timeout_ms = 10000};
    caller_spawn(&p.a, &c);
    EVENTUALLY(10000, atomic_load(&c.answered) == 1000);
    ck_assert_int_eq(atomic_load(&c.failed), 0);
    pair_stop(&p);
}
END_TEST

/* ---- Answers that leave while others are made ---- */

#define ASKED 16u
#define LONG_ENOUGH_NS 20000 /* for half of them to be worth a write of their own */

typedef struct desk {
    _Atomic(int) *answered; /* the caller's */
    unsigned handled;       /* its turn only */
    _Atomic(int) in_time;   /* its turn writes, the test reads: an answer was there before the last one was made; -1 = not */
} desk_t;

static void desk_receive(rr_actor_t *self, void *state, rr_message_t *msg) {
    desk_t *desk = *(desk_t **)state;
    bool last = ++desk->handled == ASKED;
    uint64_t until = now_ns() + (last ? patience_ns(5000) : LONG_ENOUGH_NS);
    while (now_ns() < until && !(last && atomic_load(desk->answered))) {
    }
    if (last) {
        atomic_store(&desk->in_time, atomic_load(desk->answered) ? 1 : -1);
    }
    rr_reply(self, msg, rr_message_data(msg), rr_message_size(msg));
}

static const rr_behavior_t desk_behavior = {
    .name = "desk", .state_size = sizeof(desk_t *), .start = sink_start, .receive = desk_receive};

/* All calls are made in one turn on the link's loop, so they come in one piece. The last one is handled when an answer has
 * arrived: it could not, if all left at the end. */
START_TEST(half_of_the_answers_leave_first) {
    pair_t p;
    sink_t sink = {0};
    desk_t state = {0}, *desk = &state;
    pair_start(&p, NULL);
    caller_t first = {.to = sink_spawn(&p.b, &sink, 0), .count = 1, .timeout_ms = 10000};
    caller_spawn(&p.a, &first);
    EVENTUALLY(5000, atomic_load(&first.answered) == 1 && node_link(&p.b, 1).unacked_bytes == 0);
    caller_t c = {.count = ASKED, .timeout_ms = 20000};
    desk->answered = &c.answered;
    rr_spawn_t spec = {
        .behavior = &desk_behavior, .arg = &desk, .arg_size = sizeof desk, .executor = rr_loop_executor(p.b.loop)};
    ck_assert_int_eq(rr_system_spawn(p.b.system, &spec, &c.to), RR_OK);
    caller_t *caller = &c;
    spec = (rr_spawn_t){
        .behavior = &caller_behavior, .arg = &caller, .arg_size = sizeof caller, .executor = rr_loop_executor(p.a.loop)};
    ck_assert_int_eq(rr_system_spawn(p.a.system, &spec, NULL), RR_OK);
    EVENTUALLY(20000, atomic_load(&c.answered) == (int)ASKED);
    ck_assert_int_eq(atomic_load(&desk->in_time), 1);
    ck_assert_int_eq(atomic_load(&c.failed), 0);
    pair_stop(&p);
}
END_TEST

START_TEST(an_actor_that_is_not_there) {
    pair_t p;
    pair_start(&p, NULL);
    rr_addr_t nobody = (rr_addr_t)2 << 48 | 77 << 24 | 5;
    caller_t c = {.to = nobody, .count = 1, .timeout_ms = 10000, .monitor = true};
    caller_spawn(&p.a, &c);
    EVENTUALLY(5000, atomic_load(&c.failed) == 1 && atomic_load(&c.down) == 1);
    ck_assert_int_eq(atomic_load(&c.status), RR_NOROUTE);
    ck_assert_int_eq(atomic_load(&c.down_reason), RR_NOROUTE);
    uint64_t before = rr_system_dead_letters(p.a.system);
    ck_assert_int_eq(rr_system_send(p.a.system, nobody, 1, "x", 1), RR_OK);
    EVENTUALLY(5000, rr_system_dead_letters(p.a.system) == before + 1); /* its sender's node hears of it */
    ck_assert_uint_eq(node_link(&p.b, 1).nacks, 1);
    pair_stop(&p);
}
END_TEST

START_TEST(a_monitor_hears_of_an_end) {
    pair_t p;
    sink_t sink = {0};
    pair_start(&p, NULL);
    rr_addr_t to = sink_spawn(&p.b, &sink, 0);
    caller_t c = {.to = to, .count = 1, .timeout_ms = 10000, .monitor = true};
    caller_spawn(&p.a, &c);
    EVENTUALLY(5000, atomic_load(&c.answered) == 1);
    rr_kill(p.b.system, to, RR_EHANDLER);
    EVENTUALLY(5000, atomic_load(&c.down) == 1);
    ck_assert_int_eq(atomic_load(&c.down_reason), RR_EHANDLER);
    pair_stop(&p);
}
END_TEST

/* A node that dies without a word: calls under way and monitors end, in bounded time; what comes later has no route. */
START_TEST(a_dead_node_ends_calls_and_monitors) {
    pair_t p;
    sink_t sink = {0};
    rr_mesh_options_t o;
    node_options_impatient(&o);
    pair_start(&p, &o);
    atomic_store(&sink.mute, 1);
    rr_addr_t to = sink_spawn(&p.b, &sink, 0);
    caller_t c = {.to = to, .count = 10, .timeout_ms = 30000, .monitor = true};
    caller_spawn(&p.a, &c);
    EVENTUALLY(5000, node_link(&p.a, 2).sent_messages >= 11 && node_link(&p.a, 2).unacked_bytes == 0);
    rr_mesh_forget(p.b.mesh, 1, p.a.who.incarnation); /* refuses us from now on: as good as dead */
    EVENTUALLY(6000, atomic_load(&c.failed) == 10 && atomic_load(&c.down) == 1);
    ck_assert_int_eq(atomic_load(&c.status), RR_LINKDOWN);
    ck_assert_int_eq(atomic_load(&c.down_reason), RR_LINKDOWN);
    EVENTUALLY(1000, atomic_load(&p.a.last_state[2]) == RR_LINK_DOWN);
    caller_t late = {.to = to, .count = 1, .timeout_ms = 30000};
    caller_spawn(&p.a, &late);
    EVENTUALLY(1000, atomic_load(&late.failed) == 1);
    ck_assert_int_eq(atomic_load(&late.status), RR_NOROUTE);
    pair_stop(&p);
}
END_TEST

START_TEST(leaving_is_told_at_once) {
    pair_t p;
    sink_t sink = {0};
    pair_start(&p, NULL);
    source_t s = {.to = sink_spawn(&p.b, &sink, 0), .sender = 1, .count = 1000, .size = 64, .burst = 1000};
    source_spawn(&p.a, &s);
    EVENTUALLY(5000, atomic_load(&s.sent) == 1000);
    rr_mesh_leave(p.a.mesh, 5000);
    EVENTUALLY(5000, atomic_load(&p.b.last_state[1]) == RR_LINK_DOWN);
    EVENTUALLY(5000, atomic_load(&sink.received) == 1000);
    pair_stop(&p);
}
END_TEST

/* Sent by a thread that leaves at once: the proxy has seen none of it yet. */
START_TEST(what_was_sent_before_leaving_arrives) {
    for (unsigned round = 0; round < 10; round++) {
        pair_t p;
        sink_t sink = {0};
        uint8_t data[64];
        pair_start(&p, NULL);
        rr_addr_t to = sink_spawn(&p.b, &sink, 0);
        for (uint32_t i = 0; i < 3000; i++) {
            fill(data, sizeof data, 1, i);
            ck_assert_int_eq(rr_system_send(p.a.system, to, 7, data, sizeof data), RR_OK);
        }
        rr_mesh_leave(p.a.mesh, 5000);
        EVENTUALLY(5000, atomic_load(&sink.received) == 3000);
        ck_assert_uint_eq(atomic_load(&sink.wrong), 0);
        pair_stop(&p);
    }
}
END_TEST

START_TEST(who_leaves_acknowledges_first) {
    for (unsigned round = 0; round < 10; round++) {
        pair_t p;
        sink_t sink = {0};
        uint8_t data[64];
        pair_start(&p, NULL);
        rr_addr_t to = sink_spawn(&p.b, &sink, 0);
        fill(data, sizeof data, 1, 0);
        ck_assert_int_eq(rr_system_send(p.a.system, to, 7, data, sizeof data), RR_OK);
        uint64_t until = now_ns() + patience_ns(20000);
        while (!atomic_load(&sink.received) && now_ns() < until) { /* no pause: within the acknowledgement's delay */
        }
        rr_mesh_leave(p.b.mesh, 5000);
        EVENTUALLY(5000, atomic_load(&p.a.last_state[2]) == RR_LINK_DOWN);
        ck_assert_uint_eq(rr_system_dead_letters(p.a.system), 0);
        pair_stop(&p);
    }
}
END_TEST

/* ---- Big messages, fullness ---- */

START_TEST(big_messages_let_others_through) {
    pair_t p;
    sink_t big_sink = {0}, small_sink = {0};
    pair_start(&p, NULL);
    rr_addr_t big_to = sink_spawn(&p.b, &big_sink, 0), small_to = sink_spawn(&p.b, &small_sink, 0);
    source_t big[6], small = {.to = small_to, .sender = 10, .count = 2000, .size = 100, .burst = 1, .pause_us = 1000};
    memset(big, 0, sizeof big);
    for (uint32_t i = 0; i < 6; i++) {
        big[i] = (source_t){.to = big_to, .sender = i, .count = 20, .size = 100000 + 100000 * i, .burst = 1};
        source_spawn(&p.a, &big[i]);
    }
    source_spawn(&p.a, &small);
    EVENTUALLY(40000, atomic_load(&big_sink.received) == 6 * 20);
    EVENTUALLY(20000, atomic_load(&small_sink.received) == 2000);
    ck_assert_uint_eq(atomic_load(&big_sink.wrong) + atomic_load(&small_sink.wrong), 0);
    pair_stop(&p);
}
END_TEST

/* One sender: big and small in turn, in order. */
typedef struct mixer {
    rr_addr_t to;
    uint32_t count;
    _Atomic(uint32_t) sent;
} mixer_t;

static int mixer_start(rr_actor_t *self, void *state, const void *arg) {
    *(mixer_t **)state = *(mixer_t *const *)arg;
    return rr_send(self, rr_self(self), 0, NULL, 0);
}

static void mixer_receive(rr_actor_t *self, void *state, rr_message_t *msg) {
    mixer_t *m = *(mixer_t **)state;
    (void)msg;
    uint32_t n = atomic_load(&m->sent);
    size_t size = n % 5 == 0 ? 70000 + n * 100 : n % 5 == 1 ? 20000 : 16 + n % 100;
    uint8_t *data = malloc(size);
    fill(data, size, 3, n);
    if (rr_send(self, m->to, 1, data, size) == RR_OK) {
        atomic_store(&m->sent, ++n);
    }
    free(data);
    if (n < m->count) {
        ck_assert_int_eq(rr_send(self, rr_self(self), 0, NULL, 0), RR_OK);
    }
}

static const rr_behavior_t mixer_behavior = {
    .name = "mixer", .state_size = sizeof(mixer_t *), .start = mixer_start, .receive = mixer_receive};

START_TEST(big_and_small_of_one_sender_keep_order) {
    pair_t p;
    sink_t sink = {0};
    pair_start(&p, NULL);
    mixer_t m = {.to = sink_spawn(&p.b, &sink, 0), .count = 3000}, *arg = &m;
    rr_spawn_t spec = {.behavior = &mixer_behavior, .arg = &arg, .arg_size = sizeof arg};
    ck_assert_int_eq(rr_system_spawn(p.a.system, &spec, NULL), RR_OK);
    EVENTUALLY(40000, atomic_load(&sink.received) == 3000);
    ck_assert_uint_eq(atomic_load(&sink.wrong), 0);
    pair_stop(&p);
}
END_TEST

/* A slow actor of the other node: its senders are told to wait, and nothing is lost, while another goes on at full
 * speed. */
START_TEST(one_full_actor_stops_nobody_else) {
    pair_t p;
    sink_t slow = {0}, fast = {0};
    pair_start(&p, NULL);
    atomic_store(&slow.slow_us, 1000);
    rr_addr_t slow_to = sink_spawn(&p.b, &slow, 4000);
    rr_loop_t *unused;
    (void)unused;
    source_t to_slow = {.to = slow_to, .sender = 1, .count = 6000, .size = 64, .burst = 50, .pause_us = 1000};
    source_spawn(&p.a, &to_slow);
    EVENTUALLY(20000, atomic_load(&to_slow.refused) > 0); /* paused: refused as by a full local actor */
    source_t to_fast = {
        .to = sink_spawn(&p.b, &fast, 0), .sender = 2, .count = 1000, .size = 64, .burst = 10, .pause_us = 1000};
    source_spawn(&p.a, &to_fast);
    atomic_store(&slow.slow_us, 100);
    EVENTUALLY(30000, atomic_load(&fast.received) == 1000);
    EVENTUALLY(30000, atomic_load(&slow.received) == 6000); /* RESUME came */
    ck_assert_uint_eq(atomic_load(&slow.wrong) + atomic_load(&fast.wrong), 0);
    ck_assert_uint_eq(rr_system_dead_letters(p.a.system), 0);
    pair_stop(&p);
}
END_TEST

START_TEST(a_message_above_the_limit_is_refused_here) {
    pair_t p;
    sink_t sink = {0};
    rr_mesh_options_t o;
    node_options(&o);
    o.max_message = 100000;
    pair_start(&p, &o);
    rr_addr_t to = sink_spawn(&p.b, &sink, 0);
    rr_buffer_t *buffer = rr_buffer_new(100001);
    memset(rr_buffer_data(buffer), 0, 100001);
    ck_assert_int_eq(rr_system_send_buffer(p.a.system, to, 1, buffer), RR_OK);
    EVENTUALLY(5000, rr_system_dead_letters(p.a.system) == 1);
    pair_stop(&p);
}
END_TEST

/* ---- Dead letters ---- */

typedef struct undertaker {
    rr_addr_t about; /* a letter that is none of its is wrong */
    _Atomic(uint64_t) noroute, overload, linkdown, wrong; /* its turn writes, the test reads */
} undertaker_t;

static int undertaker_start(rr_actor_t *self, void *state, const void *arg) {
    (void)self;
    *(undertaker_t **)state = *(undertaker_t *const *)arg;
    return RR_OK;
}

static void undertaker_receive(rr_actor_t *self, void *state, rr_message_t *msg) {
    undertaker_t *u = *(undertaker_t **)state;
    rr_dead_letter_t letter;
    (void)self;
    memcpy(&letter, rr_message_data(msg), sizeof letter);
    bool right = rr_message_type(msg) == RR_TYPE_DEAD_LETTER && letter.to == u->about && letter.kind == RR_SEND &&
                 letter.type == 7 && letter.size == 5 && letter.from == RR_NOBODY;
    atomic_fetch_add(!right                              ? &u->wrong
                     : letter.reason == RR_NOROUTE  ? &u->noroute
                     : letter.reason == RR_LINKDOWN ? &u->linkdown
                     : letter.reason == RR_OVERLOAD || letter.reason == RR_EFULL ? &u->overload
                                                                                 : &u->wrong,
                     1);
}

static const rr_behavior_t undertaker_behavior = {
    .name = "undertaker", .state_size = sizeof(undertaker_t *), .start = undertaker_start, .receive = undertaker_receive};

static void undertaker_spawn(node_t *n, undertaker_t *u) {
    rr_spawn_t spec = {.behavior = &undertaker_behavior, .arg = &u, .arg_size = sizeof u};
    rr_addr_t addr;
    ck_assert_int_eq(rr_system_spawn(n->system, &spec, &addr), RR_OK);
    ck_assert_int_eq(rr_system_watch_dead_letters(n->system, addr, 0), RR_OK);
}

/* Holds its worker until it is told to go on. */
static _Atomic(bool) hold; /* the test writes, the actor reads */
static _Atomic(uint64_t) taken;

static void holder_receive(rr_actor_t *self, void *state, rr_message_t *msg) {
    (void)self, (void)state, (void)msg;
    atomic_fetch_add(&taken, 1);
    for (int i = 0; atomic_load(&hold) && i < 20000; i++) {
        pause_ms(1);
    }
}

static const rr_behavior_t holder_behavior = {.name = "holder", .receive = holder_receive};

/* Sends to another node that cannot be delivered there are told to the sender's node, with why: nobody is there, the receiver
 * is full, the link died. Each exactly once, or it was handled. */
START_TEST(sends_that_are_not_delivered_are_told) {
    pair_t p;
    undertaker_t u = {.about = (rr_addr_t)2 << 48 | 77 << 24 | 5};
    rr_spawn_t spec = {.behavior = &holder_behavior, .mailbox_messages = 4};
    rr_mesh_options_t o;
    node_options_impatient(&o);
    pair_start(&p, &o);
    undertaker_spawn(&p.a, &u);
    ck_assert_int_eq(rr_system_send(p.a.system, u.about, 7, "12345", 5), RR_OK);
    EVENTUALLY(5000, atomic_load(&u.noroute) == 1);

    uint64_t accepted = 0;
    atomic_store(&hold, true);
    ck_assert_int_eq(rr_system_spawn(p.b.system, &spec, &u.about), RR_OK);
    for (int i = 0; i < 200; i++) {
        accepted += rr_system_send(p.a.system, u.about, 7, "12345", 5) == RR_OK; /* else refused here: it is paused */
    }
    atomic_store(&hold, false);
    EVENTUALLY(5000, atomic_load(&u.overload) + atomic_load(&taken) == accepted);

    EVENTUALLY(5000, node_link(&p.a, 2).unacked_bytes == 0);
    ck_assert_int_eq(rr_system_spawn(p.b.system, &spec, &u.about), RR_OK);
    node_stop(&p.b);
    int rc = rr_system_send(p.a.system, u.about, 7, "12345", 5); /* before or behind the news of its end */
    ck_assert_msg(rc == RR_OK || rc == RR_NOROUTE, "%s", rr_error_name(rc));
    EVENTUALLY(10000, atomic_load(&u.linkdown) + atomic_load(&u.noroute) == 2);
    ck_assert_uint_eq(atomic_load(&u.wrong), 0);
    ck_assert_uint_eq(rr_system_dead_letters(p.a.system), 2 + atomic_load(&u.overload)); /* counted as well */
    node_stop(&p.a);
}
END_TEST

START_TEST(a_drain_sends_the_last_words) {
    pair_t p;
    sink_t sink = {0};
    pair_start(&p, NULL);
    source_t s = {.to = sink_spawn(&p.b, &sink, 0), .sender = 1, .count = 20000, .size = 64, .burst = 20000};
    source_spawn(&p.a, &s);
    EVENTUALLY(5000, atomic_load(&s.sent) > 0);
    ck_assert_int_eq(rr_system_drain(p.a.system, 10000), RR_OK);
    EVENTUALLY(5000, atomic_load(&sink.received) == atomic_load(&s.sent));
    pair_stop(&p);
}
END_TEST

RUN_TESTS("link", messages_arrive_in_order_once, larger_ones_of_long_turns_arrive_in_order, both_sides_may_begin, calls_are_answered, half_of_the_answers_leave_first, an_actor_that_is_not_there,
          a_monitor_hears_of_an_end, a_dead_node_ends_calls_and_monitors, leaving_is_told_at_once,
          what_was_sent_before_leaving_arrives, who_leaves_acknowledges_first,
          big_messages_let_others_through, big_and_small_of_one_sender_keep_order, one_full_actor_stops_nobody_else,
          a_message_above_the_limit_is_refused_here, sends_that_are_not_delivered_are_told, a_drain_sends_the_last_words)
