#include "conf/up.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "conf/printer.h"
#include "conf/run.h"
#include "conf/run_key.h"
#include "conf/share.h"
#include "conf/siblings.h"
#include "runtime/clock.h"

#define LINE_MAX_BYTES 65536u
#define GRACE_MS 5000u    /* beyond a node's own drain deadline */
#define READ_BYTES 4096u  /* at once of a node's output: what is printed of it has room then */
#define PATIENCE_MS 1000u /* with who does not read the last words */
#define EARLY_PERCENT 60u /* of that deadline is for scenes and databases, if they need it, before the others are told to end */

typedef enum rr_up_state { UP_IDLE = 0, UP_RUNNING, UP_WAITING /* for its restart */, UP_ENDED } rr_up_state_t;

/* In this order nodes end, each by the last of its actors: what is said in scenes' last handlers reaches clients through gates,
 * what is written there a database, by links that brokers relay; and names come from the master to the end. */
typedef enum rr_up_rank { UP_SCENES = 0, UP_DATABASES, UP_GATES, UP_BROKERS, UP_MASTER } rr_up_rank_t;

typedef struct rr_up_node {
    const char *name;
    rr_up_state_t state;
    rr_up_rank_t rank;
    bool ready, was_ready, asked; /* asked: told to end */
    bool knew;                    /* it ran when the last master died, and may hold names of it */
    pid_t pid;
    int output; /* its stdout and stderr; -1 = closed */
    int word;   /* where it is told of others that died (siblings.h); -1 = closed */
    uint64_t restart_ms;               /* UP_WAITING: when */
    uint64_t restarts[RR_UP_RESTARTS]; /* when the last ones were; 0 = never */
    char line[LINE_MAX_BYTES];
    size_t used;
} rr_up_node_t;

typedef struct rr_up {
    const rr_up_options_t *options;
    rr_up_node_t **nodes;
    size_t count;
    struct pollfd *polls; /* of the signals, standard output, then of each node */
    rr_printer_t *out;
    int signals;
    int width; /* of the longest name */
    bool colour, all_ready;
    bool stopping, killed; /* killed: all that still ran, as it took too long */
    bool strangers;        /* a node may run that was not started here: one that ended by itself may be another terminal's by now */
    bool at_terminal;      /* whose end is ours */
    rr_up_rank_t ending;  /* while stopping: nodes up to this rank were told to end */
    /* While stopping: until when scenes and databases are waited for, then gates and brokers; when what has not ended is killed. */
    uint64_t early_ms, late_ms, deadline_ms;
    uint64_t signal_ms;   /* the first signal that stopped it, 0 = none */
    int status;
    rr_run_key_t key; /* path "": the graph has one, or the group has none */
} rr_up_t;

/* ---- Output ---- */

static void print_line(const rr_up_t *up, const rr_up_node_t *node, const char *line, size_t size) {
    static const int colours[] = {36, 33, 32, 35, 34, 96, 93, 92, 95, 94};
    size_t index = 0;
    while (up->nodes[index] != node)
        index++;
    if (up->colour)
        rr_printer_say(up->out, "\033[%dm%-*s |\033[0m %.*s\n", colours[index % 10], up->width, node->name, (int)size, line);
    else
        rr_printer_say(up->out, "%-*s | %.*s\n", up->width, node->name, (int)size, line);
}

static void tell_ready(rr_up_t *up) {
    char names[512];
    for (size_t i = 0; i < up->count; i++) {
        if (!up->nodes[i]->ready)
            return;
    }
    if (!up->all_ready)
        rr_printer_say(up->out, "redrabbit: ready: %s\n", rr_graph_node_names(up->options->graph, names, sizeof names));
    up->all_ready = true;
}

static void take_line(rr_up_t *up, rr_up_node_t *node, const char *line, size_t size) {
    static const char ready[] = "redrabbit: ready";
    print_line(up, node, line, size);
    if (node->ready || size != sizeof ready - 1 || memcmp(line, ready, size) != 0)
        return;
    node->ready = node->was_ready = true;
    tell_ready(up);
}

/* Prints the whole lines that are there; a line that does not fit is printed in parts. */
static void take_lines(rr_up_t *up, rr_up_node_t *node, bool all) {
    size_t start = 0;
    for (;;) {
        char *newline = memchr(node->line + start, '\n', node->used - start);
        if (!newline)
            break;
        take_line(up, node, node->line + start, (size_t)(newline - node->line) - start);
        start = (size_t)(newline - node->line) + 1;
    }
    if (node->used > start && (all || (start == 0 && node->used == sizeof node->line))) {
        print_line(up, node, node->line + start, node->used - start);
        start = node->used;
    }
    node->used -= start;
    memmove(node->line, node->line + start, node->used);
}

