/* example_leaderboard.h: an actor to learn from, and to start one's own from: a leaderboard. It needs redrabbit.h only.
 *
 *     rr_addr_t board;
 *     leaderboard_options_t options = {.name = "board@0", .capacity = 100};
 *     int rc = leaderboard_spawn(system, &options, &board);
 *
 * From an actor: rr_send(self, board, LEADERBOARD_SCORE, &score, sizeof(score)); rr_call(self, board, LEADERBOARD_TOP,
 * &n, sizeof(n), 0, on_top, NULL, NULL) with n a uint32_t; on_top gets an array of leaderboard_score_t, best first. */
#ifndef RR_ACTORS_EXAMPLE_LEADERBOARD_H
#define RR_ACTORS_EXAMPLE_LEADERBOARD_H

#include "runtime/redrabbit.h"

enum {
    LEADERBOARD_SCORE = 0x1000, /* send: leaderboard_score_t; a player's points go up or down by that much */
    LEADERBOARD_TOP,            /* call: uint32_t how many -> leaderboard_score_t[] */
    LEADERBOARD_WATCH,          /* send: from now on the sender gets LEADERBOARD_CHANGED, until it ends */
    LEADERBOARD_CHANGED,        /* send, at most one in 100 ms: leaderboard_score_t, the leader */
};

typedef struct leaderboard_score {
    uint64_t player;
    int64_t points;
} leaderboard_score_t;

typedef struct leaderboard_options {
    const char *name;  /* NULL = anonymous */
    uint32_t capacity; /* players; 0 = 1,000. A new one takes the last one's place if it has more points */
} leaderboard_options_t;

/* Any thread. options are copied. Errors as rr_system_spawn. */
RR_MUST_CHECK int leaderboard_spawn(rr_system_t *system, const leaderboard_options_t *options, rr_addr_t *out);

#endif
