"""Calls between groups: the seed's three command lines, the same script on both sides, and a bridge that dies under calls."""

from __future__ import annotations

import asyncio
import re
import signal
import time
import unittest

from harness import PATIENT, SLOW, Case, Client, Server, free_port

SCRIPT = """
import ff, ffext, redrabbit

WHERE = ffext.get_config('-broker')

@ffext.session_verify_callback
def verify(key, online_time, ip, gate):
    return [key]

@ffext.session_call(1)
def service(session_id, msg):
    number, group, name, cmd, body = msg
    ffext.bridge_call_service(group, name, cmd, body,
        lambda err, reply: ffext.send_msg_session(session_id, 1, [number, err, reply]))

@ffext.session_call(2)
def scene(session_id, msg):
    number, group, cmd, body = msg
    ffext.bridge_call(group, cmd, body,
        lambda err, reply: ffext.send_msg_session(session_id, 1, [number, err, reply]))

@redrabbit.message(3)
async def modern(session, msg):
    number, group, name, method, body = msg
    try:
        reply = [number, None, await redrabbit.call(name, method, body, group=group, timeout=5)]
    except redrabbit.CallError as error:
        reply = [number, str(error), None]
    session.send(1, reply)

@ffext.session_call(4)
def outer(session_id, msg):
    name, address, cmd, body = msg
    done = ffext.connect_to_outer_service(name, address)
    ffext.call_service(name, cmd, body, lambda err, reply: ffext.send_msg_session(session_id, 1, [done, err, reply]))

@ffext.reg_service(7)
def seven(msg):
    return {'here': WHERE, 'got': msg}

@ffext.reg_service(8)
def eight(msg):
    raise KeyError('eight')

@ffext.reg_service(9)
def nine(msg):
    return None

@redrabbit.service('there and back')
async def there_and_back(group):
    return await redrabbit.call('scene@0', 7, 'back', group=group)
"""


