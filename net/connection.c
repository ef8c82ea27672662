/* connection.c: a connection's life, what its first bytes say, and TCP frames. */
#include "net/connection_impl.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "net/websocket.h"

static const char policy_request[] = "<policy-file-request/>"; /* with its NUL */
static const char policy_answer[] = "<?xml version=\"1.0\"?><cross-domain-policy>"
                                    "<allow-access-from domain=\"*\" to-ports=\"*\"/></cross-domain-policy>";

const char *rr_close_label(rr_close_reason_t reason) {
    switch (reason) {
#define LABEL(name, code, label)                                                                                       \
    case name:                                                                                                         \
        return label;
        RR_CLOSE_REASONS(LABEL)
#undef LABEL
    default:
        return "unknown";
    }
}

unsigned rr_close_code(rr_close_reason_t reason) {
    switch (reason) {
#define CODE(name, code, label)                                                                                        \
    case name:                                                                                                         \
        return code;
        RR_CLOSE_REASONS(CODE)
#undef CODE
    default:
        return 1011;
    }
}

void rr_connection_options_init(rr_connection_options_t *options) {
    *options = (rr_connection_options_t){
        .max_packet = 1000000,
        .send_limit = 4u << 20,
        .tcp = true,
        .websocket = true,
        .handshake_ms = 10000,
        .partial_ms = 30000,
        .http_body = 1u << 20,
    };
}

/* ---- Messages ---- */

void rr__connection_deliver(rr_connection_t *c, uint16_t cmd, uint16_t flag, const uint8_t *body, size_t size, rr_buffer_t *owner) {
    c->flags |= RR__PROGRESS | RR__GREETED;
    c->handler->message(c->context, c, cmd, flag, body, size, owner);
}

bool rr__connection_body_room(rr_connection_t *c, size_t more, bool grow, size_t limit) {
    size_t need = c->body_used + more;
    if (c->body && rr_buffer_size(c->body) >= need) {
        return true;
    }
    size_t want = grow && 2 * need < limit ? 2 * need : need;
    rr_buffer_t *body = rr_buffer_new(want ? want : 1);
    if (!body) {
        rr_connection_close(c, RR_CLOSE_TOO_BIG);
        return false;
    }
    if (c->body) {
        memcpy(rr_buffer_data(body), rr_buffer_data(c->body), c->body_used);
        rr_buffer_unref(c->body);
    }
    c->body = body;
    return true;
}

void rr__connection_body_drop(rr_connection_t *c) {
    rr_buffer_unref(c->body);
    c->body = NULL;
    c->body_used = c->frame_left = 0;
}

void rr__connection_body_take(rr_connection_t *c, const uint8_t *data, size_t size) {
    uint8_t *to = rr_buffer_data(c->body) + c->body_used;
    if (data != to) {
        memcpy(to, data, size);
    }
    if (c->protocol == RR__PROTOCOL_WS) {
        (void)rr_ws_unmask(to, size, c->frame.mask, 0);
        uint8_t turned[4];
        for (unsigned i = 0; i < 4; i++) {
            turned[i] = c->frame.mask[(size + i) & 3];
        }
        memcpy(c->frame.mask, turned, 4);
    }
    c->body_used += (uint32_t)size;
    c->frame_left -= (uint32_t)size;
}

/* The assembled TCP message is whole. */
static void tcp_assembled(rr_connection_t *c) {
    rr_buffer_t *body = c->body;
    size_t size = c->body_used;
    c->body = NULL;
    c->body_used = 0;
    rr__connection_deliver(c, c->frame.header.cmd, c->frame.header.flag, rr_buffer_data(body), size, body);
    rr_buffer_unref(body);
}

/* Bytes of a message that is being assembled; how many were used. */
static size_t continue_body(rr_connection_t *c, const uint8_t *data, size_t size) {
    size_t n = size < c->frame_left ? size : c->frame_left;
    rr__connection_body_take(c, data, n);
    if (c->frame_left == 0) {
        if (c->protocol == RR__PROTOCOL_WS) {
            rr__connection_ws_assembled(c);
        } else {
            tcp_assembled(c);
        }
    }
    return n;
}

