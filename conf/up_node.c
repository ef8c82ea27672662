/* up_node.c: a node of `redrabbit up`: its process, and what it prints. */
#include "conf/up_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "conf/run.h"
#include "conf/siblings.h"

#define READ_BYTES 4096u /* at once of a node's output: what is printed of it has room then */

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

void rr__up_take_lines(rr_up_t *up, rr_up_node_t *node, bool all) {
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

void rr__up_close(int *fd) {
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

void rr__up_read_output(rr_up_t *up, rr_up_node_t *node, bool all) {
    ssize_t got = 1;
    while (node->output >= 0 && got > 0 && (all || !rr_printer_is_full(up->out))) {
        size_t room = sizeof node->line - node->used;
        got = read(node->output, node->line + node->used, room < READ_BYTES ? room : READ_BYTES);
        if (got > 0)
            node->used += (size_t)got;
        if (got == 0)
            rr__up_close(&node->output);
        rr__up_take_lines(up, node, got == 0);
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
    if (prctl(PR_SET_PDEATHSIG, rr__up_end_signal(up)) != 0 || getppid() != parent) /* `up` was killed: no orphans */
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

bool rr__up_start(rr_up_t *up, rr_up_node_t *node) {
    int ends[2] = {-1, -1}, words[2] = {-1, -1};
    pid_t parent = getpid(), pid = -1;
    fflush(NULL);
    if (pipe2(ends, O_CLOEXEC) == 0 && fcntl(ends[0], F_SETFL, O_NONBLOCK) == 0 && rr_siblings_pair(words))
        pid = fork();
    if (pid == 0)
        become(up, node, ends[1], words[1], parent);
    rr__up_close(&ends[1]);
    rr__up_close(&words[1]);
    if (pid < 0) {
        rr__up_close(&ends[0]);
        rr__up_close(&words[0]);
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
