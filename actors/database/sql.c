#include "actors/database/sql.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "net/utf8.h"

#define PLACEHOLDERS_MAX 65535u /* what the protocols count in 16 bits */

uint64_t rr__sql_hash(const void *data, size_t size) {
    const uint8_t *at = data;
    uint64_t hash = 0x9e3779b97f4a7c15ull ^ size, word;
    for (; size >= 8; at += 8, size -= 8) {
        memcpy(&word, at, 8);
        hash = (hash ^ word) * 0xff51afd7ed558ccdull;
        hash ^= hash >> 32;
    }
    word = 0;
    memcpy(&word, at, size);
    hash = (hash ^ word) * 0xc4ceb9fe1a85ec53ull;
    return hash ^ hash >> 29;
}

/* ---- What is left alone ---- */

static bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (unsigned char)c >= 0x80; }
static bool is_digit(char c) { return c >= '0' && c <= '9'; }

typedef struct scan {
    const rr__db_driver_t *driver;
    const char *start, *end;
    bool named;
    bool native; /* no `?` so far: `$1` counts */
    char *out;   /* NULL: counting only */
    size_t size;
    uint32_t count;
    uint64_t listed;
    rr__sql_name_t *names;
} scan_t;

/* Behind a string or quoted name that begins at `at`. */
static const char *behind_quote(const scan_t *scan, const char *at, bool backslashes) {
    char quote = *at++;
    for (; at < scan->end; at++) {
        if (backslashes && *at == '\\' && at + 1 < scan->end)
            at++;
        else if (*at == quote)
            return at + 1;
    }
    return at;
}

static const char *behind_line(const scan_t *scan, const char *at) {
    const char *end = memchr(at, '\n', (size_t)(scan->end - at));
    return end ? end + 1 : scan->end;
}

/* Comments nest in PostgreSQL only. */
static const char *behind_comment(const scan_t *scan, const char *at) {
    unsigned depth = 1;
    for (at += 2; at + 1 < scan->end; at++) {
        if (at[0] == '*' && at[1] == '/') {
            at++;
            if (--depth == 0)
                return at + 1;
        } else if (at[0] == '/' && at[1] == '*' && scan->driver->style == RR__DB_DOLLAR) {
            at++;
            depth++;
        }
    }
    return scan->end;
}

/* Behind $tag$ … $tag$, or NULL if none begins here. */
static const char *behind_dollars(const scan_t *scan, const char *at) {
    const char *tag_end = at + 1;
    while (tag_end < scan->end && (is_letter(*tag_end) || (is_digit(*tag_end) && tag_end > at + 1)))
        tag_end++;
    if (tag_end == scan->end || *tag_end != '$')
        return NULL;
    size_t size = (size_t)(tag_end + 1 - at);
    const char *end = memmem(tag_end + 1, (size_t)(scan->end - tag_end - 1), at, size);
    return end ? end + size : scan->end;
}

/* E'…' of PostgreSQL: a letter of its own before the quote. */
static bool is_escape_string(const scan_t *scan, const char *at) {
    return at > scan->start && (at[-1] == 'E' || at[-1] == 'e') &&
           (at - 1 == scan->start || !(is_letter(at[-2]) || is_digit(at[-2])));
}

/* Behind what begins at `at` and holds no placeholder, or NULL. */
static const char *behind_other(const scan_t *scan, const char *at) {
    bool dollar = scan->driver->style == RR__DB_DOLLAR, two = at + 1 < scan->end;
    switch (*at) {
    case '\'':
        return behind_quote(scan, at, scan->driver->backslashes || (dollar && is_escape_string(scan, at)));
    case '"':
        return behind_quote(scan, at, scan->driver->backslashes);
    case '`':
        return dollar ? NULL : behind_quote(scan, at, false);
    case '-':
        return two && at[1] == '-' ? behind_line(scan, at) : NULL;
    case '#':
        return scan->driver->backslashes ? behind_line(scan, at) : NULL;
    case '/':
        return two && at[1] == '*' ? behind_comment(scan, at) : NULL;
    case ':':
        return two && at[1] == ':' ? at + 2 : NULL;
    case '$':
        return dollar && !(at > scan->start && (is_letter(at[-1]) || is_digit(at[-1]))) ? behind_dollars(scan, at) : NULL;
    default:
        return NULL;
    }
}

