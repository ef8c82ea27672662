/* state_file.h: what a group's master must not forget: its term, and which node ids it has handed out. Private to actors/.
 *
 * A start takes the next term and the next block of ids, and has both on the disk (write beside, fsync, rename, fsync the
 * folder) before it returns. FILE.lock is locked (flock) as long as the master lives: a second one on the same file is
 * refused, also while the first is stopped. A lost file costs nothing but the grace: terms follow the wall clock, so a new
 * file's is greater than all before it too, and its ids begin at a random one. */
#ifndef RR_ACTORS_STATE_FILE_H
#define RR_ACTORS_STATE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/error.h"

#define RR_STATE_IDS 2048u /* node ids a start has for itself: 31 starts until one is used again */

typedef struct rr_state_file {
    int lock_fd; /* -1: not open */
    uint32_t term;
    unsigned first_id; /* of RR_STATE_IDS; ids go from 1 to 65,534, then begin anew */
    bool grace;        /* there may be nodes that an earlier master has granted names */
    char path[1024];
} rr_state_file_t;

/* Takes term and ids for this start. RR_EEXIST: another master has it; RR_EIO, RR_EACCES, RR_ENOENT, RR_ETOOBIG, RR_EUNSUPPORTED (another format): why says what
 * and how to mend it. Blocks for the disk. */
RR_MUST_CHECK int rr_state_file_open(const char *path, rr_state_file_t *out, char *why, size_t why_size);
/* clean: nobody holds any name, a next start needs no grace. Unlocks. */
void rr_state_file_close(rr_state_file_t *file, bool clean);

#endif
