#include "net/slice.h"

#include <errno.h>
#include <sched.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The usual one has 0.7 to 3 ms, depending on the number of CPUs; the kernel takes 0.1 to 100 ms. */
#define LONG_NS 20000000u
#define SHORT_NS 100000u

typedef struct attributes { /* the kernel's struct sched_attr, first version: its header does not go with libc's */
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime_ns, deadline_ns, period_ns; /* the first is the slice where there is no deadline */
} attributes_t;

static int take(uint64_t ns) {
    attributes_t attributes = {0};
    if (syscall(SYS_sched_getattr, 0, &attributes, sizeof attributes, 0) != 0)
        return rr_error_from_errno(errno);
    if (attributes.policy != SCHED_OTHER)
        return RR_EUNSUPPORTED;
    attributes.runtime_ns = ns;
    return syscall(SYS_sched_setattr, 0, &attributes, 0) == 0 ? RR_OK : rr_error_from_errno(errno);
}

int rr__slice_long(void) { return take(LONG_NS); }
int rr__slice_short(void) { return take(SHORT_NS); }
