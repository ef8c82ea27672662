/* A session that moves to a scene of another node of which its gate has heard nothing yet, since that scene was out of reach, or
 * since its MOVED came first: the other node is played by a proxy, which says what it shall, when it shall. */
#include "actors/protocol.h"
#include "fixture.h"
#include "runtime/remote.h"

#define FAR      ((rr_addr_t)2 << 48 | 7ull << 24 | 1) /* the scene over there */
#define PLAYERS  64
#define ENTERING 77 /* the number of its call */

/* The test's thread writes, the proxy's turns read; relaxed would do: what it is for comes later, through mailboxes. */
static _Atomic(bool) attaches = true; /* it answers a gate that looks for its login scene */
static _Atomic(bool) joins = true;    /* it has the sessions that came: says so before it answers their shard */
static _Atomic(bool) mute;         /* it does not answer it */
static const char *far_name;
static rr_addr_t proxy_addr;

typedef struct far { /* the proxy's turns only */
    struct player {
        rr_addr_t shard;
        uint64_t incarnation;
        uint32_t slot, hop;
        char id[32];
    } players[PLAYERS];
    size_t count;
    struct player *moving; /* that it has, and moves to scene@1 */
    struct player came;    /* that scene@1 moved here */
} far_t;

/* ---- What it says ---- */

static void post(rr_actor_t *self, rr_envelope_t env, rr_buffer_t *buffer) {
    env.from = FAR;
    env.weight = 1;
    env.buffer = buffer;
    env.data = buffer ? rr_buffer_data(buffer) : NULL;
    env.size = buffer ? (uint32_t)rr_buffer_size(buffer) : 0;
    int rc = rr_remote_deliver(rr_system_of(self), &env, NULL);
    ck_assert(rc == RR_OK || rc == RR_NOROUTE); /* who asked may have ended */
    rr_buffer_unref(buffer);
}

static void say_record(rr_actor_t *self, const struct player *player, uint16_t kind, uint16_t cmd, uint32_t arg, const void *body,
                       size_t size) {
    rr_batch_t batch = {0};
    uint8_t *room = rr_batch_add(&batch, kind, cmd, player->slot, player->incarnation, arg, size);
    ck_assert_ptr_nonnull(room);
    if (size)
        memcpy(room, body, size);
    post(self, (rr_envelope_t){.to = player->shard, .kind = RR_SEND, .type = RR_TYPE_OUTPUT}, rr_batch_take(&batch, 0, 0));
    rr_batch_free(&batch);
}

static void answer(rr_actor_t *self, const rr_envelope_t *env) {
    post(self, (rr_envelope_t){.to = env->from, .kind = RR_REPLY, .request = env->request}, NULL);
}

/* ---- What it hears ---- */

static void on_verify(rr_actor_t *self, far_t *far, rr_addr_t shard, const rr_record_t *record) {
    rr_login_head_t head;
    memcpy(&head, record->body, sizeof(head));
    const char *key = (const char *)record->body + sizeof(head) + head.ip_size;
    size_t size = record->size - sizeof(head) - head.ip_size;
    ck_assert_uint_lt(far->count, PLAYERS);
    struct player *player = &far->players[far->count++];
    *player = (struct player){.shard = shard, .slot = record->slot, .incarnation = record->incarnation};
    snprintf(player->id, sizeof(player->id), "%.*s", (int)size, key);
    uint8_t accept[4 + RR_SID_MAX];
    rr_sid_t id = sid_of(player->id);
    size_t sid_size = rr_sid_encode(&id, accept + 4);
    rr_put32(accept, (uint32_t)sid_size);
    say_record(self, player, RR_REC_ACCEPT, 0, 0, accept, 4 + sid_size);
    say_record(self, player, RR_REC_JOIN, 0, 0, NULL, 0);
    note("far accepts %s at %llx", player->id, (unsigned long long)shard);
    say_record(self, player, RR_REC_SEND, 100, 0, "welcome", 7);
}

static struct player *player_at(far_t *far, rr_addr_t shard, const rr_record_t *record) {
    for (size_t i = 0; i < far->count; i++)
        if (far->players[i].shard == shard && far->players[i].incarnation == record->incarnation)
            return &far->players[i];
    return NULL;
}

