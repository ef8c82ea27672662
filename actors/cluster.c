#include "actors/cluster_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "actors/master.h"
#include "actors/member.h"
#include "actors/registry_wire.h"
#include "net/address.h"
#include "runtime/clock.h"
#include "runtime/random.h"
#include "runtime/remote.h"

#define JOIN_TRY_MS 2000u
#define BACKOFF_MIN_MS 100u
#define BACKOFF_MAX_MS 2000u
#define STOP_LOOK_MS 100u

/* The number of nobody: a peer that is dialled at the master's address to see who answers there. */
#define SEEKER 65535u
#define SEEKER_INCARNATION 1u

struct rr_cluster {
    rr_system_t *system;
    rr__cluster_base_t base;
    bool seek, seeking; /* a master that may have been started anew: wanted, under way. Loop thread */
    rr_master_t *master; /* NULL on a member */
    rr_member_t *member;
    rr_mesh_t *mesh;
    rr_state_file_t state;
    bool metrics;
    char master_address[RR_NODE_ADDRESS_MAX + 1]; /* as configured */
    char place[96];                               /* rr_registry_config_t */
    rr_node_identity_t self;
    rr_node_identity_t current; /* the master as known now; loop thread */
};

void rr_cluster_options_init(rr_cluster_options_t *options) {
    *options = (rr_cluster_options_t){.broker = "broker@0", .lease_ms = 15000, .margin_ms = 2000};
}

int rr_cluster_state_path(const char *group, char *out, size_t size) {
    const char *folder = getenv("STATE_DIRECTORY"), *below = "";
    if (!folder || !*folder) {
        folder = getenv("XDG_STATE_HOME");
        below = "/redrabbit";
    }
    if (!folder || !*folder) {
        folder = getenv("HOME");
        below = "/.local/state/redrabbit";
    }
    if (!folder || !*folder)
        return RR_ENOENT;
    int n = snprintf(out, size, "%s%s/%s.state", folder, below, group);
    return n < 0 || (size_t)n >= size ? RR_ETOOBIG : RR_OK;
}

/* ---- Joining ---- */

static int copy_text(char *out, size_t size, const char *text, const char *what, char *why, size_t why_size) {
    if (text && strlen(text) >= size)
        return rr_fail(RR_EINVAL, why, why_size, "the %s '%.40s…' is longer than %zu bytes", what, text, size - 1);
    snprintf(out, size, "%s", text ? text : "");
    return RR_OK;
}

static int who_am_i(const rr_cluster_options_t *options, rr_node_identity_t *self, char *why, size_t why_size) {
    *self = (rr_node_identity_t){.relay = options->relay || !options->master};
    int rc = copy_text(self->group, sizeof self->group, options->group, "group's name", why, why_size);
    if (rc == RR_OK)
        rc = copy_text(self->name, sizeof self->name, options->node_name, "node's name", why, why_size);
    if (rc == RR_OK)
        rc = copy_text(self->address, sizeof self->address, options->advertise, "advertised address", why, why_size);
    if (rc == RR_OK && (!self->group[0] || !self->name[0]))
        rc = rr_fail(RR_EINVAL, why, why_size, "a node needs its group's name and one of its own");
    if (rc == RR_OK && !options->master && !options->listen)
        rc = rr_fail(RR_EINVAL, why, why_size, "the master of group %s needs an address to listen at", self->group);
    while (rc == RR_OK && !self->incarnation)
        if (rr_random_os(&self->incarnation, sizeof self->incarnation) != RR_OK)
            rc = rr_fail(RR_EIO, why, why_size, "no randomness");
    return rc;
}

static int become_master(const rr_cluster_options_t *options, rr_cluster_ticket_t *ticket, char *why, size_t why_size) {
    char path[1024];
    int rc = options->state_path ? RR_OK : rr_cluster_state_path(ticket->self.group, path, sizeof path);
    if (rc != RR_OK)
        return rr_fail(rc, why, why_size, "there is no folder for the master's state: set HOME, or name a file for it");
    rc = rr_state_file_open(options->state_path ? options->state_path : path, &ticket->state, why, why_size);
    if (rc != RR_OK)
        return rc;
    ticket->self.node = ticket->state.first_id;
    ticket->master = ticket->self;
    if (options->fresh)
        ticket->state.grace = false;
    return RR_OK;
}

/* Set by another thread or a signal handler; only its own value matters. */
static bool told_to_stop(const volatile int *stop) { return stop && __atomic_load_n(stop, __ATOMIC_RELAXED); }

