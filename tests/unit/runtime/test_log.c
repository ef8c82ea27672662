/* The log: format, filters, bounds, files, limits. */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/alloc.h"
#include "runtime/log.h"
#include "tests/unit/check_main.h"

static char folder[64];
static rr_clock_t test_clock;

static void make_folder(void) {
    strcpy(folder, "/tmp/rr_test_log.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    setenv("TZ", "UTC", 1);
    rr_clock_init(&test_clock, true);
}

static rr__log_t *open_log(rr__log_options_t options) {
    make_folder();
    options.path = folder;
    options.clock = &test_clock;
    rr__log_t *log = NULL;
    ck_assert_int_eq(rr__log_create(&log, &options), RR_OK);
    return log;
}

static void __attribute__((format(printf, 4, 5))) say(rr__log_t *log, rr_level_t level, const char *class,
                                                      const char *format, ...) {
    va_list args;
    va_start(args, format);
    rr__log_write(log, level, class, format, args);
    va_end(args);
}

static char *contents(const char *stem) {
    char path[128];
    snprintf(path, sizeof path, "%s/%s.log", folder, stem);
    FILE *file = fopen(path, "r");
    ck_assert_ptr_nonnull(file);
    static char text[4 << 20];
    size_t size = fread(text, 1, sizeof text - 1, file);
    text[size] = '\0';
    fclose(file);
    return text;
}

static void clean_up(rr__log_t *log) {
    rr__log_destroy(log);
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    ck_assert_int_eq(system(command), 0);
}

START_TEST(format_of_a_line) {
    rr__log_t *log = open_log((rr__log_options_t){0});
    rr_clock_advance(&test_clock, 123 * RR_NS_PER_MS);
    say(log, RR_INFO, "NET", "listening on %s:%d", "[::1]", 80);
    rr_clock_advance(&test_clock, 61 * RR_NS_PER_S);
    say(log, RR_WARN, "RUNTIME", "slow\n");
    rr__log_flush(log);
    ck_assert_str_eq(contents("redrabbit"), "2026-01-01 00:00:01.123 INFO  NET    listening on [::1]:80\n"
                                            "2026-01-01 00:01:02.123 WARN  RUNTIME slow\n");
    ck_assert_uint_eq(rr__log_lines(log), 2);
    ck_assert_uint_eq(rr__log_dropped(log), 0);
    clean_up(log);
}
END_TEST

START_TEST(foreign_text_cannot_forge_lines) {
    rr__log_t *log = open_log((rr__log_options_t){.file = "x"});
    say(log, RR_ERROR, "PY", "%s", "one\n2026-01-01 00:00:01.000 INFO  NET    forged\r\x1b[2J\ttab\xc3\xa4\n\n");
    rr__log_flush(log);
    ck_assert_str_eq(contents("x"), "2026-01-01 00:00:01.000 ERROR PY     one\n"
                                    "    2026-01-01 00:00:01.000 INFO  NET    forged??[2J\ttab\xc3\xa4\n");
    clean_up(log);
    log = open_log((rr__log_options_t){.file = "x"}); /* a class is a script's text, too */
    say(log, RR_ERROR, "PY\n2026\x1b[2J\x7f", "text");
    rr__log_flush(log);
    ck_assert_str_eq(contents("x"), "2026-01-01 00:00:01.000 ERROR PY?2026?[2J? text\n");
    clean_up(log);
}
END_TEST

START_TEST(levels_and_classes) {
    rr__log_t *log = open_log((rr__log_options_t){.level = RR_INFO, .classes = "NET,,PY"});
    say(log, RR_DEBUG, "NET", "no: level");
    say(log, RR_INFO, "GATE", "no: class");
    say(log, RR_INFO, "NET", "yes: class");
    say(log, RR_WARN, "GATE", "yes: a warning");
    ck_assert(!rr__log_enabled(log, RR_DEBUG, "PY"));
    rr__log_set_level(log, RR_DEBUG);
    ck_assert(rr__log_enabled(log, RR_DEBUG, "PY"));
    say(log, RR_DEBUG, "PY", "yes: level");
    rr__log_flush(log);
    char *text = contents("redrabbit");
    ck_assert_ptr_null(strstr(text, "no:"));
    ck_assert_ptr_nonnull(strstr(text, "yes: class"));
    ck_assert_ptr_nonnull(strstr(text, "yes: a warning"));
    ck_assert_ptr_nonnull(strstr(text, "yes: level"));
    clean_up(log);
}
END_TEST

START_TEST(raw_bytes_pass_as_they_are) {
    int ends[2];
    ck_assert_int_eq(pipe(ends), 0);
    rr__log_t *log = open_log((rr__log_options_t){.level = RR_FATAL, .screen = false, .screen_fd = ends[1]});
    rr__log_raw(log, "a\x01\nb", 4);
    say(log, RR_FATAL, "X", "not on the screen");
    rr__log_flush(log);
    char seen[64];
    ssize_t got = read(ends[0], seen, sizeof seen);
    ck_assert_int_eq(got, 4);
    ck_assert_mem_eq(seen, "a\x01\nb", 4);
    ck_assert_int_eq(strncmp(contents("redrabbit"), "a\x01\nb", 4), 0);
    clean_up(log);
    close(ends[0]);
    close(ends[1]);
}
END_TEST

START_TEST(long_lines_are_cut) {
    int nowhere = open("/dev/null", O_WRONLY);
    rr__log_t *log = open_log((rr__log_options_t){.screen_fd = nowhere});
    char *text = malloc(200001);
    memset(text, 'x', 200000);
    text[200000] = '\0';
    say(log, RR_INFO, "A", "%s", text);
    text[600] = '\0';
    say(log, RR_INFO, "B", "%s", text); /* longer than the small buffer, not cut */
    memset(text, 'y', 200000);
    rr__log_raw(log, text, 200000);
    rr__log_flush(log);
    char *written = contents("redrabbit");
    ck_assert_ptr_nonnull(strstr(written, "xxx [cut]\n"));
    char *second = strstr(written, "INFO  B");
    ck_assert_uint_eq(strcspn(second, "\n"), strlen("INFO  B      ") + 600);
    ck_assert_ptr_nonnull(strstr(second, "yyy [cut]\n"));
    ck_assert_uint_lt(strlen(written), 2 * RR_LOG_LINE_MAX + 1000);
    free(text);
    clean_up(log);
    close(nowhere);
}
END_TEST

static void *drain_pipe(void *context) {
    static char bytes[65536];
    while (read(*(int *)context, bytes, sizeof bytes) > 0)
        ;
    return NULL;
}

/* What standard error has been told, in a file that stands for it. */
static const char *stderr_text(int fd) {
    static char text[8192];
    ssize_t size = pread(fd, text, sizeof text - 1, 0);
    ck_assert_int_ge(size, 0);
    text[size] = '\0';
    return text;
}

static unsigned count_of(const char *text, const char *what) {
    unsigned count = 0;
    for (; (text = strstr(text, what)); text++)
        count++;
    return count;
}

static int stand_for_stderr(void) {
    char path[] = "/tmp/rr_test_stderr.XXXXXX";
    int fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(unlink(path), 0);
    ck_assert_int_eq(dup2(fd, STDERR_FILENO), STDERR_FILENO);
    return fd;
}

static void make_full_pipe(int ends[2]) {
    char block[4096] = {0};
    ck_assert_int_eq(pipe(ends), 0);
    fcntl(ends[1], F_SETFL, O_NONBLOCK);
    while (write(ends[1], block, sizeof block) > 0)
        ;
    fcntl(ends[1], F_SETFL, 0);
}

static bool is_of_dropped(const char *line) {
    const char *end = strchr(line, '\n'), *word = strstr(line, " dropped");
    return word && end && word < end;
}

/* The screen is a full pipe: the log thread hangs in it, writers must not, and the loss is counted and told. */
START_TEST(a_stuck_screen_blocks_nobody) {
    int ends[2];
    make_full_pipe(ends);
    rr__log_t *log = open_log((rr__log_options_t){.screen = true, .screen_fd = ends[1], .lines = 64});
    for (int i = 0; i < 10000; i++)
        say(log, RR_INFO, "FLOOD", "line %d", i);
    uint64_t lines = rr__log_lines(log), dropped = rr__log_dropped(log);
    ck_assert_uint_eq(lines + dropped, 10000);
    ck_assert_uint_gt(dropped, 0);
    pthread_t drainer; /* somebody looks at the screen again */
    ck_assert_int_eq(pthread_create(&drainer, NULL, drain_pipe, &ends[0]), 0);
    rr__log_flush(log);
    rr_clock_advance(&test_clock, 2 * RR_NS_PER_S);
    rr__log_destroy(log);
    char *text = contents("redrabbit");
    uint64_t told = 0;
    for (char *at = text; (at = strstr(at, "WARN  LOG    ")); at++)
        told += is_of_dropped(at) ? strtoull(at + strlen("WARN  LOG    "), NULL, 10) : 0;
    ck_assert_uint_eq(told, dropped);
    ck_assert_ptr_nonnull(strstr(text, "line 0\n"));
    close(ends[1]);
    pthread_join(drainer, NULL);
    close(ends[0]);
    clean_up(NULL);
}
END_TEST

/* Nobody ever reads it: the file goes on, a flush and the end come in time, and what is missing is told when it is read again. */
START_TEST(a_screen_that_nobody_reads_holds_nobody) {
    int ends[2], told = stand_for_stderr();
    char block[4096];
    make_full_pipe(ends);
    rr__log_t *log = open_log((rr__log_options_t){.screen = true, .screen_fd = ends[1]});
    say(log, RR_INFO, "A", "one");
    rr__log_flush(log);
    say(log, RR_INFO, "A", "two");
    rr__log_flush(log);
    ck_assert_ptr_nonnull(strstr(contents("redrabbit"), "one\n"));
    ck_assert_ptr_nonnull(strstr(contents("redrabbit"), "two\n"));
    ck_assert_uint_eq(rr__log_lost(log), 2);
    ck_assert_uint_eq(count_of(stderr_text(told), "the screen: nobody reads it"), 1);
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    while (read(ends[0], block, sizeof block) > 0)
        ;
    say(log, RR_INFO, "A", "three");
    rr__log_flush(log);
    ssize_t size = read(ends[0], block, sizeof block - 1);
    ck_assert_int_gt(size, 0);
    block[size] = '\0';
    ck_assert_ptr_nonnull(strstr(block, "three\n"));
    ck_assert_ptr_nonnull(strstr(block, " 2 lines before this one are lost: the screen could not be written to"));
    close(ends[1]);
    close(ends[0]);
    make_full_pipe(ends);
    clean_up(log);
    log = open_log((rr__log_options_t){.screen = true, .screen_fd = ends[1]});
    for (int i = 0; i < 5000; i++)
        say(log, RR_INFO, "A", "a line that fills more than one buffer of the sink by being written so often: %d", i);
    clean_up(log);
    close(ends[1]);
    close(ends[0]);
}
END_TEST

typedef struct writer {
    rr__log_t *log;
    int number;
} writer_t;

static void *write_many(void *context) {
    writer_t *writer = context;
    for (int i = 0; i < 2000; i++)
        say(writer->log, RR_INFO, "W", "w%d i%d", writer->number, i);
    return NULL;
}

START_TEST(many_writers_keep_their_order) {
    rr__log_t *log = open_log((rr__log_options_t){0});
    writer_t writers[4];
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) {
        writers[i] = (writer_t){log, i};
        ck_assert_int_eq(pthread_create(&threads[i], NULL, write_many, &writers[i]), 0);
    }
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    rr__log_flush(log);
    ck_assert_uint_eq(rr__log_lines(log) + rr__log_dropped(log), 8000);
    int last[4] = {-1, -1, -1, -1};
    uint64_t seen = 0;
    for (char *line = strtok(contents("redrabbit"), "\n"); line; line = strtok(NULL, "\n")) {
        int who, what;
        char *text = strstr(line, "w");
        if (!text || sscanf(text, "w%d i%d", &who, &what) != 2)
            continue;
        ck_assert_int_gt(what, last[who]);
        last[who] = what;
        seen++;
    }
    ck_assert_uint_eq(seen, rr__log_lines(log));
    clean_up(log);
}
END_TEST

