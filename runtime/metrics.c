/* metrics.c: collectors, and the Prometheus text they are written out as (exposition format 0.0.4). */
#include "runtime/hash.h"
#include "runtime/metrics_registry.h"

#include <assert.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "runtime/alloc.h"

/* ---- Text that grows -------------------------------------------------------------------------------------------- */

typedef struct text {
    char *bytes;
    size_t size, capacity;
} text_t;

static bool text_reserve(text_t *text, size_t more) {
    if (text->size + more <= text->capacity)
        return true;
    size_t capacity = text->capacity ? text->capacity * 2 : 256;
    while (capacity < text->size + more)
        capacity *= 2;
    char *bytes = rr__realloc(text->bytes, capacity);
    if (!bytes)
        return false;
    text->bytes = bytes;
    text->capacity = capacity;
    return true;
}

static bool text_add(text_t *text, const char *bytes, size_t size) {
    if (!text_reserve(text, size))
        return false;
    memcpy(text->bytes + text->size, bytes, size);
    text->size += size;
    return true;
}

static bool text_add_string(text_t *text, const char *string) { return text_add(text, string, strlen(string)); }

/* ---- The writer: one text per family ---------------------------------------------------------------------------- */

typedef struct family {
    char *name;
    uint64_t hash;
    rr_metric_type_t type;
    text_t help, samples;
    struct family *next; /* same bucket */
} family_t;

#define BUCKETS 256

struct rr_metrics_writer {
    family_t **families; /* in order of first sample */
    size_t count, capacity;
    family_t *buckets[BUCKETS];
    family_t *last; /* collectors write runs of one family */
    bool failed;    /* out of memory somewhere */
};

static family_t *find_family(rr_metrics_writer_t *writer, const char *name, uint64_t hash) {
    for (family_t *family = writer->buckets[hash % BUCKETS]; family; family = family->next)
        if (family->hash == hash && strcmp(family->name, name) == 0)
            return family;
    return NULL;
}

static void free_family(family_t *family) {
    rr__free(family->name);
    rr__free(family->help.bytes);
    rr__free(family->samples.bytes);
    rr__free(family);
}

static bool add_help(text_t *out, const char *help) {
    for (; *help; help++) {
        const char *escape = *help == '\n' ? "\\n" : *help == '\\' ? "\\\\" : NULL;
        if (!(escape ? text_add(out, escape, 2) : text_add(out, help, 1)))
            return false;
    }
    return true;
}

static bool list_family(rr_metrics_writer_t *writer, family_t *family) {
    if (writer->count == writer->capacity) {
        size_t capacity = writer->capacity ? writer->capacity * 2 : 64;
        family_t **families = rr__realloc(writer->families, capacity * sizeof *families);
        if (!families)
            return false;
        writer->families = families;
        writer->capacity = capacity;
    }
    writer->families[writer->count++] = family;
    family->next = writer->buckets[family->hash % BUCKETS];
    writer->buckets[family->hash % BUCKETS] = family;
    return true;
}

static family_t *add_family(rr_metrics_writer_t *writer, const char *name, uint64_t hash, rr_metric_type_t type,
                            const char *help) {
    family_t *family = rr__calloc(1, sizeof *family);
    if (!family)
        return NULL;
    family->hash = hash;
    family->type = type;
    family->name = rr__strdup(name);
    if (!family->name || !add_help(&family->help, help ? help : "") || !list_family(writer, family)) {
        free_family(family);
        return NULL;
    }
    return family;
}

static void format_value(char *out, size_t capacity, double value) {
    if (isnan(value))
        snprintf(out, capacity, "NaN");
    else if (isinf(value))
        snprintf(out, capacity, value > 0 ? "+Inf" : "-Inf");
    else if (value == floor(value) && fabs(value) < 9007199254740992.0) /* whole numbers below 2^53 are exact */
        snprintf(out, capacity, "%.0f", value);
    else
        snprintf(out, capacity, "%.17g", value);
}