/* ---- Placeholders ---- */

static void emit(scan_t *scan, const char *text, size_t size) {
    if (scan->out)
        memcpy(scan->out + scan->size, text, size);
    scan->size += size;
}

static void emit_placeholder(scan_t *scan, uint32_t number) {
    char text[16];
    if (scan->driver->style == RR__DB_DOLLAR)
        emit(scan, text, (size_t)snprintf(text, sizeof text, "$%u", number));
    else
        emit(scan, "?", 1);
}

/* PostgreSQL takes a name's value once, the others one for each `?`. */
static void emit_named(scan_t *scan, const char *name, uint32_t size) {
    if (scan->driver->style == RR__DB_DOLLAR) {
        for (uint32_t i = 0; scan->names && i < scan->count; i++) {
            if (scan->names[i].size == size && memcmp(scan->names[i].at, name, size) == 0) {
                emit_placeholder(scan, i + 1);
                return;
            }
        }
    }
    if (scan->names)
        scan->names[scan->count] = (rr__sql_name_t){name, size};
    emit_placeholder(scan, ++scan->count);
}

/* `$7` of PostgreSQL itself: as it is; the highest one counts. */
static const char *native(scan_t *scan, const char *at) {
    const char *from = at++;
    uint32_t number = 0;
    while (at < scan->end && is_digit(*at) && number <= PLACEHOLDERS_MAX)
        number = number * 10 + (uint32_t)(*at++ - '0');
    scan->count = number > scan->count ? number : scan->count;
    emit(scan, from, (size_t)(at - from));
    return at;
}

/* Handles the placeholder at `at`; behind it, or NULL if there is none. */
static const char *placeholder(scan_t *scan, const char *at) {
    bool two = at + 1 < scan->end;
    if (*at == '?' && two && at[1] == '?') {
        emit(scan, "?", 1);
        return at + 2;
    }
    if (*at == '?' && !scan->named) {
        emit_placeholder(scan, ++scan->count);
        return at + 1;
    }
    if (*at == ':' && scan->named && two && is_letter(at[1])) {
        const char *name = at + 1;
        for (at += 2; at < scan->end && (is_letter(*at) || is_digit(*at));)
            at++;
        emit_named(scan, name, (uint32_t)(at - name));
        return at;
    }
    if (*at == '$' && scan->native && two && is_digit(at[1]) && !(at > scan->start && (is_letter(at[-1]) || is_digit(at[-1]))))
        return native(scan, at);
    return NULL;
}

static bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

/* IN (?): the placeholder from `at` to `behind` is all that stands in it. */
static bool is_listed(const scan_t *scan, const char *at, const char *behind) {
    while (at > scan->start && is_space(at[-1]))
        at--;
    while (behind < scan->end && is_space(*behind))
        behind++;
    if (at == scan->start || *--at != '(' || behind == scan->end || *behind != ')')
        return false;
    while (at > scan->start && is_space(at[-1]))
        at--;
    return at - scan->start > 2 && strncasecmp(at - 2, "in", 2) == 0 && !is_letter(at[-3]) && !is_digit(at[-3]);
}

static void run(scan_t *scan) {
    scan->size = scan->count = 0;
    scan->listed = 0;
    for (const char *at = scan->start; at < scan->end;) {
        const char *behind = behind_other(scan, at);
        if (behind) {
            emit(scan, at, (size_t)(behind - at));
            at = behind;
            continue;
        }
        uint32_t before = scan->count;
        behind = placeholder(scan, at);
        if (!behind) {
            emit(scan, at, 1);
            behind = at + 1;
        } else if (scan->count > before && scan->count <= 64 && is_listed(scan, at, behind)) {
            scan->listed |= UINT64_C(1) << (scan->count - 1);
        }
        at = behind;
    }
}

