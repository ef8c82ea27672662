/* Two processes with libuv, one TCP connection and frames (u32 size | body) between them, and nothing else: what a link could
 * reach at best. One way: the sender fills a buffer per turn of its loop and writes it at once; acknowledgements as in
 * cluster_oneway. Calls: the body comes back. */
#include <netinet/in.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#include "bench/cluster.h"

#define ROOM (256u << 10)

typedef struct pair {
    const cluster_params_t *p;
    cluster_shared_t *shared;
    bench_run_t *out;
    bool client, call, over;
    uv_loop_t loop;
    uv_tcp_t listener, tcp;
    uv_idle_t filler; /* the one-way sender's turns */
    uv_timer_t watch; /* looks at the phase where nothing else would */
    bool filling;
    uint8_t in[ROOM], out_buffer[ROOM];
    size_t in_size, out_size;
    uint32_t sent, acked, next;
    unsigned in_flight;
    uint64_t counted;
    histogram_t *latency;
} pair_t;

static _Noreturn void give_up(pair_t *pair, const char *what) {
    bench_fail(pair->out, "bare pair: %s", what);
    _exit(1);
}

static void start_filling(pair_t *pair);

/* ---- Output ---------------------------------------------------------------------------------------------------------- */

static void on_written(uv_write_t *request, int status) {
    pair_t *pair = request->handle->data;
    free(request);
    if (pair->client && !pair->call && uv_stream_get_write_queue_size((uv_stream_t *)&pair->tcp) == 0)
        start_filling(pair); /* it had stopped for this */
}

static void flush(pair_t *pair) {
    if (!pair->out_size)
        return;
    uv_buf_t buf = uv_buf_init((char *)pair->out_buffer, (unsigned)pair->out_size);
    int n = uv_try_write((uv_stream_t *)&pair->tcp, &buf, 1);
    size_t left = pair->out_size - (size_t)(n > 0 ? n : 0);
    pair->out_size = 0;
    if (left == 0)
        return;
    if (n < 0 && n != UV_EAGAIN)
        give_up(pair, "write failed");
    uv_write_t *request = bench_alloc(sizeof *request + left);
    memcpy(request + 1, buf.base + (buf.len - left), left);
    buf = uv_buf_init((char *)(request + 1), (unsigned)left);
    if (uv_write(request, (uv_stream_t *)&pair->tcp, &buf, 1, on_written) != 0)
        give_up(pair, "write failed");
}

/* Room for a frame's body. */
static uint8_t *frame(pair_t *pair, size_t size) {
    uint32_t head = (uint32_t)size;
    if (pair->out_size + sizeof head + size > ROOM)
        flush(pair);
    memcpy(pair->out_buffer + pair->out_size, &head, sizeof head);
    uint8_t *body = pair->out_buffer + pair->out_size + sizeof head;
    pair->out_size += sizeof head + size;
    return body;
}

/* ---- The client -------------------------------------------------------------------------------------------------------- */

static void finish(pair_t *pair) {
    if (pair->over)
        return;
    pair->over = true;
    if (pair->latency->total)
        bench_latency(pair->out, "call", pair->latency);
    frame(pair, 0); /* the end */
    flush(pair);
    uv_idle_stop(&pair->filler);
}

static void fill(uv_idle_t *idle) {
    pair_t *pair = idle->data;
    if (cluster_phase(pair->shared) >= CLUSTER_STOP) {
        finish(pair);
        return;
    }
    for (unsigned i = 0; i < 1000 && pair->sent - pair->acked < CLUSTER_WINDOW; i++, pair->sent++)
        memcpy(memset(frame(pair, pair->p->size), 0, pair->p->size), &pair->sent, sizeof pair->sent);
    flush(pair);
    if (pair->sent - pair->acked >= CLUSTER_WINDOW || uv_stream_get_write_queue_size((uv_stream_t *)&pair->tcp) > 0) {
        pair->filling = false;
        uv_idle_stop(idle);
    }
}

