#include "bench/options.h"

#include <string.h>

#include "bench/bench.h"

static double scale_of(option_kind_t kind, const char *suffix) {
    static const struct {
        option_kind_t kind;
        const char *suffix;
        double scale;
    } table[] = {
        {OPTION_COUNT, "", 1},        {OPTION_COUNT, "k", 1e3},        {OPTION_COUNT, "M", 1e6},
        {OPTION_SIZE, "", 1},         {OPTION_SIZE, "B", 1},           {OPTION_SIZE, "KiB", 1024},
        {OPTION_SIZE, "k", 1024},     {OPTION_SIZE, "MiB", 1024 * 1024}, {OPTION_SIZE, "M", 1024 * 1024},
        {OPTION_SECONDS, "", 1},      {OPTION_SECONDS, "s", 1},        {OPTION_SECONDS, "ms", 1e-3},
        {OPTION_CPU, "", 1},
    };
    for (unsigned i = 0; i < sizeof table / sizeof *table; i++)
        if (table[i].kind == kind && strcmp(table[i].suffix, suffix) == 0)
            return table[i].scale;
    return 0;
}

static void store(const option_spec_t *spec, const char *text) {
    if (spec->kind == OPTION_TEXT) {
        *(const char **)spec->target = text;
        return;
    }
    char *end;
    double value = strtod(text, &end), scale = scale_of(spec->kind, end);
    if (end == text || scale == 0 || value < (spec->kind == OPTION_CPU ? -1 : 0))
        bench_die("--%s %s: not a %s", spec->name, text,
                  spec->kind == OPTION_SECONDS ? "duration (2, 1.5s, 300ms)"
                  : spec->kind == OPTION_SIZE  ? "size (64, 4KiB, 1MiB)"
                                               : "number (1000, 50k, 1M)");
    value *= scale;
    if (spec->kind == OPTION_SECONDS)
        *(double *)spec->target = value;
    else if (spec->kind == OPTION_CPU)
        *(int *)spec->target = (int)value;
    else
        *(uint64_t *)spec->target = (uint64_t)(value + 0.5);
}

static const option_spec_t *find(const option_spec_t *specs, unsigned count, const char *name, size_t size) {
    for (unsigned i = 0; i < count; i++)
        if (strlen(specs[i].name) == size && strncmp(specs[i].name, name, size) == 0)
            return &specs[i];
    return NULL;
}

int options_parse(const option_spec_t *specs, unsigned count, int argc, char **argv, int first) {
    int operands = 0;
    for (int i = first; i < argc; i++) {
        if (strncmp(argv[i], "--", 2) != 0) {
            argv[first + operands++] = argv[i];
            continue;
        }
        const char *name = argv[i] + 2;
        size_t size = strcspn(name, "=");
        const option_spec_t *spec = find(specs, count, name, size);
        if (!spec)
            bench_die("unknown option %s: see rr-bench COMMAND --help", argv[i]);
        if (spec->kind == OPTION_FLAG)
            *(bool *)spec->target = true;
        else if (name[size] == '=')
            store(spec, name + size + 1);
        else if (i + 1 < argc)
            store(spec, argv[++i]);
        else
            bench_die("%s needs a value", argv[i]);
    }
    return operands;
}

static void print_default(const option_spec_t *spec) {
    if (spec->kind == OPTION_COUNT || spec->kind == OPTION_SIZE)
        printf(" (%llu)", (unsigned long long)*(uint64_t *)spec->target);
    else if (spec->kind == OPTION_SECONDS)
        printf(" (%g s)", *(double *)spec->target);
    else if (spec->kind == OPTION_TEXT && *(const char **)spec->target)
        printf(" (%s)", *(const char **)spec->target);
}

void options_help(const option_spec_t *specs, unsigned count) {
    static const char *const values[] = {"", " N", " SIZE", " TIME", " TEXT", " CPU"};
    for (unsigned i = 0; i < count; i++) {
        char left[40];
        snprintf(left, sizeof left, "--%s%s", specs[i].name, values[specs[i].kind]);
        printf("  %-26s %s", left, specs[i].help);
        print_default(&specs[i]);
        putchar('\n');
    }
}
