/* Any bytes as an options file: read and checked. */
#include <stdint.h>
#include <stdlib.h>

#include "conf/graph.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    rr_graph_t *graph = rr_graph_new();
    if (graph && rr_graph_parse_args(graph, "options", (const char *)data, size) == RR_OK && rr_graph_check(graph) != RR_OK &&
        !rr_graph_error_count(graph))
        abort(); /* refused without a word */
    rr_graph_free(graph);
    return 0;
}
