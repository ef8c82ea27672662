#include "conf/run.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "conf/notify.h"
#include "conf/say.h"
#include "conf/siblings.h"
#include "conf/spawn.h"
#include "runtime/clock.h"

#define FENCED_MS 1000u /* for what may still end by itself when the named actors cannot: sockets, the log */
#define SPARE_FILES 64 /* beside the clients' sockets: loops, scripts, logs */

/* ---- Signals ---- */

/* The one thing that is global: signals belong to the process. Set before the handlers are installed. The counts are written by
 * the handlers only; the main thread reads them (it is the one that the handlers interrupt, or learns of them by the
 * descriptors). */
static int signal_fd = -1, hangup_fd = -1;
static volatile sig_atomic_t signals_seen, first_signal_ms; /* the latter wraps: only differences count */
_Static_assert(sizeof(sig_atomic_t) == sizeof(int), "rr_running_options_t.stop is an int");

/* Of those that stop, none interrupts another (sa_mask). Who sends to a process and then to its whole group (timeout, some
 * shells) means one end, not two. */
static void on_signal(int number) {
    int error = errno;
    uint64_t which = (uint64_t)number;
    uint32_t now = (uint32_t)rr_machine_ms();
    if (signals_seen > 0 && now - (uint32_t)first_signal_ms >= RR_SAME_SIGNAL_MS)
        _exit(RR_EXIT_CUT); /* the second one: now */
    if (signals_seen > 0)
        return;
    first_signal_ms = (sig_atomic_t)now;
    signals_seen = 1;
    if (write(signal_fd, &which, sizeof which) < 0)
        _exit(RR_EXIT_CUT); /* cannot fail: an eventfd that nobody else writes */
    errno = error;
}

static void on_hangup(int number) {
    int error = errno;
    uint64_t one = 1;
    if (write(hangup_fd, &one, sizeof one) < 0)
        _exit(RR_EXIT_CUT); /* cannot fail: as above */
    errno = error;
    (void)number;
}

/* No signal is blocked: what scripts start would inherit that. */
static bool catch_signals(int stop_fd, int reopen_fd) {
    struct sigaction catch = {.sa_handler = on_signal, .sa_flags = SA_RESTART}, ignore = {.sa_handler = SIG_IGN};
    struct sigaction hangup = {.sa_handler = on_hangup, .sa_flags = SA_RESTART};
    sigaddset(&catch.sa_mask, SIGTERM);
    sigaddset(&catch.sa_mask, SIGINT);
    signal_fd = stop_fd;
    hangup_fd = reopen_fd;
    return sigaction(SIGTERM, &catch, NULL) == 0 && sigaction(SIGINT, &catch, NULL) == 0 &&
           sigaction(SIGHUP, &hangup, NULL) == 0 && sigaction(SIGPIPE, &ignore, NULL) == 0 &&
           sigaction(SIGXFSZ, &ignore, NULL) == 0; /* a log at its limit (LimitFSIZE): write() says so */
}

/* ---- Files ---- */

/* Every client is a file: the soft limit goes up to the hard one. */
static void raise_file_limit(rr_graph_t *graph) {
    struct rlimit limit;
    bool given;
    size_t wanted = rr_graph_connections(graph, &given) + SPARE_FILES;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return;
    if (limit.rlim_cur < limit.rlim_max) {
        rlim_t soft = limit.rlim_cur;
        limit.rlim_cur = limit.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
            limit.rlim_cur = soft;
    }
    if (given && limit.rlim_cur != RLIM_INFINITY && limit.rlim_cur < wanted)
        fprintf(stderr, "redrabbit: warning: max_connections needs %zu open files, the limit is %llu; raise it with `ulimit -n` "
                        "or LimitNOFILE=\n",
                wanted, (unsigned long long)limit.rlim_cur);
}

/* ---- Daemon ---- */

/* Forks; the parent waits until the child is ready and ends with the status that the child would have had. Returns in the
 * child only: the descriptor to say "ready" on, -1 on failure. */
