#include "runtime/alloc.h"
#include "runtime/system.h"

/* A timer stands in the wheel of the worker that armed it. Firing makes a message; a periodic timer is armed again when
 * that message is handled, so that no actor ever has more than one message per timer waiting. */

#define ENTRY sizeof(rr__timer_entry_t)

void rr__timer_arm(rr_worker_t *worker, rr__timer_t *timer, uint64_t due_ns) {
    timer->worker = worker;
    timer->due_ns = due_ns;
    pthread_mutex_lock(&worker->timer_lock);
    rr_wheel_add(&worker->wheel, &timer->node, due_ns);
    uint64_t next = rr_wheel_next(&worker->wheel);
    bool earlier = next < atomic_load_explicit(&worker->timer_next_ns, memory_order_relaxed);
    atomic_store_explicit(&worker->timer_next_ns, next, memory_order_relaxed);
    pthread_mutex_unlock(&worker->timer_lock);
    if (earlier && worker->executor->ops->timer)
        worker->executor->ops->timer(worker->executor, worker, next);
}

void rr__timer_disarm(rr__timer_t *timer) {
    rr_worker_t *worker = timer->worker;
    if (!worker)
        return;
    pthread_mutex_lock(&worker->timer_lock);
    rr_wheel_remove(&worker->wheel, &timer->node);
    pthread_mutex_unlock(&worker->timer_lock);
}

/* ---- Firing ----------------------------------------------------------------------------------------------------- */

typedef struct fired {
    rr_worker_t *worker;
    rr__pool_t *pool;
    rr_message_t *first, **last;
} fired_t;

/* Under the timer lock: makes messages only, they are delivered after it. */
static void fire(rr_wheel_node_t *node, void *context) {
    fired_t *fired = context;
    rr__timer_t *timer = (rr__timer_t *)(void *)node;
    rr_message_t *msg = rr__message_new(fired->pool, 0);
    if (!msg) { /* later then */
        rr_wheel_add(&fired->worker->wheel, node, timer->due_ns + 10 * RR_NS_PER_MS);
        return;
    }
    msg->kind = timer->kind;
    msg->flags |= RR__UNSHEDDABLE;
    msg->to = timer->owner;
    msg->from = timer->owner;
    msg->request = timer->id;
    msg->type = timer->tag;
    *fired->last = msg;
    fired->last = (rr_message_t **)(void *)&msg->next;
}

static uint64_t expire(rr_worker_t *worker, uint64_t now_ns) {
    fired_t fired = {.worker = worker, .pool = rr__my_pool(worker->system), .last = &fired.first};
    pthread_mutex_lock(&worker->timer_lock);
    rr_wheel_expire(&worker->wheel, now_ns, fire, &fired);
    uint64_t next = rr_wheel_next(&worker->wheel);
    atomic_store_explicit(&worker->timer_next_ns, next, memory_order_relaxed);
    pthread_mutex_unlock(&worker->timer_lock);
    *fired.last = NULL;
    for (rr_message_t *msg = fired.first, *following; msg; msg = following) {
        following = atomic_load_explicit(&msg->next, memory_order_relaxed);
        atomic_store_explicit(&msg->next, NULL, memory_order_relaxed);
        int rc = msg->kind == RR__CALL_TIMER ? rr__call_timer_fired(worker->system, msg)
                                             : rr__deliver(worker->system, NULL, msg);
        if (rc != RR_OK)
            continue; /* its actor ended meanwhile */
    }
    return next;
}

uint64_t rr_worker_timers(rr_worker_t *worker) {
    uint64_t next = atomic_load_explicit(&worker->timer_next_ns, memory_order_relaxed);
    worker->now_ns = rr_clock_now(&worker->system->clock);
    return next > worker->now_ns ? next : expire(worker, worker->now_ns);
}

void rr__worker_timers_for(rr_worker_t *worker) {
    uint64_t now = rr_clock_now(&worker->system->clock);
    if (atomic_load_explicit(&worker->timer_next_ns, memory_order_relaxed) <= now)
        (void)expire(worker, now);
}

/* ---- The actor's side ------------------------------------------------------------------------------------------- */

/* Far beyond any life time, and no overflow when it is added to now. */
static uint64_t in_ns(uint64_t ms) { return ms < UINT64_MAX / 4 / RR_NS_PER_MS ? ms * RR_NS_PER_MS : UINT64_MAX / 4; }

int rr_timer_start(rr_actor_t *self, uint64_t delay_ms, uint64_t repeat_ms, uint32_t tag, uint64_t *id_out) {
    rr__side_t *side = rr__actor_side(self);
    if (!side)
        return RR_ENOMEM;
    rr__timer_t *timer = rr__calloc(1, sizeof *timer);
    if (!timer)
        return RR_ENOMEM;
    uint64_t id;
    int rc;
    rr__timer_entry_t *entry = rr__table_add(&side->timers, ENTRY, &id, &rc);
    if (!entry) {
        rr__free(timer);
        return rc;
    }
    entry->timer = timer;
    timer->owner = self->addr;
    timer->id = id;
    timer->tag = tag;
    timer->kind = RR_TIMER;
    timer->repeat_ns = in_ns(repeat_ms);
    /* On the wheel's own beat: a period that began off it would fire late each time, by up to a tick, and be skipped as
     * missed when the wake-up took a little longer. */
    uint64_t due_ns = rr_now_ns(self) + in_ns(delay_ms) + RR_NS_PER_MS - 1;
    rr__timer_arm(rr__current, timer, due_ns - due_ns % RR_NS_PER_MS);
    if (id_out)
        *id_out = id;
    return RR_OK;
}

static void end_timer(rr_actor_t *self, uint64_t id, rr__timer_t *timer) {
    rr__table_remove(&self->side->timers, ENTRY, id);
    rr__timer_disarm(timer);
    rr__free(timer);
}

bool rr_timer_cancel(rr_actor_t *self, uint64_t id) {
    rr__timer_entry_t *entry = self->side ? rr__table_get(&self->side->timers, ENTRY, id) : NULL;
    if (entry)
        end_timer(self, id, entry->timer);
    return entry != NULL;
}

bool rr__on_timer(rr_actor_t *self, rr_worker_t *worker, uint64_t id) {
    rr__timer_entry_t *entry = self->side ? rr__table_get(&self->side->timers, ENTRY, id) : NULL;
    if (!entry)
        return false; /* cancelled */
    rr__timer_t *timer = entry->timer;
    if (!timer->repeat_ns) {
        end_timer(self, id, timer);
        return true;
    }
    worker->now_ns = rr_clock_now(&worker->system->clock);
    uint64_t due = timer->due_ns + timer->repeat_ns;
    if (due <= worker->now_ns) /* missed periods are skipped, the phase is kept */
        due += (worker->now_ns - due) / timer->repeat_ns * timer->repeat_ns + timer->repeat_ns;
    rr__timer_arm(worker, timer, due);
    return true;
}

void rr__timers_end(rr_actor_t *self) {
    rr__table_t *timers = &self->side->timers;
    for (uint32_t i = 0; i < timers->capacity; i++) {
        uint64_t id;
        rr__timer_entry_t *entry = rr__table_at(timers, ENTRY, i, &id);
        if (entry)
            end_timer(self, id, entry->timer);
    }
    rr__table_clear(timers);
}
