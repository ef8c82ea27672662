/* connection_send.c: messages out, in the form that the client last used. */
#include <stdlib.h>
#include <string.h>

#include "net/connection_impl.h"
#include "net/utf8.h"
#include "net/websocket.h"

#define COPY_LIMIT 1024u /* shared bodies above it are sent by reference */
#define HEAD_MAX 24u
#define ROW_FORMS (FORM_COUNT + 1) /* listeners may differ in byte order: one more for texts, whose binary messages are big-endian */
#define ROW_MESSAGES 64u
#define ROW_BYTES 16384u /* with their heads: a few rows are a loop's share of the cache */

_Static_assert(RR_WS_SERVER_HEAD_MAX + RR_FRAME_TEXT_MAX <= HEAD_MAX, "a text's head fits");
_Static_assert(RR_WS_SERVER_HEAD_MAX + RR_FRAME_HEADER <= HEAD_MAX, "a binary frame's head fits");

typedef enum form { FORM_TCP, FORM_TCP_BIG, FORM_TEXT, FORM_BINARY, FORM_BINARY_BIG, FORM_COUNT } form_t;

typedef struct head {
    uint8_t size; /* 0 = not made yet */
    uint8_t bytes[HEAD_MAX];
} head_t;

struct rr_shared_message {
    rr_buffer_t *owner;
    const uint8_t *data;
    size_t size;
    uint16_t cmd;
    bool utf8_known, utf8;
    head_t heads[FORM_COUNT];
};

typedef struct row_message {
    const uint8_t *data;
    uint32_t size;
    uint16_t cmd;
    bool utf8_known, utf8;
} row_message_t;

struct rr_shared_row {
    unsigned count;
    size_t bytes, largest;         /* bodies */
    rr_buffer_t *forms[ROW_FORMS]; /* the row encoded; NULL = not made yet */
    row_message_t messages[ROW_MESSAGES];
};

static size_t make_head(uint8_t out[HEAD_MAX], form_t form, uint16_t cmd, size_t size) {
    bool big = form == FORM_TCP_BIG || form == FORM_BINARY_BIG;
    if (form == FORM_TCP || form == FORM_TCP_BIG) {
        rr_frame_encode(out, (uint32_t)size, cmd, big);
        return RR_FRAME_HEADER;
    }
    if (form == FORM_TEXT) {
        uint8_t line[RR_FRAME_TEXT_MAX];
        size_t line_size = rr_frame_text_encode(line, cmd);
        size_t n = rr_ws_head_encode(out, RR_WS_TEXT, line_size + size);
        memcpy(out + n, line, line_size);
        return n + line_size;
    }
    size_t n = rr_ws_head_encode(out, RR_WS_BINARY, RR_FRAME_HEADER + size);
    rr_frame_encode(out + n, (uint32_t)size, cmd, big);
    return n + RR_FRAME_HEADER;
}

/* What the client is sent. RR_ESTATE: closing, or it speaks nothing that has messages. RR_ETOOBIG: the limit holds both
 * ways, so that a body too large for every client is not taken for a slow reader. */
static int form_of(const rr_connection_t *c, size_t size, form_t *out) {
    bool big = c->options->big_endian;
    if (size > c->options->max_packet) {
        return RR_ETOOBIG;
    }
    if ((c->flags & RR__ENDING) || c->protocol == RR__PROTOCOL_HTTP || c->protocol == RR__PROTOCOL_POLICY) {
        return RR_ESTATE;
    }
    if (c->protocol == RR__PROTOCOL_WS) {
        *out = c->wire == RR_WIRE_WS_BINARY ? (big ? FORM_BINARY_BIG : FORM_BINARY) : FORM_TEXT;
        return RR_OK;
    }
    *out = big ? FORM_TCP_BIG : FORM_TCP;
    return c->protocol == RR__PROTOCOL_TCP || c->options->tcp ? RR_OK : RR_ESTATE;
}

