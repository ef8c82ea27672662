"""The Python client against a small server of the test's own, and the dumps of net/PROTOCOL.md against its encoder."""

from __future__ import annotations

import asyncio
import pathlib
import re
import struct
import sys
import unittest
from collections.abc import Awaitable, Callable

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "python"))

from redrabbit import client as rr  # noqa: E402

PATIENT = 60.0  # seconds: only what fails waits so long
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class ProtocolDocument(unittest.TestCase):
    """Every ```hex block says in its first line what it holds."""

    BLOCK = re.compile(r"^```hex (.*)\n((?:[0-9a-f ]+\n)+)```$", re.M)

    def encode(self, line: str) -> bytes:
        kind, _, rest = line.partition(" ")
        if kind == "raw":
            return rest.replace("\\0", "\0").encode()
        out = b""
        for part in rest.split(" | "):
            field = dict(item.split("=", 1) for item in part.split(" "))
            mask = bytes.fromhex(field["mask"]) if "mask" in field else None
            if kind == "ws-close":
                payload = struct.pack(">H", int(field["code"])) + field["reason"].encode()
                out += rr.encode_websocket(rr.OP_CLOSE, payload, mask)
                continue
            cmd, body = int(field["cmd"]), field["body"].encode()
            if kind == "tcp-little":
                out += rr.encode_frame(cmd, body, "little")
            elif kind == "tcp-big":
                out += rr.encode_frame(cmd, body, "big")
            elif kind == "ws-text":
                out += rr.encode_websocket(rr.OP_TEXT, rr.encode_text(cmd, body), mask)
            else:
                self.assertEqual(kind, "ws-binary")
                out += rr.encode_websocket(rr.OP_BINARY, rr.encode_frame(cmd, body), mask)
        return out

    def test_dumps(self) -> None:
        blocks = self.BLOCK.findall((ROOT / "net" / "PROTOCOL.md").read_text(encoding="utf-8"))
        self.assertGreaterEqual(len(blocks), 10)
        for line, dump in blocks:
            with self.subTest(line):
                self.assertEqual(
                    bytes.fromhex(dump.replace("\n", " ")).hex(" "), self.encode(line).hex(" ")
                )

    def test_close_codes(self) -> None:
        text = (ROOT / "net" / "PROTOCOL.md").read_text(encoding="utf-8")
        script = (ROOT / "net" / "www" / "redrabbit.js").read_text(encoding="utf-8")
        for code, again in re.findall(r"^\| (\d{4}) \|.*\| (yes|no)\b.*\|$", text, re.M):
            self.assertIn(int(code), rr.REASONS)
            self.assertEqual(int(code) in rr.FINAL, again == "no", code)
            self.assertIn(f"{code}: ", script)
        final = re.search(r"FINAL = new Set\(\[([\d, ]+)\]\)", script)
        assert final
        self.assertEqual({int(code) for code in final[1].split(",")}, set(rr.FINAL))


class Codec(unittest.TestCase):
    def test_text_first_line(self) -> None:
        for payload, cmd, body in [
            (b"cmd:7\nx", 7, b"x"),
            (b"cmd:65535\n", 65535, b""),
            (b"cmd:65536\nx", 0, b"cmd:65536\nx"),
            (b"cmd:\nx", 0, b"cmd:\nx"),
            (b"cmd:-1\nx", 0, b"cmd:-1\nx"),
            (b"plain", 0, b"plain"),
        ]:
            message = rr.decode_text(payload)
            self.assertEqual((message.cmd, message.body), (cmd, body), payload)

    def test_binary_frame_must_agree_with_its_size(self) -> None:
        with self.assertRaises(rr.ProtocolError):
            rr.decode_binary(rr.encode_frame(1, b"abc") + b"d", "little")
        with self.assertRaises(rr.ProtocolError):
            rr.decode_binary(b"1234567", "little")

    def test_bodies(self) -> None:
        self.assertEqual(rr.encode_body("ä"), "ä".encode())
        self.assertEqual(rr.encode_body(memoryview(b"\xff")), b"\xff")
        self.assertEqual(rr.encode_body(["ä", 1]), '["ä",1]'.encode())
        self.assertRaises(ValueError, rr.encode_body, float("nan"))
        self.assertRaises(ValueError, rr.encode_frame, 65536, b"")
        self.assertRaises(ValueError, rr.encode_text, -1, b"")

    def test_mask(self) -> None:
        for size in (0, 1, 3, 4, 5, 1000):
            payload = bytes(range(256)) * 4
            masked = rr.apply_mask(payload[:size], b"\x01\x02\x03\x04")
            self.assertEqual(masked, bytes(b ^ (i % 4 + 1) for i, b in enumerate(payload[:size])))

    def test_bad_urls(self) -> None:
        for url in ("127.0.0.1:80", "tcp://127.0.0.1", "http://127.0.0.1:80/", "ws:///x"):
            self.assertRaises(ValueError, rr.Client, url)


