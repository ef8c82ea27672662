/* logics.c: the shipped logics in C: the smallest examples of logic.h, and what rr-bench measures the gate with. */
#include <string.h>

#include "actors/logic.h"

static int echo_message(void *state, rr_session_t *session, uint16_t cmd, const void *body, size_t size,
                        rr_buffer_t *owner, uint64_t token) {
    int rc = rr_scene_send(rr_session_scene(session), session, cmd, body, size, false);
    return rc == RR_EFULL ? RR_OK : rc; /* counted: a gate that does not keep up is no fault of this handler */
}

static const rr_scene_logic_t echo = {.name = "echo", .message = echo_message};

static int chat_message(void *state, rr_session_t *session, uint16_t cmd, const void *body, size_t size,
                        rr_buffer_t *owner, uint64_t token) {
    int rc = rr_scene_broadcast(rr_session_scene(session), cmd, body, size, false);
    return rc == RR_EFULL ? RR_OK : rc;
}

static const rr_scene_logic_t chat = {.name = "chat", .message = chat_message};

static const rr_scene_logic_t *const all[] = {&echo, &chat};

const rr_scene_logic_t *rr_logic_find(const char *name) {
    for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++)
        if (!strcmp(all[i]->name, name))
            return all[i];
    return NULL;
}
