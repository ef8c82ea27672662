/* scene_handover.c: a scene gives all its sessions to other scenes, because it ends or because it is asked to. Each goes by
 * the move of protocol.h, when no handler of it runs, with what the logic has to say to its next scene. */
#include <stdio.h>
#include <stdlib.h>

#include "actors/scene_impl.h"

#define BEAT_MS     20u
#define RETRY_MAX_MS 320u /* the longest pause before those that failed try again */
#define MOVING_MAX  1024u /* at once */
#define DEADLINE_MS 60000u
#define STOP_WAIT_NS 1000000000ull /* for sessions that came while it was finished already */

enum { TAG_HAND_OVER = 6 }; /* see scene.c */

/* ---- One session ---- */

bool rr__hand_over_ends(const rr_session_t *session) {
    const rr_scene_t *scene = rr__scene_of(session);
    return scene->node_ends && rr_addr_node(session->peer->addr) == rr_addr_node(scene->addr);
}

static bool may_go(const rr_session_t *session) {
    const rr__hand_over_t *hand = rr__scene_of(session)->hand_over;
    bool over = hand->over && hand->reopen; /* those under way are the last: else it might never open again */
    return session->state == RR__READY && hand->moving < MOVING_MAX && !over && !rr__hand_over_ends(session) &&
           !(session->flags & (RR__LEFT | RR__LOGIN_LEFT | RR__CLOSING | RR__STAYS | RR__ENDING)) &&
           !(session->transit && session->transit->move);
}

bool rr__hand_over_wants(const rr_session_t *session) {
    return rr__scene_of(session)->hand_over && !(session->flags & RR__HELD_BACK) && may_go(session);
}

/* A target that is away, or is drained itself, is asked less and less often, until it takes somebody. */
void rr__hand_over_failed(rr_session_t *session) {
    rr_scene_t *scene = rr__scene_of(session);
    rr__hand_over_t *hand = scene->hand_over;
    uint64_t now = rr_now_ns(scene->self);
    session->flags |= RR__HELD_BACK;
    if (!hand || session->flags & RR__STAYS || now < hand->retry_ns) /* one of the same round */
        return;
    hand->retry_ms = hand->retry_ms == 0 ? BEAT_MS : hand->retry_ms < RETRY_MAX_MS ? 2 * hand->retry_ms : RETRY_MAX_MS;
    hand->retry_ns = now + hand->retry_ms * 1000000ull;
}

void rr__hand_over_moved(rr_scene_t *scene, bool back, bool cut) {
    scene->hand_over->cut += cut;
    rr_count(&scene->count.hand_over_cut, cut);
    if (back) {
        scene->hand_over->given_back++;
        return;
    }
    scene->hand_over->moved++;
    scene->hand_over->retry_ms = 0;
    scene->hand_over->retry_ns = 0;
    rr_count(&scene->count.handed_over, 1);
}

static void keep_here(rr_session_t *session, bool for_good) {
    session->flags |= for_good ? RR__STAYS : RR__HELD_BACK;
    rr__move_abort(session, "it is not handed over");
    rr__session_advance(session);
}

/* Nobody takes it. Its gate may keep it for who has our name next, if we end; else it stays. */
static void give_back(rr_session_t *session, const rr_hand_to_t *to) {
    rr_scene_t *scene = rr__scene_of(session);
    rr__move_t *move = session->transit->move;
    size_t size = to ? to->size : 0;
    if (!scene->hand_over->back) {
        keep_here(session, true);
    } else if (size > RR_KEPT_MAX) {
        rr_log(scene->system, RR_WARN, "SCENE",
               "%s: a session ends here: nobody takes it, and a gate keeps %u bytes of state, not %zu", scene->options->name,
               RR_KEPT_MAX, size);
        session->flags |= RR__ENDS_HERE;
        keep_here(session, true);
    } else if (!rr__session_held(session)) {
        keep_here(session, true);
    } else if (rr__move_set(move, scene->options->name, to ? to->state : NULL, size)) {
        rr__move_back(session);
    } else {
        keep_here(session, false);
    }
}

static const char *target_of(const rr_scene_t *scene, const rr_hand_to_t *to) {
    if (to && to->scene)
        return to->scene;
    if (scene->hand_over->to[0])
        return scene->hand_over->to;
    return scene->options->drain_to ? scene->options->drain_to : "";
}

/* Here, where it would end as well. */
static bool too_near(rr_scene_t *scene, const char *name) {
    rr_addr_t addr = rr_lookup(scene->system, name);
    return scene->hand_over->elsewhere && addr != RR_NOBODY && rr_addr_node(addr) == rr_addr_node(scene->addr);
}

