/* Links whose connections are cut, frozen, delayed and spoilt, and relays that die: nothing is lost, doubled or out of
 * order while both ends live, and a clear end in bounded time when one does not. */
#include "faults.h"
#include "support.h"

/* a dials b through faults. */
typedef struct pair {
    node_t a, b;
    faults_t *faults;
} pair_t;

static void pair_start(pair_t *p, const rr_mesh_options_t *o) {
    node_start(&p->a, 1, o);
    node_start(&p->b, 2, o);
    p->faults = faults_start(&p->b);
    node_tell(&p->b, &p->a, "", false);
    node_tell(&p->a, &p->b, p->faults->address, true);
}

static void pair_stop(pair_t *p) {
    node_stop(&p->a);
    node_stop(&p->b);
    faults_stop(p->faults);
}

static void sources_start(node_t *n, source_t *sources, uint32_t count, rr_addr_t to, uint32_t messages) {
    for (uint32_t i = 0; i < count; i++) {
        sources[i] =
            (source_t){.to = to, .sender = i, .count = messages, .size = 16 + 300 * i, .burst = 20, .pause_us = 1000};
        source_spawn(n, &sources[i]);
    }
}

static void sources_end(source_t *sources, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        atomic_store(&sources[i].count, 0);
    }
}

static uint64_t sent_by(source_t *sources, uint32_t count) {
    uint64_t sum = 0;
    for (uint32_t i = 0; i < count; i++) {
        sum += atomic_load(&sources[i].sent);
    }
    return sum;
}

START_TEST(hundreds_of_cuts_lose_and_repeat_nothing) {
    pair_t p;
    sink_t sinks[2] = {0};
    source_t there[4], back[4];
    pair_start(&p, NULL);
    atomic_store(&p.faults->cut_every_bytes, 60000); /* fewer than a big segment has: small ones must get across */
    sources_start(&p.a, there, 4, sink_spawn(&p.b, &sinks[0], 1 << 20), 15000);
    sources_start(&p.b, back, 4, sink_spawn(&p.a, &sinks[1], 1 << 20), 15000);
    EVENTUALLY(60000, atomic_load(&sinks[0].received) >= 60000 && atomic_load(&sinks[1].received) >= 60000);
    ck_assert_uint_eq(atomic_load(&sinks[0].received), 60000);
    ck_assert_uint_eq(atomic_load(&sinks[1].received), 60000);
    ck_assert_uint_eq(atomic_load(&sinks[0].wrong) + atomic_load(&sinks[1].wrong), 0);
    int cuts = atomic_load(&p.faults->cuts);
    ck_assert_msg(cuts > 200 && cuts < 6000, "%d cuts: big segments are begun again and again (19,000 when none is small)", cuts);
    ck_assert_int_eq(atomic_load(&p.a.states[RR_LINK_DOWN]) + atomic_load(&p.b.states[RR_LINK_DOWN]), 0);
    ck_assert_uint_gt(node_link(&p.a, 2).reconnects, 100);
    pair_stop(&p);
}
END_TEST

START_TEST(big_messages_survive_cuts) {
    pair_t p;
    sink_t sink = {0};
    source_t big[3];
    pair_start(&p, NULL);
    atomic_store(&p.faults->cut_every_bytes, 2000000);
    rr_addr_t to = sink_spawn(&p.b, &sink, 0);
    for (uint32_t i = 0; i < 3; i++) {
        big[i] = (source_t){.to = to, .sender = i, .count = 30, .size = 200000 + 150000 * i, .burst = 1};
        source_spawn(&p.a, &big[i]);
    }
    EVENTUALLY(50000, atomic_load(&sink.received) == 90);
    ck_assert_uint_eq(atomic_load(&sink.wrong), 0);
    ck_assert_int_gt(atomic_load(&p.faults->cuts), 5);
    pair_stop(&p);
}
END_TEST

