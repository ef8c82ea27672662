#include "actors/database/sql_impl.h"

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

/* ---- Placeholders ---- */

typedef struct scan {
    rr__sql_source_t source;
    bool named;
    bool native; /* no `?` so far: `$1` counts */
    char *out;   /* NULL: counting only */
    size_t size;
    uint32_t count;
    uint64_t listed;
    rr__sql_name_t *names;
} scan_t;

static void emit(scan_t *scan, const char *text, size_t size) {
    if (scan->out)
        memcpy(scan->out + scan->size, text, size);
    scan->size += size;
}

static void emit_placeholder(scan_t *scan, uint32_t number) {
    char text[16];
    if (rr__sql_is_postgres(&scan->source))
        emit(scan, text, (size_t)snprintf(text, sizeof text, "$%u", number));
    else
        emit(scan, "?", 1);
}

/* PostgreSQL takes a name's value once, the others one for each `?`. */
static void emit_named(scan_t *scan, const char *name, uint32_t size) {
    if (rr__sql_is_postgres(&scan->source)) {
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
    while (at < scan->source.end && rr__sql_is_digit(*at) && number <= PLACEHOLDERS_MAX)
        number = number * 10 + (uint32_t)(*at++ - '0');
    scan->count = number > scan->count ? number : scan->count;
    emit(scan, from, (size_t)(at - from));
    return at;
}

/* Handles the placeholder at `at`; behind it, or NULL if there is none. */
static const char *placeholder(scan_t *scan, const char *at) {
    bool two = at + 1 < scan->source.end;
    if (*at == '?' && two && at[1] == '?') {
        emit(scan, "?", 1);
        return at + 2;
    }
    if (*at == '?' && !scan->named) {
        emit_placeholder(scan, ++scan->count);
        return at + 1;
    }
    if (*at == ':' && scan->named && two && rr__sql_is_letter(at[1])) {
        const char *name = at + 1;
        for (at += 2; at < scan->source.end && rr__sql_is_in_word(*at);)
            at++;
        emit_named(scan, name, (uint32_t)(at - name));
        return at;
    }
    if (*at == '$' && scan->native && two && rr__sql_is_digit(at[1]) && !(at > scan->source.start && rr__sql_is_in_word(at[-1])))
        return native(scan, at);
    return NULL;
}

/* IN (?): the placeholder from `at` to `behind` is all that stands in it. */
static bool is_listed(const scan_t *scan, const char *at, const char *behind) {
    while (at > scan->source.start && rr__sql_is_space(at[-1]))
        at--;
    while (behind < scan->source.end && rr__sql_is_space(*behind))
        behind++;
    if (at == scan->source.start || *--at != '(' || behind == scan->source.end || *behind != ')')
        return false;
    while (at > scan->source.start && rr__sql_is_space(at[-1]))
        at--;
    return at - scan->source.start > 2 && strncasecmp(at - 2, "in", 2) == 0 && !rr__sql_is_in_word(at[-3]);
}

static void run(scan_t *scan) {
    scan->size = scan->count = 0;
    scan->listed = 0;
    for (const char *at = scan->source.start; at < scan->source.end;) {
        const char *behind = rr__sql_behind_other(&scan->source, at);
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

/* ---- Translating ---- */

static int wrong(char *why, size_t why_size, const char *text) {
    return rr_fail(RR_EINVAL, why, why_size, "%s", text);
}

/* Counts first, then writes: names are known in the second run only, which for `$n` of names may take less room. */
static int translate(rr__sql_t *sql, scan_t *scan, char *why, size_t why_size) {
    run(scan);
    if (rr__sql_is_postgres(&scan->source) && !scan->named && scan->count == 0) {
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
    sql->reads = rr__sql_reads(&scan->source);
    sql->effect = rr__sql_effect_of(&scan->source);
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
        scan_t scan = {.source = {driver, sql->source, sql->source + size}, .named = named};
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

static bool is_foreign(const rr__sql_source_t *source, const char *at) {
    char next = at + 1 < source->end ? at[1] : '\0';
    bool apart = at == source->start || !rr__sql_is_in_word(at[-1]);
    return (*at == '%' && (next == 's' || next == 'd' || next == '(')) || (*at == '$' && rr__sql_is_digit(next) && apart) ||
           (*at == ':' && rr__sql_is_letter(next)) || (*at == '?' && next != '?');
}

/* What stands where a placeholder was meant, of another library or for parameters of the other kind: `%s`, `$1`, `:name`, `?`. For
 * texts of errors only: `a %d` may be a remainder, too. Its size; 0 = nothing does. */
static int foreign(const rr__sql_t *sql, const char **out) {
    const rr__sql_source_t source = {sql->driver, sql->source, sql->source + sql->source_size};
    for (const char *at = source.start, *behind; at < source.end; at = behind) {
        behind = rr__sql_behind_other(&source, at);
        if (behind)
            continue;
        behind = at + (at[0] == '?' && at + 1 < source.end && at[1] == '?' ? 2 : 1);
        if (!is_foreign(&source, at))
            continue;
        const char *end = at + 1 + (*at != '?');
        while (*at != '?' && *at != '%' && end < source.end && rr__sql_is_in_word(*end))
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
    if (size > 0)
        return rr_fail(RR_EINVAL, why, why_size, "the parameters have names, and the statement has no :name%s `%.*s`",
                       *what == '?' ? ": a list goes with" : " but", size, what);
    for (uint32_t i = 0; i < sql->placeholders; i++) {
        int rc = find_value(&pairs, &sql->names[i], &value);
        if (rc == RR_EINVAL)
            return wrong(why, why_size, "named parameters are pairs of a name and a value that is no list");
        if (rc != RR_OK)
            return rr_fail(RR_EINVAL, why, why_size, "the parameter :%.*s was not given", (int)sql->names[i].size,
                           sql->names[i].at);
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
