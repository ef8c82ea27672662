/* Any bytes as a YAML graph: read, checked, drawn. */
#include <stdint.h>

#include "conf/graph.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    rr_graph_t *graph = rr_graph_new();
    FILE *out = fopen("/dev/null", "we");
    if (graph && out && rr_graph_parse_yaml(graph, "g.yaml", (const char *)data, size) == RR_OK &&
        rr_graph_check(graph) == RR_OK) {
        rr_graph_draw_text(graph, out);
        rr_graph_draw_svg(graph, out);
    }
    if (out)
        fclose(out);
    rr_graph_free(graph);
    return 0;
}
