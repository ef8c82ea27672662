/* names.h: name -> address: the own actors', and those that other nodes own. Private to runtime/. */
#ifndef RR_RUNTIME_NAMES_H
#define RR_RUNTIME_NAMES_H

#include <pthread.h>

#include "runtime/remote.h"

typedef struct rr__names {
    pthread_rwlock_t lock;
    /* A name may stand in both for a moment, while its owner changes: then the own one counts. */
    struct rr__name *own, *remote;
    rr_addr_t watcher; /* RR_NOBODY: none */
} rr__names_t;

void rr__names_init(rr__names_t *names);
void rr__names_destroy(rr__names_t *names);

/* leased: the watcher is told, of its removal too. RR_EINVAL, RR_EEXIST, RR_ENOMEM. */
RR_MUST_CHECK int rr__names_add(rr_system_t *system, const char *name, rr_addr_t addr, bool leased);
bool rr__names_remove(rr_system_t *system, const char *name, rr_addr_t addr);

#endif