/* False: told to stop. */
static bool pause_ms(unsigned ms, const volatile int *stop) {
    for (unsigned left = ms; left; left -= left < STOP_LOOK_MS ? left : STOP_LOOK_MS) {
        unsigned part = left < STOP_LOOK_MS ? left : STOP_LOOK_MS;
        struct timespec time = {0, (long)part * 1000000};
        if (told_to_stop(stop))
            return false;
        nanosleep(&time, NULL);
    }
    return !told_to_stop(stop);
}

static bool may_pass(int rc) { return rc == RR_EIO || rc == RR_TIMEOUT; }

int rr_cluster_join(const rr_cluster_options_t *options, rr_cluster_ticket_t *ticket,
                    void (*say)(void *context, const char *line), void *context, const volatile int *stop, char *why,
                    size_t why_size) {
    *ticket = (rr_cluster_ticket_t){.state.lock_fd = -1};
    int rc = who_am_i(options, &ticket->self, why, why_size);
    if (rc != RR_OK)
        return rc;
    if (!options->master)
        return become_master(options, ticket, why, why_size);
    uint64_t until = options->join_ms ? rr_machine_ms() + options->join_ms : UINT64_MAX;
    unsigned backoff = BACKOFF_MIN_MS;
    bool waited = false;
    char line[640];
    for (;;) {
        uint64_t now = rr_machine_ms(), left = until > now ? until - now : 1;
        rc = rr_node_join(options->master, options->key, options->key_size, &ticket->self, &ticket->master,
                          left < JOIN_TRY_MS ? (unsigned)left : JOIN_TRY_MS, why, why_size);
        if (rc == RR_OK || !may_pass(rc))
            break;
        if (!waited && say) {
            snprintf(line, sizeof line, "waiting for the master of group %s: %s", ticket->self.group, why);
            say(context, line);
        }
        waited = true;
        if (rr_machine_ms() + backoff >= until)
            return RR_TIMEOUT;
        if (!pause_ms(backoff, stop))
            return rr_fail(RR_CANCELLED, why, why_size, "told to stop while it waited for the master of group %s",
                           ticket->self.group);
        backoff = backoff * 2 < BACKOFF_MAX_MS ? backoff * 2 : BACKOFF_MAX_MS;
    }
    if (rc == RR_OK && waited && say) {
        snprintf(line, sizeof line, "joined group %s as node %s, number %u", ticket->self.group, ticket->self.name,
                 ticket->self.node);
        say(context, line);
    }
    return rc;
}

void rr_cluster_ticket_drop(rr_cluster_ticket_t *ticket) { rr_state_file_close(&ticket->state, !ticket->state.grace); }

/* ---- Looking for a master that was started anew (loop thread) ---- */

/* Its successor has another number and incarnation: nobody knows them but who asks at its address. Whoever answers there
 * instead of the seeker (a RR_NODE_VISITOR by its name) is shown to on_unknown. */
static void seek_now(void *context) {
    rr_cluster_t *cluster = context;
    rr_node_identity_t nobody = {.node = SEEKER, .incarnation = SEEKER_INCARNATION, .name = "?master"};
    if (cluster->seek == cluster->seeking)
        return;
    cluster->seeking = cluster->seek;
    if (!cluster->seek) {
        rr_mesh_forget(cluster->mesh, SEEKER, SEEKER_INCARNATION);
        return;
    }
    memcpy(nobody.group, cluster->self.group, sizeof nobody.group);
    memcpy(nobody.address, cluster->master_address, sizeof cluster->master_address);
    int rc = rr_mesh_peer(cluster->mesh, &nobody, true);
    if (rc != RR_OK && rc != RR_ESTOPPING)
        rr_log(cluster->system, RR_ERROR, "NAMES", "a new master cannot be looked for: %s", rr_strerror(rc));
    cluster->seeking = rc == RR_OK;
}

/* Not from inside the mesh's own work. */
static void seek(rr_cluster_t *cluster, bool on) {
    cluster->seek = on;
    int rc = cluster->base.post(cluster->base.from, seek_now, cluster);
    if (rc != RR_OK && rc != RR_ESTOPPING && on)
        rr_log(cluster->system, RR_ERROR, "NAMES", "a new master cannot be looked for: out of memory");
}

/* ---- What the mesh tells (loop thread) ---- */

