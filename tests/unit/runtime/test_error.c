/* The error table: texts, names, errno. */
#include <errno.h>
#include <string.h>

#include "runtime/error.h"
#include "tests/unit/check_main.h"

START_TEST(texts_and_names) {
    ck_assert_str_eq(rr_strerror(RR_OK), "ok");
    ck_assert_str_eq(rr_strerror(RR_TIMEOUT), "timed out (maybe executed)");
    ck_assert_str_eq(rr_strerror(-9999), "unknown error");
    ck_assert_str_eq(rr_strerror(1), "unknown error");
    ck_assert_str_eq(rr_error_name(RR_OK), "OK");
    ck_assert_str_eq(rr_error_name(RR_NOROUTE), "NOROUTE");
    ck_assert_str_eq(rr_error_name(RR_EFULL), "FULL");
    ck_assert_str_eq(rr_error_name(RR_EEXIST), "EXIST");
    ck_assert_str_eq(rr_error_name(RR_ESTOPPING), "STOPPING");
    ck_assert_str_eq(rr_error_name(12345), "UNKNOWN");
}
END_TEST

START_TEST(codes_are_distinct) {
    static const int values[] = {
#define VALUE(code, value, text) value,
        RR_ERRORS(VALUE)
#undef VALUE
    };
    size_t count = sizeof values / sizeof *values;
    for (size_t i = 0; i < count; i++) {
        ck_assert_int_eq(values[i], -(int)i); /* stable: never renumbered, only appended */
        ck_assert_str_ne(rr_strerror(values[i]), "unknown error");
        for (size_t k = 0; k < i; k++)
            ck_assert_str_ne(rr_error_name(values[i]), rr_error_name(values[k]));
    }
}
END_TEST

START_TEST(from_errno) {
    ck_assert_int_eq(rr_error_from_errno(0), RR_OK);
    ck_assert_int_eq(rr_error_from_errno(ENOMEM), RR_ENOMEM);
    ck_assert_int_eq(rr_error_from_errno(-EADDRINUSE), RR_EADDRINUSE);
    ck_assert_int_eq(rr_error_from_errno(EPERM), RR_EACCES);
    ck_assert_int_eq(rr_error_from_errno(-EMFILE), RR_ELIMIT);
    ck_assert_int_eq(rr_error_from_errno(ECONNRESET), RR_EIO);
    ck_assert_int_eq(rr_error_from_errno(123456), RR_EIO);
}
END_TEST

START_TEST(a_reason_is_cut_to_its_room) {
    char why[8], one[1] = {'x'};
    ck_assert_int_eq(rr_fail(RR_EFULL, why, sizeof why, "%s %d", "seven", 89), RR_EFULL);
    ck_assert_str_eq(why, "seven 8");
    ck_assert_int_eq(rr_fail(RR_EIO, one, sizeof one, "text"), RR_EIO);
    ck_assert_str_eq(one, "");
    ck_assert_int_eq(rr_fail(RR_EIO, NULL, 0, "text"), RR_EIO);
}
END_TEST

CHECK_MAIN("error", texts_and_names, codes_are_distinct, from_errno, a_reason_is_cut_to_its_room)
