"""Session rules: unique ids, order, moves between scenes, offline, what a scene may send to whom, close reasons."""

from __future__ import annotations

import asyncio
import re
import unittest

from harness import PATIENT, Case, Client, Closed, Server, encode_frame, free_port

# Says everything it sees, and does what the messages ask for.
ROOM = """
import json, redrabbit, ffext

NAME = ffext.get_config('-scene') or 'scene'

@ffext.session_enter_callback
def enter(session_id, from_scene, extra):
    print('ENTER', repr(session_id), repr(from_scene), repr(extra))
    ffext.send_msg_session(session_id, 1, f'enter {session_id!r} {from_scene!r} {extra!r}')

@ffext.session_offline_callback
def offline(session_id, online_time, reason):
    print('OFFLINE', repr(session_id), online_time, reason)

@ffext.session_call(1, 'raw')
def echo(session_id, body):
    ffext.send_msg_session(session_id, 1, body)

@ffext.session_call(2)
def do(session_id, msg):
    what, *args = msg
    result = getattr(ffext, what)(*args)
    ffext.send_msg_session(session_id, 2, json.dumps([what, result]))

@ffext.session_call(3)
def move(session_id, msg):
    ffext.send_msg_session(session_id, 3, 'before the move')
    ffext.change_session_scene(session_id, msg[0], msg[1])
"""


class Ids(Case):
    VERIFY = """
import ffext
IDS = {'text': 'text', 'five': 5, 'five-text': '5', 'minus': -7, 'big': 2**62, 'long': 'x' * 255,
       'zero': 0, 'empty': '', 'none': None, 'too-long': 'x' * 256, 'too-big': 2**63, 'float': 1.5, 'bool': True}

@ffext.session_verify_callback
def verify(key, online_time, ip, gate):
    if key == 'bare':
        return 'bare'
    if key == 'raise':
        raise RuntimeError('no')
    if key == 'nothing':
        return []
    if key == 'tuple':
        return ('tuple',)
    if key == 'extra':
        return ['extra', 'the extra data']
    if key == 'redirect':
        return [0, 'go elsewhere']
    if key == 'empty-extra':
        return ['', 'only [0, extra] sends something']
    if key == 'none-extra':
        return [None, 'only [0, extra] sends something']
    if key.startswith('digits'):
        return [key[6:]]
    return [IDS[key]]

@ffext.session_enter_callback
def enter(session_id, from_scene, extra):
    ffext.send_msg_session(session_id, 1, repr(session_id))

@ffext.session_call(1, 'raw')
def echo(session_id, body):
    ffext.send_msg_session(session_id, 1, repr(session_id))
"""

    async def test_what_verify_may_return(self) -> None:
        server, port = self.scene(self.VERIFY)
        for key, shown in [
            ("text", "'text'"),
            ("five", "5"),
            ("five-text", "'5'"),
            ("minus", "-7"),
            ("big", str(2**62)),
            ("long", repr("x" * 255)),
            ("tuple", "'tuple'"),
        ]:
            client = await self.client(port, key)
            self.assertEqual((await client.receive(PATIENT)).text, shown)
        for key in (
            "zero",
            "empty",
            "none",
            "too-long",
            "too-big",
            "float",
            "bare",
            "raise",
            "nothing",
            "unknown",
            "empty-extra",
            "none-extra",
        ):
            with self.subTest(key):
                web = await self.client(port, key, "ws")
                self.assertEqual(await self.expect_closed(web, 4002), [])
        server.wait_line("RuntimeError: no")

    async def test_five_is_not_its_text(self) -> None:
        _, port = self.scene(self.VERIFY)
        number, text = await self.client(port, "five"), await self.client(port, "five-text")
        self.assertEqual((await number.receive(PATIENT)).text, "5")
        self.assertEqual((await text.receive(PATIENT)).text, "'5'")
        for client, shown in ((number, "5"), (text, "'5'")):
            await client.send(1, b"")
            await self.expect(client, shown)

    async def test_option_session_id_int(self) -> None:
        _, port = self.scene(self.VERIFY, gate="session_id: int")
        for key, shown in [
            ("digits42", "42"),
            ("digits007", "7"),
            ("text", "'text'"),
            ("five", "5"),
        ]:
            client = await self.client(port, key)
            self.assertEqual((await client.receive(PATIENT)).text, shown)

    async def test_extra_comes_first_and_a_redirect_closes(self) -> None:
        _, port = self.scene(self.VERIFY)
        for kind in ("tcp", "ws"):
            client = await self.client(port, "extra", kind)
            first = await client.receive(PATIENT)
            self.assertEqual((first.cmd, first.text), (0, "the extra data"))
            self.assertEqual((await client.receive(PATIENT)).text, "'extra'")
            client = await self.client(port, "redirect", kind)
            got = await self.expect_closed(client, 4002 if kind == "ws" else 1006)
            self.assertEqual([(m.cmd, m.text) for m in got], [(0, "go elsewhere")])

    async def test_a_key_that_is_not_utf8(self) -> None:
        _, port = self.scene(self.VERIFY)
        client = await self.client(port, b"\xff\xfe", "ws")
        await self.expect_closed(client, 4002)
        raw = "import ffext\n@ffext.session_verify_callback(protocol='raw')\ndef v(key, t, ip, gate):\n    return [key.hex()]\n"
        raw += (
            "@ffext.session_enter_callback\ndef e(s, f, x):\n    ffext.send_msg_session(s, 1, s)\n"
        )
        _, port = self.scene(raw)
        client = await self.client(port, b"\xff\xfe")
        await self.expect(client, "fffe")

    async def test_no_verifier_takes_the_key_with_a_warning(self) -> None:
        server, port = self.scene(ROOM)
        client = await self.client(port, "anyone")
        await self.expect(client, "enter 'anyone' '' ''")
        server.wait_line(r"(?i)warn.*verif")

    async def test_verify_sees_the_connection(self) -> None:
        script = """
import ffext, time
@ffext.session_verify_callback
def verify(key, online_time, ip, gate):
    return [key, repr([type(online_time), abs(online_time - time.time()) < 5, ip, gate])]
"""
        _, port = self.scene(script)
        client = await self.client(port, "me")
        await self.expect(client, "[<class 'int'>, True, '127.0.0.1', 'gate@0']", cmd=0)


