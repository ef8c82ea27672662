/* mesh_dial.c: when a node is dialled. Back-off doubles from the smallest to the largest, with jitter, and begins anew
 * once a connection has carried a session. Who was refused for good (key, group, version) waits for the largest at
 * once. */
#include "net/mesh_impl.h"

void rr__mesh_dial_failed(rr_mesh_t *mesh, rr__link_t *link, bool refused) {
    uint64_t min = mesh->options.backoff_min_ms * RR__MS, max = mesh->options.backoff_max_ms * RR__MS;
    uint64_t next = refused ? max : link->backoff_ns ? 2 * link->backoff_ns : min;
    link->backoff_ns = next > max ? max : next;
    link->dial_due_ns = rr__mesh_now(mesh) + rr__mesh_jitter(mesh, link->backoff_ns);
}

static bool may_dial(rr_mesh_t *mesh, rr__link_t *link, const char *address) {
    if (mesh->options.key_size || mesh->carrier->ops->is_local(mesh->carrier, address)) {
        return true;
    }
    if (!link->told_no_key) {
        link->told_no_key = true;
        rr_log(mesh->system, RR_ERROR, "LINK", "%s: %s is on another machine: a cluster key is needed (-cluster_key)",
               link->text, address);
    }
    return false;
}

uint64_t rr__mesh_dial_tick(rr_mesh_t *mesh, rr__link_t *link, uint64_t now) {
    char address[RR_NODE_ADDRESS_MAX + 1];
    if (link->direct || link->dialling || (mesh->leaving && !mesh->left)) {
        return UINT64_MAX;
    }
    if (now < link->dial_due_ns) {
        return link->dial_due_ns;
    }
    pthread_mutex_lock(&mesh->lock);
    memcpy(address, link->peer.address, sizeof address);
    pthread_mutex_unlock(&mesh->lock);
    if (!address[0]) {
        return UINT64_MAX; /* it dials us, or a relay knows a way */
    }
    if (!may_dial(mesh, link, address) || rr__wire_dial(mesh, link, address, &link->dialling) != RR_OK) {
        rr__mesh_dial_failed(mesh, link, false);
        return link->dial_due_ns;
    }
    return UINT64_MAX;
}
