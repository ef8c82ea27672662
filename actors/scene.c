/* scene.c: the scene as an actor: what arrives, in which order it is handled, how it starts and ends. */
#include "actors/scene.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "actors/scene_impl.h"

enum { TAG_SCRIPT = 1, TAG_WATCH, TAG_RETRY, TAG_RUN, TAG_STOP, TAG_HAND_OVER };

#define CHECK_EVERY    16u        /* records between two looks at the clock */
#define FLUSH_EVERY_NS 1000000ull /* a long turn lets its replies go this often */
#define STOP_GRACE_MS  1000
#define STOP_CHECK_MS  100

/* ---- Options ---- */

void rr_scene_options_init(rr_scene_options_t *options) {
    *options = (rr_scene_options_t){
        .queue_messages = 1024,
        .queue_bytes = 4u << 20,
        .queue_total_messages = 1u << 20,
        .queue_total_bytes = 256u << 20,
        .max_requests = 10000,
        .verify_timeout_ms = 60000,
        .kick_wait_ms = 5000,
        .offline_wait_ms = 5000,
        .move_timeout_ms = 5000,
        .outbox_limit = 64u << 20,
        .turn_us = 2000,
    };
}

/* ---- Calls of the logic ---- */

void rr__logic_begin(rr_scene_t *scene) {
    if (!scene->entered) {
        scene->entered = true;
        if (scene->logic->turn_begin)
            scene->logic->turn_begin(scene->state);
    }
    scene->depth++;
}

void rr__logic_end(rr_scene_t *scene) {
    scene->depth--;
}

static void leave_logic(rr_scene_t *scene) {
    if (scene->entered && scene->logic->turn_end)
        scene->logic->turn_end(scene->state);
    scene->entered = false;
}

bool rr__scene_todo(rr_scene_t *scene, rr__todo_t *todo) {
    if (!todo)
        return false;
    todo->next = NULL;
    *scene->todo_last = todo;
    scene->todo_last = &todo->next;
    if (scene->depth == 0 && !scene->settling)
        rr__scene_again(scene); /* asked for outside of the calls that settle by themselves */
    return true;
}

void rr__scene_fail(rr_scene_t *scene, uint64_t token, const char *text) {
    if (token == 0)
        return;
    rr__todo_t *todo = malloc(sizeof(*todo) + strlen(text) + 1);
    if (todo) {
        *todo = (rr__todo_t){.kind = RR__TODO_ANSWER, .token = token};
        strcpy(todo->data, text);
    }
    if (!rr__scene_todo(scene, todo))
        rr_log(scene->system, RR_ERROR, "SCENE", "%s: out of memory: a call stays without its answer",
               scene->options->name);
}

void rr_scene_done(rr_scene_t *scene, uint64_t token, int status) {
    rr__todo_t *todo = malloc(sizeof(*todo));
    if (todo)
        *todo = (rr__todo_t){.kind = RR__TODO_DONE, .token = token, .status = status};
    if (!rr__scene_todo(scene, todo))
        rr_log(scene->system, RR_ERROR, "SCENE", "%s: out of memory: a handler's end is not noticed",
               scene->options->name);
}

static void carry_out(rr_scene_t *scene, rr__todo_t *todo) {
    switch (todo->kind) {
    case RR__TODO_VERDICT: {
        rr_verdict_t verdict = {.code = todo->status, .id = todo->id, .extra_size = todo->extra_size};
        if (todo->has_extra)
            verdict.extra = todo->data + (todo->id.text ? todo->id.size : 0);
        rr__on_verdict(todo->session, &verdict);
        break;
    }
    case RR__TODO_DONE:
        rr__on_done(scene, todo->token, todo->status);
        break;
    case RR__TODO_ANSWER:
        if (!scene->logic->answer)
            break;
        rr__logic_begin(scene);
        scene->logic->answer(scene->state, todo->token, todo->answered ? NULL : todo->data,
                             todo->answered ? todo->data : NULL, todo->extra_size);
        rr__logic_end(scene);
        break;
    case RR__TODO_HAND_TO: {
        uint32_t name = rr_get32((const uint8_t *)todo->data);
        rr_hand_to_t to = {.scene = name ? todo->data + 4 : NULL,
                           .state = todo->data + 4 + name,
                           .size = todo->extra_size};
        rr__on_hand_to(scene, todo->token, todo->status, &to);
        break;
    }
    }
}

void rr__scene_settle(rr_scene_t *scene) {
    if (!scene->todo || scene->settling || scene->depth > 0)
        return;
    scene->settling = true;
    while (scene->todo) {
        rr__todo_t *todo = scene->todo;
        scene->todo = todo->next;
        if (!scene->todo)
            scene->todo_last = &scene->todo;
        carry_out(scene, todo);
        free(todo);
    }
    scene->settling = false;
    rr__scene_idle(scene);
}