static int daemonize(void) {
    int ends[2], status = 0;
    char ready;
    if (pipe2(ends, O_CLOEXEC) != 0)
        return -1;
    pid_t child = fork();
    if (child < 0)
        return -1;
    if (child == 0) {
        close(ends[0]);
        return setsid() < 0 ? -1 : ends[1];
    }
    close(ends[1]);
    ssize_t got;
    while ((got = read(ends[0], &ready, 1)) < 0 && errno == EINTR)
        ;
    if (got == 1)
        _exit(RR_EXIT_OK);
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    _exit(WIFEXITED(status) ? WEXITSTATUS(status) : RR_EXIT_FAILED);
}

/* The terminal is let go, the parent may end. */
static void detach(int ready_fd) {
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    fflush(NULL);
    for (int fd = 0; null >= 0 && fd < 3; fd++)
        dup2(null, fd);
    if (null > 2)
        close(null);
    if (write(ready_fd, "1", 1) != 1)
        _exit(RR_EXIT_FAILED); /* the parent is gone before it could know */
    close(ready_fd);
}

/* ---- Waiting ---- */

typedef struct rr_life {
    rr_graph_t *graph;
    const rr_share_t *share;
    rr_running_t *running;
    int stop_fd, wake_fd; /* eventfds: a signal came; a scene or gate has news */
    int reopen_fd;        /* SIGHUP came */
    int ready_fd;         /* of a daemon, else -1 */
    int siblings_fd;      /* of a node that `redrabbit up` started, until its thread has it; else -1 */
    rr_siblings_t *siblings;
    bool ready;
    bool asked;      /* by another process of the group, to drain and end */
    bool group_ends; /* SIGINT: there is nobody to hand sessions over to */
    uint64_t next_report_ms; /* 0 = no performance report */
    uint64_t watchdog_ms, next_ask_ms; /* how often the service manager wants a sign of life, 0 = never; when to ask for one */
    unsigned pulse;                    /* signs of life that it was told of */
} rr_life_t;

static void notify(rr_life_t *life, const char *state) {
    int rc = rr_notify(state);
    if (rc != RR_OK && life->running)
        rr_log(rr_running_system(life->running), RR_WARN, "CONF", "the service manager cannot be told %s: %s", state, rr_strerror(rc));
}

static void wake(void *context) {
    uint64_t one = 1;
    rr_life_t *life = context;
    if (write(life->wake_fd, &one, sizeof one) < 0 && errno != EAGAIN)
        abort(); /* the descriptor is ours and open for as long as the system runs */
}

static void report_if_due(rr_life_t *life) {
    const rr_item_t *top = rr_graph_top(life->graph);
    if (!life->next_report_ms || rr_machine_ms() < life->next_report_ms)
        return;
    int rc = rr_running_report(life->running, rr_item_text(top, "perf.path"));
    if (rc != RR_OK)
        rr_log(rr_running_system(life->running), RR_WARN, "CONF", "no performance report in %s: %s", rr_item_text(top, "perf.path"),
               rr_strerror(rc));
    life->next_report_ms = rr_machine_ms() + (uint64_t)rr_item_number(top, "perf.interval");
}

/* Sets when the first report is due. false = the folder for them cannot be written, which is better said now. */
static bool plan_reports(rr_life_t *life, char *why, size_t why_size) {
    const rr_item_t *top = rr_graph_top(life->graph);
    const char *folder = rr_item_text(top, "perf.path");
    if (!rr_item_value(top, "perf.path"))
        return true;
    life->next_report_ms = rr_machine_ms() + (uint64_t)rr_item_number(top, "perf.interval");
    if ((mkdir(folder, 0777) == 0 || errno == EEXIST) && access(folder, W_OK | X_OK) == 0)
        return true;
    snprintf(why, why_size, "cannot write performance reports into %s: %s; create the folder or choose another -perf_path (perf.path)",
             folder, strerror(errno));
    return false;
}

