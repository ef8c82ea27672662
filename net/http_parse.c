#include "net/http_parse.h"

#include <http_parser.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

typedef struct header {
    uint16_t name, value; /* offsets into head */
} header_t;

enum field { FIELD_NONE, FIELD_NAME, FIELD_VALUE };

struct rr__http {
    http_parser parser;
    rr_http_request_t request;
    size_t body_limit;
    uint8_t *body;
    size_t body_capacity;
    int status;
    uint8_t last; /* enum field: what the previous header callback was */
    bool begun, complete, upgrade, wants_continue;
    bool value_open;      /* the value goes on where the last piece ended, not in another line */
    const char *feed_end; /* of the piece that is being parsed */
    uint16_t head_size; /* used bytes of head */
    uint16_t header_count;
    uint16_t url_size;
    header_t headers[RR__HTTP_HEADERS_LIMIT];
    char head[RR__HTTP_HEAD_LIMIT]; /* url, then names and values, each ended by a NUL. Untouched pages cost nothing. */
};

static int refuse(rr__http_t *http, int status) {
    if (http->status == 0) {
        http->status = status;
    }
    return -1;
}

static int append(rr__http_t *http, const char *at, size_t size) {
    if (http->head_size + size + 2 > RR__HTTP_HEAD_LIMIT) {
        return refuse(http, 431);
    }
    memcpy(http->head + http->head_size, at, size);
    http->head_size = (uint16_t)(http->head_size + size);
    http->head[http->head_size] = '\0';
    return 0;
}

static int on_begin(http_parser *parser) {
    rr__http_t *http = parser->data;
    http->begun = true;
    return 0;
}

static int on_url(http_parser *parser, const char *at, size_t size) {
    rr__http_t *http = parser->data;
    if (http->head_size + size > RR__HTTP_URL_LIMIT) {
        return refuse(http, 414);
    }
    return append(http, at, size);
}

/* The parser, as Debian builds it, takes what RFC 9112 forbids and proxies read otherwise ("Content-Length : 5", a NUL, a
 * value that goes on in the next line): who sits behind a proxy would be told requests by it that nobody made. */
static bool name_legal(const char *at, size_t size) {
    for (size_t i = 0; i < size; i++) {
        if (at[i] <= ' ' || at[i] == 127 || strchr("\"(),/:;<=>?@[\\]{}", at[i])) {
            return false;
        }
    }
    return true;
}

static bool value_legal(const char *at, size_t size) {
    for (size_t i = 0; i < size; i++) {
        unsigned char c = (unsigned char)at[i];
        if ((c < ' ' && c != '\t') || c == 127) {
            return false;
        }
    }
    return true;
}

static int on_name(http_parser *parser, const char *at, size_t size) {
    rr__http_t *http = parser->data;
    if (!name_legal(at, size)) {
        return refuse(http, 400);
    }
    if (http->last != FIELD_NAME) {
        if (http->header_count == RR__HTTP_HEADERS_LIMIT) {
            return refuse(http, 431);
        }
        if (http->last == FIELD_NONE) {
            http->url_size = http->head_size;
        }
        http->head_size++; /* behind the NUL */
        http->headers[http->header_count++] = (header_t){.name = http->head_size};
        http->last = FIELD_NAME;
    }
    return append(http, at, size);
}

static int on_value(http_parser *parser, const char *at, size_t size) {
    rr__http_t *http = parser->data;
    bool folded = http->last == FIELD_VALUE && !http->value_open;
    if (folded || !value_legal(at, size)) {
        return refuse(http, 400);
    }
    http->value_open = at + size == http->feed_end;
    if (http->last != FIELD_VALUE) {
        http->head_size++;
        http->headers[http->header_count - 1].value = http->head_size;
        http->last = FIELD_VALUE;
    }
    return append(http, at, size);
}

