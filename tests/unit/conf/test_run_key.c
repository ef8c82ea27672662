/* The key of a `redrabbit up`: found while it runs, by its user only. */
#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "conf/run_key.h"
#include "tests/unit/check_main.h"

static char folder[] = "/tmp/rr-run-key-XXXXXX", ours[200], why[300];

static void begin(void) {
    ck_assert_ptr_nonnull(mkdtemp(folder));
    setenv("XDG_RUNTIME_DIR", folder, 1);
    setenv("TMPDIR", folder, 1);
    snprintf(ours, sizeof ours, "%s/redrabbit", folder);
}

static void end(void) {
    rmdir(ours);
    snprintf(ours, sizeof ours, "%s/redrabbit-%u", folder, (unsigned)geteuid());
    rmdir(ours);
    ck_assert_int_eq(rmdir(folder), 0);
}

static bool found(const char *group, const char *master) {
    rr_run_key_t other;
    bool yes = rr_run_key_find(group, master, &other);
    ck_assert_int_eq(other.fd, -1);
    rr_run_key_drop(&other); /* it is not ours: stays */
    return yes;
}

START_TEST(as_long_as_it_runs) {
    rr_run_key_t key, other;
    struct stat st;
    begin();
    ck_assert(!found("world", "tcp://127.0.0.1:7000"));
    ck_assert_int_eq(rr_run_key_make("world", "tcp://127.0.0.1:7000", &key, why, sizeof why), RR_OK);
    ck_assert(rr_run_key_find("world", "tcp://localhost:7000", &other));
    ck_assert_str_eq(other.path, key.path);
    ck_assert_int_eq(stat(key.path, &st), 0);
    ck_assert_uint_eq(st.st_mode & 0777, 0600);
    ck_assert_int_eq(st.st_size, 64);
    ck_assert_int_eq(stat(ours, &st), 0);
    ck_assert_uint_eq(st.st_mode & 0777, 0700);
    ck_assert(!found("world", "tcp://127.0.0.1:7001"));
    ck_assert(!found("other", "tcp://127.0.0.1:7000"));
    ck_assert(!found("world", "tcp://10.0.0.1:7000"));
    ck_assert(!found("world", "no address"));
    ck_assert(!found("world", NULL));
    ck_assert(found("world", "tcp://127.0.0.1:7000")); /* having been looked at */
    rr_run_key_drop(&key);
    ck_assert(!found("world", "tcp://127.0.0.1:7000"));
    end();
}
END_TEST

/* Of one that was killed: nobody holds it. The next one replaces it. */
START_TEST(one_that_is_left_over) {
    rr_run_key_t key, again;
    char path[sizeof key.path];
    begin();
    ck_assert_int_eq(rr_run_key_make("a/b", "tcp://[::1]:7000", &key, why, sizeof why), RR_OK);
    strcpy(path, key.path);
    close(key.fd);
    ck_assert_int_eq(access(path, F_OK), 0);
    ck_assert(!found("a/b", "tcp://[::1]:7000"));
    ck_assert_int_eq(rr_run_key_make("a/b", "tcp://[::1]:7000", &again, why, sizeof why), RR_OK);
    ck_assert_str_eq(again.path, path);
    ck_assert(found("a/b", "tcp://[::1]:7000"));
    rr_run_key_drop(&again);
    ck_assert_int_ne(access(path, F_OK), 0);
    end();
}
END_TEST

/* Where others may look, or what somebody else has put there, is not used. */
START_TEST(a_folder_that_is_open_to_others) {
    rr_run_key_t key;
    begin();
    ck_assert_int_eq(mkdir(ours, 0700), 0);
    ck_assert_int_eq(chmod(ours, 0755), 0);
    ck_assert_int_eq(rr_run_key_make("world", "tcp://127.0.0.1:7000", &key, why, sizeof why), RR_OK);
    ck_assert_ptr_null(strstr(key.path, "/redrabbit/")); /* the next best */
    ck_assert(found("world", "tcp://127.0.0.1:7000"));
    rr_run_key_drop(&key);
    ck_assert_int_eq(rmdir(ours), 0);
    ck_assert_int_eq(symlink("/tmp", ours), 0);
    ck_assert_int_eq(rr_run_key_make("world", "tcp://127.0.0.1:7000", &key, why, sizeof why), RR_OK);
    ck_assert_ptr_null(strstr(key.path, "/redrabbit/"));
    rr_run_key_drop(&key);
    ck_assert_int_eq(unlink(ours), 0);
    ck_assert_int_eq(rr_run_key_make("world", "nowhere", &key, why, sizeof why), RR_EINVAL);
    end();
}
END_TEST

CHECK_MAIN("run_key", as_long_as_it_runs, one_that_is_left_over, a_folder_that_is_open_to_others)