/* The service manager gets a sign of life only when the workers have given one. */
static void pulse_if_due(rr_life_t *life) {
    unsigned pulse = life->watchdog_ms ? rr_running_pulse(life->running) : 0;
    if (pulse != life->pulse)
        notify(life, "WATCHDOG=1");
    life->pulse = pulse;
    if (!life->watchdog_ms || rr_machine_ms() < life->next_ask_ms)
        return;
    life->next_ask_ms = rr_machine_ms() + life->watchdog_ms;
    int rc = rr_running_ask(life->running);
    if (rc != RR_OK)
        rr_log(rr_running_system(life->running), RR_WARN, "CONF", "no sign of life: %s", rr_strerror(rc));
}

static int poll_timeout(const rr_life_t *life) {
    uint64_t now = rr_machine_ms(), due = life->next_report_ms;
    if (life->next_ask_ms && (!due || life->next_ask_ms < due))
        due = life->next_ask_ms;
    if (!due)
        return -1;
    return due <= now ? 0 : (int)(due - now);
}

static void describe(const rr_life_t *life, bool late) {
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    if (!out)
        return;
    rr_running_describe(life->running, late, out);
    if (fclose(out) == 0)
        rr_say(stdout, "%s", text);
    free(text);
}

/* Looks at the news: false = it could not start (said so already). */
static bool look(rr_life_t *life) {
    char why[1024];
    rr_running_state_t state = rr_running_state(life->running, why, sizeof why);
    life->asked = state == RR_RUNNING_ASKED;
    if (life->asked || state == RR_RUNNING_FAILED)
        rr_system_flush_log(rr_running_system(life->running)); /* what led to it stands before it */
    if (life->asked)
        rr_say(stdout, "redrabbit: asked to drain\n");
    if (state == RR_RUNNING_FAILED)
        rr_say(stderr, "redrabbit: %s\n", why);
    if (state != RR_RUNNING_READY || life->ready)
        return state != RR_RUNNING_FAILED;
    life->ready = true;
    describe(life, true);
    rr_say(stdout, "redrabbit: ready\n");
    notify(life, "READY=1");
    life->watchdog_ms = rr_notify_watchdog_ms();
    life->next_ask_ms = life->watchdog_ms ? rr_machine_ms() : 0;
    if (life->ready_fd >= 0)
        detach(life->ready_fd);
    return true;
}

/* Empties an eventfd; what was in it, 0 = nothing. */
static uint64_t take(int fd) {
    uint64_t count;
    return read(fd, &count, sizeof count) == (ssize_t)sizeof count ? count : 0;
}

/* Until a signal: RR_EXIT_OK, or until it is clear that it does not start, or has failed: RR_EXIT_FAILED. */
static int wait_for_end(rr_life_t *life) {
    struct pollfd fds[3] = {{.fd = life->stop_fd, .events = POLLIN}, {.fd = life->wake_fd, .events = POLLIN},
                            {.fd = life->reopen_fd, .events = POLLIN}};
    while (look(life)) { /* first: a bare broker is ready at once */
        if (life->asked)
            return RR_EXIT_OK;
        report_if_due(life);
        pulse_if_due(life);
        int n = poll(fds, 3, poll_timeout(life));
        if (n < 0 && errno != EINTR)
            return RR_EXIT_FAILED;
        if (n > 0 && (fds[0].revents & POLLIN)) {
            life->group_ends = take(life->stop_fd) == SIGINT;
            return RR_EXIT_OK;
        }
        take(life->wake_fd);
        if (take(life->reopen_fd)) {
            rr_log_reopen(rr_running_system(life->running));
            rr_log(rr_running_system(life->running), RR_INFO, "CONF", "the log files are opened anew: SIGHUP");
        }
    }
    return RR_EXIT_FAILED;
}

/* ---- The whole ---- */

/* How long the end may take. What stands still for want of a lease is not waited for: it is said, and left behind. */
static unsigned drain_ms(const rr_life_t *life) {
    unsigned ms = (unsigned)rr_item_number(rr_graph_top(life->graph), "drain");
    if (!rr_running_fenced(life->running) || ms <= FENCED_MS)
        return ms;
    rr_say(stdout, "redrabbit: this node has no lease, as its master was not reached for so long, and its actors stand still: nothing is "
                   "handed over, no offline handler runs\n");
    return FENCED_MS;
}

