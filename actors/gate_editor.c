/* gate_editor.c: the editor's HTTP interface (net/PROTOCOL.md section 8): reads and writes one script's file, and asks
 * its scene to reload. Off unless the graph turns it on; only for loopback peers that know the token and mean this
 * host. Files are touched in libuv's pool, never on the loop. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "actors/gate_impl.h"
#include "net/utf8.h"
#include "runtime/hash.h"

#define BODY_LIMIT (1u << 20)
#define ETAG_SIZE  24u
#define COMMON     "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"

/* ---- Who may ---- */

static bool same_secret(const char *a, const char *b) {
    size_t size = strlen(b);
    unsigned char different = strlen(a) != size;
    for (size_t i = 0; i < size; i++)
        different |= (unsigned char)(a[different ? 0 : i] ^ b[i]);
    return !different;
}

static bool is_loopback(const char *host) {
    rr_address_t address = {.port = 0};
    snprintf(address.host, sizeof(address.host), "%s", host);
    return rr_address_is_loopback(&address);
}

/* The Host header names this machine from inside: no foreign page gets here by giving its own name our address. */
static bool host_is_ours(const rr_http_request_t *request) {
    const char *host = rr_http_header(request, "Host");
    char name[256];
    if (!host)
        return false;
    snprintf(name, sizeof(name), "%s", host[0] == '[' ? host + 1 : host);
    char *end = host[0] == '[' ? strchr(name, ']') : strrchr(name, ':');
    if (end)
        *end = 0;
    return is_loopback(name);
}

static bool allowed(const rr_gate_t *gate, const rr_http_request_t *request) {
    char token[256];
    return gate->options.editor.scene && is_loopback(request->peer_ip) && host_is_ours(request) &&
           rr_http_query(request, "token", token, sizeof(token)) && same_secret(token, gate->options.editor.token);
}

/* ---- JSON out ---- */

/* text as a JSON string; invalid bytes are no concern: tracebacks are UTF-8, what is not becomes '?'. */
static size_t json_string(char *out, const char *text, size_t size) {
    size_t n = 0;
    bool utf8 = rr_utf8_valid((const uint8_t *)text, size);
    out[n++] = '"';
    for (size_t i = 0; i < size; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c == '"' || c == '\\') {
            out[n++] = '\\';
            out[n++] = (char)c;
        } else if (c < 0x20 || c == 0x7f) {
            n += (size_t)sprintf(out + n, "\\u%04x", c);
        } else {
            out[n++] = c < 0x80 || utf8 ? (char)c : '?';
        }
    }
    out[n++] = '"';
    out[n] = 0;
    return n;
}

static void answer_error(rr_http_reply_t *reply, int status, const char *text) {
    char quoted[6 * 512 + 3], body[sizeof(quoted) + 32];
    json_string(quoted, text, strnlen(text, 512));
    int size = snprintf(body, sizeof(body), "{\"error\": %s}", quoted);
    rr_http_answer(reply, status, "application/json", COMMON, body, (size_t)size);
}

static void answer_reload(rr_http_reply_t *reply, int status, bool ok, unsigned version, const char *error,
                          size_t size) {
    char *body = malloc(6 * size + 128);
    if (!body) {
        rr_http_answer(reply, 503, NULL, COMMON, NULL, 0);
        return;
    }
    int n = sprintf(body, "{\"ok\": %s, \"version\": %u, \"error\": ", ok ? "true" : "false", version);
    n += (int)json_string(body + n, error, size);
    body[n++] = '}';
    rr_http_answer(reply, status, "application/json", COMMON, body, (size_t)n);
    free(body);
}

/* ---- Files, in libuv's pool ---- */

typedef struct file_job {
    uv_work_t work;
    rr_gate_t *gate;
    rr_http_reply_t *reply;
    const char *path;
    bool writes;
    char match[64]; /* If-Match */
    char *data;     /* to write, or what was read */
    size_t size;
    char etag[ETAG_SIZE];
    int status;
    char error[256];
} file_job_t;

/* FNV-1a, 64 bits (Fowler, Noll, Vo): tells versions of a file apart; no protection against anyone. */
static void make_etag(const char *data, size_t size, char out[ETAG_SIZE]) {
    snprintf(out, ETAG_SIZE, "\"%016llx\"", (unsigned long long)rr_hash_bytes(data, size));
}

