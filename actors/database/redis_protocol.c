/* redis_protocol.c: Redis' protocol (RESP 2). Commands are written as they are; replies are read by hiredis, whose reader
 * calls us for each part in order: exactly the order of a datum, so a reply is never built as a tree first. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "actors/database/redis_impl.h"

/* ---- Commands ---- */

static char *reserve(rr__redis_bytes_t *out, size_t size) {
    if (out->failed)
        return NULL;
    if (out->capacity - out->size < size) {
        size_t capacity = out->capacity ? out->capacity : 1024;
        while (capacity - out->size < size)
            capacity *= 2;
        char *bigger = realloc(out->data, capacity);
        if (!bigger) {
            out->failed = true;
            return NULL;
        }
        out->data = bigger;
        out->capacity = capacity;
    }
    return out->data + out->size;
}

static size_t put_count(char *at, char sign, size_t count) {
    char digits[24];
    size_t used = 0, size = 0;
    do
        digits[used++] = (char)('0' + count % 10);
    while (count /= 10);
    at[size++] = sign;
    while (used)
        at[size++] = digits[--used];
    at[size++] = '\r';
    at[size++] = '\n';
    return size;
}

void rr__redis_head(rr__redis_bytes_t *out, size_t words) {
    char *at = reserve(out, 32);
    if (at)
        out->size += put_count(at, '*', words);
}

void rr__redis_word(rr__redis_bytes_t *out, const void *data, size_t size) {
    char *at = reserve(out, size + 40);
    if (!at)
        return;
    size_t used = put_count(at, '$', size);
    memcpy(at + used, data, size);
    memcpy(at + used + size, "\r\n", 2);
    out->size += used + size + 2;
}

void rr__redis_words(rr__redis_bytes_t *out, size_t count, const char *const *words) {
    rr__redis_head(out, count);
    for (size_t i = 0; i < count; i++)
        rr__redis_word(out, words[i], strlen(words[i]));
}

/* ---- What a shared connection cannot take ---- */

typedef struct forbidden {
    const char *name;
    const char *why;
} forbidden_t;

#define SHARED " is not possible: the connection is shared"
#define BLOCKS " is not possible: it would hold up everybody on the connection"

static const char *why_not(const char *name) {
    static const forbidden_t list[] = {
        {"subscribe", ": use subscribe() of the database"}, {"psubscribe", ": use subscribe() of the database"},
        {"ssubscribe", SHARED}, {"unsubscribe", SHARED}, {"punsubscribe", SHARED}, {"sunsubscribe", SHARED},
        {"monitor", SHARED}, {"multi", ": send the commands as one atomic pipeline"},
        {"exec", ": send the commands as one atomic pipeline"}, {"discard", SHARED}, {"watch", SHARED}, {"unwatch", SHARED},
        {"select", ": the database is part of the URL"}, {"auth", ": the password is part of the URL"}, {"hello", SHARED},
        {"quit", SHARED}, {"reset", SHARED}, {"sync", SHARED}, {"psync", SHARED}, {"asking", SHARED}, {"readonly", SHARED},
        {"blpop", BLOCKS}, {"brpop", BLOCKS}, {"brpoplpush", BLOCKS}, {"blmove", BLOCKS}, {"blmpop", BLOCKS},
        {"bzpopmin", BLOCKS}, {"bzpopmax", BLOCKS}, {"bzmpop", BLOCKS}, {"wait", BLOCKS}, {"waitaof", BLOCKS},
    };
    for (size_t i = 0; i < sizeof list / sizeof *list; i++)
        if (strcasecmp(list[i].name, name) == 0)
            return list[i].why;
    return NULL;
}

static void name_of(const rr_datum_t *datum, char *out, size_t size) {
    snprintf(out, size, "%.*s", (int)(datum->text.size < size ? datum->text.size : size - 1), datum->text.data);
}

static int refuse(rr__db_failure_t *why, rr_db_error_t error, const char *name, const char *text) {
    *why = (rr__db_failure_t){.error = error};
    snprintf(why->message, sizeof why->message, "%s%s", name, text);
    return RR_EINVAL;
}

/* The fewest digits that give it back: people and other programs read them. */
static void write_real(char *out, size_t size, double real) {
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(out, size, "%.*g", digits, real);
        if (strtod(out, NULL) == real)
            break;
    }
}

static int put_word(rr__redis_bytes_t *out, const rr_datum_t *datum) {
    char text[40];
    switch (datum->kind) {
    case RR_DATUM_TEXT:
    case RR_DATUM_BYTES:
    case RR_DATUM_DECIMAL:
    case RR_DATUM_JSON:
    case RR_DATUM_UUID: rr__redis_word(out, datum->text.data, datum->text.size); return RR_OK;
    case RR_DATUM_INT: snprintf(text, sizeof text, "%lld", (long long)datum->number); break;
    case RR_DATUM_UINT: snprintf(text, sizeof text, "%llu", (unsigned long long)datum->big); break;
    case RR_DATUM_REAL: write_real(text, sizeof text, datum->real); break;
    default: return RR_EINVAL;
    }
    rr__redis_word(out, text, strlen(text));
    return RR_OK;
}

