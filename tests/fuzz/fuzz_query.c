/* Any bytes as a request to a database or as its answer: what is decoded must encode to the same again. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/query.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile uint8_t sink;

static void touch(const char *data, size_t size) {
    for (size_t i = 0; data && i < size; i++)
        sink ^= (uint8_t)data[i];
}

/* What is read is written to the same bytes. */
static void walk(rr_datum_reader_t reader) {
    const uint8_t *from = reader.at;
    rr_datum_writer_t writer = {0};
    rr_datum_t datum;
    while (rr_datum_get(&reader, &datum) == RR_OK) {
        if (datum.kind == RR_DATUM_TEXT || datum.kind == RR_DATUM_BYTES)
            touch(datum.text.data, datum.text.size);
        rr_datum_put(&writer, &datum);
    }
    if (writer.status != RR_OK || writer.size != (size_t)(reader.at - from) ||
        (writer.size && memcmp(writer.data, from, writer.size) != 0))
        abort();
    rr_datum_drop(&writer);
}

static void request(const uint8_t *data, size_t size) {
    rr_query_t query, again;
    if (rr_query_decode(data, size, &query) != RR_OK)
        return;
    rr_buffer_t *bytes = rr_query_encode(&query);
    if (!bytes || rr_query_decode(rr_buffer_data(bytes), rr_buffer_size(bytes), &again) != RR_OK)
        abort();
    if (again.op != query.op || again.id != query.id || again.flags != query.flags || again.text_size != query.text_size ||
        again.parameters_size != query.parameters_size || !again.text != !query.text)
        abort();
    touch(query.text, query.text_size);
    touch(query.key, query.key_size);
    if (query.parameters)
        walk(rr_datum_reader(query.parameters, query.parameters_size));
    rr_buffer_unref(bytes);
}

static void answer(const uint8_t *data, size_t size) {
    rr_db_answer_t out;
    if (rr_db_answer_decode(data, size, &out) != RR_OK)
        return;
    if (out.error != RR_DB_OK) {
        touch(out.state, out.state_size);
        touch(out.message, out.message_size);
        touch(out.sql, out.sql_size);
        return;
    }
    walk(out.columns);
    walk(out.rows);
    while (rr_datum_skip(&out.rows) == RR_OK) {
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    uint8_t *copy = malloc(size ? size : 1); /* exactly as large as it says: ASan sees every byte too far */
    if (size)
        memcpy(copy, data, size);
    walk(rr_datum_reader(copy, size));
    request(copy, size);
    answer(copy, size);
    free(copy);
    return 0;
}
