/* Loops as executors, posts, deferred items, and streams with real sockets. */
#include <fcntl.h>
#include <poll.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "net/loop.h"
#include "net/stream.h"
#include "support.h"

typedef struct fixture {
    rr_system_t *system;
    rr_loop_t *loop;
    sem_t done;
    /* Plain: touched on the loop only, read after rr_system_stop or the semaphore. */
    int order[64], count;
    rr_deferred_t items[3];
} fixture_t;

static void setup(fixture_t *f) {
    rr_options_t options;
    memset(f, 0, sizeof *f);
    sem_init(&f->done, 0, 0);
    rr_options_init(&options);
    options.core_threads = 1;
    options.log_level = RR_WARN;
    ck_assert_int_eq(rr_system_create(&f->system, &options), RR_OK);
    ck_assert_int_eq(rr_loop_create(f->system, "io", &f->loop), RR_OK);
}

static void teardown(fixture_t *f) {
    rr_system_stop(f->system);
    rr_system_destroy(f->system);
    sem_destroy(&f->done);
}

static void wait_done(fixture_t *f) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 60;
    ck_assert_int_eq(sem_timedwait(&f->done, &until), 0);
}

/* ---- Posts ---- */

static void note(void *context) {
    fixture_t *f = context;
    f->order[f->count] = f->count;
    f->count++;
    ck_assert_ptr_eq(rr_loop_current(), f->loop);
}

static void finish(void *context) {
    sem_post(&((fixture_t *)context)->done);
}

START_TEST(posts_run_in_order) {
    fixture_t f;
    setup(&f);
    ck_assert_int_eq(rr_loop_post(f.loop, note, &f), RR_OK); /* before the start */
    ck_assert_int_eq(rr_system_start(f.system), RR_OK);
    for (int i = 0; i < 20; i++) {
        ck_assert_int_eq(rr_loop_post(f.loop, note, &f), RR_OK);
        ck_assert_int_eq(rr_loop_post(f.loop, finish, &f), RR_OK);
        wait_done(&f); /* the loop sleeps in between */
    }
    ck_assert_int_eq(f.count, 21);
    ck_assert_ptr_null(rr_loop_current());
    rr_system_stop(f.system);
    ck_assert_int_eq(rr_loop_post(f.loop, note, &f), RR_ESTOPPING);
    rr_system_destroy(f.system);
}
END_TEST

START_TEST(never_started) {
    fixture_t f;
    setup(&f);
    ck_assert_int_eq(rr_loop_post(f.loop, note, &f), RR_OK);
    rr_system_destroy(f.system);
    ck_assert_int_eq(f.count, 0);
}
END_TEST

/* ---- Deferred items ---- */

static fixture_t *deferring; /* items have no context of their own */

static void on_item(rr_deferred_t *item) {
    fixture_t *f = deferring;
    f->order[f->count++] = (int)(item - f->items);
    if (item == &f->items[0] && f->count < 4) {
        rr_loop_defer(f->loop, item); /* again, in a later round */
    }
}

static void defer_some(void *context) {
    fixture_t *f = context;
    for (int i = 0; i < 3; i++) {
        f->items[i].fn = on_item;
        rr_loop_defer(f->loop, &f->items[i]);
        rr_loop_defer(f->loop, &f->items[i]); /* twice is once */
    }
    rr_loop_defer_cancel(f->loop, &f->items[1]);
    rr_loop_defer_cancel(f->loop, &f->items[1]);
}

/* What the kernel says of the calling thread; 0 = it knows no slices, or lets nobody choose. */
static uint64_t slice_ns(void) {
    struct {
        uint32_t size, policy;
        uint64_t flags;
        int32_t nice;
        uint32_t priority;
        uint64_t slice_ns, deadline_ns, period_ns;
    } told = {0};
    bool known = syscall(SYS_sched_getattr, 0, &told, sizeof told, 0) == 0 && syscall(SYS_sched_setattr, 0, &told, 0) == 0;
    return known ? told.slice_ns : 0;
}

static void note_slice(void *context) {
    *(uint64_t *)context = slice_ns();
}