static void on_state(void *context, unsigned node, uint64_t incarnation, rr_link_state_t state) {
    rr_cluster_t *cluster = context;
    if (cluster->master)
        rr_master_link(cluster->master, node, incarnation, state == RR_LINK_UP);
    bool is_current = node == cluster->current.node && incarnation == cluster->current.incarnation;
    if (!cluster->master && is_current && (state == RR_LINK_DOWN || state == RR_LINK_UP))
        seek(cluster, state == RR_LINK_DOWN);
    if (cluster->master && state == RR_LINK_DOWN && rr_master_visitor_left(cluster->master, node, incarnation))
        rr_mesh_forget(cluster->mesh, node, incarnation);
    if (cluster->member)
        rr_member_link(cluster->member, node, incarnation, state == RR_LINK_SUSPECT || state == RR_LINK_DOWN);
}

static int on_join(void *context, rr_node_identity_t *who, rr_node_identity_t *master, char *why, size_t why_size) {
    rr_cluster_t *cluster = context;
    if (!cluster->master)
        return rr_fail(RR_EREFUSED, why, why_size, "node %s is not the group's master, which is at %s",
                       cluster->self.name, cluster->master_address);
    *master = cluster->self;
    return rr_master_join(cluster->master, who, why, why_size);
}

static int on_unknown(void *context, const rr_node_identity_t *who, char *why, size_t why_size) {
    rr_cluster_t *cluster = context;
    if (cluster->master)
        return rr_master_unknown(cluster->master, who, why, why_size);
    if (who->service == RR_NOBODY)
        return rr_fail(RR_ENOENT, why, why_size, "node %s has not heard of node %s yet", cluster->self.name, who->name);
    rr_node_identity_t former = cluster->current; /* a master that was started anew */
    cluster->current = *who;
    memcpy(cluster->current.address, cluster->master_address, sizeof cluster->master_address);
    if (former.incarnation != who->incarnation) {
        rr_log(cluster->system, RR_INFO, "NAMES", "the master of group %s was started anew: node %s, number %u", who->group,
               who->name, who->node);
        rr_mesh_forget(cluster->mesh, former.node, former.incarnation);
        seek(cluster, false);
    }
    return rr_member_master(cluster->member, &cluster->current);
}

static void on_refused(void *context, unsigned node, int code, const char *why) {
    rr_cluster_t *cluster = context;
    if (!cluster->master && (node == cluster->current.node || node == SEEKER) && code == RR_ESTATE)
        rr_member_given_up(cluster->member, why);
}

static const rr_mesh_handler_t mesh_handler = {
    .state = on_state, .join = on_join, .unknown = on_unknown, .refused = on_refused};

/* ---- What the agent asks of the mesh ---- */

static int add_peer(void *context, const rr_node_identity_t *node, bool eager) {
    rr_cluster_t *cluster = context;
    rr_node_identity_t known = *node;
    if (!cluster->master && node->service != RR_NOBODY) /* the way there that is known to work */
        memcpy(known.address, cluster->master_address, sizeof cluster->master_address);
    return rr_mesh_peer(cluster->mesh, &known, eager);
}

static void forget_peer(void *context, unsigned node, uint64_t incarnation) {
    rr_cluster_t *cluster = context;
    rr_mesh_forget(cluster->mesh, node, incarnation);
}

static void put_link(rr_reg_out_t *out, unsigned self, const rr_link_info_t *link) {
    char text[512];
    int size = snprintf(text, sizeof text,
                        "{\"from\":%u,\"to\":%u,\"state\":\"%s\",\"via\":%u,\"silent_ms\":%llu,\"sent_messages\":%llu,"
                        "\"sent_bytes\":%llu,\"received_messages\":%llu,\"received_bytes\":%llu,\"reconnects\":%llu,"
                        "\"resent_segments\":%llu,\"unacked_bytes\":%zu}",
                        self, link->peer.node, rr_link_state_name(link->state), link->relayed ? link->via : 0,
                        (unsigned long long)link->silent_ms, (unsigned long long)link->sent_messages,
                        (unsigned long long)link->sent_bytes, (unsigned long long)link->received_messages,
                        (unsigned long long)link->received_bytes, (unsigned long long)link->reconnects,
                        (unsigned long long)link->resent_segments, link->unacked_bytes);
    rr_reg_put_bytes(out, text, size < 0 ? 0 : (size_t)size);
}

