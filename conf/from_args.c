/* The seed's command line, and the same options in a file (-f) -> graph. After a graph's file they change its values. */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "conf/graph.h"

#define WORDS_MAX 8192
#define LIST_MAX 4096

typedef struct rr_word {
    char *text;
    rr_place_t place;
} rr_word_t;

typedef struct rr_words {
    rr_word_t *at;
    size_t count;
} rr_words_t;

/* "-gate_listen tcp://…": an option as it was given. */
typedef struct rr_given {
    const char *arg;            /* "-gate_listen" */
    const char *text;           /* its value, "true" for a bare flag */
    const rr_option_t *option;  /* NULL for -gate and -scene */
    rr_place_t place, value_place;
    bool file;                  /* from -f: the command line wins */
    bool over;                  /* overruled */
} rr_given_t;

typedef struct rr_args {
    rr_graph_t *graph;
    rr_given_t *given;
    size_t count;
} rr_args_t;

static bool words_add(rr_words_t *words, const char *text, size_t length, rr_place_t place) {
    if (words->count == WORDS_MAX)
        return false;
    if ((words->count & (words->count - 1)) == 0) {
        rr_word_t *at = realloc(words->at, (words->count ? words->count * 2 : 1) * sizeof *at);
        if (!at)
            return false;
        words->at = at;
    }
    char *copy = strndup(text, length);
    if (!copy)
        return false;
    words->at[words->count++] = (rr_word_t){copy, place};
    return true;
}

static void words_free(rr_words_t *words) {
    for (size_t i = 0; i < words->count; i++)
        free(words->at[i].text);
    free(words->at);
}

/* ---- Options files ---- */

static bool blank(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == '\f' || c == '\v'; }

/* The end of the word that begins at text[at]: a quoted one ends at its quote. */
static size_t word_end(const char *text, size_t size, size_t at) {
    char quote = text[at] == '"' || text[at] == '\'' ? text[at] : 0;
    for (at += quote != 0; at < size; at++) {
        if (quote ? text[at] == quote || text[at] == '\n' : blank(text[at]))
            break;
    }
    return at;
}

/* Splits a file into words; '#' at a word's beginning starts a comment. */
static int split_file(rr_graph_t *graph, const char *file, const char *text, size_t size, rr_words_t *words) {
    int line = 1;
    size_t start = 0; /* of the line */
    if (memchr(text, 0, size)) {
        rr_graph_error(graph, (rr_place_t){file, 1, 1}, "this is no options file: it contains a NUL character");
        return RR_ESYNTAX;
    }
    for (size_t at = size >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0 ? 3 : 0; at < size;) {
        if (text[at] == '\n') {
            line++;
            start = ++at;
        } else if (blank(text[at])) {
            at++;
        } else if (text[at] == '#') {
            while (at < size && text[at] != '\n')
                at++;
        } else {
            rr_place_t place = {file, line, (int)(at - start) + 1};
            size_t end = word_end(text, size, at), quoted = text[at] == '"' || text[at] == '\'';
            if (quoted && (end == size || text[end] == '\n')) {
                rr_graph_error(graph, place, "this quote is not closed; close it on the same line");
                return RR_ESYNTAX;
            }
            if (!words_add(words, text + at + quoted, end - at - quoted, place)) {
                rr_graph_error(graph, place, "too many words; an options file has at most %d", WORDS_MAX);
                return RR_ESYNTAX;
            }
            at = end + quoted;
        }
    }
    return RR_OK;
}

/* ---- Words -> given options ---- */

/* "-5" is a value. */
static bool is_option(const char *word) { return word[0] == '-' && (isalpha((unsigned char)word[1]) || word[1] == '-'); }

static bool is_flag_word(const char *word) {
    static const char *const words[] = {"true", "false", "yes", "no", "on", "off", "0", "1"};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (strcasecmp(words[i], word) == 0)
            return true;
    }
    return false;
}

