/* Hot reload: changed, broken and half-failing code. */
#include "fake_host.h"

#define FIRST                                                                                                          \
    "import ffext, helper\n"                                                                                           \
    "state = {'kept': 1}\n"                                                                                            \
    "VERSION = 1\n"                                                                                                    \
    "old_name = 'still here'\n"                                                                                        \
    "class counter:\n"                                                                                                 \
    "    def __init__(self): self.n = 0\n"                                                                             \
    "    def step(self): self.n += 1; return ('first', self.n)\n"                                                      \
    "@ffext.session_call(1)\n"                                                                                         \
    "def one(id, msg): ffext.send_msg_session(id, 1, f'first {VERSION} {ffext.singleton(counter).step()}')\n"          \
    "@ffext.session_call(2)\n"                                                                                         \
    "def gone(id, msg): ffext.send_msg_session(id, 1, 'two')\n"                                                        \
    "@ffext.session_call(3)\n"                                                                                         \
    "def again(id, msg): ffext.send_msg_session(id, 1, 'reload: ' + ffext.reload(msg))\n"                              \
    "ffext.every_timer(100, lambda: ffext.send_msg_session('t', 1, 'tick'))\n"

#define SECOND                                                                                                         \
    "import ffext, helper\n"                                                                                           \
    "VERSION = 2\n"                                                                                                    \
    "class counter:\n"                                                                                                 \
    "    def __init__(self): self.n = 0\n"                                                                             \
    "    def step(self): self.n += 10; return ('second', self.n)\n"                                                    \
    "@ffext.session_call(1)\n"                                                                                         \
    "def one(id, msg): ffext.send_msg_session(id, 1, f'second {VERSION} {ffext.singleton(counter).step()}')\n"         \
    "@ffext.session_call(3)\n"                                                                                         \
    "def again(id, msg): ffext.send_msg_session(id, 1, 'reload: ' + ffext.reload(msg) + old_name)\n"

static void start(fake_t *fake) {
    char path[200];
    fake_init(fake, FIRST);
    snprintf(path, sizeof path, "%s/helper.py", fake->folder);
    write_text(path, "import ffext\n@ffext.session_call(9)\ndef nine(id, msg): ffext.send_msg_session(id, 9, 'nine')\n");
    ck_assert_msg(fake_open(fake, NULL) == RR_OK, "%s", fake->why);
}

static void say(fake_t *fake, rr_script_session_t *bob, uint16_t cmd, const char *body) {
    ck_assert_int_eq(message(fake, bob, cmd, body, 1), RR_OK);
}

START_TEST(changed) {
    fake_t fake;
    rr_script_stats_t before, after;
    start(&fake);
    rr_script_session_t *bob = session_of(&fake, "bob");
    rr_script_stats(fake.script, &before);
    ck_assert_uint_eq(before.version, 1);
    say(&fake, bob, 1, "0");
    EXPECT(&fake, "first 1 ('first', 1)\n");
    rewrite(&fake, SECOND);
    say(&fake, bob, 3, "\"game\""); /* from inside a handler of the module itself */
    EXPECT(&fake, "reload: \n");
    say(&fake, bob, 1, "0");
    EXPECT(&fake, "second 2 ('second', 11)\n"); /* the singleton kept its count and took the new class */
    ck_assert_int_eq(message(&fake, bob, 2, "0", 1), RR_ENOENT);
    say(&fake, bob, 9, "0"); /* another module's registration stays */
    EXPECT(&fake, "send 'bob' 9 text nine\n");
    say(&fake, bob, 3, "\"game\"");
    EXPECT(&fake, "reload: still here\n"); /* same namespace: old names remain */
    rr_script_timer(fake.script, fake.timers[0]);
    EXPECT(&fake, "send 't' 1 text tick\n");
    rr_script_stats(fake.script, &after);
    ck_assert_uint_eq(after.version, 3);
    ck_assert_uint_eq(after.reloads, 2);
    ck_assert(after.source_hash != before.source_hash);
    rr_script_session_free(fake.script, bob);
    fake_end(&fake);
}
END_TEST

static void works_as_before(fake_t *fake, rr_script_session_t *bob) {
    forget(fake);
    say(fake, bob, 1, "0");
    EXPECT(fake, "first 1 ('first', ");
    say(fake, bob, 2, "0");
    EXPECT(fake, "send 'bob' 1 text two\n");
    say(fake, bob, 9, "0");
    EXPECT(fake, "nine");
    ck_assert_int_eq(message(fake, bob, 5, "0", 1), RR_ENOENT);
    rr_script_timer(fake->script, fake->timers[0]);
    EXPECT(fake, "tick");
}

