/* scene_queue.c: messages of a session that wait for their turn, and how many may. */
#include <stdlib.h>
#include <string.h>

#include "actors/scene_impl.h"

#define CROWDED_NS 10000000000ull /* between two warnings about full queues */

void rr__queue_drop(rr_session_t *session) {
    rr_count(&rr__scene_of(session)->count.queued, (uint64_t)0 - session->queued);
    rr_count(&rr__scene_of(session)->count.queued_bytes, (uint64_t)0 - session->queued_bytes);
    for (rr__queued_t *item = session->first, *next; item; item = next) {
        next = item->next;
        rr_buffer_unref(item->owner);
        free(item);
    }
    session->first = NULL;
    session->last = &session->first;
    session->queued = session->queued_bytes = 0;
}

/* ---- Messages ---- */

static void run_message(rr_session_t *session, uint16_t cmd, const void *body, size_t size, rr_buffer_t *owner) {
    rr_scene_t *scene = rr__scene_of(session);
    uint64_t token = ++scene->next_token;
    int rc = RR_ENOENT;
    rr_count(&scene->count.messages, 1);
    if (scene->logic->message) {
        rr__logic_begin(scene);
        rc = scene->logic->message(scene->state, session, cmd, body, size, owner, token);
        rr__logic_end(scene);
    }
    if (rc == RR_OK)
        return;
    if (rc == RR_SCRIPT_PENDING)
        session->running += rr__op_add(scene, session, RR__OP_MESSAGE, token);
    else if (rc == RR_ENOENT)
        rr_count(&scene->count.no_handler, 1);
    else if (rc == RR_EENCODING)
        rr_count(&scene->count.bad_bodies, 1);
    else
        rr_count(&scene->count.handler_errors, 1);
}

static bool may_run(const rr_session_t *session, uint16_t cmd) {
    const rr_scene_t *scene = rr__scene_of(session);
    if (session->running >= RR__RUNNING_MAX)
        return false;
    return session->running == 0 || (scene->logic->concurrent && scene->logic->concurrent(scene->state, cmd));
}

static bool total_full(const rr_scene_t *scene, size_t size) {
    uint64_t queued = rr_counted(&scene->count.queued);
    return queued >= scene->options->queue_total_messages ||
           (queued > 0 && rr_counted(&scene->count.queued_bytes) + size > scene->options->queue_total_bytes);
}

/* Whose queue is the longest, by the measure that is exceeded. A walk over all, but each closes one. */
static rr_session_t *longest_queue(rr_scene_t *scene) {
    bool by_count = rr_counted(&scene->count.queued) >= scene->options->queue_total_messages;
    rr_session_t *longest = NULL;
    uint64_t most = 0;
    for (rr_session_t *each = scene->all; each; each = each->all_next) {
        uint64_t size = by_count ? each->queued : each->queued_bytes;
        if (each->first && (!longest || size > most)) {
            longest = each;
            most = size;
        }
    }
    return longest;
}

static void warn_crowded(rr_scene_t *scene, const rr_session_t *session) {
    uint64_t now = rr_now_coarse_ns(scene->self);
    char shown[80];
    if (scene->crowded_ns != 0 && now - scene->crowded_ns < CROWDED_NS) {
        scene->crowded++;
        return;
    }
    rr_log(scene->system, RR_WARN, "SCENE",
           "%s: the sessions' queues are full (queue_total: %llu messages, %llu bytes wait): session %s, which has the most, is "
           "closed (%llu more since the last warning)",
           scene->options->name, (unsigned long long)rr_counted(&scene->count.queued),
           (unsigned long long)rr_counted(&scene->count.queued_bytes), rr_sid_show(&session->id, shown, sizeof(shown)),
           (unsigned long long)scene->crowded);
    scene->crowded_ns = now ? now : 1;
    scene->crowded = 0;
}

/* All queues together are bounded: those that fill them are closed, not who comes next. False: that was this one. */
static bool make_room(rr_session_t *session, size_t size) {
    rr_scene_t *scene = rr__scene_of(session);
    while (total_full(scene, size)) {
        rr_session_t *longest = longest_queue(scene);
        rr_count(&scene->count.queue_total_full, 1);
        warn_crowded(scene, longest);
        rr__close_session(longest, RR_CLOSE_QUEUE);
        rr__queue_drop(longest); /* also if its client has left already */
        if (longest == session)
            return false;
    }
    return true;
}

