/* Redis' commands and replies as bytes, and who listens to which channel: without a server. */
#include <stdarg.h>
#include <string.h>

#include "actors/database/redis_impl.h"
#include "tests/unit/check_main.h"

/* ---- Commands ---- */

static void words(rr_datum_writer_t *writer, unsigned count, ...) {
    va_list args;
    va_start(args, count);
    for (unsigned i = 0; i < count; i++) {
        const char *word = va_arg(args, const char *);
        rr_datum_put_text(writer, RR_DATUM_TEXT, word, strlen(word));
    }
    va_end(args);
}

static int command(rr__redis_bytes_t *out, rr_datum_writer_t *writer, uint32_t count, rr__db_failure_t *why) {
    int rc = rr__redis_command(out, rr_datum_reader(writer->data, writer->size), count, why);
    rr_datum_drop(writer);
    *writer = (rr_datum_writer_t){0};
    return rc;
}

START_TEST(commands) {
    rr__redis_bytes_t out = {0};
    rr__db_failure_t why;
    rr_datum_writer_t w = {0};
    words(&w, 1, "SET");
    rr_datum_put_text(&w, RR_DATUM_BYTES, "a\r\n\0", 4);
    rr_datum_put_int(&w, -5);
    rr_datum_put_real(&w, 0.1);
    ck_assert_int_eq(command(&out, &w, 4, &why), RR_OK);
    static const char want[] = "*4\r\n$3\r\nSET\r\n$4\r\na\r\n\0\r\n$2\r\n-5\r\n$3\r\n0.1\r\n";
    ck_assert_uint_eq(out.size, sizeof want - 1);
    ck_assert_mem_eq(out.data, want, sizeof want - 1);
    free(out.data);
}
END_TEST

static void refused(rr_db_error_t error, unsigned count, const char *one, const char *two, const char *three) {
    rr__redis_bytes_t out = {0};
    rr__db_failure_t why;
    rr_datum_writer_t w = {0};
    rr__redis_head(&out, 1); /* of somebody else: stays */
    size_t before = out.size;
    words(&w, count, one, two, three);
    ck_assert_msg(command(&out, &w, count, &why) == RR_EINVAL, "%s", one);
    ck_assert_msg(why.error == error, "%s: %s", one, why.message);
    ck_assert_uint_eq(out.size, before);
    free(out.data);
}

START_TEST(commands_that_a_shared_connection_cannot_take) {
    const char *const never[] = {"multi", "EXEC", "Watch", "SUBSCRIBE", "blpop", "SELECT", "AUTH", "hello", "QUIT", "monitor", "WAIT"};
    for (size_t i = 0; i < sizeof never / sizeof *never; i++)
        refused(RR_DB_STATE, 2, never[i], "x", NULL);
    refused(RR_DB_STATE, 3, "CLIENT", "REPLY", "OFF");
    refused(RR_DB_STATE, 3, "xread", "block", "0");
    refused(RR_DB_DATA, 1, "", NULL, NULL);
    rr__redis_bytes_t out = {0};
    rr__db_failure_t why;
    rr_datum_writer_t w = {0};
    words(&w, 3, "CLIENT", "SETNAME", "multi");
    ck_assert_int_eq(command(&out, &w, 3, &why), RR_OK);
    words(&w, 1, "GET");
    rr_datum_put_null(&w);
    ck_assert_int_eq(command(&out, &w, 2, &why), RR_EINVAL);
    ck_assert_int_eq(why.error, RR_DB_DATA);
    ck_assert_int_eq(command(&out, &w, 0, &why), RR_EINVAL);
    free(out.data);
}
END_TEST

/* ---- Replies ---- */

/* Fed byte by byte: wherever the network cuts a reply. */
static void *read_all(redisReader *reader, const char *text, size_t size) {
    void *reply = NULL;
    for (size_t i = 0; i < size; i++) {
        ck_assert_ptr_null(reply);
        ck_assert_int_eq(redisReaderFeed(reader, text + i, 1), REDIS_OK);
        ck_assert_int_eq(redisReaderGetReply(reader, &reply), REDIS_OK);
    }
    return reply;
}

