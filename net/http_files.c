/* http_files.c: static files. The loop only decides whether a path could be a file; opening, reading and hashing out the
 * answer happen in libuv's pool, the answer on the loop again. */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "net/http_impl.h"

#define FILE_LIMIT (64u << 20) /* larger ones are 404 and logged */
#define CACHED_FILE (256u << 10)
#define CACHED_FILES 64u
#define ETAG_SIZE 64u

typedef struct cached {
    struct cached *next;
    rr_buffer_t *body;
    char etag[ETAG_SIZE];
    char path[];
} cached_t;

struct rr_http_files {
    rr_system_t *system;
    /* The owner's one and one per running job; whoever drops the last frees (acq_rel: sees all others' work done). */
    _Atomic(unsigned) refs;
    char *folder;
    int folder_fd; /* O_PATH; -1 if there is none */
    char **extra;  /* NULL-terminated pairs */
    pthread_mutex_t lock; /* guards the cache: several loops and pool threads */
    cached_t *cache; /* latest first */
};

typedef struct job {
    uv_work_t work;
    rr_http_files_t *files;
    rr_http_reply_t *reply;
    const char *extra; /* file to fall back to, or NULL */
    char if_none_match[ETAG_SIZE];
    int status;
    rr_buffer_t *body;
    char etag[ETAG_SIZE];
    const char *type;
    char path[]; /* relative to the folder, never empty */
} job_t;

static const char *content_type(const char *path) {
    static const char *const types[][2] = {
        {".html", "text/html; charset=utf-8"}, {".htm", "text/html; charset=utf-8"},
        {".js", "text/javascript; charset=utf-8"}, {".mjs", "text/javascript; charset=utf-8"},
        {".css", "text/css; charset=utf-8"}, {".json", "application/json"}, {".map", "application/json"},
        {".txt", "text/plain; charset=utf-8"}, {".md", "text/plain; charset=utf-8"}, {".py", "text/x-python; charset=utf-8"},
        {".svg", "image/svg+xml"}, {".png", "image/png"}, {".jpg", "image/jpeg"}, {".jpeg", "image/jpeg"},
        {".gif", "image/gif"}, {".webp", "image/webp"}, {".ico", "image/x-icon"}, {".wasm", "application/wasm"},
        {".woff", "font/woff"}, {".woff2", "font/woff2"}, {".ttf", "font/ttf"}, {".mp3", "audio/mpeg"},
        {".ogg", "audio/ogg"}, {".wav", "audio/wav"}, {".mp4", "video/mp4"}, {".xml", "text/xml; charset=utf-8"}};
    const char *dot = strrchr(path, '.');
    for (size_t i = 0; dot && i < sizeof types / sizeof types[0]; i++) {
        if (strcasecmp(dot, types[i][0]) == 0) {
            return types[i][1];
        }
    }
    return "application/octet-stream";
}

/* ---- Cache ---- */

static void cached_free(cached_t *entry) {
    if (entry) {
        rr_buffer_unref(entry->body);
        free(entry);
    }
}

/* Takes the entry of a path out of the list; under the lock. */
static cached_t *cache_take(rr_http_files_t *files, const char *path) {
    for (cached_t **at = &files->cache; *at; at = &(*at)->next) {
        if (strcmp((*at)->path, path) == 0) {
            cached_t *entry = *at;
            *at = entry->next;
            return entry;
        }
    }
    return NULL;
}

/* Puts it in front; drops the last if there are too many. Under the lock. */
static void cache_put(rr_http_files_t *files, cached_t *entry) {
    entry->next = files->cache;
    files->cache = entry;
    unsigned count = 1;
    for (cached_t *at = entry; at->next; at = at->next) {
        if (++count > CACHED_FILES) {
            cached_free(at->next); /* it was the last one */
            at->next = NULL;
            return;
        }
    }
}

static rr_buffer_t *cache_find(rr_http_files_t *files, const char *path, const char *etag) {
    rr_buffer_t *body = NULL;
    pthread_mutex_lock(&files->lock);
    cached_t *entry = cache_take(files, path);
    if (entry && strcmp(entry->etag, etag) == 0) {
        body = rr_buffer_ref(entry->body);
        cache_put(files, entry);
    } else {
        cached_free(entry);
    }
    pthread_mutex_unlock(&files->lock);
    return body;
}

