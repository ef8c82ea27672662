#include "actors/registry_wire.h"

#include <stdlib.h>
#include <string.h>

const char *rr_node_status_name(rr_node_status_t status) {
    static const char *const names[] = {"alive", "suspect", "draining"};
    return (unsigned)status < sizeof names / sizeof names[0] ? names[status] : "unknown";
}

/* ---- Writing ---- */

void rr_reg_put_bytes(rr_reg_out_t *out, const void *data, size_t size) {
    if (out->failed)
        return;
    if (size > out->capacity - out->size) {
        size_t capacity = out->capacity ? out->capacity * 2 : 256;
        while (capacity - out->size < size)
            capacity *= 2;
        uint8_t *more = realloc(out->data, capacity);
        if (!more) {
            out->failed = true;
            return;
        }
        out->data = more;
        out->capacity = capacity;
    }
    if (size)
        memcpy(out->data + out->size, data, size);
    out->size += size;
}

static void put(rr_reg_out_t *out, uint64_t v, unsigned size) {
    uint8_t bytes[8];
    for (unsigned i = 0; i < size; i++)
        bytes[i] = (uint8_t)(v >> 8 * i);
    rr_reg_put_bytes(out, bytes, size);
}

void rr_reg_put8(rr_reg_out_t *out, uint8_t v) { put(out, v, 1); }
void rr_reg_put16(rr_reg_out_t *out, uint16_t v) { put(out, v, 2); }
void rr_reg_put32(rr_reg_out_t *out, uint32_t v) { put(out, v, 4); }
void rr_reg_put64(rr_reg_out_t *out, uint64_t v) { put(out, v, 8); }

void rr_reg_put_str(rr_reg_out_t *out, const char *text) {
    size_t size = strlen(text);
    size = size < UINT16_MAX ? size : UINT16_MAX;
    rr_reg_put16(out, (uint16_t)size);
    rr_reg_put_bytes(out, text, size);
}

void rr_reg_put_identity(rr_reg_out_t *out, const rr_node_identity_t *who) {
    rr_reg_put16(out, (uint16_t)who->node);
    rr_reg_put64(out, who->incarnation);
    rr_reg_put64(out, who->service);
    rr_reg_put8(out, who->relay);
    rr_reg_put_str(out, who->name);
    rr_reg_put_str(out, who->address);
}

void rr_reg_patch32(rr_reg_out_t *out, size_t at, uint32_t v) {
    for (unsigned i = 0; i < 4 && !out->failed; i++)
        out->data[at + i] = (uint8_t)(v >> 8 * i);
}

void rr_reg_out_free(rr_reg_out_t *out) {
    free(out->data);
    *out = (rr_reg_out_t){0};
}

/* ---- Reading ---- */

rr_reg_in_t rr_reg_in(const void *data, size_t size) {
    return (rr_reg_in_t){data, data ? (const uint8_t *)data + size : NULL, false};
}

rr_reg_in_t rr_reg_in_of(const rr_message_t *msg) { return rr_reg_in(rr_message_data(msg), rr_message_size(msg)); }

static uint64_t get(rr_reg_in_t *in, unsigned size) {
    uint64_t v = 0;
    if (in->bad || (size_t)(in->end - in->at) < size) {
        in->bad = true;
        return 0;
    }
    for (unsigned i = 0; i < size; i++)
        v |= (uint64_t)in->at[i] << 8 * i;
    in->at += size;
    return v;
}

uint8_t rr_reg_get8(rr_reg_in_t *in) { return (uint8_t)get(in, 1); }
uint16_t rr_reg_get16(rr_reg_in_t *in) { return (uint16_t)get(in, 2); }
uint32_t rr_reg_get32(rr_reg_in_t *in) { return (uint32_t)get(in, 4); }
uint64_t rr_reg_get64(rr_reg_in_t *in) { return get(in, 8); }

void rr_reg_get_str(rr_reg_in_t *in, char *out, size_t size) {
    size_t length = rr_reg_get16(in);
    out[0] = '\0';
    if (in->bad || (size_t)(in->end - in->at) < length || length >= size || memchr(in->at, 0, length)) {
        in->bad = true;
        return;
    }
    memcpy(out, in->at, length);
    out[length] = '\0';
    in->at += length;
}

void rr_reg_get_name(rr_reg_in_t *in, char out[RR_REG_NAME_SIZE]) {
    rr_reg_get_str(in, out, RR_REG_NAME_SIZE);
    if (!in->bad && !rr_name_legal(out))
        in->bad = true;
}

void rr_reg_get_identity(rr_reg_in_t *in, const char *group, rr_node_identity_t *out) {
    memset(out, 0, sizeof *out);
    out->node = rr_reg_get16(in);
    out->incarnation = rr_reg_get64(in);
    out->service = rr_reg_get64(in);
    out->relay = rr_reg_get8(in) != 0;
    strncpy(out->group, group, sizeof out->group - 1);
    rr_reg_get_str(in, out->name, sizeof out->name);
    rr_reg_get_str(in, out->address, sizeof out->address);
    if (!out->node || !out->incarnation)
        in->bad = true;
}

bool rr_reg_done(const rr_reg_in_t *in) { return !in->bad && in->at == in->end; }

const char *rr_reg_json_text(const char *text, char out[RR_REG_JSON_TEXT]) {
    char *at = out, *end = out + RR_REG_JSON_TEXT - 4;
    *at++ = '"';
    for (; *text && at < end; text++) {
        if (*text == '"' || *text == '\\')
            *at++ = '\\';
        *at++ = *text >= ' ' && *text <= '~' ? *text : '?';
    }
    *at++ = '"';
    *at = '\0';
    return out;
}