START_TEST(long_turns_survive_cuts) {
    pair_t p;
    sink_t sink = {0};
    source_t s[2];
    pair_start(&p, NULL);
    atomic_store(&p.faults->cut_every_bytes, 3000000);
    rr_addr_t to = sink_spawn(&p.b, &sink, 1 << 20);
    for (uint32_t i = 0; i < 2; i++) {
        s[i] = (source_t){.to = to, .sender = i, .count = 20000, .size = 700 + 500 * i, .burst = 600};
        source_spawn(&p.a, &s[i]);
    }
    EVENTUALLY(60000, atomic_load(&sink.received) >= 40000);
    ck_assert_uint_eq(atomic_load(&sink.received), 40000);
    ck_assert_uint_eq(atomic_load(&sink.wrong), 0);
    ck_assert_int_gt(atomic_load(&p.faults->cuts), 3);
    pair_stop(&p);
}
END_TEST

/* What nobody has acknowledged when the link dies are dead letters, each one. */
START_TEST(long_turns_end_as_dead_letters) {
    pair_t p;
    sink_t sink = {0};
    rr_mesh_options_t o;
    node_options_impatient(&o);
    pair_start(&p, &o);
    rr_addr_t to = sink_spawn(&p.b, &sink, 1 << 20);
    source_t before = {.to = to, .sender = 1, .count = 300, .size = 1000, .burst = 300};
    source_t after = {.to = to, .sender = 2, .count = 600, .size = 1000, .burst = 300};
    source_spawn(&p.a, &before);
    EVENTUALLY(10000, atomic_load(&sink.received) == 300 && node_link(&p.a, 2).unacked_bytes == 0);
    atomic_store(&p.faults->frozen, 1);
    source_spawn(&p.a, &after);
    EVENTUALLY(20000, atomic_load(&p.a.last_state[2]) == RR_LINK_DOWN);
    /* Some may have passed just before it froze; what comes behind the end is one, too, again and again. */
    EVENTUALLY(10000, rr_system_dead_letters(p.a.system) + atomic_load(&sink.received) >= 900);
    ck_assert_uint_gt(rr_system_dead_letters(p.a.system), 0);
    ck_assert(atomic_load(&after.refused) || rr_system_dead_letters(p.a.system) <= 600);
    ck_assert_uint_eq(atomic_load(&sink.wrong), 0);
    atomic_store(&p.faults->frozen, 0);
    pair_stop(&p);
}
END_TEST

/* Nobody reads: the window fills, then the mailbox, then senders are stopped. Nothing is lost of what was taken. */
START_TEST(a_full_window_stops_the_senders) {
    pair_t p;
    sink_t sink = {0};
    rr_mesh_options_t o;
    node_options(&o);
    o.window_bytes = 256 << 10;
    o.queue_messages = 1000;
    pair_start(&p, &o);
    source_t s = {.to = sink_spawn(&p.b, &sink, 1 << 20), .sender = 1, .count = 100000, .size = 200, .burst = 200};
    EVENTUALLY(5000, node_link(&p.a, 2).state == RR_LINK_UP);
    atomic_store(&p.faults->frozen, 1);
    source_spawn(&p.a, &s);
    EVENTUALLY(5000, atomic_load(&s.sent) > 1000);
    uint32_t before = 1, now = 0;
    for (int i = 0; i < 100 && now != before; i++) { /* until it stands still */
        before = now;
        pause_ms(100);
        now = atomic_load(&s.sent);
    }
    ck_assert_uint_lt(now, 60000);
    ck_assert_uint_lt(node_link(&p.a, 2).unacked_bytes, (256 << 10) + (128 << 10));
    atomic_store(&p.faults->frozen, 0);
    EVENTUALLY(30000, atomic_load(&sink.received) == 100000);
    ck_assert_uint_eq(atomic_load(&sink.wrong), 0);
    pair_stop(&p);
}
END_TEST

typedef struct silence {
    uint64_t suspect_ms, down_ms; /* when they were told, after the last byte */
} silence_t;