class LateVerdict(Case):
    SCRIPT = """
import ffext
ids = {}
@ffext.session_verify_callback
def verify(key, online_time, ip, gate, cb_id):
    ids[key] = cb_id
    if key == 'inside':
        ffext.on_verify_auth_callback('inside', 'now', cb_id)
        return
    if key == 'control':
        return ['control']
    return []

@ffext.session_enter_callback
def enter(session_id, from_scene, extra):
    print('ENTER', session_id)
    ffext.send_msg_session(session_id, 1, 'entered')

@ffext.session_offline_callback
def offline(session_id, online_time, reason):
    print('OFFLINE', session_id, reason)

@ffext.session_call(1)
def answer(session_id, msg):
    key, id, extra = msg
    ffext.on_verify_auth_callback(id, extra, ids[key])
    ffext.send_msg_session(session_id, 1, 'answered')

@ffext.session_call(2, 'raw')
def echo(session_id, body):
    ffext.send_msg_session(session_id, 2, body)

@ffext.session_call(3)
def known(session_id, msg):
    ffext.send_msg_session(session_id, 3, list(ids))
"""

    async def control(self, port: int) -> Client:
        client = await self.client(port, "control")
        await self.expect(client, "entered")
        return client

    async def asked(self, control: Client, key: str) -> None:
        """Waits until verify was called with this key."""
        async with asyncio.timeout(PATIENT):
            while True:
                await control.send(3, "[]")
                if key in (await self.expect(control, re.compile(""), cmd=3)).json():
                    return

    async def test_yes_no_and_twice(self) -> None:
        server, port = self.scene(self.SCRIPT)
        control = await self.control(port)
        yes, no = await self.client(port, "yes", "ws"), await self.client(port, "no", "ws")
        await yes.send(2, "pipelined")
        await self.asked(control, "yes")
        await self.asked(control, "no")
        await control.send(1, ["yes", "yes-id", "welcome"])
        self.assertEqual(
            [(await yes.receive(PATIENT)).text for _ in range(3)], ["welcome", "entered", "pipelined"]
        )
        await control.send(1, ["no", "", ""])
        await self.expect_closed(no, 4002)
        await control.send(1, ["yes", "other", ""])  # answered already
        await self.expect(control, "answered")
        server.wait_line(r"(?i)warn.*(cb_id|verdict|verify_auth)")

    async def test_from_inside_the_verifier(self) -> None:
        _, port = self.scene(self.SCRIPT)
        client = await self.client(port, "inside")
        self.assertEqual(
            [(await client.receive(PATIENT)).text for _ in range(2)], ["now", "entered"]
        )

    async def test_a_client_that_leaves_before_the_answer(self) -> None:
        server, port = self.scene(self.SCRIPT)
        control = await self.control(port)
        client = await self.client(port, "gone")
        await self.asked(control, "gone")
        await client.close()
        await asyncio.sleep(0.2)  # lets the gate notice; either order must end the same way
        await control.send(1, ["gone", "gone-id", ""])
        await asyncio.to_thread(server.wait_line, "OFFLINE gone-id")
        self.assertNotIn("ENTER gone-id", server.output)

    async def test_async_verifier(self) -> None:
        script = """
import redrabbit, ffext
@ffext.session_verify_callback
async def verify(key, online_time, ip, gate):
    await redrabbit.sleep(0.05)
    return [key, 'late'] if key != 'bad' else []
@ffext.session_enter_callback
def enter(session_id, from_scene, extra):
    ffext.send_msg_session(session_id, 1, 'entered')
"""
        _, port = self.scene(script)
        client, bad = await self.client(port, "good", "ws"), await self.client(port, "bad", "ws")
        self.assertEqual(
            [(await client.receive(PATIENT)).text for _ in range(2)], ["late", "entered"]
        )
        await self.expect_closed(bad, 4002)


