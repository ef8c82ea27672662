/* url.c: addresses of databases: their parts, what is wrong with them, and how they are shown. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "actors/database/database_impl.h"

static const rr__db_driver_t *const drivers[] = {
    &rr__db_sqlite,
    &rr__db_mysql,
    &rr__db_postgres,
    &rr__db_redis,
};

#define SCHEME_MAX 16u

static int wrong(char *why, size_t why_size, const char *text) {
    return rr_fail(RR_EINVAL, why, why_size, "%s", text);
}

/* Behind "scheme://", the scheme in lower case in out; NULL if there is none. */
static const char *behind_scheme(const char *url, char out[SCHEME_MAX]) {
    const char *end = strstr(url, "://");
    if (!end || end == url || (size_t)(end - url) >= SCHEME_MAX)
        return NULL;
    for (size_t i = 0; url + i < end; i++)
        out[i] = (char)tolower((unsigned char)url[i]);
    out[end - url] = '\0';
    return end + 3;
}

static const rr__db_driver_t *driver_of(const char *scheme) {
    for (size_t i = 0; i < sizeof drivers / sizeof *drivers; i++) {
        for (size_t k = 0; k < sizeof drivers[i]->schemes / sizeof *drivers[i]->schemes && drivers[i]->schemes[k]; k++) {
            if (strcmp(drivers[i]->schemes[k], scheme) == 0)
                return drivers[i];
        }
    }
    return NULL;
}

static bool is_file(const rr__db_driver_t *driver) { return driver == &rr__db_sqlite; }

/* ---- Parts ---- */

static int hex(char c) {
    return c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
}

/* A copy with %41 decoded; NULL: out of memory. */
static char *decoded(const char *from, const char *end, bool decode) {
    char *out = malloc((size_t)(end - from) + 1), *at = out;
    while (out && from < end) {
        if (decode && *from == '%' && end - from > 2 && hex(from[1]) >= 0 && hex(from[2]) >= 0) {
            *at++ = (char)(hex(from[1]) * 16 + hex(from[2]));
            from += 3;
        } else {
            *at++ = *from++;
        }
    }
    if (out)
        *at = '\0';
    return out;
}

static int set(char **field, const char *from, const char *end, bool decode) {
    free(*field);
    *field = decoded(from, end, decode);
    return *field ? RR_OK : RR_ENOMEM;
}

static const char *find(const char *from, const char *end, char c) {
    const char *at = memchr(from, c, (size_t)(end - from));
    return at ? at : end;
}

static const char *find_last(const char *from, const char *end, char c) {
    const char *at = memrchr(from, c, (size_t)(end - from));
    return at ? at : end;
}

static int read_port(rr__db_url_t *url, const char *from, const char *end, char *why, size_t why_size) {
    unsigned port = 0;
    for (; from < end; from++) {
        port = isdigit((unsigned char)*from) && port <= 65535 ? port * 10 + (unsigned)(*from - '0') : 65536;
    }
    if (port < 1 || port > 65535)
        return wrong(why, why_size, "behind the host stands a port of 1 to 65535; characters such as @ : / ? # of a password are "
                                    "written as %40 %3A %2F %3F %23");
    url->port = port;
    return RR_OK;
}

static int read_host(rr__db_url_t *url, const char *from, const char *end, char *why, size_t why_size) {
    const char *host_end = find(from, end, ':');
    if (from < end && *from == '[') {
        host_end = find(from, end, ']');
        if (host_end == end)
            return wrong(why, why_size, "the host's ] is missing");
        int rc = set(&url->host, from + 1, host_end, false);
        host_end++;
        return rc != RR_OK || host_end == end ? rc : read_port(url, host_end + 1, end, why, why_size);
    }
    int rc = set(&url->host, from, host_end, true);
    return rc != RR_OK || host_end == end ? rc : read_port(url, host_end + 1, end, why, why_size);
}

static int read_authority(rr__db_url_t *url, const char *from, const char *end, char *why, size_t why_size) {
    const char *at = find_last(from, end, '@');
    int rc = RR_OK;
    if (at < end) {
        const char *colon = find(from, at, ':');
        rc = set(&url->user, from, colon, true);
        if (rc == RR_OK && colon < at)
            rc = set(&url->password, colon + 1, at, true);
        from = at + 1;
    }
    return rc == RR_OK ? read_host(url, from, end, why, why_size) : rc;
}

/* The seed's mysql://host:port/user/password/db, if it is that: the path in three parts and no user before the host. */
static bool is_seeds(const rr__db_driver_t *driver, const char *authority, const char *path, const char *end) {
    if (strcmp(driver->name, "mysql") != 0 || find(authority, path, '@') != path)
        return false;
    unsigned slashes = 0;
    for (const char *at = path; at < end; at++)
        slashes += *at == '/';
    return slashes == 3;
}

