/* Monitors and links: told once, with the reason; links end together unless trapped. */
#include "tests/unit/runtime/rig.h"

static latch_t told = LATCH_INIT, inside = LATCH_INIT, gate = LATCH_INIT, finished = LATCH_INIT;
static _Atomic(int) last_reason, finish_reason;
static _Atomic(rr_addr_t) last_from;

/* A victim ends with its message's type as negative reason. */
static void end_as_told(rr_actor_t *self, void *state, rr_message_t *msg) { rr_exit(self, -(int)rr_message_type(msg)); }
static void note_finish(rr_actor_t *self, void *state, int reason) {
    finish_reason = reason;
    latch_add(&finished, 1);
}
static const rr_behavior_t victim = {.name = "victim", .receive = end_as_told, .finish = note_finish};

enum { MONITOR, MONITOR_TWICE, MONITOR_AND_DROP, DEMONITOR_LATE, LINK, LINK_TRAP, UNLINK, END, PING, END_BADLY };

typedef struct watcher {
    uint64_t ids[2];
} watcher_t;

static rr_addr_t target_of(rr_message_t *msg) {
    rr_addr_t addr;
    memcpy(&addr, rr_message_data(msg), sizeof addr);
    return addr;
}

static void watch_receive(rr_actor_t *self, void *state, rr_message_t *msg) {
    watcher_t *my = state;
    if (rr_message_kind(msg) == RR_DOWN || rr_message_kind(msg) == RR_EXIT) {
        MUST((rr_message_kind(msg) == RR_EXIT) == (rr_message_request(msg) == 0));
        MUST(rr_message_kind(msg) == RR_EXIT || rr_message_request(msg) == my->ids[0] ||
             rr_message_request(msg) == my->ids[1]);
        last_reason = (int)rr_message_type(msg);
        last_from = rr_message_from(msg);
        latch_add(&told, 1);
        return;
    }
    switch (rr_message_type(msg)) {
    case MONITOR_TWICE:
        MUST(rr_monitor(self, target_of(msg), &my->ids[1]) == RR_OK);
        /* fall through */
    case MONITOR:
        MUST(rr_monitor(self, target_of(msg), &my->ids[0]) == RR_OK);
        break;
    case MONITOR_AND_DROP:
        MUST(rr_monitor(self, target_of(msg), &my->ids[0]) == RR_OK);
        MUST(rr_demonitor(self, my->ids[0]));
        MUST(!rr_demonitor(self, my->ids[0]));
        break;
    case DEMONITOR_LATE: /* the target dies while we hold here; its RR_DOWN is queued, and must not be seen */
        MUST(rr_monitor(self, target_of(msg), &my->ids[0]) == RR_OK);
        latch_add(&inside, 1);
        latch_hold(&gate, 1);
        MUST(rr_demonitor(self, my->ids[0]));
        break;
    case LINK_TRAP:
        rr_trap_exits(self, true);
        /* fall through */
    case LINK:
        MUST(rr_link(self, target_of(msg)) == RR_OK);
        break;
    case UNLINK:
        rr_unlink(self, target_of(msg));
        break;
    case END:
        rr_exit(self, RR_OK);
        break;
    case END_BADLY:
        rr_exit(self, RR_EPROTO);
        break;
    default: /* PING */
        break;
    }
    latch_add(&inside, 1);
}
static const rr_behavior_t watcher = {
    .name = "watcher", .state_size = sizeof(watcher_t), .receive = watch_receive, .finish = note_finish};

static rr_system_t *rig;
static rr_addr_t a, b;
static uint64_t told_to_a;

static void begin(void) {
    rig = rig_start(2);
    a = rig_spawn_behavior(rig, &watcher);
    b = rig_spawn_behavior(rig, &victim);
}

static void tell(rr_addr_t who, uint32_t what, rr_addr_t about) {
    ck_assert_int_eq(rr_system_send(rig, who, what, &about, sizeof about), RR_OK);
    if (what != DEMONITOR_LATE)
        latch_wait(&inside, ++told_to_a);
}

static void wait_actors(size_t n) {
    for (int i = 0; rr_system_actor_count(rig) != n; i++) {
        struct timespec pause = {0, 1000000};
        ck_assert_int_lt(i, RIG_PATIENCE_S * 1000);
        nanosleep(&pause, NULL);
    }
}