/* Only links to members: tools come and go. */
static char *describe_links(void *context) {
    rr_cluster_t *cluster = context;
    size_t count = rr_mesh_list(cluster->mesh, NULL, 0), room = count + 8;
    rr_link_info_t *list = calloc(room, sizeof *list);
    rr_reg_out_t out = {0};
    bool first = true;
    if (!list)
        return NULL;
    count = rr_mesh_list(cluster->mesh, list, room);
    rr_reg_put8(&out, '[');
    for (size_t i = 0; i < count && i < room; i++) {
        if (!rr_member_knows(cluster->member, list[i].peer.node, list[i].peer.incarnation))
            continue;
        if (!first)
            rr_reg_put8(&out, ',');
        put_link(&out, cluster->self.node, &list[i]);
        first = false;
    }
    rr_reg_put_bytes(&out, "]", 2);
    free(list);
    if (out.failed)
        rr_reg_out_free(&out);
    return (char *)out.data;
}

static const rr_member_links_t links = {.peer = add_peer, .forget = forget_peer, .describe = describe_links};

/* ---- Making ---- */

static int make_master(rr_cluster_t *cluster, const rr_cluster_options_t *options, char *why, size_t why_size) {
    rr_master_options_t master = {
        .self = cluster->self,
        .name = options->broker,
        .term = cluster->state.term,
        .grace = cluster->state.grace,
        .lease_ms = options->lease_ms,
        .margin_ms = options->margin_ms,
        .max_nodes = 1024,
        .max_names = 65536,
        .executor = cluster->base.executor,
    };
    int rc = rr_master_create(cluster->system, &master, &cluster->master);
    if (rc != RR_OK)
        return rr_fail(rc, why, why_size, "the broker %s cannot be started: %s", options->broker, rr_strerror(rc));
    cluster->self.service = rr_master_addr(cluster->master);
    return RR_OK;
}

static int make_mesh(rr_cluster_t *cluster, const rr_cluster_options_t *options, char *why, size_t why_size) {
    rr_mesh_options_t mesh;
    rr_mesh_options_init(&mesh);
    if (options->mesh)
        mesh = *options->mesh;
    mesh.self = cluster->self;
    mesh.listen = options->listen;
    mesh.key = options->key;
    mesh.key_size = options->key_size;
    mesh.handler = &mesh_handler;
    mesh.context = cluster;
    int rc = cluster->base.mesh(cluster->base.from, &mesh, &cluster->mesh, why, why_size);
    if (rc == RR_OK && !cluster->self.address[0])
        snprintf(cluster->self.address, sizeof cluster->self.address, "%s", rr_mesh_address(cluster->mesh));
    return rc;
}

/* "" if the system does not tell. */
static void find_place(char *out, size_t size) {
    struct stat space;
    char boot[64] = "";
    FILE *file = fopen("/proc/sys/kernel/random/boot_id", "re");
    bool known = file && fgets(boot, sizeof boot, file) && stat("/proc/self/ns/net", &space) == 0;
    if (file)
        fclose(file);
    boot[strcspn(boot, "\n")] = '\0';
    if (known && boot[0])
        snprintf(out, size, "%s:%llu", boot, (unsigned long long)space.st_ino);
}

static int make_member(rr_cluster_t *cluster, const rr_cluster_options_t *options, char *why, size_t why_size) {
    if (options->listen) /* else nothing proves anything */
        find_place(cluster->place, sizeof cluster->place);
    if (cluster->master)
        cluster->current = cluster->self;
    else
        memcpy(cluster->current.address, cluster->master_address, sizeof cluster->master_address);
    rr_member_options_t member = {
        .self = cluster->self,
        .master = cluster->current,
        .place = cluster->place,
        .registry = &rr_registry_builtin,
        .links = &links,
        .links_context = cluster,
        .executor = cluster->base.executor,
        .drain = options->drain,
        .lost = options->lost,
        .context = options->context,
    };
    int rc = cluster->master ? RR_OK : rr_mesh_peer(cluster->mesh, &cluster->current, true);
    if (rc == RR_OK && !cluster->master && options->broker)
        rc = rr_remote_name_set(cluster->system, options->broker, cluster->current.service);
    if (rc == RR_OK)
        rc = rr_member_create(cluster->system, &member, &cluster->member);
    return rc == RR_OK ? rc : rr_fail(rc, why, why_size, "the node's agent cannot be started: %s", rr_strerror(rc));
}

static int add_metrics(rr_cluster_t *cluster) {
    int rc = rr_metrics_add(cluster->system, rr_member_collect, cluster->member);
    if (rc != RR_OK)
        return rc;
    rc = cluster->master ? rr_metrics_add(cluster->system, rr_master_collect, cluster->master) : RR_OK;
    if (rc != RR_OK)
        rr_metrics_remove(cluster->system, rr_member_collect, cluster->member);
    cluster->metrics = rc == RR_OK;
    return rc;
}

