/* Scenes with `asyncio: true`: asyncio's own things work inside of turns. */
#include "fake_host.h"

#define HEAD "import asyncio, time, threading\nimport redrabbit as rr\nfrom redrabbit import message, send\n"

static const rr_script_options_t with_loop = {.asyncio = true, .watchdog_ms = 5000};

static void script(fake_t *fake, const char *body) {
    char code[8192];
    snprintf(code, sizeof code, HEAD "%s", body);
    fake_start(fake, code, &with_loop);
}

START_TEST(sleeps) {
    fake_t fake;
    script(&fake, "@message(1)\n"
                  "async def nap(session, msg):\n"
                  "    began = time.monotonic()\n"
                  "    await asyncio.sleep(0.05)\n"
                  "    assert time.monotonic() - began >= 0.05\n"
                  "    async with asyncio.timeout(5): await rr.sleep(0.01)\n"
                  "    try: await asyncio.wait_for(asyncio.sleep(60), 0.02)\n"
                  "    except TimeoutError: send(session, 1, await rr.gather(rr.sleep(0.01, 'a'), rr.spawn(asyncio.sleep(0, 'b'))))\n"
                  "@message(2)\n"
                  "def plain(session, msg):\n"
                  "    asyncio.get_running_loop().call_later(0.02, print, 'called later')\n"
                  "    asyncio.create_task(nap(session, msg))\n"
                  "@message(3)\n"
                  "async def fails(session, msg):\n"
                  "    await asyncio.sleep(0)\n"
                  "    raise ValueError('in a task')\n"
                  "@message(4)\n"
                  "async def for_ever(session, msg):\n"
                  "    try: await asyncio.sleep(1000)\n"
                  "    finally: print('cleaned')\n");
    rr_script_session_t *bob = session_of(&fake, "bob");
    ck_assert_int_eq(message(&fake, bob, 1, "1", 5), RR_SCRIPT_PENDING);
    turn_until(&fake, "done 5 0\n");
    EXPECT(&fake, "send 'bob' 1 text [\"a\", \"b\"]\n");
    ck_assert_int_eq(message(&fake, bob, 2, "1", 6), RR_OK);
    ck_assert_uint_gt(fake.wakes, 0);
    turn_until(&fake, "print called later\n");
    ck_assert_int_eq(message(&fake, bob, 3, "1", 7), RR_SCRIPT_PENDING);
    turn_until(&fake, "done 7 -11\n");
    EXPECT(&fake, "cmd 3, session 'bob': Traceback");
    ck_assert_int_eq(message(&fake, bob, 4, "1", 8), RR_SCRIPT_PENDING);
    rr_script_run(fake.script);
    rr_script_cancel(fake.script, 8);
    turn_until(&fake, "done 8 -10\n");
    EXPECT(&fake, "print cleaned\n");
    rr_script_session_free(fake.script, bob);
    fake_end(&fake);
}
END_TEST

START_TEST(sockets_and_threads) {
    fake_t fake;
    script(&fake, "async def serve(reader, writer):\n"
                  "    line = await reader.readline()\n"
                  "    writer.write(b'echo ' + line)\n"
                  "    await writer.drain()\n"
                  "    writer.close()\n"
                  "@message(1)\n"
                  "async def talk(session, msg):\n"
                  "    server = await asyncio.start_server(serve, '127.0.0.1', 0)\n"
                  "    port = server.sockets[0].getsockname()[1]\n"
                  "    reader, writer = await asyncio.open_connection('127.0.0.1', port)\n"
                  "    writer.write(b'hello\\n')\n"
                  "    send(session, 1, await reader.readline())\n"
                  "    writer.close()\n"
                  "    server.close()\n"
                  "@message(2)\n"
                  "async def blocking(session, msg):\n"
                  "    loop = asyncio.get_running_loop()\n"
                  "    send(session, 2, str(await loop.run_in_executor(None, lambda: time.sleep(0.05) or threading.active_count())))\n"
                  "    send(session, 2, await asyncio.to_thread(str, 5))\n"
                  "@message(3)\n"
                  "async def process(session, msg):\n"
                  "    p = await asyncio.create_subprocess_exec('echo', 'child', stdout=asyncio.subprocess.PIPE)\n"
                  "    out, _ = await p.communicate()\n"
                  "    send(session, 3, out)\n"
                  "@message(4)\n"
                  "def from_thread(session, msg):\n"
                  "    loop = asyncio.get_running_loop()\n"
                  "    threading.Thread(target=loop.call_soon_threadsafe, args=(send, session, 4, 'threadsafe')).start()\n");
    rr_script_session_t *bob = session_of(&fake, "bob");
    ck_assert_int_eq(message(&fake, bob, 1, "1", 5), RR_SCRIPT_PENDING);
    ck_assert_int_eq(message(&fake, bob, 2, "1", 6), RR_SCRIPT_PENDING);
    turn_until(&fake, "done 5 0\n");
    EXPECT(&fake, "send 'bob' 1 data echo hello\n");
    turn_until(&fake, "done 6 0\n");
    EXPECT(&fake, "send 'bob' 2 text 5\n");
    ck_assert_int_eq(message(&fake, bob, 4, "1", 8), RR_OK);
    turn_until(&fake, "send 'bob' 4 text threadsafe\n");
    rr_script_session_free(fake.script, bob);
    fake_end(&fake);
}
END_TEST

