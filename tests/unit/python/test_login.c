/* Verifiers: every answer of the table's first row. */
#include "fake_host.h"

static rr_verdict_t verdict;

static int login(fake_t *fake, const char *key, uint64_t cb_id) {
    return rr_script_verify(fake->script, key, strlen(key), 1234, "10.0.0.1", "gate@0", cb_id, &verdict);
}

static void start(fake_t *fake, const char *body) {
    char code[4096];
    snprintf(code, sizeof code, "import ffext, redrabbit\n@ffext.session_verify_callback\n%s", body);
    fake_start(fake, code, NULL);
}

static bool id_is(const char *text) {
    return verdict.code == RR_OK && verdict.id.text && verdict.id.size == strlen(text) &&
           memcmp(verdict.id.text, text, verdict.id.size) == 0;
}

static bool extra_is(const char *text) {
    return verdict.extra && verdict.extra_size == strlen(text) && memcmp(verdict.extra, text, verdict.extra_size) == 0;
}

/* The key chooses the answer; each refusal is logged. */
START_TEST(answers) {
    fake_t fake;
    start(&fake, "def verify(key, online_time, ip, gate):\n"
                 "    assert (online_time, ip, gate) == (1234, '10.0.0.1', 'gate@0')\n"
                 "    return eval(key)\n");
    static const struct {
        const char *key, *id;
        int64_t number;
        const char *extra;
    } good[] = {{"['bob']", "bob", 0, NULL},       {"('bob',)", "bob", 0, NULL},
                {"['b', 'x']", "b", 0, "x"},       {"['b', b'x']", "b", 0, "x"},
                {"['b', {'a': 1}]", "b", 0, "{\"a\": 1}"}, {"['b', None]", "b", 0, NULL},
                {"['b', '']", "b", 0, NULL},       {"[5]", NULL, 5, NULL},
                {"[-7, 'x']", NULL, -7, "x"},      {"['5']", "5", 0, NULL},
                {"['ü']", "ü", 0, NULL},           {"['x' * 255]", NULL, 0, NULL}};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        ck_assert_int_eq(login(&fake, good[i].key, 1), RR_OK);
        ck_assert_msg(verdict.code == RR_OK, "%s %s", good[i].key, fake.record);
        if (good[i].id)
            ck_assert_msg(id_is(good[i].id), "%s", good[i].key);
        if (good[i].number)
            ck_assert(!verdict.id.text && verdict.id.number == good[i].number);
        if (good[i].extra)
            ck_assert_msg(extra_is(good[i].extra), "%s", good[i].key);
        else
            ck_assert_ptr_null(verdict.extra);
    }
    ck_assert_uint_eq(times(&fake, "log"), 0);
    static const char *const bad[] = {"None",  "[]",       "()",      "['']",     "[0]",       "'bob'",
                                      "7",     "True",     "{'a':1}", "[1.5]",    "[None]",    "[True]",
                                      "[b'x']", "['x' * 256]", "[1 << 70]", "['a', 'b', 'c']", "['\\ud800']", "1/0"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ck_assert_int_eq(login(&fake, bad[i], 1), RR_OK);
        ck_assert_msg(verdict.code == RR_EREFUSED && !verdict.extra, "%s", bad[i]);
    }
    EXPECT(&fake, "refused by the verifier");
    EXPECT(&fake, "must return [id] or [id, extra]");
    EXPECT(&fake, "ZeroDivisionError");
    ck_assert_int_eq(login(&fake, "[0, 'tcp://other:1']", 1), RR_OK);
    ck_assert(verdict.code == RR_EREFUSED && extra_is("tcp://other:1"));
    fake_end(&fake);
}
END_TEST

START_TEST(keys) {
    fake_t fake;
    start(&fake, "def verify(key, online_time, ip, gate): return [key]\n");
    ck_assert_int_eq(rr_script_verify(fake.script, "\xff\xfe", 2, 1, "", "", 1, &verdict), RR_OK);
    ck_assert_int_eq(verdict.code, RR_EREFUSED);
    EXPECT(&fake, "the session key is not what the verifier declared");
    fake_end(&fake);
    fake_start(&fake,
               "import ffext\n@ffext.session_verify_callback(protocol='raw')\n"
               "def verify(key, t, ip, gate): return [repr(key)]\n",
               NULL);
    ck_assert_int_eq(rr_script_verify(fake.script, "\xff\xfe", 2, 1, "", "", 1, &verdict), RR_OK);
    ck_assert(id_is("b'\\xff\\xfe'"));
    fake_end(&fake);
}
END_TEST

