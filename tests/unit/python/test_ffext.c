/* Each row of ffext's table: what a script's calls make the host do. The script checks values by assert in init(). */
#include "fake_host.h"

#define HEAD "import ffext, ff, event_bus, math\nout = ffext.send_msg_session\n"

/* Runs lines of Python as init() and ends; the record stays for the test. */
static void script(fake_t *fake, const char *body) {
    char code[8192];
    snprintf(code, sizeof code, HEAD "%s", body);
    fake_start(fake, code, NULL);
}

START_TEST(bodies) {
    fake_t fake;
    script(&fake, "class P(str): pass\n"
                  "out('a', 1, 'text')\n"
                  "out('a', 2, b'bytes')\n"
                  "out('a', 3, bytearray(b'buffer'))\n"
                  "out('a', 4, [1, 'ü', None, True, 1.5, {'k': (1, 2)}])\n"
                  "out('a', 5, {'x': 1}.keys())\n"
                  "out('a', 6, {7})\n"
                  "out('a', 7, (1, 2))\n"
                  "out('a', 8, 5)\n"
                  "out('a', 9, None)\n"
                  "out('a', 10, 'lone\\ud800')\n"
                  "out('a', 11, ['lone\\ud800'])\n"
                  "out('a', 12, {'v': {'y': 2}.values()})\n"
                  "out('a', 13, P('sub'))\n"
                  "out('a', 14, (c for c in 'xy'))\n"
                  "out('a', 0, '')\nout('a', 65535, '')\n");
    EXPECT(&fake, "send 'a' 1 text text\n");
    EXPECT(&fake, "send 'a' 2 data bytes\n");
    EXPECT(&fake, "send 'a' 3 data buffer\n");
    EXPECT(&fake, "send 'a' 4 text [1, \"ü\", null, true, 1.5, {\"k\": [1, 2]}]\n");
    EXPECT(&fake, "send 'a' 5 text [\"x\"]\n");
    EXPECT(&fake, "send 'a' 6 text [7]\n");
    EXPECT(&fake, "send 'a' 7 text [1, 2]\n");
    EXPECT(&fake, "send 'a' 8 text 5\n");
    EXPECT(&fake, "send 'a' 9 text null\n");
    EXPECT(&fake, "send 'a' 10 text lone?\n");
    EXPECT(&fake, "send 'a' 11 text [\"lone?\"]\n");
    EXPECT(&fake, "send 'a' 12 text {\"v\": [2]}\n");
    EXPECT(&fake, "send 'a' 13 text sub\n");
    EXPECT(&fake, "send 'a' 14 text [\"x\", \"y\"]\n");
    EXPECT(&fake, "send 'a' 0 text \n");
    EXPECT(&fake, "send 'a' 65535 text \n");
    fake_end(&fake);
}
END_TEST

START_TEST(refused_values) {
    fake_t fake;
    script(&fake, "def fails(kind, f, *args):\n"
                  "    try: f(*args)\n"
                  "    except kind: return True\n"
                  "    raise AssertionError((f, args))\n"
                  "fails(ValueError, out, 'a', 65536, '')\n"
                  "fails(ValueError, out, 'a', -1, '')\n"
                  "fails(ValueError, out, 'a', 1 << 80, '')\n"
                  "fails(TypeError, out, 'a', 'x', '')\n"
                  "fails(ValueError, out, 'a', 1, math.nan)\n"
                  "fails(ValueError, out, 'a', 1, [math.inf])\n"
                  "fails(TypeError, out, 'a', 1, object())\n"
                  "fails(TypeError, out, 'a', 1, [object()])\n"
                  "fails(TypeError, out, 1.5, 1, '')\n"
                  "fails(TypeError, out, True, 1, '')\n"
                  "fails(TypeError, out, 'a', 1)\n"
                  "fails(TypeError, ffext.session_call(1, 'nonsense'), print)\n"
                  "fails(ValueError, ffext.session_call(70000), print)\n"
                  "deep = []\n"
                  "for _ in range(200000): deep = [deep]\n"
                  "fails(RecursionError, out, 'a', 1, deep)\n"
                  "while deep: deep = deep.pop()\n"
                  "loop = []; loop.append(loop)\n"
                  "fails(RecursionError, out, 'a', 1, loop)\n");
    EXPECT_NOT(&fake, "send");
    fake_end(&fake);
}
END_TEST

