/* YAML -> graph, by libfyaml. The document is walked as it was written: nothing is resolved or merged. */
#include <errno.h>
#include <libfyaml.h>
#include <stdlib.h>
#include <string.h>

#include "conf/graph.h"
#include "net/utf8.h"

#define ACTORS_MAX 65536
#define LIST_MAX 4096

typedef struct rr_walk {
    rr_graph_t *graph;
    const char *file;
    char *folder;
} rr_walk_t;

static rr_place_t place_of(const rr_walk_t *walk, struct fy_node *node, rr_place_t otherwise) {
    struct fy_token *token = node ? fy_node_get_scalar_token(node) : NULL;
    const struct fy_mark *mark = token ? fy_token_start_mark(token) : NULL;
    if (!mark)
        return otherwise;
    enum fy_node_style style = fy_node_get_style(node); /* a quoted text's mark is behind the quote */
    bool quoted = (style == FYNS_SINGLE_QUOTED || style == FYNS_DOUBLE_QUOTED) && mark->column > 0;
    return (rr_place_t){walk->file, mark->line + 1, mark->column + !quoted};
}

static rr_place_t start_of(const rr_walk_t *walk) { return (rr_place_t){walk->file, 1, 1}; }

/* An owned copy of a scalar's text; NULL (noted) if it is none, an alias, or has a NUL in it. */
static char *scalar_text(const rr_walk_t *walk, struct fy_node *node, rr_place_t place, const char *what) {
    size_t length = 0;
    const char *text = node && fy_node_is_scalar(node) ? fy_node_get_scalar(node, &length) : NULL;
    if (node && fy_node_is_alias(node)) {
        rr_graph_error(walk->graph, place, "anchors and aliases are not supported; write the value out");
        return NULL;
    }
    if (node && !fy_node_is_scalar(node)) {
        rr_graph_error(walk->graph, place, "%s must be a single value, not a list or a map", what);
        return NULL;
    }
    if (text && memchr(text, 0, length)) {
        rr_graph_error(walk->graph, place, "%s contains a NUL character; remove it", what);
        return NULL;
    }
    char *copy = strndup(text ? text : "", length);
    if (!copy)
        rr_graph_error(walk->graph, place, "out of memory");
    return copy;
}

/* ---- Values ---- */

typedef struct rr_texts {
    char **texts, **keys;
    rr_place_t *places;
    size_t count;
} rr_texts_t;

static void texts_free(rr_texts_t *t) {
    for (size_t i = 0; i < t->count; i++) {
        free(t->texts[i]);
        free(t->keys[i]);
    }
    free(t->texts);
    free(t->keys);
    free(t->places);
}

static bool texts_make(rr_texts_t *t, size_t count) {
    memset(t, 0, sizeof *t);
    t->texts = calloc(count + 1, sizeof *t->texts);
    t->keys = calloc(count + 1, sizeof *t->keys);
    t->places = calloc(count + 1, sizeof *t->places);
    return t->texts && t->keys && t->places;
}

static bool read_sequence(const rr_walk_t *walk, struct fy_node *node, rr_place_t place, rr_texts_t *t) {
    void *at = NULL;
    for (struct fy_node *item; (item = fy_node_sequence_iterate(node, &at));) {
        t->places[t->count] = place_of(walk, item, place);
        t->texts[t->count] = scalar_text(walk, item, t->places[t->count], "a list's entry");
        if (!t->texts[t->count++])
            return false;
    }
    return true;
}

static bool read_mapping(const rr_walk_t *walk, struct fy_node *node, rr_place_t place, rr_texts_t *t) {
    void *at = NULL;
    for (struct fy_node_pair *pair; (pair = fy_node_mapping_iterate(node, &at));) {
        rr_place_t key_place = place_of(walk, fy_node_pair_key(pair), place);
        t->places[t->count] = place_of(walk, fy_node_pair_value(pair), key_place);
        t->keys[t->count] = scalar_text(walk, fy_node_pair_key(pair), key_place, "a key");
        t->texts[t->count] = scalar_text(walk, fy_node_pair_value(pair), t->places[t->count], "the value of a map's key");
        t->count++;
        if (!t->keys[t->count - 1] || !t->texts[t->count - 1])
            return false;
    }
    return true;
}