static form_t binary_form(const rr_connection_t *c) {
    return c->options->big_endian ? FORM_BINARY_BIG : FORM_BINARY;
}

static int put(rr_stream_t *stream, const uint8_t *head, size_t head_size, const void *body, size_t size) {
    int error;
    uint8_t *room = rr__stream_reserve(stream, head_size + size, &error);
    if (!room) {
        return error;
    }
    if (head_size) {
        memcpy(room, head, head_size);
    }
    if (size) {
        memcpy(room + head_size, body, size);
    }
    rr__stream_commit(stream, head_size + size);
    return RR_OK;
}

/* The same with a head that lies in HEAD_MAX bytes: copied as a whole, which costs less than as many as it has. */
static int put_head(rr_stream_t *stream, const uint8_t head[HEAD_MAX], size_t head_size, const void *body, size_t size) {
    if (size < HEAD_MAX) {
        return put(stream, head, head_size, body, size);
    }
    int error;
    uint8_t *room = rr__stream_reserve(stream, head_size + size, &error);
    if (!room) {
        return error;
    }
    memcpy(room, head, HEAD_MAX); /* what is behind the head is overwritten */
    memcpy(room + head_size, body, size);
    rr__stream_commit(stream, head_size + size);
    return RR_OK;
}

int rr_connection_send(rr_connection_t *c, uint16_t cmd, const void *body, size_t size, bool utf8) {
    form_t form;
    int rc = form_of(c, size, &form);
    if (rc != RR_OK) {
        return rc;
    }
    if (form == FORM_TCP) { /* the hot path: straight into the output */
        uint8_t *room = rr__stream_reserve(c->stream, RR_FRAME_HEADER + size, &rc);
        if (!room) {
            return rc;
        }
        rr_frame_encode(room, (uint32_t)size, cmd, false);
        if (size) {
            memcpy(room + RR_FRAME_HEADER, body, size);
        }
        rr__stream_commit(c->stream, RR_FRAME_HEADER + size);
        return RR_OK;
    }
    if (form == FORM_TEXT && !utf8 && !rr_utf8_valid(body, size)) {
        form = binary_form(c);
    }
    uint8_t head[HEAD_MAX];
    size_t head_size = make_head(head, form, cmd, size);
    return put_head(c->stream, head, head_size, body, size);
}

/* ---- Messages for many ---- */

rr_shared_message_t *rr_shared_message_new(uint16_t cmd, rr_buffer_t *body, const uint8_t *data, size_t size, bool utf8) {
    rr_shared_message_t *message = size <= UINT32_MAX ? calloc(1, sizeof *message) : NULL;
    if (message) {
        message->owner = body ? rr_buffer_ref(body) : NULL;
        message->data = data;
        message->size = size;
        message->cmd = cmd;
        message->utf8_known = message->utf8 = utf8;
    }
    return message;
}

void rr_shared_message_free(rr_shared_message_t *message) {
    if (message) {
        rr_buffer_unref(message->owner);
        free(message);
    }
}

static bool shared_is_utf8(rr_shared_message_t *message) {
    if (!message->utf8_known) {
        message->utf8 = rr_utf8_valid(message->data, message->size);
        message->utf8_known = true;
    }
    return message->utf8;
}

int rr_connection_send_shared(rr_connection_t *c, rr_shared_message_t *message) {
    form_t form;
    int rc = form_of(c, message->size, &form);
    if (rc != RR_OK) {
        return rc;
    }
    if (form == FORM_TEXT && !shared_is_utf8(message)) {
        form = binary_form(c);
    }
    head_t *head = &message->heads[form];
    if (head->size == 0) {
        head->size = (uint8_t)make_head(head->bytes, form, message->cmd, message->size);
    }
    if (message->size > COPY_LIMIT && message->owner) {
        rr_slice_t slice = {.owner = message->owner, .data = message->data, .size = message->size};
        return rr_stream_write_slice(c->stream, head->bytes, head->size, &slice);
    }
    return put(c->stream, head->bytes, head->size, message->data, message->size);
}

