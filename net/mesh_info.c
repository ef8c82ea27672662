/* mesh_info.c: what people and metrics see of a mesh. Any thread: counters are relaxed, identities under the lock. */
#include <stdio.h>

#include "net/mesh_impl.h"

static void copy_info(rr_mesh_t *mesh, const rr__link_t *link, uint64_t now, rr_link_info_t *out) {
    uint64_t heard = rr_counted(&link->heard_counter_ns);
    (void)mesh;
    *out = (rr_link_info_t){.peer = link->peer,
                            .state = rr__link_state(link),
                            .via = (unsigned)rr_counted(&link->via),
                            .silent_ms = heard && now > heard ? (now - heard) / RR__MS : 0,
                            .sent_messages = rr_counted(&link->sent_messages),
                            .sent_bytes = rr_counted(&link->sent_bytes),
                            .received_messages = rr_counted(&link->received_messages),
                            .received_bytes = rr_counted(&link->received_bytes),
                            .resent_segments = rr_counted(&link->resent),
                            .reconnects = rr_counted(&link->reconnects),
                            .nacks = rr_counted(&link->nacks),
                            .unacked_bytes = rr_counted(&link->unacked_bytes)};
    out->relayed = out->via != 0;
}

size_t rr_mesh_list(rr_mesh_t *mesh, rr_link_info_t *out, size_t max) {
    uint64_t now = rr_system_now_ns(mesh->system);
    size_t count = 0;
    pthread_mutex_lock(&mesh->lock);
    for (const rr__link_t *link = mesh->links; link; link = link->next, count++) {
        if (count < max) {
            copy_info(mesh, link, now, &out[count]);
        }
    }
    pthread_mutex_unlock(&mesh->lock);
    return count;
}

/* ---- Metrics ---- */

typedef struct family {
    const char *name, *help;
    rr_metric_type_t type;
    size_t offset; /* of a rr_counter_t in the link */
} family_t;

#define COUNTER(name, field, help)                                                                                     \
    { name, help, RR_METRIC_COUNTER, offsetof(rr__link_t, field) }

static const family_t families[] = {
    COUNTER("rr_link_sent_messages_total", sent_messages, "Messages sent to another node"),
    COUNTER("rr_link_sent_bytes_total", sent_bytes, "Their payload"),
    COUNTER("rr_link_received_messages_total", received_messages, "Messages received from another node"),
    COUNTER("rr_link_received_bytes_total", received_bytes, "Their payload"),
    COUNTER("rr_link_resent_segments_total", resent, "Segments that were sent again after a connection was lost"),
    COUNTER("rr_link_reconnects_total", reconnects, "Changes of the path to another node"),
    COUNTER("rr_link_nacks_total", nacks, "Sends from another node that could not be delivered here"),
    COUNTER("rr_link_lost_nacks_total", lost_nacks, "Of these, those whose sender could not be told"),
    {"rr_link_unacked_bytes", "Sent and not acknowledged", RR_METRIC_GAUGE, offsetof(rr__link_t, unacked_bytes)},
};

static void collect_family(rr_mesh_t *mesh, rr_metrics_writer_t *writer, const family_t *family) {
    for (const rr__link_t *link = mesh->links; link; link = link->next) {
        char labels[200] = "", node[16];
        snprintf(node, sizeof node, "%u", link->node);
        (void)rr_metrics_label(labels, sizeof labels, "node", node);
        (void)rr_metrics_label(labels, sizeof labels, "name", link->peer.name);
        const rr_counter_t *counter = (const rr_counter_t *)((const char *)link + family->offset);
        rr_metrics_write(writer, family->name, family->type, family->help, labels, (double)rr_counted(counter));
    }
}

static void collect_mesh(rr_mesh_t *mesh, rr_metrics_writer_t *writer) {
    const rr__mesh_counters_t *c = &mesh->counters;
    const struct {
        const char *name, *help;
        const rr_counter_t *counter;
    } rows[] = {
        {"rr_mesh_refused_handshakes_total", "Connections on the node port that were refused, by either side",
         &c->refused},
        {"rr_mesh_strangers_dropped_total", "Connections closed because too many had not said who they are",
         &c->strangers_dropped},
        {"rr_mesh_violations_total", "Connections and sessions ended for breaking the node protocol", &c->violations},
        {"rr_mesh_graphs_differ_total", "Nodes met that run another graph", &c->graphs_differ},
        {"rr_mesh_accepted_total", "Connections accepted on the node port", &c->accepted},
        {"rr_mesh_dialled_total", "Connections begun to other nodes", &c->dialled},
        {"rr_mesh_relayed_frames_total", "Frames passed on for others", &c->relayed_frames},
        {"rr_mesh_relay_dropped_total", "Frames for others that were dropped, to be sent again", &c->relay_dropped},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        rr_metrics_write(writer, rows[i].name, RR_METRIC_COUNTER, rows[i].help, NULL,
                         (double)rr_counted(rows[i].counter));
    }
}

void rr__mesh_collect(void *context, rr_metrics_writer_t *writer) {
    rr_mesh_t *mesh = context;
    collect_mesh(mesh, writer);
    pthread_mutex_lock(&mesh->lock);
    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++) {
        collect_family(mesh, writer, &families[i]);
    }
    pthread_mutex_unlock(&mesh->lock);
}
