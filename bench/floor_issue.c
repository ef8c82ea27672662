/* What a core issues: additions that do not wait for each other, and multiplications of which each waits for the one before.
 * The latter goes with the clock alone. The former also falls where the host lets somebody else run on the same core (SMT):
 * then code of many independent instructions, as an actor's turn, falls with it, and the bare queue, which mostly waits for
 * its own last result, does not. */
#include <sched.h>

#include "bench/floor.h"

#define ROUNDS 10000u
#define LOOK_NS 1000000u

/* The value is needed here, and may be another one afterwards: so nothing is added up at compile time. */
#define USE(x) __asm__ volatile("" : "+r"(x))

static void additions(void) { /* 8 a round */
    uint64_t a = 0, b = 0, c = 0, d = 0;
    for (unsigned i = 0; i < ROUNDS; i++) {
        a++;
        USE(a);
        b++;
        USE(b);
        c++;
        USE(c);
        d++;
        USE(d);
        a++;
        USE(a);
        b++;
        USE(b);
        c++;
        USE(c);
        d++;
        USE(d);
    }
}

static void multiplications(void) { /* one a round */
    uint64_t x = 3;
    for (unsigned i = 0; i < ROUNDS; i++) {
        x *= x;
        USE(x);
    }
}

/* Rounds a second. */
static double rate(void (*work)(void), uint64_t ns) {
    uint64_t began = bench_now_ns(), now = began, done = 0;
    while (now - began < ns) {
        work();
        done += ROUNDS;
        now = bench_now_ns();
    }
    return (double)done * 1e9 / (double)(now - began);
}

void floor_issue(const floor_params_t *p, bench_run_t *out) {
    double added = 0, multiplied = 0;
    unsigned looks = 0;
    for (uint64_t end = bench_now_ns() + (uint64_t)(p->duration * 1e9); looks == 0 || bench_now_ns() < end; looks++) {
        added += 8 * rate(additions, LOOK_NS);
        multiplied += rate(multiplications, LOOK_NS);
    }
    bench_metric(out, "additions", "/s", BENCH_HIGHER, added / looks);
    bench_metric(out, "multiplications", "/s", BENCH_HIGHER, multiplied / looks);
}

double floor_issue_now(void) {
    cpu_set_t mask;
    double sum = 0;
    int cpus = bench_cpus(), looks = 0;
    if (sched_getaffinity(0, sizeof mask, &mask) != 0)
        return 0;
    for (int cpu = 0; cpu < cpus && cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET((unsigned)cpu, &mask))
            continue;
        bench_pin(cpu);
        sum += 8 * rate(additions, LOOK_NS);
        looks++;
    }
    sched_setaffinity(0, sizeof mask, &mask);
    return looks ? sum / looks : 0;
}
