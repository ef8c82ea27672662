#include "tests/replay/sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/system.h"

#define KERNEL (64u << 10) /* of what was written, so much counts as gone */

typedef void (*sim_fn)(void *context, uint64_t number);

typedef struct sim_event {
    uint64_t when, number;
    sim_life_t *life;
    sim_fn fn;
    void *context;
    uint64_t argument;
} event_t;

typedef struct chunk {
    struct chunk *next;
    size_t size, at;
    uint8_t data[];
} chunk_t;

struct sim_end {
    rr_stream_t base;
    sim_life_t *life;
    sim_conn_t *conn;
    chunk_t *first, *last; /* on the way to here */
    uint64_t last_arrival;
    size_t flying; /* written here, not arrived there */
    size_t limit;
    bool opened, closing, over, above; /* over: closed() was told, or the life has ended */
};

struct sim_conn {
    sim_end_t end[2]; /* 0 dialled */
    sim_conn_t *next;
};

static void *must(void *memory) {
    if (!memory) {
        abort();
    }
    return memory;
}

/* ---- Events ---- */

static bool before(const event_t *a, const event_t *b) {
    return a->when != b->when ? a->when < b->when : a->number < b->number;
}

static void push(sim_t *sim, event_t event) {
    if (sim->count == sim->capacity) {
        sim->capacity = sim->capacity ? 2 * sim->capacity : 256;
        sim->heap = must(realloc(sim->heap, sim->capacity * sizeof *sim->heap));
    }
    event.number = ++sim->number;
    size_t i = sim->count++;
    for (; i && before(&event, &sim->heap[(i - 1) / 2]); i = (i - 1) / 2) {
        sim->heap[i] = sim->heap[(i - 1) / 2];
    }
    sim->heap[i] = event;
}

static event_t pop(sim_t *sim) {
    event_t top = sim->heap[0], last = sim->heap[--sim->count];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < sim->count; i = child) {
        child += child + 1 < sim->count && before(&sim->heap[child + 1], &sim->heap[child]);
        if (!before(&sim->heap[child], &last)) {
            break;
        }
        sim->heap[i] = sim->heap[child];
    }
    sim->heap[i] = last;
    return top;
}

void sim_at(sim_t *sim, uint64_t when, sim_life_t *life, sim_fn fn, void *context, uint64_t number) {
    push(sim, (event_t){.when = when < sim->now ? sim->now : when, .life = life, .fn = fn, .context = context, .argument = number});
}

/* ---- Connections ---- */

static sim_end_t *end_of(const rr_stream_t *stream) {
    return (sim_end_t *)stream;
}

static sim_end_t *other(sim_end_t *end) {
    return &end->conn->end[end == &end->conn->end[0]];
}

static void drop_chunks(sim_end_t *end) {
    for (chunk_t *c = end->first, *next; c; c = next) {
        next = c->next;
        free(c);
    }
    end->first = end->last = NULL;
}

static void tell_closed(void *context, uint64_t error) {
    sim_end_t *end = context;
    if (end->over) {
        return;
    }
    if (!end->opened) { /* accepted soon: hears of it then */
        sim_at(end->life->sim, end->life->sim->now + SIM_MS, end->life, tell_closed, end, error);
        return;
    }
    end->over = true;
    drop_chunks(end);
    end->base.handler->closed(end->base.owner, -(int)error);
}

/* The end of the connection arrives at that end. */
static void end_soon(sim_end_t *end, uint64_t when, int error) {
    if (!end->over) {
        sim_at(end->life->sim, when, end->life, tell_closed, end, (uint64_t)-error);
    }
}

static void drained(void *context, uint64_t number) {
    sim_end_t *end = context;
    (void)number;
    if (!end->over && !end->closing && end->base.handler->drained) {
        end->base.handler->drained(end->base.owner);
    }
}

static size_t pending(const rr_stream_t *stream) {
    size_t flying = end_of(stream)->flying;
    return flying > KERNEL ? flying - KERNEL : 0;
}

static void arrived(sim_end_t *from, size_t size) {
    from->flying -= size;
    if (from->above && pending(&from->base) <= from->limit / 4) {
        from->above = false;
        if (!from->over) {
            sim_at(from->life->sim, from->life->sim->now, from->life, drained, from, 0);
        }
    }
}