/* ---- More turns ---- */

/* An empty message to oneself, never refused for fullness: at most one of a kind is under way. */
static bool poke(rr_scene_t *scene, uint32_t type) {
    rr_buffer_t *nothing = rr_buffer_new(1);
    return nothing && rr_send_unsheddable(scene->self, scene->addr, type, nothing, 1) == RR_OK;
}

void rr__scene_again(rr_scene_t *scene) {
    if (!scene->run_queued)
        scene->run_queued = poke(scene, RR_TYPE_RUN);
}

void rr_scene_wake(rr_scene_t *scene) {
    scene->run_due = true;
    rr__scene_again(scene);
}

void rr_scene_wake_threadsafe(rr_scene_t *scene) {
    /* Refused only when full: then a turn is coming anyway, and looks at the flag. */
    if (!atomic_exchange_explicit(&scene->wake_wanted, true, memory_order_acq_rel) &&
        rr_system_send(scene->system, scene->addr, RR_TYPE_RUN, NULL, 0) != RR_OK)
        return;
}

static void run_logic(rr_scene_t *scene) {
    if (atomic_load_explicit(&scene->wake_wanted, memory_order_relaxed) &&
        atomic_exchange_explicit(&scene->wake_wanted, false, memory_order_acq_rel))
        scene->run_due = true;
    if (!scene->run_due || !scene->logic->run || !scene->created)
        return;
    scene->run_due = false;
    rr__logic_begin(scene);
    int64_t wait_ms = scene->logic->run(scene->state);
    rr__logic_end(scene);
    rr__scene_settle(scene);
    if (scene->run_timer) {
        rr_timer_cancel(scene->self, scene->run_timer);
        scene->run_timer = 0;
    }
    if (wait_ms == 0)
        rr_scene_wake(scene);
    else if (wait_ms > 0 && rr_timer_start(scene->self, (uint64_t)wait_ms, 0, TAG_RUN, &scene->run_timer) != RR_OK)
        rr_scene_wake(scene);
}

static bool time_up(rr_scene_t *scene) {
    uint64_t now = rr_now_ns(scene->self);
    if (scene->turn_end_ns == 0) {
        scene->turn_end_ns = now + scene->options->turn_us * 1000ull;
        scene->flushed_ns = now;
    }
    if (now - scene->flushed_ns > FLUSH_EVERY_NS)
        rr__scene_flush(scene);
    return now >= scene->turn_end_ns;
}

/* ---- Batches from shards ---- */

static void on_hello(rr_scene_t *scene, rr__peer_t *peer, const rr_record_t *record) {
    rr_hello_t hello;
    if (record->size < sizeof(hello)) {
        rr_count(&scene->count.bad_records, 1);
        return;
    }
    memcpy(&hello, record->body, sizeof(hello));
    peer->window = hello.window ? hello.window : 1;
    peer->window_bytes = hello.window_bytes ? hello.window_bytes : 1;
    peer->hello_flags = hello.flags;
    rr__hand_over_hello(scene, peer);
    free(peer->gate);
    peer->gate = strndup((const char *)record->body + sizeof(hello), record->size - sizeof(hello));
}

static void on_record(rr_scene_t *scene, rr__peer_t *peer, const rr_record_t *record, const uint8_t *body, size_t size,
                      rr_buffer_t *owner) {
    switch (record->kind) {
    case RR_REC_MESSAGE:
        rr__on_message(scene, peer, record, body, size, owner);
        break;
    case RR_REC_VERIFY:
        rr__on_verify(scene, peer, record, body, size);
        break;
    case RR_REC_LEFT:
        rr__on_left(scene, peer, record);
        break;
    case RR_REC_FENCE:
        rr__on_fence(scene, peer, record);
        break;
    case RR_REC_HELLO:
        on_hello(scene, peer, record);
        break;
    case RR_REC_DROP:
        rr__on_drop(scene, peer, record);
        break;
    case RR_REC_ANNOUNCE:
        rr__on_announce(scene, peer, record);
        break;
    case RR_REC_RESUME:
        rr__on_resume(scene, peer, record, body, size);
        break;
    case RR_REC_QUIET:
        peer->quiet = record->arg == 1;
        break;
    default:
        rr_count(&scene->count.bad_records, 1);
    }
    rr__scene_settle(scene);
}

/* The body is the next message: keeps the record until it is here. */
static void expect_body(rr_scene_t *scene, rr__peer_t *peer, const rr_record_t *record) {
    free(peer->pending_head);
    peer->pending = *record;
    peer->pending_head = malloc(record->size ? record->size : 1);
    peer->body_follows = true;
    if (peer->pending_head)
        memcpy(peer->pending_head, record->body, record->size);
    else
        peer->pending.kind = 0; /* counted as bad when its body comes */
    peer->pending.body = peer->pending_head;
}

