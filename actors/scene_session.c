/* scene_session.c: a session's life in a scene: made, entered, left, its deadlines, its end (spec.md section 5). The states
 * stand in scene_impl.h. */
#include <stdlib.h>
#include <string.h>

#include "actors/scene_impl.h"

#define WATCH_MS   100

enum { TAG_WATCH = 2 }; /* see scene.c */

/* ---- Accessors ---- */

rr_scene_t *rr_session_scene(const rr_session_t *session) {
    return rr__scene_of(session);
}

const rr_sid_t *rr_session_id(const rr_session_t *session) {
    return &session->id;
}

int64_t rr_session_online_time(const rr_session_t *session) {
    return session->online_time;
}

void *rr_session_user(const rr_session_t *session) {
    return session->user;
}

void rr_session_set_user(rr_session_t *session, void *user) {
    session->user = user;
}

bool rr__session_held(const rr_session_t *session) {
    return (session->state == RR__READY || session->state == RR__ENTERING || session->state == RR__MOVING) &&
           !(session->flags & (RR__LEFT | RR__CLOSING));
}

static bool is_id(const void *item, const void *key) {
    return rr_sid_equal(&((const rr_session_t *)item)->id, key);
}

rr_session_t *rr__session_by_id(rr_scene_t *scene, const rr_sid_t *id) {
    return rr_set_find(&scene->ids, rr_sid_hash(id), is_id, id);
}

rr_session_t *rr_scene_find(rr_scene_t *scene, const rr_sid_t *id) {
    rr_session_t *session = rr__session_by_id(scene, id);
    return session && rr__session_held(session) ? session : NULL;
}

void rr_scene_sessions(rr_scene_t *scene, void (*each)(void *context, const rr_sid_t *id), void *context) {
    for (uint32_t i = 0; scene->ids.cells && i <= scene->ids.mask; i++) {
        rr_session_t *session = scene->ids.cells[i].item;
        if (session && rr__session_held(session))
            each(context, &session->id);
    }
}

rr_session_t *rr__session_at(rr__peer_t *peer, uint32_t slot, uint64_t incarnation) {
    rr_session_t *session = slot < peer->slot_capacity ? peer->slots[slot] : NULL;
    return session && session->incarnation == incarnation ? session : NULL;
}

/* ---- Making and freeing ---- */

#define MAX_SLOTS (1u << 24)

static bool map_slot(rr__peer_t *peer, uint32_t slot, rr_session_t *session) {
    if (slot >= peer->slot_capacity) {
        uint32_t capacity = peer->slot_capacity ? peer->slot_capacity : 64;
        while (capacity <= slot)
            capacity *= 2;
        rr_session_t **slots = slot < MAX_SLOTS ? realloc(peer->slots, capacity * sizeof(*slots)) : NULL;
        if (!slots)
            return false;
        memset(slots + peer->slot_capacity, 0, (capacity - peer->slot_capacity) * sizeof(*slots));
        peer->slots = slots;
        peer->slot_capacity = capacity;
    }
    peer->slots[slot] = session;
    return true;
}

static void left(rr_session_t *session, uint32_t flags);

rr_session_t *rr__session_new(rr_scene_t *scene, rr__peer_t *peer, uint32_t slot, uint64_t incarnation) {
    rr_session_t *session = calloc(1, sizeof(*session));
    if (!session)
        return NULL;
    *session = (rr_session_t){.peer = peer, .slot = slot, .incarnation = incarnation};
    session->last = &session->first;
    rr_session_t *former = slot < peer->slot_capacity ? peer->slots[slot] : NULL;
    if (former) { /* the shard gave its slot away: it is gone, and its LEFT would find the new one */
        former->reason = RR_CLOSE_PEER;
        rr__session_unmap(former);
        left(former, RR_LEFT_HOLDER | RR_LEFT_LOGIN);
    }
    if (!map_slot(peer, slot, session)) {
        free(session);
        return NULL;
    }
    session->flags |= RR__MAPPED;
    session->all_next = scene->all;
    session->all_prev = &scene->all;
    if (scene->all)
        scene->all->all_prev = &session->all_next;
    scene->all = session;
    return session;
}