/* Of the loop, whether it is asked before it runs or later; of nobody else. */
START_TEST(long_and_short_slices) {
    uint64_t before = slice_ns(), got[4] = {0};
    fixture_t f;
    setup(&f);
    rr_loop_t *other;
    ck_assert_int_eq(rr_loop_create(f.system, "other", &other), RR_OK);
    ck_assert_int_eq(rr_loop_long_slices(f.loop), RR_OK);
    ck_assert_int_eq(rr_loop_post(f.loop, note_slice, &got[0]), RR_OK);
    ck_assert_int_eq(rr_system_start(f.system), RR_OK);
    ck_assert_int_eq(rr_loop_post(f.loop, finish, &f), RR_OK);
    wait_done(&f);
    ck_assert_int_eq(rr_loop_post(other, note_slice, &got[1]), RR_OK);
    ck_assert_int_eq(rr_loop_long_slices(other), RR_OK);
    ck_assert_int_eq(rr_loop_post(other, note_slice, &got[2]), RR_OK);
    ck_assert_int_eq(rr_loop_short_slices(other), RR_OK);
    ck_assert_int_eq(rr_loop_post(other, note_slice, &got[3]), RR_OK);
    ck_assert_int_eq(rr_loop_post(other, finish, &f), RR_OK);
    wait_done(&f);
    ck_assert_uint_eq(got[1], before);
    ck_assert_uint_eq(got[0], got[2]);
    ck_assert_uint_eq(slice_ns(), before);
    ck_assert(before == 0 || (got[0] == 20000000 && got[3] == 100000));
    teardown(&f);
}
END_TEST

START_TEST(deferred_items_run_once) {
    fixture_t f;
    setup(&f);
    deferring = &f;
    ck_assert_int_eq(rr_system_start(f.system), RR_OK);
    ck_assert_int_eq(rr_loop_post(f.loop, defer_some, &f), RR_OK);
    ck_assert_int_eq(rr_loop_post(f.loop, finish, &f), RR_OK);
    wait_done(&f);
    teardown(&f);
    int seen[3] = {0};
    for (int i = 0; i < f.count; i++) {
        seen[f.order[i]]++;
    }
    ck_assert_int_eq(seen[0], 3);
    ck_assert_int_eq(seen[1], 0);
    ck_assert_int_eq(seen[2], 1);
}
END_TEST

/* ---- Actors on the loop ---- */

typedef struct counter {
    fixture_t *f;
    uint64_t seen;
} counter_t;

static int counter_start(rr_actor_t *self, void *state, const void *arg) {
    ((counter_t *)state)->f = *(fixture_t *const *)arg;
    ck_assert_ptr_eq(rr_loop_current(), ((counter_t *)state)->f->loop);
    ck_assert_ptr_eq(rr_executor_of(self), rr_loop_executor(((counter_t *)state)->f->loop));
    return rr_timer_start(self, 20, 0, 7, NULL);
}

static void counter_receive(rr_actor_t *self, void *state, rr_message_t *msg) {
    counter_t *c = state;
    ck_assert_ptr_eq(rr_loop_current(), c->f->loop);
    if (rr_message_kind(msg) == RR_TIMER) {
        ck_assert_uint_eq(rr_message_type(msg), 7);
        sem_post(&c->f->done);
        return;
    }
    ck_assert_uint_eq(*(const uint64_t *)rr_message_data(msg), c->seen);
    if (++c->seen % 1000 == 0) {
        sem_post(&c->f->done);
    }
}

static const rr_behavior_t counter_behavior = {
    .name = "counter", .state_size = sizeof(counter_t), .start = counter_start, .receive = counter_receive};

START_TEST(actors_are_pinned) {
    fixture_t f;
    setup(&f);
    ck_assert_int_eq(rr_system_start(f.system), RR_OK);
    fixture_t *arg = &f;
    rr_spawn_t spec = {.behavior = &counter_behavior, .arg = &arg, .arg_size = sizeof arg, .executor = rr_loop_executor(f.loop)};
    rr_addr_t addr;
    ck_assert_int_eq(rr_system_spawn(f.system, &spec, &addr), RR_OK);
    wait_done(&f); /* the timer: an idle loop wakes for it */
    for (uint64_t i = 0; i < 20000; i++) {
        ck_assert_int_eq(rr_system_send(f.system, addr, 0, &i, sizeof i), RR_OK);
        if (i % 1000 == 999) {
            wait_done(&f);
        }
    }
    teardown(&f);
}
END_TEST