static void give(sim_end_t *end, const uint8_t *data, size_t size) {
    static uint8_t scratch[RR_STREAM_HEADROOM + (256u << 10)];
    while (size && !end->closing && !end->over) {
        size_t room = sizeof scratch - RR_STREAM_HEADROOM;
        uint8_t *to = end->base.handler->room ? end->base.handler->room(end->base.owner, &room) : NULL;
        to = to ? to : scratch + RR_STREAM_HEADROOM;
        size_t part = size < room ? size : room;
        memcpy(to, data, part);
        end->base.handler->data(end->base.owner, to, part);
        data += part;
        size -= part;
    }
}

/* The first chunk on its way is there: all of it, or a part. */
static void deliver(void *context, uint64_t number) {
    sim_end_t *end = context;
    sim_t *sim = end->life->sim;
    chunk_t *c = end->first;
    uint64_t blocked = sim->paths[other(end)->life->place][end->life->place].blocked_until;
    (void)number;
    if (!c || end->over) {
        return;
    }
    if (!end->opened || sim->now < blocked) {
        sim_at(sim, end->opened ? blocked : sim->now + SIM_MS, end->life, deliver, end, 0);
        return;
    }
    size_t size = c->size - c->at, part = size > 1 && sim_chance(sim, 20) ? 1 + sim_below(sim, size - 1) : size;
    const uint8_t *data = c->data + c->at;
    c->at += part;
    if (part < size) {
        sim_at(sim, sim->now + sim_below(sim, SIM_MS), end->life, deliver, end, 0);
    } else {
        end->first = c->next;
        end->last = end->first ? end->last : NULL;
    }
    arrived(other(end), part);
    give(end, data, part);
    if (part == size) {
        free(c);
    }
}

static int put(rr_stream_t *stream, const void *head, size_t head_size, const void *data, size_t size) {
    sim_end_t *from = end_of(stream), *to = other(from);
    sim_t *sim = from->life->sim;
    if (from->closing || from->over) {
        return RR_ESTATE;
    }
    size += head_size;
    if (pending(stream) + size > from->limit) {
        return RR_ELIMIT;
    }
    if (from->life->silenced || to->over) {
        return RR_OK;
    }
    chunk_t *c = must(malloc(sizeof *c + size));
    *c = (chunk_t){.size = size};
    if (head_size) {
        memcpy(c->data, head, head_size);
    }
    memcpy(c->data + head_size, data, size - head_size);
    if (to->last) {
        to->last->next = c;
    } else {
        to->first = c;
    }
    to->last = c;
    sim->bytes += size;
    sim->writes++;
    from->flying += size;
    from->above = from->above || pending(stream) > from->limit / 4;
    const sim_path_t *path = &sim->paths[from->life->place][to->life->place];
    uint64_t at = sim->now + path->delay_ns + sim_below(sim, path->jitter_ns + 1);
    at = (at < to->last_arrival ? to->last_arrival : at) + size * path->per_byte_ns;
    to->last_arrival = at;
    sim_at(sim, at, to->life, deliver, to, 0);
    return RR_OK;
}

static int stream_write(rr_stream_t *stream, const void *data, size_t size) {
    return put(stream, NULL, 0, data, size);
}

static int stream_write_slice(rr_stream_t *stream, const void *head, size_t head_size, const rr_slice_t *slice) {
    return put(stream, head, head_size, slice->data, slice->size);
}

static void stream_nothing(rr_stream_t *stream) {
    (void)stream;
}

static void stream_close(rr_stream_t *stream, unsigned linger_ms) {
    sim_end_t *end = end_of(stream), *peer = other(end);
    sim_t *sim = end->life->sim;
    if (end->closing || end->over) {
        return;
    }
    end->closing = true;
    uint64_t arrival = peer->last_arrival > sim->now ? peer->last_arrival : sim->now;
    uint64_t latest = sim->now + linger_ms * SIM_MS;
    end_soon(end, arrival < latest ? arrival : latest, RR_OK);
    if (!end->life->silenced) {
        end_soon(peer, arrival + SIM_MS, RR_OK);
    }
}

static void stream_abort(rr_stream_t *stream) {
    sim_end_t *end = end_of(stream), *peer = other(end);
    sim_t *sim = end->life->sim;
    if (end->over) {
        return;
    }
    end->closing = true;
    end_soon(end, sim->now, RR_OK);
    if (!end->life->silenced) {
        uint64_t blocked = sim->paths[end->life->place][peer->life->place].blocked_until;
        uint64_t at = sim->now + sim_below(sim, 5 * SIM_MS);
        end_soon(peer, blocked > at ? blocked : at, RR_EIO);
    }
}

