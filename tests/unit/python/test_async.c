/* async def handlers without an event loop, and the redrabbit package's own functions. */
#include "fake_host.h"

#define HEAD "import redrabbit as rr\nfrom redrabbit import message, send\n"

static void script(fake_t *fake, const char *body) {
    char code[8192];
    snprintf(code, sizeof code, HEAD "%s", body);
    fake_start(fake, code, NULL);
}

START_TEST(sleeping) {
    fake_t fake;
    script(&fake, "@message(1)\n"
                  "async def slow(session, msg):\n"
                  "    send(session, 1, 'before')\n"
                  "    await rr.sleep(0.0015)\n"
                  "    send(session, 1, 'after')\n"
                  "@message(2)\n"
                  "async def fast(session, msg): send(session, 2, 'fast')\n"
                  "@message(3)\n"
                  "async def fails(session, msg):\n"
                  "    await rr.sleep(1)\n"
                  "    raise ValueError('late failure')\n"
                  "@message(4, concurrent=True)\n"
                  "async def c(session, msg): pass\n");
    rr_script_session_t *bob = session_of(&fake, "bob");
    ck_assert(rr_script_concurrent(fake.script, 4) && !rr_script_concurrent(fake.script, 1));
    ck_assert_int_eq(message(&fake, bob, 1, "1", 11), RR_SCRIPT_PENDING);
    EXPECT(&fake, "timer 2 0\n");
    ck_assert_int_eq(message(&fake, bob, 2, "1", 12), RR_OK);
    rr_script_stats_t stats;
    rr_script_stats(fake.script, &stats);
    ck_assert_uint_eq(stats.pending, 1);
    EXPECT_NOT(&fake, "after");
    fire_timer(&fake);
    EXPECT(&fake, "send 'bob' 1 text after\ndone 11 0\n");
    ck_assert_int_eq(message(&fake, bob, 3, "1", 13), RR_SCRIPT_PENDING);
    fire_timer(&fake);
    EXPECT(&fake, "cmd 3, session 'bob': Traceback");
    EXPECT(&fake, "ValueError: late failure\ndone 13 -11\n");
    rr_script_stats(fake.script, &stats);
    ck_assert_uint_eq(stats.pending, 0);
    ck_assert_uint_eq(stats.exceptions, 1);
    rr_script_session_free(fake.script, bob);
    fake_end(&fake);
}
END_TEST

START_TEST(calling) {
    fake_t fake;
    script(&fake, "@message(1)\n"
                  "async def go(session, msg):\n"
                  "    try: send(session, 1, repr(await rr.call('guild@0', 'join', msg, timeout=1.5)))\n"
                  "    except rr.CallError as error: send(session, 1, 'error ' + str(error))\n"
                  "@message(2)\n"
                  "async def raw(session, msg):\n"
                  "    send(session, 1, repr(await rr.call('guild@0', 7, b'bytes', reply='raw', group='GroupB')))\n"
                  "@rr.service('echo')\n"
                  "async def echo(msg): return msg\n");
    rr_script_session_t *bob = session_of(&fake, "bob");
    ck_assert_int_eq(message(&fake, bob, 1, "\"text\"", 11), RR_SCRIPT_PENDING);
    EXPECT(&fake, "call - guild@0 join \"text\" 1500\n"); /* a str is a JSON string here */
    rr_script_answer(fake.script, fake.last_call, NULL, "{\"a\": [1]}", 10);
    EXPECT(&fake, "send 'bob' 1 text {'a': [1]}\ndone 11 0\n");
    ck_assert_int_eq(message(&fake, bob, 1, "1", 12), RR_SCRIPT_PENDING);
    rr_script_answer(fake.script, fake.last_call, "TIMEOUT", NULL, 0);
    EXPECT(&fake, "send 'bob' 1 text error TIMEOUT\ndone 12 0\n");
    ck_assert_int_eq(message(&fake, bob, 2, "1", 13), RR_SCRIPT_PENDING);
    EXPECT(&fake, "call GroupB guild@0 7 bytes 5000\n");
    rr_script_answer(fake.script, fake.last_call, NULL, "5", 1);
    EXPECT(&fake, "send 'bob' 1 text b'5'\n");
    rr_script_service(fake.script, 3, "x", "echo", "\"s\"", 3);
    EXPECT(&fake, "reply 3 - =\"s\"\n");
    rr_script_session_free(fake.script, bob);
    fake_end(&fake);
}
END_TEST

