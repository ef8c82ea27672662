/* Headers, text lines and UTF-8: what is decoded must encode to the same bytes. */
#include <stdlib.h>

#include "net/frame.h"
#include "net/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok) {
    if (!ok) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size >= RR_FRAME_HEADER) {
        for (int big = 0; big < 2; big++) {
            uint8_t out[RR_FRAME_HEADER];
            rr_frame_header_t h = rr_frame_decode(data, big);
            rr_frame_encode(out, h.size, h.cmd, big);
            check(memcmp(out, data, 6) == 0);
        }
    }
    uint16_t cmd, again;
    size_t line = rr_frame_text_decode(data, size, &cmd);
    check(line <= size && (line > 0 || cmd == 0));
    if (line) {
        uint8_t out[RR_FRAME_TEXT_MAX];
        size_t n = rr_frame_text_encode(out, cmd);
        check(rr_frame_text_decode(out, n, &again) == n && again == cmd && n <= line);
    }
    bool whole = rr_utf8_valid(data, size);
    for (size_t cut = 0; whole && cut < size && cut < 64; cut++) { /* cut at a character's start, both parts are valid */
        if ((data[cut] & 0xc0) != 0x80) {
            check(rr_utf8_valid(data, cut) && rr_utf8_valid(data + cut, size - cut));
        }
    }
    return 0;
}