START_TEST(with_the_host) {
    fake_t fake;
    script(&fake, "@message(1)\n"
                  "async def call(session, msg):\n"
                  "    try: send(session, 1, await rr.call('x', 'y', 1))\n"
                  "    except rr.CallError as error: send(session, 1, str(error))\n"
                  "@rr.on_login\n"
                  "async def login(who):\n"
                  "    await asyncio.sleep(0)\n"
                  "    return who.key\n"
                  "@rr.service('s')\n"
                  "async def serve(msg):\n"
                  "    await asyncio.sleep(0)\n"
                  "    return [msg]\n"
                  "async def init(): await asyncio.sleep(0.01)\n");
    turn_until(&fake, "done 1 0\n");
    rr_script_session_t *bob = session_of(&fake, "bob");
    rr_verdict_t verdict;
    ck_assert_int_eq(message(&fake, bob, 1, "1", 5), RR_SCRIPT_PENDING);
    turn_until(&fake, "call - x y 1 5000\n");
    rr_script_answer(fake.script, fake.last_call, NULL, "\"answer\"", 8);
    turn_until(&fake, "done 5 0\n");
    EXPECT(&fake, "send 'bob' 1 text answer\n");
    ck_assert_int_eq(message(&fake, bob, 1, "1", 6), RR_SCRIPT_PENDING);
    forget(&fake);
    turn_until(&fake, "call - x y 1 5000\n");
    rr_script_answer(fake.script, fake.last_call, "DIED", NULL, 0);
    turn_until(&fake, "send 'bob' 1 text DIED\n");
    ck_assert_int_eq(rr_script_verify(fake.script, "eve", 3, 1, "", "", 9, &verdict), RR_SCRIPT_PENDING);
    turn_until(&fake, "verdict 9 0 'eve' \n");
    rr_script_service(fake.script, 4, "x", "s", "5", 1);
    turn_until(&fake, "reply 4 - =[5]\n");
    rr_script_session_free(fake.script, bob);
    fake_end(&fake);
}
END_TEST

/* The scene changes its thread between turns; a loop's callback that spins is stopped like a handler. */
static void *one_turn(void *argument) {
    fake_t *fake = argument;
    rr_script_enter(fake->script);
    rr_script_run(fake->script);
    rr_script_leave(fake->script);
    thread_over();
    return NULL;
}

START_TEST(threads_and_watchdog) {
    fake_t fake;
    rr_script_options_t options = with_loop;
    options.watchdog_ms = 2000; /* `go`, which does nothing wrong, may have to wait for its CPU */
    fake_start(&fake,
               HEAD "@message(1)\n"
                    "async def go(session, msg):\n"
                    "    for _ in range(3): await asyncio.sleep(0)\n"
                    "    assert asyncio.current_task() and asyncio.get_running_loop()\n"
                    "    send(session, 1, 'there')\n"
                    "@message(2)\n"
                    "async def spin(session, msg):\n"
                    "    await asyncio.sleep(0)\n"
                    "    while True: pass\n",
               &options);
    rr_script_session_t *bob = session_of(&fake, "bob");
    ck_assert_int_eq(message(&fake, bob, 1, "1", 5), RR_SCRIPT_PENDING);
    rr_script_leave(fake.script);
    for (int i = 0; i < 6; i++) {
        pthread_t thread;
        ck_assert_int_eq(pthread_create(&thread, NULL, one_turn, &fake), 0);
        pthread_join(thread, NULL);
    }
    rr_script_enter(fake.script);
    EXPECT(&fake, "send 'bob' 1 text there\n");
    turn_until(&fake, "done 5 0\n");
    ck_assert_int_eq(message(&fake, bob, 2, "1", 6), RR_SCRIPT_PENDING);
    turn_until(&fake, "done 6 -11\n");
    EXPECT(&fake, "HandlerTimeout");
    ck_assert_int_eq(message(&fake, bob, 1, "1", 7), RR_SCRIPT_PENDING);
    turn_until(&fake, "done 7 0\n");
    rr_script_session_free(fake.script, bob);
    fake_end(&fake);
}
END_TEST

START_TEST(ends_while_busy) {
    fake_t fake;
    script(&fake, "async def for_ever():\n"
                  "    try: await asyncio.sleep(1000)\n"
                  "    finally: print('finally')\n"
                  "def init():\n"
                  "    asyncio.create_task(for_ever())\n"
                  "    asyncio.get_running_loop().run_in_executor(None, time.sleep, 0.2)\n");
    rr_script_run(fake.script);
    ck_assert(rr_script_destroy(fake.script));
    EXPECT(&fake, "print finally\n");
    fake_clean(&fake);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("asyncio");
    TCase *tcase = tcase_create("asyncio");
    tcase_add_checked_fixture(tcase, python_up, python_down);
    tcase_add_test(tcase, sleeps);
    tcase_add_test(tcase, sockets_and_threads);
    tcase_add_test(tcase, with_the_host);
    tcase_add_test(tcase, threads_and_watchdog);
    tcase_add_test(tcase, ends_while_busy);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
