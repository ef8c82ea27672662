/* redis.c: Redis, on the database's loop. One connection carries the commands of everybody: they leave in one write per
 * iteration of the loop and are answered in order. hiredis reads the replies (redis_protocol.c); its own connections are not
 * used, as they look names up in a blocking way and build a tree of every reply. */
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "actors/database/redis_impl.h"

#define KEEPALIVE_S 30u
#define KEPT (1u << 20) /* bytes of a buffer that stay */
#define EVENT_IDS 16u /* listeners of one channel that are copied without an allocation */

typedef enum flight_kind { FLIGHT_COMMANDS, FLIGHT_ATOMIC, FLIGHT_HELLO, FLIGHT_VERSION, FLIGHT_LISTEN, FLIGHT_CLOSE } flight_kind_t;

typedef struct flight { /* something sent whose replies have not all come */
    flight_kind_t kind;
    uint32_t replies;
    rr__db_job_t *job; /* NULL: our own */
    rr__db_failure_t failure;
} flight_t;

typedef struct state {
    rr__db_connection_t *connection;
    uv_tcp_t tcp;
    uv_connect_t connecting;
    uv_getaddrinfo_t resolver;
    uv_write_t write;
    struct addrinfo *addresses, *address; /* all, and the one that is tried */
    unsigned handles;                     /* of libuv, and its requests, that are not gone yet */
    bool resolving, has_tcp, opened, flying, lost, closing;
    char refusal[200]; /* why the last address was none */
    char version[32];

    rr_deferred_t flush;
    rr__redis_bytes_t filling, sending; /* sending: what the kernel had no room for */

    flight_t *flights; /* a ring */
    size_t flight_at, flight_count, flight_capacity;
    size_t unsent; /* the last so many have not left yet */

    redisReader *reader;
    rr__redis_sink_t sink;
    rr_datum_writer_t scratch; /* our own replies, and what comes for subscribers */
    rr__redis_channels_t channels;
} state_t;

static void try_address(state_t *state);

/* ---- The end ---- */

static void gone(state_t *state) {
    if (--state->handles || !state->closing)
        return;
    uv_freeaddrinfo(state->addresses);
    if (state->reader)
        redisReaderFree(state->reader);
    rr__redis_channels_free(&state->channels);
    rr_datum_drop(&state->scratch);
    free(state->filling.data);
    free(state->sending.data);
    free(state->flights);
    rr__db_closed(state->connection);
}

static void on_tcp_closed(uv_handle_t *handle) {
    state_t *state = handle->data;
    state->has_tcp = false;
    if (!state->closing && !state->opened)
        try_address(state);
    gone(state);
}

static void close_tcp(state_t *state) {
    if (state->has_tcp && !uv_is_closing((uv_handle_t *)&state->tcp))
        uv_close((uv_handle_t *)&state->tcp, on_tcp_closed);
}

static flight_t *flight(state_t *state, size_t index) {
    return &state->flights[(state->flight_at + index) & (state->flight_capacity - 1)];
}

static flight_t take_flight(state_t *state) {
    flight_t first = *flight(state, 0);
    state->flight_at = (state->flight_at + 1) & (state->flight_capacity - 1);
    state->flight_count--;
    if (state->unsent > state->flight_count)
        state->unsent = state->flight_count;
    return first;
}

static void fail_opening(state_t *state, const rr__db_failure_t *failure) {
    state->opened = state->lost = true;
    rr__db_opened(state->connection, NULL, failure);
}

/* The first job that this ends tells the pool, which closes us, which ends the others. */
static void lose(state_t *state, const char *text) {
    rr__db_failure_t failure = {.error = RR_DB_CONNECTION};
    snprintf(failure.message, sizeof failure.message, "%s", text);
    if (state->closing || state->lost)
        return;
    if (state->has_tcp)
        uv_read_stop((uv_stream_t *)&state->tcp);
    if (!state->opened) {
        fail_opening(state, &failure);
        return;
    }
    state->lost = true;
    if (state->flight_count)
        rr__db_done(state->connection, take_flight(state).job, &failure, true);
    else
        rr__db_lost(state->connection, &failure);
}

