#include "conf/options.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "actors/database/database.h"
#include "net/address.h"
#include "runtime/redrabbit.h"

#define G RR_SCOPE_GRAPH
#define N RR_SCOPE_NODE
#define B RR_SCOPE_BROKER
#define T RR_SCOPE_GATE
#define S RR_SCOPE_SCENE
#define D RR_SCOPE_DATABASE
#define SECOND INT64_C(1000)
#define DAY (INT64_C(86400) * SECOND)
#define KIB INT64_C(1024)
#define MIB (KIB * KIB)
#define GIB (MIB * KIB)
#define MANY INT64_C(16777215)

/* clang-format off */
const rr_option_t rr_options[] = {
    {G, "group", RR_TYPE_NAME, "default", 0, 0, NULL, "-group", "The group's name; each group has one broker that owns its names."},
    {G, "venv", RR_TYPE_PATH, NULL, 0, 0, NULL, "-python_venv", "Virtual environment of the scripts; else $VIRTUAL_ENV, else .venv beside the graph, else none."},
    {G, "python_path", RR_TYPE_PATHS, NULL, 0, 0, NULL, "-python_path", "More folders to import from. On the command line also the folder that holds main.py."},
    {G, "cluster_key", RR_TYPE_PATH, NULL, 0, 0, NULL, "-cluster_key", "File with the key that the nodes of a cluster share; without one they stay on loopback."},
    {G, "cluster.lease", RR_TYPE_DURATION, "15s", SECOND, DAY, NULL, NULL, "How long a name stays its owner's without a renewal; the master's counts."},
    {G, "cluster.margin", RR_TYPE_DURATION, "2s", 100, DAY, NULL, NULL, "What the master waits beyond the lease before it gives a name away."},
    {G, "cluster.heartbeat", RR_TYPE_DURATION, "1s", 20, DAY, NULL, NULL, "How often an idle link gives a sign of life."},
    {G, "cluster.suspect", RR_TYPE_DURATION, "3s", 50, DAY, NULL, NULL, "A node silent for this long is suspect."},
    {G, "cluster.link_down", RR_TYPE_DURATION, "10s", 100, DAY, NULL, NULL, "A node silent for this long is given up: calls end with LINKDOWN, monitors fire."},
    {G, "cluster.join_timeout", RR_TYPE_DURATION, "0", 0, DAY, NULL, "-join_timeout", "How long the start waits for the master; 0 = for ever."},
    {G, "drain", RR_TYPE_DURATION, "10s", 0, DAY, NULL, "-drain_timeout", "How long an orderly stop may take."},
    {G, "log.level", RR_TYPE_CHOICE, "info", 0, 0, "fatal|error|warn|info|debug|trace", "-log_level", "What is logged; 1 to 6 mean the same."},
    {G, "log.classes", RR_TYPE_TEXTS, NULL, 0, 0, NULL, "-log_class", "Only these modules log; all if absent."},
    {G, "log.screen", RR_TYPE_FLAG, "true", 0, 0, NULL, "-log_print_screen", "Log to standard output."},
    {G, "log.to_file", RR_TYPE_FLAG, NULL, 0, 0, NULL, "-log_print_file", "Log to files in log.path; true by itself if log.path is given."},
    {G, "log.path", RR_TYPE_PATH, "log", 0, 0, NULL, "-log_path", "Folder of the log files."},
    {G, "log.name", RR_TYPE_TEXT, "redrabbit", 0, 0, NULL, "-log_filename", "Stem of the log files' names."},
    {G, "perf.path", RR_TYPE_PATH, NULL, 0, 0, NULL, "-perf_path", "Folder of the periodic performance report; none if absent."},
    {G, "perf.interval", RR_TYPE_DURATION, "5m", SECOND, DAY, NULL, "-perf_timeout", "How often the performance report is written."},
    {G, "max_actors", RR_TYPE_COUNT, "4194304", 16, MANY, NULL, NULL, "Most actors alive at once."},
    {G, "threads", RR_TYPE_COUNT, "0", 0, 1024, NULL, "-threads", "Threads for actors written in C; 0 = one a CPU. More only stand in for turns above 10 ms."},
    {G, "python_threads", RR_TYPE_COUNT, "0", 0, 1024, NULL, "-python_threads", "Threads for scenes; 0 = one a CPU, at least 2."},
    {G, "loops", RR_TYPE_COUNT, "0", 0, 64, NULL, "-loops", "Network threads; 0 = 1, from 8 CPUs on 2."},
    {G, "reload_on_save", RR_TYPE_FLAG, "false", 0, 0, NULL, "--watch", "For development: a saved script, and what it imports from its folder or python_path, is loaded at once; clients stay. Handlers above 100 ms are warned of. `redrabbit up` does so unless this says false."},
    {G, "daemon", RR_TYPE_FLAG, "false", 0, 0, NULL, "-d", "Run in the background."},

    {N, "address", RR_TYPE_ADDRESS, NULL, 0, 0, NULL, NULL, "Where the other nodes reach this one, and its port for nodes; absent: they reach it through a broker."},
    {N, "listen", RR_TYPE_ADDRESS, NULL, 0, 0, NULL, NULL, "What it binds, if that is not its address: tcp://*:7000 in a container or behind NAT."},
    {N, "threads", RR_TYPE_COUNT, "0", 0, 1024, NULL, NULL, "As the graph's threads, on this node."},
    {N, "python_threads", RR_TYPE_COUNT, "0", 0, 1024, NULL, NULL, "As the graph's python_threads, on this node."},
    {N, "loops", RR_TYPE_COUNT, "0", 0, 64, NULL, NULL, "As the graph's loops, on this node."},

    {B | T | S | D, "node", RR_TYPE_NAME, NULL, 0, 0, NULL, NULL, "The node that runs this actor; moving an actor is editing this."},

    {B, "listen", RR_TYPE_ADDRESS, NULL, 0, 0, NULL, "-broker", "The address that other processes of the group connect to; on a node with an address it is that."},
    {B, "master", RR_TYPE_ADDRESS, NULL, 0, 0, NULL, "-master_broker", "The master broker that this one registers with."},
    {B, "state", RR_TYPE_PATH, NULL, 0, 0, NULL, "-broker_state", "The master's file: the number of its starts; else GROUP.state in $STATE_DIRECTORY, $XDG_STATE_HOME/redrabbit or ~/.local/state/redrabbit."},
    {B, "fresh", RR_TYPE_FLAG, "false", 0, 0, NULL, "-broker_fresh", "Says that no node of the master's earlier start lives any more: it grants names at once, also after a crash. `redrabbit up` knows."},
    {B, "bridges", RR_TYPE_TEXTS, NULL, 0, 0, NULL, "-bridge_broker", "Bridges to other groups, each with this group's name there: GROUP@tcp://host:port of a bare broker, whose group is `default`."},

    {T, "listen", RR_TYPE_ADDRESSES, NULL, 0, 0, NULL, "-gate_listen", "Where clients connect: tcp:// speaks everything, ws:// WebSocket and HTTP only. `?byte_order=network` (or `little`) behind a port is for that listener alone."},
    {T, "login", RR_TYPE_NAME, "scene@0", 0, 0, NULL, "-gate_login", "The scene that verifies logins."},
    {T, "session_id", RR_TYPE_CHOICE, "str", 0, 0, "str|int", "-session_id", "int turns ids of digits into numbers."},
    {T, "byte_order", RR_TYPE_CHOICE, "little", 0, 0, "little|network", "-byte_order", "Of the 8-byte header, on all listeners that do not say it themselves: `tcp://127.0.0.1:10243?byte_order=network`."},
    {T, "max_packet_size", RR_TYPE_BYTES, "1000000", 1, GIB, NULL, "-max_packet_size", "Longest body in either direction: a client that sends a longer one is closed (1009), a longer one of a scene is not sent (logged, counted)."},
    {T, "heartbeat_timeout", RR_TYPE_DURATION, "600", 0, DAY, NULL, "-heartbeat_timeout", "A client silent for this long is closed (4004); 0 = never."},
    {T, "heartbeat_cmd", RR_TYPE_COUNT, NULL, 0, 65535, NULL, "-heartbeat_cmd", "A cmd that the gate swallows: TCP clients stay alive by it."},
    {T, "login_timeout", RR_TYPE_DURATION, "15s", 100, DAY, NULL, "-login_timeout", "From the connect to the verifier's yes; then closed (4005)."},
    {T, "frame_timeout", RR_TYPE_DURATION, "30s", 100, DAY, NULL, NULL, "A frame that was begun must be complete within; then closed (1002)."},
    {T, "rate.messages", RR_TYPE_COUNT, "0", 0, MANY, NULL, "-rate", "Messages a second of one client; above it closed (4006); 0 = any."},
    {T, "rate.burst", RR_TYPE_COUNT, "0", 0, MANY, NULL, NULL, "Messages at once that the rate forgives; 0 = twice rate.messages."},
    {T, "queue.messages", RR_TYPE_COUNT, "1024", 1, MANY, NULL, NULL, "Messages held for a client that moves between scenes; then closed (4007)."},
    {T, "queue.bytes", RR_TYPE_BYTES, "4MiB", 1, GIB, NULL, NULL, "The same in bytes."},
    {T, "scene_lost", RR_TYPE_CHOICE, "close", 0, 0, "close|wait|relogin", "-scene_lost", "Sessions whose scene is gone (crashed, its node down, its name another's; or drained with its node, and nobody took them): closed (4009; 1001 if it was stopped); or they wait and enter the name's next owner; or they log in again with the key they gave."},
    {T, "scene_wait", RR_TYPE_DURATION, "30s", 0, DAY, NULL, "-scene_wait", "How long they wait, their input held up to queue.messages and queue.bytes; then closed (4009)."},
    {T, "login_queue.messages", RR_TYPE_COUNT, "64", 1, MANY, NULL, NULL, "Messages pipelined behind an unanswered login; then closed (4007)."},
    {T, "login_queue.bytes", RR_TYPE_BYTES, "256KiB", 1, GIB, NULL, NULL, "The same in bytes; at least one message."},
    {T, "max_logins", RR_TYPE_COUNT, "10000", 1, MANY, NULL, NULL, "Logins that wait for their verifier at once; more are closed (1013)."},
    {T, "window.messages", RR_TYPE_COUNT, "65536", 1, MANY, NULL, NULL, "Messages on their way to one scene; above it its clients' sockets are not read until it has caught up."},
    {T, "window.bytes", RR_TYPE_BYTES, "8MiB", KIB, GIB, NULL, NULL, "The same in bytes."},
    {T, "send_buffer", RR_TYPE_BYTES, "4MiB", KIB, GIB, NULL, "-send_buffer", "Output that may wait for a slow reader; then closed (4008)."},
    {T, "max_connections", RR_TYPE_COUNT, "100000", 1, MANY, NULL, "-max_connections", "Clients connected at once; more are closed (1013)."},
    {T, "max_per_ip", RR_TYPE_COUNT, "0", 0, MANY, NULL, "-max_per_ip", "Clients of one IP address at once; more are closed (1013); 0 = any."},
    {T, "subprotocols", RR_TYPE_TEXTS, NULL, 0, 0, NULL, NULL, "WebSocket subprotocols that may be chosen."},
    {T, "www", RR_TYPE_FOLDERS, NULL, 0, 0, NULL, "-www", "Folder of static pages, or a map of URL prefix to folder."},
    {T, "metrics", RR_TYPE_FLAG, "true", 0, 0, NULL, NULL, "Answer GET /metrics."},
    {T, "editor.scene", RR_TYPE_NAME, NULL, 0, 0, NULL, NULL, "Lets loopback pages that know the token edit this scene's script. For demos."},
    {T, "editor.token", RR_TYPE_TEXT, NULL, 0, 0, NULL, NULL, "The editor's token; a new random one at each start if absent."},

    {S, "script", RR_TYPE_PATH, NULL, 0, 0, NULL, "-script", "The Python file."},
    {S, "logic", RR_TYPE_TEXT, NULL, 0, 0, NULL, NULL, "A logic written in C, such as echo, instead of a script."},
    {S, "interpreter", RR_TYPE_CHOICE, "auto", 0, 0, "auto|own|shared|main", "-interpreter", "own: its own GIL, in parallel (default from CPython 3.13); shared: one GIL; main: the main interpreter, for extensions like numpy, one scene a process."},
    {S, "python_path", RR_TYPE_PATHS, NULL, 0, 0, NULL, NULL, "More folders to import from, for this scene."},
    {S, "asyncio", RR_TYPE_FLAG, "false", 0, 0, NULL, "-asyncio", "An event loop for asyncio libraries."},
    {S, "restart.max", RR_TYPE_COUNT, "5", 0, 1000, NULL, NULL, "Restarts after a crash within restart.within; more and the scene stays down."},
    {S, "restart.within", RR_TYPE_DURATION, "60s", SECOND, DAY, NULL, NULL, "See restart.max."},
    {S, "watchdog", RR_TYPE_DURATION, "0", 0, DAY, NULL, "-watchdog", "A handler longer than this is ended by an exception; 0 = never."},
    {S, "memory", RR_TYPE_BYTES, "0", 0, 1024 * GIB, NULL, "-memory", "Python memory of the scene; above it MemoryError; 0 = any."},
    {S, "mailbox.messages", RR_TYPE_COUNT, "65536", 16, MANY, NULL, NULL, "Messages that may wait for the scene; then its clients' sockets pause."},
    {S, "mailbox.bytes", RR_TYPE_BYTES, "64MiB", 64 * KIB, 4 * GIB - 1, NULL, NULL, "Bytes that may wait for the scene; a message counts at least 64, so at least 64 times mailbox.messages."},
    {S, "queue.messages", RR_TYPE_COUNT, "1024", 1, MANY, NULL, NULL, "Messages of one session that wait behind an awaiting handler, an enter or a move; then closed (4007)."},
    {S, "queue.bytes", RR_TYPE_BYTES, "4MiB", 1, GIB, NULL, NULL, "The same in bytes; at least one message."},
    {S, "queue_total.messages", RR_TYPE_COUNT, "1048576", 1, MANY, NULL, NULL, "The same of all sessions together; then the session that has the most is closed (4007), and so on until there is room."},
    {S, "queue_total.bytes", RR_TYPE_BYTES, "256MiB", 1, 64 * GIB, NULL, NULL, "The same in bytes; at least one message."},
    {S, "max_requests", RR_TYPE_COUNT, "10000", 1, MANY, NULL, NULL, "Service requests being handled at once; more are answered OVERLOAD."},
    {S, "verify_timeout", RR_TYPE_DURATION, "60s", 100, DAY, NULL, NULL, "A verifier's late answer must come within; then refused."},
    {S, "kick_wait", RR_TYPE_DURATION, "5s", 100, DAY, NULL, NULL, "How long a second login waits for the first one's offline."},
    {S, "offline_wait", RR_TYPE_DURATION, "5s", 100, DAY, NULL, NULL, "A handler of a session that left is cancelled after this; in a drain sooner, so that the rest has its time."},
    {S, "move_timeout", RR_TYPE_DURATION, "5s", 100, DAY, NULL, NULL, "The enter at the target of a move must be finished within."},
    {S, "drain_to", RR_TYPE_NAME, NULL, 0, 0, NULL, NULL, "The scene that takes this one's sessions when it is drained, unless the script's on_drain names another."},
    {S, "outbox", RR_TYPE_BYTES, "64MiB", MIB, 16 * GIB, NULL, NULL, "What is kept for a gate that does not keep up; above it sends fail."},
    {S, "turn", RR_TYPE_DURATION, "2ms", 1, SECOND, NULL, NULL, "How long a scene runs before others on its thread get their turn."},
    {D, "url", RR_TYPE_TEXT, NULL, 0, 0, NULL, NULL, "sqlite://./FILE (relative to this file's folder), mysql://USER:PASSWORD@HOST:PORT/NAME (or mariadb, postgresql), redis://:PASSWORD@HOST:PORT/NUMBER. `@ : / ? #` of a password are written as %40 %3A %2F %3F %23."},
    {D, "password_env", RR_TYPE_TEXT, NULL, 0, 0, NULL, NULL, "The environment variable that holds the password, instead of the URL."},
    {D, "password_file", RR_TYPE_PATH, NULL, 0, 0, NULL, NULL, "The file that holds it (without a newline at its end)."},
    {D, "pool", RR_TYPE_COUNT, "8", 1, 1024, NULL, NULL, "Connections, opened as they are needed; SQLite has one."},
    {D, "queue.messages", RR_TYPE_COUNT, "16384", 1, MANY, NULL, NULL, "Queries that wait for a connection; more are refused (busy)."},
    {D, "queue.bytes", RR_TYPE_BYTES, "64MiB", KIB, 16 * GIB, NULL, NULL, "The same in bytes."},
    {D, "query_timeout", RR_TYPE_DURATION, "10s", 1, RR_DATABASE_QUERY_MS_MAX, NULL, NULL, "A query longer than this is cancelled on the server; a query may say another one, `timeout=`, up to a day."},
    {D, "acquire_timeout", RR_TYPE_DURATION, "5s", 1, RR_DATABASE_ACQUIRE_MS_MAX, NULL, NULL, "A query that no connection became free for within this ends as busy, or as connection if the server is away."},
    {D, "connect_timeout", RR_TYPE_DURATION, "5s", 1, DAY, NULL, NULL, "How long opening a connection may take."},
    {D, "transaction_timeout", RR_TYPE_DURATION, "60s", 1, DAY, NULL, NULL, "A transaction or stream without a query for so long is rolled back."},
    {D, "idle", RR_TYPE_DURATION, "5m", 0, DAY, NULL, NULL, "A connection unused for so long is closed, except for the last one; 0 = never."},
    {D, "slow", RR_TYPE_DURATION, "1s", 0, DAY, NULL, NULL, "A query longer than this is logged, without its parameters; 0 = never."},
    {D, "result", RR_TYPE_BYTES, "64MiB", KIB, GIB, NULL, NULL, "Bytes of one answer; more end as too_big: such results are streamed."},
    {D, "statements", RR_TYPE_COUNT, "256", 0, 65536, NULL, NULL, "Prepared statements kept on each connection."},
    {D, "pipeline", RR_TYPE_COUNT, "4", 1, 16, NULL, NULL,
     "PostgreSQL, MariaDB: short reads under way on one connection while none is idle; 1 = one by one. See `actors/database`."},
    {0, NULL, RR_TYPE_FLAG, NULL, 0, 0, NULL, NULL, NULL},
};
/* clang-format on */

