/* options.h: --name value options from tables, so that every subcommand explains itself the same way. */
#ifndef RR_BENCH_OPTIONS_H
#define RR_BENCH_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

typedef enum option_kind {
    OPTION_FLAG,     /* bool */
    OPTION_COUNT,    /* uint64_t; k and M as suffixes */
    OPTION_SIZE,     /* uint64_t bytes; KiB, MiB as suffixes */
    OPTION_SECONDS,  /* double; ms and s as suffixes, plain = seconds */
    OPTION_TEXT,     /* const char * */
    OPTION_CPU,      /* int; -1 = not pinned */
} option_kind_t;

typedef struct option_spec {
    const char *name; /* without the dashes */
    option_kind_t kind;
    void *target; /* holds the default beforehand */
    const char *help;
} option_spec_t;

/* Parses argv[first..]. Unknown options and bad values end the program with one line. Returns the number of operands,
 * which are moved to the front of argv (from `first` on). */
int options_parse(const option_spec_t *specs, unsigned count, int argc, char **argv, int first);
void options_help(const option_spec_t *specs, unsigned count);

#define OPTIONS_COUNT(specs) ((unsigned)(sizeof(specs) / sizeof *(specs)))

#endif
