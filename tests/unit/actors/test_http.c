/* HTTP at the gate: metrics, pages, and the editor's interface as net/PROTOCOL.md has it. And WebSocket's close codes.
 */
#include "fixture.h"

#include <sys/stat.h>

static char answer[1 << 16];

/* One request, connection closed afterwards; returns the status. */
static int request(const char *method, const char *path, const char *headers, const char *body) {
    client_t *client = dial();
    char head[2048];
    size_t have = 0;
    snprintf(head, sizeof(head), "%s %s HTTP/1.1\r\n%sConnection: close\r\nContent-Length: %zu\r\n\r\n", method, path,
             headers, strlen(body));
    put_bytes(client, head, strlen(head));
    put_bytes(client, body, strlen(body));
    for (;;) {
        struct pollfd p = {.fd = client->fd, .events = POLLIN};
        ck_assert_int_eq(poll(&p, 1, PATIENCE_MS), 1);
        ssize_t n = recv(client->fd, answer + have, sizeof(answer) - 1 - have, 0);
        if (n <= 0)
            break;
        have += (size_t)n;
    }
    answer[have] = 0;
    hang_up(client);
    ck_assert_msg(!strncmp(answer, "HTTP/1.1 ", 9), "%s", answer);
    return atoi(answer + 9);
}

static const char *body_of(void) {
    return strstr(answer, "\r\n\r\n") + 4;
}

static char folder[64], script[96], etag[64];
#define LOCAL "Host: localhost\r\n"

static void write_file(const char *path, const char *text) {
    FILE *f = fopen(path, "w");
    fputs(text, f);
    fclose(f);
}

