#include "conf/databases.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "actors/gate.h"

#define PASSWORD_MAX 4096u
#define OPENED_MAX 256u /* by scripts, of different URLs */
#define NAME_SIZE 128u

typedef struct database {
    rr_databases_t *databases;
    const rr_item_t *item; /* NULL: a script's */
    rr_database_arg_t *arg;
    rr_spawn_t spawn;
    char name[NAME_SIZE];
    char *url, *folder; /* a script's: what it is found by; folder "" = not relative */
    unsigned pool;
    TAILQ_ENTRY(database) link;
} database_t;

struct rr_databases {
    rr_databases_options_t options;
    pthread_mutex_t lock; /* over what follows: scripts open theirs from their threads */
    rr_loop_t *loop;      /* NULL before the first database */
    TAILQ_HEAD(, database) all;
    unsigned opened;
    uint64_t numbered; /* of scripts': part of the name */
    bool stopping;
};

/* ---- Passwords ---- */

static int from_variable(const char *variable, char *out, size_t size, char *why, size_t why_size) {
    const char *text = getenv(variable);
    if (!text)
        return rr_fail(RR_EINVAL, why, why_size, "the environment variable %.100s is not set; set it to the password",
                       variable);
    if (size && strlen(text) >= size)
        return rr_fail(RR_EINVAL, why, why_size, "the environment variable %.100s is longer than a password may be",
                       variable);
    if (size)
        strcpy(out, text);
    return RR_OK;
}

static int from_file(const char *file, char *out, size_t size, char *why, size_t why_size) {
    size_t length;
    char *text = rr__read_file(file, &length);
    if (!text)
        return rr_fail(RR_EIO, why, why_size, "the password's file %s cannot be read: %s", file, strerror(errno));
    size_t trimmed = strcspn(text, "\r\n");
    int rc = !size || trimmed < size ? RR_OK : RR_EINVAL;
    if (rc != RR_OK)
        snprintf(why, why_size, "the password's file %s is longer than a password may be", file);
    else if (size)
        snprintf(out, size, "%.*s", (int)trimmed, text);
    explicit_bzero(text, length);
    free(text);
    return rc;
}

int rr_database_password(const rr_item_t *database, char *out, size_t size, char *why, size_t why_size) {
    const char *variable = rr_item_text(database, "password_env"), *file = rr_item_text(database, "password_file");
    if (size)
        out[0] = '\0';
    if (variable)
        return from_variable(variable, out, size, why, why_size);
    return file ? from_file(file, out, size, why, why_size) : RR_OK;
}

/* ---- Making ---- */

static void database_free(database_t *database) {
    rr_database_arg_free(database->arg);
    free(database->url);
    free(database->folder);
    free(database);
}

static database_t *database_new(rr_databases_t *databases, const rr_item_t *item) {
    database_t *database = calloc(1, sizeof *database);
    if (!database)
        return NULL;
    database->databases = databases;
    database->item = item;
    return database;
}

/* Under lock, or before anybody else knows of them. Its work is as much as queries are asked, and so is that of a server on the same
 * machine: gates and scenes go before both. */
static int need_loop(rr_databases_t *databases) {
    const rr_databases_options_t *options = &databases->options;
    if (databases->loop)
        return RR_OK;
    int rc = rr_loop_create(options->system, "db", &databases->loop);
    if (rc == RR_OK)
        rc = rr_loop_long_slices(databases->loop);
    for (size_t i = 0; i < options->loop_count && rc == RR_OK; i++)
        rc = rr_loop_short_slices(options->loops[i]);
    return rc;
}

static void fill(rr_database_options_t *options, const rr_item_t *item) {
    options->name = item->name;
    options->url = rr_item_text(item, "url");
    options->pool = (unsigned)rr_item_number(item, "pool");
    options->queue_messages = (unsigned)rr_item_number(item, "queue.messages");
    options->queue_bytes = (size_t)rr_item_number(item, "queue.bytes");
    options->query_timeout_ms = (unsigned)rr_item_number(item, "query_timeout");
    options->acquire_timeout_ms = (unsigned)rr_item_number(item, "acquire_timeout");
    options->connect_timeout_ms = (unsigned)rr_item_number(item, "connect_timeout");
    options->transaction_timeout_ms = (unsigned)rr_item_number(item, "transaction_timeout");
    options->idle_ms = (unsigned)rr_item_number(item, "idle");
    options->slow_ms = (unsigned)rr_item_number(item, "slow");
    options->result_bytes = (size_t)rr_item_number(item, "result");
    options->statements = (unsigned)rr_item_number(item, "statements");
    options->pipeline = (unsigned)rr_item_number(item, "pipeline");
}

