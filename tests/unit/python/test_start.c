/* Starting CPython: virtual environments, and what cannot work. */
#include "fake_host.h"

#include <sys/wait.h>

static char why[2048];

/* The embedded CPython's own executable: asked in a child, for CPython starts once in a process. */
static void own_executable(char *out, size_t size) {
    int ends[2], status;
    ck_assert_int_eq(pipe(ends), 0);
    pid_t child = fork();
    if (child == 0) {
        fake_t fake;
        char code[200];
        python_up();
        snprintf(code, sizeof code, "import os, sys\nos.write(%d, sys.executable.encode())\n", ends[1]);
        fake_start(&fake, code, NULL);
        fake_end(&fake);
        _exit(0);
    }
    close(ends[1]);
    ssize_t length = read(ends[0], out, size - 1);
    close(ends[0]);
    ck_assert_int_gt(length, 0);
    out[length] = '\0';
    ck_assert_int_eq(waitpid(child, &status, 0), child);
}

static void make_venv(char *folder) {
    char python[1024], command[4096];
    own_executable(python, sizeof python);
    strcpy(folder, "/tmp/rr-venv-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    /* As python -m venv --without-pip makes it, without needing Debian's separate package for it. */
    snprintf(command, sizeof command,
             "mkdir -p %s/bin && ln -s %s %s/bin/python && ln -s python %s/bin/python3 && "
             "printf 'home = %%s\\nversion = %s\\n' $(dirname %s) > %s/pyvenv.cfg && "
             "d=%s/lib/python%.4s/site-packages && mkdir -p $d && echo 'value = 7' > $d/rr_in_venv.py",
             folder, python, folder, folder, rr_python_version(), python, folder, folder, rr_python_version());
    ck_assert_msg(system(command) == 0, "%s", command);
}

START_TEST(venv) {
    char folder[64], code[512];
    fake_t fake;
    make_venv(folder);
    ck_assert_msg(rr_python_start(&(rr_python_options_t){.venv = folder}, why, sizeof why) == RR_OK, "%s", why);
    snprintf(code, sizeof code,
             "import sys, rr_in_venv, json\n"
             "assert rr_in_venv.value == 7 and rr_in_venv.__file__.startswith('%s')\n"
             "assert sys.executable == '%s/bin/python3' and sys.prefix == '%s' != sys.base_prefix\n",
             folder, folder, folder);
    fake_start(&fake, code, NULL);
    fake_end(&fake);
    ck_assert(rr_python_stop());
    snprintf(code, sizeof code, "rm -rf %s", folder);
    ck_assert_int_eq(system(code), 0);
}
END_TEST

START_TEST(venv_beside) {
    char folder[64], beside[80], code[512];
    fake_t fake;
    make_venv(folder);
    ck_assert_int_eq(chdir("/tmp"), 0);
    snprintf(beside, sizeof beside, "./%s", folder + strlen("/tmp/"));
    const rr_python_options_t options[] = {{.venv = beside}, {.venv = beside, .executable = code}};
    snprintf(code, sizeof code, "%s/bin/python3", beside);
    ck_assert_msg(rr_python_start(&options[_i], why, sizeof why) == RR_OK, "%s", why);
    snprintf(code, sizeof code,
             "import os, sys\n"
             "os.chdir('/')\n"
             "import rr_in_venv\n"
             "assert sys.executable == '%s/bin/python3' and sys.prefix == '%s', (sys.executable, sys.prefix)\n",
             folder, folder);
    fake_start(&fake, code, NULL);
    fake_end(&fake);
    ck_assert(rr_python_stop());
    snprintf(code, sizeof code, "rm -rf %s", folder);
    ck_assert_int_eq(system(code), 0);
}
END_TEST

START_TEST(other_version) {
    char folder[] = "/tmp/rr-venv-XXXXXX", path[100], command[128];
    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/pyvenv.cfg", folder);
    write_text(path, "home = /usr/bin\nversion = 3.7.1\n");
    ck_assert_int_eq(rr_python_start(&(rr_python_options_t){.venv = folder}, why, sizeof why), RR_EINVAL);
    ck_assert_ptr_nonnull(strstr(why, folder));
    ck_assert_ptr_nonnull(strstr(why, "was made by Python 3.7.1"));
    ck_assert_ptr_nonnull(strstr(why, rr_python_version()));
    ck_assert_ptr_nonnull(strstr(why, "-m venv"));
    snprintf(command, sizeof command, "rm -rf %s", folder);
    ck_assert_int_eq(system(command), 0);
    ck_assert_int_eq(rr_python_start(&(rr_python_options_t){.venv = "/nonexistent"}, why, sizeof why), RR_EINVAL);
    ck_assert_ptr_nonnull(strstr(why, "/nonexistent is no virtual environment"));
    ck_assert_int_eq(rr_python_start(&(rr_python_options_t){.executable = "/nonexistent"}, why, sizeof why), RR_EINVAL);
    ck_assert_ptr_nonnull(strstr(why, "/nonexistent"));
}
END_TEST

START_TEST(once) {
    python_up();
    ck_assert_int_eq(rr_python_start(NULL, why, sizeof why), RR_ESTATE);
    ck_assert(strncmp(rr_python_version(), "3.", 2) == 0);
    ck_assert_ptr_nonnull(strstr(rr_python_home(), "python3"));
    python_down();
}
END_TEST

START_TEST(not_started) {
    rr_script_t *script;
    rr_script_options_t options = {.file = "/nonexistent.py"};
    fake_t fake;
    ck_assert_int_eq(rr_script_create(NULL, &options, &fake_functions, &fake, &script, why, sizeof why), RR_ESTATE);
    ck_assert(rr_python_stop());
}
END_TEST

START_TEST(package_missing) {
    fake_t fake;
    ck_assert_msg(rr_python_start(&(rr_python_options_t){.package_path = "/nonexistent"}, why, sizeof why) == RR_OK,
                  "%s", why);
    fake_init(&fake, "");
    ck_assert_int_eq(fake_open(&fake, NULL), RR_EINVAL);
    ck_assert_ptr_nonnull(strstr(fake.why, "No module named 'redrabbit'"));
    fake_clean(&fake);
    thread_over();
    ck_assert(rr_python_stop());
}
END_TEST

/* A scene that is still there: CPython must not be finalised. */
START_TEST(left_over) {
    fake_t fake;
    python_up();
    fake_start(&fake, "", NULL);
    rr_script_leave(fake.script);
    ck_assert(!rr_python_stop());
    fake_clean(&fake);
    _exit(0);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("start");
    TCase *tcase = tcase_create("start");
    tcase_add_test(tcase, venv);
    tcase_add_loop_test(tcase, venv_beside, 0, 2);
    tcase_add_test(tcase, other_version);
    tcase_add_test(tcase, once);
    tcase_add_test(tcase, not_started);
    tcase_add_test(tcase, package_missing);
    tcase_add_test(tcase, left_over);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
