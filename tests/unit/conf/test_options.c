/* The table of options is sound, and OPTIONS.md is what it prints. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "conf/graph.h"

START_TEST(every_default_is_legal) {
    for (const rr_option_t *o = rr_options; o->key; o++) {
        int64_t number;
        char why[256] = "";
        ck_assert_msg(o->doc && o->doc[0], "%s has no doc", o->key);
        ck_assert_msg((o->type == RR_TYPE_CHOICE) == (o->choices != NULL), "%s: choices", o->key);
        if (o->preset)
            ck_assert_msg(rr_option_parse(o, o->preset, &number, why, sizeof why) == RR_OK, "%s: %s", o->key, why);
    }
}
END_TEST

START_TEST(keys_and_args_are_unique) {
    for (const rr_option_t *a = rr_options; a->key; a++) {
        for (const rr_option_t *b = a + 1; b->key; b++) {
            ck_assert_msg(!(a->scopes & b->scopes) || strcmp(a->key, b->key) != 0, "%s twice", a->key);
            ck_assert_msg(!a->arg || !b->arg || strcmp(a->arg, b->arg) != 0, "%s twice", a->arg);
        }
    }
}
END_TEST

static int64_t number_of(const char *arg, const char *text) {
    int64_t number = -1;
    char why[256];
    const rr_option_t *option = rr_option_find_arg(arg);
    ck_assert_ptr_nonnull(option);
    return rr_option_parse(option, text, &number, why, sizeof why) == RR_OK ? number : -1;
}

START_TEST(units) {
    ck_assert_int_eq(number_of("-heartbeat_timeout", "600"), 600000);
    ck_assert_int_eq(number_of("-heartbeat_timeout", "500ms"), 500);
    ck_assert_int_eq(number_of("-heartbeat_timeout", "1.5s"), 1500);
    ck_assert_int_eq(number_of("-heartbeat_timeout", "2 m"), 120000);
    ck_assert_int_eq(number_of("-heartbeat_timeout", "1h"), 3600000);
    ck_assert_int_eq(number_of("-heartbeat_timeout", "1w"), -1);
    ck_assert_int_eq(number_of("-heartbeat_timeout", "99999999999999999999"), -1);
    ck_assert_int_eq(number_of("-heartbeat_timeout", ""), -1);
    ck_assert_int_eq(number_of("-max_packet_size", "64KiB"), 65536);
    ck_assert_int_eq(number_of("-max_packet_size", "1MiB"), 1048576);
    ck_assert_int_eq(number_of("-max_packet_size", "1k"), 1024);
    ck_assert_int_eq(number_of("-max_packet_size", "1KB"), 1000);
    ck_assert_int_eq(number_of("-max_packet_size", "0"), -1);
    ck_assert_int_eq(number_of("-heartbeat_cmd", "65535"), 65535);
    ck_assert_int_eq(number_of("-heartbeat_cmd", "65536"), -1);
    ck_assert_int_eq(number_of("-heartbeat_cmd", "1.5"), -1);
    ck_assert_int_eq(number_of("-heartbeat_cmd", "0x10"), -1);
    ck_assert_int_eq(number_of("-d", "Yes"), 1);
    ck_assert_int_eq(number_of("-d", "off"), 0);
    ck_assert_int_eq(number_of("-log_level", "1"), 0);
    ck_assert_int_eq(number_of("-log_level", "trace"), 5);
    ck_assert_int_eq(number_of("-log_level", "7"), -1);
}
END_TEST

START_TEST(nearest) {
    char out[64];
    ck_assert_str_eq(rr_nearest_key(RR_SCOPE_GATE, "lisen", out, sizeof out), "listen");
    ck_assert_str_eq(rr_nearest_key(RR_SCOPE_SCENE, "restrat", out, sizeof out), "restart");
    ck_assert_str_eq(rr_nearest_key(RR_SCOPE_SCENE, "restart.wihtin", out, sizeof out), "restart.within");
    ck_assert_ptr_null(rr_nearest_key(RR_SCOPE_SCENE, "elephant", out, sizeof out));
    ck_assert_str_eq(rr_nearest_arg("-brokre", out, sizeof out), "-broker");
    ck_assert_str_eq(rr_nearest_arg("-sceen", out, sizeof out), "-scene");
}
END_TEST

START_TEST(reference_page_is_current) {
    const char *source = getenv("RR_SOURCE_DIR");
    char path[4096], *printed = NULL;
    size_t size, file_size;
    FILE *out = open_memstream(&printed, &size);
    rr_options_print(out);
    ck_assert_int_eq(fclose(out), 0);
    snprintf(path, sizeof path, "%s/conf/OPTIONS.md", source ? source : ".");
    char *page = rr__read_file(path, &file_size);
    ck_assert_msg(page != NULL, "%s cannot be read", path);
    ck_assert_msg(strcmp(page, printed) == 0, "conf/OPTIONS.md is old: redrabbit check --options > conf/OPTIONS.md");
    free(page);
    free(printed);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("options");
    TCase *tc = tcase_create("options");
    suite_add_tcase(suite, tc);
    tcase_add_test(tc, every_default_is_legal);
    tcase_add_test(tc, keys_and_args_are_unique);
    tcase_add_test(tc, units);
    tcase_add_test(tc, nearest);
    tcase_add_test(tc, reference_page_is_current);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
