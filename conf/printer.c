#include "conf/printer.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf/room.h"

#define ROOM (512u << 10)

struct rr_printer {
    int fd;
    uint64_t lost; /* lines that had no room */
    size_t start, end;
    char data[ROOM];
};

rr_printer_t *rr_printer_new(int fd) {
    rr_printer_t *printer = malloc(sizeof *printer);
    if (!printer)
        return NULL;
    printer->fd = fd;
    printer->lost = 0;
    printer->start = printer->end = 0;
    return printer;
}

/* False: no room for all of it. */
static bool add(rr_printer_t *printer, const char *format, va_list args) {
    size_t room = ROOM - printer->end;
    int size = vsnprintf(printer->data + printer->end, room, format, args);
    if (size < 0 || (size_t)size >= room)
        return false;
    printer->end += (size_t)size;
    return true;
}

static bool add_lost(rr_printer_t *printer, const char *format, ...) {
    va_list args;
    va_start(args, format);
    bool added = add(printer, format, args);
    va_end(args);
    return added;
}

void rr_printer_say(rr_printer_t *printer, const char *format, ...) {
    va_list args;
    if (printer->start) {
        memmove(printer->data, printer->data + printer->start, printer->end - printer->start);
        printer->end -= printer->start;
        printer->start = 0;
    }
    if (printer->lost && !rr_printer_is_full(printer) &&
        add_lost(printer, "redrabbit: %llu lines are missing here: nobody read them in time\n", (unsigned long long)printer->lost))
        printer->lost = 0;
    va_start(args, format);
    printer->lost += printer->lost || !add(printer, format, args); /* once one is missing: none until that was said */
    va_end(args);
}

bool rr_printer_is_full(const rr_printer_t *printer) { return printer->end - printer->start > ROOM / 2; }

/* One piece. False: there was no room for it in time. */
static bool put(rr_printer_t *printer, unsigned patience_ms) {
    ssize_t wrote = rr__room_write(printer->fd, printer->data + printer->start, printer->end - printer->start, rr__room_until(patience_ms));
    if (wrote < 0)
        printer->start = printer->end; /* a closed pipe: as if it had been read */
    else
        printer->start += (size_t)wrote;
    return wrote != 0;
}

bool rr_printer_write(rr_printer_t *printer) {
    while (printer->start < printer->end && put(printer, 0)) {
    }
    return printer->start < printer->end;
}

void rr_printer_free(rr_printer_t *printer, unsigned patience_ms) {
    while (printer && printer->start < printer->end && put(printer, patience_ms)) {
    }
    free(printer);
}