static const struct {
    rr_scope_t scope;
    const char *name, *title;
} scopes[] = {
    {RR_SCOPE_GRAPH, "graph", "The graph (top level)"},
    {RR_SCOPE_NODE, "node", "A node (`nodes: NAME: { … }`)"},
    {RR_SCOPE_BROKER, "broker", "An actor of `role: broker`"},
    {RR_SCOPE_GATE, "gate", "An actor of `role: gate`"},
    {RR_SCOPE_SCENE, "scene", "An actor of `role: scene`"},
    {RR_SCOPE_DATABASE, "database", "An actor of `role: database`"},
};
#define SCOPES (sizeof scopes / sizeof scopes[0])

const char *rr_scope_name(rr_scope_t scope) {
    for (size_t i = 0; i < SCOPES; i++) {
        if (scopes[i].scope == scope)
            return scopes[i].name;
    }
    return "?";
}

rr_scope_t rr_scope_of_role(const char *role) {
    for (size_t i = 0; i < SCOPES; i++) {
        if ((scopes[i].scope & RR_SCOPE_ACTOR) && strcmp(scopes[i].name, role) == 0)
            return scopes[i].scope;
    }
    return 0;
}

const rr_option_t *rr_option_find(rr_scope_t scope, const char *key) {
    for (const rr_option_t *o = rr_options; o->key; o++) {
        if ((o->scopes & scope) && strcmp(o->key, key) == 0)
            return o;
    }
    return NULL;
}

