/* http_impl.h: what an answer needs besides http.h. Private to net/. */
#ifndef RR_NET_HTTP_IMPL_H
#define RR_NET_HTTP_IMPL_H

#include "net/connection.h"

/* The request's loop, also when its connection is gone; NULL only in tests without a loop. Loop thread only. */
rr_loop_t *rr__http_reply_loop(const rr_http_reply_t *reply);

#endif