void rr__hand_over_answered(rr_session_t *session, int status, const rr_hand_to_t *to) {
    rr_scene_t *scene = rr__scene_of(session);
    rr__move_t *move = session->transit ? session->transit->move : NULL;
    if (!move || !move->handing || session->state != RR__MOVING)
        return;
    if (!scene->hand_over) { /* it is over meanwhile */
        rr__move_abort(session, "the hand-over is over");
        rr__session_advance(session);
        return;
    }
    const char *target = target_of(scene, to);
    bool failed = status != RR_OK && status != RR_ENOENT;
    bool asked_to_stay = to && to->scene && !*to->scene;
    bool late = scene->hand_over->back && move->again && rr_now_ns(scene->self) >= scene->hand_over->back_ns;
    if (!failed && asked_to_stay) {
        session->flags |= scene->hand_over->reopen ? 0 : RR__ENDS_HERE;
        keep_here(session, true);
    } else if (failed || late || !*target || !rr_name_legal(target) || !strcmp(target, scene->options->name) ||
        too_near(scene, target)) {
        give_back(session, failed ? NULL : to);
    } else if (!rr__session_held(session)) {
        rr__move_abort(session, "the client left");
        rr__session_advance(session);
    } else if (!rr__move_set(move, target, to ? to->state : NULL, to ? to->size : 0)) {
        keep_here(session, false);
    } else {
        rr__move_start(session);
        if (session->state == RR__READY) /* there is no such scene (yet) */
            rr__session_advance(session);
    }
}

void rr__hand_over_session(rr_session_t *session) {
    rr_scene_t *scene = rr__scene_of(session);
    rr__move_t *move = rr__move_new(session, "", NULL, 0, 0);
    uint64_t token = ++scene->next_token;
    rr_hand_to_t to = {0};
    int rc = RR_ENOENT;
    if (!move) {
        session->flags |= RR__HELD_BACK;
        return;
    }
    move->handing = true;
    move->again = session->flags & RR__HELD_BACK;
    scene->hand_over->moving++;
    session->flags &= (uint16_t)~RR__HELD_BACK;
    session->state = RR__MOVING; /* its messages wait from here on */
    if (scene->logic->hand_over) {
        rr__logic_begin(scene);
        rc = scene->logic->hand_over(scene->state, session, token, &to);
        rr__logic_end(scene);
    }
    if (rc == RR_SCRIPT_PENDING && rr__op_add(scene, session, RR__OP_HAND_OVER, token))
        return;
    rr__hand_over_answered(session, rc == RR_SCRIPT_PENDING ? RR_ENOMEM : rc, &to);
}

void rr_scene_hand_to(rr_scene_t *scene, uint64_t token, int status, const rr_hand_to_t *to) {
    size_t name = to && to->scene ? strlen(to->scene) + 1 : 0, size = to ? to->size : 0;
    rr__todo_t *todo = malloc(sizeof(*todo) + 4 + name + size);
    if (todo) {
        *todo = (rr__todo_t){.kind = RR__TODO_HAND_TO, .token = token, .status = status, .extra_size = size};
        rr_put32((uint8_t *)todo->data, (uint32_t)name);
        if (name)
            memcpy(todo->data + 4, to->scene, name);
        if (size)
            memcpy(todo->data + 4 + name, to->state, size);
    }
    if (!rr__scene_todo(scene, todo))
        rr_log(scene->system, RR_ERROR, "SCENE", "%s: out of memory: a session is not handed over", scene->options->name);
}

void rr__on_hand_to(rr_scene_t *scene, uint64_t token, int status, const rr_hand_to_t *to) {
    rr__op_t *op = rr_map_get(&scene->ops, token);
    if (!op || op->kind != RR__OP_HAND_OVER)
        return;
    rr_session_t *session = op->session;
    rr_map_take(&scene->ops, token);
    rr__count_down(&scene->count.pending_handlers);
    if (session) {
        *op->prev = op->next;
        if (op->next)
            op->next->prev = op->prev;
    }
    free(op);
    if (session)
        rr__hand_over_answered(session, status, to);
}

/* ---- All of them ---- */

static uint64_t count_left(const rr_scene_t *scene, bool only_movable) {
    uint64_t left = 0;
    for (const rr_session_t *s = scene->all; s; s = s->all_next) {
        bool here = s->state != RR__AWAY && s->state != RR__GONE && s->state != RR__OFFLINE;
        left += here && !(s->flags & RR__LEFT) && !(only_movable && s->flags & RR__STAYS) && !rr__hand_over_ends(s);
    }
    return left;
}