START_TEST(why_a_call_failed) {
    static const struct {
        const char *error, *seen;
    } cases[] = {{"NOROUTE: there is no actor named guild@0", "NOROUTE False"},
                 {"STALE: the name's owner changed (not executed)", "STALE False"},
                 {"OVERLOAD: the receiver is overloaded (not executed)", "OVERLOAD False"},
                 {"TIMEOUT: timed out (maybe executed)", "TIMEOUT True"},
                 {"LINKDOWN", "LINKDOWN True"},
                 {"CallError: NOROUTE: there is no actor named bank@0", "HANDLER True"}, /* a call within the call */
                 {"KeyError: 'NOROUTE'", "HANDLER True"}};
    fake_t fake;
    script(&fake, "@message(1)\n"
                  "async def go(session, msg):\n"
                  "    try: await rr.call('guild@0', 'join')\n"
                  "    except rr.CallError as error: send(session, 1, f'{error.code} {error.executed}')\n");
    rr_script_session_t *bob = session_of(&fake, "bob");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char expected[80];
        ck_assert_int_eq(message(&fake, bob, 1, "1", 20 + i), RR_SCRIPT_PENDING);
        rr_script_answer(fake.script, fake.last_call, cases[i].error, NULL, 0);
        snprintf(expected, sizeof expected, "send 'bob' 1 text %s\n", cases[i].seen);
        EXPECT(&fake, expected);
    }
    rr_script_session_free(fake.script, bob);
    fake_end(&fake);
}
END_TEST

START_TEST(cancelling) {
    fake_t fake;
    script(&fake, "@message(1)\n"
                  "async def waits(session, msg):\n"
                  "    try: await rr.sleep(60)\n"
                  "    finally: send(session, 1, 'cleaned')\n"
                  "@message(2)\n"
                  "async def stubborn(session, msg):\n"
                  "    try: await rr.sleep(60)\n"
                  "    except rr.CancelledError: send(session, 1, 'no'); await rr.sleep(1)\n"
                  "@message(3)\n"
                  "async def nested(session, msg):\n"
                  "    async def inner():\n"
                  "        try: await rr.call('x', 'y')\n"
                  "        finally: send(session, 1, 'inner cleaned')\n"
                  "    await rr.spawn(inner())\n");
    rr_script_session_t *bob = session_of(&fake, "bob");
    ck_assert_int_eq(message(&fake, bob, 1, "1", 21), RR_SCRIPT_PENDING);
    rr_script_cancel(fake.script, 21);
    EXPECT(&fake, "timer cancelled\n");
    ck_assert_uint_gt(fake.wakes, 0);
    rr_script_run(fake.script);
    EXPECT(&fake, "send 'bob' 1 text cleaned\n");
    EXPECT(&fake, "done 21 -10\n");
    ck_assert_int_eq(message(&fake, bob, 2, "1", 22), RR_SCRIPT_PENDING);
    rr_script_cancel(fake.script, 22);
    rr_script_run(fake.script);
    EXPECT(&fake, "send 'bob' 1 text no\n");
    EXPECT_NOT(&fake, "done 22");
    fire_timer(&fake);
    EXPECT(&fake, "done 22 0\n");
    ck_assert_int_eq(message(&fake, bob, 3, "1", 23), RR_SCRIPT_PENDING);
    rr_script_run(fake.script);
    rr_script_cancel(fake.script, 23);
    rr_script_run(fake.script);
    EXPECT(&fake, "inner cleaned\n");
    EXPECT(&fake, "done 23 -10\n");
    rr_script_cancel(fake.script, 999);
    EXPECT_NOT(&fake, "Traceback");
    rr_script_session_free(fake.script, bob);
    fake_end(&fake);
}
END_TEST