const rr_option_t *rr_option_find_arg(const char *arg) {
    for (const rr_option_t *o = rr_options; o->key; o++) {
        if (o->arg && strcmp(o->arg, arg) == 0)
            return o;
    }
    return NULL;
}

bool rr_option_is_group(rr_scope_t scope, const char *key) {
    size_t length = strlen(key);
    for (const rr_option_t *o = rr_options; o->key; o++) {
        if ((o->scopes & scope) && strncmp(o->key, key, length) == 0 && o->key[length] == '.')
            return true;
    }
    return false;
}

bool rr_option_is_list(const rr_option_t *option) {
    return option->type == RR_TYPE_ADDRESSES || option->type == RR_TYPE_PATHS || option->type == RR_TYPE_TEXTS ||
           option->type == RR_TYPE_FOLDERS;
}

bool rr_option_is_number(const rr_option_t *option) { return option->type <= RR_TYPE_BYTES; }

/* ---- Values ---- */

typedef struct rr_unit {
    const char *name;
    int64_t factor;
} rr_unit_t;

static const rr_unit_t duration_units[] = {{"ms", 1}, {"s", SECOND}, {"m", 60 * SECOND}, {"h", 3600 * SECOND},
                                           {"d", DAY}, {"", SECOND}, {NULL, 0}};
