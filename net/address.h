/* address.h: scheme://host:port as people write it. Pure text work; no name is resolved here. */
#ifndef RR_NET_ADDRESS_H
#define RR_NET_ADDRESS_H

#include "runtime/error.h"

typedef enum rr_scheme { RR_SCHEME_TCP = 0, RR_SCHEME_WS, RR_SCHEME_HTTP } rr_scheme_t;

/* Of the 8-byte header, for a listener. */
typedef enum rr_byte_order { RR_BYTE_ORDER_UNSAID = 0, RR_BYTE_ORDER_LITTLE, RR_BYTE_ORDER_NETWORK } rr_byte_order_t;

typedef struct rr_address {
    rr_scheme_t scheme;
    char host[256]; /* "*" as written becomes "::" or "0.0.0.0" when bound (dual stack if possible); no brackets */
    unsigned port;  /* 0..65535; 0 = any free one */
    rr_byte_order_t byte_order; /* "?byte_order=network" or "…=little" behind the port */
} rr_address_t;

/* Parses "tcp://127.0.0.1:10241", "ws://[::1]:80", "tcp://STAR:0" (STAR is an asterisk: all interfaces), "http://…", and
 * "tcp://127.0.0.1:10242?byte_order=network". On RR_EINVAL `why` (may be NULL) says what is wrong and how it should look.
 * Any thread. */
RR_MUST_CHECK int rr_address_parse(const char *text, rr_address_t *out, char *why, unsigned long why_size);

/* Writes it back ("ws://[::1]:80"); at most size bytes, always terminated; returns out. */
char *rr_address_format(const rr_address_t *address, char *out, unsigned long size);

/* True for addresses that only this machine can reach (127.0.0.0/8, ::1, localhost). */
int rr_address_is_loopback(const rr_address_t *address);

#endif
