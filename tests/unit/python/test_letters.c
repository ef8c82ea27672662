/* on_dead_letter: what a script is told, and when it is not. */
#include "fake_host.h"

static int lose(fake_t *fake, uint64_t lost) {
    rr_letter_t letter = {.to = "gate@0", .from = "#2:7", .reason = "LINKDOWN", .what = "to clients", .size = 5, .lost = lost};
    return rr_script_dead_letter(fake->script, &letter);
}

START_TEST(told) {
    fake_t fake;
    fake_start(&fake,
               "import redrabbit\n"
               "@redrabbit.on_dead_letter\n"
               "def lost(letter):\n"
               "    assert isinstance(letter, redrabbit.DeadLetter)\n"
               "    if letter.lost == 7: raise ValueError('seven')\n"
               "    print(letter.to, letter.sender, letter.reason, letter.what, letter.size, letter.lost)\n",
               NULL);
    EXPECT(&fake, "watch dead letters");
    ck_assert_int_eq(lose(&fake, 0), RR_OK);
    EXPECT(&fake, "print gate@0 #2:7 LINKDOWN to clients 5 0");
    ck_assert_int_eq(lose(&fake, 7), RR_EHANDLER);
    EXPECT(&fake, "log 2 PYTHON dead letter: Traceback");
    fake_end(&fake);
}
END_TEST

START_TEST(async_and_reloaded) {
    fake_t fake;
    char why[1000];
    fake_start(&fake,
               "import redrabbit\n"
               "@redrabbit.on_dead_letter\n"
               "async def lost(letter):\n"
               "    await redrabbit.sleep(1)\n"
               "    print('late', letter.size)\n",
               NULL);
    ck_assert_int_eq(lose(&fake, 0), RR_OK);
    ck_assert_uint_eq(times(&fake, "print late"), 0);
    fire_timer(&fake);
    EXPECT(&fake, "print late 5");
    rewrite(&fake, "import redrabbit\n");
    ck_assert(rr_script_reload(fake.script, "game", why, sizeof why));
    ck_assert_int_eq(lose(&fake, 0), RR_ENOENT);
    fake_end(&fake);
}
END_TEST

START_TEST(too_many_watch) {
    fake_t fake;
    fake_init(&fake,
              "import redrabbit\n"
              "try:\n"
              "    redrabbit.on_dead_letter(print)\n"
              "except RuntimeError as error:\n"
              "    print(error)\n");
    fake.move_rc = RR_ELIMIT;
    ck_assert_int_eq(fake_open(&fake, NULL), RR_OK);
    EXPECT(&fake, "print at most 16 scenes of a process can watch dead letters");
    ck_assert_int_eq(lose(&fake, 0), RR_ENOENT);
    fake_end(&fake);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("letters");
    TCase *tcase = tcase_create("letters");
    tcase_add_checked_fixture(tcase, python_up, python_down);
    tcase_add_test(tcase, told);
    tcase_add_test(tcase, async_and_reloaded);
    tcase_add_test(tcase, too_many_watch);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