START_TEST(sending) {
    fake_t fake;
    fake_init(&fake, HEAD "assert out('bob', 1, 'x') is True\n"
                          "assert out('eve', 1, 'x') is False\n"
                          "assert out(5, 1, 'x') is False\n"
                          "assert out('', 1, 'x') is False and out(0, 1, 'x') is False and out(1 << 70, 1, 'x') is False\n"
                          "assert ffext.multi_send_msg_session(['bob', 'eve'], 2, 'y') is False\n"
                          "assert ffext.multi_send_msg_session(('bob',), 2, 'y') is True\n"
                          "assert ffext.multi_send_msg_session({'bob': 1}.keys(), 2, 'y') is True\n"
                          "assert ffext.multi_send_msg_session(['bob'] * 100, 4, 'z') is True\n"
                          "assert ffext.broadcast_msg_session(3, 'all') is True\n"
                          "ffext.broadcast_msg_gate('gate@0', 3, {'a': 1})\n"
                          "assert ffext.close_session('bob') and not ffext.close_session('eve')\n"
                          "assert ffext.change_session_scene('bob', 'scene@1', 'luggage') is True\n");
    fake.held = "'bob'";
    ck_assert_msg(fake_open(&fake, NULL) == RR_OK, "%s", fake.why);
    EXPECT(&fake, "multi 'bob' 2 y\n");
    ck_assert_uint_eq(times(&fake, "multi 'bob' 4 z\n"), 100);
    EXPECT(&fake, "broadcast 3 text all\n");
    EXPECT(&fake, "gate gate@0 3 {\"a\": 1}\n");
    EXPECT(&fake, "move 'bob' scene@1 luggage\n");
    rr_script_answer(fake.script, fake.last_call, "no such scene", NULL, 0);
    EXPECT(&fake, "moving session 'bob' to scene 'scene@1' failed: no such scene\n");
    fake_end(&fake);
}
END_TEST

/* A list that comes again and again is decoded once, as long as the very same objects are in it. */
START_TEST(lists_that_come_again) {
    fake_t fake;
    script(&fake, "import redrabbit\n"
                  "names = ['bob'] + [f'n{i}' for i in range(98)] + ['bob']\n"
                  "class Clears(dict):\n"
                  "    def items(self):\n"
                  "        names.clear()\n"
                  "        return ()\n"
                  "@ffext.session_call(1, 'text')\n"
                  "def to_names(id, body): ffext.multi_send_msg_session(names, 1, body)\n"
                  "@ffext.session_call(2, 'text')\n"
                  "def to_others(id, body): names[50] = body; ffext.multi_send_msg_session(tuple(names), 2, body)\n"
                  "@redrabbit.message(3, 'text')\n"
                  "def to_sessions(session, body): redrabbit.multi_send([session] * 100, 3, body)\n"
                  "@ffext.session_call(4, 'text')\n"
                  "def cleared(id, body): ffext.multi_send_msg_session(names, 4, [Clears(a=1)])\n");
    rr_script_session_t *ann = session_of(&fake, "ann");
    uint64_t kept = 0;
    for (uint64_t i = 0; i < 5; i++) {
        ck_assert_int_eq(message(&fake, ann, 1, "x", 1 + i), RR_OK);
        ck_assert_uint_eq(times(&fake, "multi 'n49' 1 x\n"), i + 1);
        ck_assert_uint_eq(times(&fake, "multi 'bob' 1 x\n"), 2 * (i + 1));
        ck_assert_int_eq(fake.last_list != 0, i > 0);
        ck_assert(i < 2 || fake.last_list == kept);
        kept = fake.last_list;
    }
    ck_assert_int_eq(message(&fake, ann, 2, "eve", 10), RR_OK); /* only one in the middle is another */
    EXPECT(&fake, "multi 'n48' 2 eve\nmulti 'eve' 2 eve\nmulti 'n50' 2 eve\n");
    ck_assert(fake.last_list != kept);
    ck_assert_int_eq(message(&fake, ann, 1, "y", 11), RR_OK);
    EXPECT(&fake, "multi 'eve' 1 y\n");
    for (uint64_t i = 0; i < 3; i++)
        ck_assert_int_eq(message(&fake, ann, 3, "z", 20 + i), RR_OK);
    ck_assert_uint_eq(times(&fake, "multi 'ann' 3 z\n"), 300);
    ck_assert_uint_eq(fake.last_list, 0); /* a Session is not what its id is: it may be gone */
    (void)message(&fake, ann, 4, "", 30); /* its body's encoder takes everybody out */
    EXPECT_NOT(&fake, "' 4 ");
    fake_end(&fake);
}
END_TEST