static void on_body(rr_scene_t *scene, rr_message_t *msg) {
    rr__peer_t *peer = rr__peer(scene, rr_message_from(msg), false);
    if (!peer || !peer->body_follows) {
        rr_count(&scene->count.bad_records, 1);
        return;
    }
    peer->body_follows = false;
    peer->messages++;
    peer->bytes += rr_message_size(msg);
    rr__peer_dirty(scene, peer);
    on_record(scene, peer, &peer->pending, rr_message_data(msg), rr_message_size(msg), rr_message_buffer(msg));
}

static void count_latency(rr_scene_t *scene, uint64_t sent_ns) {
    uint64_t now = rr_now_coarse_ns(scene->self), us = sent_ns && now > sent_ns ? (now - sent_ns) / 1000 : 0;
    unsigned bucket = 0;
    while (bucket < RR__LATENCY_BUCKETS - 1 && us > 64ull << bucket)
        bucket++;
    rr_count(&scene->count.latency[bucket], 1);
    rr_count(&scene->count.latency_sum_us, us);
}

/* Handles records until the batch is over (true), or time is up or a gate does not keep up (false). */
static bool read_on(rr_scene_t *scene, rr_message_t *msg, rr_batch_reader_t *reader) {
    rr__peer_t *peer = rr__peer(scene, rr_message_from(msg), true);
    rr_record_t record;
    int rc = peer ? RR_OK : RR_EPROTO;
    for (unsigned n = 1; rc == RR_OK; n++) {
        if (n % CHECK_EVERY == 0 && reader->records && time_up(scene))
            return false;
        rc = rr_batch_next(reader, &record);
        if (rc != RR_OK)
            break;
        peer->messages++;
        peer->bytes += RR_RECORD_HEAD + record.size;
        if (record.follows)
            expect_body(scene, peer, &record);
        else
            on_record(scene, peer, &record, record.body, record.size, rr_message_buffer(msg));
    }
    if (peer)
        rr__peer_dirty(scene, peer);
    if (rc == RR_EPROTO) {
        rr_count(&scene->count.bad_records, 1);
        rr_log(scene->system, RR_ERROR, "SCENE", "%s: a batch of records from actor %016llx makes no sense",
               scene->options->name, (unsigned long long)rr_message_from(msg));
    }
    return true;
}

/* ---- What arrives ---- */

static void answer_reload(rr_scene_t *scene, rr_message_t *msg, bool ok, unsigned version, const char *text) {
    rr_reload_reply_t head = {.ok = ok, .version = version};
    size_t size = strlen(text);
    rr_buffer_t *buffer = rr_buffer_new(sizeof(head) + size);
    if (!buffer) {
        rr_reply_error(scene->self, msg, RR_EHANDLER, "out of memory");
        return;
    }
    memcpy(rr_buffer_data(buffer), &head, sizeof(head));
    memcpy(rr_buffer_data(buffer) + sizeof(head), text, size);
    rr_reply_buffer(scene->self, msg, buffer);
}

static void on_reload(rr_scene_t *scene, rr_message_t *msg) {
    char module[256], why[16384] = "this scene cannot be reloaded";
    size_t size = rr_message_size(msg) < sizeof(module) ? rr_message_size(msg) : sizeof(module) - 1;
    memcpy(module, rr_message_data(msg), size);
    module[size] = 0;
    unsigned version = 0;
    bool ok = false;
    if (scene->logic->reload) {
        rr__logic_begin(scene);
        ok = scene->logic->reload(scene->state, module, &version, why, sizeof(why));
        rr__logic_end(scene);
        rr_count(&scene->count.reloads, 1);
    }
    answer_reload(scene, msg, ok, version, ok ? "" : why);
}

static void on_saved(rr_scene_t *scene, rr_message_t *msg) {
    char text[16384] = "";
    unsigned version = 0;
    bool ok = true;
    if (scene->logic->saved) {
        rr__logic_begin(scene);
        ok = scene->logic->saved(scene->state, &version, text, sizeof(text));
        rr__logic_end(scene);
        rr_count(&scene->count.reloads, !ok || text[0]);
    }
    answer_reload(scene, msg, ok, version, text);
}

static void on_stop(rr_scene_t *scene, const rr_message_t *msg) {
    if (rr_message_size(msg) == 4 && !scene->stop_until_ns)
        scene->stop_until_ns = rr_now_ns(scene->self) + rr_get32(rr_message_data(msg)) * 1000000ull;
    rr__scene_stop(scene);
}

