/* The watchdog and the memory limit: a scene's fault stays in the scene. */
#include <stdatomic.h>

#include "fake_host.h"

static const char runaway[] = "import ffext, time, redrabbit\n"
                              "def for_ever():\n" /* 3.11 may raise at a loop's jump, outside of the try around it */
                              "    while True: pass\n"
                              "@ffext.session_call(1)\n"
                              "def spin(id, msg):\n"
                              "    while True: pass\n"
                              "@ffext.session_call(2)\n"
                              "def stubborn(id, msg):\n"
                              "    for n in range(3):\n"
                              "        try:\n"
                              "            for_ever()\n"
                              "        except BaseException as error: print('swallowed', type(error).__name__)\n"
                              "    while True: pass\n"
                              "@ffext.session_call(3)\n"
                              "def ok(id, msg): print('ok'); time.sleep(0.001)\n"
                              "@ffext.session_call(4)\n"
                              "async def late(id, msg):\n"
                              "    await redrabbit.sleep(1)\n"
                              "    while True: pass\n"
                              "@ffext.session_call(5)\n"
                              "def sleeps(id, msg):\n" /* in C while it is struck, then for long enough in Python */
                              "    time.sleep(1)\n"
                              "    end = time.monotonic() + 20\n"
                              "    while time.monotonic() < end: pass\n"
                              "@ffext.session_call(6)\n"
                              "def careful(id, msg):\n"
                              "    try:\n"
                              "        for_ever()\n"
                              "    except Exception: print('caught as Exception')\n";

/* What a handler that is soon over returns: again if the machine kept it from its CPU for as long as the watchdog's limit, for
 * then it is struck with good reason, and counted. */
static int soon_over(fake_t *fake, rr_script_session_t *bob, uint16_t cmd, uint64_t token, unsigned limit_ms, uint64_t *struck) {
    for (;;) {
        uint64_t began = now_ms();
        int rc = message(fake, bob, cmd, "0", token);
        if (rc != RR_EHANDLER || now_ms() - began < limit_ms)
            return rc;
        ++*struck;
    }
}

/* A handler that swallows the exception gets the next one. How often it was struck: more than once if a strike came outside of its
 * `try`, as when it has to wait long for its CPU. */
static uint64_t strike_stubborn(fake_t *fake, rr_script_session_t *bob) {
    for (uint64_t n = 1;; n++) {
        forget(fake);
        ck_assert_int_eq(message(fake, bob, 2, "0", 1), RR_EHANDLER);
        if (times(fake, "print swallowed HandlerTimeout\n") == 3)
            return n;
        ck_assert_msg(n < 20, "%s", fake->record);
    }
}

START_TEST(watchdog) {
    fake_t fake;
    rr_script_stats_t stats;
    uint64_t struck = 4; /* cmd 1, 4, 5, 6 */
    fake_start(&fake, runaway, &(rr_script_options_t){.interpreter = _i, .watchdog_ms = 250});
    rr_script_session_t *bob = session_of(&fake, "bob");
    uint64_t began = now_ms();
    ck_assert_int_eq(message(&fake, bob, 1, "0", 1), RR_EHANDLER);
    ck_assert_uint_ge(now_ms() - began, 250);
    EXPECT(&fake, "cmd 1, session 'bob': Traceback");
    EXPECT(&fake, "redrabbit.HandlerTimeout");
    struck += strike_stubborn(&fake, bob);
    for (int i = 0; i < 50; i++)
        ck_assert_int_eq(soon_over(&fake, bob, 3, 1, 250, &struck), RR_OK);
    ck_assert_int_eq(soon_over(&fake, bob, 4, 7, 250, &struck), RR_SCRIPT_PENDING);
    fire_timer(&fake);
    EXPECT(&fake, "done 7 -11\n");
    ck_assert_int_eq(message(&fake, bob, 5, "0", 1), RR_EHANDLER); /* reached when it leaves C */
    ck_assert_int_eq(message(&fake, bob, 6, "0", 1), RR_EHANDLER);
    EXPECT_NOT(&fake, "caught as Exception");
    rr_script_stats(fake.script, &stats);
    ck_assert_uint_eq(stats.timeouts, struck);
    rr_script_session_free(fake.script, bob);
    fake_end(&fake);
}
END_TEST