static const char *stream_peer_ip(const rr_stream_t *stream, char *out, size_t size) {
    snprintf(out, size, "place %u", other(end_of(stream))->life->place);
    return out;
}

static const rr_stream_ops_t stream_ops = {
    .write = stream_write,
    .write_slice = stream_write_slice,
    .pending = pending,
    .pause = stream_nothing,
    .resume = stream_nothing,
    .kick = stream_nothing,
    .close = stream_close,
    .abort = stream_abort,
    .peer_ip = stream_peer_ip,
};

sim_conn_t *sim_any_conn(sim_t *sim) {
    sim_conn_t *found = NULL;
    unsigned count = 0;
    for (sim_conn_t *c = sim->conns; c; c = c->next) {
        if (!c->end[0].over && !c->end[1].over && sim_below(sim, ++count) == 0) {
            found = c;
        }
    }
    return found;
}

void sim_hurry(sim_t *sim) {
    for (sim_conn_t *conn = sim->conns; conn; conn = conn->next) {
        for (unsigned i = 0; i < 2; i++) {
            sim_end_t *end = &conn->end[i];
            end->last_arrival = sim->now;
            for (chunk_t *c = end->first; c && !end->over; c = c->next) {
                sim_at(sim, sim->now, end->life, deliver, end, 0);
            }
        }
    }
}

void sim_cut(sim_t *sim, sim_conn_t *conn) {
    for (unsigned i = 0; i < 2; i++) {
        end_soon(&conn->end[i], sim->now + sim_below(sim, 20 * SIM_MS), RR_EIO);
    }
}

/* ---- The carrier ---- */

static sim_life_t *life_of(rr__carrier_t *carrier) {
    return (sim_life_t *)carrier;
}

static rr_executor_t *carrier_executor(rr__carrier_t *carrier) {
    return life_of(carrier)->executor;
}

static uint64_t carrier_now(rr__carrier_t *carrier) {
    return rr_system_now_ns(life_of(carrier)->system);
}

static bool carrier_here(rr__carrier_t *carrier) {
    sim_life_t *life = life_of(carrier);
    rr_worker_t *worker = rr_worker_current();
    return life->sim->inside == life || (worker && worker->system == life->system && rr_worker_executor(worker) == life->executor);
}

typedef struct posted {
    void (*fn)(void *context);
    void *context;
} posted_t;

static void run_posted(void *context, uint64_t number) {
    posted_t posted = *(posted_t *)context;
    (void)number;
    free(context);
    posted.fn(posted.context);
}

static int carrier_post(rr__carrier_t *carrier, void (*fn)(void *context), void *context) {
    sim_life_t *life = life_of(carrier);
    posted_t *posted = must(malloc(sizeof *posted));
    *posted = (posted_t){fn, context};
    sim_at(life->sim, life->sim->now, life, run_posted, posted, 0);
    return RR_OK;
}

static void carrier_call(rr__carrier_t *carrier, void (*fn)(void *context), void *context) {
    sim_life_t *life = life_of(carrier), *was = life->sim->inside;
    life->sim->inside = life;
    fn(context);
    life->sim->inside = was;
}

static void carrier_defer(rr__carrier_t *carrier, rr_deferred_t *item) {
    sim_life_t *life = life_of(carrier);
    if (item->prev) {
        return;
    }
    item->next = life->deferred;
    item->prev = &life->deferred;
    if (item->next) {
        item->next->prev = &item->next;
    }
    life->deferred = item;
}

static void carrier_defer_cancel(rr__carrier_t *carrier, rr_deferred_t *item) {
    (void)carrier;
    if (!item->prev) {
        return;
    }
    *item->prev = item->next;
    if (item->next) {
        item->next->prev = item->prev;
    }
    item->prev = NULL;
}

static void fire(void *context, uint64_t argument) {
    sim_life_t *life = context;
    unsigned which = (unsigned)(argument % RR__TIMERS);
    if (argument / RR__TIMERS == life->timer_number[which]) {
        life->base.handler->timer(life->base.context, which);
    }
}

static void carrier_timer(rr__carrier_t *carrier, unsigned which, uint64_t after_ns) {
    sim_life_t *life = life_of(carrier);
    after_ns = (after_ns + SIM_MS - 1) / SIM_MS * SIM_MS; /* as coarse as the real one */
    sim_at(life->sim, life->sim->now + after_ns, life, fire, life, ++life->timer_number[which] * RR__TIMERS + which);
}

