"""A log whose disk is full: the server goes on serving, says so once on standard error, and logs again when there is room;
SIGHUP opens the file anew, also meanwhile. A screen that nobody reads. Texts of clients in a line."""

from __future__ import annotations

import asyncio
import ctypes
import os
import pathlib
import re
import resource
import signal
import subprocess
import unittest

from harness import BINARY, PATIENT, SLOW, Case, Client, Server, free_port

SCRIPT = """
import redrabbit

LINES = 50

@redrabbit.message(1)
def say(session, number):
    for _ in range(LINES):
        redrabbit.log.info(f"number {number}, and a text that fills the disk " + "x" * 100)
    session.send(1, number)
"""
LINES = 50  # of each message
FULL = "redrabbit: the log cannot be written to "
MISSING = r" ([0-9]+) lines before this one are lost"
MS_DETACH = 2


class Full(Case):
    async def begin_with(self, logs: pathlib.Path) -> tuple[Server, Client, pathlib.Path]:
        port = self.port = free_port()
        self.write("scene.py", SCRIPT)
        self.write(
            "g.yaml",
            f"""group: test
log: {{ path: "{logs}", to_file: true, screen: false }}
actors:
  gate@0: {{ role: gate, listen: "tcp://127.0.0.1:{port}" }}
  scene@0: {{ role: scene, script: scene.py }}
""",
        )
        server = self.start("g.yaml")
        return server, await self.client(port, "anna"), logs / "redrabbit.log"

    async def says(self, client: Client, number: int) -> None:
        await client.send(1, number)
        await self.expect(client, str(number))

    def whole(self, log: pathlib.Path) -> int:
        """Lines in the files of this log; a torn one is none."""
        texts = [file.read_text() for file in log.parent.glob("redrabbit.*")]
        return sum(line.endswith("the disk " + "x" * 100) for text in texts for line in text.splitlines())

    async def fill(self, server: Server, client: Client, log: pathlib.Path) -> int:
        """Until the server says so; then for a while longer. The clients notice nothing."""
        number = 0
        while FULL not in server.output:
            number += 1
            self.assertLess(number, 1000, "it never became full")
            await self.says(client, number)
        for _ in range(50):
            number += 1
            await self.says(client, number)
        self.assertEqual(server.output.count(FULL), 1, server.output)
        async with asyncio.timeout(PATIENT):  # lines still on their way would fill the room that comes
            while self.whole(log) + (await self.metrics(self.port))["rr_log_lost_total"] < number * LINES:
                await asyncio.sleep(0.02)
        return number

    async def reports(self, client: Client, log: pathlib.Path, number: int) -> None:
        """There is room: the next lines are there, whole, and how many are missing."""
        await self.says(client, number)
        await self.until(lambda: log.exists() and log.read_text().count(f" number {number},") == LINES, "the log to go on")
        lines = [line for file in log.parent.glob("redrabbit.*") for line in file.read_text().splitlines()]
        for i, line in enumerate(lines):
            self.assertRegex(line, r"^2[0-9]{3}-[0-9-]+ [0-9:.]+ [A-Z]+ +[A-Z]+ +", f"line {i} of {len(lines)}")
        missing = sum(int(match[1]) for line in lines if (match := re.search(MISSING, line)))
        self.assertGreater(missing, 0)
        self.assertEqual(self.whole(log) + missing, number * LINES)

    async def test_at_its_limit(self) -> None:
        server, client, log = await self.begin_with(self.folder / "log")
        soft, hard = resource.prlimit(server.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (99_999, hard))
        number = await self.fill(server, client, log)
        self.assertEqual(log.stat().st_size, 99_999)
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (soft, hard))
        await self.reports(client, log, number + 1)

    async def test_rotated_while_full(self) -> None:
        server, client, log = await self.begin_with(self.folder / "log")
        _, hard = resource.prlimit(server.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (99_999, hard))
        number = await self.fill(server, client, log)
        log.rename(log.with_suffix(".1"))
        os.kill(server.pid, signal.SIGHUP)
        await self.until(log.exists, "a new file")  # which has room
        await self.reports(client, log, number + 1)

    async def test_a_full_disk(self) -> None:
        """A small file system of its own, where this process may mount one."""
        disk = self.folder / "disk"
        disk.mkdir()
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.mount(b"tmpfs", str(disk).encode(), b"tmpfs", 0, b"size=256k") != 0:
            self.skipTest(f"no file system can be mounted here: {os.strerror(ctypes.get_errno())}")
        self.addCleanup(libc.umount2, str(disk).encode(), MS_DETACH)
        (disk / "ballast").write_bytes(b"x" * (128 << 10))
        server, client, log = await self.begin_with(disk)
        number = await self.fill(server, client, log)
        (disk / "ballast").unlink()
        await self.reports(client, log, number + 1)


