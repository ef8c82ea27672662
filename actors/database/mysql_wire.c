/* mysql_wire.c: a MYSQL on a libuv loop: calls that wait are continued when the socket is ready. */
#include <errno.h>
#include <mysqld_error.h>
#include <errmsg.h>
#include <string.h>
#include <sys/socket.h>

#include "actors/database/mysql_impl.h"

/* Ways to log in that do not give the password away: any server could ask for it as it is (mysql_clear_password, dialog). */
#define PLUGINS "mysql_native_password,client_ed25519,caching_sha2_password,sha256_password"
#define TURNS_MAX 10000 /* of a call whose socket is shut down: each ends a wait by an error */

/* ---- Calls ---- */

static int connect_cont(my_link_t *link, int ready) { return mysql_real_connect_cont(&link->opened, link->mysql, ready); }
int rr__my_query_cont(my_link_t *link, int ready) { return mysql_real_query_cont(&link->code, link->mysql, ready); }
int rr__my_prepare_cont(my_link_t *link, int ready) { return mysql_stmt_prepare_cont(&link->code, link->statement, ready); }
int rr__my_execute_cont(my_link_t *link, int ready) { return mysql_stmt_execute_cont(&link->code, link->statement, ready); }
int rr__my_fetch_cont(my_link_t *link, int ready) { return mysql_stmt_fetch_cont(&link->code, link->statement, ready); }
int rr__my_fetch_row_cont(my_link_t *link, int ready) { return mysql_fetch_row_cont(&link->row, link->result, ready); }
int rr__my_free_result_cont(my_link_t *link, int ready) { return mysql_free_result_cont(link->result, ready); }
int rr__my_statement_free_cont(my_link_t *link, int ready) { return mysql_stmt_free_result_cont(&link->flag, link->statement, ready); }
int rr__my_next_cont(my_link_t *link, int ready) { return mysql_next_result_cont(&link->code, link->mysql, ready); }
int rr__my_statement_next_cont(my_link_t *link, int ready) { return mysql_stmt_next_result_cont(&link->code, link->statement, ready); }
int rr__my_statement_close_cont(my_link_t *link, int ready) { return mysql_stmt_close_cont(&link->flag, link->statement, ready); }

/* ---- Waiting ---- */

static void on_poll(uv_poll_t *poll, int status, int events);
static void on_timer(uv_timer_t *timer);

/* The socket is polled for reading all the time: no system call a query. */
void rr__my_watch(my_link_t *link) {
    int events = UV_READABLE | (link->waits & MYSQL_WAIT_WRITE || link->stuck ? UV_WRITABLE : 0) | (link->waits & MYSQL_WAIT_EXCEPT ? UV_PRIORITIZED : 0);
    if (!link->polls && link->mysql && mysql_get_socket(link->mysql) != (my_socket)-1 &&
        uv_poll_init_socket(rr_loop_uv(link->loop), &link->poll, mysql_get_socket(link->mysql)) == 0) {
        link->poll.data = link;
        link->polls = true;
        link->handles++;
    }
    if (link->polls && link->events != events && uv_poll_start(&link->poll, events, on_poll) == 0)
        link->events = events;
    if (link->waits & MYSQL_WAIT_TIMEOUT)
        uv_timer_start(&link->timer, on_timer, mysql_get_timeout_value_ms(link->mysql), 0);
}

void rr__my_await(my_link_t *link, int waits, my_cont_fn cont, my_step_fn after) {
    link->waits = waits;
    link->cont = cont;
    if (waits) {
        link->after = after;
        rr__my_watch(link);
    } else {
        link->step = after;
    }
}

void rr__my_go(my_link_t *link, my_step_fn step) {
    link->step = step;
    while ((step = link->step)) {
        link->step = NULL;
        step(link);
    }
}

/* What the call under way waits for came. */
static void go_on(my_link_t *link, int ready) {
    int waits = link->waits;
    if (waits & MYSQL_WAIT_TIMEOUT)
        uv_timer_stop(&link->timer);
    link->waits = link->cont(link, ready);
    if (link->waits) {
        rr__my_watch(link);
        return;
    }
    if (link->polls && link->events != UV_READABLE)
        rr__my_watch(link);
    rr__my_go(link, link->after);
}

static void on_poll(uv_poll_t *poll, int status, int events) {
    my_link_t *link = poll->data;
    if (status < 0)
        link->events = 0; /* libuv watches a socket that was reset no more, although there may be something left to read */
    if (link->stuck && (status < 0 || events & UV_WRITABLE))
        rr__my_pipe_flush(link);
    int ready = status < 0 ? MYSQL_WAIT_READ | MYSQL_WAIT_WRITE
                           : (events & (UV_READABLE | UV_DISCONNECT) ? MYSQL_WAIT_READ : 0) | (events & UV_WRITABLE ? MYSQL_WAIT_WRITE : 0) |
                                 (events & UV_PRIORITIZED ? MYSQL_WAIT_EXCEPT : 0);
    if (link->waits & ready)
        go_on(link, link->waits & ready);
    else if (link->waits && status < 0)
        go_on(link, link->waits & ~MYSQL_WAIT_TIMEOUT);
    else if (!link->waits && link->idle)
        link->idle(link);
}

