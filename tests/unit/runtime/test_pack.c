/* Messages from another node in a row, which cross packed: each is one of its own to its receiver, to limits, and at an end. */
#include "runtime/remote.h"
#include "runtime/replay.h"
#include "tests/unit/runtime/rig.h"

enum { THERE = 2, BODIES = 300 };

static rr_system_t *system_;
static const rr_addr_t them = (rr_addr_t)THERE << 48 | 1ull << 24 | 1;

/* ---- The other node: what goes back to it ---- */

static unsigned replies, refused;

static void proxy_receive(rr_actor_t *self, void *state, rr_message_t *msg) {
    rr_envelope_t env;
    if (!rr_envelope_of(self, msg, &env) || env.kind != RR_REPLY)
        return;
    replies++;
    refused += env.type != RR_OK;
}
static const rr_behavior_t proxy = {.name = "proxy", .receive = proxy_receive, .proxy = true};

static void begin(void) {
    rr_options_t options;
    rig_options(&options, 1);
    options.node = 1;
    options.replay = true; /* nothing runs but in rr_replay_run */
    options.seed = 7;
#ifndef NDEBUG
    rig_live = rr__alloc_live();
#endif
    ck_assert_int_eq(rr_system_create(&system_, &options), RR_OK);
    ck_assert_int_eq(rr_system_start(system_), RR_OK);
    rr_spawn_t spec = {.behavior = &proxy};
    rr_addr_t addr;
    ck_assert_int_eq(rr_system_spawn(system_, &spec, &addr), RR_OK);
    ck_assert_int_eq(rr_route_set(system_, THERE, addr), RR_OK);
    replies = refused = 0;
}

static void finish(void) {
    ck_assert(rr_system_stop(system_));
    rr_system_destroy(system_);
#ifndef NDEBUG
    ck_assert_int_eq(rr__alloc_live(), rig_live);
#endif
}

/* ---- The receiver ---- */

typedef struct taker {
    unsigned seen, take_every, answer_every, end_at;
    bool wrong;
    rr_message_t *taken[BODIES];
    unsigned taken_count;
} taker_t;
static taker_t taker;

static uint8_t byte_of(unsigned number, unsigned at) { return (uint8_t)(number * 7 + at); }

static bool is_right(const rr_message_t *msg, unsigned number) {
    const uint8_t *data = rr_message_data(msg);
    bool right = rr_message_size(msg) == number && rr_message_type(msg) == number && rr_message_from(msg) == them + number;
    for (unsigned at = 0; right && at < number; at++)
        right = data[at] == byte_of(number, at);
    return right;
}

static void taker_receive(rr_actor_t *self, void *state, rr_message_t *msg) {
    unsigned number = taker.seen++;
    taker.wrong |= !is_right(msg, number);
    if (taker.take_every && number % taker.take_every == 0) {
        rr_message_take(self, msg);
        taker.taken[taker.taken_count++] = msg;
    }
    if (taker.answer_every && number % taker.answer_every == 0 && rr_message_kind(msg) == RR_CALL)
        rr_reply(self, msg, NULL, 0);
    if (taker.end_at && taker.seen == taker.end_at)
        rr_exit(self, RR_OK);
}
static const rr_behavior_t taker_behavior = {.name = "taker", .receive = taker_receive};

static rr_addr_t spawn(uint32_t mailbox) {
    rr_addr_t addr;
    rr_spawn_t spec = {.behavior = &taker_behavior, .mailbox_messages = mailbox};
    taker = (taker_t){.seen = 0};
    ck_assert_int_eq(rr_system_spawn(system_, &spec, &addr), RR_OK);
    rr_replay_run(system_, 0);
    return addr;
}

/* ---- A row ---- */

static unsigned undelivered_count;

static void undelivered(void *context, const rr_envelope_t *env, int reason) {
    ck_assert_int_eq(reason, RR_NOROUTE);
    ck_assert_uint_eq(env->size, undelivered_count++);
}

