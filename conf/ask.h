/* ask.h: `redrabbit ps` and `redrabbit drain`: questions to a running cluster, asked at its broker. */
#ifndef RR_CONF_ASK_H
#define RR_CONF_ASK_H

#include "runtime/error.h"

/* argv = what stands behind the command's name. Prints what it learns to stdout, what is wrong to stderr; returns the exit
 * status (run.h). They block. */
int rr_ask_ps(int argc, char **argv);
int rr_ask_drain(int argc, char **argv);

#endif