/* ---- Writing ---- */

static void flush(rr_deferred_t *item);

/* One large value must not keep its room for ever. */
static void empty(rr__redis_bytes_t *bytes) {
    bytes->size = 0;
    if (bytes->capacity > KEPT) {
        free(bytes->data);
        *bytes = (rr__redis_bytes_t){0};
    }
}

static void on_written(uv_write_t *request, int status) {
    state_t *state = request->data;
    state->flying = false;
    empty(&state->sending);
    if (status != 0)
        lose(state, uv_strerror(status));
    else if (state->filling.size)
        flush(&state->flush);
    gone(state);
}

static void mark_sent(state_t *state) {
    for (; state->unsent; state->unsent--) {
        rr__db_job_t *job = flight(state, state->flight_count - state->unsent)->job;
        if (job)
            job->sent = true;
    }
}

/* What the kernel does not take at once waits in `sending`, and the next batch waits for that. */
static void flush(rr_deferred_t *item) {
    state_t *state = (state_t *)((char *)item - offsetof(state_t, flush));
    if (state->flying || state->closing || state->lost || !state->has_tcp || !state->filling.size)
        return;
    mark_sent(state);
    uv_buf_t buffer = uv_buf_init(state->filling.data, (unsigned)state->filling.size);
    int written = uv_try_write((uv_stream_t *)&state->tcp, &buffer, 1);
    if (written == (int)state->filling.size) {
        empty(&state->filling);
        return;
    }
    if (written < 0 && written != UV_EAGAIN) {
        lose(state, uv_strerror(written));
        return;
    }
    size_t done = written > 0 ? (size_t)written : 0;
    rr__redis_bytes_t rest = state->filling;
    state->filling = state->sending;
    state->sending = rest;
    buffer = uv_buf_init(rest.data + done, (unsigned)(rest.size - done));
    state->write.data = state;
    int rc = uv_write(&state->write, (uv_stream_t *)&state->tcp, &buffer, 1, on_written);
    if (rc != 0) {
        lose(state, uv_strerror(rc));
        return;
    }
    state->flying = true;
    state->handles++;
}

static bool push(state_t *state, flight_kind_t kind, rr__db_job_t *job, uint32_t replies) {
    if (state->flight_count == state->flight_capacity) {
        size_t capacity = state->flight_capacity ? state->flight_capacity * 2 : 64;
        flight_t *bigger = malloc(capacity * sizeof *bigger);
        if (!bigger)
            return false;
        for (size_t i = 0; i < state->flight_count; i++)
            bigger[i] = *flight(state, i);
        free(state->flights);
        state->flights = bigger;
        state->flight_at = 0;
        state->flight_capacity = capacity;
    }
    state->flight_count++;
    *flight(state, state->flight_count - 1) = (flight_t){.kind = kind, .job = job, .replies = replies};
    state->unsent++;
    rr_loop_defer(rr__db_loop(state->connection), &state->flush);
    return true;
}

/* ---- Replies ---- */

/* Where the parts of the next reply go. */
static void aim(state_t *state) {
    flight_t *first = state->flight_count ? flight(state, 0) : NULL;
    rr__redis_sink_t *sink = &state->sink;
    sink->is_row = sink->is_error = false;
    sink->row = NULL;
    sink->out = NULL;
    if (first && first->kind == FLIGHT_COMMANDS) {
        sink->out = &first->job->out;
    } else if (first && first->kind == FLIGHT_ATOMIC) {
        sink->row = first->replies == 1 ? first->job : NULL; /* EXEC's; before it, MULTI's and one for each command queued */
    } else {
        state->scratch.size = 0;
        state->scratch.status = RR_OK;
        sink->out = &state->scratch;
    }
}