static int read_all(const char *path, char **data, size_t *size, mode_t *mode) {
    struct stat info;
    int fd = open(path, O_RDONLY | O_CLOEXEC), rc = 0;
    if (fd < 0)
        return errno;
    *data = NULL;
    *size = 0;
    if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode) || info.st_size > (64 << 20))
        rc = errno ? errno : EINVAL;
    else if (!(*data = malloc((size_t)info.st_size + 1)))
        rc = ENOMEM;
    while (rc == 0 && *size < (size_t)info.st_size) {
        ssize_t n = read(fd, *data + *size, (size_t)info.st_size - *size);
        if (n < 0 && errno != EINTR)
            rc = errno;
        if (n == 0)
            break;
        *size += n > 0 ? (size_t)n : 0;
    }
    *mode = info.st_mode;
    close(fd);
    if (rc != 0) {
        free(*data);
        *data = NULL;
    }
    return rc;
}

static int write_all(int fd, const char *data, size_t size) {
    while (size > 0) {
        ssize_t n = write(fd, data, size);
        if (n < 0 && errno != EINTR)
            return errno;
        if (n > 0) {
            data += n;
            size -= (size_t)n;
        }
    }
    return 0;
}

static void sync_folder(const char *path) {
    const char *slash = strrchr(path, '/');
    char *folder = slash ? strndup(path, slash == path ? 1 : (size_t)(slash - path)) : strdup(".");
    int fd = folder ? open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (fd >= 0) {
        if (fsync(fd) != 0) /* the rename happened; only a power cut now could undo it */
            errno = 0;
        close(fd);
    }
    free(folder);
}

/* All or nothing: a temporary file in the same folder, then a rename. */
static int replace_file(const char *path, const char *data, size_t size, mode_t mode) {
    char *temporary = malloc(strlen(path) + 16);
    if (!temporary)
        return ENOMEM;
    sprintf(temporary, "%s.XXXXXX", path);
    int rc = 0, fd = mkostemp(temporary, O_CLOEXEC);
    if (fd < 0) {
        rc = errno;
        goto out;
    }
    rc = write_all(fd, data, size);
    if (rc == 0 && (fchmod(fd, mode & 07777) != 0 || fsync(fd) != 0))
        rc = errno;
    if (close(fd) != 0 && rc == 0)
        rc = errno;
    if (rc == 0 && rename(temporary, path) != 0)
        rc = errno;
    if (rc == 0)
        sync_folder(path);
    else
        unlink(temporary);
out:
    free(temporary);
    return rc;
}

static void fail(file_job_t *job, int err) {
    job->status = 500;
    snprintf(job->error, sizeof(job->error), "%s: %s", job->path, strerror(err));
}

static void read_job(file_job_t *job) {
    mode_t mode;
    int rc = read_all(job->path, &job->data, &job->size, &mode);
    if (rc != 0) {
        fail(job, rc);
        return;
    }
    make_etag(job->data, job->size, job->etag);
    job->status = 200;
}

static void write_job(file_job_t *job) {
    char *old = NULL, etag[ETAG_SIZE];
    size_t old_size = 0;
    mode_t mode = 0644;
    int rc = read_all(job->path, &old, &old_size, &mode);
    if (rc != 0 && rc != ENOENT) {
        fail(job, rc);
        return;
    }
    make_etag(old ? old : "", old_size, etag);
    free(old);
    if (strcmp(job->match, "*") != 0 && (rc == ENOENT || strcmp(job->match, etag) != 0)) {
        job->status = 412;
        return;
    }
    rc = replace_file(job->path, job->data, job->size, mode);
    if (rc != 0) {
        fail(job, rc);
        return;
    }
    make_etag(job->data, job->size, job->etag);
    job->status = 204;
}

static void do_job(uv_work_t *work) {
    file_job_t *job = work->data;
    if (job->writes)
        write_job(job);
    else
        read_job(job);
}

static void job_done(uv_work_t *work, int cancelled) {
    file_job_t *job = work->data;
    char headers[512];
    const char *slash = strrchr(job->path, '/'), *base = slash ? slash + 1 : job->path;
    snprintf(headers, sizeof(headers), COMMON "ETag: %s\r\nX-Script-Name: %.200s\r\n", job->etag, base);
    if (cancelled || job->status == 0)
        rr_http_answer(job->reply, 503, NULL, COMMON, NULL, 0);
    else if (job->status == 500)
        answer_error(job->reply, 500, job->error);
    else if (job->status == 412)
        rr_http_answer(job->reply, 412, "text/plain; charset=utf-8", COMMON, "the file has changed\n", 21);
    else if (job->status == 204)
        rr_http_answer(job->reply, 204, NULL, headers, NULL, 0);
    else
        rr_http_answer(job->reply, 200, "text/x-python; charset=utf-8", headers, job->data, job->size);
    free(job->data);
    free(job);
}

