#include <string.h>

#include "net/address.h"
#include "support.h"

static rr_address_t good(const char *text) {
    rr_address_t a;
    char why[512] = "";
    ck_assert_msg(rr_address_parse(text, &a, why, sizeof why) == RR_OK, "%s: %s", text, why);
    char back[300];
    if (text[6] != '[' || strchr(text, ':')) {
        ck_assert_str_eq(rr_address_format(&a, back, sizeof back), text);
    }
    return a;
}

static void bad(const char *text, const char *about) {
    rr_address_t a;
    char why[512] = "";
    ck_assert_int_eq(rr_address_parse(text, &a, why, sizeof why), RR_EINVAL);
    ck_assert_msg(strstr(why, about) && strstr(why, "tcp://127.0.0.1:10241"), "%s: %s", text, why);
    ck_assert_int_eq(rr_address_parse(text, &a, NULL, 0), RR_EINVAL);
}

START_TEST(parses_and_writes_back) {
    rr_address_t a = good("tcp://127.0.0.1:10241");
    ck_assert_str_eq(a.host, "127.0.0.1");
    ck_assert_uint_eq(a.port, 10241);
    ck_assert_int_eq(a.scheme, RR_SCHEME_TCP);
    a = good("ws://[::1]:80");
    ck_assert_str_eq(a.host, "::1");
    ck_assert_int_eq(a.scheme, RR_SCHEME_WS);
    a = good("tcp://*:0");
    ck_assert_str_eq(a.host, "*");
    a = good("http://host-1.example:65535");
    ck_assert_int_eq(a.scheme, RR_SCHEME_HTTP);
    ck_assert_int_eq(a.byte_order, RR_BYTE_ORDER_UNSAID);
    a = good("tcp://[::1]:80?byte_order=network");
    ck_assert_uint_eq(a.port, 80);
    ck_assert_int_eq(a.byte_order, RR_BYTE_ORDER_NETWORK);
    a = good("tcp://*:0?byte_order=little");
    ck_assert_int_eq(a.byte_order, RR_BYTE_ORDER_LITTLE);
}
END_TEST

START_TEST(says_what_is_wrong) {
    bad("", "begins with");
    bad("127.0.0.1:80", "begins with");
    bad("udp://127.0.0.1:80", "begins with");
    bad("tcp://127.0.0.1", "port is missing");
    bad("tcp://127.0.0.1:", "not a number");
    bad("tcp://127.0.0.1:65536", "not a number");
    bad("tcp://127.0.0.1:123456", "not a number");
    bad("tcp://127.0.0.1:-1", "not a number");
    bad("tcp://127.0.0.1:80 ", "not a number");
    bad("tcp://127.0.0.1:80/x", "not a number");
    bad("tcp://127.0.0.1:?byte_order=network", "not a number");
    bad("tcp://127.0.0.1:80?", "behind the port");
    bad("tcp://127.0.0.1:80?byte_order=big", "behind the port");
    bad("tcp://127.0.0.1:80?byte_order=network:1", "behind the port");
    bad("tcp://127.0.0.1?byte_order=network:80", "port is missing");
    bad("tcp://:80", "host");
    bad("tcp://::1:80", "brackets");
    bad("tcp://[::1:80", "']' is missing");
    bad("tcp://[::1]80", "port is missing");
    bad("tcp://[*]:80", "host");
    bad("tcp://[127.0.0.1]:80", "host");
    bad("tcp://a b:80", "host");
    char long_host[400] = "tcp://";
    memset(long_host + 6, 'a', 300);
    strcpy(long_host + 306, ":80");
    bad(long_host, "host");
}
END_TEST

START_TEST(knows_loopback) {
    static const struct {
        const char *text;
        int loopback;
    } cases[] = {{"tcp://127.0.0.1:1", 1}, {"tcp://127.9.9.9:1", 1}, {"tcp://localhost:1", 1}, {"tcp://[::1]:1", 1},
                 {"tcp://*:1", 0}, {"tcp://0.0.0.0:1", 0}, {"tcp://10.0.0.1:1", 0}, {"tcp://127.0.0.1.example:1", 0},
                 {"tcp://[::]:1", 0}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        rr_address_t a = good(cases[i].text);
        ck_assert_int_eq(rr_address_is_loopback(&a), cases[i].loopback);
    }
}
END_TEST

RUN_TESTS("address", parses_and_writes_back, says_what_is_wrong, knows_loopback)
