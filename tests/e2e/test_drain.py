"""The end: SIGTERM drains in order and in time; a second signal ends at once."""

from __future__ import annotations

import asyncio
import re
import signal
import time
import unittest

from harness import PATIENT, Case

SCRIPT = """
import os, redrabbit, ffext

@ffext.session_call(1, 'raw')
def echo(session_id, body):
    ffext.send_msg_session(session_id, 1, body)

@ffext.session_call(2)
async def slow(session_id, msg):
    print('BEGIN', session_id)
    await redrabbit.sleep(msg[0])
    ffext.send_msg_session(session_id, 2, 'done')
    print('DONE', session_id)

@ffext.session_call(4, 'raw')
async def until_told(session_id, body):
    print('BEGIN', session_id)
    while not os.path.exists('go'):
        await redrabbit.sleep(0.02)

@ffext.session_offline_callback
def offline(session_id, online_time, reason):
    print('OFFLINE', session_id, reason)
    ffext.broadcast_msg_session(3, 'offline ' + session_id)

def cleanup():
    print('CLEANUP')
"""


SAME = 1.1  # seconds after which a second signal is another one (conf/run.h)


class Drain(Case):
    async def test_order_of_an_orderly_end(self) -> None:
        server, port = self.scene(SCRIPT)
        one, web = await self.client(port, "one"), await self.client(port, "web", "ws")
        for client in (one, web):
            await client.send(1, "x")
            await self.expect(client, "x")
        await one.send(2, [1])
        await asyncio.to_thread(server.wait_line, "BEGIN one")
        self.assertEqual(await asyncio.to_thread(server.stop), 0, server.output)
        got = await self.expect_closed(one)
        self.assertIn("done", [m.text for m in got])
        await self.expect_closed(web, 1001)
        events = re.findall(
            r"(DONE one|OFFLINE one drain|OFFLINE web drain|CLEANUP)", server.output
        )
        self.assertEqual(
            sorted(events),
            sorted(["DONE one", "OFFLINE one drain", "OFFLINE web drain", "CLEANUP"]),
        )
        self.assertEqual(events[-1], "CLEANUP")
        self.assertLess(events.index("DONE one"), events.index("OFFLINE one drain"))
        end = server.output.partition("redrabbit: draining")[2]
        self.assertTrue(end)
        self.assertNotIn(" WARN ", end, "an orderly end warns of nothing")

    async def test_sigint_is_the_same(self) -> None:
        server, port = self.scene(SCRIPT)
        await self.client(port, "one")
        self.assertEqual(server.stop(number=signal.SIGINT), 0)

    async def test_nobody_new_is_let_in(self) -> None:
        server, port = self.scene(SCRIPT, top="drain: 60s")
        one = await self.client(port, "one")
        await one.send(4, b"")
        await asyncio.to_thread(server.wait_line, "BEGIN one")
        ending = asyncio.create_task(asyncio.to_thread(server.stop, 60))
        async with asyncio.timeout(PATIENT):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                except ConnectionRefusedError:
                    break
                writer.close()
                await asyncio.sleep(0.02)
        self.assertFalse(ending.done())
        self.write("go", "")
        self.assertEqual(await ending, 0)

    async def test_cut_short(self) -> None:
        """A cleanup that takes longer than the drain may: status 3, on time."""
        server, port = self.scene(SCRIPT + "    import time\n    time.sleep(60)\n", top="drain: 2s")
        await self.client(port, "one")
        started = time.monotonic()
        self.assertEqual(await asyncio.to_thread(server.stop, 30), 3, server.output)
        self.assertLess(time.monotonic() - started, 40)  # of the cleanup's 60 s

    async def test_second_signal(self) -> None:
        server, port = self.scene(SCRIPT + "    import time\n    time.sleep(60)\n", top="drain: 60s")
        await self.client(port, "one")
        server.process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(server.wait_line, "CLEANUP")
        await asyncio.sleep(SAME)  # before that it would be the first one, sent twice
        started = time.monotonic()
        self.assertEqual(await asyncio.to_thread(server.stop, 30), 3)
        self.assertLess(time.monotonic() - started, 40)  # of the cleanup's 60 s

    async def test_a_signal_sent_twice(self) -> None:
        """As `timeout` does it: to the process, then to its group."""
        server, port = self.scene(SCRIPT)
        client = await self.client(port, "one", "ws")
        await client.send(2, [0.3])
        await asyncio.to_thread(server.wait_line, "BEGIN one")
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT):
            server.process.send_signal(number)
        self.assertEqual(await asyncio.to_thread(server.over), 0, server.output)
        await self.expect_closed(client, 1001)
        self.assertLess(server.output.index("DONE one"), server.output.index("OFFLINE one drain"))


class Idle(Case):
    async def test_no_cpu_when_idle(self) -> None:
        server, port = self.scene(SCRIPT)
        client = await self.client(port, "one")
        await client.send(1, b"x")
        await self.expect(client, "x")
        used = []
        for _ in range(5):  # on a busy machine the last of the work may be done late
            before = server.cpu_seconds()
            await asyncio.sleep(2)
            used.append(server.cpu_seconds() - before)
            if used[-1] < 0.1:
                return
        self.fail(f"CPU seconds of two each: {used}")


if __name__ == "__main__":
    unittest.main()