static void finish_flight(state_t *state) {
    flight_t done = take_flight(state);
    if (!done.job)
        return;
    int status = done.job->out.status;
    if (done.failure.error == RR_DB_OK && status != RR_OK) {
        bool big = status == RR_ETOOBIG;
        done.failure.error = big ? RR_DB_TOO_BIG : RR_DB_SERVER;
        snprintf(done.failure.message, sizeof done.failure.message, "%s",
                 big ? "the replies are over the limit" : rr_strerror(status));
    }
    rr__db_done(state->connection, done.job, done.failure.error != RR_DB_OK ? &done.failure : NULL, false);
}

static void open_succeeded(state_t *state) {
    state->opened = true;
    rr__db_opened(state->connection, *state->version ? state->version : NULL, NULL);
}

static void read_version(state_t *state) {
    static const char word[] = "redis_version:";
    rr_datum_reader_t reader = rr_datum_reader(state->scratch.data, state->scratch.size);
    const char *text;
    size_t size;
    if (rr_datum_get_text(&reader, &text, &size) != RR_OK || !text)
        return;
    const char *found = memmem(text, size, word, sizeof word - 1);
    if (!found)
        return;
    found += sizeof word - 1;
    size_t left = size - (size_t)(found - text), used = 0;
    while (used < left && used + 1 < sizeof state->version && found[used] > ' ')
        used++;
    memcpy(state->version, found, used);
    state->version[used] = '\0';
}

/* A reply to what we said at the door. */
static void on_hello(state_t *state, flight_t *first) {
    rr__redis_failure(state->sink.error, &first->failure);
    bool version = first->kind == FLIGHT_VERSION;
    if (!state->sink.is_error && version)
        read_version(state);
    if (state->sink.is_error && !(version && strncmp(state->sink.error, "NOPERM", 6) == 0)) {
        rr__db_failure_t failure = first->failure;
        take_flight(state);
        fail_opening(state, &failure);
        return;
    }
    take_flight(state);
    if (version)
        open_succeeded(state);
}

static void on_atomic_reply(state_t *state, flight_t *first) {
    if (state->sink.is_error && first->failure.error == RR_DB_OK)
        rr__redis_failure(state->sink.error, &first->failure);
    if (first->replies == 1 && !state->sink.is_row && first->failure.error == RR_DB_OK) {
        first->failure.error = RR_DB_DEADLOCK;
        snprintf(first->failure.message, sizeof first->failure.message, "the server gave the commands up");
    }
    if (--first->replies == 0)
        finish_flight(state);
}

/* ---- Subscriptions ---- */

typedef struct event {
    const char *words[4];
    size_t sizes[4];
    uint32_t count;
} event_t;

static bool read_event(const rr_datum_writer_t *from, event_t *out) {
    rr_datum_reader_t reader = rr_datum_reader(from->data, from->size);
    if (rr_datum_get_list(&reader, &out->count) != RR_OK || out->count < 3 || out->count > 4)
        return false;
    for (uint32_t i = 0; i < out->count; i++) {
        rr_datum_t datum;
        if (rr_datum_get(&reader, &datum) != RR_OK)
            return false;
        bool text = datum.kind == RR_DATUM_BYTES || datum.kind == RR_DATUM_TEXT;
        out->words[i] = text ? datum.text.data : NULL;
        out->sizes[i] = text ? datum.text.size : 0;
    }
    return out->words[0] != NULL;
}

static bool is(const event_t *event, const char *word) {
    return event->sizes[0] == strlen(word) && memcmp(event->words[0], word, event->sizes[0]) == 0;
}

