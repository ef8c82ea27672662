/* spawn.c: a running graph's life: it is built, starts, tells its state, drains and ends. */
#include "conf/spawn_impl.h"

#include <errno.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "actors/broker.h"
#include "conf/membership.h"
#include "conf/watch.h"
#include "runtime/clock.h"

/* ---- What scenes and gates report ---- */

static void gate_ended(void *context, size_t index, int reason) {
    rr_running_t *running = context;
    pthread_mutex_lock(&running->lock);
    if (!running->ending && !running->failure[0])
        snprintf(running->failure, sizeof running->failure, "%s has ended: %s%s", rr_gate_name(running->gates[index]),
                 rr_strerror(reason), reason == RR_STALE ? ": its name belongs to another node of the group" : "");
    pthread_mutex_unlock(&running->lock);
    running->wake(running->wake_context);
}

static void database_ended(void *context, const char *name, int reason) {
    rr_running_t *running = context;
    pthread_mutex_lock(&running->lock);
    if (!running->ending && !running->failure[0])
        snprintf(running->failure, sizeof running->failure, "%s has ended: %s%s", name, rr_strerror(reason),
                 reason == RR_STALE ? ": its name belongs to another node of the group" : "");
    pthread_mutex_unlock(&running->lock);
    running->wake(running->wake_context);
}

static void asked_to_drain(void *context) {
    rr_running_t *running = context;
    pthread_mutex_lock(&running->lock);
    running->asked = true;
    pthread_mutex_unlock(&running->lock);
    running->wake(running->wake_context);
}

/* Its scenes are about to end, and none could have its name again: their supervisors must not try. */
static void lost_group(void *context, const char *why) {
    rr_running_t *running = context;
    pthread_mutex_lock(&running->lock);
    if (!running->ending && !running->failure[0])
        snprintf(running->failure, sizeof running->failure, "node %s is no member of its group any more: %s; start it again",
                 running->share->node, why);
    for (size_t i = 0; i < running->scene_count; i++)
        rr_kill(running->system, running->scenes[i].supervisor, RR_STALE);
    pthread_mutex_unlock(&running->lock);
    running->wake(running->wake_context);
}

static void alive(void *context) {
    rr_running_t *running = context;
    pthread_mutex_lock(&running->lock);
    running->pulse++;
    pthread_mutex_unlock(&running->lock);
    running->wake(running->wake_context);
}

rr_running_state_t rr_running_state(rr_running_t *running, char *why, size_t why_size) {
    pthread_mutex_lock(&running->lock);
    rr_running_state_t state = running->failure[0]                         ? RR_RUNNING_FAILED
                               : running->asked                           ? RR_RUNNING_ASKED
                               : running->loading + running->opening == 0 ? RR_RUNNING_READY
                                                                           : RR_RUNNING_STARTING;
    snprintf(why, why_size, "%s", running->failure);
    pthread_mutex_unlock(&running->lock);
    return state;
}

/* ---- The broker ---- */

/* Takes the broker's port, so that a second process on it learns so at once: all nodes in one process, where nobody joins. */
static int hold_port(rr_running_t *running, const rr_item_t *broker, char *why, size_t why_size) {
    const char *text = rr_item_text(broker, "listen");
    rr_address_t address;
    if (!text)
        return RR_OK;
    int rc = rr_address_parse(text, &address, why, why_size);
    if (rc != RR_OK)
        return rc;
    char port[16];
    struct addrinfo hints = {.ai_flags = AI_PASSIVE | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM}, *found = NULL;
    snprintf(port, sizeof port, "%u", address.port);
    int failed = getaddrinfo(strcmp(address.host, "*") == 0 ? NULL : address.host, port, &hints, &found);
    if (failed)
        return rr_fail(RR_EINVAL, why, why_size, "the broker's address %s: %s; use an address of this machine", text,
                       gai_strerror(failed));
    running->broker_fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (running->broker_fd < 0 || bind(running->broker_fd, found->ai_addr, found->ai_addrlen) != 0) {
        rc = rr_error_from_errno(errno);
        if (errno == EADDRINUSE)
            snprintf(why, why_size, "the broker's address %s is taken; give this process its own `-broker` and `-master_broker %s`",
                     text, text);
        else
            snprintf(why, why_size, "the broker's address %s cannot be bound: %s; use an address of this machine", text,
                     strerror(errno));
    }
    freeaddrinfo(found);
    return rc;
}

