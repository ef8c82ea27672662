/* run.h: the life of the process: daemon, file limit, signals, start-up lines, drain, exit status. */
#ifndef RR_CONF_RUN_H
#define RR_CONF_RUN_H

#include "conf/share.h"

enum {
    RR_EXIT_OK = 0,
    RR_EXIT_FAILED = 1, /* it did not start */
    RR_EXIT_USAGE = 2,  /* wrong options or graph */
    RR_EXIT_CUT = 3,    /* the drain was cut short: by its deadline or a second signal */
};

/* A signal that follows the first within this time is the same wish to stop, sent twice; a later one ends the process now. */
#define RR_SAME_SIGNAL_MS 1000u

/* Runs a checked graph's share until SIGTERM, SIGINT or another process of its group ends it; returns the exit status. SIGINT
 * means that the whole group ends: scenes hand no sessions over, as they do else. SIGHUP opens the log files anew. `folder` =
 * the graph's. A service manager is told (notify.h). Main thread, once per process: it owns the process' signals. */
int rr_run(rr_graph_t *graph, const rr_share_t *share, const char *folder);

#endif