/* Handlers that end just when the strike comes: it never hits the next one, which does nothing wrong. */
START_TEST(close_calls) {
    fake_t fake;
    fake_start(&fake,
               "import ffext, time\n"
               "@ffext.session_call(1)\n"
               "def close(id, msg):\n"
               "    end = time.monotonic() + msg / 1000\n"
               "    while time.monotonic() < end: pass\n"
               "@ffext.session_call(2)\n"
               "def innocent(id, msg): return\n",
               &(rr_script_options_t){.watchdog_ms = 10});
    rr_script_session_t *bob = session_of(&fake, "bob");
    uint64_t struck = 0;
    for (int i = 0; i < 60; i++) {
        char body[16];
        snprintf(body, sizeof body, "%d", 8 + i % 10);
        int rc = message(&fake, bob, 1, body, 1);
        ck_assert(rc == RR_OK || rc == RR_EHANDLER);
        ck_assert_int_eq(soon_over(&fake, bob, 2, 1, 10, &struck), RR_OK);
    }
    rr_script_session_free(fake.script, bob);
    fake_end(&fake);
}
END_TEST

enum { OTHERS = 100 }; /* messages of the other scene */

static void *other_scene(void *argument) {
    _Atomic(int) *handled = argument;
    uint64_t struck = 0;
    fake_t fake;
    fake_start(&fake, "import ffext\n@ffext.session_call(1)\ndef ok(id, msg): pass\n", &(rr_script_options_t){.watchdog_ms = 500});
    rr_script_session_t *bob = session_of(&fake, "bob");
    for (int i = 0; i < OTHERS; i++) {
        rr_script_leave(fake.script);
        rr_script_enter(fake.script);
        ck_assert_int_eq(soon_over(&fake, bob, 1, 1, 500, &struck), RR_OK);
        atomic_fetch_add_explicit(handled, 1, memory_order_relaxed);
    }
    rr_script_session_free(fake.script, bob);
    fake_end(&fake);
    thread_over();
    return NULL;
}

/* A scene that spins and is struck again and again does not stop another on its own thread. */
START_TEST(neighbours) {
    pthread_t thread;
    _Atomic(int) handled = 0; /* the other scene's thread counts, this one reads; a counter alone */
    fake_t fake;
    fake_start(&fake, runaway, &(rr_script_options_t){.watchdog_ms = 50});
    rr_script_session_t *bob = session_of(&fake, "bob");
    uint64_t until = now_ms() + 60000;
    ck_assert_int_eq(pthread_create(&thread, NULL, other_scene, &handled), 0);
    for (int i = 0; i < 8 || atomic_load_explicit(&handled, memory_order_relaxed) < OTHERS; i++) {
        ck_assert_int_eq(message(&fake, bob, 1, "0", 1), RR_EHANDLER);
        ck_assert_msg(now_ms() < until, "%d messages handled", atomic_load_explicit(&handled, memory_order_relaxed));
    }
    rr_script_leave(fake.script);
    pthread_join(thread, NULL);
    rr_script_enter(fake.script);
    rr_script_session_free(fake.script, bob);
    fake_end(&fake);
}
END_TEST

START_TEST(runaway_load) {
    fake_t fake;
    fake_init(&fake, "while True: pass\n");
    ck_assert_int_eq(fake_open(&fake, &(rr_script_options_t){.watchdog_ms = 250}), RR_EHANDLER);
    ck_assert_ptr_nonnull(strstr(fake.why, "game.py:1: HandlerTimeout"));
    fake_end(&fake);
}
END_TEST