static const rr_unit_t byte_units[] = {{"", 1},     {"B", 1},     {"KiB", KIB}, {"MiB", MIB}, {"GiB", GIB}, {"k", KIB},
                                       {"K", KIB},  {"m", MIB},   {"M", MIB},   {"G", GIB},   {"KB", 1000}, {"MB", 1000000},
                                       {"GB", 1000000000}, {NULL, 0}};
static const rr_unit_t no_units[] = {{"", 1}, {NULL, 0}};

/* "1.5" with a unit -> a whole number of the smallest unit; -1 if it is none or does not fit. */
static int64_t scaled(const char *text, const rr_unit_t *units) {
    if (!isdigit((unsigned char)*text))
        return -1;
    const char *end = text;
    double value = 0, step = 1;
    for (; isdigit((unsigned char)*end); end++)
        value = value * 10 + (*end - '0');
    if (*end == '.' && isdigit((unsigned char)end[1]) && units != no_units) {
        for (end++; isdigit((unsigned char)*end); end++)
            value += (*end - '0') * (step /= 10);
    }
    while (*end == ' ')
        end++;
    for (; units->name; units++) {
        if (strcmp(units->name, end) == 0)
            return value * (double)units->factor < 9e15 ? (int64_t)(value * (double)units->factor + 0.5) : -1;
    }
    return -1;
}

