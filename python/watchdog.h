/* watchdog.h: stops handlers that run on and on. One thread per process looks; a strike has a short thread of its own,
 * because it must wait for the interpreter's GIL, which a loop inside C may never let go. */
#ifndef RR_PYTHON_WATCHDOG_H
#define RR_PYTHON_WATCHDOG_H

#include "python/internal.h"

/* Watches a script whose watch.limit_ms > 0. RR_ENOMEM. Entered or not. */
RR_MUST_CHECK int rr__watchdog_add(rr_script_t *script);

/* Stops watching and waits for a strike under way; entered (the GIL is let go meanwhile). */
void rr__watchdog_remove(rr_script_t *script);

/* Ends the thread; no script is watched any more. */
void rr__watchdog_stop(void);

/* Cold path of rr__python_end: takes back a strike that came too late. Entered. */
void rr__watchdog_clear(rr_script_t *script);

#endif
