"""The proxy that the tests of nodes put faults on: what it holds back arrives when it is mended, whole and in order."""

from __future__ import annotations

import asyncio
import time
import unittest
from collections.abc import Awaitable, Callable

from harness import PATIENT
from proxy import Proxy

BODY = bytes(range(256)) * 1024


class TheProxy(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self) -> None:
        self.server = await asyncio.start_server(self.echo, "127.0.0.1", 0)
        self.proxy = Proxy(self.server.sockets[0].getsockname()[1])
        await self.proxy.start()
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.proxy.port)
        self.assertEqual(await self.ask(b"hello"), b"hello")

    async def asyncTearDown(self) -> None:
        self.writer.transport.abort()
        await self.proxy.close()
        self.server.close()

    async def echo(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def ask(self, data: bytes) -> bytes:
        self.writer.write(data)
        return await asyncio.wait_for(self.reader.readexactly(len(data)), PATIENT)

    async def silent(self, what: Callable[[], Awaitable[bytes]]) -> None:
        with self.assertRaises(TimeoutError):
            await asyncio.wait_for(what(), 0.2)

    async def test_forwards(self) -> None:
        self.assertEqual(await self.ask(BODY), BODY)

    async def test_cut_and_mended(self) -> None:
        for ways in ((True, True), (True, False), (False, True)):
            self.proxy.cut(*ways)
            self.writer.write(BODY)
            await self.silent(lambda: self.reader.read(1))
            self.proxy.mend()
            self.assertEqual(await asyncio.wait_for(self.reader.readexactly(len(BODY)), PATIENT), BODY)

    async def test_one_connection_is_cut(self) -> None:
        (link,) = self.proxy.links
        link.cut()
        await self.silent(lambda: self.ask(b"?"))
        reader, writer = await asyncio.open_connection("127.0.0.1", self.proxy.port)
        writer.write(b"other")
        self.assertEqual(await asyncio.wait_for(reader.readexactly(5), PATIENT), b"other")
        writer.close()
        link.mend()
        self.assertEqual(await asyncio.wait_for(self.reader.readexactly(1), PATIENT), b"?")

    async def test_a_new_connection_is_held_too(self) -> None:
        self.proxy.cut()
        reader, writer = await asyncio.open_connection("127.0.0.1", self.proxy.port)
        writer.write(b"late")
        await self.silent(lambda: reader.read(1))
        self.proxy.mend()
        self.assertEqual(await asyncio.wait_for(reader.readexactly(4), PATIENT), b"late")
        writer.close()

    async def test_a_close_waits_behind_a_cut(self) -> None:
        self.proxy.cut(inward=False)
        (link,) = self.proxy.links
        link.sides[1].close()
        await self.silent(lambda: self.reader.read(1))
        self.proxy.mend()
        self.assertEqual(await asyncio.wait_for(self.reader.read(1), PATIENT), b"")

    async def test_reset(self) -> None:
        self.proxy.reset()
        with self.assertRaises(ConnectionResetError):
            await asyncio.wait_for(self.reader.read(1), PATIENT)

    async def test_refused(self) -> None:
        self.proxy.refuse()
        with self.assertRaises(ConnectionError):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.proxy.port)
            writer.write(b"?")
            await writer.drain()
            if await asyncio.wait_for(reader.read(1), PATIENT) == b"":
                raise ConnectionResetError

    async def test_delay(self) -> None:
        self.proxy.delay(0.1)
        began = time.monotonic()
        self.assertEqual(await self.ask(b"slow"), b"slow")
        self.assertGreaterEqual(time.monotonic() - began, 0.19)

    async def test_throttled(self) -> None:
        self.proxy.throttle(100_000)
        began = time.monotonic()
        self.assertEqual(await self.ask(BODY[:30_000]), BODY[:30_000])
        self.assertGreaterEqual(time.monotonic() - began, 0.25)


if __name__ == "__main__":
    unittest.main()
