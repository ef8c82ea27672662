/* address.h: tcp://host:port, tcp-be://host:port and ws://host:port/path for the generator and the floor servers. */
#ifndef RR_BENCH_ADDRESS_H
#define RR_BENCH_ADDRESS_H

#include <sys/socket.h>

#include "bench/wire.h"

typedef struct address {
    wire_kind_t kind; /* WIRE_TCP, WIRE_TCP_BIG or WIRE_WS_TEXT */
    struct sockaddr_storage storage;
    socklen_t size;
    unsigned port;
    char host[128]; /* host:port, as written */
    char path[128]; /* "/" when absent */
} address_t;

/* Ends the program with one line if the text is no such address or the host is unknown. */
void address_parse(const char *text, address_t *out);

#endif
