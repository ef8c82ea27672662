"""The gate's port: framing, WebSocket, policy request, HTTP, and clients that mean no good (net/PROTOCOL.md)."""

from __future__ import annotations

import asyncio
import os
import re
import struct
import time
import unittest

from harness import PATIENT, SANITIZE, Case, Client, Closed, Server, chunks, encode_frame, free_port, linger_reset
from redrabbit.client import (
    OP_BINARY,
    OP_CLOSE,
    OP_CONTINUATION,
    OP_PING,
    OP_PONG,
    OP_TEXT,
    encode_text,
    encode_websocket,
)

SHORT = 6 if SANITIZE else 3  # seconds: a time-out that is waited for, and that who does right on a busy machine must not reach

ECHO = """
import ffext

@ffext.session_call(1, 'raw')
def echo(session_id, body):
    ffext.send_msg_session(session_id, 1, body)

@ffext.session_call(2, 'raw')
def fill(session_id, body):
    for _ in range(200):
        ffext.send_msg_session(session_id, 2, b'x' * 100000)

@ffext.session_call(3, 'raw')
def binary(session_id, body):
    ffext.send_msg_session(session_id, 3, b'\\xff\\xfe')

@ffext.session_call(4, 'raw')
def everybody(session_id, body):
    ffext.broadcast_msg_session(4, body)

@ffext.session_offline_callback
def offline(session_id, online_time, reason):
    print('OFFLINE', session_id, reason)
"""
MASK = b"\x37\xfa\x21\x3d"
LOGIN = encode_frame(0, b"raw")


def request(
    path: str = "/",
    key: str = "dGhlIHNhbXBsZSBub25jZQ==",
    extra: str = "",
    upgrade: str = "websocket",
) -> bytes:
    return (
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: {upgrade}\r\nConnection: keep-alive, Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n{extra}\r\n"
    ).encode()


async def frame(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """The server's next WebSocket frame (opcode, payload)."""
    async with asyncio.timeout(PATIENT):
        first, second = await reader.readexactly(2)
        assert not second & 0x80, "a server's frame must not be masked"
        size = second & 0x7F
        if size == 126:
            (size,) = struct.unpack(">H", await reader.readexactly(2))
        elif size == 127:
            (size,) = struct.unpack(">Q", await reader.readexactly(8))
        return first & 0x0F, await reader.readexactly(size)


class WireCase(Case):
    async def alive(self, port: int) -> None:
        """Somebody else is still served."""
        end = time.monotonic() + PATIENT
        while True:  # where the time for a login is short, that of a busy machine's client may come too late
            try:
                client = await self.client(port, f"alive-{os.urandom(4).hex()}")
                await client.send(1, b"ping")
                self.assertEqual((await client.receive(PATIENT)).text, "ping")
                return await client.close()
            except (OSError, Closed):
                self.assertLess(time.monotonic(), end, "nobody is let in")

    async def upgraded(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, login: str = "raw"
    ) -> None:
        writer.write(request())
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENT)
        self.assertTrue(head.startswith(b"HTTP/1.1 101"), head)
        writer.write(encode_websocket(OP_TEXT, f"cmd:0\n{login}".encode(), MASK))

    async def closed_count(self, port: int, reason: str) -> float:
        """How many clients were closed for that reason, whatever the other labels."""
        found = [
            value
            for name, value in (await self.metrics(port)).items()
            if "close" in name and f'reason="{reason}"' in name
        ]
        return sum(found)


