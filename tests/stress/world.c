/* world.c: the actors and the checker (world.h). */
#include "tests/stress/world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "runtime/system.h"

/* A violated promise. */
#define MUST(world, condition)                                                                                         \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: %s (seed %llu)\n", __FILE__, __LINE__, #condition,                                 \
                    (unsigned long long)(world)->seed);                                                                \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

enum { TYPE_WORK = 1, TYPE_AUDIT, TYPE_ASK };
enum { CALLS = 32, TIMERS = 16, WATCHES = 16, LINKS = 16, KEPT = 4, PEERS = 64, LAST_ALARM = 1000 };

typedef struct payload {
    uint64_t magic;
    uint32_t from_id, seq, hops, fill; /* fill: bytes behind, each = low byte of seq */
} payload_t;
#define MAGIC 0x600dfeedbeefcafeull

typedef struct peer { /* how far the conversation with one other actor is; a busy slot is not reused */
    uint64_t key;
    uint32_t next;
} peer_t;

typedef struct asked {
    uint64_t id, nonce;
    struct node *node;
    bool used;
} asked_t;

typedef struct alarm {
    uint64_t id, due_ns;
    uint32_t left; /* periods still wanted */
    bool used, repeats;
} alarm_t;

typedef struct watch {
    uint64_t id;
    rr_addr_t target;
    bool used;
} watch_t;

typedef struct tie {
    rr_addr_t target;
    uint32_t target_id;
    bool used;
} tie_t;

typedef struct node {
    world_t *world;
    uint32_t id;
    bool traps, sheds, keeps;
    _Atomic(int) inside;     /* somebody runs it: more than once at a time is a violation */
    rr_random_t random;
    peer_t out[PEERS], in[PEERS];
    asked_t asked[CALLS];
    alarm_t alarms[TIMERS];
    watch_t watches[WATCHES];
    tie_t ties[LINKS];
    rr_message_t *kept[KEPT];
    bool names[WORLD_NAMES];
} node_t;

typedef struct birth { /* the argument of a new actor */
    world_t *world;
    uint32_t id;
    bool traps, sheds, keeps, fails;
} birth_t;

static const rr_behavior_t keeper, plain; /* keepers hold requests back, and hear of a drain */

static void enter(node_t *node) { MUST(node->world, atomic_exchange(&node->inside, 1) == 0); }
static void leave(node_t *node) { atomic_store(&node->inside, 0); }

static uint32_t below(node_t *node, uint32_t n) { return (uint32_t)rr_random_below(&node->random, n); }

static void pulse(_Atomic(uint64_t) *counter) { atomic_fetch_add_explicit(counter, 1, memory_order_relaxed); }

static rr_addr_t somebody(world_t *world, rr_random_t *random) {
    return atomic_load_explicit(&world->slots[rr_random_below(random, WORLD_SLOTS)], memory_order_relaxed);
}

/* NULL when the book is full of others: then this pair is not followed. */
static peer_t *peer_of(peer_t *peers, uint64_t key) {
    for (unsigned i = 0; i < PEERS; i++) {
        peer_t *peer = &peers[(key * 31 + i) % PEERS];
        if (peer->key == key || !peer->key) {
            peer->key = key;
            return peer;
        }
    }
    return NULL;
}

/* ---- Births ------------------------------------------------------------------------------------------------------- */

static bool prepare(world_t *world, rr_random_t *random, rr_spawn_t *spec, birth_t *birth) {
    uint32_t id = atomic_fetch_add_explicit(&world->next_id, 1, memory_order_relaxed);
    if (id >= WORLD_IDS)
        return false;
    static const uint32_t limits[] = {0, 4, 16, 64, 1000};
    bool keeps = rr_random_below(random, 2);
    *spec = (rr_spawn_t){.behavior = keeps ? &keeper : &plain, .arg = birth, .arg_size = sizeof *birth};
    spec->mailbox_messages = limits[rr_random_below(random, 5)];
    /* Not DROP_NEWEST: its sender is told RR_OK, and the sums would not close. */
    static const rr_policy_t policies[] = {RR_POLICY_FAIL, RR_POLICY_DROP_OLDEST, RR_POLICY_PAUSE_SOURCE};
    spec->policy = policies[rr_random_below(random, 3)];
    spec->trap_exits = rr_random_below(random, 2);
    spec->executor = world->executors[rr_random_below(random, 4)];
    *birth = (birth_t){.world = world,
                       .id = id,
                       .traps = spec->trap_exits,
                       .keeps = keeps,
                       .sheds = spec->policy == RR_POLICY_DROP_OLDEST,
                       .fails = rr_random_below(random, 50) == 0};
    return true;
}

