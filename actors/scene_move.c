/* scene_move.c: a session's move from one scene to another; the protocol stands in protocol.h. */
#include <stdio.h>
#include <stdlib.h>

#include "actors/scene_impl.h"

/* ---- Away ---- */

static void move_free(rr__move_t *move) {
    if (move->session)
        move->session->transit->move = NULL;
    *move->prev = move->next;
    if (move->next)
        move->next->prev = move->prev;
    if (move->handing && move->scene->hand_over)
        move->scene->hand_over->moving--;
    free(move->extra);
    free(move->to);
    free(move);
}

void rr__moves_free(rr_scene_t *scene) {
    while (scene->moves)
        move_free(scene->moves);
}

bool rr__move_set(rr__move_t *move, const char *to, const void *extra, size_t size) {
    char *name = strdup(to);
    void *copy = size ? malloc(size) : NULL;
    if (!name || (size && !copy)) {
        free(name);
        free(copy);
        return false;
    }
    if (size)
        memcpy(copy, extra, size);
    free(move->to);
    free(move->extra);
    move->to = name;
    move->extra = copy;
    move->extra_size = size;
    return true;
}

rr__move_t *rr__move_new(rr_session_t *session, const char *to, const void *extra, size_t size, uint64_t token) {
    rr_scene_t *scene = rr__scene_of(session);
    rr__move_t *move = calloc(1, sizeof(*move));
    if (!move || !rr__move_set(move, to, extra, size))
        goto fail;
    if (!rr__transit(session)) {
        free(move->to);
        free(move->extra);
        goto fail;
    }
    *move = (rr__move_t){.to = move->to,
                         .extra = move->extra,
                         .extra_size = size,
                         .scene = scene,
                         .session = session,
                         .peer = session->peer,
                         .slot = session->slot,
                         .incarnation = session->incarnation,
                         .token = token};
    move->next = scene->moves;
    move->prev = &scene->moves;
    if (move->next)
        move->next->prev = &move->next;
    scene->moves = move;
    session->transit->move = move;
    return move;
fail:
    free(move);
    return NULL;
}

int rr_scene_change(rr_scene_t *scene, const rr_sid_t *id, const char *to, const void *extra, size_t size,
                    uint64_t token) {
    rr_session_t *session = rr_scene_find(scene, id);
    if (!session) {
        rr_count(&scene->count.unknown_sessions, 1);
        return RR_ENOENT;
    }
    if (session->state == RR__MOVING || (session->transit && session->transit->move) || scene->stopping)
        return RR_ESTATE;
    rr__move_t *move = rr__move_new(session, to, extra, size, token);
    if (!move)
        return RR_ENOMEM;
    move->late = session->state == RR__ENTERING;
    if (!move->late)
        rr__move_start(session);
    return RR_OK;
}

static void fail_move(rr__move_t *move, const char *why) {
    rr_scene_t *scene = move->scene;
    if (move->handing && move->session)
        rr__hand_over_failed(move->session);
    rr_count(move->handing ? &scene->count.hand_over_failures : &scene->count.move_failures, 1);
    rr__scene_fail(scene, move->token, why);
    move_free(move);
}

/* The state is READY, or becomes so. */
void rr__move_start(rr_session_t *session) {
    rr_scene_t *scene = rr__scene_of(session);
    rr__move_t *move = session->transit->move;
    char why[200];
    move->late = false;
    move->target = rr__scene_lookup(scene, move->to);
    if (move->target == RR_NOBODY || move->target == scene->addr) {
        session->state = RR__READY;
        snprintf(why, sizeof(why),
                 move->target ? "STATE: the session is in %s already" : "NOROUTE: there is no scene %s", move->to);
        fail_move(move, why);
        return;
    }
    session->state = RR__MOVING;
    move->hop = ++session->hop;
    rr__tell_session(session, RR_REC_MOVE, move->hop);
}

