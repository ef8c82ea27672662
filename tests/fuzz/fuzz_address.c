/* Any text as an address; what parses must come back the same. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "net/address.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char *text = malloc(size + 1), why[256], back[320];
    rr_address_t a, again;
    memcpy(text, data, size);
    text[size] = '\0';
    if (rr_address_parse(text, &a, why, sizeof why) == RR_OK) {
        if (rr_address_parse(rr_address_format(&a, back, sizeof back), &again, NULL, 0) != RR_OK ||
            strcmp(a.host, again.host) != 0 || a.port != again.port || a.scheme != again.scheme || a.byte_order != again.byte_order || a.port > 65535) {
            abort();
        }
        (void)rr_address_is_loopback(&a);
    } else if (memchr(why, '\0', sizeof why) == NULL) {
        abort();
    }
    free(text);
    return 0;
}
