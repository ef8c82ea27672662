/* chat: clients that follow a scenario. The built-in one thinks, speaks to itself (echo) and now and then to everybody
 * (broadcast). Replies are checked as the scenario says; broadcasts must reach every client, all in one order. */
#include <string.h>

#include "bench/gate.h"
#include "bench/scenario.h"

#define BODY_ROOM 65536

typedef struct player {
    uint32_t step, sent;
    uint64_t due, sent_due;  /* when its next step is due; when its last send was */
    uint32_t heap_place;     /* 1-based; 0 = not in the heap: it waits for a message */
    uint32_t broadcasts;     /* how many it has received */
    char *last;              /* body sent last */
    uint32_t last_size;
    bool expecting;
} player_t;

typedef struct chat {
    scenario_t scenario;
    player_t *players;
    uint32_t *heap, heap_size; /* of players, by due */
    uint64_t *log;             /* hashes of broadcasts, in the order of the client that is furthest */
    uint64_t log_size, log_room, broadcasts_sent;
    uint64_t expecting, deliveries, sends, counted_deliveries;
    uint64_t random;
    histogram_t *delivery;
    char body[BODY_ROOM], pad[BODY_ROOM];
} chat_t;

/* ---- Who is due next: a binary heap ----------------------------------------------------------------------------------- */

static void heap_set(chat_t *s, uint32_t place, uint32_t who) {
    s->heap[place] = who;
    s->players[who].heap_place = place;
}

static void heap_push(chat_t *s, uint32_t who) {
    uint32_t at = ++s->heap_size;
    while (at > 1 && s->players[s->heap[at / 2]].due > s->players[who].due) {
        heap_set(s, at, s->heap[at / 2]);
        at /= 2;
    }
    heap_set(s, at, who);
}

static uint32_t heap_pop(chat_t *s) {
    uint32_t top = s->heap[1], last = s->heap[s->heap_size--], at = 1;
    s->players[top].heap_place = 0;
    while (s->heap_size && at * 2 <= s->heap_size) {
        uint32_t child = at * 2;
        if (child < s->heap_size && s->players[s->heap[child + 1]].due < s->players[s->heap[child]].due)
            child++;
        if (s->players[s->heap[child]].due >= s->players[last].due)
            break;
        heap_set(s, at, s->heap[child]);
        at = child;
    }
    if (s->heap_size)
        heap_set(s, at, last);
    return top;
}

static double chance(chat_t *s) { /* xorshift64* */
    s->random ^= s->random >> 12;
    s->random ^= s->random << 25;
    s->random ^= s->random >> 27;
    return (double)((s->random * 0x2545F4914F6CDD1Du) >> 11) / 9007199254740992.0;
}

static uint64_t hash(const void *data, size_t size) { /* FNV-1a */
    const uint8_t *bytes = data;
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < size; i++)
        h = (h ^ bytes[i]) * 0x100000001b3u;
    return h;
}

/* ---- Steps ------------------------------------------------------------------------------------------------------------ */

/* {tag} first, then what generator_expand knows, then padding up to the wanted size where {pad} stands at the end. */
static size_t make_body(chat_t *s, const char *text, uint32_t who, uint32_t i, size_t wanted) {
    const char *tag = strstr(text, "{tag}");
    size_t length = strlen(text);
    if (length > BODY_ROOM - 64)
        bench_die("a scenario's body has more than %d bytes", BODY_ROOM - 64);
    if (tag)
        snprintf(s->pad, sizeof s->pad, "%.*s%08x%08x%s", (int)(tag - text), text, who, i, tag + 5);
    else
        memcpy(s->pad, text, length + 1);
    char *pad = strstr(s->pad, "{pad}");
    if (pad)
        *pad = 0;
    size_t size = generator_expand(s->body, sizeof s->body, s->pad, who, i);
    while (pad && size < wanted && size < sizeof s->body - 1)
        s->body[size++] = '.';
    return size;
}

static void do_send(gate_run_t *run, uint32_t who, const step_t *step) {
    chat_t *s = run->state;
    player_t *p = &s->players[who];
    size_t size = make_body(s, step->text, who, p->sent++, run->p->size);
    generator_send(run->g, generator_conn(run->g, who), step->cmd, s->body, size);
    s->sends++;
    s->broadcasts_sent += step->kind == STEP_BROADCAST;
    p->sent_due = p->due;
    p->last = bench_realloc(p->last, size);
    memcpy(p->last, s->body, size);
    p->last_size = (uint32_t)size;
}

/* Runs a client's steps until it has to wait. */
static void advance(gate_run_t *run, uint32_t who) {
    chat_t *s = run->state;
    player_t *p = &s->players[who];
    for (;;) {
        const step_t *step = &s->scenario.steps[p->step];
        if (run->stopping && step->kind != STEP_EXPECT)
            return;
        p->step = (p->step + 1) % s->scenario.count;
        if (step->kind == STEP_MAYBE && chance(s) >= step->from) {
            p->step = (p->step + 1) % s->scenario.count;
        } else if (step->kind == STEP_SEND || step->kind == STEP_BROADCAST) {
            do_send(run, who, step);
        } else if (step->kind == STEP_THINK) {
            p->due += (uint64_t)((step->from + (step->to - step->from) * chance(s)) * 1e9);
            heap_push(s, who);
            return;
        } else if (step->kind == STEP_EXPECT) {
            p->expecting = true;
            s->expecting++;
            return;
        }
    }
}

static const step_t *expected_step(const chat_t *s, const player_t *p) {
    return &s->scenario.steps[(p->step + s->scenario.count - 1) % s->scenario.count];
}

