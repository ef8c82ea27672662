/* gate_http.c: what a gate answers to plain HTTP: its pages, the JavaScript client, /metrics, the editor. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#include "actors/gate_impl.h"

typedef struct folder {
    char *prefix; /* without a '/' at its end: "" or "/codemirror" */
    size_t size;
    rr_http_files_t *files;
} folder_t;

struct rr__gate_http {
    folder_t *folders; /* longest prefix first */
    size_t count;
};

/* ---- Making ---- */

static int by_length(const void *a, const void *b) {
    size_t x = ((const folder_t *)a)->size, y = ((const folder_t *)b)->size;
    return x < y ? 1 : x > y ? -1 : 0;
}

static int add_folder(rr_gate_t *gate, const char *prefix, const char *path, const char *const *extra) {
    folder_t *folder = &gate->web->folders[gate->web->count];
    folder->size = strlen(prefix);
    while (folder->size > 0 && prefix[folder->size - 1] == '/')
        folder->size--;
    folder->prefix = strndup(prefix, folder->size);
    folder->files = folder->prefix ? rr_http_files_new(gate->system, path, extra) : NULL;
    if (!folder->files) {
        free(folder->prefix);
        return RR_ENOMEM;
    }
    gate->web->count++;
    return RR_OK;
}

static int make_token(rr_gate_t *gate) {
    uint8_t bits[16];
    if (!gate->options.editor.scene || gate->editor_token)
        return RR_OK;
    if (getrandom(bits, sizeof(bits), 0) != sizeof(bits))
        return RR_EIO;
    gate->editor_token = malloc(2 * sizeof(bits) + 1);
    if (!gate->editor_token)
        return RR_ENOMEM;
    for (size_t i = 0; i < sizeof(bits); i++)
        sprintf(gate->editor_token + 2 * i, "%02x", bits[i]);
    gate->options.editor.token = gate->editor_token;
    return RR_OK;
}

int rr__gate_http_init(rr_gate_t *gate, char *why, size_t why_size) {
    rr_gate_options_t *o = &gate->options;
    const char *extra[] = {"/redrabbit.js", o->client_js, NULL};
    bool root = false;
    int rc = make_token(gate);
    gate->web = calloc(1, sizeof(*gate->web));
    if (!gate->web)
        return RR_ENOMEM;
    gate->web->folders = calloc(o->www_count + 1, sizeof(folder_t));
    if (!gate->web->folders)
        return RR_ENOMEM;
    for (size_t i = 0; rc == RR_OK && i < o->www_count; i++) {
        bool is_root = !strcmp(o->www[i].prefix, "/");
        if (o->www[i].prefix[0] != '/')
            return rr_fail(RR_EINVAL, why, why_size, "%s: www: the prefix '%s' must begin with '/'", o->name,
                           o->www[i].prefix);
        root = root || is_root;
        rc = add_folder(gate, o->www[i].prefix, o->www[i].folder, is_root && o->client_js ? extra : NULL);
    }
    if (rc == RR_OK && !root && o->client_js)
        rc = add_folder(gate, "/", NULL, extra);
    qsort(gate->web->folders, gate->web->count, sizeof(folder_t), by_length);
    o->www = NULL; /* the caller's */
    return rc;
}

void rr__gate_http_free(rr_gate_t *gate) {
    if (!gate->web)
        return;
    for (size_t i = 0; i < gate->web->count; i++) {
        rr_http_files_free(gate->web->folders[i].files);
        free(gate->web->folders[i].prefix);
    }
    free(gate->web->folders);
    free(gate->web);
    gate->web = NULL;
}

/* ---- Answering ---- */

static const folder_t *folder_of(const rr_gate_t *gate, const char *path) {
    for (size_t i = 0; i < gate->web->count; i++) {
        const folder_t *f = &gate->web->folders[i];
        if (!strncmp(path, f->prefix, f->size) && (path[f->size] == '/' || path[f->size] == 0))
            return f;
    }
    return NULL;
}

static bool serve_file(rr_gate_t *gate, const rr_http_request_t *request, rr_http_reply_t *reply) {
    const folder_t *folder = folder_of(gate, request->path);
    if (!folder)
        return false;
    rr_http_request_t inside = *request;
    inside.path = request->path[folder->size] ? request->path + folder->size : "/";
    return rr_http_files_serve(folder->files, &inside, reply);
}

static bool is_read(const rr_http_request_t *request) {
    return !strcmp(request->method, "GET") || !strcmp(request->method, "HEAD");
}

static void serve_metrics(rr_gate_t *gate, rr_http_reply_t *reply) {
    rr_buffer_t *text = NULL;
    if (rr_metrics_text(gate->system, &text) == RR_OK)
        rr_http_answer_buffer(reply, 200, "text/plain; version=0.0.4; charset=utf-8", "Cache-Control: no-store\r\n",
                              text);
    else
        rr_http_answer(reply, 503, NULL, NULL, NULL, 0);
}

void rr__gate_http_request(void *context, const rr_http_request_t *request, rr_http_reply_t *reply) {
    struct rr__gate_port *port = context;
    rr_gate_t *gate = port->gate;
    if (rr__editor_request(port, request, reply))
        return;
    if (gate->options.metrics && !strcmp(request->path, "/metrics") && is_read(request)) {
        serve_metrics(gate, reply);
        return;
    }
    if (serve_file(gate, request, reply))
        return;
    if (is_read(request))
        rr_http_answer(reply, 404, "text/plain; charset=utf-8", NULL, "not found\n", 10);
    else
        rr_http_answer(reply, 405, "text/plain; charset=utf-8", "Allow: GET, HEAD\r\n", "method not allowed\n", 19);
}