/* ---- Streams ---- */

typedef struct side {
    fixture_t f;
    rr_stream_t *stream;
    int fd;      /* the far end */
    int far_end; /* given to the stream */
    size_t limit, received;
    int closed, error, drained;
    int plan; /* what the near end does */
    rr_buffer_t *big;
} side_t;

static void on_data(void *owner, uint8_t *data, size_t size) {
    side_t *s = owner;
    memset(data - RR_STREAM_HEADROOM, 0, RR_STREAM_HEADROOM); /* the promised headroom is ours */
    s->received += size;
}

static void on_stream_closed(void *owner, int error) {
    side_t *s = owner;
    s->closed++;
    s->error = error;
    s->stream = NULL;
    sem_post(&s->f.done);
}

static void on_drained(void *owner) {
    side_t *s = owner;
    s->drained++;
    sem_post(&s->f.done);
}

static const rr_stream_handler_t stream_handler = {.data = on_data, .closed = on_stream_closed, .drained = on_drained};

static void open_stream(void *context) {
    side_t *s = context;
    ck_assert_int_eq(rr_stream_open(s->f.loop, s->far_end, &stream_handler, s, s->limit, &s->stream), RR_OK);
    sem_post(&s->f.done);
}

static void side_setup(side_t *s, size_t limit) {
    int fds[2];
    memset(s, 0, sizeof *s);
    setup(&s->f);
    s->limit = limit;
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    s->fd = fds[0];
    s->far_end = fds[1];
    struct timeval time = {.tv_sec = 60};
    setsockopt(s->fd, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time);
    ck_assert_int_eq(rr_system_start(s->f.system), RR_OK);
    ck_assert_int_eq(rr_loop_post(s->f.loop, open_stream, s), RR_OK);
    wait_done(&s->f);
}

static void run(side_t *s, void (*fn)(void *)) {
    ck_assert_int_eq(rr_loop_post(s->f.loop, fn, s), RR_OK);
    ck_assert_int_eq(rr_loop_post(s->f.loop, finish, &s->f), RR_OK);
    wait_done(&s->f);
}

static void side_teardown(side_t *s) {
    teardown(&s->f);
    ck_assert_int_eq(s->closed, 1);
    close(s->fd);
}

/* Reads all until the end; checks that byte i is what write_pattern made it. Returns how many. */
static size_t drain_pattern(int fd, size_t limit) {
    static uint8_t bytes[65536];
    size_t at = 0, wrong = 0; /* not an assertion per byte: those are slow, and the stream's time to linger is short */
    while (at < limit) {
        ssize_t n = read(fd, bytes, sizeof bytes < limit - at ? sizeof bytes : limit - at);
        ck_assert_int_ge(n, 0);
        if (n == 0) {
            break;
        }
        for (ssize_t i = 0; i < n; i++, at++) {
            wrong += bytes[i] != (uint8_t)(at * 7 + (at >> 8));
        }
    }
    ck_assert_uint_eq(wrong, 0);
    return at;
}

static void pattern(uint8_t *out, size_t from, size_t size) {
    for (size_t i = 0; i < size; i++) {
        out[i] = (uint8_t)((from + i) * 7 + ((from + i) >> 8));
    }
}

/* All ways to write, in all sizes, in one turn. */
static void write_mixed(void *context) {
    side_t *s = context;
    static uint8_t bytes[70000];
    size_t at = 0;
    for (int i = 0; i < 300; i++) {
        size_t size = (size_t)(i * i * 7) % (i % 10 == 0 ? 60000 : 900);
        pattern(bytes, at, size);
        int error;
        if (i % 3 == 0) {
            ck_assert_int_eq(rr_stream_write(s->stream, bytes, size), RR_OK);
        } else if (i % 3 == 1) {
            uint8_t *room = rr_stream_reserve(s->stream, size + 50, &error);
            ck_assert_ptr_nonnull(room);
            memcpy(room, bytes, size);
            rr_stream_commit(s->stream, size);
        } else {
            size_t head = size < 20 ? size : 20;
            rr_buffer_t *buffer = rr_buffer_copy(bytes + head, size - head);
            ck_assert_int_eq(rr_stream_write_buffer(s->stream, bytes, head, buffer), RR_OK);
            rr_buffer_unref(buffer);
        }
        at += size;
        ck_assert_uint_le(rr_stream_pending(s->stream), at);
    }
    s->received = at;
    rr_stream_close(s->stream, 20000);
    ck_assert_int_eq(rr_stream_write(s->stream, "x", 1), RR_ESTATE);
    ck_assert_int_eq(s->closed, 0);
}

