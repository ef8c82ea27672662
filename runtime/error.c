/* error.c: texts of the one error table. */
#include "runtime/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *rr_strerror(int code) {
    switch (code) {
#define RR_ERROR_TEXT(name, value, text)                                                                               \
    case value:                                                                                                        \
        return text;
        RR_ERRORS(RR_ERROR_TEXT)
#undef RR_ERROR_TEXT
    default:
        return "unknown error";
    }
}

static const char *full_name(int code) {
    switch (code) {
#define RR_ERROR_NAME(name, value, text)                                                                               \
    case value:                                                                                                        \
        return #name;
        RR_ERRORS(RR_ERROR_NAME)
#undef RR_ERROR_NAME
    default:
        return "RR_UNKNOWN";
    }
}

/* Errors of functions carry an E in the table (RR_EFULL), outcomes of calls none (RR_NOROUTE): both lose their prefix. */
const char *rr_error_name(int code) {
    const char *name = full_name(code) + strlen("RR_");
    return name[0] == 'E' ? name + 1 : name;
}

int rr_fail(int code, char *why, size_t why_size, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(why, why_size, format, args);
    va_end(args);
    return code;
}

int rr_error_from_errno(int err) {
    switch (err < 0 ? -err : err) {
    case 0:
        return RR_OK;
    case ENOMEM:
        return RR_ENOMEM;
    case EINVAL:
    case EDOM:
    case ERANGE:
        return RR_EINVAL;
    case EEXIST:
        return RR_EEXIST;
    case ENOENT:
    case ENOTDIR:
        return RR_ENOENT;
    case EADDRINUSE:
        return RR_EADDRINUSE;
    case EACCES:
    case EPERM:
        return RR_EACCES;
    case EMFILE:
    case ENFILE:
    case ENOSPC:
    case EDQUOT:
    case EAGAIN: /* thread creation: the limit on threads */
        return RR_ELIMIT;
    case ETIMEDOUT:
        return RR_TIMEOUT;
    case ECANCELED:
        return RR_CANCELLED;
    case ECONNREFUSED:
        return RR_EREFUSED;
    case ENOSYS:
    case ENOTSUP:
    case EAFNOSUPPORT:
    case EPROTONOSUPPORT:
        return RR_EUNSUPPORTED;
    case EPROTO:
        return RR_EPROTO;
    case EMSGSIZE:
    case E2BIG:
    case EFBIG:
    case ENAMETOOLONG:
        return RR_ETOOBIG;
    case EILSEQ:
        return RR_EENCODING;
    default:
        return RR_EIO;
    }
}
