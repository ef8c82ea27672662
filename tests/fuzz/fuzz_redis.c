/* Any bytes as what a Redis server says: at once and in pieces (the first byte says how large) they must come to the same, and what
 * is written of them must be whole datums. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "actors/database/redis_impl.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define LIMIT 4096u /* of the answer: small enough to be met */

typedef struct heard {
    rr_datum_writer_t out; /* of all replies that ended */
    size_t replies, errors;
    bool broken;
} heard_t;

/* As the driver does: replies are taken until none is whole. */
static void take(redisReader *reader, rr__redis_sink_t *sink, rr_datum_writer_t *one, heard_t *heard) {
    void *reply;
    while (!heard->broken) {
        reply = NULL;
        heard->broken = redisReaderGetReply(reader, &reply) != REDIS_OK;
        if (heard->broken || !reply)
            return;
        heard->replies++;
        heard->errors += sink->is_error;
        sink->is_error = false;
        if (one->status == RR_OK && heard->out.size + one->size < 1u << 20) {
            rr_datum_reader_t whole = rr_datum_reader(one->data, one->size);
            if (rr_datum_skip(&whole) != RR_OK || whole.at != whole.end)
                abort();
            rr_datum_put_text(&heard->out, RR_DATUM_BYTES, one->data, one->size);
        }
        one->size = 0;
        one->status = RR_OK;
    }
}

static heard_t listen_to(const uint8_t *data, size_t size, size_t piece) {
    heard_t heard = {0};
    rr_datum_writer_t one = {.limit = LIMIT};
    rr__redis_sink_t sink = {.out = &one};
    redisReader *reader = rr__redis_reader(&sink);
    for (size_t at = 0; reader && at < size && !heard.broken; at += piece) {
        size_t now = size - at < piece ? size - at : piece;
        if (redisReaderFeed(reader, (const char *)data + at, now) != REDIS_OK)
            heard.broken = true;
        else
            take(reader, &sink, &one, &heard);
    }
    rr_datum_drop(&one);
    if (reader)
        redisReaderFree(reader);
    return heard;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 2)
        return 0;
    heard_t whole = listen_to(data + 1, size - 1, size), pieces = listen_to(data + 1, size - 1, (size_t)data[0] + 1);
    if (whole.replies != pieces.replies || whole.errors != pieces.errors || whole.broken != pieces.broken ||
        whole.out.size != pieces.out.size || (whole.out.size && memcmp(whole.out.data, pieces.out.data, whole.out.size) != 0))
        abort();
    rr_datum_drop(&whole.out);
    rr_datum_drop(&pieces.out);
    return 0;
}