START_TEST(writes_of_all_kinds) {
    side_t s;
    side_setup(&s, 64u << 20);
    run(&s, write_mixed); /* more than the kernel takes at once */
    ck_assert_uint_eq(drain_pattern(s.fd, SIZE_MAX), s.received);
    shutdown(s.fd, SHUT_WR); /* our end lets it finish before its linger time */
    wait_done(&s.f);
    ck_assert_int_eq(s.error, RR_OK);
    side_teardown(&s);
}
END_TEST

static void fill(void *context) {
    side_t *s = context;
    static uint8_t bytes[10000];
    int rc;
    do {
        pattern(bytes, s->received, sizeof bytes);
        rc = rr_stream_write(s->stream, bytes, sizeof bytes);
        s->received += rc == RR_OK ? sizeof bytes : 0;
    } while (rc == RR_OK);
    ck_assert_int_eq(rc, RR_ELIMIT);
    ck_assert_uint_le(rr_stream_pending(s->stream), s->limit);
    ck_assert_uint_gt(rr_stream_pending(s->stream), s->limit - 10000);
    int error;
    ck_assert_ptr_null(rr_stream_reserve(s->stream, 10000, &error));
    ck_assert_int_eq(error, RR_ELIMIT);
    ck_assert_int_eq(s->drained, 0);
}

static void abort_stream(void *context) {
    side_t *s = context;
    rr_stream_abort(s->stream);
    rr_stream_abort(s->stream);
    ck_assert_int_eq(s->closed, 0);
}

START_TEST(limit_and_drained) {
    side_t s;
    side_setup(&s, 500000);
    run(&s, fill);
    ck_assert_uint_eq(drain_pattern(s.fd, s.received), s.received);
    wait_done(&s.f);
    ck_assert_int_eq(s.drained, 1);
    run(&s, abort_stream);
    wait_done(&s.f);
    side_teardown(&s);
}
END_TEST

static void close_soon(void *context) {
    rr_stream_close(((side_t *)context)->stream, 300);
}

START_TEST(peer_that_never_reads_is_left) {
    side_t s;
    side_setup(&s, 500000);
    run(&s, fill);
    run(&s, close_soon);
    wait_done(&s.f); /* its linger time ends it */
    ck_assert_int_eq(s.error, RR_TIMEOUT);
    side_teardown(&s);
}
END_TEST

static void pause_stream(void *context) {
    rr_stream_pause(((side_t *)context)->stream);
}

static void resume_stream(void *context) {
    rr_stream_resume(((side_t *)context)->stream);
}

START_TEST(pause_and_peer_end) {
    side_t s;
    side_setup(&s, 500000);
    run(&s, pause_stream);
    ck_assert_int_eq(write(s.fd, "hello", 5), 5);
    close(s.fd);
    for (int i = 0; i < 20; i++) {
        run(&s, finish);
        wait_done(&s.f);
    }
    ck_assert_uint_eq(s.received, 0);
    ck_assert_int_eq(s.closed, 0);
    run(&s, resume_stream);
    wait_done(&s.f);
    ck_assert_uint_eq(s.received, 5);
    ck_assert_int_eq(s.error, RR_OK);
    s.fd = open("/dev/null", O_RDONLY);
    side_teardown(&s);
}
END_TEST

START_TEST(loop_end_closes_streams) {
    side_t s;
    side_setup(&s, 500000);
    run(&s, fill);
    side_teardown(&s);
}
END_TEST

RUN_TESTS("loop", posts_run_in_order, never_started, long_and_short_slices, deferred_items_run_once, actors_are_pinned, writes_of_all_kinds,
          limit_and_drained, peer_that_never_reads_is_left, pause_and_peer_end, loop_end_closes_streams)
