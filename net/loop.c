/* loop.c: a libuv loop that is an executor.
 *
 * One iteration: posted functions, actors (a bounded slice), deferred items (sockets' flushes), then libuv polls: without
 * waiting if actors are left. Before it waits the thread says so in `sleeping` and looks at its queues once more; producers
 * push first and look at `sleeping` afterwards, so one of the two sees the other, and a sleep costs one wake-up at most.
 *
 * A guest (runtime/executor.h) runs between two polls. Before its turn the thread lends the loop out, as a whole; if the
 * overseer sees the turn go on for long, a thread from the reserve takes the loop and drives it from there, and the first one
 * joins the reserve when it comes back. So a guest that blocks holds the sockets up for 10 to 20 ms, once. */
#include "net/loop_impl.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "net/slice.h"
#include "runtime/clock.h"

#define SLICE_TURNS 64u        /* actor turns between two looks at the sockets */
#define SLICE_NS 1000000ull    /* and in time, looked at after each turn */
#define DEFER_ROUNDS 4u        /* flushing may defer again; the rest waits for the next iteration */
#define SMALL_CACHED 2048u     /* chunks kept: 1 MiB small, 10 MiB big: what a broadcast to 2,000 clients has under way */
#define BIG_CACHED 2048u
#define NS_PER_MS    1000000ull
#define STOP_SECONDS 2 /* rr_executor_ops_t.stop's promise */
#define DRIVERS_MAX 5  /* threads of a loop: without one in reserve it takes no guests */
#define STACK_SIZE (16u << 20) /* guests may be Python scripts: as much as their own workers have */

typedef struct post {
    struct post *next;
    void (*fn)(void *context);
    void *context;
} post_t;

typedef struct chunk {
    struct chunk *next;
} chunk_t;

typedef struct chunk_pool {
    chunk_t *first;
    unsigned count;
} chunk_pool_t;

typedef enum loop_state { LOOP_NEW, LOOP_RUNNING, LOOP_ENDED } loop_state_t;

typedef struct driver { /* a thread that drives the loop, or is in reserve, or is held up by a guest */
    rr_loop_t *loop;
    rr_worker_t *worker; /* NULL until it has begun, or if that failed */
    struct driver *next; /* in reserve; under drivers_lock */
    bool drives;         /* under drivers_lock */
    sem_t call;          /* look whether you drive, or whether the loop stops */
    pthread_t thread;
} driver_t;

struct rr_loop {
    rr_executor_t executor; /* first: the runtime's view */
    unsigned index;

    /* Shared with producers, away from the rest. */
    _Alignas(64) rr_runqueue_t runnable;
    /* LIFO of posted functions. Producers push by CAS with release (the post was written before), the loop takes all by
     * exchange with acquire. &closed_mark = the loop has ended, nothing may be pushed. */
    _Atomic(post_t *) posts;
    /* 1 while the loop waits or is about to. The loop: store 1 seq_cst, then looks at the queues. Producers: push, seq_cst
     * fence, load; who exchanges 1 for 0 wakes it. Sequential consistency is what makes one of them see the other. */
    _Atomic(int) sleeping;
    /* Set once by stop (release), read by the loop (acquire) each iteration and before it sleeps. */
    _Atomic(int) stopping;
    /* An eventfd that libuv watches. Not a uv_async_t: its sender marks itself busy around the write, and where both share a CPU
     * the woken loop runs at once and spins on that mark, for 1,000 pauses. */
    int wake_fd;
    uv_poll_t wake;

    /* The driver that is in a guest's turn and lets the loop be taken meanwhile, else NULL. It stores itself (release: what
     * it did to the loop) and afterwards exchanges itself for NULL (acq_rel); the overseer takes the loop by the same exchange
     * (acq_rel). Whoever's exchange succeeds has the loop. */
    _Atomic(driver_t *) lender;
    /* How many are in reserve; written under drivers_lock, read relaxed by the driver: a hint, the overseer looks itself. */
    _Atomic(unsigned) in_reserve;

