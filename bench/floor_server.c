#include "bench/floor_server.h"

#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/address.h"
#include "bench/bench.h"

int floor_listen(const char *text) {
    address_t address;
    int one = 1;
    address_parse(text, &address);
    int fd = socket(address.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        bench_die("socket: %s", strerror(errno));
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&address.storage, address.size) != 0 || listen(fd, 4096) != 0)
        bench_die("%s: %s", text, strerror(errno));
    return fd;
}

static unsigned port_of(int fd) {
    struct sockaddr_in in = {0};
    socklen_t size = sizeof in;
    if (getsockname(fd, (struct sockaddr *)&in, &size) != 0)
        bench_die("getsockname: %s", strerror(errno));
    return ntohs(in.sin_port);
}

void floor_server_start(floor_server_t *server, const char *kind, int cpu) {
    int fd = floor_listen("tcp://127.0.0.1:0");
    bool ws = strcmp(kind, "epoll-ws") == 0, uv = strcmp(kind, "libuv-tcp") == 0;
    pid_t parent = getpid();
    if (!ws && !uv && strcmp(kind, "epoll-tcp") != 0)
        bench_die("no floor server '%s': epoll-tcp, epoll-ws, libuv-tcp", kind);
    bench_need_files(20000);
    snprintf(server->to, sizeof server->to, "%s://127.0.0.1:%u", ws ? "ws" : "tcp", port_of(fd));
    fflush(NULL);
    server->pid = fork();
    if (server->pid < 0)
        bench_die("fork: %s", strerror(errno));
    if (server->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(1);
        bench_pin(cpu);
        if (uv)
            floor_libuv_serve(fd);
        floor_epoll_serve(fd);
    }
    close(fd);
}

void floor_server_stop(floor_server_t *server) {
    if (server->pid > 0) {
        kill(server->pid, SIGKILL);
        waitpid(server->pid, NULL, 0);
    }
    server->pid = 0;
}