void rr__session_unmap(rr_session_t *session) {
    if (!(session->flags & RR__MAPPED))
        return;
    session->flags &= (uint16_t)~RR__MAPPED;
    session->peer->slots[session->slot] = NULL;
}

static void tell_join(rr_session_t *session, const void *extra, size_t size) {
    rr_scene_t *scene = rr__scene_of(session);
    rr__peer_t *peer = session->peer;
    const char *name = scene->options->name;
    if (!peer->named)
        rr__tell(peer, scene, RR_REC_NAME, 0, 0, 0, 0, name, strlen(name), NULL, 0);
    peer->named = true;
    bool keeps = (peer->hello_flags & RR_HELLO_KEEPS) && size > 0, large = size > RR_KEPT_MAX;
    rr__tell(peer, scene, RR_REC_JOIN, (uint16_t)(!keeps ? 0 : large ? RR_JOIN_NO_EXTRA : RR_JOIN_EXTRA), session->slot,
             session->incarnation, session->hop, NULL, 0, extra, keeps && !large ? size : 0);
}

void rr__session_join(rr_session_t *session, const void *extra, size_t size) {
    if (session->flags & RR__JOINED)
        return;
    session->flags |= RR__JOINED;
    session->peer->held++;
    rr_count(&rr__scene_of(session)->count.sessions, 1);
    tell_join(session, extra, size);
}

void rr__session_part(rr_session_t *session) {
    if (!(session->flags & RR__JOINED))
        return;
    session->flags &= (uint16_t)~RR__JOINED;
    session->peer->held--;
    rr__count_down(&rr__scene_of(session)->count.sessions);
}

bool rr__session_set_id(rr_session_t *session, const rr_sid_t *id) {
    rr_sid_t copy = *id;
    if (id->text) {
        char *text = malloc(id->size + 1);
        if (!text)
            return false;
        memcpy(text, id->text, id->size);
        text[id->size] = 0;
        copy.text = text;
    }
    free((char *)session->id.text);
    session->id = copy;
    return true;
}

bool rr__session_table(rr_session_t *session) {
    rr_scene_t *scene = rr__scene_of(session);
    if (!rr_set_add(&scene->ids, rr_sid_hash(&session->id), session))
        return false;
    scene->ids_version++;
    session->flags |= RR__TABLED;
    return true;
}

static void untable(rr_session_t *session) {
    rr_scene_t *scene = rr__scene_of(session);
    if (!(session->flags & RR__TABLED))
        return;
    rr_set_remove(&scene->ids, rr_sid_hash(&session->id), session);
    scene->ids_version++;
    session->flags &= (uint16_t)~RR__TABLED;
}

rr__transit_t *rr__transit(rr_session_t *session) {
    if (!session->transit)
        session->transit = calloc(1, sizeof(*session->transit));
    return session->transit;
}

void rr__transit_free(rr_session_t *session) {
    if (session->transit)
        free(session->transit->extra);
    free(session->transit);
    session->transit = NULL;
}

int rr__session_set_user(rr_session_t *session) {
    rr_scene_t *scene = rr__scene_of(session);
    if (session->flags & RR__USER)
        return RR_OK;
    int rc = RR_OK;
    if (scene->logic->session_new) {
        rr__logic_begin(scene);
        rc = scene->logic->session_new(scene->state, session);
        rr__logic_end(scene);
    }
    session->flags |= rc == RR_OK ? RR__USER : 0;
    return rc;
}

static void unset_user(rr_session_t *session) {
    rr_scene_t *scene = rr__scene_of(session);
    if ((session->flags & RR__USER) && scene->logic->session_free) {
        rr__logic_begin(scene);
        scene->logic->session_free(scene->state, session);
        rr__logic_end(scene);
    }
    session->flags &= (uint16_t)~RR__USER;
}

/* Handlers that still run end for nobody. */
void rr__ops_orphan(rr_session_t *session) {
    for (rr__op_t *op = session->ops, *next; op; op = next) {
        next = op->next;
        op->session = NULL;
        op->next = NULL;
        op->prev = NULL;
    }
    session->ops = NULL;
    session->running = 0;
}