START_TEST(reopens_after_rotation) {
    rr__log_t *log = open_log((rr__log_options_t){0});
    say(log, RR_INFO, "A", "old");
    rr__log_flush(log);
    char from[128], to[128];
    snprintf(from, sizeof from, "%s/redrabbit.log", folder);
    snprintf(to, sizeof to, "%s/rotated.log", folder);
    ck_assert_int_eq(rename(from, to), 0);
    rr__log_reopen(log);
    say(log, RR_INFO, "A", "new");
    rr__log_flush(log);
    ck_assert_ptr_nonnull(strstr(contents("redrabbit"), "new"));
    ck_assert_ptr_null(strstr(contents("redrabbit"), "old"));
    ck_assert_ptr_nonnull(strstr(contents("rotated"), "old"));
    clean_up(log);
}
END_TEST

/* Whatever the disk took, there is no half line but its last, and what is missing is said. */
START_TEST(a_full_disk_loses_whole_lines) {
    enum { LINES = 400, MORE = 50 };
    struct rlimit limit;
    int told = stand_for_stderr();
    signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &limit), 0);
    rlim_t before = limit.rlim_cur;
    limit.rlim_cur = 9999; /* in the middle of a line */
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    rr__log_t *log = open_log((rr__log_options_t){0});
    for (int i = 0; i < LINES; i++) {
        say(log, RR_INFO, "A", "number %d of %d, and a text to fill it", i, LINES);
        if (i % 3 == 0)
            rr__log_flush(log);
    }
    rr__log_flush(log);
    ck_assert_uint_eq(count_of(stderr_text(told), "\n"), 1);
    ck_assert_ptr_nonnull(strstr(stderr_text(told), "File too large"));
    uint64_t lost = rr__log_lost(log);
    ck_assert_uint_gt(lost, LINES / 2);
    limit.rlim_cur = before;
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    for (int i = 0; i < MORE; i++)
        say(log, RR_INFO, "A", "more");
    rr__log_flush(log);
    const char *text = contents("redrabbit");
    char missing[64];
    snprintf(missing, sizeof missing, " %llu lines before this one are lost", (unsigned long long)lost);
    ck_assert_uint_eq(count_of(text, missing), 1);
    ck_assert_uint_eq(count_of(text, "more\n"), MORE);
    ck_assert_uint_eq(count_of(text, "to fill it\n") + lost, LINES);
    ck_assert_uint_eq(count_of(text, "\n2"), count_of(text, "\n") - 1); /* each begins with its stamp */
    ck_assert_uint_eq(rr__log_lost(log), lost);
    clean_up(log);
}
END_TEST