/* Message n has n bytes, type n, and comes from actor n of the node. Returns how many were taken in. */
static unsigned deliver(rr_addr_t to, rr_kind_t kind, unsigned count, rr_addr_t kill) {
    rr_delivery_t delivery = {.system = system_, .undelivered = undelivered};
    unsigned taken = 0;
    for (unsigned number = 0; number < count; number++) {
        uint8_t data[BODIES];
        bool filling;
        for (unsigned at = 0; at < number; at++)
            data[at] = byte_of(number, at);
        rr_envelope_t env = {.to = to, .from = them + number, .request = number + 1, .type = number, .size = number,
                             .weight = 1, .kind = (uint8_t)kind, .data = data};
        int rc = rr_delivery_add(&delivery, &env, &filling);
        ck_assert(rc == RR_OK || rc == RR_EFULL);
        taken += rc == RR_OK;
        memset(data, 0xee, sizeof data);
    }
    if (kill != RR_NOBODY) {
        rr_kill(system_, kill, RR_OK);
        rr_replay_run(system_, 0);
    }
    rr_delivery_flush(&delivery);
    return taken;
}

START_TEST(each_is_whole_and_in_order) {
    begin();
    rr_addr_t to = spawn(0);
    ck_assert_uint_eq(deliver(to, RR_SEND, BODIES, RR_NOBODY), BODIES);
    rr_replay_run(system_, 0);
    ck_assert_uint_eq(taker.seen, BODIES);
    ck_assert(!taker.wrong);
    finish();
}
END_TEST

/* Taken ones outlive their pack, also those that are answered in the very handler that took them. */
START_TEST(each_can_be_taken_and_answered) {
    begin();
    rr_addr_t to = spawn(0);
    taker.take_every = 2;
    taker.answer_every = 4;
    deliver(to, RR_CALL, BODIES, RR_NOBODY);
    rr_replay_run(system_, 0);
    ck_assert_uint_eq(taker.seen, BODIES);
    ck_assert(!taker.wrong);
    ck_assert_uint_eq(replies, BODIES / 2 + BODIES / 4); /* those not taken were answered for it */
    for (unsigned i = 1; i < taker.taken_count; i += 2)
        ck_assert(is_right(taker.taken[i], 2 * i));
    rr_kill(system_, to, RR_OK);
    rr_replay_run(system_, 0);
    ck_assert_uint_eq(replies, BODIES);
    finish();
}
END_TEST

START_TEST(each_counts_in_the_mailbox) {
    begin();
    rr_addr_t to = spawn(100);
    ck_assert_uint_eq(deliver(to, RR_SEND, 150, RR_NOBODY), 100);
    rr_replay_run(system_, 0);
    ck_assert_uint_eq(taker.seen, 100);
    taker.seen = 0;
    ck_assert_uint_eq(deliver(to, RR_SEND, 150, RR_NOBODY), 100); /* nothing has been left behind in the count */
    rr_replay_run(system_, 0);
    ck_assert_uint_eq(taker.seen, 100);
    finish();
}
END_TEST

START_TEST(an_end_between_two_of_them) {
    begin();
    for (unsigned end_at = 1; end_at < 40; end_at++) {
        uint64_t before = rr_system_dead_letters(system_);
        rr_addr_t to = spawn(0);
        taker.end_at = end_at;
        deliver(to, RR_SEND, 60, RR_NOBODY);
        rr_replay_run(system_, 0);
        ck_assert_uint_eq(taker.seen, end_at);
        ck_assert_uint_eq(rr_system_dead_letters(system_) - before, 60 - end_at);
        replies = refused = 0;
        to = spawn(0);
        taker.end_at = end_at;
        deliver(to, RR_CALL, 60, RR_NOBODY);
        rr_replay_run(system_, 0);
        ck_assert_uint_eq(replies, 60);
        ck_assert_uint_eq(refused, 60); /* it answers none, nor do the dead */
    }
    finish();
}
END_TEST

