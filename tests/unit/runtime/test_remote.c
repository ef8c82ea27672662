/* Two systems, each with a proxy that hands what it gets to the other: everything between actors works across nodes. */
#include "runtime/remote.h"
#include "tests/unit/runtime/rig.h"

static rr_system_t *nodes[3]; /* [1], [2] */
static _Atomic(bool) cut;     /* proxies swallow everything */
static latch_t done = LATCH_INIT, rooms = LATCH_INIT;
static _Atomic(int) status;
static _Atomic(uint64_t) seen_from;

/* ---- The carrier -------------------------------------------------------------------------------------------------- */

typedef struct proxy {
    unsigned to;
} proxy_t;

static int proxy_start(rr_actor_t *self, void *state, const void *arg) {
    ((proxy_t *)state)->to = *(const unsigned *)arg;
    return RR_OK;
}

static void proxy_receive(rr_actor_t *self, void *state, rr_message_t *msg) {
    proxy_t *my = state;
    rr_envelope_t env;
    if (!rr_envelope_of(self, msg, &env) || cut)
        return;
    MUST(rr_addr_node(env.to) == my->to);
    rr_system_t *there = nodes[my->to];
    int rc = rr_remote_deliver(there, &env, NULL);
    if (rc != RR_OK)
        rr_envelope_refuse(there, &env, rc);
}
static const rr_behavior_t proxy = {
    .name = "proxy", .state_size = sizeof(proxy_t), .start = proxy_start, .receive = proxy_receive, .proxy = true};

static rr_addr_t proxies[3];

static rr_system_t *start_node(unsigned node) {
    rr_options_t options;
    rig_options(&options, 2);
    options.node = node;
    rr_system_t *system = NULL;
    ck_assert_int_eq(rr_system_create(&system, &options), RR_OK);
    ck_assert_int_eq(rr_system_start(system), RR_OK);
    return system;
}

static void begin(void) {
#ifndef NDEBUG
    rig_live = rr__alloc_live();
#endif
    for (unsigned node = 1; node <= 2; node++)
        nodes[node] = start_node(node);
    for (unsigned node = 1; node <= 2; node++) {
        unsigned to = 3 - node;
        rr_spawn_t spec = {
            .behavior = &proxy, .arg = &to, .arg_size = sizeof to, .policy = RR_POLICY_PAUSE_SOURCE};
        proxies[node] = rig_spawn(nodes[node], &spec);
        ck_assert_int_eq(rr_route_set(nodes[node], to, proxies[node]), RR_OK);
    }
}

static void end(void) {
    for (unsigned node = 1; node <= 2; node++)
        rr_system_stop(nodes[node]);
    for (unsigned node = 1; node <= 2; node++)
        rr_system_destroy(nodes[node]);
#ifndef NDEBUG
    ck_assert_int_eq(rr__alloc_live() - rig_live, 0);
#endif
}

/* ---- Actors ------------------------------------------------------------------------------------------------------- */

enum { SUM = 1, BAD, SILENT, QUIT, CALL, MONITOR, LINK, FLOOD, CALL_SILENT, HOLD };

typedef struct server {
    uint32_t next;
} server_t;
static latch_t held = LATCH_INIT, release = LATCH_INIT;

static void server_receive(rr_actor_t *self, void *state, rr_message_t *msg) {
    server_t *my = state;
    switch (rr_message_type(msg)) {
    case SUM: {
        uint32_t n;
        memcpy(&n, rr_message_data(msg), sizeof n);
        if (rr_message_kind(msg) == RR_CALL) {
            n++;
            rr_reply(self, msg, &n, sizeof n);
            return;
        }
        MUST(n == my->next++); /* in order, nothing twice */
        latch_add(&done, 1);
        return;
    }
    case BAD:
        rr_reply_error(self, msg, RR_EHANDLER, "no");
        return;
    case SILENT:
        rr_message_take(self, msg);
        return;
    case HOLD:
        latch_add(&held, 1);
        latch_hold(&release, 1);
        return;
    default:
        rr_exit(self, RR_EPROTO);
    }
}
static const rr_behavior_t server = {.name = "server", .state_size = sizeof(server_t), .receive = server_receive};

