/* buffer.h: reference-counted immutable bytes, shared between actors without a copy. */
#ifndef RR_RUNTIME_BUFFER_H
#define RR_RUNTIME_BUFFER_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/error.h"

typedef struct rr_buffer rr_buffer_t;

/* A view into bytes; owner may be NULL (borrowed memory, valid as its giver says). */
typedef struct rr_slice {
    rr_buffer_t *owner;
    const uint8_t *data;
    size_t size;
} rr_slice_t;

/* New buffer of `size` bytes with one reference; its maker may write into it until it shares it.
 * NULL when out of memory. Any thread. */
rr_buffer_t *rr_buffer_new(size_t size);

/* New buffer holding a copy of data. NULL when out of memory. Any thread. */
rr_buffer_t *rr_buffer_copy(const void *data, size_t size);

/* Wraps memory of somebody else: release(context) is called once, on whatever thread drops the last reference.
 * NULL when out of memory (release is not called). */
rr_buffer_t *rr_buffer_wrap(const void *data, size_t size, void (*release)(void *context), void *context);

/* One more reference; returns its argument. Any thread holding a reference. */
rr_buffer_t *rr_buffer_ref(rr_buffer_t *buffer);

/* One reference less; frees with the last. NULL is allowed. */
void rr_buffer_unref(rr_buffer_t *buffer);

/* The bytes. Writable only for the maker of rr_buffer_new, before it is shared. */
uint8_t *rr_buffer_data(rr_buffer_t *buffer);

size_t rr_buffer_size(const rr_buffer_t *buffer);

/* Makes it larger, maybe elsewhere (maker only, before sharing; not a wrapped one); the new bytes are undefined. NULL when out
 * of memory: the buffer stays as it was. */
rr_buffer_t *rr_buffer_resize(rr_buffer_t *buffer, size_t size);

/* Shrinks the visible size (maker only, before sharing); size must not grow. */
void rr_buffer_truncate(rr_buffer_t *buffer, size_t size);

#endif
