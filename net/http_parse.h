/* http_parse.h: requests out of bytes, by http-parser, bounded. Private to net/: connection.c feeds it. Knows no socket.
 *
 * feed until RR__HTTP_REQUEST or RR__HTTP_UPGRADE, look at the request, then next() and feed on (keep-alive). */
#ifndef RR_NET_HTTP_PARSE_H
#define RR_NET_HTTP_PARSE_H

#include "net/http.h"

#define RR__HTTP_HEAD_LIMIT (16u << 10) /* request line and headers, bytes */
#define RR__HTTP_URL_LIMIT (8u << 10)
#define RR__HTTP_HEADERS_LIMIT 64u

typedef struct rr__http rr__http_t;

typedef enum rr__http_event {
    RR__HTTP_MORE = 0, /* all bytes taken, the request is not complete */
    RR__HTTP_CONTINUE, /* as MORE, and the client waits for "100 Continue" before it sends the body; told once */
    RR__HTTP_REQUEST,  /* complete */
    RR__HTTP_UPGRADE,  /* complete, and asks for WebSocket; the bytes behind it are no HTTP */
    RR__HTTP_BAD,      /* answer rr__http_status and close */
} rr__http_event_t;

/* NULL when out of memory. */
rr__http_t *rr__http_new(size_t body_limit);
void rr__http_free(rr__http_t *http);

/* Takes bytes up to the end of the current request; *used says how many. */
rr__http_event_t rr__http_feed(rr__http_t *http, const uint8_t *data, size_t size, size_t *used);

/* 0, or why the request is answered without asking anyone: 400, 404 (a path that leaves its folder), 413, 414, 431, 501,
 * 500 (out of memory). Also set for complete requests. */
int rr__http_status(const rr__http_t *http);

/* The complete request; valid until next or free. peer_ip is the caller's to set. */
rr_http_request_t *rr__http_request(rr__http_t *http);
bool rr__http_keep_alive(const rr__http_t *http);
bool rr__http_head_only(const rr__http_t *http); /* the method is HEAD */
/* True if bytes of an unfinished request were taken. */
bool rr__http_begun(const rr__http_t *http);

/* Ready for the next request of the connection. */
void rr__http_next(rr__http_t *http);

/* Does the comma-separated header value contain the token (case-insensitive)? */
bool rr__http_has_token(const char *value, const char *token);

/* The head of an answer: status line, Content-Length (unless status is 1xx or 204 or 304), type (may be NULL), headers
 * (complete lines, may be NULL), Connection. Returns its length, 0 if it does not fit. */
size_t rr__http_head(char *out, size_t capacity, int status, const char *content_type, const char *headers,
                     size_t body_size, bool keep_alive);

#endif