static void on_reply(rr_actor_t *self, void *state, int code, rr_message_t *msg, void *context) {
    status = code;
    if (code == RR_OK) {
        uint32_t n;
        memcpy(&n, rr_message_data(msg), sizeof n);
        MUST(n == 42);
    }
    latch_add(&done, 1);
}

static void client_receive(rr_actor_t *self, void *state, rr_message_t *msg) {
    if (rr_message_kind(msg) == RR_DOWN || rr_message_kind(msg) == RR_EXIT) {
        status = (int)rr_message_type(msg);
        seen_from = rr_message_from(msg);
        latch_add(&done, 1);
        return;
    }
    rr_addr_t target;
    memcpy(&target, rr_message_data(msg), sizeof target);
    uint32_t n = 41;
    switch (rr_message_type(msg)) {
    case CALL:
        MUST(rr_call(self, target, SUM, &n, sizeof n, 0, on_reply, NULL, NULL) == RR_OK);
        break;
    case BAD:
    case CALL_SILENT:
        MUST(rr_call(self, target, rr_message_type(msg) == BAD ? BAD : SILENT, &n, sizeof n, 60000, on_reply, NULL,
                     NULL) == RR_OK);
        break;
    case MONITOR:
        MUST(rr_monitor(self, target, NULL) == RR_OK);
        break;
    case LINK:
        rr_trap_exits(self, true);
        MUST(rr_link(self, target) == RR_OK);
        break;
    case FLOOD:
        for (n = 0; n < 1000; n++)
            MUST(rr_send(self, target, SUM, &n, sizeof n) == RR_OK);
        break;
    }
}
static const rr_behavior_t client = {.name = "client", .receive = client_receive};

static void ask(rr_addr_t who, uint32_t what, rr_addr_t target) {
    ck_assert_int_eq(rr_system_send(nodes[rr_addr_node(who)], who, what, &target, sizeof target), RR_OK);
}

static uint64_t waited;
static void wait_done(unsigned n) {
    waited += n;
    latch_wait(&done, waited);
}

/* ---- Tests -------------------------------------------------------------------------------------------------------- */

START_TEST(calls_and_order) {
    begin();
    rr_addr_t s = rig_spawn_behavior(nodes[2], &server), c = rig_spawn_behavior(nodes[1], &client);
    ask(c, CALL, s);
    wait_done(1);
    ck_assert_int_eq(status, RR_OK);
    ask(c, BAD, s);
    wait_done(1);
    ck_assert_int_eq(status, RR_EHANDLER);
    ask(c, FLOOD, s);
    wait_done(1000);
    end();
}
END_TEST

START_TEST(ends_are_told) {
    begin();
    rr_addr_t c = rig_spawn_behavior(nodes[1], &client), s = rig_spawn_behavior(nodes[2], &server);
    ask(c, MONITOR, s);
    ask(c, CALL, s); /* behind it in the same order: the monitor is there */
    wait_done(1);
    rig_send(nodes[2], s, QUIT);
    wait_done(1);
    ck_assert_int_eq(status, RR_EPROTO);
    ck_assert_uint_eq(seen_from, s);
    ask(c, MONITOR, s); /* gone already */
    wait_done(1);
    ck_assert_int_eq(status, RR_NOROUTE);
    ask(c, CALL, s);
    wait_done(1);
    ck_assert_int_eq(status, RR_NOROUTE);
    ask(c, CALL, rig_addr(7, 1, 1)); /* a node that nobody knows */
    wait_done(1);
    ck_assert_int_eq(status, RR_NOROUTE);
    rr_addr_t linked = rig_spawn_behavior(nodes[2], &server);
    ask(c, LINK, linked);
    ask(c, CALL, linked);
    wait_done(1);
    rig_send(nodes[2], linked, QUIT);
    wait_done(1);
    ck_assert_int_eq(status, RR_EPROTO);
    ck_assert_uint_eq(seen_from, linked);
    end();
}
END_TEST