/* The session whose message is handled, and Session objects, are sent to without a look-up by id. */
START_TEST(answers_need_no_look_up) {
    fake_t fake;
    script(&fake, "import redrabbit\n"
                  "keep = []\n"
                  "@ffext.session_call(1, 'raw')\n"
                  "def one(id, body): out(id, 1, body)\n"
                  "@redrabbit.message(2, 'raw')\n"
                  "def two(session, body): session.send(2, body); out(session.id, 2, 'id'); keep.append(session)\n"
                  "@ffext.session_call(3, 'raw')\n"
                  "def three(id, body): out('b' + id[1:], 3, 'other'); keep[0].send(3, 'kept')\n"
                  "@ffext.session_call(4, 'raw')\n"
                  "def four(id, body): keep[0].send(4, 'gone')\n");
    rr_script_session_t *ann = session_of(&fake, "ann"), *eve = session_of(&fake, "eve");
    ck_assert_int_eq(message(&fake, ann, 1, "x", 1), RR_OK);
    EXPECT(&fake, "send 'ann' 1 data x\n");
    ck_assert_uint_eq(fake.direct, 1);
    ck_assert_int_eq(message(&fake, ann, 2, "y", 2), RR_OK);
    EXPECT(&fake, "send 'ann' 2 data y\nsend 'ann' 2 text id\n");
    ck_assert_uint_eq(fake.direct, 3);
    ck_assert_int_eq(message(&fake, eve, 3, "", 3), RR_OK);
    EXPECT(&fake, "send 'bve' 3 text other\nsend 'ann' 3 text kept\n");
    ck_assert_uint_eq(fake.direct, 4);
    rr_script_session_free(fake.script, ann);
    ck_assert_int_eq(message(&fake, eve, 4, "", 4), RR_OK);
    EXPECT_NOT(&fake, "gone");
    ck_assert_uint_eq(fake.direct, 4);
    rr_script_session_free(fake.script, eve);
    fake_end(&fake);
}
END_TEST

/* A raw body may lie in the memory of the one before: not if somebody kept that, and with a hash of its own. */
START_TEST(raw_bodies) {
    fake_t fake;
    script(&fake, "kept = []\n"
                  "@ffext.session_call(1, 'raw')\n"
                  "def looks(id, body): out(id, 1, f'{hash(body) == hash(bytes(bytearray(body)))} {body!r}')\n"
                  "@ffext.session_call(2, 'raw')\n"
                  "def keeps(id, body): kept.append(body)\n"
                  "@ffext.session_call(3, 'raw')\n"
                  "def shows(id, body): out(id, 3, repr(kept))\n"
                  "@ffext.session_call(4, 'raw')\n"
                  "def raises(id, body): raise ValueError\n");
    rr_script_session_t *ann = session_of(&fake, "ann");
    const char *const bodies[] = {"same", "size", "longer", "", "x", "", "y", "more"};
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
        char expected[64];
        ck_assert_int_eq(message(&fake, ann, 1, bodies[i], 1), RR_OK);
        snprintf(expected, sizeof expected, "send 'ann' 1 text True b'%s'\n", bodies[i]);
        EXPECT(&fake, expected);
    }
    ck_assert_int_eq(message(&fake, ann, 2, "kept", 2), RR_OK);
    ck_assert_int_eq(message(&fake, ann, 2, "held", 2), RR_OK);
    ck_assert_int_eq(message(&fake, ann, 4, "fail", 2), RR_EHANDLER); /* its traceback is gone when the next comes */
    ck_assert_int_eq(message(&fake, ann, 3, "show", 3), RR_OK);
    EXPECT(&fake, "send 'ann' 3 text [b'kept', b'held']\n");
    rr_script_session_free(fake.script, ann);
    fake_end(&fake);
}
END_TEST