START_TEST(nobody_is_there_any_more) {
    begin();
    undelivered_count = 0;
    rr_addr_t to = spawn(0);
    ck_assert_uint_eq(deliver(to, RR_SEND, 100, to), 100);
    ck_assert_uint_eq(undelivered_count, 100);
    ck_assert_uint_eq(taker.seen, 0);
    finish();
}
END_TEST

/* ---- In place ---- */

enum { ROW_TYPE = 7, ROW_SIZES = 1500, ROW_LONG = 5000 };

static unsigned row_size(unsigned number) { return number * 37 % ROW_SIZES; }

static void row_receive(rr_actor_t *self, void *state, rr_message_t *msg) {
    unsigned number = taker.seen++, size = row_size(number);
    const uint8_t *data = rr_message_data(msg);
    taker.wrong |= rr_message_size(msg) != size || rr_message_type(msg) != ROW_TYPE || rr_message_from(msg) != them;
    for (unsigned at = 0; !taker.wrong && at < size; at++)
        taker.wrong = data[at] != byte_of(number, at);
    if (rr_message_kind(msg) == RR_CALL)
        rr_reply(self, msg, NULL, 0);
}
static const rr_behavior_t row_behavior = {.name = "row", .receive = row_receive};

/* All of one actor and type, by rows where there is one. Returns how many were taken in; *in_rows: how many of them so. */
static unsigned deliver_rows(rr_addr_t to, rr_kind_t kind, unsigned count, unsigned *in_rows) {
    rr_delivery_t delivery = {.system = system_, .undelivered = undelivered};
    unsigned taken = 0, number = 0;
    *in_rows = 0;
    while (number < count) {
        uint8_t data[ROW_SIZES];
        rr_row_t row = {.count = 0};
        bool filling, more = true;
        rr_envelope_t env = {.to = to, .from = them, .type = ROW_TYPE, .weight = 1, .kind = (uint8_t)kind, .data = data};
        for (unsigned n = 0; more && number < count; n++, number += more) {
            env.size = row_size(number);
            env.request = number + 1;
            for (unsigned at = 0; at < env.size; at++)
                data[at] = byte_of(number, at);
            if (n == 0) {
                taken += rr_delivery_add(&delivery, &env, &filling) == RR_OK;
                more = rr_delivery_row(&delivery, &env, &row);
                number += !more;
            } else {
                more = rr_row_put(&row, env.request, data, env.size);
            }
        }
        if (row.at)
            rr_delivery_row_end(&delivery, &row);
        *in_rows += row.count;
    }
    rr_delivery_flush(&delivery);
    return taken + *in_rows;
}

static rr_addr_t spawn_row(uint32_t mailbox) {
    rr_addr_t addr;
    rr_spawn_t spec = {.behavior = &row_behavior, .mailbox_messages = mailbox};
    taker = (taker_t){.seen = 0};
    ck_assert_int_eq(rr_system_spawn(system_, &spec, &addr), RR_OK);
    rr_replay_run(system_, 0);
    return addr;
}

START_TEST(a_row_is_written_in_place) {
    begin();
    unsigned in_rows;
    rr_addr_t to = spawn_row(0);
    for (int kind = RR_SEND; kind <= RR_CALL; kind++) {
        taker.seen = 0;
        ck_assert_uint_eq(deliver_rows(to, kind, ROW_LONG, &in_rows), ROW_LONG);
        ck_assert_uint_gt(in_rows, ROW_LONG / 2);
        rr_replay_run(system_, 0);
        ck_assert_uint_eq(taker.seen, ROW_LONG);
        ck_assert(!taker.wrong);
    }
    ck_assert_uint_eq(replies, ROW_LONG);
    ck_assert_uint_eq(refused, 0);
    finish();
}
END_TEST