static silence_t fall_silent(pair_t *p) {
    silence_t took;
    EVENTUALLY(10000, atomic_load(&p->a.last_state[2]) == RR_LINK_UP && node_link(&p->b, 1).state == RR_LINK_UP);
    atomic_store(&p->faults->frozen, 1);
    EVENTUALLY(10000, atomic_load(&p->a.last_state[2]) != RR_LINK_UP); /* suspect, or down already: that is late */
    uint64_t heard = atomic_load(&p->faults->heard_ns); /* not since it was frozen: that thread may have waited before, too */
    took.suspect_ms = (atomic_load(&p->a.changed_ns[2]) - heard) / 1000000;
    EVENTUALLY(10000, atomic_load(&p->a.last_state[2]) == RR_LINK_DOWN);
    took.down_ms = (atomic_load(&p->a.changed_ns[2]) - heard) / 1000000;
    atomic_store(&p->faults->frozen, 0);
    atomic_store(&p->faults->cut_now, 1);
    return took;
}

START_TEST(silence_is_suspect_then_down_in_time) {
    pair_t p;
    rr_mesh_options_t o;
    node_options(&o);
    o.down_ms = 1500;
    pair_start(&p, &o);
    bool in_time = false;
    for (int i = 0; i < 8 && !in_time; i++) { /* never early; late only while something else has the processor */
        silence_t took = fall_silent(&p);
        ck_assert_uint_ge(took.suspect_ms, 300);
        ck_assert_uint_ge(took.down_ms, 1400);
        in_time = took.suspect_ms <= 800 && took.down_ms <= 2200;
    }
    ck_assert(in_time);
    EVENTUALLY(10000,
               node_link(&p.a, 2).state == RR_LINK_UP && node_link(&p.b, 1).state == RR_LINK_UP); /* a new session */
    sink_t sink = {0};
    source_t s = {.to = sink_spawn(&p.b, &sink, 0), .sender = 1, .count = 100, .size = 20, .burst = 10};
    source_spawn(&p.a, &s);
    EVENTUALLY(5000, atomic_load(&sink.received) == 100);
    pair_stop(&p);
}
END_TEST

/* A pause shorter than the limit is no end: everything goes on behind it. */
START_TEST(a_short_silence_loses_nothing) {
    pair_t p;
    sink_t sink = {0};
    pair_start(&p, NULL);
    source_t s[1];
    sources_start(&p.a, s, 1, sink_spawn(&p.b, &sink, 1 << 20), 40000);
    for (int i = 0; i < 3; i++) {
        EVENTUALLY(5000, node_link(&p.a, 2).state == RR_LINK_UP);
        pause_ms(200);
        int before = atomic_load(&p.a.states[RR_LINK_SUSPECT]);
        atomic_store(&p.faults->frozen, 1);
        EVENTUALLY(5000, atomic_load(&p.a.states[RR_LINK_SUSPECT]) > before);
        pause_ms(200);
        atomic_store(&p.faults->frozen, 0);
    }
    EVENTUALLY(30000, atomic_load(&sink.received) == 40000);
    ck_assert_uint_eq(atomic_load(&sink.wrong), 0);
    ck_assert_int_eq(atomic_load(&p.a.states[RR_LINK_DOWN]), 0);
    pair_stop(&p);
}
END_TEST

START_TEST(a_slow_path_is_only_slow) {
    pair_t p;
    sink_t sink = {0};
    pair_start(&p, NULL);
    atomic_store(&p.faults->delay_ms, 30);
    source_t s[2];
    sources_start(&p.a, s, 2, sink_spawn(&p.b, &sink, 1 << 20), 5000);
    EVENTUALLY(40000, atomic_load(&sink.received) == 10000);
    ck_assert_uint_eq(atomic_load(&sink.wrong), 0);
    ck_assert_int_eq(atomic_load(&p.a.states[RR_LINK_DOWN]), 0);
    pair_stop(&p);
}
END_TEST

/* Flipped bytes: TCP's checksum is not there to help. Whatever is hit, nobody crashes and no wrong order goes unnoticed
 * by the protocol; payload bytes are not protected. */