void rr__move_back(rr_session_t *session) {
    rr__move_t *move = session->transit->move;
    move->back = true;
    move->target = rr__scene_of(session)->addr;
    move->hop = ++session->hop;
    rr__tell(session->peer, rr__scene_of(session), RR_REC_MOVE, RR_MOVE_BACK | (move->extra_size ? RR_MOVE_EXTRA : 0),
             session->slot, session->incarnation, move->hop, NULL, 0, NULL, 0);
}

void rr__move_abort(rr_session_t *session, const char *why) {
    rr__move_t *move = session->transit ? session->transit->move : NULL;
    if (!move || move->fenced)
        return;
    if (session->state == RR__MOVING) /* else its enter runs still, or has just ended */
        session->state = RR__READY;
    char text[200];
    snprintf(text, sizeof(text), "CANCELLED: %s", why);
    fail_move(move, text);
}

void rr__move_orphan(rr_session_t *session) {
    rr__move_t *move = session->transit->move;
    if (!move->fenced) {
        fail_move(move, "CANCELLED: the session is over");
        return;
    }
    move->session = NULL; /* its call is out, whose end it waits for */
    session->transit->move = NULL;
}

static rr_buffer_t *enter_encode(const rr_session_t *session, const rr__move_t *move, rr_addr_t login) {
    rr_scene_t *scene = rr__scene_of(session);
    uint8_t sid[RR_SID_MAX];
    const char *gate = session->peer->gate ? session->peer->gate : "";
    rr_enter_head_t head = {.shard = session->peer->addr,
                            .login = login,
                            .incarnation = session->incarnation,
                            .online_time = session->online_time,
                            .slot = session->slot,
                            .hop = move->hop,
                            .gate_size = (uint32_t)strlen(gate),
                            .from_size = (uint32_t)strlen(scene->options->name),
                            .sid_size = (uint32_t)rr_sid_encode(&session->id, sid),
                            .extra_size = (uint32_t)move->extra_size,
                            .hello_flags = session->peer->hello_flags};
    rr_buffer_t *buffer =
        rr_buffer_new(sizeof(head) + head.gate_size + head.from_size + head.sid_size + head.extra_size);
    if (!buffer)
        return NULL;
    uint8_t *p = rr_buffer_data(buffer);
    memcpy(p, &head, sizeof(head));
    p += sizeof(head);
    memcpy(p, gate, head.gate_size);
    p += head.gate_size;
    memcpy(p, scene->options->name, head.from_size);
    p += head.from_size;
    memcpy(p, sid, head.sid_size);
    if (move->extra_size)
        memcpy(p + head.sid_size, move->extra, move->extra_size);
    return buffer;
}

static void stay(rr_session_t *session, rr__move_t *move, const char *why) {
    rr__tell_session(session, RR_REC_STAY, move->hop);
    session->state = RR__READY;
    fail_move(move, why);
    rr__transit_free(session);
    rr__session_advance(session);
}

static void on_leave_called(rr_session_t *session, const char *to) {
    rr_scene_t *scene = rr__scene_of(session);
    if (!scene->logic->leave)
        return;
    uint64_t token = ++scene->next_token;
    rr__logic_begin(scene);
    int rc = scene->logic->leave(scene->state, session, to, token);
    rr__logic_end(scene);
    if (rc == RR_SCRIPT_PENDING)
        session->running += rr__op_add(scene, session, RR__OP_LEAVE, token);
    else if (rc != RR_OK && rc != RR_ENOENT)
        rr_count(&scene->count.handler_errors, 1);
}

static void tell_moved(rr__move_t *move, bool left, unsigned reason) {
    uint8_t body[12];
    rr_put64(body, move->target);
    rr_put32(body + 8, left ? 1 + reason : 0);
    rr__tell(move->peer, move->scene, RR_REC_MOVED, 0, move->slot, move->incarnation, move->hop, body, sizeof(body),
             move->to, strlen(move->to));
}

static void return_messages(rr_session_t *session) {
    for (rr__queued_t *item = session->first; item; item = item->next)
        rr__tell(session->peer, rr__scene_of(session), RR_REC_RETURN, item->cmd, session->slot, session->incarnation, 0, NULL,
                 0, item->body, item->size);
}

