#include "conf/run_key.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "net/address.h"

#define KEY_BYTES 32u

/* ---- Where ---- */

/* "world-local-7000.key": a loopback port has one owner, however it is written. False: no address. */
static bool file_name(const char *group, const char *master, char *out, size_t size) {
    rr_address_t address;
    if (!master || rr_address_parse(master, &address, NULL, 0) != RR_OK)
        return false;
    int length = snprintf(out, size, "%s-%s-%u.key", group, rr_address_is_loopback(&address) ? "local" : address.host,
                          (unsigned)address.port);
    for (char *at = out; *at; at++)
        *at = *at == '/' ? '_' : *at;
    return length > 0 && (size_t)length < size;
}

/* The folders that it may be in, best first: the environment of who looks may be another than that of `up`. */
enum { FOLDERS = 3 };
static bool folder_name(unsigned which, char *out, size_t size) {
    const char *base = which == 0 ? getenv("XDG_RUNTIME_DIR") : which == 1 ? getenv("TMPDIR") : "/tmp";
    int length;
    if (!base || !*base)
        return false;
    if (which == 0)
        length = snprintf(out, size, "%s/redrabbit", base);
    else
        length = snprintf(out, size, "%s/redrabbit-%u", base, (unsigned)geteuid());
    return length > 0 && (size_t)length < size;
}

/* In /tmp anybody may have made it. */
static bool is_ours(const char *folder) {
    struct stat st;
    return lstat(folder, &st) == 0 && S_ISDIR(st.st_mode) && st.st_uid == geteuid() && (st.st_mode & 077) == 0;
}

static bool path_in(unsigned which, const char *name, bool make, char *out, size_t size) {
    char folder[PATH_MAX];
    if (!folder_name(which, folder, sizeof folder))
        return false;
    if (make && mkdir(folder, 0700) != 0 && errno != EEXIST)
        return false;
    int length = is_ours(folder) ? snprintf(out, size, "%s/%s", folder, name) : -1;
    return length > 0 && (size_t)length < size;
}

/* ---- The file ---- */

static bool write_key(int fd) {
    static const char digits[] = "0123456789abcdef";
    uint8_t random[KEY_BYTES];
    char text[2 * KEY_BYTES];
    bool ok = getrandom(random, sizeof random, 0) == (ssize_t)sizeof random;
    for (size_t i = 0; ok && i < sizeof random; i++) {
        text[2 * i] = digits[random[i] >> 4];
        text[2 * i + 1] = digits[random[i] & 15];
    }
    ok = ok && write(fd, text, sizeof text) == (ssize_t)sizeof text;
    explicit_bzero(random, sizeof random);
    explicit_bzero(text, sizeof text);
    return ok;
}

/* It is still the file that was opened, not one that somebody made since. */
static bool is_file(const char *path, int fd) {
    struct stat there, opened;
    return lstat(path, &there) == 0 && fstat(fd, &opened) == 0 && there.st_dev == opened.st_dev && there.st_ino == opened.st_ino;
}

int rr_run_key_make(const char *group, const char *master, rr_run_key_t *out, char *why, size_t why_size) {
    char name[NAME_MAX];
    *out = (rr_run_key_t){.fd = -1};
    if (!file_name(group, master, name, sizeof name))
        return rr_fail(RR_EINVAL, why, why_size, "there is no key for %s",
                       master ? master : "a group without a master");
    bool found = false;
    for (unsigned which = 0; which < FOLDERS && !found; which++)
        found = path_in(which, name, true, out->path, sizeof out->path);
    if (found)
        unlink(out->path); /* left over: the caller has looked for a living one */
    out->fd = found ? open(out->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600) : -1;
    if (out->fd >= 0 && flock(out->fd, LOCK_EX | LOCK_NB) == 0 && write_key(out->fd))
        return RR_OK;
    snprintf(why, why_size, "cannot write a key into %s: %s; name one in the graph: cluster_key: FILE",
             found ? out->path : "a folder that only this user can read (XDG_RUNTIME_DIR, TMPDIR)", strerror(errno));
    rr_run_key_drop(out);
    return RR_EIO;
}

/* Whoever has made it runs still: nobody else can lock it. */
static bool is_held(const char *path) {
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    bool held = fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_uid == geteuid() &&
                flock(fd, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    if (fd >= 0)
        close(fd);
    return held;
}

bool rr_run_key_find(const char *group, const char *master, rr_run_key_t *out) {
    char name[NAME_MAX];
    *out = (rr_run_key_t){.fd = -1};
    if (!file_name(group, master, name, sizeof name))
        return false;
    for (unsigned which = 0; which < FOLDERS; which++) {
        if (path_in(which, name, false, out->path, sizeof out->path) && is_held(out->path))
            return true;
    }
    out->path[0] = 0;
    return false;
}

void rr_run_key_drop(rr_run_key_t *key) {
    if (key->fd < 0)
        return;
    if (is_file(key->path, key->fd))
        unlink(key->path);
    close(key->fd);
    key->fd = -1;
    key->path[0] = 0;
}