/* To a shard behind all that it was told before: what it does not know of by then does not come any more. */
static void on_attach(rr_scene_t *scene, rr_message_t *msg) {
    rr__peer_t *peer = rr__peer(scene, rr_message_from(msg), false);
    if (peer && peer->dirty)
        rr__scene_flush(scene);
    if (peer && peer->blocked)
        rr_reply_error(scene->self, msg, RR_OVERLOAD, NULL);
    else
        rr_reply(scene->self, msg, NULL, 0);
}

/* Handles a message that came in order; true if it is finished with (false: a batch to be read on). Calls are taken. */
static bool handle(rr_scene_t *scene, rr_message_t *msg, bool taken) {
    if (rr_message_kind(msg) == RR_CALL && !taken)
        rr_message_take(scene->self, msg);
    switch (rr_message_type(msg)) {
    case RR_TYPE_INPUT:
        if (!scene->reading) {
            if (rr_batch_open(&scene->reader, rr_message_data(msg), rr_message_size(msg)) != RR_OK) {
                rr_count(&scene->count.bad_records, 1);
                return true;
            }
            count_latency(scene, scene->reader.sent_ns);
        }
        scene->reading = !read_on(scene, msg, &scene->reader);
        return !scene->reading;
    case RR_TYPE_INPUT_BODY:
        on_body(scene, msg);
        return true;
    case RR_TYPE_ENTER:
        rr__on_enter(scene, msg);
        break;
    case RR_TYPE_SERVICE:
        rr__on_service(scene, msg);
        break;
    case RR_TYPE_ATTACH:
        on_attach(scene, msg);
        break;
    case RR_TYPE_RELOAD:
        on_reload(scene, msg);
        break;
    case RR_TYPE_SAVED:
        on_saved(scene, msg);
        break;
    case RR_TYPE_FORGET:
        rr__on_forget(scene, msg);
        break;
    case RR_TYPE_HAND_OVER:
        rr__on_hand_over(scene, msg);
        break;
    case RR_TYPE_STOP:
        on_stop(scene, msg);
        break;
    case RR_TYPE_QUERY_EVENT:
        rr__on_query_event(scene, msg);
        break;
    case RR_TYPE_DEAD_LETTER:
        rr__on_dead_letter(scene, msg);
        break;
    default:
        if (rr_message_kind(msg) == RR_CALL)
            rr_reply_error(scene->self, msg, RR_EHANDLER, "a scene does not know this kind of call");
    }
    rr__scene_settle(scene);
    return true;
}

static bool right_kind(const rr_message_t *msg) {
    uint32_t type = rr_message_type(msg);
    bool call = type == RR_TYPE_ENTER || type == RR_TYPE_SERVICE || type == RR_TYPE_ATTACH || type == RR_TYPE_RELOAD ||
                type == RR_TYPE_HAND_OVER;
    bool known = (type >= RR_TYPE_INPUT && type <= RR_TYPE_STOP) || type == RR_TYPE_QUERY_EVENT || type == RR_TYPE_DEAD_LETTER;
    return known ? call == (rr_message_kind(msg) == RR_CALL) : rr_message_kind(msg) == RR_CALL;
}

static void push_backlog(rr_scene_t *scene, rr_message_t *msg) {
    rr__backlog_item_t *item = malloc(sizeof(*item));
    bool call = rr_message_kind(msg) == RR_CALL, event = rr_message_type(msg) == RR_TYPE_QUERY_EVENT;
    if (!item || ((call || event) && rr_counted(&scene->count.backlog) >= scene->options->max_requests)) {
        free(item);
        rr_count(event ? &scene->count.query_events_lost : &scene->count.overloads, 1);
        if (event)
            return;
        if (call)
            rr_reply_error(scene->self, msg, RR_OVERLOAD, NULL);
        else
            rr_log(scene->system, RR_ERROR, "SCENE", "%s: out of memory: a batch is lost", scene->options->name);
        scene->reading = false;
        return;
    }
    rr_message_take(scene->self, msg);
    *item = (rr__backlog_item_t){.msg = msg};
    *scene->backlog_last = item;
    scene->backlog_last = &item->next;
    rr_count(&scene->count.backlog, 1);
}

static bool held_up(rr_scene_t *scene) {
    return !scene->loaded || scene->blocked > 0;
}

