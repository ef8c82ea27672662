/* watchdog.h: stops handlers that run on and on. One thread per process looks; a strike has a short thread of its own,
 * because it must wait for the interpreter's GIL, which a loop inside C may never let go. */
#ifndef RR_PYTHON_WATCHDOG_H
#define RR_PYTHON_WATCHDOG_H

#include "python/internal.h"

/* Before 3.13 a thread that waits for a GIL which several interpreters share asks only those to let it go that run in its
 * own interpreter: a script that computes on would keep it from all others. So such scripts are watched in any case, and a
 * thread of their own interpreter nudges the handler that runs on. */
#define RR__NUDGED(interp) (PY_VERSION_HEX < 0x030D0000 && !(interp)->own_gil)

/* Watches a script whose watch.limit_ms > 0 or whose watch.nudged is set. RR_ENOMEM. Entered or not. */
RR_MUST_CHECK int rr__watchdog_add(rr_script_t *script);

/* Stops watching and waits for a strike under way; entered (the GIL is let go meanwhile). */
void rr__watchdog_remove(rr_script_t *script);

/* Ends the thread; no script is watched any more. */
void rr__watchdog_stop(void);

/* Cold path of rr__python_end: takes back a strike that came too late. Entered. */
void rr__watchdog_clear(rr_script_t *script);

#endif