class Loopback(unittest.IsolatedAsyncioTestCase):
    async def serve(self, handler: Serve) -> int:
        async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await handler(reader, writer)
            except (asyncio.IncompleteReadError, ConnectionError):
                pass
            finally:
                writer.close()

        server = await asyncio.start_server(run, "127.0.0.1", 0)
        self.addCleanup(server.close)
        return int(server.sockets[0].getsockname()[1])

    @staticmethod
    async def upgrade(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, extra: str = ""
    ) -> str:
        request = (await reader.readuntil(b"\r\n\r\n")).decode()
        key = re.search(r"Sec-WebSocket-Key: (\S+)", request)
        assert key
        import base64
        import hashlib

        digest = hashlib.sha1(key[1].encode() + rr.WEBSOCKET_GUID).digest()
        accept = base64.b64encode(digest).decode()
        writer.write(
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
            f"sec-websocket-accept: {accept}\r\n{extra}\r\n".encode()
        )
        return request

    @staticmethod
    async def frame(reader: asyncio.StreamReader) -> tuple[int, bytes]:
        first, second = await reader.readexactly(2)
        assert second & 0x80, "a client's frame must be masked"
        size = second & 0x7F
        if size == 126:
            (size,) = struct.unpack(">H", await reader.readexactly(2))
        elif size == 127:
            (size,) = struct.unpack(">Q", await reader.readexactly(8))
        mask = await reader.readexactly(4)
        return first & 0x0F, rr.apply_mask(await reader.readexactly(size), mask)

    async def test_tcp_both_byte_orders(self) -> None:
        for order in ("little", "big"):

            async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                while True:
                    head = await reader.readexactly(8)
                    size, cmd, flag = struct.unpack("<IHH" if order == "little" else ">IHH", head)
                    self.assertEqual(flag, 0)
                    writer.write(head + await reader.readexactly(size))

            port = await self.serve(echo)
            async with rr.Client(f"tcp://127.0.0.1:{port}", byteorder=order) as client:  # type: ignore
                await client.login("alice")
                await client.send(7, {"a": [1]})
                await client.send(8, b"")
                self.assertEqual((await client.receive(PATIENT)).text, "alice")
                message = await client.receive(PATIENT)
                self.assertEqual((message.cmd, message.json()), (7, {"a": [1]}))
                self.assertEqual((await client.receive(PATIENT)).body, b"")

    async def test_websocket_kinds_ping_fragments_and_close(self) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self.upgrade(reader, writer)
            self.assertEqual(await self.frame(reader), (rr.OP_TEXT, b"cmd:0\nalice"))
            self.assertEqual(await self.frame(reader), (rr.OP_TEXT, b'cmd:1\n["hi"]'))
            self.assertEqual(await self.frame(reader), (rr.OP_BINARY, rr.encode_frame(2, b"\xff")))
            writer.write(rr.encode_websocket(rr.OP_TEXT, b"cmd:3\nab", None, fin=False))
            writer.write(rr.encode_websocket(rr.OP_PING, b"here?", None))
            writer.write(rr.encode_websocket(rr.OP_CONTINUATION, b"cd", None))
            writer.write(rr.encode_websocket(rr.OP_BINARY, rr.encode_frame(4, b"x" * 70000), None))
            self.assertEqual(await self.frame(reader), (rr.OP_PONG, b"here?"))
            writer.write(
                rr.encode_websocket(rr.OP_CLOSE, struct.pack(">H", 4003) + b"kicked", None)
            )
            self.assertEqual(await self.frame(reader), (rr.OP_CLOSE, struct.pack(">H", 4003)))

        port = await self.serve(serve)
        async with rr.Client(f"ws://127.0.0.1:{port}/", key="alice") as client:
            await client.send(1, ["hi"])
            await client.send(2, b"\xff")
            message = await client.receive(PATIENT)
            self.assertEqual((message.cmd, message.text, message.binary), (3, "abcd", False))
            message = await client.receive(PATIENT)
            self.assertEqual((message.cmd, len(message.body), message.binary), (4, 70000, True))
            with self.assertRaises(rr.Closed) as caught:
                await client.receive(PATIENT)
            self.assertEqual((caught.exception.code, caught.exception.reason), (4003, "kicked"))
            with self.assertRaises(rr.Closed):
                await client.send(1, "too late")

    async def test_protocol_errors_of_the_server(self) -> None:
        for frame in (
            b"\x81\x81\0\0\0\0x",  # masked
            b"\xc1\x00",  # reserved bit
            b"\x83\x00",  # unknown opcode
            b"\x09\x00",  # fragmented control frame
            b"\x80\x00",  # continuation of nothing
            b"\x81\x7f" + b"\xff" * 8,  # 2^64 bytes
            rr.encode_websocket(rr.OP_BINARY, rr.encode_frame(1, b"x") + b"y", None),
        ):

            async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await self.upgrade(reader, writer)
                writer.write(frame)
                await reader.read()

            port = await self.serve(serve)
            async with rr.Client(f"ws://127.0.0.1:{port}/") as client:
                with self.subTest(frame=frame[:16]), self.assertRaises(rr.Closed) as caught:
                    await client.receive(PATIENT)
                self.assertEqual(caught.exception.code, 1002)

    async def test_upgrade_refused(self) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")

        port = await self.serve(serve)
        with self.assertRaisesRegex(rr.ProtocolError, "404"):
            await rr.Client(f"ws://127.0.0.1:{port}/").connect()

    async def test_subprotocol(self) -> None:
        requests: list[str] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            request = await self.upgrade(reader, writer, "sec-websocket-protocol: b\r\n")
            requests.append(request)
            await reader.read()

        port = await self.serve(serve)
        async with rr.Client(f"ws://127.0.0.1:{port}/", subprotocols=("a", "b")):
            pass
        self.assertIn("Sec-WebSocket-Protocol: a, b\r\n", requests[0])
        with self.assertRaisesRegex(rr.ProtocolError, "nobody offered"):
            await rr.Client(f"ws://127.0.0.1:{port}/", subprotocols=("c",)).connect()

    async def test_reconnect_logs_in_again(self) -> None:
        logins: list[bytes] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = await reader.readexactly(8)
            logins.append(await reader.readexactly(struct.unpack("<I", head[:4])[0]))
            writer.write(rr.encode_frame(1, b"%d" % len(logins)))
            if len(logins) == 3:
                await reader.read()

        port = await self.serve(serve)
        client = rr.Client(
            f"tcp://127.0.0.1:{port}", key="bot", reconnect=True, backoff=(0.01, 0.05)
        )
        states: list[str] = []
        done = asyncio.Event()
        client.on_state(states.append)

        @client.on(1)
        async def one(message: rr.Message) -> None:
            if message.text == "3":
                done.set()

        async with asyncio.timeout(PATIENT):
            running = asyncio.create_task(client.run())
            await done.wait()
            await client.close()
            await running
        self.assertEqual(logins, [b"bot"] * 3)
        self.assertEqual(states, ["connecting", "online", "offline"] * 3)

    async def test_a_final_reason_ends_the_reconnecting(self) -> None:
        connects = 0

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal connects
            connects += 1
            await self.upgrade(reader, writer)
            await self.frame(reader)
            writer.write(rr.encode_websocket(rr.OP_CLOSE, struct.pack(">H", 4001), None))
            await self.frame(reader)

        port = await self.serve(serve)
        client = rr.Client(f"ws://127.0.0.1:{port}/", key="x", reconnect=True, backoff=(0.01, 0.05))
        async with asyncio.timeout(PATIENT):
            await client.run()
            closed = await client.wait_closed()
        self.assertEqual((closed.code, closed.reason, connects), (4001, "replaced", 1))

    async def test_a_handlers_exception_ends_run(self) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(rr.encode_frame(1, b""))
            await reader.read()

        client = rr.Client(f"tcp://127.0.0.1:{await self.serve(serve)}", reconnect=True)

        @client.on(1)
        def one(message: rr.Message) -> None:
            raise ZeroDivisionError

        async with asyncio.timeout(PATIENT):
            with self.assertRaises(ZeroDivisionError):
                await client.run()

    async def test_a_full_inbox_pauses_reading(self) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            for number in range(100):
                writer.write(rr.encode_frame(1, b"%d" % number))
            await writer.drain()

        port = await self.serve(serve)
        async with rr.Client(f"tcp://127.0.0.1:{port}", queue=3) as client:
            self.assertEqual(
                [int((await client.receive(PATIENT)).body) for _ in range(100)], list(range(100))
            )
            with self.assertRaises(rr.Closed):
                await client.receive(PATIENT)

    async def test_receive_times_out(self) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()

        async with rr.Client(f"tcp://127.0.0.1:{await self.serve(serve)}") as client:
            with self.assertRaises(TimeoutError):
                await client.receive(0.01)


if __name__ == "__main__":
    unittest.main()