/* Handlers of one turn may run in one context, as long as none can tell: what one sets, the next does not see. */
START_TEST(contexts) {
    fake_t fake;
    script(&fake, "import contextvars, redrabbit\n"
                  "var = contextvars.ContextVar('var', default='unset')\n"
                  "contexts = []\n"
                  "@ffext.session_call(1, 'raw')\n"
                  "def sets(id, body): out(id, 1, var.get()); var.set('set')\n"
                  "@ffext.session_call(2, 'raw')\n"
                  "def copies(id, body): contexts.append(contextvars.copy_context()); out(id, 2, var.get())\n"
                  "@redrabbit.message(3, 'raw')\n"
                  "async def waits(session, body): await redrabbit.sleep(1); session.send(3, var.get()); var.set('task')\n"
                  "@ffext.session_call(4, 'raw')\n"
                  "def looks(id, body): out(id, 4, var.get() + ''.join(c.get(var, ' none') for c in contexts))\n");
    rr_script_session_t *ann = session_of(&fake, "ann");
    for (int turn = 0; turn < 2; turn++) {
        forget(&fake);
        ck_assert_int_eq(message(&fake, ann, 2, "", 1), RR_OK);
        ck_assert_int_eq(message(&fake, ann, 1, "", 2), RR_OK);
        ck_assert_int_eq(message(&fake, ann, 1, "", 3), RR_OK);
        ck_assert_uint_eq(times(&fake, "send 'ann' 1 text unset\n"), 2);
        ck_assert_int_eq(message(&fake, ann, 2, "", 4), RR_OK);
        ck_assert_int_eq(message(&fake, ann, 3, "", 5), RR_SCRIPT_PENDING);
        fire_timer(&fake);
        EXPECT(&fake, "send 'ann' 3 text unset\n");
        ck_assert_int_eq(message(&fake, ann, 4, "", 6), RR_OK);
        EXPECT(&fake, turn ? "send 'ann' 4 text unset none none none none\n" : "send 'ann' 4 text unset none none\n");
        rr_script_leave(fake.script);
        rr_script_enter(fake.script);
    }
    rr_script_session_free(fake.script, ann);
    fake_end(&fake);
}
END_TEST

START_TEST(timers) {
    fake_t fake;
    script(&fake, "ids = []\n"
                  "def bare(): out('a', 1, 'bare')\n"
                  "def with_data(data): out('a', 1, data)\n"
                  "async def slow(): await __import__('redrabbit').sleep(1)\n"
                  "ffext.once_timer(100, bare)\n"
                  "ffext.once_timer(100, with_data, 'data')\n"
                  "keep = ffext.every_timer(50, bare)\n"
                  "gone = ffext.once_timer(5, bare)\n"
                  "assert ffext.cancel_timer(gone) is True and ffext.cancel_timer(gone) is False\n"
                  "assert ffext.cancel_timer(123456) is False\n"
                  "ffext.every_timer(10, slow)\n");
    EXPECT(&fake, "timer 100 0\n");
    EXPECT(&fake, "timer 50 50\n");
    fire_timer(&fake);
    EXPECT(&fake, "send 'a' 1 text bare\n");
    fire_timer(&fake);
    EXPECT(&fake, "send 'a' 1 text data\n");
    uint64_t every = fake.timers[0], slow = fake.timers[1];
    rr_script_timer(fake.script, every);
    rr_script_timer(fake.script, every);
    ck_assert_uint_eq(times(&fake, "text bare\n"), 3);
    rr_script_timer(fake.script, slow);
    rr_script_timer(fake.script, slow); /* the last run is not over: left out */
    ck_assert_uint_eq(times(&fake, "timer 1000 0\n"), 1);
    rr_script_timer(fake.script, fake.timers[2]);
    rr_script_timer(fake.script, slow);
    ck_assert_uint_eq(times(&fake, "timer 1000 0\n"), 2);
    fake_end(&fake);
}
END_TEST

