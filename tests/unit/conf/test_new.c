/* `redrabbit new`, the program's home, virtual environments. */
#include <sys/stat.h>
#include <string.h>
#include <unistd.h>

#include "conf/graph.h"
#include "conf/home.h"
#include "conf/new.h"
#include "tests/unit/check_main.h"

static char folder[] = "/tmp/rr_new_XXXXXX";

static void enter_folder(void) {
    ck_assert_ptr_nonnull(mkdtemp(folder));
    ck_assert_int_eq(chdir(folder), 0);
}

static void leave_folder(void) {
    char command[64];
    snprintf(command, sizeof command, "rm -r '%s'", folder);
    ck_assert_int_eq(system(command), 0);
}

START_TEST(new_project_is_sound) {
    char why[512] = "";
    size_t size;
    enter_folder();
    ck_assert_msg(rr_new_project("my-game", why, sizeof why) == RR_OK, "%s", why);
    rr_graph_t *graph = rr_graph_new();
    int rc = rr_graph_read_yaml(graph, "my-game/graph.yaml");
    ck_assert_int_eq(rc, RR_OK);
    rc = rr_graph_check(graph);
    ck_assert_msg(rc == RR_OK, "%s", rr_graph_error_count(graph) ? rr_graph_error_text(graph, 0) : "?");
    ck_assert_str_eq(rr_item_text(rr_graph_top(graph), "group"), "my-game");
    rr_graph_free(graph);
    char *test = rr__read_file("my-game/test_main.py", &size);
    ck_assert_ptr_nonnull(test);
    ck_assert_ptr_null(strstr(test, "@NAME@"));
    ck_assert_ptr_null(strstr(test, "@PROGRAM@"));
    free(test);
    ck_assert_int_eq(rr_new_project("my-game", why, sizeof why), RR_EEXIST);
    ck_assert_ptr_nonnull(strstr(why, "choose another name"));
    leave_folder();
}
END_TEST

START_TEST(bad_names) {
    static const char *const names[] = {"", "a b", "../x", "-x", "a/b", "0123456789012345678901234567890123456789012345678901234567890123x"};
    char why[512];
    enter_folder();
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        ck_assert_int_eq(rr_new_project(names[i], why, sizeof why), RR_EINVAL);
    leave_folder();
}
END_TEST

START_TEST(home) {
    char path[4096];
    ck_assert(rr_home_path("conf/template/main.py", path, sizeof path));
    ck_assert_int_eq(access(path, R_OK), 0);
    ck_assert(!rr_home_path("conf", path, 4));
    ck_assert_int_eq(setenv("REDRABBIT_HOME", "/somewhere", 1), 0);
    ck_assert(rr_home_path("python", path, sizeof path));
    ck_assert_str_eq(path, "/somewhere/python");
}
END_TEST

START_TEST(virtual_environments) {
    char path[4096];
    enter_folder();
    ck_assert_int_eq(unsetenv("VIRTUAL_ENV"), 0);
    ck_assert(!rr_find_venv(NULL, folder, path, sizeof path));
    ck_assert_int_eq(mkdir(".venv", 0700), 0);
    FILE *marker = fopen(".venv/pyvenv.cfg", "w");
    ck_assert_ptr_nonnull(marker);
    fclose(marker);
    ck_assert(rr_find_venv(NULL, folder, path, sizeof path));
    ck_assert_ptr_nonnull(strstr(path, "/.venv"));
    ck_assert_int_eq(setenv("VIRTUAL_ENV", "/active", 1), 0);
    ck_assert(rr_find_venv(NULL, folder, path, sizeof path));
    ck_assert_str_eq(path, "/active");
    ck_assert(rr_find_venv("/asked", folder, path, sizeof path));
    ck_assert_str_eq(path, "/asked");
    leave_folder();
}
END_TEST

CHECK_MAIN("new", new_project_is_sound, bad_names, home, virtual_environments)
