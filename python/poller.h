/* poller.h: one thread that wakes asyncio scenes when their event loop's sockets are ready.
 *
 * An asyncio scene's loop polls its epoll instance without waiting, inside the scene's turn. That instance is itself
 * watched here, one-shot: readiness -> wake -> turn -> armed again. So call_soon_threadsafe and executor results, which
 * write to the loop's self-pipe, arrive the same way. No Python runs on this thread. */
#ifndef RR_PYTHON_POLLER_H
#define RR_PYTHON_POLLER_H

#include "python/internal.h"

/* Watches script->loop_fd; calls host.wake_threadsafe. RR_ENOMEM, RR_EIO. */
RR_MUST_CHECK int rr__poller_add(rr_script_t *script);

/* Arms it again, after a turn. */
void rr__poller_arm(rr_script_t *script);

/* Afterwards no wake for this script is under way. */
void rr__poller_remove(rr_script_t *script);

void rr__poller_stop(void);

#endif
