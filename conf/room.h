/* room.h: writing to an output that somebody may not read (a pipe to a pager, a stopped terminal) without being held up by it:
 * the piece that say.c and printer.c share. Any thread. */
#ifndef RR_CONF_ROOM_H
#define RR_CONF_ROOM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* The moment in patience_ms from now, for the functions below; 0 = they do not wait. */
uint64_t rr__room_until(unsigned patience_ms);

/* Waits until fd takes something, or will never do (then writing says so). False: not until then. */
bool rr__room_wait(int fd, uint64_t until_ms);

/* Writes the beginning of data once there is room. How much; 0: there was no room in time; -1: nobody can ever read it. */
ssize_t rr__room_write(int fd, const char *data, size_t size, uint64_t until_ms);

#endif
