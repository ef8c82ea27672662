/* What goes wrong in scripts: seen, counted, and only that. */
#include "fake_host.h"

START_TEST(limited_tracebacks) {
    fake_t fake;
    rr_script_stats_t stats;
    fake_start(&fake,
               "import ffext\n"
               "@ffext.session_call(1)\n"
               "def one(id, msg): raise ValueError('first')\n"
               "@ffext.session_call(2)\n"
               "def two(id, msg):\n"
               "    if msg: raise KeyError('a')\n"
               "    raise KeyError('b')\n",
               NULL);
    rr_script_session_t *bob = session_of(&fake, "bob");
    for (int i = 0; i < 100; i++)
        ck_assert_int_eq(message(&fake, bob, 1, "0", 1), RR_EHANDLER);
    ck_assert_uint_eq(times(&fake, "log 2 PYTHON cmd 1, session 'bob': Traceback (most recent call last):"), 5);
    ck_assert_uint_eq(times(&fake, "ValueError: first"), 5);
    ck_assert_int_eq(message(&fake, bob, 2, "1", 1), RR_EHANDLER); /* another line has its own count */
    ck_assert_int_eq(message(&fake, bob, 2, "0", 1), RR_EHANDLER);
    ck_assert_uint_eq(times(&fake, "KeyError: '"), 2);
    ck_assert_uint_eq(fake.timer_count, 1);
    fire_timer(&fake);
    EXPECT(&fake, "log 2 PYTHON cmd 1: ValueError at "); /* of whatever sessions */
    EXPECT(&fake, "game.py:3: 95 more like it in 10 s\n");
    rr_script_stats(fake.script, &stats);
    ck_assert_uint_eq(stats.exceptions, 102);
    ck_assert_uint_eq(stats.handlers, 102 + 1); /* and the timer of the count line */
    forget(&fake);
    ck_assert_int_eq(message(&fake, bob, 1, "0", 1), RR_EHANDLER);
    ck_assert_uint_eq(times(&fake, "ValueError: first"), 1);
    rr_script_session_free(fake.script, bob);
    fake_end(&fake);
}
END_TEST

/* The lines of the script that a traceback shows may hold URLs. */
START_TEST(no_passwords) {
    fake_t fake;
    fake_start(&fake,
               "import ffext\n"
               "@ffext.session_call(1)\n"
               "def one(id, msg): 1 / 0, 'mysql://anna:se/c@ret@db:3306/game'\n"
               "@ffext.session_call(2)\n"
               "def two(id, msg): 1 / 0, 'mysql://db:3306/anna/secret/game', 'http://db:3306/a/b/c'\n",
               NULL);
    rr_script_session_t *bob = session_of(&fake, "bob");
    ck_assert_int_eq(message(&fake, bob, 1, "0", 1), RR_EHANDLER);
    ck_assert_int_eq(message(&fake, bob, 2, "0", 1), RR_EHANDLER);
    EXPECT(&fake, "'mysql://anna:***@db:3306/game'");
    EXPECT(&fake, "'mysql://db:3306/anna/***/game', 'http://db:3306/a/b/c'");
    ck_assert_uint_eq(times(&fake, "c@ret"), 0);
    ck_assert_uint_eq(times(&fake, "secret"), 0);
    rr_script_session_free(fake.script, bob);
    fake_end(&fake);
}
END_TEST

