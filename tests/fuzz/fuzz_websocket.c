/* Frame heads, masks and close payloads. */
#include <stdlib.h>
#include <string.h>

#include "net/websocket.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok) {
    if (!ok) {
        abort();
    }
}

static void check_head(const uint8_t *data, size_t size) {
    rr_ws_head_t h;
    int rc = rr_ws_head_decode(data, size, &h);
    check(rc == 1 || rc == 0 || rc == RR_EPROTO);
    if (rc == 1) {
        uint8_t out[RR_WS_SERVER_HEAD_MAX];
        check(h.head_size <= size && h.head_size <= RR_WS_HEAD_MAX && h.size >> 63 == 0);
        size_t n = rr_ws_head_encode(out, h.opcode, h.size);
        check(n + 4 == h.head_size && (out[1] | 0x80) == data[1] && memcmp(out + 2, data + 2, n - 2) == 0);
    } else if (rc == 0) {
        check(size < RR_WS_HEAD_MAX);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    check_head(data, size);
    uint16_t code;
    int rc = rr_ws_close_decode(data, size, &code);
    check(rc != RR_OK || code == 1005 || (code >= 1000 && code < 5000));
    if (size > 5) { /* in two pieces as in one, twice is nothing */
        uint8_t *copy = malloc(size);
        size_t cut = data[4] % size;
        memcpy(copy, data, size);
        bool ascii = rr_ws_unmask(copy, size, data, 1), seen = true;
        for (size_t i = 0; i < size; i++) {
            seen = seen && copy[i] < 0x80;
        }
        check(ascii == seen);
        (void)rr_ws_unmask(copy, cut, data, 1);
        (void)rr_ws_unmask(copy + cut, size - cut, data, 1 + cut);
        check(memcmp(copy, data, size) == 0);
        free(copy);
    }
    char key[64], accept[RR_WS_ACCEPT_SIZE];
    size_t n = size < sizeof key - 1 ? size : sizeof key - 1;
    memcpy(key, data, n);
    key[n] = '\0';
    check(rr_ws_accept(key, accept) != RR_OK || strlen(accept) == RR_WS_ACCEPT_SIZE - 1);
    return 0;
}