/* ---- What a statement does ---- */

/* A word of a statement that is in no string, name or comment; size 0: there is none. */
typedef struct word {
    const scan_t *scan;
    const char *at;
    size_t size;
} word_t;

/* The first one at `at` or behind it. */
static word_t word_from(const scan_t *scan, const char *at) {
    for (const char *behind; at < scan->end; at = behind) {
        behind = behind_other(scan, at);
        if (behind)
            continue;
        for (behind = at; behind < scan->end && (is_letter(*behind) || is_digit(*behind)); behind++) {
        }
        if (behind > at)
            return (word_t){scan, at, (size_t)(behind - at)};
        behind++;
    }
    return (word_t){scan, scan->end, 0};
}

static word_t next(word_t word) { return word_from(word.scan, word.at + word.size); }

static bool is(word_t word, const char *text) { return word.size == strlen(text) && strncasecmp(word.at, text, word.size) == 0; }

/* words: ended by NULL. */
static bool is_one_of(word_t word, const char *const *words) {
    while (*words && !is(word, *words))
        words++;
    return *words != NULL;
}

/* This one, or one behind it. */
static bool has_one_of(word_t word, const char *const *words) {
    while (word.size > 0 && !is_one_of(word, words))
        word = next(word);
    return word.size > 0;
}
#define WORDS(...) ((const char *const[]){__VA_ARGS__, NULL})

/* SELECT first, and neither FOR (UPDATE …) nor INTO, wherever they stand. */
static bool is_read(const scan_t *scan) {
    word_t first = word_from(scan, scan->start);
    return is(first, "select") && !has_one_of(next(first), WORDS("for", "into"));
}

/* Not MariaDB's block (BEGIN NOT ATOMIC), replication (START REPLICA), nor what a savepoint or a prepared transaction is told. */
static bool is_transacting(word_t first, word_t second) {
    if (is(first, "begin"))
        return !is(second, "not");
    if (is(first, "start") || is(first, "prepare"))
        return is(second, "transaction");
    if (is(first, "rollback"))
        return !has_one_of(second, WORDS("to", "prepared"));
    if (is(first, "xa"))
        return is_one_of(second, WORDS("start", "begin", "end", "prepare"));
    return (is(first, "commit") && !is(second, "prepared")) || is_one_of(first, WORDS("end", "abort"));
}

static bool is_savepoint(word_t first, word_t second) {
    return is_one_of(first, WORDS("savepoint", "release")) || (is(first, "rollback") && has_one_of(second, WORDS("to")));
}

static rr__sql_effect_t effect_of_temporary(word_t word) {
    while (is_one_of(word, WORDS("or", "replace", "local", "global")))
        word = next(word);
    if (!is_one_of(word, WORDS("temp", "temporary")))
        return RR__SQL_NONE;
    return has_one_of(next(word), WORDS("drop")) ? RR__SQL_WITHIN : RR__SQL_KEEPS; /* ON COMMIT DROP */
}

static rr__sql_effect_t effect_in_postgres(word_t first, word_t second) {
    if (is(first, "set"))
        return is_one_of(second, WORDS("local", "transaction", "constraints")) ? RR__SQL_WITHIN : RR__SQL_KEEPS;
    if (is(first, "create"))
        return effect_of_temporary(second);
    return is_one_of(first, WORDS("prepare", "listen")) ? RR__SQL_KEEPS : RR__SQL_NONE;
}