/* A row ends where somebody is to be told that the mailbox fills; and it counts as its messages do. */
START_TEST(a_row_keeps_to_the_limits) {
    begin();
    unsigned in_rows;
    rr_addr_t to = spawn_row(1000);
    for (int round = 0; round < 3; round++) {
        taker.seen = 0;
        ck_assert_uint_eq(deliver_rows(to, RR_SEND, 400, &in_rows), 400);
        ck_assert_uint_gt(in_rows, 0);
        ck_assert_uint_gt(deliver_rows(to, RR_SEND, 1000, &in_rows), 0);
        ck_assert_uint_lt(in_rows, 100); /* 500 of 1,000 is half */
        rr_replay_run(system_, 0);
        ck_assert_uint_eq(taker.seen, 1000);
    }
    finish();
}
END_TEST

/* ---- The other way: a turn's messages to another node ---- */

static unsigned forwarded, forwarded_wrong;

static void forward(rr_actor_t *self, void *state, const rr_envelope_t *env) {
    const uint8_t *data = env->data;
    unsigned number = forwarded++;
    bool right = env->to == them && env->size == number && env->type == number && env->kind == RR_SEND;
    for (unsigned at = 0; right && at < number; at++)
        right = data[at] == byte_of(number, at);
    forwarded_wrong += !right;
}
static void forward_receive(rr_actor_t *self, void *state, rr_message_t *msg) { ck_abort_msg("a message to the proxy"); }
static const rr_behavior_t forwarder = {
    .name = "forwarder", .receive = forward_receive, .proxy = true, .forward = forward};

/* Takes three at most of those that come together. */
static unsigned runs, in_runs;

static void forward_run(rr_actor_t *self, void *state, rr_run_t *run) {
    const rr_packed_t *first;
    runs++;
    for (unsigned i = 0; i < 3 && (first = rr_run_first(run)) != NULL; i++) {
        rr_envelope_t env = rr_run_envelope(run, first);
        forward(self, state, &env);
        in_runs++;
        rr_run_take(run, first);
    }
}
static const rr_behavior_t runner = {
    .name = "runner", .receive = forward_receive, .proxy = true, .forward = forward, .forward_run = forward_run};

static void talker_receive(rr_actor_t *self, void *state, rr_message_t *msg) {
    uint8_t data[BODIES];
    for (unsigned number = 0; number < BODIES; number++) {
        for (unsigned at = 0; at < number; at++)
            data[at] = byte_of(number, at);
        int rc = rr_send(self, them, number, data, number);
        ck_assert(rc == RR_OK || rc == RR_NOROUTE);
    }
}
static const rr_behavior_t talker = {.name = "talker", .receive = talker_receive};

static void send_away(const rr_behavior_t *behavior) {
    begin();
    forwarded = forwarded_wrong = runs = 0;
    rr_addr_t proxy_addr, addr;
    rr_spawn_t there = {.behavior = behavior}, here = {.behavior = &talker};
    ck_assert_int_eq(rr_system_spawn(system_, &there, &proxy_addr), RR_OK);
    ck_assert_int_eq(rr_route_set(system_, THERE, proxy_addr), RR_OK);
    ck_assert_int_eq(rr_system_spawn(system_, &here, &addr), RR_OK);
    ck_assert_int_eq(rr_system_send(system_, addr, 0, NULL, 0), RR_OK);
    rr_replay_run(system_, 0);
    ck_assert_uint_eq(forwarded, BODIES);
    ck_assert_uint_eq(forwarded_wrong, 0);
    ck_assert_int_eq(rr_system_send(system_, addr, 0, NULL, 0), RR_OK);
    rr_kill(system_, proxy_addr, RR_OK); /* and what is under way ends with it, each counted */
    uint64_t before = rr_system_dead_letters(system_);
    forwarded = 0;
    rr_replay_run(system_, 0);
    ck_assert_uint_eq(forwarded + rr_system_dead_letters(system_) - before, BODIES);
    finish();
}

START_TEST(what_a_turn_sends_away) { send_away(&forwarder); }
END_TEST

