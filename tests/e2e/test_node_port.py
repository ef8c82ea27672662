"""Strangers at the node port of a real process: garbage, old versions, wrong groups and keys, frames too large or out of order.
Each is refused with a line on either side that says why, counted, and hurts nobody else; nobody is retried at full speed."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import os
import socket
import struct
import subprocess
import threading
import time
import unittest
from typing import NamedTuple

from harness import BINARY, PATIENT, SLOW, Case, Server, free_port

HELLO, CHALLENGE, AUTH, WELCOME, REFUSE, HEARTBEAT, SEGMENT = 1, 2, 3, 4, 5, 6, 16
VERSION = 2
NO_NODE = "no bytes of a RedRabbit node"


def checked(type: int, dst: int, src: int, fields: bytes) -> bytes:
    """The body of a frame between end nodes."""
    check = 0
    for number in ((dst << 8 | type), src, *struct.unpack(f"<{len(fields) // 4}I", fields)):
        check = ((check ^ number) * 0x9E3779B97F4A7C15) % 2**64
        check ^= check >> 32
    return struct.pack("<HH", src, check >> 16 & 0xFFFF) + fields


class Frame(NamedTuple):
    type: int
    body: bytes

    @property
    def why(self) -> str:
        assert self.type == REFUSE, self
        return self.body[6:].decode()


def frame(type: int, body: bytes = b"", dst: int = 0) -> bytes:
    return struct.pack("<IBBH", len(body), type, 0, dst) + body


class Stranger:
    """Speaks net/NODES.md by hand."""

    def __init__(self, port: int, key: bytes = b"", group: str = "world", name: str = "stranger") -> None:
        self.port, self.key, self.group, self.name = port, key, group, name
        self.incarnation = int.from_bytes(os.urandom(8), "little") | 1
        self.node = 0

    async def connect(self) -> None:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()

    async def receive(self) -> Frame:
        async with asyncio.timeout(PATIENT):
            size, type, _, _ = struct.unpack("<IBBH", await self.reader.readexactly(8))
            return Frame(type, await self.reader.readexactly(size))

    async def refusal(self) -> str:
        """Reads up to the refusal, which must be the end."""
        while (got := await self.receive()).type != REFUSE:
            pass
        async with asyncio.timeout(PATIENT):
            with contextlib.suppress(ConnectionError):
                assert await self.reader.read() == b""
        await self.close()
        return got.why

    def hello(self, version: int = VERSION, join: bool = False) -> bytes:
        group, name = self.group.encode(), self.name.encode()
        return (
            struct.pack("<4sHHQQBBBB", b"RRND", version, 0 if join else self.node, self.incarnation, 0, 2 * join,
                        len(group), len(name), 0)
            + os.urandom(32) + bytes(6) + group + name
        )  # fmt: skip

    async def greet(self, join: bool) -> None:
        hello = self.hello(join=join)
        self.writer.write(frame(HELLO, hello))
        challenge = await self.receive()
        assert challenge.type == CHALLENGE, challenge
        said = b"d" + struct.pack("<HH", len(hello), len(challenge.body)) + hello + challenge.body + bytes(2)
        self.writer.write(frame(AUTH, hmac.new(self.key, said, hashlib.sha256).digest()))

    async def shake(self, join: bool) -> int:
        await self.greet(join)
        welcome = await self.receive()
        assert welcome.type == WELCOME, welcome
        return struct.unpack("<H", welcome.body[32:])[0]

    async def enter(self) -> None:
        """Becomes a node with an open connection."""
        await self.connect()
        self.node = await self.shake(join=True)
        await self.close()
        await self.connect()
        await self.shake(join=False)


class NodePort(Case):
    key = b""

    def setUp(self) -> None:
        super().setUp()
        self.node, self.gate = free_port(), free_port()
        top = ""
        if self.key:
            self.write("key", self.key.decode()).chmod(0o600)
            top = "cluster_key: key"
        self.write(
            "g.yaml",
            f"""group: world
{top}
cluster: {{ lease: 60s, margin: 500ms, heartbeat: 100ms, suspect: 10s, link_down: 20s }}
nodes:
  front: {{ address: "tcp://127.0.0.1:{self.node}" }}
  back: {{}}
actors:
  broker@0: {{ role: broker, node: front }}
  gate@0: {{ role: gate, node: front, listen: "tcp://127.0.0.1:{self.gate}" }}
  scene@0: {{ role: scene, node: back, logic: echo }}
