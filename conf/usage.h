/* usage.h: what `redrabbit --help` prints, and `redrabbit COMMAND --help`. */
#ifndef RR_CONF_USAGE_H
#define RR_CONF_USAGE_H

#include <stdio.h>

/* Of one command ("up", "ps" …): how it is written, each option, an example. Of none that there is: of the whole program. */
void rr_usage_print(const char *command, FILE *out);

#endif
