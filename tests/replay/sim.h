/* sim.h: a network and a clock that exist only here: several nodes in one process under virtual time, their connections made
 * of queues with delays, cuts, partitions and pauses drawn from a seed. One thread. A node's life is one incarnation: it is
 * started, and killed (with or without a word to the others); the place it was at may then get another one. */
#ifndef RR_TESTS_SIM_H
#define RR_TESTS_SIM_H

#include "net/mesh_impl.h"
#include "runtime/random.h"
#include "runtime/replay.h"

#define SIM_PLACES 128
#define SIM_MS 1000000ull

typedef struct sim sim_t;
typedef struct sim_life sim_life_t;
typedef struct sim_end sim_end_t;
typedef struct sim_conn sim_conn_t;

typedef struct sim_path { /* between two places, one direction */
    uint64_t delay_ns, jitter_ns, per_byte_ns;
    uint64_t blocked_until; /* nothing arrives before */
} sim_path_t;

struct sim_life {
    rr__carrier_t base;
    sim_t *sim;
    unsigned place, node;
    uint64_t incarnation;
    rr_system_t *system;
    rr_executor_t *executor;
    rr_mesh_t *mesh;
    rr_deferred_t *deferred;
    uint64_t timer_number[RR__TIMERS]; /* only the latest setting fires */
    uint64_t paused_until;             /* as by SIGSTOP */
    uint64_t paused_last;              /* when its last pause ended */
    uint64_t died_ns;                  /* 0 = alive */
    bool silenced, listens;
    sim_life_t *next; /* of sim->lives, newest first */
    void (*end)(sim_life_t *life); /* its mesh's, behind its system's stop; NULL = rr_mesh_destroy */
    void *user;
};

struct sim {
    uint64_t now, number; /* number: of events, for their order */
    rr_random_t random;
    struct sim_event *heap;
    size_t count, capacity;
    sim_life_t *lives, *at[SIM_PLACES]; /* at: NULL = nobody there */
    sim_life_t *inside;                 /* whose carrier's thread this is now */
    sim_conn_t *conns;
    sim_path_t paths[SIM_PLACES][SIM_PLACES];
    uint64_t steps, trace;
    uint64_t bytes, writes; /* put on connections so far */
    unsigned places;
};

void sim_init(sim_t *sim, uint64_t seed, unsigned places);
void sim_destroy(sim_t *sim); /* kills who is left */

/* A node at a free place, whose mesh has these options (self.node and self.incarnation set). It runs from now on. */
sim_life_t *sim_start(sim_t *sim, unsigned place, const rr_mesh_options_t *options, rr_level_t log_level, void *user);
/* The two halves of it: a node without a mesh, and its mesh, for whoever makes that otherwise. RR_ENOMEM and as of
 * rr_mesh_create. */
sim_life_t *sim_boot(sim_t *sim, unsigned place, unsigned node, uint64_t incarnation, rr_level_t log_level, void *user);
int sim_mesh(void *life, const rr_mesh_options_t *options, rr_mesh_t **out, char *why, size_t why_size);
int sim_post(void *life, void (*fn)(void *context), void *context);
/* polite: it says that it leaves. Else it falls silent; tell = its peers' connections break at once (a dead process), else
 * not at all (a dead machine). Not from inside a turn. */
void sim_kill(sim_life_t *life, bool polite, bool tell);
void sim_pause(sim_life_t *life, uint64_t until);
void sim_cut(sim_t *sim, sim_conn_t *conn);
void sim_hurry(sim_t *sim); /* what is on its way arrives now */
sim_conn_t *sim_any_conn(sim_t *sim); /* a random open one; NULL */

/* fn(context, number) at that time, unless the life (NULL: the world) is over; while it is paused: behind the pause. */
void sim_at(sim_t *sim, uint64_t when, sim_life_t *life, void (*fn)(void *context, uint64_t number), void *context, uint64_t number);
/* From here on this is that life's thread, now; NULL: nobody's again. */
void sim_enter(sim_t *sim, sim_life_t *life);
/* Runs everything up to that time. */
void sim_run(sim_t *sim, uint64_t until);

static inline uint64_t sim_below(sim_t *sim, uint64_t bound) { return rr_random_below(&sim->random, bound); }
static inline bool sim_chance(sim_t *sim, unsigned percent) { return rr_random_below(&sim->random, 100) < percent; }

#endif
