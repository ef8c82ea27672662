#include "net/websocket.h"

#include <openssl/evp.h>
#include <string.h>

#include "net/utf8.h"

static uint64_t load_big(const uint8_t *in, unsigned bytes) {
    uint64_t v = 0;
    for (unsigned i = 0; i < bytes; i++) {
        v = v << 8 | in[i];
    }
    return v;
}

/* Known opcodes as a bit set. */
#define OPCODES ((1u << RR_WS_CONTINUATION) | (1u << RR_WS_TEXT) | (1u << RR_WS_BINARY) | (1u << RR_WS_CLOSE) | (1u << RR_WS_PING) | (1u << RR_WS_PONG))

int rr_ws_head_decode(const uint8_t *in, size_t size, rr_ws_head_t *out) {
    if (size < 2) {
        return size == 1 && ((in[0] & 0x70) || !(OPCODES >> (in[0] & 15) & 1)) ? RR_EPROTO : 0;
    }
    unsigned opcode = in[0] & 15, length = in[1] & 127;
    bool fin = in[0] >> 7;
    if ((in[0] & 0x70) || !(OPCODES >> opcode & 1) || !(in[1] & 0x80) || (opcode >= 8 && (!fin || length > RR_WS_CONTROL_MAX))) {
        return RR_EPROTO;
    }
    unsigned extra = length == 127 ? 8 : length == 126 ? 2 : 0;
    if (size < 2 + extra + 4) {
        return 0;
    }
    uint64_t payload = extra ? load_big(in + 2, extra) : length;
    if ((extra == 2 && payload < 126) || (extra == 8 && (payload < 65536 || payload >> 63))) {
        return RR_EPROTO;
    }
    out->size = payload;
    memcpy(out->mask, in + 2 + extra, 4);
    out->head_size = (uint8_t)(2 + extra + 4);
    out->opcode = (uint8_t)opcode;
    out->fin = fin;
    return 1;
}

size_t rr_ws_head_encode(uint8_t out[RR_WS_SERVER_HEAD_MAX], rr_ws_opcode_t opcode, uint64_t size) {
    out[0] = (uint8_t)(0x80 | opcode);
    if (size < 126) {
        out[1] = (uint8_t)size;
        return 2;
    }
    unsigned extra = size < 65536 ? 2 : 8;
    out[1] = extra == 2 ? 126 : 127;
    for (unsigned i = 0; i < extra; i++) {
        out[2 + i] = (uint8_t)(size >> 8 * (extra - 1 - i));
    }
    return 2 + extra;
}

bool rr_ws_unmask(uint8_t *data, size_t size, const uint8_t mask[4], uint64_t phase) {
    uint8_t key[8];
    for (unsigned i = 0; i < 8; i++) {
        key[i] = mask[(phase + i) & 3];
    }
    uint64_t key64, word, seen = 0;
    memcpy(&key64, key, 8);
    size_t i = 0;
    for (; i + 8 <= size; i += 8) {
        memcpy(&word, data + i, 8);
        word ^= key64;
        memcpy(data + i, &word, 8);
        seen |= word;
    }
    uint32_t half;
    if (size - i >= 4) { /* the key repeats after four */
        memcpy(&half, data + i, 4);
        half ^= (uint32_t)key64;
        memcpy(data + i, &half, 4);
        seen |= half;
        i += 4;
    }
    for (; i < size; i++) {
        data[i] ^= key[i & 3];
        seen |= data[i];
    }
    return !(seen & RR_UTF8_HIGH_BITS);
}

/* RFC 6455 section 7.4: what an endpoint may put into a close frame. */
static bool close_code_legal(unsigned code) {
    return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) || (code >= 3000 && code <= 4999);
}

int rr_ws_close_decode(const uint8_t *payload, size_t size, uint16_t *code) {
    *code = 1005;
    if (size == 0) {
        return RR_OK;
    }
    unsigned value = size >= 2 ? (unsigned)load_big(payload, 2) : 0;
    if (!close_code_legal(value)) {
        return RR_EPROTO;
    }
    *code = (uint16_t)value;
    return rr_utf8_valid(payload + 2, size - 2) ? RR_OK : RR_EENCODING;
}

int rr_ws_accept(const char *key, char out[RR_WS_ACCEPT_SIZE]) {
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    uint8_t text[24 + sizeof guid], digest[EVP_MAX_MD_SIZE];
    uint8_t nonce[18];
    if (strlen(key) != 24 || key[22] != '=' || key[23] != '=' || key[21] == '=' ||
        EVP_DecodeBlock(nonce, (const uint8_t *)key, 24) != 18) {
        return RR_EINVAL;
    }
    memcpy(text, key, 24);
    memcpy(text + 24, guid, sizeof guid - 1);
    unsigned size = 0;
    if (!EVP_Digest(text, 24 + sizeof guid - 1, digest, &size, EVP_sha1(), NULL) || size != 20) {
        return RR_EIO;
    }
    EVP_EncodeBlock((uint8_t *)out, digest, 20);
    return RR_OK;
}