/* Who never said anything (we speak to all of its gate) brings no session; its first word is HELLO, which is answered. */
static bool all_quiet(const rr_scene_t *scene) {
    for (const rr__peer_t *peer = scene->peers; peer; peer = peer->next)
        if (!peer->dead && peer->messages && !peer->quiet)
            return false;
    return true;
}

static void tell_peer(rr_scene_t *scene, rr__peer_t *peer, bool draining) {
    peer->quiet = false;
    rr__tell(peer, scene, RR_REC_DRAINING, 0, 0, 0, draining, NULL, 0, NULL, 0);
}

static void tell_peers(rr_scene_t *scene, bool draining) {
    for (rr__peer_t *peer = scene->peers; peer; peer = peer->next)
        tell_peer(scene, peer, draining);
}

void rr__hand_over_hello(rr_scene_t *scene, rr__peer_t *peer) {
    if (scene->hand_over)
        tell_peer(scene, peer, true);
}

static void answer_logic(rr_scene_t *scene, uint64_t token, const rr_handed_over_t *result) {
    char text[64];
    int size = snprintf(text, sizeof(text), "[%llu, %llu]", (unsigned long long)result->moved,
                        (unsigned long long)result->left);
    rr__todo_t *todo = malloc(sizeof(*todo) + (size_t)size);
    if (todo) {
        *todo = (rr__todo_t){.kind = RR__TODO_ANSWER, .token = token, .answered = true, .extra_size = (size_t)size};
        memcpy(todo->data, text, (size_t)size);
    }
    if (!rr__scene_todo(scene, todo))
        rr_log(scene->system, RR_ERROR, "SCENE", "%s: out of memory: a call stays without its answer",
               scene->options->name);
}

/* Without sessions there is nothing to say. */
static void log_result(rr_scene_t *scene, const rr_handed_over_t *result) {
    const rr__hand_over_t *hand = scene->hand_over;
    const char *name = scene->options->name;
    if (result->moved || result->left || hand->given_back)
        rr_log(scene->system, result->left ? RR_WARN : RR_INFO, "SCENE", "%s: handed over: %llu sessions moved, %llu stay",
               name, (unsigned long long)result->moved, (unsigned long long)result->left);
    if (hand->given_back)
        rr_log(scene->system, RR_INFO, "SCENE", "%s: %llu sessions were given back to their gates", name,
               (unsigned long long)hand->given_back);
    if (hand->cut)
        rr_log(scene->system, RR_WARN, "SCENE",
               "%s: %llu sessions went on before a handler of theirs had ended, which had time enough: its message is not handled "
               "again, and what it still sends to the session is dropped",
               name, (unsigned long long)hand->cut);
}

static void answer(rr_scene_t *scene, rr__hand_over_t *hand) {
    rr_handed_over_t result = {.moved = hand->moved, .left = count_left(scene, false)};
    if (hand->over)
        return;
    hand->over = true;
    log_result(scene, &result);
    if (hand->call)
        rr_reply(scene->self, hand->call, &result, sizeof(result));
    hand->call = NULL;
    if (hand->token)
        answer_logic(scene, hand->token, &result);
}

/* Those that stayed, too, when the next hand-over begins. */
static void ask_anew(rr_scene_t *scene) {
    for (rr_session_t *s = scene->all; s; s = s->all_next)
        s->flags &= (uint16_t) ~(RR__STAYS | RR__HELD_BACK);
}

static void reopen(rr_scene_t *scene) {
    free(scene->hand_over);
    scene->hand_over = NULL;
    for (rr__move_t *move = scene->moves; move; move = move->next)
        move->handing = false; /* an ordinary one from now on */
    ask_anew(scene);
    tell_peers(scene, false);
}

static void next_beat(rr_scene_t *scene) {
    if (rr_timer_start(scene->self, BEAT_MS, 0, TAG_HAND_OVER, NULL) != RR_OK) {
        rr_log(scene->system, RR_ERROR, "SCENE", "%s: out of memory: the hand-over ends here", scene->options->name);
        answer(scene, scene->hand_over);
    }
}

/* Those whose handlers take too long go without waiting for them, and those that failed try again. */
static void begin_some(rr_scene_t *scene, uint64_t now) {
    rr__hand_over_t *hand = scene->hand_over;
    for (rr_session_t *s = scene->all, *next; s && hand->moving < MOVING_MAX; s = next) {
        next = s->all_next;
        bool due = !(s->flags & RR__HELD_BACK) || now >= hand->retry_ns || (hand->back && now >= hand->back_ns);
        uint64_t patience = s->flags & RR__HELD_BACK ? hand->late_ns : hand->force_ns;
        if (due && may_go(s) && (s->running == 0 || now >= patience))
            rr__hand_over_session(s);
    }
}