START_TEST(no_verifier) {
    fake_t fake;
    fake_start(&fake, "import ffext\n", NULL);
    ck_assert_int_eq(login(&fake, "bob", 1), RR_OK);
    ck_assert(id_is("bob"));
    ck_assert_int_eq(login(&fake, "bob", 1), RR_OK);
    ck_assert_uint_eq(times(&fake, "no session_verify_callback"), 1);
    ck_assert_int_eq(login(&fake, "", 1), RR_OK);
    ck_assert_int_eq(verdict.code, RR_EREFUSED);
    fake_end(&fake);
}
END_TEST

START_TEST(int_ids) {
    fake_t fake;
    fake_start(&fake,
               "import ffext\n@ffext.session_verify_callback\n"
               "def verify(key, t, ip, gate): return [key, 'e']\n",
               &(rr_script_options_t){.session_id_int = true});
    ck_assert_int_eq(login(&fake, "12", 1), RR_OK);
    ck_assert(verdict.code == RR_OK && !verdict.id.text && verdict.id.number == 12);
    ck_assert_int_eq(login(&fake, "-9223372036854775808", 1), RR_OK);
    ck_assert(!verdict.id.text && verdict.id.number == INT64_MIN);
    ck_assert_int_eq(login(&fake, "99999999999999999999", 1), RR_OK);
    ck_assert(id_is("99999999999999999999"));
    ck_assert_int_eq(login(&fake, "12x", 1), RR_OK);
    ck_assert(id_is("12x"));
    ck_assert_int_eq(login(&fake, "0", 1), RR_OK);
    ck_assert_int_eq(verdict.code, RR_EREFUSED);
    fake_end(&fake);
}
END_TEST

START_TEST(late_answers) {
    fake_t fake;
    start(&fake, "def verify(key, online_time, ip, gate, cb_id):\n"
                 "    if key == 'inside': ffext.on_verify_auth_callback('me', 'extra', cb_id)\n"
                 "    if key == 'both': ffext.on_verify_auth_callback('first', '', cb_id); return ['second']\n"
                 "    if key == 'twice':\n"
                 "        assert ffext.on_verify_auth_callback('first', '', cb_id)\n"
                 "        assert not ffext.on_verify_auth_callback('second', '', cb_id)\n"
                 "    if key == 'now': return ['now']\n"
                 "    if key == 'empty': return []\n"
                 "    if key == 'raises': raise ValueError(key)\n"
                 "@ffext.session_call(1)\n"
                 "def later(id, msg): ffext.on_verify_auth_callback(*msg)\n");
    ck_assert_int_eq(login(&fake, "wait", 1), RR_SCRIPT_PENDING);
    ck_assert_int_eq(login(&fake, "empty", 2), RR_SCRIPT_PENDING);
    ck_assert_int_eq(login(&fake, "now", 3), RR_OK);
    ck_assert(id_is("now"));
    ck_assert_int_eq(login(&fake, "inside", 4), RR_OK);
    ck_assert(id_is("me") && extra_is("extra"));
    ck_assert_int_eq(login(&fake, "both", 5), RR_OK);
    ck_assert(id_is("first") && !verdict.extra);
    ck_assert_int_eq(login(&fake, "twice", 6), RR_OK);
    ck_assert(id_is("first"));
    ck_assert_uint_eq(times(&fake, "unknown or already answered cb_id 6"), 1);
    ck_assert_int_eq(login(&fake, "raises", 7), RR_OK);
    ck_assert_int_eq(verdict.code, RR_EREFUSED);
    rr_script_session_t *bob = session_of(&fake, "bob");
    ck_assert_int_eq(message(&fake, bob, 1, "[\"late\", \"x\", 1]", 9), RR_OK);
    EXPECT(&fake, "verdict 1 0 'late' x\n");
    ck_assert_int_eq(message(&fake, bob, 1, "[0, \"go away\", 2]", 9), RR_OK);
    EXPECT(&fake, "verdict 2 -25 - go away\n");
    ck_assert_int_eq(message(&fake, bob, 1, "[\"x\", \"\", 404]", 9), RR_OK);
    ck_assert_uint_eq(times(&fake, "log 3 PYTHON on_verify_auth_callback: unknown or already answered cb_id 404"), 1);
    rr_script_session_free(fake.script, bob);
    fake_end(&fake);
}
END_TEST