static void unknown_option(rr_args_t *args, const char *arg, rr_place_t place) {
    char near[64], mend[128] = "`redrabbit` alone shows what there is";
    const char *equals = strchr(arg, '=');
    if (equals)
        snprintf(mend, sizeof mend, "an option's value stands behind a space: %.*s %.40s", (int)(equals - arg > 40 ? 40 : equals - arg), arg,
                 equals + 1);
    else if (rr_nearest_arg(arg, near, sizeof near))
        snprintf(mend, sizeof mend, "did you mean '%s'?", near);
    if (place.line)
        rr_graph_error(args->graph, place, "unknown option '%.100s'; %s", arg, mend);
    else
        rr_graph_error(args->graph, (rr_place_t){0}, "unknown option '%.100s'; %s", arg, mend);
}

/* Notes one option; an earlier one of the same source is an error, one of a file is overruled by the command line. */
static bool give(rr_args_t *args, rr_given_t given) {
    for (size_t i = 0; i < args->count; i++) {
        rr_given_t *old = &args->given[i];
        if (old->over || strcmp(old->arg, given.arg) != 0)
            continue;
        if (old->file == given.file) {
            rr_graph_error(args->graph, given.place, "%s is given twice; leave one out", given.arg);
            return false;
        }
        old->over = old->file;
        given.over = given.file;
    }
    args->given[args->count++] = given;
    return true;
}

/* Reads words[*at] (an option) and its value; steps over them. False: noted. */
static bool read_option(rr_args_t *args, const rr_words_t *words, size_t *at, bool file) {
    const rr_word_t *word = &words->at[(*at)++];
    const rr_word_t *next = *at < words->count ? &words->at[*at] : NULL;
    rr_given_t given = {.arg = word->text, .place = word->place, .value_place = word->place, .file = file};
    if (!is_option(word->text)) {
        rr_graph_error(args->graph, word->place.line ? word->place : (rr_place_t){0},
                       "'%.100s' belongs to no option; options begin with '-', a graph's file is the only argument before them",
                       word->text);
        return false;
    }
    given.option = rr_option_find_arg(word->text);
    if (!given.option && strcmp(word->text, "-gate") != 0 && strcmp(word->text, "-scene") != 0) {
        unknown_option(args, word->text, word->place);
        if (next && !is_option(next->text))
            (*at)++;
        return false;
    }
    bool flag = given.option && given.option->type == RR_TYPE_FLAG;
    if (flag && !(next && is_flag_word(next->text))) {
        given.text = "true";
    } else if (!next || is_option(next->text)) {
        rr_graph_error(args->graph, word->place, "%s needs a value", word->text);
        return false;
    } else {
        given.text = next->text;
        given.value_place = next->place.line ? next->place : word->place;
        (*at)++;
    }
    return give(args, given);
}

static void read_options(rr_args_t *args, const rr_words_t *words, bool file) {
    for (size_t at = 0; at < words->count;) {
        if (!read_option(args, words, &at, file) && rr_graph_error_count(args->graph) > 20)
            return;
    }
}

/* ---- Given options -> graph ---- */

static const rr_given_t *find_given(const rr_args_t *args, const char *arg) {
    for (size_t i = 0; i < args->count; i++) {
        if (!args->given[i].over && strcmp(args->given[i].arg, arg) == 0)
            return &args->given[i];
    }
    return NULL;
}

/* Splits "a,b" in place; returns how many parts. */
static size_t split_list(char *text, const char **parts, size_t max) {
    size_t count = 0;
    for (char *save = NULL, *part = strtok_r(text, ",", &save); part && count < max; part = strtok_r(NULL, ",", &save))
        parts[count++] = part;
    return count;
}

static void set_option(rr_args_t *args, rr_item_t *item, const char *key, const rr_given_t *given) {
    const rr_option_t *option = rr_option_find(item->scope, key);
    bool list = option && rr_option_is_list(option) && option->type != RR_TYPE_FOLDERS;
    char *copy = strdup(given->text);
    const char **parts = calloc(LIST_MAX, sizeof *parts);
    if (copy && parts) {
        rr_raw_t raw = {.place = given->value_place, .texts = parts, .count = 1};
        parts[0] = copy;
        if (list)
            raw.count = split_list(copy, parts, LIST_MAX);
        if (list && raw.count == 0)
            rr_graph_error(args->graph, given->place, "%s is empty; give it a value or leave it out", given->arg);
        else
            rr_graph_set(args->graph, item, key, &raw, NULL, true); /* over a graph's file; give() saw doubles */
    } else {
        rr_graph_error(args->graph, given->place, "out of memory");
    }
    free(copy);
    free(parts);
}