void rr__hand_over_beat(rr_scene_t *scene) {
    rr__hand_over_t *hand = scene->hand_over;
    uint64_t now = rr_now_ns(scene->self);
    if (!hand || scene->stopping)
        return;
    if (now < hand->deadline_ns || hand->over)
        begin_some(scene, now);
    rr__scene_settle(scene);
    if (!hand->over && ((all_quiet(scene) && count_left(scene, true) == 0) || now >= hand->deadline_ns))
        answer(scene, hand);
    if (hand->over && hand->reopen) {
        if (hand->moving == 0)
            reopen(scene);
    }
    if (scene->hand_over && hand->stop)
        rr__scene_stop(scene);
    if (scene->hand_over && !scene->stopping)
        next_beat(scene);
}

static int begin(rr_scene_t *scene, const rr_hand_over_t *head, const char *to, size_t to_size, rr_message_t *call,
                 uint64_t token) {
    bool ends = !(head->flags & RR_HAND_OVER_REOPEN), under_way = scene->hand_over && !scene->hand_over->over;
    if (scene->stopping || (under_way && !(ends && scene->hand_over->reopen)))
        return RR_ESTATE;
    if (to_size >= RR_SID_MAX)
        return RR_EPROTO;
    if (under_way) /* the logic's own: what it asked for ends here */
        answer(scene, scene->hand_over);
    if (ends && scene->hand_over && scene->hand_over->reopen)
        ask_anew(scene);
    rr__hand_over_t *hand = scene->hand_over ? scene->hand_over : calloc(1, sizeof(*hand));
    if (!hand)
        return RR_ENOMEM;
    unsigned ms = head->deadline_ms ? head->deadline_ms : DEADLINE_MS, patience = scene->options->offline_wait_ms;
    uint64_t now = rr_now_ns(scene->self);
    bool beats = scene->hand_over != NULL;
    *hand = (rr__hand_over_t){.call = call,
                              .token = token,
                              .deadline_ns = now + ms * 1000000ull,
                              .force_ns = now + (patience < ms - ms / 4 ? patience : ms - ms / 4) * 1000000ull,
                              .back_ns = now + (ms - ms / 4) * 1000000ull,
                              .late_ns = now + (ms - ms / 8) * 1000000ull,
                              .moving = beats ? hand->moving : 0,
                              .reopen = head->flags & RR_HAND_OVER_REOPEN,
                              .elsewhere = head->flags & RR_HAND_OVER_ELSEWHERE,
                              .back = head->flags & RR_HAND_OVER_BACK};
    memcpy(hand->to, to, to_size);
    scene->hand_over = hand;
    scene->handed_over = !hand->reopen;
    scene->node_ends = hand->elsewhere;
    tell_peers(scene, true);
    if (!beats)
        next_beat(scene);
    return RR_OK;
}

void rr__on_hand_over(rr_scene_t *scene, rr_message_t *msg) {
    rr_hand_over_t head;
    int rc = rr_message_size(msg) < sizeof(head) ? RR_EPROTO : RR_OK;
    if (rc == RR_OK) {
        memcpy(&head, rr_message_data(msg), sizeof(head));
        rc = begin(scene, &head, (const char *)rr_message_data(msg) + sizeof(head), rr_message_size(msg) - sizeof(head),
                   msg, 0);
    }
    if (rc != RR_OK)
        rr_reply_error(scene->self, msg, RR_EHANDLER, rr_strerror(rc));
}

int rr_scene_hand_over(rr_scene_t *scene, const char *to, unsigned deadline_ms, uint64_t token) {
    rr_hand_over_t head = {.deadline_ms = deadline_ms, .flags = RR_HAND_OVER_REOPEN};
    return begin(scene, &head, to ? to : "", to ? strlen(to) : 0, NULL, token);
}

bool rr__hand_over_delays(rr_scene_t *scene) {
    rr__hand_over_t *hand = scene->hand_over;
    uint64_t now = rr_now_ns(scene->self);
    if (!hand || hand->reopen || !hand->over || (!hand->moving && count_left(scene, true) == 0))
        return false; /* one that is stopped before it is finished is cut short */
    if (!hand->stop)
        hand->deadline_ns = now + STOP_WAIT_NS;
    hand->stop = true;
    return now < hand->deadline_ns;
}

void rr__hand_over_stop(rr_scene_t *scene) {
    if (!scene->hand_over)
        return;
    answer(scene, scene->hand_over);
    for (rr__move_t *move = scene->moves; move; move = move->next)
        move->handing = false;
    rr__hand_over_free(scene);
}

void rr__hand_over_free(rr_scene_t *scene) {
    free(scene->hand_over); /* its call is answered by the runtime if it was not */
    scene->hand_over = NULL;
}
