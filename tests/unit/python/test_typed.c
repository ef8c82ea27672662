/* thrift and protobuf classes with the real libraries: generated here by thrift and protoc, both ways over the wire. */
#include "fake_host.h"

static bool have(const char *command) {
    char line[256];
    snprintf(line, sizeof line, "command -v %s >/dev/null 2>&1", command);
    return system(line) == 0;
}

static void run(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void run(const char *format, ...) {
    char command[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(command, sizeof command, format, args);
    va_end(args);
    ck_assert_msg(system(command) == 0, "%s", command);
}

/* The script's folder gets the generated code, and links to the libraries of Debian's Python. */
static void generate(fake_t *fake, const char *script) {
    static const char *const libraries[] = {"thrift", "google", "six.py"};
    char path[256];
    fake_init(fake, script);
    for (size_t i = 0; i < sizeof libraries / sizeof *libraries; i++) {
        snprintf(path, sizeof path, "/usr/lib/python3/dist-packages/%s", libraries[i]);
        if (access(path, R_OK) == 0)
            run("ln -s %s %s/", path, fake->folder);
    }
    snprintf(path, sizeof path, "%s/game.thrift", fake->folder);
    write_text(path, "namespace py wire_thrift\n"
                     "struct Item { 1: required i32 id, 2: optional string name }\n"
                     "struct Bag { 1: string owner, 2: list<Item> items, 3: map<string, double> prices, 4: binary blob }\n");
    snprintf(path, sizeof path, "%s/wire.proto", fake->folder);
    write_text(path, "syntax = \"proto3\";\n"
                     "message Item { int32 id = 1; string name = 2; }\n"
                     "message Bag { string owner = 1; repeated Item items = 2; }\n");
    if (have("thrift"))
        run("cd %s && thrift --gen py -out . game.thrift", fake->folder);
    if (have("protoc"))
        run("cd %s && protoc --python_out=. wire.proto", fake->folder);
}

static void open_or_explain(fake_t *fake) {
    int rc = fake_open(fake, NULL);
    ck_assert_msg(rc == RR_OK, "%s\n%s", fake->why, fake->record);
}

static int skip(fake_t *fake, const char *what) {
    printf("skipped: %s cannot be imported by CPython %s: %s\n", what, rr_python_version(), fake->why);
    return 0;
}

/* The library may not fit this CPython (Debian's is built for its own): then fake.why says so. */
static bool importable(const char *module) {
    fake_t fake;
    char code[128];
    snprintf(code, sizeof code, "import %s\n", module);
    generate(&fake, code);
    bool fine = fake_open(&fake, NULL) == RR_OK;
    if (!fine)
        skip(&fake, module);
    fake_end(&fake);
    return fine;
}

START_TEST(thrift) {
    fake_t fake;
    if (!have("thrift") || !importable("thrift.protocol.TBinaryProtocol"))
        return;
    generate(&fake, "import ffext\n"
                    "from wire_thrift.ttypes import Bag, Item\n"
                    "@ffext.session_call(1, Bag)\n"
                    "def bag(id, msg):\n"
                    "    assert type(msg) is Bag and msg.owner == 'bob' and msg.items[1].name == 'sword'\n"
                    "    assert msg.prices == {'sword': 1.5} and msg.blob == b'\\x00\\xff'\n"
                    "    ffext.send_msg_session(id, 1, msg)\n"
                    "    assert ffext.decode_buff(Bag(), ffext.to_str(msg)) == msg\n"
                    "@ffext.reg_service(2, Bag)\n"
                    "def service(msg): return msg.items[0]\n"
                    "wire = ffext.to_str(Bag('bob', [Item(1), Item(2, 'sword')], {'sword': 1.5}, b'\\x00\\xff'))\n"
                    "assert wire[:3] == b'\\x0b\\x00\\x01' and wire[-1] == 0\n"
                    "open(__file__ + '.wire', 'wb').write(wire)\n");
    open_or_explain(&fake);
    char path[200], wire[1024];
    snprintf(path, sizeof path, "%s.wire", fake.file);
    FILE *file = fopen(path, "re");
    ck_assert_ptr_nonnull(file);
    size_t size = fread(wire, 1, sizeof wire, file);
    fclose(file);
    rr_script_session_t *bob = session_of(&fake, "bob");
    ck_assert_msg(rr_script_message(fake.script, bob, 1, wire, size, NULL, 1) == RR_OK, "%s", fake.record);
    EXPECT(&fake, "send 'bob' 1 data ");
    rr_script_service(fake.script, 5, "x", "2", wire, size);
    EXPECT(&fake, "reply 5 - =");
    ck_assert_int_eq(rr_script_message(fake.script, bob, 1, wire, size / 2, NULL, 1), RR_EENCODING); /* truncated */
    ck_assert_int_eq(rr_script_message(fake.script, bob, 1, "garbage", 7, NULL, 1), RR_EENCODING);
    rr_script_session_free(fake.script, bob);
    fake_end(&fake);
}
END_TEST

START_TEST(protobuf) {
    fake_t fake;
    if (!have("protoc") || !importable("google.protobuf.message"))
        return;
    generate(&fake, "import ffext, redrabbit\n"
                    "from wire_pb2 import Bag\n"
                    "@redrabbit.message(1, Bag)\n"
                    "def bag(session, msg):\n"
                    "    assert type(msg) is Bag and msg.owner == 'bob' and msg.items[0].name == 'sword'\n"
                    "    session.send(1, msg)\n"
                    "@ffext.session_verify_callback(protocol=Bag)\n"
                    "def verify(key, t, ip, gate): return [key.owner]\n"
                    "bag = Bag(owner='bob'); bag.items.add(id=3, name='sword')\n"
                    "assert ffext.protobuf_to_value(Bag, ffext.to_str(bag)) == bag\n");
    open_or_explain(&fake);
    static const char wire[] = "\x0a\x03"
                               "bob"
                               "\x12\x09\x08\x03\x12\x05"
                               "sword";
    rr_script_session_t *bob = session_of(&fake, "bob");
    ck_assert_msg(rr_script_message(fake.script, bob, 1, wire, sizeof wire - 1, NULL, 1) == RR_OK, "%s", fake.record);
    EXPECT(&fake, "send 'bob' 1 data \x0a\x03"
                  "bob");
    ck_assert_int_eq(rr_script_message(fake.script, bob, 1, wire, 7, NULL, 1), RR_EENCODING);
    rr_verdict_t verdict;
    ck_assert_int_eq(rr_script_verify(fake.script, wire, sizeof wire - 1, 1, "", "", 1, &verdict), RR_OK);
    ck_assert_int_eq(verdict.code, RR_OK);
    ck_assert_str_eq(verdict.id.text, "bob");
    rr_script_session_free(fake.script, bob);
    fake_end(&fake);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("typed");
    TCase *tcase = tcase_create("typed");
    tcase_add_checked_fixture(tcase, python_up, python_down);
    tcase_add_test(tcase, thrift);
    tcase_add_test(tcase, protobuf);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
