"""ffext, the seed's API, call by call, as a client sees it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import sqlite3
import time
import unittest

from harness import Case

# Runs what the client sends and answers with what came out; `result` is what the snippet sets.
LAB = """
import asyncio, json, math, time, ffext, ff

@ffext.session_call(1, 'raw')
def run(session_id, code):
    scope = {'ffext': ffext, 'me': session_id, 'result': None, 'math': math, 'G': globals()}
    try:
        exec(code.decode(), scope)
        result = scope['result']
    except Exception as error:
        result = f'{type(error).__name__}: {error}'
    ffext.send_msg_session(session_id, 2, json.dumps(result))
"""


class LabCase(Case):
    async def lab(self, script: str = LAB, **options: str) -> None:
        self.server, self.port = self.scene(script, **options)
        self.me = await self.client(self.port, "me")

    async def run_code(self, code: str) -> object:
        await self.me.send(1, code)
        return json.loads((await self.expect(self.me, re.compile(""), cmd=2)).body)


class Bodies(LabCase):
    async def test_what_a_body_may_be(self) -> None:
        await self.lab()
        for source, body in [
            ("'täxt'", "täxt".encode()),
            ("b'\\xff\\0raw'", b"\xff\0raw"),
            ("bytearray(b'ba')", b"ba"),
            ("[1, 'ä', None, True, 1.5]", '[1, "ä", null, true, 1.5]'),
            ("{'k': 'ü'}", '{"k": "ü"}'),
            ("{'a': 1, 'b': 2}.keys()", '["a", "b"]'),
            ("{'a': 1}.values()", "[1]"),
            ("{'a': 1}.items()", '[["a", 1]]'),
            ("(1, 2)", "[1, 2]"),
            ("{7}", "[7]"),
            ("5", "5"),
            ("None", "null"),
            ("''", b""),
            ("'lone \\ud800.'", b"lone ?."),
        ]:
            with self.subTest(source):
                await self.me.send(1, f"result = ffext.send_msg_session(me, 9, {source})")
                message = await self.expect(self.me, re.compile(""), cmd=9)
                if isinstance(body, bytes):
                    self.assertEqual(message.body, body)
                else:
                    self.assertEqual(json.loads(message.body), json.loads(body))
                    self.assertNotIn("\\u", message.text)
                self.assertEqual((await self.expect(self.me, re.compile(""), cmd=2)).json(), True)

    async def test_refused_bodies_and_cmds(self) -> None:
        await self.lab()
        for source, error in [
            ("ffext.send_msg_session(me, 9, math.nan)", "ValueError"),
            ("ffext.send_msg_session(me, 9, [math.inf])", "ValueError"),
            ("ffext.send_msg_session(me, 9, object())", "TypeError"),
            ("ffext.send_msg_session(me, 65536, '')", "ValueError"),
            ("ffext.send_msg_session(me, -1, '')", "ValueError"),
            ("ffext.broadcast_msg_session(70000, '')", "ValueError"),
            ("ffext.multi_send_msg_session([me], -5, '')", "ValueError"),
        ]:
            result = await self.run_code(f"result = {source}")
            self.assertTrue(str(result).startswith(error), f"{source}: {result}")

    async def test_sends_to_nobody(self) -> None:
        await self.lab()
        self.assertEqual(
            await self.run_code("result = ffext.send_msg_session('nobody', 1, '')"), False
        )
        self.assertEqual(await self.run_code("result = ffext.close_session('nobody')"), False)
        self.server.wait_line("(?i)warn.*nobody")

    async def test_a_second_move_while_one_is_under_way(self) -> None:
        await self.lab(more="  scene@1: { role: scene, script: scene.py }")
        move = "ffext.change_session_scene(me, 'scene@1')"
        self.assertEqual(await self.run_code(f"result = [{move}, {move}]"), [True, False])
        self.server.wait_line("WARN .*on its way already")


class Handlers(LabCase):
    async def test_protocols_and_a_third_argument(self) -> None:
        await self.lab(
            LAB
            + """
@ffext.session_call(11)
def plain(session_id, msg):
    ffext.send_msg_session(session_id, 11, repr(msg))
@ffext.session_call(12, 'json')
def as_json(session_id, msg):
    ffext.send_msg_session(session_id, 12, repr(msg))
@ffext.session_call(13, 'raw')
def raw(session_id, msg):
    ffext.send_msg_session(session_id, 13, repr((type(msg).__name__, bytes(msg))))
@ffext.session_call(14, 'json', lambda session_id: ['mapped', session_id])
def mapped(session_id, msg):
    ffext.send_msg_session('me', 14, repr(session_id))