static void born(world_t *world, rr_random_t *random, uint32_t id, rr_addr_t addr) {
    pulse(&world->spawns);
    atomic_store_explicit(&world->addr_of[id], addr, memory_order_relaxed);
    rr_addr_t old = atomic_exchange(&world->slots[rr_random_below(random, WORLD_SLOTS)], addr);
    if (rr_random_below(random, 4)) /* keeps the number of actors about the same */
        rr_kill(world->system, old, RR_CANCELLED);
}

static int node_start(rr_actor_t *self, void *state, const void *arg) {
    node_t *node = state;
    const birth_t *birth = arg;
    MUST(birth->world, node->world == NULL && node->asked[CALLS - 1].id == 0); /* zeroed */
    if (birth->fails)
        return RR_EIO;
    node->world = birth->world;
    node->id = birth->id;
    node->traps = birth->traps;
    node->sheds = birth->sheds;
    node->keeps = birth->keeps;
    rr_random_seed(&node->random, node->world->seed ^ ((uint64_t)node->id << 20));
    return RR_OK;
}

static void node_finish(rr_actor_t *self, void *state, int reason) {
    node_t *node = state;
    enter(node);
    for (unsigned i = 0; i < WORLD_NAMES; i++)
        if (node->names[i]) {
            uint32_t expected = node->id;
            MUST(node->world, atomic_compare_exchange_strong(&node->world->name_owner[i], &expected, 0));
        }
    atomic_store(&node->world->ended[node->id], 1 - reason);
    leave(node);
}

/* ---- Sending ------------------------------------------------------------------------------------------------------ */

static void send(rr_actor_t *self, node_t *node, rr_addr_t to, uint32_t hops) {
    peer_t *peer = peer_of(node->out, to);
    uint8_t bytes[sizeof(payload_t) + 2000];
    payload_t head = {.magic = MAGIC, .from_id = node->id, .hops = hops};
    head.seq = peer ? ++peer->next : 0; /* 0 = not followed */
    head.fill = below(node, 4) ? below(node, 40) : below(node, 2000);
    memcpy(bytes, &head, sizeof head);
    memset(bytes + sizeof head, (int)(head.seq & 0xff), head.fill);
    size_t size = sizeof head + head.fill;
    int rc = below(node, 3) ? rr_send(self, to, TYPE_WORK, bytes, size)
                            : rr_send_buffer(self, to, TYPE_WORK, rr_buffer_copy(bytes, size));
    MUST(node->world, rc == RR_OK || rc == RR_EFULL || rc == RR_NOROUTE);
    if (rc != RR_OK && peer)
        peer->next--;
    pulse(rc == RR_OK ? &node->world->accepted : rc == RR_NOROUTE ? &node->world->no_route : &node->world->activity);
}

static void check_payload(node_t *node, rr_message_t *msg, payload_t *head) {
    world_t *world = node->world;
    MUST(world, rr_message_size(msg) >= sizeof *head);
    memcpy(head, rr_message_data(msg), sizeof *head);
    MUST(world, head->magic == MAGIC && rr_message_size(msg) == sizeof *head + head->fill);
    const uint8_t *fill = (const uint8_t *)rr_message_data(msg) + sizeof *head;
    for (uint32_t i = 0; i < head->fill; i += 97)
        MUST(world, fill[i] == (uint8_t)head->seq);
    MUST(world, !head->fill || fill[head->fill - 1] == (uint8_t)head->seq);
}

/* The next one of its sender: nothing lost, nothing twice, nothing overtaken. */
static void check_order(node_t *node, rr_message_t *msg, const payload_t *head) {
    if (rr_message_from(msg) == RR_NOBODY || !head->seq)
        return;
    peer_t *peer = peer_of(node->in, rr_message_from(msg));
    if (!peer)
        return;
    MUST(node->world, head->seq > peer->next);
    MUST(node->world, node->sheds || head->seq == peer->next + 1);
    peer->next = head->seq;
}

/* ---- Calls -------------------------------------------------------------------------------------------------------- */

static void mischief(rr_actor_t *self, node_t *node, uint32_t hops);

