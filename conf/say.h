/* say.h: a word to people, on standard output or standard error. These may be a pipe that nobody reads: what it does not take
 * within a second is left out, and the program goes on (and ends when it is told to). Main thread: it may wait so long. */
#ifndef RR_CONF_SAY_H
#define RR_CONF_SAY_H

#include <stddef.h>
#include <stdio.h>

/* One line or several, with their line ends; `to` is stdout or stderr. What was printed to it before goes first. */
void rr_say(FILE *to, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