START_TEST(together) {
    fake_t fake;
    script(&fake, "gate = rr.Future()\n"
                  "async def add(n):\n"
                  "    await rr.sleep(n)\n"
                  "    return n\n"
                  "@message(1)\n"
                  "async def both(session, msg): send(session, 1, await rr.gather(add(1), add(2), gate))\n"
                  "@message(2)\n"
                  "def opens(session, msg): gate.set_result(msg)\n"
                  "@message(3)\n"
                  "async def limited(session, msg):\n"
                  "    try: await rr.wait_for(add(60), 5)\n"
                  "    except TimeoutError: send(session, 3, 'too late')\n"
                  "    send(session, 3, await rr.wait_for(add(2), 5))\n"
                  "@message(4)\n"
                  "async def background(session, msg):\n"
                  "    async def fails(): raise KeyError('unseen')\n"
                  "    rr.spawn(fails())\n"
                  "@message(5)\n"
                  "async def yields(session, msg):\n"
                  "    class turn:\n"
                  "        def __await__(self): yield\n"
                  "    await turn()\n"
                  "    send(session, 5, 'came back')\n"
                  "    class bad:\n"
                  "        def __await__(self): yield 5\n"
                  "    try: await bad()\n"
                  "    except RuntimeError as error: send(session, 5, str(error))\n");
    rr_script_session_t *bob = session_of(&fake, "bob");
    ck_assert_int_eq(message(&fake, bob, 1, "1", 1), RR_SCRIPT_PENDING);
    rr_script_run(fake.script);
    fire_timer(&fake);
    fire_timer(&fake);
    ck_assert_int_eq(message(&fake, bob, 2, "[9]", 2), RR_OK);
    rr_script_run(fake.script);
    EXPECT(&fake, "send 'bob' 1 text [1, 2, [9]]\ndone 1 0\n");
    ck_assert_int_eq(message(&fake, bob, 2, "[9]", 2), RR_EHANDLER); /* done already */
    ck_assert_int_eq(message(&fake, bob, 3, "1", 3), RR_SCRIPT_PENDING);
    fire_timer(&fake); /* of wait_for */
    rr_script_run(fake.script);
    EXPECT(&fake, "send 'bob' 3 text too late\n");
    rr_script_run(fake.script);
    ck_assert_uint_eq(fake.timer_count, 2);
    rr_script_timer(fake.script, fake.timers[1]);
    EXPECT(&fake, "send 'bob' 3 text 2\ndone 3 0\n");
    ck_assert_int_eq(message(&fake, bob, 4, "1", 4), RR_OK);
    rr_script_run(fake.script);
    EXPECT(&fake, "KeyError: 'unseen'");
    ck_assert_int_eq(message(&fake, bob, 5, "1", 5), RR_SCRIPT_PENDING);
    turn_until(&fake, "done 5 0\n");
    EXPECT(&fake, "came back");
    EXPECT(&fake, "int cannot be awaited here: set `asyncio: true` for this scene");
    rr_script_session_free(fake.script, bob);
    fake_end(&fake);
}
END_TEST