/* Longer lines than the buffer, which are lost in part: no rest of one looks like a line. */
START_TEST(a_lost_line_has_no_rest) {
    static char filler[40000];
    struct stat file;
    int told = stand_for_stderr();
    make_folder();
    char path[128];
    snprintf(path, sizeof path, "%s/redrabbit.log", folder);
    ck_assert_int_eq(symlink("/dev/full", path), 0);
    rr__log_options_t options = {.path = folder, .clock = &test_clock};
    rr__log_t *log = NULL;
    ck_assert_int_eq(rr__log_create(&log, &options), RR_OK);
    memset(filler, 'x', sizeof filler - 1);
    for (int i = 0; i < 20; i++)
        say(log, RR_INFO, "A", "%s", filler);
    rr__log_flush(log);
    ck_assert_uint_eq(rr__log_lost(log), 20);
    ck_assert_uint_eq(count_of(stderr_text(told), "No space left"), 1);
    ck_assert_int_eq(unlink(path), 0); /* rotation, while the disk is full, to where there is room */
    rr__log_reopen(log);
    say(log, RR_INFO, "A", "room");
    rr__log_flush(log);
    ck_assert_int_eq(stat(path, &file), 0);
    ck_assert_uint_eq(count_of(contents("redrabbit"), "\n"), 2);
    ck_assert_uint_eq(count_of(contents("redrabbit"), " 20 lines before this one are lost"), 1);
    ck_assert_uint_eq(count_of(contents("redrabbit"), "room\n"), 1);
    clean_up(log);
}
END_TEST

