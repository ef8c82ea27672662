/* postgres_wire.c: one libpq connection, dialed and watched without ever blocking the loop.
 *
 * libpq closes and opens sockets as it likes while it connects (another address, without TLS), and the next one may have the
 * same number. So while dialing, nobody watches a socket across PQconnectPoll, and a new number gets a new handle. */
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "actors/database/postgres_impl.h"

#define ADDRESSES 8u /* of one name that are tried */
#define KEYWORDS 48u
#define FORMS "-c datestyle=ISO -c intervalstyle=postgres" /* what postgres_value.c reads */

struct rr__pg_poll {
    uv_poll_t uv;
    int fd;
    rr__pg_wire_t *wire;
};

static void dial_on(rr__pg_wire_t *wire);

/* ---- Errors ---- */

typedef struct state_rule {
    char state[6]; /* a whole SQLSTATE, or its class */
    rr_db_error_t error;
} state_rule_t;

static rr_db_error_t error_of(const char *state) {
    static const state_rule_t rules[] = {
        {"42501", RR_DB_AUTH},       {"57P01", RR_DB_CONNECTION}, {"57P02", RR_DB_CONNECTION}, {"57P03", RR_DB_CONNECTION},
        {"57P05", RR_DB_CONNECTION}, {"53300", RR_DB_CONNECTION}, {"57014", RR_DB_TIMEOUT},    {"55P03", RR_DB_DEADLOCK},
        {"08P01", RR_DB_DATA}, /* a wrong number of parameters */
        {"3D000", RR_DB_AUTH},       {"08", RR_DB_CONNECTION},    {"28", RR_DB_AUTH},          {"22", RR_DB_DATA},
        {"23", RR_DB_INTEGRITY},     {"40", RR_DB_DEADLOCK},      {"42", RR_DB_SYNTAX},        {"25", RR_DB_STATE},
    };
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
        if (strncmp(state, rules[i].state, strlen(rules[i].state)) == 0)
            return rules[i].error;
    return RR_DB_SERVER;
}

/* libpq's own messages may have several lines and end in one. */
static void copy_line(char *out, size_t size, const char *text) {
    size_t used = 0;
    for (; *text && used + 1 < size; text++)
        out[used++] = (unsigned char)*text < ' ' ? ' ' : *text;
    while (used && out[used - 1] == ' ')
        used--;
    out[used] = '\0';
}

void rr__pg_failure(const PGconn *pq, const PGresult *result, rr__db_failure_t *out) {
    *out = (rr__db_failure_t){.error = RR_DB_CONNECTION};
    const char *state = result ? PQresultErrorField(result, PG_DIAG_SQLSTATE) : NULL;
    const char *text = result ? PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY) : NULL;
    const char *detail = result ? PQresultErrorField(result, PG_DIAG_MESSAGE_DETAIL) : NULL;
    if (state) {
        snprintf(out->state, sizeof out->state, "%s", state);
        out->error = error_of(state);
    }
    if (state && strcmp(state, "42P18") == 0) /* undetermined */
        detail = "write it, as in ?::text";
    else if (text && strncmp(text, "malformed array literal: \"[", 26) == 0) /* a server with another language says it its way only */
        detail = "a list goes as JSON, an array as a text: '{1,2}'";
    char whole[sizeof out->message];
    if (!text)
        text = result ? PQresultErrorMessage(result) : PQerrorMessage(pq);
    snprintf(whole, sizeof whole, detail ? "%s: %s" : "%s", text && *text ? text : "the connection is broken", detail);
    copy_line(out->message, sizeof out->message, whole);
}

/* A refusal at the door has no result that could be asked. While dialing, libpq is told to be verbose: its text then has the
 * SQLSTATE before the message, "FATAL:  28P01: password …", in whatever language the server speaks. */
