"""Two clients talk to a real server: python3 test_main.py"""

from __future__ import annotations

import asyncio
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import unittest

HERE = pathlib.Path(__file__).resolve().parent
PROGRAM = os.environ.get("REDRABBIT") or shutil.which("redrabbit") or "@PROGRAM@"
HOME = subprocess.run([PROGRAM, "--home"], capture_output=True, text=True, check=True).stdout.strip()
sys.path.insert(0, HOME + "/python")

from redrabbit.client import Client  # noqa: E402


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Talk(unittest.IsolatedAsyncioTestCase):
    def setUp(self) -> None:
        """The server, on a port of its own; it has said `redrabbit: ready` when this ends."""
        self.port = free_port()
        command = [PROGRAM, str(HERE / "graph.yaml"), "-gate_listen", f"tcp://127.0.0.1:{self.port}"]
        self.log = tempfile.TemporaryFile("w+")
        self.server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.log, text=True)
        assert self.server.stdout
        if not any(line == "redrabbit: ready\n" for line in self.server.stdout):
            self.log.seek(0)
            self.fail(f"the server did not start: {self.log.read()}")

    def tearDown(self) -> None:
        self.server.terminate()
        self.server.communicate(timeout=20)
        self.log.close()
        self.assertEqual(self.server.returncode, 0)

    async def line(self, client: Client) -> str:
        async with asyncio.timeout(10):
            return (await client.receive()).text

    async def test_two_clients_hear_each_other(self) -> None:
        address = f"127.0.0.1:{self.port}"
        async with Client(f"tcp://{address}") as ann, Client(f"ws://{address}/") as bob:
            await ann.login("ann")
            self.assertEqual(await self.line(ann), "welcome, ann")
            await bob.login("bob")
            self.assertEqual(await self.line(bob), "welcome, bob")
            await ann.send(1, ["hello"])
            self.assertEqual(await self.line(ann), "ann: hello")
            self.assertEqual(await self.line(bob), "ann: hello")


if __name__ == "__main__":
    unittest.main()
