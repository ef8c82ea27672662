/* A connection over a stream without a socket: every protocol rule, byte by byte. */
#include <stdlib.h>
#include <string.h>

#include "fake_stream.h"
#include "net/connection_impl.h"
#include "net/http_parse.h"
#include "net/websocket.h"
#include "support.h"

#define MAX_PACKET 100000u

typedef struct received {
    uint16_t cmd, flag;
    size_t size;
    uint8_t *body;
    bool owned;
} received_t;

typedef struct peer {
    rr_connection_options_t options;
    rr_connection_t *c;
    fake_stream_t *stream;
    received_t messages[64];
    size_t count;
    int pause_after;  /* pause when so many messages are here; 0 = never */
    int refuse; /* so many looks at input are answered with a pause */
    int close_after;
    int closed;
    rr_close_reason_t reason;
    rr_http_handler_t http;
    rr_http_reply_t *reply; /* kept for later */
    bool answer_later;
    char path[64];
} peer_t;

static void on_message(void *context, rr_connection_t *c, uint16_t cmd, uint16_t flag, const uint8_t *body, size_t size, rr_buffer_t *owner) {
    peer_t *p = context;
    ck_assert_uint_lt(p->count, 64);
    received_t *m = &p->messages[p->count++];
    *m = (received_t){.cmd = cmd, .flag = flag, .size = size, .body = malloc(size + 1), .owned = owner != NULL};
    memcpy(m->body, body, size);
    if (p->pause_after && p->count % (size_t)p->pause_after == 0) {
        rr_connection_pause(c);
    }
    if (p->close_after && p->count == (size_t)p->close_after) {
        rr_connection_close(c, RR_CLOSE_KICKED);
    }
}

static bool on_input(void *context, rr_connection_t *c) {
    peer_t *p = context;
    if (p->refuse == 0) {
        return true;
    }
    p->refuse--;
    rr_connection_pause(c);
    return false;
}

static void on_closed(void *context, rr_connection_t *c, rr_close_reason_t reason) {
    peer_t *p = context;
    p->closed++;
    p->reason = reason;
}

static const rr_connection_handler_t handler = {.message = on_message, .input = on_input, .closed = on_closed};

static void on_request(void *context, const rr_http_request_t *request, rr_http_reply_t *reply) {
    peer_t *p = context;
    snprintf(p->path, sizeof p->path, "%s", request->path);
    if (p->answer_later) {
        p->reply = reply;
    } else {
        rr_http_answer(reply, 200, "text/plain", NULL, request->path, strlen(request->path));
    }
}

static void open_peer(peer_t *p) {
    memset(p, 0, sizeof *p);
    rr_connection_options_init(&p->options);
    p->options.max_packet = MAX_PACKET;
    p->http = (rr_http_handler_t){.request = on_request, .context = p};
    p->options.http = &p->http;
}

static void begin(peer_t *p) {
    p->c = rr__connection_new(&p->options, &handler, p);
    p->stream = fake_stream_new(&rr__connection_stream_handler, p->c);
    rr__connection_begin(p->c, &p->stream->base);
}

static void forget(peer_t *p) {
    for (size_t i = 0; i < p->count; i++) {
        free(p->messages[i].body);
    }
    p->count = 0;
}

static void end(peer_t *p) {
    fake_stream_end(p->stream, RR_OK);
    ck_assert_int_eq(p->closed, 1);
    forget(p);
}

static size_t feed(peer_t *p, const void *data, size_t size) {
    return fake_stream_feed(p->stream, data, size);
}

static void expect(peer_t *p, size_t i, unsigned cmd, const void *body, size_t size) {
    ck_assert_uint_lt(i, p->count);
    ck_assert_uint_eq(p->messages[i].cmd, cmd);
    ck_assert_uint_eq(p->messages[i].size, size);
    ck_assert_mem_eq(p->messages[i].body, body, size);
}

static void expect_out(peer_t *p, const void *bytes, size_t size) {
    ck_assert_uint_eq(p->stream->out_size, size);
    ck_assert_mem_eq(p->stream->out, bytes, size);
    p->stream->out_size = 0;
}

static const char upgrade_request[] = "GET /any HTTP/1.1\r\nHOST: x\r\nupgrade: WEBSOCKET\r\nconnection: upgrade\r\n"
                                      "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n";