class Tcp(WireCase):
    async def test_any_cut_of_the_stream(self) -> None:
        _, port = self.scene(ECHO)
        bodies = [b"", b"a", b"\0" * 9, bytes(range(256)), b"GET / HTTP/1.1", b"x" * 70000]
        stream = LOGIN + b"".join(encode_frame(1, body) for body in bodies)
        want = b"".join(encode_frame(1, body) for body in bodies)
        for size in (1, 3, 7, 4096, len(stream)):
            async with self.raw(port) as (reader, writer):
                data = stream if size > 8 else stream[:600]
                for chunk in chunks(data, size):
                    writer.write(chunk)
                    if size <= 8:
                        await writer.drain()
                        await asyncio.sleep(0)
                if size <= 8:
                    writer.write(stream[600:])
                got = await asyncio.wait_for(reader.readexactly(len(want)), PATIENT)
                self.assertEqual(got, want)

    async def test_flag_is_ignored_in_and_zero_out(self) -> None:
        _, port = self.scene(ECHO)
        async with self.raw(port) as (reader, writer):
            writer.write(LOGIN + struct.pack("<IHH", 2, 1, 0xBEEF) + b"hi")
            self.assertEqual(
                await asyncio.wait_for(reader.readexactly(10), PATIENT), encode_frame(1, b"hi")
            )

    async def test_network_byte_order(self) -> None:
        _, port = self.scene(ECHO, gate="byte_order: network")
        client = await self.client(port, "big", byteorder="big")
        await client.send(1, b"hello")
        await self.expect(client, "hello", cmd=1)
        web = await self.client(port, "web", "ws", byteorder="big", binary=True)
        await web.send(1, b"hello")
        await self.expect(web, "hello", cmd=1)

    async def test_byte_order_of_one_listener(self) -> None:
        for all_of_them, other in (("little", "network"), ("network", "little")):
            ports = [free_port(), free_port()]
            plain, own = f"tcp://127.0.0.1:{ports[0]}", f"tcp://127.0.0.1:{ports[1]}"
            self.write("scene.py", ECHO)
            self.write(
                "graph.yaml",
                "actors:\n  gate@0:\n    role: gate\n"
                f"    listen: [{plain}, '{own}?byte_order={other}']\n"
                f"    byte_order: {all_of_them}\n"
                "  scene@0: { role: scene, script: scene.py }\n",
            )
            server = self.start("graph.yaml")
            orders = ("little", "big") if other == "network" else ("big", "little")
            clients = [
                await self.client(port, order, byteorder=order)
                for port, order in zip(ports, orders)
            ]
            for client, order in zip(clients, orders):
                await client.send(1, order)
                await self.expect(client, order, cmd=1)
            await clients[0].send(4, "to all")
            for client in clients:
                await self.expect(client, "to all", cmd=4)
            await asyncio.to_thread(server.stop)

    async def test_login_that_looks_like_http_in_its_body(self) -> None:
        _, port = self.scene(ECHO)
        client = await self.client(port, "GET / HTTP/1.1")
        await client.send(1, b"x")
        await self.expect(client, "x")

    async def test_first_message_is_the_login_whatever_its_cmd(self) -> None:
        _, port = self.scene(ECHO)
        client = await self.client(port)
        await client.send(1, b"someone")
        await client.send(1, b"second")
        self.assertEqual((await client.receive(PATIENT)).text, "second")

    async def test_too_big_is_closed_and_counted(self) -> None:
        server, port = self.scene(ECHO, gate="max_packet_size: 1000")
        client = await self.client(port, "big")
        await client.send(1, b"x" * 1000)
        await self.expect(client, "x" * 1000)
        await client.send(1, b"x" * 1001)
        await self.expect_closed(client)
        server.wait_line("OFFLINE big too_big|OFFLINE big too big")
        web = await self.client(port, "web", "ws")
        await web.send(1, "x" * 1000)
        await self.expect(web, "x" * 1000)
        await web.send(1, "x" * 2000)
        await self.expect_closed(web, 1009)
        self.assertEqual(await self.closed_count(port, "too_big"), 2)
        await self.alive(port)

    async def test_too_big_of_a_scene_is_said_and_counted(self) -> None:
        script = """
import ffext

@ffext.session_call(1)
def big(session_id, msg):
    ffext.send_msg_session(session_id, 1, 'x' * 1001)
    ffext.broadcast_msg_session(1, 'x' * 1001)
    ffext.send_msg_session(session_id, 1, 'after')
"""
        server, port = self.scene(script, gate="max_packet_size: 1000")
        client = await self.client(port, "big")
        await client.send(1, "[]")
        self.assertEqual((await client.receive(PATIENT)).text, "after")
        server.wait_line("WARN .*a message of 1001 bytes was not sent: max_packet_size is 1000")
        lost = [v for k, v in (await self.metrics(port)).items() if "dropped" in k and "gate" in k]
        self.assertEqual(sum(lost), 2)

    async def test_a_size_of_four_gigabytes(self) -> None:
        server, port = self.scene(ECHO)
        before = server.rss()
        for header in (
            b"\xff\xff\xff\xff\0\0\0\0",
            b"\xff\xff\xff\x7f\1\0\0\0",
            b"\0\0\0\x80\1\0\0\0",
        ):
            async with self.raw(port) as (reader, writer):
                writer.write(header + b"x" * 100)
                await self.read_to_end(reader)
            async with self.raw(port) as (reader, writer):
                writer.write(LOGIN + header)
                await self.read_to_end(reader)
        self.assertLess(server.rss() - before, 50 << 20)
        await self.alive(port)

    async def test_garbage(self) -> None:
        _, port = self.scene(ECHO, gate="login_timeout: 1s, frame_timeout: 1s")
        for seed in range(30):
            data = bytes((seed * 7 + i * i) % 256 for i in range(50 + seed * 40))
            async with self.raw(port) as (reader, writer):
                writer.write(data)
                await self.read_to_end(reader, 10)
        await self.alive(port)

    async def test_many_connections_that_vanish(self) -> None:
        server, port = self.scene(ECHO)
        for round in range(5):
            opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(50)]
            for number, (_, writer) in enumerate(opened):
                if number % 3:
                    writer.write(
                        LOGIN[: number % 9] if number % 2 else encode_frame(0, b"v%d" % number)
                    )
                linger_reset(writer) if number % 4 == 0 else writer.close()
        await self.alive(port)
        names = set(re.findall(r"OFFLINE (v\d+)", server.output))
        self.assertLessEqual(len(names), 50)


