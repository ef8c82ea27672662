/* scenario.h: what a scripted client does, one step a line:
 *
 *     think 500ms..1500ms      wait so long (uniform between the two)
 *     send 1 hello {n} {i}     a message with that cmd and body; {n} = client, {i} = how many it has sent, {tag} = both,
 *                              as 16 hexadecimal digits
 *     expect 1                 wait for a message of that cmd; latency counts from when the last send was due
 *     expect 1 same            … whose body must be the one sent last
 *     expect 1 containing TEXT … whose body must contain TEXT ({n}, {i} as above)
 *     broadcast 2 BODY         a send that every client must receive with that cmd, all in the same order
 *     maybe 10%                do the next step with that probability, skip it otherwise
 *     repeat                   from the first step again (also what the end does)
 *
 * '#' begins a comment line. The login is the program's. */
#ifndef RR_BENCH_SCENARIO_H
#define RR_BENCH_SCENARIO_H

#include <stdbool.h>
#include <stdint.h>

typedef enum step_kind { STEP_THINK, STEP_SEND, STEP_EXPECT, STEP_BROADCAST, STEP_MAYBE } step_kind_t;
typedef enum expect_kind { EXPECT_ANY, EXPECT_SAME, EXPECT_CONTAINING } expect_kind_t;

typedef struct step {
    step_kind_t kind;
    expect_kind_t expect;
    uint16_t cmd;
    double from, to; /* seconds; MAYBE: the probability in from */
    char *text;      /* owned */
} step_t;

typedef struct scenario {
    step_t *steps;
    unsigned count;
} scenario_t;

/* Ends the program with file and line if the text is wrong. */
void scenario_parse(scenario_t *scenario, const char *text, const char *file);
void scenario_load(scenario_t *scenario, const char *path);
void scenario_free(scenario_t *scenario);

#endif