/* Ends what was started; the exit status. Does not return if the drain is cut short or a thread cannot be ended. */
static int end(rr_life_t *life, int status) {
    unsigned deadline = drain_ms(life);
    notify(life, "STOPPING=1\nWATCHDOG=1");
    if (life->ready)
        rr_say(stdout, "redrabbit: draining, %u s at most; a second signal ends it now\n", (deadline + 999) / 1000);
    if (rr_running_drain(life->running, status == RR_EXIT_OK && !life->group_ends, deadline) != RR_OK) {
        rr_say(stderr, "redrabbit: the drain was cut short after %u ms: not everything ended by itself%s\n", deadline,
               rr_running_fenced(life->running) ? " (without its master a node's actors stand still)" : "");
        rr_system_flush_log(rr_running_system(life->running));
        _exit(status == RR_EXIT_OK ? RR_EXIT_CUT : status); /* a deadline is one: nobody waits again for what hangs */
    }
    rr_siblings_stop(life->siblings);
    bool clean = rr_running_destroy(life->running);
    if (!clean) /* exit handlers would run under threads that live on */
        _exit(status);
    return status;
}

static void on_dead_sibling(void *context, const rr_sibling_t *dead) {
    rr_cluster_node_died(rr_membership_cluster(context), dead->node, dead->incarnation);
}

static void hear_siblings(rr_life_t *life) {
    rr_membership_t *member = rr_running_membership(life->running);
    if (life->siblings_fd < 0 || !member)
        return;
    const rr_node_identity_t *self = rr_membership_self(member);
    rr_sibling_t own = {self->node, self->incarnation};
    int rc = rr_siblings_start(life->siblings_fd, &own, on_dead_sibling, member, &life->siblings);
    if (rc != RR_OK)
        rr_log(rr_running_system(life->running), RR_WARN, "CONF", "`redrabbit up` is not heard when another node dies: %s", rr_strerror(rc));
    life->siblings_fd = -1;
}

static int begin(rr_life_t *life, const char *folder, char *why, size_t why_size) {
    rr_running_options_t options = {.graph = life->graph, .share = life->share, .folder = folder, .wake = wake, .context = life,
                                    .stop = (const volatile int *)&signals_seen};
    int rc = rr_running_create(&options, &life->running, why, why_size);
    if (rc != RR_OK)
        return rc;
    hear_siblings(life);
    describe(life, false);
    if (!plan_reports(life, why, why_size))
        return RR_EIO;
    return rr_running_start(life->running, why, why_size);
}

static bool prepare(rr_life_t *life) {
    life->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    life->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    life->reopen_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return life->stop_fd >= 0 && life->wake_fd >= 0 && life->reopen_fd >= 0 && catch_signals(life->stop_fd, life->reopen_fd);
}

int rr_run(rr_graph_t *graph, const rr_share_t *share, const char *folder) {
    rr_life_t life = {.graph = graph, .share = share, .ready_fd = -1, .siblings_fd = rr_siblings_take()};
    char why[1024] = "";
    if (rr_item_flag(rr_graph_top(graph), "daemon")) {
        life.ready_fd = daemonize();
        if (life.ready_fd < 0) {
            fprintf(stderr, "redrabbit: cannot go to the background: %s; leave -d out\n", strerror(errno));
            return RR_EXIT_FAILED;
        }
    }
    raise_file_limit(graph);
    if (!prepare(&life)) {
        fprintf(stderr, "redrabbit: cannot start: %s\n", strerror(errno));
        return RR_EXIT_FAILED;
    }
    int rc = begin(&life, folder, why, sizeof why);
    if (rc == RR_CANCELLED && !life.running)
        return RR_EXIT_OK; /* asked to end while it waited for its master */
    if (rc != RR_OK)
        rr_say(stderr, "redrabbit: %s\n", why[0] ? why : rr_strerror(rc));
    if (!life.running)
        return RR_EXIT_FAILED;
    return end(&life, rc == RR_OK ? wait_for_end(&life) : RR_EXIT_FAILED);
}