class SecondLogin(Case):
    def two_gates(self) -> tuple[Server, int, int]:
        first, second = free_port(), free_port()
        self.write("scene.py", ROOM)
        self.write(
            "graph.yaml",
            f"""
actors:
  gate@0: {{ role: gate, listen: "tcp://127.0.0.1:{first}", login: scene@0 }}
  gate@1: {{ role: gate, listen: "tcp://127.0.0.1:{second}", login: scene@0 }}
  scene@0: {{ role: scene, script: scene.py }}
""",
        )
        return self.start("graph.yaml"), first, second

    async def test_on_the_same_and_on_another_gate(self) -> None:
        server, one, two = self.two_gates()
        clients = [await self.client(port, "alice", "ws") for port in (one,)]
        await self.expect(clients[0], re.compile("^enter"))
        for port in (one, two, one, two):
            client = await self.client(port, "alice", "ws")
            await self.expect(client, re.compile("^enter"))
            await self.expect_closed(clients[-1], 4001)
            clients.append(client)
        await clients[-1].send(1, "mine")
        await self.expect(clients[-1], "mine")
        await self.until(lambda: server.output.count("ENTER 'alice'") == 5, "the log has what the clients saw")
        order = re.findall(r"(ENTER|OFFLINE) 'alice'", server.output)
        self.assertEqual(order, ["ENTER"] + ["OFFLINE", "ENTER"] * 4)
        self.assertEqual(len(re.findall("OFFLINE 'alice' .* replaced", server.output)), 4)

    async def test_a_crowd_with_one_name(self) -> None:
        server, one, two = self.two_gates()
        crowd = [await self.client((one, two)[n % 2]) for n in range(30)]
        await asyncio.gather(*(client.login("alice") for client in crowd))
        witness = await self.client(one, "witness")
        await self.expect(witness, re.compile("^enter"))

        async def fate(client: Client) -> bool:
            try:
                while True:
                    if (await client.receive(PATIENT)).text == "mine":
                        return True
            except Closed:
                return False

        async with asyncio.timeout(PATIENT):
            while sum(client.closed is None for client in crowd) > 1:
                await asyncio.sleep(0.05)
        (survivor,) = [client for client in crowd if client.closed is None]
        await survivor.send(1, "mine")
        self.assertTrue(await fate(survivor))
        last = await self.client(one, "last")  # what it prints comes behind all that the survivor has seen
        await self.expect(last, re.compile("^enter"))
        await asyncio.to_thread(server.wait_line, "ENTER 'last'")
        # Never two of them inside at once; who was replaced before its turn came has an offline, but no enter.
        events = re.findall("(ENTER|OFFLINE) 'alice'", server.output)
        inside = 0
        for event in events:
            inside += 1 if event == "ENTER" else -inside
            self.assertLessEqual(inside, 1, events)
        self.assertEqual(events[-1], "ENTER")
        self.assertLessEqual(len(events), 2 * len(crowd))


