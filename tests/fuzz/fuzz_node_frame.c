/* The node protocol's codec: any bytes, as a row of frames. What is decoded must encode to the same bytes, and nothing
 * may be read outside the given size (the input is copied to memory of exactly that size). */
#include <stdlib.h>

#include "net/node_frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok) {
    if (!ok) {
        abort();
    }
}

static void hello(const uint8_t *body, size_t size) {
    rr_node_hello_t h, again;
    uint8_t out[RR_NODE_HEADER + RR_NODE_HELLO_MAX], proof[RR_NODE_PROOF];
    if (size > RR_NODE_HELLO_MAX || rr_node_hello_decode(body, size, &h) != RR_OK) {
        return;
    }
    size_t n = rr_node_hello_encode(out, RR_NODE_HELLO, &h);
    check(n >= RR_NODE_HEADER && n - RR_NODE_HEADER <= RR_NODE_HELLO_MAX);
    check(rr_node_hello_decode(out + RR_NODE_HEADER, n - RR_NODE_HEADER, &again) == RR_OK);
    check(memcmp(&h.who.group, &again.who.group, sizeof h.who.group) == 0 && h.who.node == again.who.node);
    check(h.graph == again.graph && h.graph <= RR_NODE_GRAPH);
    check(rr_node_proof(proof, "k", 1, 'd', body, size, body, size, 0));
}

/* The short way to read a row says what the ordinary one says, or nothing. */
static void again(const uint8_t *at, const uint8_t *end, rr_record_t before) {
    uint32_t like = rr_record_again(&before), size;
    uint64_t request;
    const uint8_t *payload = like ? rr_record_get_again(at, end, like, &size, &request) : NULL;
    if (payload) {
        rr_record_t r = before;
        check(rr_record_get(at, end, &r) == payload && r.piece == size && r.request == request && r.kind == before.kind);
        check(r.to == before.to && r.from == before.from && r.type == before.type && r.weight == before.weight);
        check((r.flags & ~RR_RECORD_SAME) == (before.flags & ~RR_RECORD_SAME));
    }
}

static void records(const uint8_t *at, const uint8_t *end) {
    rr_record_t r = {.to = 0};
    const uint8_t *payload;
    while (at < end && (payload = rr_record_get(at, end, &r)) != NULL) {
        uint8_t out[RR_RECORD_MAX];
        check(payload >= at + 8 && payload <= end && (size_t)(end - payload) >= r.piece);
        check(r.to <= RR_RECORD_ADDR && r.from <= RR_RECORD_ADDR);
        check(rr_record_put(out, &r) == out + (payload - at) && memcmp(out, at, (size_t)(payload - at)) == 0);
        at = payload + r.piece;
        again(at, end, r);
    }
}

/* The check is made to fit in most frames: no fuzzer would guess it. */
static void fit(rr_node_header_t h, uint8_t *body) {
    size_t fields = h.type == RR_NODE_SEGMENT ? RR_NODE_SEGMENT_HEADER : h.size & ~3u;
    if (h.type >= RR_NODE_SEGMENT && fields <= h.size && fields >= 4 && body[2] != 0xee) {
        rr__put16(body + 2, rr_node_check(h.type, h.dst, body, fields));
    }
}

static void end_to_end(rr_node_header_t h, uint8_t *body) {
    uint8_t type = h.type;
    size_t size = h.size;
    uint8_t out[RR_NODE_OPEN_SIZE];
    rr_node_segment_t segment;
    rr_node_open_t open;
    rr_node_gone_t gone;
    rr_node_ack_t ack;
    unsigned node;
    if (type == RR_NODE_SEGMENT && rr_node_segment_get(h, body, &segment)) {
        records(body + RR_NODE_SEGMENT_HEADER, body + size);
    } else if (type == RR_NODE_OPEN && rr_node_open_decode(h, body, &open)) {
        check(rr_node_open_encode(out, h.dst, &open) == size + RR_NODE_HEADER &&
              memcmp(out + RR_NODE_HEADER, body, size) == 0);
        check(rr_node_session_tag(open.src, open.from, 1, open.to) ==
                  rr_node_session_tag(1, open.to, open.src, open.from) ||
              open.src == 1);
    } else if ((type == RR_NODE_GONE || type == RR_NODE_LEAVE) && rr_node_gone_decode(h, body, &gone)) {
        check(rr_node_gone_encode(out, type, h.dst, &gone) == size + RR_NODE_HEADER &&
              memcmp(out + RR_NODE_HEADER, body, size) == 0);
    } else if (type == RR_NODE_ACK && rr_node_ack_decode(h, body, &ack)) {
        check(rr_node_ack_encode(out, h.dst, &ack) == size + RR_NODE_HEADER &&
              memcmp(out + RR_NODE_HEADER, body, size) == 0);
    } else if (type == RR_NODE_UNREACHABLE && rr_node_unreachable_decode(body, size, &node)) {
        check(rr_node_unreachable_encode(out, node) == size + RR_NODE_HEADER);
    }
}

static void refuse(const uint8_t *body, size_t size) {
    uint8_t out[RR_NODE_REFUSE_MAX];
    rr_node_refusal_t refusal;
    if (rr_node_refuse_decode(body, size, &refusal)) {
        check(rr_node_refuse_encode(out, &refusal) == size + RR_NODE_HEADER);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    while (size >= RR_NODE_HEADER) {
        rr_node_header_t h = rr_node_header_get(data);
        data += RR_NODE_HEADER;
        size -= RR_NODE_HEADER;
        size_t n = h.size < size ? h.size : size;
        uint8_t *body = malloc(n ? n : 1);
        if (!body) {
            return 0;
        }
        memcpy(body, data, n);
        if (h.type == RR_NODE_HELLO || h.type == RR_NODE_CHALLENGE) {
            hello(body, n);
        } else if (h.type == RR_NODE_REFUSE) {
            refuse(body, n);
        } else {
            h.size = (uint32_t)n;
            fit(h, body);
            end_to_end(h, body);
        }
        free(body);
        data += n;
        size -= n;
    }
    return 0;
}
