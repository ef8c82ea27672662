/* Names that changed hands: who lost one is neither heard nor spoken to, and the new owner says so itself, in order. */
#include "runtime/remote.h"
#include "tests/unit/runtime/rig.h"

static rr_system_t *sys;
static latch_t heard = LATCH_INIT, ended = LATCH_INIT;
static _Atomic(int) status;

static const rr_addr_t local_node = 1ull << 48;

static void nothing_receive(rr_actor_t *self, void *state, rr_message_t *msg) { latch_add(&heard, 1); }
static const rr_behavior_t nothing = {.name = "nothing", .receive = nothing_receive};

static void on_reply(rr_actor_t *self, void *state, int code, rr_message_t *msg, void *context) {
    status = code;
    latch_add(&ended, 1);
}
static void caller_receive(rr_actor_t *self, void *state, rr_message_t *msg) {
    rr_addr_t to;
    memcpy(&to, rr_message_data(msg), sizeof to);
    MUST(rr_call(self, to, 1, NULL, 0, 20000, on_reply, NULL, NULL) == RR_OK);
}
static const rr_behavior_t caller = {.name = "caller", .receive = caller_receive};

/* Keeps what goes to node 2. */
static struct {
    pthread_mutex_t lock;
    rr_envelope_t last;
} sent = {.lock = PTHREAD_MUTEX_INITIALIZER};
static latch_t sends = LATCH_INIT;

static void proxy_receive(rr_actor_t *self, void *state, rr_message_t *msg) {
    rr_envelope_t env;
    if (!rr_envelope_of(self, msg, &env))
        return;
    pthread_mutex_lock(&sent.lock);
    sent.last = env;
    pthread_mutex_unlock(&sent.lock);
    latch_add(&sends, 1);
}
static const rr_behavior_t proxy = {.name = "proxy", .receive = proxy_receive, .proxy = true};

static const rr_addr_t older = 2ull << 48 | 5 << 24 | 1, newer = 3ull << 48 | 6 << 24 | 1;

static void begin(void) {
    sys = rig_start(2);
    rr_addr_t p = rig_spawn_behavior(sys, &proxy);
    ck_assert_int_eq(rr_route_set(sys, 2, p), RR_OK);
    ck_assert_int_eq(rr_route_set(sys, 3, p), RR_OK);
}

static int send_from(rr_addr_t from, rr_addr_t to, unsigned kind) {
    rr_envelope_t env = {.to = to, .from = from, .kind = (uint8_t)kind, .weight = 1, .request = kind == RR_SEND ? 0 : 1};
    return rr_remote_deliver(sys, &env, NULL);
}

static int call(rr_addr_t from, rr_addr_t to) {
    uint64_t before = latch_count(&ended);
    ck_assert_int_eq(rr_system_send(sys, from, 1, &to, sizeof to), RR_OK);
    latch_wait(&ended, before + 1);
    return status;
}

START_TEST(the_highest_epoch_counts) {
    begin();
    rr_addr_t here = rig_spawn_behavior(sys, &nothing), asks = rig_spawn_behavior(sys, &caller);
    ck_assert(rr_fence_name(sys, "scene@0", older, 5));
    ck_assert_int_eq(send_from(older, here, RR_SEND), RR_OK);
    ck_assert_int_eq(rr_system_send(sys, older, 1, NULL, 0), RR_OK);
    latch_wait(&sends, 1);
    ck_assert(rr_fence_name(sys, "scene@0", newer, 9));
    ck_assert_int_eq(send_from(older, here, RR_SEND), RR_STALE);
    ck_assert_int_eq(send_from(older, here, RR_CALL), RR_STALE);
    ck_assert_int_eq(send_from(older, here, RR_KIND_MONITOR), RR_STALE);
    ck_assert_int_eq(send_from(older, here, RR_DOWN), RR_OK); /* of its end one may hear */
    ck_assert_int_eq(rr_system_send(sys, older, 1, NULL, 0), RR_STALE);
    ck_assert_int_eq(call(asks, older), RR_STALE);
    ck_assert_int_eq(send_from(newer, here, RR_SEND), RR_OK);
    ck_assert_int_eq(rr_system_send(sys, newer, 1, NULL, 0), RR_OK);
    ck_assert(!rr_fence_name(sys, "scene@0", older, 5)); /* late news changes nothing */
    ck_assert_int_eq(send_from(newer, here, RR_SEND), RR_OK);
    ck_assert(rr_fence_name(sys, "scene@0", RR_NOBODY, 9)); /* released: its epoch stays */
    ck_assert(!rr_fence_name(sys, "scene@0", older, 5));
    rr_fences_forget(sys, 2);
    ck_assert_int_eq(send_from(older, here, RR_SEND), RR_OK);
    rig_end(sys);
}
END_TEST