static void answered(rr_actor_t *self, void *state, int status, rr_message_t *msg, void *context) {
    node_t *node = state;
    asked_t *asked = context;
    world_t *world = node->world;
    bool within = atomic_load(&node->inside); /* rr_call_cancel answers from inside a handler */
    MUST(world, !within || status == RR_CANCELLED);
    if (!within)
        enter(node);
    pulse(&world->replies);
    MUST(world, asked->node == node && asked->used); /* once */
    asked->used = false;
    MUST(world, (status == RR_OK || status == RR_EHANDLER) == (msg != NULL));
    if (status == RR_OK) {
        uint64_t nonce;
        MUST(world, rr_message_size(msg) == sizeof nonce);
        memcpy(&nonce, rr_message_data(msg), sizeof nonce);
        MUST(world, nonce == asked->nonce + 1);
    } else {
        MUST(world, status == RR_NOROUTE || status == RR_OVERLOAD || status == RR_DIED || status == RR_TIMEOUT ||
                        status == RR_CANCELLED || status == RR_EHANDLER || status == RR_EACCES);
    }
    if (!within) {
        if (below(node, 4) == 0)
            mischief(self, node, 1);
        leave(node);
    }
}

static void ask(rr_actor_t *self, node_t *node, rr_addr_t to) {
    asked_t *asked = &node->asked[below(node, CALLS)];
    if (asked->used)
        return;
    uint64_t nonce = rr_random_next(&node->random);
    *asked = (asked_t){.node = node, .nonce = nonce, .used = true};
    unsigned timeout = 1 + below(node, 50);
    MUST(node->world, rr_call(self, to, TYPE_ASK, &nonce, sizeof nonce, timeout, answered, asked, &asked->id) == RR_OK);
    pulse(&node->world->calls);
    MUST(node->world, asked->used); /* never answered from inside rr_call */
}

static void cancel_call(rr_actor_t *self, node_t *node) {
    asked_t *asked = &node->asked[below(node, CALLS)];
    if (!asked->id)
        return;
    bool was = asked->used;
    MUST(node->world, rr_call_cancel(self, asked->id) == was);
    MUST(node->world, !asked->used);
}

static void reply_ok(rr_actor_t *self, rr_message_t *msg) {
    uint64_t nonce;
    memcpy(&nonce, rr_message_data(msg), sizeof nonce);
    nonce++;
    rr_reply(self, msg, &nonce, sizeof nonce);
}

static void keep(rr_actor_t *self, node_t *node, rr_message_t *msg) {
    rr_message_t **place = &node->kept[below(node, KEPT)];
    if (*place) /* make room: answer, refuse or drop the old one */
        switch (below(node, 3)) {
        case 0:
            reply_ok(self, *place);
            break;
        case 1:
            rr_reply_error(self, *place, RR_EACCES, NULL);
            break;
        default:
            rr_message_release(self, *place);
            break;
        }
    rr_message_take(self, msg);
    *place = msg;
}

static void be_asked(rr_actor_t *self, node_t *node, rr_message_t *msg) {
    switch (below(node, 8)) {
    case 0:
        rr_reply_error(self, msg, RR_EHANDLER, "no");
        break;
    case 1:
        break; /* silence is an answer too */
    case 2:
    case 3:
        if (node->keeps)
            keep(self, node, msg);
        else
            reply_ok(self, msg);
        break;
    case 4:
        reply_ok(self, msg);
        rr_reply(self, msg, "again", 5);
        break;
    default:
        reply_ok(self, msg);
        break;
    }
}

/* ---- Timers ------------------------------------------------------------------------------------------------------- */

static void set_alarm(rr_actor_t *self, node_t *node) {
    uint32_t index = below(node, TIMERS);
    alarm_t *alarm = &node->alarms[index];
    if (alarm->used)
        return;
    uint64_t delay = below(node, 20), period = below(node, 4) ? 0 : 1 + below(node, 10);
    *alarm = (alarm_t){.used = true, .repeats = period, .left = period ? 5 : 1};
    alarm->due_ns = rr_now_ns(self) + delay * 1000000;
    MUST(node->world, rr_timer_start(self, delay, period, index, &alarm->id) == RR_OK);
}

static void stop_alarm(rr_actor_t *self, node_t *node) {
    alarm_t *alarm = &node->alarms[below(node, TIMERS)];
    if (alarm->id)
        MUST(node->world, rr_timer_cancel(self, alarm->id) == alarm->used);
    alarm->used = false;
}

