/* slice.h: how long a thread keeps its CPU while others of its machine want it, too. Private to net/. */
#ifndef RR_NET_SLICE_H
#define RR_NET_SLICE_H

#include "runtime/error.h"

/* The calling thread, and those that it makes from now on, ask for long time slices: whoever wakes on the same CPU goes first, at the
 * same share for each over time. Linux 6.12; an older kernel does not listen (RR_OK). RR_EUNSUPPORTED: the thread has another policy than
 * the usual one; else what the kernel says. */
RR_MUST_CHECK int rr__slice_long(void);
/* The same for short ones: it goes before those that wait with usual ones, as soon as it wakes. */
RR_MUST_CHECK int rr__slice_short(void);

#endif
