#include "actors/protocol.h"

#include <stdio.h>
#include <stdlib.h>

static size_t padded(size_t size) {
    return (size + 7) & ~(size_t)7;
}

/* ---- Batches ---- */

int rr_batch_open(rr_batch_reader_t *reader, const void *data, size_t size) {
    const uint8_t *p = data;
    if (size < RR_BATCH_HEAD || rr_get32(p) != RR_BATCH_VERSION)
        return RR_EPROTO;
    *reader = (rr_batch_reader_t){p + RR_BATCH_HEAD, p + size, rr_get32(p + 4), rr_get64(p + 8)};
    return RR_OK;
}

int rr_batch_next(rr_batch_reader_t *reader, rr_record_t *out) {
    size_t left = (size_t)(reader->end - reader->at);
    if (reader->records == 0)
        return left == 0 ? RR_ENOENT : RR_EPROTO;
    if (left < RR_RECORD_HEAD)
        return RR_EPROTO;
    const uint8_t *p = reader->at;
    uint16_t kind = rr_get16(p + 4);
    *out = (rr_record_t){.size = rr_get32(p),
                         .kind = kind & (uint16_t)~RR_RECORD_FOLLOWS,
                         .cmd = rr_get16(p + 6),
                         .slot = rr_get32(p + 8),
                         .arg = rr_get32(p + 12),
                         .incarnation = rr_get64(p + 16),
                         .follows = (kind & RR_RECORD_FOLLOWS) != 0,
                         .body = p + RR_RECORD_HEAD};
    size_t whole = RR_RECORD_HEAD + padded(out->size);
    if (whole > left || (out->follows && reader->records != 1))
        return RR_EPROTO;
    reader->at += whole;
    reader->records--;
    return RR_OK;
}

#define BATCH_LEAST 480u /* with the buffer's own head: a size class of the allocator */

/* After a batch that left with its buffer (capacity is kept, the next may be as large), or when it is too small. */
static bool batch_grow(rr_batch_t *batch, size_t need) {
    size_t capacity = batch->capacity ? batch->capacity : BATCH_LEAST;
    while (capacity < need)
        capacity *= 2;
    rr_buffer_t *buffer = rr_buffer_new(capacity);
    if (!buffer)
        return false;
    if (batch->size)
        memcpy(rr_buffer_data(buffer), batch->data, batch->size);
    rr_buffer_unref(batch->buffer);
    batch->buffer = buffer;
    batch->data = rr_buffer_data(buffer);
    batch->capacity = capacity;
    return true;
}

static inline bool batch_reserve(rr_batch_t *batch, size_t more) {
    size_t size = batch->size ? batch->size : RR_BATCH_HEAD;
    if ((!batch->buffer || size + more > batch->capacity) && !batch_grow(batch, size + more))
        return false;
    batch->size = size;
    return true;
}

uint8_t *rr_batch_add(rr_batch_t *batch, uint16_t kind, uint16_t cmd, uint32_t slot, uint64_t incarnation, uint32_t arg,
                      size_t size) {
    size_t whole = RR_RECORD_HEAD + padded(size);
    if (!batch_reserve(batch, whole))
        return NULL;
    uint8_t *p = batch->data + batch->size;
    rr_put32(p, (uint32_t)size);
    rr_put16(p + 4, kind);
    rr_put16(p + 6, cmd);
    rr_put32(p + 8, slot);
    rr_put32(p + 12, arg);
    rr_put64(p + 16, incarnation);
    if (size & 7)
        rr_put64(p + whole - 8, 0); /* the padding; what belongs to the body is written next */
    batch->size += whole;
    batch->records++;
    return p + RR_RECORD_HEAD;
}

rr_buffer_t *rr_batch_take(rr_batch_t *batch, uint64_t now_ns, size_t keep) {
    rr_put32(batch->data, RR_BATCH_VERSION);
    rr_put32(batch->data + 4, batch->records);
    rr_put64(batch->data + 8, now_ns);
    bool whole = batch->size > BATCH_LEAST && batch->size >= batch->capacity / 2;
    rr_buffer_t *buffer = whole ? batch->buffer : rr_buffer_copy(batch->data, batch->size);
    if (!buffer)
        return NULL;
    if (whole) {
        rr_buffer_truncate(buffer, batch->size);
        batch->buffer = NULL;
        batch->data = NULL;
    }
    batch->size = 0;
    batch->records = 0;
    if (batch->capacity > keep)
        rr_batch_free(batch);
    return buffer;
}

void rr_batch_free(rr_batch_t *batch) {
    rr_buffer_unref(batch->buffer);
    *batch = (rr_batch_t){0};
}

/* ---- Session ids ---- */