static size_t parse_tcp(rr_connection_t *c, uint8_t *data, size_t size) {
    const bool big_endian = c->options->big_endian;
    const size_t max = c->options->max_packet;
    size_t at = 0;
    while (size - at >= RR_FRAME_HEADER) {
        rr_frame_header_t h = rr_frame_decode(data + at, big_endian);
        if (h.size > max) {
            rr_connection_close(c, RR_CLOSE_TOO_BIG);
            break;
        }
        uint8_t *body = data + at + RR_FRAME_HEADER;
        size_t here = size - at - RR_FRAME_HEADER;
        if (here < h.size) {
            if (h.size > RR__SMALL_FRAME - RR_FRAME_HEADER && rr__connection_body_room(c, h.size, false, 0)) {
                c->frame.header = h;
                c->frame_left = h.size;
                rr__connection_body_take(c, body, here);
                at = size;
            }
            break;
        }
        at += RR_FRAME_HEADER + h.size;
        rr__connection_deliver(c, h.cmd, h.flag, body, h.size, NULL);
        if (c->flags & RR__STOP) {
            break;
        }
    }
    return at;
}

/* ---- First bytes ---- */

static size_t parse_policy(rr_connection_t *c, const uint8_t *data, size_t size) {
    size_t n = size < sizeof policy_request ? size : sizeof policy_request;
    if (memcmp(data, policy_request, n) != 0) {
        rr_connection_close(c, RR_CLOSE_PROTOCOL);
        return 0;
    }
    if (n < sizeof policy_request) {
        return 0;
    }
    c->flags |= RR__PROGRESS | RR__GREETED;
    (void)!rr_stream_write(c->stream, policy_answer, sizeof policy_answer); /* it closes either way */
    rr_connection_close(c, RR_CLOSE_NORMAL);
    return n;
}

/* Do the first bytes (1 to 4) agree with the word? */
static bool agrees(const uint8_t *data, size_t size, const char *word) {
    return memcmp(data, word, size < 4 ? size : 4) == 0;
}

/* Sets c->protocol, or leaves it NEW when more bytes are needed. A word decides with its fourth byte; bytes that begin no
 * word are binary at once. As a size the words would be above 512 MiB in either byte order, so no frame begins with one. */
static void detect(rr_connection_t *c, const uint8_t *data, size_t size) {
    static const char *const http_words[] = {"GET ", "HEAD", "POST", "PUT ", "OPTI", "DELE", "PATC"};
    if (!c->options->tcp) {
        c->protocol = RR__PROTOCOL_HTTP;
        return;
    }
    rr__protocol_t found = RR__PROTOCOL_TCP;
    if (agrees(data, size, policy_request)) {
        found = RR__PROTOCOL_POLICY;
    }
    for (size_t i = 0; c->options->websocket && i < sizeof http_words / sizeof http_words[0]; i++) {
        if (agrees(data, size, http_words[i])) {
            found = RR__PROTOCOL_HTTP;
        }
    }
    if (found == RR__PROTOCOL_TCP) {
        c->wire = RR_WIRE_TCP;
    }
    if (found == RR__PROTOCOL_TCP || size >= 4) {
        c->protocol = (uint8_t)found;
    }
}

static size_t parse_some(rr_connection_t *c, uint8_t *data, size_t size) {
    if (c->frame_left) {
        return continue_body(c, data, size);
    }
    if (c->protocol == RR__PROTOCOL_NEW) {
        detect(c, data, size);
    }
    switch (c->protocol) {
    case RR__PROTOCOL_TCP:
        return parse_tcp(c, data, size);
    case RR__PROTOCOL_WS:
        return rr__connection_parse_ws(c, data, size);
    case RR__PROTOCOL_HTTP:
        return rr__connection_parse_http(c, data, size);
    case RR__PROTOCOL_POLICY:
        return parse_policy(c, data, size);
    default:
        return 0;
    }
}

static size_t parse(rr_connection_t *c, uint8_t *data, size_t size) {
    size_t used = 0;
    while (used < size && !(c->flags & RR__STOP)) {
        size_t n = parse_some(c, data + used, size - used);
        if (n == 0) {
            break;
        }
        used += n;
    }
    return used;
}

/* ---- Bytes kept back ---- */

static void drop_left(rr_connection_t *c) {
    free(c->left);
    c->left = NULL;
    c->left_start = c->left_end = 0;
}

/* Puts what was kept back in front of the new bytes: in the stream's headroom, or if it is too much for that (after a
 * pause) the new bytes behind it. False: out of memory. */
static bool merge(rr_connection_t *c, uint8_t **data, size_t *size) {
    size_t kept = c->left_end - c->left_start;
    if (*size > 0 && kept <= RR_STREAM_HEADROOM) {
        *data -= kept;
        *size += kept;
        memcpy(*data, c->left + c->left_start, kept);
        drop_left(c);
        return true;
    }
    if (*size > 0) {
        uint8_t *joined = realloc(c->left, c->left_end + *size);
        if (!joined) {
            return false;
        }
        memcpy(joined + c->left_end, *data, *size);
        c->left = joined;
        c->left_end += (uint32_t)*size;
    }
    *data = c->left + c->left_start;
    *size = c->left_end - c->left_start;
    return true;
}