static bool add_sample(family_t *family, const char *labels, double value) {
    char number[48];
    format_value(number, sizeof number, value);
    text_t *out = &family->samples;
    bool labelled = labels && *labels;
    return text_add_string(out, family->name) && (!labelled || text_add(out, "{", 1)) &&
           (!labelled || text_add_string(out, labels)) && (!labelled || text_add(out, "}", 1)) &&
           text_add(out, " ", 1) && text_add_string(out, number) && text_add(out, "\n", 1);
}

void rr_metrics_write(rr_metrics_writer_t *writer, const char *name, rr_metric_type_t type, const char *help,
                      const char *labels, double value) {
    if (writer->failed)
        return;
    family_t *family = writer->last;
    if (!family || strcmp(family->name, name) != 0) {
        uint64_t hash = rr_hash_text(name);
        family = find_family(writer, name, hash);
        if (!family)
            family = add_family(writer, name, hash, type, help);
    }
    if (!family || !add_sample(family, labels, value)) {
        writer->failed = true;
        return;
    }
    writer->last = family;
}

static size_t escape_label(char *out, size_t capacity, const char *value) {
    size_t size = 0;
    for (; *value; value++) {
        bool escaped = *value == '"' || *value == '\\' || *value == '\n';
        if (size + 2 >= capacity)
            return SIZE_MAX;
        if (escaped)
            out[size++] = '\\';
        out[size++] = *value == '\n' ? 'n' : *value;
    }
    return size;
}

bool rr_metrics_label(char *out, size_t capacity, const char *key, const char *value) {
    size_t before = strlen(out);
    int head = snprintf(out + before, capacity - before, "%s%s=\"", before ? "," : "", key);
    if (head < 0 || (size_t)head >= capacity - before)
        goto no_room;
    size_t at = before + (size_t)head;
    size_t size = escape_label(out + at, capacity - at, value);
    if (size == SIZE_MAX || at + size + 2 > capacity)
        goto no_room;
    out[at + size] = '"';
    out[at + size + 1] = '\0';
    return true;
no_room:
    if (before < capacity)
        out[before] = '\0';
    return false;
}

static bool add_family_text(text_t *out, const family_t *family) {
    const char *type = family->type == RR_METRIC_COUNTER ? "counter" : "gauge";
    return text_add_string(out, "# HELP ") && text_add_string(out, family->name) && text_add(out, " ", 1) &&
           text_add(out, family->help.bytes ? family->help.bytes : "", family->help.size) &&
           text_add_string(out, "\n# TYPE ") && text_add_string(out, family->name) && text_add(out, " ", 1) &&
           text_add_string(out, type) && text_add(out, "\n", 1) &&
           text_add(out, family->samples.bytes, family->samples.size);
}

static int writer_text(const rr_metrics_writer_t *writer, rr_buffer_t **out) {
    text_t all = {0};
    int rc = writer->failed ? RR_ENOMEM : RR_OK;
    for (size_t i = 0; rc == RR_OK && i < writer->count; i++)
        if (!add_family_text(&all, writer->families[i]))
            rc = RR_ENOMEM;
    if (rc == RR_OK) {
        *out = rr_buffer_copy(all.bytes, all.size);
        rc = *out ? RR_OK : RR_ENOMEM;
    }
    rr__free(all.bytes);
    return rc;
}

static void writer_clear(rr_metrics_writer_t *writer) {
    for (size_t i = 0; i < writer->count; i++)
        free_family(writer->families[i]);
    rr__free(writer->families);
}

/* ---- The registry ----------------------------------------------------------------------------------------------- */

typedef struct collector {
    rr_metrics_collect_fn collect;
    void *context;
    unsigned readers; /* inside collect right now */
    bool removed;     /* no new readers; its remover waits for the last one */
    struct collector *next;
} collector_t;

struct rr__metrics {
    pthread_mutex_t lock;    /* guards the list and the collectors' fields; never held while one of them runs */
    pthread_cond_t finished; /* a removed collector lost its last reader */
    collector_t *first, **end;
};

