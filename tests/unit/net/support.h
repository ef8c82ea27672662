/* support.h: what the Check programs of net share. */
#ifndef RR_TESTS_NET_SUPPORT_H
#define RR_TESTS_NET_SUPPORT_H

#include "tests/unit/check_main.h"

/* Runs one test case made of the given functions; the program's exit status. */
#define RUN_TESTS CHECK_MAIN

#endif
