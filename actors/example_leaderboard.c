#include "actors/example_leaderboard.h"

#include <stdlib.h>
#include <string.h>

#define NOTICE_MS    100
#define MAX_WATCHERS 64 /* nothing is unbounded */

/* An actor's state is an ordinary struct. One message is handled at a time, so nothing in it needs a lock. */
typedef struct leaderboard {
    leaderboard_score_t *scores; /* best first */
    uint32_t count, capacity;
    struct {
        rr_addr_t addr;
        uint64_t monitor;
    } watchers[MAX_WATCHERS];
    unsigned watcher_count;
    bool notice_due; /* a timer runs */
} leaderboard_t;

/* The first turn. What it returns other than RR_OK ends the actor: its spawner's monitor, or its supervisor, learns
 * why. */
static int board_start(rr_actor_t *self, void *state, const void *arg) {
    leaderboard_t *board = state;
    const leaderboard_options_t *options = arg;
    board->capacity = options->capacity ? options->capacity : 1000;
    board->scores = calloc(board->capacity, sizeof(*board->scores));
    return board->scores ? RR_OK : RR_ENOMEM;
}

static uint32_t find(const leaderboard_t *board, uint64_t player) {
    uint32_t i = 0;
    while (i < board->count && board->scores[i].player != player)
        i++;
    return i;
}

/* Moves the entry at i to where its points belong. */
static void settle(leaderboard_t *board, uint32_t i) {
    leaderboard_score_t score = board->scores[i];
    for (; i > 0 && board->scores[i - 1].points < score.points; i--)
        board->scores[i] = board->scores[i - 1];
    for (; i + 1 < board->count && board->scores[i + 1].points > score.points; i++)
        board->scores[i] = board->scores[i + 1];
    board->scores[i] = score;
}

/* Many changes, one notice: a timer instead of a message per change. */
static void notify_soon(rr_actor_t *self, leaderboard_t *board) {
    if (!board->notice_due && board->watcher_count > 0)
        board->notice_due = rr_timer_start(self, NOTICE_MS, 0, 0, NULL) == RR_OK;
}

static void on_score(rr_actor_t *self, leaderboard_t *board, const rr_message_t *msg) {
    leaderboard_score_t score;
    if (rr_message_size(msg) != sizeof(score))
        return; /* messages come from anywhere: look before you read */
    memcpy(&score, rr_message_data(msg), sizeof(score));
    uint32_t i = find(board, score.player);
    if (i < board->count)
        board->scores[i].points += score.points;
    else if (board->count < board->capacity)
        board->scores[board->count++] = score;
    else if (score.points > board->scores[--i].points)
        board->scores[i] = score;
    else
        return;
    settle(board, i);
    notify_soon(self, board);
}

static void on_top(rr_actor_t *self, leaderboard_t *board, rr_message_t *msg) {
    uint32_t n;
    if (rr_message_size(msg) != sizeof(n)) {
        rr_reply_error(self, msg, RR_EHANDLER, "how many? send a uint32_t");
        return;
    }
    memcpy(&n, rr_message_data(msg), sizeof(n));
    n = n < board->count ? n : board->count;
    rr_reply(self, msg, board->scores, n * sizeof(*board->scores));
}

static void on_watch(rr_actor_t *self, leaderboard_t *board, rr_addr_t who) {
    if (who == RR_NOBODY || board->watcher_count == MAX_WATCHERS)
        return;
    /* The monitor tells when it ends, so that the list does not fill with the dead. */
    if (rr_monitor(self, who, &board->watchers[board->watcher_count].monitor) == RR_OK)
        board->watchers[board->watcher_count++].addr = who;
}

static void on_watcher_gone(leaderboard_t *board, uint64_t monitor) {
    for (unsigned i = 0; i < board->watcher_count; i++)
        if (board->watchers[i].monitor == monitor)
            board->watchers[i] = board->watchers[--board->watcher_count];
}

static void on_notice(rr_actor_t *self, leaderboard_t *board) {
    board->notice_due = false;
    for (unsigned i = 0; i < board->watcher_count && board->count > 0; i++) {
        int rc = rr_send(self, board->watchers[i].addr, LEADERBOARD_CHANGED, &board->scores[0], sizeof(*board->scores));
        if (rc != RR_OK && rc != RR_NOROUTE) /* full: it will hear of the next change */
            rr_log(rr_system_of(self), RR_WARN, "BOARD", "a watcher misses a notice: %s", rr_strerror(rc));
    }
}

/* Everything that arrives. What is not answered of a call is answered by the runtime with an error: no caller hangs. */
static void board_receive(rr_actor_t *self, void *state, rr_message_t *msg) {
    switch (rr_message_kind(msg)) {
    case RR_SEND:
        if (rr_message_type(msg) == LEADERBOARD_SCORE)
            on_score(self, state, msg);
        else if (rr_message_type(msg) == LEADERBOARD_WATCH)
            on_watch(self, state, rr_message_from(msg));
        break;
    case RR_CALL:
        if (rr_message_type(msg) == LEADERBOARD_TOP)
            on_top(self, state, msg);
        break;
    case RR_TIMER:
        on_notice(self, state);
        break;
    case RR_DOWN:
        on_watcher_gone(state, rr_message_request(msg));
        break;
    default:
        break;
    }
}

static void board_finish(rr_actor_t *self, void *state, int reason) {
    free(((leaderboard_t *)state)->scores);
}

static const rr_behavior_t board_behavior = {
    .name = "leaderboard",
    .state_size = sizeof(leaderboard_t),
    .start = board_start,
    .receive = board_receive,
    .finish = board_finish,
};

int leaderboard_spawn(rr_system_t *system, const leaderboard_options_t *options, rr_addr_t *out) {
    rr_spawn_t spec = {
        .behavior = &board_behavior, .arg = options, .arg_size = sizeof(*options), .name = options->name};
    return rr_system_spawn(system, &spec, out);
}