/* The actors that -gate and -scene name: "scene@0,scene@1" makes two. */
static void add_named(rr_args_t *args, const char *arg, rr_scope_t scope) {
    const rr_given_t *given = find_given(args, arg);
    char *copy = given ? strdup(given->text) : NULL;
    const char **parts = calloc(LIST_MAX, sizeof *parts);
    if (given && (!copy || !parts))
        rr_graph_error(args->graph, given->place, "out of memory");
    size_t count = copy && parts ? split_list(copy, parts, LIST_MAX) : 0;
    if (copy && parts && !count)
        rr_graph_error(args->graph, given->place, "%s is empty; give it a name such as %s@0", arg, rr_scope_name(scope));
    for (size_t i = 0; i < count; i++) {
        if (!rr_graph_add(args->graph, scope, parts[i], given->value_place))
            rr_graph_error(args->graph, given->place, "out of memory");
    }
    free(copy);
    free(parts);
}

static void add_broker(rr_args_t *args) {
    static const char *const signs[] = {"-broker", "-master_broker", "-bridge_broker"};
    for (size_t i = 0; i < sizeof signs / sizeof signs[0]; i++) {
        const rr_given_t *given = find_given(args, signs[i]);
        if (!given)
            continue;
        if (!rr_graph_add(args->graph, RR_SCOPE_BROKER, "broker@0", given->place))
            rr_graph_error(args->graph, given->place, "out of memory");
        return;
    }
}

/* The first folder of -python_path (the working folder without it) that holds main.py. */
static void default_script(rr_args_t *args, rr_item_t *scene) {
    const rr_value_t *path = rr_item_value(rr_graph_top(args->graph), "python_path");
    const char *here = ".";
    const char *const *folders = path ? (const char *const *)path->texts : &here;
    char file[4200] = "";
    for (size_t i = 0, n = path ? path->count : 1; i < n; i++) {
        size_t length = strlen(folders[i]);
        snprintf(file, sizeof file, "%s%smain.py", folders[i], length && folders[i][length - 1] == '/' ? "" : "/");
        if (access(file, R_OK) == 0)
            break;
        file[0] = 0;
    }
    if (!file[0]) {
        rr_graph_error(args->graph, scene->place, "no main.py in %s; name its folder with -python_path, or the file with -script",
                       path ? path->texts[0] : "the working folder");
        return;
    }
    const char *text = file;
    rr_raw_t raw = {.place = scene->place, .texts = &text, .count = 1};
    rr_graph_set(args->graph, scene, "script", &raw, NULL, false);
}

/* Sets an option on every actor of its role. */
static void set_on_actors(rr_args_t *args, const rr_given_t *given, rr_scope_t scope) {
    size_t matched = 0;
    for (size_t i = 0; i < rr_graph_actor_count(args->graph); i++) {
        rr_item_t *actor = rr_graph_actor(args->graph, i);
        if (actor->scope != scope)
            continue;
        matched++;
        set_option(args, actor, given->option->key, given);
    }
    /* A file may be shared by processes of several roles; a line that was typed is meant. */
    if (!matched && !given->file)
        rr_graph_error(args->graph, given->place, "there is no %s that it could belong to; add -%s %s@0",
                       rr_scope_name(scope), rr_scope_name(scope), rr_scope_name(scope));
}

