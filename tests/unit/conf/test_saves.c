/* Every manner of saving a Python file is heard of, and nothing else is; by inotify and by polling. */
#include "conf/saves.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "tests/unit/check_main.h"

#define SETTLE_MS 60u

typedef struct world {
    char folder[64];
    rr_saves_t *saves;
    pthread_mutex_t lock; /* guards what follows: the thread's functions write it */
    pthread_cond_t news;
    unsigned saved;
    char notes[2048];
} world_t;

static void on_saved(void *context) {
    world_t *world = context;
    pthread_mutex_lock(&world->lock);
    world->saved++;
    pthread_cond_broadcast(&world->news);
    pthread_mutex_unlock(&world->lock);
}

static void on_note(void *context, const char *line) {
    world_t *world = context;
    pthread_mutex_lock(&world->lock);
    snprintf(world->notes + strlen(world->notes), sizeof world->notes - strlen(world->notes), "%s\n", line);
    pthread_mutex_unlock(&world->lock);
}

static void shell(const world_t *world, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void shell(const world_t *world, const char *format, ...) {
    char command[512], whole[700];
    va_list args;
    va_start(args, format);
    vsnprintf(command, sizeof command, format, args);
    va_end(args);
    snprintf(whole, sizeof whole, "set -e; cd %s; %s", world->folder, command);
    ck_assert_msg(system(whole) == 0, "%s", whole);
}

static void start_with(world_t *world, bool polls, unsigned settle_ms) {
    const char *folders[] = {world->folder};
    rr_saves_options_t options = {.folders = folders, .folder_count = 1, .settle_ms = settle_ms, .poll_ms = 20, .polls = polls,
                                  .saved = on_saved, .note = on_note, .context = world};
    int rc = rr_saves_start(&options, &world->saves);
    ck_assert_int_eq(rc, RR_OK);
}

static void start(world_t *world, bool polls) {
    start_with(world, polls, SETTLE_MS);
}

static void set_up(world_t *world) {
    memset(world, 0, sizeof *world);
    pthread_mutex_init(&world->lock, NULL);
    pthread_cond_init(&world->news, NULL);
    strcpy(world->folder, "/tmp/rr-saves-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(world->folder));
    shell(world, "echo 1 >main.py; mkdir -p game deep/er .git __pycache__ venv; echo 1 >game/rules.py; touch venv/pyvenv.cfg");
}

static void tear_down(world_t *world) {
    rr_saves_stop(world->saves);
    ck_assert_msg(system(NULL), "no shell");
    char command[100];
    snprintf(command, sizeof command, "rm -rf %s", world->folder);
    ck_assert_int_eq(system(command), 0);
    pthread_mutex_destroy(&world->lock);
    pthread_cond_destroy(&world->news);
}

/* Waits until it was told at least once since the last time. */
static void heard(world_t *world, const char *what) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 30;
    pthread_mutex_lock(&world->lock);
    int rc = 0;
    while (!world->saved && rc == 0)
        rc = pthread_cond_timedwait(&world->news, &world->lock, &until);
    ck_assert_msg(world->saved, "not heard of: %s", what);
    world->saved = 0;
    pthread_mutex_unlock(&world->lock);
}

static const char *const manners[] = {
    "echo 2 >main.py",                                     /* in place */
    "echo 2 >.main.tmp; mv .main.tmp main.py",             /* a rename */
    "mv main.py main.py~; echo 3 >main.py",                /* vim's backup */
    "echo 4 >new.py; ln -f new.py main.py",                /* a link */
    ": >main.py; printf 'x = 1\\n' >>main.py",             /* in two steps */
    "rm main.py; echo 5 >main.py",                         /* away and back */
    "echo 6 >game/rules.py",                               /* below */
    "mkdir -p new/er; echo 7 >new/er/more.py",             /* in a folder that is new */
    "mv deep deeper; echo 8 >deeper/er/more.py",           /* or has another name now */
    "rm main.py",
};

static void each_manner(bool polls) {
    for (size_t i = 0; i < sizeof manners / sizeof *manners; i++) {
        world_t world;
        set_up(&world);
        start(&world, polls);
        shell(&world, "%s", manners[i]);
        heard(&world, manners[i]);
        tear_down(&world);
    }
}

START_TEST(every_manner) {
    each_manner(false);
}
END_TEST

START_TEST(every_manner_polled) {
    each_manner(true);
}
END_TEST

/* The folder itself goes, and comes again. */
START_TEST(the_folder_again) {
    world_t world;
    set_up(&world);
    start(&world, false);
    shell(&world, "mv %s %s.old", world.folder, world.folder);
    heard(&world, "the folder has gone");
    char command[300];
    snprintf(command, sizeof command, "mv %s.old %s; echo 9 >%s/main.py", world.folder, world.folder, world.folder);
    ck_assert_int_eq(system(command), 0);
    heard(&world, "it is there again");
    shell(&world, "echo 10 >game/rules.py");
    heard(&world, "a file below it");
    tear_down(&world);
}
END_TEST

/* What is no save of the project's is not told. */
static void nothing_else(bool polls) {
    world_t world;
    set_up(&world);
    start(&world, polls);
    shell(&world, "echo 1 >notes.txt; echo 1 >.main.py.swp; echo 1 >4913; echo 1 >.git/x.py; echo 1 >__pycache__/y.py; "
                  "echo 1 >venv/z.py; mkdir -p .hidden __pycache__/more; cat main.py >/dev/null; exec 9>>open.txt; echo 1 >&9");
    struct timespec while_ms = {.tv_nsec = 5 * SETTLE_MS * 1000000}; /* for what must not come */
    nanosleep(&while_ms, NULL);
    pthread_mutex_lock(&world.lock);
    ck_assert_uint_eq(world.saved, 0);
    pthread_mutex_unlock(&world.lock);
    shell(&world, "for i in 1 2 3 4 5 6 7 8 9; do echo 1 >many$i.py; done");
    heard(&world, "many files");
    tear_down(&world);
}

START_TEST(nothing_but_saves) {
    nothing_else(false);
}
END_TEST

START_TEST(nothing_but_saves_polled) {
    nothing_else(true);
}
END_TEST

/* A file that is being written is not saved yet, also when another one is. */
START_TEST(not_before_the_close) {
    world_t world;
    set_up(&world);
    start_with(&world, false, 300);
    char path[100];
    snprintf(path, sizeof path, "%s/main.py", world.folder);
    FILE *file = fopen(path, "we");
    ck_assert_ptr_nonnull(file);
    shell(&world, "echo 1 >other.py");
    for (int i = 0; i < 3; i++) { /* a slow writer: 1 s of the 6 s that it has */
        struct timespec step = {.tv_nsec = 350 * 1000000};
        ck_assert_int_gt(fprintf(file, "x = %d\n", i), 0);
        ck_assert_int_eq(fflush(file), 0);
        nanosleep(&step, NULL);
    }
    pthread_mutex_lock(&world.lock);
    ck_assert_uint_eq(world.saved, 0);
    pthread_mutex_unlock(&world.lock);
    ck_assert_int_eq(fclose(file), 0);
    heard(&world, "the close");
    tear_down(&world);
}
END_TEST

/* One that is never closed is not waited for for ever. */
START_TEST(kept_open) {
    world_t world;
    set_up(&world);
    start(&world, false);
    char path[100];
    snprintf(path, sizeof path, "%s/main.py", world.folder);
    FILE *file = fopen(path, "we");
    ck_assert_ptr_nonnull(file);
    ck_assert_int_gt(fprintf(file, "x = 1\n"), 0);
    ck_assert_int_eq(fflush(file), 0);
    heard(&world, "a file that stays open");
    ck_assert_int_eq(fclose(file), 0);
    heard(&world, "its close");
    tear_down(&world);
}
END_TEST

START_TEST(what_is_not_heard_of_is_said) {
    world_t world;
    set_up(&world);
    shell(&world, "seq -f d%%g 1 %d | xargs mkdir", RR_SAVES_FOLDERS_MAX);
    start(&world, true);
    pthread_mutex_lock(&world.lock);
    ck_assert_msg(strstr(world.notes, "does not tell of changes: saved scripts are looked for every 20 ms\n"), "%s", world.notes);
    char *many = strstr(world.notes, "more than 1024 folders: ");
    ck_assert_msg(many && !strstr(many + 1, "more than"), "%s", world.notes); /* once */
    pthread_mutex_unlock(&world.lock);
    tear_down(&world);
}
END_TEST

CHECK_MAIN("saves", every_manner, every_manner_polled, the_folder_again, nothing_but_saves, nothing_but_saves_polled,
           not_before_the_close, kept_open, what_is_not_heard_of_is_said)
