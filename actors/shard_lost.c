/* shard_lost.c: sessions whose scene is gone, and logins that wait for a login scene: kept, looked for, given on. The rules
 * stand in protocol.h. */
#include <stdlib.h>

#include "actors/gate_impl.h"

#define SEEK_MS   20
#define LOOK_MS   1000
#define ATTACH_MS 5000

/* ---- What a slot remembers ---- */

static size_t offset_of(const rr__kept_t *kept, rr__part_t part) {
    size_t at = 0;
    for (int i = 0; kept && i < (int)part; i++)
        at += kept->size[i];
    return at;
}

const uint8_t *rr__slot_kept(const rr__slot_t *slot, rr__part_t part, size_t *size) {
    *size = slot->kept ? slot->kept->size[part] : 0;
    return *size ? slot->kept->data + offset_of(slot->kept, part) : NULL;
}

bool rr__slot_keep(rr__slot_t *slot, rr__part_t part, const void *data, size_t size) {
    const rr__kept_t *old = slot->kept;
    bool fits = data == NULL || size <= RR_KEPT_MAX;
    size_t at = offset_of(old, part), after = offset_of(old, RR__KEPT_PARTS) - at - (old ? old->size[part] : 0);
    if (!data || !fits)
        size = 0;
    if (size == 0 && (!old || old->size[part] == 0))
        return fits;
    rr__kept_t *kept = malloc(sizeof(*kept) + at + size + after);
    if (!kept)
        return false;
    memset(kept, 0, sizeof(*kept));
    if (old) {
        memcpy(kept->size, old->size, sizeof(kept->size));
        memcpy(kept->data, old->data, at);
        memcpy(kept->data + at + size, old->data + at + old->size[part], after);
    }
    if (size)
        memcpy(kept->data + at, data, size);
    kept->size[part] = (uint16_t)size;
    free(slot->kept);
    slot->kept = kept;
    return fits;
}

static void start_seeking(rr__shard_t *shard) {
    if (shard->seeking)
        return;
    shard->seeking = rr_timer_start(shard->self, SEEK_MS, 0, RR__TAG_SEEK, NULL) == RR_OK;
    if (!shard->seeking) /* they are closed when their time is up */
        rr_log(shard->system, RR_ERROR, "GATE", "%s: out of memory: a scene that is gone is not looked for",
               shard->gate->options.name);
}

/* ---- Those that moved to a scene of which nothing was heard yet ---- */

_Static_assert(sizeof(uintptr_t) == 8, "a slot's index and half of its incarnation, of which a shard has not that many at once");

static void ask_later(rr__shard_t *shard) {
    shard->unasked = true;
    start_seeking(shard);
}

/* Behind its answer no JOIN comes any more: it was out of reach since it had the session, and has ended it. That it is dead its
 * monitor says. */
static void on_asked(rr_actor_t *self, void *state, int status, rr_message_t *msg, void *context) {
    rr__shard_t *shard = *(rr__shard_t **)state;
    uint64_t who = (uintptr_t)context, last = shard->last_incarnation;
    rr__slot_t *slot = rr__shard_slot(shard, (uint32_t)who, last - (uint32_t)(last - (who >> 32)));
    if (!slot || slot->state != RR__MOVED_OFF || !slot->hold->arrived)
        return;
    slot->hold->asked = false;
    if (status == RR_OK)
        rr__slot_lose(slot);
    else
        ask_later(shard);
}

static void ask_about(rr__slot_t *slot, void *context) {
    if (slot->state != RR__MOVED_OFF || !slot->hold->arrived || slot->hold->asked)
        return;
    uintptr_t who = slot->incarnation << 32 | slot->index;
    slot->hold->asked = rr_call(slot->shard->self, slot->scene->addr, RR_TYPE_ATTACH, NULL, 0, ATTACH_MS, on_asked,
                                (void *)who, NULL) == RR_OK;
    if (!slot->hold->asked)
        ask_later(slot->shard);
}

