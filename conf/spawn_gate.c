/* spawn_gate.c: the graph's gates: options, addresses, folders. */
#include "conf/spawn_impl.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "conf/home.h"

static void gate_ready(void *context, rr_gate_t *gate) {
    rr_running_t *running = context;
    pthread_mutex_lock(&running->lock);
    for (size_t i = 0; i < running->gate_count; i++)
        running->gate_open[i] |= running->gates[i] == gate;
    running->opening--;
    pthread_mutex_unlock(&running->lock);
    running->wake(running->wake_context);
}

static size_t at_least_one(int64_t n) { return n > 0 ? (size_t)n : 1; }

static void fill_gate_limits(rr_gate_options_t *options, const rr_item_t *item) {
    options->max_packet = at_least_one(rr_item_number(item, "max_packet_size"));
    options->send_limit = (size_t)rr_item_number(item, "send_buffer");
    options->max_connections = (unsigned)rr_item_number(item, "max_connections");
    options->max_per_ip = (unsigned)rr_item_number(item, "max_per_ip");
    options->max_pending_logins = (unsigned)rr_item_number(item, "max_logins");
    options->pending_messages = (unsigned)rr_item_number(item, "login_queue.messages");
    options->pending_bytes = (size_t)rr_item_number(item, "login_queue.bytes");
    options->rate = (unsigned)rr_item_number(item, "rate.messages");
    options->rate_burst = (unsigned)rr_item_number(item, "rate.burst");
    options->queue_messages = (unsigned)rr_item_number(item, "queue.messages");
    options->queue_bytes = (size_t)rr_item_number(item, "queue.bytes");
    options->login_timeout_ms = (unsigned)rr_item_number(item, "login_timeout");
    options->idle_timeout_ms = (unsigned)rr_item_number(item, "heartbeat_timeout");
    options->partial_timeout_ms = (unsigned)rr_item_number(item, "frame_timeout");
    options->heartbeat_cmd = rr_item_value(item, "heartbeat_cmd") ? (int)rr_item_number(item, "heartbeat_cmd") : -1;
    options->window_messages = (unsigned)rr_item_number(item, "window.messages");
    options->window_bytes = (size_t)rr_item_number(item, "window.bytes");
    options->scene_lost = (rr_scene_lost_t)rr_item_number(item, "scene_lost");
    options->scene_wait_ms = (unsigned)rr_item_number(item, "scene_wait");
    options->session_id_int = strcmp(rr_item_text(item, "session_id"), "int") == 0;
    options->metrics = rr_item_flag(item, "metrics");
}

static int fill_listen(const rr_item_t *item, rr_gate_listen_t *listen, char *why, size_t why_size) {
    const rr_value_t *addresses = rr_item_value(item, "listen");
    bool all = strcmp(rr_item_text(item, "byte_order"), "network") == 0;
    int rc = RR_OK;
    for (size_t i = 0; i < addresses->count && rc == RR_OK; i++) {
        rc = rr_address_parse(addresses->texts[i], &listen[i].address, why, why_size);
        listen[i].big_endian = listen[i].address.byte_order ? listen[i].address.byte_order == RR_BYTE_ORDER_NETWORK : all;
    }
    return rc;
}

/* Folders that are missing have been complained about (check.c). */
static void fill_www(const rr_item_t *item, rr_gate_folder_t *www, size_t *count) {
    const rr_value_t *value = rr_item_value(item, "www");
    *count = 0;
    for (size_t i = 0; value && i < value->count; i++) {
        if (access(value->texts[i], F_OK) == 0)
            www[(*count)++] = (rr_gate_folder_t){value->keys ? value->keys[i] : "/", value->texts[i]};
    }
}

/* What to do about an address that cannot be listened on. */
static void add_mend(int rc, char *why, size_t why_size) {
    const char *mend = rc == RR_EADDRINUSE ? "; choose another port, or stop the process that has this one"
                       : rc == RR_EACCES   ? "; choose a port above 1023"
                       : rc == RR_EINVAL   ? "; use an address of this machine, or * for all"
                                           : "";
    size_t used = strlen(why);
    if (used < why_size)
        snprintf(why + used, why_size - used, "%s", mend);
}

int rr__create_gate(rr_running_t *running, const rr_item_t *item, rr_gate_t **out, char *why, size_t why_size) {
    const rr_value_t *addresses = rr_item_value(item, "listen"), *folders = rr_item_value(item, "www");
    const rr_value_t *subprotocols = rr_item_value(item, "subprotocols");
    const char *edited = rr_item_text(item, "editor.scene");
    rr_gate_listen_t *listen = calloc(addresses->count, sizeof *listen);
    rr_gate_folder_t *www = calloc((folders ? folders->count : 0) + 1, sizeof *www);
    const char **protocols = calloc((subprotocols ? subprotocols->count : 0) + 1, sizeof *protocols);
    rr_gate_options_t options;
    int rc = listen && www && protocols ? RR_OK : RR_ENOMEM;
    rr_gate_options_init(&options);
    options.name = item->name;
    options.leased = running->member != NULL;
    options.login = rr_item_text(item, "login");
    fill_gate_limits(&options, item);
    if (rc == RR_OK)
        rc = fill_listen(item, listen, why, why_size);
    if (rc != RR_OK)
        goto out;
    fill_www(item, www, &options.www_count);
    for (size_t i = 0; subprotocols && i < subprotocols->count; i++)
        protocols[i] = subprotocols->texts[i];
    options.listen = listen;
    options.listen_count = addresses->count;
    options.www = www;
    options.subprotocols = subprotocols ? protocols : NULL;
    options.client_js = rr_home_path("net/www/redrabbit.js", running->script_js, sizeof running->script_js) ? running->script_js : NULL;
    if (edited)
        options.editor = (rr_gate_editor_t){edited, rr_item_text(rr_graph_find_actor(running->graph, edited), "script"),
                                            rr_item_text(item, "editor.token")};
    options.ready = gate_ready;
    options.context = running;
    rc = rr_gate_create(running->system, running->loops, running->loop_count, &options, out, why, why_size);
    add_mend(rc, why, why_size);
out:
    if (rc == RR_ENOMEM)
        snprintf(why, why_size, "out of memory");
    free(listen);
    free(www);
    free(protocols);
    return rc;
}