START_TEST(bad_messages) {
    fake_t fake;
    rr_script_stats_t stats;
    fake_start(&fake,
               "import ffext\n"
               "@ffext.session_call(1)\n"
               "def one(id, msg): ffext.send_msg_session(id, 1, [msg])\n"
               "@ffext.session_call(2, 'raw', lambda id: 1 / 0)\n"
               "def two(id, msg): pass\n",
               NULL);
    rr_script_session_t *bob = session_of(&fake, "bob");
    static const char *const bodies[] = {"",       "  ",        "{",         "[1,]",   "nonsense", "1 2",
                                         "\"\xff\"", "NaN",      "-Infinity", "{1: 2}", "'x'",      "[1] x"};
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++)
        ck_assert_int_eq(message(&fake, bob, 1, bodies[i], 1), RR_EENCODING);
    ck_assert_uint_eq(times(&fake, "cmd 1, session 'bob': the body is not JSON, as the handler declared ('text' takes what is "
                                  "sent as a str): "),
                     5);
    static char deep[300001];
    memset(deep, '[', sizeof deep - 1);
    ck_assert_int_eq(message(&fake, bob, 1, deep, 1), RR_EENCODING);
    ck_assert_int_eq(message(&fake, bob, 3, "x", 1), RR_ENOENT);
    EXPECT(&fake, "log 3 PYTHON cmd 3, session 'bob': no handler for this cmd\n");
    for (uint16_t cmd = 100; cmd < 1000; cmd++) /* a client chooses its cmds: not a line for each */
        ck_assert_int_eq(message(&fake, bob, cmd, "x", 1), RR_ENOENT);
    ck_assert_uint_eq(times(&fake, ": no handler for this cmd\n"), 5);
    fire_timer(&fake); /* of the bodies */
    fire_timer(&fake);
    EXPECT(&fake, "log 3 PYTHON cmd: no handler for this cmd: 896 more like it in 10 s\n");
    ck_assert_int_eq(message(&fake, bob, 2, "x", 1), RR_EHANDLER);
    rr_script_stats(fake.script, &stats);
    ck_assert_uint_eq(stats.decode_errors, sizeof bodies / sizeof *bodies + 1);
    ck_assert_uint_eq(stats.no_handler, 901);
    ck_assert_int_eq(message(&fake, bob, 1, "\"good\"", 1), RR_OK);
    EXPECT(&fake, "send 'bob' 1 text [\"good\"]\n");
    rr_script_session_free(fake.script, bob);
    fake_end(&fake);
}
END_TEST

/* Whatever a handler raises, the next message is handled. */
START_TEST(anything_raised) {
    fake_t fake;
    fake_start(&fake,
               "import ffext, sys\n"
               "class odd(Exception):\n"
               "    def __str__(self): raise TypeError('in str')\n"
               "class base(BaseException): pass\n"
               "errors = [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), odd(), base(), StopIteration(5),\n"
               "          RecursionError(), MemoryError()]\n"
               "@ffext.session_call(1)\n"
               "def one(id, msg): raise errors[msg]\n"
               "@ffext.session_call(2)\n"
               "def deep(id, msg): deep(id, msg)\n"
               "@ffext.session_call(3)\n"
               "async def three(id, msg): raise errors[msg]\n"
               "@ffext.session_call(4)\n"
               "def weird(id, msg): print(sys.stdout.write, file=5)\n"
               "@ffext.session_call(5)\n"
               "def fine(id, msg): ffext.send_msg_session(id, 1, 'fine')\n",
               NULL);
    rr_script_session_t *bob = session_of(&fake, "bob");
    for (int i = 0; i < 8; i++) {
        char body[16];
        snprintf(body, sizeof body, "%d", i);
        ck_assert_int_eq(message(&fake, bob, 1, body, 1), RR_EHANDLER);
        ck_assert_int_eq(message(&fake, bob, 3, body, 1), RR_EHANDLER);
    }
    ck_assert_int_eq(message(&fake, bob, 2, "0", 1), RR_EHANDLER);
    ck_assert_int_eq(message(&fake, bob, 4, "0", 1), RR_EHANDLER);
    ck_assert_int_eq(message(&fake, bob, 5, "0", 1), RR_OK);
    EXPECT(&fake, "SystemExit: 3");
    EXPECT(&fake, "RecursionError: maximum recursion depth exceeded");
    EXPECT(&fake, "send 'bob' 1 text fine\n");
    rr_script_session_free(fake.script, bob);
    fake_end(&fake);
}
END_TEST

START_TEST(hints) {
    fake_t fake;
    fake_start(&fake,
               "import ffext, asyncio\n"
               "@ffext.session_call(1)\n"
               "async def one(id, msg): await asyncio.sleep(1)\n"
               "@ffext.session_call(2)\n"
               "def two(id, msg): raise ImportError('module x does not support loading in subinterpreters')\n"
               "@ffext.session_call(3)\n"
               "def three(id, msg): raise RuntimeError('daemon threads are disabled in this interpreter')\n",
               NULL);
    rr_script_session_t *bob = session_of(&fake, "bob");
    ck_assert_int_eq(message(&fake, bob, 1, "0", 1), RR_EHANDLER);
    EXPECT(&fake, "no running event loop\nHint: asyncio needs an event loop: set `asyncio: true` for this scene");
    ck_assert_int_eq(message(&fake, bob, 2, "0", 1), RR_EHANDLER);
    EXPECT(&fake, "Hint: set `interpreter: main` for this scene");
    ck_assert_int_eq(message(&fake, bob, 3, "0", 1), RR_EHANDLER);
    EXPECT(&fake, "in this interpreter\nHint: set `interpreter: main` for this scene");
    rr_script_session_free(fake.script, bob);
    fake_end(&fake);
}
END_TEST

