/* connection_ws.c: WebSocket frames into messages. Frames that are here whole are unmasked and delivered in place; larger
 * and fragmented ones are assembled in a buffer that goes to the owner without another copy. */
#include <string.h>

#include "net/connection_impl.h"
#include "net/utf8.h"
#include "net/websocket.h"

/* Bytes of a message on the wire: the body and the line or header in front of it. */
static size_t wire_limit(const rr_connection_t *c, unsigned opcode) {
    return c->options->max_packet + (opcode == RR_WS_TEXT ? RR_FRAME_TEXT_MAX : RR_FRAME_HEADER);
}

/* ascii: it is, which is all that need be known; else it has not been looked at. */
static void deliver_text(rr_connection_t *c, const uint8_t *data, size_t size, rr_buffer_t *owner, bool ascii) {
    if (!ascii && !rr_utf8_valid(data, size)) {
        rr_connection_close(c, RR_CLOSE_ENCODING);
        return;
    }
    uint16_t cmd;
    size_t line = rr_frame_text_decode(data, size, &cmd);
    if (size - line > c->options->max_packet) {
        rr_connection_close(c, RR_CLOSE_TOO_BIG);
        return;
    }
    c->wire = RR_WIRE_WS_TEXT;
    rr__connection_deliver(c, cmd, 0, data + line, size - line, owner);
}

static void deliver_binary(rr_connection_t *c, const uint8_t *data, size_t size, rr_buffer_t *owner) {
    rr_frame_header_t h = {0};
    if (size >= RR_FRAME_HEADER) {
        h = rr_frame_decode(data, c->options->big_endian);
    }
    if (size < RR_FRAME_HEADER || h.size != size - RR_FRAME_HEADER) {
        rr_connection_close(c, RR_CLOSE_PROTOCOL);
        return;
    }
    c->wire = RR_WIRE_WS_BINARY;
    rr__connection_deliver(c, h.cmd, h.flag, data + RR_FRAME_HEADER, size - RR_FRAME_HEADER, owner);
}

static void deliver(rr_connection_t *c, unsigned opcode, const uint8_t *data, size_t size, rr_buffer_t *owner, bool ascii) {
    if (opcode == RR_WS_TEXT) {
        deliver_text(c, data, size, owner, ascii);
    } else {
        deliver_binary(c, data, size, owner);
    }
}

void rr__connection_ws_assembled(rr_connection_t *c) {
    if (!(c->flags & RR__WS_FIN)) {
        return; /* more fragments follow */
    }
    rr_buffer_t *body = c->body;
    size_t size = c->body_used;
    unsigned opcode = c->opcode;
    c->body = NULL;
    c->body_used = 0;
    c->opcode = 0;
    deliver(c, opcode, body ? rr_buffer_data(body) : (const uint8_t *)"", size, body, false);
    rr_buffer_unref(body);
}

static void on_control(rr_connection_t *c, const rr_ws_head_t *h, const uint8_t *payload) {
    if (h->opcode == RR_WS_PING) {
        int rc = rr__connection_send_control(c, RR_WS_PONG, payload, (size_t)h->size);
        if (rc == RR_ELIMIT) {
            rr_connection_close(c, RR_CLOSE_SLOW_READER);
        }
        return;
    }
    if (h->opcode == RR_WS_PONG) {
        return;
    }
    uint16_t code;
    int rc = rr_ws_close_decode(payload, (size_t)h->size, &code);
    if (rc == RR_OK) {
        rr__connection_ws_peer_closed(c, code);
    } else {
        rr_connection_close(c, rc == RR_EENCODING ? RR_CLOSE_ENCODING : RR_CLOSE_PROTOCOL);
    }
}

/* Checks a data frame against the message in progress and the limit. False = closing. */
static bool data_frame_allowed(rr_connection_t *c, const rr_ws_head_t *h) {
    if ((h->opcode == RR_WS_CONTINUATION) != (c->opcode != 0)) {
        rr_connection_close(c, RR_CLOSE_PROTOCOL);
        return false;
    }
    unsigned opcode = c->opcode ? c->opcode : h->opcode;
    if (h->size > wire_limit(c, opcode) - c->body_used) { /* before anything is allocated */
        rr_connection_close(c, RR_CLOSE_TOO_BIG);
        return false;
    }
    return true;
}

/* Begins to assemble a frame of which `here` bytes have arrived. False: out of memory, closing. */
static bool assemble(rr_connection_t *c, const rr_ws_head_t *h, const uint8_t *payload, size_t here) {
    unsigned opcode = c->opcode ? c->opcode : h->opcode;
    if (h->size && !rr__connection_body_room(c, (size_t)h->size, !h->fin, wire_limit(c, opcode))) {
        return false;
    }
    c->opcode = (uint8_t)opcode;
    c->flags = (uint8_t)(h->fin ? c->flags | RR__WS_FIN : c->flags & ~RR__WS_FIN);
    c->frame_left = (uint32_t)h->size;
    memcpy(c->frame.mask, h->mask, 4);
    if (h->size) {
        rr__connection_body_take(c, payload, here);
    }
    if (c->frame_left == 0) {
        rr__connection_ws_assembled(c);
    }
    return true;
}

/* One frame; the bytes used, 0 if more are needed. */
static size_t parse_frame(rr_connection_t *c, uint8_t *data, size_t size) {
    rr_ws_head_t h;
    int rc = rr_ws_head_decode(data, size, &h);
    if (rc <= 0) {
        if (rc < 0) {
            rr_connection_close(c, RR_CLOSE_PROTOCOL);
        }
        return 0;
    }
    bool control = h.opcode >= RR_WS_CLOSE;
    if (!control && !data_frame_allowed(c, &h)) {
        return 0;
    }
    uint8_t *payload = data + h.head_size;
    size_t here = size - h.head_size;
    bool whole = here >= h.size;
    if (!whole && h.head_size + h.size <= RR__SMALL_FRAME) {
        return 0;
    }
    size_t n = whole ? (size_t)h.size : here;
    if (control) {
        (void)rr_ws_unmask(payload, n, h.mask, 0);
        on_control(c, &h, payload);
    } else if (whole && h.fin && c->opcode == 0) {
        bool ascii = rr_ws_unmask(payload, n, h.mask, 0); /* seen while it is in a register: not loaded again behind its stores */
        deliver(c, h.opcode, payload, n, NULL, ascii);
    } else if (!assemble(c, &h, payload, n)) {
        return 0;
    }
    return h.head_size + n;
}

size_t rr__connection_parse_ws(rr_connection_t *c, uint8_t *data, size_t size) {
    size_t at = 0;
    while (at < size && !(c->flags & RR__STOP) && !c->frame_left) {
        size_t n = parse_frame(c, data + at, size - at);
        if (n == 0) {
            break;
        }
        at += n;
    }
    return at;
}