static int carrier_listen(rr__carrier_t *carrier, const char *address, char *bound, size_t bound_size, char *why, size_t why_size) {
    (void)carrier;
    (void)why;
    (void)why_size;
    snprintf(bound, bound_size, "%s", address);
    return RR_OK;
}

static int carrier_begin(rr__carrier_t *carrier) {
    life_of(carrier)->listens = true;
    return RR_OK;
}

static void carrier_close_listener(rr__carrier_t *carrier) {
    life_of(carrier)->listens = false;
}

typedef struct dialling {
    sim_life_t *life;
    rr__dial_t *dial; /* NULL = cancelled */
    unsigned place;
} dialling_t;

static void accept_now(void *context, uint64_t number) {
    sim_end_t *end = context;
    (void)number;
    end->life->base.handler->accepted(end->life->base.context, (intptr_t)end);
}

static sim_conn_t *connect_them(sim_life_t *from, sim_life_t *to) {
    sim_t *sim = from->sim;
    sim_conn_t *conn = must(calloc(1, sizeof *conn));
    for (unsigned i = 0; i < 2; i++) {
        conn->end[i] = (sim_end_t){.base = {.ops = &stream_ops}, .life = i ? to : from, .conn = conn, .limit = SIZE_MAX};
    }
    conn->next = sim->conns;
    sim->conns = conn;
    sim_at(sim, sim->now, to, accept_now, &conn->end[1], 0);
    return conn;
}

/* Tries; as long as the way is blocked nothing is heard. */
static void dial_now(void *context, uint64_t number) {
    dialling_t *d = context;
    sim_life_t *life = d->life;
    sim_t *sim = life->sim;
    rr__dial_t *dial = d->dial;
    sim_life_t *to = sim->at[d->place];
    uint64_t there = sim->paths[d->life->place][d->place].blocked_until, back = sim->paths[d->place][d->life->place].blocked_until;
    uint64_t blocked = there > back ? there : back;
    (void)number;
    if (dial && sim->now < blocked) {
        sim_at(sim, blocked + sim_below(sim, 1000 * SIM_MS), d->life, dial_now, d, 0);
        return;
    }
    free(d);
    if (!dial) {
        return;
    }
    dial->inner = NULL;
    if (!to || !to->listens || to->silenced) {
        dial->done(dial, RR_EIO, 0, "refused");
    } else {
        dial->done(dial, RR_OK, (intptr_t)&connect_them(life, to)->end[0], "");
    }
}

static int carrier_dial(rr__carrier_t *carrier, const char *address, rr__dial_t *dial) {
    sim_life_t *life = life_of(carrier);
    dialling_t *d = must(malloc(sizeof *d));
    *d = (dialling_t){life, dial, (unsigned)atoi(address + 4)};
    dial->inner = d;
    const sim_path_t *path = &life->sim->paths[life->place][d->place];
    sim_at(life->sim, life->sim->now + 2 * path->delay_ns + sim_below(life->sim, path->jitter_ns + 1), life, dial_now, d, 0);
    return RR_OK;
}

static void carrier_dial_cancel(rr__carrier_t *carrier, rr__dial_t *dial) {
    (void)carrier;
    if (dial->inner) {
        ((dialling_t *)dial->inner)->dial = NULL;
        dial->inner = NULL;
    }
}

static int carrier_open(rr__carrier_t *carrier, intptr_t handle, const rr_stream_handler_t *handler, void *owner, size_t send_limit,
                        rr_stream_t **out) {
    sim_end_t *end = (sim_end_t *)handle;
    (void)carrier;
    end->base.handler = handler;
    end->base.owner = owner;
    end->limit = send_limit;
    end->opened = true;
    *out = &end->base;
    return RR_OK;
}

static void carrier_drop(rr__carrier_t *carrier, intptr_t handle) {
    sim_end_t *end = (sim_end_t *)handle;
    (void)carrier;
    end->over = true;
    drop_chunks(end);
    end_soon(other(end), end->life->sim->now + SIM_MS, RR_EIO);
}

static bool carrier_is_local(rr__carrier_t *carrier, const char *address) {
    (void)carrier;
    (void)address;
    return true;
}

static void carrier_destroy(rr__carrier_t *carrier) {
    (void)carrier; /* the life stays until the world's end */
}