START_TEST(sessions) {
    fake_t fake;
    script(&fake, "import typing\n"
                  "@rr.on_enter\n"
                  "async def enter(session, from_scene, extra):\n"
                  "    session.score = 5\n"
                  "    assert rr.session(session.id) is session and session.online\n"
                  "    assert rr.session('nobody') is None and rr.sessions() == ['bob', 5]\n"
                  "    assert session.send(1, 'hi') is True\n"
                  "    session.close()\n"
                  "    keep.append(session)\n"
                  "@rr.on_offline\n"
                  "def off(session, reason): send(session.id, 2, f'{session.score} {reason}')\n"
                  "@rr.on_leave\n"
                  "def leave(session): send(session.id, 4, 'left')\n"
                  "keep = []\n"
                  "@message(1)\n"
                  "async def move(session, msg):\n"
                  "    try: await session.move('scene@1', 'bag'); send(session, 3, 'moved')\n"
                  "    except rr.CallError as error: send(session, 3, str(error))\n"
                  "@message(2, 'text')\n"
                  "def text(session, msg): assert keep[0].send(1, 'x') is False and not keep[0].online; send(session, 9, msg)\n"
                  "@message(3, 'buffer')\n"
                  "def buffer(session, msg): send(session, 9, msg); send(session, 9, bytes(msg)[:1]); kept.append(msg)\n"
                  "kept = []\n"
                  "@rr.message(4)\n"
                  "def check(session, msg): send(session, 10, memoryview(kept[0])[1:3])\n");
    rr_script_session_t *bob = session_of(&fake, "bob");
    ck_assert_int_eq(rr_script_enter_session(fake.script, bob, "", NULL, 0, 1), RR_OK);
    EXPECT(&fake, "send 'bob' 1 text hi\nclose 'bob'\n");
    ck_assert_int_eq(message(&fake, bob, 1, "1", 2), RR_SCRIPT_PENDING);
    EXPECT(&fake, "move 'bob' scene@1 bag\n");
    rr_script_answer(fake.script, fake.last_call, "no such scene", NULL, 0);
    EXPECT(&fake, "send 'bob' 3 text no such scene\ndone 2 0\n");
    ck_assert_int_eq(message(&fake, bob, 1, "1", 3), RR_SCRIPT_PENDING);
    rr_script_answer(fake.script, fake.last_call, NULL, NULL, 0);
    EXPECT(&fake, "send 'bob' 3 text moved\ndone 3 0\n");
    ck_assert_int_eq(rr_script_leave_session(fake.script, bob, "scene@1", 4), RR_OK);
    EXPECT(&fake, "send 'bob' 4 text left\n");
    ck_assert_int_eq(rr_script_offline(fake.script, bob, 9, "kicked", 5), RR_OK);
    EXPECT(&fake, "send 'bob' 2 text 5 kicked\n");
    /* A newer login of the same id: the older's object must not reach it. */
    rr_script_session_t *newer = session_of(&fake, "bob");
    rr_script_session_free(fake.script, bob);
    ck_assert_int_eq(message(&fake, newer, 2, "späm", 6), RR_OK);
    EXPECT(&fake, "send 'bob' 9 text späm\n");
    ck_assert_int_eq(message(&fake, newer, 2, "\xff", 6), RR_EENCODING);
    rr_buffer_t *shared = rr_buffer_copy("abcdef", 6);
    ck_assert_int_eq(
        rr_script_message(fake.script, newer, 3, rr_buffer_data(shared) + 1, 4, shared, 7), RR_OK);
    rr_buffer_unref(shared);
    EXPECT(&fake, "send 'bob' 9 data bcde\nsend 'bob' 9 data b\n");
    ck_assert_int_eq(message(&fake, newer, 4, "1", 8), RR_OK);
    EXPECT(&fake, "send 'bob' 10 data cd\n");
    rr_script_session_free(fake.script, newer);
    fake_end(&fake);
}
END_TEST