void rr__session_free(rr_session_t *session) {
    rr_scene_t *scene = rr__scene_of(session);
    rr__session_unmap(session);
    rr__session_part(session);
    untable(session);
    rr__unwatch(session);
    rr__ops_orphan(session);
    rr__queue_drop(session);
    unset_user(session);
    if (session->state == RR__AWAY)
        rr__count_down(&scene->count.away);
    if (session->transit) {
        if (session->transit->cb_id)
            rr_map_take(&scene->verdicts, session->transit->cb_id);
        if (session->transit->move)
            rr__move_orphan(session);
        if (session->transit->enter)
            rr_reply_error(scene->self, session->transit->enter, RR_CANCELLED, "the session left");
    }
    rr__transit_free(session);
    *session->all_prev = session->all_next;
    if (session->all_next)
        session->all_next->all_prev = session->all_prev;
    free((char *)session->id.text);
    free(session->rare);
    free(session);
}

/* ---- Deadlines ---- */

rr__rare_t *rr__session_rare(rr_session_t *session) {
    if (!session->rare)
        session->rare = calloc(1, sizeof(*session->rare));
    return session->rare;
}

void rr__watch(rr_session_t *session, uint64_t ms) {
    rr_scene_t *scene = rr__scene_of(session);
    rr__rare_t *rare = rr__session_rare(session);
    if (!rare) {
        rr_log(scene->system, RR_ERROR, "SCENE", "%s: out of memory: a session's deadline is not watched",
               scene->options->name);
        return;
    }
    rare->deadline_ns = rr_now_coarse_ns(scene->self) + ms * 1000000;
    if (session->flags & RR__WATCHED)
        return;
    session->flags |= RR__WATCHED;
    rare->watch_next = scene->watched;
    rare->watch_prev = &scene->watched;
    if (scene->watched)
        scene->watched->rare->watch_prev = &rare->watch_next;
    scene->watched = session;
    if (!scene->watching && rr_timer_start(scene->self, WATCH_MS, 0, TAG_WATCH, NULL) == RR_OK)
        scene->watching = true;
}

void rr__unwatch(rr_session_t *session) {
    if (!(session->flags & RR__WATCHED))
        return;
    session->flags &= (uint16_t)~RR__WATCHED;
    rr__rare_t *rare = session->rare;
    *rare->watch_prev = rare->watch_next;
    if (rare->watch_next)
        rare->watch_next->rare->watch_prev = rare->watch_prev;
}

/* ---- Pending handlers ---- */

bool rr__op_add(rr_scene_t *scene, rr_session_t *session, rr__op_kind_t kind, uint64_t token) {
    rr__op_t *op = malloc(sizeof(*op));
    if (!op || !rr_map_put(&scene->ops, token, op)) {
        free(op);
        rr_log(scene->system, RR_ERROR, "SCENE", "%s: out of memory: a handler's end will not be noticed",
               scene->options->name);
        return false;
    }
    *op = (rr__op_t){.session = session, .token = token, .kind = kind};
    if (session) {
        op->next = session->ops;
        op->prev = &session->ops;
        if (op->next)
            op->next->prev = &op->next;
        session->ops = op;
    }
    rr_count(&scene->count.pending_handlers, 1);
    return true;
}

static void op_over(rr_session_t *session, rr__op_kind_t kind, int status) {
    rr_scene_t *scene = rr__scene_of(session);
    if (status != RR_OK && status != RR_CANCELLED)
        rr_count(&scene->count.handler_errors, 1);
    switch (kind) {
    case RR__OP_ENTER:
        rr__enter_over(session, status);
        return;
    case RR__OP_OFFLINE:
        rr__session_finish(session);
        return;
    case RR__OP_HAND_OVER: /* ended without an answer */
        rr__hand_over_answered(session, status == RR_OK ? RR_EHANDLER : status, NULL);
        return;
    default:
        session->running--;
        if (session->state == RR__GONE && session->running == 0)
            rr__session_free(session);
        else
            rr__session_advance(session);
    }
}