START_TEST(a_proxy_takes_what_comes_together) {
    send_away(&runner);
    ck_assert_uint_gt(runs, 10);
    ck_assert_uint_lt(runs, BODIES);
}
END_TEST

enum { PROXY_LIMIT = 4 };

static void shouter_receive(rr_actor_t *self, void *state, rr_message_t *msg) {
    unsigned sent = 0;
    while (sent < 100 && rr_send(self, them, sent, NULL, 0) == RR_OK)
        sent++;
    ck_assert_uint_eq(sent, 8 * PROXY_LIMIT);
}
static const rr_behavior_t shouter = {.name = "shouter", .receive = shouter_receive};

START_TEST(a_proxy_refuses_at_eight_times_its_limit) {
    begin();
    forwarded = 0;
    rr_addr_t proxy_addr, addr;
    rr_spawn_t there = {.behavior = &runner, .mailbox_messages = PROXY_LIMIT, .policy = RR_POLICY_PAUSE_SOURCE};
    rr_spawn_t here = {.behavior = &shouter};
    ck_assert_int_eq(rr_system_spawn(system_, &there, &proxy_addr), RR_OK);
    ck_assert_int_eq(rr_route_set(system_, THERE, proxy_addr), RR_OK);
    ck_assert_int_eq(rr_system_spawn(system_, &here, &addr), RR_OK);
    rr_replay_run(system_, 0);
    ck_assert_int_eq(rr_system_send(system_, addr, 0, NULL, 0), RR_OK);
    rr_replay_run(system_, 0);
    ck_assert_uint_eq(forwarded, 8 * PROXY_LIMIT);
    finish();
}
END_TEST

enum { LARGE = 1500, LARGE_UNITS = LARGE / 64 + 1, PROXY_UNITS = 256 };

static void lecturer_receive(rr_actor_t *self, void *state, rr_message_t *msg) {
    static const uint8_t data[LARGE];
    unsigned sent = 0;
    while (sent < 1000 && rr_send(self, them, 0, data, LARGE) == RR_OK)
        sent++;
    ck_assert_uint_eq(sent, (32 * PROXY_UNITS + LARGE_UNITS - 1) / LARGE_UNITS);
}
static const rr_behavior_t lecturer = {.name = "lecturer", .receive = lecturer_receive};

static bool count_sheet(rr_actor_t *self, void *state, const rr_sheet_t *sheet) {
    forwarded += sheet->count;
    in_runs += sheet->count;
    return true;
}
static const rr_behavior_t counter = {.name = "counter", .receive = forward_receive, .proxy = true,
                                      .forward = forward, .forward_run = forward_run, .forward_sheet = count_sheet};

START_TEST(beyond_its_limit_a_turn_is_still_packed) {
    begin();
    forwarded = in_runs = 0;
    rr_addr_t proxy_addr, addr;
    rr_spawn_t there = {.behavior = &counter,
                        .mailbox_messages = PROXY_UNITS,
                        .mailbox_bytes = PROXY_UNITS * RR_MAILBOX_UNIT,
                        .policy = RR_POLICY_PAUSE_SOURCE};
    rr_spawn_t here = {.behavior = &lecturer};
    ck_assert_int_eq(rr_system_spawn(system_, &there, &proxy_addr), RR_OK);
    ck_assert_int_eq(rr_route_set(system_, THERE, proxy_addr), RR_OK);
    ck_assert_int_eq(rr_system_spawn(system_, &here, &addr), RR_OK);
    rr_replay_run(system_, 0);
    ck_assert_int_eq(rr_system_send(system_, addr, 0, NULL, 0), RR_OK);
    rr_replay_run(system_, 0);
    ck_assert_uint_gt(forwarded, 300);
    ck_assert_uint_le(forwarded - in_runs, 10); /* a row begins with some that are not packed */
    finish();
}
END_TEST

/* ---- Sheets: what is larger, as it leaves ---- */

enum { AUTHORED = 250, SHEET_LARGEST = 2000 };