static int read_seeds_path(rr__db_url_t *url, const char *path, const char *end) {
    const char *user = path + 1, *password = find(user, end, '/') + 1, *database = find(password, end, '/') + 1;
    int rc = set(&url->user, user, password - 1, false);
    if (rc == RR_OK)
        rc = set(&url->password, password, database - 1, false);
    return rc == RR_OK ? set(&url->database, database, end, false) : rc;
}

static int add_option(rr__db_url_t *url, const char *from, const char *end) {
    const char *equals = find(from, end, '=');
    size_t n = url->option_count;
    char **names = realloc(url->option_names, (n + 1) * sizeof *names);
    url->option_names = names ? names : url->option_names;
    char **values = realloc(url->option_values, (n + 1) * sizeof *values);
    url->option_values = values ? values : url->option_values;
    if (!names || !values)
        return RR_ENOMEM;
    names[n] = decoded(from, equals, true);
    values[n] = decoded(equals < end ? equals + 1 : end, end, true);
    url->option_count++;
    return names[n] && values[n] ? RR_OK : RR_ENOMEM;
}

static int read_options(rr__db_url_t *url, const char *from) {
    int rc = RR_OK;
    while (*from && rc == RR_OK) {
        const char *end = from + strcspn(from, "&");
        if (end > from)
            rc = add_option(url, from, end);
        from = *end ? end + 1 : end;
    }
    return rc;
}

static int read_parts(rr__db_url_t *url, const char *rest, char *why, size_t why_size) {
    const char *end = rest + strcspn(rest, "?");
    int rc = *end ? read_options(url, end + 1) : RR_OK;
    if (rc != RR_OK)
        return rc;
    if (is_file(url->driver))
        return set(&url->database, rest, end, true);
    const char *path = find(rest, end, '/');
    bool seeds = is_seeds(url->driver, rest, path, end);
    rc = read_authority(url, rest, path, why, why_size);
    if (rc != RR_OK || path == end)
        return rc;
    if (seeds)
        return read_seeds_path(url, path, end);
    if (find(path + 1, end, '/') != end)
        return wrong(why, why_size, "behind the host stands one name, the database's; a / of a password is written as %2F");
    return set(&url->database, path + 1, end, true);
}

static int fill_empty(rr__db_url_t *url) {
    char **fields[] = {&url->host, &url->user, &url->password, &url->database};
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        if (!*fields[i] && !(*fields[i] = strdup("")))
            return RR_ENOMEM;
    }
    return RR_OK;
}

/* A `?` in a password ends it early: what follows must not be taken, and told, for an option. */
static bool hides_password(const char *rest) {
    const char *end = rest + strlen(rest), *query = find(rest, end, '?');
    return find(rest, query, '@') == query && find(query, end, '@') != end;
}

int rr__db_url_parse(const char *text, rr__db_url_t *out, char *why, size_t why_size) {
    char scheme[SCHEME_MAX];
    const char *rest = behind_scheme(text, scheme);
    memset(out, 0, sizeof *out);
    if (!rest)
        return wrong(why, why_size, "a database's address is like sqlite://./game.db or mysql://user:password@host:3306/game");
    out->driver = driver_of(scheme);
    if (strcmp(scheme, "rediss") == 0)
        return wrong(why, why_size, "rediss:// is not supported: Redis is reached without TLS; use redis:// within a private network or a tunnel");
    if (!out->driver)
        return rr_fail(RR_EUNSUPPORTED, why, why_size,
                       "there is no database '%s'; known are sqlite, mysql, mariadb, postgresql and redis", scheme);
    int rc = read_parts(out, rest, why, why_size);
    if (rc == RR_OK)
        rc = fill_empty(out);
    if (rc == RR_OK)
        rc = out->driver->check(out, why, why_size);
    if (rc == RR_EINVAL && hides_password(rest))
        snprintf(why, why_size, "behind a ? stand options; the characters @ : / ? # of a password are written as %%40 %%3A %%2F %%3F %%23");
    if (rc == RR_ENOMEM)
        snprintf(why, why_size, "out of memory");
    if (rc != RR_OK)
        rr__db_url_free(out);
    return rc;
}

void rr__db_url_free(rr__db_url_t *url) {
    if (url->password)
        explicit_bzero(url->password, strlen(url->password));
    free(url->host);
    free(url->user);
    free(url->password);
    free(url->database);
    for (size_t i = 0; i < url->option_count; i++) {
        free(url->option_names[i]);
        free(url->option_values[i]);
    }
    free(url->option_names);
    free(url->option_values);
    memset(url, 0, sizeof *url);
}