void rr__on_done(rr_scene_t *scene, uint64_t token, int status) {
    rr__op_t *op = rr_map_take(&scene->ops, token);
    if (!op)
        return;
    rr__count_down(&scene->count.pending_handlers);
    rr_session_t *session = op->session;
    rr__op_kind_t kind = op->kind;
    if (session) {
        *op->prev = op->next;
        if (op->next)
            op->next->prev = op->prev;
    }
    free(op);
    if (kind == RR__OP_LOAD)
        rr__scene_loaded(scene, status, status == RR_EHANDLER ? "init() failed, see the log" : rr_strerror(status));
    else if (kind == RR__OP_CLEANUP)
        rr__scene_cleaned(scene);
    else if (session)
        op_over(session, kind, status);
}

void rr__ops_cancel(rr_session_t *session) {
    rr_scene_t *scene = rr__scene_of(session);
    session->flags |= RR__CANCELLED;
    rr_count(&scene->count.cancelled, session->ops != NULL);
    for (rr__op_t *op = session->ops; op && scene->logic->cancel; op = op->next) {
        rr__logic_begin(scene);
        scene->logic->cancel(scene->state, op->token);
        rr__logic_end(scene);
    }
}

/* ---- Enter ---- */

void rr__session_enter(rr_session_t *session, const char *from, const void *extra, size_t size) {
    rr_scene_t *scene = rr__scene_of(session);
    session->state = RR__ENTERING;
    rr__session_join(session, extra, size);
    uint64_t token = ++scene->next_token;
    int rc = rr__session_set_user(session);
    if (rc == RR_OK && scene->logic->enter) {
        rr__logic_begin(scene);
        rc = scene->logic->enter(scene->state, session, from, extra, size, token);
        rr__logic_end(scene);
    }
    if (rc == RR_SCRIPT_PENDING && rr__op_add(scene, session, RR__OP_ENTER, token))
        return;
    if (rc != RR_OK && rc != RR_ENOENT)
        rr_count(&scene->count.handler_errors, 1);
    rr__enter_over(session, rc);
}

/* ---- Leaving ---- */

void rr__session_offline(rr_session_t *session) {
    rr_scene_t *scene = rr__scene_of(session);
    if (session->state == RR__AWAY)
        rr__count_down(&scene->count.away);
    session->state = RR__OFFLINE;
    session->flags &= (uint16_t)~RR__CANCELLED;
    if (session->transit && session->transit->move)
        rr__move_orphan(session); /* forced out: the move's end is not to begin anything any more */
    rr__queue_drop(session);
    rr__session_part(session);
    rr_count(&scene->count.offlines, 1);
    int rc = rr__session_set_user(session);
    uint64_t token = ++scene->next_token;
    if (rc == RR_OK && scene->logic->offline) {
        rr__logic_begin(scene);
        rc = scene->logic->offline(scene->state, session, session->online_time, rr_close_label(session->reason), token);
        rr__logic_end(scene);
    }
    if (rc == RR_SCRIPT_PENDING && rr__op_add(scene, session, RR__OP_OFFLINE, token)) {
        rr__watch(session, scene->offline_wait_ms);
        return;
    }
    if (rc != RR_OK && rc != RR_ENOENT)
        rr_count(&scene->count.handler_errors, 1);
    rr__session_finish(session);
}

/* The client is gone from a session that this scene holds, or is about to. */
static void left_holder(rr_session_t *session) {
    if (session->flags & RR__LEFT)
        return;
    session->flags |= RR__LEFT;
    rr__session_unmap(session);
    rr__session_part(session);
    if (session->state == RR__MOVING)
        rr__move_abort(session, "the client left");
    if (session->flags & RR__CLOSING)
        rr__queue_drop(session);
    if (session->running > 0 || session->state == RR__ENTERING)
        rr__watch(session, rr__scene_of(session)->offline_wait_ms);
    rr__session_advance(session);
}

static void left(rr_session_t *session, uint32_t flags) {
    switch ((rr__session_state_t)session->state) {
    case RR__VERIFYING:
    case RR__WAITING:
        session->flags |= RR__LEFT;
        rr__session_unmap(session);
        break;
    case RR__AWAY:
        session->flags |= RR__LEFT;
        rr__session_unmap(session);
        rr__session_offline(session);
        break;
    case RR__ENTERING:
    case RR__READY:
    case RR__MOVING:
        if (flags & RR_LEFT_HOLDER) {
            left_holder(session);
        } else { /* moved to its login scene, and left before its shard knew */
            session->flags |= RR__LOGIN_LEFT;
            if (session->state == RR__READY)
                rr__watch(session, rr__scene_of(session)->offline_wait_ms);
        }
        break;
    default:
        break;
    }
}

