/* Interpreters and threads: kinds, workers that come and go, endings. */
#include "fake_host.h"

static const char plain[] = "import ffext, json, threading\n"
                            "local = threading.local()\n"
                            "seen = {}\n"
                            "@ffext.session_call(1)\n"
                            "def one(id, msg):\n"
                            "    local.n = getattr(local, 'n', 0) + 1\n"
                            "    seen[id] = seen.get(id, 0) + 1\n"
                            "    json.dumps({'a': [1, 2, 'x' * 50]})\n";

/* ---- Several scripts, several threads, the way a pool of workers runs scenes ---- */

typedef struct scene {
    fake_t fake;
    rr_script_session_t *bob;
    pthread_mutex_t turn; /* one turn at a time, as the actor's RUNNING state */
} scene_t;

typedef struct crew {
    scene_t *scenes;
    size_t count, turns;
    unsigned seed;
} crew_t;

static void *work(void *argument) {
    crew_t *crew = argument;
    for (size_t i = 0; i < crew->turns; i++) {
        scene_t *scene = &crew->scenes[(size_t)rand_r(&crew->seed) % crew->count];
        if (pthread_mutex_trylock(&scene->turn) != 0)
            continue;
        rr_script_enter(scene->fake.script);
        for (int n = 0; n < 8; n++)
            ck_assert_int_eq(message(&scene->fake, scene->bob, 1, "[1]", 1), RR_OK);
        rr_script_leave(scene->fake.script);
        pthread_mutex_unlock(&scene->turn);
    }
    thread_over();
    return NULL;
}

static void *create_in(void *argument) {
    scene_t *scene = argument;
    fake_start(&scene->fake, plain, &(rr_script_options_t){.watchdog_ms = 20000});
    scene->bob = session_of(&scene->fake, "bob");
    rr_script_leave(scene->fake.script);
    thread_over();
    return NULL;
}

static void *destroy_in(void *argument) {
    scene_t *scene = argument;
    rr_script_enter(scene->fake.script);
    rr_script_session_free(scene->fake.script, scene->bob);
    fake_end(&scene->fake);
    thread_over();
    return NULL;
}