class Moves(Case):
    def two_scenes(self, other: str = ROOM) -> tuple[Server, int]:
        self.write("other.py", other)
        return self.scene(ROOM, more="  scene@1: { role: scene, script: other.py }")

    async def test_there_and_back(self) -> None:
        server, port = self.two_scenes()
        client = await self.client(port, "alice")
        await self.expect(client, "enter 'alice' '' ''")
        await client.send(3, ["scene@1", "gift"])
        for number in range(
            50
        ):  # some are queued at the old scene, some held by the gate: order must hold
            await client.send(1, f"m{number}")
        got = [(await client.receive(PATIENT)).text for _ in range(52)]
        self.assertEqual(got[0], "before the move")
        self.assertEqual(got[1], "enter 'alice' 'scene@0' 'gift'")
        self.assertEqual(got[2:], [f"m{number}" for number in range(50)])
        await client.send(3, ["scene@0", ""])
        await self.expect(client, "enter 'alice' 'scene@1' ''")
        self.assertNotIn("OFFLINE", server.output)
        await client.close()
        await asyncio.to_thread(server.wait_line, "OFFLINE 'alice'")

    async def test_offline_goes_to_the_holder_and_to_the_login_scene(self) -> None:
        server, port = self.two_scenes()
        client = await self.client(port, "alice")
        await client.send(3, ["scene@1", ""])
        await self.expect(client, re.compile("scene@0"))
        await client.close()
        await asyncio.to_thread(server.wait_line, "OFFLINE 'alice'", 5, 2)
        lines = [line for line in server.lines if "OFFLINE 'alice'" in line]
        self.assertEqual(len(lines), 2, lines)
        self.assertEqual(
            {name for name in ("scene@0", "scene@1") for line in lines if name in line},
            {"scene@0", "scene@1"},
        )

    async def test_a_target_that_is_not_there(self) -> None:
        _, port = self.two_scenes()
        client = await self.client(port, "alice")
        await self.expect(client, re.compile("^enter"))
        await client.send(3, ["scene@9", ""])
        await client.send(1, "still at home")
        await self.expect(client, "still at home", timeout=10)

    async def test_a_target_whose_enter_fails(self) -> None:
        other = """
import ffext
@ffext.session_enter_callback
def enter(session_id, from_scene, extra):
    ffext.send_msg_session(session_id, 9, 'half entered')
    raise RuntimeError('no room')
"""
        server, port = self.two_scenes(other)
        client = await self.client(port, "alice")
        await self.expect(client, re.compile("^enter"))
        await client.send(3, ["scene@1", ""])
        await client.send(1, "still at home")
        await self.expect(client, "still at home", timeout=10)
        server.wait_line("no room")

    async def test_leave_callback(self) -> None:
        script = (
            ROOM
            + """
@ffext.session_leave_callback
def leave(session_id, to_scene):
    print('LEAVE', session_id, to_scene)
"""
        )
        self.write("other.py", ROOM)
        server, port = self.scene(script, more="  scene@1: { role: scene, script: other.py }")
        client = await self.client(port, "alice")
        await client.send(3, ["scene@1", ""])
        await self.expect(client, re.compile("'scene@0'"))
        server.wait_line("LEAVE alice scene@1")

    async def test_the_awaiting_caller_gets_the_error(self) -> None:
        script = """
import redrabbit, ffext
@ffext.session_call(1)
async def move(session_id, msg):
    session = redrabbit.session(session_id)
    try:
        await session.move(msg[0])
    except Exception as error:
        session.send(1, type(error).__name__ + ': ' + str(error))
"""
        _, port = self.scene(script)
        client = await self.client(port, "alice")
        await client.send(1, ["scene@9"])
        await self.expect(client, re.compile("scene@9"))

    async def test_broadcast_reaches_the_sessions_of_the_scene(self) -> None:
        _, port = self.two_scenes()
        here, there, watcher = [
            await self.client(port, name) for name in ("here", "there", "watcher")
        ]
        for client in (here, there, watcher):
            await self.expect(client, re.compile("^enter"))
        await there.send(3, ["scene@1", ""])
        await self.expect(there, re.compile("'scene@0'"))
        await here.send(2, ["broadcast_msg_session", 5, "to scene 0"])
        await there.send(2, ["broadcast_msg_session", 5, "to scene 1"])
        await self.expect(watcher, "to scene 0", cmd=5)
        await self.expect(there, "to scene 1", cmd=5)
        await here.send(2, ["broadcast_msg_gate", "gate@0", 6, "to the gate"])
        for client in (here, watcher):
            seen = []
            await self.expect(client, lambda m, seen=seen: seen.append(m.text) or m.cmd == 6)
            self.assertNotIn("to scene 1", seen)
        seen = []
        await self.expect(there, lambda m: seen.append(m.text) or m.cmd == 6)
        self.assertNotIn("to scene 0", seen)
        # What a scene does to a session that it does not hold.
        for call in (["send_msg_session", "there", 1, "x"], ["close_session", "there"], ["send_msg_session", "nobody", 1, "x"],
                     ["change_session_scene", "there", "scene@0", ""]):  # fmt: skip
            await here.send(2, call)
            answer = await self.expect(here, lambda m: m.cmd == 2 and m.json()[0] == call[0])
            self.assertEqual(answer.json()[1], False, call)
        await here.send(2, ["send_msg_session", "watcher", 7, "direct"])
        await self.expect(watcher, "direct", cmd=7)


