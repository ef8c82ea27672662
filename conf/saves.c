#include "conf/saves.h"
#include "runtime/clock.h"
#include "runtime/hash.h"

#include <errno.h>
#include <fts.h>
#include <linux/magic.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#define SETTLE_MS 100u
#define POLL_MS   1000u
#define LONGEST   20u /* settle times: saves that never stop are told of all the same */
#define OPEN_MAX  16u /* files being written at once; others are not waited for */

/* IN_CREATE: folders, and files that are linked into place. */
#define EVENTS                                                                                                         \
    (IN_MODIFY | IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_CREATE | IN_DELETE | IN_DELETE_SELF | IN_MOVE_SELF |  \
     IN_ONLYDIR)

struct rr_saves {
    rr_saves_options_t options;
    char **folders; /* NULL-terminated */
    int stop_fd;    /* an eventfd */
    pthread_t thread;
    /* The thread's own. */
    int notify_fd;        /* -1 = none */
    bool polling;         /* for some folder nothing tells of changes */
    bool rearm;           /* the folders are others now */
    bool told_poll, told_many;
    uint64_t print;       /* what polling saw last */
    uint64_t first_ms, last_ms; /* of the save that settles; 0 = none */
    uint64_t open[OPEN_MAX];    /* files that were written and not yet closed: hashes of folder and name; 0 = free */
};

/* ---- Folders and files ---- */

static bool is_python(const char *name) {
    size_t size = strlen(name);
    return name[0] != '.' && size > 3 && strcmp(name + size - 3, ".py") == 0;
}

/* What is no part of a project: hidden folders, caches, a virtual environment. path may be NULL. */
static bool is_foreign(const char *name, const char *path) {
    char file[4200];
    if (name[0] == '.' || strcmp(name, "__pycache__") == 0 || strcmp(name, "node_modules") == 0)
        return true;
    return path && snprintf(file, sizeof file, "%s/pyvenv.cfg", path) < (int)sizeof file && access(file, F_OK) == 0;
}

static bool tells_nothing(const char *folder) {
    static const long kinds[] = {NFS_SUPER_MAGIC, SMB_SUPER_MAGIC, CIFS_SUPER_MAGIC, SMB2_SUPER_MAGIC, FUSE_SUPER_MAGIC,
                                 V9FS_MAGIC, AFS_SUPER_MAGIC, CODA_SUPER_MAGIC, CEPH_SUPER_MAGIC, 0x786f4256 /* vboxsf */};
    struct statfs info;
    if (statfs(folder, &info) != 0)
        return false;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if ((uint32_t)info.f_type == (uint32_t)kinds[i])
            return true;
    }
    return false;
}

static void poll_for(rr_saves_t *saves, const char *folder, const char *why) {
    char line[512];
    saves->polling = true;
    if (saves->told_poll)
        return;
    saves->told_poll = true;
    snprintf(line, sizeof line, "%.300s %s: saved scripts are looked for every %u ms", folder, why, saves->options.poll_ms);
    saves->options.note(saves->options.context, line);
}

/* Has inotify tell of this folder, if it can. Other errors are those of a folder that has just gone, or may not be read: there is
 * nothing to hear of in it. */
static void watch(rr_saves_t *saves, const char *folder) {
    if (saves->options.polls || tells_nothing(folder))
        poll_for(saves, folder, "is on a file system that does not tell of changes");
    else if (saves->notify_fd < 0 || (inotify_add_watch(saves->notify_fd, folder, EVENTS) < 0 && errno == ENOSPC))
        poll_for(saves, folder, "cannot be watched (see fs.inotify.max_user_watches and max_user_instances)");
}

static void too_many(rr_saves_t *saves, const char *folder) {
    char line[512];
    if (saves->told_many)
        return;
    saves->told_many = true;
    snprintf(line, sizeof line, "more than %d folders: what is saved in %.300s, and others, is not heard of", RR_SAVES_FOLDERS_MAX, folder);
    saves->options.note(saves->options.context, line);
}