    _Alignas(64) rr_worker_t *worker; /* the driver's */
    rr_deferred_t *deferred;
    uint64_t now_ns; /* 0 = not read in this iteration */
    uint64_t timer_due_ns;
    rr__deadlines_t deadlines;
    chunk_pool_t small, big;
    rr_loop_end_t *ends;
    uint8_t *scratch;
    uv_timer_t timer;
    uv_loop_t uv;
    rr__stream_counters_t counters;

    pthread_mutex_t drivers_lock; /* drivers, reserve; guards the count while the loop runs */
    driver_t drivers[DRIVERS_MAX];
    driver_t *reserve;
    unsigned driver_count;
    pthread_mutex_t state_lock; /* guards state; held across nothing that waits, except calls on a loop that does not run */
    loop_state_t state;
    sem_t started, ended; /* ended: posted by each driver as its last word */
};

static _Thread_local rr_loop_t *current_loop;
static post_t closed_mark;

static void wait_for(sem_t *semaphore) {
    while (sem_wait(semaphore) != 0) { /* a signal */
    }
}

/* ---- Waking ---- */

static void wake(rr_loop_t *loop) {
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load_explicit(&loop->sleeping, memory_order_relaxed) &&
        atomic_exchange_explicit(&loop->sleeping, 0, memory_order_seq_cst)) {
        (void)eventfd_write(loop->wake_fd, 1); /* fails only if its count is full: then it is readable anyway */
    }
}

void rr__loop_awake(rr_loop_t *loop) {
    if (atomic_load_explicit(&loop->sleeping, memory_order_relaxed)) {
        atomic_store_explicit(&loop->sleeping, 0, memory_order_relaxed); /* a wake-up too many at worst */
    }
}

static void on_wake(uv_poll_t *handle, int status, int events) {
    rr_loop_t *loop = handle->loop->data;
    eventfd_t count;
    (void)status;
    (void)events;
    (void)eventfd_read(loop->wake_fd, &count); /* nothing in it: somebody else's wake-up */
    rr__loop_awake(loop);
}

int rr_loop_post(rr_loop_t *loop, void (*fn)(void *context), void *context) {
    post_t *post = malloc(sizeof *post);
    if (!post) {
        return RR_ENOMEM;
    }
    *post = (post_t){.fn = fn, .context = context};
    post_t *head = atomic_load_explicit(&loop->posts, memory_order_relaxed);
    do {
        if (head == &closed_mark) {
            free(post);
            return RR_ESTOPPING;
        }
        post->next = head;
    } while (!atomic_compare_exchange_weak_explicit(&loop->posts, &head, post, memory_order_release, memory_order_relaxed));
    if (!head) {
        wake(loop);
    }
    return RR_OK;
}

static void say_slices(rr_loop_t *loop, const char *what, int rc) {
    if (rc != RR_OK) {
        rr_log(loop->executor.system, RR_DEBUG, "NET", "%s: no %s time slices: %s", loop->executor.name, what, rr_strerror(rc));
    }
}

static void take_long_slices(void *context) {
    say_slices(context, "long", rr__slice_long());
}

static void take_short_slices(void *context) {
    say_slices(context, "short", rr__slice_short());
}

int rr_loop_long_slices(rr_loop_t *loop) {
    return rr_loop_post(loop, take_long_slices, loop); /* threads in reserve are made by the one that drives */
}

int rr_loop_short_slices(rr_loop_t *loop) {
    return rr_loop_post(loop, take_short_slices, loop);
}