static bool is_word(const rr_datum_t *datum, const char *text) {
    return datum->kind == RR_DATUM_TEXT && datum->text.size == strlen(text) &&
           strncasecmp(datum->text.data, text, datum->text.size) == 0;
}

/* Commands of which only one form would break the connection for the others. */
static bool breaks(const char *name, uint32_t index, const rr_datum_t *datum) {
    return (strcasecmp(name, "client") == 0 && index == 1 && (is_word(datum, "reply") || is_word(datum, "pause"))) ||
           ((strcasecmp(name, "xread") == 0 || strcasecmp(name, "xreadgroup") == 0) && is_word(datum, "block"));
}

int rr__redis_command(rr__redis_bytes_t *out, rr_datum_reader_t words, uint32_t count, rr__db_failure_t *why) {
    size_t before = out->size;
    char name[24] = "";
    rr__redis_head(out, count);
    for (uint32_t i = 0; i < count || !count; i++) {
        rr_datum_t datum;
        int rc = count ? rr_datum_get(&words, &datum) : RR_EINVAL;
        if (rc == RR_OK && i == 0 && (datum.kind == RR_DATUM_TEXT || datum.kind == RR_DATUM_BYTES))
            name_of(&datum, name, sizeof name);
        const char *no = i == 0 && *name ? why_not(name) : NULL;
        if (rc == RR_OK && breaks(name, i, &datum))
            no = SHARED;
        if (rc == RR_OK && !no && put_word(out, &datum) == RR_OK && *name)
            continue;
        out->size = before;
        return no ? refuse(why, RR_DB_STATE, name, no)
                  : refuse(why, RR_DB_DATA, name, *name ? ": its words are texts, bytes and numbers" : "a command begins with its name");
    }
    return RR_OK;
}

/* ---- Replies ---- */

static void *const made = (void *)&made; /* hiredis wants something that is not NULL */

static rr__redis_sink_t *sink_of(const redisReadTask *task) {
    return task->privdata;
}

static void *on_text(const redisReadTask *task, char *text, size_t size) {
    rr__redis_sink_t *sink = sink_of(task);
    bool error = task->type == REDIS_REPLY_ERROR;
    if (error && !task->parent) {
        sink->is_error = true;
        snprintf(sink->error, sizeof sink->error, "%.*s", (int)(size < sizeof sink->error ? size : sizeof sink->error - 1), text);
    }
    if (!sink->out)
        return made;
    rr_datum_kind_t kind = error ? RR_DATUM_ERROR : task->type == REDIS_REPLY_STATUS ? RR_DATUM_TEXT : RR_DATUM_BYTES;
    rr_datum_put_text(sink->out, kind, text, size);
    return made;
}

static void *on_array(const redisReadTask *task, int count) {
    rr__redis_sink_t *sink = sink_of(task);
    if (sink->row && !task->parent) {
        sink->is_row = true;
        sink->out = &sink->row->out;
        rr__db_row(sink->row, (uint32_t)count);
    } else if (sink->out) {
        rr_datum_put_list(sink->out, (uint32_t)count);
    }
    return made;
}

static void *on_number(const redisReadTask *task, long long number) {
    if (sink_of(task)->out)
        rr_datum_put_int(sink_of(task)->out, number);
    return made;
}

static void *on_nil(const redisReadTask *task) {
    if (sink_of(task)->out)
        rr_datum_put_null(sink_of(task)->out);
    return made;
}

static void on_free(void *object) {
}

redisReader *rr__redis_reader(rr__redis_sink_t *sink) {
    static redisReplyObjectFunctions functions = {on_text, on_array, on_number, on_nil, on_free};
    redisReader *reader = redisReaderCreateWithFunctions(&functions);
    if (reader)
        reader->privdata = sink;
    return reader;
}

void rr__redis_failure(const char *text, rr__db_failure_t *out) {
    static const struct { const char *word; rr_db_error_t error; } words[] = {
        {"WRONGPASS", RR_DB_AUTH}, {"NOAUTH", RR_DB_AUTH}, {"NOPERM", RR_DB_AUTH}, {"ERR AUTH", RR_DB_AUTH},
        {"ERR invalid password", RR_DB_AUTH}, {"ERR Client sent AUTH", RR_DB_AUTH}, {"ERR DB index", RR_DB_AUTH},
        {"ERR invalid DB", RR_DB_AUTH}, {"LOADING", RR_DB_CONNECTION}, {"MASTERDOWN", RR_DB_CONNECTION},
        {"ERR max number of clients", RR_DB_CONNECTION}, {"ERR unknown command", RR_DB_SYNTAX},
        {"ERR wrong number of arguments", RR_DB_SYNTAX}, {"ERR syntax", RR_DB_SYNTAX}, {"WRONGTYPE", RR_DB_DATA},
    };
    *out = (rr__db_failure_t){.error = RR_DB_SERVER};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strncmp(text, words[i].word, strlen(words[i].word)) == 0)
            out->error = words[i].error;
    size_t word = strcspn(text, " ");
    snprintf(out->state, sizeof out->state, "%.*s", (int)(word < sizeof out->state ? word : sizeof out->state - 1), text);
    snprintf(out->message, sizeof out->message, "%s", text);
}