START_TEST(spoilt_bytes_end_sessions_not_processes) {
    pair_t p;
    sink_t sink = {0};
    rr_mesh_options_t o;
    node_options_impatient(&o); /* what is left of a frame may never come */
    pair_start(&p, &o);
    rr_addr_t to = sink_spawn(&p.b, &sink, 1 << 20);
    source_t s = {.to = to, .sender = 1, .count = 1 << 30, .size = 16, .burst = 5, .pause_us = 1000};
    source_spawn(&p.a, &s);
    for (int i = 0; i < 60; i++) {
        atomic_store(&p.faults->spoil_in, 1 + i * 37);
        pause_ms(20);
    }
    uint64_t before = atomic_load(&sink.received);
    EVENTUALLY(10000, atomic_load(&sink.received) > before + 100); /* it goes on */
    pair_stop(&p);
}
END_TEST

/* ---- Relays ---- */

typedef struct quartet { /* a and b cannot reach each other; r and q relay */
    node_t a, b, r, q;
} quartet_t;

static void quartet_start(quartet_t *s) {
    rr_mesh_options_t plain, relay;
    node_options(&plain);
    relay = plain;
    relay.self.relay = true;
    node_start(&s->a, 1, &plain);
    node_start(&s->b, 2, &plain);
    node_start(&s->r, 3, &relay);
    node_start(&s->q, 4, &relay);
    s->r.who.relay = s->q.who.relay = true;
    node_t *all[] = {&s->a, &s->b, &s->r, &s->q};
    for (int i = 0; i < 4; i++) {
        for (int k = 0; k < 4; k++) {
            if (i != k) {
                node_tell(all[i], all[k], k < 2 ? "" : NULL, i < 2 && k >= 2);
            }
        }
    }
}

START_TEST(a_relay_passes_on) {
    quartet_t s;
    sink_t sink = {0};
    quartet_start(&s);
    source_t sources[2];
    sources_start(&s.a, sources, 2, sink_spawn(&s.b, &sink, 1 << 20), 10000);
    EVENTUALLY(20000, atomic_load(&sink.received) == 20000);
    ck_assert_uint_eq(atomic_load(&sink.wrong), 0);
    rr_link_info_t info = node_link(&s.a, 2);
    ck_assert(info.relayed && (info.via == 3 || info.via == 4));
    node_stop(&s.a);
    node_stop(&s.b);
    node_stop(&s.r);
    node_stop(&s.q);
}
END_TEST

START_TEST(a_relays_death_loses_nothing) {
    quartet_t s;
    sink_t sinks[2] = {0};
    quartet_start(&s);
    source_t there[2], back[2];
    sources_start(&s.a, there, 2, sink_spawn(&s.b, &sinks[0], 1 << 20), UINT32_MAX);
    sources_start(&s.b, back, 2, sink_spawn(&s.a, &sinks[1], 1 << 20), UINT32_MAX);
    EVENTUALLY(10000, atomic_load(&sinks[0].received) > 2000 && atomic_load(&sinks[1].received) > 2000 && node_link(&s.a, 2).relayed);
    bool first = node_link(&s.a, 2).via == 3;
    node_stop(first ? &s.r : &s.q);
    EVENTUALLY(10000, node_link(&s.a, 2).via == (first ? 4 : 3));
    uint64_t before[] = {atomic_load(&sinks[0].received), atomic_load(&sinks[1].received)};
    EVENTUALLY(40000, atomic_load(&sinks[0].received) > before[0] + 20000 && atomic_load(&sinks[1].received) > before[1] + 20000);
    sources_end(there, 2);
    sources_end(back, 2);
    EVENTUALLY(40000, atomic_load(&sinks[0].received) == sent_by(there, 2) && atomic_load(&sinks[1].received) == sent_by(back, 2));
    ck_assert_uint_eq(atomic_load(&sinks[0].wrong) + atomic_load(&sinks[1].wrong), 0);
    node_stop(&s.a);
    node_stop(&s.b);
    node_stop(first ? &s.q : &s.r);
}
END_TEST

