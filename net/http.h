/* http.h: just enough HTTP/1.1 for a game port: static files, /metrics, small APIs; WebSocket upgrades are recognised by
 * connection.c. Requests are parsed by http-parser; bodies and headers are bounded. Loop thread only. */
#ifndef RR_NET_HTTP_H
#define RR_NET_HTTP_H

#include "runtime/buffer.h"
#include "runtime/redrabbit.h"

typedef struct rr_http_request {
    const char *method; /* "GET" */
    const char *path;   /* decoded, normalised, without query; begins with '/', has no empty, "." or ".." segment */
    const char *query;  /* undecoded, "" if none */
    const char *peer_ip;
    const uint8_t *body;
    size_t body_size;
    void *headers; /* for rr_http_header */
} rr_http_request_t; /* valid during the handler's call only */

/* The value of a header, case-insensitive name, NULL if absent; valid while the request is. */
const char *rr_http_header(const rr_http_request_t *request, const char *name);
/* The decoded value of a query parameter into out; false if absent or too long. */
bool rr_http_query(const rr_http_request_t *request, const char *name, char *out, size_t size);

/* Answers one request, now or later (from its loop's thread), exactly once; the connection may be gone by then. */
typedef struct rr_http_reply rr_http_reply_t;
/* headers: "Name: value\r\n…" or NULL; body is copied unless a buffer is given (reference taken over). */
void rr_http_answer(rr_http_reply_t *reply, int status, const char *content_type, const char *headers,
                    const void *body, size_t size);
void rr_http_answer_buffer(rr_http_reply_t *reply, int status, const char *content_type, const char *headers,
                           rr_buffer_t *body);

typedef struct rr_http_handler {
    void (*request)(void *context, const rr_http_request_t *request, rr_http_reply_t *reply);
    void *context;
} rr_http_handler_t;

/* Static files of a folder (no listing, index.html for folders, no dot files, no way out of it through links or ..; ETag,
 * If-None-Match, HEAD, content types, small files cached with their mtime; files are opened and read off the loop, in
 * libuv's pool). folder may be NULL. `extra` (NULL-terminated pairs path, file; may be NULL) is for paths that the folder
 * does not have. Strings are copied. NULL when out of memory. Any thread. */
typedef struct rr_http_files rr_http_files_t;
rr_http_files_t *rr_http_files_new(rr_system_t *system, const char *folder, const char *const *extra);
void rr_http_files_free(rr_http_files_t *files);
/* True if it will answer the request, with 404 if the file turns out to be missing; false = nothing it could have (another
 * method than GET and HEAD, a dot file, no folder and no such extra): the caller answers. */
bool rr_http_files_serve(rr_http_files_t *files, const rr_http_request_t *request, rr_http_reply_t *reply);

#endif
