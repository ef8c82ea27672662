#include "actors/outlet.h"

#include <stdlib.h>

void rr_outlet_init(rr_outlet_t *outlet, uint32_t type) {
    *outlet = (rr_outlet_t){.type = type};
    outlet->last = &outlet->first;
}

bool rr_outlet_empty(const rr_outlet_t *outlet) {
    return !outlet->first && outlet->batch.records == 0;
}

static void push(rr_outlet_t *outlet, rr__segment_t *segment, rr_buffer_t *buffer, uint32_t type, uint32_t weight) {
    *segment = (rr__segment_t){.buffer = buffer, .type = type, .weight = weight};
    *outlet->last = segment;
    outlet->last = &segment->next;
}

/* Makes the batch a message of its own. `at_ns` is filled in where it is known; a cut batch has none (0). */
static int cut(rr_outlet_t *outlet, uint64_t at_ns) {
    uint32_t weight = outlet->batch.records;
    if (weight == 0)
        return RR_OK;
    rr__segment_t *segment = malloc(sizeof(*segment));
    rr_buffer_t *buffer = segment ? rr_batch_take(&outlet->batch, at_ns, 2 * RR_OUTLET_CUT) : NULL;
    if (!buffer) {
        free(segment);
        return RR_ENOMEM;
    }
    push(outlet, segment, buffer, outlet->type, weight);
    outlet->cuts++;
    return RR_OK;
}

static bool full(const rr_batch_t *batch) {
    return batch->size >= RR_OUTLET_CUT || batch->records >= RR_OUTLET_RECORDS;
}

bool rr_outlet_goes_on(const rr_outlet_t *outlet) {
    return outlet->batch.records > 0 && !full(&outlet->batch);
}

uint8_t *rr_outlet_add(rr_outlet_t *outlet, uint16_t kind, uint16_t cmd, uint32_t slot, uint64_t incarnation,
                       uint32_t arg, size_t size) {
    rr_batch_t *batch = &outlet->batch;
    if (full(batch) && cut(outlet, 0) != RR_OK)
        return NULL;
    size_t before = batch->size;
    uint8_t *body = rr_batch_add(batch, kind, cmd, slot, incarnation, arg, size);
    outlet->bytes += batch->size - before;
    return body;
}

static void unref(void *buffer) {
    rr_buffer_unref(buffer);
}

static rr_buffer_t *body_buffer(const void *body, size_t size, rr_buffer_t *owner) {
    if (!owner)
        return rr_buffer_copy(body, size);
    if (rr_buffer_data(owner) == body && rr_buffer_size(owner) == size)
        return rr_buffer_ref(owner);
    if (rr_buffer_size(owner) > 2 * size + RR_OUTLET_CUT) /* do not keep a large buffer alive for a small part of it */
        return rr_buffer_copy(body, size);
    rr_buffer_t *wrap = rr_buffer_wrap(body, size, unref, owner);
    if (wrap)
        rr_buffer_ref(owner);
    return wrap;
}

static void take_back(rr_outlet_t *outlet, uint8_t *record) {
    size_t size = (size_t)(outlet->batch.data + outlet->batch.size - record);
    outlet->batch.size -= size;
    outlet->batch.records--;
    outlet->bytes -= size;
}

static int put_large(rr_outlet_t *outlet, uint8_t *record, const void *body, size_t size, rr_buffer_t *owner) {
    rr_buffer_t *buffer = body_buffer(body, size, owner);
    rr__segment_t *segment = malloc(sizeof(*segment));
    if (buffer && segment) {
        rr_put16(record + 4, rr_get16(record + 4) | RR_RECORD_FOLLOWS);
        if (cut(outlet, 0) == RR_OK) {
            push(outlet, segment, buffer, outlet->type == RR_TYPE_INPUT ? RR_TYPE_INPUT_BODY : RR_TYPE_OUTPUT_BODY, 1);
            outlet->bytes += size;
            return RR_OK;
        }
    }
    take_back(outlet, record);
    rr_buffer_unref(buffer);
    free(segment);
    return RR_ENOMEM;
}

int rr_outlet_put(rr_outlet_t *outlet, uint16_t kind, uint16_t cmd, uint32_t slot, uint64_t incarnation, uint32_t arg,
                  const void *head, size_t head_size, const void *body, size_t size, rr_buffer_t *owner) {
    bool large = size > RR_BODY_INLINE;
    uint8_t *p = rr_outlet_add(outlet, kind, cmd, slot, incarnation, arg, head_size + (large ? 0 : size));
    if (!p)
        return RR_ENOMEM;
    if (head_size)
        memcpy(p, head, head_size);
    if (large)
        return put_large(outlet, p - RR_RECORD_HEAD, body, size, owner);
    if (size)
        memcpy(p + head_size, body, size);
    return RR_OK;
}

const rr__segment_t *rr_outlet_peek(rr_outlet_t *outlet, uint64_t now_ns) {
    if (!outlet->first && cut(outlet, now_ns) != RR_OK)
        return NULL;
    return outlet->first;
}

void rr_outlet_pop(rr_outlet_t *outlet) {
    rr__segment_t *segment = outlet->first;
    outlet->bytes -= rr_buffer_size(segment->buffer);
    outlet->first = segment->next;
    if (!outlet->first)
        outlet->last = &outlet->first;
    rr_buffer_unref(segment->buffer);
    free(segment);
}

void rr_outlet_free(rr_outlet_t *outlet) {
    while (outlet->first)
        rr_outlet_pop(outlet);
    rr_batch_free(&outlet->batch);
    rr_outlet_init(outlet, outlet->type);
}