START_TEST(down_with_reason) {
    begin();
    tell(a, MONITOR_TWICE, b);
    ck_assert_int_eq(rr_system_send(rig, b, 17, NULL, 0), RR_OK);
    latch_wait(&told, 2); /* one for each monitor */
    ck_assert_int_eq(last_reason, -17);
    ck_assert_uint_eq(last_from, b);
    tell(a, MONITOR, b); /* gone already */
    latch_wait(&told, 3);
    ck_assert_int_eq(last_reason, RR_NOROUTE);
    tell(a, MONITOR, RR_NOBODY);
    latch_wait(&told, 4);
    ck_assert_uint_eq(rr_system_actor_count(rig), 1); /* a monitor does not take its watcher along */
    rig_end(rig);
}
END_TEST

START_TEST(demonitored_is_silent) {
    begin();
    tell(a, MONITOR_AND_DROP, b);
    rr_kill(rig, b, RR_CANCELLED);
    wait_actors(1);
    b = rig_spawn_behavior(rig, &victim);
    tell(a, DEMONITOR_LATE, b);
    latch_wait(&inside, ++told_to_a);
    rr_kill(rig, b, RR_CANCELLED);
    wait_actors(1);
    latch_add(&gate, 1);
    latch_wait(&inside, ++told_to_a);
    tell(a, PING, RR_NOBODY);
    ck_assert_uint_eq(latch_count(&told), 0);
    rig_end(rig);
}
END_TEST

START_TEST(monitor_of_the_watcher_dies) {
    begin();
    for (int i = 0; i < 200; i++) {
        rr_addr_t w = rig_spawn_behavior(rig, &watcher);
        tell(w, MONITOR, b);
        rr_kill(rig, w, RR_CANCELLED);
    }
    wait_actors(2);
    rr_kill(rig, b, RR_CANCELLED);
    wait_actors(1);
    ck_assert_uint_eq(latch_count(&told), 0);
    rig_end(rig);
}
END_TEST

START_TEST(linked_end_together) {
    begin();
    tell(a, LINK, b);
    ck_assert_int_eq(rr_system_send(rig, b, 15, NULL, 0), RR_OK);
    rig_quiet(rig);
    ck_assert_int_eq(finish_reason, -15); /* the reason travels */
    a = rig_spawn_behavior(rig, &watcher), b = rig_spawn_behavior(rig, &watcher);
    tell(a, LINK, b);
    tell(a, END_BADLY, RR_NOBODY); /* the other way round */
    rig_quiet(rig);
    rig_end(rig);
}
END_TEST

START_TEST(normal_end_spares_the_linked) {
    begin();
    tell(a, LINK, b);
    rig_send(rig, b, 0);
    wait_actors(1);
    tell(a, PING, RR_NOBODY);
    ck_assert_uint_eq(rr_system_actor_count(rig), 1);
    ck_assert_uint_eq(latch_count(&told), 0);
    rig_end(rig);
}
END_TEST

START_TEST(trapped_exits_arrive) {
    begin();
    tell(a, LINK_TRAP, b);
    ck_assert_int_eq(rr_system_send(rig, b, 15, NULL, 0), RR_OK);
    latch_wait(&told, 1);
    ck_assert_int_eq(last_reason, -15);
    ck_assert_uint_eq(last_from, b);
    b = rig_spawn_behavior(rig, &victim);
    tell(a, LINK, b);
    rig_send(rig, b, 0); /* normal ends are told to those who trap, too */
    latch_wait(&told, 2);
    ck_assert_int_eq(last_reason, RR_OK);
    tell(a, LINK, b); /* to one that is gone: as if it had died */
    latch_wait(&told, 3);
    ck_assert_int_eq(last_reason, RR_NOROUTE);
    rig_end(rig);
}
END_TEST

START_TEST(link_to_the_dead_kills) {
    begin();
    rr_kill(rig, b, RR_CANCELLED);
    wait_actors(1);
    tell(a, LINK, b);
    rig_quiet(rig);
    ck_assert_int_eq(finish_reason, RR_NOROUTE);
    rig_end(rig);
}
END_TEST

