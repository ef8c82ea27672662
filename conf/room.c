#include "conf/room.h"
#include "runtime/clock.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>

#define PIECE 4096u /* what a pipe that has room takes without blocking (pipe(7)) */

uint64_t rr__room_until(unsigned patience_ms) {
    return patience_ms ? rr_machine_ms() + patience_ms : 0;
}

bool rr__room_wait(int fd, uint64_t until_ms) {
    for (;;) {
        struct pollfd out = {.fd = fd, .events = POLLOUT};
        uint64_t now = until_ms ? rr_machine_ms() : 0;
        int n = poll(&out, 1, now < until_ms ? (int)(until_ms - now) : 0);
        if (n >= 0 || errno != EINTR)
            return n > 0;
    }
}

ssize_t rr__room_write(int fd, const char *data, size_t size, uint64_t until_ms) {
    while (rr__room_wait(fd, until_ms)) {
        ssize_t wrote = write(fd, data, size < PIECE ? size : PIECE);
        if (wrote >= 0)
            return wrote;
        if (errno == EAGAIN)
            return 0;
        if (errno != EINTR)
            return -1;
    }
    return 0;
}