/* A stored number as one would write it. */
static const char *spoken(const rr_option_t *option, int64_t number, char *out, size_t size) {
    const rr_unit_t *units = option->type == RR_TYPE_BYTES ? byte_units + 1 : duration_units;
    const rr_unit_t *best = NULL;
    for (; option->type != RR_TYPE_COUNT && units->name && number; units++) {
        if (units->name[0] && number % units->factor == 0 && (!best || units->factor > best->factor) &&
            strlen(units->name) != 2 + (option->type == RR_TYPE_DURATION))
            best = units;
    }
    if (best && !(option->type == RR_TYPE_BYTES && best->factor == 1))
        snprintf(out, size, "%lld%s", (long long)(number / best->factor), best->name);
    else
        snprintf(out, size, "%lld", (long long)number);
    return out;
}

static int parse_number(const rr_option_t *option, const char *text, int64_t *number, char *why, size_t why_size) {
    static const char *const example[] = {[RR_TYPE_COUNT] = "a whole number such as 100",
                                          [RR_TYPE_DURATION] = "a time such as 30s, 500ms or 2m",
                                          [RR_TYPE_BYTES] = "a size such as 65536, 64KiB or 1MiB"};
    const rr_unit_t *units = option->type == RR_TYPE_DURATION ? duration_units
                             : option->type == RR_TYPE_BYTES  ? byte_units
                                                              : no_units;
    int64_t value = scaled(text, units);
    if (value < 0)
        return rr_fail(RR_EINVAL, why, why_size, "'%.100s' is not a valid %s; write %s", text, option->key,
                       example[option->type]);
    int64_t max = option->max || option->min ? option->max : INT64_MAX;
    if (value < option->min || value > max) {
        char low[32], high[32];
        return rr_fail(RR_EINVAL, why, why_size, "%s %.100s is out of bounds; %s to %s is possible", option->key, text,
                       spoken(option, option->min, low, sizeof low), spoken(option, max, high, sizeof high));
    }
    *number = value;
    return RR_OK;
}