class Timeouts(WireCase):
    async def test_no_login(self) -> None:
        _, port = self.scene(ECHO, gate=f"login_timeout: {SHORT}s")
        async with self.raw(port) as (reader, _):
            self.assertEqual(await self.read_to_end(reader), b"")
        web = await self.client(port, kind="ws")
        await self.expect_closed(web, 4005)
        self.assertEqual(await self.closed_count(port, "login_timeout"), 2)
        await self.alive(port)

    async def test_slow_loris(self) -> None:
        """A byte now and then does not keep a half frame, or a half request, open for ever."""
        _, port = self.scene(ECHO, gate=f"login_timeout: {SHORT}s, frame_timeout: {SHORT}s")
        for first in (LOGIN[:6], request()[:40], LOGIN + encode_frame(1, b"x" * 1000)[:20]):
            async with self.raw(port) as (reader, writer):
                writer.write(first)
                ended = asyncio.create_task(self.read_to_end(reader, 8))
                while not ended.done():
                    with_reset = writer.is_closing()
                    if not with_reset:
                        writer.write(b"a")
                    await asyncio.sleep(0.2)
                await ended
        await self.alive(port)

    async def test_idle(self) -> None:
        server, port = self.scene(ECHO, gate=f"heartbeat_timeout: {2 * SHORT}s, heartbeat_cmd: 99")
        web = await self.client(port, "web", "ws")  # answers the gate's pings
        quiet = await self.client(port, "quiet")
        beating = await self.client(port, "beating")
        ended = asyncio.create_task(self.expect_closed(quiet))
        while not ended.done():
            await beating.send(99, b"")
            await asyncio.sleep(0.1)
        await ended
        server.wait_line("OFFLINE quiet idle")
        for client in (web, beating):
            await client.send(1, b"alive")
            await self.expect(client, "alive")
        self.assertNotIn("OFFLINE web", server.output)

    async def test_half_open_client(self) -> None:
        """One that shuts its sending side still gets what was on its way, then its session ends."""
        server, port = self.scene(ECHO)
        async with self.raw(port) as (reader, writer):
            writer.write(LOGIN + encode_frame(1, b"last words"))
            writer.write_eof()
            await self.read_to_end(reader)
        server.wait_line("OFFLINE raw")
        await self.alive(port)