START_TEST(async_verifiers) {
    fake_t fake;
    start(&fake, "async def verify(key, online_time, ip, gate):\n"
                 "    if key == 'now': return ['now']\n"
                 "    await redrabbit.sleep(1)\n"
                 "    return eval(key)\n");
    ck_assert_int_eq(login(&fake, "now", 1), RR_OK);
    ck_assert(id_is("now"));
    ck_assert_int_eq(login(&fake, "['later', 'x']", 2), RR_SCRIPT_PENDING);
    ck_assert_int_eq(login(&fake, "None", 3), RR_SCRIPT_PENDING);
    ck_assert_int_eq(login(&fake, "1/0", 4), RR_SCRIPT_PENDING);
    for (int i = 0; i < 3; i++)
        fire_timer(&fake);
    EXPECT(&fake, "verdict 2 0 'later' x\n");
    EXPECT(&fake, "verdict 3 -25 - \n");
    EXPECT(&fake, "verdict 4 -25 - \n");
    EXPECT(&fake, "ZeroDivisionError");
    fake_end(&fake);
    start(&fake, "async def verify(key, online_time, ip, gate, cb_id):\n"
                 "    if key == 'early': ffext.on_verify_auth_callback('early', '', cb_id)\n"
                 "    await redrabbit.sleep(1)\n"
                 "    if key == 'late': ffext.on_verify_auth_callback('late', '', cb_id)\n");
    ck_assert_int_eq(login(&fake, "early", 5), RR_OK);
    ck_assert(id_is("early"));
    ck_assert_int_eq(login(&fake, "late", 6), RR_SCRIPT_PENDING);
    fire_timer(&fake);
    fire_timer(&fake);
    EXPECT_NOT(&fake, "verdict 5");
    ck_assert_uint_eq(times(&fake, "verdict 6 0 'late'"), 1);
    fake_end(&fake);
}
END_TEST

START_TEST(modern) {
    fake_t fake;
    fake_start(&fake,
               "import redrabbit\n"
               "@redrabbit.on_login\n"
               "def login(who: redrabbit.Login):\n"
               "    assert who.ip == '10.0.0.1' and who.gate == 'gate@0' and who.online_time == 1234\n"
               "    if who.key == 'banned': raise redrabbit.Refuse('bye')\n"
               "    if who.key == 'pair': return 7, 'hello'\n"
               "    return who.key if who.key != 'none' else None\n",
               NULL);
    ck_assert_int_eq(login(&fake, "bob", 1), RR_OK);
    ck_assert(id_is("bob"));
    ck_assert_int_eq(login(&fake, "banned", 1), RR_OK);
    ck_assert(verdict.code == RR_EREFUSED && extra_is("bye"));
    ck_assert_int_eq(login(&fake, "pair", 1), RR_OK);
    ck_assert(verdict.code == RR_OK && verdict.id.number == 7 && extra_is("hello"));
    ck_assert_int_eq(login(&fake, "none", 1), RR_OK);
    ck_assert_int_eq(verdict.code, RR_EREFUSED);
    fake_end(&fake);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("login");
    TCase *tcase = tcase_create("login");
    tcase_add_checked_fixture(tcase, python_up, python_down);
    tcase_add_test(tcase, answers);
    tcase_add_test(tcase, keys);
    tcase_add_test(tcase, no_verifier);
    tcase_add_test(tcase, int_ids);
    tcase_add_test(tcase, late_answers);
    tcase_add_test(tcase, async_verifiers);
    tcase_add_test(tcase, modern);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