static uint64_t mix_file(uint64_t hash, const FTSENT *entry) {
    const struct stat *info = entry->fts_statp;
    const int64_t facts[] = {(int64_t)info->st_size, (int64_t)info->st_ino, (int64_t)info->st_mtim.tv_sec,
                             (int64_t)info->st_mtim.tv_nsec};
    return rr_hash_add(rr_hash_add(hash, entry->fts_path, entry->fts_pathlen), facts, sizeof facts);
}

/* Goes through all folders: watches them, if it shall, and returns a fingerprint of their Python files. A folder is watched
 * before its names are read, so nothing slips in between. */
static uint64_t walk(rr_saves_t *saves, bool watches) {
    uint64_t hash = RR_HASH_START;
    size_t count = 0;
    FTS *tree = fts_open(saves->folders, FTS_LOGICAL | FTS_NOCHDIR, NULL);
    for (FTSENT *entry; tree && (entry = fts_read(tree));) {
        if (entry->fts_info == FTS_D && entry->fts_level > 0 && is_foreign(entry->fts_name, entry->fts_path)) {
            fts_set(tree, entry, FTS_SKIP);
        } else if (entry->fts_info == FTS_D && ++count > RR_SAVES_FOLDERS_MAX) {
            too_many(saves, entry->fts_path);
            fts_set(tree, entry, FTS_SKIP);
        } else if (entry->fts_info == FTS_D && watches) {
            watch(saves, entry->fts_path);
        } else if (entry->fts_info == FTS_F && is_python(entry->fts_name)) {
            hash = mix_file(hash, entry);
        } else if (entry->fts_info == FTS_NS && entry->fts_level == 0 && watches) {
            poll_for(saves, entry->fts_path, "is not there");
        }
    }
    if (tree)
        fts_close(tree);
    return hash;
}

static void arm(rr_saves_t *saves) {
    if (saves->notify_fd >= 0)
        close(saves->notify_fd);
    saves->rearm = saves->polling = false;
    memset(saves->open, 0, sizeof saves->open); /* by the numbers of the old watches */
    saves->notify_fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    saves->print = walk(saves, true);
}

/* ---- What happens ---- */

static void note_save(rr_saves_t *saves) {
    saves->last_ms = rr_machine_ms();
    if (!saves->first_ms)
        saves->first_ms = saves->last_ms;
}

/* A written file is waited for until it is closed (or gone, or another's). */
static void note_open(rr_saves_t *saves, const struct inotify_event *event) {
    uint64_t file = rr_hash_add((uint64_t)event->wd, event->name, strlen(event->name)), *room = NULL;
    for (size_t i = 0; i < OPEN_MAX; i++) {
        if (saves->open[i] == file)
            saves->open[i] = 0;
        if (!saves->open[i])
            room = &saves->open[i];
    }
    if (room && event->mask & IN_MODIFY)
        *room = file;
}

static bool any_open(const rr_saves_t *saves) {
    for (size_t i = 0; i < OPEN_MAX; i++) {
        if (saves->open[i])
            return true;
    }
    return false;
}

static void take_event(rr_saves_t *saves, const struct inotify_event *event) {
    if (event->mask & (IN_DELETE_SELF | IN_MOVE_SELF | IN_Q_OVERFLOW)) {
        saves->rearm = true;
        note_save(saves);
    } else if (event->len && event->mask & IN_ISDIR && !is_foreign(event->name, NULL)) {
        saves->rearm = true;
        note_save(saves);
    } else if (event->len && !(event->mask & IN_ISDIR) && is_python(event->name)) {
        note_open(saves, event);
        note_save(saves);
    }
}

static void take_events(rr_saves_t *saves) {
    _Alignas(struct inotify_event) char buffer[8192];
    ssize_t got;
    while ((got = read(saves->notify_fd, buffer, sizeof buffer)) > 0) {
        for (ssize_t at = 0; at < got;) {
            const struct inotify_event *event = (const struct inotify_event *)(buffer + at);
            take_event(saves, event);
            at += (ssize_t)(sizeof *event + event->len);
        }
    }
}