START_TEST(unlinked_are_free) {
    begin();
    tell(a, LINK, b);
    tell(a, LINK, b); /* twice is once */
    tell(a, UNLINK, b);
    tell(a, UNLINK, b);
    tell(a, PING, RR_NOBODY);
    rr_addr_t echo = b;
    tell(a, MONITOR, echo);
    ck_assert_int_eq(rr_system_send(rig, b, 15, NULL, 0), RR_OK);
    latch_wait(&told, 1);
    tell(a, PING, RR_NOBODY);
    ck_assert_uint_eq(rr_system_actor_count(rig), 1);
    rig_end(rig);
}
END_TEST

/* ---- Children linked from the start --------------------------------------------------------------------------------- */

static void idle(rr_actor_t *self, void *state, rr_message_t *msg) {}
static const rr_behavior_t idler = {.name = "idler", .receive = idle, .finish = note_finish};
static int die_at_once(rr_actor_t *self, void *state, const void *arg) { return RR_EIO; }
static const rr_behavior_t stillborn = {.name = "stillborn", .start = die_at_once, .receive = idle};

static void spawn_linked(rr_actor_t *self, void *state, rr_message_t *msg) {
    rr_spawn_t spec = {.behavior = rr_message_type(msg) ? &stillborn : &idler, .link = true};
    for (int i = 0; i < 10; i++)
        MUST(rr_spawn(self, &spec, NULL) == RR_OK);
    latch_add(&inside, 1);
}
static const rr_behavior_t family = {.name = "family", .receive = spawn_linked, .finish = note_finish};

START_TEST(linked_children) {
    rig = rig_start(2);
    a = rig_spawn_behavior(rig, &family);
    rig_send(rig, a, 0);
    latch_wait(&inside, 1);
    ck_assert_uint_eq(rr_system_actor_count(rig), 11);
    rr_kill(rig, a, RR_CANCELLED);
    rig_quiet(rig);
    ck_assert_uint_eq(latch_count(&finished), 11);
    a = rig_spawn_behavior(rig, &family);
    rig_send(rig, a, 1); /* its children fail to start: it ends with them */
    rig_quiet(rig);
    ck_assert_int_eq(finish_reason, RR_EIO);
    rig_end(rig);
}
END_TEST

/* ---- Many watchers of one ------------------------------------------------------------------------------------------- */

enum { CROWD = 100000, CROWD_WATCHERS = 4, CROWD_EACH = CROWD / CROWD_WATCHERS };
enum { CROWD_MONITOR, CROWD_DROP_HALF, CROWD_DROP_REST };

typedef struct crowd {
    uint64_t ids[CROWD_EACH];
    uint64_t kept; /* the sum of the even ones' ids */
    int told;
} crowd_t;

static void crowd_drop(rr_actor_t *self, crowd_t *my, int first) {
    for (int i = CROWD_EACH - 1; i >= 0; i--)
        if (i % 2 == first)
            MUST(rr_demonitor(self, my->ids[i]));
}

static void crowd_receive(rr_actor_t *self, void *state, rr_message_t *msg) {
    crowd_t *my = state;
    if (rr_message_kind(msg) == RR_DOWN) {
        my->kept -= rr_message_request(msg);
        MUST(++my->told <= CROWD_EACH / 2 && (my->told < CROWD_EACH / 2) == (my->kept != 0)); /* each kept one, once */
        latch_add(&told, 1);
        return;
    }
    switch (rr_message_type(msg)) {
    case CROWD_MONITOR:
        for (int i = 0; i < CROWD_EACH; i++)
            MUST(rr_monitor(self, b, &my->ids[i]) == RR_OK);
        for (int i = 0; i < CROWD_EACH; i += 2)
            my->kept += my->ids[i];
        break;
    case CROWD_DROP_HALF:
        crowd_drop(self, my, 1);
        break;
    default:
        crowd_drop(self, my, 0);
        break;
    }
    MUST(rr_send_unsheddable(self, b, 0, rr_buffer_copy("x", 1), 1) == RR_OK); /* behind all of them */
}
static const rr_behavior_t crowd_member = {.name = "crowd", .state_size = sizeof(crowd_t), .receive = crowd_receive};

static void note_arrival(rr_actor_t *self, void *state, rr_message_t *msg) { latch_add(&inside, 1); }
static const rr_behavior_t watched = {.name = "watched", .receive = note_arrival};

