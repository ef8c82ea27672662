/* Reference-counted bytes: life, wrapping, sharing between threads. */
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "runtime/alloc.h"
#include "runtime/buffer.h"
#include "tests/unit/check_main.h"

START_TEST(copy_and_truncate) {
    rr_buffer_t *buffer = rr_buffer_copy("hello world", 11);
    ck_assert_ptr_nonnull(buffer);
    ck_assert_uint_eq(rr_buffer_size(buffer), 11);
    ck_assert_mem_eq(rr_buffer_data(buffer), "hello world", 11);
    rr_buffer_truncate(buffer, 5);
    ck_assert_uint_eq(rr_buffer_size(buffer), 5);
    rr_buffer_unref(buffer);
}
END_TEST

START_TEST(empty_and_null) {
    rr_buffer_t *buffer = rr_buffer_copy(NULL, 0);
    ck_assert_ptr_nonnull(buffer);
    ck_assert_uint_eq(rr_buffer_size(buffer), 0);
    rr_buffer_unref(buffer);
    rr_buffer_unref(NULL);
    ck_assert_ptr_null(rr_buffer_new(SIZE_MAX));
    ck_assert_ptr_null(rr_buffer_new(SIZE_MAX - 8));
}
END_TEST

START_TEST(maker_writes) {
    rr_buffer_t *buffer = rr_buffer_new(1000);
    memset(rr_buffer_data(buffer), 'x', 1000);
    rr_buffer_t *same = rr_buffer_ref(buffer);
    ck_assert_ptr_eq(same, buffer);
    rr_buffer_unref(buffer);
    ck_assert_int_eq(rr_buffer_data(same)[999], 'x');
    rr_buffer_unref(same);
}
END_TEST

static void released(void *context) { ++*(int *)context; }

START_TEST(wrapped_memory_is_released_once) {
    static const char bytes[] = "static";
    int count = 0;
    rr_buffer_t *buffer = rr_buffer_wrap(bytes, 6, released, &count);
    ck_assert_ptr_eq(rr_buffer_data(buffer), bytes);
    rr_buffer_ref(buffer);
    rr_buffer_unref(buffer);
    ck_assert_int_eq(count, 0);
    rr_buffer_unref(buffer);
    ck_assert_int_eq(count, 1);
    rr_buffer_unref(rr_buffer_wrap(bytes, 6, NULL, NULL)); /* nothing to release */
}
END_TEST

typedef struct shared {
    rr_buffer_t *buffer;
    _Atomic(int) seen;
    _Atomic(int) released;
} shared_t;

static void shared_released(void *context) { atomic_fetch_add(&((shared_t *)context)->released, 1); }

static void *reader(void *context) {
    shared_t *shared = context;
    for (int i = 0; i < 20000; i++) {
        rr_buffer_t *mine = rr_buffer_ref(shared->buffer);
        if (rr_buffer_data(mine)[i % 6] != 0)
            atomic_fetch_add_explicit(&shared->seen, 1, memory_order_relaxed);
        rr_buffer_unref(mine);
    }
    rr_buffer_unref(shared->buffer);
    return NULL;
}

START_TEST(threads_share) {
    char *bytes = strdup("shared");
    shared_t shared = {0};
    shared.buffer = rr_buffer_wrap(bytes, 6, shared_released, &shared);
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) {
        rr_buffer_ref(shared.buffer);
        ck_assert_int_eq(pthread_create(&threads[i], NULL, reader, &shared), 0);
    }
    rr_buffer_unref(shared.buffer);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    ck_assert_int_eq(shared.seen, 80000);
    ck_assert_int_eq(shared.released, 1);
    free(bytes);
}
END_TEST

#ifndef NDEBUG
START_TEST(out_of_memory) {
    int64_t before = rr__alloc_live();
    int count = 0;
    rr__alloc_fail_at(1);
    ck_assert_ptr_null(rr_buffer_copy("x", 1));
    ck_assert(rr__alloc_failed());
    rr__alloc_fail_at(1);
    ck_assert_ptr_null(rr_buffer_wrap("x", 1, released, &count));
    ck_assert_int_eq(count, 0); /* the memory is still its giver's */
    rr_buffer_t *buffer = rr_buffer_copy("x", 1); /* only one fails */
    ck_assert_ptr_nonnull(buffer);
    ck_assert_int_eq(rr__alloc_live(), before + 1);
    rr_buffer_unref(buffer);
    ck_assert_int_eq(rr__alloc_live(), before);
}
END_TEST
#define OUT_OF_MEMORY , out_of_memory
#else
#define OUT_OF_MEMORY
#endif

CHECK_MAIN("buffer", copy_and_truncate, empty_and_null, maker_writes, wrapped_memory_is_released_once,
           threads_share OUT_OF_MEMORY)