void rr__on_left(rr_scene_t *scene, rr__peer_t *peer, const rr_record_t *record) {
    rr_session_t *session = rr__session_at(peer, record->slot, record->incarnation);
    uint32_t reason = record->arg & RR_LEFT_REASON;
    if (!session || reason >= RR_CLOSE_REASON_COUNT) {
        rr_count(&scene->count.stale, 1);
        return;
    }
    session->reason = (uint8_t)reason;
    left(session, record->arg);
}

/* Given back to its gate. Whether it has its id here or not, it is known until this scene's end: a client that leaves before
 * that is offline here. May free the session. */
void rr__session_keep_away(rr_session_t *session) {
    rr__transit_free(session);
    rr__queue_drop(session);
    rr__session_part(session);
    session->state = RR__AWAY;
    rr_count(&rr__scene_of(session)->count.away, 1);
    if (session->flags & (RR__LEFT | RR__LOGIN_LEFT))
        rr__session_offline(session);
}

void rr__session_end(rr_session_t *session, rr_close_reason_t reason) {
    rr__transit_free(session);
    rr__queue_drop(session);
    session->state = RR__READY;
    session->reason = (uint8_t)reason;
    left(session, RR_LEFT_HOLDER | RR_LEFT_LOGIN);
}

/* Moved to another scene with success. The login scene keeps the id. May free the session. */
void rr__session_depart(rr_session_t *session) {
    if (session->flags & RR__LOGIN) {
        rr__session_keep_away(session);
        return;
    }
    rr__transit_free(session);
    rr__queue_drop(session);
    rr__session_part(session);
    rr_session_t *next = rr__session_take_waiters(session);
    rr__unwatch(session);
    rr__session_unmap(session);
    untable(session);
    session->state = RR__GONE;
    if (session->running == 0)
        rr__session_free(session);
    if (next)
        rr__session_promote(next);
}

/* Is it the same session, from before its gate was out of reach? Its end here is under way then. */
static bool is_former(const rr_session_t *older, const rr__peer_t *peer, uint64_t incarnation) {
    return older->peer->dead && older->peer->addr == peer->addr && older->incarnation == incarnation;
}

static void resume_as(rr_scene_t *scene, rr__peer_t *peer, const rr_record_t *record, const rr_resume_head_t *head,
                      const rr_sid_t *id, const void *extra, size_t size) {
    rr_session_t *older = rr__session_by_id(scene, id);
    bool known = rr__session_at(peer, record->slot, record->incarnation);
    bool taken = older && !is_former(older, peer, record->incarnation) &&
                 ((head->flags & RR_RESUME_LOGIN) || older->flags & RR__LOGIN);
    if (known || taken || scene->stopping) {
        rr__tell(peer, scene, RR_REC_CLOSE, 0, record->slot, record->incarnation,
                 taken ? RR_CLOSE_REPLACED : RR_CLOSE_SCENE_GONE, NULL, 0, NULL, 0);
        return;
    }
    rr_session_t *session = rr__session_new(scene, peer, record->slot, record->incarnation);
    rr__transit_t *transit = session ? rr__transit(session) : NULL;
    rr_verdict_t came = {.extra = size ? extra : NULL, .extra_size = size};
    if (!transit || !rr__session_keep_extra(session, &came) || !rr__session_set_id(session, id) ||
        (!older && !rr__session_table(session))) {
        rr__tell(peer, scene, RR_REC_CLOSE, 0, record->slot, record->incarnation, RR_CLOSE_SCENE_GONE, NULL, 0, NULL, 0);
        if (session)
            rr__session_free(session);
        return;
    }
    transit->resumed = true;
    session->online_time = (uint32_t)head->online_time;
    session->hop = record->arg;
    session->flags |= head->flags & RR_RESUME_LOGIN ? RR__LOGIN : 0;
    if (older)
        rr__session_wait_for(session, older);
    else
        rr__session_resume(session);
}

