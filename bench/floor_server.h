/* floor_server.h: the least a server can do: what bare epoll and bare libuv reach is this machine's limit for a server
 * on one core. They speak the wire protocol (login swallowed, cmd 1 echoed, cmd 2 sent to all; bare epoll: cmd 5 to
 * its sender's room: a login's key `20-floor-47` says room 47 / 20) and nothing else. */
#ifndef RR_BENCH_FLOOR_SERVER_H
#define RR_BENCH_FLOOR_SERVER_H

#include <sys/types.h>

#define FLOOR_CMD_ECHO 1
#define FLOOR_CMD_BROADCAST 2
#define FLOOR_CMD_ROOM 5

typedef struct floor_server {
    pid_t pid;
    char to[64]; /* where it listens, as the generator wants it */
} floor_server_t;

/* kind: epoll-tcp, epoll-ws, libuv-tcp. Forks a child bound to `cpu` (-1: not) that listens on a free loopback port and
 * dies with its parent. Ends the program if that fails. */
void floor_server_start(floor_server_t *server, const char *kind, int cpu);
void floor_server_stop(floor_server_t *server);

/* Serves an already listening socket for ever. */
_Noreturn void floor_epoll_serve(int listener);
_Noreturn void floor_libuv_serve(int listener);

/* A listening TCP socket; ends the program if the address is taken. */
int floor_listen(const char *address);

#endif
