/* utf8.h: is this UTF-8 (RFC 3629: no surrogates, no overlong forms, nothing above U+10FFFF)? Pure; any thread. */
#ifndef RR_NET_UTF8_H
#define RR_NET_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

bool rr_utf8_valid(const uint8_t *data, size_t size);

#endif