/* "go" takes it to scene@1; all else is noted, and answered. */
static void on_words(rr_actor_t *self, far_t *far, rr_addr_t shard, const rr_record_t *record) {
    struct player *player = player_at(far, shard, record);
    if (record->size == 2 && !memcmp(record->body, "go", 2)) {
        far->moving = player;
        say_record(self, player, RR_REC_MOVE, 0, ++player->hop, NULL, 0);
        return;
    }
    note("far hears %.*s", (int)record->size, (const char *)record->body);
    struct player of = {.shard = shard, .slot = record->slot, .incarnation = record->incarnation};
    say_record(self, &of, RR_REC_SEND, 42, 0, "heard", 5);
}

/* Nothing more comes for it here: to scene@1. */
static void on_fence(rr_actor_t *self, far_t *far) {
    const struct player *player = far->moving;
    rr_sid_t id = sid_of(player->id);
    uint8_t sid[RR_SID_MAX], body[sizeof(rr_enter_head_t) + 12 + RR_SID_MAX];
    rr_enter_head_t head = {.shard = player->shard, .login = FAR, .incarnation = player->incarnation, .online_time = 1700000000,
                            .slot = player->slot, .hop = player->hop, .gate_size = 6, .from_size = 6,
                            .sid_size = (uint32_t)rr_sid_encode(&id, sid)};
    memcpy(body, &head, sizeof(head));
    memcpy(body + sizeof(head), "gate@0scene0", 12);
    memcpy(body + sizeof(head) + 12, sid, head.sid_size);
    rr_addr_t to = rr_lookup(rr_system_of(self), "scene@1");
    post(self, (rr_envelope_t){.to = to, .kind = RR_CALL, .type = RR_TYPE_ENTER, .request = ENTERING},
         rr_buffer_copy(body, sizeof(head) + 12 + head.sid_size));
}

static void on_entered(rr_actor_t *self, const far_t *far) {
    uint8_t body[19] = {0};
    rr_put64(body, rr_lookup(rr_system_of(self), "scene@1"));
    memcpy(body + 12, "scene@1", 7);
    say_record(self, far->moving, RR_REC_MOVED, 0, far->moving->hop, body, sizeof(body));
}

static void on_batch(rr_actor_t *self, far_t *far, const rr_envelope_t *env) {
    rr_batch_reader_t reader;
    rr_record_t record;
    ck_assert_int_eq(rr_batch_open(&reader, env->data, env->size), RR_OK);
    while (rr_batch_next(&reader, &record) == RR_OK) {
        if (record.kind == RR_REC_VERIFY)
            on_verify(self, far, env->from, &record);
        else if (record.kind == RR_REC_MESSAGE)
            on_words(self, far, env->from, &record);
        else if (record.kind == RR_REC_FENCE)
            on_fence(self, far);
        else if (record.kind == RR_REC_RESUME)
            note("far resumes");
    }
}

static void on_call(rr_actor_t *self, far_t *far, const rr_envelope_t *env) {
    rr_enter_t enter;
    if (env->type == RR_TYPE_ENTER) {
        ck_assert_int_eq(rr_enter_decode(env->data, env->size, &enter), RR_OK);
        far->came = (struct player){.shard = enter.head.shard, .slot = enter.head.slot, .incarnation = enter.head.incarnation,
                                    .hop = enter.head.hop};
        answer(self, env);
    } else if (env->type == RR_TYPE_ATTACH && env->from == far->came.shard) {
        note("far is asked");
        if (joins && !mute)
            say_record(self, &far->came, RR_REC_JOIN, 0, far->came.hop, NULL, 0);
        if (!mute)
            answer(self, env);
    } else if (env->type == RR_TYPE_ATTACH && attaches) {
        answer(self, env);
    }
}

static void proxy_receive(rr_actor_t *self, void *state, rr_message_t *msg) {
    far_t *far = state;
    rr_envelope_t env;
    if (!rr_envelope_of(self, msg, &env) || env.to != FAR)
        return;
    if (env.kind == RR_CALL)
        on_call(self, far, &env);
    else if (env.kind == RR_SEND && env.type == RR_TYPE_INPUT)
        on_batch(self, far, &env);
    else if (env.kind == RR_REPLY && env.request == ENTERING)
        on_entered(self, far);
}
static const rr_behavior_t proxy = {.name = "proxy", .state_size = sizeof(far_t), .receive = proxy_receive, .proxy = true};

/* ---- The tests ---- */

