#include "conf/say.h"

#include <stdarg.h>
#include <stdio_ext.h>
#include <stdlib.h>

#include "conf/room.h"

#define PATIENCE_MS 1000u

/* Whatever cannot be written has nobody who could be told. */
static void put(int fd, const char *text, size_t size, uint64_t until_ms) {
    for (ssize_t wrote; size > 0 && (wrote = rr__room_write(fd, text, size, until_ms)) > 0; size -= (size_t)wrote)
        text += wrote;
}

void rr_say(FILE *to, const char *format, ...) {
    uint64_t until = rr__room_until(PATIENCE_MS);
    va_list args;
    char *text = NULL;
    va_start(args, format);
    int size = vasprintf(&text, format, args);
    va_end(args);
    if (rr__room_wait(fileno(to), until))
        fflush(to);
    else
        __fpurge(to);
    if (size > 0)
        put(fileno(to), text, (size_t)size, until);
    if (size >= 0)
        free(text);
}