static void start_web(void) {
    static rr_gate_folder_t www;
    strcpy(folder, "/tmp/rr-test-http-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(script, sizeof(script), "%s/main.py", folder);
    write_file(script, "print('hello')\n");
    ck_assert_int_eq(chmod(script, 0640), 0);
    prepare();
    www = (rr_gate_folder_t){"/pages/", folder};
    node.options.www = &www;
    node.options.www_count = 1;
    node.options.client_js = script;
    node.options.editor = (rr_gate_editor_t){.scene = "scene@0", .script = script, .token = "secret"};
    start();
}

static void finish_web(void) {
    unlink(script);
    rmdir(folder);
    finish();
}

START_TEST(metrics_and_pages) {
    start_web();
    client_t *a = log_in("alice");
    ck_assert_int_eq(request("GET", "/metrics", LOCAL, ""), 200);
    ck_assert_ptr_nonnull(strstr(answer, "rr_gate_sessions{gate=\"gate@0\"} 1\n"));
    ck_assert_ptr_nonnull(strstr(answer, "rr_scene_sessions{scene=\"scene@0\"} 1\n"));
    ck_assert_int_eq(request("GET", "/pages/main.py", LOCAL, ""), 200);
    ck_assert_str_eq(body_of(), "print('hello')\n");
    ck_assert_int_eq(request("GET", "/redrabbit.js", LOCAL, ""), 200);
    ck_assert_int_eq(request("GET", "/pages/../main.py", LOCAL, ""), 404);
    ck_assert_int_eq(request("GET", "/pagesmain.py", LOCAL, ""), 404);
    ck_assert_int_eq(request("GET", "/nothing", LOCAL, ""), 404);
    ck_assert_int_eq(request("POST", "/metrics", LOCAL, ""), 405);
    hang_up(a);
    finish_web();
}
END_TEST

START_TEST(the_editor_is_for_those_who_know_the_token) {
    start_web();
    ck_assert_int_eq(request("GET", "/editor/script", LOCAL, ""), 404);
    ck_assert_int_eq(request("GET", "/editor/script?token=wrong", LOCAL, ""), 404);
    ck_assert_int_eq(request("GET", "/editor/script?token=secre", LOCAL, ""), 404);
    ck_assert_int_eq(request("GET", "/editor/script?token=secrets", LOCAL, ""), 404);
    ck_assert_int_eq(request("GET", "/editor/script?token=secret", "Host: evil.example\r\n", ""), 404);
    ck_assert_int_eq(request("GET", "/editor/script?token=secret", "Host: 127.0.0.1:80\r\n", ""), 200);
    ck_assert_int_eq(request("GET", "/editor/script?token=secret", "Host: [::1]:80\r\n", ""), 200);
    ck_assert_int_eq(request("DELETE", "/editor/script?token=secret", LOCAL, ""), 405);
    ck_assert_int_eq(request("GET", "/editor/reload?token=secret", LOCAL, ""), 405);
    finish_web();
}
END_TEST

static void keep_etag(void) {
    const char *at = strstr(answer, "ETag: ");
    ck_assert_ptr_nonnull(at);
    sscanf(at, "ETag: %63s", etag);
}

START_TEST(reading_and_writing_the_script) {
    start_web();
    char headers[200];
    ck_assert_int_eq(request("GET", "/editor/script?token=secret", LOCAL, ""), 200);
    ck_assert_str_eq(body_of(), "print('hello')\n");
    ck_assert_ptr_nonnull(strstr(answer, "X-Script-Name: main.py\r\n"));
    ck_assert_ptr_nonnull(strstr(answer, "Cache-Control: no-store\r\n"));
    keep_etag();
    ck_assert_int_eq(request("PUT", "/editor/script?token=secret", LOCAL, "x = 1\n"), 428);
    ck_assert_int_eq(request("PUT", "/editor/script?token=secret", LOCAL "If-Match: \"0\"\r\n", "x = 1\n"), 412);
    ck_assert_int_eq(request("PUT", "/editor/script?token=secret", LOCAL "If-Match: *\r\n", "x = '\xff'\n"), 422);
    snprintf(headers, sizeof(headers), LOCAL "If-Match: %s\r\n", etag);
    ck_assert_int_eq(request("PUT", "/editor/script?token=secret", headers, "x = 1\n"), 204);
    keep_etag();
    ck_assert_int_eq(request("PUT", "/editor/script?token=secret", headers, "x = 2\n"), 412); /* changed since */
    ck_assert_int_eq(request("GET", "/editor/script?token=secret", LOCAL, ""), 200);
    ck_assert_str_eq(body_of(), "x = 1\n");
    ck_assert_ptr_nonnull(strstr(answer, etag));
    struct stat info;
    ck_assert_int_eq(stat(script, &info), 0);
    ck_assert_uint_eq(info.st_mode & 0777, 0640); /* its mode is kept */
    unlink(script);
    ck_assert_int_eq(request("GET", "/editor/script?token=secret", LOCAL, ""), 500);
    ck_assert_ptr_nonnull(strstr(body_of(), "{\"error\": \""));
    finish_web();
}
END_TEST

START_TEST(reloading) {
    start_web();
    ck_assert_int_eq(request("POST", "/editor/reload?token=secret", LOCAL, ""), 200);
    ck_assert_str_eq(body_of(), "{\"ok\": true, \"version\": 2, \"error\": \"\"}");
    ck_assert_int_eq(request("POST", "/editor/reload?token=secret", LOCAL, ""), 200);
    ck_assert_str_eq(body_of(), "{\"ok\": false, \"version\": 3, \"error\": \"Traceback: \\\"line 1\\\"\\u000a\"}");
    rr_kill(node.system, node.addresses[0], RR_CANCELLED);
    await_line("scene@0 destroyed");
    ck_assert_int_eq(request("POST", "/editor/reload?token=secret", LOCAL, ""), 504);
    finish_web();
}
END_TEST

START_TEST(off_unless_turned_on) {
    prepare();
    start();
    ck_assert_ptr_null(rr_gate_editor_token(node.gate));
    ck_assert_int_eq(request("GET", "/editor/script?token=", LOCAL, ""), 404);
    finish();
}
END_TEST

START_TEST(a_token_of_its_own) {
    prepare();
    node.options.editor = (rr_gate_editor_t){.scene = "scene@0", .script = "/dev/null"};
    start();
    ck_assert_uint_eq(strlen(rr_gate_editor_token(node.gate)), 32);
    finish();
}
END_TEST

/* ---- WebSocket ---- */

static client_t *upgrade(void) {
    client_t *client = dial();
    static const char head[] = "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                               "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    put_bytes(client, head, strlen(head));
    while (!memmem(client->in, client->have, "\r\n\r\n", 4))
        ck_assert(more(client));
    ck_assert(!memcmp(client->in, "HTTP/1.1 101", 12));
    size_t size = (size_t)((uint8_t *)memmem(client->in, client->have, "\r\n\r\n", 4) - client->in) + 4;
    drop_bytes(client, size);
    return client;
}

static void put_frame(client_t *client, int opcode, const void *data, size_t size) {
    uint8_t frame[6 + 125] = {(uint8_t)(0x80 | opcode), (uint8_t)(0x80 | size)}; /* a mask of zeros */
    ck_assert_uint_le(size, 125);
    memcpy(frame + 6, data, size);
    put_bytes(client, frame, 6 + size);
}

static int get_frame(client_t *client, char *text) {
    while (client->have < 2)
        ck_assert(more(client));
    size_t size = client->in[1];
    ck_assert_uint_le(size, 125);
    while (client->have < 2 + size)
        ck_assert(more(client));
    int opcode = client->in[0] & 15;
    memcpy(text, client->in + 2, size);
    text[size] = 0;
    drop_bytes(client, 2 + size);
    return opcode;
}

static void expect_code(client_t *client, unsigned code) {
    char text[128];
    while (get_frame(client, text) != 8)
        ;
    ck_assert_uint_eq((unsigned)(uint8_t)text[0] << 8 | (uint8_t)text[1], code);
}

START_TEST(websocket_close_codes) {
    prepare();
    node.options.rate = 20;
    node.options.rate_burst = 5;
    start();
    char text[128];
    client_t *refused = upgrade(), *a = upgrade(), *b = upgrade(), *rate = upgrade(), *gone = upgrade();
    put_frame(refused, 1, "no", 2);
    expect_code(refused, 4002);
    put_frame(a, 1, "cmd:0\nalice", 11);
    ck_assert_int_eq(get_frame(a, text), 1);
    ck_assert_str_eq(text, "cmd:100\nwelcome");
    put_frame(b, 1, "alice", 5);
    expect_code(a, 4001);
    get_frame(b, text);
    put_frame(b, 1, "cmd:1\nbye", 9);
    ck_assert_int_eq(get_frame(b, text), 1);
    ck_assert_str_eq(text, "cmd:1\nlast words");
    expect_code(b, 4003);
    put_frame(rate, 1, "rate", 4);
    for (int i = 0; i < 8; i++)
        put_frame(rate, 1, "cmd:1\necho", 10);
    expect_code(rate, 4006);
    put_frame(gone, 1, "gone", 4);
    get_frame(gone, text);
    put_frame(gone, 1, "cmd:1\ncrash", 11);
    expect_code(gone, 4009);
    hang_up(refused);
    hang_up(a);
    hang_up(b);
    hang_up(rate);
    hang_up(gone);
    finish();
}
END_TEST

START_TEST(websocket_is_pinged_and_drained) {
    prepare();
    node.options.idle_timeout_ms = 3000;
    start();
    char text[128];
    client_t *a = upgrade();
    put_frame(a, 1, "alice", 5);
    get_frame(a, text);
    for (int i = 0; i < 5; i++) { /* answered pings keep it alive beyond the time-out */
        ck_assert_int_eq(get_frame(a, text), 9);
        put_frame(a, 10, "", 0);
    }
    ck_assert_int_eq(drain_node(), RR_OK);
    expect_code(a, 1001);
    hang_up(a);
    stop_node();
}
END_TEST

CHECK_MAIN("http", metrics_and_pages, the_editor_is_for_those_who_know_the_token, reading_and_writing_the_script,
           reloading, off_unless_turned_on, a_token_of_its_own, websocket_close_codes, websocket_is_pinged_and_drained)