const char *rr__db_url_option(const rr__db_url_t *url, const char *name) {
    for (size_t i = 0; i < url->option_count; i++) {
        if (strcmp(url->option_names[i], name) == 0)
            return url->option_values[i];
    }
    return NULL;
}

static void say_unknown(const rr__db_url_t *url, const char *name, const char *const *names, char *why, size_t why_size) {
    int size = snprintf(why, why_size, "%s knows no option '%.60s'", url->driver->name, name);
    for (size_t i = 0; names[i] && size >= 0 && (size_t)size < why_size; i++)
        size += snprintf(why + size, why_size - (size_t)size, "%s%s", i == 0 ? "; it knows " : ", ", names[i]);
}

int rr__db_url_known(const rr__db_url_t *url, const char *const *names, char *why, size_t why_size) {
    for (size_t i = 0; i < url->option_count; i++) {
        size_t k = 0;
        while (names[k] && strcmp(names[k], url->option_names[i]) != 0)
            k++;
        if (!names[k]) {
            say_unknown(url, url->option_names[i], names, why, why_size);
            return RR_EINVAL;
        }
    }
    return RR_OK;
}

int rr_database_check_url(const char *url, const char **driver, char *why, size_t why_size) {
    rr__db_url_t parts;
    int rc = rr__db_url_parse(url, &parts, why, why_size);
    if (rc != RR_OK)
        return rc;
    *driver = parts.driver->name;
    rr__db_url_free(&parts);
    return RR_OK;
}

bool rr_database_has_password(const char *url) {
    rr__db_url_t parts;
    char why[256];
    if (rr__db_url_parse(url, &parts, why, sizeof why) != RR_OK)
        return false;
    bool has = parts.password[0] != '\0';
    rr__db_url_free(&parts);
    return has;
}

/* ---- Showing ---- */

typedef struct shown {
    char *out;
    size_t size, used;
} shown_t;

static void show(shown_t *to, const char *from, const char *end) {
    for (; from < end && to->used + 1 < to->size; from++)
        to->out[to->used++] = (unsigned char)*from < ' ' ? '?' : *from;
    if (to->size)
        to->out[to->used] = '\0';
}

static void show_text(shown_t *to, const char *text) { show(to, text, text + strlen(text)); }

/* Of the path of an address without a user before its host: the seed's form names user and password there. */
static void show_path(shown_t *to, const char *from, const char *end, bool hides) {
    const char *first = find(from, end, '/'), *second = first < end ? find(first + 1, end, '/') : end;
    const char *last = find_last(from, end, '/');
    show(to, from, second);
    if (second == end)
        return;
    if (!hides) {
        show(to, second, end);
        return;
    }
    show_text(to, "/***");
    if (last > second)
        show(to, last, end);
}

static bool is_secret(const char *from, const char *end) {
    static const char *const words[] = {"pass", "pwd", "secret", "token", "auth"};
    char name[64];
    snprintf(name, sizeof name, "%.*s", (int)(end - from < 60 ? end - from : 60), from);
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (strcasestr(name, words[i]))
            return true;
    }
    return false;
}

static void show_options(shown_t *to, const char *from) {
    while (*from) {
        const char *end = from + strcspn(from, "&"), *equals = find(from, end, '=');
        show(to, from, equals);
        if (equals < end && is_secret(from, equals))
            show_text(to, "=***");
        else
            show(to, equals, end);
        from = end;
        if (*from)
            show(to, from, from + 1);
        from += *from != '\0';
    }
}

/* Whatever the text is: between scheme and the last @ only a user is shown. */
char *rr_database_redact(const char *url, char *out, size_t size) {
    char scheme[SCHEME_MAX];
    shown_t to = {out, size, 0};
    const char *rest = behind_scheme(url, scheme);
    if (size)
        out[0] = '\0';
    if (!rest) {
        show_text(&to, "***");
        return out;
    }
    show_text(&to, scheme);
    show_text(&to, "://");
    if (strcmp(scheme, "sqlite") == 0) {
        show_text(&to, rest);
        return out;
    }
    const char *end = rest + strlen(rest), *at = find_last(rest, end, '@');
    bool user = at < end;
    if (user) {
        const char *colon = find(rest, at, ':');
        if (colon < at || strncmp(scheme, "redis", 5) != 0)
            show(&to, rest, colon);
        if (colon < at)
            show_text(&to, ":");
        show_text(&to, colon < at || strncmp(scheme, "redis", 5) == 0 ? "***@" : "@");
        rest = at + 1;
    }
    const char *query = find(rest, end, '?');
    show_path(&to, rest, query, !user);
    if (query < end) {
        show_text(&to, "?");
        show_options(&to, query + 1);
    }
    return out;
}