static void upgrade(peer_t *p) {
    feed(p, upgrade_request, sizeof upgrade_request - 1);
    feed(p, "\r\n", 2);
    static const char answer[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                                 "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    expect_out(p, answer, sizeof answer - 1);
}

/* A masked client frame; head is the first byte. */
static size_t frame(uint8_t *out, uint8_t head, const void *payload, size_t size) {
    static const uint8_t mask[4] = {0x37, 0xfa, 0x21, 0x3d};
    out[0] = head;
    size_t n = 2;
    if (size < 126) {
        out[1] = (uint8_t)(0x80 | size);
    } else if (size < 65536) {
        out[1] = 0x80 | 126;
        out[n++] = (uint8_t)(size >> 8);
        out[n++] = (uint8_t)size;
    } else {
        out[1] = 0x80 | 127;
        memset(out + 2, 0, 4);
        for (int shift = 24; shift >= 0; shift -= 8) {
            out[n + 4] = (uint8_t)(size >> shift);
            n++;
        }
        n += 4;
    }
    memcpy(out + n, mask, 4);
    n += 4;
    for (size_t i = 0; i < size; i++) {
        out[n + i] = ((const uint8_t *)payload)[i] ^ mask[i & 3];
    }
    return n + size;
}

static void feed_frame(peer_t *p, uint8_t head, const void *payload, size_t size) {
    uint8_t *out = malloc(size + 14);
    feed(p, out, frame(out, head, payload, size));
    free(out);
}

static void expect_close(peer_t *p, unsigned code) {
    ck_assert(p->stream->closing);
    size_t n = p->stream->out_size;
    ck_assert_uint_ge(n, 4);
    uint8_t *at = memchr(p->stream->out, 0x88, n);
    ck_assert_ptr_nonnull(at);
    ck_assert_uint_eq((unsigned)at[2] << 8 | at[3], code);
}

/* ---- TCP ---- */

START_TEST(tcp_cut_anywhere) {
    static const uint8_t bytes[] = "\5\0\0\0\2\1\7\0hello\0\0\0\0\0\0\0\0\3\0\0\0\1\0\0\0GET";
    for (size_t cut = 1; cut < sizeof bytes - 1; cut++) {
        for (int drip = 0; drip < 2; drip++) {
            peer_t p;
            open_peer(&p);
            begin(&p);
            for (size_t i = 0; drip && i < cut; i++) {
                feed(&p, bytes + i, 1);
            }
            if (!drip) {
                feed(&p, bytes, cut);
            }
            feed(&p, bytes + cut, sizeof bytes - 1 - cut);
            ck_assert_uint_eq(p.count, 3);
            expect(&p, 0, 0x102, "hello", 5);
            ck_assert_uint_eq(p.messages[0].flag, 7);
            expect(&p, 1, 0, "", 0);
            expect(&p, 2, 1, "GET", 3);
            ck_assert_ptr_null(p.c->left);
            end(&p);
            ck_assert_int_eq(p.reason, RR_CLOSE_PEER);
        }
    }
}
END_TEST

START_TEST(tcp_sizes) {
    static const size_t sizes[] = {4087, 4088, 4089, 5000, 8192, 16384, 65535, 65536, 99999, 100000};
    uint8_t *bytes = malloc(MAX_PACKET + 100);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        for (size_t first = 1; first < 20; first += 6) {
            peer_t p;
            open_peer(&p);
            begin(&p);
            size_t n = sizes[i];
            for (size_t k = 0; k < n; k++) {
                bytes[8 + k] = (uint8_t)(k * 13 + (k >> 9));
            }
            rr_frame_encode(bytes, (uint32_t)n, 9, false);
            memcpy(bytes + 8 + n, "\1\0\0\0\2\0\0\0x", 9);
            feed(&p, bytes, first);
            feed(&p, bytes + first, n + 17 - first);
            ck_assert_uint_eq(p.count, 2);
            expect(&p, 0, 9, bytes + 8, n);
            expect(&p, 1, 2, "x", 1);
            end(&p);
        }
    }
    free(bytes);
}
END_TEST

START_TEST(tcp_too_big_allocates_nothing) {
    peer_t p;
    open_peer(&p);
    begin(&p);
    feed(&p, "\xa1\x86\1\0\0\0\0\0", 8); /* 100,001 */
    ck_assert(p.stream->closing);
    ck_assert_ptr_null(p.c->body);
    end(&p);
    ck_assert_int_eq(p.reason, RR_CLOSE_TOO_BIG);
}
END_TEST

START_TEST(tcp_big_endian) {
    peer_t p;
    open_peer(&p);
    p.options.big_endian = true;
    begin(&p);
    feed(&p, "\0\0\0\5\0\1\0\0hello", 13);
    expect(&p, 0, 1, "hello", 5);
    ck_assert_int_eq(rr_connection_send(p.c, 0x102, "yes", 3, true), RR_OK);
    expect_out(&p, "\0\0\0\3\1\2\0\0yes", 11);
    end(&p);
}
END_TEST