START_TEST(errors_of_creation) {
    make_folder();
    rr__log_t *log = NULL;
    char path[128];
    snprintf(path, sizeof path, "%s/deep/er", folder);
    rr__log_options_t options = {.path = path, .clock = &test_clock};
    ck_assert_int_eq(rr__log_create(&log, &options), RR_OK); /* folders are made */
    rr__log_destroy(log);
    snprintf(path, sizeof path, "%s/file", folder);
    close(open(path, O_CREAT | O_WRONLY, 0600));
    strcat(path, "/below");
    ck_assert_int_lt(rr__log_create(&log, &options), 0);
    char classes[200] = "";
    for (int i = 0; i < 40; i++)
        strcat(classes, "A,");
    options = (rr__log_options_t){.classes = classes, .clock = &test_clock};
    ck_assert_int_eq(rr__log_create(&log, &options), RR_EINVAL);
    clean_up(NULL);
}
END_TEST

START_TEST(limit_first_n_per_window) {
    rr_log_limit_t limit = {0};
    uint64_t suppressed, now = 1000 * RR_LOG_LIMIT_WINDOW_NS;
    int allowed = 0;
    for (int i = 0; i < 100; i++) {
        allowed += rr_log_limit(&limit, 5, now + (uint64_t)i, &suppressed);
        ck_assert_uint_eq(suppressed, 0);
    }
    ck_assert_int_eq(allowed, 5);
    ck_assert(rr_log_limit(&limit, 5, now + RR_LOG_LIMIT_WINDOW_NS, &suppressed));
    ck_assert_uint_eq(suppressed, 95);
    ck_assert(rr_log_limit(&limit, 5, now + RR_LOG_LIMIT_WINDOW_NS, &suppressed));
    ck_assert_uint_eq(suppressed, 0);
    ck_assert(rr_log_limit(&limit, 5, now + 9 * RR_LOG_LIMIT_WINDOW_NS, NULL));
}
END_TEST

