/* scene_letters.c: dead letters of this process, for a scene's logic that wants to know of them. */
#include <stdio.h>

#include "actors/scene_impl.h"

#define ROOM 256u /* how many may wait for a scene: a flood of them is no flood of its mailbox */

int rr_scene_watch_dead_letters(rr_scene_t *scene) {
    return rr_system_watch_dead_letters(scene->system, scene->addr, ROOM);
}

/* A gate by its shard, somebody with a name, or where it was. */
static const char *name_of(const rr_scene_t *scene, rr_addr_t addr, char *out, size_t size) {
    const rr__peer_t *peer = scene->peers;
    while (peer && (peer->addr != addr || !peer->gate))
        peer = peer->next;
    if (addr == RR_NOBODY)
        *out = 0;
    else if (peer)
        snprintf(out, size, "%s", peer->gate);
    else if (!rr_name_of(scene->system, addr, out, size))
        snprintf(out, size, "#%u:%u", rr_addr_node(addr), rr_addr_slot(addr));
    return out;
}

static const char *what_of(const rr_dead_letter_t *letter) {
    if (letter->kind == RR_CALL)
        return "call";
    switch (letter->type) {
    case RR_TYPE_OUTPUT:
    case RR_TYPE_OUTPUT_BODY:
        return "to clients";
    case RR_TYPE_INPUT:
    case RR_TYPE_INPUT_BODY:
        return "from clients";
    default:
        return "other";
    }
}

void rr__on_dead_letter(rr_scene_t *scene, const rr_message_t *msg) {
    rr_dead_letter_t dead;
    char to[RR_SID_MAX], from[RR_SID_MAX];
    if (rr_message_from(msg) != RR_NOBODY || rr_message_size(msg) != sizeof(dead))
        return;
    memcpy(&dead, rr_message_data(msg), sizeof(dead));
    uint64_t lost = rr_dead_letter_taken(scene->self);
    if (!scene->logic->dead_letter || scene->cleaned)
        return;
    rr_letter_t letter = {.to = name_of(scene, dead.to, to, sizeof(to)),
                          .from = name_of(scene, dead.from, from, sizeof(from)),
                          .reason = rr_error_name(dead.reason),
                          .what = what_of(&dead),
                          .size = dead.size,
                          .lost = lost};
    rr__logic_begin(scene);
    int rc = scene->logic->dead_letter(scene->state, &letter);
    rr__logic_end(scene);
    if (rc == RR_ENOENT)
        rr_system_unwatch_dead_letters(scene->system, scene->addr);
    else if (rc != RR_OK)
        rr_count(&scene->count.handler_errors, 1);
}