void rr__slot_await_join(rr__slot_t *slot) {
    slot->hold->arrived = true;
    ask_about(slot, NULL);
}

static void ask_about_all(rr__shard_t *shard) {
    if (!shard->unasked)
        return;
    shard->unasked = false;
    rr__each_slot(shard, ask_about, NULL);
}

/* ---- Looking for the next owner ---- */

typedef struct handover {
    rr__scene_ref_t *from, *to;
} handover_t;

static int put_resume(rr__slot_t *slot, rr__scene_ref_t *to) {
    uint8_t head[sizeof(rr_resume_head_t) + RR_SID_MAX];
    size_t sid_size, extra_size;
    const uint8_t *sid = rr__slot_kept(slot, RR__KEPT_SID, &sid_size);
    const uint8_t *extra = rr__slot_kept(slot, RR__KEPT_EXTRA, &extra_size);
    if (sid_size == 0 || sid_size > RR_SID_MAX)
        return RR_EPROTO;
    rr_resume_head_t resume = {.login = slot->login && !slot->login->dead ? slot->login->addr : RR_NOBODY,
                               .online_time = slot->online_time,
                               .flags = slot->login == to ? RR_RESUME_LOGIN : 0,
                               .sid_size = (uint32_t)sid_size};
    memcpy(head, &resume, sizeof(resume));
    memcpy(head + sizeof(resume), sid, sid_size);
    return rr__ref_put(slot->shard, to, RR_REC_RESUME, 0, slot->index, slot->incarnation, slot->hop, head,
                       sizeof(resume) + sid_size, extra, extra_size, NULL);
}

static void resume(rr__slot_t *slot, void *context) {
    const handover_t *h = context;
    rr__shard_t *shard = slot->shard;
    if (slot->state != RR__LOST || slot->scene != h->from)
        return;
    h->from->lost--;
    rr_count(&shard->count.lost, (uint64_t)-1);
    if (slot->login == h->from)
        rr__ref_use(&slot->login, h->to);
    rr__ref_use(&slot->scene, h->to);
    slot->hop++;
    slot->flags &= (uint8_t)~RR__SLOT_STAYED;
    slot->state = RR__ACTIVE;
    if (put_resume(slot, h->to) != RR_OK) {
        rr__shard_close(slot, RR_CLOSE_IO);
        return;
    }
    rr_count(&shard->count.resumes, 1);
    rr__hold_release(slot);
}

/* The name's new owner serves (or not): held input never goes to one that may yet fail to load. */
static void on_found(rr_actor_t *self, void *state, int status, rr_message_t *msg, void *context) {
    rr__scene_ref_t *from = context;
    rr__shard_t *shard = *(rr__shard_t **)state;
    from->asking = false;
    rr__scene_ref_t *to = status == RR_OK ? rr__scene_ref(shard, from->found) : NULL;
    if (to && !to->dead && !to->draining) {
        if (!to->name)
            to->name = strdup(from->name);
        rr__each_slot(shard, resume, &(handover_t){from, to});
    } else if (from->lost) {
        start_seeking(shard);
    }
    rr__ref_dirty(shard, from); /* it may go now */
}

/* Also the address that it had: it may only have been out of reach. Who is dead answers that nobody is there. */
static void ask(rr__shard_t *shard, rr__scene_ref_t *ref) {
    rr_addr_t addr = rr_lookup(shard->system, ref->name);
    rr__scene_ref_t *other = rr__scene_known(shard, addr);
    if (addr == RR_NOBODY || (other && (other->dead || other->draining)))
        return;
    ref->found = addr;
    ref->asking =
        rr_call(shard->self, addr, RR_TYPE_ATTACH, NULL, 0, ATTACH_MS, on_found, ref, NULL) == RR_OK;
}