static void moved(rr_session_t *session, rr__move_t *move) {
    rr_scene_t *scene = rr__scene_of(session);
    rr_count(&scene->count.moves_out, 1);
    if (move->handing && scene->hand_over)
        rr__hand_over_moved(scene, false, session->running > 0);
    on_leave_called(session, move->to);
    return_messages(session);
    tell_moved(move, session->flags & RR__LEFT, session->reason);
    if (move->token && scene->logic->answer) {
        rr__logic_begin(scene);
        scene->logic->answer(scene->state, move->token, NULL, NULL, 0);
        rr__logic_end(scene);
    }
    move_free(move);
    rr__session_depart(session);
}

/* Its gate has nothing more for us: it gets all that was not handled, and keeps the session, or logs it in again. */
static void given_back(rr_session_t *session, rr__move_t *move, uint16_t what) {
    rr_scene_t *scene = rr__scene_of(session);
    if (what == RR_BACK_REFUSED || !rr__session_held(session)) {
        session->flags |= RR__STAYS;
        stay(session, move, "its gate does not keep it");
        return;
    }
    rr_count(&scene->count.given_back, 1);
    if (move->handing && scene->hand_over)
        rr__hand_over_moved(scene, true, session->running > 0);
    if (what == RR_BACK_KEPT)
        on_leave_called(session, move->to);
    return_messages(session);
    if (what == RR_BACK_KEPT && move->extra_size)
        rr__tell(session->peer, scene, RR_REC_JOIN, RR_JOIN_EXTRA, session->slot, session->incarnation, move->hop, NULL, 0,
                 move->extra, move->extra_size);
    tell_moved(move, false, 0);
    move_free(move);
    if (what == RR_BACK_KEPT)
        rr__session_keep_away(session);
    else
        rr__session_end(session, RR_CLOSE_DRAIN);
}

/* The target may have got the ENTER all the same, and the shard may know of the session no more. */
static void tell_forget(const rr__move_t *move) {
    rr_forget_t which = {
        .shard = move->peer->addr, .incarnation = move->incarnation, .slot = move->slot, .hop = move->hop};
    rr_buffer_t *buffer = rr_buffer_copy(&which, sizeof(which));
    int rc = buffer ? rr_send_unsheddable(move->scene->self, move->target, RR_TYPE_FORGET, buffer, 1) : RR_ENOMEM;
    if (rc != RR_OK && rc != RR_NOROUTE)
        rr_log(move->scene->system, RR_ERROR, "SCENE", "%s: %s cannot be told that a move was given up: %s",
               move->scene->options->name, move->to, rr_strerror(rc));
}

/* How the other scene's enter ended. */
static void on_entered(rr_actor_t *self, void *state, int status, rr_message_t *msg, void *context) {
    rr__move_t *move = context;
    rr_session_t *session = move->session;
    rr_scene_t *scene = move->scene;
    if (!session) { /* forced out meanwhile: whoever has it now must hear that it is gone */
        if (status == RR_OK)
            tell_moved(move, true, RR_CLOSE_REPLACED);
        else if (status != RR_EHANDLER)
            tell_forget(move);
        move_free(move);
    } else if (status == RR_OK) {
        moved(session, move);
    } else {
        char why[300];
        if (status == RR_EHANDLER && msg)
            snprintf(why, sizeof(why), "%.*s", (int)rr_message_size(msg), (const char *)rr_message_data(msg));
        else
            snprintf(why, sizeof(why), "%s: %s: %s", rr_error_name(status), move->to, rr_strerror(status));
        if (status != RR_EHANDLER)
            tell_forget(move);
        stay(session, move, why);
    }
    rr__scene_settle(scene);
    rr__scene_idle(scene);
}