static bool keep(rr_connection_t *c, const uint8_t *rest, size_t size) {
    if (size == 0) {
        drop_left(c);
    } else if (c->left) {
        c->left_start = c->left_end - (uint32_t)size;
    } else {
        c->left = malloc(size);
        if (!c->left) {
            return false;
        }
        memcpy(c->left, rest, size);
        c->left_start = 0;
        c->left_end = (uint32_t)size;
    }
    return true;
}

/* ---- Time limits ---- */

static void on_deadline(rr__deadline_t *item) {
    rr_connection_t *c = (rr_connection_t *)((char *)item - offsetof(rr_connection_t, deadline));
    if (c->protocol == RR__PROTOCOL_HTTP) {
        rr__connection_http_timeout(c);
    } else {
        rr_connection_close(c, c->flags & RR__GREETED ? RR_CLOSE_STALLED : RR_CLOSE_LOGIN_TIMEOUT);
    }
}

void rr__connection_set_deadline(rr_connection_t *c, unsigned ms) {
    if (ms) {
        rr__deadline_set(rr__stream_deadlines(c->stream), &c->deadline, ms, on_deadline);
    } else if (rr__deadline_is_set(&c->deadline)) {
        rr__deadline_clear(rr__stream_deadlines(c->stream), &c->deadline);
    }
}

static void clear_deadline(rr_connection_t *c) {
    rr__connection_set_deadline(c, 0);
}

/* After each batch of bytes. Until the first message the handshake's deadline stands; then there is one while something
 * is incomplete, counted from when it became so; every whole message begins a new count. */
static void update_deadline(rr_connection_t *c) {
    if (!(c->flags & RR__GREETED)) {
        return;
    }
    bool partial = c->left || c->frame_left || c->opcode || c->protocol == RR__PROTOCOL_HTTP;
    if (!partial || (c->flags & RR__STOP) || c->options->partial_ms == 0) {
        if (!(c->flags & RR__HTTP_BUSY)) { /* a slow reader of an answer has a deadline too */
            clear_deadline(c);
        }
    } else if ((c->flags & RR__PROGRESS) || !rr__deadline_is_set(&c->deadline)) {
        rr__connection_set_deadline(c, c->options->partial_ms);
    }
    c->flags &= (uint8_t)~RR__PROGRESS;
}

/* ---- The stream's events ---- */

static void on_data(void *owner, uint8_t *data, size_t size) {
    rr_connection_t *c = owner;
    if (size && c->handler->alive) {
        c->handler->alive(c->context, c);
    }
    if ((c->flags & RR__ENDING) || (size == 0 && (!c->left || (c->flags & RR__STOP)))) {
        return;
    }
    bool ok = !c->left || merge(c, &data, &size);
    if (ok) {
        bool now = !c->handler->input || c->frame_left || c->handler->input(c->context, c);
        size_t used = now ? parse(c, data, size) : 0;
        if (c->flags & RR__ENDING) {
            return;
        }
        ok = keep(c, data + used, size - used);
    }
    if (!ok) {
        rr_connection_close(c, RR_CLOSE_IO);
        return;
    }
    update_deadline(c);
}

static uint8_t *on_room(void *owner, size_t *size) {
    rr_connection_t *c = owner;
    if (c->frame_left < RR__DIRECT_READ || c->left || (c->flags & RR__STOP)) {
        return NULL;
    }
    *size = c->frame_left;
    return rr_buffer_data(c->body) + c->body_used;
}

static void on_drained(void *owner) {
    rr_connection_t *c = owner;
    if (c->http) {
        rr__connection_http_drained(c);
    }
}

static void on_closed(void *owner, int error) {
    rr_connection_t *c = owner;
    rr_close_reason_t reason = error == RR_OK ? RR_CLOSE_PEER : RR_CLOSE_IO;
    clear_deadline(c);
    if (c->flags & RR__HAS_REASON) {
        reason = c->reason;
    }
    c->flags |= RR__ENDING;
    c->handler->closed(c->context, c, reason);
    rr__connection_free(c);
}

const rr_stream_handler_t rr__connection_stream_handler = {
    .data = on_data,
    .room = on_room,
    .closed = on_closed,
    .drained = on_drained,
};

/* ---- Life ---- */

rr_connection_t *rr__connection_new(const rr_connection_options_t *options, const rr_connection_handler_t *handler, void *context) {
    rr_connection_t *c = calloc(1, sizeof *c);
    if (c) {
        c->options = options;
        c->handler = handler;
        c->context = context;
    }
    return c;
}

