/* run_key.h: the key of a `redrabbit up` whose graph names none. It lies in a folder of this user, by the name of the group and
 * its master's address, for as long as that `up` runs: so `redrabbit ps`, `redrabbit drain` and nodes that are started by hand
 * beside it find it by themselves. Main thread.
 *
 * The folder is $XDG_RUNTIME_DIR/redrabbit, else redrabbit-UID in $TMPDIR or /tmp; nobody else may look into it, else it is
 * not used. Whoever made the file has it locked: one that is not is left over from a `up` that was killed, and counts as none. */
#ifndef RR_CONF_RUN_KEY_H
#define RR_CONF_RUN_KEY_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

#include "runtime/error.h"

typedef struct rr_run_key {
    char path[PATH_MAX]; /* "" = none */
    int fd;              /* locked; -1 = it is not ours */
} rr_run_key_t;

/* Makes a key, with 256 random bits. RR_OK, RR_EIO, RR_EINVAL (the address): why gets one line. */
RR_MUST_CHECK int rr_run_key_make(const char *group, const char *master, rr_run_key_t *out, char *why, size_t why_size);
/* That of a `up` that runs. False: there is none. */
bool rr_run_key_find(const char *group, const char *master, rr_run_key_t *out);
/* Removes one that is ours. */
void rr_run_key_drop(rr_run_key_t *key);

#endif