class Stuck(Case):
    async def connected(self, port: int, process: subprocess.Popen[bytes]) -> Client:
        """Once the server listens: nobody reads what it says of that."""
        for _ in range(int(300 * SLOW)):
            self.assertIsNone(process.poll())
            try:
                return await self.client(port, "anna")
            except OSError:
                await asyncio.sleep(0.1)
        self.fail("the server does not listen")

    async def test_output_that_nobody_reads(self) -> None:
        """A pipe, full for ever: the server serves, and ends when it is told to."""
        port = free_port()
        self.write("scene.py", SCRIPT)
        self.write("g.yaml", f'actors:\n  gate@0: {{ role: gate, listen: "tcp://127.0.0.1:{port}" }}\n  scene@0: {{ role: scene, script: scene.py }}\n')
        unread, output = os.pipe()
        self.addCleanup(os.close, unread)
        with subprocess.Popen([str(BINARY), "g.yaml"], cwd=self.folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output) as process:
            os.close(output)
            try:
                client = await self.connected(port, process)
                for number in range(40):  # 2,000 lines, of 64 KiB that fit
                    await client.send(1, number)
                    await self.expect(client, str(number))
                process.send_signal(signal.SIGTERM)
                self.assertEqual(await asyncio.to_thread(process.wait, PATIENT), 0)
            finally:
                process.kill()

    async def test_up_whose_output_nobody_reads(self) -> None:
        """It still hears Ctrl-C, and so do its nodes."""
        port, center = free_port(), free_port()
        self.write("scene.py", SCRIPT)
        self.write(
            "g.yaml",
            f"""group: world
cluster: {{ lease: 60s }}
nodes:
  one: {{ address: "tcp://127.0.0.1:{center}" }}
  two: {{}}
actors:
  broker@0: {{ role: broker, node: one }}
  gate@0: {{ role: gate, node: one, listen: "tcp://127.0.0.1:{port}" }}
  scene@0: {{ role: scene, node: two, script: scene.py }}
""",
        )
        unread, output = os.pipe()
        self.addCleanup(os.close, unread)
        command = [str(BINARY), "up", "g.yaml"]
        with subprocess.Popen(command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output) as process:
            os.close(output)
            try:
                client = await self.connected(port, process)
                for number in range(400):  # 20,000 lines, of 64 KiB and `up`'s own room
                    await client.send(1, number)
                    await self.expect(client, str(number))
                process.send_signal(signal.SIGINT)
                self.assertEqual(await asyncio.to_thread(process.wait, PATIENT), 0)
            finally:
                process.terminate()  # its nodes end with it


TEXTS = """
import logging, redrabbit

@redrabbit.message(1)
def say(session, text):
    text = text[0]
    redrabbit.log.info(f"{text} is all of ours")
    logging.getLogger("game").info("%s is all of logging's", text)
    session.send(1, "ok")
"""


class Texts(Case):
    async def test_what_a_client_sends(self) -> None:
        """Neither hides what stands behind it nor forges a line; and `logging` leaves no complaint at the end."""
        port = free_port()
        self.write("scene.py", TEXTS)
        self.write("g.yaml", f'actors:\n  gate@0: {{ role: gate, listen: "tcp://127.0.0.1:{port}" }}\n  scene@0: {{ role: scene, script: scene.py }}\n')
        server = self.start("g.yaml")
        client = await self.client(port, "anna")
        await client.send(1, ["nul\0, \r\nFORGED and \x1b[31m red"])
        await self.expect(client, "ok")
        for whose in ("of ours", "of logging's"):
            server.wait_line(f"and \\?\\[31m red is all {whose}")
        server.stop()
        self.assertEqual(server.output.count("nul?, "), 2)
        self.assertNotRegex(server.output, "(?m)^FORGED|\0|\x1b")
        self.assertNotIn("Exception ignored", server.output)


if __name__ == "__main__":
    unittest.main()
