/* Time, CPUs, processes. */
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bench/bench.h"

void bench_die(const char *format, ...) {
    va_list args;
    va_start(args, format);
    fputs("rr-bench: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    exit(2);
}

void *bench_alloc(size_t size) {
    void *p = calloc(1, size ? size : 1);
    if (!p)
        bench_die("out of memory");
    return p;
}

void *bench_realloc(void *old, size_t size) {
    void *p = realloc(old, size ? size : 1);
    if (!p)
        bench_die("out of memory");
    return p;
}

uint64_t bench_now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void bench_sleep_until_ns(uint64_t at) {
    struct timespec t = {.tv_sec = (time_t)(at / 1000000000u), .tv_nsec = (long)(at % 1000000000u)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR) {
    }
}

int bench_cpus(void) { return (int)sysconf(_SC_NPROCESSORS_ONLN); }

void bench_pin(int cpu) {
    if (cpu < 0 || cpu >= bench_cpus())
        return;
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((unsigned)cpu, &set);
    sched_setaffinity(0, sizeof set, &set);
}

typedef struct attributes { /* the kernel's struct sched_attr, first version: its header does not go with libc's */
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime_ns, deadline_ns, period_ns; /* the first is the slice where there is no deadline */
} attributes_t;

static bool get_attributes(attributes_t *a) { return syscall(SYS_sched_getattr, 0, a, sizeof *a, 0) == 0; }

bool bench_short_slice(void) {
    attributes_t a = {0};
    if (!get_attributes(&a) || a.policy != SCHED_OTHER)
        return false;
    a.runtime_ns = 100000; /* the shortest there is */
    return syscall(SYS_sched_setattr, 0, &a, 0) == 0 && get_attributes(&a) && a.runtime_ns == 100000; /* an old one ignores it */
}

double bench_process_cpu(int pid) {
    char path[64], line[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *f = fopen(path, "r");
    if (!f)
        return 0;
    size_t n = fread(line, 1, sizeof line - 1, f);
    fclose(f);
    line[n] = 0;
    const char *p = strrchr(line, ')'); /* the command's name may hold anything */
    unsigned long user = 0, system = 0;
    if (!p || sscanf(p + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system) != 2)
        return 0;
    return (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
}

double bench_machine_cpu(void) {
    unsigned long user = 0, nice = 0, system = 0, irq = 0, softirq = 0;
    FILE *f = fopen("/proc/stat", "r");
    int got = f ? fscanf(f, "cpu %lu %lu %lu %*u %*u %lu %lu", &user, &nice, &system, &irq, &softirq) : 0;
    if (f)
        fclose(f);
    return got == 5 ? (double)(user + nice + system + irq + softirq) / (double)sysconf(_SC_CLK_TCK) : 0;
}

double bench_own_cpu(void) {
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

uint64_t bench_process_rss(int pid) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/statm", pid);
    FILE *f = fopen(path, "r");
    if (!f)
        return 0;
    unsigned long pages = 0;
    int got = fscanf(f, "%*u %lu", &pages);
    fclose(f);
    return got == 1 ? (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE) : 0;
}

uint64_t bench_own_peak_rss(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (uint64_t)usage.ru_maxrss * 1024;
}

void bench_need_files(unsigned count) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        bench_die("getrlimit: %s", strerror(errno));
    if (limit.rlim_cur >= count)
        return;
    if (limit.rlim_max != RLIM_INFINITY && limit.rlim_max < count)
        bench_die("%u open files are needed but the hard limit is %lu: raise it with `ulimit -Hn %u`", count,
                  (unsigned long)limit.rlim_max, count);
    limit.rlim_cur = count;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
        bench_die("setrlimit: %s", strerror(errno));
}

/* Sleeps all the while: a parent that looked now and then would take the CPU from what is measured. */
static bool ends_within(pid_t pid, unsigned timeout_s) {
    uint64_t deadline = bench_now_ns() + (uint64_t)timeout_s * 1000000000u, now;
    struct pollfd end = {.fd = (int)syscall(SYS_pidfd_open, pid, 0), .events = POLLIN};
    int got = 0;
    if (end.fd < 0)
        bench_die("pidfd_open: %s", strerror(errno));
    while (got <= 0 && (now = bench_now_ns()) < deadline) {
        got = poll(&end, 1, (int)((deadline - now) / 1000000) + 1);
        if (got < 0 && errno != EINTR)
            bench_die("poll: %s", strerror(errno));
    }
    close(end.fd);
    return got > 0;
}

static void wait_child(pid_t pid, bench_run_t *run, unsigned timeout_s) {
    int status = 0;
    bool ended = ends_within(pid, timeout_s);
    if (!ended)
        kill(pid, SIGKILL);
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            bench_die("waitpid: %s", strerror(errno));
    if (!ended) {
        bench_fail(run, "did not end within %u s", timeout_s);
        return;
    }
    if (WIFSIGNALED(status))
        bench_fail(run, "crashed: %s", strsignal(WTERMSIG(status)));
    else if (WEXITSTATUS(status) != 0)
        bench_fail(run, "ended with status %d", WEXITSTATUS(status));
}

void bench_in_child(bench_run_t *run, void (*body)(void *context, bench_run_t *run), void *context,
                    unsigned timeout_s) {
    bench_run_t *shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        bench_die("mmap: %s", strerror(errno));
    fflush(NULL);
    pid_t parent = getpid(), pid = fork();
    if (pid < 0)
        bench_die("fork: %s", strerror(errno));
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(1);
        dup2(STDERR_FILENO, STDOUT_FILENO); /* what is logged; our standard output may be JSON */
        body(context, shared);
        fflush(NULL);
        _exit(0);
    }
    wait_child(pid, shared, timeout_s);
    *run = *shared;
    munmap(shared, sizeof *shared);
}