static int create_one(rr_databases_t *databases, const rr_item_t *item, char *why, size_t why_size) {
    database_t *database = database_new(databases, item);
    const rr_value_t *url = rr_item_value(item, "url");
    char password[PASSWORD_MAX], *folder = url->place.line ? rr__folder_of(url->place.file) : strdup(".");
    rr_database_options_t options;
    int rc = database && folder ? need_loop(databases) : RR_ENOMEM;
    if (rc == RR_OK)
        rc = rr_database_password(item, password, sizeof password, why, why_size);
    if (rc == RR_OK) {
        rr_database_options_init(&options);
        fill(&options, item);
        options.folder = folder;
        options.password = rr_item_value(item, "password_env") || rr_item_value(item, "password_file") ? password : NULL;
        options.loop = databases->loop;
        options.leased = databases->options.leased;
        snprintf(database->name, sizeof database->name, "%s", item->name);
        rc = rr_database_spec(&options, &database->spawn, &database->arg, why, why_size);
        explicit_bzero(password, sizeof password);
    }
    if (rc == RR_OK)
        TAILQ_INSERT_TAIL(&databases->all, database, link);
    else if (database)
        database_free(database);
    free(folder);
    return rc;
}

int rr_databases_create(const rr_databases_options_t *options, rr_databases_t **out, char *why, size_t why_size) {
    rr_databases_t *databases = calloc(1, sizeof *databases);
    int rc = databases ? RR_OK : RR_ENOMEM;
    snprintf(why, why_size, "out of memory");
    if (!databases)
        return rc;
    databases->options = *options;
    TAILQ_INIT(&databases->all);
    pthread_mutex_init(&databases->lock, NULL);
    for (size_t i = 0; i < rr_graph_actor_count(options->graph) && rc == RR_OK; i++) {
        const rr_item_t *item = rr_graph_actor(options->graph, i);
        if (item->scope == RR_SCOPE_DATABASE && rr_graph_runs(options->graph, item))
            rc = create_one(databases, item, why, why_size);
    }
    if (rc == RR_OK)
        *out = databases;
    else
        rr_databases_destroy(databases);
    return rc;
}

/* Its supervisor says. An orderly end is none of its own. */
static void on_event(void *context, size_t child, rr_addr_t addr, int reason) {
    database_t *database = context;
    rr_databases_t *databases = database->databases;
    (void)child;
    if (addr == RR_NOBODY || reason == RR_STALE)
        databases->options.ended(databases->options.context, database->name, reason);
}

int rr_databases_start(rr_databases_t *databases, char *why, size_t why_size) {
    database_t *database;
    TAILQ_FOREACH(database, &databases->all, link) {
        rr_child_t child = {.spawn = database->spawn, .restart = RR_RESTART_TRANSIENT};
        rr_supervisor_t supervisor = {.children = &child, .child_count = 1, .event = on_event, .context = database};
        int rc = rr_supervisor_spawn(databases->options.system, &supervisor, NULL);
        if (rc != RR_OK) {
            snprintf(why, why_size, "database %s does not start: %s", database->name, rr_strerror(rc));
            return rc;
        }
    }
    return RR_OK;
}

/* ---- By URL ---- */

static database_t *find(rr_databases_t *databases, const char *url, const char *folder, unsigned pool) {
    database_t *database;
    TAILQ_FOREACH(database, &databases->all, link) {
        if (database->url && strcmp(database->url, url) == 0 && strcmp(database->folder, folder) == 0 && database->pool == pool)
            return database;
    }
    return NULL;
}

/* "db:mysql://player@host/game#1": the shown URL as far as it makes a name, and a number. */
static void make_name(database_t *database, uint64_t number) {
    char shown[512], *at = database->name;
    rr_database_redact(database->url, shown, sizeof shown);
    at += sprintf(at, "db:");
    for (const char *from = shown; *from && *from != '?' && at < database->name + 90; from++) {
        char one[2] = {*from, '\0'};
        if (rr_name_legal(one))
            *at++ = *from;
    }
    sprintf(at, "#%llu", (unsigned long long)number);
}

