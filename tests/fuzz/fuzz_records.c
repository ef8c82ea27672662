/* What gates and scenes say to each other, as if from outside: batches of records and the bodies of calls. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "actors/protocol.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile uint8_t sink;

static void touch(const void *data, size_t size) {
    for (size_t i = 0; data && i < size; i++)
        sink ^= ((const uint8_t *)data)[i];
}

static void ids(const uint8_t *data, size_t size) {
    rr_sid_t id, again;
    uint8_t bytes[RR_SID_MAX];
    char shown[64];
    if (rr_sid_decode(data, size, &id) != RR_OK)
        return;
    if (rr_sid_encode(&id, bytes) != size || memcmp(bytes, data, size) != 0 ||
        rr_sid_decode(bytes, size, &again) != RR_OK || !rr_sid_equal(&id, &again) ||
        rr_sid_hash(&id) != rr_sid_hash(&again))
        abort();
    touch(rr_sid_show(&id, shown, sizeof shown), strlen(shown));
    rr_sid_to_int(&id);
}

/* The first byte says what the rest is. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    rr_batch_reader_t reader;
    rr_record_t record;
    rr_service_request_t request;
    rr_enter_t enter;
    const void *body;
    size_t body_size;
    if (size == 0)
        return 0;
    uint8_t *copy = malloc(size); /* exactly as large as it says: ASan sees every byte too far */
    memcpy(copy, data + 1, size - 1);
    size--;
    switch (data[0] % 5) {
    case 0:
        if (rr_batch_open(&reader, copy, size) == RR_OK)
            while (rr_batch_next(&reader, &record) == RR_OK)
                touch(record.body, record.size);
        break;
    case 1:
        if (rr_service_decode(copy, size, &request) == RR_OK) {
            touch(request.from, strlen(request.from));
            touch(request.method, strlen(request.method));
            touch(request.body, request.size);
        }
        break;
    case 2:
        if (rr_answer_decode(copy, size, &body, &body_size) == RR_OK)
            touch(body, body_size);
        break;
    case 3:
        if (rr_enter_decode(copy, size, &enter) == RR_OK) {
            touch(enter.extra, enter.head.extra_size);
            touch(enter.gate, strlen(enter.gate));
            touch(enter.id.text, enter.id.size);
        }
        break;
    default:
        ids(copy, size);
    }
    free(copy);
    return 0;
}
