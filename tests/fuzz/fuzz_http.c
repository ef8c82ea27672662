/* Requests, at once and in pieces (the first byte says how large): both must come to the same end. */
#include <stdlib.h>
#include <string.h>

#include "net/http_parse.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok) {
    if (!ok) {
        abort();
    }
}

static void look(rr__http_t *http) {
    rr_http_request_t *r = rr__http_request(http);
    char value[64];
    check(r->path[0] == '/' && !strstr(r->path, "/../") && !strstr(r->path, "//"));
    size_t n = strlen(r->path);
    check(n < 3 || strcmp(r->path + n - 3, "/..") != 0);
    check(r->body_size <= 1000 && strlen(r->query) < RR__HTTP_URL_LIMIT);
    (void)rr_http_query(r, "a", value, sizeof value);
    const char *header = rr_http_header(r, "host");
    check(!header || strlen(header) < RR__HTTP_HEAD_LIMIT);
    (void)rr__http_keep_alive(http);
}

/* A digest of what happened. */
static unsigned run(const uint8_t *data, size_t size, size_t step) {
    rr__http_t *http = rr__http_new(1000);
    unsigned digest = 0;
    for (size_t at = 0; at < size;) {
        size_t n = step < size - at ? step : size - at, used;
        rr__http_event_t event = rr__http_feed(http, data + at, n, &used);
        check(used <= n);
        at += used;
        if (event == RR__HTTP_MORE || event == RR__HTTP_CONTINUE) {
            check(used == n);
            continue;
        }
        digest = digest * 31 + (unsigned)event;
        if (event != RR__HTTP_REQUEST) { /* which of two faults is met first may depend on the pieces */
            break;
        }
        digest = digest * 31 + (unsigned)rr__http_status(http);
        look(http);
        digest = digest * 31 + (unsigned)rr__http_request(http)->body_size;
        if (!rr__http_keep_alive(http)) {
            break;
        }
        rr__http_next(http);
    }
    rr__http_free(http);
    return digest;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 2) {
        return 0;
    }
    check(run(data + 1, size - 1, size) == run(data + 1, size - 1, 1 + data[0] % 32));
    return 0;
}