/* One option with whatever was written behind its key. */
static void set_value(const rr_walk_t *walk, rr_item_t *item, const char *key, struct fy_node *node, rr_place_t place) {
    bool sequence = node && fy_node_is_sequence(node), mapping = node && fy_node_is_mapping(node), ok;
    int count = sequence ? fy_node_sequence_item_count(node) : mapping ? fy_node_mapping_item_count(node) : 1;
    rr_texts_t t;
    if (count < 0 || count > LIST_MAX) {
        rr_graph_error(walk->graph, place, "%.100s has more than %d entries", key, LIST_MAX);
        return;
    }
    if (!texts_make(&t, (size_t)count)) {
        rr_graph_error(walk->graph, place, "out of memory");
        texts_free(&t);
        return;
    }
    if (sequence) {
        ok = read_sequence(walk, node, place, &t);
    } else if (mapping) {
        ok = read_mapping(walk, node, place, &t);
    } else {
        t.places[0] = place_of(walk, node, place);
        t.texts[0] = scalar_text(walk, node, t.places[0], key);
        t.count = 1;
        ok = t.texts[0] != NULL;
    }
    if (ok) {
        rr_raw_t raw = {.place = sequence || mapping ? place : t.places[0], .texts = (const char *const *)t.texts,
                        .keys = mapping ? (const char *const *)t.keys : NULL, .places = t.places, .count = t.count,
                        .list = sequence || mapping};
        if (!rr_option_find(item->scope, key))
            raw.place = place; /* an unknown key: point at the key, not at its value */
        rr_graph_set(walk->graph, item, key, &raw, walk->folder, false);
    }
    texts_free(&t);
}

/* Every pair of a mapping as an option; maps under a group's key go one level deeper. `skip` is not an option. */
static void set_options(const rr_walk_t *walk, rr_item_t *item, const char *prefix, struct fy_node *mapping,
                        rr_place_t place, const char *const *skip) {
    void *at = NULL;
    for (struct fy_node_pair *pair; (pair = fy_node_mapping_iterate(mapping, &at));) {
        rr_place_t key_place = place_of(walk, fy_node_pair_key(pair), place);
        char *key = scalar_text(walk, fy_node_pair_key(pair), key_place, "a key");
        char full[256];
        bool skipped = false;
        for (size_t i = 0; key && skip && skip[i]; i++)
            skipped |= strcmp(skip[i], key) == 0;
        if (key && !skipped) {
            struct fy_node *value = fy_node_pair_value(pair);
            snprintf(full, sizeof full, "%.50s%s%.200s", prefix, *prefix ? "." : "", key);
            if (value && fy_node_is_mapping(value) && !*prefix && rr_option_is_group(item->scope, full))
                set_options(walk, item, full, value, key_place, NULL);
            else
                set_value(walk, item, full, value, key_place);
        }
        free(key);
    }
}

/* ---- Actors and nodes ---- */

/* The value of a key in a mapping. Written twice, the first counts; set_options reports the other. */
static struct fy_node *lookup(struct fy_node *mapping, const char *key, struct fy_node **key_node, int *times) {
    struct fy_node *found = NULL;
    void *at = NULL;
    *times = 0;
    for (struct fy_node_pair *pair; (pair = fy_node_mapping_iterate(mapping, &at));) {
        size_t length = 0;
        struct fy_node *name = fy_node_pair_key(pair);
        const char *text = name && fy_node_is_scalar(name) ? fy_node_get_scalar(name, &length) : NULL;
        if (!text || length != strlen(key) || memcmp(text, key, length) != 0)
            continue;
        if (!(*times)++)
            found = fy_node_pair_value(pair);
        if (key_node)
            *key_node = name;
    }
    return found;
}

static const char *next_role(void *state) {
    static const char *const roles[] = {"broker", "gate", "scene", "database"};
    size_t *index = state;
    return *index < sizeof roles / sizeof roles[0] ? roles[(*index)++] : NULL;
}

/* The scope of an actor's role, 0 (noted) if it has none that is known. */
static rr_scope_t role_of(const rr_walk_t *walk, struct fy_node *mapping, rr_place_t place) {
    struct fy_node *key = NULL;
    int times;
    struct fy_node *node = lookup(mapping, "role", &key, &times);
    if (!node) {
        rr_graph_error(walk->graph, place, "this actor has no role; add one of `role: broker`, `role: gate`, `role: scene`, `role: database`");
        return 0;
    }
    rr_place_t at = place_of(walk, node, place_of(walk, key, place));
    if (times > 1)
        rr_graph_error(walk->graph, place_of(walk, key, place), "role is given twice; leave one out");
    char *text = scalar_text(walk, node, at, "role");
    rr_scope_t scope = text ? rr_scope_of_role(text) : 0;
    if (text && !scope) {
        char near[64], mend[96] = "the roles are broker, gate, scene and database";
        size_t index = 0;
        if (rr_nearest(text, next_role, &index, near, sizeof near))
            snprintf(mend, sizeof mend, "did you mean '%s'?", near);
        rr_graph_error(walk->graph, at, "unknown role '%.100s'; %s", text, mend);
    }
    free(text);
    return scope;
}