class Order(Case):
    async def test_unicasts_and_broadcasts_keep_one_order(self) -> None:
        script = """
import ffext
@ffext.session_call(1)
def mix(session_id, msg):
    for n in range(500):
        if n % 3 == 0:
            ffext.broadcast_msg_session(1, str(n))
        elif n % 3 == 1:
            ffext.send_msg_session(session_id, 1, str(n))
        else:
            ffext.multi_send_msg_session([session_id, 'nobody'], 1, str(n))
"""
        _, port = self.scene(script)
        for kind in ("tcp", "ws"):
            client = await self.client(port, f"me-{kind}", kind)
            await client.send(1, "[]")
            self.assertEqual(
                [int((await client.receive(PATIENT)).text) for _ in range(500)], list(range(500))
            )

    async def test_nobody_gets_a_broadcast_before_its_enter(self) -> None:
        script = """
import redrabbit, ffext
@ffext.session_enter_callback
async def enter(session_id, from_scene, extra):
    if session_id.startswith('late'):
        await redrabbit.sleep(0.1)
        ffext.send_msg_session(session_id, 2, 'entered')

def noise():
    ffext.broadcast_msg_session(1, 'noise')
ffext.every_timer(5, noise)
"""
        _, port = self.scene(script)
        for number in range(5):
            client = await self.client(port, f"late{number}")
            first = await client.receive(PATIENT)
            self.assertIn(first.cmd, (1, 2))
            # A broadcast made before the enter handler began never comes; one made while it runs may.
            await self.expect(client, "entered", cmd=2)

    async def test_enter_is_finished_before_the_first_message(self) -> None:
        script = """
import redrabbit, ffext
@ffext.session_verify_callback
def verify(key, t, ip, gate):
    return [key, 'extra']
@ffext.session_enter_callback
async def enter(session_id, from_scene, extra):
    await redrabbit.sleep(0.1)
    ffext.send_msg_session(session_id, 1, 'entered')
@ffext.session_call(1, 'raw')
def echo(session_id, body):
    ffext.send_msg_session(session_id, 1, body)
"""
        _, port = self.scene(script)
        async with self.raw(port) as (reader, writer):
            writer.write(encode_frame(0, b"me") + encode_frame(1, b"one") + encode_frame(1, b"two"))
            want = encode_frame(0, b"extra") + b"".join(
                encode_frame(1, b) for b in (b"entered", b"one", b"two")
            )
            self.assertEqual(await asyncio.wait_for(reader.readexactly(len(want)), PATIENT), want)

    async def test_close_flushes_what_was_sent_first(self) -> None:
        script = """
import ffext
@ffext.session_call(1)
def bye(session_id, msg):
    for n in range(100):
        ffext.send_msg_session(session_id, 1, 'x' * 10000)
    ffext.send_msg_session(session_id, 1, 'last')
    ffext.close_session(session_id)
    assert ffext.send_msg_session(session_id, 1, 'too late') is False
@ffext.session_offline_callback
def offline(session_id, online_time, reason):
    print('OFFLINE', session_id, reason)
"""
        server, port = self.scene(script)
        for kind, code in (("tcp", 1006), ("ws", 4003)):
            client = await self.client(port, kind, kind)
            await client.send(1, "[]")
            got = await self.expect_closed(client, code)
            self.assertEqual((len(got), got[-1].text), (101, "last"))
            server.wait_line(f"OFFLINE {kind} kicked")