static const rr__carrier_ops_t carrier_ops = {
    .executor = carrier_executor,
    .now_ns = carrier_now,
    .here = carrier_here,
    .post = carrier_post,
    .call = carrier_call,
    .defer = carrier_defer,
    .defer_cancel = carrier_defer_cancel,
    .timer = carrier_timer,
    .listen = carrier_listen,
    .begin = carrier_begin,
    .close_listener = carrier_close_listener,
    .dial = carrier_dial,
    .dial_cancel = carrier_dial_cancel,
    .open = carrier_open,
    .drop = carrier_drop,
    .is_local = carrier_is_local,
    .destroy = carrier_destroy,
};

static int carry(void *from, const rr__carrier_handler_t *handler, void *context, rr__carrier_t **out) {
    sim_life_t *life = from;
    life->base = (rr__carrier_t){.ops = &carrier_ops, .handler = handler, .context = context};
    *out = &life->base;
    return RR_OK;
}

/* ---- Lives ---- */

sim_life_t *sim_boot(sim_t *sim, unsigned place, unsigned node, uint64_t incarnation, rr_level_t log_level, void *user) {
    sim_life_t *life = must(calloc(1, sizeof *life));
    *life = (sim_life_t){.sim = sim, .place = place, .node = node, .incarnation = incarnation, .user = user};
    rr_options_t system;
    rr_options_init(&system);
    system.node = life->node;
    system.max_actors = 1000;
    system.seed = rr_random_next(&sim->random) | 1;
    system.log_level = log_level;
    system.log_screen = log_level > RR_FATAL;
    system.replay = true;
    rr_pool_options_t pool = {.name = "sim"};
    if (rr_system_create(&life->system, &system) != RR_OK || rr_pool_create(life->system, &pool, &life->executor) != RR_OK ||
        rr_system_start(life->system) != RR_OK) {
        abort();
    }
    life->executor->pinned = true;
    rr_clock_set(&life->system->clock, sim->now);
    life->next = sim->lives;
    sim->lives = life;
    sim->at[place] = life;
    return life;
}

int sim_mesh(void *from, const rr_mesh_options_t *options, rr_mesh_t **out, char *why, size_t why_size) {
    sim_life_t *life = from;
    rr_mesh_options_t mesh = *options;
    char listen[16];
    snprintf(listen, sizeof listen, "sim:%u", life->place);
    mesh.listen = listen;
    int rc = rr__mesh_create(life->system, carry, life, &mesh, &life->mesh, why, why_size);
    if (rc == RR_OK) {
        *out = life->mesh;
    }
    return rc;
}

int sim_post(void *life, void (*fn)(void *context), void *context) {
    return carrier_post(life, fn, context);
}

sim_life_t *sim_start(sim_t *sim, unsigned place, const rr_mesh_options_t *options, rr_level_t log_level, void *user) {
    sim_life_t *life = sim_boot(sim, place, options->self.node, options->self.incarnation, log_level, user);
    rr_mesh_t *mesh;
    char why[300];
    if (sim_mesh(life, options, &mesh, why, sizeof why) != RR_OK) {
        fprintf(stderr, "%s\n", why);
        abort();
    }
    return life;
}

static void run_deferred(sim_life_t *life) {
    life->sim->inside = life;
    for (rr_deferred_t *item; (item = life->deferred) != NULL;) {
        carrier_defer_cancel(&life->base, item);
        item->fn(item);
    }
    life->sim->inside = NULL;
}

/* What was posted and will not be waited for. */
static void run_all_posted(sim_life_t *life) {
    sim_t *sim = life->sim;
    for (size_t i = 0; i < sim->count; i++) {
        event_t *event = &sim->heap[i];
        if (event->life == life && event->fn == run_posted) {
            void *posted = event->context;
            event->fn = NULL;
            event->context = NULL;
            run_posted(posted, 0);
        }
    }
}

