/* FNV-1a: the vectors of draft-eastlake-fnv, and hashes made in parts. */
#include "runtime/hash.h"
#include "tests/unit/check_main.h"

START_TEST(known_vectors) {
    ck_assert_uint_eq(rr_hash_text(""), 0xcbf29ce484222325ull);
    ck_assert_uint_eq(rr_hash_text("a"), 0xaf63dc4c8601ec8cull);
    ck_assert_uint_eq(rr_hash_text("foobar"), 0x85944171f73967e8ull);
    ck_assert_uint_eq(rr_hash_text("\xff"), rr_hash_bytes("\xff", 1));
    ck_assert_uint_ne(rr_hash_bytes("\0", 1), rr_hash_bytes("", 0));
}
END_TEST

START_TEST(in_parts) {
    ck_assert_uint_eq(rr_hash_add(rr_hash_bytes("foo", 3), "bar", 3), rr_hash_text("foobar"));
    ck_assert_uint_eq(rr_hash_add(RR_HASH_START, "foobar", 6), rr_hash_text("foobar"));
}
END_TEST

CHECK_MAIN("hash", known_vectors, in_parts)