class Offline(Case):
    async def test_once_for_every_cause_with_the_time_of_the_connect(self) -> None:
        script = """
import ffext
times = {}
@ffext.session_verify_callback
def verify(key, online_time, ip, gate):
    times[key] = online_time
    return [key]
@ffext.session_call(1)
def close(session_id, msg):
    ffext.close_session(session_id)
@ffext.session_offline_callback
def offline(session_id, online_time, reason):
    print('OFFLINE', session_id, online_time == times[session_id], reason)
    ffext.broadcast_msg_session(1, 'offline ' + session_id)
    assert ffext.send_msg_session(session_id, 1, 'x') is False
"""
        server, port = self.scene(script, gate="max_packet_size: 100")
        watcher = await self.client(port, "watcher")
        left = await self.client(port, "left")
        await left.send(2, b"x")
        await left.close()
        await self.expect(watcher, "offline left")
        kicked = await self.client(port, "kicked")
        await kicked.send(1, "[]")
        await self.expect(watcher, "offline kicked")
        big = await self.client(port, "big")
        await big.send(1, b"x" * 101)
        await self.expect(watcher, "offline big")
        twice = await self.client(port, "twice")
        await twice.send(2, b"x")
        again = await self.client(port, "twice")
        await self.expect(watcher, "offline twice")
        await again.close()
        await self.expect(watcher, "offline twice")
        server.wait_line("OFFLINE twice", count=2)  # what is printed takes its own way
        lines = re.findall(r"OFFLINE (\w+) (\w+)", server.output)
        self.assertEqual(
            sorted(lines),
            sorted(
                [
                    ("left", "True"),
                    ("kicked", "True"),
                    ("big", "True"),
                    ("twice", "True"),
                    ("twice", "True"),
                ]
            ),
        )

    async def test_a_running_handler_may_finish_first(self) -> None:
        script = """
import redrabbit, ffext
@ffext.session_call(1)
async def slow(session_id, msg):
    print('BEGIN', session_id)
    try:
        await redrabbit.sleep(msg[0])
        print('FINISHED', session_id)
    except BaseException as error:
        print('CANCELLED', session_id)
        raise
@ffext.session_offline_callback
def offline(session_id, online_time, reason):
    print('OFFLINE', session_id)
"""
        server, port = self.scene(script)
        for name, seconds in (("short", 0.5), ("long", 60)):
            client = await self.client(port, name)
            await client.send(1, [seconds])
            await asyncio.to_thread(server.wait_line, f"BEGIN {name}")
            await client.close()
        await asyncio.to_thread(server.wait_line, "OFFLINE short")
        await asyncio.to_thread(server.wait_line, "OFFLINE long", 10)
        events = re.findall(r"(FINISHED|CANCELLED|OFFLINE) (\w+)", server.output)
        self.assertEqual(
            [e for e in events if e[1] == "short"], [("FINISHED", "short"), ("OFFLINE", "short")]
        )
        self.assertEqual(
            [e for e in events if e[1] == "long"], [("CANCELLED", "long"), ("OFFLINE", "long")]
        )


if __name__ == "__main__":
    unittest.main()