void sim_kill(sim_life_t *life, bool polite, bool tell) {
    sim_t *sim = life->sim;
    rr_clock_set(&life->system->clock, sim->now);
    sim->inside = life;
    life->silenced = !polite;
    if (polite) {
        life->base.handler->ends(life->base.context);
        run_deferred(life);
        sim->inside = life;
    }
    life->silenced = true;
    sim->at[life->place] = NULL;
    for (sim_conn_t *c = sim->conns; c; c = c->next) {
        for (unsigned i = 0; i < 2; i++) {
            sim_end_t *end = &c->end[i];
            if (end->life == life && !end->over) {
                end->over = true;
                drop_chunks(end);
                if (tell && !polite) {
                    end_soon(other(end), sim->now + sim_below(sim, 10 * SIM_MS), RR_EIO);
                }
                if (end->opened) {
                    end->base.handler->closed(end->base.owner, RR_EIO);
                }
            }
        }
    }
    run_all_posted(life);
    if (!polite) {
        life->base.handler->ends(life->base.context);
    }
    life->died_ns = sim->now;
    sim->trace = (sim->trace ^ rr_replay_trace(life->system)) * 0x9e3779b97f4a7c15ull;
    rr_system_stop(life->system);
    run_all_posted(life);
    if (life->end) {
        life->end(life);
    } else {
        rr_mesh_destroy(life->mesh);
    }
    rr_system_destroy(life->system);
    life->system = NULL;
    life->mesh = NULL;
    sim->inside = NULL;
}

void sim_pause(sim_life_t *life, uint64_t until) {
    life->paused_until = life->paused_last = until;
}

void sim_init(sim_t *sim, uint64_t seed, unsigned places) {
    *sim = (sim_t){.now = RR_CLOCK_VIRTUAL_START_NS, .places = places};
    rr_random_seed(&sim->random, seed);
}

static void free_event(event_t *event) {
    if (event->fn == dial_now || event->fn == run_posted) {
        free(event->context);
    }
}

void sim_destroy(sim_t *sim) {
    for (unsigned place = 0; place < SIM_PLACES; place++) {
        if (sim->at[place]) {
            sim_kill(sim->at[place], false, false);
        }
    }
    for (size_t i = 0; i < sim->count; i++) {
        free_event(&sim->heap[i]);
    }
    free(sim->heap);
    for (sim_conn_t *c = sim->conns, *next; c; c = next) {
        next = c->next;
        drop_chunks(&c->end[0]);
        drop_chunks(&c->end[1]);
        free(c);
    }
    for (sim_life_t *life = sim->lives, *next; life; life = next) {
        next = life->next;
        free(life);
    }
}

/* ---- Time ---- */

static bool is_paused(const sim_life_t *life) {
    return life->paused_until > life->sim->now;
}

void sim_enter(sim_t *sim, sim_life_t *life) {
    if (life) {
        rr_clock_set(&life->system->clock, sim->now);
    }
    sim->inside = life;
}

static void handle(sim_t *sim, event_t *event) {
    sim_life_t *life = event->life;
    if (!event->fn || (life && life->died_ns)) {
        free_event(event);
        return;
    }
    if (life && is_paused(life)) {
        sim_at(sim, life->paused_until, life, event->fn, event->context, event->argument);
        return;
    }
    sim_enter(sim, life);
    event->fn(event->context, event->argument);
    sim_enter(sim, NULL);
}

static uint64_t next_time(sim_t *sim) {
    uint64_t next = sim->count ? sim->heap[0].when : UINT64_MAX;
    for (unsigned place = 0; place < sim->places; place++) {
        sim_life_t *life = sim->at[place];
        if (life) {
            uint64_t at = life->deferred ? sim->now : rr_replay_next(life->system);
            at = at < sim->now ? sim->now : at;
            at = is_paused(life) && at < life->paused_until ? life->paused_until : at;
            next = at < next ? at : next;
        }
    }
    return next;
}

static void run_life(sim_life_t *life) {
    if (sim_chance(life->sim, 10)) {
        run_deferred(life);
    }
    rr_clock_set(&life->system->clock, life->sim->now); /* a pause is over for it at once */
    (void)rr_replay_run_until(life->system, life->sim->now);
    run_deferred(life);
}

void sim_run(sim_t *sim, uint64_t until) {
    for (uint64_t next; (next = next_time(sim)) <= until;) {
        sim->now = next > sim->now ? next : sim->now;
        sim->steps++;
        while (sim->count && sim->heap[0].when <= sim->now) {
            event_t event = pop(sim);
            handle(sim, &event);
        }
        unsigned first = (unsigned)sim_below(sim, sim->places);
        for (unsigned i = 0; i < sim->places; i++) {
            sim_life_t *life = sim->at[(first + i) % sim->places];
            if (life && !is_paused(life)) {
                run_life(life);
            }
        }
    }
    sim->now = until > sim->now ? until : sim->now;
}
