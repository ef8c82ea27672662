/* The graph as a picture: text for a terminal, SVG for a page. */
#include <string.h>

#include "actors/database/database.h"
#include "conf/graph.h"

/* Actors without a node stand under the name "" (this process). */
static const char *node_of(const rr_item_t *actor) {
    const char *node = rr_item_text(actor, "node");
    return node ? node : "";
}

static bool on_node(const rr_item_t *actor, const char *node) { return strcmp(node_of(actor), node) == 0; }

static size_t actors_on(rr_graph_t *graph, const char *node) {
    size_t count = 0;
    for (size_t i = 0; i < rr_graph_actor_count(graph); i++)
        count += on_node(rr_graph_actor(graph, i), node);
    return count;
}

/* What one wants to know of an actor at a glance. */
static void facts(const rr_item_t *actor, char *out, size_t size) {
    const rr_value_t *listen = rr_item_value(actor, "listen");
    size_t used = 0;
    out[0] = 0;
    for (size_t i = 0; listen && i < listen->count && used < size; i++)
        used += (size_t)snprintf(out + used, size - used, "%s%s", i ? ", " : "", listen->texts[i]);
    if (actor->scope == RR_SCOPE_GATE && used < size)
        snprintf(out + used, size - used, "%slogin %s", used ? "  " : "", rr_item_text(actor, "login"));
    if (actor->scope == RR_SCOPE_SCENE) {
        const char *script = rr_item_text(actor, "script");
        snprintf(out, size, "%s", script ? script : "");
    }
    if (actor->scope == RR_SCOPE_DATABASE && rr_item_text(actor, "url"))
        rr_database_redact(rr_item_text(actor, "url"), out, size);
}

/* ---- Text ---- */

static void text_node(rr_graph_t *graph, const char *name, const char *address, FILE *out) {
    char fact[512];
    if (*name)
        fprintf(out, "|\n+-- node %s%s%s\n", name, address ? "  " : "", address ? address : "");
    else
        fprintf(out, "|\n+-- this process\n");
    for (size_t i = 0; i < rr_graph_actor_count(graph); i++) {
        const rr_item_t *actor = rr_graph_actor(graph, i);
        if (!on_node(actor, name))
            continue;
        facts(actor, fact, sizeof fact);
        fprintf(out, "|   +-- %-16s %-7s %s\n", actor->name, rr_scope_name(actor->scope), fact);
    }
}

void rr_graph_draw_text(rr_graph_t *graph, FILE *out) {
    fprintf(out, "group %s\n", rr_item_text(rr_graph_top(graph), "group"));
    for (size_t i = 0; i < rr_graph_node_count(graph); i++) {
        const rr_item_t *node = rr_graph_node(graph, i);
        text_node(graph, node->name, rr_item_text(node, "address"), out);
    }
    if (actors_on(graph, ""))
        text_node(graph, "", NULL, out);
}

/* ---- SVG ---- */

enum { BOX_W = 260, BOX_H = 48, GAP = 18, PAD = 24, HEAD = 44, CLIENT_W = 110 };

typedef struct rr_spot {
    int x, y; /* of the box's left upper corner */
} rr_spot_t;

static void svg_text(FILE *out, int x, int y, const char *class, const char *text) {
    fprintf(out, "<text x=\"%d\" y=\"%d\" class=\"%s\">", x, y, class);
    for (size_t n = 0; *text && n < 40; text++, n++) {
        switch (*text) {
        case '<':
            fputs("&lt;", out);
            break;
        case '>':
            fputs("&gt;", out);
            break;
        case '&':
            fputs("&amp;", out);
            break;
        default:
            putc(*text, out);
        }
    }
    fputs(*text ? "…</text>\n" : "</text>\n", out);
}

/* The column of a node: the nodes in their order, then this process. */
static int column_of(rr_graph_t *graph, const char *node) {
    for (size_t i = 0; i < rr_graph_node_count(graph); i++) {
        if (strcmp(rr_graph_node(graph, i)->name, node) == 0)
            return (int)i;
    }
    return (int)rr_graph_node_count(graph);
}

static rr_spot_t spot_of(rr_graph_t *graph, size_t index) {
    const char *node = node_of(rr_graph_actor(graph, index));
    int row = 0;
    for (size_t i = 0; i < index; i++)
        row += on_node(rr_graph_actor(graph, i), node);
    return (rr_spot_t){CLIENT_W + PAD + column_of(graph, node) * (BOX_W + 3 * PAD) + PAD, PAD + HEAD + row * (BOX_H + GAP)};
}

