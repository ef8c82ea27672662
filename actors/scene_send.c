/* scene_send.c: what a scene says to its clients: one outlet per shard, sent when the turn ends. */
#include <stdio.h>
#include <stdlib.h>

#include "actors/scene_impl.h"

#define FLUSH_BYTES (256u << 10) /* within a turn: a shard gets to work while the scene goes on */
#define RETRY_MS    2
#define WARN_NS     10000000000ull

enum { TAG_RETRY = 3 }; /* see scene.c */

/* ---- Peers ---- */

rr__peer_t *rr__peer(rr_scene_t *scene, rr_addr_t addr, bool create) {
    for (rr__peer_t *peer = scene->peers; peer; peer = peer->next)
        if (peer->addr == addr && !peer->dead)
            return peer;
    if (!create)
        return NULL;
    rr__peer_t *peer = calloc(1, sizeof(*peer));
    uint64_t monitor;
    if (!peer)
        return NULL;
    if (rr_monitor(scene->self, addr, &monitor) != RR_OK)
        goto fail;
    if (!rr_map_put(&scene->downs, monitor, peer)) {
        rr_demonitor(scene->self, monitor);
        goto fail;
    }
    peer->addr = addr;
    peer->scene = scene;
    peer->window = 8192;
    peer->window_bytes = 8u << 20;
    rr_outlet_init(&peer->out, RR_TYPE_OUTPUT);
    peer->next = scene->peers;
    scene->peers = peer;
    return peer;
fail:
    free(peer);
    return NULL;
}

void rr__peers_free(rr_scene_t *scene) {
    for (rr__peer_t *peer = scene->peers, *next; peer; peer = next) {
        next = peer->next;
        rr_outlet_free(&peer->out);
        free(peer->pending_head);
        free(peer->slots);
        free(peer->gate);
        free(peer);
    }
    scene->peers = scene->dirty = NULL;
    for (unsigned i = 0; i < RR_SCRIPT_LISTS; i++) {
        free(scene->lists[i].sessions);
        scene->lists[i] = (rr__known_list_t){0};
    }
}

void rr__peer_dirty(rr_scene_t *scene, rr__peer_t *peer) {
    if (peer->dirty)
        return;
    peer->dirty = true;
    peer->next_dirty = scene->dirty;
    scene->dirty = peer;
}

/* ---- Sending what is there ---- */

static void add_ack(rr__peer_t *peer) {
    uint64_t messages = peer->messages - peer->acked_messages, bytes = peer->bytes - peer->acked_bytes;
    if (messages == 0 || (rr_outlet_empty(&peer->out) && messages < peer->window / 4 && bytes < peer->window_bytes / 4))
        return;
    uint8_t *body = rr_outlet_add(&peer->out, RR_REC_ACK, 0, 0, 0, 0, 16);
    if (!body)
        return; /* the next one says it */
    rr_put64(body, peer->messages);
    rr_put64(body + 8, peer->bytes);
    peer->acked_messages = peer->messages;
    peer->acked_bytes = peer->bytes;
}

static void set_blocked(rr_scene_t *scene, rr__peer_t *peer, bool blocked) {
    if (peer->blocked == blocked)
        return;
    peer->blocked = blocked;
    scene->blocked += blocked ? 1 : (unsigned)-1;
    if (!blocked && scene->blocked == 0)
        rr__scene_again(scene);
}

static void flush_peer(rr_scene_t *scene, rr__peer_t *peer, uint64_t now_ns) {
    if (peer->dead) {
        set_blocked(scene, peer, false);
        rr_outlet_free(&peer->out);
        peer->listed = (rr__listed_t){0}; /* its offline handlers may fill another batch, which counts from nothing */
        return;
    }
    add_ack(peer);
    const rr__segment_t *segment;
    int rc = RR_OK;
    while (!rr_outlet_empty(&peer->out)) {
        segment = rr_outlet_peek(&peer->out, now_ns);
        rc = segment ? rr_send_batch(scene->self, peer->addr, segment->type, rr_buffer_ref(segment->buffer),
                                     segment->weight)
                     : RR_ENOMEM;
        if (rc == RR_EFULL || rc == RR_ENOMEM)
            break;
        rr_outlet_pop(&peer->out); /* sent, or nobody is there any more: its end will be told */
    }
    set_blocked(scene, peer, rc == RR_EFULL || rc == RR_ENOMEM);
}