START_TEST(tcp_answers) {
    peer_t p;
    open_peer(&p);
    begin(&p);
    ck_assert_int_eq(rr_connection_wire(p.c), RR_WIRE_UNKNOWN);
    ck_assert_int_eq(rr_connection_send(p.c, 1, "a", 1, true), RR_OK); /* before it has said anything */
    expect_out(&p, "\1\0\0\0\1\0\0\0a", 9);
    feed(&p, "\0\0\0\0\0\0\0\0", 8);
    ck_assert_int_eq(rr_connection_wire(p.c), RR_WIRE_TCP);
    ck_assert_int_eq(rr_connection_send(p.c, 258, "", 0, true), RR_OK);
    expect_out(&p, "\0\0\0\0\2\1\0\0", 8);
    ck_assert_int_eq(rr_connection_ping(p.c), RR_OK);
    expect_out(&p, "", 0);
    uint8_t *large = calloc(1, MAX_PACKET + 1);
    ck_assert_int_eq(rr_connection_send(p.c, 1, large, MAX_PACKET + 1, true), RR_ETOOBIG); /* the limit holds both ways */
    expect_out(&p, "", 0);
    free(large);
    rr_connection_close(p.c, RR_CLOSE_KICKED);
    rr_connection_close(p.c, RR_CLOSE_IDLE);
    ck_assert_int_eq(rr_connection_send(p.c, 1, "a", 1, true), RR_ESTATE);
    end(&p);
    ck_assert_int_eq(p.reason, RR_CLOSE_KICKED);
}
END_TEST

START_TEST(pausing_keeps_everything_in_order) {
    for (int every = 1; every < 4; every++) {
        peer_t p;
        open_peer(&p);
        p.pause_after = every;
        begin(&p);
        uint8_t bytes[30 * 9];
        for (int i = 0; i < 30; i++) {
            rr_frame_encode(bytes + i * 9, 1, (uint16_t)i, false);
            bytes[i * 9 + 8] = (uint8_t)i;
        }
        size_t at = 0;
        for (int turns = 0; p.count < 30; turns++) {
            ck_assert_int_lt(turns, 200);
            at += feed(&p, bytes + at, sizeof bytes - at < 40 ? sizeof bytes - at : 40);
            rr_connection_resume(p.c);
            fake_stream_run(p.stream);
        }
        for (size_t i = 0; i < 30; i++) {
            uint8_t body = (uint8_t)i;
            expect(&p, i, (unsigned)i, &body, 1);
        }
        end(&p);
    }
}
END_TEST

/* Input that is not wanted yet stays whole, however often it is looked at. */
START_TEST(input_can_wait_as_a_whole) {
    static const uint8_t bytes[] = "\1\0\0\0\1\0\0\0a\1\0\0\0\2\0\0\0b\1\0\0\0\3\0\0\0c";
    for (size_t cut = 1; cut < 27; cut++) {
        peer_t p;
        open_peer(&p);
        p.refuse = 3;
        begin(&p);
        ck_assert_uint_eq(feed(&p, bytes, cut), cut);
        for (int looks = 2; looks >= 0; looks--) {
            ck_assert_int_eq(p.refuse, looks);
            ck_assert_uint_eq(p.count, 0);
            ck_assert(p.stream->paused);
            rr_connection_resume(p.c);
            ck_assert_uint_eq(feed(&p, bytes + cut, sizeof bytes - 1 - cut), looks ? 0 : sizeof bytes - 1 - cut);
        }
        ck_assert_uint_eq(p.count, 3);
        for (size_t i = 0; i < 3; i++) {
            uint8_t body = (uint8_t)('a' + i);
            expect(&p, i, (unsigned)i + 1, &body, 1);
        }
        end(&p);
    }
}
END_TEST

START_TEST(closing_inside_a_message) {
    peer_t p;
    open_peer(&p);
    p.close_after = 1;
    begin(&p);
    feed(&p, "\1\0\0\0\1\0\0\0a\1\0\0\0\1\0\0\0b", 18);
    ck_assert_uint_eq(p.count, 1);
    ck_assert(p.stream->closing);
    ck_assert_int_eq(p.closed, 0);
    end(&p);
    ck_assert_int_eq(p.reason, RR_CLOSE_KICKED);
}
END_TEST

/* ---- First bytes ---- */

START_TEST(policy) {
    static const char answer[] = "<?xml version=\"1.0\"?><cross-domain-policy><allow-access-from domain=\"*\" "
                                 "to-ports=\"*\"/></cross-domain-policy>";
    for (size_t step = 1; step < 24; step += 11) {
        peer_t p;
        open_peer(&p);
        begin(&p);
        for (size_t i = 0; i < 23; i += step) {
            feed(&p, "<policy-file-request/>" + i, i + step < 23 ? step : 23 - i);
        }
        ck_assert(p.stream->closing);
        expect_out(&p, answer, sizeof answer);
        end(&p);
        ck_assert_int_eq(p.reason, RR_CLOSE_NORMAL);
    }
    peer_t p;
    open_peer(&p);
    begin(&p);
    feed(&p, "<polite>", 8);
    ck_assert(p.stream->closing);
    end(&p);
    ck_assert_int_eq(p.reason, RR_CLOSE_PROTOCOL);
}
END_TEST