/* Listeners may come and go while they are told: their ids are copied first. */
static void tell(state_t *state, const event_t *event, bool pattern) {
    size_t at = pattern ? 2 : 1;
    rr__redis_channel_t *channel = rr__redis_channel(&state->channels, event->words[1], event->sizes[1], pattern);
    if (!channel)
        return;
    uint64_t few[EVENT_IDS], *ids = channel->count > EVENT_IDS ? malloc(channel->count * sizeof *ids) : few;
    size_t count = channel->count;
    if (!ids) {
        lose(state, rr_strerror(RR_ENOMEM)); /* the next event says that some were lost */
        return;
    }
    memcpy(ids, channel->ids, count * sizeof *ids);
    for (size_t i = 0; i < count && !state->closing; i++)
        rr__db_event(state->connection, ids[i], event->words[at], event->sizes[at], pattern ? event->words[1] : NULL,
                     pattern ? event->sizes[1] : 0, event->words[at + 1], event->sizes[at + 1]);
    if (ids != few)
        free(ids);
}

static void on_pushed(state_t *state) {
    event_t event = {0};
    rr_datum_writer_t taken = state->scratch; /* an event's receiver may run a job here */
    state->scratch = (rr_datum_writer_t){.limit = taken.limit};
    flight_t *first = state->flight_count ? flight(state, 0) : NULL;
    bool listens = first && (first->kind == FLIGHT_LISTEN || first->kind == FLIGHT_CLOSE);
    if (state->sink.is_error) {
        if (!listens) {
            lose(state, state->sink.error);
        } else {
            rr__redis_failure(state->sink.error, &first->failure);
            finish_flight(state);
        }
    } else if (taken.status != RR_OK || !read_event(&taken, &event)) {
        lose(state, taken.status != RR_OK ? rr_strerror(taken.status) : "the server sent what is no event");
    } else if (is(&event, "message") && event.words[1] && event.words[2]) {
        tell(state, &event, false);
    } else if (is(&event, "pmessage") && event.count == 4 && event.words[1] && event.words[2] && event.words[3]) {
        tell(state, &event, true);
    } else if (listens && --first->replies == 0) {
        finish_flight(state);
    }
    if (state->closing || state->scratch.data)
        rr_datum_drop(&taken);
    else
        state->scratch = taken;
}

/* ---- Reading ---- */

static void on_reply(state_t *state) {
    flight_t *first = state->flight_count ? flight(state, 0) : NULL;
    bool commands = first && (first->kind == FLIGHT_ATOMIC || first->kind == FLIGHT_COMMANDS);
    if (commands && state->unsent == state->flight_count) {
        lose(state, "the server answered what it had not been asked yet"); /* all later answers would be somebody else's */
    } else if (first && (first->kind == FLIGHT_HELLO || first->kind == FLIGHT_VERSION)) {
        on_hello(state, first);
    } else if (first && first->kind == FLIGHT_ATOMIC) {
        on_atomic_reply(state, first);
    } else if (first && first->kind == FLIGHT_COMMANDS) {
        if (--first->replies == 0)
            finish_flight(state);
    } else if (state->opened) {
        on_pushed(state);
    } else {
        lose(state, state->sink.is_error ? state->sink.error : "this is no Redis server");
    }
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *out) {
    state_t *state = handle->data;
    *out = uv_buf_init((char *)rr_loop_scratch(rr__db_loop(state->connection)), RR_LOOP_SCRATCH);
}

static void on_read(uv_stream_t *stream, ssize_t size, const uv_buf_t *buffer) {
    state_t *state = stream->data;
    if (size < 0) {
        lose(state, size == UV_EOF ? "the server closed the connection" : uv_strerror((int)size));
        return;
    }
    if (redisReaderFeed(state->reader, buffer->base, (size_t)size) != REDIS_OK) {
        lose(state, state->reader->errstr);
        return;
    }
    while (!state->closing && !state->lost) {
        void *reply = NULL;
        if (redisReaderGetReply(state->reader, &reply) != REDIS_OK) {
            lose(state, state->reader->errstr);
            return;
        }
        if (!reply)
            return;
        on_reply(state);
        if (!state->closing && !state->lost)
            aim(state);
    }
}

/* ---- Opening ---- */