/* Takes the posted functions, leaves `replace` in their place, and runs them in order of posting. */
static void run_posts(rr_loop_t *loop, post_t *replace) {
    if (!replace && !atomic_load_explicit(&loop->posts, memory_order_relaxed)) {
        return;
    }
    post_t *list = atomic_exchange_explicit(&loop->posts, replace, memory_order_acq_rel), *ordered = NULL;
    for (post_t *next; list && list != &closed_mark; list = next) {
        next = list->next;
        list->next = ordered;
        ordered = list;
    }
    for (post_t *next; ordered; ordered = next) {
        next = ordered->next;
        ordered->fn(ordered->context);
        free(ordered);
    }
}

/* ---- One iteration ---- */

static void executor_post(rr_executor_t *executor, rr_actor_t *actor) {
    rr_loop_t *loop = (rr_loop_t *)executor;
    if (rr_runqueue_push(&loop->runnable, actor) && current_loop != loop) {
        wake(loop);
    }
}

/* Also asked in a guest's turn, in which another thread may have taken the loop and what it has at hand. */
static bool executor_others_wait(rr_executor_t *executor) {
    rr_loop_t *loop = (rr_loop_t *)executor;
    if (current_loop != loop) {
        return atomic_load_explicit(&loop->runnable.posted, memory_order_relaxed) != NULL;
    }
    return !rr_runqueue_empty(&loop->runnable) || rr_worker_has_guest(loop->worker);
}

static void run_actors(rr_loop_t *loop) {
    uint64_t until = 0;
    for (unsigned turns = 0; turns < SLICE_TURNS; turns++) {
        rr_actor_t *actor = rr_runqueue_pop(&loop->runnable);
        if (!actor) {
            return;
        }
        if (rr_worker_run(loop->worker, actor)) {
            rr_runqueue_push(&loop->runnable, actor);
        }
        uint64_t now = uv_hrtime();
        until = until ? until : now + SLICE_NS;
        if (now > until) {
            return;
        }
    }
}

void rr_loop_defer(rr_loop_t *loop, rr_deferred_t *item) {
    if (item->prev) {
        return;
    }
    item->next = loop->deferred;
    item->prev = &loop->deferred;
    if (item->next) {
        item->next->prev = &item->next;
    }
    loop->deferred = item;
}

void rr_loop_defer_cancel(rr_loop_t *loop, rr_deferred_t *item) {
    if (!item->prev) {
        return;
    }
    *item->prev = item->next;
    if (item->next) {
        item->next->prev = item->prev;
    }
    item->prev = NULL;
}

static void run_deferred(rr_loop_t *loop) {
    for (unsigned round = 0; round < DEFER_ROUNDS && loop->deferred; round++) {
        rr_deferred_t *list = loop->deferred; /* a list of its own: what is deferred meanwhile goes to the next round */
        loop->deferred = NULL;
        list->prev = &list;
        while (list) {
            rr_deferred_t *item = list;
            rr_loop_defer_cancel(loop, item);
            item->fn(item);
        }
    }
}

/* ---- Time ---- */

static uint64_t refresh_now(rr_loop_t *loop) {
    return loop->now_ns = loop->deadlines.now_ns = rr_system_now_ns(loop->executor.system);
}

uint64_t rr_loop_now_ns(rr_loop_t *loop) {
    return loop->now_ns ? loop->now_ns : refresh_now(loop);
}

rr__deadlines_t *rr__loop_deadlines(rr_loop_t *loop) {
    (void)rr_loop_now_ns(loop);
    return &loop->deadlines;
}

static void on_timer(uv_timer_t *timer) {
    rr_loop_t *loop = timer->loop->data;
    loop->timer_due_ns = UINT64_MAX; /* what is due is fired by the iteration */
    uv_stop(timer->loop); /* fired before the poll of this uv_run: it must not sleep now */
}