size_t rr_sid_encode(const rr_sid_t *id, uint8_t out[RR_SID_MAX]) {
    if (!id->text) {
        out[0] = 'i';
        rr_put64(out + 1, (uint64_t)id->number);
        return 9;
    }
    size_t size = id->size < RR_SID_MAX ? id->size : RR_SID_MAX - 1;
    out[0] = 's';
    memcpy(out + 1, id->text, size);
    return size + 1;
}

int rr_sid_decode(const void *data, size_t size, rr_sid_t *out) {
    const uint8_t *p = data;
    *out = (rr_sid_t){0};
    if (size == 9 && p[0] == 'i') {
        out->number = (int64_t)rr_get64(p + 1);
        return out->number != 0 ? RR_OK : RR_EPROTO;
    }
    if (size < 2 || size > RR_SID_MAX || p[0] != 's')
        return RR_EPROTO;
    out->text = (const char *)p + 1;
    out->size = (uint32_t)size - 1;
    return RR_OK;
}

bool rr_sid_equal(const rr_sid_t *a, const rr_sid_t *b) {
    if (!a->text || !b->text)
        return !a->text && !b->text && a->number == b->number;
    return a->size == b->size && memcmp(a->text, b->text, a->size) == 0;
}

static uint64_t mix(uint64_t x) { /* the finalizer of splitmix64 (Steele, Lea, Flood 2014) */
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
}

uint64_t rr_sid_hash(const rr_sid_t *id) {
    if (!id->text)
        return mix((uint64_t)id->number + 0x9e3779b97f4a7c15ull);
    uint64_t hash = id->size;
    size_t i = 0;
    for (; i + 8 <= id->size; i += 8)
        hash = mix(hash ^ rr_get64((const uint8_t *)id->text + i));
    uint64_t last = 0;
    memcpy(&last, id->text + i, id->size - i);
    return mix(hash ^ last);
}

const char *rr_sid_show(const rr_sid_t *id, char *out, size_t size) {
    if (!id->text) {
        snprintf(out, size, "%lld", (long long)id->number);
        return out;
    }
    size_t n = 0;
    out[n++] = '\'';
    for (uint32_t i = 0; i < id->size && n + 6 < size; i++) {
        unsigned char c = (unsigned char)id->text[i];
        if (c < 0x20 || c == 0x7f || c == '\'' || c == '\\')
            n += (size_t)snprintf(out + n, size - n, "\\x%02x", c);
        else
            out[n++] = (char)c;
    }
    out[n++] = '\'';
    out[n] = 0;
    return out;
}

void rr_sid_to_int(rr_sid_t *id) {
    if (!id->text || id->size == 0 || id->size > 20)
        return;
    bool negative = id->text[0] == '-';
    uint64_t value = 0, limit = (uint64_t)INT64_MAX + negative;
    uint32_t i = negative;
    if (i == id->size)
        return;
    for (; i < id->size; i++) {
        unsigned digit = (unsigned)(id->text[i] - '0');
        if (digit > 9 || value > (limit - digit) / 10)
            return;
        value = value * 10 + digit;
    }
    if (value == 0)
        return;
    *id = (rr_sid_t){.number = (int64_t)(negative ? 0 - value : value)};
}

/* ---- ENTER ---- */

static const uint8_t *take_text(const uint8_t *p, uint32_t size, char out[RR_SID_MAX]) {
    memcpy(out, p, size);
    out[size] = 0;
    return p + size;
}

int rr_enter_decode(const void *data, size_t size, rr_enter_t *out) {
    const uint8_t *p = data;
    rr_enter_head_t *head = &out->head;
    if (size < sizeof(*head))
        return RR_EPROTO;
    memcpy(head, p, sizeof(*head));
    uint64_t need = (uint64_t)sizeof(*head) + head->gate_size + head->from_size + head->sid_size + head->extra_size;
    if (need != size || head->gate_size >= sizeof(out->gate) || head->from_size >= sizeof(out->from))
        return RR_EPROTO;
    p = take_text(p + sizeof(*head), head->gate_size, out->gate);
    p = take_text(p, head->from_size, out->from);
    out->extra = p + head->sid_size;
    return rr_sid_decode(p, head->sid_size, &out->id);
}

/* ---- Services ---- */

/* u16 size of from | u16 size of method | u8 has a body | from NUL method NUL body */
#define SERVICE_HEAD 5u

/* 0: too long. */
static size_t service_size(const char *from, const char *method, const void *body, size_t size) {
    size_t from_size = strlen(from), method_size = strlen(method);
    if (from_size > UINT16_MAX || method_size > UINT16_MAX)
        return 0;
    return SERVICE_HEAD + from_size + 1 + method_size + 1 + (body ? size : 0);
}

