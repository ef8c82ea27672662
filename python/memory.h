/* memory.h: counts the Python memory of one scene and refuses what goes over its limit (MemoryError).
 *
 * The allocator of CPython's MEM and OBJECT domains is the C library's malloc behind a thin layer: an allocation made
 * on a thread that has entered a scene with a limit is booked on that scene's account. */
#ifndef RR_PYTHON_MEMORY_H
#define RR_PYTHON_MEMORY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

typedef struct rr__account {
    size_t limit; /* bytes; set before the account is used */
    /* Bytes in use; signed: memory may be freed here that was allocated before the account was entered. Written only by
     * the thread that has entered the scene, read by rr_script_stats: relaxed, a momentary figure. */
    _Atomic(ptrdiff_t) used;
    unsigned lifted; /* > 0: no limit for now, e.g. while an error is written down */
    unsigned long refused;
} rr__account_t;

/* Installs the layer; before CPython starts. */
void rr__memory_install(void);

/* The account of the calling thread from now on; NULL = none. Returns the one before. */
rr__account_t *rr__memory_enter(rr__account_t *account);

#endif