void rr__seek(rr__shard_t *shard) {
    bool more = false;
    shard->seeking = false;
    ask_about_all(shard);
    rr__logins_go(shard);
    for (rr__scene_ref_t *ref = shard->scenes; ref; ref = ref->next) {
        if (!ref->lost)
            continue;
        if (!ref->asking)
            ask(shard, ref);
        more = more || !ref->asking;
    }
    if (more || (shard->waiting && rr__login_open(shard)))
        start_seeking(shard);
}

void rr__refs_look(rr__shard_t *shard) {
    uint32_t every = LOOK_MS / shard->gate->tick_ms + 1;
    if (shard->tick - shard->looked_tick < every)
        return;
    shard->looked_tick = shard->tick;
    for (rr__scene_ref_t *ref = shard->scenes; ref; ref = ref->next) {
        if (ref->dead || !ref->name || rr_addr_node(ref->addr) == rr_system_node(shard->system))
            continue; /* a name of this node falls free only with its owner's end, which is told */
        rr_addr_t owner = rr_lookup(shard->system, ref->name);
        if (owner == RR_NOBODY || owner == ref->addr)
            continue;
        ref->superseded = true;
        ref->ended = RR_STALE;
        rr__ref_lose(shard, ref);
    }
}

/* ---- Losing them ---- */

static void give_back(rr__shard_t *shard, const rr__scene_ref_t *ref, const rr_record_t *record, const uint8_t *body, size_t size) {
    rr__slot_t *slot = record->kind == RR_REC_MESSAGE ? rr__shard_slot(shard, record->slot, record->incarnation) : NULL;
    if (slot && slot->scene == ref && (slot->state == RR__ACTIVE || slot->state == RR__MOVED_OFF))
        rr__hold_return(slot, record->cmd, body, size);
}

/* Much of it, if the gate stood still without a lease, which its connections do not. */
void rr__ref_unsent(rr__shard_t *shard, rr__scene_ref_t *ref) {
    const rr__segment_t *segment;
    rr_record_t record, large = {.follows = false};
    bool keeps = shard->gate->options.scene_lost != RR_LOST_CLOSE && !shard->draining;
    while (keeps && !rr_outlet_empty(&ref->out) && (segment = rr_outlet_peek(&ref->out, 0)) != NULL) {
        const uint8_t *data = rr_buffer_data(segment->buffer);
        size_t size = rr_buffer_size(segment->buffer);
        rr_batch_reader_t reader;
        if (segment->type == RR_TYPE_INPUT_BODY && large.follows)
            give_back(shard, ref, &large, data, size);
        large.follows = false;
        int rc = segment->type == RR_TYPE_INPUT ? rr_batch_open(&reader, data, size) : RR_ENOENT;
        while (rc == RR_OK && (rc = rr_batch_next(&reader, &record)) == RR_OK) {
            large = record;
            if (!record.follows)
                give_back(shard, ref, &record, record.body, record.size);
        }
        rr_outlet_pop(&ref->out);
    }
}

uint32_t rr__check_lost(rr__slot_t *slot) {
    const rr_gate_t *gate = slot->shard->gate;
    uint32_t age = slot->shard->tick - slot->hold->since;
    if (age < gate->lost_ticks)
        return gate->lost_ticks - age;
    rr__shard_close(slot, RR_CLOSE_SCENE_GONE);
    return 0;
}

void rr__slot_leave_lists(rr__slot_t *slot) {
    if (slot->flags & RR__SLOT_WAITS)
        slot->shard->waiting--;
    slot->flags &= (uint8_t)~RR__SLOT_WAITS;
    if (slot->state != RR__LOST)
        return;
    rr_count(&slot->shard->count.lost, (uint64_t)-1);
    if (slot->scene)
        slot->scene->lost--;
}

static void wait_for_login(rr__slot_t *slot) {
    rr__slot_unpause(slot);
    rr__ref_use(&slot->scene, NULL);
    rr__ref_use(&slot->login, NULL);
    slot->incarnation = ++slot->shard->last_incarnation; /* what is late for the old session finds nobody */
    slot->flags |= RR__SLOT_WAITS;
    slot->shard->waiting++;
}

