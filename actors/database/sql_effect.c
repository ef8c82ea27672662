/* sql_effect.c: what a statement does to its connection and its transaction, by its words. What functions, procedures and blocks do is
 * not seen. */
#include <string.h>
#include <strings.h>

#include "actors/database/sql_impl.h"

/* ---- Words ---- */

/* A word of a statement that is in no string, name or comment; size 0: there is none. */
typedef struct word {
    const rr__sql_source_t *source;
    const char *at;
    size_t size;
} word_t;

/* The head of a comment of MariaDB's or MySQL's that they carry out: its words count. */
static const char *behind_hint(const rr__sql_source_t *source, const char *at) {
    size_t left = (size_t)(source->end - at);
    size_t size = left > 2 && memcmp(at, "/*!", 3) == 0 ? 3 : left > 3 && memcmp(at, "/*M!", 4) == 0 ? 4 : 0;
    if (!size || !rr__sql_is_mysql(source))
        return NULL;
    for (at += size; at < source->end && rr__sql_is_digit(*at); at++) { /* the version from which on */
    }
    return at;
}

static const char *behind_silent(const rr__sql_source_t *source, const char *at) {
    const char *behind = behind_hint(source, at);
    return behind ? behind : rr__sql_behind_other(source, at);
}

/* The first one at `at` or behind it. */
static word_t word_from(const rr__sql_source_t *source, const char *at) {
    for (const char *behind; at < source->end; at = behind) {
        behind = behind_silent(source, at);
        if (behind)
            continue;
        for (behind = at; behind < source->end && rr__sql_is_in_word(*behind); behind++) {
        }
        if (behind > at)
            return (word_t){source, at, (size_t)(behind - at)};
        behind++;
    }
    return (word_t){source, source->end, 0};
}

static word_t next(word_t word) { return word_from(word.source, word.at + word.size); }

static bool is(word_t word, const char *text) { return word.size == strlen(text) && strncasecmp(word.at, text, word.size) == 0; }

/* words: ended by NULL. */
static bool is_one_of(word_t word, const char *const *words) {
    while (*words && !is(word, *words))
        words++;
    return *words != NULL;
}

/* This one, or the first behind it; size 0: none. */
static word_t find_one_of(word_t word, const char *const *words) {
    while (word.size > 0 && !is_one_of(word, words))
        word = next(word);
    return word;
}

static bool has_one_of(word_t word, const char *const *words) { return find_one_of(word, words).size > 0; }

/* The first at or behind it that is none of them. */
static word_t skip(word_t word, const char *const *words) {
    while (is_one_of(word, words))
        word = next(word);
    return word;
}
#define WORDS(...) ((const char *const[]){__VA_ARGS__, NULL})

/* ---- Any database's ---- */

