#include "net/frame.h"

size_t rr_frame_text_decode(const uint8_t *text, size_t size, uint16_t *cmd) {
    *cmd = 0;
    if (size < 6 || memcmp(text, "cmd:", 4) != 0) {
        return 0;
    }
    uint64_t value = 0;
    size_t i = 4, limit = size < 15 ? size : 15;
    while (i < limit && text[i] >= '0' && text[i] <= '9') {
        value = value * 10 + (uint64_t)(text[i++] - '0');
    }
    if (i == 4 || i == size || text[i] != '\n' || value > UINT16_MAX) {
        return 0;
    }
    *cmd = (uint16_t)value;
    return i + 1;
}

size_t rr_frame_text_encode(uint8_t out[RR_FRAME_TEXT_MAX], uint16_t cmd) {
    size_t digits = cmd < 10 ? 1 : cmd < 100 ? 2 : cmd < 1000 ? 3 : cmd < 10000 ? 4 : 5;
    unsigned rest = cmd;
    memcpy(out, "cmd:", 4);
    out[4 + digits] = '\n';
    for (size_t i = 4 + digits; i-- > 4; rest /= 10) {
        out[i] = (uint8_t)('0' + rest % 10);
    }
    return 5 + digits;
}