/* Its VERIFY is lost; nothing behind it may be. */
static bool keep_login(rr__slot_t *slot) {
    size_t key;
    rr__slot_kept(slot, RR__KEPT_KEY, &key);
    bool whole = slot->pending_messages == 0 || slot->flags & RR__SLOT_AGAIN;
    if (!key || !whole || !rr__hold_make(slot))
        return false;
    wait_for_login(slot);
    return true;
}

static bool can_keep(const rr__slot_t *slot, bool with_extra) {
    size_t key;
    switch (slot->shard->gate->options.scene_lost) {
    case RR_LOST_WAIT:
        return slot->scene->name && (with_extra || !(slot->flags & RR__SLOT_NO_EXTRA));
    case RR_LOST_RELOGIN:
        rr__slot_kept(slot, RR__KEPT_KEY, &key);
        return key > 0;
    default:
        return false;
    }
}

uint16_t rr__slot_back(const rr__slot_t *slot, bool with_extra) {
    if (slot->shard->draining || !can_keep(slot, with_extra))
        return RR_BACK_REFUSED;
    return slot->shard->gate->options.scene_lost == RR_LOST_WAIT ? RR_BACK_KEPT : RR_BACK_AGAIN;
}

static bool keep_session(rr__slot_t *slot) {
    rr__shard_t *shard = slot->shard;
    if (!can_keep(slot, false) || !rr__hold_make(slot))
        return false;
    rr__slot_unpause(slot);
    if (slot->member && slot->member != slot->scene) /* it was about to go there */
        rr__ref_record(slot, slot->member, RR_REC_DROP, slot->hop);
    rr__slot_member(slot, NULL);
    slot->state = RR__LOST;
    rr__slot_early(slot, false, 0);
    slot->flags |= RR__SLOT_STAYED;
    slot->hold->since = shard->tick;
    rr_count(&shard->count.lost, 1);
    rr_count(&shard->count.losses, 1);
    if (shard->gate->options.scene_lost == RR_LOST_WAIT) {
        slot->scene->lost++;
    } else {
        if (slot->login && slot->login != slot->scene)
            rr__ref_record(slot, slot->login, RR_REC_LEFT, RR_CLOSE_SCENE_GONE | RR_LEFT_LOGIN);
        wait_for_login(slot);
    }
    rr__slot_watch(slot);
    return true;
}

void rr__slot_lose(rr__slot_t *slot) {
    bool kept = false;
    if (slot->shard->draining) {
        rr__shard_close(slot, RR_CLOSE_DRAIN);
        return;
    }
    if (slot->state == RR__LOGGING_IN)
        kept = keep_login(slot);
    else if (slot->state == RR__ACTIVE || slot->state == RR__MOVED_OFF)
        kept = keep_session(slot);
    if (kept)
        start_seeking(slot->shard);
    else
        rr__shard_close(slot, slot->scene && slot->scene->dead && slot->scene->ended == RR_OK ? RR_CLOSE_DRAIN
                                                                                              : RR_CLOSE_SCENE_GONE);
}

/* ---- Logins ---- */

bool rr__login_open(const rr__shard_t *shard) {
    return shard->login && !shard->login->dead && !shard->login->draining;
}

