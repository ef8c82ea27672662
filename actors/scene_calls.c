/* scene_calls.c: a scene among actors: services offered and called, timers, late verdicts. */
#include <stdio.h>
#include <stdlib.h>

#include "actors/bridge.h"
#include "actors/scene_impl.h"

enum { TAG_SCRIPT = 1 }; /* see scene.c */

/* ---- Names of other actors: looked up once, watched ---- */

typedef struct name_entry {
    rr_addr_t addr;
    uint64_t monitor;
    bool database; /* asked as one: the logic hears of its end */
    char name[];
} name_entry_t;

static uint64_t name_hash(const char *name) {
    rr_sid_t id = {.text = name, .size = (uint32_t)strlen(name)};
    return rr_sid_hash(&id);
}

static bool is_name(const void *item, const void *key) {
    return !strcmp(((const name_entry_t *)item)->name, key);
}

/* Remembers an address until its actor ends. Without memory it is looked up again next time. */
static name_entry_t *remember(rr_scene_t *scene, const char *name, uint64_t hash, rr_addr_t addr) {
    name_entry_t *entry = malloc(sizeof(*entry) + strlen(name) + 1);
    if (!entry)
        return NULL;
    entry->addr = addr;
    entry->database = false;
    strcpy(entry->name, name);
    if (rr_monitor(scene->self, addr, &entry->monitor) != RR_OK) {
        free(entry);
        return NULL;
    }
    /* The low bit tells names from peers: both are aligned. */
    if (!rr_map_put(&scene->downs, entry->monitor, (char *)entry + 1) || !rr_set_add(&scene->names, hash, entry)) {
        rr_map_take(&scene->downs, entry->monitor);
        rr_demonitor(scene->self, entry->monitor);
        free(entry);
        return NULL;
    }
    return entry;
}

static rr_addr_t look_up(rr_scene_t *scene, const char *name, bool database) {
    uint64_t hash = name_hash(name);
    name_entry_t *entry = rr_set_find(&scene->names, hash, is_name, name);
    rr_addr_t addr = entry ? entry->addr : rr_lookup(scene->system, name);
    if (!entry && addr != RR_NOBODY)
        entry = remember(scene, name, hash, addr);
    if (entry)
        entry->database |= database;
    return addr;
}

rr_addr_t rr__scene_lookup(rr_scene_t *scene, const char *name) {
    return look_up(scene, name, false);
}

rr_addr_t rr__scene_lookup_database(rr_scene_t *scene, const char *name) {
    return look_up(scene, name, true);
}

bool rr__on_name_down(rr_scene_t *scene, uint64_t monitor) {
    char *tagged = rr_map_get(&scene->downs, monitor);
    if (!tagged || !((uintptr_t)tagged & 1))
        return false;
    name_entry_t *entry = (name_entry_t *)(tagged - 1);
    rr_map_take(&scene->downs, monitor);
    rr_set_remove(&scene->names, name_hash(entry->name), entry);
    if (entry->database)
        rr__database_down(scene, entry->name);
    free(entry);
    return true;
}

bool rr_scene_exists(rr_scene_t *scene, const char *name) {
    return rr__scene_lookup(scene, name) != RR_NOBODY;
}

/* ---- Calling ---- */

static void answer(rr_scene_t *scene, uint64_t token, const char *error, const void *body, size_t size) {
    if (error)
        rr_count(&scene->count.call_errors, 1);
    if (!scene->logic->answer)
        return;
    rr__logic_begin(scene);
    scene->logic->answer(scene->state, token, error, body, size);
    rr__logic_end(scene);
}

static void on_called(rr_actor_t *self, void *state, int status, rr_message_t *msg, void *context) {
    rr_scene_t *scene = state;
    uint64_t token = (uint64_t)(uintptr_t)context;
    const void *body = NULL;
    size_t size = 0;
    if (status == RR_OK)
        status = rr_answer_decode(rr_message_data(msg), rr_message_size(msg), &body, &size);
    if (status == RR_OK) {
        answer(scene, token, NULL, body, size);
    } else {
        size_t text_size = status == RR_EHANDLER && msg ? rr_message_size(msg) : 0;
        const char *text = text_size ? rr_message_data(msg) : rr_strerror(status);
        text_size = text_size ? text_size : strlen(text);
        char *why = malloc(text_size + 64);
        if (why)
            sprintf(why, "%s%s%.*s", status == RR_EHANDLER ? "" : rr_error_name(status),
                    status == RR_EHANDLER ? "" : ": ", (int)text_size, text);
        answer(scene, token, why ? why : "ENOMEM: out of memory", NULL, 0);
        free(why);
    }
    rr__scene_settle(scene);
}