static unsigned authored, authored_wrong, in_sheets, sheets;
static bool takes_sheets, keeps_one;
static struct { /* the first sheet, kept for longer than its message */
    rr_buffer_t *buffer;
    const uint8_t *records;
    uint32_t size;
    uint8_t copy[64 << 10];
} kept;

/* Larger ones, with a small one here and there, and several of each type in a row. */
static uint32_t authored_size(unsigned number) { return number % 50 == 49 ? number % 7 : 300 + number * 37 % (SHEET_LARGEST - 299); }

static void author_receive(rr_actor_t *self, void *state, rr_message_t *msg) {
    uint8_t data[SHEET_LARGEST];
    for (unsigned number = 0; number < AUTHORED; number++) {
        for (unsigned at = 0; at < authored_size(number); at++)
            data[at] = byte_of(number, at);
        int rc = rr_send(self, them, number / 10, data, authored_size(number));
        ck_assert(rc == RR_OK || rc == RR_NOROUTE);
    }
}
static const rr_behavior_t author = {.name = "author", .receive = author_receive};
static rr_addr_t author_addr;

static void author_check(const rr_envelope_t *env) {
    unsigned number = authored++;
    const uint8_t *data = env->data;
    bool right = env->to == them && env->from == author_addr && env->type == number / 10 && env->kind == RR_SEND &&
                 env->weight == 1 && env->size == authored_size(number);
    for (unsigned at = 0; right && at < env->size; at++)
        right = data[at] == byte_of(number, at);
    authored_wrong += !right;
}

static void author_forward(rr_actor_t *self, void *state, const rr_envelope_t *env) { author_check(env); }

static uint64_t little(const uint8_t *at, unsigned bytes) {
    uint64_t v = 0;
    while (bytes-- > 0)
        v = v << 8 | at[bytes];
    return v;
}

/* The records as net/NODES.md has them. */
static void read_sheet(const rr_sheet_t *sheet) {
    const uint8_t *at = sheet->records, *end = at + sheet->size;
    uint64_t bytes = 0, to = 0, from = 0;
    uint32_t type = 0, count = 0;
    for (; at < end; count++) {
        bool same = at[1] & RR_SHEET_SAME;
        uint32_t size = (uint32_t)little(at + 4, 4);
        ck_assert(count || !same);
        ck_assert(at[0] == RR_SEND && (at[1] & ~RR_SHEET_SAME) == 0 && little(at + 2, 2) == 1);
        if (!same) {
            type = (uint32_t)little(at + 8, 4);
            to = little(at + 12, 6);
            from = little(at + 18, 6);
        }
        at += same ? RR_SHEET_RECORD_SAME : RR_SHEET_RECORD;
        author_check(&(rr_envelope_t){
            .to = (rr_addr_t)THERE << 48 | to, .from = 1ull << 48 | from, .type = type, .size = size, .weight = 1, .data = at});
        at += size;
        bytes += size;
    }
    ck_assert(at == end && sheet->to == them && sheet->from == author_addr);
    ck_assert(count == sheet->count && bytes == sheet->bytes);
    in_sheets += count;
}

static bool author_forward_sheet(rr_actor_t *self, void *state, const rr_sheet_t *sheet) {
    sheets++;
    if (!takes_sheets)
        return false;
    memset(sheet->records - RR_SHEET_HEAD, 0xee, RR_SHEET_HEAD); /* it is the taker's */
    read_sheet(sheet);
    if (keeps_one && !kept.buffer) {
        kept.buffer = rr_buffer_ref(sheet->buffer);
        kept.records = sheet->records;
        kept.size = sheet->size;
        memcpy(kept.copy, sheet->records, sheet->size);
    }
    return true;
}

static void author_proxy_receive(rr_actor_t *self, void *state, rr_message_t *msg) {
    rr_envelope_t env;
    ck_assert(rr_envelope_of(self, msg, &env));
    author_check(&env);
}