static void call_once(pair_t *pair) {
    uint64_t now = bench_now_ns();
    memcpy(memset(frame(pair, pair->p->size), 0, pair->p->size), &now, sizeof now);
    pair->in_flight++;
}

static void on_answer(pair_t *pair, const uint8_t *body) {
    uint64_t sent_at;
    memcpy(&sent_at, body, sizeof sent_at);
    pair->in_flight--;
    if (cluster_phase(pair->shared) == CLUSTER_MEASURE) {
        histogram_record(pair->latency, bench_now_ns() - sent_at);
        pair->counted++;
    }
    if (cluster_phase(pair->shared) < CLUSTER_STOP)
        call_once(pair);
    else if (pair->in_flight == 0)
        finish(pair);
}

static void start_filling(pair_t *pair) {
    if (pair->filling || pair->over)
        return;
    pair->filling = true;
    uv_idle_start(&pair->filler, fill);
}

static void on_ack(pair_t *pair) {
    pair->acked += CLUSTER_ACK;
    start_filling(pair);
}

/* ---- The server -------------------------------------------------------------------------------------------------------- */

static void serve(pair_t *pair, const uint8_t *body, size_t size) {
    if (pair->call) {
        memcpy(frame(pair, size), body, size);
        return;
    }
    uint32_t number;
    memcpy(&number, body, sizeof number);
    if (number != pair->next++)
        bench_fail(pair->out, "bare pair: message %u came when %u was due", number, pair->next - 1);
    pair->counted += cluster_phase(pair->shared) == CLUSTER_MEASURE;
    if (pair->next % CLUSTER_ACK == 0)
        frame(pair, 4);
}

/* ---- Input -------------------------------------------------------------------------------------------------------------- */

static void take(pair_t *pair, const uint8_t *body, size_t size) {
    if (size == 0)
        pair->over = true;
    else if (!pair->client)
        serve(pair, body, size);
    else if (pair->call)
        on_answer(pair, body);
    else
        on_ack(pair);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf) {
    pair_t *pair = handle->data;
    *buf = uv_buf_init((char *)pair->in + pair->in_size, (unsigned)(ROOM - pair->in_size));
}

static void stop_handles(pair_t *pair) {
    uv_timer_stop(&pair->watch);
    uv_stop(&pair->loop);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf) {
    pair_t *pair = stream->data;
    if (n < 0) { /* the other one has ended, which it does last */
        if (!pair->over)
            bench_fail(pair->out, "bare pair: the connection broke");
        stop_handles(pair);
        return;
    }
    pair->in_size += (size_t)n;
    size_t at = 0;
    uint32_t size;
    while (pair->in_size - at >= sizeof size) {
        memcpy(&size, pair->in + at, sizeof size);
        if (pair->in_size - at < sizeof size + size)
            break;
        take(pair, pair->in + at + sizeof size, size);
        at += sizeof size + size;
    }
    memmove(pair->in, pair->in + at, pair->in_size - at);
    pair->in_size -= at;
    flush(pair);
    if (pair->over && !pair->client)
        stop_handles(pair);
}

/* ---- Setting up ---------------------------------------------------------------------------------------------------------- */

static void on_watch(uv_timer_t *timer) {
    pair_t *pair = timer->data;
    if (pair->client && !pair->call && cluster_phase(pair->shared) >= CLUSTER_STOP)
        finish(pair);
}

static void connected(pair_t *pair) {
    pair->tcp.data = pair;
    uv_tcp_nodelay(&pair->tcp, 1);
    if (uv_read_start((uv_stream_t *)&pair->tcp, on_alloc, on_read) != 0)
        give_up(pair, "read refused");
    atomic_fetch_add_explicit(&pair->shared->ready, 1, memory_order_release);
    if (pair->client && pair->call)
        for (uint64_t i = 0; i < pair->p->outstanding; i++)
            call_once(pair);
    else if (pair->client)
        start_filling(pair);
    flush(pair);
}

static void on_connect(uv_connect_t *request, int status) {
    if (status < 0)
        give_up(request->data, "connect failed");
    connected(request->data);
}