class Limits(WireCase):
    async def test_rate(self) -> None:
        server, port = self.scene(ECHO, gate="rate: { messages: 20 }")
        async with self.raw(port) as (reader, writer):
            echo = encode_frame(1, b"x")
            writer.write(LOGIN + echo)
            self.assertEqual(await asyncio.wait_for(reader.readexactly(len(echo)), PATIENT), echo)
            writer.write(200 * echo)  # at once: faster than 20 a second on any machine
            await self.read_to_end(reader)
        server.wait_line("OFFLINE raw rate")
        self.assertEqual(await self.closed_count(port, "rate"), 1)
        await self.alive(port)

    async def test_slow_reader(self) -> None:
        server, port = self.scene(ECHO, gate="send_buffer: 1MiB")
        async with self.raw(port) as (reader, writer):
            writer.transport.pause_reading()
            writer.write(LOGIN + encode_frame(2, b""))
            await asyncio.to_thread(server.wait_line, "OFFLINE raw slow.reader")
            writer.transport.resume_reading()
            await self.read_to_end(reader)
        self.assertEqual(await self.closed_count(port, "slow_reader"), 1)
        await self.alive(port)

    async def test_login_queue(self) -> None:
        script = "import ffext\n@ffext.session_verify_callback\ndef v(k, t, ip, gate, cb_id):\n    return []\n"
        _, port = self.scene(script, gate="login_queue: { messages: 10 }")
        client = await self.client(port, "waiting", "ws")
        for _ in range(11):
            await client.send(1, "x")
        await self.expect_closed(client, 4007)

    async def test_connections_of_one_address(self) -> None:
        _, port = self.scene(ECHO, gate="max_per_ip: 3")
        clients = [await self.client(port, f"c{number}") for number in range(3)]
        for client in clients:
            await client.send(1, b"x")
            await self.expect(client, "x")
        async with self.raw(port) as (reader, writer):
            await self.read_to_end(reader)
        await clients[0].close()
        async with asyncio.timeout(PATIENT):
            while True:
                again = await self.client(port, "again")
                try:
                    await again.send(1, b"x")
                    await again.receive()
                    break
                except Exception:
                    await again.close()