/* b is reachable after all: the path changes, the session does not notice. */
START_TEST(a_direct_path_is_taken_when_there_is_one) {
    quartet_t s;
    sink_t sink = {0};
    quartet_start(&s);
    source_t sources[2];
    sources_start(&s.a, sources, 2, sink_spawn(&s.b, &sink, 1 << 20), UINT32_MAX);
    EVENTUALLY(10000, atomic_load(&sink.received) > 1000);
    node_tell(&s.a, &s.b, NULL, true);
    EVENTUALLY(5000, !node_link(&s.a, 2).relayed);
    uint64_t before = atomic_load(&sink.received);
    EVENTUALLY(20000, atomic_load(&sink.received) > before + 10000);
    sources_end(sources, 2);
    EVENTUALLY(20000, atomic_load(&sink.received) == sent_by(sources, 2));
    ck_assert_uint_eq(atomic_load(&sink.wrong), 0);
    node_stop(&s.a);
    node_stop(&s.b);
    node_stop(&s.r);
    node_stop(&s.q);
}
END_TEST

/* A newcomer speaks to a node that has not heard of it, and cannot dial it: what it says waits, goes through a relay once that node
 * was told, and directly once it is let in. Both ways, in order, nothing lost. */
START_TEST(a_newcomer_is_heard_through_the_relay_then_directly) {
    node_t a, r, n;
    sink_t sinks[2] = {0};
    source_t there[2], back[2];
    rr_mesh_options_t plain, relay;
    node_options(&plain);
    relay = plain;
    relay.self.relay = true;
    node_start(&a, 1, &plain);
    node_start(&r, 3, &relay);
    node_start(&n, 2, &plain);
    r.who.relay = true;
    faults_t *door = faults_start(&a);
    atomic_store(&door->refuse, 1);
    node_tell(&a, &r, NULL, true);
    node_tell(&r, &a, "", false);
    node_tell(&n, &r, NULL, true);
    node_tell(&r, &n, "", false);
    node_tell(&n, &a, door->address, false);
    sources_start(&n, there, 2, sink_spawn(&a, &sinks[0], 1 << 20), UINT32_MAX);
    EVENTUALLY(5000, atomic_load(&there[0].sent) > 200 && node_link(&n, 1).relayed);
    ck_assert_uint_eq(atomic_load(&sinks[0].received), 0); /* nobody that a knows */
    node_tell(&a, &n, "", false);
    EVENTUALLY(5000, atomic_load(&sinks[0].received) > 1000);
    sources_start(&a, back, 2, sink_spawn(&n, &sinks[1], 1 << 20), UINT32_MAX);
    EVENTUALLY(5000, atomic_load(&sinks[1].received) > 500);
    ck_assert(node_link(&n, 1).relayed && node_link(&a, 2).relayed);
    atomic_store(&door->refuse, 0);
    EVENTUALLY(5000, !node_link(&n, 1).relayed && !node_link(&a, 2).relayed);
    uint64_t before[] = {atomic_load(&sinks[0].received), atomic_load(&sinks[1].received)};
    EVENTUALLY(30000, atomic_load(&sinks[0].received) > before[0] + 20000 && atomic_load(&sinks[1].received) > before[1] + 20000);
    sources_end(there, 2); /* they changed their way while there was more to come */
    sources_end(back, 2);
    EVENTUALLY(30000, atomic_load(&sinks[0].received) == sent_by(there, 2) && atomic_load(&sinks[1].received) == sent_by(back, 2));
    ck_assert_uint_eq(atomic_load(&sinks[0].wrong) + atomic_load(&sinks[1].wrong), 0);
    ck_assert_int_eq(atomic_load(&a.states[RR_LINK_DOWN]) + atomic_load(&n.states[RR_LINK_DOWN]), 0);
    node_stop(&n);
    node_stop(&a);
    node_stop(&r);
    faults_stop(door);
}
END_TEST

RUN_TESTS("link_faults", hundreds_of_cuts_lose_and_repeat_nothing, big_messages_survive_cuts, long_turns_survive_cuts, long_turns_end_as_dead_letters,
          a_full_window_stops_the_senders, silence_is_suspect_then_down_in_time, a_short_silence_loses_nothing,
          a_slow_path_is_only_slow, spoilt_bytes_end_sessions_not_processes, a_relay_passes_on,
          a_relays_death_loses_nothing, a_direct_path_is_taken_when_there_is_one,
          a_newcomer_is_heard_through_the_relay_then_directly)