START_TEST(callbacks) {
    fake_t fake;
    script(&fake, "@ffext.session_enter_callback\n"
                  "def enter(id, from_scene, extra): out(id, 1, repr((from_scene, extra)))\n"
                  "@ffext.session_offline_callback\n"
                  "def off(id, online_time, reason): out(id, 2, repr((online_time, reason)))\n"
                  "@ffext.session_leave_callback\n"
                  "def leave(id, to): out(id, 3, to)\n"
                  "@ffext.session_call(9, 'raw', lambda id: id.upper())\n"
                  "def mapped(who, msg): out(who, 4, repr(msg))\n"
                  "ffext.session_call(10, 'json')(lambda id, msg: out(id, 5, msg['a']))\n");
    rr_script_session_t *bob = session_of(&fake, "bob");
    ck_assert_int_eq(rr_script_enter_session(fake.script, bob, "scene@2", "bag", 3, 1), RR_OK);
    EXPECT(&fake, "send 'bob' 1 text ('scene@2', 'bag')\n");
    ck_assert_int_eq(rr_script_enter_session(fake.script, bob, "", NULL, 0, 1), RR_OK);
    EXPECT(&fake, "send 'bob' 1 text ('', '')\n");
    ck_assert_int_eq(rr_script_enter_session(fake.script, bob, "", "\xff", 1, 1), RR_OK);
    EXPECT(&fake, "send 'bob' 1 text ('', b'\\xff')\n");
    ck_assert_int_eq(rr_script_offline(fake.script, bob, 99, "idle", 1), RR_OK);
    EXPECT(&fake, "send 'bob' 2 text (99, 'idle')\n");
    ck_assert_int_eq(rr_script_leave_session(fake.script, bob, "scene@3", 1), RR_OK);
    EXPECT(&fake, "send 'bob' 3 text scene@3\n");
    ck_assert_int_eq(message(&fake, bob, 9, "x\n", 1), RR_OK);
    EXPECT(&fake, "send 'BOB' 4 text b'x\\n'\n");
    ck_assert_int_eq(message(&fake, bob, 10, " {\"a\": \"v\"} ", 1), RR_OK);
    EXPECT(&fake, "send 'bob' 5 text v\n");
    rr_script_session_free(fake.script, bob);
    fake_end(&fake);
}
END_TEST

START_TEST(drained) {
    fake_t fake;
    rr_hand_to_t to;
    script(&fake, "import redrabbit\n"
                  "@ffext.session_drain_callback\n"
                  "def drain(id):\n"
                  "    if id == 'late': return late(id)\n"
                  "    return {'bob': 'scene@2', 'eve': ('scene@3', {'n': [1, 'ü']}), 'raw': (None, b'\\xff'),\n"
                  "            'none': None, 'stay': False, 'bad': 5, 'name': 'no such name'}[id]\n"
                  "async def late(id):\n"
                  "    await redrabbit.sleep(1)\n"
                  "    return ['scene@4', 'later']\n"
                  "@ffext.session_call(1)\n"
                  "async def all(id, msg):\n"
                  "    out(id, 2, await redrabbit.drain('scene@5', timeout=7))\n");
    static const struct {
        const char *id, *scene, *state;
        int rc;
    } cases[] = {{"bob", "scene@2", "", RR_OK},       {"eve", "scene@3", "{\"n\": [1, \"ü\"]}", RR_OK},
                 {"raw", NULL, "\xff", RR_OK},        {"none", NULL, "", RR_OK},
                 {"stay", "", "", RR_OK},             {"bad", NULL, "", RR_EHANDLER},
                 {"name", NULL, "", RR_EHANDLER},     {"unknown", NULL, "", RR_EHANDLER},
                 {"late", NULL, "", RR_SCRIPT_PENDING}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        rr_script_session_t *who = session_of(&fake, cases[i].id);
        to = (rr_hand_to_t){0};
        ck_assert_int_eq(rr_script_hand_over(fake.script, who, 70 + i, &to), cases[i].rc);
        if (cases[i].rc == RR_OK) {
            ck_assert_pstr_eq(to.scene, cases[i].scene);
            ck_assert_uint_eq(to.size, strlen(cases[i].state));
            ck_assert_mem_eq(to.state ? to.state : "", cases[i].state, to.size);
        }
        rr_script_session_free(fake.script, who);
    }
    fire_timer(&fake);
    ck_assert_uint_eq(times(&fake, "hand_to 78 0 scene@4 later\n"), 1);
    rr_script_session_t *bob = session_of(&fake, "bob");
    ck_assert_int_eq(message(&fake, bob, 1, "0", 90), RR_SCRIPT_PENDING);
    ck_assert_uint_eq(times(&fake, "drain scene@5 7000\n"), 1);
    rr_script_answer(fake.script, fake.last_call, NULL, "[3, 1]", 6);
    ck_assert_uint_eq(times(&fake, "send 'bob' 2 text [3, 1]\n"), 1);
    rr_script_session_free(fake.script, bob);
    fake_end(&fake);
}
END_TEST