static void on_timer(uv_timer_t *timer) {
    my_link_t *link = timer->data;
    if (link->waits & MYSQL_WAIT_TIMEOUT)
        go_on(link, MYSQL_WAIT_TIMEOUT);
}

static void on_later(uv_timer_t *timer) {
    my_link_t *link = timer->data;
    rr__my_go(link, link->after);
}

void rr__my_later(my_link_t *link, unsigned ms, my_step_fn step) {
    link->after = step;
    uv_timer_start(&link->timer, on_later, ms, 0);
}

/* ---- Opening and closing ---- */

int rr__my_link_init(my_link_t *link, rr_loop_t *loop, void *owner) {
    memset(link, 0, sizeof *link);
    link->loop = loop;
    link->owner = owner;
    link->mysql = mysql_init(NULL);
    if (!link->mysql)
        return RR_ENOMEM;
    uv_timer_init(rr_loop_uv(loop), &link->timer);
    link->timer.data = link;
    link->handles = 1;
    return RR_OK;
}

static void set_options(MYSQL *mysql, const rr__db_url_t *url, unsigned timeout_ms) {
    my_bool no = 0;
    unsigned off = 0;
    mysql_options(mysql, MYSQL_OPT_NONBLOCK, 0);
    mysql_options(mysql, MYSQL_SET_CHARSET_NAME, "utf8mb4");
    mysql_options(mysql, MYSQL_OPT_LOCAL_INFILE, &off); /* a server must not ask for our files */
    mysql_options(mysql, MYSQL_OPT_RECONNECT, &no);
    if (!rr__my_tls_verify(url))
        mysql_optionsv(mysql, MARIADB_OPT_RESTRICTED_AUTH, PLUGINS);
    mysql_options(mysql, MYSQL_INIT_COMMAND, "SET SESSION autocommit = 1");
    if (rr__my_tls(url))
        rr__my_tls_options(mysql, url, timeout_ms);
}

static int connect_on_thread(my_link_t *link, const rr__db_url_t *url, unsigned timeout_ms, my_step_fn after) {
    link->url = url;
    link->timeout_ms = timeout_ms;
    link->after = after;
    int rc = rr__my_tls_connect(link);
    link->works = rc == RR_OK;
    link->waits = link->works ? MYSQL_WAIT_READ : 0;
    return rc;
}

void rr__my_works_no_more(my_link_t *link) {
    link->works = false;
    link->waits = 0;
    if (link->opened && !link->closes)
        rr__my_watch(link);
    rr__my_go(link, link->after);
    if (link->closes)
        rr__my_link_close(link);
}

int rr__my_connect(my_link_t *link, const rr__db_url_t *url, const char *address, unsigned timeout_ms, my_step_fn after) {
    const char *socket = rr__db_url_option(url, "socket");
    set_options(link->mysql, url, timeout_ms);
    if (rr__my_tls(url))
        return connect_on_thread(link, url, timeout_ms, after);
    int waits = mysql_real_connect_start(&link->opened, link->mysql, socket ? NULL : address, url->user, url->password,
                                         url->database[0] ? url->database : NULL, socket ? 0 : url->port ? url->port : 3306, socket, 0);
    rr__my_await(link, waits, connect_cont, after);
    return RR_OK;
}

/* libmariadb enforces nothing as long as it looks at no certificate: from a server without TLS it takes a connection in the clear. */
bool rr__my_is_private(MYSQL *mysql, const rr__db_url_t *url) {
    return !rr__my_tls(url) || mysql_get_ssl_cipher(mysql);
}

static void on_closed(uv_handle_t *handle) {
    my_link_t *link = handle->data;
    if (--link->handles == 0)
        link->closed(link);
}

void rr__my_pause(my_link_t *link) {
    if (link->polls)
        uv_poll_stop(&link->poll);
    link->events = 0;
}

/* A shut socket answers every wait at once. */
void rr__my_link_shut(my_link_t *link) {
    if (link->works) {
        rr__my_tls_stop(link);
        return;
    }
    my_socket socket = mysql_get_socket(link->mysql);
    if (socket != (my_socket)-1)
        (void)shutdown(socket, SHUT_RDWR); /* one that is not connected yet fails in its next step all the same */
    link->idle = NULL;
    for (int turns = 0; link->waits && turns < TURNS_MAX; turns++) {
        link->waits = link->cont(link, link->waits & MYSQL_WAIT_TIMEOUT ? MYSQL_WAIT_TIMEOUT : link->waits);
        if (!link->waits)
            rr__my_go(link, link->after);
    }
}