static void pump(rr_scene_t *scene) {
    while (scene->backlog && !held_up(scene)) {
        rr__backlog_item_t *item = scene->backlog;
        bool send = rr_message_kind(item->msg) == RR_SEND;
        if (!handle(scene, item->msg, true))
            break;
        scene->backlog = item->next;
        if (!scene->backlog)
            scene->backlog_last = &scene->backlog;
        if (send) /* calls are ended by their answer */
            rr_message_release(scene->self, item->msg);
        free(item);
        rr__count_down(&scene->count.backlog);
        if (scene->backlog && time_up(scene))
            break;
    }
    if (scene->backlog && !held_up(scene)) {
        rr_count(&scene->count.turns_cut, 1);
        rr__scene_again(scene);
    }
}

static void on_ordered(rr_scene_t *scene, rr_message_t *msg) {
    if (!right_kind(msg)) {
        rr_count(&scene->count.bad_records, 1);
        return; /* a call is answered by the runtime */
    }
    if (scene->backlog || held_up(scene)) {
        push_backlog(scene, msg);
        if (!held_up(scene))
            rr__scene_again(scene);
    } else if (!handle(scene, msg, false)) {
        push_backlog(scene, msg);
        rr_count(&scene->count.turns_cut, 1);
        rr__scene_again(scene);
    }
}

/* What a shard had said before its end and nobody has looked at: lost with it, and not to be taken for the word of the same
 * shard, should it come back. */
static void drop_backlog(rr_scene_t *scene, rr_addr_t shard) {
    rr__backlog_item_t **at = &scene->backlog;
    for (rr__backlog_item_t *item; (item = *at);) {
        uint32_t type = rr_message_type(item->msg);
        if (rr_message_from(item->msg) != shard || (type != RR_TYPE_INPUT && type != RR_TYPE_INPUT_BODY)) {
            at = &item->next;
            continue;
        }
        if (item == scene->backlog)
            scene->reading = false;
        *at = item->next;
        rr_message_release(scene->self, item->msg);
        free(item);
        rr__count_down(&scene->count.backlog);
    }
    scene->backlog_last = at;
}

static void on_down(rr_scene_t *scene, uint64_t monitor) {
    if (rr__on_name_down(scene, monitor))
        return;
    rr__peer_t *peer = rr_map_take(&scene->downs, monitor);
    if (!peer)
        return;
    drop_backlog(scene, peer->addr);
    rr__peer_down(scene, peer);
}

static void on_timer(rr_scene_t *scene, rr_message_t *msg) {
    switch (rr_message_type(msg)) {
    case TAG_SCRIPT:
        rr__on_script_timer(scene, rr_message_request(msg));
        break;
    case TAG_WATCH:
        rr__on_watch(scene);
        break;
    case TAG_RETRY:
        scene->retrying = false;
        rr__scene_flush(scene);
        break;
    case TAG_RUN:
        scene->run_timer = 0;
        scene->run_due = true;
        break;
    case TAG_HAND_OVER:
        rr__hand_over_beat(scene);
        break;
    default: /* TAG_STOP */
        rr__scene_idle(scene);
    }
    rr__scene_settle(scene);
}

static void scene_receive(rr_actor_t *self, void *state, rr_message_t *msg) {
    rr_scene_t *scene = state;
    switch (rr_message_kind(msg)) {
    case RR_TIMER:
        on_timer(scene, msg);
        break;
    case RR_DOWN:
        on_down(scene, rr_message_request(msg));
        break;
    default:
        if (rr_message_type(msg) == RR_TYPE_RUN) {
            scene->run_queued = false;
            pump(scene);
        } else {
            on_ordered(scene, msg);
        }
    }
    rr__scene_settle(scene);
}

/* ---- Turns ---- */

static void scene_turn_begin(rr_actor_t *self, void *state) {
    rr_scene_t *scene = state;
    scene->turn_end_ns = 0;
}

static void scene_turn_end(rr_actor_t *self, void *state) {
    rr_scene_t *scene = state;
    run_logic(scene);
    leave_logic(scene);
    rr__scene_flush(scene);
}

/* ---- Metrics ---- */

typedef struct scene_metric {
    const char *name, *help;
    size_t offset;
    rr_metric_type_t type;
} scene_metric_t;

