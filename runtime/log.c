/* log.c: the queue of lines, its thread, and the places they are written to. */
#include "runtime/log.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "runtime/alloc.h"
#include "runtime/clock.h"

#define REPORT_INTERVAL_NS RR_NS_PER_S /* between two reports of dropped lines */
#define OUT_SIZE           (64u << 10)
#define CLASSES_MAX        32
#define PIECE              4096u /* a screen that has any room takes so much at once without blocking (pipe(7)) */
#define PATIENCE_MS        1000u
#define LOOK_MS            50

typedef struct line {
    uint64_t wall_ns;
    size_t size;
    rr_level_t level;
    bool raw;
    char class[16];
    char text[];
} line_t;

/* A cell of the queue. Dmitry Vyukov, "Bounded MPMC queue" (1024cores.net): each cell's sequence says whose turn it is. */
typedef struct cell {
    /* = position: free for the producer of that position; = position + 1: filled, for the consumer. Written with release
     * by whoever is done with the cell, read with acquire by the next: the line itself is published by it. */
    _Atomic(uint64_t) sequence;
    line_t *line;
} cell_t;

typedef struct sink {
    int fd; /* -1 = none */
    char *path; /* NULL: the screen */
    size_t size;
    int error;     /* of the last write (errno); 0 = it is written to */
    uint64_t lost; /* lines since it last was */
    bool skip;     /* up to the next line's begin: what came before is lost */
    bool torn;     /* what is written ends within a line */
    rr_log_limit_t said;
    char out[OUT_SIZE];
} sink_t;

struct rr__log {
    /* Constant after creation. */
    const rr_clock_t *clock;
    bool screen_lines;
    char *classes[CLASSES_MAX];
    unsigned class_count;
    uint64_t mask;
    cell_t *cells;

    /* Written by rr__log_set_level, read by all writers; relaxed: a line more or less does not matter. */
    _Atomic(int) level;
    /* Next position to fill: producers claim it by compare-and-swap; relaxed, the cell's sequence does the ordering. */
    _Atomic(uint64_t) tail;
    /* Bytes inside: producers add before they queue, the log thread subtracts; relaxed, a bound only. */
    _Atomic(uint64_t) bytes;
    /* Written by producers, read by the log thread (to report) and by metrics; relaxed. */
    _Atomic(uint64_t) accepted, dropped;
    /* Lines that no sink could write. Written by the log thread, read by metrics; relaxed. */
    _Atomic(uint64_t) lost;
    /* Requests to the log thread, which reads them after sem_wait (the semaphore orders them) and `reopen` also after it took a
     * line (who asked before it logged that line published both by the queue's release), and `stop` while the screen is stuck (it
     * comes to see it); relaxed. Two requests at once are one. */
    _Atomic(bool) reopen, stop;
    sem_t wake;

    /* Flushing: positions below `written` are in the files. Guarded by lock; the log thread takes it only when somebody
     * waits (waiting: written by flushers under the lock, read by the log thread; seq_cst with written, so that either
     * the flusher sees the position or the log thread sees the flusher; relaxed while the screen is stuck, where it looks again
     * and again). */
    pthread_mutex_t lock;
    pthread_cond_t flushed;
    _Atomic(unsigned) waiting;
    _Atomic(uint64_t) written;

    /* Of the log thread. */
    pthread_t thread;
    uint64_t head;
    uint64_t dropped_reported, last_report_ns;
    time_t stamp_second;
    char stamp[32];
    sink_t screen, file;
};

/* ---- The queue ---------------------------------------------------------------------------------------------------- */

static bool queue_push(rr__log_t *log, line_t *line) {
    uint64_t position = atomic_load_explicit(&log->tail, memory_order_relaxed);
    for (;;) {
        cell_t *cell = &log->cells[position & log->mask];
        int64_t ahead = (int64_t)(atomic_load_explicit(&cell->sequence, memory_order_acquire) - position);
        if (ahead < 0)
            return false;
        if (ahead > 0) {
            position = atomic_load_explicit(&log->tail, memory_order_relaxed);
        } else if (atomic_compare_exchange_weak_explicit(&log->tail, &position, position + 1, memory_order_relaxed,
                                                         memory_order_relaxed)) {
            cell->line = line;
            atomic_store_explicit(&cell->sequence, position + 1, memory_order_release);
            return true;
        }
    }
}

