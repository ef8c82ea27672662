/* Hot reload: changed, broken and half-failing code; what was saved, and what imports it. */
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

#define BYTES(text) text, sizeof text - 1

static void write_bytes(const char *path, const char *bytes, size_t size) {
    FILE *file = fopen(path, "we");
    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fwrite(bytes, 1, size, file), size);
    ck_assert_int_eq(fclose(file), 0);
}

/* What compile() tells without a place, what it lets through though `python FILE` does not, and what is too much for it. */
static const struct {
    const char *code;
    size_t size;
    const char *error, *line;
} bad_bytes[] = {
    {BYTES("import ffext\n# a\0b\n"), "a null byte", "2"},
    {BYTES("x = 1\n\ny = 'a\0b'\n"), "a null byte", "3"},
    {BYTES("x = 1\n# caf\xe9\n"), "byte 0xe9 is not utf-8", "2"},
    {BYTES("x = 'caf\xe9'\n"), "byte 0xe9 is not utf-8", "1"},
    {BYTES("# coding: utf-8\n# caf\xe9\n"), "byte 0xe9 is not utf-8", "2"},
    {BYTES("# coding: ascii\n\n# caf\xe9\n"), "byte 0xe9 is not ascii", "3"},
    {BYTES("# coding: nonsense\n"), "unknown encoding: nonsense", "1"},
    {NULL, 0, "nested too deeply", "2"},
};
#define BAD_BYTES (sizeof bad_bytes / sizeof *bad_bytes)

static void write_bad_bytes(const char *path, size_t index) {
    static char deep[100000];
    memset(deep, '-', sizeof deep);
    memcpy(deep, BYTES("x = 1\ny = "));
    memcpy(deep + sizeof deep - 8, BYTES("1\nz = 1\n"));
    if (bad_bytes[index].code)
        write_bytes(path, bad_bytes[index].code, bad_bytes[index].size);
    else
        write_bytes(path, deep, sizeof deep);
}

START_TEST(bytes_that_are_no_source) {
    fake_t fake;
    char why[4096], place[100];
    start(&fake);
    rr_script_session_t *bob = session_of(&fake, "bob");
    say(&fake, bob, 1, "0");
    for (size_t i = 0; i < BAD_BYTES; i++) {
        write_bad_bytes(fake.file, i);
        ck_assert(!rr_script_reload(fake.script, "game", why, sizeof why));
        snprintf(place, sizeof place, "game.py\", line %s", bad_bytes[i].line);
        ck_assert_msg(strstr(why, place) && strstr(why, "SyntaxError: ") && strstr(why, bad_bytes[i].error), "%zu: %s", i, why);
        ck_assert_msg(!strstr(why, "_host.py"), "%s", why);
        works_as_before(&fake, bob);
    }
    rr_script_session_free(fake.script, bob);
    fake_end(&fake);
}
END_TEST

START_TEST(bytes_that_are_no_source_at_the_start) {
    fake_t fake;
    char place[100];
    for (size_t i = 0; i < BAD_BYTES; i++) {
        fake_init(&fake, "");
        write_bad_bytes(fake.file, i);
        ck_assert_int_eq(fake_open(&fake, NULL), RR_EHANDLER);
        snprintf(place, sizeof place, "game.py:%s: SyntaxError: %s", bad_bytes[i].line, bad_bytes[i].error);
        ck_assert_msg(strstr(fake.why, place), "%zu: %s", i, fake.why);
        fake_end(&fake);
    }
}
END_TEST