START_TEST(memory) {
    fake_t fake;
    rr_script_stats_t stats;
    fake_start(&fake,
               "import ffext\n"
               "kept = []\n"
               "@ffext.session_call(1)\n"
               "def eat(id, msg):\n"
               "    mine = []\n"
               "    while True: mine.append('x' * 1000000 + str(len(mine)))\n"
               "@ffext.session_call(2)\n"
               "def small(id, msg): kept.append('y' * 1000); print('fits')\n"
               "@ffext.session_call(3)\n"
               "def huge(id, msg): bytearray(1 << 40)\n"
               "@ffext.session_call(4)\n"
               "def many(id, msg):\n"
               "    mine = {}\n"
               "    while True: mine[len(mine)] = [len(mine)]\n",
               &(rr_script_options_t){.memory_limit = 64 << 20});
    rr_script_session_t *bob = session_of(&fake, "bob");
    for (uint16_t cmd = 1; cmd <= 4; cmd++) {
        ck_assert_int_eq(message(&fake, bob, cmd, "0", 1), cmd == 2 ? RR_OK : RR_EHANDLER);
        ck_assert_int_eq(message(&fake, bob, 2, "0", 1), RR_OK);
        rr_script_stats(fake.script, &stats);
        ck_assert_uint_gt(stats.memory, 100000);
        ck_assert_uint_lt(stats.memory, 40 << 20);
    }
    EXPECT(&fake, "cmd 1, session 'bob': Traceback");
    EXPECT(&fake, "MemoryError");
    ck_assert_uint_eq(stats.memory_errors, 3);
    rr_script_session_free(fake.script, bob);
    fake_end(&fake);
}
END_TEST

/* Every kind of message, thousands of times: nothing stays behind. */
START_TEST(no_growth) {
    fake_t fake;
    rr_script_stats_t before, after;
    fake_start(&fake,
               "import ffext, redrabbit as rr, gc\n"
               "@ffext.session_call(1, 'raw')\n"
               "def raw(id, msg): ffext.send_msg_session(id, 1, msg)\n"
               "@ffext.session_call(2)\n"
               "def js(id, msg): ffext.send_msg_session(id, 1, {'a': msg, 'b': {1, 2}})\n"
               "@rr.message(3, 'buffer')\n"
               "async def waits(session, msg): session.x = 1; await rr.sleep(1); session.send(1, msg)\n"
               "@rr.message(4, 'raw')\n"
               "async def calls(session, msg): await rr.call('x', 'y', {'a': 1}, reply='raw')\n"
               "@ffext.session_call(5, 'raw')\n"
               "def raises(id, msg): raise ValueError(msg)\n"
               "@ffext.session_call(6)\n"
               "def strict(id, msg): pass\n"
               "@ffext.session_call(7, 'raw', lambda id: id + 'x')\n"
               "def timer(id, msg): ffext.cancel_timer(ffext.once_timer(5, print)); ffext.multi_send_msg_session([id], 1, 'ü')\n"
               "@rr.message(8, 'raw')\n"
               "async def gathers(session, msg): await rr.gather(rr.sleep(1), rr.sleep(1))\n"
               "@ffext.session_call(9, 'raw')\n"
               "def collect(id, msg): gc.collect()\n",
               &(rr_script_options_t){.memory_limit = 256 << 20});
    rr_script_session_t *bob = session_of(&fake, "bob");
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 1500; i++) {
            for (uint16_t cmd = 1; cmd <= 8; cmd++) {
                int rc = message(&fake, bob, cmd, cmd == 6 ? "{" : "\"0123456789\"", 1);
                if (cmd == 4)
                    rr_script_answer(fake.script, fake.last_call, i % 2 ? "NOROUTE" : NULL, "1", 1);
                while (rc == RR_SCRIPT_PENDING && fake.timer_count > 0)
                    fire_timer(&fake);
            }
            rr_script_session_free(fake.script, bob);
            bob = session_of(&fake, "bob");
            forget(&fake);
        }
        ck_assert_int_eq(message(&fake, bob, 9, "", 1), RR_OK);
        rr_script_stats(fake.script, round ? &after : &before);
    }
    ck_assert_uint_gt(before.memory, 100000);
    ck_assert_msg(after.memory < before.memory + 40000, "%zu -> %zu", before.memory, after.memory);
    ck_assert_uint_eq(after.pending, 0);
    rr_script_session_free(fake.script, bob);
    fake_end(&fake);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("limits");
    TCase *tcase = tcase_create("limits");
    tcase_add_checked_fixture(tcase, python_up, python_down);
    tcase_add_loop_test(tcase, watchdog, RR_INTERPRETER_DEFAULT, RR_INTERPRETER_DEFAULT + 1);
    tcase_add_loop_test(tcase, watchdog, RR_INTERPRETER_SHARED, RR_INTERPRETER_MAIN + 1);
    tcase_add_test(tcase, close_calls);
    tcase_add_test(tcase, neighbours);
    tcase_add_test(tcase, runaway_load);
    tcase_add_test(tcase, memory);
    tcase_add_test(tcase, no_growth);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