START_TEST(output) {
    fake_t fake;
    fake_start(&fake,
               "import sys, ffext\n"
               "print('x' * 20000)\n"
               "print('lone \\ud800 ü')\n"
               "sys.stdout.write('a'); sys.stdout.write('b'); sys.stdout.flush()\n"
               "print()\n"
               "print('to', 'err', sep='-', file=sys.stderr)\n"
               "try: sys.stdout.write(5)\n"
               "except TypeError: print('type error')\n"
               "assert sys.argv[0].endswith('game.py') and __name__ == 'game' and len(sys.argv) == 1\n"
               "assert sys.modules['game'].__file__ == __file__ == sys.argv[0]\n"
               "assert sys.flags.utf8_mode == 1\n",
               NULL);
    EXPECT(&fake, "print lone ? ü\nprint ab\nstderr to-err\nprint type error\n");
    fake_end(&fake);
}
END_TEST

START_TEST(paths) {
    fake_t fake;
    char path[200], folder[100];
    fake_init(&fake, "import sys, lib_one\nprint('path0', sys.path[0]); print('path1', sys.path[1])\n"
                     "print('lib', lib_one.value)\n");
    snprintf(folder, sizeof folder, "%s/more", fake.folder);
    ck_assert_int_eq(mkdir(folder, 0755), 0);
    snprintf(path, sizeof path, "%s/lib_one.py", folder);
    write_text(path, "value = 5\n");
    snprintf(path, sizeof path, "%s/random.py", folder);
    write_text(path, "");
    snprintf(path, sizeof path, "%s/ffext.py", fake.folder);
    write_text(path, "");
    const char *const more[] = {folder, NULL};
    ck_assert_msg(fake_open(&fake, &(rr_script_options_t){.path = more}) == RR_OK, "%s", fake.why);
    char want[256];
    snprintf(want, sizeof want, "print path0 %s\nprint path1 %s\n", fake.folder, folder);
    EXPECT(&fake, want);
    EXPECT(&fake, "print lib 5\n");
    EXPECT(&fake, "random.py hides the standard library's module 'random': better rename it\n");
    EXPECT(&fake, "ffext.py hides RedRabbit's module 'ffext': better rename it\n");
    fake_end(&fake);
}
END_TEST

/* The standard library's logging is the server's log: at its level, from loggers of any name, with tracebacks. */
START_TEST(logging) {
    fake_t fake;
    fake_start(&fake,
               "import logging\n"
               "logging.basicConfig(level=logging.DEBUG)\n" /* what is there already stays */
               "log = logging.getLogger('game.rooms')\n"
               "log.info('room %d', 7)\n"
               "log.debug('not at level info')\n"
               "logging.warning('careful')\n"
               "logging.critical('the end')\n"
               "try: 1 / 0\n"
               "except ZeroDivisionError: log.exception('failed')\n"
               "log.log(35, 'between'); log.log(99, 'above'); log.error('%d', 'bad')\n"
               "print(len(logging.getLogger().handlers))\n",
               &(rr_script_options_t){.asyncio = _i});
    EXPECT(&fake, "log 4 game.rooms room 7\n");
    EXPECT_NOT(&fake, "not at level info");
    EXPECT(&fake, "log 3 PYTHON careful\n");
    EXPECT(&fake, "log 1 PYTHON the end\n");
    EXPECT(&fake, "log 2 game.rooms failed\nTraceback (most recent call last):\n");
    EXPECT(&fake, "ZeroDivisionError: division by zero\n");
    EXPECT(&fake, "log 3 game.rooms between\n");
    EXPECT(&fake, "log 1 game.rooms above\n");
    EXPECT(&fake, "log 2 PYTHON logging at ");
    EXPECT(&fake, "game.py:10: Traceback (most recent call last):\n");
    EXPECT(&fake, "TypeError: %d format: a real number is required, not str\n");
    EXPECT_NOT(&fake, "Logging error");
    EXPECT(&fake, "print 1\n");
    fake_end(&fake);
}
END_TEST

