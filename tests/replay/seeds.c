#include "tests/replay/seeds.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SEED_SECONDS 60

static char last_words[100];

static void on_failure(int number) {
    if (write(STDERR_FILENO, last_words, strlen(last_words)) < 0)
        _exit(3);
    signal(number, SIG_DFL);
    raise(number);
}

static uint64_t play(seeds_run_fn run, uint64_t seed, bool log, bool print) {
    snprintf(last_words, sizeof last_words, "failed; play it again with --seed %llu --log\n", (unsigned long long)seed);
    alarm(SEED_SECONDS);
    return run(seed, log, print);
}

int seeds_main(int argc, char **argv, seeds_run_fn run, const char *what) {
    uint64_t seeds = 100, first = 1;
    bool one = false, log = false;
    for (int i = 1; i < argc; i++) {
        uint64_t value = i + 1 < argc ? strtoull(argv[i + 1], NULL, 10) : 0;
        log = log || strcmp(argv[i], "--log") == 0;
        if (strcmp(argv[i], "--seeds") == 0)
            seeds = value;
        else if (strcmp(argv[i], "--first") == 0 || strcmp(argv[i], "--seed") == 0)
            first = value;
        if (strcmp(argv[i], "--seed") == 0)
            seeds = one = true;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    signal(SIGABRT, on_failure);
    signal(SIGALRM, on_failure);
    signal(SIGSEGV, on_failure);
    uint64_t different = 0, last = 0;
    for (uint64_t seed = first; seed < first + seeds; seed++) {
        uint64_t trace = play(run, seed, log, one);
        if ((one || seed % 10 == 0) && !log && play(run, seed, false, false) != trace) {
            fprintf(stderr, "seed %llu: two runs differ\n", (unsigned long long)seed);
            return EXIT_FAILURE;
        }
        different += trace != last;
        last = trace;
    }
    if (different < seeds / 2) {
        fprintf(stderr, "different seeds give equal runs\n");
        return EXIT_FAILURE;
    }
    printf("%llu %s\n", (unsigned long long)seeds, what);
    return EXIT_SUCCESS;
}