static void door_failure(const PGconn *pq, rr__db_failure_t *out) {
    rr__pg_failure(pq, NULL, out);
    const char *text = PQerrorMessage(pq);
    for (const char *at = text; (at = strstr(at, ":  ")); at++) {
        const char *state = at + 3;
        if (strspn(state, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") == 5 && state[5] == ':') {
            snprintf(out->state, sizeof out->state, "%.5s", state);
            out->error = error_of(out->state);
            char line[sizeof out->message];
            snprintf(line, sizeof line, "%.*s", (int)strcspn(state + 7, "\n"), state + 7);
            copy_line(out->message, sizeof out->message, line);
            return;
        }
    }
    if (PQconnectionNeedsPassword(pq))
        out->error = RR_DB_AUTH;
}

static void tell(rr__pg_wire_t *wire, const rr__db_failure_t *failure) {
    wire->up = !failure;
    wire->on_up(wire, failure);
}

static void tell_text(rr__pg_wire_t *wire, const char *text) {
    rr__db_failure_t failure = {.error = RR_DB_CONNECTION};
    snprintf(failure.message, sizeof failure.message, "%s", text);
    tell(wire, &failure);
}

/* ---- The socket ---- */

static void gone(rr__pg_wire_t *wire) {
    if (--wire->handles == 0 && wire->closing)
        wire->on_gone(wire);
}

static void on_poll_closed(uv_handle_t *handle) {
    rr__pg_poll_t *poll = handle->data;
    rr__pg_wire_t *wire = poll->wire;
    free(poll);
    gone(wire);
}

static void drop_poll(rr__pg_wire_t *wire) {
    if (wire->poll)
        uv_close((uv_handle_t *)&wire->poll->uv, on_poll_closed);
    wire->poll = NULL;
    wire->waits_for = 0;
}

static void on_ready(uv_poll_t *handle, int status, int events) {
    rr__pg_poll_t *poll = handle->data;
    if (status != 0)
        poll->wire->waits_for = 0; /* libuv watches a socket that was reset no more, although there may be something left to read */
    if (poll->wire->up)
        poll->wire->on_events(poll->wire); /* a broken socket too: reading it tells how */
    else
        dial_on(poll->wire);
}

static int watch(rr__pg_wire_t *wire, int fd) {
    rr__pg_poll_t *poll = calloc(1, sizeof *poll);
    if (!poll)
        return RR_ENOMEM;
    int rc = uv_poll_init(rr_loop_uv(rr__db_loop(wire->connection)), &poll->uv, fd);
    if (rc != 0) {
        free(poll);
        return rr_error_from_errno(rc);
    }
    poll->uv.data = poll;
    poll->fd = fd;
    poll->wire = wire;
    wire->poll = poll;
    wire->handles++;
    return RR_OK;
}

void rr__pg_rest(rr__pg_wire_t *wire) {
    if (wire->poll && wire->poll->fd != PQsocket(wire->pq))
        drop_poll(wire); /* libpq has closed it */
    else if (wire->poll)
        uv_poll_stop(&wire->poll->uv); /* never fails */
    wire->waits_for = 0;
}

int rr__pg_wait(rr__pg_wire_t *wire, int events) {
    int fd = PQsocket(wire->pq);
    if (wire->poll && wire->poll->fd != fd)
        drop_poll(wire);
    if (fd < 0)
        return RR_EIO;
    int rc = wire->poll ? RR_OK : watch(wire, fd);
    if (rc != RR_OK || wire->waits_for == events)
        return rc;
    rc = uv_poll_start(&wire->poll->uv, events, on_ready);
    wire->waits_for = rc == 0 ? events : 0;
    return rr_error_from_errno(rc);
}

/* libpq hands each sync to the kernel by itself; a cork makes one segment of several, and wakes the server once. */
static void set_cork(const rr__pg_wire_t *wire, int on) {
    if (rr__db_url(wire->connection)->host[0] != '/') /* a broken socket tells so when it is read */
        setsockopt(PQsocket(wire->pq), IPPROTO_TCP, TCP_CORK, &on, sizeof on);
}

static void on_before_wait(uv_prepare_t *handle) {
    rr__pg_wire_t *wire = handle->data;
    uv_prepare_stop(handle);
    wire->gathering = false;
    set_cork(wire, 0);
    wire->on_gathered(wire);
}

void rr__pg_gather(rr__pg_wire_t *wire) {
    if (wire->gathering)
        return;
    wire->gathering = true;
    if (!wire->gathers) {
        uv_prepare_init(rr_loop_uv(rr__db_loop(wire->connection)), &wire->gatherer); /* neither this nor its start ever fails */
        wire->gatherer.data = wire;
        wire->gathers = true;
        wire->handles++;
    }
    uv_prepare_start(&wire->gatherer, on_before_wait);
    set_cork(wire, 1);
}

/* ---- Dialing ---- */

static void dial_on(rr__pg_wire_t *wire) {
    rr__pg_rest(wire);
    PostgresPollingStatusType next = PQconnectPoll(wire->pq);
    if (next == PGRES_POLLING_READING || next == PGRES_POLLING_WRITING) {
        int rc = rr__pg_wait(wire, next == PGRES_POLLING_READING ? UV_READABLE : UV_WRITABLE);
        if (rc != RR_OK)
            tell_text(wire, rr_strerror(rc));
        return;
    }
    rr__db_failure_t failure;
    if (next != PGRES_POLLING_OK) {
        door_failure(wire->pq, &failure);
        tell(wire, &failure);
        return;
    }
    PQsetErrorVerbosity(wire->pq, PQERRORS_DEFAULT);
    int rc = PQsetnonblocking(wire->pq, 1) == 0 ? rr__pg_wait(wire, UV_READABLE) : RR_EIO;
    if (rc != RR_OK)
        tell_text(wire, rr_strerror(rc));
    else
        tell(wire, NULL);
}

static void on_notice(void *context, const PGresult *result) {
    rr__pg_wire_t *wire = context;
    const char *level = PQresultErrorField(result, PG_DIAG_SEVERITY);
    const char *text = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    rr_log(rr__db_system(wire->connection), RR_DEBUG, "DB", "%s says: %s: %s", rr__db_url(wire->connection)->host,
           level ? level : "notice", text ? text : "");
}

typedef struct words {
    const char *names[KEYWORDS + 1], *values[KEYWORDS + 1];
    size_t count;
} words_t;

static void add(words_t *words, const char *name, const char *value) {
    if (value && *value && words->count < KEYWORDS) {
        words->names[words->count] = name;
        words->values[words->count++] = value;
    }
}

/* addresses: of the host, separated by commas, so that libpq looks no name up; hosts: its name as often. Of a word given twice
 * libpq takes the latter: the URL's options overrule ours, but for the forms of values. */
static void dial(rr__pg_wire_t *wire, const char *hosts, const char *addresses) {
    const rr__db_url_t *url = rr__db_url(wire->connection);
    char port[12] = "5432";
    if (url->port)
        snprintf(port, sizeof port, "%u", url->port);
    words_t words = {0};
    add(&words, "host", hosts);
    add(&words, "hostaddr", addresses);
    add(&words, "port", port);
    add(&words, "user", url->user);
    add(&words, "password", url->password);
    add(&words, "dbname", url->database);
    add(&words, "client_encoding", "UTF8");
    add(&words, "application_name", "redrabbit");
    add(&words, "gssencmode", "disable"); /* it would read files */
    char options[1024] = FORMS;
    for (size_t i = 0; i < url->option_count; i++)
        if (strcmp(url->option_names[i], "options") != 0)
            add(&words, url->option_names[i], url->option_values[i]);
        else
            snprintf(options, sizeof options, "%s " FORMS, url->option_values[i]);
    add(&words, "options", options);
    wire->pq = PQconnectStartParams(words.names, words.values, 0);
    if (!wire->pq) {
        tell_text(wire, rr_strerror(RR_ENOMEM));
        return;
    }
    PQsetNoticeReceiver(wire->pq, on_notice, wire);
    PQsetErrorVerbosity(wire->pq, PQERRORS_VERBOSE);
    rr__db_failure_t failure;
    if (PQstatus(wire->pq) == CONNECTION_BAD) {
        door_failure(wire->pq, &failure);
        tell(wire, &failure);
        return;
    }
    int rc = rr__pg_wait(wire, UV_WRITABLE);
    if (rc != RR_OK)
        tell_text(wire, rr_strerror(rc));
}

static void dial_all(rr__pg_wire_t *wire, const struct addrinfo *list) {
    const char *name = rr__db_url(wire->connection)->host;
    char addresses[ADDRESSES * 48] = "", hosts[ADDRESSES * 256] = "";
    size_t used = 0, named = 0;
    for (unsigned i = 0; list && i < ADDRESSES && strlen(name) < 254; i++, list = list->ai_next) {
        char text[46];
        if (getnameinfo(list->ai_addr, list->ai_addrlen, text, sizeof text, NULL, 0, NI_NUMERICHOST) != 0)
            continue;
        used += (size_t)snprintf(addresses + used, sizeof addresses - used, used ? ",%s" : "%s", text);
        named += (size_t)snprintf(hosts + named, sizeof hosts - named, named ? ",%s" : "%s", name);
    }
    if (used)
        dial(wire, hosts, addresses);
    else
        tell_text(wire, "the host has no address");
}

static void on_resolved(uv_getaddrinfo_t *request, int status, struct addrinfo *list) {
    rr__pg_wire_t *wire = request->data;
    wire->resolving = false;
    if (!wire->closing) {
        char text[300];
        if (status == 0) {
            dial_all(wire, list);
        } else {
            snprintf(text, sizeof text, "%s: %s", rr__db_url(wire->connection)->host, uv_strerror(status));
            tell_text(wire, text);
        }
    }
    uv_freeaddrinfo(list);
    gone(wire);
}

void rr__pg_dial(rr__pg_wire_t *wire, rr__db_connection_t *connection) {
    wire->connection = connection;
    const char *host = rr__db_url(connection)->host;
    if (host[0] == '/') { /* a folder with the server's socket */
        dial(wire, host, NULL);
        return;
    }
    wire->resolver.data = wire;
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    int rc = uv_getaddrinfo(rr_loop_uv(rr__db_loop(connection)), &wire->resolver, on_resolved, *host ? host : "localhost", NULL,
                            &hints);
    if (rc != 0) {
        tell_text(wire, uv_strerror(rc));
        return;
    }
    wire->resolving = true;
    wire->handles++;
}

static void on_handle_closed(uv_handle_t *handle) {
    gone(handle->data);
}

void rr__pg_close(rr__pg_wire_t *wire) {
    if (wire->closing)
        return;
    wire->closing = true;
    wire->up = false;
    if (wire->resolving)
        uv_cancel((uv_req_t *)&wire->resolver); /* if it cannot be: on_resolved sees that we close */
    drop_poll(wire);
    if (wire->gathers)
        uv_close((uv_handle_t *)&wire->gatherer, on_handle_closed);
    PQfinish(wire->pq);
    wire->pq = NULL;
    if (!wire->handles) { /* on_gone must not come from inside: a handle that does nothing is closed in the loop's own time */
        uv_idle_init(rr_loop_uv(rr__db_loop(wire->connection)), &wire->turn);
        wire->turn.data = wire;
        wire->handles++;
        uv_close((uv_handle_t *)&wire->turn, on_handle_closed);
    }
}

int rr__pg_check(const rr__db_url_t *url, char *why, size_t why_size) {
    PQconninfoOption *known = PQconndefaults();
    if (!known)
        return RR_ENOMEM;
    int rc = RR_OK;
    for (size_t i = 0; i < url->option_count && rc == RR_OK; i++) {
        bool found = false;
        for (const PQconninfoOption *option = known; option->keyword && !found; option++)
            found = strcmp(option->keyword, url->option_names[i]) == 0;
        if (!found) {
            snprintf(why, why_size, "PostgreSQL has no connection option '%s'", url->option_names[i]);
            rc = RR_EINVAL;
        }
    }
    PQconninfoFree(known);
    return rc;
}