START_TEST(words_need_all_four_bytes) {
    peer_t p;
    open_peer(&p);
    begin(&p);
    feed(&p, "G\0\0\0", 4); /* a frame of 71 bytes */
    ck_assert_int_eq(p.c->protocol, RR__PROTOCOL_TCP);
    end(&p);
    open_peer(&p);
    begin(&p);
    feed(&p, "G", 1);
    feed(&p, "E", 1);
    feed(&p, "T", 1);
    ck_assert_int_eq(p.c->protocol, RR__PROTOCOL_NEW);
    feed(&p, "\0", 1); /* 0x00544547: above this max_packet, but no HTTP */
    ck_assert_int_eq(p.c->protocol, RR__PROTOCOL_TCP);
    end(&p);
    ck_assert_int_eq(p.reason, RR_CLOSE_PEER);
    static const char *const words[] = {"GET ", "HEAD", "POST", "PUT ", "OPTI", "DELE", "PATC"};
    for (size_t i = 0; i < 7; i++) {
        open_peer(&p);
        begin(&p);
        feed(&p, words[i], 4);
        ck_assert_int_eq(p.c->protocol, RR__PROTOCOL_HTTP);
        end(&p);
    }
}
END_TEST

START_TEST(listeners_that_speak_less) {
    peer_t p;
    open_peer(&p);
    p.options.websocket = false;
    begin(&p);
    feed(&p, "GET / HTTP/1.1\r\n\r\n", 18);
    end(&p);
    ck_assert_int_eq(p.reason, RR_CLOSE_TOO_BIG);
    open_peer(&p);
    p.options.tcp = false;
    begin(&p);
    ck_assert_int_eq(rr_connection_send(p.c, 1, "", 0, true), RR_ESTATE);
    feed(&p, "\5\0\0\0\1\0\0\0hello", 13);
    ck_assert(p.stream->closing);
    ck_assert_uint_eq(p.count, 0);
    end(&p);
}
END_TEST

/* ---- WebSocket ---- */

START_TEST(ws_text_and_binary) {
    peer_t p;
    open_peer(&p);
    begin(&p);
    upgrade(&p);
    ck_assert_int_eq(rr_connection_send(p.c, 1, "hello", 5, true), RR_OK);
    expect_out(&p, "\x81\x0b" "cmd:1\nhello", 13);
    ck_assert_int_eq(rr_connection_send(p.c, 1, "\xff", 1, false), RR_OK); /* no UTF-8: binary */
    expect_out(&p, "\x82\x09\1\0\0\0\1\0\0\0\xff", 11);
    feed_frame(&p, 0x81, "cmd:65535\nJ\xc3\xb6rg", 15);
    expect(&p, 0, 65535, "J\xc3\xb6rg", 5);
    feed_frame(&p, 0x81, "plain", 5);
    expect(&p, 1, 0, "plain", 5);
    feed_frame(&p, 0x81, "", 0);
    expect(&p, 2, 0, "", 0);
    feed_frame(&p, 0x82, "\5\0\0\0\1\0\3\0hello", 13);
    expect(&p, 3, 1, "hello", 5);
    ck_assert_uint_eq(p.messages[3].flag, 3);
    ck_assert_int_eq(rr_connection_wire(p.c), RR_WIRE_WS_BINARY);
    ck_assert_int_eq(rr_connection_send(p.c, 1, "hello", 5, true), RR_OK);
    expect_out(&p, "\x82\x0d\5\0\0\0\1\0\0\0hello", 15);
    feed_frame(&p, 0x81, "cmd:2\n", 6);
    ck_assert_int_eq(rr_connection_wire(p.c), RR_WIRE_WS_TEXT);
    end(&p);
}
END_TEST

START_TEST(ws_cut_anywhere) {
    uint8_t bytes[400];
    size_t n = 0;
    n += frame(bytes + n, 0x01, "cmd:7\nh\xc3", 8); /* a character cut by fragments */
    n += frame(bytes + n, 0x89, "ping", 4);       /* control between them */
    n += frame(bytes + n, 0x00, "", 0);
    n += frame(bytes + n, 0x80, "\xa9llo", 4);
    n += frame(bytes + n, 0x82, "\2\0\0\0\1\0\0\0hi", 10);
    for (size_t cut = 1; cut < n; cut++) {
        peer_t p;
        open_peer(&p);
        begin(&p);
        upgrade(&p);
        feed(&p, bytes, cut);
        feed(&p, bytes + cut, n - cut);
        ck_assert_uint_eq(p.count, 2);
        expect(&p, 0, 7, "h\xc3\xa9llo", 6);
        expect(&p, 1, 1, "hi", 2);
        expect_out(&p, "\x8a\4ping", 6);
        ck_assert_ptr_null(p.c->body);
        end(&p);
    }
}
END_TEST

START_TEST(ws_large) {
    static const size_t sizes[] = {125, 126, 4000, 4090, 4100, 65535, 65536, 90000};
    uint8_t *text = malloc(MAX_PACKET + 20);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        peer_t p;
        open_peer(&p);
        begin(&p);
        upgrade(&p);
        memset(text, 'a' + (int)i, MAX_PACKET + 20);
        memcpy(text, "cmd:3\n", 6);
        feed_frame(&p, 0x81, text, sizes[i]);
        expect(&p, 0, 3, text + 6, sizes[i] - 6);
        feed_frame(&p, 0x01, text, sizes[i] / 3); /* the same in three parts */
        feed_frame(&p, 0x00, text + sizes[i] / 3, sizes[i] / 3);
        feed_frame(&p, 0x80, text + sizes[i] / 3 * 2, sizes[i] - sizes[i] / 3 * 2);
        expect(&p, 1, 3, text + 6, sizes[i] - 6);
        end(&p);
    }
    free(text);
}
END_TEST