static bool fits(chat_t *s, uint32_t who, const step_t *step, const wire_message_t *m) {
    const player_t *p = &s->players[who];
    if (step->expect == EXPECT_SAME)
        return m->size == p->last_size && memcmp(m->body, p->last, m->size) == 0;
    if (step->expect == EXPECT_CONTAINING) {
        size_t size = make_body(s, step->text, who, p->sent - 1, 0);
        return memmem(m->body, m->size, s->body, size) != NULL;
    }
    return true;
}

static bool is_broadcast(const chat_t *s, uint16_t cmd) {
    for (unsigned i = 0; i < s->scenario.count; i++)
        if (s->scenario.steps[i].kind == STEP_BROADCAST && s->scenario.steps[i].cmd == cmd)
            return true;
    return false;
}

static void got_broadcast(gate_run_t *run, uint32_t who, const wire_message_t *m) {
    chat_t *s = run->state;
    player_t *p = &s->players[who];
    uint64_t h = hash(m->body, m->size);
    s->deliveries++;
    s->counted_deliveries += run->measuring;
    if (p->broadcasts == s->log_size) {
        if (s->log_size == s->log_room) {
            s->log_room = s->log_room * 2 + 1024;
            s->log = bench_realloc(s->log, s->log_room * sizeof *s->log);
        }
        s->log[s->log_size++] = h;
    }
    if (s->log[p->broadcasts++] != h)
        bench_fail(run->out, "client %u: its broadcast %u is not what others got at that place", who, p->broadcasts);
}

static void message(generator_t *g, conn_t *c, const wire_message_t *m) {
    gate_run_t *run = gate_of(g);
    chat_t *s = run->state;
    player_t *p = &s->players[c->index];
    if (is_broadcast(s, m->cmd))
        got_broadcast(run, c->index, m);
    const step_t *step = expected_step(s, p);
    if (!p->expecting || step->cmd != m->cmd)
        return; /* somebody else's doing: a scenario names what it cares about */
    if (!fits(s, c->index, step, m)) {
        if (!is_broadcast(s, m->cmd))
            bench_fail(run->out, "client %u: the answer to message %u is wrong (cmd %u, %zu bytes)", c->index,
                       p->sent - 1, m->cmd, m->size);
        return;
    }
    uint64_t now = generator_now(g);
    p->expecting = false;
    s->expecting--;
    if (run->measuring) {
        run->counted++;
        histogram_record(run->latency, now > p->sent_due ? now - p->sent_due : 0);
    }
    p->due = now;
    advance(run, c->index);
}

static void run_due(gate_run_t *run) {
    chat_t *s = run->state;
    uint64_t now = bench_now_ns();
    while (s->heap_size && s->players[s->heap[1]].due <= now)
        advance(run, heap_pop(s));
}

static bool settled(gate_run_t *run) {
    const chat_t *s = run->state;
    return s->expecting == 0 && s->deliveries == s->broadcasts_sent * run->p->connections;
}

static void report(gate_run_t *run) {
    chat_t *s = run->state;
    bench_metric(run->out, "answers", "/s", BENCH_INFO, (double)run->counted / gate_seconds(run));
    if (s->deliveries)
        bench_metric(run->out, "deliveries", "/s", BENCH_INFO, (double)s->counted_deliveries / gate_seconds(run));
    run->counted += s->counted_deliveries;
    gate_machine_metrics(run, "msg");
    bench_latency(run->out, "answer", run->latency);
}

static void play(gate_run_t *run) {
    chat_t *s = run->state;
    uint64_t now = bench_now_ns();
    for (uint32_t i = 0; i < run->p->connections; i++) {
        s->players[i].due = now + (uint64_t)(chance(s) * 1e9 * (run->p->warmup > 0 ? run->p->warmup : 0.1));
        heap_push(s, i);
    }
    gate_measure(run, run_due);
    if (!gate_drain(run, settled, 10))
        bench_fail(run->out, "%llu answers and %lld deliveries are missing", (unsigned long long)s->expecting,
                   (long long)(s->broadcasts_sent * run->p->connections - s->deliveries));
    report(run);
}

static void load(chat_t *s, const gate_params_t *p) {
    char text[256];
    snprintf(text, sizeof text,
             "think 500ms..1500ms\nmaybe 10%%\nbroadcast %u \"{tag} to all\"\nsend %u \"{tag} to me\"\nexpect %u same\n",
             (unsigned)p->broadcast_cmd, (unsigned)p->cmd, (unsigned)p->reply_cmd);
    if (p->scenario)
        scenario_load(&s->scenario, p->scenario);
    else
        scenario_parse(&s->scenario, text, "built-in scenario");
}

void gate_chat(const gate_params_t *p, bench_run_t *out) {
    static const generator_ops_t ops = {.message = message, .closed = gate_closed};
    chat_t *s = bench_alloc(sizeof *s);
    gate_run_t run = {.state = s};
    s->random = 0x9e3779b97f4a7c15u;
    s->players = bench_alloc(p->connections * sizeof *s->players);
    s->heap = bench_alloc((p->connections + 1) * sizeof *s->heap);
    load(s, p);
    if (gate_begin(&run, p, out, &ops, (unsigned)p->connections))
        play(&run);
    gate_end(&run);
    for (uint64_t i = 0; i < p->connections; i++)
        free(s->players[i].last);
    scenario_free(&s->scenario);
    free(s->players);
    free(s->heap);
    free(s->log);
    free(s);
}