/* ---- Rows of messages for many ---- */

rr_shared_row_t *rr_shared_row_new(void) {
    return calloc(1, sizeof(rr_shared_row_t));
}

void rr_shared_row_clear(rr_shared_row_t *row) {
    for (unsigned i = 0; i < ROW_FORMS; i++) {
        rr_buffer_unref(row->forms[i]);
        row->forms[i] = NULL;
    }
    row->count = 0;
    row->bytes = row->largest = 0;
}

void rr_shared_row_free(rr_shared_row_t *row) {
    if (row) {
        rr_shared_row_clear(row);
        free(row);
    }
}

bool rr_shared_row_add(rr_shared_row_t *row, uint16_t cmd, const uint8_t *data, size_t size, bool utf8) {
    if (size > COPY_LIMIT || row->count == ROW_MESSAGES || row->bytes + size + (row->count + 1) * HEAD_MAX > ROW_BYTES) {
        return false;
    }
    row->messages[row->count++] =
        (row_message_t){.data = data, .size = (uint32_t)size, .cmd = cmd, .utf8_known = utf8, .utf8 = utf8};
    row->bytes += size;
    row->largest = size > row->largest ? size : row->largest;
    return true;
}

unsigned rr_shared_row_count(const rr_shared_row_t *row) {
    return row->count;
}

size_t rr_shared_row_bytes(const rr_shared_row_t *row) {
    return row->bytes;
}

static bool row_message_is_utf8(row_message_t *m) {
    if (!m->utf8_known) {
        m->utf8 = rr_utf8_valid(m->data, m->size);
        m->utf8_known = true;
    }
    return m->utf8;
}

/* The row as clients of that form get it; NULL when out of memory. `binary`: the form of a text client's binary messages. */
static rr_buffer_t *row_encode(rr_shared_row_t *row, form_t form, form_t binary) {
    rr_buffer_t *buffer = rr_buffer_new(row->bytes + row->count * HEAD_MAX);
    if (!buffer) {
        return NULL;
    }
    uint8_t *start = rr_buffer_data(buffer), *p = start;
    for (unsigned i = 0; i < row->count; i++) {
        row_message_t *m = &row->messages[i];
        p += make_head(p, form == FORM_TEXT && !row_message_is_utf8(m) ? binary : form, m->cmd, m->size);
        if (m->size) {
            memcpy(p, m->data, m->size);
        }
        p += m->size;
    }
    rr_buffer_truncate(buffer, (size_t)(p - start));
    return buffer;
}

int rr_connection_send_row(rr_connection_t *c, rr_shared_row_t *row) {
    form_t form;
    int rc = form_of(c, row->largest, &form);
    if (rc != RR_OK || row->count == 0) {
        return rc;
    }
    unsigned as = form == FORM_TEXT && c->options->big_endian ? FORM_COUNT : form;
    if (!row->forms[as]) {
        row->forms[as] = row_encode(row, form, binary_form(c));
    }
    rr_buffer_t *bytes = row->forms[as];
    if (!bytes) {
        return RR_ENOMEM;
    }
    if (rr_buffer_size(bytes) > COPY_LIMIT) {
        return rr_stream_write_buffer(c->stream, NULL, 0, bytes);
    }
    return put(c->stream, NULL, 0, rr_buffer_data(bytes), rr_buffer_size(bytes));
}

/* ---- Control frames ---- */

int rr__connection_send_control(rr_connection_t *c, unsigned opcode, const void *payload, size_t size) {
    uint8_t head[RR_WS_SERVER_HEAD_MAX];
    size_t head_size = rr_ws_head_encode(head, (rr_ws_opcode_t)opcode, size);
    return put(c->stream, head, head_size, payload, size);
}

int rr_connection_ping(rr_connection_t *c) {
    if (c->flags & RR__ENDING) {
        return RR_ESTATE;
    }
    return c->protocol == RR__PROTOCOL_WS ? rr__connection_send_control(c, RR_WS_PING, NULL, 0) : RR_OK;
}
