/* options.h: every option of the config graph in one table: key, type, unit, default, bounds, the seed's spelling, doc.
 *
 * Validation, defaults, `redrabbit check --options` and OPTIONS.md all come from it. Any thread; no state. */
#ifndef RR_CONF_OPTIONS_H
#define RR_CONF_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "runtime/error.h"

/* What an option belongs to. An actor's scope is its role's. */
typedef enum rr_scope {
    RR_SCOPE_GRAPH = 1, /* the whole graph */
    RR_SCOPE_NODE = 2,
    RR_SCOPE_BROKER = 4,
    RR_SCOPE_GATE = 8,
    RR_SCOPE_SCENE = 16,
    RR_SCOPE_DATABASE = 32,
    RR_SCOPE_ACTOR = RR_SCOPE_BROKER | RR_SCOPE_GATE | RR_SCOPE_SCENE | RR_SCOPE_DATABASE,
} rr_scope_t;

/* "graph", "node", "broker", "gate", "scene", "database"; static storage. */
const char *rr_scope_name(rr_scope_t scope);
/* The scope of a role's name, 0 if there is no such role. */
rr_scope_t rr_scope_of_role(const char *role);

typedef enum rr_type {
    RR_TYPE_FLAG,      /* true, false (yes, no, on, off, 1, 0) */
    RR_TYPE_COUNT,     /* a whole number */
    RR_TYPE_DURATION,  /* stored in ms; "10s", "500ms", "2m", "1h"; a bare number is seconds */
    RR_TYPE_BYTES,     /* "64KiB", "1MiB", "2GiB"; a bare number is bytes */
    RR_TYPE_CHOICE,    /* one of option->choices */
    RR_TYPE_TEXT,
    RR_TYPE_NAME,      /* an actor's or node's name */
    RR_TYPE_ADDRESS,   /* scheme://host:port */
    RR_TYPE_ADDRESSES, /* a list of them */
    RR_TYPE_PATH,      /* relative to the file that names it */
    RR_TYPE_PATHS,     /* a list of them */
    RR_TYPE_TEXTS,     /* a list of texts */
    RR_TYPE_FOLDERS,   /* a path, or a map of URL prefix to path */
} rr_type_t;

typedef struct rr_option {
    unsigned scopes;     /* of rr_scope_t */
    const char *key;     /* as in YAML; a dot stands for nesting: restart.max is restart: { max: … } */
    rr_type_t type;
    const char *preset;  /* the default as one would write it; NULL = none */
    int64_t min, max;    /* numbers only, in the stored unit; both 0 = any that is not negative */
    const char *choices; /* "a|b|c" for RR_TYPE_CHOICE */
    const char *arg;     /* the command line's spelling, "-gate_listen"; NULL = YAML only */
    const char *doc;     /* one sentence */
} rr_option_t;

/* The table, its end marked by key == NULL. */
extern const rr_option_t rr_options[];

/* The option of that scope and key, NULL if there is none. */
const rr_option_t *rr_option_find(rr_scope_t scope, const char *key);
/* The option whose command line spelling is arg ("-gate_listen"), NULL if there is none. */
const rr_option_t *rr_option_find_arg(const char *arg);
/* True if some option of that scope is nested under key ("restart"). */
bool rr_option_is_group(rr_scope_t scope, const char *key);
/* True if values are lists (or a map): RR_TYPE_ADDRESSES, PATHS, TEXTS, FOLDERS. */
bool rr_option_is_list(const rr_option_t *option);
/* Flag, count, duration, bytes. */
bool rr_option_is_number(const rr_option_t *option);

/* Checks one text against an option's type and bounds; numbers (and the index of a choice) go to *number. RR_EINVAL: why
 * says what is wrong and how it should look. Paths are not looked up here. */
RR_MUST_CHECK int rr_option_parse(const rr_option_t *option, const char *text, int64_t *number, char *why, size_t why_size);

/* The candidate nearest to word if it is near enough to be a slip of the pen, copied to out, else NULL. `next` yields
 * candidates until NULL. Source: optimal string alignment distance (Damerau 1964). */
typedef const char *(*rr_next_fn)(void *state);
const char *rr_nearest(const char *word, rr_next_fn next, void *state, char *out, size_t size);
/* The same over the keys of a scope (over what stands before their dot, if word has none). */
const char *rr_nearest_key(rr_scope_t scope, const char *word, char *out, size_t size);
/* The same over all command line spellings. */
const char *rr_nearest_arg(const char *word, char *out, size_t size);

/* Writes the reference (OPTIONS.md). */
void rr_options_print(FILE *out);

#endif