static int parse_flag(const rr_option_t *option, const char *text, int64_t *number, char *why, size_t why_size) {
    static const char *const words[] = {"false", "true", "no", "yes", "off", "on", "0", "1"};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (strcasecmp(words[i], text) == 0) {
            *number = (int64_t)(i % 2);
            return RR_OK;
        }
    }
    return rr_fail(RR_EINVAL, why, why_size, "'%.100s' is not a valid %s; write true or false", text, option->key);
}

/* The index of text among "a|b|c", -1 if it is none of them. */
static int choice_index(const char *choices, const char *text) {
    size_t length = strlen(text);
    for (int i = 0;; i++) {
        size_t part = strcspn(choices, "|");
        if (part == length && strncmp(choices, text, part) == 0)
            return i;
        if (!choices[part])
            return -1;
        choices += part + 1;
    }
}

static int parse_choice(const rr_option_t *option, const char *text, int64_t *number, char *why, size_t why_size) {
    int index = choice_index(option->choices, text);
    if (index < 0 && strcmp(option->key, "log.level") == 0 && text[0] >= '1' && text[0] <= '6' && !text[1])
        index = text[0] - '1'; /* the seed's 1..6 */
    if (index < 0)
        return rr_fail(RR_EINVAL, why, why_size, "'%.100s' is not a valid %s; write one of %s", text, option->key,
                       option->choices);
    *number = index;
    return RR_OK;
}