static void cache_add(rr_http_files_t *files, const char *path, const char *etag, rr_buffer_t *body) {
    cached_t *entry = malloc(sizeof *entry + strlen(path) + 1);
    if (!entry) {
        return;
    }
    entry->body = rr_buffer_ref(body);
    memcpy(entry->etag, etag, ETAG_SIZE);
    strcpy(entry->path, path);
    pthread_mutex_lock(&files->lock);
    cached_free(cache_take(files, path));
    cache_put(files, entry);
    pthread_mutex_unlock(&files->lock);
}

/* ---- In the pool ---- */

/* Opens a path below the folder; the kernel sees to it that no link or ".." leads out. */
static int open_beneath(const rr_http_files_t *files, const char *path) {
    if (files->folder_fd < 0) {
        errno = ENOENT;
        return -1;
    }
    struct open_how how = {.flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK, .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS};
    return (int)syscall(SYS_openat2, files->folder_fd, path, &how, sizeof how);
}

static int open_file(job_t *job, struct stat *st) {
    int fd = open_beneath(job->files, job->path);
    if (fd < 0 && job->extra) {
        fd = open(job->extra, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    }
    if (fd >= 0 && (fstat(fd, st) != 0 || !(S_ISREG(st->st_mode) || S_ISDIR(st->st_mode)))) {
        close(fd);
        fd = -1;
    }
    return fd;
}

static rr_buffer_t *read_all(int fd, size_t size) {
    rr_buffer_t *body = rr_buffer_new(size ? size : 1);
    size_t used = 0;
    while (body && used < size) {
        ssize_t n = read(fd, rr_buffer_data(body) + used, size - used);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            break; /* it shrank, or the disk failed: what is here is not the file */
        }
        used += (size_t)n;
    }
    if (body && used < size) {
        rr_buffer_unref(body);
        return NULL;
    }
    if (body && size == 0) {
        rr_buffer_truncate(body, 0);
    }
    return body;
}

static void run_job(uv_work_t *work) {
    job_t *job = (job_t *)work;
    struct stat st;
    job->status = 404;
    int fd = open_file(job, &st);
    if (fd < 0) {
        return;
    }
    if (S_ISDIR(st.st_mode)) {
        job->status = 301; /* asked for without its slash, with which it would be index.html */
        goto out;
    }
    if (st.st_size > FILE_LIMIT) {
        rr_log(job->files->system, RR_WARN, "NET", "%s: not served, it is larger than %u MiB", job->path, FILE_LIMIT >> 20);
        goto out;
    }
    snprintf(job->etag, sizeof job->etag, "\"%llx-%llx%09lx\"", (unsigned long long)st.st_size,
             (unsigned long long)st.st_mtim.tv_sec, (unsigned long)st.st_mtim.tv_nsec);
    if (strcmp(job->etag, job->if_none_match) == 0) {
        job->status = 304;
        goto out;
    }
    job->body = cache_find(job->files, job->path, job->etag);
    if (!job->body) {
        job->body = read_all(fd, (size_t)st.st_size);
        if (job->body && st.st_size <= CACHED_FILE) {
            cache_add(job->files, job->path, job->etag, job->body);
        }
    }
    job->status = job->body ? 200 : 500;
out:
    close(fd);
}

/* ---- On the loop ---- */

static void files_unref(rr_http_files_t *files) {
    if (atomic_fetch_sub_explicit(&files->refs, 1, memory_order_acq_rel) != 1) {
        return;
    }
    for (cached_t *next; files->cache; files->cache = next) {
        next = files->cache->next;
        cached_free(files->cache);
    }
    for (size_t i = 0; files->extra && files->extra[i]; i++) {
        free(files->extra[i]);
    }
    if (files->folder_fd >= 0) {
        close(files->folder_fd);
    }
    pthread_mutex_destroy(&files->lock);
    free(files->extra);
    free(files->folder);
    free(files);
}

