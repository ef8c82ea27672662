/* world.h: actors that do everything at random, and a checker that knows every message. Driven by threads in
 * stress_runtime.c, by a seed in replay_runtime.c.
 *
 * Checked while it runs: an actor handles one message at a time; messages from one actor to another arrive all and in
 * order (with gaps where the receiver sheds); payloads are intact; every call ends once, with the answer to this question;
 * every timer fires once and not early, none after its cancelling; a monitor tells once, about its target; names have one
 * owner. Checked at the end, when all is quiet: no call or timer is left waiting, nobody misses a death it watches or is
 * linked to, and accepted = handled + dead letters. A wrong thing ends the process at once, with the seed. */
#ifndef RR_TESTS_WORLD_H
#define RR_TESTS_WORLD_H

#include <stdatomic.h>

#include "runtime/executor.h"
#include "runtime/random.h"
#include "runtime/redrabbit.h"

enum { WORLD_SLOTS = 128, WORLD_IDS = 1 << 20, WORLD_NAMES = 12 };

typedef struct world {
    rr_system_t *system;
    rr_executor_t *executors[4]; /* where actors are born, NULL = the core workers; set by the driver after world_init */
    bool may_block;              /* in executors[1]: its workers have spares */
    uint64_t seed;
    _Atomic(rr_addr_t) slots[WORLD_SLOTS]; /* somebody's address: alive or not */
    /* What became of each actor, by number. Written by it, read by others: relaxed but for the end. */
    _Atomic(rr_addr_t) *addr_of;
    _Atomic(int) *ended; /* 0 = not (or never began), else 1 - reason */
    _Atomic(uint32_t) next_id;
    _Atomic(uint64_t) accepted, no_route, handled; /* sends */
    _Atomic(uint64_t) activity;                                /* anything at all: the watchdog's pulse */
    _Atomic(uint64_t) calls, replies, timers, downs, exits, spawns, audits, audited;
    _Atomic(uint32_t) name_owner[WORLD_NAMES];
    _Atomic(bool) poked; /* the end: no more from outside */
    _Atomic(bool) calm;  /* and no new mischief inside */
} world_t;

/* system: made and started. Nobody is in it yet: world_poke brings them. */
void world_init(world_t *world, rr_system_t *system, uint64_t seed);
void world_free(world_t *world);

/* One poke from outside: a message to somebody, a new actor, a kill. `random` is the caller's. */
void world_poke(world_t *world, rr_random_t *random);

/* All is quiet: asks everyone alive to look at its books. Returns how many were asked: world->audited must reach it. */
uint64_t world_audit(world_t *world);

/* All actors are gone: the sums. */
void world_check_sums(world_t *world);

/* The books as one line. */
void world_print(const world_t *world);

#endif