/* Who we are, which database, which version the server has: in one write. */
static void say_hello(state_t *state) {
    const rr__db_url_t *url = rr__db_url(state->connection);
    const char *auth[] = {"AUTH", *url->user ? url->user : url->password, url->password};
    const char *select[] = {"SELECT", url->database};
    const char *info[] = {"INFO", "server"};
    bool good = true;
    if (*url->password || *url->user) {
        rr__redis_words(&state->filling, *url->user ? 3 : 2, auth);
        good = push(state, FLIGHT_HELLO, NULL, 1);
    }
    if (*url->database && strcmp(url->database, "0") != 0) {
        rr__redis_words(&state->filling, 2, select);
        good = good && push(state, FLIGHT_HELLO, NULL, 1);
    }
    rr__redis_words(&state->filling, 2, info);
    good = good && push(state, FLIGHT_VERSION, NULL, 1) && !state->filling.failed;
    int rc = good ? uv_read_start((uv_stream_t *)&state->tcp, on_alloc, on_read) : UV_ENOMEM;
    if (rc != 0)
        lose(state, uv_strerror(rc));
    else
        aim(state);
}

static void refused(state_t *state, int status) {
    snprintf(state->refusal, sizeof state->refusal, "%s", uv_strerror(status));
    if (!state->closing)
        close_tcp(state); /* on_tcp_closed tries the next address */
}

static void on_connected(uv_connect_t *request, int status) {
    state_t *state = request->data;
    if (status != 0)
        refused(state, status);
    else if (!state->closing)
        say_hello(state);
    gone(state);
}

static void try_address(state_t *state) {
    const struct addrinfo *address = state->address;
    if (!address) {
        lose(state, *state->refusal ? state->refusal : "the host has no address");
        return;
    }
    state->address = address->ai_next;
    int rc = uv_tcp_init(rr_loop_uv(rr__db_loop(state->connection)), &state->tcp);
    if (rc != 0) {
        lose(state, uv_strerror(rc));
        return;
    }
    state->tcp.data = state;
    state->connecting.data = state;
    state->has_tcp = true;
    state->handles++;
    rc = uv_tcp_connect(&state->connecting, &state->tcp, address->ai_addr, on_connected);
    if (rc != 0) {
        refused(state, rc);
        return;
    }
    state->handles++;
    uv_tcp_nodelay(&state->tcp, 1); /* what fails here costs speed only */
    uv_tcp_keepalive(&state->tcp, 1, KEEPALIVE_S);
}

static void on_resolved(uv_getaddrinfo_t *request, int status, struct addrinfo *list) {
    state_t *state = request->data;
    state->resolving = false;
    state->addresses = state->address = list;
    if (!state->closing) {
        if (status != 0)
            snprintf(state->refusal, sizeof state->refusal, "%s: %s", rr__db_url(state->connection)->host, uv_strerror(status));
        try_address(state);
    }
    gone(state);
}

static void redis_open(rr__db_connection_t *connection) {
    state_t *state = rr__db_state(connection);
    const rr__db_url_t *url = rr__db_url(connection);
    state->connection = connection;
    state->flush.fn = flush;
    state->scratch.limit = rr__db_options(connection)->result_bytes;
    state->reader = rr__redis_reader(&state->sink);
    if (!state->reader) {
        lose(state, rr_strerror(RR_ENOMEM));
        return;
    }
    char port[12] = "6379";
    if (url->port)
        snprintf(port, sizeof port, "%u", url->port);
    state->resolver.data = state;
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    int rc = uv_getaddrinfo(rr_loop_uv(rr__db_loop(connection)), &state->resolver, on_resolved,
                            *url->host ? url->host : "localhost", port, &hints);
    if (rc != 0) {
        lose(state, uv_strerror(rc));
        return;
    }
    state->resolving = true;
    state->handles++;
}

/* ---- Jobs ---- */

static void refuse(state_t *state, rr__db_job_t *job, rr_db_error_t error, const char *text) {
    rr__db_failure_t failure = {.error = error};
    snprintf(failure.message, sizeof failure.message, "%s", text);
    rr__db_done(state->connection, job, &failure, false);
}

