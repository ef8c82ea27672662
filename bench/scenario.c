#include "bench/scenario.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "bench/bench.h"

typedef struct place {
    const char *file;
    unsigned line;
} place_t;

static char *next_word(char **rest) {
    char *start = *rest + strspn(*rest, " \t");
    char *end = start + strcspn(start, " \t");
    *rest = *end ? end + 1 : end;
    *end = 0;
    return start;
}

static double duration(const char *text, char **end, const place_t *at) {
    double value = strtod(text, end);
    if (*end == text || value < 0)
        bench_die("%s:%u: '%s' is not a duration (500ms, 1.5s)", at->file, at->line, text);
    if (strncmp(*end, "ms", 2) == 0) {
        value /= 1000;
        *end += 2;
    } else if (**end == 's') {
        *end += 1;
    }
    return value;
}

static void parse_think(step_t *s, char *rest, const place_t *at) {
    char *end;
    s->kind = STEP_THINK;
    s->from = s->to = duration(next_word(&rest), &end, at);
    if (strncmp(end, "..", 2) == 0)
        s->to = duration(end + 2, &end, at);
    if (*end || s->to < s->from)
        bench_die("%s:%u: think TIME or think TIME..TIME", at->file, at->line);
}

static uint16_t parse_cmd(char **rest, const place_t *at) {
    char *word = next_word(rest), *end;
    unsigned long cmd = strtoul(word, &end, 10);
    if (!isdigit((unsigned char)*word) || *end || cmd > 65535)
        bench_die("%s:%u: '%s' is not a cmd (0-65535)", at->file, at->line, word);
    return (uint16_t)cmd;
}

static char *copy(const char *text) {
    char *out = bench_alloc(strlen(text) + 1);
    strcpy(out, text);
    return out;
}

static void parse_expect(step_t *s, char *rest, const place_t *at) {
    s->kind = STEP_EXPECT;
    s->cmd = parse_cmd(&rest, at);
    const char *how = next_word(&rest);
    if (strcmp(how, "same") == 0)
        s->expect = EXPECT_SAME;
    else if (strcmp(how, "containing") == 0)
        s->expect = EXPECT_CONTAINING;
    else if (*how)
        bench_die("%s:%u: expect CMD [same | containing TEXT]", at->file, at->line);
    s->text = copy(rest);
}

static void parse_maybe(step_t *s, char *rest, const place_t *at) {
    char *end;
    s->kind = STEP_MAYBE;
    s->from = strtod(rest, &end) / 100;
    if (end == rest || *end != '%' || s->from < 0 || s->from > 1)
        bench_die("%s:%u: maybe N%%", at->file, at->line);
}

/* False at `repeat`. */
static bool parse_line(step_t *s, char *line, const place_t *at) {
    char *rest = line, *word = next_word(&rest);
    if (strcmp(word, "repeat") == 0)
        return false;
    if (strcmp(word, "think") == 0) {
        parse_think(s, rest, at);
    } else if (strcmp(word, "send") == 0 || strcmp(word, "broadcast") == 0) {
        s->kind = *word == 's' ? STEP_SEND : STEP_BROADCAST;
        s->cmd = parse_cmd(&rest, at);
        s->text = copy(rest);
    } else if (strcmp(word, "expect") == 0) {
        parse_expect(s, rest, at);
    } else if (strcmp(word, "maybe") == 0) {
        parse_maybe(s, rest, at);
    } else {
        bench_die("%s:%u: unknown step '%s': think, send, expect, broadcast, maybe, repeat", at->file, at->line, word);
    }
    return true;
}

/* A client that never waits would send for ever in one go. */
static void check(const scenario_t *scenario, const char *file) {
    for (unsigned i = 0; i < scenario->count; i++)
        if (scenario->steps[i].kind == STEP_THINK || scenario->steps[i].kind == STEP_EXPECT)
            return;
    bench_die("%s: a scenario needs at least one think or expect", file);
}

void scenario_parse(scenario_t *scenario, const char *text, const char *file) {
    char *all = copy(text), *save = NULL;
    place_t at = {.file = file};
    *scenario = (scenario_t){0};
    for (char *line = all; line; line = save) {
        save = strchr(line, '\n');
        if (save)
            *save++ = 0;
        at.line++;
        line += strspn(line, " \t");
        line[strcspn(line, "\r")] = 0;
        if (!*line || *line == '#')
            continue;
        step_t step = {0};
        if (!parse_line(&step, line, &at))
            break;
        scenario->steps = bench_realloc(scenario->steps, (scenario->count + 1) * sizeof step);
        scenario->steps[scenario->count++] = step;
    }
    free(all);
    check(scenario, file);
}

void scenario_load(scenario_t *scenario, const char *path) {
    FILE *f = fopen(path, "r");
    if (!f)
        bench_die("%s: %s", path, strerror(errno));
    char *text = bench_alloc(65537);
    size_t n = fread(text, 1, 65536, f);
    fclose(f);
    if (n == 65536)
        bench_die("%s: more than 64 KiB", path);
    scenario_parse(scenario, text, path);
    free(text);
}

void scenario_free(scenario_t *scenario) {
    for (unsigned i = 0; i < scenario->count; i++)
        free(scenario->steps[i].text);
    free(scenario->steps);
}