static void on_connection(uv_stream_t *listener, int status) {
    pair_t *pair = listener->data;
    if (status < 0 || uv_tcp_init(&pair->loop, &pair->tcp) != 0 ||
        uv_accept(listener, (uv_stream_t *)&pair->tcp) != 0)
        give_up(pair, "accept failed");
    connected(pair);
}

static void listen_here(pair_t *pair) {
    struct sockaddr_in address;
    int size = sizeof address;
    uv_ip4_addr("127.0.0.1", 0, &address);
    uv_tcp_init(&pair->loop, &pair->listener);
    pair->listener.data = pair;
    if (uv_tcp_bind(&pair->listener, (struct sockaddr *)&address, 0) != 0 ||
        uv_listen((uv_stream_t *)&pair->listener, 1, on_connection) != 0 ||
        uv_tcp_getsockname(&pair->listener, (struct sockaddr *)&address, &size) != 0)
        give_up(pair, "listen failed");
    snprintf(pair->shared->address[1], sizeof pair->shared->address[1], "%u", ntohs(address.sin_port));
    atomic_fetch_add_explicit(&pair->shared->listening, 1, memory_order_release);
}

static void dial(pair_t *pair, uv_connect_t *request) {
    struct sockaddr_in address;
    cluster_await_listeners(pair->shared, 1);
    uv_ip4_addr("127.0.0.1", atoi(pair->shared->address[1]), &address);
    request->data = pair;
    if (uv_tcp_init(&pair->loop, &pair->tcp) != 0 ||
        uv_tcp_connect(request, &pair->tcp, (struct sockaddr *)&address, on_connect) != 0)
        give_up(pair, "connect refused");
}

static void close_handle(uv_handle_t *handle, void *context) {
    (void)context;
    if (!uv_is_closing(handle))
        uv_close(handle, NULL);
}

static void run(const cluster_params_t *p, unsigned place, cluster_shared_t *shared, bench_run_t *out, bool call) {
    pair_t *pair = bench_alloc(sizeof *pair);
    uv_connect_t request;
    *pair = (pair_t){.p = p, .shared = shared, .out = out, .client = place == 1, .call = call};
    pair->latency = histogram_new();
    if (uv_loop_init(&pair->loop) != 0)
        give_up(pair, "no loop");
    uv_idle_init(&pair->loop, &pair->filler);
    uv_timer_init(&pair->loop, &pair->watch);
    pair->filler.data = pair->watch.data = pair;
    uv_timer_start(&pair->watch, on_watch, 10, 10);
    if (pair->client)
        dial(pair, &request);
    else
        listen_here(pair);
    uv_run(&pair->loop, UV_RUN_DEFAULT);
    atomic_fetch_add(&shared->counted, pair->counted);
    pair->over = true; /* what is cancelled now starts nothing */
    uv_walk(&pair->loop, close_handle, NULL);
    uv_run(&pair->loop, UV_RUN_DEFAULT);
    if (uv_loop_close(&pair->loop) != 0)
        give_up(pair, "its loop is still busy");
    histogram_free(pair->latency);
    free(pair);
}

static void run_oneway(const cluster_params_t *p, unsigned place, cluster_shared_t *shared, bench_run_t *out) {
    run(p, place, shared, out, false);
}

static void run_call(const cluster_params_t *p, unsigned place, cluster_shared_t *shared, bench_run_t *out) {
    run(p, place, shared, out, true);
}

static void execute(const cluster_params_t *p, cluster_body_t body, const char *metric, const char *unit,
                    bench_run_t *out) {
    cluster_shared_t *shared = cluster_share();
    double seconds = cluster_processes(p, 2, body, shared, out);
    if (seconds > 0)
        bench_metric(out, metric, unit, BENCH_HIGHER, (double)shared->counted / seconds);
    cluster_unshare(shared);
}

void floor_pair_oneway(const cluster_params_t *p, bench_run_t *out) { execute(p, run_oneway, "messages", "msg/s", out); }
void floor_pair_call(const cluster_params_t *p, bench_run_t *out) { execute(p, run_call, "calls", "call/s", out); }
