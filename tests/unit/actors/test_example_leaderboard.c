/* The example actor does what its header says. */
#include <pthread.h>
#include <string.h>
#include <time.h>

#include "actors/example_leaderboard.h"
#include "tests/unit/check_main.h"

enum { ASK = 1, ASK_NONSENSE, WATCH };

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned replies, notices;
    int status;
    leaderboard_score_t top[10], leader;
    size_t count;
} got = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static rr_system_t *sys;
static rr_addr_t board;

static void on_top(rr_actor_t *self, void *state, int status, rr_message_t *msg, void *context) {
    pthread_mutex_lock(&got.lock);
    got.status = status;
    got.count = status == RR_OK ? rr_message_size(msg) / sizeof(*got.top) : 0;
    if (got.count)
        memcpy(got.top, rr_message_data(msg), got.count * sizeof(*got.top));
    got.replies++;
    pthread_cond_broadcast(&got.changed);
    pthread_mutex_unlock(&got.lock);
}

static void receive(rr_actor_t *self, void *state, rr_message_t *msg) {
    uint32_t type = rr_message_type(msg), n = 3;
    if (type == ASK)
        ck_assert_int_eq(rr_call(self, board, LEADERBOARD_TOP, &n, sizeof(n), 0, on_top, NULL, NULL), RR_OK);
    else if (type == ASK_NONSENSE)
        ck_assert_int_eq(rr_call(self, board, LEADERBOARD_TOP, "x", 1, 0, on_top, NULL, NULL), RR_OK);
    else if (type == WATCH)
        ck_assert_int_eq(rr_send(self, board, LEADERBOARD_WATCH, NULL, 0), RR_OK);
    else if (type == LEADERBOARD_CHANGED) {
        pthread_mutex_lock(&got.lock);
        memcpy(&got.leader, rr_message_data(msg), sizeof(got.leader));
        got.notices++;
        pthread_cond_broadcast(&got.changed);
        pthread_mutex_unlock(&got.lock);
    }
}

static const rr_behavior_t asker = {.name = "asker", .receive = receive};

static void await(const unsigned *count, unsigned at_least) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 30;
    pthread_mutex_lock(&got.lock);
    int rc = 0;
    while (*count < at_least && rc == 0)
        rc = pthread_cond_timedwait(&got.changed, &got.lock, &until);
    pthread_mutex_unlock(&got.lock);
    ck_assert_uint_ge(*count, at_least);
}

static void score(uint64_t player, int64_t points) {
    leaderboard_score_t s = {player, points};
    ck_assert_int_eq(rr_system_send(sys, board, LEADERBOARD_SCORE, &s, sizeof(s)), RR_OK);
}

START_TEST(scores_are_kept_in_order_and_watchers_told) {
    rr_options_t options;
    leaderboard_options_t board_options = {.name = "board@0", .capacity = 3};
    rr_spawn_t spec = {.behavior = &asker};
    rr_addr_t who;
    rr_options_init(&options);
    options.log_screen = false;
    ck_assert_int_eq(rr_system_create(&sys, &options), RR_OK);
    ck_assert_int_eq(rr_system_start(sys), RR_OK);
    ck_assert_int_eq(leaderboard_spawn(sys, &board_options, &board), RR_OK);
    ck_assert_uint_eq(rr_lookup(sys, "board@0"), board);
    ck_assert_int_eq(rr_system_spawn(sys, &spec, &who), RR_OK);
    score(1, 10);
    score(2, 30);
    score(3, 20);
    score(1, 15);
    score(4, 5);                                                                    /* not enough for a full board */
    score(5, 22);                                                                   /* takes the last one's place */
    ck_assert_int_eq(rr_system_send(sys, board, LEADERBOARD_SCORE, "x", 1), RR_OK); /* ignored */
    ck_assert_int_eq(rr_system_send(sys, who, ASK, NULL, 0), RR_OK);
    await(&got.replies, 1);
    ck_assert_uint_eq(got.count, 3);
    ck_assert_uint_eq(got.top[0].player, 2);
    ck_assert_uint_eq(got.top[1].player, 1);
    ck_assert_int_eq(got.top[1].points, 25);
    ck_assert_uint_eq(got.top[2].player, 5);
    ck_assert_int_eq(rr_system_send(sys, who, ASK_NONSENSE, NULL, 0), RR_OK);
    await(&got.replies, 2);
    ck_assert_int_eq(got.status, RR_EHANDLER);
    ck_assert_int_eq(rr_system_send(sys, who, WATCH, NULL, 0), RR_OK);
    ck_assert_int_eq(rr_system_send(sys, who, ASK, NULL, 0), RR_OK); /* behind it: it watches now */
    await(&got.replies, 3);
    for (int i = 0; i < 50; i++)
        score(5, 10);
    await(&got.notices, 1);
    ck_assert_uint_eq(got.leader.player, 5);
    rr_kill(sys, who, RR_OK); /* a dead watcher does no harm */
    score(5, 1);
    ck_assert_int_eq(rr_system_drain(sys, 5000), RR_OK);
    rr_system_stop(sys);
    rr_system_destroy(sys);
}
END_TEST

CHECK_MAIN("example_leaderboard", scores_are_kept_in_order_and_watchers_told)