class Groups(Case):
    """The seed's lines: a bridge; GroupA's master with a gate and a scene; GroupB's with a scene."""

    def setUp(self) -> None:
        super().setUp()
        self.write("main.py", SCRIPT)
        self.bridge, self.a, self.b = (f"tcp://127.0.0.1:{free_port()}" for _ in range(3))
        self.port = free_port()

    def start_bridge(self, *more: str) -> Server:
        return self.begin("-broker", self.bridge, *more)

    def start_groups(self, *more: str) -> list[Server]:
        return [
            self.begin(
                "-broker", self.a, "-bridge_broker", f"GroupA@{self.bridge}", "-gate", "gate@0",
                "-gate_listen", f"tcp://127.0.0.1:{self.port}", "-python_path", "./", "-scene", "scene@0", *more,
            ),
            self.begin(
                "-broker", self.b, "-bridge_broker", f"GroupB@{self.bridge}", "-python_path", "./",
                "-scene", "scene@0", *more,
            ),
        ]  # fmt: skip

    def start_all(self, *more: str) -> list[Server]:
        servers = [self.start_bridge(*more), *self.start_groups(*more)]
        for server in servers:
            server.ready()
        return servers

    async def ask(self, client: Client, cmd: int, *what: object) -> tuple[object, object]:
        await client.send(cmd, [0, *what])
        _, err, reply = (await self.expect(client, re.compile(""), cmd=1, timeout=8)).json()
        return err, reply

    async def until(self, client: Client, cmd: int, *what: object, patience: float = 60) -> object:
        """Asks again until it is answered: names and links need a moment."""
        end = time.monotonic() + patience * SLOW
        while True:
            err, reply = await self.ask(client, cmd, *what)
            if err is None:
                return reply
            self.assertRegex(str(err), "^(NOROUTE|TIMEOUT|LINKDOWN|STALE|DIED)")
            self.assertLess(time.monotonic(), end, err)
            await asyncio.sleep(0.1)

    async def test_calls_both_ways(self) -> None:
        servers = self.start_all()  # exactly as the seed has them
        me = await self.client(self.port, "me")
        there = {"here": self.b, "got": [1, "ä"]}
        self.assertEqual(await self.until(me, 2, "GroupB", 7, [1, "ä"]), there)
        self.assertEqual(await self.ask(me, 1, "GroupB", "scene@0", 7, [1, "ä"]), (None, there))
        self.assertEqual(await self.ask(me, 3, "GroupB", "scene@0", 7, [1, "ä"]), (None, there))
        self.assertEqual(
            await self.until(me, 3, "GroupB", "scene@0", "there and back", "GroupA"),
            {"here": self.a, "got": "back"},
        )
        self.assertEqual(await self.ask(me, 1, "GroupB", "scene@0", 9, None), (None, None))
        big = ["x" * 200000]
        self.assertEqual(
            await self.ask(me, 2, "GroupB", 7, big), (None, {"here": self.b, "got": big})
        )
        for what, want in [
            ((1, "GroupB", "scene@0", 8, None), "KeyError: 'eight'"),
            ((1, "GroupB", "scene@0", 99, None), "has no service '99'"),
            ((1, "GroupB", "guild", 7, None), "NOROUTE: there is no actor named guild in group GroupB"),
            ((3, "GroupB", "guild", 7, None), "NOROUTE: there is no actor named guild in group GroupB"),
            ((2, "GroupC", 7, None), f"NOROUTE: there is no group named GroupC at the bridge {self.bridge}"),
        ]:  # fmt: skip
            err, reply = await self.ask(me, *what)
            self.assertIn(want, str(err))
            self.assertIsNone(reply)
        self.assertEqual(
            await self.ask(me, 2, "GroupA", 7, 1), (None, {"here": self.a, "got": 1})
        )
        for server in reversed(servers):  # the bridge last: masters that lose it say so
            self.assertEqual(await asyncio.to_thread(server.stop), 0)
            self.assertNotIn(" ERROR BRIDGE ", server.output, "an orderly end complains of nothing")

    async def test_the_bridge_dies_and_returns_under_calls(self) -> None:
        bridge, *groups = self.start_all("-broker_fresh")
        me = await self.client(self.port, "me")
        await self.until(me, 2, "GroupB", 7, 0)
        rounds, sent, ends = 120, {}, {}

        async def listen() -> None:
            while len(ends) < rounds:
                number, err, _ = (await me.receive()).json()
                self.assertNotIn(number, ends)
                ends[number] = (time.monotonic(), err)

        listener = asyncio.create_task(listen())
        for number in range(1, rounds + 1):
            if number == 30:
                async with asyncio.timeout(PATIENT):
                    while not ends.keys() >= set(range(1, 25)):
                        await asyncio.sleep(0.01)
                bridge.stop(number=signal.SIGKILL)
            if number == 60:
                bridge = self.start_bridge()
            sent[number] = time.monotonic()
            await me.send(2, [number, "GroupB", 7, number])
            await asyncio.sleep(0.05)
        await asyncio.wait_for(listener, PATIENT)
        for number, (when, _) in ends.items():
            self.assertLess(when - sent[number], PATIENT, ends[number])
        self.assertTrue(all(ends[number][1] is None for number in range(1, 25)), ends)
        for _, err in ends.values():
            self.assertRegex(str(err), "^(None|NOROUTE|TIMEOUT|LINKDOWN)")
        await self.until(me, 2, "GroupB", 7, 0)
        await self.until(me, 3, "GroupB", "scene@0", "there and back", "GroupA")
        self.assertTrue(all(server.process.poll() is None for server in groups))

    async def test_the_bridge_comes_last(self) -> None:
        groups = self.start_groups("-broker_fresh")
        for server in groups:
            server.ready()  # they serve without it
        me = await self.client(self.port, "me")
        err, _ = await self.ask(me, 2, "GroupB", 7, 0)
        self.assertRegex(str(err), f"^NOROUTE: .*{re.escape(self.bridge)} is not")
        self.start_bridge("-broker_fresh")
        await self.until(me, 2, "GroupB", 7, 0)
        for server in groups:
            server.wait_line("WARN  BRIDGE .* waiting for the master")
            server.wait_line("INFO  BRIDGE .* joined group")

    async def test_outer_services(self) -> None:
        self.write("outer/main.py", SCRIPT)
        self.start("-broker", self.bridge, "-broker_fresh", "-scene", "http_service", "-python_path", "outer")
        self.start(
            "-broker", self.a, "-broker_fresh", "-gate", "gate@0", "-gate_listen", f"tcp://127.0.0.1:{self.port}",
            "-python_path", "./", "-scene", "scene@0",
        )  # fmt: skip
        me = await self.client(self.port, "me")
        end = time.monotonic() + 30 * SLOW
        reply = None
        while reply is None:
            await me.send(4, ["http_service", self.bridge, 7, ["hi"]])
            done, err, reply = (await self.expect(me, re.compile(""), cmd=1)).json()
            self.assertEqual(done, 0)
            self.assertLess(time.monotonic(), end, err)
        self.assertEqual(reply, {"here": self.bridge, "got": ["hi"]})
        for name, address in [("http_service", self.a), ("scene@0", self.bridge), ("x", "nonsense")]:
            await me.send(4, [name, address, 7, ["hi"]])
            self.assertEqual((await self.expect(me, re.compile(""), cmd=1)).json()[0], -1)


if __name__ == "__main__":
    unittest.main()
