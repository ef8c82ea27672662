/* connection_http.c: plain requests and their answers, and the upgrade to WebSocket.
 *
 * One request at a time: while its answer is outstanding, or does not fit the output yet, nothing is read. A large answer
 * goes out in pieces as the client takes them, so the send limit holds for HTTP too. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/connection_impl.h"
#include "net/http_impl.h"
#include "net/http_parse.h"
#include "net/websocket.h"

#define PIECE (32u << 10) /* of a large answer; always below the send limit */
#define HEAD_SIZE 4096u

struct rr_http_reply {
    rr_connection_t *connection; /* NULL when it is gone */
    rr_loop_t *loop;
};

struct rr__http_side {
    rr__http_t *http;
    rr_http_reply_t *reply; /* outstanding */
    rr_buffer_t *body;      /* of the answer that is going out */
    size_t sent;
    bool close_after;
    char peer_ip[46];
};

static bool open_side(rr_connection_t *c) {
    if (c->http) {
        return true;
    }
    rr__http_side_t *side = calloc(1, sizeof *side);
    if (side) {
        side->http = rr__http_new(c->options->http_body);
    }
    if (!side || !side->http) {
        free(side);
        rr_connection_close(c, RR_CLOSE_IO);
        return false;
    }
    c->http = side;
    return true;
}

void rr__connection_http_free(rr_connection_t *c) {
    rr__http_side_t *side = c->http;
    if (side) {
        if (side->reply) {
            side->reply->connection = NULL;
        }
        rr_buffer_unref(side->body);
        rr__http_free(side->http);
        free(side);
        c->http = NULL;
    }
}

/* ---- Answers ---- */

/* The answer is out: the next request, or the end. */
static void finish(rr_connection_t *c) {
    rr__http_side_t *side = c->http;
    rr_buffer_unref(side->body);
    side->body = NULL;
    rr__connection_set_deadline(c, 0);
    if (side->close_after) {
        rr_connection_close(c, RR_CLOSE_NORMAL);
        return;
    }
    rr__http_next(side->http);
    rr__connection_http_go_on(c);
}

/* Queues as much of the body as the send limit lets in. */
static void pump(rr_connection_t *c) {
    rr__http_side_t *side = c->http;
    while (side->body && side->sent < rr_buffer_size(side->body)) {
        size_t rest = rr_buffer_size(side->body) - side->sent;
        rr_slice_t piece = {.owner = side->body, .data = rr_buffer_data(side->body) + side->sent, .size = rest < PIECE ? rest : PIECE};
        int rc = rr_stream_write_slice(c->stream, NULL, 0, &piece);
        if (rc == RR_ELIMIT && rr_stream_pending(c->stream) > 0) {
            rr__connection_set_deadline(c, c->options->partial_ms); /* drained() goes on */
            return;
        }
        if (rc != RR_OK) {
            rr_connection_close(c, RR_CLOSE_IO);
            return;
        }
        side->sent += piece.size;
    }
    finish(c);
}

void rr__connection_http_drained(rr_connection_t *c) {
    if ((c->flags & RR__HTTP_BUSY) && c->http->body && !(c->flags & RR__ENDING)) {
        pump(c);
    }
}

/* Sends an answer; takes over body (may be NULL). */
static void answer(rr_connection_t *c, int status, const char *content_type, const char *headers, rr_buffer_t *body) {
    rr__http_side_t *side = c->http;
    char head[HEAD_SIZE];
    size_t size = body ? rr_buffer_size(body) : 0;
    side->close_after = side->close_after || !rr__http_keep_alive(side->http);
    size_t head_size = rr__http_head(head, sizeof head, status, content_type, headers, size, !side->close_after);
    if (head_size == 0) {
        head_size = rr__http_head(head, sizeof head, 500, NULL, NULL, 0, false);
        side->close_after = true;
        rr_buffer_unref(body);
        body = NULL;
    }
    if (rr__http_head_only(side->http) || status == 204 || status == 304) {
        rr_buffer_unref(body);
        body = NULL;
    }
    c->flags |= RR__HTTP_BUSY;
    side->body = body;
    side->sent = 0;
    if (rr_stream_write(c->stream, head, head_size) != RR_OK) {
        rr_connection_close(c, RR_CLOSE_IO);
        return;
    }
    pump(c);
}

static void answer_text(rr_connection_t *c, int status, const char *headers, bool close_after) {
    char text[64];
    int size = snprintf(text, sizeof text, "%d\n", status);
    c->http->close_after |= close_after;
    answer(c, status, "text/plain; charset=utf-8", headers, rr_buffer_copy(text, (size_t)size));
}

/* Ends a reply; its connection if that still wants the answer. */
static rr_connection_t *take_reply(rr_http_reply_t *reply) {
    rr_connection_t *c = reply->connection;
    free(reply);
    if (!c) {
        return NULL;
    }
    c->http->reply = NULL;
    return c->flags & RR__ENDING ? NULL : c;
}

void rr_http_answer_buffer(rr_http_reply_t *reply, int status, const char *content_type, const char *headers, rr_buffer_t *body) {
    rr_connection_t *c = take_reply(reply);
    if (c) {
        answer(c, status, content_type, headers, body);
    } else {
        rr_buffer_unref(body);
    }
}

void rr_http_answer(rr_http_reply_t *reply, int status, const char *content_type, const char *headers, const void *body, size_t size) {
    rr_buffer_t *copy = size ? rr_buffer_copy(body, size) : NULL;
    if (size && !copy) {
        status = 500;
    }
    rr_http_answer_buffer(reply, status, content_type, headers, copy);
}