static void close_fd(int *fd) {
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

/* all: also what there may be no room for. */
static void read_output(rr_up_t *up, rr_up_node_t *node, bool all) {
    ssize_t got = 1;
    while (node->output >= 0 && got > 0 && (all || !rr_printer_is_full(up->out))) {
        size_t room = sizeof node->line - node->used;
        got = read(node->output, node->line + node->used, room < READ_BYTES ? room : READ_BYTES);
        if (got > 0)
            node->used += (size_t)got;
        if (got == 0)
            close_fd(&node->output);
        take_lines(up, node, got == 0);
        (void)rr_printer_write(up->out);
    }
}

/* ---- Starting ---- */

/* Is there nobody to whom an earlier master of this group has granted names? Then a new one waits for nobody. */
static bool nobody_lives(const rr_up_t *up) {
    bool none = !up->options->node_count && !up->strangers;
    for (size_t i = 0; i < up->count; i++)
        none = none && !(up->nodes[i]->state == UP_RUNNING && up->nodes[i]->knew);
    return none;
}

/* Of a whole graph that ends, no scene hands its sessions over to another (run.h). */
static int end_signal(const rr_up_t *up) { return up->options->node_count ? SIGTERM : SIGINT; }

/* In the child: only what is safe behind a fork of one thread; does not return. */
static void become(const rr_up_t *up, const rr_up_node_t *node, int output, int word, pid_t parent) {
    size_t count = 0;
    char **argv = calloc(up->options->more_count + 11, sizeof *argv);
    sigset_t none;
    sigemptyset(&none);
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (!argv || null < 0 || dup2(null, 0) < 0 || dup2(output, 1) < 0 || dup2(output, 2) < 0 || setpgid(0, 0) != 0 ||
        sigprocmask(SIG_SETMASK, &none, NULL) != 0 || signal(SIGPIPE, SIG_DFL) == SIG_ERR || !rr_siblings_pass(word))
        _exit(RR_EXIT_FAILED);
    if (prctl(PR_SET_PDEATHSIG, end_signal(up)) != 0 || getppid() != parent) /* `up` was killed: no orphans */
        _exit(RR_EXIT_FAILED);
    argv[count++] = (char *)"redrabbit";
    argv[count++] = (char *)up->options->file;
    argv[count++] = (char *)"--node";
    argv[count++] = (char *)node->name;
    for (size_t i = 0; i < up->options->more_count; i++)
        argv[count++] = up->options->more[i];
    if (!rr_item_value(rr_graph_top(up->options->graph), "reload_on_save"))
        argv[count++] = (char *)"--watch";
    if (node->rank == UP_MASTER && nobody_lives(up)) {
        argv[count++] = (char *)"-broker_fresh";
        argv[count++] = (char *)"true";
    }
    if (up->key.path[0]) {
        argv[count++] = (char *)"-cluster_key";
        argv[count++] = (char *)up->key.path;
    }
    execv("/proc/self/exe", argv);
    dprintf(2, "redrabbit: cannot start itself: %s\n", strerror(errno));
    _exit(RR_EXIT_FAILED);
}

static bool start_node(rr_up_t *up, rr_up_node_t *node) {
    int ends[2] = {-1, -1}, words[2] = {-1, -1};
    pid_t parent = getpid(), pid = -1;
    fflush(NULL);
    if (pipe2(ends, O_CLOEXEC) == 0 && fcntl(ends[0], F_SETFL, O_NONBLOCK) == 0 && rr_siblings_pair(words))
        pid = fork();
    if (pid == 0)
        become(up, node, ends[1], words[1], parent);
    close_fd(&ends[1]);
    close_fd(&words[1]);
    if (pid < 0) {
        close_fd(&ends[0]);
        close_fd(&words[0]);
        return false;
    }
    node->pid = pid;
    node->output = ends[0];
    node->word = words[0];
    node->used = 0;
    node->ready = node->asked = node->knew = false;
    node->state = UP_RUNNING;
    rr_printer_say(up->out, "redrabbit: node %s started, process %ld\n", node->name, (long)pid);
    return true;
}

/* ---- Stopping ---- */

static void ask_to_end(const rr_up_t *up, rr_up_node_t *node) {
    if (node->state != UP_RUNNING || node->asked)
        return;
    node->asked = true;
    kill(node->pid, end_signal(up)); /* ours, not yet waited for: it cannot be somebody else's */
}

/* Until when nodes of that rank hold up those behind them. */
static uint64_t patience_ms(const rr_up_t *up, rr_up_rank_t rank) {
    return rank < UP_GATES ? up->early_ms : rank < UP_MASTER ? up->late_ms : up->deadline_ms;
}

/* Tells those whose turn it is to end; true: the next ones wait for some of them. */
static bool end_rank(rr_up_t *up) {
    uint64_t now = rr_machine_ms();
    bool wait = false;
    for (size_t i = 0; i < up->count; i++) {
        rr_up_node_t *node = up->nodes[i];
        if (node->rank > up->ending)
            continue;
        ask_to_end(up, node);
        wait |= node->state == UP_RUNNING && now < patience_ms(up, node->rank);
    }
    return wait;
}

static void go_on_stopping(rr_up_t *up) {
    while (up->stopping && !end_rank(up) && up->ending < UP_MASTER)
        up->ending++;
}

/* It died before the end, instead of ending in order. */
static void give_up(rr_up_t *up, rr_up_node_t *node) {
    rr_printer_say(up->out, "redrabbit: node %s is not started again: it did not end in order\n", node->name);
    node->state = UP_ENDED;
    up->status = up->status == RR_EXIT_OK ? RR_EXIT_CUT : up->status;
}

static void stop_all(rr_up_t *up, int status) {
    uint64_t now = rr_machine_ms(), drain = (uint64_t)rr_item_number(rr_graph_top(up->options->graph), "drain");
    if (up->stopping)
        return;
    up->stopping = true;
    up->status = status;
    up->early_ms = now + drain * EARLY_PERCENT / 100;
    up->late_ms = now + drain;
    up->deadline_ms = now + drain + GRACE_MS;
    for (size_t i = 0; i < up->count; i++) {
        if (up->nodes[i]->state == UP_WAITING)
            give_up(up, up->nodes[i]);
    }
    go_on_stopping(up);
}

static void kill_all(rr_up_t *up, const char *why) {
    for (size_t i = 0; i < up->count; i++) {
        if (up->nodes[i]->state != UP_RUNNING)
            continue;
        rr_printer_say(up->out, "redrabbit: node %s is killed: %s\n", up->nodes[i]->name, why);
        kill(up->nodes[i]->pid, SIGKILL);
    }
    up->status = up->status == RR_EXIT_OK ? RR_EXIT_CUT : up->status;
    up->deadline_ms = UINT64_MAX;
    up->killed = true;
}

/* ---- What nodes do ---- */

/* Notes a restart; how long to wait before it, 0 = there were too many. */
static uint64_t restart_delay(rr_up_node_t *node) {
    uint64_t now = rr_machine_ms(), delay = 1000;
    size_t oldest = 0;
    for (size_t i = 0; i < RR_UP_RESTARTS; i++) {
        if (node->restarts[i] && now - node->restarts[i] < RR_UP_WITHIN_MS)
            delay *= 2;
        if (node->restarts[i] < node->restarts[oldest])
            oldest = i;
    }
    if (node->restarts[oldest] && now - node->restarts[oldest] < RR_UP_WITHIN_MS)
        return 0;
    node->restarts[oldest] = now;
    return delay;
}

static const char *how(int status, char *out, size_t size) {
    if (WIFSIGNALED(status))
        snprintf(out, size, "was killed by signal %d", WTERMSIG(status));
    else
        snprintf(out, size, "ended with status %d", WEXITSTATUS(status));
    return out;
}

static void node_died(rr_up_t *up, rr_up_node_t *node, const char *text) {
    uint64_t delay = node->was_ready ? restart_delay(node) : 0;
    if (delay) {
        node->state = UP_WAITING;
        node->restart_ms = rr_machine_ms() + delay;
        rr_printer_say(up->out, "redrabbit: node %s %s; it is started again in %llu s\n", node->name, text, (unsigned long long)delay / 1000);
        return;
    }
    if (node->was_ready)
        rr_printer_say(up->out, "redrabbit: node %s %s; that was too often (%d times in %d s): everything is stopped\n", node->name, text,
               RR_UP_RESTARTS + 1, RR_UP_WITHIN_MS / 1000);
    else
        rr_printer_say(up->out, "redrabbit: node %s %s before it was ready: everything is stopped\n", node->name, text);
    stop_all(up, RR_EXIT_FAILED);
}

/* The others need not wait until its links were silent for long enough. Who ended well has said so itself, behind all else. */
static void tell_of_dead(const rr_up_t *up, const rr_up_node_t *node) {
    rr_sibling_t dead;
    if (!rr_siblings_who(node->word, &dead))
        return;
    for (size_t i = 0; i < up->count; i++) {
        if (up->nodes[i]->state == UP_RUNNING)
            rr_siblings_tell(up->nodes[i]->word, &dead);
    }
}

/* Of what the master has granted until now. Those that are dead as well will be found so. */
static void master_died(rr_up_t *up) {
    for (size_t i = 0; i < up->count; i++)
        up->nodes[i]->knew = up->nodes[i]->state == UP_RUNNING;
}

static void node_ended(rr_up_t *up, rr_up_node_t *node, int status) {
    char text[64];
    bool well = WIFEXITED(status) && WEXITSTATUS(status) == RR_EXIT_OK;
    bool early = node->asked && !node->ready && WIFSIGNALED(status) && WTERMSIG(status) == end_signal(up);
    node->state = UP_ENDED;
    up->strangers = up->strangers || WIFEXITED(status);
    if (node->rank == UP_MASTER)
        master_died(up);
    if (!well)
        tell_of_dead(up, node);
    read_output(up, node, true);
    close_fd(&node->word);
    close_fd(&node->output); /* what it has left behind may hold it open for ever */
    take_lines(up, node, true);
    how(status, text, sizeof text);
    if (early) /* it had not come to look at signals yet */
        rr_printer_say(up->out, "redrabbit: node %s ended before it had begun\n", node->name);
    else if (well || node->asked || up->stopping)
        rr_printer_say(up->out, "redrabbit: node %s %s%s\n", node->name, text,
                       WIFSIGNALED(status) && !up->killed ? ": it did not end in order; the others do not wait for it" : "");
    else
        node_died(up, node, text);
    if (!well && !early && up->stopping && up->status == RR_EXIT_OK)
        up->status = RR_EXIT_CUT;
    go_on_stopping(up);
}

static void reap(rr_up_t *up) {
    for (size_t i = 0; i < up->count; i++) {
        rr_up_node_t *node = up->nodes[i];
        int status;
        if (node->state == UP_RUNNING && waitpid(node->pid, &status, WNOHANG) == node->pid)
            node_ended(up, node, status);
    }
}

/* ---- The loop ---- */

static void on_signals(rr_up_t *up) {
    struct signalfd_siginfo info;
    while (read(up->signals, &info, sizeof info) == (ssize_t)sizeof info) {
        if (info.ssi_signo == SIGCHLD) {
            reap(up);
        } else if (info.ssi_signo == SIGHUP && !up->at_terminal) {
            for (size_t i = 0; i < up->count; i++) {
                if (up->nodes[i]->state == UP_RUNNING)
                    kill(up->nodes[i]->pid, SIGHUP);
            }
        } else if (!up->signal_ms) {
            up->signal_ms = rr_machine_ms();
            rr_printer_say(up->out, "redrabbit: stopping; a second signal ends it now\n");
            stop_all(up, RR_EXIT_OK);
        } else if (rr_machine_ms() - up->signal_ms >= RR_SAME_SIGNAL_MS) {
            kill_all(up, "a second signal");
        }
    }
}

/* Starts what is due again; when to look next. */
static int timeouts(rr_up_t *up) {
    uint64_t now = rr_machine_ms(), next = UINT64_MAX;
    for (size_t i = 0; i < up->count; i++) {
        rr_up_node_t *node = up->nodes[i];
        if (node->state != UP_WAITING)
            continue;
        if (node->restart_ms <= now && !start_node(up, node))
            node->restart_ms = now + 1000;
        if (node->state == UP_WAITING && node->restart_ms < next)
            next = node->restart_ms;
    }
    go_on_stopping(up);
    if (up->stopping && up->deadline_ms <= now)
        kill_all(up, "it did not end in time");
    if (up->stopping && now < up->early_ms)
        next = up->early_ms;
    else if (up->stopping && now < up->late_ms)
        next = up->late_ms;
    else if (up->stopping)
        next = up->deadline_ms;
    if (next == UINT64_MAX)
        return -1;
    return next <= now ? 0 : next - now > 1000000 ? 1000000 : (int)(next - now);
}

static bool anything_left(const rr_up_t *up) {
    for (size_t i = 0; i < up->count; i++) {
        if (up->nodes[i]->state == UP_RUNNING || up->nodes[i]->state == UP_WAITING)
            return true;
    }
    return false;
}

static void turn(rr_up_t *up) {
    int wait_ms = timeouts(up);
    bool left = rr_printer_write(up->out), full = rr_printer_is_full(up->out);
    up->polls[0] = (struct pollfd){.fd = up->signals, .events = POLLIN};
    up->polls[1] = (struct pollfd){.fd = left ? STDOUT_FILENO : -1, .events = POLLOUT};
    for (size_t i = 0; i < up->count; i++) /* what nobody reads here waits there, and holds nobody (say.h) */
        up->polls[i + 2] = (struct pollfd){.fd = full ? -1 : up->nodes[i]->output, .events = POLLIN};
    int n = poll(up->polls, up->count + 2, wait_ms);
    for (size_t i = 0; n > 0 && i < up->count; i++) {
        if (up->polls[i + 2].revents)
            read_output(up, up->nodes[i], false);
    }
    if (n > 0 && up->polls[0].revents)
        on_signals(up);
}

/* ---- Before and after ---- */

/* Whose it is will be known when the nodes are chosen; until then the graph has one: without it must stay on loopback. */
static void promise_key(rr_up_t *up) {
    rr_graph_t *graph = up->options->graph;
    const char *file = "(of this run)";
    rr_raw_t raw = {.place = {"cluster_key", 0, 0}, .texts = &file, .count = 1};
    rr_graph_set(graph, rr_graph_top(graph), "cluster_key", &raw, NULL, true);
}

/* For a graph without one: that of another `up` which runs a part of it already, else a new one, if the master's node is among
 * ours. If it is not, the group has none. */
static bool find_key(rr_up_t *up) {
    char why[600];
    rr_share_t share;
    if (rr_graph_share(up->options->graph, &share) != RR_OK) /* of the node selected last: it was sound before */
        return true;
    const char *master = share.master ? share.master : share.advertise ? share.advertise : share.listen;
    bool other = rr_run_key_find(share.group, master, &up->key), ours = up->nodes[0]->rank == UP_MASTER;
    if (other && ours) {
        fprintf(stderr, "redrabbit: another `redrabbit up` runs group %s at %s already; end that one first\n", share.group, master);
        return false;
    }
    if (ours && rr_run_key_make(share.group, master, &up->key, why, sizeof why) != RR_OK) {
        fprintf(stderr, "redrabbit: %s\n", why);
        return false;
    }
    return true;
}

static bool wanted(const rr_up_options_t *options, const char *name) {
    for (size_t i = 0; i < options->node_count; i++) {
        if (strcmp(options->nodes[i], name) == 0)
            return true;
    }
    return options->node_count == 0;
}

/* Of the node that is selected, if it is not the master's. */
static rr_up_rank_t rank_of(rr_graph_t *graph) {
    rr_up_rank_t rank = UP_SCENES;
    for (size_t i = 0; i < rr_graph_actor_count(graph); i++) {
        const rr_item_t *actor = rr_graph_actor(graph, i);
        rr_up_rank_t own = actor->scope == RR_SCOPE_BROKER     ? UP_BROKERS
                           : actor->scope == RR_SCOPE_GATE     ? UP_GATES
                           : actor->scope == RR_SCOPE_DATABASE ? UP_DATABASES
                                                               : UP_SCENES;
        if (own > rank && rr_graph_runs(graph, actor))
            rank = own;
    }
    return rank;
}

static bool add_node(rr_up_t *up, const char *name) {
    rr_share_t share;
    if (rr_graph_select(up->options->graph, name) != RR_OK || rr_graph_share(up->options->graph, &share) != RR_OK)
        return true; /* noted in the graph */
    rr_up_node_t *node = calloc(1, sizeof *node);
    if (!node)
        return false;
    node->name = name;
    node->output = node->word = -1;
    node->rank = share.cluster && !share.master ? UP_MASTER : rank_of(up->options->graph);
    up->nodes[up->count++] = node;
    int length = (int)strlen(name);
    up->width = length > up->width ? length : up->width;
    return true;
}

/* The nodes, the master's first: the others would only wait for it. */
static bool choose(rr_up_t *up) {
    rr_graph_t *graph = up->options->graph;
    size_t count = rr_graph_node_count(graph);
    up->nodes = calloc(count + 1, sizeof(rr_up_node_t *));
    up->polls = calloc(count + 2, sizeof *up->polls);
    up->out = rr_printer_new(STDOUT_FILENO);
    bool ok = up->nodes && up->polls && up->out;
    for (size_t i = 0; i < up->options->node_count; i++) {
        if (rr_graph_select(graph, up->options->nodes[i]) != RR_OK)
            break; /* noted */
    }
    for (size_t i = 0; ok && i < count && !rr_graph_error_count(graph); i++) {
        if (wanted(up->options, rr_graph_node(graph, i)->name))
            ok = add_node(up, rr_graph_node(graph, i)->name);
    }
    for (size_t i = 1; ok && i < up->count; i++) {
        rr_up_node_t *node = up->nodes[i];
        if (node->rank != UP_MASTER)
            continue;
        memmove(up->nodes + 1, up->nodes, i * sizeof(rr_up_node_t *));
        up->nodes[0] = node;
    }
    return ok;
}

/* A closed terminal ends it, unless it was started to outlive that (nohup); elsewhere SIGHUP is passed on: logs are opened anew. */
static bool is_at_terminal(void) {
    struct sigaction was;
    return isatty(STDIN_FILENO) && sigaction(SIGHUP, NULL, &was) == 0 && was.sa_handler != SIG_IGN;
}

static bool watch_signals(rr_up_t *up) {
    sigset_t set;
    up->at_terminal = is_at_terminal();
    signal(SIGPIPE, SIG_IGN); /* who reads our output may end before we do */
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    if (sigprocmask(SIG_BLOCK, &set, NULL) != 0)
        return false;
    up->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return up->signals >= 0;
}

static void tell_how_to_look(const rr_up_t *up) {
    rr_printer_say(up->out, "redrabbit: who is where: redrabbit ps %s\n", up->options->file);
    if (up->key.path[0])
        rr_printer_say(up->out, "redrabbit: its key, found by ps, drain and --node of this user: %s\n", up->key.path);
}

static void run(rr_up_t *up) {
    for (size_t i = 0; i < up->count; i++) {
        if (up->stopping || start_node(up, up->nodes[i]))
            continue;
        fprintf(stderr, "redrabbit: node %s cannot be started: %s\n", up->nodes[i]->name, strerror(errno));
        stop_all(up, RR_EXIT_FAILED);
    }
    while (anything_left(up))
        turn(up);
}

static void finish(rr_up_t *up) {
    for (size_t i = 0; up->nodes && i < up->count; i++)
        free(up->nodes[i]);
    free(up->nodes);
    free(up->polls);
    rr_printer_free(up->out, PATIENCE_MS);
    if (up->signals >= 0)
        close(up->signals);
    rr_run_key_drop(&up->key);
}

int rr_up(const rr_up_options_t *options) {
    rr_up_t up = {.options = options, .signals = -1, .key = {.fd = -1}, .status = RR_EXIT_OK};
    const char *term = getenv("TERM"), *plain = getenv("NO_COLOR");
    up.colour = isatty(1) && !(plain && *plain) && term && strcmp(term, "dumb") != 0;
    bool keyless = !rr_item_value(rr_graph_top(options->graph), "cluster_key");
    if (!rr_graph_node_count(options->graph)) {
        fprintf(stderr, "redrabbit: %s has no nodes; add `nodes:`, or run it in one process: redrabbit %s\n", options->file,
                options->file);
        return RR_EXIT_USAGE;
    }
    int status = RR_EXIT_FAILED;
    if (rr_item_flag(rr_graph_top(options->graph), "daemon")) {
        fprintf(stderr, "redrabbit: up starts again what dies, so its nodes do not go to the background: leave out `daemon` (-d)\n");
        return RR_EXIT_USAGE;
    }
    if (keyless)
        promise_key(&up);
    if (!choose(&up) || !watch_signals(&up)) {
        fprintf(stderr, "redrabbit: cannot start: %s\n", strerror(errno));
        goto out;
    }
    status = RR_EXIT_USAGE;
    if (rr_graph_error_count(options->graph)) /* the caller shows them */
        goto out;
    status = RR_EXIT_FAILED;
    if (keyless && !find_key(&up))
        goto out;
    tell_how_to_look(&up);
    run(&up);
    status = up.status;
out:
    finish(&up);
    return status;
}
