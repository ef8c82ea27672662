/* error.h: every error of the project, one table. Codes are negative and stable; 0 is success. */
#ifndef RR_RUNTIME_ERROR_H
#define RR_RUNTIME_ERROR_H

#include <stddef.h>

#define RR_MUST_CHECK __attribute__((warn_unused_result))

/* X(code, value, text). "not executed" / "maybe executed" is the promise to a caller whose call ended so. */
#define RR_ERRORS(X)                                                                                                   \
    X(RR_OK, 0, "ok")                                                                                                  \
    X(RR_ENOMEM, -1, "out of memory")                                                                                  \
    X(RR_EINVAL, -2, "invalid argument")                                                                               \
    X(RR_EFULL, -3, "mailbox or queue is full")                                                                        \
    X(RR_NOROUTE, -4, "no such actor or name (not executed)")                                                          \
    X(RR_STALE, -5, "the name's owner changed (not executed)")                                                         \
    X(RR_OVERLOAD, -6, "the receiver is overloaded (not executed)")                                                    \
    X(RR_DIED, -7, "the receiver died (maybe executed)")                                                               \
    X(RR_LINKDOWN, -8, "the link to the node is down (maybe executed)")                                                \
    X(RR_TIMEOUT, -9, "timed out (maybe executed)")                                                                    \
    X(RR_CANCELLED, -10, "cancelled (maybe executed)")                                                                 \
    X(RR_EHANDLER, -11, "the handler failed")                                                                          \
    X(RR_EEXIST, -12, "already exists")                                                                                \
    X(RR_ENOENT, -13, "not found")                                                                                     \
    X(RR_ESTATE, -14, "not possible in this state")                                                                    \
    X(RR_EPROTO, -15, "protocol violation")                                                                            \
    X(RR_ETOOBIG, -16, "too big")                                                                                      \
    X(RR_EIO, -17, "input/output error")                                                                               \
    X(RR_EADDRINUSE, -18, "address already in use")                                                                    \
    X(RR_EACCES, -19, "permission denied")                                                                             \
    X(RR_ELIMIT, -20, "a configured limit is reached")                                                                 \
    X(RR_ESTOPPING, -21, "stopping")                                                                                   \
    X(RR_EUNSUPPORTED, -22, "not supported")                                                                           \
    X(RR_ESYNTAX, -23, "syntax error")                                                                                 \
    X(RR_EENCODING, -24, "invalid encoding")                                                                           \
    X(RR_EREFUSED, -25, "refused")

typedef enum rr_error {
#define RR_ERROR_ENUM(code, value, text) code = value,
    RR_ERRORS(RR_ERROR_ENUM)
#undef RR_ERROR_ENUM
} rr_error_t;

/* The English text of a code; "unknown error" for anything else. Any thread; static storage. */
const char *rr_strerror(int code);

/* The code's stable short name without its prefix, e.g. "NOROUTE", "EFULL" -> "FULL". Any thread; static storage. */
const char *rr_error_name(int code);

/* Writes a text, printf's, into `why` (cut to its size) and returns the code: how functions with a `why` fail. Any
 * thread. */
int rr_fail(int code, char *why, size_t why_size, const char *format, ...) __attribute__((format(printf, 4, 5)));

/* errno or a negated errno -> the nearest code. Any thread. */
int rr_error_from_errno(int err);

#endif