void rr__on_fence(rr_scene_t *scene, rr__peer_t *peer, const rr_record_t *record) {
    rr_session_t *session = rr__session_at(peer, record->slot, record->incarnation);
    rr__move_t *move = session && session->state == RR__MOVING ? session->transit->move : NULL;
    if (!move || move->fenced || move->hop != record->arg)
        return;
    if (record->size < 8) {
        rr_count(&scene->count.bad_records, 1);
        stay(session, move, rr_strerror(RR_EPROTO));
        return;
    }
    if (move->back) {
        given_back(session, move, record->cmd);
        return;
    }
    rr_buffer_t *buffer = enter_encode(session, move, rr_get64(record->body));
    int rc = buffer ? rr_call_buffer(scene->self, move->target, RR_TYPE_ENTER, buffer, scene->options->move_timeout_ms,
                                     on_entered, move, NULL)
                    : RR_ENOMEM;
    if (rc == RR_OK)
        move->fenced = true;
    else
        stay(session, move, rr_strerror(rc));
}

/* ---- Here ---- */

static void name_gate(rr__peer_t *peer, const char *gate, uint32_t flags) {
    if (!peer->gate)
        peer->gate = strdup(gate);
    peer->hello_flags |= flags;
}

/* Is it overtaken by what is known of its slot already? Another node's ENTER may come that late: a later session's news, or a
 * later move's, went by other ways. Incarnations of one shard grow, and so do a session's hops. */
static bool overtaken(const rr__peer_t *peer, const rr_enter_head_t *head) {
    const rr_session_t *known = head->slot < peer->slot_capacity ? peer->slots[head->slot] : NULL;
    if (!known)
        return false;
    if (known->incarnation != head->incarnation)
        return (int64_t)(known->incarnation - head->incarnation) > 0;
    int32_t ahead = (int32_t)(known->hop - head->hop);
    return ahead > 0 || (ahead == 0 && known->state != RR__AWAY); /* an ANNOUNCE may have told of the move already */
}

/* The session object for an ENTER: the one that we know already as its login scene, or a new one. NULL: *error says
 * why. */
static rr_session_t *adopt(rr_scene_t *scene, const rr_enter_t *request, int *error) {
    const rr_enter_head_t *head = &request->head;
    rr__peer_t *peer = rr__peer(scene, head->shard, true);
    rr_session_t *older = rr__session_by_id(scene, &request->id);
    *error = RR_ENOMEM;
    if (!peer)
        return NULL;
    name_gate(peer, request->gate, head->hello_flags);
    *error = RR_STALE;
    if (overtaken(peer, head))
        return NULL;
    if (older && older->incarnation == head->incarnation && older->state == RR__AWAY) {
        rr__count_down(&scene->count.away);
        older->hop = head->hop;
        return older;
    }
    /* The id is registered here by a later login; or this is the session's login scene and has forgotten it: the client
     * left, or was replaced, while it was on its way, and its offline here is done (a second one must not follow).
     * After a restart it may also be that its ANNOUNCE is not here yet: it stays where it is. */
    if ((older && (older->flags & RR__LOGIN)) || head->login == scene->addr)
        return NULL;
    *error = RR_ENOMEM;
    rr_session_t *session = rr__session_new(scene, peer, head->slot, head->incarnation);
    if (!session)
        return NULL;
    session->online_time = (uint32_t)head->online_time;
    session->hop = head->hop;
    if (!rr__session_set_id(session, &request->id) || !rr__transit(session)) {
        rr__session_free(session);
        return NULL;
    }
    return session;
}

void rr__enter_start(rr_session_t *session) {
    rr_enter_t request;
    rr_scene_t *scene = rr__scene_of(session);
    rr_message_t *msg = session->transit->enter;
    if (rr_enter_decode(rr_message_data(msg), rr_message_size(msg), &request) !=
        RR_OK) /* it was decoded before: cannot be */
        return;
    rr_count(&scene->count.moves_in, 1);
    rr__session_enter(session, request.from, request.extra, request.head.extra_size);
}

