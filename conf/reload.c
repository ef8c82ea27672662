#include "conf/reload.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "actors/protocol.h"
#include "conf/saves.h"

#define AGAIN_MS 1000u

enum { TYPE_LOOK = 1 };

/* ---- The actor: asks each scene, one question at a time, and says what came of it ---- */

typedef struct asked {
    bool under_way;
    bool again; /* saved meanwhile: perhaps behind its look */
    bool late;  /* it did not come to it, which was said */
} asked_t;

typedef struct reload_actor {
    const char *const *scenes;
    size_t count, under_way;
    asked_t *asked;
    char *told; /* what was said last, while other scenes may still say the same; NULL = nothing */
    bool told_ok;
    char also[1024]; /* who said the same */
} reload_actor_t;

static void tell_also(rr_actor_t *self, reload_actor_t *state) {
    if (state->also[0])
        rr_log(rr_system_of(self), RR_INFO, "RELOAD", "the same in %s", state->also);
    state->also[0] = 0;
}

static void tell(rr_actor_t *self, reload_actor_t *state, const char *scene, bool ok, const char *text) {
    size_t used = strlen(state->also);
    if (state->told && state->told_ok == ok && strcmp(state->told, text) == 0) {
        snprintf(state->also + used, sizeof state->also - used, "%s%s", used ? ", " : "", scene);
        return;
    }
    tell_also(self, state);
    free(state->told);
    state->told = strdup(text); /* out of memory: it is said once more */
    state->told_ok = ok;
    if (ok)
        rr_log(rr_system_of(self), RR_INFO, "RELOAD", "%s runs what was saved: %s", scene, text);
    else
        rr_log(rr_system_of(self), RR_ERROR, "RELOAD", "%s: what was saved does not load, the old code goes on\n%s", scene, text);
}

static void ask(rr_actor_t *self, reload_actor_t *state, size_t index);

/* Its turn takes long, or its mailbox is full: it loads when it comes to it, and is asked again for the sake of what it says. */
static void on_late(rr_actor_t *self, reload_actor_t *state, size_t index) {
    if (!state->asked[index].late)
        rr_log(rr_system_of(self), RR_WARN, "RELOAD", "%s does not come to load what was saved: a handler of it takes long",
               state->scenes[index]);
    state->asked[index].late = true;
    if (rr_timer_start(self, AGAIN_MS, 0, (uint32_t)index, NULL) != RR_OK)
        rr_log(rr_system_of(self), RR_WARN, "RELOAD", "%s is not asked again: out of memory", state->scenes[index]);
}

static void on_answer(rr_actor_t *self, reload_actor_t *state, size_t index, const rr_message_t *msg) {
    rr_reload_reply_t head;
    size_t size = rr_message_size(msg) - sizeof head;
    char *text = strndup((const char *)rr_message_data(msg) + sizeof head, size);
    memcpy(&head, rr_message_data(msg), sizeof head);
    if (text && *text)
        tell(self, state, state->scenes[index], head.ok, text);
    else if (state->asked[index].late || !text)
        rr_log(rr_system_of(self), RR_INFO, "RELOAD", "%s runs what was saved", state->scenes[index]);
    state->asked[index].late = false;
    free(text);
}

/* Other ends than these two mean that the scene does not run: it loads what is there when it starts. */
static void on_end(rr_actor_t *self, void *pointer, int status, rr_message_t *msg, void *context) {
    reload_actor_t *state = pointer;
    size_t index = (size_t)(uintptr_t)context;
    asked_t *asked = &state->asked[index];
    asked->under_way = false;
    state->under_way--;
    if (status == RR_OK && rr_message_size(msg) >= sizeof(rr_reload_reply_t))
        on_answer(self, state, index, msg);
    else if (status == RR_TIMEOUT || status == RR_OVERLOAD)
        on_late(self, state, index);
    if (asked->again)
        ask(self, state, index);
    if (state->under_way)
        return;
    tell_also(self, state);
    free(state->told);
    state->told = NULL;
}

static void ask(rr_actor_t *self, reload_actor_t *state, size_t index) {
    asked_t *asked = &state->asked[index];
    rr_system_t *system = rr_system_of(self);
    rr_addr_t scene = rr_lookup(system, state->scenes[index]);
    asked->again = asked->under_way;
    if (asked->under_way || scene == RR_NOBODY || rr_addr_node(scene) != rr_system_node(system))
        return;
    int rc = rr_call(self, scene, RR_TYPE_SAVED, NULL, 0, 0, on_end, (void *)(uintptr_t)index, NULL);
    asked->under_way = rc == RR_OK;
    state->under_way += rc == RR_OK;
    if (rc != RR_OK)
        rr_log(system, RR_WARN, "RELOAD", "%s cannot be asked to load what was saved: %s", state->scenes[index], rr_strerror(rc));
}

static int actor_start(rr_actor_t *self, void *pointer, const void *arg) {
    reload_actor_t *state = pointer;
    const rr_reload_options_t *options = arg;
    (void)self;
    state->scenes = options->scenes;
    state->count = options->scene_count;
    state->asked = calloc(state->count + 1, sizeof *state->asked);
    return state->asked ? RR_OK : RR_ENOMEM;
}

static void actor_receive(rr_actor_t *self, void *pointer, rr_message_t *msg) {
    reload_actor_t *state = pointer;
    if (rr_message_kind(msg) == RR_TIMER)
        ask(self, state, rr_message_type(msg));
    for (size_t i = 0; rr_message_kind(msg) == RR_SEND && rr_message_type(msg) == TYPE_LOOK && i < state->count; i++)
        ask(self, state, i);
}

static void actor_finish(rr_actor_t *self, void *pointer, int reason) {
    reload_actor_t *state = pointer;
    (void)self, (void)reason;
    free(state->asked);
    free(state->told);
}

static const rr_behavior_t reload_behavior = {
    .name = "reload",
    .state_size = sizeof(reload_actor_t),
    .start = actor_start,
    .receive = actor_receive,
    .finish = actor_finish,
};

/* ---- The two together ---- */

struct rr_reload {
    rr_system_t *system;
    rr_addr_t actor;
    rr_saves_t *saves;
};

static void on_saved(void *context) {
    rr_reload_t *reload = context;
    int rc = rr_system_send(reload->system, reload->actor, TYPE_LOOK, NULL, 0);
    if (rc != RR_OK)
        rr_log(reload->system, RR_WARN, "RELOAD", "what was saved is not loaded: %s; save it again", rr_strerror(rc));
}

static void on_note(void *context, const char *line) {
    rr_log(((rr_reload_t *)context)->system, RR_WARN, "RELOAD", "%s", line);
}

int rr_reload_start(rr_system_t *system, const rr_reload_options_t *options, rr_reload_t **out) {
    rr_reload_t *reload = calloc(1, sizeof *reload);
    rr_spawn_t spec = {.behavior = &reload_behavior, .arg = options, .arg_size = sizeof *options};
    rr_saves_options_t saves = {.folders = options->folders, .folder_count = options->folder_count, .saved = on_saved,
                                .note = on_note, .context = reload};
    if (!reload)
        return RR_ENOMEM;
    reload->system = system;
    int rc = rr_system_spawn(system, &spec, &reload->actor);
    if (rc == RR_OK)
        rc = rr_saves_start(&saves, &reload->saves);
    if (rc == RR_OK)
        *out = reload;
    else
        free(reload); /* the actor hears of nothing, and ends with the system */
    return rc;
}

void rr_reload_stop(rr_reload_t *reload) {
    if (!reload)
        return;
    rr_saves_stop(reload->saves);
    free(reload);
}
