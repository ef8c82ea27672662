/* buffer.c: reference-counted bytes. One allocation: this header, then the bytes (or, for wrapped memory, its release). */
#include "runtime/buffer.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#include "runtime/alloc.h"

struct rr_buffer {
    /* Owners. Written by every thread that holds a reference.
     * Taking one is relaxed: the taker already holds one, so the bytes cannot go away and nothing is published.
     * Dropping one releases the dropper's reads of the bytes, and whoever drops the last acquires them all, so that the
     * memory is freed after every other thread's last access (acq_rel does both in one operation). */
    _Atomic(uint32_t) references;
    bool wrapped;
    size_t size;
    const uint8_t *data;
};

typedef struct wrapped_buffer {
    rr_buffer_t base;
    void (*release)(void *context);
    void *context;
} wrapped_buffer_t;

static void init(rr_buffer_t *buffer, bool wrapped, const uint8_t *data, size_t size) {
    atomic_init(&buffer->references, 1);
    buffer->wrapped = wrapped;
    buffer->size = size;
    buffer->data = data;
}

rr_buffer_t *rr_buffer_new(size_t size) {
    if (size > SIZE_MAX - sizeof(rr_buffer_t))
        return NULL;
    rr_buffer_t *buffer = rr__malloc(sizeof *buffer + size);
    if (buffer)
        init(buffer, false, (const uint8_t *)(buffer + 1), size);
    return buffer;
}

rr_buffer_t *rr_buffer_copy(const void *data, size_t size) {
    rr_buffer_t *buffer = rr_buffer_new(size);
    if (buffer && size > 0)
        memcpy(buffer + 1, data, size);
    return buffer;
}

rr_buffer_t *rr_buffer_wrap(const void *data, size_t size, void (*release)(void *context), void *context) {
    wrapped_buffer_t *buffer = rr__malloc(sizeof *buffer);
    if (!buffer)
        return NULL;
    init(&buffer->base, true, data, size);
    buffer->release = release;
    buffer->context = context;
    return &buffer->base;
}

rr_buffer_t *rr_buffer_ref(rr_buffer_t *buffer) {
    uint32_t before = atomic_fetch_add_explicit(&buffer->references, 1, memory_order_relaxed);
    assert(before > 0 && before < UINT32_MAX);
    (void)before;
    return buffer;
}

static void dispose(rr_buffer_t *buffer) {
    if (buffer->wrapped) {
        wrapped_buffer_t *wrapped = (wrapped_buffer_t *)buffer;
        if (wrapped->release)
            wrapped->release(wrapped->context);
    }
    rr__free(buffer);
}

void rr_buffer_unref(rr_buffer_t *buffer) {
    if (!buffer)
        return;
    /* Sole owner: nobody else can take or drop a reference, so the locked instruction is spared. Acquire: see above. */
    if (atomic_load_explicit(&buffer->references, memory_order_acquire) == 1) {
        dispose(buffer);
        return;
    }
    uint32_t before = atomic_fetch_sub_explicit(&buffer->references, 1, memory_order_acq_rel);
    assert(before > 0);
    if (before == 1)
        dispose(buffer);
}

uint8_t *rr_buffer_data(rr_buffer_t *buffer) { return (uint8_t *)(uintptr_t)buffer->data; }

size_t rr_buffer_size(const rr_buffer_t *buffer) { return buffer->size; }

rr_buffer_t *rr_buffer_resize(rr_buffer_t *buffer, size_t size) {
    assert(!buffer->wrapped && atomic_load_explicit(&buffer->references, memory_order_relaxed) == 1);
    if (size > SIZE_MAX - sizeof *buffer)
        return NULL;
    rr_buffer_t *moved = rr__realloc(buffer, sizeof *buffer + size);
    if (moved)
        init(moved, false, (const uint8_t *)(moved + 1), size);
    return moved;
}

void rr_buffer_truncate(rr_buffer_t *buffer, size_t size) {
    assert(size <= buffer->size);
    assert(atomic_load_explicit(&buffer->references, memory_order_relaxed) == 1);
    buffer->size = size;
}
