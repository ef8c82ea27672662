/* Short time slices are had where the kernel has them, and nothing else of the thread changes. */
#include <sched.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "bench/bench.h"
#include "tests/unit/check_main.h"

typedef struct attributes { /* the kernel's struct sched_attr */
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime_ns, deadline_ns, period_ns;
} attributes_t;

static attributes_t mine(void) {
    attributes_t a = {0};
    ck_assert_int_eq(syscall(SYS_sched_getattr, 0, &a, sizeof a, 0), 0);
    return a;
}

static bool kernel_has_slices(void) {
    struct utsname name;
    ck_assert_int_eq(uname(&name), 0);
    char *rest;
    long major = strtol(name.release, &rest, 10), minor = *rest == '.' ? strtol(rest + 1, NULL, 10) : 0;
    return major > 6 || (major == 6 && minor >= 12);
}

START_TEST(shorter_than_others) {
    ck_assert_int_eq(setpriority(PRIO_PROCESS, 0, 19), 0); /* the one that everybody may ask for */
    attributes_t before = mine();
    bool shortened = bench_short_slice();
    attributes_t after = mine();
    ck_assert_int_eq(shortened, kernel_has_slices());
    ck_assert_int_eq(after.nice, 19);
    ck_assert_uint_eq(after.policy, before.policy);
    ck_assert_uint_eq(after.runtime_ns, shortened ? 100000 : before.runtime_ns);
}
END_TEST

START_TEST(other_policies_stay) {
    const struct sched_param none = {0};
    ck_assert_int_eq(sched_setscheduler(0, SCHED_BATCH, &none), 0);
    ck_assert(!bench_short_slice());
    ck_assert_int_eq(sched_getscheduler(0), SCHED_BATCH);
    ck_assert_uint_ne(mine().runtime_ns, 100000);
}
END_TEST

CHECK_MAIN("machine", shorter_than_others, other_policies_stay)
