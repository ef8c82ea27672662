/* check_main.h: what every Check program needs around its cases. */
#ifndef RR_TESTS_CHECK_MAIN_H
#define RR_TESTS_CHECK_MAIN_H

#include <check.h>
#include <signal.h>
#include <stdlib.h>

/* Runs one suite of one case with these tests; each runs in a process of its own (CK_FORK=no to debug). */
static inline int check_run(const char *name, const TTest *const *tests, size_t count) {
    signal(SIGPIPE, SIG_IGN); /* as the program does: a broken connection is an error, not the end */
    Suite *suite = suite_create(name);
    TCase *all = tcase_create(name);
    for (size_t i = 0; i < count; i++)
        tcase_add_test(all, tests[i]);
    suite_add_tcase(suite, all);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

#define CHECK_MAIN(name, ...)                                                                                          \
    int main(void) {                                                                                                   \
        const TTest *const tests[] = {__VA_ARGS__};                                                                    \
        return check_run(name, tests, sizeof tests / sizeof *tests);                                                   \
    }

#endif
