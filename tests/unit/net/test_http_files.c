/* Static files over real sockets: nothing leaves the folder, answers carry what they must. */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "net/connection.h"
#include "net/listener.h"
#include "support.h"

typedef struct site {
    rr_system_t *system;
    rr_loop_t *loop;
    rr_listener_t *listener;
    rr_connection_options_t options;
    rr_http_handler_t http;
    rr_http_files_t *files;
    char folder[64], outside[64];
} site_t;

static void on_request(void *context, const rr_http_request_t *request, rr_http_reply_t *reply) {
    site_t *s = context;
    if (!rr_http_files_serve(s->files, request, reply)) {
        rr_http_answer(reply, 418, NULL, NULL, NULL, 0);
    }
}

static void on_message(void *context, rr_connection_t *c, uint16_t cmd, uint16_t flag, const uint8_t *body, size_t size, rr_buffer_t *owner) {
}

static void on_closed(void *context, rr_connection_t *c, rr_close_reason_t reason) {
}

static const rr_connection_handler_t handler = {.message = on_message, .closed = on_closed};

static void on_accept(void *context, rr_loop_t *loop, int fd) {
    site_t *s = context;
    rr_connection_t *c;
    ck_assert_int_eq(rr_connection_open(loop, fd, &s->options, &handler, s, &c), RR_OK);
}

static void put_file(const char *folder, const char *name, const char *text, size_t size) {
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "w");
    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fwrite(text, 1, size, file), size);
    fclose(file);
}

static void link_to(const site_t *s, const char *target, const char *name) {
    char path[256];
    snprintf(path, sizeof path, "%s/%s", s->folder, name);
    ck_assert_int_eq(symlink(target, path), 0);
}

static char large[3000000];

static void make_folder(site_t *s) {
    char path[256];
    strcpy(s->folder, "/tmp/rr-files-XXXXXX");
    strcpy(s->outside, "/tmp/rr-other-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(s->folder));
    ck_assert_ptr_nonnull(mkdtemp(s->outside));
    snprintf(path, sizeof path, "%s/sub", s->folder);
    ck_assert_int_eq(mkdir(path, 0755), 0);
    memset(large, 'L', sizeof large);
    put_file(s->folder, "index.html", "<p>home", 7);
    put_file(s->folder, "a b.js", "let x", 5);
    put_file(s->folder, "empty.css", "", 0);
    put_file(s->folder, ".hidden", "no", 2);
    put_file(s->folder, "large.bin", large, sizeof large);
    put_file(s->folder, "sub/index.html", "<p>sub", 6);
    put_file(s->outside, "secret.txt", "secret", 6);
    put_file(s->outside, "client.js", "fallback", 8);
    snprintf(path, sizeof path, "%s/secret.txt", s->outside);
    link_to(s, path, "leak.txt");
    link_to(s, s->outside, "leakdir");
    link_to(s, "index.html", "inside.html");
}

static void open_site(site_t *s) {
    rr_options_t options;
    char extra_file[128];
    memset(s, 0, sizeof *s);
    make_folder(s);
    rr_options_init(&options);
    options.core_threads = 1;
    options.log_level = RR_WARN;
    rr_connection_options_init(&s->options);
    s->http = (rr_http_handler_t){.request = on_request, .context = s};
    s->options.http = &s->http;
    s->options.tcp = false;
    ck_assert_int_eq(rr_system_create(&s->system, &options), RR_OK);
    ck_assert_int_eq(rr_loop_create(s->system, "io", &s->loop), RR_OK);
    snprintf(extra_file, sizeof extra_file, "%s/client.js", s->outside);
    const char *extra[] = {"/redrabbit.js", extra_file, "/index.html", extra_file, NULL};
    s->files = rr_http_files_new(s->system, s->folder, extra);
    ck_assert_ptr_nonnull(s->files);
    rr_address_t at = {.host = "127.0.0.1"};
    ck_assert_int_eq(rr_listener_open(&s->loop, 1, &at, on_accept, s, &s->listener, NULL, 0), RR_OK);
    ck_assert_int_eq(rr_listener_start(s->listener), RR_OK);
    ck_assert_int_eq(rr_system_start(s->system), RR_OK);
}

static void close_site(site_t *s) {
    char command[256];
    rr_listener_stop(s->listener);
    rr_system_stop(s->system);
    rr_listener_destroy(s->listener);
    rr_http_files_free(s->files);
    rr_system_destroy(s->system);
    snprintf(command, sizeof command, "rm -r %s %s", s->folder, s->outside);
    ck_assert_int_eq(system(command), 0);
}

/* One request on a connection of its own; the whole answer. */
static size_t ask(site_t *s, const char *request, char *out, size_t size) {
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons((uint16_t)rr_listener_port(s->listener)),
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct timeval limit = {.tv_sec = 20};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&name, sizeof name), 0);
    char text[1024];
    int n = snprintf(text, sizeof text, "%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", request);
    ck_assert_int_eq(send(fd, text, (size_t)n, MSG_NOSIGNAL), n);
    size_t at = 0;
    ssize_t got;
    while ((got = recv(fd, out + at, size - 1 - at, 0)) > 0) {
        at += (size_t)got;
    }
    ck_assert_int_eq(got, 0);
    close(fd);
    out[at] = '\0';
    return at;
}