static int spawn_broker(rr_running_t *running, const rr_item_t *item, char *why, size_t why_size) {
    rr_broker_options_t options;
    rr_broker_options_init(&options);
    options.name = item->name;
    int rc = rr_broker_spawn(running->system, &options, NULL);
    if (rc != RR_OK)
        snprintf(why, why_size, "broker %s does not start: %s", item->name, rr_strerror(rc));
    return rc;
}

/* ---- All of it ---- */

static int allocate(rr_running_t *running) {
    size_t actors = rr_graph_actor_count(running->graph) + 1;
    running->broker_fd = -1;
    running->scenes = calloc(actors, sizeof *running->scenes);
    running->scene_names = calloc(actors, sizeof *running->scene_names);
    running->reload_names = calloc(actors, sizeof *running->reload_names);
    running->gates = calloc(actors, sizeof *running->gates);
    running->gate_items = calloc(actors, sizeof *running->gate_items);
    running->gate_open = calloc(actors, sizeof *running->gate_open);
    bool all = running->scenes && running->scene_names && running->reload_names && running->gates && running->gate_items && running->gate_open;
    return all ? RR_OK : RR_ENOMEM;
}

/* One actor's share of the building; brokers only take their port, databases are made together. */
static int create_actor(rr_running_t *running, const rr_item_t *item, char *why, size_t why_size) {
    int rc = RR_OK;
    if (!rr_graph_runs(running->graph, item))
        return RR_OK;
    if (item->scope == RR_SCOPE_BROKER) {
        rc = running->broker_fd < 0 && !running->member ? hold_port(running, item, why, why_size) : RR_OK;
    } else if (item->scope == RR_SCOPE_SCENE) {
        rr_running_scene_t *scene = &running->scenes[running->scene_count];
        running->scene_names[running->scene_count++] = item->name;
        rc = rr__fill_scene(running, scene, item, why, why_size);
    } else if (item->scope == RR_SCOPE_GATE) {
        rc = rr__create_gate(running, item, &running->gates[running->gate_count], why, why_size);
        running->gate_items[running->gate_count] = item;
        running->gate_count += rc == RR_OK;
    }
    return rc;
}

static int join_group(rr_running_t *running, char *why, size_t why_size) {
    rr_membership_options_t options = {.graph = running->graph, .share = running->share, .stop = running->stop,
                                       .drain = asked_to_drain, .lost = lost_group, .context = running};
    return rr_membership_join(&options, &running->member, why, why_size);
}

/* The threads and, between them, the membership: the group's node id is the system's, and its port is on the first loop. */
static int create_parts(rr_running_t *running, const char *folder, char *why, size_t why_size) {
    int rc = allocate(running);
    if (rc == RR_OK && rr__has_python(running->graph))
        rc = rr__start_python(running, folder, why, why_size);
    if (rc == RR_OK && running->share->cluster)
        rc = join_group(running, why, why_size);
    if (rc == RR_OK)
        rc = rr__create_system(running, why, why_size);
    if (rc == RR_OK)
        rc = rr__create_threads(running, why, why_size);
    if (rc == RR_OK && running->member)
        rc = rr_membership_create(running->member, running->system, running->loops[0], why, why_size);
    return rc;
}

