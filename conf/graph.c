#include "conf/graph.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "runtime/redrabbit.h"

#define MESSAGES_MAX 50
#define FILE_MAX_BYTES (1u << 20)

typedef struct rr_messages {
    char *lines[MESSAGES_MAX];
    size_t count; /* may be greater than what is kept */
} rr_messages_t;

/* Items are allocated one by one: pointers to them stay valid. */
typedef struct rr_items {
    rr_item_t **at;
    size_t count, capacity;
} rr_items_t;

struct rr_graph {
    rr_item_t top;
    rr_items_t nodes, actors;
    const rr_item_t *selected; /* --node */
    char **files;
    size_t file_count;
    rr_messages_t errors, warnings;
};

static char no_name[] = "";

rr_graph_t *rr_graph_new(void) {
    rr_graph_t *graph = calloc(1, sizeof *graph);
    if (graph) {
        graph->top.scope = RR_SCOPE_GRAPH;
        graph->top.name = no_name;
    }
    return graph;
}

static void value_clear(rr_value_t *value) {
    for (size_t i = 0; i < value->count; i++) {
        if (value->texts)
            free(value->texts[i]);
        if (value->keys)
            free(value->keys[i]);
    }
    free(value->texts);
    free(value->keys);
    free(value->places);
    memset(value, 0, sizeof *value);
}

static void item_clear(rr_item_t *item) {
    for (size_t i = 0; i < item->value_count; i++)
        value_clear(&item->values[i]);
    free(item->values);
    if (item->name != no_name)
        free(item->name);
}

static void items_clear(rr_items_t *items) {
    for (size_t i = 0; i < items->count; i++) {
        item_clear(items->at[i]);
        free(items->at[i]);
    }
    free(items->at);
}

static void messages_clear(rr_messages_t *messages) {
    for (size_t i = 0; i < messages->count && i < MESSAGES_MAX; i++)
        free(messages->lines[i]);
}

void rr_graph_free(rr_graph_t *graph) {
    if (!graph)
        return;
    item_clear(&graph->top);
    items_clear(&graph->nodes);
    items_clear(&graph->actors);
    for (size_t i = 0; i < graph->file_count; i++)
        free(graph->files[i]);
    free(graph->files);
    messages_clear(&graph->errors);
    messages_clear(&graph->warnings);
    free(graph);
}

const char *rr_graph_intern(rr_graph_t *graph, const char *file) {
    for (size_t i = 0; i < graph->file_count; i++) {
        if (strcmp(graph->files[i], file) == 0)
            return graph->files[i];
    }
    char **files = realloc(graph->files, (graph->file_count + 1) * sizeof *files);
    char *copy = strdup(file);
    if (files)
        graph->files = files;
    if (!files || !copy) {
        free(copy);
        return NULL;
    }
    graph->files[graph->file_count++] = copy;
    return copy;
}

/* ---- Messages ---- */

static void messages_add(rr_messages_t *messages, rr_place_t place, const char *format, va_list args) {
    char text[1024], *line = NULL;
    vsnprintf(text, sizeof text, format, args);
    int done;
    if (!place.file)
        done = asprintf(&line, "redrabbit: %s", text);
    else if (place.line)
        done = asprintf(&line, "%s:%d:%d: %s", place.file, place.line, place.column, text);
    else
        done = asprintf(&line, "redrabbit: %s: %s", place.file, text);
    if (messages->count < MESSAGES_MAX)
        messages->lines[messages->count] = done < 0 ? NULL : line;
    else if (done >= 0)
        free(line);
    messages->count++;
}

void rr_graph_error(rr_graph_t *graph, rr_place_t place, const char *format, ...) {
    va_list args;
    va_start(args, format);
    messages_add(&graph->errors, place, format, args);
    va_end(args);
}

void rr_graph_warn(rr_graph_t *graph, rr_place_t place, const char *format, ...) {
    va_list args;
    va_start(args, format);
    messages_add(&graph->warnings, place, format, args);
    va_end(args);
}

static const char *message_text(const rr_messages_t *messages, size_t index) {
    return messages->lines[index] ? messages->lines[index] : "redrabbit: out of memory";
}

