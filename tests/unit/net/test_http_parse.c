#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/http_parse.h"
#include "support.h"

static rr__http_t *http;

/* Feeds a text in pieces of `step` bytes (0 = at once) until something happens. */
static rr__http_event_t feed(const char *text, size_t step, size_t *used) {
    size_t size = strlen(text), at = 0, n;
    while (at < size) {
        size_t piece = step && step < size - at ? step : size - at;
        rr__http_event_t event = rr__http_feed(http, (const uint8_t *)text + at, piece, &n);
        at += n;
        if (event != RR__HTTP_MORE) {
            if (used) {
                *used = at;
            }
            return event;
        }
        ck_assert_uint_eq(n, piece);
    }
    return RR__HTTP_MORE;
}

static rr__http_event_t fresh(const char *text, size_t step) {
    rr__http_free(http);
    http = rr__http_new(100);
    return feed(text, step, NULL);
}

static void done(void) {
    rr__http_free(http);
    http = NULL;
}

START_TEST(request_in_pieces) {
    static const char text[] = "GET /a/b%20c?x=1&name=J%C3%B6rg+K&empty= HTTP/1.1\r\nHost: h\r\nX-Long: one\r\nx-empty:\r\n\r\n";
    for (size_t step = 0; step < 20; step++) {
        ck_assert_int_eq(fresh(text, step), RR__HTTP_REQUEST);
        const rr_http_request_t *r = rr__http_request(http);
        char value[16];
        ck_assert_str_eq(r->method, "GET");
        ck_assert_str_eq(r->path, "/a/b c");
        ck_assert_str_eq(rr_http_header(r, "x-LONG"), "one");
        ck_assert_str_eq(rr_http_header(r, "x-empty"), "");
        ck_assert_ptr_null(rr_http_header(r, "x-lon"));
        ck_assert(rr_http_query(r, "x", value, sizeof value));
        ck_assert_str_eq(value, "1");
        ck_assert(rr_http_query(r, "name", value, sizeof value));
        ck_assert_str_eq(value, "J\xc3\xb6rg K");
        ck_assert(rr_http_query(r, "empty", value, sizeof value));
        ck_assert_str_eq(value, "");
        ck_assert(!rr_http_query(r, "nam", value, sizeof value));
        ck_assert(!rr_http_query(r, "name", value, 4));
        ck_assert_int_eq(rr__http_status(http), 0);
        ck_assert(rr__http_keep_alive(http));
    }
    done();
}
END_TEST

START_TEST(paths) {
    static const struct {
        const char *url, *path;
        int status;
    } cases[] = {{"/", "/", 0}, {"//a///b/", "/a/b/", 0}, {"/./a/.", "/a/", 0}, {"/a..b", "/a..b", 0}, {"/%41", "/A", 0},
                 {"http://host/x?y", "/x", 0}, {"http://host", "/", 0}, {"/a#b", "/a", 0}, {"/...", "/...", 0},
                 {"/..", "/", 404}, {"/a/../b", "/", 404}, {"/%2e%2e/etc/passwd", "/", 404}, {"/a/%2E./b", "/", 404},
                 {"/..%2fetc", "/", 404}, {"/%00", "/", 400}, {"/%", "/", 400}, {"/%4", "/", 400}, {"/%zz", "/", 400},
                 {"*", "/", 400}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[256];
        snprintf(text, sizeof text, "GET %s HTTP/1.1\r\n\r\n", cases[i].url);
        ck_assert_msg(fresh(text, 0) == RR__HTTP_REQUEST, "%s", cases[i].url);
        ck_assert_msg(rr__http_status(http) == cases[i].status, "%s: %d", cases[i].url, rr__http_status(http));
        if (cases[i].status == 0) {
            ck_assert_str_eq(rr__http_request(http)->path, cases[i].path);
        }
    }
    done();
}
END_TEST

START_TEST(bodies) {
    ck_assert_int_eq(fresh("POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", 3), RR__HTTP_REQUEST);
    ck_assert_uint_eq(rr__http_request(http)->body_size, 5);
    ck_assert_mem_eq(rr__http_request(http)->body, "hello", 5);
    ck_assert_int_eq(fresh("PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n", 1), RR__HTTP_REQUEST);
    ck_assert_uint_eq(rr__http_request(http)->body_size, 5);
    ck_assert_mem_eq(rr__http_request(http)->body, "hello", 5);
    ck_assert_int_eq(fresh("POST / HTTP/1.1\r\nContent-Length: 101\r\n\r\n", 0), RR__HTTP_BAD);
    ck_assert_int_eq(rr__http_status(http), 413);
    char chunked[400] = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n";
    memset(chunked + strlen(chunked), 'x', 255);
    ck_assert_int_eq(fresh(chunked, 0), RR__HTTP_BAD);
    ck_assert_int_eq(rr__http_status(http), 413);
    ck_assert_int_eq(fresh("POST / HTTP/1.1\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n", 0), RR__HTTP_CONTINUE);
    ck_assert_int_eq(feed("x", 0, NULL), RR__HTTP_REQUEST);
    done();
}
END_TEST