static void look_round(rr_saves_t *saves) {
    uint64_t print = walk(saves, false);
    if (print == saves->print)
        return;
    saves->print = print;
    saves->rearm = true; /* a folder may be there again */
    note_save(saves);
}

/* How long until the save that is under way counts as over, 0 = it does; -1 = there is none. */
static int64_t left_ms(const rr_saves_t *saves) {
    uint64_t now = rr_machine_ms(), settle = saves->options.settle_ms;
    if (!saves->first_ms)
        return -1;
    uint64_t end = any_open(saves) ? saves->first_ms + LONGEST * settle : saves->last_ms + settle;
    if (end > saves->first_ms + LONGEST * settle)
        end = saves->first_ms + LONGEST * settle;
    return end > now ? (int64_t)(end - now) : 0;
}

static int patience_ms(const rr_saves_t *saves) {
    int64_t left = left_ms(saves);
    return left < 0 && saves->polling ? (int)saves->options.poll_ms : (int)left;
}

static void *run(void *arg) {
    rr_saves_t *saves = arg;
    pthread_setname_np(pthread_self(), "saves");
    for (;;) {
        struct pollfd fds[] = {{.fd = saves->stop_fd, .events = POLLIN}, {.fd = saves->notify_fd, .events = POLLIN}};
        int n = poll(fds, 2, patience_ms(saves));
        if (fds[0].revents || (n < 0 && errno != EINTR))
            return NULL;
        if (n > 0 && fds[1].revents)
            take_events(saves);
        if (n == 0 && saves->polling)
            look_round(saves);
        if (saves->rearm)
            arm(saves);
        if (left_ms(saves) == 0) {
            saves->first_ms = 0;
            memset(saves->open, 0, sizeof saves->open); /* what is still open was waited for long enough */
            saves->options.saved(saves->options.context);
        }
    }
}

/* ---- Start and end ---- */

static void free_all(rr_saves_t *saves) {
    for (size_t i = 0; saves->folders && saves->folders[i]; i++)
        free(saves->folders[i]);
    free(saves->folders);
    if (saves->notify_fd >= 0)
        close(saves->notify_fd);
    if (saves->stop_fd >= 0)
        close(saves->stop_fd);
    free(saves);
}

static bool copy_folders(rr_saves_t *saves) {
    saves->folders = calloc(saves->options.folder_count + 1, sizeof *saves->folders);
    for (size_t i = 0; saves->folders && i < saves->options.folder_count; i++) {
        if (!(saves->folders[i] = strdup(saves->options.folders[i])))
            return false;
    }
    return saves->folders;
}

int rr_saves_start(const rr_saves_options_t *options, rr_saves_t **out) {
    rr_saves_t *saves = calloc(1, sizeof *saves);
    if (!saves)
        return RR_ENOMEM;
    saves->options = *options;
    saves->options.settle_ms = options->settle_ms ? options->settle_ms : SETTLE_MS;
    saves->options.poll_ms = options->poll_ms ? options->poll_ms : POLL_MS;
    saves->notify_fd = -1;
    saves->stop_fd = eventfd(0, EFD_CLOEXEC);
    int rc = saves->stop_fd < 0 ? RR_EIO : copy_folders(saves) ? RR_OK : RR_ENOMEM;
    if (rc == RR_OK) {
        arm(saves);
        rc = pthread_create(&saves->thread, NULL, run, saves) == 0 ? RR_OK : RR_EIO;
    }
    if (rc == RR_OK)
        *out = saves;
    else
        free_all(saves);
    return rc;
}

void rr_saves_stop(rr_saves_t *saves) {
    if (!saves)
        return;
    (void)eventfd_write(saves->stop_fd, 1); /* cannot fail: nobody else writes it */
    pthread_join(saves->thread, NULL);
    free_all(saves);
}
