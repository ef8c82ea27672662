/* master_report.c: what is where, for people: the answer to `redrabbit ps`, and metrics. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "actors/master_impl.h"

#define QUERIES 16u    /* questions of tools under way */
#define LINKS_MS 1000u /* how long a node may take to tell its links */

/* ---- What is where, for people ---- */

typedef struct rr__query { /* waits for the links of all nodes */
    LIST_ENTRY(rr__query) entry;
    rr_master_t *master;
    rr_message_t *msg; /* taken */
    unsigned waits;
    bool any; /* links were put */
    rr_reg_out_t out;
} rr__query_t;

static void put_text(rr_reg_out_t *out, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void put_text(rr_reg_out_t *out, const char *format, ...) {
    char text[1024];
    va_list args;
    va_start(args, format);
    int size = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    rr_reg_put_bytes(out, text, size < 0 ? 0 : (size_t)size < sizeof text ? (size_t)size : sizeof text - 1);
}

static const char *epoch_text(uint64_t epoch, char out[24]) {
    snprintf(out, 24, "%llu", (unsigned long long)epoch);
    return out;
}

static void put_node_json(rr_master_t *master, rr_reg_out_t *out, const rr__node_t *node, bool first) {
    char name[RR_REG_JSON_TEXT], address[RR_REG_JSON_TEXT];
    bool own = node->identity.node == master->options.self.node;
    put_text(out, "%s{\"id\":%u,\"name\":%s,\"status\":\"%s\",\"address\":%s,\"master\":%s,\"relay\":%s,\"lease_left_ms\":",
             first ? "" : ",", node->identity.node, rr_reg_json_text(node->identity.name, name),
             rr_node_status_name(node->draining              ? RR_NODE_DRAINING
                                 : rr__master_is_lively(master, node) ? RR_NODE_ALIVE
                                                             : RR_NODE_SUSPECT),
             rr_reg_json_text(node->identity.address, address), own ? "true" : "false",
             node->identity.relay ? "true" : "false");
    put_text(out, own ? "null}" : "%llu}", (unsigned long long)rr_master_lease_left_ms(master, node->identity.node));
}

static void put_table_json(rr_master_t *master, rr_reg_out_t *out) {
    char epoch[24];
    char group[RR_REG_JSON_TEXT];
    put_text(out, "{\"group\":%s,\"term\":%u,\"nodes\":[", rr_reg_json_text(master->options.self.group, group),
             master->options.term);
    bool first = true;
    for (uint32_t i = 0; master->nodes.cells && i <= master->nodes.mask; i++) {
        const rr__node_t *node = master->nodes.cells[i].value;
        if (master->nodes.cells[i].key && node->phase == RR__MEMBER) {
            put_node_json(master, out, node, first);
            first = false;
        }
    }
    put_text(out, "],\"names\":[");
    first = true;
    for (uint32_t i = 0; master->names.cells && i <= master->names.mask; i++) {
        const rr__name_t *name = master->names.cells[i].item;
        if (!name)
            continue;
        put_text(out, "%s{\"name\":\"%s\",\"node\":%u,\"epoch\":%s}", first ? "" : ",", name->text,
                 name->node->identity.node, epoch_text(name->epoch, epoch));
        first = false;
    }
    put_text(out, "],\"links\":[");
}

static void end_query(rr_actor_t *self, rr__query_t *query) {
    put_text(&query->out, "]}");
    LIST_REMOVE(query, entry);
    query->master->query_count--;
    rr__master_answer(self, query->msg, &query->out);
    free(query);
}

static void on_links(rr_actor_t *self, void *state, int status, rr_message_t *msg, void *context) {
    rr__query_t *query = context;
    const char *text = status == RR_OK ? rr_message_data(msg) : NULL;
    size_t size = text ? rr_message_size(msg) : 0;
    if (size > 2 && text[0] == '[' && text[size - 1] == ']') {
        put_text(&query->out, "%s", query->any ? "," : "");
        rr_reg_put_bytes(&query->out, text + 1, size - 2);
        query->any = true;
    }
    if (--query->waits == 0)
        end_query(self, query);
}

void rr__master_on_query(rr_actor_t *self, rr_master_t *master, rr_message_t *msg) {
    rr__query_t *query = master->query_count < QUERIES ? calloc(1, sizeof *query) : NULL;
    if (!query) {
        rr_reply_error(self, msg, RR_EHANDLER, rr_strerror(RR_OVERLOAD));
        return;
    }
    query->master = master;
    query->msg = msg;
    query->waits = 1; /* this very function */
    rr_message_take(self, msg);
    LIST_INSERT_HEAD(&master->queries, query, entry);
    master->query_count++;
    put_table_json(master, &query->out);
    for (uint32_t i = 0; master->nodes.cells && i <= master->nodes.mask; i++) {
        const rr__node_t *node = master->nodes.cells[i].value;
        if (master->nodes.cells[i].key && node->phase == RR__MEMBER && rr__master_is_lively(master, node) &&
            rr_call(self, node->agent, RR_REG_LINKS, NULL, 0, LINKS_MS, on_links, query, NULL) == RR_OK)
            query->waits++;
    }
    if (--query->waits == 0)
        end_query(self, query);
}

void rr__master_queries_free(rr_master_t *master) {
    for (rr__query_t *query; (query = LIST_FIRST(&master->queries));) { /* their messages went with the actor */
        LIST_REMOVE(query, entry);
        rr_reg_out_free(&query->out);
        free(query);
    }
}

/* ---- Metrics ---- */

void rr_master_collect(void *context, rr_metrics_writer_t *writer) {
    rr_master_t *master = context;
    const rr_metric_type_t counter = RR_METRIC_COUNTER, gauge = RR_METRIC_GAUGE;
    rr_metrics_write(writer, "rr_group_members", gauge, "Nodes of the group.", NULL, (double)rr_counted(&master->members));
    rr_metrics_write(writer, "rr_group_names", gauge, "Names owned.", NULL, (double)rr_counted(&master->owned));
    rr_metrics_write(writer, "rr_group_grants_total", counter, "Names granted.", NULL, (double)rr_counted(&master->grants));
    rr_metrics_write(writer, "rr_group_refusals_total", counter, "Claims refused: a living node has the name.", NULL,
                     (double)rr_counted(&master->refusals));
    rr_metrics_write(writer, "rr_group_waits_total", counter, "Claims told to wait for a lease to end.", NULL,
                     (double)rr_counted(&master->waits));
    rr_metrics_write(writer, "rr_group_renewals_total", counter, "Leases renewed.", NULL,
                     (double)rr_counted(&master->renewals));
    rr_metrics_write(writer, "rr_group_expired_total", counter, "Nodes whose lease ran out.", NULL,
                     (double)rr_counted(&master->expired));
    rr_metrics_write(writer, "rr_group_changes_total", counter, "Changes told.", NULL, (double)rr_counted(&master->changes));
    rr_metrics_write(writer, "rr_group_tables_total", counter, "Times the whole table was sent.", NULL,
                     (double)rr_counted(&master->wholes));
    rr_metrics_write(writer, "rr_group_term", gauge, "The master's term.", NULL, master->options.term);
}