@ffext.session_call(15)
@ffext.session_call(16)
def two(session_id, msg):
    ffext.send_msg_session(session_id, 15, 'two')
    return 'ignored'
"""
        )
        for cmd, body, want in [
            (11, '{"a": [1, "ä"]}', repr({"a": [1, "ä"]})),
            (12, "null", "None"),
            (13, b"\xff", repr(("bytes", b"\xff"))),
            (14, "1", repr(["mapped", "me"])),
        ]:
            await self.me.send(cmd, body)
            self.assertEqual((await self.expect(self.me, re.compile(""), cmd=cmd)).text, want)
        for cmd in (15, 16):
            await self.me.send(cmd, "1")
            await self.expect(self.me, "two", cmd=15)

    async def test_big_raw_bodies_behave_like_bytes(self) -> None:
        await self.lab(
            LAB
            + """
@ffext.session_call(13, 'raw')
def raw(session_id, msg):
    ffext.send_msg_session(session_id, 13, [len(msg), bytes(msg[:3]).decode(), msg[-1], bytes(msg) == b'abc' * (len(msg) // 3)])
    ffext.send_msg_session(session_id, 14, msg)
"""
        )
        for count in (1, 100, 1000, 100_000):
            await self.me.send(13, b"abc" * count)
            got = await self.expect(self.me, re.compile(""), cmd=13)
            self.assertEqual(got.json(), [3 * count, "abc", ord("c"), True])
            self.assertEqual(
                (await self.expect(self.me, lambda m: True, cmd=14)).body, b"abc" * count
            )

    async def test_hooks_by_assignment(self) -> None:
        await self.lab(
            """
import ffext
def verify(key, online_time, ip, gate):
    return ['id-' + key]
def enter(session_id, from_scene, extra):
    ffext.send_msg_session(session_id, 1, session_id)
def offline(session_id, online_time):
    print('OFFLINE', session_id)
ffext.g_session_verify_callback = verify
ffext.g_session_enter_callback = enter
ffext.g_session_offline_callback = offline
"""
        )
        await self.expect(self.me, "id-me", cmd=1)
        await self.me.close()
        await asyncio.to_thread(self.server.wait_line, "OFFLINE id-me")

    async def test_faults_are_logged_counted_and_over(self) -> None:
        await self.lab(
            LAB
            + """
@ffext.session_call(5)
def bad(session_id, msg):
    raise KeyError('what is missing')
"""
        )
        await self.me.send(5, "[]")
        await self.me.send(5, "no json")
        await self.me.send(999, "")
        self.assertEqual(await self.run_code("result = 1"), 1)
        self.server.wait_line("KeyError: 'what is missing'")
        text = self.server.output
        around = text[max(0, text.index("KeyError") - 1500) : text.index("KeyError") + 300]
        for word in ("scene@0", "me", "5", "scene.py", "Traceback"):
            self.assertIn(word, around)
        self.server.wait_line("999")

    async def test_tracebacks_are_rate_limited(self) -> None:
        await self.lab(
            LAB
            + "\n@ffext.session_call(5)\ndef bad(session_id, msg):\n    raise KeyError('again')\n"
        )
        await self.run_code("result = 0")  # logged in: more than the login's queue may be on its way now
        for _ in range(200):
            await self.me.send(5, "[]")
        await self.run_code("result = 1")
        count = lambda: self.server.output.count("KeyError: 'again'")  # noqa: E731
        await self.until(lambda: count() >= 5, "five tracebacks", 10)  # the log is written behind
        self.assertLess(count(), 20)

    async def test_print_reaches_stdout_with_the_scenes_name(self) -> None:
        await self.lab(LAB, top="log: { level: fatal }")
        await self.run_code(
            "import sys; print('to stdout', 5); print('to stderr', file=sys.stderr)"
        )
        self.assertIn("scene@0", self.server.wait_line("to stdout 5"))
        self.assertIn("scene@0", self.server.wait_line("to stderr"))
        await self.run_code("print('half', end=''); print(' line'); print('two\\nlines')")
        self.server.wait_line("half line")
        self.assertIn("scene@0", self.server.wait_line("lines"))


class Timers(LabCase):
    async def test_once_every_cancel(self) -> None:
        await self.lab(
            LAB
            + """
T = time.monotonic
START = {}
def send(text):
    ffext.send_msg_session('me', 3, text)
"""
        )
        started = time.monotonic()
        await self.run_code("result = ffext.once_timer(100, G['send'], 'with data')")
        await self.expect(self.me, "with data", cmd=3)
        self.assertGreaterEqual(time.monotonic() - started, 0.09)
        await self.run_code("ffext.once_timer(1, lambda: G['send']('without'))")
        await self.expect(self.me, "without", cmd=3)
        await self.run_code("G['every'] = ffext.every_timer(20, lambda: G['send']('tick'))")
        for _ in range(5):
            await self.expect(self.me, "tick", cmd=3)
        cancelled = await self.run_code("result = ffext.cancel_timer(G['every'])")
        self.assertNotEqual(cancelled, False)
        await self.run_code(
            "G['gone'] = ffext.once_timer(50, lambda: G['send']('never')); ffext.cancel_timer(G['gone'])"
        )
        await self.run_code("ffext.once_timer(150, G['send'], 'marker')")
        seen: list[str] = []
        await self.expect(self.me, lambda m: seen.append(m.text) or m.text == "marker", cmd=3)
        self.assertNotIn("never", seen)
        self.assertLessEqual(seen.count("tick"), 1)

    async def test_a_timer_that_raises_goes_on(self) -> None:
        await self.lab(LAB)
        await self.run_code(
            "n = [0]\n"
            "def tick():\n"
            "    n[0] += 1\n"
            "    if n[0] % 2: raise RuntimeError('tick failed')\n"
            "    ffext.send_msg_session(me, 3, str(n[0]))\n"
            "ffext.every_timer(10, tick)"
        )
        await self.expect(self.me, "6", cmd=3)
        self.server.wait_line("tick failed")


class Services(LabCase):
    OTHER = """
import ffext, redrabbit
@ffext.reg_service(1)
def echo(msg):
    return msg
@ffext.reg_service('named')
def named(msg):
    return {'named': msg}
@ffext.reg_service(3)
def none(msg):
    return None
@ffext.reg_service(4)
def fails(msg):
    raise ValueError('from the service')
@ffext.reg_service(5)
async def slow(msg):
    await redrabbit.sleep(0.05)
    return ['slow', msg]
@ffext.reg_service(6)
async def never(msg):
    await redrabbit.sleep(3600)
"""

    async def call(
        self, name: str, cmd: object, msg: object, cmd_in: int = 3
    ) -> tuple[object, object]:
        await self.run_code(
            f"ffext.call_service({name!r}, {cmd!r}, {msg!r},"
            " lambda err, msg: ffext.send_msg_session(me, 3, [None if not err else str(err), msg]))"
        )
        err, result = (await self.expect(self.me, re.compile(""), cmd=cmd_in, timeout=15)).json()
        return err, result

    async def test_scene_to_scene(self) -> None:
        self.write("other.py", self.OTHER)
        await self.lab(LAB, more="  guild: { role: scene, script: other.py }")
        for cmd, msg, want in [
            (1, {"a": [1, "ä"]}, {"a": [1, "ä"]}),
            (1, '{"already": "json"}', {"already": "json"}),
            ("named", [5], {"named": [5]}),
            (3, 1, None),
            (5, 2, ["slow", 2]),
        ]:
            self.assertEqual(await self.call("guild", cmd, msg), (None, want))
        for name, cmd, text in [
            ("guild", 99, "99"),
            ("guild", 4, "from the service"),
            ("nobody", 1, "nobody"),
        ]:
            err, result = await self.call(name, cmd, 1)
            self.assertIsNone(result)
            self.assertIn(text, str(err))
        err, result = await self.call("guild", 6, 1)  # of an hour
        self.assertIn("TIMEOUT", str(err))
        await self.run_code("ffext.call_service('guild', 1, 1)")  # without a callback

    async def test_existence_ids_and_configuration(self) -> None:
        self.write("other.py", self.OTHER)
        await self.lab(LAB, more="  guild: { role: scene, script: other.py }")
        self.assertEqual(
            await self.run_code(
                "result = [ffext.is_exist(n) for n in ('scene@0', 'gate@0', 'guild', 'nobody')]"
            ),
            [True, True, True, False],
        )
        ids = await self.run_code("result = [ffext.alloc_id() for _ in range(1000)]")
        assert isinstance(ids, list)
        self.assertEqual(len(set(ids)), 1000)
        self.assertEqual(
            await self.run_code(
                "result = ff.service_name if False else __import__('ff').service_name"
            ),
            "scene@0",
        )

    async def test_without_a_bridge_other_groups_cannot_be_called(self) -> None:
        await self.lab(LAB)
        for call in ("bridge_call('G', 1, {}", "bridge_call_service('G', 'scene@0', 1, {}"):
            await self.run_code(
                f"ffext.{call}, lambda err, msg: ffext.send_msg_session(me, 3, [err, msg]))"
            )
            err, msg = (await self.expect(self.me, re.compile(""), cmd=3)).json()
            self.assertRegex(err, "^NOROUTE: .*-bridge_broker")
            self.assertIsNone(msg)


class Reload(LabCase):
    async def test_scripts_init_cleanup_and_state(self) -> None:
        script = (
            LAB
            + """
print('loading')
STATE = globals().get('STATE', 0) + 1
def init():
    print('INIT')
def cleanup():
    print('CLEANUP')
@ffext.singleton
class Marked:
    pass
class Thing:
    def version(self):
        return 1
@ffext.session_call(5)
def old(session_id, msg):
    ffext.send_msg_session(session_id, 5, 'old')
@ffext.session_call(6)
def only_old(session_id, msg):
    ffext.send_msg_session(session_id, 5, 'only old')
"""
        )
        script = script.replace("@ffext.singleton\nclass Marked:\n    pass\n", "")
        await self.lab(script)
        self.server.wait_line("INIT")
        await self.run_code("G['kept'] = ffext.singleton(G['Thing']); G['kept'].name = 'kept'")
        await self.run_code(
            "ffext.every_timer(30, lambda: ffext.send_msg_session('me', 8, 'timer'))"
        )
        new = script.replace("'old')", "'new')").replace("return 1", "return 2")
        new = new[: new.index("@ffext.session_call(6)")]
        self.write("scene.py", new)
        self.assertEqual(await self.run_code("result = ffext.reload('scene')"), "")
        await self.me.send(5, "[]")
        await self.expect(self.me, "new", cmd=5)
        await self.me.send(6, "[]")
        self.assertEqual(
            await self.run_code(
                "t = ffext.singleton(G['Thing']); result = [t is G['kept'], t.version(), t.name, G['STATE']]"
            ),
            [True, 2, "kept", 2],
        )
        self.assertNotIn("only old", self.server.output)
        await self.expect(self.me, "timer", cmd=8)  # timers stay
        error = str(await self.run_code("result = ffext.reload('no_such_module')"))
        self.assertIn("no_such_module", error)
        self.assertEqual(self.server.stop(), 0)
        self.assertIn("CLEANUP", self.server.output)

    async def test_a_failed_reload_restores_names_and_registrations(self) -> None:
        script = (
            LAB
            + """
VALUE = 'first'
@ffext.session_call(5)
def five(session_id, msg):
    ffext.send_msg_session(session_id, 5, VALUE)
@ffext.reg_service(1)
def service(msg):
    return VALUE
"""
        )
        await self.lab(script)
        self.write("scene.py", script.replace("'first'", "'second'") + "\nNEW = 1\n1 / 0\n")
        error = str(await self.run_code("result = ffext.reload('scene')"))
        self.assertIn("ZeroDivisionError", error)
        self.assertIn("scene.py", error)
        await self.me.send(5, "[]")
        await self.expect(self.me, "first", cmd=5)
        self.assertEqual(await self.run_code("result = [G['VALUE'], 'NEW' in G]"), ["first", False])

    async def test_another_module(self) -> None:
        self.write("helper.py", "def word():\n    return 'one'\n")
        await self.lab("import helper\n" + LAB)
        self.assertEqual(await self.run_code("result = G['helper'].word()"), "one")
        self.write("helper.py", "def word():\n    return 'two'\n")
        self.assertEqual(await self.run_code("result = ffext.reload('helper')"), "")
        self.assertEqual(await self.run_code("result = G['helper'].word()"), "two")


class Small(LabCase):
    async def test_helpers(self) -> None:
        await self.lab(LAB + "\nclass Kept:\n    pass\n")
        for code, want in [
            ("ffext.to_str({'ä': [1]})", '{"ä": [1]}'),
            ("ffext.to_str('abc')", "abc"),
            ("type(ffext.singleton(G['Kept'])).__name__", "Kept"),
            ("ffext.INFO('an info line')", None),
            ("ffext.LOGWARN('MODULE', 'a warning line')", None),
        ]:
            self.assertEqual(await self.run_code(f"result = {code}"), want, code)
        self.server.wait_line("an info line")
        self.assertIn("MODULE", self.server.wait_line("a warning line"))

    async def test_event_bus(self) -> None:
        await self.lab("import event_bus\n" + LAB)
        self.assertNotIn(
            "Error",
            str(
                await self.run_code(
                    "import event_bus; result = [n for n in dir(event_bus) if n[0] != '_']"
                )
            ),
        )


class Databases(LabCase):
    """ffdb_create and what it makes, on SQLite: results are strings."""

    LAB = (
        LAB
        + """
def heard(result, *data):
    ffext.send_msg_session('me', 3, [result.flag, result.result, result.column, list(data)])

def init():
    global db
    db = ffext.ffdb_create('sqlite://./game.db')
    for sql in ("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, score REAL)",
                "INSERT INTO t VALUES (1, 'a''b', 1.5), (2, NULL, NULL)"):
        assert db.sync_query(sql).flag
"""
    )

    async def test_queries(self) -> None:
        await self.lab(self.LAB)
        self.assertEqual(await self.run_code("result = [G['db'].host(), G['db'].db_id]"), ["sqlite://./game.db", 1])
        rows = [["1", "a'b", "1.5"], ["2", "", ""]]
        ask = "SELECT id, name, score FROM t ORDER BY id"
        self.assertEqual(
            await self.run_code(f"r = G['db'].sync_query({ask!r}); result = [r.flag, r.result, r.column]"),
            [True, rows, ["id", "name", "score"]],
        )
        await self.run_code(f"G['db'].query({ask!r}, G['heard'])")
        self.assertEqual((await self.expect(self.me, re.compile(""), cmd=3)).json(), [True, rows, ["id", "name", "score"], []])
        await self.run_code("G['db'].query('nonsense', G['heard'], 'data')")
        self.assertEqual((await self.expect(self.me, re.compile(""), cmd=3)).json(), [False, [], [], ["data"]])
        self.server.wait_line("ERROR.*DatabaseSyntaxError")

    async def test_escape_and_order(self) -> None:
        await self.lab(self.LAB)
        name = "it's \\ \" \n ;--"
        await self.run_code(f"name = G['db'].escape({name!r}); G['db'].query(f\"INSERT INTO t VALUES (3, '{{name}}', 0)\")")
        for number in range(4, 60):
            await self.me.send(1, f"G['db'].query('INSERT INTO t SELECT max(id) + 1, {number}, 0 FROM t')")
            await self.expect(self.me, re.compile(""), cmd=2)
        await self.run_code("G['db'].query('SELECT id, name FROM t WHERE id > 2 ORDER BY id', G['heard'])")
        _, rows, _, _ = (await self.expect(self.me, re.compile(""), cmd=3)).json()
        self.assertEqual(rows, [["3", name], *([str(number), str(number)] for number in range(4, 60))])

    async def test_a_failed_create_is_none(self) -> None:
        await self.lab(self.LAB)
        for url in ("sqlite:///no/such/folder/x.db", "mysql://127.0.0.1:1/user/word/game", "nonsense://x", "scene@0", "nobody@0"):
            await self.me.send(1, f"result = ffext.ffdb_create({url!r}) is None")
            # A server that is away: it waits for a connection as long as any query does.
            answer = await self.expect(self.me, re.compile(""), cmd=2, timeout=20)
            self.assertEqual(answer.json(), True, url)
        self.assertNotIn("word", self.server.output)

    async def test_sync_query_stops_nobody_else(self) -> None:
        await self.lab(
            self.LAB,
            more="  scene@1: { role: scene, script: other.py }",
        )
        other = await self.client(self.port, "other")
        await other.send(1, "ffext.change_session_scene('other', 'scene@1')")
        await self.expect(other, "here")
        await other.send(1, "x")  # the move is over when this comes back: until then the scene that it leaves has a part in it
        await self.expect(other, "x")
        # Somebody else's transaction is what the query waits for: it lasts as long as the test wants, however slow the machine.
        with contextlib.closing(sqlite3.connect(self.folder / "game.db", isolation_level=None)) as writer:
            writer.execute("BEGIN IMMEDIATE")
            await self.me.send(1, "r = G['db'].sync_query('UPDATE t SET score = 2 WHERE id = 1'); result = r.flag")
            waiting = asyncio.create_task(self.expect(self.me, re.compile(""), cmd=2, timeout=60))
            for _ in range(30):
                await other.send(1, "x")
                await self.expect(other, "x")
            self.assertFalse(waiting.done())
            writer.execute("ROLLBACK")
        self.assertIs((await waiting).json(), True)

    async def lab(self, script: str = LAB, **options: str) -> None:
        self.write(
            "other.py",
            "import redrabbit\n@redrabbit.on_enter\ndef enter(session):\n    session.send(1, 'here')\n"
            "@redrabbit.message(1, 'raw')\ndef echo(session, msg):\n    session.send(1, msg)\n",
        )
        await super().lab(script, **options)


if __name__ == "__main__":
    unittest.main()