/* What was written behind `before` does not go out: nor does what there was no memory for stop what comes later. */
static void take_back(state_t *state, size_t before) {
    state->filling.size = before;
    state->filling.failed = false;
}

/* All commands of a job, or none. */
static bool put_commands(state_t *state, rr__db_job_t *job, rr__db_failure_t *why) {
    static const char *const multi[] = {"MULTI"}, *const exec[] = {"EXEC"};
    bool atomic = job->flags & RR_QUERY_ATOMIC;
    size_t before = state->filling.size;
    if (atomic)
        rr__redis_words(&state->filling, 1, multi);
    for (uint32_t i = 0; i < job->list_count; i++) {
        rr_datum_reader_t words;
        int count = rr__db_next_list(job, &words);
        *why = (rr__db_failure_t){.error = RR_DB_DATA, .message = "a command is a list of words"};
        if (count < 0 || rr__redis_command(&state->filling, words, (uint32_t)count, why) != RR_OK) {
            take_back(state, before);
            return false;
        }
    }
    if (atomic)
        rr__redis_words(&state->filling, 1, exec);
    *why = (rr__db_failure_t){.error = RR_DB_SERVER, .message = "out of memory"};
    if (state->filling.failed ||
        !push(state, atomic ? FLIGHT_ATOMIC : FLIGHT_COMMANDS, job, job->list_count + (atomic ? 2 : 0))) {
        take_back(state, before);
        return false;
    }
    return true;
}

static void run_commands(state_t *state, rr__db_job_t *job) {
    rr__db_columns(job, 0);
    job->affected = 0;
    if (!job->list_count) {
        rr__db_row(job, 0);
        rr__db_done(state->connection, job, NULL, false);
        return;
    }
    rr__db_failure_t why;
    bool idle = !state->flight_count;
    if (!put_commands(state, job, &why)) {
        rr__db_done(state->connection, job, &why, false);
        return;
    }
    if (!(job->flags & RR_QUERY_ATOMIC))
        rr__db_row(job, job->list_count);
    if (idle)
        aim(state);
}

static void subscribe(state_t *state, rr__db_job_t *job) {
    bool pattern = job->flags & RR_QUERY_PATTERN, good = true;
    rr_datum_reader_t names = job->parameters;
    rr__db_columns(job, 0);
    if (!job->list_count) {
        refuse(state, job, RR_DB_DATA, "no channel is named");
        return;
    }
    size_t before = state->filling.size;
    rr__redis_head(&state->filling, job->list_count + 1);
    rr__redis_word(&state->filling, pattern ? "PSUBSCRIBE" : "SUBSCRIBE", pattern ? 10 : 9);
    for (uint32_t i = 0; i < job->list_count && good; i++) {
        const char *name;
        size_t size;
        good = rr_datum_get_text(&names, &name, &size) == RR_OK && name &&
               rr__redis_listen(&state->channels, name, size, pattern, job->stream) == RR_OK;
        if (good)
            rr__redis_word(&state->filling, name, size);
    }
    if (!good || state->filling.failed || !push(state, FLIGHT_LISTEN, job, job->list_count)) {
        bool no_memory = good || state->filling.failed;
        take_back(state, before); /* the pool sends CLOSE for what began */
        refuse(state, job, no_memory ? RR_DB_SERVER : RR_DB_DATA, no_memory ? rr_strerror(RR_ENOMEM) : "channels are texts");
    }
}

static void put_unsubscribe(void *context, const rr__redis_channel_t *channel) {
    state_t *state = context;
    const char *word = channel->pattern ? "PUNSUBSCRIBE" : "UNSUBSCRIBE";
    rr__redis_head(&state->filling, 2);
    rr__redis_word(&state->filling, word, strlen(word));
    rr__redis_word(&state->filling, channel->name, channel->size);
    flight(state, state->flight_count - 1)->replies++;
}

