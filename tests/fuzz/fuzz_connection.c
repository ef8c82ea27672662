/* A whole connection on a simulated stream. The first two bytes choose options and how the rest arrives; the owner answers,
 * pauses, resumes and closes as the messages say. Fed in pieces or at once, the messages must be the same; sent as rows or
 * one by one, the answers must be the same bytes. */
#include <stdlib.h>
#include <string.h>

#include "net/connection_impl.h"
#include "tests/unit/net/fake_stream.h"

#define MAX_PACKET 20000u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct owner {
    unsigned messages, closed;
    uint32_t digest;
    bool lively; /* pauses and closes */
    bool by_row; /* several messages in answer to one go as rows */
    rr_shared_row_t *row;
    rr_http_reply_t *reply;
} owner_t;

static void check(bool ok) {
    if (!ok) {
        abort();
    }
}

static void send_row(owner_t *o, rr_connection_t *c) {
    int rc = rr_connection_send_row(c, o->row);
    check(o->lively || rc != RR_ELIMIT);
    rr_shared_row_clear(o->row);
    check(rr_shared_row_count(o->row) == 0 && rr_shared_row_bytes(o->row) == 0);
}

/* As a gate does it: what a row does not take waits for it, or goes by itself. */
static void add_to_row(owner_t *o, rr_connection_t *c, uint16_t cmd, const uint8_t *body, size_t size) {
    if (rr_shared_row_add(o->row, cmd, body, size, false)) {
        return;
    }
    send_row(o, c);
    if (!rr_shared_row_add(o->row, cmd, body, size, false)) {
        check(size > 1024);
        (void)!rr_connection_send(c, cmd, body, size, false);
    }
}

/* The body in pieces, as messages of their own: many and small, or few and large, some of them empty. */
static void answer_in_pieces(owner_t *o, rr_connection_t *c, uint16_t cmd, const uint8_t *body, size_t size) {
    size_t count = 1 + (size ? body[0] % 90u : 0), step = size / count + (cmd & 1);
    for (size_t i = 0, at = 0; i < count; i++) {
        size_t n = at + step < size ? step : size - at;
        if (o->by_row) {
            add_to_row(o, c, (uint16_t)(cmd + i), body + at, n);
        } else {
            (void)!rr_connection_send(c, (uint16_t)(cmd + i), body + at, n, false);
        }
        at += n;
    }
    if (o->by_row) {
        send_row(o, c);
    }
}

static void on_message(void *context, rr_connection_t *c, uint16_t cmd, uint16_t flag, const uint8_t *body, size_t size, rr_buffer_t *buffer) {
    owner_t *o = context;
    check(size <= MAX_PACKET && o->closed == 0);
    o->messages++;
    for (size_t i = 0; i < size; i++) {
        o->digest = o->digest * 31 + body[i];
    }
    o->digest = o->digest * 31 + cmd + flag + (uint32_t)size;
    if (rr_connection_send(c, cmd, body, size, false) == RR_ELIMIT) {
        rr_connection_close(c, RR_CLOSE_SLOW_READER);
    }
    if (cmd % 3 == 0) {
        answer_in_pieces(o, c, cmd, body, size);
    }
    if (o->lively && cmd % 5 == 1) {
        rr_connection_pause(c);
    }
    if (o->lively && cmd % 11 == 2) {
        rr_connection_close(c, RR_CLOSE_KICKED);
    }
    if (o->lively && cmd % 7 == 3) {
        rr_buffer_t *shared = rr_buffer_copy(body, size);
        rr_shared_message_t *m = rr_shared_message_new(cmd, shared, rr_buffer_data(shared), size, false);
        (void)!rr_connection_send_shared(c, m);
        rr_shared_message_free(m);
        rr_buffer_unref(shared);
    }
}

