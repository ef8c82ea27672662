#include "python/compat.h"

#include "python/memory.h"

#include <malloc.h>
#include <stdlib.h>

/* The account of the scene that this thread has entered. */
static _Thread_local rr__account_t *current;

static void book(rr__account_t *account, ptrdiff_t bytes) {
    ptrdiff_t used = atomic_load_explicit(&account->used, memory_order_relaxed);
    atomic_store_explicit(&account->used, used + bytes, memory_order_relaxed);
}

static bool refused(rr__account_t *account, size_t bytes) {
    ptrdiff_t used = atomic_load_explicit(&account->used, memory_order_relaxed);
    if (account->lifted || used < 0 || (size_t)used + bytes <= account->limit)
        return false;
    account->refused++;
    return true;
}

static void *booked(rr__account_t *account, void *memory) {
    if (memory)
        book(account, (ptrdiff_t)malloc_usable_size(memory));
    return memory;
}

static void *take(void *context, size_t size) {
    rr__account_t *account = current;
    if (!account)
        return malloc(size ? size : 1);
    return refused(account, size) ? NULL : booked(account, malloc(size ? size : 1));
}

static void *take_zeroed(void *context, size_t count, size_t size) {
    rr__account_t *account = current;
    if (!count || !size)
        count = size = 1;
    if (!account)
        return calloc(count, size);
    if (size > SIZE_MAX / count || refused(account, count * size))
        return NULL;
    return booked(account, calloc(count, size));
}

static void *change(void *context, void *memory, size_t size) {
    rr__account_t *account = current;
    if (!account)
        return realloc(memory, size ? size : 1);
    size_t before = memory ? malloc_usable_size(memory) : 0;
    if (size > before && refused(account, size - before))
        return NULL;
    void *moved = realloc(memory, size ? size : 1);
    if (moved)
        book(account, (ptrdiff_t)malloc_usable_size(moved) - (ptrdiff_t)before);
    return moved;
}

static void give(void *context, void *memory) {
    rr__account_t *account = current;
    if (account && memory)
        book(account, -(ptrdiff_t)malloc_usable_size(memory));
    free(memory);
}

void rr__memory_install(void) {
    PyMemAllocatorEx layer = {.malloc = take, .calloc = take_zeroed, .realloc = change, .free = give};
    PyMem_SetAllocator(PYMEM_DOMAIN_MEM, &layer);
    PyMem_SetAllocator(PYMEM_DOMAIN_OBJ, &layer);
}

rr__account_t *rr__memory_enter(rr__account_t *account) {
    rr__account_t *before = current;
    current = account;
    return before;
}