static int create_databases(rr_running_t *running, char *why, size_t why_size) {
    rr_databases_options_t options = {.graph = running->graph, .system = running->system, .loops = running->loops,
                                      .loop_count = running->loop_count, .leased = running->member != NULL,
                                      .ended = database_ended, .context = running};
    return rr_databases_create(&options, &running->databases, why, why_size);
}

int rr_running_create(const rr_running_options_t *options, rr_running_t **out, char *why, size_t why_size) {
    rr_running_t *running = calloc(1, sizeof *running);
    rr_graph_t *graph = options->graph;
    snprintf(why, why_size, "out of memory");
    if (!running)
        return RR_ENOMEM;
    running->graph = graph;
    running->share = options->share;
    running->stop = options->stop;
    running->wake = options->wake;
    running->wake_context = options->context;
    pthread_mutex_init(&running->lock, NULL);
    int rc = create_parts(running, options->folder, why, why_size);
    for (size_t i = 0; i < rr_graph_actor_count(graph) && rc == RR_OK; i++)
        rc = create_actor(running, rr_graph_actor(graph, i), why, why_size);
    if (rc == RR_OK)
        rc = create_databases(running, why, why_size);
    running->loading = running->scene_count;
    running->opening = running->gate_count;
    if (rc == RR_OK)
        *out = running;
    else if (!rr_running_destroy(running))
        snprintf(why + strlen(why), why_size - strlen(why), " (and CPython did not end)");
    return rc;
}

static int spawn_watch(rr_running_t *running, char *why, size_t why_size) {
    rr_addr_t *gates = calloc(running->gate_count + 1, sizeof *gates);
    rr_watch_options_t options = {gates, running->gate_count, gate_ended, alive, running};
    for (size_t i = 0; gates && i < running->gate_count; i++)
        gates[i] = rr_gate_address(running->gates[i]);
    int rc = gates ? rr_watch_spawn(running->system, &options, &running->watch) : RR_ENOMEM;
    free(gates);
    if (rc != RR_OK)
        snprintf(why, why_size, "the runtime does not start: %s", rr_strerror(rc));
    return rc;
}

int rr_running_start(rr_running_t *running, char *why, size_t why_size) {
    int rc = rr_system_start(running->system);
    running->system_started = rc == RR_OK;
    if (rc != RR_OK)
        snprintf(why, why_size, "the runtime does not start: %s; lower the numbers of threads", rr_strerror(rc));
    for (size_t i = 0; i < rr_graph_actor_count(running->graph) && rc == RR_OK; i++) {
        const rr_item_t *item = rr_graph_actor(running->graph, i);
        if (item->scope == RR_SCOPE_BROKER && !running->member)
            rc = spawn_broker(running, item, why, why_size);
    }
    if (rc == RR_OK)
        rc = rr_outside_create(running->graph, running->share, running->system, &running->outside, why, why_size);
    if (rc == RR_OK)
        rc = rr_databases_start(running->databases, why, why_size);
    if (rc == RR_OK && rr__reloads_on_save(running))
        rc = rr__start_reload(running, why, why_size);
    for (size_t i = 0; i < running->scene_count && rc == RR_OK; i++)
        rc = rr__spawn_scene(running, &running->scenes[i], why, why_size);
    for (size_t i = 0; i < running->gate_count && rc == RR_OK; i++) {
        rc = rr_gate_start(running->gates[i]);
        if (rc != RR_OK)
            snprintf(why, why_size, "gate %s does not start: %s", rr_gate_name(running->gates[i]), rr_strerror(rc));
    }
    return rc == RR_OK ? spawn_watch(running, why, why_size) : rc;
}

int rr_running_ask(rr_running_t *running) { return rr_watch_ask(running->system, running->watch); }

unsigned rr_running_pulse(rr_running_t *running) {
    pthread_mutex_lock(&running->lock);
    unsigned pulse = running->pulse;
    pthread_mutex_unlock(&running->lock);
    return pulse;
}