void rr__on_enter(rr_scene_t *scene, rr_message_t *msg) {
    rr_enter_t request;
    int rc = rr_enter_decode(rr_message_data(msg), rr_message_size(msg), &request);
    if (rc == RR_OK && (scene->stopping || scene->hand_over))
        rc = RR_ESTOPPING;
    rr_session_t *session = rc == RR_OK ? adopt(scene, &request, &rc) : NULL;
    if (!session || !rr__transit(session)) {
        rr_reply_error(scene->self, msg, RR_EHANDLER, rr_strerror(rc));
        return;
    }
    session->transit->enter = msg;
    rr_session_t *older = rr__session_by_id(scene, &request.id);
    if (older && older != session) {
        rr__session_wait_for(session, older);
    } else if (!older && !rr__session_table(session)) {
        rr__session_free(session);
    } else {
        rr__enter_start(session);
    }
}

/* It does not stay here: back to being registered only, or forgotten. */
static void forget(rr_session_t *session) {
    rr__move_abort(session, "the session is not here any more"); /* its enter wanted to move it on */
    if (session->flags & RR__JOINED)
        rr__tell_session(session, RR_REC_PART, session->hop);
    session->flags &= (uint16_t) ~(RR__DROPPED | (session->flags & RR__LOGIN_LEFT ? 0 : RR__LEFT));
    rr__session_depart(session);
}

static void enter_failed(rr_session_t *session, int status) {
    rr_scene_t *scene = rr__scene_of(session);
    char why[160];
    snprintf(why, sizeof(why), "HANDLER: enter failed in %s: %s", scene->options->name, rr_strerror(status));
    rr_reply_error(scene->self, session->transit->enter, RR_EHANDLER, why);
    session->transit->enter = NULL;
    forget(session);
}

void rr__enter_over(rr_session_t *session, int status) {
    rr_scene_t *scene = rr__scene_of(session);
    bool moved_here = session->transit && session->transit->enter;
    if (moved_here && status != RR_OK && status != RR_ENOENT) {
        enter_failed(session, status);
        return;
    }
    if (moved_here) {
        rr_reply(scene->self, session->transit->enter, NULL, 0);
        session->transit->enter = NULL;
    }
    session->state = RR__READY;
    if (session->flags & RR__DROPPED) {
        forget(session);
        return;
    }
    if (session->transit && session->transit->move) {
        if (rr__session_held(session))
            rr__move_start(session);
        else
            rr__move_abort(session, "the client left");
    } else {
        rr__transit_free(session);
    }
    if (session->flags & RR__LOGIN_LEFT)
        rr__watch(session, scene->offline_wait_ms);
    rr__session_advance(session);
}

/* The move that brought it here was given up: its old scene has it still. */
static void drop(rr_session_t *session, uint32_t hop) {
    if (session->hop != hop && !(session->state == RR__MOVING && session->hop == hop + 1))
        return;
    if (session->state == RR__MOVING)
        rr__move_abort(session, "the session is not here any more");
    if (session->state == RR__READY) {
        forget(session);
    } else if (session->state == RR__ENTERING || session->state == RR__WAITING) {
        session->flags |= RR__DROPPED;
        if (session->state == RR__ENTERING) /* its enter may end by itself, for a while */
            rr__watch(session, rr__scene_of(session)->offline_wait_ms);
    }
}

void rr__on_drop(rr_scene_t *scene, rr__peer_t *peer, const rr_record_t *record) {
    rr_session_t *session = rr__session_at(peer, record->slot, record->incarnation);
    if (session)
        drop(session, record->arg);
}

void rr__on_forget(rr_scene_t *scene, const rr_message_t *msg) {
    rr_forget_t which;
    if (rr_message_size(msg) != sizeof(which))
        return;
    memcpy(&which, rr_message_data(msg), sizeof(which));
    rr__peer_t *peer = rr__peer(scene, which.shard, false);
    rr_session_t *session = peer ? rr__session_at(peer, which.slot, which.incarnation) : NULL;
    if (session)
        drop(session, which.hop);
}
