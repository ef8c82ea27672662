/* printer.h: what goes to a standard output that somebody may not read (a pipe to a pager, a stopped terminal): it waits here,
 * so that its writer goes on and hears of signals. One thread; nothing blocks but rr_printer_free, for as long as it is told. */
#ifndef RR_CONF_PRINTER_H
#define RR_CONF_PRINTER_H

#include <stdbool.h>

typedef struct rr_printer rr_printer_t;

/* Prints to fd, which stays the caller's. NULL: no memory. */
rr_printer_t *rr_printer_new(int fd);

/* Whole lines, with their ends, to be written by rr_printer_write. What has no room is left out and counted; a line says so once
 * there is room again. */
void rr_printer_say(rr_printer_t *printer, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Half of the room is taken: who prints for others should take no more from them. */
bool rr_printer_is_full(const rr_printer_t *printer);

/* Writes what fd takes now. True: something is left; wait for room (POLLOUT), then call again. */
bool rr_printer_write(rr_printer_t *printer);

/* Writes what is left, for as long as fd takes something at least every patience_ms, and frees the printer. NULL is fine. */
void rr_printer_free(rr_printer_t *printer, unsigned patience_ms);

#endif