static void build(rr_args_t *args) {
    size_t before = rr_graph_actor_count(args->graph); /* of a graph's file */
    add_broker(args);
    add_named(args, "-gate", RR_SCOPE_GATE);
    add_named(args, "-scene", RR_SCOPE_SCENE);
    for (size_t i = 0; i < args->count; i++) {
        const rr_given_t *given = &args->given[i];
        if (given->over || !given->option)
            continue;
        if (given->option->scopes == RR_SCOPE_GRAPH)
            set_option(args, rr_graph_top(args->graph), given->option->key, given);
        else
            set_on_actors(args, given, (rr_scope_t)given->option->scopes);
    }
    for (size_t i = before; i < rr_graph_actor_count(args->graph); i++) {
        rr_item_t *actor = rr_graph_actor(args->graph, i);
        if (actor->scope == RR_SCOPE_SCENE && !rr_item_value(actor, "script") && !find_given(args, "-script"))
            default_script(args, actor);
    }
    if (!rr_graph_actor_count(args->graph) && !rr_graph_error_count(args->graph))
        rr_graph_error(args->graph, (rr_place_t){0},
                       "nothing to start; give at least -broker ADDRESS, or -gate NAME and -scene NAME");
}

/* ---- Entry points ---- */

/* Command line and file words -> graph. Either may be NULL. */
static int read_words(rr_graph_t *graph, const rr_words_t *file, const rr_words_t *line) {
    size_t most = (file ? file->count : 0) + (line ? line->count : 0);
    rr_args_t args = {graph, calloc(most + 1, sizeof *args.given), 0};
    if (!args.given) {
        rr_graph_error(graph, (rr_place_t){0}, "out of memory");
        return RR_ENOMEM;
    }
    if (file)
        read_options(&args, file, true);
    if (line)
        read_options(&args, line, false);
    if (!rr_graph_error_count(graph))
        build(&args);
    free(args.given);
    return rr_graph_error_count(graph) ? RR_ESYNTAX : RR_OK;
}

int rr_graph_parse_args(rr_graph_t *graph, const char *file, const char *text, size_t size) {
    rr_words_t words = {0};
    const char *name = rr_graph_intern(graph, file);
    int rc = name ? split_file(graph, name, text, size, &words) : RR_ENOMEM;
    if (rc == RR_OK)
        rc = read_words(graph, &words, NULL);
    words_free(&words);
    return rc;
}

/* Reads the file of -f into words. */
static int read_option_file(rr_graph_t *graph, const char *file, rr_words_t *words) {
    size_t size;
    char *text = rr__read_file(file, &size);
    if (!text) {
        rr_graph_error(graph, (rr_place_t){"-f", 0, 0}, "cannot read %s: %s; give the path of an options file", file,
                       strerror(errno));
        return RR_EIO;
    }
    const char *name = rr_graph_intern(graph, file);
    int rc = name ? split_file(graph, name, text, size, words) : RR_ENOMEM;
    free(text);
    return rc;
}

/* argv -> words, each placed at the option it belongs to; -f's file is read on the way. */
static int split_argv(rr_graph_t *graph, int argc, char *const *argv, rr_words_t *line, rr_words_t *file) {
    bool seen = false;
    for (int i = 0; i < argc; i++) {
        rr_place_t place = {rr_graph_intern(graph, argv[i]), 0, 0};
        if (!place.file)
            return RR_ENOMEM;
        if (strcmp(argv[i], "-f") != 0) {
            if (!words_add(line, argv[i], strlen(argv[i]), place)) {
                rr_graph_error(graph, (rr_place_t){0}, "too many arguments; put them into a file for -f");
                return RR_ELIMIT;
            }
            continue;
        }
        if (seen || ++i == argc) {
            rr_graph_error(graph, place, seen ? "is given twice; leave one out" : "needs the name of an options file");
            return RR_ESYNTAX;
        }
        seen = true;
        int rc = read_option_file(graph, argv[i], file);
        if (rc != RR_OK)
            return rc;
    }
    return RR_OK;
}

int rr_graph_read_args(rr_graph_t *graph, int argc, char *const *argv) {
    rr_words_t line = {0}, file = {0};
    int rc = split_argv(graph, argc, argv, &line, &file);
    if (rc == RR_OK)
        rc = read_words(graph, &file, &line);
    words_free(&line);
    words_free(&file);
    return rc;
}
