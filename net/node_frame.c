#include "net/node_frame.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>

#include "runtime/remote.h"

#define HELLO_FIXED 66u

static const uint8_t magic[4] = {'R', 'R', 'N', 'D'};

enum { HELLO_RELAY = 1, HELLO_JOIN = 2 };

_Static_assert(HELLO_FIXED + RR_GROUP_MAX + RR_NODE_NAME_MAX + RR_NODE_ADDRESS_MAX <= RR_NODE_HELLO_MAX,
               "a hello fits");

/* ---- Handshake ---- */

static uint8_t *put_text(uint8_t *out, const char *text, size_t size) {
    memcpy(out, text, size);
    return out + size;
}

size_t rr_node_hello_encode(uint8_t *out, rr_node_type_t type, const rr_node_hello_t *hello) {
    const rr_node_identity_t *who = &hello->who;
    size_t group = strlen(who->group), name = strlen(who->name), address = strlen(who->address);
    uint8_t *body = out + RR_NODE_HEADER;
    memset(body, 0, HELLO_FIXED);
    memcpy(body, magic, 4);
    rr__put16(body + 4, (uint16_t)hello->protocol);
    rr__put16(body + 6, (uint16_t)who->node);
    rr__put64(body + 8, who->incarnation);
    rr__put64(body + 16, who->service);
    body[24] = (who->relay ? HELLO_RELAY : 0) | (hello->join ? HELLO_JOIN : 0);
    body[25] = (uint8_t)group;
    body[26] = (uint8_t)name;
    body[27] = (uint8_t)address;
    memcpy(body + 28, hello->nonce, RR_NODE_NONCE);
    rr__put16(body + 60, (uint16_t)hello->graph);
    rr__put32(body + 62, (uint32_t)(hello->graph >> 16));
    uint8_t *at = put_text(body + HELLO_FIXED, who->group, group);
    at = put_text(put_text(at, who->name, name), who->address, address);
    rr_node_header_put(out, (uint8_t)type, 0, 0, (uint32_t)(at - body));
    return (size_t)(at - out);
}

/* Text that may stand in a log and in an address: no control characters. */
static bool get_text(char *out, size_t max, const uint8_t *in, size_t size) {
    if (size > max) {
        return false;
    }
    for (size_t i = 0; i < size; i++) {
        if (in[i] < 0x20 || in[i] == 0x7f) {
            return false;
        }
        out[i] = (char)in[i];
    }
    out[size] = '\0';
    return true;
}

int rr_node_hello_decode(const uint8_t *body, size_t size, rr_node_hello_t *hello) {
    memset(hello, 0, sizeof *hello);
    if (size < 6 || memcmp(body, magic, 4) != 0) {
        return RR_EPROTO;
    }
    hello->protocol = rr__get16(body + 4);
    if (hello->protocol != RR_NODE_PROTOCOL) { /* only so much is promised of other versions */
        return RR_EUNSUPPORTED;
    }
    if (size < HELLO_FIXED || size != HELLO_FIXED + body[25] + body[26] + body[27]) {
        return RR_EPROTO;
    }
    rr_node_identity_t *who = &hello->who;
    who->node = rr__get16(body + 6);
    who->incarnation = rr__get64(body + 8);
    who->service = rr__get64(body + 16);
    who->relay = body[24] & HELLO_RELAY;
    hello->join = body[24] & HELLO_JOIN;
    memcpy(hello->nonce, body + 28, RR_NODE_NONCE);
    hello->graph = rr__get16(body + 60) | (uint64_t)rr__get32(body + 62) << 16;
    const uint8_t *group = body + HELLO_FIXED, *name = group + body[25], *address = name + body[26];
    bool ok = get_text(who->group, RR_GROUP_MAX, group, body[25]) &&
              get_text(who->name, RR_NODE_NAME_MAX, name, body[26]) &&
              get_text(who->address, RR_NODE_ADDRESS_MAX, address, body[27]);
    return ok && hello->join == (who->node == 0) && who->incarnation ? RR_OK : RR_EPROTO;
}

bool rr_node_proof(uint8_t out[RR_NODE_PROOF], const void *key, size_t key_size, char side, const uint8_t *hello,
                   size_t hello_size, const uint8_t *challenge, size_t challenge_size, unsigned given) {
    uint8_t text[1 + 2 + 2 + 2 * RR_NODE_HELLO_MAX + 2], *at = text;
    *at++ = (uint8_t)side;
    rr__put16(at, (uint16_t)hello_size);
    rr__put16(at + 2, (uint16_t)challenge_size);
    memcpy(at + 4, hello, hello_size);
    memcpy(at + 4 + hello_size, challenge, challenge_size);
    at += 4 + hello_size + challenge_size;
    rr__put16(at, (uint16_t)given);
    unsigned size = RR_NODE_PROOF;
    return HMAC(EVP_sha256(), key_size ? key : "", (int)key_size, text, (size_t)(at + 2 - text), out, &size) &&
           size == RR_NODE_PROOF;
}