static int parse_name(const rr_option_t *option, const char *text, char *why, size_t why_size) {
    if (rr_name_legal(text))
        return RR_OK;
    return rr_fail(
        RR_EINVAL, why, why_size,
        "'%.100s' is not a legal name for %s; use 1 to 127 of the characters A-Z a-z 0-9 _ - . @ : / #, as in scene@0",
        text, option->key);
}

static int parse_address(const rr_option_t *option, const char *text, char *why, size_t why_size) {
    char reason[256] = "";
    rr_address_t address;
    if (rr_address_parse(text, &address, reason, sizeof reason) != RR_OK)
        return rr_fail(RR_EINVAL, why, why_size, "bad address '%.100s' for %s: %s", text, option->key,
                       reason[0] ? reason : "write it as tcp://127.0.0.1:10242");
    if (address.scheme != RR_SCHEME_TCP && !(option->scopes & RR_SCOPE_GATE))
        return rr_fail(RR_EINVAL, why, why_size, "%s must be a tcp:// address, not '%.100s'", option->key, text);
    if (address.byte_order && !(option->scopes & RR_SCOPE_GATE))
        return rr_fail(RR_EINVAL, why, why_size,
                       "%s has no byte order: leave out what stands behind the port of '%.100s'", option->key, text);
    return RR_OK;
}

int rr_option_parse(const rr_option_t *option, const char *text, int64_t *number, char *why, size_t why_size) {
    *number = 0;
    switch (option->type) {
    case RR_TYPE_FLAG:
        return parse_flag(option, text, number, why, why_size);
    case RR_TYPE_COUNT:
    case RR_TYPE_DURATION:
    case RR_TYPE_BYTES:
        return parse_number(option, text, number, why, why_size);
    case RR_TYPE_CHOICE:
        return parse_choice(option, text, number, why, why_size);
    case RR_TYPE_NAME:
        return parse_name(option, text, why, why_size);
    case RR_TYPE_ADDRESS:
    case RR_TYPE_ADDRESSES:
        return parse_address(option, text, why, why_size);
    case RR_TYPE_TEXT:
    case RR_TYPE_TEXTS:
    case RR_TYPE_PATH:
    case RR_TYPE_PATHS:
    case RR_TYPE_FOLDERS:
        break;
    }
    if (*text)
        return RR_OK;
    return rr_fail(RR_EINVAL, why, why_size, "%s is empty; give it a value or leave it out", option->key);
}

/* ---- "did you mean" ---- */

#define WORD_MAX 40

static int least(int a, int b, int c) {
    int d = a < b ? a : b;
    return d < c ? d : c;
}

/* Insertions, deletions, replacements and swaps of neighbours between two short words. */
static int distance(const char *a, const char *b) {
    size_t la = strlen(a), lb = strlen(b);
    int d[WORD_MAX + 1][WORD_MAX + 1];
    if (la > WORD_MAX || lb > WORD_MAX)
        return WORD_MAX;
    for (size_t i = 0; i <= la; i++) {
        for (size_t j = 0; j <= lb; j++) {
            if (!i || !j) {
                d[i][j] = (int)(i + j);
                continue;
            }
            int cost = tolower((unsigned char)a[i - 1]) != tolower((unsigned char)b[j - 1]);
            d[i][j] = least(d[i - 1][j] + 1, d[i][j - 1] + 1, d[i - 1][j - 1] + cost);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && d[i - 2][j - 2] + 1 < d[i][j])
                d[i][j] = d[i - 2][j - 2] + 1;
        }
    }
    return d[la][lb];
}

const char *rr_nearest(const char *word, rr_next_fn next, void *state, char *out, size_t size) {
    size_t length = strlen(word);
    int limit = length < 4 ? 2 : length < 8 ? 3 : 4;
    bool found = false;
    for (const char *candidate = next(state); candidate; candidate = next(state)) {
        int d = distance(word, candidate);
        if (d >= limit)
            continue;
        limit = d;
        found = true;
        snprintf(out, size, "%s", candidate);
    }
    return found ? out : NULL;
}