static void verify(rr__slot_t *slot, const uint8_t *key, size_t size, rr_buffer_t *owner) {
    rr__shard_t *shard = slot->shard;
    uint8_t head[sizeof(rr_login_head_t) + 64];
    char ip[64];
    rr_connection_peer_ip(slot->connection, ip, sizeof(ip));
    rr_login_head_t login = {.online_time = slot->online_time,
                             .flags = shard->gate->options.session_id_int ? RR_LOGIN_INT : 0,
                             .ip_size = (uint16_t)strlen(ip)};
    memcpy(head, &login, sizeof(login));
    memcpy(head + sizeof(login), ip, login.ip_size);
    rr__ref_use(&slot->scene, shard->login);
    rr__ref_use(&slot->login, shard->login);
    rr_count(&shard->count.logins, 1);
    if (rr__ref_put(shard, slot->scene, RR_REC_VERIFY, 0, slot->index, slot->incarnation, 0, head,
                    sizeof(login) + login.ip_size, key, size, owner) != RR_OK)
        rr__shard_close(slot, RR_CLOSE_IO);
}

/* Counts it in, if there may be one more. */
static bool count_login(rr__slot_t *slot) {
    rr_gate_t *gate = slot->shard->gate;
    uint32_t limit = gate->options.max_pending_logins;
    uint32_t pending = atomic_fetch_add_explicit(&gate->pending_logins, 1, memory_order_relaxed);
    return !limit || pending < limit;
}

void rr__slot_log_in(rr__slot_t *slot, const uint8_t *key, size_t size, rr_buffer_t *owner) {
    rr__shard_t *shard = slot->shard;
    rr_scene_lost_t lost = shard->gate->options.scene_lost;
    bool open = rr__login_open(shard), waits = !open && (lost != RR_LOST_CLOSE || shard->login_drained);
    if (!open && !waits) {
        rr_count(&shard->count.no_login_scene, 1);
        rr__shard_close(slot, RR_CLOSE_SCENE_GONE);
        return;
    }
    slot->state = RR__LOGGING_IN;
    if (!count_login(slot)) {
        rr_count(&shard->count.limit_pending_logins, 1);
        rr__shard_close(slot, RR_CLOSE_LIMIT);
        return;
    }
    bool kept = (waits || lost != RR_LOST_CLOSE) && rr__slot_keep(slot, RR__KEPT_KEY, key, size);
    if (open) {
        verify(slot, key, size, owner);
    } else if (kept && rr__hold_make(slot)) { /* until login_timeout is over */
        wait_for_login(slot);
    } else {
        rr_count(&shard->count.no_login_scene, 1);
        rr__shard_close(slot, RR_CLOSE_SCENE_GONE);
    }
}

/* A session whose scene is gone becomes a login. False: there are as many under way as may be. */
static bool begin_again(rr__slot_t *slot) {
    rr__shard_t *shard = slot->shard;
    if (!count_login(slot)) {
        atomic_fetch_sub_explicit(&shard->gate->pending_logins, 1, memory_order_relaxed);
        return false;
    }
    atomic_fetch_sub_explicit(&shard->gate->session_count, 1, memory_order_relaxed);
    rr_count(&shard->count.sessions, (uint64_t)-1);
    rr_count(&shard->count.lost, (uint64_t)-1);
    rr_count(&shard->count.relogins, 1);
    slot->state = RR__LOGGING_IN;
    slot->flags = (uint8_t)((slot->flags & ~RR__SLOT_STAYED) | RR__SLOT_AGAIN);
    slot->opened_tick = shard->tick;
    slot->pending_bytes = 0;
    slot->pending_messages = 0;
    rr__slot_watch(slot);
    return true;
}

static void go_on(rr__slot_t *slot, void *context) {
    size_t size;
    if (!(slot->flags & RR__SLOT_WAITS) || (slot->state == RR__LOST && !begin_again(slot)))
        return;
    slot->flags &= (uint8_t)~RR__SLOT_WAITS;
    slot->shard->waiting--;
    const uint8_t *key = rr__slot_kept(slot, RR__KEPT_KEY, &size);
    verify(slot, key, size, NULL);
    rr__hold_release(slot);
}

void rr__logins_go(rr__shard_t *shard) {
    if (shard->waiting && rr__login_open(shard))
        rr__each_slot(shard, go_on, NULL);
    if (shard->waiting && rr__login_open(shard))
        start_seeking(shard);
}