START_TEST(a_node_goes_down) {
    begin();
    rr_addr_t s = rig_spawn_behavior(nodes[2], &server);
    enum { CLIENTS = 3 };
    rr_addr_t c[CLIENTS];
    for (int i = 0; i < CLIENTS; i++)
        c[i] = rig_spawn_behavior(nodes[1], &client);
    ask(c[0], MONITOR, s);
    ask(c[1], CALL_SILENT, s);
    ask(c[2], LINK, s);
    for (int i = 0; i < CLIENTS; i++) {
        ask(c[i], CALL, s); /* answered: what was sent before has arrived */
        wait_done(1);
        ck_assert_int_eq(status, RR_OK);
    }
    cut = true;
    ck_assert_int_eq(rr_route_set(nodes[1], 2, RR_NOBODY), RR_OK);
    rr_node_down(nodes[1], 2);
    wait_done(CLIENTS);
    ck_assert_int_eq(status, RR_LINKDOWN);
    ask(c[1], CALL, s);
    wait_done(1);
    ck_assert_int_eq(status, RR_NOROUTE);
    end();
}
END_TEST

START_TEST(a_paused_actor_refuses_here) {
    begin();
    rr_addr_t s = rig_spawn_behavior(nodes[2], &server), c = rig_spawn_behavior(nodes[1], &client);
    uint32_t n = 0;
    ck_assert_int_eq(rr_remote_pause(nodes[1], s, true), RR_OK);
    ck_assert_int_eq(rr_system_send(nodes[1], s, SUM, &n, sizeof n), RR_EFULL);
    ask(c, CALL, s);
    wait_done(1);
    ck_assert_int_eq(status, RR_OVERLOAD);
    ck_assert_int_eq(rr_remote_pause(nodes[1], s, false), RR_OK);
    ask(c, CALL, s);
    wait_done(1);
    ck_assert_int_eq(status, RR_OK);
    ck_assert_int_eq(rr_remote_pause(nodes[1], s, true), RR_OK);
    rr_remote_pauses_forget(nodes[1], 2);
    ck_assert_int_eq(rr_system_send(nodes[1], s, SUM, &n, sizeof n), RR_OK);
    wait_done(1);
    end();
}
END_TEST

static void room_receive(rr_actor_t *self, void *state, rr_message_t *msg) {
    MUST(rr_message_type(msg) == RR_TYPE_ROOM);
    seen_from = rr_message_from(msg);
    latch_add(&rooms, 1);
}
static const rr_behavior_t waiter = {.name = "waiter", .receive = room_receive};

START_TEST(room_is_told) {
    begin();
    rr_spawn_t spec = {.behavior = &server, .mailbox_messages = 10};
    rr_addr_t s = rig_spawn(nodes[2], &spec), w = rig_spawn_behavior(nodes[2], &waiter);
    rig_send(nodes[2], s, HOLD);
    latch_wait(&held, 1);
    int rc = RR_OK, delivered = 0, first_filling = 0;
    bool filling = false;
    rr_envelope_t env = {.to = s, .from = rig_addr(1, 1, 1), .type = SUM, .size = 4, .weight = 1};
    for (uint32_t n = 0; rc == RR_OK; n++) {
        env.data = &n;
        rc = rr_remote_deliver(nodes[2], &env, &filling);
        delivered += rc == RR_OK;
        if (rc == RR_OK && !first_filling && filling)
            first_filling = delivered;
    }
    ck_assert_int_eq(rc, RR_EFULL);
    /* HOLD counts, and the first turn itself if both fell into one. */
    ck_assert(delivered == 9 || delivered == 8);
    ck_assert_int_eq(first_filling, delivered - 5);
    ck_assert_int_eq(rr_wait_room(nodes[2], s, w), RR_OK);
    ck_assert_uint_eq(latch_count(&rooms), 0);
    latch_add(&release, 1);
    latch_wait(&rooms, 1);
    ck_assert_uint_eq(seen_from, s);
    env.to = rig_addr(3, 1, 1);
    ck_assert_int_eq(rr_remote_deliver(nodes[2], &env, NULL), RR_EPROTO); /* not ours */
    env.to = s;
    env.from = w;
    ck_assert_int_eq(rr_remote_deliver(nodes[2], &env, NULL), RR_EPROTO); /* nobody speaks for us */
    env.from = rig_addr(1, 1, 1);
    env.kind = RR_TIMER;
    ck_assert_int_eq(rr_remote_deliver(nodes[2], &env, NULL), RR_EPROTO);
    end();
}
END_TEST

/* ---- Names and leases ---------------------------------------------------------------------------------------------- */