static void alarm_rings(rr_actor_t *self, node_t *node, rr_message_t *msg) {
    world_t *world = node->world;
    if (rr_message_type(msg) == LAST_ALARM) {
        rr_exit(self, RR_OK);
        return;
    }
    MUST(world, rr_message_type(msg) < TIMERS);
    alarm_t *alarm = &node->alarms[rr_message_type(msg)];
    MUST(world, alarm->used && alarm->id == rr_message_request(msg));
    MUST(world, rr_now_ns(self) >= alarm->due_ns);
    pulse(&world->timers);
    if (--alarm->left)
        return;
    MUST(world, rr_timer_cancel(self, alarm->id) == alarm->repeats);
    alarm->used = false;
}

/* ---- Deaths ------------------------------------------------------------------------------------------------------- */

static void start_watch(rr_actor_t *self, node_t *node, rr_addr_t target) {
    watch_t *watch = &node->watches[below(node, WATCHES)];
    if (watch->used) {
        if (below(node, 2))
            return;
        MUST(node->world, rr_demonitor(self, watch->id));
        MUST(node->world, !rr_demonitor(self, watch->id));
    }
    *watch = (watch_t){.used = true, .target = target};
    MUST(node->world, rr_monitor(self, target, &watch->id) == RR_OK);
}

static void is_down(node_t *node, rr_message_t *msg) {
    pulse(&node->world->downs);
    for (unsigned i = 0; i < WATCHES; i++) {
        watch_t *watch = &node->watches[i];
        if (watch->used && watch->id == rr_message_request(msg)) {
            MUST(node->world, watch->target == rr_message_from(msg));
            watch->used = false;
            return;
        }
    }
    MUST(node->world, !"a death nobody watches for");
}

/* Only towards younger actors: so nobody but the one who tied can untie. */
static void tie_or_untie(rr_actor_t *self, node_t *node) {
    tie_t *tie = &node->ties[below(node, LINKS)];
    if (tie->used) {
        rr_unlink(self, tie->target);
        tie->used = false;
        return;
    }
    uint32_t count = atomic_load_explicit(&node->world->next_id, memory_order_relaxed);
    uint32_t id = node->id + 1 + below(node, 64);
    rr_addr_t target = id < count && id < WORLD_IDS ? atomic_load(&node->world->addr_of[id]) : RR_NOBODY;
    for (unsigned i = 0; i < LINKS; i++)
        if (target == RR_NOBODY || (node->ties[i].used && node->ties[i].target == target))
            return;
    *tie = (tie_t){.used = true, .target = target, .target_id = id};
    MUST(node->world, rr_link(self, target) == RR_OK);
}

static void linked_end(node_t *node, rr_message_t *msg) {
    MUST(node->world, node->traps);
    pulse(&node->world->exits);
    for (unsigned i = 0; i < LINKS; i++)
        if (node->ties[i].used && node->ties[i].target == rr_message_from(msg))
            node->ties[i].used = false;
}

/* ---- Names -------------------------------------------------------------------------------------------------------- */

static void name_or_unname(rr_actor_t *self, node_t *node) {
    world_t *world = node->world;
    uint32_t i = below(node, WORLD_NAMES);
    char name[16];
    snprintf(name, sizeof name, "name/%u", i);
    if (node->names[i]) {
        uint32_t expected = node->id;
        MUST(world, rr_lookup(world->system, name) == rr_self(self));
        MUST(world, atomic_compare_exchange_strong(&world->name_owner[i], &expected, 0));
        node->names[i] = false;
        MUST(world, rr_unregister(self, name) == RR_OK);
        return;
    }
    int rc = rr_register(self, name);
    MUST(world, rc == RR_OK || rc == RR_EEXIST);
    if (rc == RR_OK) {
        uint32_t nobody = 0;
        MUST(world, atomic_compare_exchange_strong(&world->name_owner[i], &nobody, node->id));
        node->names[i] = true;
        MUST(world, rr_register(self, name) == RR_EEXIST);
    }
}

/* ---- What an actor does ------------------------------------------------------------------------------------------- */

static void give_birth(rr_actor_t *self, node_t *node) {
    rr_spawn_t spec;
    birth_t birth;
    if (!prepare(node->world, &node->random, &spec, &birth))
        return;
    tie_t *tie = &node->ties[below(node, LINKS)];
    spec.link = !tie->used && below(node, 3) == 0;
    rr_addr_t addr;
    int rc = rr_spawn(self, &spec, &addr);
    if (rc == RR_ESTOPPING)
        return;
    MUST(node->world, rc == RR_OK);
    if (spec.link)
        *tie = (tie_t){.used = true, .target = addr, .target_id = birth.id};
    born(node->world, &node->random, birth.id, addr);
}

