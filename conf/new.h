/* new.h: `redrabbit new NAME`. */
#ifndef RR_CONF_NEW_H
#define RR_CONF_NEW_H

#include <stddef.h>

#include "runtime/error.h"

/* Makes the folder NAME with a graph, a script, a page and a test out of conf/template, with NAME for @NAME@ and this
 * program's path for @PROGRAM@. Nothing that
 * exists is touched; what was begun is left when it fails half-way. RR_EINVAL, RR_EEXIST, RR_EIO: why has one line. */
RR_MUST_CHECK int rr_new_project(const char *name, char *why, size_t why_size);

#endif
