#include "actors/state_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "runtime/random.h"

#define EPOCH_2020 1577836800ll /* terms are seconds since then at least: they last until 2156 */
#define IDS 65534u
#define FORMAT 1u
#define ANOTHER "or name another file (the broker's option `state`, -broker_state)"

typedef struct content {
    unsigned long term, next_id;
    unsigned clean;
} content_t;

/* Makes the folders above a file. */
static int make_folders(const char *path) {
    char part[1024];
    size_t size = strlen(path);
    memcpy(part, path, size + 1);
    for (char *at = strchr(part + 1, '/'); at; at = strchr(at + 1, '/')) {
        *at = '\0';
        if (mkdir(part, 0700) && errno != EEXIST)
            return errno;
        *at = '/';
    }
    return 0;
}

static int lock(rr_state_file_t *file, char *why, size_t why_size) {
    char path[sizeof file->path + 8];
    int error = make_folders(file->path);
    snprintf(path, sizeof path, "%s.lock", file->path);
    file->lock_fd = error ? -1 : open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (file->lock_fd < 0) {
        error = error ? error : errno;
        return rr_fail(rr_error_from_errno(error), why, why_size,
                       "the master's state cannot be kept in %s: %s; mend that, " ANOTHER, file->path, strerror(error));
    }
    if (flock(file->lock_fd, LOCK_EX | LOCK_NB) == 0)
        return RR_OK;
    return rr_fail(errno == EWOULDBLOCK ? RR_EEXIST : RR_EIO, why, why_size,
                   "another master of this group has %s: a group has one master; end that process first, or join it",
                   path);
}

/* *there: false if there is no such file yet. */
static int load(const char *path, content_t *out, bool *there, char *why, size_t why_size) {
    struct stat info;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe that nobody writes would hold us for ever */
    *there = fd >= 0;
    if (fd < 0 && errno == ENOENT)
        return RR_OK;
    if (fd >= 0 && (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode))) {
        close(fd);
        return rr_fail(RR_EINVAL, why, why_size, "the master's state in %s: that is not a file; mend that, " ANOTHER,
                       path);
    }
    FILE *in = fd < 0 ? NULL : fdopen(fd, "r");
    if (!in && fd >= 0)
        close(fd);
    if (!in)
        return rr_fail(rr_error_from_errno(errno), why, why_size, "the master's state in %s: %s; mend that, " ANOTHER,
                       path, strerror(errno));
    unsigned format = 0;
    int fields = fscanf(in, "redrabbit-group-state %u\nterm %lu\nnext-id %lu\nclean %u", &format, &out->term, &out->next_id, &out->clean);
    fclose(in);
    if (fields >= 1 && format != FORMAT)
        return rr_fail(RR_EUNSUPPORTED, why, why_size,
                       "%s was written by another version of RedRabbit (format %u, this one knows %u): start that "
                       "one, " ANOTHER,
                       path, format, FORMAT);
    if (fields != 4 || out->term >= UINT32_MAX || out->next_id < 1 || out->next_id > IDS)
        return rr_fail(RR_EIO, why, why_size, "%s is damaged; remove it: grants then begin after one lease time", path);
    return RR_OK;
}

static int sync_folder(const char *path) {
    char folder[1024];
    snprintf(folder, sizeof folder, "%s", path);
    char *slash = strrchr(folder, '/');
    if (slash)
        slash[slash == folder] = '\0';
    int fd = open(slash ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return errno;
    int error = fsync(fd) ? errno : 0;
    close(fd);
    return error;
}

static int write_beside(const char *path, const content_t *content) {
    char text[160];
    int size = snprintf(text, sizeof text, "redrabbit-group-state %u\nterm %lu\nnext-id %lu\nclean %u\n", FORMAT, content->term,
                        content->next_id, content->clean);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return errno;
    ssize_t n = write(fd, text, (size_t)size);
    int error = n < 0 ? errno : n != size ? ENOSPC : fsync(fd) ? errno : 0;
    if (close(fd) && !error)
        error = errno;
    return error;
}

static int save(const char *path, const content_t *content) {
    char beside[1040];
    snprintf(beside, sizeof beside, "%s.new", path);
    int error = write_beside(beside, content);
    if (!error && rename(beside, path))
        error = errno;
    return error ? error : sync_folder(path);
}

static uint32_t next_term(unsigned long last) {
    long long now = (long long)time(NULL) - EPOCH_2020;
    if (now > (long long)last && now < (long long)UINT32_MAX)
        return (uint32_t)now;
    return (uint32_t)last + 1;
}

/* Where a new file's numbers begin. If an earlier one was lost, its nodes' numbers may still be in use, or in others' hands: by
 * addresses that begin with them. */
static int first_number(content_t *content, char *why, size_t why_size) {
    uint32_t draw;
    if (rr_random_os(&draw, sizeof draw) != RR_OK)
        return rr_fail(RR_EIO, why, why_size, "no randomness");
    content->next_id = 1 + draw % (IDS - RR_STATE_IDS);
    return RR_OK;
}

int rr_state_file_open(const char *path, rr_state_file_t *out, char *why, size_t why_size) {
    *out = (rr_state_file_t){.lock_fd = -1};
    if (strlen(path) >= sizeof out->path)
        return rr_fail(RR_ETOOBIG, why, why_size, "the path of the master's state file is too long");
    strcpy(out->path, path);
    content_t content = {0};
    bool there;
    int rc = lock(out, why, why_size);
    if (rc == RR_OK)
        rc = load(path, &content, &there, why, why_size);
    if (rc == RR_OK && !there)
        rc = first_number(&content, why, why_size);
    if (rc == RR_OK) {
        out->term = next_term(content.term);
        out->first_id = (unsigned)content.next_id;
        out->grace = !there || !content.clean;
        content_t mine = {out->term, (content.next_id - 1 + RR_STATE_IDS) % IDS + 1, 0};
        int error = save(path, &mine);
        if (error)
            rc = rr_fail(rr_error_from_errno(error), why, why_size,
                         "the master's term cannot be written to %s: %s; mend that, " ANOTHER, path, strerror(error));
    }
    if (rc != RR_OK && out->lock_fd >= 0) {
        close(out->lock_fd);
        out->lock_fd = -1;
    }
    return rc;
}

void rr_state_file_close(rr_state_file_t *file, bool clean) {
    if (file->lock_fd < 0)
        return;
    content_t mine = {file->term, (file->first_id - 1 + RR_STATE_IDS) % IDS + 1, 1};
    if (clean) /* if that fails, the next start only waits for longer */
        (void)!save(file->path, &mine);
    close(file->lock_fd);
    file->lock_fd = -1;
}