""",
        )

    async def asyncSetUp(self) -> None:
        await super().asyncSetUp()
        self.front, self.back = (self.begin("g.yaml", "--node", node, "-broker_fresh", "true") for node in ("front", "back"))
        for server in (self.front, self.back):
            await asyncio.to_thread(server.ready)
        self.me = await self.client(self.gate, "me")
        self.said = 0
        self.before = await self.counters()

    async def counters(self) -> dict[str, float]:
        metrics = await self.metrics(self.gate)
        return {name: metrics[f"rr_mesh_{name}_total"] for name in ("refused_handshakes", "violations", "strangers_dropped")}

    async def nobody_is_hurt(self, **counted: int) -> None:
        """The link between the two nodes stands and carries, and what happened was counted."""
        for _ in range(3):
            self.said += 1
            await self.me.send(7, str(self.said))
            await self.expect(self.me, str(self.said), cmd=7)
        for server in (self.front, self.back):
            self.assertIsNone(server.process.poll())
            self.assertNotRegex(server.output, "link to (front|back) .*(down|silent)")
        now = await self.counters()
        self.assertEqual({name: now[name] - self.before[name] for name in counted}, counted)

    async def stranger(self, **options: str | bytes) -> Stranger:
        stranger = Stranger(self.node, **{"key": self.key, **options})  # type: ignore[arg-type]
        await stranger.connect()
        return stranger

    def told(self, pattern: str) -> None:
        self.front.wait_line(pattern, 5)


class Refused(NodePort):
    async def test_garbage(self) -> None:
        for data in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\xff" * 64, frame(HELLO, b"x" * 100), frame(HELLO)):
            stranger = await self.stranger()
            stranger.writer.write(data)
            self.assertIn(NO_NODE, await stranger.refusal())
        self.told(f"somebody at 127.0.0.1 is refused: .*{NO_NODE}.*a gate's port")
        await self.nobody_is_hurt(violations=4, refused_handshakes=4)

    async def test_another_version(self) -> None:
        for version in (0, VERSION + 1, 65535):
            stranger = await self.stranger()
            stranger.writer.write(frame(HELLO, stranger.hello(version)))
            why = await stranger.refusal()
            self.assertIn(f"versions of the node protocol differ, {version} and {VERSION}", why)
            self.assertIn("run the same redrabbit everywhere", why)
        self.told(f"versions of the node protocol differ, 65535 and {VERSION}")
        await self.nobody_is_hurt(violations=0, refused_handshakes=3)

    async def test_another_group(self) -> None:
        stranger = await self.stranger(group="planet")
        stranger.writer.write(frame(HELLO, stranger.hello(join=True)))
        self.assertRegex(await stranger.refusal(), "the groups differ, 'planet' and 'world': .*-group")
        self.told("the groups differ, 'planet' and 'world'")
        await self.nobody_is_hurt(violations=0, refused_handshakes=1)

    async def test_another_key(self) -> None:
        stranger = await self.stranger(key=b"not the key of this group")
        await stranger.greet(join=True)
        self.assertRegex(await stranger.refusal(), "the cluster keys differ: .*-cluster_key")
        self.told("node stranger .* is refused: the cluster keys differ")
        await self.nobody_is_hurt(violations=0, refused_handshakes=1)

    async def test_out_of_order_in_the_handshake(self) -> None:
        for type in (AUTH, WELCOME, CHALLENGE, HEARTBEAT, SEGMENT, 99):
            stranger = await self.stranger()
            stranger.writer.write(frame(type, bytes(32)))
            self.assertIn("out of order", await stranger.refusal())
        stranger = await self.stranger()
        stranger.writer.write(2 * frame(HELLO, stranger.hello(join=True)))
        self.assertIn("out of order", await stranger.refusal())
        await self.nobody_is_hurt(violations=7, refused_handshakes=7)

    async def test_oversized(self) -> None:
        stranger = await self.stranger()
        stranger.writer.write(struct.pack("<IBBH", 513, HELLO, 0, 0))
        self.assertIn(NO_NODE, await stranger.refusal())
        node = await self.node_inside()
        node.writer.write(struct.pack("<IBBH", (64 << 10) + 1, SEGMENT, 0, 1))
        self.assertIn("above 64 KiB", await node.refusal())
        self.told("node stranger .* is refused: a frame above 64 KiB")
        await self.nobody_is_hurt(violations=2, refused_handshakes=2)

    async def node_inside(self) -> Stranger:
        stranger = Stranger(self.node, self.key)
        await stranger.enter()
        return stranger

    async def test_a_node_that_breaks_the_protocol(self) -> None:
        """One that has the key: frames of the handshake, unknown ones, and those in another node's name."""
        other = checked(SEGMENT, 1, 2, struct.pack("<QQQ", 0, 1, 0))
        frames = (frame(HELLO, bytes(66)), frame(99, b"x"), frame(SEGMENT, b"", 1), frame(SEGMENT, other, 1))
        for number, data in enumerate(frames):
            node = Stranger(self.node, self.key, name=f"stranger{number}")
            await node.enter()
            node.writer.write(data)
            await node.refusal()
            self.told(f"node stranger{number} .* is refused: ")
        await self.nobody_is_hurt(violations=len(frames), refused_handshakes=len(frames))

    async def test_a_flood_is_counted_and_does_not_fill_the_log(self) -> None:
        async def one() -> None:
            stranger = await self.stranger()
            stranger.writer.write(b"x" * 600)
            await self.read_to_end(stranger.reader)
            await stranger.close()

        began = time.monotonic()
        for _ in range(20):
            await asyncio.gather(*(one() for _ in range(20)))
        await self.nobody_is_hurt(violations=400, refused_handshakes=400)
        windows = (time.monotonic() - began) // 10 + 2  # of 10 s: those that were begun
        self.assertLessEqual(self.front.output.count("is refused"), 10 * windows)

    async def test_silent_strangers_do_not_shut_others_out(self) -> None:
        silent = [await self.stranger() for _ in range(100)]
        await self.until_counted("strangers_dropped", 1)
        await self.nobody_is_hurt(violations=0)
        for stranger in silent:
            await self.read_to_end(stranger.reader, 20)  # the others' time is limited
            await stranger.close()
        last = Stranger(self.node, self.key)
        await last.enter()
        await last.close()

    async def until_counted(self, name: str, number: int) -> None:
        async with asyncio.timeout(PATIENT):
            while (await self.counters())[name] - self.before[name] < number:
                await asyncio.sleep(0.02)