static int open_new(rr_databases_t *databases, const char *url, const char *folder, unsigned pool, database_t **out, char *why,
                    size_t why_size) {
    rr_database_options_t options;
    database_t *database = database_new(databases, NULL);
    int rc = database ? need_loop(databases) : RR_ENOMEM;
    if (rc == RR_OK) {
        database->url = strdup(url);
        database->folder = strdup(folder);
        database->pool = pool;
        rc = database->url && database->folder ? RR_OK : RR_ENOMEM;
    }
    if (rc == RR_OK) {
        make_name(database, ++databases->numbered);
        rr_database_options_init(&options);
        options.name = database->name;
        options.url = url;
        options.folder = folder[0] ? folder : NULL;
        options.loop = databases->loop;
        options.pool = pool ? pool : options.pool;
        rc = rr_database_spec(&options, &database->spawn, &database->arg, why, why_size);
    }
    if (rc == RR_OK) {
        TAILQ_INSERT_TAIL(&databases->all, database, link);
        databases->opened++;
        *out = database;
    } else if (database) {
        database_free(database);
    }
    return rc;
}

/* Spawned if it does not live: nobody supervises it, but it is asked for again. */
static int revive(rr_databases_t *databases, const database_t *database, char *why, size_t why_size) {
    rr_system_t *system = databases->options.system;
    if (rr_lookup(system, database->name) != RR_NOBODY)
        return RR_OK;
    int rc = rr_system_spawn(system, &database->spawn, NULL);
    if (rc != RR_OK)
        snprintf(why, why_size, "%s does not start: %s", database->name, rr_strerror(rc));
    return rc;
}

int rr_databases_open(rr_databases_t *databases, const char *url, const char *folder, unsigned pool, char *name, size_t name_size,
                      char *why, size_t why_size) {
    const char *driver;
    int rc = rr_database_check_url(url, &driver, why, why_size);
    if (rc != RR_OK)
        return rc;
    folder = strcmp(driver, "sqlite") == 0 ? folder : "";
    pthread_mutex_lock(&databases->lock);
    database_t *database = find(databases, url, folder, pool);
    snprintf(why, why_size, "out of memory");
    if (databases->stopping) {
        snprintf(why, why_size, "the process ends");
        rc = RR_ESTOPPING;
    } else if (!database && databases->opened >= OPENED_MAX) {
        snprintf(why, why_size, "%u databases are open already", OPENED_MAX);
        rc = RR_ELIMIT;
    } else if (!database) {
        rc = open_new(databases, url, folder, pool, &database, why, why_size);
    }
    if (rc == RR_OK)
        rc = revive(databases, database, why, why_size);
    if (rc == RR_OK)
        snprintf(name, name_size, "%s", database->name);
    pthread_mutex_unlock(&databases->lock);
    return rc;
}

/* ---- The end ---- */

int rr_databases_stop(rr_databases_t *databases, unsigned deadline_ms) {
    rr_system_t *system = databases->options.system;
    database_t *database;
    size_t count = 0;
    pthread_mutex_lock(&databases->lock);
    databases->stopping = true;
    TAILQ_FOREACH(database, &databases->all, link)
        count++;
    rr_addr_t *actors = calloc(count + 1, sizeof *actors);
    count = 0;
    TAILQ_FOREACH(database, &databases->all, link) {
        rr_addr_t addr = actors ? rr_lookup(system, database->name) : RR_NOBODY;
        if (addr != RR_NOBODY && rr_addr_node(addr) == rr_system_node(system))
            actors[count++] = addr;
    }
    pthread_mutex_unlock(&databases->lock);
    int rc = actors ? rr_actors_stop(system, actors, count, deadline_ms) : RR_ENOMEM;
    free(actors);
    return rc;
}

void rr_databases_destroy(rr_databases_t *databases) {
    database_t *database;
    if (!databases)
        return;
    while ((database = TAILQ_FIRST(&databases->all))) {
        TAILQ_REMOVE(&databases->all, database, link);
        database_free(database);
    }
    pthread_mutex_destroy(&databases->lock);
    free(databases);
}
