/* up.c: `redrabbit up` as a whole: it starts the nodes, hears of their ends, and ends them. */
#include "conf/up_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "conf/run.h"
#include "conf/siblings.h"
#include "runtime/clock.h"

#define GRACE_MS 5000u    /* beyond a node's own drain deadline */
#define PATIENCE_MS 1000u /* with who does not read the last words */
#define EARLY_PERCENT 60u /* of that deadline is for scenes and databases, if they need it, before the others are told to end */

/* ---- Stopping ---- */

static void ask_to_end(const rr_up_t *up, rr_up_node_t *node) {
    if (node->state != UP_RUNNING || node->asked)
        return;
    node->asked = true;
    kill(node->pid, rr__up_end_signal(up)); /* ours, not yet waited for: it cannot be somebody else's */
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
    bool early = node->asked && !node->ready && WIFSIGNALED(status) && WTERMSIG(status) == rr__up_end_signal(up);
    node->state = UP_ENDED;
    up->strangers = up->strangers || WIFEXITED(status);
    if (node->rank == UP_MASTER)
        master_died(up);
    if (!well)
        tell_of_dead(up, node);
    rr__up_read_output(up, node, true);
    rr__up_close(&node->word);
    rr__up_close(&node->output); /* what it has left behind may hold it open for ever */
    rr__up_take_lines(up, node, true);
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
        if (node->restart_ms <= now && !rr__up_start(up, node))
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
            rr__up_read_output(up, up->nodes[i], false);
    }
    if (n > 0 && up->polls[0].revents)
        on_signals(up);
}

/* ---- Before and after ---- */

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
        if (up->stopping || rr__up_start(up, up->nodes[i]))
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
        rr__up_promise_key(&up);
    if (!rr__up_choose(&up) || !watch_signals(&up)) {
        fprintf(stderr, "redrabbit: cannot start: %s\n", strerror(errno));
        goto out;
    }
    status = RR_EXIT_USAGE;
    if (rr_graph_error_count(options->graph)) /* the caller shows them */
        goto out;
    status = RR_EXIT_FAILED;
    if (keyless && !rr__up_find_key(&up))
        goto out;
    tell_how_to_look(&up);
    run(&up);
    status = up.status;
out:
    finish(&up);
    return status;
}