/* Fires due timers and deadlines, and makes libuv wake up for the next. */
static void run_timers(rr_loop_t *loop) {
    uint64_t due = rr_worker_timers(loop->worker), now = rr_loop_now_ns(loop);
    if (loop->deadlines.wheel.count) {
        rr__deadlines_fire(&loop->deadlines);
        uint64_t next = rr_wheel_next(&loop->deadlines.wheel);
        due = next < due ? next : due;
    }
    if (due < loop->timer_due_ns) {
        uint64_t ms = due > now ? (due - now + NS_PER_MS - 1) / NS_PER_MS : 0;
        uv_update_time(&loop->uv);
        if (uv_timer_start(&loop->timer, on_timer, ms, 0) == 0) {
            loop->timer_due_ns = due;
        }
    }
}

static bool must_go_on(rr_loop_t *loop) {
    return loop->deferred || !rr_runqueue_empty(&loop->runnable) ||
           atomic_load_explicit(&loop->posts, memory_order_relaxed) || rr_worker_has_guest(loop->worker) ||
           atomic_load_explicit(&loop->stopping, memory_order_acquire);
}

static void poll(rr_loop_t *loop) {
    uv_run_mode mode = UV_RUN_NOWAIT;
    if (!must_go_on(loop)) {
        atomic_store_explicit(&loop->sleeping, 1, memory_order_seq_cst);
        atomic_thread_fence(memory_order_seq_cst);
        mode = must_go_on(loop) ? UV_RUN_NOWAIT : UV_RUN_ONCE;
    }
    loop->now_ns = 0;
    if (mode == UV_RUN_ONCE)
        rr_worker_asleep(loop->worker, true);
    uv_run(&loop->uv, mode);
    if (mode == UV_RUN_ONCE)
        rr_worker_asleep(loop->worker, false);
    rr__loop_awake(loop);
}

/* ---- Its threads ---- */

static void *driver_main(void *context);

/* Under drivers_lock. */
static int start_driver(rr_loop_t *loop) {
    driver_t *driver = &loop->drivers[loop->driver_count];
    *driver = (driver_t){.loop = loop, .drives = loop->driver_count == 0};
    sem_init(&driver->call, 0, 0);
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK_SIZE);
    int rc = pthread_create(&driver->thread, &attr, driver_main, driver);
    pthread_attr_destroy(&attr);
    if (rc == 0) {
        loop->driver_count++;
    } else {
        sem_destroy(&driver->call);
    }
    return rc;
}

/* True if some thread could take the loop; else the next time there may be one. */
static bool have_reserve(rr_loop_t *loop) {
    if (atomic_load_explicit(&loop->in_reserve, memory_order_relaxed)) {
        return true;
    }
    pthread_mutex_lock(&loop->drivers_lock);
    if (!loop->reserve && loop->driver_count < DRIVERS_MAX && !atomic_load_explicit(&loop->stopping, memory_order_relaxed)) {
        (void)start_driver(loop); /* no thread to be had: guests run where they always did */
    }
    pthread_mutex_unlock(&loop->drivers_lock);
    return false;
}

/* Runs the guest that waits. False: the loop was taken meanwhile. */
static bool run_guest(driver_t *driver) {
    rr_loop_t *loop = driver->loop;
    rr_actor_t *actor = rr_worker_guest(driver->worker);
    if (!have_reserve(loop)) {
        rr_worker_host(driver->worker, false);
        rr_actor_post(actor);
        rr_worker_host(driver->worker, true);
        return true;
    }
    loop->now_ns = 0;
    current_loop = NULL; /* what it posts to the loop wakes whoever drives it then */
    atomic_store_explicit(&loop->lender, driver, memory_order_release);
    bool runnable = rr_worker_visit(driver->worker, actor);
    driver_t *self = driver;
    bool kept = atomic_compare_exchange_strong_explicit(&loop->lender, &self, NULL, memory_order_acq_rel, memory_order_acquire);
    if (runnable) {
        rr_actor_post(actor);
    }
    if (kept) {
        current_loop = loop;
    } else {
        rr_worker_host(driver->worker, false);
    }
    return kept;
}