static void retry_later(rr_scene_t *scene) {
    if (!scene->retrying && rr_timer_start(scene->self, RETRY_MS, 0, TAG_RETRY, NULL) == RR_OK)
        scene->retrying = true;
}

void rr__scene_flush(rr_scene_t *scene) {
    uint64_t now = scene->dirty ? rr_now_ns(scene->self) : 0;
    rr__peer_t *peer = scene->dirty;
    scene->dirty = NULL;
    for (rr__peer_t *next; peer; peer = next) {
        next = peer->next_dirty;
        peer->dirty = false;
        flush_peer(scene, peer, now);
        if (peer->blocked)
            rr__peer_dirty(scene, peer);
    }
    if (scene->dirty)
        retry_later(scene);
    scene->flushed_ns = now ? now : scene->flushed_ns;
}

/* ---- Records ---- */

static void after_put(rr_scene_t *scene, rr__peer_t *peer) {
    rr__peer_dirty(scene, peer);
    if (peer->out.bytes >= FLUSH_BYTES && !peer->blocked)
        flush_peer(scene, peer, rr_now_coarse_ns(scene->self));
}

void rr__tell(rr__peer_t *peer, rr_scene_t *scene, uint16_t kind, uint16_t cmd, uint32_t slot, uint64_t incarnation,
              uint32_t arg, const void *head, size_t head_size, const void *body, size_t size) {
    if (peer->dead)
        return;
    if (rr_outlet_put(&peer->out, kind, cmd, slot, incarnation, arg, head, head_size, body, size, NULL) != RR_OK)
        rr_log(scene->system, RR_ERROR, "SCENE", "%s: out of memory: gate %s is not told about a session",
               scene->options->name, peer->gate ? peer->gate : "?");
    after_put(scene, peer);
}

void rr__tell_session(rr_session_t *session, uint16_t kind, uint32_t arg) {
    rr__tell(session->peer, rr__scene_of(session), kind, 0, session->slot, session->incarnation, arg, NULL, 0, NULL, 0);
}

static int refused(rr_scene_t *scene) {
    rr_count(&scene->count.send_refused, 1);
    return RR_EFULL;
}

/* Counts, and says so at most once in ten seconds. */
static int unknown(rr_scene_t *scene, const rr_sid_t *id, const char *what) {
    rr_count(&scene->count.unknown_sessions, 1);
    uint64_t now = rr_now_coarse_ns(scene->self);
    if (scene->warned_ns != 0 && now - scene->warned_ns < WARN_NS) {
        scene->unwarned++;
        return RR_ENOENT;
    }
    char shown[80];
    rr_log(scene->system, RR_WARN, "SCENE", "%s: %s: session %s is not here (%llu more since the last warning)",
           scene->options->name, what, rr_sid_show(id, shown, sizeof(shown)), (unsigned long long)scene->unwarned);
    scene->warned_ns = now ? now : 1;
    scene->unwarned = 0;
    return RR_ENOENT;
}

static void count_sent(rr_scene_t *scene, rr_counter_t *counter, size_t size) {
    rr_count(counter, 1);
    rr_count(&scene->count.sent_bytes, size);
}

int rr_scene_send(rr_scene_t *scene, rr_session_t *session, uint16_t cmd, const void *body, size_t size, bool text) {
    if (!rr__session_held(session))
        return unknown(scene, &session->id, "send");
    rr__peer_t *peer = session->peer;
    if (peer->out.bytes > scene->options->outbox_limit)
        return refused(scene);
    int rc = rr_outlet_put(&peer->out, RR_REC_SEND, cmd, session->slot, session->incarnation, text ? RR_SEND_TEXT : 0,
                           NULL, 0, body, size, NULL);
    if (rc != RR_OK)
        return rc;
    count_sent(scene, &scene->count.sends, size);
    after_put(scene, peer);
    return RR_OK;
}

int rr_scene_send_id(rr_scene_t *scene, const rr_sid_t *id, uint16_t cmd, const void *body, size_t size, bool text) {
    rr_session_t *session = rr__session_by_id(scene, id);
    return session ? rr_scene_send(scene, session, cmd, body, size, text) : unknown(scene, id, "send");
}

/* ---- To many ---- */

