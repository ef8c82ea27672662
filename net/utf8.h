/* utf8.h: is this UTF-8 (RFC 3629: no surrogates, no overlong forms, nothing above U+10FFFF)? Pure; any thread. */
#ifndef RR_NET_UTF8_H
#define RR_NET_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Eight bytes without any of these bits are ASCII. */
#define RR_UTF8_HIGH_BITS 0x8080808080808080ull

bool rr_utf8_valid(const uint8_t *data, size_t size);

#endif