static void ws_violation(uint8_t head, const void *payload, size_t size, rr_close_reason_t reason) {
    peer_t p;
    open_peer(&p);
    begin(&p);
    upgrade(&p);
    feed_frame(&p, head, payload, size);
    expect_close(&p, rr_close_code(reason));
    ck_assert_uint_eq(p.count, 0);
    end(&p);
    ck_assert_int_eq(p.reason, (int)reason);
}

START_TEST(ws_violations) {
    ws_violation(0x81, "\xff", 1, RR_CLOSE_ENCODING);
    ws_violation(0x81, "cmd:1\n\xed\xa0\x80", 9, RR_CLOSE_ENCODING);
    ws_violation(0x82, "\5\0\0\0\1\0\0\0hell", 12, RR_CLOSE_PROTOCOL);
    ws_violation(0x82, "\5\0\0\0\1\0\0", 7, RR_CLOSE_PROTOCOL);
    ws_violation(0x80, "x", 1, RR_CLOSE_PROTOCOL);
    ws_violation(0xc1, "x", 1, RR_CLOSE_PROTOCOL);
    ws_violation(0x83, "x", 1, RR_CLOSE_PROTOCOL);
    ws_violation(0x88, "\3", 1, RR_CLOSE_PROTOCOL);
    ws_violation(0x88, "\3\xed", 2, RR_CLOSE_PROTOCOL);
    ws_violation(0x88, "\3\xe8\xff", 3, RR_CLOSE_ENCODING);
    peer_t p;
    open_peer(&p);
    begin(&p);
    upgrade(&p);
    feed(&p, "\x81\5hello", 7); /* unmasked */
    expect_close(&p, 1002);
    end(&p);
    open_peer(&p);
    begin(&p);
    upgrade(&p);
    feed_frame(&p, 0x01, "a", 1);
    feed_frame(&p, 0x81, "b", 1); /* a new message inside a fragmented one */
    expect_close(&p, 1002);
    end(&p);
}
END_TEST

START_TEST(ws_too_big) {
    static const char *const heads[] = {"\x82\xff\0\0\0\0\0\1\x86\xa9\0\0\0\0",      /* limit + 1 */
                                        "\x81\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0"};
    for (size_t i = 0; i < 2; i++) {
        peer_t p;
        open_peer(&p);
        begin(&p);
        upgrade(&p);
        feed(&p, heads[i], 14);
        expect_close(&p, 1009);
        ck_assert_ptr_null(p.c->body);
        end(&p);
    }
    peer_t p; /* the limit holds for all fragments together */
    open_peer(&p);
    begin(&p);
    upgrade(&p);
    uint8_t *part = calloc(1, 60000);
    feed_frame(&p, 0x02, part, 60000);
    feed_frame(&p, 0x80, part, 60000);
    expect_close(&p, 1009);
    end(&p);
    open_peer(&p); /* a text line does not buy a larger body */
    begin(&p);
    upgrade(&p);
    uint8_t *text = malloc(MAX_PACKET + 5);
    memset(text, 'x', MAX_PACKET + 5);
    feed_frame(&p, 0x81, text, MAX_PACKET + 5);
    expect_close(&p, 1009);
    end(&p);
    free(text);
    free(part);
}
END_TEST

START_TEST(ws_close_handshake) {
    peer_t p;
    open_peer(&p);
    begin(&p);
    upgrade(&p);
    feed_frame(&p, 0x88, "\x0f\xa0" "bye", 5);
    expect_out(&p, "\x88\2\x0f\xa0", 4);
    end(&p);
    ck_assert_int_eq(p.reason, RR_CLOSE_PEER);
    open_peer(&p);
    begin(&p);
    upgrade(&p);
    feed_frame(&p, 0x88, "", 0);
    expect_out(&p, "\x88\0", 2);
    end(&p);
    open_peer(&p);
    begin(&p);
    upgrade(&p);
    rr_connection_close(p.c, RR_CLOSE_KICKED);
    expect_out(&p, "\x88\x08\x0f\xa3kicked", 10);
    end(&p);
    ck_assert_int_eq(p.reason, RR_CLOSE_KICKED);
    open_peer(&p);
    begin(&p);
    upgrade(&p);
    ck_assert_int_eq(rr_connection_ping(p.c), RR_OK);
    expect_out(&p, "\x89\0", 2);
    feed_frame(&p, 0x8a, "x", 1); /* a pong nobody asked for is fine */
    ck_assert(!p.stream->closing);
    end(&p);
}
END_TEST

