"""A thousand clients chat for a minute: everybody gets every line, in order, and the server does not grow.

$RR_CROWD clients (1000), $RR_SECONDS seconds (60), about ten lines a second, half of the clients over WebSocket; some leave
and come back all the time.
"""

from __future__ import annotations

import asyncio
import json
import os
import pathlib
import random
import shutil
import struct
import sys
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))

from harness import ROOT, SLOW, Case, encode_frame, free_port  # noqa: E402
from redrabbit.client import OP_BINARY, encode_websocket  # noqa: E402

CROWD = int(os.environ.get("RR_CROWD", "1000"))
SECONDS = float(os.environ.get("RR_SECONDS", "60"))
LINES = 10
SAY = 1
UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


class Member(asyncio.Protocol):
    """The lightest client: keeps the numbers of the lines that it has seen."""

    def __init__(self, name: str, web: bool) -> None:
        self.name = name
        self.web = web
        self.numbers: list[int] = []
        self.entered = asyncio.get_running_loop().create_future()
        self.lost = asyncio.get_running_loop().create_future()
        self._data = b""
        self._upgraded = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        if self.web:
            transport.write(UPGRADE)
        self.send(0, self.name.encode())

    def send(self, cmd: int, body: bytes) -> None:
        frame = encode_frame(cmd, body)
        self.transport.write(encode_websocket(OP_BINARY, frame, b"abcd") if self.web else frame)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.lost.done():
            self.lost.set_result(error)
        if not self.entered.done():
            self.entered.set_exception(ConnectionError(f"{self.name}: {error or 'closed'}"))

    def data_received(self, data: bytes) -> None:
        self._data += data
        if self.web and not self._upgraded:
            head, found, rest = self._data.partition(b"\r\n\r\n")
            if not found:
                return
            assert b" 101 " in head, head
            self._upgraded, self._data = True, rest
        at = 0
        while (end := self._next(at)) > at:
            at = end
        self._data = self._data[at:]

    def _next(self, at: int) -> int:
        """Takes the message at that place; returns its end, or at if it is not whole."""
        data, start = self._data, at
        if self.web:
            if len(data) - at < 4:
                return start
            opcode, size = data[at] & 15, data[at + 1]
            at += 2
            if size == 126:
                (size,), at = struct.unpack_from(">H", data, at), at + 2
            elif size == 127:
                if len(data) - at < 8:
                    return start
                (size,), at = struct.unpack_from(">Q", data, at), at + 8
            if len(data) - at < size:
                return start
            if opcode != OP_BINARY:
                return at + size
        if len(data) - at < 8:
            return start
        size, cmd, _ = struct.unpack_from("<IHH", data, at)
        if len(data) - at - 8 < size:
            return start
        self._message(cmd, data[at + 8 : at + 8 + size])
        return int(at + 8 + size)

    def _message(self, cmd: int, body: bytes) -> None:
        if cmd == SAY and b'"#' in body:
            self.numbers.append(int(json.loads(body)["text"][1:]))
        elif not self.entered.done():
            self.entered.set_result(None)


class Crowd(Case):
    async def join(self, port: int, number: int) -> Member:
        loop = asyncio.get_running_loop()
        _, member = await loop.create_connection(
            lambda: Member(f"m{number}", bool(number % 2)), "127.0.0.1", port
        )
        await asyncio.wait_for(member.entered, 60 * SLOW)
        return member

    async def test_a_crowd(self) -> None:
        shutil.copytree(ROOT / "conf" / "chat", self.folder / "chat")
        port = free_port()
        graph = self.folder / "chat" / "chat.yaml"
        text = graph.read_text(encoding="utf-8").replace("127.0.0.1:10242", f"127.0.0.1:{port}")
        graph.write_text(text, encoding="utf-8")
        # The list of a thousand names to a thousand people at every entry is a load of its own: left out here.
        script = self.folder / "chat" / "main.py"
        code = script.read_text(encoding="utf-8")
        lines = [
            line
            for line in code.splitlines()
            if "(ONLINE, list(" not in line
            and " has joined" not in line
            and " has left" not in line
        ]
        self.assertEqual(len(lines), len(code.splitlines()) - 4)
        script.write_text("\n".join(lines), encoding="utf-8")
        server = self.start(str(graph))
        members: list[Member] = []
        for first in range(0, CROWD, 50):
            members += await asyncio.gather(
                *(self.join(port, n) for n in range(first, min(first + 50, CROWD)))
            )
        chance = random.Random(7)
        stable, restless = members[: CROWD * 9 // 10], members[CROWD * 9 // 10 :]
        number, sizes = 0, []
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            chance.choice(stable).send(SAY, json.dumps([f"#{number}"]).encode())
            number += 1
            if number % 5 == 0 and restless:
                index = chance.randrange(len(restless))
                restless[index].transport.abort() if number % 2 else restless[
                    index
                ].transport.close()
                restless[index] = await self.join(port, CROWD * 9 // 10 + index)
            if number % (LINES * 5) == 0:
                sizes.append(server.rss())
            await asyncio.sleep(1 / LINES)
        await self.until(
            lambda: all(len(m.numbers) >= number for m in stable), "all lines everywhere", 60
        )
        for member in stable:
            self.assertEqual(sorted(member.numbers), list(range(number)), member.name)
            self.assertFalse(member.lost.done(), member.name)
        one_order = stable[0].numbers
        for member in stable:
            self.assertEqual(member.numbers, one_order, member.name)
        if len(sizes) >= 6:
            early, late = max(sizes[: len(sizes) // 3]), sizes[-1]
            self.assertLess(late, early * 1.15 + (4 << 20), f"resident bytes over time: {sizes}")
        self.assertNotIn("Traceback", server.output)
        for member in (*stable, *restless):
            member.transport.close()
        self.assertEqual(await asyncio.to_thread(server.stop, 30), 0, server.output[-4000:])
        self.clean(server)
        print(
            f"{len(members)} clients, {number} lines, {number * len(stable)} deliveries; MiB: {[s >> 20 for s in sizes]}"
        )


if __name__ == "__main__":
    unittest.main()