static void enqueue(rr_session_t *session, uint16_t cmd, const uint8_t *body, size_t size, rr_buffer_t *owner) {
    rr_scene_t *scene = rr__scene_of(session);
    const rr_scene_options_t *options = scene->options;
    if (session->queued >= options->queue_messages || session->queued == UINT16_MAX ||
        (session->queued > 0 && session->queued_bytes + size > options->queue_bytes)) {
        rr_count(&scene->count.queue_full, 1);
        rr__close_session(session, RR_CLOSE_QUEUE);
        return;
    }
    if (!make_room(session, size))
        return;
    bool shared = owner && size > RR_BODY_INLINE;
    rr__queued_t *item = malloc(sizeof(*item) + (shared ? 0 : size));
    if (!item) {
        rr__close_session(session, RR_CLOSE_QUEUE);
        return;
    }
    *item = (rr__queued_t){.size = (uint32_t)size, .cmd = cmd, .body = shared ? body : (const uint8_t *)(item + 1)};
    if (shared)
        item->owner = rr_buffer_ref(owner);
    else if (size)
        memcpy(item + 1, body, size);
    *session->last = item;
    session->last = &item->next;
    session->queued++;
    session->queued_bytes += (uint32_t)size;
    rr_count(&scene->count.queued, 1);
    rr_count(&scene->count.queued_bytes, size);
}

static rr__queued_t *dequeue(rr_session_t *session) {
    rr__queued_t *item = session->first;
    session->first = item->next;
    if (!session->first)
        session->last = &session->first;
    session->queued--;
    session->queued_bytes -= item->size;
    rr__count_down(&rr__scene_of(session)->count.queued);
    rr_count(&rr__scene_of(session)->count.queued_bytes, (uint64_t)0 - item->size);
    return item;
}

void rr__on_message(rr_scene_t *scene, rr__peer_t *peer, const rr_record_t *record, const uint8_t *body, size_t size,
                    rr_buffer_t *owner) {
    rr_session_t *session = rr__session_at(peer, record->slot, record->incarnation);
    if (!session || session->flags & RR__CLOSING || session->state >= RR__AWAY) {
        rr_count(&scene->count.stale, 1);
        return;
    }
    if (session->state != RR__READY || session->first || (session->running != 0 && rr__hand_over_wants(session))) {
        enqueue(session, record->cmd, body, size, owner);
        return;
    }
    if (session->running != 0) {
        rr__logic_begin(scene); /* it may be asked */
        bool now = may_run(session, record->cmd);
        rr__logic_end(scene);
        if (!now) {
            enqueue(session, record->cmd, body, size, owner);
            return;
        }
    }
    run_message(session, record->cmd, body, size, owner);
}

/* Goes on with what waits, as far as the session's state allows. May free the session. */
void rr__session_advance(rr_session_t *session) {
    rr_scene_t *scene = rr__scene_of(session);
    while (session->first && session->state == RR__READY && !rr__hand_over_wants(session)) {
        rr__logic_begin(scene);
        bool now = may_run(session, session->first->cmd);
        rr__logic_end(scene);
        if (!now)
            break;
        rr__queued_t *item = dequeue(session);
        run_message(session, item->cmd, item->body, item->size, item->owner);
        rr_buffer_unref(item->owner);
        free(item);
    }
    if (session->state == RR__READY && (session->flags & (RR__LEFT | RR__WATCHED)) == RR__LEFT && session->running > 0)
        rr__watch(session, scene->offline_wait_ms); /* it left while it was on the move */
    if (session->state == RR__READY && session->running == 0 && rr__hand_over_wants(session)) {
        rr__hand_over_session(session);
        return;
    }
    if (session->state != RR__READY || session->running > 0 || session->first)
        return;
    if (session->flags & RR__LEFT)
        rr__session_offline(session);
    else if (session->flags & RR__ENDING)
        rr__session_over(session);
}