static const rr_behavior_t sheet_taker = {.name = "taker", .receive = forward_receive, .proxy = true,
                                          .forward = author_forward, .forward_sheet = author_forward_sheet};
static const rr_behavior_t one_by_one = {.name = "plain", .receive = author_proxy_receive, .proxy = true};

static rr_addr_t author_begin(const rr_behavior_t *behavior, uint32_t limit) {
    begin();
    authored = authored_wrong = in_sheets = sheets = 0;
    takes_sheets = keeps_one = false;
    rr_addr_t proxy_addr;
    rr_spawn_t there = {.behavior = behavior, .mailbox_messages = limit, .mailbox_bytes = limit * 1000,
                        .policy = RR_POLICY_PAUSE_SOURCE};
    rr_spawn_t here = {.behavior = &author};
    ck_assert_int_eq(rr_system_spawn(system_, &there, &proxy_addr), RR_OK);
    ck_assert_int_eq(rr_route_set(system_, THERE, proxy_addr), RR_OK);
    ck_assert_int_eq(rr_system_spawn(system_, &here, &author_addr), RR_OK);
    rr_replay_run(system_, 0);
    return proxy_addr;
}

static void author_once(void) {
    authored = 0;
    ck_assert_int_eq(rr_system_send(system_, author_addr, 0, NULL, 0), RR_OK);
    rr_replay_run(system_, 0);
    ck_assert_uint_eq(authored, AUTHORED);
    ck_assert_uint_eq(authored_wrong, 0);
}

START_TEST(larger_ones_cross_in_sheets) {
    (void)author_begin(&sheet_taker, 1000);
    takes_sheets = keeps_one = true;
    for (unsigned round = 1; round <= 5; round++) {
        author_once();
        ck_assert_uint_ge(in_sheets, round * AUTHORED * 3 / 4);
        ck_assert_uint_le(sheets, 8 * round); /* 290 KB */
    }
    ck_assert(memcmp(kept.copy, kept.records, kept.size) == 0); /* others were made, and it is still whole */
    rr_buffer_unref(kept.buffer);
    kept.buffer = NULL;
    finish();
}
END_TEST

START_TEST(a_sheet_is_taken_one_by_one) {
    (void)author_begin(&sheet_taker, 1000);
    for (unsigned round = 0; round < 3; round++)
        author_once();
    ck_assert_uint_gt(sheets, 0);
    finish();
    (void)author_begin(&one_by_one, 1000);
    for (unsigned round = 0; round < 3; round++)
        author_once();
    finish();
}
END_TEST

/* Counted as they are one by one: behind so many the sender is paused, and goes on when they are taken. */
START_TEST(a_sheet_counts_as_its_messages) {
    (void)author_begin(&sheet_taker, 100);
    takes_sheets = true;
    for (unsigned round = 0; round < 5; round++)
        author_once();
    finish();
}
END_TEST

START_TEST(sheets_end_with_their_proxy) {
    rr_addr_t proxy_addr = author_begin(&sheet_taker, 1000);
    ck_assert_int_eq(rr_system_send(system_, author_addr, 0, NULL, 0), RR_OK);
    rr_kill(system_, proxy_addr, RR_OK);
    rr_replay_run(system_, 0);
    ck_assert_uint_eq(authored + rr_system_dead_letters(system_), AUTHORED);
    ck_assert_uint_eq(authored_wrong, 0);
    finish();
}
END_TEST

CHECK_MAIN("pack", each_is_whole_and_in_order, each_can_be_taken_and_answered, each_counts_in_the_mailbox,
           an_end_between_two_of_them, nobody_is_there_any_more, a_row_is_written_in_place, a_row_keeps_to_the_limits,
           what_a_turn_sends_away, a_proxy_takes_what_comes_together, a_proxy_refuses_at_eight_times_its_limit,
           beyond_its_limit_a_turn_is_still_packed, larger_ones_cross_in_sheets, a_sheet_is_taken_one_by_one,
           a_sheet_counts_as_its_messages, sheets_end_with_their_proxy)