static void connect_far(void) {
    ck_assert_int_eq(rr_route_set(node.system, 2, proxy_addr), RR_OK);
    ck_assert_int_eq(rr_remote_name_set(node.system, far_name, FAR), RR_OK);
}

static void lose_far(void) {
    ck_assert_int_eq(rr_route_set(node.system, 2, RR_NOBODY), RR_OK);
    rr_remote_names_forget(node.system, 2);
    rr_node_down(node.system, 2);
}

static void start_with(const char *far, rr_scene_lost_t lost) {
    prepare();
    far_name = far;
    node.options.scene_lost = lost;
    ck_assert_int_eq(rr_system_start(node.system), RR_OK);
    rr_spawn_t spec = {.behavior = &proxy};
    ck_assert_int_eq(rr_system_spawn(node.system, &spec, &proxy_addr), RR_OK);
    connect_far();
    for (size_t i = 0; i < 2; i++)
        if (strcmp(node.scenes[i].name, far))
            start_scene(i);
    start_gate();
    await_line("ready");
    await_line("scene@1 loaded");
}

/* Logs in over there, and says at which shard it is. */
static client_t *log_in_far(const char *key, char shard[32]) {
    char line[100];
    client_t *client = log_in(key);
    snprintf(line, sizeof(line), "far accepts %s at *", key);
    int at = await_line(line);
    pthread_mutex_lock(&happened.lock);
    snprintf(shard, 32, "%s", strstr(happened.lines[at], " at "));
    pthread_mutex_unlock(&happened.lock);
    return client;
}

/* A client at scene@1, whose login scene over there was lost by its shard, and is back. */
static client_t *who_has_lost_its_login_scene(void) {
    char shard[32], other[32] = "", key[16];
    client_t *client = log_in_far("alice", shard), *beside[PLAYERS];
    size_t n = 0;
    tell(client, 1, "go");
    expect(client, 100, "welcome"); /* of scene@1 */
    while (strcmp(shard, other)) {
        ck_assert_uint_lt(n, PLAYERS - 1);
        snprintf(key, sizeof(key), "beside%zu", n);
        beside[n++] = log_in_far(key, other);
    }
    attaches = false; /* the gate itself finds it later */
    lose_far();
    for (size_t i = 0; i < n; i++) {
        expect_closed(beside[i]);
        hang_up(beside[i]);
    }
    connect_far();
    return client;
}

START_TEST(a_scene_that_is_back_gets_who_moves_there) {
    start_with("scene@0", RR_LOST_CLOSE);
    client_t *a = who_has_lost_its_login_scene();
    tell(a, 1, "move:scene@0");
    tell(a, 1, "held");
    await_line("far is asked"); /* so MOVED was there before JOIN */
    expect(a, 42, "heard");
    await_line("far hears held");
    ck_assert(!was_noted("far resumes"));
    hang_up(a);
    finish();
}
END_TEST

START_TEST(one_that_knows_nothing_of_it_does_not) {
    start_with("scene@0", RR_LOST_CLOSE);
    joins = false;
    client_t *a = who_has_lost_its_login_scene();
    tell(a, 1, "move:scene@0");
    expect_closed(a);
    await_line("far is asked");
    hang_up(a);
    finish();
}
END_TEST

START_TEST(one_that_dies_does_not) {
    start_with("scene@0", RR_LOST_CLOSE);
    mute = true;
    client_t *a = who_has_lost_its_login_scene();
    tell(a, 1, "move:scene@0");
    await_line("far is asked");
    lose_far();
    expect_closed(a);
    hang_up(a);
    finish();
}
END_TEST

START_TEST(what_was_held_follows_the_resume) {
    start_with("scene@2", RR_LOST_WAIT);
    joins = false; /* its JOIN was lost with a link, and the session with it */
    client_t *a = log_in("alice");
    tell(a, 1, "move:scene@2");
    tell(a, 1, "held");
    expect(a, 42, "heard");
    ck_assert_int_lt(await_line("far is asked"), await_line("far resumes"));
    ck_assert_int_lt(await_line("far resumes"), await_line("far hears held"));
    hang_up(a);
    finish();
}
END_TEST

CHECK_MAIN("back", a_scene_that_is_back_gets_who_moves_there, one_that_knows_nothing_of_it_does_not, one_that_dies_does_not,
           what_was_held_follows_the_resume)