void rr__my_link_close(my_link_t *link) {
    link->idle = NULL;
    link->closes = link->works;
    if (link->works)
        return;
    rr__my_pause(link);
    rr__my_pipe_drop(link);
    if (link->polls) /* before its descriptor is closed, which may be another thread's at once */
        uv_close((uv_handle_t *)&link->poll, on_closed);
    mysql_close(link->mysql);
    link->mysql = NULL;
    if (link->has_back)
        uv_close((uv_handle_t *)&link->back, on_closed);
    uv_close((uv_handle_t *)&link->timer, on_closed);
}

/* ---- Errors ---- */

static rr_db_error_t by_number(unsigned number) {
    switch (number) {
    case CR_CONNECTION_ERROR:
    case CR_CONN_HOST_ERROR:
    case CR_UNKNOWN_HOST:
    case CR_SERVER_GONE_ERROR:
    case CR_SERVER_HANDSHAKE_ERR:
    case CR_SERVER_LOST:
    case CR_SERVER_LOST_EXTENDED:
    case CR_COMMANDS_OUT_OF_SYNC:
    case CR_MALFORMED_PACKET:
    case CR_SSL_CONNECTION_ERROR:
    case ER_SERVER_SHUTDOWN:
    case ER_NORMAL_SHUTDOWN:
    case ER_CONNECTION_KILLED:
    case ER_CON_COUNT_ERROR:
    case ER_TOO_MANY_USER_CONNECTIONS:
    case ER_USER_LIMIT_REACHED:
    case ER_NEW_ABORTING_CONNECTION:
        return RR_DB_CONNECTION;
    case ER_DBACCESS_DENIED_ERROR:
    case ER_ACCESS_DENIED_ERROR:
    case ER_ACCESS_DENIED_NO_PASSWORD_ERROR:
    case ER_BAD_DB_ERROR:
    case ER_HOST_NOT_PRIVILEGED:
    case ER_HOST_IS_BLOCKED:
    case CR_AUTH_PLUGIN_CANNOT_LOAD:
    case CR_AUTH_PLUGIN_ERR:
    case CR_PLUGIN_NOT_ALLOWED:
    case ER_TABLEACCESS_DENIED_ERROR:
    case ER_COLUMNACCESS_DENIED_ERROR:
        return RR_DB_AUTH;
    case ER_LOCK_DEADLOCK:
    case ER_LOCK_WAIT_TIMEOUT:
        return RR_DB_DEADLOCK;
    case ER_QUERY_INTERRUPTED:
        return RR_DB_CANCELLED;
    case ER_STATEMENT_TIMEOUT:
        return RR_DB_TIMEOUT;
    case ER_BAD_NULL_ERROR:
    case ER_NO_DEFAULT_FOR_FIELD:
    case ER_DUP_UNIQUE:
    case ER_CONSTRAINT_FAILED:
    case 3819: /* MySQL's check constraint */
        return RR_DB_INTEGRITY;
    case ER_NET_PACKET_TOO_LARGE:
    case ER_WARN_DATA_OUT_OF_RANGE:
    case ER_TRUNCATED_WRONG_VALUE:
    case ER_TRUNCATED_WRONG_VALUE_FOR_FIELD:
    case ER_DATA_TOO_LONG:
    case ER_INVALID_CHARACTER_STRING:
        return RR_DB_DATA;
    default:
        return RR_DB_OK;
    }
}

static rr_db_error_t by_state(const char *state) {
    static const struct {
        char prefix[4];
        rr_db_error_t error;
    } states[] = {{"08", RR_DB_CONNECTION}, {"22", RR_DB_DATA}, {"23", RR_DB_INTEGRITY}, {"28", RR_DB_AUTH}, {"40", RR_DB_DEADLOCK}, {"42", RR_DB_SYNTAX}};
    for (size_t i = 0; i < sizeof states / sizeof *states; i++) {
        if (strncmp(state, states[i].prefix, 2) == 0)
            return states[i].error;
    }
    return RR_DB_SERVER;
}

/* Packets too large cost the connection too: the server closes it. */
bool rr__my_failure(unsigned number, const char *state, const char *message, rr__db_failure_t *out) {
    memset(out, 0, sizeof *out);
    out->error = by_number(number);
    if (out->error == RR_DB_OK)
        out->error = number >= CR_MIN_ERROR && number <= CR_MYSQL_LAST_ERROR ? RR_DB_SERVER : by_state(state);
    out->number = number;
    snprintf(out->state, sizeof out->state, "%s", state);
    snprintf(out->message, sizeof out->message, "%s", message);
    return out->error == RR_DB_CONNECTION || number == ER_NET_PACKET_TOO_LARGE;
}
