/* alloc.c: the counting, failing allocator of debug builds (alloc.h). */
#include "runtime/alloc.h"

#ifdef NDEBUG

typedef int rr__alloc_is_libc; /* a translation unit must not be empty */

#else

#include <stdatomic.h>

/* The only state of the process that is not part of a system: a switch for tests, absent from release builds.
 *
 * countdown: 0 = off, n = the n-th allocation from now fails. Written by the test's thread and by every allocating one;
 * relaxed, because the atomic decrement alone decides which allocation it is.
 * live: blocks alive, written by all; relaxed, read when the others are joined. */
static _Atomic(int64_t) countdown;
static _Atomic(bool) reached;
static _Atomic(int64_t) live;

static bool must_fail(void) {
    if (atomic_load_explicit(&countdown, memory_order_relaxed) <= 0)
        return false;
    if (atomic_fetch_sub_explicit(&countdown, 1, memory_order_relaxed) != 1)
        return false;
    atomic_store_explicit(&reached, true, memory_order_relaxed);
    return true;
}

static void *count(void *memory) {
    if (memory)
        atomic_fetch_add_explicit(&live, 1, memory_order_relaxed);
    return memory;
}

void *rr__malloc(size_t size) { return must_fail() ? NULL : count(malloc(size)); }

void *rr__calloc(size_t n, size_t size) { return must_fail() ? NULL : count(calloc(n, size)); }

void *rr__realloc(void *memory, size_t size) {
    if (must_fail())
        return NULL;
    void *moved = realloc(memory, size);
    return memory ? moved : count(moved);
}

void *rr__aligned_alloc(size_t alignment, size_t size) {
    return must_fail() ? NULL : count(aligned_alloc(alignment, size));
}

char *rr__strdup(const char *text) { return must_fail() ? NULL : count(strdup(text)); }

void rr__free(void *memory) {
    if (memory)
        atomic_fetch_sub_explicit(&live, 1, memory_order_relaxed);
    free(memory);
}

void rr__alloc_fail_at(uint64_t n) {
    atomic_store_explicit(&reached, false, memory_order_relaxed);
    atomic_store_explicit(&countdown, (int64_t)n, memory_order_relaxed);
}

bool rr__alloc_failed(void) { return atomic_load_explicit(&reached, memory_order_relaxed); }

int64_t rr__alloc_live(void) { return atomic_load_explicit(&live, memory_order_relaxed); }

#endif