static void start_job(rr_gate_t *gate, rr_http_reply_t *reply, bool writes, const char *match, const uint8_t *body,
                      size_t size) {
    file_job_t *job = calloc(1, sizeof(*job));
    char *copy = writes ? malloc(size + 1) : NULL;
    if (!job || (writes && !copy))
        goto fail;
    *job = (file_job_t){.gate = gate,
                        .reply = reply,
                        .path = gate->options.editor.script,
                        .writes = writes,
                        .data = copy,
                        .size = size};
    job->work.data = job;
    if (writes) {
        memcpy(copy, body, size);
        snprintf(job->match, sizeof(job->match), "%s", match);
    }
    if (uv_queue_work(rr_loop_uv(rr_loop_current()), &job->work, do_job, job_done) == 0)
        return;
fail:
    free(copy);
    free(job);
    rr_http_answer(reply, 503, NULL, COMMON, NULL, 0);
}

static void put_script(rr_gate_t *gate, const rr_http_request_t *request, rr_http_reply_t *reply) {
    const char *match = rr_http_header(request, "If-Match");
    if (!match)
        rr_http_answer(reply, 428, "text/plain; charset=utf-8", COMMON, "If-Match is missing\n", 20);
    else if (request->body_size > BODY_LIMIT)
        rr_http_answer(reply, 413, "text/plain; charset=utf-8", COMMON, "more than 1 MiB\n", 16);
    else if ((request->body_size && memchr(request->body, 0, request->body_size)) ||
             !rr_utf8_valid(request->body, request->body_size))
        rr_http_answer(reply, 422, "text/plain; charset=utf-8", COMMON, "not UTF-8 text\n", 15);
    else
        start_job(gate, reply, true, match, request->body, request->body_size);
}

/* ---- Reload: a call, so it waits for the shard's turn ---- */

typedef struct reload_job {
    rr__shard_t *shard;
    rr_http_reply_t *reply;
} reload_job_t;

static void on_reloaded(rr_actor_t *self, void *state, int status, rr_message_t *msg, void *context) {
    reload_job_t *job = context;
    rr_reload_reply_t head;
    if (status == RR_OK && rr_message_size(msg) >= sizeof(head)) {
        memcpy(&head, rr_message_data(msg), sizeof(head));
        answer_reload(job->reply, 200, head.ok, head.version, (const char *)rr_message_data(msg) + sizeof(head),
                      rr_message_size(msg) - sizeof(head));
    } else {
        const char *why = status == RR_TIMEOUT ? "the scene did not answer in time" : rr_strerror(status);
        answer_reload(job->reply, 504, false, 0, why, strlen(why));
    }
    free(job);
}

void rr__editor_job(rr__shard_t *shard, void *pointer) {
    reload_job_t *job = pointer;
    rr_addr_t scene = rr_lookup(shard->system, shard->gate->options.editor.scene);
    if (scene != RR_NOBODY && rr_call(shard->self, scene, RR_TYPE_RELOAD, "", 0, 0, on_reloaded, job, NULL) == RR_OK)
        return;
    answer_reload(job->reply, 504, false, 0, "the scene does not run", 22);
    free(job);
}

static void reload(struct rr__gate_port *port, rr_http_reply_t *reply) {
    rr_gate_t *gate = port->gate;
    reload_job_t *job = malloc(sizeof(*job));
    rr__shard_t *shard = NULL;
    for (size_t i = 0; i < gate->shard_count; i++)
        if (gate->shards[i].loop == rr_loop_current())
            shard = &gate->shards[i];
    if (job && shard && shard->self) {
        uint8_t body[8];
        *job = (reload_job_t){shard, reply};
        rr_put64(body, (uint64_t)(uintptr_t)job);
        if (rr_system_send(gate->system, shard->addr, RR_TYPE_JOB, body, sizeof(body)) == RR_OK)
            return;
    }
    free(job);
    rr_http_answer(reply, 503, NULL, COMMON, NULL, 0);
}

/* ---- Requests ---- */

bool rr__editor_request(struct rr__gate_port *port, const rr_http_request_t *request, rr_http_reply_t *reply) {
    rr_gate_t *gate = port->gate;
    bool script = !strcmp(request->path, "/editor/script"), reloads = !strcmp(request->path, "/editor/reload");
    if ((!script && !reloads) || !allowed(gate, request))
        return false;
    bool get = !strcmp(request->method, "GET"), put = !strcmp(request->method, "PUT"),
         post = !strcmp(request->method, "POST");
    if (script && get)
        start_job(gate, reply, false, NULL, NULL, 0);
    else if (script && put)
        put_script(gate, request, reply);
    else if (reloads && post)
        reload(port, reply);
    else
        rr_http_answer(reply, 405, NULL, script ? "Allow: GET, PUT\r\n" COMMON : "Allow: POST\r\n" COMMON, NULL, 0);
    return true;
}