static void on_closed(void *context, rr_connection_t *c, rr_close_reason_t reason) {
    owner_t *o = context;
    check(++o->closed == 1 && reason < RR_CLOSE_REASON_COUNT);
}

static const rr_connection_handler_t handler = {.message = on_message, .closed = on_closed};

static void on_request(void *context, const rr_http_request_t *request, rr_http_reply_t *reply) {
    owner_t **o = context;
    check(request->path[0] == '/');
    if ((*o)->lively && strlen(request->path) % 2 == 0) {
        check(!(*o)->reply);
        (*o)->reply = reply;
    } else {
        rr_http_answer(reply, 200, "text/plain", NULL, request->body, request->body_size);
    }
}

static void go_on(owner_t *o, rr_connection_t *c, fake_stream_t *stream) {
    rr_http_reply_t *reply = o->reply;
    o->reply = NULL;
    if (reply) {
        rr_http_answer(reply, 200, NULL, NULL, "late", 4);
    }
    rr_connection_resume(c);
    fake_stream_run(stream);
}

typedef struct outcome {
    uint32_t messages; /* a digest of what the owner got */
    uint32_t answers;  /* and of what was written */
} outcome_t;

static outcome_t run(const uint8_t *data, size_t size, unsigned options_byte, size_t step, bool lively, bool by_row) {
    static const char *const subprotocols[] = {"a", "chat", NULL};
    owner_t owner = {.lively = lively, .by_row = by_row, .row = rr_shared_row_new()}, *current = &owner;
    check(owner.row);
    rr_http_handler_t http = {.request = on_request, .context = &current};
    rr_connection_options_t options;
    rr_connection_options_init(&options);
    options.max_packet = MAX_PACKET;
    options.big_endian = options_byte & 1;
    options.tcp = !(options_byte & 2);
    options.websocket = !(options_byte & 4) || !options.tcp;
    options.http = &http;
    options.subprotocols = subprotocols;
    rr_connection_t *c = rr__connection_new(&options, &handler, &owner);
    fake_stream_t *stream = fake_stream_new(&rr__connection_stream_handler, c);
    stream->limit = lively ? 50000 : SIZE_MAX / 4;
    rr__connection_begin(c, &stream->base);
    for (size_t at = 0, stuck = 0; at < size && !stream->closing && stuck < 1000;) {
        size_t n = fake_stream_feed(stream, data + at, step < size - at ? step : size - at);
        at += n;
        stuck = n ? 0 : stuck + 1;
        if (lively && step % 3 == 0) {
            fake_stream_pass(stream, 700);
        }
        go_on(&owner, c, stream);
    }
    for (int i = 0; i < 100 && (stream->paused || stream->kicked) && !stream->closing; i++) {
        go_on(&owner, c, stream);
    }
    if (owner.reply) {
        rr_connection_close(c, RR_CLOSE_DRAIN);
    }
    outcome_t outcome = {.answers = 0};
    for (size_t i = 0; i < stream->out_size; i++) {
        outcome.answers = outcome.answers * 31 + stream->out[i];
    }
    fake_stream_end(stream, options_byte & 8 ? RR_EIO : RR_OK);
    if (owner.reply) { /* an answer that comes too late */
        rr_http_answer(owner.reply, 500, NULL, NULL, NULL, 0);
    }
    check(owner.closed == 1);
    rr_shared_row_free(owner.row);
    outcome.messages = owner.digest * 31 + owner.messages;
    return outcome;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 3) {
        return 0;
    }
    size_t step = 1 + data[1] % 200;
    outcome_t whole = run(data + 2, size - 2, data[0], size, false, false);
    outcome_t pieces = run(data + 2, size - 2, data[0], step, false, false);
    outcome_t rows = run(data + 2, size - 2, data[0], step, false, true);
    check(whole.messages == pieces.messages && rows.messages == pieces.messages && rows.answers == pieces.answers);
    (void)run(data + 2, size - 2, data[0], step, true, true);
    return 0;
}