static struct {
    pthread_mutex_t lock;
    rr_name_event_t last;
} names = {.lock = PTHREAD_MUTEX_INITIALIZER};
static latch_t events = LATCH_INIT, started = LATCH_INIT, handled = LATCH_INIT, finished = LATCH_INIT;

static void agent_receive(rr_actor_t *self, void *state, rr_message_t *msg) {
    MUST(rr_message_type(msg) == RR_TYPE_NAME && rr_message_size(msg) == sizeof names.last);
    pthread_mutex_lock(&names.lock);
    memcpy(&names.last, rr_message_data(msg), sizeof names.last);
    pthread_mutex_unlock(&names.lock);
    latch_add(&events, 1);
}
static const rr_behavior_t agent = {.name = "agent", .receive = agent_receive};

static int owner_start(rr_actor_t *self, void *state, const void *arg) {
    MUST(rr_epoch(self) == 7);
    latch_add(&started, 1);
    return RR_OK;
}
static void owner_receive(rr_actor_t *self, void *state, rr_message_t *msg) { ++*(unsigned *)state; }
/* Told at the turn's end: what is sent from then on needs another turn. */
static void owner_turn_end(rr_actor_t *self, void *state) {
    latch_add(&handled, *(unsigned *)state);
    *(unsigned *)state = 0;
}
static void owner_finish(rr_actor_t *self, void *state, int reason) {
    status = reason;
    latch_add(&finished, 1);
}
static const rr_behavior_t owner = {
    .name = "owner", .state_size = sizeof(unsigned), .start = owner_start, .receive = owner_receive,
    .turn_end = owner_turn_end, .finish = owner_finish};

START_TEST(names_of_others) {
    begin();
    rr_addr_t there = rig_addr(2, 5, 1), later = rig_addr(2, 6, 1);
    ck_assert_uint_eq(rr_lookup(nodes[1], "scene@0"), RR_NOBODY);
    ck_assert_int_eq(rr_remote_name_set(nodes[1], "scene@0", there), RR_OK);
    ck_assert_uint_eq(rr_lookup(nodes[1], "scene@0"), there);
    ck_assert_int_eq(rr_remote_name_set(nodes[1], "scene@0", later), RR_OK);
    rr_remote_name_drop(nodes[1], "scene@0", there); /* it is another one's now */
    ck_assert_uint_eq(rr_lookup(nodes[1], "scene@0"), later);
    rr_spawn_t spec = {.behavior = &client, .name = "scene@0"};
    rr_addr_t own = rig_spawn(nodes[1], &spec);
    ck_assert_uint_eq(rr_lookup(nodes[1], "scene@0"), own);
    rr_remote_names_forget(nodes[1], 2);
    rr_kill(nodes[1], own, RR_OK);
    for (int i = 0; rr_lookup(nodes[1], "scene@0") != RR_NOBODY; i++)
        ck_assert_int_lt(i, 100000000);
    ck_assert_int_eq(rr_remote_name_set(nodes[1], "not legal", there), RR_EINVAL);
    end();
}
END_TEST

static rr_addr_t spawn_owner(void) {
    rr_spawn_t spec = {.behavior = &owner, .name = "scene@0", .leased = true};
    return rig_spawn(nodes[1], &spec);
}

/* The control lane of an actor is handled in order: after this its suspension has been looked at anew. */
static bool suspended(void) {
    for (int i = 0; i < RIG_PATIENCE_S * 1000; i++) {
        struct timespec pause = {0, 1000000};
        if (rr_lease_suspended(nodes[1]) == 1)
            return true;
        nanosleep(&pause, NULL);
    }
    return false;
}