/* In the place of the script's file: nothing, a folder, a pipe that nobody writes, 100 MB. */
START_TEST(files_that_are_no_script) {
    static const char *const errors[] = {"No such file or directory", "Is a directory", "a script is a plain file",
                                         "104857600 bytes are too many for a script"};
    fake_t fake;
    char why[4096];
    start(&fake);
    rr_script_session_t *bob = session_of(&fake, "bob");
    say(&fake, bob, 1, "0");
    for (int i = 0; i < 4; i++) {
        ck_assert_int_eq(remove(fake.file), 0);
        if (i == 1)
            ck_assert_int_eq(mkdir(fake.file, 0755), 0);
        if (i == 2)
            ck_assert_int_eq(mkfifo(fake.file, 0644), 0);
        if (i == 3) {
            write_text(fake.file, "");
            ck_assert_int_eq(truncate(fake.file, 100 << 20), 0);
        }
        ck_assert(!rr_script_reload(fake.script, "game", why, sizeof why));
        ck_assert_msg(strstr(why, errors[i]) && strstr(why, fake.file), "%s", why);
        works_as_before(&fake, bob);
        if (i == 0)
            write_text(fake.file, "");
    }
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

/* Timers call what their function's name, or the singleton's method, stands for now; what has no such name goes on. */
START_TEST(timers) {
    static const char *const code = "import ffext\n"
                                    "@ffext.singleton\nclass world:\n    n = 0\n"
                                    "    def tick(self): self.n += 1; print('%s world', self.n)\n"
                                    "def tick(word): print('%s', word)\n"
                                    "class group:\n    @staticmethod\n    def tick(): print('%s group')\n"
                                    "if 'started' not in globals():\n"
                                    "    started = True\n"
                                    "    ffext.every_timer(100, tick, 'tick')\n"
                                    "    ffext.every_timer(100, world.tick)\n"
                                    "    ffext.every_timer(100, group.tick)\n"
                                    "    ffext.every_timer(100, lambda word='%s': print(word, 'lambda'))\n"
                                    "    ffext.once_timer(100, tick, 'once')\n";
    fake_t fake;
    char text[2000], why[4096];
    snprintf(text, sizeof text, code, "old", "old", "old", "old");
    fake_start(&fake, text, NULL);
    for (int i = 0; i < 4; i++)
        rr_script_timer(fake.script, fake.timers[i]);
    EXPECT(&fake, "old world 1\n");
    snprintf(text, sizeof text, code, "new", "new", "new", "new");
    rewrite(&fake, text);
    ck_assert_msg(rr_script_reload(fake.script, "game", why, sizeof why), "%s", why);
    forget(&fake);
    for (int i = 0; i < 5; i++)
        rr_script_timer(fake.script, fake.timers[i]);
    EXPECT(&fake, "new tick\n");
    EXPECT(&fake, "new world 2\n");
    EXPECT(&fake, "new group\n");
    EXPECT(&fake, "old lambda\n");
    EXPECT(&fake, "new once\n");
    rewrite(&fake, "1 / 0\n");
    ck_assert(!rr_script_reload(fake.script, "game", why, sizeof why));
    rewrite(&fake, "pass\n" /* the name stays, and so does its function */);
    ck_assert_msg(rr_script_reload(fake.script, "game", why, sizeof why), "%s", why);
    forget(&fake);
    rr_script_timer(fake.script, fake.timers[0]);
    EXPECT(&fake, "new tick\n");
    fake_end(&fake);
}
END_TEST

/* ---- What was saved ---- */

static void save(fake_t *fake, const char *name, const char *text) {
    char path[300];
    snprintf(path, sizeof path, "%s/%s", fake->folder, name);
    write_text(path, text);
}

static void open_watched(fake_t *fake) {
    rr_script_options_t options = {.reload_on_save = true};
    ck_assert_msg(fake_open(fake, &options) == RR_OK, "%s", fake->why);
}

#define LOOK(fake, fine, want)                                                                                         \
    do {                                                                                                               \
        char text_[4096];                                                                                              \
        bool fine_ = rr_script_look((fake)->script, text_, sizeof text_);                                              \
        ck_assert_msg(fine_ == (fine) && ((fine) ? strcmp(text_, want) == 0 : strstr(text_, want) != NULL), "%d %s", fine_, text_); \
    } while (0)

#define GAME                                                                                                           \
    "import ffext\nfrom rules import price\n"                                                                          \
    "@ffext.session_call(1)\ndef one(id, msg): ffext.send_msg_session(id, 1, f'{VERSION} {price()}')\n"

START_TEST(saved) {
    fake_t fake;
    rr_script_stats_t stats;
    fake_init(&fake, GAME "VERSION = 'old'\n");
    save(&fake, "rules.py", "def price(): return 1\n");
    save(&fake, "alone.py", "1 / 0\n"); /* imported by nobody */
    open_watched(&fake);
    rr_script_session_t *bob = session_of(&fake, "bob");
    LOOK(&fake, true, "");
    rewrite(&fake, GAME "VERSION = 'old'\n"); /* the same text again */
    LOOK(&fake, true, "");
    save(&fake, "rules.py", "def price(): return 2\n"); /* as long as before, within the same second */
    LOOK(&fake, true, "rules.py, game.py");
    say(&fake, bob, 1, "0");
    EXPECT(&fake, "old 2\n");
    LOOK(&fake, true, "");
    rewrite(&fake, GAME "VERSION = 'new'\n");
    LOOK(&fake, true, "game.py");
    save(&fake, "rules.py", ""); /* about to be written */
    LOOK(&fake, true, "");
    char path[300];
    snprintf(path, sizeof path, "%s/rules.py", fake.folder);
    ck_assert_int_eq(unlink(path), 0);
    LOOK(&fake, true, "");
    say(&fake, bob, 1, "0");
    EXPECT(&fake, "new 2\n");
    rr_script_stats(fake.script, &stats);
    ck_assert_uint_eq(stats.version, 3);
    rr_script_session_free(fake.script, bob);
    fake_end(&fake);
}
END_TEST

START_TEST(saved_with_errors) {
    fake_t fake;
    fake_init(&fake, GAME "VERSION = 'old'\n1 / __import__('rules').parts\n");
    save(&fake, "rules.py", "def price(): return 1\nparts = 1\n");
    open_watched(&fake);
    rr_script_session_t *bob = session_of(&fake, "bob");
    save(&fake, "rules.py", "x = 1\ndef price() return 2\n");
    LOOK(&fake, false, "rules.py\", line 2\n");
    LOOK(&fake, false, "SyntaxError"); /* as long as it is there */
    save(&fake, "rules.py", "def price(): return 1\nparts = 1\n");
    LOOK(&fake, true, "rules.py"); /* taken back */
    LOOK(&fake, true, "");
    save(&fake, "rules.py", "def price(): return 2\nparts = 0\n"); /* what imports it fails: nothing of both is new */
    LOOK(&fake, false, "game.py\", line 6, in <module>\n");
    say(&fake, bob, 1, "0");
    EXPECT(&fake, "old 1\n");
    save(&fake, "rules.py", "def price(): return 3\nparts = 1\n");
    LOOK(&fake, true, "rules.py, game.py");
    say(&fake, bob, 1, "0");
    EXPECT(&fake, "old 3\n");
    rr_script_session_free(fake.script, bob);
    fake_end(&fake);
}
END_TEST

/* What a failed attempt has imported is imported again, with its handlers; also by the plain reload. */
START_TEST(new_modules) {
    fake_t fake;
    char why[4096];
    fake_init(&fake, "import ffext\n");
    open_watched(&fake);
    rr_script_session_t *bob = session_of(&fake, "bob");
    rewrite(&fake, "import ffext\nimport more\n");
    LOOK(&fake, false, "ModuleNotFoundError: No module named 'more'");
    save(&fake, "more.py", "import ffext\n@ffext.session_call(4)\ndef four(id, msg): print('four')\n1 / 0\n");
    LOOK(&fake, false, "more.py\", line 4, in <module>\n");
    ck_assert_int_eq(message(&fake, bob, 4, "0", 1), RR_ENOENT);
    save(&fake, "more.py", "import ffext\n@ffext.session_call(4)\ndef four(id, msg): print('four')\n");
    rewrite(&fake, "import ffext\nimport more\n1 / 0\n");
    ck_assert(!rr_script_reload(fake.script, "game", why, sizeof why));
    ck_assert_int_eq(message(&fake, bob, 4, "0", 1), RR_ENOENT);
    rewrite(&fake, "import ffext\nimport more\n");
    LOOK(&fake, true, "game.py");
    say(&fake, bob, 4, "0");
    EXPECT(&fake, "four\n");
    save(&fake, "more.py", "import ffext\n@ffext.session_call(4)\ndef four(id, msg): print('vier')\n");
    LOOK(&fake, true, "more.py, game.py");
    say(&fake, bob, 4, "0");
    EXPECT(&fake, "vier\n");
    rr_script_session_free(fake.script, bob);
    fake_end(&fake);
}
END_TEST

/* Each runs behind what it imports, absolutely or relatively, however long the chain; circles end. */
START_TEST(saved_packages) {
    fake_t fake;
    char path[300];
    fake_init(&fake, "import world.map as world_map, helper\nprint('game', world_map.SIZE)\n");
    snprintf(path, sizeof path, "%s/world", fake.folder);
    ck_assert_int_eq(mkdir(path, 0700), 0);
    save(&fake, "world/__init__.py", "\n");
    save(&fake, "world/map.py", "from . import base\nfrom .base import UNIT\nSIZE = 10 * UNIT\nimport helper\n");
    save(&fake, "world/base.py", "UNIT = 1\n");
    save(&fake, "helper.py", "import sys\nif 'game' in sys.modules: import game\ndef late(): import world.base\n");
    open_watched(&fake);
    EXPECT(&fake, "game 10\n");
    save(&fake, "world/base.py", "UNIT = 2\n");
    LOOK(&fake, true, "helper.py, world/base.py, world/map.py, game.py");
    EXPECT(&fake, "game 20\n");
    fake_end(&fake);
}
END_TEST

START_TEST(not_watched) {
    fake_t fake;
    fake_start(&fake, "import ffext\n", NULL);
    rewrite(&fake, "import ffext\nprint('new')\n");
    LOOK(&fake, true, "");
    fake_end(&fake);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("reload");
    TCase *tcase = tcase_create("reload");
    tcase_add_checked_fixture(tcase, python_up, python_down);
    tcase_add_test(tcase, changed);
    tcase_add_test(tcase, failing);
    tcase_add_test(tcase, bytes_that_are_no_source);
    tcase_add_test(tcase, bytes_that_are_no_source_at_the_start);
    tcase_add_test(tcase, files_that_are_no_script);
    tcase_add_test(tcase, others);
    tcase_add_test(tcase, callbacks);
    tcase_add_test(tcase, timers);
    tcase_add_test(tcase, saved);
    tcase_add_test(tcase, saved_with_errors);
    tcase_add_test(tcase, new_modules);
    tcase_add_test(tcase, saved_packages);
    tcase_add_test(tcase, not_watched);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
