/* log.h: the log of one system. Writers never block: a line goes into a bounded lock-free queue and a thread of the log's
 * own writes it out; what does not fit is counted and reported in one line. For system.c, main and tests; actors use
 * rr_log of redrabbit.h.
 *
 * A file that cannot be written to (disk full) loses whole lines: standard error is told once, the log how many are missing
 * as soon as there is room again. So does a screen that nobody reads (a full pipe), once the log's file or who waits for a flush or
 * the end would have to wait for it for more than a second.
 *
 *     2026-11-22 18:00:00.123 INFO  NET    text
 *
 * Local time, level, class, text. Further lines of one text are indented and control characters replaced, so that no text
 * from outside can look like a line of ours. */
#ifndef RR_RUNTIME_LOG_H
#define RR_RUNTIME_LOG_H

#include <stdarg.h>
#include <stdatomic.h>

#include "runtime/clock.h"
#include "runtime/redrabbit.h"

typedef struct rr__log rr__log_t;

#define RR_LOG_LINES    16384u       /* default bound of the queue, in lines */
#define RR_LOG_BYTES    (8u << 20)   /* and in bytes */
#define RR_LOG_LINE_MAX (64u << 10)  /* longer texts are cut, and say so */

typedef struct rr__log_options {
    rr_level_t level;        /* lines above it are not logged; 0 = RR_INFO */
    const char *classes;     /* "A,B": only these (warnings and worse always pass); NULL or "" = all */
    bool screen;             /* to screen_fd */
    int screen_fd;           /* 0 = standard output */
    const char *path;        /* folder of the file, made if missing; NULL = no file */
    const char *file;        /* stem; NULL = "redrabbit" */
    unsigned lines;          /* bound of the queue, rounded up to a power of two; 0 = RR_LOG_LINES */
    const rr_clock_t *clock; /* for the time stamps; must outlive the log */
} rr__log_options_t;

/* RR_ENOMEM, RR_EIO and other codes of errno (folder, file), RR_ELIMIT (thread). */
RR_MUST_CHECK int rr__log_create(rr__log_t **out, const rr__log_options_t *options);

/* Writes out what is queued, ends the thread: a screen that takes nothing is waited for for a second. No writer may be active. NULL is allowed. */
void rr__log_destroy(rr__log_t *log);

/* Whether such a line would be written: to spare its making. Any thread. */
bool rr__log_enabled(const rr__log_t *log, rr_level_t level, const char *class);

/* One line. Any thread, never blocks. */
void rr__log_write(rr__log_t *log, rr_level_t level, const char *class, const char *format, va_list args)
    __attribute__((format(printf, 4, 0)));

/* Bytes as they are (with their own line ends), whatever the level, to the screen even if the log is not shown there:
 * what scripts print. Any thread, never blocks. */
void rr__log_raw(rr__log_t *log, const void *bytes, size_t size);

/* Waits until all that the calling thread has written before is in its files. Not for workers. */
void rr__log_flush(rr__log_t *log);

/* Opens the file anew before the next line (it was moved away). Any thread. */
void rr__log_reopen(rr__log_t *log);

void rr__log_set_level(rr__log_t *log, rr_level_t level); /* any thread */

uint64_t rr__log_lines(const rr__log_t *log);   /* accepted since start */
uint64_t rr__log_dropped(const rr__log_t *log); /* not accepted: queue full or out of memory */
uint64_t rr__log_lost(const rr__log_t *log);    /* accepted, but not written: counted for file and screen apart */

/* ---- Rate limits for lines that may come in floods -------------------------------------------------------------- */

/* One per kind of line, zeroed. */
typedef struct rr_log_limit {
    /* Window number 32 | lines in it 32. Written by every thread that logs this line, in one compare-and-swap; relaxed,
     * as nothing hangs on it but the count. */
    _Atomic(uint64_t) word;
} rr_log_limit_t;

#define RR_LOG_LIMIT_WINDOW_NS (10 * RR_NS_PER_S)

/* Whether a line may be written: the first `first` in each window of 10 s. When the first line after a window of too many
 * comes, *suppressed (may be NULL) is how many were held back, else 0: log that in one line. Any thread. */
bool rr_log_limit(rr_log_limit_t *limit, unsigned first, uint64_t now_ns, uint64_t *suppressed);

#endif