class RefusedWithKey(Refused):
    key = b"0123456789abcdef0123456789abcdef"


class Listener:
    """Somebody else at the master's address: every connection is answered with the same bytes and closed."""

    def __init__(self, answer: bytes) -> None:
        self.answer, self.count = answer, 0
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def serve(self) -> None:
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            self.count += 1
            with connection, contextlib.suppress(OSError):
                connection.recv(4096)
                connection.sendall(self.answer)

    def close(self) -> None:
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        self.thread.join(5)


class Joining(Case):
    """The other way round: what a node does whose master is no master."""

    def join(self, answer: bytes, *more: str) -> tuple[Server, Listener]:
        listener = Listener(answer)
        self.addCleanup(listener.close)
        self.write(
            "g.yaml",
            f"""nodes: {{ front: {{ address: "tcp://127.0.0.1:{listener.port}" }}, back: {{}} }}
actors:
  broker@0: {{ role: broker, node: front }}
  scene@0: {{ role: scene, node: back, logic: echo }}
""",
        )
        return Server(["g.yaml", "--node", "back", *more], self.folder), listener

    def ended(self, server: Server) -> int:
        return server.over()

    def test_no_port_for_nodes(self) -> None:
        """Not tried again: it does not get better."""
        for answer in (b"HTTP/1.1 400 Bad Request\r\n\r\n" + bytes(600), b"\xff" * 64, frame(WELCOME, bytes(34))):
            server, listener = self.join(answer)
            self.assertEqual(self.ended(server), 1)
            self.assertIn("no port for nodes", server.output)
            self.assertEqual(listener.count, 1)

    def test_refusals_are_final(self) -> None:
        for code, why in ((-13, "the cluster keys differ"), (-1, "no")):
            server, listener = self.join(frame(REFUSE, struct.pack("<iH", code, 0) + why.encode()))
            self.assertEqual(self.ended(server), 1)
            self.assertIn(f"it refuses: {why}", server.output)
            self.assertEqual(listener.count, 1)

    @unittest.skipIf(subprocess.run(["unshare", "-n", "true"], capture_output=True).returncode, "no network namespaces")
    def test_a_network_that_is_not_there_yet(self) -> None:
        """Nobody answers what the master's address is: that may pass."""
        self.write("key", "0123456789abcdef").chmod(0o600)
        self.write(
            "g.yaml",
            """cluster_key: key
nodes: { front: { address: "tcp://center.invalid:7000" }, back: {} }
actors:
  broker@0: { role: broker, node: front }
  scene@0: { role: scene, node: back, logic: echo }
""",
        )
        line = ["unshare", "-n", str(BINARY), "g.yaml", "--node", "back", "-join_timeout", "1"]
        done = subprocess.run(line, cwd=self.folder, capture_output=True, text=True, timeout=30 * SLOW)
        self.assertEqual(done.returncode, 1, done)
        self.assertIn("waiting for the master of group default: cannot join", done.stdout)
        self.assertIn("name resolution", done.stderr)

    def test_closed_connections_are_tried_again_more_and_more_slowly(self) -> None:
        server, listener = self.join(b"", "-join_timeout", "6")
        began = time.monotonic()
        self.assertEqual(self.ended(server), 1)
        self.assertGreater(time.monotonic() - began, 1)
        self.assertIn("is this the port for nodes?", server.output)
        self.assertEqual(server.output.count("waiting for the master"), 1)
        self.assertIn(listener.count, range(3, 8))  # 100, 200, 400, 800, 1600, 3200 ms


if __name__ == "__main__":
    unittest.main()
