/* scene_login.c: who a client is: the verdict on its login, and one id with several sessions, of which the newest wins. */
#include <stdlib.h>
#include <string.h>

#include "actors/scene_impl.h"

/* ---- Login ---- */

void rr__session_refuse(rr_session_t *session, const void *extra, size_t size, bool has_extra) {
    rr_count(&rr__scene_of(session)->count.refused, 1);
    if (!(session->flags & RR__LEFT))
        rr__tell(session->peer, rr__scene_of(session), RR_REC_REFUSE, 0, session->slot, session->incarnation,
                 has_extra ? RR_ACCEPT_EXTRA : 0, NULL, 0, extra, size);
    rr__session_free(session);
}

/* What a scene without a verifier does: the key is the id. */
static int default_verify(const rr_login_t *login, rr_verdict_t *verdict) {
    *verdict = (rr_verdict_t){.code = RR_EREFUSED};
    if (login->key_size > 0 && login->key_size < RR_SID_MAX)
        *verdict = (rr_verdict_t){.id = {.text = login->key, .size = (uint32_t)login->key_size}};
    return RR_OK;
}

static void verify(rr_session_t *session, const rr_login_t *login) {
    rr_scene_t *scene = rr__scene_of(session);
    rr_verdict_t verdict = {.code = RR_EREFUSED};
    int rc = RR_OK;
    rr__logic_begin(scene);
    if (scene->logic->verify)
        rc = scene->logic->verify(scene->state, login, &verdict);
    else
        rc = default_verify(login, &verdict);
    rr__logic_end(scene);
    if (rc == RR_SCRIPT_PENDING) {
        rr__watch(session, scene->options->verify_timeout_ms);
        return;
    }
    if (!rr_map_take(&scene->verdicts, login->cb_id))
        return; /* answered from inside: that verdict is in todo, and holds */
    session->transit->cb_id = 0;
    if (rc != RR_OK)
        verdict = (rr_verdict_t){.code = RR_EREFUSED};
    rr__on_verdict(session, &verdict);
}

void rr__on_verify(rr_scene_t *scene, rr__peer_t *peer, const rr_record_t *record, const uint8_t *key, size_t size) {
    rr_login_head_t head;
    char ip[64] = "";
    if (record->size < sizeof(head)) {
        rr_count(&scene->count.bad_records, 1);
        return;
    }
    memcpy(&head, record->body, sizeof(head));
    if (head.ip_size >= sizeof(ip) || head.ip_size > record->size - sizeof(head)) {
        rr_count(&scene->count.bad_records, 1);
        return;
    }
    memcpy(ip, record->body + sizeof(head), head.ip_size);
    if (!record->follows) { /* else key is the message that followed */
        key = record->body + sizeof(head) + head.ip_size;
        size = record->size - sizeof(head) - head.ip_size;
    }
    rr_session_t *session = rr__session_new(scene, peer, record->slot, record->incarnation);
    rr__transit_t *transit = session ? rr__transit(session) : NULL;
    uint64_t cb_id = ++scene->next_token;
    if (!transit || scene->stopping || !rr_map_put(&scene->verdicts, cb_id, session)) {
        rr__tell(peer, scene, RR_REC_REFUSE, 0, record->slot, record->incarnation, 0, NULL, 0, NULL, 0);
        if (session)
            rr__session_free(session);
        return;
    }
    transit->cb_id = cb_id;
    transit->login_flags = head.flags;
    session->online_time = (uint32_t)head.online_time;
    session->flags |= RR__LOGIN;
    rr_login_t login = {.key = key,
                        .key_size = size,
                        .online_time = head.online_time,
                        .ip = ip,
                        .gate = peer->gate ? peer->gate : "",
                        .cb_id = cb_id};
    verify(session, &login);
}

/* Verified, and nobody else has the id: the login is done. */
static void admit(rr_session_t *session) {
    rr_scene_t *scene = rr__scene_of(session);
    rr__transit_t *transit = session->transit;
    rr_count(&scene->count.logins, 1);
    session->state = RR__ENTERING;
    if (session->flags & (RR__LEFT | RR__CLOSING)) { /* not here any more: offline, never enter */
        rr__session_offline(session);
        return;
    }
    uint8_t head[4 + RR_SID_MAX];
    size_t sid_size = rr_sid_encode(&session->id, head + 4);
    rr_put32(head, (uint32_t)sid_size);
    rr__tell(session->peer, scene, RR_REC_ACCEPT, 0, session->slot, session->incarnation,
             transit && transit->has_extra ? RR_ACCEPT_EXTRA : 0, head, 4 + sid_size, transit ? transit->extra : NULL,
             transit ? transit->extra_size : 0);
    rr__transit_free(session);
    rr__session_enter(session, "", NULL, 0);
}

bool rr__session_keep_extra(rr_session_t *session, const rr_verdict_t *verdict) {
    if (!verdict->extra)
        return true;
    session->transit->extra = malloc(verdict->extra_size ? verdict->extra_size : 1);
    if (!session->transit->extra)
        return false;
    memcpy(session->transit->extra, verdict->extra, verdict->extra_size);
    session->transit->extra_size = verdict->extra_size;
    session->transit->has_extra = true;
    return true;
}