static int index_of(rr_graph_t *graph, const char *name) {
    for (size_t i = 0; i < rr_graph_actor_count(graph); i++) {
        if (strcmp(rr_graph_actor(graph, i)->name, name) == 0)
            return (int)i;
    }
    return -1;
}

/* A curve on the right of two boxes of one column, else from side to side. */
static void svg_link(FILE *out, rr_spot_t from, rr_spot_t to, const char *class) {
    int y1 = from.y + BOX_H / 2, y2 = to.y + BOX_H / 2;
    if (from.x == to.x)
        fprintf(out, "<path class=\"%s\" d=\"M%d %d C%d %d %d %d %d %d\"/>\n", class, from.x + BOX_W, y1,
                from.x + BOX_W + PAD, y1, from.x + BOX_W + PAD, y2, to.x + BOX_W, y2);
    else
        fprintf(out, "<path class=\"%s\" d=\"M%d %d L%d %d\"/>\n", class, from.x + (from.x < to.x ? BOX_W : 0), y1,
                to.x + (from.x < to.x ? 0 : BOX_W), y2);
}

static void svg_frame(rr_graph_t *graph, const char *node, const char *title, FILE *out) {
    int count = (int)actors_on(graph, node);
    int x = CLIENT_W + PAD + column_of(graph, node) * (BOX_W + 3 * PAD);
    fprintf(out, "<rect class=\"node\" x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" rx=\"10\"/>\n", x, PAD, BOX_W + 2 * PAD,
            HEAD + (count ? count : 1) * (BOX_H + GAP));
    svg_text(out, x + PAD, PAD + 26, "title", title);
}

static void svg_actor(rr_graph_t *graph, size_t index, FILE *out) {
    const rr_item_t *actor = rr_graph_actor(graph, index);
    rr_spot_t spot = spot_of(graph, index);
    char fact[512];
    facts(actor, fact, sizeof fact);
    fprintf(out, "<rect class=\"%s\" x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" rx=\"6\"/>\n", rr_scope_name(actor->scope),
            spot.x, spot.y, BOX_W, BOX_H);
    svg_text(out, spot.x + 12, spot.y + 20, "name", actor->name);
    svg_text(out, spot.x + 12, spot.y + 38, "fact", fact);
    if (actor->scope != RR_SCOPE_GATE)
        return;
    fprintf(out, "<path class=\"client\" d=\"M%d %d L%d %d\"/>\n", CLIENT_W - PAD, spot.y + BOX_H / 2, spot.x,
            spot.y + BOX_H / 2);
    svg_text(out, PAD, spot.y + BOX_H / 2 + 4, "fact", "clients");
    int login = index_of(graph, rr_item_text(actor, "login"));
    if (login >= 0)
        svg_link(out, spot, spot_of(graph, (size_t)login), "login");
}

void rr_graph_draw_svg(rr_graph_t *graph, FILE *out) {
    int columns = (int)rr_graph_node_count(graph) + (actors_on(graph, "") > 0), rows = (int)actors_on(graph, "");
    for (size_t i = 0; i < rr_graph_node_count(graph); i++) {
        int count = (int)actors_on(graph, rr_graph_node(graph, i)->name);
        rows = count > rows ? count : rows;
    }
    fprintf(out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" font-family=\"sans-serif\" font-size=\"13\">\n"
            "<style>rect{stroke:#555}.node{fill:#f6f6f6}.broker{fill:#e8e0f5}.gate{fill:#fbe3d6}.scene{fill:#dcefdc}.database{fill:#dbe7f5}"
            ".title,.name{font-weight:bold}.fact{fill:#444;font-size:11px}path{fill:none;stroke:#a33;stroke-width:1.5}"
            ".client{stroke:#333;stroke-dasharray:4 3}</style>\n",
            CLIENT_W + 2 * PAD + columns * (BOX_W + 3 * PAD), 2 * PAD + HEAD + (rows ? rows : 1) * (BOX_H + GAP));
    for (size_t i = 0; i < rr_graph_node_count(graph); i++)
        svg_frame(graph, rr_graph_node(graph, i)->name, rr_graph_node(graph, i)->name, out);
    if (actors_on(graph, ""))
        svg_frame(graph, "", rr_item_text(rr_graph_top(graph), "group"), out);
    for (size_t i = 0; i < rr_graph_actor_count(graph); i++)
        svg_actor(graph, i, out);
    fputs("</svg>\n", out);
}
