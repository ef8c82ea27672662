/* seeds.h: the command line of programs that play from seeds: which ones, and what is said when one fails. */
#ifndef RR_TESTS_REPLAY_SEEDS_H
#define RR_TESTS_REPLAY_SEEDS_H

#include <stdbool.h>
#include <stdint.h>

/* Plays one seed to its end, or aborts; returns the trace of what happened. log: with the logs; print: one line behind it. */
typedef uint64_t (*seeds_run_fn)(uint64_t seed, bool log, bool print);

/* --seeds N, --first N; one again: --seed N, with --log. Each seed has a minute; every tenth, and one alone, is played twice
 * and must go the same way, and most others must go another. Returns main's status. `what`: what a seed is, in the last line. */
int seeds_main(int argc, char **argv, seeds_run_fn run, const char *what);

#endif
