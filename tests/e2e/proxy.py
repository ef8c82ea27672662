"""A forwarding proxy for the faults of a network, between real processes: resets, cuts, delay, throttling, on command.

A node's `address` is the proxy's, its `listen` the real one: then all connections to it pass here. What is cut is held and
not lost, as by TCP on a network that is cut: the bytes arrive when it is mended, and a close is heard of only then. While
only one way is cut, the connection is half-open.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from collections import deque
from dataclasses import dataclass

CHUNK = 64 << 10
ROOM = 256 << 10  # of one direction; above it the sender is not read


@dataclass
class Rules:
    """Of one direction. What holds for a proxy's direction holds for all its connections."""

    delay: float = 0.0  # seconds
    jitter: float = 0.0
    rate: float = 0.0  # bytes a second; 0 = any
    cut: bool = False


class Pipe:
    """One direction of one connection. Bytes keep their order."""

    def __init__(self, link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, common: Rules) -> None:
        self.link = link
        self.reader = reader
        self.writer = writer
        self.common = common
        self.own = Rules()
        self.queue: deque[tuple[float, bytes]] = deque()  # when it may arrive; b"" = the end
        self.size = 0
        self.news = asyncio.Event()
        self.room = asyncio.Event()
        self.room.set()

    def is_cut(self) -> bool:
        return self.common.cut or self.own.cut

    async def take(self) -> None:
        """Reads until the end."""
        latest, data = 0.0, b"?"
        now = asyncio.get_running_loop().time
        while data:
            await self.room.wait()
            data = await self.reader.read(CHUNK)
            late = self.common.delay + self.own.delay + random.uniform(0, self.common.jitter + self.own.jitter)
            latest = max(latest, now() + late)
            self.queue.append((latest, data))
            self.size += len(data)
            if self.size > ROOM:
                self.room.clear()
            self.news.set()

    async def give(self) -> None:
        """Writes what may arrive."""
        now = asyncio.get_running_loop().time
        while True:
            while self.is_cut() or not self.queue:
                self.news.clear()
                await self.news.wait()
            due, data = self.queue[0]
            if due > now():
                await asyncio.sleep(due - now())
                continue  # it may be cut meanwhile
            self.queue.popleft()
            if not data:
                self.writer.write_eof()
                return
            rate = self.own.rate or self.common.rate
            if rate and len(data) > (piece := int(rate / 50) + 1):
                self.queue.appendleft((due, data[piece:]))
                data = data[:piece]
            self.writer.write(data)
            await self.writer.drain()
            self.size -= len(data)
            if self.size <= ROOM:
                self.room.set()
            if rate:
                await asyncio.sleep(len(data) / rate)


class Link:
    """One connection through the proxy."""

    def __init__(self, proxy: Proxy, client: asyncio.StreamWriter) -> None:
        self.proxy = proxy
        self.sides = [client]
        self.pipes: list[Pipe] = []

    async def run(self, reader: asyncio.StreamReader) -> None:
        client = self.sides[0]
        try:
            while self.proxy.inward.cut or self.proxy.outward.cut:  # nobody has answered yet
                await self.proxy.mended.wait()
            far, server = await asyncio.open_connection("127.0.0.1", self.proxy.target)
            self.sides.append(server)
            self.pipes = [Pipe(self, reader, server, self.proxy.inward), Pipe(self, far, client, self.proxy.outward)]
            async with asyncio.TaskGroup() as group:
                for pipe in self.pipes:
                    group.create_task(pipe.take())
                    group.create_task(pipe.give())
        except* OSError:
            await self._until_mended()
            self.reset()
        finally:
            for side in self.sides:
                side.close()

    async def _until_mended(self) -> None:
        """A reset passes no cut either."""
        while any(pipe.is_cut() for pipe in self.pipes):
            for pipe in self.pipes:
                pipe.news.clear()
            waits = [asyncio.ensure_future(pipe.news.wait()) for pipe in self.pipes]
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()

    def reset(self, client: bool = True, server: bool = True) -> None:
        """RST to one side or both. The other side, if alone, is told when it is its turn (a half-open connection)."""
        for side, told in zip(self.sides, (client, server)):
            sock = side.get_extra_info("socket")
            if told and sock is not None and not side.transport.is_closing():
                with contextlib.suppress(OSError):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                side.transport.abort()

    def cut(self, inward: bool = True, outward: bool = True) -> None:
        for pipe, wanted in zip(self.pipes, (inward, outward)):
            pipe.own.cut = pipe.own.cut or wanted

    def mend(self) -> None:
        for pipe in self.pipes:
            pipe.own = Rules()
            pipe.news.set()


class Proxy:
    """Listens at `port` (0: a free one) and forwards to `target`, on 127.0.0.1. inward: towards the target."""

    def __init__(self, target: int, port: int = 0) -> None:
        self.target = target
        self.port = port
        self.inward = Rules()
        self.outward = Rules()
        self.links: set[Link] = set()
        self.mended = asyncio.Event()
        self.refusing = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = Link(self, writer)
        if self.refusing:
            link.reset()
            return
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        self.links.add(link)
        try:
            await link.run(reader)
        except asyncio.CancelledError:
            link.reset()
        finally:
            self.links.discard(link)
            self._tasks.discard(task)

    async def close(self) -> None:
        assert self._server
        self._server.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._server.wait_closed()

    # ---- Faults ----

    def reset(self, client: bool = True, server: bool = True) -> None:
        """All connections of now."""
        for link in list(self.links):
            link.reset(client, server)

    def refuse(self, yes: bool = True) -> None:
        """New connections are reset at once."""
        self.refusing = yes

    def cut(self, inward: bool = True, outward: bool = True) -> None:
        """All connections, of now and later, until mend()."""
        self.mended.clear()
        self.inward.cut = self.inward.cut or inward
        self.outward.cut = self.outward.cut or outward

    def delay(self, seconds: float, jitter: float = 0.0) -> None:
        """Each way."""
        for rules in (self.inward, self.outward):
            rules.delay, rules.jitter = seconds, jitter

    def throttle(self, rate: float) -> None:
        """Bytes a second each way of each connection."""
        self.inward.rate = self.outward.rate = rate

    def mend(self) -> None:
        """Everything is as at first; what was held arrives."""
        for rules in (self.inward, self.outward):
            rules.delay = rules.jitter = rules.rate = 0.0
            rules.cut = False
        self.refusing = False
        self.mended.set()
        for link in self.links:
            link.mend()
