/* sql_scan.c: strings, quoted names and comments, as each kind of server reads them. */
#include <string.h>

#include "actors/database/sql_impl.h"

/* Behind a string or quoted name that begins at `at`. */
static const char *behind_quote(const rr__sql_source_t *source, const char *at, char quote, bool backslashes) {
    for (at++; at < source->end; at++) {
        if (backslashes && *at == '\\' && at + 1 < source->end)
            at++;
        else if (*at == quote)
            return at + 1;
    }
    return at;
}

/* A carriage return ends a line in PostgreSQL only. */
static const char *behind_line(const rr__sql_source_t *source, const char *at) {
    bool returns = rr__sql_is_postgres(source);
    while (at < source->end && *at != '\n' && !(returns && *at == '\r'))
        at++;
    return at < source->end ? at + 1 : at;
}

/* `5--1` is 6 in MariaDB and MySQL: there white space, a control character or the end has to follow. */
static bool is_line_comment(const rr__sql_source_t *source, const char *at) {
    if (at + 1 == source->end || at[1] != '-')
        return false;
    return !rr__sql_is_mysql(source) || at + 2 == source->end || (unsigned char)at[2] <= ' ' || at[2] == 0x7f;
}

/* Comments nest in PostgreSQL only. */
static const char *behind_comment(const rr__sql_source_t *source, const char *at) {
    unsigned depth = 1;
    for (at += 2; at + 1 < source->end; at++) {
        if (at[0] == '*' && at[1] == '/') {
            at++;
            if (--depth == 0)
                return at + 1;
        } else if (at[0] == '/' && at[1] == '*' && rr__sql_is_postgres(source)) {
            at++;
            depth++;
        }
    }
    return source->end;
}

/* Behind $tag$ … $tag$, or NULL if none begins here. */
static const char *behind_dollars(const rr__sql_source_t *source, const char *at) {
    const char *tag_end = at + 1;
    while (tag_end < source->end && (rr__sql_is_letter(*tag_end) || (rr__sql_is_digit(*tag_end) && tag_end > at + 1)))
        tag_end++;
    if (tag_end == source->end || *tag_end != '$')
        return NULL;
    size_t size = (size_t)(tag_end + 1 - at);
    const char *end = memmem(tag_end + 1, (size_t)(source->end - tag_end - 1), at, size);
    return end ? end + size : source->end;
}

/* E'…' of PostgreSQL: a letter of its own before the quote. */
static bool is_escape_string(const rr__sql_source_t *source, const char *at) {
    return at > source->start && (at[-1] == 'E' || at[-1] == 'e') && (at - 1 == source->start || !rr__sql_is_in_word(at[-2]));
}

static const char *behind_string(const rr__sql_source_t *source, const char *at) {
    return behind_quote(source, at, '\'', rr__sql_is_mysql(source) || (rr__sql_is_postgres(source) && is_escape_string(source, at)));
}

const char *rr__sql_behind_other(const rr__sql_source_t *source, const char *at) {
    bool two = at + 1 < source->end;
    switch (*at) {
    case '\'':
        return behind_string(source, at);
    case '"':
        return behind_quote(source, at, '"', rr__sql_is_mysql(source));
    case '`':
        return rr__sql_is_postgres(source) ? NULL : behind_quote(source, at, '`', false);
    case '[': /* an array's, elsewhere */
        return rr__sql_is_sqlite(source) ? behind_quote(source, at, ']', false) : NULL;
    case '-':
        return is_line_comment(source, at) ? behind_line(source, at) : NULL;
    case '#':
        return rr__sql_is_mysql(source) ? behind_line(source, at) : NULL;
    case '/':
        return two && at[1] == '*' ? behind_comment(source, at) : NULL;
    case ':':
        return two && at[1] == ':' ? at + 2 : NULL;
    case '$':
        return rr__sql_is_postgres(source) && !(at > source->start && rr__sql_is_in_word(at[-1])) ? behind_dollars(source, at) : NULL;
    default:
        return NULL;
    }
}