/* "room@{1..8}" -> first = 1, last = 8 and where the braces are; false if there are none. *bad = they are malformed. */
static bool braces(const char *name, size_t *open, size_t *close, long *first, long *last, bool *bad) {
    const char *left = strchr(name, '{');
    *bad = false;
    if (!left)
        return false;
    int used = 0;
    *bad = sscanf(left, "{%9ld..%9ld}%n", first, last, &used) != 2 || used == 0 || *first < 0 || *last < *first ||
           strchr(left + 1, '{');
    *open = (size_t)(left - name);
    *close = *open + (size_t)used;
    return !*bad;
}

static void add_actor(const rr_walk_t *walk, const char *name, struct fy_node *mapping, rr_scope_t scope,
                      rr_place_t place) {
    static const char *const skip[] = {"role", NULL};
    if (rr_graph_actor_count(walk->graph) >= ACTORS_MAX) {
        rr_graph_error(walk->graph, place, "more than %d actors; spread them over several graphs", ACTORS_MAX);
        return;
    }
    rr_item_t *item = rr_graph_add(walk->graph, scope, name, place);
    if (!item)
        rr_graph_error(walk->graph, place, "out of memory");
    else if (scope)
        set_options(walk, item, "", mapping, place, skip);
}

static void read_actor(const rr_walk_t *walk, const char *name, struct fy_node *mapping, rr_place_t place) {
    size_t open, close;
    long first, last;
    bool bad;
    rr_scope_t scope = role_of(walk, mapping, place);
    if (!braces(name, &open, &close, &first, &last, &bad)) {
        if (bad)
            rr_graph_error(walk->graph, place, "'%.130s' has a malformed range; write it as in \"room@{1..8}\"", name);
        else
            add_actor(walk, name, mapping, scope, place);
        return;
    }
    size_t errors = rr_graph_error_count(walk->graph);
    for (long i = first; i <= last && rr_graph_error_count(walk->graph) == errors; i++) {
        char full[256];
        if ((size_t)snprintf(full, sizeof full, "%.*s%ld%s", (int)open, name, i, name + close) >= sizeof full)
            rr_graph_error(walk->graph, place, "this name is too long; use at most 127 characters");
        else
            add_actor(walk, full, mapping, scope, place);
    }
}

static void read_node(const rr_walk_t *walk, const char *name, struct fy_node *mapping, rr_place_t place) {
    rr_item_t *item = rr_graph_add(walk->graph, RR_SCOPE_NODE, name, place);
    if (item)
        set_options(walk, item, "", mapping, place, NULL);
    else
        rr_graph_error(walk->graph, place, "out of memory");
}

typedef void (*rr_read_fn)(const rr_walk_t *walk, const char *name, struct fy_node *mapping, rr_place_t place);

/* A map of names to maps of options. */
static void read_items(const rr_walk_t *walk, const char *what, struct fy_node *items, rr_place_t place, rr_read_fn read) {
    if (!items || !fy_node_is_mapping(items)) {
        rr_graph_error(walk->graph, place, "%s must be a map of names, as in %s: { NAME: { … } }", what, what);
        return;
    }
    void *at = NULL;
    for (struct fy_node_pair *pair; (pair = fy_node_mapping_iterate(items, &at));) {
        rr_place_t here = place_of(walk, fy_node_pair_key(pair), place);
        char *name = scalar_text(walk, fy_node_pair_key(pair), here, "a name");
        struct fy_node *options = fy_node_pair_value(pair);
        if (name && (!options || !fy_node_is_mapping(options)))
            rr_graph_error(walk->graph, here, "'%.130s' needs a map of options, as in %.130s: { … }", name, name);
        else if (name)
            read(walk, name, options, here);
        free(name);
    }
}

static void read_root(const rr_walk_t *walk, struct fy_node *root) {
    static const char *const sections[] = {"nodes", "actors", NULL};
    static const rr_read_fn readers[] = {read_node, read_actor};
    if (!root || !fy_node_is_mapping(root)) {
        rr_graph_error(walk->graph, start_of(walk), "this is no graph; it must be a map with `actors:` (see `redrabbit new`)");
        return;
    }
    for (int i = 0; sections[i]; i++) {
        struct fy_node *key = NULL;
        int times;
        struct fy_node *items = lookup(root, sections[i], &key, &times);
        rr_place_t place = place_of(walk, key, start_of(walk));
        if (times > 1)
            rr_graph_error(walk->graph, place, "%s is given twice; join the two", sections[i]);
        if (times)
            read_items(walk, sections[i], items, place, readers[i]);
        else if (i == 1)
            rr_graph_error(walk->graph, start_of(walk), "there are no actors; add `actors:` (see `redrabbit new`)");
    }
    set_options(walk, rr_graph_top(walk->graph), "", root, start_of(walk), sections);
}