typedef struct rr_walk {
    const rr_option_t *option;
    unsigned scopes;
    bool parts; /* only what stands before the dot */
    char part[WORD_MAX];
} rr_walk_t;

static const char *next_key(void *state) {
    rr_walk_t *walk = state;
    for (; walk->option->key; walk->option++) {
        if (!(walk->option->scopes & walk->scopes))
            continue;
        const char *key = (walk->option++)->key;
        if (!walk->parts)
            return key;
        snprintf(walk->part, sizeof walk->part, "%.*s", (int)strcspn(key, "."), key);
        return walk->part;
    }
    return NULL;
}

static const char *next_arg(void *state) {
    static const char *const more[] = {"-gate", "-scene"};
    rr_walk_t *walk = state;
    if (walk->scopes < sizeof more / sizeof more[0])
        return more[walk->scopes++];
    for (; walk->option->key; walk->option++) {
        if (walk->option->arg)
            return (walk->option++)->arg;
    }
    return NULL;
}

const char *rr_nearest_key(rr_scope_t scope, const char *word, char *out, size_t size) {
    rr_walk_t walk = {.option = rr_options, .scopes = scope, .parts = !strchr(word, '.')};
    return rr_nearest(word, next_key, &walk, out, size);
}

const char *rr_nearest_arg(const char *word, char *out, size_t size) {
    rr_walk_t walk = {.option = rr_options};
    return rr_nearest(word, next_arg, &walk, out, size);
}

/* ---- The reference ---- */

static const char *type_name(const rr_option_t *option) {
    static const char *const names[] = {
        [RR_TYPE_FLAG] = "true, false", [RR_TYPE_COUNT] = "number",       [RR_TYPE_DURATION] = "time",
        [RR_TYPE_BYTES] = "size",       [RR_TYPE_TEXT] = "text",          [RR_TYPE_NAME] = "name",
        [RR_TYPE_ADDRESS] = "address",  [RR_TYPE_ADDRESSES] = "addresses", [RR_TYPE_PATH] = "path",
        [RR_TYPE_PATHS] = "paths",      [RR_TYPE_TEXTS] = "texts",        [RR_TYPE_FOLDERS] = "path or map",
    };
    return option->type == RR_TYPE_CHOICE ? option->choices : names[option->type];
}

/* "a|b" as "a, b": a bar would end the table's cell. */
static void print_cell(FILE *out, const char *text) {
    for (; *text; text++) {
        if (*text == '|')
            fputs(", ", out);
        else
            putc(*text, out);
    }
}

static void print_option(FILE *out, const rr_option_t *option) {
    char low[32], high[32];
    fprintf(out, "| `%s` | ", option->key);
    print_cell(out, type_name(option));
    if (rr_option_is_number(option) && option->type != RR_TYPE_FLAG && (option->min || option->max))
        fprintf(out, ", %s to %s", spoken(option, option->min, low, sizeof low),
                spoken(option, option->max, high, sizeof high));
    fprintf(out, " | %s%s%s | %s%s%s | %s |\n", option->preset ? "`" : "", option->preset ? option->preset : "",
            option->preset ? "`" : "", option->arg ? "`" : "", option->arg ? option->arg : "", option->arg ? "`" : "",
            option->doc);
}

void rr_options_print(FILE *out) {
    fputs("# Options\n\n"
          "Written by `redrabbit check --options` from the table in `conf/options.c`; a test keeps the two equal.\n"
          "A dot in a key stands for nesting: `restart.max` is `restart: { max: 5 }`. Times are written `500ms`, `30s`, "
          "`2m`, `1h`\n(a bare number is seconds), sizes `64KiB`, `1MiB` (a bare number is bytes). Paths are relative to "
          "the file that names them,\non the command line to the working folder; lists are separated by commas there.\n",
          out);
    for (size_t i = 0; i < SCOPES; i++) {
        fprintf(out, "\n## %s\n| key | value | default | command line | |\n|---|---|---|---|---|\n", scopes[i].title);
        for (const rr_option_t *o = rr_options; o->key; o++) {
            if (o->scopes & scopes[i].scope)
                print_option(out, o);
        }
    }
}