static size_t messages_kept(const rr_messages_t *messages) {
    return messages->count < MESSAGES_MAX ? messages->count : MESSAGES_MAX;
}

size_t rr_graph_error_count(const rr_graph_t *graph) { return messages_kept(&graph->errors); }
const char *rr_graph_error_text(const rr_graph_t *graph, size_t index) { return message_text(&graph->errors, index); }
size_t rr_graph_warning_count(const rr_graph_t *graph) { return messages_kept(&graph->warnings); }
const char *rr_graph_warning_text(const rr_graph_t *graph, size_t index) {
    return message_text(&graph->warnings, index);
}

/* ---- Items ---- */

static rr_item_t *items_push(rr_items_t *items) {
    if (items->count == items->capacity) {
        size_t capacity = items->capacity ? items->capacity * 2 : 16;
        rr_item_t **at = realloc(items->at, capacity * sizeof *at);
        if (!at)
            return NULL;
        items->at = at;
        items->capacity = capacity;
    }
    rr_item_t *item = calloc(1, sizeof *item);
    if (item)
        items->at[items->count++] = item;
    return item;
}

static rr_item_t *items_find(const rr_items_t *items, const char *name) {
    for (size_t i = 0; i < items->count; i++) {
        if (strcmp(items->at[i]->name, name) == 0)
            return items->at[i];
    }
    return NULL;
}

static void place_print(rr_place_t place, char *out, size_t size) {
    if (place.line)
        snprintf(out, size, "line %d", place.line);
    else
        snprintf(out, size, "%s", place.file ? place.file : "the default");
}

rr_item_t *rr_graph_add(rr_graph_t *graph, rr_scope_t scope, const char *name, rr_place_t place) {
    bool node = scope == RR_SCOPE_NODE;
    rr_items_t *items = node ? &graph->nodes : &graph->actors;
    rr_item_t *twin = items_find(items, name);
    if (twin) {
        char where[128];
        place_print(twin->place, where, sizeof where);
        rr_graph_error(graph, place, "the name '%.127s' is used twice (first: %s); give each %s its own name", name, where,
                       node ? "node" : "actor");
    } else if (!rr_name_legal(name)) {
        rr_graph_error(graph, place,
                       "'%.130s' is not a legal name; use 1 to 127 of the characters A-Z a-z 0-9 _ - . @ : / #, as in "
                       "scene@0",
                       name);
    }
    char *copy = strdup(name);
    rr_item_t *item = copy ? items_push(items) : NULL;
    if (!item) {
        free(copy);
        return NULL;
    }
    item->scope = scope;
    item->name = copy;
    item->place = place;
    return item;
}

rr_item_t *rr_graph_top(rr_graph_t *graph) { return &graph->top; }
size_t rr_graph_node_count(const rr_graph_t *graph) { return graph->nodes.count; }
rr_item_t *rr_graph_node(rr_graph_t *graph, size_t index) { return graph->nodes.at[index]; }
size_t rr_graph_actor_count(const rr_graph_t *graph) { return graph->actors.count; }
rr_item_t *rr_graph_actor(rr_graph_t *graph, size_t index) { return graph->actors.at[index]; }
rr_item_t *rr_graph_find_actor(rr_graph_t *graph, const char *name) { return items_find(&graph->actors, name); }
rr_item_t *rr_graph_find_node(rr_graph_t *graph, const char *name) { return items_find(&graph->nodes, name); }

/* ---- One node's share ---- */

const char *rr_graph_node_names(rr_graph_t *graph, char *out, size_t size) {
    size_t used = 0;
    out[0] = 0;
    for (size_t i = 0; i < graph->nodes.count && used < size; i++)
        used += (size_t)snprintf(out + used, size - used, "%s%s", i ? ", " : "", graph->nodes.at[i]->name);
    return out;
}

static const char *next_node(void *state) {
    const rr_item_t ***at = state;
    return **at ? (*(*at)++)->name : NULL;
}