_Static_assert(sizeof(uintptr_t) == 8, "tokens travel as context pointers");

int rr_scene_call(rr_scene_t *scene, const char *name, const char *method, const void *body, size_t size,
                  unsigned timeout_ms, uint64_t token) {
    rr_addr_t target = rr__scene_lookup(scene, name);
    rr_count(&scene->count.calls, 1);
    if (target == RR_NOBODY) {
        char why[200];
        snprintf(why, sizeof(why), "NOROUTE: there is no actor named %.127s", name);
        rr__scene_fail(scene, token, why);
        return RR_OK;
    }
    rr_buffer_t *buffer = rr_service_encode(scene->options->name, method, body, size);
    if (!buffer)
        return RR_ENOMEM;
    return rr_call_buffer(scene->self, target, RR_TYPE_SERVICE, buffer, timeout_ms, on_called, (void *)(uintptr_t)token,
                          NULL);
}

int rr_scene_call_group(rr_scene_t *scene, const char *group, const char *name, const char *method, const void *body,
                        size_t size, unsigned timeout_ms, uint64_t token) {
    rr_bridge_target_t to = {group, name, timeout_ms ? timeout_ms : RR_CALL_TIMEOUT_MS};
    rr_count(&scene->count.calls, 1);
    if (!rr_name_legal(group) || !rr_name_legal(name)) {
        rr__scene_fail(scene, token, "NOROUTE: a group and a service are named by 1 to 127 letters, digits and _-.@:/#");
        return RR_OK;
    }
    rr_addr_t bridge = rr__scene_lookup(scene, RR_BRIDGE_NAME);
    if (bridge == RR_NOBODY) {
        rr__scene_fail(scene, token,
                       "NOROUTE: this group has no bridge; start its master with -bridge_broker GROUP@tcp://HOST:PORT");
        return RR_OK;
    }
    rr_buffer_t *buffer = rr_bridge_encode(&to, scene->options->name, method, body, size);
    if (!buffer)
        return RR_ENOMEM;
    return rr_call_buffer(scene->self, bridge, RR_TYPE_BRIDGE, buffer, to.timeout_ms, on_called,
                          (void *)(uintptr_t)token, NULL);
}

int rr_scene_connect_outer(rr_scene_t *scene, const char *name, const char *address) {
    char why[600] = "this process has no connections to outer services";
    int rc = RR_EUNSUPPORTED;
    if (scene->options->connect_outer)
        rc = scene->options->connect_outer(scene->options->context, name, address, why, sizeof why);
    if (rc != RR_OK)
        rr_log(scene->system, RR_ERROR, "SCENE", "%s: connect_to_outer_service('%.127s', '%.255s'): %s",
               scene->options->name, name, address, why);
    return rc;
}

/* ---- Being called ---- */

void rr__on_service(rr_scene_t *scene, rr_message_t *msg) {
    rr_service_request_t request;
    rr_count(&scene->count.services, 1);
    int rc = rr_service_decode(rr_message_data(msg), rr_message_size(msg), &request);
    uint64_t id = ++scene->next_token;
    if (rc != RR_OK) {
        rr_reply_error(scene->self, msg, RR_EHANDLER, "PROTO: not a service request");
    } else if (!scene->logic->service) {
        rr_reply_error(scene->self, msg, RR_EHANDLER, "this scene offers no service");
    } else if (scene->requests.count >= scene->options->max_requests || !rr_map_put(&scene->requests, id, msg)) {
        rr_count(&scene->count.overloads, 1);
        rr_reply_error(scene->self, msg, RR_OVERLOAD, NULL);
    } else {
        rr__logic_begin(scene);
        scene->logic->service(scene->state, id, request.from, request.method, request.body, request.size);
        rr__logic_end(scene);
    }
}

