/* Tables of things named by ids that never come back. */
#include "runtime/table.h"
#include "tests/unit/runtime/rig.h"

typedef struct thing {
    rr__entry_t entry;
    uint64_t value;
} thing_t;
#define THING sizeof(thing_t)

START_TEST(ids_do_not_come_back) {
    rr__table_t table = {0};
    uint64_t ids[1000];
    int rc = 1;
    ck_assert_ptr_null(rr__table_get(&table, THING, 0));
    ck_assert_ptr_null(rr__table_get(&table, THING, 12345678901234));
    ck_assert(!rr__table_remove(&table, THING, 7));
    for (int i = 0; i < 1000; i++) {
        thing_t *thing = rr__table_add(&table, THING, &ids[i], &rc);
        ck_assert_ptr_nonnull(thing);
        ck_assert_uint_eq(thing->value, 0);
        ck_assert_uint_ne(ids[i], 0);
        thing->value = (uint64_t)i;
        for (int k = 0; k < i; k++)
            if (ids[k] == ids[i])
                ck_abort_msg("an id came back");
        if (i % 3) {
            ck_assert(rr__table_remove(&table, THING, ids[i]));
            ck_assert(!rr__table_remove(&table, THING, ids[i]));
            ck_assert_ptr_null(rr__table_get(&table, THING, ids[i]));
        }
    }
    for (int i = 0; i < 1000; i++) { /* growing moved them, their values stayed */
        thing_t *thing = rr__table_get(&table, THING, ids[i]);
        ck_assert((thing != NULL) == (i % 3 == 0));
        ck_assert(!thing || thing->value == (uint64_t)i);
    }
    ck_assert_uint_eq(table.count, 334);
    uint32_t seen = 0;
    for (uint32_t i = 0; i < table.capacity; i++) {
        uint64_t id;
        thing_t *thing = rr__table_at(&table, THING, i, &id);
        seen += thing != NULL;
        ck_assert(!thing || rr__table_get(&table, THING, id) == thing);
    }
    ck_assert_uint_eq(seen, 334);
    rr__table_clear(&table);
    ck_assert_ptr_null(rr__table_get(&table, THING, ids[0]));
}
END_TEST

START_TEST(limit) {
    rr__table_t table = {0};
    uint64_t id;
    int rc;
    for (uint32_t i = 0; i < RR__TABLE_MAX; i++)
        ck_assert_ptr_nonnull(rr__table_add(&table, THING, &id, &rc));
    ck_assert_ptr_null(rr__table_add(&table, THING, &id, &rc));
    ck_assert_int_eq(rc, RR_ELIMIT);
    ck_assert(rr__table_remove(&table, THING, id));
    ck_assert_ptr_nonnull(rr__table_add(&table, THING, &id, &rc));
    rr__table_clear(&table);
}
END_TEST

CHECK_MAIN("table", ids_do_not_come_back, limit)
