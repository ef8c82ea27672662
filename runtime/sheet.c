/* sheet.c: see sheet.h. */
#include "runtime/sheet.h"

#include "runtime/alloc.h"
#include "runtime/system.h"

_Static_assert(RR_SEND == 0, "the first byte of a record is its kind");

/* ---- Memory ----------------------------------------------------------------------------------------------------- */

/* Sanitizer builds keep none, so that they see each one's life. */
static void *take_kept(rr__sheets_t *sheets) {
    for (unsigned i = RR__POOLS ? RR__SHEETS_KEPT : 0; i-- > 0;) {
        void *memory = atomic_load_explicit(&sheets->kept[i], memory_order_relaxed);
        if (memory && (memory = atomic_exchange_explicit(&sheets->kept[i], NULL, memory_order_acquire)) != NULL)
            return memory;
    }
    return NULL;
}

static void give_back(void *memory) {
    rr__sheets_t *sheets = &((rr__sheet_t *)memory)->system->sheets;
    for (unsigned i = 0; RR__POOLS && i < RR__SHEETS_KEPT; i++) {
        void *none = NULL;
        if (!atomic_load_explicit(&sheets->kept[i], memory_order_relaxed) &&
            atomic_compare_exchange_strong_explicit(&sheets->kept[i], &none, memory, memory_order_release,
                                                    memory_order_relaxed))
            return;
    }
    rr__free(memory);
}

void rr__sheets_free(rr__sheets_t *sheets) {
    for (unsigned i = 0; i < RR__SHEETS_KEPT; i++)
        rr__free(atomic_load_explicit(&sheets->kept[i], memory_order_relaxed));
}

rr_message_t *rr__sheet_new(rr_system_t *system, rr_addr_t from, rr_addr_t to) {
    rr__sheet_t *sheet = take_kept(&system->sheets);
    if (!sheet)
        sheet = rr__malloc(RR__SHEET_SIZE);
    if (!sheet)
        return NULL;
    *sheet = (rr__sheet_t){.system = system, .from = from, .at = RR__SHEET_START, .end = RR__SHEET_START};
    rr_buffer_t *buffer = rr_buffer_wrap(sheet, RR__SHEET_SIZE, give_back, sheet);
    if (!buffer) {
        give_back(sheet);
        return NULL;
    }
    rr_message_t *msg = rr__message_wrap(rr__my_pool(system), buffer);
    if (!msg)
        return NULL;
    msg->kind = RR__SHEET;
    msg->to = to;
    return msg;
}

/* ---- Records ---------------------------------------------------------------------------------------------------- */

static void put64(uint8_t *out, uint64_t v) {
    v = htole64(v);
    memcpy(out, &v, sizeof v);
}

static uint64_t get64(const uint8_t *in) {
    uint64_t v;
    memcpy(&v, in, sizeof v);
    return le64toh(v);
}

#define ADDR ((1ull << 48) - 1) /* slot and generation */

bool rr__sheet_put(rr_message_t *msg, const rr_envelope_t *env) {
    rr__sheet_t *sheet = rr__sheet_of(msg);
    bool same = sheet->count && env->type == sheet->type;
    uint32_t head = same ? RR_SHEET_RECORD_SAME : RR_SHEET_RECORD;
    if (env->from != sheet->from || head + env->size > RR__SHEET_SIZE - sheet->end)
        return false;
    uint8_t *at = (uint8_t *)sheet + sheet->end;
    put64(at, (same ? (uint64_t)RR_SHEET_SAME << 8 : 0) | 1ull << 16 | (uint64_t)env->size << 32);
    if (!same) {
        uint64_t to = msg->to & ADDR;
        put64(at + 8, env->type | to << 32);
        put64(at + 16, to >> 32 | (env->from & ADDR) << 16);
    }
    memcpy(at + head, env->data, env->size);
    sheet->end += head + env->size;
    sheet->type = env->type;
    sheet->count++;
    sheet->units += (env->size >> 6) + 1;
    sheet->bytes += env->size;
    return true;
}

rr_envelope_t rr__sheet_take(rr_message_t *msg) {
    rr__sheet_t *sheet = rr__sheet_of(msg);
    const uint8_t *at = (const uint8_t *)sheet + sheet->at;
    uint64_t head = get64(at);
    bool same = head >> 8 & RR_SHEET_SAME;
    uint32_t size = (uint32_t)(head >> 32), skip = same ? RR_SHEET_RECORD_SAME : RR_SHEET_RECORD;
    if (!same)
        sheet->type = (uint32_t)get64(at + 8);
    sheet->at += skip + size;
    sheet->count--;
    sheet->units -= (size >> 6) + 1;
    sheet->bytes -= size;
    return (rr_envelope_t){.to = msg->to,
                           .from = sheet->from,
                           .type = sheet->type,
                           .size = size,
                           .weight = 1,
                           .kind = RR_SEND,
                           .data = at + skip};
}

bool rr__sheet_whole(rr_message_t *msg, rr_sheet_t *out) {
    rr__sheet_t *sheet = rr__sheet_of(msg);
    *out = (rr_sheet_t){.to = msg->to,
                        .from = sheet->from,
                        .bytes = sheet->bytes,
                        .count = sheet->count,
                        .records = (uint8_t *)sheet + RR__SHEET_START,
                        .size = sheet->end - RR__SHEET_START,
                        .buffer = msg->payload.buffer};
    return sheet->at == RR__SHEET_START;
}
