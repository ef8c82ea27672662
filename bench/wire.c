#include "bench/wire.h"

#include <endian.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

static void put_header(uint8_t *out, bool big, uint16_t cmd, size_t size) {
    uint32_t s = big ? htobe32((uint32_t)size) : htole32((uint32_t)size);
    uint16_t c = big ? htobe16(cmd) : htole16(cmd);
    memcpy(out, &s, 4);
    memcpy(out + 4, &c, 2);
    memset(out + 6, 0, 2);
}

static void apply_mask(uint8_t *data, size_t size, uint32_t mask) {
    uint64_t wide = (uint64_t)mask << 32 | mask, word;
    size_t i = 0;
    for (; i + 8 <= size; i += 8) {
        memcpy(&word, data + i, 8);
        word ^= wide;
        memcpy(data + i, &word, 8);
    }
    for (; i < size; i++)
        data[i] ^= (uint8_t)(mask >> (8 * (i & 3)));
}

/* Opcode and length, RFC 6455 section 5.2; the mask's bytes are in memory order, mask's lowest byte first. */
static size_t put_frame_header(uint8_t *out, uint8_t opcode, size_t size, uint32_t mask) {
    size_t n = 2;
    uint8_t bit = mask ? 0x80 : 0;
    out[0] = 0x80 | opcode;
    if (size < 126) {
        out[1] = bit | (uint8_t)size;
    } else if (size < 65536) {
        uint16_t s = htobe16((uint16_t)size);
        out[1] = bit | 126;
        memcpy(out + 2, &s, 2);
        n = 4;
    } else {
        uint64_t s = htobe64(size);
        out[1] = bit | 127;
        memcpy(out + 2, &s, 8);
        n = 10;
    }
    if (mask) {
        uint32_t m = htole32(mask);
        memcpy(out + n, &m, 4);
        n += 4;
    }
    return n;
}

/* "cmd:<number>\n" */
static size_t put_text_head(uint8_t *out, uint16_t cmd) {
    char digits[8];
    unsigned n = 0, at = 4;
    memcpy(out, "cmd:", 4);
    do
        digits[n++] = (char)('0' + cmd % 10);
    while ((cmd /= 10) != 0);
    while (n)
        out[at++] = (uint8_t)digits[--n];
    out[at++] = '\n';
    return at;
}

size_t wire_put(wire_kind_t kind, uint8_t *out, uint16_t cmd, const void *body, size_t size, uint32_t mask) {
    uint8_t head[16];
    size_t head_size = 8, n = 0;
    if (kind == WIRE_WS_TEXT)
        head_size = put_text_head(head, cmd);
    else
        put_header(head, kind == WIRE_TCP_BIG, cmd, size);
    if (wire_is_ws(kind))
        n = put_frame_header(out, kind == WIRE_WS_TEXT ? 1 : 2, head_size + size, mask);
    memcpy(out + n, head, head_size);
    memcpy(out + n + head_size, body, size);
    if (wire_is_ws(kind) && mask)
        apply_mask(out + n, head_size + size, mask);
    return n + head_size + size;
}

size_t wire_put_control(uint8_t *out, wire_type_t type, const void *body, size_t size, uint32_t mask) {
    uint8_t opcode = type == WIRE_CLOSE ? 8 : type == WIRE_PING ? 9 : 10;
    size_t n = put_frame_header(out, opcode, size, mask);
    memcpy(out + n, body, size);
    if (mask)
        apply_mask(out + n, size, mask);
    return n + size;
}

static long take_tcp(bool big, const uint8_t *data, size_t size, wire_message_t *out) {
    uint32_t s;
    uint16_t c;
    if (size < 8)
        return 0;
    memcpy(&s, data, 4);
    memcpy(&c, data + 4, 2);
    s = big ? be32toh(s) : le32toh(s);
    if (s > 64u << 20)
        return -1;
    if (size - 8 < s)
        return 0;
    out->type = WIRE_DATA;
    out->cmd = big ? be16toh(c) : le16toh(c);
    out->body = data + 8;
    out->size = s;
    return 8 + (long)s;
}