START_TEST(timers_and_threads) {
    fake_t fake;
    script(&fake, "import threading, contextvars\n"
                  "var = contextvars.ContextVar('var', default='unset')\n"
                  "async def tick(*args): send('t', 1, repr(args))\n"
                  "rr.after(1.5, tick, 1, 2)\n"
                  "t = rr.every(0.25, tick)\n"
                  "assert rr.cancel_timer(t) and not rr.cancel_timer(t)\n"
                  "def work():\n"
                  "    print('from a thread')\n"
                  "    try: send('x', 1, 'no')\n"
                  "    except RuntimeError as error: print(error)\n"
                  "    rr.call_soon_threadsafe(send, 'x', 2, 'yes')\n"
                  "@message(1)\n"
                  "def go(session, msg): t = threading.Thread(target=work); t.start(); t.join()\n"
                  "@message(2)\n"
                  "async def ctx(session, msg):\n"
                  "    send(session, 3, var.get()); var.set(msg); await rr.sleep(1); send(session, 3, var.get())\n"
                  "assert rr.scene() == 'scene@0' and rr.config('-gate') == 'gate@0' and rr.config('-x') is None\n"
                  "assert rr.epoch() == 3 and rr.alloc_id() == 77 and rr.exists('gate@0')\n"
                  "rr.log.info('logged'); rr.log(2, 'error')\n");
    EXPECT(&fake, "timer 1500 0\ntimer 250 250\ntimer cancelled\n");
    EXPECT(&fake, "log 4 SCRIPT logged\nlog 2 SCRIPT error\n");
    fire_timer(&fake);
    EXPECT(&fake, "send 't' 1 text (1, 2)\n");
    rr_script_session_t *bob = session_of(&fake, "bob");
    ck_assert_int_eq(message(&fake, bob, 1, "1", 1), RR_OK);
    rr_script_run(fake.script);
    EXPECT(&fake, "print from a thread\nprint this works only on the scene's own thread");
    EXPECT(&fake, "send 'x' 2 text yes\n");
    EXPECT_NOT(&fake, "text no\n");
    ck_assert_int_eq(message(&fake, bob, 2, "\"a\"", 1), RR_SCRIPT_PENDING);
    ck_assert_int_eq(message(&fake, bob, 2, "\"b\"", 2), RR_SCRIPT_PENDING);
    fire_timer(&fake);
    fire_timer(&fake);
    EXPECT(&fake, "send 'bob' 3 text unset\ntimer 1000 0\nsend 'bob' 3 text unset\n");
    EXPECT(&fake, "send 'bob' 3 text a\ndone 1 0\nsend 'bob' 3 text b\n");
    rr_script_session_free(fake.script, bob);
    fake_end(&fake);
}
END_TEST

START_TEST(async_start_and_end) {
    fake_t fake;
    fake_init(&fake, HEAD "async def init():\n    await rr.sleep(1)\n    return eval(open(__file__ + '.txt').read())\n"
                          "async def cleanup():\n    await rr.sleep(1)\n    print('clean')\n");
    char path[200];
    snprintf(path, sizeof path, "%s.txt", fake.file);
    write_text(path, _i ? "True" : "False");
    ck_assert_int_eq(fake_open(&fake, NULL), RR_SCRIPT_PENDING);
    fire_timer(&fake);
    EXPECT(&fake, _i ? "done 1 0\n" : "done 1 -11\n");
    ck_assert_uint_eq(times(&fake, "log 2 PYTHON init(): returned False, which means that the start failed\n"), !_i);
    ck_assert_int_eq(rr_script_cleanup(fake.script, 2), RR_SCRIPT_PENDING);
    fire_timer(&fake);
    EXPECT(&fake, "print clean\ndone 2 0\n");
    fake_end(&fake);
}
END_TEST

/* A scene ends while handlers still wait: their finally blocks run, nothing leaks. */
START_TEST(ends_while_waiting) {
    fake_t fake;
    script(&fake, "@message(1)\n"
                  "async def waits(session, msg):\n"
                  "    try: await rr.sleep(60)\n"
                  "    finally: print('finally')\n"
                  "@message(2)\n"
                  "async def calls(session, msg): await rr.call('x', 'y')\n"
                  "@message(3)\n"
                  "async def for_ever(session, msg): await rr.Future()\n");
    rr_script_session_t *bob = session_of(&fake, "bob");
    for (uint16_t cmd = 1; cmd <= 3; cmd++)
        ck_assert_int_eq(message(&fake, bob, cmd, "1", cmd), RR_SCRIPT_PENDING);
    rr_script_session_free(fake.script, bob);
    ck_assert(rr_script_destroy(fake.script));
    EXPECT(&fake, "print finally\n");
    fake_clean(&fake);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("async");
    TCase *tcase = tcase_create("async");
    tcase_add_checked_fixture(tcase, python_up, python_down);
    tcase_add_test(tcase, sleeping);
    tcase_add_test(tcase, calling);
    tcase_add_test(tcase, why_a_call_failed);
    tcase_add_test(tcase, cancelling);
    tcase_add_test(tcase, together);
    tcase_add_test(tcase, sessions);
    tcase_add_test(tcase, timers_and_threads);
    tcase_add_loop_test(tcase, async_start_and_end, 0, 2);
    tcase_add_test(tcase, ends_while_waiting);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
