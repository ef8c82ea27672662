"""Thrift and protobuf classes as message types, with Debian's own libraries. Needs the CPython that they are built for."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import unittest

from harness import Case, python_version

sys.path.insert(0, "/usr/lib/python3/dist-packages")
SYSTEM = "/usr/lib/python3/dist-packages"

THRIFT = """
struct Inner { 1: i32 number }
struct Move { 1: string who, 2: list<i32> where, 3: map<string, Inner> more, 4: optional double speed }
"""
PROTO = """
syntax = "proto3";
message Move { string who = 1; repeated int32 where = 2; }
"""
SCENE = """
import sys
sys.path.append(%r)
sys.path.append(%r)
import ffext
from %s import Move

@ffext.session_call(1, Move)
def move(session_id, msg):
    ffext.send_msg_session(session_id, 2, [type(msg).__name__, msg.who, list(msg.where)])
    msg.who = 'echo ' + msg.who
    ffext.send_msg_session(session_id, 3, msg)
    other = Move()
    ffext.decode_buff(other, %s)
    ffext.send_msg_session(session_id, 4, other.who)

@ffext.session_call(5, 'raw')
def alive(session_id, body):
    ffext.send_msg_session(session_id, 5, body)

@ffext.session_verify_callback(protocol=Move)
def verify(key, online_time, ip, gate):
    return [key.who]

@ffext.reg_service(7, Move)
def service(msg):
    return {'who': msg.who}
"""


def works_here() -> str:
    """Why not, or ''. The libraries' C parts exist for Debian's CPython only; thrift is pure Python below that."""
    if python_version() and python_version()[:2] != sys.version_info[:2]:
        return f"Debian's python3-protobuf is for {sys.version_info[0]}.{sys.version_info[1]}, the server embeds {python_version()}"
    return ""


class Serial(Case):
    def generated(self, *command: str) -> None:
        subprocess.run(command, cwd=self.folder, check=True, capture_output=True, timeout=60)

    @unittest.skipUnless(shutil.which("thrift"), "no thrift compiler (Debian: thrift-compiler)")
    async def test_thrift(self) -> None:
        try:
            import thrift  # noqa: F401
            from thrift.protocol.TBinaryProtocol import TBinaryProtocol
            from thrift.transport.TTransport import TMemoryBuffer
        except ImportError as error:
            self.skipTest(f"python3-thrift: {error}")
        self.write("game.thrift", THRIFT)
        self.generated("thrift", "--gen", "py", "game.thrift")
        sys.path.insert(0, str(self.folder / "gen-py"))
        self.addCleanup(sys.path.remove, str(self.folder / "gen-py"))
        from game.ttypes import Move  # type: ignore[import-not-found]

        def encode(value: object) -> bytes:
            buffer = TMemoryBuffer()
            value.write(TBinaryProtocol(buffer))  # type: ignore[attr-defined]
            return bytes(buffer.getvalue())

        def decode(data: bytes) -> object:
            value = Move()
            value.read(TBinaryProtocol(TMemoryBuffer(data)))
            return value

        script = SCENE % (
            str(self.folder / "gen-py"),
            SYSTEM,
            "game.ttypes",
            "__import__('thrift.TSerialization').TSerialization.serialize(msg)",
        )
        server, port = self.scene(script)
        client = await self.client(port, encode(Move(who="alice")))
        await client.send(1, encode(Move(who="ä", where=[1, -2], speed=1.5)))
        self.assertEqual(
            (await self.expect(client, re.compile(""), cmd=2)).json(), ["Move", "ä", [1, -2]]
        )
        back = decode((await self.expect(client, lambda m: True, cmd=3)).body)
        self.assertEqual((back.who, back.where, back.speed), ("echo ä", [1, -2], 1.5))  # type: ignore[attr-defined]
        self.assertEqual((await self.expect(client, lambda m: True, cmd=4)).text, "echo ä")
        await self.garbage(client, server)

    @unittest.skipIf(works_here(), works_here())
    @unittest.skipUnless(shutil.which("protoc"), "no protoc (Debian: protobuf-compiler)")
    async def test_protobuf(self) -> None:
        try:
            import google.protobuf  # noqa: F401
        except ImportError as error:
            self.skipTest(f"python3-protobuf: {error}")
        self.write("game.proto", PROTO)
        self.generated("protoc", "--python_out=.", "game.proto")
        sys.path.insert(0, str(self.folder))
        self.addCleanup(sys.path.remove, str(self.folder))
        from game_pb2 import Move  # type: ignore[import-not-found]

        script = SCENE % (str(self.folder), SYSTEM, "game_pb2", "msg.SerializeToString()")
        server, port = self.scene(script, scene="interpreter: main")
        client = await self.client(port, Move(who="alice").SerializeToString())
        await client.send(1, Move(who="ä", where=[1, -2]).SerializeToString())
        self.assertEqual(
            (await self.expect(client, re.compile(""), cmd=2)).json(), ["Move", "ä", [1, -2]]
        )
        back = Move.FromString((await self.expect(client, lambda m: True, cmd=3)).body)
        self.assertEqual((back.who, list(back.where)), ("echo ä", [1, -2]))
        self.assertEqual((await self.expect(client, lambda m: True, cmd=4)).text, "echo ä")
        await self.garbage(client, server)

    async def garbage(self, client, server) -> None:  # type: ignore[no-untyped-def]
        for body in (b"", b"\xff" * 7, b"\x0b\x00\x01\x7f\xff\xff\xff", bytes(range(256))):
            await client.send(1, body)
        await client.send(5, b"alive")
        await self.expect(client, "alive", cmd=5)


if __name__ == "__main__":
    unittest.main()
