/* What a service manager is told. */
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "conf/notify.h"
#include "tests/unit/check_main.h"

/* A manager's socket under that name ('@' first: abstract). */
static int manager(const char *name) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t length = strlen(name);
    int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    memcpy(address.sun_path, name, length);
    if (name[0] == '@')
        address.sun_path[0] = 0;
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length)), 0);
    ck_assert_int_eq(setenv("NOTIFY_SOCKET", name, 1), 0);
    return fd;
}

static void expect(int fd, const char *text) {
    char got[200];
    ssize_t size = recv(fd, got, sizeof got - 1, MSG_DONTWAIT);
    ck_assert_int_eq(size, (ssize_t)strlen(text));
    ck_assert_int_eq(memcmp(got, text, (size_t)size), 0);
}

START_TEST(both_kinds_of_names) {
    char name[64];
    snprintf(name, sizeof name, "@rr-notify-%ld", (long)getpid());
    int fd = manager(name);
    ck_assert_int_eq(rr_notify("READY=1"), RR_OK);
    expect(fd, "READY=1");
    close(fd);
    ck_assert_int_eq(rr_notify("READY=1"), RR_EIO); /* nobody there */
    snprintf(name, sizeof name, "/tmp/rr-notify-%ld", (long)getpid());
    fd = manager(name);
    ck_assert_int_eq(rr_notify("STOPPING=1\nWATCHDOG=1"), RR_OK);
    expect(fd, "STOPPING=1\nWATCHDOG=1");
    close(fd);
    ck_assert_int_eq(unlink(name), 0);
}
END_TEST

START_TEST(nobody_wants_to_know) {
    char longest[300];
    unsetenv("NOTIFY_SOCKET");
    ck_assert_int_eq(rr_notify("READY=1"), RR_OK);
    setenv("NOTIFY_SOCKET", "relative", 1);
    ck_assert_int_eq(rr_notify("READY=1"), RR_EINVAL);
    memset(longest, '/', sizeof longest - 1);
    longest[sizeof longest - 1] = 0;
    setenv("NOTIFY_SOCKET", longest, 1);
    ck_assert_int_eq(rr_notify("READY=1"), RR_EINVAL);
}
END_TEST

START_TEST(watchdog) {
    char pid[32];
    unsetenv("WATCHDOG_USEC");
    unsetenv("WATCHDOG_PID");
    ck_assert_uint_eq(rr_notify_watchdog_ms(), 0);
    setenv("WATCHDOG_USEC", "30000000", 1);
    ck_assert_uint_eq(rr_notify_watchdog_ms(), 15000);
    setenv("WATCHDOG_PID", "1", 1);
    ck_assert_uint_eq(rr_notify_watchdog_ms(), 0);
    snprintf(pid, sizeof pid, "%ld", (long)getpid());
    setenv("WATCHDOG_PID", pid, 1);
    ck_assert_uint_eq(rr_notify_watchdog_ms(), 15000);
    setenv("WATCHDOG_USEC", "nonsense", 1);
    ck_assert_uint_eq(rr_notify_watchdog_ms(), 0);
}
END_TEST

CHECK_MAIN("notify", both_kinds_of_names, nobody_wants_to_know, watchdog)