void rr__on_resume(rr_scene_t *scene, rr__peer_t *peer, const rr_record_t *record, const uint8_t *body, size_t size) {
    rr_resume_head_t head;
    rr_sid_t id;
    if (record->size < sizeof(head)) {
        rr_count(&scene->count.bad_records, 1);
        return;
    }
    memcpy(&head, record->body, sizeof(head));
    if (head.sid_size > record->size - sizeof(head) ||
        rr_sid_decode(record->body + sizeof(head), head.sid_size, &id) != RR_OK) {
        rr_count(&scene->count.bad_records, 1);
        return;
    }
    if (!record->follows) { /* else body is the message that followed */
        body = record->body + sizeof(head) + head.sid_size;
        size = record->size - sizeof(head) - head.sid_size;
    }
    resume_as(scene, peer, record, &head, &id, body, size);
}

void rr__on_announce(rr_scene_t *scene, rr__peer_t *peer, const rr_record_t *record) {
    rr_sid_t id;
    if (record->size < 9 || rr_sid_decode(record->body + 8, record->size - 8, &id) != RR_OK) {
        rr_count(&scene->count.bad_records, 1);
        return;
    }
    rr_session_t *known = rr__session_at(peer, record->slot, record->incarnation);
    if (known) { /* it was moved here while its shard knew of its former login scene only: the id is ours from now on */
        known->flags |= RR__LOGIN;
        return;
    }
    rr_session_t *older = rr__session_by_id(scene, &id);
    if (older && !is_former(older, peer, record->incarnation)) { /* logged in anew while we were away */
        rr__tell(peer, scene, RR_REC_CLOSE, 0, record->slot, record->incarnation, RR_CLOSE_REPLACED, NULL, 0, NULL, 0);
        return;
    }
    rr_session_t *session = rr__session_new(scene, peer, record->slot, record->incarnation);
    if (!session)
        return;
    session->flags |= RR__LOGIN;
    session->hop = record->arg;
    session->online_time = (uint32_t)rr_get64(record->body);
    if (!rr__session_set_id(session, &id) || (older ? !rr__transit(session) : !rr__session_table(session))) {
        rr__session_free(session);
        return;
    }
    if (!older) {
        rr__session_keep_away(session);
        return;
    }
    session->transit->announced = true;
    rr__session_wait_for(session, older);
}

/* ---- When time is up ---- */

static void verify_over(rr_session_t *session) {
    rr_scene_t *scene = rr__scene_of(session);
    rr_count(&scene->count.verify_timeouts, 1);
    rr_log(scene->system, RR_WARN, "SCENE", "%s: no answer to a login within %u ms: refused", scene->options->name,
           scene->options->verify_timeout_ms);
    rr__session_refuse(session, NULL, 0, false);
}

/* Its handlers had their time after the client left: once to end by being cancelled, once without being asked. */
static void handlers_over(rr_session_t *session) {
    if (!(session->flags & RR__CANCELLED)) {
        rr__queue_drop(session);
        rr__watch(session, rr__scene_of(session)->offline_wait_ms);
        rr__ops_cancel(session);
        return;
    }
    rr_log(rr__scene_of(session)->system, RR_WARN, "SCENE",
           "%s: a handler of a session that left ignores its cancellation", rr__scene_of(session)->options->name);
    rr__ops_orphan(session);
    if (session->state == RR__OFFLINE) {
        rr__session_finish(session);
    } else if (session->state == RR__ENTERING) {
        rr__enter_over(session, RR_CANCELLED);
    } else {
        rr__session_offline(session);
    }
}

static void deadline(rr_session_t *session) {
    switch ((rr__session_state_t)session->state) {
    case RR__VERIFYING:
        verify_over(session);
        break;
    case RR__WAITING:
        rr__session_force_out(session->transit->older);
        break;
    case RR__READY:
    case RR__ENTERING:
        if (!(session->flags & RR__LEFT) && (session->flags & RR__LOGIN_LEFT)) {
            left_holder(session);
        } else if ((session->flags & (RR__LEFT | RR__ENDING)) == RR__ENDING) {
            rr__queue_drop(session); /* else the next one begins, as one that was cancelled already */
            rr__ops_cancel(session);
            rr__session_over(session);
        } else if (session->flags & (RR__LEFT | RR__DROPPED)) {
            handlers_over(session);
        }
        break;
    case RR__OFFLINE:
        handlers_over(session);
        break;
    case RR__GONE:
        rr__ops_cancel(session);
        break;
    default:
        break;
    }
}

