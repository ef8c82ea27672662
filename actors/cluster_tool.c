/* cluster_tool.c: asking a group from outside: rr_cluster_query, rr_cluster_drain_node. A tool is a node for a moment: it has a
 * number, a system, a loop and a mesh of its own, is no member, and nobody is told of it. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "actors/cluster.h"
#include "actors/master.h"
#include "actors/registry_wire.h"
#include "runtime/clock.h"
#include "runtime/random.h"
#include "runtime/remote.h"

#define POLL_MS 200u

typedef struct tool {
    rr_node_identity_t self, master;
    rr_system_t *system;
    rr_loop_t *loop;
    rr_mesh_t *mesh;
    const char *drain; /* node to drain; NULL: a query */
    unsigned node;     /* its number, once it was told */
    unsigned call_ms;
    pthread_mutex_t lock; /* over what follows */
    pthread_cond_t changed;
    bool done;
    int rc;
    char *answer;
    char why[512];
} tool_t;

/* ---- The actor that asks ---- */

static void finish(tool_t *tool, int rc, const char *why) {
    pthread_mutex_lock(&tool->lock);
    if (!tool->done)
        tool->rc = rr_fail(rc, tool->why, sizeof tool->why, "%s", why);
    tool->done = true;
    pthread_cond_broadcast(&tool->changed);
    pthread_mutex_unlock(&tool->lock);
}

static void on_queried(rr_actor_t *self, tool_t *tool, rr_message_t *msg) {
    pthread_mutex_lock(&tool->lock);
    tool->answer = strndup(rr_message_data(msg), rr_message_size(msg));
    pthread_mutex_unlock(&tool->lock);
    finish(tool, tool->answer ? RR_OK : RR_ENOMEM, "out of memory");
}

static void on_drained(rr_actor_t *self, tool_t *tool, rr_message_t *msg) {
    rr_reg_in_t in = rr_reg_in_of(msg);
    char why[RR_REG_WHY];
    uint8_t status = rr_reg_get8(&in);
    rr_reg_get_str(&in, why, sizeof why);
    unsigned node = rr_reg_get16(&in);
    if (in.bad)
        finish(tool, RR_EPROTO, "the master's answer is malformed");
    else if (!tool->node && status != RR_REG_OK)
        finish(tool, RR_ENOENT, why);
    else if (tool->node && (status != RR_REG_OK || node != tool->node))
        finish(tool, RR_OK, "");
    else if (rr_timer_start(self, POLL_MS, 0, 1, NULL) != RR_OK)
        finish(tool, RR_ENOMEM, "out of memory");
    tool->node = node;
}

/* It was the master's own node that was told: who answers has ended. */
static bool has_left(const tool_t *tool, int status) {
    return tool->drain && tool->node && tool->node == tool->master.node &&
           (status == RR_NOROUTE || status == RR_DIED || status == RR_LINKDOWN || status == RR_STALE);
}

static void on_answer(rr_actor_t *self, void *state, int status, rr_message_t *msg, void *context) {
    tool_t *tool = context;
    char why[sizeof tool->why];
    if (status == RR_OK && tool->drain) {
        on_drained(self, tool, msg);
    } else if (status == RR_OK) {
        on_queried(self, tool, msg);
    } else if (has_left(tool, status)) {
        finish(tool, RR_OK, "");
    } else if (tool->node) {
        snprintf(why, sizeof why, "node %s was told to drain, but the master of group %s does not answer any more: %s", tool->drain,
                 tool->self.group, rr_strerror(status));
        finish(tool, status, why);
    } else {
        snprintf(why, sizeof why, "the master of group %s does not answer: %s", tool->self.group, rr_strerror(status));
        finish(tool, status, why);
    }
}

static int ask(rr_actor_t *self, tool_t *tool) {
    rr_reg_out_t out = {0};
    if (tool->drain) {
        rr_reg_put8(&out, tool->node != 0); /* only ask */
        rr_reg_put_str(&out, tool->drain);
    }
    int rc = out.failed ? RR_ENOMEM
                        : rr_call(self, tool->master.service, tool->drain ? RR_REG_DRAIN : RR_REG_QUERY, out.data, out.size,
                                  tool->call_ms, on_answer, tool, NULL);
    rr_reg_out_free(&out);
    return rc;
}

static int asker_start(rr_actor_t *self, void *state, const void *arg) {
    tool_t *tool = *(tool_t **)state = *(tool_t *const *)arg;
    return ask(self, tool);
}

static void asker_receive(rr_actor_t *self, void *state, rr_message_t *msg) {
    tool_t *tool = *(tool_t **)state;
    if (rr_message_kind(msg) == RR_TIMER && ask(self, tool) != RR_OK)
        finish(tool, RR_ENOMEM, "out of memory");
}

static const rr_behavior_t asker = {
    .name = "asker", .state_size = sizeof(tool_t *), .start = asker_start, .receive = asker_receive};

/* ---- Being a node for a moment ---- */