#ifndef NDEBUG
START_TEST(out_of_memory) {
    make_folder();
    int64_t before = rr__alloc_live();
    rr__log_options_t options = {.path = folder, .classes = "A,B", .clock = &test_clock};
    for (uint64_t n = 1;; n++) {
        rr__log_t *log = NULL;
        rr__alloc_fail_at(n);
        int rc = rr__log_create(&log, &options);
        bool reached = rr__alloc_failed();
        rr__alloc_fail_at(0);
        if (!reached) {
            ck_assert_int_eq(rc, RR_OK);
            rr__alloc_fail_at(1);
            say(log, RR_ERROR, "A", "lost");
            ck_assert_uint_eq(rr__log_dropped(log), 1);
            rr__log_destroy(log);
            break;
        }
        ck_assert_int_eq(rc, RR_ENOMEM);
        ck_assert_int_eq(rr__alloc_live(), before);
    }
    ck_assert_int_eq(rr__alloc_live(), before);
    clean_up(NULL);
}
END_TEST
#define OUT_OF_MEMORY , out_of_memory
#else
#define OUT_OF_MEMORY
#endif

CHECK_MAIN("log", format_of_a_line, foreign_text_cannot_forge_lines, levels_and_classes, raw_bytes_pass_as_they_are,
           long_lines_are_cut, a_stuck_screen_blocks_nobody, a_screen_that_nobody_reads_holds_nobody,
           many_writers_keep_their_order, reopens_after_rotation, a_full_disk_loses_whole_lines, a_lost_line_has_no_rest,
           errors_of_creation, limit_first_n_per_window OUT_OF_MEMORY)
