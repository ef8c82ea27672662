/* alloc.h: the one way to the allocator, so that debug builds can fail the n-th allocation and count what is alive.
 *
 * In builds with NDEBUG these are malloc and friends and nothing else. Otherwise every allocation passes a counter: tests
 * walk through "the first allocation fails, the second fails, …" and see that each error path gives back what it took.
 * Memory of rr__malloc is freed by rr__free only. */
#ifndef RR_RUNTIME_ALLOC_H
#define RR_RUNTIME_ALLOC_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifdef NDEBUG

static inline void *rr__malloc(size_t size) { return malloc(size); }
static inline void *rr__calloc(size_t count, size_t size) { return calloc(count, size); }
static inline void *rr__realloc(void *memory, size_t size) { return realloc(memory, size); }
static inline void *rr__aligned_alloc(size_t alignment, size_t size) { return aligned_alloc(alignment, size); }
static inline char *rr__strdup(const char *text) { return strdup(text); }
static inline void rr__free(void *memory) { free(memory); }

#else

/* As libc's. NULL when out of memory or when it is this allocation's turn to fail. Any thread. */
void *rr__malloc(size_t size) __attribute__((malloc));
void *rr__calloc(size_t count, size_t size) __attribute__((malloc));
void *rr__realloc(void *memory, size_t size);
void *rr__aligned_alloc(size_t alignment, size_t size) __attribute__((malloc)); /* size: a multiple of alignment */
char *rr__strdup(const char *text) __attribute__((malloc));
void rr__free(void *memory);

/* From now on the n-th allocation (1 = the next one) of any thread fails, and only that one; 0 = none. */
void rr__alloc_fail_at(uint64_t n);

/* Whether the allocation asked for by rr__alloc_fail_at has been reached. */
bool rr__alloc_failed(void);

/* Blocks allocated and not yet freed. Exact once the threads that allocate are joined. */
int64_t rr__alloc_live(void);

#endif
#endif