bool rr_node_proof_equal(const uint8_t a[RR_NODE_PROOF], const uint8_t b[RR_NODE_PROOF]) {
    return CRYPTO_memcmp(a, b, RR_NODE_PROOF) == 0;
}

size_t rr_node_auth_encode(uint8_t out[RR_NODE_AUTH_SIZE], const uint8_t proof[RR_NODE_PROOF]) {
    rr_node_header_put(out, RR_NODE_AUTH, 0, 0, RR_NODE_PROOF);
    memcpy(out + RR_NODE_HEADER, proof, RR_NODE_PROOF);
    return RR_NODE_AUTH_SIZE;
}

size_t rr_node_welcome_encode(uint8_t out[RR_NODE_WELCOME_SIZE], const uint8_t proof[RR_NODE_PROOF], unsigned given) {
    rr_node_header_put(out, RR_NODE_WELCOME, 0, 0, RR_NODE_PROOF + 2);
    memcpy(out + RR_NODE_HEADER, proof, RR_NODE_PROOF);
    rr__put16(out + RR_NODE_HEADER + RR_NODE_PROOF, (uint16_t)given);
    return RR_NODE_WELCOME_SIZE;
}

size_t rr_node_refuse_encode(uint8_t out[RR_NODE_REFUSE_MAX], const rr_node_refusal_t *refusal) {
    size_t size = strnlen(refusal->why, RR_NODE_WHY_MAX);
    uint8_t *body = out + RR_NODE_HEADER;
    rr_node_header_put(out, RR_NODE_REFUSE, 0, 0, (uint32_t)(6 + size));
    rr__put32(body, (uint32_t)refusal->code);
    rr__put16(body + 4, refusal->wait);
    memcpy(body + 6, refusal->why, size);
    return RR_NODE_HEADER + 6 + size;
}

bool rr_node_refuse_decode(const uint8_t *body, size_t size, rr_node_refusal_t *out) {
    if (size < 6) {
        return false;
    }
    out->code = (int)rr__get32(body);
    out->wait = rr__get16(body + 4) & 1;
    return out->code < 0 && get_text(out->why, RR_NODE_WHY_MAX, body + 6, size - 6);
}

/* ---- Between end nodes ---- */

static uint64_t mix(uint64_t h, uint64_t v) {
    h = (h ^ v) * 0x9e3779b97f4a7c15ull;
    return h ^ h >> 32;
}

uint64_t rr_node_session_tag(unsigned node, rr_node_session_t session, unsigned other_node, rr_node_session_t other) {
    if (node > other_node) {
        return rr_node_session_tag(other_node, other, node, session);
    }
    uint64_t h = mix(mix(mix(0, session.incarnation), session.number), node);
    return mix(mix(mix(h, other.incarnation), other.number), other_node);
}

uint16_t rr_node_check(uint8_t type, unsigned dst, const uint8_t *body, size_t fields) {
    uint64_t h = mix((uint64_t)dst << 8 | type, rr__get16(body));
    for (size_t i = 4; i < fields; i += 4) {
        h = mix(h, rr__get32(body + i));
    }
    return (uint16_t)(h >> 16);
}

/* Of a frame whose header stands already. */
static void put_check(uint8_t *frame, size_t fields) {
    rr_node_header_t h = rr_node_header_get(frame);
    uint8_t *body = frame + RR_NODE_HEADER;
    rr__put16(body + 2, rr_node_check(h.type, h.dst, body, fields));
}

static bool good_check(rr_node_header_t h, const uint8_t *body, size_t fields) {
    return rr__get16(body + 2) == rr_node_check(h.type, h.dst, body, fields);
}

size_t rr_node_open_encode(uint8_t out[RR_NODE_OPEN_SIZE], unsigned dst, const rr_node_open_t *open) {
    uint8_t *body = out + RR_NODE_HEADER;
    rr_node_header_put(out, RR_NODE_OPEN, 0, dst, RR_NODE_OPEN_SIZE - RR_NODE_HEADER);
    rr__put16(body, open->src);
    rr__put32(body + 4, open->ask);
    rr__put64(body + 8, open->from.incarnation);
    rr__put64(body + 16, open->to.incarnation);
    rr__put32(body + 24, open->from.number);
    rr__put32(body + 28, open->to.number);
    rr__put64(body + 32, open->received);
    rr__put32(body + 40, open->flags);
    put_check(out, RR_NODE_OPEN_SIZE - RR_NODE_HEADER);
    return RR_NODE_OPEN_SIZE;
}