static int hex(char c) {
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Percent-decodes [in, in + size) into out (may be the same place), ends it with a NUL. Its length, or -1 (bad escape, or a
 * NUL byte). plus: '+' means a space, as in queries. */
static long percent_decode(const char *in, size_t size, char *out, bool plus) {
    size_t n = 0;
    for (size_t i = 0; i < size; i++) {
        char c = in[i];
        if (c == '%') {
            int high = i + 2 < size ? hex(in[i + 1]) : -1, low = i + 2 < size ? hex(in[i + 2]) : -1;
            if (high < 0 || low < 0 || (high | low) == 0) {
                return -1;
            }
            c = (char)(high << 4 | low);
            i += 2;
        } else if (plus && c == '+') {
            c = ' ';
        }
        out[n++] = c;
    }
    out[n] = '\0';
    return (long)n;
}

/* Removes empty and "." segments in place; false if there is a ".." segment. */
static bool normalise(char *path) {
    char *out = path, *in = path;
    while (*in) {
        while (*in == '/') {
            in++;
        }
        size_t n = strcspn(in, "/");
        if (n == 2 && in[0] == '.' && in[1] == '.') {
            return false;
        }
        bool last = in[n] == '\0';
        if (n == 1 && in[0] == '.') {
            n = 0;
            in++;
        }
        if (n || last) {
            *out++ = '/';
            memmove(out, in, n);
            out += n;
            in += n;
        }
    }
    if (out == path) {
        *out++ = '/';
    }
    *out = '\0';
    return true;
}

/* Splits the url (still at the start of head) into path and query. */
static void split_url(rr__http_t *http) {
    rr_http_request_t *r = &http->request;
    char *path = http->head, *query = "";
    r->path = "/";
    r->query = query;
    path[http->url_size] = '\0';
    if (strncasecmp(path, "http://", 7) == 0) { /* absolute form, as proxies send it */
        path += 7 + strcspn(path + 7, "/?");
    }
    path[strcspn(path, "#")] = '\0';
    char *mark = strchr(path, '?');
    if (mark) {
        *mark = '\0';
        query = mark + 1;
    }
    r->query = query;
    if (*path == '\0') {
        return;
    }
    if (*path != '/') {
        (void)refuse(http, 400);
        return;
    }
    long n = percent_decode(path, strlen(path), path, false);
    if (n < 0) {
        (void)refuse(http, 400);
        return;
    }
    if (!normalise(path)) {
        (void)refuse(http, 404);
        return;
    }
    r->path = path;
}

static bool method_served(unsigned method) {
    return method == HTTP_GET || method == HTTP_HEAD || method == HTTP_POST || method == HTTP_PUT ||
           method == HTTP_DELETE || method == HTTP_OPTIONS || method == HTTP_PATCH;
}

static unsigned count_of(const rr__http_t *http, const char *name) {
    unsigned count = 0;
    for (unsigned i = 0; i < http->header_count; i++) {
        count += strcasecmp(http->head + http->headers[i].name, name) == 0;
    }
    return count;
}

static int on_headers_complete(http_parser *parser) {
    rr__http_t *http = parser->data;
    if (http->last == FIELD_NONE) {
        http->url_size = http->head_size;
    }
    if (parser->http_major != 1) {
        return refuse(http, 505);
    }
    if (count_of(http, "Host") > 1) {
        return refuse(http, 400);
    }
    http->request.method = http_method_str((enum http_method)parser->method);
    if (!method_served(parser->method)) {
        return refuse(http, 501);
    }
    if (parser->content_length != UINT64_MAX && parser->content_length > http->body_limit) {
        return refuse(http, 413);
    }
    split_url(http);
    const char *upgrade = rr_http_header(&http->request, "Upgrade");
    http->upgrade = parser->upgrade && upgrade && rr__http_has_token(upgrade, "websocket");
    parser->upgrade = http->upgrade; /* to anything else (h2c) we say nothing and answer as usual */
    const char *expect = rr_http_header(&http->request, "Expect");
    http->wants_continue = expect && strcasecmp(expect, "100-continue") == 0 && http->status == 0;
    return 0;
}

static int on_body(http_parser *parser, const char *at, size_t size) {
    rr__http_t *http = parser->data;
    size_t used = http->request.body_size;
    if (size > http->body_limit - used) {
        return refuse(http, 413);
    }
    if (used + size > http->body_capacity) {
        size_t want = 2 * (used + size);
        want = want > http->body_limit ? http->body_limit : want;
        uint8_t *body = realloc(http->body, want);
        if (!body) {
            return refuse(http, 500);
        }
        http->body = body;
        http->body_capacity = want;
    }
    memcpy(http->body + used, at, size);
    http->request.body = http->body;
    http->request.body_size = used + size;
    return 0;
}

static int on_complete(http_parser *parser) {
    rr__http_t *http = parser->data;
    http->complete = true;
    http_parser_pause(parser, 1); /* one request at a time: the next waits until this one is answered */
    return 0;
}

static const http_parser_settings settings = {
    .on_message_begin = on_begin,
    .on_url = on_url,
    .on_header_field = on_name,
    .on_header_value = on_value,
    .on_headers_complete = on_headers_complete,
    .on_body = on_body,
    .on_message_complete = on_complete,
};

static void clear(rr__http_t *http) {
    free(http->body);
    http->body = NULL;
    http->body_capacity = 0;
    http->status = 0;
    http->last = FIELD_NONE;
    http->begun = http->complete = http->upgrade = http->wants_continue = http->value_open = false;
    http->head_size = http->header_count = http->url_size = 0;
    http->request = (rr_http_request_t){.method = "", .path = "/", .query = "", .peer_ip = "", .headers = http};
}

rr__http_t *rr__http_new(size_t body_limit) {
    rr__http_t *http = malloc(sizeof *http);
    if (http) {
        http->body = NULL;
        http->body_limit = body_limit;
        clear(http);
        http_parser_init(&http->parser, HTTP_REQUEST);
        http->parser.data = http;
    }
    return http;
}

void rr__http_free(rr__http_t *http) {
    if (http) {
        free(http->body);
        free(http);
    }
}

rr__http_event_t rr__http_feed(rr__http_t *http, const uint8_t *data, size_t size, size_t *used) {
    http->feed_end = (const char *)data + size;
    *used = http_parser_execute(&http->parser, &settings, (const char *)data, size);
    if (http->complete) {
        return http->upgrade ? RR__HTTP_UPGRADE : RR__HTTP_REQUEST;
    }
    enum http_errno error = HTTP_PARSER_ERRNO(&http->parser);
    if (error != HPE_OK) {
        (void)refuse(http, error == HPE_HEADER_OVERFLOW ? 431 : error == HPE_INVALID_METHOD ? 501 : 400);
        return RR__HTTP_BAD;
    }
    if (http->wants_continue) {
        http->wants_continue = false;
        return RR__HTTP_CONTINUE;
    }
    return RR__HTTP_MORE;
}

int rr__http_status(const rr__http_t *http) {
    return http->status;
}

rr_http_request_t *rr__http_request(rr__http_t *http) {
    return &http->request;
}

bool rr__http_keep_alive(const rr__http_t *http) {
    return http->complete && http_should_keep_alive(&http->parser);
}

bool rr__http_head_only(const rr__http_t *http) {
    return http->parser.method == HTTP_HEAD;
}

bool rr__http_begun(const rr__http_t *http) {
    return http->begun && !http->complete;
}

void rr__http_next(rr__http_t *http) {
    clear(http);
    http_parser_pause(&http->parser, 0);
}

/* ---- What handlers ask of a request ---- */

const char *rr_http_header(const rr_http_request_t *request, const char *name) {
    const rr__http_t *http = request->headers;
    for (unsigned i = 0; http && i < http->header_count; i++) {
        const header_t *h = &http->headers[i];
        if (strcasecmp(http->head + h->name, name) == 0) {
            return h->value ? http->head + h->value : "";
        }
    }
    return NULL;
}

bool rr_http_query(const rr_http_request_t *request, const char *name, char *out, size_t size) {
    size_t name_size = strlen(name);
    for (const char *p = request->query; *p;) {
        size_t n = strcspn(p, "&");
        if (n > name_size && p[name_size] == '=' && memcmp(p, name, name_size) == 0) {
            size_t value_size = n - name_size - 1;
            return value_size < size && percent_decode(p + name_size + 1, value_size, out, true) >= 0;
        }
        p += n + (p[n] == '&');
    }
    return false;
}

bool rr__http_has_token(const char *value, const char *token) {
    size_t size = strlen(token);
    for (const char *p = value; *p;) {
        p += strspn(p, " \t,");
        size_t n = strcspn(p, " \t,;/");
        if (n == size && strncasecmp(p, token, n) == 0) {
            return true;
        }
        p += strcspn(p, ",");
    }
    return false;
}

/* ---- Answers ---- */

static const char *status_text(int status) {
    switch (status) {
#define STATUS(number, name, text)                                                                                     \
    case number:                                                                                                       \
        return #text;
        HTTP_STATUS_MAP(STATUS)
#undef STATUS
    default:
        return "Status";
    }
}

size_t rr__http_head(char *out, size_t capacity, int status, const char *content_type, const char *headers,
                     size_t body_size, bool keep_alive) {
    char length[48] = "";
    if (status >= 200 && status != 204 && status != 304) {
        snprintf(length, sizeof length, "Content-Length: %zu\r\n", body_size);
    }
    int n = snprintf(out, capacity, "HTTP/1.1 %d %s\r\n%s%s%s%s%s%s\r\n", status, status_text(status), length,
                     content_type ? "Content-Type: " : "", content_type ? content_type : "", content_type ? "\r\n" : "",
                     headers ? headers : "", status < 200 ? "" : keep_alive ? "Connection: keep-alive\r\n" : "Connection: close\r\n");
    return n > 0 && (size_t)n < capacity ? (size_t)n : 0;
}