static void unknown_node(rr_graph_t *graph, const char *node) {
    char near[128], names[256];
    const rr_item_t **list = calloc(graph->nodes.count + 1, sizeof *list), **at = list;
    for (size_t i = 0; list && i < graph->nodes.count; i++)
        list[i] = graph->nodes.at[i];
    rr_place_t place = {"--node", 0, 0};
    if (!graph->nodes.count)
        rr_graph_error(graph, place, "there is no node '%.100s': this graph has no nodes; leave --node out, or add `nodes:`", node);
    else if (list && rr_nearest(node, next_node, &at, near, sizeof near))
        rr_graph_error(graph, place, "there is no node '%.100s'; did you mean '%s'? The graph has %s", node, near,
                       rr_graph_node_names(graph, names, sizeof names));
    else
        rr_graph_error(graph, place, "there is no node '%.100s'; the graph has %s", node,
                       rr_graph_node_names(graph, names, sizeof names));
    free(list);
}

int rr_graph_select(rr_graph_t *graph, const char *node) {
    graph->selected = node ? items_find(&graph->nodes, node) : NULL;
    if (!node || graph->selected)
        return RR_OK;
    unknown_node(graph, node);
    return RR_ENOENT;
}

const rr_item_t *rr_graph_selected(const rr_graph_t *graph) { return graph->selected; }

bool rr_graph_runs(const rr_graph_t *graph, const rr_item_t *actor) {
    const char *node = graph->selected ? rr_item_text(actor, "node") : NULL;
    return !graph->selected || (node && strcmp(node, graph->selected->name) == 0);
}

/* ---- Values ---- */

const rr_value_t *rr_item_value(const rr_item_t *item, const char *key) {
    for (size_t i = 0; i < item->value_count; i++) {
        if (strcmp(item->values[i].option->key, key) == 0)
            return &item->values[i];
    }
    return NULL;
}

int64_t rr_item_number(const rr_item_t *item, const char *key) {
    const rr_value_t *value = rr_item_value(item, key);
    if (value)
        return value->number;
    const rr_option_t *option = rr_option_find(item->scope, key);
    int64_t number = 0;
    if (option && option->preset && rr_option_parse(option, option->preset, &number, NULL, 0) != RR_OK)
        abort(); /* a default that its own type refuses: the table is wrong; test_options looks at all of them */
    return number;
}

bool rr_item_flag(const rr_item_t *item, const char *key) { return rr_item_number(item, key) != 0; }

const char *rr_item_text(const rr_item_t *item, const char *key) {
    const rr_value_t *value = rr_item_value(item, key);
    if (value)
        return value->count ? value->texts[0] : NULL;
    const rr_option_t *option = rr_option_find(item->scope, key);
    return option ? option->preset : NULL;
}

static bool is_path(const rr_option_t *option) {
    return option->type == RR_TYPE_PATH || option->type == RR_TYPE_PATHS || option->type == RR_TYPE_FOLDERS;
}

/* text, or base/text if text is a relative path. */
static char *resolved(const rr_option_t *option, const char *base, const char *text) {
    char *out = NULL;
    if (!base || !is_path(option) || text[0] == '/' || strcmp(base, ".") == 0)
        return strdup(text);
    while (text[0] == '.' && text[1] == '/') {
        for (text += 2; *text == '/'; text++)
            ;
    }
    return asprintf(&out, "%s/%s", base, text) < 0 ? NULL : out;
}

static bool value_fill(rr_value_t *value, const rr_raw_t *raw, const char *base) {
    value->texts = calloc(raw->count + 1, sizeof *value->texts);
    value->places = calloc(raw->count + 1, sizeof *value->places);
    value->keys = raw->keys ? calloc(raw->count + 1, sizeof *value->keys) : NULL;
    if (!value->texts || !value->places || (raw->keys && !value->keys))
        return false;
    for (size_t i = 0; i < raw->count; i++) {
        value->count = i + 1;
        value->places[i] = raw->places ? raw->places[i] : raw->place;
        value->texts[i] = resolved(value->option, base, raw->texts[i]);
        if (value->keys)
            value->keys[i] = strdup(raw->keys[i]);
        if (!value->texts[i] || (value->keys && !value->keys[i]))
            return false;
    }
    return true;
}