static void expect(site_t *s, const char *request, const char *status, const char *part) {
    char out[4096];
    ask(s, request, out, sizeof out);
    ck_assert_msg(strncmp(out + 9, status, 3) == 0 && strstr(out, part), "%s: %s", request, out);
    ck_assert_ptr_null(strstr(out, "secret"));
}

START_TEST(served) {
    site_t s;
    open_site(&s);
    expect(&s, "GET /", "200", "Content-Type: text/html; charset=utf-8\r\n");
    expect(&s, "GET /", "200", "\r\n\r\n<p>home"); /* the folder's, not the extra one */
    expect(&s, "GET /index.html?x=1", "200", "<p>home");
    expect(&s, "GET /a%20b.js", "200", "Content-Type: text/javascript");
    expect(&s, "GET /empty.css", "200", "Content-Length: 0\r\n");
    expect(&s, "GET /sub/", "200", "<p>sub");
    expect(&s, "GET /sub", "301", "Location: sub/\r\n");
    expect(&s, "GET /inside.html", "200", "<p>home");
    expect(&s, "GET /redrabbit.js", "200", "fallback");
    expect(&s, "HEAD /index.html", "200", "Content-Length: 7\r\n");
    expect(&s, "GET /index.html", "200", "Cache-Control: no-cache");
    close_site(&s);
}
END_TEST

START_TEST(refused) {
    site_t s;
    open_site(&s);
    expect(&s, "GET /nothing", "404", "");
    expect(&s, "GET /leak.txt", "404", "");
    expect(&s, "GET /leakdir/secret.txt", "404", "");
    expect(&s, "GET /sub/../../etc/passwd", "404", "");
    expect(&s, "GET /%2e%2e/%2e%2e/etc/passwd", "404", "");
    expect(&s, "GET /index.html/", "404", "");
    expect(&s, "GET /.hidden", "418", "");
    expect(&s, "GET /sub/.x", "418", "");
    expect(&s, "POST /index.html", "418", "");
    close_site(&s);
}
END_TEST

START_TEST(etag_and_change) {
    site_t s;
    open_site(&s);
    char out[4096], request[512];
    for (int i = 0; i < 2; i++) { /* the second time from the cache */
        ask(&s, "GET /index.html", out, sizeof out);
        char *etag = strstr(out, "ETag: ");
        ck_assert_ptr_nonnull(etag);
        *strchr(etag, '\r') = '\0';
        snprintf(request, sizeof request, "GET /index.html HTTP/1.1\r\nIf-None-Match: %s\r\nX:", etag + 6);
        expect(&s, request, "304", "ETag: ");
    }
    put_file(s.folder, "index.html", "<p>changed", 10);
    expect(&s, "GET /index.html", "200", "<p>changed");
    expect(&s, request, "200", "<p>changed");
    close_site(&s);
}
END_TEST

START_TEST(large_file_whole) {
    site_t s;
    open_site(&s);
    s.options.send_limit = 0; /* its floor is below the file's size */
    char *out = malloc(sizeof large + 4096);
    size_t size = ask(&s, "GET /large.bin", out, sizeof large + 4096);
    ck_assert_ptr_nonnull(strstr(out, "Content-Length: 3000000\r\n"));
    ck_assert_uint_eq((size_t)(out + size - (strstr(out, "\r\n\r\n") + 4)), sizeof large);
    free(out);
    close_site(&s);
}
END_TEST

RUN_TESTS("http_files", served, refused, etag_and_change, large_file_whole)
