/* The seed's chat room script's handlers, and the callbacks of ffext. */
#include "fake_host.h"

static const char chat[] = "# coding=UTF-8\n"
                           "import ffext\n"
                           "class players_t(object):\n"
                           "    def __init__(self): self.all = {}\n"
                           "@ffext.session_call(1)\n"
                           "def chat(session_id, msg):\n"
                           "    print('chat %s %s' % (session_id, msg[0]))\n"
                           "    ffext.broadcast_msg_session(1, '[%s]:%s' % (session_id, msg[0]))\n"
                           "@ffext.session_verify_callback\n"
                           "def verify(session_key, online_time, ip, gate_name):\n"
                           "    return [session_key]\n"
                           "@ffext.session_offline_callback\n"
                           "def offline(session_id, online_time):\n"
                           "    del ffext.singleton(players_t).all[session_id]\n"
                           "    ffext.broadcast_msg_session(1, ffext.singleton(players_t).all.keys())\n"
                           "@ffext.session_enter_callback\n"
                           "def enter(session_id, from_scene, extra_data):\n"
                           "    ffext.send_msg_session(session_id, 1, '欢迎')\n"
                           "    ffext.singleton(players_t).all[session_id] = 1\n"
                           "    ffext.broadcast_msg_session(1, ffext.singleton(players_t).all.keys())\n"
                           "print('loading.......')\n";

static int enter(fake_t *fake, rr_script_session_t *session) {
    return rr_script_enter_session(fake->script, session, "", NULL, 0, 10);
}

START_TEST(chat_room) {
    fake_t fake;
    rr_verdict_t verdict;
    fake_start(&fake, chat, &(rr_script_options_t){.interpreter = _i});
    EXPECT(&fake, "print loading.......\n");
    ck_assert_int_eq(rr_script_verify(fake.script, "bob", 3, 1, "127.0.0.1", "gate@0", 7, &verdict), RR_OK);
    ck_assert_int_eq(verdict.code, RR_OK);
    ck_assert_uint_eq(verdict.id.size, 3);
    rr_script_session_t *bob = session_of(&fake, "bob"), *eve = session_of(&fake, "eve");
    ck_assert_int_eq(enter(&fake, bob), RR_OK);
    ck_assert_int_eq(enter(&fake, eve), RR_OK);
    EXPECT(&fake, "send 'bob' 1 text 欢迎\n");
    EXPECT(&fake, "broadcast 1 text [\"bob\", \"eve\"]\n");
    ck_assert_int_eq(message(&fake, bob, 1, "[\"你好\"]", 11), RR_OK);
    EXPECT(&fake, "print chat bob 你好\n");
    EXPECT(&fake, "broadcast 1 text [bob]:你好\n");
    ck_assert_int_eq(rr_script_offline(fake.script, bob, 1, "closed", 12), RR_OK);
    rr_script_session_free(fake.script, bob);
    EXPECT(&fake, "broadcast 1 text [\"eve\"]\n");
    rr_script_session_free(fake.script, eve);
    fake_end(&fake);
}
END_TEST

START_TEST(seed_script) {
    const char *source = getenv("RR_SEED_SCRIPT");
    if (!source || access(source, R_OK) != 0)
        return; /* the original's text is not part of the project */
    fake_t fake;
    char command[512];
    fake_init(&fake, "");
    snprintf(command, sizeof command, "cp '%s' %s", source, fake.file);
    ck_assert_int_eq(system(command), 0);
    ck_assert_msg(fake_open(&fake, NULL) == RR_OK, "%s", fake.why);
    rr_script_session_t *bob = session_of(&fake, "bob");
    ck_assert_int_eq(enter(&fake, bob), RR_OK);
    ck_assert_int_eq(message(&fake, bob, 1, "[\"hi\"]", 1), RR_OK);
    EXPECT(&fake, "print process_chat session_id=bob content=hi\n");
    EXPECT(&fake, "]:</font>hi\n");
    rr_script_session_free(fake.script, bob);
    fake_end(&fake);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("seed");
    TCase *tcase = tcase_create("seed");
    tcase_add_checked_fixture(tcase, python_up, python_down);
    tcase_add_loop_test(tcase, chat_room, RR_INTERPRETER_DEFAULT, RR_INTERPRETER_DEFAULT + 1);
    tcase_add_loop_test(tcase, chat_room, RR_INTERPRETER_SHARED, RR_INTERPRETER_MAIN + 1);
    tcase_add_test(tcase, seed_script);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