/* SET of MariaDB and MySQL: for all, for one statement, of a name of one's own (`@name`), or of what the connection keeps. */
static rr__sql_effect_t effect_of_set(word_t second) {
    const char *at = second.at;
    if (is_one_of(second, WORDS("global", "persist", "persist_only", "statement", "password", "default", "resource")))
        return RR__SQL_NONE;
    bool session = is_one_of(second, WORDS("session", "local"));
    if (has_one_of(second, WORDS("autocommit")) || is(session ? next(second) : second, "transaction"))
        return RR__SQL_TRANSACTS;
    return at - second.scan->start >= 2 && at[-1] == '@' && at[-2] != '@' ? RR__SQL_NONE : RR__SQL_KEEPS;
}

static rr__sql_effect_t effect_in_mysql(word_t first, word_t second) {
    if (is(first, "set"))
        return effect_of_set(second);
    if (is(first, "create"))
        return effect_of_temporary(second);
    if ((is(first, "lock") && is_one_of(second, WORDS("table", "tables"))) || (is(first, "flush") && has_one_of(second, WORDS("lock", "export"))))
        return RR__SQL_LOCKS;
    return is_one_of(first, WORDS("use", "prepare")) || (is(first, "handler") && has_one_of(second, WORDS("open"))) ? RR__SQL_KEEPS
                                                                                                                    : RR__SQL_NONE;
}

static rr__sql_effect_t effect_of(const scan_t *scan) {
    word_t first = word_from(scan, scan->start), second = next(first);
    if (is_transacting(first, second))
        return RR__SQL_TRANSACTS;
    if (is_savepoint(first, second))
        return RR__SQL_WITHIN;
    if (scan->driver->style == RR__DB_DOLLAR)
        return effect_in_postgres(first, second);
    return scan->driver->backslashes ? effect_in_mysql(first, second) : RR__SQL_NONE; /* SQLite has one connection */
}

/* ---- Translating ---- */

static int wrong(char *why, size_t why_size, const char *text) {
    snprintf(why, why_size, "%s", text);
    return RR_EINVAL;
}

/* Counts first, then writes: names are known in the second run only, which for `$n` of names may take less room. */
static int translate(rr__sql_t *sql, scan_t *scan, char *why, size_t why_size) {
    run(scan);
    if (scan->driver->style == RR__DB_DOLLAR && !scan->named && scan->count == 0) {
        scan->native = true;
        run(scan);
    }
    if (scan->count > PLACEHOLDERS_MAX)
        return wrong(why, why_size, "the statement has over 65,535 placeholders");
    sql->text = malloc(scan->size + 1);
    scan->out = sql->text;
    if (scan->named)
        scan->names = sql->names = calloc(scan->count + 1u, sizeof *sql->names);
    if (!sql->text || (scan->named && !sql->names))
        return RR_ENOMEM;
    run(scan);
    sql->text[scan->size] = '\0';
    sql->text_size = scan->size;
    sql->placeholders = scan->count;
    sql->listed = scan->listed;
    sql->hash = rr__sql_hash(sql->text, sql->text_size);
    sql->reads = is_read(scan);
    sql->effect = effect_of(scan);
    return RR_OK;
}

int rr__sql_translate(const rr__db_driver_t *driver, const char *source, size_t size, bool named, rr__sql_t **out, char *why,
                      size_t why_size) {
    if (!rr_utf8_valid((const uint8_t *)source, size))
        return wrong(why, why_size, "the statement is not UTF-8");
    if (memchr(source, 0, size))
        return wrong(why, why_size, "the statement has a NUL in it");
    rr__sql_t *sql = calloc(1, sizeof *sql);
    if (!sql)
        return RR_ENOMEM;
    *sql = (rr__sql_t){.driver = driver, .source = malloc(size + 1), .source_size = size, .named = named, .references = 1};
    int rc = RR_ENOMEM;
    if (sql->source) {
        memcpy(sql->source, source, size);
        sql->source[size] = 0; /* the log of slow ones reads it as a string */
        scan_t scan = {.driver = driver, .start = sql->source, .end = sql->source + size, .named = named};
        rc = translate(sql, &scan, why, why_size);
    }
    if (rc != RR_OK)
        rr__sql_free(sql);
    else
        *out = sql;
    return rc;
}