#define METRIC(field, type, help)                                                                                      \
    { "rr_scene_" #field, help, offsetof(rr__scene_counters_t, field), type }
#define COUNTER(field, help)                                                                                           \
    { "rr_scene_" #field "_total", help, offsetof(rr__scene_counters_t, field), RR_METRIC_COUNTER }
#define GAUGE(field, help) METRIC(field, RR_METRIC_GAUGE, help)

static const scene_metric_t scene_metrics[] = {
    GAUGE(sessions, "Sessions that the scene holds."),
    GAUGE(away, "Sessions registered here and held by other scenes."),
    GAUGE(queued, "Messages waiting behind a pending handler, an enter or a move."),
    GAUGE(queued_bytes, "Their bytes."),
    GAUGE(pending_handlers, "Handlers that run on (coroutines)."),
    GAUGE(backlog, "Batches and calls that wait for the scene's next turn."),
    GAUGE(version, "Successful loads of the scene's script."),
    COUNTER(messages, "Client messages given to handlers."),
    COUNTER(handler_errors, "Handlers that failed."),
    COUNTER(no_handler, "Client messages whose cmd has no handler."),
    COUNTER(bad_bodies, "Client messages whose body was not what the handler declares."),
    COUNTER(unknown_sessions, "Sends, closes and moves of sessions that the scene does not hold."),
    COUNTER(queue_full, "Sessions closed because too much waited for them."),
    COUNTER(queue_total_full, "Sessions closed because theirs was the longest queue when all queues together were full."),
    COUNTER(stale, "Records for sessions that are gone."),
    COUNTER(logins, "Logins admitted."),
    COUNTER(refused, "Logins refused."),
    COUNTER(replaced, "Sessions replaced by a newer login of the same id."),
    COUNTER(verify_timeouts, "Logins whose verdict did not come in time."),
    COUNTER(offlines, "Offline notices."),
    COUNTER(resumed, "Sessions taken over from a former owner of the scene's name that is gone."),
    COUNTER(handed_over, "Sessions handed over to other scenes because this one was drained."),
    COUNTER(given_back, "Sessions given back to their gates, which keep them, because this scene's node ended and nobody took them."),
    COUNTER(hand_over_cut, "Sessions of both whose handlers still ran when their time was up: those messages are not handled again."),
    COUNTER(hand_over_failures, "Attempts of that which failed; most are made again."),
    COUNTER(moves_out, "Sessions moved to another scene."),
    COUNTER(moves_in, "Sessions that arrived from another scene."),
    COUNTER(move_failures, "Moves that failed; the session stayed."),
    COUNTER(cancelled, "Sessions whose pending handlers were cancelled after they left."),
    COUNTER(sends, "Messages sent to one session."),
    COUNTER(multicasts, "Messages sent to lists of sessions."),
    COUNTER(broadcasts, "Messages sent to all sessions."),
    COUNTER(sent_bytes, "Bytes of bodies sent, each once."),
    COUNTER(send_refused, "Sends refused because the gate did not keep up."),
    COUNTER(services, "Service requests received."),
    COUNTER(calls, "Services called."),
    COUNTER(call_errors, "Services called that ended in an error."),
    COUNTER(overloads, "Service requests refused because too many were being handled."),
    COUNTER(timers, "Timers fired."),
    COUNTER(queries, "Requests to databases."),
    COUNTER(query_failures, "Requests to databases that got no answer from them."),
    COUNTER(query_events, "Events of subscriptions at databases."),
    COUNTER(query_events_lost, "Events of subscriptions dropped because the scene did not keep up."),
    COUNTER(bad_records, "Records that make no sense."),
    COUNTER(turns_cut, "Turns ended because their time was up."),
    COUNTER(reloads, "Reloads asked for from outside."),
};

static void write_latency(rr_scene_t *scene, rr_metrics_writer_t *writer, const char *labels) {
    uint64_t below = 0;
    char with_bound[256], bound[32];
    for (unsigned i = 0; i < RR__LATENCY_BUCKETS; i++) {
        below += rr_counted(&scene->count.latency[i]);
        snprintf(bound, sizeof(bound), "%g", (double)(64ull << i) / 1e6);
        snprintf(with_bound, sizeof(with_bound), "%s", labels);
        if (rr_metrics_label(with_bound, sizeof(with_bound), "le", i == RR__LATENCY_BUCKETS - 1 ? "+Inf" : bound))
            rr_metrics_write(writer, "rr_scene_input_seconds_bucket", RR_METRIC_COUNTER,
                             "Batches by the time from the gate to their first record's handling.", with_bound,
                             (double)below);
    }
    rr_metrics_write(writer, "rr_scene_input_seconds_count", RR_METRIC_COUNTER, "Batches handled.", labels,
                     (double)below);
    rr_metrics_write(writer, "rr_scene_input_seconds_sum", RR_METRIC_COUNTER, "Their times added up.", labels,
                     (double)rr_counted(&scene->count.latency_sum_us) / 1e6);
}

static void collect(void *context, rr_metrics_writer_t *writer) {
    rr_scene_t *scene = context;
    char labels[200] = "";
    if (!rr_metrics_label(labels, sizeof(labels), "scene", scene->options->name))
        return;
    for (size_t i = 0; i < sizeof(scene_metrics) / sizeof(*scene_metrics); i++) {
        const scene_metric_t *m = &scene_metrics[i];
        rr_metrics_write(writer, m->name, m->type, m->help, labels,
                         (double)(int64_t)rr_counted((rr_counter_t *)((char *)&scene->count + m->offset)));
    }
    write_latency(scene, writer, labels);
    if (scene->logic->metrics)
        scene->logic->metrics(scene->state, writer, labels);
}

/* ---- Start ---- */

static void tell_loaded(rr_scene_t *scene, int status, const char *why) {
    if (scene->options->loaded)
        scene->options->loaded(scene->options->context, scene->options->name, status, why);
}

void rr__scene_loaded(rr_scene_t *scene, int status, const char *why) {
    if (status != RR_OK) {
        tell_loaded(scene, status, why);
        rr_exit(scene->self, status);
        return;
    }
    scene->loaded = true;
    if (rr_metrics_add(scene->system, collect, scene) != RR_OK)
        rr_log(scene->system, RR_WARN, "SCENE", "%s: out of memory: no metrics", scene->options->name);
    tell_loaded(scene, RR_OK, "");
    rr__scene_again(scene);
}

static int load(rr_scene_t *scene) {
    char why[2048] = "";
    uint64_t token = ++scene->next_token;
    int rc = RR_OK;
    scene->created = true;
    rr__logic_begin(scene);
    if (scene->logic->load)
        rc = scene->logic->load(scene->state, scene, scene->options->logic_arg, token, why, sizeof(why));
    rr__logic_end(scene);
    if (rc == RR_SCRIPT_PENDING)
        return rr__op_add(scene, NULL, RR__OP_LOAD, token) ? RR_OK : RR_ENOMEM;
    if (rc == RR_OK)
        rr__scene_loaded(scene, RR_OK, "");
    else
        tell_loaded(scene, rc, why[0] ? why : rr_strerror(rc));
    return rc;
}

static void destroy(rr_scene_t *scene);

static int scene_start(rr_actor_t *self, void *state, const void *arg) {
    rr_scene_t *scene = state;
    const rr_scene_options_t *options = arg;
    scene->self = self;
    scene->addr = rr_self(self);
    scene->system = rr_system_of(self);
    scene->options = options;
    scene->logic = options->logic;
    scene->offline_wait_ms = options->offline_wait_ms;
    scene->backlog_last = &scene->backlog;
    scene->todo_last = &scene->todo;
    scene->state = calloc(1, options->logic->state_size ? options->logic->state_size : 1);
    int rc = scene->state ? load(scene) : RR_ENOMEM;
    if (rc == RR_OK)
        rr__scene_settle(scene);
    else
        destroy(scene);
    leave_logic(scene);
    return rc;
}

/* ---- Stop: everyone offline, pending things ended, clean-up, exit ---- */

void rr__scene_cleaned(rr_scene_t *scene) {
    scene->cleaned = true;
    rr_exit(scene->self, RR_OK);
}

static void clean_up(rr_scene_t *scene) {
    uint64_t token = ++scene->next_token;
    scene->cleaned = true;
    int rc = RR_OK;
    if (scene->logic->cleanup) {
        rr__logic_begin(scene);
        rc = scene->logic->cleanup(scene->state, token);
        rr__logic_end(scene);
    }
    if (rc == RR_SCRIPT_PENDING && rr__op_add(scene, NULL, RR__OP_CLEANUP, token))
        return; /* TAG_STOP bounds it */
    rr_exit(scene->self, RR_OK);
}

void rr__scene_idle(rr_scene_t *scene) {
    if (!scene->stopping)
        return;
    bool over = rr_now_coarse_ns(scene->self) >= scene->stop_deadline_ns;
    if (scene->cleaned) {
        if (over)
            rr_exit(scene->self, RR_OK);
        return;
    }
    /* Handlers that ignore their end do not count; a service's answer is awaited as long as a session's handler. */
    bool served = scene->requests.count == 0 || rr_now_coarse_ns(scene->self) >= scene->serve_deadline_ns;
    bool busy = scene->all || scene->moves || !served;
    if (scene->depth == 0 && (!busy || over))
        clean_up(scene);
}

/* Handlers that run, then the offline handlers: both must have their end, and the clean-up must run, before the time is over. */
static void shorten_waits(rr_scene_t *scene) {
    uint64_t now = rr_now_ns(scene->self);
    if (!scene->stop_until_ns)
        return;
    uint64_t left_ms = scene->stop_until_ns > now ? (scene->stop_until_ns - now) / 1000000 : 0;
    if (left_ms * 3 / 8 < scene->offline_wait_ms)
        scene->offline_wait_ms = (unsigned)(left_ms * 3 / 8);
}

void rr__scene_stop(rr_scene_t *scene) {
    if (scene->stopping || rr__hand_over_delays(scene))
        return;
    unsigned wait_ms = 2 * scene->options->offline_wait_ms + STOP_GRACE_MS;
    rr__hand_over_stop(scene);
    scene->stopping = true;
    shorten_waits(scene);
    scene->stop_deadline_ns = rr_now_ns(scene->self) + wait_ms * 1000000ull;
    scene->serve_deadline_ns = rr_now_ns(scene->self) + scene->offline_wait_ms * 1000000ull;
    if (rr_timer_start(scene->self, STOP_CHECK_MS, STOP_CHECK_MS, TAG_STOP, NULL) != RR_OK)
        rr_log(scene->system, RR_WARN, "SCENE", "%s: out of memory: the stop has no deadline of its own",
               scene->options->name);
    rr__sessions_stop(scene);
    rr__scene_idle(scene);
}

static void scene_drain(rr_actor_t *self, void *state) {
    rr_scene_t *scene = state;
    if (!scene->loaded) { /* there is nobody to say good-bye to */
        rr_exit(self, RR_OK);
        return;
    }
    /* Behind what is in the mailbox. */
    if (!poke(scene, RR_TYPE_STOP))
        rr_exit(self, RR_OK);
}

static void destroy(rr_scene_t *scene) {
    if (scene->loaded)
        rr_metrics_remove(scene->system, collect, scene);
    rr__moves_free(scene); /* first: nobody hears how they end any more */
    rr__sessions_free(scene);
    rr__hand_over_free(scene);
    for (rr__todo_t *todo = scene->todo, *next; todo; todo = next) {
        next = todo->next;
        free(todo);
    }
    scene->todo = NULL;
    if (scene->created && scene->logic->destroy) {
        rr__logic_begin(scene);
        scene->logic->destroy(scene->state);
        rr__logic_end(scene);
        scene->entered = false; /* destroying ends the turn, too */
    }
    leave_logic(scene);
    scene->created = scene->loaded = false;
    free(scene->state);
    scene->state = NULL;
    rr__peers_free(scene);
    rr__calls_free(scene);
    rr__queries_free(scene);
    for (rr__backlog_item_t *item = scene->backlog, *next; item; item = next) {
        next = item->next;
        free(item);
    }
    scene->backlog = NULL;
}

static void scene_finish(rr_actor_t *self, void *state, int reason) {
    rr_scene_t *scene = state;
    rr__scene_flush(scene); /* the last words */
    destroy(scene);
}

/* ---- Spawning ---- */

static const rr_behavior_t scene_behavior = {
    .name = "scene",
    .state_size = sizeof(rr_scene_t),
    .start = scene_start,
    .receive = scene_receive,
    .turn_begin = scene_turn_begin,
    .turn_end = scene_turn_end,
    .drain = scene_drain,
    .finish = scene_finish,
};

void rr_scene_spec(const rr_scene_options_t *options, rr_spawn_t *out) {
    *out = (rr_spawn_t){.behavior = &scene_behavior,
                        .arg = options,
                        .name = options->name,
                        .executor = options->executor,
                        .guest = true,
                        .leased = options->leased};
}

int rr_scene_spawn(rr_system_t *system, const rr_scene_options_t *options, rr_addr_t *out) {
    if (!options->name || !options->logic)
        return RR_EINVAL;
    rr_spawn_t spec;
    rr_scene_spec(options, &spec);
    return rr_system_spawn(system, &spec, out);
}

/* ---- Small answers ---- */

const char *rr_scene_name(const rr_scene_t *scene) {
    return scene->options->name;
}
rr_actor_t *rr_scene_actor(rr_scene_t *scene) {
    return scene->self;
}
/* A name that is not leased has one owner per process: the address' generation orders its owners. */
uint64_t rr_scene_epoch(const rr_scene_t *scene) {
    uint64_t epoch = rr_epoch(scene->self);
    return epoch ? epoch : scene->addr;
}

const char *rr_scene_config(rr_scene_t *scene, const char *option) {
    return scene->options->config ? scene->options->config(scene->options->context, option) : NULL;
}

/* milliseconds (38 bits: eight years) | actor's slot (16) | sequence (9): increasing here, different elsewhere. */
uint64_t rr_scene_alloc_id(rr_scene_t *scene) {
    const uint64_t step = 1ull << 25, own = (uint64_t)(rr_addr_slot(scene->addr) & 0xffff) << 9;
    const int64_t since = 1767225600; /* 2026-01-01 */
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    uint64_t id = ((uint64_t)((now.tv_sec - since) * 1000 + now.tv_nsec / 1000000) << 25) | own;
    if (id <= scene->last_id) {
        id = scene->last_id + 1;
        if ((id & (step - 1)) >= own + (1u << 9))
            id = (scene->last_id / step + 1) * step + own;
    }
    scene->last_id = id;
    return id;
}