static void take_text_head(wire_message_t *out) {
    uint32_t cmd = 0;
    size_t i = 4;
    out->cmd = 0;
    if (out->size < 6 || memcmp(out->body, "cmd:", 4) != 0)
        return;
    for (; i < out->size && i < 10 && out->body[i] >= '0' && out->body[i] <= '9'; i++)
        cmd = cmd * 10 + (out->body[i] - '0');
    if (i == 4 || i == out->size || out->body[i] != '\n' || cmd > 65535)
        return;
    out->cmd = (uint16_t)cmd;
    out->body += i + 1;
    out->size -= i + 1;
}

/* 0 = more is needed. */
static size_t frame_lengths(const uint8_t *data, size_t size, uint64_t *payload) {
    size_t n = 2;
    if (size < 2)
        return 0;
    *payload = data[1] & 0x7f;
    if (*payload == 126) {
        uint16_t s;
        if (size < 4)
            return 0;
        memcpy(&s, data + 2, 2);
        *payload = be16toh(s);
        n = 4;
    } else if (*payload == 127) {
        if (size < 10)
            return 0;
        memcpy(payload, data + 2, 8);
        *payload = be64toh(*payload);
        n = 10;
    }
    return n + (data[1] & 0x80 ? 4 : 0);
}

static bool frame_content(wire_kind_t *kind, uint8_t opcode, wire_message_t *out) {
    switch (opcode) {
    case 1:
        *kind = WIRE_WS_TEXT;
        out->type = WIRE_DATA;
        take_text_head(out);
        return true;
    case 2:
        *kind = WIRE_WS_BINARY;
        return take_tcp(false, out->body, out->size, out) == (long)out->size + 8;
    case 8:
    case 9:
    case 10:
        out->type = opcode == 8 ? WIRE_CLOSE : opcode == 9 ? WIRE_PING : WIRE_PONG;
        out->cmd = 0;
        return out->size <= 125;
    default:
        return false;
    }
}

long wire_take(wire_kind_t *kind, uint8_t *data, size_t size, wire_message_t *out) {
    if (!wire_is_ws(*kind))
        return take_tcp(*kind == WIRE_TCP_BIG, data, size, out);
    uint64_t payload;
    size_t head = frame_lengths(data, size, &payload);
    if (head == 0)
        return 0;
    if (payload > 64u << 20 || (data[0] & 0xf0) != 0x80) /* too big, fragmented, or an extension that nobody agreed */
        return -1;
    if (size - head < payload || size < head)
        return 0;
    if (data[1] & 0x80) {
        uint32_t mask;
        memcpy(&mask, data + head - 4, 4);
        apply_mask(data + head, payload, le32toh(mask));
    }
    out->body = data + head;
    out->size = payload;
    return frame_content(kind, data[0] & 0x0f, out) ? (long)(head + payload) : -1;
}

size_t wire_upgrade_request(char *out, size_t capacity, const char *host, const char *path) {
    int n = snprintf(out, capacity,
                     "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                     "Sec-WebSocket-Key: " WIRE_KEY "\r\nSec-WebSocket-Version: 13\r\n\r\n",
                     path, host);
    return n > 0 && (size_t)n < capacity ? (size_t)n : 0;
}

void wire_accept_key(const char *key, size_t key_size, char out[29]) {
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    char text[256];
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned digest_size = 0;
    if (key_size > sizeof text - sizeof guid)
        key_size = sizeof text - sizeof guid;
    memcpy(text, key, key_size);
    memcpy(text + key_size, guid, sizeof guid - 1);
    out[0] = 0;
    if (EVP_Digest(text, key_size + sizeof guid - 1, digest, &digest_size, EVP_sha1(), NULL) == 1)
        EVP_EncodeBlock((unsigned char *)out, digest, 20);
}