static int enter(tool_t *tool, const char *broker, const void *key, size_t key_size, uint64_t until, char *why,
                 size_t why_size) {
    uint64_t now = rr_machine_ms();
    int rc = RR_OK;
    while (rc == RR_OK && !tool->self.incarnation)
        rc = rr_random_os(&tool->self.incarnation, sizeof tool->self.incarnation);
    if (rc != RR_OK)
        return rr_fail(rc, why, why_size, "no randomness");
    snprintf(tool->self.name, sizeof tool->self.name, "%c%d-%llx", RR_NODE_VISITOR, (int)getpid(),
             (unsigned long long)tool->self.incarnation);
    rc = rr_node_join(broker, key, key_size, &tool->self, &tool->master, until > now ? (unsigned)(until - now) : 1, why,
                      why_size);
    if (rc == RR_OK && tool->master.service == RR_NOBODY)
        rc = rr_fail(RR_EREFUSED, why, why_size, "%s is no master of a group", broker);
    snprintf(tool->master.address, sizeof tool->master.address, "%s", broker);
    return rc;
}

static int open_system(tool_t *tool) {
    rr_options_t options;
    rr_options_init(&options);
    options.node = tool->self.node;
    options.core_threads = 1;
    options.max_actors = 1024;
    options.log_screen = false;
    options.replay = false;
    int rc = rr_system_create(&tool->system, &options);
    return rc == RR_OK ? rr_loop_create(tool->system, "ask", &tool->loop) : rc;
}

static int open_mesh(tool_t *tool, const void *key, size_t key_size, char *why, size_t why_size) {
    rr_mesh_options_t options;
    rr_mesh_options_init(&options);
    options.self = tool->self;
    options.key = key;
    options.key_size = key_size;
    int rc = rr_mesh_create(tool->loop, &options, &tool->mesh, why, why_size);
    return rc == RR_OK ? rr_mesh_peer(tool->mesh, &tool->master, true) : rc;
}

static int begin(tool_t *tool) {
    rr_spawn_t spec = {.behavior = &asker, .arg = &tool, .arg_size = sizeof tool};
    int rc = rr_system_spawn(tool->system, &spec, NULL);
    return rc == RR_OK ? rr_system_start(tool->system) : rc;
}

static void wait_until(tool_t *tool, uint64_t until_ms) {
    struct timespec until = {(time_t)(until_ms / 1000), (long)(until_ms % 1000) * 1000000};
    pthread_mutex_lock(&tool->lock);
    int error = 0;
    while (!tool->done && !error)
        error = pthread_cond_timedwait(&tool->changed, &tool->lock, &until);
    pthread_mutex_unlock(&tool->lock);
    finish(tool, RR_TIMEOUT, tool->drain ? "it was told to drain, and is not gone yet" : "no answer in time");
}

static void close_all(tool_t *tool) {
    if (tool->mesh)
        rr_mesh_leave(tool->mesh, 500);
    if (tool->system && !rr_system_stop(tool->system))
        return; /* a thread that does not come back: the process ends soon */
    rr_mesh_destroy(tool->mesh);
    rr_system_destroy(tool->system);
}

static int run(tool_t *tool, const char *broker, const char *group, const void *key, size_t key_size, unsigned deadline_ms,
               char *why, size_t why_size) {
    uint64_t until = rr_machine_ms() + deadline_ms;
    pthread_condattr_t attr;
    if (strlen(group) >= sizeof tool->self.group)
        return rr_fail(RR_EINVAL, why, why_size, "the group's name is too long");
    strcpy(tool->self.group, group);
    tool->call_ms = deadline_ms < 5000 ? deadline_ms : 5000;
    int rc = enter(tool, broker, key, key_size, until, why, why_size);
    if (rc != RR_OK)
        return rc;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&tool->changed, &attr);
    pthread_condattr_destroy(&attr);
    pthread_mutex_init(&tool->lock, NULL);
    snprintf(why, why_size, "out of memory");
    bool started = false;
    rc = open_system(tool);
    if (rc == RR_OK)
        rc = open_mesh(tool, key, key_size, why, why_size);
    if (rc == RR_OK) {
        rc = begin(tool);
        started = rc == RR_OK;
    }
    if (started) {
        wait_until(tool, until);
        rc = rr_fail(tool->rc, why, why_size, "%s", tool->why);
    }
    close_all(tool);
    pthread_mutex_destroy(&tool->lock);
    pthread_cond_destroy(&tool->changed);
    return rc;
}

int rr_cluster_query(const char *broker, const char *group, const void *key, size_t key_size, unsigned deadline_ms,
                     char **json, char *why, size_t why_size) {
    tool_t tool = {0};
    int rc = run(&tool, broker, group, key, key_size, deadline_ms, why, why_size);
    if (rc == RR_OK)
        *json = tool.answer;
    else
        free(tool.answer);
    return rc;
}

int rr_cluster_drain_node(const char *broker, const char *group, const void *key, size_t key_size, const char *node,
                          unsigned deadline_ms, char *why, size_t why_size) {
    tool_t tool = {.drain = node};
    return run(&tool, broker, group, key, key_size, deadline_ms, why, why_size);
}
