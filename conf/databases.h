/* databases.h: the databases of a process: those that its share of the graph names, and those that its scripts open by URL. All on
 * one loop of their own, which is made when the first one is. */
#ifndef RR_CONF_DATABASES_H
#define RR_CONF_DATABASES_H

#include "actors/database/database.h"
#include "conf/graph.h"

typedef struct rr_databases rr_databases_t;

typedef struct rr_databases_options {
    rr_graph_t *graph; /* must outlive them */
    rr_system_t *system;
    rr_loop_t *const *loops; /* the process' others, loop_count of them: they must outlive them */
    size_t loop_count;
    bool leased; /* names of the graph are the group's */
    /* One of the graph's has ended for good: its name is another node's, or it failed too often. Any thread; must not block. */
    void (*ended)(void *context, const char *name, int reason);
    void *context;
} rr_databases_options_t;

/* The password that password_env or password_file says, NUL-terminated into out (size 0: only looks). RR_OK ("" if neither is
 * given), or RR_EINVAL, RR_EIO with one line in why, which never contains it. */
RR_MUST_CHECK int rr_database_password(const rr_item_t *database, char *out, size_t size, char *why, size_t why_size);

/* Makes the graph's, after its loops; nothing runs yet. Main thread. RR_OK, or why has one line. */
RR_MUST_CHECK int rr_databases_create(const rr_databases_options_t *options, rr_databases_t **out, char *why, size_t why_size);
/* Spawns them, each under a supervisor. Before the scenes. Main thread. Errors as above. */
RR_MUST_CHECK int rr_databases_start(rr_databases_t *databases, char *why, size_t why_size);

/* rr_scene_options_t.open_database. `folder`: that a relative file of SQLite's is relative to. Any thread. */
RR_MUST_CHECK int rr_databases_open(rr_databases_t *databases, const char *url, const char *folder, unsigned pool, char *name,
                                    size_t name_size, char *why, size_t why_size);

/* Ends them behind their scenes: what was asked is finished, what was left open rolled back. RR_OK, RR_TIMEOUT. Main thread. */
RR_MUST_CHECK int rr_databases_stop(rr_databases_t *databases, unsigned deadline_ms);
void rr_databases_destroy(rr_databases_t *databases); /* after rr_system_stop; NULL is allowed */

#endif