START_TEST(failing) {
    static const struct {
        const char *code, *error;
    } cases[] = {
        {"def broken(:\n", "SyntaxError"},
        {SECOND "@ffext.session_call(5)\ndef five(id, msg): pass\n"
                "ffext.singleton(counter).step()\n"
                "new_name = 1\ndel old_name, state\nraise ValueError('half way')\n",
         "ValueError: half way"},
        {"import ffext\nimport no_such_module\n", "ModuleNotFoundError"},
        {"import sys\nVERSION = 7\nsys.exit(3)\n", "SystemExit"},
    };
    fake_t fake;
    char why[4096];
    rr_script_stats_t stats;
    start(&fake);
    rr_script_session_t *bob = session_of(&fake, "bob");
    say(&fake, bob, 1, "0");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        rewrite(&fake, cases[i].code);
        ck_assert(!rr_script_reload(fake.script, "game", why, sizeof why));
        ck_assert_msg(strstr(why, cases[i].error), "%s", why);
        ck_assert_msg(strstr(why, "game.py"), "%s", why);
        ck_assert_msg(!strstr(why, "_host.py"), "%s", why);
        works_as_before(&fake, bob);
    }
    rr_script_stats(fake.script, &stats);
    ck_assert_uint_eq(stats.version, 1);
    rewrite(&fake, SECOND);
    ck_assert(rr_script_reload(fake.script, "game", why, sizeof why));
    ck_assert_str_eq(why, "");
    say(&fake, bob, 1, "0");
    EXPECT(&fake, "second 2 ('second', ");
    rr_script_session_free(fake.script, bob);
    fake_end(&fake);
}
END_TEST

START_TEST(others) {
    fake_t fake;
    char why[4096], path[200];
    start(&fake);
    rr_script_session_t *bob = session_of(&fake, "bob");
    ck_assert(!rr_script_reload(fake.script, "nothing", why, sizeof why));
    ck_assert_ptr_nonnull(strstr(why, "module 'nothing' is not loaded"));
    ck_assert(!rr_script_reload(fake.script, "ffext", why, sizeof why));
    ck_assert(!rr_script_reload(fake.script, "sys", why, sizeof why));
    snprintf(path, sizeof path, "%s/helper.py", fake.folder);
    write_text(path, "import ffext\n@ffext.session_call(9)\ndef nine(id, msg): ffext.send_msg_session(id, 9, 'neun')\n");
    ck_assert(rr_script_reload(fake.script, "helper", why, sizeof why));
    say(&fake, bob, 9, "0");
    EXPECT(&fake, "neun");
    say(&fake, bob, 1, "0");
    rewrite(&fake, "# coding=latin-1\nimport ffext\n@ffext.session_call(1)\n"
                   "def one(id, msg): ffext.send_msg_session(id, 1, '\xe4')\n");
    ck_assert_msg(rr_script_reload(fake.script, "game", why, sizeof why), "%s", why);
    say(&fake, bob, 1, "0");
    EXPECT(&fake, "ä");
    ck_assert_int_eq(unlink(fake.file), 0);
    ck_assert(!rr_script_reload(fake.script, "game", why, sizeof why));
    ck_assert_ptr_nonnull(strstr(why, "FileNotFoundError"));
    rr_script_session_free(fake.script, bob);
    fake_end(&fake);
}
END_TEST

/* g_… assigned and decorated callbacks of the module fall away with it and come back with a failed reload. */
START_TEST(callbacks) {
    fake_t fake;
    char why[4096];
    fake_start(&fake, "import ffext\ndef enter(id, f, e): print('old enter')\nffext.g_session_enter_callback = enter\n",
               NULL);
    rr_script_session_t *bob = session_of(&fake, "bob");
    rewrite(&fake, "import ffext\n@ffext.session_enter_callback\ndef enter(id, f, e): print('new enter')\n1 / 0\n");
    ck_assert(!rr_script_reload(fake.script, "game", why, sizeof why));
    ck_assert_int_eq(rr_script_enter_session(fake.script, bob, "", NULL, 0, 1), RR_OK);
    EXPECT(&fake, "old enter");
    rewrite(&fake, "import ffext\n");
    ck_assert(rr_script_reload(fake.script, "game", why, sizeof why));
    forget(&fake);
    ck_assert_int_eq(rr_script_enter_session(fake.script, bob, "", NULL, 0, 1), RR_OK);
    EXPECT_NOT(&fake, "enter");
    rr_script_session_free(fake.script, bob);
    fake_end(&fake);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("reload");
    TCase *tcase = tcase_create("reload");
    tcase_add_checked_fixture(tcase, python_up, python_down);
    tcase_add_test(tcase, changed);
    tcase_add_test(tcase, failing);
    tcase_add_test(tcase, others);
    tcase_add_test(tcase, callbacks);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