static void end_somehow(rr_actor_t *self, node_t *node) {
    switch (below(node, 4)) {
    case 0:
        rr_exit(self, below(node, 2) ? RR_OK : RR_EPROTO);
        break;
    case 1:
        rr_kill(node->world->system, rr_self(self), RR_CANCELLED);
        break;
    default:
        rr_kill(node->world->system, somebody(node->world, &node->random), below(node, 2) ? RR_CANCELLED : RR_OK);
        break;
    }
}

static void one_thing(rr_actor_t *self, node_t *node, uint32_t hops) {
    rr_addr_t other = somebody(node->world, &node->random);
    uint32_t dice = below(node, 100);
    if (dice < 2) /* over every limit */
        for (uint32_t i = below(node, 200); i; i--)
            send(self, node, other, 0);
    else if (dice < 40)
        send(self, node, other, hops);
    else if (dice < 58)
        ask(self, node, other);
    else if (dice < 64)
        set_alarm(self, node);
    else if (dice < 68)
        stop_alarm(self, node);
    else if (dice < 71)
        cancel_call(self, node);
    else if (dice < 79)
        start_watch(self, node, other);
    else if (dice < 85)
        tie_or_untie(self, node);
    else if (dice < 89)
        name_or_unname(self, node);
    else if (dice < 95)
        give_birth(self, node);
    else if (dice < 97)
        end_somehow(self, node);
    else if (node->world->may_block && rr_executor_of(self) == node->world->executors[1] && below(node, 50) == 0)
        nanosleep(&(struct timespec){0, 30000000}, NULL); /* as a script may: a spare thread takes over */
    else
        for (volatile unsigned busy = below(node, 20000); busy; busy--)
            ;
}

static void mischief(rr_actor_t *self, node_t *node, uint32_t hops) {
    if (!hops || atomic_load_explicit(&node->world->calm, memory_order_relaxed))
        return;
    for (uint32_t i = below(node, 4); i; i--)
        one_thing(self, node, hops - 1);
}

/* ---- The audit ---------------------------------------------------------------------------------------------------- */

/* Not by a message: it might push the question for the audit out of a full mailbox. */
static bool is_dead(const node_t *node, rr_addr_t addr) {
    return rr__directory_find(&node->world->system->directory, addr) == NULL;
}

static void audit(node_t *node) {
    world_t *world = node->world;
    for (unsigned i = 0; i < CALLS; i++)
        MUST(world, !node->asked[i].used);
    for (unsigned i = 0; i < TIMERS; i++)
        MUST(world, !node->alarms[i].used);
    for (unsigned i = 0; i < WATCHES; i++)
        MUST(world, !node->watches[i].used || !is_dead(node, node->watches[i].target));
    for (unsigned i = 0; i < LINKS; i++) {
        tie_t *tie = &node->ties[i];
        if (!tie->used || !is_dead(node, tie->target))
            continue;
        MUST(world, !node->traps);
        int ended = atomic_load(&world->ended[tie->target_id]);
        MUST(world, ended == 0 || ended == 1 - RR_OK); /* never began (killed before, with what reason ever), or ended well */
    }
    pulse(&world->audited);
}

/* ---- Receiving ---------------------------------------------------------------------------------------------------- */

static void on_send(rr_actor_t *self, node_t *node, rr_message_t *msg) {
    pulse(&node->world->handled);
    if (rr_message_type(msg) == TYPE_AUDIT) {
        audit(node);
        return;
    }
    payload_t head;
    check_payload(node, msg, &head);
    check_order(node, msg, &head);
    mischief(self, node, head.hops);
}

static void node_receive(rr_actor_t *self, void *state, rr_message_t *msg) {
    node_t *node = state;
    enter(node);
    pulse(&node->world->activity);
    switch (rr_message_kind(msg)) {
    case RR_SEND:
        on_send(self, node, msg);
        break;
    case RR_CALL:
        MUST(node->world, rr_message_type(msg) == TYPE_ASK && rr_message_size(msg) == sizeof(uint64_t));
        be_asked(self, node, msg);
        break;
    case RR_TIMER:
        alarm_rings(self, node, msg);
        mischief(self, node, 2);
        break;
    case RR_DOWN:
        is_down(node, msg);
        break;
    case RR_EXIT:
        linked_end(node, msg);
        break;
    default:
        MUST(node->world, !"a kind that is never received");
    }
    leave(node);
}

