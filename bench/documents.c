#include "bench/documents.h"

#include <string.h>

void document_check(const json_t *doc, const char *name) {
    if (json_integer_value(json_object_get(doc, "rr_bench")) != 1 || !json_is_array(json_object_get(doc, "results")))
        bench_die("%s: not results of rr-bench (save them with --out FILE)", name);
}

json_t *document_load(const char *path) {
    json_error_t error;
    json_t *doc = json_load_file(path, 0, &error);
    if (!doc)
        bench_die("%s:%d: %s", path, error.line, error.text);
    document_check(doc, path);
    return doc;
}

char *document_key(const json_t *result) {
    char *out = bench_alloc(1024);
    size_t at = (size_t)snprintf(out, 1024, "%s %s", json_string_value(json_object_get(result, "suite")),
                                 json_string_value(json_object_get(result, "workload")));
    const char *name;
    json_t *value;
    json_object_foreach(json_object_get(result, "params"), name, value) {
        if (strcmp(name, "duration") == 0 || strcmp(name, "warmup") == 0)
            continue;
        char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(6));
        if (at < 1024)
            at += (size_t)snprintf(out + at, 1024 - at, " %s=%s", name, json_is_string(value) ? json_string_value(value) : text);
        free(text);
    }
    return out;
}