void rr__sql_free(rr__sql_t *sql) {
    if (!sql)
        return;
    free(sql->source);
    free(sql->text);
    free(sql->names);
    free(sql);
}

/* ---- Parameters ---- */

static bool is_foreign(const scan_t *scan, const char *at) {
    char next = at + 1 < scan->end ? at[1] : '\0';
    bool apart = at == scan->start || !(is_letter(at[-1]) || is_digit(at[-1]));
    return (*at == '%' && (next == 's' || next == 'd' || next == '(')) || (*at == '$' && is_digit(next) && apart) ||
           (*at == ':' && is_letter(next)) || (*at == '?' && next != '?');
}

/* What stands where a placeholder was meant, of another library or for parameters of the other kind: `%s`, `$1`, `:name`, `?`. For
 * texts of errors only: `a %d` may be a remainder, too. Its size; 0 = nothing does. */
static int foreign(const rr__sql_t *sql, const char **out) {
    const scan_t scan = {.driver = sql->driver, .start = sql->source, .end = sql->source + sql->source_size};
    for (const char *at = scan.start, *behind; at < scan.end; at = behind) {
        behind = behind_other(&scan, at);
        if (behind)
            continue;
        behind = at + (at[0] == '?' && at + 1 < scan.end && at[1] == '?' ? 2 : 1);
        if (!is_foreign(&scan, at))
            continue;
        const char *end = at + 1 + (*at != '?');
        while (*at != '?' && *at != '%' && end < scan.end && (is_letter(*end) || is_digit(*end)))
            end++;
        *out = at;
        return (int)(end - at) < 40 ? (int)(end - at) : 40;
    }
    return 0;
}

static int wrong_count(const rr__sql_t *sql, uint32_t count, char *why, size_t why_size) {
    const char *what;
    int size = count > 0 && sql->placeholders == 0 ? foreign(sql, &what) : 0;
    int used = snprintf(why, why_size, "the statement takes %u parameters, %u were given", sql->placeholders, count);
    if (size > 0 && used > 0 && (size_t)used < why_size)
        snprintf(why + used, why_size - (size_t)used, *what == ':' ? ": `%.*s` takes a dict's, a list's go where ? stands"
                                                                   : ": a list's go where ? stands, not `%.*s`", size, what);
    return RR_EINVAL;
}

/* It would be compared with the list's JSON, and nothing found. */
static bool is_list_in(const rr__sql_t *sql, uint32_t i, const rr_datum_t *datum) {
    return i < 64 && sql->listed >> i & 1 && datum->kind == RR_DATUM_JSON && datum->text.size > 0 && datum->text.data[0] == '[';
}

static const char one_value[] = "IN (?) takes one value, no list: write as many ? as there are values, or, on PostgreSQL, = ANY(?) with '{1,2}'";

static int fit_values(const rr__sql_t *sql, rr_datum_reader_t values, uint32_t count, char *why, size_t why_size) {
    if (count != sql->placeholders)
        return wrong_count(sql, count, why, why_size);
    for (uint32_t i = 0; i < count; i++) {
        rr_datum_t datum;
        if (rr_datum_get(&values, &datum) != RR_OK || datum.kind == RR_DATUM_LIST || datum.kind == RR_DATUM_ERROR)
            return wrong(why, why_size, "a list is no parameter");
        if (is_list_in(sql, i, &datum))
            return wrong(why, why_size, one_value);
    }
    return RR_OK;
}

/* Pairs of a name and a value. Names mostly come in the statement's order: each is looked for behind the one before. */
typedef struct pairs {
    rr_datum_reader_t first, next;
    uint32_t count, at; /* pairs; that of `next` */
} pairs_t;

