"""async def handlers: one at a time for each session, others run; concurrent=True; deadlines; cancellation."""

from __future__ import annotations

import asyncio
import unittest

from harness import PATIENT, Case

SCRIPT = """
import redrabbit, ffext

@ffext.session_call(1, 'raw')
async def slow(session_id, body):
    ffext.send_msg_session(session_id, 1, b'begin ' + body)
    await redrabbit.sleep(0.05)
    ffext.send_msg_session(session_id, 1, b'end ' + body)

@ffext.session_call(2, 'raw')
def quick(session_id, body):
    ffext.send_msg_session(session_id, 2, body)

@ffext.session_call(3, 'raw', concurrent=True)
async def aside(session_id, body):
    ffext.send_msg_session(session_id, 3, b'begin ' + body)
    while not let_go:
        await redrabbit.sleep(0.01)
    ffext.send_msg_session(session_id, 3, b'end ' + body)

@ffext.session_call(4)
async def ask(session_id, msg):
    try:
        answer = await redrabbit.call(msg[0], msg[1], msg[2], timeout=msg[3])
    except Exception as error:
        answer = [type(error).__name__, str(error)]
    ffext.send_msg_session(session_id, 4, answer)

let_go = []
@ffext.session_call(7)
async def held(session_id, msg):
    ffext.send_msg_session(session_id, 7, 'held')
    while not let_go:
        await redrabbit.sleep(0.01)

@ffext.session_call(8)
def release(session_id, msg):
    let_go.append(session_id)

@ffext.session_call(5)
async def fails(session_id, msg):
    await redrabbit.sleep(0.01)
    raise KeyError('after a while')

@ffext.session_call(6)
async def gather(session_id, msg):
    async def one(n):
        await redrabbit.sleep(0.05)
        return n
    tasks = [redrabbit.spawn(one(n)) for n in range(5)]
    ffext.send_msg_session(session_id, 6, [await task for task in tasks])
"""
OTHER = """
import redrabbit, ffext
@ffext.reg_service(1)
async def double(msg):
    await redrabbit.sleep(0.02)
    return msg * 2
@ffext.reg_service(2)
async def never(msg):
    await redrabbit.sleep(3600)
@ffext.reg_service(3)
def fails(msg):
    raise ValueError('from afar')
"""


class Async(Case):
    async def test_one_at_a_time_for_each_session(self) -> None:
        _, port = self.scene(SCRIPT)
        one, two = await self.client(port, "one"), await self.client(port, "two")
        for number in range(3):
            await one.send(1, str(number))
            await two.send(1, str(number))
        await one.send(2, b"last")
        got = [(await one.receive(PATIENT)).text for _ in range(7)]
        self.assertEqual(got, ["begin 0", "end 0", "begin 1", "end 1", "begin 2", "end 2", "last"])
        got = [(await two.receive(PATIENT)).text for _ in range(6)]
        self.assertEqual(got, [f"{what} {n}" for n in range(3) for what in ("begin", "end")])

    async def test_others_run_meanwhile(self) -> None:
        _, port = self.scene(SCRIPT)
        slow, quick = await self.client(port, "slow"), await self.client(port, "quick")
        await slow.send(7, "[]")
        for number in range(20):
            await slow.send(1, str(number))
        await self.expect(slow, "held")
        for number in range(20):
            await quick.send(2, str(number))
            self.assertEqual((await quick.receive(PATIENT)).text, str(number))
        await quick.send(8, "[]")
        self.assertEqual((await slow.receive(PATIENT)).text, "begin 0")

    async def test_concurrent_opts_out(self) -> None:
        _, port = self.scene(SCRIPT)
        client, other = await self.client(port, "me"), await self.client(port, "other")
        for number in range(3):
            await client.send(3, str(number))
        got = [(await client.receive(PATIENT)).text for _ in range(3)]
        self.assertEqual(got, ["begin 0", "begin 1", "begin 2"])
        await other.send(8, "[]")
        got = [(await client.receive(PATIENT)).text for _ in range(3)]
        self.assertEqual(sorted(got), ["end 0", "end 1", "end 2"])

    async def test_the_queue_behind_a_handler_is_bounded(self) -> None:
        script = SCRIPT.replace("sleep(0.05)", "sleep(30)")
        _, port = self.scene(script, scene="queue: { messages: 10 }")
        client = await self.client(port, "me", "ws")
        for number in range(12):
            await client.send(1, str(number))
        await self.expect_closed(client, 4007)

    async def test_calls(self) -> None:
        self.write("other.py", OTHER)
        _, port = self.scene(SCRIPT, more="  other: { role: scene, script: other.py }")
        client = await self.client(port, "me")
        await client.send(4, ["other", 1, 21, PATIENT])
        self.assertEqual((await client.receive(PATIENT)).json(), 42)
        for what, word in (
            (["other", 2, 1, 0.5], "(?i)time"),
            (["other", 3, 1, PATIENT], "from afar"),
            (["nobody", 1, 1, PATIENT], "nobody"),
            (["other", 9, 1, PATIENT], "9"),
        ):
            await client.send(4, what)
            answer = (await client.receive(PATIENT)).json()
            self.assertRegex(" ".join(answer), word)

    async def test_exception_after_an_await(self) -> None:
        server, port = self.scene(SCRIPT)
        client = await self.client(port, "me")
        await client.send(5, "[]")
        await client.send(2, b"next")
        await self.expect(client, "next")
        server.wait_line("KeyError: 'after a while'")

    async def test_spawned_tasks(self) -> None:
        _, port = self.scene(SCRIPT)
        client = await self.client(port, "me")
        await client.send(6, "[]")
        self.assertEqual((await client.receive(PATIENT)).json(), [0, 1, 2, 3, 4])

    async def test_asyncio_needs_the_option(self) -> None:
        script = """
import asyncio, ffext
@ffext.session_call(1)
async def nap(session_id, msg):
    await asyncio.sleep(0.02)
    await asyncio.gather(*(asyncio.sleep(0.01) for _ in range(3)))
    ffext.send_msg_session(session_id, 1, 'rested')
"""
        server, port = self.scene(script)
        client = await self.client(port, "me")
        await client.send(1, "[]")
        await asyncio.to_thread(server.wait_line, "asyncio: true")
        _, port = self.scene(script, scene="asyncio: true")
        client = await self.client(port, "me")
        await client.send(1, "[]")
        await self.expect(client, "rested")


if __name__ == "__main__":
    unittest.main()