/* Processor time of a step that all members do, until the watched one has seen its end. */
static double crowd_step(const rr_addr_t *members, uint32_t type) {
    struct timespec from, to;
    uint64_t seen = latch_count(&inside);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &from);
    for (int i = 0; i < CROWD_WATCHERS; i++)
        rig_send(rig, members[i], type);
    latch_wait(&inside, seen + CROWD_WATCHERS);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &to);
    return (double)(to.tv_sec - from.tv_sec) + (double)(to.tv_nsec - from.tv_nsec) * 1e-9;
}

static void crowd_begin(rr_addr_t *members) {
    rig = rig_start(2);
    b = rig_spawn_behavior(rig, &watched);
    for (int i = 0; i < CROWD_WATCHERS; i++)
        members[i] = rig_spawn_behavior(rig, &crowd_member);
}

START_TEST(a_crowd_of_watchers_leaves) {
    rr_addr_t members[CROWD_WATCHERS];
    crowd_begin(members);
    double made = crowd_step(members, CROWD_MONITOR);
    double dropped = crowd_step(members, CROWD_DROP_HALF) + crowd_step(members, CROWD_DROP_REST);
    /* Were each removal a search among 100,000, dropping would cost some 50 times as much as making. */
    ck_assert_msg(dropped < 10 * made + 0.1, "100,000 monitors: made in %.3f s, dropped in %.3f s", made, dropped);
    rr_kill(rig, b, RR_CANCELLED);
    wait_actors(CROWD_WATCHERS);
    ck_assert_uint_eq(latch_count(&told), 0);
    rig_end(rig);
}
END_TEST

START_TEST(half_a_crowd_is_told) {
    rr_addr_t members[CROWD_WATCHERS];
    crowd_begin(members);
    crowd_step(members, CROWD_MONITOR);
    crowd_step(members, CROWD_DROP_HALF);
    rr_kill(rig, b, RR_CANCELLED);
    latch_wait(&told, CROWD / 2);
    wait_actors(CROWD_WATCHERS);
    ck_assert_uint_eq(latch_count(&told), CROWD / 2);
    rig_end(rig);
}
END_TEST

/* ---- Rings and storms ----------------------------------------------------------------------------------------------------- */

enum { RING = 500 };
static rr_addr_t ring[RING];
static void ring_receive(rr_actor_t *self, void *state, rr_message_t *msg) {
    if (rr_message_kind(msg) == RR_SEND && rr_message_type(msg) < RING) {
        MUST(rr_link(self, ring[(rr_message_type(msg) + 1) % RING]) == RR_OK);
        MUST(rr_monitor(self, ring[(rr_message_type(msg) + 7) % RING], NULL) == RR_OK);
        latch_add(&inside, 1);
    }
}
static const rr_behavior_t ring_member = {.name = "ring", .receive = ring_receive};

START_TEST(a_ring_falls_whole) {
    rig = rig_start(2);
    for (int round = 1; round <= 5; round++) {
        for (int i = 0; i < RING; i++)
            ring[i] = rig_spawn_behavior(rig, &ring_member);
        for (uint32_t i = 0; i < RING; i++)
            rig_send(rig, ring[i], i);
        latch_wait(&inside, (uint64_t)round * RING);
        rr_kill(rig, ring[round * 31], RR_EIO);
        rig_quiet(rig);
    }
    rig_end(rig);
}
END_TEST

START_TEST(kills_race_with_links) {
    rig = rig_start(2);
    for (int round = 0; round < 5; round++) {
        for (int i = 0; i < RING; i++)
            ring[i] = rig_spawn_behavior(rig, &ring_member);
        for (uint32_t i = 0; i < RING; i++)
            rig_try_send(rig, ring[i], i);
        for (int i = 0; i < RING; i++)
            rr_kill(rig, ring[i], RR_CANCELLED);
        rig_quiet(rig);
    }
    rig_end(rig);
}
END_TEST

CHECK_MAIN("monitor_link", down_with_reason, demonitored_is_silent, monitor_of_the_watcher_dies, linked_end_together,
           normal_end_spares_the_linked, trapped_exits_arrive, link_to_the_dead_kills, unlinked_are_free,
           linked_children, a_crowd_of_watchers_leaves, half_a_crowd_is_told, a_ring_falls_whole, kills_race_with_links)
