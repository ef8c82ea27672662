#include "net/address.h"

#include <stdio.h>
#include <string.h>

static const struct {
    const char *prefix;
    rr_scheme_t scheme;
} schemes[] = {{"tcp://", RR_SCHEME_TCP}, {"ws://", RR_SCHEME_WS}, {"http://", RR_SCHEME_HTTP}};
#define SCHEME_COUNT (sizeof schemes / sizeof schemes[0])

static int fail(char *why, unsigned long why_size, const char *text, const char *what) {
    if (why && why_size) {
        snprintf(why, why_size, "'%.200s': %s; it should look like tcp://127.0.0.1:10241, tcp://*:10241 or ws://[::1]:8080",
                 text, what);
    }
    return RR_EINVAL;
}

/* A host is what a resolver may be asked for: nothing that could be a path, a user or a second port. */
static int host_legal(const char *host, size_t size, int bracketed) {
    if (size == 0) {
        return 0;
    }
    if (size == 1 && host[0] == '*') {
        return !bracketed;
    }
    for (size_t i = 0; i < size; i++) {
        char c = host[i];
        int alnum = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        int other = bracketed ? c == ':' || c == '.' || c == '%' : c == '.' || c == '-' || c == '_';
        if (!alnum && !other) {
            return 0;
        }
    }
    return !bracketed || memchr(host, ':', size) != NULL;
}

static int port_parse(const char *text, size_t size, unsigned *out) {
    unsigned port = 0;
    size_t digits = 0;
    for (; digits < size; digits++) {
        if (text[digits] < '0' || text[digits] > '9' || digits == 5) {
            return 0;
        }
        port = port * 10 + (unsigned)(text[digits] - '0');
    }
    *out = port;
    return digits > 0 && port <= 65535;
}

static const char *last_colon(const char *text, size_t size) {
    while (size > 0 && text[size - 1] != ':') {
        size--;
    }
    return size > 0 ? text + size - 1 : NULL;
}

static const char *const byte_orders[] = {[RR_BYTE_ORDER_UNSAID] = "",
                                          [RR_BYTE_ORDER_LITTLE] = "?byte_order=little",
                                          [RR_BYTE_ORDER_NETWORK] = "?byte_order=network"};
#define BYTE_ORDER_COUNT (sizeof byte_orders / sizeof byte_orders[0])

static int byte_order_parse(const char *text, rr_byte_order_t *out) {
    for (size_t i = 0; i < BYTE_ORDER_COUNT; i++) {
        if (strcmp(text, byte_orders[i]) == 0) {
            *out = (rr_byte_order_t)i;
            return 1;
        }
    }
    return 0;
}

int rr_address_parse(const char *text, rr_address_t *out, char *why, unsigned long why_size) {
    const char *rest = NULL;
    rr_address_t a = {.scheme = RR_SCHEME_TCP};
    for (size_t i = 0; i < SCHEME_COUNT && !rest; i++) {
        size_t size = strlen(schemes[i].prefix);
        if (strncmp(text, schemes[i].prefix, size) == 0) {
            rest = text + size;
            a.scheme = schemes[i].scheme;
        }
    }
    if (!rest) {
        return fail(why, why_size, text, "an address begins with tcp://, ws:// or http://");
    }
    int bracketed = rest[0] == '[';
    const char *host = rest + bracketed;
    const char *end = bracketed ? strchr(host, ']') : last_colon(host, strcspn(host, "?"));
    if (!end) {
        return fail(why, why_size, text, bracketed ? "the ']' is missing" : "the port is missing");
    }
    size_t size = (size_t)(end - host);
    const char *port = end + bracketed;
    if (size >= sizeof a.host || !host_legal(host, size, bracketed)) {
        return fail(why, why_size, text,
                    !bracketed && memchr(host, ':', size) ? "an IPv6 host stands in brackets" : "the host is not legal");
    }
    size_t digits = *port == ':' ? strcspn(port + 1, "?") : 0;
    if (*port != ':' || !port_parse(port + 1, digits, &a.port)) {
        return fail(why, why_size, text, *port != ':' ? "the port is missing" : "the port is not a number from 0 to 65535");
    }
    if (!byte_order_parse(port + 1 + digits, &a.byte_order)) {
        return fail(why, why_size, text, "behind the port may only stand ?byte_order=network or ?byte_order=little");
    }
    memcpy(a.host, host, size);
    *out = a;
    return RR_OK;
}

char *rr_address_format(const rr_address_t *address, char *out, unsigned long size) {
    const char *prefix = "tcp://";
    for (size_t i = 0; i < SCHEME_COUNT; i++) {
        if (schemes[i].scheme == address->scheme) {
            prefix = schemes[i].prefix;
        }
    }
    int brackets = strchr(address->host, ':') != NULL;
    if (size) {
        snprintf(out, size, "%s%s%s%s:%u%s", prefix, brackets ? "[" : "", address->host, brackets ? "]" : "", address->port,
                 byte_orders[address->byte_order]);
    }
    return out;
}

int rr_address_is_loopback(const rr_address_t *address) {
    const char *host = address->host;
    unsigned a, b, c, d;
    char tail;
    if (sscanf(host, "%3u.%3u.%3u.%3u%c", &a, &b, &c, &d, &tail) == 4) {
        return a == 127 && b < 256 && c < 256 && d < 256;
    }
    return strcmp(host, "localhost") == 0 || strcmp(host, "::1") == 0;
}
