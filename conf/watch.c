#include "conf/watch.h"

#include <stdlib.h>
#include <string.h>

enum { TYPE_ASK = 1 };

typedef struct watch_arg {
    rr_watch_options_t options;
    rr_addr_t actors[];
} watch_arg_t;

typedef struct watch {
    rr_watch_options_t options;
    uint64_t *monitors; /* options.count of them; 0 = has ended */
} watch_t;

static int watch_start(rr_actor_t *self, void *state, const void *arg) {
    watch_t *watch = state;
    const watch_arg_t *given = arg;
    int rc = RR_OK;
    watch->options = given->options;
    watch->monitors = calloc(given->options.count + 1, sizeof *watch->monitors);
    if (!watch->monitors)
        return RR_ENOMEM;
    for (size_t i = 0; i < given->options.count && rc == RR_OK; i++)
        rc = rr_monitor(self, given->actors[i], &watch->monitors[i]);
    if (rc != RR_OK)
        free(watch->monitors);
    return rc;
}

static void watch_receive(rr_actor_t *self, void *state, rr_message_t *msg) {
    watch_t *watch = state;
    (void)self;
    if (rr_message_kind(msg) == RR_SEND && rr_message_type(msg) == TYPE_ASK)
        watch->options.alive(watch->options.context);
    if (rr_message_kind(msg) != RR_DOWN)
        return;
    for (size_t i = 0; i < watch->options.count; i++) {
        if (watch->monitors[i] != rr_message_request(msg))
            continue;
        watch->monitors[i] = 0;
        watch->options.ended(watch->options.context, i, (int)rr_message_type(msg));
    }
}

static void watch_finish(rr_actor_t *self, void *state, int reason) {
    (void)self, (void)reason;
    free(((watch_t *)state)->monitors);
}

static const rr_behavior_t watch_behavior = {
    .name = "watch",
    .state_size = sizeof(watch_t),
    .start = watch_start,
    .receive = watch_receive,
    .finish = watch_finish,
};

int rr_watch_spawn(rr_system_t *system, const rr_watch_options_t *options, rr_addr_t *out) {
    size_t size = sizeof(watch_arg_t) + options->count * sizeof(rr_addr_t);
    watch_arg_t *arg = malloc(size);
    if (!arg)
        return RR_ENOMEM;
    arg->options = *options;
    if (options->count)
        memcpy(arg->actors, options->actors, options->count * sizeof(rr_addr_t));
    rr_spawn_t spec = {.behavior = &watch_behavior, .arg = arg, .arg_size = size};
    int rc = rr_system_spawn(system, &spec, out);
    free(arg);
    return rc;
}

int rr_watch_ask(rr_system_t *system, rr_addr_t watch) { return rr_system_send(system, watch, TYPE_ASK, NULL, 0); }