void rr__connection_begin(rr_connection_t *c, rr_stream_t *stream) {
    c->stream = stream;
    if (c->options->handshake_ms) {
        rr__connection_set_deadline(c, c->options->handshake_ms);
    }
}

void rr__connection_free(rr_connection_t *c) {
    rr__connection_http_free(c);
    rr__connection_body_drop(c);
    drop_left(c);
    free(c);
}

int rr_connection_open(rr_loop_t *loop, int fd, const rr_connection_options_t *options,
                       const rr_connection_handler_t *handler, void *context, rr_connection_t **out) {
    size_t least = options->max_packet + (64u << 10);
    size_t limit = options->send_limit > least ? options->send_limit : least;
    rr_connection_t *c = rr__connection_new(options, handler, context);
    if (!c) {
        close(fd);
        return RR_ENOMEM;
    }
    rr_stream_t *stream = NULL;
    int rc = rr_stream_open(loop, fd, &rr__connection_stream_handler, c, limit, &stream);
    if (rc != RR_OK) {
        free(c);
        return rc;
    }
    rr__connection_begin(c, stream);
    *out = c;
    return RR_OK;
}

static void end(rr_connection_t *c, rr_close_reason_t reason) {
    c->flags |= RR__ENDING | RR__HAS_REASON;
    c->reason = (uint8_t)reason;
    clear_deadline(c);
    if (c->frame_left) { /* the stream may be reading into it no more: it discards what comes */
        rr__connection_body_drop(c);
    }
}

void rr__connection_ws_peer_closed(rr_connection_t *c, uint16_t code) {
    uint8_t payload[2] = {(uint8_t)(code >> 8), (uint8_t)code};
    (void)!rr__connection_send_control(c, RR_WS_CLOSE, payload, code == 1005 ? 0 : 2); /* a full pipe closes too */
    end(c, RR_CLOSE_PEER);
    rr_stream_close(c->stream, RR__LINGER_MS);
}

void rr_connection_close(rr_connection_t *c, rr_close_reason_t reason) {
    if (c->flags & RR__ENDING) {
        return;
    }
    if (c->protocol == RR__PROTOCOL_WS && reason != RR_CLOSE_PEER && reason != RR_CLOSE_IO) {
        const char *label = rr_close_label(reason);
        uint8_t payload[2 + 64];
        unsigned code = rr_close_code(reason);
        size_t size = strlen(label);
        payload[0] = (uint8_t)(code >> 8);
        payload[1] = (uint8_t)code;
        memcpy(payload + 2, label, size);
        (void)!rr__connection_send_control(c, RR_WS_CLOSE, payload, 2 + size); /* a full pipe closes too */
    }
    end(c, reason);
    if (reason == RR_CLOSE_IO) {
        rr_stream_abort(c->stream);
    } else {
        rr_stream_close(c->stream, RR__LINGER_MS);
    }
}

/* ---- Pausing ---- */

void rr_connection_pause(rr_connection_t *c) {
    if (!(c->flags & (RR__PAUSED | RR__ENDING))) {
        c->flags |= RR__PAUSED;
        rr_stream_pause(c->stream);
        if (c->flags & RR__GREETED) {
            clear_deadline(c); /* it is us who wait */
        }
    }
}

static void go_on_reading(rr_connection_t *c) {
    rr_stream_resume(c->stream);
    if (c->left) {
        rr_stream_kick(c->stream);
    }
    update_deadline(c);
}

void rr_connection_resume(rr_connection_t *c) {
    if ((c->flags & (RR__PAUSED | RR__ENDING)) == RR__PAUSED) {
        c->flags &= (uint8_t)~RR__PAUSED;
        if (!(c->flags & RR__HTTP_BUSY)) {
            go_on_reading(c);
        }
    }
}

void rr__connection_http_go_on(rr_connection_t *c) {
    c->flags &= (uint8_t)~RR__HTTP_BUSY;
    if (!(c->flags & RR__STOP)) {
        go_on_reading(c);
    }
}

/* ---- Small things ---- */

rr_wire_t rr_connection_wire(const rr_connection_t *c) {
    return c->wire;
}

size_t rr_connection_pending(const rr_connection_t *c) {
    return rr_stream_pending(c->stream);
}

const char *rr_connection_peer_ip(const rr_connection_t *c, char *out, size_t size) {
    return rr_stream_peer_ip(c->stream, out, size);
}

void *rr_connection_context(rr_connection_t *c) {
    return c->context;
}

void rr_connection_set_context(rr_connection_t *c, void *context) {
    c->context = context;
}