static void service_write(uint8_t *p, const char *from, const char *method, const void *body, size_t size) {
    size_t from_size = strlen(from), method_size = strlen(method);
    rr_put16(p, (uint16_t)from_size);
    rr_put16(p + 2, (uint16_t)method_size);
    p[4] = body != NULL;
    memcpy(p + SERVICE_HEAD, from, from_size + 1);
    memcpy(p + SERVICE_HEAD + from_size + 1, method, method_size + 1);
    if (body && size)
        memcpy(p + SERVICE_HEAD + from_size + 1 + method_size + 1, body, size);
}

rr_buffer_t *rr_service_encode(const char *from, const char *method, const void *body, size_t size) {
    size_t whole = service_size(from, method, body, size);
    rr_buffer_t *buffer = whole ? rr_buffer_new(whole) : NULL;
    if (buffer)
        service_write(rr_buffer_data(buffer), from, method, body, size);
    return buffer;
}

int rr_service_decode(const void *data, size_t size, rr_service_request_t *out) {
    const uint8_t *p = data;
    if (size < SERVICE_HEAD)
        return RR_EPROTO;
    size_t from_size = rr_get16(p), method_size = rr_get16(p + 2),
           head = SERVICE_HEAD + from_size + 1 + method_size + 1;
    if (size < head || p[4] > 1 || p[SERVICE_HEAD + from_size] != 0 || p[head - 1] != 0)
        return RR_EPROTO;
    out->from = (const char *)p + SERVICE_HEAD;
    out->method = out->from + from_size + 1;
    if (strlen(out->from) != from_size || strlen(out->method) != method_size)
        return RR_EPROTO;
    out->body = p[4] ? p + head : NULL;
    out->size = p[4] ? size - head : 0;
    return RR_OK;
}

/* u32 version | u32 timeout_ms | u16 group's size | u16 name's size | group, NUL | name, NUL | service request */
#define BRIDGE_VERSION 1u
#define BRIDGE_HEAD    12u

rr_buffer_t *rr_bridge_encode(const rr_bridge_target_t *target, const char *from, const char *method, const void *body,
                              size_t size) {
    size_t group_size = strlen(target->group), name_size = strlen(target->name);
    size_t request = service_size(from, method, body, size), head = BRIDGE_HEAD + group_size + 1 + name_size + 1;
    if (!request || group_size > UINT16_MAX || name_size > UINT16_MAX)
        return NULL;
    rr_buffer_t *buffer = rr_buffer_new(head + request);
    if (!buffer)
        return NULL;
    uint8_t *p = rr_buffer_data(buffer);
    rr_put32(p, BRIDGE_VERSION);
    rr_put32(p + 4, target->timeout_ms);
    rr_put16(p + 8, (uint16_t)group_size);
    rr_put16(p + 10, (uint16_t)name_size);
    memcpy(p + BRIDGE_HEAD, target->group, group_size + 1);
    memcpy(p + BRIDGE_HEAD + group_size + 1, target->name, name_size + 1);
    service_write(p + head, from, method, body, size);
    return buffer;
}

int rr_bridge_decode(const void *data, size_t size, rr_bridge_target_t *out, const void **request,
                     size_t *request_size) {
    const uint8_t *p = data;
    if (size >= 4 && rr_get32(p) != BRIDGE_VERSION)
        return RR_EUNSUPPORTED;
    if (size < BRIDGE_HEAD)
        return RR_EPROTO;
    size_t group_size = rr_get16(p + 8), name_size = rr_get16(p + 10),
           head = BRIDGE_HEAD + group_size + 1 + name_size + 1;
    out->timeout_ms = rr_get32(p + 4);
    if (size < head || p[BRIDGE_HEAD + group_size] != 0 || p[head - 1] != 0 || out->timeout_ms == 0)
        return RR_EPROTO;
    out->group = (const char *)p + BRIDGE_HEAD;
    out->name = out->group + group_size + 1;
    if (!rr_name_legal(out->group) || !rr_name_legal(out->name) || strlen(out->group) != group_size ||
        strlen(out->name) != name_size)
        return RR_EPROTO;
    *request = p + head;
    *request_size = size - head;
    return RR_OK;
}

rr_buffer_t *rr_answer_encode(const void *body, size_t size) {
    rr_buffer_t *buffer = rr_buffer_new(body ? 1 + size : 1);
    if (!buffer)
        return NULL;
    rr_buffer_data(buffer)[0] = body != NULL;
    if (body && size)
        memcpy(rr_buffer_data(buffer) + 1, body, size);
    return buffer;
}

int rr_answer_decode(const void *data, size_t size, const void **body, size_t *body_size) {
    const uint8_t *p = data;
    if (size < 1 || p[0] > 1 || (p[0] == 0 && size != 1))
        return RR_EPROTO;
    *body = p[0] ? p + 1 : NULL;
    *body_size = size - 1;
    return RR_OK;
}