/* Runs the guest that waits: the whole turn, with a break whenever others have something to do meanwhile. Others' guests wait
 * until the sockets were looked at. False: the loop was taken meanwhile. */
static bool run_guest_and_others(driver_t *driver) {
    rr_loop_t *loop = driver->loop;
    uint64_t until = uv_hrtime() + SLICE_NS;
    bool goes_on;
    do {
        if (!run_guest(driver)) {
            return false;
        }
        goes_on = rr_worker_has_guest(loop->worker);
        run_actors(loop); /* what it says has come here: now, not after a poll */
    } while (goes_on && uv_hrtime() < until);
    return true;
}

/* A turn goes on for long: if it is a guest's, the loop goes to a thread from the reserve. Overseer's thread. */
static void executor_stuck(rr_executor_t *executor, rr_worker_t *worker, unsigned ms) {
    rr_loop_t *loop = (rr_loop_t *)executor;
    pthread_mutex_lock(&loop->drivers_lock);
    driver_t *lender = atomic_load_explicit(&loop->lender, memory_order_acquire), *next = loop->reserve;
    if (lender && lender->worker == worker && next &&
        atomic_compare_exchange_strong_explicit(&loop->lender, &lender, NULL, memory_order_acq_rel, memory_order_relaxed)) {
        loop->reserve = next->next;
        atomic_fetch_sub_explicit(&loop->in_reserve, 1, memory_order_relaxed);
        next->drives = true;
        sem_post(&next->call);
    }
    pthread_mutex_unlock(&loop->drivers_lock);
    (void)ms;
}

/* Sleeps until the call comes, or the next timer that this thread's actors have left in its wheel is due. */
static void sleep_in_reserve(driver_t *driver) {
    rr_system_t *system = driver->loop->executor.system;
    uint64_t due;
    while (due = rr_worker_timers(driver->worker), true) {
        uint64_t now = rr_system_now_ns(system);
        struct timespec until = rr_machine_in(due > now && due != UINT64_MAX ? due - now : 0);
        if ((due == UINT64_MAX ? sem_wait(&driver->call) : sem_clockwait(&driver->call, CLOCK_MONOTONIC, &until)) == 0) {
            return;
        }
    }
}

/* In reserve. True: drive the loop; false: it has stopped. */
static bool wait_for_call(driver_t *driver) {
    rr_loop_t *loop = driver->loop;
    bool drives;
    pthread_mutex_lock(&loop->drivers_lock);
    driver->drives = false;
    driver->next = loop->reserve;
    loop->reserve = driver;
    atomic_fetch_add_explicit(&loop->in_reserve, 1, memory_order_relaxed);
    pthread_mutex_unlock(&loop->drivers_lock);
    rr_worker_asleep(driver->worker, true);
    do {
        if (!atomic_load_explicit(&loop->stopping, memory_order_acquire)) {
            sleep_in_reserve(driver);
        }
        pthread_mutex_lock(&loop->drivers_lock);
        drives = driver->drives;
        pthread_mutex_unlock(&loop->drivers_lock);
    } while (!drives && !atomic_load_explicit(&loop->stopping, memory_order_acquire));
    rr_worker_asleep(driver->worker, false);
    return drives;
}

static void close_handle(uv_handle_t *handle, void *context) {
    rr_loop_t *loop = context;
    if (handle->type == UV_TCP) {
        rr__stream_tcp_loop_ends((uv_tcp_t *)handle);
    } else if ((handle == (uv_handle_t *)&loop->wake || handle == (uv_handle_t *)&loop->timer) && !uv_is_closing(handle)) {
        uv_close(handle, NULL);
    }
}

/* Ends what is left on the loop. Streams tell their owners. */
static void end_handles(rr_loop_t *loop) {
    while (loop->ends) {
        rr_loop_end_t *item = loop->ends;
        rr_loop_end_remove(loop, item);
        item->fn(item);
    }
    run_deferred(loop);
    uv_walk(&loop->uv, close_handle, loop);
    uv_run(&loop->uv, UV_RUN_DEFAULT);
}

