/* notify.h: what the process tells the service manager that started it (systemd: Type=notify): one datagram of text to
 * $NOTIFY_SOCKET, as sd_notify(3) documents it. Without that variable nothing happens. Main thread. */
#ifndef RR_CONF_NOTIFY_H
#define RR_CONF_NOTIFY_H

#include <stdint.h>

#include "runtime/error.h"

/* "READY=1", "STOPPING=1", "WATCHDOG=1", "STATUS=…"; several by newlines. RR_OK also if nobody wants to know; RR_EINVAL: the
 * variable names no socket; RR_EIO: it cannot be told (errno says why). */
RR_MUST_CHECK int rr_notify(const char *state);

/* How often "WATCHDOG=1" is due: half of $WATCHDOG_USEC, if it is meant for this process; 0 = never. */
uint64_t rr_notify_watchdog_ms(void);

#endif