static bool all_different(const rr__peer_t *peer, const uint8_t *list, size_t count) {
    uint8_t *seen = calloc(peer->slot_capacity / 8 + 1, 1);
    bool different = seen;
    for (size_t i = 0; different && i < count; i++) {
        uint32_t slot = rr_get32(list + i * RR_LIST_ENTRY + 8);
        different = !(seen[slot / 8] >> slot % 8 & 1);
        seen[slot / 8] |= (uint8_t)(1u << slot % 8);
    }
    free(seen);
    return different;
}

/* The shard has this list already: it is the last one in the batch that goes on. Who is in a list twice gets each message
 * twice before the next one; the shard, which may send several of one list at once, does not look for that. */
static bool listed_before(rr__peer_t *peer, const uint8_t *list, size_t count) {
    rr__listed_t *last = &peer->listed;
    if (last->count != count || last->cuts != peer->out.cuts || !rr_outlet_goes_on(&peer->out) ||
        memcmp(peer->out.batch.data + last->at, list, count * RR_LIST_ENTRY) != 0)
        return false;
    if (last->kind == RR__LIST_NEW)
        last->kind = all_different(peer, list, count) ? RR__LIST_DIFFERENT : RR__LIST_DOUBLE;
    return last->kind == RR__LIST_DIFFERENT;
}

static int put_multicast(rr__peer_t *peer, const uint8_t *list, size_t count, uint16_t cmd, const void *body, size_t size,
                         bool text, rr_buffer_t *owner) {
    uint32_t arg = text ? RR_SEND_TEXT : 0;
    if (size > RR_BODY_INLINE) /* ends the batch */
        return rr_outlet_put(&peer->out, RR_REC_MULTICAST, cmd, (uint32_t)count, 0, arg, list, count * RR_LIST_ENTRY,
                             body, size, owner);
    if (listed_before(peer, list, count))
        return rr_outlet_put(&peer->out, RR_REC_MULTICAST, cmd, (uint32_t)count, 0, arg | RR_SEND_SAME, NULL, 0, body,
                             size, owner);
    size_t at = (rr_outlet_goes_on(&peer->out) ? peer->out.batch.size : RR_BATCH_HEAD) + RR_RECORD_HEAD;
    int rc = rr_outlet_put(&peer->out, RR_REC_MULTICAST, cmd, (uint32_t)count, 0, arg, list, count * RR_LIST_ENTRY, body,
                           size, owner);
    if (rc == RR_OK)
        peer->listed = (rr__listed_t){.count = (uint32_t)count, .cuts = peer->out.cuts, .at = at};
    return rc;
}

/* Sends to those of `found` that live on this shard. */
static size_t multi_send_peer(rr_scene_t *scene, rr__peer_t *peer, rr_session_t *const *found, size_t count,
                              uint16_t cmd, const void *body, size_t size, bool text, rr_buffer_t *owner) {
    size_t here = 0;
    for (size_t i = 0; i < count; i++)
        here += found[i]->peer == peer;
    if (here == 0 || peer->out.bytes > scene->options->outbox_limit) {
        rr_count(&scene->count.send_refused, here);
        return 0;
    }
    uint8_t *list = malloc(here * RR_LIST_ENTRY), *p = list;
    if (!list)
        return 0;
    for (size_t i = 0; i < count; i++) {
        if (found[i]->peer != peer)
            continue;
        rr_put64(p, found[i]->incarnation);
        rr_put32(p + 8, found[i]->slot);
        rr_put32(p + 12, 0);
        p += RR_LIST_ENTRY;
    }
    int rc = put_multicast(peer, list, here, cmd, body, size, text, owner);
    free(list);
    after_put(scene, peer);
    return rc == RR_OK ? here : 0;
}

/* A body for several shards is made one buffer, unless it is small enough to be copied into each batch. */
static bool shared_body(rr_scene_t *scene, const void **body, size_t size, rr_buffer_t **owner) {
    *owner = NULL;
    if (size <= RR_BODY_INLINE || !scene->peers || !scene->peers->next)
        return true;
    *owner = rr_buffer_copy(*body, size);
    if (*owner)
        *body = rr_buffer_data(*owner);
    return *owner != NULL;
}

/* What is remembered of the list, looked up anew if ids have come or gone since. NULL: without memory. */
static const rr__known_list_t *known_list(rr_scene_t *scene, const rr_sid_t *ids, size_t count, uint64_t number) {
    rr__known_list_t *list = &scene->lists[number % RR_SCRIPT_LISTS];
    if (list->number == number && list->version == scene->ids_version)
        return list;
    rr_session_t **sessions = list->number == number ? list->sessions : malloc((count ? count : 1) * sizeof(*sessions));
    if (!sessions)
        return NULL;
    if (list->number != number)
        free(list->sessions);
    for (size_t i = 0; i < count; i++)
        sessions[i] = rr__session_by_id(scene, &ids[i]);
    *list = (rr__known_list_t){number, scene->ids_version, sessions};
    return list;
}