int rr_scene_reply(rr_scene_t *scene, uint64_t request, const char *error, const void *body, size_t size) {
    rr_message_t *msg = rr_map_take(&scene->requests, request);
    if (!msg)
        return RR_ENOENT;
    if (error) {
        rr_reply_error(scene->self, msg, RR_EHANDLER, error);
        return RR_OK;
    }
    rr_buffer_t *buffer = rr_answer_encode(body, size);
    if (!buffer) {
        rr_reply_error(scene->self, msg, RR_EHANDLER, "out of memory");
        return RR_ENOMEM;
    }
    rr_reply_buffer(scene->self, msg, buffer);
    return RR_OK;
}

/* ---- Timers ---- */

typedef struct script_timer {
    uint64_t token, id;
    bool repeats;
} script_timer_t;

int rr_scene_timer(rr_scene_t *scene, uint64_t delay_ms, uint64_t repeat_ms, uint64_t token) {
    script_timer_t *timer = malloc(sizeof(*timer));
    if (!timer)
        return RR_ENOMEM;
    *timer = (script_timer_t){.token = token, .repeats = repeat_ms != 0};
    int rc = rr_timer_start(scene->self, delay_ms, repeat_ms, TAG_SCRIPT, &timer->id);
    if (rc != RR_OK) {
        free(timer);
        return rc;
    }
    if (!rr_map_put(&scene->timers_by_id, timer->id, timer) || !rr_map_put(&scene->timers_by_token, token, timer)) {
        rr_timer_cancel(scene->self, timer->id);
        rr_map_take(&scene->timers_by_id, timer->id);
        free(timer);
        return RR_ENOMEM;
    }
    return RR_OK;
}

bool rr_scene_timer_cancel(rr_scene_t *scene, uint64_t token) {
    script_timer_t *timer = rr_map_take(&scene->timers_by_token, token);
    if (!timer)
        return false;
    rr_map_take(&scene->timers_by_id, timer->id);
    rr_timer_cancel(scene->self, timer->id);
    free(timer);
    return true;
}

void rr__on_script_timer(rr_scene_t *scene, uint64_t id) {
    script_timer_t *timer = rr_map_get(&scene->timers_by_id, id);
    if (!timer)
        return;
    uint64_t token = timer->token;
    if (!timer->repeats) {
        rr_map_take(&scene->timers_by_id, id);
        rr_map_take(&scene->timers_by_token, token);
        free(timer);
    }
    rr_count(&scene->count.timers, 1);
    if (!scene->logic->timer || scene->cleaned)
        return;
    rr__logic_begin(scene);
    scene->logic->timer(scene->state, token);
    rr__logic_end(scene);
}

/* ---- Late verdicts ---- */

int rr_scene_verdict(rr_scene_t *scene, uint64_t cb_id, const rr_verdict_t *verdict) {
    rr_session_t *session = rr_map_take(&scene->verdicts, cb_id);
    if (!session)
        return RR_ENOENT;
    session->transit->cb_id = 0;
    size_t text_size = verdict->id.text ? verdict->id.size : 0, extra_size = verdict->extra ? verdict->extra_size : 0;
    rr__todo_t *todo = malloc(sizeof(*todo) + text_size + extra_size);
    if (!todo) {
        rr_map_put(&scene->verdicts, cb_id, session); /* where it just was: there is room */
        session->transit->cb_id = cb_id;
        return RR_ENOMEM;
    }
    *todo = (rr__todo_t){.kind = RR__TODO_VERDICT,
                         .session = session,
                         .status = verdict->code,
                         .id = verdict->id,
                         .has_extra = verdict->extra != NULL,
                         .extra_size = extra_size};
    if (text_size)
        memcpy(todo->data, verdict->id.text, text_size);
    if (extra_size)
        memcpy(todo->data + text_size, verdict->extra, extra_size);
    if (verdict->id.text)
        todo->id.text = todo->data;
    rr__scene_todo(scene, todo);
    return RR_OK;
}

/* ---- The end ---- */

static void free_values(rr_map_t *map) {
    uint64_t key;
    for (void *value; (value = rr_map_any(map, &key));) {
        rr_map_take(map, key);
        free(value);
    }
    rr_map_free(map);
}

void rr__calls_free(rr_scene_t *scene) {
    for (uint32_t i = 0; scene->names.cells && i <= scene->names.mask; i++)
        free(scene->names.cells[i].item);
    rr_set_free(&scene->names);
    free_values(&scene->timers_by_id);
    rr_map_free(&scene->timers_by_token);
    rr_map_free(&scene->requests); /* the runtime answers calls that its actor kept */
    rr_map_free(&scene->downs);
}
