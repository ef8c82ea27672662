/* What a queue costs when there is nothing around it. */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "bench/floor.h"

#define NODES 4096u
#define SLICE 256u

typedef struct node {
    _Atomic(struct node *) next; /* written by the producer that follows (release), read by the consumer (acquire) */
    uint64_t value;
} node_t;

typedef struct queue {
    _Alignas(64) _Atomic(node_t *) head; /* producers exchange it (acq_rel): what they push is seen with it */
    _Alignas(64) node_t *tail;           /* consumer only */
    node_t stub;
} queue_t;

static void queue_init(queue_t *q) {
    atomic_init(&q->stub.next, NULL);
    atomic_init(&q->head, &q->stub);
    q->tail = &q->stub;
}

static void push(queue_t *q, node_t *n) {
    atomic_store_explicit(&n->next, NULL, memory_order_relaxed);
    node_t *before = atomic_exchange_explicit(&q->head, n, memory_order_acq_rel);
    atomic_store_explicit(&before->next, n, memory_order_release);
}

/* The value of the oldest message; its node becomes the stub, *freed (may be NULL) is the old one. */
static bool pop(queue_t *q, uint64_t *value, node_t **freed) {
    node_t *tail = q->tail, *next = atomic_load_explicit(&tail->next, memory_order_acquire);
    if (!next)
        return false;
    *value = next->value;
    q->tail = next;
    *freed = tail;
    return true;
}

typedef struct receiver {
    void (*receive)(struct receiver *r, uint64_t value);
    uint64_t expected;
    bool wrong;
} receiver_t;

static void receive(receiver_t *r, uint64_t value) { r->wrong |= value != r->expected++; }

/* Two receivers pass one message to and fro, as ping-pong does. */
void floor_mpsc_one(const floor_params_t *p, bench_run_t *out) {
    queue_t queues[2];
    node_t node = {0}, *spare = &node;
    receiver_t receivers[2] = {{.receive = receive}, {.receive = receive}};
    void (*volatile hidden)(receiver_t *, uint64_t) = receive; /* or the compiler would inline the call */
    receivers[0].receive = receivers[1].receive = hidden;
    uint64_t value, sent = 0, began = bench_now_ns(), now, end = began + (uint64_t)(p->duration * 1e9);
    bench_pin(0);
    queue_init(&queues[0]);
    queue_init(&queues[1]);
    do {
        for (unsigned i = 0; i < 100000; i++, sent++) {
            spare->value = sent / 2;
            push(&queues[sent & 1], spare);
            if (pop(&queues[sent & 1], &value, &spare))
                receivers[sent & 1].receive(&receivers[sent & 1], value);
        }
        now = bench_now_ns();
    } while (now < end);
    if (receivers[0].wrong || receivers[1].wrong || receivers[0].expected + receivers[1].expected != sent)
        bench_fail(out, "the queue lost or reordered messages");
    bench_metric(out, "messages", "msg/s", BENCH_HIGHER, (double)sent / ((double)(now - began) / 1e9));
}

typedef struct two {
    queue_t queue;
    _Alignas(64) _Atomic(uint64_t) consumed; /* consumer stores (release) after a slice, the producer may then reuse nodes
                                                (acquire) */
    _Alignas(64) atomic_bool stop;           /* relaxed: only ends loops */
    _Atomic(uint64_t) produced;              /* stored once, before the join */
    node_t nodes[NODES];
} two_t;

static void *produce(void *context) {
    two_t *t = context;
    uint64_t sent = 0;
    bench_pin(1);
    while (!atomic_load_explicit(&t->stop, memory_order_relaxed)) {
        /* one node more than are under way: the last one popped is still the queue's stub */
        if (sent + SLICE + 1 - atomic_load_explicit(&t->consumed, memory_order_acquire) > NODES) {
            bench_relax();
            continue;
        }
        for (unsigned i = 0; i < SLICE; i++, sent++) {
            t->nodes[sent % NODES].value = sent;
            push(&t->queue, &t->nodes[sent % NODES]);
        }
    }
    atomic_store(&t->produced, sent);
    return NULL;
}

static bool consume_some(two_t *t, receiver_t *r) {
    uint64_t value;
    node_t *freed;
    unsigned n = 0;
    for (; n < SLICE && pop(&t->queue, &value, &freed); n++)
        r->receive(r, value);
    atomic_store_explicit(&t->consumed, r->expected, memory_order_release);
    if (n == 0)
        bench_relax();
    return n > 0;
}

void floor_mpsc_two(const floor_params_t *p, bench_run_t *out) {
    two_t *t = aligned_alloc(64, sizeof *t);
    pthread_t thread;
    receiver_t r = {.receive = receive};
    if (!t)
        bench_die("out of memory");
    memset(t, 0, sizeof *t);
    queue_init(&t->queue);
    bench_pin(0);
    int rc = pthread_create(&thread, NULL, produce, t);
    if (rc != 0)
        bench_die("pthread_create: %s", strerror(rc));
    uint64_t began = bench_now_ns(), end = began + (uint64_t)(p->duration * 1e9), now;
    do {
        for (unsigned i = 0; i < 400; i++)
            consume_some(t, &r);
        now = bench_now_ns();
    } while (now < end);
    uint64_t counted = r.expected;
    atomic_store_explicit(&t->stop, true, memory_order_relaxed);
    pthread_join(thread, NULL);
    while (consume_some(t, &r)) {
    }
    if (r.wrong || r.expected != atomic_load(&t->produced))
        bench_fail(out, "the queue lost or reordered messages");
    bench_metric(out, "messages", "msg/s", BENCH_HIGHER, (double)counted / ((double)(now - began) / 1e9));
    free(t);
}