static bool acceptable(rr_session_t *session, const rr_verdict_t *verdict) {
    rr_sid_t id = verdict->id;
    if (verdict->code != RR_OK)
        return false;
    if (session->transit->login_flags & RR_LOGIN_INT)
        rr_sid_to_int(&id);
    if (id.text ? id.size == 0 || id.size >= RR_SID_MAX : id.number == 0) {
        rr_log(rr__scene_of(session)->system, RR_WARN, "SCENE",
               "%s: verify returned an id that is none (1-255 bytes, or an int other than 0): refused",
               rr__scene_of(session)->options->name);
        return false;
    }
    return rr__session_keep_extra(session, verdict) && rr__session_set_id(session, &id);
}

void rr__on_verdict(rr_session_t *session, const rr_verdict_t *verdict) {
    rr_scene_t *scene = rr__scene_of(session);
    rr__unwatch(session);
    if (!acceptable(session, verdict) || scene->stopping) {
        rr__session_refuse(session, verdict->extra, verdict->extra_size, verdict->extra && verdict->code != RR_OK);
        return;
    }
    rr_session_t *older = rr__session_by_id(scene, &session->id);
    if (older) {
        if (session->flags & RR__LEFT) /* it left before the answer, and another has the id now: no offline of theirs */
            rr__session_free(session);
        else
            rr__session_wait_for(session, older);
        return;
    }
    if (!rr__session_table(session)) {
        rr__session_refuse(session, NULL, 0, false);
        return;
    }
    admit(session);
}

/* ---- One id, several sessions: the newest wins, one after the other ---- */

static void supersede(rr_session_t *session) {
    if (session->flags & (RR__CLOSING | RR__LEFT))
        return; /* it is on its way out already */
    rr_count(&rr__scene_of(session)->count.replaced, 1);
    rr__close_session(session, RR_CLOSE_REPLACED);
}

void rr__session_wait_for(rr_session_t *session, rr_session_t *older) {
    if (!rr__session_rare(older) || !rr__session_rare(session)) {
        if (session->transit->resumed)
            rr__close_session(session, RR_CLOSE_SCENE_GONE);
        if (session->transit->enter || session->transit->resumed || session->transit->announced)
            rr__session_free(session);
        else
            rr__session_refuse(session, NULL, 0, false);
        return;
    }
    session->state = RR__WAITING;
    session->transit->older = older;
    session->transit->next_waiter = NULL;
    rr_session_t **end = &older->rare->waiters;
    while (*end) {
        supersede(*end);
        end = &(*end)->transit->next_waiter;
    }
    *end = session;
    if (older->state != RR__OFFLINE && older->incarnation != session->incarnation)
        supersede(older); /* else it is the same client, back before its last visit was cleared away */
    rr__watch(session, rr__scene_of(session)->options->kick_wait_ms);
}

/* Its former scene, of our name, is gone: it begins here as it had come there. */
void rr__session_resume(rr_session_t *session) {
    rr_scene_t *scene = rr__scene_of(session);
    if (session->flags & (RR__LEFT | RR__CLOSING)) { /* not here any more: offline, never enter */
        rr__session_offline(session);
        return;
    }
    rr_count(&scene->count.resumed, 1);
    void *extra = session->transit->extra;
    size_t size = session->transit->extra_size;
    session->transit->extra = NULL;
    rr__transit_free(session);
    rr__session_enter(session, scene->options->name, extra, size);
    free(extra);
}

rr_session_t *rr__session_take_waiters(rr_session_t *session) {
    rr_session_t *first = session->rare ? session->rare->waiters : NULL;
    if (first)
        session->rare->waiters = NULL;
    return first;
}

void rr__session_promote(rr_session_t *session) {
    rr_session_t *rest = session->transit->next_waiter;
    session->rare->waiters = rest; /* made when it began to wait */
    session->transit->older = NULL;
    session->transit->next_waiter = NULL;
    for (; rest; rest = rest->transit->next_waiter)
        rest->transit->older = session;
    rr__unwatch(session);
    bool moving_in = session->transit->enter;
    if (session->flags & RR__DROPPED || (moving_in && session->flags & RR__LEFT)) {
        rr__session_finish(session); /* its old scene has given the move up, or has its offline when it hears that this one did */
        return;
    }
    if (rr__scene_of(session)->stopping || !rr__session_table(session)) {
        rr__close_session(session, RR_CLOSE_DRAIN);
        rr__session_finish(session);
        return;
    }
    if (moving_in)
        rr__enter_start(session);
    else if (session->transit->resumed)
        rr__session_resume(session);
    else if (session->transit->announced)
        rr__session_keep_away(session);
    else
        admit(session);
}

/* The end of a session here. Who waited for it comes next. */
void rr__session_finish(rr_session_t *session) {
    rr_scene_t *scene = rr__scene_of(session);
    rr_session_t *next = rr__session_take_waiters(session);
    rr__session_free(session);
    if (next)
        rr__session_promote(next);
    rr__scene_idle(scene);
}

/* The older one must be over now, whatever it does. */
void rr__session_force_out(rr_session_t *older) {
    if (!(older->flags & RR__LEFT)) {
        older->flags |= RR__LEFT;
        older->reason = RR_CLOSE_REPLACED;
    }
    rr__session_unmap(older);
    rr__queue_drop(older);
    if (older->state == RR__OFFLINE) {
        rr__session_finish(older);
        return;
    }
    if (!(older->flags & RR__CANCELLED))
        rr__ops_cancel(older);
    rr__ops_orphan(older);
    rr__session_offline(older);
}