START_TEST(who_has_it_again_is_heard_again) {
    begin();
    rr_addr_t here = rig_spawn_behavior(sys, &nothing);
    ck_assert(rr_fence_name(sys, "scene@0", older, 5));
    ck_assert(rr_fence_name(sys, "scene@0", newer, 9));
    ck_assert(rr_fence_name(sys, "scene@0", older, 11));
    ck_assert_int_eq(send_from(older, here, RR_SEND), RR_OK);
    ck_assert_int_eq(send_from(newer, here, RR_SEND), RR_STALE);
    rig_end(sys);
}
END_TEST

START_TEST(a_stale_reply_is_no_answer) {
    begin();
    rr_addr_t asks = rig_spawn_behavior(sys, &caller);
    ck_assert(rr_fence_name(sys, "scene@0", older, 5));
    ck_assert_int_eq(rr_system_send(sys, asks, 1, &older, sizeof older), RR_OK);
    latch_wait(&sends, 1);
    ck_assert(rr_fence_name(sys, "scene@0", newer, 9));
    rr_envelope_t reply = {.to = asks, .from = older, .request = sent.last.request, .kind = RR_REPLY, .weight = 1};
    ck_assert_int_eq(rr_remote_deliver(sys, &reply, NULL), RR_OK);
    latch_wait(&ended, 1);
    ck_assert_int_eq(status, RR_LINKDOWN); /* maybe executed */
    rig_end(sys);
}
END_TEST

START_TEST(owners_announce_themselves) {
    begin();
    static rr_announced_t session;
    rr_announcement_t news;
    rr_addr_t here = rig_spawn_behavior(sys, &nothing), mine = local_node | 77 << 24 | 3;
    rr_envelope_t env = {.to = newer, .from = mine, .kind = RR_SEND, .weight = 1};
    ck_assert(!rr_announce(sys, &session, &env, &news)); /* has no name */
    ck_assert_int_eq(rr_fence_own(sys, "scene@0", mine, 5), RR_OK);
    ck_assert(rr_announce(sys, &session, &env, &news));
    ck_assert(!rr_announce(sys, &session, &env, &news)); /* once */
    ck_assert_int_eq(rr_fence_own(sys, "scene@1", mine, 6), RR_OK);
    ck_assert_int_eq(rr_fence_own(sys, "scene@0", mine, 7), RR_OK); /* had again: instead of the first */
    ck_assert(rr_announce(sys, &session, &env, &news));
    ck_assert_uint_eq(news.env.size, 2 * (9 + 7));
    session = (rr_announced_t){0}; /* another session */
    ck_assert(rr_announce(sys, &session, &env, &news));
    /* As another node would hear it. */
    ck_assert(rr_fence_name(sys, "scene@0", older, 6));
    news.env.to = here;
    news.env.from = newer;
    ck_assert_int_eq(rr_remote_deliver(sys, &news.env, NULL), RR_OK);
    ck_assert_int_eq(send_from(older, here, RR_SEND), RR_STALE);
    ck_assert_int_eq(send_from(newer, here, RR_SEND), RR_OK);
    for (uint32_t size = 1; size < news.env.size; size++) { /* cut short anywhere but between two names */
        rr_envelope_t cut = news.env;
        cut.size = size;
        ck_assert_int_eq(rr_remote_deliver(sys, &cut, NULL), size == 16 ? RR_OK : RR_EPROTO);
    }
    ck_assert_uint_eq(latch_count(&heard) > 1, 0); /* announcements are nobody's message */
    rig_end(sys);
}
END_TEST

CHECK_MAIN("fence", the_highest_epoch_counts, who_has_it_again_is_heard_again, a_stale_reply_is_no_answer,
           owners_announce_themselves)
