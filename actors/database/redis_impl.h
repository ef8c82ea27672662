/* redis_impl.h: what the files of the Redis driver share. Private to redis*.c. */
#ifndef RR_ACTORS_DATABASE_REDIS_IMPL_H
#define RR_ACTORS_DATABASE_REDIS_IMPL_H

#include <hiredis/read.h>

#include "actors/database/driver.h"
#include "actors/map.h"

/* ---- redis_protocol.c: commands and replies as bytes ------------------------------------------------------------ */

typedef struct rr__redis_bytes { /* grows; zeroed = empty */
    char *data;
    size_t size, capacity;
    bool failed; /* out of memory: nothing more goes in */
} rr__redis_bytes_t;

void rr__redis_head(rr__redis_bytes_t *out, size_t words); /* of a command: so many words follow */
void rr__redis_word(rr__redis_bytes_t *out, const void *data, size_t size);
void rr__redis_words(rr__redis_bytes_t *out, size_t count, const char *const *words); /* a whole one */
/* A command of `count` datums. RR_OK; RR_EINVAL: why says which cannot be a word, or that this command cannot be sent on a
 * connection that others share; out is as it was. */
RR_MUST_CHECK int rr__redis_command(rr__redis_bytes_t *out, rr_datum_reader_t words, uint32_t count, rr__db_failure_t *why);

/* Where the parts of a reply go, in the order of a datum: NULL = nowhere. Set between two replies. */
typedef struct rr__redis_sink {
    rr_datum_writer_t *out;
    rr__db_job_t *row; /* the reply, if it is an array, is this job's row, and no LIST within one */
    bool is_row;       /* set: it was an array */
    bool is_error;     /* set: it was an error; its text is in error */
    char error[256];
} rr__redis_sink_t;

/* A reader that fills sink (which it keeps). NULL: no memory. */
redisReader *rr__redis_reader(rr__redis_sink_t *sink);
/* What kind of failure an error reply is, and its first word. */
void rr__redis_failure(const char *text, rr__db_failure_t *out);

/* ---- redis_channels.c: who listens to what ---------------------------------------------------------------------- */

typedef struct rr__redis_channel {
    char *name;
    size_t size;
    bool pattern;
    uint64_t *ids; /* of the subscriptions */
    size_t count;
} rr__redis_channel_t;

typedef struct rr__redis_channels { /* zeroed = empty */
    rr_set_t set;
} rr__redis_channels_t;

/* One more listener; twice is once. RR_ENOMEM. */
RR_MUST_CHECK int rr__redis_listen(rr__redis_channels_t *channels, const char *name, size_t size, bool pattern, uint64_t id);
rr__redis_channel_t *rr__redis_channel(rr__redis_channels_t *channels, const char *name, size_t size, bool pattern);
/* id listens no more: calls each(context, channel) for every channel that nobody listens to any more, before it goes. */
void rr__redis_unlisten(rr__redis_channels_t *channels, uint64_t id,
                        void (*each)(void *context, const rr__redis_channel_t *channel), void *context);
void rr__redis_channels_free(rr__redis_channels_t *channels);

#endif