bool rr__sql_reads(const rr__sql_source_t *source) {
    word_t first = word_from(source, source->start);
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

static bool is_temporary(word_t word) { return is_one_of(skip(word, WORDS("or", "replace", "local", "global")), WORDS("temp", "temporary")); }

/* ---- PostgreSQL's ---- */

/* `pg_temp.`: a name in the connection's own schema, not the schema in a list of them. */
static bool is_in_pg_temp(word_t word) {
    const char *at = word.at + word.size;
    while (is(word, "pg_temp") && at < word.source->end && rr__sql_is_space(*at))
        at++;
    return is(word, "pg_temp") && at < word.source->end && *at == '.';
}

static bool has_pg_temp(word_t word) {
    while (word.size > 0 && !is_in_pg_temp(word))
        word = next(word);
    return word.size > 0;
}

/* SELECT … INTO TEMP, also within WITH or EXPLAIN: not INSERT INTO. */
static bool selects_into_temporary(word_t word) {
    for (word_t before = word; word.size > 0; before = word, word = next(word))
        if (is(word, "into") && !is_one_of(before, WORDS("insert", "merge")) && (is_temporary(next(word)) || is_in_pg_temp(next(word))))
            return true;
    return false;
}

static bool is_with_hold(word_t first) {
    word_t with = is(first, "declare") ? find_one_of(first, WORDS("with", "for")) : (word_t){0};
    return is(with, "with") && is(next(with), "hold");
}

static rr__sql_effect_t effect_of_create(word_t second) {
    if (!is_temporary(second) && !has_pg_temp(second))
        return RR__SQL_NONE;
    word_t commit = find_one_of(second, WORDS("commit")); /* ON COMMIT DROP */
    return is(next(commit), "drop") ? RR__SQL_WITHIN : RR__SQL_KEEPS;
}

static rr__sql_effect_t effect_in_postgres(word_t first, word_t second) {
    if (is(first, "set"))
        return is_one_of(second, WORDS("local", "transaction", "constraints")) ? RR__SQL_WITHIN : RR__SQL_KEEPS;
    if (is(first, "create"))
        return effect_of_create(second);
    return is_one_of(first, WORDS("prepare", "deallocate", "discard", "listen", "load")) || is_with_hold(first) || selects_into_temporary(first) ? RR__SQL_KEEPS
                                                                                                                       : RR__SQL_NONE;
}

/* ---- MariaDB's and MySQL's ---- */

/* Behind the comma that ends the item at `at`: not one in brackets. */
static const char *behind_item(const rr__sql_source_t *source, const char *at) {
    unsigned depth = 0;
    for (const char *behind; at < source->end; at = behind) {
        behind = behind_silent(source, at);
        if (behind)
            continue;
        behind = at + 1;
        if (*at == ',' && depth == 0)
            return behind;
        if (*at == '(')
            depth++;
        else if (*at == ')' && depth > 0)
            depth--;
    }
    return at;
}

/* `@name = …`: no other query looks at it by chance. */
static bool is_own_variable(const rr__sql_source_t *source, const char *at) {
    for (const char *behind; at < source->end; at = behind) {
        behind = behind_silent(source, at);
        if (!behind && !rr__sql_is_space(*at))
            return *at == '@' && at + 1 < source->end && at[1] != '@';
        behind = behind ? behind : at + 1;
    }
    return false;
}

/* Of one item: for all connections, of one's own, or of what the connection keeps. *global: what the items before it have said, which
 * holds for those that say nothing, but not for `@@name`. */
static rr__sql_effect_t effect_of_item(const rr__sql_source_t *source, const char *at, bool *global) {
    word_t word = word_from(source, at);
    bool variable = word.at - at >= 2 && word.at[-1] == '@' && word.at[-2] == '@';
    bool all = is_one_of(word, WORDS("global", "persist", "persist_only")), own = is_one_of(word, WORDS("session", "local"));
    if (is_own_variable(source, at) || is(word, "password") || (is(word, "default") && is(next(word), "role")))
        return RR__SQL_NONE;
    if (!variable && (all || own))
        *global = all;
    if (variable ? all : *global && !is_one_of(word, WORDS("names", "character", "charset", "role")))
        return RR__SQL_NONE;
    if (is(own ? next(word) : word, "autocommit") || is(own ? next(word) : word, "transaction"))
        return RR__SQL_TRANSACTS;
    return RR__SQL_KEEPS;
}

static rr__sql_effect_t effect_of_set(word_t set) {
    rr__sql_effect_t worst = RR__SQL_NONE;
    bool global = false;
    if (is(next(set), "resource")) /* GROUP … FOR: of other threads */
        return has_one_of(next(set), WORDS("for")) ? RR__SQL_NONE : RR__SQL_KEEPS;
    for (const char *at = set.at + set.size; at < set.source->end; at = behind_item(set.source, at)) {
        rr__sql_effect_t effect = effect_of_item(set.source, at, &global);
        if (effect == RR__SQL_TRANSACTS)
            return effect;
        worst = effect == RR__SQL_KEEPS ? effect : worst;
    }
    return worst;
}

static bool locks(word_t first, word_t second) {
    if (is(first, "flush"))
        return has_one_of(second, WORDS("lock", "export"));
    return (is(first, "lock") && is_one_of(second, WORDS("table", "tables", "instance"))) ||
           (is(first, "backup") && is_one_of(second, WORDS("stage", "lock")));
}

static bool keeps(word_t first, word_t second) {
    return is_one_of(first, WORDS("use", "prepare")) || (is(first, "create") && is_temporary(second)) ||
           (is(first, "execute") && is(second, "immediate")) || /* of what, only the server knows */
           (is(first, "handler") && has_one_of(second, WORDS("open")));
}

static rr__sql_effect_t effect_in_mysql(word_t first, word_t second) {
    if (is(first, "set"))
        return effect_of_set(first);
    if (locks(first, second))
        return RR__SQL_LOCKS;
    return keeps(first, second) ? RR__SQL_KEEPS : RR__SQL_NONE;
}

/* ---- All ---- */

static rr__sql_effect_t effect_from(word_t first) {
    word_t second = next(first);
    while (rr__sql_is_mysql(first.source) && is(first, "set") && is(second, "statement")) { /* … FOR another one */
        first = next(find_one_of(second, WORDS("for")));
        second = next(first);
    }
    if (is_transacting(first, second))
        return RR__SQL_TRANSACTS;
    if (is_savepoint(first, second))
        return RR__SQL_WITHIN;
    if (rr__sql_is_postgres(first.source))
        return effect_in_postgres(first, second);
    return rr__sql_is_mysql(first.source) ? effect_in_mysql(first, second) : RR__SQL_NONE; /* SQLite has one connection */
}

rr__sql_effect_t rr__sql_effect_of(const rr__sql_source_t *source) { return effect_from(word_from(source, source->start)); }