/* Checks the shape and every text. */
static bool raw_fits(rr_graph_t *graph, const rr_option_t *option, const rr_raw_t *raw, int64_t *number) {
    bool ok = true;
    char why[512];
    if (raw->keys && option->type != RR_TYPE_FOLDERS) {
        rr_graph_error(graph, raw->place, "%s is not a map; write %s: %s", option->key, option->key,
                       rr_option_is_list(option) ? "[…, …]" : "a single value");
        return false;
    }
    if (raw->list && (!rr_option_is_list(option) || (option->type == RR_TYPE_FOLDERS && !raw->keys))) {
        rr_graph_error(graph, raw->place, "%s takes one value, not a list", option->key);
        return false;
    }
    for (size_t i = 0; i < raw->count; i++) {
        if (rr_option_parse(option, raw->texts[i], number, why, sizeof why) == RR_OK)
            continue;
        rr_graph_error(graph, raw->places ? raw->places[i] : raw->place, "%s", why);
        ok = false;
    }
    return ok;
}

static void unknown_key(rr_graph_t *graph, const rr_item_t *item, const char *key, rr_place_t place) {
    char near[64], mend[128] = "`redrabbit check --options` lists them all";
    if (rr_nearest_key(item->scope, key, near, sizeof near))
        snprintf(mend, sizeof mend, "did you mean '%s'?", near);
    rr_graph_error(graph, place, "a %s has no option '%.100s'; %s", rr_scope_name(item->scope), key, mend);
}

/* The slot for a key: the old one emptied, or a new one. NULL: noted already. */
static rr_value_t *value_slot(rr_graph_t *graph, rr_item_t *item, const rr_option_t *option, rr_place_t place, bool again) {
    rr_value_t *old = (rr_value_t *)rr_item_value(item, option->key);
    if (old && !again) {
        char where[128];
        place_print(old->place, where, sizeof where);
        rr_graph_error(graph, place, "%s is given twice (first: %s); leave one out", option->key, where);
        return NULL;
    }
    if (old) {
        value_clear(old);
        return old;
    }
    if (item->value_count == item->value_capacity) {
        size_t capacity = item->value_capacity ? item->value_capacity * 2 : 8;
        rr_value_t *values = realloc(item->values, capacity * sizeof *values);
        if (!values) {
            rr_graph_error(graph, place, "out of memory");
            return NULL;
        }
        item->values = values;
        item->value_capacity = capacity;
    }
    rr_value_t *fresh = &item->values[item->value_count++];
    memset(fresh, 0, sizeof *fresh);
    return fresh;
}

void rr_graph_set(rr_graph_t *graph, rr_item_t *item, const char *key, const rr_raw_t *raw, const char *base, bool again) {
    const rr_option_t *option = rr_option_find(item->scope, key);
    int64_t number = 0;
    if (!option) {
        unknown_key(graph, item, key, raw->place);
        return;
    }
    if (!raw_fits(graph, option, raw, &number))
        return;
    rr_value_t *value = value_slot(graph, item, option, raw->place, again);
    if (!value)
        return;
    value->option = option;
    value->place = raw->place;
    value->number = number;
    if (!value_fill(value, raw, base))
        rr_graph_error(graph, raw->place, "out of memory");
}

/* ---- Files ---- */

char *rr__read_file(const char *path, size_t *size) {
    char *text = NULL;
    int error = 0;
    FILE *file = fopen(path, "rbe");
    if (!file)
        return NULL;
    text = malloc(FILE_MAX_BYTES + 1);
    if (!text) {
        error = ENOMEM;
        goto out;
    }
    *size = fread(text, 1, FILE_MAX_BYTES + 1, file);
    if (ferror(file))
        error = errno ? errno : EIO; /* a folder: EISDIR */
    else if (*size > FILE_MAX_BYTES)
        error = EFBIG;
    else
        text[*size] = 0;
out:
    fclose(file);
    if (error) {
        free(text);
        errno = error;
        return NULL;
    }
    return text;
}

char *rr__folder_of(const char *path) {
    const char *slash = strrchr(path, '/');
    if (!slash)
        return strdup(".");
    return slash == path ? strdup("/") : strndup(path, (size_t)(slash - path));
}