static void after_job(uv_work_t *work, int status) {
    job_t *job = (job_t *)work;
    char headers[256 + ETAG_SIZE] = "";
    if (status != 0) {
        job->status = 503; /* the loop ends */
    }
    if (job->etag[0]) {
        snprintf(headers, sizeof headers, "ETag: %s\r\nCache-Control: no-cache\r\nX-Content-Type-Options: nosniff\r\n", job->etag);
    } else if (job->status == 301) {
        const char *slash = strrchr(job->path, '/');
        snprintf(headers, sizeof headers, "Location: %.200s/\r\n", slash ? slash + 1 : job->path);
    }
    if (job->status == 200 || job->status == 304) {
        rr_http_answer_buffer(job->reply, job->status, job->status == 200 ? job->type : NULL, headers, job->body);
    } else {
        char text[16];
        int size = snprintf(text, sizeof text, "%d\n", job->status);
        rr_buffer_unref(job->body);
        rr_http_answer(job->reply, job->status, "text/plain; charset=utf-8", headers, text, (size_t)size);
    }
    files_unref(job->files);
    free(job);
}

static const char *extra_of(const rr_http_files_t *files, const char *path) {
    for (size_t i = 0; files->extra && files->extra[i]; i += 2) {
        if (strcmp(files->extra[i], path) == 0) {
            return files->extra[i + 1];
        }
    }
    return NULL;
}

/* A Location of what the client wrote must not become another header or host: only plain characters. */
static bool plain(const char *path) {
    for (const unsigned char *p = (const unsigned char *)path; *p; p++) {
        if (*p < 0x20 || *p == 0x7f) {
            return false;
        }
    }
    return true;
}

static job_t *job_new(rr_http_files_t *files, const rr_http_request_t *request, rr_http_reply_t *reply, const char *extra) {
    const char *path = request->path, *index = path[strlen(path) - 1] == '/' ? "index.html" : "";
    size_t size = strlen(path) + strlen(index);
    job_t *job = calloc(1, sizeof *job + size + 1);
    if (job) {
        snprintf(job->path, size + 1, "%s%s", path + 1, index);
        job->work = (uv_work_t){0};
        job->files = files;
        job->reply = reply;
        job->extra = extra;
        job->type = content_type(job->path);
        const char *etag = rr_http_header(request, "If-None-Match");
        if (etag && strncmp(etag, "W/", 2) == 0) {
            etag += 2;
        }
        snprintf(job->if_none_match, sizeof job->if_none_match, "%s", etag ? etag : "");
    }
    return job;
}

bool rr_http_files_serve(rr_http_files_t *files, const rr_http_request_t *request, rr_http_reply_t *reply) {
    const char *extra = extra_of(files, request->path);
    bool readable = strcmp(request->method, "GET") == 0 || strcmp(request->method, "HEAD") == 0;
    if (!readable || strstr(request->path, "/.") || !plain(request->path) || (files->folder_fd < 0 && !extra)) {
        return false;
    }
    job_t *job = job_new(files, request, reply, extra);
    if (!job) {
        rr_http_answer(reply, 503, NULL, NULL, NULL, 0);
        return true;
    }
    atomic_fetch_add_explicit(&files->refs, 1, memory_order_relaxed); /* we hold one: it cannot be freed meanwhile */
    if (uv_queue_work(rr_loop_uv(rr__http_reply_loop(reply)), &job->work, run_job, after_job) != 0) {
        after_job(&job->work, UV_ECANCELED);
    }
    return true;
}

static bool copy_extra(rr_http_files_t *files, const char *const *extra) {
    size_t count = 0;
    while (extra && extra[count]) {
        count++;
    }
    files->extra = calloc(count + 1, sizeof *files->extra);
    for (size_t i = 0; files->extra && i < count; i++) {
        files->extra[i] = strdup(extra[i]);
        if (!files->extra[i]) {
            return false;
        }
    }
    return files->extra != NULL;
}

rr_http_files_t *rr_http_files_new(rr_system_t *system, const char *folder, const char *const *extra) {
    rr_http_files_t *files = calloc(1, sizeof *files);
    if (!files) {
        return NULL;
    }
    files->system = system;
    atomic_init(&files->refs, 1);
    pthread_mutex_init(&files->lock, NULL);
    files->folder_fd = -1;
    files->folder = folder ? strdup(folder) : NULL;
    if (!copy_extra(files, extra) || (folder && !files->folder)) {
        files_unref(files);
        return NULL;
    }
    if (folder) {
        files->folder_fd = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (files->folder_fd < 0) {
            rr_log(system, RR_WARN, "NET", "%s: this folder of pages cannot be opened: %s", folder, strerror(errno));
        }
    }
    return files;
}

void rr_http_files_free(rr_http_files_t *files) {
    if (files) {
        files_unref(files);
    }
}