static line_t *queue_pop(rr__log_t *log) {
    cell_t *cell = &log->cells[log->head & log->mask];
    if (atomic_load_explicit(&cell->sequence, memory_order_acquire) != log->head + 1)
        return NULL; /* empty, or its producer is about to fill it and to wake us */
    line_t *line = cell->line;
    atomic_store_explicit(&cell->sequence, log->head + log->mask + 1, memory_order_release);
    log->head++;
    return line;
}

static void drop(rr__log_t *log) { atomic_fetch_add_explicit(&log->dropped, 1, memory_order_relaxed); }

static void submit(rr__log_t *log, line_t *line) {
    size_t size = sizeof *line + line->size;
    uint64_t before = atomic_fetch_add_explicit(&log->bytes, size, memory_order_relaxed);
    if (before + size > RR_LOG_BYTES || !queue_push(log, line)) {
        atomic_fetch_sub_explicit(&log->bytes, size, memory_order_relaxed);
        drop(log);
        rr__free(line);
        return;
    }
    atomic_fetch_add_explicit(&log->accepted, 1, memory_order_relaxed);
    sem_post(&log->wake);
}

static line_t *new_line(rr__log_t *log, size_t size) {
    line_t *line = rr__malloc(sizeof *line + size + 1);
    if (!line) {
        drop(log);
        return NULL;
    }
    line->wall_ns = rr_clock_wall(log->clock);
    line->size = size;
    return line;
}

/* ---- Writers ------------------------------------------------------------------------------------------------------ */

static bool class_listed(const rr__log_t *log, const char *class) {
    if (log->class_count == 0)
        return true;
    for (unsigned i = 0; i < log->class_count; i++)
        if (strcmp(log->classes[i], class) == 0)
            return true;
    return false;
}

bool rr__log_enabled(const rr__log_t *log, rr_level_t level, const char *class) {
    if ((int)level > atomic_load_explicit(&((rr__log_t *)log)->level, memory_order_relaxed))
        return false;
    return level <= RR_WARN || class_listed(log, class);
}

static void cut(char *text, size_t size) {
    static const char mark[] = " [cut]";
    memcpy(text + size - (sizeof mark - 1), mark, sizeof mark - 1);
}

/* The class may be a script's text: it must not forge a line. */
static void copy_class(char *out, size_t size, const char *class) {
    snprintf(out, size, "%s", class);
    for (; *out; out++)
        if ((unsigned char)*out < 0x20 || *out == 0x7f)
            *out = '?';
}

void rr__log_write(rr__log_t *log, rr_level_t level, const char *class, const char *format, va_list args) {
    if (!rr__log_enabled(log, level, class))
        return;
    char small[512];
    va_list again;
    va_copy(again, args);
    int length = vsnprintf(small, sizeof small, format, args);
    size_t size = length < 0 ? 0 : (size_t)length < RR_LOG_LINE_MAX ? (size_t)length : RR_LOG_LINE_MAX;
    line_t *line = new_line(log, size);
    if (line) {
        line->level = level;
        line->raw = false;
        copy_class(line->class, sizeof line->class, class);
        if (size < sizeof small)
            memcpy(line->text, small, size);
        else
            vsnprintf(line->text, size + 1, format, again);
        if (length > (int)size)
            cut(line->text, size);
        submit(log, line);
    }
    va_end(again);
}

void rr__log_raw(rr__log_t *log, const void *bytes, size_t size) {
    size_t kept = size < RR_LOG_LINE_MAX ? size : RR_LOG_LINE_MAX;
    line_t *line = new_line(log, kept);
    if (!line)
        return;
    line->level = RR_INFO;
    line->raw = true;
    line->class[0] = '\0';
    memcpy(line->text, bytes, kept);
    if (kept < size) {
        cut(line->text, kept - 1);
        line->text[kept - 1] = '\n';
    }
    submit(log, line);
}

void rr__log_set_level(rr__log_t *log, rr_level_t level) {
    atomic_store_explicit(&log->level, (int)level, memory_order_relaxed);
}

uint64_t rr__log_lines(const rr__log_t *log) {
    return atomic_load_explicit(&((rr__log_t *)log)->accepted, memory_order_relaxed);
}

uint64_t rr__log_dropped(const rr__log_t *log) {
    return atomic_load_explicit(&((rr__log_t *)log)->dropped, memory_order_relaxed);
}

uint64_t rr__log_lost(const rr__log_t *log) {
    return atomic_load_explicit(&((rr__log_t *)log)->lost, memory_order_relaxed);
}