static unsigned left_of(unsigned deadline_ms, uint64_t start_ms) {
    uint64_t spent = rr_machine_ms() - start_ms;
    return spent + 100 < deadline_ms ? deadline_ms - (unsigned)spent : 100;
}

/* An actor whose name was not granted does not run, so it cannot end in order either: such scenes are killed, such gates (which
 * never had a client) are left to the system. Returns how many gates remain to be drained. */
static size_t leave_out_waiting(rr_running_t *running, rr_gate_t **gates) {
    size_t count = 0;
    pthread_mutex_lock(&running->lock);
    running->ending = true;
    for (size_t i = 0; i < running->gate_count; i++) {
        if (!running->member || running->gate_open[i])
            gates[count++] = running->gates[i];
    }
    for (size_t i = 0; running->member && i < running->scene_count; i++) {
        rr_addr_t scene = rr_lookup(running->system, running->scene_names[i]);
        if (running->scenes[i].told || rr_addr_node(scene) != rr_system_node(running->system))
            continue;
        rr_kill(running->system, running->scenes[i].supervisor, RR_CANCELLED);
        rr_kill(running->system, scene, RR_CANCELLED);
    }
    pthread_mutex_unlock(&running->lock);
    return count;
}

rr_membership_t *rr_running_membership(rr_running_t *running) { return running->member; }

bool rr_running_fenced(rr_running_t *running) {
    return running->system_started && running->member && rr_cluster_fenced(rr_membership_cluster(running->member));
}

int rr_running_drain(rr_running_t *running, bool hand_over, unsigned deadline_ms) {
    uint64_t start = rr_machine_ms();
    rr_gate_t **gates = calloc(running->gate_count + 1, sizeof(rr_gate_t *));
    if (!gates || !running->system_started) { /* without threads nothing can end in order: destroy ends it */
        free(gates);
        return running->system_started ? RR_TIMEOUT : RR_OK;
    }
    rr__end_reload(running);
    size_t gate_count = leave_out_waiting(running, gates);
    if (running->member)
        rr_cluster_draining(rr_membership_cluster(running->member));
    int actors = rr_actors_drain(running->system, gates, gate_count, running->scene_names, running->scene_count,
                                 hand_over && running->member, deadline_ms);
    int databases = rr_databases_stop(running->databases, left_of(deadline_ms, start) / 2); /* scenes wrote until now */
    if (running->outside)
        rr_outside_stop(running->outside, left_of(deadline_ms, start) / 4);
    if (running->member)
        rr_cluster_leave(rr_membership_cluster(running->member), left_of(deadline_ms, start));
    int rest = rr_system_drain(running->system, left_of(deadline_ms, start));
    free(gates);
    return actors != RR_OK ? actors : databases != RR_OK ? databases : rest;
}

bool rr_running_destroy(rr_running_t *running) {
    bool clean = true;
    rr__end_reload(running);
    if (running->system && !rr_system_stop(running->system)) {
        rr_system_flush_log(running->system);
        return false; /* a thread is still in some handler: nothing may be taken from under it */
    }
    for (size_t i = 0; i < running->gate_count; i++)
        rr_gate_destroy(running->gates[i]);
    rr_outside_destroy(running->outside);
    rr_databases_destroy(running->databases);
    rr_membership_destroy(running->member);
    if (running->python_started)
        clean = rr_python_stop();
    if (!clean && running->system)
        rr_system_flush_log(running->system);
    else if (running->system)
        rr_system_destroy(running->system);
    if (running->broker_fd >= 0)
        close(running->broker_fd);
    for (size_t i = 0; i < running->scene_count; i++) {
        free(running->scenes[i].path);
        free(running->scenes[i].folder);
    }
    free(running->scenes);
    free(running->scene_names);
    free(running->reload_names);
    free(running->gates);
    free(running->gate_items);
    free(running->gate_open);
    pthread_mutex_destroy(&running->lock);
    free(running);
    return clean;
}

rr_system_t *rr_running_system(rr_running_t *running) { return running->system; }