START_TEST(bad_requests) {
    static const struct {
        const char *text;
        int status;
    } cases[] = {{"GARBAGE\r\n\r\n", 501}, {"GET / HTTP/1.1\r\nbad header\r\n\r\n", 400}, {"GET /\x01 HTTP/1.1\r\n\r\n", 400},
                 {"\x16\x03\x01", 501}, {"CONNECT a:1 HTTP/1.1\r\n\r\n", 501}, {"TRACE / HTTP/1.1\r\n\r\n", 501},
                 {"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n", 400},
                 {"POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 400}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ck_assert_msg(fresh(cases[i].text, 0) == RR__HTTP_BAD, "case %zu", i);
        ck_assert_msg(rr__http_status(http) == cases[i].status, "case %zu: %d", i, rr__http_status(http));
    }
    done();
}
END_TEST

/* What proxies read otherwise, or refuse: in any pieces. */
START_TEST(ambiguous_requests) {
    static const struct {
        const char *text;
        int status;
    } cases[] = {{"POST / HTTP/1.1\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400},
                 {"POST / HTTP/1.1\r\nContent-Length : 5\r\n\r\nhello", 400},
                 {"GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400},
                 {"GET / HTTP/1.1\r\nA(b): c\r\n\r\n", 400},
                 {"GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n", 400},
                 {"GET / HTTP/1.1\r\nA: b\r\n\tc\r\nD: e\r\n\r\n", 400},
                 {"GET / HTTP/1.1\r\nA: b\x01\r\n\r\n", 400},
                 {"GET / HTTP/1.1\r\nHost: a\r\nhost: b\r\n\r\n", 400},
                 {"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505},
                 {"GET / HTTP/0.9\r\n\r\n", 505}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (size_t step = 0; step < 12; step++) {
            ck_assert_msg(fresh(cases[i].text, step) == RR__HTTP_BAD, "case %zu in pieces of %zu", i, step);
            ck_assert_msg(rr__http_status(http) == cases[i].status, "case %zu: %d", i, rr__http_status(http));
        }
    }
    static const char with_nul[] = "GET / HTTP/1.1\r\nA: b\0c\r\n\r\n";
    size_t used;
    rr__http_free(http);
    http = rr__http_new(100);
    ck_assert_int_eq(rr__http_feed(http, (const uint8_t *)with_nul, sizeof with_nul - 1, &used), RR__HTTP_BAD);
    ck_assert_int_eq(rr__http_status(http), 400);
    done();
}
END_TEST

START_TEST(bounds) {
    static char text[40000];
    size_t n = (size_t)sprintf(text, "GET /");
    memset(text + n, 'a', 10000);
    strcpy(text + n + 10000, " HTTP/1.1\r\n\r\n");
    ck_assert_int_eq(fresh(text, 0), RR__HTTP_BAD);
    ck_assert_int_eq(rr__http_status(http), 414);
    n = (size_t)sprintf(text, "GET / HTTP/1.1\r\nX: ");
    memset(text + n, 'a', 20000);
    strcpy(text + n + 20000, "\r\n\r\n");
    ck_assert_int_eq(fresh(text, 7), RR__HTTP_BAD);
    ck_assert_int_eq(rr__http_status(http), 431);
    n = (size_t)sprintf(text, "GET / HTTP/1.1\r\n");
    for (int i = 0; i < 65; i++) {
        n += (size_t)sprintf(text + n, "h%d: v\r\n", i);
    }
    strcpy(text + n, "\r\n");
    ck_assert_int_eq(fresh(text, 0), RR__HTTP_BAD);
    ck_assert_int_eq(rr__http_status(http), 431);
    done();
}
END_TEST

START_TEST(pipelining) {
    static const char text[] = "GET /1 HTTP/1.1\r\n\r\nHEAD /2 HTTP/1.0\r\n\r\nrest";
    rr__http_free(http);
    http = rr__http_new(100);
    size_t used;
    ck_assert_int_eq(feed(text, 0, &used), RR__HTTP_REQUEST);
    ck_assert_uint_eq(used, 19);
    ck_assert_str_eq(rr__http_request(http)->path, "/1");
    rr__http_next(http);
    ck_assert(!rr__http_begun(http));
    ck_assert_int_eq(feed(text + 19, 0, &used), RR__HTTP_REQUEST);
    ck_assert_str_eq(rr__http_request(http)->path, "/2");
    ck_assert(!rr__http_keep_alive(http));
    ck_assert(rr__http_head_only(http));
    ck_assert_str_eq(text + 19 + used, "rest");
    done();
}
END_TEST

START_TEST(upgrades) {
    ck_assert_int_eq(fresh("GET / HTTP/1.1\r\nupgrade: WebSocket\r\nconnection: keep-alive, Upgrade\r\n\r\n", 0), RR__HTTP_UPGRADE);
    ck_assert_int_eq(fresh("GET / HTTP/1.1\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n", 0), RR__HTTP_REQUEST);
    ck_assert_int_eq(fresh("GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n", 0), RR__HTTP_REQUEST);
    ck_assert(rr__http_has_token("keep-alive, Upgrade", "upgrade"));
    ck_assert(!rr__http_has_token("keep-alive, Upgraded", "upgrade"));
    ck_assert(!rr__http_has_token("", "upgrade"));
    done();
}
END_TEST

START_TEST(answers) {
    char out[256];
    size_t n = rr__http_head(out, sizeof out, 404, "text/plain", "X: y\r\n", 3, true);
    ck_assert_uint_eq(n, strlen(out));
    ck_assert_str_eq(out, "HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\nContent-Type: text/plain\r\nX: y\r\nConnection: keep-alive\r\n\r\n");
    rr__http_head(out, sizeof out, 304, NULL, NULL, 9, false);
    ck_assert_str_eq(out, "HTTP/1.1 304 Not Modified\r\nConnection: close\r\n\r\n");
    ck_assert_uint_eq(rr__http_head(out, 10, 200, NULL, NULL, 0, true), 0);
}
END_TEST

RUN_TESTS("http_parse", request_in_pieces, paths, bodies, bad_requests, ambiguous_requests, bounds, pipelining, upgrades, answers)