START_TEST(crowd) {
    enum { SCENES = 5, THREADS = 4 };
    static scene_t scenes[SCENES];
    pthread_t threads[THREADS];
    crew_t crews[THREADS];
    pthread_t makers[SCENES];
    for (size_t i = 0; i < SCENES; i++) {
        pthread_mutex_init(&scenes[i].turn, NULL);
        ck_assert_int_eq(pthread_create(&makers[i], NULL, create_in, &scenes[i]), 0);
    }
    for (size_t i = 0; i < SCENES; i++)
        pthread_join(makers[i], NULL);
    for (unsigned i = 0; i < THREADS; i++) {
        crews[i] = (crew_t){.scenes = scenes, .count = SCENES, .turns = 1500, .seed = i + 1};
        ck_assert_int_eq(pthread_create(&threads[i], NULL, work, &crews[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    for (size_t i = 0; i < SCENES; i++) {
        ck_assert_int_eq(pthread_create(&makers[i], NULL, destroy_in, &scenes[i]), 0);
        pthread_join(makers[i], NULL);
    }
}
END_TEST

/* A scene that is made and ended again and again, as a supervisor does: neither slots nor memory run out. */
START_TEST(restarts) {
    for (int i = 0; i < 25; i++) {
        fake_t fake;
        fake_start(&fake, plain, &(rr_script_options_t){.watchdog_ms = 20000, .interpreter = _i});
        fake_end(&fake);
    }
}
END_TEST

/* The scene ends on one thread while another still holds a thread state of it: that thread ends it when it passes by. */
typedef struct pass {
    fake_t *fake;
    pthread_barrier_t *barrier;
} pass_t;

static void *visitor(void *argument) {
    pass_t *pass = argument;
    rr_script_enter(pass->fake->script);
    rr_script_leave(pass->fake->script);
    pthread_barrier_wait(pass->barrier);
    pthread_barrier_wait(pass->barrier); /* the scene is destroyed meanwhile */
    fake_t mine;
    fake_start(&mine, plain, NULL); /* passes by: the old interpreter ends here */
    fake_end(&mine);
    thread_over();
    return NULL;
}

START_TEST(last_one_out) {
    fake_t fake;
    pthread_t thread;
    pthread_barrier_t barrier;
    pass_t pass = {&fake, &barrier};
    pthread_barrier_init(&barrier, NULL, 2);
    fake_start(&fake, plain, NULL);
    rr_script_leave(fake.script);
    ck_assert_int_eq(pthread_create(&thread, NULL, visitor, &pass), 0);
    pthread_barrier_wait(&barrier);
    rr_script_enter(fake.script);
    fake_end(&fake);
    pthread_barrier_wait(&barrier);
    pthread_join(thread, NULL);
    pthread_barrier_destroy(&barrier);
}
END_TEST

/* ---- Kinds ---- */

START_TEST(one_main) {
    fake_t one, two;
    rr_script_options_t options = {.interpreter = RR_INTERPRETER_MAIN};
    fake_start(&one, "import threading\nassert threading.current_thread() is threading.main_thread()\nvalue = 1\n",
               &options);
    rr_script_leave(one.script);
    fake_init(&two, "");
    ck_assert_int_eq(fake_open(&two, &options), RR_ELIMIT);
    ck_assert_ptr_nonnull(strstr(two.why, "only one can have it"));
    rr_script_enter(one.script);
    fake_end(&one);
    options.file = two.file;
    rewrite(&two, "import sys\nassert 'value' not in globals()\n");
    ck_assert_msg(fake_open(&two, &options) == RR_OK, "%s", two.why); /* free again */
    fake_end(&two);
}
END_TEST

START_TEST(isolated) {
    fake_t one, two;
    fake_start(&one, "import json\njson.poison = 1\n", NULL);
    rr_script_leave(one.script);
    fake_start(&two, "import json\nassert not hasattr(json, 'poison')\n", NULL);
    fake_end(&two);
    rr_script_enter(one.script);
    fake_end(&one);
}
END_TEST

START_TEST(own_needs_313) {
    fake_t fake;
    fake_init(&fake, "");
    int rc = fake_open(&fake, &(rr_script_options_t){.interpreter = RR_INTERPRETER_OWN});
    if (rr_python_parallel()) {
        ck_assert_int_eq(rc, RR_OK);
        fake_end(&fake);
    } else {
        ck_assert_int_eq(rc, RR_EUNSUPPORTED);
        ck_assert_ptr_nonnull(strstr(fake.why, "use `interpreter: shared`"));
        fake_clean(&fake);
    }
}
END_TEST

/* The standard library's C modules and child processes work in scenes' interpreters. */
START_TEST(library) {
    fake_t fake;
    fake_start(&fake,
               "import ctypes, datetime, decimal, hashlib, os, pickle, random, re, socket, sqlite3, ssl, struct\n"
               "import subprocess, threading, time, uuid, xml.etree.ElementTree as tree, zlib, logging, dataclasses\n"
               "assert decimal.Decimal('0.1') + 1 == decimal.Decimal('1.1')\n"
               "assert tree.fromstring('<a b=\"c\"/>').get('b') == 'c'\n"
               "assert sqlite3.connect(':memory:').execute('select 1').fetchone() == (1,)\n"
               "assert os.system('exit 3') >> 8 == 3\n"
               "assert subprocess.run(['echo', 'hi'], capture_output=True, text=True).stdout == 'hi\\n'\n"
               "logging.getLogger('x').error('to the log')\n"
               "t = threading.Thread(target=lambda: None); t.start(); t.join()\n",
               &(rr_script_options_t){.interpreter = _i});
    EXPECT(&fake, "log 2 x to the log\n");
    fake_end(&fake);
}
END_TEST

/* ---- Endings ---- */

START_TEST(threads_end) {
    fake_t fake;
    fake_start(&fake,
               "import atexit, concurrent.futures, threading, time\n"
               "pool = concurrent.futures.ThreadPoolExecutor(2)\n"
               "pool.submit(time.sleep, 0.05)\n"
               "threading.Thread(target=time.sleep, args=(0.3,)).start()\n"
               "atexit.register(print, 'at exit')\n",
               &(rr_script_options_t){.interpreter = _i});
    ck_assert(rr_script_destroy(fake.script));
    if (_i != RR_INTERPRETER_MAIN)
        EXPECT(&fake, "print at exit\n");
    fake_clean(&fake);
}
END_TEST

static const char hanging[] = "import threading, time\n"
                              "threading.Thread(target=time.sleep, args=(30,)).start()\n";

/* A thread that does not end: the interpreter is left behind, and the process must not finalise CPython. */
START_TEST(abandoned) {
    fake_t fake;
    fake_start(&fake, hanging, NULL);
    uint64_t began = now_ms();
    ck_assert(!rr_script_destroy(fake.script));
    ck_assert_uint_ge(now_ms() - began, 1900);
    ck_assert_uint_le(now_ms() - began, 15000); /* of the thread's 30 s */
    EXPECT(&fake, "1 threads that the script of scene@0 started are still alive: its interpreter is abandoned");
    fake_clean(&fake);
    fake_t next; /* others go on */
    fake_start(&next, plain, NULL);
    fake_end(&next);
    thread_over();
    ck_assert(!rr_python_stop());
    _exit(0);
}
END_TEST

static void up_only(void) { python_up(); }

int main(void) {
    Suite *suite = suite_create("interpreters");
    TCase *tcase = tcase_create("interpreters");
    tcase_add_checked_fixture(tcase, python_up, python_down);
    tcase_add_test(tcase, crowd);
    tcase_add_loop_test(tcase, restarts, RR_INTERPRETER_DEFAULT, RR_INTERPRETER_DEFAULT + 1);
    tcase_add_loop_test(tcase, restarts, RR_INTERPRETER_SHARED, RR_INTERPRETER_MAIN + 1);
    tcase_add_test(tcase, last_one_out);
    tcase_add_test(tcase, one_main);
    tcase_add_test(tcase, isolated);
    tcase_add_test(tcase, own_needs_313);
    tcase_add_loop_test(tcase, library, RR_INTERPRETER_DEFAULT, RR_INTERPRETER_DEFAULT + 1);
    tcase_add_loop_test(tcase, library, RR_INTERPRETER_SHARED, RR_INTERPRETER_MAIN + 1);
    tcase_add_loop_test(tcase, threads_end, RR_INTERPRETER_DEFAULT, RR_INTERPRETER_DEFAULT + 1);
    tcase_add_loop_test(tcase, threads_end, RR_INTERPRETER_SHARED, RR_INTERPRETER_MAIN + 1);
    suite_add_tcase(suite, tcase);
    tcase = tcase_create("abandoned");
    tcase_add_checked_fixture(tcase, up_only, NULL);
    tcase_add_test(tcase, abandoned);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