START_TEST(replies_are_datums) {
    rr_datum_writer_t out = {0}, want = {0};
    rr__redis_sink_t sink = {.out = &out};
    redisReader *reader = rr__redis_reader(&sink);
    static const char text[] = "*6\r\n+OK\r\n$3\r\na\0b\r\n:-7\r\n$-1\r\n*2\r\n-ERR x\r\n*0\r\n*-1\r\n";
    ck_assert_ptr_nonnull(read_all(reader, text, sizeof text - 1));
    ck_assert(!sink.is_error);
    rr_datum_put_list(&want, 6);
    rr_datum_put_text(&want, RR_DATUM_TEXT, "OK", 2);
    rr_datum_put_text(&want, RR_DATUM_BYTES, "a\0b", 3);
    rr_datum_put_int(&want, -7);
    rr_datum_put_null(&want);
    rr_datum_put_list(&want, 2);
    rr_datum_put_text(&want, RR_DATUM_ERROR, "ERR x", 5);
    rr_datum_put_list(&want, 0);
    rr_datum_put_null(&want);
    ck_assert_uint_eq(out.size, want.size);
    ck_assert_mem_eq(out.data, want.data, want.size);
    ck_assert_ptr_nonnull(read_all(reader, "-WRONGTYPE no\r\n", 15));
    ck_assert(sink.is_error);
    ck_assert_str_eq(sink.error, "WRONGTYPE no");
    redisReaderFree(reader);
    rr_datum_drop(&out);
    rr_datum_drop(&want);
}
END_TEST

START_TEST(replies_that_nobody_wants) {
    rr__redis_sink_t sink = {0};
    redisReader *reader = rr__redis_reader(&sink);
    static const char text[] = "*3\r\n+OK\r\n$1\r\nx\r\n*1\r\n:1\r\n";
    ck_assert_ptr_nonnull(read_all(reader, text, sizeof text - 1));
    void *reply;
    ck_assert_int_eq(redisReaderFeed(reader, "?what\r\n", 7), REDIS_OK);
    ck_assert_int_eq(redisReaderGetReply(reader, &reply), REDIS_ERR);
    redisReaderFree(reader);
}
END_TEST

/* What no Redis server says: an error in words, never a reply; nothing is taken from memory for what is only announced. */
START_TEST(replies_that_are_none) {
    static const char *const texts[] = {
        "hello\r\n", "\r\n", "ERR no prefix\r\n", "HTTP/1.1 400 Bad Request\r\n", "$-2\r\n", "$99999999999999999999\r\n", "$x\r\n",
        "*-2\r\n", "*99999999999999999999\r\n", "*1x\r\n", ":\r\n", ":12x\r\n", ":99999999999999999999\r\n", "$3\r\nabcd\r\n",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        rr_datum_writer_t out = {.limit = 1000};
        rr__redis_sink_t sink = {.out = &out};
        redisReader *reader = rr__redis_reader(&sink);
        void *reply = NULL;
        ck_assert_int_eq(redisReaderFeed(reader, texts[i], strlen(texts[i])), REDIS_OK);
        int rc = redisReaderGetReply(reader, &reply);
        if (rc == REDIS_OK && reply) /* it ends, and what is behind it does not begin anything */
            rc = redisReaderGetReply(reader, &reply);
        ck_assert_msg(rc == REDIS_ERR && reader->errstr[0], "%s", texts[i]);
        redisReaderFree(reader);
        rr_datum_drop(&out);
    }
}
END_TEST