/* Drives until the loop stops or is taken. */
static void drive(driver_t *driver) {
    rr_loop_t *loop = driver->loop;
    loop->worker = driver->worker;
    loop->timer_due_ns = UINT64_MAX; /* another worker's timers from now on */
    current_loop = loop;
    rr_worker_host(driver->worker, true);
    while (!atomic_load_explicit(&loop->stopping, memory_order_acquire)) {
        run_posts(loop, NULL);
        run_actors(loop);
        if (rr_worker_has_guest(loop->worker) && !run_guest_and_others(driver)) {
            return;
        }
        run_timers(loop);
        run_deferred(loop);
        poll(loop);
    }
    rr_worker_host(driver->worker, false);
    pthread_mutex_lock(&loop->state_lock);
    loop->state = LOOP_ENDED;
    pthread_mutex_unlock(&loop->state_lock);
    run_posts(loop, &closed_mark); /* after this no post is accepted, and none is forgotten */
    end_handles(loop);
    current_loop = NULL;
}

static void *driver_main(void *context) {
    driver_t *driver = context;
    rr_loop_t *loop = driver->loop;
    pthread_setname_np(pthread_self(), loop->executor.name);
    driver->worker = rr_worker_attach(&loop->executor);
    if (driver == &loop->drivers[0]) {
        sem_post(&loop->started);
        if (driver->worker) {
            drive(driver);
        }
    }
    if (driver->worker) {
        while (wait_for_call(driver)) {
            drive(driver);
        }
        rr_worker_detach(driver->worker);
    }
    sem_post(&loop->ended);
    return NULL;
}

static int executor_start(rr_executor_t *executor) {
    rr_loop_t *loop = (rr_loop_t *)executor;
    pthread_mutex_lock(&loop->state_lock);
    pthread_mutex_lock(&loop->drivers_lock);
    int rc = start_driver(loop);
    pthread_mutex_unlock(&loop->drivers_lock);
    if (rc == 0) {
        wait_for(&loop->started);
        loop->state = LOOP_RUNNING;
        if (!loop->drivers[0].worker) {
            wait_for(&loop->ended);
            pthread_join(loop->drivers[0].thread, NULL);
            sem_destroy(&loop->drivers[0].call);
            loop->driver_count = 0;
            loop->state = LOOP_NEW;
            rc = ENOMEM;
        }
    }
    pthread_mutex_unlock(&loop->state_lock);
    return rc == 0 ? RR_OK : rc == ENOMEM ? RR_ENOMEM : RR_EIO;
}

static bool wait_until(sem_t *semaphore, const struct timespec *until) {
    int rc;
    while ((rc = sem_clockwait(semaphore, CLOCK_MONOTONIC, until)) != 0 && errno == EINTR) {
    }
    return rc == 0;
}

static bool executor_stop(rr_executor_t *executor) {
    rr_loop_t *loop = (rr_loop_t *)executor;
    pthread_mutex_lock(&loop->state_lock);
    bool running = loop->state != LOOP_NEW;
    pthread_mutex_unlock(&loop->state_lock);
    if (!running) {
        return true;
    }
    atomic_store_explicit(&loop->stopping, 1, memory_order_release);
    wake(loop);
    struct timespec until = rr_machine_in(STOP_SECONDS * RR_NS_PER_S);
    pthread_mutex_lock(&loop->drivers_lock);
    unsigned count = loop->driver_count; /* none starts after `stopping` */
    for (unsigned i = 0; i < count; i++) {
        sem_post(&loop->drivers[i].call);
    }
    pthread_mutex_unlock(&loop->drivers_lock);
    for (unsigned i = 0; i < count; i++) {
        if (!wait_until(&loop->ended, &until)) {
            return false;
        }
    }
    for (unsigned i = 0; i < count; i++) {
        pthread_join(loop->drivers[i].thread, NULL);
    }
    return true;
}

