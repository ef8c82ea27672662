#include "conf/say.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio_ext.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define PATIENCE_MS 1000u
#define PIECE       4096u /* what a pipe that has room takes without blocking (pipe(7)) */

static uint64_t now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static bool has_room(int fd, uint64_t until_ms) {
    for (;;) {
        struct pollfd out = {.fd = fd, .events = POLLOUT};
        uint64_t now = now_ms();
        int n = poll(&out, 1, now < until_ms ? (int)(until_ms - now) : 0);
        if (n >= 0 || errno != EINTR)
            return n > 0;
    }
}

/* Whatever cannot be written has nobody who could be told. */
static void put(int fd, const char *text, size_t size, uint64_t until_ms) {
    while (size > 0 && has_room(fd, until_ms)) {
        ssize_t wrote = write(fd, text, size < PIECE ? size : PIECE);
        if (wrote < 0 && errno != EINTR)
            return;
        text += wrote < 0 ? 0 : wrote;
        size -= wrote < 0 ? 0 : (size_t)wrote;
    }
}

void rr_say(FILE *to, const char *format, ...) {
    uint64_t until = now_ms() + PATIENCE_MS;
    va_list args;
    char *text = NULL;
    va_start(args, format);
    int size = vasprintf(&text, format, args);
    va_end(args);
    if (has_room(fileno(to), until))
        fflush(to);
    else
        __fpurge(to);
    if (size > 0)
        put(fileno(to), text, (size_t)size, until);
    if (size >= 0)
        free(text);
}