/* ---- Sinks (log thread) ------------------------------------------------------------------------------------------- */

static uint64_t count_lines(const char *bytes, size_t size) {
    uint64_t count = 0;
    for (const char *end = bytes + size; (bytes = memchr(bytes, '\n', (size_t)(end - bytes))); bytes++)
        count++;
    return count;
}

/* On standard error, as the log itself cannot; once, and again at most every 10 s. If that is closed there is nowhere left. */
static void say_lost(rr__log_t *log, sink_t *sink) {
    char text[512];
    if (!rr_log_limit(&sink->said, 1, rr_clock_wall(log->clock), NULL))
        return;
    int size = snprintf(text, sizeof text, "redrabbit: the log cannot be written to %s: %s; its lines are lost until it can\n",
                        sink->path ? sink->path : "the screen", sink->error == EAGAIN ? "nobody reads it" : strerror(sink->error));
    struct pollfd out = {.fd = STDERR_FILENO, .events = POLLOUT};
    if (poll(&out, 1, 0) != 1) /* the stuck screen itself, most likely */
        return;
    if (write(STDERR_FILENO, text, size < (int)sizeof text ? (size_t)size : sizeof text - 1) < 0)
        return;
}

static void count_lost(rr__log_t *log, sink_t *sink, uint64_t lines) {
    sink->lost += lines;
    atomic_fetch_add_explicit(&log->lost, lines, memory_order_relaxed);
}

/* A full disk, a closed pipe. What is lost are whole lines: the next one that can be written begins a line. */
static void lose(rr__log_t *log, sink_t *sink, size_t done, int error) {
    bool news = !sink->error;
    sink->error = error;
    count_lost(log, sink, count_lines(sink->out + done, sink->size - done));
    sink->skip = sink->out[sink->size - 1] != '\n';
    sink->torn = done ? sink->out[done - 1] != '\n' : sink->torn;
    if (news)
        say_lost(log, sink);
}

/* A screen may be a pipe that nobody reads, or a terminal that is held. As long as only writers are behind us their queue's bound
 * is all that is lost; but the file must not wait for it, nor who waits for the log's end. 0, or the error that it counts as. */
static int wait_for_screen(rr__log_t *log, sink_t *sink) {
    struct pollfd out = {.fd = sink->fd, .events = POLLOUT};
    unsigned waited = 0;
    if (sink->path) /* a file: always ready */
        return 0;
    while (poll(&out, 1, sink->error ? 0 : LOOK_MS) == 0) {
        bool hurry = log->file.fd >= 0 || atomic_load_explicit(&log->stop, memory_order_relaxed) ||
                     atomic_load_explicit(&log->waiting, memory_order_relaxed) > 0;
        waited = hurry ? waited + LOOK_MS : 0;
        if (sink->error || waited >= PATIENCE_MS)
            return EAGAIN;
    }
    return 0;
}

static void sink_flush(rr__log_t *log, sink_t *sink) {
    size_t done = 0;
    int error = 0;
    while (done < sink->size && !error) {
        bool mends = sink->torn && done == 0;
        size_t left = sink->size - done;
        error = wait_for_screen(log, sink);
        if (error)
            break;
        ssize_t wrote = mends ? write(sink->fd, "\n", 1) : write(sink->fd, sink->out + done, !sink->path && left > PIECE ? PIECE : left);
        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote <= 0)
            error = wrote < 0 ? errno : ENOSPC;
        else if (mends)
            sink->torn = false;
        else
            done += (size_t)wrote;
        if (done && !sink->path)
            sink->error = 0; /* somebody reads again: worth waiting for */
    }
    if (error)
        lose(log, sink, done, error);
    else if (sink->size)
        sink->error = 0;
    sink->size = 0;
}

/* The rest of a line whose beginning is lost is left out. Returns how many of the bytes that is. */
static size_t skip_rest(rr__log_t *log, sink_t *sink, const char *bytes, size_t size) {
    const char *end = memchr(bytes, '\n', size);
    if (!end)
        return size;
    sink->skip = false;
    count_lost(log, sink, 1);
    return (size_t)(end + 1 - bytes);
}

