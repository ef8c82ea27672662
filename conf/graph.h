/* graph.h: the config graph: which actors there are, on which nodes, with which options. Pure data; both front ends
 * (from_yaml, from_args) build it, rr_graph_check proves it sound, spawn.h makes it live.
 *
 * Every item and value remembers where it was written, so that every error is one line: FILE:LINE:COLUMN: what is wrong;
 * how to mend it. A graph belongs to one thread at a time. */
#ifndef RR_CONF_GRAPH_H
#define RR_CONF_GRAPH_H

#include "conf/options.h"

typedef struct rr_place {
    const char *file; /* owned by the graph; for the command line the option's spelling */
    int line, column; /* from 1; line 0 = the command line */
} rr_place_t;

/* What a front end read: one text, or a list of them, or a map (keys != NULL). Borrowed. */
typedef struct rr_raw {
    rr_place_t place;
    const char *const *texts;
    const char *const *keys;   /* NULL unless a map */
    const rr_place_t *places;  /* of each text; NULL = place */
    size_t count;
    bool list;                 /* written as a list or map; a single text is allowed for a list too */
} rr_raw_t;

/* A checked value. */
typedef struct rr_value {
    const rr_option_t *option;
    rr_place_t place;
    int64_t number; /* flag, count, duration (ms), bytes, index of a choice */
    size_t count;   /* of texts: 1 unless a list */
    char **texts;   /* paths are resolved against the file's folder */
    char **keys;    /* NULL unless a map */
    rr_place_t *places;
} rr_value_t;

/* The graph itself, a node or an actor. */
typedef struct rr_item {
    rr_scope_t scope; /* 0 while an actor's role is unknown */
    char *name;       /* "" for the graph */
    rr_place_t place;
    rr_value_t *values;
    size_t value_count, value_capacity;
} rr_item_t;

typedef struct rr_graph rr_graph_t;

/* NULL when out of memory. */
rr_graph_t *rr_graph_new(void);
void rr_graph_free(rr_graph_t *graph);

/* ---- Building (front ends) ---- */

/* An own copy of a file's name that lives as long as the graph; NULL when out of memory. */
const char *rr_graph_intern(rr_graph_t *graph, const char *file);
/* Adds a node or an actor. A name that is illegal or in use is an error of the graph, but the item is still added so that
 * its options are checked too. NULL when out of memory. The pointer holds as long as the graph. */
rr_item_t *rr_graph_add(rr_graph_t *graph, rr_scope_t scope, const char *name, rr_place_t place);
/* Sets an option; a wrong key or value is an error of the graph. `base` = the folder that paths are relative to, NULL =
 * as they are. `again` = an earlier value may be replaced (the command line wins over -f). */
void rr_graph_set(rr_graph_t *graph, rr_item_t *item, const char *key, const rr_raw_t *raw, const char *base, bool again);

/* Notes an error (at most 50 are kept). The text is "what; how to mend". */
void rr_graph_error(rr_graph_t *graph, rr_place_t place, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* Notes something that is allowed but probably not meant. */
void rr_graph_warn(rr_graph_t *graph, rr_place_t place, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* ---- Reading ---- */

rr_item_t *rr_graph_top(rr_graph_t *graph);
size_t rr_graph_node_count(const rr_graph_t *graph);
rr_item_t *rr_graph_node(rr_graph_t *graph, size_t index);
size_t rr_graph_actor_count(const rr_graph_t *graph);
rr_item_t *rr_graph_actor(rr_graph_t *graph, size_t index);
/* By name; NULL if there is none. */
rr_item_t *rr_graph_find_actor(rr_graph_t *graph, const char *name);
rr_item_t *rr_graph_find_node(rr_graph_t *graph, const char *name);

/* The value that was set, NULL if none was. */
const rr_value_t *rr_item_value(const rr_item_t *item, const char *key);
/* The number that was set, else the table's default (0 if it has none). The key must exist in the item's scope. */
int64_t rr_item_number(const rr_item_t *item, const char *key);
bool rr_item_flag(const rr_item_t *item, const char *key);
/* The text that was set, else the table's default, which may be NULL. */
const char *rr_item_text(const rr_item_t *item, const char *key);

/* Errors and warnings as whole lines without a newline, in order. */
size_t rr_graph_error_count(const rr_graph_t *graph);
const char *rr_graph_error_text(const rr_graph_t *graph, size_t index);
size_t rr_graph_warning_count(const rr_graph_t *graph);
const char *rr_graph_warning_text(const rr_graph_t *graph, size_t index);

/* ---- One node's share (--node) ---- */

/* This process is that node; NULL = none in particular. RR_ENOENT: there is no such node, with the error in the graph. Before
 * rr_graph_check: what other nodes need (scripts, folders) is not looked for on this machine. */
RR_MUST_CHECK int rr_graph_select(rr_graph_t *graph, const char *node);
/* The node that was chosen; NULL = none. */
const rr_item_t *rr_graph_selected(const rr_graph_t *graph);
/* "a, b, c": the graph's nodes, for messages; returns out. */
const char *rr_graph_node_names(rr_graph_t *graph, char *out, size_t size);
/* True if this process runs the actor. */
bool rr_graph_runs(const rr_graph_t *graph, const rr_item_t *actor);

/* ---- Checking (check.c) ---- */

/* Looks at the whole: roles, references, addresses given twice, files that must exist. Adds the broker that a graph
 * without one implies. RR_OK, or RR_EINVAL with the errors in the graph (those of the front end count too). */
RR_MUST_CHECK int rr_graph_check(rr_graph_t *graph);

/* ---- Front ends and pictures ---- */

/* from_yaml.c. Reads a YAML file / text of `size` bytes called `file`. RR_OK, or RR_EIO / RR_ESYNTAX / RR_ENOMEM with the
 * errors in the graph. Anchors and aliases are refused: a graph's size is the size of its text. */
RR_MUST_CHECK int rr_graph_read_yaml(rr_graph_t *graph, const char *file);
RR_MUST_CHECK int rr_graph_parse_yaml(rr_graph_t *graph, const char *file, const char *text, size_t size);

/* from_args.c. Reads the seed's options (argv without the program's name); files given with -f are read. Same errors. */
RR_MUST_CHECK int rr_graph_read_args(rr_graph_t *graph, int argc, char *const *argv);
/* The same for the text of an options file. */
RR_MUST_CHECK int rr_graph_parse_args(rr_graph_t *graph, const char *file, const char *text, size_t size);

/* draw.c. The graph as text or as SVG. */
void rr_graph_draw_text(rr_graph_t *graph, FILE *out);
void rr_graph_draw_svg(rr_graph_t *graph, FILE *out);

/* A whole file, NUL-terminated, at most 1 MiB; NULL with errno set (EFBIG: longer). The caller frees. */
char *rr__read_file(const char *path, size_t *size);
/* The folder of a path, "." if it has none. The caller frees; NULL when out of memory. */
char *rr__folder_of(const char *path);

/* graph_config.c. The text of an option of this process by the command line's spelling ("-gate_listen", "-gate") or the graph's key
 * ("login"): of the graph, else of the first actor that has it; else its default. NULL if there is none. Any thread. */
const char *rr_graph_config(rr_graph_t *graph, const char *option);

/* Sum of the gates' max_connections; *given = some gate sets it. */
size_t rr_graph_connections(rr_graph_t *graph, bool *given);

#endif
