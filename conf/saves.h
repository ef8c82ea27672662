/* saves.h: hears when somebody saves a Python file in some folders, or in a folder below them.
 *
 * A thread of its own waits for inotify: for files that are written and closed, for renames, links and deletions. What follows
 * within settle_ms belongs to the same save, and a file that was written is waited for until it is closed, up to 20 times as long. Where nothing tells of changes (network file systems, FUSE, no inotify left) it looks at names, times and sizes every
 * poll_ms. Whoever is told compares the texts: a save may have changed nothing. */
#ifndef RR_CONF_SAVES_H
#define RR_CONF_SAVES_H

#include "runtime/redrabbit.h"

typedef struct rr_saves rr_saves_t;

#define RR_SAVES_FOLDERS_MAX 1024 /* watched in all; beyond that some are not, which is said */

typedef struct rr_saves_options {
    const char *const *folders; /* folder_count of them; copied. One that is not there is looked for */
    size_t folder_count;
    unsigned settle_ms, poll_ms; /* 0 = 100, 1,000 */
    bool polls;                  /* as if nothing told of changes */
    /* Both on the thread; they may block it. */
    void (*saved)(void *context);
    void (*note)(void *context, const char *line); /* for the log: what is not heard of at once, and why */
    void *context;
} rr_saves_options_t;

/* What is saved after this returns is heard of. RR_ENOMEM, RR_EIO (no thread, no descriptor). */
RR_MUST_CHECK int rr_saves_start(const rr_saves_options_t *options, rr_saves_t **out);

/* Ends the thread (neither function is called afterwards) and frees it. NULL is fine. Not on the thread. */
void rr_saves_stop(rr_saves_t *saves);

#endif