bool rr_node_open_decode(rr_node_header_t h, const uint8_t *body, rr_node_open_t *out) {
    if (h.size != RR_NODE_OPEN_SIZE - RR_NODE_HEADER || !good_check(h, body, h.size)) {
        return false;
    }
    *out = (rr_node_open_t){rr__get16(body),
                            (uint16_t)rr__get32(body + 40),
                            rr__get32(body + 4),
                            {rr__get64(body + 8), rr__get32(body + 24)},
                            {rr__get64(body + 16), rr__get32(body + 28)},
                            rr__get64(body + 32)};
    return out->src && out->from.incarnation && out->from.number && rr__get32(body + 40) <= UINT16_MAX;
}

size_t rr_node_gone_encode(uint8_t out[RR_NODE_GONE_SIZE], rr_node_type_t type, unsigned dst,
                           const rr_node_gone_t *gone) {
    uint8_t *body = out + RR_NODE_HEADER;
    rr_node_header_put(out, (uint8_t)type, 0, dst, RR_NODE_GONE_SIZE - RR_NODE_HEADER);
    rr__put16(body, gone->src);
    rr__put32(body + 4, gone->session.number);
    rr__put64(body + 8, gone->session.incarnation);
    put_check(out, RR_NODE_GONE_SIZE - RR_NODE_HEADER);
    return RR_NODE_GONE_SIZE;
}

bool rr_node_gone_decode(rr_node_header_t h, const uint8_t *body, rr_node_gone_t *out) {
    if (h.size != RR_NODE_GONE_SIZE - RR_NODE_HEADER || !good_check(h, body, h.size)) {
        return false;
    }
    *out = (rr_node_gone_t){rr__get16(body), {rr__get64(body + 8), rr__get32(body + 4)}};
    return out->src != 0;
}

size_t rr_node_unreachable_encode(uint8_t out[RR_NODE_UNREACHABLE_SIZE], unsigned node) {
    rr_node_header_put(out, RR_NODE_UNREACHABLE, 0, 0, 4);
    rr__put32(out + RR_NODE_HEADER, node);
    return RR_NODE_UNREACHABLE_SIZE;
}

bool rr_node_unreachable_decode(const uint8_t *body, size_t size, unsigned *node) {
    *node = size == 4 ? rr__get32(body) : 0;
    return *node > 0 && *node <= UINT16_MAX;
}

size_t rr_node_ack_encode(uint8_t out[RR_NODE_ACK_SIZE], unsigned dst, const rr_node_ack_t *ack) {
    uint8_t *body = out + RR_NODE_HEADER;
    rr_node_header_put(out, RR_NODE_ACK, 0, dst, RR_NODE_ACK_SIZE - RR_NODE_HEADER);
    rr__put16(body, ack->src);
    rr__put64(body + 4, ack->tag);
    rr__put64(body + 12, ack->received);
    put_check(out, RR_NODE_ACK_SIZE - RR_NODE_HEADER);
    return RR_NODE_ACK_SIZE;
}

bool rr_node_ack_decode(rr_node_header_t h, const uint8_t *body, rr_node_ack_t *out) {
    if (h.size != RR_NODE_ACK_SIZE - RR_NODE_HEADER || !good_check(h, body, h.size)) {
        return false;
    }
    *out = (rr_node_ack_t){rr__get16(body), rr__get64(body + 4), rr__get64(body + 12)};
    return out->src != 0;
}

/* ---- Segments ---- */

void rr_node_segment_put(uint8_t *out, unsigned dst, const rr_node_segment_t *segment, uint32_t records) {
    uint8_t *body = out + RR_NODE_HEADER;
    rr_node_header_put(out, RR_NODE_SEGMENT, 0, dst, RR_NODE_SEGMENT_HEADER + records);
    rr__put16(body, segment->src);
    rr__put64(body + 4, segment->tag);
    rr__put64(body + 12, segment->seq);
    rr__put64(body + 20, segment->received);
    put_check(out, RR_NODE_SEGMENT_HEADER);
}

bool rr_node_segment_get(rr_node_header_t h, const uint8_t *body, rr_node_segment_t *out) {
    if (h.size < RR_NODE_SEGMENT_HEADER || !good_check(h, body, RR_NODE_SEGMENT_HEADER)) {
        return false;
    }
    *out = (rr_node_segment_t){rr__get16(body), rr__get64(body + 4), rr__get64(body + 12), rr__get64(body + 20)};
    return out->src != 0 && out->seq != 0;
}