static pairs_t pairs_of(rr_datum_reader_t values, uint32_t count) { return (pairs_t){values, values, count / 2, 0}; }

/* The value of that name: RR_OK, RR_ENOENT, or RR_EINVAL (no pairs of a text and a value). */
static int find_value(pairs_t *pairs, const rr__sql_name_t *name, rr_datum_t *out) {
    for (uint32_t i = 0; i < pairs->count; i++) {
        rr_datum_t key;
        if (pairs->at == pairs->count) {
            pairs->at = 0;
            pairs->next = pairs->first;
        }
        if (rr_datum_get(&pairs->next, &key) != RR_OK || key.kind != RR_DATUM_TEXT || rr_datum_get(&pairs->next, out) != RR_OK ||
            out->kind == RR_DATUM_LIST || out->kind == RR_DATUM_ERROR)
            return RR_EINVAL;
        pairs->at++;
        if (key.text.size == name->size && memcmp(key.text.data, name->at, name->size) == 0)
            return RR_OK;
    }
    return RR_ENOENT;
}

static int fit_names(const rr__sql_t *sql, rr_datum_reader_t values, uint32_t count, char *why, size_t why_size) {
    rr_datum_t value;
    pairs_t pairs = pairs_of(values, count);
    const char *what;
    int size = count > 0 && sql->placeholders == 0 ? foreign(sql, &what) : 0;
    if (size > 0) {
        snprintf(why, why_size, "the parameters have names, and the statement has no :name%s `%.*s`",
                 *what == '?' ? ": a list goes with" : " but", size, what);
        return RR_EINVAL;
    }
    for (uint32_t i = 0; i < sql->placeholders; i++) {
        int rc = find_value(&pairs, &sql->names[i], &value);
        if (rc == RR_EINVAL)
            return wrong(why, why_size, "named parameters are pairs of a name and a value that is no list");
        if (rc != RR_OK) {
            snprintf(why, why_size, "the parameter :%.*s was not given", (int)sql->names[i].size, sql->names[i].at);
            return RR_EINVAL;
        }
        if (is_list_in(sql, i, &value))
            return wrong(why, why_size, one_value);
    }
    return count % 2 ? wrong(why, why_size, "named parameters are pairs of a name and a value") : RR_OK;
}

int rr__sql_fit(const rr__sql_t *sql, rr_datum_reader_t values, uint32_t count, char *why, size_t why_size) {
    return sql->named ? fit_names(sql, values, count, why, why_size) : fit_values(sql, values, count, why, why_size);
}

int rr__db_arrange(const rr__db_job_t *job, rr_datum_reader_t values, uint32_t count, rr_datum_t *out) {
    const rr__sql_t *sql = job->sql;
    if (!sql || (!sql->named && count != sql->placeholders))
        return sql ? RR_EINVAL : RR_OK; /* a text of the driver's own takes none */
    pairs_t pairs = pairs_of(values, count);
    for (uint32_t i = 0; i < sql->placeholders; i++) {
        int rc = sql->named ? find_value(&pairs, &sql->names[i], &out[i]) : rr_datum_get(&values, &out[i]);
        if (rc != RR_OK || out[i].kind == RR_DATUM_LIST || out[i].kind == RR_DATUM_ERROR)
            return RR_EINVAL;
    }
    return RR_OK;
}

int rr__db_next_list(rr__db_job_t *job, rr_datum_reader_t *values) {
    uint32_t count;
    int rc = rr_datum_get_list(&job->parameters, &count);
    if (rc != RR_OK)
        return rc;
    if (count > INT32_MAX)
        return RR_ETOOBIG;
    *values = job->parameters;
    for (uint32_t i = 0; rc == RR_OK && i < count; i++)
        rc = rr_datum_skip(&job->parameters);
    values->end = job->parameters.at;
    return rc == RR_OK ? (int)count : rc;
}