size_t rr_scene_multi_send(rr_scene_t *scene, const rr_sid_t *ids, size_t count, uint64_t list, uint16_t cmd,
                           const void *body, size_t size, bool text) {
    const rr__known_list_t *whose = list ? known_list(scene, ids, count, list) : NULL;
    rr_session_t **found = malloc((count ? count : 1) * sizeof(*found));
    rr_buffer_t *owner;
    size_t known = 0, sent = 0;
    if (!found)
        return 0;
    if (!shared_body(scene, &body, size, &owner))
        goto out;
    for (size_t i = 0; i < count; i++) {
        rr_session_t *session = whose ? whose->sessions[i] : rr__session_by_id(scene, &ids[i]);
        if (session && rr__session_held(session))
            found[known++] = session;
        else
            unknown(scene, &ids[i], "multi_send");
    }
    for (rr__peer_t *peer = scene->peers; peer && known; peer = peer->next)
        sent += multi_send_peer(scene, peer, found, known, cmd, body, size, text, owner);
    count_sent(scene, &scene->count.multicasts, size);
out:
    rr_buffer_unref(owner);
    free(found);
    return sent;
}

static int cast_peer(rr_scene_t *scene, rr__peer_t *peer, uint16_t kind, uint16_t cmd, const void *body, size_t size,
                     bool text, rr_buffer_t *owner) {
    if (peer->out.bytes > scene->options->outbox_limit)
        return refused(scene);
    int rc = rr_outlet_put(&peer->out, kind, cmd, 0, 0, text ? RR_SEND_TEXT : 0, NULL, 0, body, size, owner);
    after_put(scene, peer);
    return rc;
}

int rr_scene_broadcast(rr_scene_t *scene, uint16_t cmd, const void *body, size_t size, bool text) {
    rr_buffer_t *owner;
    if (!shared_body(scene, &body, size, &owner))
        return RR_ENOMEM;
    int rc = RR_OK;
    for (rr__peer_t *peer = scene->peers; peer; peer = peer->next) {
        int one =
            peer->held && !peer->dead ? cast_peer(scene, peer, RR_REC_BROADCAST, cmd, body, size, text, owner) : RR_OK;
        rc = rc == RR_OK ? one : rc;
    }
    rr_buffer_unref(owner);
    count_sent(scene, &scene->count.broadcasts, size);
    return rc;
}

int rr_scene_broadcast_gate(rr_scene_t *scene, const char *gate, uint16_t cmd, const void *body, size_t size,
                            bool text) {
    int rc = RR_ENOENT;
    for (unsigned i = 0;; i++) { /* its shards are named gate#0, gate#1, … */
        char name[160];
        if ((size_t)snprintf(name, sizeof(name), "%s#%u", gate, i) >= sizeof(name))
            return RR_ENOENT;
        rr_addr_t addr = rr__scene_lookup(scene, name);
        if (addr == RR_NOBODY)
            break;
        rr__peer_t *peer = rr__peer(scene, addr, true);
        int one = peer ? cast_peer(scene, peer, RR_REC_GATE_CAST, cmd, body, size, text, NULL) : RR_ENOMEM;
        rc = rc == RR_ENOENT || rc == RR_OK ? one : rc;
    }
    if (rc == RR_OK)
        count_sent(scene, &scene->count.broadcasts, size);
    return rc;
}

/* ---- Closing ---- */

void rr__close_session(rr_session_t *session, rr_close_reason_t reason) {
    if (session->flags & (RR__CLOSING | RR__LEFT))
        return;
    rr__tell_session(session, RR_REC_CLOSE, reason);
    session->flags |= RR__CLOSING;
    session->reason = (uint8_t)reason;
    rr__queue_drop(session);
}

int rr_scene_close(rr_scene_t *scene, const rr_sid_t *id) {
    rr_session_t *session = rr__session_by_id(scene, id);
    if (!session || !rr__session_held(session))
        return unknown(scene, id, "close");
    rr__close_session(session, RR_CLOSE_KICKED);
    return RR_OK;
}