int rr__metrics_create(rr__metrics_t **out) {
    rr__metrics_t *metrics = rr__calloc(1, sizeof *metrics);
    if (!metrics)
        return RR_ENOMEM;
    metrics->end = &metrics->first;
    pthread_mutex_init(&metrics->lock, NULL);
    pthread_cond_init(&metrics->finished, NULL);
    *out = metrics;
    return RR_OK;
}

void rr__metrics_destroy(rr__metrics_t *metrics) {
    if (!metrics)
        return;
    for (collector_t *collector = metrics->first, *next; collector; collector = next) {
        next = collector->next;
        rr__free(collector);
    }
    pthread_cond_destroy(&metrics->finished);
    pthread_mutex_destroy(&metrics->lock);
    rr__free(metrics);
}

int rr__metrics_add(rr__metrics_t *metrics, rr_metrics_collect_fn collect, void *context) {
    collector_t *collector = rr__calloc(1, sizeof *collector);
    if (!collector)
        return RR_ENOMEM;
    collector->collect = collect;
    collector->context = context;
    pthread_mutex_lock(&metrics->lock);
    *metrics->end = collector;
    metrics->end = &collector->next;
    pthread_mutex_unlock(&metrics->lock);
    return RR_OK;
}

static collector_t **find_collector(rr__metrics_t *metrics, rr_metrics_collect_fn collect, void *context) {
    collector_t **at = &metrics->first;
    while (*at && ((*at)->collect != collect || (*at)->context != context || (*at)->removed))
        at = &(*at)->next;
    return at;
}

static void unlink_collector(rr__metrics_t *metrics, collector_t *collector) {
    collector_t **at = &metrics->first;
    while (*at != collector)
        at = &(*at)->next;
    *at = collector->next;
    if (!*at)
        metrics->end = at;
}

void rr__metrics_remove(rr__metrics_t *metrics, rr_metrics_collect_fn collect, void *context) {
    pthread_mutex_lock(&metrics->lock);
    collector_t *collector = *find_collector(metrics, collect, context);
    if (collector) {
        collector->removed = true;
        while (collector->readers > 0)
            pthread_cond_wait(&metrics->finished, &metrics->lock);
        unlink_collector(metrics, collector);
    }
    pthread_mutex_unlock(&metrics->lock);
    rr__free(collector);
}

/* A collector with a reader stays in the list, so its `next` is good again once the lock is. */
static void collect_all(rr__metrics_t *metrics, rr_metrics_writer_t *writer) {
    pthread_mutex_lock(&metrics->lock);
    for (collector_t *collector = metrics->first; collector; collector = collector->next) {
        if (collector->removed)
            continue;
        collector->readers++;
        pthread_mutex_unlock(&metrics->lock);
        collector->collect(collector->context, writer);
        pthread_mutex_lock(&metrics->lock);
        if (--collector->readers == 0 && collector->removed)
            pthread_cond_broadcast(&metrics->finished);
    }
    pthread_mutex_unlock(&metrics->lock);
}

int rr__metrics_text(rr__metrics_t *metrics, rr_buffer_t **out) {
    rr_metrics_writer_t *writer = rr__calloc(1, sizeof *writer);
    if (!writer)
        return RR_ENOMEM;
    collect_all(metrics, writer);
    int rc = writer_text(writer, out);
    writer_clear(writer);
    rr__free(writer);
    return rc;
}

int rr_metrics_add(rr_system_t *system, rr_metrics_collect_fn collect, void *context) {
    return rr__metrics_add(rr__system_metrics(system), collect, context);
}

void rr_metrics_remove(rr_system_t *system, rr_metrics_collect_fn collect, void *context) {
    rr__metrics_remove(rr__system_metrics(system), collect, context);
}

int rr_metrics_text(rr_system_t *system, rr_buffer_t **out) { return rr__metrics_text(rr__system_metrics(system), out); }