/* A bad format string in a line that is logged again and again, by whatever handler and thread, is told of a few times, then counted. */
START_TEST(limited_logging_errors) {
    fake_t fake;
    fake_start(&fake,
               "import ffext, logging, sys, threading\n"
               "mine = logging.getLogger('mine')\n"
               "mine.addHandler(logging.StreamHandler(sys.stdout))\n"
               "mine.propagate = False\n"
               "def bad(): mine.error('%d', 'bad')\n"
               "@ffext.session_call(1)\n"
               "def one(id, msg):\n"
               "    logging.error('%d', 'bad')\n"
               "    bad()\n"
               "    thread = threading.Thread(target=bad)\n"
               "    thread.start()\n"
               "    thread.join()\n",
               NULL);
    rr_script_session_t *bob = session_of(&fake, "bob");
    for (int i = 0; i < 50; i++)
        ck_assert_int_eq(message(&fake, bob, 1, "0", 1), RR_OK);
    ck_assert_int_ge(rr_script_run(fake.script), -1); /* what threads said is written then */
    ck_assert_uint_eq(times(&fake, "game.py:8: Traceback"), 5);
    ck_assert_uint_eq(times(&fake, "game.py:5: Traceback"), 5);
    ck_assert_uint_eq(fake.timer_count, 2);
    fire_timer(&fake);
    fire_timer(&fake);
    EXPECT(&fake, "game.py:8: 45 more like it in 10 s\n");
    EXPECT(&fake, "game.py:5: 95 more like it in 10 s\n");
    EXPECT_NOT(&fake, "Logging error");
    rr_script_session_free(fake.script, bob);
    fake_end(&fake);
}
END_TEST

/* Who develops is told of handlers that hold their scene up, whatever becomes of them; others are not. */
START_TEST(slow_handlers) {
    fake_t fake;
    fake_start(&fake,
               "import ffext, redrabbit, time\n"
               "time.sleep(0.15)\n"
               "@ffext.session_call(1)\n"
               "def slow(id, msg):\n"
               "    time.sleep(0.15)\n"
               "    1 / msg\n"
               "@ffext.session_call(2)\n"
               "async def steps(id, msg):\n"
               "    await redrabbit.sleep(1)\n"
               "    time.sleep(msg)\n",
               &(rr_script_options_t){.reload_on_save = _i});
    rr_script_session_t *bob = session_of(&fake, "bob");
    EXPECT_NOT(&fake, "held its scene up"); /* loading may */
    ck_assert_int_eq(message(&fake, bob, 1, "1", 1), RR_OK);
    ck_assert_uint_eq(times(&fake, "log 3 PYTHON cmd 1, session 'bob': it held its scene up for more than 100 ms"), _i);
    ck_assert_int_eq(message(&fake, bob, 1, "0", 1), RR_EHANDLER);
    ck_assert_uint_eq(times(&fake, "log 3 PYTHON cmd 1, session 'bob': it held its scene up for more than 100 ms"), 2 * _i);
    EXPECT(&fake, "ZeroDivisionError");
    uint64_t began = now_ms();
    ck_assert_int_eq(message(&fake, bob, 2, "0.15", 7), RR_SCRIPT_PENDING);
    size_t early = times(&fake, "log 3 PYTHON cmd 2, session 'bob': it held its scene up for more than 100 ms");
    ck_assert(early == 0 || now_ms() - began >= 100); /* it had to wait for its CPU */
    fire_timer(&fake);
    EXPECT(&fake, "done 7 0\n");
    ck_assert_uint_eq(times(&fake, "log 3 PYTHON cmd 2, session 'bob': it held its scene up for more than 100 ms"), early + _i);
    rr_script_session_free(fake.script, bob);
    fake_end(&fake);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("errors");
    TCase *tcase = tcase_create("errors");
    tcase_add_checked_fixture(tcase, python_up, python_down);
    tcase_add_test(tcase, limited_tracebacks);
    tcase_add_test(tcase, no_passwords);
    tcase_add_test(tcase, bad_messages);
    tcase_add_test(tcase, anything_raised);
    tcase_add_test(tcase, hints);
    tcase_add_test(tcase, output);
    tcase_add_test(tcase, paths);
    tcase_add_loop_test(tcase, logging, 0, 2);
    tcase_add_test(tcase, limited_logging_errors);
    tcase_add_loop_test(tcase, slow_handlers, 0, 2);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
