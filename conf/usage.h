/* usage.h: what `redrabbit --help` prints, and `redrabbit COMMAND --help`. */
#ifndef RR_CONF_USAGE_H
#define RR_CONF_USAGE_H

#include <stdio.h>

#define RR_USAGE_RUN "GRAPH.yaml" /* of running a graph, which has no command's name */

/* Of one command ("up", "ps" …, RR_USAGE_RUN): how it is written, each option, an example. Of none that there is: of the whole
 * program. */
void rr_usage_print(const char *command, FILE *out);

#endif