/* ---- The document ---- */

/* What libfyaml would print: the first collected error says it all. */
static void drop_output(struct fy_diag *diag, void *user, const char *text, size_t size) {
    (void)diag, (void)user, (void)text, (void)size;
}

static void note_syntax(const rr_walk_t *walk, struct fy_diag *diag) {
    void *at = NULL;
    struct fy_diag_error *error = fy_diag_errors_iterate(diag, &at); /* the first; others follow from it */
    if (!error) {
        read_root(walk, NULL); /* nothing wrong but that there is nothing */
        return;
    }
    rr_place_t place = {walk->file, error->line > 0 ? error->line : 1, error->column > 0 ? error->column : 1};
    rr_graph_error(walk->graph, place, "this is not valid YAML: %.200s; check indentation, colons and quotes here",
                   error->msg ? error->msg : "?");
}

static int parse_document(const rr_walk_t *walk, struct fy_diag *diag, const char *text, size_t size) {
    struct fy_parse_cfg cfg = {.flags = FYPCF_QUIET | FYPCF_COLLECT_DIAG | FYPCF_ALLOW_DUPLICATE_KEYS |
                                        FYPCF_DISABLE_MMAP_OPT | FYPCF_JSON_NONE,
                               .diag = diag};
    struct fy_document *document = fy_document_build_from_string(&cfg, text, size);
    if (!document) {
        note_syntax(walk, diag);
        return RR_ESYNTAX;
    }
    read_root(walk, fy_document_root(document));
    fy_document_destroy(document);
    return rr_graph_error_count(walk->graph) ? RR_ESYNTAX : RR_OK;
}

/* The first control character that YAML forbids, size if there is none. */
static size_t find_control(const char *text, size_t size) {
    size_t at = 0;
    while (at < size && ((unsigned char)text[at] >= 0x20 || text[at] == '\t' || (text[at] == '\r' && at + 1 == size)) &&
           text[at] != 0x7f)
        at++;
    return at;
}

/* What libfyaml must not see: it can loop for ever in a directive with a bad byte, and free twice after some errors
 * (0.7.12). */
static bool readable(const rr_walk_t *walk, const char *text, size_t size) {
    int line = 1;
    for (size_t at = 0, end; at < size; at = end + 1, line++) {
        const char *newline = memchr(text + at, '\n', size - at);
        end = newline ? (size_t)(newline - text) : size;
        rr_place_t place = {walk->file, line, 1};
        if (!rr_utf8_valid((const uint8_t *)text + at, end - at)) {
            rr_graph_error(walk->graph, place, "this line is not UTF-8; save the file as UTF-8");
            return false;
        }
        size_t control = find_control(text + at, end - at);
        if (control < end - at) {
            place.column += (int)control;
            rr_graph_error(walk->graph, place, "a control character (0x%02x); remove it", (unsigned char)text[at + control]);
            return false;
        }
        if (text[at] == '%') {
            rr_graph_error(walk->graph, place, "YAML directives are not supported; remove this line");
            return false;
        }
    }
    return true;
}

int rr_graph_parse_yaml(rr_graph_t *graph, const char *file, const char *text, size_t size) {
    rr_walk_t walk = {graph, rr_graph_intern(graph, file), rr__folder_of(file)};
    struct fy_diag_cfg diag_cfg;
    int rc = RR_ENOMEM;
    fy_diag_cfg_default(&diag_cfg);
    diag_cfg.fp = NULL;
    diag_cfg.output_fn = drop_output;
    struct fy_diag *diag = fy_diag_create(&diag_cfg);
    if (!walk.file || !walk.folder || !diag) {
        rr_graph_error(graph, (rr_place_t){0}, "out of memory");
        goto out;
    }
    fy_diag_set_collect_errors(diag, true);
    if (size >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) {
        text += 3;
        size -= 3;
    }
    rc = readable(&walk, text, size) ? parse_document(&walk, diag, text, size) : RR_ESYNTAX;
out:
    if (diag)
        fy_diag_destroy(diag);
    free(walk.folder);
    return rc;
}

int rr_graph_read_yaml(rr_graph_t *graph, const char *file) {
    size_t size;
    char *text = rr__read_file(file, &size);
    if (!text) {
        rr_graph_error(graph, (rr_place_t){0}, "cannot read the graph %s: %s; give the path of a YAML file", file,
                       strerror(errno));
        return RR_EIO;
    }
    int rc = rr_graph_parse_yaml(graph, file, text, size);
    free(text);
    return rc;
}
