/* Message bodies that can be checked. */
#include <string.h>

#include "bench/gate.h"

static const char digits[] = "0123456789abcdef";

void body_init(body_t *b, size_t size, bool json) {
    static const char head[] = "{\"n\": \"", middle[] = "\", \"pad\": \"", tail[] = "\"}";
    size_t least = json ? sizeof head + 16 + sizeof middle + sizeof tail : 16;
    b->json = json;
    b->size = size < least ? least : size;
    b->text = bench_alloc(b->size + 1);
    b->tag_at = json ? sizeof head - 1 : 0;
    for (size_t i = 0; i < b->size; i++)
        b->text[i] = (char)('a' + i % 26);
    if (json) {
        memcpy(b->text, head, sizeof head - 1);
        memcpy(b->text + b->tag_at + 16, middle, sizeof middle - 1);
        memcpy(b->text + b->size - (sizeof tail - 1), tail, sizeof tail - 1);
    }
    body_tag(b, 0, 0);
}

void body_free(body_t *b) { free(b->text); }

void body_tag(body_t *b, uint32_t connection, uint32_t sequence) {
    uint64_t tag = (uint64_t)connection << 32 | sequence;
    char *out = b->text + b->tag_at;
    for (int i = 15; i >= 0; i--, tag >>= 4)
        out[i] = digits[tag & 15];
}

static const char *find_tag(const body_t *b, const uint8_t *data, size_t size) {
    if (!b->json)
        return size >= 16 ? (const char *)data : NULL;
    const char *at = memmem(data, size, "\"n\"", 3), *end = (const char *)data + size;
    if (!at)
        return NULL;
    at += 3;
    while (at < end && (*at == ' ' || *at == ':' || *at == '"'))
        at++;
    return end - at >= 16 ? at : NULL;
}

bool body_is(body_t *b, uint32_t connection, uint32_t sequence, const uint8_t *data, size_t size) {
    body_tag(b, connection, sequence);
    if (!b->json)
        return size == b->size && memcmp(data, b->text, size) == 0;
    const char *tag = find_tag(b, data, size);
    return tag && memcmp(tag, b->text + b->tag_at, 16) == 0;
}

bool body_read_tag(const body_t *b, const uint8_t *data, size_t size, uint32_t *connection, uint32_t *sequence) {
    const char *text = find_tag(b, data, size);
    uint64_t tag = 0;
    for (int i = 0; text && i < 16; i++) {
        const char *digit = memchr(digits, text[i], 16);
        if (!digit)
            return false;
        tag = tag << 4 | (uint64_t)(digit - digits);
    }
    *connection = (uint32_t)(tag >> 32);
    *sequence = (uint32_t)tag;
    return text != NULL;
}