START_TEST(replies_that_do_not_end) {
    rr_datum_writer_t out = {.limit = 1000};
    rr__redis_sink_t sink = {.out = &out};
    redisReader *reader = rr__redis_reader(&sink);
    void *reply = NULL;
    ck_assert_int_eq(redisReaderFeed(reader, "*2000000000\r\n", 13), REDIS_OK);
    for (int i = 0; i < 10000; i++) { /* above the limit they are read, and kept by nobody */
        ck_assert_int_eq(redisReaderFeed(reader, "$4\r\nword\r\n", 10), REDIS_OK);
        ck_assert_int_eq(redisReaderGetReply(reader, &reply), REDIS_OK);
        ck_assert_ptr_null(reply);
    }
    ck_assert_int_eq(out.status, RR_ETOOBIG);
    ck_assert_uint_le(out.size, 1000);
    redisReaderFree(reader);
    rr_datum_drop(&out);
    out = (rr_datum_writer_t){.limit = 1000};
    reader = rr__redis_reader(&sink);
    int rc = REDIS_OK;
    for (int i = 0; i < 1000 && rc == REDIS_OK; i++) { /* lists in lists */
        ck_assert_int_eq(redisReaderFeed(reader, "*1\r\n", 4), REDIS_OK);
        rc = redisReaderGetReply(reader, &reply);
    }
    ck_assert_int_eq(rc, REDIS_ERR);
    ck_assert_ptr_nonnull(strstr(reader->errstr, "nested"));
    redisReaderFree(reader);
    rr_datum_drop(&out);
}
END_TEST

START_TEST(errors_have_kinds) {
    const struct { const char *text; rr_db_error_t error; const char *state; } cases[] = {
        {"WRONGPASS invalid username-password pair or user is disabled.", RR_DB_AUTH, "WRONGPASS"},
        {"NOAUTH Authentication required.", RR_DB_AUTH, "NOAUTH"},
        {"ERR DB index is out of range", RR_DB_AUTH, "ERR"},
        {"LOADING Redis is loading the dataset in memory", RR_DB_CONNECTION, "LOADING"},
        {"ERR unknown command 'NOPE'", RR_DB_SYNTAX, "ERR"},
        {"WRONGTYPE Operation against a key", RR_DB_DATA, "WRONGTYPE"},
        {"OOM command not allowed", RR_DB_SERVER, "OOM"},
        {"ERR", RR_DB_SERVER, "ERR"},
        {"", RR_DB_SERVER, ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        rr__db_failure_t failure;
        rr__redis_failure(cases[i].text, &failure);
        ck_assert_msg(failure.error == cases[i].error, "%s", cases[i].text);
        ck_assert_str_eq(failure.state, cases[i].state);
    }
}
END_TEST

/* ---- Channels ---- */

static void count_gone(void *context, const rr__redis_channel_t *channel) {
    ck_assert_uint_eq(channel->count, 0);
    ++*(unsigned *)context;
}

START_TEST(channels_have_listeners) {
    rr__redis_channels_t all = {0};
    unsigned gone = 0;
    char name[16];
    for (unsigned i = 0; i < 300; i++) { /* channel i has subscriptions 1 and 2, if i is even; else only 1 */
        size_t size = (size_t)snprintf(name, sizeof name, "c%u", i);
        for (uint64_t id = 1; id <= 2 - i % 2; id++)
            ck_assert_int_eq(rr__redis_listen(&all, name, size, false, id), RR_OK);
        ck_assert_int_eq(rr__redis_listen(&all, name, size, false, 1), RR_OK); /* twice is once */
    }
    ck_assert_int_eq(rr__redis_listen(&all, "c0", 2, true, 3), RR_OK);
    ck_assert_uint_eq(rr__redis_channel(&all, "c0", 2, false)->count, 2);
    ck_assert_uint_eq(rr__redis_channel(&all, "c0", 2, true)->count, 1);
    ck_assert_ptr_null(rr__redis_channel(&all, "c999", 4, false));
    rr__redis_unlisten(&all, 1, count_gone, &gone);
    ck_assert_uint_eq(gone, 150);
    ck_assert_ptr_null(rr__redis_channel(&all, "c1", 2, false));
    ck_assert_uint_eq(rr__redis_channel(&all, "c298", 4, false)->ids[0], 2);
    rr__redis_unlisten(&all, 2, count_gone, &gone);
    ck_assert_uint_eq(gone, 300);
    ck_assert_uint_eq(all.set.count, 1);
    rr__redis_channels_free(&all);
}
END_TEST

CHECK_MAIN("database_redis", commands, commands_that_a_shared_connection_cannot_take, replies_are_datums, replies_that_nobody_wants,
           replies_that_are_none, replies_that_do_not_end, errors_have_kinds, channels_have_listeners)
