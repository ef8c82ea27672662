/* mysql_pipe.c: executions that are under way on a link behind each other. libmariadb does one at a time: it writes and reads in
 * one call. So the requests, which it makes, are written here, and their answers are read by its own reading half, in their
 * order. A server takes the next request when it has answered the one before, and need not wait for us between the two. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "actors/database/mysql_impl.h"

#define HEAD 5u           /* of a packet with a command: size (3 bytes), number within its exchange, command */
#define REQUEST_MAX 4096u /* a larger one goes alone */
#define COMMAND 0x17u     /* COM_STMT_EXECUTE */

/* ---- Writing ---- */

static void broken(my_link_t *link) {
    (void)shutdown(mysql_get_socket(link->mysql), SHUT_RDWR); /* the answer that is waited for becomes an error */
    link->unsent_size = 0;
}

void rr__my_pipe_flush(my_link_t *link) {
    link->stuck = false;
    if (!link->mysql || link->unsent_size == 0)
        return;
    ssize_t sent = send(mysql_get_socket(link->mysql), link->unsent, link->unsent_size, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN && errno != EINTR) {
        broken(link);
        return;
    }
    size_t left = link->unsent_size - (sent > 0 ? (size_t)sent : 0);
    memmove(link->unsent, link->unsent + (link->unsent_size - left), left);
    link->unsent_size = left;
    link->stuck = left > 0;
}

static void on_gathered(rr_deferred_t *item) {
    my_link_t *link = (my_link_t *)((char *)item - offsetof(my_link_t, gathered));
    rr__my_pipe_flush(link);
    if (link->stuck)
        rr__my_watch(link);
}

static bool make_room(my_link_t *link, size_t size) {
    size_t capacity = link->unsent_capacity ? link->unsent_capacity : 1024;
    while (capacity < size)
        capacity *= 2;
    uint8_t *bigger = capacity > link->unsent_capacity ? realloc(link->unsent, capacity) : link->unsent;
    if (!bigger)
        return false;
    link->unsent = bigger;
    link->unsent_capacity = capacity;
    return true;
}

bool rr__my_pipe_put(my_link_t *link, MYSQL_STMT *statement) {
    size_t size = 0;
    unsigned char *request = link->mysql->methods->db_execute_generate_request(statement, &size, 0);
    bool good = request && size <= REQUEST_MAX && make_room(link, link->unsent_size + HEAD + size);
    if (good) {
        uint8_t *at = link->unsent + link->unsent_size;
        size_t packet = size + 1;
        memcpy(at, (uint8_t[HEAD]){packet & 0xff, packet >> 8 & 0xff, packet >> 16 & 0xff, 0, COMMAND}, HEAD);
        memcpy(at + HEAD, request, size);
        link->unsent_size += HEAD + size;
        link->gathered.fn = on_gathered;
        rr_loop_defer(link->loop, &link->gathered);
    } else {
        statement->send_types_to_server = 1; /* the request that is dropped had them, the next one must */
    }
    free(request);
    return good;
}

/* ---- Reading ---- */

typedef struct my_entry { /* in the place of a MYSQL's methods until libmariadb has begun to read */
    struct st_mariadb_methods methods; /* first */
    const struct st_mariadb_methods *own;
    MYSQL_STMT *statement;
} my_entry_t;

static int read_execution(MYSQL *mysql) {
    const my_entry_t *entry = (const my_entry_t *)mysql->methods;
    mysql->methods = entry->own;
    return mysql->methods->db_read_execute_response(entry->statement);
}

/* There is no call that reads an execution's answer and does not wait, but one that reads a text's: it is led to the other. */
static int read_start(my_link_t *link) {
    MYSQL *mysql = link->mysql;
    my_entry_t entry = {.methods.db_read_query_result = read_execution, .own = mysql->methods, .statement = link->statement};
    mysql->methods = &entry.methods;
    int waits = mysql_read_query_result_start(&link->flag, mysql);
    mysql->methods = entry.own; /* also when it did not begin */
    return waits;
}

static int read_cont(my_link_t *link, int ready) { return mysql_read_query_result_cont(&link->flag, link->mysql, ready); }

static int read_first(my_link_t *link, int ready) {
    (void)ready;
    link->cont = read_cont;
    return read_start(link);
}

void rr__my_pipe_read(my_link_t *link, MYSQL_STMT *statement, bool first, my_step_fn after) {
    link->statement = statement;
    if (first) /* nothing of its answer can be here */
        rr__my_await(link, MYSQL_WAIT_READ, read_first, after);
    else
        rr__my_await(link, read_start(link), read_cont, after);
}

/* ---- Its end ---- */

void rr__my_pipe_drop(my_link_t *link) {
    rr_loop_defer_cancel(link->loop, &link->gathered);
    free(link->unsent);
    link->unsent = NULL;
    link->unsent_size = link->unsent_capacity = 0;
    link->stuck = false;
}