void rr__on_watch(rr_scene_t *scene) {
    scene->watching = false;
    uint64_t now = rr_now_ns(scene->self);
    rr_session_t *due;
    do { /* a deadline may free any session: from the front again after each */
        due = scene->watched;
        while (due && due->rare->deadline_ns > now)
            due = due->rare->watch_next;
        if (due) {
            rr__unwatch(due);
            deadline(due);
            rr__scene_settle(scene);
        }
    } while (due);
    if (scene->watched && rr_timer_start(scene->self, WATCH_MS, 0, TAG_WATCH, NULL) == RR_OK)
        scene->watching = true;
}

/* ---- All at once ---- */

void rr__peer_down(rr_scene_t *scene, rr__peer_t *peer) {
    peer->dead = true;
    for (uint32_t slot = 0; slot < peer->slot_capacity; slot++) {
        rr_session_t *session = peer->slots[slot];
        if (!session)
            continue;
        session->reason = RR_CLOSE_IO;
        left(session, RR_LEFT_HOLDER | RR_LEFT_LOGIN);
        rr__scene_settle(scene);
    }
    rr__peer_dirty(scene, peer); /* drops what was for it */
}

/* The client is still connected, but from here on its session is over. */
void rr__session_over(rr_session_t *session) {
    session->flags &= (uint16_t)~RR__ENDING;
    if (session->flags & RR__ENDS_HERE)
        rr__close_session(session, RR_CLOSE_DRAIN);
    else if (!(session->flags & RR__LEFT))
        rr__tell_session(session, RR_REC_PART, session->hop);
    left(session, RR_LEFT_HOLDER | RR_LEFT_LOGIN);
}

static bool at_work(const rr_session_t *session) {
    if (session->flags & (RR__LEFT | RR__CLOSING | RR__LOGIN_LEFT))
        return false;
    return session->state == RR__ENTERING || (session->state == RR__READY && (session->running > 0 || session->first));
}

/* The clients are still connected: what running handlers and the others' offline handlers say reaches those whose turn
 * is yet to come. */
static void stop_session(rr_session_t *session) {
    rr_scene_t *scene = rr__scene_of(session);
    session->reason = RR_CLOSE_DRAIN;
    if (session->state == RR__WAITING)
        return; /* it follows its older one */
    if (session->state == RR__AWAY && scene->handed_over && !rr__hand_over_ends(session)) { /* it lives on; our successor hears of it from its gate */
        rr__session_free(session);
        return;
    }
    if (session->state == RR__MOVING && session->transit->move->fenced)
        return; /* its end comes in time, and with it either scene's offline */
    if (at_work(session)) {
        session->flags |= RR__ENDING;
        rr__watch(session, scene->offline_wait_ms);
        return;
    }
    rr__session_over(session);
    rr__scene_settle(scene);
}

void rr__sessions_stop(rr_scene_t *scene) {
    uint64_t cb_id;
    for (rr_session_t *session; (session = rr_map_any(&scene->verdicts, &cb_id));)
        rr__session_refuse(session, NULL, 0, false); /* also those whose clients have left */
    for (rr__peer_t *peer = scene->peers; peer; peer = peer->next)
        for (uint32_t slot = 0; slot < peer->slot_capacity; slot++)
            if (peer->slots[slot])
                stop_session(peer->slots[slot]);
    for (rr_session_t *session = scene->all, *next; session; session = next) {
        next = session->all_next;
        if (session->state == RR__GONE)
            rr__watch(session, scene->handed_over ? 0 : scene->offline_wait_ms); /* a hand-over has waited for it already */
    }
}

void rr__sessions_free(rr_scene_t *scene) {
    uint64_t token;
    while (scene->all)
        rr__session_free(scene->all);
    for (rr__op_t *op; (op = rr_map_any(&scene->ops, &token));) {
        rr_map_take(&scene->ops, token);
        free(op);
    }
    rr_map_free(&scene->ops);
    rr_map_free(&scene->verdicts);
    rr_set_free(&scene->ids);
}