static void sink_add(rr__log_t *log, sink_t *sink, const char *bytes, size_t size) {
    if (sink->fd < 0)
        return;
    while (size > 0) {
        size_t room = OUT_SIZE - sink->size;
        size_t part = size < room ? size : room;
        if (sink->skip) { /* also if the flush below began it */
            part = skip_rest(log, sink, bytes, size);
        } else {
            memcpy(sink->out + sink->size, bytes, part);
            sink->size += part;
        }
        bytes += part;
        size -= part;
        if (sink->size == OUT_SIZE)
            sink_flush(log, sink);
    }
}

static int sink_open(sink_t *sink) {
    int fd = open(sink->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    struct stat file;
    if (fd < 0)
        return rr_error_from_errno(errno);
    if (sink->fd >= 0)
        close(sink->fd);
    sink->fd = fd;
    sink->torn = sink->torn && fstat(fd, &file) == 0 && file.st_size > 0;
    return RR_OK;
}

/* ---- Lines as text (log thread) ------------------------------------------------------------------------------------ */

static const char *level_name(rr_level_t level) {
    static const char *const names[] = {"?    ", "FATAL", "ERROR", "WARN ", "INFO ", "DEBUG", "TRACE"};
    return names[level >= RR_FATAL && level <= RR_TRACE ? level : 0];
}

static const char *stamp(rr__log_t *log, uint64_t wall_ns) {
    time_t second = (time_t)(wall_ns / RR_NS_PER_S);
    if (second != log->stamp_second || !log->stamp[0]) {
        struct tm local;
        localtime_r(&second, &local);
        strftime(log->stamp, sizeof log->stamp, "%Y-%m-%d %H:%M:%S", &local);
        log->stamp_second = second;
    }
    return log->stamp;
}

static void put(rr__log_t *log, const char *bytes, size_t size) {
    if (log->screen_lines)
        sink_add(log, &log->screen, bytes, size);
    sink_add(log, &log->file, bytes, size);
}

static void put_text(rr__log_t *log, const char *text, size_t size) {
    while (size > 0 && (text[size - 1] == '\n' || text[size - 1] == '\r'))
        size--;
    size_t from = 0;
    for (size_t i = 0; i < size; i++) {
        unsigned char c = (unsigned char)text[i];
        if ((c >= 0x20 && c != 0x7f) || c == '\t')
            continue;
        put(log, text + from, i - from);
        if (c == '\n')
            put(log, "\n    ", 5);
        else
            put(log, "?", 1);
        from = i + 1;
    }
    put(log, text + from, size - from);
    put(log, "\n", 1);
}

static void put_head(rr__log_t *log, uint64_t wall_ns, rr_level_t level, const char *class) {
    char head[96];
    int size = snprintf(head, sizeof head, "%s.%03u %s %-6s ", stamp(log, wall_ns),
                        (unsigned)(wall_ns / RR_NS_PER_MS % 1000), level_name(level), class);
    put(log, head, (size_t)size);
}

static void write_line(rr__log_t *log, const line_t *line) {
    if (line->raw) {
        sink_add(log, &log->screen, line->text, line->size);
        sink_add(log, &log->file, line->text, line->size);
        return;
    }
    put_head(log, line->wall_ns, line->level, line->class);
    put_text(log, line->text, line->size);
}

/* ---- The thread ----------------------------------------------------------------------------------------------------- */

/* True when something was dropped that is not yet reported. */
static bool report_dropped(rr__log_t *log, bool now) {
    uint64_t dropped = rr__log_dropped(log);
    if (dropped == log->dropped_reported)
        return false;
    uint64_t wall = rr_clock_wall(log->clock);
    if (!now && wall - log->last_report_ns < REPORT_INTERVAL_NS)
        return true;
    char text[96];
    int size = snprintf(text, sizeof text, "%llu lines dropped: the log's queue was full",
                        (unsigned long long)(dropped - log->dropped_reported));
    put_head(log, wall, RR_WARN, "LOG");
    put_text(log, text, (size_t)size);
    log->dropped_reported = dropped;
    log->last_report_ns = wall;
    return false;
}

static void flush_sinks(rr__log_t *log) {
    sink_flush(log, &log->screen);
    sink_flush(log, &log->file);
}

/* It can be written to again: how many lines are missing. Returns them, 0 = nothing to say. */
static uint64_t report_lost(rr__log_t *log, sink_t *sink) {
    if (!sink->lost || sink->error)
        return 0;
    char text[512];
    int size = snprintf(text, sizeof text, "%llu lines before this one are lost: %s could not be written to",
                        (unsigned long long)sink->lost, sink->path ? sink->path : "the screen");
    put_head(log, rr_clock_wall(log->clock), RR_WARN, "LOG");
    put_text(log, text, size < (int)sizeof text ? (size_t)size : sizeof text - 1);
    return sink->lost;
}

static void report_all_lost(rr__log_t *log) {
    uint64_t screen = report_lost(log, &log->screen), file = report_lost(log, &log->file);
    if (!screen && !file)
        return;
    flush_sinks(log);
    log->screen.lost -= log->screen.error ? 0 : screen; /* else it is said again */
    log->file.lost -= log->file.error ? 0 : file;
}

static void publish_written(rr__log_t *log) {
    atomic_store_explicit(&log->written, log->head, memory_order_seq_cst);
    if (atomic_load_explicit(&log->waiting, memory_order_seq_cst) == 0)
        return;
    pthread_mutex_lock(&log->lock);
    pthread_cond_broadcast(&log->flushed);
    pthread_mutex_unlock(&log->lock);
}

/* Before every line: those that were logged behind a reopening go to the new file. */
static void reopen_file(rr__log_t *log) {
    if (!atomic_load_explicit(&log->reopen, memory_order_relaxed) || !log->file.path)
        return;
    atomic_store_explicit(&log->reopen, false, memory_order_relaxed);
    sink_flush(log, &log->file);
    int rc = sink_open(&log->file); /* on failure the old file goes on being used */
    if (rc == RR_OK)
        return;
    put_head(log, rr_clock_wall(log->clock), RR_ERROR, "LOG");
    char text[512];
    int size = snprintf(text, sizeof text, "cannot reopen %s: %s", log->file.path, rr_strerror(rc));
    put_text(log, text, size < (int)sizeof text ? (size_t)size : sizeof text - 1);
}

/* Everything that is queued now; true when a report of dropped lines is due later. */
static bool write_queued(rr__log_t *log, bool last) {
    reopen_file(log);
    for (line_t *line; (line = queue_pop(log));) {
        reopen_file(log);
        write_line(log, line);
        atomic_fetch_sub_explicit(&log->bytes, sizeof *line + line->size, memory_order_relaxed);
        rr__free(line);
    }
    bool due = report_dropped(log, last);
    flush_sinks(log);
    report_all_lost(log);
    publish_written(log);
    return due;
}

static void wait_for_lines(rr__log_t *log, bool report_due) {
    if (!report_due) {
        while (sem_wait(&log->wake) != 0 && errno == EINTR)
            ;
        return;
    }
    struct timespec until = rr_machine_in(RR_NS_PER_S);
    while (sem_clockwait(&log->wake, CLOCK_MONOTONIC, &until) != 0 && errno == EINTR)
        ;
}

static void *run(void *context) {
    rr__log_t *log = context;
    bool report_due = false;
    while (!atomic_load_explicit(&log->stop, memory_order_acquire)) {
        wait_for_lines(log, report_due);
        while (sem_trywait(&log->wake) == 0) /* one pass serves all wake-ups so far */
            ;
        report_due = write_queued(log, false);
    }
    write_queued(log, true);
    return NULL;
}

void rr__log_flush(rr__log_t *log) {
    uint64_t mine = atomic_load_explicit(&log->tail, memory_order_relaxed);
    pthread_mutex_lock(&log->lock);
    atomic_fetch_add_explicit(&log->waiting, 1, memory_order_seq_cst);
    sem_post(&log->wake);
    while (atomic_load_explicit(&log->written, memory_order_seq_cst) < mine)
        pthread_cond_wait(&log->flushed, &log->lock);
    atomic_fetch_sub_explicit(&log->waiting, 1, memory_order_seq_cst);
    pthread_mutex_unlock(&log->lock);
}

void rr__log_reopen(rr__log_t *log) {
    atomic_store_explicit(&log->reopen, true, memory_order_relaxed);
    sem_post(&log->wake);
}

/* ---- Life cycle ----------------------------------------------------------------------------------------------------- */

static int parse_classes(rr__log_t *log, const char *classes) {
    while (classes && *classes) {
        size_t size = strcspn(classes, ",");
        if (size > 0) {
            if (log->class_count == CLASSES_MAX)
                return RR_EINVAL;
            char *class = rr__malloc(size + 1);
            if (!class)
                return RR_ENOMEM;
            memcpy(class, classes, size);
            class[size] = '\0';
            log->classes[log->class_count++] = class;
        }
        classes += size + (classes[size] == ',');
    }
    return RR_OK;
}

static int make_queue(rr__log_t *log, unsigned lines) {
    uint64_t count = 2;
    while (count < lines)
        count *= 2;
    log->cells = rr__calloc(count, sizeof *log->cells);
    if (!log->cells)
        return RR_ENOMEM;
    log->mask = count - 1;
    for (uint64_t i = 0; i < count; i++)
        atomic_init(&log->cells[i].sequence, i);
    return RR_OK;
}

static int make_folder(char *path) {
    for (char *at = path + 1; *at; at++) {
        if (*at != '/')
            continue;
        *at = '\0';
        int rc = mkdir(path, 0755);
        int err = errno;
        *at = '/';
        if (rc != 0 && err != EEXIST)
            return rr_error_from_errno(err);
    }
    return RR_OK;
}

static int open_file(rr__log_t *log, const char *folder, const char *stem) {
    if (!stem || !*stem)
        stem = "redrabbit";
    size_t size = strlen(folder) + strlen(stem) + sizeof "/.log";
    log->file.path = rr__malloc(size);
    if (!log->file.path)
        return RR_ENOMEM;
    snprintf(log->file.path, size, "%s/%s.log", folder, stem);
    int rc = make_folder(log->file.path);
    return rc == RR_OK ? sink_open(&log->file) : rc;
}

static void free_log(rr__log_t *log) {
    for (unsigned i = 0; i < log->class_count; i++)
        rr__free(log->classes[i]);
    if (log->file.fd >= 0)
        close(log->file.fd);
    rr__free(log->file.path);
    rr__free(log->cells);
    pthread_cond_destroy(&log->flushed);
    pthread_mutex_destroy(&log->lock);
    sem_destroy(&log->wake);
    rr__free(log);
}

static rr__log_t *new_log(const rr__log_options_t *options) {
    rr__log_t *log = rr__calloc(1, sizeof *log);
    if (!log)
        return NULL;
    log->clock = options->clock;
    log->screen_lines = options->screen;
    log->screen.fd = options->screen_fd ? options->screen_fd : STDOUT_FILENO;
    log->file.fd = -1;
    atomic_init(&log->level, options->level ? (int)options->level : RR_INFO);
    sem_init(&log->wake, 0, 0);
    pthread_mutex_init(&log->lock, NULL);
    pthread_cond_init(&log->flushed, NULL);
    return log;
}

int rr__log_create(rr__log_t **out, const rr__log_options_t *options) {
    assert(options->clock);
    rr__log_t *log = new_log(options);
    if (!log)
        return RR_ENOMEM;
    int rc = parse_classes(log, options->classes);
    if (rc == RR_OK)
        rc = make_queue(log, options->lines ? options->lines : RR_LOG_LINES);
    if (rc == RR_OK && options->path)
        rc = open_file(log, options->path, options->file);
    if (rc == RR_OK && pthread_create(&log->thread, NULL, run, log) != 0)
        rc = RR_ELIMIT;
    if (rc != RR_OK) {
        free_log(log);
        return rc;
    }
    pthread_setname_np(log->thread, "log");
    *out = log;
    return RR_OK;
}

void rr__log_destroy(rr__log_t *log) {
    if (!log)
        return;
    atomic_store_explicit(&log->stop, true, memory_order_release);
    sem_post(&log->wake);
    pthread_join(log->thread, NULL);
    free_log(log);
}

/* ---- Limits --------------------------------------------------------------------------------------------------------- */

bool rr_log_limit(rr_log_limit_t *limit, unsigned first, uint64_t now_ns, uint64_t *suppressed) {
    uint64_t window = (now_ns / RR_LOG_LIMIT_WINDOW_NS + 1) & UINT32_MAX;
    uint64_t word = atomic_load_explicit(&limit->word, memory_order_relaxed);
    uint64_t count, held;
    do {
        bool same = word >> 32 == window;
        count = same ? (word & UINT32_MAX) : 0;
        held = same || (word & UINT32_MAX) <= first ? 0 : (word & UINT32_MAX) - first;
    } while (count < UINT32_MAX &&
             !atomic_compare_exchange_weak_explicit(&limit->word, &word, window << 32 | (count + 1),
                                                    memory_order_relaxed, memory_order_relaxed));
    if (suppressed)
        *suppressed = held;
    return count < first;
}