rr_loop_t *rr__http_reply_loop(const rr_http_reply_t *reply) {
    return reply->loop;
}

/* ---- The upgrade ---- */

/* The first offered subprotocol that is listed. */
static const char *choose_subprotocol(const rr_connection_t *c, const char *offered) {
    const char *const *list = c->options->subprotocols;
    for (const char *p = offered; list && p && *p;) {
        p += strspn(p, " \t,");
        size_t n = strcspn(p, " \t,");
        for (size_t i = 0; n && list[i]; i++) {
            if (strlen(list[i]) == n && memcmp(list[i], p, n) == 0) {
                return list[i];
            }
        }
        p += n;
    }
    return NULL;
}

static void upgrade(rr_connection_t *c) {
    const rr_http_request_t *request = rr__http_request(c->http->http);
    const char *version = rr_http_header(request, "Sec-WebSocket-Version");
    const char *key = rr_http_header(request, "Sec-WebSocket-Key");
    char accept[RR_WS_ACCEPT_SIZE], head[512];
    if (!version || strcmp(version, "13") != 0) {
        answer_text(c, 426, "Sec-WebSocket-Version: 13\r\nUpgrade: websocket\r\n", true);
        return;
    }
    if (strcmp(request->method, "GET") != 0 || !key || rr_ws_accept(key, accept) != RR_OK) {
        answer_text(c, 400, NULL, true);
        return;
    }
    const char *subprotocol = choose_subprotocol(c, rr_http_header(request, "Sec-WebSocket-Protocol"));
    int size = snprintf(head, sizeof head,
                        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                        "Sec-WebSocket-Accept: %s\r\n%s%s%s\r\n",
                        accept, subprotocol ? "Sec-WebSocket-Protocol: " : "", subprotocol ? subprotocol : "",
                        subprotocol ? "\r\n" : "");
    if (size >= (int)sizeof head || rr_stream_write(c->stream, head, (size_t)size) != RR_OK) {
        rr_connection_close(c, RR_CLOSE_IO);
        return;
    }
    rr__connection_http_free(c);
    c->protocol = RR__PROTOCOL_WS;
    c->wire = RR_WIRE_WS_TEXT;
}

/* ---- Requests ---- */

static void serve(rr_connection_t *c) {
    rr__http_side_t *side = c->http;
    rr_http_request_t *request = rr__http_request(side->http);
    const rr_http_handler_t *handler = c->options->http;
    int status = rr__http_status(side->http);
    if (status || !handler) {
        answer_text(c, status ? status : 404, NULL, false);
        return;
    }
    rr_http_reply_t *reply = malloc(sizeof *reply);
    if (!reply) {
        answer_text(c, 503, NULL, true);
        return;
    }
    *reply = (rr_http_reply_t){.connection = c, .loop = rr_stream_loop(c->stream)};
    side->reply = reply;
    request->peer_ip = rr_stream_peer_ip(c->stream, side->peer_ip, sizeof side->peer_ip);
    c->flags |= RR__HTTP_BUSY;
    handler->request(handler->context, request, reply);
}

static void on_request(rr_connection_t *c, rr__http_event_t event) {
    c->flags |= RR__PROGRESS | RR__GREETED;
    rr__connection_set_deadline(c, 0);
    if (event == RR__HTTP_UPGRADE && rr__http_status(c->http->http) == 0) {
        upgrade(c);
    } else {
        serve(c);
    }
}

static size_t feed(rr_connection_t *c, const uint8_t *data, size_t size) {
    size_t used;
    rr__http_event_t event = rr__http_feed(c->http->http, data, size, &used);
    switch (event) {
    case RR__HTTP_MORE:
        return size;
    case RR__HTTP_CONTINUE:
        if (rr_stream_write(c->stream, "HTTP/1.1 100 Continue\r\n\r\n", 25) != RR_OK) {
            rr_connection_close(c, RR_CLOSE_IO);
        }
        return size;
    case RR__HTTP_BAD:
        c->flags |= RR__GREETED;
        answer_text(c, rr__http_status(c->http->http), NULL, true);
        return size;
    default:
        on_request(c, event);
        return used;
    }
}

size_t rr__connection_parse_http(rr_connection_t *c, uint8_t *data, size_t size) {
    if (!open_side(c)) {
        return 0;
    }
    size_t used = feed(c, data, size);
    if ((c->flags & (RR__HTTP_BUSY | RR__ENDING)) == RR__HTTP_BUSY) {
        rr_stream_pause(c->stream); /* until the answer is out */
    }
    return used;
}

void rr__connection_http_timeout(rr_connection_t *c) {
    rr_close_reason_t reason = c->flags & RR__GREETED ? RR_CLOSE_STALLED : RR_CLOSE_LOGIN_TIMEOUT;
    if (c->http && !(c->flags & RR__HTTP_BUSY)) {
        if (rr__http_begun(c->http->http)) {
            char head[128];
            size_t size = rr__http_head(head, sizeof head, 408, NULL, NULL, 0, false);
            (void)!rr_stream_write(c->stream, head, size); /* it closes either way */
        } else if (c->flags & RR__GREETED) {
            reason = RR_CLOSE_NORMAL; /* a kept-alive client that does not come back */
        }
    }
    rr_connection_close(c, reason);
}