START_TEST(ws_handshakes) {
    static const struct {
        const char *text, *answer;
    } cases[] = {{"GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                  "Sec-WebSocket-Version: 8\r\n\r\n", "HTTP/1.1 426 "},
                 {"GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\r\n", "HTTP/1.1 400 "},
                 {"GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: short\r\n"
                  "Sec-WebSocket-Version: 13\r\n\r\n", "HTTP/1.1 400 "},
                 {"POST / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                  "Sec-WebSocket-Version: 13\r\n\r\n", "HTTP/1.1 400 "}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        peer_t p;
        open_peer(&p);
        begin(&p);
        feed(&p, cases[i].text, strlen(cases[i].text));
        ck_assert(p.stream->closing);
        ck_assert_msg(memcmp(p.stream->out, cases[i].answer, 13) == 0, "%zu: %.20s", i, (char *)p.stream->out);
        end(&p);
    }
    static const char *const listed[] = {"v1", "v2", NULL};
    peer_t p;
    open_peer(&p);
    p.options.subprotocols = listed;
    begin(&p);
    feed(&p, upgrade_request, sizeof upgrade_request - 1);
    feed(&p, "Sec-WebSocket-Protocol: v, v2,v1\r\n\r\n", 36);
    ck_assert_ptr_nonnull(memmem(p.stream->out, p.stream->out_size, "\r\nSec-WebSocket-Protocol: v2\r\n", 30));
    end(&p);
    open_peer(&p); /* frames right behind the request */
    begin(&p);
    uint8_t bytes[600];
    memcpy(bytes, upgrade_request, sizeof upgrade_request - 1);
    memcpy(bytes + sizeof upgrade_request - 1, "\r\n", 2);
    size_t n = sizeof upgrade_request + 1;
    n += frame(bytes + n, 0x81, "early", 5);
    feed(&p, bytes, n);
    expect(&p, 0, 0, "early", 5);
    end(&p);
}
END_TEST

/* ---- Shared messages ---- */

START_TEST(shared_messages) {
    static const size_t sizes[] = {0, 5, 1024, 1025, 70000};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        for (int ws = 0; ws < 2; ws++) {
            peer_t p;
            open_peer(&p);
            begin(&p);
            if (ws) {
                upgrade(&p);
            }
            rr_buffer_t *body = rr_buffer_new(sizes[i] + 3);
            memset(rr_buffer_data(body), 'x', sizes[i] + 3);
            rr_shared_message_t *m = rr_shared_message_new(5, body, rr_buffer_data(body) + 3, sizes[i], false);
            rr_buffer_unref(body);
            ck_assert_int_eq(rr_connection_send_shared(p.c, m), RR_OK);
            size_t one = p.stream->out_size;
            uint8_t *first = malloc(one);
            memcpy(first, p.stream->out, one);
            p.stream->out_size = 0;
            uint8_t *flat = malloc(sizes[i] + 1);
            memset(flat, 'x', sizes[i]);
            ck_assert_int_eq(rr_connection_send(p.c, 5, flat, sizes[i], false), RR_OK);
            expect_out(&p, first, one);
            free(flat);
            free(first);
            rr_shared_message_free(m);
            end(&p);
        }
    }
}
END_TEST

typedef struct row_case {
    uint16_t cmd;
    const char *body;
    size_t size;
} row_case_t;

/* What a client gets as a row is what it would have got one by one: per wire form, byte order, and for bytes that are no text. */
START_TEST(rows_are_their_messages_in_order) {
    static char large[1024], small[600];
    memset(large, 'l', sizeof large);
    memset(small, 's', sizeof small);
    const row_case_t cases[] = {{5, "hello", 5}, {6, NULL, 0}, {7, "\xff\xfe", 2}, {8, small, sizeof small}, {9, large, sizeof large}};
    rr_shared_row_t *row = rr_shared_row_new();
    for (size_t n = 1; n <= sizeof cases / sizeof *cases; n++) { /* the first are copied, the longer ones go by reference */
        rr_shared_row_clear(row);
        for (size_t i = 0; i < n; i++) {
            ck_assert(rr_shared_row_add(row, cases[i].cmd, (const uint8_t *)cases[i].body, cases[i].size, false));
        }
        ck_assert_uint_eq(rr_shared_row_count(row), n);
        for (unsigned as = 0; as < 6; as++) { /* one row serves clients of all kinds: TCP, texts, binary frames; both orders */
            peer_t p;
            open_peer(&p);
            p.options.big_endian = as % 2;
            begin(&p);
            if (as >= 2) {
                upgrade(&p);
                p.c->wire = as >= 4 ? RR_WIRE_WS_BINARY : RR_WIRE_WS_TEXT;
            }
            ck_assert_int_eq(rr_connection_send_row(p.c, row), RR_OK);
            size_t size = p.stream->out_size;
            uint8_t *first = malloc(size);
            memcpy(first, p.stream->out, size);
            p.stream->out_size = 0;
            for (size_t i = 0; i < n; i++) {
                ck_assert_int_eq(rr_connection_send(p.c, cases[i].cmd, cases[i].body, cases[i].size, false), RR_OK);
            }
            expect_out(&p, first, size);
            free(first);
            end(&p);
        }
    }
    rr_shared_row_free(row);
}
END_TEST

START_TEST(rows_are_bounded) {
    static uint8_t bytes[1025];
    rr_shared_row_t *row = rr_shared_row_new();
    ck_assert(!rr_shared_row_add(row, 1, bytes, 1025, true));
    ck_assert_uint_eq(rr_shared_row_count(row), 0);
    unsigned large = 0, empty = 0;
    while (rr_shared_row_add(row, 1, bytes, 1024, true)) {
        ck_assert_uint_le(++large, 16);
    }
    ck_assert_uint_ge(large, 1);
    ck_assert_uint_eq(rr_shared_row_count(row), large);
    ck_assert_uint_eq(rr_shared_row_bytes(row), large * 1024u);
    rr_shared_row_clear(row);
    ck_assert_uint_eq(rr_shared_row_bytes(row), 0);
    while (rr_shared_row_add(row, 1, bytes, 0, true)) {
        ck_assert_uint_le(++empty, 1024);
    }
    ck_assert_uint_gt(empty, large);
    rr_shared_row_free(row);
}
END_TEST

START_TEST(rows_go_whole_or_not_at_all) {
    static const uint8_t bytes[1000];
    peer_t p;
    open_peer(&p);
    p.options.max_packet = 999;
    begin(&p);
    rr_shared_row_t *row = rr_shared_row_new();
    ck_assert_int_eq(rr_connection_send_row(p.c, row), RR_OK); /* nothing */
    ck_assert(rr_shared_row_add(row, 1, bytes, 10, true));
    ck_assert(rr_shared_row_add(row, 1, bytes, 1000, true));
    ck_assert_int_eq(rr_connection_send_row(p.c, row), RR_ETOOBIG);
    p.options.max_packet = 1000;
    p.stream->limit = 1010;
    ck_assert_int_eq(rr_connection_send_row(p.c, row), RR_ELIMIT);
    ck_assert_uint_eq(p.stream->out_size, 0);
    p.stream->limit = 2000;
    ck_assert_int_eq(rr_connection_send_row(p.c, row), RR_OK);
    ck_assert_uint_eq(p.stream->out_size, 1010 + 2 * RR_FRAME_HEADER);
    rr_connection_close(p.c, RR_CLOSE_KICKED);
    ck_assert_int_eq(rr_connection_send_row(p.c, row), RR_ESTATE);
    rr_shared_row_free(row);
    end(&p);
}
END_TEST

/* ---- HTTP ---- */

START_TEST(http_pipelined_and_late_answers) {
    static const char text[] = "GET /1 HTTP/1.1\r\n\r\nGET /2 HTTP/1.1\r\nConnection: close\r\n\r\n";
    peer_t p;
    open_peer(&p);
    p.answer_later = true;
    begin(&p);
    feed(&p, text, sizeof text - 1);
    ck_assert_str_eq(p.path, "/1");
    ck_assert(p.stream->paused);
    rr_http_answer(p.reply, 200, NULL, NULL, "a", 1);
    fake_stream_run(p.stream);
    ck_assert_str_eq(p.path, "/2");
    rr_http_answer(p.reply, 200, NULL, NULL, "b", 1);
    ck_assert(p.stream->closing);
    static const char answers[] = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: keep-alive\r\n\r\na"
                                  "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\nb";
    expect_out(&p, answers, sizeof answers - 1);
    end(&p);
    ck_assert_int_eq(p.reason, RR_CLOSE_NORMAL);
}
END_TEST

START_TEST(http_answer_after_the_end) {
    peer_t p;
    open_peer(&p);
    p.answer_later = true;
    begin(&p);
    feed(&p, "GET / HTTP/1.1\r\n\r\n", 18);
    rr_http_reply_t *reply = p.reply;
    end(&p);
    rr_http_answer(reply, 200, NULL, NULL, "late", 4);
}
END_TEST

START_TEST(http_large_answer_in_pieces) {
    peer_t p;
    open_peer(&p);
    p.answer_later = true;
    begin(&p);
    p.stream->limit = 100000;
    feed(&p, "GET / HTTP/1.1\r\n\r\n", 18);
    size_t size = 1000000, got = 0;
    rr_buffer_t *body = rr_buffer_new(size);
    memset(rr_buffer_data(body), 'x', size);
    rr_http_answer_buffer(p.reply, 200, NULL, NULL, body);
    for (int turns = 0; got < size; turns++) {
        ck_assert_int_lt(turns, 100);
        ck_assert_uint_le(p.stream->out_size, 100000);
        got += p.stream->out_size;
        p.stream->out_size = 0;
        rr__connection_stream_handler.drained(p.c);
    }
    ck_assert_uint_eq(got, size + strlen("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\nConnection: keep-alive\r\n\r\n"));
    ck_assert(!p.stream->closing && !p.stream->paused);
    p.answer_later = false;
    feed(&p, "HEAD /x HTTP/1.1\r\n\r\n", 20);
    ck_assert_str_eq(p.path, "/x");
    end(&p);
}
END_TEST

START_TEST(http_errors) {
    static const struct {
        const char *text, *answer;
    } cases[] = {{"GET /../x HTTP/1.1\r\n\r\n", "HTTP/1.1 404"}, {"GET /%00 HTTP/1.1\r\n\r\n", "HTTP/1.1 400"},
                 {"GET / HTTP/9\r\n\r\n", "HTTP/1.1 400"},
                 {"PUT / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n", "HTTP/1.1 413"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        peer_t p;
        open_peer(&p);
        begin(&p);
        feed(&p, cases[i].text, strlen(cases[i].text));
        ck_assert_msg(memcmp(p.stream->out, cases[i].answer, 12) == 0, "%zu: %.30s", i, (char *)p.stream->out);
        ck_assert_str_eq(p.path, "");
        end(&p);
    }
    peer_t p;
    open_peer(&p);
    p.options.http = NULL;
    begin(&p);
    feed(&p, "GET / HTTP/1.1\r\n\r\n", 18);
    ck_assert_mem_eq(p.stream->out, "HTTP/1.1 404", 12);
    end(&p);
}
END_TEST

/* ---- Time limits ---- */

START_TEST(handshake_limit) {
    peer_t p;
    open_peer(&p);
    begin(&p);
    for (int i = 0; i < 4; i++) {
        feed(&p, "\5\0\0\0" + i, 1);
        fake_stream_pass(p.stream, 2000); /* dripping does not help */
        ck_assert(!p.stream->closing);
    }
    fake_stream_pass(p.stream, 3000);
    ck_assert(p.stream->closing);
    end(&p);
    ck_assert_int_eq(p.reason, RR_CLOSE_LOGIN_TIMEOUT);
    open_peer(&p);
    begin(&p);
    feed(&p, "GET / HT", 8);
    fake_stream_pass(p.stream, 11000);
    ck_assert(p.stream->closing);
    ck_assert_mem_eq(p.stream->out, "HTTP/1.1 408", 12);
    end(&p);
}
END_TEST

START_TEST(partial_limit) {
    peer_t p;
    open_peer(&p);
    begin(&p);
    feed(&p, "\1\0\0\0\1\0\0\0a", 9);
    fake_stream_pass(p.stream, 100000); /* idle between messages is the gate's business */
    ck_assert(!p.stream->closing);
    for (int i = 0; i < 10; i++) { /* always in the middle of a frame, but getting on */
        feed(&p, i == 0 ? "\1" : "\0\0\0\1\0\0\0a\1", i == 0 ? 1 : 9);
        fake_stream_pass(p.stream, 20000);
        ck_assert(!p.stream->closing);
    }
    rr_connection_pause(p.c);
    fake_stream_pass(p.stream, 100000); /* paused: it is we who wait */
    ck_assert(!p.stream->closing);
    rr_connection_resume(p.c);
    fake_stream_pass(p.stream, 31000);
    ck_assert(p.stream->closing);
    end(&p);
    ck_assert_int_eq(p.reason, RR_CLOSE_STALLED);
    open_peer(&p); /* a large body that stops coming */
    begin(&p);
    feed(&p, "\1\0\0\0\1\0\0\0a", 9);
    feed(&p, "\0\0\1\0\0\0\0\0abc", 11);
    fake_stream_pass(p.stream, 31000);
    ck_assert(p.stream->closing);
    end(&p);
    open_peer(&p); /* a fragmented message without an end */
    begin(&p);
    upgrade(&p);
    feed_frame(&p, 0x01, "a", 1);
    fake_stream_pass(p.stream, 31000);
    expect_close(&p, 1002);
    end(&p);
}
END_TEST

START_TEST(kept_alive_http_ends) {
    peer_t p;
    open_peer(&p);
    begin(&p);
    feed(&p, "GET / HTTP/1.1\r\n\r\n", 18);
    fake_stream_pass(p.stream, 29000);
    ck_assert(!p.stream->closing);
    fake_stream_pass(p.stream, 2000);
    ck_assert(p.stream->closing);
    end(&p);
    ck_assert_int_eq(p.reason, RR_CLOSE_NORMAL);
}
END_TEST

RUN_TESTS("connection", tcp_cut_anywhere, tcp_sizes, tcp_too_big_allocates_nothing, tcp_big_endian, tcp_answers,
          pausing_keeps_everything_in_order, input_can_wait_as_a_whole, closing_inside_a_message, policy, words_need_all_four_bytes,
          listeners_that_speak_less, ws_text_and_binary, ws_cut_anywhere, ws_large, ws_violations, ws_too_big,
          ws_close_handshake, ws_handshakes, shared_messages, rows_are_their_messages_in_order, rows_are_bounded, rows_go_whole_or_not_at_all,
          http_pipelined_and_late_answers, http_answer_after_the_end,
          http_large_answer_in_pieces, http_errors, handshake_limit, partial_limit, kept_alive_http_ends)