/* ---- Making and freeing ---- */

static void pool_clear(chunk_pool_t *pool) {
    while (pool->first) {
        chunk_t *chunk = pool->first;
        pool->first = chunk->next;
        free(chunk);
    }
}

static void executor_destroy(rr_executor_t *executor) {
    rr_loop_t *loop = (rr_loop_t *)executor;
    if (loop->state == LOOP_NEW) { /* never ran: its handles are still open, what was posted is dropped */
        post_t *list = atomic_exchange_explicit(&loop->posts, &closed_mark, memory_order_acquire);
        for (post_t *next; list; list = next) {
            next = list->next;
            free(list);
        }
        current_loop = loop;
        end_handles(loop);
        current_loop = NULL;
    }
    if (uv_loop_close(&loop->uv) != 0) {
        rr_log(loop->executor.system, RR_ERROR, "NET", "%s: a libuv handle was left open by its maker", executor->name);
    }
    close(loop->wake_fd);
    pool_clear(&loop->small);
    pool_clear(&loop->big);
    for (unsigned i = 0; i < loop->driver_count; i++) {
        sem_destroy(&loop->drivers[i].call);
    }
    pthread_mutex_destroy(&loop->drivers_lock);
    pthread_mutex_destroy(&loop->state_lock);
    sem_destroy(&loop->started);
    sem_destroy(&loop->ended);
    free(loop->scratch);
    free(loop);
}

static const rr_executor_ops_t loop_ops = {
    .name = "loop",
    .post = executor_post,
    .start = executor_start,
    .stop = executor_stop,
    .destroy = executor_destroy,
    .stuck = executor_stuck,
    .others_wait = executor_others_wait,
};

/* Executors are linked newest first: how many loops are older than this one? */
static unsigned count_older(const rr_loop_t *loop) {
    unsigned index = 0;
    for (const rr_executor_t *e = loop->executor.next; e; e = e->next) {
        index += e->ops == &loop_ops;
    }
    return index;
}

static int init_uv(rr_loop_t *loop) {
    if (uv_loop_init(&loop->uv) != 0) {
        return RR_EIO;
    }
    loop->uv.data = loop;
    loop->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (loop->wake_fd < 0 || uv_poll_init(&loop->uv, &loop->wake, loop->wake_fd) != 0) {
        if (loop->wake_fd >= 0) {
            close(loop->wake_fd);
        }
        uv_loop_close(&loop->uv);
        return RR_EIO;
    }
    (void)uv_poll_start(&loop->wake, UV_READABLE, on_wake); /* only notes it: the next poll tells the kernel */
    uv_timer_init(&loop->uv, &loop->timer);
    return RR_OK;
}

int rr_loop_create(rr_system_t *system, const char *name, rr_loop_t **out) {
    rr_loop_t *loop = aligned_alloc(64, (sizeof *loop + 63) / 64 * 64);
    if (!loop) {
        return RR_ENOMEM;
    }
    memset(loop, 0, sizeof *loop);
    loop->executor.ops = &loop_ops;
    loop->executor.pinned = true;
    loop->executor.clock_every = 1; /* a guest's message may be a batch of hundreds */
    loop->executor.system = system;
    snprintf(loop->executor.name, sizeof loop->executor.name, "%.15s", name); /* also the thread's name */
    loop->timer_due_ns = UINT64_MAX;
    rr_wheel_init(&loop->deadlines.wheel, rr_system_now_ns(system));
    int rc = RR_ENOMEM;
    loop->scratch = malloc(RR_LOOP_SCRATCH);
    if (!loop->scratch) {
        goto no_scratch;
    }
    rc = init_uv(loop);
    if (rc != RR_OK) {
        goto no_uv;
    }
    pthread_mutex_init(&loop->state_lock, NULL);
    pthread_mutex_init(&loop->drivers_lock, NULL);
    sem_init(&loop->started, 0, 0);
    sem_init(&loop->ended, 0, 0);
    rc = rr_executor_add(system, &loop->executor);
    if (rc != RR_OK) {
        executor_destroy(&loop->executor);
        return rc;
    }
    loop->index = count_older(loop);
    *out = loop;
    return RR_OK;
no_uv:
    free(loop->scratch);
no_scratch:
    free(loop);
    return rc;
}

