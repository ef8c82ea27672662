/* bridge.c: bridges and outer services as wholes; the thread of each link, which enters the other group and leaves it. */
#include "actors/bridge.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "actors/bridge_impl.h"
#include "net/address.h"
#include "runtime/clock.h"

#define CLASS "BRIDGE"

void rr_bridge_options_init(rr_bridge_options_t *options) {
    *options = (rr_bridge_options_t){.name = RR_BRIDGE_NAME, .max_calls = 16384, .retry_min_ms = 1000,
                                     .retry_max_ms = 5000, .carrier = &rr_bridge_cluster};
}

/* ---- A link's thread ---- */

static bool stopping(const rr_bridge_t *bridge) { return __atomic_load_n(&bridge->stop, __ATOMIC_ACQUIRE) != 0; }

/* That it waits, then that this is over. */
static void say(void *context, const char *line) {
    rr__link_t *link = context;
    link->waits = !link->waits;
    rr_log(link->bridge->own, link->waits ? RR_WARN : RR_INFO, CLASS, "%s: %s", link->address, line);
}

#define SAY_AGAIN_NS (60 * 1000000000ull)

/* An error of this link, unless it is stopping anyway; the same one once a minute. */
static void complain(rr__link_t *link, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void complain(rr__link_t *link, const char *format, ...) {
    char text[sizeof link->said];
    uint64_t now = rr_system_now_ns(link->bridge->own);
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (stopping(link->bridge) || (strcmp(text, link->said) == 0 && now - link->said_ns < SAY_AGAIN_NS))
        return;
    memcpy(link->said, text, sizeof text);
    link->said_ns = now;
    rr_log(link->bridge->own, RR_ERROR, CLASS, "%s: %s", link->address, text);
}

/* This process is no member there any more. */
static void lost(void *context, const char *why) { rr__link_ended(context, RR_LINKDOWN); }

/* Until the stay has ended (true), or the bridge stops, or ms are over. */
static bool wait_for_end(rr__link_t *link, unsigned ms) {
    struct timespec until = rr_machine_in(ms * RR_NS_PER_MS);
    int rc = 0;
    pthread_mutex_lock(&link->lock);
    while (!link->ended && !stopping(link->bridge) && rc == 0)
        rc = pthread_cond_timedwait(&link->changed, &link->lock, &until);
    bool ended = link->ended;
    pthread_mutex_unlock(&link->lock);
    return ended;
}

static void set_system(rr__link_t *link, rr_system_t *system) {
    pthread_mutex_lock(&link->lock);
    link->system = system;
    pthread_mutex_unlock(&link->lock);
}

/* Calls under way end LINKDOWN; answers that came before are in front of that. */
static void tell_gone(rr__link_t *link) {
    rr__parcel_t gone = {.kind = RR__PARCEL_GONE, .token = (uint64_t)link->index << 56};
    if (rr__pipe_push(&link->bridge->inbox, &gone, true) == RR_ENOMEM)
        rr_log(link->bridge->own, RR_WARN, CLASS, "out of memory: calls through %s end by their deadlines", link->address);
}

#define LOOK_MS 1000u

/* Until the stay ends, or the bridge stops. True: it lasted for long enough to count. */
static bool watch(rr__link_t *link, const rr_bridge_stay_t *where) {
    const rr_bridge_carrier_t *carrier = link->bridge->carrier;
    uint64_t begun = rr_system_now_ns(link->bridge->own);
    while (!wait_for_end(link, LOOK_MS) && !stopping(link->bridge))
        if (carrier->alive && !carrier->alive(where))
            rr__link_ended(link, RR_LINKDOWN);
    return rr_system_now_ns(link->bridge->own) - begun > link->bridge->retry_max_ms * 1000000ull;
}

/* From the entering of the other group to its end. True: it was of some use. */
static bool stay(rr__link_t *link, rr_bridge_stay_t *where) {
    bool useful = false;
    int rc = rr__link_spawn(link, where);
    if (rc == RR_OK) {
        set_system(link, where->system);
        if (link->bridge->outer)
            rr_log(link->bridge->own, RR_INFO, CLASS, "%s: connected to %s", link->bridge->name, link->address);
        useful = watch(link, where);
    }
    set_system(link, NULL);
    rr__pipe_close(&link->calls);
    rr__pipe_close(&link->answers);
    tell_gone(link);
    link->bridge->carrier->leave(where, atomic_load_explicit(&link->bridge->leave_ms, memory_order_relaxed));
    if (rc == RR_OK && link->reason == RR_STALE)
        complain(link, "%s is not this group's name there any more: another group has it, or this node was away for too long",
                 link->group);
    else
        complain(link, "disconnected: %s", rr_strerror(rc == RR_OK ? link->reason : rc));
    return useful;
}

static int enter(rr__link_t *link, rr_bridge_stay_t *where) {
    rr_bridge_t *bridge = link->bridge;
    char as[64], why[512] = "";
    snprintf(as, sizeof as, "%.40s-%ld-%u", bridge->outer ? "outer" : link->group, (long)getpid(),
             (unsigned)rr_system_random(bridge->own) & 0xffff);
    rr_bridge_place_t place = {RR_BRIDGE_GROUP, link->address, as, bridge->key, bridge->key_size, &bridge->system,
                               bridge->has_mesh ? &bridge->mesh : NULL, lost, link};
    link->waits = false;
    int rc = bridge->carrier->enter(&place, say, link, &bridge->stop, where, why, sizeof why);
    if (rc != RR_OK)
        complain(link, "cannot connect: %s", *why ? why : rr_strerror(rc));
    return rc;
}

static void wait_for_start(rr__link_t *link) {
    pthread_mutex_lock(&link->lock);
    while (!link->started && !stopping(link->bridge))
        pthread_cond_wait(&link->changed, &link->lock);
    pthread_mutex_unlock(&link->lock);
}

static void *run_link(void *context) {
    rr__link_t *link = context;
    rr_bridge_t *bridge = link->bridge;
    unsigned pause_ms = bridge->retry_min_ms;
    wait_for_start(link);
    while (!stopping(bridge)) {
        rr_bridge_stay_t where = {0};
        bool useful = enter(link, &where) == RR_OK && stay(link, &where);
        if (useful)
            pause_ms = bridge->retry_min_ms;
        pthread_mutex_lock(&link->lock);
        link->ended = false;
        pthread_mutex_unlock(&link->lock);
        wait_for_end(link, pause_ms);
        pause_ms = pause_ms < bridge->retry_max_ms / 2 ? pause_ms * 2 : bridge->retry_max_ms;
    }
    return NULL;
}

/* ---- Metrics ---- */

static void collect(void *context, rr_metrics_writer_t *writer) {
    rr_bridge_t *bridge = context;
    char labels[600] = "", of_link[900];
    if (!rr_metrics_label(labels, sizeof labels, "bridge", bridge->name))
        return;
#define WRITE(name, type, help, value) rr_metrics_write(writer, "rr_bridge_" name, type, help, labels, (double)(value))
    WRITE("calls_out_total", RR_METRIC_COUNTER, "Calls to other groups.", rr_counted(&bridge->calls_out));
    WRITE("calls_in_total", RR_METRIC_COUNTER, "Calls from other groups.", rr_counted(&bridge->calls_in));
    WRITE("errors_total", RR_METRIC_COUNTER, "Of both, those that did not end in an answer.", rr_counted(&bridge->errors));
    WRITE("pending", RR_METRIC_GAUGE, "Calls to other groups under way.", rr_counted(&bridge->pending));
#undef WRITE
    for (size_t i = 0; i < bridge->link_count; i++) {
        rr__link_t *link = &bridge->links[i];
        snprintf(of_link, sizeof of_link, "%s", labels);
        pthread_mutex_lock(&link->lock);
        bool up = link->system != NULL;
        pthread_mutex_unlock(&link->lock);
        if (rr_metrics_label(of_link, sizeof of_link, "address", link->address))
            rr_metrics_write(writer, "rr_bridge_up", RR_METRIC_GAUGE, "1 while this process is at the bridge.", of_link, up);
    }
}

/* ---- Making and ending ---- */

static int init_link(rr_bridge_t *bridge, unsigned index, const rr_bridge_link_t *from) {
    rr__link_t *link = &bridge->links[index];
    pthread_condattr_t monotonic;
    link->bridge = bridge;
    link->index = index;
    link->group = strdup(from->group);
    link->address = strdup(from->address);
    rr__pipe_init(&link->calls, bridge->max_calls);
    rr__pipe_init(&link->answers, bridge->max_calls);
    pthread_mutex_init(&link->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&link->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    bridge->link_count++;
    return link->group && link->address ? RR_OK : RR_ENOMEM;
}

static int check_link(const rr_bridge_link_t *link, char *why, size_t why_size) {
    rr_address_t address;
    if (!rr_name_legal(link->group))
        return rr_fail(RR_EINVAL, why, why_size, "'%.100s' is no name: 1 to 127 letters, digits and _-.@:/#",
                       link->group);
    int rc = rr_address_parse(link->address, &address, why, why_size);
    if (rc == RR_OK && address.scheme != RR_SCHEME_TCP) {
        snprintf(why, why_size, "'%.200s' is no address of a broker; write it as tcp://127.0.0.1:10241", link->address);
        rc = RR_EINVAL;
    }
    return rc;
}

static int fill(rr_bridge_t *bridge, const rr_bridge_options_t *options) {
    bridge->carrier = options->carrier;
    bridge->max_calls = options->max_calls;
    bridge->retry_min_ms = options->retry_min_ms;
    bridge->retry_max_ms = options->retry_max_ms;
    bridge->name = strdup(options->name);
    bridge->links = calloc(options->link_count, sizeof *bridge->links);
    bridge->key = options->key_size ? malloc(options->key_size) : NULL;
    if (!bridge->name || !bridge->links || (options->key_size && !bridge->key))
        return RR_ENOMEM;
    if (options->key_size)
        memcpy(bridge->key, options->key, options->key_size);
    bridge->key_size = options->key_size;
    rr_options_init(&bridge->system);
    if (options->system) {
        bridge->system = *options->system;
        bridge->system.log_classes = NULL; /* texts of somebody else's */
        bridge->system.log_path = NULL;
    }
    bridge->system.core_threads = 1;
    bridge->has_mesh = options->mesh != NULL;
    if (options->mesh)
        bridge->mesh = *options->mesh;
    return RR_OK;
}

static void start_links(rr_bridge_t *bridge) {
    for (size_t i = 0; i < bridge->link_count; i++) {
        pthread_mutex_lock(&bridge->links[i].lock);
        bridge->links[i].started = true;
        pthread_cond_broadcast(&bridge->links[i].changed);
        pthread_mutex_unlock(&bridge->links[i].lock);
    }
}

/* The door comes last of what may fail: once spawned it needs the bridge. */
static int build(rr_bridge_t *bridge, const rr_bridge_options_t *options, char *why, size_t why_size) {
    int rc = fill(bridge, options);
    for (size_t i = 0; i < options->link_count && rc == RR_OK; i++)
        rc = init_link(bridge, (unsigned)i, &options->links[i]);
    if (rc != RR_OK)
        return rc;
    rc = rr_metrics_add(bridge->own, collect, bridge);
    bridge->collecting = rc == RR_OK;
    for (size_t i = 0; i < bridge->link_count && rc == RR_OK; i++) {
        rc = pthread_create(&bridge->links[i].thread, NULL, run_link, &bridge->links[i]) == 0 ? RR_OK : RR_ENOMEM;
        bridge->links[i].running = rc == RR_OK;
    }
    if (rc == RR_OK)
        rc = rr__door_spawn(bridge, options->leased);
    if (rc == RR_OK)
        start_links(bridge);
    else if (rc == RR_EEXIST)
        snprintf(why, why_size, "%s exists already", bridge->name);
    return rc;
}

static void free_bridge(rr_bridge_t *bridge) {
    if (bridge->collecting)
        rr_metrics_remove(bridge->own, collect, bridge);
    for (size_t i = 0; i < bridge->link_count; i++) {
        rr__link_t *link = &bridge->links[i];
        rr__pipe_destroy(&link->calls);
        rr__pipe_destroy(&link->answers);
        pthread_mutex_destroy(&link->lock);
        pthread_cond_destroy(&link->changed);
        free(link->group);
        free(link->address);
    }
    rr__pipe_destroy(&bridge->inbox);
    free(bridge->links);
    free(bridge->name);
    free(bridge->key);
    free(bridge);
}

static int create(rr_system_t *own, const rr_bridge_options_t *options, bool outer, rr_bridge_t **out, char *why,
                  size_t why_size) {
    int rc = RR_OK;
    snprintf(why, why_size, "%s", "");
    if (options->link_count < 1 || options->link_count > RR_BRIDGE_LINKS_MAX) {
        snprintf(why, why_size, "a process has 1 to %u bridges", RR_BRIDGE_LINKS_MAX);
        rc = RR_EINVAL;
    }
    for (size_t i = 0; i < options->link_count && rc == RR_OK; i++)
        rc = check_link(&options->links[i], why, why_size);
    if (rc != RR_OK)
        return rc;
    rr_bridge_t *bridge = calloc(1, sizeof *bridge);
    if (!bridge)
        return RR_ENOMEM;
    bridge->own = own;
    bridge->outer = outer;
    rr__pipe_init(&bridge->inbox, (size_t)options->max_calls * 2 * options->link_count);
    rc = build(bridge, options, why, why_size);
    if (rc == RR_OK) {
        *out = bridge;
        return RR_OK;
    }
    if (!*why)
        snprintf(why, why_size, "%s does not start: %s", options->name, rr_strerror(rc));
    rr_bridge_destroy(bridge);
    return rc;
}

int rr_bridge_create(rr_system_t *own, const rr_bridge_options_t *options, rr_bridge_t **out, char *why, size_t why_size) {
    return create(own, options, false, out, why, why_size);
}

void rr_bridge_stop(rr_bridge_t *bridge, unsigned deadline_ms) {
    if (bridge->stopped)
        return;
    bridge->stopped = true;
    atomic_store_explicit(&bridge->leave_ms, deadline_ms, memory_order_relaxed);
    __atomic_store_n(&bridge->stop, 1, __ATOMIC_RELEASE);
    for (size_t i = 0; i < bridge->link_count; i++) {
        pthread_mutex_lock(&bridge->links[i].lock);
        pthread_cond_broadcast(&bridge->links[i].changed);
        pthread_mutex_unlock(&bridge->links[i].lock);
    }
    for (size_t i = 0; i < bridge->link_count; i++)
        if (bridge->links[i].running)
            pthread_join(bridge->links[i].thread, NULL);
}

void rr_bridge_destroy(rr_bridge_t *bridge) {
    if (!bridge)
        return;
    rr_bridge_stop(bridge, 0);
    free_bridge(bridge);
}

size_t rr_bridge_list(rr_bridge_t *bridge, rr_bridge_state_t *out, size_t max) {
    for (size_t i = 0; i < bridge->link_count && i < max; i++) {
        rr__link_t *link = &bridge->links[i];
        pthread_mutex_lock(&link->lock);
        out[i] = (rr_bridge_state_t){link->group, link->address, link->system != NULL};
        pthread_mutex_unlock(&link->lock);
    }
    return bridge->link_count;
}

/* ---- Outer services ---- */

struct rr_outers {
    rr_system_t *own;
    rr_bridge_options_t options; /* key, system and mesh point to the next three */
    void *key;
    rr_options_t system;
    rr_mesh_options_t mesh;
    pthread_mutex_t lock; /* guards what follows */
    rr_bridge_t *services[RR_BRIDGE_LINKS_MAX];
    size_t count;
    bool stopped;
};

int rr_outers_create(rr_system_t *own, const rr_bridge_options_t *options, rr_outers_t **out) {
    rr_outers_t *outers = calloc(1, sizeof *outers);
    if (!outers)
        return RR_ENOMEM;
    outers->own = own;
    outers->options = *options;
    outers->options.leased = false;
    if (options->system) {
        outers->system = *options->system;
        outers->options.system = &outers->system;
    }
    if (options->mesh) {
        outers->mesh = *options->mesh;
        outers->options.mesh = &outers->mesh;
    }
    outers->key = options->key_size ? malloc(options->key_size) : NULL;
    if (options->key_size && !outers->key) {
        free(outers);
        return RR_ENOMEM;
    }
    if (options->key_size)
        memcpy(outers->key, options->key, options->key_size);
    outers->options.key = outers->key;
    pthread_mutex_init(&outers->lock, NULL);
    *out = outers;
    return RR_OK;
}

/* Under the lock: NULL or the stand-in of that name. */
static rr_bridge_t *find_service(rr_outers_t *outers, const char *name) {
    for (size_t i = 0; i < outers->count; i++)
        if (!strcmp(outers->services[i]->name, name))
            return outers->services[i];
    return NULL;
}

/* Under the lock. */
static int add_service(rr_outers_t *outers, const char *name, const char *address, char *why, size_t why_size) {
    rr_bridge_link_t link = {name, address};
    rr_bridge_options_t options = outers->options;
    rr_bridge_t *found = find_service(outers, name);
    if (outers->stopped)
        return RR_ESTOPPING;
    if (found && !strcmp(found->links[0].address, address))
        return RR_OK;
    if (found || (rr_name_legal(name) && rr_lookup(outers->own, name) != RR_NOBODY))
        return rr_fail(RR_EEXIST, why, why_size, "%s is %s%s", name, found ? "connected to " : "an actor of this group",
                       found ? found->links[0].address : "");
    if (outers->count == RR_BRIDGE_LINKS_MAX)
        return RR_ELIMIT;
    options.name = name;
    options.links = &link;
    options.link_count = 1;
    int rc = create(outers->own, &options, true, &outers->services[outers->count], why, why_size);
    outers->count += rc == RR_OK;
    return rc;
}

int rr_outers_connect(rr_outers_t *outers, const char *name, const char *address, char *why, size_t why_size) {
    snprintf(why, why_size, "%s", "");
    pthread_mutex_lock(&outers->lock);
    int rc = add_service(outers, name, address, why, why_size);
    pthread_mutex_unlock(&outers->lock);
    if (rc != RR_OK && !*why)
        snprintf(why, why_size, "%s", rr_strerror(rc));
    return rc;
}

void rr_outers_stop(rr_outers_t *outers, unsigned deadline_ms) {
    pthread_mutex_lock(&outers->lock);
    outers->stopped = true;
    pthread_mutex_unlock(&outers->lock); /* nobody changes the set any more */
    for (size_t i = 0; i < outers->count; i++)
        rr_bridge_stop(outers->services[i], deadline_ms / (unsigned)outers->count);
}

void rr_outers_destroy(rr_outers_t *outers) {
    if (!outers)
        return;
    rr_outers_stop(outers, 0);
    for (size_t i = 0; i < outers->count; i++)
        rr_bridge_destroy(outers->services[i]);
    pthread_mutex_destroy(&outers->lock);
    free(outers->key);
    free(outers);
}