/* Names of the module that scripts in the wild assign: on ffext, and in the script itself. */
START_TEST(assigned_globals) {
    fake_t fake;
    script(&fake, "def enter(id, from_scene, extra): out(id, 1, 'entered')\n"
                  "def off(id, online_time): out(id, 2, 'off')\n"
                  "def verify(key, t, ip, gate): return ['v-' + key]\n"
                  "assert ffext.g_session_enter_callback is None\n"
                  "ffext.g_session_enter_callback = enter\n"
                  "assert ffext.g_session_enter_callback is enter\n"
                  "assert 'g_session_enter_callback' not in vars(ffext) and ffext.__name__ == 'ffext'\n"
                  "assert not hasattr(ffext, 'nothing') and isinstance(ffext, type(math))\n"
                  "ffext.g_session_offline_callback = enter\n"
                  "ffext.g_session_offline_callback = off\n"
                  "g_session_verify_callback = verify\n");
    rr_verdict_t verdict;
    rr_script_session_t *bob = session_of(&fake, "bob");
    ck_assert_int_eq(rr_script_enter_session(fake.script, bob, "", NULL, 0, 1), RR_OK);
    EXPECT(&fake, "send 'bob' 1 text entered\n");
    ck_assert_int_eq(rr_script_offline(fake.script, bob, 1, "x", 1), RR_OK);
    EXPECT(&fake, "send 'bob' 2 text off\n");
    ck_assert_int_eq(rr_script_verify(fake.script, "bob", 3, 1, "", "", 1, &verdict), RR_OK);
    ck_assert_int_eq(verdict.code, RR_OK);
    ck_assert_str_eq(verdict.id.text, "v-bob");
    rr_script_session_free(fake.script, bob);
    fake_end(&fake);
}
END_TEST

START_TEST(services) {
    fake_t fake;
    script(&fake, "@ffext.reg_service(100)\n"
                  "def double(msg): return [2 * n for n in msg]\n"
                  "@ffext.reg_service('none')\n"
                  "def none(msg): pass\n"
                  "@ffext.reg_service('text')\n"
                  "def text(msg): return '{\"json\": 1}'\n"
                  "@ffext.reg_service('raises')\n"
                  "def raises(msg): raise KeyError('what')\n"
                  "@ffext.reg_service('late')\n"
                  "async def late(msg):\n"
                  "    await __import__('redrabbit').sleep(1)\n"
                  "    return msg\n"
                  "@ffext.reg_service('unsendable')\n"
                  "def unsendable(msg): return object()\n"
                  "def back(err, msg): out('cb', 1, repr((err, msg)))\n"
                  "ffext.call_service('scene@1', 100, [1], back)\n"
                  "ffext.call_service('scene@1', 'x', '{\"already\": \"json\"}')\n"
                  "ffext.bridge_call_service('GroupB', 'guild', 7, [2], back)\n"
                  "ffext.bridge_call('GroupB', 8, [3])\n"
                  "assert ffext.connect_to_outer_service('http_service', 'tcp://127.0.0.1:1') == -1\n");
    EXPECT(&fake, "call - scene@1 100 [1] 5000\n");
    EXPECT(&fake, "call - scene@1 x {\"already\": \"json\"} 5000\n");
    EXPECT(&fake, "call GroupB guild 7 [2] 5000\n");
    EXPECT(&fake, "call GroupB scene@0 8 [3] 5000\n");
    rr_script_service(fake.script, 1, "scene@1", "100", "[1,2]", 5);
    EXPECT(&fake, "reply 1 - =[2, 4]\n");
    rr_script_service(fake.script, 2, "scene@1", "none", "1", 1);
    EXPECT(&fake, "reply 2 - none\n");
    rr_script_service(fake.script, 3, "scene@1", "text", "1", 1);
    EXPECT(&fake, "reply 3 - ={\"json\": 1}\n");
    rr_script_service(fake.script, 4, "scene@1", "raises", "1", 1);
    EXPECT(&fake, "reply 4 KeyError: 'what' none\n");
    EXPECT(&fake, "log 2 PYTHON service 'raises': Traceback");
    rr_script_service(fake.script, 5, "scene@1", "late", "7", 1);
    EXPECT_NOT(&fake, "reply 5");
    fire_timer(&fake);
    EXPECT(&fake, "reply 5 - =7\n");
    rr_script_service(fake.script, 6, "scene@1", "nothing", "7", 1);
    EXPECT(&fake, "reply 6 scene@0 has no service 'nothing' none\n");
    rr_script_service(fake.script, 7, "scene@1", "100", "{", 1);
    EXPECT(&fake, "reply 7 JSONDecodeError: ");
    rr_script_service(fake.script, 8, "scene@1", "unsendable", "1", 1);
    EXPECT(&fake, "reply 8 TypeError: ");
    fake_end(&fake);
}
END_TEST