/* ---- Services ---- */

rr_executor_t *rr_loop_executor(rr_loop_t *loop) {
    return &loop->executor;
}

rr_system_t *rr_loop_system(rr_loop_t *loop) {
    return loop->executor.system;
}

unsigned rr_loop_index(const rr_loop_t *loop) {
    return loop->index;
}

rr_loop_t *rr_loop_current(void) {
    return current_loop;
}

uv_loop_t *rr_loop_uv(rr_loop_t *loop) {
    return &loop->uv;
}

uint8_t *rr_loop_scratch(rr_loop_t *loop) {
    return loop->scratch;
}

rr__stream_counters_t *rr__loop_counters(rr_loop_t *loop) {
    return &loop->counters;
}

void rr_stream_stats(rr_loop_t *loop, rr_stream_stats_t *out) {
    const rr__stream_counters_t *c = &loop->counters;
    *out = (rr_stream_stats_t){rr_counted(&c->reads), rr_counted(&c->read_bytes), rr_counted(&c->writes),
                               rr_counted(&c->written_bytes), rr_counted(&c->open)};
}

void *rr__loop_chunk_get(rr_loop_t *loop, bool big) {
    chunk_pool_t *pool = big ? &loop->big : &loop->small;
    chunk_t *chunk = pool->first;
    if (!chunk) {
        return malloc(big ? RR__CHUNK_BIG : RR__CHUNK_SMALL);
    }
    pool->first = chunk->next;
    pool->count--;
    return chunk;
}

void rr__loop_chunk_put(rr_loop_t *loop, bool big, void *memory) {
    chunk_pool_t *pool = big ? &loop->big : &loop->small;
    if (pool->count >= (big ? BIG_CACHED : SMALL_CACHED)) {
        free(memory);
        return;
    }
    chunk_t *chunk = memory;
    chunk->next = pool->first;
    pool->first = chunk;
    pool->count++;
}

void rr_loop_end_add(rr_loop_t *loop, rr_loop_end_t *item) {
    item->next = loop->ends;
    item->prev = &loop->ends;
    if (item->next) {
        item->next->prev = &item->next;
    }
    loop->ends = item;
}

void rr_loop_end_remove(rr_loop_t *loop, rr_loop_end_t *item) {
    if (!item->prev) {
        return;
    }
    *item->prev = item->next;
    if (item->next) {
        item->next->prev = item->prev;
    }
    item->prev = NULL;
}

typedef struct sync_call {
    void (*fn)(void *context);
    void *context;
    sem_t done;
} sync_call_t;

static void run_sync(void *context) {
    sync_call_t *call = context;
    call->fn(call->context);
    sem_post(&call->done);
}

void rr__loop_call(rr_loop_t *loop, void (*fn)(void *context), void *context) {
    sync_call_t call = {.fn = fn, .context = context};
    pthread_mutex_lock(&loop->state_lock);
    bool posted = false;
    if (loop->state == LOOP_RUNNING) {
        sem_init(&call.done, 0, 0);
        int rc;
        while ((rc = rr_loop_post(loop, run_sync, &call)) == RR_ENOMEM) {
            sched_yield(); /* a stop must not fail for lack of 24 bytes */
        }
        posted = rc == RR_OK;
    }
    if (!posted) {
        fn(context);
    }
    pthread_mutex_unlock(&loop->state_lock);
    if (posted) {
        wait_for(&call.done);
        sem_destroy(&call.done);
    }
}