static void unsubscribe(state_t *state, rr__db_job_t *job) {
    rr__db_columns(job, 0);
    if (!push(state, FLIGHT_CLOSE, job, 0)) {
        refuse(state, job, RR_DB_SERVER, rr_strerror(RR_ENOMEM));
        return;
    }
    rr__redis_unlisten(&state->channels, job->stream, put_unsubscribe, state);
    if (state->filling.failed) {
        lose(state, rr_strerror(RR_ENOMEM));
        return;
    }
    flight_t *last = flight(state, state->flight_count - 1);
    if (last->replies)
        return;
    state->flight_count--; /* others listen to all of them: nothing to say to the server */
    state->unsent--;
    rr__db_done(state->connection, job, NULL, false);
}

static void redis_execute(rr__db_connection_t *connection, rr__db_job_t *job) {
    state_t *state = rr__db_state(connection);
    if (state->closing || state->lost) {
        rr__db_failure_t failure = {.error = RR_DB_CONNECTION, .message = "the connection is closed"};
        rr__db_done(connection, job, &failure, true);
    } else if (job->op == RR_DB_COMMANDS) {
        run_commands(state, job);
    } else if (job->op == RR_DB_SUBSCRIBE) {
        subscribe(state, job);
    } else if (job->op == RR_DB_CLOSE) {
        unsubscribe(state, job);
    } else {
        refuse(state, job, RR_DB_STATE, "Redis has no SQL: use commands");
    }
}

/* A command cannot be taken back, and its answer holds up those behind it: it comes, or the pool closes the connection. */
static void redis_cancel(rr__db_connection_t *connection, rr__db_job_t *job) {
}

static void redis_close(rr__db_connection_t *connection) {
    state_t *state = rr__db_state(connection);
    if (state->closing)
        return;
    state->closing = true;
    rr_loop_defer_cancel(rr__db_loop(connection), &state->flush);
    rr__db_failure_t failure = {.error = RR_DB_CONNECTION, .message = "the connection was closed"};
    state->handles++; /* ours, so that it is not over while we end the jobs */
    while (state->flight_count) {
        rr__db_job_t *job = take_flight(state).job;
        if (job)
            rr__db_done(connection, job, &failure, true);
    }
    if (state->resolving)
        uv_cancel((uv_req_t *)&state->resolver); /* if it cannot be: on_resolved sees that we close */
    if (!state->has_tcp && uv_tcp_init(rr_loop_uv(rr__db_loop(connection)), &state->tcp) == 0) {
        state->tcp.data = state; /* rr__db_closed never comes from inside: there is always something that closes */
        state->has_tcp = true;
        state->handles++;
    }
    close_tcp(state);
    state->handles--;
}

static bool redis_in_transaction(rr__db_connection_t *connection) {
    return false;
}

static const char *redis_begin(unsigned flags, const char **why) {
    *why = "Redis has no such transactions: send the commands as one atomic pipeline";
    return NULL;
}

static int redis_check(const rr__db_url_t *url, char *why, size_t why_size) {
    char *end;
    unsigned long number = strtoul(url->database, &end, 10);
    if (*end || number > 1000000)
        return rr_fail(RR_EINVAL, why, why_size, "a Redis database is a number: redis://host:6379/0");
    if (url->option_count)
        return rr_fail(RR_EINVAL, why, why_size, "Redis has no connection option '%s'", url->option_names[0]);
    return RR_OK;
}

const rr__db_driver_t rr__db_redis = {
    .name = "redis",
    .schemes = {"redis"},
    .style = RR__DB_NO_SQL,
    .multiplexed = true,
    .pool_max = 1, /* whatever is asked keeps its order, also above the window */
    .state_size = sizeof(state_t),
    .check = redis_check,
    .open = redis_open,
    .execute = redis_execute,
    .cancel = redis_cancel,
    .begin = redis_begin,
    .in_transaction = redis_in_transaction,
    .close = redis_close,
};