START_TEST(service_answers) {
    fake_t fake;
    script(&fake, "def back(err, msg): out('cb', 1, repr((err, msg)))\n"
                  "@ffext.session_call(1)\n"
                  "def go(id, msg): ffext.call_service('scene@1', 1, msg, back)\n");
    rr_script_session_t *bob = session_of(&fake, "bob");
    static const struct {
        const char *error, *body, *want;
    } cases[] = {{NULL, "{\"a\": 1}", "(None, {'a': 1})"},
                 {NULL, NULL, "(None, None)"},
                 {"NOROUTE", NULL, "('NOROUTE', None)"},
                 {NULL, "\x80 binary", "(None, b'\\x80 binary')"},
                 {NULL, "not json", "(None, b'not json')"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ck_assert_int_eq(message(&fake, bob, 1, "[]", 1), RR_OK);
        rr_script_answer(fake.script, fake.last_call, cases[i].error, cases[i].body,
                         cases[i].body ? strlen(cases[i].body) : 0);
        EXPECT(&fake, cases[i].want);
    }
    rr_script_answer(fake.script, fake.last_call, NULL, "1", 1); /* twice: ignored */
    ck_assert_uint_eq(times(&fake, "send 'cb'"), sizeof cases / sizeof *cases);
    rr_script_session_free(fake.script, bob);
    fake_end(&fake);
}
END_TEST

START_TEST(the_rest) {
    fake_t fake;
    script(&fake, "assert ffext.alloc_id() == 77 and ffext.is_exist('gate@0') and not ffext.is_exist('x')\n"
                  "assert ffext.get_config('-gate') == 'gate@0' and ffext.get_config('-no') == ''\n"
                  "assert ffext.to_str([1]) == '[1]' and ffext.to_str('x') == 'x' and ffext.to_str(b'x') == b'x'\n"
                  "assert ffext.json_to_value('{\"a\": [1]}') == {'a': [1]} and ffext.json_to_value(b'5') == 5\n"
                  "assert ff.service_name == 'scene@0'\n"
                  "class S:\n"
                  "    def __init__(self): self.n = 1\n"
                  "assert ffext.singleton(S) is ffext.singleton(S)\n"
                  "r = ffext.query_result_t(True, [['1']], ['a'])\n"
                  "r.dump()\n"
                  "ffext.LOGTRACE('M', 't'); ffext.LOGFATAL('M', 'f'); ffext.INFO('i'); ffext.ERROR('e')\n"
                  "ffext.LOGINFO('M', 'i'); ffext.LOGWARN('M', 'w'); ffext.LOGERROR('M', 'e'); ffext.LOGDEBUG('M', 'd')\n"
                  "ffext.TRACE('t'); ffext.WARN('w')\n"
                  "print('one', end=''); print(' line'); print('two\\nlines')\n"
                  "import sys; print('bad', file=sys.stderr)\n"
                  "ffext.dump_stdout_to_log(); print('in the log')\n"
                  "def init(): return 0\n");
    EXPECT(&fake, "print True [['1']] ['a']\n");
    EXPECT(&fake, "log 6 M t\n");
    EXPECT(&fake, "log 1 M f\n");
    EXPECT(&fake, "log 4 PY i\n");
    EXPECT(&fake, "log 2 PY e\n");
    EXPECT(&fake, "log 3 M w\n");
    EXPECT(&fake, "print one line\nprint two\nprint lines\nstderr bad\n");
    EXPECT(&fake, "log 4 PYTHON in the log\n");
    fake_end(&fake);
}
END_TEST

START_TEST(events) {
    fake_t fake;
    script(&fake, "seen = []\n"
                  "class base: pass\n"
                  "class hit(base):\n"
                  "    def __init__(self, n): self.n = n\n"
                  "@event_bus.bind(hit)\n"
                  "def one(e): seen.append(('one', e.n))\n"
                  "@event_bus.bind_pre(hit)\n"
                  "def pre(e): seen.append('pre'); return e.n > 0\n"
                  "@event_bus.bind_post(hit)\n"
                  "def post(e): seen.append('post')\n"
                  "event_bus.bind(base, lambda e: seen.append('base'))\n"
                  "@event_bus.bind(hit)\n"
                  "def broken(e): raise ValueError('in a listener')\n"
                  "assert event_bus.emit(hit(3)) is True\n"
                  "assert seen == ['pre', ('one', 3), 'base', 'post'], seen\n"
                  "assert event_bus.emit(hit(-1)) is False and seen[4:] == ['pre']\n"
                  "event_bus.bind('stage', lambda a, b: seen.append((a, b)))\n"
                  "assert event_bus.emit('stage', 1, 2) and seen[-1] == (1, 2)\n"
                  "assert event_bus.unbind(hit, one) and not event_bus.unbind(hit, one)\n"
                  "del seen[:]; event_bus.emit(hit(1)); assert seen == ['pre', 'base', 'post']\n"
                  "event_bus.bind(hit, post); event_bus.bind(hit, post)\n"
                  "del seen[:]; event_bus.emit(hit(1)); assert seen == ['pre', 'post', 'base', 'post']\n"
                  "event_bus.clear(hit); del seen[:]; event_bus.emit(hit(1)); assert seen == ['base']\n"
                  "event_bus.clear(); assert event_bus.emit(hit(1)) and seen == ['base']\n");
    EXPECT(&fake, "event listener broken: Traceback");
    fake_end(&fake);
}
END_TEST

START_TEST(start_and_end) {
    fake_t fake;
    script(&fake, "def init(): out('a', 1, 'init')\ndef cleanup(): out('a', 1, 'cleanup'); print('tail', end='')\n");
    EXPECT(&fake, "send 'a' 1 text init\n");
    ck_assert_int_eq(rr_script_cleanup(fake.script, 3), RR_OK);
    EXPECT(&fake, "send 'a' 1 text cleanup\n");
    ck_assert(rr_script_destroy(fake.script));
    EXPECT(&fake, "print tail\n");
    fake_clean(&fake);
}
END_TEST

START_TEST(failed_starts) {
    static const struct {
        const char *code, *why;
    } cases[] = {
        {"def init(): return False\n", "game.py returned False, which means that the start failed"},
        {"def init(): return 3\n", "returned 3, which"},
        {"def init(): raise ValueError('no')\n", "init() of"},
        {"x = 1\nnonsense\n", "game.py:2: NameError: name 'nonsense' is not defined"},
        {"def (:\n", "game.py:1: SyntaxError: "},
        {"import no_such_module\n", "game.py:1: ModuleNotFoundError: No module named 'no_such_module'"},
        {"import json\njson.loads('{')\n", "game.py:2: JSONDecodeError"},
        {"raise SystemExit(3)\n", "SystemExit: 3"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fake_t fake;
        fake_init(&fake, cases[i].code);
        ck_assert_int_eq(fake_open(&fake, NULL), RR_EHANDLER);
        ck_assert_msg(strstr(fake.why, cases[i].why), "'%s' is not in '%s'", cases[i].why, fake.why);
        ck_assert_ptr_null(strchr(fake.why, '\n'));
        fake_end(&fake);
    }
    fake_t fake;
    fake_init(&fake, "");
    ck_assert_int_eq(unlink(fake.file), 0);
    ck_assert_int_eq(fake_open(&fake, NULL), RR_EHANDLER);
    ck_assert_msg(strstr(fake.why, "No such file"), "%s", fake.why);
    fake_end(&fake);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("ffext");
    TCase *tcase = tcase_create("ffext");
    tcase_add_checked_fixture(tcase, python_up, python_down);
    tcase_add_test(tcase, bodies);
    tcase_add_test(tcase, refused_values);
    tcase_add_test(tcase, sending);
    tcase_add_test(tcase, answers_need_no_look_up);
    tcase_add_test(tcase, lists_that_come_again);
    tcase_add_test(tcase, raw_bodies);
    tcase_add_test(tcase, contexts);
    tcase_add_test(tcase, timers);
    tcase_add_test(tcase, callbacks);
    tcase_add_test(tcase, drained);
    tcase_add_test(tcase, assigned_globals);
    tcase_add_test(tcase, services);
    tcase_add_test(tcase, service_answers);
    tcase_add_test(tcase, the_rest);
    tcase_add_test(tcase, events);
    tcase_add_test(tcase, start_and_end);
    tcase_add_test(tcase, failed_starts);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