START_TEST(no_turn_without_a_lease) {
    begin();
    rr_addr_t a = rig_spawn_behavior(nodes[1], &agent);
    ck_assert_int_eq(rr_system_watch_names(nodes[1], a), RR_OK);
    rr_addr_t o = spawn_owner();
    latch_wait(&events, 1);
    ck_assert_str_eq(names.last.name, "scene@0");
    ck_assert_uint_eq(names.last.addr, o);
    ck_assert_uint_eq(names.last.registered, 1);
    rig_send(nodes[1], o, 1);
    ck_assert(suspended());
    ck_assert_uint_eq(latch_count(&started), 0);
    rr_lease_set(nodes[1], UINT64_MAX); /* not granted yet */
    ck_assert(suspended());
    ck_assert_uint_eq(latch_count(&started), 0);
    ck_assert(rr_lease_grant(nodes[1], o, 7));
    latch_wait(&started, 1);
    latch_wait(&handled, 1);
    rr_lease_set(nodes[1], rr_system_boot_ns(nodes[1])); /* over */
    rig_send(nodes[1], o, 1);
    ck_assert(suspended());
    ck_assert_uint_eq(latch_count(&handled), 1);
    rr_lease_set(nodes[1], rr_system_boot_ns(nodes[1]) + 3600ull * 1000000000);
    latch_wait(&handled, 2);
    rr_lease_set(nodes[1], 0);
    rig_send(nodes[1], o, 1);
    ck_assert(suspended());
    rr_kill(nodes[1], o, RR_STALE); /* is heard all the same */
    latch_wait(&finished, 1);
    ck_assert_int_eq(status, RR_STALE);
    latch_wait(&events, 2);
    ck_assert_uint_eq(names.last.registered, 0);
    ck_assert_uint_eq(latch_count(&handled), 2);
    end();
}
END_TEST

START_TEST(a_refused_owner_never_starts) {
    begin();
    rr_addr_t o = spawn_owner(), c = rig_spawn_behavior(nodes[1], &client);
    rr_addr_t s = rig_spawn_behavior(nodes[2], &server);
    ask(c, CALL, o);
    ask(c, CALL, s);
    wait_done(1); /* so the first call is where it shall be */
    ck_assert_int_eq(status, RR_OK);
    ck_assert(suspended());
    rr_kill(nodes[1], o, RR_STALE);
    wait_done(1);
    ck_assert_int_eq(status, RR_STALE); /* surely not executed */
    ck_assert_uint_eq(latch_count(&started), 0);
    ck_assert_uint_eq(latch_count(&finished), 0);
    end();
}
END_TEST

START_TEST(a_drain_does_not_wait_for_a_lease) {
    begin();
    spawn_owner();
    ck_assert(suspended());
    ck_assert_int_eq(rr_system_drain(nodes[1], 5000), RR_OK);
    ck_assert_uint_eq(rr_system_actor_count(nodes[1]), 0);
    end();
}
END_TEST

/* The way to node 3, which also watches an actor here itself, before somebody there does. */
static int porter_start(rr_actor_t *self, void *state, const void *arg) {
    rr_addr_t target;
    memcpy(&target, arg, sizeof target);
    MUST(rr_monitor(self, target, NULL) == RR_OK);
    rr_envelope_t env = {.to = target, .from = rig_addr(3, 1, 1), .request = 1, .weight = 1, .kind = RR_KIND_MONITOR};
    MUST(rr_remote_deliver(rr_system_of(self), &env, NULL) == RR_OK);
    latch_add(&held, 1);
    return RR_OK;
}

static void porter_receive(rr_actor_t *self, void *state, rr_message_t *msg) {
    rr_envelope_t env;
    bool there = rr_envelope_of(self, msg, &env);
    MUST((there ? env.kind : rr_message_kind(msg)) == RR_DOWN);
    MUST(latch_count(&done) == (there ? 0 : 1));
    latch_add(&done, 1);
}
static const rr_behavior_t porter = {.name = "porter", .start = porter_start, .receive = porter_receive, .proxy = true};

/* Who waits here for an actor's end before its node leaves can be sure that others have been told: it comes behind. */
START_TEST(other_nodes_are_told_first) {
    begin();
    rr_addr_t s = rig_spawn_behavior(nodes[1], &server);
    rr_spawn_t spec = {.behavior = &porter, .arg = &s, .arg_size = sizeof s};
    ck_assert_int_eq(rr_route_set(nodes[1], 3, rig_spawn(nodes[1], &spec)), RR_OK);
    latch_wait(&held, 1);
    rig_send(nodes[1], s, QUIT);
    wait_done(2);
    end();
}
END_TEST

CHECK_MAIN("remote", calls_and_order, ends_are_told, other_nodes_are_told_first, a_node_goes_down, a_paused_actor_refuses_here, room_is_told,
           names_of_others, no_turn_without_a_lease, a_refused_owner_never_starts, a_drain_does_not_wait_for_a_lease)