class WebSocket(WireCase):
    async def test_answer_and_kinds(self) -> None:
        _, port = self.scene(ECHO)
        async with self.raw(port) as (reader, writer):
            writer.write(request("/any/path?x=1", upgrade="WebSocket"))
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            self.assertIn("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=", head)
            self.assertNotIn("sec-websocket-protocol", head)
            self.assertNotIn("sec-websocket-extensions", head)
            writer.write(encode_websocket(OP_TEXT, b"cmd:0\nalice", MASK))
            writer.write(encode_websocket(OP_TEXT, encode_text(1, "täxt".encode()), MASK))
            self.assertEqual(await frame(reader), (OP_TEXT, "cmd:1\ntäxt".encode()))
            writer.write(encode_websocket(OP_BINARY, encode_frame(1, b"text"), MASK))
            self.assertEqual(await frame(reader), (OP_BINARY, encode_frame(1, b"text")))
            writer.write(encode_websocket(OP_TEXT, encode_text(3, b""), MASK))
            self.assertEqual(await frame(reader), (OP_BINARY, encode_frame(3, b"\xff\xfe")))
            writer.write(encode_websocket(OP_TEXT, encode_text(1, b"back"), MASK))
            self.assertEqual(await frame(reader), (OP_TEXT, b"cmd:1\nback"))

    async def test_lower_case_headers_and_pipelined_login(self) -> None:
        _, port = self.scene(ECHO)
        async with self.raw(port) as (reader, writer):
            writer.write(request().lower().replace(b"get / http/1.1", b"GET / HTTP/1.1").replace(
                b"dghlihnhbxbszsbub25jzq==", b"dGhlIHNhbXBsZSBub25jZQ=="
            ) + encode_websocket(OP_TEXT, b"alice", MASK) + encode_websocket(OP_TEXT, b"cmd:1\nhi", MASK))  # fmt: skip
            head = await reader.readuntil(b"\r\n\r\n")
            self.assertTrue(head.startswith(b"HTTP/1.1 101"), head)
            self.assertEqual(await frame(reader), (OP_TEXT, b"cmd:1\nhi"))

    async def test_fragments_ping_and_sizes(self) -> None:
        _, port = self.scene(ECHO)
        async with self.raw(port) as (reader, writer):
            await self.upgraded(reader, writer)
            writer.write(encode_websocket(OP_TEXT, b"cmd:", MASK, fin=False))
            writer.write(encode_websocket(OP_PING, b"payload", MASK))
            writer.write(encode_websocket(OP_CONTINUATION, b"1\n\xc3", MASK, fin=False))
            writer.write(encode_websocket(OP_CONTINUATION, b"\xa4", MASK))
            self.assertEqual(await frame(reader), (OP_PONG, b"payload"))
            self.assertEqual(await frame(reader), (OP_TEXT, "cmd:1\nä".encode()))
            for size in (0, 119, 120, 125, 126, 65000, 65535, 65536, 200000):
                body = b"y" * size
                writer.write(encode_websocket(OP_TEXT, encode_text(1, body), MASK))
                self.assertEqual(await frame(reader), (OP_TEXT, b"cmd:1\n" + body))
            writer.write(encode_websocket(OP_PONG, b"unasked", MASK))
            writer.write(encode_websocket(OP_CLOSE, struct.pack(">H", 1000), MASK))
            opcode, payload = await frame(reader)
            self.assertEqual((opcode, payload[:2]), (OP_CLOSE, struct.pack(">H", 1000)))
            self.assertEqual(await self.read_to_end(reader), b"")

    async def test_first_line(self) -> None:
        """A text without a proper first line is cmd 0, the whole of it."""
        script = "import ffext\n@ffext.session_call(0, 'raw')\ndef zero(s, b):\n    ffext.send_msg_session(s, 0, b)\n"
        _, port = self.scene(script)
        async with self.raw(port) as (reader, writer):
            await self.upgraded(reader, writer)
            for text in (
                b"plain",
                b"cmd:x\nbody",
                b"cmd:65536\nbody",
                b"cmd:\n",
                b"cmd:-1\n",
                b"cmd:1",
            ):
                writer.write(encode_websocket(OP_TEXT, text, MASK))
                self.assertEqual(await frame(reader), (OP_TEXT, b"cmd:0\n" + text))

    async def test_violations(self) -> None:
        _, port = self.scene(ECHO)
        cases: list[tuple[int, bytes]] = [
            (1002, encode_websocket(OP_TEXT, b"cmd:1\nx", None)),  # unmasked
            (1002, b"\xc1\x80" + MASK),  # reserved bit
            (1002, b"\x83\x80" + MASK),  # unknown opcode
            (1002, b"\x09\x80" + MASK),  # fragmented ping
            (1002, encode_websocket(OP_CONTINUATION, b"x", MASK)),
            (
                1002,
                encode_websocket(OP_TEXT, b"a", MASK, fin=False)
                + encode_websocket(OP_TEXT, b"b", MASK),
            ),
            (1002, b"\x89\xfe\x00\x7e" + MASK + b"x" * 126),  # a ping of 126 bytes
            (1007, encode_websocket(OP_TEXT, b"cmd:1\n\xff", MASK)),
            (1007, encode_websocket(OP_TEXT, b"cmd:1\n\xed\xa0\x80", MASK)),  # a surrogate
            (1002, encode_websocket(OP_BINARY, encode_frame(1, b"x") + b"y", MASK)),
            (1002, encode_websocket(OP_BINARY, b"1234567", MASK)),
            (1009, b"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff" + MASK),
            (1009, b"\x81\xff\x00\x00\x00\x01\x00\x00\x00\x00" + MASK),
            (1002, encode_websocket(OP_CLOSE, b"\x03", MASK)),  # half a code
            (
                1002,
                encode_websocket(OP_CLOSE, struct.pack(">H", 1005), MASK),
            ),  # a code that must not be sent
        ]
        for code, data in cases:
            with self.subTest(data=data[:16]):
                async with self.raw(port) as (reader, writer):
                    await self.upgraded(reader, writer)
                    writer.write(data)
                    opcode, payload = await frame(reader)
                    self.assertEqual(opcode, OP_CLOSE)
                    self.assertEqual(struct.unpack(">H", payload[:2])[0], code)
                    await self.read_to_end(reader)
        await self.alive(port)

    async def test_the_46_byte_frame(self) -> None:
        """A 64-bit length with the top bit set (it once overflowed an int)."""
        server, port = self.scene(ECHO)
        for length in (1 << 63, (1 << 64) - 1, 0xFFFFFFFF, 0x7FFFFFFF):
            async with self.raw(port) as (reader, writer):
                await self.upgraded(reader, writer)
                writer.write(b"\x82\xff" + struct.pack(">Q", length) + MASK + b"z" * 32)
                self.assertEqual((await frame(reader))[0], OP_CLOSE)
                await self.read_to_end(reader)
        await self.alive(port)

    async def test_bad_upgrades(self) -> None:
        _, port = self.scene(ECHO)
        for data, status in [
            (request().replace(b"Version: 13", b"Version: 8"), b"426"),
            (request(key="short"), b"400"),
            (request().replace(b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", b""), b"400"),
        ]:
            async with self.raw(port) as (reader, writer):
                writer.write(data)
                answer = (
                    await self.read_to_end(reader)
                    if status == b"400"
                    else await reader.readuntil(b"\r\n\r\n")
                )
                self.assertRegex(answer, rb"^HTTP/1\.1 (4\d\d) ")
        await self.alive(port)

    async def test_subprotocol(self) -> None:
        _, port = self.scene(ECHO, gate="subprotocols: [chat.v2, chat.v1]")
        client = Client(f"ws://127.0.0.1:{port}/", subprotocols=("other", "chat.v1"))
        self.addAsyncCleanup(client.close)
        await client.connect()
        assert client._wire
        self.assertEqual(getattr(client._wire, "subprotocol"), "chat.v1")

    async def test_ipv6_and_several_listeners(self) -> None:
        import socket

        port = free_port()
        six = free_port(socket.AF_INET6)
        web = free_port()
        self.write("scene.py", ECHO)
        self.write(
            "graph.yaml",
            f"""
actors:
  gate@0: {{ role: gate, listen: ["tcp://127.0.0.1:{port}", "tcp://[::1]:{six}", "ws://127.0.0.1:{web}"] }}
  scene@0: {{ role: scene, script: scene.py }}
""",
        )
        self.start("graph.yaml")
        for url in (
            f"tcp://127.0.0.1:{port}",
            f"tcp://[::1]:{six}",
            f"ws://[::1]:{six}/",
            f"ws://127.0.0.1:{web}/",
        ):
            async with Client(url, key=url) as client:
                await client.send(1, "x")
                await self.expect(client, "x")
        async with self.raw(web) as (reader, writer):
            writer.write(LOGIN + encode_frame(1, b"x"))
            self.assertNotIn(b"\1\0\0\0\1\0\0\0x", await self.read_to_end(reader))


class Policy(WireCase):
    async def test_policy_request(self) -> None:
        _, port = self.scene(ECHO)
        for cut in (23, 5, 22):
            async with self.raw(port) as (reader, writer):
                writer.write(b"<policy-file-request/>\0"[:cut])
                await writer.drain()
                writer.write(b"<policy-file-request/>\0"[cut:])
                answer = await self.read_to_end(reader)
                self.assertTrue(answer.endswith(b"\0"))
                self.assertIn(b'<allow-access-from domain="*" to-ports="*"/>', answer)
        await self.alive(port)


class Http(WireCase):
    def page(self) -> tuple[Server, int]:
        self.write("www/index.html", "<h1>hello</h1>")
        self.write("www/sub/index.html", "sub")
        self.write("www/data.json", "{}")
        self.write("other/lib.js", "lib()")
        self.write("secret.txt", "secret")
        os.symlink(self.folder / "secret.txt", self.folder / "www" / "link.txt")
        return self.scene(ECHO, gate='www: { "/": www, "/lib": other }')

    async def test_static_files(self) -> None:
        _, port = self.page()
        status, headers, body = await self.http(port, "/")
        self.assertEqual((status, body), (200, b"<h1>hello</h1>"))
        self.assertIn("text/html", headers["content-type"])
        again, _, body = await self.http(port, "/", headers={"If-None-Match": headers["etag"]})
        self.assertEqual((again, body), (304, b""))
        for path, content, kind in [
            ("/index.html?x=1", b"<h1>hello</h1>", "text/html"),
            ("/sub/", b"sub", "text/html"),
            ("/data.json", b"{}", "application/json"),
            ("/lib/lib.js", b"lib()", "javascript"),
        ]:
            status, headers, body = await self.http(port, path)
            self.assertEqual((status, body), (200, content), path)
            self.assertIn(kind, headers["content-type"])
        status, headers, body = await self.http(port, "/", method="HEAD")
        self.assertEqual((status, body, headers["content-length"]), (200, b"", "14"))
        status, _, body = await self.http(port, "/redrabbit.js")
        self.assertEqual(status, 200)
        self.assertIn(b"globalThis.RedRabbit", body)
        self.assertEqual((await self.http(port, "/none"))[0], 404)
        self.assertEqual((await self.http(port, "/editor/script?token="))[0], 404)

    async def test_no_way_out(self) -> None:
        _, port = self.page()
        paths = ["/../secret.txt", "/%2e%2e/secret.txt", "/..%2fsecret.txt", "/link.txt", "/sub/../../secret.txt",
                 "/lib/../secret.txt", "/lib/../../secret.txt", "//secret.txt", "/%00", "/index.html%00.txt", "/...",
                 "/\\..\\secret.txt", f"{self.folder}/secret.txt"]  # fmt: skip
        for path in paths:
            async with self.raw(port) as (reader, writer):
                writer.write(
                    f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
                )
                answer = await self.read_to_end(reader)
                self.assertRegex(answer, rb"^HTTP/1\.1 (400|404) ", path)
                self.assertNotIn(b"secret\n", answer)

    async def test_keep_alive_and_pipelining(self) -> None:
        _, port = self.page()
        async with self.raw(port) as (reader, writer):
            one = b"GET /data.json HTTP/1.1\r\nHost: x\r\n\r\n"
            writer.write(one * 3 + one.replace(b"Host: x\r\n", b"Host: x\r\nConnection: close\r\n"))
            answer = await self.read_to_end(reader)
        self.assertEqual(len(re.findall(rb"HTTP/1\.1 200 ", answer)), 4)

    async def test_limits(self) -> None:
        _, port = self.page()
        for data in (
            b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 100000 + b"\r\n\r\n",
            b"GET /" + b"a" * 100000 + b" HTTP/1.1\r\n\r\n",
            b"GET / NONSENSE\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
            b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 20000 + b"\r\n",
        ):
            async with self.raw(port) as (reader, writer):
                writer.write(data)
                answer = await self.read_to_end(reader)
                self.assertRegex(answer, rb"^(HTTP/1\.1 (4\d\d|50[15]) |$)", data[:40])
        await self.alive(port)

    async def test_metrics(self) -> None:
        _, port = self.scene(ECHO)
        client = await self.client(port, "alice")
        await client.send(1, b"x")
        await self.expect(client, "x")
        status, headers, body = await self.http(port, "/metrics")
        self.assertEqual(status, 200)
        self.assertTrue(headers["content-type"].startswith("text/plain"), headers)
        for line in body.decode().splitlines():
            self.assertRegex(
                line,
                r'^(#.*|[a-zA-Z_:][\w:]*(\{(\w+="(\\.|[^"\\])*",?)*\})? ([-+]?[\d.eE+-]+|NaN|[+-]Inf))$',
            )
        text = body.decode()
        self.assertIn("# TYPE", text)
        self.assertRegex(text, r"(?m)^rr_\w*sessions?\w*\{.*gate@0.*\} 1$")

    async def test_metrics_off(self) -> None:
        _, port = self.scene(ECHO, gate="metrics: false")
        self.assertEqual((await self.http(port, "/metrics"))[0], 404)


if __name__ == "__main__":
    unittest.main()