int rr__cluster_create(rr_system_t *system, const rr__cluster_base_t *base, const rr_cluster_options_t *options,
                       rr_cluster_ticket_t *ticket, rr_cluster_t **out, char *why, size_t why_size) {
    rr_cluster_t *cluster = calloc(1, sizeof *cluster);
    if (!cluster) {
        rr_cluster_ticket_drop(ticket);
        return rr_fail(RR_ENOMEM, why, why_size, "out of memory");
    }
    cluster->system = system;
    cluster->base = *base;
    cluster->state = ticket->state;
    ticket->state.lock_fd = -1;
    cluster->self = ticket->self;
    cluster->current = ticket->master;
    int rc = copy_text(cluster->master_address, sizeof cluster->master_address, options->master, "master's address", why,
                       why_size);
    if (rc == RR_OK && !options->master)
        rc = make_master(cluster, options, why, why_size);
    if (rc == RR_OK)
        rc = make_mesh(cluster, options, why, why_size);
    if (rc == RR_OK)
        rc = make_member(cluster, options, why, why_size);
    if (rc == RR_OK && (rc = add_metrics(cluster)) != RR_OK)
        rc = rr_fail(rc, why, why_size, "out of memory");
    if (rc == RR_OK)
        *out = cluster;
    else
        rr_cluster_destroy(cluster);
    return rc;
}

static int post_to_loop(void *loop, void (*fn)(void *context), void *context) { return rr_loop_post(loop, fn, context); }

static int mesh_on_loop(void *loop, const rr_mesh_options_t *options, rr_mesh_t **out, char *why, size_t why_size) {
    return rr_mesh_create(loop, options, out, why, why_size);
}

int rr_cluster_create(rr_system_t *system, rr_loop_t *loop, const rr_cluster_options_t *options,
                      rr_cluster_ticket_t *ticket, rr_cluster_t **out, char *why, size_t why_size) {
    rr__cluster_base_t base = {
        .executor = rr_loop_executor(loop), .post = post_to_loop, .mesh = mesh_on_loop, .from = loop};
    return rr__cluster_create(system, &base, options, ticket, out, why, why_size);
}

int rr__cluster_admit(rr_cluster_t *master, rr_node_identity_t *who, rr_node_identity_t *self, char *why, size_t why_size) {
    return on_join(master, who, self, why, why_size);
}

bool rr_cluster_fenced(rr_cluster_t *cluster) { return rr_member_fenced(cluster->member); }

void rr_cluster_draining(rr_cluster_t *cluster) { rr_member_draining(cluster->member); }

void rr_cluster_node_died(rr_cluster_t *cluster, unsigned node, uint64_t incarnation) {
    if (cluster->master)
        rr_master_node_died(cluster->master, node, incarnation);
    rr_member_node_died(cluster->member, node, incarnation);
}

void rr_cluster_leave(rr_cluster_t *cluster, unsigned deadline_ms) {
    uint64_t until = rr_machine_ms() + deadline_ms;
    rr_member_leave(cluster->member, deadline_ms);
    uint64_t now = rr_machine_ms();
    rr_mesh_leave(cluster->mesh, until > now ? (unsigned)(until - now) : 1);
}

void rr_cluster_destroy(rr_cluster_t *cluster) {
    if (!cluster)
        return;
    if (cluster->metrics) {
        rr_metrics_remove(cluster->system, rr_member_collect, cluster->member);
        if (cluster->master)
            rr_metrics_remove(cluster->system, rr_master_collect, cluster->master);
    }
    rr_mesh_destroy(cluster->mesh);
    rr_member_free(cluster->member);
    rr_state_file_close(&cluster->state, cluster->master && rr_master_is_clean(cluster->master));
    rr_master_free(cluster->master);
    free(cluster);
}

rr_mesh_t *rr_cluster_mesh(rr_cluster_t *cluster) { return cluster->mesh; }

/* ---- What is where ---- */

size_t rr_cluster_nodes(rr_cluster_t *cluster, rr_cluster_node_t *out, size_t max) {
    size_t count = rr_member_nodes(cluster->member, out, max);
    for (size_t i = 0; cluster->master && i < count && i < max; i++)
        out[i].lease_left_ms = rr_master_lease_left_ms(cluster->master, out[i].identity.node);
    return count;
}

size_t rr_cluster_names(rr_cluster_t *cluster, rr_cluster_name_t *out, size_t max) {
    return rr_member_names(cluster->member, out, max);
}
