/* rooms: client n is in room n / room; what a client says, all of its room get, itself too, and all in the same order. It says the
 * next when it has heard itself. The server gives the rooms by the number at the end of the login's key. */
#include <string.h>

#include "bench/gate.h"

typedef struct room {
    uint64_t *log; /* tags, in the order in which whoever was first got them */
    uint32_t size, capacity;
} room_t;

typedef struct guest {
    uint32_t heard;    /* how many of the room's */
    uint32_t said;     /* by it */
    uint32_t recorded; /* of them in the room's log */
    uint64_t *said_at; /* ring of `outstanding` */
} guest_t;

#define OTHER_ROOMS "give it as --room what the server's rooms have, or start that with RR_BENCH_ROOM=%u"
#define UNLESS      "if nothing is amiss with the server: " OTHER_ROOMS

typedef struct rooms {
    guest_t *guests;
    room_t *all;
    uint64_t said, heard;
    body_t body;
} rooms_t;

static uint64_t members(const gate_params_t *p, uint32_t number) {
    uint64_t first = number / p->room * p->room;
    return p->connections - first < p->room ? p->connections - first : p->room;
}

static void say(gate_run_t *run, conn_t *c, uint64_t at) {
    rooms_t *r = run->state;
    guest_t *guest = &r->guests[c->index];
    guest->said_at[guest->said % run->p->outstanding] = at;
    body_tag(&r->body, c->index, guest->said++);
    r->said += members(run->p, c->index);
    generator_send(run->g, c, (uint16_t)run->p->room_cmd, r->body.text, r->body.size);
}

/* The first of a room to hear something says what the others have to hear at that place. */
static bool record(rooms_t *r, room_t *room, uint32_t who, uint32_t sequence) {
    if (r->guests[who].recorded != sequence)
        return false;
    if (room->size == room->capacity) {
        room->capacity = room->capacity * 2 + 256;
        room->log = bench_realloc(room->log, room->capacity * sizeof *room->log);
    }
    room->log[room->size++] = (uint64_t)who << 32 | sequence;
    r->guests[who].recorded++;
    return true;
}

static bool fits(gate_run_t *run, uint32_t listener, const wire_message_t *m, uint32_t *who, uint32_t *sequence) {
    rooms_t *r = run->state;
    guest_t *guest = &r->guests[listener];
    room_t *room = &r->all[listener / run->p->room];
    if (m->cmd != run->p->room_cmd || !body_read_tag(&r->body, m->body, m->size, who, sequence) ||
        *who >= run->p->connections || *who / run->p->room != listener / run->p->room ||
        *sequence >= r->guests[*who].said || !body_is(&r->body, *who, *sequence, m->body, m->size))
        return false;
    if (guest->heard == room->size && !record(r, room, *who, *sequence))
        return false;
    return room->log[guest->heard++] == ((uint64_t)*who << 32 | *sequence);
}

/* Is it right, but for who hears it? Then the server makes other rooms than we. */
static bool is_of_another_room(gate_run_t *run, uint32_t listener, const wire_message_t *m, uint32_t *who) {
    rooms_t *r = run->state;
    uint32_t sequence;
    return m->cmd == run->p->room_cmd && body_read_tag(&r->body, m->body, m->size, who, &sequence) && *who < run->p->connections &&
           *who / run->p->room != listener / run->p->room;
}

static void wrong(gate_run_t *run, uint32_t listener, const wire_message_t *m) {
    const rooms_t *r = run->state;
    uint32_t who;
    if (is_of_another_room(run, listener, m, &who))
        bench_fail(run->out, "connection %u heard connection %u, which is of another room with --room %u: " OTHER_ROOMS, listener, who,
                   (unsigned)run->p->room, (unsigned)run->p->room);
    else
        bench_fail(run->out, "connection %u: what it heard as number %u is wrong, twice or out of order (cmd %u, %zu bytes); " UNLESS,
                   listener, r->guests[listener].heard, m->cmd, m->size, (unsigned)run->p->room);
}

static void message(generator_t *g, conn_t *c, const wire_message_t *m) {
    gate_run_t *run = gate_of(g);
    rooms_t *r = run->state;
    uint32_t who, sequence;
    if (!fits(run, c->index, m, &who, &sequence)) {
        wrong(run, c->index, m);
        return;
    }
    uint64_t at = r->guests[who].said_at[sequence % run->p->outstanding], now = generator_now(g);
    r->heard++;
    run->counted += run->measuring;
    if (who != c->index)
        return;
    if (run->measuring && at >= run->began_at)
        histogram_record(run->latency, now > at ? now - at : 0);
    if (!run->stopping)
        say(run, c, now);
}

static bool all_heard(gate_run_t *run) {
    const rooms_t *r = run->state;
    return r->heard == r->said;
}

static void start(gate_run_t *run) {
    uint64_t now = bench_now_ns();
    for (uint64_t k = 0; k < run->p->outstanding; k++)
        for (uint64_t i = 0; i < run->p->connections; i++)
            say(run, generator_conn(run->g, (unsigned)i), now);
}

static void init(rooms_t *r, const gate_params_t *p) {
    r->guests = bench_alloc(p->connections * sizeof *r->guests);
    r->all = bench_alloc((p->connections / p->room + 1) * sizeof *r->all);
    for (uint64_t i = 0; i < p->connections; i++)
        r->guests[i].said_at = bench_alloc(p->outstanding * sizeof(uint64_t));
    body_init(&r->body, p->size, p->json_body);
}

static void destroy(rooms_t *r, const gate_params_t *p) {
    for (uint64_t i = 0; i < p->connections; i++)
        free(r->guests[i].said_at);
    for (uint64_t i = 0; i <= p->connections / p->room; i++)
        free(r->all[i].log);
    free(r->guests);
    free(r->all);
    body_free(&r->body);
}

void gate_rooms(const gate_params_t *p, bench_run_t *out) {
    static const generator_ops_t ops = {.message = message, .closed = gate_closed};
    rooms_t rooms = {0};
    gate_run_t run = {.state = &rooms};
    init(&rooms, p);
    if (gate_begin(&run, p, out, &ops, (unsigned)p->connections)) {
        start(&run);
        gate_measure(&run, NULL);
        if (!gate_drain(&run, all_heard, 10))
            bench_fail(out, "%llu of %llu deliveries are missing; " UNLESS,
                       (unsigned long long)(rooms.said - rooms.heard), (unsigned long long)rooms.said, (unsigned)p->room);
        bench_metric(out, "deliveries", "/s", BENCH_HIGHER, (double)run.counted / gate_seconds(&run));
        gate_machine_metrics(&run, "delivery");
        bench_latency(out, "own word", run.latency);
    }
    gate_end(&run);
    destroy(&rooms, p);
}