/* Answers what it kept, and ends: now, or a little later. */
static void node_drain(rr_actor_t *self, void *state) {
    node_t *node = state;
    enter(node);
    for (unsigned i = 0; i < KEPT; i++) {
        if (node->kept[i])
            reply_ok(self, node->kept[i]);
        node->kept[i] = NULL;
    }
    node->keeps = false;
    if (below(node, 2))
        rr_exit(self, RR_OK);
    else
        MUST(node->world, rr_timer_start(self, below(node, 5), 0, LAST_ALARM, NULL) == RR_OK);
    leave(node);
}

static const rr_behavior_t plain = {.name = "plain",
                                    .state_size = sizeof(node_t),
                                    .start = node_start,
                                    .receive = node_receive,
                                    .finish = node_finish};
static const rr_behavior_t keeper = {.name = "keeper",
                                     .state_size = sizeof(node_t),
                                     .start = node_start,
                                     .receive = node_receive,
                                     .drain = node_drain,
                                     .finish = node_finish};

/* ---- From outside ------------------------------------------------------------------------------------------------- */

static void outside_spawn(world_t *world, rr_random_t *random) {
    rr_spawn_t spec;
    birth_t birth;
    if (!prepare(world, random, &spec, &birth))
        return;
    rr_addr_t addr;
    MUST(world, rr_system_spawn(world->system, &spec, &addr) == RR_OK);
    born(world, random, birth.id, addr);
}

static int outside_send(world_t *world, rr_addr_t to, uint32_t type, const void *data, size_t size) {
    int rc = rr_system_send(world->system, to, type, data, size);
    MUST(world, rc == RR_OK || rc == RR_EFULL || rc == RR_NOROUTE);
    pulse(rc == RR_OK ? &world->accepted : rc == RR_NOROUTE ? &world->no_route : &world->activity);
    return rc;
}

void world_poke(world_t *world, rr_random_t *random) {
    uint32_t dice = (uint32_t)rr_random_below(random, 100);
    if (dice < 10) {
        outside_spawn(world, random);
    } else if (dice < 11) {
        rr_kill(world->system, somebody(world, random), RR_CANCELLED);
    } else {
        payload_t head = {.magic = MAGIC, .hops = 1 + (uint32_t)rr_random_below(random, 5)};
        (void)outside_send(world, somebody(world, random), TYPE_WORK, &head, sizeof head);
    }
}

void world_init(world_t *world, rr_system_t *system, uint64_t seed) {
    memset(world, 0, sizeof *world);
    world->system = system;
    world->seed = seed;
    atomic_store(&world->next_id, 1);
    world->addr_of = calloc(WORLD_IDS, sizeof *world->addr_of);
    world->ended = calloc(WORLD_IDS, sizeof *world->ended);
    MUST(world, world->addr_of && world->ended);
}

void world_free(world_t *world) {
    free((void *)world->addr_of);
    free((void *)world->ended);
}

uint64_t world_audit(world_t *world) {
    uint64_t asked = 0;
    uint32_t count = atomic_load(&world->next_id);
    for (uint32_t id = 1; id < count && id < WORLD_IDS; id++) {
        rr_addr_t addr = atomic_load(&world->addr_of[id]);
        if (addr != RR_NOBODY && !atomic_load(&world->ended[id]))
            asked += outside_send(world, addr, TYPE_AUDIT, NULL, 0) == RR_OK;
    }
    return asked;
}

void world_check_sums(world_t *world) {
    uint64_t dead = rr_system_dead_letters(world->system);
    MUST(world, world->accepted + world->no_route == world->handled + dead);
    for (unsigned i = 0; i < WORLD_NAMES; i++)
        MUST(world, atomic_load(&world->name_owner[i]) == 0);
}

void world_print(const world_t *world) {
    printf("seed %llu: %llu spawned, %llu sent, %llu handled, %llu calls, %llu answers, %llu timers, %llu downs, %llu exits\n",
           (unsigned long long)world->seed, (unsigned long long)world->spawns, (unsigned long long)world->accepted,
           (unsigned long long)world->handled, (unsigned long long)world->calls, (unsigned long long)world->replies,
           (unsigned long long)world->timers, (unsigned long long)world->downs, (unsigned long long)world->exits);
}
