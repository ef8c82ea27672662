/* support.h: what the Check programs of net share. */
#ifndef RR_TESTS_NET_SUPPORT_H
#define RR_TESTS_NET_SUPPORT_H

#include <check.h>

/* Runs one test case made of the given functions; the program's exit status. */
#define RUN_TESTS(name, ...)                                                                                           \
    int main(void) {                                                                                                   \
        const TTest *tests[] = {__VA_ARGS__};                                                                          \
        Suite *suite = suite_create(name);                                                                             \
        TCase *tc = tcase_create(name);                                                                                \
        tcase_set_timeout(tc, 60);                                                                                     \
        for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++) {                                                  \
            tcase_add_test(tc, tests[i]);                                                                              \
        }                                                                                                              \
        suite_add_tcase(suite, tc);                                                                                    \
        SRunner *runner = srunner_create(suite);                                                                       \
        srunner_run_all(runner, CK_NORMAL);                                                                            \
        int failed = srunner_ntests_failed(runner);                                                                    \
        srunner_free(runner);                                                                                          \
        return failed != 0;                                                                                            \
    }

#endif
